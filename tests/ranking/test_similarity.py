from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from photodesk.errors import StoreError
from photodesk.ranking import bfloat16, similarity
from photodesk.ranking.dual_softmax import top_k
from photodesk.ranking.revisions import cosine
from photodesk.ranking.topk import floats
from photodesk.types import Embeddings


def embeddings(n, d, seed, prefix, encoder="x"):
    rows = np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return Embeddings(tuple(f"{prefix}{i}" for i in range(n)), rows, encoder)


def naive(articles, photos, k):
    ranked = {}
    for article, row in zip(articles.ids, articles.rows, strict=True):
        scores = {photo: float(row @ other) for photo, other in zip(photos.ids, photos.rows, strict=True)}
        ranked[article] = sorted(scores, key=lambda photo: (-scores[photo], photo))[:k]
    return ranked


@pytest.mark.parametrize(("articles", "photos"), [(1024, 8192), (5, 7), (1, 1000)])
def test_streamed_blocks_find_what_a_full_sort_finds(monkeypatch, articles, photos):
    monkeypatch.setattr(similarity, "ARTICLES", articles)
    monkeypatch.setattr(similarity, "PHOTOS", photos)
    a, p = embeddings(23, 8, 0, "a"), embeddings(61, 8, 1, "p")
    run = top_k(a, p, cosine(), 10)
    assert list(run) == list(a.ids)
    for article, wanted in naive(a, p, 10).items():
        assert [hit.photo for hit in run[article]] == wanted


def test_scores_are_those_of_the_full_matrix():
    a, p = embeddings(5, 16, 0, "a"), embeddings(9, 16, 1, "p")
    run, full = top_k(a, p, cosine(), 9), a.rows.astype(np.float64) @ p.rows.astype(np.float64).T
    for i, article in enumerate(a.ids):
        for hit in run[article]:
            assert hit.score == pytest.approx(full[i, p.ids.index(hit.photo)], abs=1e-6)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=30), st.integers(1, 30), st.integers(1, 9))
def test_equal_scores_come_in_the_order_of_photo_ids(levels, k, width):
    """Also across the border of blocks and at the k-th place."""
    scores = np.array([levels], np.float32)
    best, where = np.empty((1, 0), np.float32), np.empty((1, 0), np.int64)
    for start in range(0, len(levels), width):
        part = scores[:, start : start + width]
        columns = np.arange(start, start + part.shape[1])[None]
        best, where = similarity.best_of(np.hstack([best, part]), np.hstack([where, columns]), k)
    wanted = sorted(range(len(levels)), key=lambda j: (-levels[j], j))[:k]
    assert where[0].tolist() == wanted
    assert best[0].tolist() == [levels[j] for j in wanted]


def test_more_photos_are_asked_for_than_there_are():
    run = top_k(embeddings(2, 4, 0, "a"), embeddings(3, 4, 1, "p"), cosine(), 100)
    assert [len(run[article]) for article in run] == [3, 3]


def test_a_constant_added_to_a_row_changes_no_rank():
    a, p = embeddings(4, 8, 0, "a"), embeddings(20, 8, 1, "p")
    full = a.rows @ p.rows.T
    columns = np.broadcast_to(np.arange(20), (4, 20))
    moved = full + np.array([[1.0], [-2.0], [0.5], [0.0]], np.float32)
    assert np.array_equal(similarity.best_of(full, columns, 20)[1], similarity.best_of(moved, columns, 20)[1])


def test_embeddings_of_two_encoders_are_not_compared():
    with pytest.raises(StoreError, match="encode both with the same one"):
        top_k(embeddings(2, 4, 0, "a", "one"), embeddings(3, 4, 1, "p", "other"), cosine())


@pytest.mark.parametrize("photos", [8192, 700])
def test_a_wrong_guess_of_the_first_limit_is_put_right(monkeypatch, photos):
    """Every eighth photo scores high, so what is judged by them is too high for all rows; another article finds them
    all alike."""
    monkeypatch.setattr(similarity, "PHOTOS", photos)
    rng = np.random.default_rng(0)
    high = np.where(np.arange(2000) % 8 == 0, 0.5, 0.0) + rng.random(2000) * 0.3
    rows = np.stack([high, np.sqrt(1 - high**2)], axis=1).astype(np.float32)
    queries = np.array([[1, 0], [0, 1], [-1, 0]], np.float32)
    values, columns = similarity.best(queries, rows, 300)
    for query, found, at in zip(queries, values, columns, strict=True):
        scores = rows @ query
        assert at.tolist() == sorted(range(2000), key=lambda j: (-scores[j], j))[:300]
        assert np.array_equal(found, scores[at])
    alike, columns = similarity.best(queries[:1], np.tile(rows[:1], (2000, 1)), 300)
    assert columns[0].tolist() == list(range(300))
    assert (alike == alike[0, 0]).all()


