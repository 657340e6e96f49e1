"""A stranger's table file as rows of text, each with the line it starts on: CSV, TSV, JSON, JSONL, Parquet.

Nothing here knows about articles. A reader never raises for the content of a row: it repairs the row or leaves it out, says
so in a `Fault`, and goes on with the next one.
"""

from __future__ import annotations

import bisect
import codecs
import itertools
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from photodesk.errors import DataError, require
from photodesk.records import Fault

DELIMITERS = "\t,;|"
_MAX_COLUMNS = 10_000
_BOMS: tuple[tuple[bytes, str], ...] = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_LINE = re.compile(r"\r\n|\n|\r")


@dataclass(frozen=True, slots=True)
class Row:
    """One record: the line where it starts, a cell per column of the header, and whether it was too short for it."""

    line: int
    cells: tuple[str, ...]
    short: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """A file's header and rows, and what was wrong with it. `name` is the file as messages call it."""

    name: str
    path: Path
    header: tuple[str, ...]
    rows: tuple[Row, ...]
    faults: tuple[Fault, ...]


def read(path: Path, *, name: str = "") -> Table:
    """Read a table file; the suffix says which kind, delimiter and encoding are found out.

    Args:
        path: a .csv, .tsv, .txt, .json, .jsonl, .ndjson, .parquet or .bson file.
        name: what messages call the file; its own name by default.

    Raises:
        DataError: the file cannot be read at all, or has no header.
        MissingExtra: Parquet without pyarrow.
    """
    name = name or path.name
    kind = READERS.get(path.suffix.lower())
    if kind is None:
        raise DataError(f"{name}: photodesk reads {', '.join(READERS)} files; save the articles as one of these")
    try:
        return kind(path, name)
    except OSError as error:
        raise DataError(f"{name} cannot be read: {error.strerror or error}; check the path and its permissions") from error


def decode(data: bytes, name: str) -> tuple[str, list[Fault]]:
    """Text of a file in UTF-8, UTF-16, UTF-32 or Windows-1252, also where single lines of it are in another encoding.

    A line that is not UTF-8 is read as Windows-1252, so that one bad byte costs nothing else. NUL characters are dropped.
    """
    faults: list[Fault] = []
    for mark, encoding in _BOMS:
        if data.startswith(mark):
            data = data[len(mark) :]
            if encoding == "utf-8":
                faults.append(Fault(f"{name}:1", "the file starts with a byte order mark", "repaired"))
            else:
                faults.append(Fault(name, f"the file is {encoding.upper()}, not UTF-8", "repaired"))
                return _without_nul(data.decode(encoding, "replace"), name, faults)
            break
    for first, encoding in ((1, "utf-16-le"), (0, "utf-16-be")):
        half = data[first::2]
        if len(half) > 8 and half.count(0) > 0.4 * len(half):
            faults.append(Fault(name, f"the file is {encoding.upper()}, not UTF-8", "repaired"))
            return _without_nul(data.decode(encoding, "replace"), name, faults)
    try:
        return _without_nul(data.decode("utf-8"), name, faults)
    except UnicodeDecodeError:
        pass
    lines, foreign, utf8 = [], [], 0
    for number, line in enumerate(re.split(rb"(?<=\n)|(?<=\r)(?!\n)", data), start=1):
        try:
            lines.append(line.decode("utf-8"))
            utf8 += not line.isascii()
        except UnicodeDecodeError:
            lines.append(line.decode("cp1252", "replace"))
            foreign.append(number)
    if utf8 < len(foreign) / 10:
        what = f"the file is Windows-1252, not UTF-8: {len(foreign)} lines differ, the first is line {foreign[0]}"
        faults.append(Fault(name, what, "repaired"))
    else:
        faults += [Fault(f"{name}:{n}", "the line is not UTF-8; read as Windows-1252", "repaired") for n in foreign]
    return _without_nul("".join(lines), name, faults)


def _without_nul(text: str, name: str, faults: list[Fault]) -> tuple[str, list[Fault]]:
    if at := text.find("\0") + 1:
        line = len(_LINE.findall(text, 0, at)) + 1
        faults.append(Fault(f"{name}:{line}", f"NUL characters in the file: {text.count(chr(0))}", "repaired"))
        text = text.replace("\0", "")
    return text, faults


