"""open_clip behind the seam: the same numbers as open_clip itself, and an error wherever it would go on quietly."""

from __future__ import annotations

import json
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tiny
from photodesk.encoders import hf_hub, registry
from photodesk.encoders.spec import parse
from photodesk.encoders.torch_runner import Runner, one_core
from photodesk.errors import EncoderError, PhotodeskError, UsageError

TEXTS = ["Hochwasser an der Elbe", "", "Flood &amp; house, dog.", "a dog " * 100, "日本", "Schlösschen"]


def pictures(n=3):
    random = np.random.default_rng(0)
    return [Image.fromarray(random.integers(0, 256, (40 + 9 * i, 71 - 8 * i, 3), np.uint8)) for i in range(n)]


def one(name):
    (spec,) = parse(name).values()
    return spec


def weights_of(name):
    return Path(name.partition("@")[2])


def direct(name, texts=TEXTS, photos=None, precision="fp32"):
    """Rows as open_clip's own README computes them."""
    import open_clip
    import torch

    kind = name.partition(":")[2].partition("@")[0]
    model, _, transform = open_clip.create_model_and_transforms(kind, pretrained_text=False, precision=precision)
    open_clip.load_checkpoint(model, weights_of(name))
    model.eval()
    with torch.no_grad():
        tokens = open_clip.get_tokenizer(kind)(list(texts))
        pixels = torch.stack([transform(photo) for photo in photos or pictures()])
        out = model.encode_text(tokens, normalize=True), model.encode_image(pixels, normalize=True)
    return [rows.float().numpy() for rows in out]


@pytest.mark.parametrize("kind", ["openclip", "openclip_other", "openclip_xlmr", "openclip_siglip"])
def test_rows_are_those_of_open_clip(zoo, kind, record_property):
    name = getattr(zoo, kind)
    encoder = registry.load(name)
    texts, photos = direct(name)
    ours = encoder.photos.encode(np.stack([encoder.photos.prepare(photo) for photo in pictures()]))
    difference = max(np.abs(encoder.texts.encode(TEXTS) - texts).max(), np.abs(ours - photos).max())
    record_property("largest difference", float(difference))
    assert difference < 2e-6


@pytest.mark.parametrize("kind", ["openclip", "openclip_xlmr", "openclip_siglip", "clip", "siglip", "siglip2"])
def test_half_precision_is_near_and_another_encoder(zoo, kind):
    name = getattr(zoo, kind)
    exact, half = registry.load(name), registry.load(f"{name}, precision=bf16, device=cpu")
    assert half.name == f"{name}, precision=bf16, device=cpu"
    assert half.runs_on.startswith("cpu, bf16")
    assert exact.fingerprint != half.fingerprint
    assert not exact.reads(half.fingerprint)
    batch = np.stack([exact.photos.prepare(photo) for photo in pictures()])
    for a, b in (
        (exact.texts.encode(TEXTS), half.texts.encode(TEXTS)),
        (exact.photos.encode(batch), half.photos.encode(batch)),
    ):
        assert (a * b).sum(axis=1).min() > 0.98
        assert not np.array_equal(a, b)


def test_compiling_changes_no_row(zoo, monkeypatch):
    import functools

    import torch

    compiled = []

    def spy(function, **options):
        compiled.append(function)
        return original(function, backend="eager", **options)

    original = functools.partial(torch.compile)
    monkeypatch.setattr(torch, "compile", spy)
    plain, fast = registry.load(zoo.openclip), registry.load(f"{zoo.openclip}, compile=yes")
    assert len(compiled) == 2
    assert fast.fingerprint == plain.fingerprint
    assert "compiled" in fast.runs_on
    batch = np.stack([plain.photos.prepare(photo) for photo in pictures()])
    assert np.allclose(fast.photos.encode(batch), plain.photos.encode(batch), atol=1e-6)
    assert np.allclose(fast.texts.encode(TEXTS), plain.texts.encode(TEXTS), atol=1e-6)


def test_the_context_counts_text_tokens_only(zoo):
    assert registry.load(zoo.openclip).texts.context == 75
    assert registry.load(zoo.openclip_xlmr).texts.context == 75
    assert registry.load(zoo.openclip_siglip).texts.context == 63


