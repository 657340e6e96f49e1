"""Table files of strangers: rows come back as they were written, whatever stands beside them, with the line they start
on."""

import csv
import datetime
import io
import json
import re
import string
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from photodesk.data import csv_reader, editions, tables, xlsx_reader
from photodesk.errors import DataError, MissingExtra

HEADER = ("id", "title", "tags", "url", "photo", "note")


def table(folder: Path, data: str | bytes, name: str = "a.csv") -> tables.Table:
    path = folder / name
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return tables.read(path)


def rows(found: tables.Table) -> list[tuple[int, tuple[str, ...]]]:
    return [(row.line, row.cells) for row in found.rows]


def faults(found: tables.Table) -> list[tuple[str, str, str]]:
    return [(f.where.partition(":")[2], f.what, f.fate) for f in found.faults]


# --- what was written well comes back, and agrees with Python's own reader

cells = st.text(st.sampled_from("ab ,;\t|\"\n\r'ä=é0"), max_size=8)


@given(
    st.lists(st.lists(cells, min_size=6, max_size=6), max_size=12),
    st.sampled_from(csv_reader.DELIMITERS),
    st.sampled_from(["\n", "\r\n", "\r"]),
)
@settings(max_examples=300, deadline=None)
def test_quoted_tables_come_back(body: list[list[str]], delimiter: str, end: str) -> None:
    stream = io.StringIO()
    csv.writer(stream, delimiter=delimiter, lineterminator=end, quoting=csv.QUOTE_ALL).writerows([HEADER, *body])
    text = stream.getvalue()
    for row in body:  # one row of several lines, each of which is a whole row too: no reader can tell what was meant
        lines = [
            line for line in csv_reader.LINE_END.split(delimiter.join(f'"{cell}"' for cell in row)) if line.strip()
        ]
        assume(len(lines) == 1 or sum(line.count(delimiter) == 5 for line in lines) < 0.9 * len(lines))
    found = list(csv_reader.records(text))
    assert [record.cells for record in found[1:]] == [tuple(row) for row in body]
    assert not any(record.flaw for record in found)
    line, lines = 1, []
    for row in [HEADER, *body]:
        lines.append(line)
        line += 1 + len(csv_reader.LINE_END.findall("\0".join(row)))
    assert [record.line for record in found] == lines


@given(
    st.lists(
        st.lists(st.text(string.ascii_letters + " '-äß", max_size=8), min_size=6, max_size=6), min_size=1, max_size=8
    ),
    st.data(),
)
@settings(max_examples=200, deadline=None)
def test_rows_survive_one_bad_row_among_them(body: list[list[str]], data: st.DataObject) -> None:
    """Any single line may go in between the others: each of them is still read as it is, on its own line."""
    good = [f"r{i}" + ",".join(["", *row[1:]]) for i, row in enumerate(body)]
    bad = data.draw(st.text(st.sampled_from('x,"\t '), max_size=20))
    at = data.draw(st.integers(0, len(good)))
    lines = [",".join(HEADER), *good[:at], bad, *good[at:]]
    found = {record.line: record.cells for record in csv_reader.records("\n".join(lines))}
    for number, line in enumerate(lines, start=1):
        if number != at + 2:
            assert found[number] == tuple(line.split(","))


@given(
    st.lists(
        st.lists(st.text(string.ascii_letters + " ,;\n'\"äß", max_size=8), min_size=6, max_size=6),
        min_size=1,
        max_size=8,
    ),
    st.data(),
)
@settings(max_examples=200, deadline=None)
def test_quoted_rows_survive_one_bad_row_before_them(body: list[list[str]], data: st.DataObject) -> None:
    bad = data.draw(st.text(st.sampled_from('xy"\t '), max_size=12)) + data.draw(
        st.sampled_from(["", ',"', ',"stray', "x"])
    )
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n", quoting=csv.QUOTE_ALL).writerows([["id", *row] for row in body])
    found = list(csv_reader.records(f"a,b,c,d,e,f,g\n{bad}\n{stream.getvalue()}"))
    assert [list(record.cells[1:]) for record in found if record.cells[:1] == ("id",)] == body


def test_a_stray_quote_swallows_no_rows(tmp_path: Path) -> None:
    plain = [f"{i},Title {i},t,http://x/{i},p{i},n" for i in range(500)]
    plain[10] = '10,"Stray title,t,http://x/10,p10,n'
    plain[490] = '490,Title",t,http://x/490,p490,n'  # closes the quote of row 10 in good form
    found = table(tmp_path, "\n".join([",".join(HEADER), *plain]))
    assert [row.cells[0] for row in found.rows] == [str(i) for i in range(500)]
    assert found.rows[10].cells == ("10", "Stray title", "t", "http://x/10", "p10", "n")
    assert [(place, fate) for place, what, fate in faults(found) if "not closed" in what] == [("12", "repaired")]


