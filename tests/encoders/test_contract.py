"""What every encoder must hold; the real ones and the doubles alike."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

import toys
from doubles import echo
from photodesk.encoders import registry
from photodesk.encoders.token_budget import budget
from photodesk.features.store import Store
from photodesk.types import Photo

ZOO = "openclip", "openclip_xlmr", "openclip_siglip", "clip", "siglip", "siglip2", "pair", "sentence", "onnx"
ENCODERS = {
    "builtin": lambda request: registry.load("builtin"),
    "echo": lambda request: echo(),
    "toy": lambda request: toys.load("toy"),
    **{kind: lambda request, kind=kind: registry.load(getattr(request.getfixturevalue("zoo"), kind)) for kind in ZOO},
}
"""What is held to the contract, by a name for pytest: makes the encoder, given the fixture `request`."""


@pytest.fixture(scope="module", params=ENCODERS)
def encoder(request):
    return ENCODERS[request.param](request)


TEXTS = [
    "Hochwasser an der Elbe",
    "Flood",
    "",
    "Ein sehr langer Satz über das Wetter, " * 40,
    "日本の首相",
    "x" * 300,
    "\x00\t \n",
]


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
    again = ENCODERS[request.node.callspec.params["encoder"]](request)
    assert again.name == encoder.name
    assert again.fingerprint == encoder.fingerprint
    assert encoder.texts.fingerprint in encoder.fingerprint
    assert encoder.photos.fingerprint in encoder.fingerprint


def test_a_text_is_a_string_for_each_set_of_fields(encoder):
    tower = encoder.texts
    assert (sum(tower.dims), sum(encoder.photos.dims)) == (tower.dim, encoder.photos.dim)
    parts = [(text,) * max(1, len(tower.fields)) for text in ("Flood", "", "Election")]
    assert np.allclose(tower.read(parts), tower.encode(["Flood", "", "Election"]), atol=1e-6)


def test_photos_are_prepared_alike(encoder):
    arrays = [encoder.photos.prepare(picture(0, size)) for size in ((90, 60), (31, 200), (400, 300))]
    assert len({(array.shape, array.dtype) for array in arrays}) == 1
    assert encoder.photos.most >= 1


def test_tokens_cover_the_text(encoder):
    pieces = encoder.texts.tokens("Hochwasser an der Elbe")
    assert (
        "".join(pieces).replace("▁", "").replace(" ", "").lower() == "hochwasseranderelbe"
    )  # some models read lower case only


def test_what_lies_behind_the_context_is_not_read(encoder):
    tower = encoder.texts
    short = " ".join(["dog"] * 200)
    (cut,) = budget([short], tower)
    changed = short.split()
    changed[cut.kept + 1 if cut.kept < 200 else 199] = "house"
    same = np.allclose(tower.encode([short]), tower.encode([" ".join(changed)]), atol=1e-6)
    assert same == bool(tower.context)
    if tower.context:
        inside = short.split()
        inside[cut.kept - 1] = "house"
        assert not np.allclose(tower.encode([short]), tower.encode([" ".join(inside)]), atol=1e-6)


def test_a_broken_photo_is_named_and_threads_change_nothing(encoder, tmp_path, monkeypatch):
    monkeypatch.setattr(encoder.photos, "batch", 2, raising=True)
    files = [tmp_path / f"{i}.png" for i in range(7)]
    for i, path in enumerate(files):
        picture(i).save(path)
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 this is no picture")
    photos = [Photo(path.name, path) for path in [files[0], tmp_path / "broken.jpg", *files[1:]]]
    kept, rows, faults = Store(tmp_path / "store").photos(photos, encoder.photos, threads=3)
    assert [fault.where for fault in faults] == [str(tmp_path / "broken.jpg")]
    assert [photo.id for photo in kept] == [path.name for path in files]
    alone = [encoder.photos.encode(encoder.photos.prepare(picture(i))[None])[0] for i in range(len(files))]
    assert np.allclose(rows, alone, atol=1e-5)
