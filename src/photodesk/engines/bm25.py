"""Words → sparse rows for BM25, made once in our process by Qdrant's own embedder, so that every engine scores the same
numbers.

Term frequency and length are in the photo's row, how rare a word is among the photos is the engine's part.
"""

from __future__ import annotations

import functools
import unicodedata
from typing import TYPE_CHECKING, Any

from photodesk.errors import UsageError, require

if TYPE_CHECKING:
    from collections.abc import Sequence

WORDS = 40
"""Words of a photo's texts that count as the usual length, stop words left out."""

LANGUAGES = (
    "arabic",
    "danish",
    "dutch",
    "english",
    "finnish",
    "french",
    "german",
    "greek",
    "hungarian",
    "italian",
    "norwegian",
    "portuguese",
    "romanian",
    "russian",
    "spanish",
    "swedish",
    "turkish",
)

Weights = tuple["Sequence[int]", "Sequence[float]"]


def document(text: str, language: str) -> Weights:
    """(word numbers, weights) of a photo's texts."""
    made = _embedder(language).embed_document(text)
    return made.indices, made.values


def query(text: str, language: str) -> Weights:
    """(word numbers, weights) of what is asked: each word once."""
    made = _embedder(language).embed_query(unicodedata.normalize("NFC", text))
    return made.indices, made.values


@functools.cache
def _embedder(language: str) -> Any:
    if language not in LANGUAGES:
        raise UsageError(f"no language {language!r}; known: {', '.join(LANGUAGES)}")
    edge = require("qdrant_edge", "archive")
    return edge.Bm25(edge.Bm25Config(language=language, avg_len=float(WORDS), ascii_folding=False, lowercase=True))