def test_fingerprints_follow_the_weights_not_the_file(zoo, tmp_path):
    import torch
    from safetensors.torch import load_file, save_file

    state = load_file(weights_of(zoo.openclip))
    torch.save(
        {"epoch": 3, "state_dict": {f"module.{key}": tensor for key, tensor in state.items()}}, tmp_path / "training.pt"
    )
    one = registry.load(zoo.openclip)
    assert registry.load(f"openclip:tiny@{tmp_path / 'training.pt'}").fingerprint == one.fingerprint
    state["visual.ln_post.bias"][0] += 1e-6
    save_file(state, tmp_path / "other.safetensors")
    other = registry.load(f"openclip:tiny@{tmp_path / 'other.safetensors'}")
    assert other.texts.fingerprint == one.texts.fingerprint
    assert other.photos.fingerprint != one.photos.fingerprint


def test_a_text_tower_joins_the_frozen_photo_tower_it_was_trained_with(zoo):
    pair, base, multilingual = (registry.load(name) for name in (zoo.pair, zoo.openclip, zoo.openclip_xlmr))
    assert pair.name == zoo.pair
    assert pair.photos.fingerprint == base.photos.fingerprint == multilingual.photos.fingerprint
    assert pair.texts.fingerprint == multilingual.texts.fingerprint != base.texts.fingerprint
    assert pair.reads(base.fingerprint)
    assert base.reads(pair.fingerprint)


@pytest.mark.parametrize("kind", ["pair", "sentence", "clip"])
def test_a_pair_holds_one_tower_of_each_model(zoo, kind):
    """And what is let go of is used by nothing: its rows are those of the two models."""
    name = f"text={zoo.clip}, image={zoo.clip}" if kind == "clip" else getattr(zoo, kind)
    pair, base = registry.load(name), registry.load(zoo.clip if kind == "clip" else zoo.openclip)
    of_photos = ("visual.", "vision_model.", "visual_projection.")
    assert all(key.startswith((*of_photos, "logit_")) for key in pair.photos.model.state_dict())
    assert not any(key.startswith(of_photos) for key in pair.texts.model.state_dict())
    batch = np.stack([base.photos.prepare(photo) for photo in pictures()])
    assert np.array_equal(pair.photos.encode(batch), base.photos.encode(batch))
    if kind != "sentence":
        whole = base if kind == "clip" else registry.load(zoo.openclip_xlmr)
        assert np.array_equal(pair.texts.encode(TEXTS), whole.texts.encode(TEXTS))


def test_an_index_serves_every_text_tower_of_its_space(zoo, tmp_path):
    from photodesk.errors import StoreError
    from photodesk.features.store import Store
    from photodesk.search.flat_index import Searcher, build_index

    for i, photo in enumerate(pictures()):
        (tmp_path / "photos").mkdir(exist_ok=True)
        photo.save(tmp_path / "photos" / f"{i}.png")
    base, pair = registry.load(zoo.openclip), registry.load(zoo.pair)
    index, _ = build_index(tmp_path / "photos", tmp_path / "index", base, store=Store(tmp_path / "store"))
    hits = Searcher.open(tmp_path / "index", pair).search("Hochwasser an der Elbe", top=3)
    scores = index.embeddings.rows @ pair.texts.encode(["Hochwasser an der Elbe"])[0]
    assert [hit.photo for hit in hits] == [index.embeddings.ids[i] for i in np.argsort(-scores)]
    with pytest.raises(StoreError, match="was made by"):
        Searcher.open(tmp_path / "index", registry.load(zoo.openclip_other))


@pytest.mark.parametrize(("change", "says"), [(1e-3, "1 of 32 tensors .* differ, by up to 0.001"), (0.0, None)])
def test_a_pair_of_different_photo_towers_is_refused(zoo, tmp_path, change, says):
    from safetensors.torch import load_file, save_file

    state = load_file(weights_of(zoo.openclip))
    state["visual.ln_post.bias"][0] += change
    if not says:  # published in half precision: the same tower
        state = {key: tensor.half().float() for key, tensor in state.items()}
    save_file(state, tmp_path / "changed.safetensors")
    name = f"text={zoo.openclip_xlmr}, image=openclip:tiny@{tmp_path / 'changed.safetensors'}"
    if says:
        with pytest.raises(EncoderError, match=says):
            registry.load(name)
    else:
        assert (
            registry.load(name).photos.fingerprint
            == registry.load(f"openclip:tiny@{tmp_path / 'changed.safetensors'}").photos.fingerprint
        )


