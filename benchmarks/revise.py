"""Revision compared with the bare matrix product that it needs, the whole-matrix forms, and nnn-retrieval.

    python benchmarks/revise.py [--sizes 8500x8500 10000x100000]
        [--methods "dual_softmax(temperature=1)" "nnn(k=128, alpha=0.75)"]
        [--dim 512] [--precision float32] [--json FILE]

For each size, random unit rows (with a common part, so that there are hubs) are revised and the best 100 of each
article kept. The limit is two passes of a blocked matrix product of the same shape: once to read the bank, once to
rank. By itself photodesk takes bfloat16 for a pass where that is exact and pays; `--precision float32` keeps it from
doing so. Rows:

    bare product    one pass of numpy.matmul over the same blocks in float32, nothing done with the scores
    bare bfloat16   the same by torch in bfloat16
    × its passes    photodesk divided by the bare products of its two passes, each in the precision that it has
    photodesk       `ranking.dual_softmax`: offsets of the photos and the best 100 as arrays; "as Run" adds the hits as
                    Python objects
    whole matrix    the paper's lines in numpy (both softmaxes, float32, in place where it can be) and argpartition;
                    up to 20,000 × 20,000
    nnn-retrieval   the authors' package for NNN (pip install nnn-retrieval; needs torch), in its own batches of 128

Bare product and photodesk are timed in turn `--repeats` times, and the ratio is of the best of each. Peak memory
(Linux) is what photodesk took in addition to the inputs: blocks and results. Where both ran, the top 100 have to
agree, but for scores within rounding.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from photodesk.ranking import bfloat16, dual_softmax, similarity
from photodesk.ranking.revisions import Revision, parse
from photodesk.types import Embeddings


def embeddings(n: int, dim: int, seed: int, prefix: str) -> Embeddings:
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((n, dim), np.float32) + np.float32(0.3)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return Embeddings(tuple(f"{prefix}{i:08}" for i in range(n)), rows, "random")


def bare(articles: np.ndarray, photos: np.ndarray) -> None:
    a, p = similarity.block_of(len(photos))
    room = np.empty(a * p, np.float32)
    for first in range(0, len(photos), p):
        right = photos[first : first + p]
        for start in range(0, len(articles), a):
            left = articles[start : start + a]
            np.matmul(left, right.T, out=room[: len(left) * len(right)].reshape(len(left), len(right)))


def bare_half(articles: np.ndarray, photos: np.ndarray) -> None:
    """Rounding included, as the inputs are float32."""
    import torch

    a, p = similarity.block_of(len(photos))
    left, right = torch.from_numpy(articles.copy()), torch.from_numpy(photos.copy())
    room = torch.empty(a * p, dtype=torch.bfloat16)
    for first in range(0, len(photos), p):
        columns = right[first : first + p].bfloat16()
        for start in range(0, len(articles), a):
            rows = left[start : start + a].bfloat16()
            torch.mm(rows, columns.T, out=room[: len(rows) * len(columns)].view(len(rows), len(columns)))


def passes(n: int, m: int, dim: int, revision: Revision) -> list[str]:
    """The precision of the first and of the second pass."""
    half = bfloat16.available() and n * m * dim >= bfloat16.WORTH
    first = half and revision.method == "nnn" and n >= similarity.MANY * revision["k"]
    second = half and m >= similarity.MANY * 100
    return ["bfloat16" if done else "float32" for done in (first, second)]


def streamed(articles: Embeddings, photos: Embeddings, revision: Revision) -> tuple[np.ndarray, np.ndarray]:
    found = dual_softmax.numbers(articles, photos, revision, batch=True)
    return similarity.best(articles.rows, photos.rows, 100, order=similarity.by_id(photos), minus=found.values)


def whole(articles: Embeddings, photos: Embeddings, revision: Revision) -> tuple[np.ndarray, np.ndarray]:
    """The definition, on the whole matrix."""
    s = articles.rows @ photos.rows.T
    if revision.method == "dual_softmax":
        s /= np.float32(revision["temperature"])
        by_photo = np.exp(s - s.max(axis=0))
        by_photo /= by_photo.sum(axis=0)
        np.exp(s - s.max(axis=1, keepdims=True), out=s)
        s /= s.sum(axis=1, keepdims=True)
        s *= by_photo
    elif revision.method == "nnn":
        k = min(int(revision["k"]), len(s))
        s -= np.float32(revision["alpha"]) * np.partition(s, len(s) - k, axis=0)[len(s) - k :].mean(axis=0)
    else:
        raise SystemExit(f"no whole-matrix form of {revision} here")
    at = np.argpartition(-s, 100, axis=1)[:, :100]
    values = np.take_along_axis(s, at, axis=1)
    order = np.argsort(-values, axis=1, kind="stable")
    return np.take_along_axis(values, order, axis=1), np.take_along_axis(at, order, axis=1)


def authors(articles: Embeddings, photos: Embeddings, revision: Revision) -> tuple[np.ndarray, np.ndarray]:
    """The package of NNN's authors."""
    from nnn import NNNRanker, NNNRetriever

    ranker = NNNRanker(
        NNNRetriever(photos.dim),
        photos.rows,
        articles.rows,
        alternate_ks=int(revision["k"]),
        alternate_weight=float(revision["alpha"]),
    )
    values, at = ranker.search(articles.rows, 100)
    return np.asarray(values), np.asarray(at)


