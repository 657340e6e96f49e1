"""CSV and TSV that strangers wrote: bytes → text → records with the line each starts on. One bad row costs no other."""

from __future__ import annotations

import bisect
import codecs
import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from photodesk.types import Fault

LINE_END = re.compile(r"\r\n|\n|\r")
DELIMITERS = "\t,;|"

_MAX_COLUMNS = 10_000
_BOMS: tuple[tuple[bytes, str], ...] = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


def wide(data: bytes) -> str:
    """The encoding of bytes that look like UTF-16 or UTF-32 by their mark or their zeros; else empty."""
    for mark, encoding in _BOMS[1:]:
        if data.startswith(mark):
            return encoding
    for first, encoding in ((1, "utf-16-le"), (0, "utf-16-be")):
        half, other = data[first::2], data[1 - first :: 2]
        if len(half) > 8 and half.count(0) > 0.4 * len(half) and other.count(0) < 0.1 * len(other):
            return encoding
    return ""


def decode(data: bytes, name: str) -> tuple[str, list[Fault]]:
    """Text of a file in UTF-8, UTF-16, UTF-32 or Windows-1252, also where single lines of it are in another encoding.

    A line that is not UTF-8 is read as Windows-1252, so that one bad byte costs nothing else. NUL characters are
    dropped.
    """
    faults: list[Fault] = []
    if encoding := wide(data):
        faults.append(Fault("table-not-utf8", name, f"the file is not UTF-8 but {encoding.upper()}", "repaired"))
        text = data.decode(encoding, "replace").removeprefix("\ufeff")
    else:
        if data.startswith(codecs.BOM_UTF8):
            faults.append(Fault("table-bom", f"{name}:1", "the file starts with a byte order mark", "repaired"))
            data = data[3:]
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError:
            text = _by_line(data, name, faults)
    if at := text.find("\0") + 1:
        line = len(LINE_END.findall(text, 0, at)) + 1
        what = f"NUL characters in the file: {text.count(chr(0))}"
        faults.append(Fault("table-nul", f"{name}:{line}", what, "repaired"))
        text = text.replace("\0", "")
    return text, faults


def _by_line(data: bytes, name: str, faults: list[Fault]) -> str:
    lines, foreign, utf8 = [], [], 0
    for number, line in enumerate(re.split(rb"(?<=\n)|(?<=\r)(?!\n)", data), start=1):
        try:
            lines.append(line.decode("utf-8"))
            utf8 += not line.isascii()
        except UnicodeDecodeError:
            lines.append(line.decode("cp1252", "replace"))
            foreign.append(number)
    if utf8 < len(foreign) / 10:
        what = f"the file is not UTF-8 but Windows-1252: {len(foreign)} lines differ, the first is line {foreign[0]}"
        faults.append(Fault("table-not-utf8", name, what, "repaired"))
    else:
        what = "the line is not UTF-8 but Windows-1252"
        faults += [Fault("row-not-utf8", f"{name}:{n}", what, "repaired") for n in foreign]
    return "".join(lines)


@dataclass(frozen=True, slots=True)
class Flaw:
    """What was repaired in a record, as a `Fault` says it."""

    code: str
    what: str
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Record:
    """One record: the line where it starts, its cells, and what was repaired in it."""

    line: int
    cells: tuple[str, ...]
    flaw: Flaw | None = None


def _unclosed(then: str) -> Flaw:
    return Flaw("row-quote-open", f"a quote is not closed: {then}", "check this row")


_DOUBLED = Flaw("row-quote-undoubled", "quotes inside a quoted cell are not doubled")


Field = Callable[[str], str]
"""Which field a column name stands for; empty for a name that nobody knows."""

HEADER_WITHIN = 50
"""The header is one of the first so many records that are not blank."""


