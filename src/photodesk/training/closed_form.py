"""The closed-form T×V network: regularised canonical correlation analysis of the pairs.

Each side is whitened with its covariance plus a ridge; the directions in which texts and photos of right pairs
correlate most, weighted by a power of their correlation, are the joint space. It takes seconds to minutes, and only the
choice of landmarks is random.

With landmarks the photo side is a kernel machine: a photo is described by its similarity to some training photos. The
shared block is then 1 + tanh(g/2 · cosine − (g + 3)/2): tanh is an exponential that far to the left, so this is the
kernel exp(g · cosine) as an ordinary T×V network.

The covariances are summed over blocks of pairs, so memory is that of the matrices.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from photodesk.encoders.txv import Network, averaged, one_plus_tanh, unit
from photodesk.training.config import Settings
from photodesk.training.pairs import BLOCK, Pairs
from photodesk.types import FloatArray

GAIN = 0.1
"""Standard deviation of tanh's arguments: near 0 tanh is linear, and saturation costs a tenth of the recall."""
FLOOR = 1e-5  # ridge of the landmarks' kernel, whose diagonal is about 0.1

Matrix = NDArray[np.float64]
Affine = tuple[FloatArray, FloatArray]
Lift = Callable[[FloatArray], FloatArray]


@dataclass(frozen=True, eq=False)
class Whitening:
    """For each feature its mean (d,) over the main pairs and its whitening matrix (d, d); None without whitening."""

    texts: tuple[Affine | None, ...]
    photos: tuple[Affine | None, ...]


@dataclass(frozen=True, eq=False)
class _Moments:
    """Of one data set: number of pairs, means, and sums of centred products."""

    count: int
    text_mean: Matrix
    photo_mean: Matrix
    texts: Matrix
    photos: Matrix
    cross: Matrix


def closed_form(
    pairs: Pairs, text_dims: Sequence[int], visual_dims: Sequence[int], towers: tuple[str, str], settings: Settings
) -> tuple[Network, Whitening]:
    """The network of the closed form, and its whitening.

    The shared part of each photo feature has the directions that correlate most with all texts; the pair blocks rotate
    them towards each text feature. With experts there is a member for the main data sets and one for each further one,
    and a gate weights them by the text.

    Args:
        pairs: the training part.
        text_dims: sizes of the T text features.
        visual_dims: sizes of the V photo features.
        towers: fingerprints of the text and the photo tower.
        settings: dim, ridges, power, landmarks, directions, sharpness, experts, seed.
    """
    parts = _parts(visual_dims)
    marks = [_landmarks(pairs, part, settings) for part in parts] if settings.landmarks else []
    widths = [len(mark.root) for mark in marks] or list(visual_dims)

    def lift(rows: FloatArray) -> FloatArray:
        features = [unit(rows[:, part]) for part in parts]
        return np.concatenate([mark(y) for y, mark in zip(features, marks, strict=True)] if marks else features, axis=1)

    sources = [_moments(pairs, number, lift, sum(widths)) for number in range(len(pairs.weights))]
    main = [
        source.count if weight == max(pairs.weights) else 0
        for source, weight in zip(sources, pairs.weights, strict=True)
    ]
    members = [(settings, pairs.weights, main)]
    if settings.experts and not settings.epochs:
        equal, ones = (1.0,) * len(sources), np.eye(len(sources), dtype=int).tolist()
        further = [i for i, source in enumerate(sources) if source.count and not main[i]]
        members += [(settings.further(), equal, ones[i]) for i in further]
    solved = [
        _solve(sources, weights, centre, (text_dims, widths), marks, options) for options, weights, centre in members
    ]
    networks = [
        Network(
            *towers,
            tuple(text_dims),
            tuple(visual_dims),
            {name: np.ascontiguousarray(w, np.float32) for name, w in member.items()},
        )
        for member, _ in solved
    ]
    if len(members) == 1:
        return networks[0], solved[0][1]
    gate = _gate(sources, [centre for _, _, centre in members])
    return averaged(networks, {}, gate=gate), Whitening((None,) * len(text_dims), (None,) * len(visual_dims))


