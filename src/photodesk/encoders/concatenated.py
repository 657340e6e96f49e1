"""Several towers side by side: the T text features and V photo features of a T×V network, as one row each.

A text feature is one tower's reading of some fields of the article, such as its title. The prepared texts of those
fields come joined by `SEPARATOR`; an article that lacks some is read by its first field that is there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from photodesk.encoders.base import Encoder, PhotoTower, TextTower, most
from photodesk.errors import EncoderError
from photodesk.types import FloatArray

if TYPE_CHECKING:
    from PIL import Image

SEPARATOR = "\x1f"  # no prepared text holds it: preparation takes control characters out


class TextsBeside:
    """T text features in one row, each of length √(1/T).

    Args:
        towers: the readers.
        fields: what each of them reads, one after the other, such as (("title",), ("text",)); each tower reads each of
            these. Empty: the text as it is prepared.
    """

    def __init__(self, towers: Sequence[TextTower], fields: Sequence[tuple[str, ...]] = ()) -> None:
        self.towers, self.fields = tuple(towers), tuple(tuple(each) for each in fields)
        reads = f"[{'|'.join('+'.join(names) for names in self.fields)}]" if self.fields else ""
        self.fingerprint = "&".join(tower.fingerprint for tower in self.towers) + reads
        self.dims = tuple(tower.dim for tower in self.towers for _ in self.fields or ((),))
        self.dim = sum(self.dims)
        self.batch = min(tower.batch for tower in self.towers)
        self.context = min((tower.context for tower in self.towers if tower.context), default=0)

    def encode(self, texts: Sequence[str]) -> FloatArray:
        """(n, Σ dims) float32 unit rows."""
        count = max(1, len(self.fields))
        split = [text.split(SEPARATOR) for text in texts]
        columns = [
            [(parts[number] if number < len(parts) else "") or next(filter(None, parts), "") for parts in split]
            for number in range(count)
        ]
        rows = [tower.encode(column) for tower in self.towers for column in columns]
        return np.concatenate(rows, axis=1) * np.float32(len(rows) ** -0.5)

    def tokens(self, text: str) -> list[str]:
        """What the first tower reads."""
        return self.towers[0].tokens(text.replace(SEPARATOR, " "))


class PhotosBeside:
    """V photo features in one row, each of length √(1/V)."""

    def __init__(self, towers: Sequence[PhotoTower]) -> None:
        self.towers = tuple(towers)
        self.fingerprint = "&".join(tower.fingerprint for tower in self.towers)
        self.dims = tuple(tower.dim for tower in self.towers)
        self.dim = sum(self.dims)
        self.batch = min(tower.batch for tower in self.towers)
        self.most = min(most(tower) for tower in self.towers)
        self.size = max(tower.size for tower in self.towers)
        self._forms: list[tuple[np.dtype[np.generic], tuple[int, ...]]] = []

    def prepare(self, photo: Image.Image) -> NDArray[np.generic]:
        """What each tower prepares, as bytes behind each other."""
        arrays = [tower.prepare(photo) for tower in self.towers]
        self._forms = [(array.dtype, array.shape) for array in arrays]  # the same for every photo
        return np.concatenate([np.ascontiguousarray(array).reshape(-1).view(np.uint8) for array in arrays])

    def encode(self, batch: NDArray[np.generic]) -> FloatArray:
        """(n, Σ dims) float32 unit rows."""
        rows, start = [], 0
        for tower, (dtype, shape) in zip(self.towers, self._forms, strict=True):
            size = dtype.itemsize * int(np.prod(shape))
            part = np.ascontiguousarray(batch[:, start : start + size]).view(dtype).reshape(len(batch), *shape)
            rows.append(tower.encode(part))
            start += size
        return np.concatenate(rows, axis=1) * np.float32(len(rows) ** -0.5)


def towers(encoders: Sequence[Encoder], fields: Sequence[tuple[str, ...]] = ()) -> tuple[TextTower, PhotoTower]:
    """The frozen towers that a network on these encoders learns from: an encoder's own where there is one and nothing
    to split."""
    texts = {encoder.texts.fingerprint: encoder.texts for encoder in encoders}
    photos = {encoder.photos.fingerprint: encoder.photos for encoder in encoders}
    text = next(iter(texts.values())) if len(texts) == 1 and not fields else TextsBeside(list(texts.values()), fields)
    photo = next(iter(photos.values())) if len(photos) == 1 else PhotosBeside(list(photos.values()))
    return text, photo


def dims(tower: TextTower | PhotoTower) -> tuple[int, ...]:
    """How a tower's row divides into the features of a T×V network."""
    found: tuple[int, ...] = getattr(tower, "dims", (tower.dim,))
    return found


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
