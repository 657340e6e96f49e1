from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner

from doubles import EchoPhotos, EchoTexts, desk, echo
from photodesk.cli import commands
from photodesk.data.groups import held_out
from photodesk.encoders import registry
from photodesk.encoders import txv as networks
from photodesk.encoders.base import Encoder
from photodesk.errors import DataError, UsageError
from photodesk.training import closed_form as starts
from photodesk.training import train
from photodesk.training.closed_form import closed_form
from photodesk.training.config import PAPER_2022, Settings
from photodesk.training.gradient import GradientDescent, losses
from photodesk.training.module import clip, module
from photodesk.training.pairs import Fact, Pairs, measure
from photodesk.training.splits import parse

SMALL = {
    "dim": 6,
    "batch": 80,
    "epochs": 2,
    "noise": 0.1,
    "ridge": 0.01,
    "text_ridge": 0.01,
    "landmarks": 0,
    "precision": "fp32",
}
RANDOM = SMALL | {
    "start": "random",
    "dim": 16,
    "batch": 40,
    "noise": 0.0,
    "dropout": 0.0,
    "optimiser": "adam",
    "rate": 1e-2,
    "decay": 0.0,
}
TOWERS = ("t", "p")


def unit(x):
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def table(texts, photos, photo=None, group=None, source=None, weights=(1.0,), facts=()):
    views = texts if isinstance(texts, list) else [texts, texts]
    n = len(views[0])
    ids = np.arange(n)
    return Pairs(
        tuple(views),
        np.tile(ids, (len(views), 1)),
        photos,
        ids if photo is None else photo,
        ids if group is None else group,
        np.zeros(n, np.int64) if source is None else source,
        weights,
        facts,
    )


def planted(n=300, seed=0, noise=0.05):
    """Texts and photos that share six hidden numbers a pair, seen through random matrices with noise."""
    maps = np.random.default_rng(99)
    to_text, to_photo = maps.standard_normal((6, 20)), maps.standard_normal((6, 30))
    random = np.random.default_rng(seed)
    hidden = random.standard_normal((n, 6))
    texts = unit(hidden @ to_text + noise * random.standard_normal((n, 20)))
    return table(texts, unit(hidden @ to_photo + noise * random.standard_normal((n, 30))))


def parts(seed=0, count=60, pairs=None):
    pairs = pairs or planted()
    apart = held_out(pairs.group, count, seed=seed)
    return pairs.take(~apart), pairs.take(apart)


def test_the_closed_form_finds_what_texts_and_photos_share():
    rest, apart = parts()
    made = train.train(rest, apart, TOWERS, Settings(**SMALL | {"epochs": 0}))
    assert measure(made, apart)["R@1"] > 0.5  # chance is 1/60
    assert measure(made, apart)["back R@1"] > 0.5
    assert made.card["epoch"] == 0


def test_without_a_link_it_finds_nothing():
    rest, apart = parts()
    torn = replace(rest, photo=np.random.default_rng(1).permutation(rest.photo))
    made = train.train(torn, apart, TOWERS, Settings(**SMALL | {"epochs": 0}))
    assert measure(made, apart)["R@1"] < 0.15


def test_the_closed_form_is_canonical_correlation():
    """With next to no ridge the columns of both sides correlate as the angles between the two spans say, by QR instead
    of whitening."""
    pairs = planted(200)
    net, _ = closed_form(
        pairs, (20,), (30,), TOWERS, Settings(dim=6, ridge=1e-9, text_ridge=1e-9, power=0.0, landmarks=0)
    )
    texts, photos = pairs.texts[0].astype(float), unit(pairs.photos).astype(float)
    left = texts @ net.weights["text.0.0.w"]
    right = photos @ net.weights["photo.0.w"] @ net.weights["pair.0.0.w"]
    found = [np.corrcoef(left[:, i], right[:, i])[0, 1] for i in range(6)]
    q = [np.linalg.qr(x - x.mean(axis=0))[0] for x in (texts, photos)]
    assert np.allclose(found, np.linalg.svd(q[0].T @ q[1], compute_uv=False)[:6], atol=0.01)


def test_covariances_are_those_of_the_whole_table_however_it_is_cut(monkeypatch):
    random = np.random.default_rng(3)
    n, texts, photos = (
        50,
        [random.standard_normal((50, 4)).astype(np.float32) for _ in range(2)],
        random.standard_normal((9, 5)).astype(np.float32),
    )
    photo, source = random.integers(0, 5, n), (np.arange(n) >= 30).astype(np.int64)
    photo[source == 1] += 4  # picture 4 is in both data sets, and most have several texts
    pairs = table(texts, photos, photo=photo, source=source, weights=(1.0, 0.25))
    monkeypatch.setattr(starts, "BLOCK", 7)
    for number in range(2):
        found, mine = starts._moments(pairs, number, lambda y: y, 5), source == number
        y = photos[photo[mine]]
        y = y - y.mean(axis=0)
        views = [view[mine] - view[mine].mean(axis=0) for view in texts]
        assert found.count == mine.sum()
        assert np.allclose(found.texts, np.mean([x.T @ x for x in views], axis=0), atol=1e-4)
        assert np.allclose(found.photos, y.T @ y, atol=1e-4)
        assert np.allclose(found.cross, np.mean([x.T @ y for x in views], axis=0), atol=1e-4)
        assert np.allclose(found.text_mean, np.mean([view[mine].mean(axis=0) for view in texts], axis=0), atol=1e-6)
        assert np.allclose(found.photo_mean, photos[photo[mine]].mean(axis=0), atol=1e-6)


