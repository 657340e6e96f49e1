"""EfficientNet-Lite photo features, run by onnxruntime: the photo tower of the built-in model."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from photodesk.encoders import onnx_session, shipped
from photodesk.encoders.base import PhotoTower
from photodesk.errors import EncoderError
from photodesk.types import FloatArray, unit

if TYPE_CHECKING:
    from PIL import Image

SHAPES = {
    0: ((304, 176), (272, 192), (232, 232), (192, 272), (176, 304)),
    1: ((400, 224), (360, 248), (300, 300), (248, 360), (224, 400)),
    2: ((480, 272), (432, 304), (360, 360), (304, 432), (272, 480)),
}
"""Width and height in pixels at which EfficientNet-Lite 0, 1, 2 read a photo: 16:9, √2:1, square, 1:√2, 9:16, of equal
area."""

ASPECTS = np.log([16 / 9, 2**0.5, 1, 2**-0.5, 9 / 16])
FEATURES = 1280
STAGES = 1360
"""Length of the features of Lite2's last three stages: mean and standard deviation of each channel."""

STAGES_WEIGHT = 0.45
"""Relative to pooled features of length 1; from .3 to .6 the measures are similar (LOG.md)."""


class Lite(PhotoTower):
    """Pooled features of one or several EfficientNet-Lite networks, concatenated, each part of equal length; with
    the last stages of Lite2.

    A photo is resized to the nearest of five shapes, so that nothing is cropped.

    Args:
        versions: which networks, of 0, 1, 2.

    Raises:
        EncoderError: a version that is not shipped.
    """

    batch = most = 2  # more would not fit the caches: slower, and three times the memory

    def __init__(self, versions: Sequence[int] = (2,)) -> None:
        if not versions or any(v not in SHAPES for v in versions):
            raise EncoderError(f"EfficientNet-Lite versions {list(versions)} are not shipped; known: {list(SHAPES)}")
        self.versions = tuple(versions)
        self.fingerprint = "lite" + "".join(map(str, self.versions)) + "/2"
        self.dim = FEATURES * len(self.versions) + STAGES * (2 in self.versions)
        self.size = max(min(shape) for v in self.versions for shape in SHAPES[v])
        self._bytes = 1 + sum(3 * max(width * height for width, height in SHAPES[v]) for v in self.versions)

    @cached_property
    def _sessions(self) -> list[Any]:
        how = onnx_session.options(1)  # the store runs a batch a core
        return [onnx_session.opened(shipped.read(f"lite{v}.onnx"), how) for v in self.versions]

    def views(self, photo: Image.Image) -> list[NDArray[np.uint8]]:
        """The photo as each network reads it, (height, width, RGB)."""
        from PIL import Image

        sizes = [SHAPES[version][shape_of(photo)] for version in self.versions]
        largest = photo.resize(max(sizes), Image.Resampling.BICUBIC)
        return [
            np.asarray(largest if largest.size == size else largest.resize(size, Image.Resampling.BICUBIC))
            for size in sizes
        ]

    def prepare(self, photo: Image.Image) -> NDArray[np.uint8]:
        """The index of the shape, the photo as each network reads it, and zeros up to one length for all photos."""
        row = np.zeros(self._bytes, np.uint8)
        row[0] = shape_of(photo)
        pixels = np.concatenate([view.reshape(-1) for view in self.views(photo)])
        row[1 : 1 + len(pixels)] = pixels
        return row

    def encode(self, batch: NDArray[np.generic]) -> FloatArray:
        """(n, 1280 · networks [+ 1360]) float32 unit rows; each network's part has the same length."""
        rows = np.empty((len(batch), self.dim), np.float32)
        for shape in np.unique(batch[:, 0]):
            alike = batch[:, 0] == shape
            rows[alike] = self._encode(batch[alike], int(shape))
        return rows

    def _encode(self, batch: NDArray[np.generic], shape: int) -> FloatArray:
        parts: list[FloatArray] = []
        stages: list[FloatArray] = []
        start = 1
        for version, session in zip(self.versions, self._sessions, strict=True):
            width, height = SHAPES[version][shape]
            pixels = np.ascontiguousarray(batch[:, start : start + height * width * 3]).reshape(-1, height, width, 3)
            start += height * width * 3
            features, *more = session.run(["features", "stages"] if version == 2 else ["features"], {"x": pixels})
            features *= len(self.versions) ** -0.5 / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
            parts.append(features)
            stages += [each * STAGES_WEIGHT for each in more]
        return unit(np.concatenate([*parts, *stages], axis=1))


def shape_of(photo: Image.Image) -> int:
    """The index of the shape that is nearest to a photo's."""
    return int(np.abs(ASPECTS - np.log(photo.width / photo.height)).argmin())
