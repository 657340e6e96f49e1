"""Folders of pictures → points of an archive: what is new is read, described, encoded and stored; what is known by
content is not.

A picture is read and decoded once; its row, its thumbnail, its perceptual hash and its size come from the same pixels.
Every few seconds what is done is stored for good, so a command that was stopped resumes.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from photodesk import images
from photodesk.archive import metadata
from photodesk.archive.archive import THUMBNAIL, Archive
from photodesk.archive.database import File, now
from photodesk.archive.folders import Beside, Seen, away, gone, walk
from photodesk.encoders.base import Encoder
from photodesk.engines.schema import Entry, Point
from photodesk.errors import PhotoError
from photodesk.features.embed import photo_rows
from photodesk.features.pipeline import BatchSize, in_batches
from photodesk.files import digest
from photodesk.types import Fault, FloatArray, Progress, silent

if TYPE_CHECKING:
    from PIL import Image

TOGETHER = 64
"""New photos that pass the network and are stored at a time."""

HASHED = 64
"""Pixels of the shorter side that a perceptual hash wants to see."""


@dataclass(slots=True)
class Ingested:
    """What was done with files: how many photos came, how many files were known, held a known content, moved, or got
    another content."""

    added: int = 0
    known: int = 0
    again: int = 0
    moved: int = 0
    replaced: int = 0
    missing: int = 0
    faults: list[Fault] = field(default_factory=list)

    def __str__(self) -> str:
        words = (
            (self.added, "photos added"),
            (self.known, "files known"),
            (self.again, "more files of known photos"),
            (self.moved, "moved"),
            (self.replaced, "replaced"),
            (self.missing, "missing"),
            (sum(fault.fate == "left out" for fault in self.faults), "left out"),
        )
        return ", ".join(f"{count:,} {what}" for count, what in words if count or what == "photos added")


@dataclass(frozen=True, slots=True, eq=False)
class _Taken:
    """A file that was read: its photo, and, if that is new, all that the archive keeps of it."""

    seen: Seen
    photo: str
    entry: Entry | None = None
    features: FloatArray | None = None
    phash: int = 0
    thumbnail: bytes = b""
    notes: tuple[str, ...] = ()


def add(
    archive: Archive,
    encoder: Encoder,
    folders: Sequence[Path],
    *,
    progress: Progress = silent,
    reread: bool = False,
    exclude: Sequence[str] | None = None,
) -> Ingested:
    """Bring all pictures below some folders into the archive.

    Args:
        archive: open.
        encoder: the archive's; see `Archive.settings`.
        folders: each is remembered as the root of what is below it; a file may be named as well.
        progress: called with ("reading", files done, files).
        reread: read also what is known, for its description.
        exclude: patterns of what to leave out below the folders, remembered for the next time; None leaves out what was
            remembered.

    Raises:
        UsageError: no such folder, or a pattern is none.
        StoreError: another encoder, no room on the disk, or the archive is damaged; what was stored before is kept.
    """
    archive.check(encoder)
    result = Ingested()
    roots = archive.database.roots()
    found: dict[Path, Seen] = {}
    originals: dict[str, str] = {}
    for folder in folders:
        root, beside = _root(folder, roots), Beside()
        top = os.path.abspath(root or folder)  # noqa: PTH100  as in walk
        rules = archive.database.excludes(top) if exclude is None else tuple(filter(None, exclude))
        for file in walk(folder, result.faults, root=root, exclude=rules, beside=beside):
            found[file.path] = file
            if len(found) % 1000 == 0:
                progress("looking", len(found), len(found))
        if folder.is_dir():
            if exclude is not None:
                archive.database.exclude(top, rules)
            archive.database.walked(os.path.abspath(folder), beside.left, beside.mounts)  # noqa: PTH100  as in walk
        originals |= beside.originals
    seen = list(found.values())
    known = {file.path: file for file in archive.database.files()}
    _take(archive, encoder, _due(archive, seen, known, result, reread), known, result, progress)
    alone = [raw for raw, shown in originals.items() if shown not in known]  # the picture next to it cannot be read
    late = [file for raw in alone for file in walk(Path(raw), result.faults, root=_root(Path(raw), folders))]
    _take(archive, encoder, _due(archive, late, known, result, reread), known, result, silent)
    _join(archive, {raw: shown for raw, shown in originals.items() if shown in known})
    paths = {str(file.path) for file in (*seen, *late)}
    broken = archive.database.faults()
    archive.database.forget_faults([path for path in broken if path not in paths and below(path, folders)])
    _compare(archive, folders, paths, result)
    return result


def _due(
    archive: Archive, seen: Sequence[Seen], known: Mapping[str, File], result: Ingested, reread: bool
) -> list[Seen]:
    """The files that are to be read; the others are counted."""
    broken = archive.database.faults()
    todo = []
    for file in seen:
        have, wrong = known.get(str(file.path)), broken.get(str(file.path))
        if have and _known(have, file) and not reread:
            result.known += 1
        elif wrong and wrong[1:] == (file.size, file.mtime) and wrong[0].code != "photo-format" and not reread:
            result.faults.append(wrong[0])
        else:
            todo.append(file)
    return todo


def _known(have: File, file: Seen) -> bool:
    """Whether picture and sidecar are as they were when both were read."""
    return have.sidecar_size >= 0 and (
        (have.size, have.mtime, have.sidecar, have.sidecar_size, have.sidecar_mtime)
        == (file.size, file.mtime, file.sidecar, file.sidecar_size, file.sidecar_mtime)
    )


def below(path: str, folders: Sequence[str | os.PathLike[str]]) -> bool:
    """Whether a path is one of some folders or files, or lies below one."""
    tops = [os.path.abspath(folder) for folder in folders]  # noqa: PTH100  as in walk
    return any(path == top or path.startswith(top.rstrip("/") + "/") for top in tops)


def _root(folder: Path, roots: Sequence[str | os.PathLike[str]]) -> Path | None:
    path = os.path.abspath(folder)  # noqa: PTH100  as in walk
    return next((Path(root) for root in roots if path.startswith(os.path.abspath(root).rstrip("/") + "/")), None)  # noqa: PTH100  as in walk


def _take(
    archive: Archive,
    encoder: Encoder,
    todo: Sequence[Seen],
    known: dict[str, File],
    result: Ingested,
    progress: Progress,
) -> None:
    there = set(archive.database.photos())
    groups = _Groups(*archive.database.hashes())
    waiting: list[_Taken] = []
    again: list[Seen] = []
    done = 0
    progress("reading", 0, len(todo))
    language = metadata.LANGUAGES[archive.settings.language]
    for batch in in_batches(todo, lambda batch, sizes: _read(batch, encoder, there, sizes, language), encoder.photos):
        wrong = [(file, error) for file, error in batch if isinstance(error, PhotoError)]
        # what the system refused may be readable the next time, though the file has not changed
        states = [(-1, -1) if images.refused(error) else (file.size, file.mtime) for file, error in wrong]
        faults = [error.fault(where=str(file.path)) for file, error in wrong]
        archive.database.fault([(one, *state) for one, state in zip(faults, states, strict=True)])
        result.faults += faults
        waiting += [taken for _, taken in batch if isinstance(taken, _Taken)]
        if len(waiting) >= TOGETHER:
            again += _store(archive, encoder, waiting, known, groups, there, result)
            waiting = []
        done += len(batch)
        progress("reading", done, len(todo))
    again += _store(archive, encoder, waiting, known, groups, there, result)
    if again:
        _take(archive, encoder, again, known, result, silent)


def _read(
    batch: Sequence[Seen], encoder: Encoder, there: set[str], sizes: BatchSize, language: str
) -> list[tuple[Seen, _Taken | PhotoError]]:
    """Read and decode some files, and take their features; runs in several threads. `there` only grows, and a photo too
    many is no harm."""
    out: list[tuple[Seen, _Taken | PhotoError]] = []
    pixels = {}
    for file in batch:
        where = str(file.path)
        try:
            with images.guarded(where):
                data = images.content(file.path)
                photo = digest(data).hex()
                sidecars, unread = _sidecars([file])
                read = replace(file, sidecar_size=-1) if unread else file
                if photo in pixels:
                    out.append((file, _Taken(read, photo, notes=tuple(unread))))
                    continue
                picture = images.read(data, size=max(encoder.photos.size, HASHED), where=where)
                entry, notes = metadata.describe(picture, sidecars, language=language)
                more = (images.phash(picture.image), thumbnail(picture.image), (*notes, *unread))
                taken = _Taken(read, photo, entry, None, *more)
                if photo not in there:
                    pixels[photo] = encoder.photos.prepare(picture.image)
            out.append((file, taken))
        except PhotoError as error:
            out.append((file, error))
    if not pixels:
        return out
    features = dict(zip(pixels, sizes.timed(encoder.photos.encode, np.stack(list(pixels.values()))), strict=True))
    return [
        (file, replace(t, features=features.get(t.photo)) if isinstance(t, _Taken) and t.entry else t)
        for file, t in out
    ]


def _sidecars(files: Iterable[Seen | File]) -> tuple[dict[str, bytes], list[str]]:
    """Contents of the sidecars of some files, and which cannot be read, in words."""
    found: dict[str, bytes] = {}
    unread: list[str] = []
    for file in files:
        if file.sidecar:
            path = Path(file.path).with_name(file.sidecar)
            try:
                found[file.sidecar if file.sidecar not in found else str(path)] = images.content(path)
            except PhotoError as error:
                unread.append(metadata.unread(f"XMP sidecar {file.sidecar}", f"{error.what}; {error.advice}"))
    return found, unread


def _store(
    archive: Archive,
    encoder: Encoder,
    waiting: Sequence[_Taken],
    known: dict[str, File],
    groups: _Groups,
    there: set[str],
    result: Ingested,
) -> list[Seen]:
    """Make what was read part of the archive; returns files whose photo was known and is gone by now: they are to be
    read again."""
    fresh: dict[str, _Taken] = {}
    described: dict[str, Entry] = {}
    partly: set[str] = set()
    for taken in waiting:
        result.faults += [Fault("photo-metadata", str(taken.seen.path), note, "kept") for note in taken.notes]
        if taken.entry is not None:
            if taken.photo in there:
                described[taken.photo] = taken.entry
                if taken.seen.sidecar_size < 0:
                    partly.add(taken.photo)
            elif taken.features is not None:
                fresh.setdefault(taken.photo, taken)
    files = [_file(t.seen, t.photo) for t in waiting]
    for file in files:
        old, first = known.get(file.path), fresh.get(file.photo)
        result.replaced += bool(old and old.photo != file.photo)
        result.again += not old and not (first and str(first.seen.path) == file.path)
        known[file.path] = file
    if fresh:
        news = list(fresh.values())
        # all at once: on the few photos of a batch the network costs as much as the tower, for its small products keep
        # every core spinning
        rows = photo_rows(np.stack([t.features for t in news if t.features is not None]), encoder)
        offsets = archive.offsets(rows)
        points = []
        for t, row, offset in zip(news, rows, offsets, strict=True):
            assert t.entry is not None
            source = t.seen.path.relative_to(t.seen.root).as_posix()
            entry = replace(t.entry, source=source, added=now(), group=groups.of(t.photo, t.phash))
            points.append(Point(t.photo, row, entry, float(offset)))
        with_new = [file for file in files if file.photo in fresh]
        there -= set(
            archive.put(points, with_new, hashes=[t.phash for t in news], thumbnails=[t.thumbnail for t in news])
        )
        there |= fresh.keys()
        result.added += len(points)
    staying = [file for file in files if file.photo not in fresh and file.photo in there]
    there -= set(archive.place(staying))
    shared = {photo for photo in {file.photo for file in files} & there if _shared(archive, photo)}
    alone = {photo: entry for photo, entry in described.items() if photo not in shared}
    _describe(archive, alone, {file.photo: file for file in staying}, partly)
    _reconcile(archive, shared)
    return [t.seen for t in waiting if t.photo not in there]


def _file(seen: Seen, photo: str) -> File:
    sidecar = (seen.sidecar, seen.sidecar_size, seen.sidecar_mtime)
    return File(str(seen.path), photo, str(seen.root), seen.size, seen.mtime, *sidecar)


def _shared(archive: Archive, photo: str) -> bool:
    """Whether a photo has several files and any of them a sidecar."""
    files = list(archive.database.files(photo))
    return len(files) > 1 and any(file.sidecar for file in files)


def _reconcile(archive: Archive, photos: Iterable[str]) -> None:
    """Describe photos of several files by the sidecars of all of them, those of the first path first, so that it does
    not matter which file was read last."""
    language = metadata.LANGUAGES[archive.settings.language]
    for photo in sorted(photos):
        files = list(archive.database.files(photo))
        sidecars, unread = _sidecars(files)
        for file in files:
            try:
                with images.guarded(file.path):
                    data = images.content(Path(file.path))
                    if digest(data).hex() != photo:
                        continue
                    picture = images.read(data, size=1, where=file.path)
                    entry, _ = metadata.describe(picture, sidecars, language=language)
            except PhotoError:  # it is named where it is read as a file of its own
                continue
            _describe(archive, {photo: entry}, {photo: file}, {photo} if unread else set())
            break


def _describe(archive: Archive, entries: dict[str, Entry], files: dict[str, File], partly: set[str]) -> None:
    """Replace descriptions that changed; where a photo came from and what it is near to stay, and of photos that were
    read only partly, for want of a sidecar, all that is known: an embargo may have stood there."""
    changed = {}
    for point in archive.engine.get(list(entries)):
        old, file = point.entry, files[point.photo]
        source = Path(file.path).relative_to(file.root).as_posix()
        read = entries[point.photo]
        entry = replace(
            metadata.together(old, read) if point.photo in partly else read,
            source=source,
            added=old.added,
            group=old.group,
            original=old.original,
        )
        if entry != old:
            changed[point.photo] = entry
    if changed:
        archive.describe(changed)


def _join(archive: Archive, originals: Mapping[str, str]) -> None:
    """A RAW and the picture next to it are one photo, whichever came first: the picture's, which names the RAW."""
    files = {file.path: file for file in archive.database.files()} if originals else {}
    pairs = {raw: files[shown] for raw, shown in originals.items() if shown in files}
    # what was noted of a RAW's own photo goes over to the picture's
    archive.place([replace(file, path=raw) for raw, file in pairs.items() if raw in files])
    archive.forget_files([raw for raw in pairs if raw in files])
    wanted = {file.photo: Path(raw).relative_to(file.root).as_posix() for raw, file in pairs.items()}
    changed = {
        point.photo: replace(point.entry, original=wanted[point.photo])
        for point in archive.engine.get(list(wanted))
        if point.entry.original != wanted[point.photo]
    }
    if changed:
        archive.engine.describe(changed)


