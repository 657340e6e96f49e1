"""Exported towers: near their originals, without torch, and refused where they are not."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from doubles import paint
from photodesk.encoders import onnx_export as exporting
from photodesk.encoders import registry
from photodesk.encoders.onnx_export import TEXTS, export, scene
from photodesk.errors import EncoderError, UsageError
from photodesk.types import Photo


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_an_export_is_near_its_original_on_pictures_it_was_not_compared_on(zoo, precision):
    original, exported = registry.load(zoo.openclip), registry.load(f"{zoo.onnx}, precision={precision}")
    batch = np.stack([original.photos.prepare(scene(seed)) for seed in range(1000, 1030)])
    for a, b in (
        (original.photos.encode(batch), exported.photos.encode(batch)),
        (original.texts.encode(TEXTS[::-1]), exported.texts.encode(TEXTS[::-1])),
    ):
        cosines = (a * b).sum(axis=1)
        assert cosines.min() >= (0.99 if precision == "int8" else 0.999999)
        assert (precision == "int8") == (not np.allclose(a, b, atol=1e-5))
    assert exported.runs_on == f"cpu, {precision}, onnxruntime"
    for text in TEXTS:
        assert exported.texts.tokens(text) == original.texts.tokens(text)


@pytest.mark.parametrize("kind", ["openclip_xlmr", "openclip_siglip"])
def test_other_tokenizers_and_towers_are_exported_too(zoo, tmp_path, kind):
    card = export(getattr(zoo, kind), tmp_path / "made", precisions=["fp32"])
    assert min(card["least_cosine"]["fp32"].values()) > 0.999999
    original, exported = registry.load(getattr(zoo, kind)), registry.load(f"onnx:{tmp_path / 'made'}")
    assert exported.texts.context == original.texts.context
    assert not list((tmp_path / "made").glob("*int8*"))
    with pytest.raises(EncoderError, match="has no int8 towers"):
        registry.load(f"onnx:{tmp_path / 'made'}, precision=int8")


def test_a_large_export_keeps_its_weights_beside_it(zoo, tmp_path, monkeypatch):
    monkeypatch.setattr(exporting, "LARGE", 0)
    card = export(zoo.openclip, tmp_path / "made")
    kinds = [
        f"{tower}{precision}.onnx{data}"
        for tower in ("texts", "photos")
        for precision in ("", ".int8")
        for data in ("", ".data")
    ]
    assert (
        set(card["files"])
        == {*kinds, "tokenizer.json"}
        == {path.name for path in (tmp_path / "made").iterdir()} - {"photodesk.json"}
    )
    assert (tmp_path / "made").stat().st_mode & 0o777 == 0o777 & ~_mask()
    exported, small = registry.load(f"onnx:{tmp_path / 'made'}"), registry.load(zoo.onnx)
    assert np.array_equal(exported.texts.encode(TEXTS), small.texts.encode(TEXTS))
    with (tmp_path / "made" / "photos.onnx.data").open("r+b") as stream:
        stream.write(b"other")
    with pytest.raises(EncoderError, match=r"photos\.onnx\.data is not the file"):
        registry.load(f"onnx:{tmp_path / 'made'}")


def _mask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_an_export_runs_without_torch(zoo):
    code = """
