from __future__ import annotations

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy.special import logsumexp, softmax

from doubles import desk, echo
from photodesk.cli import commands
from photodesk.errors import StoreError, UsageError
from photodesk.evaluation import run_files
from photodesk.evaluation.evaluate import evaluate
from photodesk.ranking import bfloat16, similarity
from photodesk.ranking import dual_softmax as revise
from photodesk.ranking.revisions import (
    METHODS,
    cosine,
    dual_softmax,
    dynamic_inverted_softmax,
    inverted_softmax,
    nnn,
    parse,
    sinkhorn,
)
from photodesk.types import Embeddings, Pair

SOFT = [
    dual_softmax(),
    dual_softmax(0.05),
    dual_softmax(1e-3),
    dual_softmax(1e3),
    inverted_softmax(),
    inverted_softmax(200),
]
BANKED = [
    *SOFT,
    dynamic_inverted_softmax(),
    dynamic_inverted_softmax(5, 2),
    nnn(k=4),
    nnn(),
    nnn(k=1, alpha=2),
    cosine(),
]
BATCHED = [*BANKED, sinkhorn(), sinkhorn(0.2, 3), sinkhorn(0.01, 2)]


def embeddings(n, d, seed, prefix, encoder="x"):
    """Rows with a common part, so that there are hubs."""
    rng = np.random.default_rng(seed)
    rows = (rng.standard_normal((n, d)) + 0.5).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return Embeddings(tuple(f"{prefix}{i}" for i in range(n)), rows, encoder)


@pytest.fixture(params=[(1024, 8192), (5, 7), (1, 64)], ids=str)
def blocks(request, monkeypatch):
    """Sizes of blocks that cut the matrices of the tests differently."""
    monkeypatch.setattr(similarity, "ARTICLES", request.param[0])
    monkeypatch.setattr(similarity, "PHOTOS", request.param[1])
    monkeypatch.setattr("photodesk.ranking.dual_softmax.CHUNK", request.param[1])


A, P, B = embeddings(23, 12, 0, "a"), embeddings(61, 12, 1, "p"), embeddings(40, 12, 2, "b")


def product(a, p):
    return a.rows.astype(np.float64) @ p.rows.astype(np.float64).T


def definition(revision, s, bank):
    """(n, m) scores whose order within a row is the method's, straight from its paper, as whole float64 matrices.

    `s` are scores of n articles; `bank` those of the articles that stand for the queries, for a batch s itself.
    """
    option = dict(revision.options)
    match revision.method:
        case "cosine":
            return s
        case "dual_softmax" if s is bank:
            t = option["temperature"]
            return (
                np.log(softmax(s / t, axis=0) * softmax(s / t, axis=1))
                if t > 0.01
                else 2 * s / t - logsumexp(s / t, axis=0)
            )
        case "dual_softmax":
            t = option["temperature"]
            return 2 * s / t - logsumexp(bank / t, axis=0)
        case "inverted_softmax":
            return option["beta"] * s - logsumexp(option["beta"] * bank, axis=0)
        case "dynamic_inverted_softmax":
            active = np.unique(np.argsort(-bank, axis=1)[:, : int(option["k"])])
            revised = option["beta"] * s - logsumexp(option["beta"] * bank, axis=0)
            return np.where(np.isin(s.argmax(axis=1), active)[:, None], revised, s)
        case "nnn":
            return s - option["alpha"] * np.sort(bank, axis=0)[-int(option["k"]) :].mean(axis=0)
        case "sinkhorn":
            x = s / option["temperature"]
            x = x - logsumexp(x, axis=0)
            for _ in range(int(option["iterations"]) - 1):
                x = x - logsumexp(x, axis=1)[:, None]
                x = x - logsumexp(x, axis=0)
            return x
    raise AssertionError(revision)


def agrees(run, wanted, *, k, tolerance=2e-6):
    """Whether every article's photos are the best k of `wanted` (n, m), leaving what lies within rounding to either
    order.

    Tolerance is on the scale of cosines: rows of `wanted` are brought to it by the run's own scores.
    """
    for article, row in zip(run, wanted, strict=True):
        at = [P.ids.index(hit.photo) for hit in run[article]]
        assert len(set(at)) == k
        scores = np.array([hit.score for hit in run[article]])
        assert (np.diff(scores) <= 0).all()
        spread = max(float(np.ptp(row)), 1e-9) / max(float(np.ptp(scores)), 1e-3)
        chosen = row[at]
        assert (np.diff(chosen) <= tolerance * spread).all()
        assert np.delete(row, at).max(initial=-np.inf) <= chosen[-1] + tolerance * spread


