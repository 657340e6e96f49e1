"""`edge:PATH`: Qdrant Edge, the Qdrant engine inside this process; exact search, filters, word search and facets on one
machine.

A photo's row has one number more than its embedding: minus a quarter of what a revision takes off, so that revised
scores are inner products too and the number is of the size of the others. Rows, word weights and payloads are files
that the system maps into memory.

New points are searched as they are. `optimise` moves them into segments with 8-bit codes beside the rows: the codes of
all photos are scanned, and the best `OVER` · k are scored by their rows. No graph is built. Segments are small, so that
making one takes little memory. One process at a time may have a shard open; `archive` sees to that.
"""

from __future__ import annotations

import json
import shutil
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from photodesk.engines import bm25
from photodesk.engines.base import Space
from photodesk.engines.schema import EVERYTHING, FACETS, NUMBERS, Entry, Filter, Point, following, tokens
from photodesk.errors import StoreError, require
from photodesk.types import FloatArray, Hit

ROW, WORDS = "photo", "words"
BATCH = 256
"""Points an update."""
SLACK = 32
"""Hits asked for beyond k, so that equal scores at its edge are cut by photo id."""
OVER = 2.0
"""So many times k photos of every segment are scored by their rows. Between the k-th score and the 2·k-th lies ten
times what codes are off by."""
SEGMENT = 100_000
"""Kilobytes of rows in a segment at most."""
CODED = 20_000
"""Kilobytes of new rows from which on `optimise` codes them."""
MANY = 10**9
QUARTER = np.float32(0.25)

A = TypeVar("A")


