"""JSON that other programs wrote: bytes → objects with the line each starts on, whatever they are wrapped in.

One object a line, an array, one object after the other; one object that holds all the others: a list in an envelope, or
a table as pandas writes it. One damaged object costs no other.
"""

from __future__ import annotations

import bisect
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from photodesk.data import csv_reader
from photodesk.data.csv_reader import LINE_END, Field
from photodesk.files import open_regular
from photodesk.types import Fault

ENVELOPES = (
    *("articles", "article", "items", "entries", "posts", "stories", "news", "documents", "docs", "data", "records"),
    *("rows", "results", "hits", "values", "list", "feed", "content", "artikel", "beitraege", "meldungen"),
)
"""Names of the list in an object that has a title of its own, as a feed has."""
INNER = ("_source", "attributes", "fields", "doc", "node", "article", "data")
"""Names of the object within each record that holds its fields, as Elasticsearch and JSON:API have it."""
DEPTH = 5
"""How deep an envelope's list may lie."""

_GAP = re.compile(r"(?:[\s,]|//[^\r\n]*|/\*.*?(?:\*/|\Z)|#[^\r\n]*)*+", re.DOTALL)
_ONWARD = re.compile(r"(?:\r\n|\n|\r)[ \t,]*+(?=\{)")
# what is not closed reaches to the end, so that no text is searched twice
_LOOSE = re.compile(r'"(?:[^"\\]|\\.)*+(?:"|\Z)|//[^\r\n]*|/\*.*?(?:\*/|\Z)|,(?=\s*+[}\]])', re.DOTALL)
_COMMENT = re.compile(r"\s*(?://|#)")
_DECODER = json.JSONDecoder(strict=False)
_BROKEN = (ValueError, RecursionError)

Found = tuple[int, Any]


def read(path: Path, name: str, faults: list[Fault], field: Field) -> tuple[Iterator[Found], str]:
    """(line, value) of each record, and how it was found if that was a guess; lines are streamed, so that their file
    may be larger than the memory.

    Args:
        path: the file.
        name: what messages call it.
        faults: what is wrong is added here, also while the records are taken.
        field: says which field a name stands for.
    """
    with open_regular(path) as stream:
        if not csv_reader.wide(stream.read(4096)) and _one_a_line(path, name):
            return _streamed(path, name, faults), ""
    with open_regular(path) as stream:
        text, found = csv_reader.decode(stream.read(), name)
    faults += found
    whole = text.lstrip().startswith("[")
    if not whole and not _begins_whole(text):
        return _parsed(enumerate(LINE_END.split(text), start=1), name, faults), ""
    values = list(_values(text, text.index("[") + 1 if whole else 0, name, faults))
    if len(values) == 1 and isinstance(values[0][1], dict):
        records, how = _records(values[0][1], field)
        return (enumerate(records, start=1) if how else iter(values)), how
    if values and all(isinstance(value, list) for _, value in values):
        head = [str(cell) for cell in values[0][1]]
        if any(map(field, head)):
            return ((line, dict(zip(head, row, strict=False))) for line, row in values[1:]), "an array of rows"
    return iter(values), ""


def _one_a_line(path: Path, name: str) -> bool:
    """Whether a file holds one value a line: its first is whole, and another follows."""
    with open_regular(path) as stream:
        lines = (line for _, line in _lines(stream, name, []) if line.strip() and not _COMMENT.match(line))
        first = next(lines, "")
        if first.lstrip().startswith("["):
            return False
        try:
            json.loads(first.strip().rstrip(","), strict=False)
        except _BROKEN:
            return False
        return next(lines, None) is not None


def _begins_whole(text: str) -> bool:
    """Whether a text begins with a whole value, over one line or several."""
    try:
        _Values(text).decode(_end_of_gap(text, 0))
    except _BROKEN:
        return False
    return True


def _streamed(path: Path, name: str, faults: list[Fault]) -> Iterator[Found]:
    with open_regular(path) as stream:
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


def _parsed(lines: Iterable[tuple[int, str]], name: str, faults: list[Fault]) -> Iterator[Found]:
    for number, line in lines:
        if not line.strip():
            continue
        if _COMMENT.match(line):
            faults.append(Fault("row-comment", f"{name}:{number}", "a comment between records", "left out"))
            continue
        try:
            yield number, json.loads(line, strict=False)
        except _BROKEN as error:
            loose = _loosened(line).strip().rstrip(",")
            try:
                value = json.loads(loose, strict=False)
            except _BROKEN:
                faults.append(_not_json(f"{name}:{number}", error, "repair or delete this line"))
            else:
                faults.append(_loose(f"{name}:{number}"))
                yield number, value


def _not_json(where: str, error: Exception, advice: str) -> Fault:
    reason = "nested too deeply" if isinstance(error, RecursionError) else getattr(error, "msg", str(error))
    at = f" at character {error.pos + 1}" if isinstance(error, json.JSONDecodeError) else ""
    return Fault("row-not-json", where, f"not JSON: {reason}{at}", "left out", advice)


