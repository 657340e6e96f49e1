"""What an archive writes down next to its engine, in one SQLite file: photos, files, faults, jobs; `usage` has the
rest.

Every method is one transaction, on disk when it returns. Changes of photos are announced before the engine is told and
confirmed afterwards, so that a kill in between leaves a state that can be put right: see `Archive.open`.
"""

from __future__ import annotations

import contextlib
import datetime
import fnmatch
import functools
import hashlib
import json
import os
import re
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass, fields, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from photodesk.engines import seals
from photodesk.engines.schema import Entry, Point
from photodesk.engines.spellings import fold
from photodesk.errors import StoreError
from photodesk.types import Fault, FloatArray

COMING, THERE, LEAVING = 0, 1, 2
"""States of a photo: announced, in the engine, to be deleted from it."""

# a step for each version of the schema; never change one, add another
MIGRATIONS = (
    """
    CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE photos (photo TEXT PRIMARY KEY, state INTEGER NOT NULL, print INTEGER NOT NULL, family TEXT NOT NULL,
        added TEXT NOT NULL)
        WITHOUT ROWID;
    CREATE INDEX photos_state ON photos (state) WHERE state <> 1;
    CREATE TABLE files (path TEXT PRIMARY KEY, photo TEXT NOT NULL, root TEXT NOT NULL, size INTEGER NOT NULL,
        mtime INTEGER NOT NULL)
        WITHOUT ROWID;
    CREATE INDEX files_photo ON files (photo);
    CREATE TABLE faults (path TEXT PRIMARY KEY, what TEXT NOT NULL, advice TEXT NOT NULL, size INTEGER NOT NULL,
        mtime INTEGER NOT NULL,
        seen TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE uses (photo TEXT NOT NULL, day TEXT NOT NULL, article TEXT NOT NULL, PRIMARY KEY (photo, day,
        article)) WITHOUT ROWID;
    CREATE INDEX uses_day ON uses (day);
    CREATE TABLE picks (pick INTEGER PRIMARY KEY, at TEXT NOT NULL, article TEXT NOT NULL, photo TEXT NOT NULL,
        rank INTEGER NOT NULL,
        score REAL NOT NULL);
    CREATE TABLE bank (article TEXT PRIMARY KEY, row BLOB NOT NULL, added TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE jobs (job INTEGER PRIMARY KEY, command TEXT NOT NULL, state TEXT NOT NULL, stage TEXT NOT NULL,
        done INTEGER NOT NULL,
        total INTEGER NOT NULL, started TEXT NOT NULL, updated TEXT NOT NULL, message TEXT NOT NULL);
    """,
    """
    ALTER TABLE picks ADD COLUMN withdrawn TEXT NOT NULL DEFAULT '';  -- when; a pick that is taken back is not deleted
    CREATE INDEX picks_standing ON picks (json_extract(article, '$.id')) WHERE withdrawn = '';
    """,
    # most photos are the only one of their group
    "CREATE INDEX photos_family ON photos (family) WHERE family <> photo",
    # what was noted before faults had codes is looked at again with the next `add` or `update`, and gets one
    "ALTER TABLE faults ADD COLUMN code TEXT NOT NULL DEFAULT 'unknown'; UPDATE faults SET mtime = -1",
    # a picture and its sidecar are two states; what the system refused is noted with size -1 and tried again each time
    """
    ALTER TABLE files ADD COLUMN sidecar TEXT NOT NULL DEFAULT '';
    ALTER TABLE files ADD COLUMN sidecar_size INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE files ADD COLUMN sidecar_mtime INTEGER NOT NULL DEFAULT 0;
    """,
    # of folders: what was left out there by code and suffix or pattern; patterns (JSON) of roots; where disks begin
    """
    CREATE TABLE left_out (folder TEXT NOT NULL, code TEXT NOT NULL, kind TEXT NOT NULL, count INTEGER NOT NULL,
        PRIMARY KEY (folder, code, kind)) WITHOUT ROWID;
    CREATE TABLE excludes (root TEXT PRIMARY KEY, patterns TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE mounts (folder TEXT PRIMARY KEY) WITHOUT ROWID;
    """,
    # sums of what engine and thumbnails hold of a photo, NULL for those of an older photodesk; photos whose sums are
    # not to be trusted while the engine is being changed; rows of another model until it is the archive's; see `seals`
    """
    ALTER TABLE photos ADD COLUMN row_sum BLOB;
    ALTER TABLE photos ADD COLUMN entry_sum BLOB;
    ALTER TABLE photos ADD COLUMN hubness REAL;
    ALTER TABLE photos ADD COLUMN thumbnail_sum BLOB;
    CREATE TABLE changing (photo TEXT PRIMARY KEY, seal BLOB) WITHOUT ROWID;
    CREATE TABLE renewed (photo TEXT PRIMARY KEY, row_sum BLOB, seal BLOB) WITHOUT ROWID;
    ALTER TABLE settings ADD COLUMN seal BLOB;
    ALTER TABLE photos ADD COLUMN seal BLOB;
    ALTER TABLE files ADD COLUMN seal BLOB;
    ALTER TABLE faults ADD COLUMN seal BLOB;
    ALTER TABLE uses ADD COLUMN seal BLOB;
    ALTER TABLE picks ADD COLUMN seal BLOB;
    ALTER TABLE bank ADD COLUMN seal BLOB;
    ALTER TABLE jobs ADD COLUMN seal BLOB;
    ALTER TABLE left_out ADD COLUMN seal BLOB;
    ALTER TABLE excludes ADD COLUMN seal BLOB;
    ALTER TABLE mounts ADD COLUMN seal BLOB;
    """,
    # when an embargo ends, by somebody who knows, for the usage terms that the photo had then
    """
    CREATE TABLE releases (photo TEXT PRIMARY KEY, terms TEXT NOT NULL, until TEXT NOT NULL, at TEXT NOT NULL,
        seal BLOB) WITHOUT ROWID;
    """,
)


