"""Encoders by name, as `spec.py` parses it: `load(name)`. A library is imported when one of its models is loaded."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path

from photodesk.encoders import spec
from photodesk.encoders.base import Encoder
from photodesk.errors import UsageError


def _module(name: str) -> Callable[[str], Encoder]:
    """`load` of a module of this package."""

    def load_parsed(text: str) -> Encoder:
        encoder: Encoder = importlib.import_module(f"photodesk.encoders.{name}").load(spec.parse(text)[""])
        return encoder

    return load_parsed


def _network_file(name: str) -> Path:
    family, _, path = name.partition("@")
    if not path:
        family = family.partition(":")[0]
        raise UsageError(f"encoder {name!r}: name the file of the network, as in {family}@model.safetensors")
    return Path(path)


def _builtin(name: str) -> Encoder:
    from photodesk.encoders.builtin import load_builtin, load_layers

    if name.startswith("builtin:"):
        return load_layers(name.removeprefix("builtin:"))
    return load_builtin(_network_file(name) if "@" in name else None)


def _sentence(name: str) -> Encoder:
    raise UsageError(
        f"{name} reads texts only; pair it with the photo tower it was trained with: text={name}, "
        "image=openclip:MODEL/TAG"
    )


def _txv(name: str) -> Encoder:
    return load_trained(_network_file(name))


FAMILIES: dict[str, Callable[[str], Encoder]] = {
    "builtin": _builtin,
    "clip": _module("transformers_clip"),
    "onnx": _module("onnx"),
    "openclip": _module("openclip"),
    "sentence": _sentence,
    "txv": _txv,
}


def load(name: str = "builtin") -> Encoder:
    """The encoder of that name: `builtin`, `openclip:MODEL/TAG`, `clip:MODEL`, `onnx:FOLDER`, `text=…, image=…` of two
    towers, or `txv@FILE`, a network that `photodesk train` trained on any of these.

    Raises:
        UsageError: no such family of encoders, or an unknown model or option.
        EncoderError: the model is missing or damaged.
        MissingExtra: its library is not installed.
    """
    if name.startswith(("text=", "image=")):
        from photodesk.encoders import mixed

        return mixed.load(spec.parse(name), load)
    family = name.partition("@")[0].partition(":")[0]
    if family not in FAMILIES:
        raise UsageError(f"no encoder {name!r}; known: {', '.join(sorted(FAMILIES))}; see: photodesk encoders")
    return FAMILIES[family](name)


def load_trained(path: Path) -> Encoder:
    """The encoder `txv@FILE`: a network of `photodesk train`, on the encoders that it names.

    Raises:
        EncoderError: the file is missing, damaged or no network, or an encoder that it was trained on has changed.
    """
    from photodesk.encoders import txv
    from photodesk.encoders.concatenated import checked, towers

    network = txv.load(path)
    return checked(Encoder(f"txv@{path}", *towers([load(name) for name in network.encoders], network.fields), network))