def naive_kernel(pairs, apart, settings):
    """The closed form with landmarks, solved in the dual with the kernel itself: kernel canonical correlation of texts
    and photos."""
    texts, photos = pairs.texts[0][pairs.text[0]].astype(float), unit(pairs.photos)[pairs.photo].astype(float)
    n = len(pairs)

    def kernel(a, b):
        return np.exp(settings.sharpness * (a @ b.T - 1)) * 2 * np.exp(-3)

    x = texts - texts.mean(axis=0)
    white = starts.whitening(x.T @ x / n, settings.text_ridge)
    k = kernel(photos, photos)
    centred = k - k.mean(axis=0)
    centred = centred - centred.mean(axis=1, keepdims=True)
    dual = np.linalg.solve(centred + n * settings.ridge / 50 * (1 + np.tanh(-1.5)) * np.eye(n), x @ white)
    values, vectors = np.linalg.eigh(white.T @ x.T @ centred @ dual / n)
    strength = np.sqrt(np.maximum(values[::-1][: settings.dim], 1e-18))
    ways = vectors[:, ::-1][:, : settings.dim]
    gains = (strength / strength[0]) ** (settings.power / 2)
    beta = dual @ (ways / strength * gains)
    new = kernel(unit(apart.photos)[apart.photo].astype(float), photos)
    new = new - k.mean(axis=0) - new.mean(axis=1, keepdims=True) + k.mean()
    mine = (apart.texts[0][apart.text[0]] - texts.mean(axis=0)) @ white @ (ways * gains)
    return unit(mine) @ unit(new @ beta).T


def test_landmarks_are_a_kernel_machine():
    """With every training photo a landmark the closed form is kernel correlation analysis, solved here in the dual."""
    rest, apart = parts(pairs=planted(150))
    settings = Settings(
        epochs=0, dim=5, landmarks=1000, directions=1000, sharpness=2.0, ridge=0.5, text_ridge=0.1, power=2.0
    )
    net, _ = closed_form(rest, (20,), (30,), TOWERS, settings)
    found = net.texts(apart.text_rows(np.arange(len(apart)))) @ net.photos(apart.photo_rows(apart.photo)).T
    naive = naive_kernel(rest, apart, settings)
    assert np.corrcoef(found.ravel(), naive.ravel())[0, 1] > 0.98
    assert np.mean(np.abs(np.argmax(found, axis=1) - np.argmax(naive, axis=1)) < 1) > 0.8


def test_landmarks_see_what_no_straight_network_can():
    """The hidden numbers show in the photos only as their place on a circle, twice around."""
    random = np.random.default_rng(0)
    angle = random.uniform(0, 2 * np.pi, 600)
    texts = unit(np.stack([np.cos(2 * angle), np.sin(2 * angle)], axis=1) @ random.standard_normal((2, 8)))
    photos = unit(np.stack([np.cos(angle), np.sin(angle)], axis=1) @ random.standard_normal((2, 9)))
    rest, apart = parts(pairs=table(texts, photos), count=100)
    found = {}
    for landmarks in (0, 300):
        made = train.train(
            rest,
            apart,
            TOWERS,
            Settings(epochs=0, dim=4, landmarks=landmarks, directions=9, ridge=1e-3, text_ridge=1e-3),
        )
        found[landmarks] = measure(made, apart)["R@5"]
    assert found[300] > 0.5 > 2 * found[0]


def test_each_text_is_read_by_the_expert_for_its_kind(tmp_path):
    """Two data sets whose texts say the same in ways that contradict each other: no single straight network serves
    both."""
    one, two = planted(150, seed=1), planted(850, seed=2)
    shift = np.zeros(20, np.float32)
    shift[0] = 1
    texts = np.concatenate([unit(one.texts[0] + shift), unit(-two.texts[0] - shift)])
    pairs = table(
        texts,
        np.concatenate([one.photos, two.photos]),
        source=(np.arange(1000) >= 150).astype(np.int64),
        weights=(1.0, 1e-9),
        facts=facts(1000),
    )
    apart = np.arange(1000) % 5 == 0
    made = {}
    for experts in (False, True):
        settings = Settings(
            epochs=0, dim=6, ridge=1e-3, text_ridge=1e-3, landmarks=100, directions=30, experts=experts, sharpness=1.0
        )
        net = train.train(pairs.take(~apart), None, TOWERS, settings)
        made[experts] = [measure(net, pairs.take(apart & (pairs.source == source)))["R@5"] for source in (0, 1)]
    assert net.members == 2
    assert net.weights["gate.w"].shape == (20, 2)
    assert "photo.0.w" in net.weights  # the landmarks are kept once
    assert made[True][1] > made[False][1] + 0.2
    assert made[True][0] > made[False][0] - 0.1
    rows = net.texts(pairs.texts[0][:5])
    assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    shares = np.linalg.norm(rows.reshape(5, 2, -1), axis=2) ** 2
    assert (shares[:, 0] > 0.9).all()
    networks.save(net, tmp_path / "net.safetensors")
    loaded = networks.load(tmp_path / "net.safetensors")
    assert loaded.members == 2
    assert np.allclose(
        np.sum(loaded.texts(pairs.texts[0][:50]) * net.texts(pairs.texts[0][:50]), axis=1), 1, atol=1e-3
    )  # float16 in the file
    assert np.allclose(np.sum(loaded.photos(pairs.photos[:50]) * net.photos(pairs.photos[:50]), axis=1), 1, atol=5e-3)


