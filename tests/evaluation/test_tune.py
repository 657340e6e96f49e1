from __future__ import annotations

import xml.etree.ElementTree as ET

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from doubles import desk, echo
from photodesk.cli import commands
from photodesk.errors import DataError, UsageError
from photodesk.evaluation import significance, tune
from photodesk.evaluation.evaluate import evaluate
from photodesk.ranking import dual_softmax as revise
from photodesk.ranking.revisions import cosine, dual_softmax, nnn, sinkhorn
from photodesk.types import Embeddings, Pair


def hubby(n=160, d=24, seed=0):
    """Pairs of which a few photos are close to all articles."""
    rng = np.random.default_rng(seed)
    photos = rng.standard_normal((n, d))
    articles = photos + 0.9 * rng.standard_normal((n, d))
    articles[:, 0] += 4
    photos[::10, 0] += 4

    def unit(x, prefix):
        return Embeddings(
            tuple(f"{prefix}{i:03}" for i in range(n)),
            (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32),
            "x",
        )

    return unit(articles, "a"), unit(photos, "p"), [Pair(f"a{i:03}", f"p{i:03}") for i in range(n)]


ARTICLES, PHOTOS, PAIRS = hubby()
PART = frozenset(f"a{i:03}" for i in range(0, 160, 2))
TRIALS = tune.tune(ARTICLES, PHOTOS, PAIRS, PART, (dual_softmax(), nnn(16), sinkhorn()), name="model")


def test_every_revision_is_tried_as_batch_and_with_a_bank():
    assert [(str(trial.revision), trial.form) for trial in TRIALS] == [
        ("cosine", ""),
        ("dual_softmax(temperature=1)", "batch"),
        ("dual_softmax(temperature=1)", "bank"),
        ("nnn(k=16, alpha=0.75)", "batch"),
        ("nnn(k=16, alpha=0.75)", "bank"),
        ("sinkhorn(temperature=0.05, iterations=10)", "batch"),
    ]
    assert [bool(trial.report.transductive) for trial in TRIALS] == [False, True, False, True, False, True]


def test_a_trial_is_what_the_run_by_hand_measures():
    """Gallery: the pictures of the part; bank: all articles outside it."""
    test = ARTICLES.take(sorted(PART))
    rest = ARTICLES.take([a for a in ARTICLES.ids if a not in PART])
    gallery = PHOTOS.take([f"p{a[1:]}" for a in sorted(PART)])
    truth = [pair for pair in PAIRS if pair.article in PART]
    for trial in TRIALS:
        run = revise.top_k(test, gallery, trial.revision, bank=rest if trial.form == "bank" else None)
        assert trial.report.means == evaluate(run, truth, tune.MEASURES).means
        assert trial.hubness == significance.hubness(run, gallery.ids)
        assert len(trial.report.articles) == len(PART)


def test_revision_helps_where_there_are_hubs_and_the_choice_says_so():
    plain, best = TRIALS[0], tune.chosen(TRIALS, "bank")
    assert best.form == "bank"
    assert best.report.mean("MRR@100") > plain.report.mean("MRR@100") + 0.05
    assert best.hubness < plain.hubness
    assert tune.chosen(TRIALS, "batch").form == "batch"


def test_where_nothing_helps_cosine_is_chosen():
    eye = np.eye(8, dtype=np.float32)
    articles, photos = (Embeddings(tuple(f"{kind}{i}" for i in range(8)), eye, "x") for kind in "ap")
    trials = tune.tune(
        articles, photos, [Pair(f"a{i}", f"p{i}") for i in range(8)], {"a0", "a1", "a2"}, (dual_softmax(),)
    )
    assert tune.chosen(trials, "bank").revision == tune.chosen(trials, "batch").revision == cosine()


def test_the_table_shows_all_best_first_and_marks_what_is_transductive():
    table = tune.table(TRIALS)
    assert len(table.rows) == len(TRIALS)
    means = [float(row[table.head.index("MRR@100")].split()[0]) for row in table.rows]
    assert means == sorted(means, reverse=True)
    assert sum("transductive" in row[0] for row in table.rows) == 3
    assert all("[" in row[1] for row in table.rows)


