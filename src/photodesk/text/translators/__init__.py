"""The interface of translators, and the translator of a name; one file here per engine.

marian:Helsinki-NLP/opus-mt-de-en    MarianMT in Transformers, a model of the hub or a folder
ctranslate2:FOLDER                   the same model converted for CTranslate2, several times as fast
http://HOST:PORT                     a service with LibreTranslate's interface
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from photodesk.errors import UsageError

DEFAULT = "marian:Helsinki-NLP/opus-mt-de-en"

KINDS = {
    "marian": ("marian", "Marian"),
    "ctranslate2": ("ctranslate2", "CTranslate2"),
    "http": ("libretranslate", "LibreTranslate"),
    "https": ("libretranslate", "LibreTranslate"),
}
"""The word that names begin with → module in this package and class, which takes the rest of the name, of an address
all of it."""


@runtime_checkable
class Translator(Protocol):
    """Translates sentences.

    Attributes:
        fingerprint: changes whenever the output does (weights, beam); part of every cache key.
        source: the language it reads, ISO 639-1; empty if every call names it.
        target: the language it writes.
        limit: the longest sentence it takes, in units of `measure`.
        budget: of one call: the number of sentences times the longest, in units of `measure`.
    """

    fingerprint: str
    source: str
    target: str
    limit: int
    budget: int

    def measure(self, sentence: str) -> int:
        """The length of a sentence in what the model reads: tokens, or characters for a service."""
        ...

    def translate(self, sentences: Sequence[str], source: str) -> list[str]:
        """One translation per sentence, in order.

        Args:
            sentences: each within `limit`.
            source: the language they are in; empty if not known.

        Raises:
            TranslationError: the engine failed, or its answer is invalid.
        """
        ...


def check(name: str) -> None:
    """Whether `name` has the form of a translator.

    Raises:
        UsageError: it has not.
    """
    kind, colon, rest = name.partition(":")
    if kind not in KINDS or not colon or not rest.strip("/"):
        raise UsageError(
            f"no translator {name!r}; it is none, marian:MODEL, ctranslate2:FOLDER or the http(s) address of a service"
        )


@functools.lru_cache(maxsize=1)
def load(name: str) -> Translator:
    """The translator of that name; the last one is cached.

    Raises:
        UsageError: no such kind of translator.
        TranslationError: the model is not on this machine or cannot be read; the message says which file to put where.
        MissingExtra: its library is not installed.
    """
    check(name)
    kind, _, rest = name.partition(":")
    module, class_name = KINDS[kind]
    make = getattr(importlib.import_module(f"{__name__}.{module}"), class_name)
    translator: Translator = make(name if kind.startswith("http") else rest)
    return translator