def test_long_articles_with_commas_in_many_lines_stay_one_cell(tmp_path: Path) -> None:
    text = "\n".join(f"Line {i}, with one comma and a semicolon; and more" for i in range(3000))
    found = table(tmp_path, f'{",".join(HEADER)}\n1,"{text}",t,u,p,n\n2,B,t,u,p,n\n')
    assert rows(found) == [(2, ("1", text, "t", "u", "p", "n")), (3002, ("2", "B", "t", "u", "p", "n"))]
    assert found.faults == ()


def test_cells_larger_than_the_csv_module_takes(tmp_path: Path) -> None:
    text = "word " * 200_000
    found = table(tmp_path, f'id,title\n1,"{text}"\n2,{text}\n3,end\n')
    assert [len(row.cells[1]) for row in found.rows] == [len(text), len(text), 3]


def test_quotes_that_are_not_doubled(tmp_path: Path) -> None:
    found = table(tmp_path, 'id,title,tags\n1,"He said "no" to them, twice",x\n2,5" of snow,y\n3, "spaced, out" ,z\n')
    assert [row.cells for row in found.rows] == [
        ("1", 'He said "no" to them, twice', "x"),
        ("2", '5" of snow', "y"),
        ("3", "spaced, out", "z"),
    ]
    assert faults(found) == [("2", "quotes inside a quoted cell are not doubled", "repaired")]


def test_ragged_and_blank_rows_and_repeated_headers(tmp_path: Path) -> None:
    found = table(tmp_path, "\n\nid,title,tags\n1,A\n\n2,B,x,,\n3,C,x,extra\n,,\nid,title,tags\n4,D,x\n\n\n")
    assert [(row.line, row.cells, row.short) for row in found.rows] == [
        (4, ("1", "A", ""), True),
        (6, ("2", "B", "x"), False),
        (10, ("4", "D", "x"), False),
    ]
    assert sorted(faults(found)) == [
        ("5", "blank row", "left out"),
        ("7", "too many columns: 4, the header has 3", "left out"),
        ("8", "blank row", "left out"),
        ("9", "the header stands here again", "left out"),
    ]


@pytest.mark.parametrize("delimiter", csv_reader.DELIMITERS)
def test_delimiters_are_found_out(tmp_path: Path, delimiter: str) -> None:
    found = table(tmp_path, f'id{delimiter}"a, b; c"{delimiter}url\n1{delimiter}x{delimiter}y\n')
    assert (found.header, found.rows[0].cells) == (("id", "a, b; c", "url"), ("1", "x", "y"))


# --- how other programs write CSV

known = editions.known({"photo": "Aufnahme"})
PLAIN = ("id", "title", "image")


def articles(folder: Path, data: str | bytes, name: str = "a.csv", **how: object) -> list[tuple[str, ...]]:
    """Header and rows of a file that holds articles."""
    (folder / name).write_bytes(data.encode() if isinstance(data, str) else data)
    found = tables.read(folder / name, field=known, **how)
    return [found.header, *(row.cells for row in found.rows)]


@pytest.mark.parametrize(
    ("head", "guessed"),
    [
        ("id;title;image", "delimiter ';'"),
        ("sep=;\nid;title;image", "delimiter ';', header in line 2"),
        ('"sep=;"\r\nid;title;image', "delimiter ';', header in line 2"),
        ("Export vom 3.4.2024\n\nid;title;image", "delimiter ';', header in line 3"),
        ("Export, 3.4., alle Ressorts, Text;;\n;;\nid;title;image", "delimiter ';', header in line 3"),
        ('"Export\nder Redaktion";;\nid;title;image', "delimiter ';', header in line 3"),
        ("# 2024-04-03, 10:00\n# von Hand\nid;title;image", "delimiter ';', header in line 3"),
        ("Titel;Stand;2024\nid;title;image", "delimiter ';', header in line 2"),
    ],
)
def test_the_header_is_found_with_its_delimiter(tmp_path: Path, head: str, guessed: str) -> None:
    body = "1;Flut, Sturm, Regen;a\n2;Text;b\n"
    assert articles(tmp_path, f"{head}\n{body}") == [PLAIN, ("1", "Flut, Sturm, Regen", "a"), ("2", "Text", "b")]
    assert tables.read(tmp_path / "a.csv", field=known).guessed == guessed


