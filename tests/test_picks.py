"""Picks as a data set that `train` reads: the right texts beside the right pictures, whatever became of the files."""

from __future__ import annotations

import json

import pytest

import webdesk
from photodesk import datasets, picks
from photodesk.archive import Archive
from photodesk.daybook import Pick
from photodesk.errors import StoreError, UsageError
from photodesk.files import digest
from photodesk.photos import load, phash
from photodesk.records import Article

ROM = Article("a1", "Rom, am Abend", "Ein Lead", 'Text mit "Anführung",\nKomma und Zeile')
ULM = Article("a2", "Ulm")


@pytest.fixture
def desk(tmp_path):
    ids = webdesk.build(tmp_path, ["Rom", "Ulm", "Bonn"])
    with Archive.open(tmp_path / "desk") as archive:
        yield archive, ids


def pick(archive, article, photo, rank=1, at="2026-01-01T00:00:00Z"):
    archive.daybook.pick(Pick(article, photo, rank, 0.5, at))


def test_the_export_is_a_data_set_with_these_pairs(desk, tmp_path):
    archive, ids = desk
    pick(archive, ROM, ids["Rom"])
    pick(archive, ULM, ids["Ulm"], 7)
    pick(archive, ROM, ids["Bonn"], 2, "2026-01-03T00:00:00Z")
    pick(archive, ROM, ids["Rom"], 3, "2026-01-02T00:00:00Z")
    assert picks.export(archive, tmp_path / "out") == (3, [])
    read = datasets.read(tmp_path / "out")
    assert read.faults == ()
    assert {(pair.article, pair.photo) for pair in read.pairs} == {("a1", ids["Rom"]), ("a1", ids["Bonn"]), ("a2", ids["Ulm"])}
    found = {article.id: article for article in read.articles}
    assert (found["a1"].title, found["a1"].lead) == (ROM.title, ROM.lead)
    assert " ".join(found["a1"].text.split()) == " ".join(ROM.text.split())
    for photo in read.photos:
        assert digest(photo.path.read_bytes()).hex() == photo.id
    lines = [json.loads(line) for line in picks.lines(archive)]
    assert [(line["id"], line["photo"], line["rank"]) for line in lines] == [
        ("a2", ids["Ulm"], 7),
        ("a1", ids["Rom"], 3),
        ("a1", ids["Bonn"], 2),
    ], "a photo that was picked twice for an article stands once, with the later time"


def test_a_picture_that_is_gone_is_named_and_its_thumbnail_stands_in(desk, tmp_path):
    archive, ids = desk
    pick(archive, ROM, ids["Rom"])
    pick(archive, ULM, ids["Ulm"])
    pick(archive, ULM, ids["Bonn"])
    before = phash(load(tmp_path / "photos/Rom.png"))
    (tmp_path / "photos/Rom.png").write_bytes((tmp_path / "photos/Ulm.png").read_bytes())  # another picture under its name
    (tmp_path / "photos/Bonn.png").unlink()
    archive.thumbnail(ids["Bonn"]).unlink()
    count, faults = picks.export(archive, tmp_path / "out")
    assert count == 2
    assert [(fault.where, fault.fate) for fault in faults] == [(ids["Rom"], "kept"), (ids["Bonn"], "left out")]
    read = datasets.read(tmp_path / "out")
    (rom,) = [photo for photo in read.photos if photo.id == ids["Rom"]]
    assert (phash(load(rom.path)) ^ before).bit_count() <= 10
    assert {pair.photo for pair in read.pairs} == {ids["Rom"], ids["Ulm"]}


def test_nothing_is_overwritten_and_nothing_picked_is_said(desk, tmp_path):
    archive, ids = desk
    with pytest.raises(StoreError, match="nobody has picked"):
        picks.export(archive, tmp_path / "out")
    pick(archive, ROM, ids["Rom"])
    with pytest.raises(UsageError, match="is not empty"):
        picks.export(archive, tmp_path / "photos")
