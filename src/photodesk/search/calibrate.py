"""Calibration of an encoder's scores on held-out pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from photodesk.encoders.base import Encoder
from photodesk.errors import DataError, UsageError
from photodesk.evaluation import plots
from photodesk.features.embed import photo_rows, text_rows
from photodesk.features.store import Store
from photodesk.search.confidence import LEVELS, ODDS, SHOWN, Background, Confidence, Reliability
from photodesk.training import pairs, splits
from photodesk.training.pairs import Pairs
from photodesk.types import FloatArray, Progress, silent

if TYPE_CHECKING:
    from photodesk.types import Dataset

FEWEST = 100
"""Least number of pairs for a calibration."""
TOLERANCE = 0.004
"""Largest rounding difference of a measure."""


def calibrate(
    datasets: Sequence[Dataset],
    encoder: Encoder,
    use: Encoder | None = None,
    store: Store | None = None,
    *,
    seed: int = 0,
    progress: Progress = silent,
) -> Confidence:
    """Fit and measure the confidence of an encoder.

    Args:
        datasets: with pairs; for a trained network those of its training, whose test part is used.
        encoder: whose scores are calibrated.
        use: encoder that will use the curve: the same training on more pairs (`train --refit`); None is `encoder`.
        store: where features are kept.
        seed: of the halves and galleries.
        progress: called with ("photos" or "texts", done, of).

    Raises:
        UsageError: the network has no test part, or was trained on other data.
        DataError: fewer than `FEWEST` pairs.
    """
    use = use or encoder
    found = pairs.gather(datasets, encoder.texts, encoder.photos, store or Store(), progress=progress)
    apart = found.take(_apart(found, encoder))
    if len(apart) < FEWEST:
        raise DataError(f"{len(apart)} pairs are left to calibrate on; {FEWEST} are the least that says anything")
    at = np.arange(len(apart))
    texts = text_rows(apart.text_rows(at), encoder)
    about = {
        "data": ", ".join(f"{dataset.edition}: {len(dataset.pairs)} pairs" for dataset in datasets),
        "network": encoder.fingerprint,
        "measured": f"{len(apart)} pairs that it was not trained on, half of them for the fit",
    }
    photos = apart.photo_rows(apart.photo)
    made = fit(texts, photo_rows(photos, encoder), apart.group, fingerprint=use.fingerprint, seed=seed, about=about)
    if use.fingerprint == encoder.fingerprint:
        return made
    return replace(made, background=Background.of(photo_rows(photos, use)))


def _apart(found: Pairs, encoder: Encoder) -> splits.Mask:
    """(n,) which pairs the encoder was not trained on, verified by the measures on the network's card."""
    network = encoder.network
    if network is None:
        return found.main
    card = network.card
    test = card.get("test")
    if not card.get("test_pairs") or not isinstance(test, dict):
        raise UsageError(
            f"{encoder.name} kept no pairs apart when it was trained; train it with: photodesk train … --test 2000"
        )
    if card.get("refit"):
        raise UsageError(
            f"{encoder.name} was trained again on every pair; name the network without --refit, and this one with --for"
        )
    # the part consists of whole groups, so its size gives the same groups
    size, seed = (int(str(card.get(name) or 0)) for name in ("test_pairs", "seed"))
    split = splits.parse(str(card.get("split") or "grouped"))
    _, _, tested = splits.divide(found, split, validation=0, test=size, seed=seed)
    measured = pairs.measure(network, found.take(tested))
    if int(tested.sum()) != size or any(abs(measured.get(name, x) - x) > TOLERANCE for name, x in test.items()):
        raise UsageError(
            f"{encoder.name} was trained on other data than this: the measures of its test part are not those of its "
            "card; name the same DATA in the same order as in its training"
        )
    return tested