def test_a_pair_of_other_preprocessing_or_another_make_is_refused(zoo, tmp_path):
    folder = tmp_path / "squashed"
    folder.mkdir()
    (folder / "open_clip_model.safetensors").write_bytes(weights_of(zoo.openclip).read_bytes())
    (folder / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": {}, "preprocess_cfg": {"resize_mode": "squash"}})
    )
    with pytest.raises(EncoderError, match="same weights but prepare photos"):
        registry.load(f"text={zoo.openclip_xlmr}, image=openclip:tiny@{folder}")
    with pytest.raises(EncoderError, match="built differently"):
        registry.load(f"text={zoo.openclip_siglip}, image={zoo.openclip}")
    with pytest.raises(UsageError, match=r"builtin.* cannot be image of a pair"):
        registry.load(f"text={zoo.openclip}, image=builtin")


@pytest.mark.parametrize(
    ("name", "error", "says"),
    [
        (
            "openclip:ViT-H-14/dfn5b",
            EncoderError,
            "with QuickGELU and ViT-H-14 computes without it.*say openclip:ViT-H-14-quickgelu/dfn5b",
        ),
        (
            "openclip:ViT-B-32-quickgelu/laion2b_s34b_b79k",
            UsageError,
            "no weights 'laion2b_s34b_b79k' of ViT-B-32-quickgelu",
        ),
        ("openclip:ViT-H-14/laion2b_s32b", UsageError, "it has laion2b_s32b_b79k"),
        ("openclip:ViT-H14/openai", UsageError, "did you mean .*ViT-H-14"),
        ("openclip:ViT-B-32", UsageError, "names no weights; say openclip:ViT-B-32/TAG with one of openai"),
        ("openclip:ViT-B-32@nowhere.safetensors", EncoderError, "there is no checkpoint nowhere.safetensors"),
        ("openclip:ViT-B-32/openai, precision=fp16, device=cpu", UsageError, "fp16 needs a GPU"),
    ],
)
def test_a_name_that_would_mislead_is_refused(zoo, name, error, says):
    with pytest.raises(error, match=says):
        registry.load(name)


NAMED = {
    "ViT-H-14/laion2b_s32b_b79k": "laion/CLIP-ViT-H-14-laion2B-s32B-b79K",
    "ViT-H-14-quickgelu/dfn5b": "apple/DFN5B-CLIP-ViT-H-14",
    "xlm-roberta-large-ViT-H-14/frozen_laion5b_s13b_b90k": "laion/"
    "CLIP-ViT-H-14-frozen-xlm-roberta-large-laion5B-s13B-b90k",
    "ViT-B-32/openai": "timm/vit_base_patch32_clip_224.openai",
    "ViT-B-32/laion2b_s34b_b79k": "laion/CLIP-ViT-B-32-laion2B-s34B-b79K",
    "MobileCLIP2-S0/dfndr2b": "timm/MobileCLIP2-S0-OpenCLIP",
    "ViT-B-16-SigLIP2-256/webli": "timm/ViT-B-16-SigLIP2-256",
}


@pytest.mark.parametrize(("model", "repository"), NAMED.items())
def test_every_model_of_the_list_is_asked_for_by_name(zoo, monkeypatch, model, repository):
    monkeypatch.setattr(hf_hub, "unreachable", lambda address: "no network")
    with pytest.raises(EncoderError) as caught:
        registry.load(f"openclip:{model}")
    for part in ("open_clip_model.safetensors", repository, str(hf_hub.place(repository)), f"openclip:{model}@FILE"):
        assert part in str(caught.value)


