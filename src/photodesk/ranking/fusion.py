"""Fusion of several encodings, several texts of one article, or several runs into one ranking.

A sum of scores that are each scaled per article is one dot product of concatenated vectors: Σ w·(S − centre)/scale
differs within an article from Σ (w/scale)·q·v by a constant only. So `concatenated` turns any number of encodings,
whatever their weights and normalisation, into one pair of `Embeddings`; ranking, revision and indexes use them like
any other, in blocks, without a score matrix.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from photodesk.errors import UsageError
from photodesk.ranking.similarity import comparable, products
from photodesk.types import Embeddings, FloatArray, Hit, Pair, Run

Normalisation = Literal["none", "z", "minmax"]
Encoding = tuple[Embeddings, Embeddings]
"""Articles and photos by one encoder."""


def concatenated(
    encodings: Sequence[Encoding], weights: Sequence[float] | None = None, *, normalise: Normalisation = "none"
) -> Encoding:
    """One pair of embeddings whose cosine ranks like the weighted sum of the encodings' normalised cosines.

    The fused cosine is that sum times a positive factor of the article's own, less a constant of the article's own
    where scores are normalised. Weights may be negative.

    Args:
        encodings: E ≥ 1 pairs over the same articles and the same photos, each in the same order.
        weights: one per encoding; equal if not given.
        normalise: of the scores of an article over all photos before they are summed: "none" keeps cosines, "z"
            subtracts their mean and divides by their standard deviation, "minmax" maps their range to 0 … 1.

    Returns:
        (n, Σd) articles and (m, Σd) photos.

    Raises:
        UsageError: ids differ between encodings, or weights do not fit.
        StoreError: articles and photos of an encoding were made by different encoders.
    """
    articles, photos = _same_ids(encodings)
    chosen = np.ones(len(encodings)) if weights is None else np.asarray(weights, np.float64)
    if chosen.shape != (len(encodings),) or not np.isfinite(chosen).all() or not chosen.any():
        raise UsageError(f"{len(encodings)} encodings need as many finite weights, not all 0: {list(weights or ())}")
    parts = []
    for (queries, gallery), weight in zip(encodings, chosen, strict=True):
        parts.append(_scaled(queries, gallery, normalise, weight))
    left = np.concatenate(parts, axis=1)
    left /= np.linalg.norm(left, axis=1, keepdims=True)
    right = np.concatenate([gallery.rows for _, gallery in encodings], axis=1)
    right /= np.float32(len(encodings) ** 0.5)
    name = (
        f"fused({normalise}; "
        + " + ".join(f"{w:g} {e[1].encoder}" for w, e in zip(chosen, encodings, strict=True))
        + ")"
    )
    return Embeddings(articles, left, name), Embeddings(photos, right, name)


def scales(
    articles: Embeddings, photos: Embeddings, normalise: Normalisation
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(n,) centre and (n,) scale of each article's cosines over all photos: normalised scores are (S − centre) / scale.

    An article whose scores are all equal has scale 1. Mean and standard deviation are computed from the photos' first
    two moments, without a product; the range takes one streamed pass.
    """
    n = len(articles)
    if normalise == "none":
        return np.zeros(n), np.ones(n)
    if normalise == "z":
        mean, second = np.zeros(photos.dim), np.zeros((photos.dim, photos.dim))
        for start in range(0, len(photos), 4096):
            block = photos.rows[start : start + 4096].astype(np.float64)
            mean += block.sum(axis=0)
            second += block.T @ block
        mean /= len(photos)
        covariance = second / len(photos) - np.outer(mean, mean)
        rows = articles.rows.astype(np.float64)
        deviation = np.sqrt(np.maximum(np.einsum("nd,nd->n", rows @ covariance, rows), 0))
        return rows @ mean, np.where(deviation > 1e-6, deviation, 1.0)
    if normalise == "minmax":
        low, high = np.full(n, np.inf), np.full(n, -np.inf)
        for i, _, scores in products(articles.rows, photos.rows):
            low[i], high[i] = np.minimum(low[i], scores.min(axis=1)), np.maximum(high[i], scores.max(axis=1))
        return low, np.where(high - low > 1e-6, high - low, 1.0)
    raise UsageError(f"no normalisation {normalise!r}; known: {', '.join(get_args(Normalisation))}")


def _scaled(articles: Embeddings, photos: Embeddings, normalise: Normalisation, weight: float = 1) -> FloatArray:
    """(n, d) article rows times the weight, divided by their `scales`."""
    scale = scales(articles, photos, normalise)[1]
    return (articles.rows * (weight / scale)[:, None]).astype(np.float32)


