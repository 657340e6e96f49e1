"""Cosine similarity of articles and photos, streamed: the best k per article without the whole matrix.

Scores are (n articles, m photos), higher is better; equal scores are ordered by photo id, ascending, so a constant model
gets R@1 near 1/m and never 1.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from photodesk.errors import StoreError
from photodesk.records import Embeddings, FloatArray, Hit, Run, Scores

ARTICLES, PHOTOS = 1024, 8192  # a block of scores: 32 MB of float32 for each core

Progress = Callable[[int, int], None]  # (photos done, photos)
A = TypeVar("A")

_LIMIT = Lock()  # the number of threads in a product is one for the whole process


def cosine(articles: Embeddings, photos: Embeddings) -> Scores:
    """The full matrix of cosines (n articles, m photos); for small sets.

    Raises:
        StoreError: the two were made by different encoders.
    """
    comparable(articles, photos)
    return Scores(articles.ids, photos.ids, articles.rows @ photos.rows.T)


def top_k(
    articles: Embeddings,
    photos: Embeddings,
    k: int = 100,
    *,
    name: str = "cosine",
    progress: Progress = lambda done, of: None,
) -> Run:
    """The k best photos of every article by cosine, best first, ties by photo id.

    Memory is the inputs, one block of scores, and n · k hits.

    Args:
        articles: n queries.
        photos: m gallery rows of the same encoder.
        k: at most so many hits an article.
        name: of the run.
        progress: called with (photos done, photos).

    Raises:
        StoreError: the two were made by different encoders.
    """
    comparable(articles, photos)
    return Run(hits(articles, photos, *best(articles.rows, photos.rows, k, order=by_id(photos), progress=progress)), name)


def by_id(photos: Embeddings) -> NDArray[np.intp]:
    """(m,) the rows of `photos` in ascending order of their ids: the order in which ties are broken."""
    return np.array(sorted(range(len(photos)), key=photos.ids.__getitem__), np.intp)


def hits(articles: Embeddings, photos: Embeddings, values: FloatArray, columns: NDArray[np.intp]) -> dict[str, tuple[Hit, ...]]:
    """What `best` found, by the ids of articles and photos."""
    ids = photos.ids
    return {
        article: tuple(map(Hit, [ids[j] for j in at.tolist()], row.tolist()))
        for article, row, at in zip(articles.ids, values, columns, strict=True)
    }


def products(
    rows: FloatArray,
    columns: FloatArray,
    *,
    scale: float = 1.0,
    order: NDArray[np.intp] | None = None,
    minus: FloatArray | None = None,
    weight: FloatArray | None = None,
) -> Iterator[tuple[slice, slice, FloatArray]]:
    """Blocks of `scale · rows @ columns[order].T − weight ⊗ minus[order]`: (rows, columns, scores), all rows of some columns first.

    A block may be written to, and lasts until the next one is asked for. `minus` is one number per column, which enters the product as one more
    dimension, and `weight`, one per row, how much of it the row takes (all, if not given).
    """
    room = np.empty(min(ARTICLES, len(rows)) * min(PHOTOS, len(columns)), np.float32)
    for first in range(0, len(columns), PHOTOS):
        j = slice(first, min(first + PHOTOS, len(columns)))
        right = columns[j if order is None else order[j]]
        if minus is not None:
            right = np.column_stack([right, -minus[j if order is None else order[j]]])
        for start in range(0, len(rows), ARTICLES):
            i = slice(start, min(start + ARTICLES, len(rows)))
            left = rows[i]
            if minus is not None:
                left = np.column_stack([left, np.ones(len(left), np.float32) if weight is None else weight[i]])
            if scale != 1:
                left = left * np.float32(scale)
            yield i, j, np.matmul(left, right.T, out=room[: len(left) * len(right)].reshape(len(left), len(right)))


def shared_out(rows: int, task: Callable[[slice], A]) -> list[A]:
    """`task` of a part of the rows for each core at once, in order.

    A product that takes all cores leaves them idle while its scores are read. Here each core multiplies and reads blocks of its own.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    parts = max(1, min(cores, rows // 256))
    if parts == 1:
        return [task(slice(0, rows))]
    edges = [rows * part // parts for part in range(parts + 1)]
    with _LIMIT, threadpool_limits(1, "blas"), ThreadPoolExecutor(parts) as pool:
        return list(pool.map(task, map(slice, edges, edges[1:])))


def best(
    rows: FloatArray,
    columns: FloatArray,
    k: int,
    *,
    order: NDArray[np.intp] | None = None,
    minus: FloatArray | None = None,
    weight: FloatArray | None = None,
    change: Callable[[FloatArray, NDArray[np.intp]], FloatArray] | None = None,
    progress: Progress = lambda done, of: None,
) -> tuple[FloatArray, NDArray[np.intp]]:
    """The k highest of `rows @ columns.T − weight ⊗ minus` in each row, and their columns; the whole matrix never exists.

    Only scores above the k-th that a row has found so far are looked at, so little is added to the time of the product.

    Args:
        rows: (n, d) float32.
        columns: (m, d) float32.
        k: how many; all if m ≤ k.
        order: (m,) the order of columns in which equal scores are ranked; ascending if not given.
        minus: (m,) taken off every score of a column.
        weight: (n,) how much of `minus` a row takes; 1 if not given.
        change: gives new scores for a block and the columns that it covers.
        progress: called with (columns done, columns).

    Returns:
        (n, k) scores, best first, and (n, k) columns.
    """
    k = min(k, len(columns))
    values = np.full((len(rows), k), -np.inf, np.float32)
    places = np.zeros((len(rows), k), np.int32)  # positions in `order`, ascending within a row until the end

    def part(of: slice) -> None:
        mine, at, taken = values[of], places[of], None if weight is None else weight[of]
        for i, j, scores in products(rows[of], columns, order=order, minus=minus, weight=taken):
            if change is not None:
                scores = change(scores, np.arange(j.start, j.stop) if order is None else order[j])
            if j.start == 0 and scores.shape[1] >= k:
                _merge(mine[i], at[i], scores, 0, _guess(scores, k))
                short = i.start + np.flatnonzero(mine[i].min(axis=1) == -np.inf)  # the guess was too high
                at[short] = first = _highest(scores[short - i.start], k)
                mine[short] = np.take_along_axis(scores[short - i.start], first, axis=1)
            else:
                _merge(mine[i], at[i], scores, j.start, mine[i].min(axis=1, keepdims=True))
            if of.start == 0 and i.stop == len(mine):
                progress(j.stop, len(columns))
        for start in range(0, len(mine), ARTICLES):
            i = slice(start, start + ARTICLES)
            mine[i], at[i] = best_of(mine[i], at[i], k)

    shared_out(len(rows), part)
    found = places.astype(np.intp)
    return values, found if order is None else order[found]


def _guess(scores: FloatArray, k: int) -> FloatArray:
    """(n, 1) scores which in most rows, though not in all, somewhat more than k of the c ≥ k columns exceed: judged by every eighth column."""
    expected = k / 8
    rank = int(expected + 3 * expected**0.5) + 1
    sample = scores[:, ::8]
    if 2 * rank > sample.shape[1]:
        return np.full((len(scores), 1), -np.inf, np.float32)
    return np.partition(sample, -rank, axis=1)[:, -rank, None]


def _merge(values: FloatArray, places: NDArray[np.int32], scores: FloatArray, first: int, limit: FloatArray) -> None:
    """Let those of `scores` that are above a row's limit compete with its values; columns count from `first`."""
    at, column = np.divmod(np.flatnonzero(scores > limit), scores.shape[1])
    if not at.size:
        return
    counts = np.bincount(at, minlength=len(values))
    slot = np.arange(at.size) - np.repeat(np.cumsum(counts) - counts, counts)
    extra = np.full((len(values), int(counts.max())), -np.inf, np.float32)
    extra_places = np.zeros(extra.shape, np.int32)
    extra[at, slot] = scores[at, column]
    extra_places[at, slot] = column + first
    scores = np.hstack([values, extra])
    keep = _highest(scores, values.shape[1])
    values[:] = np.take_along_axis(scores, keep, axis=1)
    places[:] = np.take_along_axis(np.hstack([places, extra_places]), keep, axis=1)


def best_of(scores: FloatArray, columns: NDArray[np.integer], k: int) -> tuple[FloatArray, NDArray[np.integer]]:
    """The k highest scores of each row with their columns, best first, equal scores by ascending column.

    Args:
        scores: (n, c) with c ≥ 0; NaN is not allowed.
        columns: (n, c) what each score belongs to, ascending within a row among equal scores.
        k: how many to keep; all if c ≤ k.
    """
    if scores.shape[1] > k:
        keep = _highest(scores, k)
        scores, columns = np.take_along_axis(scores, keep, axis=1), np.take_along_axis(columns, keep, axis=1)
    order = np.argsort(-scores, axis=1, kind="stable")
    return np.take_along_axis(scores, order, axis=1), np.take_along_axis(columns, order, axis=1)


def _highest(scores: FloatArray, k: int) -> NDArray[np.intp]:
    """(n, k) where the k highest of c ≥ k scores stand in each row, ascending; of equal ones the first."""
    limit = np.partition(scores, scores.shape[1] - k, axis=1)[:, scores.shape[1] - k, None]
    keep = scores >= limit
    crowded = np.flatnonzero(np.count_nonzero(keep, axis=1) > k)
    if crowded.size:  # of those equal to the k-th score, the first ones until k are found
        above, level = scores[crowded] > limit[crowded], scores[crowded] == limit[crowded]
        keep[crowded] = above | (level & (np.cumsum(level, axis=1) <= k - above.sum(axis=1, keepdims=True)))
    at: NDArray[np.intp] = np.flatnonzero(keep).reshape(-1, k) % scores.shape[1]
    return at


def comparable(articles: Embeddings, photos: Embeddings) -> None:
    """Raise a StoreError if the two were made by different encoders."""
    if articles.encoder != photos.encoder or articles.dim != photos.dim:
        raise StoreError(
            f"articles were embedded by {articles.encoder or 'an unnamed encoder'} ({articles.dim} numbers), photos by "
            f"{photos.encoder or 'an unnamed encoder'} ({photos.dim}); encode both with the same one"
        )