@pytest.mark.parametrize("judged", [True, False])
@pytest.mark.parametrize(("epochs", "experts"), [(0, False), (0, True), (2, False)])
def test_what_is_measured_is_what_the_file_holds(tmp_path, epochs, experts, judged):
    pairs = table(
        *planted(700).texts[:1],
        planted(700).photos,
        source=(np.arange(700) >= 500).astype(np.int64),
        weights=(1.0, 0.03),
    )
    rest, apart = parts(pairs=pairs.take(pairs.main) if not experts else pairs)
    settings = Settings(epochs=epochs, experts=experts, dim=6, landmarks=300, precision="fp32", rate=1e-3, patience=9)
    made = train.train(rest, apart if judged else None, TOWERS, settings)
    networks.save(made, tmp_path / "net.safetensors")
    loaded = networks.load(tmp_path / "net.safetensors")
    assert made.members == 1 + experts
    assert np.array_equal(loaded.photos(apart.photos), made.photos(apart.photos))
    assert loaded.fingerprint == made.fingerprint
    if judged:
        assert measure(loaded, apart)["MRR@100"] == made.card["history"][made.card["epoch"]]["MRR@100"]


def test_descent_from_landmarks_is_not_rounded_away():
    """What float16 would make of its photos differs; what the file makes of them does not."""
    rest, apart = parts(pairs=planted(700))
    net, white = closed_form(rest, (20,), (30,), TOWERS, Settings(epochs=2, dim=6, landmarks=600))
    went = GradientDescent(rest, ((20,), (30,)), TOWERS, Settings(**SMALL), net, white).network()
    seen = went.photos(apart.photos)
    assert np.sum(networks.rounded(replace(went, exact=False)).photos(apart.photos) * seen, axis=1).min() < 0.9999
    assert np.array_equal(networks.rounded(went).photos(apart.photos), seen)


@pytest.mark.parametrize("start", ["closed", "random"])
def test_several_text_and_photo_features_together_find_more_than_one_of_each(start):
    """Each of two text and two photo features sees what a pair shares through noise of its own; the four spaces average
    it out."""
    random = np.random.default_rng(5)
    hidden = random.standard_normal((400, 6))

    def seen(d):
        return unit(hidden @ random.standard_normal((6, d)) + 0.7 * random.standard_normal((400, d)))

    texts, photos = (np.concatenate([seen(d), seen(d)], axis=1) for d in (10, 12))
    settings = Settings(**(SMALL | {"epochs": 0} if start == "closed" else RANDOM | {"epochs": 8}))
    found = {}
    for name, x, y, dims in (
        ("both", texts, photos, ((10, 10), (12, 12))),
        ("one", texts[:, :10], photos[:, :12], ((10,), (12,))),
    ):
        rest, apart = parts(pairs=table(x, y), count=100)
        made = train.train(rest, apart, TOWERS, settings, dims=dims)
        found[name] = measure(made, apart)["R@1"]
        assert made.dim == len(dims[0]) * len(dims[1]) * made.weights["pair.0.0.b"].shape[0]
    assert found["both"] > found["one"] + 0.05


@pytest.mark.parametrize("loss", ["infonce", "margin", "margin_all"])
def test_the_same_seed_gives_the_same_weights(loss):
    rest, apart = parts()
    settings = Settings(**SMALL | {"loss": loss, "rate": 1e-2})
    made = [train.train(rest, None, TOWERS, settings) for _ in range(2)]
    assert made[0].fingerprint == made[1].fingerprint
    assert made[0].card["epoch"] == 2
    other = train.train(rest, None, TOWERS, replace(settings, seed=1))
    assert other.fingerprint != made[0].fingerprint
    assert measure(made[0], apart)["R@10"] > 0.5


@pytest.mark.parametrize("optimiser", ["adamw", "adam", "rmsprop"])
@pytest.mark.parametrize("loss", ["infonce", "margin", "margin_all"])
def test_descent_from_random_weights_learns(loss, optimiser):
    rest, apart = parts()
    made = train.train(
        rest, apart, TOWERS, Settings(**RANDOM | {"loss": loss, "optimiser": optimiser, "epochs": 6, "rate": 1e-2})
    )
    history = made.card["history"]
    assert history[-1]["loss"] < 0.8 * history[0]["loss"]
    assert measure(made, apart)["R@10"] > 0.5  # chance is 1/6


