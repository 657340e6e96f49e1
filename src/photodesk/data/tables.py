"""An untrusted table file as rows of text, each with the line it starts on: CSV, TSV, XLSX, JSON, JSONL, Parquet, BSON.

Nothing here knows about articles. A reader never raises for the content of a row: it repairs the row or leaves it out,
says so in a `Fault`, and goes on with the next one.
"""

from __future__ import annotations

import csv
import itertools
import mmap
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from photodesk.data import csv_reader, json_reader, xlsx_reader
from photodesk.data.csv_reader import Field
from photodesk.errors import DataError, require
from photodesk.files import open_regular, replacing
from photodesk.types import Fault

SUFFIXES = (".csv", ".tsv", ".txt", ".xlsx", ".xlsm", ".json", ".jsonl", ".ndjson", ".parquet", ".bson")
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
    """A file's header and rows, and what was wrong with it. `name` is the file as messages call it, `guessed` how it
    was read where that could be otherwise."""

    name: str
    path: Path
    header: tuple[str, ...]
    rows: tuple[Row, ...]
    faults: tuple[Fault, ...]
    guessed: str = ""


def nobody(_: str) -> str:
    """Knows no column name."""
    return ""


def read(
    path: Path,
    *,
    name: str = "",
    unfold: Unfold | None = None,
    field: Field = nobody,
    header_line: int = 0,
    delimiter: str = "",
) -> Table:
    """Read a table file; the suffix says which kind, delimiter, header and encoding are found out.

    Args:
        path: a file with one of `SUFFIXES`. Lines are counted from 1; of Parquet and BSON files the rows.
        name: what messages call the file; its own name by default.
        unfold: turns one object of a JSON or BSON file into the records that it stands for.
        field: says which field a column name stands for; the header and the records of a JSON file are found by it.
        header_line: the line of the header in a CSV, TSV or XLSX file; 0 finds it.
        delimiter: between the cells of a CSV or TSV file; empty finds it.

    Raises:
        DataError: the file cannot be read at all, or has no header.
        MissingExtra: XLSX, Parquet or BSON without its library.
    """
    name, suffix = name or path.name, path.suffix.lower()
    try:
        if suffix in {".csv", ".tsv", ".txt"}:
            return _delimited(path, name, field, header_line, delimiter)
        if suffix in {".xlsx", ".xlsm"}:
            return _sheet(path, name, field, header_line)
        if suffix == ".parquet":
            return _parquet(path, name)
        if suffix not in SUFFIXES:
            raise DataError(f"{name}: photodesk reads {', '.join(SUFFIXES)} files; save the articles as one of these")
        faults: list[Fault] = []
        found, how = (
            (_bson(path, name, faults), "") if suffix == ".bson" else json_reader.read(path, name, faults, field)
        )
        return _objects(name, found, faults, path, unfold, how)
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


def _delimited(path: Path, name: str, field: Field, header_line: int, delimiter: str) -> Table:
    with open_regular(path) as stream:
        text, faults = csv_reader.decode(stream.read(), name)
    if "\r" in text:
        what = f"lines end in {'CRLF' if chr(13) + chr(10) in text else 'CR'}"
        faults.append(Fault("table-line-ends", name, what, "repaired"))
    tabs = path.suffix.lower() != ".csv"
    how = csv_reader.form(text, tabs=tabs, delimiter=delimiter, header_line=header_line, field=field)
    if how is None:
        raise _no_header(name, header_line)
    said = []
    if how.delimiter != ("\t" if tabs else ","):
        said.append(f"delimiter {how.delimiter!r}" if how.delimiter else "one column")
    if how.line > 1:
        said.append(f"header in line {how.line}")
    if how.escaped:
        said.append(r"quotes written \"")
    return _table(name, path, csv_reader.records(text, how), faults, said)


def _sheet(path: Path, name: str, field: Field, header_line: int) -> Table:
    with xlsx_reader.sheet(path, name, header_line=header_line, field=field) as (found, said):
        head = next(found)
        width = len(head.cells)
        even = (replace(row, cells=(*row.cells, *[""] * width)[:width]) for row in found)
        how = [said] * bool(said) + [f"header in row {head.line}"] * (head.line > 1)
        return _table(name, path, itertools.chain([head], even), [], how)


def _no_header(name: str, line: int) -> DataError:
    if line:
        return DataError(f"{name} has nothing in line {line}; name the line of its header with --header-line")
    return DataError(f"{name} is empty; a table needs a header line with the names of its columns")


def _table(name: str, path: Path, found: Iterator[csv_reader.Record], faults: list[Fault], said: list[str]) -> Table:
    """A table from records, of which the first that is not blank is the header."""
    head = next((record for record in found if any(map(str.strip, record.cells))), None)
    if head is None:
        raise _no_header(name, 0)
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
    return Table(name, path, header, tuple(rows), tuple(faults), ", ".join(said))


def _objects(
    name: str, found: Iterable[tuple[int, Any]], faults: list[Fault], path: Path, unfold: Unfold | None, how: str = ""
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
    return Table(name, path, tuple(columns), rows, tuple(faults), how)


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