def test_a_header_with_commas_in_its_names(tmp_path: Path) -> None:
    found = articles(tmp_path, "ID;Title;Note (de, en, fr, it)\n1;A;x\n")
    assert found == [("ID", "Title", "Note (de, en, fr, it)"), ("1", "A", "x")]


def test_a_column_alone_may_hold_commas(tmp_path: Path) -> None:
    titles = ["Flut, Sturm; Regen", "Text, Bild, Link", "title", "Wahl | Berlin", 'Er sagte "Ja"']
    found = articles(tmp_path, "\n".join(["Titel", *titles[:2], *titles[3:]]))
    assert found == [("Titel",), *((title,) for title in titles if title != "title")]


def test_header_and_delimiter_can_be_told(tmp_path: Path) -> None:
    text = "id,title\nnot,these\nNr^Kopf\n1^A, B\n"
    assert articles(tmp_path, text, header_line=3, delimiter="^") == [("Nr", "Kopf"), ("1", "A, B")]
    with pytest.raises(
        DataError, match=r"a\.csv has nothing in line 9; name the line of its header with --header-line"
    ):
        articles(tmp_path, text, header_line=9)


def test_a_name_that_the_user_gave_finds_the_header(tmp_path: Path) -> None:
    assert articles(tmp_path, "Liste;;\nNummer;Kopf;Aufnahme\n1;A;b\n")[0] == ("Nummer", "Kopf", "Aufnahme")


@pytest.mark.parametrize(
    "row", ['1,"Er sagte \\"Ja\\" zur Wahl",a', '1,Er sagte \\"Ja\\" zur Wahl,a', '1,"Er sagte ""Ja"" zur Wahl",a']
)
def test_quotes_are_escaped_or_doubled(tmp_path: Path, row: str) -> None:
    more = '2,"Er sagte \\"Ja\\", dann \\"\\"",b'
    assert articles(tmp_path, f"id,title,image\n{row}\n{more}\n")[1:] == [
        ("1", 'Er sagte "Ja" zur Wahl', "a"),
        ("2", 'Er sagte "Ja", dann ""', "b"),
    ]


def test_a_backslash_at_the_end_of_a_cell_escapes_nothing(tmp_path: Path) -> None:
    assert articles(tmp_path, 'id,title,image\n1,"C:\\dir\\",a\n2,"x",b\n')[1:] == [
        ("1", "C:\\dir\\", "a"),
        ("2", "x", "b"),
    ]


printed = st.text(st.sampled_from("ab ,;\t|\"\n'\\\u00e4=\u00e90"), max_size=8).map(lambda text: f"x{text}x")


@given(
    st.lists(st.tuples(printed, printed, printed), min_size=1, max_size=8),
    st.sampled_from(csv_reader.DELIMITERS),
    st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL, csv.QUOTE_NONNUMERIC]),
    st.booleans(),
    st.sampled_from(["", "sep", "title"]),
)
@settings(max_examples=400, deadline=None)
def test_tables_of_other_writers_come_back(
    body: list[tuple[str, ...]], delimiter: str, quoting: int, doubled: bool, above: str
) -> None:
    """What Python's csv writes in any dialect, below what Excel puts above it."""
    stream = io.StringIO()
    how = {} if doubled else {"doublequote": False, "escapechar": "\\"}
    csv.writer(stream, delimiter=delimiter, lineterminator="\r\n", quoting=quoting, **how).writerows([PLAIN, *body])
    text = stream.getvalue()
    assume(doubled == (not re.search(r'\\"[^"\r\n,;\t|]', text)))  # else the text does not tell which it is
    lines = [line for row in body for line in delimiter.join(row).split("\n")]
    assume(sum(line.count(delimiter) == 2 for line in lines) <= len(body))  # else rows may lie within a cell
    first = {"": "", "sep": f"sep={delimiter}\r\n", "title": f"Stand 3.4.{delimiter}{delimiter}\r\n\r\n"}[above]
    with tempfile.TemporaryDirectory() as folder:
        assert articles(Path(folder), first + text) == [PLAIN, *body]


# --- encodings

