"""One number per column of a score matrix that is never held as a whole: its soft maximum, or the mean of its k largest."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from photodesk.ranking.similarity import CHUNK, MANY, Precision, products, shared_out, unsorted
from photodesk.types import FloatArray

STRIP = 64  # rows of a block that stay in a core's cache between one step and the next


def soft_maximum(rows: FloatArray, columns: FloatArray, temperature: float, *, minus: FloatArray | None = None) -> FloatArray:
    """T · log(mean over rows of exp(score / T)) of every column: near the mean for a large temperature T, the maximum for a small one.

    The result lies between the column's mean and its maximum, so it is safe in float32 at any temperature. Where exp stays in
    range it is summed as it is (as exp − 1 for T ≥ 1, where the sum would else drown in the ones); below that by a running maximum.

    Args:
        rows: (n, d) float32 of length 1.
        columns: (m, d) float32 of length 1.
        temperature: T > 0.
        minus: (n,) taken off every score of a row.

    Returns:
        (m,) float32.
    """
    bounded = minus is None and temperature >= 1 / 40  # |score / T| ≤ 40: no sum of exp leaves float32

    def part(of: slice) -> tuple[NDArray[np.float64], FloatArray]:
        total = np.zeros(len(columns))
        peak = np.full(len(columns), 0.0 if bounded else -np.inf, np.float32)
        for i, j, block in products(rows[of], columns, scale=1 / temperature):
            sums, highest = total[j], peak[j]
            if minus is not None:
                block -= (minus[of][i, None] / temperature).astype(np.float32)
            if not bounded:
                highest = np.maximum(highest, block.max(axis=0))
                sums *= np.exp(peak[j] - highest)
                peak[j] = highest
            for start in range(0, len(block), STRIP):
                x = block[start : start + STRIP]
                if not bounded:
                    x -= highest
                (np.expm1 if bounded and temperature >= 1 else np.exp)(x, out=x)
                sums += x.sum(axis=0)
        return total, peak

    parts = shared_out(len(rows), part)
    peak = np.maximum.reduce([highest for _, highest in parts])
    mean = sum(total * np.exp(highest - peak) for total, highest in parts) / len(rows)
    logs = np.log1p(mean) if bounded and temperature >= 1 else np.log(mean)
    number: FloatArray = (temperature * (logs + peak)).astype(np.float32)
    return number


def largest(rows: FloatArray, columns: FloatArray, k: int) -> tuple[FloatArray, FloatArray]:
    """(m,) mean of the k largest scores of every column, and (m,) the smallest of these; of all scores if there are fewer than k."""
    means, least = np.empty(len(columns), np.float32), np.empty(len(columns), np.float32)
    precision = Precision.of(len(columns), rows) if len(rows) >= MANY * k else None
    for start in range(0, len(columns), CHUNK):
        j = slice(start, start + CHUNK)
        values = unsorted(columns[j], rows, k, precision)
        means[j], least[j] = values.mean(axis=1, dtype=np.float64), values.min(axis=1)
    return means, least
