"""What every encoder must hold; the real ones and the doubles alike."""

from __future__ import annotations

import numpy as np
import pytest
from doubles import echo
from PIL import Image

from photodesk import encoders

LOADERS = {"echo": echo, "builtin": lambda: encoders.load("builtin")}


@pytest.fixture(scope="module", params=LOADERS)
def encoder(request):
    return LOADERS[request.param]()


TEXTS = ["Hochwasser an der Elbe", "Flood", "", "Ein sehr langer Satz über das Wetter, " * 40, "日本の首相", "x" * 300, "\x00\t \n"]


def picture(seed, size=(90, 60)):
    noise = np.random.default_rng(seed).integers(0, 256, (4, 6, 3), np.uint8)
    return Image.fromarray(noise).resize(size, Image.Resampling.BILINEAR)


def test_rows_are_unit_float32_and_as_wide_as_promised(encoder):
    texts = encoder.texts.encode(TEXTS)
    photos = encoder.photos.encode(np.stack([encoder.photos.prepare(picture(i)) for i in range(3)]))
    for rows, tower, n in ((texts, encoder.texts, len(TEXTS)), (photos, encoder.photos, 3)):
        assert rows.shape == (n, tower.dim)
        assert rows.dtype == np.float32
        assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-4)


def test_a_text_does_not_depend_on_its_neighbours_or_their_order(encoder):
    together = encoder.texts.encode(TEXTS)
    assert np.allclose(encoder.texts.encode(TEXTS[::-1])[::-1], together, atol=1e-6)
    for text, row in zip(TEXTS, together, strict=True):
        assert np.allclose(encoder.texts.encode([text])[0], row, atol=1e-6)


def test_a_photo_does_not_depend_on_its_neighbours(encoder):
    prepared = [encoder.photos.prepare(picture(i)) for i in range(4)]
    together = encoder.photos.encode(np.stack(prepared))
    for i, one in enumerate(prepared):
        assert np.allclose(encoder.photos.encode(one[None])[0], together[i], atol=1e-5)


def test_different_inputs_have_different_rows(encoder):
    texts = encoder.texts.encode(["Flood", "Election"])
    assert not np.allclose(texts[0], texts[1], atol=1e-3)
    photos = encoder.photos.encode(np.stack([encoder.photos.prepare(picture(i)) for i in range(2)]))
    assert not np.allclose(photos[0], photos[1], atol=1e-3)


def test_nothing_in_gives_nothing_out(encoder):
    assert encoder.texts.encode([]).shape == (0, encoder.texts.dim)


def test_a_photo_is_not_changed_by_preparing_it(encoder):
    photo = picture(0)
    before = photo.tobytes()
    encoder.photos.prepare(photo)
    assert photo.tobytes() == before


def test_the_name_and_fingerprint_are_stable(encoder, request):
    again = LOADERS[request.node.callspec.params["encoder"]]()
    assert again.name == encoder.name
    assert again.fingerprint == encoder.fingerprint
    assert encoder.texts.fingerprint in encoder.fingerprint
    assert encoder.photos.fingerprint in encoder.fingerprint


def test_tokens_cover_the_text(encoder):
    pieces = encoder.texts.tokens("Hochwasser an der Elbe")
    assert "".join(pieces).replace("▁", "").replace(" ", "") == "HochwasseranderElbe"