GERMAN = "id\ttitle\n1\tÜber „Köln“\n2\tStraße\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252"])
def test_encodings_are_found_out(tmp_path: Path, encoding: str) -> None:
    found = table(tmp_path, (GERMAN * 3).encode(encoding), "a.tsv")
    assert found.header == ("id", "title")
    assert [row.cells for row in found.rows[:2]] == [("1", "Über „Köln“"), ("2", "Straße")]
    named = {"utf-8": [], "utf-8-sig": ["byte order mark"], "cp1252": ["not UTF-8 but Windows-1252"]}.get(
        encoding, ["not UTF-8 but UTF-"]
    )
    assert [fault.what for fault in found.faults if "header" not in fault.what] == [
        what for what in (fault.what for fault in found.faults) if any(name in what for name in named)
    ]
    assert len([f for f in found.faults if "header" not in f.what]) == len(named)


def test_one_line_in_another_encoding_costs_only_itself(tmp_path: Path) -> None:
    lines = [f"{i},Größe {i}".encode() for i in range(40)]
    lines[17] = "17,Größe 17".encode("cp1252")
    found = table(tmp_path, b"id,title\n" + b"\n".join(lines))
    assert [row.cells[1] for row in found.rows] == [f"Größe {i}" for i in range(40)]
    assert faults(found) == [("19", "the line is not UTF-8 but Windows-1252", "repaired")]


def test_line_ends_and_nul_characters_are_named(tmp_path: Path) -> None:
    found = table(tmp_path, b"id,title\r\n1,A\x00B\r\n2,\x00\x00C\r\n")
    assert [row.cells for row in found.rows] == [("1", "AB"), ("2", "C")]
    assert faults(found) == [("2", "NUL characters in the file: 3", "repaired"), ("", "lines end in CRLF", "repaired")]
    assert rows(table(tmp_path, b"id,title\r1,A\r2,B\r")) == [(2, ("1", "A")), (3, ("2", "B"))]


def test_a_block_of_zeros_is_not_another_encoding(tmp_path: Path) -> None:
    found = table(tmp_path, b"id,title\n1,A\n" + bytes(5000) + b"\n2,B\n")
    assert [row.cells for row in found.rows] == [("1", "A"), ("2", "B")]


def test_only_real_line_ends_end_a_line(tmp_path: Path) -> None:
    text = "A\x0bB\x0cC\x1cD\x85E\u2028F"
    assert rows(table(tmp_path, f"id,title\n1,{text}\n2,G\n")) == [(2, ("1", text)), (3, ("2", "G"))]


# --- JSON, Parquet, BSON

RECORDS = [
    {"id": 1, "title": "Ä", "tags": ["x", "y"], "photo": None},
    {"id": 2.0, "title": "B", "meta": {"lang": "de"}},
]
FLAT = [("1", "Ä", "x, y", "", "", ""), ("2", "B", "", "", "", "de")]


def test_json_lines(tmp_path: Path) -> None:
    lines = [
        json.dumps(RECORDS[0], ensure_ascii=False),
        "",
        '{"id": 3, "title": "cut',
        "[1]",
        "[" * 100_000,
        "7",
        json.dumps(RECORDS[1]),
        "{}",
    ]
    found = table(tmp_path, "\ufeff" + "\n".join(lines), "a.jsonl")
    assert found.header == ("id", "title", "tags", "photo", "meta", "meta.lang")
    assert rows(found) == [(1, FLAT[0]), (7, FLAT[1])]
    assert [(place, what.partition(":")[0]) for place, what, _ in faults(found)] == [
        ("1", "the file starts with a byte order mark"),
        ("3", "not JSON"),
        ("4", "not an object"),
        ("5", "not JSON"),
        ("6", "not an object"),
        ("8", "blank row"),
    ]


@pytest.mark.parametrize("encoding", ["utf-16", "cp1252"])
def test_json_lines_in_other_encodings(tmp_path: Path, encoding: str) -> None:
    text = "".join(json.dumps({"id": i, "title": "Größe"}, ensure_ascii=False) + "\r\n" for i in range(3))
    found = table(tmp_path, text.encode(encoding), "a.jsonl")
    assert [row.cells for row in found.rows] == [(str(i), "Größe") for i in range(3)]
    assert all("not UTF-8 but" in what for _, what, _ in faults(found))


def test_a_json_array_goes_on_after_a_damaged_element(tmp_path: Path) -> None:
    text = (
        '[\n{"id": 1, "title": "A"},\n{"id": 2, "title": oops},\n  {"id": 3,\n "title": "C"}, {"id": 4, "title": '
        '"D"}\n]'
    )
    found = table(tmp_path, text, "a.json")
    assert rows(found) == [(2, ("1", "A")), (4, ("3", "C")), (5, ("4", "D"))]
    assert [(place, fate) for place, _, fate in faults(found)] == [("3", "left out")]