@dataclass(frozen=True, slots=True)
class File:
    """A picture file that the archive knows.

    Args:
        path: absolute.
        photo: id of its content.
        root: the folder that was added.
        size: in bytes; mtime in nanoseconds.
        sidecar: name of the XMP file that was read beside it, empty if there is none, with its own size (-1 if it could
            not be read) and mtime.
    """

    path: str
    photo: str
    root: str
    size: int
    mtime: int
    sidecar: str = ""
    sidecar_size: int = 0
    sidecar_mtime: int = 0


@dataclass(frozen=True, slots=True)
class Sums:
    """What engine and thumbnails hold of a photo, in short; None where an older photodesk did not note it.

    Args:
        row: digest of its row; entry: of what is known of it; thumbnail: of its file.
        offset: its hubness offset.
    """

    row: bytes | None = None
    entry: bytes | None = None
    offset: float | None = None
    thumbnail: bytes | None = None

    @classmethod
    def of(cls, point: Point, thumbnail: bytes | None = None) -> Sums:
        """Of a point with its row, and the content of its thumbnail."""
        small = None if thumbnail is None else content_sum(thumbnail)
        return replace(
            cls.of_entry(point.entry), row=row_sum(point.row), offset=float(np.float32(point.offset)), thumbnail=small
        )

    @classmethod
    def of_entry(cls, entry: Entry) -> Sums:
        """Of an entry alone: its fields that are not empty, so that it stays when others come."""
        known = {f.name: value for f in fields(entry) if (value := getattr(entry, f.name))}
        return cls(entry=content_sum(json.dumps(known, sort_keys=True).encode()))


def row_sum(row: FloatArray) -> bytes:
    """What `Sums` has of a row."""
    return content_sum(np.ascontiguousarray(row, "<f4").tobytes())


def content_sum(content: bytes) -> bytes:
    """What `Sums` has of a content."""
    return hashlib.blake2b(content, digest_size=8).digest()


State = Literal["waiting", "running", "done", "stopped", "failed"]


@dataclass(frozen=True, slots=True)
class Job:
    """A command that changes or inspects the archive: `done` of `total` in `stage`.

    Args:
        started: when it was asked for; updated: when anything of this last changed.
        message: how it ended, for people.
    """

    job: int
    command: str
    state: State
    stage: str
    done: int
    total: int
    started: str
    updated: str
    message: str


