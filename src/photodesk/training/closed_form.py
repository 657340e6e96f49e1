"""Where training starts: the closed-form network, by shrunken canonical correlation analysis of the pairs.

Each side is whitened with its covariance plus a ridge; the directions in which texts and photos of right pairs agree
most, weighted by a power of their correlation, are the joint space. It takes seconds to minutes, has no randomness but
the choice of landmarks, and with a few thousand pairs is hard to beat.

With landmarks the photo side is a kernel machine: a photo is first described by how alike it is to some training
photos. The shared block is tanh(g/2 · cosine − (g + 3)/2) there: so far to the left tanh is an exponential, so this is
the kernel exp(g · cosine), a T×V network like any other.

The covariances are summed over blocks of pairs, so memory is that of the matrices.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from photodesk.encoders.txv import Network, averaged, one_plus_tanh
from photodesk.training.config import Settings
from photodesk.training.pairs import BLOCK, Pairs
from photodesk.types import FloatArray, unit

# standard deviation of tanh's arguments at the start: there it is straight, and bending costs a tenth of the recall
GAIN = 0.1
FLOOR = 1e-5  # along the diagonal of the landmarks' kernel, which is about 0.1

Matrix = NDArray[np.float64]
Affine = tuple[FloatArray, FloatArray]
Lift = Callable[[FloatArray], FloatArray]


@dataclass(frozen=True, eq=False)
class Whitening:
    """Per feature its mean (d,) over the pairs that the network is for, and its whitening matrix (d, d); None where it
    is taken as it is."""

    texts: tuple[Affine | None, ...]
    photos: tuple[Affine | None, ...]


@dataclass(frozen=True, eq=False)
class _Moments:
    """Of one data set: number of pairs, means, and sums of products around them."""

    count: int
    text_mean: Matrix
    photo_mean: Matrix
    texts: Matrix
    photos: Matrix
    cross: Matrix


def closed_form(
    pairs: Pairs, text_dims: Sequence[int], visual_dims: Sequence[int], towers: tuple[str, str], settings: Settings
) -> tuple[Network, Whitening]:
    """The network of the closed form, and the whitening that it rests on.

    Each photo feature's shared part takes the directions that agree most with all texts; the pair blocks turn them
    towards each text feature. With experts there is a member for the main data sets and one for each further one, and
    the text says how much each counts.

    Args:
        pairs: the training part.
        text_dims: how a text row divides into T features.
        visual_dims: how a photo row divides into V features.
        towers: fingerprints of the text and the photo tower.
        settings: dim, ridges, power, landmarks and their kin, experts, seed.
    """
    raw_parts = _parts(visual_dims)
    marks = [_landmarks(pairs, part, settings) for part in raw_parts] if settings.landmarks else []
    widths = [len(mark.root) for mark in marks] or list(visual_dims)

    def lift(rows: FloatArray) -> FloatArray:
        features = [unit(rows[:, part]) for part in raw_parts]
        return np.concatenate([mark(y) for y, mark in zip(features, marks, strict=True)] if marks else features, axis=1)

    sources = [_moments(pairs, number, lift, sum(widths)) for number in range(len(pairs.weights))]
    main = [
        source.count if weight == max(pairs.weights) else 0
        for source, weight in zip(sources, pairs.weights, strict=True)
    ]
    plans = [(settings, pairs.weights, main)]
    if settings.experts and not settings.epochs:
        further = [i for i, source in enumerate(sources) if source.count and not main[i]]
        plans += [
            (settings.further(), (1.0,) * len(sources), [int(i == number) for i in range(len(sources))])
            for number in further
        ]
    dims = text_dims, widths
    solved = [_solved(sources, weights, middle, dims, marks, how) for how, weights, middle in plans]
    shape = towers, tuple(text_dims), tuple(visual_dims)
    members = [
        Network(*shape[0], *shape[1:], {name: np.ascontiguousarray(w, np.float32) for name, w in one.items()})
        for one, _ in solved
    ]
    if len(members) == 1:
        return members[0], solved[0][1]
    gate = _gate(sources, [middle for _, _, middle in plans])
    return averaged(members, {}, gate=gate), Whitening((None,) * len(text_dims), (None,) * len(visual_dims))


def _solved(
    sources: Sequence[_Moments],
    weights: Sequence[float],
    middle: Sequence[float],
    dims: tuple[Sequence[int], Sequence[int]],
    marks: Sequence[Landmarks],
    settings: Settings,
) -> tuple[dict[str, NDArray[np.floating]], Whitening]:
    """The weights of one member, for data sets of these weights, around the mean of those with a share in `middle`."""
    text_parts, photo_parts = _parts(dims[0]), _parts(dims[1])
    dim = min(settings.dim, *dims[0], *dims[1])
    share = np.array(weights, float)
    total = sum(w * source.count for w, source in zip(share, sources, strict=True))
    tt, pp, tp = (
        sum(w * getattr(source, name) for w, source in zip(share, sources, strict=True)) / total
        for name in ("texts", "photos", "cross")
    )
    text_mean, photo_mean = (
        np.average([getattr(s, name) for s in sources], axis=0, weights=middle) for name in ("text_mean", "photo_mean")
    )
    white = [whitening(tt[part, part], settings.text_ridge) for part in text_parts]
    out: dict[str, NDArray[np.floating]] = {}
    for v, part in enumerate(photo_parts):
        covariance, mean = pp[part, part], photo_mean[part]
        cross = np.concatenate([w.T @ tp[rows, part] for rows, w in zip(text_parts, white, strict=True)])
        solved = np.linalg.solve(
            covariance + settings.ridge / 50 * np.trace(covariance) * np.eye(len(covariance)), cross.T
        )
        values, vectors = np.linalg.eigh(cross @ solved)
        strength = np.sqrt(np.maximum(values[::-1][:dim], 0))
        there = strength > 1e-6 * strength[0]  # directions beyond the rank of the data stay empty
        shared = np.where(there, solved @ vectors[:, ::-1][:, :dim] / np.where(there, strength, 1), 0)
        if marks:
            out |= {f"photo.{v}.p": marks[v].projection, f"photo.{v}.w": marks[v].rows, f"photo.{v}.b": marks[v].bias}
        else:
            shared *= GAIN / _spread(shared, covariance)
            out |= {f"photo.{v}.w": shared, f"photo.{v}.b": -mean @ shared}
        for t, rows in enumerate(text_parts):
            left, strength, right = np.linalg.svd(white[t].T @ tp[rows, part] @ shared, full_matrices=False)
            gains = (strength / max(float(strength[0]), 1e-9)) ** (settings.power / 2)
            text = white[t] @ (left * gains)
            text *= GAIN / _spread(text, tt[rows, rows])
            out[f"text.{t}.{v}.w"], out[f"text.{t}.{v}.b"] = text, -text_mean[rows] @ text
            turn = right.T * gains
            turned = shared @ turn
            gain = GAIN / _spread(turned, covariance)
            out[f"pair.{v}.{t}.w"] = (marks[v].root @ turned if marks else turn) * gain
            out[f"pair.{v}.{t}.b"] = -mean @ turned * gain if marks else np.zeros(dim)
    texts = [
        (text_mean[rows].astype(np.float32), w.astype(np.float32)) for rows, w in zip(text_parts, white, strict=True)
    ]
    photos = [
        (photo_mean[part].astype(np.float32), whitening(pp[part, part], settings.ridge).astype(np.float32))
        for part in photo_parts
        if settings.epochs and not marks
    ]
    return out, Whitening(tuple(texts), tuple(photos) or (None,) * len(photo_parts))


def whitening(covariance: Matrix, ridge: float) -> Matrix:
    """(d, d) inverse root of a covariance with `ridge` fiftieths of its trace added along the diagonal."""
    values, vectors = np.linalg.eigh(covariance + ridge / 50 * np.trace(covariance) * np.eye(len(covariance)))
    white: Matrix = vectors / np.sqrt(values) @ vectors.T
    return white


@dataclass(frozen=True, eq=False)
class Landmarks:
    """The shared block that says how alike a photo is to m training photos, seen in r directions: 1 + tanh(y P W + b).

    Args:
        projection: P (d, r).
        rows: W (r, m).
        bias: b (m,).
        root: (m, m) makes of that the coordinates in which plain products are the kernel: the inverse of its triangular
            root.
    """

    projection: FloatArray
    rows: FloatArray
    bias: FloatArray
    root: FloatArray

    def __call__(self, photos: FloatArray) -> FloatArray:
        """(k, d) unit rows → (k, m)."""
        seen: FloatArray = photos @ self.projection
        inner: FloatArray = seen @ self.rows
        alike: FloatArray = one_plus_tanh(inner + self.bias) @ self.root
        return alike


def _landmarks(pairs: Pairs, part: slice, settings: Settings) -> Landmarks:
    """Of training photos drawn at random, main data sets first; the directions are those in which the landmarks spread
    most."""
    random = np.random.default_rng(settings.seed)
    main = np.unique(pairs.photo[pairs.main])
    others = np.setdiff1d(np.unique(pairs.photo), main)
    at = np.concatenate([random.permutation(main), random.permutation(others)])[: settings.landmarks]
    rows = unit(pairs.photo_rows(at)[:, part])
    few = len(rows) <= rows.shape[1]  # then their own products are the smaller matrix
    ways = np.linalg.svd(rows, full_matrices=False)[2].T if few else np.linalg.eigh(rows.T @ rows)[1][:, ::-1]
    projection = ways[:, : settings.directions].astype(np.float16).astype(np.float32)
    inner = np.ascontiguousarray((rows @ projection).T)
    sharp = np.float32(settings.sharpness / 2)
    kept = (inner * sharp).astype(np.float16).astype(np.float32)  # as the file will hold them
    bias = np.full(len(at), -(settings.sharpness + 3) / 2, np.float32)
    kernel = 2 * np.exp(
        2 * (inner.T @ (inner * sharp) + bias).astype(np.float64)
    )  # what 1 + tanh is but for its last few percent
    kernel[np.diag_indices(len(kernel))] += FLOOR
    root = np.linalg.inv(np.linalg.cholesky(kernel)).T
    return Landmarks(projection, kept, bias, root.astype(np.float32))


def _gate(sources: Sequence[_Moments], middles: Sequence[Sequence[float]]) -> Affine:
    """How much each member counts for a text: a linear discriminant of the data sets that they are for, (d, K) and
    (K,)."""
    means = np.array(
        [np.average([source.text_mean for source in sources], axis=0, weights=middle) for middle in middles]
    )
    within = np.mean([source.texts / source.count for source in sources if source.count], axis=0)
    within[np.diag_indices(len(within))] += 0.1 * np.trace(within) / len(within)
    ways = np.linalg.solve(within, means.T)
    apart = np.mean([(a - b) @ np.linalg.solve(within, a - b) for a in means for b in means if a is not b])
    scale = 10 / max(float(apart), 1e-9)  # a text in the middle of a data set has odds of e⁵
    return (ways * scale).astype(np.float32), (-0.5 * np.sum(means.T * ways, axis=0) * scale).astype(np.float32)


def _parts(dims: Sequence[int]) -> list[slice]:
    ends = np.cumsum(dims).tolist()
    return [slice(end - dim, end) for end, dim in zip(ends, dims, strict=True)]


def _spread(matrix: NDArray[np.floating], covariance: Matrix) -> float:
    """Root mean square of rows of that covariance times the matrix."""
    return max(float(np.sqrt(max(np.mean(np.sum(matrix * (covariance @ matrix), axis=0)), 0))), 1e-9)


def _moments(pairs: Pairs, source: int, lift: Lift, photo_dim: int) -> _Moments:
    """Of one data set, centred on its own means, each view on its own; views are averaged."""
    views = range(len(pairs.texts))
    text_dim = pairs.texts[0].shape[1]
    tt, pp, tp = (np.zeros(shape) for shape in ((text_dim, text_dim), (photo_dim, photo_dim), (text_dim, photo_dim)))
    at = np.flatnonzero(pairs.source == source)
    at = at[
        np.argsort(pairs.photo[at], kind="stable")
    ]  # pairs of one picture stand together: it is read and multiplied once
    text_sums, photo_sum = [np.zeros(text_dim) for _ in views], np.zeros(photo_dim)
    for block in _blocks(at):
        rows, _, counts = _pictures(pairs, block)
        photo_sum += counts @ lift(pairs.photo_rows(rows))
        for view in views:
            text_sums[view] += pairs.text_rows(block, view).sum(axis=0)
    text_means, photo_mean = [total / max(len(at), 1) for total in text_sums], photo_sum / max(len(at), 1)
    for block in _blocks(at):
        rows, firsts, counts = _pictures(pairs, block)
        photos = lift(pairs.photo_rows(rows)) - photo_mean.astype(np.float32)
        pp += (photos * counts[:, None]).T @ photos
        sums = np.zeros((len(rows), text_dim), np.float32)
        for view in views:
            texts = pairs.text_rows(block, view) - text_means[view].astype(np.float32)
            tt += texts.T @ texts / len(views)
            sums += np.add.reduceat(texts, firsts, axis=0)
        tp += sums.T @ photos / len(views)
    return _Moments(len(at), np.mean(text_means, axis=0), photo_mean, tt, pp, tp)


def _blocks(at: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    return [at[i : i + BLOCK] for i in range(0, len(at), BLOCK)]


def _pictures(pairs: Pairs, block: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64], FloatArray]:
    """Of pairs in the order of their pictures: the pictures, where each begins, how many pairs each has."""
    rows, firsts, counts = np.unique(pairs.photo[block], return_index=True, return_counts=True)
    return rows, firsts, counts.astype(np.float32)
