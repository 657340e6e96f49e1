import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from photodesk.errors import UsageError
from photodesk.evaluation.metrics import DEFAULT, Measure, parse, parse_all


@given(st.sampled_from(["R", "MRR"]), st.integers(1, 10**6))
def test_a_measure_prints_as_it_parses(name, k):
    text = f"{name}@{k}"
    assert str(parse(text)) == text
    assert parse(text) == Measure(name, k)


@pytest.mark.parametrize("text", ["R", "R@0", "R@-1", "R@", "r@5", "R@5 ", "R@05", "nDCG@10", "MRR@1e3", ""])
def test_an_unknown_measure_says_what_is_known(text):
    with pytest.raises(UsageError, match=r"known: R@k .* MRR@k"):
        parse(text)


def test_several_keep_their_order_and_come_once():
    assert [str(m) for m in parse_all(["MRR@10", "R@1", "MRR@10"])] == ["MRR@10", "R@1"]
    assert [str(m) for m in DEFAULT] == ["R@1", "R@5", "R@10", "R@50", "R@100", "MRR@100"]


def test_values_by_hand():
    ranks = np.array([0, 1, 2, 10, 11])
    assert parse("R@10").of(ranks).tolist() == [0, 1, 1, 1, 0]
    assert parse("MRR@10").of(ranks).tolist() == [0, 1, 0.5, 0.1, 0]
