"""How to train: the settings and their presets, the choice of the best epoch, and the schedule."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, get_args, get_type_hints

from photodesk.errors import UsageError
from photodesk.evaluation.metrics import parse_all

FORTH = parse_all(["R@1", "R@5", "R@10", "R@100", "MRR@100"])
"""Measures of texts → pictures."""
BACK = parse_all(["R@1", "R@5", "R@10"])
"""Measures of pictures → texts."""
MEASURES = (*map(str, FORTH), *(f"back {each}" for each in BACK))
"""Measures that an epoch may be chosen by."""


@dataclass(frozen=True)
class Settings:
    """How to train; the defaults are those of the built-in model (LOG.md says what they were chosen against).

    Args:
        loss: "infonce" (learned temperature), "margin" (hardest negative of the batch) or "margin_all" (every
            negative); both directions.
        dim: D, numbers per joint space; with the closed start at most as many as the smallest feature has.
        start: "closed" (closed-form correlation analysis) or "random" (Xavier-uniform).
        epochs: most epochs; 0 keeps the start.
        patience: epochs without a better validation measure before training stops.
        batch: pairs per step.
        optimiser: "adamw", "adam" or "rmsprop".
        rate: learning rate.
        schedule: "cosine" falls to 0; "paper2022" multiplies by 0.99 an epoch, and by 0.5 when more than two epochs
            passed without a new best.
        decay: weight decay.
        clip: limit of the gradient's norm; 0 for none.
        dropout: in every block.
        noise: standard deviation of the noise on features, as a share of theirs.
        temperature: initial one of InfoNCE.
        margin: of the margin losses.
        balanced: an epoch has at most as many pairs of further data sets as of the main ones; else all of them.
        best_by: measures that the epoch is chosen by, joined by "+".
        ridge: of the photos in the closed start, in fiftieths of the total variance; text_ridge likewise.
        power: of the correlations in the closed start, over both sides.
        landmarks: training photos of the kernel in the closed start; 0 is linear.
        directions: dimensions in which landmarks and photos are compared.
        sharpness: g of the kernel exp(g · cosine).
        experts: a member for the main data sets and one for each further one, gated by the text. Only without
            gradient descent.
        precision: "auto" takes bfloat16 products where the CPU has them, else float32; or one of "bf16", "fp32".
        seed: of everything random.
    """

    loss: Literal["infonce", "margin", "margin_all"] = "infonce"
    dim: int = 384
    start: Literal["closed", "random"] = "closed"
    epochs: int = 0
    patience: int = 3
    batch: int = 1024
    optimiser: Literal["adamw", "adam", "rmsprop"] = "adamw"
    rate: float = 3e-5
    schedule: Literal["cosine", "paper2022"] = "cosine"
    decay: float = 0.1
    clip: float = 0.0
    dropout: float = 0.1
    noise: float = 0.0
    temperature: float = 0.1
    margin: float = 0.2
    balanced: bool = True
    best_by: str = "R@10+R@100+MRR@100"
    ridge: float = 0.01
    text_ridge: float = 0.2
    power: float = 2.0
    landmarks: int = 9000
    directions: int = 1024
    sharpness: float = 6.0
    experts: bool = True
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        for name, hint in get_type_hints(Settings).items():
            if (known := get_args(hint)) and getattr(self, name) not in known:
                raise UsageError(f"{name}={getattr(self, name)!r}: known are {', '.join(known)}")
        if (
            self.dim < 1
            or self.batch < 2
            or self.epochs < 0
            or self.ridge <= 0
            or self.text_ridge <= 0
            or self.landmarks < 0
            or self.sharpness <= 0
            or self.directions < 1
        ):
            raise UsageError(
                "dim needs at least 1, batch 2, epochs 0, landmarks 0, directions 1, and ridges and sharpness more "
                "than 0"
            )
        if unknown := [name for name in self.best_by.split("+") if name not in MEASURES]:
            raise UsageError(f"best_by={self.best_by!r}: no measure {unknown[0]!r}; known are {', '.join(MEASURES)}")

    def further(self) -> Settings:
        """Settings of the expert for a further data set, which has many pairs and needs less regularisation."""
        return replace(self, ridge=2 * self.ridge, text_ridge=self.text_ridge / 4, power=1.0)

    def goodness(self, measured: Mapping[str, float]) -> float:
        """The criterion of the best epoch."""
        return sum(measured[name] for name in self.best_by.split("+"))

    def slowed(self, rate: float, stale: int) -> tuple[float, int]:
        """Rate factor and number of epochs without a new best after an epoch, as in the 2022 paper's reference code."""
        if self.schedule != "paper2022":
            return rate, stale
        return (rate * 0.99 * 0.5, 0) if stale > 2 else (rate * 0.99, stale)

    def six(self) -> tuple[Settings, ...]:
        """The trainings that the published result averages: two optimisers, three rates (2022 paper, section 4)."""
        return tuple(
            replace(self, optimiser=kind, rate=rate) for kind in ("adam", "rmsprop") for rate in (1e-4, 5e-5, 1e-5)
        )


PAPER_2022 = Settings(
    loss="margin",
    dim=2048,
    start="random",
    epochs=20,
    patience=10,
    batch=196,
    optimiser="adam",
    rate=1e-4,
    schedule="paper2022",
    decay=0.0,
    clip=2.0,
    dropout=0.2,
    noise=0.0,
    balanced=False,
    best_by="R@1+R@5+R@10+back R@1+back R@5+back R@10",
)
"""The recipe of the 2022 paper: T×V as Galanopoulos and Mezaris train it (ECCVW 2022, section 4.2)."""

STRAIGHT = Settings(landmarks=0, experts=False, ridge=0.1, text_ridge=0.1, power=1.5)
"""The closed form without landmarks: linear."""

PRESETS: Mapping[str, Settings] = {"default": Settings(), "straight": STRAIGHT, "paper2022": PAPER_2022}
