"""What lies below a folder: pictures to take, and everything else named, so that nothing is dropped in silence."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from photodesk.archive import LEDGER
from photodesk.errors import UsageError
from photodesk.photos import SUFFIXES
from photodesk.records import Fault


@dataclass(frozen=True, slots=True)
class Seen:
    """A picture file as it lies on the disk.

    Args:
        path: absolute; links stay as the user named them.
        root: the folder that was asked for.
        size: in bytes.
        mtime: in nanoseconds; that of an XMP file beside it where that is later.
    """

    path: Path
    root: Path
    size: int
    mtime: int


def walk(folder: Path, faults: list[Fault], *, root: Path | None = None) -> Iterator[Seen]:
    """Picture files below a folder, sorted; whatever else is there is named by kind. Archives, with their thumbnails, are no pictures.

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
        found = []
        others: Counter[str] = Counter()

        def unreadable(error: OSError) -> None:
            faults.append(Fault(str(error.filename), f"folder cannot be read: {error.strerror}", "left out", "check its permissions"))

        for base, below, names in os.walk(folder, onerror=unreadable):
            if LEDGER in names:
                below.clear()
                faults.append(Fault(base, "holds an archive of photodesk, whose thumbnails are no pictures of yours", "left out"))
                continue
            below[:] = sorted(name for name in below if not name.startswith("."))
            links = [Path(base, name) for name in below if Path(base, name).is_symlink()]
            faults += [Fault(str(link), "is a link to a folder", "left out", "add that folder itself") for link in links]
            beside = {name for name in names if name.endswith(".xmp")}  # to ask the disk for each would take three times as long
            for name in sorted(names):
                suffix = Path(name).suffix.lower()
                if suffix in SUFFIXES and not name.startswith("."):
                    path = Path(base, name)
                    found.append((path, [xmp for xmp in _named(path) if xmp.name in beside]))
                elif suffix != ".xmp" and not name.startswith("."):
                    others[suffix or "(none)"] += 1
        for suffix, count in sorted(others.items()):
            faults.append(Fault(str(folder), f"{count} files of kind {suffix} are no pictures that photodesk reads", "left out"))
    else:
        raise UsageError(f"{folder} is no folder and no file")
    for path, xmps in found:
        try:
            str(path).encode()
            about = path.stat()
            yield Seen(path, root or folder, about.st_size, max(about.st_mtime_ns, *map(_changed, xmps), 0))
        except UnicodeError:
            name = os.fsencode(path).decode("utf-8", "backslashreplace")
            faults.append(Fault(name, "its name is not UTF-8", "left out", "rename it"))
        except OSError as error:
            faults.append(Fault(str(path), f"cannot be read: {error.strerror}", "left out", "check the file and its permissions"))


def sidecars(path: Path) -> list[Path]:
    """XMP files beside a picture, the one that is read first."""
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
