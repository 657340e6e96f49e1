"""XLSX sheets as records of text, as a person sees them; bounded, since a small file can unpack into a huge one."""

from __future__ import annotations

import datetime
import itertools
import re
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any
from xml.parsers import expat

from photodesk.data.csv_reader import HEADER_WITHIN, Field, Record, header, known_names
from photodesk.errors import DataError, require
from photodesk.files import open_regular

UNPACKED = 512 << 20
"""Bytes that a workbook's parts may have together; what they declare is also the most that is unpacked."""
PARTS = 10_000
CELLS = 20_000_000
"""Cells of a sheet, empty ones between full ones included."""

_ESCAPED = re.compile("_x([0-9A-Fa-f]{4})_")
_PADDED = re.compile("0{2,30}")


@contextmanager
def sheet(
    path: Path, name: str, *, header_line: int = 0, field: Field | None = None
) -> Iterator[tuple[Iterator[Record], str]]:
    """The records of the first visible sheet with known column names, from its header on, and which sheet that is where
    there are several.

    Args:
        path: the file.
        name: what messages call it.
        header_line: the row of the header, if it is known.
        field: says which column names are known.

    Raises:
        DataError: it is no workbook, larger than it may be, or empty.
        MissingExtra: openpyxl is not installed.
    """
    _inspect(path, name)
    openpyxl = require("openpyxl", "xlsx")
    with open_regular(path) as stream, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of styles and extensions that nobody asks for
        try:
            book = openpyxl.load_workbook(stream, read_only=True, data_only=True)
            try:
                yield _chosen(book, name, header_line, field)
            finally:
                book.close()
        except (DataError, OSError):
            raise
        except Exception as error:  # openpyxl raises what it meets: KeyError, ValueError, ParseError, …
            raise DataError(
                f"{name} is not a readable XLSX file: {' '.join(str(error).split())[:150]}; save it again"
            ) from error


def _chosen(book: Any, name: str, header_line: int, field: Field | None) -> tuple[Iterator[Record], str]:
    sheets = [one for one in book.worksheets if one.sheet_state == "visible"] or book.worksheets
    found = []
    for number, one in enumerate(sheets):
        one.reset_dimensions()  # what it declares is not always true
        rows = _rows(one, name)
        if header_line:
            filled = itertools.islice((row for row in rows if row.line >= header_line), 1)
        else:
            filled = itertools.islice(rows, HEADER_WITHIN)
        if head := header(tuple(filled), field):
            found.append((min(known_names(head, field), 2), -number, head.line, one))
    if not found:
        raise DataError(f"{name} is empty; a table needs a header line with the names of its columns")
    _, number, line, best = max(found, key=lambda one: one[:2])
    return (row for row in _rows(best, name) if row.line >= line), (
        f"sheet {best.title!r}" if len(book.worksheets) > 1 else ""
    )


def _rows(one: Any, name: str) -> Iterator[Record]:
    """The rows of a sheet that hold something."""
    count = 0
    for number, row in enumerate(one.iter_rows(), start=1):
        count += len(row) or 1
        if count > CELLS:
            raise DataError(
                f"{name}: sheet {one.title!r} has more than {CELLS:,} cells; save the articles alone, or as CSV"
            )
        cells = [_seen(cell) for cell in row]
        while cells and not cells[-1]:
            cells.pop()
        if any(cells):
            yield Record(number, tuple(cells))


def _seen(cell: Any) -> str:
    """A cell's value as it is seen: dates as dates, whole numbers without a point, leading zeros where the format has
    them."""
    value = cell.value
    if value is None:
        return ""
    if isinstance(value, str):
        return _ESCAPED.sub(lambda match: chr(int(match[1], 16)), value).replace("\0", "").strip()
    if isinstance(value, datetime.datetime):
        return value.date().isoformat() if value.time() == datetime.time() else value.isoformat(" ", "seconds")
    if isinstance(value, bool):
        return str(value).upper()
    if isinstance(value, int | float):
        if isinstance(value, float):
            if value != value:
                return ""
            if not value.is_integer() or abs(value) >= 1e18:
                return str(value)
        digits = str(int(value))
        form = str(cell.number_format)
        return digits.zfill(len(form)) if _PADDED.fullmatch(form) else digits
    return str(value)


def _inspect(path: Path, name: str) -> None:
    """Refuse what would fill the memory, before anything is unpacked.

    Raises:
        DataError: it is no ZIP, its parts are too large or too many, or one declares entities.
    """
    try:
        with open_regular(path) as file, zipfile.ZipFile(file) as packed:
            parts = packed.infolist()
            if len(parts) > PARTS or sum(part.file_size for part in parts) > UNPACKED:
                raise DataError(f"{name} unpacks into more than {UNPACKED >> 20} MB; save the articles as CSV")
            for part in parts:
                with packed.open(part) as stream:
                    _prolog(stream, name)
    except zipfile.BadZipFile as error:
        with open_regular(path) as stream:
            old = stream.read(8) == b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
        reason = "it has a password or is in Excel's old format" if old else "it is no ZIP file"
        raise DataError(f"{name} is not a readable XLSX file: {reason}; save it as XLSX or CSV") from error
    except (RuntimeError, NotImplementedError, zipfile.LargeZipFile, EOFError, ValueError) as error:
        raise DataError(f"{name} is not a readable XLSX file: {error}; save it again") from error


def _prolog(stream: IO[bytes], name: str) -> None:
    """Refuse a part that declares a document type: that is where entities are, and no workbook has one."""

    class _EndError(Exception):
        pass

    def declared(*_: object) -> None:
        raise DataError(f"{name} is not a readable XLSX file: it declares entities; save it again")

    def begun(*_: object) -> None:
        raise _EndError

    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = declared
    parser.StartElementHandler = begun
    try:
        while head := stream.read(1 << 16):
            parser.Parse(head, False)
    except (_EndError, expat.ExpatError):  # what is no XML is a picture, or openpyxl says what is wrong with it
        return
