"""One article against an archive: engine × size × recall × p50/p95 × memory × build time, compared with numpy, faiss
and the limit of the memory.

    python benchmarks/search.py [--sizes 10000 100000 1000000] [--engines edge flat numpy faiss faiss-bf16 limit]
    [--work DIR] [--build] [--json FILE]

Rows are 512 numbers of unit length: 2,000 clusters, a common part so that there are hubs, noise. Queries are rows of
that making. Each engine runs in a process of its own. `--build` only builds; with `--work` the indexes are kept, and a
later call measures them (build times are kept too).

    limit        both cores read all float32 rows once: no exact search that reads them is faster
    numpy        rows @ query in memory, argpartition
    faiss        IndexFlatIP; faiss-bf16: IndexScalarQuantizer with QT_bf16 (pip install faiss-cpu)
    edge, flat   through photodesk's own engines, hits with ids, captions and payloads in the index; "revised"
                 subtracts the hubness offset, "1 %" admits every hundredth photo, "words" is BM25, "whole p95" is a
                 headline to hits with captions (built-in text encoder, date filter, revision)

Recall is the share of the true 100 best (float64) that are among the 100 found. Memory is the peak of the process; of
mapped files only what was touched counts, and the system can take that back: "own" is what it cannot.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from photodesk.encoders import registry
from photodesk.engines.base import Space
from photodesk.engines.registry import open_engine
from photodesk.engines.schema import Entry, Filter, Point

DIM, K, QUERIES = 512, 100, 60
ENGINES = ("limit", "numpy", "faiss", "faiss-bf16", "flat", "edge")


def make(rng, n, centres):
    rows = centres[rng.integers(0, len(centres), n)] + rng.standard_normal((n, DIM), np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def data(work: Path, size: int) -> tuple[np.ndarray, np.ndarray]:
    """(size, 512) rows, mapped, and (60, 512) queries."""
    rng = np.random.default_rng(size)
    centres = rng.standard_normal((2000, DIM), np.float32) + np.float32(0.3)
    path = work / f"rows-{size}.npy"
    if not path.exists():
        out = np.lib.format.open_memmap(work / "part.npy", "w+", np.float32, (size, DIM))
        for start in range(0, size, 50_000):
            out[start : start + 50_000] = make(rng, min(50_000, size - start), centres)
        out.flush()
        (work / "part.npy").rename(path)
    return np.load(path, mmap_mode="r"), make(np.random.default_rng(7), QUERIES, centres)


def name(i: int) -> str:
    return f"{(i + 1) * 0x9E3779B97F4A7C15 % 2**64:016x}{i:016x}"


def points(rows: np.ndarray, start: int) -> list[Point]:
    rng = np.random.default_rng(start)
    words = rng.zipf(1.3, (len(rows), 14)) % 30_000
    numbers = rng.normal(0.15, 0.03, len(rows)).astype(np.float32)
    out = []
    for i, row in enumerate(rows, start):
        said = [f"wort{word}" for word in words[i - start]]
        entry = Entry(
            source=f"{i % 365}/{i}.jpg",
            added="2026-01-01T00:00:00Z",
            width=3000,
            height=2000,
            group=name(i),
            caption=" ".join(said[:10]),
            byline=f"Name {i % 500}",
            credit=f"Agentur {i % 100}",
            keywords=tuple(dict.fromkeys(said[10:])),
            place=f"Ort {i % 300}",
            taken=f"{2005 + i % 20}-{1 + i % 12:02}-01T12:00:00",
            terms="editorial",
        )
        out.append(Point(name(i), row, entry, float(numbers[i - start])))
    return out


def memory(key: str) -> float:
    """A line of /proc/self/status, in MB."""
    return int(Path("/proc/self/status").read_text().split(f"{key}:")[1].split()[0]) / 1024


def timed(search, queries) -> dict[str, float]:
    for query in queries[:10]:
        search(query)
    seconds = []
    for query in queries:
        start = time.perf_counter()
        search(query)
        seconds.append(time.perf_counter() - start)
    return {"p50": 1e3 * float(np.percentile(seconds, 50)), "p95": 1e3 * float(np.percentile(seconds, 95))}


def recall(found, rows, queries) -> float:
    shares = []
    for query in queries[:10]:
        scores = np.concatenate(
            [rows[a : a + 50_000].astype(np.float64) @ query.astype(np.float64) for a in range(0, len(rows), 50_000)]
        )
        least = np.partition(scores, -K)[-K]
        shares.append(np.mean([scores[i] >= least - 1e-12 for i in found(query)]))
    return float(np.mean(shares))


def one(engine: str, size: int, work: Path, build: bool) -> dict[str, object]:
    mapped, queries = data(work, size)
    before = memory("RssAnon")
    if engine in ("edge", "flat"):
        result = archive(engine, mapped, queries, work / f"{engine}-{size}", build)
    else:
        rows = np.array(mapped)
        start = time.perf_counter()
        find = peer(engine, rows)
        result = {"build": time.perf_counter() - start, **timed(find, queries)}
        if engine != "limit":
            result["recall"] = recall(lambda query: find(query), mapped, queries)
    return {"engine": engine, "size": size, **result, "peak MB": memory("VmHWM"), "own MB": memory("RssAnon") - before}


def peer(engine: str, rows: np.ndarray):
    if engine == "limit":
        halves = np.array_split(rows.view(np.int64), 2)
        pool = ThreadPoolExecutor(2)
        return lambda query: list(pool.map(np.bitwise_or.reduce, [half.ravel() for half in halves]))
    if engine == "numpy":
        return lambda query: np.argpartition(rows @ query, -K)[-K:]
    import faiss

    if engine == "faiss":
        index = faiss.IndexFlatIP(DIM)
    else:
        index = faiss.IndexScalarQuantizer(DIM, faiss.ScalarQuantizer.QT_bf16, faiss.METRIC_INNER_PRODUCT)
        index.train(rows[:1000])
    index.add(rows)
    return lambda query: index.search(query[None], K)[1][0]


def archive(engine: str, rows: np.ndarray, queries: np.ndarray, folder: Path, build: bool) -> dict[str, object]:
    note = folder.with_suffix(".json")
    if not note.exists():
        part = folder.with_suffix(
            ".part.json"
        )  # what earlier calls took that were stopped: a large index may be built in pieces
        took = (
            json.loads(part.read_text()) if part.exists() else {"build": 0.0, "build peak MB": 0.0, "build own MB": 0.0}
        )
        before, start = took["build"], time.perf_counter()
        made = open_engine(f"{engine}:{folder}", Space(DIM), create=not folder.exists())
        for a in range(made.count(), len(rows), 2048):
            made.upsert(points(np.array(rows[a : a + 2048]), a))
            took["build"] = before + time.perf_counter() - start
            for key, line in (("build peak MB", "VmHWM"), ("build own MB", "RssAnon")):
                took[key] = max(took[key], memory(line))
            part.write_text(json.dumps(took))
        made.optimise()
        made.close()
        took["build"] = before + time.perf_counter() - start
        note.write_text(json.dumps(took))
        part.unlink(missing_ok=True)
    took = json.loads(note.read_text())
    if build:
        return took
    start = time.perf_counter()
    index = open_engine(f"{engine}:{folder}", Space(DIM))
    took["open"] = time.perf_counter() - start
    took |= timed(lambda query: index.search(query, K), queries)
    for title, search in {
        "revised": lambda query: index.search(query, K, revised=1),
        "1 %": lambda query: index.search(query, K, Filter(credit=("Agentur 7",))),
        "words": lambda query: index.lexical("wort700 wort901 wort12", K),
    }.items():
        took[title] = timed(search, queries)["p50"]
    took["recall"] = recall(lambda query: [int(hit.photo[16:], 16) for hit in index.search(query, K)], rows, queries)
    took["disk MB"] = sum(file.lstat().st_blocks * 512 for file in folder.rglob("*") if file.is_file()) / 2**20
    took["whole p95"] = whole(index)
    index.close()
    return took


def whole(index) -> float:
    """A headline to hits that can be drawn: built-in text encoder, rows cut to 512 numbers, filter, revision, 24
    captions; p95 in ms."""
    encoder = registry.load()

    def ask(headline: str) -> None:
        row = encoder.network.texts(encoder.texts.encode([headline]))[0]
        hits = index.search(np.resize(row, DIM), K, Filter(since="2010-01-01"), revised=1)
        assert len(index.get([hit.photo for hit in hits[:24]])) == 24

    return timed(
        ask, [f"Nach dem Hochwasser an der Elbe hoffen {i} Gemeinden auf Hilfe vom Land" for i in range(QUERIES)]
    )["p95"]


def main() -> None:
    ask = argparse.ArgumentParser()
    ask.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    ask.add_argument("--engines", nargs="+", choices=ENGINES, default=ENGINES)
    ask.add_argument("--work", type=Path)
    ask.add_argument("--build", action="store_true")
    ask.add_argument("--json", type=Path)
    ask.add_argument("--one", action="store_true")
    given = ask.parse_args()
    if given.one:
        print(json.dumps(one(given.engines[0], given.sizes[0], given.work, given.build)))
        return
    work = given.work or Path(tempfile.mkdtemp())
    work.mkdir(parents=True, exist_ok=True)
    results = []
    for size in given.sizes:
        data(work, size)
        for engine in given.engines:
            call = [sys.executable, __file__, "--one", "--work", work, "--sizes", str(size), "--engines", engine]
            run = subprocess.run([*call, *(["--build"] if given.build else [])], capture_output=True, text=True)
            if run.returncode:
                print(f"{engine} {size}: {run.stderr.strip().splitlines()[-1]}", file=sys.stderr)
                continue
            results.append(json.loads(run.stdout.splitlines()[-1]))
            print(
                "  ".join(f"{k} {v:,.2f}" if isinstance(v, float) else f"{k} {v}" for k, v in results[-1].items()),
                flush=True,
            )
    if given.json:
        about = {
            "cores": len(os.sched_getaffinity(0)),
            "machine": platform.machine(),
            "python": platform.python_version(),
        }
        given.json.write_text(json.dumps({"about": about, "results": results}, indent=1) + "\n")
    if given.work is None:
        shutil.rmtree(work)


if __name__ == "__main__":
    main()
