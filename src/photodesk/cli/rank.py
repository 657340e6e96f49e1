"""`rank`: the photos of a data set for every one of its articles."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from photodesk.cli.options import (
    FILE,
    PATH,
    cache_option,
    data_options,
    encoder_option,
    load_encoder,
    out_option,
    preparation_option,
    show_faults,
    shown_data,
)
from photodesk.cli.progress import bars

if TYPE_CHECKING:
    from photodesk.encoders.base import Encoder
    from photodesk.ranking.revisions import Revision
    from photodesk.types import Article, Dataset, Run


@click.command()
@data_options
@out_option("RUN", "Run file: .tsv in the format of NewsImages, .trec with scores.")
@click.option("--report", type=FILE, metavar="HTML", help="Also write a contact sheet.")
@click.option("--top", default=100, show_default=True, type=click.IntRange(1), help="Photos per article.")
@preparation_option
@click.option("--revise", metavar="R", help="How cosines are revised, such as dual_softmax(temperature=1); see `tune`.")
@click.option(
    "--bank",
    type=PATH,
    metavar="FILE",
    help="Query bank for --revise: other articles, instead of those of DATA.",
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
    --photos. Embeddings are stored: the same command a second time encodes nothing, and an interrupted one resumes.
    --revise without --bank uses all articles of DATA as the query bank: run file, report and tables then call the run
    transductive.

    \b
    photodesk rank newsimages2025/ --out run.tsv --report report.html
    photodesk rank --articles desk.csv --photos pictures/ --out run.tsv --title-column Schlagzeile
    photodesk rank newsimages2021/ --out run.trec -p "fields=title+text, max_words=40"
    photodesk rank newsimages2025/ --out run.tsv --revise "dual_softmax(temperature=1)" --bank archive.csv
    """
    from photodesk.errors import UsageError
    from photodesk.evaluation import run_files
    from photodesk.features.store import Store
    from photodesk.files import probe
    from photodesk.search import rank as ranking
    from photodesk.text import preparation as texts

    if out.suffix not in run_files.SUFFIXES:
        raise UsageError(f"{out}: a run file ends in {' or '.join(run_files.SUFFIXES)}")
    for path in filter(None, (out, report)):
        probe(path)
    revision, others = _revision(revise, bank)
    dataset = shown_data(options)
    needed = show_faults(dataset.faults)
    run_files.refuse(out, [article.id for article in dataset.articles] + [photo.id for photo in dataset.photos])
    loaded = load_encoder(encoder)
    about = {"Encoder": encoder, "Texts": preparation} | _caution(encoder, loaded, dataset)
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
        _report(run, dataset, report, out.stem, about)
    context.exit(1 if show_faults(faults) or needed else 0)


def _revision(text: str | None, bank: Path | None) -> tuple[Revision | None, Sequence[Article] | None]:
    from photodesk.data import datasets
    from photodesk.errors import UsageError
    from photodesk.ranking import revisions

    if bank and not text:
        raise UsageError(
            "--bank says what --revise is to read; give it a revision as well, such as --revise dual_softmax"
        )
    return revisions.parse(text) if text else None, datasets.read(bank).articles if bank else None


def _caution(name: str, encoder: Encoder, dataset: Dataset) -> dict[str, str]:
    """A warning if the encoder was trained on this data set."""
    from photodesk.data.datasets import OWN_TABLE

    if dataset.edition == OWN_TABLE or not encoder.network or not encoder.network.saw(dataset.edition):
        return {}
    said = f"{name} was trained on {dataset.edition}; figures on pairs that it saw say nothing about others"
    click.echo(f"caution: {said}", err=True)
    return {"Caution": said}


def _report(run: Run, dataset: Dataset, path: Path, name: str, about: dict[str, str]) -> None:
    from photodesk.evaluation.contact_sheet import contact_sheet
    from photodesk.evaluation.evaluate import evaluate

    measured = evaluate(run, dataset.pairs) if dataset.pairs else None
    contact_sheet(run, dataset, path, title=f"{name}: {dataset.edition}", report=measured, about=about)
    click.echo(f"contact sheet in {path}", err=True)
