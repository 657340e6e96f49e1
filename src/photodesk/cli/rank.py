"""`rank`: the photos of a data set for every one of its articles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from photodesk.cli.options import (
    cache_option,
    data_options,
    encoder_option,
    load_encoder,
    read_data,
    show_data,
    show_faults,
)


@click.command()
@data_options
@click.option(
    "--out",
    "-o",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="RUN",
    help="Run file: .tsv as NewsImages wants it, .trec with scores.",
)
@click.option(
    "--report", type=click.Path(path_type=Path, dir_okay=False), metavar="HTML", help="Also write a contact sheet."
)
@click.option("--top", default=100, show_default=True, type=click.IntRange(1), help="Photos an article.")
@click.option(
    "--preparation",
    "-p",
    metavar="P",
    default="fields=title",
    show_default=True,
    help="How texts are prepared; see `prepare`.",
)
@click.option("--revise", metavar="R", help="How cosines are revised, such as dual_softmax(temperature=1); see `tune`.")
@click.option(
    "--bank",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Other articles for --revise, instead of those of DATA.",
)
@encoder_option
@cache_option
@click.pass_context
def rank(
    context: click.Context,
    /,
    out: Path,
    report: Path | None,
    top: int,
    preparation: str,
    revise: str | None,
    bank: Path | None,
    encoder: str,
    cache: Path | None,
    **options: Any,
) -> None:
    """Rank the photos for every article and write a run file.

    DATA is a folder of any NewsImages edition: an article file and a folder of pictures; or give --articles and
    --photos. What was encoded is kept: the same command a second time encodes nothing, and one that was stopped goes
    on. --revise without --bank reads the other articles of DATA: run file, report and tables then call the run
    transductive.

    \b
    photodesk rank newsimages2025/ --out run.tsv --report report.html
    photodesk rank --articles desk.csv --photos pictures/ --out run.tsv --title-column Schlagzeile
    photodesk rank newsimages2021/ --out run.trec -p "fields=title+text, max_words=40"
    photodesk rank newsimages2025/ --out run.tsv --revise "dual_softmax(temperature=1)" --bank archive.csv
    """
    from photodesk.cli.progress import bars
    from photodesk.data import datasets
    from photodesk.errors import UsageError
    from photodesk.evaluation import run_files
    from photodesk.features.store import Store
    from photodesk.files import probe
    from photodesk.ranking import revisions
    from photodesk.search import rank as ranking
    from photodesk.text import preparation as texts

    if out.suffix not in run_files.SUFFIXES:
        raise UsageError(f"{out}: a run file ends in {' or '.join(run_files.SUFFIXES)}")
    for path in filter(None, (out, report)):
        probe(path)
    if bank and not revise:
        raise UsageError(
            "--bank says what --revise is to read; give it a revision as well, such as --revise dual_softmax"
        )
    revision = revisions.parse(revise) if revise else None
    others = datasets.read(bank).articles if bank else None
    dataset = read_data(options)
    show_data(dataset)
    needed = show_faults(dataset.faults)
    run_files.refuse(out, [article.id for article in dataset.articles] + [photo.id for photo in dataset.photos])
    loaded = load_encoder(encoder)
    about = {"Encoder": encoder, "Texts": preparation}
    if dataset.edition != datasets.OWN_TABLE and loaded.network and loaded.network.saw(dataset.edition):
        about["Caution"] = (
            f"{encoder} was trained on {dataset.edition}; figures on pairs that it saw say nothing about others"
        )
        click.echo(f"caution: {about['Caution']}", err=True)
    with bars() as progress:
        run, faults = ranking.rank(
            dataset,
            loaded,
            preparation=texts.parse(preparation),
            store=Store(cache),
            top=top,
            revision=revision,
            bank=others,
            progress=progress,
        )
    run_files.write(run, out)
    click.echo(f"{len(run)} articles ranked into {out}", err=True)
    if report:
        from photodesk.evaluation.contact_sheet import contact_sheet
        from photodesk.evaluation.evaluate import evaluate

        measured = evaluate(run, dataset.pairs) if dataset.pairs else None
        contact_sheet(run, dataset, report, title=f"{out.stem}: {dataset.edition}", report=measured, about=about)
        click.echo(f"contact sheet in {report}", err=True)
    context.exit(1 if show_faults(faults) or needed else 0)