def near_ties(kind):
    """(9 rows, 700 columns, minus, weight) that try a product which is not exact."""
    rng = np.random.default_rng(6)
    rows, columns = rng.standard_normal((9, 70)), rng.standard_normal((700, 70))
    match kind:
        case "copies":  # more of one photo than there is room for
            columns[100:500] = columns[5]
        case "crowd":  # differences between what bfloat16 and what float32 can tell
            columns[:400] = columns[5] + rng.standard_normal((400, 70)) * 10.0 ** -rng.integers(1, 8, (400, 1))
            rows += columns[5]
        case "few":  # the same, and room for all of them
            columns[:50] = columns[5] + rng.standard_normal((50, 70)) * 10.0 ** -rng.integers(2, 8, (50, 1))
            rows += columns[5]
        case "loud":  # one dimension that drowns the others
            columns[:, 3] += 40
            rows[:, 3] -= 40
        case "opposite":  # every score negative
            rows, columns = rows * 0.1 - 1, columns * 0.1 + 1
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    columns /= np.linalg.norm(columns, axis=1, keepdims=True)
    return rows.astype(np.float32), columns.astype(np.float32)


def one_by_one(rows, columns, k, minus, weight, order):
    """Every score by itself in float32, and a full sort."""
    values, places = [], []
    for row, taken in zip(rows, weight, strict=True):
        scores = np.vecdot(columns, row) - np.float32(taken) * minus
        first = sorted(range(len(columns)), key=lambda j, s=scores: (-s[j], order.tolist().index(j)))[:k]
        values.append(scores[first])
        places.append(first)
    return np.array(values), np.array(places)


@pytest.fixture(params=["float32", "bfloat16"])
def precision(request, monkeypatch):
    """Every product names candidates, in small blocks, by this precision."""
    if request.param == "bfloat16":
        pytest.importorskip("torch")
        monkeypatch.setattr(bfloat16, "WORTH", 0)
        monkeypatch.setattr(bfloat16, "available", lambda: True)
    monkeypatch.setattr(similarity, "MANY", 1)
    monkeypatch.setattr(similarity, "PHOTOS", 300)
    monkeypatch.setattr(similarity, "CHUNK", 6)
    return request.param


@pytest.mark.parametrize("kind", ["plain", "copies", "crowd", "few", "loud", "opposite"])
@pytest.mark.parametrize("taken", ["nothing", "numbers", "some", "much"])
def test_the_best_are_those_of_single_scores_to_the_last_bit(precision, kind, taken):
    """In float32 and in bfloat16, with ties in the order asked for."""
    rows, columns = near_ties(kind)
    rng = np.random.default_rng(7)
    order = rng.permutation(700)
    minus = (
        np.zeros(700, np.float32)
        if taken == "nothing"
        else rng.standard_normal(700).astype(np.float32) * (9 if taken == "much" else 0.1)
    )
    if kind == "copies":
        minus[100:500] = minus[5]
    weight = np.ones(9, np.float32) if taken != "some" else (np.arange(9) % 2).astype(np.float32)
    assert similarity.Precision.of(9, columns).name == precision
    options = {} if taken == "nothing" else {"minus": minus} | ({"weight": weight} if taken == "some" else {})
    values, places = similarity.best(rows, columns, 25, order=order, **options)
    wanted, at = one_by_one(rows, columns, 25, minus, weight, order)
    assert np.array_equal(places, at)
    assert np.array_equal(values, wanted)
    for i in range(9):
        alone = {name: value[i : i + 1] if name == "weight" else value for name, value in options.items()}
        one, at = similarity.best(rows[i : i + 1], columns, 25, order=order, **alone)
        assert np.array_equal(one[0], values[i])
        assert np.array_equal(at[0], places[i])


@pytest.mark.usefixtures("precision")
def test_without_its_margin_a_product_would_miss_some(monkeypatch):
    """So the test above can fail: candidates are cut at the k-th score of the product itself."""
    monkeypatch.setattr(similarity.Precision, "cut", lambda self, rows, kth, minus: kth)
    missed = 0
    for kind in ("plain", "few"):
        _, columns = near_ties(kind)
        rows = columns[::7]
        wanted = one_by_one(rows, columns, 25, np.zeros(700, np.float32), np.ones(100), np.arange(700))[1]
        missed += not np.array_equal(similarity.best(rows, columns, 25)[1], wanted)
    assert missed


@settings(max_examples=40)
@given(st.integers(0, 99), st.sampled_from([1e-3, 1.0, 30.0]))
def test_a_product_in_bfloat16_is_wrong_by_less_than_the_bound(seed, size):
    pytest.importorskip("torch")
    rng = np.random.default_rng(seed)
    rows, columns = (
        rng.standard_normal((n, 40)).astype(np.float32) * rng.lognormal(size=40).astype(np.float32) for n in (5, 30)
    )
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    columns /= np.linalg.norm(columns, axis=1, keepdims=True)
    minus = rng.standard_normal(30).astype(np.float32) * np.float32(size)
    precise = similarity.Precision.of(5, columns, "bfloat16")
    wanted = rows.astype(np.float64) @ columns.T + (minus.max() - minus)
    for i, j, bits in bfloat16.products(rows, columns, 3, 20, minus=minus):
        found = floats(bits).astype(np.float64)
        reach = found - precise.cut(
            np.repeat(rows[i], found.shape[1], axis=0), found.ravel(), 2 * np.abs(minus).max()
        ).reshape(found.shape)
        assert (np.abs(found - wanted[i, j]) <= reach / 2).all()


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1))
def test_three_bfloat16_numbers_hold_one_of_float32(numbers):
    values = np.array(numbers, np.float32)
    values[np.abs(values) < 1e-25] = 0  # below what the last third can reach
    thirds = bfloat16._thirds(values)
    assert (thirds.view(np.int32) & 0xFFFF == 0).all()
    assert np.array_equal(thirds.astype(np.float64).sum(axis=1), values)
