"""Models of open_clip by name and tag, or from a local checkpoint: `openclip:MODEL/TAG`, `openclip:MODEL@FILE`,
`openclip:MODEL/TAG@FILE`.

What open_clip lets pass in silence is an error here: weights trained with QuickGELU in a model without it, a
preprocessing that cannot be known, weights of another resolution. Nothing is unpickled but tensors.
"""

from __future__ import annotations

import contextlib
import difflib
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from photodesk.encoders import checkpoint as weights
from photodesk.encoders import hf_hub
from photodesk.encoders.base import Encoder
from photodesk.encoders.preprocess import Pixels
from photodesk.encoders.spec import Spec
from photodesk.encoders.text_cleanup import plain
from photodesk.encoders.torch_runner import Runner
from photodesk.errors import EncoderError, UsageError, require
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


class Texts:
    """The text tower of an open_clip model. See `encoders.TextTower`."""

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
        """Let go of the photo half of the model: a pair took this one only."""
        weights.drop(self.model, lambda name: name == "visual")


class Photos:
    """The photo tower of an open_clip model. See `encoders.PhotoTower`."""

    batch = 16

    def __init__(
        self, model: Any, pixels: Pixels, runner: Runner, fingerprint: str, dim: int, built: object = None
    ) -> None:
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
        """Let go of the text half of the model: a pair took this one only."""
        weights.drop(self.model, lambda name: name != "visual" and not name.startswith("logit_"))


