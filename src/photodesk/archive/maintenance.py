"""Is an archive whole, what is in it, a copy of it: everything that looks at all of it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from photodesk import images
from photodesk.archive.archive import CONFIDENCE, DATABASE, THUMBNAIL, UNFINISHED, Archive, Picture
from photodesk.archive.database import Database, Job, Sums, content_sum
from photodesk.archive.folders import gone
from photodesk.archive.ingest import thumbnail
from photodesk.engines.schema import Point
from photodesk.errors import PhotoError, StoreError
from photodesk.files import as_store_error, digest, sync_folder
from photodesk.types import Fate, Fault, Progress, silent


def verify(
    archive: Archive, *, content: bool = False, repair: bool = False, progress: Progress = silent
) -> list[Fault]:
    """Everything that is wrong with an archive; an empty list if it is whole.

    Args:
        archive: open.
        content: also read every file and compare its digest; the next `update` reads those that differ.
        repair: make missing or damaged thumbnails again, and what the engine derives from rows and entries; delete
            points that no file stands behind; forget photos that the engine has lost or of which it holds something
            else than was written, so that `add` encodes them again; note sums of what an older photodesk wrote. What
            was put right is listed as repaired.
        progress: called with ("points" or "files", done, of).
    """
    files: dict[str, list[str]] = {}
    for file in archive.database.files():
        files.setdefault(file.photo, []).append(file.path)
    faults = _structure(archive, repair)
    sound, more = _points(archive, files, repair, progress)
    return [*faults, *more, *_files(archive, {p: files[p] for p in sorted(sound)}, content, repair, progress)]


def _repair_command(archive: Archive) -> str:
    return f"run: photodesk archive verify {archive.folder} --repair"


def _add_command(archive: Archive) -> str:
    return f"run: photodesk archive add {archive.folder} FOLDER"


def _structure(archive: Archive, repair: bool) -> list[Fault]:
    """What is wrong with the files of database and engine."""
    advice = "restore the archive from a backup: see docs/archive.md"
    faults = [Fault("archive-damaged", DATABASE, what, "kept", advice) for what in archive.database.damage()]
    code, engine = "archive-engine-damaged", archive.settings.engine
    if archive.set_aside:
        what = f"the engine's files were damaged; they are in {archive.set_aside} now"
        faults.append(Fault(code, engine, what, "repaired", _add_command(archive)))
        archive.set_aside = ""  # reported once
    for where, what, repaired in archive.engine.damage(repair=repair):
        state: tuple[Fate, str] = ("repaired", "") if repaired else ("kept", _repair_command(archive))
        faults.append(Fault(code, where, what, *state))
    return faults


def _points(
    archive: Archive, files: Mapping[str, Sequence[str]], repair: bool, progress: Progress
) -> tuple[set[str], list[Fault]]:
    """The photos that engine, database and files agree on, and what is wrong with the others."""
    known = set(archive.database.photos())
    strays, there, damaged = list[str](), set[str](), dict[str, str]()
    of = archive.engine.count()
    for batch in archive.engine.scan(rows=True, batch=1000):
        there |= {point.photo for point in batch}
        damaged |= _damaged(archive, batch, repair)
        strays += [point.photo for point in batch if point.photo not in known]
        progress("points", len(there), of)
    unmended = [photo for photo in damaged if photo in known and not any(map(_there, files.get(photo, ())))]
    mended = [photo for photo in damaged if photo in known and photo not in unmended]
    lost = sorted(known - there)
    empty = sorted(known & there - files.keys())
    if repair:
        archive.engine.delete(strays)
        archive.database.forget(lost)
        archive.drop(empty)
        archive.engine.delete(mended)
        archive.database.forget(mended)
    fate: Fate = "repaired" if repair else "kept"
    advice = "" if repair else _repair_command(archive)
    again = _add_command(archive) if repair else advice
    back = "bring a file of it back, or remove it"
    faults = [
        *(Fault("archive-point-unknown", p, "the database does not know this point", fate, advice) for p in strays),
        *(Fault("archive-photo-fileless", p, "no file stands behind this photo", fate, advice) for p in empty),
        *(Fault("archive-row-damaged", p, damaged[p], fate, again) for p in mended),
        *(Fault("archive-row-damaged", p, damaged[p], "kept", back) for p in unmended),
        *(Fault("archive-point-lost", p, "the engine has lost this photo", fate, again) for p in lost),
    ]
    if archive.engine.count() != (of - len({*strays, *empty, *mended}) if repair else of):
        what, advice = "it counts other points than it lists", "restore the archive from a backup"
        faults.append(Fault("archive-count", archive.settings.engine, what, "kept", advice))
    return (known & there & files.keys()).difference(mended), faults


def _damaged(archive: Archive, points: Sequence[Point], repair: bool) -> dict[str, str]:
    """Photo → what is wrong with what the engine holds of it. Photos without sums, of an older photodesk, get some if
    `repair` is set."""
    noted, found, fresh = archive.database.sums([point.photo for point in points]), {}, dict[str, Sums]()
    for point in points:
        with np.errstate(all="ignore"):  # damaged numbers may be too large to be squared
            length = float(np.linalg.norm(point.row)) if len(point.row) == archive.settings.dim else 0.0
        sums, now = noted.get(point.photo, Sums()), Sums.of(point)
        if not abs(length - 1) < 1e-3 or not np.isfinite(point.offset):
            found[point.photo] = f"its row is damaged (length {length:.3g})"
        elif sums.row not in (None, now.row):
            found[point.photo] = "its row is not the one that was written"
        elif sums.entry not in (None, now.entry):
            found[point.photo] = "what is known of it is not what was written"
        elif sums.offset not in (None, now.offset):
            found[point.photo] = "its hubness offset is not the one that was written"
        elif None in (sums.row, sums.entry, sums.offset):
            fresh[point.photo] = now
    if repair and fresh:
        archive.database.note(fresh)
    return found


def _there(path: str) -> bool:
    return not gone(path)


def _files(
    archive: Archive, files: dict[str, list[str]], content: bool, repair: bool, progress: Progress
) -> Iterator[Fault]:
    """Faults of files and thumbnails."""
    sums: dict[str, Sums] = {}
    photos = list(files)
    for done, (photo, paths) in enumerate(files.items(), 1):
        if done % 1000 == 1:
            sums = archive.database.sums(photos[done - 1 : done + 999])
        there = [path for path in paths if not gone(path)]
        if not there:
            advice = f"if it is not coming back: photodesk archive remove {archive.folder} --missing"
            yield Fault("file-gone", paths[0], "the file is gone; its photo stays in the archive", "kept", advice)
        for path in there if content else []:
            try:
                if digest(images.content(Path(path))).hex() != photo:
                    archive.database.stale([path])
                    advice = f"run: photodesk archive update {archive.folder}"
                    yield Fault("file-changed", path, "its content changed", "kept", advice)
            except PhotoError as error:
                yield error.fault("kept")
        small = archive.thumbnail(photo)
        if wrong := _thumbnail(small, sums.get(photo, Sums()).thumbnail, content):
            advice = f"run: photodesk archive verify {archive.folder} --repair"
            yield (
                _redraw(archive, photo, wrong)
                if repair
                else Fault("thumbnail-missing", str(small), f"the thumbnail is {wrong}", "kept", advice)
            )
        if done % 1000 == 0 or done == len(files):
            progress("files", done, len(files))


def _redraw(archive: Archive, photo: str, wrong: str) -> Fault:
    """Make the thumbnail of a photo again; what came of it."""

    def drawn(found: Picture) -> bytes:
        if not found.original:
            raise PhotoError("thumbnail-missing", str(found.path), "is what is to be made")
        return thumbnail(images.decode(found.content, size=THUMBNAIL, where=str(found.path)))

    try:
        archive.keep_thumbnail(photo, archive.picture(photo, drawn))
    except PhotoError as error:
        what = f"the thumbnail is {wrong}, and the file {error.what}"
        return Fault("thumbnail-missing", archive.path(photo), what, "kept", "get the picture again")
    return Fault("thumbnail-missing", str(archive.thumbnail(photo)), f"the thumbnail was {wrong}", "repaired")


def _thumbnail(path: Path, wanted: bytes | None, content: bool) -> str:
    """What is wrong with a thumbnail, if it is not there or not what was written; of those without a sum, if it does
    not decode, where its content is to be looked at."""
    try:
        found = images.content(path)
        if content and wanted is None:
            images.load(path)
    except PhotoError:
        return "damaged" if path.is_file() else "missing"
    return "damaged" if not found or wanted not in (None, content_sum(found)) else ""


@dataclass(frozen=True, slots=True)
class Stats:
    """What is in an archive.

    Args:
        photos: how many; files: that hold them; groups: of near-duplicates, counted as one each.
        faults: files that could not be taken; left_out: what else the folders hold, by suffix or pattern.
        uses, picks, bank: rows of the usage log.
        revised: whether every photo has the offset by the present bank.
        taken: first and last day of the photos, empty if none has a date.
        facets: the most frequent values, by field.
        bytes: on disk, by part; the engine's is 0 for a server.
        jobs: the latest commands.
    """

    engine: str
    encoder: str
    photos: int
    files: int
    groups: int
    faults: int
    left_out: dict[str, int]
    uses: int
    picks: int
    bank: int
    revised: bool
    taken: tuple[str, str]
    facets: dict[str, dict[str, int]]
    bytes: dict[str, int]
    jobs: list[Job]


def stats(archive: Archive) -> Stats:
    """Counts, from the engine's own indexes and the database."""
    count = archive.database.count
    years = sorted(archive.engine.facets("year", 1000))
    parts = {"database": archive.folder / DATABASE, "thumbnails": archive.folder / "thumbnails"}
    kind, _, place = archive.settings.engine.partition(":")
    if kind != "qdrant":
        parts["engine"] = archive.folder / place
    return Stats(
        engine=archive.settings.engine,
        encoder=archive.settings.encoder,
        photos=archive.engine.count(),
        files=count("files"),
        groups=len(set(archive.database.hashes()[1])),
        faults=count("faults"),
        left_out={kind: count for (_, kind), count in archive.database.left_out().items()},
        uses=count("uses"),
        picks=count("picks"),
        bank=count("bank"),
        revised=archive.revised(),
        taken=(years[0], years[-1]) if years else ("", ""),
        facets={
            field: archive.engine.facets(field, 5) for field in ("credit", "terms", "keywords", "orientation", "place")
        },
        bytes={name: _size(path) for name, path in parts.items()},
        jobs=archive.database.jobs(5),
    )


