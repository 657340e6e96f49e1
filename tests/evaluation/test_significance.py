from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from photodesk.errors import UsageError
from photodesk.evaluation import run_files
from photodesk.evaluation.evaluate import evaluate
from photodesk.evaluation.metrics import parse, parse_all
from photodesk.evaluation.significance import (
    as_json,
    compare,
    differences_table,
    holm,
    hubness,
    randomisation,
    runs_table,
)
from photodesk.types import Hit, Pair, Run

MRR = parse("MRR@100")


def ranked(*places, name="run", photos=40):
    """A run over articles 0, 1, … whose right photo stands at the place given; 0 for nowhere."""
    names = [f"p{i}" for i in range(photos)]
    rankings = [[*names[: place - 1], "right", *names[place - 1 :]] if place else names for place in places]
    return Run(
        {str(i): tuple(Hit(p, -float(r)) for r, p in enumerate(ids)) for i, ids in enumerate(rankings)}, name=name
    )


def reported(*places, name="run"):
    return evaluate(ranked(*places, name=name), [Pair(str(i), "right") for i in range(len(places))])


@given(st.lists(st.sampled_from([-1.0, -0.5, 0.0, 0.25, 0.5, 1.0]), min_size=1, max_size=9))
def test_the_test_estimates_the_exact_p_over_all_swaps(gains):
    gains = np.array(gains)
    signs = np.array(list(product([1, -1], repeat=len(gains))))
    exact = (np.abs(signs @ gains) >= abs(gains.sum()) - 1e-12).mean()
    assert randomisation(gains, samples=20_000) == pytest.approx(exact, abs=0.02)


@pytest.mark.parametrize(("wins", "losses"), [(64, 64), (70, 50), (200, 129), (1, 0), (40, 90), (65, 0)])
def test_equal_gains_give_the_sign_test(wins, losses):
    gains = np.array([1.0] * wins + [-1.0] * losses + [0.0] * 17)
    expected = stats.binomtest(wins, wins + losses).pvalue
    assert randomisation(gains, samples=40_000) == pytest.approx(max(expected, 1 / 40_001), abs=0.01)


def test_more_than_a_word_of_equal_gains_is_drawn_as_so_many_single_ones():
    rng = np.random.default_rng(1)
    gains = np.concatenate([rng.choice([0.5, -0.5], 150), rng.choice([0.1, -0.1], 64), rng.standard_normal(30) / 10])
    naive = np.abs((rng.integers(0, 2, (40_000, len(gains))) * 2 - 1) @ gains) >= abs(gains.sum()) - 1e-12
    assert randomisation(gains, samples=40_000) == pytest.approx(naive.mean(), abs=0.01)


def test_no_difference_has_p_1_and_a_clear_one_the_smallest_p():
    assert randomisation(np.zeros(5), samples=100) == 1.0
    assert randomisation(np.ones(500), samples=999) == 0.001


def test_false_alarms_are_as_rare_as_the_level_says():
    rng = np.random.default_rng(0)
    p = [
        randomisation(rng.choice([1.0, 0.5, 0.25], 60) * rng.choice([1, -1], 60), samples=400, rng=rng)
        for _ in range(600)
    ]
    assert 0.02 < np.mean(np.array(p) <= 0.05) < 0.09


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == [0.03, 0.06, 0.06]
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_rejects_what_the_stepwise_procedure_rejects(p):
    for level in (0.01, 0.05, 0.3):
        rejected: set[int] = set()
        for done, i in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
            if (len(p) - done) * p[i] > level:
                break
            rejected.add(i)
        assert {i for i, q in enumerate(holm(p)) if q <= level} == rejected


def test_wins_losses_ties_and_difference_by_hand():
    a, b = reported(1, 2, 0, 4, 0, name="a"), reported(1, 1, 0, 0, 2, name="b")
    (found,) = compare([a, b], [MRR])
    assert (found.a, found.b, found.measure) == ("a", "b", "MRR@100")
    assert (found.wins, found.losses, found.ties) == (1, 2, 2)
    assert found.difference == pytest.approx((1 + 0.5 + 0.25 - 1 - 1 - 0.5) / 5)
    assert found.p == found.p_holm > 0.05


