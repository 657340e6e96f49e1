"""Data sets of strangers: each row is read, repaired or named; ids and rows never shift."""

import io
import os
import tempfile
import zlib
from pathlib import Path

import ftfy  # noqa: F401 - brings the codec sloppy-windows-1252
import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from photodesk import text_repair
from photodesk.cli import commands
from photodesk.data import checks as checks_of
from photodesk.data import datasets, groups
from photodesk.errors import DataError, PhotodeskError, UsageError
from photodesk.types import Fault, Pair


def picture(seed: int = 0) -> bytes:
    """A small JPEG of coarse random blocks: no two seeds are near-duplicates."""
    stream = io.BytesIO()
    blocks = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    Image.fromarray(blocks).resize((64, 48), Image.Resampling.BICUBIC).save(stream, "JPEG", quality=90)
    return stream.getvalue()


def folder(
    tmp_path: Path, text: str | bytes, photos: tuple[str, ...] = ("a", "b", "c"), name: str = "newsarticles.csv"
) -> Path:
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    (tmp_path / "newsimages").mkdir(exist_ok=True)
    for seed, photo in enumerate(photos):
        (tmp_path / "newsimages" / f"{photo}.jpg").write_bytes(picture(seed))
    return tmp_path


HEAD = "article_id,article_url,article_title,article_tags,image_id,image_url\n"


LAYOUTS = (
    "article\taid\turl\timg\tiid\thashvalue\ttitle\ttext\timgFile\n",
    "# article\taid\turl\timg\tiid\thashvalue\ttitle\ttext\timgFile\tDate\n",
    "url\thashvalue\ttitle\ttext\ttitleEN\ttextEN\n",
    "articleID\taid\turl\t\t\thashvalue\ttitle\ttext\n",
    "img\tiid\timgFile\n",
)


def said(faults: tuple[Fault, ...]) -> list[str]:
    return [str(fault) for fault in faults]


def test_a_2025_folder_is_recognised(tmp_path: Path) -> None:
    text = (
        HEAD + "7,http://x/7,Storm hits coast,storm;coast|sea,b,http://x/b.jpg\n9,http://x/9,Calm,,a,http://x/a.jpg\n"
    )
    data = datasets.read(folder(tmp_path, text))
    assert data.edition == "NewsImages 2025"
    assert [(a.id, a.title, a.tags, a.url, a.where) for a in data.articles] == [
        ("7", "Storm hits coast", "storm, coast, sea", "http://x/7", "newsarticles.csv:2"),
        ("9", "Calm", "", "http://x/9", "newsarticles.csv:3"),
    ]
    assert [photo.id for photo in data.photos] == ["a", "b", "c"]
    assert data.pairs == (Pair("7", "b"), Pair("9", "a"))
    assert data.columns["title"] == "article_title"
    assert data.faults == ()


def test_rows_after_a_bad_one_keep_their_ids(tmp_path: Path) -> None:
    text = (
        HEAD
        + '1,http://x/1,"Two\nlines, ""quoted""",,a,\n'  # lines 2–3
        + "2,http://x/2,One, two, three,,b,\n"  # 4: too many columns
        + '3,http://x/3,"Never closed,,c,\n'  # 5
        + "4,http://x/4,Fine,,a,\n"  # 6
        + "\n"  # 7
        + "5,http://x/5,Short\n"  # 8
        + "6,http://x/6,,,b,\n"  # 9: empty title
        + "7,http://x/7,,storm,b,\n"  # 10: empty title, but tags
        + "1,http://x/8,Another,,c,\n"  # 11: id stands twice
        + "9,http://x/9,Last,,zzz,\n"  # 12: no such picture
    )
    data = datasets.read(folder(tmp_path, text))
    assert [(a.id, a.title, a.where.partition(":")[2]) for a in data.articles] == [
        ("1", 'Two lines, "quoted"', "2"),
        ("3", "Never closed", "5"),
        ("4", "Fine", "6"),
        ("5", "Short", "8"),
        ("7", "", "10"),
        ("9", "Last", "12"),
    ]
    assert [(p.article, p.photo) for p in data.pairs] == [("1", "a"), ("3", "c"), ("4", "a"), ("7", "b"), ("9", "zzz")]
    assert sorted((f.where.partition(":")[2], f.fate) for f in data.faults) == [
        ("10", "kept"),
        ("11", "left out"),
        ("12", "kept"),
        ("4", "left out"),
        ("5", "repaired"),
        ("7", "left out"),
        ("8", "kept"),
        ("9", "left out"),
    ]


