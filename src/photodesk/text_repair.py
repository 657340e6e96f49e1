"""Repair of untrusted text: double encoding, soft hyphens, odd spaces, HTML entities, control characters, lone
surrogates."""

from __future__ import annotations

import functools
import html
import re
import unicodedata
from typing import NamedTuple


class Repair(NamedTuple):
    """What was repaired in a text: its code, as in `types.Fault`, and its name in messages."""

    code: str
    what: str


DOUBLE = Repair("text-double-encoded", "double-encoded UTF-8")
SOFT = Repair("text-soft-hyphens", "soft hyphens")
SPACES = Repair("text-odd-spaces", "non-breaking or odd spaces")
ENTITIES = Repair("text-html-entities", "HTML entities")
CONTROL = Repair("text-control-characters", "control characters")

_TWICE = re.compile(r"[^\x00-\x7f]{2}|[ÂÃ] ")
"""A letter that was encoded twice is two non-ASCII ones, or one and a space; ftfy reads only texts that have them."""
_SPACE = re.compile(r"[\u00a0\u2000-\u200a\u202f\u205f\u3000]")
_INVISIBLE = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\u200b\u2060\ufeff]")
_SOFT = re.compile("\u00ad")
_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[a-zA-Z][a-zA-Z0-9]{1,31});")
_NULL = frozenset({"nan", "null", "\\n", "#n/a", "<na>"})


def encodable(text: str) -> str:
    """The text with lone surrogates, which UTF-8 cannot encode, replaced by question marks."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


@functools.lru_cache(maxsize=4096)
def mend(text: str) -> tuple[str, tuple[Repair, ...]]:
    """The repaired text, in one line of NFC, and the repairs made.

    Source of the double-encoding repair: ftfy. Runs of white space become one space, which is not reported. What
    spreadsheets and pandas write for a missing value (`NaN`, `NULL`, …) is empty.
    """
    done: list[Repair] = []
    if text.isascii() and text.isprintable() and "&" not in text:
        text = " ".join(text.split())
        return ("" if text.casefold() in _NULL else text), ()
    if _TWICE.search(text):
        import ftfy

        text, before = ftfy.fix_encoding(text), text
        if text != before:
            done.append(DOUBLE)
    if _ENTITY.search(text):
        text, before = html.unescape(text), text
        if text != before:
            done.append(ENTITIES)
    for repair, pattern, put in ((SOFT, _SOFT, ""), (SPACES, _SPACE, " "), (CONTROL, _INVISIBLE, "")):
        text, count = pattern.subn(put, text)
        if count:
            done.append(repair)
    text = " ".join(unicodedata.normalize("NFC", text).split())
    return ("" if text.casefold() in _NULL else text), tuple(done)
