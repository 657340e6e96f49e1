"""IPTC-IIM, as real files hold it: what is complete is read, whatever lies around it.

Source: IPTC-NAA Information Interchange Model 4.2, chapters 1.5 and 3; character sets by the escape sequences of
ISO 2022 as registered by ISO-IR.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from photodesk.archive.charsets import decoded

MOST = 10_000
"""Data sets that are read; real files have some dozens."""

_MARK = b"\x1c"
_HEAD = re.compile(rb"\x1c([\x01-\x09\x0f\xf0])(.)(..)", re.DOTALL)
"""Mark, record (those of the standard, and two of programs), number and size."""
_CHARSET = (1, 90)
_LATIN = {
    **{"A": "1", "B": "2", "C": "3", "D": "4", "F": "7", "G": "6", "H": "8", "L": "5", "M": "9", "V": "10"},
    **{"T": "11", "Y": "13", "_": "14", "b": "15", "f": "16"},
}
"""Last byte of ISO 2022's escape sequence for a set of 96 signs → part of ISO 8859."""
_ASIAN = {"A": "gb2312", "B": "euc_jp", "C": "euc_kr", "D": "euc_jp"}


@dataclass(frozen=True, slots=True)
class Sets:
    """Data sets of the application record.

    Args:
        texts: number of a data set → its values that are not empty, in the order of the file.
        cut: whether the last one is cut short; it is left out.
    """

    texts: dict[int, list[str]]
    cut: bool = False


def read(block: bytes) -> Sets:
    """All data sets of a block that are whole. Other records, and bytes between and after the sets, are skipped."""
    if block[:1] != _MARK and block[3:4] == _MARK:  # a TIFF wrote it as numbers of the other byte order
        block = b"".join(block[i : i + 4][::-1] for i in range(0, len(block), 4))
    numbers: list[int] = []
    values: list[bytes] = []
    charset, cut = b"", False
    for record, number, value in islice(_sets(block), MOST):
        if value is None:
            cut = True
        elif (record, number) == _CHARSET:
            charset = charset or value
        elif record == 2 and value.strip(b"\0 \t\r\n"):
            numbers.append(number)
            values.append(value)
    texts: dict[int, list[str]] = {}
    for number, text in zip(numbers, _decoded(values, _declared(charset)), strict=True):
        texts.setdefault(number, []).append(text)
    return Sets(texts, cut)


def _sets(block: bytes) -> Iterator[tuple[int, int, bytes | None]]:
    """Record, number and value; None for a value that the block does not hold to its end."""
    at = 0
    while head := _HEAD.search(block, at):
        record, number = head[1][0], head[2][0]
        start, size = head.end(), int.from_bytes(head[3])
        at = head.start() + 1  # where nothing begins here after all: a length can be wrong
        if size & 0x8000:  # so many bytes with the size follow
            more = size & 0x7FFF
            size = int.from_bytes(block[start : start + more]) if more <= 8 else len(block)
            start += more
        if start + size > len(block):
            yield record, number, None
        else:
            yield record, number, block[start : start + size]
            at = start + size


def _declared(value: bytes) -> str:
    """Python's name of the character set that 1:90 names; empty where it names none or only ASCII."""
    if b"\x1b%G" in value or b"\x1b%/" in value:
        return "utf-8"
    found = ""
    for many, plane, last in re.findall(r"\x1b(\$?)([()*+,\-./])([@-~])", value.decode("latin-1")):
        if many:
            found = _ASIAN.get(last, found)
        elif plane in "-./" and last in _LATIN:
            found = f"iso8859-{_LATIN[last]}"
    if not found and value[:1] != b"\x1b":  # against the standard, some write the name
        try:
            found = codecs.lookup(value.strip(b"\0 ").decode("ascii")).name
            b"".decode(found)
        except (LookupError, UnicodeError, ValueError):
            found = ""
    return "" if found == "ascii" else found


def _decoded(values: list[bytes], charset: str) -> list[str]:
    """In the set that was declared, where that is possible; else by what the bytes look like."""
    if charset:
        try:
            return [value.decode(charset) for value in values]
        except UnicodeError:
            pass
    return decoded(values)
