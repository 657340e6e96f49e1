"""Many concurrent users: a real `photodesk serve` over made-up photos, asked over HTTP by 50 connections at once.

    python benchmarks/serve.py [--photos 100000] [--users 50] [--requests 20000] [--think 0] [--work DIR] [--json FILE]

Each user types: a search with a new headline (POST /api/search, 24 hits, every other one with a date filter), then
eight thumbnails of what was found; every hundredth request is the archive's page, and every twentieth search also wants
the facets of a filter that is new (POST /api/facets). `--think` is the mean pause of a user before a search, in
seconds; with 0 there are no pauses, and the times include the queue. The archive is that of `benchmarks/desk.py`;
with `--work` it is kept. Memory is what the server's process holds of its own (RssAnon), read every 500 requests:
"grown" compares the last quarter with the second. Errors are answers other than 200.

    python benchmarks/serve.py --unfriendly [--photos 2000] [--users 10] [--think 1] [--seconds 60] [--rounds 3]

The same users on a desk with a token, in turns next to a generator of load that is idle and one at work, under `nice`:
400 unfinished requests, 45 drafts of 100,000 characters, 30 uploads of 29 MB, forms of 10,000 fields and 300 wrong
tokens, all at once and again as soon as they are answered. It has the right token, but for the wrong ones. What counts
is how the users' p95 compares, their errors, and the most memory that server and decoders hold of their own.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import platform
import random
import re
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
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


def held(pid: int) -> float:
    """MB of its own that a process holds; 0 once it is gone."""
    try:
        return int(Path(f"/proc/{pid}/status").read_text().split("RssAnon:")[1].split()[0]) / 1024
    except (OSError, IndexError):
        return 0.0


class Users:
    def __init__(self, port: int, total: float, think: float, pid: int, token: str = "") -> None:
        self.port, self.left, self.think, self.pid = port, total, think, pid
        self.shown = f"authorization: Bearer {token}\r\n" if token else ""
        self.times: dict[str, list[float]] = {"search": [], "facets": [], "thumbnail": [], "archive": []}
        self.errors: list[str] = []
        self.memory: list[float] = []
        self.done = 0

    async def ask(self, kind, streams, method, path, body=b""):
        reader, writer = streams
        self.left -= 1
        head = (
            f"{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: "
            f"{len(body)}\r\n{self.shown}\r\n"
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
            self.memory.append(held(self.pid))
        return content

    async def user(self, number: int) -> None:
        rng = random.Random(number)
        await asyncio.sleep(rng.random() * self.think)
        streams = await asyncio.open_connection("127.0.0.1", self.port, limit=2**20)
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
                    await self.ask("thumbnail", streams, "GET", f"/api/photos/{hit['photo']}/thumbnail")
            if rng.random() < 0.09 and self.left > 0:
                await self.ask("archive", streams, "GET", "/api/archive")
            await asyncio.sleep(rng.expovariate(1 / self.think) if self.think else 0)
        streams[1].close()

    async def all(self, users: int) -> None:
        await asyncio.gather(*(self.user(number) for number in range(users)))


class Unfriendly:
    """What the generator sends; each kind again and again, until it is ended."""

    def __init__(self, port: int, token: str) -> None:
        self.port, self.shown = port, f"authorization: Bearer {token}\r\n"
        self.answers: dict[str, Counter[str]] = {}
        self.picture = b"\x89PNG\r\n" + random.Random(0).randbytes(29 * 2**20)

    async def send(self, kind: str, head: str, body: bytes = b"", shown: str | None = None) -> None:
        said = "none"
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            lines = f"{head}\r\nhost: 127.0.0.1\r\n{self.shown if shown is None else shown}"
            writer.write(f"{lines}content-length: {len(body)}\r\n\r\n".encode() + body)
            said = (await reader.readline()).decode().split()[1]
            writer.close()
        except (OSError, IndexError):
            pass
        self.answers.setdefault(kind, Counter())[said] += 1

    async def unfinished(self) -> None:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            writer.write(b"POST /api/search HTTP/1.1\r\nhost: 127.0.0.1\r\nx-")
            said = (await reader.read(12))[-3:].decode() or "closed"
            writer.close()
        except OSError:
            said = "closed"
        self.answers.setdefault("unfinished", Counter())[said] += 1

    async def draft(self) -> None:
        words = " ".join(random.choice(THINGS + PLACES) for _ in range(14_000))[:100_000]
        head = "POST /api/search HTTP/1.1\r\ncontent-type: application/json"
        await self.send("drafts", head, json.dumps({"draft": words}).encode())

    async def upload(self) -> None:
        await self.send("uploads", "POST /api/uploads HTTP/1.1\r\ncontent-type: image/png", self.picture)

    async def fields(self) -> None:
        await self.send("fields", "POST / HTTP/1.1", "&".join(f"f{i}=x" for i in range(10_000)).encode())
        await asyncio.sleep(1)

    async def guess(self) -> None:
        wrong = f"authorization: Bearer {random.random()}\r\n"
        await self.send("tokens", "GET /api/archive HTTP/1.1", shown=wrong)
        await asyncio.sleep(1)

    async def all(self, seconds: float) -> None:
        late = time.monotonic() + seconds

        async def again(one) -> None:
            while time.monotonic() < late:
                await one()
                await asyncio.sleep(0.2)

        kinds = [(self.unfinished, 400), (self.draft, 45), (self.upload, 30), (self.fields, 3), (self.guess, 300)]
        asked = [asyncio.create_task(again(one)) for one, count in kinds for _ in range(count)]
        await asyncio.wait(asked, timeout=seconds + 1)
        for task in asked:
            task.cancel()


def unfriendly(given: argparse.Namespace, port: int, pid: int, token: str) -> dict[str, object]:
    """Rounds of an idle generator and one at work."""
    times: dict[bool, list[float]] = {False: [], True: []}
    errors, said, most = [], Counter(), {"server MB": 0.0, "server and decoders MB": 0.0}

    async def watch() -> None:
        while True:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            for task in Path(f"/proc/{pid}/task").iterdir():
                with suppress(OSError):
                    children += (task / "children").read_text().split()
            own, others = held(pid), sum(held(int(child)) for child in set(children))
            most["server MB"] = max(most["server MB"], own)
            most["server and decoders MB"] = max(most["server and decoders MB"], own + others)
            await asyncio.sleep(0.2)

    async def visit(users: Users) -> None:
        watching = asyncio.create_task(watch())
        asked = asyncio.create_task(users.all(given.users))
        await asyncio.sleep(given.seconds)
        users.left = 0
        await asyncio.wait_for(asked, 600)
        watching.cancel()

    for number in range(given.rounds):
        for works in (False, True):
            command = [sys.executable, __file__, "--generate", str(port), "--seconds", str(given.seconds)]
            generator = subprocess.Popen(
                ["nice", "-n", "19", *command, *["--idle"] * (not works)],
                env=os.environ | {"PHOTODESK_TOKEN": token},
                stdout=subprocess.PIPE,
                text=True,
            )
            generator.stdout.readline()  # it is up
            users = Users(port, math.inf, given.think, pid, token)
            asyncio.run(visit(users))
            errors += users.errors
            times[works] += users.times["search"]
            said.update(
                {
                    f"{kind} {code}": n
                    for kind, counts in json.loads(generator.communicate()[0]).items()
                    for code, n in counts.items()
                }
            )
            found = users.times["search"]
            state, p95 = "at work" if works else "idle", 1e3 * np.percentile(found, 95)
            print(f"round {number + 1}, {state}: {len(found)} searches, p95 {p95:.0f} ms", file=sys.stderr)
    idle, loaded = (np.percentile(times[works], 95) for works in (False, True))
    result = {
        "p95 idle": 1e3 * idle,
        "p95 at work": 1e3 * loaded,
        "ratio": loaded / idle,
        "searches": sum(map(len, times.values())),
    }
    for error in errors[:5]:
        print(error, file=sys.stderr)
    return result | {"errors": len(errors)} | most | {"answers": dict(sorted(said.items()))}


def generate(given: argparse.Namespace) -> None:
    """The generator of load: a process of its own."""
    made = Unfriendly(given.generate, os.environ["PHOTODESK_TOKEN"])
    print("up", flush=True)
    asyncio.run(asyncio.sleep(given.seconds) if given.idle else made.all(given.seconds))
    print(json.dumps(made.answers))


def main() -> None:
    ask = argparse.ArgumentParser()
    ask.add_argument("--photos", type=int, default=100_000)
    ask.add_argument("--users", type=int, default=50)
    ask.add_argument("--requests", type=int, default=20_000)
    ask.add_argument("--think", type=float, default=0)
    ask.add_argument("--work", type=Path)
    ask.add_argument("--json", type=Path)
    ask.add_argument("--unfriendly", action="store_true")
    ask.add_argument("--seconds", type=float, default=60)
    ask.add_argument("--rounds", type=int, default=3)
    ask.add_argument("--generate", type=int, help=argparse.SUPPRESS)
    ask.add_argument("--idle", action="store_true", help=argparse.SUPPRESS)
    given = ask.parse_args()
    if given.generate:
        return generate(given)
    if given.unfriendly:
        ask.set_defaults(photos=2000, users=10, think=1.0)
        given = ask.parse_args()
    token = secrets.token_urlsafe(24) if given.unfriendly else ""
    with tempfile.TemporaryDirectory() as temporary:
        folder = (given.work or Path(temporary)) / f"serve-{given.photos}"
        if not (folder / "thumbnail-0.jpg").exists():
            build(folder, given.photos)
            thumbnails(folder)
        server = subprocess.Popen(
            [sys.executable, "-m", "photodesk", "serve", folder, "--port", "0"],
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"PHOTODESK_TOKEN": token},
        )
        log = open(folder / "serve.log", "w")  # noqa: SIM115, PTH123
        try:
            said = server.stderr.readline().strip()
            if not (at := re.search(r":(\d+)$", said)):
                sys.exit(f"the desk did not start: {said}")
            port = int(at[1])
            subprocess.Popen(["cat"], stdin=server.stderr, stdout=log)
            warm = Users(port, 20, 0, server.pid, token)
            asyncio.run(warm.all(2))
            if given.unfriendly:
                result = unfriendly(given, port, server.pid, token)
                print(json.dumps(result, indent=1))
                if given.json:
                    given.json.write_text(json.dumps(result, indent=1) + "\n")
                return None
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
