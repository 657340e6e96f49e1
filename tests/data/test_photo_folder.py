"""Names of pictures as tables, runs and people write them: found by one order, and never by a guess among several."""

import os
import unicodedata
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from data.test_datasets import picture
from photodesk.cli import commands
from photodesk.data import checks, datasets
from photodesk.data.photo_folder import Match, Names, several, suggestion
from photodesk.text_repair import shown, unfit
from photodesk.types import Pair

NFC, NFD = "K\u00f6ln.jpg", "Ko\u0308ln.jpg"


def read(folder: Path, rows: str, *files: str | bytes, head: str = "id,title,image"):
    for seed, name in enumerate(files):
        path = Path(os.fsdecode(os.fsencode(folder) + b"/pics/" + os.fsencode(name)))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(seed))
    (folder / "desk.csv").write_text(f"{head}\n{rows}\n", "utf-8")
    return datasets.read(folder / "desk.csv", photos=folder / "pics")


def pairs(data) -> list[tuple[str, str]]:
    return [(pair.article, pair.photo) for pair in data.pairs]


# --- the order


@pytest.mark.parametrize(
    ("wanted", "names", "found"),
    [
        ("p.jpg", ["x/p.jpg", "p.jpg"], Match("p.jpg")),  # that very path
        ("/srv/a/x/p.jpg", ["x/p.jpg", "y/p.jpg"], Match("x/p.jpg")),  # the longest end
        ("C:\\photos\\y\\p.jpg", ["x/p.jpg", "y/p.jpg"], Match("y/p.jpg")),
        ("x/p.jpg", ["2020/x/p.jpg", "2020/y/p.jpg"], Match("2020/x/p.jpg")),
        ("./x//p.jpg", ["x/p.jpg"], Match("x/p.jpg")),
        ("p.jpg", ["x/P.jpg", "y/p.jpg"], Match("y/p.jpg")),  # exact before folded
        ("p", ["P.jpg", "p.png"], Match("p.png", stem=True)),
        ("x/p", ["x/p.jpg", "y/p.jpg"], Match("x/p.jpg", stem=True)),
        ("p", ["p.jpg", "p.png"], Match("p.jpg", stem=True)),  # one picture in two formats
        (NFC, [NFD, "k\u00f6ln.jpg"], Match(NFD)),  # NFC before folded
        (NFD, [NFC], Match(NFC)),
        ("AB1", ["ab1.jpg"], Match("ab1.jpg", stem=True, folded=True)),
        ("STRASSE.JPG", ["stra\u00dfe.jpg"], Match("stra\u00dfe.jpg", folded=True)),
        ("https://cdn.example.com/x/1.jpg?w=300", ["x/1.jpg", "y/1.jpg"], Match("x/1.jpg")),
        ("https://example.com/K%C3%B6ln.jpg#top", [NFC], Match(NFC)),
        ("https://example.com/", ["1.jpg"], Match()),
        ("p.jpg", ["x/p.jpg", "y/p.jpg"], Match("", ("x/p.jpg", "y/p.jpg"))),
        ("z/p", ["x/p.jpg", "y/p.jpg"], Match("", ("x/p.jpg", "y/p.jpg"), stem=True)),
        ("AB1", ["aB1.jpg", "Ab1.jpg"], Match("", ("aB1.jpg", "Ab1.jpg"), stem=True, folded=True)),
        ("..", ["a.jpg"], Match()),
        ("", ["a.jpg"], Match()),
    ],
)
def test_names_are_found_in_one_order(wanted, names, found):
    assert Names(names).find(wanted) == found


parts = st.text(st.sampled_from("abAB\u00e4\u00c4u\u0308.1"), min_size=1, max_size=4).map(lambda part: f"{part}x")
paths = st.lists(parts, min_size=1, max_size=3).map("/".join)


