"""Photos that a desk picked for its articles → training pairs: a data folder that `photodesk train` reads, or lines of JSON."""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from photodesk import photos
from photodesk.archive import Archive
from photodesk.daybook import Pick
from photodesk.errors import PhotoError, StoreError, UsageError
from photodesk.files import digest
from photodesk.records import Fault

FIELDS = ("id", "title", "lead", "text", "tags", "url", "date", "language")
"""Columns that are an article's."""

COLUMNS = (*FIELDS, "photo", "file", "rank", "picked")
TABLE = "picks.csv"


def pairs(archive: Archive) -> list[Pick]:
    """The picks that say something: each photo of an article once, the latest time, oldest first."""
    latest = {(pick.article.id, pick.photo): pick for pick in archive.daybook.picks()}
    return sorted(latest.values(), key=lambda pick: (pick.at, pick.article.id, pick.photo))


def lines(archive: Archive) -> Iterator[str]:
    """One JSON object a pick and line: the article's fields, `photo`, `rank` (from 1), `picked` (ISO 8601, UTC)."""
    for pick in pairs(archive):
        yield json.dumps({name: getattr(pick.article, name) for name in FIELDS} | _choice(pick), ensure_ascii=False) + "\n"


def export(archive: Archive, folder: Path) -> tuple[int, list[Fault]]:
    """Write the picks to a new folder as a data set: `picks.csv` and the pictures in `photos/`, linked where possible, else copied.

    Args:
        archive: open.
        folder: new or empty.

    Returns:
        how many pairs were written; pictures whose file is gone or changed, for which the thumbnail stands in or which are left out.

    Raises:
        UsageError: the folder is not empty.
        StoreError: there are no picks, or the folder cannot be written.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} is not empty; name a new folder for the picks")
    found = pairs(archive)
    if not found:
        raise StoreError(f"nobody has picked a photo of {archive.folder} yet; pick some with: photodesk serve {archive.folder}")
    faults: list[Fault] = []
    files: dict[str, str] = {}
    try:
        (folder / "photos").mkdir(parents=True)
        for photo in dict.fromkeys(pick.photo for pick in found):
            files[photo] = _bring(archive, photo, folder / "photos", faults)
        kept = [pick for pick in found if files[pick.photo]]
        with (folder / TABLE).open("w", encoding="utf-8", newline="") as stream:
            table = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
            table.writeheader()
            for pick in kept:
                table.writerow({name: getattr(pick.article, name) for name in FIELDS} | _choice(pick) | {"file": files[pick.photo]})
    except OSError as error:
        raise StoreError(f"cannot write {folder}: {error.strerror}; make room or name another place") from None
    return len(kept), faults


def _choice(pick: Pick) -> dict[str, object]:
    return {"photo": pick.photo, "rank": pick.rank, "picked": pick.at}


def original(archive: Archive, photo: str) -> tuple[Path, bytes] | None:
    """A file of the archive that still holds that very photo, and its content; None if there is none any more."""
    for file in archive.ledger.files(photo):
        try:
            data = photos.content(Path(file.path))
        except PhotoError:
            continue
        if digest(data).hex() == photo:
            return Path(file.path), data
    return None


def _bring(archive: Archive, photo: str, folder: Path, faults: list[Fault]) -> str:
    """Put a picture into a folder; returns its name there, empty if there is no picture."""
    found = original(archive, photo)
    if found:
        target = folder / f"{photo}{found[0].suffix.lower()}"
        try:
            os.link(found[0], target)
        except OSError:
            target.write_bytes(found[1])
        return target.name
    small = archive.thumbnail(photo)
    if small.is_file():
        faults.append(Fault(photo, "its file is gone or changed; the thumbnail stands in", "kept"))
        return Path(shutil.copyfile(small, folder / f"{photo}.jpg")).name
    faults.append(Fault(photo, "neither its file nor a thumbnail is there", "left out", "bring the picture back, and pick it again"))
    return ""