def test_the_plot_has_a_point_for_every_trial_where_its_figures_put_it():
    root = ET.fromstring(tune.plot(TRIALS))
    space = "{http://www.w3.org/2000/svg}"
    points = {
        c.find(f"{space}title").text: (float(c.get("cx")), float(c.get("cy")))
        for c in root.iter(f"{space}circle")
        if len(c)
    }
    assert len(points) == len(TRIALS)
    by_title = {title.partition(":")[0]: at for title, at in points.items()}
    assert len(by_title) >= 3
    order = sorted(TRIALS, key=lambda trial: trial.hubness)
    xs = [next(at for title, at in points.items() if title.startswith(trial.report.title + ":"))[0] for trial in order]
    assert xs == sorted(xs)
    order = sorted(TRIALS, key=lambda trial: trial.report.mean("MRR@100"))
    ys = [next(at for title, at in points.items() if title.startswith(trial.report.title + ":"))[1] for trial in order]
    assert ys == sorted(ys, reverse=True)
    assert all(0 <= x <= 560 and 0 <= y <= 380 for x, y in points.values())


def test_half_of_the_pairs_is_the_most_that_is_kept_apart():
    assert len(tune.validation_part(PAIRS, {a: i for i, a in enumerate(ARTICLES.ids)}, 1000)) == 80


@given(st.integers(1, 30), st.integers(0, 9))
def test_the_validation_part_is_made_of_whole_groups(count, seed):
    groups = {f"a{i:03}": i // 3 for i in range(160)}
    part = tune.validation_part(PAIRS, groups, count, seed=seed)
    assert count <= len(part) < count + 3
    assert not {groups[a] for a in part} & {groups[a] for a in groups if a not in part}
    assert part == tune.validation_part(PAIRS, groups, count, seed=seed)


def test_what_cannot_be_tuned_on_is_named():
    with pytest.raises(DataError, match="the data has 1"):
        tune.validation_part(PAIRS[:1], {"a000": 0}, 1)
    with pytest.raises(DataError, match="0 articles for validation"):
        tune.tune(ARTICLES, PHOTOS, PAIRS, {"nobody"})
    with pytest.raises(DataError, match="0 for the bank"):
        tune.tune(ARTICLES, PHOTOS, PAIRS, set(ARTICLES.ids))


def test_the_default_grid_holds_every_method_with_the_defaults_of_its_paper():
    assert {r.method for r in tune.GRID} == {
        "dual_softmax",
        "inverted_softmax",
        "dynamic_inverted_softmax",
        "nnn",
        "sinkhorn",
    }
    for text in ("dual_softmax", "inverted_softmax", "dynamic_inverted_softmax", "nnn", "sinkhorn"):
        assert revise.parse(text) in tune.GRID


def test_the_command_prints_the_table_and_writes_the_plot(tmp_path, monkeypatch):
    monkeypatch.setattr("photodesk.encoders.registry.load", lambda name: echo())
    monkeypatch.chdir(tmp_path)
    data = desk(tmp_path / "data", ["Sea", "Wood", "Sun", "Moon", "Rain", "Schnee", "Sand", "Fire", "Stone", "Bread"])
    call = [
        "tune",
        str(data),
        "--validation",
        "4",
        "--cache",
        str(tmp_path / "c"),
        "-r",
        "dual_softmax",
        "-r",
        "sinkhorn(iterations=2)",
    ]
    done = CliRunner().invoke(commands, call)
    assert done.exit_code in (0, 1), done.output
    assert "dual_softmax(temperature=1), bank of 6" in done.stdout
    assert "(transductive: sinkhorn(temperature=0.05, iterations=2))" in done.stdout
    assert "hubness@10" in done.stdout
    assert "best with a bank: cosine; best as a transductive batch: cosine" in done.stderr  # nothing beats an echo
    ET.parse(tmp_path / "tune.svg")
    assert "| --:" in CliRunner().invoke(commands, [*call, "--markdown"]).stdout
    wrong = CliRunner().invoke(commands, [*call, "-m", "R@7"])
    assert isinstance(wrong.exception, UsageError)


def test_similarity_of_the_part_is_not_changed_by_articles_outside_it():
    """Cosine needs no bank: the first trial is the plain ranking."""
    test, gallery = ARTICLES.take(sorted(PART)), PHOTOS.take([f"p{a[1:]}" for a in sorted(PART)])
    scores = test.rows @ gallery.rows.T
    assert TRIALS[0].report.articles == test.ids
    assert TRIALS[0].report.ranks.tolist() == (1 + (scores > scores.diagonal()[:, None]).sum(axis=1)).tolist()
