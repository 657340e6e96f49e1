"""Models of open_clip by name and tag, or from a local checkpoint: `openclip:MODEL/TAG`, `openclip:MODEL@FILE`,
`openclip:MODEL/TAG@FILE`.

What open_clip accepts silently is an error here: weights trained with QuickGELU in a model without it, an unknown
preprocessing, weights of another resolution. Only tensors are unpickled.
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from photodesk.encoders import checkpoint as weights
from photodesk.encoders import hf_hub
from photodesk.encoders.base import Encoder
from photodesk.encoders.preprocess import Pixels
from photodesk.encoders.spec import Spec
from photodesk.encoders.torch_runner import Runner, TorchPhotos, TorchTexts
from photodesk.errors import EncoderError, UsageError, did_you_mean, one_line, require
from photodesk.files import read_text
from photodesk.text_repair import encodable
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
VISUAL = ("visual",)
EXTRA = "openclip"


class Texts(TorchTexts):
    """The text tower of an open_clip model."""

    def __init__(self, model: Any, tokenizer: Any, runner: Runner, fingerprint: str, dim: int) -> None:
        super().__init__(model, runner, fingerprint, dim, VISUAL)
        self.tokenizer = tokenizer
        self.inner = getattr(tokenizer, "tokenizer", None)  # of Transformers; None for CLIP's own
        special = 2 if self.inner is None else int(self.inner.num_special_tokens_to_add())
        if getattr(tokenizer, "tokenizer_mode", "") == "clips":
            special = 3
        self.context = int(tokenizer.context_length) - special
        self._encode = runner.function(model.encode_text)

    def rows(self, texts: list[str]) -> FloatArray:
        """(n, dim) float32 unit rows."""
        return self.runner.rows(self._encode, self.tokenizer(texts))

    def tokens(self, text: str) -> list[str]:
        """The tokens of `text` as text."""
        text, own = encodable(text), self.tokenizer
        if self.inner is not None:
            return list(self.inner.tokenize(own.clean_fn(text)))
        tokens = [own.decoder[i].removesuffix("</w>") for i in own.encode(text)]
        return [bytes(own.byte_decoder.get(c, ord("?")) for c in token).decode("utf-8", "replace") for token in tokens]


class Photos(TorchPhotos):
    """The photo tower of an open_clip model."""

    def __init__(self, model: Any, pixels: Pixels, runner: Runner, fingerprint: str, dim: int, built: object) -> None:
        super().__init__(model, runner, fingerprint, dim, VISUAL)
        self.pixels, self.size, self.built = pixels, pixels.size, built
        self._encode = runner.function(model.encode_image)

    def prepare(self, photo: Image.Image) -> NDArray[np.uint8]:
        """(3, size, size) bytes."""
        return self.pixels.prepare(photo)

    def encode(self, batch: NDArray[np.generic]) -> FloatArray:
        """(n, dim) float32 unit rows."""
        return self.runner.rows(lambda pixels: self._encode(pixels.to(self.runner.dtype)), self.pixels.scaled(batch))


def load(spec: Spec) -> Encoder:
    """An open_clip model, downloaded if it is not on this machine.

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

    about = f"openclip {named.library.__version__} {named.name} {runner.precision}"
    digest = weights.half_digests([named.checkpoint], about, model, VISUAL)
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
    """An architecture of open_clip, weights for it, and their metadata, as a spec names them.

    Attributes:
        library: open_clip.
        name: of the architecture.
        tag: of weights that open_clip knows; may be empty with a local file.
        config: of the architecture; words is its text part.
        trained: open_clip's metadata of the weights.
        about: the content of open_clip_config.json next to a local file.
        checkpoint: the file of the weights.

    Raises:
        UsageError: open_clip knows no such model or tag, or no weights are named.
        EncoderError: the weights cannot be downloaded, or were trained with another activation.
    """

    def __init__(self, spec: Spec) -> None:
        self.spec, self.library = spec, library()
        self.name, _, self.tag = spec.model.partition("/")
        # OpenAI's models all compute with QuickGELU, and are published without it in the name
        if self.tag == "openai" and f"{self.name}-quickgelu" in self.library.list_models():
            self.name += "-quickgelu"
        self.config = known_model(self.library, self.name)
        self.words: dict[str, Any] = self.config["text_cfg"]
        self.quick = bool(self.config.get("quick_gelu"))
        self.trained = known_tag(self.library, self.name, self.tag) if self.tag else {}
        self.about: dict[str, Any] = {}
        if spec.path is not None:
            self.checkpoint, self.about = _local(spec.path)
            self.trained = self.trained or ({} if self.about else self._known_by_path())
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

    def _known_by_path(self) -> dict[str, Any]:
        """open_clip's metadata of a local file, if its path is in the hub's cache or `hf_hub.place` of a repository."""
        for known in self._tags().values():
            repository = known.get("hf_hub", "").rpartition("/")[0]
            if repository and repository.replace("/", "--") in str(self.checkpoint.absolute()):
                return known
        return {}

    def _check_activation(self) -> None:
        """Refuse weights trained with one activation in a model that computes with the other: rows would be wrong."""
        if "timm_model_name" in self.config["vision_cfg"] and "hf_model_name" in self.words:
            return  # neither tower has the option
        wanted = bool((self.trained or self.about.get("model_cfg", {})).get("quick_gelu"))
        if not (self.trained or self.about) or wanted == self.quick:
            return
        name, with_it = self.name, {True: "with", False: "without"}
        other = name.removesuffix("-quickgelu") if self.quick else f"{name}-quickgelu"
        if other not in self.library.list_models():
            other = "a model that does"
        raise EncoderError(
            f"{self.spec}: the weights {self.tag or f'in {self.spec.path}'} were trained {with_it[wanted]} QuickGELU "
            f"and {name} computes {with_it[self.quick]} it, which would give wrong rows; say openclip:{other}"
            + (f"/{self.tag}" if self.tag else f"@{self.spec.path}")
        )

    def preprocess(self) -> dict[str, Any]:
        """Mean, standard deviation, interpolation and resize mode: of the tag, of the file's own config, or what all
        matching tags have in common."""
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
        what = f"{self.checkpoint} cannot be read as weights of {self.name}"
        advice = (
            "; only tensors are read, never pickled code: save it as .safetensors, or name the model it was made with"
        )
        with no_warnings(), weights.reading(what, advice):  # it warns of random weights before they are replaced
            model = self.library.create_model(
                self.name,
                precision=runner.precision,
                pretrained_text=False,
                pretrained_image=False,
                text_cfg=self.words,
            )
            self._check_positions(model)
            self.library.load_checkpoint(model, str(self.checkpoint), strict=True, weights_only=True)
            if foreign:  # open_clip casts only a part of such a tower to the precision
                model.text.to(runner.dtype)
        return model.eval().requires_grad_(False).to(runner.device)

    def _check_positions(self, model: Any) -> None:
        """Refuse weights whose position embeddings open_clip would interpolate."""
        found = weights.shapes(self.checkpoint)
        for key, tensor in model.state_dict().items():
            shape = found.get(key, found.get(key.removeprefix("text.")))
            if key.endswith("positional_embedding") and shape not in (None, tuple(tensor.shape)):
                raise EncoderError(
                    f"{self.checkpoint} has {key} of shape {shape} and {self.name} needs {tuple(tensor.shape)}: it is "
                    "of a model with another resolution or context; name that one"
                )


