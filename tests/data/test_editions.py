"""Every edition's layout, written here as its organisers gave it out: what is recognised, and what each column
becomes."""

import json
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from photodesk.data import datasets, editions
from photodesk.errors import MissingExtra, UsageError
from photodesk.types import Dataset, Pair


def write(folder: Path, files: dict[str, str], encoding: str = "utf-8") -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.replace("\n", "\r\n").encode(encoding))
    return folder


def tsv(*rows: str) -> str:
    """Rows written with `|` for a tab, for the eye."""
    return "".join(row.replace("|", "\t") + "\n" for row in rows)


def articles(data: Dataset) -> list[tuple[str, str]]:
    return [(article.id, article.title) for article in data.articles]


# --- 2021

HEAD_2021 = "article|aid|url|img|iid|hashvalue|title|text|imgFile"
TRAIN = tsv(
    HEAD_2021,
    '509005634|11|http://k/a-1|http://k/image/1.jpg|901|h1|"Er sagte ""Nein"""|Text eins|h1.jpg',
    "509006281|12|http://k/a-2|http://k/image/2.jpg|902|h2|Zwei|Text zwei|h2.jpg",
)
TRUTH = tsv(
    HEAD_2021,
    "523954132|21|http://k/a-3|http://k/image/3.jpg|903|h3|Größe drei|Text drei|h3.jpg",
    "523949072|22|http://k/a-4|http://k/image/4.jpg|904|h4|Vier|Text vier|h4.jpg",
)
TEST = tsv(
    "articleID|aid|url|||hashvalue|title|text",
    "1490725239||http://k/a-4||||Vier|Text vier",
    "1541325239||http://k/a-3||||Größe drei|Text drei",
)
IMAGES = tsv(
    "img|iid|imgFile",
    "http://k/image/4.jpg|904|h4.jpg",
    "||",
    "http://k/image/3.jpg|903|h3.jpg",
    "http://k/image/9.jpg|909|h9.jpg",
)


def scramble(true: str) -> str:
    """By hand: 523949072 → ?49072…5239, so that [6:10] + [1:6] gives it back."""
    return f"1{true[4:9]}{true[0:4]}"


def release(folder: Path) -> Path:
    test = TEST.replace("1490725239", scramble("523949072")).replace("1541325239", scramble("523954132"))
    write(folder, {"content2019-01.tsv": TRAIN, "content2019-04-gt.tsv": TRUTH, "Batch04images.tsv": IMAGES})
    return write(folder, {"Batch04articles.tsv": test}, "cp1252")


def test_2021_joins_scrambled_articles_with_the_truth(tmp_path: Path) -> None:
    data = datasets.read(release(tmp_path))
    four, three = scramble("523949072"), scramble("523954132")
    assert len(four) == 10
    assert articles(data) == [
        (four, "Vier"),
        (three, "Größe drei"),
        ("509005634", 'Er sagte "Nein"'),
        ("509006281", "Zwei"),
    ]
    assert set(data.pairs) == {
        Pair(four, "904"),
        Pair(three, "903"),
        Pair("509005634", "901"),
        Pair("509006281", "902"),
    }
    assert {article.subset for article in data.articles} == {"content2019-01", "content2019-04"}
    assert "2 of its ids are unscrambled" in data.evidence
    assert data.edition == "NewsImages 2021 test articles + NewsImages 2021 test images + NewsImages 2021"
    fault = next(fault for fault in data.faults if fault.advice)
    assert (fault.what, fault.advice) == ("no pictures: the tables name 5", "run photodesk fetch on this data")
    assert [f.what for f in data.faults if "Windows" in f.what] == [
        "the file is not UTF-8 but Windows-1252: 1 lines differ, the first is line 3"
    ]
    assert [f.where for f in data.faults if f.what == "blank row"] == ["Batch04images.tsv:3"]


def test_2021_a_subset_brings_its_own_gallery(tmp_path: Path) -> None:
    data = release(tmp_path)
    (data / "newsimages").mkdir()
    for name in ("h1", "h2", "h3", "h4", "h9"):
        (data / "newsimages" / f"{name}.jpg").write_bytes(b"x")
    assert [photo.id for photo in datasets.read(data).photos] == ["901", "902", "903", "904", "909"]
    test = datasets.read(data, subset="content2019-04")
    assert [photo.id for photo in test.photos] == ["903", "904", "909"]
    assert {pair.photo for pair in test.pairs} == {"903", "904"}
    assert [photo.id for photo in datasets.read(data, subset="content2019-01").photos] == ["901", "902"]
    with pytest.raises(UsageError, match="no article of subset 'may'; subsets are: content2019-01, content2019-04"):
        datasets.read(data, subset="may")


