"""Names through a translation: what stands changed in it is put back as the original spells it, and reported.

A capital marks names in English and all nouns in German, so a word counts as a changed name only if it is nearly, not
quite, a capitalised word of the original, and the two are no ordinary words of their languages (Präsident, President).
"""

from __future__ import annotations

import re
import unicodedata

from photodesk.text import spelling

# Part of every fingerprint: raise it when `keep` starts to give another output.
VERSION = 1

_CAPITALISED = re.compile(r"(?<![\w@#])[^\W\d_a-z][^\W_]*(?:-[^\W_]+)*")
_SPELLED_OUT = str.maketrans({"ß": "ss", "ø": "o", "æ": "ae", "œ": "oe", "ł": "l", "đ": "d"})


def keep(original: str, translated: str, source: str, target: str) -> tuple[str, tuple[tuple[str, str], ...]]:
    """Put back names that the translation changed.

    Args:
        original: the text before, in language `source` (ISO 639-1; empty if not known).
        translated: the text after, in language `target`.

    Returns:
        the translation with the original's spelling of its names, and (changed, as it was) for each, in their order.

    Raises:
        MissingExtra: the word lists are not installed.
    """
    before = [word for word in dict.fromkeys(_CAPITALISED.findall(original)) if word[0].isupper()]
    after = set(_CAPITALISED.findall(translated))
    free = [word for word in before if word not in after]
    changes: dict[str, str] = {}

    def put(found: re.Match[str]) -> str:
        word = found[0]
        if word in changes:
            return changes[word]
        if not word[0].isupper() or word in before:
            return word
        twin = next((name for name in free if _is_twin(name, word, source, target)), "")
        if not twin:
            return word
        changes[word] = twin
        return twin

    return _CAPITALISED.sub(put, translated), tuple(changes.items()) if changes else ()


def _is_twin(name: str, word: str, source: str, target: str) -> bool:
    if plain(name) == plain(word):
        return name.casefold() != word.casefold()
    short = min(len(name), len(word))
    allowed = 0 if short < 5 else 1 if short < 6 else 2
    genitive = name.removesuffix("s") == word.removesuffix("s")
    if not allowed or genitive or name[0] != word[0] or _distance(plain(name), plain(word), allowed) > allowed:
        return False
    return not (_is_ordinary(name, source) and _is_ordinary(word, target))


def plain(word: str) -> str:
    """A word as a keyboard without its letters would write it: Müller, Mueller and Muller are all "muller"."""
    bare = unicodedata.normalize("NFD", word.casefold().translate(_SPELLED_OUT))
    bare = "".join(sign for sign in bare if not unicodedata.combining(sign))
    return bare.replace("ae", "a").replace("oe", "o").replace("ue", "u")


def _is_ordinary(word: str, language: str) -> bool:
    return language not in spelling.LANGUAGES or word.lower() in spelling.words(language).right


def _distance(a: str, b: str, limit: int) -> int:
    """Edits between two words, counted up to `limit`, above which it is `limit + 1`."""
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
