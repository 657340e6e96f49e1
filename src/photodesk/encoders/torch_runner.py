"""Where a torch model runs, how exactly, and how many cores a call takes.

The pipeline encodes photos from as many threads as there are cores. On a CPU each of them computes on its own core, so
nobody waits for anybody: a third faster in bfloat16 than calls that take turns on all cores, which idle whenever one of
them decodes (LOG.md). Every other call takes all cores, one at a time; a GPU does one batch at a time anyway.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from photodesk.encoders.spec import Spec
from photodesk.errors import EncoderError, UsageError, require
from photodesk.types import FloatArray


class _Thread(threading.local):
    """Of each thread: whether it has a core of its own, and whether torch knows."""

    alone = limited = False


_thread = _Thread()


def one_core() -> None:
    """From now on torch computes on one core when this thread calls it, next to other threads like it."""
    _thread.alone = True


class Runner:
    """Runs torch functions on the device and in the precision that a name asks for.

    Attributes:
        device: "cuda", "mps" or "cpu".
        precision: "fp32", "bf16" or "fp16".
        dtype: the torch type of that precision.
        most: photos of one call; on a CPU every core has a call under way, and together they hold 64.

    Raises:
        UsageError: the device is not there, or cannot compute in that precision.
        MissingExtra: torch is not installed.
    """

    def __init__(self, spec: Spec, extra: str) -> None:
        self.torch: Any = require("torch", extra)
        there = {"cpu": True, "cuda": self.torch.cuda.is_available(), "mps": self.torch.backends.mps.is_available()}
        self.device = (
            next(name for name in ("cuda", "mps", "cpu") if there[name]) if spec.device == "auto" else spec.device
        )
        if not there[self.device]:
            raise UsageError(
                f"{spec}: torch finds no device {self.device} here; there is "
                f"{', '.join(k for k, v in there.items() if v)}"
            )
        if spec.precision == "int8":
            raise UsageError(
                f"{spec}: int8 is for exported models; run: photodesk export '{spec.family}:{spec.model}' -o DIR"
            )
        if spec.precision == "fp16" and self.device == "cpu":
            raise UsageError(f"{spec}: fp16 needs a GPU; on a CPU use precision=bf16 or fp32")
        self.precision = spec.precision
        self.dtype = {"fp32": self.torch.float32, "bf16": self.torch.bfloat16, "fp16": self.torch.float16}[
            spec.precision
        ]
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
        """(n, d) float32 unit rows of a function of tensors or arrays, which are brought to the device.

        Raises:
            EncoderError: the model's output is not finite.
        """
        torch = self.torch
        with self._turn(), torch.inference_mode():
            there = [(torch.from_numpy(x) if isinstance(x, np.ndarray) else x).to(self.device) for x in inputs]
            out = torch.nn.functional.normalize(function(*there).float(), dim=-1)
            rows: FloatArray = out.cpu().numpy()
        if not np.isfinite(rows).all():
            raise EncoderError(
                f"the model gave numbers that are not finite in {self.precision}; use precision=fp32, or its file is "
                "damaged"
            )
        return rows

    def _turn(self) -> contextlib.AbstractContextManager[Any]:
        """Whom a call waits for: a thread that has a core of its own waits for nobody."""
        if self.device != "cpu" or self._compile or not _thread.alone:  # torch.compile is not made for two threads
            return self._lock
        if not _thread.limited:
            self.torch.get_num_threads()  # torch's own setting of a new thread comes first
            threadpool_limits(1, user_api="openmp")  # of this thread, not of the process
            _thread.limited = True
        return contextlib.nullcontext()
