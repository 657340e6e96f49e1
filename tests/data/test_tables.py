"""Table files of strangers: rows come back as they were written, whatever stands beside them, with the line they start
on."""

import csv
import io
import json
import string
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from photodesk.data import csv_reader, tables
from photodesk.errors import DataError

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
        ("a.xlsx", "PK", r"photodesk reads \.csv"),
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
