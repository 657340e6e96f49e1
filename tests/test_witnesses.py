"""What earlier commits wrote opens, is well, and answers as it did: every folder of tests/data
(scripts/make_witnesses.py).

Only the command line and what `photodesk` itself exports is used here, so that it holds however the modules lie.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import tarfile
from pathlib import Path

import pytest
from click.testing import CliRunner

import photodesk
from photodesk.cli import commands

ROOT = Path(__file__).parents[1]
FOLDERS = sorted(path.parent for path in (ROOT / "tests/data").glob("*/expected.json"))
NEAR = 1e-4

pytest.importorskip("qdrant_edge")


def _script():
    spec = importlib.util.spec_from_file_location("make_witnesses", ROOT / "scripts/make_witnesses.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


ask = _script()


def run(*words, codes=(0,), **environment):
    """The command line in this process; returns what it wrote to stdout."""
    done = CliRunner(env=environment).invoke(commands, list(map(str, words)))
    assert done.exit_code in codes, (words, done.output, done.exception)
    return done.stdout


load = functools.cache(photodesk.load)


@pytest.fixture(params=FOLDERS, ids=lambda path: path.name)
def written(request, monkeypatch):
    """A folder of witnesses; names of encoders in it start from there."""
    monkeypatch.chdir(request.param)
    return request.param


@pytest.fixture
def expected(written):
    return json.loads((written / "expected.json").read_text("utf-8"))


@pytest.fixture
def unpack(written, tmp_path, monkeypatch):
    """A function that extracts one of them and says where it is."""
    monkeypatch.setenv("PHOTODESK_CACHE", str(tmp_path / "cache of the test"))

    def extract(name):
        with tarfile.open(written / f"{name}.tar.xz") as tar:
            tar.extractall(tmp_path, filter="data")
        return tmp_path

    return extract


def same(found, wanted):
    """That two JSON values are alike: numbers with a point within `NEAR`, all else exactly, lists in their order."""
    if isinstance(wanted, dict):
        assert isinstance(found, dict)
        assert found.keys() == wanted.keys()
        for name, value in wanted.items():
            same(found[name], value)
    elif isinstance(wanted, list):
        assert isinstance(found, list | tuple)
        assert len(found) == len(wanted), (found, wanted)
        for one, other in zip(found, wanted, strict=True):
            same(one, other)
    elif isinstance(wanted, float):
        assert found == pytest.approx(wanted, abs=NEAR)
    else:
        assert found == wanted


def test_there_are_witnesses():
    assert FOLDERS


@pytest.mark.parametrize("name", ["archive-edge", "archive-flat", "archive-trained", "backup"])
def test_an_archive_answers_as_it_did_and_is_well_where_its_pictures_moved(name, unpack, expected):
    archive, wanted = unpack(name) / "archive", expected["archives"][name]
    with photodesk.Archive.open(archive) as held:
        same(ask.of_engine(held), wanted["engine"])
        questions = [answer["question"] for answer in wanted["desk"]["answers"]]
        same(ask.of_desk(held, load(held.settings.encoder), questions), wanted["desk"])
    same(ask.of_ledger(archive, run), wanted["ledger"])

    root = unpack("pictures")
    run("archive", "add", archive, root / "data/photos", root / "extra", codes=(1,))  # names the broken picture
    run("archive", "remove", archive, "--missing", "--force")  # the paths of the machine that wrote it
    run("archive", "verify", archive, "--content")
    same(ask.of_picks(archive, root / "picks", run), wanted["picks"])
    with photodesk.Archive.open(archive) as held:
        found = ask.of_engine(held)
        found["entries"] = wanted["engine"]["entries"]  # one photo has two files, and is named after the other one now
        same(found, wanted["engine"])
    after = ask.of_ledger(archive, run)
    counts = ("photos", "files", "groups", "faults", "uses", "picks", "bank", "revised")
    assert [after["stats"][key] for key in counts] == [wanted["ledger"]["stats"][key] for key in counts]
    assert after["faults"] == wanted["ledger"]["faults"]


@pytest.mark.parametrize("name", ["index", "index-revised"])
def test_an_index_finds_what_it_found(name, unpack, expected):
    wanted = expected["indexes"][name]
    same(ask.of_index(unpack(name) / "index", load("builtin"), wanted["titles"]), wanted)


def test_a_store_is_sound_and_nothing_of_it_is_encoded_again(unpack, expected):
    root = unpack("store")
    assert ask.of_store(run("store", "verify", "--cache", root / "store")) == expected["store"]
    unpack("pictures")
    run("index", root / "data/photos", "-o", root / "again", "--cache", root / "store")
    assert ask.of_store(run("store", "verify", "--cache", root / "store")) == expected["store"]
    wanted = expected["indexes"]["index"]
    found = ask.of_index(root / "again", load("builtin"), wanted["titles"])
    same({**found, "rows": ""}, {**wanted, "rows": ""})  # the network's products are not the same bits on every machine


@pytest.mark.parametrize("name", ["network", "network-landmarks"])
def test_a_network_makes_the_same_rows(name, written, expected):
    same(ask.of_network(written / f"{name}.safetensors"), expected["networks"][name])


def test_run_files_prepared_articles_and_exported_picks_are_read(unpack, expected):
    root = unpack("files")
    unpack("pictures")
    same(ask.of_runs(root / "data", root / "files", list(expected["runs"]), run), expected["runs"])
    articles = photodesk.read(root / "files/prepared.jsonl").articles
    assert [[article.id, article.title] for article in articles] == expected["translations"]["titles"]
    assert (
        sorted([pair.article, pair.photo] for pair in photodesk.read(root / "files/picks").pairs)
        == expected["exported"]
    )


def test_what_was_translated_is_not_asked_for_again(unpack, expected):
    root, wanted = unpack("translations"), expected["translations"]
    unpack("pictures")
    run(
        "prepare",
        root / "data",
        "-o",
        root / "out.jsonl",
        "-p",
        wanted["preparation"],
        PHOTODESK_CACHE=str(root / "cache"),
    )
    assert [[article.id, article.title] for article in photodesk.read(root / "out.jsonl").articles] == wanted["titles"]


def test_a_stopped_training_goes_on(unpack, expected):
    pytest.importorskip("torch")
    root, wanted = unpack("checkpoint"), expected["checkpoint"]
    unpack("pictures")
    unpack("store")
    out = run("train", root / "data", "-o", root / "net.safetensors", "--cache", root / "store", *wanted["options"])
    found = ask.losses(out)
    assert [epoch for epoch, _ in found] == [epoch for epoch, _ in wanted["losses"]]
    assert wanted["losses"][0][0] > 1
    assert [loss for _, loss in found] == pytest.approx([loss for _, loss in wanted["losses"]], abs=1e-3)
    assert not list(root.glob("*.part"))
