"""Calibrated confidence: the probability that a photo fits an article, from its score.

Some articles score high with every photo. So the score s of a query q is standardised, z = (s − q·mean) / √(qᵀ·cov·q),
with the mean and a low-rank covariance of ordinary photos. A logistic curve, fitted on held-out pairs, maps z to the
probability that the photo is the article's own if one photo in `ODDS` is. The true share in an archive is unknown; the
measured galleries have this one.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from photodesk.archive.archive import CONFIDENCE
from photodesk.encoders.shipped import read as read_shipped
from photodesk.errors import StoreError
from photodesk.files import digest, read_text, replacing
from photodesk.types import FloatArray

FORMAT = "photodesk-confidence/1"
ODDS = 100
"""One photo in `ODDS` is assumed to fit."""
SHOWN = 10
"""Hits per gallery that the reliability is measured on."""
DIRECTIONS = 48
LEVELS = (0.05, 0.15, 0.35, 0.6)
WORDS = ("hardly", "doubtful", "possible", "likely", "very likely")


def level(probability: float) -> int:
    """Index of a probability in `WORDS`."""
    return sum(probability >= least for least in LEVELS)


def words(probability: float) -> str:
    """A probability in words."""
    return WORDS[level(probability)]


@dataclass(frozen=True, slots=True, eq=False)
class Background:
    """Mean and covariance of ordinary photos.

    Args:
        mean: (d,).
        factor: (d, r); the covariance is about factor · factorᵀ + rest · 1.
        rest: variance in every other direction.
    """

    mean: FloatArray
    factor: FloatArray
    rest: float

    @classmethod
    def of(cls, rows: FloatArray, directions: int = DIRECTIONS) -> Background:
        """From (m, d) rows."""
        mean = rows.mean(axis=0, dtype=np.float64)
        values, vectors = np.linalg.eigh(
            np.cov((rows - mean).astype(np.float64), rowvar=False, bias=True).reshape(rows.shape[1], -1)
        )
        kept = min(directions, len(values))
        rest = float(np.clip(values[: len(values) - kept], 0, None).mean()) if kept < len(values) else 0.0
        factor = vectors[:, -kept:] * np.sqrt(np.clip(values[-kept:] - rest, 0, None))
        return cls(mean.astype(np.float32), factor.astype(np.float32), rest)

    def mean_score(self, query: FloatArray) -> float:
        """Of a (d,) query."""
        return float(query @ self.mean)

    def deviation(self, query: FloatArray) -> float:
        """Standard deviation of the scores of a (d,) query; above 0."""
        along = query @ self.factor
        return float(np.sqrt(along @ along + self.rest * (query @ query))) + 1e-6


@dataclass(frozen=True, slots=True)
class Reliability:
    """Reliability on held-out pairs, in bins of equally many hits.

    Args:
        said: mean probability of each bin.
        seen: share of right hits of each bin.
        hits: number of hits of each bin.
        error: expected calibration error: mean of |said − seen| over the hits.
        precision: of the best hits of at least some probability: (that probability, share of galleries, share right).
        strict: precision of the best hits in one gallery of all measured photos.
        photos: number of photos in that gallery.
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
        """From the JSON of `asdict`."""
        said, seen, hits = (tuple(found[name]) for name in ("said", "seen", "hits"))
        precision = tuple((float(least), float(share), float(right)) for least, share, right in found["precision"])
        return cls(said, seen, hits, float(found["error"]), precision, float(found["strict"]), int(found["photos"]))

    @classmethod
    def of(cls, said: NDArray[np.float64], right: NDArray[np.bool_], bins: int = 10) -> Reliability:
        """From (n,) probabilities, and whether each hit was right."""
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
        background: for z.
        bias: log-odds at z = 0.
        slope: of the log-odds by z.
        reliability: measured when it was fitted.
        about: the data and network that it was fitted on.
    """

    fingerprint: str
    background: Background
    bias: float
    slope: float
    reliability: Reliability | None = None
    about: Mapping[str, str] = field(default_factory=dict)

    def probability(self, z: NDArray[np.floating] | float) -> NDArray[np.float64]:
        """Of a fitting photo, for each z."""
        made: NDArray[np.float64] = 1 / (1 + np.exp(-(self.bias + self.slope * np.asarray(z, np.float64))))
        return made

    def save(self, path: Path) -> None:
        """Write it as JSON, atomically."""
        arrays = np.column_stack([self.background.mean, self.background.factor]).astype("<f2")
        content = {
            "format": FORMAT,
            "fingerprint": self.fingerprint,
            "bias": self.bias,
            "slope": self.slope,
            "about": dict(self.about),
            "reliability": self.reliability and asdict(self.reliability),
            "background": {
                "shape": arrays.shape,
                "rest": self.background.rest,
                "float16": base64.b64encode(arrays.tobytes()).decode(),
            },
        }
        with replacing(path) as stream:
            stream.write(json.dumps({**content, "sum": _sum(content)}, indent=1) + "\n")

    @classmethod
    def load(cls, path: Path) -> Confidence:
        """Read what `save` wrote.

        Raises:
            StoreError: it is missing, damaged or in another format.
        """
        try:
            text = read_text(path)
        except (OSError, ValueError) as error:
            raise _damaged(path, error) from None
        return cls.parse(text, path)

    @classmethod
    def parse(cls, text: str | bytes, path: Path) -> Confidence:
        """As `load`, of the content of a file."""
        try:
            found = json.loads(text)
            if found["format"] != FORMAT:
                raise ValueError(f"its format is {found['format']}")
            if "sum" in found and found.pop("sum") != _sum(found):  # an older photodesk wrote none
                raise ValueError("it is not what was written")
            rows = found["background"]
            arrays = np.frombuffer(base64.b64decode(rows["float16"]), "<f2").astype(np.float32).reshape(rows["shape"])
            background = Background(arrays[:, 0].copy(), arrays[:, 1:].copy(), float(rows["rest"]))
            reliability = Reliability.read(found["reliability"]) if found["reliability"] else None
            bias, slope = float(found["bias"]), float(found["slope"])
            return cls(found["fingerprint"], background, bias, slope, reliability, found["about"])
        except (ValueError, LookupError, TypeError, ArithmeticError, RecursionError) as error:
            raise _damaged(path, error) from None

    @classmethod
    def find(cls, fingerprint: str, folder: Path | None = None) -> Confidence | None:
        """The one in an archive's folder, or the shipped one, if it is for that encoder."""
        own = folder / CONFIDENCE if folder else None
        if own and own.exists() and (found := cls.load(own)).fingerprint == fingerprint:
            return found
        found = shipped()
        return found if found.fingerprint == fingerprint else None


def _sum(found: Mapping[str, Any]) -> str:
    """Digest of a JSON object, however it is laid out."""
    return digest(json.dumps(found, sort_keys=True).encode()).hex()


def shipped() -> Confidence:
    """The built-in model's. An encoder without a confidence uses its curve, marked as uncalibrated."""
    return Confidence.parse(read_shipped(CONFIDENCE), Path(CONFIDENCE))


def _damaged(path: Path, error: Exception) -> StoreError:
    return StoreError(f"{path} holds no confidence or is damaged ({error}); make it again with: photodesk calibrate")
