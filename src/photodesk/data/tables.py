"""A stranger's table file as rows of text, each with the line it starts on: CSV, TSV, JSON, JSONL, Parquet, BSON.

Nothing here knows about articles. A reader never raises for the content of a row: it repairs the row or leaves it out,
says so in a `Fault`, and goes on with the next one.
"""

from __future__ import annotations

import bisect
import csv
import json
import mmap
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from photodesk.data import csv_reader
from photodesk.data.csv_reader import LINE_END
from photodesk.errors import DataError, require
from photodesk.files import open_regular, replacing
from photodesk.types import Fault

SUFFIXES = (".csv", ".tsv", ".txt", ".json", ".jsonl", ".ndjson", ".parquet", ".bson")
"""The files that `read` reads."""

Record = dict[str, Any]
Unfold = Callable[[Record], list[Record]]


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


def read(path: Path, *, name: str = "", unfold: Unfold | None = None) -> Table:
    """Read a table file; the suffix says which kind, delimiter and encoding are found out.

    Args:
        path: a file with one of `SUFFIXES`. Lines are counted from 1; of Parquet and BSON files the rows.
        name: what messages call the file; its own name by default.
        unfold: turns one object of a JSON or BSON file into the records that it stands for.

    Raises:
        DataError: the file cannot be read at all, or has no header.
        MissingExtra: Parquet or BSON without its library.
    """
    name, suffix = name or path.name, path.suffix.lower()
    try:
        if suffix in {".csv", ".tsv", ".txt"}:
            return _delimited(path, name)
        if suffix == ".parquet":
            return _parquet(path, name)
        if suffix not in SUFFIXES:
            raise DataError(f"{name}: photodesk reads {', '.join(SUFFIXES)} files; save the articles as one of these")
        faults: list[Fault] = []
        found = _bson(path, name, faults) if suffix == ".bson" else _json(path, name, faults)
        return _objects(name, found, faults, path, unfold)
    except OSError as error:
        raise DataError(
            f"{name} cannot be read: {error.strerror or error}; check the path and its permissions"
        ) from error


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV file that a spreadsheet shows as it is: a text that it would run as a formula gets an apostrophe
    before it."""
    with replacing(path) as stream:
        writer = csv.writer(stream)
        writer.writerow(header)
        writer.writerows([neutral(cell) for cell in row] for row in rows)


def neutral(cell: object) -> object:
    """A cell that no spreadsheet takes for a formula; numbers stay what they are. Source: OWASP, CSV injection."""
    if not isinstance(cell, str):
        return cell
    return f"'{cell}" if cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")) else cell


def _delimited(path: Path, name: str) -> Table:
    with open_regular(path) as stream:
        text, faults = csv_reader.decode(stream.read(), name)
    if "\r" in text:
        what = f"lines end in {'CRLF' if chr(13) + chr(10) in text else 'CR'}"
        faults.append(Fault("table-line-ends", name, what, "repaired"))
    found = csv_reader.records(text, tabs=path.suffix.lower() != ".csv")
    head = next((record for record in found if any(map(str.strip, record.cells))), None)
    if head is None:
        raise DataError(f"{name} is empty; a table needs a header line with the names of its columns")
    header = tuple(map(str.strip, head.cells))
    width = len(header)
    rows: list[Row] = []
    blank: list[int] = []
    for record in found:
        where, cells = f"{name}:{record.line}", record.cells
        if not any(map(str.strip, cells)):
            blank.append(record.line)
            continue
        if record.flaw:
            flaw = record.flaw
            faults.append(Fault(flaw.code, where, flaw.what, "repaired", flaw.advice))
        if any(map(str.strip, cells[width:])):
            what = f"too many columns: {len(cells)}, the header has {width}"
            advice = 'put quotes (") around the cell that holds the delimiter'
            faults.append(Fault("row-too-many-columns", where, what, "left out", advice))
        elif tuple(map(str.strip, cells)) == header:
            faults.append(Fault("row-header-again", where, "the header stands here again", "left out"))
        else:
            rows.append(Row(record.line, (*cells[:width], *[""] * (width - len(cells))), short=len(cells) < width))
    last = rows[-1].line if rows else 0
    faults += [Fault("row-blank", f"{name}:{line}", "blank row", "left out") for line in blank if line < last]
    return Table(name, path, header, tuple(rows), tuple(faults))


def _objects(
    name: str, found: Iterable[tuple[int, Any]], faults: list[Fault], path: Path, unfold: Unfold | None
) -> Table:
    """A table from (line, object) pairs; nested objects become columns such as `headline.main`."""
    columns: dict[str, None] = {}
    flat: list[tuple[int, dict[str, str]]] = []
    for line, value in found:
        if not isinstance(value, dict):
            advice = 'write a JSON object such as {"id": "1", "title": "…"} on each line'
            what = f"not an object: {type(value).__name__}"
            faults.append(Fault("row-not-object", f"{name}:{line}", what, "left out", advice))
            continue
        for record in unfold(value) if unfold else [value]:
            cells = {str(key): _cell(cell) for key, cell in record.items()}
            for key, inner in record.items():
                if isinstance(inner, dict):
                    cells |= {f"{key}.{k}": _cell(v) for k, v in inner.items() if not str(k).startswith("$")}
            if any(cells.values()):
                columns |= dict.fromkeys(cells)
                flat.append((line, cells))
            else:
                faults.append(Fault("row-blank", f"{name}:{line}", "blank row", "left out"))
    if not columns:
        raise DataError(f"{name} holds no records" + (f"; {faults[-1]}" if faults else "; is it the right file?"))
    rows = tuple(Row(line, tuple(cells.get(column, "") for column in columns)) for line, cells in flat)
    return Table(name, path, tuple(columns), rows, tuple(faults))


def _cell(value: Any) -> str:
    """A JSON, BSON or Parquet value as text: whole floats lose their ".0" (pandas makes them of ids), lists are
    joined."""
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
    if isinstance(value, dict):  # MongoDB's extended JSON: {"$oid": "5c…"}, {"$date": {"$numberLong": "0"}}
        return _cell(next(iter(value.values()))) if len(value) == 1 and str(next(iter(value))).startswith("$") else ""
    return str(value.isoformat()) if hasattr(value, "isoformat") else str(value)


def _json(path: Path, name: str, faults: list[Fault]) -> Iterator[tuple[int, Any]]:
    """Objects of a JSON array, or one a line; a file of lines is streamed, so it may be larger than the memory."""
    with open_regular(path) as stream:
        head = stream.read(4096)
        if csv_reader.wide(head) or head.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"["):
            text, found = csv_reader.decode(head + stream.read(), name)
            faults += found
            if text.lstrip().startswith("["):
                yield from _array(text, name, faults)
            else:
                yield from _parsed(enumerate(LINE_END.split(text), start=1), name, faults)
            return
        stream.seek(0)
        yield from _parsed(_lines(stream, name, faults), name, faults)


def _lines(stream: Iterable[bytes], name: str, faults: list[Fault]) -> Iterator[tuple[int, str]]:
    lines = (line for block in stream for line in re.split(rb"\r(?!\n)(?=.)", block))
    for number, line in enumerate(lines, start=1):
        if number == 1 and line.startswith(b"\xef\xbb\xbf"):
            faults.append(Fault("table-bom", f"{name}:1", "the file starts with a byte order mark", "repaired"))
            line = line[3:]
        try:
            yield number, line.decode("utf-8")
        except UnicodeDecodeError:
            what = "the line is not UTF-8 but Windows-1252"
            faults.append(Fault("row-not-utf8", f"{name}:{number}", what, "repaired"))
            yield number, line.decode("cp1252", "replace")


def _parsed(lines: Iterable[tuple[int, str]], name: str, faults: list[Fault]) -> Iterator[tuple[int, Any]]:
    for number, line in lines:
        if line.strip():
            try:
                yield number, json.loads(line, strict=False)
            except (ValueError, RecursionError) as error:
                faults.append(_not_json(f"{name}:{number}", error, "repair or delete this line"))


def _not_json(where: str, error: Exception, advice: str) -> Fault:
    reason = "nested too deeply" if isinstance(error, RecursionError) else getattr(error, "msg", str(error))
    at = f" at character {error.pos + 1}" if isinstance(error, json.JSONDecodeError) else ""
    return Fault("row-not-json", where, f"not JSON: {reason}{at}", "left out", advice)


def _array(text: str, name: str, faults: list[Fault]) -> Iterator[tuple[int, Any]]:
    """The elements of a JSON array; after a damaged one it goes on at the next line that begins with `{`."""
    starts = [0, *(m.end() for m in LINE_END.finditer(text))]
    decoder = json.JSONDecoder(strict=False)
    gap, onward = re.compile(r"[\s,]*+"), re.compile(r"(?:\r\n|\n|\r)[ \t,]*+(?=\{)")
    at = text.index("[") + 1
    while True:
        match = gap.match(text, at)
        at = match.end() if match else at
        if at >= len(text) or text[at] == "]":
            return
        line = bisect.bisect_right(starts, at)
        try:
            value, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError) as error:
            faults.append(_not_json(f"{name}:{line}", error, "repair or delete this element"))
            found = onward.search(text, at)
            if found is None:
                return
            at = found.end()
        else:
            yield line, value


def _bson(path: Path, name: str, faults: list[Fault]) -> Iterator[tuple[int, Any]]:
    """Documents of a mongodump file; after a damaged one it goes on where the next begins with the same first field."""
    bson = require("bson", "nytimes")
    options = require("bson.codec_options", "nytimes").CodecOptions(unicode_decode_error_handler="replace")
    with (
        open_regular(path) as stream,
        mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) if stream.peek(1) else nullcontext(b"") as data,
    ):
        first = data[4 : max(data.find(b"\0", 4, 100) + 1, 5)]
        at = number = 0
        while at + 5 <= len(data):
            number += 1
            size = int.from_bytes(data[at : at + 4], "little")
            try:
                if not 5 <= size <= len(data) - at:
                    raise ValueError(f"it claims {size} bytes, {len(data) - at} are left")
                value = bson.decode(data[at : at + size], codec_options=options)
            except Exception as error:  # bson raises what it meets: InvalidBSON, KeyError, OverflowError, …
                reason = " ".join(str(error).split())[:100]
                what, advice = f"not BSON: {reason}", "export the collection again"
                faults.append(Fault("row-not-bson", f"{name}:{number}", what, "left out", advice))
                at = data.find(first, at + 5) - 4
                if at < 0:
                    return
            else:
                at += size
                yield number, value


def _parquet(path: Path, name: str) -> Table:
    arrow, parquet = require("pyarrow", "parquet"), require("pyarrow.parquet", "parquet")

    def rows(stream: IO[bytes]) -> Iterator[tuple[int, Any]]:
        batches = parquet.ParquetFile(stream).iter_batches(batch_size=4096)
        return enumerate((row for batch in batches for row in batch.to_pylist()), start=1)

    try:
        with open_regular(path) as stream:
            return _objects(name, rows(stream), [], path, None)
    except (arrow.ArrowException, ValueError, OverflowError) as error:
        raise DataError(
            f"{name} is not a readable Parquet file: {' '.join(str(error).split())[:150]}; write it again"
        ) from error