@pytest.mark.parametrize("revision", BATCHED, ids=str)
@pytest.mark.usefixtures("blocks")
def test_the_streamed_batch_is_the_definition_on_the_whole_matrix(revision):
    s = product(A, P)
    agrees(revise.top_k(A, P, revision, 10), definition(revision, s, s), k=10)


@pytest.mark.parametrize("revision", BANKED, ids=str)
@pytest.mark.usefixtures("blocks")
def test_a_bank_of_other_articles_is_the_definition_on_whole_matrices(revision):
    agrees(revise.top_k(A, P, revision, 10, bank=B), definition(revision, product(A, P), product(B, P)), k=10)


def test_dual_softmax_gives_the_order_of_the_2022_paper():
    """Z = softmax over articles ⊙ softmax over photos, with nothing taken as logarithms; every rank of every
    article."""
    z = softmax(product(A, P), axis=0) * softmax(product(A, P), axis=1)
    run = revise.top_k(A, P, parse("dual_softmax(temperature=1)"), len(P))
    for article, row in zip(run, z, strict=True):
        assert [hit.photo for hit in run[article]] == [P.ids[j] for j in np.argsort(-row, kind="stable")]


def scores_of(run, article):
    return {hit.photo: hit.score for hit in run[article]}


@pytest.mark.parametrize("revision", [r for r in BANKED if r.method != "cosine"], ids=str)
def test_a_bank_of_the_other_rows_equals_the_batch_row(revision):
    """When the article joins the bank; to within the rounding of one number, whatever the article."""
    batch = revise.top_k(A, P, revision, len(P))
    for i, article in enumerate(A.ids):
        others = A.take([other for other in A.ids if other != article])
        alone = scores_of(revise.top_k(A.take([article]), P, revision, len(P), bank=others, join=True), article)
        wanted = scores_of(batch, article)
        assert [alone[photo] for photo in P.ids] == pytest.approx([wanted[photo] for photo in P.ids], abs=2e-6), i


def test_the_rows_own_part_is_what_joining_adds():
    """Without it a bank of the other rows differs from the batch, so the test above can fail."""
    batch = scores_of(revise.top_k(A, P, dual_softmax(0.05), len(P)), "a0")
    alone = scores_of(revise.top_k(A.take(["a0"]), P, dual_softmax(0.05), len(P), bank=A.take(A.ids[1:])), "a0")
    assert max(abs(batch[photo] - alone[photo]) for photo in P.ids) > 1e-3


@pytest.mark.parametrize(("revision", "shift"), [(dual_softmax(1e3), 0.5), (inverted_softmax(1e-3), 1.0)])
def test_a_large_temperature_takes_off_the_mean(revision, shift):
    found = revise.offsets(A, P, revision, batch=True)
    assert found.values == pytest.approx(shift * product(A, P).mean(axis=0), abs=2e-4)
    agrees(revise.top_k(A, P, revision, 10), product(A, P) - shift * product(A, P).mean(axis=0), k=10, tolerance=3e-4)


@pytest.mark.parametrize(("revision", "shift"), [(dual_softmax(1e-3), 0.5), (inverted_softmax(1e3), 1.0)])
def test_a_small_temperature_takes_off_the_maximum(revision, shift):
    assert revise.offsets(A, P, revision, batch=True).values == pytest.approx(
        shift * product(A, P).max(axis=0), abs=4e-3
    )


def test_where_all_photos_are_alike_to_the_bank_ranks_are_those_of_cosine():
    """Photos on a circle around the bank's one direction: each number is the same."""
    rng = np.random.default_rng(3)
    ring = rng.standard_normal((50, 6))
    ring[:, 0] = 0
    ring *= 0.8 / np.linalg.norm(ring, axis=1, keepdims=True)
    ring[:, 0] = 0.6
    photos = Embeddings(tuple(f"p{i:02}" for i in range(50)), ring.astype(np.float32), "x")
    pole = Embeddings(("b",), np.eye(6, dtype=np.float32)[:1], "x")
    articles = embeddings(9, 6, 4, "a")
    plain = revise.top_k(articles, photos, cosine(), 20)
    for revision in (dual_softmax(), inverted_softmax(), nnn()):
        run = revise.top_k(articles, photos, revision, 20, bank=pole)
        assert all([h.photo for h in run[a]] == [h.photo for h in plain[a]] for a in plain)


