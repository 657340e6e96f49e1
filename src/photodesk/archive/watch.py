"""Folders that are watched: which of their parts changed, as soon as nothing has happened in them for a moment."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from photodesk.archive.archive import LEDGER
from photodesk.errors import require
from photodesk.images import SUFFIXES

if TYPE_CHECKING:
    import threading

QUIET = 1500
"""Milliseconds without a change after which changes are reported: a picture that is being copied is left alone."""


def changes(folders: Sequence[Path], *, poll: bool = False, stop: threading.Event | None = None) -> Iterator[list[Path]]:
    """First all folders, as soon as the watch stands; then those below in which pictures or sidecars came, went or changed. Ends with Ctrl-C.

    What happens while the caller deals with an answer comes with the next one.

    Args:
        folders: absolute.
        poll: look again and again instead of asking the system, for network disks.
        stop: ends it as well.

    Raises:
        MissingExtra: watchfiles is not installed.
    """
    watchfiles = require("watchfiles", "archive")
    watched = watchfiles.watch(
        *folders,
        watch_filter=None,
        debounce=60_000,
        step=QUIET,
        rust_timeout=1000,
        yield_on_timeout=True,
        stop_event=stop,
        force_polling=poll or None,
        raise_interrupt=False,
    )
    for number, found in enumerate(watched):
        if number == 0:
            yield list(folders)
            continue
        touched = {Path(name) for change, name in found if _matters(Path(name), change == watchfiles.Change.added)}
        below = {_standing(path, folders) for path in touched}
        outermost = sorted(
            path for path in below if path and not any(path != other and path.is_relative_to(other) for other in below if other)
        )
        if outermost:
            yield outermost


def _standing(path: Path, folders: Sequence[Path]) -> Path | None:
    """The nearest folder of `path` that is still there, within the watched ones; None in an archive, which writes thumbnails itself."""
    above = [folder for folder in (path, *path.parents) if any(folder.is_relative_to(root) for root in folders)]
    if any((folder / LEDGER).exists() for folder in above):
        return None
    return next((folder for folder in above if folder.is_dir()), None)


def _matters(path: Path, new: bool) -> bool:
    """Pictures, sidecars, folders that came, and what may have been a folder; not a folder in which something else changed."""
    if path.suffix.lower() in {*SUFFIXES, ".xmp"}:
        return True
    return new if path.is_dir() else not path.suffix
