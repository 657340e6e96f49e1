"""`store`: verifies, compacts and cleans up stored embeddings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from photodesk.cli.options import cache_option, show_faults
from photodesk.cli.progress import bars

if TYPE_CHECKING:
    from photodesk.features.maintenance import Kept


@click.command()
@click.argument("action", type=click.Choice(["verify", "compact", "gc"]))
@cache_option
@click.option("--float16", is_flag=True, help="compact: store embeddings as float16 from now on, in half the bytes.")
@click.option(
    "--days",
    type=click.IntRange(0),
    metavar="N",
    help="gc: also delete the rows of models that were not used for N days.",
)
@click.pass_context
def store(context: click.Context, /, action: str, cache: Path | None, float16: bool, days: int | None) -> None:
    """Verify, compact and clean up the embeddings that `rank`, `index` and `train` have stored.

    verify compares every byte with the checksums of the manifest, and lists what is stored. compact rewrites the rows
    without superseded and damaged ones. gc deletes what killed processes left behind, and with --days the rows of
    models that were not used for so long. What is lost is encoded again when it is needed.

    \b
    photodesk store verify
    photodesk store compact --float16
    photodesk store gc --days 90
    """

    from photodesk.errors import UsageError
    from photodesk.features import maintenance
    from photodesk.features.store import Store

    if (float16 and action != "compact") or (days is not None and action != "gc"):
        raise UsageError("--float16 belongs to compact, --days to gc")
    folder = Store(cache).folder
    faults = []
    if action == "verify":
        kept = [maintenance.verify(tower) for tower in maintenance.towers(folder)]
        _table(kept, folder)
        faults = [fault for one in kept for fault in one.faults]
    for tower in () if action == "verify" else maintenance.towers(folder):
        if action == "compact":
            with bars() as progress:
                rows, dropped = maintenance.compact(tower, dtype="float16" if float16 else "", progress=progress)
            click.echo(f"{tower.name}: {rows} rows kept, {dropped} records dropped", err=True)
        else:
            click.echo(f"{tower.name}: {maintenance.gc(tower, days=days) / 1e6:,.1f} MB freed", err=True)
    context.exit(1 if show_faults(faults) else 0)


def _table(kept: list[Kept], folder: Path) -> None:
    import time

    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for head in ("tower", "rows", "numbers", "type", "full shards", "MB", "last used", "state"):
        table.add_column(
            head, justify="left" if head in ("tower", "type", "last used", "state") else "right", overflow="fold"
        )
    for one in kept:
        state = f"{len(one.faults)} faults" if one.faults else "sound" if one.dtype else "empty"
        used = time.strftime("%Y-%m-%d", time.localtime(one.used))
        table.add_row(
            one.tower, f"{one.rows}", f"{one.dim}", one.dtype, f"{one.shards}", f"{one.bytes / 1e6:,.1f}", used, state
        )
    if not kept:
        click.echo(f"{folder} holds no rows yet", err=True)
        return
    console = Console()
    (console if console.is_terminal else Console(width=200)).print(table, highlight=False, markup=False)
