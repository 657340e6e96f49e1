"""Many concurrent users: a real `photodesk serve` over made-up photos, asked over HTTP by 50 connections at once.

    python benchmarks/serve.py [--photos 100000] [--users 50] [--requests 20000] [--think 0] [--work DIR] [--json FILE]

Each user types: a search with a new headline (POST /api/search, 24 hits, every other one with a date filter), then
eight thumbnails of what was found; every hundredth request is the archive's page, and every twentieth search also wants
the facets of a filter that is new (POST /api/facets). `--think` is the mean pause of a user before a search, in
seconds; with 0 there are no pauses, and the times include the queue. The archive is that of `benchmarks/desk.py`;
with `--work` it is kept. Memory is what the server's process holds of its own (RssAnon), read every 500 requests:
"grown" compares the last quarter with the second. Errors are answers other than 200.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from desk import PLACES, THINGS, build
from PIL import Image

from photodesk.archive.archive import Archive


def thumbnails(folder: Path) -> None:
    """One picture under the names of all photos; a file system takes some 60,000 links of one file."""
    with Archive.open(folder) as archive:
        for i, photo in enumerate(archive.database.photos()):
            if i % 30_000 == 0:
                first = folder / f"thumbnail-{i}.jpg"
                Image.fromarray(np.random.default_rng(i).integers(0, 255, (214, 320, 3), np.uint8)).save(
                    first, quality=60
                )
            target = archive.thumbnail(photo)
            target.parent.mkdir(parents=True, exist_ok=True)
            if not target.exists():
                os.link(first, target)


class Users:
    def __init__(self, port: int, total: int, think: float, pid: int) -> None:
        self.port, self.left, self.think, self.pid = port, total, think, pid
        self.times: dict[str, list[float]] = {"search": [], "facets": [], "thumbnail": [], "archive": []}
        self.errors: list[str] = []
        self.memory: list[float] = []
        self.done = 0

    async def ask(self, kind, streams, method, path, body=b""):
        reader, writer = streams
        self.left -= 1
        head = (
            f"{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: "
            f"{len(body)}\r\n\r\n"
        )
        start = time.perf_counter()
        writer.write(head.encode() + body)
        got = await reader.readuntil(b"\r\n\r\n")
        content = await reader.readexactly(int(re.search(rb"content-length: (\d+)", got)[1]))
        self.times[kind].append(time.perf_counter() - start)
        if not got.startswith(b"HTTP/1.1 200"):
            self.errors.append(f"{path}: {got[:40]!r} {content[:200]!r}")
        self.done += 1
        if self.done % 500 == 0:
            self.memory.append(int(Path(f"/proc/{self.pid}/status").read_text().split("RssAnon:")[1].split()[0]) / 1024)
        return content

    async def user(self, number: int) -> None:
        rng = random.Random(number)
        streams = await asyncio.open_connection("127.0.0.1", self.port, limit=2**20)
        await asyncio.sleep(rng.random() * self.think)
        while self.left > 0:
            words = (
                f"{rng.choice(THINGS)} in {rng.choice(PLACES)}: {rng.randrange(10**6)} Menschen hoffen auf Hilfe "
                "vom Land"
            )
            asked = {"draft": words, "top": 24} | ({"since": "2010-01-01"} if rng.random() < 0.5 else {})
            found = json.loads(await self.ask("search", streams, "POST", "/api/search", json.dumps(asked).encode()))
            if rng.random() < 0.05 and self.left > 0:  # a filter that is new
                chosen = json.dumps({"since": f"20{rng.randrange(10, 24)}-01-{rng.randrange(1, 29):02}"})
                await self.ask("facets", streams, "POST", "/api/facets", chosen.encode())
            for hit in found.get("hits", [])[:8]:
                if self.left > 0:
                    await self.ask("thumbnail", streams, "GET", f"/api/photos/{hit['about']['photo']}/thumbnail")
            if rng.random() < 0.09 and self.left > 0:
                await self.ask("archive", streams, "GET", "/api/archive")
            await asyncio.sleep(rng.expovariate(1 / self.think) if self.think else 0)
        streams[1].close()

    async def all(self, users: int) -> None:
        await asyncio.gather(*(self.user(number) for number in range(users)))


def main() -> None:
    ask = argparse.ArgumentParser()
    ask.add_argument("--photos", type=int, default=100_000)
    ask.add_argument("--users", type=int, default=50)
    ask.add_argument("--requests", type=int, default=20_000)
    ask.add_argument("--think", type=float, default=0)
    ask.add_argument("--work", type=Path)
    ask.add_argument("--json", type=Path)
    given = ask.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (given.work or Path(temporary)) / f"serve-{given.photos}"
        if not (folder / "thumbnail-0.jpg").exists():
            build(folder, given.photos)
            thumbnails(folder)
        server = subprocess.Popen(
            [sys.executable, "-m", "photodesk", "serve", folder, "--port", "0"], stderr=subprocess.PIPE, text=True
        )
        log = open(folder / "serve.log", "w")  # noqa: SIM115, PTH123
        try:
            said = server.stderr.readline().strip()
            if not (at := re.search(r":(\d+)$", said)):
                sys.exit(f"the desk did not start: {said}")
            port = int(at[1])
            subprocess.Popen(["cat"], stdin=server.stderr, stdout=log)
            warm = Users(port, 20, 0, server.pid)
            asyncio.run(warm.all(2))
            users = Users(port, given.requests, given.think, server.pid)
            start = time.perf_counter()
            asyncio.run(users.all(given.users))
            took = time.perf_counter() - start
        finally:
            server.send_signal(signal.SIGINT)
            server.wait()
    quarter = len(users.memory) // 4
    result = {
        "photos": given.photos,
        "users": given.users,
        "think": given.think,
        "requests": users.done,
        "errors": len(users.errors),
        "seconds": took,
        "requests/s": users.done / took,
        "searches/s": len(users.times["search"]) / took,
        **{
            f"{kind} {p}": 1e3 * float(np.percentile(times, int(p[1:])))
            for kind, times in users.times.items()
            if times
            for p in ("p50", "p95")
        },
        "memory MB": users.memory[-1] if users.memory else 0.0,
        "grown MB": float(np.median(users.memory[-quarter:]) - np.median(users.memory[quarter : 2 * quarter]))
        if quarter
        else 0,
    }
    print("  ".join(f"{k} {v:,.1f}" if isinstance(v, float) else f"{k} {v}" for k, v in result.items()))
    for error in users.errors[:5]:
        print(error, file=sys.stderr)
    if given.json:
        about = {
            "cores": len(os.sched_getaffinity(0)),
            "machine": platform.machine(),
            "python": platform.python_version(),
        }
        given.json.write_text(
            json.dumps({"about": about, "result": result, "memory MB": users.memory}, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()
