"""`qdrant:URL`: a Qdrant server or cluster through `qdrant-client`, for archives past one machine.

`qdrant:http://host:6333/photos?shards=6&replicas=2&quantise=int8&exact=no`: host and collection, then how to make the
collection: shards, copies of each, 8-bit codes in memory with rescoring; and whether to search by the graph instead of
    exactly. The key of the server is read from
`PHOTODESK_QDRANT_KEY`. Rows are as in `edge`: one number more than the embedding, minus what a revision takes off.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qsl, urlsplit

import numpy as np

from photodesk.engines import bm25
from photodesk.engines.base import Space
from photodesk.engines.schema import EVERYTHING, FACETS, NUMBERS, Entry, Filter, Point, following, tokens
from photodesk.errors import StoreError, UsageError, require
from photodesk.files import replacing
from photodesk.types import FloatArray, Hit

ROW, WORDS = "photo", "words"
BATCH = 256
"""Points a request."""
SLACK = 32
"""Hits asked for beyond k, so that equal scores at its edge are cut by photo id."""
OPTIONS = ("exact", "quantise", "replicas", "shards")

A = TypeVar("A")


class QdrantEngine:
    """See `index.Engine`; make one with `open`.

    Args:
        client: of a server, or qdrant-client's local mode, which is for tests.
        collection: its name.
        space: what it is made for.
        uri: as `open_engine` reads it.
        options: of `OPTIONS`.
    """

    def __init__(self, client: Any, collection: str, space: Space, uri: str, options: Mapping[str, str]) -> None:
        self.client, self.collection, self.space, self.uri, self.options = client, collection, space, uri, options
        self._m = require("qdrant_client.models", "archive")
        self._closed = False

    @classmethod
    def open(cls, uri: str, space: Space, *, create: bool = False) -> QdrantEngine:
        """Open or make the collection that a URI names; see `open_engine`."""
        server, collection, options = _read(uri)
        made = require("qdrant_client", "archive")
        client = made.QdrantClient(
            url=server, api_key=os.environ.get("PHOTODESK_QDRANT_KEY"), timeout=60, check_compatibility=False
        )
        return cls.on(client, collection, space, uri, options, create=create)

    @classmethod
    def on(
        cls,
        client: Any,
        collection: str,
        space: Space,
        uri: str,
        options: Mapping[str, str] | None = None,
        *,
        create: bool = False,
    ) -> QdrantEngine:
        """Open or make a collection with a client that is already there."""
        engine = cls(client, collection, space, uri, options or {})
        there = engine._do(lambda: client.collection_exists(collection))
        if create and there:
            raise StoreError(f"{uri} is already there; name a new collection, or delete that one on the server")
        if not create and not there:
            raise StoreError(
                f"{uri} is not there; has the server lost its data? Restore a snapshot: see docs/archive.md"
            )
        if create:
            engine._create()
        about = engine._do(lambda: client.get_collection(collection))
        size = about.config.params.vectors[ROW].size - 1
        if size != space.dim:
            raise StoreError(f"{uri} holds rows of {size} numbers and the archive's encoder makes {space.dim}")
        engine._index(about.payload_schema)
        return engine

    def upsert(self, points: Sequence[Point]) -> None:
        """See `index.Engine`."""
        for start in range(0, len(points), BATCH):
            made = [self._made(point) for point in points[start : start + BATCH]]
            self._do(lambda made=made: self.client.upsert(self.collection, made, wait=True))  # type: ignore[misc]

    def delete(self, photos: Sequence[str]) -> None:
        """See `index.Engine`."""
        if photos:
            self._do(
                lambda: self.client.delete(
                    self.collection, self._m.PointIdsList(points=list(map(_key, photos))), wait=True
                )
            )

    def describe(self, entries: Mapping[str, Entry]) -> None:
        """See `index.Engine`."""
        found = self.get(list(entries), rows=True)
        self.upsert([Point(point.photo, point.row, entries[point.photo], point.number) for point in found])

    def revise(self, photos: Sequence[str], numbers: FloatArray) -> None:
        """See `index.Engine`."""
        number = dict(zip(photos, numbers.tolist(), strict=True))
        for start in range(0, len(photos), BATCH):
            changed = [
                self._m.PointVectors(id=_key(point.photo), vector={ROW: [*point.row.tolist(), -number[point.photo]]})
                for point in self.get(photos[start : start + BATCH], rows=True)
                if np.float32(point.number) != np.float32(number[point.photo])
            ]
            if changed:
                self._do(lambda changed=changed: self.client.update_vectors(self.collection, changed, wait=True))  # type: ignore[misc]

    def get(self, photos: Sequence[str], *, rows: bool = False) -> list[Point]:
        """See `index.Engine`."""
        if not photos:
            return []
        keys, vectors = list(map(_key, photos)), [ROW] if rows else False
        records = self._do(lambda: self.client.retrieve(self.collection, keys, with_payload=True, with_vectors=vectors))
        found = {_photo(record.id): record for record in records}
        return [_point(found[photo]) for photo in photos if photo in found]

    def scan(self, *, rows: bool = True, batch: int = 1000, where: Filter = EVERYTHING) -> Iterator[list[Point]]:
        """See `index.Engine`."""
        ask: dict[str, Any] = {"limit": batch, "scroll_filter": self._filter(where), "with_payload": True}
        ask |= {"with_vectors": [ROW] if rows else False, "offset": None}
        while True:
            found, ask["offset"] = self._do(lambda: self.client.scroll(self.collection, **ask))
            if found:
                yield [_point(record) for record in found]
            if ask["offset"] is None:
                return

    def search(self, query: FloatArray, k: int, where: Filter = EVERYTHING, *, revised: float = 0.0) -> tuple[Hit, ...]:
        """See `index.Engine`."""
        return self._nearest([*query.tolist(), float(revised)], ROW, k, where)

    def lexical(self, query: str, k: int, where: Filter = EVERYTHING) -> tuple[Hit, ...]:
        """See `index.Engine`."""
        words, weights = bm25.query(query, self.space.language)
        return (
            self._nearest(self._m.SparseVector(indices=list(words), values=list(weights)), WORDS, k, where)
            if words
            else ()
        )

    def facets(self, field: str, k: int = 20, where: Filter = EVERYTHING) -> dict[str, int]:
        """See `index.Engine`."""
        Entry().values(field)
        found = self._do(
            lambda: self.client.facet(self.collection, field, facet_filter=self._filter(where), limit=k, exact=True)
        )
        return dict(sorted(((str(hit.value), hit.count) for hit in found.hits), key=lambda item: (-item[1], item[0])))

    def count(self, where: Filter = EVERYTHING) -> int:
        """See `index.Engine`."""
        return int(self._do(lambda: self.client.count(self.collection, self._filter(where), exact=True)).count)

    def optimise(self) -> None:
        """See `index.Engine`; a server does so by itself."""

    def snapshot(self, folder: Path) -> None:
        """See `index.Engine`; asks the server for a snapshot and fetches it."""
        import httpx

        made = self._do(lambda: self.client.create_snapshot(self.collection, wait=True))
        server, collection, _ = _read(self.uri)
        key = os.environ.get("PHOTODESK_QDRANT_KEY")
        place = f"{server}/collections/{collection}/snapshots/{made.name}"
        try:
            with (
                httpx.stream("GET", place, headers={"api-key": key} if key else {}, timeout=600) as answer,
                replacing(folder / f"{collection}.snapshot", "wb") as stream,
            ):
                answer.raise_for_status()
                for part in answer.iter_bytes():
                    stream.write(part)
        except (OSError, httpx.HTTPError) as error:
            raise StoreError(
                f"cannot fetch the snapshot {made.name} of {self.uri}: {error}; it is kept on the server"
            ) from None
        self._do(lambda: self.client.delete_snapshot(self.collection, made.name, wait=True))

    def close(self) -> None:
        """See `index.Engine`."""
        if not self._closed:
            self._closed = True
            self.client.close()

    def _create(self) -> None:
        m, option = self._m, dict(self.options)
        codes = m.ScalarQuantization(
            scalar=m.ScalarQuantizationConfig(type=m.ScalarType.INT8, quantile=0.99, always_ram=True)
        )
        self._do(
            lambda: self.client.create_collection(
                self.collection,
                vectors_config={ROW: m.VectorParams(size=self.space.dim + 1, distance=m.Distance.DOT, on_disk=True)},
                sparse_vectors_config={
                    WORDS: m.SparseVectorParams(modifier=m.Modifier.IDF, index=m.SparseIndexParams(on_disk=True))
                },
                shard_number=int(option.get("shards", 1)),
                replication_factor=int(option.get("replicas", 1)),
                write_consistency_factor=int(option.get("replicas", 1)) // 2 + 1,
                on_disk_payload=True,
                quantization_config=codes if option.get("quantise") == "int8" else None,
                hnsw_config=None if option.get("exact") == "no" else m.HnswConfigDiff(m=0),
            )
        )

    def _index(self, there: Container[str]) -> None:
        """Index what can be asked for and is not indexed yet: a collection of an older photodesk lacks fields that came
        later."""
        m = self._m
        schemas: dict[str, Any] = {name: m.KeywordIndexParams(type="keyword", on_disk=True) for name in FACETS}
        schemas |= {name: m.IntegerIndexParams(type="integer", lookup=False, range=True) for name in NUMBERS}
        schemas["taken"] = m.DatetimeIndexParams(type="datetime", on_disk=True)
        words = m.TokenizerType.WORD
        schemas["text"] = m.TextIndexParams(
            type="text", tokenizer=words, lowercase=True, phrase_matching=True, on_disk=True
        )
        for name in (name for name in schemas if name not in there):
            self._do(lambda name=name: self.client.create_payload_index(self.collection, name, schemas[name]))  # type: ignore[misc]

    def _made(self, point: Point) -> Any:
        entry = point.entry.payload()
        vectors: dict[str, Any] = {ROW: [*point.row.tolist(), -float(point.number)]}
        if "text" in entry and (words := bm25.document(entry["text"], self.space.language))[0]:
            vectors[WORDS] = self._m.SparseVector(indices=list(words[0]), values=list(words[1]))
        return self._m.PointStruct(id=_key(point.photo), vector=vectors, payload=entry)

    def _nearest(self, query: Any, using: str, k: int, where: Filter) -> tuple[Hit, ...]:
        m = self._m
        codes = m.QuantizationSearchParams(rescore=True, oversampling=4.0) if self.options.get("quantise") else None
        params = m.SearchParams(exact=self.options.get("exact") != "no", quantization=codes)
        ask = {
            "using": using,
            "query_filter": self._filter(where),
            "search_params": params,
            "limit": k + SLACK,
            "with_payload": False,
        }
        found = self._do(lambda: self.client.query_points(self.collection, query, **ask)).points
        hits = [Hit(_photo(point.id), float(point.score)) for point in found if using == ROW or point.score > 0]
        return tuple(sorted(hits, key=lambda hit: (-hit.score, hit.photo))[:k])

    def _filter(self, where: Filter) -> Any:
        if not where:
            return None
        m = self._m
        must: list[Any] = []

        def is_(field: str, **condition: Any) -> None:
            must.append(m.FieldCondition(key=field, **condition))

        if where.since or where.until:
            end = f"{day}T00:00:00Z" if where.until and (day := following(where.until)) else None
            is_("taken", range=m.DatetimeRange(gte=where.since + "T00:00:00Z" if where.since else None, lt=end))
        for field, values in (
            ("credit", where.credit),
            ("terms", where.terms),
            ("orientation", where.orientation),
            ("label", where.label),
        ):
            if values:
                is_(field, match=m.MatchAny(any=list(values)))
        for field, values in (("keywords", where.keywords), ("people", where.people)):
            for value in values:
                is_(field, match=m.MatchValue(value=value))
        for field, least in (("width", where.min_width), ("height", where.min_height), ("rating", where.min_rating)):
            if least:
                is_(field, range=m.Range(gte=least))
        if where.phrase:
            is_("text", match=m.MatchPhrase(phrase=" ".join(tokens(where.phrase))))
        return m.Filter(
            must=must, must_not=[m.HasIdCondition(has_id=list(map(_key, where.without)))] if where.without else None
        )

    def _do(self, action: Callable[[], A]) -> A:
        if self._closed:
            raise StoreError(f"{self.uri} is closed")
        from httpx import HTTPError
        from qdrant_client.http.exceptions import ApiException

        try:
            return action()
        except (ApiException, HTTPError, OSError) as error:
            reason = " ".join(str(error).split())[:200]
            raise StoreError(
                f"{self.uri} does not do that: {reason}; is the server up, and PHOTODESK_QDRANT_KEY right?"
            ) from None


def _read(uri: str) -> tuple[str, str, dict[str, str]]:
    parts = urlsplit(uri.removeprefix("qdrant:"))
    collection, options = parts.path.strip("/"), dict(parse_qsl(parts.query))
    if parts.scheme not in ("http", "https") or not parts.hostname or not collection or "/" in collection:
        raise UsageError(f"{uri!r}: expected qdrant:http://host:6333/collection")
    if unknown := set(options) - set(OPTIONS):
        raise UsageError(f"{uri!r}: unknown option {min(unknown)!r}; known: {', '.join(OPTIONS)}")
    for name in ("shards", "replicas"):
        if not options.get(name, "1").isdigit() or not int(options.get(name, "1")):
            raise UsageError(f"{uri!r}: {name} is a number from 1")
    if options.get("quantise", "int8") != "int8" or options.get("exact", "yes") not in ("yes", "no"):
        raise UsageError(f"{uri!r}: expected quantise=int8, exact=yes or exact=no")
    return f"{parts.scheme}://{parts.netloc}", collection, options


def _key(photo: str) -> str:
    return str(uuid.UUID(photo))


def _photo(key: Any) -> str:
    return uuid.UUID(str(key)).hex


def _point(record: Any) -> Point:
    row = np.asarray((record.vector or {}).get(ROW, []), np.float32)
    return Point(_photo(record.id), row[:-1], Entry.of(record.payload), -float(row[-1]) if len(row) else 0.0)
