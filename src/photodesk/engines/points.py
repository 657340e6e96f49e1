"""What Qdrant Edge and a Qdrant server have in common: photos as points, rows with the hubness offset in them, filters,
batches, word weights, the order of hits.

A row has one number more than its embedding: minus the offset times `scale`, so that revised scores are inner products
too.
"""

from __future__ import annotations

import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from photodesk.engines import bm25
from photodesk.engines.base import Space
from photodesk.engines.schema import EVERYTHING, Entry, Filter, Point, following, tokens
from photodesk.types import FloatArray, Hit

ROW, WORDS = "photo", "words"
"""Names of the two vectors of a point."""
BATCH = 256
"""Points an update."""
SLACK = 32
"""Hits asked for beyond k, so that equal scores at its edge are cut by photo id."""


@dataclass(frozen=True, slots=True)
class Models:
    """The classes that requests are made of, of one library.

    Args:
        api: module of those that both libraries name alike.
        point: (id, vector, payload); span: of numbers; days: span of times; ids: condition on ids.
        dense: an array as the library takes it.
    """

    api: Any
    point: Callable[..., Any]
    span: Callable[..., Any]
    days: Callable[..., Any]
    ids: Callable[[list[str]], Any]
    dense: Callable[[FloatArray], Any] = lambda row: row