def load(spec: Spec) -> Encoder:
    """An open_clip model on this machine, downloaded if it has to be and the hub can be reached.

    Raises:
        UsageError: open_clip knows no such model or tag.
        EncoderError: a file is missing, damaged or of another model, or QuickGELU does not match.
        MissingExtra: open_clip_torch is not installed.
    """
    runner = Runner(spec, EXTRA)
    open_clip = library()
    name, _, tag = spec.model.partition("/")
    if tag == "openai" and f"{name}-quickgelu" in open_clip.list_models():
        name += "-quickgelu"  # OpenAI published its models by the plain names, and all compute with QuickGELU
    config = known_model(open_clip, name)
    trained = known_tag(open_clip, name, tag) if tag else {}
    if not tag and spec.path is None:
        tags = open_clip.list_pretrained_tags_by_model(name)
        raise UsageError(
            f"{spec} names no weights; say openclip:{name}/TAG with one of {', '.join(tags)}, or openclip:{name}@FILE"
        )
    about: dict[str, Any] = {}
    if spec.path is not None:
        checkpoint, about = _local(spec.path)
        trained = trained or _told_by(open_clip, name, checkpoint, about)
    _check_activation(open_clip, spec, name, tag, config, trained, about)
    if spec.path is None:
        checkpoint = _download(trained, name, spec)
    preprocess = _preprocess(open_clip, spec, name, config, trained, about)
    beside = checkpoint.parent
    tokenizer = _tokenizer(open_clip, name, config["text_cfg"], beside)
    if "hf_model_name" in config["text_cfg"]:  # its weights come with the checkpoint
        config["text_cfg"] |= {
            "hf_model_name": str(_text_config(config["text_cfg"]["hf_model_name"], beside)),
            "hf_model_pretrained": False,
        }
    model = _model(open_clip, spec, name, config, runner, checkpoint)
    size = model.visual.image_size
    size = size if isinstance(size, int) else size[0] if len(set(size)) == 1 else 0
    if not size:
        raise EncoderError(f"{spec} reads photos of {model.visual.image_size} pixels; photodesk knows square ones only")
    pixels = Pixels(size, **preprocess)

    def digests() -> dict[str, str]:
        state = model.state_dict()
        visual = {key: tensor for key, tensor in state.items() if key.startswith("visual.")}
        texts = {key: tensor for key, tensor in state.items() if key not in visual and not key.startswith("logit_")}
        return {"photos": weights.tensor_digest(visual), "texts": weights.tensor_digest(texts)}

    about_digest = f"openclip {open_clip.__version__} {name} {runner.precision}"
    digest = weights.remembered([checkpoint], about_digest, digests)
    dim, gelu = int(config["embed_dim"]), bool(config.get("quick_gelu"))
    vision = weights.short(digest["photos"], config["vision_cfg"], gelu, pixels.asdict(), runner.precision)
    words = {
        key: value for key, value in config["text_cfg"].items() if not key.startswith(("hf_model", "hf_tokenizer"))
    }
    text = weights.short(digest["texts"], words, gelu, _tokenizer_identity(tokenizer), runner.precision)
    return Encoder(
        str(spec),
        Texts(model, tokenizer, runner, f"openclip-text-{text}", dim),
        Photos(model, pixels, runner, f"openclip-photo-{vision}", dim, (config["vision_cfg"], gelu)),
        runs_on=str(runner),
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
        alike = difflib.get_close_matches(name, open_clip.list_models(), 4, 0.5)
        raise UsageError(
            f"open_clip knows no model {name!r}" + (f"; did you mean {' or '.join(alike)}?" if alike else "")
        )
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
    """The checkpoint that a file or folder means, and what open_clip_config.json beside it says."""
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


def _told_by(open_clip: Any, name: str, checkpoint: Path, about: Mapping[str, Any]) -> dict[str, Any]:
    """What open_clip knows of a local file by where it lies: in the hub's cache, or in the folder `hub.place` of a
    repository."""
    if about:
        return {}
    for tag in open_clip.list_pretrained_tags_by_model(name):
        known: dict[str, Any] = open_clip.get_pretrained_cfg(name, tag)
        repository = known.get("hf_hub", "").rpartition("/")[0]
        if repository and repository.replace("/", "--") in str(checkpoint.absolute()):
            return known
    return {}


def _check_activation(
    open_clip: Any,
    spec: Spec,
    name: str,
    tag: str,
    config: dict[str, Any],
    trained: Mapping[str, Any],
    about: Mapping[str, Any],
) -> None:
    """Refuse weights trained with one activation in a model that computes with the other: results would be wrong,
    quietly."""
    if "timm_model_name" in config["vision_cfg"] and "hf_model_name" in config["text_cfg"]:
        return  # neither tower asks
    wanted = (
        trained.get("quick_gelu", False)
        if trained
        else about.get("model_cfg", {}).get("quick_gelu", False)
        if about
        else None
    )
    has = bool(config.get("quick_gelu", False))
    if wanted is None or bool(wanted) == has:
        return
    other = name.removesuffix("-quickgelu") if has else f"{name}-quickgelu"
    if other not in open_clip.list_models():
        other = "a model that does"
    weights_name = f"the weights {tag}" if tag else f"the weights in {spec.path}"
    raise EncoderError(
        f"{spec}: {weights_name} were trained {'with' if wanted else 'without'} QuickGELU and {name} computes "
        f"{'with' if has else 'without'} it, which would give wrong rows; say openclip:{other}"
        + (f"/{tag}" if tag else f"@{spec.path}")
    )


def _preprocess(
    open_clip: Any,
    spec: Spec,
    name: str,
    config: Mapping[str, Any],
    trained: Mapping[str, Any],
    about: Mapping[str, Any],
) -> dict[str, Any]:
    """Mean, deviation, interpolation and resize mode: of the tag, of the file's own config, or what all fitting tags
    agree on."""

    def picked(values: Mapping[str, Any]) -> dict[str, Any]:
        default = open_clip.transform.PreprocessCfg()
        keys = {
            "mean": "mean",
            "std": "std",
            "interpolation": "interpolation",
            "resize_mode": "resize_mode",
            "fill_color": "fill",
        }
        found = {ours: values.get(theirs) or getattr(default, theirs) for theirs, ours in keys.items()}
        found["mean"], found["std"] = (
            tuple(float(x) for x in values.get(key) or getattr(default, key)) for key in ("mean", "std")
        )
        return found

    if trained or about:
        return picked(trained or about.get("preprocess_cfg", {}))
    quick = bool(config.get("quick_gelu", False))
    options: dict[str, str] = {}
    for tag in open_clip.list_pretrained_tags_by_model(name):
        known = open_clip.get_pretrained_cfg(name, tag)
        if bool(known.get("quick_gelu", False)) == quick:
            options.setdefault(json.dumps(picked(known)), tag)
    if len(options) > 1:
        raise EncoderError(
            f"{spec}: weights of {name} differ in how photos are prepared, and {spec.path} does not say; name those it "
            "is most like: " + " or ".join(f"openclip:{name}/{tag}@{spec.path}" for tag in options.values())
        )
    values = json.loads(next(iter(options))) if options else {}
    return picked({**values, "fill_color": values.get("fill")})


def repository_of(trained: Mapping[str, Any]) -> tuple[str, tuple[str, ...]]:
    """The hub's repository of a tag and the names that its weights may have, the best first."""
    repository, _, name = str(trained.get("hf_hub", "")).rpartition("/")
    if not name:
        return repository, (FILES[0], FILES[2])
    return repository, (f"{name.rpartition('.')[0]}.safetensors", name)


def _download(trained: Mapping[str, Any], name: str, spec: Spec) -> Path:
    repository, names = repository_of(trained)
    if repository:
        return hf_hub.file(repository, names, instead=f"openclip:{spec.model}@FILE")
    raise EncoderError(
        f"{spec}: these weights are not on the hub; fetch {trained.get('url')} and say openclip:{spec.model}@FILE"
    )


def _tokenizer(open_clip: Any, name: str, text_config: Mapping[str, Any], beside: Path) -> Any:
    context = text_config.get("context_length", open_clip.tokenizer.DEFAULT_CONTEXT_LENGTH)
    options: dict[str, Any] = dict(text_config.get("tokenizer_kwargs", {}))
    source = text_config.get("hf_tokenizer_name", "")
    if not source:
        return open_clip.tokenizer.SimpleTokenizer(context_length=context, **options)
    if any((beside / file).is_file() for file in TOKENIZER_FILES):
        folder = beside
    else:
        folder = hf_hub.folder(
            source,
            patterns=hf_hub.CONFIGS,
            needed=("token*",),
            instead=f"openclip:{name}@FOLDER with the tokenizer in it",
        )
    hf_hub.check_no_code(folder)
    options |= {"local_files_only": True, "trust_remote_code": False}
    return open_clip.tokenizer.HFTokenizer(
        str(folder), context_length=context, tokenizer_mode=text_config.get("tokenizer_mode"), **options
    )


def _tokenizer_identity(tokenizer: Any) -> list[Any]:
    inner: Any = getattr(tokenizer, "tokenizer", None)
    table = (
        weights.short(inner.backend_tokenizer.to_str()) if hasattr(inner, "backend_tokenizer") else type(inner).__name__
    )
    clean = getattr(tokenizer.clean_fn, "__name__", "")
    return [
        table,
        tokenizer.context_length,
        clean,
        getattr(tokenizer, "tokenizer_mode", ""),
        getattr(tokenizer, "strip_sep_token", False),
    ]


def _text_config(name: str, beside: Path) -> Path:
    """The folder with config.json of a Hugging Face text tower; its weights come with the checkpoint.

    open_clip reads it without saying what it thinks of code in it, so it must bring none.
    """
    folder = Path(name)
    with contextlib.suppress(OSError, ValueError, AttributeError):
        if json.loads(read_text(beside / "config.json")).get("model_type"):
            folder = beside
    if not folder.is_dir():
        folder = hf_hub.file(
            name, ("config.json",), instead="openclip:MODEL@FOLDER with that config.json beside the weights"
        ).parent
    hf_hub.check_no_code(folder)
    return folder


def _model(open_clip: Any, spec: Spec, name: str, config: dict[str, Any], runner: Runner, checkpoint: Path) -> Any:
    logging.disable(logging.WARNING)  # it warns of random weights before they are replaced
    try:
        model = open_clip.create_model(
            name, precision=runner.precision, pretrained_text=False, pretrained_image=False, text_cfg=config["text_cfg"]
        )
        found = weights.shapes(checkpoint)
        for key, tensor in model.state_dict().items():
            shape = found.get(key, found.get(key.removeprefix("text.")))
            if key.endswith("positional_embedding") and shape not in (
                None,
                tuple(tensor.shape),
            ):  # open_clip would stretch it
                raise EncoderError(
                    f"{checkpoint} has {key} of shape {shape} and {name} needs {tuple(tensor.shape)}: "
                    "it is of a model with another resolution or context; name that one"
                )
        open_clip.load_checkpoint(model, str(checkpoint), strict=True, weights_only=True)
        if (
            "hf_model_name" in config["text_cfg"]
        ):  # open_clip lowers a part of such a tower, which then does not fit the rest
            model.text.to(runner.dtype)
    except EncoderError:
        raise
    except Exception as error:  # the file comes from anywhere
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise EncoderError(
            f"{checkpoint} cannot be read as weights of {name}: {reason}; only tensors are read, never pickled code: "
            "save it as .safetensors, or name the model it was made with"
        ) from None
    finally:
        logging.disable(logging.NOTSET)
    return model.eval().requires_grad_(False).to(runner.device)
