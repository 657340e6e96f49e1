"""Word lists, and what they are used for: splitting words that were run together, and spelling correction, one word at
a time.

pyspellchecker lists correct words, wordfreq the frequencies of words, correct or not. Both work offline. The lists of a
language are loaded at its first use.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from photodesk.errors import require

# Part of every fingerprint: raise it when a step here starts to give another output.
VERSION = 1

# with word lists
LANGUAGES = ("de", "en", "es", "fr", "it", "nl", "pt")

# These write compounds as one word, such as Hochwasserschutz.
_COMPOUNDING = frozenset({"de", "nl"})

# A word more frequent than this is correct, listed or not.
_COMMON = 3e-6
# A correction must be this frequent at least …
_USUAL = 1e-6
# … and this many times as frequent as the word: the first for common typing errors (two letters swapped, one doubled).
_RATIO, _RATIO_OTHER = 30.0, 100.0
_COST = {True: (5.0, _RATIO), False: (1.0, _RATIO_OTHER)}  # of a letter more or less: (weight, ratio) by doubled
# Words of up to four letters have too many neighbours: only swapped letters, and only words like "the" and "with".
_SHORT = 1e-3
# Least geometric mean of the frequencies of a run-together word's parts; not required of a hashtag.
_PART = 10**-4.6

_PIECES = re.compile(r"[^\W\d_]+|\d+")


@dataclass(frozen=True, slots=True, eq=False)
class Words:
    """The words of one language.

    Args:
        language: ISO 639-1 code.
        right: correct words, lower-case → frequency (0 to 1).
        written: every case-folded word with a frequency of 1e-8 or more → frequency.
        letters: the alphabet.
    """

    language: str
    right: Mapping[str, float]
    written: Mapping[str, float]
    letters: str

    def share(self, word: str) -> float:
        """The frequency of `word`, 0 to 1."""
        return self.written.get(word.casefold(), 0.0)


@functools.cache
def words(language: str) -> Words:
    """The words of `language`, one of LANGUAGES.

    Raises:
        MissingExtra: the word lists are not installed.
    """
    wordfreq, spellchecker = require("wordfreq", "clean"), require("spellchecker", "clean")
    written: dict[str, float] = wordfreq.get_frequency_dict(language)
    listed = spellchecker.SpellChecker(language=language).word_frequency.dictionary
    right = {word: share for word, share in written.items() if share > _COMMON and word.isalpha()}
    right |= {word: share for word in listed if (share := written.get(word.casefold(), 0.0))}
    common = {letter for word, share in right.items() if share > _COMMON for letter in word if letter.isalpha()}
    return Words(language, right, written, "".join(sorted(common)))


@functools.cache
def _usual(language: str) -> dict[str, float]:
    table: dict[str, float] = require("wordfreq", "clean").get_frequency_dict(language, wordlist="small")
    return table


def is_foreign(word: str, language: str) -> bool:
    """Whether `word` is frequent in another language, and ten times as frequent as in this one."""
    word = word.casefold()
    bar = max(10 * words(language).written.get(word, 0.0), _USUAL)
    return any(_usual(other).get(word, 0.0) >= bar for other in LANGUAGES if other != language)


def hashtag(tag: str, language: str) -> str:
    """The words of a hashtag without its `#`: split at capitals and digits, else into the most frequent words.

    Raises:
        MissingExtra: the word lists are not installed.
    """
    parts = [part for piece in _PIECES.findall(tag) for part in _camel_case(piece)]
    for i in range(len(parts) - 1, 0, -1):  # AfD, iPhone, G20: no part is a single character
        if len(parts[i]) == 1 or len(parts[i - 1]) == 1:
            parts[i - 1 : i + 1] = [parts[i - 1] + parts[i]]
    if language in LANGUAGES:
        parts = [" ".join(_split(part, language)) or part for part in parts]
    return " ".join(parts)


def run_together(word: str, language: str) -> str:
    """`word`, split if it is lower case, unknown, and made of frequent words: "thepolice" → "the police".

    Raises:
        MissingExtra: the word lists are not installed.
    """
    if language in _COMPOUNDING or len(word) < 5 or _is_kept(word, language):
        return word
    parts = _split(word, language)
    chance = math.prod(words(language).right[part] for part in parts)
    return " ".join(parts) if parts and chance > max(_PART ** len(parts), words(language).share(word)) else word


def correct(word: str, language: str) -> str:
    """The likeliest correct word one edit away, if `word` is lower case, unknown, not foreign and no compound.

    Raises:
        MissingExtra: the word lists are not installed.
    """
    if len(word) < 3 or _is_kept(word, language) or (language in _COMPOUNDING and _is_compound(word, language)):
        return word
    vocabulary = words(language)
    own = vocabulary.share(word)
    least = _USUAL if len(word) > 4 else _SHORT
    best, most = word, 0.0
    for edited, weight, ratio in _edits(word, vocabulary.letters):
        share = vocabulary.right.get(edited, 0.0)
        if share * weight > most and share >= max(least, ratio * own):
            best, most = edited, share * weight
    return best


def _is_kept(word: str, language: str) -> bool:
    """Whether a word is left as it is: of a language without lists, not in lower case, correct or foreign."""
    if language not in LANGUAGES or not (word.isalpha() and word.islower()):
        return True
    return word in words(language).right or is_foreign(word, language)


def _edits(word: str, letters: str) -> Iterator[tuple[str, float, float]]:
    """Candidate corrections: (spelling, weight, how many times as frequent as the word it has to be).

    The first letter is hardly ever wrong, and one letter more or less at the end is another form of the word.
    """
    for i in range(len(word) - 1):
        if word[i] != word[i + 1]:
            yield word[:i] + word[i + 1] + word[i] + word[i + 2 :], 20.0, _RATIO
    if len(word) < 5:
        return
    for i in range(1, len(word)):
        doubled = word[i] == word[i - 1]
        if doubled or i < len(word) - 1:
            yield word[:i] + word[i + 1 :], *_COST[doubled]
        for letter in letters:
            yield word[:i] + letter + word[i:], *_COST[letter in (word[i], word[i - 1])]
            if len(word) > 5 and letter != word[i]:
                yield word[:i] + letter + word[i + 1 :], *_COST[False]


def _is_compound(word: str, language: str) -> bool:
    """Whether it is two frequent words of four letters or more, with or without an s between them."""
    right = words(language).right

    def usual(part: str) -> bool:
        return len(part) > 3 and right.get(part, 0.0) > _USUAL

    return any(
        usual(word[:i]) and (usual(word[i:]) or (word[i] == "s" and usual(word[i + 1 :])))
        for i in range(4, len(word) - 3)
    )


def _camel_case(piece: str) -> Iterator[str]:
    """Camel case split: "BlackLives" → Black Lives, "USWahl" → US Wahl."""
    start = 0
    for i in range(1, len(piece)):
        if piece[i].isupper() and (not piece[i - 1].isupper() or piece[i + 1 : i + 2].islower()):
            yield piece[start:i]
            start = i
    yield piece[start:]


def _split(word: str, language: str) -> list[str]:
    """The most probable two or more correct words that make up `word`; empty if it is one itself or there are none."""
    right = words(language).right
    small = word.lower()
    if small in right or len(small) != len(word) or len(small) > 60:
        return []
    best: list[tuple[float, list[str]]] = [(0.0, [])]
    for end in range(1, len(small) + 1):
        top: tuple[float, list[str]] = (-math.inf, [])
        for start in range(max(0, end - 20), end - 1):
            share = right.get(small[start:end], 0.0)
            # of two letters only those like "of" and "in"
            if (share > _SHORT if end - start == 2 else share) and (score := best[start][0] + math.log(share)) > top[0]:
                top = score, [*best[start][1], word[start:end]]
        best.append(top)
    return best[-1][1]
