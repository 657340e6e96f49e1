"""`photodesk evaluate`: what a run is worth."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from photodesk.datasets import Dataset
    from photodesk.evaluate import Report
    from photodesk.typeset import Table


@click.command()
@click.argument("data", type=click.Path(path_type=Path))
@click.argument("run", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--truth", type=click.Path(path_type=Path), help="File with the right pairs, if DATA does not hold them.")
@click.option(
    "-m", "--measure", multiple=True, metavar="M", help="R@k or MRR@k; may be given more than once. Default: R@1 … R@100, MRR@100."
)
@click.option("--per-subset", is_flag=True, help="Also for every subset of the data set.")
@click.option("--official", is_flag=True, help="Divide by the pictures of the truth, not its articles, where the two differ.")
@click.option("--decimal-comma", is_flag=True, help="Print 0,25 for 0.25, and read such scores in TREC files.")
@click.option("--json", "form", flag_value="json", help="Print JSON with full digits: an object for one run, an array for several.")
@click.option("--markdown", "form", flag_value="markdown", help="Print a Markdown table.")
@click.option("--latex", "form", flag_value="latex", help="Print a LaTeX table (booktabs).")
@click.option(
    "--report", type=click.Path(path_type=Path), metavar="FILE.html", help="Write the worst and best articles with their pictures."
)
@click.option("--seed", default=0, show_default=True, help="For the bootstrap intervals.")
def evaluate(
    data: Path,
    run: tuple[Path, ...],
    truth: Path | None,
    measure: tuple[str, ...],
    per_subset: bool,
    official: bool,
    decimal_comma: bool,
    form: str | None,
    report: Path | None,
    seed: int,
) -> None:
    """Measure run files against the right pairs of DATA: R@1 … R@100 and MRR@100, with 95 % bootstrap intervals.

    Counts as the official evaluator of NewsImages does: an article that the run lacks counts 0, and only the photos up to
    the measure's k count. An article with several right photos succeeds by the best-placed of them.

    \b
    photodesk evaluate newsimages2021 run.tsv
    photodesk evaluate newsimages2025 run1.tsv run2.trec --markdown
    photodesk evaluate newsimages2025 run.tsv --report errors.html
    """
    from photodesk import datasets, measures
    from photodesk.errors import UsageError
    from photodesk.evaluate import evaluate as measure_run

    if report is not None and len(run) > 1:
        raise UsageError(f"--report shows one run, not {len(run)}; call photodesk evaluate once for each")
    chosen = measures.parse_all(measure) or measures.DEFAULT
    dataset = datasets.read(data)
    right = datasets.read(truth) if truth else dataset
    reports: list[Report] = []
    for path in run:
        found = measure_run(
            path,
            right.pairs,
            chosen,
            subsets={article.id: article.subset for article in (*dataset.articles, *right.articles)},
            scrambled="2021" in (dataset.edition + right.edition),
            official=official,
            decimal_comma=decimal_comma,
        )
        reports.append(found)
        for note in found.notes:
            click.echo(f"{path}: {note}", err=True)
    if form == "json":
        values = [found.as_json(seed=seed) for found in reports]
        click.echo(json.dumps(values[0] if len(values) == 1 else values, indent=2, ensure_ascii=False))
    else:
        for found in reports:
            _show(found.table(per_subset=per_subset, decimal_comma=decimal_comma, seed=seed), form)
    if report is not None:
        _gallery(run[0], dataset, reports[0], report, decimal_comma)


def _show(table: Table, form: str | None) -> None:
    stdout = click.get_text_stream("stdout")
    if form is None and stdout.isatty():
        from rich.console import Console

        Console(file=stdout).print(table.rich())
        return
    click.echo({"markdown": table.markdown, "latex": table.latex}.get(form or "", table.text)())


def _gallery(path: Path, dataset: Dataset, found: Report, target: Path, decimal_comma: bool) -> None:
    from photodesk import report, runs

    report.error_gallery(runs.read(path, decimal_comma=decimal_comma), dataset, found, target, n=20)
