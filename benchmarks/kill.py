"""Kill -9 at random moments of add, remove, update and backup: nothing that was acknowledged may be lost, and the
archive must be whole.

    python benchmarks/kill.py --kills 200 --engine edge:shard

A child works on an archive and says before and after every change what it is about; the parent kills it, opens the
archive, verifies it, and compares what is there with what was acknowledged. What was under way at the kill may be there
or not, but whole.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from doubles import echo, paint  # noqa: E402
from photodesk.archive import ingest, maintenance  # noqa: E402
from photodesk.archive.archive import Archive  # noqa: E402
from photodesk.engines import edge  # noqa: E402
from photodesk.files import digest  # noqa: E402

PHOTOS = 120


def work(folder: Path, photos: Path, seed: int) -> None:
    """The child: change the archive until it is killed."""
    dice = random.Random(seed)
    archive = Archive.open(folder, doing="kill test")
    ingest.TOGETHER = 8

    def said(name):
        plain = getattr(archive, name)

        def speaking(*arguments, **more):
            ids = [p.photo for p in arguments[0]] if name == "put" else list(arguments[0])
            print("begin", name, *ids, flush=True)
            out = plain(*arguments, **more)
            print("end", name, *ids, flush=True)
            return out

        setattr(archive, name, speaking)

    said("put")
    said("drop")
    print("ready", flush=True)
    for turn in range(10**6):
        what = dice.choice(["add", "add", "remove", "remove", "backup", "update"])
        if what == "add":
            ingest.add(archive, echo(), [photos / str(part) for part in dice.sample(range(6), 3)])
        elif what == "remove":
            files = list(archive.database.files())
            going = dice.sample(files, min(len(files), 30))
            print(
                "begin remove", *(file.photo for file in going), flush=True
            )  # asked for: from now on it may happen, and need not
            archive.forget_files([file.path for file in going])
            print("end remove", flush=True)
        elif what == "update":
            archive.usage.add_to_bank([f"{seed}-{turn}"], echo().texts.encode([f"{seed} {turn}"]))
            archive.refresh()
            archive.engine.optimise()
        else:
            name = folder.with_name(f"copy-{seed}-{turn}")
            print("begin backup", name, flush=True)
            maintenance.backup(archive, name)
            print("end backup", name, flush=True)


def main(kills: int, engine: str, seed: int, base: Path) -> Counter[str]:
    dice = random.Random(seed)
    photos, folder = base / "photos", base / "desk"
    for i in range(PHOTOS):
        paint(photos / str(i % 6) / f"{i}.png", f"word {i}")
    everything = {digest(path.read_bytes()).hex() for path in photos.rglob("*.png")}
    edge.CODED, edge.SEGMENT = 1, 100  # so small an archive is coded too
    Archive.create(folder, echo(), engine=engine).close()
    there: set[str] = set()  # as acknowledged
    seen: Counter[str] = Counter()
    for kill in range(kills):
        child = subprocess.Popen(
            [
                sys.executable,
                __file__,
                "--work",
                str(folder),
                "--photos",
                str(photos),
                "--seed",
                str(seed * 1000 + kill),
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert child.stdout.readline() == "ready\n", child.communicate()
        time.sleep(dice.random() ** 2 * 1.5)
        os.kill(child.pid, signal.SIGKILL)
        under_way: set[str] = set()
        doing = "between changes"
        for line in child.communicate()[0].split("\n")[
            :-1
        ]:  # the last may be cut: its change had not begun, or was not acknowledged
            when, name, *ids = line.split(" ")
            if when == "begin":
                doing, under_way = name, set(ids)
            else:
                doing, under_way = "between changes", set()
                if name == "put":
                    there |= set(ids)
                elif name == "drop":
                    there -= set(ids)
        seen[doing] += 1
        with Archive.open(folder) as archive:
            seen["put right"] += archive.recovered
            assert (faults := maintenance.verify(archive, content=kill % 10 == 0)) == [], (kill, doing, faults[:3])
            now = {point.photo for batch in archive.engine.scan(rows=False) for point in batch}
            assert now <= everything
            assert (now ^ there) <= under_way, (kill, doing, len(there - now), len(now - there))
            there = now
        for copy in base.glob("copy-*"):
            with Archive.open(copy) as archive:
                assert maintenance.verify(archive, content=True) == [], (kill, copy)
            seen["backups that opened"] += 1
            shutil.rmtree(copy)
    return seen


if __name__ == "__main__":
    ask = argparse.ArgumentParser()
    ask.add_argument("--kills", type=int, default=200)
    ask.add_argument("--engine", default="edge:shard")
    ask.add_argument("--seed", type=int, default=1)
    ask.add_argument("--work", type=Path)
    ask.add_argument("--photos", type=Path)
    given = ask.parse_args()
    if given.work:
        work(given.work, given.photos, given.seed)
    else:
        with tempfile.TemporaryDirectory() as folder:
            print(
                f"{given.kills} kills of {given.engine}: nothing lost;",
                dict(main(given.kills, given.engine, given.seed, Path(folder))),
            )
