"""`check` and `fetch`: check a data set and download its pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from photodesk.cli.options import PATH, data_options, show_faults, shown_data

if TYPE_CHECKING:
    from photodesk.types import Fault


def _table(faults: Sequence[Fault]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from photodesk.data.checks import kinds
    from photodesk.text_repair import shown

    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=160)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("count", justify="right")
    for name in ("fault", "first", "photodesk", "you"):
        table.add_column(name, overflow="fold")
    for kind in kinds(faults):
        what = Text(shown(kind.name))
        if kind.meaning:
            what.append(f"\n{kind.meaning}", style="dim")
        cells = (kind.first.where, kind.first.fate, kind.first.advice or "nothing")
        table.add_row(str(kind.count), what, *(Text(shown(cell)) for cell in cells))
    console.print(table)


@click.command()
@data_options
@click.option("--all", "every", is_flag=True, help="Print one line per fault before the table.")
@click.option("--out", type=PATH, metavar="FILE.csv", help="Write all faults to a CSV file.")
@click.option(
    "--no-decode", is_flag=True, help="Do not open the pictures: fast, but finds no broken or duplicate ones."
)
@click.pass_context
def check(context: click.Context, /, every: bool, out: Path | None, no_decode: bool, **options: Any) -> None:
    """List every fault of a data set by file and line, and what photodesk does about it.

    Prints a table: one row per kind of fault, what it means, what photodesk did about it and what is left for you to
    do. Exit code 1 if anything is left for you, else 0.

    \b
    photodesk check newsimages2025/
    photodesk check --articles desk.csv --photos pictures/ --title-column Schlagzeile
    """
    from photodesk.cli.progress import ticks
    from photodesk.data import checks

    dataset = shown_data(options)
    with ticks("pictures", len(dataset.photos)) as tick:
        faults = checks.check(dataset, decode=not no_decode, tick=tick)
    if out:
        checks.export(faults, out)
    if every:
        show_faults(faults, every=True, err=False)
    if faults:
        _table(faults)
    open_ = sum(1 for fault in faults if fault.advice)
    click.echo(f"{len(faults)} faults, {open_} need you" if faults else "no faults", err=True)
    context.exit(1 if open_ else 0)


@click.command()
@data_options
@click.option(
    "--to",
    type=PATH,
    metavar="DIR",
    help="Folder for the pictures; by default --photos, else newsimages in DATA.",
)
@click.option(
    "--rate", type=click.FloatRange(0.01, 20), default=2.0, show_default=True, help="Requests per second to one host."
)
@click.option(
    "--retries", type=click.IntRange(0, 10), default=3, show_default=True, help="Retries after no answer, 429 or 5xx."
)
@click.option("--contact", default="", metavar="ADDRESS", help="Your address, for the User-Agent.")
@click.option(
    "--allow-private-for-tests", is_flag=True, hidden=True, help="Ask servers in private networks; only for tests."
)
@click.pass_context
def fetch(
    context: click.Context,
    /,
    to: Path | None,
    rate: float,
    retries: int,
    contact: str,
    allow_private_for_tests: bool,
    **options: Any,
) -> None:
    """Download the pictures that a data set gives by URL and that are not there yet.

    For releases without pictures, such as 2021. Requests are rate-limited, go only to hosts in the files, and are
    logged in fetch.log in the photo folder; only complete pictures are saved. An interrupted command resumes.
    The pictures belong to their publishers: check whether you may use them.

    \b
    photodesk fetch newsimages2021/ --contact desk@example.org
    """
    from photodesk.cli.progress import ticks
    from photodesk.data.download import LOG
    from photodesk.data.download import fetch as get
    from photodesk.data.http_client import Manners

    base: Path = options["data"] or options["articles"] or Path()
    folder = to or options["photos"] or (base if base.is_dir() else base.parent) / "newsimages"
    options["photos"] = folder if folder.is_dir() else None
    dataset = shown_data(options)
    have = {photo.id for photo in dataset.photos}
    wanted = [item for item in dataset.listed if item.url and item.photo not in have]
    manners = Manners(rate=rate, retries=retries, contact=contact, allow_private=allow_private_for_tests)
    with ticks("pictures", len(wanted)) as tick:
        result = get(wanted, folder, manners=manners, tick=tick)
    show_faults(result.faults)
    click.echo(
        f"{result.saved} pictures saved in {folder}, {len(have) + result.there} were there, {len(result.faults)} "
        f"cannot be had; see {LOG}",
        err=True,
    )
    context.exit(1 if result.faults else 0)
