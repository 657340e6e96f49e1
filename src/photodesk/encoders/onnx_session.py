"""Sessions of onnxruntime: on the CPU, without log messages or spinning threads, and with int8 products that do not
overflow."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from photodesk.encoders import shipped


def opened(model: str | bytes, how: Any) -> Any:
    """A session of a model file or its content, with options from `options`."""
    import onnxruntime

    return onnxruntime.InferenceSession(model, how, providers=["CPUExecutionProvider"])


def options(threads: int) -> Any:
    """Session options; `threads` of 0 lets onnxruntime take all cores.

    Processors without VNNI add int8 products in pairs of 16 bits, which overflow silently; there onnxruntime has to
    use its slower, exact product, so that a photo has the same row on every machine.
    """
    made = _plain(threads)
    if not exact():
        made.add_session_config_entry("session.x64quantprecision", "1")
    return made


def _plain(threads: int) -> Any:
    import onnxruntime

    made = onnxruntime.SessionOptions()
    made.intra_op_num_threads = threads
    made.log_severity_level = 3
    made.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return made


@cache
def exact() -> bool:
    """Whether int8 products are exact on this processor, by the worst case: 64 times 255 · 127."""
    (sums,) = opened(shipped.read("overflow.onnx"), _plain(1)).run(None, {"x": np.full((1, 64), 255, np.uint8)})
    return bool((sums == 64 * 255 * 127).all())
