"""Products in bfloat16, four to five times as fast as float32 where the processor supports them, and their error bound.

torch computes them. A bfloat16 number has 8 significant bits; each product of two is exact in float32, where they are
summed.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from photodesk.ranking.topk import Bits
from photodesk.types import FloatArray

WORTH = 4e11  # multiplications above which loading torch is worth it: some 6 s of one core in float32
ROUNDING = 2.0**-8  # of a number to bfloat16, relative
FLAGS = {"amx_bf16", "avx512_bf16"}

Blocks = Iterator[tuple[slice, slice, Bits]]
"""(rows, columns, scores) of a product."""


@cache
def available() -> bool:
    """Whether torch is installed and the processor has bfloat16 products."""
    try:
        flags = set(Path("/proc/cpuinfo").read_text("utf-8").partition("flags")[2].partition("\n")[0].split())
    except OSError:
        return False
    return bool(flags & FLAGS) and importlib.util.find_spec("torch") is not None


@contextmanager
def one_core_each() -> Iterator[None]:
    """Limit products to one core per thread."""
    import torch

    cores = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(cores)


def products(
    rows: FloatArray,
    columns: FloatArray,
    height: int,
    width: int,
    *,
    minus: FloatArray | None = None,
    weight: FloatArray | None = None,
) -> Blocks:
    """Blocks of `rows @ columns.T + weight ⊗ (max(minus) − minus)`: (rows, columns, scores as bits), all rows of some
    columns first.

    Adding the maximum keeps the best scores positive. A block is valid until the next one.
    """
    import torch

    lift = None if minus is None else minus.max() - minus
    weight = np.ones(len(rows), np.float32) if weight is None else weight
    room = torch.empty(height * width, dtype=torch.bfloat16)
    for first in range(0, len(columns), width):
        j = slice(first, min(first + width, len(columns)))
        right = _padded(columns[j], None if lift is None else _thirds(lift[j]))
        for start in range(0, len(rows), height):
            i = slice(start, min(start + height, len(rows)))
            left = _padded(rows[i], None if lift is None else np.repeat(weight[i, None], 3, axis=1))
            out = room[: len(left) * len(right)].view(len(left), len(right))
            torch.mm(left, right.T, out=out)
            yield i, j, out.view(torch.int16).numpy()


def _padded(rows: FloatArray, extra: FloatArray | None) -> Any:
    """Rows in bfloat16, followed by three `extra` numbers each and zeros up to a multiple of 32."""
    import torch

    d = rows.shape[1]
    padded = np.zeros((len(rows), -(-(d + 3) // 32) * 32 if extra is not None else d), np.float32)
    padded[:, :d] = rows
    if extra is not None:
        padded[:, d : d + 3] = extra
    return torch.from_numpy(padded).bfloat16()


def _thirds(numbers: FloatArray) -> FloatArray:
    """(n, 3) bfloat16 numbers whose sum is each float32 number: 3 × 8 bits are its 24."""
    parts = np.empty((len(numbers), 3), np.float32)
    rest = numbers.copy()
    for at in range(3):
        parts[:, at] = (rest.view(np.int32) & np.int32(-65536)).view(np.float32)
        rest = rest - parts[:, at]
    return parts


def lost(rows: FloatArray) -> NDArray[np.float64]:
    """(n,) norms of the rows' rounding errors in bfloat16."""
    import torch

    error = np.empty(len(rows))
    for start in range(0, len(rows), 1024):
        part = torch.from_numpy(rows[start : start + 1024].copy())
        error[start : start + 1024] = (part - part.bfloat16().float()).norm(dim=1).numpy()
    return error * (1 + 1e-4)  # these norms are rounded themselves
