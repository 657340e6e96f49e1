"""`calibrate` takes only pairs that a network was not trained on, and knows them by its card."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner

from doubles import desk, echo
from photodesk.cli import commands
from photodesk.data import datasets
from photodesk.encoders.base import Encoder
from photodesk.encoders.txv import Network
from photodesk.errors import DataError, UsageError
from photodesk.features.store import Store
from photodesk.search import calibrate
from photodesk.search.confidence import Confidence
from photodesk.training import pairs, splits

WORDS = [f"word {i}" for i in range(130)]


def trained(encoder, card):
    """A network that changes nothing much, with a card."""
    weights = {}
    for name, (rows, columns) in {"text.0.0": (3, 3), "photo.0": (3, 3), "pair.0.0": (3, 3)}.items():
        weights |= {f"{name}.w": np.eye(rows, columns, dtype=np.float32), f"{name}.b": np.zeros(columns, np.float32)}
    network = Network(encoder.texts.fingerprint, encoder.photos.fingerprint, (3,), (3,), weights, card)
    return Encoder("txv@net", encoder.texts, encoder.photos, network)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    return datasets.read(desk(folder / "newsimages", WORDS)), Store(folder / "cache"), folder


def test_an_encoder_that_was_never_trained_is_fitted_on_all_pairs(data):
    dataset, store, _ = data
    made = calibrate.calibrate([dataset], echo(), store=store)
    assert made.fingerprint == echo().fingerprint
    assert made.reliability is not None
    assert 60 <= made.reliability.photos <= 70
    assert made.reliability.precision[0][2] > 0.5  # the echo finds its photo, among a hundred in three dimensions


def test_a_trained_network_is_fitted_on_the_part_that_it_kept_apart(data):
    dataset, store, _ = data
    encoder = echo()
    found = pairs.gather([dataset], encoder.texts, encoder.photos, store)
    _, _, tested = splits.divide(found, splits.Split(), validation=0, test=110, seed=3)
    measured = pairs.measure(trained(encoder, {}).network, found.take(tested))
    card = {"test_pairs": int(tested.sum()), "test": measured, "seed": 3, "split": "grouped"}
    mine = trained(encoder, card)
    seen = calibrate._apart(found, mine)
    np.testing.assert_array_equal(seen, tested)
    again = trained(encoder, card | {"refit": True})
    made = calibrate.calibrate([dataset], mine, again, store)
    assert made.fingerprint == again.fingerprint
    with pytest.raises(UsageError, match="without --refit"):
        calibrate.calibrate([dataset], again, store=store)
    with pytest.raises(UsageError, match="--test 2000"):
        calibrate.calibrate([dataset], trained(encoder, {}), store=store)
    wrong = card | {"test": {name: value / 2 for name, value in measured.items()}}
    with pytest.raises(UsageError, match="other data"):
        calibrate.calibrate([dataset], trained(encoder, wrong), store=store)
    few = replace(dataset, pairs=dataset.pairs[:40])
    with pytest.raises(DataError, match="40 pairs"):
        calibrate.calibrate([few], echo(), store=store)


def test_the_command_writes_a_curve_and_prints_what_was_measured(data, monkeypatch, tmp_path):
    _, _, folder = data
    monkeypatch.setattr("photodesk.encoders.registry.load", lambda name="echo": echo())
    words = [
        "calibrate",
        folder / "newsimages",
        "--cache",
        folder / "cache",
        "-o",
        tmp_path / "c.json",
        "--plot",
        tmp_path / "c.svg",
    ]
    done = CliRunner().invoke(commands, [str(word) for word in words])
    assert done.exit_code == 0, done.output
    assert "expected calibration error" in done.stdout
    assert Confidence.load(tmp_path / "c.json").fingerprint == echo().fingerprint
    assert "<svg" in (tmp_path / "c.svg").read_text()
