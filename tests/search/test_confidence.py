"""Probabilities beside worlds whose probabilities are known."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from photodesk.errors import StoreError
from photodesk.search import calibrate, confidence
from photodesk.search.calibrate import fit, measure
from photodesk.search.confidence import ODDS, Background, Confidence, Reliability, words


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def world(seed, n=400, d=24, signal=2.5):
    """Articles and their photos in a common direction, with noise."""
    rng = np.random.default_rng(seed)
    texts = rng.standard_normal((n, d))
    return unit(texts), unit(texts * signal / np.sqrt(d) + rng.standard_normal((n, d)) + 0.3)


def test_the_background_is_mean_and_spread_of_the_scores():
    rng = np.random.default_rng(0)
    rows = unit(rng.standard_normal((500, 12)) * np.linspace(3, 0.2, 12) + 1)
    queries = unit(rng.standard_normal((9, 12)))
    found = Background.of(rows, directions=12)
    rough = Background.of(rows, directions=3)
    for query in queries:
        scores = rows.astype(np.float64) @ query
        assert found.mean_score(query) == pytest.approx(scores.mean(), abs=1e-5)
        assert found.deviation(query) == pytest.approx(scores.std(), rel=1e-3)
        assert rough.deviation(query) == pytest.approx(scores.std(), rel=0.35)
        assert found.deviation(3 * query) == pytest.approx(3 * found.deviation(query), rel=1e-4)
    total = sum(rough.deviation(axis) ** 2 for axis in np.eye(12, dtype=np.float32))
    assert total == pytest.approx(float(np.cov(rows, rowvar=False, bias=True).trace()), rel=1e-3)


def test_one_photo_has_a_background_too():
    assert Background.of(np.array([[1, 0]], np.float32)).deviation(np.array([0, 1], np.float32)) > 0


def test_what_is_fitted_is_reliable_on_pairs_that_it_has_not_seen():
    texts, photos = world(1)
    made = fit(texts, photos, np.arange(len(texts)), fingerprint="f")
    assert made.reliability is not None
    assert made.reliability.error < 0.05
    assert made.slope > 0
    texts, photos = world(2)
    again = measure(made, texts, photos, np.arange(len(texts)))
    assert again.error < 0.05
    assert max(again.said) - min(again.said) > 0.1
    overconfident = Confidence("f", made.background, made.bias + 3, made.slope)
    assert measure(overconfident, texts, photos, np.arange(len(texts))).error > 0.1


def test_without_any_signal_every_photo_is_as_likely_as_the_odds_say():
    texts, _ = world(3)
    _, photos = world(4)
    made = fit(texts, photos, np.arange(len(texts)), fingerprint="f")
    assert made.probability(np.linspace(-1, 3, 5)) == pytest.approx(1 / ODDS, abs=0.02)


def test_the_same_cosine_is_worth_less_for_an_article_that_is_near_to_all_photos():
    rng = np.random.default_rng(5)
    rows = unit(rng.standard_normal((300, 16)) + 2)
    found = Background.of(rows)
    near, far = unit(np.ones((1, 16)))[0], unit(rng.standard_normal((1, 16)))[0]
    assert (0.5 - found.mean_score(near)) / found.deviation(near) < (0.5 - found.mean_score(far)) / found.deviation(far)


def test_pairs_that_belong_together_are_in_one_half():
    texts, photos = world(6, n=60)
    group = np.repeat(np.arange(30), 2)
    made = fit(np.repeat(texts[:30], 2, axis=0), photos, group, fingerprint="f")
    assert made.reliability is not None
    assert made.reliability.photos == 30


def test_the_logistic_curve_is_that_of_greatest_likelihood():
    rng = np.random.default_rng(7)
    z = rng.standard_normal(3000)
    right = rng.random(3000) < 1 / (1 + np.exp(-(0.5 + 1.5 * z)))
    bias, slope = calibrate._logistic(z, right, np.ones(3000))
    p = 1 / (1 + np.exp(-(bias + slope * z)))
    assert [float((right - p).sum()), float(((right - p) * z).sum())] == pytest.approx(
        [0, 0], abs=0.01
    )  # the gradient is nought
    assert (bias, slope) == (pytest.approx(0.5, abs=0.15), pytest.approx(1.5, abs=0.15))


def test_separable_data_stay_finite():
    z = np.array([-1.0, -2, 1, 2])
    assert all(np.isfinite(calibrate._logistic(z, z > 0, np.ones(4))))


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=60))
def test_the_error_is_between_nought_and_one_and_bins_hold_all_hits(hits):
    said, right = np.array([p for p, _ in hits]), np.array([r for _, r in hits])
    found = Reliability.of(said, right)
    assert sum(found.hits) == len(hits)
    assert 0 <= found.error <= 1
    assert list(found.said) == sorted(found.said)


def test_the_error_of_known_bins():
    said, right = np.repeat([0.1, 0.7], 50), np.repeat([False, True], 50)
    assert Reliability.of(said, right, bins=2).error == pytest.approx(0.2)


def test_it_is_the_same_after_saving(tmp_path):
    texts, photos = world(8, n=150)
    made = fit(texts, photos, np.arange(len(texts)), fingerprint="f", about={"data": "none"})
    made.save(tmp_path / "confidence.json")
    found = Confidence.load(tmp_path / "confidence.json")
    assert (found.fingerprint, found.bias, found.slope, found.reliability, found.about) == (
        "f", made.bias, made.slope, made.reliability, {"data": "none"},
    )  # fmt: skip
    assert found.background.deviation(texts[0]) == pytest.approx(made.background.deviation(texts[0]), rel=1e-2)
    assert Confidence.find("f", tmp_path) is not None
    assert Confidence.find("another", tmp_path) is None
    (tmp_path / "confidence.json").write_text("{}")
    with pytest.raises(StoreError, match="photodesk calibrate"):
        Confidence.find("f", tmp_path)


def test_words_follow_the_probability():
    assert [words(p) for p in (0, 0.05, 0.2, 0.4, 1)] == list(confidence.WORDS)


def test_the_plot_has_a_point_a_bin():
    found = Reliability((0.1, 0.5), (0.2, 0.4), (5, 5), 0.1)
    assert calibrate.plot(found).count("<circle") == 2


def test_the_shipped_curve_is_reliable_and_rises():
    shipped = confidence.shipped()
    assert shipped.bias < 0 < shipped.slope
    found = shipped.reliability
    assert found is not None
    assert found.error <= 0.05


def test_a_curve_that_is_not_what_was_written_is_named(tmp_path):
    path = tmp_path / "confidence.json"
    Confidence("f", Background.of(np.eye(4, dtype=np.float32)), -4.5, 1.5).save(path)
    for old, new in (('"f"', '"g"'), ("-4.5", "-4.4"), ('"rest": 0', '"rest": 1')):
        whole = path.read_text("utf-8")
        assert old in whole
        path.write_text(whole.replace(old, new), "utf-8")
        with pytest.raises(StoreError, match="is not what was written"):
            Confidence.find("f", tmp_path)
        path.write_text(whole, "utf-8")
    older = json.loads(path.read_text("utf-8"))
    older.pop("sum")
    path.write_text(json.dumps(older), "utf-8")
    assert Confidence.load(path).bias == -4.5
