"""A desk from the outside: every answer beside what was put into a small archive, whose right answers are known."""

from __future__ import annotations

import pytest

from doubles import echo
from photodesk.archive import Archive
from photodesk.asking import Question
from photodesk.desk import Desk
from photodesk.files import digest
from photodesk.index.schema import Entry, Point
from photodesk.ledger import File
from photodesk.records import Article

pytest.importorskip("qdrant_edge")
WORDS = [
    f"{thing} {place}" for thing in ("Flut", "Brand", "Markt") for place in ("Elbe", "Wien", "Ulm", "Rom", "Bern", "Graz", "Linz", "Kiel")
]


def name(word):
    return digest(word.encode()).hex()


def put(archive, word, row=None, **entry):
    """A photo that `word` is the right headline for."""
    row = echo().texts.encode([word])[0] if row is None else row
    known = {"group": name(word), "width": 300, "height": 200} | entry
    point = Point(name(word), row, Entry(**known), float(archive.numbers(row[None])[0]))
    file = File(f"/photos/{name(word)}.jpg", name(word), "/photos", 1, 1)
    archive.put([point], [file], prints=[0], thumbnails=[b"none"])


@pytest.fixture
def archive(tmp_path):
    with Archive.create(tmp_path / "desk", echo(), engine="flat:index") as made:
        for i, word in enumerate(WORDS):
            put(made, word, credit="ab"[i % 2], taken=f"2024-{1 + i % 12:02}-01T00:00:00")
        yield made


@pytest.fixture
def desk(archive):
    return Desk(archive, echo())


def ask(desk, title="", **more):
    return desk.ask(Question(Article("", title) if title else None, **more))


def ids(answer):
    return [hit.photo for hit in answer.hits]


@pytest.mark.parametrize("word", WORDS[::5])
def test_the_photo_of_a_headline_is_first_and_the_order_is_that_of_the_cosine(desk, archive, word):
    answer = ask(desk, word, top=24)
    query = echo().texts.encode([word])[0]
    rows = {name(w): echo().texts.encode([w])[0] for w in WORDS}
    assert ids(answer) == sorted(rows, key=lambda photo: (-float(rows[photo] @ query), photo))
    assert answer.hits[0].photo == name(word)
    assert [hit.score for hit in answer.hits] == sorted((hit.score for hit in answer.hits), reverse=True)
    assert all(hit.score == pytest.approx(sum(hit.components.values()), abs=1e-5) for hit in answer.hits)
    assert all(0 <= hit.probability <= 1 for hit in answer.hits)
