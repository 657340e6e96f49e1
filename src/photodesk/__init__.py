"""Finds the right picture for a news article. The names below load what they need when first used."""

from __future__ import annotations

import importlib
import os

__version__ = "0.1.0"

# Libraries that report their use unasked, and the variable that keeps each from it. They read it once, when they are
# loaded; onnxruntime's own `disable_telemetry_events()` comes too late. Set here, it holds for all that photodesk
# loads: a function around `import onnxruntime` would miss the libraries that import it themselves. What the user has
# set stays.
for _variable, _quiet in {
    "HF_HUB_DISABLE_TELEMETRY": "1",  # huggingface_hub tells with each download what else is installed
    "ORT_DISABLE_TELEMETRY": "1",  # onnxruntime writes a device id into the user's cache and sends what it runs
    "RAY_USAGE_STATS_ENABLED": "0",  # ray sends what it runs, and on what
}.items():
    os.environ.setdefault(_variable, _quiet)

_HOME = {
    "Archive": "archive.archive",
    "Article": "types",
    "Desk": "search.desk",
    "Photo": "types",
    "Preparation": "text.preparation",
    "Question": "search.query",
    "Run": "types",
    "Searcher": "search.flat_index",
    "build_index": "search.flat_index",
    "check": "data.checks",
    "contact_sheet": "evaluation.contact_sheet",
    "evaluate": "evaluation.evaluate",
    "load": "encoders.registry",
    "rank": "search.rank",
    "read": "data.datasets",
    "revise_index": "search.flat_index",
}

__all__ = sorted([*_HOME, "__version__"])


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'photodesk' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"photodesk.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return list(__all__)
