"""Finds the right picture for a news article. The names below load what they need when first used."""

from __future__ import annotations

import importlib

__version__ = "0.1.0"

_HOME = {
    "Archive": "archive",
    "Article": "records",
    "Desk": "desk",
    "Photo": "records",
    "Preparation": "text",
    "Question": "asking",
    "Run": "records",
    "Searcher": "search",
    "build_index": "search",
    "check": "datasets",
    "contact_sheet": "report",
    "evaluate": "evaluation",
    "load": "encoders",
    "rank": "search",
    "read": "datasets",
    "revise_index": "search",
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
