"""Recipes that are run give what the same chain gives by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from doubles import desk, echo, paint
from photodesk.data import datasets
from photodesk.errors import DataError, EncoderError
from photodesk.evaluation.evaluate import evaluate
from photodesk.features.embed import embed_articles, embed_photos
from photodesk.features.store import Store
from photodesk.ranking import fusion
from photodesk.ranking.dual_softmax import top_k
from photodesk.ranking.revisions import cosine, dual_softmax, nnn
from photodesk.recipes import schema
from photodesk.recipes.run import Runner, comparison
from photodesk.recipes.schema import Revise, Texts
from photodesk.recipes.split import divide
from photodesk.search import rank
from photodesk.text.preparation import Preparation

WORDS = [
    f"{thing} near {place} today"
    for thing in ("Flood", "Fire", "Market", "Match")
    for place in ("Elbe", "Wien", "Rom", "Basel", "Bonn")
]
OWN = schema.read("own-best")
PLAIN = replace(OWN, data=replace(OWN.data, test="all"), network=None, revision=None, texts=Texts())


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return datasets.read(desk(tmp_path_factory.mktemp("data") / "desk", WORDS))


@pytest.fixture
def runner(data, tmp_path, monkeypatch):
    monkeypatch.setattr("photodesk.encoders.registry.load", lambda name: echo())
    return Runner(data, Store(tmp_path / "features"))


def photos_of(run):
    return {article: [hit.photo for hit in run[article]] for article in run}


def test_a_plain_recipe_is_rank(data, runner, tmp_path):
    made = runner.run(PLAIN)
    by_hand, _ = rank.rank(data, echo(), store=Store(tmp_path / "other"))
    assert made.run.hits == by_hand.hits
    assert made.run.name == "own-best"
    assert made.report.means == evaluate(by_hand, data.pairs, made.report.measures).means
    assert made.report.mean("R@1") == 1.0  # an echo


def test_a_batch_is_transductive_and_equals_rank_with_that_revision(data, runner, tmp_path):
    made = runner.run(replace(PLAIN, revision=Revise("dual_softmax(temperature=0.1)", "batch")))
    by_hand, _ = rank.rank(data, echo(), store=Store(tmp_path / "other"), revision=dual_softmax(0.1))
    assert made.run.hits == by_hand.hits
    assert made.run.transductive == made.report.transductive == "dual_softmax(temperature=0.1)"


def test_run_5_is_the_mean_of_the_four_runs_score_by_score(data, runner):
    """Four matrices averaged with 0.25 each, as the 2021 paper says, against one concatenated embedding."""
    run5 = schema.read("2021-run5")
    texts = replace(run5.texts, fields=("title",), detect=(), translate="", clean="", words=(1, 2, 3, 4))
    made = runner.run(replace(PLAIN, texts=texts))
    photos, _ = embed_photos(data.photos, echo(), runner.store)
    mean = np.zeros((len(data.articles), len(photos)))
    for limit in (1, 2, 3, 4):
        articles, _ = embed_articles(data.articles, echo(), runner.store, preparation=Preparation(max_words=limit))
        mean += 0.25 * articles.rows.astype(np.float64) @ photos.rows.T.astype(np.float64)
    for article, row in zip(made.run, mean, strict=True):
        at = [photos.ids.index(hit.photo) for hit in made.run[article]]
        assert [hit.score for hit in made.run[article]] == pytest.approx(row[at], abs=1e-6)
        assert (np.diff(row[at]) <= 1e-6).all()
        assert len(at) == len(photos)
    single = runner.run(replace(PLAIN, texts=replace(texts, words=(1,), weights=())))
    assert photos_of(single.run) != photos_of(made.run)


def test_a_bank_is_the_articles_that_are_left(data, runner):
    one = replace(
        PLAIN, data=replace(PLAIN.data, test="random:0.3", seed=4), revision=Revise("nnn(k=2, alpha=0.5)", "rest")
    )
    made = runner.run(one)
    parts = divide(one, data)
    assert len(parts.test.pairs) == 6
    assert len(parts.rest.pairs) == 14
    by_hand, _ = rank.rank(parts.test, echo(), store=runner.store, revision=nnn(2, 0.5), bank=parts.rest.articles)
    assert made.run.hits == by_hand.hits
    assert not made.run.transductive
    assert {hit.photo for hits in made.run.hits.values() for hit in hits} <= {photo.id for photo in parts.test.photos}


def test_several_encoders_are_summed(data, runner, monkeypatch):
    one = replace(PLAIN, encoders=schema.Encoders(("builtin", "openclip:ViT-B-32/openai"), (1, 3)))
    both = [echo(), replace(echo(), network=Turn())]
    monkeypatch.setattr("photodesk.encoders.registry.load", lambda name: both[name != "builtin"])
    made = Runner(data, runner.store).run(one)
    mean = 0.0
    for encoder, weight in zip(both, (1, 3), strict=True):
        articles, _ = embed_articles(data.articles, encoder, runner.store)
        photos, _ = embed_photos(data.photos, encoder, runner.store)
        mean = mean + weight * articles.rows.astype(np.float64) @ photos.rows.T.astype(np.float64)
    for article, row in zip(made.run, mean, strict=True):
        ranked = row[[photos.ids.index(hit.photo) for hit in made.run[article]]]
        assert (np.diff(ranked) <= 1e-5).all()
        assert len(ranked) == len(photos)


def test_learned_weights_are_those_of_the_pairs_that_are_left(data, runner, monkeypatch):
    both = {"builtin": echo(), "openclip:ViT-B-32/openai": replace(echo(), network=Turn())}
    monkeypatch.setattr("photodesk.encoders.registry.load", both.__getitem__)
    halves = replace(PLAIN.data, test="random:0.5")
    one = replace(PLAIN, data=halves, encoders=schema.Encoders(tuple(both), learn=True))
    rest = divide(one, data).rest
    known = [
        (embed_articles(rest.articles, e, runner.store)[0], embed_photos(rest.photos, e, runner.store)[0])
        for e in both.values()
    ]
    weights = fusion.learn(known, rest.pairs).weights
    assert weights[0] > 2 * abs(weights[1])  # the echo knows, the turned one guesses
    by_hand = replace(one, encoders=schema.Encoders(tuple(both), weights))
    assert runner.run(one).run.hits == runner.run(by_hand).run.hits
    equal = replace(one, encoders=schema.Encoders(tuple(both)))
    assert runner.run(one).report.mean("R@1") > runner.run(equal).report.mean("R@1")


class Turn:
    """A network that looks at texts from another side, so that its cosines rank otherwise."""

    fingerprint, dim, text_tower, photo_tower = "turn", 3, "echo-texts", "echo-photos"

    def texts(self, features):
        return np.ascontiguousarray(features[:, [1, 2, 0]])

    def photos(self, features):
        return features


def test_a_ready_network_is_used_and_has_to_fit_the_towers(data, runner):
    one = replace(OWN, texts=Texts(), revision=None, data=replace(OWN.data, test="random:0.5"))
    made = replace(runner, network=Turn()).run(one)
    parts, turned = divide(one, data), replace(echo(), network=Turn())
    articles, _ = embed_articles(parts.test.articles, turned, runner.store)
    photos, _ = embed_photos(parts.test.photos, turned, runner.store)
    assert made.run.hits == top_k(articles, photos, cosine(), 100).hits
    other = Turn()
    other.text_tower = "another"
    with pytest.raises(
        EncoderError, match="was trained on another and echo-photos, and builtin is echo-texts and echo-photos"
    ):
        replace(runner, network=other).run(one)


def test_a_network_is_trained_once_on_what_is_not_measured(data, runner, monkeypatch):
    calls = []

    def train(net, encoder, rest, before, preparation, store, progress):
        calls.append(({article.id for article in rest.articles}, before, preparation))
        return Turn()

    monkeypatch.setattr("photodesk.recipes.run.trained", train)
    one = replace(OWN, texts=Texts(("title",)), data=replace(OWN.data, test="grouped:0.2"))
    parts = divide(one, data)
    runner.run(one)
    runner.run(replace(one, revision=None))
    ((seen, before, preparation),) = calls
    assert seen == {article.id for article in parts.rest.articles}
    assert not seen & {article.id for article in parts.test.articles}
    assert len(seen) == 16
    assert before is None
    assert preparation == Preparation()
    runner.run(replace(one, texts=Texts(("title",), words=(2,))))
    assert len(calls) == 2  # other texts, another network


def test_what_cannot_be_measured_is_named(data, runner):
    with pytest.raises(DataError, match="has no part 'RSS test'; its parts are: none, its files are one"):
        runner.run(replace(PLAIN, data=replace(PLAIN.data, subset="RSS test")))
    blind = Runner(replace(data, pairs=()), runner.store)
    with pytest.raises(DataError, match="no article of the data has a known right photo"):
        blind.run(PLAIN)
    with pytest.raises(DataError, match="nothing to rank: 0 articles have text"):
        runner.run(replace(PLAIN, texts=Texts(("lead",))))


def test_ours_stands_beside_the_papers(runner):
    claim = replace(PLAIN.claim, numbers={"R@10": 1.0, "MRR@100": 0.25})
    outcome = runner.run(replace(PLAIN, claim=claim))
    table = comparison(outcome, "T")
    assert table.rows == (
        ("R@10", "1.00000", "1.00000", "1.00000", "1.00000", "+0.00000", "yes"),
        ("MRR@100", "0.25000", "1.00000", "1.00000", "1.00000", "+0.75000", "no"),
    )


def test_a_photo_that_cannot_be_opened_is_named_and_its_article_counts_as_a_miss(tmp_path, runner):
    folder = desk(tmp_path / "torn", WORDS[:4])
    dataset = datasets.read(folder)
    dataset.photos[0].path.write_bytes(b"no picture")
    outcome = Runner(dataset, runner.store).run(PLAIN)
    assert [fault.fate for fault in outcome.faults] == ["left out"]
    assert outcome.report.mean("R@100") == 0.75
    paint(dataset.photos[0].path, WORDS[0])
