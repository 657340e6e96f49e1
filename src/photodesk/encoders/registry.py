"""An encoder by the text that it prints as (`spec.py`): `load(name)`; one file here per optional dependency."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from photodesk.encoders.base import Encoder
from photodesk.errors import UsageError


def _builtin(name: str) -> Encoder:
    from photodesk.encoders.builtin import load_builtin, load_layers

    if name.startswith("builtin:"):
        return load_layers(name.removeprefix("builtin:"))
    _, at, path = name.partition("@")
    if at and not path:
        raise UsageError(f"encoder {name!r}: name the file of the network, as in builtin@model.safetensors")
    return load_builtin(Path(path) if path else None)


def _openclip(name: str) -> Encoder:
    from photodesk.encoders import openclip, spec

    return openclip.load(spec.parse(name)[""])


def _clip(name: str) -> Encoder:
    from photodesk.encoders import spec, transformers_clip

    return transformers_clip.load(spec.parse(name)[""])


def _onnx(name: str) -> Encoder:
    from photodesk.encoders import spec
    from photodesk.encoders.onnx import load as load_exported

    return load_exported(spec.parse(name)[""])


def _sentence(name: str) -> Encoder:
    raise UsageError(
        f"{name} reads texts only; pair it with the photo tower it was trained with: text={name}, "
        "image=openclip:MODEL/TAG"
    )


def _txv(name: str) -> Encoder:
    _, at, path = name.partition("@")
    if not at or not path:
        raise UsageError(f"encoder {name!r}: name the file of the network, as in txv@model.safetensors")
    return load_trained(Path(path))


def _pair(name: str) -> Encoder:
    from photodesk.encoders import mixed, spec

    return mixed.load(spec.parse(name), load)


FAMILIES: dict[str, Callable[[str], Encoder]] = {
    "builtin": _builtin,
    "clip": _clip,
    "onnx": _onnx,
    "openclip": _openclip,
    "sentence": _sentence,
    "txv": _txv,
}


def load(name: str = "builtin") -> Encoder:
    """The encoder of that name: `builtin`, `openclip:MODEL/TAG`, `clip:MODEL`, `onnx:FOLDER`, `text=…, image=…` of two
    towers, or `txv@FILE`, a network that `photodesk train` made on any of these.

    Raises:
        UsageError: no such family of encoders, or an unknown model or option.
        EncoderError: the model is missing or damaged.
        MissingExtra: its library is not installed.
    """
    if name.startswith(("text=", "image=")):
        return _pair(name)
    family = name.partition("@")[0].partition(":")[0]
    if family not in FAMILIES:
        raise UsageError(f"no encoder {name!r}; known: {', '.join(sorted(FAMILIES))}; see: photodesk encoders")
    return FAMILIES[family](name)


def load_trained(path: Path) -> Encoder:
    """The encoder `txv@FILE`: a network that `photodesk train` made, on the encoders that it names.

    Raises:
        EncoderError: the file is missing, damaged or no network, or an encoder that it was trained on is another
        version now.
    """
    from photodesk.encoders import txv
    from photodesk.encoders.concatenated import checked, towers

    network = txv.load(path)
    return checked(Encoder(f"txv@{path}", *towers([load(name) for name in network.encoders], network.fields), network))
