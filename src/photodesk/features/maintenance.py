"""Looking after a store: is every byte what was written, can it be smaller, what may go.

Each tower's folder is looked after by itself. `compact` and `gc` take its lock, so they never meet a writer; readers go
on with what they have mapped.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from photodesk.errors import StoreError
from photodesk.features.shards import (
    SHARD_BYTES,
    SUFFIXES,
    Manifest,
    Part,
    StoredRows,
    Tail,
    blocks,
    file_sum,
    read_manifest,
    split,
    sweep,
    whole,
)
from photodesk.files import locked
from photodesk.types import Fault, Progress, silent

ADVICE = "keep what is sound with: photodesk store compact"


@dataclass(frozen=True, slots=True)
class Kept:
    """What a store keeps of one tower.

    Args:
        tower: its fingerprint, or the name of the folder where that cannot be read.
        rows: records on disk, superseded ones too.
        dim: numbers per row, each of type `dtype`.
        shards: how many are full.
        bytes: of all files.
        used: when it was last written to or asked, in seconds since 1970.
        faults: what is damaged.
    """

    tower: str
    rows: int
    dim: int
    dtype: str
    shards: int
    bytes: int
    used: float
    faults: tuple[Fault, ...]


def towers(store: Path) -> list[Path]:
    """The folders of a store that hold a tower's rows, sorted."""
    if not store.is_dir():
        return []
    return sorted(path for path in store.iterdir() if (path / "manifest.json").exists())


def verify(folder: Path) -> Kept:
    """Compare every file of a tower's folder with what the manifest says of it, and every record of the open shard with
    its CRC.

    It takes no lock. What a writer or `compact` replaces meanwhile is read again by the new manifest.

    Raises:
        StoreError: it was replaced again and again.
    """
    for _ in range(9):
        stats = _stats(folder)
        size, used = sum(stat.st_size for stat in stats), max((stat.st_mtime for stat in stats), default=0.0)
        try:
            manifest = read_manifest(folder)
        except StoreError as error:
            return Kept(
                folder.name,
                0,
                0,
                "",
                0,
                size,
                used,
                (Fault("store-damaged", str(folder / "manifest.json"), str(error), "kept", "delete the folder"),),
            )
        if manifest is None:
            return Kept(folder.name, 0, 0, "", 0, size, used, ())
        try:
            count, faults = _compared(folder, manifest)
            now = read_manifest(folder)
        except (FileNotFoundError, StoreError):  # gone or cut since it was listed
            continue
        sealed = (
            now is not None and not faults and now.shards[: len(manifest.shards)] == manifest.shards
        )  # more full shards, no others
        if sealed or now == manifest:
            rows = count + sum(listed.rows for listed in manifest.shards)
            return Kept(
                manifest.tower, rows, manifest.dim, manifest.dtype, len(manifest.shards), size, used, tuple(faults)
            )
    raise StoreError(f"{folder} was replaced again and again while it was read; verify it when the others are done")


def _stats(folder: Path) -> list[os.stat_result]:
    """Of the files of a folder, but those that are gone meanwhile."""
    found = []
    for path in folder.iterdir() if folder.is_dir() else ():
        with suppress(FileNotFoundError):
            found.append(path.stat())
    return found


def _compared(folder: Path, manifest: Manifest) -> tuple[int, list[Fault]]:
    """Records of the open shard, and what is damaged of all."""
    faults = [fault for listed in manifest.shards for fault in _differences(folder, listed.name, listed.sha256)]
    count = whole(folder, manifest, manifest.open_name)
    part = Part(folder, manifest, manifest.open_name, count)
    bad = sum(int((~part.sound(block)).sum()) for block in blocks(count))
    if bad:
        what = f"{bad} of {count} rows are damaged"
        faults.append(Fault("store-rows-damaged", f"{part.path}.rows", what, "left out", ADVICE))
    return count, faults