def _delimited(path: Path, name: str) -> Table:
    text, faults = decode(path.read_bytes(), name)
    if "\r" in text:
        ends = "CRLF" if "\r\n" in text else "CR"
        faults.append(Fault(name, f"lines end in {ends}", "repaired"))
    delimiter = _delimiter(text, path)
    splitter = _Splitter(text, delimiter)
    records = splitter.records()
    header: tuple[str, ...] = ()
    for _, cells, _ in records:
        if any(cell.strip() for cell in cells):
            header = tuple(cell.strip() for cell in cells)
            break
    if not header:
        raise DataError(f"{name} is empty; a table needs a header line with the names of its columns")
    splitter.width = width = len(header)
    rows: list[Row] = []
    blank: list[int] = []
    for line, cells, flaw in records:
        where = f"{name}:{line}"
        if not any(cell.strip() for cell in cells):
            blank.append(line)
            continue
        if flaw:
            faults.append(Fault(where, flaw, "repaired", "check this row" if "not closed" in flaw else ""))
        if len(cells) > width and not any(cell.strip() for cell in cells[width:]):
            cells = cells[:width]
        if len(cells) > width:
            what = f"the row has {len(cells)} columns, the header {width}"
            faults.append(Fault(where, what, "left out", 'put quotes (") around the cell that holds the delimiter'))
            continue
        if tuple(cell.strip() for cell in cells) == header:
            faults.append(Fault(where, "the header stands here again", "left out"))
            continue
        rows.append(Row(line, tuple(cells) + ("",) * (width - len(cells)), short=len(cells) < width))
    last = rows[-1].line if rows else 0
    faults += [Fault(f"{name}:{line}", "blank row", "left out") for line in blank if line < last]
    return Table(name, path, header, tuple(rows), tuple(faults))


def _delimiter(text: str, path: Path) -> str:
    head = re.sub(r'"[^"]*"', "", _first_line(text))
    preferred = "\t" if path.suffix.lower() in {".tsv", ".txt"} else ","
    return max(DELIMITERS, key=lambda mark: (head.count(mark), mark == preferred))


def _first_line(text: str) -> str:
    return next((line for line in _LINE.split(text[:100_000]) if line.strip()), "")


class _Splitter:
    """Cuts delimited text into records and never lets one stray quote swallow the rows after it.

    A quoted cell may span lines and hold doubled quotes (RFC 4180). A cell that opens a quote without closing it before a
    delimiter or line end is read literally to the end of its line; so is one that would swallow lines which are plainly rows.
    """

    def __init__(self, text: str, delimiter: str) -> None:
        self.text = text
        self.delimiter = mark = delimiter
        self.width = 1 + _first_line(text).count(mark)
        self.starts = [0, *(m.end() for m in _LINE.finditer(text))]
        mark = re.escape(mark)
        self.quoted = re.compile(rf' *+"((?:[^"]++|"")*+)" *+(?=[{mark}\r\n]|\Z)')
        self.loose = re.compile(rf' *+"([^\r\n]*?)" *+(?=[{mark}\r\n]|\Z)')
        self.plain = re.compile(rf"[^{mark}\r\n]*+")
        self.rest = re.compile(r"[^\r\n]*+")

    def records(self) -> Iterator[tuple[int, list[str], str]]:
        """(line, cells, what was repaired) of every record; set `width` once the header is read."""
        at, size = 0, len(self.text)
        while at < size:
            index = bisect.bisect_right(self.starts, at) - 1
            cells, end, flaw = self._record(at, size)
            stop = bisect.bisect_left(self.starts, end)
            if stop - index > 1 and self._swallowed(index, stop):
                limit = self.starts[index + 1]
                cells, end, _ = self._record(at, limit)
                flaw = f"a quote is not closed and would swallow {stop - index - 1} more lines"
            yield index + 1, cells, flaw
            at = end

    def _record(self, at: int, limit: int) -> tuple[list[str], int, str]:
        text, cells, flaw = self.text, [], ""
        most = min(4 * self.width + 64, _MAX_COLUMNS)
        while True:
            if match := self.quoted.match(text, at, limit):
                cells.append(match[1].replace('""', '"'))
            elif len(cells) >= most:
                match = self.rest.match(text, at, limit)
                cells.append(match[0] if match else "")
            else:
                match = self.plain.match(text, at, limit)
                cell = match[0] if match else ""
                if cell.lstrip(" ").startswith('"'):
                    if loose := self.loose.match(text, at, min(limit, at + 10_000)):
                        match, cell, flaw = loose, loose[1], "quotes inside a quoted cell are not doubled"
                    else:
                        cell, flaw = cell.lstrip(" ")[1:], "a quote is not closed in this row"
                cells.append(cell)
            at = match.end() if match else at
            if at < limit and text[at] == self.delimiter:
                at += 1
                continue
            if at < limit:
                at += 2 if text.startswith("\r\n", at) else 1
            return cells, at, flaw

    def _swallowed(self, first: int, stop: int) -> bool:
        """Whether the lines first … stop - 1 look like rows of their own: nearly all have just as many cells as the header."""
        bounds = [*self.starts[first:stop], self.starts[stop] if stop < len(self.starts) else len(self.text)]
        lines = [self.text[a:b] for a, b in itertools.pairwise(bounds)]
        lines = [line for line in lines if line.strip()]
        whole = sum(line.count(self.delimiter) + 1 == self.width for line in lines)
        return whole >= 0.9 * len(lines) and whole * (self.width - 1) >= 8


