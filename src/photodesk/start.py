"""Where training starts: the closed-form network, by shrunken canonical correlation analysis of the pairs.

Each side is whitened with its covariance plus a ridge; the directions in which texts and photos of right pairs agree most, weighted by a
power of their correlation, are the joint space. It takes seconds, has no randomness, and with a few thousand pairs is hard to beat.
The covariances are summed over blocks of pairs, so memory is that of the matrices.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from photodesk.network import Network
from photodesk.pairs import BLOCK, Pairs
from photodesk.records import FloatArray

GAIN = 0.1  # standard deviation of tanh's arguments at the start: there it is straight, and bending costs a tenth of the recall

Matrix = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Whitening:
    """Per text feature and per photo feature its mean (d,) over the pairs that the network is for, and its whitening matrix (d, d)."""

    texts: tuple[tuple[FloatArray, FloatArray], ...]
    photos: tuple[tuple[FloatArray, FloatArray], ...]


@dataclass(frozen=True, eq=False)
class _Moments:
    text_mean: Matrix
    photo_mean: Matrix
    texts: Matrix
    photos: Matrix
    cross: Matrix


def closed_form(
    pairs: Pairs,
    text_dims: Sequence[int],
    visual_dims: Sequence[int],
    towers: tuple[str, str],
    *,
    dim: int,
    ridge: float,
    power: float,
) -> tuple[Network, Whitening]:
    """The network of the closed form, and the whitening that it rests on.

    Each photo feature's shared block takes the directions that agree most with all texts; the pair blocks turn them towards
    each text feature.

    Args:
        pairs: the training part.
        text_dims: how a text row divides into T features.
        visual_dims: how a photo row divides into V features.
        towers: fingerprints of the text and the photo tower.
        dim: D, at most as many as the smallest feature has numbers.
        ridge: in fiftieths of a feature's total variance.
        power: to which the correlations are weights, both sides together.
    """
    dim = min(dim, *text_dims, *visual_dims)
    moments = _moments(pairs)
    text_parts, photo_parts = _parts(text_dims), _parts(visual_dims)
    text_white = [whitening(moments.texts[part, part], ridge) for part in text_parts]
    photo_white = [whitening(moments.photos[part, part], ridge) for part in photo_parts]
    weights: dict[str, NDArray[np.floating]] = {}
    for v, (photo_part, white) in enumerate(zip(photo_parts, photo_white, strict=True)):
        crosses = [w @ moments.cross[part, photo_part].astype(np.float32) @ white for part, w in zip(text_parts, text_white, strict=True)]
        shared = np.linalg.svd(np.concatenate(crosses), full_matrices=False)[2][:dim].T
        matrix = white @ shared
        spread = _spread(matrix, moments.photos[photo_part, photo_part])
        weights[f"photo.{v}.w"] = matrix * (GAIN / spread)
        weights[f"photo.{v}.b"] = -moments.photo_mean[photo_part] @ weights[f"photo.{v}.w"]
        for t, (text_part, cross) in enumerate(zip(text_parts, crosses, strict=True)):
            left, strength, right = np.linalg.svd(cross @ shared, full_matrices=False)
            gains = (strength / max(float(strength[0]), 1e-9)) ** (power / 2)
            text = text_white[t] @ (left * gains)
            text *= GAIN / _spread(text, moments.texts[text_part, text_part])
            weights[f"text.{t}.{v}.w"], weights[f"text.{t}.{v}.b"] = text, -moments.text_mean[text_part] @ text
            turn = right.T * gains
            covariance = shared.T @ (white @ moments.photos[photo_part, photo_part] @ white) @ shared * (GAIN / spread) ** 2
            weights[f"pair.{v}.{t}.w"] = turn * (GAIN / _spread(turn, covariance))
            weights[f"pair.{v}.{t}.b"] = np.zeros(dim)
    network = Network(
        *towers, tuple(text_dims), tuple(visual_dims), {name: np.ascontiguousarray(w, np.float32) for name, w in weights.items()}
    )
    return network, Whitening(
        tuple((moments.text_mean[part].astype(np.float32), w) for part, w in zip(text_parts, text_white, strict=True)),
        tuple((moments.photo_mean[part].astype(np.float32), w) for part, w in zip(photo_parts, photo_white, strict=True)),
    )


def whitening(covariance: Matrix, ridge: float) -> FloatArray:
    """(d, d) inverse root of a covariance with `ridge` fiftieths of its trace added along the diagonal."""
    values, vectors = np.linalg.eigh(covariance + ridge / 50 * np.trace(covariance) * np.eye(len(covariance)))
    white: FloatArray = (vectors / np.sqrt(values) @ vectors.T).astype(np.float32)
    return white


def _parts(dims: Sequence[int]) -> list[slice]:
    ends = np.cumsum(dims).tolist()
    return [slice(end - dim, end) for end, dim in zip(ends, dims, strict=True)]


def _spread(matrix: NDArray[np.floating], covariance: Matrix) -> float:
    """Root mean square of rows of that covariance times the matrix."""
    return max(float(np.sqrt(np.mean(np.sum(matrix * (covariance @ matrix), axis=0)))), 1e-9)


def _moments(pairs: Pairs) -> _Moments:
    """Means over the pairs that the network is for; weighted covariances, each data set centred on its own mean, views averaged."""
    text_dim, photo_dim = pairs.texts[0].shape[1], pairs.photos.shape[1]
    tt, pp, tp = (np.zeros(shape) for shape in ((text_dim, text_dim), (photo_dim, photo_dim), (text_dim, photo_dim)))
    views = range(len(pairs.texts))
    total = 0.0
    main_text, main_photo, main = np.zeros(text_dim), np.zeros(photo_dim), 0
    for source, weight in enumerate(pairs.weights):
        at = np.flatnonzero(pairs.source == source)
        if not len(at):
            continue
        at = at[np.argsort(pairs.photo[at], kind="stable")]  # pairs of one picture stand together: it is read and multiplied once
        text_means, photo_mean = [np.zeros(text_dim) for _ in views], np.zeros(photo_dim)
        for block in _blocks(at):
            rows, _, counts = _pictures(pairs, block)
            photo_mean += counts @ pairs.photo_rows(rows)
            for view in views:
                text_means[view] += pairs.text_rows(block, view).sum(axis=0)
        if weight == max(pairs.weights):
            main_text, main_photo, main = main_text + np.mean(text_means, axis=0), main_photo + photo_mean, main + len(at)
        text_means, photo_mean = [mean / len(at) for mean in text_means], photo_mean / len(at)
        total += weight * len(at)
        for block in _blocks(at):
            rows, firsts, counts = _pictures(pairs, block)
            photos = pairs.photo_rows(rows) - photo_mean.astype(np.float32)
            pp += weight * ((photos * counts[:, None]).T @ photos)
            sums = np.zeros((len(rows), text_dim), np.float32)
            for view in views:
                texts = pairs.text_rows(block, view) - text_means[view].astype(np.float32)
                tt += weight / len(views) * (texts.T @ texts)
                sums += np.add.reduceat(texts, firsts, axis=0)
            tp += weight / len(views) * (sums.T @ photos)
    return _Moments(main_text / main, main_photo / main, tt / total, pp / total, tp / total)


def _blocks(at: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    return [at[i : i + BLOCK] for i in range(0, len(at), BLOCK)]


def _pictures(pairs: Pairs, block: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64], FloatArray]:
    """Of pairs in the order of their pictures: the pictures, where each begins, how many pairs each has."""
    rows, firsts, counts = np.unique(pairs.photo[block], return_index=True, return_counts=True)
    return rows, firsts, counts.astype(np.float32)