def now() -> str:
    """The time as ISO 8601 in UTC, to the second."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Database:
    """An open database; make one with `open`. Methods may be called from any thread.

    Attributes:
        path: of its file.
        read_only: it can only be read, for the medium is read-only or full.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection, *, read_only: bool = False) -> None:
        self.path, self._db, self._lock, self.read_only = path, connection, threading.RLock(), read_only
        self._file = _identity(path)

    @classmethod
    def open(cls, path: Path, *, create: bool = False) -> Database:
        """Open the database in a file, and bring its schema up to date.

        Raises:
            StoreError: there is none, it cannot be read or written, it is damaged, or a newer photodesk made it.
        """
        if not create and not path.exists():
            raise StoreError(f"{path.parent} holds no archive; make one with: photodesk archive init {path.parent}")
        with _as_store_error(path), contextlib.ExitStack() as on_error:
            db, read_only = seals.connect(path)
            on_error.callback(db.close)
            version = int(db.execute("PRAGMA user_version").fetchone()[0])
            if version > len(MIGRATIONS):
                raise StoreError(f"{path.parent} was made by a newer photodesk (schema {version}); update photodesk")
            if version == 0 and not create:
                raise StoreError(f"{path} is no archive of photodesk; make one with: photodesk archive init DIR")
            if _schema(db) != _schema_of(version):
                raise StoreError(_DAMAGED.format(file=path, reason="its tables are not those that photodesk makes"))
            if version < len(MIGRATIONS) and read_only:
                raise StoreError(
                    f"{path.parent} was made by an older photodesk and is on a disk that is read-only or full; copy it "
                    "to another one"
                )
            if version < len(MIGRATIONS):
                with _transaction(db):
                    for step in MIGRATIONS[version:]:
                        for statement in _statements(step):
                            db.execute(statement)
                    seals.seal_all(db)
                    db.execute(f"PRAGMA user_version={len(MIGRATIONS)}")
            if not read_only:
                seals.install(db)
            on_error.pop_all()
        made = cls(path, db, read_only=read_only)
        try:
            made.check("settings")
        except BaseException:
            db.close()
            raise
        return made

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    @contextmanager
    def change(self) -> Iterator[sqlite3.Connection]:
        """A transaction: all that the block does is kept, or nothing.

        Raises:
            StoreError: as `open`, or the file was deleted or replaced since, so that nothing of it would be kept.
        """
        with self._lock, _as_store_error(self.path):
            with _transaction(self._db):
                yield self._db
            self.check_place()

    def check_place(self) -> None:
        """Raise where the file is not the one that was opened.

        Raises:
            StoreError: it was deleted, moved or replaced.
        """
        if _identity(self.path) != self._file:
            raise StoreError(
                f"{self.path} was deleted, moved or replaced while it was open; what is asked for now is not kept: "
                "bring the archive back and start again"
            )

    def write(self, statement: str, *rows: Sequence[object]) -> None:
        """A statement in SQL for each of some rows of values, in one transaction."""
        with self.change() as db:
            db.executemany(statement, rows)

    def ask(self, question: str, values: Sequence[object] = ()) -> list[tuple[object, ...]]:
        """All rows that answer a question in SQL."""
        with self._lock, _as_store_error(self.path):
            return self._db.execute(question, values).fetchall()

    # settings

    def settings(self) -> dict[str, str]:
        """Everything that was set."""
        return {str(name): str(value) for name, value in self.ask("SELECT name, value FROM settings")}

    def set(self, values: Mapping[str, str]) -> None:
        """Set or replace settings."""
        self.write(_SET, *values.items())

    def change_model(self, values: Mapping[str, str]) -> None:
        """Set the settings of another model and empty the bank, whose rows are of the old one; both or neither."""
        with self.change() as db:
            db.executemany(_SET, list(values.items()))
            db.execute("DELETE FROM bank")
            new = "SELECT row_sum FROM renewed WHERE renewed.photo = photos.photo"
            db.execute(f"UPDATE photos SET row_sum = ({new}), hubness = 0")  # noqa: S608  our words
            db.execute("DELETE FROM renewed")

    # photos and files

    def announce(
        self, photos: Sequence[tuple[str, int, str]], files: Sequence[File], sums: Sequence[Sums] = ()
    ) -> list[str]:
        """Say that photos (id, perceptual hash, group) are about to be put into the engine, and where their files are.

        A photo whose last file now has another content is marked as leaving, and its uses and picks go over to the new
        photo. `sums` are those of the photos, where they are known.

        Returns:
            the photos that are leaving, for the engine to delete and then `forget`.
        """
        with self.change() as db:
            db.executemany(
                "INSERT INTO photos (photo, state, print, family, added) VALUES (?, 0, ?, ?, ?) "
                "ON CONFLICT (photo) DO UPDATE SET state = 0",
                [(photo, _signed(hash_), group, now()) for photo, hash_, group in photos],
            )
            db.executemany(_NOTE, [(*astuple(one), photo) for one, (photo, *_) in zip(sums, photos, strict=False)])
            return self._place(db, files)

    def located(self, files: Sequence[File]) -> list[str]:
        """Note files of photos that are there already; returns as `announce`."""
        with self.change() as db:
            return self._place(db, files)

    def _place(self, db: sqlite3.Connection, files: Sequence[File]) -> list[str]:
        leaving = []
        for file in files:
            old = db.execute("SELECT photo FROM files WHERE path = ?", (file.path,)).fetchone()
            db.execute(
                "INSERT OR REPLACE INTO files (path, photo, root, size, mtime, sidecar, sidecar_size, sidecar_mtime) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                astuple(file),
            )
            db.execute("DELETE FROM faults WHERE path = ?", (file.path,))
            if old and old[0] != file.photo and not db.execute("SELECT 1 FROM files WHERE photo = ?", old).fetchone():
                db.execute("UPDATE photos SET state = 2 WHERE photo = ?", old)
                for table in ("uses", "picks"):
                    db.execute(f"UPDATE OR IGNORE {table} SET photo = ? WHERE photo = ?", (file.photo, old[0]))  # noqa: S608  our words
                leaving.append(str(old[0]))
        return leaving

    def confirm(self, photos: Iterable[str]) -> None:
        """Say that photos are in the engine."""
        self.write("UPDATE photos SET state = 1 WHERE photo = ?", *((photo,) for photo in photos))

    def leaving(self, paths: Iterable[str]) -> list[str]:
        """Forget files; photos without any file left are returned, for the engine to delete and then `forget`."""
        with self.change() as db:
            found = set()
            for path in paths:
                found |= {
                    str(photo) for (photo,) in db.execute("DELETE FROM files WHERE path = ? RETURNING photo", (path,))
                }
                db.execute("DELETE FROM faults WHERE path = ?", (path,))
            gone = [
                photo
                for photo in sorted(found)
                if not db.execute("SELECT 1 FROM files WHERE photo = ?", (photo,)).fetchone()
            ]
            db.executemany("UPDATE photos SET state = 2 WHERE photo = ?", [(photo,) for photo in gone])
            return gone

    def leave(self, photos: Iterable[str]) -> None:
        """Say that photos are about to be deleted from the engine."""
        self.write("UPDATE photos SET state = 2 WHERE photo = ?", *((photo,) for photo in photos))

    def forget(self, photos: Iterable[str]) -> None:
        """Say that photos are out of the engine; with their files, so that what was only announced is taken up
        again."""
        with self.change() as db:
            for photo in photos:
                db.execute("DELETE FROM photos WHERE photo = ?", (photo,))
                db.execute("DELETE FROM files WHERE photo = ?", (photo,))

    # sums

    def changing(self, photos: Iterable[str]) -> None:
        """Say that what the engine holds of photos is about to change: until `note`, their sums say nothing."""
        self.write("INSERT OR IGNORE INTO changing (photo) VALUES (?)", *((photo,) for photo in photos))

    def note(self, sums: Mapping[str, Sums]) -> None:
        """Note the sums of photos, those that are not None."""
        with self.change() as db:
            db.executemany(_NOTE, [(*astuple(one), photo) for photo, one in sums.items()])
            db.executemany("DELETE FROM changing WHERE photo = ?", [(photo,) for photo in sums])

    def in_change(self) -> list[str]:
        """Photos that a kill left between `changing` and `note`."""
        return [str(photo) for (photo,) in self.ask("SELECT photo FROM changing ORDER BY photo")]

    def settled(self) -> None:
        """Say that the sums of all photos are right again."""
        self.write("DELETE FROM changing", ())

    def sums(self, photos: Sequence[str]) -> dict[str, Sums]:
        """Photo → its sums, of those that are known and not in change."""
        question = (
            "SELECT photo, row_sum, entry_sum, hubness, thumbnail_sum FROM photos WHERE photo IN "
            "(SELECT value FROM json_each(?)) AND photo NOT IN (SELECT photo FROM changing)"
        )
        rows = self.ask(question, (json.dumps(list(photos)),))
        return {str(photo): Sums(*values) for photo, *values in rows}  # type: ignore[arg-type]

    def renew(self, sums: Mapping[str, Sums] | None) -> None:
        """Note sums of rows of another model, which count from `change_model` on; None forgets them."""
        if sums is None:
            self.write("DELETE FROM renewed", ())
        else:
            rows = ((photo, one.row) for photo, one in sums.items())
            self.write("INSERT OR REPLACE INTO renewed (photo, row_sum) VALUES (?, ?)", *rows)

    def unsettled(self) -> dict[str, int]:
        """Photos that a kill left between announcement and confirmation, with their states."""
        return {
            str(photo): int(str(state)) for photo, state in self.ask("SELECT photo, state FROM photos WHERE state <> 1")
        }

    def photos(self) -> list[str]:
        """Ids of the photos that are in the engine, ascending."""
        return [str(photo) for (photo,) in self.ask("SELECT photo FROM photos WHERE state = 1 ORDER BY photo")]

    def latest(self, count: int) -> list[str]:
        """Ids of the photos that came last, latest first."""
        question = "SELECT photo FROM photos WHERE state = 1 ORDER BY added DESC, photo LIMIT ?"
        return [str(photo) for (photo,) in self.ask(question, (count,))]

    def named(self, name: str) -> list[str]:
        """The photo with that id, or of the file with that path; empty if there is none."""
        question = "SELECT photo FROM photos WHERE photo = ?1 UNION SELECT photo FROM files WHERE path = ?1"
        return [str(photo) for (photo,) in self.ask(question, (name,))]

    def hashes(self) -> tuple[NDArray[np.uint64], list[str]]:
        """Perceptual hashes of all photos and their groups, in the order of the ids."""
        rows = self.ask("SELECT print, family FROM photos ORDER BY photo")
        return np.array([int(str(h)) for h, _ in rows], np.int64).view(np.uint64), [str(group) for _, group in rows]

    def groups(self, names: Iterable[str]) -> dict[str, list[str]]:
        """Group → its photos that are in the engine, for groups of two and more."""
        found: dict[str, list[str]] = {}
        wanted = json.dumps(sorted(names))
        question = (
            "SELECT family, photo FROM photos WHERE state = 1 AND family <> photo AND family IN (SELECT value FROM "
            "json_each(?1))"
            " UNION ALL SELECT family, photo FROM photos WHERE state = 1 AND family = photo AND photo IN (SELECT value "
            "FROM json_each(?1))"
        )
        for group, photo in self.ask(question, [wanted]):
            found.setdefault(str(group), []).append(str(photo))
        return {group: photos for group, photos in found.items() if len(photos) > 1}

    def files(self, photo: str | None = None) -> Iterator[File]:
        """Known files, by path; those of one photo if it is named."""
        question = (
            "SELECT path, photo, root, size, mtime, sidecar, sidecar_size, sidecar_mtime FROM files "
            "WHERE ?1 IS NULL OR photo = ?1 ORDER BY path"
        )
        for row in self.ask(question, [photo]):
            yield File(*row)  # type: ignore[arg-type]

    def holding(self, pattern: str) -> frozenset[str]:
        """Photos of a file whose name or folders hold a text, in any spelling; `*` and `?` stand for any letters. Of
        folders the added one and those below it count."""
        wanted = re.compile(fnmatch.translate(f"*{fold(pattern).replace('[', '[[]')}*"))
        files = self.ask("SELECT photo, substr(path, length(rtrim(root, replace(root, '/', ''))) + 1) FROM files")
        return frozenset(str(photo) for photo, path in files if wanted.match(fold(str(path))))

    def roots(self) -> list[str]:
        """Folders that were added, without those below others."""
        found = sorted(str(root) for (root,) in self.ask("SELECT DISTINCT root FROM files"))
        return [root for root in found if not any(root.startswith(other.rstrip("/") + "/") for other in found)]

    def fault(self, faults: Sequence[tuple[Fault, int, int]]) -> None:
        """Note files that could not be taken, with their size and mtime, so that they are looked at again only when
        they change; a size of -1 is that of no file."""
        with self.change() as db:
            db.executemany(
                "INSERT OR REPLACE INTO faults (path, code, what, advice, size, mtime, seen) "
                "VALUES (?, ?, ?, ?, ?, ?, ?)",
                [
                    (fault.where, fault.code, fault.what, fault.advice, size, mtime, now())
                    for fault, size, mtime in faults
                ],
            )

    def forget_faults(self, paths: Sequence[str]) -> None:
        """Forget files that could not be taken; they are looked at again if they are met again."""
        with self.change() as db:
            db.executemany("DELETE FROM faults WHERE path = ?", [(path,) for path in paths])

    def faults(self) -> dict[str, tuple[Fault, int, int]]:
        """Files that could not be taken, by path, with size and mtime."""
        found = {}
        for row in self.ask("SELECT path, code, what, advice, size, mtime FROM faults ORDER BY path"):
            path, code, what, advice, size, mtime = map(str, row)
            found[path] = (Fault(code, path, what, "left out", advice), int(size), int(mtime))
        return found

    # folders

    def walked(self, folder: str, left: Mapping[tuple[str, str, str], int], mounts: Iterable[str]) -> None:
        """Note what a walk of a folder left out, instead of what an earlier one did: (folder, code, suffix or pattern)
        → count; and which folders are mount points."""
        with self.change() as db:
            db.execute(
                "DELETE FROM left_out WHERE folder = ?1 OR substr(folder, 1, length(?2)) = ?2",
                (folder, folder.rstrip("/") + "/"),
            )
            db.executemany(
                "INSERT INTO left_out (folder, code, kind, count) VALUES (?, ?, ?, ?)",
                [(*key, count) for key, count in left.items()],
            )
            db.executemany("INSERT OR IGNORE INTO mounts (folder) VALUES (?)", [(mount,) for mount in mounts])

    def left_out(self) -> dict[tuple[str, str], int]:
        """What the latest walks left out: (code, suffix or pattern) → how many files and folders."""
        question = "SELECT code, kind, sum(count) FROM left_out GROUP BY code, kind ORDER BY code, kind"
        return {(str(code), str(kind)): int(str(count)) for code, kind, count in self.ask(question)}

    def mounts(self) -> frozenset[str]:
        """Folders that were mount points when they were last seen."""
        return frozenset(str(folder) for (folder,) in self.ask("SELECT folder FROM mounts"))

    def unmount(self, folders: Iterable[str]) -> None:
        """Note that folders are no mount points any more, and will be none: their files lie there without."""
        self.write("DELETE FROM mounts WHERE folder = ?", *((folder,) for folder in folders))

    def exclude(self, root: str, patterns: Sequence[str]) -> None:
        """Remember what to leave out below a root, instead of what was remembered; none forgets it."""
        with self.change() as db:
            db.execute("DELETE FROM excludes WHERE root = ?", (root,))
            if patterns:
                db.execute("INSERT INTO excludes (root, patterns) VALUES (?, ?)", (root, json.dumps(list(patterns))))

    def excludes(self, root: str) -> tuple[str, ...]:
        """What to leave out below a root."""
        return next(
            (
                tuple(json.loads(str(found)))
                for (found,) in self.ask("SELECT patterns FROM excludes WHERE root = ?", (root,))
            ),
            (),
        )

    def stale(self, paths: Iterable[str]) -> None:
        """Note that files have another content than the archive knows, so that the next `update` reads them."""
        self.write("UPDATE files SET mtime = -1 WHERE path = ?", *((path,) for path in paths))

    # jobs

    def begin(self, command: str, state: State = "running") -> int:
        """Note that a command started, or that it waits for its turn; returns its number."""
        with self.change() as db:
            at = now()
            values = (command, state, "", 0, 0, at, at, "")
            made = db.execute(
                "INSERT INTO jobs (command, state, stage, done, total, started, updated, message) VALUES (?, ?, ?, ?, "
                "?, ?, ?, ?)",
                values,
            )
            assert made.lastrowid is not None
            return made.lastrowid

    def interrupted(self) -> None:
        """Mark jobs that a kill left waiting or running as stopped; for who holds the archive and has begun nothing."""
        self.write("UPDATE jobs SET state = 'stopped' WHERE state IN ('waiting', 'running')", ())

    def report(self, job: int, stage: str, done: int, total: int) -> None:
        """Note how far a job is; one that waited runs from now on."""
        change = "UPDATE jobs SET state = 'running', stage = ?, done = ?, total = ?, updated = ? WHERE job = ?"
        self.write(change, (stage, done, total, now(), job))

    def end(self, job: int, state: State, message: str = "") -> None:
        """Note how a job ended."""
        self.write("UPDATE jobs SET state = ?, message = ?, updated = ? WHERE job = ?", (state, message, now(), job))

    def jobs(self, last: int = 20) -> list[Job]:
        """The latest jobs, newest first."""
        return self._jobs("ORDER BY job DESC LIMIT ?", last)

    def job(self, number: int) -> Job | None:
        """One job; None if there is none of that number."""
        return next(iter(self._jobs("WHERE job = ?", number)), None)

    def _jobs(self, which: str, value: int) -> list[Job]:
        columns = "job, command, state, stage, done, total, started, updated, message"
        rows = self.ask(f"SELECT {columns} FROM jobs {which}", (value,))  # noqa: S608  our own words
        return [Job(*row) for row in rows]  # type: ignore[arg-type]

    def last_job(self) -> tuple[object, ...]:
        """When a job last changed, and how many there are: another answer says that the archive may have changed."""
        return self.ask("SELECT max(updated), count(*) FROM jobs")[0]

    def count(self, table: str) -> int:
        """How many rows a table has: "photos", "files", "faults", "uses", "picks" (those that stand) or "bank"."""
        assert table in ("photos", "files", "faults", "uses", "picks", "bank")
        which = " WHERE withdrawn = ''" if table == "picks" else ""
        return int(str(self.ask(f"SELECT count(*) FROM {table}{which}")[0][0]))  # noqa: S608  as above

    def damage(self) -> list[str]:
        """What is wrong with the file: with its trees, as SQLite finds, and rows that are not what was written."""
        with self._lock:
            try:
                found = [f"SQLite finds: {said}" for (said,) in self._db.execute("PRAGMA integrity_check(10)")]
                found = [] if found == ["SQLite finds: ok"] else found
                return found + [
                    f"the row {key!r} of {table} is not as written" for table, key in seals.broken(self._db)
                ]
            except sqlite3.Error as error:
                return [f"SQLite finds: {error}"]

    def check(self, table: str) -> None:
        """Raise where a row of a table is not what was written.

        Raises:
            StoreError: names the first one.
        """
        with self._lock, _as_store_error(self.path):
            for _, key in seals.broken(self._db, table):
                raise StoreError(
                    _DAMAGED.format(file=self.path, reason=f"the row {key!r} of {table} is not as written")
                )

    def copy(self, path: Path) -> None:
        """Write a consistent copy to a new file, while this one is in use."""
        with self._lock, _as_store_error(path):
            target = sqlite3.connect(path)
            with target:
                self._db.backup(target)
            target.close()


