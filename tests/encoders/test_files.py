"""Names, files and weights of encoders: spec, hf_hub, checkpoint, preprocess, text_cleanup, torch_runner."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from photodesk.encoders import checkpoint, hf_hub
from photodesk.encoders.preprocess import Pixels
from photodesk.encoders.spec import OPTIONS, Spec, parse
from photodesk.encoders.text_cleanup import clean
from photodesk.errors import EncoderError, UsageError
from photodesk.images import REDUCED
from photodesk.text_repair import encodable

word = st.text("abcXYZ019-_.", min_size=1, max_size=12)
specs = st.builds(
    Spec,
    st.sampled_from(["openclip", "clip", "onnx"]),
    st.one_of(word, st.tuples(word, word).map("/".join)),
    st.one_of(st.none(), word.map(lambda name: Path("models, mine") / name)),
    precision=st.sampled_from(OPTIONS["precision"]),
    device=st.sampled_from(OPTIONS["device"]),
    compile=st.sampled_from(OPTIONS["compile"]),
)


@given(specs)
def test_a_name_prints_as_it_parses(spec):
    assert parse(str(spec)) == {"": spec}


@given(specs, specs)
def test_options_of_a_pair_hold_for_both(text, image):
    plain_text = dataclasses.replace(text, precision="fp32", device="auto", compile="no")
    found = parse(f"text={plain_text}, image={image}")
    assert found["image"] == image
    assert found["text"] == dataclasses.replace(
        text, precision=image.precision, device=image.device, compile=image.compile
    )


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("openclip:ViT-B-32/openai, precision=fp64", "fp64 is not one of fp32"),
        ("openclip:ViT-B-32/openai, precison=fp16", "no option 'precison'; options are precision"),
        ("text=openclip:A/b", "a pair reads text=MODEL, image=MODEL"),
        ("image=openclip:A/b, device=cpu", "a pair reads"),
    ],
)
def test_a_name_that_cannot_be_read_says_why(name, says):
    with pytest.raises(UsageError, match=says):
        parse(name)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PHOTODESK_CACHE", str(tmp_path / "cache"))
    pytest.importorskip("huggingface_hub")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    forget = hf_hub.unreachable.cache_clear
    forget()
    yield tmp_path
    forget()


def test_a_file_placed_by_hand_is_found_without_a_network(cache, monkeypatch):
    monkeypatch.setattr(hf_hub, "unreachable", lambda address: pytest.fail("asked the network"))
    mine = hf_hub.place("owner/name") / "second.bin"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"x")
    assert hf_hub.file("owner/name", ("first.safetensors", "second.bin")) == mine
    (mine.parent / "first.safetensors").write_bytes(b"x")
    assert hf_hub.file("owner/name", ("first.safetensors", "second.bin")).name == "first.safetensors"


def test_without_a_network_the_message_says_which_file_to_put_where(cache, monkeypatch):
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda *a, **k: pytest.fail("tried to download"))
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")  # nobody listens there
    with pytest.raises(EncoderError) as caught:
        hf_hub.file("owner/name", ("model.safetensors",), instead="openclip:ViT-B-32@FILE")
    for part in (
        "owner/name",
        "cannot be reached",
        "Connection refused",
        str(hf_hub.place("owner/name")),
        "openclip:ViT-B-32@FILE",
    ):
        assert part in str(caught.value)
    with pytest.raises(EncoderError, match=r"config\.json"):
        hf_hub.folder("owner/name")


def test_offline_mode_asks_nobody(cache, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr(hf_hub, "unreachable", lambda address: pytest.fail("asked the network"))
    with pytest.raises(EncoderError, match="HF_HUB_OFFLINE forbids"):
        hf_hub.file("owner/name", ("model.safetensors",))


def test_a_hub_that_never_answers_is_given_up(monkeypatch):
    hf_hub.unreachable.cache_clear()
    monkeypatch.setattr(hf_hub, "TIMEOUT", 0.05)
    monkeypatch.setattr("urllib.request.urlopen", lambda *a, **k: time.sleep(3600))  # a name server that says nothing
    assert hf_hub.unreachable("https://example.org") == "no answer in 0 seconds"
    hf_hub.unreachable.cache_clear()


def test_a_reachable_hub_is_asked_for_the_names_in_turn(cache, monkeypatch):
    from huggingface_hub.errors import RemoteEntryNotFoundError

    asked = []

    def download(repository, name):
        asked.append((repository, name))
        if name == "a.safetensors":
            raise RemoteEntryNotFoundError.__new__(
                RemoteEntryNotFoundError
            )  # its arguments differ between versions of the library
        return str(cache / name)

    monkeypatch.setattr(hf_hub, "unreachable", lambda address: "")
    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    assert hf_hub.file("owner/name", ("a.safetensors", "b.bin")) == cache / "b.bin"
    assert asked == [("owner/name", "a.safetensors"), ("owner/name", "b.bin")]
    monkeypatch.setattr(
        "huggingface_hub.hf_hub_download", lambda *a: (_ for _ in ()).throw(TimeoutError("read timed out"))
    )
    with pytest.raises(EncoderError, match="download failed: read timed out"):
        hf_hub.file("owner/name", ("a.safetensors",))


def test_a_folder_of_the_user_is_taken_or_told_what_it_lacks(cache):
    mine = cache / "mine"
    mine.mkdir()
    with pytest.raises(EncoderError, match=r"lacks config\.json"):
        hf_hub.folder(str(mine))
    (mine / "config.json").write_text("{}")
    assert hf_hub.folder(str(mine)) == mine


def test_a_digest_changes_with_every_number_name_and_type():
    torch = pytest.importorskip("torch")
    base = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor(1.0)}
    others = [
        base | {"a": base["a"] + torch.eye(2, 3) * 1e-6},
        base | {"a": base["a"].reshape(3, 2)},
        base | {"b": torch.tensor(1)},
        base | {"b": torch.tensor(1.0, dtype=torch.bfloat16)},
        {"a": base["a"], "c": base["b"]},
        {"a": base["a"]},
    ]
    digests = [checkpoint.tensor_digest(state) for state in (base, *others)]
    assert len(set(digests)) == len(digests)
    assert checkpoint.tensor_digest(dict(reversed(base.items()))) == digests[0]
    assert checkpoint.tensor_digest({"a": base["a"].T.contiguous().T, "b": base["b"]}) == digests[0]


def test_a_digest_is_computed_once_for_each_state_of_a_file(tmp_path, monkeypatch):
    monkeypatch.setenv("PHOTODESK_CACHE", str(tmp_path / "cache"))
    file = tmp_path / "weights.safetensors"
    file.write_bytes(b"one")
    calls = []

    def compute():
        calls.append(file.read_bytes())
        return {"photos": file.read_bytes().decode()}

    for _ in range(2):
        assert checkpoint.remembered([file], "fp32", compute) == {"photos": "one"}
    assert calls == [b"one"]
    assert checkpoint.remembered([file], "bf16", compute) == {"photos": "one"}
    before = file.stat()
    time.sleep(0.02)  # file times have a resolution
    file.write_bytes(b"two")  # same size …
    import os

    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))  # … and made to look as old
    assert checkpoint.remembered([file], "fp32", compute) == {"photos": "two"}


def test_a_damaged_note_is_computed_again(tmp_path, monkeypatch):
    monkeypatch.setenv("PHOTODESK_CACHE", str(tmp_path / "cache"))
    file = tmp_path / "w.pt"
    file.write_bytes(b"x")
    checkpoint.remembered([file], "", lambda: {"a": "1"})
    for note in (tmp_path / "cache").rglob("*.json"):
        note.write_text("{")
    assert checkpoint.remembered([file], "", lambda: {"a": "2"}) == {"a": "2"}


@pytest.mark.parametrize("name", ["model.npz", "model.pkl", "missing.safetensors"])
def test_only_checkpoints_are_read(tmp_path, name):
    if not name.startswith("missing"):
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(EncoderError, match=r"no checkpoint|there is no checkpoint"):
        checkpoint.check_suffix(tmp_path / name)


@pytest.mark.parametrize("mode", ["shortest", "longest", "squash"])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_pixels_are_those_of_open_clip(zoo, mode, interpolation):
    from open_clip.transform import PreprocessCfg, image_transform_v2

    random = np.random.default_rng(0)
    for side in (32, 37):
        pixels = Pixels(side, (0.48, 0.46, 0.41), (0.27, 0.26, 0.28), interpolation, mode, 9)
        cfg = PreprocessCfg(
            size=side, mean=pixels.mean, std=pixels.std, interpolation=interpolation, resize_mode=mode, fill_color=9
        )
        theirs = image_transform_v2(cfg, is_train=False)
        for size in ((32, 32), (50, 33), (33, 51), (37, 90), (20, 30), (200, 31)):
            photo = Image.fromarray(random.integers(0, 256, (size[1], size[0], 3), np.uint8))
            ours = pixels.scaled(pixels.prepare(photo)[None])[0]
            assert np.abs(ours - theirs(photo).numpy()).max() < 1e-6, size


@pytest.mark.parametrize("size", [(600, 417), (417, 600), (300, 300), (257, 999)])
def test_of_a_reduced_picture_only_the_crop_is_computed_to_within_one_level(size):
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 40, 3), np.uint8)).resize(
        size, Image.Resampling.BICUBIC
    )
    pixels = Pixels(224, (0, 0, 0), (1, 1, 1))
    whole = pixels.prepare(photo).astype(int)
    photo.info[REDUCED] = True
    cut = pixels.prepare(photo).astype(int)
    assert np.abs(whole - cut).max() <= 1
    assert (whole != cut).mean() < 0.02


def test_pixels_of_a_needle_are_a_square():
    for mode in ("shortest", "longest", "squash"):
        assert Pixels(8, (0, 0, 0), (1, 1, 1), resize_mode=mode).prepare(Image.new("RGB", (1, 900))).shape == (3, 8, 8)


@pytest.mark.parametrize("size", [(1, 20_000), (20_000, 1), (3, 20_000)])
def test_a_narrow_picture_takes_no_more_memory_than_what_is_kept_of_it(size: tuple[int, int], monkeypatch) -> None:
    largest = []
    resize = Image.Image.resize

    def noted(self: Image.Image, to: tuple[int, int], *more: object) -> Image.Image:
        largest.append(to[0] * to[1])
        return resize(self, to, *more)

    monkeypatch.setattr(Image.Image, "resize", noted)
    levels = np.linspace(0, 255, max(size)).astype(np.uint8).reshape(size[::-1] if min(size) == 1 else (-1, 1))
    photo = Image.fromarray(np.broadcast_to(levels, size[::-1]).copy()).convert("RGB")
    made = Pixels(224, (0, 0, 0), (1, 1, 1)).prepare(photo)
    assert max(largest) == 224 * 224
    assert abs(int(made.mean()) - 127) <= 2  # the middle is kept
    assert int(made.max()) - int(made.min()) <= 4


@pytest.mark.parametrize("kind", ["whitespace", "lower", "canonicalize"])
@given(text=st.text(max_size=40))
def test_texts_are_cleaned_as_open_clip_does(zoo_ready, kind, text):
    from open_clip.tokenizer import get_clean_fn

    assert clean(text, kind) == get_clean_fn(kind)(encodable(text))


def test_halves_of_surrogates_are_replaced():
    assert encodable("a\ud800b") == "a?b"
    assert encodable("日本 😀") == "日本 😀"


@pytest.fixture(scope="module")
def zoo_ready(zoo):
    return zoo


def test_a_device_or_precision_that_is_not_there_is_refused(zoo):
    import torch

    from photodesk.encoders.torch_runner import Runner

    runner = Runner(Spec("openclip", device="cpu", precision="bf16"), "openclip")
    assert str(runner) == f"cpu, bf16, {torch.get_num_threads()} threads"
    with pytest.raises(UsageError, match="fp16 needs a GPU"):
        Runner(Spec("openclip", device="cpu", precision="fp16"), "openclip")
    with pytest.raises(UsageError, match="photodesk export"):
        Runner(Spec("openclip", precision="int8"), "openclip")
    if not torch.cuda.is_available():
        with pytest.raises(UsageError, match="torch finds no device cuda here"):
            Runner(Spec("openclip", device="cuda"), "openclip")


@pytest.mark.parametrize(("cuda", "mps", "chosen"), [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")])
def test_the_fastest_device_is_chosen(zoo, monkeypatch, cuda, mps, chosen):
    import torch

    from photodesk.encoders.torch_runner import Runner

    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert Runner(Spec("openclip"), "openclip").device == chosen
    if chosen != "cpu":
        assert Runner(Spec("openclip", precision="fp16"), "openclip").dtype == torch.float16


def test_rows_that_are_not_finite_are_refused(zoo):
    import torch

    from photodesk.encoders.torch_runner import Runner

    with pytest.raises(EncoderError, match="not finite in fp32"):
        Runner(Spec("clip"), "clip").rows(lambda x: x / 0, torch.zeros(1, 2))