@contextlib.contextmanager
def no_warnings() -> Iterator[None]:
    """Suppress log messages up to warnings."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def library() -> Any:
    """The module open_clip.

    Raises:
        EncoderError: it cannot be imported, as when torch and torchvision are incompatible builds.
        MissingExtra: it is not installed.
    """
    try:
        return require("open_clip", EXTRA)
    except (RuntimeError, OSError) as error:
        raise EncoderError(
            f"open_clip cannot be imported ({one_line(error)}); install torch and torchvision from the same index"
        ) from None


def known_model(open_clip: Any, name: str) -> dict[str, Any]:
    """The configuration of a model. UsageError: open_clip has no such model; similar names are suggested."""
    config: dict[str, Any] | None = open_clip.get_model_config(name) if name in open_clip.list_models() else None
    if config is None:
        raise UsageError(f"open_clip knows no model {name!r}{did_you_mean(name, open_clip.list_models(), most=4)}")
    return config


def known_tag(open_clip: Any, name: str, tag: str) -> dict[str, Any]:
    """open_clip's metadata of the weights `tag`. UsageError: it has none; the tags are listed."""
    found: dict[str, Any] = open_clip.get_pretrained_cfg(name, tag)
    if not found:
        tags = open_clip.list_pretrained_tags_by_model(name)
        raise UsageError(
            f"open_clip has no weights {tag!r} of {name}; it has "
            f"{', '.join(tags) or 'none: say openclip:' + name + '@FILE'}"
        )
    return found


def _local(path: Path) -> tuple[Path, dict[str, Any]]:
    """The checkpoint at a file or in a folder, and the content of open_clip_config.json next to it."""
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
        f"{spec}: these weights are not on the hub; download {trained.get('url')} and say openclip:{spec.model}@FILE"
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

    open_clip reads it with its own setting for code in it, so it must contain none.
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
