"""Training a T×V network on frozen features: a closed-form warm start, then contrastive or margin fine-tuning in torch.

The warm start is a shrunken canonical correlation analysis: the directions in which texts and photos of right pairs agree
most, each side whitened with its covariance plus a ridge, weighted by the root of their correlation. It takes seconds, has no randomness and
with a few thousand pairs is hard to beat; gradient descent then starts from it, and the best epoch on the validation part is kept, the
warm start being epoch 0.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from photodesk.errors import DataError, UsageError, require
from photodesk.network import Network
from photodesk.pairs import Pairs, measure
from photodesk.records import FloatArray

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Settings:
    """How to train; the defaults are those of the built-in model (LOG.md says what they were chosen against).

    Args:
        loss: "infonce" (both directions, learned temperature) or "margin" (both directions, hardest negative of the batch).
        dim: D, numbers per joint space.
        epochs: at most so many; 0 keeps the warm start.
        patience: stop after so many epochs without a better validation measure.
        batch: pairs a step.
        rate: of AdamW; falls along a cosine to 0.
        decay: weight decay.
        dropout: in every block.
        noise: standard deviation of the noise on whitened features, as a share of theirs.
        temperature: where InfoNCE starts.
        margin: of the margin loss.
        ridge: of the warm start, in fiftieths of the total variance.
        power: to which the correlations of the warm start are weights, both sides together.
        other: weight of a pair of the further data sets beside one of the first.
        seed: of everything random.
    """

    loss: Literal["infonce", "margin"] = "infonce"
    dim: int = 384
    epochs: int = 8
    patience: int = 4
    batch: int = 1024
    rate: float = 3e-5
    decay: float = 0.1
    dropout: float = 0.1
    noise: float = 2.0
    temperature: float = 0.1
    margin: float = 0.2
    ridge: float = 0.1
    power: float = 2.0
    other: float = 0.03
    seed: int = 0

    def __post_init__(self) -> None:
        if self.loss not in ("infonce", "margin"):
            raise UsageError(f"loss={self.loss!r}: known are infonce and margin")
        if self.dim < 1 or self.batch < 2 or self.epochs < 0 or self.ridge <= 0:
            raise UsageError("dim needs at least 1, batch 2, epochs 0, and ridge more than 0")


@dataclass(frozen=True, eq=False)
class Start:
    """A warm start: per side the mean, the whitening matrix (d, d), and directions (d, D) in whitened space with their weights (D,)."""

    text_mean: FloatArray
    photo_mean: FloatArray
    text_white: FloatArray
    photo_white: FloatArray
    text_ways: FloatArray
    photo_ways: FloatArray
    weights: FloatArray


def warm_start(pairs: Pairs, settings: Settings) -> Start:
    """Shrunken canonical correlation analysis of the pairs, each data set centred on its own."""
    text_dim, photo_dim = pairs.texts.shape[2], pairs.photos.shape[1]
    tt, pp, tp = (np.zeros(shape) for shape in ((text_dim, text_dim), (photo_dim, photo_dim), (text_dim, photo_dim)))
    total = 0.0
    for part, weight in ((pairs.first, 1.0), (~pairs.first, settings.other)):
        if not part.any():
            continue
        photos = pairs.photos[pairs.photo[part]]
        photos = photos - photos.mean(axis=0)
        pp += weight * (photos.T @ photos)
        total += weight * int(part.sum())
        for view in pairs.texts:
            texts = view[part] - view[part].mean(axis=0)
            tt += weight / len(pairs.texts) * (texts.T @ texts)
            tp += weight / len(pairs.texts) * (texts.T @ photos)
    text_white, photo_white = (_whitening(c / total, settings.ridge) for c in (tt, pp))
    left, strength, right = np.linalg.svd(text_white @ (tp / total).astype(np.float32) @ photo_white, full_matrices=False)
    first = pairs.first
    return Start(
        pairs.texts[:, first].mean(axis=(0, 1)),
        pairs.photos[pairs.photo[first]].mean(axis=0),
        text_white,
        photo_white,
        np.ascontiguousarray(left[:, : settings.dim]),
        np.ascontiguousarray(right[: settings.dim].T),
        ((strength[: settings.dim] / max(float(strength[0]), 1e-9)) ** (settings.power / 2)).astype(np.float32),
    )


def _whitening(covariance: NDArray[np.float64], ridge: float) -> FloatArray:
    values, vectors = np.linalg.eigh(covariance + ridge / 50 * np.trace(covariance) * np.eye(len(covariance)))
    white: FloatArray = (vectors / np.sqrt(values) @ vectors.T).astype(np.float32)
    return white


def train(
    pairs: Pairs,
    validation: Pairs | None,
    towers: tuple[str, str],
    settings: Settings | None = None,
    *,
    stop: int | None = None,
    report: Callable[[dict[str, Any]], None] = lambda epoch: None,
) -> Network:
    """Train one joint space on `pairs` and keep the epoch that is best on `validation`.

    The measure is R@10 + R@100 + MRR@100 of titles. Epoch 0 is the warm start; the same seed gives the same weights.
    Without a validation part the last epoch is kept: to train on every pair as it was found best before.

    Args:
        pairs: the training part.
        validation: pairs that share no group with it, or None.
        towers: fingerprints of the text and the photo tower.
        settings: None takes the defaults.
        stop: run only so many of the epochs; the schedule stays that of all.
        report: called with one dictionary an epoch: epoch, loss, temperature, seconds, the measures, whether it is the best.

    Raises:
        DataError: there is no pair to train on.
        UsageError: validation and training share a group.
        MissingExtra: torch is not installed.
    """
    settings = settings or Settings()
    if not len(pairs) or not pairs.first.any():
        raise DataError(
            "no pair of the first data set is left to train on; keep fewer apart (pairs are kept apart in groups that share a title or picture)"
        )
    if validation is not None and not len(validation):
        validation = None
    if validation is not None and np.intersect1d(pairs.group, validation.group).size:
        raise UsageError("training and validation share articles or pictures; split them by group (held_out)")
    started = time.monotonic()
    start = warm_start(pairs, settings)
    best = fresh = _start_network(start, pairs, towers)
    history: list[dict[str, Any]] = []
    highest, since = -1.0, 0

    def note(epoch: int, loss: float | None, network: Network, temperature: float) -> None:
        nonlocal best, highest, since
        measured = measure(network, validation) if validation is not None else {}
        total = measured["R@10"] + measured["R@100"] + measured["MRR@100"] if measured else float(epoch)
        better = total > highest
        if better:
            best, highest, since = network, total, 0
        else:
            since += 1
        history.append({"epoch": epoch, "loss": loss, "temperature": temperature, **measured, "best": better})
        report(history[-1] | {"seconds": time.monotonic() - started})

    note(0, None, fresh, settings.temperature)
    last = settings.epochs if stop is None else min(stop, settings.epochs)
    if last:
        for epoch, (loss, network, temperature) in enumerate(islice(_descend(pairs, start, towers, settings), last), 1):
            note(epoch, loss, network, temperature)
            if since >= settings.patience:
                break
    kept = max(row["epoch"] for row in history if row["best"])
    card = {
        "settings": asdict(settings),
        "pairs": len(pairs),
        "validation_pairs": len(validation) if validation is not None else 0,
        "epoch": kept,
        "history": history,
    }
    return replace(best, card=card)


GAIN = 0.1  # standard deviation of tanh's arguments at the start: there it is straight, and bending costs a tenth of the recall


def _start_network(start: Start, pairs: Pairs, towers: tuple[str, str]) -> Network:
    """The warm start as a T×V network: projection in the first block, identity in the second."""

    def side(mean: FloatArray, white: FloatArray, ways: FloatArray, rows: FloatArray) -> tuple[FloatArray, FloatArray]:
        matrix = white @ (ways * start.weights)
        matrix = matrix * np.float32(GAIN / max(float(((rows - mean) @ matrix).std()), 1e-9))
        return matrix, -mean @ matrix

    text = side(start.text_mean, start.text_white, start.text_ways, pairs.texts[0, pairs.first])
    photo = side(start.photo_mean, start.photo_white, start.photo_ways, pairs.photos[pairs.photo[pairs.first]])
    dim = len(start.weights)
    weights = {
        "text.0.0.w": text[0], "text.0.0.b": text[1], "photo.0.w": photo[0], "photo.0.b": photo[1],
        "pair.0.0.w": np.eye(dim, dtype=np.float32), "pair.0.0.b": np.zeros(dim, np.float32),
    }  # fmt: skip
    dims = (len(start.text_mean),), (len(start.photo_mean),)
    return Network(*towers, *dims, {name: w.astype(np.float32) for name, w in weights.items()})


def _descend(pairs: Pairs, start: Start, towers: tuple[str, str], settings: Settings) -> Iterator[tuple[float, Network, float]]:
    """One (mean loss, network, temperature) an epoch, by AdamW from the warm start."""
    torch = require("torch", "train")
    torch.manual_seed(settings.seed)
    random = np.random.default_rng(settings.seed)
    whitened = [torch.from_numpy((view - start.text_mean) @ start.text_white) for view in pairs.texts]
    pictures = torch.from_numpy((pairs.photos - start.photo_mean) @ start.photo_white)
    photo, group = torch.from_numpy(pairs.photo), torch.from_numpy(pairs.group)
    model = _module(torch, start, settings)
    scale = torch.nn.Parameter(torch.tensor(-np.log(settings.temperature), dtype=torch.float32))
    optimiser = torch.optim.AdamW(
        [{"params": list(model.parameters()), "weight_decay": settings.decay}, {"params": [scale], "weight_decay": 0.0}], lr=settings.rate
    )
    first, other = np.flatnonzero(pairs.first), np.flatnonzero(~pairs.first)
    spreads = [float(x.std()) for x in (whitened[0], pictures)]
    with torch.no_grad():  # the statistics of the batch norms, before the first step
        model.train()
        model.text(whitened[0])
        model.photo(pictures[photo])
    steps_an_epoch = max(1, (2 * len(first)) // settings.batch) if len(other) else max(1, len(first) // settings.batch)
    for epoch in range(settings.epochs):
        model.train()
        # as many pairs of the other data sets as of the first, so that neither drowns the other
        drawn = np.concatenate([first, random.permutation(other)[: len(first)]])
        order = random.permutation(drawn)
        total = 0.0
        for step in range(steps_an_epoch):
            at = torch.from_numpy(order[step * settings.batch : (step + 1) * settings.batch])
            progress = (epoch + step / steps_an_epoch) / settings.epochs
            for part in optimiser.param_groups:
                part["lr"] = settings.rate * 0.5 * (1 + np.cos(np.pi * progress))
            view = torch.from_numpy(random.random(len(at)) < 0.5)[:, None]
            x = torch.where(view, whitened[-1][at], whitened[0][at])
            y = pictures[photo[at]]
            x = x + settings.noise * spreads[0] * torch.randn(x.shape)
            y = y + settings.noise * spreads[1] * torch.randn(y.shape)
            loss = _loss(torch, model.text(x) @ model.photo(y).T, group[at], scale, settings)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            total += float(loss.detach())
        model.eval()
        yield total / steps_an_epoch, _folded(model, start, towers), float(torch.exp(-scale.detach()))


def _loss(torch: Any, scores: Any, group: Any, scale: Any, settings: Settings) -> Any:
    """Both directions of InfoNCE or of the hardest-negative margin; pairs of one group are no negatives of each other."""
    diagonal = torch.eye(len(scores), dtype=torch.bool)
    alike = (group[:, None] == group[None]) & ~diagonal
    if settings.loss == "infonce":
        logits = (scores * torch.exp(scale).clamp(max=100)).masked_fill(alike, -1e4)
        right = torch.arange(len(scores))
        return (torch.nn.functional.cross_entropy(logits, right) + torch.nn.functional.cross_entropy(logits.T, right)) / 2
    wrong = scores.masked_fill(alike | diagonal, -2.0)
    own = scores.diagonal()
    return sum((settings.margin + wrong.max(dim=axis).values - own).clamp(min=0).mean() for axis in (0, 1))


def _module(torch: Any, start: Start, settings: Settings) -> Any:
    """T×V with T = V = 1 in torch, on whitened features, holding the warm start."""
    nn = torch.nn
    dim = len(start.weights)

    def block(weight: FloatArray, gain: FloatArray) -> torch.nn.Sequential:
        linear, norm = nn.Linear(weight.shape[1], dim), nn.BatchNorm1d(dim, momentum=0.05)
        with torch.no_grad():
            linear.weight.copy_(torch.from_numpy(weight))
            linear.bias.zero_()
            norm.weight.copy_(torch.from_numpy(gain))
        return nn.Sequential(linear, norm, nn.Tanh(), nn.Dropout(settings.dropout))

    gain = (start.weights * (GAIN / np.sqrt(np.mean(start.weights**2)))).astype(np.float32)

    class TxV(nn.Module):  # type: ignore[misc, name-defined]  # torch is untyped here
        def __init__(self) -> None:
            super().__init__()
            self.texts = block(start.text_ways.T.copy(), gain)
            self.photos = block(start.photo_ways.T.copy(), gain)
            self.pair = block(np.eye(dim, dtype=np.float32), np.tanh(gain))

        def text(self, x: Any) -> Any:
            return nn.functional.normalize(self.texts(x), dim=1)

        def photo(self, y: Any) -> Any:
            return nn.functional.normalize(self.pair(self.photos(y)), dim=1)

    return TxV()


def _folded(model: Any, start: Start, towers: tuple[str, str]) -> Network:
    """The trained module as plain matrices: whitening and batch norm folded into the linear layers."""

    def block(sequence: Any) -> tuple[FloatArray, FloatArray]:
        linear, norm = sequence[0], sequence[1]
        factor = norm.weight / (norm.running_var + norm.eps).sqrt()
        weight = (linear.weight * factor[:, None]).T
        bias = (linear.bias - norm.running_mean) * factor + norm.bias
        return weight.detach().numpy().copy(), bias.detach().numpy().copy()

    weights: dict[str, FloatArray] = {}
    for name, sequence, mean, white in (
        ("text.0.0", model.texts, start.text_mean, start.text_white),
        ("photo.0", model.photos, start.photo_mean, start.photo_white),
    ):
        weight, bias = block(sequence)
        weights[f"{name}.w"] = white @ weight
        weights[f"{name}.b"] = bias - mean @ weights[f"{name}.w"]
    weights["pair.0.0.w"], weights["pair.0.0.b"] = block(model.pair)
    return Network(*towers, (len(start.text_mean),), (len(start.photo_mean),), weights)


def epoch_line(row: dict[str, Any]) -> str:
    """One epoch as a JSON line."""
    return json.dumps({key: round(value, 5) if isinstance(value, float) else value for key, value in row.items()})
