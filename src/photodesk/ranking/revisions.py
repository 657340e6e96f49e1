"""Revisions of similarity as values; `str` and `parse` are inverse, and `dual_softmax.py` computes them.

dual_softmax(temperature=1)                  product of both softmaxes, as in the 2022 paper (Cheng et al., 2021)
inverted_softmax(beta=20)                    softmax over the articles alone (Smith et al., ICLR 2017)
dynamic_inverted_softmax(beta=20, k=1)       the same, only where the best photo is a hub (QB-Norm, Bogolin et al., CVPR
                                             2022)
nnn(k=128, alpha=0.75)                       mean of the k nearest articles (Chowdhury et al., EMNLP 2024)
sinkhorn(temperature=0.05, iterations=10)    softmax over articles and photos in turn (Cuturi, NeurIPS 2013); no bank
cosine                                       no revision
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass

from photodesk.errors import UsageError, did_you_mean


@dataclass(frozen=True, slots=True)
class Revision:
    """A method with its options, from the function of that name or `parse`."""

    method: str
    options: tuple[tuple[str, float], ...] = ()

    def __str__(self) -> str:
        options = ", ".join(f"{name}={_number(value)}" for name, value in self.options)
        return f"{self.method}({options})" if options else self.method

    def __getitem__(self, option: str) -> float:
        return dict(self.options)[option]


def cosine() -> Revision:
    """No revision."""
    return Revision("cosine")


def dual_softmax(temperature: float = 1) -> Revision:
    """T/2 · soft maximum of the photo's scores at temperature T."""
    return Revision("dual_softmax", (("temperature", _positive("temperature", temperature)),))


def inverted_softmax(beta: float = 20) -> Revision:
    """Soft maximum of the photo's scores at temperature 1 / β."""
    return Revision("inverted_softmax", (("beta", _positive("beta", beta)),))


def dynamic_inverted_softmax(beta: float = 20, k: int = 1) -> Revision:
    """Inverted softmax for articles whose best photo is among the best k of any article of the bank; cosine for the
    others.

    In a batch every article's best photo is, so there it equals inverted softmax.
    """
    return Revision("dynamic_inverted_softmax", (("beta", _positive("beta", beta)), ("k", _count("k", k))))


def nnn(k: int = 128, alpha: float = 0.75) -> Revision:
    """α · mean of the photo's k largest scores; of all scores if the bank has fewer articles."""
    if not 0 <= alpha <= 1000:
        raise UsageError(f"alpha={alpha}: expected a number from 0, which is cosine, to 1000")
    return Revision("nnn", (("k", _count("k", k)), ("alpha", float(alpha))))


def sinkhorn(temperature: float = 0.05, iterations: int = 10) -> Revision:
    """Softmax over the articles after rounds of softmax over both in turn; one round is inverted softmax."""
    options = ("temperature", _positive("temperature", temperature)), ("iterations", _count("iterations", iterations))
    return Revision("sinkhorn", options)


_METHODS = (cosine, dual_softmax, dynamic_inverted_softmax, inverted_softmax, nnn, sinkhorn)
METHODS: dict[str, Callable[..., Revision]] = {method.__name__: method for method in _METHODS}


def parse(text: str) -> Revision:
    """Read a revision such as `dual_softmax(temperature=1)`; options that are left out take their defaults.

    Raises:
        UsageError: no such method or option, or a value out of range.
    """
    match = re.fullmatch(r"\s*(\w+)\s*(?:\(\s*(.*?)\s*\))?\s*", text)
    if not match or match[1] not in METHODS:
        hint = did_you_mean(match[1] if match else text, METHODS)
        raise UsageError(f"no revision {text!r}{hint}; known: {', '.join(METHODS)}")
    make = METHODS[match[1]]
    known = list(inspect.signature(make).parameters)
    options: dict[str, float] = {}
    for part in re.split(r"\s*,\s*", match[2]) if match[2] else []:
        name, _, value = (piece.strip() for piece in part.partition("="))
        if name not in known or name in options:
            raise UsageError(
                f"{text!r}: {match[1]} takes each of {', '.join(known) or 'no options'} once, as name=number, not "
                f"{part!r}"
            )
        try:
            options[name] = float(value)
        except ValueError:
            raise UsageError(f"{text!r}: {name} has to be a number, not {value!r}") from None
    return make(**options)


def _positive(name: str, value: float) -> float:
    if not 1e-6 <= value <= 1e6:
        raise UsageError(f"{name}={_number(value)}: expected a number from 0.000001 to 1000000")
    return float(value)


def _count(name: str, value: float) -> float:
    if not (value >= 1 and value == int(value) and value < 1e9):
        raise UsageError(f"{name}={_number(value)}: expected a whole number from 1")
    return float(value)


def _number(value: float) -> str:
    return repr(float(value)).removesuffix(".0")
