from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner

from doubles import desk
from photodesk import network as networks
from photodesk import train
from photodesk.cli import commands
from photodesk.errors import UsageError
from photodesk.pairs import Pairs, held_out, measure
from photodesk.train import Settings, warm_start

SMALL = {"dim": 6, "batch": 32, "epochs": 2, "noise": 0.1, "ridge": 0.01}


def unit(x):
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def planted(n=300, seed=0, first=None):
    """Texts and photos that share six hidden numbers a pair, seen through random matrices with noise."""
    maps = np.random.default_rng(99)
    to_text, to_photo = maps.standard_normal((6, 20)), maps.standard_normal((6, 30))
    random = np.random.default_rng(seed)
    hidden = random.standard_normal((n, 6))
    texts = unit(hidden @ to_text + 0.05 * random.standard_normal((n, 20)))
    photos = unit(hidden @ to_photo + 0.05 * random.standard_normal((n, 30)))
    return Pairs(np.stack([texts, texts]), photos, np.arange(n), np.arange(n), np.ones(n, bool) if first is None else np.arange(n) < first)


def parts(seed=0, count=60):
    pairs = planted()
    apart = held_out(pairs, count, seed=seed)
    return pairs.take(~apart), pairs.take(apart)


def test_the_warm_start_finds_what_texts_and_photos_share():
    rest, apart = parts()
    made = train.train(rest, apart, ("t", "p"), Settings(**SMALL | {"epochs": 0}))
    assert measure(made, apart)["R@1"] > 0.5  # chance is 1/60
    assert made.card["epoch"] == 0


def test_without_a_link_it_finds_nothing():
    rest, apart = parts()
    torn = Pairs(rest.texts, rest.photos, np.random.default_rng(1).permutation(rest.photo), rest.group, rest.first)
    made = train.train(torn, apart, ("t", "p"), Settings(**SMALL | {"epochs": 0}))
    assert measure(made, apart)["R@1"] < 0.15


def test_the_warm_start_is_canonical_correlation():
    """With next to no ridge the strengths are the cosines of the angles between the two spans, by QR instead of whitening."""
    pairs = planted(200)
    start = warm_start(pairs, Settings(dim=6, ridge=1e-9, power=2.0))
    centred = [x - x.mean(axis=0) for x in (pairs.texts[0].astype(float), pairs.photos.astype(float))]
    q = [np.linalg.qr(x)[0] for x in centred]
    strengths = np.linalg.svd(q[0].T @ q[1], compute_uv=False)[:6]
    assert np.allclose(start.weights, strengths / strengths[0], atol=0.02)


@pytest.mark.parametrize("loss", ["infonce", "margin"])
def test_the_same_seed_gives_the_same_weights(loss):
    pytest.importorskip("torch")
    rest, apart = parts()
    settings = Settings(**SMALL | {"loss": loss, "rate": 1e-2})
    made = [train.train(rest, None, ("t", "p"), settings) for _ in range(2)]
    assert made[0].fingerprint == made[1].fingerprint
    assert made[0].card["epoch"] == 2
    other = train.train(rest, None, ("t", "p"), Settings(**SMALL | {"loss": loss, "rate": 1e-2, "seed": 1}))
    assert other.fingerprint != made[0].fingerprint
    assert measure(made[0], apart)["R@10"] > 0.5


@pytest.mark.parametrize("loss", ["infonce", "margin"])
def test_descent_makes_the_loss_small(loss):
    pytest.importorskip("torch")
    rest, _ = parts()
    last = {}
    poor = SMALL | {"loss": loss, "epochs": 6, "noise": 0.0, "dropout": 0.0, "ridge": 100.0}  # a start that leaves room
    for rate in (1e-9, 1e-2):  # the same batches, with steps too small to matter and with real ones
        last[rate] = train.train(rest, None, ("t", "p"), Settings(**poor | {"rate": rate})).card["history"][-1]["loss"]
    assert last[1e-2] < 0.7 * last[1e-9]


def naive_loss(scores, group, kind, temperature=0.1, margin=0.2):
    total = 0.0
    for matrix in (scores, scores.T):
        for i, row in enumerate(matrix):
            wrong = [row[j] for j in range(len(row)) if group[j] != group[i]]
            if kind == "infonce":
                total += np.log(sum(np.exp(np.array([row[i], *wrong]) / temperature))) - row[i] / temperature
            else:
                total += max(0.0, margin + max(wrong) - row[i])
    return total / len(scores) / (2 if kind == "infonce" else 1)


