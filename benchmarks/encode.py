"""Encoding photos: images per second of the whole pipeline beside the limit that its arithmetic sets.

    limit = cores ÷ (CPU seconds to decode and resize one photo + CPU seconds of the bare session for one)

Each is measured alone, in the same run. Run: python benchmarks/encode.py [--photos 400] [--data newsimages2025/newsimages]
"""

from __future__ import annotations

import argparse
import io
import json
import os
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from photodesk import photos as pictures
from photodesk.encoders.builtin import towers
from photodesk.records import Photo
from photodesk.store import Store

SIZES = {"460 × 260": (460, 260), "1 megapixel": (1200, 834)}


def synthetic(size: tuple[int, int], seed: int) -> bytes:
    """A JPEG about as hard to decode as a photograph: smooth patches, edges and some grain."""
    random = np.random.default_rng(seed)
    smooth = Image.fromarray(random.integers(0, 256, (9, 16, 3), np.uint8)).resize(size, Image.Resampling.BICUBIC)
    pixels = np.asarray(smooth, np.int16) + random.normal(0, 6, (size[1], size[0], 1)).astype(np.int16)
    out = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(out, "JPEG", quality=85)
    return out.getvalue()


def cpu_seconds(work, items) -> float:
    """CPU seconds an item of `work`, single-threaded, after a warm-up."""
    work(items[0])
    started = time.process_time()
    for item in items:
        work(item)
    return (time.process_time() - started) / len(items)


def measure(label: str, contents: list[bytes]) -> dict[str, object]:
    """One row: both parts alone, the limit, and the store's pipeline on the same photos."""
    _, tower = towers()
    cores = len(os.sched_getaffinity(0))

    def prepare(data: bytes) -> np.ndarray:
        return tower.prepare(pictures.decode(data, size=tower.size, where="photo"))

    some = contents[: min(len(contents), 128)]
    decode = cpu_seconds(prepare, some)
    batches = [np.stack([prepare(data) for data in some[i : i + tower.batch]]) for i in range(0, len(some) - tower.batch + 1, tower.batch)]
    session = cpu_seconds(tower.encode, batches) / tower.batch
    with tempfile.TemporaryDirectory() as folder:
        photos = []
        for i, data in enumerate(contents):
            path = Path(folder, f"{i}.jpg")
            path.write_bytes(data)
            photos.append(Photo(path.name, path))
        store = Store(Path(folder, "cache"))
        store.photos(photos[:2], tower)  # the sessions are loaded before the clock starts
        started, used = time.perf_counter(), time.process_time()
        kept, _, faults = store.photos(photos, tower)
        wall, cpu = time.perf_counter() - started, time.process_time() - used
    # shared machines drift: the bare parts are measured before and after, and the mean is the limit's
    decode = (decode + cpu_seconds(prepare, some)) / 2
    session = (session + cpu_seconds(tower.encode, batches) / tower.batch) / 2
    if faults or len(kept) != len(contents):
        raise SystemExit(f"not all photos were encoded: {faults[:3]}")
    limit = cores / (decode + session)
    rate = (len(contents) - 2) / wall
    return {
        "photos": label,
        "n": len(contents),
        "decode and resize, CPU ms": decode * 1e3,
        "session, CPU ms": session * 1e3,
        "limit, images/s": limit,
        "photodesk, images/s": rate,
        "share of the limit": rate / limit,
        "cores kept busy": cpu / wall,
        "CPU per photo ÷ bare CPU": cpu / (len(contents) - 2) / (decode + session),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=400)
    parser.add_argument("--data", type=Path, help="take 460 × 260 photos from this folder, not made-up ones")
    arguments = parser.parse_args()
    rows = []
    for label, size in SIZES.items():
        if arguments.data and label == "460 × 260":
            contents = [path.read_bytes() for path in sorted(arguments.data.glob("*.jpg"))[: arguments.photos]]
        else:
            contents = [synthetic(size, seed) for seed in range(arguments.photos)]
        rows.append(measure(label, contents))
        for key, value in rows[-1].items():
            print(f"{key:>28}: {value:.3g}" if isinstance(value, float) else f"{key:>28}: {value}", file=sys.stderr)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"rows": rows, "peak RSS, MB": round(peak)}, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
