"""What lies below a folder: pictures to take, and everything else named, so that nothing is dropped in silence."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from photodesk.errors import UsageError
from photodesk.photos import SUFFIXES
from photodesk.records import Fault


@dataclass(frozen=True, slots=True)
class Seen:
    """A picture file as it lies on the disk.

    Args:
        path: absolute; links stay as the user named them.
        root: the folder that was asked for.
        size: in bytes; mtime in nanoseconds.
    """

    path: Path
    root: Path
    size: int
    mtime: int


def walk(folder: Path, faults: list[Fault], *, root: Path | None = None) -> Iterator[Seen]:
    """Picture files below a folder, sorted; whatever else is there is named by kind.

    Args:
        folder: or a single file.
        faults: what is left out is added here.
        root: stands in the results instead of `folder`, where that is below a folder that was added before.

    Raises:
        UsageError: there is neither folder nor file.
    """
    folder = Path(os.path.abspath(folder))  # noqa: PTH100  links stay as the user named them
    if folder.is_file():
        found = [folder]
        folder = folder.parent
    elif folder.is_dir():
        found = []
        others: Counter[str] = Counter()

        def unreadable(error: OSError) -> None:
            faults.append(Fault(str(error.filename), f"folder cannot be read: {error.strerror}", "left out", "check its permissions"))

        for base, below, names in os.walk(folder, onerror=unreadable):
            below[:] = sorted(name for name in below if not name.startswith("."))
            links = [Path(base, name) for name in below if Path(base, name).is_symlink()]
            faults += [Fault(str(link), "is a link to a folder", "left out", "add that folder itself") for link in links]
            for name in sorted(names):
                suffix = Path(name).suffix.lower()
                if suffix in SUFFIXES and not name.startswith("."):
                    found.append(Path(base, name))
                elif suffix != ".xmp" and not name.startswith("."):
                    others[suffix or "(none)"] += 1
        for suffix, count in sorted(others.items()):
            faults.append(Fault(str(folder), f"{count} files of kind {suffix} are no pictures that photodesk reads", "left out"))
    else:
        raise UsageError(f"{folder} is no folder and no file")
    for path in found:
        try:
            str(path).encode()
            about = path.stat()
            yield Seen(path, root or folder, about.st_size, about.st_mtime_ns)
        except UnicodeError:
            name = os.fsencode(path).decode("utf-8", "backslashreplace")
            faults.append(Fault(name, "its name is not UTF-8", "left out", "rename it"))
        except OSError as error:
            faults.append(Fault(str(path), f"cannot be read: {error.strerror}", "left out", "check the file and its permissions"))
