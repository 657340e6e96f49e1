"""Feature rows on disk, by content × tower, so that nothing is encoded twice; it survives a kill at any instant.

One folder per tower fingerprint holds `rows.bin`: records of fixed size, `key (16 bytes) · row (dim float32) · CRC32 · padding`,
appended batch by batch. A record that was cut short or damaged fails its checksum and is dropped (and so encoded again); a batch is
with the operating system before it is reported as done, so a kill loses none. One writer at a time holds `lock`.
"""

from __future__ import annotations

import os
import re
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from photodesk import photos as pictures
from photodesk.encoders import PhotoTower, TextTower
from photodesk.errors import PhotoError, StoreError
from photodesk.files import cache_folder, digest, locked
from photodesk.records import Fault, FloatArray, Photo

Progress = Callable[[int, int], None]  # (done, of)

A = TypeVar("A")
B = TypeVar("B")


class Store:
    """The embedding cache in one folder.

    Args:
        folder: where it lives; None is the user's cache folder (`files.cache_folder`).

    Raises:
        StoreError: on use, if the folder cannot be written or another process is writing the same tower's rows.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or cache_folder() / "features"

    def texts(self, texts: Sequence[str], tower: TextTower, *, progress: Progress = lambda done, of: None) -> FloatArray:
        """Feature rows of `texts`, encoding only what is new.

        Returns:
            (n texts, tower.dim) float32, in the order given.
        """
        keys = [digest(text.encode("utf-8", "surrogatepass")) for text in texts]
        by_key = dict(zip(keys, texts, strict=True))
        with _Rows(self.folder, tower.fingerprint, tower.dim) as rows:
            todo = [key for key in by_key if key not in rows]
            # texts of like length share a pass, whatever their order in the file
            todo.sort(key=lambda key: (len(by_key[key]), key))
            done = len(by_key) - len(todo)
            progress(done, len(by_key))
            for chunk in _chunks(todo, tower.batch):
                rows.append(chunk, tower.encode([by_key[key] for key in chunk]))
                done += len(chunk)
                progress(done, len(by_key))
            return rows.get(keys)

    def photos(
        self, photos: Sequence[Photo], tower: PhotoTower, *, progress: Progress = lambda done, of: None, threads: int | None = None
    ) -> tuple[list[Photo], FloatArray, list[Fault]]:
        """Feature rows of `photos`, encoding only contents that are new; a broken photo is named and left out.

        Every core takes a batch of photos through reading, decoding and the model, so decoding and inference overlap and
        share the cores without queues.

        Returns:
            the photos that could be encoded, in the order given; their (m, tower.dim) float32 rows; the faults.
        """
        keys: list[bytes] = []
        kept: list[Photo] = []
        faults: list[Fault] = []
        threads = threads or _cores()
        with _Rows(self.folder, tower.fingerprint, tower.dim) as rows, ThreadPoolExecutor(threads) as pool:
            done = 0
            progress(0, len(photos))
            for chunk, found in _ahead(pool, lambda chunk: _encode(chunk, tower, rows), _chunks(photos, tower.batch), threads + 2):
                fresh = {key: row for key, row in found if isinstance(key, bytes) and row is not None and key not in rows}
                if fresh:
                    rows.append(list(fresh), np.stack(list(fresh.values())))
                for photo, (key, _) in zip(chunk, found, strict=True):
                    if isinstance(key, Fault):
                        faults.append(key)
                    else:
                        kept.append(photo)
                        keys.append(key)
                done += len(chunk)
                progress(done, len(photos))
            return kept, rows.get(keys), faults


def _encode(chunk: Sequence[Photo], tower: PhotoTower, rows: _Rows) -> list[tuple[bytes | Fault, FloatArray | None]]:
    """For each photo its content key, or what is wrong with it, and its row if that is not stored yet."""
    found: list[tuple[bytes | Fault, FloatArray | None]] = []
    fresh: dict[bytes, NDArray[np.generic]] = {}
    for photo in chunk:
        try:
            data = photo.path.read_bytes()
            key = digest(data)
            if key not in rows and key not in fresh:
                fresh[key] = tower.prepare(pictures.decode(data, size=tower.size, where=str(photo.path)))
            found.append((key, None))
        except (PhotoError, OSError) as error:
            said = f"cannot be read: {error.strerror}" if isinstance(error, OSError) else str(error)
            what, _, advice = said.removeprefix(f"{photo.path} ").partition("; ")
            found.append((Fault(str(photo.path), what, "left out", advice or "replace or remove the file"), None))
    if fresh:
        encoded = dict(zip(fresh, tower.encode(np.stack(list(fresh.values()))), strict=True))
        return [(key, encoded.get(key) if isinstance(key, bytes) else None) for key, _ in found]
    return found


class _Rows:
    """One tower's records, open for appending; a context that holds the lock and the index of keys."""

    def __init__(self, folder: Path, fingerprint: str, dim: int) -> None:
        self.path = folder / re.sub(r"[^A-Za-z0-9._-]+", "_", fingerprint) / "rows.bin"
        self.record = np.dtype([("key", "V16"), ("row", "<f4", (dim,)), ("crc", "<u4"), ("pad", "V12")])

    def __enter__(self) -> _Rows:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._lock = locked(self.path.with_name("lock"))
            self._file = open(self.path, "a+b")  # noqa: PTH123  closed in __exit__
        except OSError as error:
            raise StoreError(
                f"cannot write the embedding cache {self.path.parent}: {error.strerror}; set PHOTODESK_CACHE to a writable folder"
            ) from None
        size = self.path.stat().st_size
        whole = size - size % self.record.itemsize
        if whole != size:  # a kill cut the last record short
            self._file.truncate(whole)
        self._at: dict[bytes, int] = {}
        self._index(0, whole // self.record.itemsize)
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        os.close(self._lock)

    def __contains__(self, key: bytes) -> bool:
        return key in self._at

    def _index(self, start: int, end: int) -> None:
        for a in range(start, end, 4096):
            block = np.fromfile(self.path, self.record, min(4096, end - a), offset=a * self.record.itemsize)
            for i, record in enumerate(block):
                if zlib.crc32(record["row"].tobytes(), zlib.crc32(record["key"].tobytes())) == record["crc"]:
                    self._at[record["key"].tobytes()] = a + i

    def append(self, keys: Sequence[bytes], rows: FloatArray) -> None:
        """Add records; they are with the operating system when this returns."""
        block = np.zeros(len(keys), self.record)
        block["key"] = np.frombuffer(b"".join(keys), "V16")
        block["row"] = rows
        block["crc"] = [zlib.crc32(row.tobytes(), zlib.crc32(key)) for key, row in zip(keys, block["row"], strict=True)]
        try:
            self._file.write(block.tobytes())
            self._file.flush()
        except OSError as error:
            raise StoreError(f"cannot write the embedding cache {self.path}: {error.strerror}; what was encoded so far is kept") from None
        first = self.path.stat().st_size // self.record.itemsize - len(keys)
        self._at.update((key, first + i) for i, key in enumerate(keys))

    def get(self, keys: Sequence[bytes]) -> FloatArray:
        """(n, dim) float32 rows of `keys`, which must all be stored."""
        out = np.empty((len(keys), self.record["row"].shape[0]), np.float32)
        if keys:
            mapped = np.memmap(self.path, self.record, "r")
            at = np.array([self._at[key] for key in keys])
            order = np.argsort(at)  # read forwards
            for part in np.array_split(order, max(1, len(order) // 4096)):
                out[part] = mapped["row"][at[part]]
        return out


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _chunks(items: Iterable[A], size: int) -> Iterator[list[A]]:
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk


def _ahead(pool: ThreadPoolExecutor, work: Callable[[A], B], items: Iterator[A], depth: int) -> Iterator[tuple[A, B]]:
    """(item, work(item)) in order, with at most `depth` items under way: bounded memory however many there are."""
    waiting = deque((item, pool.submit(work, item)) for item in islice(items, depth))
    while waiting:
        item, future = waiting.popleft()
        result = future.result()
        waiting.extend((item, pool.submit(work, item)) for item in islice(items, 1))
        yield item, result
