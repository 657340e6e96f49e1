"""Models of open_clip by name and tag, or from a local checkpoint: `openclip:MODEL/TAG`, `openclip:MODEL@FILE`,
`openclip:MODEL/TAG@FILE`.

What open_clip lets pass in silence is an error here: weights trained with QuickGELU in a model without it, a
preprocessing that cannot be known, weights of another resolution. Nothing is unpickled but tensors.
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from photodesk.encoders import checkpoint as weights
from photodesk.encoders import hf_hub
from photodesk.encoders.base import Encoder, PhotoTower, TextTower
from photodesk.encoders.preprocess import Pixels
from photodesk.encoders.spec import Spec
from photodesk.encoders.text_cleanup import plain
from photodesk.encoders.torch_runner import Runner
from photodesk.errors import EncoderError, UsageError, did_you_mean, require
from photodesk.files import read_text
from photodesk.types import FloatArray

if TYPE_CHECKING:
    from PIL import Image

FILES = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
    "model.safetensors",
)
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "sentencepiece.bpe.model", "spiece.model", "vocab.txt")
EXTRA = "openclip"


class Texts(TextTower):
    """The text tower of an open_clip model. See `base.TextTower`."""

    batch = 64

    def __init__(self, model: Any, tokenizer: Any, runner: Runner, fingerprint: str, dim: int) -> None:
        self.model, self.tokenizer, self.runner = model, tokenizer, runner
        self.fingerprint, self.dim = fingerprint, dim
        self.inner = getattr(tokenizer, "tokenizer", None)  # of Transformers; None for CLIP's own
        special = 2 if self.inner is None else int(self.inner.num_special_tokens_to_add())
        if getattr(tokenizer, "tokenizer_mode", "") == "clips":
            special = 3
        self.context = int(tokenizer.context_length) - special
        self._encode = runner.function(model.encode_text)

    def encode(self, texts: Sequence[str]) -> FloatArray:
        """(n, dim) float32 unit rows."""
        if not texts:
            return np.zeros((0, self.dim), np.float32)
        return self.runner.rows(self._encode, self.tokenizer([plain(text) for text in texts]))

    def tokens(self, text: str) -> list[str]:
        """The pieces that the model reads of `text`."""
        if self.inner is not None:
            pieces: list[str] = self.inner.tokenize(self.tokenizer.clean_fn(plain(text)))
            return pieces
        own = self.tokenizer
        signs = [own.decoder[i].removesuffix("</w>") for i in own.encode(plain(text))]
        return [
            bytes(own.byte_decoder.get(sign, ord("?")) for sign in piece).decode("utf-8", "replace") for piece in signs
        ]

    def alone(self) -> None:
        """Releases the photo half of the model."""
        weights.drop(self.model, lambda name: name == "visual")


class Photos(PhotoTower):
    """The photo tower of an open_clip model. See `base.PhotoTower`."""

    batch = 16

    def __init__(self, model: Any, pixels: Pixels, runner: Runner, fingerprint: str, dim: int, built: object) -> None:
        self.model, self.pixels, self.runner, self.built = model, pixels, runner, built
        self.fingerprint, self.dim, self.size, self.most = fingerprint, dim, pixels.size, runner.most
        self._encode = runner.function(model.encode_image)

    def prepare(self, photo: Image.Image) -> NDArray[np.uint8]:
        """(3, size, size) bytes."""
        return self.pixels.prepare(photo)

    def encode(self, batch: NDArray[np.generic]) -> FloatArray:
        """(n, dim) float32 unit rows."""
        return self.runner.rows(lambda pixels: self._encode(pixels.to(self.runner.dtype)), self.pixels.scaled(batch))

    def state(self) -> Mapping[str, Any]:
        """The tower's tensors by name, for comparing frozen towers."""
        return {name: tensor for name, tensor in self.model.state_dict().items() if name.startswith("visual.")}

    def alone(self) -> None:
        """Releases the text half of the model."""
        weights.drop(self.model, lambda name: name != "visual" and not name.startswith("logit_"))