class EdgeEngine:
    """See `index.Engine`; make one with `open`."""

    def __init__(self, path: Path, space: Space, uri: str, shard: Any, api: Any) -> None:
        self.path, self.space, self.uri, self._shard, self._api = path, space, uri, shard, api
        self._fresh = 0  # points since the last `optimise`
        self._guard = threading.RLock()  # no loss: Edge keeps other Python threads waiting anyway

    @classmethod
    def open(cls, path: Path, space: Space, *, uri: str = "", create: bool = False) -> EdgeEngine:
        """Open or make the shard in a folder; see `open_engine`."""
        api = require("qdrant_edge", "archive")
        if create and path.exists() and any(path.iterdir()):
            raise StoreError(f"{path} is not empty; name a new folder for the shard")
        try:
            if create:
                path.mkdir(parents=True, exist_ok=True)
                shard = api.EdgeShard.create(str(path), _config(api, space))
            else:
                size = json.loads((path / "edge_config.json").read_text("utf-8"))["vectors"][ROW]["size"] - 1
                if size != space.dim:
                    raise StoreError(f"{path} holds rows of {size} numbers and the archive's encoder makes {space.dim}")
                shard = api.EdgeShard.load(str(path))
        except StoreError:
            raise
        except FileNotFoundError:
            raise StoreError(f"{path} holds no shard; restore the archive from a backup: see docs/archive.md") from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StoreError(f"cannot use the shard {path}: {error}; see docs/archive.md") from None
        except Exception as error:  # Edge knows no kinds
            raise _trouble(path, error) from None
        engine = cls(path, space, uri or f"edge:{path}", shard, api)
        there = engine._do(shard.info).payload_schema  # of an older photodesk it lacks fields that came later
        if missing := {name: schema for name, schema in _indexes(api).items() if name not in there}:
            for name, schema in missing.items():
                engine._update(api.UpdateOperation.create_field_index(name, schema))
            engine._do(shard.flush)
        return engine

    def upsert(self, points: Sequence[Point]) -> None:
        """See `index.Engine`."""
        for start in range(0, len(points), BATCH):
            made = [self._made(point) for point in points[start : start + BATCH]]
            self._update(self._api.UpdateOperation.upsert_points(made))
        self._do(lambda: self._shard.flush())
        self._grown(len(points))

    def delete(self, photos: Sequence[str]) -> None:
        """See `index.Engine`."""
        self._update(self._api.UpdateOperation.delete_points(list(map(_key, photos))))
        self._do(lambda: self._shard.flush())

    def describe(self, entries: Mapping[str, Entry]) -> None:
        """See `index.Engine`."""
        found = self.get(list(entries), rows=True)
        self.upsert([Point(point.photo, point.row, entries[point.photo], point.number) for point in found])

    def revise(self, photos: Sequence[str], numbers: FloatArray) -> None:
        """See `index.Engine`."""
        number = dict(zip(photos, numbers.tolist(), strict=True))
        for start in range(0, len(photos), BATCH):
            changed = [
                self._api.PointVectors(_key(point.photo), {ROW: _extended(point.row, number[point.photo])})
                for point in self.get(photos[start : start + BATCH], rows=True)
                if np.float32(point.number) != np.float32(number[point.photo])
            ]
            if changed:
                self._update(self._api.UpdateOperation.update_vectors(changed))
        self._do(lambda: self._shard.flush())
        self._grown(len(photos))

    def get(self, photos: Sequence[str], *, rows: bool = False) -> list[Point]:
        """See `index.Engine`."""
        keys = list(map(_key, photos))
        found = {_photo(r.id): r for r in self._do(lambda: self._shard.retrieve(keys, True, [ROW] if rows else False))}
        return [_point(found[photo]) for photo in photos if photo in found]

    def scan(self, *, rows: bool = True, batch: int = 1000, where: Filter = EVERYTHING) -> Iterator[list[Point]]:
        """See `index.Engine`."""
        offset = None
        while True:
            request = self._api.ScrollRequest(offset, batch, self._filter(where), True, [ROW] if rows else False)
            found, offset = self._do(lambda request=request: self._shard.scroll(request))  # type: ignore[misc]
            if found:
                yield [_point(record) for record in found]
            if offset is None:
                return

    def search(self, query: FloatArray, k: int, where: Filter = EVERYTHING, *, revised: float = 0.0) -> tuple[Hit, ...]:
        """See `index.Engine`."""
        return self._nearest(np.append(query, np.float32(revised) / QUARTER), ROW, k, where)

    def lexical(self, query: str, k: int, where: Filter = EVERYTHING) -> tuple[Hit, ...]:
        """See `index.Engine`."""
        words, weights = bm25.query(query, self.space.language)
        if not words:
            return ()
        return self._nearest(self._api.SparseVector(list(words), list(weights)), WORDS, k, where)

    def facets(self, field: str, k: int = 20, where: Filter = EVERYTHING) -> dict[str, int]:
        """See `index.Engine`."""
        Entry().values(field)
        # "exact" would count every value by a query of its own, ten times as long; without it segments are counted and
        # added up, which is as right here: a photo is in one segment only
        found = self._do(lambda: self._shard.facet(self._api.FacetRequest(field, k, False, self._filter(where)))).hits
        counts = {str(getattr(hit.value, "value", hit.value)): hit.count for hit in found}
        return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))

    def count(self, where: Filter = EVERYTHING) -> int:
        """See `index.Engine`."""
        return int(self._do(lambda: self._shard.count(self._api.CountRequest(True, self._filter(where)))))

    def optimise(self) -> None:
        """See `index.Engine`."""
        self._do(lambda: self._shard.optimize())
        self._do(lambda: self._shard.flush())
        self._fresh = 0

    def snapshot(self, folder: Path) -> None:
        """See `index.Engine`; the shard's files as they are after a flush, while nobody else may write them."""
        self._do(lambda: self._shard.flush())
        try:
            shutil.copytree(self.path, folder)
        except (OSError, shutil.Error) as error:
            raise StoreError(f"cannot copy the shard to {folder}: {error}; make room or name another place") from None

    def close(self) -> None:
        """See `index.Engine`."""
        if self._shard is not None:
            self._do(lambda: self._shard.close())
            self._shard = None

    def _grown(self, points: int) -> None:
        """Code rows before so many are new that coding them all at once would take much memory; then let go of all that
        was mapped."""
        self._fresh += points
        if self._fresh * (self.space.dim + 1) * 4 > SEGMENT * 1000:
            with self._guard:
                self.optimise()
                self._do(lambda: self._shard.close())
                self._shard = self._do(lambda: self._api.EdgeShard.load(str(self.path)))

    def _made(self, point: Point) -> Any:
        entry = point.entry.payload()
        vectors: dict[str, Any] = {ROW: _extended(point.row, point.number)}
        if "text" in entry and (words := bm25.document(entry["text"], self.space.language))[0]:
            vectors[WORDS] = self._api.SparseVector(list(words[0]), list(words[1]))
        return self._api.Point(_key(point.photo), vectors, entry)

    def _nearest(self, query: Any, using: str, k: int, where: Filter) -> tuple[Hit, ...]:
        api = self._api
        codes = api.QuantizationSearchParams(rescore=True, oversampling=OVER)
        params = api.SearchParams(quantization=codes) if using == ROW else api.SearchParams(exact=True)
        request = api.SearchRequest(api.Query.Nearest(query, using), k + SLACK, 0, self._filter(where), params)
        hits = [Hit(_photo(found.id), found.score) for found in self._do(lambda: self._shard.search(request))]
        return tuple(sorted(hits, key=lambda hit: (-hit.score, hit.photo))[:k])

    def _filter(self, where: Filter) -> Any:
        if not where:
            return None
        api = self._api
        must: list[Any] = []

        def is_(field: str, **condition: Any) -> None:
            must.append(api.FieldCondition(field, **condition))

        if where.since or where.until:
            end = f"{day}T00:00:00Z" if where.until and (day := following(where.until)) else None
            is_("taken", range=api.RangeDateTime(gte=where.since + "T00:00:00Z" if where.since else None, lt=end))
        for field, values in (
            ("credit", where.credit),
            ("terms", where.terms),
            ("orientation", where.orientation),
            ("label", where.label),
        ):
            if values:
                is_(field, match=api.MatchAny(list(values)))
        for field, values in (("keywords", where.keywords), ("people", where.people)):
            for value in values:
                is_(field, match=api.MatchValue(value))
        for field, least in (("width", where.min_width), ("height", where.min_height), ("rating", where.min_rating)):
            if least:
                is_(field, range=api.RangeFloat(gte=float(least)))
        if where.phrase:
            is_("text", match=api.MatchPhrase(" ".join(tokens(where.phrase))))
        return api.Filter(
            must=must, must_not=[api.HasIdCondition(set(map(_key, where.without)))] if where.without else None
        )

    def _update(self, operation: Any) -> None:
        self._do(lambda: self._shard.update(operation))

    def _do(self, action: Callable[[], A]) -> A:
        with self._guard:
            if self._shard is None:
                raise StoreError(f"{self.uri} is closed")
            try:
                return action()
            except Exception as error:  # Edge knows no kinds
                raise _trouble(self.path, error) from None


