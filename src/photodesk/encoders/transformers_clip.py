"""CLIP, SigLIP and SigLIP 2 in Hugging Face Transformers: `clip:openai/clip-vit-base-patch32`, or `clip:FOLDER`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from photodesk.encoders import checkpoint, hf_hub
from photodesk.encoders.base import Encoder
from photodesk.encoders.preprocess import Layout
from photodesk.encoders.spec import Spec
from photodesk.encoders.torch_runner import Runner, TorchPhotos, TorchTexts
from photodesk.errors import EncoderError, UsageError, quiet, require
from photodesk.text_repair import encodable
from photodesk.types import FloatArray

if TYPE_CHECKING:
    from PIL import Image

EXTRA = "clip"
KINDS = ("clip", "siglip", "siglip2")
VISUAL = ("vision_model", "visual_projection")
NEEDED = ("config.json", "preprocessor_config.json", "token*", "*.safetensors")


class Texts(TorchTexts):
    """The text tower of a Transformers model."""

    def __init__(self, model: Any, tokenizer: Any, runner: Runner, fingerprint: str, dim: int, kind: str) -> None:
        super().__init__(model, runner, fingerprint, dim, VISUAL)
        self.tokenizer = tokenizer
        self._lower = kind != "clip"  # SigLIP was trained on lower case, and not all of its tokenizers lower-case
        self._length = int(model.config.text_config.max_position_embeddings)
        self.context = self._length - int(tokenizer.num_special_tokens_to_add())
        self._call = runner.function(model.get_text_features)

    def rows(self, texts: list[str]) -> FloatArray:
        """(n, dim) float32 unit rows; every text is padded to the model's whole context, as the models were trained."""
        found = self.tokenizer(
            [text.lower() for text in texts] if self._lower else texts,
            padding="max_length",
            truncation=True,
            max_length=self._length,
            return_tensors="pt",
        )
        return self.runner.rows(
            lambda *tensors: _features(self._call(**dict(zip(found, tensors, strict=True)))), *found.values()
        )

    def tokens(self, text: str) -> list[str]:
        """The tokens of `text`."""
        text = encodable(text)
        tokens: list[str] = self.tokenizer.tokenize(text.lower() if self._lower else text)
        return [token.removesuffix("</w>") for token in tokens]


class Photos(TorchPhotos):
    """The photo tower of a Transformers model. The model's image processor may return several arrays for a photo."""

    def __init__(self, model: Any, processor: Any, runner: Runner, fingerprint: str, dim: int) -> None:
        from PIL import Image

        super().__init__(model, runner, fingerprint, dim, VISUAL)
        self.processor = processor
        blank = self._processed(Image.new("RGB", (64, 64)))
        self._names, self._layout = list(blank), Layout(list(blank.values()))
        pixels = blank["pixel_values"].shape  # of an image, or of patches of one
        self.size = max(pixels) if len(pixels) == 3 else round((pixels[0] * pixels[1] / 3) ** 0.5)
        self.built = (model.config.vision_config.to_dict(), str(processor.to_dict()))
        self._call = runner.function(model.get_image_features)

    def _processed(self, photo: Image.Image) -> dict[str, NDArray[Any]]:
        return {name: np.asarray(array[0]) for name, array in self.processor(images=photo, return_tensors="np").items()}

    def prepare(self, photo: Image.Image) -> NDArray[np.uint8]:
        """The processor's arrays, as bytes."""
        return Layout.pack(self._processed(photo).values())

    def encode(self, batch: NDArray[np.generic]) -> FloatArray:
        """(n, dim) float32 unit rows."""

        def call(*tensors: Any) -> Any:
            given = dict(zip(self._names, tensors, strict=True))
            given["pixel_values"] = given["pixel_values"].to(self.runner.dtype)
            return _features(self._call(**given))

        return self.runner.rows(call, *self._layout.unpack(batch))


def load(spec: Spec) -> Encoder:
    """A CLIP, SigLIP or SigLIP 2 model of Transformers, downloaded if it is not on this machine.

    Raises:
        UsageError: no model is named.
        EncoderError: a file is missing or damaged, the model is of another kind, or it contains code, which is never
            run.
        MissingExtra: Transformers is not installed.
    """
    runner = Runner(spec, EXTRA)
    transformers = require("transformers", EXTRA)
    name = str(spec.path) if spec.path else spec.model
    if not name:
        raise UsageError("clip: names no model; say clip:openai/clip-vit-base-patch32 or clip:FOLDER")
    folder = hf_hub.folder(name, needed=NEEDED, instead="clip:FOLDER", extra=EXTRA)
    hf_hub.check_no_code(folder)
    kind, model, tokenizer, processor = _parts(transformers, name, folder, runner)

    files = sorted(folder.glob("*.safetensors"))
    digest = checkpoint.half_digests(files, f"clip {runner.precision}", model, VISUAL)
    vision = checkpoint.short(digest["photos"], _plain(model.config.vision_config), _plain(processor), runner.precision)
    words = model.config.text_config
    text = checkpoint.short(digest["texts"], _plain(words), checkpoint.word_table(tokenizer), runner.precision)
    projected = (model.config, "projection_dim") if kind == "clip" else (words, "projection_size")
    dim = int(getattr(*projected, None) or words.hidden_size)
    return Encoder(
        str(spec),
        Texts(model, tokenizer, runner, f"clip-text-{text}", dim, kind),
        Photos(model, processor, runner, f"clip-photo-{vision}", dim),
        runs_on=str(runner),
    )


def _parts(transformers: Any, name: str, folder: Path, runner: Runner) -> tuple[str, Any, Any, Any]:
    """The kind of the model in a folder, the model itself, its tokenizer and its image processor."""
    local = {"local_files_only": True, "trust_remote_code": False}
    with checkpoint.reading(f"{folder} cannot be read as a model"), quiet(transformers):
        kind = transformers.AutoConfig.from_pretrained(folder, **local).model_type
        if kind not in KINDS:
            raise EncoderError(f"{name} is a model of kind {kind}; clip: reads {', '.join(KINDS)}")
        model, loaded = transformers.AutoModel.from_pretrained(
            folder, **local, use_safetensors=True, output_loading_info=True, dtype=runner.dtype
        )
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **local)
        processor = transformers.AutoImageProcessor.from_pretrained(folder, **local, backend="pil")
    if missing := sorted(loaded["missing_keys"]):
        raise EncoderError(
            f"{folder} lacks {len(missing)} weights of the model, such as {missing[0]}; they would be random: download "
            "it again"
        )
    return kind, model.eval().requires_grad_(False).to(runner.device), tokenizer, processor


def _plain(config: Any) -> dict[str, Any]:
    """A configuration without what differs between copies of one model: versions, names, file types."""
    private = ("_name_or_path", "transformers_version", "dtype", "torch_dtype", "architectures", "_commit_hash")
    return {key: value for key, value in config.to_dict().items() if key not in private}


def _features(out: Any) -> Any:
    """The tensor of features, which newer versions of Transformers wrap."""
    return getattr(out, "pooler_output", out)
