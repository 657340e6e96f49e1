"""Turn articles into the texts that an encoder reads: one frozen Preparation, each step a plain function."""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from photodesk.errors import UsageError
from photodesk.records import Article, Fault

FIELDS = ("title", "lead", "text", "tags")

# Part of every fingerprint: raise it when a step that always runs starts to give another output.
VERSION = 1

_NAMED = re.compile(r"\s*Preparation\((.*)\)\s*", re.DOTALL)
_COMMA = re.compile(r",\s*(?=\w+\s*=)")


def normalise(text: str) -> str:
    """Repair double-encoded UTF-8, remove soft hyphens and control characters, make every run of white space one blank."""
    if not text.isascii():
        import ftfy

        text = ftfy.fix_text(text, normalization="NFC", uncurl_quotes=False, fix_latin_ligatures=False, fix_character_width=False)
        text = text.replace("\xad", "")
    return " ".join(text.split())


def join_fields(article: Article, names: Sequence[str]) -> str:
    """The named fields of an article, those that are not empty, joined by a blank."""
    return " ".join(part for name in names if (part := normalise(getattr(article, name))))


def limit_words(text: str, count: int) -> str:
    """The first `count` words of `text`; all of it if `count` is 0."""
    return " ".join(text.split()[:count]) if count else text


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a Preparation makes of n articles.

    Args:
        texts: n texts, in the order of the articles.
        languages: n ISO 639-1 codes of those texts; empty where it is not known.
        notes: what was odd, for the user.
    """

    texts: tuple[str, ...]
    languages: tuple[str, ...]
    notes: tuple[Fault, ...] = ()


@dataclass(frozen=True, slots=True)
class Preparation:
    """How articles become texts. A value: `parse(str(p)) == p`.

    Args:
        fields: which fields of an article are read, in that order.
        max_words: how many words are kept; 0 keeps all.

    Raises:
        UsageError: a value that cannot be.
    """

    fields: tuple[str, ...] = ("title",)
    max_words: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "fields", tuple(self.fields))
        if not self.fields or len(set(self.fields)) != len(self.fields):
            raise UsageError(f"fields={'+'.join(self.fields)!r}: name one or more of {', '.join(FIELDS)}, each once")
        for name in self.fields:
            if name not in FIELDS:
                raise UsageError(f"an article has no field {name!r}{_guess(name, FIELDS)}; known: {', '.join(FIELDS)}")
        if self.max_words < 0:
            raise UsageError(f"max_words={self.max_words}: 0 keeps all words, any other limit is above 0")

    def __str__(self) -> str:
        shown = [f"fields={'+'.join(self.fields)}"]
        if self.max_words:
            shown.append(f"max_words={self.max_words}")
        return f"Preparation({', '.join(shown)})"

    @property
    def fingerprint(self) -> str:
        """Changes whenever the texts do; part of every cache key of embeddings."""
        return hashlib.sha256(f"{self} v{VERSION}".encode()).hexdigest()[:16]

    def __call__(self, article: Article) -> str:
        """The prepared text of one article."""
        return self.prepare([article]).texts[0]

    def prepare(self, articles: Sequence[Article]) -> Prepared:
        """The prepared texts of `articles`, in their order; batches are much faster than single calls."""
        texts = [limit_words(join_fields(article, self.fields), self.max_words) for article in articles]
        return Prepared(tuple(texts), tuple(article.language for article in articles))


def parse(text: str) -> Preparation:
    """Read a Preparation as `str` prints it; the name and brackets around the `key=value` pairs may be left out.

    Raises:
        UsageError: an unknown key, a key that stands twice, or a value that cannot be.
    """
    named = _NAMED.fullmatch(text)
    known = [field.name for field in fields(Preparation)]
    values: dict[str, Any] = {}
    for pair in filter(str.strip, _COMMA.split(named[1] if named else text)):
        key, equals, value = (part.strip() for part in pair.partition("="))
        if not equals:
            raise UsageError(f"{pair.strip()!r} in {text!r} is not key=value; keys: {', '.join(known)}")
        if key not in known:
            raise UsageError(f"a preparation has no {key!r}{_guess(key, known)}; keys: {', '.join(known)}")
        if key in values:
            raise UsageError(f"{key!r} stands twice in {text!r}")
        values[key] = _read(key, value)
    return Preparation(**values)


def _read(key: str, value: str) -> Any:
    if key == "fields":
        return tuple(part.strip() for part in value.split("+"))
    try:
        return int(value)
    except ValueError:
        raise UsageError(f"{key}={value!r} is not a whole number") from None


def _guess(word: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(word, known, 1)
    return f" (did you mean {close[0]!r}?)" if close else ""
