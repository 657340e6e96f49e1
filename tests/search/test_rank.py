"""The main job with encoders whose answers are known."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner

from doubles import constant, desk, echo, paint
from photodesk.cli import commands
from photodesk.data import datasets
from photodesk.encoders import concatenated
from photodesk.encoders.base import Encoder
from photodesk.errors import DataError, RunError, StoreError, UsageError
from photodesk.evaluation import run_files
from photodesk.evaluation.evaluate import evaluate
from photodesk.features.store import Store
from photodesk.ranking.revisions import nnn
from photodesk.search.flat_index import FlatIndex, Searcher, build_index, revise_index
from photodesk.search.rank import rank
from photodesk.text.preparation import Preparation
from photodesk.types import Article

WORDS = ["Sea", "Wood", "Sun", "Moon", "Rain", "Schnee", "Sand", "Wüste", "Fire", "Stone", "Bread", "Glass"]


def test_an_encoder_that_echoes_finds_every_photo(tmp_path):
    data = datasets.read(desk(tmp_path / "data", WORDS))
    run, faults = rank(data, echo(), store=Store(tmp_path / "cache"))
    assert faults == ()
    report = evaluate(run, data.pairs)
    assert report.means["R@1"] == 1.0
    assert report.means["MRR@100"] == 1.0


def test_an_encoder_that_knows_nothing_is_right_once_in_m(tmp_path):
    data = datasets.read(desk(tmp_path / "data", WORDS))
    run, _ = rank(data, constant(), store=Store(tmp_path / "cache"))
    assert evaluate(run, data.pairs).means["R@1"] == pytest.approx(1 / len(WORDS))
    assert [hit.photo for hit in run["1"]] == sorted(photo.id for photo in data.photos)


def test_the_second_time_encodes_nothing_and_writes_the_same_bytes(tmp_path):
    data, encoder = datasets.read(desk(tmp_path / "data", WORDS)), echo()
    written = []
    for name in ("a.tsv", "b.tsv"):
        run, _ = rank(data, encoder, store=Store(tmp_path / "cache"))
        run_files.write(run, tmp_path / name)
        written.append((tmp_path / name).read_bytes())
    assert written[0] == written[1]
    assert encoder.photos.seen == len(WORDS)


def test_articles_without_text_and_broken_photos_are_named_and_the_rest_is_ranked(tmp_path):
    folder = desk(tmp_path / "data", WORDS)
    data = datasets.read(folder)
    broken = data.photos[4].path
    broken.write_bytes(b"")
    table = folder / "newsarticles.csv"
    table.write_text(table.read_text("utf-8").replace('"Moon",', ","), "utf-8")
    data = datasets.read(folder)
    run, faults = rank(data, echo(), store=Store(tmp_path / "cache"))
    assert any("newsarticles.csv:5" in fault.where for fault in data.faults)
    assert [fault.where for fault in faults] == [str(broken)]
    right = {pair.article: pair.photo for pair in data.pairs}
    for article in run:
        if right[article] != broken.stem:
            assert run[article][0].photo == right[article]


def test_a_data_set_without_photos_is_refused(tmp_path):
    folder = desk(tmp_path / "data", ["Sea"])
    for path in (folder / "newsimages").iterdir():
        path.unlink()
    with pytest.raises(DataError, match="no photo to rank"):
        rank(datasets.read(folder), echo(), store=Store(tmp_path / "cache"))


def test_no_verb_writes_to_its_arguments(tmp_path):
    run, _ = rank(datasets.read(desk(tmp_path / "data", WORDS)), echo(), store=Store(tmp_path / "cache"))
    with pytest.raises(TypeError):
        run.hits["1"] = ()


def index_of(tmp_path, words=WORDS, name="index"):
    for word in words:
        paint(tmp_path / "photos" / f"{word}.png", word)
    return build_index(tmp_path / "photos", tmp_path / name, echo(), store=Store(tmp_path / "cache"))


def test_one_article_gets_what_the_batch_gives_it(tmp_path):
    index, faults = index_of(tmp_path)
    assert faults == ()
    searcher = Searcher(FlatIndex.open(tmp_path / "index"), echo())
    data = datasets.read(desk(tmp_path / "data", WORDS))
    run, _ = rank(data, echo(), store=Store(tmp_path / "cache"))
    for word, article in zip(WORDS, data.articles, strict=True):
        hits = searcher.search(word, top=5)
        assert hits[0].photo == f"{word}.png"
        assert [hit.score for hit in hits] == pytest.approx([hit.score for hit in run[article.id][:5]], abs=1e-6)
    assert index.paths["Sea.png"] == (tmp_path / "photos" / "Sea.png").resolve()


def test_one_article_is_read_by_the_fields_that_its_tower_reads(tmp_path):
    texts, photos = concatenated.towers([echo()], (("lead",),))
    encoder = Encoder("leads", texts, photos)
    for word in WORDS:
        paint(tmp_path / "photos" / f"{word}.png", word)
    index, _ = build_index(tmp_path / "photos", tmp_path / "index", encoder, store=Store(tmp_path / "cache"))
    for word in WORDS:
        assert Searcher(index, encoder).search(Article("1", "another", lead=word), top=1)[0].photo == f"{word}.png"


def test_an_index_made_again_replaces_the_old_one(tmp_path):
    index_of(tmp_path)
    (tmp_path / "photos" / "Sea.png").unlink()
    index_of(tmp_path, [*WORDS[1:], "New"])
    index = FlatIndex.open(tmp_path / "index")
    assert "Sea.png" not in index.paths
    assert "New.png" in index.paths
    assert len(list((tmp_path / "index").iterdir())) == 3


def test_an_index_of_another_encoder_is_refused_with_both_names(tmp_path):
    index_of(tmp_path)
    with pytest.raises(StoreError, match=r"echo-texts\+echo-photos.*constant"):
        Searcher(FlatIndex.open(tmp_path / "index"), constant())


def test_damaged_and_absent_indexes_are_named(tmp_path):
    with pytest.raises(StoreError, match="make one with"):
        FlatIndex.open(tmp_path / "nothing")
    index_of(tmp_path)
    rows = next((tmp_path / "index").glob("rows-*.npy"))
    whole = rows.read_bytes()
    rows.write_bytes(whole[:40])
    with pytest.raises(StoreError, match="damaged"):
        FlatIndex.open(tmp_path / "index")
    rows.unlink()
    with pytest.raises(StoreError, match="is missing"):
        FlatIndex.open(tmp_path / "index")


def test_a_folder_with_other_files_is_not_made_an_index(tmp_path):
    (tmp_path / "index").mkdir()
    (tmp_path / "index" / "thesis.txt").write_text("ten years of work")
    with pytest.raises(StoreError, match="not empty"):
        index_of(tmp_path)
    assert (tmp_path / "index" / "thesis.txt").read_text() == "ten years of work"


def test_an_empty_question_is_refused(tmp_path):
    index_of(tmp_path)
    with pytest.raises(UsageError, match="empty"):
        Searcher.open(tmp_path / "index", echo()).search("   ")


def call(*arguments):
    return CliRunner().invoke(commands, [str(a) for a in arguments])


def test_the_built_in_model_works_from_the_command_line(tmp_path, monkeypatch):
    """rank, evaluate, index and search on real code paths; the painted pictures mean nothing to it, so no quality is
    asked."""
    monkeypatch.setenv("PHOTODESK_CACHE", str(tmp_path / "cache"))
    folder = desk(tmp_path / "data", WORDS)
    for name in ("run.tsv", "again.tsv"):
        made = call("rank", folder, "--out", tmp_path / name, "--report", tmp_path / "report.html")
        assert made.exit_code == 0, made.output
    assert (tmp_path / "run.tsv").read_bytes() == (tmp_path / "again.tsv").read_bytes()
    assert "caution: builtin was trained on NewsImages 2025" in made.stderr
    assert (tmp_path / "report.html").read_text("utf-8").count("Wüste") >= 1
    measured = call("evaluate", folder, tmp_path / "run.tsv", "--json")
    assert measured.exit_code == 0, measured.output
    assert measured.stderr.startswith("NewsImages 2025 (newsarticles.csv: its columns are")
    assert 0 < json.loads(measured.stdout)["means"]["MRR@100"] <= 1
    assert call("index", folder / "newsimages", "-o", tmp_path / "index").exit_code == 0
    found = call("search", tmp_path / "index", "Wüste", "--top", "3", "--json")
    assert found.exit_code == 0, found.output
    hits = json.loads(found.stdout)["hits"]
    assert len(hits) == 3
    assert hits[0]["score"] >= hits[1]["score"] >= hits[2]["score"]
    run = run_files.read(tmp_path / "run.tsv")
    article = next(a.id for a in datasets.read(folder).articles if a.title == "Wüste")
    assert [hit.photo for hit in run[article][:3]] == [hit["photo"].removesuffix(".png") for hit in hits]


def test_no_table_of_ones_own_is_taken_for_training_data(tmp_path):
    """The shipped network saw a table in no known layout as well; that is no reason to warn of another one."""
    desk(tmp_path / "data", WORDS[:3])
    (tmp_path / "own.csv").write_text("id,headline\n1,Sea\n2,Wood\n", "utf-8")
    photos = tmp_path / "data" / "newsimages"
    made = call("rank", "--articles", tmp_path / "own.csv", "--photos", photos, "--out", tmp_path / "run.tsv")
    assert made.exit_code == 0, made.output
    assert "caution" not in made.stderr


def test_faults_end_with_1_and_wrong_calls_with_2(tmp_path, monkeypatch):
    monkeypatch.setenv("PHOTODESK_CACHE", str(tmp_path / "cache"))
    folder = desk(tmp_path / "data", WORDS[:3])
    next((folder / "newsimages").iterdir()).write_bytes(b"GIF89a")
    faulty = call("rank", folder, "--out", tmp_path / "run.tsv")
    assert faulty.exit_code == 1, faulty.output
    assert ".png" in faulty.stderr
    assert (tmp_path / "run.tsv").exists()
    assert call("rank", folder).exit_code == 2
    assert isinstance(call("rank", folder, "--out", tmp_path / "run.xls").exception, UsageError)


def test_rows_of_an_index_are_read_only(tmp_path):
    index, _ = index_of(tmp_path)
    with pytest.raises(ValueError, match="read-only"):
        index.embeddings.rows[0, 0] = 1
    assert np.isfinite(index.embeddings.rows).all()


@pytest.mark.parametrize(
    "revision", ["dual_softmax(temperature=0.05)", "nnn(k=2)", "dynamic_inverted_softmax", "cosine"]
)
def test_one_article_gets_what_rank_gives_it_with_the_same_bank(tmp_path, monkeypatch, revision):
    """`search` on an index with numbers, beside `rank --revise … --bank …`: same photos, same order, same scores."""
    monkeypatch.setenv("PHOTODESK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("photodesk.encoders.registry.load", lambda name="echo": echo())
    folder = desk(tmp_path / "data", WORDS)
    bank = desk(tmp_path / "bank", ["Salt", "Iron", "Milk", "Gold", "Sea"]) / "newsarticles.csv"
    made = call("rank", folder, "-o", tmp_path / "run.trec", "--revise", revision, "--bank", bank)
    assert made.exit_code == 0, made.output
    made = call("index", folder / "newsimages", "-o", tmp_path / "index", "--revise", revision, "--bank", bank)
    assert made.exit_code == 0, made.output
    run = run_files.read(tmp_path / "run.trec")
    differs = False
    for article in datasets.read(folder).articles:
        hits = json.loads(call("search", tmp_path / "index", article.title, "--top", "12", "--json").stdout)["hits"]
        assert [hit["photo"].removesuffix(".png") for hit in hits] == [hit.photo for hit in run[article.id]]
        assert [hit["score"] for hit in hits] == pytest.approx([hit.score for hit in run[article.id]], abs=1e-5)
        plain = json.loads(
            call("search", tmp_path / "index", article.title, "--top", "12", "--json", "--cosine").stdout
        )["hits"]
        differs |= plain != hits
    assert differs == (revision != "cosine")


def test_numbers_do_not_outlive_the_photos_that_they_belong_to(tmp_path):
    index, _ = index_of(tmp_path)
    bank = datasets.read(desk(tmp_path / "bank", ["Salt", "Iron"])).articles
    revise_index(index, bank, nnn(), echo(), store=Store(tmp_path / "cache"))
    index_of(tmp_path)
    assert Searcher.open(tmp_path / "index", echo()).numbers  # the same photos again
    paint(tmp_path / "photos" / "Sea.png", "Salt")  # another picture by the same name
    index_of(tmp_path, WORDS[1:])
    assert Searcher.open(tmp_path / "index", echo()).numbers is None
    assert len(list((tmp_path / "index").iterdir())) == 3


def test_numbers_from_texts_of_another_encoder_are_refused(tmp_path):
    index, _ = index_of(tmp_path)
    bank = datasets.read(desk(tmp_path / "bank", ["Salt", "Iron"])).articles
    revise_index(index, bank, nnn(), echo(), store=Store(tmp_path / "cache"))
    other = echo()
    other.texts.fingerprint = "other-texts"
    searcher = Searcher.open(tmp_path / "index", other)
    with pytest.raises(StoreError, match=r"nnn.*another encoder read"):
        searcher.search("Sea")
    assert searcher.search("Sea", revised=False)[0].photo == "Sea.png"
    index.numbers.write_bytes(b"")
    with pytest.raises(StoreError, match="compute them again"):
        Searcher.open(tmp_path / "index", echo())


def test_an_article_prepared_otherwise_than_the_bank_is_refused_with_both_names(tmp_path):
    index, _ = index_of(tmp_path)
    bank = datasets.read(desk(tmp_path / "bank", ["Salt", "Iron"])).articles
    revise_index(index, bank, nnn(), echo(), preparation=Preparation(max_words=1), store=Store(tmp_path / "cache"))
    searcher = Searcher.open(tmp_path / "index", echo())
    with pytest.raises(
        StoreError,
        match=r"bank prepared by Preparation\(fields=title, max_words=1\), and this article by .*fields=title\)",
    ):
        searcher.search("Sea", preparation=Preparation())
    assert (
        searcher.search("Sea", preparation=Preparation(max_words=1))
        == searcher.search("Sea")
        == searcher.search("Sea and more")
    )
    assert searcher.search("Sea", preparation=Preparation(), revised=False)[0].photo == "Sea.png"


def test_an_index_is_revised_with_a_bank_or_not_at_all(tmp_path):
    for options in (["--revise", "nnn"], ["--bank", "desk.csv"]):
        refused = call("index", tmp_path, "-o", tmp_path / "index", *options)
        assert isinstance(refused.exception, UsageError)
        assert "--revise" in str(refused.exception)


def test_towers_without_a_network_between_them_are_for_train_only(tmp_path):
    """Named at once, by whatever would compare a text with a photo, before anything is encoded."""
    towers, data = echo(), datasets.read(desk(tmp_path / "data", WORDS))
    build_index(tmp_path / "data" / "newsimages", tmp_path / "index", towers, store=Store(tmp_path / "cache"))
    towers.texts.dim = 6
    towers.photos.seen, towers.texts.seen = 0, []
    for verb in (
        lambda: rank(data, towers, store=Store(tmp_path / "other")),
        lambda: build_index(
            tmp_path / "data" / "newsimages", tmp_path / "index", towers, store=Store(tmp_path / "other")
        ),
        lambda: Searcher.open(tmp_path / "index", towers),
    ):
        with pytest.raises(
            UsageError, match=r"echo is for train only: it gives 6 numbers for a text and 3 for a photo; .* txv@FILE"
        ):
            verb()
    assert (towers.photos.seen, towers.texts.seen) == (0, [])


@pytest.mark.parametrize("command", ["rank", "index"])
def test_commands_refuse_an_encoder_for_train(tmp_path, command):
    data = desk(tmp_path / "data", WORDS)
    out = {
        "rank": [str(data), "--out", str(tmp_path / "run.tsv")],
        "index": [str(data / "newsimages"), "--out", str(tmp_path / "index")],
    }
    result = CliRunner().invoke(
        commands, [command, *out[command], "--encoder", "builtin:layers=8+12", "--cache", str(tmp_path / "c")]
    )
    assert isinstance(result.exception, UsageError)
    assert "for train only" in str(result.exception)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]


@pytest.mark.parametrize("mark", ["words", "words@8+12", "words[title+text|tags]"])
@pytest.mark.parametrize("network", [None, "net-1"])
def test_an_index_is_read_by_whoever_has_its_photo_tower_and_network(mark, network):
    """Whatever signs the fingerprint of the text tower holds; and by nobody else."""

    def made(texts="texts", photos="photos", network=network):
        encoder = echo()
        encoder.texts.fingerprint, encoder.photos.fingerprint = texts, photos
        return replace(encoder, network=network and SimpleNamespace(fingerprint=network))

    ours = made()
    assert ours.reads(made(mark).fingerprint)
    assert made(mark).reads(ours.fingerprint)
    assert not made(mark).reads(made(mark, network="net-2").fingerprint)
    assert not made(mark, network="net-2").reads(made(mark).fingerprint)
    assert not made(mark).reads(made(mark, "other").fingerprint)


def test_names_that_a_run_cannot_hold_are_said_before_the_work(tmp_path, monkeypatch):
    for name in ("ok.png", "two\nlines.png", "mit leer.png"):
        paint(tmp_path / "pics" / name, name)
    (tmp_path / "a.csv").write_text("id,title,image\n1,Flut,ok\n")
    words = ["--articles", str(tmp_path / "a.csv"), "--photos", str(tmp_path / "pics"), "--cache", str(tmp_path / "c")]
    result = CliRunner().invoke(commands, ["rank", *words, "--out", str(tmp_path / "r.tsv")])
    assert result.exit_code == 1
    said = result.stderr.splitlines()
    at = next(i for i, line in enumerate(said) if "holds a control character: two\\nlines.png" in line)
    assert at < next(i for i, line in enumerate(said) if "articles ranked into" in line)
    assert {hit.photo for hit in run_files.read(tmp_path / "r.tsv")["1"]} == {"ok", "mit leer"}
    monkeypatch.setattr("photodesk.search.rank.rank", None)  # the work would fail
    result = CliRunner().invoke(commands, ["rank", *words, "--out", str(tmp_path / "r.trec")])
    assert isinstance(result.exception, RunError)
    assert "'mit leer' cannot stand in this run file: it has to be one word" in str(result.exception)


def test_an_index_of_a_folder_whose_name_is_not_utf8_is_written_and_found(tmp_path):
    folder = tmp_path / os.fsdecode(b"l\xe4nder")
    paint(folder / "ok.png", "ok")
    made, faults = build_index(folder, tmp_path / "i.index", echo(), store=Store(tmp_path / "c"))
    assert (len(made), faults) == (1, ())
    assert FlatIndex.open(tmp_path / "i.index").paths == {"ok.png": folder / "ok.png"}
