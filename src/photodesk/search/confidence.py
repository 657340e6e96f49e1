"""How likely a photo fits an article: a score against what the query scores with photos in general, through a curve fitted on held-out pairs.

A cosine says little by itself: some articles are near to every photo. So a score s of a query q counts by z = (s − q·mean) / √(qᵀ·cov·q), with
mean and covariance of ordinary photos, which are kept as a few directions. From there a logistic curve leads to a probability:
that the photo is the article's own, if one in `ODDS` were. How many photos of an archive fit is not known to anybody; one in a hundred
is what the pages say, and the measured galleries hold.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from photodesk.errors import StoreError
from photodesk.files import replacing
from photodesk.types import FloatArray

FORMAT = "photodesk-confidence/1"
FILE = "confidence.json"
"""In the folder of an archive, for encoders without a curve of their own here."""
ODDS = 100
"""One photo in so many is taken to fit."""
SHOWN = 10
"""Hits of a gallery that the reliability is measured on."""
DIRECTIONS = 48
LEVELS = (0.05, 0.15, 0.35, 0.6)
WORDS = ("hardly", "doubtful", "possible", "likely", "very likely")


def words(probability: float) -> str:
    """A probability for people."""
    return WORDS[sum(probability >= least for least in LEVELS)]


@dataclass(frozen=True, slots=True, eq=False)
class Background:
    """What photos in general are like.

    Args:
        mean: (d,) of their rows.
        factor: (d, r); their covariance is about factor · factorᵀ + rest · 1.
        rest: variance in every other direction.
    """

    mean: FloatArray
    factor: FloatArray
    rest: float

    @classmethod
    def of(cls, rows: FloatArray, directions: int = DIRECTIONS) -> Background:
        """From (m, d) rows."""
        mean = rows.mean(axis=0, dtype=np.float64)
        values, vectors = np.linalg.eigh(np.cov((rows - mean).astype(np.float64), rowvar=False, bias=True).reshape(rows.shape[1], -1))
        kept = min(directions, len(values))
        rest = float(np.clip(values[: len(values) - kept], 0, None).mean()) if kept < len(values) else 0.0
        factor = vectors[:, -kept:] * np.sqrt(np.clip(values[-kept:] - rest, 0, None))
        return cls(mean.astype(np.float32), factor.astype(np.float32), rest)

    def centre(self, query: FloatArray) -> float:
        """What a (d,) query scores on average."""
        return float(query @ self.mean)

    def spread(self, query: FloatArray) -> float:
        """Standard deviation of what it scores; above 0."""
        along = query @ self.factor
        return float(np.sqrt(along @ along + self.rest * (query @ query))) + 1e-6


@dataclass(frozen=True, slots=True)
class Reliability:
    """Bins of equally many hits on pairs that the curve was not fitted on.

    Args:
        said: mean probability of each bin; seen: share of it that was right; hits: how many.
        error: expected calibration error: mean of |said − seen| over the hits.
        precision: of the best hit of each gallery, where it is at least so likely: (least probability, share of galleries, share right).
        strict: the same precision in one gallery of all measured photos, where one photo in `photos` is right.
        photos: of that gallery.
    """

    said: tuple[float, ...]
    seen: tuple[float, ...]
    hits: tuple[int, ...]
    error: float
    precision: tuple[tuple[float, float, float], ...] = ()
    strict: float = 0.0
    photos: int = 0

    @classmethod
    def read(cls, found: Mapping[str, Any]) -> Reliability:
        """From what `asdict` made of one, by way of JSON."""
        said, seen, hits = (tuple(found[name]) for name in ("said", "seen", "hits"))
        precision = tuple((float(least), float(share), float(right)) for least, share, right in found["precision"])
        return cls(said, seen, hits, float(found["error"]), precision, float(found["strict"]), int(found["photos"]))

    @classmethod
    def of(cls, said: NDArray[np.float64], right: NDArray[np.bool_], bins: int = 10) -> Reliability:
        """From n probabilities and whether each hit was right."""
        parts = [part for part in np.array_split(np.argsort(said, kind="stable"), bins) if part.size]
        means = tuple(float(said[part].mean()) for part in parts)
        shares = tuple(float(right[part].mean()) for part in parts)
        error = sum(len(part) * abs(a - b) for part, a, b in zip(parts, means, shares, strict=True)) / max(len(said), 1)
        return cls(means, shares, tuple(map(len, parts)), float(error))


@dataclass(frozen=True, slots=True, eq=False)
class Confidence:
    """Scores → probabilities, for the queries of one encoder.

    Args:
        fingerprint: of the encoder.
        background: what z is measured by.
        bias: the log-odds at z = 0; slope: by how much they grow with z.
        reliability: as measured when it was fitted.
        about: data and network it was fitted on, for people.
    """

    fingerprint: str
    background: Background
    bias: float
    slope: float
    reliability: Reliability | None = None
    about: Mapping[str, str] = field(default_factory=dict)

    def probability(self, z: NDArray[np.floating] | float) -> NDArray[np.float64]:
        """That a photo fits, for each z."""
        made: NDArray[np.float64] = 1 / (1 + np.exp(-(self.bias + self.slope * np.asarray(z, np.float64))))
        return made

    def save(self, path: Path) -> None:
        """Write it as JSON, whole or not at all."""
        found = {"format": FORMAT, "fingerprint": self.fingerprint, "bias": self.bias, "slope": self.slope, "about": dict(self.about)}
        arrays = np.column_stack([self.background.mean, self.background.factor]).astype("<f2")
        rows = {"shape": list(arrays.shape), "rest": self.background.rest, "float16": base64.b64encode(arrays.tobytes()).decode()}
        with replacing(path) as stream:
            json.dump(
                {**found, "reliability": asdict(self.reliability) if self.reliability else None, "background": rows}, stream, indent=1
            )
            stream.write("\n")

    @classmethod
    def load(cls, path: Path) -> Confidence:
        """Read what `save` wrote.

        Raises:
            StoreError: it is missing, damaged or something else.
        """
        try:
            found = json.loads(path.read_text("utf-8"))
            if found["format"] != FORMAT:
                raise ValueError(f"its format is {found['format']}")
            rows = found["background"]
            arrays = np.frombuffer(base64.b64decode(rows["float16"]), "<f2").astype(np.float32).reshape(rows["shape"])
            background = Background(arrays[:, 0].copy(), arrays[:, 1:].copy(), float(rows["rest"]))
            told = Reliability.read(found["reliability"]) if found["reliability"] else None
            return cls(found["fingerprint"], background, float(found["bias"]), float(found["slope"]), told, found["about"])
        except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
            raise StoreError(f"{path} holds no confidence or is damaged ({error}); make it again with: photodesk calibrate") from None

    @classmethod
    def find(cls, fingerprint: str, folder: Path | None = None) -> Confidence | None:
        """The one in an archive's folder, or the one that is shipped, if it is for that encoder."""
        own = folder / FILE if folder else None
        if own and own.exists() and (found := cls.load(own)).fingerprint == fingerprint:
            return found
        with resources.as_file(resources.files("photodesk") / "models" / FILE) as path:
            return found if path.exists() and (found := cls.load(path)).fingerprint == fingerprint else None