def _differences(folder: Path, name: str, sums: dict[str, str]) -> Iterator[Fault]:
    for suffix in SUFFIXES:
        path = folder / f"{name}.{suffix}"
        if not path.is_file():
            yield Fault("store-file-missing", str(path), "is listed and missing", "left out", ADVICE)
        elif file_sum(path) != sums[suffix]:
            what = "is not what was written: its SHA-256 differs from the manifest's"
            yield Fault("store-file-changed", str(path), what, "left out", ADVICE)


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    handle = locked(folder / "lock")
    try:
        yield
    finally:
        os.close(handle)


def compact(
    folder: Path,
    *,
    dtype: str = "",
    shard_bytes: int = SHARD_BYTES,
    progress: Progress = silent,
) -> tuple[int, int]:
    """Write a tower's rows anew: of every key the newest sound record, in full shards. Killed at any instant, the old
    ones stand.

    Args:
        folder: of the tower.
        dtype: of the new rows; empty keeps the type.
        shard_bytes: of rows in a full shard.
        progress: called with (name of the folder, rows done, of).

    Returns:
        rows kept, and records dropped: superseded, damaged, or missing.

    Raises:
        StoreError: the manifest is damaged, or another process is writing here.
    """
    manifest = read_manifest(folder)
    if manifest is None:
        return 0, 0
    with _writing(folder):
        manifest = read_manifest(folder) or manifest
        sweep(folder, manifest)
        sizes = {listed.name: listed.rows for listed in manifest.shards}
        there = {name: whole(folder, manifest, name) for name in [*sizes, manifest.open_name]}
        parts = [Part(folder, manifest, name, min(count, sizes.get(name, count))) for name, count in there.items()]
        at = _newest(parts)
        rows = StoredRows(parts, at, manifest.dim)
        target = replace(manifest, dtype=dtype or manifest.dtype, next=manifest.next + 1, shards=())
        target = _write(folder, target, parts, rows, at, shard_bytes, progress)
        target.write(folder)
        sweep(folder, target)
    records = sum(sizes.values()) + there[manifest.open_name]
    return len(at), records - len(at)


def _newest(parts: list[Part]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Positions of the newest sound record of every key, in the order in which they lie."""
    found = [part.index() for part in parts]
    keys = np.concatenate([keys for keys, _ in found])
    at = np.concatenate([(number << 32) + rows.astype(np.int64) for number, (_, rows) in enumerate(found)])
    order = np.lexsort((at, keys))
    last = np.ones(len(order), bool)
    last[:-1] = keys[order[1:]] != keys[order[:-1]]
    return np.sort(at[order[last]])


def _write(
    folder: Path,
    target: Manifest,
    parts: list[Part],
    rows: StoredRows,
    at: np.ndarray[tuple[int], np.dtype[np.int64]],
    shard_bytes: int,
    progress: Progress,
) -> Manifest:
    tail = Tail(folder, target, {}, 0)
    try:
        progress(folder.name, 0, len(rows))
        for block in blocks(len(rows)):
            keys = [key for part, row in _places(parts, at[block]) for key in split(part.log["key"][row : row + 1])]
            tail.append(keys, rows[block])
            progress(folder.name, int(block[-1]) + 1, len(rows))
            if tail.size >= shard_bytes:
                target = replace(target, next=target.next + 1, shards=(*target.shards, tail.seal()))
                tail = Tail(folder, target, {}, 0)
        tail.sync()
    finally:
        tail.close()
    return target


def _places(parts: list[Part], at: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Iterator[tuple[Part, int]]:
    for position in at.tolist():
        yield parts[position >> 32], position & 0xFFFFFFFF


def gc(folder: Path, *, days: float | None = None) -> int:
    """Delete what a killed process left in a tower's folder, or the whole folder if it was not used for so many days.

    Returns:
        bytes that came free.

    Raises:
        StoreError: another process is writing here.
    """
    stats = _stats(folder)
    before, used = sum(stat.st_size for stat in stats), max((stat.st_mtime for stat in stats), default=0.0)
    with _writing(folder):
        if days is not None and time.time() - used > days * 86400:
            shutil.rmtree(folder)
            return before
        manifest = read_manifest(folder)
        if manifest is not None:
            sweep(folder, manifest)
    return before - sum(stat.st_size for stat in _stats(folder))