def _solve(
    sources: Sequence[_Moments],
    weights: Sequence[float],
    centre: Sequence[float],
    dims: tuple[Sequence[int], Sequence[int]],
    marks: Sequence[Landmarks],
    settings: Settings,
) -> tuple[dict[str, NDArray[np.floating]], Whitening]:
    """The weights of one member: `weights` of the data sets count for the covariances, `centre` for the means."""
    text_parts, photo_parts = _parts(dims[0]), _parts(dims[1])
    dim = min(settings.dim, *dims[0], *dims[1])

    def weighted(name: str) -> Any:
        return sum(w * getattr(source, name) for w, source in zip(np.array(weights, float), sources, strict=True))

    tt, pp, tp = (weighted(name) / weighted("count") for name in ("texts", "photos", "cross"))
    text_mean, photo_mean = (
        np.average([getattr(s, name) for s in sources], axis=0, weights=centre) for name in ("text_mean", "photo_mean")
    )
    white = [whitening(tt[part, part], settings.text_ridge) for part in text_parts]
    out: dict[str, NDArray[np.floating]] = {}
    for v, part in enumerate(photo_parts):
        covariance, mean = pp[part, part], photo_mean[part]
        cross = np.concatenate([w.T @ tp[rows, part] for rows, w in zip(text_parts, white, strict=True)])
        solved = np.linalg.solve(_ridged(covariance, settings.ridge), cross.T)
        values, vectors = np.linalg.eigh(cross @ solved)
        strength = np.sqrt(np.maximum(values[::-1][:dim], 0))
        ranked = strength > 1e-6 * strength[0]  # directions beyond the rank of the data stay 0
        shared = np.where(ranked, solved @ vectors[:, ::-1][:, :dim] / np.where(ranked, strength, 1), 0)
        if marks:
            out |= {f"photo.{v}.p": marks[v].projection, f"photo.{v}.w": marks[v].rows, f"photo.{v}.b": marks[v].bias}
        else:
            shared *= GAIN / _deviation(shared, covariance)
            out |= {f"photo.{v}.w": shared, f"photo.{v}.b": -mean @ shared}
        for t, rows in enumerate(text_parts):
            left, strength, right = np.linalg.svd(white[t].T @ tp[rows, part] @ shared, full_matrices=False)
            gains = (strength / max(float(strength[0]), 1e-9)) ** (settings.power / 2)
            text = white[t] @ (left * gains)
            text *= GAIN / _deviation(text, tt[rows, rows])
            out[f"text.{t}.{v}.w"], out[f"text.{t}.{v}.b"] = text, -text_mean[rows] @ text
            rotation = right.T * gains
            rotated = shared @ rotation
            gain = GAIN / _deviation(rotated, covariance)
            out[f"pair.{v}.{t}.w"] = (marks[v].root @ rotated if marks else rotation) * gain
            out[f"pair.{v}.{t}.b"] = -mean @ rotated * gain if marks else np.zeros(dim)
    texts = [
        (text_mean[rows].astype(np.float32), w.astype(np.float32)) for rows, w in zip(text_parts, white, strict=True)
    ]
    photos = [
        (photo_mean[part].astype(np.float32), whitening(pp[part, part], settings.ridge).astype(np.float32))
        for part in photo_parts
        if settings.epochs and not marks
    ]
    return out, Whitening(tuple(texts), tuple(photos) or (None,) * len(photo_parts))


def _ridged(covariance: Matrix, ridge: float) -> Matrix:
    ridged: Matrix = covariance + ridge / 50 * np.trace(covariance) * np.eye(len(covariance))
    return ridged


def whitening(covariance: Matrix, ridge: float) -> Matrix:
    """(d, d) inverse square root of a covariance with `ridge` / 50 of its trace added along the diagonal."""
    values, vectors = np.linalg.eigh(_ridged(covariance, ridge))
    white: Matrix = vectors / np.sqrt(values) @ vectors.T
    return white


@dataclass(frozen=True, eq=False)
class Landmarks:
    """A shared block of similarities to m training photos, compared in r directions: 1 + tanh(y P W + b).

    Args:
        projection: P (d, r).
        rows: W (r, m).
        bias: b (m,).
        root: (m, m) inverse Cholesky factor of the kernel: after it, inner products are the kernel.
    """

    projection: FloatArray
    rows: FloatArray
    bias: FloatArray
    root: FloatArray

    def __call__(self, photos: FloatArray) -> FloatArray:
        """(k, d) unit rows → (k, m)."""
        inner: FloatArray = photos @ self.projection @ self.rows + self.bias
        similar: FloatArray = one_plus_tanh(inner) @ self.root
        return similar


