"""Bytes of metadata → text, where nothing says in which character set they were written."""

from __future__ import annotations

import re
from collections.abc import Sequence

_FREQUENT, _COMMON = frozenset("äöüßéÄÖÜ"), frozenset("èêëàâáçñóòôúùûíîïåøæœãõÉÈÀÁÇÓÅØÆ")
"""Letters beside ASCII of the languages whose programs wrote Windows-1252 or MacRoman."""
_OPENING, _CLOSING, _ALONE = frozenset("“„‚‘«»¿¡‹…©€£"), frozenset("”“’‘«»…™®°›€ªº²³"), frozenset("–—…•©®€£§«»·°×")
_HIGH = re.compile(r"[^\x00-\x7f]")


def decoded(values: Sequence[bytes]) -> list[str]:
    """Texts of one writer. What is UTF-8 is read as that; what is not, is Windows-1252 or MacRoman for all of them,
    whichever makes words of it."""
    unclear = [value for value in values if not _utf8(value)]
    old = "cp1252"
    if unclear:
        windows, mac = (
            sum(_plausible(value.decode(name, "replace")) for value in unclear) for name in ("cp1252", "mac_roman")
        )
        old = "mac_roman" if mac > windows else old
    return [value.decode("utf-8") if _utf8(value) else value.decode(old, "replace") for value in values]


def _utf8(value: bytes) -> bool:
    try:
        value.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _plausible(text: str) -> float:
    """How much the letters and signs beside ASCII look as in a text: letters of these languages in words, in the case
    of their neighbours, and signs between words."""
    found = 0.0
    for match in _HIGH.finditer(text):
        sign, at = match[0], match.start()
        before, after, second = text[at - 1 : at] if at else "", text[at + 1 : at + 2], text[at + 2 : at + 3]
        inside, follows = before.isalpha(), after.isalpha()
        if sign == "\ufffd":
            found -= 2
        elif sign == "\xa0":
            found += 0.5
        elif sign.isalpha():
            found += sign in _FREQUENT or 0.4 * (sign in _COMMON)
            if (sign.isupper() and before.islower()) or (sign.islower() and after.isupper()):
                found -= 2
            elif sign.isupper() and after.isupper() and second.islower():
                found -= 1
            elif not inside and not follows and sign not in "àáéóèÀÁÉÓ":
                found -= 1.5
        elif inside and follows:
            found += {"’": 1.0, "–": 0.25, "·": 0.25}.get(sign, -2)
        elif follows:
            found += 0.75 if sign in _OPENING else -1
        elif inside:
            found += 0.75 if sign in _CLOSING else -1
        else:
            found += 0.5 if sign in _ALONE or sign in _OPENING or sign in _CLOSING else -0.5
    return found