import sys
sys.modules["torch"] = sys.modules["transformers"] = sys.modules["open_clip"] = None  # importing them fails
from photodesk.encoders import registry
encoder = registry.load(sys.argv[1])
print(encoder.fingerprint, *encoder.texts.encode(["Flood"])[0])
"""
    out = subprocess.run(
        [sys.executable, "-c", code, zoo.onnx], capture_output=True, text=True, check=True
    ).stdout.split()
    encoder = registry.load(zoo.onnx)
    assert out[0] == encoder.fingerprint
    assert np.allclose([float(x) for x in out[1:]], encoder.texts.encode(["Flood"])[0], atol=1e-6)


def test_an_export_that_differs_is_refused_and_leaves_nothing(zoo, tmp_path, monkeypatch):
    monkeypatch.setattr(exporting, "LEAST", 1.1)
    with pytest.raises(EncoderError, match=r"fp32 export of photos reaches a cosine of 1.0000 .* nothing was written"):
        export(zoo.openclip, tmp_path / "made")
    assert list(tmp_path.iterdir()) == []


def test_towers_that_changed_on_the_way_are_found_out(zoo, tmp_path, monkeypatch):
    """A quantiser that ruins the weights must not get through."""

    def ruin(source, target):
        import onnx

        model = onnx.load(source)
        for tensor in model.graph.initializer:
            if len(tensor.dims) == 2:
                values = onnx.numpy_helper.to_array(tensor)
                tensor.CopyFrom(onnx.numpy_helper.from_array(np.sign(values) * np.float32(0.1), tensor.name))
        onnx.save(model, target)

    monkeypatch.setattr(exporting, "_quantize", ruin)
    with pytest.raises(EncoderError, match=r"int8 export of photos reaches a cosine of .*export with --precision fp32"):
        export(zoo.openclip, tmp_path / "made", precisions=["fp32", "int8"])
    assert list(tmp_path.iterdir()) == []


def test_files_of_an_export_are_checked(zoo, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(zoo.folder / "onnx", folder)
    fine = registry.load(f"onnx:{folder}")
    assert fine.fingerprint == registry.load(zoo.onnx).fingerprint
    data = bytearray((folder / "photos.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    (folder / "photos.onnx").write_bytes(data)
    with pytest.raises(EncoderError, match=r"photos\.onnx is not the file that was exported"):
        registry.load(f"onnx:{folder}")
    assert registry.load(f"onnx:{folder}, precision=int8").photos.dim == 16  # other files
    (folder / "tokenizer.json").unlink()
    with pytest.raises(EncoderError, match=r"lacks tokenizer\.json"):
        registry.load(f"onnx:{folder}, precision=int8")
    (folder / "photodesk.json").write_text(json.dumps({"format": "photodesk-onnx/9"}))
    with pytest.raises(EncoderError, match="format photodesk-onnx/9"):
        registry.load(f"onnx:{folder}")
    (folder / "photodesk.json").write_text("{")
    with pytest.raises(EncoderError, match="is damaged"):
        registry.load(f"onnx:{folder}")
    with pytest.raises(EncoderError, match="holds no export; make one with: photodesk export"):
        registry.load(f"onnx:{tmp_path}")


@pytest.mark.parametrize("option", ["precision=bf16", "device=cuda", "compile=yes"])
def test_exports_run_on_the_cpu_only(zoo, option):
    with pytest.raises(UsageError, match="exported models run on the CPU"):
        registry.load(f"{zoo.onnx}, {option}")


def test_what_cannot_be_exported_is_said_before_anything_is_loaded(zoo, tmp_path):
    with pytest.raises(UsageError, match="openclip:MODEL/TAG can be exported"):
        export("builtin", tmp_path / "made")
    with pytest.raises(UsageError, match="openclip:MODEL/TAG can be exported"):
        export(zoo.pair, tmp_path / "made")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(UsageError, match="holds no export; name a new folder"):
        export(zoo.openclip, tmp_path / "mine")
    paint(tmp_path / "one.png", "red")
    with pytest.raises(UsageError, match="1 of the photos can be opened; an export is compared on 100"):
        export(
            zoo.openclip,
            tmp_path / "made",
            photos=[Photo("one", tmp_path / "one.png"), Photo("x", Path("missing.png"))],
        )


def test_scenes_are_the_same_every_time_and_differ():
    first, again, other = (np.asarray(scene(seed)) for seed in (3, 3, 4))
    assert np.array_equal(first, again)
    assert first.shape != other.shape or not np.array_equal(first, other)
    assert first.std() > 20


def test_patches_are_multiplied_so_that_int8_has_them(zoo):
    onnx = pytest.importorskip("onnx")
    folder = Path(zoo.onnx.partition(":")[2])
    kinds = {
        name: {node.op_type for node in onnx.load(folder / name).graph.node}
        for name in ("photos.onnx", "photos.int8.onnx")
    }
    assert not any("Conv" in kind for found in kinds.values() for kind in found)
    assert "MatMulInteger" in kinds["photos.int8.onnx"]


def test_an_export_takes_the_place_of_an_export_only(zoo, tmp_path, monkeypatch):
    """Nothing of the user's is deleted, and what cannot be done is said before the model is loaded."""
    assert zoo.onnx
    folder = tmp_path / "mine"
    shutil.copytree(zoo.folder / "onnx", folder)
    (folder / "notes.md").write_text("mine")
    (folder / "photos of mine").mkdir()
    before = {path.name for path in folder.iterdir()}
    monkeypatch.setattr(exporting.openclip, "load", lambda spec: pytest.fail("loaded"))
    with pytest.raises(UsageError, match=r"holds an export and other files, such as notes\.md"):
        export(zoo.openclip, folder)
    (folder / "photodesk.json").write_text("{")
    with pytest.raises(UsageError, match="is not empty and holds no export"):
        export(zoo.openclip, folder)
    assert {path.name for path in folder.iterdir()} == before
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    for name in (".", "..", str(tmp_path / "empty")):
        with pytest.raises(UsageError, match="is the current folder"):
            export(zoo.openclip, Path(name))


def test_an_old_export_is_there_until_the_new_one_is(zoo, tmp_path, monkeypatch):
    """Stopped between the two: the old one is whole and in its place. Else the new one is, and nothing else."""
    made, folder = tmp_path / "made", tmp_path / "place"
    shutil.copytree(zoo.onnx.partition(":")[2], folder)
    shutil.copytree(folder, made)
    (made / "photodesk.json").write_text("the new one")
    old, rename = (folder / "photodesk.json").read_text(), Path.rename

    def stopped(path, target):
        if path == made:
            raise KeyboardInterrupt
        return rename(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", stopped)
        patch.setattr(shutil, "rmtree", lambda path: pytest.fail("deleted"))
        with pytest.raises(KeyboardInterrupt):
            exporting._put(made, folder)
    assert (folder / "photodesk.json").read_text() == old
    assert sorted(path.name for path in tmp_path.iterdir()) == ["made", "place"]
    exporting._put(made, folder)
    assert (folder / "photodesk.json").read_text() == "the new one"
    assert [path.name for path in tmp_path.iterdir()] == ["place"]


def test_an_export_can_be_made_again(zoo, tmp_path):
    first, second = (export(zoo.openclip, tmp_path / "made", precisions=[p])["files"] for p in ("int8", "fp32"))
    assert (
        {path.name for path in (tmp_path / "made").iterdir()}
        == {*second, "photodesk.json"}
        != {*first, "photodesk.json"}
    )
    assert [path.name for path in tmp_path.iterdir()] == ["made"]