def test_columns_can_be_named(tmp_path: Path) -> None:
    (tmp_path / "desk.tsv").write_text(
        "Nr\tSchlagworte\tÜberschrift\tLede\tFoto\n1\tx\tHochwasser\tElbe\tb.jpg\n", encoding="utf-8"
    )
    folder(tmp_path, "", name="other.txt")
    data = datasets.read(
        tmp_path / "desk.tsv", photos=tmp_path / "newsimages", columns={"id": "Nr", "photo": "foto", "lead": "Lede"}
    )
    assert [(a.id, a.title, a.lead, a.tags) for a in data.articles] == [("1", "Hochwasser", "Elbe", "x")]
    assert data.pairs == (Pair("1", "b.jpg"),)
    assert [photo.id for photo in data.photos] == ["a.jpg", "b.jpg", "c.jpg"]
    with pytest.raises(UsageError, match=r"no column 'Schlagwort' for the tags \(did you mean 'Schlagworte'\?\)"):
        datasets.read(tmp_path / "desk.tsv", columns={"tags": "Schlagwort"})
    with pytest.raises(UsageError, match="no field 'headline'; fields are id, title"):
        datasets.read(tmp_path / "desk.tsv", columns={"headline": "Nr"})


def test_what_cannot_be_used_at_all_says_so(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        datasets.read(tmp_path / "nowhere")
    with pytest.raises(DataError, match="holds no article file"):
        datasets.read(tmp_path)
    (tmp_path / "a.csv").write_text("id,when\n1,2\n")
    with pytest.raises(
        DataError,
        match=r"a\.csv has no column with a title; its columns are: id, when; rename it, or name it with "
        r"--title-column",
    ):
        datasets.read(tmp_path)


# --- pictures and their ids


def test_photo_ids_follow_what_the_articles_call_them(tmp_path: Path) -> None:
    (tmp_path / "newsimages" / "desk").mkdir(parents=True)
    for name in ("a.JPG", "desk/b.jpeg", "c.png", ".hidden.jpg", "notes.txt"):
        (tmp_path / "newsimages" / name).write_bytes(picture())

    def ids(*pictures: str) -> tuple[list[str], list[str]]:
        rows = "".join(f"{i},Title {i},{name}\n" for i, name in enumerate(pictures))
        (tmp_path / "newsarticles.csv").write_text(f"id,title,image\n{rows}")
        data = datasets.read(tmp_path)
        return [photo.id for photo in data.photos], [pair.photo for pair in data.pairs]

    assert ids("A", "b", "c") == (["a", "b", "c"], ["a", "b", "c"])
    assert ids("a.jpg", "desk/b.jpeg", "b.jpeg") == (
        ["a.JPG", "c.png", "desk/b.jpeg"],
        ["a.JPG", "desk/b.jpeg", "desk/b.jpeg"],
    )
    assert ids("a.jpg", "b") == (["a", "b", "c"], ["a", "b"])
    assert ids("", "") == (["a.JPG", "c.png", "desk/b.jpeg"], [])


def test_two_files_with_one_id_are_named_and_the_first_is_kept(tmp_path: Path) -> None:
    data = folder(tmp_path, HEAD + "1,http://x/1,Fine,,a,\n", ("a",))
    (data / "newsimages" / "a.png").write_bytes(picture(7))
    found = datasets.read(data)
    assert [photo.path.name for photo in found.photos] == ["a.jpg"]
    assert said(found.faults) == ["a.png: two pictures have one id: a, a.jpg came first (left out); rename one of them"]


@pytest.mark.parametrize(
    "name",
    [
        "../../secret",
        "../secret.jpg",
        "/etc/passwd",
        "C:\\secret.jpg",
        "newsimages/../../secret.jpg",
        "..",
        "%2e%2e/secret",
        "~/secret",
    ],
)
def test_no_id_leaves_the_photo_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / "secret.jpg").write_bytes(picture())
    inner = tmp_path / "data"
    inner.mkdir()
    data = datasets.read(folder(inner, HEAD + f"1,http://x/1,Fine,,{name},\n2,http://x/2,Fine,,a,\n"))
    assert all(photo.path.resolve().is_relative_to((inner / "newsimages").resolve()) for photo in data.photos)
    assert [fault.what for fault in data.faults] == [f"picture is missing: {name}"]