def test_numbers_dates_and_extended_json_become_text(tmp_path: Path) -> None:
    line = (
        '{"_id": {"$oid": "5c"}, "when": {"$date": {"$numberLong": "9"}}, "n": 1e300, "i": 12345678901234567890, '
        '"x": NaN, "s": "\\ud800\\u0000z"}'
    )
    assert rows(table(tmp_path, line, "a.jsonl"))[0][1] == ("5c", "9", "1e+300", "12345678901234567890", "", "?z")


# the same two articles, as pandas and others write them
TWO = [{"id": 1, "title": "Flut, Elbe", "image": "a"}, {"id": 2, "title": "Wahl", "image": None}]
TWO_ROWS = [("1", "Flut, Elbe", "a"), ("2", "Wahl", "")]
BY_COLUMN = {name: [one[name] for one in TWO] for name in PLAIN}
FORMS = {
    "records": TWO,
    "list": BY_COLUMN,
    "columns": {name: {"0": cells[0], "1": cells[1]} for name, cells in BY_COLUMN.items()},
    "index": {"0": TWO[0], "1": TWO[1]},
    "split": {"columns": list(PLAIN), "index": [0, 1], "data": [list(one.values()) for one in TWO]},
    "table": {
        "schema": {"fields": [{"name": name, "type": "string"} for name in PLAIN], "pandas_version": "1.4.0"},
        "data": [{"index": i} | one for i, one in enumerate(TWO)],
    },
    "rows": [list(PLAIN), *(list(one.values()) for one in TWO)],
    "envelope": {"status": "ok", "totalResults": 2, "articles": TWO, "sources": [{"name": "x"}] * 3},
    "nested": {"response": {"meta": {"hits": 2}, "docs": TWO}},
    "feed": {"version": "1.1", "title": "Our desk", "items": TWO},
    "hits": {"hits": {"total": 2, "hits": [{"_index": "n", "_source": one} for one in TWO]}},
    "attributes": {"data": [{"type": "article", "attributes": one} for one in TWO]},
    "in an array": [{"articles": TWO}],
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("suffix", ["json", "jsonl"])
def test_json_in_every_wrapping(tmp_path: Path, form: str, indent: int | None, suffix: str) -> None:
    found = tables.read(_written(tmp_path, json.dumps(FORMS[form], indent=indent), suffix), field=known)
    at = [found.header.index(name) for name in PLAIN]
    assert [tuple(row.cells[i] for i in at) for row in found.rows] == TWO_ROWS
    assert found.faults == ()
    assert bool(found.guessed) == (form != "records")


def _written(folder: Path, text: str, suffix: str = "json") -> Path:
    (folder / f"a.{suffix}").write_text(text, "utf-8")
    return folder / f"a.{suffix}"


@pytest.mark.parametrize("orient", ["records", "columns", "index", "split", "table"])
def test_json_of_pandas(tmp_path: Path, orient: str) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(TWO)
    for indent in (None, 1):
        found = tables.read(_written(tmp_path, frame.to_json(orient=orient, indent=indent)), field=known)
        assert [tuple(row.cells[found.header.index(name)] for name in PLAIN) for row in found.rows] == TWO_ROWS
    named = frame.set_index("id").to_json(orient=orient) if orient != "records" else frame.to_json(orient="records")
    found = tables.read(_written(tmp_path, named), field=known)
    assert [row.cells[found.header.index("id")] for row in found.rows] == ["1", "2"]


def test_an_article_is_no_envelope(tmp_path: Path) -> None:
    one = {"id": "1", "title": "Flut", "images": [{"title": "Bild", "url": "u"}] * 3, "tags": ["a", "b"]}
    for indent in (None, 2):
        found = tables.read(_written(tmp_path, json.dumps(one, indent=indent)), field=known)
        assert [row.cells[:2] for row in found.rows] == [("1", "Flut")]
    lines = "\n".join([json.dumps(one)] * 2)
    assert len(tables.read(_written(tmp_path, lines, "jsonl"), field=known).rows) == 2


def test_json_with_comments_and_commas_too_many(tmp_path: Path) -> None:
    text = '\ufeff// export\n{"id": 1, "title": "A // no, comment,}"},\n# two\n{"id": 2, "title": "B",}\n'
    found = tables.read(_written(tmp_path, text, "jsonl"), field=known)
    assert rows(found) == [(2, ("1", "A // no, comment,}")), (4, ("2", "B"))]
    assert [(place, fate) for place, what, fate in faults(found) if "comment between" in what] == [
        ("1", "left out"),
        ("3", "left out"),
    ]
    assert [place for place, what, _ in faults(found) if "does not have" in what] == ["2", "4"]
    text = '[\n/* old,] */ {"id": 1, "title": "A, ]",},\n{"id": 2, // two\n "title": "B"},\n]'
    found = tables.read(_written(tmp_path, text), field=known)
    assert rows(found) == [(2, ("1", "A, ]")), (3, ("2", "B"))]


def test_an_envelope_with_an_article_a_line(tmp_path: Path) -> None:
    text = '{"articles": [\n{"id": 1, "title": "A"},\n{"id": 2, "title": "B"}\n]}\n'
    assert rows(tables.read(_written(tmp_path, text), field=known)) == [(1, ("1", "A")), (2, ("2", "B"))]


def test_a_damaged_first_line_costs_only_itself(tmp_path: Path) -> None:
    text = '{"id": 1, "title": "cut\n{"id": 2, "title": "B"}\n{"id": 3, "title": "C"}\n'
    assert rows(tables.read(_written(tmp_path, text, "jsonl"), field=known)) == [(2, ("2", "B")), (3, ("3", "C"))]


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.sampled_from('ab/*#,}]\\"\n\u00e4'), max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(st.fixed_dictionaries({"id": st.text("ab1", min_size=1), "title": values}), min_size=2, max_size=5))
@settings(max_examples=200, deadline=None)
def test_every_way_to_write_records_gives_the_same(found: list[dict[str, object]]) -> None:
    plain = [json.dumps(one) for one in found]
    texts = {
        "lines": "\n".join(plain),
        "array": json.dumps(found),
        "indented": json.dumps(found, indent=3),
        "one after the other": "\n".join(json.dumps(one, indent=1) for one in found),
        "commas": "[" + ",\n".join(plain) + ",\n]",
        "comments": "# first\n" + "\n// next\n".join(plain),
        "envelope": json.dumps({"n": 1, "articles": found}, indent=1),
    }
    with tempfile.TemporaryDirectory() as folder:
        read = {}
        for name, text in texts.items():
            made = tables.read(_written(Path(folder), text, "jsonl"), field=known)
            read[name] = (made.header, [row.cells for row in made.rows])
    assert all(one == read["lines"] for one in read.values())


