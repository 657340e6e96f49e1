"""Undo what happened to a text on its way here: double encoding, soft hyphens, odd spaces, HTML entities, control
characters."""

from __future__ import annotations

import functools
import html
import re
import unicodedata
from typing import NamedTuple


class Repair(NamedTuple):
    """What was mended in a text: its code, as in `types.Fault`, and its name for people."""

    code: str
    what: str


DOUBLE = Repair("text-double-encoded", "double-encoded UTF-8")
SOFT = Repair("text-soft-hyphens", "soft hyphens")
SPACES = Repair("text-odd-spaces", "non-breaking or odd spaces")
ENTITIES = Repair("text-html-entities", "HTML entities")
CONTROL = Repair("text-control-characters", "control characters")

_TWICE = re.compile(r"[^\x00-\x7f]{2}|[ÂÃ] ")
"""A letter that was encoded twice is two foreign ones, or one and a space; looking for that first spares ftfy most
texts."""
_SPACE = re.compile(r"[\u00a0\u2000-\u200a\u202f\u205f\u3000]")
_INVISIBLE = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\u200b\u2060\ufeff]")
_SOFT = re.compile("\u00ad")
_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[a-zA-Z][a-zA-Z0-9]{1,31});")
_NULL = frozenset({"nan", "null", "\\n", "#n/a", "<na>"})


@functools.lru_cache(maxsize=4096)
def mend(text: str) -> tuple[str, tuple[Repair, ...]]:
    """The text as its author saw it, in one line of NFC, and the repairs that it took.

    Source of the double-encoding repair: ftfy. Spaces and line ends are joined without being named. What spreadsheets
    and pandas write for "nothing" (`NaN`, `NULL`, …) is empty.
    """
    done: list[Repair] = []
    if text.isascii() and text.isprintable() and "&" not in text:
        text = " ".join(text.split())
        return ("" if text.casefold() in _NULL else text), ()
    if _TWICE.search(text):
        import ftfy

        fixed = ftfy.fix_encoding(text)
        if fixed != text:
            done.append(DOUBLE)
            text = fixed
    if _ENTITY.search(text):
        plain = html.unescape(text)
        if plain != text:
            done.append(ENTITIES)
            text = plain
    for repair, pattern, put in ((SOFT, _SOFT, ""), (SPACES, _SPACE, " "), (CONTROL, _INVISIBLE, "")):
        text, count = pattern.subn(put, text)
        if count:
            done.append(repair)
    text = " ".join(unicodedata.normalize("NFC", text).split())
    return ("" if text.casefold() in _NULL else text), tuple(done)