def test_nnn_without_weight_is_cosine():
    plain, run = revise.top_k(A, P, cosine(), 15), revise.top_k(A, P, nnn(alpha=0), 15)
    assert {a: run[a] for a in run} == {a: plain[a] for a in plain}


def test_one_round_of_sinkhorn_is_inverted_softmax_and_dynamic_is_too_in_a_batch():
    wanted = revise.top_k(A, P, inverted_softmax(20), 15)
    for revision in (sinkhorn(0.05, 1), dynamic_inverted_softmax(20)):
        assert dict(revise.top_k(A, P, revision, 15).hits) == dict(wanted.hits)


def test_many_rounds_of_sinkhorn_give_every_photo_the_same_share_and_every_article_too():
    t = 0.2
    found = revise.offsets(A, P, sinkhorn(t, 300), batch=True)
    x = np.exp((product(A, P) - found.values) / t)
    x /= x.sum(axis=1, keepdims=True)
    assert x.sum(axis=0) == pytest.approx(np.full(len(P), len(A) / len(P)), rel=1e-3)


@given(st.floats(1e-3, 1e3), st.integers(0, 5), st.booleans())
def test_any_temperature_is_safe_in_float32(temperature, seed, alike):
    """The number lies between mean and maximum, where its definition in float64 puts it; also for opposite and equal
    rows."""
    a, p = embeddings(9, 4, seed, "a"), embeddings(7, 4, seed + 10, "p")
    rows = p.rows.copy()
    rows[0], rows[1] = a.rows[0], -a.rows[0]
    p = Embeddings(p.ids, rows, "x")
    a = Embeddings(a.ids, np.tile(a.rows[:1], (9, 1)), "x") if alike else a
    s = product(a, p)
    wanted = temperature * (logsumexp(s / temperature, axis=0) - np.log(9))
    dual = revise.offsets(a, p, dual_softmax(temperature), batch=True).values
    inverted = revise.offsets(a, p, inverted_softmax(1 / temperature), batch=True).values
    assert dual == pytest.approx(wanted / 2, abs=1e-6)
    assert inverted == pytest.approx(wanted, abs=2e-6)


@pytest.mark.parametrize(
    "revision", [dual_softmax(), dual_softmax(1e-3), inverted_softmax(), nnn(), nnn(alpha=1), sinkhorn()], ids=str
)
def test_duplicates_of_one_query_do_not_explode(revision):
    """A thousand copies of a0: numbers tend to what a bank of a0 alone would give, never beyond, and scores stay within
    cosines' reach."""
    copies = Embeddings(
        (*A.ids, *(f"copy{i}" for i in range(1000))), np.vstack([A.rows, np.tile(A.rows[:1], (1000, 1))]), "x"
    )
    found = revise.offsets(copies, P, revision, batch=True).values
    s = product(A, P)
    ceiling = {"dual_softmax": 0.5, "nnn": dict(revision.options).get("alpha")}.get(revision.method, 1.0)
    if revision.method != "sinkhorn":
        assert (found <= ceiling * s.max(axis=0) + 1e-6).all()
        assert (found >= ceiling * s.min(axis=0) - 1e-6).all()
    run = revise.top_k(copies, P, revision, 10)
    assert all(np.isfinite(hit.score) and abs(hit.score) <= 3 for article in run for hit in run[article])
    # a copy is ranked like the original
    assert [hit.photo for hit in run["a0"]] == [hit.photo for hit in run["copy7"]]


def test_hubs_lose_their_place():
    """A photo near every article is the first of all by cosine, and of none after revision."""
    rng = np.random.default_rng(5)
    middle = np.zeros(32)
    middle[0] = 1.0
    own = rng.standard_normal((30, 32)) * 0.1
    own[:, 0] = 0

    def unit(x):
        return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)

    articles = Embeddings(tuple(f"a{i}" for i in range(30)), unit(middle + own), "x")
    photos = Embeddings((*(f"p{i}" for i in range(30)), "hub"), unit(np.vstack([0.2 * middle + own, middle])), "x")
    pairs = [Pair(f"a{i}", f"p{i}") for i in range(30)]
    plain = evaluate(revise.top_k(articles, photos, cosine()), pairs).means["R@1"]
    assert plain == 0
    for revision in (dual_softmax(), inverted_softmax(), nnn(alpha=1), sinkhorn()):
        assert evaluate(revise.top_k(articles, photos, revision), pairs).means["R@1"] == 1.0


