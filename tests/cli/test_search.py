"""`search` in the terminal: its JSON is that of the API, with and without a server; what cannot be is refused."""

from __future__ import annotations

import datetime
import json
from dataclasses import asdict
from pathlib import Path

import pytest
from click.testing import CliRunner

import webdesk
from doubles import echo, paint, twin
from photodesk.archive import ingest
from photodesk.archive.archive import Archive
from photodesk.cli import commands
from photodesk.errors import StoreError, UsageError
from photodesk.search import schema
from photodesk.search.desk import Desk

TERMS = "Sperrfrist: 12. Mai, 18 Uhr"
TODAY = datetime.datetime.now(datetime.UTC).date().isoformat()

# what is typed, and the same as the API is asked
ASKED = [
    (["Rom"], {"headline": "Rom"}),
    (["Rom", "--lead", "Am Tiber"], {"headline": "Rom", "lead": "Am Tiber"}),
    (["Rom", "--words", "Köln", "--top", "3"], {"headline": "Rom", "words": "Köln", "top": 3}),
    (["Rom", "--no-fold", "--diverse"], {"headline": "Rom", "fold": False, "diverse": True}),
    (["Rom", "--used-days", "30"], {"headline": "Rom", "used_days": 30}),
    (["Rom", "--used-days", "30", "--hide-used"], {"headline": "Rom", "used_days": 30, "used": "hide"}),
    (
        ["Rom", "--since", "2024-05-02", "--until", "2024-05-05", "--phrase", "Bild von"],
        {"headline": "Rom", "since": "2024-05-02", "until": "2024-05-05", "phrase": "Bild von"},
    ),
    (
        ["Rom", "--credit", "dpa", "--keyword", "Stadt", "--orientation", "landscape", "--min-width", "300"],
        {"headline": "Rom", "credit": ["dpa"], "keywords": ["Stadt"], "orientation": ["landscape"], "min_width": 300},
    ),
    (["Rom", "--terms", TERMS], {"headline": "Rom", "terms": [TERMS]}),
    (["Rom", "--credit", "dpb"], {"headline": "Rom", "credit": ["dpb"]}),
    (["Rom", "--credit", "DPA"], {"headline": "Rom", "credit": ["DPA"]}),
    (["Rom", "--since", "2024", "--until", "5.2024"], {"headline": "Rom", "since": "2024", "until": "5.2024"}),
    (["Rom", "--file", "AGENCY/held", "--no-fold"], {"headline": "Rom", "file": "AGENCY/held", "fold": False}),
    (["Rom", "--without", "Wien", "--without", "Ulm"], {"headline": "Rom", "without": ["Wien", "Ulm"]}),
    (
        ["Rom", "--person", "Anna", "--label", "Rot", "--rating", "3", "--urgency", "4", "--provider", "dpa"],
        {
            "people": ["Anna"],
            "label": ["Rot"],
            "min_rating": 3,
            "max_urgency": 4,
            "provider": ["dpa"],
            "headline": "Rom",
        },
    ),
]


def call(*words):
    return CliRunner().invoke(commands, [*map(str, words)])


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    """An archive with captions, terms, near-duplicates and uses, closed; and the id of the photo of Rome."""
    folder = tmp_path_factory.mktemp("shelf")
    photos = webdesk.build(folder)
    (folder / "photos/agency").mkdir()
    twin(folder / "photos/agency/held.png", folder / "photos/Rom.png", (40, 30), terms=TERMS, credit="KNA")
    with Archive.open(folder / "desk") as archive:
        ingest.add(archive, echo(), [folder / "photos"])
        archive.usage.use([photos["Köln"]], TODAY)
    return folder / "desk", photos["Rom"]


@pytest.fixture(autouse=True)
def model(monkeypatch):
    monkeypatch.setattr("photodesk.encoders.registry.load", lambda name="echo": echo())


def searched(shelf, words, *more):
    done = call("search", shelf, *words, *(() if "--top" in words else ("--top", "60")), "--json", *more)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def paths(value, at=""):
    """The path of every key, with what lies there unless that is an object or a list."""
    if isinstance(value, dict):
        return {path: one for key, inner in value.items() for path, one in paths(inner, f"{at}.{key}").items()}
    if isinstance(value, list) and value:
        return {path: one for i, inner in enumerate(value) for path, one in paths(inner, f"{at}[{i}]").items()}
    return {at: value}


def test_the_archive_of_these_tests_has_all_there_is_to_say(shelf):
    folder, rome = shelf
    hits = searched(folder, ["Rom", "--used-days", "30"])["hits"]
    assert hits[0]["photo"] == rome
    assert hits[0]["about"]["terms"] == TERMS
    assert [Path(one["file"]).name for one in hits[0]["similar"]] == ["held.png"]
    assert {hit["used"] for hit in hits} == {"", TODAY}
    assert all("Bild von" in hit["about"]["caption"] for hit in hits)
    assert (hits[0]["embargo"], hits[0]["embargoed"], hits[1]["embargo"]) == ("unknown", True, "")
    assert "EMBARGO, end unknown · terms: " in call("search", folder, "Rom").stdout.splitlines()[0]
    found = searched(folder, ["Rom", "--file", "AGENCY/held", "--no-fold"])["hits"]
    assert [one["about"]["source"] for one in found] == ["agency/held.png"]
    assert searched(folder, ["Rom", "--credit", "dpb"])["near"] == [["credit", "dpb", {"dpa": 4}]]


