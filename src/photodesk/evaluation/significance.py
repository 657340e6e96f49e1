"""Significance of differences between runs: paired randomisation tests, Holm's correction, wins and losses; hubness.

The p-value is the share of random swaps of the two runs on every article that give at least the observed difference.
Source: Smucker, Allan & Carterette, A Comparison of Statistical Significance Tests for IR Evaluation (CIKM 2007);
Holm, A Simple Sequentially Rejective Multiple Test Procedure (1979).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations, islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from photodesk.errors import UsageError
from photodesk.evaluation.evaluate import Report, digits
from photodesk.evaluation.metrics import Measure
from photodesk.evaluation.run_files import open_rows
from photodesk.evaluation.tables import Table
from photodesk.types import Run

HUB_DEPTH = 10


@dataclass(frozen=True, slots=True)
class Difference:
    """Run `a` against run `b` by one measure, over the same articles.

    Args:
        difference: mean of a − mean of b.
        wins: articles on which a has the higher value.
        p: two-sided, of the paired randomisation test; never 0.
        p_holm: p after Holm's correction over all tests made together.
    """

    a: str
    b: str
    measure: str
    difference: float
    wins: int
    losses: int
    ties: int
    p: float
    p_holm: float


def compare(
    reports: Sequence[Report], measures: Sequence[Measure], *, samples: int = 10_000, seed: int = 0
) -> tuple[Difference, ...]:
    """Every pair of runs by every measure; Holm's correction is over all of them.

    Raises:
        UsageError: fewer than two reports, or reports that are not over the same articles.
    """
    if len(reports) < 2:
        raise UsageError(f"comparing needs at least two runs, not {len(reports)}")
    for other in reports[1:]:
        if other.articles != reports[0].articles:
            raise UsageError(
                f"{reports[0].name!r} and {other.name!r} were not evaluated over the same articles, so they cannot be "
                "compared"
            )
    rng = np.random.default_rng(seed)
    found = []
    for measure in measures:
        for a, b in combinations(reports, 2):
            gain = a.values(measure) - b.values(measure)
            wins, losses, ties = (int(signs.sum()) for signs in (gain > 0, gain < 0, gain == 0))
            p, mean = randomisation(gain, samples=samples, rng=rng), a.mean(measure) - b.mean(measure)
            found.append(Difference(a.name, b.name, str(measure), mean, wins, losses, ties, p, p))
    corrected = holm([each.p for each in found])
    return tuple(replace(each, p_holm=p) for each, p in zip(found, corrected, strict=True))


def randomisation(
    gains: NDArray[np.float64], *, samples: int = 10_000, rng: np.random.Generator | None = None
) -> float:
    """Two-sided p of a paired randomisation test.

    Gains of the same size are drawn together: the bits set in one random word are those of up to 64 gains that keep
    their sign.

    Args:
        gains: (n,) value of one run − value of the other, for each article.
        samples: number of random swaps; p is at least 1 / (samples + 1).
        rng: seed 0 if not given.
    """
    rng = rng or np.random.default_rng(0)
    sizes, counts = np.unique(np.abs(gains[gains != 0]), return_counts=True)
    words = -(-counts // 64)
    size = np.repeat(sizes, words)
    bits = np.full(size.shape, 64, np.uint64)
    bits[np.cumsum(words) - 1] = counts - 64 * (words - 1)
    total = float(sizes @ counts)
    least = abs(float(gains.sum())) - 1e-9 * total
    hits = 0
    step = max(1, 2_000_000 // max(1, len(size)))
    for start in range(0, samples, step):
        drawn = rng.integers(2**64, size=(min(step, samples - start), len(size)), dtype=np.uint64, endpoint=False)
        kept = np.bitwise_count(drawn >> (np.uint64(64) - bits)) @ size
        hits += int((np.abs(2 * kept - total) >= least).sum())
    return (hits + 1) / (samples + 1)


def holm(p: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values, in the order given."""
    adjusted = [0.0] * len(p)
    highest = 0.0
    for done, i in enumerate(sorted(range(len(p)), key=p.__getitem__)):
        highest = max(highest, min(1.0, (len(p) - done) * p[i]))
        adjusted[i] = highest
    return adjusted


def hubness(run: Run | Path, photos: Collection[str], *, depth: int = HUB_DEPTH, decimal_comma: bool = False) -> float:
    """Skewness of the k-occurrence: how often each photo of the gallery is ranked among the first `depth`.

    0 is even; large means that a few hubs crowd out the rest.

    Args:
        photos: the gallery; other photos that the run ranks are added.

    Source: Radovanović, Nanopoulos & Ivanović, Hubs in Space (JMLR 2010).
    """
    counts = Counter(dict.fromkeys(photos, 0))
    for _, _, ranked in open_rows(run, decimal_comma=decimal_comma).items:
        counts.update(islice(ranked, depth))
    n = np.array(list(counts.values()), np.float64)
    deviation = n.std() if n.size else 0.0
    return float(((n - n.mean()) ** 3).mean() / deviation**3) if deviation else 0.0


def runs_table(
    reports: Sequence[Report],
    hubs: Sequence[float],
    measures: Sequence[Measure],
    *,
    decimal_comma: bool = False,
    seed: int = 0,
) -> Table:
    """Means with their 95 % intervals and hubness, a row per run."""
    rows = []
    for report, hub in zip(reports, hubs, strict=True):
        cells = [report.title]
        for measure in measures:
            figures = (report.mean(measure), *report.interval(measure, seed=seed))
            mean, low, high = (digits(x, decimal_comma=decimal_comma) for x in figures)
            cells.append(f"{mean} [{low}; {high}]")
        rows.append((*cells, digits(hub, 2, decimal_comma=decimal_comma)))
    return Table(
        "Runs, with 95 % bootstrap intervals", ("run", *map(str, measures), f"hubness@{HUB_DEPTH}"), tuple(rows)
    )


def differences_table(
    differences: Sequence[Difference], reports: Sequence[Report], *, decimal_comma: bool = False
) -> Table:
    """A row per pair of runs and measure; `reports` are those that were compared, for the runs' full titles."""
    titles = {report.name: report.title for report in reports}
    rows = tuple(
        (
            titles[d.a],
            titles[d.b],
            d.measure,
            ("" if d.difference < 0 else "+") + digits(d.difference, decimal_comma=decimal_comma),
            *map(str, (d.wins, d.losses, d.ties)),
            digits(d.p, 4, decimal_comma=decimal_comma),
            digits(d.p_holm, 4, decimal_comma=decimal_comma),
        )
        for d in differences
    )
    head = ("run A", "run B", "measure", "A − B", "wins", "losses", "ties", "p", "p (Holm)")
    return Table("Paired randomisation tests, articles won, lost and tied by A", head, rows, left=3)


def as_json(differences: Sequence[Difference]) -> list[dict[str, object]]:
    """Plain values for `json.dump`."""
    return [asdict(difference) for difference in differences]