def _size(path: Path) -> int:
    below = path.rglob("*") if path.is_dir() else [path]
    return sum(file.lstat().st_blocks * 512 for file in below if file.is_file())


def backup(archive: Archive, target: Path, *, thumbnails: bool = True) -> None:
    """Write a copy of the archive to a new folder, which opens as an archive itself; it gets its name when it is whole.

    Of an archive on a server the copy holds the server's snapshot file, and its settings still name the server.

    Raises:
        StoreError: the folder exists, or cannot be written.
    """
    if target.exists():
        raise StoreError(f"{target} exists; name a new folder for the backup")
    partial = target.absolute().with_name(f".{target.name}.partial")
    archive.database.set({UNFINISHED: str(partial)})
    try:
        with _writing(target):
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
        archive.database.copy(partial / DATABASE)
        kind, _, place = archive.settings.engine.partition(":")
        archive.engine.snapshot(
            partial / ("snapshot" if kind == "qdrant" else "shard" if Path(place).is_absolute() else place)
        )
        with _writing(target):
            near = {"engine": f"{kind}:shard"} if kind != "qdrant" and Path(place).is_absolute() else {}
            with closing(Database.open(partial / DATABASE)) as copy:
                copy.set({UNFINISHED: ""} | near)
            if (archive.folder / CONFIDENCE).is_file():
                shutil.copy2(archive.folder / CONFIDENCE, partial / CONFIDENCE)
            if thumbnails and (archive.folder / "thumbnails").is_dir():
                shutil.copytree(archive.folder / "thumbnails", partial / "thumbnails")
            partial.rename(target)
            sync_folder(target.parent)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    finally:
        archive.database.set({UNFINISHED: ""})


def _writing(folder: Path) -> AbstractContextManager[None]:
    return as_store_error(f"cannot write {folder}", "make room or name another place")
