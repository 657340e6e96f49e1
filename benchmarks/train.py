"""Training speed: photodesk's gradient descent against a plain transcription of the reference recipe, on the same
features in the same run.

    python benchmarks/train.py [--pairs 20000] [--epochs 2] [--json FILE]

Both train T×V (T = V = 1, D = 2048, batch 196, Adam, margin loss with the hardest negative, dropout 0.2, gradient clip
2) from random weights on 1024 + 1024 numbers a pair, such as ViT-H/14 gives. The transcription holds all features in
memory as tensors and computes in float32, as published code does; photodesk reads its batches from the store. Features
are made up: texts and photos that share 64 hidden numbers. Each route runs in a process of its own, in turns; what is
compared is pairs per second (median of the epochs), peak memory, and the quality on 1,000 pairs that were not trained
on. FILE gets the figures, stderr a table of them.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

WIDTH, HIDDEN, BATCH, DIM = 1024, 64, 196, 2048


def features(count: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    maps = random.standard_normal((2, HIDDEN, WIDTH)).astype(np.float32)
    shared = random.standard_normal((count, HIDDEN)).astype(np.float32)
    rows = [shared @ m + 12 * random.standard_normal((count, WIDTH)).astype(np.float32) for m in maps]
    texts, photos = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in rows)
    return texts, photos


class Tower:
    """A made-up tower, for the store's key."""

    batch, context, size = 4096, 0, 8

    def __init__(self, name: str) -> None:
        self.fingerprint, self.dim = name, WIDTH


def stored(folder: Path, count: int) -> None:
    from photodesk.features.shards import Shards, folder_name

    for name, rows in zip(("texts", "photos"), features(count), strict=True):
        with Shards(folder / folder_name(name), name, WIDTH) as shards:
            for i in range(0, count, 4096):
                shards.append([j.to_bytes(16) for j in range(i, min(i + 4096, count))], rows[i : i + 4096])


def ours(folder: Path, count: int, epochs: int) -> dict[str, object]:
    from dataclasses import replace

    from photodesk.features.store import Store
    from photodesk.training.config import PAPER_2022
    from photodesk.training.gradient import GradientDescent
    from photodesk.training.pairs import Pairs, measure

    store, keys = Store(folder), [i.to_bytes(16) for i in range(count)]
    at = np.arange(count)
    pairs = Pairs(
        (store.rows(keys, Tower("texts")),),
        at[None],
        store.rows(keys, Tower("photos")),
        at,
        at,
        np.zeros(count, np.int64),
    )
    test = pairs.take(at >= count - 1000)
    descent = GradientDescent(
        pairs.take(at < count - 1000), ((WIDTH,), (WIDTH,)), ("t", "p"), replace(PAPER_2022, epochs=epochs), None, None
    )
    seconds = []
    for number in range(1, epochs + 1):
        started = time.perf_counter()
        descent.epoch(number, 1.0)
        seconds.append(time.perf_counter() - started)
    return {
        "rate": (count - 1000) / statistics.median(seconds),
        "quality": measure(descent.network(), test)["R@10"],
        "bf16": descent.autocast,
    }


