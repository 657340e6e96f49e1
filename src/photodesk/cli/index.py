"""`index`: encodes photos once, for many searches."""

from __future__ import annotations

from pathlib import Path

import click

from photodesk.cli.options import (
    PATH,
    cache_option,
    encoder_option,
    exclude_option,
    load_encoder,
    out_option,
    show_faults,
)
from photodesk.cli.progress import bars


@click.command()
@click.argument("photos")
@out_option("INDEX", "Folder of the index.", PATH)
@click.option(
    "--ray",
    default="",
    metavar="ADDRESS",
    help="Encode on a Ray cluster: its address, auto for the one here, local to start one.",
)
@click.option("--float16", is_flag=True, help="Store new embeddings as float16, in half the bytes.")
@click.option(
    "--revise", metavar="R", help="Revise the scores of every search, such as nnn(k=128, alpha=0.75); see `tune`."
)
@click.option(
    "--bank",
    type=PATH,
    metavar="FILE",
    help="Query bank of --revise: articles like those to come.",
)
@exclude_option
@encoder_option
@cache_option
@click.pass_context
def index(
    context: click.Context,
    /,
    photos: str,
    out: Path,
    ray: str,
    float16: bool,
    revise: str | None,
    bank: Path | None,
    exclude: tuple[str, ...],
    encoder: str,
    cache: Path | None,
) -> None:
    """Encode every picture of PHOTOS into an index for `search`.

    PHOTOS is a folder; or a text file with one path or URL a line, tars, Parquet files with the pictures' bytes, or a
    URL of any of these. Run it again when pictures were added or removed: only new contents are encoded. With --revise
    and --bank the index also stores the hubness offset of each photo, and `search` ranks one headline as `rank` with
    the same --revise and --bank does.

    \b
    photodesk index pictures/ -o archive.index
    photodesk index pictures/ -o archive.index --revise "nnn(k=128, alpha=0.75)" --bank desk.csv
    photodesk index "s3://bucket/part-*.tar" -o archive.index --ray auto --float16
    """
    from photodesk.data import datasets
    from photodesk.errors import UsageError
    from photodesk.features.store import Store
    from photodesk.ranking import revisions
    from photodesk.search import flat_index

    if bool(bank) != bool(revise):
        raise UsageError(
            "an index is revised with both: --revise, such as dual_softmax, and --bank, a file of articles like those "
            "to come"
        )
    revision = revisions.parse(revise) if revise else None
    others = datasets.read(bank).articles if bank else ()
    loaded = load_encoder(encoder)
    store = Store(cache, dtype="float16" if float16 else "float32")
    with bars() as progress:
        made, faults = flat_index.build_index(
            photos, out, loaded, store=store, ray=ray, exclude=exclude, progress=progress
        )
        if revision:
            numbers, nameless = flat_index.revise_index(made, others, revision, loaded, store=store, progress=progress)
            faults = (*faults, *nameless)
    click.echo(f"{len(made)} photos in {out}", err=True)
    if revision:
        click.echo(f"searches are revised by {revision} with a bank of {len(numbers.bank)} articles", err=True)
    context.exit(1 if show_faults(faults) else 0)
