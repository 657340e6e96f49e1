"""An exact scan in a quarter of the memory traffic: 8-bit codes say which rows can be among the best, float32 rows
decide.

A row x is stored as whole numbers c and a scale s, with e = |x − s·c|. For a query q the product differs from s·(c·q)
by at most e·|q| (Cauchy–Schwarz), so every row whose upper bound is below the k-th largest lower bound is out: nothing
is lost, however the data lie. The query itself is coded twice, the second time what the first left over, so that its
own error does not count.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from photodesk.errors import StoreError
from photodesk.machine import cores
from photodesk.types import FloatArray

FILES = ("rows.bin", "codes.bin", "bounds.bin")
PART = 65536
"""Rows that one thread multiplies at a time: codes of some 50 MB, which keep a core busy for longer than handing them
out takes."""

T = TypeVar("T", bound=np.generic)


def encode(rows: FloatArray) -> tuple[NDArray[np.int8], FloatArray]:
    """(n, d) codes and (n, 2) scale and error of each row."""
    # a row of zeros has no scale; errors are rounded up, for as float32 they could come out below what they are
    scale = np.maximum(np.abs(rows).max(axis=1, initial=0.0), 1e-30) / 127
    codes = np.rint(rows / scale[:, None]).astype(np.int8)
    error = np.linalg.norm(rows - codes * scale[:, None].astype(np.float64), axis=1)
    return codes, np.column_stack([scale, error * (1 + 1e-5) + 1e-7]).astype(np.float32)


class Slots:
    """Rows, their codes and their bounds in three files of slots of one size, mapped for reading.

    Attributes:
        rows: (n, d) float32; codes: (n, d) int8; bounds: (n, 2) float32.
    """

    def __init__(self, folder: Path, dim: int) -> None:
        self._folder, self._dim = folder, dim
        for name in FILES:
            if not (folder / name).exists():
                (folder / name).touch()
        self.map(0)

    def write(self, slots: Sequence[int], rows: FloatArray) -> None:
        """Put rows into slots; they are on disk when this returns, and read after the next `map`."""
        parts: tuple[NDArray[np.generic], ...] = (rows, *encode(rows))
        for name, values in zip(FILES, parts, strict=True):
            with (self._folder / name).open("r+b") as stream:
                for slot, value in zip(slots, values, strict=True):
                    stream.seek(slot * value.nbytes)
                    stream.write(value.tobytes())
                stream.flush()
                os.fsync(stream.fileno())

    def map(self, slots: int) -> None:
        """Map so many slots.

        Raises:
            StoreError: the files have fewer.
        """

        def part(name: str, kind: type[T], width: int) -> NDArray[T]:
            if not slots:
                return np.empty((0, width), kind)
            path = self._folder / name
            if path.stat().st_size < slots * width * np.dtype(kind).itemsize:
                raise ValueError(f"{name} is cut short")
            return np.asarray(np.memmap(path, kind, "r", shape=(slots, width)))

        try:
            self.rows, self.codes = part(FILES[0], np.float32, self._dim), part(FILES[1], np.int8, self._dim)
            self.bounds = part(FILES[2], np.float32, 2)
        except (OSError, ValueError) as error:
            raise StoreError(
                f"{self._folder} is damaged: {error}; restore the archive from a backup: see docs/archive.md"
            ) from None

    def uncoded(self, slots: NDArray[np.intp]) -> NDArray[np.bool_]:
        """Which of some slots have codes or bounds that are not those of their rows; errors of rows may be off by what
        another machine rounds."""
        found = self.bounds[slots]
        with np.errstate(all="ignore"):  # damaged rows hold what is no number
            codes, bounds = encode(self.rows[slots])
            near = np.abs(found[:, 1] - bounds[:, 1]) <= 1e-5 * bounds[:, 1] + 1e-7
        wrong: NDArray[np.bool_] = (self.codes[slots] != codes).any(axis=1) | (found[:, 0] != bounds[:, 0]) | ~near
        return wrong

    def copy(self, folder: Path) -> None:
        """Copy the files to another folder."""
        for name in FILES:
            shutil.copyfile(self._folder / name, folder / name)


def bounded(codes: NDArray[np.int8], bounds: FloatArray, query: FloatArray) -> tuple[FloatArray, FloatArray] | None:
    """(n,) estimates of `rows @ query`, and (n,) by how much each may be wrong; None where the library for it is not
    installed."""
    try:
        import numkong
    except ModuleNotFoundError:
        return None
    high, s = _whole(query)
    low, t = _whole(query - high * s)
    rest = float(np.linalg.norm(query - high * s - low * t))
    packed = numkong.dots_pack(np.stack([high.astype(np.int8), low.astype(np.int8)]))

    def part(start: int) -> FloatArray:
        product = np.asarray(numkong.dots_packed(codes[start : start + PART], packed))
        out: FloatArray = (product @ np.array([s, t], np.float64)).astype(np.float32)
        return out

    estimate = _shared_out(part, len(codes)) * bounds[:, 0]
    length = float(np.linalg.norm(query))
    # |s·c| ≤ |x| + e; 1e-6 stands for the rounding of float32
    return estimate, bounds[:, 1] * np.float32(length + rest) + np.float32(1.01 * rest + 1e-6 * (1 + length))


def _whole(query: FloatArray) -> tuple[FloatArray, np.float32]:
    scale = np.float32(max(float(np.abs(query).max(initial=0.0)), 1e-30) / 127)
    rounded: FloatArray = np.rint(query / scale)
    return rounded, scale


def _shared_out(part: Any, rows: int) -> FloatArray:
    starts = range(0, rows, PART)
    if cores() == 1 or len(starts) < 2:  # threads would only cost
        parts = list(map(part, starts))
    else:
        with ThreadPoolExecutor(cores()) as pool:
            parts = list(pool.map(part, starts))
    return np.concatenate(parts) if parts else np.empty(0, np.float32)
