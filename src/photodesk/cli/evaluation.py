"""`evaluate`, `compare`, `submit` and `validate`: work on run files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from photodesk.cli.options import (
    PATH,
    data_options,
    form_options,
    print_json,
    print_tables,
    read_data,
    seed_option,
    show_faults,
    together,
)

if TYPE_CHECKING:
    from photodesk.evaluation.evaluate import Report
    from photodesk.types import Dataset, Fault


_result_options = together(
    data_options,
    click.argument("run", nargs=-1, type=PATH),
    click.option("--truth", type=PATH, metavar="FILE", help="File with the right pairs, if DATA has none."),
    click.option(
        "-m",
        "--measure",
        multiple=True,
        metavar="M",
        help="R@k or MRR@k, such as R@10; may be given more than once.",
    ),
    click.option(
        "--official",
        is_flag=True,
        help="Divide by the number of pictures of the truth instead of articles, if they differ.",
    ),
    click.option("--decimal-comma", is_flag=True, help="Print 0,25 for 0.25, and read such scores in TREC files."),
    click.option("--json", "form", flag_value="json", help="Print JSON with full digits."),
    form_options,
    seed_option("Random seed of intervals and tests."),
)


@click.command()
@_result_options
@click.option("--per-subset", is_flag=True, help="Also print every subset of the data.")
@click.option("--report", type=PATH, metavar="FILE.html", help="Write the worst and best articles with their pictures.")
def evaluate(
    per_subset: bool, report: Path | None, form: str | None, seed: int, decimal_comma: bool, **options: Any
) -> None:
    """Evaluate run files against the right pairs: R@1 … R@100 and MRR@100, with 95 % bootstrap intervals.

    Counts as the official evaluator of NewsImages does: an article that the run lacks counts 0, and only the photos up
    to the measure's k count. For an article with several right photos the best-ranked of them counts.
    --json prints an object for one run and an array for several.

    \b
    photodesk evaluate newsimages2025/ run.tsv
    photodesk evaluate newsimages2021/ run.tsv --subset content2019-04 --decimal-comma
    photodesk evaluate newsimages2025/ run1.tsv run2.trec -m R@10 -m MRR@100 --markdown
    """
    from photodesk.errors import UsageError

    dataset, runs, reports = _evaluated(options, decimal_comma)
    if report is not None and len(runs) > 1:
        raise UsageError(f"--report shows one run, not {len(runs)}; call photodesk evaluate once for each")
    if form == "json":
        values = [found.as_json(seed=seed) for found in reports]
        print_json(values[0] if len(values) == 1 else values)
    else:
        print_tables(
            [found.table(per_subset=per_subset, decimal_comma=decimal_comma, seed=seed) for found in reports], form
        )
    if report is not None:
        from photodesk.evaluation.contact_sheet import error_gallery
        from photodesk.evaluation.run_files import read, respelt

        run = respelt(read(runs[0], decimal_comma=decimal_comma), {article.id for article in dataset.articles})
        error_gallery(run, dataset, reports[0], report, n=20)


@click.command()
@_result_options
@click.option(
    "--samples", default=10_000, show_default=True, type=click.IntRange(min=1), help="Random permutations of a test."
)
def compare(samples: int, form: str | None, seed: int, decimal_comma: bool, **options: Any) -> None:
    """Test whether one run is significantly better than another: every pair of runs, by MRR@100 unless -m names others.

    For each pair: the difference of the means, the articles won, lost and tied, the p of a paired randomisation test,
    and that p after Holm's correction over all tests of the call. For each run: means with 95 % intervals, and hubness,
    the skewness of how often a photo is among the first ten; a large value means that few photos dominate the rankings.

    \b
    photodesk compare newsimages2025/ clip.tsv clip-revised.tsv
    photodesk compare newsimages2025/ a.tsv b.tsv c.trec -m R@5 -m MRR@100 --latex
    """
    from photodesk.evaluation import significance as compared
    from photodesk.evaluation.metrics import parse_all

    options["measure"] = options["measure"] or ("MRR@100",)
    measures = parse_all(options["measure"])
    dataset, runs, reports = _evaluated(options, decimal_comma)
    if len({found.name for found in reports}) < len(reports):
        reports = [replace(found, name=str(path)) for found, path in zip(reports, runs, strict=True)]
    gallery = [photo.id for photo in dataset.photos] or [pair.photo for pair in dataset.pairs]
    hubs = [compared.hubness(path, gallery, decimal_comma=decimal_comma) for path in runs]
    differences = compared.compare(reports, measures, samples=samples, seed=seed)
    if form == "json":
        summary = [
            found.as_json(seed=seed) | {f"hubness@{compared.HUB_DEPTH}": hub}
            for found, hub in zip(reports, hubs, strict=True)
        ]
        print_json({"runs": summary, "differences": compared.as_json(differences)})
        return
    tables = [
        compared.runs_table(reports, hubs, measures, decimal_comma=decimal_comma, seed=seed),
        compared.differences_table(differences, reports, decimal_comma=decimal_comma),
    ]
    print_tables(tables, form)


@click.command()
@data_options
@click.argument("run", type=PATH, required=False)
@click.option("-o", "--out", type=PATH, required=True, metavar="FILE.zip", help="The zip to write.")
@click.option("--group", required=True, help="Your group's registered name.")
@click.option("--approach", required=True, help="Name of this run, unique among yours.")
@click.option(
    "--edition", type=click.Choice(["2025", "2026"]), help="Edition whose rules apply; by default that of DATA."
)
@click.option(
    "--size", type=click.Choice(["LARGE", "SMALL"]), default="LARGE", show_default=True, help="Subtask of 2025."
)
@click.option(
    "--other-run",
    type=PATH,
    multiple=True,
    metavar="FILE",
    help="Zip or run of your group whose pictures must not be used again (2026).",
)
@click.option("--add", is_flag=True, help="Keep the approaches that FILE.zip holds already.")
@click.pass_context
def submit(
    context: click.Context,
    /,
    run: Path | None,
    out: Path,
    group: str,
    approach: str,
    edition: str | None,
    size: Any,
    other_run: tuple[Path, ...],
    add: bool,
    **options: Any,
) -> None:
    """Make the zip that NewsImages 2025 and 2026 require: one PNG of 460 × 260 per article, from the run's best photos.

    Exit code 1 if an article is left without a picture, else 0. Check the result with photodesk validate.

    \b
    photodesk submit newsimages2025/ run.tsv -o Desk.zip --group Desk --approach CLIP
    photodesk submit subset.csv --photos newsimages/ run.tsv -o Desk.zip --group Desk --approach CLIP --size SMALL --add
    photodesk submit newsimages2026/ b.tsv -o DeskB.zip --group Desk --approach B --other-run DeskA.zip
    """
    from photodesk.cli.progress import ticks
    from photodesk.evaluation import submissions
    from photodesk.evaluation.run_files import read

    dataset, files = _data_and_files(options, [run] if run else [])
    others = [path if path.suffix == ".zip" else read(path) for path in other_run]
    articles = [article.id for article in dataset.articles]
    with ticks("pictures", len(articles)) as tick:
        faults = submissions.write(
            read(files[0]),
            articles,
            dataset.photos,
            out,
            group=group,
            approach=approach,
            edition=_edition(edition, dataset),
            size=size,
            others=others,
            add=add,
            tick=tick,
        )
    context.exit(1 if show_faults(faults) else 0)


@click.command()
@data_options
@click.argument("file", nargs=-1, type=PATH)
@click.option(
    "--edition", type=click.Choice(["2025", "2026"]), help="Edition whose rules a zip follows; by default that of DATA."
)
@click.option("--depth", default=100, show_default=True, help="Photos that every article of a run file must have.")
@click.option("--all", "every", is_flag=True, help="Print one line per fault, not per kind of fault.")
@click.pass_context
def validate(context: click.Context, /, edition: str | None, depth: int, every: bool, **options: Any) -> None:
    """List everything in run files and submission zips that the organisers would not accept.

    Several zips are treated as one group's, for the rule of 2026: no picture twice across a group's runs. Exit code 1
    if there is a fault, else 0.

    \b
    photodesk validate newsimages2025/ run.tsv
    photodesk validate newsimages2026/ DeskA.zip DeskB.zip
    """
    from photodesk.cli.progress import ticks
    from photodesk.evaluation import run_files, submissions

    dataset, files = _data_and_files(options, list(options.pop("file")))
    articles = [article.id for article in dataset.articles]
    faults: list[Fault] = []
    for path in files:
        if path.suffix != ".zip":
            photos = {photo.id for photo in dataset.photos} | {item.photo for item in dataset.listed}
            faults += run_files.check(run_files.read(path), articles, photos, depth=depth, where=str(path))
    if zips := [path for path in files if path.suffix == ".zip"]:
        with ticks("pictures", len(zips) * len(articles)) as tick:
            faults += submissions.check(zips, articles, edition=_edition(edition, dataset), tick=tick)
    show_faults(faults, every=every, err=False)
    count = "no fault" if not faults else "1 fault" if len(faults) == 1 else f"{len(faults):,} faults"
    click.echo(f"{', '.join(path.name for path in files)}: {count}", err=True)
    context.exit(1 if faults else 0)


def _data_and_files(options: dict[str, Any], files: list[Path]) -> tuple[Dataset, list[Path]]:
    """The data set, and the files named after it; with --articles the first word is a file already."""
    from photodesk.errors import UsageError

    if options["articles"] is not None and options["data"] is not None:
        files.insert(0, options["data"])
        options["data"] = None
    if not files:
        raise UsageError("name at least one file after the data, such as run.tsv")
    dataset = read_data(options)
    click.echo(f"{dataset.edition} ({dataset.evidence})", err=True)
    return dataset, files


def _evaluated(options: dict[str, Any], decimal_comma: bool) -> tuple[Dataset, list[Path], list[Report]]:
    from photodesk.data import datasets
    from photodesk.evaluation import metrics
    from photodesk.evaluation.evaluate import evaluate as measured

    truth, texts, official = options.pop("truth"), options.pop("measure"), options.pop("official")
    chosen = metrics.parse_all(texts) or metrics.DEFAULT
    dataset, runs = _data_and_files(options, list(options.pop("run")))
    right = datasets.read(truth) if truth else dataset
    parts = {article.id: article.subset for article in (*dataset.articles, *right.articles)}
    scrambled = "2021" in dataset.edition + right.edition
    gallery = {one.id for one in dataset.photos} and {
        *(one.id for one in dataset.photos),
        *(item.photo for item in (*dataset.listed, *right.listed)),
    }
    reports = []
    for path in runs:
        report = measured(
            path,
            right.pairs,
            chosen,
            subsets=parts,
            scrambled=scrambled,
            official=official,
            decimal_comma=decimal_comma,
            photos=gallery,
        )
        reports.append(report)
        for note in report.notes:
            click.echo(f"{path}: {note}", err=True)
        covered = [name for name, part in report.subsets.items() if len(part.missing) < len(part.articles)]
        if report.missing and len(covered) == 1 < len(report.subsets):
            click.echo(
                f"{path}: all its articles are of subset {covered[0]}; to measure only that, add --subset {covered[0]}",
                err=True,
            )
    return replace(dataset, pairs=right.pairs), runs, reports


def _edition(named: str | None, dataset: Dataset) -> Any:
    from photodesk.errors import UsageError

    edition = named or next((year for year in ("2025", "2026") if year in dataset.edition), None)
    if edition is None:
        raise UsageError(
            f"submission zips exist for NewsImages 2025 and 2026, and this data is {dataset.edition}; choose with "
            "--edition"
        )
    return edition