def load(spec: Spec) -> Encoder:
    """An open_clip model on this machine, downloaded if it has to be and the hub can be reached.

    Raises:
        UsageError: open_clip knows no such model or tag.
        EncoderError: a file is missing, damaged or of another model, or QuickGELU does not match.
        MissingExtra: open_clip_torch is not installed.
    """
    runner = Runner(spec, EXTRA)
    named = _Named(spec)
    preprocess, tokenizer = named.preprocess(), named.tokenizer()
    model = named.model(runner)
    size = np.unique(model.visual.image_size)
    if len(size) > 1:
        raise EncoderError(f"{spec} reads photos of {model.visual.image_size} pixels; photodesk knows square ones only")
    pixels = Pixels(int(size[0]), **preprocess)

    def digests() -> dict[str, str]:
        state = model.state_dict()
        visual = {key: tensor for key, tensor in state.items() if key.startswith("visual.")}
        texts = {key: tensor for key, tensor in state.items() if key not in visual and not key.startswith("logit_")}
        return {"photos": weights.tensor_digest(visual), "texts": weights.tensor_digest(texts)}

    about = f"openclip {named.library.__version__} {named.name} {runner.precision}"
    digest = weights.remembered([named.checkpoint], about, digests)
    dim, gelu, vision = int(named.config["embed_dim"]), named.quick, named.config["vision_cfg"]
    words = {key: value for key, value in named.words.items() if not key.startswith(("hf_model", "hf_tokenizer"))}
    photo = weights.short(digest["photos"], vision, gelu, pixels.asdict(), runner.precision)
    text = weights.short(digest["texts"], words, gelu, _tokenizer_identity(tokenizer), runner.precision)
    return Encoder(
        str(spec),
        Texts(model, tokenizer, runner, f"openclip-text-{text}", dim),
        Photos(model, pixels, runner, f"openclip-photo-{photo}", dim, (vision, gelu, pixels)),
        runs_on=str(runner),
    )