def naive_loss(spaces, group, kind, temperature=0.1, margin=0.2):
    def one(scores):
        total = 0.0
        for matrix in (scores, scores.T):
            for i, row in enumerate(matrix):
                wrong = [row[j] for j in range(len(row)) if group[j] != group[i]]
                if kind == "infonce":
                    total += np.log(sum(np.exp(np.array([row[i], *wrong]) / temperature))) - row[i] / temperature
                elif kind == "margin":
                    total += max(0.0, margin + max(wrong) - row[i])
                else:
                    total += sum(max(0.0, margin + w - row[i]) for w in wrong)
        return total / len(scores)

    return one(sum(spaces) / len(spaces)) / 2 if kind == "infonce" else sum(one(scores) for scores in spaces)


@pytest.mark.parametrize("kind", ["infonce", "margin", "margin_all"])
def test_losses_are_the_plain_formulas_and_a_group_holds_no_negatives(kind):
    torch = pytest.importorskip("torch")
    spaces = list(np.random.default_rng(0).uniform(-1, 1, (3, 6, 6)).astype(np.float32))
    group = np.array([0, 1, 1, 2, 3, 0])
    found = losses(
        torch,
        [torch.from_numpy(s) for s in spaces],
        torch.from_numpy(group),
        torch.tensor(-np.log(0.1)),
        Settings(loss=kind),
    )
    assert float(found) == pytest.approx(naive_loss(spaces, group, kind), rel=1e-4)


@pytest.mark.parametrize(("whitened", "landmarks"), [(True, 0), (False, 0), (True, 40)])
def test_the_folded_network_is_the_trained_module(whitened, landmarks):
    torch = pytest.importorskip("torch")
    pairs, settings, dims = planted(100), Settings(**SMALL | {"rate": 1e-2}), ((12, 8), (10, 20))
    net, white = closed_form(pairs, *dims, TOWERS, replace(settings, landmarks=landmarks))
    descent = GradientDescent(pairs, dims, TOWERS, settings, net, white if whitened else None)
    untouched = descent.network()
    assert np.allclose(
        untouched.texts(pairs.texts[0]), net.texts(pairs.texts[0]), atol=1e-3
    )  # it starts where it was told to
    assert np.allclose(untouched.photos(pairs.photos), net.photos(pairs.photos), atol=1e-3)
    descent.epoch(1, 1.0)
    folded = descent.network()
    with torch.no_grad():
        at = np.arange(100)
        spaces = descent.module(*descent._features(*descent._read(at, np.zeros(100, np.int64))))
    joint = folded.texts(pairs.texts[0]) @ folded.photos(pairs.photos).T
    assert np.allclose(joint, np.mean([space.numpy() for space in spaces], axis=0), atol=1e-4)
    assert folded.fingerprint != untouched.fingerprint


def test_bfloat16_products_give_the_gradients_of_float32_but_for_their_rounding():
    """Gradients of every weight and of the input, with autocast and by torch's own float32 products; dropout draws the
    same bits for both."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    net = module(torch, ((24,), (40,)), (32, 48), 0.3)
    texts, photos, wanted = torch.randn(50, 24), torch.randn(50, 40, requires_grad=True), torch.randn(50, 50)
    found = {}
    for rounded in (False, True):
        torch.manual_seed(1)
        for leaf in (*net.parameters(), photos):
            leaf.grad = None
        with torch.autocast("cpu", torch.bfloat16, enabled=rounded):
            (scores,) = net([texts], [photos])
        assert scores.dtype == torch.float32
        (scores * wanted).sum().backward()
        found[rounded] = {name: p.grad.clone() for name, p in (*net.named_parameters(), ("photos", photos))}
    for name, exact in found[False].items():
        if not name.endswith("0.bias"):  # what comes before a batch norm has no gradient but noise
            off = float((found[True][name] - exact).norm() / exact.norm())
            assert 0 < off < 0.02, name  # bfloat16 has eight bits


@pytest.mark.parametrize("limit", [0.5, 500.0])
def test_gradients_are_clipped_as_torch_does(limit):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    mine, peer = ([torch.nn.Parameter(torch.zeros(size)) for size in (30, 200)] for _ in range(2))
    for one, other in zip(mine, peer, strict=True):
        one.grad = torch.randn(one.shape)
        other.grad = one.grad.clone()
    mine.append(torch.nn.Parameter(torch.zeros(3)))  # without a gradient
    clip(torch, mine, limit)
    torch.nn.utils.clip_grad_norm_(peer, limit)
    assert all(torch.allclose(one.grad, other.grad, rtol=1e-6, atol=0) for one, other in zip(mine, peer, strict=False))


def test_the_best_epoch_is_kept_and_training_stops_when_nothing_gets_better():
    rest, apart = parts()
    made = train.train(rest, apart, TOWERS, Settings(**SMALL | {"rate": 5.0, "epochs": 30, "patience": 2}))
    history = made.card["history"]
    totals = [row["R@10"] + row["R@100"] + row["MRR@100"] for row in history]
    assert made.card["epoch"] == int(np.argmax(totals))
    assert measure(made, apart)["R@10"] == pytest.approx(history[made.card["epoch"]]["R@10"])
    assert len(history) == made.card["epoch"] + 1 + 3  # the best, and one more than it had patience for


def test_the_rate_falls_as_in_the_papers_code():
    settings, rate, stale, seen = PAPER_2022, 1.0, 0, []
    for better in (True, False, False, False, False, True):
        stale = 0 if better else stale + 1
        rate, stale = settings.slowed(rate, stale)
        seen.append(rate)
    assert seen == pytest.approx([0.99, 0.99**2, 0.99**3, 0.99**4 / 2, 0.99**5 / 2, 0.99**6 / 2])
    assert [(how.optimiser, how.rate) for how in settings.six()] == [
        (kind, rate) for kind in ("adam", "rmsprop") for rate in (1e-4, 5e-5, 1e-5)
    ]


@pytest.mark.parametrize(("start", "precision"), [("closed", "fp32"), ("random", "fp32"), ("random", "bf16")])
def test_a_killed_training_goes_on_and_ends_with_the_same_weights(tmp_path, start, precision):
    how = SMALL | {"rate": 1e-3} if start == "closed" else RANDOM | {"schedule": "paper2022"}
    how |= {"epochs": 5, "patience": 9, "precision": precision}
    rest, apart = parts()
    whole = train.train(rest, apart, TOWERS, Settings(**how))
    state = tmp_path / "state.part"
    script = f"""