def clock(call: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    value = call()
    return time.perf_counter() - start, value


def spent(call: Callable[[], Any]) -> float:
    """CPU seconds of all threads: what other work on the machine disturbs least."""
    start = time.process_time()
    call()
    return time.process_time() - start


def forget_peak() -> None:
    """Linux: let the peak begin at what the process holds now."""
    Path("/proc/self/clear_refs").write_text("5")


def memory(field: str) -> float:
    """MB of the process: VmRSS is now, VmHWM the peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


def agree(articles: Embeddings, photos: Embeddings, ours: np.ndarray, theirs: np.ndarray, numbers: np.ndarray) -> float:
    """Share of places that name the same photo; those that differ must be equal in score to 3e-6."""
    same = ours == theirs
    at = np.argwhere(~same)
    for i, place in at:
        row = articles.rows[i].astype(np.float64)
        ours_score, their_score = (row @ photos.rows[j[i, place]] - numbers[j[i, place]] for j in (ours, theirs))
        assert abs(ours_score - their_score) < 3e-6, f"article {i}, place {place + 1}: {ours_score} and {their_score}"
    return float(same.mean())


def measure(size: tuple[int, int], method: str, options: argparse.Namespace) -> dict[str, Any]:
    """One size and method, in a process of its own so that its peak memory is its own."""
    n, m = size
    revision = parse(method)
    articles, photos = embeddings(n, options.dim, 0, "a"), embeddings(m, options.dim, 1, "p")
    limits, halves, times, found = [], [], [], None
    cpu: dict[str, list[float]] = {"bare": [], "half": [], "ours": []}
    if options.precision == "float32":
        bfloat16.WORTH = float("inf")
    made = passes(n, m, options.dim, revision)
    numbers_time = taken = 0.0
    for _ in range(options.repeats):
        if n * m <= 2e10:
            cpu["bare"].append(spent(lambda: limits.append(clock(lambda: bare(articles.rows, photos.rows))[0])))
        if "bfloat16" in made:
            cpu["half"].append(spent(lambda: halves.append(clock(lambda: bare_half(articles.rows, photos.rows))[0])))
        numbers_time = (
            clock(lambda: dual_softmax.numbers(articles, photos, revision, batch=True))[0] if options.split else 0.0
        )
        forget_peak()
        before = memory("VmRSS")
        kept: list[Any] = []
        cpu["ours"].append(spent(lambda: kept.append(clock(lambda: streamed(articles, photos, revision)))))  # noqa: B023
        taken = memory("VmHWM") - before
        times.append(kept[0][0])
        found = kept[0][1]
    assert found is not None
    row: dict[str, Any] = {"articles": n, "photos": m, "dim": options.dim, "method": method}
    row |= {"bare product": min(limits)} if limits else {}
    row |= {"bare bfloat16": min(halves)} if halves else {}
    row |= {"passes": " and ".join(made), "photodesk": min(times), "peak MB": taken}
    row |= {"× bare": min(times) / min(limits)} if limits else {}
    if limits or "float32" not in made:
        row["× its passes"] = min(times) / sum(min(halves if name == "bfloat16" else limits) for name in made)
        row["× its passes, CPU"] = min(cpu["ours"]) / sum(
            min(cpu["half" if name == "bfloat16" else "bare"]) for name in made
        )
    row["CPU seconds"] = min(cpu["ours"])
    row |= {
        "whole matrix MB": n * m * 4 / 2**20,
        "inputs MB": (n + m) * options.dim * 4 / 2**20,
        "all": {"bare": limits, "bare bfloat16": halves, "photodesk": times},
    }
    if numbers_time:
        row["numbers alone"] = numbers_time
    if n * m <= 4e8:
        values = dual_softmax.numbers(articles, photos, revision, batch=True).values
        row["as Run"] = clock(lambda: dual_softmax.top_k(articles, photos, revision))[0]
        row["whole matrix"], theirs = clock(lambda: whole(articles, photos, revision))
        tolerance = revision.method == "nnn" or revision["temperature"] < 100
        row["same places, whole matrix"] = agree(articles, photos, found[1], theirs[1], values) if tolerance else None
        if revision.method == "nnn":
            try:
                row["nnn-retrieval"], theirs = clock(lambda: authors(articles, photos, revision))
                row["same places, nnn-retrieval"] = agree(articles, photos, found[1], theirs[1], values)
            except ModuleNotFoundError as error:
                row["nnn-retrieval"] = f"not installed ({error.name} is missing)"
    return row


def _child(size: tuple[int, int], method: str, options: argparse.Namespace, pipe: Any) -> None:
    pipe.send(measure(size, method, options))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=["8500x8500", "10000x100000"], help="articles x photos")
    parser.add_argument("--methods", nargs="+", default=["dual_softmax(temperature=1)", "nnn(k=128, alpha=0.75)"])
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--precision", choices=["float32", "fastest"], default="fastest")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--split", action="store_true", help="also time the first pass alone")
    parser.add_argument("--json", type=Path, help="write the figures there as well")
    options = parser.parse_args()
    rows = []
    for size in options.sizes:
        for method in options.methods:
            n, m = map(int, size.split("x"))
            ours, theirs = multiprocessing.get_context("spawn").Pipe(duplex=False)
            child = multiprocessing.get_context("spawn").Process(target=_child, args=((n, m), method, options, theirs))
            child.start()
            theirs.close()
            try:
                rows.append(ours.recv())
            except EOFError:
                sys.exit(f"{method} on {size} did not finish")
            child.join()
            print(f"\n{method}, {n:,} articles × {m:,} photos × {options.dim}")
            for name, value in rows[-1].items():
                if name not in ("articles", "photos", "dim", "method", "all"):
                    print(
                        f"  {name:28} {value if isinstance(value, str) or value is None else f'{value:.3f}'}",
                        flush=True,
                    )
            if options.json:
                about = {
                    "python": platform.python_version(),
                    "numpy": np.__version__,
                    "cpus": os.cpu_count(),
                    "results": rows,
                }
                options.json.write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
