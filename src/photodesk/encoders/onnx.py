"""Towers that `photodesk export` wrote: `onnx:FOLDER`, or `onnx:FOLDER, precision=int8`. They run without torch.

The folder holds `photodesk.json` (how texts and photos are prepared, and how near the export is to its original),
`tokenizer.json`, and `texts.onnx`, `photos.onnx` for each precision, with the hash of every file.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from photodesk.encoders import checkpoint, onnx_session
from photodesk.encoders.base import Encoder, PhotoTower, TextTower
from photodesk.encoders.preprocess import Pixels
from photodesk.encoders.spec import Spec
from photodesk.encoders.text_cleanup import clean
from photodesk.encoders.txv import unit
from photodesk.errors import EncoderError, UsageError, require
from photodesk.files import open_regular, read_text
from photodesk.types import FloatArray

if TYPE_CHECKING:
    from PIL import Image

FORMAT = "photodesk-onnx/1"
EXTRA = "onnx"


class Texts(TextTower):
    """An exported text tower. See `base.TextTower`."""

    batch = 64

    def __init__(self, model: Path, tokenizer: Path, about: Mapping[str, Any], fingerprint: str, dim: int) -> None:
        self.fingerprint, self.dim, self._about = fingerprint, dim, about
        library = require("tokenizers", EXTRA)
        self._whole, self._cut = (library.Tokenizer.from_file(str(tokenizer)) for _ in range(2))
        self._whole.no_truncation()
        self._whole.no_padding()
        context = int(about["context"])
        self._cut.enable_truncation(max_length=context)
        self._cut.enable_padding(
            direction=about["padding_side"], pad_id=about["pad_id"], pad_token=about["pad_token"], length=context
        )
        self._bytes = library.decoders.ByteLevel() if about["bytes"] else None
        self.context = context - int(self._whole.num_special_tokens_to_add(False))
        self._session = _session(model, 0)

    def encode(self, texts: Sequence[str]) -> FloatArray:
        """(n, dim) float32 unit rows."""
        if not texts:
            return np.zeros((0, self.dim), np.float32)
        found = self._cut.encode_batch([clean(text, self._about["clean"]) for text in texts])
        ids = np.array([one.ids for one in found], np.int64)
        if self._about["zeroed"] is not None:
            ids[ids == self._about["zeroed"]] = 0
        return unit(self._session.run(None, {"ids": ids})[0])

    def tokens(self, text: str) -> list[str]:
        """The pieces that the model reads of `text`."""
        pieces = self._whole.encode(clean(text, self._about["clean"]), add_special_tokens=False).tokens
        bare = [piece.removesuffix("</w>") for piece in pieces]
        return [self._bytes.decode([piece]) for piece in bare] if self._bytes else bare


class Photos(PhotoTower):
    """An exported photo tower. See `base.PhotoTower`."""

    batch = 4  # fits the caches; measured best of 1 to 32 for fp32 and int8

    def __init__(self, model: Path, pixels: Pixels, fingerprint: str, dim: int) -> None:
        self.pixels, self.fingerprint, self.dim, self.size = pixels, fingerprint, dim, pixels.size
        self._session = _session(model, 1)  # the store runs one batch per core

    def prepare(self, photo: Image.Image) -> NDArray[np.uint8]:
        """(3, size, size) bytes."""
        return self.pixels.prepare(photo)

    def encode(self, batch: NDArray[np.generic]) -> FloatArray:
        """(n, dim) float32 unit rows."""
        return unit(self._session.run(None, {"pixels": self.pixels.scaled(batch)})[0])


def load(spec: Spec) -> Encoder:
    """An exported encoder.

    Raises:
        UsageError: no folder is named, or a device or precision that exports do not have.
        EncoderError: the folder holds no export, or a file is missing or was changed since.
        MissingExtra: tokenizers is not installed.
    """
    folder = spec.path or (Path(spec.model).expanduser() if spec.model else None)
    if folder is None:
        raise UsageError("onnx: names no folder; make one with: photodesk export openclip:MODEL/TAG -o FOLDER")
    if spec.precision not in ("fp32", "int8") or spec.device not in ("auto", "cpu") or spec.compile != "no":
        raise UsageError(f"{spec}: exported models run on the CPU, with precision=fp32 or int8")
    about = read_card(folder)
    files: Mapping[str, str] = about["files"]
    texts, photos = (folder / file_name(tower, spec.precision) for tower in ("texts", "photos"))
    if texts.name not in files or photos.name not in files:
        raise EncoderError(
            f"{folder} has no {spec.precision} towers; export them with: photodesk export {about['source']} -o DIR"
        )
    part = {
        name: digest
        for name, digest in files.items()
        if ("int8" in name) == (spec.precision == "int8") or "onnx" not in name
    }
    paths = [folder / name for name in part]
    if lacking := [path.name for path in paths if not path.is_file()]:
        raise EncoderError(f"{folder} lacks {', '.join(lacking)}; export it again")
    found = checkpoint.remembered(paths, "onnx", lambda: {path.name: file_digest(path) for path in paths})
    if changed := [name for name, digest in part.items() if found[name] != digest]:
        raise EncoderError(f"{folder / changed[0]} is not the file that was exported; export it again")
    try:
        pixels = Pixels.read(about["pixels"])
        of = {
            tower: checkpoint.short(*[part[name] for name in sorted(part) if name.startswith(tower)])
            for tower in ("texts", "photos")
        }
        text_print = f"onnx-text-{checkpoint.short(of['texts'], part['tokenizer.json'], about['text'])}"
        photo_print = f"onnx-photo-{checkpoint.short(of['photos'], about['pixels'])}"
        dim = int(about["dim"])
        towers = (
            Texts(texts, folder / "tokenizer.json", about["text"], text_print, dim),
            Photos(photos, pixels, photo_print, dim),
        )
    except (KeyError, TypeError, ValueError, ArithmeticError, AttributeError, RuntimeError) as error:
        raise EncoderError(f"{folder} is damaged: {error}; export it again") from None
    return Encoder(str(spec), *towers, runs_on=f"cpu, {spec.precision}, onnxruntime")


def read_card(folder: Path) -> dict[str, Any]:
    """The card of an export.

    Raises:
        EncoderError: it is no export, or one of another format.
    """
    try:
        about = json.loads(read_text(folder / "photodesk.json"))
        if about["format"] != FORMAT:
            raise EncoderError(f"{folder} holds an export of format {about['format']}, not {FORMAT}; export it again")
        if not isinstance(about["files"], dict) or not {"source", "dim", "text", "pixels"} <= about.keys():
            raise ValueError("it does not say what it is")
        return dict(about)
    except OSError:
        raise EncoderError(
            f"{folder} holds no export; make one with: photodesk export openclip:MODEL/TAG -o {folder}"
        ) from None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise EncoderError(f"{folder / 'photodesk.json'} is damaged ({error}); export it again") from None


def file_name(tower: str, precision: str) -> str:
    """`texts.onnx`, `photos.int8.onnx`, …"""
    return f"{tower}.onnx" if precision == "fp32" else f"{tower}.{precision}.onnx"


def file_digest(path: Path) -> str:
    """SHA-256 of a file."""
    with open_regular(path) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _session(path: Path, threads: int) -> Any:
    with checkpoint.reading(f"{path} is no model that onnxruntime runs"):
        return onnx_session.opened(str(path), onnx_session.options(threads))