@dataclass(frozen=True, slots=True)
class Form:
    """How a delimited text is written, as found out or as told.

    Args:
        delimiter: between cells; empty for a table of one column.
        line: where the header starts, from 1.
        width: how many columns the header has.
        escaped: quotes inside of cells are written `\\"`, as MySQL, Spark and Python's csv with an escapechar do.
    """

    delimiter: str
    line: int
    width: int
    escaped: bool = False


def form(
    text: str, *, tabs: bool = False, delimiter: str = "", header_line: int = 0, field: Field | None = None
) -> Form | None:
    """How a text is written; None if it holds nothing.

    Delimiter and header are chosen together, by the column names that they show: see `header`. Where no name is known,
    the delimiter is the one that the first line holds most of. `sep=;` in the first line names the delimiter, as Excel
    reads it. A header without any delimiter is a table of one column, whose lines may hold commas.

    Args:
        text: all of it; the first 100,000 characters decide.
        tabs: a tab wins where delimiters are equally good, else a comma.
        delimiter: the delimiter, if it is known.
        header_line: the line of the header, if it is known.
        field: says which column names are known.
    """
    if header_line:
        starts = [0, *(m.end() for m in LINE_END.finditer(text))]
        at = starts[header_line - 1] if header_line <= len(starts) else len(text)
        most, first = 1, header_line
    else:
        separator = _SEPARATOR.match(text)
        at, first = (separator.end(), 2) if separator else (0, 1)
        most = HEADER_WITHIN
        if separator and not delimiter and separator[1] in LINE_END.split(text[at : at + 100_000], maxsplit=1)[0]:
            delimiter = separator[1]
    part = text[at : at + 100_000]
    first_line = next((line for line in LINE_END.split(part) if line.strip()), "")
    found: list[tuple[tuple[int, int, int, int, bool], Form]] = []
    for mark in delimiter or DELIMITERS:
        splitter = _Splitter(part, Form(mark, 1, 1 + first_line.count(mark)))
        filled = (one for one in itertools.islice(splitter.records(), 10 * most) if any(map(_FILLED.search, one.cells)))
        chosen = header(tuple(itertools.islice(filled, most)), field)
        if chosen is not None:
            width = len(chosen.cells)
            how = Form(mark if width > 1 or delimiter else "", first - 1 + chosen.line, width)
            order = (*_sure(chosen, field), -how.line, width, mark == ("\t" if tabs else ","))
            found.append((order, how))
    if not found:
        return None
    best = max(found, key=lambda one: one[0])[1]
    return replace(best, escaped=bool(re.search(rf'\\"[^"{re.escape(best.delimiter)}\r\n]', text)))


def header(head: Sequence[Record], field: Field | None) -> Record | None:
    """Which of a table's first records names its columns.

    The first that holds nothing but known names, two of them or a title; else the one with most known names; else the
    first that is not a comment. None if there is none.
    """
    sure = [_sure(record, field) for record in head]
    if any(known for _, known in sure):
        return head[next((i for i, (all_known, _) in enumerate(sure) if all_known), sure.index(max(sure)))]
    return next((record for record in head if not _comment(record)), head[0] if head else None)


def _sure(record: Record, field: Field | None) -> tuple[int, int]:
    """Whether a record holds nothing but column names, and how many of its cells are known as such."""
    names = [name for cell in record.cells if (name := cell.strip())]
    fields = [known for name in names if (known := field(name))] if field else []
    return int(len(fields) == len(names) and (len(names) > 1 or fields == ["title"])), len(fields)


def known_names(record: Record, field: Field | None) -> int:
    """How many of a record's cells are known column names."""
    return _sure(record, field)[1]


def _comment(record: Record) -> bool:
    return record.cells[0].lstrip().startswith(("#", "//")) and not any(map(str.strip, record.cells[1:]))


def records(text: str, how: Form | None = None) -> Iterator[Record]:
    """Cut delimited text into records, from the header on.

    A quoted cell may span lines and hold doubled quotes (RFC 4180). A stray quote never swallows the rows after it: a
    cell whose quote is not closed before a delimiter or line end is read literally to the end of its line, and so is
    one that would swallow lines which plainly are rows.
    """
    how = how or form(text)
    return _Splitter(text, how).records(how.line) if how else iter(())