_SET = "INSERT OR REPLACE INTO settings (name, value) VALUES (?, ?)"
_NOTE = (
    "UPDATE photos SET row_sum = ifnull(?, row_sum), entry_sum = ifnull(?, entry_sum), hubness = ifnull(?, hubness), "
    "thumbnail_sum = ifnull(?, thumbnail_sum) WHERE photo = ?"
)


@contextmanager
def _transaction(db: sqlite3.Connection) -> Iterator[None]:
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def _statements(script: str) -> list[str]:
    """The statements of a script; `executescript` would end the transaction."""
    plain = "\n".join(line.partition("--")[0] for line in script.splitlines())
    return [statement for statement in plain.split(";") if statement.strip()]


def _schema(db: sqlite3.Connection) -> list[tuple[str, str]]:
    """Name and definition of every table and index."""
    rows = db.execute("SELECT name, sql FROM main.sqlite_schema WHERE sql IS NOT NULL ORDER BY name")
    return [(str(name), " ".join(str(sql).split())) for name, sql in rows]


@functools.cache
def _schema_of(version: int) -> list[tuple[str, str]]:
    """What a database of that version has."""
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as db:
        for step in MIGRATIONS[:version]:
            db.executescript(step)
        return _schema(db)


def _identity(path: Path) -> tuple[int, int]:
    """Which file that is; zeros where there is none."""
    try:
        found = os.stat(path)  # noqa: PTH116  a tenth of the time
        return found.st_dev, found.st_ino
    except OSError:
        return 0, 0