def test_pipes_and_folders_named_like_pictures_are_not_opened(tmp_path: Path) -> None:
    data = folder(tmp_path, HEAD + "1,http://x/1,Fine,,a,\n", ("a",))
    os.mkfifo(data / "newsimages" / "pipe.jpg")
    (data / "newsimages" / "folder.jpg").mkdir()
    assert [photo.id for photo in datasets.read(data).photos] == ["a"]


def test_missing_pictures_are_named_by_line_and_their_pairs_kept(tmp_path: Path) -> None:
    data = datasets.read(folder(tmp_path, HEAD + "1,http://x/1,Fine,,zz,http://x/zz.jpg\n2,http://x/2,Too,,a,\n"))
    assert said(data.faults) == ["newsarticles.csv:2: picture is missing: zz (kept); run photodesk fetch on this data"]
    assert data.pairs == (Pair("1", "zz"), Pair("2", "a"))


# --- texts


def test_texts_are_mended_and_each_repair_is_named(tmp_path: Path) -> None:
    titles = [
        "Caf\u00c3\u00a9 \u00e2\u20ac\u0153open\u00e2\u20ac\x9d",
        "Hoch\u00adwasser",
        "10\u00a0000\u202fEuro",
        "Fish &amp; Chips &#8211; R&D",
        "Zero\u200bwidth",
        "  many   spaces ",
        "NaN",
    ]
    rows = "".join(f"{i},http://x/{i},{title},tag,a,\n" for i, title in enumerate(titles))
    data = datasets.read(folder(tmp_path, HEAD + rows))
    assert [article.title for article in data.articles] == [
        "Caf\u00e9 \u201copen\u201d",
        "Hochwasser",
        "10 000 Euro",
        "Fish & Chips \u2013 R&D",
        "Zerowidth",
        "many spaces",
        "",
    ]
    assert [(f.where.partition(":")[2], f.what, f.fate) for f in data.faults] == [
        ("2", "double-encoded UTF-8 in the title", "repaired"),
        ("3", "soft hyphens in the title", "repaired"),
        ("4", "non-breaking or odd spaces in the title", "repaired"),
        ("5", "HTML entities in the title", "repaired"),
        ("6", "control characters in the title", "repaired"),
        ("8", "empty title: article 6", "kept"),
    ]


def test_a_caption_keeps_its_lines() -> None:
    text = "Ko\u0308ln,\u00a0Dom\nCaf\u00c3\u00a9 &amp; Hoch\u00adwasser\x07"
    assert text_repair.repair(text) == (
        "K\u00f6ln, Dom\nCaf\u00e9 & Hochwasser",
        (text_repair.DOUBLE, text_repair.ENTITIES, text_repair.SOFT, text_repair.SPACES, text_repair.CONTROL),
    )
    assert text_repair.repair("nan") == ("nan", ())  # a name, or a grandmother


def test_ids_as_decimals_and_cells_without_a_value(tmp_path: Path) -> None:
    rows = "1.0,Flut,1.0\n2.0,Wahl,NULL\n3.0,Messe,\\N\n4.0,Markt,nan\n"
    (tmp_path / "a.csv").write_text("id,title,image\n" + rows)
    (tmp_path / "1.jpg").write_bytes(picture())
    data = datasets.read(tmp_path / "a.csv")
    assert [article.id for article in data.articles] == ["1", "2", "3", "4"]
    assert data.pairs == (Pair("1", "1"),)
    assert said(data.faults) == [
        "a.csv: ids of the article are written as decimals: such as 1.0 (repaired)",
        "a.csv: ids of the photo are written as decimals: such as 1.0 (repaired)",
    ]
    (tmp_path / "a.csv").write_text("id,title\n1.0,Flut\n1.5,Wahl\n")  # versions, not decimals
    assert [article.id for article in datasets.read(tmp_path / "a.csv").articles] == ["1.0", "1.5"]


