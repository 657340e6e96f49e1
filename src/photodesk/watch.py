"""Folders that are watched: which of their parts changed, as soon as nothing has happened in them for a moment."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from photodesk.errors import require
from photodesk.photos import SUFFIXES

if TYPE_CHECKING:
    import threading

QUIET = 1500
"""Milliseconds without a change after which changes are reported: a picture that is being copied is left alone."""


def changes(folders: Sequence[Path], *, poll: bool = False, stop: threading.Event | None = None) -> Iterator[list[Path]]:
    """Folders below `folders` in which pictures or sidecars came, went or changed; ends with Ctrl-C.

    Args:
        folders: absolute.
        poll: look again and again instead of asking the system, for network disks.
        stop: ends it as well.

    Raises:
        MissingExtra: watchfiles is not installed.
    """
    watchfiles = require("watchfiles", "archive")
    watched = watchfiles.watch(
        *folders, watch_filter=None, debounce=60_000, step=QUIET, stop_event=stop, force_polling=poll or None, raise_interrupt=False
    )
    for found in watched:
        touched = {Path(name) for _, name in found if Path(name).suffix.lower() in {*SUFFIXES, ".xmp", ""}}
        below = {_standing(path, folders) for path in touched}
        outermost = sorted(
            path for path in below if path and not any(path != other and path.is_relative_to(other) for other in below if other)
        )
        if outermost:
            yield outermost


def _standing(path: Path, folders: Sequence[Path]) -> Path | None:
    """The nearest folder above `path` that is still there, within the watched ones."""
    for folder in path.parents:
        if not any(folder.is_relative_to(root) for root in folders):
            return None
        if folder.is_dir():
            return folder
    return None
