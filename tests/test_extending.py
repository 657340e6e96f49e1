"""docs/extending.md followed step by step: the toy encoder and engine of toys.py in the places that it names."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

import toys
from doubles import desk
from photodesk.cli import commands
from photodesk.data import datasets
from photodesk.encoders import registry
from photodesk.engines.registry import ENGINES
from photodesk.errors import UsageError
from photodesk.evaluation.evaluate import evaluate
from photodesk.evaluation.run_files import read as read_run

ROOT = Path(__file__).parents[1]
WORDS = [f"{a} {b}" for a in ("Flood", "Fire", "Storm", "Vote") for b in ("Rome", "Elbe", "Köln", "Wien", "Bonn")]


@pytest.fixture
def toy(monkeypatch):
    monkeypatch.setitem(registry.FAMILIES, "toy", toys.load)
    monkeypatch.setitem(ENGINES, "toy", toys.DictEngine.open)
    return toys


def call(*words):
    done = CliRunner().invoke(commands, [str(word) for word in words])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_a_registered_encoder_is_trained_on_and_a_registered_engine_searched(toy, tmp_path):
    pytest.importorskip("qdrant_edge")
    data, net = desk(tmp_path / "data", WORDS), tmp_path / "net.safetensors"
    call("train", data, "-e", "toy", "-o", net, "--preset", "straight", "--epochs", 0, "--validation", 4)
    call("rank", data, "--encoder", f"txv@{net}", "-o", tmp_path / "run.tsv")
    run, read = read_run(tmp_path / "run.tsv"), datasets.read(data)
    learned = evaluate(run, read.pairs).means["R@5"]
    assert learned > 3 * 5 / len(WORDS)  # by chance 5 of 20
    folder = tmp_path / "desk"
    call("archive", "init", folder, "--engine", "toy:index", "--encoder", f"txv@{net}")
    call("archive", "add", folder, data / "newsimages")
    assert (folder / "index/points.json").exists()
    assert len(call("search", folder, "Flood Rome", "--top", 5).splitlines()) >= 5
    call("archive", "move", folder, "flat:flat")
    call("archive", "verify", folder)


def test_towers_without_a_common_space_are_for_training_only(toy):
    with pytest.raises(UsageError, match=r"photodesk train DATA --encoder toy"):
        registry.load("toy").joint()


def test_the_guide_names_places_that_exist():
    guide = (ROOT / "docs/extending.md").read_text("utf-8")
    paths = re.findall(r"`((?:src|tests|docs)/[\w./-]+)`", guide)
    assert len(paths) > 20
    assert [path for path in paths if not (ROOT / path).exists()] == []
    chapters = re.split(r"^## ", guide, flags=re.MULTILINE)[1:]
    assert [chapter.partition("\n")[0] for chapter in chapters] == [
        f"Add {thing}" for thing in ("an encoder", "an engine", "an edition", "a translator", "a recipe")
    ]
    for chapter in chapters:
        steps = re.findall(r"^(\d+)\. ", chapter, re.MULTILINE)
        assert steps == [str(n) for n in range(1, len(steps) + 1)]
        assert len(steps) >= 3
