"""`flat:PATH`: our exact scan of memory-mapped rows; the research path, and the oracle for the other engines.

`points.sqlite` says which slot of `rows.bin` (d float32 each), `codes.bin` (d int8) and `bounds.bin` (2 float32) a
photo has, and its payload. New rows go into free slots before the database names them, so a kill leaves the old state
or the new one.
"""

from __future__ import annotations

import functools
import heapq
import json
import os
import sqlite3
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

from photodesk.engines import bm25, int8, seals
from photodesk.engines.base import Space
from photodesk.engines.schema import EVERYTHING, Entry, Filter, Point, counted
from photodesk.engines.sums import Sums
from photodesk.errors import EngineDamaged, StoreError
from photodesk.files import as_store_error, locked
from photodesk.types import FloatArray, Hit

FEW = 0.1
"""Below this share of admitted rows they are gathered; above it all rows are scanned, since rows that lie one after the
other are read faster than scattered ones."""
ROUNDING = 1e-5
"""What float32 products of rows of unit length may be off by, generously."""

P = ParamSpec("P")
R = TypeVar("R")


def _alone(method: Callable[Concatenate[ScanEngine, P], R]) -> Callable[Concatenate[ScanEngine, P], R]:
    """One thread at a time: a search must not see half of a change."""

    @functools.wraps(method)
    def waiting(self: ScanEngine, /, *arguments: P.args, **more: P.kwargs) -> R:
        with self._guard:
            return method(self, *arguments, **more)

    return waiting


