"""The cleaning of the 2021 paper: contractions, articles, run-together words, spelling, lower case; and what it does to
a table.

Every step is a plain function of a text and its language and looks at one word at a time, so that `clean` can remember
words.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from photodesk.errors import DataError, require
from photodesk.text import spelling
from photodesk.types import Article, Fault

# Part of every fingerprint: raise it when a step here starts to give another output.
VERSION = 1


def _set(listed: str) -> frozenset[str]:
    return frozenset(listed.split())


_ENGLISH = {
    "can't": "can "
             "not", "cannot": "can "
                              "not", "won't": "will not", "shan't": "shall not", "ain't": "is not", "let's": "let us",
    "y'all": "you all", "gonna": "going to", "wanna": "want to", "gotta": "got to", "'tis": "it is", "'twas": "it was",
}  # fmt: skip
_ENGLISH_ENDS = {"m": "am", "re": "are", "ve": "have", "ll": "will", "d": "would"}
_ENGLISH_NOT = _set("are could dare did do does had has have is may might must need ought should was were would")
# After these, 's is "is"; after a noun it is a possessive and stays.
_ENGLISH_IS = _set(
    "everybody everyone everything he here how it nobody nothing she somebody someone that there this what when where "
    "who why"
)
_GERMAN = {"auf'm": "auf dem", "auf'n": "auf den", "mit'm": "mit dem", "so'n": "so ein", "so'ne": "so eine"}
# After these, a German 's is "es"; after a noun (Willi's Imbiss) it stays.
_GERMAN_ES = _set(
    "bleibt da du er find gab geht gibt glaub hab hat hatte heißt ich ihr ist kann kommt läuft mach macht man muss ob "
    "sie so soll steht tut "
    "war was wenn wer wie will wir wird wo wurde wär wäre"
)
_ARTICLES = _set("a an the")


def lower(text: str, language: str = "en") -> str:
    """Lower case; umlauts and ß stay what they are."""
    return text.lower()


def expand_contractions(text: str, language: str = "en") -> str:
    """English "He's" → "He is", German "gibt's" → "gibt es"; a possessive stays as it is."""
    return _each(_expand, text, language)


def drop_articles(text: str, language: str = "en") -> str:
    """Leave out a, an and the, if the text is English."""
    return _each(_drop, text, language)


def segment(text: str, language: str = "en") -> str:
    """Part hashtags and words that were run together: "#BlackLivesMatter", "thepolice"; German and Dutch compounds
    stay.

    Raises:
        MissingExtra: the word lists are not installed.
    """
    return _each(_part, text, language)


def correct_spelling(text: str, language: str = "en") -> str:
    """Put right lower-case words that are one slip away from a much more frequent word.

    Words with a capital or a digit (names, numbers), words of another language and compounds of known words stay. So
    does the last word of a text that no sign ends: the 2021 texts are cut in the middle of a word.

    Raises:
        MissingExtra: the word lists are not installed.
    """
    return _each(_correct, text, language)


def clean(text: str, language: str = "en") -> str:
    """STEPS_2021, one after the other. A text in a language without word lists (`words.LANGUAGES`) is only lower-cased.

    Raises:
        MissingExtra: the word lists are not installed.
    """
    if language not in spelling.LANGUAGES:
        return _each(lower, text, language)
    return _each(_all, text, language)


STEPS_2021 = (segment, expand_contractions, correct_spelling, drop_articles, lower)
"""What `clean` does, in this order: spelling before lower case, so that capitals still show the names."""


def clean_with_ekphrasis(text: str, language: str = "en") -> str:
    """The paper's own tool: lower case, contractions, articles, then every word through Ekphrasis' segmenter and
    corrector.

    Ekphrasis knows English only; a text in another language is only lower-cased. It corrects names as well, because it
    sees no capitals, and parts every word that its counts would part.

    Raises:
        MissingExtra: Ekphrasis is not installed.
        DataError: its word counts are not on this machine (it would download them in the middle of the work).
    """
    if language != "en":
        return _each(lower, text, language)
    return _each(_ekphrasis, drop_articles(expand_contractions(lower(text))), language)


def with_text(
    articles: Sequence[Article], fields: Sequence[str], *, drop: bool = False
) -> tuple[tuple[Article, ...], tuple[Fault, ...]]:
    """Name the articles whose `fields` are all empty, and keep them or leave them out.

    Returns:
        the articles that stay, in their order, and one Fault for each empty one.
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
    """Categories as whole numbers from 0, in alphabetical order of the categories, and the mapping that says which is
    which."""
    mapping = {value: number for number, value in enumerate(sorted(set(values)))}
    return tuple(mapping[value] for value in values), mapping


