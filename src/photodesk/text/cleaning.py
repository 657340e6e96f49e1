"""The cleaning of the 2021 paper: contractions, articles, run-together words, spelling and lower case; articles without
text; labels.

Every step is a plain function of a text and its language and looks at one word at a time, so that `clean` can cache
words.
"""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from photodesk.errors import DataError, require
from photodesk.text import spelling
from photodesk.types import Article, Fault

# Part of every fingerprint: raise it when a step here starts to give another output.
VERSION = 1


_ARTICLES = frozenset({"a", "an", "the"})


def _contractions(rules: Mapping[str, Any]) -> dict[str, str]:
    """Contraction → words, of one language of contractions.toml."""
    words: dict[str, str] = dict(rules["words"])
    words |= {f"{verb}n't": f"{verb} not" for verb in rules["before_not"].split()}
    return words | {f"{stem}'s": f"{stem} {rules['s']}" for stem in rules["before_s"].split()}


_RULES = tomllib.loads((resources.files("photodesk.text") / "contractions.toml").read_text("utf-8"))
_CONTRACTIONS = {language: _contractions(rules) for language, rules in _RULES.items()}


def lower(text: str, language: str = "en") -> str:
    """Lower case; umlauts and ß are kept."""
    return text.lower()


def expand_contractions(text: str, language: str = "en") -> str:
    """English "He's" → "He is", German "gibt's" → "gibt es"; possessives are kept."""
    return _each(_expand, text, language)


def drop_articles(text: str, language: str = "en") -> str:
    """Without a, an and the, if the text is English."""
    return _each(_drop, text, language)


def segment(text: str, language: str = "en") -> str:
    """Split hashtags and words that were run together: "#BlackLivesMatter", "thepolice"; German and Dutch compounds
    are kept.

    Raises:
        MissingExtra: the word lists are not installed.
    """
    return _each(_split, text, language)


def correct_spelling(text: str, language: str = "en") -> str:
    """Replace lower-case words that are one edit away from a much more frequent word.

    Words with a capital or a digit (names, numbers), words of another language and compounds of known words are kept.

    Raises:
        MissingExtra: the word lists are not installed.
    """
    return _each(_correct, text, language)


def clean(text: str, language: str = "en") -> str:
    """STEPS_2021 in order. A text in a language without word lists (`spelling.LANGUAGES`) is only lower-cased.

    Raises:
        MissingExtra: the word lists are not installed.
    """
    return _each(_all if language in spelling.LANGUAGES else lower, text, language)


STEPS_2021 = (segment, expand_contractions, correct_spelling, drop_articles, lower)
"""Spelling before lower case: capitals mark the names, which are kept."""


def clean_with_ekphrasis(text: str, language: str = "en") -> str:
    """The paper's own tool: lower case, contractions, articles, then Ekphrasis' segmenter and corrector word by
    word.

    Ekphrasis knows English only; a text in another language is only lower-cased. It corrects names as well, because it
    sees no capitals, and splits every word that its counts would split.

    Raises:
        MissingExtra: Ekphrasis is not installed.
        DataError: its word counts are not on this machine (it would download them while it runs).
    """
    if language != "en":
        return _each(lower, text, language)
    return _each(_ekphrasis, drop_articles(expand_contractions(lower(text))), language)


def with_text(
    articles: Sequence[Article], fields: Sequence[str], *, drop: bool = False
) -> tuple[tuple[Article, ...], tuple[Fault, ...]]:
    """Report the articles whose `fields` are all empty, and keep or drop them.

    Returns:
        the articles kept, in order, and one Fault for each empty one.
    """
    kept, faults = [], []
    for article in articles:
        empty = not any(getattr(article, name).strip() for name in fields)
        if empty:
            what = f"no {' and no '.join(fields)}: article {article.id!r}"
            faults.append(Fault("article-empty", article.where or "articles", what, "left out" if drop else "kept"))
        if not (empty and drop):
            kept.append(article)
    return tuple(kept), tuple(faults)


def label(values: Sequence[str]) -> tuple[tuple[int, ...], Mapping[str, int]]:
    """Categories encoded as integers from 0, in alphabetical order, and the mapping from category to integer."""
    mapping = {value: code for code, value in enumerate(sorted(set(values)))}
    return tuple(mapping[value] for value in values), mapping


def _each(step: Callable[[str, str], str], text: str, language: str) -> str:
    return " ".join(filter(None, [step(word, language) for word in text.split()]))


@functools.lru_cache(maxsize=1 << 18)
def _all(word: str, language: str) -> str:
    for step in STEPS_2021:
        word = step(word, language)
    return word


def _edges(word: str) -> tuple[str, str, str]:
    """Leading punctuation, the word itself, trailing punctuation."""
    at = [i for i, character in enumerate(word) if character.isalnum()]
    start, end = (at[0], at[-1] + 1) if at else (len(word), len(word))
    return word[:start], word[start:end], word[end:]


def _expand(word: str, language: str) -> str:
    table = _CONTRACTIONS.get(language)
    if table is None or (not word.isascii() and not (word := word.replace("’", "'"))):
        return word
    before, core, after = _edges(word)
    if before.endswith("'") and f"'{core.lower()}" in table:
        before, core = before[:-1], f"'{core}"
    small = core.lower()
    stem, mark, end = small.rpartition("'")
    endings = _RULES[language]["endings"]
    long = table.get(small, "")
    if not long and mark and stem.isalpha() and end in endings:
        long = f"{stem} {endings[end]}"
    if not long:
        return word
    return before + (long.capitalize() if core.lstrip("'")[:1].isupper() else long) + after


def _drop(word: str, language: str) -> str:
    return "" if language == "en" and word.lower() in _ARTICLES else word


def _split(word: str, language: str) -> str:
    before, core, after = _edges(word)
    if before.endswith("#") and core:
        return before[:-1] + spelling.hashtag(core, language) + after
    return before + spelling.run_together(core, language) + after if core else word


def _correct(word: str, language: str) -> str:
    before, core, after = _edges(word)
    return before + spelling.correct(core, language) + after if core and not before.endswith("@") else word


@functools.cache
def _tools() -> tuple[Callable[[str], str], Callable[[str], str]]:
    """Ekphrasis' segmenter and corrector. It prints on stdout while it loads; photodesk's stdout is data."""
    import contextlib
    import sys
    import warnings

    counts = Path.home() / ".ekphrasis" / "stats" / "english"
    with contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its source has invalid escape sequences
        segmenter = require("ekphrasis.classes.segmenter", "ekphrasis")
        corrector = require("ekphrasis.classes.spellcorrect", "ekphrasis")
        for name in ("counts_1grams", "counts_2grams"):
            if not any((counts / f"{name}.{suffix}").is_file() for suffix in ("txt", "json")):
                raise DataError(
                    f"Ekphrasis has no word counts at {counts / name}.txt; unpack its stats.zip in {counts.parent} "
                    "(its README says where to download it), or use clean=2021, which needs no download"
                )
        return segmenter.Segmenter(corpus="english").segment, corrector.SpellCorrector(corpus="english").correct


@functools.lru_cache(maxsize=1 << 18)
def _ekphrasis(word: str, language: str) -> str:
    split, correct = _tools()
    before, core, after = _edges(word)
    if not core.isalpha():
        return word
    return before.removesuffix("#") + " ".join(correct(part) for part in split(core).split()) + after
