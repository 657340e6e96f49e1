"""Data sets of strangers: each row is read, repaired or named; ids and rows never shift."""

import io
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image

from photodesk import datasets
from photodesk.cli import commands
from photodesk.errors import DataError, UsageError
from photodesk.records import Fault, Pair


def picture(seed: int = 0) -> bytes:
    stream = io.BytesIO()
    Image.effect_mandelbrot((60, 40), (-2 + seed / 10, -1.5, 1, 1.5), 40).save(stream, "JPEG")
    return stream.getvalue()


def folder(tmp_path: Path, text: str | bytes, photos: tuple[str, ...] = ("a", "b", "c"), name: str = "newsarticles.csv") -> Path:
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    (tmp_path / "newsimages").mkdir(exist_ok=True)
    for seed, photo in enumerate(photos):
        (tmp_path / "newsimages" / f"{photo}.jpg").write_bytes(picture(seed))
    return tmp_path


HEAD = "article_id,article_url,article_title,article_tags,image_id,image_url\n"


def said(faults: tuple[Fault, ...]) -> list[str]:
    return [str(fault) for fault in faults]


def test_a_2025_folder_is_recognised(tmp_path: Path) -> None:
    text = HEAD + "7,http://x/7,Storm hits coast,storm;coast|sea,b,http://x/b.jpg\n9,http://x/9,Calm,,a,http://x/a.jpg\n"
    data = datasets.read(folder(tmp_path, text))
    assert data.edition == "NewsImages 2025"
    assert [(a.id, a.title, a.tags, a.url, a.where) for a in data.articles] == [
        ("7", "Storm hits coast", "storm;coast|sea", "http://x/7", "newsarticles.csv:2"),
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
    (tmp_path / "desk.tsv").write_text("Nr\tSchlagworte\tÜberschrift\tLede\tFoto\n1\tx\tHochwasser\tElbe\tb.jpg\n", encoding="utf-8")
    folder(tmp_path, "", name="other.txt")
    data = datasets.read(tmp_path / "desk.tsv", photos=tmp_path / "newsimages", columns={"id": "Nr", "photo": "foto", "lead": "Lede"})
    assert [(a.id, a.title, a.lead, a.tags) for a in data.articles] == [("1", "Hochwasser", "Elbe", "x")]
    assert data.pairs == (Pair("1", "b.jpg"),)
    assert [photo.id for photo in data.photos] == ["a.jpg", "b.jpg", "c.jpg"]
    with pytest.raises(UsageError, match=r"no column 'Schlagwort' for the tags; did you mean 'Schlagworte'\?"):
        datasets.read(tmp_path / "desk.tsv", columns={"tags": "Schlagwort"})
    with pytest.raises(UsageError, match="no field 'headline'; fields are id, title"):
        datasets.read(tmp_path / "desk.tsv", columns={"headline": "Nr"})


def test_what_cannot_be_used_at_all_says_so(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        datasets.read(tmp_path / "nowhere")
    with pytest.raises(DataError, match="holds no article file"):
        datasets.read(tmp_path)
    (tmp_path / "a.csv").write_text("id,when\n1,2\n")
    with pytest.raises(DataError, match=r"a\.csv has no column with a title; its columns are: id, when; name it with --title-column"):
        datasets.read(tmp_path)


def test_check_names_broken_pictures_and_exits_with_1(tmp_path: Path) -> None:
    data = folder(tmp_path, HEAD + "1,http://x/1,Fine,,a,\n2,http://x/2,Fine too,,b,\n")
    result = CliRunner().invoke(commands, ["check", str(data)])
    assert (result.exit_code, result.stdout) == (0, "")
    (data / "newsimages" / "b.jpg").write_bytes(picture(1)[:300])
    result = CliRunner().invoke(commands, ["check", str(data)])
    assert result.exit_code == 1
    assert "b.jpg: is " in result.stdout
