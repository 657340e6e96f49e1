"""Resampling by counts against drawing one thing after the other."""

from __future__ import annotations

import tracemalloc

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from photodesk.evaluation import bootstrap


@given(st.lists(st.sampled_from([-1.0, -0.5, 0.0, 0.25, 1.0]), min_size=1, max_size=40), st.integers(0, 3))
def test_the_interval_is_that_of_resampled_articles(gains, seed):
    gains = np.array(gains)
    values, counts = np.unique(gains, return_counts=True)
    low, high = bootstrap.interval(bootstrap.sums(values, counts, seed=seed) / len(gains))
    assert gains.min() - 1e-9 <= low <= high <= gains.max() + 1e-9
    random = np.random.default_rng(seed + 100)
    means = gains[random.integers(0, len(gains), (4000, len(gains)))].mean(axis=1)  # one article after the other
    naive = np.quantile(means, [0.025, 0.975])
    step = np.ptp(gains) / len(gains)
    assert abs(low - naive[0]) <= 2 * step + 1e-9
    assert abs(high - naive[1]) <= 2 * step + 1e-9


def test_sums_are_those_of_all_resamples_drawn_at_once_in_memory_for_some():
    """Columns are drawn together: groups of articles, with their sizes in the first."""
    random = np.random.default_rng(3)
    group = random.integers(0, 9000, 12_000)
    _, member = np.unique(group, return_inverse=True)
    sizes = np.bincount(member)
    columns = [random.random(12_000) < 0.3, 1 / random.integers(1, 50, 12_000)]
    totals = np.stack([sizes, *(np.bincount(member, column) for column in columns)], axis=1)
    tracemalloc.start()
    found = bootstrap.sums(totals, np.ones_like(sizes))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 80e6  # all at once are 100 MB and more
    drawn = np.random.default_rng(0).multinomial(len(sizes), np.full(len(sizes), 1 / len(sizes)), size=2000)
    assert np.allclose(found, drawn @ totals, rtol=1e-12, atol=0)
    low, high = bootstrap.interval(found)
    assert np.array_equal([low, high], np.quantile(found, [(1 - 0.95) / 2, 0.975], axis=0))
