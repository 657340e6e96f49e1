"""What counts as a word: parts words that were run together and puts slips of spelling right, one word at a time.

Two lists that come with their libraries answer: pyspellchecker knows what is spelled right, wordfreq how often it is
written, right or wrong. Both work offline. A word list is loaded when its language is first asked for.
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

# Languages whose words are known.
LANGUAGES = ("de", "en", "es", "fr", "it", "nl", "pt")

# These write compounds as one word: Hochwasserschutz is no slip of the space bar.
_COMPOUNDING = frozenset({"de", "nl"})

# A word that is written more often than this is no slip, whatever the list of right words says.
_COMMON = 3e-6
# A correction must be this frequent at least …
_USUAL = 1e-6
# … and this many times as frequent as what was written: the first where fingers slip most (two letters swapped, one
# doubled).
_RATIO, _RATIO_OTHER = 30.0, 100.0
# Words of up to four letters have too many neighbours: only swapped letters, only towards words like "the" and "with".
_SHORT = 1e-3
# Parts of a run-together word must be this frequent, on (geometric) average; those of a hashtag need not.
_PART = 10**-4.6

_PIECES = re.compile(r"[^\W\d_]+|\d+")


@dataclass(frozen=True, slots=True, eq=False)
class Words:
    """The words of one language.

    Args:
        language: ISO 639-1 code.
        right: lower-case words that are listed as right or too frequent to be slips → how often they are written (0 to
            1).
        written: every word that is written at least once in a hundred million, case-folded → how often.
        letters: the letters that the language writes.
    """

    language: str
    right: Mapping[str, float]
    written: Mapping[str, float]
    letters: str

    def share(self, word: str) -> float:
        """How often `word` is written, 0 to 1."""
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
    """Whether `word` is usual in another language and ten times as frequent there."""
    word = word.casefold()
    bar = max(10 * words(language).written.get(word, 0.0), _USUAL)
    return any(_usual(other).get(word, 0.0) >= bar for other in LANGUAGES if other != language)


def hashtag(tag: str, language: str) -> str:
    """The words of a hashtag without its `#`: by capitals and digits, else the most frequent words that make it.

    Raises:
        MissingExtra: the word lists are not installed.
    """
    parts = [part for piece in _PIECES.findall(tag) for part in _humps(piece)]
    for i in range(len(parts) - 1, 0, -1):  # AfD, iPhone, G20: no part is a single sign
        if len(parts[i]) == 1 or len(parts[i - 1]) == 1:
            parts[i - 1 : i + 1] = [parts[i - 1] + parts[i]]
    if language in LANGUAGES:
        parts = [" ".join(_split(part, language)) or part for part in parts]
    return " ".join(parts)


def run_together(word: str, language: str) -> str:
    """`word`, parted if it is lower case, no word itself, and made of usual words: "thepolice" → "the police".

    Raises:
        MissingExtra: the word lists are not installed.
    """
    if (
        language not in LANGUAGES
        or language in _COMPOUNDING
        or len(word) < 5
        or not (word.isalpha() and word.islower())
    ):
        return word
    if word in words(language).right or is_foreign(word, language):
        return word
    parts = _split(word, language)
    chance = math.prod(words(language).right[part] for part in parts)
    return " ".join(parts) if parts and chance > max(_PART ** len(parts), words(language).share(word)) else word


def correct(word: str, language: str) -> str:
    """The likeliest right spelling one slip away, if `word` is lower case, unknown, not foreign and no compound.

    Raises:
        MissingExtra: the word lists are not installed.
    """
    if language not in LANGUAGES or len(word) < 3 or not (word.isalpha() and word.islower()):
        return word
    vocabulary = words(language)
    own = vocabulary.share(word)
    if (
        word in vocabulary.right
        or (language in _COMPOUNDING and _is_compound(word, language))
        or is_foreign(word, language)
    ):
        return word
    least = _USUAL if len(word) > 4 else _SHORT
    best, most = word, 0.0
    for slip, weight, ratio in _slips(word, vocabulary.letters):
        share = vocabulary.right.get(slip, 0.0)
        if share * weight > most and share >= max(least, ratio * own):
            best, most = slip, share * weight
    return best


def _slips(word: str, letters: str) -> Iterator[tuple[str, float, float]]:
    """What may have been meant: (spelling, weight, how many times as frequent it has to be).

    The first letter is hardly ever wrong, and one letter more or less at the end is another form of the word, no slip.
    """
    for i in range(len(word) - 1):
        if word[i] != word[i + 1]:
            yield word[:i] + word[i + 1] + word[i] + word[i + 2 :], 20.0, _RATIO
    if len(word) < 5:
        return
    for i in range(1, len(word)):
        doubled = word[i] == word[i - 1]
        if doubled or i < len(word) - 1:
            yield word[:i] + word[i + 1 :], 5.0 if doubled else 1.0, _RATIO if doubled else _RATIO_OTHER
        for letter in letters:
            doubled = letter in (word[i], word[i - 1])
            yield word[:i] + letter + word[i:], 5.0 if doubled else 1.0, _RATIO if doubled else _RATIO_OTHER
            if len(word) > 5 and letter != word[i]:
                yield word[:i] + letter + word[i + 1 :], 1.0, _RATIO_OTHER


def _is_compound(word: str, language: str) -> bool:
    """Two usual words of four letters or more, with or without an s between them."""
    right = words(language).right

    def usual(part: str) -> bool:
        return len(part) > 3 and right.get(part, 0.0) > _USUAL

    return any(
        usual(word[:i]) and (usual(word[i:]) or (word[i] == "s" and usual(word[i + 1 :])))
        for i in range(4, len(word) - 3)
    )


def _humps(piece: str) -> Iterator[str]:
    """Parts at capitals: "BlackLives" → Black Lives, "USWahl" → US Wahl."""
    start = 0
    for i in range(1, len(piece)):
        if piece[i].isupper() and (not piece[i - 1].isupper() or piece[i + 1 : i + 2].islower()):
            yield piece[start:i]
            start = i
    yield piece[start:]


def _split(word: str, language: str) -> list[str]:
    """The most frequent row of two or more right words that makes `word`; empty if it is one itself or none is
    found."""
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