def shipped() -> tuple[float, float]:
    """Bias and slope of the built-in model's curve: what is used, and said to be uncalibrated, where an encoder has none."""
    with resources.as_file(resources.files("photodesk") / "models" / FILE) as path:
        found = Confidence.load(path)
    return found.bias, found.slope


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
        group: (n,) pairs of one number belong together: they stay in one half, and are no wrong pairs of each other.
        fingerprint: of the encoder.
        seed: of the halves and galleries.
        about: to be kept.
    """
    rng = np.random.default_rng(seed)
    names = rng.permutation(np.unique(group))
    first = np.isin(group, names[: len(names) // 2])
    background = Background.of(photos[first])
    z, right, weight = _fitting_pairs(texts[first], photos[first], group[first], background)
    bias, slope = _logistic(z, right, weight)
    made = Confidence(fingerprint, background, bias, slope, None, dict(about or {}))
    return Confidence(
        fingerprint, background, bias, slope, measure(made, texts[~first], photos[~first], group[~first], seed=seed), made.about
    )


def measure(made: Confidence, texts: FloatArray, photos: FloatArray, group: NDArray[np.int64], *, seed: int = 0) -> Reliability:
    """How reliable it is on held-out pairs: each article with a gallery of `ODDS` photos, its own among them, the `SHOWN` best hits."""
    rng = np.random.default_rng(seed)
    said, right, best = list[NDArray[np.float64]](), list[NDArray[np.bool_]](), list[tuple[float, bool]]()
    strict = 0
    for i, text in enumerate(texts):
        others = np.flatnonzero(group != group[i])
        gallery = np.append(rng.permutation(others)[: ODDS - 1], i)
        scores = photos[gallery] @ text
        top = gallery[np.argsort(-scores, kind="stable")[:SHOWN]]
        z = (photos[top] @ text - made.background.centre(text)) / made.background.spread(text)
        said.append(made.probability(z))
        right.append(top == i)
        best.append((float(said[-1][0]), bool(top[0] == i)))
        strict += bool(group[np.argmax(photos @ text)] == group[i])
    found = Reliability.of(np.concatenate(said), np.concatenate(right))
    tops, hits = np.array([p for p, _ in best]), np.array([hit for _, hit in best])
    kept = [(least, float((tops >= least).mean()), float(hits[tops >= least].mean())) for least in (0.0, *LEVELS) if (tops >= least).any()]
    return Reliability(found.said, found.seen, found.hits, found.error, tuple(kept), strict / max(len(texts), 1), len(photos))


def _fitting_pairs(
    texts: FloatArray, photos: FloatArray, group: NDArray[np.int64], background: Background
) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.float64]]:
    """z, whether right, and weight of all pairs of the texts and photos, as if one in `ODDS` were right."""
    centre = texts @ background.mean
    spread = np.array([background.spread(text) for text in texts])
    z = ((texts @ photos.T - centre[:, None]) / spread[:, None]).astype(np.float64)
    own = np.eye(len(texts), dtype=np.bool_)
    used = own | (group[:, None] != group[None])
    weight = np.where(own, 1 / len(texts), (ODDS - 1) / max(int((used & ~own).sum()), 1))
    return z[used], own[used], weight[used]


def _logistic(z: NDArray[np.float64], right: NDArray[np.bool_], weight: NDArray[np.float64]) -> tuple[float, float]:
    """(bias, slope) of the greatest likelihood, by Newton's method; a little ridge keeps separable data finite."""
    x = np.column_stack([np.ones(len(z)), z])
    at = np.array([-np.log(ODDS), 1.0])
    for _ in range(50):
        p = 1 / (1 + np.exp(-np.clip(x @ at, -40, 40)))
        slope = x.T @ (weight * (right - p)) - 1e-4 * at
        curve = (x * (weight * p * (1 - p))[:, None]).T @ x + 1e-4 * np.eye(2)
        step = np.linalg.solve(curve, slope)
        at = at + np.clip(step, -2, 2)
        if np.abs(step).max() < 1e-8:
            break
    return float(at[0]), float(at[1])