@pytest.mark.parametrize(("words", "query"), ASKED, ids=[" ".join(words) for words, _ in ASKED])
def test_the_json_of_the_terminal_is_that_of_the_api(shelf, words, query):
    pytest.importorskip("fastapi")
    from fastapi.testclient import TestClient

    from photodesk.web import create_app

    folder, _ = shelf
    own = searched(folder, words)
    why = searched(folder, words, "--why", "1").get("why")
    with Archive.open(folder, doing="serve") as archive:
        app = create_app(Desk(archive, echo()), key="key")
        with TestClient(app, base_url="http://localhost", headers={"authorization": "Bearer key"}) as web:
            answer = web.post("/api/search", json=query).json()
            assert paths(answer) == paths(own)
            if own["hits"]:
                sent = {"query": query, "photo": own["hits"][0]["photo"]}
                assert paths(web.post("/api/why", json=sent).json()) == paths(why)
            described = web.get("/openapi.json").json()["components"]["schemas"]
    assert own.keys() == described["Answer"]["properties"].keys()
    for hit in own["hits"]:
        assert hit.keys() == described["Hit"]["properties"].keys()
        assert hit["about"].keys() == described["Entry"]["properties"].keys()
        assert all(one.keys() == described["Known"]["properties"].keys() for one in hit["similar"])


def test_a_server_that_holds_the_archive_changes_nothing_of_the_json(shelf, tmp_path):
    pytest.importorskip("fastapi")
    pytest.importorskip("uvicorn")
    from browser import serving
    from photodesk.web import create_app

    folder, rome = shelf
    paint(tmp_path / "outside.png", "Ulm")
    asked = [*(words for words, _ in ASKED), ["--like", rome]]
    alone = [searched(folder, words, "--why", "1") for words in asked]
    outside = searched(folder, ["--like", str(tmp_path / "outside.png")])
    with Archive.open(folder, doing="serve") as archive, serving(create_app(Desk(archive, echo()), key="key")) as url:
        archive.serves(url, "key")
        for words, own in zip(asked, alone, strict=True):
            assert paths(searched(folder, words, "--why", "1")) == paths(own)
        # the picture goes there as JPEG, so scores differ in their last digits
        served = searched(folder, ["--like", str(tmp_path / "outside.png")])
    assert paths(served).keys() == paths(outside).keys()


def test_what_was_written_is_read_back(shelf):
    with Archive.open(shelf[0]) as archive:
        desk = Desk(archive, echo())
        question = schema.Query(draft="Rom", used_days=30).question()
        found = desk.ask(question)
        for made in (
            schema.answer(found, archive.path),
            schema.why(desk.why(question, found.hits[0].photo), archive.path),
        ):
            assert schema.read(type(made), json.loads(json.dumps(asdict(made)))) == made
    with pytest.raises(TypeError):
        schema.read(schema.Answer, {"hits": []})


def test_an_index_answers_in_the_same_keys(tmp_path, shelf, monkeypatch):
    monkeypatch.setenv("PHOTODESK_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    paint(tmp_path / "pictures/Rom.png", "Rom")
    assert call("index", "pictures", "-o", "index").exit_code == 0
    (hit,) = searched("index", ["Rom"])["hits"]
    assert hit == {"rank": 1, "score": pytest.approx(1), "photo": "Rom.png", "file": str(tmp_path / "pictures/Rom.png")}
    assert hit.keys() < searched(shelf[0], ["Rom"])["hits"][0].keys()


def test_files_are_absolute_also_of_folders_that_were_named_from_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    paint(tmp_path / "pictures/Rom.png", "Rom")
    assert call("archive", "init", "desk", "--engine", "flat:index").exit_code == 0
    assert call("archive", "add", "desk", "pictures").exit_code == 0
    (hit,) = searched("desk", ["Rom"])["hits"]
    assert hit["file"] == str(tmp_path / "pictures/Rom.png")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["Rom", "--why", "5", "--top", "2"], "--why 5: an answer of --top 2 has no such rank"),
        (["Rom", "--language", "xx"], "--language xx is for a translator"),
        (["Rom", "--since", "2024-02-30"], "'2024-02-30' is no day"),
        (["Rom", "--since", "28.11."], "'28.11.' is no day: it has no year"),
        (["Rom", "--person", ""], "people: an empty value"),
        (["Rom", "--phrase", "…"], "no letter and no digit"),
        (["Rom", "--credit", ""], "credit: an empty value"),
    ],
)
def test_what_cannot_be_is_refused(shelf, words, said):
    error = call("search", shelf[0], *words).exception
    assert isinstance(error, UsageError)
    assert said in str(error)


def test_a_rank_that_the_answer_does_not_reach_is_said(shelf):
    done = call("search", shelf[0], "Rom", "--credit", "KNA", "--why", 4)
    assert done.exit_code == 0
    assert "--why 4: the answer has 1 photo\n" in done.stderr


def test_an_index_is_not_written_among_the_pictures_and_nothing_is_encoded_before_that_is_said(tmp_path, monkeypatch):
    paint(tmp_path / "pictures/Rom.png", "Rom")
    monkeypatch.setattr("photodesk.features.pipeline.encode", lambda *_: pytest.fail("it was encoded"))
    (tmp_path / "file").write_text("x")
    for place, said in (("pictures", "holds no index; name a new folder"), ("file", "is a file")):
        error = call("index", tmp_path / "pictures", "-o", tmp_path / place).exception
        assert isinstance(error, StoreError)
        assert said in str(error)
    assert [path.name for path in (tmp_path / "pictures").iterdir()] == ["Rom.png"]
