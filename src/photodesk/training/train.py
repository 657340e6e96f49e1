"""Training a T×V network on frozen features: start, descent, the best epoch kept; pre-training, refitting and averaging
around it.

`train` is one training; `fit` is the whole of `photodesk train`: parts, stages, members, measures, card.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from glob import escape
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from photodesk.encoders.txv import Network, averaged, rounded
from photodesk.errors import DataError, UsageError
from photodesk.files import open_regular, replacing
from photodesk.training import splits
from photodesk.training.closed_form import Whitening, closed_form
from photodesk.training.config import Settings
from photodesk.training.gradient import Descent
from photodesk.training.pairs import Pairs, measure, text_ranks

Dims = tuple[Sequence[int], Sequence[int]]
EpochReport = Callable[[dict[str, Any]], None]


@dataclass
class _Progress:
    """Where a training stands after an epoch; what a resumed one goes on from."""

    epoch: int = 0
    rate: float = 1.0
    stale: int = 0
    since: int = 0
    highest: float = -1.0


def train(
    pairs: Pairs,
    validation: Pairs | None,
    towers: tuple[str, str],
    settings: Settings | None = None,
    *,
    dims: Dims | None = None,
    start: Network | None = None,
    stop: int | None = None,
    resume: Path | None = None,
    report: EpochReport = lambda epoch: None,
) -> Network:
    """Train on `pairs` and keep the epoch that is best on `validation`; the same seed gives the same weights.

    Epoch 0 is the start, where it is not random. Without a validation part the last epoch is kept: to train on every
    pair as it was found best before.

    Args:
        pairs: the training part.
        validation: pairs to judge the epochs by, or None.
        towers: fingerprints of the text and the photo tower.
        settings: None takes the defaults.
        dims: how the text and the photo rows divide into T and V features; None: one each.
        start: a trained network to go on from, instead of what the settings say.
        stop: run only so many of the epochs; the schedule stays that of all.
        resume: file that holds the state after every epoch; where it is there and of the same training, training goes
            on from it and ends with the same weights as if it had never stopped. The caller deletes it.
        report: called with one dictionary an epoch: epoch, loss, temperature, seconds, the measures, whether it is the
            best.

    Raises:
        DataError: there is no pair to train on, or only one.
        MissingExtra: torch is not installed.
    """
    settings = settings or Settings()
    dims = dims or ((pairs.texts[0].shape[1],), (pairs.photos.shape[1],))
    if not len(pairs) or not pairs.main.any():
        raise DataError(splits.NONE_LEFT)
    if len(pairs) < 2:  # nothing to tell it from, and no spread
        raise DataError(
            "training needs at least 2 pairs and is left with 1; keep fewer apart with --validation and --test, or "
            "give more DATA"
        )
    validation = validation if validation is not None and len(validation) else None
    started = time.monotonic()
    whitening: Whitening | None = None
    if start is None and settings.start == "closed":
        start, whitening = closed_form(pairs, *dims, towers, settings)
    at, best, history = _Progress(), start, list[dict[str, Any]]()
    key = _key(pairs, validation, towers, dims, settings, start) if resume else ""
    descent: Descent | None = None
    last = settings.epochs if stop is None else min(stop, settings.epochs)

    def note(epoch: int, loss: float | None, network: Network, temperature: float) -> None:
        nonlocal best
        network = rounded(network)
        measured = measure(network, validation) if validation is not None else {}
        goodness = settings.goodness(measured) if measured else float(epoch)
        better = goodness > at.highest
        if better:
            best, at.highest, at.since, at.stale = network, goodness, 0, 0
        else:
            at.since, at.stale = at.since + 1, at.stale + 1
        at.epoch = epoch
        if epoch:
            at.rate, at.stale = settings.slowed(at.rate, at.stale)
        history.append({"epoch": epoch, "loss": loss, "temperature": temperature, **measured, "best": better})
        report(history[-1] | {"seconds": time.monotonic() - started})

    found = _resumed(resume, key)
    if last:
        descent = Descent(pairs, dims, towers, settings, start, whitening)
    if found and descent:
        state, weights, about = found
        descent.restore(state)
        at, history = _Progress(**about["at"]), about["history"]
        best = replace(descent.network(), weights=weights) if weights else best
    elif start is not None:
        note(0, None, start, settings.temperature)
    while descent and at.epoch < last and at.since <= settings.patience:
        epoch = descent.epoch(at.epoch + 1, at.rate)
        note(epoch.number, epoch.loss, epoch.network, epoch.temperature)
        if resume is not None:
            _write(resume, key, descent.state(), best, {"at": asdict(at), "history": history})
    assert best is not None
    card = {
        "settings": asdict(settings),
        "pairs": len(pairs),
        "validation_pairs": len(validation) if validation is not None else 0,
        "epoch": max((row["epoch"] for row in history if row["best"]), default=0),
        "history": history,
    }
    return replace(best, card=card)


def _key(
    pairs: Pairs,
    validation: Pairs | None,
    towers: tuple[str, str],
    dims: Dims,
    settings: Settings,
    start: Network | None,
) -> str:
    """What makes a training the same one: towers (which name the fields they read) and how they divide, settings,
    start, pairs."""
    parts = hashlib.sha256(
        repr((towers, tuple(map(tuple, dims)), settings, start.fingerprint if start else "")).encode()
    )
    for table in (pairs, validation) if validation is not None else (pairs,):
        parts.update(repr(([view.shape for view in table.texts], table.photos.shape)).encode())
        for fact in table.facts:
            parts.update(repr(fact).encode())
        for array in (table.text, table.photo, table.group, table.source):
            parts.update(np.ascontiguousarray(array).tobytes())
        parts.update(repr(table.weights).encode())
    return parts.hexdigest()


def _write(path: Path, key: str, state: dict[str, Any], best: Network | None, about: dict[str, Any]) -> None:
    import torch
    from safetensors.torch import save

    weights = {f"best.{name}": torch.from_numpy(w) for name, w in best.weights.items()} if best else {}
    with replacing(path, "wb") as stream:
        stream.write(save(state | weights, {"key": key, "about": json.dumps(about)}))


def _resumed(path: Path | None, key: str) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]] | None:
    """State, best weights and progress of an interrupted training, if the file is there, whole, and of this one."""
    if path is None or not path.exists():
        return None
    from safetensors import SafetensorError, safe_open

    try:
        with open_regular(path), safe_open(path, "pt") as file:
            about = file.metadata() or {}
            if about.get("key") != key:
                return None
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  not a dict
    except SafetensorError:
        return None
    weights = {
        name.removeprefix("best."): tensor.numpy().copy()
        for name, tensor in tensors.items()
        if name.startswith("best.")
    }
    return (
        {name: tensor for name, tensor in tensors.items() if not name.startswith("best.")},
        weights,
        json.loads(about["about"]),
    )


def fit(
    pairs: Pairs,
    towers: tuple[str, str],
    dims: Dims,
    settings: Settings,
    *,
    split: splits.Split | None = None,
    validation: float | None = None,
    test: float = 0,
    leaks: str = "error",
    pretrain: int | None = None,
    average: bool = False,
    refit: bool = False,
    state: Path | None = None,
    report: EpochReport = lambda epoch: None,
) -> Network:
    """Divide the pairs, pre-train, train, measure the test part, perhaps train again on everything; the card says all
    of it.

    Args:
        pairs: of all data sets.
        towers: fingerprints of the text and the photo tower.
        dims: how their rows divide into T and V features.
        settings: how to train.
        split: None is grouped.
        validation: pairs that choose the epoch; below 1 a share. None: 700, but at most a tenth of those that the
            network is for, and none without epochs.
        test: pairs that are only measured; below 1 a share.
        leaks: "error", or "keep" to train as the papers' random split does.
        pretrain: number of the data set that is trained on first; the others are fine-tuned on.
        average: train `settings.six()` and average them.
        refit: at the end, train again on every pair as it was found best.
        state: begin of the files from which an interrupted training goes on; `forget` deletes them when the network is
            saved.
        report: as for `train`; rows also have `stage`, and the last one `test`.

    Raises:
        DataError: the parts leak into one another, or nothing is left to train on.
        UsageError: what needs descent is asked of the closed form.
    """
    split = split or splits.Split()
    if leaks not in ("error", "keep"):
        raise UsageError(f"leaks={leaks!r}: known are error and keep")
    if not settings.epochs and (pretrain is not None or average):
        what, instead = (
            ("--pretrain", "name BIG as further DATA") if pretrain is not None else ("--average", "leave it out")
        )
        raise UsageError(
            f"{what} needs descent (--preset paper2022, or --epochs 8); the closed form has one solution: {instead}"
        )
    if validation is None:
        validation = min(700, int(pairs.main.sum()) // 10) if settings.epochs else 0
    parts = splits.divide(pairs, split, validation=validation, test=test, seed=settings.seed)
    leaked = splits.check(pairs, parts, keep=leaks == "keep")
    trained, validated, tested = parts

    def one(
        stage: str, rest: Pairs, judge: Pairs | None, how: Settings, start: Network | None, stop: int | None = None
    ) -> Network:
        path = state.with_name(f"{state.name}.{stage.replace(' ', '-')}.part") if state else None
        tell = (lambda row: report({"stage": stage, **row})) if stage != "train" else report
        return train(rest, judge, towers, how, dims=dims, start=start, stop=stop, resume=path, report=tell)

    big = np.zeros(len(pairs), np.bool_) if pretrain is None else pairs.source == pretrain
    before: dict[str, Any] = {}
    start: Network | None = None
    if pretrain is not None:
        table = replace(pairs.take(trained & big), weights=(1.0,) * len(pairs.weights))
        judged = splits.held_out(table.group, min(2000, len(table) // 10), seed=settings.seed)
        start = one("pretrain", table.take(~judged), table.take(judged), settings, None)
        before = {
            "pretrained": {"pairs": start.card["pairs"], "epoch": start.card["epoch"], "history": start.card["history"]}
        }
    many = settings.six() if average else (settings,)
    names = [f"{how.optimiser} {how.rate:g}" for how in many] if average else ["train"]
    rest, judge = pairs.take(trained & ~big), pairs.take(validated) if validated.any() else None
    members = [one(name, rest, judge, how, start) for name, how in zip(names, many, strict=True)]
    card: dict[str, Any] = dict(members[0].card) | before
    if average:
        card["members"] = [{"name": name, **member.card} for name, member in zip(names, members, strict=True)]
    made = averaged(members, card)
    if average and judge is not None:
        card["validation"] = measure(made, judge)
    card |= {"split": str(split), "seed": settings.seed, "leaks": splits.kinds(leaked), "refit": refit}
    if tested.any():
        card |= tested_card(made, pairs.take(tested))
        report({"test": card["test_pairs"], **card["test"]})
    if refit:
        again = [
            one(f"again {name}", pairs.take(~big), None, how, start, int(str(member.card["epoch"])))
            for name, how, member in zip(names, many, members, strict=True)
        ]
        made = averaged(again, card)
        card["pairs"] = int((~big).sum())
    return replace(made, card=card)


def forget(state: Path) -> None:
    """Delete the files from which an interrupted `fit` goes on: what came of it is saved."""
    for path in state.parent.glob(f"{escape(state.name)}.*.part"):
        path.unlink(missing_ok=True)


def tested_card(network: Network, pairs: Pairs) -> dict[str, Any]:
    """Measures of a part that nothing was chosen by, with 95 % intervals (bootstrap over groups of pairs that belong
    together)."""
    ranks = text_ranks(network, pairs)
    values = {f"R@{k}": ((ranks > 0) & (ranks <= k)).astype(float) for k in (1, 5, 10, 100)}
    values["MRR@100"] = np.where(ranks > 0, 1 / np.maximum(ranks, 1), 0.0)
    means = _resampled(np.stack(list(values.values()), axis=1), pairs.group)
    intervals = {
        name: [float(end) for end in np.quantile(means[:, i], [0.025, 0.975])] for i, name in enumerate(values)
    }
    return {"test_pairs": len(pairs), "test": measure(network, pairs), "test_intervals": intervals}


def _resampled(values: NDArray[np.float64], group: NDArray[np.int64], *, draws: int = 2000) -> NDArray[np.float64]:
    """(draws, k) means of the columns of (n, k) values over groups drawn with replacement; drawn in blocks, so that
    memory is bounded."""
    _, member = np.unique(group, return_inverse=True)
    sizes = np.bincount(member)
    sums = np.stack([sizes, *(np.bincount(member, column) for column in values.T)], axis=1)
    random, chance = np.random.default_rng(0), np.full(len(sizes), 1 / len(sizes))
    block = max(1, (1 << 22) // len(sizes))
    found = [
        random.multinomial(len(sizes), chance, size=min(block, draws - start)) @ sums
        for start in range(0, draws, block)
    ]
    drawn = np.concatenate(found)
    means: NDArray[np.float64] = drawn[:, 1:] / drawn[:, :1]
    return means


def epoch_line(row: dict[str, Any]) -> str:
    """One epoch as a JSON line."""
    return json.dumps({key: round(value, 5) if isinstance(value, float) else value for key, value in row.items()})