class _Named:
    """What a spec names: an architecture of open_clip, weights for it, and what is known of these.

    Attributes:
        library: open_clip.
        name: of the architecture.
        tag: of weights that open_clip knows; may be empty where there is a local file.
        config: of the architecture; words is its text part.
        trained: what open_clip knows of the weights.
        about: what open_clip_config.json next to a local file says of it.
        checkpoint: the file of the weights.

    Raises:
        UsageError: open_clip knows no such model or tag, or no weights are named.
        EncoderError: the weights are not here and cannot be fetched, or were trained with another activation.
    """

    def __init__(self, spec: Spec) -> None:
        self.spec, self.library = spec, library()
        self.name, _, self.tag = spec.model.partition("/")
        if self.tag == "openai" and f"{self.name}-quickgelu" in self.library.list_models():
            self.name += "-quickgelu"  # OpenAI published its models by the plain names, and all compute with QuickGELU
        self.config = known_model(self.library, self.name)
        self.words: dict[str, Any] = self.config["text_cfg"]
        self.quick = bool(self.config.get("quick_gelu"))
        self.trained = known_tag(self.library, self.name, self.tag) if self.tag else {}
        self.about: dict[str, Any] = {}
        if spec.path is not None:
            self.checkpoint, self.about = _local(spec.path)
            self.trained = self.trained or ({} if self.about else self._told_by_place())
        elif not self.tag:
            raise UsageError(
                f"{spec} names no weights; say openclip:{self.name}/TAG with one of {', '.join(self._tags())}, or "
                f"openclip:{self.name}@FILE"
            )
        self._check_activation()
        if spec.path is None:
            self.checkpoint = _download(self.trained, spec)

    def _tags(self) -> dict[str, dict[str, Any]]:
        """All weights of the architecture that open_clip knows."""
        tags = self.library.list_pretrained_tags_by_model(self.name)
        return {tag: self.library.get_pretrained_cfg(self.name, tag) for tag in tags}

    def _told_by_place(self) -> dict[str, Any]:
        """What open_clip knows of a local file by where it lies: in the hub's cache, or in the folder `hf_hub.place` of
        a repository."""
        for known in self._tags().values():
            repository = known.get("hf_hub", "").rpartition("/")[0]
            if repository and repository.replace("/", "--") in str(self.checkpoint.absolute()):
                return known
        return {}

    def _check_activation(self) -> None:
        """Refuse weights trained with one activation in a model that computes with the other: results would be wrong,
        quietly."""
        if "timm_model_name" in self.config["vision_cfg"] and "hf_model_name" in self.words:
            return  # neither tower asks
        said = self.trained or self.about.get("model_cfg", {})
        wanted = bool(said.get("quick_gelu", False))
        if not (self.trained or self.about) or wanted == self.quick:
            return
        name = self.name
        other = name.removesuffix("-quickgelu") if self.quick else f"{name}-quickgelu"
        if other not in self.library.list_models():
            other = "a model that does"
        with_it = {True: "with", False: "without"}
        raise EncoderError(
            f"{self.spec}: the weights {self.tag or f'in {self.spec.path}'} were trained {with_it[wanted]} QuickGELU "
            f"and {name} computes {with_it[self.quick]} it, which would give wrong rows; say openclip:{other}"
            + (f"/{self.tag}" if self.tag else f"@{self.spec.path}")
        )

    def preprocess(self) -> dict[str, Any]:
        """Mean, deviation, interpolation and resize mode: of the tag, of the file's own config, or what all fitting
        tags agree on."""
        if self.trained or self.about:
            return self._picked(self.trained or self.about.get("preprocess_cfg", {}))
        options: dict[str, str] = {}
        for tag, known in self._tags().items():
            if bool(known.get("quick_gelu", False)) == self.quick:
                options.setdefault(json.dumps(self._picked(known)), tag)
        if len(options) > 1:
            raise EncoderError(
                f"{self.spec}: weights of {self.name} differ in how photos are prepared, and {self.spec.path} does not "
                "say; name those it is most like: "
                + " or ".join(f"openclip:{self.name}/{tag}@{self.spec.path}" for tag in options.values())
            )
        values = json.loads(next(iter(options))) if options else {}
        return self._picked({**values, "fill_color": values.get("fill")})

    def _picked(self, values: Mapping[str, Any]) -> dict[str, Any]:
        default = vars(self.library.transform.PreprocessCfg())
        found = {key: values.get(key) or default[key] for key in ("interpolation", "resize_mode")}
        found |= {key: tuple(map(float, values.get(key) or default[key])) for key in ("mean", "std")}
        return found | {"fill": values.get("fill_color") or default["fill_color"]}

    def tokenizer(self) -> Any:
        """The tokenizer, from next to the weights or from the hub."""
        made, near = self.library.tokenizer, self.checkpoint.parent
        context = self.words.get("context_length", made.DEFAULT_CONTEXT_LENGTH)
        options: dict[str, Any] = dict(self.words.get("tokenizer_kwargs", {}))
        source = self.words.get("hf_tokenizer_name", "")
        if not source:
            return made.SimpleTokenizer(context_length=context, **options)
        if not any((near / file).is_file() for file in TOKENIZER_FILES):
            instead = f"openclip:{self.name}@FOLDER with the tokenizer in it"
            near = hf_hub.folder(source, patterns=hf_hub.CONFIGS, needed=("token*",), instead=instead)
        hf_hub.check_no_code(near)
        options |= {"local_files_only": True, "trust_remote_code": False}
        mode = self.words.get("tokenizer_mode")
        return made.HFTokenizer(str(near), context_length=context, tokenizer_mode=mode, **options)

    def model(self, runner: Runner) -> Any:
        """The model with its weights, on its device."""
        foreign = "hf_model_name" in self.words
        if foreign:  # its weights come with the checkpoint
            folder = _text_config(self.words["hf_model_name"], self.checkpoint.parent)
            self.words |= {"hf_model_name": str(folder), "hf_model_pretrained": False}
        logging.disable(logging.WARNING)  # it warns of random weights before they are replaced
        try:
            with weights.reading(
                f"{self.checkpoint} cannot be read as weights of {self.name}",
                "; only tensors are read, never pickled code: save it as .safetensors, or name the model it was made "
                "with",
            ):
                model = self.library.create_model(
                    self.name,
                    precision=runner.precision,
                    pretrained_text=False,
                    pretrained_image=False,
                    text_cfg=self.words,
                )
                self._check_positions(model)
                self.library.load_checkpoint(model, str(self.checkpoint), strict=True, weights_only=True)
                if foreign:  # open_clip lowers a part of such a tower, which then does not fit the rest
                    model.text.to(runner.dtype)
        finally:
            logging.disable(logging.NOTSET)
        return model.eval().requires_grad_(False).to(runner.device)

    def _check_positions(self, model: Any) -> None:
        """Refuse weights whose position embeddings open_clip would stretch."""
        found = weights.shapes(self.checkpoint)
        for key, tensor in model.state_dict().items():
            shape = found.get(key, found.get(key.removeprefix("text.")))
            if key.endswith("positional_embedding") and shape not in (None, tuple(tensor.shape)):
                raise EncoderError(
                    f"{self.checkpoint} has {key} of shape {shape} and {self.name} needs {tuple(tensor.shape)}: it is "
                    "of a model with another resolution or context; name that one"
                )