def test_2021_without_the_truth_there_are_no_pairs(tmp_path: Path) -> None:
    data = release(tmp_path)
    (data / "content2019-04-gt.tsv").unlink()
    (data / "content2019-01.tsv").unlink()
    found = datasets.read(data)
    assert (len(found.articles), found.pairs, len(found.listed)) == (2, (), 3)
    assert {article.subset for article in found.articles} | {item.subset for item in found.listed} == {"Batch04"}


def test_2021_restricted_release(tmp_path: Path) -> None:
    text = tsv(
        "article|aid|url|imageUrl|iid|hashvalueImage|title|text|nReads|nRecs|nClicks|ctr",
        "5090|11|http://k/1|http://k/1.jpg|901|h1|Eins|Text|10|20|3|0.15",
    )
    (tmp_path / "h1.jpg").write_bytes(b"x")
    data = datasets.read(write(tmp_path, {"content.tsv": text}))
    assert (data.edition, articles(data), data.pairs) == (
        "NewsImages 2021 (restricted release)",
        [("5090", "Eins")],
        (Pair("5090", "901"),),
    )
    assert [(photo.id, photo.path.name) for photo in data.photos] == [("901", "h1.jpg")]
    assert data.listed[0].url == "http://k/1.jpg"


def test_true_ids_by_their_digits() -> None:
    assert editions.unscramble("0123456789") == "678912345"


def test_scrambling_as_in_2021() -> None:
    assert editions.scramble("526000026") == "1000265260"
    assert editions.unscramble("1000265260") == "526000026"
    assert editions.scramble("12") == editions.unscramble("12") == "12"


@given(st.integers(10**8, 10**9 - 1).map(str))
def test_scrambling_is_undone(article: str) -> None:
    assert editions.unscramble(editions.scramble(article)) == article


# --- 2022


@pytest.mark.parametrize("name", ["RSS_train.csv", "rt/train.csv", "news-TW.csv"])
def test_2022_is_known_by_its_names_and_read_by_aliases(tmp_path: Path, name: str) -> None:
    data = datasets.read(
        write(
            tmp_path,
            {name: "newsID,headline,snippet,imageID\n7,Titel,Vorspann,b7\n", "ztest.csv": "newsID,headline\n8,Zwei\n"},
        )
    )
    assert data.edition == "NewsImages 2022"
    assert f"its name says {'RSS' if 'RSS' in name else 'RT' if 'rt' in name else 'TW'}" in data.evidence
    assert [(a.id, a.title, a.lead) for a in data.articles] == [("7", "Titel", "Vorspann"), ("8", "Zwei", "")]
    assert data.pairs == (Pair("7", "b7"),)


def test_2022_in_the_columns_of_2021(tmp_path: Path) -> None:
    data = datasets.read(
        write(tmp_path, {"RSS/train.tsv": TRAIN, "RT/train.tsv": TRAIN.replace("50900", "60900").replace("|90", "|80")})
    )
    assert data.edition == "NewsImages 2022"
    assert [article.subset for article in data.articles] == ["RSS/train"] * 2 + ["RT/train"] * 2


def test_words_that_hold_rt_are_not_2022(tmp_path: Path) -> None:
    assert datasets.read(write(tmp_path, {"report-articles.csv": "id,title\n1,A\n"})).edition == "a table of its own"


# --- 2023


def gdelt(*rows: list[str]) -> str:
    head = ["# article", " aid", " url", " img", " iid", " hashvalue", " title", " text", " imgFile", " Date"]
    return "".join("\t".join(row) + "\n" for row in [head, *rows])


