"""Undo what happened to a text on its way here: double encoding, soft hyphens, odd spaces, HTML entities, control
characters; and show a text that may hold such things."""

from __future__ import annotations

import functools
import html
import re
import unicodedata
from pathlib import PurePath
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
_NO_VALUE = _NULL | {"none", "nat", "(null)", "<null>"}


@functools.lru_cache(maxsize=4096)
def mend(text: str) -> tuple[str, tuple[Repair, ...]]:
    """The text as its author saw it, in one line of NFC, and the repairs that it took.

    Spaces and line ends are joined without being named. What spreadsheets and pandas write for "nothing" (`NaN`,
    `NULL`, …) is empty.
    """
    text, done = repair(text)
    text = " ".join(text.split())
    return ("" if text.casefold() in _NULL else text), done


def repair(text: str) -> tuple[str, tuple[Repair, ...]]:
    """The text in NFC with its lines as they are, for captions and other texts where they count, and the repairs
    that it took.

    Source of the double-encoding repair: ftfy.
    """
    done: list[Repair] = []
    if text.isascii() and text.isprintable() and "&" not in text:
        return text, ()
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
    for kind, pattern, put in ((SOFT, _SOFT, ""), (SPACES, _SPACE, " "), (CONTROL, _INVISIBLE, "")):
        text, count = pattern.subn(put, text)
        if count:
            done.append(kind)
    return unicodedata.normalize("NFC", text), tuple(done)


def no_value(cell: str) -> bool:
    """Whether a cell that is no prose, such as an id or a date, is how a database or spreadsheet writes "nothing"."""
    return cell.casefold() in _NO_VALUE


_NO_NAME = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ufeff]")
_UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters, line ends, turns of the writing direction, and bytes of a name that are not UTF-8."""


def shown(text: str | PurePath) -> str:
    """A path or message as one line that a terminal or a table shows and does not obey: what would steer it is
    escaped, as is a byte that is not UTF-8: `l\\xe4nder.jpg`, `two\\nlines.jpg`."""
    return _UNSEEN.sub(_escaped, str(text))


def _escaped(match: re.Match[str]) -> str:
    code = ord(match[0])
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    return match[0].encode("unicode_escape").decode("ascii")


def unfit(name: str) -> str:
    """Why the name of a file cannot be an id in runs, tables and indexes; empty if it can."""
    if any("\ud800" <= character <= "\udfff" for character in name):
        return f"is not UTF-8: {shown(name)}"
    if _NO_NAME.search(name):
        return f"holds a control character: {shown(name)}"
    return ""