def _compare(archive: Archive, folders: Sequence[Path], seen: set[str], result: Ingested) -> None:
    """Forget paths below the folders from where a photo moved away; name files that are gone altogether, and those that
    are left out by now."""
    paths: dict[str, list[str]] = {}
    absent: list[File] = []
    unread = [fault.where for fault in result.faults if fault.code in ("folder-unreadable", "photo-unreadable")]
    broken = archive.database.faults()
    excluded: Counter[str] = Counter()
    for file in archive.database.files():
        if file.path not in seen and below(file.path, folders):
            if gone(file.path):
                absent.append(file)
                continue
            if file.path not in broken and not below(file.path, unread):
                excluded[os.path.dirname(file.path)] += 1  # noqa: PTH120  as in walk
        paths.setdefault(file.photo, []).append(file.path)
    mounts = archive.database.mounts()
    vanished = away(((file.path, file.root) for file in absent), mounts)
    archive.database.unmount(
        mount
        for mount in mounts
        if not os.path.ismount(mount)
        and any(below(path, [mount]) for path in seen)
        and not any(below(file.path, [mount]) for file in absent)
    )
    moved = [file for file in absent if file.photo in paths and file.path not in vanished]
    archive.forget_files([file.path for file in moved])
    _reconcile(archive, {file.photo for file in moved if file.sidecar})
    result.moved += len(moved)
    result.again -= min(result.again, len(moved))
    lost = [file for file in absent if file.photo not in paths]
    result.missing = len(lost)
    advice = f"if it is not coming back: photodesk archive remove {archive.folder} --missing"
    result.faults += [
        Fault("file-gone", file.path, "the file is gone; its photo stays in the archive", "kept", advice)
        for file in lost
        if file.path not in vanished
    ]
    result.faults += [
        Fault(
            "folder-gone",
            folder,
            f"its disk seems to be away; {count:,} photos stay in the archive",
            "kept",
            "bring the disk back",
        )
        for folder, count in sorted(Counter(vanished[file.path] for file in lost if file.path in vanished).items())
    ]
    advice = f"if you want them out: photodesk archive remove {archive.folder} PATH"
    result.faults += [
        Fault("photo-excluded", folder, f"{count:,} photos of the archive are left out by now", "kept", advice)
        for folder, count in sorted(excluded.items())
    ]


class _Groups:
    """Groups of near-duplicates: a photo joins the group of the first one that it is near to."""

    def __init__(self, hashes: np.typing.NDArray[np.uint64], groups: Sequence[str]) -> None:
        self._hashes, self._groups, self._count = hashes, list(groups), len(groups)

    def of(self, photo: str, phash: int) -> str:
        """The group of a photo; notes it."""
        near = np.flatnonzero(np.bitwise_count(self._hashes[: self._count] ^ np.uint64(phash)) <= images.NEAR)
        group = self._groups[near[0]] if near.size else photo
        if self._count == len(self._hashes):
            self._hashes = np.concatenate([self._hashes, np.zeros(max(1024, self._count // 4), np.uint64)])
        self._hashes[self._count] = phash
        self._groups.append(group)
        self._count += 1
        return group


def thumbnail(image: Image.Image) -> bytes:
    """A small JPEG of an upright picture, without any metadata."""
    return images.jpeg(image, size=THUMBNAIL, quality=80)