import os, signal
from training.test_train import *
rest, apart = parts()
def die(row):
    if row["epoch"] == 4:
        os.kill(os.getpid(), signal.SIGKILL)
train.train(rest, apart, TOWERS, Settings(**{how!r}), resume=__import__("pathlib").Path({str(state)!r}), report=die)
"""
    done = subprocess.run([sys.executable, "-c", script], cwd="tests", check=False)
    assert done.returncode == -signal.SIGKILL
    seen = []
    again = train.train(
        rest, apart, TOWERS, Settings(**how), resume=state, report=lambda row: seen.append(row["epoch"])
    )
    assert seen == [4, 5]  # the first three were kept
    assert again.fingerprint == whole.fingerprint
    assert [row["loss"] for row in again.card["history"]] == [row["loss"] for row in whole.card["history"]]
    seen.clear()
    train.train(
        rest, apart, TOWERS, Settings(**how | {"seed": 7}), resume=state, report=lambda row: seen.append(row["epoch"])
    )
    assert [epoch for epoch in seen if epoch] == [1, 2, 3, 4, 5]  # another training does not go on from it
    kept = state.read_bytes()
    wide = replace(rest, texts=tuple(np.tile(view, 2) for view in rest.texts))
    judge = replace(apart, texts=tuple(np.tile(view, 2) for view in apart.texts))
    tagged = tuple(Fact("a.csv:1", "", f"title {i}", "", "", "") for i in range(len(rest)))
    for mine, judged, towers, dims in (
        (
            rest,
            apart,
            ("other", "p"),
            None,
        ),  # the features of other models, of other sizes, divided otherwise, of other articles
        (wide, judge, TOWERS, None),
        (rest, apart, TOWERS, ((12, 8), (30,))),
        (replace(rest, facts=tagged), apart, TOWERS, None),
    ):
        state.write_bytes(kept)
        seen.clear()
        train.train(
            mine,
            judged,
            towers,
            Settings(**how | {"seed": 7}),
            dims=dims,
            resume=state,
            report=lambda row: seen.append(row["epoch"]),
        )
        assert [epoch for epoch in seen if epoch] == [1, 2, 3, 4, 5]
    state.write_bytes(state.read_bytes()[:500])
    assert train.train(rest, apart, TOWERS, Settings(**how), resume=state).fingerprint == whole.fingerprint


def facts(n, **columns):
    """n facts; a column gives a value for some rows, the others are their own."""
    empty = [
        Fact(f"a.csv:{i}", f"2023-07-{i % 28 + 1:02d}", f"title {i}", f"site/{i}", f"p{i}", f"p{i}") for i in range(n)
    ]
    for name, values in columns.items():
        for i, value in values.items():
            empty[i] = replace(empty[i], **{name: value})
    return tuple(empty)


def known(n=300, **columns):
    return replace(planted(n), facts=facts(n, **columns))


DIMS = ((20,), (30,))


def test_fit_divides_trains_measures_and_trains_again(tmp_path):
    rows = []
    made = train.fit(
        replace(planted(noise=1.5), facts=facts(300)),
        TOWERS,
        DIMS,
        Settings(**SMALL | {"rate": 1e-3}),
        validation=40,
        test=0.2,
        refit=True,
        state=tmp_path / "net",
        report=rows.append,
    )
    assert made.card["test_pairs"] == 60
    assert made.card["validation_pairs"] == 40
    assert made.card["pairs"] == 300
    low, high = made.card["test_intervals"]["R@10"]
    assert low <= made.card["test"]["R@10"] <= high
    assert low < high
    assert rows[-1]["stage"] == "again train" or rows[-2]["stage"] == "again train"
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "net.again-train.part",
        "net.train.part",
    ]  # until it is saved
    (tmp_path / "network.train.part").touch()
    train.forget(tmp_path / "net")
    assert [path.name for path in tmp_path.iterdir()] == ["network.train.part"]


def test_a_split_that_leaks_is_an_error_with_a_list():
    leaky = known(
        title={0: "same", 1: "same"}, url={2: "one", 3: "one"}, photo={4: "x", 5: "x"}, alike={6: "y", 7: "y"}
    )
    found = ""
    for seed in range(20):
        with pytest.raises(DataError, match=r"--split grouped, or --leaks keep(.|\n)*a\.csv:\d") as raised:
            train.fit(
                leaky,
                TOWERS,
                DIMS,
                Settings(**SMALL | {"epochs": 0, "seed": seed}),
                split=parse("random"),
                validation=0.3,
                test=0.2,
            )
        found += str(raised.value)
    for kind in ("same title", "same URL", "same picture", "near-duplicate picture"):
        assert kind in found
    kept = train.fit(
        replace(leaky, facts=facts(300, title=dict.fromkeys(range(200), "same"))),
        TOWERS,
        DIMS,
        Settings(**SMALL | {"epochs": 0}),
        split=parse("random"),
        validation=0.3,
        leaks="keep",
    )
    assert kept.card["leaks"]["same title"] > 10
    with pytest.raises(UsageError, match="error and keep"):
        train.fit(leaky, TOWERS, DIMS, Settings(**SMALL), leaks="ignore")


def test_pretraining_then_fine_tuning_goes_on_from_what_was_learnt():
    """The small set alone is too small; the big one has the same hidden maps."""
    big, small = planted(400, seed=1), planted(60, seed=2)
    rows = np.concatenate([small.texts[0], big.texts[0]])
    pairs = table(
        rows,
        np.concatenate([small.photos, big.photos]),
        source=(np.arange(460) >= 60).astype(np.int64),
        weights=(1.0, 0.0),
        facts=facts(460),
    )
    settings = Settings(**RANDOM | {"epochs": 8, "rate": 3e-3})
    alone = train.fit(pairs.take(pairs.main), TOWERS, DIMS, settings, validation=10, test=20)
    stages = []
    made = train.fit(
        pairs,
        TOWERS,
        DIMS,
        settings,
        validation=10,
        test=20,
        pretrain=1,
        report=lambda row: stages.append((row.get("stage"), row.get("epoch"))),
    )
    assert made.card["test"]["R@5"] > alone.card["test"]["R@5"]
    assert stages[0] == ("pretrain", 1)
    assert (None, 0) in stages  # fine-tuning starts from a network, so its epoch 0 is measured
    assert made.card["pretrained"]["pairs"] == 360
    assert made.card["pairs"] == 30


def test_the_average_is_the_mean_similarity_of_six_trainings():
    pairs, settings = known(200), Settings(**RANDOM | {"epochs": 1, "dim": 4})
    made = train.fit(pairs, TOWERS, DIMS, settings, validation=40, average=True)
    assert made.members == 6
    assert made.card["members"][0]["name"] == "adam 0.0001"
    texts, photos = pairs.texts[0][:5], pairs.photos[:7]
    joint = made.texts(texts) @ made.photos(photos).T
    alone = []
    for m in range(6):
        weights = {name[2:]: w for name, w in made.weights.items() if name.startswith(f"{m}.")}
        single = replace(made, weights=weights, members=1)
        alone.append(single.texts(texts) @ single.photos(photos).T)
    assert np.allclose(joint, np.mean(alone, axis=0), atol=1e-5)
    assert len({made.weights[f"{m}.photo.0.w"].tobytes() for m in range(6)}) == 6


@pytest.mark.parametrize("how", [{"average": True}, {"pretrain": 0}])
def test_the_closed_form_is_neither_averaged_nor_tuned(how):
    with pytest.raises(UsageError, match="needs gradient descent"):
        train.fit(known(), TOWERS, DIMS, Settings(), **how)


def test_by_default_a_tenth_chooses_the_epoch_and_nothing_is_kept_apart_where_none_is_chosen():
    assert train.fit(known(20), TOWERS, DIMS, Settings(**SMALL | {"epochs": 0})).card["validation_pairs"] == 0
    assert train.fit(known(20), TOWERS, DIMS, Settings(**SMALL)).card["validation_pairs"] == 2
    assert train.fit(known(8), TOWERS, DIMS, Settings(**SMALL)).card["pairs"] == 8
    others = replace(known(300), source=(np.arange(300) >= 50).astype(np.int64), weights=(1.0, 0.03))
    assert train.fit(others, TOWERS, DIMS, Settings(**SMALL)).card["validation_pairs"] == 5


@pytest.mark.parametrize(
    "settings", [Settings(**RANDOM), Settings(**SMALL), Settings(), Settings(landmarks=0, experts=False)]
)
def test_a_single_pair_is_too_little_and_two_are_enough(settings):
    with pytest.raises(DataError, match=r"at least 2 pairs .* 1; keep fewer apart with --validation and --test"):
        train.fit(known(3), TOWERS, DIMS, settings, validation=2)
    made = train.fit(known(3), TOWERS, DIMS, settings, validation=1)
    assert made.card["pairs"] == 2
    assert np.isfinite(made.photos(planted(5).photos)).all()


def test_wrong_settings_are_refused():
    with pytest.raises(UsageError, match="infonce, margin, margin_all"):
        Settings(loss="cosine")
    with pytest.raises(UsageError, match="batch 2"):
        Settings(batch=1)
    with pytest.raises(UsageError, match="no measure 'R@7'"):
        Settings(best_by="R@7+R@10")
    with pytest.raises(DataError, match="left to train on; keep fewer apart with --validation and --test"):
        train.fit(known(20), TOWERS, DIMS, Settings(**SMALL), validation=10, test=30)


WORDS = [
    f"{a} {b}"
    for a in ("Flood", "Fire", "Storm", "Match", "Vote")
    for b in ("Rome", "Elbe", "Köln", "Wien", "Bonn", "Kiel")
]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Thirty painted pairs, and an encoder that sees their colours."""
    monkeypatch.setitem(registry.FAMILIES, "echo", lambda name: echo())
    return desk(tmp_path / "data", WORDS)


