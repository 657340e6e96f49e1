"""One tower's rows on disk: append-only shards that are mapped, not read; one writer, many readers, a kill at any
instant.

    manifest.json   the tower, the type of its rows, and every full shard with its number of rows and the SHA-256 of its
    files 000001.rows     (n, dim) float32 or float16 and nothing else, so it maps as an array
    000001.log      for each row its key (16 bytes), the CRC32 of key and row, 4 bytes unused
    000001.index    of a full shard: its keys, sorted, then the row of each
    lock            held by the one writer

A batch goes to the rows first and to the log then, so what the log names is there; both are with the operating system
before the batch is reported as done. The last shard is open: after a kill it is cut to what both files hold whole, and
a record that fails its CRC is left out. A full shard is never written again: it is synced, summed, and enters the
manifest, which is replaced as a whole. Readers take no lock: they read the manifest and what the open shard holds by
then. Every row that is handed out has passed its CRC, and its record has the key that was asked for.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from photodesk.errors import StoreError
from photodesk.files import as_store_error, locked, read_text, replacing
from photodesk.types import FloatArray

FORMAT = "photodesk-rows/2"
SHARD_BYTES = 256 << 20
"""A shard is full when its rows take so much."""

RECORD = np.dtype([("key", "S16"), ("crc", "<u4"), ("unused", "V4")])
SUFFIXES = ("rows", "log", "index")
BLOCK = 4096  # rows that are read and checked at once

Positions = NDArray[np.int64]  # number of the part · 2³² + row; −1 is nowhere
Keys = NDArray[np.bytes_]  # (n,) of dtype S16; item access strips zero bytes at the end, `tobytes` does not


@dataclass(frozen=True, slots=True)
class Listed:
    """A full shard as the manifest lists it: its name, its rows, and the SHA-256 of each of its files by suffix."""

    name: str
    rows: int
    sha256: dict[str, str]


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a tower's folder holds; `next` is the number of the open shard."""

    tower: str
    dim: int
    dtype: str = "float32"
    next: int = 1
    shards: tuple[Listed, ...] = ()

    @property
    def row_bytes(self) -> int:
        """Bytes of a row on disk."""
        return self.dim * np.dtype(self.dtype).itemsize

    @property
    def open_name(self) -> str:
        """The name of the open shard."""
        return f"{self.next:06d}"

    def write(self, folder: Path) -> None:
        """Put it in the place of the one before, whole."""
        with replacing(folder / "manifest.json") as stream:
            stream.write(json.dumps({"format": FORMAT, **asdict(self)}, indent=1) + "\n")


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of a tower's folder; None where there is none yet.

    Raises:
        StoreError: it is damaged or of another format.
    """
    path = folder / "manifest.json"
    try:
        about = json.loads(read_text(path))
        if about.pop("format") != FORMAT:
            raise StoreError(
                f"{path} is of another version of photodesk, not {FORMAT}; name another folder with --cache"
            )
        shards = tuple(Listed(**one) for one in about.pop("shards"))
        made = Manifest(**about, shards=shards)
        counts = [made.dim - 1, made.next - 1, *(shard.rows for shard in shards)]
        if any(type(count) is not int or count < 0 for count in counts) or made.dtype not in ("float32", "float16"):
            raise ValueError("its numbers of rows are none, or rows of another kind")
        if not all(re.fullmatch(r"\w+", shard.name) for shard in shards):
            raise ValueError("a shard's name is none")
        return made
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise StoreError(f"{path} is damaged ({error}); delete its folder, and its rows are encoded again") from None


def folder_name(tower: str) -> str:
    """The folder of a tower's rows: its fingerprint, without what file systems dislike."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", tower)


def split(keys: Keys) -> list[bytes]:
    """The keys of an array, 16 bytes each."""
    raw = np.ascontiguousarray(keys).tobytes()
    return [raw[i : i + 16] for i in range(0, len(raw), 16)]


