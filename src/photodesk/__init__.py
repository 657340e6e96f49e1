"""Finds the right picture for a news article. The names below load what they need when first used."""

from __future__ import annotations

import importlib

__version__ = "0.1.0"

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
