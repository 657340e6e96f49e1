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
from photodesk.ranking.topk import Indices, Kept
from photodesk.ranking.topk import best_of as best_of
from photodesk.types import Embeddings, FloatArray, Hit, Progress, silent

ARTICLES, PHOTOS = 1024, 8192  # a block of scores: 32 MB of float32 for each core
CHUNK = 16384  # rows whose candidates are held at once
FEW = 4  # rows at most for which exact scores are faster than a product
MANY = 200  # columns per k, above which computing candidates again costs little

A = TypeVar("A")
Blocks = Iterator[tuple[slice, slice, FloatArray]]
"""(rows, columns, scores) of a product."""

_LIMIT = Lock()  # the number of BLAS threads is one setting for the whole process


def by_id(photos: Embeddings) -> Indices:
    """(m,) the rows of `photos` in ascending order of their ids: the order in which ties are broken."""
    return np.array(sorted(range(len(photos)), key=photos.ids.__getitem__), np.intp)


def hits(articles: Embeddings, photos: Embeddings, values: FloatArray, columns: Indices) -> dict[str, tuple[Hit, ...]]:
    """The result of `best` by ids of articles and photos."""
    ids = photos.ids
    return {
        article: tuple(map(Hit, [ids[j] for j in at.tolist()], row.tolist()))
        for article, row, at in zip(articles.ids, values, columns, strict=True)
    }