@pytest.mark.parametrize("kind", ["infonce", "margin"])
def test_losses_are_the_plain_formulas_and_a_group_holds_no_negatives(kind):
    torch = pytest.importorskip("torch")
    scores = np.random.default_rng(0).uniform(-1, 1, (6, 6)).astype(np.float32)
    group = np.array([0, 1, 1, 2, 3, 0])
    scale = torch.tensor(-np.log(0.1))
    found = train._loss(torch, torch.from_numpy(scores), torch.from_numpy(group), scale, Settings(loss=kind))
    assert float(found) == pytest.approx(naive_loss(scores, group, kind), rel=1e-4)


def test_the_folded_network_is_the_trained_module():
    torch = pytest.importorskip("torch")
    pairs, settings = planted(100), Settings(**SMALL)
    start = warm_start(pairs, settings)
    module = train._module(torch, start, settings)
    module.train()
    for _ in range(5):  # moves the batch norms' statistics
        module.text(torch.randn(50, 20) * 2 + 1)
        module.photo(torch.randn(50, 30) - 1)
    module.eval()
    folded = train._folded(module, start, ("t", "p"))
    texts, photos = pairs.texts[0], pairs.photos
    with torch.no_grad():
        module_texts = module.text(torch.from_numpy((texts - start.text_mean) @ start.text_white)).numpy()
        module_photos = module.photo(torch.from_numpy((photos - start.photo_mean) @ start.photo_white)).numpy()
    assert np.allclose(folded.texts(texts), module_texts, atol=1e-4)
    assert np.allclose(folded.photos(photos), module_photos, atol=1e-4)


def test_the_best_epoch_is_kept_and_training_stops_when_nothing_gets_better():
    pytest.importorskip("torch")
    rest, apart = parts()
    made = train.train(rest, apart, ("t", "p"), Settings(**SMALL | {"rate": 5.0, "epochs": 30, "patience": 2}))
    history = made.card["history"]
    totals = [row["R@10"] + row["R@100"] + row["MRR@100"] for row in history]
    assert made.card["epoch"] == int(np.argmax(totals))
    assert measure(made, apart)["R@10"] == pytest.approx(history[made.card["epoch"]]["R@10"])
    assert len(history) < 31


def test_whole_groups_are_held_out_of_the_first_data_set_only():
    pairs = planted(100, first=70)
    pairs = Pairs(pairs.texts, pairs.photos, pairs.photo, np.arange(100) // 3, pairs.first)
    apart = held_out(pairs, 20, seed=3)
    assert 20 <= apart.sum() <= 22
    assert not apart[70:].any()
    assert not set(pairs.group[apart]) & set(pairs.group[~apart & pairs.first])
    assert not held_out(pairs, 0, seed=3).any()
    assert not np.array_equal(apart, held_out(pairs, 20, seed=4))


def test_a_leak_between_training_and_validation_is_refused():
    rest, _ = parts()
    with pytest.raises(UsageError, match="share articles or pictures"):
        train.train(rest, rest.take(np.arange(len(rest)) < 5), ("t", "p"), Settings(**SMALL))


def test_wrong_settings_are_refused():
    with pytest.raises(UsageError, match="infonce and margin"):
        Settings(loss="cosine")
    with pytest.raises(UsageError, match="batch 2"):
        Settings(batch=1)


def test_the_command_trains_measures_and_refits(tmp_path):
    pytest.importorskip("torch")
    words = [f"{a} {b}" for a in ("Flood", "Fire", "Storm", "Match", "Vote") for b in ("Rome", "Elbe", "Köln", "Wien", "Bonn", "Kiel")]
    folder = desk(tmp_path / "data", words)
    out = tmp_path / "net.safetensors"
    call = ["train", folder, "-o", out, "--validation", "5", "--test", "5", "--dim", "4", "--epochs", "1", "--refit"]
    made = CliRunner().invoke(commands, [str(word) for word in call])
    assert made.exit_code == 0, made.output
    rows = [json.loads(line) for line in made.stdout.splitlines()]
    assert [row.get("epoch") for row in rows[:2]] == [0, 1]
    assert rows[-1]["test"] >= 5
    loaded = networks.load(out)
    assert loaded.card["pairs"] == 30
    assert loaded.card["test"] == pytest.approx({key: rows[-1][key] for key in ("R@1", "R@10", "R@100", "MRR@100")}, abs=1e-4)
    assert loaded.text_tower == "e5-small-q4/1"