# --- XLSX


@pytest.fixture
def book():
    return pytest.importorskip("openpyxl").Workbook()


def saved(book: object, folder: Path) -> Path:
    book.save(folder / "a.xlsx")
    return folder / "a.xlsx"


def test_a_sheet_is_read_as_it_is_seen(tmp_path: Path, book) -> None:
    sheet = book.active
    sheet.append(["ID", "Titel", "Datum", "Bild", "Zahl"])
    sheet.append([7, "Flut", datetime.datetime(2024, 4, 3), "a.jpg", 0.1])
    sheet.append([8.0, "Zwei\nZeilen _x000D_", datetime.datetime(2024, 4, 3, 10, 5), None, True])
    sheet.append([9, 2024, datetime.time(10, 5), "b.jpg", 12345678901234567])
    sheet["A4"].number_format = "00000"
    sheet["A6"], sheet["B6"], sheet["H6"] = "x", "nach leerer Zeile", "Rand"
    found = tables.read(saved(book, tmp_path))
    assert found.header == ("ID", "Titel", "Datum", "Bild", "Zahl")
    assert [(row.line, row.cells[:4], row.short) for row in found.rows] == [
        (2, ("7", "Flut", "2024-04-03", "a.jpg"), False),
        (3, ("8", "Zwei\nZeilen", "2024-04-03 10:05:00", ""), False),
        (4, ("00009", "2024", "10:05:00", "b.jpg"), False),
        (6, ("x", "nach leerer Zeile", "", ""), False),
    ]
    assert [row.cells[4] for row in found.rows[:2]] == ["0.1", "TRUE"]
    assert found.faults == ()


def test_the_first_sheet_with_articles_is_read(tmp_path: Path, book) -> None:
    book.active.title = "Deckblatt"
    book.active.append(["Stand", "3.4."])
    hidden = book.create_sheet("Alt")
    hidden.sheet_state = "hidden"
    hidden.append(["id", "title", "image"])
    for name in ("Artikel", "Mehr"):
        sheet = book.create_sheet(name)
        sheet.append(["Liste der Redaktion"])
        sheet.append([])
        sheet.append(["Artikel-ID", "\u00dcberschrift", "Bilddatei"])
        sheet.append([1, f"aus {name}", "a.jpg"])
    path = saved(book, tmp_path)
    found = tables.read(path, field=known)
    assert found.rows[0].cells == ("1", "aus Artikel", "a.jpg")
    assert found.guessed == "sheet 'Artikel', header in row 3"
    assert tables.read(path, field=known, header_line=4).header == ("1", "aus Artikel", "a.jpg")


