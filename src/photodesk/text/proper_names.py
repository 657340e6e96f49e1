"""Restore proper names that a translation changed, and report them.

A capital marks names in English and all nouns in German, so a word is a changed name only if its spelling is close but
not equal to a capitalised word of the original, and the two are no ordinary words of their languages (Präsident,
President).
"""

from __future__ import annotations

import re
import unicodedata

from photodesk.text import spelling

# Part of every fingerprint: raise it when `keep` starts to give another output.
VERSION = 1

_CAPITALISED = re.compile(r"(?<![\w@#])[^\W\d_a-z][^\W_]*(?:-[^\W_]+)*")
_TRANSLITERATED = str.maketrans({"ß": "ss", "ø": "o", "æ": "ae", "œ": "oe", "ł": "l", "đ": "d"})


def keep(original: str, translated: str, source: str, target: str) -> tuple[str, tuple[tuple[str, str], ...]]:
    """Restore names that the translation changed.

    Args:
        original: the text before, in language `source` (ISO 639-1; empty if not known).
        translated: the text after, in language `target`.

    Returns:
        the translation with its names restored, and (translated name, original name) for each, in order.

    Raises:
        MissingExtra: the word lists are not installed.
    """
    before = [word for word in dict.fromkeys(_CAPITALISED.findall(original)) if word[0].isupper()]
    after = set(_CAPITALISED.findall(translated))
    free = [word for word in before if word not in after]
    changes: dict[str, str] = {}

    def restored(found: re.Match[str]) -> str:
        word = found[0]
        if word not in changes and word[0].isupper() and word not in before:
            name = next((name for name in free if _is_variant(name, word, source, target)), "")
            if name:
                changes[word] = name
        return changes.get(word, word)

    return _CAPITALISED.sub(restored, translated), tuple(changes.items())


def _is_variant(name: str, word: str, source: str, target: str) -> bool:
    if plain(name) == plain(word):
        return name.casefold() != word.casefold()
    short = min(len(name), len(word))
    allowed = 0 if short < 5 else 1 if short < 6 else 2
    genitive = name.removesuffix("s") == word.removesuffix("s")
    if not allowed or genitive or name[0] != word[0] or _distance(plain(name), plain(word), allowed) > allowed:
        return False
    return not (_is_ordinary(name, source) and _is_ordinary(word, target))


def plain(word: str) -> str:
    """A word transliterated to ASCII letters: Müller, Mueller and Muller are all "muller"."""
    decomposed = unicodedata.normalize("NFD", word.casefold().translate(_TRANSLITERATED))
    bare = "".join(character for character in decomposed if not unicodedata.combining(character))
    return bare.replace("ae", "a").replace("oe", "o").replace("ue", "u")


def _is_ordinary(word: str, language: str) -> bool:
    return language not in spelling.LANGUAGES or word.lower() in spelling.words(language).right


def _distance(a: str, b: str, limit: int) -> int:
    """Levenshtein distance, `limit + 1` where it is greater than `limit`."""
    if abs(len(a) - len(b)) > limit:
        return limit + 1
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        last, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            last, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, last + (x != y))
        if min(row) > limit:
            return limit + 1
    return row[-1]
