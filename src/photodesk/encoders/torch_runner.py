"""The device, precision and threads of a torch model, and what towers of such models share.

The pipeline encodes photos from as many threads as there are cores. On a CPU each of them computes on its own core, in
parallel: a third faster in bfloat16 than calls that take turns on all cores, which idle whenever one of them decodes
(LOG.md). Every other call takes all cores, one at a time; so does a call on a GPU.
"""

from __future__ import annotations

import contextlib
import threading
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from photodesk.encoders import checkpoint
from photodesk.encoders.base import PhotoTower, TextTower
from photodesk.encoders.spec import Spec
from photodesk.errors import EncoderError, UsageError, require
from photodesk.text_repair import encodable
from photodesk.types import FloatArray


class _Thread(threading.local):
    """Of each thread: whether it computes on one core, and whether torch's limit is set."""

    alone = limited = False


_thread = _Thread()


def one_core() -> None:
    """Limit torch to one core in this thread, so that several threads compute in parallel."""
    _thread.alone = True


class Runner:
    """Runs torch functions on the device and in the precision that a name asks for.

    Attributes:
        device: "cuda", "mps" or "cpu".
        precision: "fp32", "bf16" or "fp16".
        dtype: the torch type of that precision.
        most: photos of one call; on a CPU 64 in the calls of all cores together.

    Raises:
        UsageError: the device is not available, or cannot compute in that precision.
        MissingExtra: torch is not installed.
    """

    def __init__(self, spec: Spec, extra: str) -> None:
        self.torch: Any = require("torch", extra)
        available = {"cpu": True, "cuda": self.torch.cuda.is_available(), "mps": self.torch.backends.mps.is_available()}
        self.device = (
            next(name for name in ("cuda", "mps", "cpu") if available[name]) if spec.device == "auto" else spec.device
        )
        if not available[self.device]:
            raise UsageError(
                f"{spec}: torch finds no device {self.device} here; there is "
                f"{', '.join(k for k, v in available.items() if v)}"
            )
        if spec.precision == "int8":
            raise UsageError(
                f"{spec}: int8 is for exported models; run: photodesk export '{spec.family}:{spec.model}' -o DIR"
            )
        if spec.precision == "fp16" and self.device == "cpu":
            raise UsageError(f"{spec}: fp16 needs a GPU; on a CPU use precision=bf16 or fp32")
        self.precision = spec.precision
        self.dtype = getattr(self.torch, {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}[spec.precision])
        self._compile = spec.compile == "yes"
        self._lock = threading.Lock()
        self.most = max(4, 64 // self.torch.get_num_threads()) if self.device == "cpu" else 64

    def __str__(self) -> str:
        threads = f", {self.torch.get_num_threads()} threads" if self.device == "cpu" else ""
        return f"{self.device}, {self.precision}{threads}" + (", compiled" if self._compile else "")

    def function(self, function: Any) -> Any:
        """The function or module, compiled if the user asked for it."""
        return self.torch.compile(function) if self._compile else function

    def rows(self, function: Callable[..., Any], *inputs: Any) -> FloatArray:
        """(n, d) float32 unit rows of a function of tensors or arrays, which are moved to the device.

        Raises:
            EncoderError: the model's output is not finite.
        """
        torch = self.torch
        with self._turn(), torch.inference_mode():
            moved = [(torch.from_numpy(x) if isinstance(x, np.ndarray) else x).to(self.device) for x in inputs]
            out = torch.nn.functional.normalize(function(*moved).float(), dim=-1)
            rows: FloatArray = out.cpu().numpy()
        if not np.isfinite(rows).all():
            raise EncoderError(
                f"the model gave numbers that are not finite in {self.precision}; use precision=fp32, or its file is "
                "damaged"
            )
        return rows

    def _turn(self) -> contextlib.AbstractContextManager[Any]:
        """The lock of calls that take all cores; none for a thread with one core."""
        if self.device != "cpu" or self._compile or not _thread.alone:  # torch.compile is not thread-safe
            return self._lock
        if not _thread.limited:
            self.torch.get_num_threads()  # torch's own setting of a new thread comes first
            threadpool_limits(1, user_api="openmp")  # of this thread, not of the process
            _thread.limited = True
        return contextlib.nullcontext()


class TorchTexts(TextTower):
    """A text tower that torch computes.

    Args:
        visual: the modules of the model's photo tower, as for `checkpoint.halves`.
    """

    batch = 64

    def __init__(self, model: Any, runner: Runner, fingerprint: str, dim: int, visual: Sequence[str] = ()) -> None:
        self.model, self.runner, self.fingerprint, self.dim, self._visual = model, runner, fingerprint, dim, visual

    def encode(self, texts: Sequence[str]) -> FloatArray:
        """(n, dim) float32 unit rows."""
        return self.rows([encodable(text) for text in texts]) if texts else np.zeros((0, self.dim), np.float32)

    @abstractmethod
    def rows(self, texts: list[str]) -> FloatArray:
        """As `encode`, of one or more texts without lone surrogates."""

    def alone(self) -> None:
        """Release the photo tower of the model."""
        checkpoint.release(self.model, "photos", self._visual)


class TorchPhotos(PhotoTower):
    """A photo tower that torch computes; arguments as of `TorchTexts`."""

    batch = 16

    def __init__(self, model: Any, runner: Runner, fingerprint: str, dim: int, visual: Sequence[str]) -> None:
        self.model, self.runner, self.fingerprint, self.dim, self._visual = model, runner, fingerprint, dim, visual
        self.most = runner.most

    def state(self) -> Mapping[str, Any]:
        """The tower's tensors by name, to compare frozen towers."""
        return checkpoint.halves(self.model, self._visual)["photos"]

    def alone(self) -> None:
        """Release the text tower of the model."""
        checkpoint.release(self.model, "texts", self._visual)