@pytest.mark.parametrize("revision", BANKED, ids=str)
def test_stored_numbers_rank_one_article_at_a_time_as_all_at_once(revision, tmp_path):
    path = tmp_path / "numbers.npz"
    revise.offsets(B, P, revision).save(path)
    stored = revise.Offsets.load(path)
    wanted = revise.top_k(A, P, revision, 10, bank=B)
    for article, row in zip(A.ids, A.rows, strict=True):
        scores = dict(zip(P.ids, stored.revised((P.rows @ row)[None])[0].tolist(), strict=True))
        found = sorted(scores, key=lambda photo: -scores[photo])[:10]
        assert found == [hit.photo for hit in wanted[article]]
        again = revise.top_k(A.take([article]), P, revision, 10, bank=stored)[article]
        assert [hit.photo for hit in again] == found
        assert [hit.score for hit in again] == pytest.approx([hit.score for hit in wanted[article]], abs=1e-6)


@pytest.mark.parametrize("revision", BATCHED, ids=str)
@pytest.mark.parametrize("bank", [None, B], ids=["batch", "bank"])
def test_a_run_in_bfloat16_is_the_run_in_float32_to_the_last_bit(monkeypatch, revision, bank):
    """With copies of photos and of queries among them."""
    pytest.importorskip("torch")
    if bank and revision.method == "sinkhorn":
        return
    monkeypatch.setattr(similarity, "MANY", 1)
    monkeypatch.setattr(bfloat16, "available", lambda: True)
    photos = Embeddings(
        (*P.ids, *(f"copy{i:02}" for i in range(40))), np.vstack([P.rows, np.tile(P.rows[3:4], (40, 1))]), "x"
    )
    articles = Embeddings((*A.ids, "again"), np.vstack([A.rows, A.rows[2:3]]), "x")
    made = []
    for worth in (0, np.inf):
        monkeypatch.setattr(bfloat16, "WORTH", worth)
        made.append(dict(revise.top_k(articles, photos, revision, 7, bank=bank).hits))
    assert made[0] == made[1]
    assert made[0]["again"] == made[0]["a2"]


def test_a_run_that_saw_its_own_queries_says_so_wherever_it_is_shown(tmp_path):
    pairs = [Pair("a0", "p0"), Pair("a1", "p1")]
    batch = revise.top_k(A, P, dual_softmax(), name="model")
    assert batch.transductive == "dual_softmax(temperature=1)"
    for suffix in (".tsv", ".trec"):
        run_files.write(batch, tmp_path / f"run{suffix}")
        assert run_files.read(tmp_path / f"run{suffix}").transductive == "dual_softmax(temperature=1)"
    assert "transductive: dual_softmax(temperature=1)" in evaluate(batch, pairs).table().text()
    assert revise.top_k(A, P, dual_softmax(), bank=A).transductive  # the batch by another name
    some = Embeddings((*B.ids, "a7"), np.vstack([B.rows, A.rows[7:8]]), "x")
    assert revise.top_k(A, P, dual_softmax(), bank=some).transductive
    namesake = Embeddings((*B.ids[1:], "a7"), B.rows, "x")  # of another data set
    assert not revise.top_k(A, P, dual_softmax(), bank=namesake).transductive
    banked = revise.top_k(A, P, dual_softmax(), bank=B, name="model")
    assert banked.transductive == ""
    assert banked.name == "model, dual_softmax(temperature=1), bank of 40"
    assert revise.top_k(A, P, cosine()).transductive == ""


def test_verbs_write_to_no_argument():
    before = [x.rows.copy() for x in (A, P, B)]
    for revision in BANKED:
        revise.top_k(A, P, revision, 5, bank=B, join=True)
        revise.top_k(A, P, revision, 5)
    assert all(np.array_equal(x.rows, y) for x, y in zip((A, P, B), before, strict=True))
    assert not A.rows.flags.writeable


NUMBER = st.floats(1e-6, 1e6)
REVISIONS = st.one_of(
    NUMBER.map(dual_softmax),
    NUMBER.map(inverted_softmax),
    st.builds(dynamic_inverted_softmax, NUMBER, st.integers(1, 999)),
    st.builds(nnn, st.integers(1, 10**6), st.floats(0, 100)),
    st.builds(sinkhorn, NUMBER, st.integers(1, 99)),
)


@given(REVISIONS)
def test_a_revision_prints_as_it_parses(revision):
    assert parse(str(revision)) == revision