@pytest.mark.parametrize(
    "header",
    [
        "Artikel-ID;\u00dcberschrift;Bilddatei",
        "Artikel-Nr.;Titel;Foto-Datei",
        "Meldungs-ID;Schlagzeile;Dateiname",
        "Nr.;U\u0308berschrift;Bild",
        "article id;Article Headline;Photo File",
        "\u00c3\u0153berschrift;Lfd. Nr.;Bildname",
        "Story_ID;Hauptzeile;Bild-Nr.",
    ],
)
def test_columns_as_desks_call_them(tmp_path: Path, header: str) -> None:
    cells = ["Flut;1;a.jpg" if header.startswith("\u00c3") else "1;Flut;a.jpg"]
    (tmp_path / "a.csv").write_text("\n".join(["Export der Redaktion", header, *cells]), encoding="utf-8")
    (tmp_path / "a.jpg").write_bytes(picture())
    data = datasets.read(tmp_path / "a.csv")
    assert [(article.id, article.title) for article in data.articles] == [("1", "Flut")]
    assert data.pairs == (Pair("1", "a.jpg"),)
    assert "header in line 2" in data.evidence


def test_header_and_delimiter_are_options_of_every_command(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id\ttitle\nx\ty\nNr^Kopf\n7^Flut, Sturm\n")
    words = ["check", "--articles", str(tmp_path / "a.csv"), "--title-column", "Kopf", "--id-column", "Nr"]
    result = CliRunner().invoke(commands, [*words, "--header-line", "3", "--delimiter", "^"])
    assert result.exit_code == 0
    assert "columns: id = 'Nr', title = 'Kopf'" in result.stderr
    assert "delimiter '^', header in line 3" in result.stderr
    assert "1 articles" in result.stderr
    result = CliRunner().invoke(commands, ["check", "--articles", str(tmp_path / "a.csv"), "--delimiter", "tab"])
    assert "columns: id = 'id', title = 'title'" in result.stderr
    for name in ("check", "evaluate", "rank", "prepare", "tune", "fetch", "compare", "submit", "validate"):
        text = CliRunner().invoke(commands, [name, "--help"]).stdout
        assert "--header-line" in text
        assert "--delimiter" in text
    result = CliRunner().invoke(commands, ["check", "--articles", str(tmp_path / "a.csv"), "--delimiter", "::"])
    assert isinstance(result.exception, UsageError)
    assert "a delimiter is one character" in str(result.exception)


words = st.lists(
    st.sampled_from(
        [
            "K\u00f6ln",
            "Gr\u00f6\u00dfe",
            "caf\u00e9",
            "na\u00efve",
            "R&D",
            "\u201eOrt\u201c",
            "\u2013",
            "100%",
            "d\u2019or",
            "\u0141\u00f3d\u017a",
        ]
    ),
    min_size=1,
    max_size=6,
).map(" ".join)


@given(words)
@settings(max_examples=150, deadline=None)
def test_good_text_stays_and_double_encoding_is_undone(text: str) -> None:
    assert text_repair.mend(text) == (text, ())
    if not text.isascii():
        twice = text.encode().decode("sloppy-windows-1252")
        assert text_repair.mend(twice)[0] == text


@given(st.text(max_size=40))
@settings(max_examples=300, deadline=None)
def test_any_text_becomes_one_visible_line(text: str) -> None:
    once, _ = text_repair.mend(text)
    assert once == " ".join(once.split())
    assert not set(once) & {"\u00ad", "\u200b", "\ufeff", "\x00", "\x1b", "\n"}


def test_texts_that_were_cut_lose_the_piece_of_a_word(tmp_path: Path) -> None:
    text = "Im Norden regnet es seit Tagen ohne Unterlass und die Pegel steigen weiter an, sagt das Amt fuer Wasser "
    rows = [f"{i},Titel {i},{(text + 'abcdefgh'[i % 8] * 30)[:120]}" for i in range(8)] + ["8,Titel,Kurz und ganz"]
    (tmp_path / "a.csv").write_text(
        "id;title;text\n".replace(";", "|") + "\n".join(row.replace(",", "|", 2) for row in rows)
    )
    data = datasets.read(tmp_path / "a.csv")
    assert [article.text for article in data.articles] == [text.strip()] * 8 + ["Kurz und ganz"]
    assert [f.what for f in data.faults] == ["cut words in the text: at 120 characters"] * 8


# --- what a row is


def test_articles_without_ids_are_called_by_their_line(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('headline,image\n"Two\nlines",a.jpg\nSecond,\n')
    data = datasets.read(tmp_path / "a.csv")
    assert [(article.id, article.title) for article in data.articles] == [("2", "Two lines"), ("4", "Second")]
    first = data.faults[0]
    assert (first.what.partition(":")[0], first.fate, first.advice) == ("no column with an article id", "kept", "")


def test_an_article_may_have_several_pictures(tmp_path: Path) -> None:
    rows = "1,http://x/1,Fine,,a,\n" + 2 * "1,http://x/1,Fine,,b,\n"
    rows += "1,http://x/1,Other,,c,\n" + 2 * "2,http://x/2,Fine 2,,,\n"
    data = datasets.read(folder(tmp_path, HEAD + rows))
    assert [article.id for article in data.articles] == ["1", "2"]
    assert data.pairs == (Pair("1", "a"), Pair("1", "b"))
    assert [(fault.where.partition(":")[2], fault.fate, bool(fault.advice)) for fault in data.faults] == [
        ("4", "left out", False),
        ("5", "left out", True),
        ("7", "left out", False),
    ]


def test_rows_out_of_place_and_rows_without_id(tmp_path: Path) -> None:
    rows = "1 http://x/1,Title in the url,tags,a\n,http://x/2,No id,,a,\n3,http://x/3,Fine,,a,\n"
    data = datasets.read(folder(tmp_path, HEAD + rows))
    assert [article.id for article in data.articles] == ["3"]
    assert [(f.where.partition(":")[2], f.what) for f in data.faults] == [
        ("2", "cells out of place, and too few columns"),
        ("3", "no article id"),
    ]


# --- the reader as a whole

garbage = st.one_of(
    st.binary(max_size=200), st.text(st.sampled_from('ab1,;\t"\n\r\0é[]{}:=../'), max_size=200).map(str.encode)
)


@given(
    garbage,
    st.sampled_from(["newsarticles.csv", "x.tsv", "x.jsonl", "x.json", "x.bson", "content2019-01.tsv"]),
    st.sampled_from(["", HEAD, *LAYOUTS]),
)
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_a_data_set_or_an_error(data: bytes, name: str, head: str) -> None:
    with tempfile.TemporaryDirectory() as place:
        Path(place, name).write_bytes(head.encode() + data)
        Path(place, "a.jpg").write_bytes(data)
        try:
            found = datasets.read(Path(place))
        except PhotodeskError as error:
            said = str(error)
        else:
            said = "."
            ids = [article.id for article in found.articles]
            assert len(set(ids)) == len(ids) > 0
            assert all(article.title or article.text or article.lead or article.tags for article in found.articles)
            assert {pair.article for pair in found.pairs} <= set(ids)
            assert checks_of.check(found)[: len(found.faults)] == found.faults
            groups.groups(found)
        assert said


@given(garbage, st.integers(0, 4))
@settings(max_examples=200, deadline=None)
def test_good_rows_are_never_lost_to_garbage_before_them(data: bytes, at: int) -> None:
    """Garbage lines among good rows of a full width: every good row is read with its own id, title and photo."""
    good = [f"g{i},http://x/{i},Headline number {i},tag,p{i},http://x/p{i}.jpg".encode() for i in range(5)]
    bad = data.replace(b"g", b"h")
    with tempfile.TemporaryDirectory() as place:
        Path(place, "newsarticles.csv").write_bytes(HEAD.encode() + b"\n".join([*good[:at], bad, *good[at:]]))
        try:
            found = datasets.read(Path(place))
        except PhotodeskError:
            found = None
    assert found is not None
    titles = {article.id: article.title for article in found.articles}
    pairs = {pair.article: pair.photo for pair in found.pairs}
    for i in range(5):
        assert (titles[f"g{i}"], pairs[f"g{i}"]) == (f"Headline number {i}", f"p{i}")


# --- the command


def test_check_names_broken_pictures_and_exits_with_1(tmp_path: Path) -> None:
    data = folder(tmp_path, HEAD + "1,http://x/1,Fine,,a,\n2,http://x/2,Fine too,,b,\n")
    result = CliRunner().invoke(commands, ["check", str(data)])
    assert (result.exit_code, result.stdout) == (0, "")
    assert "NewsImages 2025" in result.stderr
    assert "2 articles, 3 photos, 2 pairs" in result.stderr
    (data / "newsimages" / "b.jpg").write_bytes(picture(1)[:300])
    (data / "newsimages" / "c.jpg").write_bytes(b"<html>gone</html>")
    result = CliRunner().invoke(commands, ["check", str(data), "--all", "--out", str(tmp_path / "faults.csv")])
    assert result.exit_code == 1
    assert "b.jpg: is " in result.stdout
    assert "c.jpg: is not a picture: a web page (left out); get the picture again" in result.stdout
    assert result.stdout.rstrip().splitlines()[-1].strip()
    assert "its name says picture, its content does not" in result.stdout
    assert "2 faults, 2 need you" in result.stderr
    assert len((tmp_path / "faults.csv").read_text().splitlines()) == 3
    result = CliRunner().invoke(commands, ["check", str(data), "--no-decode"])
    assert (result.exit_code, result.stdout) == (0, "")


def test_check_finds_shared_titles_and_near_duplicates(tmp_path: Path) -> None:
    data = folder(
        tmp_path,
        HEAD
        + "1,http://x/1,Storm hits the northern coast,,a,\n2,http://x/2,STORM hits the northern coast | The Desk,,b,\n",
    )
    Image.open(data / "newsimages" / "a.jpg").resize((97, 71)).save(data / "newsimages" / "d.jpg", quality=70)
    found = checks_of.check(datasets.read(data))
    assert [(Path(fault.where).name, fault.what) for fault in found] == [
        ("newsarticles.csv:2", "one title, several articles: 2, also in newsarticles.csv:3"),
        ("a.jpg", "near-duplicate pictures: 2, also d.jpg"),
    ]
    assert not any(fault.advice for fault in found)


def test_wrong_calls_are_said_in_one_line(tmp_path: Path) -> None:
    for arguments in (["check"], ["check", str(tmp_path), "--articles", "x.csv"]):
        result = CliRunner().invoke(commands, arguments)
        assert isinstance(result.exception, UsageError)
        assert "give either a data folder or --articles FILE --photos DIR" in str(result.exception)


def test_every_kind_of_fault_has_a_meaning(tmp_path: Path) -> None:
    """One folder with all that can be wrong, and what check's table says of each kind."""
    rows = (
        "1,http://x/1,Caf\u00c3\u00a9 Hoch\u00adwasser in der Stadt,,a,",
        "2,http://x/2,A\u00a0B &amp; C\u200bD,,a,",
        '3,http://x/3,"He "says" so",,a,',
        '4,http://x/4,"Never closed,,a,',
        "5,http://x/5,Too,many,co,lum,ns",
        HEAD.strip(),
        "",
        "6,http://x/6,Short",
        "7 http://x/7,Out of place,x,y",
        ",http://x/8,No id,,,",
        "1,http://x/9,Stands twice,,,",
        "10,http://x/10,,,,",
        "11,http://x/11,Caf\u00e9 Hochwasser in der Stadt,,gone,http://x/gone.jpg",
    )
    text = "\ufeff" + "\r\n".join([HEAD.strip(), *rows]) + "\0"
    folder(tmp_path, text.encode())
    (tmp_path / "newsimages" / "a.png").write_bytes(picture())
    for name, data in {
        "d": b"",
        "e": b"GIF",
        "f": picture(9)[:900],
        "g": png_of(20_000, 20_000),
        "b2": picture(1),
    }.items():
        (tmp_path / "newsimages" / f"{name}.jpg").write_bytes(data)
    (tmp_path / "new.tsv").write_bytes(
        b"id\ttitle\ttitle\ttext\n"
        + "".join(f"{i}\tK\u00f6ln\t\t{'wort ' * 30}{i}\n" for i in range(6)).encode("cp1252")
    )
    (tmp_path / "new.jsonl").write_text('{"headline": "A"}\n[]\nnone\n')
    found = list(checks_of.check(datasets.read(tmp_path)))
    for other in ("new.tsv", "new.jsonl"):
        found += checks_of.check(datasets.read(tmp_path / other, photos=tmp_path / "newsimages"), decode=False)
    kinds = checks_of.kinds(found)
    assert [kind.name for kind in kinds if not kind.meaning] == []
    unseen = {
        "table-id-not-unique",
        "table-no-articles",
        "table-decimal-ids",
        "row-comment",
        "row-loose-json",
        "row-not-bson",
        "row-not-utf8",
        "photo-ambiguous",
        "photo-name",
        "photo-none",
        "photo-spelling",
        "photo-unreadable",
        "photo-damaged",
    }
    elsewhere = {
        "photo-excluded",
        "photo-format",
        "photo-without-embargo",
    }  # of archives, and of installs without an extra
    elsewhere |= {"photo-refused", "photo-no-answer", "photo-gone", "photo-metadata", "photo-name", "photo-unknown"}
    elsewhere |= {"article-empty"}
    of_data = {code for code in checks_of.MEANINGS if code.startswith(("table-", "row-", "article-", "photo-"))}
    of_data |= {f"text-{repair}" for repair in ("cut", "double-encoded", "soft-hyphens", "odd-spaces")}
    of_data |= {"text-html-entities", "text-control-characters"}
    assert of_data - {kind.code for kind in kinds} == unseen | elsewhere


def png_of(width: int, height: int) -> bytes:
    """The head of a PNG that claims a size."""
    chunk = b"IHDR" + width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([1, 0, 0, 0, 0])
    return (
        b"\x89PNG\r\n\x1a\n"
        + (13).to_bytes(4, "big")
        + chunk
        + zlib.crc32(chunk).to_bytes(4, "big")
        + b"\0\0\0\x09IDAT"
    )


def test_kinds_put_first_what_needs_the_user() -> None:
    one, two, three = (
        Fault("row-blank", "a:1", "blank row", "left out"),
        Fault("article-no-title", "a:2", "empty title: 7", "kept", "give it one"),
        Fault("row-blank", "a:9", "blank row, said in other words", "left out"),
    )
    assert [(kind.code, kind.name, kind.count, kind.first) for kind in checks_of.kinds([one, two, three])] == [
        ("article-no-title", "empty title", 1, two),
        ("row-blank", "blank row", 2, one),
    ]


def test_a_fault_of_a_later_version_is_called_by_its_code() -> None:
    (kind,) = checks_of.kinds([Fault("photo-upside-down", "a.jpg", "stands on its head", "kept")])
    assert (kind.name, kind.meaning) == ("photo-upside-down", "")


@pytest.mark.skipif("PHOTODESK_DATA" not in os.environ, reason="needs the real data in PHOTODESK_DATA")
def test_the_real_releases_are_read_whole() -> None:
    base = Path(os.environ["PHOTODESK_DATA"])
    new = datasets.read(base / "newsimages2025")
    assert (len(new.articles), len(new.photos), len(new.pairs)) == (6500, 6500, 6500)
    assert {pair.photo for pair in new.pairs} == {photo.id for photo in new.photos}
    assert sum("double-encoded" in fault.what for fault in new.faults) > 300
    old = datasets.read(base / "newsimages2021")
    assert (len(old.articles), len(old.pairs), len(old.listed)) == (9445, 9445, 9445)
    test = datasets.read(base / "newsimages2021", subset="content2019-04")
    assert (len(test.articles), len(test.pairs), len(test.listed)) == (1915, 1915, 1915)
    assert all(len(article.id) == 10 for article in test.articles)
