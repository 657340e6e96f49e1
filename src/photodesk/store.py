"""Feature rows by content × tower, so that nothing is encoded twice: what is stored is read, what is new is encoded.

A row's key is the digest of the text or of the picture file; each tower's rows lie in a folder of their own (`shards.py`), which
survives a kill at any instant. A row that turns out damaged is encoded again.
"""

from __future__ import annotations

import os
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
from photodesk.errors import PhotoError
from photodesk.files import cache_folder, digest
from photodesk.records import Fault, FloatArray, Photo
from photodesk.shards import Shards, StoredRows, folder_name

Progress = Callable[[int, int], None]  # (done, of)


def silent(done: int, of: int) -> None:
    """Reports progress to nobody."""


A = TypeVar("A")
B = TypeVar("B")


class Store:
    """The embedding cache in one folder.

    Args:
        folder: where it lives; None is the user's cache folder (`files.cache_folder`).
        dtype: of rows of a tower that is new here: "float32", or "float16" for half the bytes (cosines move by less than 1e-3).

    Raises:
        StoreError: on use, if the folder cannot be written or another process is writing the same tower's rows.
    """

    def __init__(self, folder: Path | None = None, *, dtype: str = "float32") -> None:
        self.folder = folder or cache_folder() / "features"
        self.dtype = dtype

    def texts(self, texts: Sequence[str], tower: TextTower, *, progress: Progress = silent) -> FloatArray:
        """Feature rows of `texts`, encoding only what is new.

        Returns:
            (n texts, tower.dim) float32, in the order given.
        """
        keys = text_keys(texts)
        with self._shards(tower) as shards:
            while True:
                rows, bad = _texts(shards, keys, texts, tower, progress).read()
                if not len(bad):
                    return rows
                shards.forget([keys[i] for i in bad.tolist()])

    def text_rows(self, texts: Sequence[str], tower: TextTower, *, progress: Progress = silent) -> StoredRows:
        """As `texts`, but the rows stay on disk until they are asked for: memory is bounded however many there are.

        Returns:
            (n texts, tower.dim), in the order given; index it like an array (`shards.StoredRows`).
        """
        with self._shards(tower) as shards:
            return _texts(shards, text_keys(texts), texts, tower, progress)

    def photos(
        self, photos: Sequence[Photo], tower: PhotoTower, *, progress: Progress = silent, threads: int | None = None
    ) -> tuple[list[Photo], FloatArray, list[Fault]]:
        """Feature rows of `photos`, encoding only contents that are new; a broken photo is named and left out.

        Returns:
            the photos that could be encoded, in the order given; their (m, tower.dim) float32 rows; the faults.
        """
        with self._shards(tower) as shards:
            while True:
                kept, keys, faults = _photos(shards, photos, tower, progress, threads)
                rows, bad = shards.rows(keys).read()
                if not len(bad):
                    return kept, rows, faults
                shards.forget([keys[i] for i in bad.tolist()])

    def photo_rows(
        self, photos: Sequence[Photo], tower: PhotoTower, *, progress: Progress = silent, threads: int | None = None
    ) -> tuple[list[Photo], StoredRows, list[Fault]]:
        """As `photos`, but the rows stay on disk until they are asked for."""
        with self._shards(tower) as shards:
            kept, keys, faults = _photos(shards, photos, tower, progress, threads)
            return kept, shards.rows(keys), faults

    def rows(self, keys: Sequence[bytes], tower: TextTower | PhotoTower) -> StoredRows:
        """Rows by their keys (`files.digest` of a text in UTF-8 or of a picture file), without encoding and beside a writer.

        Raises:
            StoreError: a key is not stored.
        """
        return Shards.open(self.folder / folder_name(tower.fingerprint), tower.fingerprint, tower.dim).rows(keys)

    def _shards(self, tower: TextTower | PhotoTower) -> Shards:
        return Shards(self.folder / folder_name(tower.fingerprint), tower.fingerprint, tower.dim, dtype=self.dtype)


def text_keys(texts: Sequence[str]) -> list[bytes]:
    """The key of each text."""
    return [digest(text.encode("utf-8", "surrogatepass")) for text in texts]


def _texts(shards: Shards, keys: Sequence[bytes], texts: Sequence[str], tower: TextTower, progress: Progress) -> StoredRows:
    """Encode what is not stored; the rows of all."""
    by_key = dict(zip(keys, texts, strict=True))
    todo = [key for key, stored in zip(by_key, shards.has(list(by_key)), strict=True) if not stored]
    # texts of like length share a pass, whatever their order in the file
    todo.sort(key=lambda key: (len(by_key[key]), key))
    done = len(by_key) - len(todo)
    progress(done, len(by_key))
    for chunk in _chunks(todo, tower.batch):
        shards.append(chunk, tower.encode([by_key[key] for key in chunk]))
        done += len(chunk)
        progress(done, len(by_key))
    return shards.rows(keys)


def _photos(
    shards: Shards, photos: Sequence[Photo], tower: PhotoTower, progress: Progress, threads: int | None
) -> tuple[list[Photo], list[bytes], list[Fault]]:
    """Encode what is not stored: the photos that can be opened, their keys, the faults.

    Every core takes a batch of photos through reading, decoding and the model, so decoding and inference overlap and share the cores
    without queues.
    """
    keys: list[bytes] = []
    kept: list[Photo] = []
    faults: list[Fault] = []
    threads = threads or _cores()
    with ThreadPoolExecutor(threads) as pool:
        done = 0
        progress(0, len(photos))
        for chunk, found in _ahead(pool, lambda chunk: _encode(chunk, tower, shards), _chunks(photos, tower.batch), threads + 2):
            new = {key: row for key, row in found if isinstance(key, bytes) and row is not None}
            fresh = [key for key, stored in zip(new, shards.has(list(new)), strict=True) if not stored]
            if fresh:
                shards.append(fresh, np.stack([new[key] for key in fresh]))
            for photo, (key, _) in zip(chunk, found, strict=True):
                if isinstance(key, Fault):
                    faults.append(key)
                else:
                    kept.append(photo)
                    keys.append(key)
            done += len(chunk)
            progress(done, len(photos))
    return kept, keys, faults


def _encode(chunk: Sequence[Photo], tower: PhotoTower, shards: Shards) -> list[tuple[bytes | Fault, FloatArray | None]]:
    """For each photo its content key, or what is wrong with it, and its row if that is not stored yet."""
    found: list[tuple[bytes | Fault, FloatArray | None]] = []
    fresh: dict[bytes, NDArray[np.generic]] = {}
    for photo in chunk:
        try:
            data = photo.path.read_bytes()
            key = digest(data)
            if key not in fresh and not shards.has([key])[0]:
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