def _objects(name: str, records: Iterator[tuple[int, Any]], faults: list[Fault], path: Path) -> Table:
    """A table from (line, object) pairs; nested objects become columns such as `headline.main`."""
    columns: dict[str, None] = {}
    flat: list[tuple[int, dict[str, str]]] = []
    for line, record in records:
        if not isinstance(record, dict):
            faults.append(
                Fault(f"{name}:{line}", f"not an object but {type(record).__name__}", "left out", "each line must be a JSON object")
            )
            continue
        cells = {str(key): _cell(value) for key, value in record.items()}
        for key, value in record.items():
            if isinstance(value, dict):
                cells |= {f"{key}.{inner}": _cell(v) for inner, v in value.items() if not isinstance(v, dict)}
        if not any(cells.values()):
            faults.append(Fault(f"{name}:{line}", "blank row", "left out"))
            continue
        columns |= dict.fromkeys(cells)
        flat.append((line, cells))
    if not columns:
        raise DataError(f"{name} holds no rows; each line must be a JSON object such as " + '{"id": "1", "title": "…"}')
    return Table(name, path, tuple(columns), tuple(Row(n, tuple(c.get(k, "") for k in columns)) for n, c in flat), tuple(faults))


def _cell(value: Any) -> str:
    """A JSON or Parquet value as text: whole floats lose their ".0" (pandas makes them of ids), lists are joined."""
    if value is None or value != value:
        return ""
    if isinstance(value, str):
        return value.replace("\0", "").encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return str(int(value))
    if isinstance(value, list | tuple):
        return ", ".join(filter(None, map(_cell, value)))
    if isinstance(value, dict):
        return ""
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def _json_lines(path: Path, name: str) -> Table:
    text, faults = decode(path.read_bytes(), name)
    if text.lstrip().startswith("["):
        return _objects(name, _array(text, name, faults), faults, path)

    def records() -> Iterator[tuple[int, Any]]:
        for number, line in enumerate(_LINE.split(text), start=1):
            if not line.strip():
                continue
            try:
                yield number, json.loads(line)
            except (ValueError, RecursionError) as error:
                what = f"not JSON: {getattr(error, 'msg', 'nested too deeply')} at character {getattr(error, 'pos', 0) + 1}"
                faults.append(Fault(f"{name}:{number}", what, "left out", "repair or delete this line"))

    return _objects(name, records(), faults, path)


def _array(text: str, name: str, faults: list[Fault]) -> Iterator[tuple[int, Any]]:
    """The elements of a JSON array; after a damaged one it goes on at the next line that begins with `{`."""
    starts = [0, *(m.end() for m in _LINE.finditer(text))]
    decoder = json.JSONDecoder()
    gap, next_object = re.compile(r"[\s,]*+"), re.compile(r"(?:\r\n|\n|\r)[ \t,]*+(?=\{)")
    at = text.index("[") + 1
    while True:
        match = gap.match(text, at)
        at = match.end() if match else at
        if at >= len(text) or text[at] == "]":
            return
        line = bisect.bisect_right(starts, at)
        try:
            value, at = decoder.raw_decode(text, at)
            yield line, value
        except (ValueError, RecursionError) as error:
            what = f"not JSON: {getattr(error, 'msg', 'nested too deeply')}"
            faults.append(Fault(f"{name}:{line}", what, "left out", "repair or delete this element"))
            found = next_object.search(text, at)
            if found is None:
                return
            at = found.end()


def _parquet(path: Path, name: str) -> Table:
    parquet = require("pyarrow.parquet", "parquet")
    arrow = require("pyarrow", "parquet")
    try:
        table = parquet.read_table(path)
        return _objects(name, iter(enumerate(table.to_pylist(), start=1)), [], path)
    except (arrow.ArrowException, ValueError, OverflowError) as error:
        raise DataError(f"{name} is not a readable Parquet file: {str(error)[:150]}; write it again") from error


READERS: dict[str, Callable[[Path, str], Table]] = {
    ".csv": _delimited,
    ".tsv": _delimited,
    ".txt": _delimited,
    ".json": _json_lines,
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".parquet": _parquet,
}
