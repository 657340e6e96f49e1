"""Encoding photos: the whole way from JPEG files to stored rows, compared with other tools and with the limit set
by the arithmetic.

All run the same ViT-B-32 with random weights on the same made-up JPEGs, one process after the other; peak memory is the
proportional set size of the process and its children.

    limit = cores ÷ (CPU seconds to decode and resize one photo + CPU seconds of the bare model for one)

Both parts are measured alone, on all cores at once, before and after. On a machine that is not idle, compare CPU
seconds: "share of the limit, CPU" is the bare CPU seconds of a photo by those of the whole way, which waiting for a
core does not change.

    python benchmarks/encode.py [--photos 2000] [--only torch-bf16,onnx-int8] [--clip-retrieval VENV/bin/python] \
        > benchmarks/encode.json

With --archive, what an archive costs compared with a frozen index: CPU seconds of `photodesk archive add`, on each
local engine, and of `photodesk index`, in separate processes on the same photos in turns, nothing stored before.

    python benchmarks/encode.py --archive FOLDER [--photos 400] [--rounds 5]
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

SIZES = {"460 × 260": (460, 260), "1 megapixel": (1200, 834)}
OURS = {
    "torch-fp32": "openclip:ViT-B-32@{work}/b32.safetensors",
    "torch-bf16": "openclip:ViT-B-32@{work}/b32.safetensors, precision=bf16",
    "onnx-fp32": "onnx:{work}/onnx",
    "onnx-int8": "onnx:{work}/onnx, precision=int8",
    "builtin": "builtin",
}
PEERS = {
    "open_clip-fp32": "torch-fp32",
    "open_clip-bf16": "torch-bf16",
    "sentence-transformers-fp32": "torch-fp32",
    "clip-retrieval-fp32": "torch-fp32",
}
BATCH = 32  # of the peers; what their own examples use and the best of 16, 32 and 64 here


def synthetic(size: tuple[int, int], seed: int) -> bytes:
    """A JPEG about as hard to decode as a photograph: smooth patches, edges and some grain."""
    random = np.random.default_rng(seed)
    smooth = Image.fromarray(random.integers(0, 256, (9, 16, 3), np.uint8)).resize(size, Image.Resampling.BICUBIC)
    pixels = np.asarray(smooth, np.int16) + random.normal(0, 6, (size[1], size[0], 1)).astype(np.int16)
    out = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(out, "JPEG", quality=85)
    return out.getvalue()


def cpu_seconds(work, items) -> float:
    """CPU seconds an item of `work`, after a warm-up, with a thread on every core: they share caches and the way to
    memory."""
    from photodesk.encoders.torch_runner import one_core

    def all_of_them(_) -> None:
        for item in items:
            work(item)

    cores = len(os.sched_getaffinity(0))
    with ThreadPoolExecutor(cores, initializer=one_core) as pool:
        list(pool.map(work, [items[0]] * cores))
        started = time.process_time()
        list(pool.map(all_of_them, range(cores)))
        return (time.process_time() - started) / len(items) / cores


def used() -> float:
    """CPU seconds of this process and of children that have ended."""
    return sum(
        t.ru_utime + t.ru_stime for t in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


# ---- what runs in a process of its own: (files) -> figures ----


def photodesk(kind: str, work: Path, files: list[Path]) -> dict[str, float]:
    from photodesk import images
    from photodesk.encoders import registry
    from photodesk.features.store import Store
    from photodesk.types import Photo

    tower = registry.load(OURS[kind].format(work=work)).photos
    some = [path.read_bytes() for path in files[:64]]
    cores = len(os.sched_getaffinity(0))

    def prepare(data: bytes):
        return tower.prepare(images.decode(data, size=tower.size, where="photo"))

    ready = [prepare(data) for data in some]
    model, sizes = bare(tower, kind)

    def parts() -> tuple[float, float]:
        times = [cpu_seconds(model, [np.stack(ready[:n])] * max(2, 32 // n)) / n for n in sizes]
        return cpu_seconds(prepare, some), min(times)

    before = parts()
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        store.photos([Photo("first", files[0])], tower)
        started, cpu = time.perf_counter(), used()
        kept, _, faults = store.photos([Photo(path.name, path) for path in files[1:]], tower)
        wall, cpu = time.perf_counter() - started, used() - cpu
    after = parts()
    assert not faults
    n = len(kept)
    decode, session = ((a + b) / 2 for a, b in zip(before, after, strict=True))
    found = {
        "images/s": n / wall,
        "CPU ms": cpu / n * 1e3,
        "decode and resize, ms": decode * 1e3,
        "model, ms": session * 1e3,
    }
    limit = cores / (decode + session)
    found |= {
        "limit, images/s": limit,
        "share of the limit": n / wall / limit,
        "share of the limit, CPU": n * (decode + session) / cpu,
    }
    whole = np.stack([tower.prepare(images.decode(data, where="photo")) for data in some[:32]])
    cosines = np.einsum("nd,nd->n", tower.encode(np.stack(ready[:32])), tower.encode(whole))
    return found | {"least cosine to full decoding": float(cosines.min())}


def bare(tower, kind: str):
    """The model alone, on pixels that are ready, and the batch sizes to try."""
    if kind == "builtin":
        return tower.encode, (1, 2, 4)
    if kind.startswith("onnx"):
        return (
            lambda batch: (
                tower._session.run(None, {"pixels": batch}) if batch.dtype == np.float32 else tower.encode(batch)
            ),
            (2, 4, 8),
        )
    return tower.encode, (16, 32)


def open_clip(kind: str, work: Path, files: list[Path]) -> dict[str, float]:
    """The loop that its README would make of it: a DataLoader with a worker a core, and the model in batches."""
    import open_clip
    import torch

    precision = "bf16" if kind.endswith("bf16") else "fp32"
    model, _, transform = open_clip.create_model_and_transforms(
        "ViT-B-32", pretrained=str(work / "b32.safetensors"), precision=precision
    )
    model.eval()

    class Files(torch.utils.data.Dataset):
        def __len__(self):
            return len(files)

        def __getitem__(self, i):
            return transform(Image.open(files[i]))

    def run(dataset) -> None:
        for batch in torch.utils.data.DataLoader(dataset, batch_size=BATCH, num_workers=len(os.sched_getaffinity(0))):
            with torch.inference_mode():
                model.encode_image(
                    batch.to(torch.bfloat16 if precision == "bf16" else torch.float32), normalize=True
                ).float().numpy()

    run(torch.utils.data.Subset(Files(), range(4)))
    return timed(lambda: run(Files()), len(files))


def sentence_transformers(kind: str, work: Path, files: list[Path]) -> dict[str, float]:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import CLIPModel

    model = SentenceTransformer(modules=[CLIPModel(str(work / "hf"))], device="cpu")

    def run(paths: list[Path]) -> None:
        for start in range(0, len(paths), 8 * BATCH):
            images = [Image.open(path) for path in paths[start : start + 8 * BATCH]]
            model.encode(images, batch_size=BATCH, normalize_embeddings=True, show_progress_bar=False)

    run(files[:4])
    return timed(lambda: run(files), len(files))


def clip_retrieval(kind: str, work: Path, files: list[Path]) -> dict[str, float]:
    """Its own reader and mapper on our model: `clip-retrieval inference` loads models from the net only."""
    import importlib
    import types

    sys.modules.setdefault("wandb", types.ModuleType("wandb"))  # its tracker, which is not used here
    import open_clip
    import torch

    mapping = importlib.import_module("clip_retrieval.clip_inference.mapper")
    reading = importlib.import_module("clip_retrieval.clip_inference.reader")
    model, _, transform = open_clip.create_model_and_transforms("ViT-B-32", pretrained=str(work / "b32.safetensors"))
    model.eval()
    mapper = mapping.ClipMapper.__new__(mapping.ClipMapper)
    mapper.__dict__ |= {
        "enable_image": True,
        "enable_text": False,
        "enable_metadata": False,
        "device": "cpu",
        "model_img": model.encode_image,
    }
    workers = len(os.sched_getaffinity(0))

    def run(sampler) -> None:
        reader = reading.FilesReader(
            sampler, transform, None, str(files[0].parent), BATCH, workers, enable_text=False, enable_image=True
        )
        for batch in reader:
            mapper(batch)

    with torch.inference_mode():
        run(lambda keys: keys[:4])
        return timed(lambda: run(lambda keys: keys[: len(files)]), len(files))


def timed(work, n: int) -> dict[str, float]:
    started, cpu = time.perf_counter(), used()
    work()
    wall, cpu = time.perf_counter() - started, used() - cpu
    return {"images/s": n / wall, "CPU ms": cpu / n * 1e3}


def child(kind: str, work: Path, folder: Path, count: int) -> None:
    if kind != "builtin":
        from conftest import let_torchvision_in

        let_torchvision_in()
    run = {
        "open_clip": open_clip,
        "sentence-transformers": sentence_transformers,
        "clip-retrieval": clip_retrieval,
    }.get(kind.rpartition("-")[0], photodesk)
    print("RESULT", json.dumps(run(kind, work, sorted(folder.glob("*.jpg"))[:count])))


# ---- what starts them ----


def children(pid: int) -> list[int]:
    found = [pid]
    for parent in found:
        for task in Path(f"/proc/{parent}/task").glob("*/children"):
            found += map(int, task.read_text().split())
    return found


def pss(pid: int) -> float:
    """Megabytes that a process and its children hold, shared pages counted in shares."""
    total = 0
    for one in children(pid):
        try:
            total += int(Path(f"/proc/{one}/smaps_rollup").read_text().split("Pss:")[1].split()[0])
        except (OSError, IndexError):
            continue
    return total / 1024


def measured(command: list[str]) -> dict[str, float]:
    peak = [0.0]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:

        def watch() -> None:
            while process.poll() is None:
                with contextlib.suppress(OSError):
                    peak[0] = max(peak[0], pss(process.pid))
                time.sleep(0.3)

        watcher = threading.Thread(target=watch)
        watcher.start()
        out, err = process.communicate()
        watcher.join()
    lines = [line for line in out.splitlines() if line.startswith("RESULT ")]
    if not lines:
        raise SystemExit(f"{' '.join(command)}\n{err[-3000:]}")
    return json.loads(lines[-1][7:]) | {"peak memory, MB": round(peak[0])}


def archives(source: Path, count: int, rounds: int) -> dict[str, object]:
    """CPU seconds of `index` and of `archive add` on the same photos, round by round."""
    found: dict[str, list[float]] = {"index": [], "edge": [], "flat": []}
    with tempfile.TemporaryDirectory() as name:
        base = Path(name)
        (base / "photos").mkdir()
        for path in sorted(source.glob("*.jpg"))[:count]:
            shutil.copy(path, base / "photos")

        def call(*words: object) -> float:
            before = used()
            command = [sys.executable, "-m", "photodesk", *map(str, words)]
            subprocess.run(
                command,
                check=True,
                env=os.environ | {"PHOTODESK_CACHE": str(base / "cache")},
                stderr=subprocess.DEVNULL,
            )
            return used() - before

        for _ in range(rounds):
            found["index"].append(call("index", base / "photos", "-o", base / "index"))
            for engine in ("edge", "flat"):
                call("archive", "init", base / engine, "--engine", f"{engine}:rows")
                found[engine].append(call("archive", "add", base / engine, base / "photos"))
            for made in ("cache", "index", "edge", "flat"):
                shutil.rmtree(base / made, ignore_errors=True)
            print({kind: round(seconds[-1], 1) for kind, seconds in found.items()}, file=sys.stderr, flush=True)
    middle = {kind: statistics.median(seconds) for kind, seconds in found.items()}
    ratios = {kind: [a / b for a, b in zip(found[kind], found["index"], strict=True)] for kind in ("edge", "flat")}
    return {
        "photos": count,
        "CPU seconds": middle,
        "times index, median": {kind: statistics.median(each) for kind, each in ratios.items()},
        "times index, range": {kind: [min(each), max(each)] for kind, each in ratios.items()},
    }


def prepare(work: Path, photos: int) -> None:
    """Weights, export and JPEGs, kept in `work` for the next time."""
    for label, size in SIZES.items():
        folder = work / label.replace(" ", "")
        folder.mkdir(parents=True, exist_ok=True)
        for seed in range(photos):
            path = folder / f"{seed:05}.jpg"
            if not path.exists():
                path.write_bytes(synthetic(size, seed))
    if (work / "hf").exists():
        return
    from conftest import let_torchvision_in

    let_torchvision_in()
    import transformers

    import tiny
    from photodesk.encoders.onnx_export import export

    tiny.openclip_weights("ViT-B-32", work / "b32.safetensors")
    export(f"openclip:ViT-B-32@{work}/b32.safetensors", work / "onnx")
    tiny.tokenizer(work / "hf-making")
    transformers.CLIPModel(transformers.CLIPConfig()).save_pretrained(work / "hf-making")  # its default is ViT-B-32
    transformers.CLIPImageProcessorPil().save_pretrained(work / "hf-making")
    (work / "hf-making").rename(work / "hf")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, help="how many [default: 2000, and 400 with --archive]")
    parser.add_argument("--archive", type=Path, metavar="FOLDER", help="photos to add to an archive and to index")
    parser.add_argument("--rounds", type=int, default=5, help="of --archive")
    parser.add_argument("--only", default="", help="configurations, separated by commas")
    parser.add_argument("--sizes", default=",".join(SIZES))
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "photodesk-benchmark")
    parser.add_argument(
        "--clip-retrieval", metavar="PYTHON", help="the python of an environment that has clip-retrieval"
    )
    parser.add_argument("--child", nargs=3, metavar=("KIND", "FOLDER", "COUNT"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.archive:
        print(json.dumps(archives(arguments.archive, arguments.photos or 400, arguments.rounds), indent=1))
        return
    arguments.photos = arguments.photos or 2000
    if arguments.child:
        kind, folder, count = arguments.child
        child(kind, arguments.work, Path(folder), int(count))
        return
    prepare(arguments.work, arguments.photos)
    kinds = (
        arguments.only.split(",")
        if arguments.only
        else [k for k in (*OURS, *PEERS) if k != "clip-retrieval-fp32" or arguments.clip_retrieval]
    )
    rows = []
    for label in arguments.sizes.split(","):
        for kind in kinds:
            python = arguments.clip_retrieval if kind.startswith("clip-retrieval") else sys.executable
            folder = arguments.work / label.replace(" ", "")
            command = [
                python,
                __file__,
                "--work",
                str(arguments.work),
                "--child",
                kind,
                str(folder),
                str(arguments.photos),
            ]
            row = {"photos": label, "n": arguments.photos, "who": kind, "load average": os.getloadavg()[0]} | measured(
                command
            )
            rows.append(row)
            print(
                {key: round(value, 3) if isinstance(value, float) else value for key, value in row.items()},
                file=sys.stderr,
                flush=True,
            )
        by = {row["who"]: row for row in rows if row["photos"] == label}
        for peer, ours in PEERS.items():
            if peer in by and ours in by:
                by[peer]["photodesk, times as fast"] = by[ours]["images/s"] / by[peer]["images/s"]
                by[peer]["photodesk, times as fast by CPU"] = by[peer]["CPU ms"] / by[ours]["CPU ms"]
        for kind in ("torch-bf16", "onnx-int8"):
            if kind in by and "torch-fp32" in by:
                by[kind]["times torch fp32"] = by[kind]["images/s"] / by["torch-fp32"]["images/s"]
                by[kind]["times torch fp32 by CPU"] = by["torch-fp32"]["CPU ms"] / by[kind]["CPU ms"]
    print(json.dumps({"cores": len(os.sched_getaffinity(0)), "rows": rows}, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