@given(st.lists(paths.map(lambda path: f"{path}.jpg"), max_size=12, unique=True), paths, st.sampled_from(["", ".jpg"]))
@settings(max_examples=400, deadline=None)
def test_finding_agrees_with_a_naive_search(names, wanted, suffix):
    wanted += suffix

    def common(one: str, other: str) -> int:
        ours, theirs = one.split("/")[::-1], other.split("/")[::-1]
        equal = [a == b for a, b in zip(ours, theirs, strict=False)]
        return [*equal, False].index(False)

    def naive():
        if wanted in names:
            return {wanted}
        for spell in (str, lambda text: unicodedata.normalize("NFC", text), lambda text: _folded(text)):
            for stem in (False, True):
                own = {name: spell(name.removesuffix(".jpg") if stem else name) for name in names}
                if whole := {name for name in names if own[name] == spell(wanted)}:
                    return whole
                best = max((common(path, spell(wanted)) for path in own.values()), default=0)
                if best:
                    return {name for name in names if common(own[name], spell(wanted)) == best}
        return set()

    found = Names(names).find(wanted)
    assert {found.name} - {""} | set(found.among) == naive()


def _folded(text: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())


# --- in a data set


def test_ids_that_differ_in_case_are_different_pictures(tmp_path):
    files = ("aB1.jpg", "Ab1.jpg", "ab1.jpg")
    data = read(tmp_path, "1,Flut,aB1\n2,Wahl,Ab1\n3,Messe,ab1\n4,Markt,AB1", *files)
    assert pairs(data) == [("1", "aB1"), ("2", "Ab1"), ("3", "ab1"), ("4", "AB1")]
    assert [photo.id for photo in data.photos] == ["Ab1", "aB1", "ab1"]
    assert [(fault.where, fault.what) for fault in data.faults] == [
        ("desk.csv:5", "several pictures have this name: AB1 may be Ab1.jpg, aB1.jpg, ab1.jpg")
    ]
    assert data.faults[0].advice


def test_a_picture_in_another_case_is_found_and_said(tmp_path):
    data = read(tmp_path, "1,Flut,A.JPG", "a.jpg")
    assert data.pairs == (Pair("1", "a.jpg"),)
    assert [str(fault) for fault in data.faults] == [
        "desk.csv:2: a picture's name differs in case: A.JPG is a.jpg (repaired)"
    ]


def test_stems_that_are_alike_in_two_folders_keep_their_folders(tmp_path):
    data = read(tmp_path, "1,Flut,/srv/x/p\n2,Wahl,y/p\n3,Messe,q", "x/p.jpg", "y/p.jpg", "y/q.jpg")
    assert pairs(data) == [("1", "x/p"), ("2", "y/p"), ("3", "q")]
    assert [photo.id for photo in data.photos] == ["q", "x/p", "y/p"]
    assert data.faults == ()


def test_umlauts_in_either_form_are_one_name(tmp_path):
    assert pairs(read(tmp_path, f"1,Flut,{NFC}", NFD)) == [("1", NFD)]


def test_urls_name_pictures_by_their_paths(tmp_path):
    rows = "1,A,https://cdn.example.com/x/1.jpg?w=300\n2,B,2.jpg\n3,C,https://a.example/y/9.jpg\n4,D,https://a.example/z/9.jpg"
    data = read(tmp_path, rows, "1.jpg", "2.jpg")
    assert pairs(data)[:2] == [("1", "1.jpg"), ("2", "2.jpg")]
    assert pairs(data)[2:] == [("3", "https://a.example/y/9.jpg"), ("4", "https://a.example/z/9.jpg")]
    missing = {item.file: item.url for item in data.listed if item.file}
    assert missing["a.example_y_9.jpg"] == "https://a.example/y/9.jpg"  # fetch keeps the two apart
    assert len(missing) == 3
    for seed, name in enumerate(("a.example_y_9.jpg", "a.example_z_9.jpg")):  # and finds them when they are there
        (tmp_path / "pics" / name).write_bytes(picture(7 + seed))
    again = datasets.read(tmp_path / "desk.csv", photos=tmp_path / "pics")
    assert pairs(again)[2:] == [("3", "a.example_y_9.jpg"), ("4", "a.example_z_9.jpg")]
    assert again.faults == ()


def test_a_table_with_nothing_but_urls_names_pictures(tmp_path):
    data = read(tmp_path, "1,A,https://a.example/1.jpg", "1.jpg", head="id,title,image_url")
    assert pairs(data) == [("1", "1.jpg")]