def test_openai_weights_compute_with_quickgelu_by_either_name(zoo, tmp_path, monkeypatch):
    from photodesk.encoders import openclip

    asked = []
    monkeypatch.setattr(
        openclip._Named, "model", lambda named, runner: asked.append((named.name, named.config["quick_gelu"])) or 1 / 0
    )
    (tmp_path / "file.safetensors").write_bytes(b"x")
    for name in ("ViT-B-32", "ViT-B-32-quickgelu"):
        with pytest.raises(ZeroDivisionError):
            registry.load(f"openclip:{name}/openai@{tmp_path / 'file.safetensors'}")
    assert asked == [("ViT-B-32-quickgelu", True)] * 2


def test_a_download_gives_the_encoder_that_the_file_gives(zoo, tmp_path, monkeypatch):
    """A tag as open_clip lists it, with the hub replaced by a folder."""
    import open_clip.pretrained as listed

    tiny.openclip_config(zoo.folder / "configs", "tiny-tagged")
    entry = {
        "url": "",
        "hf_hub": "someone/tiny/",
        "mean": (0.5,) * 3,
        "std": (0.5,) * 3,
        "interpolation": "bilinear",
        "resize_mode": "squash",
    }
    monkeypatch.setitem(listed._PRETRAINED, "tiny-tagged", {"toy": entry})
    monkeypatch.setattr(hf_hub, "unreachable", lambda address: "")
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda repository, name: str(weights_of(zoo.openclip)))
    downloaded = registry.load("openclip:tiny-tagged/toy")
    named = registry.load(f"openclip:tiny-tagged/toy@{weights_of(zoo.openclip)}")
    assert downloaded.fingerprint == named.fingerprint
    pixels = downloaded.photos.pixels
    assert (pixels.mean, pixels.std, pixels.interpolation, pixels.resize_mode) == (
        (0.5,) * 3,
        (0.5,) * 3,
        "bilinear",
        "squash",
    )
    # a bare file takes what all tags of the model agree on …
    assert registry.load(f"openclip:tiny-tagged@{weights_of(zoo.openclip)}").photos.pixels == pixels
    # … and is refused where they do not
    monkeypatch.setitem(listed._PRETRAINED, "tiny-tagged", {"toy": entry, "more": entry | {"resize_mode": "shortest"}})
    with pytest.raises(
        EncoderError,
        match=r"differ in how photos are prepared.*openclip:tiny-tagged/toy@.* or openclip:tiny-tagged/more@",
    ):
        registry.load(f"openclip:tiny-tagged@{weights_of(zoo.openclip)}")


def test_quickgelu_is_computed_and_known_from_what_lies_beside_a_file(zoo, tmp_path):
    tiny.openclip_config(zoo.folder / "configs", "tiny-quickgelu", quick_gelu=True)
    file = tmp_path / "open_clip_model.safetensors"
    file.write_bytes(weights_of(zoo.openclip).read_bytes())
    name = f"openclip:tiny-quickgelu@{file}"
    quick = registry.load(name)
    texts, photos = direct(name)
    assert np.abs(quick.texts.encode(TEXTS) - texts).max() < 2e-6
    assert (
        np.abs(quick.photos.encode(np.stack([quick.photos.prepare(photo) for photo in pictures()])) - photos).max()
        < 2e-6
    )
    plain = registry.load(f"openclip:tiny@{file}")
    assert plain.photos.fingerprint != quick.photos.fingerprint
    assert plain.texts.fingerprint != quick.texts.fingerprint
    (tmp_path / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": {"quick_gelu": True}, "preprocess_cfg": {}})
    )
    assert registry.load(name).fingerprint == quick.fingerprint
    with pytest.raises(EncoderError, match="with QuickGELU and tiny computes without it"):
        registry.load(f"openclip:tiny@{tmp_path}")


def test_the_place_of_a_file_tells_what_it_is(zoo, tmp_path):
    """A file of the hub keeps its repository's name in its path, and OpenAI's need QuickGELU."""
    folder = tmp_path / "models--timm--vit_base_patch32_clip_224.openai" / "snapshots"
    folder.mkdir(parents=True)
    (folder / "open_clip_model.safetensors").write_bytes(b"x")
    with pytest.raises(
        EncoderError, match=r"with QuickGELU and ViT-B-32 computes without it.*openclip:ViT-B-32-quickgelu@"
    ):
        registry.load(f"openclip:ViT-B-32@{folder}")


