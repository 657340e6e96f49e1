"""Writes `tests/data/NAME/`: one of each thing that photodesk keeps on disk, for later versions to open.

    python scripts/make_witnesses.py 81580d7

A folder of witnesses is named after the commit that wrote it, and is never written again: tests/test_witnesses.py opens
every folder of tests/data, whatever the formats are by then. When a format changes, commit the change, run this script
with that commit's name, and commit the new folder next to the old ones. Nothing of a written folder depends on this
script: it names its questions itself. tests/data/README.md lists the folders and the files of each format.

    pictures.tar.xz         data/ (articles.csv, photos/), extra/ (a broken picture), bank.csv: the input of the others
    archive-edge.tar.xz     archive/: built-in model, Edge engine, bank, uses, picks, one of them taken back, a fault
    archive-flat.tar.xz     archive/: the same with the flat engine and nnn as revision
    archive-trained.tar.xz  archive/: flat engine, `txv@network.safetensors`, and its confidence.json of `calibrate`
    backup.tar.xz           archive/: `archive backup` of that one
    index.tar.xz            index/: plain
    index-revised.tar.xz    index/: with the numbers of a bank
    store.tar.xz            store/: rows of both towers and hashes; full shards and open ones
    translations.tar.xz     cache/translations.sqlite
    files.tar.xz            files/: run files, transductive ones too, prepared articles, exported picks
    checkpoint.tar.xz       net.safetensors.train.part of a training that was stopped
    network.safetensors     T×V, straight; network-landmarks.safetensors with landmarks, two members and a gate
    expected.json           what was asked of each of them when it was written, and what it answered

It needs `pip install -e ".[dev]"` and GNU tar. The pictures are drawn by code.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import json
import lzma
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

import photodesk

DATA = Path(__file__).parents[1] / "tests" / "data"
TRANSLATOR = "http://translations.invalid"
"""No such host can ever be: what is not in the cache of translations cannot be translated."""
CHECKPOINT = ("--preset", "paper2022", "--epochs", "8", "--dim", "2", "--validation", "0", "--precision", "fp32")

COLOURS = {
    "rot": (200, 40, 35),
    "blau": (30, 70, 190),
    "gelb": (240, 205, 50),
    "grün": (40, 140, 60),
    "weiß": (240, 240, 235),
    "schwarz": (25, 25, 30),
    "orange": (240, 130, 30),
    "violett": (120, 50, 150),
    "grau": (130, 130, 135),
    "braun": (110, 70, 40),
}
SHAPES = ("Kreise", "Balken", "Rauten", "Hügel", "Dächer", "Wellen")

PHOTOS = Path(__file__).with_name("witness_photos.csv")
"""How each picture looks, its metadata, and the article that it belongs to, if any."""

BANK = (
    "Streik bei der Bahn",
    "Bundestag berät den Haushalt",
    "Trainer nach Niederlage entlassen",
    "Neue Regeln für Mieter",
    "Wolf in Brandenburg gesehen",
    "Ein Konzert im Park",
    "Preise für Brot steigen",
    "Radweg wird verlegt",
)
QUESTIONS: tuple[dict[str, Any], ...] = (
    {"title": "Hochwasser an der Elbe"},
    {
        "title": "Schnee in den Bergen",
        "lead": "Der Winter ist zurück",
        "text": "In den Alpen fiel ein halber Meter. Straßen sind gesperrt.",
    },
    {"title": "Ein Abend am Wasser", "words": "Rügen", "diverse": True, "top": 5},
    {"title": "Feuer", "where": {"credit": ["Studio Elbe"]}},
    {"title": "Sommer", "where": {"since": "2019-01-01", "until": "2021-12-31", "orientation": ["landscape"]}},
    {"title": "Winter", "where": {"keywords": ["Winter"], "min_width": 100}},
    {"title": "Am Fluss", "where": {"phrase": "an der Elbe"}},
    {"title": "Ein Fest", "used_days": 36500, "hide_used": True},
    {"title": "Lichter", "fold": False},
)
"""`where` are the filter's fields; the rest is the article's and the question's."""


