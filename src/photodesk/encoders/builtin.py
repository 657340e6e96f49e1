"""The encoder that photodesk ships: multilingual-e5-small texts, EfficientNet-Lite photos, a trained T×V network between them."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from photodesk.encoders import Encoder
from photodesk.encoders.beside import checked
from photodesk.encoders.e5 import E5
from photodesk.encoders.lite import Lite
from photodesk.network import load

PHOTO_VERSIONS = (0, 1, 2)  # of EfficientNet-Lite; the network was trained on these


def towers() -> tuple[E5, Lite]:
    """The two frozen towers, whose features `photodesk train` learns from."""
    return E5(), Lite(PHOTO_VERSIONS)


def load_builtin(network: Path | None = None) -> Encoder:
    """The built-in encoder, with its shipped network or another one trained on the same towers.

    Raises:
        EncoderError: the network is damaged or was trained on other towers.
    """
    path = resources.files("photodesk") / "models/bridge.safetensors"
    with resources.as_file(path) as shipped:
        return checked(Encoder("builtin" + (f"@{network}" if network else ""), *towers(), load(network or shipped)))
