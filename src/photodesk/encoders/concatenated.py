"""Several towers as one: the T text features and V photo features of a T×V network, concatenated in one row each.

A text feature is one tower's reading of some fields of the article, such as its title; an article that lacks them is
read by its first field that is there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from photodesk.encoders.base import Encoder, PhotoTower, TextTower
from photodesk.errors import EncoderError
from photodesk.types import FloatArray

if TYPE_CHECKING:
    from PIL import Image


class ConcatenatedTexts(TextTower):
    """T text features in one row, each of length √(1/T).

    Args:
        towers: the readers.
        fields: what each of them reads, one after the other, such as (("title",), ("text",)); each tower reads each of
            these. Empty: the text as it is prepared.
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
        """The towers', each as often as there are sets of fields."""
        return tuple(tower.dim for tower in self.towers for _ in self._columns)

    def encode(self, texts: Sequence[str]) -> FloatArray:
        """(n, Σ dims) float32 unit rows; every text stands for all fields."""
        return self.read([(text,) * len(self._columns) for text in texts])

    def read(self, texts: Sequence[tuple[str, ...]]) -> FloatArray:
        """(n, Σ dims) float32 unit rows."""
        columns = [[text[i] or next(filter(None, text), "") for text in texts] for i in self._columns]
        return _row([tower.encode(column) for tower in self.towers for column in columns])

    def tokens(self, text: str) -> list[str]:
        """What the first tower reads."""
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
        blanks = [tower.prepare(Image.new("RGB", (64, 64))) for tower in towers]
        self._layout = [(blank.dtype, blank.shape) for blank in blanks]
        self._ends = np.cumsum([blank.nbytes for blank in blanks])

    @property
    def dims(self) -> tuple[int, ...]:
        """The towers'."""
        return tuple(tower.dim for tower in self.towers)

    def prepare(self, photo: Image.Image) -> NDArray[np.generic]:
        """What each tower prepares, as bytes behind each other."""
        arrays = [tower.prepare(photo) for tower in self.towers]
        return np.concatenate([np.ascontiguousarray(array).reshape(-1).view(np.uint8) for array in arrays])

    def encode(self, batch: NDArray[np.generic]) -> FloatArray:
        """(n, Σ dims) float32 unit rows."""
        parts = zip(self.towers, self._layout, np.split(batch, self._ends[:-1], axis=1), strict=True)
        return _row(
            [
                tower.encode(np.ascontiguousarray(part).view(dtype).reshape(len(batch), *shape))
                for tower, (dtype, shape), part in parts
            ]
        )


def _row(features: Sequence[FloatArray]) -> FloatArray:
    return np.concatenate(features, axis=1) * np.float32(len(features) ** -0.5)


def towers(encoders: Sequence[Encoder], fields: Sequence[tuple[str, ...]] = ()) -> tuple[TextTower, PhotoTower]:
    """The frozen towers that a network on these encoders learns from: an encoder's own where there is one and nothing
    to split."""
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
