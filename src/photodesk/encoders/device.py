"""Where a torch model runs, how exactly, and one call at a time.

The store encodes photos from as many threads as there are cores. On a CPU each call would start as many threads again, which then
fight; so calls queue at a lock and each takes all cores, while the waiting threads' photos are being decoded. A GPU
does one batch at a time anyway, and memory stays that of one batch.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from photodesk.encoders.spec import Spec
from photodesk.errors import EncoderError, UsageError, require
from photodesk.records import FloatArray


class Runner:
    """Runs torch functions on the device and in the precision that a name asks for.

    Attributes:
        device: "cuda", "mps" or "cpu".
        precision: "fp32", "bf16" or "fp16".
        dtype: the torch type of that precision.

    Raises:
        UsageError: the device is not there, or cannot compute in that precision.
        MissingExtra: torch is not installed.
    """

    def __init__(self, spec: Spec, extra: str) -> None:
        self.torch: Any = require("torch", extra)
        there = {"cpu": True, "cuda": self.torch.cuda.is_available(), "mps": self.torch.backends.mps.is_available()}
        self.device = next(name for name in ("cuda", "mps", "cpu") if there[name]) if spec.device == "auto" else spec.device
        if not there[self.device]:
            raise UsageError(f"{spec}: torch finds no device {self.device} here; there is {', '.join(k for k, v in there.items() if v)}")
        if spec.precision == "int8":
            raise UsageError(f"{spec}: int8 is for exported models; run: photodesk export '{spec.family}:{spec.model}' -o DIR")
        if spec.precision == "fp16" and self.device == "cpu":
            raise UsageError(f"{spec}: fp16 needs a GPU; on a CPU use precision=bf16 or fp32")
        self.precision = spec.precision
        self.dtype = {"fp32": self.torch.float32, "bf16": self.torch.bfloat16, "fp16": self.torch.float16}[spec.precision]
        self._compile = spec.compile == "yes"
        self._lock = threading.Lock()

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
        with self._lock, torch.inference_mode():
            there = [(torch.from_numpy(x) if isinstance(x, np.ndarray) else x).to(self.device) for x in inputs]
            out = torch.nn.functional.normalize(function(*there).float(), dim=-1)
            rows: FloatArray = out.cpu().numpy()
        if not np.isfinite(rows).all():
            raise EncoderError(
                f"the model gave numbers that are not finite in {self.precision}; use precision=fp32, or its file is damaged"
            )
        return rows