def joined(keys: Sequence[bytes]) -> Keys:
    """Keys as an array."""
    return np.frombuffer(b"".join(keys), "S16")


def crc(keys: Sequence[bytes], rows: NDArray[Any]) -> NDArray[np.uint32]:
    """(n,) CRC32 of each key and its row as it lies on disk."""
    rows = np.ascontiguousarray(rows)
    return np.array([zlib.crc32(row, zlib.crc32(key)) for key, row in zip(keys, rows, strict=True)], np.uint32)


def blocks(count: int) -> Iterator[NDArray[np.int64]]:
    """0 … count − 1 in pieces that fit memory."""
    for start in range(0, count, BLOCK):
        yield np.arange(start, min(start + BLOCK, count))


def index_of(keys: Keys, at: NDArray[np.int64]) -> tuple[Keys, NDArray[np.uint32]]:
    """Keys sorted, and the row of each; of records with one key the last stands."""
    order = np.argsort(keys, kind="stable")
    last = np.ones(len(order), bool)
    last[:-1] = keys[order[1:]] != keys[order[:-1]]
    return keys[order][last], at[order][last].astype("<u4")


def mapped(path: Path, dtype: np.dtype[Any], count: int) -> NDArray[Any]:
    """The first `count` items of a file.

    Raises:
        FileNotFoundError: it is not there.
        StoreError: it has fewer.
    """
    if not count:
        return np.zeros(0, dtype)
    size = path.stat().st_size
    if size < count * dtype.itemsize:
        raise StoreError(
            f"{path} is cut short: {size} bytes of {count * dtype.itemsize}; keep what is whole with: photodesk store "
            "compact"
        )
    return np.memmap(path, dtype, "r", shape=(count,))


