"""`recipes`, `reproduce` and `ablate`: what is missing is said at once, stand-ins are marked everywhere, and every
recipe runs."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest
from click.testing import CliRunner

from doubles import desk, echo
from photodesk.cli import commands
from photodesk.data import datasets
from photodesk.encoders import hf_hub
from photodesk.errors import UsageError
from photodesk.evaluation import run_files
from photodesk.recipes import requirements, schema

WORDS = [
    f"{thing} near {place}"
    for thing in ("Flood", "Fire", "Market", "Match")
    for place in ("Elbe", "Wien", "Rom", "Basel", "Bonn")
]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return desk(tmp_path_factory.mktemp("data") / "desk", WORDS)


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    return tmp_path_factory.mktemp("features")


@pytest.fixture(autouse=True)
def no_hub(tmp_path, monkeypatch):
    """Nothing downloaded before, and a hub that does not answer."""
    pytest.importorskip("huggingface_hub")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PHOTODESK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *a: None)
    monkeypatch.setattr(hf_hub, "unreachable", lambda address: "no answer")


def call(*words):
    return CliRunner().invoke(commands, [str(word) for word in words])


def test_the_list_says_what_each_recipe_is_and_what_it_lacks(data):
    done = call("recipes")
    assert done.exit_code == 0, done.output
    lines = {line.split()[0]: line for line in done.stdout.splitlines()[2:]}
    assert set(lines) == set(schema.names())
    assert "needs weights to fetch, translator, pretraining" in lines["2022-rss-run4"]
    assert "(transductive)" in lines["2022-rss-run4"]
    assert "MRR@100 0.294" in lines["2021-run5"]
    assert lines["own-best"].endswith("runs here, given its data")
    assert "Helsinki-NLP--opus-mt-de-en" in done.stderr
    rows = {row["recipe"]: row for row in json.loads(call("recipes", "--data", data, "--json").stdout)}
    assert rows["own-best"]["status"] == "needs pairs"  # 20 of 2,000
    assert rows["2021-run1"]["status"] == "needs weights to fetch, translator, data"
    assert any("NewsImages 2021, and the data is NewsImages 2025" in line for line in rows["2021-run1"]["missing"])
    assert rows["2022-tw-run2"]["numbers"]["MRR@100"] == 0.54645


def test_all_that_is_missing_is_said_at_once_and_nothing_is_written(tmp_path, data):
    done = call("reproduce", "2022-rss-run4", "--data", data, "--model-dir", tmp_path)
    assert isinstance(done.exception, UsageError)
    said = str(done.exception)
    for thing in (
        "the weights of openclip:ViT-H-14/laion2b_s32b_b79k: 3.9 GB",
        "laion--CLIP-ViT-H-14-laion2B-s32B-b79K",
        "the hub cannot be reached now: no answer",
        "the translation model Helsinki-NLP/opus-mt-de-en, 0.3 GB: run: hf download",
        "NewsImages 2022, and the data is NewsImages 2025: ask the task's organisers",
        "NYTimes800k, to train on before: ask its authors",
    ):
        assert thing in said
    assert said.count("\n- ") == 4
    assert not (tmp_path / "reproduced").exists()
    bare = str(call("reproduce", "2022-rss-run4", "--network", tmp_path / "none.safetensors").exception)
    assert "name its folder with --data" in bare
    assert "no network at" in bare
    assert "NYTimes800k" in bare  # the network cannot be had, so one would have to be trained
    typo = call("reproduce", "2022-rs-run4", "--data", data)
    assert "did you mean '2022-" in str(typo.exception)


def test_a_library_that_is_missing_is_named_with_its_extra(data, monkeypatch):
    import importlib.util

    original = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name in ("lingua", "torch") else original(name, *a)
    )
    found = [str(need) for need in requirements.of_machine(schema.read("2022-rss-run4")) if need.kind == "library"]
    assert found == [
        'lingua: pip install "photodesk[lang]"',
        'torch: pip install "photodesk[translate]"',
        'torch: pip install "photodesk[train]"',
    ]


def test_the_closed_form_needs_no_torch(monkeypatch):
    import importlib.util

    original = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "torch" else original(name, *a))
    assert not list(requirements.of_machine(schema.read("own-best")))


def test_without_the_hubs_library_everything_is_named_all_the_same(data, monkeypatch):
    from photodesk.errors import MissingExtra
    from photodesk.recipes import preflight

    def missing(*_):
        raise MissingExtra("this needs huggingface_hub")

    monkeypatch.setattr(preflight, "require", missing)
    said = str(call("reproduce", "2022-rss-run1", "--data", data).exception)
    assert "the weights of openclip:ViT-H-14/laion2b_s32b_b79k" in said
    assert "this needs huggingface_hub" in said
    assert "opus-mt-de-en" in said


def test_models_of_a_folder_are_found(tmp_path):
    weights = tmp_path / "laion--CLIP-ViT-H-14-laion2B-s32B-b79K"
    marian = tmp_path / "Helsinki-NLP/opus-mt-de-en"
    weights.mkdir()
    marian.mkdir(parents=True)
    found = requirements.located(schema.read("2022-rss-run2"), tmp_path)
    assert found.encoders.names == (f"openclip:ViT-H-14/laion2b_s32b_b79k@{weights}",)
    assert found.texts.translate == f"marian:{marian}"
    empty, need = requirements.of_machine(found)
    assert str(empty).startswith(f"a checkpoint of openclip:ViT-H-14/laion2b_s32b_b79k in {weights}: put one there")
    (weights / "open_clip_model.safetensors").write_bytes(b"")
    assert need.kind == "translator"
    assert "config.json, source.spm, target.spm, vocab.json, model.safetensors or pytorch_model.bin" in need.what
    for name in (*requirements.MARIAN, "model.safetensors"):
        (marian / name).write_bytes(b"")
    assert not list(requirements.of_machine(found))
    assert requirements.located(schema.read("own-best"), tmp_path) == schema.read("own-best")


def test_pictures_and_truth_that_are_missing_are_counted(data, tmp_path):
    official = replace(
        schema.read("2023-gdelt-p1"),
        data=replace(schema.read("2023-gdelt-p1").data, edition="NewsImages 2025", subset=""),
    )
    whole = datasets.read(data)
    assert [str(need) for need in requirements.of_data(official, whole)] == [
        f"1,500 pairs to measure, and the data has 20: {official.data.how}"
    ]
    torn = [str(need) for need in requirements.of_data(official, replace(whole, photos=whole.photos[:15]))]
    assert torn[0] == "5 of 20 pictures that are ranked: run: photodesk fetch DATA"
    blind = [str(need) for need in requirements.of_data(official, replace(whole, pairs=()))]
    assert blind[0].startswith("the right photos of the articles that are measured: put the organisers' truth file")
    assert next(
        iter(requirements.of_data(replace(official, data=replace(official.data, subset="P1")), whole))
    ).what.startswith("the data has no part 'P1'")


def check_output(name, encoder, done, folder):
    """Every file and table of a run on another model says so, and what else differs."""
    assert isinstance(done.exception, SystemExit | None), f"{name}\n{done.output}\n{done.exception!r}"
    stem = name if encoder in schema.read(name).encoders.names else f"{name}-on-{encoder}"
    record = json.loads((folder / f"{stem}.json").read_text("utf-8"))
    run = run_files.read(folder / f"{stem}.tsv")
    page = (folder / f"{stem}.html").read_text("utf-8")
    assert len(run) == record["ours"]["articles"] > 0
    assert record["paper_numbers"] == dict(schema.read(name).claim.numbers)
    for measure in record["paper_numbers"]:
        assert re.search(rf"^{measure} +{record['paper_numbers'][measure]:.5f}", done.stdout, re.MULTILINE)
    differs = [line for line in done.stdout.splitlines() if line.startswith("Differs from the recipe: ")]
    assert len(differs) == len(record["differs"]) > 0
    assert "Differs from the recipe" in page
    if stem != name:
        assert f"the encoder is {encoder}, not" in differs[0]
        assert f"{name} on {encoder}" in done.stdout.splitlines()[0]
    if schema.read(name).transductive:
        assert run.transductive == record["ours"]["transductive"] == "dual_softmax(temperature=1)"
        assert "transductive" in done.stdout.splitlines()[0]
        assert "ransductive" in page
    else:
        assert not run.transductive
    return record, run


def small_network(monkeypatch):
    from photodesk.training import config

    small = {name: replace(preset, dim=3, epochs=1) for name, preset in config.PRESETS.items()}
    monkeypatch.setattr(config, "PRESETS", small)


@pytest.mark.parametrize("name", schema.names())
def test_every_recipe_runs_on_an_echo_with_its_network_trained(name, data, tmp_path, monkeypatch):
    monkeypatch.setattr("photodesk.encoders.registry.load", lambda name: echo())
    if schema.read(name).network:
        pytest.importorskip("torch")
    small_network(monkeypatch)
    call_words = [
        "reproduce",
        name,
        "--data",
        data,
        "--encoder",
        "builtin",
        "--out",
        tmp_path / "out",
        "--cache",
        tmp_path / "f",
    ]
    record, _ = check_output(name, "builtin", call(*call_words), tmp_path / "out")
    said = " ".join(record["differs"])
    one = schema.read(name)
    assert ("the translation is left out" in said) == bool(one.texts.translate)
    assert ("not trained on NYTimes800k before" in said) == bool(one.network and one.network.pretrain)
    assert ("missing: 2,000 pairs to measure, and the data has 20" in said) == (name == "own-best")
    assert ("a fifth of" in said) == (one.network is not None or one.data.test != "all" or name == "own-best")
    assert ("the data is NewsImages 2025, not" in said) == (one.data.edition != "NewsImages 2025")


@pytest.mark.parametrize("name", schema.names())
def test_every_recipe_runs_on_the_built_in_model(name, data, features, tmp_path):
    """With the shipped network where one would be trained: training on features of full width takes long, and
    test_readme.py does it."""
    from importlib import resources

    ready = resources.files("photodesk") / "models/bridge.safetensors"
    more = ["--network", ready] if schema.read(name).network else []
    call_words = [
        "reproduce",
        name,
        "--data",
        data,
        "--encoder",
        "builtin",
        "--out",
        tmp_path,
        "--cache",
        features,
        *more,
    ]
    record, _ = check_output(name, "builtin", call(*call_words), tmp_path)
    assert all("NYTimes" not in line for line in record["differs"]) or not more
    assert any("the T×V network is" in line for line in record["differs"]) == bool(more)


def test_a_translator_that_is_there_is_used(data, tmp_path, monkeypatch):
    """German is translated before it is cut and encoded; English is left as it is."""
    pytest.importorskip("lingua")
    folder = desk(
        tmp_path / "german",
        ["Hochwasser an der Elbe bei Dresden", "Feuer in einem Haus in der Stadt Wien", "The old market of the city"],
    )
    marian = tmp_path / "models/Helsinki-NLP--opus-mt-de-en"
    marian.mkdir(parents=True)
    for name in (*requirements.MARIAN, "model.safetensors"):
        (marian / name).write_bytes(b"")
    seen = []

    class Shout:
        fingerprint, source, target, limit, budget = "shout", "de", "en", 100, 1000

        def measure(self, sentence):
            return len(sentence)

        def translate(self, sentences, source):
            return [sentence.upper() for sentence in sentences]

    encoder = echo()
    encoder.texts.encode = lambda texts, encode=encoder.texts.encode: seen.extend(texts) or encode(texts)
    monkeypatch.setattr("photodesk.encoders.registry.load", lambda name: encoder)
    monkeypatch.setattr("photodesk.text.translators.load", lambda name: Shout())
    done = call(
        "reproduce",
        "2022-rss-run1",
        "--data",
        folder,
        "--encoder",
        "builtin",
        "--model-dir",
        tmp_path / "models",
        "--cache",
        tmp_path / "f",
    )
    assert isinstance(done.exception, SystemExit | None), f"{done.output}{done.exception!r}"
    assert "the translation is left out" not in done.output
    assert sorted(seen) == [
        "FEUER IN EINEM HAUS IN DER STADT WIEN",
        "HOCHWASSER AN DER ELBE BEI DRESDEN",
        "The old market of the city",
    ]


def test_ours_beside_the_papers_as_markdown_and_latex(data, features, tmp_path):
    words = ["reproduce", "2023-rt", "--data", data, "--encoder", "builtin", "--cache", features, "--out", tmp_path]
    assert "| MRR@100 | 0.20900 |" in call(*words, "--markdown").stdout
    done = call(*words, "--latex").stdout
    assert r"MRR@100 & 0.20900" in done
    assert all(line.startswith("% ") for line in done.splitlines() if "Differs" in line)


def test_a_network_where_none_belongs_and_an_unknown_measure_are_refused(data, tmp_path):
    from importlib import resources

    ready = resources.files("photodesk") / "models/bridge.safetensors"
    done = call("reproduce", "2023-rt", "--data", data, "--encoder", "builtin", "--network", ready)
    assert "has no T×V network, so --network is of no use" in str(done.exception)
    assert "--measure R@7: expected one of R@1" in str(
        call("ablate", "own-best", "--data", data, "-m", "R@7").exception
    )


def test_ablate_prints_what_components_contribute_and_draws_it(data, tmp_path, monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.setattr("photodesk.encoders.registry.load", lambda name: echo())
    small_network(monkeypatch)
    words = [
        "ablate",
        "2022-tw-run4",
        "--data",
        data,
        "--encoder",
        "builtin",
        "--cache",
        tmp_path / "f",
        "--plot",
        tmp_path / "a.svg",
    ]
    done = call(*words, "-m", "R@1")
    assert isinstance(done.exception, SystemExit | None), f"{done.output}{done.exception!r}"
    left_out = [re.split(r"  +", line)[0] for line in done.stdout.splitlines()[2:5]]
    assert left_out[0] == "nothing"
    assert set(left_out[1:]) == {"T×V network", "revision"}
    assert "Differs from the recipe: the encoder is builtin" in done.stdout
    picture = (tmp_path / "a.svg").read_text("utf-8")
    ET.fromstring(picture)
    assert "T×V network" in picture
    assert "without revision" in done.stderr
