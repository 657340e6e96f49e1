"""Models of Transformers and sentence-transformers behind the seam: the same numbers as the libraries give when called
directly."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tiny
from photodesk.encoders import hf_hub, registry
from photodesk.errors import EncoderError, UsageError

TEXTS = ["Hochwasser an der Elbe", "", "a dog in the house " * 30, "日本"]


def pictures():
    random = np.random.default_rng(1)
    return [Image.fromarray(random.integers(0, 256, (40 + 30 * i, 71, 3), np.uint8)) for i in range(3)]


def folder_of(name):
    return Path(name.partition(":")[2])


@pytest.mark.parametrize("kind", ["clip", "siglip", "siglip2"])
def test_rows_are_those_of_transformers(zoo, kind):
    import torch
    import transformers

    name = getattr(zoo, kind)
    encoder = registry.load(name)
    model = transformers.AutoModel.from_pretrained(folder_of(name)).eval()
    words = transformers.AutoTokenizer.from_pretrained(folder_of(name))
    processor = transformers.AutoImageProcessor.from_pretrained(folder_of(name), backend="pil")
    length = model.config.text_config.max_position_embeddings
    given = words(
        [text.lower() if kind != "clip" else text for text in TEXTS],
        padding="max_length",
        truncation=True,
        max_length=length,
        return_tensors="pt",
    )
    with torch.no_grad():
        texts = torch.nn.functional.normalize(model.get_text_features(**given).pooler_output, dim=-1).numpy()
        seen = processor(images=pictures(), return_tensors="pt")
        photos = torch.nn.functional.normalize(model.get_image_features(**seen).pooler_output, dim=-1).numpy()
    ours = encoder.photos.encode(np.stack([encoder.photos.prepare(photo) for photo in pictures()]))
    assert np.abs(encoder.texts.encode(TEXTS) - texts).max() < 2e-6
    assert np.abs(ours - photos).max() < 2e-6
    assert encoder.texts.dim == encoder.photos.dim == texts.shape[1] == photos.shape[1]
    assert encoder.photos.size == 32
    assert encoder.texts.context == length - words.num_special_tokens_to_add()


def test_a_pair_of_transformers_shares_frozen_photos(zoo, tmp_path):
    import transformers

    folder = tmp_path / "other-texts"
    shutil.copytree(folder_of(zoo.clip), folder)
    model = transformers.CLIPModel.from_pretrained(folder)
    model.text_projection.weight.data += 0.1
    model.save_pretrained(folder)
    pair, base = registry.load(f"text=clip:{folder}, image={zoo.clip}"), registry.load(zoo.clip)
    assert pair.reads(base.fingerprint)
    assert pair.texts.fingerprint != base.texts.fingerprint
    model.visual_projection.weight.data[0, 0] += 1
    model.save_pretrained(folder)
    with pytest.raises(EncoderError, match=r"1 of .* tensors .* differ"):
        registry.load(f"text=clip:{folder}, image={zoo.clip}")


def test_weights_that_are_missing_are_not_replaced_by_chance(zoo, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "lacking"
    shutil.copytree(folder_of(zoo.clip), folder)
    state = load_file(folder / "model.safetensors")
    save_file(
        {key: tensor for key, tensor in state.items() if key != "text_projection.weight"},
        folder / "model.safetensors",
        {"format": "pt"},
    )
    with pytest.raises(EncoderError, match=r"lacks 1 weights of the model, such as text_projection\.weight"):
        registry.load(f"clip:{folder}")


def test_models_of_other_kinds_and_broken_folders_are_named(zoo, tmp_path, monkeypatch):
    folder = tmp_path / "bert"
    shutil.copytree(folder_of(zoo.clip), folder)
    (folder / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(EncoderError, match="is a model of kind bert; clip: reads clip, siglip, siglip2"):
        registry.load(f"clip:{folder}")
    (folder / "config.json").write_text("{")
    with pytest.raises(EncoderError, match="cannot be read as a model"):
        registry.load(f"clip:{folder}")
    (folder / "model.safetensors").unlink()
    with pytest.raises(EncoderError, match=r"lacks \*\.safetensors"):
        registry.load(f"clip:{folder}")
    with pytest.raises(UsageError, match="names no model"):
        registry.load("clip:")
    monkeypatch.setattr(hf_hub, "unreachable", lambda address: "no network")
    with pytest.raises(EncoderError, match=r"openai/clip-vit-base-patch32 is not on this machine and .*no network"):
        registry.load("clip:openai/clip-vit-base-patch32")


def test_sentence_rows_are_those_of_sentence_transformers(zoo):
    from sentence_transformers import SentenceTransformer

    encoder = registry.load(zoo.sentence)
    folder = zoo.sentence.partition("sentence:")[2].partition(",")[0]
    rows = SentenceTransformer(folder, device="cpu").encode(TEXTS, normalize_embeddings=True, show_progress_bar=False)
    assert np.abs(encoder.texts.encode(TEXTS) - rows).max() < 2e-6
    assert encoder.texts.context == 38
    assert encoder.photos.fingerprint == registry.load(zoo.openclip).photos.fingerprint


def test_compile_reaches_both_towers_of_a_pair_and_where_each_runs_is_said(zoo, monkeypatch):
    import torch

    called, original = [], torch.compile

    def spy(function, **options):
        made = original(function, backend="eager", **options)
        return lambda *given, **named: called.append(function.__name__) or made(*given, **named)

    monkeypatch.setattr(torch, "compile", spy)
    plain, fast = registry.load(zoo.sentence), registry.load(f"{zoo.sentence}, compile=yes")
    called.clear()
    batch = np.stack([plain.photos.prepare(photo) for photo in pictures()])
    assert np.allclose(fast.texts.encode(TEXTS), plain.texts.encode(TEXTS), atol=1e-6)
    assert np.allclose(fast.photos.encode(batch), plain.photos.encode(batch), atol=1e-6)
    assert called == ["forward", "encode_image"]
    assert fast.texts.fingerprint == plain.texts.fingerprint
    threads = torch.get_num_threads()
    assert fast.runs_on == f"cpu, fp32, {threads} threads, compiled"
    mixed = registry.load(f"{zoo.sentence.partition(', image')[0]}, image={zoo.onnx}")
    assert mixed.runs_on == f"cpu, fp32, {threads} threads (texts) and cpu, fp32, onnxruntime (photos)"


def test_a_text_tower_that_does_not_imitate_is_refused(zoo, tmp_path):
    stranger = tiny.sentence(tmp_path / "stranger", 16)
    with pytest.raises(EncoderError, match=r"finds . of 8 sentences .* share no space"):
        registry.load(f"text=sentence:{stranger}, image={zoo.openclip}")
    narrow = tiny.sentence(tmp_path / "narrow", 8)
    with pytest.raises(EncoderError, match="gives 8 numbers and the photo tower 16"):
        registry.load(f"text=sentence:{narrow}, image={zoo.openclip}")


def test_a_text_tower_alone_is_no_encoder_and_brings_no_code(zoo, tmp_path, monkeypatch):
    with pytest.raises(UsageError, match="reads texts only; pair it"):
        registry.load("sentence:some/model")
    folder = tiny.sentence(tmp_path / "foreign", 16)
    modules = json.loads((folder / "modules.json").read_text())
    modules[0]["type"] = "antigravity.Transformer"
    (folder / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(EncoderError, match="brings code of its own"):
        registry.load(f"text=sentence:{folder}, image={zoo.openclip}")


@pytest.mark.parametrize("where", ["config.json", "tokenizer_config.json", "preprocessor_config.json"])
@pytest.mark.parametrize("family", ["clip", "sentence", "openclip"])
def test_code_in_a_folder_is_never_run_whatever_is_answered(zoo, tmp_path, monkeypatch, family, where):
    """A model whose own code would write a file, to somebody who answers yes to everything."""
    folder, marker = tmp_path / "foreign", tmp_path / "ran"
    source = {
        "clip": zoo.clip,
        "sentence": zoo.sentence.partition("text=")[2].partition(",")[0],
        "openclip": zoo.openclip_xlmr,
    }[family]
    path = Path(source.partition(":")[2].rpartition("@")[2])
    if family == "openclip":
        shutil.copytree(path.parent / "xlmr", folder)
        shutil.copy(path, folder / "model.safetensors")
    else:
        shutil.copytree(path, folder)
    try:
        config = json.loads((folder / where).read_text())
    except OSError:
        config = {}
    kinds = ("AutoConfig", "AutoModel", "AutoImageProcessor")
    config |= {
        "model_type": "mine",
        "auto_map": dict.fromkeys(kinds, "mine.Mine") | {"AutoTokenizer": ["mine.Mine", None]},
    }
    for key in ("tokenizer_class", "image_processor_type"):
        config.pop(key, None)
    (folder / where).write_text(json.dumps(config))
    (folder / "mine.py").write_text(
        f"open({str(marker)!r}, 'w').close()\nfrom transformers import PretrainedConfig as Mine\n"
    )
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n" * 9))
    name = {
        "clip": f"clip:{folder}",
        "sentence": f"text=sentence:{folder}, image={zoo.openclip}",
        "openclip": f"openclip:tiny-xlmr@{folder / 'model.safetensors'}",
    }[family]
    with pytest.raises(EncoderError, match=rf"{where} brings code of its own \(auto_map\)"):
        registry.load(name)
    assert not marker.exists()