class PointEngine(ABC):
    """See `base.Engine`, all but opening, closing and snapshots; how a request is sent is for the subclass to say.

    Args:
        uri: as `open_engine` reads it.
        space: what it is made for.
        models: of the library.
        scale: of the offset within a row.
    """

    def __init__(self, uri: str, space: Space, models: Models, scale: float = 1.0) -> None:
        self.uri, self.space, self._models, self._scale = uri, space, models, np.float32(scale)

    @abstractmethod
    def _upsert(self, points: list[Any]) -> None: ...

    @abstractmethod
    def _update(self, vectors: list[Any]) -> None: ...

    @abstractmethod
    def _retrieve(self, keys: list[str], vectors: list[str]) -> Any: ...

    @abstractmethod
    def _scroll(self, offset: Any, limit: int, where: Any, vectors: list[str]) -> Any: ...

    @abstractmethod
    def _query(self, query: Any, using: str, limit: int, where: Any) -> Any: ...

    @abstractmethod
    def _facet(self, field: str, limit: int, where: Any) -> Any: ...

    @abstractmethod
    def _set(self, payloads: Mapping[str, Mapping[str, Any]]) -> None:
        """Set fields of the payloads of some points, by their ids."""

    @abstractmethod
    def _index(self, name: str, schema: Any) -> None:
        """Index a field of the payloads."""

    def _bring_up(self, there: Container[str], schemas: Mapping[str, Any]) -> bool:
        """Index what is not indexed yet, for an older photodesk made the points; returns whether anything was. Before
        `folded` is indexed, every payload gets it and what comes with it: stopped on the way, it begins again."""
        missing = [name for name in schemas if name not in there]
        if "folded" in missing:
            for points in self.scan(rows=False):
                self._set({key(point.photo): point.entry.asked() for point in points})
        for name in missing:
            self._index(name, schemas[name])
        return bool(missing)

    def upsert(self, points: Sequence[Point]) -> None:
        """See `base.Engine`."""
        for start in range(0, len(points), BATCH):
            self._upsert([self._made(point) for point in points[start : start + BATCH]])

    def describe(self, entries: Mapping[str, Entry]) -> None:
        """See `base.Engine`."""
        found = self.get(list(entries), rows=True)
        self.upsert([Point(point.photo, point.row, entries[point.photo], point.offset) for point in found])

    def revise(self, photos: Sequence[str], offsets: FloatArray) -> None:
        """See `base.Engine`."""
        offset = dict(zip(photos, offsets.astype(np.float32), strict=True))
        for start in range(0, len(photos), BATCH):
            changed = [
                self._models.api.PointVectors(
                    id=key(point.photo), vector={ROW: self._extended(point.row, -self._scale * offset[point.photo])}
                )
                for point in self.get(photos[start : start + BATCH], rows=True)
                if np.float32(point.offset) != offset[point.photo]
            ]
            if changed:
                self._update(changed)

    def get(self, photos: Sequence[str], *, rows: bool = False) -> list[Point]:
        """See `base.Engine`."""
        records = self._retrieve(list(map(key, photos)), [ROW] if rows else []) if photos else []
        found = {name(record.id): record for record in records}
        return [self._point(found[photo]) for photo in photos if photo in found]

    def scan(self, *, rows: bool = True, batch: int = 1000, where: Filter = EVERYTHING) -> Iterator[list[Point]]:
        """See `base.Engine`."""
        offset = None
        while True:
            found, offset = self._scroll(offset, batch, self._filter(where), [ROW] if rows else [])
            if found:
                yield [self._point(record) for record in found]
            if offset is None:
                return

    def search(self, query: FloatArray, k: int, where: Filter = EVERYTHING, *, revised: float = 0.0) -> tuple[Hit, ...]:
        """See `base.Engine`."""
        return self._nearest(self._extended(query, np.float32(revised) / self._scale), ROW, k, where)

    def lexical(self, query: str, k: int, where: Filter = EVERYTHING) -> tuple[Hit, ...]:
        """See `base.Engine`."""
        weights = self._weights(bm25.query(query, self.space.language))
        return self._nearest(weights, WORDS, k, where) if weights else ()

    def facets(self, field: str, k: int = 20, where: Filter = EVERYTHING) -> dict[str, int]:
        """See `base.Engine`."""
        Entry().values(field)  # refuses other fields
        hits = self._facet(field, k, self._filter(where))
        counts = {str(getattr(hit.value, "value", hit.value)): hit.count for hit in hits}
        return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))

    def damage(self, *, repair: bool = False) -> Iterator[tuple[str, str, bool]]:
        """See `base.Engine`."""
        return iter(())

    def _nearest(self, query: Any, using: str, k: int, where: Filter) -> tuple[Hit, ...]:
        found = self._query(query, using, k + SLACK, self._filter(where))
        hits = [Hit(name(one.id), float(one.score)) for one in found if using == ROW or one.score > 0]
        return tuple(sorted(hits, key=lambda hit: (-hit.score, hit.photo))[:k])

    def _made(self, point: Point) -> Any:
        entry = point.entry.payload() | point.entry.asked()
        vectors = {ROW: self._extended(point.row, -self._scale * np.float32(point.offset))}
        if weights := self._weights(bm25.document(point.entry.text, self.space.language)):
            vectors[WORDS] = weights
        return self._models.point(id=key(point.photo), vector=vectors, payload=entry)

    def _point(self, record: Any) -> Point:
        row = np.asarray((record.vector or {}).get(ROW, []), np.float32)
        offset = -float(row[-1] / self._scale) if len(row) else 0.0
        return Point(name(record.id), row[:-1], Entry.of(record.payload), offset)

    def _extended(self, row: FloatArray, last: np.float32) -> Any:
        return self._models.dense(np.append(row, last))

    def _weights(self, weights: bm25.Weights) -> Any:
        """None where there are no words."""
        words, values = weights
        return self._models.api.SparseVector(indices=list(words), values=list(values)) if words else None

    def _filter(self, where: Filter) -> Any:
        if not where:
            return None
        models, api = self._models, self._models.api
        must: list[Any] = []

        def demand(field: str, **condition: Any) -> None:
            must.append(api.FieldCondition(key=field, **condition))

        if where.since or where.until:
            end = f"{day}T00:00:00Z" if where.until and (day := following(where.until)) else None
            demand("taken", range=models.days(gte=where.since + "T00:00:00Z" if where.since else None, lt=end))
        for values in where.any_of():
            demand("folded", match=api.MatchAny(any=values))
        if where.orientation:
            demand("orientation", match=api.MatchAny(any=list(where.orientation)))
        for field in ("width", "height", "rating"):
            if least := getattr(where, f"min_{field}"):
                demand(field, range=models.span(gte=float(least)))
        if where.max_urgency:
            demand("urgency", range=models.span(gte=1.0, lte=float(where.max_urgency)))
        if where.among is not None:
            must.append(models.ids(list(map(key, sorted(where.among)))))
        if where.phrase:
            demand("text", match=api.MatchPhrase(phrase=" ".join(tokens(where.phrase))))
        excluded = [models.ids(list(map(key, where.without)))] if where.without else None
        return api.Filter(must=must, must_not=excluded)


def key(photo: str) -> str:
    """A photo's id as that of a point."""
    return str(uuid.UUID(photo))


def name(point: Any) -> str:
    """The id of a point as that of its photo."""
    return uuid.UUID(str(point)).hex
