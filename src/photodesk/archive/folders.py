"""What lies below a folder: pictures to take, and everything else named, so that nothing is dropped in silence."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from photodesk.archive.archive import DATABASE
from photodesk.errors import UsageError, require
from photodesk.images import SUFFIXES
from photodesk.types import Fault

if TYPE_CHECKING:
    import threading


@dataclass(frozen=True, slots=True)
class Seen:
    """A picture file as it lies on the disk.

    Args:
        path: absolute; links stay as the user named them.
        root: the folder that was asked for.
        size: in bytes.
        mtime: in nanoseconds; that of its XMP sidecar where that is later.
    """

    path: Path
    root: Path
    size: int
    mtime: int


def walk(folder: Path, faults: list[Fault], *, root: Path | None = None) -> Iterator[Seen]:
    """Picture files below a folder, sorted; whatever else is there is named by kind. Archives, with their thumbnails,
    are no pictures.

    Args:
        folder: or a single file.
        faults: what is left out is added here.
        root: stands in the results instead of `folder`, where that is below a folder that was added before.

    Raises:
        UsageError: there is neither folder nor file.
    """
    folder = Path(os.path.abspath(folder))  # noqa: PTH100  links stay as the user named them
    if folder.is_file():
        found = [(folder, sidecars(folder))]
        folder = folder.parent
    elif folder.is_dir():
        found = _pictures(folder, faults)
    else:
        raise UsageError(f"{folder} is no folder and no file")
    for path, xmps in found:
        try:
            str(path).encode()
            about = path.stat()
            yield Seen(path, root or folder, about.st_size, max(about.st_mtime_ns, *map(_changed, xmps), 0))
        except UnicodeError:
            name = os.fsencode(path).decode("utf-8", "backslashreplace")
            faults.append(Fault("file-name", name, "its name is not UTF-8", "left out", "rename it"))
        except OSError as error:
            what = f"cannot be read: {error.strerror}"
            faults.append(Fault("photo-unreadable", str(path), what, "left out", "check the file and its permissions"))


def _pictures(folder: Path, faults: list[Fault]) -> list[tuple[Path, list[Path]]]:
    """Picture files below a folder with their sidecars, folder by folder; everything else is a fault."""
    found = []
    others: Counter[str] = Counter()

    def unreadable(error: OSError) -> None:
        what = f"folder cannot be read: {error.strerror}"
        faults.append(Fault("folder-unreadable", str(error.filename), what, "left out", "check its permissions"))

    for base, below, names in os.walk(folder, onerror=unreadable):
        if DATABASE in names:
            below.clear()
            what = "holds an archive of photodesk, whose thumbnails are no pictures of yours"
            faults.append(Fault("folder-archive", base, what, "left out"))
            continue
        below[:] = sorted(name for name in below if not name.startswith("."))
        links = [Path(base, name) for name in below if Path(base, name).is_symlink()]
        faults += [
            Fault("folder-link", str(link), "is a link to a folder", "left out", "add that folder itself")
            for link in links
        ]
        # to ask the disk for the sidecars of each picture would take three times as long
        there = {name for name in names if name.endswith(".xmp")}
        for name in sorted(names):
            suffix = Path(name).suffix.lower()
            if suffix in SUFFIXES and not name.startswith("."):
                path = Path(base, name)
                found.append((path, [xmp for xmp in _named(path) if xmp.name in there]))
            elif suffix != ".xmp" and not name.startswith("."):
                others[suffix or "(none)"] += 1
    for suffix, count in sorted(others.items()):
        what = f"{count} files of kind {suffix} are no pictures that photodesk reads"
        faults.append(Fault("file-foreign", str(folder), what, "left out"))
    return found


def sidecars(path: Path) -> list[Path]:
    """XMP files of a picture that are there, in the order in which they are looked for."""
    return [xmp for xmp in _named(path) if xmp.is_file()]


def _changed(sidecar: Path) -> int:
    """When, in nanoseconds; 0 where that cannot be told: a sidecar must not cost its picture."""
    try:
        return sidecar.stat().st_mtime_ns
    except OSError:
        return 0


def _named(path: Path) -> tuple[Path, Path]:
    return path.with_suffix(".xmp"), path.with_name(path.name + ".xmp")


def gone(path: str | os.PathLike[str]) -> bool:
    """Whether nothing is there; what cannot be looked at is not gone."""
    try:
        Path(path).stat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False


QUIET = 1500
"""Milliseconds without a change after which changes are reported: a picture that is being copied is left alone."""


def changes(
    folders: Sequence[Path], *, poll: bool = False, stop: threading.Event | None = None
) -> Iterator[list[Path]]:
    """First all folders, as soon as the watch stands; then those below in which pictures or sidecars came, went or
    changed. Ends with Ctrl-C.

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
            path
            for path in below
            if path and not any(path != other and path.is_relative_to(other) for other in below if other)
        )
        if outermost:
            yield outermost


def _standing(path: Path, folders: Sequence[Path]) -> Path | None:
    """The nearest folder of `path` that is still there, within the watched ones; None in an archive, which writes
    thumbnails itself."""
    above = [folder for folder in (path, *path.parents) if any(folder.is_relative_to(root) for root in folders)]
    if any((folder / DATABASE).exists() for folder in above):
        return None
    return next((folder for folder in above if folder.is_dir()), None)


def _matters(path: Path, new: bool) -> bool:
    """Pictures, sidecars, folders that came, and what may have been a folder; not a folder in which something else
    changed."""
    if path.suffix.lower() in {*SUFFIXES, ".xmp"}:
        return True
    return new if path.is_dir() else not path.suffix