def library() -> Any:
    """The module open_clip.

    Raises:
        EncoderError: it is installed and cannot be imported, as when torch and torchvision are builds that do not fit.
        MissingExtra: it is not installed.
    """
    try:
        return require("open_clip", EXTRA)
    except (RuntimeError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise EncoderError(
            f"open_clip cannot be imported ({reason}); install torch and torchvision from the same index"
        ) from None


def known_model(open_clip: Any, name: str) -> dict[str, Any]:
    """The configuration of a model by name; UsageError names those that are spelled alike."""
    config: dict[str, Any] | None = open_clip.get_model_config(name) if name in open_clip.list_models() else None
    if config is None:
        raise UsageError(f"open_clip knows no model {name!r}{did_you_mean(name, open_clip.list_models(), most=4)}")
    return config


def known_tag(open_clip: Any, name: str, tag: str) -> dict[str, Any]:
    """What open_clip knows of the weights `tag`; UsageError names the tags that there are."""
    found: dict[str, Any] = open_clip.get_pretrained_cfg(name, tag)
    if not found:
        tags = open_clip.list_pretrained_tags_by_model(name)
        raise UsageError(
            f"open_clip has no weights {tag!r} of {name}; it has "
            f"{', '.join(tags) or 'none: say openclip:' + name + '@FILE'}"
        )
    return found


def _local(path: Path) -> tuple[Path, dict[str, Any]]:
    """The checkpoint that a file or folder means, and what open_clip_config.json next to it says."""
    if path.is_dir():
        found = [path / name for name in FILES if (path / name).is_file()] or sorted(
            p for p in path.iterdir() if p.suffix in weights.SUFFIXES
        )
        if not found:
            raise EncoderError(f"{path} holds no checkpoint ({', '.join(weights.SUFFIXES)})")
        path = found[0]
    weights.check_suffix(path)
    try:
        about = json.loads(read_text(path.parent / "open_clip_config.json"))
        return path, about if isinstance(about, dict) else {}
    except (OSError, ValueError):
        return path, {}


def repository_of(trained: Mapping[str, Any]) -> tuple[str, tuple[str, ...]]:
    """The hub's repository of a tag and the names that its weights may have, the best first."""
    repository, _, name = str(trained.get("hf_hub", "")).rpartition("/")
    if not name:
        return repository, (FILES[0], FILES[2])
    return repository, (f"{name.rpartition('.')[0]}.safetensors", name)


def _download(trained: Mapping[str, Any], spec: Spec) -> Path:
    repository, names = repository_of(trained)
    if repository:
        return hf_hub.file(repository, names, instead=f"openclip:{spec.model}@FILE")
    raise EncoderError(
        f"{spec}: these weights are not on the hub; fetch {trained.get('url')} and say openclip:{spec.model}@FILE"
    )


def _tokenizer_identity(tokenizer: Any) -> list[Any]:
    inner: Any = getattr(tokenizer, "tokenizer", None)
    table = weights.word_table(inner)
    return [
        weights.short(table) if hasattr(inner, "backend_tokenizer") else table,
        tokenizer.context_length,
        getattr(tokenizer.clean_fn, "__name__", ""),
        getattr(tokenizer, "tokenizer_mode", ""),
        getattr(tokenizer, "strip_sep_token", False),
    ]


def _text_config(name: str, near: Path) -> Path:
    """The folder with config.json of a Hugging Face text tower; its weights come with the checkpoint.

    open_clip reads it without saying what it thinks of code in it, so it must bring none.
    """
    folder = Path(name)
    with contextlib.suppress(OSError, ValueError, AttributeError):
        if json.loads(read_text(near / "config.json")).get("model_type"):
            folder = near
    if not folder.is_dir():
        folder = hf_hub.file(
            name, ("config.json",), instead="openclip:MODEL@FOLDER with that config.json next to the weights"
        ).parent
    hf_hub.check_no_code(folder)
    return folder