class Evil:
    def __reduce__(self):
        return Path.touch, (Path("pwned"),)


def test_nothing_but_tensors_is_unpickled(zoo, tmp_path, monkeypatch):
    import torch

    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": {"a": Evil()}}, "evil.pt")
    Path("raw.pt").write_bytes(pickle.dumps({"a": Evil()}))
    for file in ("evil.pt", "raw.pt"):
        with pytest.raises(EncoderError, match="never pickled code"):
            registry.load(f"openclip:tiny@{tmp_path / file}" if zoo.openclip else "")
    assert not Path("pwned").exists()


def test_damaged_and_foreign_weights_are_named(zoo, tmp_path):
    from safetensors.torch import load_file, save_file

    state = load_file(weights_of(zoo.openclip))
    (tmp_path / "cut.safetensors").write_bytes(weights_of(zoo.openclip).read_bytes()[:5000])
    save_file(
        {key: tensor for key, tensor in state.items() if key != "text_projection"}, tmp_path / "lacking.safetensors"
    )
    stretched = dict(state)
    stretched["visual.positional_embedding"] = stretched["visual.positional_embedding"][:1].repeat(10, 1)
    save_file(stretched, tmp_path / "larger.safetensors")
    for name, says in (
        ("cut", "cannot be read as weights of tiny"),
        ("lacking", "text_projection"),
        ("larger", "another resolution"),
    ):
        with pytest.raises(EncoderError, match=says):
            registry.load(f"openclip:tiny@{tmp_path / name}.safetensors")
    (tmp_path / "empty").mkdir()
    with pytest.raises(EncoderError, match="holds no checkpoint"):
        registry.load(f"openclip:tiny@{tmp_path / 'empty'}")


def test_a_torchvision_that_does_not_fit_is_explained(monkeypatch):
    from photodesk.encoders import openclip

    def broken(module, extra):
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr(openclip, "require", broken)
    with pytest.raises(EncoderError, match="install torch and torchvision from the same index"):
        openclip.library()


def test_errors_are_for_users(zoo):
    assert issubclass(EncoderError, PhotodeskError)
    with pytest.raises(UsageError, match="no encoder 'opencliip:x'; known: builtin, clip, onnx, openclip, sentence"):
        registry.load("opencliip:x")


def test_pipeline_threads_compute_beside_each_other_on_a_core_each_and_others_take_turns():
    torch = pytest.importorskip("torch")
    runner = Runner(one("openclip:RN50"), "openclip")
    inside, seen = threading.Barrier(2, timeout=20), []

    def call(meet):
        def function(x):
            if meet:
                inside.wait()  # passes only while two threads are in the model at once
            seen.append(torch.get_num_threads())
            return x + 1.0

        return runner.rows(function, np.zeros((2, 3), np.float32))

    whole = torch.get_num_threads()
    with ThreadPoolExecutor(2, initializer=one_core) as pool:
        rows = list(pool.map(call, [True, True]))
    np.testing.assert_allclose(np.stack(rows), 3**-0.5)
    assert seen == [1, 1]
    call(False)
    assert seen[2:] == [whole]
    assert torch.get_num_threads() == whole
    assert runner._lock.acquire(blocking=False)  # the others' turn is over
    try:
        with ThreadPoolExecutor(1) as pool:
            waits = pool.submit(call, False)
            with pytest.raises(TimeoutError):
                waits.result(timeout=0.3)
            runner._lock.release()
            waits.result(timeout=20)
    finally:
        if runner._lock.locked():
            runner._lock.release()


def test_the_cores_share_the_photos_that_a_model_may_hold(monkeypatch):
    torch = pytest.importorskip("torch")
    for cores, photos in ((1, 64), (2, 32), (16, 4), (64, 4)):
        monkeypatch.setattr(torch, "get_num_threads", lambda cores=cores: cores)
        assert Runner(one("openclip:RN50, device=cpu"), "openclip").most == photos
