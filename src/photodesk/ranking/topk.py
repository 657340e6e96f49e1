"""The k best scores of each row, from blocks of scores that are computed one after the other."""

from __future__ import annotations

from typing import cast

import numpy as np
from numpy.typing import NDArray

from photodesk.types import FloatArray

Indices = NDArray[np.intp]
Bits = NDArray[np.int16]  # bfloat16 numbers as they are stored


class Kept:
    """The best `room` scores of each of n rows so far, and their columns. Scores below the least of them are skipped.

    Attributes:
        values: (n, room) scores in no order; −inf where there is none yet.
        places: (n, room) their columns, ascending among equal scores; (n, 0) where they are not needed.
    """

    def __init__(self, n: int, room: int, *, places: bool = True) -> None:
        self.values = np.full((n, room), -np.inf, np.float32)
        self.places = np.zeros((n, room if places else 0), np.int32)

    def part(self, of: slice) -> Kept:
        """A view of some of the rows."""
        made = Kept(0, 0)
        made.values, made.places = self.values[of], self.places[of]
        return made

    def offer(self, i: slice, first: int, block: FloatArray | Bits) -> None:
        """Add a block of scores: all rows of `i`, columns from `first` on; blocks come in order of their columns."""
        values, places = self.values[i], self.places[i]
        if first:
            _merge(values, places, block, first, values.min(axis=1, keepdims=True))
            return
        if block.shape[1] < values.shape[1]:
            _merge(values, places, block, 0, np.full((len(values), 1), -np.inf, np.float32))
            return
        _merge(values, places, block, 0, _guess(block, values.shape[1]))
        short = np.flatnonzero(values.min(axis=1) == -np.inf)  # the guess was too high
        if short.size:
            scores = floats(block[short])
            at = _highest(scores, values.shape[1])
            values[short] = np.take_along_axis(scores, at, axis=1)
            if places.shape[1]:
                places[short] = at


def floats(block: FloatArray | Bits) -> FloatArray:
    """The scores of a block as float32, whose upper half is bfloat16."""
    if block.dtype != np.int16:
        return cast(FloatArray, block)
    return (block.astype(np.int32) << 16).view(np.float32)


def best_of(scores: FloatArray, columns: NDArray[np.integer], k: int) -> tuple[FloatArray, NDArray[np.integer]]:
    """The k highest scores of each row with their columns, best first, equal scores by ascending column.

    Args:
        scores: (n, c) with c ≥ 0; NaN is not allowed.
        columns: (n, c) of each score, ascending within a row among equal scores.
        k: how many to keep; all if c ≤ k.
    """
    if scores.shape[1] > k:
        keep = _highest(scores, k)
        scores, columns = np.take_along_axis(scores, keep, axis=1), np.take_along_axis(columns, keep, axis=1)
    order = np.argsort(-scores, axis=1, kind="stable")
    return np.take_along_axis(scores, order, axis=1), np.take_along_axis(columns, order, axis=1)


def _guess(block: FloatArray | Bits, k: int) -> FloatArray:
    """(n, 1) scores that in most rows somewhat more than k of the c ≥ k columns exceed, estimated from every eighth
    column."""
    expected = k / 8
    rank = int(expected + 3 * expected**0.5) + 1
    sample = floats(block[:, ::8])
    if 2 * rank > sample.shape[1]:
        return np.full((len(block), 1), -np.inf, np.float32)
    return np.partition(sample, -rank, axis=1)[:, -rank, None]


def _above(block: FloatArray | Bits, limit: FloatArray) -> tuple[Indices, FloatArray]:
    """Flat indices of the scores above their row's limit, and these scores."""
    if block.dtype == np.int16 and limit.min(initial=0) >= 0:  # non-negative numbers are ordered as their bits are
        at = np.flatnonzero(block > (limit.view(np.int32) >> 16).astype(np.int16))
        return at, floats(block.reshape(-1)[at])
    scores = floats(block)
    at = np.flatnonzero(scores > limit)
    return at, scores.reshape(-1)[at]


def _merge(
    values: FloatArray, places: NDArray[np.int32], block: FloatArray | Bits, first: int, limit: FloatArray
) -> None:
    """Replace values by scores of the block that are higher and above the row's limit; `first` is the block's first
    column, 0 if there are no values yet."""
    at, found = _above(block, limit)
    if not at.size:
        return
    k, old = values.shape[1], values.shape[1] if first else 0
    rows = np.arange(len(values))
    edges = np.searchsorted(at, np.arange(len(values) + 1) * block.shape[1])
    counts = np.diff(edges)
    width = max(old + int(counts.max()), k)
    slot = np.arange(at.size) + np.repeat(rows * width + old - edges[:-1], counts)
    scores = np.full((len(values), width), -np.inf, np.float32)
    scores[:, :old] = values[:, :old]
    scores.reshape(-1)[slot] = found
    if not places.shape[1]:  # not needed
        values[:] = np.partition(scores, width - k, axis=1)[:, width - k :]
        return
    columns = np.zeros((len(values), width), np.int32)
    columns[:, :old] = places[:, :old]
    columns.reshape(-1)[slot] = at - np.repeat(rows * block.shape[1] - first, counts)
    keep = _highest(scores, k)
    values[:] = np.take_along_axis(scores, keep, axis=1)
    places[:] = np.take_along_axis(columns, keep, axis=1)


def _highest(scores: FloatArray, k: int) -> Indices:
    """(n, k) indices of the k highest of c ≥ k scores in each row, ascending; of equal scores the first."""
    limit = np.partition(scores, scores.shape[1] - k, axis=1)[:, scores.shape[1] - k, None]
    keep = scores >= limit
    crowded = np.flatnonzero(np.count_nonzero(keep, axis=1) > k)
    if crowded.size:  # of those equal to the k-th score, the first ones until k are found
        above, level = scores[crowded] > limit[crowded], scores[crowded] == limit[crowded]
        keep[crowded] = above | (level & (np.cumsum(level, axis=1) <= k - above.sum(axis=1, keepdims=True)))
    at: Indices = np.flatnonzero(keep).reshape(-1, k) % scores.shape[1]
    return at
