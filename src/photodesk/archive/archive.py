"""A photo desk's archive: a folder with an engine, thumbnails and a database, which one process at a time holds.

archive.sqlite   the database: settings, files, uses, picks, bank, jobs (`database`, `usage`)
shard/           the engine's own files, unless it is a server
thumbnails/      ab/<photo id>.jpg
lock             who holds the archive

A change is announced in the database, made in the engine, and confirmed in the database; `open` puts right what a kill
left in between.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar
from zoneinfo import ZoneInfo

import numpy as np

from photodesk import images
from photodesk.archive.database import COMING, Database, File
from photodesk.archive.embargo import zone_of
from photodesk.archive.lock import hold, say
from photodesk.archive.usage import UsageLog
from photodesk.encoders.base import Encoder
from photodesk.engines import bm25
from photodesk.engines.base import Engine, Space
from photodesk.engines.registry import open_engine
from photodesk.engines.schema import Filter, Point
from photodesk.errors import PhotoError, StoreError, UsageError
from photodesk.files import as_store_error, digest, replacing
from photodesk.ranking import dual_softmax
from photodesk.ranking.revisions import Revision, parse
from photodesk.types import Embeddings, FloatArray, Progress, silent

DATABASE = "archive.sqlite"
CONFIDENCE = "confidence.json"
"""The curve of encoders that have none of their own here; `search.confidence` reads it."""
THUMBNAIL = 320
"""Longest side of a thumbnail, in pixels."""
RESERVE = 128 * 2**20
"""Bytes that must be free on the disk before anything is added."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Settings:
    """What an archive was made with.

    Args:
        engine: URI; relative paths start from the archive's folder.
        encoder: name, as `encoders.load` reads it.
        fingerprint: of that encoder.
        dim: numbers per row.
        language: of captions, for the word search.
        revision: how scores are revised by the bank.
    """

    engine: str
    encoder: str
    fingerprint: str
    dim: int
    language: str
    revision: Revision

    def as_text(self) -> dict[str, str]:
        """Name → value, for the table of settings."""
        return {name: str(getattr(self, name)) for name in self.__slots__}

    @classmethod
    def of(cls, text: dict[str, str]) -> Settings:
        """The settings that `as_text` gave.

        Raises:
            StoreError: a setting is missing or odd.
        """
        try:
            named = {name: text[name] for name in ("engine", "encoder", "fingerprint", "language")}
            return cls(**named, dim=int(text["dim"]), revision=parse(text["revision"]))
        except (KeyError, ValueError, UsageError) as error:
            raise StoreError(
                f"the archive's settings are damaged ({error}); restore it from a backup: see docs/archive.md"
            ) from None


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """A file with the picture of a photo, and its content; the thumbnail where it is no original."""

    path: Path
    content: bytes
    original: bool