cell = st.one_of(st.integers(-(10**9), 10**9), st.text(st.sampled_from("ab ,;\n\u00e4\U0001f600"), max_size=6))


@given(st.lists(st.tuples(cell, cell, cell), min_size=1, max_size=6))
@settings(max_examples=40, deadline=None)
def test_sheets_come_back(body: list[tuple[object, ...]]) -> None:
    book = pytest.importorskip("openpyxl").Workbook()
    for row in [PLAIN, *body]:
        book.active.append(row)
    with tempfile.TemporaryDirectory() as folder:
        found = tables.read(saved(book, Path(folder)), field=known)
    seen = [tuple(str(value).strip() for value in row) for row in body]
    assert [row.cells for row in found.rows] == [row for row in seen if any(row)]


def repacked(path: Path, name: str, change) -> Path:
    """A workbook with one of its parts changed."""
    with zipfile.ZipFile(path) as old:
        parts = {part: old.read(part) for part in old.namelist()}
    parts[name] = change(parts.get(name, b""))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for part, data in parts.items():
            new.writestr(part, data)
    return path


SHEET = "xl/worksheets/sheet1.xml"


def test_bombs_are_refused_before_they_are_unpacked(tmp_path: Path, book, monkeypatch) -> None:
    book.active.append(["id", "title"])
    book.active.append([1, "A"])
    path = saved(book, tmp_path)
    entities = b'<!DOCTYPE x [<!ENTITY a "' + b"A" * 99 + b'">]>'
    for before in (b"", b"<!--" + b" " * 100_000 + b"-->"):
        body = repacked(saved(book, tmp_path), SHEET, lambda data, before=before: before + entities + data)
        with pytest.raises(DataError, match="it declares entities"):
            tables.read(body)
    monkeypatch.setattr(xlsx_reader, "UNPACKED", 4 << 20)
    repacked(saved(book, tmp_path), "xl/media/big.bin", lambda _: bytes(4 << 20))
    assert path.stat().st_size < 20_000
    with pytest.raises(DataError, match="unpacks into more than 4 MB"):
        tables.read(path)
    monkeypatch.setattr(xlsx_reader, "CELLS", 1000)
    far = repacked(saved(book, tmp_path), SHEET, lambda data: data.replace(b'r="2"', b'r="2000000000"'))
    with pytest.raises(DataError, match="has more than 1,000 cells"):
        tables.read(far)


def test_broken_workbooks_are_named(tmp_path: Path, book) -> None:
    book.active.append(["id", "title"])
    for part, change in ((SHEET, lambda data: data[:80]), ("xl/workbook.xml", lambda _: b"<x/>")):
        with pytest.raises(DataError, match=r"a\.xlsx (is not a readable XLSX file|is empty)"):
            tables.read(repacked(saved(book, tmp_path), part, change))
    (tmp_path / "a.xlsx").write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600))
    with pytest.raises(DataError, match="it has a password or is in Excel's old format; save it as XLSX or CSV"):
        tables.read(tmp_path / "a.xlsx")


def test_without_openpyxl_the_pip_command_is_named(tmp_path: Path, book, monkeypatch) -> None:
    book.active.append(["id", "title"])
    path = saved(book, tmp_path)
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(MissingExtra, match=r'pip install "photodesk\[xlsx\]"'):
        tables.read(path)


