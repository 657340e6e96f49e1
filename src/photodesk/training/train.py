"""Training a T×V network on frozen features.

`train` is one training: start, gradient descent, choice of the best epoch. `fit` is all of `photodesk train`: split,
pre-training, training, averaging, test, refit, model card.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
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
from photodesk.training.gradient import GradientDescent
from photodesk.training.pairs import Pairs, measure, measures, ranks

Dims = tuple[Sequence[int], Sequence[int]]
EpochReport = Callable[[dict[str, Any]], None]


class _Selection:
    """Selects the best epoch of a training, and keeps its history and schedule.

    Args:
        settings: the criterion and the schedule.
        validation: pairs to measure epochs on; None takes the last epoch.
        report: as for `train`.

    Attributes:
        network: the best so far.
        at: state of the schedule, to resume from: the epoch, the rate's factor, epochs without a new best for the
            schedule (`stale`) and for the patience (`since`), and the criterion of the best epoch.
        history: a dictionary per epoch.
    """

    def __init__(self, settings: Settings, validation: Pairs | None, report: EpochReport) -> None:
        self._settings, self._validation, self._report = settings, validation, report
        self._started = time.monotonic()
        self.network: Network | None = None
        self.history: list[dict[str, Any]] = []
        self.at: dict[str, Any] = {"epoch": 0, "rate": 1.0, "stale": 0, "since": 0, "highest": -1.0}

    def note(self, epoch: int, loss: float | None, network: Network, temperature: float) -> None:
        """Measure an epoch; 0 is the start."""
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

    def continues(self, last: int) -> bool:
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

    Epoch 0 is the start, unless it is random. Without validation pairs the last epoch is kept.

    Args:
        pairs: the training part.
        validation: pairs to choose the epoch by, or None.
        towers: fingerprints of the text and the photo tower.
        settings: None takes the defaults.
        dims: sizes of the T text and V photo features; None: one each.
        start: a trained network to start from, instead of what the settings say.
        stop: train only for so many of the epochs; the schedule stays that of all.
        resume: file for the state after every epoch. If it exists and is of the same training, training resumes from
            it and ends with the same weights as without an interruption. The caller deletes it.
        report: called after every epoch with epoch, loss, temperature, seconds, measures, and whether it is the best.

    Raises:
        DataError: fewer than two pairs to train on.
        MissingExtra: torch is not installed.
    """
    settings = settings or Settings()
    dims = dims or ((pairs.texts[0].shape[1],), (pairs.photos.shape[1],))
    _check_enough(pairs)
    validation = validation if validation is not None and len(validation) else None
    best = _Selection(settings, validation, report)
    whitening: Whitening | None = None
    if start is None and settings.start == "closed":
        start, whitening = closed_form(pairs, *dims, towers, settings)
    last = settings.epochs if stop is None else min(stop, settings.epochs)
    if last:
        key = _key(pairs, validation, towers, dims, settings, start) if resume else ""
        descent = GradientDescent(pairs, dims, towers, settings, start, whitening)
        _run_epochs(descent, best, start, last, resume, key)
    elif start is not None:
        best.note(0, None, start, settings.temperature)
    assert best.network is not None
    card = {
        "settings": asdict(settings),
        "pairs": len(pairs),
        "validation_pairs": len(validation) if validation is not None else 0,
        "epoch": max(row["epoch"] for row in best.history if row["best"]),
        "history": best.history,
    }
    return replace(best.network, card=card)


def _check_enough(pairs: Pairs) -> None:
    if not len(pairs) or not pairs.main.any():
        raise DataError(splits.NONE_LEFT)
    if len(pairs) < 2:  # no negatives, and no variance
        raise DataError(
            "training needs at least 2 pairs and is left with 1; keep fewer apart with --validation and --test, or "
            "give more DATA"
        )


def _run_epochs(
    descent: GradientDescent, best: _Selection, start: Network | None, last: int, resume: Path | None, key: str
) -> None:
    """Epochs up to `last`, from the start or from the state in `resume`."""
    if found := _resumed(resume, key):
        tensors, about = found
        descent.restore(tensors)
        best.at, best.history = about["at"], about["history"]
        weights = {
            name.removeprefix("best."): tensor.numpy().copy()
            for name, tensor in tensors.items()
            if name.startswith("best.")
        }
        best.network = replace(descent.network(), weights=weights) if weights else start
    elif start is not None:
        best.note(0, None, start, descent.settings.temperature)
    while best.continues(last):
        number = best.at["epoch"] + 1
        loss = descent.epoch(number, best.at["rate"])
        best.note(number, loss, descent.network(), descent.temperature)
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
    """Digest of everything that determines a training: towers (which name the fields they read), dims, settings, start,
    pairs."""
    parts = hashlib.sha256(
        repr((towers, tuple(map(tuple, dims)), settings, start.fingerprint if start else "")).encode()
    )
    for table in filter(None, (pairs, validation)):
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