def fit(
    texts: FloatArray,
    photos: FloatArray,
    group: NDArray[np.int64],
    *,
    fingerprint: str,
    seed: int = 0,
    about: Mapping[str, str] | None = None,
) -> Confidence:
    """Fit on half of n held-out pairs, measure on the other half.

    Args:
        texts: (n, d) rows of articles that the encoder was not trained on.
        photos: (n, d) rows of their pictures.
        group: (n,) pairs of one group stay in one half, and are not wrong pairs of each other.
        fingerprint: of the encoder.
        seed: of the halves and galleries.
        about: as in `Confidence`.
    """
    rng = np.random.default_rng(seed)
    names = rng.permutation(np.unique(group))
    first = np.isin(group, names[: len(names) // 2])
    background = Background.of(photos[first])
    z, right, weight = _fitting_pairs(texts[first], photos[first], group[first], background)
    bias, slope = _logistic(z, right, weight)
    made = Confidence(fingerprint, background, bias, slope, None, dict(about or {}))
    return replace(made, reliability=measure(made, texts[~first], photos[~first], group[~first], seed=seed))


def measure(
    made: Confidence, texts: FloatArray, photos: FloatArray, group: NDArray[np.int64], *, seed: int = 0
) -> Reliability:
    """Reliability on held-out pairs: per article the `SHOWN` best of a gallery of `ODDS` photos with the right one."""
    rng = np.random.default_rng(seed)
    said, right = list[NDArray[np.float64]](), list[NDArray[np.bool_]]()
    strict = 0
    for i, text in enumerate(texts):
        others = np.flatnonzero(group != group[i])
        gallery = np.append(rng.permutation(others)[: ODDS - 1], i)
        scores = photos[gallery] @ text
        top = gallery[np.argsort(-scores, kind="stable")[:SHOWN]]
        z = (photos[top] @ text - made.background.mean_score(text)) / made.background.deviation(text)
        said.append(made.probability(z))
        right.append(top == i)
        strict += bool(group[np.argmax(photos @ text)] == group[i])
    best, hits = (np.array([each[0] for each in rows]) for rows in (said, right))
    precision = tuple(
        (least, float(sure.mean()), float(hits[sure].mean()))
        for least in (0.0, *LEVELS)
        if (sure := best >= least).any()
    )
    found = Reliability.of(np.concatenate(said), np.concatenate(right))
    return replace(found, precision=precision, strict=strict / max(len(texts), 1), photos=len(photos))


def _fitting_pairs(
    texts: FloatArray, photos: FloatArray, group: NDArray[np.int64], background: Background
) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.float64]]:
    """z, whether right, and weight of all pairs of a text and a photo; the weights make one in `ODDS` right."""
    deviation = np.array([background.deviation(text) for text in texts])
    z = ((texts @ photos.T - (texts @ background.mean)[:, None]) / deviation[:, None]).astype(np.float64)
    own = np.eye(len(texts), dtype=np.bool_)
    used = own | (group[:, None] != group[None])
    weight = np.where(own, 1 / len(texts), (ODDS - 1) / max(int((used & ~own).sum()), 1))
    return z[used], own[used], weight[used]


def _logistic(z: NDArray[np.float64], right: NDArray[np.bool_], weight: NDArray[np.float64]) -> tuple[float, float]:
    """(bias, slope) of maximum likelihood by Newton's method; a small ridge keeps separable data finite."""
    x = np.column_stack([np.ones(len(z)), z])
    beta = np.array([-np.log(ODDS), 1.0])
    for _ in range(50):
        p = 1 / (1 + np.exp(-np.clip(x @ beta, -40, 40)))
        gradient = x.T @ (weight * (right - p)) - 1e-4 * beta
        hessian = (x * (weight * p * (1 - p))[:, None]).T @ x + 1e-4 * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        beta = beta + np.clip(step, -2, 2)
        if np.abs(step).max() < 1e-8:
            break
    return float(beta[0]), float(beta[1])


def plot(found: Reliability) -> str:
    """The reliability diagram as SVG."""
    high = max(0.1, *found.said, *found.seen)
    panel = plots.Panel(
        plots.Axis.of([high], "probability said", low=0.0),
        plots.Axis.of([high], "share that was right", low=0.0),
        "Reliability",
        f"expected calibration error {found.error:.3f}; on the dashed line both agree",
        size=(360, 360),
    )
    panel.line([(0, 0), (panel.x.high, panel.y.high)], plots.GREY, width=1, dashed=True)
    panel.line(zip(found.said, found.seen, strict=True), plots.COLOURS[0])
    for said, seen, hits in zip(found.said, found.seen, found.hits, strict=True):
        panel.point(said, seen, plots.COLOURS[0], tip=f"said {said:.3f}, right {seen:.3f} of {hits:,} hits")
    return plots.svg("Reliability: probability said against share that was right", panel)
