"""Feature rows by content × tower, so that nothing is encoded twice: what is stored is read, what is new is encoded.

A row's key is the digest of the text or of the picture file; each tower's rows lie in a folder of their own
(`shards.py`), which survives a kill at any instant. A row that turns out damaged is encoded again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from photodesk.encoders.base import PhotoTower, TextTower, Tower
from photodesk.features import pipeline
from photodesk.features.shards import Shards, StoredRows, folder_name
from photodesk.files import cache_folder, digest
from photodesk.images import phash
from photodesk.types import Fault, FloatArray, Photo, Progress, silent

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True, slots=True, eq=False)
class Encoded:
    """Pictures that could be encoded, by id; where each lies (path or URL); their (m, d) rows; what was wrong with the
    others."""

    photos: Sequence[str]
    places: Sequence[str]
    rows: StoredRows
    faults: Sequence[Fault]


class Prints(PhotoTower):
    """`photos.phash` as a photo tower, so that hashes are kept like features: a row is its 8 bytes as numbers, which
    float16 holds too.

    The fingerprint has to change whenever a hash does.
    """

    fingerprint, dim, batch, size = "phash-1", 8, 64, 64

    def prepare(self, photo: Image.Image) -> NDArray[np.uint8]:
        """(8,) bytes of the hash."""
        return np.frombuffer(phash(photo).to_bytes(8, "big"), np.uint8)

    def encode(self, batch: NDArray[np.generic]) -> FloatArray:
        """(n, 8)."""
        return batch.astype(np.float32)


Results = Callable[[Shards], Iterable[tuple[int, pipeline.Batch]]]


class Store:
    """The embedding cache in one folder.

    Args:
        folder: where it lives; None is the user's cache folder (`files.cache_folder`).
        dtype: of rows of a tower that is new here: "float32", or "float16" for half the bytes (cosines move by less
            than 1e-3).

    Raises:
        StoreError: on use, if the folder cannot be written or another process is writing the same tower's rows.
    """

    def __init__(self, folder: Path | None = None, *, dtype: str = "float32") -> None:
        self.folder = folder or cache_folder() / "features"
        self.dtype = dtype

    def texts(
        self, texts: Sequence[tuple[str, ...]], tower: TextTower, *, stage: str = "texts", progress: Progress = silent
    ) -> FloatArray:
        """Feature rows of `texts`, encoding only what is new.

        Args:
            texts: as `TextTower.read` takes them.

        Returns:
            (n texts, tower.dim) float32, in the order given.
        """
        keys = text_keys(texts)
        with self._shards(tower) as shards:
            while True:
                rows, bad = _texts(shards, keys, texts, tower, stage, progress).read()
                if not len(bad):
                    return rows
                shards.forget([keys[i] for i in bad.tolist()])

    def text_rows(
        self, texts: Sequence[tuple[str, ...]], tower: TextTower, *, stage: str = "texts", progress: Progress = silent
    ) -> StoredRows:
        """As `texts`, but the rows stay on disk until they are asked for: memory is bounded however many there are.

        Returns:
            (n texts, tower.dim), in the order given; index it like an array (`shards.StoredRows`).
        """
        with self._shards(tower) as shards:
            return _texts(shards, text_keys(texts), texts, tower, stage, progress)

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

    def prints(self, photos: Sequence[Photo], *, progress: Progress = silent) -> dict[str, int]:
        """Photo id → `photos.phash` of every photo that can be opened; only contents that are new are decoded."""
        kept, rows, _ = self.photos(photos, Prints(), progress=lambda _, done, of: progress("hashes", done, of))
        return {
            photo.id: int.from_bytes(row.tobytes(), "big")
            for photo, row in zip(kept, rows.astype(np.uint8), strict=True)
        }

    def photo_rows(
        self, photos: Sequence[Photo], tower: PhotoTower, *, progress: Progress = silent, threads: int | None = None
    ) -> tuple[list[Photo], StoredRows, list[Fault]]:
        """As `photos`, but the rows stay on disk until they are asked for."""
        with self._shards(tower) as shards:
            kept, keys, faults = _photos(shards, photos, tower, progress, threads)
            return kept, shards.rows(keys), faults

    def collect(self, tower: PhotoTower, results: Results, *, of: int = 0, progress: Progress = silent) -> Encoded:
        """Commit what workers bring, batch by batch as it comes, and give the rows of all in the order of their
        numbers.

        A batch is on disk before the next is asked for, so whoever is lost takes nothing with him.

        Args:
            tower: the model that the workers hold.
            results: given the shards, yields (number, batch); batches of one number come in order.
            of: how many pictures there are; 0 is unknown.
            progress: called with ("photos", done, of); an unknown total is what is done so far, and one more until the
                end.
        """
        with self._shards(tower) as shards:
            while True:
                found, faults = _commit(shards, results(shards), of, progress)
                rows = shards.rows([key for *_, key in found])
                bad = [found[i][-1] for i in rows.damaged().tolist()]
                if not bad:
                    return Encoded([one[1] for one in found], [one[2] for one in found], rows, faults)
                shards.forget(bad)

    def rows(self, keys: Sequence[bytes], tower: Tower) -> StoredRows:
        """Rows by their keys (of `text_keys`, or `files.digest` of a picture file), without encoding and beside a
        writer.

        Raises:
            StoreError: a key is not stored.
        """
        return Shards.open(self.folder / folder_name(tower.fingerprint), tower.fingerprint, tower.dim).rows(keys)

    def _shards(self, tower: Tower) -> Shards:
        return Shards(self.folder / folder_name(tower.fingerprint), tower.fingerprint, tower.dim, dtype=self.dtype)


def text_keys(texts: Sequence[tuple[str, ...]]) -> list[bytes]:
    """The key of each text: the digest of its strings in UTF-8, joined by a sign that no prepared text has."""
    return [digest("\x1f".join(text).encode("utf-8", "surrogatepass")) for text in texts]


def _texts(
    shards: Shards,
    keys: Sequence[bytes],
    texts: Sequence[tuple[str, ...]],
    tower: TextTower,
    stage: str,
    progress: Progress,
) -> StoredRows:
    """Encode what is not stored; the rows of all."""
    by_key = dict(zip(keys, texts, strict=True))
    todo = [key for key, stored in zip(by_key, shards.has(list(by_key)), strict=True) if not stored]
    # texts of like length share a pass, whatever their order in the file
    todo.sort(key=lambda key: (sum(map(len, by_key[key])), key))
    done = len(by_key) - len(todo)
    progress(stage, done, len(by_key))
    sizes = pipeline.BatchSize(tower.batch, tower.batch)  # halved where memory runs out
    for chunk in pipeline.chunks(todo, sizes):
        shards.append(chunk, sizes.timed(tower.read, [by_key[key] for key in chunk]))
        done += len(chunk)
        progress(stage, done, len(by_key))
    return shards.rows(keys)


def _photos(
    shards: Shards, photos: Sequence[Photo], tower: PhotoTower, progress: Progress, threads: int | None
) -> tuple[list[Photo], list[bytes], list[Fault]]:
    """Encode what is not stored: the photos that can be opened, their keys, the faults."""
    keys: list[bytes] = []
    kept: list[Photo] = []
    faults: list[Fault] = []
    done = 0
    progress("photos", 0, len(photos))
    for batch in pipeline.encode(map(pipeline.of_file, photos), tower, shards.has, threads=threads):
        add(shards, batch.rows)
        for photo, key in zip(photos[done : done + len(batch.keys)], batch.keys, strict=True):
            if isinstance(key, Fault):
                faults.append(key)
            else:
                kept.append(photo)
                keys.append(key)
        done += len(batch.keys)
        progress("photos", done, len(photos))
    return kept, keys, faults


def add(shards: Shards, rows: Mapping[bytes, FloatArray]) -> None:
    """Append the rows that are not there yet: batches that were under way together may bring one content twice."""
    keys = list(rows)
    if fresh := [key for key, there in zip(keys, shards.has(keys) if keys else (), strict=True) if not there]:
        shards.append(fresh, np.stack([rows[key] for key in fresh]))


def _commit(
    shards: Shards, results: Iterable[tuple[int, pipeline.Batch]], of: int, progress: Progress
) -> tuple[list[tuple[int, str, str, bytes]], list[Fault]]:
    """Store what comes; (number, id, place, key) of each picture in the order of numbers, ids unique, and the faults in
    theirs."""
    found: list[tuple[int, str, str, bytes]] = []
    faults: list[tuple[int, Fault]] = []
    done = 0
    progress("photos", 0, of or 1)
    for number, batch in results:
        add(shards, batch.rows)
        for (photo, place), key in zip(batch.names, batch.keys, strict=True):
            if isinstance(key, Fault):
                faults.append((number, key))
            else:
                found.append((number, photo, place, key))
        done += len(batch.keys)
        progress("photos", done, of or done + 1)
    progress("photos", done, done)
    found.sort(key=lambda one: one[0])
    first: dict[str, int] = {}
    for i, (number, photo, place, _) in enumerate(found):
        if (other := first.setdefault(photo, i)) != i:
            what = f"has the id of another picture: {photo}, of {found[other][2]}"
            faults.append((number, Fault("photo-id-taken", place, what, "left out", "give it an id of its own")))
    return [found[i] for i in first.values()], [fault for _, fault in sorted(faults, key=lambda one: one[0])]