def plot(found: Reliability) -> str:
    """The reliability plot as SVG: said against seen, on the diagonal where they agree."""
    side, edge = 320, 40
    high = max(0.1, *found.said, *found.seen)

    def place(x: float, y: float) -> str:
        return f"{edge + x / high * side:.1f},{edge + side - y / high * side:.1f}"

    points = [place(a, b) for a, b in zip(found.said, found.seen, strict=True)]
    ticks = "".join(
        f'<text x="{edge + side * k / 4:.0f}" y="{edge + side + 16}" text-anchor="middle">{high * k / 4:.2f}</text>'
        f'<text x="{edge - 6}" y="{edge + side - side * k / 4 + 4:.0f}" text-anchor="end">{high * k / 4:.2f}</text>'
        for k in range(5)
    )
    dots = "".join(f'<circle cx="{point.split(",")[0]}" cy="{point.split(",")[1]}" r="4" fill="#0b5fa5"/>' for point in points)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{side + 2 * edge}" height="{side + 2 * edge + 20}" font-family="sans-serif" font-size="11">'
        f'<rect width="100%" height="100%" fill="#fff"/><rect x="{edge}" y="{edge}" width="{side}" height="{side}" fill="none" stroke="#999"/>'
        f'<path d="M{place(0, 0)} L{place(high, high)}" stroke="#999" stroke-dasharray="4"/>'
        f'<path d="M{" L".join(points)}" fill="none" stroke="#0b5fa5"/>{dots}{ticks}'
        f'<text x="{edge + side / 2}" y="{edge + side + 34}" text-anchor="middle">probability said</text>'
        f'<text x="{edge}" y="{edge - 12}">share that was right; expected calibration error {found.error:.3f}</text></svg>\n'
    )