def block_of(columns: int) -> tuple[int, int]:
    """(rows, columns) of the blocks of a product with that many columns; all blocks have nearly one width."""
    width = max(1, -(-columns // max(1, round(columns / PHOTOS))))
    return max(1, ARTICLES * PHOTOS // width), width


def products(
    rows: FloatArray,
    columns: FloatArray,
    *,
    scale: float = 1.0,
    order: Indices | None = None,
    minus: FloatArray | None = None,
    weight: FloatArray | None = None,
) -> Blocks:
    """Blocks of `scale · rows @ columns[order].T − weight ⊗ minus[order]`: (rows, columns, scores), all rows of some
    columns first.

    A block may be written to, and is valid until the next one. `minus` is one number per column, which is multiplied in
    as one more dimension, and `weight` its factor in each row (1 if not given).
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
    """The results of `task` for one part of the rows per core, in parallel, in order.

    A product that takes all cores leaves them idle while its scores are read. Here each core multiplies and reads
    its own blocks.
    """
    parts = max(1, min(cores(), rows // 256))
    if parts == 1:
        return [task(slice(0, rows))]
    edges = [rows * part // parts for part in range(parts + 1)]
    with _LIMIT, threadpool_limits(1, "blas"), ThreadPoolExecutor(parts) as pool:
        return list(pool.map(task, map(slice, edges, edges[1:])))


@dataclass(frozen=True, slots=True)
class Precision:
    """The number format of a product that selects candidates, and its error bound.

    Args:
        name: "float32" or "bfloat16".
        length: the greatest norm of a column.
        loss: the greatest norm of a column's rounding error.
    """

    name: Literal["float32", "bfloat16"]
    length: float
    loss: float = 0.0

    @classmethod
    def of(cls, rows: int, columns: FloatArray, name: Literal["float32", "bfloat16"] | None = None) -> Precision:
        """For a product of that many rows with `columns`; without a name, bfloat16 where it is available and faster."""
        if name is None:
            name = "bfloat16" if rows * columns.size >= bfloat16.WORTH and bfloat16.available() else "float32"
        length = max(
            float(np.linalg.norm(columns[at : at + 4096], axis=1).max()) for at in range(0, len(columns), 4096)
        )
        loss = float(bfloat16.lost(columns).max()) if name == "bfloat16" else 0.0
        return cls(name, length * (1 + 1e-6), loss)

    def cut(self, rows: FloatArray, kth: FloatArray, minus: float) -> NDArray[np.float64]:
        """(n,) the lowest score by the product that one of the best k exact scores of each row can have.

        Let s be an exact score, p the same by the product, a that as stored. |s − p| ≤ e, by Cauchy and Schwarz for the
        rounding errors of both sides, and by the standard bound for sums of d + 3 products, twice. |p − a| ≤ u·|p|. k
        columns have a ≥ kth, so the k-th best s is ≥ kth − u·|kth| − e; every such s has p ≥ kth − u·|kth| − 2e, and an
        a as much lower again.

        Args:
            rows: (n, d).
            kth: (n,) the k-th highest score by the product.
            minus: the greatest absolute value added to a score.
        """
        length = np.linalg.norm(rows, axis=1).astype(np.float64) * (1 + 1e-6)
        half = self.name == "bfloat16"
        own = bfloat16.lost(rows) if half else 0.0
        u = bfloat16.ROUNDING * 1.01 if half else 0.0
        error = own * (self.length + self.loss) + length * self.loss
        error += 2 * (rows.shape[1] + 3) * 2.0**-23 * ((length + own) * (self.length + self.loss) + minus)
        level = np.abs(kth.astype(np.float64)) + 2 * error
        return np.asarray(kth - 2 * error - 2 * u * level, np.float64)


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """The (n, m) matrix `rows @ columns.T − weight ⊗ minus`, which is never held as a whole.

    Args:
        rows: (n, d) float32.
        columns: (m, d) float32.
        minus: (m,) subtracted from every score of a column.
        weight: (n,) factor of `minus` in a row; 1 if not given.
    """

    rows: FloatArray
    columns: FloatArray
    minus: FloatArray | None = None
    weight: FloatArray | None = None

    def __getitem__(self, i: slice | Indices) -> Scores:
        """Some of the rows."""
        return Scores(self.rows[i], self.columns, self.minus, None if self.weight is None else self.weight[i])

    def exact(self, row: int, at: slice | NDArray[np.integer]) -> FloatArray:
        """(c,) scores of one row in some columns, each computed by itself, so that they do not depend on blocks and
        precision."""
        columns = self.columns[at] if isinstance(at, slice) else self.columns.take(at, axis=0)  # faster than [at]
        scores: FloatArray = np.vecdot(columns, self.rows[row])
        if self.minus is not None:
            scores -= self.minus[at] if self.weight is None else self.weight[row] * self.minus[at]
        return scores

    def blocks(self, order: Indices | None = None) -> Blocks:
        """As `products`."""
        return products(self.rows, self.columns, order=order, minus=self.minus, weight=self.weight)


def best(
    rows: FloatArray,
    columns: FloatArray,
    k: int,
    *,
    order: Indices | None = None,
    minus: FloatArray | None = None,
    weight: FloatArray | None = None,
    change: Callable[[FloatArray, Indices], FloatArray] | None = None,
    precision: Precision | None = None,
    progress: Progress = silent,
) -> tuple[FloatArray, Indices]:
    """The k highest `Scores` of each row, and their columns.

    Only scores above the best that a row has found so far are read, so little is added to the time of the product. With
    many columns the product only selects candidates: all whose score could be among the best k, given the error bound
    of the product. Their scores are then computed one by one in float32, so that the result is identical with bfloat16
    and float32, and with any blocks.

    Args:
        rows: (n, d) float32; columns, minus and weight likewise as in `Scores`.
        k: how many; all if m ≤ k.
        order: (m,) the order of columns in which equal scores are ranked; ascending if not given.
        change: maps a block of scores and the columns that it covers to new scores.
        precision: of a product with many columns; the fastest if not given.
        progress: called with ("ranking", columns done, columns).

    Returns:
        (n, k) scores, best first, and (n, k) columns.
    """
    k, n, m = min(k, len(columns)), len(rows), len(columns)
    scores = Scores(rows, columns, minus, weight)
    if change is not None or m < MANY * max(k, 1):
        values, places = _direct(scores, k, order, change, progress)
        for start in range(0, n, ARTICLES):
            i = slice(start, start + ARTICLES)
            values[i], places[i] = best_of(values[i], places[i], k)
        found = places.astype(np.intp)
        return values, found if order is None else order[found]
    rank = None if order is None else np.argsort(order)
    if n <= FEW:
        singly = _one_by_one(scores, k, rank)
        progress("ranking", m, m)
        return singly
    values, found = np.empty((n, k), np.float32), np.empty((n, k), np.intp)
    precision = precision or Precision.of(n, columns)
    for start in range(0, n, CHUNK):
        i = slice(start, min(start + CHUNK, n))

        def share(stage: str, done: int, of: int, i: slice = i) -> None:
            progress(stage, (i.start * of + (i.stop - i.start) * done) // n, of)

        values[i], found[i] = _candidates(scores[i], k, rank, precision, share)
    return values, found


def unsorted(rows: FloatArray, columns: FloatArray, k: int, precision: Precision | None) -> FloatArray:
    """(n, k) scores as of `best`, in any order."""
    k = min(k, len(columns))
    if len(columns) < MANY * k:
        return _direct(Scores(rows, columns), k, places=False)[0]
    return best(rows, columns, k, precision=precision)[0]


def _direct(
    scores: Scores,
    k: int,
    order: Indices | None = None,
    change: Callable[[FloatArray, Indices], FloatArray] | None = None,
    progress: Progress = silent,
    *,
    places: bool = True,
) -> tuple[FloatArray, NDArray[np.int32]]:
    """`best` by the product's scores: (n, k) of them in any order, and their positions in `order`."""
    kept, m = Kept(len(scores.rows), k, places=places), len(scores.columns)

    def part(of: slice) -> None:
        blocks: Blocks = scores[of].blocks(order)
        if change is not None:
            blocks = (
                (i, j, change(block, np.arange(j.start, j.stop) if order is None else order[j]))
                for i, j, block in blocks
            )
        _offer(kept.part(of), blocks, m, progress if of.start == 0 else silent)

    shared_out(len(scores.rows), part)
    return kept.values, kept.places


def _offer(kept: Kept, blocks: Blocks | bfloat16.Blocks, columns: int, progress: Progress) -> None:
    for i, j, block in blocks:
        kept.offer(i, j.start, block)
        if i.stop == len(kept.values):
            progress("ranking", j.stop, columns)


def _candidates(
    scores: Scores, k: int, rank: Indices | None, precision: Precision, progress: Progress
) -> tuple[FloatArray, Indices]:
    """`best` by way of candidates; `rank` is the place of each column among equal scores."""
    n, m, half = len(scores.rows), len(scores.columns), precision.name == "bfloat16"
    room = min(3 * k if half else k + 32, m)
    kept = Kept(n, room)
    values, found = np.empty((n, k), np.float32), np.empty((n, k), np.intp)
    added = 0.0 if scores.minus is None else 2 * float(np.abs(scores.minus).max())

    def part(of: slice) -> Indices:
        mine, own = kept.part(of), scores[of]
        blocks: Blocks | bfloat16.Blocks = own.blocks()
        if half:
            blocks = bfloat16.products(own.rows, own.columns, *block_of(m), minus=own.minus, weight=own.weight)
        _offer(mine, blocks, m, progress if of.start == 0 else silent)
        kth = np.partition(mine.values, room - k, axis=1)[:, room - k]
        cut = precision.cut(own.rows, kth, added)
        open_ended = (mine.values.min(axis=1) >= cut) & (room < m)  # more candidates than room
        for row in np.flatnonzero(~open_ended).tolist():
            at = mine.places[row][mine.values[row] >= cut[row]]
            values[of.start + row], found[of.start + row] = _first(own.exact(row, at), at, k, rank)
        rest: Indices = of.start + np.flatnonzero(open_ended)
        return rest

    with bfloat16.one_core_each() if half else nullcontext():
        rest = np.concatenate(shared_out(n, part))
    if rest.size and half:
        again = Precision("float32", precision.length)
        values[rest], found[rest] = _candidates(scores[rest], k, rank, again, silent)
    elif rest.size:
        values[rest], found[rest] = _one_by_one(scores[rest], k, rank)
    return values, found


def _one_by_one(scores: Scores, k: int, rank: Indices | None) -> tuple[FloatArray, Indices]:
    """`best` by all exact scores of each row: for a few rows, and for those with more equal scores than candidates."""
    n, m = len(scores.rows), len(scores.columns)
    values, found = np.empty((n, k), np.float32), np.empty((n, k), np.intp)
    exact = np.empty(m, np.float32)
    for row in range(n):
        for start in range(0, m, PHOTOS):
            j = slice(start, start + PHOTOS)
            exact[j] = scores.exact(row, j)
        at = np.flatnonzero(exact >= np.partition(exact, m - k)[m - k])
        values[row], found[row] = _first(exact[at], at, k, rank)
    return values, found


def _first(
    scores: FloatArray, columns: NDArray[np.integer], k: int, rank: Indices | None
) -> tuple[FloatArray, NDArray[np.integer]]:
    """The k best of one row, best first, and their columns; equal scores by rank, else by column."""
    first = np.lexsort((columns if rank is None else rank[columns], -scores))[:k]
    return scores[first], columns[first]


def comparable(articles: Embeddings, photos: Embeddings) -> None:
    """Raise a StoreError if the two were made by different encoders."""
    if articles.encoder != photos.encoder or articles.dim != photos.dim:
        raise StoreError(
            f"articles were embedded by {articles.encoder or 'an unnamed encoder'} ({articles.dim} numbers), photos by "
            f"{photos.encoder or 'an unnamed encoder'} ({photos.dim}); encode both with the same one"
        )
