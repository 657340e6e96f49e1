"""Feature rows of photos: reading, decoding, resizing and the model run in parallel, in bounded memory.

Each core takes a batch of photos through all steps, so that decoding and inference share the cores by their cost and
no queue between them can grow; the number of batches in progress is limited. Each worker of a cluster
(`ray_cluster.py`) runs the same code.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from photodesk import images
from photodesk.encoders.base import PhotoTower
from photodesk.encoders.torch_runner import one_core
from photodesk.errors import PhotoError
from photodesk.files import digest
from photodesk.machine import cores
from photodesk.types import Fault, FloatArray, Photo

A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C", NDArray[np.generic], list[tuple[str, ...]])
Stored = Callable[[Sequence[bytes]], Sequence[bool]]
"""Whether each of these keys is stored already."""


@dataclass(frozen=True, slots=True)
class Picture:
    """One photo to encode.

    Args:
        photo: its id.
        where: file or URL, for messages.
        read: returns its bytes; an exception is a fault of this photo.
    """

    photo: str
    where: str
    read: Callable[[], bytes]


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """The result for n photos; plain data, which can be pickled.

    Args:
        names: id and place of each.
        keys: for each the digest of its content, or its fault.
        rows: of the contents that were not stored, by key.
    """

    names: Sequence[tuple[str, str]]
    keys: Sequence[bytes | Fault]
    rows: Mapping[bytes, FloatArray]


def of_file(photo: Photo) -> Picture:
    """A photo in a local file."""
    return Picture(photo.id, str(photo.path), lambda: images.content(photo.path))


def encode(
    pictures: Iterable[Picture], tower: PhotoTower, stored: Stored, *, threads: int | None = None
) -> Iterator[Batch]:
    """Encode what is not stored, batch by batch, in order.

    Args:
        pictures: consumed lazily.
        tower: the model.
        stored: called from several threads.
        threads: as of `in_batches`.
    """
    return in_batches(pictures, lambda batch, sizes: _encode(batch, tower, stored, sizes), tower, threads=threads)


def in_batches(
    items: Iterable[A], work: Callable[[list[A], BatchSize], B], tower: PhotoTower, *, threads: int | None = None
) -> Iterator[B]:
    """work(batch, sizes) of the items in order, in batches of the tower's best size, each on a core of its own.

    Args:
        items: consumed lazily.
        work: called from several threads; calls the tower through `sizes.timed`, which finds the best size.
        tower: the model.
        threads: batches in parallel; None is one per core.
    """
    threads = threads or cores()
    sizes = BatchSize(min(tower.batch, tower.most), tower.most)
    with ThreadPoolExecutor(threads, initializer=one_core if threads > 1 else None) as pool:
        yield from ahead(pool, lambda batch: work(batch, sizes), chunks(items, sizes), threads + 2)


def _encode(batch: Sequence[Picture], tower: PhotoTower, stored: Stored, sizes: BatchSize) -> Batch:
    found: list[bytes | Fault] = []
    contents: dict[bytes, tuple[int, bytes]] = {}
    for i, picture in enumerate(batch):
        try:
            with images.guarded(picture.where):
                data = picture.read()
            key = digest(data)
            contents.setdefault(key, (i, data))
            found.append(key)
        except PhotoError as error:
            found.append(error.fault())
    broken: dict[bytes, PhotoError] = {}
    pixels: dict[bytes, NDArray[np.generic]] = {}
    for key, there in zip(contents, stored(list(contents)) if contents else (), strict=True):
        if there:
            continue
        i, data = contents[key]
        try:
            with images.guarded(batch[i].where):
                pixels[key] = tower.prepare(images.decode(data, size=tower.size, where=batch[i].where))
        except PhotoError as error:
            broken[key] = error
    keys = [  # copies of one broken content were decoded once, under the name of the first
        broken[key].fault(where=batch[i].where) if isinstance(key, bytes) and key in broken else key
        for i, key in enumerate(found)
    ]
    rows = sizes.timed(tower.encode, np.stack(list(pixels.values()))) if pixels else ()
    return Batch([(picture.photo, picture.where) for picture in batch], keys, dict(zip(pixels, rows, strict=True)))


class BatchSize:
    """The number of photos per call of the model, tuned during the run.

    It starts at the tower's `batch`, doubles as long as the time per photo falls by `GAIN`, else halves likewise, and
    stays at the best. It never exceeds the tower's `most`, since memory grows with it. After a model has run out of
    memory the limit is half of that batch.

    Attributes:
        now: the size to use.
    """

    GAIN = 0.05
    TRIES = 4  # calls whose median is compared

    def __init__(self, start: int, most: int) -> None:
        self.now = self._best = max(1, start)
        self._limit = max(most, self.now)
        self._up: bool | None = True  # the direction that is tried; None when tuning has ended
        self._seconds: dict[int, list[float]] = defaultdict(list)
        self._lock = threading.Lock()

    def timed(self, work: Callable[[C], FloatArray], batch: C) -> FloatArray:
        """`work(batch)`, in halves if it runs out of memory; its time is recorded."""
        started = time.perf_counter()
        try:
            rows = work(batch)
        except (MemoryError, RuntimeError) as error:
            # torch has a class for this on a GPU only, onnxruntime has none: a RuntimeError with these words
            if len(batch) == 1 or not (isinstance(error, MemoryError) or "out of memory" in str(error).lower()):
                raise
            self._limit, self._up = min(self._limit, len(batch) // 2), None
            self.now = min(self.now, self._limit)
            half = len(batch) // 2
            return np.concatenate([self.timed(work, batch[:half]), self.timed(work, batch[half:])])
        self.note(len(batch), time.perf_counter() - started)
        return rows

    def note(self, size: int, seconds: float) -> None:
        """Record the time of a call with `size` photos."""
        with self._lock:
            if self._up is None or size != self.now:
                return
            tried = self._seconds[size]
            tried.append(seconds / size)
            if len(tried) == self.TRIES:
                self._step()

    def _step(self) -> None:
        cost = {size: statistics.median(tried) for size, tried in self._seconds.items()}
        if self.now == self._best or cost[self.now] < cost[self._best] * (1 - self.GAIN):
            self._best = self.now
        elif self._up and not any(size < self._best for size in cost):
            self._up = False
        else:
            self._up = None
        following = self._best if self._up is None else self._best * 2 if self._up else self._best // 2
        if not 1 <= following <= self._limit:
            following, self._up = self._best, None
        self.now = following


def chunks(items: Iterable[A], size: BatchSize | int) -> Iterator[list[A]]:
    """The items in lists of the current size."""
    iterator = iter(items)
    while chunk := list(islice(iterator, size if isinstance(size, int) else size.now)):
        yield chunk


def ahead(pool: ThreadPoolExecutor, work: Callable[[A], B], items: Iterator[A], depth: int) -> Iterator[B]:
    """work(item) in order, with at most `depth` items in progress."""
    waiting = deque(pool.submit(work, item) for item in islice(items, depth))
    try:
        while waiting:
            result = waiting.popleft().result()
            waiting.extend(pool.submit(work, item) for item in islice(items, 1))
            yield result
    finally:
        for future in waiting:  # the caller stopped, or a batch failed
            future.cancel()
