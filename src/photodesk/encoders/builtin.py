"""The encoder that photodesk ships: multilingual-e5-small texts, EfficientNet-Lite photos, a trained T×V network
between them."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from photodesk.encoders import shipped
from photodesk.encoders.base import Encoder
from photodesk.encoders.concatenated import checked
from photodesk.encoders.e5 import E5, LAYERS
from photodesk.encoders.efficientnet import Lite
from photodesk.encoders.txv import load
from photodesk.errors import UsageError

PHOTO_VERSIONS = (0, 1, 2)  # of EfficientNet-Lite; the network was trained on these


def towers(layers: Sequence[int] = (LAYERS,)) -> tuple[E5, Lite]:
    """The two frozen towers, whose features `photodesk train` learns from, with these layers of the text tower."""
    return E5(layers=layers), Lite(PHOTO_VERSIONS)


def load_layers(text: str) -> Encoder:
    """`builtin:layers=8+12`: the towers with several layers of the text tower as text features, to train a network on.

    Raises:
        UsageError: it names no layers.
    """
    key, _, layers = text.partition("=")
    if key != "layers" or not all(part.isdecimal() for part in layers.split("+")):
        raise UsageError(f"builtin:{text}: expected layers, such as builtin:layers=8+12")
    return Encoder(f"builtin:{text}", *towers([int(part) for part in layers.split("+")]))


def load_builtin(network: Path | None = None) -> Encoder:
    """The built-in encoder, with its shipped network or another one trained on the same towers.

    Raises:
        EncoderError: the network is damaged or was trained on other towers.
    """
    name = "builtin" + (f"@{network}" if network else "")
    with resources.as_file(resources.files("photodesk") / "models/bridge.safetensors") as own:
        return checked(Encoder(name, *towers(), load(network or shipped.checked(own))))
