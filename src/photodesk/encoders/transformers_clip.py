"""CLIP, SigLIP and SigLIP 2 in Hugging Face Transformers: `clip:openai/clip-vit-base-patch32`, or `clip:FOLDER`."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from photodesk.encoders import checkpoint, hf_hub
from photodesk.encoders.base import Encoder, PhotoTower, TextTower
from photodesk.encoders.spec import Spec
from photodesk.encoders.text_cleanup import plain
from photodesk.encoders.torch_runner import Runner
from photodesk.errors import EncoderError, UsageError, require
from photodesk.types import FloatArray

if TYPE_CHECKING:
    from PIL import Image

EXTRA = "clip"
KINDS = ("clip", "siglip", "siglip2")
VISION = ("vision_model.", "visual_projection.")
TEXT = ("text_model.", "text_projection.")
NEEDED = ("config.json", "preprocessor_config.json", "token*", "*.safetensors")


class Texts(TextTower):
    """The text tower of a Transformers model. See `base.TextTower`."""

    batch = 64

    def __init__(self, model: Any, tokenizer: Any, runner: Runner, fingerprint: str, dim: int, kind: str) -> None:
        self.model, self.tokenizer, self.runner = model, tokenizer, runner
        self.fingerprint, self.dim = fingerprint, dim
        self._lower = kind != "clip"  # SigLIP was trained on lower case, and not every tokenizer of it sees to that
        self._length = int(model.config.text_config.max_position_embeddings)
        self.context = self._length - int(tokenizer.num_special_tokens_to_add())
        self._names: list[str] = []
        self._call = runner.function(model.get_text_features)

    def _text(self, text: str) -> str:
        return plain(text).lower() if self._lower else plain(text)

    def encode(self, texts: Sequence[str]) -> FloatArray:
        """(n, dim) float32 unit rows; every text is padded to the model's whole context, as the models were trained."""
        if not texts:
            return np.zeros((0, self.dim), np.float32)
        found = self.tokenizer(
            [self._text(text) for text in texts],
            padding="max_length",
            truncation=True,
            max_length=self._length,
            return_tensors="pt",
        )
        names = list(found)
        return self.runner.rows(
            lambda *tensors: _features(self._call(**dict(zip(names, tensors, strict=True)))), *found.values()
        )

    def tokens(self, text: str) -> list[str]:
        """The pieces that the model reads of `text`."""
        pieces: list[str] = self.tokenizer.tokenize(self._text(text))
        return [piece.removesuffix("</w>") for piece in pieces]

    def alone(self) -> None:
        """Releases the photo half of the model."""
        checkpoint.drop(self.model, lambda name: f"{name}." in VISION)


class Photos(PhotoTower):
    """The photo tower of a Transformers model. See `base.PhotoTower`.

    What the model's image processor gives, several arrays in some models, travels as one row of numbers.
    """

    batch = 16

    def __init__(self, model: Any, processor: Any, runner: Runner, fingerprint: str, dim: int) -> None:
        from PIL import Image

        self.model, self.processor, self.runner = model, processor, runner
        self.fingerprint, self.dim, self.most = fingerprint, dim, runner.most
        self._lock = threading.Lock()
        blank = self._processed(Image.new("RGB", (64, 64)))
        self._layout = [(name, array.shape, array.dtype) for name, array in blank.items()]
        pixels = blank["pixel_values"].shape
        self.size = (
            max(pixels) if len(pixels) == 3 else round((pixels[0] * pixels[1] / 3) ** 0.5)
        )  # an image, or patches of one
        self.built = (model.config.vision_config.to_dict(), str(processor.to_dict()))
        self._call = runner.function(model.get_image_features)

    def _processed(self, photo: Image.Image) -> dict[str, NDArray[Any]]:
        return {name: np.asarray(array[0]) for name, array in self.processor(images=photo, return_tensors="np").items()}

    def prepare(self, photo: Image.Image) -> NDArray[np.float32]:
        """The processor's arrays behind each other, flat."""
        return np.concatenate([array.astype(np.float32).reshape(-1) for array in self._processed(photo).values()])

    def encode(self, batch: NDArray[np.generic]) -> FloatArray:
        """(n, dim) float32 unit rows."""
        arrays, start = [], 0
        for _, shape, dtype in self._layout:
            end = start + int(np.prod(shape))
            arrays.append(batch[:, start:end].reshape(-1, *shape).astype(dtype))
            start = end
        names = [name for name, _, _ in self._layout]

        def call(*tensors: Any) -> Any:
            given = dict(zip(names, tensors, strict=True))
            given["pixel_values"] = given["pixel_values"].to(self.runner.dtype)
            return _features(self._call(**given))

        return self.runner.rows(call, *arrays)

    def state(self) -> Mapping[str, Any]:
        """The tower's tensors by name, for comparing frozen towers."""
        return {name: tensor for name, tensor in self.model.state_dict().items() if name.startswith(VISION)}

    def alone(self) -> None:
        """Releases the text half of the model."""
        checkpoint.drop(self.model, lambda name: f"{name}." in TEXT)


def load(spec: Spec) -> Encoder:
    """A CLIP, SigLIP or SigLIP 2 model of Transformers on this machine, downloaded if it has to be and the hub can be
    reached.

    Raises:
        UsageError: no model is named.
        EncoderError: a file is missing or damaged, it is a model of another kind, or it brings code of its own, which
        is never run.
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

    def digests() -> dict[str, str]:
        state = model.state_dict()
        return {
            part: checkpoint.tensor_digest({key: tensor for key, tensor in state.items() if key.startswith(prefix)})
            for part, prefix in (("photos", VISION), ("texts", TEXT))
        }

    digest = checkpoint.remembered(sorted(Path(folder).glob("*.safetensors")), f"clip {runner.precision}", digests)
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
    with checkpoint.reading(f"{folder} cannot be read as a model"), quietly(transformers):
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
            f"{folder} lacks {len(missing)} weights of the model, such as {missing[0]}; they would be random: fetch it "
            "again"
        )
    return kind, model.eval().requires_grad_(False).to(runner.device), tokenizer, processor


def _plain(config: Any) -> dict[str, Any]:
    """A configuration without what differs between copies of one model: versions, names, types of files."""
    private = ("_name_or_path", "transformers_version", "dtype", "torch_dtype", "architectures", "_commit_hash")
    return {key: value for key, value in config.to_dict().items() if key not in private}


def _features(out: Any) -> Any:
    """The tensor of features, which newer versions of Transformers wrap."""
    return out if not hasattr(out, "pooler_output") else out.pooler_output


@contextlib.contextmanager
def quietly(transformers: Any) -> Iterator[None]:
    """Hold back the library's advice and progress bars; errors still come."""
    logging = transformers.utils.logging
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
