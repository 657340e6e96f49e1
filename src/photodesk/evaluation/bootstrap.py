"""The bootstrap: how far a mean may be off, by drawing the same number of articles again, with replacement.

Articles of one value, or of one group, are drawn together, as a multinomial number of each kind: the cost does not grow
with the articles.

Source: Efron & Tibshirani, An Introduction to the Bootstrap (1993), chapter 13.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

DRAWN = 1 << 22  # numbers that are drawn at once, so that memory is bounded


def sums(
    values: NDArray[np.float64], counts: NDArray[np.integer], *, samples: int = 2000, seed: int = 0
) -> NDArray[np.float64]:
    """Sums over resamples of n things, of which there are k kinds.

    Args:
        values: (k,) of a thing of each kind, or (k, c) with c columns.
        counts: (k,) how many there are; they add up to n.
        samples: how many resamples.
        seed: of the draws.

    Returns:
        (samples,) or (samples, c).
    """
    random, n = np.random.default_rng(seed), int(counts.sum())
    block = max(1, DRAWN // len(counts))
    drawn = [
        random.multinomial(n, counts / n, size=min(block, samples - start)) @ values
        for start in range(0, samples, block)
    ]
    made: NDArray[np.float64] = np.concatenate(drawn)
    return made


def interval(means: NDArray[np.float64], level: float = 0.95) -> tuple[Any, Any]:
    """Ends of the percentile interval of resampled means: of (samples,) two floats, of (samples, c) two of (c,)."""
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2], axis=0).tolist()
    return low, high
