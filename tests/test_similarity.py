from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from photodesk import similarity
from photodesk.errors import StoreError
from photodesk.records import Embeddings


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
    run = similarity.top_k(a, p, 10)
    assert list(run) == list(a.ids)
    for article, wanted in naive(a, p, 10).items():
        assert [hit.photo for hit in run[article]] == wanted


def test_scores_are_those_of_the_full_matrix():
    a, p = embeddings(5, 16, 0, "a"), embeddings(9, 16, 1, "p")
    run, full = similarity.top_k(a, p, 9), similarity.cosine(a, p)
    for i, article in enumerate(a.ids):
        for hit in run[article]:
            assert hit.score == pytest.approx(float(full.matrix[i, p.ids.index(hit.photo)]), abs=1e-6)


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
    run = similarity.top_k(embeddings(2, 4, 0, "a"), embeddings(3, 4, 1, "p"), 100)
    assert [len(run[article]) for article in run] == [3, 3]


def test_a_constant_added_to_a_row_changes_no_rank():
    a, p = embeddings(4, 8, 0, "a"), embeddings(20, 8, 1, "p")
    full = similarity.cosine(a, p).matrix
    columns = np.broadcast_to(np.arange(20), (4, 20))
    moved = full + np.array([[1.0], [-2.0], [0.5], [0.0]], np.float32)
    assert np.array_equal(similarity.best_of(full, columns, 20)[1], similarity.best_of(moved, columns, 20)[1])


def test_embeddings_of_two_encoders_are_not_compared():
    with pytest.raises(StoreError, match="encode both with the same one"):
        similarity.top_k(embeddings(2, 4, 0, "a", "one"), embeddings(3, 4, 1, "p", "other"))


@pytest.mark.parametrize("photos", [8192, 700])
def test_a_wrong_guess_of_the_first_limit_is_put_right(monkeypatch, photos):
    """Every eighth photo scores high, so what is judged by them is too high for all rows; another article finds them all alike."""
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
