"""What lies below a folder: pictures to take, and everything else named, so that nothing is dropped in silence."""

from __future__ import annotations

import functools
import os
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from photodesk import formats
from photodesk.archive.archive import DATABASE
from photodesk.data.folder_walk import IGNORE_FILE, Left, Rules, by_default, excluded, originals
from photodesk.data.folder_walk import walk as below
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
        size: in bytes; mtime in nanoseconds.
        sidecar: name of the XMP file next to it, empty if there is none, with its own size (-1 if it cannot be looked
            at) and mtime.
    """

    path: Path
    root: Path
    size: int
    mtime: int
    sidecar: str = ""
    sidecar_size: int = 0
    sidecar_mtime: int = 0


@dataclass(slots=True)
class Beside:
    """What a walk met besides pictures.

    Args:
        left: what was left out, by folder, code, and suffix or pattern.
        originals: RAW → the picture next to it, which stands for both.
        mounts: folders at which other disks begin.
    """

    left: Left = field(default_factory=Counter)
    originals: dict[str, str] = field(default_factory=dict)
    mounts: list[str] = field(default_factory=list)


def walk(
    folder: Path,
    faults: list[Fault],
    *,
    root: Path | None = None,
    exclude: Sequence[str] = (),
    beside: Beside | None = None,
) -> Iterator[Seen]:
    """Picture files below a folder, sorted; whatever else is there is named by kind. What `data.folder_walk` leaves out
    is no picture.

    Args:
        folder: or a single file, which is taken whatever the rules say.
        faults: what is left out is added here.
        root: stands in the results instead of `folder`, where that is below a folder that was added before; rules begin
            there.
        exclude: patterns of what to leave out.
        beside: what else is there is added here.

    Raises:
        UsageError: there is neither folder nor file, or a pattern is none.
    """
    folder = Path(os.path.abspath(folder))  # noqa: PTH100  links stay as the user named them
    beside = Beside() if beside is None else beside
    found: Iterable[tuple[Path, str]]
    if folder.is_file():
        found = [(folder, _sidecar(folder.name, _xmps(_listed(folder.parent))))]
        folder = folder.parent
    elif folder.is_dir():
        found = list(_pictures(folder, Rules(root or folder, exclude, faults), faults, beside))
        counts: Counter[tuple[str, str]] = Counter()
        for (_, code, kind), count in beside.left.items():
            counts[code, kind] += count
        faults += said(folder, counts)
    else:
        raise UsageError(f"{folder} is no folder and no file")
    for path, xmp in found:
        try:
            str(path).encode()
            yield Seen(path, root or folder, *_state(path), xmp, *(_state_of_sidecar(path, xmp) if xmp else ()))
        except UnicodeError:
            name = os.fsencode(path).decode("utf-8", "backslashreplace")
            faults.append(Fault("file-name", name, "its name is not UTF-8", "left out", "rename it"))
        except OSError as error:
            what = f"cannot be read: {error.strerror}"
            faults.append(Fault("photo-unreadable", str(path), what, "left out", "check the file and its permissions"))


def _pictures(folder: Path, rules: Rules, faults: list[Fault], beside: Beside) -> Iterator[tuple[Path, str]]:
    """Picture files below a folder with the names of their sidecars; everything else is counted by kind."""
    for base, names in below(rules, folder, faults, beside.left):
        if os.path.ismount(base):
            beside.mounts.append(base)
        # to ask the disk for the sidecars of each picture would take three times as long
        there = _xmps(names)
        pairs = originals(names)
        for name in names:
            suffix = Path(name).suffix.lower()
            path = Path(base, name)
            if name in pairs:
                beside.originals[str(path)] = str(path.with_name(pairs[name]))
            elif suffix in SUFFIXES and not formats.lacking(suffix):
                yield path, _sidecar(name, there)
            elif suffix != ".xmp":
                code = "photo-format" if suffix in SUFFIXES else "file-foreign"
                beside.left[base, code, suffix or "(none)"] += 1


def said(folder: Path | str, left: Mapping[tuple[str, str], int]) -> list[Fault]:
    """Faults that say what was left out below a folder, by code and by suffix or pattern: (code, kind) → count."""
    faults = []
    for (code, kind), count in sorted(left.items()):
        if code == "file-excluded":
            faults.append(excluded(str(folder), kind, count))
        elif code == "photo-format":
            what = f"{count:,} files of kind {kind} are pictures, and what reads these is not installed"
            faults.append(Fault(code, str(folder), what, "left out", formats.install()))
        else:
            what = f"{count:,} files of kind {kind} are no pictures that photodesk reads"
            faults.append(Fault(code, str(folder), what, "left out"))
    return faults


LATEST = 2**63 - 1
"""Nanoseconds of the latest time that a database can hold, in the year 2262; a file of a later one has that."""


def _state(path: Path) -> tuple[int, int]:
    """Size and time of change."""
    about = path.stat()
    return about.st_size, max(-LATEST, min(LATEST, about.st_mtime_ns))


def _state_of_sidecar(picture: Path, name: str) -> tuple[int, int]:
    try:
        return _state(picture.with_name(name))
    except OSError:  # it must not cost its picture
        return -1, 0


def _listed(folder: Path) -> list[str]:
    try:
        return [entry.name for entry in os.scandir(folder) if not entry.is_dir()]
    except OSError:  # a folder that may be entered and not listed
        return []


def _xmps(names: Sequence[str]) -> dict[str, str]:
    """XMP files by their names in lower case; of those that differ in case only, the first one of the alphabet."""
    return {name.casefold(): name for name in sorted(names, reverse=True) if name.casefold().endswith(".xmp")}


def _sidecar(picture: str, beside: Mapping[str, str]) -> str:
    """The XMP file of a picture: `a.jpg.xmp`, else `a.xmp`, which may be that of a camera's RAW too."""
    name = picture.casefold()
    return next((beside[xmp] for xmp in (f"{name}.xmp", f"{name.rpartition('.')[0]}.xmp") if xmp in beside), "")


def gone(path: str | os.PathLike[str]) -> bool:
    """Whether nothing is there; what cannot be looked at is not gone."""
    try:
        Path(path).stat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False


def away(paths: Iterable[tuple[str, str]], mounts: Collection[str]) -> dict[str, str]:
    """Of files that are gone: those that may come back with their disk → the folder that it belongs to.

    That is a folder that was a mount point when it was last seen and is none now, an empty folder, which is what a
    disk leaves behind, or a root that is not there.

    Args:
        paths: of each file, with the root that it lies below.
        mounts: folders that were mount points.
    """

    @functools.cache
    def of(folder: str, root: str) -> str:
        nearest = False
        while True:
            if folder in mounts and not os.path.ismount(folder):
                return folder
            if not nearest and os.path.isdir(folder):  # noqa: PTH112  as in walk
                nearest = True
                if _empty(folder):
                    return folder
            if folder == root or folder == os.path.dirname(folder):  # noqa: PTH120
                return "" if nearest else root
            folder = os.path.dirname(folder)  # noqa: PTH120

    found = {path: of(os.path.dirname(path), root) for path, root in paths}  # noqa: PTH120
    return {path: folder for path, folder in found.items() if folder}


def _empty(folder: str) -> bool:
    """Whether a folder holds nothing but what systems leave in an empty one."""
    try:
        return all(by_default(name) for name in os.listdir(folder))
    except OSError:
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
    if path.suffix.lower() in {*SUFFIXES, ".xmp"} or path.name == IGNORE_FILE:
        return True
    return new if path.is_dir() else not path.suffix
