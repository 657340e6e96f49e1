"""Write an open_clip model as ONNX that runs without torch, and prove that it is the same model.

int8 is onnxruntime's dynamic quantisation of the matrix products, one scale per output channel, in 7 of the 8 bits, so
that no processor's sums overflow. Whatever is written has a cosine of at least `LEAST` to the original on each of a
hundred photos and on each text of a list, or nothing is written.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from photodesk import images as pictures
from photodesk.encoders import onnx, openclip
from photodesk.encoders.base import Encoder
from photodesk.encoders.mixed import SENTENCES
from photodesk.encoders.spec import Spec, parse
from photodesk.errors import EncoderError, PhotoError, UsageError, require
from photodesk.files import read_text, replacing
from photodesk.types import FloatArray, Photo

if TYPE_CHECKING:
    from PIL import Image

LEAST = 0.99
LARGE = 1_800_000_000  # bytes of a file from which on its weights lie next to it: ONNX files end at 2 GiB
COUNT = 100
TEXTS = (
    *SENTENCES,
    "",
    "Hochwasser an der Elbe: Dörfer evakuiert",
    "日本の首相が辞任を発表",
    "Wahlen!!! (2025) – 50 % mehr & „neu“",
    "I'll, we've, don't; it's",
    "naïve façade",
    "U.S. economy grew 3.2% in Q4",
    "Наводнение в городе",
    "😀 emoji 👍🏽",
    "&amp; HTML &lt;b&gt;",
    "a" * 300,
    "breaking news " * 60,
)


def export(
    name: str, folder: Path, *, precisions: Sequence[str] = ("fp32", "int8"), photos: Sequence[Photo] = ()
) -> dict[str, Any]:
    """Export `openclip:…` into `folder`.

    Args:
        photos: at least a hundred real ones to compare with; without any, a hundred are drawn.

    Returns:
        the card that lies in the folder as `photodesk.json`: among others the least cosines to the original.

    Raises:
        UsageError: not an open_clip model, too few photos, or the folder holds something else.
        EncoderError: the export differs from its original; nothing is written.
    """
    if "" not in (parts := parse(name)) or parts[""].family != "openclip":
        raise UsageError(f"{name}: openclip:MODEL/TAG can be exported, nothing else")
    for module in ("onnx", "tokenizers"):
        require(module, onnx.EXTRA)
    folder = folder.expanduser().resolve()
    _check_free(folder)
    spec = replace(parts[""], device="cpu", precision="fp32", compile="no")
    pixels = [*_decoded(photos)] if photos else [scene(seed) for seed in range(COUNT)]
    if len(pixels) < COUNT:
        raise UsageError(f"{len(pixels)} of the photos can be opened; an export is compared on {COUNT}")
    original = openclip.load(spec)
    texts, towers = original.texts, original.photos
    assert isinstance(texts, openclip.Texts)
    assert isinstance(towers, openclip.Photos)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as temporary:
        made = Path(temporary, folder.name)
        made.mkdir()  # a temporary folder itself is its owner's alone
        about = _tokenizer(texts, made / "tokenizer.json")
        _towers(texts, towers, made, precisions)
        card = {
            "format": onnx.FORMAT,
            "source": str(replace(spec, device="auto")),
            "source_fingerprint": original.fingerprint,
            "dim": texts.dim,
            "pixels": towers.pixels.asdict(),
            "text": about,
            "compared_on": f"{COUNT} {'photos of the user' if photos else 'drawn pictures'}, {len(TEXTS)} texts",
            "files": {path.name: onnx.file_digest(path) for path in sorted(made.iterdir())},
        }
        (made / "photodesk.json").write_text(json.dumps(card), "utf-8")
        card["least_cosine"] = {
            p: _compare(original, Spec("onnx", "", made, precision=p), pixels[:COUNT]) for p in precisions
        }
        with replacing(made / "photodesk.json") as stream:
            stream.write(json.dumps(card, indent=1, ensure_ascii=False) + "\n")
        _put(made, folder)
    return card


def _check_free(folder: Path) -> None:
    """Refuse a folder whose place an export cannot take: it holds files that an export did not write, or somebody works
    in it."""
    if Path.cwd().is_relative_to(folder):
        raise UsageError(
            f"{folder} is the folder that you are in, and an export takes the whole place; name a new folder"
        )
    held = {path.name for path in folder.iterdir()} if folder.exists() else set()
    if not held:
        return
    try:
        own = {"photodesk.json", *json.loads(read_text(folder / "photodesk.json"))["files"]}
    except (OSError, ValueError, KeyError, TypeError):
        raise UsageError(f"{folder} is not empty and holds no export; name a new folder") from None
    if others := sorted(held - own):
        raise UsageError(
            f"{folder} holds an export and other files, such as {others[0]}; move them away, or name a new folder"
        )


def _put(made: Path, folder: Path) -> None:
    """Bring a finished folder to its place; the old one is deleted last, so whatever happens in between, one of the two
    is whole."""
    if not folder.exists():
        made.rename(folder)
        return
    apart = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.old."))
    old = folder.rename(apart / folder.name)
    try:
        made.rename(folder)
    except BaseException:
        old.rename(folder)
        apart.rmdir()
        raise
    shutil.rmtree(apart)


def _compare(original: Encoder, spec: Spec, photos: Sequence[Image.Image]) -> dict[str, float]:
    """The least cosine of the exported towers to the original ones, over photos and over texts."""
    exported = onnx.load(spec)
    batch = np.stack([original.photos.prepare(photo) for photo in photos])
    same = np.array_equal(batch[0], exported.photos.prepare(photos[0]))
    least = {
        "photos": _least(original.photos.encode(batch), exported.photos.encode(batch)) if same else 0.0,
        "texts": _least(original.texts.encode(TEXTS), exported.texts.encode(TEXTS)),
    }
    for tower, cosine in least.items():
        if not cosine >= LEAST:
            raise EncoderError(
                f"the {spec.precision} export of {tower} reaches a cosine of {cosine:.4f} to the original only, less "
                f"than {LEAST}; nothing was "
                "written" + ("; export with --precision fp32" if spec.precision == "int8" else "")
            )
    return {tower: round(cosine, 6) for tower, cosine in least.items()}


def _least(a: FloatArray, b: FloatArray) -> float:
    return float(np.einsum("nd,nd->n", a, b).min())


def _towers(texts: openclip.Texts, photos: openclip.Photos, folder: Path, precisions: Sequence[str]) -> None:
    """Write both towers into `folder` in these precisions."""
    import torch

    class Call(torch.nn.Module):
        """A method of the model as a module, which is what the exporter takes."""

        def __init__(self, model: Any, method: str) -> None:
            super().__init__()
            self.model, self.method = model, method

        def forward(self, x: Any) -> Any:
            return getattr(self.model, self.method)(x)

    ids = texts.tokenizer(["a photo", "two"])
    pixels = torch.from_numpy(np.zeros((2, 3, photos.size, photos.size), np.float32))
    for name, method, given, argument in (
        ("texts", "encode_text", ids, "ids"),
        ("photos", "encode_image", pixels, "pixels"),
    ):
        target = folder / onnx.file_name(name, "fp32")
        with (
            _plain_attention(torch),
            _patches_multiplied(torch, photos.model),
            torch.no_grad(),
            tempfile.TemporaryDirectory(dir=folder) as apart,
        ):
            torch.onnx.export(
                Call(photos.model, method).eval(),
                (given,),
                str(Path(apart) / target.name),
                input_names=[argument],
                output_names=["rows"],
                dynamic_axes={argument: {0: "n"}, "rows": {0: "n"}},
                opset_version=17,
                dynamo=False,
            )
            _gather(Path(apart), target)
        if "int8" in precisions:
            _quantize(target, folder / onnx.file_name(name, "int8"))
        if "fp32" not in precisions:
            for path in folder.glob(f"{target.name}*"):
                path.unlink()


def _gather(apart: Path, target: Path) -> None:
    """Bring a tower that the exporter wrote into `apart` to `target`; of a large one, all weights into one file next to
    it."""
    if sum(path.stat().st_size for path in apart.iterdir()) < LARGE:
        (apart / target.name).rename(target)
        return
    library = require("onnx", onnx.EXTRA)
    model = library.load(apart / target.name)
    library.save_model(model, target, save_as_external_data=True, location=f"{target.name}.data", size_threshold=1024)


@contextmanager
def _patches_multiplied(torch: Any, model: Any) -> Iterator[None]:
    """Compute convolutions whose patches do not overlap as matrix products, which int8 has and convolutions do not: a
    tenth of the time."""

    class Patches(torch.nn.Module):  # type: ignore[misc]  # torch is untyped here
        def __init__(self, conv: Any) -> None:
            super().__init__()
            self.high, self.wide = conv.kernel_size
            self.linear = torch.nn.Linear(conv.weight[0].numel(), len(conv.weight), conv.bias is not None)
            with torch.no_grad():
                self.linear.weight.copy_(conv.weight.flatten(1))
                if conv.bias is not None:
                    self.linear.bias.copy_(conv.bias)

        def forward(self, x: Any) -> Any:
            n, channels, height, width = x.shape
            rows, columns = height // self.high, width // self.wide
            parts = x.reshape(n, channels, rows, self.high, columns, self.wide).permute(0, 2, 4, 1, 3, 5)
            return self.linear(parts.reshape(n, rows, columns, -1)).permute(0, 3, 1, 2)

    swapped = []
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            apart = isinstance(child, torch.nn.Conv2d) and child.kernel_size == child.stride and child.groups == 1
            if apart and max(child.kernel_size) > 1 and child.padding in ((0, 0), "valid") and child.dilation == (1, 1):
                swapped.append((parent, name, child))
                setattr(parent, name, Patches(child).eval())
    try:
        yield
    finally:
        for parent, name, child in swapped:
            setattr(parent, name, child)


@contextmanager
def _plain_attention(torch: Any) -> Iterator[None]:
    """Switch off torch's fused attention, which has no ONNX form, and the tracer's talk."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def _quantize(source: Path, target: Path) -> None:
    import logging

    from onnxruntime.quantization import QuantType, quantize_dynamic

    large = sum(path.stat().st_size for path in source.parent.glob(f"{source.name}*")) >= LARGE
    logging.disable(logging.WARNING)  # it advises a preparation that dynamic quantisation does not need
    try:
        quantize_dynamic(
            source,
            target,
            op_types_to_quantize=["MatMul", "Gemm"],
            per_channel=True,
            reduce_range=True,
            weight_type=QuantType.QInt8,
            use_external_data_format=large,
        )
    finally:
        logging.disable(logging.NOTSET)