def _loose(where: str) -> Fault:
    return Fault("row-loose-json", where, "commas or comments that JSON does not have", "repaired")


def _loosened(text: str) -> str:
    """The text without comments and trailing commas; all else stays in its place."""
    return _LOOSE.sub(lambda match: match[0] if match[0][0] == '"' else re.sub(r"[^\r\n]", " ", match[0]), text)


def _end_of_gap(text: str, at: int) -> int:
    match = _GAP.match(text, at)
    return match.end() if match else at


class _Values:
    """Decodes values of a text; where that fails, of the text without comments and trailing commas."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.loose: str | None = None

    def decode(self, at: int) -> tuple[Any, int, bool]:
        """The value at `at`, where it ends, and whether it had to be loosened."""
        try:
            return *_DECODER.raw_decode(self.text, at), False
        except _BROKEN:
            if self.loose is None:
                self.loose = _loosened(self.text)
            if self.loose == self.text:
                raise
            return *_DECODER.raw_decode(self.loose, at), True


def _values(text: str, at: int, name: str, faults: list[Fault]) -> Iterator[Found]:
    """Values one after the other, to the end or a closing bracket; after a damaged one they go on at the next line that
    begins with `{`."""
    starts = [0, *(m.end() for m in LINE_END.finditer(text))]
    values = _Values(text)
    while True:
        at = _end_of_gap(text, at)
        if at >= len(text) or text[at] == "]":
            return
        line = bisect.bisect_right(starts, at)
        try:
            value, at, loose = values.decode(at)
        except _BROKEN as error:
            faults.append(_not_json(f"{name}:{line}", error, "repair or delete this element"))
            found = _ONWARD.search(text, at)
            if found is None:
                return
            at = found.end()
        else:
            if loose:
                faults.append(_loose(f"{name}:{line}"))
            yield line, value


def _records(value: dict[str, Any], field: Field) -> tuple[list[Any], str]:
    """The records that one object holds, and what it was taken for; empty if it is a record itself."""
    names, cells = list(value), list(value.values())
    if isinstance(columns := value.get("columns"), list) and _all(list, value.get("data")):
        rows = [dict(zip(map(str, columns), row, strict=False)) for row in value["data"]]
        return _indexed(rows, value.get("index"), field), "a table of pandas, split"
    if _all(list, cells) and len(set(map(len, cells))) == 1 and not all(_all(dict, cell) for cell in cells):
        rows = [dict(zip(names, row, strict=True)) for row in zip(*cells, strict=True)]
        return rows, "lists, one a column"
    if _all(dict, cells):
        if any(field(name) == "title" and not _all(dict, list(value[name].values())) for name in names):
            keys = list(dict.fromkeys(key for cell in cells for key in cell))
            return _indexed([{n: value[n].get(key) for n in names} for key in keys], keys, field), (
                "a table of pandas, by columns"
            )
        if 2 * sum(_titled(cell, field) for cell in cells) >= len(cells):
            return _indexed(cells, names, field), "objects by their keys"
    titled, called = (any(field(name) == kind for name in names) for kind in ("title", "id"))
    if titled and called:
        return [value], ""
    found = [
        (2 * sum(_titled(one, field) for one in records) >= len(records), len(records), place)
        for place, records in _lists(value, (), 0)
        if not titled or place[-1].casefold() in ENVELOPES
    ]
    sure, _, place = max(found, default=(False, 0, ()))
    if not place or (not sure and (titled or called)):
        return [value], ""
    records = value
    for step in place:
        records = records[step]
    return [_opened(record, field) for record in records], f"the list {'.'.join(place)}"


def _all(kind: type, values: object) -> bool:
    return isinstance(values, list) and bool(values) and all(isinstance(one, kind) for one in values)


def _titled(record: object, field: Field) -> bool:
    return isinstance(record, dict) and any(field(name) == "title" for name in _opened(record, field))


def _opened(record: Any, field: Field) -> Any:
    """A record with the fields of the object in it that holds them, if it has none itself."""
    if not isinstance(record, dict) or any(field(name) == "title" for name in record):
        return record
    return record | next((inner for name in INNER if isinstance(inner := record.get(name), dict)), {})


def _lists(value: dict[str, Any], place: tuple[str, ...], depth: int) -> Iterator[tuple[tuple[str, ...], list[Any]]]:
    for name, inner in value.items():
        if _all(dict, inner):
            yield (*place, name), inner
        elif isinstance(inner, dict) and depth < DEPTH:
            yield from _lists(inner, (*place, name), depth + 1)


def _indexed(records: list[Any], index: object, field: Field) -> list[Any]:
    """Records with what they are called by as their id, where they have none and it is more than a count."""
    keys = list(map(str, index)) if isinstance(index, list) else []
    if len(keys) != len(records) or keys == list(map(str, range(len(keys)))):
        return records
    if any(field(name) == "id" for record in records for name in record):
        return records
    return [{"id": key} | record for key, record in zip(keys, records, strict=True)]
