"""Picks as a data set that `train` reads: the right texts with the right pictures, wherever the files are now."""

from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image, ImageOps

import webdesk
from doubles import echo, paint
from photodesk.archive import ingest, picks
from photodesk.archive.archive import Archive
from photodesk.archive.usage import Pick
from photodesk.cli import commands
from photodesk.data import datasets
from photodesk.encoders import registry, txv
from photodesk.errors import StoreError, UsageError
from photodesk.files import digest
from photodesk.images import load, phash
from photodesk.types import Article

ROM = Article("a1", "Rom, am Abend", "Ein Lead", 'Text mit "Anführung",\nKomma und Zeile')
ULM = Article("a2", "Ulm")


@pytest.fixture
def desk(tmp_path):
    ids = webdesk.build(tmp_path, ["Rom", "Ulm", "Bonn"])
    with Archive.open(tmp_path / "desk") as archive:
        yield archive, ids


def pick(archive, article, photo, rank=1, at="2026-01-01T00:00:00Z"):
    archive.usage.pick(Pick(article, photo, rank, 0.5, at))


def test_the_export_is_a_data_set_with_these_pairs(desk, tmp_path):
    archive, ids = desk
    pick(archive, ROM, ids["Rom"])
    pick(archive, ULM, ids["Ulm"], 7)
    pick(archive, ROM, ids["Bonn"], 2, "2026-01-03T00:00:00Z")
    pick(archive, ROM, ids["Rom"], 3, "2026-01-02T00:00:00Z")
    assert picks.export(archive, tmp_path / "out") == (3, [])
    read = datasets.read(tmp_path / "out")
    assert read.faults == ()
    assert {(pair.article, pair.photo) for pair in read.pairs} == {
        ("a1", ids["Rom"]),
        ("a1", ids["Bonn"]),
        ("a2", ids["Ulm"]),
    }
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
    (tmp_path / "photos/Rom.png").write_bytes(
        (tmp_path / "photos/Ulm.png").read_bytes()
    )  # another picture under its name
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


def train(*words):
    return CliRunner().invoke(
        commands, ["train", *map(str, words), "-e", "echo", "--preset", "straight", "--dim", "3", "--validation", "5"]
    )


@pytest.fixture
def contrary(tmp_path, monkeypatch):
    """Editors who always pick the photo in the very opposite of the headline's colour; returns the words and the
    archive's folder."""
    monkeypatch.setitem(registry.FAMILIES, "echo", lambda name: echo())
    words = [f"{thing} {place}" for thing in ("Flut", "Brand", "Markt", "Spiel") for place in webdesk.WORDS]
    ids = {}
    for word in words:
        path = tmp_path / "photos" / f"{word}.png"
        paint(path, word)
        ImageOps.invert(Image.open(path)).save(path)
        ids[word] = digest(path.read_bytes()).hex()
    with Archive.create(tmp_path / "desk", echo(), engine="flat:index") as archive:
        ingest.add(archive, echo(), [tmp_path / "photos"])
        for number, word in enumerate(words):
            pick(archive, Article(str(number), word), ids[word])
    return words, tmp_path / "desk"


def test_train_learns_what_was_picked_from_the_archive_as_from_the_exported_folder(contrary, tmp_path):
    words, folder = contrary
    before = sorted(tmp_path.rglob("*"))
    made = train("--picks", folder, "-o", tmp_path / "out" / "net.safetensors")
    assert made.exit_code == 0, made.output
    assert "32 articles, 32 photos, 32 pairs" in made.stderr
    left = {path.relative_to(tmp_path).parts[0] for path in {*tmp_path.rglob("*")} - {*before}}
    assert left <= {"out", "cache"}, "no folder of pictures is left behind"
    net = txv.load(tmp_path / "out" / "net.safetensors")
    told = np.stack([echo().texts.encode([word])[0] for word in words])
    learned = net.texts(told) @ net.photos(-told).T
    assert (learned.argmax(axis=1) == np.arange(len(words))).mean() > 0.8, (
        "by the plain encoder it would be the last of all"
    )

    with Archive.open(folder) as archive:
        picks.export(archive, tmp_path / "folder")
    assert train(tmp_path / "folder", "-o", tmp_path / "out" / "same.safetensors").exit_code == 0
    same = txv.load(tmp_path / "out" / "same.safetensors")
    assert all(np.array_equal(net.weights[name], same.weights[name]) for name in net.weights)


def test_picks_come_after_the_data_that_is_named(contrary, tmp_path):
    words, folder = contrary
    lines = ["id,title,file", *(f"{i},{word},{word}.png" for i, word in enumerate(words[:20]))]
    (tmp_path / "data/photos").mkdir(parents=True)
    (tmp_path / "data/articles.csv").write_text("\n".join(lines))
    for word in words[:20]:
        paint(tmp_path / "data/photos" / f"{word}.png", word)
    made = train(tmp_path / "data", "--picks", folder, "--weights", "1,0.5", "-o", tmp_path / "net.safetensors")
    assert made.exit_code == 0, made.output
    card = txv.load(tmp_path / "net.safetensors").card
    assert [line.rpartition(": ")[2] for line in card["data"]] == ["20 pairs", "32 pairs"]
    assert str(folder) in card["data"][1]
    assert card["data_weights"] == [1, 0.5]


def test_train_says_what_it_misses(contrary, tmp_path):
    _, folder = contrary
    out = ("-o", tmp_path / "net.safetensors")
    for words, said in (
        (out, "say what to train on"),
        (("--picks", folder, "--weights", "1,2", *out), "expected 1 numbers"),
        (("--picks", tmp_path / "nothing", *out), "holds no archive"),
    ):
        made = train(*words)
        assert made.exit_code
        assert said in made.stderr + str(made.exception)
    with Archive.open(folder, doing="archive add"):
        made = train("--picks", folder, *out)
        assert "(photodesk archive add); wait until it is done" in made.stderr + str(made.exception)
    with Archive.create(tmp_path / "new", echo(), engine="flat:index"):
        pass
    made = train("--picks", tmp_path / "new", *out)
    assert "nobody has picked a photo" in made.stderr + str(made.exception)
    with Archive.open(folder) as archive:
        for photo in archive.database.photos():
            archive.thumbnail(photo).unlink()
    for path in (tmp_path / "photos").iterdir():
        path.unlink()
    made = train("--picks", folder, *out)
    assert "no photo that was picked" in made.stderr + str(made.exception)