def call(*words):
    return CliRunner().invoke(commands, [str(word) for word in words])


def test_the_command_trains_measures_refits_and_writes_card_and_curves(tmp_path, folder, monkeypatch):
    monkeypatch.setattr("photodesk.cli.progress.QUICK", 0)
    out = tmp_path / "net.safetensors"
    made = call("train", folder, "-e", "echo", "-o", out, "--validation", 5, "--test", 5, "--epochs", 1, "--refit")
    assert made.exit_code == 0, made.output
    rows = [json.loads(line) for line in made.stdout.splitlines()]
    assert [row.get("epoch") for row in rows[:2]] == [0, 1]
    assert [line.partition(":")[0] for line in made.stderr.splitlines() if line.startswith("texts")] == [
        "texts, title",
        "texts, title+tags",
    ]
    test = next(row for row in rows if "test" in row)
    loaded = networks.load(out)
    assert loaded.card["pairs"] == 30
    assert loaded.card["test"] == pytest.approx({key: test[key] for key in loaded.card["test"]}, abs=1e-4)
    assert loaded.text_tower == "echo-texts"
    assert loaded.card["versions"]["numpy"] == np.__version__
    page = (tmp_path / "net.md").read_text("utf-8")
    assert loaded.fingerprint in page
    assert loaded.card["data_fingerprints"][0] in page
    assert f"| MRR@100 | {loaded.card['test']['MRR@100']:.4f} |" in page
    assert "again on every pair" in page
    assert "<svg" in (tmp_path / "net.svg").read_text("utf-8")
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == [
        "net.md",
        "net.safetensors",
        "net.svg",
    ]
    ranked = call("rank", folder, "--encoder", f"txv@{out}", "--out", tmp_path / "run.tsv")
    assert ranked.exit_code == 0, ranked.output


