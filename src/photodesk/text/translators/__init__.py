"""The seam behind which every translator stands; one file here per engine, chosen by the text that it prints as.

marian:Helsinki-NLP/opus-mt-de-en    MarianMT in Transformers, a model of the hub or a folder
ctranslate2:FOLDER                   the same model converted for CTranslate2, several times as fast
http://HOST:PORT                     a service with LibreTranslate's interface
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from photodesk.errors import UsageError

DEFAULT = "marian:Helsinki-NLP/opus-mt-de-en"


@runtime_checkable
class Translator(Protocol):
    """Turns sentences into sentences of another language.

    Attributes:
        fingerprint: changes whenever the output does (weights, beam); part of every cache key.
        source: the language it reads, ISO 639-1; empty if it is told with every call.
        target: the language it writes.
        limit: the longest sentence it takes, as `measure` counts.
        budget: how much one call should bring: the number of sentences times the longest, as `measure` counts.
    """

    fingerprint: str
    source: str
    target: str
    limit: int
    budget: int

    def measure(self, sentence: str) -> int:
        """How long a sentence is in what the model reads: tokens, or characters for a service."""
        ...

    def translate(self, sentences: Sequence[str], source: str) -> list[str]:
        """One translation per sentence, in their order.

        Args:
            sentences: each within `limit`.
            source: the language they are in; empty if not known.

        Raises:
            TranslationError: the engine failed, or its answer cannot be trusted.
        """
        ...


def check(name: str) -> None:
    """Whether `name` has the form of a translator.

    Raises:
        UsageError: it has not.
    """
    kind, colon, rest = name.partition(":")
    if kind not in ("marian", "ctranslate2", "http", "https") or not colon or not rest.strip("/"):
        raise UsageError(
            f"no translator {name!r}; it is none, marian:MODEL, ctranslate2:FOLDER or the http(s) address of a service"
        )


@functools.lru_cache(maxsize=1)
def load(name: str) -> Translator:
    """The translator of that name; the last one stays loaded.

    Raises:
        UsageError: no such kind of translator.
        TranslationError: the model is not on this machine or cannot be read; says which file to put where.
        MissingExtra: its library is not installed.
    """
    check(name)
    kind, _, rest = name.partition(":")
    if kind == "marian":
        from photodesk.text.translators.marian import Marian

        return Marian(rest)
    if kind == "ctranslate2":
        from photodesk.text.translators.ctranslate2 import CTranslate2

        return CTranslate2(rest)
    from photodesk.text.translators.libretranslate import LibreTranslate

    return LibreTranslate(name)
