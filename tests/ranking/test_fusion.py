from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize

from photodesk.errors import StoreError, UsageError
from photodesk.evaluation.evaluate import evaluate
from photodesk.ranking import dual_softmax as revise
from photodesk.ranking import fusion, similarity
from photodesk.ranking.revisions import cosine, dual_softmax
from photodesk.types import Embeddings, Hit, Pair, Run


def embeddings(n, d, seed, prefix, encoder):
    rows = (np.random.default_rng(seed).standard_normal((n, d)) + 0.3).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return Embeddings(tuple(f"{prefix}{i:02}" for i in range(n)), rows, encoder)


ENCODINGS = [(embeddings(17, d, d, "a", f"e{d}"), embeddings(41, d, d + 1, "p", f"e{d}")) for d in (4, 9, 30)]


def cosines(encoding):
    return encoding[0].rows.astype(np.float64) @ encoding[1].rows.astype(np.float64).T


def normalised(s, how):
    if how == "z":
        return (s - s.mean(axis=1, keepdims=True)) / s.std(axis=1, keepdims=True)
    if how == "minmax":
        low, high = s.min(axis=1, keepdims=True), s.max(axis=1, keepdims=True)
        return (s - low) / (high - low)
    return s


@pytest.mark.parametrize("how", ["none", "z", "minmax"])
@pytest.mark.parametrize("weights", [None, (1, 0.5, 3), (1, -0.4, 0), (0, 0, 2)], ids=str)
def test_one_concatenated_embedding_ranks_like_the_sum_of_whole_matrices(monkeypatch, how, weights):
    monkeypatch.setattr(similarity, "ARTICLES", 5)
    monkeypatch.setattr(similarity, "PHOTOS", 7)
    wanted = sum(w * normalised(cosines(e), how) for w, e in zip(weights or (1, 1, 1), ENCODINGS, strict=True))
    articles, photos = fusion.concatenated(ENCODINGS, weights, normalise=how)
    run = revise.top_k(articles, photos, cosine(), 41)
    for article, row in zip(run, wanted, strict=True):
        ranked = row[[photos.ids.index(hit.photo) for hit in run[article]]]
        assert len(ranked) == 41
        assert (np.diff(ranked) <= 2e-5 * np.ptp(row)).all()
        # scores are the sum but for one factor and one constant of the article's own
        scores = np.array([hit.score for hit in run[article]])
        assert np.corrcoef(scores, ranked)[0, 1] == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("how", ["z", "minmax"])
def test_centre_and_spread_are_those_of_the_whole_matrix(monkeypatch, how):
    monkeypatch.setattr(similarity, "PHOTOS", 7)
    for encoding in ENCODINGS:
        centre, spread = fusion.scales(*encoding, how)
        s = cosines(encoding)
        assert (s - centre[:, None]) / spread[:, None] == pytest.approx(normalised(s, how), abs=1e-4)


def test_an_article_that_finds_all_photos_alike_does_not_break_normalisation():
    alike = Embeddings(("p0", "p1"), np.eye(3, dtype=np.float32)[[0, 0]], "x")
    articles = Embeddings(("a0",), np.eye(3, dtype=np.float32)[:1], "x")
    other = embeddings(1, 3, 0, "a", "y"), embeddings(2, 3, 1, "p", "y")
    other = Embeddings(("a0",), other[0].rows, "y"), Embeddings(("p0", "p1"), other[1].rows, "y")
    for how in ("z", "minmax"):
        run = revise.top_k(*fusion.concatenated([(articles, alike), other], normalise=how), cosine())
        wanted = revise.top_k(*other, cosine())
        assert [hit.photo for hit in run["a0"]] == [hit.photo for hit in wanted["a0"]]


def test_one_encoding_fused_is_itself():
    for how in ("none", "z", "minmax"):
        run, plain = (
            revise.top_k(*fusion.concatenated(ENCODINGS[:1], normalise=how), cosine()),
            revise.top_k(*ENCODINGS[0], cosine()),
        )
        assert {a: [h.photo for h in run[a]] for a in run} == {a: [h.photo for h in plain[a]] for a in plain}


def test_what_is_fused_can_be_revised():
    articles, photos = fusion.concatenated(ENCODINGS)
    s = sum(map(cosines, ENCODINGS)) / 3  # equal weights: the mean of the cosines
    run = revise.top_k(articles, photos, dual_softmax(), 41)
    wanted = s - 0.5 * np.log(np.exp(s).mean(axis=0))
    for article, row in zip(run, wanted, strict=True):
        assert [hit.score for hit in run[article]] == pytest.approx(sorted(row, reverse=True), abs=1e-5)


RUNS = st.lists(
    st.dictionaries(
        st.sampled_from("abc"), st.permutations("uvwxyz").flatmap(lambda p: st.integers(0, 6).map(lambda k: p[:k]))
    ),
    min_size=1,
    max_size=4,
)


def run_of(lists, name="r", transductive=""):
    return Run(
        {a: tuple(Hit(p, 1.0 - i) for i, p in enumerate(photos)) for a, photos in lists.items()}, name, transductive
    )


