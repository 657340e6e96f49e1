"""Percentile bootstrap: confidence intervals of means by resampling articles with replacement.

Articles with the same value, or of one group, are drawn together, as a multinomial count of each kind: the cost does
not grow with the number of articles.

Source: Efron & Tibshirani, An Introduction to the Bootstrap (1993), chapter 13.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

BLOCK = 1 << 22  # numbers drawn at once, which bounds memory


def sums(
    values: NDArray[np.float64], counts: NDArray[np.integer], *, samples: int = 2000, seed: int = 0
) -> NDArray[np.float64]:
    """Sums over resamples of n items of k kinds.

    Args:
        values: (k,) value of an item of each kind, or (k, c) with c columns.
        counts: (k,) items of each kind; they add up to n.

    Returns:
        (samples,) or (samples, c).
    """
    random, n = np.random.default_rng(seed), int(counts.sum())
    block = max(1, BLOCK // len(counts))
    sizes = (min(block, samples - start) for start in range(0, samples, block))
    return np.concatenate([random.multinomial(n, counts / n, size=size) @ values for size in sizes])


def interval(means: NDArray[np.float64], level: float = 0.95) -> tuple[Any, Any]:
    """Ends of the percentile interval of resampled means: floats for (samples,), lists of c for (samples, c)."""
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2], axis=0).tolist()
    return low, high