def _landmarks(pairs: Pairs, part: slice, settings: Settings) -> Landmarks:
    """Random training photos, main data sets first; the directions are their principal ones."""
    random = np.random.default_rng(settings.seed)
    main = np.unique(pairs.photo[pairs.main])
    others = np.setdiff1d(np.unique(pairs.photo), main)
    at = np.concatenate([random.permutation(main), random.permutation(others)])[: settings.landmarks]
    rows = unit(pairs.photo_rows(at)[:, part])
    few = len(rows) <= rows.shape[1]  # then the decomposition of the rows is the smaller one
    directions = np.linalg.svd(rows, full_matrices=False)[2].T if few else np.linalg.eigh(rows.T @ rows)[1][:, ::-1]
    projection = directions[:, : settings.directions].astype(np.float16).astype(np.float32)
    inner = np.ascontiguousarray((rows @ projection).T)
    sharp = np.float32(settings.sharpness / 2)
    kept = (inner * sharp).astype(np.float16).astype(np.float32)  # as the file will hold them
    bias = np.full(len(at), -(settings.sharpness + 3) / 2, np.float32)
    # within a few percent of 1 + tanh
    kernel = 2 * np.exp(2 * (inner.T @ (inner * sharp) + bias).astype(np.float64))
    kernel[np.diag_indices(len(kernel))] += FLOOR
    root = np.linalg.inv(np.linalg.cholesky(kernel)).T
    return Landmarks(projection, kept, bias, root.astype(np.float32))


def _gate(sources: Sequence[_Moments], centres: Sequence[Sequence[float]]) -> Affine:
    """Logits of the members for a text: a linear discriminant of their data sets, (d, K) and (K,)."""
    text_means = [source.text_mean for source in sources]
    means = np.array([np.average(text_means, axis=0, weights=centre) for centre in centres])
    within = np.mean([source.texts / source.count for source in sources if source.count], axis=0)
    within[np.diag_indices(len(within))] += 0.1 * np.trace(within) / len(within)
    directions = np.linalg.solve(within, means.T)
    distance = np.mean([(a - b) @ np.linalg.solve(within, a - b) for a in means for b in means if a is not b])
    scale = 10 / max(float(distance), 1e-9)  # a text at the mean of a data set has odds of e⁵
    bias = -0.5 * np.sum(means.T * directions, axis=0) * scale
    return (directions * scale).astype(np.float32), bias.astype(np.float32)


def _parts(dims: Sequence[int]) -> list[slice]:
    ends = np.cumsum(dims).tolist()
    return [slice(end - dim, end) for end, dim in zip(ends, dims, strict=True)]


def _deviation(matrix: NDArray[np.floating], covariance: Matrix) -> float:
    """Standard deviation of rows of that covariance times the matrix."""
    return max(float(np.sqrt(max(np.mean(np.sum(matrix * (covariance @ matrix), axis=0)), 0))), 1e-9)


def _moments(pairs: Pairs, source: int, lift: Lift, photo_dim: int) -> _Moments:
    """Moments of one data set; each view is centred on its own mean, and views are averaged."""
    views = range(len(pairs.texts))
    text_dim = pairs.texts[0].shape[1]
    tt, pp, tp = (np.zeros(shape) for shape in ((text_dim, text_dim), (photo_dim, photo_dim), (text_dim, photo_dim)))
    at = np.flatnonzero(pairs.source == source)
    # sorted by picture, so that each is read and multiplied once
    at = at[np.argsort(pairs.photo[at], kind="stable")]
    text_sums, photo_sum = [np.zeros(text_dim) for _ in views], np.zeros(photo_dim)
    blocks = [at[i : i + BLOCK] for i in range(0, len(at), BLOCK)]
    for block in blocks:
        rows, _, counts = _pictures(pairs, block)
        photo_sum += counts @ lift(pairs.photo_rows(rows))
        for view in views:
            text_sums[view] += pairs.text_rows(block, view).sum(axis=0)
    text_means, photo_mean = [total / max(len(at), 1) for total in text_sums], photo_sum / max(len(at), 1)
    for block in blocks:
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


def _pictures(pairs: Pairs, block: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64], FloatArray]:
    """Of pairs sorted by picture: the pictures, the first pair of each, and its number of pairs."""
    rows, firsts, counts = np.unique(pairs.photo[block], return_index=True, return_counts=True)
    return rows, firsts, counts.astype(np.float32)
