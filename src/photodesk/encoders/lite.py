"""EfficientNet-Lite photo features, run by onnxruntime: the photo tower of the built-in model."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from importlib import resources
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from photodesk.errors import EncoderError
from photodesk.records import FloatArray

if TYPE_CHECKING:
    from PIL import Image

SIZES = {0: 224, 1: 240, 2: 260}  # input side in pixels of EfficientNet-Lite 0, 1, 2
FEATURES = 1280


class Lite:
    """Pooled features of one or several EfficientNet-Lite networks, side by side, each part of equal length.

    A photo is squeezed to a square, so that nothing at its sides is lost.

    Args:
        versions: which networks, of 0, 1, 2.

    Raises:
        EncoderError: a version that is not shipped.
    """

    batch = most = 2  # more would not fit the caches: slower, and three times the memory

    def __init__(self, versions: Sequence[int] = (2,)) -> None:
        if not versions or any(v not in SIZES for v in versions):
            raise EncoderError(f"EfficientNet-Lite versions {list(versions)} are not shipped; known: {list(SIZES)}")
        self.versions = tuple(versions)
        self.fingerprint = "lite" + "".join(map(str, self.versions)) + "/1"
        self.dim = FEATURES * len(self.versions)
        self.size = max(SIZES[v] for v in self.versions)

    @cached_property
    def _sessions(self) -> list[Any]:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # the store runs one batch per core
        options.log_severity_level = 3
        folder = resources.files("photodesk") / "models"
        return [
            onnxruntime.InferenceSession((folder / f"lite{v}.onnx").read_bytes(), options, providers=["CPUExecutionProvider"])
            for v in self.versions
        ]

    def prepare(self, photo: Image.Image) -> NDArray[np.uint8]:
        """The photo at every size that a network reads, flattened behind each other: bytes, height · width · RGB each."""
        from PIL import Image

        square = photo.resize((self.size, self.size), Image.Resampling.BICUBIC)
        sides = [SIZES[v] for v in self.versions]
        return np.concatenate(
            [np.asarray(square if s == self.size else square.resize((s, s), Image.Resampling.BICUBIC)).reshape(-1) for s in sides]
        )

    def encode(self, batch: NDArray[np.generic]) -> FloatArray:
        """(n, 1280 · networks) float32 unit rows; each network's part has the same length."""
        parts, start = [], 0
        for version, session in zip(self.versions, self._sessions, strict=True):
            side = SIZES[version]
            pixels = np.ascontiguousarray(batch[:, start : start + side * side * 3]).reshape(-1, side, side, 3)
            start += side * side * 3
            (features,) = session.run(["features"], {"x": pixels})
            parts.append(features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12))
        rows: FloatArray = np.concatenate(parts, axis=1)
        rows *= len(parts) ** -0.5
        return rows
