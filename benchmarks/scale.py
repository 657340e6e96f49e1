"""Encoding on one and on two Ray nodes of one core each: what a second worker brings, and what a hundred million photos
would take.

The nodes are processes of this machine, so a second one brings a second core and nothing else. "steady" counts from the
first batch that comes back to the last one: a long run has its start only once.

    python benchmarks/scale.py [--photos 600] [--encoder builtin] [--work DIR] > benchmarks/scale.json
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

import ray
from encode import SIZES, synthetic
from ray.cluster_utils import Cluster

from photodesk.encoders import base, registry
from photodesk.features import sources
from photodesk.features.store import Store
from photodesk.search.flat_index import build_index

PHOTOS = 100_000_000


def run(workers: int, folder: Path, encoder: base.Encoder, dtype: str) -> dict[str, float]:
    memory = 200 << 20
    started = time.perf_counter()
    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 0, "object_store_memory": memory, "include_dashboard": False}
    )
    try:
        for _ in range(workers):
            cluster.add_node(num_cpus=1, object_store_memory=memory)
        ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
        up = time.perf_counter()
        marks: list[tuple[float, int]] = []

        def progress(stage: str, done: int, of: int) -> None:
            if done and (not marks or done > marks[-1][1]):
                marks.append((time.perf_counter(), done))

        with tempfile.TemporaryDirectory() as made:
            store = Store(Path(made, "store"), dtype=dtype)
            index, faults = build_index(
                folder, Path(made, "index"), encoder, store=store, ray=cluster.address, progress=progress
            )
            size = sum(path.stat().st_size for path in Path(made, "store").rglob("*") if path.is_file())
        assert not faults
        (first, before), (last, after) = marks[0], marks[-1]
        return {
            "workers": workers,
            "photos": len(index),
            "cluster up, s": up - started,
            "to the first batch, s": first - up,
            "whole, s": last - up,
            "steady, images/s": (after - before) / (last - first),
            "store, bytes a photo": size / len(index),
        }
    finally:
        ray.shutdown()
        cluster.shutdown()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=600)
    parser.add_argument("--encoder", default="builtin")
    parser.add_argument("--size", default="1 megapixel", choices=list(SIZES))
    parser.add_argument("--float32", action="store_true", help="keep rows in full precision")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "photodesk-benchmark")
    arguments = parser.parse_args()
    folder = arguments.work / f"scale-{arguments.size.replace(' ', '')}-{arguments.photos}"
    folder.mkdir(parents=True, exist_ok=True)
    for seed in range(arguments.photos):
        if not (folder / f"{seed:05}.jpg").exists():
            (folder / f"{seed:05}.jpg").write_bytes(synthetic(SIZES[arguments.size], seed))
    sources.PER_UNIT = 32  # a small run in small units; a long one has larger
    encoder = registry.load(arguments.encoder)
    rows = []
    for workers in (1, 2):
        rows.append(
            run(workers, folder, encoder, "float32" if arguments.float32 else "float16")
            | {"load average": os.getloadavg()[0]}
        )
        print(rows[-1], file=sys.stderr, flush=True)
    one, two = (row["steady, images/s"] for row in rows)
    plan = {
        "core hours": PHOTOS / one / 3600,
        "machines of 16 cores for one day": PHOTOS / one / 86400 / 16,
        "store, GB": PHOTOS * rows[0]["store, bytes a photo"] / 1e9,
        "pictures, TB": PHOTOS * sum(path.stat().st_size for path in folder.iterdir()) / arguments.photos / 1e12,
    }
    about = {"encoder": arguments.encoder, "photos": arguments.size, "cores": len(os.sched_getaffinity(0))}
    print(
        json.dumps(
            about | {"rows": rows, "two by one": two / one, "100 million photos": plan}, indent=1, ensure_ascii=False
        )
    )


if __name__ == "__main__":
    main()