def test_defaults_are_those_of_the_papers():
    assert [str(make()) for make in METHODS.values()] == [
        "cosine",
        "dual_softmax(temperature=1)",
        "dynamic_inverted_softmax(beta=20, k=1)",
        "inverted_softmax(beta=20)",
        "nnn(k=128, alpha=0.75)",
        "sinkhorn(temperature=0.05, iterations=10)",
    ]
    assert parse(" nnn( alpha=0.5 ) ") == nnn(128, 0.5)
    assert parse("dual_softmax") == parse("dual_softmax()") == dual_softmax()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("dual_sofmax", "did you mean 'dual_softmax'"),
        ("", "known: cosine"),
        ("nnn(k=128; alpha=1)", "k has to be a number"),
        ("nnn(beta=1)", "takes each of k, alpha once"),
        ("nnn(k=1, k=2)", "takes each of k, alpha once"),
        ("nnn(k=0)", "k=0: expected a whole number from 1"),
        ("nnn(k=1.5)", "k=1.5: expected a whole number from 1"),
        ("nnn(alpha=nan)", "expected a number from 0"),
        ("dual_softmax(temperature=0)", "expected a number from 0.000001"),
        ("dual_softmax(temperature=inf)", "expected a number from 0.000001"),
        ("dual_softmax(temperature=a)", "has to be a number, not 'a'"),
        ("cosine(k=1)", "takes each of no options"),
    ],
)
def test_what_is_no_revision_is_named(text, says):
    with pytest.raises(UsageError, match=says):
        parse(text)


def test_what_cannot_be_revised_is_named(tmp_path):
    with pytest.raises(UsageError, match="takes no bank"):
        revise.top_k(A, P, sinkhorn(), bank=B)
    with pytest.raises(UsageError, match="this one has none"):
        revise.top_k(A, P, nnn(), bank=Embeddings((), np.empty((0, 12), np.float32), "x"))
    with pytest.raises(StoreError, match="encode both"):
        revise.top_k(A, P, nnn(), bank=embeddings(3, 12, 0, "b", "other"))
    found = revise.offsets(B, P, nnn())
    with pytest.raises(StoreError, match="other photos"):
        revise.top_k(A, embeddings(61, 12, 1, "q"), nnn(), bank=found)
    with pytest.raises(StoreError, match="not dual_softmax"):
        revise.top_k(A, P, dual_softmax(), bank=found)
    for content in (None, b"", b"PK\x03\x04", b"nonsense"):
        path = tmp_path / "numbers.npz"
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(StoreError, match="compute them again"):
            revise.Offsets.load(path)


def test_rank_revises_with_the_batch_or_with_a_file_of_other_articles(tmp_path, monkeypatch):
    monkeypatch.setattr("photodesk.encoders.registry.load", lambda name: echo())
    data = desk(tmp_path / "data", ["Sea", "Wood", "Sun", "Moon", "Rain"])
    other = desk(tmp_path / "other", ["Fire", "Stone", "Bread"]) / "newsarticles.csv"

    def call(*options):
        done = CliRunner().invoke(
            commands, ["rank", str(data), "-o", str(tmp_path / "run.trec"), "--cache", str(tmp_path / "c"), *options]
        )
        return done, run_files.read(tmp_path / "run.trec") if done.exit_code == 0 else None

    plain = call()[1]
    batch = call("--revise", "dual_softmax")[1]
    banked = call("--revise", "nnn(k=2)", "--bank", str(other))[1]
    assert batch.transductive == "dual_softmax(temperature=1)"
    assert (banked.transductive, banked.name) == ("", "echo, nnn(k=2, alpha=0.75), bank of 3")
    # by hand from the plain scores and those of the bank
    texts, photos = echo().texts, {h.photo: h.score for h in banked["1"]}
    bank_rows, row = texts.encode(["Fire", "Stone", "Bread"]), texts.encode(["Sea"])[0]
    for hit in plain["1"]:
        word = next(p for p in (data / "newsimages").iterdir() if p.stem == hit.photo)
        with Image.open(word) as picture:
            v = echo().photos.encode(echo().photos.prepare(picture)[None])[0]
        assert photos[hit.photo] == pytest.approx(row @ v - 0.75 * np.sort(bank_rows @ v)[-2:].mean(), abs=1e-5)
    failed, _ = call("--bank", str(other))
    assert isinstance(failed.exception, UsageError)
    assert "--revise" in str(failed.exception)
