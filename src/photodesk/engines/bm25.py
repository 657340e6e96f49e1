"""Words → sparse rows for BM25, made once in our process by Qdrant's own embedder, so that every engine scores the same
numbers.

Term frequency and length are in the photo's row, how rare a word is among the photos is the engine's part. German and
English words are brought to one spelling first, and rare German compounds count as their parts as well; what photos
were stored with follows with `photodesk archive update` when that changes (`version`).
"""

from __future__ import annotations

import functools
import re
import unicodedata
from typing import TYPE_CHECKING, Any

from photodesk.engines import spellings
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

_TOKEN = re.compile(r"[^\W_]+")
# English keeps its own ue and oe (value, shoes), so umlauts are spelled out there
_SPELLED_OUT = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "ß": "ss", "ø": "oe", "æ": "ae"})
_STEPS = 2
"""Raise it when a word gets another spelling or other parts."""


def version(language: str) -> str:
    """Names how words of a language are spelled and parted here: weights of another version are made again."""
    return f"{_STEPS}{'+parts' if language == 'german' and spellings.can_part() else ''}"


def document(text: str, language: str) -> Weights:
    """(word numbers, weights) of a photo's texts; parts of compounds make no text longer."""
    words, parted = _spelled(text, language)
    made = _embedder(language).embed_document(words)
    if parted == words:
        return made.indices, made.values
    more = _embedder(language).embed_document(parted)
    weights = dict(zip(more.indices, more.values, strict=True)) | dict(zip(made.indices, made.values, strict=True))
    return list(weights), list(weights.values())


def query(text: str, language: str) -> Weights:
    """(word numbers, weights) of what is asked: each word once."""
    made = _embedder(language).embed_query(_spelled(text, language)[1])
    return made.indices, made.values


def share(asked: str, text: str, language: str) -> float:
    """How much of the words that are asked for a photo's texts have, 0 to 1: of a compound that is not there its
    parts."""
    have = set(document(text, language)[0])
    found = []
    for word in _TOKEN.findall(unicodedata.normalize("NFC", asked)):
        whole, *parts = _word(word, language)
        if number := {*_embedder(language).embed_query(whole).indices}:
            parted = [not have.isdisjoint(_embedder(language).embed_query(part).indices) for part in parts]
            found.append(1.0 if number <= have else sum(parted) / max(len(parted), 1))
    return sum(found) / len(found) if found else 0.0


def _spelled(text: str, language: str) -> tuple[str, str]:
    """The words of a text in one spelling, without and with the parts of compounds."""
    text = unicodedata.normalize("NFC", text)
    if language not in ("german", "english"):
        return text, text
    words = [_word(word, language) for word in _TOKEN.findall(text)]
    return " ".join(word[0] for word in words), " ".join(part for word in words for part in word)


@functools.lru_cache(maxsize=2**16)
def _word(word: str, language: str) -> tuple[str, ...]:
    """A word in one spelling, and its parts; a stop word stays one."""
    if language not in ("german", "english"):
        return (word,)
    if language == "english":
        return (spellings.accentless(unicodedata.normalize("NFC", word.casefold()).translate(_SPELLED_OUT)),)
    if not _embedder(language).embed_query(word).indices:
        return (word,)
    folded = spellings.fold(word)
    return (folded, *spellings.parts(folded))


@functools.cache
def _embedder(language: str) -> Any:
    if language not in LANGUAGES:
        raise UsageError(f"no language {language!r}; known: {', '.join(LANGUAGES)}")
    edge = require("qdrant_edge", "archive")
    return edge.Bm25(edge.Bm25Config(language=language, avg_len=float(WORDS), ascii_folding=False, lowercase=True))
