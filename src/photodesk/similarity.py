"""Cosine similarity of articles and photos, streamed: the best k per article without the whole matrix.

Scores are (n articles, m photos), higher is better; equal scores are ordered by photo id, ascending, so a constant model
gets R@1 near 1/m and never 1.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from photodesk.errors import StoreError
from photodesk.records import Embeddings, FloatArray, Hit, Run, Scores

ARTICLES, PHOTOS = 1024, 8192  # a block of scores: 32 MB of float32


def cosine(articles: Embeddings, photos: Embeddings) -> Scores:
    """The full matrix of cosines (n articles, m photos); for small sets.

    Raises:
        StoreError: the two were made by different encoders.
    """
    _comparable(articles, photos)
    return Scores(articles.ids, photos.ids, articles.rows @ photos.rows.T)


def top_k(
    articles: Embeddings,
    photos: Embeddings,
    k: int = 100,
    *,
    name: str = "cosine",
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> Run:
    """The k best photos of every article by cosine, best first, ties by photo id.

    Memory is the inputs, one block of scores, and n · k hits.

    Args:
        articles: n queries.
        photos: m gallery rows of the same encoder.
        k: at most so many hits an article.
        name: of the run.
        progress: called with (articles done, articles).

    Raises:
        StoreError: the two were made by different encoders.
    """
    _comparable(articles, photos)
    order = sorted(range(len(photos)), key=lambda j: photos.ids[j])
    ids = [photos.ids[j] for j in order]
    rows = photos.rows[order]
    k = min(k, len(ids))
    hits: dict[str, tuple[Hit, ...]] = {}
    for start in range(0, len(articles), ARTICLES):
        block = articles.rows[start : start + ARTICLES]
        best = np.empty((len(block), 0), np.float32)
        where = np.empty((len(block), 0), np.int64)
        for first in range(0, len(rows), PHOTOS):
            scores = block @ rows[first : first + PHOTOS].T
            columns = np.broadcast_to(np.arange(first, first + scores.shape[1]), scores.shape)
            best, where = best_of(np.hstack([best, scores]), np.hstack([where, columns]), k)
        for article, values, at in zip(articles.ids[start : start + ARTICLES], best.tolist(), where.tolist(), strict=True):
            hits[article] = tuple(Hit(ids[j], value) for j, value in zip(at, values, strict=True))
        progress(start + len(block), len(articles))
    return Run(hits, name)


def best_of(scores: FloatArray, columns: NDArray[np.int64], k: int) -> tuple[FloatArray, NDArray[np.int64]]:
    """The k highest scores of each row with their columns, best first, equal scores by ascending column.

    Args:
        scores: (n, c) with c ≥ 0; NaN is not allowed.
        columns: (n, c) what each score belongs to, ascending within a row among equal scores.
        k: how many to keep; all if c ≤ k.
    """
    if scores.shape[1] > k:
        # everything above the k-th score, then those equal to it from the left until k are found
        limit = np.partition(scores, scores.shape[1] - k, axis=1)[:, scores.shape[1] - k, None]
        above = scores > limit
        level = scores == limit
        keep = above | (level & (np.cumsum(level, axis=1) <= k - above.sum(axis=1, keepdims=True)))
        scores = scores[keep].reshape(-1, k)
        columns = columns[keep].reshape(-1, k)
    order = np.argsort(-scores, axis=1, kind="stable")
    return np.take_along_axis(scores, order, axis=1), np.take_along_axis(columns, order, axis=1)


def _comparable(articles: Embeddings, photos: Embeddings) -> None:
    if articles.encoder != photos.encoder or articles.dim != photos.dim:
        raise StoreError(
            f"articles were embedded by {articles.encoder or 'an unnamed encoder'} ({articles.dim} numbers), photos by "
            f"{photos.encoder or 'an unnamed encoder'} ({photos.dim}); encode both with the same one"
        )
