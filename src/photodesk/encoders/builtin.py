"""The encoder that photodesk ships: multilingual-e5-small texts, EfficientNet-Lite photos, a trained T×V network between them."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from photodesk.encoders import Encoder
from photodesk.encoders.e5 import E5
from photodesk.encoders.lite import Lite
from photodesk.errors import EncoderError
from photodesk.network import Network, load

PHOTO_VERSIONS = (0, 1, 2)  # of EfficientNet-Lite; the network was trained on these


def towers() -> tuple[E5, Lite]:
    """The two frozen towers, whose features `photodesk train` learns from."""
    return E5(), Lite(PHOTO_VERSIONS)


def load_builtin(network: Path | None = None) -> Encoder:
    """The built-in encoder, with its shipped network or another one trained on the same towers.

    Raises:
        EncoderError: the network is damaged or was trained on other towers.
    """
    texts, photos = towers()
    if network is None:
        with resources.as_file(resources.files("photodesk") / "models/bridge.safetensors") as path:
            return _checked("builtin", texts, photos, load(path))
    return _checked(f"builtin@{network}", texts, photos, load(network))


def _checked(name: str, texts: E5, photos: Lite, network: Network) -> Encoder:
    for tower, wanted in ((texts.fingerprint, network.text_tower), (photos.fingerprint, network.photo_tower)):
        if tower != wanted:
            raise EncoderError(f"{name}: its network was trained on {wanted}, and this is {tower}; train it again on this one")
    return Encoder(name, texts, photos, network)