def test_where_nothing_can_be_written_it_says_so_before_it_trains(tmp_path, folder):
    (tmp_path / "file").touch()
    out = tmp_path / "file" / "nope" / "net.safetensors"
    made = call("train", folder, "-e", "echo", "-o", out, "--validation", 5)
    assert isinstance(made.exception, UsageError)
    assert f"{out} cannot be written: " in str(made.exception)
    assert made.stdout == ""


def test_a_ranking_that_cannot_be_written_is_refused_before_anything_is_encoded(tmp_path, folder):
    (tmp_path / "file").touch()
    for words in (
        ["--out", tmp_path / "file" / "run.tsv"],
        ["--out", tmp_path / "run.tsv", "--report", tmp_path / "file" / "r.html"],
    ):
        made = call("rank", folder, "--encoder", "echo", *words)
        assert isinstance(made.exception, UsageError)
        assert f"{words[-1]} cannot be written: " in str(made.exception)
        assert not (tmp_path / "run.tsv").exists()
        assert "photos:" not in made.output


def test_a_closed_form_that_was_not_measured_says_so_and_draws_nothing(tmp_path, folder):
    out = tmp_path / "net.safetensors"
    made = call("train", folder, "-e", "echo", "--preset", "straight", "-o", out)
    assert made.exit_code == 0, made.output
    assert "the closed form is in" in made.output
    assert "was not measured; --test" in made.output
    assert not out.with_suffix(".svg").exists()
    assert "in closed form; split" in out.with_suffix(".md").read_text("utf-8")
    made = call("train", folder, "-e", "echo", "--preset", "straight", "--test", 5, "-o", out)
    assert "was not measured" not in made.output
    assert out.with_suffix(".svg").exists()


def test_what_was_trained_is_kept_if_it_cannot_be_saved(tmp_path, folder, monkeypatch):
    def full(network, path):
        raise OSError(28, "No space left on device")

    out, words = tmp_path / "net.safetensors", ("train", folder, "-e", "echo", "--validation", 5, "--epochs", 2, "-o")
    with monkeypatch.context() as patch:
        patch.setattr(networks, "save", full)
        assert isinstance(call(*words, out).exception, OSError)
    assert [path.name for path in tmp_path.glob("*.part")] == ["net.safetensors.train.part"]
    again = call(*words, out)
    assert [json.loads(line)["epoch"] for line in again.stdout.splitlines()] == []  # no epoch is run again
    assert networks.load(out).card["history"][-1]["epoch"] == 2
    assert not list(tmp_path.glob("*.part"))