def reciprocal_rank(
    runs: Sequence[Run], weights: Sequence[float] | None = None, *, k: float = 60, top: int = 100
) -> Run:
    """Reciprocal rank fusion: a photo scores Σ weight / (k + rank) over the runs that rank it; best first, ties by
    photo id.

    Articles are those of any run, in the order of the first that has each. The fused run is transductive if one of the
    runs is.

    Source: Cormack, Clarke & Büttcher, Reciprocal Rank Fusion outperforms Condorcet … (SIGIR 2009), k = 60.

    Raises:
        UsageError: no runs, or another number of weights.
    """
    chosen = [1.0] * len(runs) if weights is None else list(weights)
    if not runs or len(chosen) != len(runs) or not k > -1:
        raise UsageError(
            f"fusing needs runs and a weight for each, and k > −1; there are {len(runs)} runs, {len(chosen)} weights, "
            f"k={k}"
        )
    fused: dict[str, tuple[Hit, ...]] = {}
    for article in dict.fromkeys(article for run in runs for article in run):
        scores: dict[str, float] = {}
        for run, weight in zip(runs, chosen, strict=True):
            for rank, hit in enumerate(run.hits.get(article, ()), 1):
                scores[hit.photo] = scores.get(hit.photo, 0.0) + weight / (k + rank)
        fused[article] = tuple(
            Hit(photo, score) for photo, score in sorted(scores.items(), key=lambda item: (-item[1], item[0]))[:top]
        )
    seen = ", ".join(dict.fromkeys(run.transductive for run in runs if run.transductive))
    return Run(fused, " + ".join(run.name for run in runs), seen)


@dataclass(frozen=True, slots=True)
class Learned:
    """Weights of a fusion, and the mean log-likelihood of the relevant photo of a pair (0 is perfect)."""

    weights: tuple[float, ...]
    fit: float


def learn(
    encodings: Sequence[Encoding],
    pairs: Sequence[Pair],
    *,
    normalise: Normalisation = "none",
    ridge: float = 1e-4,
    rounds: int = 50,
) -> Learned:
    """Weights for `concatenated` that maximise the likelihood of the relevant photos of a validation part.

    The likelihood is a softmax over the photos of Σ w·score, a concave function of E weights; Newton's method maximises
    it, each round in one streamed pass over blocks of articles. The ranking depends on the weights' proportions only.
    The regularisation `ridge` keeps them finite where the pairs are separable.

    Args:
        encodings: as for `concatenated`.
        pairs: the ground truth; pairs of unknown articles or photos are ignored.
        normalise: as for `concatenated`.
        ridge: factor of half the sum of the squared weights.
        rounds: maximum number of iterations.

    Raises:
        UsageError: no pair is of these articles and photos, or as `concatenated`.
    """
    articles, photos = _same_ids(encodings)
    at, column = {name: i for i, name in enumerate(articles)}, {name: j for j, name in enumerate(photos)}
    known = [(at[pair.article], column[pair.photo]) for pair in pairs if pair.article in at and pair.photo in column]
    if not known:
        raise UsageError(
            "there is no pair to learn weights from: none names one of these articles with one of these photos"
        )
    rows, right = (np.array(side) for side in zip(*known, strict=True))
    queries = [_scaled(article, photo, normalise)[rows] for article, photo in encodings]
    weights = np.zeros(len(encodings))
    value, slope, curve = _likelihood(weights, queries, encodings, right, ridge)
    for _ in range(rounds):
        step = np.linalg.solve(curve, slope)
        if float(step @ slope) < 1e-10:
            break
        size = 1.0
        while True:
            trial = _likelihood(weights + size * step, queries, encodings, right, ridge)
            if trial[0] > value or size < 1e-6:
                break
            size /= 2
        if trial[0] <= value:
            break
        weights, (value, slope, curve) = weights + size * step, trial
    return Learned(tuple(map(float, weights)), value + ridge / 2 * float(weights @ weights))


def _likelihood(
    weights: NDArray[np.float64],
    queries: Sequence[FloatArray],
    encodings: Sequence[Encoding],
    right: NDArray[np.intp],
    ridge: float,
) -> tuple[float, NDArray[np.float64], NDArray[np.float64]]:
    """Mean log-likelihood less the ridge, its gradient (E,), and its negated Hessian (E, E)."""
    n, m, e = len(right), len(encodings[0][1]), len(encodings)
    value, slope, curve = 0.0, np.zeros(e), np.zeros((e, e))
    step = max(1, 2_000_000 // (m * e))
    for start in range(0, n, step):
        j = right[start : start + step]
        scores = np.stack(
            [q[start : start + step] @ photos.rows.T for q, (_, photos) in zip(queries, encodings, strict=True)]
        )
        z = np.tensordot(weights, scores.astype(np.float64), 1)
        z -= z.max(axis=1, keepdims=True)
        p = np.exp(z)
        total = p.sum(axis=1, keepdims=True)
        p /= total
        hit = scores[:, np.arange(len(j)), j]
        value += float((z[np.arange(len(j)), j] - np.log(total[:, 0])).sum())
        mean = np.einsum("nm,enm->en", p, scores)
        slope += (hit - mean).sum(axis=1)
        centred = (scores - mean[:, :, None]).reshape(e, -1)
        curve += (centred * p.ravel()) @ centred.T
    return value / n - ridge / 2 * float(weights @ weights), slope / n - ridge * weights, curve / n + ridge * np.eye(e)


def _same_ids(encodings: Sequence[Encoding]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    if not encodings:
        raise UsageError("fusing needs at least one encoding")
    articles, photos = encodings[0][0].ids, encodings[0][1].ids
    for left, right in encodings:
        comparable(left, right)
        if left.ids != articles or right.ids != photos:
            differ = {"articles": left.ids != articles, "photos": right.ids != photos}
            what = " and ".join(filter(differ.get, differ))
            raise UsageError(
                f"{right.encoder or 'an encoding'} has other {what}, or in another order, than the first; take() the "
                "shared ids"
            )
    return articles, photos