def test_2023_gdelt(tmp_path: Path) -> None:
    train = gdelt(
        [
            "1",
            "a1",
            "http://g/1",
            "http://i/1.jpg",
            "i1",
            "h1",
            "CafÃ© opens",
            "jane doe;john roe|city council",
            "i1.jpg",
            "20230719",
        ],
        ["1", "a2", "http://g/2", "http://i/2.jpg", "i2", "h2", "Second", "", "i2.jpg", "20230720"],
    )
    text = gdelt(["2", "b1", "http://g/3", "", "", "", "Third", "ann lee", "", "20230721"])
    images = gdelt(
        ["", "", "", "http://i/3.jpg", "i3", "", "", "", "i3.jpg", ""],
        ["", "", "", "http://i/4.jpg", "i4", "", "", "", "i4.jpg", ""],
    )
    data = datasets.read(
        write(tmp_path, {"GDELT-P1.tsv": train, "GDELT-P1-Test-Text.tsv": text, "GDELT-P1-Test-Img.tsv": images})
    )
    assert data.edition == "NewsImages 2023 GDELT"
    assert [(a.id, a.title, a.tags, a.text, a.date, a.subset) for a in data.articles] == [
        ("b1", "Third", "ann lee", "", "20230721", "GDELT-P1-Test"),
        ("a1", "Café opens", "jane doe, john roe, city council", "", "20230719", "GDELT-P1"),
        ("a2", "Second", "", "", "20230720", "GDELT-P1"),
    ]
    assert data.pairs == (Pair("a1", "i1"), Pair("a2", "i2"))
    assert [(item.photo, item.subset) for item in data.listed] == [
        ("i3", "GDELT-P1-Test"),
        ("i4", "GDELT-P1-Test"),
        ("i1", "GDELT-P1"),
        ("i2", "GDELT-P1"),
    ]
    assert [f.what for f in data.faults if "unique" in f.what] == [
        "the column is not unique: '# article', so articles are called by their 'aid'"
    ]
    for name in ("i1", "i2", "i3", "i4"):
        (tmp_path / f"{name}.jpg").write_bytes(b"x")
    assert [photo.id for photo in datasets.read(tmp_path, subset="GDELT-P1-Test").photos] == ["i3", "i4"]


def test_2023_gdelt_is_keyed_by_url_where_aid_repeats(tmp_path: Path) -> None:
    text = gdelt(
        *([str(i), "a", f"http://g/{i}", "", f"i{i}", "", f"Title {i}", "", f"i{i}.jpg", ""] for i in range(3))
    )
    data = datasets.read(write(tmp_path, {"P2.tsv": text}))
    assert [article.id for article in data.articles] == ["http://g/0", "http://g/1", "http://g/2"]


def test_2023_rt(tmp_path: Path) -> None:
    text = tsv(
        "url|hashvalue|title|text|titleEN|textEN",
        "http://r/1|h1|Größe|Der Text|Size bad|Text bad",
        "http://r/2|h2|Zwei|||",
    )
    (tmp_path / "h1.jpg").write_bytes(b"x")
    data = datasets.read(write(tmp_path, {"RT.tsv": text}))
    assert data.edition == "NewsImages 2023 RT"
    assert [(a.id, a.title, a.text) for a in data.articles] == [
        ("http://r/1", "Größe", "Der Text"),
        ("http://r/2", "Zwei", ""),
    ]
    assert data.pairs == (Pair("http://r/1", "h1"), Pair("http://r/2", "h2"))
    assert [photo.id for photo in data.photos] == ["h1"]


# --- 2025, 2026


def test_2026_training_and_evaluation(tmp_path: Path) -> None:
    train = "article_id,article_url,article_title,image_id,image_url\n1,http://n/1,One,AB,http://i/1.jpg\n"
    evaluation = "article_id,article_url,article_title,image_id\n2,http://n/2,Two,CD\n"
    data = datasets.read(write(tmp_path, {"train.csv": train, "evaluation.csv": evaluation}))
    assert (data.edition, data.columns["photo_url"]) == ("NewsImages 2026", "image_url")
    assert [(a.id, a.subset) for a in data.articles] == [("2", "evaluation"), ("1", "train")]
    assert data.pairs == (Pair("2", "CD"), Pair("1", "AB"))


# --- NYTimes800k

DOCUMENT = {
    "_id": "5c1",
    "split": "train",
    "headline": {"main": "Storm Nears", "kicker": "x"},
    "web_url": "https://n/1",
    "pub_date": "2019-01-01",
    "parsed_section": [
        {"type": "paragraph", "text": "First words."},
        {"type": "caption", "order": 0, "text": "Waves at the pier", "hash": "aa11"},
        {"type": "paragraph", "text": "More words."},
        {"type": "caption", "order": 1, "text": "An empty road", "hash": "bb22"},
        {"type": "caption", "text": "No picture was kept", "hash": "cc33"},
    ],
    "image_positions": [1, 3],
}
CANONICAL = DOCUMENT | {
    "_id": {"$oid": "5c2"},
    "image_positions": [{"$numberInt": "3"}],
    "pub_date": {"$date": {"$numberLong": "0"}},
    "split": "valid",
}


def nytimes(data: Dataset) -> None:
    assert data.edition == "NYTimes800k"
    assert [(a.id, a.title, a.lead, a.text, a.subset) for a in data.articles] == [
        ("5c1:1", "Storm Nears", "Waves at the pier", "First words. More words.", "train"),
        ("5c1:3", "Storm Nears", "An empty road", "First words. More words.", "train"),
        ("5c2:3", "Storm Nears", "An empty road", "First words. More words.", "valid"),
    ]
    assert data.pairs == (Pair("5c1:1", "aa11"), Pair("5c1:3", "bb22"), Pair("5c2:3", "bb22"))
    assert [photo.id for photo in data.photos] == ["aa11", "bb22"]


