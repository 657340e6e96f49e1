"""T×V in torch and its descent: an epoch at a time, the same for the same seed, whether or not it was interrupted.

The module and its losses are those of Galanopoulos and Mezaris ("Are all combinations equal?", ECCVW 2022) as the 2022
NewsImages paper uses them (section 3.3): Linear → BatchNorm → tanh → Dropout blocks, a margin loss summed over the
spaces; InfoNCE is ours beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from photodesk.encoders.txv import Network
from photodesk.errors import require
from photodesk.training.closed_form import Affine, Whitening
from photodesk.training.config import Settings
from photodesk.training.module import clip, fast_bf16, module
from photodesk.training.pairs import Pairs
from photodesk.types import FloatArray

A = TypeVar("A")

CALIBRATION = 16384  # rows from which the batch norms take their first statistics


@dataclass(frozen=True, eq=False)
class Epoch:
    """What one epoch gave: its mean loss, the network as it is now, and InfoNCE's temperature."""

    number: int
    loss: float
    network: Network
    temperature: float


class Descent:
    """A module, an optimiser and their data.

    Args:
        pairs: the training part.
        dims: (text_dims, visual_dims): how rows divide into T and V features.
        towers: fingerprints of the text and the photo tower.
        settings: how to train.
        start: a network to start from; None is random.
        whitening: descend in whitened coordinates; None takes features as they are.

    Raises:
        MissingExtra: torch is not installed.
    """

    def __init__(
        self,
        pairs: Pairs,
        dims: tuple[Sequence[int], Sequence[int]],
        towers: tuple[str, str],
        settings: Settings,
        start: Network | None,
        whitening: Whitening | None,
    ) -> None:
        self.torch = require("torch", "train")
        self.pairs, self.settings, self.towers = pairs, settings, towers
        self._main, self._others = np.flatnonzero(pairs.main), np.flatnonzero(~pairs.main)
        self.dims = tuple(dims[0]), tuple(dims[1])
        self.torch.manual_seed(settings.seed)
        width = (settings.dim, settings.dim) if start is None else start.weights["pair.0.0.w"].shape
        self.module = module(self.torch, self.dims, width, settings.dropout)
        self._exact = start is not None and (start.exact or any(name.endswith(".p") for name in start.weights))
        self.whitening = whitening
        self.white = {} if whitening is None else _tensors(self.torch, whitening)
        if start is not None:
            self._take_over(start)
        self.scale = self.torch.nn.Parameter(self.torch.tensor(-np.log(settings.temperature), dtype=self.torch.float32))
        self.optimiser = _optimiser(self.torch, settings, list(self.module.parameters()), self.scale)
        self.autocast = settings.precision == "bf16" or (settings.precision == "auto" and fast_bf16())

    def epoch(self, number: int, rate: float) -> Epoch:
        """One epoch, from 1 on.

        Args:
            number: of the epoch; with the seed it fixes every random choice in it.
            rate: a factor of the learning rate, as the schedule has it so far.
        """
        torch, settings = self.torch, self.settings
        random = np.random.default_rng([settings.seed, number])
        torch.manual_seed(int(random.integers(2**62)))
        order = random.permutation(self._drawn(random))
        self.module.train()
        total, steps = torch.zeros(()), max(1, len(order) // settings.batch)
        batches = [order[step * settings.batch : (step + 1) * settings.batch] for step in range(steps)]
        drawn = [(at, random.integers(len(self.pairs.texts), size=len(at))) for at in batches]
        for step, (at, read) in enumerate(_ahead(drawn, lambda one: self._read(*one))):
            progress = (number - 1 + step / steps) / max(settings.epochs, 1)
            falling = 0.5 * (1 + np.cos(np.pi * progress)) if settings.schedule == "cosine" else 1.0
            for part in self.optimiser.param_groups:
                part["lr"] = settings.rate * rate * falling
            texts, photos = self._tensors(*read, noise=settings.noise)
            with torch.autocast("cpu", torch.bfloat16, enabled=self.autocast):
                spaces = self.module(texts, photos)
            loss = losses(torch, spaces, torch.from_numpy(self.pairs.group[at]), self.scale, settings)
            self.optimiser.zero_grad()
            loss.backward()
            if settings.clip:
                clip(torch, list(self.module.parameters()), settings.clip)
            self.optimiser.step()
            total += loss.detach()
        self.module.eval()
        return Epoch(number, float(total) / steps, self.network(), float(torch.exp(-self.scale.detach())))

    def _drawn(self, random: np.random.Generator) -> NDArray[np.int64]:
        """The pairs of an epoch: all that the network is for, and at most as many others, so that neither drowns the
        other."""
        others = self._others if not self.settings.balanced else random.permutation(self._others)[: len(self._main)]
        return np.concatenate([self._main, others])

    def _rows(self, at: NDArray[np.int64], views: NDArray[np.int64], *, noise: float) -> tuple[list[Any], list[Any]]:
        """The pairs `at` as T and V tensors, whitened, with noise of so many times their spread."""
        return self._tensors(*self._read(at, views), noise=noise)

    def _read(self, at: NDArray[np.int64], views: NDArray[np.int64]) -> tuple[FloatArray, FloatArray]:
        """Features of the pairs `at`, each text in the view named."""
        texts = np.empty((len(at), sum(self.dims[0])), np.float32)
        for view in np.unique(views).tolist():
            texts[views == view] = self.pairs.text_rows(at[views == view], view)
        rows, which = np.unique(self.pairs.photo[at], return_inverse=True)
        return texts, self.pairs.photo_rows(rows)[which]

    def _tensors(self, texts: FloatArray, photos: FloatArray, *, noise: float) -> tuple[list[Any], list[Any]]:
        return self._side("texts", texts, self.dims[0], noise), self._side("photos", photos, self.dims[1], noise)

    def _side(self, side: str, rows: FloatArray, dims: Sequence[int], noise: float) -> list[Any]:
        torch, out = self.torch, []
        for i, part in enumerate(np.split(rows, np.cumsum(dims)[:-1], axis=1)):
            x = torch.from_numpy(np.ascontiguousarray(part))
            if side == "photos":
                x = torch.nn.functional.normalize(x, dim=1)
            if self.white and (known := self.white[side][i]) is not None:
                x = (x - known[0]) @ known[1]
            if noise:
                x = x + noise * x.std() * torch.randn(x.shape)
            out.append(x)
        return out

    def _take_over(self, start: Network) -> None:
        """Weights of a network; the batch norms get the statistics of the data and undo them, so that the output
        stays."""
        torch, module, weights = self.torch, self.module, dict(start.weights)
        for v in range(len(self.dims[1])):
            if (
                first := weights.get(f"photo.{v}.p")
            ) is not None:  # descent is free to leave the few directions, and its block is tanh without 1
                weights[f"photo.{v}.w"] = first @ weights[f"photo.{v}.w"]
                for t in range(len(self.dims[0])):
                    weights[f"pair.{v}.{t}.b"] = weights[f"pair.{v}.{t}.b"] + weights[f"pair.{v}.{t}.w"].sum(axis=0)
        at = np.random.default_rng(self.settings.seed).permutation(np.flatnonzero(self.pairs.main))[:CALIBRATION]
        with torch.no_grad():
            texts, photos = self._rows(at, np.zeros(len(at), np.int64), noise=0.0)
            for t, x in enumerate(texts):
                for v in range(len(self.dims[1])):
                    self._fill(module.texts[t][v], weights, f"text.{t}.{v}", x, self._unwhite("texts", t))
            for v, y in enumerate(photos):
                shared = self._fill(module.photos[v], weights, f"photo.{v}", y, self._unwhite("photos", v))
                for t in range(len(self.dims[0])):
                    self._fill(module.pairs[v][t], weights, f"pair.{v}.{t}", shared, None)

    def _unwhite(self, side: str, i: int) -> Affine | None:
        known: Affine | None = None if self.whitening is None else getattr(self.whitening, side)[i]
        return known

    def _fill(self, block: Any, weights: Any, name: str, x: Any, white: Affine | None) -> Any:
        torch = self.torch
        matrix, bias = weights[f"{name}.w"], weights[f"{name}.b"]
        if white is not None:  # x W + b is ((x − mean) white) (white⁻¹ W) + (b + mean W)
            matrix, bias = (
                np.linalg.solve(white[1].astype(np.float64), matrix).astype(np.float32),
                bias + white[0] @ matrix,
            )
        linear, norm = block[0], block[1]
        linear.weight.copy_(torch.from_numpy(np.ascontiguousarray(matrix.T)))
        linear.bias.copy_(torch.from_numpy(np.ascontiguousarray(bias, np.float32)))
        y = linear(x)
        mean, variance = y.mean(0), y.var(0, unbiased=False)
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance)
        norm.weight.copy_((variance + norm.eps).sqrt())
        norm.bias.copy_(mean)
        return torch.tanh(y)

    def network(self) -> Network:
        """The module as plain matrices: whitening and batch norm folded into the linear layers."""
        weights: dict[str, FloatArray] = {}

        def fold(name: str, block: Any, white: Affine | None) -> None:
            linear, norm = block[0], block[1]
            factor = norm.weight / (norm.running_var + norm.eps).sqrt()
            matrix = (linear.weight * factor[:, None]).T.detach().numpy()
            bias = ((linear.bias - norm.running_mean) * factor + norm.bias).detach().numpy()
            if white is not None:
                matrix = white[1] @ matrix
                bias = bias - white[0] @ matrix
            weights[f"{name}.w"], weights[f"{name}.b"] = (
                np.array(matrix, np.float32, order="C"),
                np.array(bias, np.float32),
            )

        for v in range(len(self.dims[1])):
            fold(f"photo.{v}", self.module.photos[v], self._unwhite("photos", v))
            for t in range(len(self.dims[0])):
                fold(f"text.{t}.{v}", self.module.texts[t][v], self._unwhite("texts", t))
                fold(f"pair.{v}.{t}", self.module.pairs[v][t], None)
        return Network(*self.towers, *self.dims, weights, exact=self._exact)

    def state(self) -> dict[str, Any]:
        """Everything that the next epoch needs: tensors by name, three times the weights with Adam, so only made for
        who keeps it."""
        torch = self.torch
        state = {f"module.{name}": tensor for name, tensor in self.module.state_dict().items()} | {
            "scale": self.scale.detach()
        }
        for i, parameter in enumerate(p for part in self.optimiser.param_groups for p in part["params"]):
            for name, value in self.optimiser.state.get(parameter, {}).items():
                state[f"optimiser.{i}.{name}"] = value if torch.is_tensor(value) else torch.tensor(value)
        return {name: tensor.detach().clone().contiguous() for name, tensor in state.items()}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        torch = self.torch
        self.module.load_state_dict(
            {name.removeprefix("module."): t for name, t in state.items() if name.startswith("module.")}
        )
        with torch.no_grad():
            self.scale.copy_(state["scale"])
        for i, parameter in enumerate(p for part in self.optimiser.param_groups for p in part["params"]):
            begin = f"optimiser.{i}."
            found = {
                name.removeprefix(begin): tensor.clone() for name, tensor in state.items() if name.startswith(begin)
            }
            if found:
                self.optimiser.state[parameter] = found


