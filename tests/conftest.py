"""Set-up that all tests share."""

from __future__ import annotations

import importlib.util


def _declare_torchvision_operators() -> None:
    """Let torchvision be imported beside a torch of another build: its Python code names two operators that its library would bring.

    The CPU build of torch that tests run on and torchvision from the default index may not fit. open_clip needs torchvision's
    transforms only, which are Python.
    """
    if importlib.util.find_spec("torch") is None or importlib.util.find_spec("torchvision") is None:
        return
    import torch

    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _kept.append(library)  # its declarations live as long as it does


_kept: list[object] = []
_declare_torchvision_operators()
