"""Training a T×V network on frozen features: start, descent, the best epoch kept; pre-training, refitting and averaging
around it.

`train` is one training; `fit` is the whole of `photodesk train`: parts, stages, members, measures, card.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from glob import escape
from pathlib import Path
from typing import Any

import numpy as np

from photodesk.data.groups import held_out
from photodesk.encoders.txv import Network, averaged, rounded
from photodesk.errors import DataError, UsageError
from photodesk.evaluation import bootstrap
from photodesk.files import open_regular, replacing
from photodesk.training import splits
from photodesk.training.closed_form import Whitening, closed_form
from photodesk.training.config import FORTH, Settings
from photodesk.training.gradient import Descent
from photodesk.training.pairs import Pairs, measure, text_ranks

Dims = tuple[Sequence[int], Sequence[int]]
EpochReport = Callable[[dict[str, Any]], None]


class _Best:
    """Judges the epochs of a training: keeps the best network, the history, and where the training is.

    Args:
        settings: what is best, and the schedule.
        validation: pairs to judge by; None takes the last epoch.
        report: as for `train`.

    Attributes:
        network: the best so far.
        at: state of the schedule, to resume from: the epoch, the rate's factor, epochs without a new best as the
            schedule and as the patience count them, and what the best has.
        history: one dictionary an epoch.
    """

    def __init__(self, settings: Settings, validation: Pairs | None, report: EpochReport) -> None:
        self._settings, self._validation, self._report = settings, validation, report
        self._started = time.monotonic()
        self.network: Network | None = None
        self.history: list[dict[str, Any]] = []
        self.at: dict[str, Any] = {"epoch": 0, "rate": 1.0, "stale": 0, "since": 0, "highest": -1.0}

    def note(self, epoch: int, loss: float | None, network: Network, temperature: float) -> None:
        """Judge an epoch; 0 is the start."""
        at, network = self.at, rounded(network)
        measured = measure(network, self._validation) if self._validation is not None else {}
        goodness = self._settings.goodness(measured) if measured else float(epoch)
        better = goodness > at["highest"]
        at["epoch"], at["since"], at["stale"] = epoch, at["since"] + 1, at["stale"] + 1
        if better:
            self.network, at["highest"], at["since"], at["stale"] = network, goodness, 0, 0
        if epoch:
            at["rate"], at["stale"] = self._settings.slowed(at["rate"], at["stale"])
        self.history.append({"epoch": epoch, "loss": loss, "temperature": temperature, **measured, "best": better})
        self._report(self.history[-1] | {"seconds": time.monotonic() - self._started})

    def goes_on(self, last: int) -> bool:
        """Whether another epoch follows, of `last` at most."""
        return bool(self.at["epoch"] < last and self.at["since"] <= self._settings.patience)


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
    _check_enough(pairs)
    validation = validation if validation is not None and len(validation) else None
    best = _Best(settings, validation, report)
    whitening: Whitening | None = None
    if start is None and settings.start == "closed":
        start, whitening = closed_form(pairs, *dims, towers, settings)
    last = settings.epochs if stop is None else min(stop, settings.epochs)
    if last:
        key = _key(pairs, validation, towers, dims, settings, start) if resume else ""
        _descend(Descent(pairs, dims, towers, settings, start, whitening), best, start, last, resume, key)
    elif start is not None:
        best.note(0, None, start, settings.temperature)
    assert best.network is not None
    card = {
        "settings": asdict(settings),
        "pairs": len(pairs),
        "validation_pairs": len(validation) if validation is not None else 0,
        "epoch": max((row["epoch"] for row in best.history if row["best"]), default=0),
        "history": best.history,
    }
    return replace(best.network, card=card)


def _check_enough(pairs: Pairs) -> None:
    if not len(pairs) or not pairs.main.any():
        raise DataError(splits.NONE_LEFT)
    if len(pairs) < 2:  # nothing to tell it from, and no spread
        raise DataError(
            "training needs at least 2 pairs and is left with 1; keep fewer apart with --validation and --test, or "
            "give more DATA"
        )


def _descend(descent: Descent, best: _Best, start: Network | None, last: int, resume: Path | None, key: str) -> None:
    """Epochs up to `last`, from the start or from where the file `resume` says that this training was."""
    if found := _resumed(resume, key):
        state, weights, about = found
        descent.restore(state)
        best.at, best.history = about["at"], about["history"]
        best.network = replace(descent.network(), weights=weights) if weights else start
    elif start is not None:
        best.note(0, None, start, descent.settings.temperature)
    while best.goes_on(last):
        epoch = descent.epoch(best.at["epoch"] + 1, best.at["rate"])
        best.note(epoch.number, epoch.loss, epoch.network, epoch.temperature)
        if resume is not None:
            _write(resume, key, descent.state(), best.network, {"at": best.at, "history": best.history})


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
    """Divide the pairs, pre-train, train, measure the test part, train again on everything; all of it is in the card.

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
        state: begin of the files that an interrupted training resumes from; `forget` deletes them.
        report: as for `train`; rows also have `stage`, and the last one `test`.

    Raises:
        DataError: the parts leak into one another, or nothing is left to train on.
        UsageError: what needs descent is asked of the closed form.
    """
    split = split or splits.Split()
    _check_asked(settings, leaks, pretrain, average)
    if validation is None:
        validation = min(700, int(pairs.main.sum()) // 10) if settings.epochs else 0
    parts = splits.divide(pairs, split, validation=validation, test=test, seed=settings.seed)
    leaked = splits.check(pairs, parts, keep=leaks == "keep")
    trained, validated, tested = parts
    stages, many = _Stages(towers, dims, state, report), settings.six() if average else (settings,)
    big = np.zeros(len(pairs), np.bool_) if pretrain is None else pairs.source == pretrain
    start = None if pretrain is None else stages.before(pairs.take(trained & big), settings)
    judge = pairs.take(validated) if validated.any() else None
    members = stages.members(many, pairs.take(trained & ~big), judge, start)
    made, card = _averaged(members, many, start, judge)
    card |= {"split": str(split), "seed": settings.seed, "leaks": splits.kinds(leaked), "refit": refit}
    if tested.any():
        card |= tested_card(made, pairs.take(tested))
        report({"test": card["test_pairs"], **card["test"]})
    if refit:
        made = averaged(stages.again(many, pairs.take(~big), members, start), card)
        card["pairs"] = int((~big).sum())
    return replace(made, card=card)


def _check_asked(settings: Settings, leaks: str, pretrain: int | None, average: bool) -> None:
    if leaks not in ("error", "keep"):
        raise UsageError(f"leaks={leaks!r}: known are error and keep")
    if not settings.epochs and (pretrain is not None or average):
        what, instead = (
            ("--pretrain", "name BIG as further DATA") if pretrain is not None else ("--average", "leave it out")
        )
        raise UsageError(
            f"{what} needs descent (--preset paper2022, or --epochs 8); the closed form has one solution: {instead}"
        )


class _Stages:
    """The trainings of one `fit`, each with a name, and a file to resume from if `state` says where."""

    def __init__(self, towers: tuple[str, str], dims: Dims, state: Path | None, report: EpochReport) -> None:
        self._towers, self._dims, self._state, self._report = towers, dims, state, report

    def _run(
        self,
        stage: str,
        rest: Pairs,
        judge: Pairs | None,
        how: Settings,
        start: Network | None,
        stop: int | None = None,
    ) -> Network:
        path = self._state.with_name(f"{self._state.name}.{stage.replace(' ', '-')}.part") if self._state else None
        report = (lambda row: self._report({"stage": stage, **row})) if stage != "train" else self._report
        return train(
            rest, judge, self._towers, how, dims=self._dims, start=start, stop=stop, resume=path, report=report
        )

    def before(self, pairs: Pairs, settings: Settings) -> Network:
        """On the set to pre-train on, of which a tenth judges."""
        table = replace(pairs, weights=(1.0,) * len(pairs.weights))
        judged = held_out(table.group, min(2000, len(table) // 10), seed=settings.seed)
        return self._run("pretrain", table.take(~judged), table.take(judged), settings, None)

    def members(
        self, many: Sequence[Settings], rest: Pairs, judge: Pairs | None, start: Network | None
    ) -> list[Network]:
        """One for each of the settings."""
        return [self._run(name, rest, judge, how, start) for name, how in _named(many)]

    def again(
        self, many: Sequence[Settings], pairs: Pairs, members: Sequence[Network], start: Network | None
    ) -> list[Network]:
        """On other pairs, for as many epochs as were best before."""
        return [
            self._run(f"again {name}", pairs, None, how, start, int(str(member.card["epoch"])))
            for (name, how), member in zip(_named(many), members, strict=True)
        ]


def _named(many: Sequence[Settings]) -> list[tuple[str, Settings]]:
    return [(f"{how.optimiser} {how.rate:g}" if len(many) > 1 else "train", how) for how in many]


def _averaged(
    members: Sequence[Network], many: Sequence[Settings], start: Network | None, judge: Pairs | None
) -> tuple[Network, dict[str, Any]]:
    """The trainings as one network, and its card so far."""
    card: dict[str, Any] = dict(members[0].card)
    if start is not None:
        card["pretrained"] = {name: start.card[name] for name in ("pairs", "epoch", "history")}
    made = averaged(members, card)
    if len(many) > 1:
        card["members"] = [
            {"name": name, **member.card} for (name, _), member in zip(_named(many), members, strict=True)
        ]
        if judge is not None:
            card["validation"] = measure(made, judge)
    return made, card


def forget(state: Path) -> None:
    """Delete the files from which an interrupted `fit` goes on: what came of it is saved."""
    for path in state.parent.glob(f"{escape(state.name)}.*.part"):
        path.unlink(missing_ok=True)


def tested_card(network: Network, pairs: Pairs) -> dict[str, Any]:
    """Measures of a part that nothing was chosen by, with 95 % intervals (bootstrap over groups of pairs that belong
    together)."""
    ranks = text_ranks(network, pairs)
    _, member = np.unique(pairs.group, return_inverse=True)
    sizes = np.bincount(member)
    totals = np.stack([sizes, *(np.bincount(member, each.of(ranks)) for each in FORTH)], axis=1)
    drawn = bootstrap.sums(totals, np.ones_like(sizes))
    intervals = zip(*bootstrap.interval(drawn[:, 1:] / drawn[:, :1]), strict=True)
    return {
        "test_pairs": len(pairs),
        "test": measure(network, pairs),
        "test_intervals": dict(zip(map(str, FORTH), map(list, intervals), strict=True)),
    }


def epoch_line(row: dict[str, Any]) -> str:
    """One epoch as a JSON line."""
    return json.dumps({key: round(value, 5) if isinstance(value, float) else value for key, value in row.items()})