def whole(folder: Path, manifest: Manifest, name: str) -> int:
    """How many records of a shard both of its files hold whole."""
    sizes = []
    for suffix, size in (("rows", manifest.row_bytes), ("log", RECORD.itemsize)):
        path = folder / f"{name}.{suffix}"
        sizes.append(path.stat().st_size // size if path.exists() else 0)
    return min(sizes)


class Part:
    """One shard, mapped: `rows` (n, dim) and `log` (n,) records."""

    def __init__(self, folder: Path, manifest: Manifest, name: str, count: int) -> None:
        self.path = folder / name
        self.rows = mapped(folder / f"{name}.rows", np.dtype(manifest.dtype), count * manifest.dim).reshape(
            count, manifest.dim
        )
        self.log = mapped(folder / f"{name}.log", RECORD, count)

    def sound(self, at: NDArray[np.int64]) -> NDArray[np.bool_]:
        """(n,) which of the rows `at` agree with their CRC."""
        found: NDArray[np.bool_] = crc(split(self.log["key"][at]), self.rows[at]) == self.log["crc"][at]
        return found

    def index(self) -> tuple[Keys, NDArray[np.uint32]]:
        """The keys of its sound records, sorted, and the row of each."""
        at = np.concatenate([np.zeros(0, np.int64), *(block[self.sound(block)] for block in blocks(len(self.log)))])
        return index_of(self.log["key"][at], at)


class Sealed(Part):
    """A full shard, with the index by which its rows are found."""

    def __init__(self, folder: Path, manifest: Manifest, listed: Listed) -> None:
        super().__init__(folder, manifest, listed.name, listed.rows)
        path = folder / f"{listed.name}.index"
        count = path.stat().st_size // 20
        flat = mapped(path, np.dtype("u1"), 20 * count)
        self.keys, self.at = flat[: 16 * count].view("S16"), flat[16 * count :].view("<u4")
        if not (self.keys[1:] > self.keys[:-1]).all():  # damaged: in what is not sorted nothing is found for sure
            self.keys, self.at = self.index()

    def find(self, keys: Keys) -> Positions:
        """(n,) row of each key, −1 where it is not here or the index is damaged: what it leads to has to have that key
        in the log."""
        if not len(self.keys) or not len(self.log):
            return np.full(len(keys), -1, np.int64)
        place = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        at = self.at[place].astype(np.int64)
        there = self.log["key"][np.minimum(at, len(self.log) - 1)] == keys
        return np.where((self.keys[place] == keys) & (at < len(self.log)) & there, at, -1)


class Tail:
    """The open shard of the writer.

    Attributes:
        at: the row of each of its keys.
        count: its records, of which some may be damaged or superseded.
    """

    def __init__(self, folder: Path, manifest: Manifest, at: dict[bytes, int], count: int) -> None:
        self._folder, self._manifest, self.at, self.count = folder, manifest, at, count
        self._files = [open(folder / f"{manifest.open_name}.{suffix}", "ab", buffering=0) for suffix in SUFFIXES[:2]]  # noqa: PTH123, SIM115
        for file, size in zip(self._files, (manifest.row_bytes, RECORD.itemsize), strict=True):
            file.truncate(count * size)  # what a kill cut short

    @property
    def size(self) -> int:
        """Bytes of its rows."""
        return self.count * self._manifest.row_bytes

    def append(self, keys: Sequence[bytes], rows: FloatArray) -> None:
        """Add n records."""
        stored = np.ascontiguousarray(rows, self._manifest.dtype)
        log = np.zeros(len(keys), RECORD)
        log["key"], log["crc"] = joined(keys), crc(keys, stored)
        with as_store_error(f"cannot write the store {self._folder}", "what was encoded so far is kept"):
            for file, array in zip(self._files, (stored, log), strict=True):
                data = array.tobytes()
                while data:  # a write may take only a part
                    data = data[file.write(data) :]
        self.at.update(zip(keys, range(self.count, self.count + len(keys)), strict=True))
        self.count += len(keys)

    def sync(self) -> None:
        """Return when the disk has it."""
        for file in self._files:
            os.fsync(file.fileno())

    def seal(self) -> Listed:
        """Its line in the manifest; nothing is written to it from here on."""
        self.sync()
        self.close()
        name = self._manifest.open_name
        keys, at = index_of(joined(list(self.at)), np.fromiter(self.at.values(), np.int64, len(self.at)))
        with replacing(self._folder / f"{name}.index", "wb") as stream:
            stream.write(keys.tobytes() + at.tobytes())
        return Listed(name, self.count, {suffix: file_sum(self._folder / f"{name}.{suffix}") for suffix in SUFFIXES})

    def close(self) -> None:
        """Give the files back."""
        while self._files:
            self._files.pop().close()


def file_sum(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


class StoredRows:
    """Rows of a store, read from the memory map when they are asked for: n rows cost 8 n bytes, whatever their length.

    `rows[i]`, `rows[a:b]`, `rows[index array]` and `rows[mask]` read just these, as float32 in an array of their own,
    each checked by its CRC the first time; `np.asarray(rows)` reads all; `rows.take(index array)` reads none. Later
    writing to the store does not change them.

    Attributes:
        shape: (n, d).
    """

    dtype = np.dtype(np.float32)
    ndim = 2

    def __init__(self, parts: Sequence[Part], at: Positions, dim: int) -> None:
        self._parts, self._at = tuple(parts), at
        self._passed = np.zeros(len(at), np.bool_)
        self.shape = (len(at), dim)

    def __len__(self) -> int:
        return len(self._at)

    def take(self, which: slice | NDArray[Any] | Sequence[int]) -> StoredRows:
        """The same rows in another order, or some of them, without reading them."""
        return StoredRows(self._parts, self._at[which], self.shape[1])

    def __getitem__(self, which: int | np.integer[Any] | slice | NDArray[Any] | Sequence[int]) -> FloatArray:
        if isinstance(which, int | np.integer):
            one: FloatArray = self[np.array([which])][0]
            return one
        out, bad = self.read(which)
        if len(bad):
            at = int(self._at[which][bad[0]])
            path = self._parts[at >> 32].path
            raise StoreError(
                f"row {at & 0xFFFFFFFF} of {path}.rows is damaged; drop what is damaged with: photodesk store compact"
            )
        return out

    def __array__(self, dtype: np.dtype[Any] | None = None, copy: bool | None = None) -> NDArray[Any]:
        return self[:] if dtype is None else self[:].astype(dtype, copy=False)

    def damaged(self) -> NDArray[np.int64]:
        """Which of the n rows are damaged: reads all, in bounded memory."""
        return np.concatenate([np.zeros(0, np.int64), *(block[self.read(block)[1]] for block in blocks(len(self)))])

    def read(self, which: slice | NDArray[Any] | Sequence[int] = slice(None)) -> tuple[FloatArray, NDArray[np.int64]]:
        """(k, d) rows, and which of the k are damaged."""
        asked = (
            np.arange(len(self))[which]
            if isinstance(which, slice) or np.asarray(which).dtype == np.bool_
            else np.asarray(which, np.int64)
        )
        at = self._at[asked]
        out, good = np.empty((len(at), self.shape[1]), np.float32), self._passed[asked]
        order = np.argsort(at, kind="stable")  # shard by shard, forwards
        for block in blocks(len(order)):
            chosen = order[block]
            for number in np.unique(at[chosen] >> 32).tolist():
                to = chosen[at[chosen] >> 32 == number]
                part, rows = self._parts[number], at[to] & 0xFFFFFFFF
                stored = part.rows[rows]
                if len(new := np.flatnonzero(~good[to])):
                    log = part.log[rows[new]]
                    good[to[new]] = crc(split(log["key"]), stored[new]) == log["crc"]
                out[to] = stored
        self._passed[asked[good]] = True
        return out, np.flatnonzero(~good)


class Shards:
    """A tower's rows: a context for the one writer; `Shards.open` for readers.

    Args:
        folder: of this tower; the first writer makes it.
        tower: fingerprint of the tower.
        dim: numbers per row.
        dtype: "float32" or "float16", of rows that are new here; a folder keeps the type it has.
        shard_bytes: of rows after which a shard is full.

    Raises:
        StoreError: the rows are another tower's, a shard is damaged, another process is writing, or the folder cannot
        be written.
    """

    def __init__(
        self, folder: Path, tower: str, dim: int, *, dtype: str = "float32", shard_bytes: int = SHARD_BYTES
    ) -> None:
        self.folder, self._shard_bytes = folder, shard_bytes
        self.manifest = Manifest(tower, dim, dtype)
        self._tail: Tail | None = None

    @classmethod
    def open(cls, folder: Path, tower: str, dim: int) -> Shards:
        """The rows as they are now, for reading beside a writer."""
        shards = cls(folder, tower, dim)
        shards._load()
        return shards

    def _load(self) -> None:
        missing = "manifest.json"
        for _ in range(9):
            try:
                self._read()
            except FileNotFoundError as error:
                missing = error.filename
            else:
                if (read_manifest(self.folder) or self.manifest) == self.manifest:
                    return
            # the writer sealed or compacted while we read: the next manifest says what is there now
        raise StoreError(f"{missing} is listed and missing; keep the rest with: photodesk store compact")

    def _read(self) -> None:
        found, wanted = read_manifest(self.folder), self.manifest
        if found and (found.tower, found.dim) != (wanted.tower, wanted.dim):
            raise StoreError(
                f"{self.folder} holds rows of {found.tower} ({found.dim} numbers) and these are of {wanted.tower} "
                f"({wanted.dim}); "
                "name another folder with --cache"
            )
        self.manifest = found or wanted
        self._sealed = [Sealed(self.folder, self.manifest, listed) for listed in self.manifest.shards]
        self._lost: set[bytes] = set()
        self._count = whole(self.folder, self.manifest, self.manifest.open_name)
        keys, at = Part(self.folder, self.manifest, self.manifest.open_name, self._count).index()
        self._at = dict(zip(split(keys), at.tolist(), strict=True))

    def __enter__(self) -> Shards:
        with as_store_error(f"cannot write the store {self.folder}", "set PHOTODESK_CACHE to a writable folder"):
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = locked(self.folder / "lock")
            try:
                os.utime(self.folder / "lock")  # when it was last used
                self._load()  # nobody else writes from here on
                if read_manifest(self.folder) is None:
                    self.manifest.write(self.folder)
                sweep(self.folder, self.manifest)
                self._tail = Tail(self.folder, self.manifest, self._at, self._count)
            except BaseException:
                self._close()
                raise
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def _close(self) -> None:
        if self._tail:
            self._tail.close()
            self._count = self._tail.count
        self._tail = None
        os.close(self._lock)

    def __len__(self) -> int:
        return len(self.keys())

    def has(self, keys: Sequence[bytes]) -> list[bool]:
        """Which of the keys are stored."""
        found: list[bool] = (self.find(joined(keys)) >= 0).tolist()
        return found

    def find(self, keys: Keys) -> Positions:
        """(n,) position of each key, the newest; −1 where it is not stored."""
        mine, tail = split(keys), len(self._sealed) << 32
        at = np.array([tail + self._at[key] if key in self._at else -1 for key in mine], np.int64)
        for number in reversed(range(len(self._sealed))):
            missing = np.flatnonzero(at < 0)
            if not missing.size:
                break
            found = self._sealed[number].find(keys[missing])
            at[missing] = np.where(found >= 0, (number << 32) + found, -1)
        if self._lost:
            at[[key in self._lost for key in mine]] = -1
        return at

    def keys(self) -> Keys:
        """All keys, sorted."""
        keys = np.unique(np.concatenate([joined(list(self._at)), *(part.keys for part in self._sealed)]))
        return keys[self.find(keys) >= 0]

    def forget(self, keys: Sequence[bytes]) -> None:
        """Take these as not stored until they are appended again: their rows turned out damaged."""
        self._lost.update(keys)

    def rows(self, keys: Sequence[bytes]) -> StoredRows:
        """The rows of `keys`, to be read when they are asked for.

        Raises:
            StoreError: a key is not stored.
        """
        at = self.find(joined(keys))
        if (at < 0).any():
            lacking = int((at < 0).sum())
            raise StoreError(
                f"{self.folder} lacks {lacking} of {len(at)} rows, first {keys[int(np.argmin(at))].hex()}; encode them "
                "first"
            )
        count = self._tail.count if self._tail else self._count
        return StoredRows(
            [*self._sealed, Part(self.folder, self.manifest, self.manifest.open_name, count)], at, self.manifest.dim
        )

    def append(self, keys: Sequence[bytes], rows: FloatArray) -> None:
        """Add records; they are with the operating system when this returns. Of records with one key the last counts.

        Args:
            keys: n names of contents (`files.digest`).
            rows: (n, dim).
        """
        assert self._tail, "open it as a context to append"
        self._tail.append(keys, rows)
        self._lost.difference_update(keys)
        if self._tail.size >= self._shard_bytes:
            self._seal()

    def _seal(self) -> None:
        """Close the open shard for good and begin the next; killed in between, it stays open."""
        assert self._tail
        listed = self._tail.seal()
        self.manifest = replace(self.manifest, next=self.manifest.next + 1, shards=(*self.manifest.shards, listed))
        self.manifest.write(self.folder)
        self._sealed.append(Sealed(self.folder, self.manifest, listed))
        self._at, self._count = {}, 0
        self._tail = Tail(self.folder, self.manifest, self._at, 0)


def sweep(folder: Path, manifest: Manifest) -> list[Path]:
    """Delete files of shards that the manifest does not know, and drafts of files: what a killed process left. For the
    writer only."""
    known = {listed.name for listed in manifest.shards} | {manifest.open_name}
    stale = [path for path in folder.iterdir() if path.suffix[1:] in SUFFIXES and path.stem not in known]
    stale += [path for path in folder.glob(".*") if path.is_file()]  # `files.replacing` writes these
    for path in stale:
        path.unlink()
    return stale