def pictures(folder: Path) -> Path:
    (folder / "images_processed").mkdir()
    for name in ("aa11", "bb22"):
        (folder / "images_processed" / f"{name}.jpg").write_bytes(b"x")
    return folder


@pytest.mark.parametrize("name", ["articles.jsonl", "articles.json"])
def test_nytimes_as_mongoexport_writes_it(tmp_path: Path, name: str) -> None:
    write(pictures(tmp_path), {name: "\n".join(json.dumps(d) for d in (DOCUMENT, CANONICAL))})
    nytimes(datasets.read(tmp_path))
    write(tmp_path, {name: json.dumps([DOCUMENT, CANONICAL])})
    if name.endswith(".json"):
        nytimes(datasets.read(tmp_path))


def test_nytimes_as_mongodump_writes_it(tmp_path: Path) -> None:
    bson = pytest.importorskip("bson")
    second = CANONICAL | {"_id": bson.ObjectId(b"5c2aaaaaaaaa"), "image_positions": [3], "pub_date": None}
    (pictures(tmp_path) / "articles.bson").write_bytes(bson.encode(DOCUMENT) + bson.encode(second))
    data = datasets.read(tmp_path)
    assert [article.id for article in data.articles] == ["5c1:1", "5c1:3", f"{b'5c2aaaaaaaaa'.hex()}:3"]
    assert [(a.lead, a.subset) for a in data.articles][2] == ("An empty road", "valid")


@pytest.mark.parametrize(
    "odd",
    [
        {"parsed_section": 7},
        {"image_positions": ["1", -1, 99, None, {}, {"$numberInt": "x"}, 1.5]},
        {"parsed_section": [None, "x"]},
        {"headline": None},
    ],
)
def test_nytimes_documents_of_another_shape_break_nothing(tmp_path: Path, odd: dict[str, object]) -> None:
    write(pictures(tmp_path), {"a.jsonl": json.dumps(DOCUMENT | {"_id": "bad"} | odd) + "\n" + json.dumps(DOCUMENT)})
    data = datasets.read(tmp_path)
    assert [article.id for article in data.articles if article.id.startswith("5c1")] == ["5c1:1", "5c1:3"]
    assert {article.id for article in data.articles} - {"5c1:1", "5c1:3"} <= {"bad:1", "bad:3"}


# --- in general


def test_column_names_are_compared_without_case_spaces_and_signs() -> None:
    layout = editions.recognise(["\u00dcberschrift", "Article ID", "IMAGE-ID", "k\u00fcrzel"], {})
    assert layout.at == {"title": 0, "id": 1, "photo": 2}
    assert editions.recognise(["", "title", "", "Title"], {}).at == {"title": 1}
    assert editions.recognise(["text", "image"], {}).at == {"title": 0, "photo": 1}


def test_an_override_wins_over_the_edition(tmp_path: Path) -> None:
    data = datasets.read(write(tmp_path, {"a.tsv": TRAIN}), columns={"title": "text", "id": "aid"})
    assert articles(data) == [("11", "Text eins"), ("12", "Text zwei")]


def test_other_tables_in_the_folder_are_named_not_read(tmp_path: Path) -> None:
    write(
        tmp_path,
        {"a.csv": "id,title\n1,A\n", "run.tsv": "article\tphoto\n1\tx\n", "b.json": "{", "notes.txt": "title\nno\n"},
    )
    data = datasets.read(tmp_path)
    assert articles(data) == [("1", "A")]
    assert [(f.where, f.fate, f.advice) for f in data.faults if "not an article file" in f.what] == [
        ("b.json", "left out", ""),
        ("run.tsv", "left out", ""),
    ]


def test_newsarticles_is_the_only_table_that_is_read(tmp_path: Path) -> None:
    data = datasets.read(write(tmp_path, {"newsarticles.csv": "id,title\n1,A\n", "backup.csv": "id,title\n2,B\n"}))
    assert (articles(data), data.articles[0].subset) == ([("1", "A")], "")


def test_a_file_whose_library_is_missing_is_named_with_the_pip_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtra, match=r'pip install "photodesk\[parquet\]"'):
        datasets.read(tmp_path)
    write(tmp_path, {"b.csv": "id,title\n1,A\n"})
    data = datasets.read(tmp_path)
    assert articles(data) == [("1", "A")]
    fault = next(fault for fault in data.faults if fault.advice)
    assert fault.where == "a.parquet"
    assert 'pip install "photodesk[parquet]"' in fault.what
