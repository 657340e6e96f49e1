"""Contributions: each variant lacks one thing, and figures are those of paired differences."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import replace

import numpy as np
import pytest

from doubles import desk, echo
from photodesk.data import datasets
from photodesk.errors import UsageError
from photodesk.evaluation import plots
from photodesk.evaluation.evaluate import evaluate
from photodesk.evaluation.significance import randomisation
from photodesk.features.store import Store
from photodesk.recipes import ablation, schema
from photodesk.recipes.run import Outcome, Runner
from photodesk.recipes.schema import Encoders, Net, Revise, Texts
from photodesk.types import Hit, Pair, Run

OWN = schema.read("own-best")
PLAIN = replace(OWN, data=replace(OWN.data, test="all"), network=None, revision=None, texts=Texts())
TWO = ("builtin", "openclip:ViT-B-32/openai")


def test_every_component_of_the_papers_is_left_out():
    assert list(ablation.variants(schema.read("2021-run5"))) == [
        "translation", "cleaning", "field text", "word limit", "10 words", "20 words", "30 words", "40 words", "fusion",
    ]  # fmt: skip
    assert list(ablation.variants(schema.read("2021-run1"))) == ["translation", "cleaning", "field text", "word limit"]
    assert list(ablation.variants(schema.read("2022-rt-run5"))) == ["translation", "T×V network", "revision"]
    fused = replace(PLAIN, encoders=Encoders(TWO, (1, 2), "z"))
    assert list(ablation.variants(fused)) == [
        "encoder builtin",
        "encoder openclip:ViT-B-32/openai",
        "z normalisation",
        "fusion",
    ]
    learning = ablation.variants(replace(PLAIN, data=OWN.data, encoders=Encoders(TWO, learn=True)))
    assert list(learning) == ["encoder builtin", "encoder openclip:ViT-B-32/openai", "learned weights", "fusion"]
    assert [one.encoders.learn for one in learning.values()] == [False] * 4
    assert ablation.variants(PLAIN) == {}


def test_a_variant_lacks_just_that():
    full = schema.read("2021-run5")
    found = ablation.variants(full)
    assert found["translation"].texts == replace(full.texts, translate="", detect=())
    assert found["cleaning"].texts == replace(full.texts, clean="")
    assert found["20 words"].texts == replace(full.texts, words=(10, 30, 40), weights=(0.25,) * 3)
    assert found["word limit"].texts == replace(full.texts, words=(), weights=())
    assert found["fusion"].texts == replace(full.texts, words=(40,), weights=())
    assert all(replace(one, texts=full.texts) == full for one in found.values())
    fused = ablation.variants(replace(PLAIN, encoders=Encoders(TWO, (1, 2), "z")))
    assert fused["encoder builtin"].encoders == Encoders(TWO[1:])
    assert fused["fusion"].encoders == Encoders(TWO[:1])
    assert fused["z normalisation"].encoders == Encoders(TWO, (1, 2))
    four = ablation.variants(schema.read("2022-rt-run4"))
    assert four["T×V network"].network is None
    assert four["revision"].revision is None


def test_towers_without_a_space_of_their_own_lose_the_descent_only():
    found = ablation.variants(OWN, joint=("builtin",))
    assert "T×V network" not in found
    assert found["T×V landmarks"].network == replace(OWN.network, preset="straight")
    assert "T×V landmarks" not in ablation.variants(OWN, joint=("builtin",), trains=False)
    assert "T×V landmarks" not in ablation.variants(replace(OWN, network=Net("straight")), joint=("builtin",))


def outcome(name, ranks, transductive=""):
    """A run that finds the right photo of article i at ranks[i]."""
    hits = {
        f"a{i}": tuple(Hit(f"p{i}" if rank == place else f"x{place}", -place) for place in range(1, 6))
        for i, rank in enumerate(ranks)
    }
    run = Run(hits, name, transductive)
    return Outcome(PLAIN, run, evaluate(run, [Pair(f"a{i}", f"p{i}") for i in range(len(ranks))]))


FULL, WORSE, SAME = (
    outcome("full", [1, 2, 1, 4, 1, 1]),
    outcome("w", [2, 4, 1, 5, 3, 2], "nnn"),
    outcome("s", [1, 2, 1, 4, 1, 1]),
)


def test_contributions_are_paired_differences():
    worse, same = ablation.contributions(FULL, {"good part": WORSE, "idle part": SAME}, "MRR@100")
    gains = np.array([1 / 2, 1 / 4, 0, 1 / 4 - 1 / 5, 2 / 3, 1 / 2])
    assert worse.gain == pytest.approx(gains.mean())
    assert worse.without == pytest.approx(np.mean([1 / 2, 1 / 4, 1, 1 / 5, 1 / 3, 1 / 2]))
    assert 0 < worse.low < worse.gain < worse.high
    assert worse.p == pytest.approx(2 * randomisation(gains), abs=0.02)  # Holm: two tests
    assert (same.gain, same.low, same.high, same.p) == (0, 0, 0, 1)
    assert worse.transductive == "nnn"


def test_the_table_shows_the_largest_contribution_first():
    found = ablation.contributions(FULL, {"idle": SAME, "good": WORSE}, "MRR@100")
    table = ablation.table(FULL, found, "MRR@100")
    assert [row[0] for row in table.rows] == ["nothing", "good", "idle"]
    assert table.rows[0][1] == "0.79167"
    assert table.rows[1][6] == "nnn"
    assert table.rows[2][2] == "+0.00000"


def test_the_plot_places_points_and_intervals_where_the_figures_are():
    found = ablation.contributions(FULL, {"idle": SAME, "good & <bad>": WORSE}, "MRR@100")
    root = ET.fromstring(ablation.plot(FULL, found, "MRR@100"))
    space = "{http://www.w3.org/2000/svg}"
    points = {
        c.find(f"{space}title").text.partition(":")[0]: c for c in root.iter(f"{space}circle") if len(c)
    }  # not those of the key
    assert set(points) == {"idle", "good & <bad>"}
    idle, good = (float(points[name].get("cx")) for name in ("idle", "good & <bad>"))
    zero, *bars = (
        [float(place.partition(",")[0]) for place in line.get("points").split()]
        for line in root.iter(f"{space}polyline")
    )
    assert zero == [idle, idle]  # a contribution of 0 stands on the line
    assert good > idle
    assert float(points["good & <bad>"].get("cy")) < float(points["idle"].get("cy"))
    assert bars[0] == [idle, idle]
    assert bars[1][0] < good < bars[1][1]
    assert points["idle"].get("fill") == plots.GREY
    assert points["good & <bad>"].get("fill") == plots.COLOURS[0]


def test_a_whole_ablation_compares_the_same_articles(tmp_path, monkeypatch):
    monkeypatch.setattr("photodesk.encoders.registry.load", lambda name: echo())
    data = datasets.read(
        desk(tmp_path / "d", [f"Flood {place} today" for place in ("Elbe", "Wien", "Rom", "Basel", "Bonn", "Graz")])
    )
    one = replace(PLAIN, texts=Texts(words=(1, 3)), revision=Revise("dual_softmax", "batch"))
    steps = []
    full, without = ablation.ablate(one, Runner(data, Store(tmp_path / "f")), name="mine", progress=steps.append)
    assert steps == ["", "word limit", "1 words", "3 words", "revision", "fusion"]
    assert full.run.name == "mine"
    assert {outcome.report.articles for outcome in without.values()} == {full.report.articles}
    assert without["fusion"].report.mean("R@1") == 1.0  # three words are the whole title: an echo
    assert without["3 words"].report.mean("R@1") < 1.0  # all titles begin alike
    assert [outcome.run.transductive for outcome in without.values()].count("") == 1
    with pytest.raises(UsageError, match="no component that could be left out"):
        ablation.ablate(PLAIN, Runner(data, Store(tmp_path / "f")))