_FILLED = re.compile(rf"[^\s\"{DELIMITERS}]")
_SEPARATOR = re.compile(r'\s*"?sep=([^\r\n])"?[ \t,;|]*(?:\r\n|\n|\r)', re.IGNORECASE)
_ESCAPED = re.compile(r'\\(["\\])|""')


def _unescaped(cell: str) -> str:
    return _ESCAPED.sub(lambda match: match[1] or '"', cell)


class _Splitter:
    def __init__(self, text: str, how: Form) -> None:
        self.text = text
        self.delimiter = how.delimiter
        self.width = how.width
        self.starts = [0, *(m.end() for m in LINE_END.finditer(text))]
        mark = re.escape(how.delimiter)
        ends = rf" *+(?=[{mark}\r\n]|\Z)"
        self.quoted = re.compile(rf' *+"((?:[^"]++|"")*+)"{ends}')
        self.escaped = re.compile(rf' *+"((?:[^"\\]++|""|\\.)*+)"{ends}', re.DOTALL) if how.escaped else None
        self.loose = re.compile(rf' *+"([^\r\n]*?)"{ends}')
        self.plain = re.compile(rf"[^{mark}\r\n]*+")
        self.rest = re.compile(r"[^\r\n]*+")

    def records(self, line: int = 1) -> Iterator[Record]:
        at, size = self.starts[line - 1], len(self.text)
        while at < size:
            index = bisect.bisect_right(self.starts, at) - 1
            cells, end, flaw = self._record(at, size)
            stop = bisect.bisect_left(self.starts, end)
            if stop - index > 1 and self._swallowed(index, stop):
                cells, end, _ = self._record(at, self.starts[index + 1])
                flaw = _unclosed(f"it would swallow {stop - index - 1} more lines")
            yield Record(index + 1, tuple(cells), flaw)
            at = end

    def _record(self, at: int, limit: int) -> tuple[list[str], int, Flaw | None]:
        """Cells of the record at `at`, where the next one starts, and the flaw; looks no further than `limit`."""
        text, cells = self.text, list[str]()
        flaw: Flaw | None = None
        most = min(4 * self.width + 64, _MAX_COLUMNS)
        while True:
            if self.escaped and (match := self.escaped.match(text, at, limit)):
                cells.append(_unescaped(match[1]))
            elif match := self.quoted.match(text, at, limit):
                cells.append(match[1].replace('""', '"'))
            elif len(cells) >= most:
                match = self.rest.match(text, at, limit)
                cells.append(match[0] if match else "")
            else:
                match = self.plain.match(text, at, limit)
                cell = match[0] if match else ""
                if cell.lstrip(" ").startswith('"'):
                    if loose := self.loose.match(text, at, min(limit, at + 10_000)):
                        match, cell, flaw = loose, loose[1], _DOUBLED
                    else:
                        cell, flaw = cell.lstrip(" ")[1:], _unclosed("read to the end of its cell")
                cells.append(_unescaped(cell) if self.escaped else cell)
            at = match.end() if match else at
            if at < limit and text[at] == self.delimiter:
                at += 1
                continue
            if at < limit:
                at += 2 if text.startswith("\r\n", at) else 1
            return cells, at, flaw

    def _swallowed(self, first: int, stop: int) -> bool:
        """Whether the lines first … stop - 1 look like rows of their own: nearly all have just as many cells as the
        header.

        The fewer columns a table has, the more lines it takes to tell: prose has commas too.
        """
        bounds = [*self.starts[first:stop], self.starts[stop] if stop < len(self.starts) else len(self.text)]
        lines = [line for a, b in itertools.pairwise(bounds) if (line := self.text[a:b]).strip()]
        whole = sum(line.count(self.delimiter) + 1 == self.width for line in lines)
        return whole >= 0.9 * len(lines) and whole * (self.width - 1) >= 8