def _tokenizer(texts: openclip.Texts, path: Path) -> dict[str, Any]:
    """Write the tokenizer as `tokenizer.json`; returns how it is to be used."""
    own, inner = texts.tokenizer, texts.inner
    kind = getattr(own.clean_fn, "__name__", "").removeprefix("_clean_")
    if kind not in ("whitespace", "lower", "canonicalize"):
        raise EncoderError(f"texts of this model are cleaned in a way that cannot be exported ({kind})")
    about: dict[str, Any] = {
        "clean": kind,
        "context": own.context_length,
        "zeroed": None,
        "padding_side": "right",
        "bytes": inner is None,
    }
    if inner is None:
        _byte_pairs(own).save(str(path))
        return about | {"pad_id": 0, "pad_token": "!"}
    if getattr(own, "tokenizer_mode", "") or not hasattr(inner, "backend_tokenizer"):
        raise EncoderError("the tokenizer of this model cannot be exported")
    inner.backend_tokenizer.save(str(path))
    about |= {"pad_id": inner.pad_token_id, "pad_token": inner.pad_token, "padding_side": inner.padding_side}
    return about | {"zeroed": inner.sep_token_id if own.strip_sep_token else None}


def _byte_pairs(own: Any) -> Any:
    """CLIP's own tokenizer as one of the library `tokenizers`."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors

    merges = sorted(own.bpe_ranks, key=own.bpe_ranks.get)
    made = Tokenizer(models.BPE(vocab=own.encoder, merges=merges, end_of_word_suffix="</w>"))
    words = Regex(r"'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+")
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(words, "removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    first, last = (
        next(sign for sign, i in own.encoder.items() if i == number) for number in (own.sot_token_id, own.eot_token_id)
    )
    made.post_processor = processors.TemplateProcessing(
        single=f"{first} $A {last}", special_tokens=[(first, own.sot_token_id), (last, own.eot_token_id)]
    )
    return made


def _decoded(photos: Sequence[Photo]) -> Iterator[Image.Image]:
    count = 0
    for photo in photos:
        if count == COUNT:
            return
        try:
            yield pictures.load(photo.path, size=512)
        except PhotoError:
            continue
        count += 1


def scene(seed: int) -> Image.Image:
    """A drawn picture with a photo's spectrum (power falls with the square of frequency) and some hard edges."""
    from PIL import Image, ImageDraw

    random = np.random.default_rng(seed)
    height, width = random.integers(160, 400, 2)
    away = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]) + 1 / width
    waves = random.normal(size=(3, height, width // 2 + 1)) + 1j * random.normal(size=(3, height, width // 2 + 1))
    field = np.fft.irfft2(waves / away, s=(height, width))
    field = (field - field.mean()) / field.std() * 55 + random.integers(60, 190, (3, 1, 1))
    picture = Image.fromarray(np.ascontiguousarray(field.clip(0, 255).astype(np.uint8).transpose(1, 2, 0)))
    draw = ImageDraw.Draw(picture)
    for _ in range(int(random.integers(1, 6))):
        x, y = int(random.integers(0, width)), int(random.integers(0, height))
        box = (x, y, x + int(random.integers(5, width)), y + int(random.integers(5, height)))
        colour = tuple(int(value) for value in random.integers(0, 256, 3))
        (draw.rectangle if random.random() < 0.5 else draw.ellipse)(box, fill=colour)
    return picture
