"""Explanations beside models whose reasons are known, and the built-in model on photographs that anybody has."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from photodesk.archive import ingest
from photodesk.archive.archive import Archive
from photodesk.encoders import cancellation, registry
from photodesk.encoders.base import Encoder, PhotoTower, TextTower
from photodesk.errors import UsageError
from photodesk.search import explain, query
from photodesk.search.desk import Desk
from photodesk.search.query import COMPONENTS, Question
from photodesk.types import Article

pytest.importorskip("qdrant_edge")
REASONS = ("red", "green", "blue")


class Colours(TextTower, PhotoTower):
    """A text is what colours it names, a photo how much of each it has: every part of a score can be counted by
    hand."""

    fingerprint, dim, batch, context, size = "colours", 4, 8, 0, 60

    def encode(self, batch):
        if isinstance(batch, np.ndarray):
            rows = batch.reshape(len(batch), -1, 3).mean(axis=1) / 255
            rows = np.column_stack([rows, np.full(len(rows), 0.2)])
        else:
            rows = np.array([[*(text.split().count(word) for word in REASONS), 0.2] for text in batch])
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)

    def prepare(self, photo):
        return np.asarray(photo.resize((60, 60), Image.Resampling.BOX), np.float32)

    def tokens(self, text):
        return text.split()


def colours():
    return Encoder("colours", Colours(), Colours())


def flag(path, left, right):
    path.parent.mkdir(exist_ok=True)
    noise = np.random.default_rng(len(str(path))).integers(0, 8, (240, 240, 3))
    picture = np.where(np.arange(240)[None, :, None] < 60, left, right) + noise
    Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8)).save(path)


@pytest.fixture
def desk(tmp_path):
    for i, (left, right) in enumerate(
        [((240, 0, 0), (0, 0, 0)), ((0, 240, 0), (0, 0, 120)), ((0, 0, 240), (90, 90, 90))]
    ):
        flag(tmp_path / "photos" / f"{'abc'[: i + 1]}.png", left, right)
    with Archive.create(tmp_path / "desk", colours(), engine="flat:index") as archive:
        ingest.add(archive, colours(), [tmp_path / "photos"])
        yield Desk(archive, colours())


def red(desk):
    return desk.ask(Question(Article("", "red"))).hits[0].photo


def test_the_fall_of_a_word_is_what_searching_without_it_gives(desk):
    photo, words = red(desk), ["the", "red", "and", "green", "town"]
    question = Question(Article("", " ".join(words)))
    reason = desk.why(question, photo)
    assert [word for word, _ in reason.words] == words
    for i, (_, fall) in enumerate(reason.words):
        rest = desk.found(Question(Article("", " ".join(words[:i] + words[i + 1 :]))), photo)[0].score
        assert fall == pytest.approx(desk.found(question, photo)[0].score - rest, abs=1e-4)
    falls = dict(reason.words)
    assert max(falls, key=falls.get) == "red"
    assert falls["green"] < 0
    assert falls["the"] == pytest.approx(0, abs=1e-4)


def test_the_last_word_takes_all_there_is(desk):
    photo = red(desk)
    ((word, fall),) = desk.why(Question(Article("", "red")), photo).words
    assert (word, fall) == ("red", pytest.approx(desk.found(Question(Article("", "red")), photo)[0].score, abs=1e-5))


def article(length, at, words="The town waits, the river rises, nobody sleeps."):
    """A body of sentences of about that many characters, one of which has a word that counts."""
    body, said = "", "Then, says the mayor, red is all there is, nobody knows why."
    while len(body) < length:
        body += (said if len(body) >= at and said not in body else words) + " "
    return body.strip()


class Counting:
    """How many characters of text are read."""

    def __init__(self, desk, monkeypatch):
        self.read, tower = 0, desk.encoder.texts
        inner = tower.encode

        def encode(batch):
            self.read += 0 if isinstance(batch, np.ndarray) else sum(map(len, batch))
            return inner(batch)

        monkeypatch.setattr(tower, "encode", encode)


@pytest.mark.parametrize(
    "asked",
    [
        Article("", "a town", "", article(1900, 900)),
        Article("", article(1900, 900)),
        Article("", " ".join(["town"] * 200 + ["red"] + ["town"] * 190)),
        Article("", "", "", "A. " * 300 + "Now red then. " + "A. " * 300),
    ],
    ids=["body", "headline", "without a point", "short sentences"],
)
def test_up_to_the_limit_the_word_that_counts_is_found_for_a_bounded_price(desk, monkeypatch, asked):
    photo = red(desk)
    every = f"{asked.title} {asked.text}".split()
    counting = Counting(desk, monkeypatch)
    reason = desk.why(Question(asked), photo)
    assert counting.read <= explain.COST + 3 * explain.EXPLAINED, "the variants, and the text itself in parts"
    assert " ".join(words for words, _ in reason.words).split() == every, "nothing is left away"
    assert reason.whole
    top = max(reason.words, key=lambda pair: pair[1])[0]
    assert "red" in top
    assert len(top.split()) <= 8, "not only the sentence"
    assert sum(len(words.split()) > 20 for words, _ in reason.words) == 0, "every passage was looked into"


def test_of_longer_texts_the_passages_that_count_most_are_looked_into(desk, monkeypatch):
    photo = red(desk)
    counting = Counting(desk, monkeypatch)
    asked = Article("", "a town", "", article(15_000, 11_000))
    reason = desk.why(Question(asked), photo)
    assert counting.read <= explain.COST + 3 * len(asked.text)
    assert not reason.whole
    falls = dict(reason.words)
    assert max(falls, key=falls.get) == "red"
    assert " ".join(words for words, _ in reason.words).split() == f"a town {asked.text}".split()


def test_an_article_is_read_up_to_a_length_and_the_answer_says_so(desk, monkeypatch):
    counting = Counting(desk, monkeypatch)
    long = desk.ask(Question(Article("", "red", "", "town " * 90_000)))
    assert counting.read <= query.READ
    assert f"{query.READ:,} characters" in long.message
    assert "characters" not in desk.ask(Question(Article("", "red"))).message
    whole = Article("", "red " * 30_000)
    assert query.beginning(whole).title == " ".join(["red"] * (query.READ // 4))
    assert query.beginning(short := Article("", "a", "b", "c")) == short


def test_work_that_nobody_waits_for_ends_at_the_next_batch(desk, monkeypatch):
    photo, question = red(desk), Question(Article("", "", "", article(1900, 900)))
    counting = Counting(desk, monkeypatch)
    with cancellation.until(lambda: counting.read > 3000), pytest.raises(cancellation.Cancelled):
        desk.why(question, photo)
    assert counting.read < explain.COST / 2
    assert desk.why(question, photo).words, "outside of it all goes on"


def test_what_a_caption_shares_with_the_article_is_the_share_of_these_words(desk, tmp_path):
    photo = red(desk)
    entry = desk.archive.engine.get([photo])[0].entry
    desk.archive.engine.describe({photo: replace(entry, caption="Wimmelburg")})
    reason = desk.why(Question(Article("", "red Wimmelburg")), photo)
    falls = dict(reason.words)
    assert reason.shares["names"] > 0
    assert falls["Wimmelburg"] == pytest.approx(reason.found.components["names"], abs=1e-4)


def test_the_heat_is_where_the_colour_is_and_equals_covering_by_hand(desk):
    photo = red(desk)
    question = Question(Article("", "red"))
    heat = desk.why(question, photo).heat
    assert heat.shape == (explain.GRID, explain.GRID)
    assert heat[:, 0].min() > heat[:, 1:].max()
    image = explain.picture(desk, photo)
    asked = desk.found(question, photo)[1]
    rows = np.stack([desk.reader.photo(image), desk.reader.photo(explain.cover(image, [(1, 0)]))])
    whole, covered = desk.scores(asked, rows, np.zeros(2, np.float32))["visual"]
    assert heat[1, 0] == pytest.approx(whole - covered, abs=1e-4)


def test_a_cell_is_covered_and_nothing_else():
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (37, 53, 3), np.uint8))
    before = np.asarray(image).copy()
    made = np.asarray(explain.cover(image, [(0, 0), (3, 3)], 4))
    changed = (made != before).any(axis=2)
    assert changed[:9, :13].mean() > 0.9
    assert not changed[9:, :39].any()
    assert not changed[:27, 13:].any()
    np.testing.assert_array_equal(np.asarray(image), before)
    every = np.asarray(explain.cover(image, [(r, c) for r in range(4) for c in range(4)], 4))
    assert len(np.unique(every.reshape(-1, 3), axis=0)) == 1


def test_shares_add_up_and_have_the_sign_of_their_component(desk):
    desk.archive.usage.use([red(desk)], "2999-01-01")
    reason = desk.why(Question(Article("", "red"), used_days=3), red(desk))
    assert tuple(reason.shares) == COMPONENTS
    assert sum(map(abs, reason.shares.values())) == pytest.approx(1)
    assert reason.shares["visual"] > 0 > reason.shares["date"]


def test_without_a_picture_there_is_no_heat_and_without_a_text_no_word(desk):
    photo = red(desk)
    desk.archive.thumbnail(photo).unlink()
    assert desk.why(Question(Article("", "red")), photo).heat.size  # the file is there
    for file in desk.archive.database.files(photo):
        Path(file.path).unlink()
    reason = desk.why(Question(like=photo), photo)
    assert reason.heat.shape == (0, 0)
    assert list(reason.words) == []
    with pytest.raises(UsageError, match="no photo"):
        desk.why(Question(Article("", "red")), "0" * 32)


HEADLINES = {
    "chelsea": "Yesterday our neighbours found that their cat sleeps the whole day",
    "coffee": "According to this new study a cup of coffee is good for you",
    "rocket": "Officials said on Monday that the rocket will launch after all",
    "retina": "Doctors who look into the eye with lasers can find it early",
}


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """An archive of photographs with the built-in model."""
    data = pytest.importorskip("skimage.data")
    folder = tmp_path_factory.mktemp("photographs")
    for name in HEADLINES:
        image = Image.fromarray(getattr(data, name)())
        image.thumbnail((320, 320))
        (folder / "photos").mkdir(exist_ok=True)
        image.save(folder / "photos" / f"{name}.jpg")
    encoder = registry.load()
    with Archive.create(folder / "desk", encoder, engine="flat:index") as archive:
        ingest.add(archive, encoder, [folder / "photos"])
        yield (
            Desk(archive, encoder),
            {p.entry.source.removesuffix(".jpg"): p.photo for batch in archive.engine.scan() for p in batch},
        )


def test_the_top_words_matter_more_than_random_ones(photographs):
    desk, ids = photographs
    rng, top, drawn = np.random.default_rng(0), [], []
    for name, headline in HEADLINES.items():
        words = headline.split()
        found, _, point = desk.found(question := Question(Article("", headline)), ids[name])
        falls = [fall for _, fall in explain.falls(desk, question, point, found)]

        def without(gone, name=name, words=words):
            rest = " ".join(word for i, word in enumerate(words) if i not in gone)
            return desk.found(Question(Article("", rest)), ids[name])[0].score

        whole = without(set())
        top.append(whole - without(set(np.argsort(falls)[-2:].tolist())))
        drawn += [whole - without(set(rng.permutation(len(words))[:2].tolist())) for _ in range(10)]
    assert np.mean(top) > 0.2
    assert np.mean(top) > 2 * abs(np.mean(drawn))


def test_the_top_regions_matter_more_than_random_ones(photographs):
    desk, ids = photographs
    rng, top, drawn = np.random.default_rng(0), [], []
    cells = [(r, c) for r in range(explain.GRID) for c in range(explain.GRID)]
    for name in ("chelsea", "coffee", "rocket"):
        headline = HEADLINES[name]
        question = Question(Article("", headline))
        asked, image = desk.found(question, ids[name])[1], explain.picture(desk, ids[name])

        def score(gone, asked=asked, image=image):
            row = desk.reader.photo(explain.cover(image, gone))[None]
            return float(desk.scores(asked, row, np.zeros(1, np.float32))["visual"][0])

        heat = explain.covered(
            desk, image, lambda rows, asked=asked: desk.scores(asked, rows, np.zeros(len(rows), np.float32))["visual"]
        )
        whole = score([])
        top.append(whole - score([cells[i] for i in np.argsort(heat.ravel())[-4:]]))
        drawn += [whole - score([cells[i] for i in rng.permutation(len(cells))[:4]]) for _ in range(2)]
    assert np.mean(top) > 0
    assert np.mean(top) > np.mean(drawn)
