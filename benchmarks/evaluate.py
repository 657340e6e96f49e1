"""Evaluation compared with ranx, pytrec_eval and torchmetrics: the same run, the same figures, seconds for each.

    python benchmarks/evaluate.py [--articles 8500 100000] [--json FILE]

Peers come with: pip install ranx pytrec_eval-terrier torchmetrics torch. One that is not installed is named as such.
Rows:

    run       from a photodesk Run in memory to the means; a peer converts it to what it reads
    own form  from what the peer reads, already in memory (a Run for photodesk)
    file      from a file to the means: TREC for all but photodesk's .tsv; torchmetrics has no reader and gets
              pytrec_eval's

Each figure is the best of several repeats after a warm-up on a small run, so ranx's compilation is not in it. All must
agree on all six measures to 1e-6 before anything is printed.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import importlib.metadata
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from photodesk.evaluation import run_files
from photodesk.evaluation.evaluate import evaluate
from photodesk.evaluation.metrics import DEFAULT
from photodesk.types import Hit, Pair, Run

CUTS = (1, 5, 10, 50, 100)
Means = dict[str, float]


def made(articles: int, photos: int, seed: int = 0) -> tuple[Run, list[Pair]]:
    """A run of 100 photos an article, about four in five right ones among them; ids are 32 characters, as in NewsImages
    2025."""
    rng = np.random.default_rng(seed)
    names = [hashlib.md5(str(i).encode()).hexdigest().upper() for i in range(photos)]
    hits, pairs = {}, []
    places = np.minimum(rng.pareto(0.35, articles), 1e6).astype(int)
    starts = rng.integers(0, photos, articles)
    scores = [[float(s) for s in row] for row in np.sort(rng.random((997, 100), np.float32))[:, ::-1]]
    for i in range(articles):
        ids = [names[(starts[i] + j) % photos] for j in range(100)]
        right = ids[places[i]] if places[i] < 100 else names[(starts[i] + 100) % photos]
        hits[str(i)] = tuple(map(Hit, ids, scores[i % 997]))
        pairs.append(Pair(str(i), right))
    return Run(hits), pairs


class Photodesk:
    name = "photodesk"

    def load(self) -> None:
        pass

    def own(self, run: Run, pairs: list[Pair]) -> tuple[Any, Any]:
        return run, pairs

    def means(self, run: Any, truth: Any) -> Means:
        return evaluate(run, truth).means

    def file(self, path: Path, pairs: list[Pair]) -> Means:
        return evaluate(path, pairs).means


class PytrecEval:
    name = "pytrec_eval"

    def load(self) -> None:
        import pytrec_eval

        self.lib = pytrec_eval

    def own(self, run: Run, pairs: list[Pair]) -> tuple[Any, Any]:
        return {a: {hit.photo: hit.score for hit in hits} for a, hits in run.hits.items()}, {
            p.article: {p.photo: 1} for p in pairs
        }

    def means(self, run: Any, truth: Any) -> Means:
        names = {f"R@{k}": f"recall_{k}" for k in CUTS} | {"MRR@100": "recip_rank"}
        found = self.lib.RelevanceEvaluator(truth, {"recall." + ",".join(map(str, CUTS)), "recip_rank"}).evaluate(run)
        return {ours: sum(row[theirs] for row in found.values()) / len(truth) for ours, theirs in names.items()}

    def file(self, path: Path, pairs: list[Pair]) -> Means:
        with path.open() as stream:
            run = self.lib.parse_run(stream)
        return self.means(run, {p.article: {p.photo: 1} for p in pairs})


class Ranx:
    name = "ranx"

    def load(self) -> None:
        import ranx

        self.lib = ranx

    def own(self, run: Run, pairs: list[Pair]) -> tuple[Any, Any]:
        return (
            self.lib.Run({a: {hit.photo: hit.score for hit in hits} for a, hits in run.hits.items()}),
            self.lib.Qrels({p.article: {p.photo: 1} for p in pairs}),
        )

    def means(self, run: Any, truth: Any) -> Means:
        names = {f"R@{k}": f"recall@{k}" for k in CUTS} | {"MRR@100": "mrr@100"}
        found = self.lib.evaluate(truth, run, list(names.values()))
        return {ours: float(found[theirs]) for ours, theirs in names.items()}

    def file(self, path: Path, pairs: list[Pair]) -> Means:
        return self.means(
            self.lib.Run.from_file(str(path), kind="trec"), self.lib.Qrels({p.article: {p.photo: 1} for p in pairs})
        )


class TorchMetrics:
    name = "torchmetrics"

    def load(self) -> None:
        import torch
        import torchmetrics.retrieval

        self.torch, self.lib = torch, torchmetrics.retrieval

    def own(self, run: Run, pairs: list[Pair]) -> tuple[Any, Any]:
        return self._tensors({a: [(hit.photo, hit.score) for hit in hits] for a, hits in run.hits.items()}, pairs), None

    def _tensors(self, run: dict[str, list[tuple[str, float]]], pairs: list[Pair]) -> Any:
        right = {p.article: p.photo for p in pairs}
        index, scores, target = [], [], []
        for i, (article, hits) in enumerate(run.items()):
            index += [i] * len(hits)
            scores += [score for _, score in hits]
            target += [photo == right[article] for photo, _ in hits]
        return self.torch.tensor(scores), self.torch.tensor(target), self.torch.tensor(index)

    def means(self, run: Any, truth: Any) -> Means:
        scores, target, index = run
        metrics = {f"R@{k}": self.lib.RetrievalRecall(top_k=k) for k in CUTS} | {
            "MRR@100": self.lib.RetrievalMRR(top_k=100)
        }
        return {name: float(metric(scores, target, indexes=index)) for name, metric in metrics.items()}

    def file(self, path: Path, pairs: list[Pair]) -> Means:
        import pytrec_eval

        with path.open() as stream:
            run = pytrec_eval.parse_run(stream)
        return self.means(self._tensors({a: list(hits.items()) for a, hits in run.items()}, pairs), None)


def timed(call: Callable[[], Means], repeats: int) -> tuple[float, Means]:
    best, means = float("inf"), {}
    for _ in range(repeats):
        gc.collect()
        start = time.perf_counter()
        means = call()
        best = min(best, time.perf_counter() - start)
    return best, means


def measure(tool: Any, run: Run, pairs: list[Pair], folder: Path, repeats: int) -> dict[str, Any]:
    """Seconds of one tool by row, and its means."""
    seconds: dict[str, float] = {}
    seconds["run"], means = timed(lambda: tool.means(*tool.own(run, pairs)), repeats)
    held = tool.own(run, pairs)
    seconds["own form"], _ = timed(lambda: tool.means(*held), repeats)
    if tool.name == "photodesk":
        seconds["file"], again = timed(lambda: tool.file(folder / "run.tsv", pairs), repeats)
        seconds["file, TREC"], also = timed(lambda: tool.file(folder / "run.trec", pairs), repeats)
        assert again == also == means
    else:
        seconds["file"], _ = timed(lambda: tool.file(folder / "run.trec", pairs), repeats)
    return {"seconds": seconds, "means": means}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--articles", type=int, nargs="+", default=[8_500, 100_000])
    parser.add_argument("--repeats", type=int, default=3, help="best of so many")
    parser.add_argument("--json", type=Path, help="write the figures there as well")
    args = parser.parse_args()

    tools, versions, absent = [], {"python": platform.python_version(), "numpy": np.__version__}, []
    packages = {"ranx": "ranx", "pytrec_eval": "pytrec_eval-terrier", "torchmetrics": "torchmetrics"}
    small = made(50, 500)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for tool in (Photodesk(), PytrecEval(), Ranx(), TorchMetrics()):
            try:
                tool.load()
                if tool.name in packages:
                    versions[tool.name] = importlib.metadata.version(packages[tool.name])
            except ModuleNotFoundError as error:
                absent.append(f"{tool.name}: not installed ({error.name} is missing)")
                continue
            run_files.write(small[0], folder / "run.tsv")
            run_files.write(small[0], folder / "run.trec")
            print(f"warming up {tool.name}", file=sys.stderr)
            measure(tool, *small, folder, 1)
            tools.append(tool)

        results = []
        for articles in args.articles:
            print(f"making a run of {articles} articles", file=sys.stderr)
            run, pairs = made(articles, articles)
            run_files.write(run, folder / "run.tsv")
            run_files.write(run, folder / "run.trec")
            found = {}
            for tool in tools:
                print(f"measuring {tool.name}", file=sys.stderr)
                found[tool.name] = measure(
                    tool,
                    run,
                    pairs,
                    folder,
                    args.repeats if articles <= 20_000 else 1 if tool.name != "photodesk" else 3,
                )
                for measure_name in map(str, DEFAULT):
                    ours, theirs = found["photodesk"]["means"][measure_name], found[tool.name]["means"][measure_name]
                    assert abs(ours - theirs) < 1e-6, f"{tool.name} finds {measure_name} = {theirs}, photodesk {ours}"
            results.append(
                {"articles": articles, "depth": 100, "tools": {name: value["seconds"] for name, value in found.items()}}
            )
            results[-1]["means"] = found["photodesk"]["means"]
            show(results[-1])
            del run, pairs
    for line in absent:
        print(line)
    if args.json:
        about = {"versions": versions, "cpus": os.cpu_count(), "absent": absent, "results": results}
        args.json.write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")


def show(result: dict[str, Any]) -> None:
    tools = result["tools"]
    print(f"\n{result['articles']:,} articles × top {result['depth']}, seconds (× photodesk), best of the repeats\n")
    rows = ("run", "own form", "file", "file, TREC")
    print(f"| {'':12} | " + " | ".join(f"{row:>18}" for row in rows) + " |")
    print("|:" + "-" * 13 + "|" + "|".join("-" * 19 + ":" for _ in rows) + "|")
    for name, seconds in tools.items():
        cells = [
            f"{seconds[row]:.3f} ({seconds[row] / tools['photodesk'][row]:.1f} ×)" if row in seconds else "–"
            for row in rows
        ]
        print(f"| {name:12} | " + " | ".join(f"{cell:>18}" for cell in cells) + " |")


if __name__ == "__main__":
    main()