def test_what_is_broken_is_named_and_the_rest_is_trained_on(tmp_path, folder):
    photo = min((folder / "newsimages").iterdir())
    photo.write_bytes(photo.read_bytes()[:60])
    made = call("train", folder, "-e", "echo", "-o", tmp_path / "net.safetensors", "--validation", 5)
    assert made.exit_code == 1, made.output
    assert photo.name in made.stderr
    assert networks.load(tmp_path / "net.safetensors").card["pairs"] == 24


def test_fields_become_text_features_and_the_file_knows_what_it_reads(tmp_path, folder):
    out = tmp_path / "net.safetensors"
    made = call(
        "train", folder, "-e", "echo", "-o", out, "-f", "title", "-f", "tags+title", "--validation", 5, "--epochs", 0
    )
    assert made.exit_code == 0, made.output
    loaded = networks.load(out)
    assert loaded.text_dims == (3, 3)
    assert loaded.fields == (("title",), ("tags", "title"))
    assert loaded.encoders == ("echo",)
    index = call("index", folder / "newsimages", "-o", tmp_path / "idx", "--encoder", f"txv@{out}")
    assert index.exit_code == 0, index.output
    ranked = call("rank", folder, "--encoder", f"txv@{out}", "--out", tmp_path / "run.tsv", "--top", 3)
    assert ranked.exit_code == 0, ranked.output
    for line in (tmp_path / "run.tsv").read_text("utf-8").splitlines()[1:4]:
        article, *photos = line.split("\t")
        found = call("search", tmp_path / "idx", WORDS[int(article) - 1], "--top", 3)
        assert found.exit_code == 0, found.output
        assert [name in found.output for name in photos] == [True] * 3  # one headline is ranked as in the batch


def test_two_encoders_are_two_photo_features(tmp_path, folder, monkeypatch):
    class Twice(EchoPhotos):
        fingerprint, dim = "twice-photos", 6

        def encode(self, batch):
            return np.tile(super().encode(batch), 2) / np.float32(2**0.5)

    monkeypatch.setitem(registry.FAMILIES, "twice", lambda name: Encoder("twice", EchoTexts(), Twice()))
    out = tmp_path / "net.safetensors"
    made = call("train", folder, "-e", "echo", "-e", "twice", "-o", out, "--validation", 5, "--epochs", 0)
    assert made.exit_code == 0, made.output
    loaded = networks.load(out)
    assert (loaded.text_dims, loaded.visual_dims) == ((3,), (3, 6))
    assert loaded.photo_tower == "echo-photos&twice-photos"
    ranked = call("rank", folder, "--encoder", f"txv@{out}", "--out", tmp_path / "run.tsv")
    assert ranked.exit_code == 0, ranked.output
    monkeypatch.setattr(Twice, "fingerprint", "twice-photos/2")
    refused = call("rank", folder, "--encoder", f"txv@{out}", "--out", tmp_path / "run2.tsv")
    assert "was trained on echo-photos&twice-photos, and this is echo-photos&twice-photos/2" in str(refused.exception)


def test_layers_of_one_encoder_are_text_features(tmp_path):
    folder, out = desk(tmp_path / "data", WORDS[:8]), tmp_path / "net.safetensors"
    made = call("train", folder, "-e", "builtin:layers=8+12", "-o", out, "--validation", 2)
    assert made.exit_code == 0, made.output
    assert networks.load(out).text_dims == (384, 384)
    ranked = call("rank", folder, "--encoder", f"txv@{out}", "--out", tmp_path / "run.tsv")
    assert ranked.exit_code == 0, ranked.output


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--weights", "1,2"), "expected 1 numbers"),
        (("--weights", "0"), "not below 0"),
        (("--split", "yearly"), "expected grouped, random, or time"),
        (("--split", "time:2023-07-19"), "have no dates"),
        (("--fields", "headline"), "no field 'headline'"),
        (("--encoder", "txv@"), "name the file of the network"),
    ],
)
def test_wrong_calls_say_what_would_be_right(tmp_path, folder, options, said):
    made = call("train", folder, "-o", tmp_path / "net.safetensors", "-e", "echo", "--epochs", 0, *options)
    assert said in str(made.exception)
    assert not (tmp_path / "net.safetensors").exists()


def test_half_a_pair_cannot_be_kept_apart(tmp_path, folder):
    made = call("train", folder, "-o", tmp_path / "net.safetensors", "-e", "echo", "--validation", "2.5")
    assert made.exit_code == 2
    assert "a number of pairs, or a share below 1" in made.output


def test_epochs_go_to_tensorboard(tmp_path, folder):
    pytest.importorskip("tensorboard")
    made = call(
        "train",
        folder,
        "-e",
        "echo",
        "-o",
        tmp_path / "n.safetensors",
        "--validation",
        5,
        "--epochs",
        1,
        "--tensorboard",
        tmp_path / "tb",
    )
    assert made.exit_code == 0, made.output
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log = EventAccumulator(str(tmp_path / "tb"))
    log.Reload()
    assert [event.step for event in log.Scalars("train/MRR@100")] == [0, 1]
