"""Where training starts: the closed-form network, by shrunken canonical correlation analysis of the pairs.

Each side is whitened with its covariance plus a ridge; the directions in which texts and photos of right pairs agree most, weighted by a
power of their correlation, are the joint space. It takes seconds to minutes, has no randomness but the choice of landmarks, and
with a few thousand pairs is hard to beat.

With landmarks the photo side is a kernel machine: a photo is first described by how alike it is to some training photos. The shared block is
tanh(g/2 · cosine − (g + 3)/2) there: so far to the left tanh is an exponential, so this is the kernel exp(g · cosine), a T×V network like any other.

The covariances are summed over blocks of pairs, so memory is that of the matrices.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from photodesk.network import Network
from photodesk.pairs import BLOCK, Pairs
from photodesk.records import FloatArray
from photodesk.settings import Settings

GAIN = 0.1  # standard deviation of tanh's arguments at the start: there it is straight, and bending costs a tenth of the recall
FLOOR = 1e-4  # of the eigenvalues of the landmarks' kernel, whose diagonal is about 0.1

Matrix = NDArray[np.float64]
Affine = tuple[FloatArray, FloatArray]
Lift = Callable[[FloatArray], FloatArray]


@dataclass(frozen=True, eq=False)
class Whitening:
    """Per feature its mean (d,) over the pairs that the network is for, and its whitening matrix (d, d); None where it is taken as it is."""

    texts: tuple[Affine | None, ...]
    photos: tuple[Affine | None, ...]


@dataclass(frozen=True, eq=False)
class _Moments:
    text_mean: Matrix
    photo_mean: Matrix
    texts: Matrix
    photos: Matrix
    cross: Matrix


def closed_form(
    pairs: Pairs, text_dims: Sequence[int], visual_dims: Sequence[int], towers: tuple[str, str], settings: Settings
) -> tuple[Network, Whitening]:
    """The network of the closed form, and the whitening that it rests on.

    Each photo feature's shared part takes the directions that agree most with all texts; the pair blocks turn them towards
    each text feature.

    Args:
        pairs: the training part.
        text_dims: how a text row divides into T features.
        visual_dims: how a photo row divides into V features.
        towers: fingerprints of the text and the photo tower.
        settings: dim, ridge, power, landmarks, sharpness, seed.
    """
    text_parts, raw_parts = _parts(text_dims), _parts(visual_dims)
    marks = [_landmarks(pairs, part, settings) for part in raw_parts] if settings.landmarks else []
    widths = [mark[1].shape[0] for mark in marks] or list(visual_dims)
    dim = min(settings.dim, *text_dims, *widths)

    def lift(rows: FloatArray) -> FloatArray:
        features = [unit(rows[:, part]) for part in raw_parts]
        return np.concatenate([np.tanh(y @ w + b) for y, (w, b) in zip(features, marks, strict=True)] if marks else features, axis=1)

    moments = _moments(pairs, lift, sum(widths))
    photo_parts = _parts(widths)
    text_white = [whitening(moments.texts[part, part], settings.ridge) for part in text_parts]
    weights: dict[str, NDArray[np.floating]] = {}
    photo_white: list[Affine | None] = []
    for v, photo_part in enumerate(photo_parts):
        covariance, mean = moments.photos[photo_part, photo_part], moments.photo_mean[photo_part]
        white = _kernel_whitening(covariance, marks[v], settings) if marks else whitening(covariance, settings.ridge)
        photo_white.append(None if marks else (mean.astype(np.float32), white))
        crosses = [w @ moments.cross[part, photo_part].astype(np.float32) @ white for part, w in zip(text_parts, text_white, strict=True)]
        shared = np.linalg.svd(np.concatenate(crosses), full_matrices=False)[2][:dim].T
        matrix = white @ shared
        if marks:
            weights[f"photo.{v}.w"], weights[f"photo.{v}.b"] = marks[v]
        else:
            matrix *= GAIN / _spread(matrix, covariance)
            weights[f"photo.{v}.w"], weights[f"photo.{v}.b"] = matrix, -mean @ matrix
        for t, (text_part, cross) in enumerate(zip(text_parts, crosses, strict=True)):
            left, strength, right = np.linalg.svd(cross @ shared, full_matrices=False)
            gains = (strength / max(float(strength[0]), 1e-9)) ** (settings.power / 2)
            text = text_white[t] @ (left * gains)
            text *= GAIN / _spread(text, moments.texts[text_part, text_part])
            weights[f"text.{t}.{v}.w"], weights[f"text.{t}.{v}.b"] = text, -moments.text_mean[text_part] @ text
            turn = right.T * gains
            turned = matrix @ turn
            gain = GAIN / _spread(turned, covariance)
            weights[f"pair.{v}.{t}.w"] = (turned if marks else turn) * gain
            weights[f"pair.{v}.{t}.b"] = -mean @ turned * gain if marks else np.zeros(dim)
    network = Network(
        *towers, tuple(text_dims), tuple(visual_dims), {name: np.ascontiguousarray(w, np.float32) for name, w in weights.items()}
    )
    texts = [(moments.text_mean[part].astype(np.float32), w) for part, w in zip(text_parts, text_white, strict=True)]
    return network, Whitening(tuple(texts), tuple(photo_white))


def whitening(covariance: Matrix, ridge: float) -> FloatArray:
    """(d, d) inverse root of a covariance with `ridge` fiftieths of its trace added along the diagonal."""
    values, vectors = np.linalg.eigh(covariance + ridge / 50 * np.trace(covariance) * np.eye(len(covariance)))
    white: FloatArray = (vectors / np.sqrt(values) @ vectors.T).astype(np.float32)
    return white


def unit(rows: FloatArray) -> FloatArray:
    """Rows of length 1."""
    long: FloatArray = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.float32(1e-12))
    return long


def _landmarks(pairs: Pairs, part: slice, settings: Settings) -> Affine:
    """The shared block (d, m), (m,) that says how alike a photo is to m training photos, three fifths of them of the main data sets."""
    random = np.random.default_rng(settings.seed)
    main = np.unique(pairs.photo[pairs.main])
    others = np.setdiff1d(np.unique(pairs.photo), main)
    count = min(len(main), max(round(0.6 * settings.landmarks), settings.landmarks - len(others)))
    at = np.concatenate([random.permutation(main)[:count], random.permutation(others)[: settings.landmarks - count]])
    rows = unit(pairs.photo_rows(at)[:, part]).astype(np.float16).astype(np.float32)  # as the file will hold them
    sharp = settings.sharpness
    return np.ascontiguousarray(rows.T) * np.float32(sharp / 2), np.full(len(at), -(sharp + 3) / 2, np.float32)


def _kernel_whitening(covariance: Matrix, marks: Affine, settings: Settings) -> FloatArray:
    """As `whitening`, with the length that the kernel gives a function of the landmarks in the place of the plain one."""
    rows = unit(marks[0].T)
    kernel = 1 + np.tanh(rows @ marks[0] + marks[1]).astype(np.float64)
    values, vectors = np.linalg.eigh((kernel + kernel.T) / 2)
    scale = values[-1] / len(values) / 0.1  # the floor is meant for a kernel of this size
    root = vectors / np.sqrt(np.maximum(values, FLOOR * scale)) @ vectors.T
    white: FloatArray = (root @ whitening(root @ covariance @ root, settings.ridge)).astype(np.float32)
    return white


def _parts(dims: Sequence[int]) -> list[slice]:
    ends = np.cumsum(dims).tolist()
    return [slice(end - dim, end) for end, dim in zip(ends, dims, strict=True)]


def _spread(matrix: NDArray[np.floating], covariance: Matrix) -> float:
    """Root mean square of rows of that covariance times the matrix."""
    return max(float(np.sqrt(np.mean(np.sum(matrix * (covariance @ matrix), axis=0)))), 1e-9)


def _moments(pairs: Pairs, lift: Lift, photo_dim: int) -> _Moments:
    """Means over the pairs that the network is for; weighted covariances, each data set centred on its own mean, views averaged."""
    text_dim = pairs.texts[0].shape[1]
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
            photo_mean += counts @ lift(pairs.photo_rows(rows))
            for view in views:
                text_means[view] += pairs.text_rows(block, view).sum(axis=0)
        if weight == max(pairs.weights):
            main_text, main_photo, main = main_text + np.mean(text_means, axis=0), main_photo + photo_mean, main + len(at)
        text_means, photo_mean = [mean / len(at) for mean in text_means], photo_mean / len(at)
        total += weight * len(at)
        for block in _blocks(at):
            rows, firsts, counts = _pictures(pairs, block)
            photos = lift(pairs.photo_rows(rows)) - photo_mean.astype(np.float32)
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