def _config(api: Any, space: Space) -> Any:
    cold = api.Memory.Cold
    return api.EdgeConfig(
        vectors={ROW: api.EdgeVectorParams(size=space.dim + 1, distance=api.Distance.Dot, memory=cold)},
        sparse_vectors={WORDS: api.EdgeSparseVectorParams(modifier=api.Modifier.Idf, memory=cold)},
        payload_memory=cold,
        hnsw_config=api.HnswIndexConfig(m=0, ef_construct=4, full_scan_threshold=MANY),
        quantization_config=api.ScalarQuantizationConfig(api.ScalarType.Int8, quantile=0.99, memory=api.Memory.Cached),
        optimizers=api.EdgeOptimizersConfig(
            indexing_threshold=CODED, max_segment_size=SEGMENT, default_segment_number=2
        ),
    )


def _indexes(api: Any) -> dict[str, Any]:
    cold = api.Memory.Cold
    return {
        **{name: api.KeywordIndexParams(memory=cold) for name in FACETS},
        **{name: api.IntegerIndexParams(lookup=False, range=True, memory=cold) for name in NUMBERS},
        "taken": api.DatetimeIndexParams(memory=cold),
        "text": api.TextIndexParams(
            tokenizer=api.TokenizerType.Word, lowercase=True, phrase_matching=True, memory=cold
        ),
    }


def _key(photo: str) -> str:
    return str(uuid.UUID(photo))


def _photo(key: Any) -> str:
    return uuid.UUID(str(key)).hex


def _point(record: Any) -> Point:
    row = np.asarray((record.vector or {}).get(ROW, []), np.float32)
    return Point(_photo(record.id), row[:-1], Entry.of(record.payload), -float(row[-1] / QUARTER) if len(row) else 0.0)


def _extended(row: FloatArray, number: float) -> FloatArray:
    return np.append(row, -QUARTER * np.float32(number))


def _trouble(path: Path, error: Exception) -> StoreError:
    reason = " ".join(str(error).split())[:200]
    if "WouldBlock" in reason:
        return StoreError(f"another process has the shard {path} open; wait until it is done")
    if "No space left" in reason or "StorageFull" in reason or "File too large" in reason:
        return StoreError(
            f"no room left on the disk of {path}; what was reported as done is kept: make room and repeat the command"
        )
    if "Read-only" in reason or "Permission denied" in reason or "PermissionDenied" in reason:
        return StoreError(f"cannot write {path}: it is read-only; nothing was changed")
    return StoreError(f"the shard {path} cannot do that: {reason}; check it with: photodesk archive verify")
