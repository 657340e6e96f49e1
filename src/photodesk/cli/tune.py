"""`tune`: which revision suits an encoder and a kind of data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from photodesk.cli.options import (
    FILE,
    cache_option,
    data_options,
    deciding_measure,
    encoder_option,
    form_options,
    load_encoder,
    preparation_option,
    print_tables,
    seed_option,
    show_faults,
    shown_data,
)
from photodesk.cli.progress import bars


@click.command()
@data_options
@click.option(
    "--revise",
    "-r",
    "texts",
    multiple=True,
    metavar="R",
    help="Try this one, such as nnn(alpha=0.5); may be given more than once.",
)
@click.option(
    "--validation",
    default=1000,
    show_default=True,
    type=click.IntRange(1),
    help="Pairs to evaluate on, at most half; the others are the query bank.",
)
@click.option(
    "--measure", "-m", default="MRR@100", show_default=True, help="Measure to choose by: R@1, R@10, R@100 or MRR@100."
)
@click.option(
    "--plot",
    default="tune.svg",
    show_default=True,
    type=FILE,
    help="File for a plot of the effect on hubness.",
)
@preparation_option
@seed_option("Random seed of the validation part and of the intervals.")
@form_options
@encoder_option
@cache_option
@click.pass_context
def tune(
    context: click.Context,
    /,
    texts: tuple[str, ...],
    validation: int,
    measure: str,
    plot: Path,
    preparation: str,
    seed: int,
    form: str | None,
    encoder: str,
    cache: Path | None,
    **options: Any,
) -> None:
    """Choose how cosines are revised, on a validation part of DATA, and print every method with 95 % intervals.

    Each is tried twice: with the other articles of the validation part (the batch: transductive) and with a query bank
    of all other articles. The split keeps articles that share a title, URL or near-duplicate picture together. The plot
    shows the effect of each on hubness.

    \b
    photodesk tune newsimages2025/ --plot tune.svg
    photodesk tune newsimages2025/ -r "dual_softmax(temperature=1)" -r "nnn(k=128, alpha=0.75)" --markdown
    """
    from photodesk.data.groups import groups
    from photodesk.evaluation import tune as tuning
    from photodesk.features.embed import embed_articles, embed_photos
    from photodesk.features.store import Store
    from photodesk.files import replacing
    from photodesk.ranking import revisions
    from photodesk.text import preparation as preparing

    deciding = deciding_measure(measure, tuning.MEASURES)
    grid = tuple(revisions.parse(each) for each in texts) or tuning.GRID
    model, prepared = load_encoder(encoder), preparing.parse(preparation)
    dataset = shown_data(options)
    part = tuning.validation_part(dataset.pairs, groups(dataset).articles, validation, seed=seed)
    store = Store(cache)
    with bars() as progress:
        articles, article_faults = embed_articles(
            dataset.articles, model, store, preparation=prepared, progress=progress
        )
        photos, photo_faults = embed_photos(dataset.photos, model, store, progress=progress)
        trials = tuning.tune(
            articles,
            photos,
            dataset.pairs,
            part,
            grid,
            name=model.name,
            progress=progress,
        )
    print_tables([tuning.table(trials, deciding, seed=seed)], form)
    with replacing(plot) as stream:
        stream.write(tuning.plot(trials, deciding))
    bank, batch = (tuning.chosen(trials, kind, deciding) for kind in ("bank", "batch"))
    click.echo(
        f"best with a bank: {bank.revision}; best as a transductive batch: {batch.revision}; plot in {plot}", err=True
    )
    context.exit(1 if show_faults([*dataset.faults, *article_faults, *photo_faults]) else 0)
