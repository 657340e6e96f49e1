"""The command `prepare`: the file it writes, the table it shows, and how it ends."""

import json

import pytest
from click.testing import CliRunner

from photodesk.cli import commands, main
from photodesk.data import datasets
from photodesk.encoders import registry
from photodesk.errors import UsageError
from photodesk.text import preparation, translators

ROWS = """article_id,article_url,article_title,article_tags,image_id,image_url
1,http://a.example/1,"He's at thestation, isn't he?","rail, city",p1,http://a.example/1.jpg
2,http://a.example/2,Die GRÖSSE der Überraschung ist nähmlich neu,köln,p2,http://a.example/2.jpg
3,http://a.example/3,2021,,p3,http://a.example/3.jpg
"""


@pytest.fixture
def desk(tmp_path):
    (tmp_path / "articles.csv").write_text(ROWS, encoding="utf-8")
    return tmp_path / "articles.csv"


def run(*arguments):
    return CliRunner().invoke(commands, ["prepare", *map(str, arguments)], standalone_mode=False)


def records(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_before_and_after_step_by_step(desk):
    done = run("--articles", desk, "-p", "detect=de+en, clean=2021, max_words=5")
    assert done.exception is None, done.exception
    shown = " ".join(done.stdout.split())
    assert "1 before He's at thestation, isn't he? detect en (" in shown
    assert "segment He's at the station, isn't he? expand contractions He is at the station, is not he?" in shown
    assert (
        "drop articles He is at station, is not he? lower he is at station, is not he? max_words he is at station, is"
        in shown
    )
    assert "correct spelling Die GRÖSSE der Überraschung ist nämlich neu" in shown


def test_the_file_is_data_that_can_be_read_again(desk, tmp_path):
    out = tmp_path / "out" / "prepared.jsonl"
    done = run("--articles", desk, "-o", out, "-p", "fields=title, clean=2021, detect=de+en")
    assert done.exception is None, done.exception
    assert done.stdout == ""
    again = datasets.read(out)
    source = datasets.read(desk)
    assert [a.id for a in again.articles] == [a.id for a in source.articles]
    assert [a.title for a in again.articles] == list(
        preparation.parse("clean=2021, detect=de+en").prepare(source.articles).texts
    )
    assert [a.language for a in again.articles] == ["en", "de", "unknown"]
    assert again.pairs == source.pairs
    assert records(out)[0]["original_title"] == "He's at thestation, isn't he?"


def test_empty_articles_are_named_and_kept_or_left_out(desk, tmp_path):
    out = tmp_path / "prepared.jsonl"
    tags = ("-p", "fields=tags")
    assert "no tags: article '3' (kept)" in run("--articles", desk, "-o", out, *tags).stderr
    assert len(records(out)) == 3
    assert "no tags: article '3' (left out)" in run("--articles", desk, "-o", out, "--drop-empty", *tags).stderr
    assert [record["id"] for record in records(out)] == ["1", "2"]


def test_labels_and_their_mapping(desk, tmp_path):
    out = tmp_path / "prepared.jsonl"
    run("--articles", desk, "-o", out, "--label", "tags", "--label", "language", "-p", "detect=de+en")
    mappings = json.loads((tmp_path / "prepared.labels.json").read_text(encoding="utf-8"))
    assert mappings["language"] == {"de": 0, "en": 1, "unknown": 2}
    assert [record["language_label"] for record in records(out)] == [1, 0, 2]
    assert [next(k for k, v in mappings["tags"].items() if v == r["tags_label"]) for r in records(out)] == [
        "rail, city",
        "köln",
        "",
    ]


def test_the_budget_of_an_encoder(desk, tmp_path, monkeypatch):
    class Tower:
        context = 3

        def tokens(self, line):
            return line.split()

    class Encoder:
        texts = Tower()

    monkeypatch.setattr(registry, "load", lambda name: Encoder())
    out = tmp_path / "prepared.jsonl"
    done = run("--articles", desk, "-o", out, "--encoder", "small")
    assert (
        "small: reads 3 tokens; 2 of 3 articles are cut\n  2: 3 of 7 words are read (7 tokens)\n  1: 3 of 5 words"
        in done.stdout
    )
    assert [(r["words"], r["words_read"]["small"]) for r in records(out)] == [(5, 3), (7, 3), (1, 1)]


def test_a_failure_changes_nothing_that_was_there(desk, tmp_path, monkeypatch):
    out = tmp_path / "prepared.jsonl"
    out.write_text("as it was")
    monkeypatch.setenv("PHOTODESK_CACHE", str(tmp_path))
    done = run("--articles", desk, "-o", out, "-p", "translate=http://127.0.0.1:9")
    assert "translation service http://127.0.0.1:9/translate" in str(done.exception)
    assert out.read_text() == "as it was"
    done = run("--articles", desk, "-o", out, "-p", "translate=http://127.0.0.1:9", "--keep-going")
    assert done.return_value == 1 or done.exit_code == 1
    assert "not translated" in done.stderr
    assert records(out)[1]["title"].startswith("Die GRÖSSE")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["-p", "max_word=3"], "did you mean 'max_words'"),
        (["--label", "tags"], "name one"),
        (["-o", "x.csv"], "end the name in .jsonl"),
    ],
)
def test_wrong_calls(desk, arguments, says):
    done = run("--articles", desk, *arguments)
    assert isinstance(done.exception, UsageError)
    assert says in str(done.exception)


def test_a_missing_model_ends_with_one_line_and_code_2(desk, tmp_path, monkeypatch, capsys):
    pytest.importorskip("transformers")
    translators.load.cache_clear()
    monkeypatch.setattr(
        "sys.argv", ["photodesk", "prepare", "--articles", str(desk), "-p", f"translate=marian:{tmp_path}/no-de-en"]
    )
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    assert "put config.json, source.spm" in capsys.readouterr().err.splitlines()[-1]


def test_help_teaches():
    done = run("--help")
    assert "photodesk prepare newsimages2021/ --show 5" in done.stdout
