"""Preprocessing of photos without torch: the same bytes as open_clip's transform.

The steps and their rounding are those of torchvision's Resize and CenterCrop on PIL images and of open_clip's
ResizeKeepRatio and CenterCropOrPad; a test compares every mode with open_clip. Of a JPEG that was decoded at a part of
its size (`images.decode`), whose bytes differ anyway, and of very narrow pictures only the crop is resized: a third
less work, and at most one level of 255 away.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from photodesk.images import REDUCED
from photodesk.types import FloatArray

if TYPE_CHECKING:
    from PIL import Image


NARROW = 20
"""Times that the longer side of a picture is the shorter one, from which on only what the crop keeps is scaled: a line
of 1 × 20,000 pixels would become 224 × 4,480,000."""


@dataclass(frozen=True, slots=True)
class Pixels:
    """The preprocessing of a model.

    Args:
        size: side of the square in pixels.
        mean: of the three channels, of values from 0 to 1; std: their standard deviations.
        interpolation: "bicubic" or "bilinear".
        resize_mode: "shortest" crops the longer side, "longest" pads the shorter one, "squash" changes the proportions.
        fill: grey level of the padding.
    """

    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str = "bicubic"
    resize_mode: str = "shortest"
    fill: int = 0

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Pixels:
        """From the values of `asdict`, read from JSON."""
        return cls(**{**values, "mean": tuple(values["mean"]), "std": tuple(values["std"])})

    def asdict(self) -> dict[str, Any]:
        """All values by name."""
        return asdict(self)

    def prepare(self, photo: Image.Image) -> NDArray[np.uint8]:
        """(3, size, size) bytes of an RGB photo."""
        from PIL import Image

        method = Image.Resampling.BILINEAR if self.interpolation == "bilinear" else Image.Resampling.BICUBIC
        width, height, side = *photo.size, self.size
        if self.resize_mode == "squash":
            square = photo.resize((side, side), method)
        elif self.resize_mode == "longest":
            ratio = max(width, height) / side
            resized = photo.resize((max(1, round(width / ratio)), max(1, round(height / ratio))), method)
            square = Image.new("RGB", (side, side), (self.fill,) * 3)
            square.paste(resized, ((side - resized.width) // 2, (side - resized.height) // 2))
        else:
            scaled = (side, int(side * height / width)) if width <= height else (int(side * width / height), side)
            left, top = (round((length - side) / 2.0) for length in scaled)
            if photo.info.get(REDUCED) or max(photo.size) > NARROW * min(photo.size):
                x, y = width / scaled[0], height / scaled[1]
                square = photo.resize(
                    (side, side),
                    method,
                    (left * x, top * y, min((left + side) * x, width), min((top + side) * y, height)),
                )
            else:
                if min(width, height) != side:
                    photo = photo.resize(scaled, method)
                square = photo.crop((left, top, left + side, top + side))
        return np.ascontiguousarray(np.asarray(square).transpose(2, 0, 1))

    def scaled(self, batch: NDArray[np.generic]) -> FloatArray:
        """(n, 3, size, size) bytes → float32, standardised by channel."""
        mean, std = (np.asarray(x, np.float32)[:, None, None] for x in (self.mean, self.std))
        pixels: FloatArray = batch.astype(np.float32)
        pixels /= np.float32(255)  # in place: fresh memory costs more than the arithmetic
        pixels -= mean
        pixels /= std
        return pixels


class Layout:
    """Several arrays of a photo in one flat row of bytes, so that those of a batch can be stacked.

    Args:
        arrays: of any photo; those of every photo have the same shapes and types.
    """

    def __init__(self, arrays: Sequence[NDArray[Any]]) -> None:
        self._forms = [(array.dtype, array.shape) for array in arrays]
        self._ends = np.cumsum([array.nbytes for array in arrays])[:-1]

    @staticmethod
    def pack(arrays: Iterable[NDArray[Any]]) -> NDArray[np.uint8]:
        """The row of one photo."""
        return np.concatenate([np.ascontiguousarray(array).reshape(-1).view(np.uint8) for array in arrays])

    def unpack(self, batch: NDArray[np.generic]) -> list[NDArray[Any]]:
        """(n, bytes) rows → each array of all n photos, stacked."""
        return [
            np.ascontiguousarray(part).view(dtype).reshape(len(batch), *shape)
            for part, (dtype, shape) in zip(np.split(batch, self._ends, axis=1), self._forms, strict=True)
        ]