@pytest.mark.parametrize(
    ("cell", "pictures"),
    [
        ("a.jpg; b.jpg", ["a.jpg", "b.jpg"]),
        ("a|b", ["a", "b"]),
        ("a.jpg\nc.jpg", ["a.jpg", "c.jpg"]),
        ("a, b", ["a", "b"]),  # both are there
        ("y.jpg, z.jpg", ["y.jpg", "z.jpg"]),  # both end like pictures
        ("y, z", ["y, z"]),  # nothing proves it
        ("Rom, 2020.jpg", ["Rom, 2020.jpg"]),  # one file has that name
        ("Rom, 2020.jpg; a.jpg", ["Rom, 2020.jpg", "a.jpg"]),
        ("d/a.jpg; d/b.jpg", ["d/a.jpg", "d/b.jpg"]),
        ("https://h/a.jpg?x=1;2,https://h/b.jpg", ["https://h/a.jpg?x=1;2", "https://h/b.jpg"]),
        ("https://h/a.jpg\nhttps://h/b.jpg", ["https://h/a.jpg", "https://h/b.jpg"]),
        ("a.jpg; a.jpg;", ["a.jpg"]),
        ("", []),
    ],
)
def test_several_pictures_in_a_cell(cell, pictures):
    assert several(cell, Names(["a.jpg", "b.jpg", "c.jpg", "Rom, 2020.jpg"])) == pictures


def test_an_article_gets_every_picture_of_its_cell(tmp_path):
    data = read(tmp_path, '1,Flut,a.jpg; b.jpg\n2,Wahl,"b.jpg\nc.jpg"\n3,Messe,c.jpg', "a.jpg", "b.jpg", "c.jpg")
    assert pairs(data) == [("1", "a.jpg"), ("1", "b.jpg"), ("2", "b.jpg"), ("2", "c.jpg"), ("3", "c.jpg")]
    assert data.faults == ()


def test_ids_and_files_of_one_row_stay_together(tmp_path):
    data = read(tmp_path, "1,Flut,7|8,a.jpg|b.jpg", "a.jpg", "b.jpg", head="id,title,image_id,image_file")
    assert [(photo.id, photo.path.name) for photo in data.photos] == [("7", "a.jpg"), ("8", "b.jpg")]
    assert pairs(data) == [("1", "7"), ("1", "8")]


# --- names that nothing can hold

BAD = {
    b"l\xe4nder.jpg": "is not UTF-8: l\\xe4nder.jpg",
    b"two\nlines.jpg": "holds a control character: two\\nlines.jpg",
}


@pytest.mark.parametrize("name", BAD)
def test_names_that_no_run_can_hold_are_named_and_left_out(tmp_path, name):
    data = read(tmp_path, "1,Flut,ok", "ok.jpg", name)
    assert [photo.id for photo in data.photos] == ["ok"]
    (fault,) = data.faults
    assert str(fault).endswith(f"the name of the file {BAD[name]} (left out); rename the file")
    assert str(fault).isprintable()
    checks.export(data.faults, tmp_path / "faults.csv")
    assert len((tmp_path / "faults.csv").read_text("utf-8").splitlines()) == 2
    result = CliRunner().invoke(
        commands, ["check", "--articles", str(tmp_path / "desk.csv"), "--photos", str(tmp_path / "pics"), "--all"]
    )
    assert result.exit_code == 1
    assert BAD[name] in result.stdout


@given(st.text(st.characters(), max_size=20))
@settings(max_examples=300, deadline=None)
def test_what_is_shown_steers_no_terminal(text):
    once = shown(text)
    assert not any(unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") for character in once)
    assert not set(once) & set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
    once.encode("utf-8")
    assert shown(once) == once
    assert text.isprintable() is False or once == text


def test_what_is_shown():
    assert shown("a\x1b[2J\tb\n\u202ec\u2028") == "a\\x1b[2J\\tb\\n\\u202ec\\u2028"
    assert shown(Path(os.fsdecode(b"l\xe4nder"))) == "l\\xe4nder"
    assert (
        shown("\u2009\u200d K\u00f6ln \U0001f469\u200d\U0001f680")
        == "\u2009\u200d K\u00f6ln \U0001f469\u200d\U0001f680"
    )
    assert unfit("K\u00f6ln 1, \u201ealt\u201c.jpg") == ""


# --- what was meant


@pytest.mark.parametrize(
    ("wanted", "meant"),
    [("b.jpg", "b"), ("B", "b"), ("/x/b.png", "b"), ("A.JPEG", "a.jpg"), ("c", ""), ("/", ""), ("", "")],
)
def test_ids_of_others_suggest_ours(wanted, meant):
    assert suggestion(wanted, Names(["a.jpg", "b", ".", ".."])) == meant