def _each(step: Callable[[str, str], str], text: str, language: str) -> str:
    return " ".join(filter(None, [step(word, language) for word in text.split()]))


@functools.lru_cache(maxsize=1 << 18)
def _all(word: str, language: str) -> str:
    for step in STEPS_2021:
        word = step(word, language)
    return word


def _edges(word: str) -> tuple[str, str, str]:
    """The signs before, the core, the signs behind."""
    start, end = 0, len(word)
    while start < end and not word[start].isalnum():
        start += 1
    while end > start and not word[end - 1].isalnum():
        end -= 1
    return word[:start], word[start:end], word[end:]


def _expand(word: str, language: str) -> str:
    table = {"en": _ENGLISH, "de": _GERMAN}.get(language)
    if table is None or (not word.isascii() and not (word := word.replace("’", "'"))):
        return word
    before, core, after = _edges(word)
    if before.endswith("'") and f"'{core.lower()}" in table:
        before, core = before[:-1], f"'{core}"
    small = core.lower()
    stem, mark, end = small.rpartition("'")
    if small in table:
        long = table[small]
    elif language == "en" and small.endswith("n't") and small[:-3] in _ENGLISH_NOT:
        long = f"{small[:-3]} not"
    elif language == "en" and mark and stem.isalpha() and end in _ENGLISH_ENDS:
        long = f"{stem} {_ENGLISH_ENDS[end]}"
    elif end == "s" and stem in (_ENGLISH_IS if language == "en" else _GERMAN_ES):
        long = f"{stem} {'is' if language == 'en' else 'es'}"
    else:
        return word
    return before + (long.capitalize() if core.lstrip("'")[:1].isupper() else long) + after


def _drop(word: str, language: str) -> str:
    return "" if language == "en" and word.lower() in _ARTICLES else word


def _part(word: str, language: str) -> str:
    before, core, after = _edges(word)
    if before.endswith("#") and core:
        return before[:-1] + spelling.hashtag(core, language) + after
    return before + spelling.run_together(core, language) + after if core else word


def _correct(word: str, language: str) -> str:
    before, core, after = _edges(word)
    return before + spelling.correct(core, language) + after if core and not before.endswith("@") else word


@functools.cache
def _tools() -> tuple[Callable[[str], str], Callable[[str], str]]:
    """Ekphrasis' segmenter and corrector. It talks on stdout while it loads, which is for data here."""
    import contextlib
    import sys
    import warnings

    counts = Path.home() / ".ekphrasis" / "stats" / "english"
    with contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it has escape sequences that Python is about to refuse
        segmenter = require("ekphrasis.classes.segmenter", "ekphrasis")
        corrector = require("ekphrasis.classes.spellcorrect", "ekphrasis")
        for name in ("counts_1grams", "counts_2grams"):
            if not any((counts / f"{name}.{suffix}").is_file() for suffix in ("txt", "json")):
                raise DataError(
                    f"Ekphrasis has no word counts at {counts / name}.txt; unpack its stats.zip in {counts.parent} "
                    "(its README says "
                    f"where to download it), or use clean=2021, which needs no download"
                )
        return segmenter.Segmenter(corpus="english").segment, corrector.SpellCorrector(corpus="english").correct


@functools.lru_cache(maxsize=1 << 18)
def _ekphrasis(word: str, language: str) -> str:
    split, correct = _tools()
    before, core, after = _edges(word)
    if not core.isalpha():
        return word
    return before.removesuffix("#") + " ".join(correct(part) for part in split(core).split()) + after
