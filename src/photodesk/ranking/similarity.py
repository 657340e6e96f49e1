"""Cosine similarity of articles and photos, streamed: the best k per article without the whole matrix.

Scores are (n articles, m photos), higher is better; equal scores are ordered by photo id, ascending, so a constant
model gets R@1 near 1/m and never 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from threading import Lock
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from photodesk.errors import StoreError
from photodesk.machine import cores
from photodesk.ranking import bfloat16
from photodesk.ranking.topk import Bits, Kept
from photodesk.ranking.topk import best_of as best_of
from photodesk.types import Embeddings, FloatArray, Hit, Progress, silent

ARTICLES, PHOTOS = 1024, 8192  # a block of scores: 32 MB of float32 for each core
CHUNK = 16384  # rows whose candidates are held at once
FEW = 4  # rows for which reading the columns takes longer than their scores one by one
MANY = 200  # columns for each of the best k, from which on looking at candidates again costs little

A = TypeVar("A")

_LIMIT = Lock()  # the number of threads in a product is one for the whole process


def by_id(photos: Embeddings) -> NDArray[np.intp]:
    """(m,) the rows of `photos` in ascending order of their ids: the order in which ties are broken."""
    return np.array(sorted(range(len(photos)), key=photos.ids.__getitem__), np.intp)


def hits(
    articles: Embeddings, photos: Embeddings, values: FloatArray, columns: NDArray[np.intp]
) -> dict[str, tuple[Hit, ...]]:
    """What `best` found, by the ids of articles and photos."""
    ids = photos.ids
    return {
        article: tuple(map(Hit, [ids[j] for j in at.tolist()], row.tolist()))
        for article, row, at in zip(articles.ids, values, columns, strict=True)
    }


def block_of(columns: int) -> tuple[int, int]:
    """(rows, columns) of the blocks in which a product with so many columns is made: as wide as makes all of one
    width."""
    width = max(1, -(-columns // max(1, round(columns / PHOTOS))))
    return max(1, ARTICLES * PHOTOS // width), width


def products(
    rows: FloatArray,
    columns: FloatArray,
    *,
    scale: float = 1.0,
    order: NDArray[np.intp] | None = None,
    minus: FloatArray | None = None,
    weight: FloatArray | None = None,
) -> Iterator[tuple[slice, slice, FloatArray]]:
    """Blocks of `scale · rows @ columns[order].T − weight ⊗ minus[order]`: (rows, columns, scores), all rows of some
    columns first.

    A block may be written to, and lasts until the next one is asked for. `minus` is one number per column, which enters
    the product as one more dimension, and `weight`, one per row, how much of it the row takes (all, if not given).
    """
    height, width = block_of(len(columns))
    room = np.empty(min(height, len(rows)) * width, np.float32)
    for first in range(0, len(columns), width):
        j = slice(first, min(first + width, len(columns)))
        right = columns[j if order is None else order[j]]
        if minus is not None:
            right = np.column_stack([right, -minus[j if order is None else order[j]]])
        for start in range(0, len(rows), height):
            i = slice(start, min(start + height, len(rows)))
            left = rows[i]
            if minus is not None:
                left = np.column_stack([left, np.ones(len(left), np.float32) if weight is None else weight[i]])
            if scale != 1:
                left = left * np.float32(scale)
            yield i, j, np.matmul(left, right.T, out=room[: len(left) * len(right)].reshape(len(left), len(right)))


def shared_out(rows: int, task: Callable[[slice], A]) -> list[A]:
    """`task` of a part of the rows for each core at once, in order.

    A product that takes all cores leaves them idle while its scores are read. Here each core multiplies and reads
    blocks of its own.
    """
    parts = max(1, min(cores(), rows // 256))
    if parts == 1:
        return [task(slice(0, rows))]
    edges = [rows * part // parts for part in range(parts + 1)]
    with _LIMIT, threadpool_limits(1, "blas"), ThreadPoolExecutor(parts) as pool:
        return list(pool.map(task, map(slice, edges, edges[1:])))


@dataclass(frozen=True, slots=True)
class Precision:
    """How a product too large to be kept is computed first, and what it may be wrong by.

    Args:
        name: "float32" or "bfloat16".
        length: the greatest length of a column.
        loss: the greatest length of what rounding takes from a column.
    """

    name: Literal["float32", "bfloat16"]
    length: float
    loss: float = 0.0

    @classmethod
    def of(cls, rows: int, columns: FloatArray, name: Literal["float32", "bfloat16"] | None = None) -> Precision:
        """For a product of so many rows with `columns`: bfloat16 where it can be had and pays, if no name is given."""
        if name is None:
            name = "bfloat16" if rows * columns.size >= bfloat16.WORTH and bfloat16.available() else "float32"
        length = max(
            float(np.linalg.norm(columns[at : at + 4096], axis=1).max()) for at in range(0, len(columns), 4096)
        )
        loss = float(bfloat16.lost(columns).max()) if name == "bfloat16" else 0.0
        return cls(name, length * (1 + 1e-6), loss)

    def cut(self, rows: FloatArray, kth: FloatArray, minus: float) -> NDArray[np.float64]:
        """(n,) where each row's first scores have to be looked at again, down from the k-th of them, so that none of
        its best k is missed.

        Let s be a score by `dots`, p the score before, a the same as stored. |s − p| ≤ e, by Cauchy and Schwarz for
        what rounding takes from either side, and by the standard bound for sums of d + 3 products, twice. Storing takes
        u·|p| at most. k rows have a ≥ kth, so the k-th best s is ≥ kth − u·|kth| − e, and whatever has such an s has p
        ≥ kth − u·|kth| − 2e, and an a as much lower again.

        Args:
            rows: (n, d).
            kth: (n,) the k-th highest of the scores that came first.
            minus: the greatest size of what is added to a score.
        """
        length = np.linalg.norm(rows, axis=1).astype(np.float64) * (1 + 1e-6)
        half = self.name == "bfloat16"
        own = bfloat16.lost(rows) if half else 0.0
        u = bfloat16.ROUNDING * 1.01 if half else 0.0
        error = own * (self.length + self.loss) + length * self.loss
        error += 2 * (rows.shape[1] + 3) * 2.0**-23 * ((length + own) * (self.length + self.loss) + minus)
        level = np.abs(kth.astype(np.float64)) + 2 * error
        return np.asarray(kth - 2 * error - 2 * u * level, np.float64)


def dots(row: FloatArray, columns: FloatArray, minus: FloatArray | None, weight: np.float32) -> FloatArray:
    """(m,) scores of one row, each by itself, so that they do not depend on what else is computed, or how."""
    scores: FloatArray = np.vecdot(columns, row)
    if minus is not None:
        scores -= weight * minus
    return scores


def best(
    rows: FloatArray,
    columns: FloatArray,
    k: int,
    *,
    order: NDArray[np.intp] | None = None,
    minus: FloatArray | None = None,
    weight: FloatArray | None = None,
    change: Callable[[FloatArray, NDArray[np.intp]], FloatArray] | None = None,
    precision: Precision | None = None,
    progress: Progress = silent,
) -> tuple[FloatArray, NDArray[np.intp]]:
    """The k highest of `rows @ columns.T − weight ⊗ minus` in each row, and their columns; the whole matrix never
    exists.

    Only scores above the best that a row has found so far are looked at, so little is added to the time of the product.
    Where columns are many the product only names candidates: all whose score could be among the best k, given what the
    product may be wrong by. Their scores are then computed one by one in float32, so that the result is the same to the
    last bit with bfloat16 and float32, and whatever the blocks.

    Args:
        rows: (n, d) float32.
        columns: (m, d) float32.
        k: how many; all if m ≤ k.
        order: (m,) the order of columns in which equal scores are ranked; ascending if not given.
        minus: (m,) taken off every score of a column.
        weight: (n,) how much of `minus` a row takes; 1 if not given.
        change: gives new scores for a block and the columns that it covers.
        precision: of a product with many columns; the fastest if not given.
        progress: called with ("ranking", columns done, columns).

    Returns:
        (n, k) scores, best first, and (n, k) columns.
    """
    k, n, m = min(k, len(columns)), len(rows), len(columns)
    if change is not None or m < MANY * max(k, 1):
        values, places = _direct(rows, columns, k, order, minus, weight, change, progress)
        for start in range(0, n, ARTICLES):
            i = slice(start, start + ARTICLES)
            values[i], places[i] = best_of(values[i], places[i], k)
        found = places.astype(np.intp)
        return values, found if order is None else order[found]
    rank = None if order is None else np.argsort(order)
    if n <= FEW:
        singly = _one_by_one(rows, columns, k, rank, minus, weight)
        progress("ranking", m, m)
        return singly
    values, found = np.empty((n, k), np.float32), np.empty((n, k), np.intp)
    precision = precision or Precision.of(n, columns)
    for start in range(0, n, CHUNK):
        i = slice(start, min(start + CHUNK, n))

        def share(stage: str, done: int, of: int, i: slice = i) -> None:
            progress(stage, (i.start * of + (i.stop - i.start) * done) // n, of)

        values[i], found[i] = _candidates(
            rows[i], columns, k, rank, minus, None if weight is None else weight[i], precision, share
        )
    return values, found


def unsorted(rows: FloatArray, columns: FloatArray, k: int, precision: Precision | None) -> FloatArray:
    """(n, k) scores as `best` gives them, in any order."""
    k = min(k, len(columns))
    if len(columns) < MANY * k:
        return _direct(rows, columns, k, None, None, None, None, silent, places=False)[0]
    return best(rows, columns, k, precision=precision)[0]


def _direct(
    rows: FloatArray,
    columns: FloatArray,
    k: int,
    order: NDArray[np.intp] | None,
    minus: FloatArray | None,
    weight: FloatArray | None,
    change: Callable[[FloatArray, NDArray[np.intp]], FloatArray] | None,
    progress: Progress,
    *,
    places: bool = True,
) -> tuple[FloatArray, NDArray[np.int32]]:
    """`best` as the product has the scores: (n, k) of them in any order, and their positions in `order`."""
    kept = Kept(len(rows), k, places=places)

    def part(of: slice) -> None:
        mine, taken = kept.part(of), None if weight is None else weight[of]
        for i, j, scores in products(rows[of], columns, order=order, minus=minus, weight=taken):
            if change is not None:
                scores = change(scores, np.arange(j.start, j.stop) if order is None else order[j])
            mine.offer(i, j.start, scores)
            if of.start == 0 and i.stop == len(mine.values):
                progress("ranking", j.stop, len(columns))

    shared_out(len(rows), part)
    return kept.values, kept.places


def _candidates(
    rows: FloatArray,
    columns: FloatArray,
    k: int,
    rank: NDArray[np.intp] | None,
    minus: FloatArray | None,
    weight: FloatArray | None,
    precision: Precision,
    progress: Progress,
) -> tuple[FloatArray, NDArray[np.intp]]:
    """`best` by way of candidates; `rank` is the place of each column among equal scores."""
    half = precision.name == "bfloat16"
    room = min(3 * k if half else k + 32, len(columns))
    kept = Kept(len(rows), room)
    values, found = np.empty((len(rows), k), np.float32), np.empty((len(rows), k), np.intp)
    added = 0.0 if minus is None else 2 * float(np.abs(minus).max())

    def part(of: slice) -> list[int]:
        mine, taken = kept.part(of), None if weight is None else weight[of]
        blocks: Iterator[tuple[slice, slice, FloatArray | Bits]]
        if half:
            blocks = bfloat16.products(rows[of], columns, *block_of(len(columns)), minus=minus, weight=taken)
        else:
            blocks = products(rows[of], columns, minus=minus, weight=taken)
        for i, j, scores in blocks:
            mine.offer(i, j.start, scores)
            if of.start == 0 and i.stop == len(mine.values):
                progress("ranking", j.stop, len(columns))
        kth = np.partition(mine.values, room - k, axis=1)[:, room - k]
        cut = precision.cut(rows[of], kth, added)
        open_ended = (mine.values.min(axis=1) >= cut) & (room < len(columns))  # more than there was room for
        for row in np.flatnonzero(~open_ended):
            at = mine.places[row][mine.values[row] >= cut[row]]
            one = np.float32(1) if taken is None else taken[row]
            scores = dots(rows[of][row], columns.take(at, axis=0), None if minus is None else minus[at], one)
            first = np.lexsort((at if rank is None else rank[at], -scores))[:k]
            values[of.start + row], found[of.start + row] = scores[first], at[first]
        return [of.start + int(row) for row in np.flatnonzero(open_ended)]

    with bfloat16.one_core_each() if half else nullcontext():
        rest = np.array([row for rows_left in shared_out(len(rows), part) for row in rows_left], np.intp)
    if rest.size:
        taken = None if weight is None else weight[rest]
        if half:
            again = Precision("float32", precision.length)
            values[rest], found[rest] = _candidates(rows[rest], columns, k, rank, minus, taken, again, silent)
        else:
            values[rest], found[rest] = _one_by_one(rows[rest], columns, k, rank, minus, taken)
    return values, found


def _one_by_one(
    rows: FloatArray,
    columns: FloatArray,
    k: int,
    rank: NDArray[np.intp] | None,
    minus: FloatArray | None,
    weight: FloatArray | None,
) -> tuple[FloatArray, NDArray[np.intp]]:
    """`best` by all `dots` of each row: for a few rows, and for those whose scores are so alike that no product can
    tell them apart."""
    values, found = np.empty((len(rows), k), np.float32), np.empty((len(rows), k), np.intp)
    scores = np.empty(len(columns), np.float32)
    for i, row in enumerate(rows):
        taken = np.float32(1) if weight is None else weight[i]
        for start in range(0, len(columns), PHOTOS):
            j = slice(start, start + PHOTOS)
            scores[j] = dots(row, columns[j], None if minus is None else minus[j], taken)
        at = np.flatnonzero(scores >= np.partition(scores, len(scores) - k)[len(scores) - k])
        found[i] = at[np.lexsort((at if rank is None else rank[at], -scores[at]))[:k]]
        values[i] = scores[found[i]]
    return values, found


def comparable(articles: Embeddings, photos: Embeddings) -> None:
    """Raise a StoreError if the two were made by different encoders."""
    if articles.encoder != photos.encoder or articles.dim != photos.dim:
        raise StoreError(
            f"articles were embedded by {articles.encoder or 'an unnamed encoder'} ({articles.dim} numbers), photos by "
            f"{photos.encoder or 'an unnamed encoder'} ({photos.dim}); encode both with the same one"
        )
