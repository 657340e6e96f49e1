"""One spelling for all that a word may be written in: case, umlauts and ß, accents; and the parts of German compounds.

Values of filters and phrases are compared by `fold`; the word search (`bm25`) uses it and `parts` for German.
"""

from __future__ import annotations

import functools
import math
import re
import unicodedata
from collections.abc import Mapping

from photodesk.errors import MissingExtra, require

_SPELLED_OUT = str.maketrans({"ø": "o", "æ": "a", "œ": "o", "ł": "l", "đ": "d", "ı": "i"})
_ACCENTS = re.compile("[\u0300-\u036f]")
# "Mueller" and "Muller" are both Müller; in "neue", "Bauer" and "Quelle" the e is a letter of its own
_DIGRAPH = re.compile("(?<![aeiouyq])([aou])e")

USUAL = 3e-6
"""A word that is written more often than this stands for itself: Feuerwehr and Hochwasser have no parts."""
_SHORTEST, _LINKED = 4, 5
"""Letters of a part, and of one that an s may follow."""
_ENDINGS = frozenset({"innen", "lich", "liche", "lichen", "keit", "heit", "ungen", "schaft", "isch", "ische", "ischen"})
"""Words of the list that are no parts."""


def fold(text: str) -> str:
    """A text as a keyboard without its letters would write it: Müller, Mueller, MULLER and both ways of encoding ü are
    "muller", ß is "ss", accents are left out."""
    return _DIGRAPH.sub(r"\1", accentless(text.casefold()))


def accentless(text: str) -> str:
    """A text without the accents of Latin, Greek and Cyrillic letters."""
    if text.isascii():
        return text
    return unicodedata.normalize("NFC", _ACCENTS.sub("", unicodedata.normalize("NFD", text.translate(_SPELLED_OUT))))


def parts(word: str) -> tuple[str, ...]:
    """The parts of a German compound, folded as the word is; none of a usual word, of one that is none, and where
    wordfreq is not installed."""
    written = _written()
    if len(word) < 2 * _SHORTEST or len(word) > 60 or written.get(word, 0.0) > USUAL:
        return ()
    # the likeliest row of parts that ends at each letter, and its chance
    best: list[tuple[float, tuple[str, ...]]] = [(0.0, ()), *[(-math.inf, ())] * len(word)]
    for end in range(_SHORTEST, len(word) + 1):
        for start in range(0, end - _SHORTEST + 1):
            chance, before = best[start]
            if chance == -math.inf or (start == 0 and end == len(word)):
                continue
            part = word[start:end]
            linked = part[:-1] if end < len(word) and len(part) > _LINKED and part[-1] == "s" else ""
            for one in filter(None, (part, linked)):
                if (share := written.get(one, 0.0)) and chance + math.log(share) > best[end][0]:
                    best[end] = chance + math.log(share), (*before, one)
    return best[-1][1]


def can_part() -> bool:
    """Whether the frequencies that compounds are parted by are installed."""
    return bool(_written())


@functools.cache
def _written() -> Mapping[str, float]:
    """Usual German words, folded → how often they are written; empty without wordfreq."""
    try:
        wordfreq = require("wordfreq", "clean")
    except MissingExtra:
        return {}
    listed: dict[str, float] = wordfreq.get_frequency_dict("de", wordlist="small")
    found: dict[str, float] = {}
    for word, share in listed.items():
        if word.isalpha() and len(word) >= _SHORTEST and word not in _ENDINGS:
            found[fold(word)] = found.get(fold(word), 0.0) + share
    return found