# pictures


def scene(shape: str, colours: Sequence[str], size: tuple[int, int], seed: int) -> Image.Image:
    """A picture of some shapes between a sky and a ground."""
    random = np.random.default_rng(seed)
    width, height = size
    ink, sky, ground = (np.array(COLOURS[name], float) for name in colours)
    horizon = height * random.uniform(0.45, 0.75)
    along = np.linspace(0, 1, height)[:, None, None]
    base = np.where(
        (np.arange(height) < horizon)[:, None, None], sky * (0.65 + 0.5 * along), ground * (1.2 - 0.5 * along)
    )
    coarse = random.normal(0, 18, (6, 8, 1)).repeat(-(-height // 6), 0).repeat(-(-width // 8), 1)[:height, :width]
    image = Image.fromarray(np.clip(np.broadcast_to(base, (height, width, 3)) + coarse, 0, 255).astype(np.uint8))
    image = image.filter(ImageFilter.GaussianBlur(3))
    draw = ImageDraw.Draw(image)
    for _ in range(int(random.integers(3, 8))):
        fill = tuple(np.clip(ink * random.uniform(0.7, 1.15), 0, 255).astype(int).tolist())
        x, r = random.uniform(0, width), random.uniform(0.06, 0.22) * min(size)
        y = horizon + random.uniform(-0.45, 0.3) * height
        if shape == "Kreise":
            draw.ellipse((x - r, y - r, x + r, y + r), fill)
        elif shape == "Balken":
            draw.rectangle((x - r / 3, horizon - 3 * r, x + r / 3, horizon + r), fill)
        elif shape == "Rauten":
            draw.polygon([(x - r, y), (x, y - 1.5 * r), (x + r, y), (x, y + 1.5 * r)], fill)
        elif shape == "Hügel":
            draw.ellipse((x - 4 * r, horizon - 1.5 * r, x + 4 * r, horizon + 3 * r), fill)
        elif shape == "Dächer":
            draw.polygon([(x - 2 * r, horizon + r), (x, horizon - 3 * r), (x + 2 * r, horizon + r)], fill)
        else:
            draw.line(
                [(i, y + r * np.sin(i / (2 + r) + x)) for i in range(0, width + 4, 4)], fill, width=max(2, int(r / 3))
            )
    return image


def described(image: Image.Image, about: Mapping[str, str], *, xmp: bool) -> bytes:
    """A JPEG that says of itself what a row of `PHOTOS` does, as XMP or as IPTC."""
    out = io.BytesIO()
    image.save(out, "JPEG", quality=80)
    data = out.getvalue()
    if xmp:
        body, marker = b"http://ns.adobe.com/xap/1.0/\0" + packet(about).encode(), b"\xff\xe1"
    else:
        day, clock = about["taken"].split("T")
        fields = [
            (tag, about[name])
            for name, tag in (("headline", 105), ("caption", 120), ("credit", 110), ("place", 90), ("terms", 40))
        ]
        fields += [
            (55, day.replace("-", "")),
            (60, clock.replace(":", "")),
            *((25, word) for word in about["keywords"].split(", ")),
        ]
        sets = b"\x1c\x01\x5a\x00\x03\x1b%G"
        for number, text in fields:
            value = text.encode()
            sets += b"\x1c\x02" + bytes([number]) + struct.pack(">H", len(value)) + value
        body = b"Photoshop 3.0\x008BIM\x04\x04\0\0" + struct.pack(">I", len(sets)) + sets + b"\0" * (len(sets) % 2)
        marker = b"\xff\xed"
    return data[:2] + marker + struct.pack(">H", len(body) + 2) + body + data[2:]


def packet(about: Mapping[str, str]) -> str:
    """An XMP packet."""
    words = "".join(f"<r:li>{word}</r:li>" for word in about["keywords"].split(", "))
    return f"""<x:xmpmeta xmlns:x="adobe:ns:meta/"><r:RDF xmlns:r="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<r:Description xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:p="http://ns.adobe.com/photoshop/1.0/"
 xmlns:u="http://ns.adobe.com/xap/1.0/rights/" p:Headline="{about["headline"]}" p:Credit="{about["credit"]}"
 p:City="{about["place"]}" p:DateCreated="{about["taken"]}">
<dc:description><r:Alt><r:li xml:lang="x-default">{about["caption"]}</r:li></r:Alt></dc:description>
<dc:subject><r:Bag>{words}</r:Bag></dc:subject>
<u:UsageTerms><r:Alt><r:li xml:lang="x-default">{about["terms"]}</r:li></r:Alt></u:UsageTerms>
</r:Description></r:RDF></x:xmpmeta>"""


def paint(root: Path) -> None:
    """`data/` with photos and their articles, `extra/` with what is odd, `bank.csv`."""
    with PHOTOS.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    photos, extra = root / "data/photos", root / "extra"
    for seed, about in enumerate(rows):
        path = photos / about["photo"]
        path.parent.mkdir(parents=True, exist_ok=True)
        colours, size = (about["ink"], about["sky"], about["ground"]), (int(about["width"]), int(about["height"]))
        image = scene(about["shape"], colours, size, seed)
        if path.suffix == ".png":
            image.quantize(32).save(path)
        else:
            path.write_bytes(described(image, about, xmp=seed % 2 == 0))
    extra.mkdir()
    (extra / "broken.jpg").write_bytes((photos / "nord/meer.jpg").read_bytes()[:700])
    shutil.copyfile(photos / "süd/dorf.jpg", extra / "again.jpg")  # one photo, two files
    with Image.open(photos / "süd/nacht.jpg") as image:  # a near-duplicate, described by the sidecar next to it
        image.resize((120, 82)).save(extra / "smaller.jpg", quality=75)
    night = next(about for about in rows if about["photo"] == "süd/nacht.jpg")
    (extra / "smaller.xmp").write_text(packet(night | {"headline": "Kleine Lichter", "terms": "frei"}), "utf-8")
    told = [about for about in rows if about["title"]]
    articles = [(str(n), a["title"], a["tags"], f"2024-01-{n + 1:02}", "de", a["photo"]) for n, a in enumerate(told)]
    table(root / "data/articles.csv", articles)
    table(root / "bank.csv", [(f"b{n}", title, "", "2023-01-01", "de", "") for n, title in enumerate(BANK)])


def lessons(root: Path, name: str, count: int, seed: int) -> Path:
    """A data set to train on: as many made-up scenes, and titles that say what is to be seen."""
    random = np.random.default_rng(seed)
    rows = []
    (root / name / "photos").mkdir(parents=True)
    for n in range(count):
        shape = SHAPES[int(random.integers(len(SHAPES)))]
        colours = [list(COLOURS)[i] for i in random.permutation(len(COLOURS))[:3]]
        scene(shape, colours, (160, 120), 1000 * seed + n).save(root / name / "photos" / f"{n}.jpg", quality=85)
        rows.append(
            (
                str(n),
                f"{shape} in {colours[0]}, oben {colours[1]}, unten {colours[2]} ({n})",
                ", ".join(colours),
                "2024-01-01",
                "de",
                f"{n}.jpg",
            )
        )
    table(root / name / "articles.csv", rows)
    return root / name


def table(path: Path, rows: Sequence[Sequence[str]]) -> None:
    """An article file."""
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(("id", "title", "tags", "date", "language", "photo"))
        writer.writerows(rows)


# what is written


def run(*words: str | Path, at: Path | None = None, codes: Sequence[int] = (0,), **environment: str) -> str:
    """The command line in a process of its own; returns what it wrote to stdout."""
    done = subprocess.run(
        [sys.executable, "-m", "photodesk", *map(str, words)],
        cwd=at,
        env=os.environ | environment,
        capture_output=True,
        text=True,
    )
    if done.returncode not in codes:
        sys.exit(f"photodesk {' '.join(map(str, words))} ended with {done.returncode}:\n{done.stderr}")
    return done.stdout


def archive(root: Path, folder: Path, at: Path, *options: str) -> None:
    """An archive of the pictures with a bank, uses, picks, one of them taken back, and a fault."""
    run("archive", "init", folder, *options, at=at)
    run("archive", "add", folder, root / "data/photos", root / "extra", at=at, codes=(1,))  # the broken picture
    run("archive", "update", folder, "--bank", root / "bank.csv", at=at, codes=(1,))
    photos = root / "data/photos"
    flood, feast, winter = photos / "nord/regen.jpg", photos / "süd/fest.jpg", "Winter in den Bergen"
    run("archive", "use", folder, flood, feast, "--day", "2024-06-05", "--article", "Die Flut kommt", at=at)
    run("archive", "use", folder, feast, "--day", "2019-09-22", "--article", "O'zapft is", at=at)
    picks = (
        ("Hochwasser an der Elbe", flood, 1),
        (winter, photos / "süd/alpen.jpg", 3),
        (winter, photos / "nord/eis.jpg", 2),
    )
    with served(folder, at) as ask:
        for title, path, rank in picks:
            photo, query = (
                hashlib.sha256(path.read_bytes()).hexdigest()[:32],
                {"headline": title, "lead": "Mit einem Vorspann"},
            )
            made = ask("POST", "picks", {"query": query, "photo": photo, "rank": rank, "score": 1.5})
        ask("DELETE", f"picks/{made['article']}/{made['photo']}")


@contextlib.contextmanager
def served(folder: Path, at: Path) -> Iterator[Any]:
    """A function that asks the API of an archive."""
    command = [sys.executable, "-m", "photodesk", "serve", str(folder), "--port", "0"]
    with subprocess.Popen(command, cwd=at, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr
        url = ""
        while not url:
            line = server.stderr.readline()
            found = re.search(r"at (http://\S+)", line)
            url = found[1] if found else ""
            if not line:
                sys.exit(f"photodesk serve {folder} ended with {server.wait()}")

        def ask(method: str, path: str, body: object = None) -> Any:
            data = json.dumps(body).encode() if body is not None else None
            request = urllib.request.Request(
                f"{url}/api/{path}", data, {"content-type": "application/json"}, method=method
            )
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)

        try:
            yield ask
        finally:
            server.send_signal(signal.SIGINT)
            server.stderr.read()


class Translates(BaseHTTPRequestHandler):
    """A proxy behind which every host is a translation service that turns words around."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        body = json.dumps(
            {"translatedText": [" ".join(word[::-1] for word in text.split()) for text in asked["q"]]}
        ).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def translate(root: Path, cache: Path, out: Path) -> None:
    """Articles translated into the cache."""
    server = HTTPServer(("127.0.0.1", 0), Translates)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    proxy = f"http://127.0.0.1:{server.server_port}"
    steps = f"fields=title, translate={TRANSLATOR}"
    run("prepare", root / "data", "-o", out, "-p", steps, PHOTODESK_CACHE=str(cache), http_proxy=proxy, no_proxy="")
    server.shutdown()


def stopped(root: Path, store: Path, folder: Path) -> None:
    """What a training leaves that is killed after a few epochs."""
    command = [
        sys.executable,
        "-m",
        "photodesk",
        "train",
        str(root / "data"),
        "-o",
        str(folder / "net.safetensors"),
        "--cache",
        str(store),
        *CHECKPOINT,
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as training:
        assert training.stdout
        for line in training.stdout:
            if json.loads(line)["epoch"] == 4:
                training.kill()


def seal(store: Path) -> None:
    """The store's rows in full shards: 256 MB make one full by itself. The only step that no command and no public name
    does."""
    from photodesk.features import maintenance

    for tower in maintenance.towers(store):
        maintenance.compact(tower, shard_bytes=120_000)


def pack(root: Path, name: str, to: Path) -> None:
    """`root/name` as a compressed tar that keeps holes: Edge sets much aside that it has not written yet."""
    command = [
        "tar",
        "--create",
        "--sparse",
        "--hole-detection=raw",
        "--format=pax",
        "--pax-option=delete=atime,delete=ctime",
        "--sort=name",
        "--owner=0",
        "--group=0",
        "--numeric-owner",
        "--mtime=@1700000000",
        "-C",
        str(root),
        *name.split(),
    ]
    made = subprocess.run(command, check=True, capture_output=True).stdout
    to.write_bytes(lzma.compress(made, preset=9 | lzma.PRESET_EXTREME))


# what they answer


def waves(count: int, dim: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """(count, dim) unit rows that any machine computes alike: the fixed input of networks and engines."""
    rows = np.sin(np.outer(np.arange(1, count + 1), np.arange(1, dim + 1)) * 0.37)
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def checksum(rows: Any) -> str:
    """Of (n, d) rows as float32, bit by bit."""
    return hashlib.sha256(np.ascontiguousarray(rows, "<f4").tobytes()).hexdigest()


def question(about: dict[str, Any]) -> photodesk.Question:
    """One of `QUESTIONS`."""
    about = dict(about)
    article = photodesk.Article("query", *(about.pop(name, "") for name in ("title", "lead", "text")))
    where = {name: tuple(value) if isinstance(value, list) else value for name, value in about.pop("where", {}).items()}
    return photodesk.Question(article, where=replace(photodesk.Question().where, **where), **about)


def asked(desk: photodesk.Desk, about: dict[str, Any]) -> dict[str, Any]:
    """A question with its answer, in JSON."""
    answer = desk.ask(question(about))
    hits = [[hit.photo, hit.score, hit.probability, len(hit.similar)] for hit in answer.hits]
    return {"question": about, "hits": hits, "nothing_fits": answer.nothing_fits, "calibrated": answer.calibrated}


def of_engine(held: photodesk.Archive) -> dict[str, Any]:
    """What the engine of an archive holds and finds, without any model."""
    engine = held.engine
    points = [point for batch in engine.scan() for point in batch]
    searches = [engine.search(row, 5, revised=revised) for row in waves(3, held.settings.dim) for revised in (0, 1)]
    return {
        "photos": [point.photo for point in points],
        "rows": checksum([point.row for point in points]),
        "numbers": checksum([[point.offset for point in points]]),
        "entries": [point.entry.payload() for point in points],
        "searches": [[[hit.photo, hit.score] for hit in hits] for hits in searches],
        "words": [[hit.photo, hit.score] for hit in engine.lexical("Laternen an der Elbe", 5)],
        "facets": {name: engine.facets(name) for name in ("credit", "keywords", "year")},
    }


def of_desk(held: photodesk.Archive, encoder: Any, questions: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What a desk answers, and which photos it takes for used."""
    desk = photodesk.Desk(held, encoder)
    used = desk.ask(question({"title": "Alles", "used_days": 36500, "fold": False}))
    return {
        "answers": [asked(desk, about) for about in questions],
        "used": {hit.photo: hit.used for hit in used.hits if hit.used},
    }


def of_ledger(folder: Path, run: Callable[..., str]) -> dict[str, Any]:
    """What `stats` and `faults` say; sizes, times, folders and what else is in these are left out."""
    stats = json.loads(run("archive", "stats", folder, "--json"))
    stats["jobs"] = [[job["command"], job["state"]] for job in stats["jobs"]]
    del stats["bytes"]
    stats.pop("left_out", None)  # earlier versions did not count it
    return {
        "stats": stats,
        "faults": [line.partition("extra/")[2] for line in run("archive", "faults", folder).splitlines()],
    }


def of_picks(folder: Path, out: Path, run: Callable[..., str]) -> list[dict[str, str]]:
    """What `picks` writes."""
    run("archive", "picks", folder, "-o", out)
    with (out / "picks.csv").open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def of_index(folder: Path, encoder: Any, titles: Sequence[str]) -> dict[str, Any]:
    """What an index holds and finds, with its revision if it has one, and by cosine."""
    searcher = photodesk.Searcher.open(folder, encoder)
    rows = searcher.index.embeddings
    found: dict[str, Any] = {"titles": titles, "photos": list(rows.ids), "rows": checksum(rows.rows)}
    for kind in ("revised", "cosine"):
        hits = [searcher.search(title, top=5, revised=kind == "revised") for title in titles]
        found[kind] = [[[hit.photo, hit.score] for hit in each] for each in hits]
    return found


def of_network(path: Path) -> dict[str, Any]:
    """What a network makes of a fixed input."""
    network = photodesk.load(f"txv@{path}").network
    assert network
    return {
        "fingerprint": network.fingerprint,
        "texts": network.texts(waves(3, sum(network.text_dims))).tolist(),
        "photos": network.photos(waves(3, sum(network.visual_dims))).tolist(),
    }


def of_store(text: str) -> dict[str, list[int]]:
    """Tower → rows and full shards, from the table of `store verify`."""
    found = re.findall(r"^(\S+) +(\d+) +\d+ +float\d+ +(\d+) .* sound *$", text, re.MULTILINE)
    return {tower: [int(rows), int(shards)] for tower, rows, shards in found}


def of_runs(data: Path, files: Path, names: Sequence[str], run: Callable[..., str]) -> dict[str, Any]:
    """What `evaluate` says of run files; the intervals are drawn at random."""
    found = json.loads(run("evaluate", data, *(files / name for name in names), "--json"))
    return {
        name: {key: each[key] for key in ("articles", "transductive", "means")}
        for name, each in zip(names, found, strict=True)
    }


def losses(text: str) -> list[list[float]]:
    """Epoch and loss of each line of a training."""
    return [[row["epoch"], row["loss"]] for row in map(json.loads, text.splitlines()) if "epoch" in row]


def make(target: Path, root: Path) -> dict[str, Any]:
    """All witnesses into `target`, by way of `root`; returns what they answer."""
    made, store = root / "made", root / "store"
    target.mkdir(parents=True)
    paint(root)
    pack(root, "data extra bank.csv", target / "pictures.tar.xz")

    cache = str(root / "lessons-store")
    first, second = lessons(root, "lessons", 190, 1), lessons(root, "more", 12, 2)
    run(
        "train",
        first,
        "-o",
        made / "network.safetensors",
        "--preset",
        "straight",
        "--dim",
        "16",
        "--test",
        "120",
        "--cache",
        cache,
    )
    shutil.copy(made / "network.safetensors", target)
    few = lessons(root, "few", 14, 3)
    run(
        "train",
        few,
        second,
        "-o",
        made / "network-landmarks.safetensors",
        "--weights",
        "1,0.5",
        "--dim",
        "8",
        "--cache",
        cache,
    )
    shutil.copy(made / "network-landmarks.safetensors", target)

    archives = {
        "edge": ("--engine", "edge:shard"),
        "flat": ("--engine", "flat:index", "--revise", "nnn(k=3, alpha=0.75)"),
        "trained": ("--engine", "flat:index", "--encoder", "txv@network.safetensors"),
    }
    os.environ["PHOTODESK_CACHE"] = str(root / "cache")
    for name, options in archives.items():
        archive(root, made / name / "archive", target, *options)
    curve = made / "trained/archive/confidence.json"
    run("calibrate", first, "--encoder", "txv@network.safetensors", "-o", curve, "--cache", cache, at=target)
    run("archive", "backup", made / "trained/archive", made / "backup/archive", at=target)
    files = made / "files"
    files.mkdir()
    run("archive", "picks", made / "flat/archive", "-o", files / "picks")
    for name in archives:
        pack(made / name, "archive", target / f"archive-{name}.tar.xz")
    pack(made / "backup", "archive", target / "backup.tar.xz")

    photos = root / "data/photos"
    run("index", photos, "-o", made / "plain/index", "--cache", store)
    revision = ("--revise", "nnn(k=3, alpha=0.75)", "--bank", root / "bank.csv")
    run("index", photos, "-o", made / "revised/index", "--cache", store, *revision)
    pack(made / "plain", "index", target / "index.tar.xz")
    pack(made / "revised", "index", target / "index-revised.tar.xz")

    seal(store)
    for name, options in {"run.tsv": (), "run.trec": (), "batch.tsv": revision[:2], "batch.trec": revision[:2]}.items():
        run("rank", root / "data", "-o", files / name, "--cache", store, *options)
    (made / "stopped").mkdir()
    stopped(root, store, made / "stopped")  # its hashes and texts stay in open shards
    pack(made / "stopped", "net.safetensors.train.part", target / "checkpoint.tar.xz")
    pack(root, "store", target / "store.tar.xz")
    translate(root, made / "translated/cache", files / "prepared.jsonl")
    pack(made / "translated", "cache", target / "translations.tar.xz")
    pack(made, "files", target / "files.tar.xz")

    builtin, titles = photodesk.load(), [about["title"] for about in QUESTIONS]
    expected: dict[str, Any] = {"archives": {}}
    for name in (*archives, "backup"):
        folder, tar = made / name / "archive", "backup" if name == "backup" else f"archive-{name}"
        with contextlib.chdir(target):  # where the network lies that the encoder's name leads to
            with photodesk.Archive.open(folder) as held:
                encoder = photodesk.load(held.settings.encoder)
                found = {"engine": of_engine(held), "desk": of_desk(held, encoder, QUESTIONS)}
            found |= {"ledger": of_ledger(folder, run), "picks": of_picks(folder, made / f"{name}-picks", run)}
        expected["archives"][tar] = found
    expected["indexes"] = {
        f"index{dash}": of_index(made / name / "index", builtin, titles)
        for name, dash in (("plain", ""), ("revised", "-revised"))
    }
    expected["networks"] = {
        name: of_network(target / f"{name}.safetensors") for name in ("network", "network-landmarks")
    }
    expected["store"] = of_store(run("store", "verify", "--cache", store))
    expected["runs"] = of_runs(root / "data", files, ("run.tsv", "run.trec", "batch.tsv", "batch.trec"), run)
    expected["translations"] = {
        "preparation": f"fields=title, translate={TRANSLATOR}",
        "titles": [[article.id, article.title] for article in photodesk.read(files / "prepared.jsonl").articles],
    }
    expected["exported"] = sorted([pair.article, pair.photo] for pair in photodesk.read(files / "picks").pairs)
    rest = run("train", root / "data", "-o", made / "stopped/net.safetensors", "--cache", store, *CHECKPOINT)
    expected["checkpoint"] = {"options": CHECKPOINT, "losses": losses(rest)}
    return expected


def rounded(value: Any) -> Any:
    """With six digits after the point."""
    if isinstance(value, dict):
        return {name: rounded(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(each) for each in value]
    return round(value, 6) if isinstance(value, float) else value


def main(name: str) -> None:
    """Write the witnesses of this commit."""
    target = DATA / name
    if target.exists():
        sys.exit(
            f"{target} is there already, and witnesses are never written again; give the name of the commit that is "
            "checked out"
        )
    with tempfile.TemporaryDirectory(prefix="photodesk-witness-") as root:
        expected = make(target, Path(root))
    versions = {
        "photodesk": photodesk.__version__,
        "commit": name,
        "python": sys.version.split()[0],
        "numpy": np.__version__,
    }
    with (target / "expected.json").open("w", encoding="utf-8") as stream:
        json.dump(rounded({"written_by": versions, **expected}), stream, ensure_ascii=False, separators=(",", ":"))
        stream.write("\n")
    for path in sorted(target.iterdir()):
        print(f"{path.stat().st_size:>9,}  {path.name}")
    print(f"{sum(path.stat().st_size for path in target.iterdir()):>9,}  in all")


if __name__ == "__main__":
    main(*sys.argv[1:])