class ScanEngine:
    """See `base.Engine`; make one with `open`."""

    def __init__(self, path: Path, space: Space, uri: str, db: sqlite3.Connection, lock: int, sums: Sums) -> None:
        self.path, self.space, self.uri, self._db, self._lock, self._sums = path, space, uri, db, lock, sums
        self._slots = int8.Slots(path, space.dim)
        self._guard = threading.RLock()
        self._slot: dict[str, int] = {}
        self._entries: dict[str, Entry] = {}
        self._admitted: dict[Filter, NDArray[np.bool_]] = {}
        self._words: dict[int, tuple[NDArray[np.intp], FloatArray]] | None = None
        self._worded = 0  # photos with any word
        found = db.execute("SELECT photo, slot, number, payload FROM points ORDER BY photo").fetchall()
        size = max((slot for _, slot, *_ in found), default=-1) + 1
        self._slots.map(size)  # refuses what the files do not hold before anything of that size is made
        self._ids = np.full(size, "", "U32")
        self._offsets = np.zeros(size, np.float32)
        for photo, slot, offset, payload in found:
            self._note(photo, slot, offset, Entry.of(json.loads(payload)))
        self._free = [slot for slot in range(size) if not self._ids[slot]]

    @classmethod
    def open(cls, path: Path, space: Space, *, uri: str = "", create: bool = False) -> ScanEngine:
        """Open or make the index in a folder; see `open_engine`."""
        if create and path.exists() and any(path.iterdir()):
            raise StoreError(f"{path} is not empty; name a new folder for the index")
        if not create and not (path / "points.sqlite").exists():
            raise EngineDamaged(path, f"{path} holds no index")
        lock, sums = -1, _sums(path)
        try:
            path.mkdir(parents=True, exist_ok=True)
            lock = locked(path / "lock", reading=not create)
            for name, what in sums.wrong():
                raise EngineDamaged(path, f"{path / name} {what}")
            db, read_only = seals.connect(path / "points.sqlite")
            if create:
                db.execute(
                    "CREATE TABLE points (photo TEXT PRIMARY KEY, slot INTEGER UNIQUE, number REAL, payload TEXT, "
                    "seal BLOB) WITHOUT ROWID"
                )
                db.execute(f"PRAGMA user_version={space.dim}")
            dim = int(db.execute("PRAGMA user_version").fetchone()[0])
            if dim != space.dim:
                raise StoreError(f"{path} holds rows of {dim} numbers and the archive's encoder makes {space.dim}")
            if not read_only and "seal" not in (
                name for _, name, *_ in db.execute("PRAGMA table_info(points)")
            ):  # of an older photodesk
                sums.changing()
                db.execute("BEGIN IMMEDIATE")
                db.execute("ALTER TABLE points ADD COLUMN seal BLOB")
                seals.seal_all(db)
                db.execute("COMMIT")
            if not read_only:
                seals.install(db)
            return cls(path, space, uri or f"flat:{path}", db, lock, sums)
        except OSError as error:
            if lock >= 0:
                os.close(lock)
            raise StoreError(f"cannot use the index {path}: {error}; see docs/archive.md") from None
        except (sqlite3.Error, ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
            if lock >= 0:
                os.close(lock)
            raise EngineDamaged(path, f"cannot use the index {path}: {error}") from None
        except BaseException:
            if lock >= 0:
                os.close(lock)
            raise

    @_alone
    def upsert(self, points: Sequence[Point]) -> None:
        """See `base.Engine`."""
        points = list({point.photo: point for point in points}.values())
        if not points:
            return
        self._check_open()
        slots = [heapq.heappop(self._free) if self._free else -1 for _ in points]
        grown = len(self._ids)
        for i, slot in enumerate(slots):
            if slot < 0:
                slots[i], grown = grown, grown + 1
        rows = np.stack([point.row for point in points]).astype(np.float32)
        self._sums.changing()
        with as_store_error(f"cannot write {self.path}", "what was reported as done is kept"):
            try:
                self._slots.write(slots, rows)
            except OSError:
                self._free = sorted({*self._free, *(slot for slot in slots if slot < len(self._ids))})
                raise
        payloads = [json.dumps(point.entry.payload(), ensure_ascii=False) for point in points]
        lines = [
            (p.photo, slot, float(p.offset), payload) for p, slot, payload in zip(points, slots, payloads, strict=True)
        ]
        self._commit(
            "INSERT OR REPLACE INTO points (photo, slot, number, payload) VALUES (?, ?, ?, ?)", lines
        )  # from here on the rows count
        more = grown - len(self._ids)
        self._ids = np.concatenate([self._ids, np.full(more, "", "U32")])
        self._offsets = np.concatenate([self._offsets, np.zeros(more, np.float32)])
        for point, slot in zip(points, slots, strict=True):
            self._drop(point.photo)
            self._note(point.photo, slot, point.offset, Entry.of(point.entry.payload()))
        self._slots.map(len(self._ids))

    @_alone
    def delete(self, photos: Sequence[str]) -> None:
        """See `base.Engine`."""
        self._commit("DELETE FROM points WHERE photo = ?", [(photo,) for photo in photos])
        for photo in photos:
            self._drop(photo)

    @_alone
    def describe(self, entries: Mapping[str, Entry]) -> None:
        """See `base.Engine`."""
        there = {photo: entry for photo, entry in entries.items() if photo in self._slot}
        lines = [(json.dumps(entry.payload(), ensure_ascii=False), photo) for photo, entry in there.items()]
        self._commit("UPDATE points SET payload = ? WHERE photo = ?", lines)
        self._entries |= {photo: Entry.of(entry.payload()) for photo, entry in there.items()}
        self._changed()

    @_alone
    def revise(self, photos: Sequence[str], offsets: FloatArray) -> None:
        """See `base.Engine`."""
        there = [
            (float(offset), photo)
            for photo, offset in zip(photos, offsets.tolist(), strict=True)
            if photo in self._slot
        ]
        self._commit("UPDATE points SET number = ? WHERE photo = ?", there)
        for offset, photo in there:
            self._offsets[self._slot[photo]] = offset

    @_alone
    def get(self, photos: Sequence[str], *, rows: bool = False) -> list[Point]:
        """See `base.Engine`."""
        return [self._point(photo, rows) for photo in photos if photo in self._slot]

    def scan(self, *, rows: bool = True, batch: int = 1000, where: Filter = EVERYTHING) -> Iterator[list[Point]]:
        """See `base.Engine`."""
        wanted = self._some(where)
        for start in range(0, len(wanted), batch):
            yield self.get(wanted[start : start + batch], rows=rows)

    @_alone
    def search(self, query: FloatArray, k: int, where: Filter = EVERYTHING, *, revised: float = 0.0) -> tuple[Hit, ...]:
        """See `base.Engine`."""
        admitted = self._admits(where)
        k = min(k, int(admitted.sum()))
        if not k:
            return ()
        at = self._candidates(query, k, admitted, revised)
        # summed in double precision: what a row scores does not depend on which other rows there are
        exact = self._slots.rows[at].astype(np.float64) @ query.astype(np.float64) - revised * self._offsets[at].astype(
            np.float64
        )
        hits = zip(exact.astype(np.float32).tolist(), self._ids[at].tolist(), strict=True)
        return tuple(Hit(photo, score) for score, photo in sorted(hits, key=lambda hit: (-hit[0], hit[1]))[:k])

    @_alone
    def lexical(self, query: str, k: int, where: Filter = EVERYTHING) -> tuple[Hit, ...]:
        """See `base.Engine`."""
        admitted, scores = self._admits(where), np.zeros(len(self._ids), np.float64)
        index = self._inverted()
        there = self._worded
        for word, weight in zip(*bm25.query(query, self.space.language), strict=True):
            if word in index:
                at, weights = index[word]
                rare = np.log1p((there - len(at) + 0.5) / (len(at) + 0.5))
                scores[at] += weight * rare * weights
        at = np.flatnonzero(admitted & (scores > 0))
        if len(at) > k:
            at = at[scores[at] >= np.partition(scores[at], len(at) - k)[len(at) - k]]
        hits = sorted(zip((-scores[at]).tolist(), self._ids[at].tolist(), strict=True))
        return tuple(Hit(photo, -score) for score, photo in hits[:k])

    @_alone
    def facets(self, field: str, k: int = 20, where: Filter = EVERYTHING) -> dict[str, int]:
        """See `base.Engine`."""
        entries = [self._entries[photo] for photo in self._ids[self._admits(where)].tolist()]
        return dict(list(counted(entries, field).items())[:k]) if entries or Entry().values(field) == () else {}

    @_alone
    def count(self, where: Filter = EVERYTHING) -> int:
        """See `base.Engine`."""
        return int(self._admits(where).sum())

    @_alone
    def damage(self, *, repair: bool = False) -> Iterator[tuple[str, str, bool]]:
        """See `base.Engine`."""
        found = [(str(self.path / name), what, repair) for name, what in self._sums.wrong(whole=True)]
        try:
            wrong = str(self._db.execute("PRAGMA integrity_check").fetchone()[0])
            found += [(str(self.path / "points.sqlite"), f"SQLite finds: {wrong}", False)] if wrong != "ok" else []
            found += [(photo, "its line in points.sqlite is damaged", False) for _, photo in seals.broken(self._db)]
        except sqlite3.Error as error:
            found.append((str(self.path / "points.sqlite"), f"SQLite finds: {error}", False))
        taken = np.flatnonzero(self._ids != "")
        for start in range(0, len(taken), 4096):
            slots = taken[start : start + 4096]
            rows = self._slots.rows[slots]
            wrong_codes = slots[self._slots.uncoded(slots)]
            found += [
                (str(photo), "its 8-bit codes are not those of its row", repair) for photo in self._ids[wrong_codes]
            ]
            if repair and len(wrong_codes):
                self._sums.changing()
                self._slots.write(wrong_codes.tolist(), np.array(rows[np.isin(slots, wrong_codes)]))
        if repair and found:
            self._sums.changing()  # sums of what is there now, when it is closed
        return iter(found)

    def optimise(self) -> None:
        """See `base.Engine`; there is nothing to do."""

    @_alone
    def snapshot(self, folder: Path) -> None:
        """See `base.Engine`."""
        with as_store_error(f"cannot copy the index to {folder}", "make room or name another place", sqlite3.Error):
            folder.mkdir(parents=True)
            self._slots.copy(folder)
            with sqlite3.connect(folder / "points.sqlite") as target:
                self._db.backup(target)
            target.close()
            _sums(folder).write()

    @_alone
    def close(self) -> None:
        """See `base.Engine`."""
        if self._lock >= 0:
            self._db.close()
            self._ids = self._ids[:0]
            self._slots.map(0)  # closes the files
            self._sums.write()
            os.close(self._lock)
            self._lock = -1

    @_alone
    def _some(self, where: Filter) -> list[str]:
        return sorted(self._ids[self._admits(where)].tolist())

    def _candidates(self, query: FloatArray, k: int, admitted: NDArray[np.bool_], revised: float) -> NDArray[np.intp]:
        """Slots that surely hold the k best, and not many more."""
        minus = np.float32(revised) * self._offsets
        some = np.flatnonzero(admitted)
        if len(some) <= FEW * len(admitted):
            estimate, slack = self._slots.rows[some] @ query - minus[some], np.full(len(some), ROUNDING, np.float32)
        elif found := int8.bounded(self._slots.codes, self._slots.bounds, query):
            estimate, slack = found[0] - minus, found[1]
            if len(some) < len(admitted):
                estimate, slack = estimate[some], slack[some]
        else:
            estimate, slack = (self._slots.rows @ query - minus)[some], np.full(len(some), ROUNDING, np.float32)
        # k rows are at least that good for sure, so a row that cannot reach it is not among the best
        limit = np.partition(estimate - slack, len(some) - k)[len(some) - k]
        at: NDArray[np.intp] = some[estimate + slack >= limit]
        if len(at) > 20 * k + 10000:  # rows too much alike for their codes: float32 narrows them down
            estimate = (
                self._slots.rows[at] @ query - minus[at]
                if len(at) < len(minus) / 2
                else (self._slots.rows @ query - minus)[at]
            )
            limit = np.partition(estimate, len(at) - k)[len(at) - k] - ROUNDING
            at = at[estimate >= limit]
        return at

    def _admits(self, where: Filter) -> NDArray[np.bool_]:
        if where not in self._admitted:
            mask = self._ids != ""
            if where:
                for slot in np.flatnonzero(mask).tolist():
                    photo = str(self._ids[slot])
                    mask[slot] = where.admits(photo, self._entries[photo])
            if len(self._admitted) > 64:  # a filter that excludes used photos is another one every day
                self._admitted.clear()
            self._admitted[where] = mask
        return self._admitted[where]

    def _inverted(self) -> dict[int, tuple[NDArray[np.intp], FloatArray]]:
        if self._words is None:
            found: defaultdict[int, list[tuple[int, float]]] = defaultdict(list)
            self._worded = 0
            for photo, slot in self._slot.items():
                words, weights = bm25.document(self._entries[photo].text, self.space.language)
                self._worded += bool(words)
                for word, weight in zip(words, weights, strict=True):
                    found[word].append((slot, weight))
            self._words = {
                word: (np.array([s for s, _ in pairs], np.intp), np.array([w for _, w in pairs], np.float32))
                for word, pairs in found.items()
            }
        return self._words

    def _check_open(self) -> None:
        if self._lock < 0:
            raise StoreError(f"{self.uri} is closed")

    def _point(self, photo: str, rows: bool) -> Point:
        if not rows:
            return Point(photo, np.empty(0, np.float32), self._entries[photo])
        slot = self._slot[photo]
        return Point(photo, np.array(self._slots.rows[slot]), self._entries[photo], float(self._offsets[slot]))

    def _note(self, photo: str, slot: int, offset: float, entry: Entry) -> None:
        self._slot[photo], self._entries[photo], self._ids[slot], self._offsets[slot] = slot, entry, photo, offset
        self._changed()

    def _drop(self, photo: str) -> None:
        if (slot := self._slot.pop(photo, -1)) >= 0:
            del self._entries[photo]
            self._ids[slot], self._offsets[slot] = "", 0
            heapq.heappush(self._free, slot)
            self._changed()

    def _changed(self) -> None:
        self._admitted.clear()
        self._words = None

    def _commit(self, statement: str, lines: Sequence[tuple[object, ...]]) -> None:
        self._check_open()
        self._sums.changing()
        try:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany(statement, lines)
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise StoreError(f"cannot write {self.path}: {error}; what was reported as done is kept") from None


def _sums(path: Path) -> Sums:
    return Sums(path, lambda name: name in int8.FILES, ignored=("lock", "points.sqlite-wal", "points.sqlite-shm"))
