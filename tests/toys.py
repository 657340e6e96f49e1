"""An encoder and an engine as docs/extending.md has them made: small, whole, and held to the contracts of the real
ones."""

from __future__ import annotations

import contextlib
import json
import os
import zlib
from collections import Counter

import numpy as np
from PIL import Image

from photodesk.encoders.base import Encoder, PhotoTower, TextTower
from photodesk.engines import bm25
from photodesk.engines.base import Engine
from photodesk.engines.schema import EVERYTHING, Entry, Point, counted
from photodesk.errors import StoreError
from photodesk.files import locked, replacing
from photodesk.types import Hit


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


class Ngrams(TextTower):
    """How often a text has each two and three letters in a row, hashed into 256 numbers."""

    fingerprint, dim, batch, context = "toy-ngrams/1", 256, 256, 0

    def encode(self, texts):
        rows = np.zeros((len(texts), self.dim), np.float32)
        for row, text in zip(rows, texts, strict=True):
            closed = f"^{text}$"
            for n in (2, 3):
                for i in range(len(closed) - n + 1):
                    row[zlib.crc32(closed[i : i + n].encode("utf-8", "surrogatepass")) % self.dim] += 1
        return unit(rows)

    def tokens(self, text):
        return text.split()


class Histogram(PhotoTower):
    """How much of a photo is of each of 64 colours."""

    fingerprint, dim, batch, size = "toy-histogram/1", 64, 16, 32

    def prepare(self, photo):
        levels = np.asarray(photo.resize((32, 32), Image.Resampling.BOX)).astype(np.intp) // 64
        return (levels @ [16, 4, 1]).reshape(-1)

    def encode(self, batch):
        return unit(np.stack([np.bincount(colours, minlength=self.dim) for colours in batch]))


def load(name):
    """`toy`: two towers without a common space, for `photodesk train`."""
    return Encoder(name, Ngrams(), Histogram())


class DictEngine(Engine):
    """`toy:PATH`: a dictionary that is scanned, and one file that is written anew at every change."""

    def __init__(self, uri, path, space, lock):
        self.uri, self.space, self._path, self._lock, self._points = uri, space, path, lock, {}

    @classmethod
    def open(cls, uri, path, space, create):
        file = path / "points.json"
        if create and file.exists():
            raise StoreError(f"{path} is not empty; name a new folder for the index")
        if not create and not file.exists():
            raise StoreError(f"{path} holds no index; restore the archive from a backup: see docs/archive.md")
        path.mkdir(parents=True, exist_ok=True)
        engine = cls(uri, path, space, locked(path / "lock"))
        with contextlib.ExitStack() as on_error:
            on_error.callback(engine.close)
            if create:
                engine._keep({})
            kept = json.loads(file.read_text("utf-8"))
            if kept["dim"] != space.dim:
                raise StoreError(
                    f"{path} holds rows of {kept['dim']} numbers and the archive's encoder makes {space.dim}"
                )
            engine._points = {
                photo: Point(photo, np.array(row, np.float32), Entry.of(payload), number)
                for photo, row, payload, number in kept["points"]
            }
            on_error.pop_all()
        return engine

    def _keep(self, points, folder=None):
        """On disk first, then in a new dictionary, so that whoever reads meanwhile has the old one."""
        if self._lock < 0:
            raise StoreError(f"{self.uri} is closed")
        lines = [(p.photo, p.row.tolist(), p.entry.payload(), float(p.offset)) for p in points.values()]
        with replacing((folder or self._path) / "points.json") as stream:
            json.dump({"dim": self.space.dim, "points": lines}, stream)
        self._points = points

    def upsert(self, points):
        self._keep(self._points | {point.photo: point for point in points})

    def delete(self, photos):
        self._keep({photo: point for photo, point in self._points.items() if photo not in set(photos)})

    def describe(self, entries):
        there = {photo: self._points[photo] for photo in entries if photo in self._points}
        self._keep(self._points | {p: Point(p, one.row, entries[p], one.offset) for p, one in there.items()})

    def revise(self, photos, numbers):
        given = {photo: float(number) for photo, number in zip(photos, numbers, strict=True) if photo in self._points}
        old = self._points
        self._keep(old | {p: Point(p, old[p].row, old[p].entry, number) for p, number in given.items()})

    def get(self, photos, *, rows=False):
        points = self._points
        found = [points[photo] for photo in photos if photo in points]
        return found if rows else [Point(p.photo, np.empty(0, np.float32), p.entry) for p in found]

    def scan(self, *, rows=True, batch=1000, where=EVERYTHING):
        names = [point.photo for point in admitted(self._points, where)]
        for start in range(0, len(names), batch):
            yield self.get(names[start : start + batch], rows=rows)

    def search(self, query, k, where=EVERYTHING, *, revised=0.0):
        exact, found = query.astype(np.float64), admitted(self._points, where)
        return best([Hit(p.photo, float(p.row.astype(np.float64) @ exact) - revised * p.offset) for p in found], k)

    def lexical(self, query, k, where=EVERYTHING):
        language, points = self.space.language, self._points  # the same ones throughout, whoever writes meanwhile
        words = {
            photo: dict(zip(*bm25.document(point.entry.text, language), strict=True)) for photo, point in points.items()
        }
        having = Counter(word for each in words.values() for word in each)
        there = sum(map(bool, words.values()))
        hits = []
        for point in admitted(points, where):
            mine = words[point.photo]
            score = sum(
                weight * mine[word] * float(np.log1p((there - having[word] + 0.5) / (having[word] + 0.5)))
                for word, weight in zip(*bm25.query(query, language), strict=True)
                if word in mine
            )
            hits += [Hit(point.photo, score)] if score else []
        return best(hits, k)

    def facets(self, field, k=20, where=EVERYTHING):
        Entry().values(field)  # refuses what is no facet
        return dict(list(counted([point.entry for point in admitted(self._points, where)], field).items())[:k])

    def count(self, where=EVERYTHING):
        return len(admitted(self._points, where))

    def optimise(self):
        pass

    def snapshot(self, folder):
        folder.mkdir(parents=True)
        self._keep(self._points, folder)

    def close(self):
        if self._lock >= 0:
            os.close(self._lock)
            self._lock, self._points = -1, {}


def admitted(points, where):
    return [point for _, point in sorted(points.items()) if where.admits(point.photo, point.entry)]


def best(hits, k):
    return tuple(sorted(hits, key=lambda hit: (-hit.score, hit.photo))[:k])
