"""How likely a photo fits an article: a score against what the query scores with photos in general, through a curve
fitted on held-out pairs.

A cosine says little by itself: some articles are near to every photo. So a score s of a query q counts by z = (s −
q·mean) / √(qᵀ·cov·q), with mean and covariance of ordinary photos, which are kept as a few directions. From there a
logistic curve leads to a probability: that the photo is the article's own, if one in `ODDS` were. How many photos of an
archive fit is not known to anybody; one in a hundred is what the pages say, and the measured galleries hold.
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
"""One photo in so many is taken to fit."""
SHOWN = 10
"""Hits of a gallery that the reliability is measured on."""
DIRECTIONS = 48
LEVELS = (0.05, 0.15, 0.35, 0.6)
WORDS = ("hardly", "doubtful", "possible", "likely", "very likely")


def level(probability: float) -> int:
    """How surely a photo fits, in five steps from 0."""
    return sum(probability >= least for least in LEVELS)


def words(probability: float) -> str:
    """A probability for people."""
    return WORDS[level(probability)]


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
        values, vectors = np.linalg.eigh(
            np.cov((rows - mean).astype(np.float64), rowvar=False, bias=True).reshape(rows.shape[1], -1)
        )
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
        precision: of the best hit of each gallery, where it is at least so likely: (least probability, share of
            galleries, share right).
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
        found = {
            "format": FORMAT,
            "fingerprint": self.fingerprint,
            "bias": self.bias,
            "slope": self.slope,
            "about": dict(self.about),
        }
        arrays = np.column_stack([self.background.mean, self.background.factor]).astype("<f2")
        rows = {
            "shape": list(arrays.shape),
            "rest": self.background.rest,
            "float16": base64.b64encode(arrays.tobytes()).decode(),
        }
        told = asdict(self.reliability) if self.reliability else None
        found = {**found, "reliability": told, "background": rows}
        with replacing(path) as stream:
            json.dump({**found, "sum": _sum(found)}, stream, indent=1)
            stream.write("\n")

    @classmethod
    def load(cls, path: Path) -> Confidence:
        """Read what `save` wrote.

        Raises:
            StoreError: it is missing, damaged or something else.
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
            told = Reliability.read(found["reliability"]) if found["reliability"] else None
            return cls(
                found["fingerprint"], background, float(found["bias"]), float(found["slope"]), told, found["about"]
            )
        except (ValueError, LookupError, TypeError, ArithmeticError, RecursionError) as error:
            raise _damaged(path, error) from None

    @classmethod
    def find(cls, fingerprint: str, folder: Path | None = None) -> Confidence | None:
        """The one in an archive's folder, or the one that is shipped, if it is for that encoder."""
        own = folder / CONFIDENCE if folder else None
        if own and own.exists() and (found := cls.load(own)).fingerprint == fingerprint:
            return found
        return found if (found := _shipped()).fingerprint == fingerprint else None


def _sum(found: Mapping[str, Any]) -> str:
    """Digest of a JSON object, however it is laid out."""
    return digest(json.dumps(found, sort_keys=True).encode()).hex()


def shipped() -> tuple[float, float]:
    """Bias and slope of the built-in model's curve: what is used, and said to be uncalibrated, where an encoder has
    none."""
    found = _shipped()
    return found.bias, found.slope


def _shipped() -> Confidence:
    return Confidence.parse(read_shipped(CONFIDENCE), Path(CONFIDENCE))


def _damaged(path: Path, error: Exception) -> StoreError:
    return StoreError(f"{path} holds no confidence or is damaged ({error}); make it again with: photodesk calibrate")