@given(RUNS, st.sampled_from([None, (0.5, 2, 1, 1)]), st.sampled_from([60, 0, 3.5]))
def test_reciprocal_rank_is_its_formula(lists, weights, k):
    weights = weights and weights[: len(lists)]
    fused = fusion.reciprocal_rank([run_of(each) for each in lists], weights, k=k)
    assert set(fused) == {a for each in lists for a in each}
    for article in fused:
        wanted = {}
        for each, w in zip(lists, weights or [1] * 4, strict=False):
            for photo in each.get(article, ()):
                wanted[photo] = wanted.get(photo, 0) + w / (k + each[article].index(photo) + 1)
        assert {h.photo: h.score for h in fused[article]} == pytest.approx(wanted)
        assert [h.photo for h in fused[article]] == sorted(wanted, key=lambda p: (-wanted[p], p))


def test_one_run_fused_with_itself_keeps_its_order_and_runs_that_saw_the_batch_mark_the_fused_one():
    one = run_of({"a": "uvw", "b": "wv"}, "one")
    fused = fusion.reciprocal_rank([one, one])
    assert {a: [h.photo for h in fused[a]] for a in fused} == {"a": list("uvw"), "b": list("wv")}
    assert fused.name == "one + one"
    assert fused.transductive == ""
    assert (
        fusion.reciprocal_rank([one, run_of({}, "two", "dual_softmax(temperature=1)")]).transductive
        == "dual_softmax(temperature=1)"
    )
    assert [h.photo for h in fusion.reciprocal_rank([one], top=2)["a"]] == ["u", "v"]


def planted(seed=0, n=120, m=120):
    """Two encoders: one sees the right photo fairly well, one badly; a third knows nothing. Pair i is right."""
    rng = np.random.default_rng(seed)
    out = []
    for number, noise in enumerate((0.8, 2.0, 1e3)):
        photos = rng.standard_normal((m, 20))
        articles = photos[:n] + noise * rng.standard_normal((n, 20))
        out.append(
            tuple(
                Embeddings(
                    tuple(f"{kind}{i:03}" for i in range(len(x))),
                    (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32),
                    str(number),
                )
                for kind, x in (("a", articles), ("p", photos))
            )
        )
    return out, [Pair(f"a{i:03}", f"p{i:03}") for i in range(n)]


@pytest.mark.parametrize("how", ["none", "z", "minmax"])
def test_learned_weights_are_those_of_a_general_optimiser(how):
    encodings, pairs = planted()
    scores = np.stack([normalised(cosines(e), how) for e in encodings])
    at = np.arange(len(pairs))

    def loss(w):
        z = np.tensordot(w, scores, 1)
        top = z.max(axis=1, keepdims=True)
        return -np.mean(z[at, at] - top[:, 0] - np.log(np.exp(z - top).sum(axis=1))) + 1e-4 / 2 * w @ w

    wanted = minimize(loss, np.zeros(3), method="BFGS")
    found = fusion.learn(encodings, pairs, normalise=how)
    assert found.weights == pytest.approx(wanted.x, rel=2e-3, abs=2e-2)
    assert found.fit == pytest.approx(1e-4 / 2 * wanted.x @ wanted.x - wanted.fun, abs=1e-4)


def test_learned_weights_are_better_on_articles_that_they_have_not_seen():
    encodings, _ = planted(1)
    validation, pairs = planted(0)
    learnt = fusion.learn(validation, pairs).weights
    assert abs(learnt[2]) < 0.15 * learnt[0]  # knows nothing
    means = [
        evaluate(revise.top_k(*fusion.concatenated(encodings, w), cosine()), pairs).means["MRR@100"]
        for w in (learnt, None, (0, 1, 0), (0, 0, 1))
    ]
    assert means[0] == max(means)
    assert means[0] > means[1] + 0.05


def test_pairs_that_can_be_told_apart_without_fail_give_finite_weights():
    eye = np.eye(6, dtype=np.float32)
    encoding = (Embeddings(tuple("abcdef"), eye, "x"), Embeddings(tuple("abcdef"), eye, "x"))
    found = fusion.learn([encoding, encoding], [Pair(c, c) for c in "abcdef"])
    assert np.isfinite(found.weights).all()
    assert found.weights[0] == pytest.approx(found.weights[1])
    assert -0.05 < found.fit < 0


def test_what_cannot_be_fused_is_named():
    a, p = ENCODINGS[0]
    with pytest.raises(UsageError, match="at least one encoding"):
        fusion.concatenated([])
    with pytest.raises(UsageError, match="other photos"):
        fusion.concatenated([ENCODINGS[0], (ENCODINGS[1][0], ENCODINGS[1][1].take(ENCODINGS[1][1].ids[::-1]))])
    with pytest.raises(StoreError, match="encode both"):
        fusion.concatenated([(a, ENCODINGS[1][1])])
    for weights in ((1,), (0, 0, 0), (1, 1, float("nan"))):
        with pytest.raises(UsageError, match="as many finite weights"):
            fusion.concatenated(ENCODINGS, weights)
    with pytest.raises(UsageError, match="known: none, z, minmax"):
        fusion.concatenated(ENCODINGS, normalise="softmax")
    with pytest.raises(UsageError, match="0 runs"):
        fusion.reciprocal_rank([])
    with pytest.raises(UsageError, match="no pair to learn"):
        fusion.learn([(a, p)], [Pair("a00", "nobody")])


def test_verbs_write_to_no_argument():
    before = [x.rows.copy() for e in ENCODINGS for x in e]
    for how in ("none", "z", "minmax"):
        fusion.concatenated(ENCODINGS, normalise=how)
        fusion.learn(ENCODINGS, [Pair("a00", "p00")], normalise=how)
    assert all(np.array_equal(x.rows, y) for x, y in zip((x for e in ENCODINGS for x in e), before, strict=True))
