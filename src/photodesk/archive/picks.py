"""Photos that a desk picked for its articles → training pairs: a data set, a folder that `photodesk train` reads, lines
of JSON."""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from photodesk.archive.archive import Archive
from photodesk.archive.usage import Pick
from photodesk.data.tables import neutral
from photodesk.errors import PhotoError, StoreError, UsageError
from photodesk.files import as_store_error
from photodesk.types import Article, Dataset, Fault, Pair, Photo

FIELDS = ("id", "title", "lead", "text", "tags", "url", "date", "language")
"""Columns that are an article's."""

COLUMNS = (*FIELDS, "photo", "file", "rank", "picked")
TABLE = "picks.csv"


def pairs(archive: Archive) -> list[Pick]:
    """The picks that say something: each photo of an article once, the latest time, oldest first."""
    latest = {(pick.article.id, pick.photo): pick for pick in archive.usage.picks()}
    return sorted(latest.values(), key=lambda pick: (pick.at, pick.article.id, pick.photo))


def lines(archive: Archive) -> Iterator[str]:
    """One JSON object a pick and line: the article's fields, `photo`, `rank` (from 1), `picked` (ISO 8601, UTC)."""
    for pick in pairs(archive):
        yield json.dumps(_told(pick), ensure_ascii=False) + "\n"


def rows(archive: Archive) -> tuple[list[dict[str, Any]], list[Fault]]:
    """Every pick whose picture is there as a row of `COLUMNS`, `file` the path of a file that holds it; plain values,
    fit for JSON.

    Returns:
        rows as `pairs` orders them; pictures whose file is gone or changed, for which the thumbnail stands in or which
        are left out.

    Raises:
        StoreError: there are no picks.
    """
    found = pairs(archive)
    if not found:
        raise StoreError(
            f"nobody has picked a photo of {archive.folder} yet; pick some with: photodesk serve {archive.folder}"
        )
    faults: list[Fault] = []
    files = {photo: _picture(archive, photo, faults) for photo in dict.fromkeys(pick.photo for pick in found)}
    made = [_told(pick) | {"file": str(file)} for pick in found if (file := files[pick.photo])]
    return made, faults


def dataset(archive: Path, rows: Sequence[Mapping[str, Any]], faults: Sequence[Fault] = ()) -> Dataset:
    """What `rows` gives as a data set, without a copy of any picture.

    Args:
        archive: its folder, to name the data by.
        rows: of `rows`.
        faults: likewise.

    Raises:
        StoreError: no picture of them is left.
    """
    if not rows:
        raise StoreError(
            f"no photo that was picked in {archive} is there any more; bring the pictures back, and pick again"
        )
    where = f"{archive}, picked "
    articles = {row["id"]: Article(**{name: row[name] for name in FIELDS}, where=where + row["picked"]) for row in rows}
    shown = {row["photo"]: Photo(row["photo"], Path(row["file"])) for row in rows}
    return Dataset(
        tuple(articles.values()),
        tuple(shown[photo] for photo in sorted(shown)),
        tuple(Pair(row["id"], row["photo"]) for row in rows),
        f"Picks of {archive}",
        "an archive of photodesk",
        {name: name for name in (*FIELDS, "photo")},
        tuple(faults),
    )


def export(archive: Archive, folder: Path) -> tuple[int, list[Fault]]:
    """Write the picks to a new folder as a data set: `picks.csv` and the pictures in `photos/`, linked where possible,
    else copied.

    Args:
        archive: open.
        folder: new or empty.

    Returns:
        how many pairs were written; faults as `rows` has them.

    Raises:
        UsageError: the folder is not empty.
        StoreError: there are no picks, or the folder cannot be written.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} is not empty; name a new folder for the picks")
    found, faults = rows(archive)
    with as_store_error(f"cannot write {folder}", "make room or name another place"):
        (folder / "photos").mkdir(parents=True)
        with (folder / TABLE).open("w", encoding="utf-8", newline="") as stream:
            table = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
            table.writeheader()
            for row in found:
                made = row | {"file": _bring(Path(row["file"]), folder / "photos", row["photo"])}
                table.writerow({name: neutral(cell) for name, cell in made.items()})
    return len(found), faults


def _told(pick: Pick) -> dict[str, Any]:
    about = {name: getattr(pick.article, name) for name in FIELDS}
    return about | {"photo": pick.photo, "rank": pick.rank, "picked": pick.at}


def _picture(archive: Archive, photo: str, faults: list[Fault]) -> Path | None:
    """A file with the picture of a photo; its thumbnail where no other is left."""
    try:
        path, original = archive.picture(photo, lambda found: (found.path, found.original))
    except PhotoError:
        advice = "bring the picture back, and pick it again"
        faults.append(Fault("photo-gone", photo, "neither its file nor a thumbnail is there", "left out", advice))
        return None
    if not original:
        faults.append(Fault("file-gone", photo, "its file is gone or changed; the thumbnail stands in", "kept"))
    return path


def _bring(file: Path, folder: Path, photo: str) -> str:
    """Put a picture into a folder, once; returns its name there."""
    target = folder / f"{photo}{file.suffix.lower()}"
    if not target.exists():
        try:
            os.link(file, target)
        except OSError:
            shutil.copyfile(file, target)
    return target.name
