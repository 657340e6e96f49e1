"""Training of T×V by gradient descent in torch: deterministic for a seed, and resumable after every epoch.

The module and its losses are those of Galanopoulos and Mezaris ("Are all combinations equal?", ECCVW 2022) as the 2022
NewsImages paper uses them (section 3.3): Linear → BatchNorm → tanh → Dropout blocks, a margin loss summed over the
spaces. InfoNCE is our addition.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from photodesk.encoders.txv import Network
from photodesk.errors import require
from photodesk.training.closed_form import Affine, Whitening
from photodesk.training.config import Settings
from photodesk.training.module import clip, fast_bf16, module
from photodesk.training.pairs import Pairs
from photodesk.types import FloatArray

Rows = tuple[FloatArray, FloatArray]

CALIBRATION = 16384  # rows for the initial statistics of the batch norms


class GradientDescent:
    """A module, an optimiser and their data.

    Args:
        pairs: the training part.
        dims: (text_dims, visual_dims): sizes of the T and V features.
        towers: fingerprints of the text and the photo tower.
        settings: how to train.
        start: initial network; None is random.
        whitening: of the features; None leaves them as they are.

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
        self._whitening = whitening or Whitening(*((None,) * len(side) for side in self.dims))
        if start is not None:
            self._initialise(start)
        self.scale = self.torch.nn.Parameter(self.torch.tensor(-np.log(settings.temperature), dtype=self.torch.float32))
        self.optimiser = _optimiser(self.torch, settings, list(self.module.parameters()), self.scale)
        self.autocast = settings.precision == "bf16" or (settings.precision == "auto" and fast_bf16())

    @property
    def temperature(self) -> float:
        """Of InfoNCE."""
        return float(self.torch.exp(-self.scale.detach()))

    def epoch(self, number: int, rate: float) -> float:
        """Train for one epoch.

        Args:
            number: of the epoch, from 1; with the seed it determines every random choice.
            rate: factor of the learning rate by the schedule so far.

        Returns:
            The mean loss.
        """
        torch, settings = self.torch, self.settings
        random = np.random.default_rng([settings.seed, number])
        torch.manual_seed(int(random.integers(2**62)))
        others = random.permutation(self._others)[: len(self._main)] if settings.balanced else self._others
        order = random.permutation(np.concatenate([self._main, others]))
        self.module.train()
        total, steps = torch.zeros(()), max(1, len(order) // settings.batch)
        batches = [order[step * settings.batch : (step + 1) * settings.batch] for step in range(steps)]
        views = [random.integers(len(self.pairs.texts), size=len(at)) for at in batches]
        for step, (at, rows) in enumerate(zip(batches, _prefetched(self._read, batches, views), strict=True)):
            progress = (number - 1 + step / steps) / max(settings.epochs, 1)
            decay = 0.5 * (1 + np.cos(np.pi * progress)) if settings.schedule == "cosine" else 1.0
            for part in self.optimiser.param_groups:
                part["lr"] = settings.rate * rate * decay
            with torch.autocast("cpu", torch.bfloat16, enabled=self.autocast):
                spaces = self.module(*self._features(*rows, settings.noise))
            loss = losses(torch, spaces, torch.from_numpy(self.pairs.group[at]), self.scale, settings)
            self.optimiser.zero_grad()
            loss.backward()
            if settings.clip:
                clip(torch, list(self.module.parameters()), settings.clip)
            self.optimiser.step()
            total += loss.detach()
        self.module.eval()
        return float(total) / steps

    def _read(self, at: NDArray[np.int64], views: NDArray[np.int64]) -> Rows:
        """Rows of the pairs `at`, each text in its view."""
        texts = np.empty((len(at), sum(self.dims[0])), np.float32)
        for view in np.unique(views).tolist():
            texts[views == view] = self.pairs.text_rows(at[views == view], view)
        rows, which = np.unique(self.pairs.photo[at], return_inverse=True)
        return texts, self.pairs.photo_rows(rows)[which]

    def _features(self, texts: FloatArray, photos: FloatArray, noise: float = 0.0) -> tuple[list[Any], list[Any]]:
        """Rows as T and V whitened tensors, with noise of `noise` standard deviations."""
        torch = self.torch

        def divided(rows: FloatArray, dims: Sequence[int]) -> list[Any]:
            parts = np.split(rows, np.cumsum(dims)[:-1], axis=1)
            return [torch.from_numpy(np.ascontiguousarray(part)) for part in parts]

        def whitened(x: Any, white: Affine | None) -> Any:
            if white is not None:
                mean, matrix = map(torch.from_numpy, white)
                x = (x - mean) @ matrix
            return x + noise * x.std() * torch.randn(x.shape) if noise else x

        units = (torch.nn.functional.normalize(x, dim=1) for x in divided(photos, self.dims[1]))
        return (
            list(map(whitened, divided(texts, self.dims[0]), self._whitening.texts)),
            list(map(whitened, units, self._whitening.photos)),
        )

    def _blocks(self) -> Iterator[tuple[str, Any, Affine | None]]:
        """Name, module and input whitening of every block; the shared block of a photo before its pair blocks."""
        for v, photo in enumerate(self.module.photos):
            yield f"photo.{v}", photo, self._whitening.photos[v]
            for t, text in enumerate(self.module.texts):
                yield f"text.{t}.{v}", text[v], self._whitening.texts[t]
                yield f"pair.{v}.{t}", self.module.pairs[v][t], None

    def _initialise(self, start: Network) -> None:
        """Take the weights of a network; the batch norms get the statistics of the data and keep the output."""
        weights = dict(start.weights)
        for v in range(len(self.dims[1])):
            if (first := weights.get(f"photo.{v}.p")) is not None:
                # gradient descent is not restricted to the directions, and its blocks are tanh without 1
                weights[f"photo.{v}.w"] = first @ weights[f"photo.{v}.w"]
                for t in range(len(self.dims[0])):
                    weights[f"pair.{v}.{t}.b"] = weights[f"pair.{v}.{t}.b"] + weights[f"pair.{v}.{t}.w"].sum(axis=0)
        at = np.random.default_rng(self.settings.seed).permutation(self._main)[:CALIBRATION]
        with self.torch.no_grad():
            texts, photos = self._features(*self._read(at, np.zeros(len(at), np.int64)))
            shared: Any = None
            for name, block, white in self._blocks():
                kind, i, *_ = name.split(".")
                x = shared if kind == "pair" else (texts if kind == "text" else photos)[int(i)]
                y = self._fill(block, weights[f"{name}.w"], weights[f"{name}.b"], x, white)
                shared = y if kind == "photo" else shared

    def _fill(self, block: Any, matrix: FloatArray, bias: FloatArray, x: Any, white: Affine | None) -> Any:
        torch = self.torch
        if white is not None:  # x W + b is ((x − mean) white) (white⁻¹ W) + (b + mean W)
            bias = bias + white[0] @ matrix
            matrix = np.linalg.solve(white[1].astype(np.float64), matrix).astype(np.float32)
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
        for name, (linear, norm, *_), white in self._blocks():
            factor = norm.weight / (norm.running_var + norm.eps).sqrt()
            matrix = (linear.weight * factor[:, None]).T.detach().numpy()
            bias = ((linear.bias - norm.running_mean) * factor + norm.bias).detach().numpy()
            if white is not None:
                matrix = white[1] @ matrix
                bias = bias - white[0] @ matrix
            weights[f"{name}.w"] = np.array(matrix, np.float32, order="C")
            weights[f"{name}.b"] = np.array(bias, np.float32)
        return Network(*self.towers, *self.dims, weights, exact=self._exact)

    def state(self) -> dict[str, Any]:
        """Copies of all tensors that the next epoch depends on, by name: with Adam three times the weights."""
        torch = self.torch
        state = {f"module.{name}": tensor for name, tensor in self.module.state_dict().items()}
        state["scale"] = self.scale
        for i, parameter in enumerate(self._parameters()):
            for name, value in self.optimiser.state.get(parameter, {}).items():
                state[f"optimiser.{i}.{name}"] = value if torch.is_tensor(value) else torch.tensor(value)
        return {name: tensor.detach().clone().contiguous() for name, tensor in state.items()}

    def restore(self, state: dict[str, Any]) -> None:
        """Resume from what `state` returned."""

        def under(prefix: str) -> dict[str, Any]:
            return {name.removeprefix(prefix): x.clone() for name, x in state.items() if name.startswith(prefix)}

        self.module.load_state_dict(under("module."))
        with self.torch.no_grad():
            self.scale.copy_(state["scale"])
        for i, parameter in enumerate(self._parameters()):
            if found := under(f"optimiser.{i}."):
                self.optimiser.state[parameter] = found

    def _parameters(self) -> list[Any]:
        return [parameter for group in self.optimiser.param_groups for parameter in group["params"]]


def _prefetched(read: Callable[..., Rows], *arguments: Sequence[Any]) -> Iterator[Rows]:
    """As `map`; the next item is read while this one is used."""
    with ThreadPoolExecutor(1) as pool:
        pending = []
        for each in zip(*arguments, strict=True):
            pending.append(pool.submit(read, *each))
            if len(pending) > 1:
                yield pending.pop(0).result()
        yield pending.pop().result()


def losses(torch: Any, spaces: Sequence[Any], group: Any, scale: Any, settings: Settings) -> Any:
    """Both directions of InfoNCE on the mean cosine, or of the margin summed over the spaces.

    Pairs of one group, which share a title, a picture or a near-duplicate, are not negatives of each other.
    """
    diagonal = torch.eye(len(group), dtype=torch.bool)
    same = (group[:, None] == group[None]) & ~diagonal
    if settings.loss == "infonce":
        logits = (sum(spaces) / len(spaces) * torch.exp(scale).clamp(max=100)).masked_fill(same, -1e4)
        right = torch.arange(len(group))
        return (
            torch.nn.functional.cross_entropy(logits, right) + torch.nn.functional.cross_entropy(logits.T, right)
        ) / 2
    total = torch.zeros(())
    for scores in spaces:
        own = scores.diagonal()
        wrong = scores.masked_fill(same | diagonal, -2.0)
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
