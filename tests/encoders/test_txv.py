from __future__ import annotations

import json
import struct
from dataclasses import replace

import numpy as np
import pytest

from photodesk.encoders.txv import Network, load, save
from photodesk.errors import EncoderError


def network(text_dims=(6,), visual_dims=(8,), dim=5, seed=0, hidden=0):
    random = np.random.default_rng(seed)
    weights = {}

    def block(name, rows, columns=dim):
        weights[f"{name}.w"] = random.standard_normal((rows, columns)).astype(np.float32)
        weights[f"{name}.b"] = random.standard_normal(columns).astype(np.float32)

    for v, visual in enumerate(visual_dims):
        block(f"photo.{v}", visual, hidden or dim)
        for t, text in enumerate(text_dims):
            block(f"text.{t}.{v}", text)
            block(f"pair.{v}.{t}", hidden or dim)
    return Network("text-tower", "photo-tower", text_dims, visual_dims, weights, {"seed": seed})


def rows(n, d, seed):
    return np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)


def unit(x):
    return x / np.linalg.norm(x)


def naive_similarity(net, text, photo):
    """Sum of the cosines over the T·V spaces, one pair at a time, as the paper words it."""
    total, w = 0.0, net.weights
    photo_parts = np.split(photo, np.cumsum(net.visual_dims)[:-1])
    for t, text_part in enumerate(np.split(text, np.cumsum(net.text_dims)[:-1])):
        for v, photo_part in enumerate(photo_parts):
            a = unit(np.tanh(text_part @ w[f"text.{t}.{v}.w"] + w[f"text.{t}.{v}.b"]))
            shared = np.tanh(unit(photo_part) @ w[f"photo.{v}.w"] + w[f"photo.{v}.b"])
            b = unit(np.tanh(shared @ w[f"pair.{v}.{t}.w"] + w[f"pair.{v}.{t}.b"]))
            total += float(a @ b)
    return total


@pytest.mark.parametrize("hidden", [0, 9])
@pytest.mark.parametrize(
    ("text_dims", "visual_dims"), [((6,), (8,)), ((6, 3), (8,)), ((4,), (3, 5, 2)), ((6, 3), (8, 4))]
)
def test_the_sum_of_cosines_is_one_dot_product(text_dims, visual_dims, hidden):
    net = network(text_dims, visual_dims, hidden=hidden)
    texts, photos = rows(3, sum(text_dims), 1), rows(4, sum(visual_dims), 2)
    joint = net.texts(texts) @ net.photos(photos).T * (len(text_dims) * len(visual_dims))
    for i, text in enumerate(texts):
        for j, photo in enumerate(photos):
            assert joint[i, j] == pytest.approx(naive_similarity(net, text, photo), abs=1e-5)


def test_embeddings_are_unit_rows_and_the_input_stays():
    net, texts = network((6, 3), (8, 4)), rows(5, 9, 1)
    texts.flags.writeable = False
    embedded = net.texts(texts)
    assert embedded.shape == (5, net.dim)
    assert embedded.dtype == np.float32
    assert np.allclose(np.linalg.norm(embedded, axis=1), 1, atol=1e-5)


def test_the_length_of_a_photo_feature_does_not_matter():
    net, photos = network(), rows(4, 8, 2)
    assert np.allclose(net.photos(photos), net.photos(photos * 7), atol=1e-6)


def test_what_is_saved_is_loaded(tmp_path):
    net = network((6, 3), (8, 4))
    save(net, tmp_path / "net.safetensors")
    again = load(tmp_path / "net.safetensors")
    assert (again.text_tower, again.photo_tower, again.text_dims, again.visual_dims) == (
        "text-tower",
        "photo-tower",
        (6, 3),
        (8, 4),
    )
    assert again.card == {"seed": 0}
    cosines = (net.texts(rows(9, 9, 3)) * again.texts(rows(9, 9, 3))).sum(axis=1)
    assert cosines.min() > 0.9999  # float16 on disk
    assert again.fingerprint == load(tmp_path / "net.safetensors").fingerprint
    assert again.fingerprint != network((6, 3), (8, 4), seed=1).fingerprint


def header(data):
    (size,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + size]), data[8 + size :]


def rewritten(path, change):
    about, body = header(path.read_bytes())
    change(about)
    about["__metadata__"].pop("sum", None)  # by a writer that knows none
    text = json.dumps(about).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)


def test_a_damaged_or_foreign_file_is_refused_by_name(tmp_path):
    path = tmp_path / "net.safetensors"
    save(network(), path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(EncoderError, match="damaged"):
        load(path)
    for pickled in (
        b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00\x8c\x08builtins\x94.",
        b"PK\x03\x04" + bytes(60),
    ):  # torch's is a zip
        path.write_bytes(pickled)
        with pytest.raises(EncoderError, match="is a pickle, which may run code and is never opened"):
            load(path)
    for other in (
        b"neither",
        b"\x80\x04" + bytes(6) + b'{"cut": ',
    ):  # the second is safetensors of a length that begins so
        path.write_bytes(other)
        with pytest.raises(EncoderError, match="not a safetensors file"):
            load(path)
    path.write_bytes(whole)
    rewritten(path, lambda about: about["__metadata__"].update(format="other/1"))
    with pytest.raises(EncoderError, match="other/1"):
        load(path)
    path.write_bytes(whole)
    rewritten(path, lambda about: about["__metadata__"].pop("text_tower"))
    with pytest.raises(EncoderError, match="text_tower"):
        load(path)
    path.write_bytes(whole)
    rewritten(path, lambda about: about["__metadata__"].update(visual_dims="[9]"))
    with pytest.raises(EncoderError, match=r"photo\.0\.w should be \(9, 5\) and is \(8, 5\)"):
        load(path)
    with pytest.raises(EncoderError, match="no network at"):
        load(tmp_path / "absent.safetensors")


def test_weights_that_are_not_numbers_are_refused(tmp_path):
    net = network()
    net.weights["photo.0.w"][0, 0] = np.nan
    save(net, tmp_path / "net.safetensors")
    with pytest.raises(EncoderError, match="not numbers"):
        load(tmp_path / "net.safetensors")


def test_it_knows_what_it_was_trained_on():
    net = replace(network(), card={"data": ["NewsImages 2025: 6500 pairs"]})
    assert net.saw("NewsImages 2025")
    assert not net.saw("NewsImages 202")
    assert not net.saw("")
    assert not network().saw("NewsImages 2025")


def test_features_of_another_encoder_are_refused():
    with pytest.raises(EncoderError, match="use the encoder it was trained with"):
        network().texts(rows(2, 7, 0))


def test_a_network_is_the_same_bytes_each_time_and_every_byte_of_it_counts(tmp_path):
    """But blanks of the header, and the name under which the sum is kept."""
    one, other = tmp_path / "one.safetensors", tmp_path / "other.safetensors"
    for path in (one, other):
        save(network(), path)
    assert one.read_bytes() == other.read_bytes()
    whole, rng = one.read_bytes(), np.random.default_rng(1)
    wanted = load(one)
    for at in rng.integers(0, len(whole), 200).tolist():
        content = bytearray(whole)
        content[at] ^= 1 << int(rng.integers(8))
        one.write_bytes(content)
        try:
            found = load(one)
        except EncoderError:
            continue
        assert (found.fingerprint, found.card, found.encoders) == (wanted.fingerprint, wanted.card, wanted.encoders)
