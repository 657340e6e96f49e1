"""Several towers as one, and the protocol that makes it possible."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from doubles import EchoPhotos, EchoTexts
from photodesk.encoders.base import Encoder, PhotoTower, TextTower
from photodesk.encoders.builtin import towers as builtin_towers
from photodesk.encoders.concatenated import ConcatenatedPhotos, ConcatenatedTexts, towers
from toys import Histogram, Ngrams


def test_a_row_is_the_rows_of_its_towers_and_fields():
    texts = ConcatenatedTexts([EchoTexts(), Ngrams()], (("title",), ("title", "text")))
    assert texts.dims == (3, 3, 256, 256)
    articles = [("Flood", "Flood. It rains."), ("", "It rains."), ("Flood", "")]
    rows = texts.read(articles)
    titles, wholes = ["Flood", "It rains.", "Flood"], ["Flood. It rains.", "It rains.", "Flood"]
    parts = [tower.encode(column) / 2 for tower in (EchoTexts(), Ngrams()) for column in (titles, wholes)]
    assert np.allclose(rows, np.concatenate(parts, axis=1), atol=1e-6)
    assert np.allclose(texts.encode(["Flood"]), texts.read([("Flood", "Flood")]), atol=1e-6)
    assert texts.read([]).shape == (0, texts.dim)


def test_a_text_of_too_few_or_too_many_fields_is_not_read():
    with pytest.raises(ValueError, match="unpack"):
        EchoTexts().read([("Flood", "It rains.")])
    with pytest.raises(IndexError):
        ConcatenatedTexts([EchoTexts()], (("title",), ("text",))).read([("Flood",)])


def test_photos_of_unlike_towers_travel_as_one_row():
    """What one process has prepared another encodes, which has prepared nothing itself."""
    lite = builtin_towers()[1]
    alone = [EchoPhotos(), Histogram(), lite]  # int64, bytes; of one, two and many numbers
    pictures = [Image.new("RGB", size, colour) for size, colour in (((40, 30), "red"), ((30, 90), "navy"))]
    prepared = np.stack([ConcatenatedPhotos(alone).prepare(picture) for picture in pictures])
    fresh = ConcatenatedPhotos([EchoPhotos(), Histogram(), lite])
    wanted = [tower.encode(np.stack([tower.prepare(picture) for picture in pictures])) for tower in alone]
    assert np.allclose(fresh.encode(prepared), np.concatenate(wanted, axis=1) / np.sqrt(3), atol=1e-6)
    assert fresh.dims == (3, 64, lite.dim)
    assert (fresh.most, fresh.batch) == (2, 2)


def test_one_tower_stays_what_it_is():
    echo = Encoder("echo", EchoTexts(), EchoPhotos())
    assert towers([echo, echo]) == (echo.texts, echo.photos)
    both = towers([echo, Encoder("toy", Ngrams(), Histogram())])
    assert [tower.fingerprint for tower in both] == ["echo-texts&toy-ngrams/1", "echo-photos&toy-histogram/1"]
    assert towers([echo], [("title",), ("title", "text")])[0].fingerprint == "echo-texts[title|title+text]"


def test_what_a_tower_does_not_say_has_a_value():
    texts, photos = EchoTexts(), EchoPhotos()
    assert (texts.fields, texts.dims) == ((), (3,))
    assert (photos.most, photos.built, photos.state(), photos.dims) == (64, None, {}, (3,))
    assert np.array_equal(texts.read([("Flood",)]), texts.encode(["Flood"]))


def test_a_tower_that_lacks_a_part_is_not_made():
    class Mute(TextTower):
        fingerprint, dim, batch, context = "mute", 3, 4, 0

        def encode(self, texts):
            return np.ones((len(texts), 3), np.float32)

    class Blind(PhotoTower):
        fingerprint, dim, batch, size = "blind", 3, 4, 0

        def encode(self, batch):
            return np.ones((len(batch), 3), np.float32)

    for kind, part in ((Mute, "tokens"), (Blind, "prepare")):
        with pytest.raises(TypeError, match=part):
            kind()