def _resumed(path: Path | None, key: str) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Tensors and progress of an interrupted training, if the file is complete and of this training."""
    if path is None or not path.exists():
        return None
    from safetensors import SafetensorError, safe_open

    try:
        with open_regular(path), safe_open(path, "pt") as file:
            about = file.metadata() or {}
            if about.get("key") != key:
                return None
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  not a dict
            return tensors, json.loads(about["about"])
    except SafetensorError:
        return None


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
    """Split the pairs, pre-train, train, measure the test part and refit; the card records all of it.

    Args:
        pairs: of all data sets.
        towers: fingerprints of the text and the photo tower.
        dims: sizes of the T text and V photo features.
        settings: how to train.
        split: None is grouped.
        validation: number of pairs that choose the epoch; below 1 a share. None: 700, or a tenth of the main pairs.
        test: number of pairs that are only measured; below 1 a share.
        leaks: "error", or "keep" to train as the papers' random split does.
        pretrain: number of the data set to pre-train on; the others are fine-tuned on.
        average: train `settings.six()` and average the networks.
        refit: at the end, train on every pair for the best number of epochs.
        state: prefix of the files that an interrupted training resumes from; `forget` deletes them.
        report: as for `train`; rows also have `stage`, and the last one `test`.

    Raises:
        DataError: the parts leak into one another, or nothing is left to train on.
        UsageError: an option that needs gradient descent with the closed form.
    """
    split = split or splits.Split()
    _check_options(settings, leaks, pretrain, average)
    if validation is None:
        validation = min(700, int(pairs.main.sum()) // 10) if settings.epochs else 0
    parts = splits.divide(pairs, split, validation=validation, test=test, seed=settings.seed)
    leaked = splits.check(pairs, parts, keep=leaks == "keep")
    trained, validated, tested = parts
    stages = _Stages(towers, dims, state, report)
    first = pairs.source == (-1 if pretrain is None else pretrain)
    start = None if pretrain is None else stages.pretrain(pairs.take(trained & first), settings)
    judge = pairs.take(validated) if validated.any() else None
    plans = {f"{one.optimiser} {one.rate:g}": one for one in settings.six()} if average else {"train": settings}
    members = {name: stages.run(name, pairs.take(trained & ~first), judge, one, start) for name, one in plans.items()}
    made, card = _averaged(members, start, judge)
    card |= {"split": str(split), "seed": settings.seed, "leaks": splits.kinds(leaked), "refit": refit}
    if tested.any():
        card |= tested_card(made, pairs.take(tested))
        report({"test": card["test_pairs"], **card["test"]})
    if refit:
        rest, epochs = pairs.take(~first), {name: int(str(member.card["epoch"])) for name, member in members.items()}
        again = [stages.run(f"again {name}", rest, None, one, start, epochs[name]) for name, one in plans.items()]
        made, card["pairs"] = averaged(again, card), len(rest)
    return replace(made, card=card)


def _check_options(settings: Settings, leaks: str, pretrain: int | None, average: bool) -> None:
    if leaks not in ("error", "keep"):
        raise UsageError(f"leaks={leaks!r}: known are error and keep")
    if not settings.epochs and (pretrain is not None or average):
        what, instead = (
            ("--pretrain", "name BIG as further DATA") if pretrain is not None else ("--average", "leave it out")
        )
        raise UsageError(
            f"{what} needs gradient descent (--preset paper2022, or --epochs 8); the closed form has one solution: "
            f"{instead}"
        )


@dataclass(frozen=True)
class _Stages:
    """The trainings of one `fit`, each with a name, and a file to resume from if `state` is given."""

    towers: tuple[str, str]
    dims: Dims
    state: Path | None
    report: EpochReport

    def run(
        self,
        stage: str,
        pairs: Pairs,
        judge: Pairs | None,
        settings: Settings,
        start: Network | None,
        stop: int | None = None,
    ) -> Network:
        resume = self.state and self.state.with_name(f"{self.state.name}.{stage.replace(' ', '-')}.part")
        report = (lambda row: self.report({"stage": stage, **row})) if stage != "train" else self.report
        return train(
            pairs, judge, self.towers, settings, dims=self.dims, start=start, stop=stop, resume=resume, report=report
        )

    def pretrain(self, pairs: Pairs, settings: Settings) -> Network:
        """A tenth of the pairs chooses the epoch."""
        pairs = replace(pairs, weights=(1.0,) * len(pairs.weights))
        validated = held_out(pairs.group, min(2000, len(pairs) // 10), seed=settings.seed)
        return self.run("pretrain", pairs.take(~validated), pairs.take(validated), settings, None)


def _averaged(
    members: Mapping[str, Network], start: Network | None, judge: Pairs | None
) -> tuple[Network, dict[str, Any]]:
    """The average of the networks, and its card so far."""
    networks = list(members.values())
    card: dict[str, Any] = dict(networks[0].card)
    if start is not None:
        card["pretrained"] = {name: start.card[name] for name in ("pairs", "epoch", "history")}
    made = averaged(networks, card)
    if len(networks) > 1:
        card["members"] = [{"name": name, **member.card} for name, member in members.items()]
        if judge is not None:
            card["validation"] = measure(made, judge)
    return made, card


def forget(state: Path) -> None:
    """Delete the files that an interrupted `fit` resumes from."""
    for path in state.parent.glob(f"{escape(state.name)}.*.part"):
        path.unlink(missing_ok=True)


def tested_card(network: Network, pairs: Pairs) -> dict[str, Any]:
    """Measures of the test part, with 95 % intervals by bootstrap over groups of pairs."""
    forth, back = ranks(network, pairs)
    _, member = np.unique(pairs.group, return_inverse=True)
    sizes = np.bincount(member)
    totals = np.stack([sizes, *(np.bincount(member, each.of(forth)) for each in FORTH)], axis=1)
    drawn = bootstrap.sums(totals, np.ones_like(sizes))
    intervals = zip(*bootstrap.interval(drawn[:, 1:] / drawn[:, :1]), strict=True)
    return {
        "test_pairs": len(pairs),
        "test": measures(forth, back),
        "test_intervals": dict(zip(map(str, FORTH), map(list, intervals), strict=True)),
    }


def epoch_line(row: dict[str, Any]) -> str:
    """One epoch as a JSON line."""
    return json.dumps({key: round(value, 5) if isinstance(value, float) else value for key, value in row.items()})
