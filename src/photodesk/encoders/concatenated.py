"""Several towers as one: the T text features and V photo features of a T×V network, concatenated in one row each.

A text feature is the row of one tower for some fields of the article, such as its title; an article without them is
encoded by its first field that has text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from photodesk.encoders.base import Encoder, PhotoTower, TextTower
from photodesk.encoders.preprocess import Layout
from photodesk.errors import EncoderError
from photodesk.types import FloatArray

if TYPE_CHECKING:
    from PIL import Image


class ConcatenatedTexts(TextTower):
    """T text features in one row, each of length √(1/T).

    Args:
        towers: the text towers.
        fields: sets of fields, such as (("title",), ("text",)); each tower encodes each of them. Empty: the text as it
            is prepared.
    """

    def __init__(self, towers: Sequence[TextTower], fields: Sequence[tuple[str, ...]] = ()) -> None:
        self.towers, self.fields = tuple(towers), tuple(map(tuple, fields))
        reads = f"[{'|'.join(map('+'.join, self.fields))}]" if fields else ""
        self.fingerprint = "&".join(tower.fingerprint for tower in towers) + reads
        self.dim = sum(self.dims)
        self.batch = min(tower.batch for tower in towers)
        self.context = min((tower.context for tower in towers if tower.context), default=0)

    @property
    def _columns(self) -> range:
        return range(len(self.fields) or 1)

    @property
    def dims(self) -> tuple[int, ...]:
        """Of the towers, each repeated for every set of fields."""
        return tuple(tower.dim for tower in self.towers for _ in self._columns)

    def encode(self, texts: Sequence[str]) -> FloatArray:
        """(n, Σ dims) float32 unit rows; every text is that of all fields."""
        return self.read([(text,) * len(self._columns) for text in texts])

    def read(self, texts: Sequence[tuple[str, ...]]) -> FloatArray:
        """(n, Σ dims) float32 unit rows."""
        columns = [[text[i] or next(filter(None, text), "") for text in texts] for i in self._columns]
        return _row([tower.encode(column) for tower in self.towers for column in columns])

    def tokens(self, text: str) -> list[str]:
        """Those of the first tower."""
        return self.towers[0].tokens(text)


class ConcatenatedPhotos(PhotoTower):
    """V photo features in one row, each of length √(1/V)."""

    def __init__(self, towers: Sequence[PhotoTower]) -> None:
        from PIL import Image

        self.towers = tuple(towers)
        self.fingerprint = "&".join(tower.fingerprint for tower in towers)
        self.dim = sum(self.dims)
        self.batch = min(tower.batch for tower in towers)
        self.most = min(tower.most for tower in towers)
        self.size = max(tower.size for tower in towers)
        self._layout = Layout([tower.prepare(Image.new("RGB", (64, 64))) for tower in towers])

    @property
    def dims(self) -> tuple[int, ...]:
        """Of the towers."""
        return tuple(tower.dim for tower in self.towers)

    def prepare(self, photo: Image.Image) -> NDArray[np.generic]:
        """What each tower prepares, as bytes."""
        return Layout.pack(tower.prepare(photo) for tower in self.towers)

    def encode(self, batch: NDArray[np.generic]) -> FloatArray:
        """(n, Σ dims) float32 unit rows."""
        parts = zip(self.towers, self._layout.unpack(batch), strict=True)
        return _row([tower.encode(part) for tower, part in parts])


def _row(features: Sequence[FloatArray]) -> FloatArray:
    return np.concatenate(features, axis=1) * np.float32(len(features) ** -0.5)


def towers(encoders: Sequence[Encoder], fields: Sequence[tuple[str, ...]] = ()) -> tuple[TextTower, PhotoTower]:
    """The frozen towers whose features a network on these encoders learns from; concatenated if there are several."""
    texts = list({encoder.texts.fingerprint: encoder.texts for encoder in encoders}.values())
    photos = list({encoder.photos.fingerprint: encoder.photos for encoder in encoders}.values())
    return (
        texts[0] if len(texts) == 1 and not fields else ConcatenatedTexts(texts, fields),
        photos[0] if len(photos) == 1 else ConcatenatedPhotos(photos),
    )


def checked(encoder: Encoder) -> Encoder:
    """The encoder, if its network was trained on its towers.

    Raises:
        EncoderError: it was trained on others; both are named.
    """
    assert encoder.network
    for tower, wanted in ((encoder.texts, encoder.network.text_tower), (encoder.photos, encoder.network.photo_tower)):
        if tower.fingerprint != wanted:
            raise EncoderError(
                f"{encoder.name}: its network was trained on {wanted}, and this is {tower.fingerprint}; train it again "
                "on this one"
            )
    return encoder