def _ahead(
    drawn: Sequence[tuple[NDArray[np.int64], Any]], read: Callable[[Any], A]
) -> Iterator[tuple[NDArray[np.int64], A]]:
    """Each batch with what is read of it; the next one is read while this one is computed."""
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(read, drawn[0])
        for this, following in zip(drawn, [*drawn[1:], None], strict=True):
            found = coming.result()
            if following is not None:
                coming = pool.submit(read, following)
            yield this[0], found


def losses(torch: Any, spaces: Sequence[Any], group: Any, scale: Any, settings: Settings) -> Any:
    """Both directions of InfoNCE on the mean cosine, or of the margin summed over the spaces.

    Pairs of one group are no negatives of each other: they share a title, a picture or a near-duplicate.
    """
    diagonal = torch.eye(len(group), dtype=torch.bool)
    alike = (group[:, None] == group[None]) & ~diagonal
    if settings.loss == "infonce":
        logits = (sum(spaces) / len(spaces) * torch.exp(scale).clamp(max=100)).masked_fill(alike, -1e4)
        right = torch.arange(len(group))
        return (
            torch.nn.functional.cross_entropy(logits, right) + torch.nn.functional.cross_entropy(logits.T, right)
        ) / 2
    total = torch.zeros(())
    for scores in spaces:
        own = scores.diagonal()
        wrong = scores.masked_fill(alike | diagonal, -2.0)
        for axis in (0, 1):  # the texts of a photo, then the photos of a text
            if settings.loss == "margin":
                total = total + (settings.margin + wrong.max(dim=axis).values - own).clamp(min=0).mean()
            else:
                total = total + (settings.margin + wrong - own.unsqueeze(axis)).clamp(min=0).sum() / len(own)
    return total


def _optimiser(torch: Any, settings: Settings, parameters: list[Any], scale: Any) -> Any:
    groups = [{"params": parameters, "weight_decay": settings.decay}, {"params": [scale], "weight_decay": 0.0}]
    if settings.optimiser == "rmsprop":
        return torch.optim.RMSprop(groups, lr=settings.rate)
    kind = torch.optim.AdamW if settings.optimiser == "adamw" else torch.optim.Adam
    return kind(groups, lr=settings.rate, fused=True)


def _tensors(torch: Any, whitening: Whitening) -> dict[str, list[tuple[Any, Any] | None]]:
    def pair(known: Affine | None) -> tuple[Any, Any] | None:
        return None if known is None else (torch.from_numpy(known[0]), torch.from_numpy(known[1]))

    return {side: [pair(known) for known in getattr(whitening, side)] for side in ("texts", "photos")}
