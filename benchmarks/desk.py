"""A whole search: an article's text → hits ready to draw, with the built-in model, on an archive of synthetic photos.

    python benchmarks/desk.py [--photos 100000] [--work DIR] [--json FILE]

Text encoding, date filter, revision by a bank, names in captions, folding, probabilities, captions of 24 hits; facets
are counted once a filter and reported apart. Every headline is new, so nothing is cached. Rows are 2,000 clusters
with noise around the mean of ordinary photos; captions are Zipf words, near-duplicates every fiftieth. "why" is one hit
with a headline, a lead and a picture of 320 × 180.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import shutil
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from photodesk.archive.archive import Archive
from photodesk.archive.database import File
from photodesk.encoders import registry
from photodesk.engines.schema import Filter, Point
from photodesk.features.embed import embed_articles
from photodesk.features.store import Store
from photodesk.machine import cores
from photodesk.search.desk import Desk
from photodesk.search.query import Question
from photodesk.types import Article
from search import make, memory, name, points

PLACES = ("Elbe", "Wien", "Köln", "Rom", "Basel", "Ulm", "Graz", "Bonn", "Kiel", "Jena", "Rhein", "Bern")
THINGS = ("Hochwasser", "Brand", "Streik", "Wahl", "Markt", "Prozess", "Konzert", "Gipfel", "Unfall", "Spiel")


def build(folder: Path, photos: int) -> None:
    encoder = registry.load()
    rng = np.random.default_rng(0)
    with Archive.create(folder, encoder) as archive:
        dim = archive.settings.dim
        centres = rng.standard_normal((2000, 512), np.float32)
        with tempfile.TemporaryDirectory() as cache:
            bank = [
                Article(str(i), f"{thing} in {place}: Lage weiter angespannt")
                for i, (thing, place) in enumerate(zip(THINGS * 2, PLACES * 2, strict=False))
            ]
            rows, _ = embed_articles(bank, encoder, Store(Path(cache)))
        archive.usage.add_to_bank(rows.ids, rows.rows)
        for start in range(0, photos, 2048):
            made = points(make(rng, min(2048, photos - start), centres), start)
            rows = np.stack([p.row for p in made]).repeat(-(-dim // 512), axis=1)[:, :dim]
            rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
            made = [Point(p.photo, row, p.entry, p.offset / 10) for p, row in zip(made, rows, strict=True)]
            made = [
                p if i % 50 else replace(p, entry=replace(p.entry, group=made[0].photo)) for i, p in enumerate(made)
            ]
            known = [(p.photo, 0, p.entry.group) for p in made]
            archive.database.announce(known, [File(f"/photos/{p.photo}.jpg", p.photo, "/photos", 1, 1) for p in made])
            archive.engine.upsert(made)
            archive.database.confirm(p.photo for p in made)
        archive.refresh()
        archive.engine.optimise()
        out = io.BytesIO()
        Image.fromarray(rng.integers(0, 255, (180, 320, 3), np.uint8)).save(out, "JPEG")
        archive.keep_thumbnail(name(0), out.getvalue())


def spent(action, times: int) -> list[float]:
    seconds = []
    for i in range(times):
        start = time.perf_counter()
        action(i)
        seconds.append(1e3 * (time.perf_counter() - start))
    return seconds


def percentiles(values) -> dict[str, float]:
    return {f"p{q}": round(float(np.percentile(values, q)), 1) for q in (50, 95)}


def main() -> None:
    ask = argparse.ArgumentParser()
    ask.add_argument("--photos", type=int, default=100_000)
    ask.add_argument("--work", type=Path)
    ask.add_argument("--json", type=Path)
    given = ask.parse_args()
    work = given.work or Path(tempfile.mkdtemp())
    folder = work / f"desk-{given.photos}-{registry.load().fingerprint[-8:]}"
    if not (folder / "thumbnails").exists():
        shutil.rmtree(folder, ignore_errors=True)
        start = time.perf_counter()
        build(folder, given.photos)
        print(f"built in {time.perf_counter() - start:.0f} s")
    with Archive.open(folder) as archive:
        desk = Desk(archive)
        where = Filter(since="2010-01-01")

        def headline(i: int) -> Article:
            return Article(
                "q",
                f"{THINGS[i % 10]} in {PLACES[i % 12]}: {i} Helfer im Einsatz, wort{700 + i} erwartet",
                "Die Lage bleibt angespannt.",
            )

        def search(i: int) -> None:
            answer = desk.ask(Question(headline(i), where=where, top=24, used_days=30))
            assert len(answer.hits) == 24
            assert answer.hits[0].entry.caption

        first = spent(lambda i: desk.ask(Question(headline(-1), where=where)), 1)[0]
        spent(lambda i: search(i + 1000), 10)
        rounds = [spent(lambda i, r=r: search(60 * r + i), 60) for r in range(5)]
        parts = {
            "texts": spent(lambda i: desk.reader.texts(desk.reader.parts(headline(i + 2000))[0]), 60),
            "engine": spent(
                lambda i: archive.engine.search(
                    np.eye(archive.settings.dim, dtype=np.float32)[i], 50, where, revised=1
                ),
                60,
            ),
            "words": spent(lambda i: archive.engine.lexical(f"Spiel in wort{i} wort{700 + i}", 30, where), 60),
        }
        facets = spent(lambda i: desk.facets(Filter(since=f"2010-01-{i + 1:02}")), 5)
        body = " ".join(f"{PLACES[i % 12]} {THINGS[i % 10]}" for i in range(300))
        long = spent(lambda i: desk.ask(Question(Article("q", headline(i).title, "", f"{body} {i}"), where=where)), 3)
        why = spent(lambda i: desk.why(Question(headline(i + 3000)), name(0)), 5)
        result = {
            "photos": given.photos,
            "engine": archive.settings.engine,
            "revised": archive.revised(),
            "whole": percentiles(np.concatenate(rounds)),
            "quietest of 5 rounds": min(map(percentiles, rounds), key=lambda r: r["p95"]),
            "first": round(first, 1),
            **{part: percentiles(values) for part, values in parts.items()},
            "facets of a new filter": percentiles(facets),
            "body of 600 words": percentiles(long),
            "why": percentiles(why),
            "peak MB": round(memory("VmHWM")),
        }
    for key, value in result.items():
        print(f"{key:<20}{value}")
    if given.json:
        about = {
            "cores": cores(),
            "machine": platform.machine(),
            "python": platform.python_version(),
            "load": os.getloadavg()[0],
        }
        given.json.write_text(json.dumps({"about": about, "result": result}, indent=1) + "\n")
    if given.work is None:
        shutil.rmtree(work)


if __name__ == "__main__":
    main()