def reference(folder: Path, count: int, epochs: int) -> dict[str, object]:
    """As a reader of the paper would write it."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    texts, photos = (torch.from_numpy(x) for x in features(count))

    def block(size: int) -> nn.Module:
        linear = nn.Linear(size, DIM)
        nn.init.xavier_uniform_(linear.weight)
        nn.init.zeros_(linear.bias)
        return nn.Sequential(linear, nn.BatchNorm1d(DIM), nn.Tanh(), nn.Dropout(0.2))

    text, shared, photo = block(WIDTH), block(WIDTH), block(DIM)
    parameters = [*text.parameters(), *shared.parameters(), *photo.parameters()]
    optimiser = torch.optim.Adam(parameters, lr=1e-4)
    train = count - 1000
    seconds = []
    for _ in range(epochs):
        started = time.perf_counter()
        order = torch.randperm(train)
        for i in range(train // BATCH):
            at = order[i * BATCH : (i + 1) * BATCH]
            a = nn.functional.normalize(text(texts[at]), dim=1)
            b = nn.functional.normalize(photo(shared(nn.functional.normalize(photos[at], dim=1))), dim=1)
            scores = a @ b.T
            own = scores.diagonal().view(-1, 1)
            mask = torch.eye(len(at), dtype=torch.bool)
            cost_photo = (0.2 + scores - own).clamp(min=0).masked_fill(mask, 0).max(1)[0]
            cost_text = (0.2 + scores - own.T).clamp(min=0).masked_fill(mask, 0).max(0)[0]
            loss = cost_photo.mean() + cost_text.mean()
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 2)
            optimiser.step()
        seconds.append(time.perf_counter() - started)
    for part in (text, shared, photo):
        part.eval()
    with torch.no_grad():
        a = nn.functional.normalize(text(texts[train:]), dim=1)
        b = nn.functional.normalize(photo(shared(nn.functional.normalize(photos[train:], dim=1))), dim=1)
        scores = a @ b.T
        rank = (scores >= scores.diagonal().view(-1, 1)).sum(1)
    return {"rate": train / statistics.median(seconds), "quality": float((rank <= 10).float().mean())}


def limit() -> float:
    """Pairs per second of nothing but the products of a step, in bfloat16 where the CPU has it: forwards and twice
    backwards."""
    import torch

    from photodesk.training.gradient import fast_bf16

    dtype = torch.bfloat16 if fast_bf16() else torch.float32
    shapes = [(WIDTH, DIM), (WIDTH, DIM), (DIM, DIM)]
    blocks = [
        (torch.randn(BATCH, a, dtype=dtype), torch.randn(a, b, dtype=dtype), torch.randn(BATCH, b, dtype=dtype))
        for a, b in shapes
    ]
    best = 1e9
    for _ in range(12):
        started = time.perf_counter()
        for x, w, g in blocks:
            _ = x @ w, g @ w.T, x.T @ g
        best = min(best, time.perf_counter() - started)
    return BATCH / best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--pairs", type=int, default=20_000)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--json", type=Path, default=Path(__file__).with_suffix(".json"))
    parser.add_argument("--route", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    call = parser.parse_args()
    if call.route:
        done = {"ours": ours, "reference": reference}[call.route](call.folder, call.pairs, call.epochs)
        done["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps(done))
        return
    found: dict[str, list[dict[str, float]]] = {"reference": [], "ours": []}
    with tempfile.TemporaryDirectory() as folder:
        stored(Path(folder), call.pairs)
        for _ in range(call.rounds):
            for route, rows in found.items():
                command = [
                    sys.executable,
                    __file__,
                    "--route",
                    route,
                    "--folder",
                    folder,
                    "--pairs",
                    str(call.pairs),
                    "--epochs",
                    str(call.epochs),
                ]
                rows.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
    best = {
        route: {key: statistics.median(row[key] for row in rows) for key in rows[0]} for route, rows in found.items()
    }
    bound = limit()
    result = {
        **best,
        "ratio": best["ours"]["rate"] / best["reference"]["rate"],
        "limit": bound,
        "of_limit": best["ours"]["rate"] / bound,
    }
    call.json.write_text(json.dumps(result, indent=1) + "\n")
    for route, row in best.items():
        print(
            f"{route:10} {row['rate']:8.0f} pairs/s   peak {row['peak_mb']:6.0f} MB   R@10 on unseen pairs "
            f"{row['quality']:.3f}",
            file=sys.stderr,
        )
    print(
        f"ratio {result['ratio']:.2f}; bare products of a step {bound:.0f} pairs/s, ours is {result['of_limit']:.2f} "
        "of them",
        file=sys.stderr,
    )


if __name__ == "__main__":
    main()