def _signed(value: int) -> int:
    return value - 2**64 if value >= 2**63 else value


@contextmanager
def _as_store_error(path: Path) -> Iterator[None]:
    """What the disk, another process or a damaged file does to the SQLite file at `path` becomes a StoreError; anything
    else that SQLite refuses is a mistake of ours, and stays what it is."""
    try:
        yield
    except UnicodeDecodeError as error:  # in a name of the schema, which SQLite quotes
        raise StoreError(_DAMAGED.format(file=path, reason=error)) from None
    except sqlite3.Error as error:
        # the low byte is the primary result code: https://sqlite.org/rescode.html; the module's own errors have none
        trouble = _TROUBLE.get(getattr(error, "sqlite_errorcode", sqlite3.SQLITE_OK) & 0xFF)
        if isinstance(error, sqlite3.OperationalError) and not hasattr(error, "sqlite_errorcode"):
            trouble = _DAMAGED  # the module's own, for a text that is not UTF-8
        if trouble is None:
            raise
        raise StoreError(trouble.format(file=path, folder=path.parent, reason=error)) from None


_KEPT = "what was reported as done is kept: make room and repeat the command"
_DAMAGED = "{file} is damaged ({reason}); restore it from a backup: see docs/archive.md"
_IN_USE = "{folder} is in use by another process; try again when it is done"
_CLOSED = "cannot use {file}: {reason}; check that the folder exists and can be written"
_TROUBLE = {
    sqlite3.SQLITE_FULL: "no room left on the disk of {folder}; " + _KEPT,
    sqlite3.SQLITE_IOERR: "cannot write to the disk of {folder}; " + _KEPT,
    sqlite3.SQLITE_READONLY: "cannot write {folder}: it is read-only; nothing was changed",
    sqlite3.SQLITE_BUSY: _IN_USE,
    sqlite3.SQLITE_LOCKED: _IN_USE,
    sqlite3.SQLITE_PROTOCOL: _IN_USE,
    sqlite3.SQLITE_CORRUPT: _DAMAGED,
    sqlite3.SQLITE_NOTADB: _DAMAGED,
    sqlite3.SQLITE_FORMAT: _DAMAGED,
    sqlite3.SQLITE_CANTOPEN: _CLOSED,
    sqlite3.SQLITE_PERM: _CLOSED,
    sqlite3.SQLITE_AUTH: _CLOSED,
    sqlite3.SQLITE_NOLFS: _CLOSED,
    sqlite3.SQLITE_TOOBIG: _CLOSED,
}
"""SQLite's result code → what that means for an archive."""