def test_every_pair_by_every_measure_is_corrected_together():
    rng = np.random.default_rng(0)
    reports = [reported(*rng.integers(0, top, 40), name=f"top {top}") for top in (3, 4, 30)]
    found = compare(reports, parse_all(["R@1", "MRR@100"]), samples=2000)
    assert [(d.measure, d.a, d.b) for d in found[:4]] == [
        ("R@1", "top 3", "top 4"),
        ("R@1", "top 3", "top 30"),
        ("R@1", "top 4", "top 30"),
        ("MRR@100", "top 3", "top 4"),
    ]
    assert [d.p_holm for d in found] == holm([d.p for d in found])
    assert found == compare(reports, parse_all(["R@1", "MRR@100"]), samples=2000)
    assert min(d.p for d in found) < 0.01 < max(d.p for d in found)


def test_a_run_against_itself_and_swapped():
    a, b = reported(1, 2, 3, 0), reported(2, 2, 1, 1)
    (same,) = compare([a, a], [MRR])
    assert (same.difference, same.wins, same.losses, same.p) == (0.0, 0, 0, 1.0)
    (ab,), (ba,) = compare([a, b], [MRR]), compare([b, a], [MRR])
    assert (ab.wins, ab.losses, ab.difference, ab.p) == (ba.losses, ba.wins, -ba.difference, ba.p)


def test_what_cannot_be_compared_is_said():
    with pytest.raises(UsageError, match="at least two runs, not 1"):
        compare([reported(1)], [MRR])
    with pytest.raises(UsageError, match="'run' and 'other' were not evaluated over the same articles"):
        compare([reported(1), reported(1, 1, name="other")], [MRR])


def test_hubness_is_the_skewness_of_how_often_photos_are_among_the_first(tmp_path):
    rng = np.random.default_rng(0)
    weights = 1 / np.arange(1, 81)
    rankings = [rng.choice(80, 30, replace=False, p=weights / weights.sum()) for _ in range(50)]
    run = Run({str(i): tuple(Hit(f"p{p}", -float(r)) for r, p in enumerate(ids)) for i, ids in enumerate(rankings)})
    counts = np.bincount(np.concatenate([ids[:10] for ids in rankings]), minlength=80)
    gallery = [f"p{i}" for i in range(80)]
    assert hubness(run, gallery) == pytest.approx(stats.skew(counts)) != 0
    run_files.write(run, tmp_path / "run.tsv")
    assert hubness(tmp_path / "run.tsv", gallery) == hubness(run, gallery)
    assert hubness(run, [*gallery, "never"]) == pytest.approx(stats.skew([*counts, 0]))


def test_a_gallery_that_is_used_evenly_has_no_hubs():
    run = Run({str(i): (Hit(f"p{i}", 1.0),) for i in range(5)})
    assert hubness(run, [f"p{i}" for i in range(5)]) == 0.0
    assert hubness(Run({}), []) == 0.0


def test_tables_and_json_hold_the_figures():
    a, b = reported(1, 1, 0, 2, name="a"), reported(2, 0, 0, 0, name="b")
    found = compare([a, b], [MRR])
    row = differences_table(found, [a, b], decimal_comma=True).rows[0]
    assert row[:7] == ("a", "b", "MRR@100", "+0,50000", "3", "0", "1")
    assert differences_table(compare([b, a], [MRR]), [a, b]).rows[0][3] == "-0.50000"
    assert as_json(found)[0]["p"] == found[0].p
    table = runs_table([a, b], [1.5, 0.25], [MRR])
    low, high = a.interval(MRR)
    assert table.rows[0] == ("a", f"0.62500 [{low:.5f}; {high:.5f}]", "1.50")
    assert table.head == ("run", "MRR@100", "hubness@10")