class Archive:
    """An open archive; make one with `create` or `open`, and use it as a context or `close` it.

    Attributes:
        folder: where it lives.
        settings: what it was made with.
        engine: rows, payloads, words.
        database: photos, files, faults, jobs.
        usage: uses, picks, bank.
        recovered: photos that an earlier kill had left half done and that were put right now.
    """

    def __init__(self, folder: Path, settings: Settings, engine: Engine, database: Database, lock: int) -> None:
        self.folder, self.settings, self.engine, self.database, self._lock = folder, settings, engine, database, lock
        self.usage = UsageLog(database)
        self.recovered = 0
        self._bank: Embeddings | None = None

    @classmethod
    def create(
        cls,
        folder: Path,
        encoder: Encoder,
        *,
        engine: str = "edge:shard",
        language: str = "german",
        revision: Revision | None = None,
        zone: str = "",
    ) -> Archive:
        """Make an empty archive in a new or empty folder; `zone` is the desk's time zone, empty for the system's.

        Raises:
            StoreError: the folder is not empty or cannot be written, or the engine cannot be made.
            UsageError: no such engine, language or time zone, a revision that takes no bank, or towers without a
            network between them.
        """
        encoder = encoder.joint()
        zone_of(zone)
        revision = revision or parse("dual_softmax(temperature=1)")
        if revision.method in ("sinkhorn", "dynamic_inverted_softmax"):
            raise UsageError(
                f"{revision} is not one number per photo; an archive takes dual_softmax, inverted_softmax, nnn or "
                "cosine"
            )
        if language not in bm25.LANGUAGES:
            raise UsageError(f"no language {language!r}; known: {', '.join(bm25.LANGUAGES)}")
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise StoreError(f"{folder} is not empty; name a new folder for the archive")
        dim = encoder.network.dim if encoder.network else encoder.photos.dim
        settings = Settings(engine, encoder.name, encoder.fingerprint, dim, language, revision)
        with _disk(folder):
            folder.mkdir(parents=True, exist_ok=True)
            lock = hold(folder, "archive init")
        try:
            made = open_engine(engine, Space(dim, language), base=folder, create=True)
            database = Database.open(folder / DATABASE, create=True)
            database.set(settings.as_text() | {"zone": zone, "words": bm25.version(language)})
        except BaseException:
            os.close(lock)
            shutil.rmtree(folder, ignore_errors=True)  # it was empty before
            raise
        return cls(folder, settings, made, database, lock)

    @classmethod
    def open(cls, folder: Path, *, doing: str = "search") -> Archive:
        """Open an archive, put right what a kill left half done, and hold it until `close`.

        Args:
            folder: where it lives.
            doing: what others are told who find it held.

        Raises:
            ArchiveInUse: another process holds it; names it.
            StoreError: there is none, or it is damaged or cannot be written.
        """
        if not (folder / DATABASE).exists():
            raise StoreError(f"{folder} holds no archive; make one with: photodesk archive init {folder}")
        with _disk(folder):
            lock = hold(folder, doing)
        database = None
        try:
            database = Database.open(folder / DATABASE)
            settings = Settings.of(database.settings())
            engine = open_engine(settings.engine, Space(settings.dim, settings.language), base=folder)
            archive = cls(folder, settings, engine, database, lock)
            archive._settle()
            return archive
        except BaseException:
            if database:
                database.close()
            os.close(lock)
            raise

    def close(self) -> None:
        """Close engine and database and release the lock; calling it twice does nothing."""
        if self._lock >= 0:
            self.engine.close()
            self.database.close()
            with contextlib.suppress(OSError):
                (self.folder / "lock").write_text("")
            os.close(self._lock)
            self._lock = -1

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def serves(self, url: str, key: str = "") -> None:
        """Tell others who find the archive held where this process answers for them; see `lock`."""
        say(self.folder, "serve", url, key)

    @property
    def zone(self) -> ZoneInfo | None:
        """The desk's time zone; None is the system's."""
        return zone_of(self.database.settings().get("zone", ""))

    def among(self, where: Filter, file: str) -> Filter:
        """A filter, narrowed to photos of a file whose name or folders hold a text; see `Database.holding`."""
        return replace(where, among=self.database.holding(file)) if file else where

    def index_words(self, progress: Progress = silent) -> int:
        """Make the word weights of all photos again if they are of an older `bm25.version`; returns how many were."""
        version = bm25.version(self.settings.language)
        if self.database.settings().get("words", "") == version:
            return 0
        done, of = 0, self.engine.count()
        for points in self.engine.scan(rows=False, batch=1024):
            self.engine.describe({point.photo: point.entry for point in points})
            done += len(points)
            progress("words", done, of)
        self.database.set({"words": version})
        return done

    def thumbnail(self, photo: str) -> Path:
        """Where the thumbnail of a photo is kept."""
        return self.folder / "thumbnails" / photo[:2] / f"{photo}.jpg"

    def picture(self, photo: str, read: Callable[[Picture], T], *, small: bool = False) -> T:
        """What `read` makes of a file that still holds a photo's very content, else of its thumbnail.

        Args:
            photo: id.
            read: raises PhotoError, or anything that an image library raises, for what it cannot take; the other one
                of file and thumbnail is tried then.
            small: the thumbnail first, which costs no decoding of a large file.

        Raises:
            PhotoError: there is neither, or `read` can take neither; says what is wrong with the first one.
        """
        errors = []
        for source in (self._thumbnail, self._original) if small else (self._original, self._thumbnail):
            try:
                found = source(photo)
                with images.guarded(str(found.path)):
                    return read(found)
            except PhotoError as error:
                errors.append(error)
        raise errors[0]

    def _original(self, photo: str) -> Picture:
        for file in self.database.files(photo):
            with contextlib.suppress(PhotoError):
                content = images.content(Path(file.path))
                if digest(content).hex() == photo:
                    return Picture(Path(file.path), content, original=True)
        raise PhotoError("photo-gone", self.path(photo), "is gone or has another content now", "bring the picture back")

    def _thumbnail(self, photo: str) -> Picture:
        path = self.thumbnail(photo)
        return Picture(path, images.content(path), original=False)

    def path(self, photo: str) -> str:
        """Where a file of a photo is; empty where the archive knows none."""
        return next((file.path for file in self.database.files(photo)), "")

    def keep_thumbnail(self, photo: str, picture: bytes) -> None:
        """Store the thumbnail of a photo, as JPEG."""
        with _disk(self.folder), replacing(self.thumbnail(photo), "wb") as stream:
            stream.write(picture)

    def put(
        self, points: Sequence[Point], files: Sequence[File], *, hashes: Sequence[int], thumbnails: Sequence[bytes]
    ) -> list[str]:
        """Add photos with their files; all of it is on disk when this returns. Returns photos that had to go, as
        `place`.

        Args:
            points: with offsets for the present bank already in them, see `offsets`.
            files: at least one for each point.
            hashes: perceptual hash of each point; thumbnails likewise, as JPEG.
        """
        self._check_room()
        for point, picture in zip(points, thumbnails, strict=True):
            self.keep_thumbnail(point.photo, picture)
        known = [(point.photo, hash_, point.entry.group) for point, hash_ in zip(points, hashes, strict=True)]
        leaving = self.database.announce(known, files)
        self.engine.upsert(points)
        self.database.confirm(point.photo for point in points)
        self.drop(leaving)
        return leaving

    def place(self, files: Sequence[File]) -> list[str]:
        """Note files of photos that are there already; photos whose last file has now another content go, and are
        returned."""
        leaving = self.database.located(files)
        self.drop(leaving)
        return leaving

    def forget_files(self, paths: Sequence[str]) -> list[str]:
        """Forget files, and photos that have none left; returns the ids of these."""
        gone = self.database.leaving(paths)
        self.drop(gone)
        return gone

    def check(self, encoder: Encoder) -> None:
        """Raise where the rows here are not an encoder's.

        Raises:
            StoreError: another encoder made the archive.
        """
        advice = (
            "make a new archive for it, or encode this one again: photodesk archive update "
            f"{self.folder} --encoder {encoder.name}"
        )
        encoder.check(self.settings.fingerprint, self.settings.encoder, self.folder, advice)

    def offsets(self, rows: FloatArray) -> FloatArray:
        """(m,) hubness offsets of photos with these (m, d) rows by the bank; zeros while the bank is empty."""
        bank = self.bank()
        if bank is None or not len(rows):
            return np.zeros(len(rows), np.float32)
        photos = Embeddings(tuple(map(str, range(len(rows)))), rows, bank.encoder)
        return dual_softmax.numbers(bank, photos, self.settings.revision).values

    def bank(self) -> Embeddings | None:
        """The query bank: articles that stand for the queries to come; None while there are none."""
        if self._bank is None:
            names, rows = self.usage.bank()
            self._bank = Embeddings(names, rows, self.settings.fingerprint) if names else None
        return self._bank

    def refresh(self, progress: Progress = silent) -> int:
        """Bring the offsets of all photos up to the present bank, if it changed since the last time; returns how many
        were set.

        A kill in between leaves old offsets next to new ones; the next call starts again.
        """
        self._bank = None
        bank = self.bank()
        tag = revise_tag(bank, self.settings.revision)
        if self.database.settings().get("numbers", "") == tag:
            return 0
        self.database.set({"numbers": "in progress"})
        done, of = 0, self.engine.count()
        for points in self.engine.scan(rows=True, batch=4096):
            self.engine.revise(
                [point.photo for point in points], self.offsets(np.stack([point.row for point in points]))
            )
            done += len(points)
            progress("revising", done, of)
        self.database.set({"numbers": tag})
        return done

    def revised(self) -> bool:
        """Whether every photo has the offset by the present bank, so that a search may subtract it."""
        return self.database.settings().get("numbers", "") == revise_tag(self.bank(), self.settings.revision) != ""

    def _check_room(self) -> None:
        """An engine maps its files into memory, where a full disk is not an error but the end of the process; so stop
        well before."""
        free = shutil.disk_usage(self.folder).free
        if free < RESERVE:
            raise StoreError(
                f"only {free / 2**20:,.0f} MB are left on the disk of {self.folder}, and {RESERVE >> 20} are wanted in "
                "reserve; "
                "what was reported as done is kept: make room and repeat the command"
            )

    def _settle(self) -> None:
        self.database.interrupted()
        unsettled = self.database.unsettled()
        coming = [photo for photo, state in unsettled.items() if state == COMING]
        there = {point.photo for point in self.engine.get(coming)} if coming else set()
        self.database.confirm(sorted(there))
        self.database.forget(photo for photo in coming if photo not in there)
        self.drop([photo for photo, state in unsettled.items() if state != COMING])
        self.recovered = len(unsettled)

    def use_engine(self, engine: Engine, uri: str) -> None:
        """Work with another engine, which holds the same points, from now on."""
        self.database.set({"engine": uri, "moving": "", "words": bm25.version(self.settings.language)})
        self.engine.close()
        self.engine, self.settings = engine, replace(self.settings, engine=uri)

    def use_model(self, engine: Engine, settings: Settings) -> None:
        """Work with an engine of another model's rows from now on; the bank of the old model's rows is emptied."""
        words = bm25.version(settings.language)
        self.database.change_model(settings.as_text() | {"numbers": "", "renewing": "", "words": words})
        self.engine.close()
        self.engine, self.settings, self._bank = engine, settings, None

    def drop(self, photos: Sequence[str]) -> None:
        """Forget photos, whatever files stand behind them."""
        if photos:
            self.database.leave(photos)
            self.engine.delete(photos)
            self.database.forget(photos)
            for photo in photos:
                self.thumbnail(photo).unlink(missing_ok=True)


def revise_tag(bank: Embeddings | None, revision: Revision) -> str:
    """Names a bank and what is made of it; empty if there is none."""
    import hashlib

    if bank is None:
        return ""
    content = hashlib.sha256(f"{revision} {bank.encoder}".encode())
    for name, row in zip(bank.ids, bank.rows, strict=True):
        content.update(name.encode() + b"\0" + row.tobytes())
    return content.hexdigest()[:32]


def _disk(folder: Path) -> contextlib.AbstractContextManager[None]:
    return as_store_error(f"cannot write {folder}", "what was reported as done is kept")