def test_parquet(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(
        pyarrow.Table.from_pylist([{"id": 1, "title": "Ä", "tags": ["x", "y"]}, {"id": 2, "title": None, "tags": []}]),
        tmp_path / "a.parquet",
    )
    found = tables.read(tmp_path / "a.parquet")
    assert rows(found) == [(1, ("1", "Ä", "x, y")), (2, ("2", "", ""))]
    with pytest.raises(DataError, match=r"b\.parquet is not a readable Parquet file"):
        table(tmp_path, b"PAR1 no PAR1", "b.parquet")


def documents(folder: Path, *damage: tuple[int, bytes]) -> tables.Table:
    bson = pytest.importorskip("bson")
    packed = [bson.encode({"_id": f"n{i}", "headline": {"main": f"Größe {i}"}, "n": i}) for i in range(6)]
    for index, replacement in damage:
        packed[index] = replacement + packed[index][len(replacement) :]
    return table(folder, b"".join(packed), "a.bson")


def test_bson(tmp_path: Path) -> None:
    assert rows(documents(tmp_path))[5] == (6, ("n5", "", "5", "Größe 5"))


@pytest.mark.parametrize("damage", [b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x07\0\0\0", b"\x30\0\0\0", b"\xff\0\0\0"])
def test_bson_goes_on_after_a_damaged_document(tmp_path: Path, damage: bytes) -> None:
    found = documents(tmp_path, (2, damage))
    assert [row.cells[0] for row in found.rows] == ["n0", "n1", "n3", "n4", "n5"]
    assert [fate for _, _, fate in faults(found)] == ["left out"]


def test_what_is_no_table_says_so(tmp_path: Path) -> None:
    for name, data, message in [
        ("a.csv", "", "is empty; a table needs a header line"),
        ("a.csv", "\n , \n", "is empty"),
        ("a.jsonl", "", "holds no records"),
        ("a.jsonl", "x\n", "holds no records; .*not JSON"),
        ("a.xlsx", "PK", "is no ZIP file"),
        ("a.ods", "PK", r"photodesk reads \.csv"),
    ]:
        with pytest.raises(DataError, match=f"{name[:2]}.* {message}|{message}"):
            table(tmp_path, data, name)
    with pytest.raises(DataError, match="cannot be read: No such file"):
        tables.read(tmp_path / "none.csv")


# --- hostile bytes

suffixes = st.sampled_from([".csv", ".tsv", ".txt", ".json", ".jsonl", ".bson", ".parquet"])
pieces = [
    b'"',
    b",",
    b"\t",
    b"\n",
    b"\r\n",
    b"\r",
    b"\0",
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    b"id,title",
    b"{",
    b"}",
    b"[",
    b"]",
    b'{"id":1}',
    b"\xe4",
    b"\xc3\xa4",
    b"=1+1",
]
soup = st.one_of(st.binary(max_size=300), st.lists(st.sampled_from(pieces), max_size=60).map(b"".join))


@given(soup, suffixes)
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_read_or_refused(data: bytes, suffix: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"x{suffix}")
        path.write_bytes(data)
        try:
            found = tables.read(path)
        except DataError as error:
            message = str(error)
        else:
            message = "x"
            assert all(len(row.cells) == len(found.header) for row in found.rows)
            assert [row.line for row in found.rows] == sorted(row.line for row in found.rows)
        assert message.startswith("x")


@pytest.mark.parametrize(
    "piece",
    [
        '"a"b,',
        '"',
        '""',
        '"a,b\n',
        ',"\n',
        '"a""b',
        '\n"',
        '"x"y\n',
        "\0",
        "[",
        '{"a":',
        '[{"a":1}x',
        "\n{",
        '"\r',
        'a,"b"c,"d\n',
    ],
)
@pytest.mark.parametrize("suffix", [".csv", ".json", ".jsonl"])
def test_no_pattern_makes_reading_hang(tmp_path: Path, piece: str, suffix: str) -> None:
    """What is worst for a backtracking reader, many thousand times over; a quadratic one would sit here for very
    long."""
    try:
        table(tmp_path, "id,title\n" + piece * (40_000 // len(piece)), f"x{suffix}")
    except DataError as error:
        message = str(error)
    else:
        message = "x"
    assert message.startswith("x")


# --- writing

DANGER = ["=1+1", "+1", "-1", "@A1", "\t=1", "\r=1", "\n=1", "＝1", '=HYPERLINK("http://x")']


def opened(path: Path) -> Sequence[list[str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.reader(stream))


def test_formulas_are_neutralised(tmp_path: Path) -> None:
    tables.write_csv(tmp_path / "out.csv", ["name", "n"], [(text, -1.5) for text in DANGER] + [("a=b", 2), ("", None)])
    body = opened(tmp_path / "out.csv")[1:]
    assert body == [[f"'{text}", "-1.5"] for text in DANGER] + [["a=b", "2"], ["", ""]]


@given(st.lists(st.text(max_size=12), min_size=2, max_size=2))
@settings(max_examples=200, deadline=None)
def test_no_text_comes_out_as_a_formula(row: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        clean = [cell.encode("utf-8", "replace").decode().replace("\0", "") for cell in row]
        tables.write_csv(Path(folder, "o.csv"), ["a", "b"], [clean])
        for written, cell in zip(opened(Path(folder, "o.csv"))[1], clean, strict=True):
            assert written.removeprefix("'") == cell.removeprefix("'")
            assert not written.startswith(("=", "+", "-", "@", "\t", "\r", "\n"))
