"""Measures as values that print as they parse: `R@10`, `MRR@100`.

Both look at the best-placed right photo of an article. `R@k` is 1 if its rank is at most k, else 0; with one right
photo an article, as in NewsImages, that is recall. `MRR@k` is 1 / rank if the rank is at most k, else 0.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from photodesk.errors import UsageError


@dataclass(frozen=True, slots=True)
class Measure:
    """One measure with its cut-off; `str` gives what `parse` reads."""

    name: Literal["R", "MRR"]
    k: int

    def __str__(self) -> str:
        return f"{self.name}@{self.k}"

    def of(self, ranks: NDArray[np.integer]) -> NDArray[np.float64]:
        """Values for ranks of any shape, counted from 1; rank 0 stands for "not found" and is worth 0."""
        within = (ranks > 0) & (ranks <= self.k)
        if self.name == "R":
            return within.astype(np.float64)
        values = np.zeros(ranks.shape)
        values[within] = 1.0 / ranks[within]
        return values


def parse(text: str | Measure) -> Measure:
    """Read a measure; one that is read already is given back.

    Raises:
        UsageError: not a measure; says what is known.
    """
    if isinstance(text, Measure):
        return text
    match = re.fullmatch(r"(R|MRR)@([1-9][0-9]{0,8})", text)
    if not match:
        raise UsageError(
            f"no measure {text!r}; known: R@k (right photo among the first k) and MRR@k (1 / its rank), such as R@10, "
            "MRR@100"
        )
    return Measure("R" if match[1] == "R" else "MRR", int(match[2]))


def parse_all(texts: Iterable[str | Measure]) -> tuple[Measure, ...]:
    """Several measures, each once, in the order given."""
    return tuple(dict.fromkeys(parse(text) for text in texts))


DEFAULT = parse_all(["R@1", "R@5", "R@10", "R@50", "R@100", "MRR@100"])
