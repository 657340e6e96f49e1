"""`qdrant:URL`: a Qdrant server or cluster through `qdrant-client`, for archives past one machine.

`qdrant:http://host:6333/photos?shards=6&replicas=2&quantise=int8&exact=no`: host and collection, then how to make the
collection: shards, copies of each, 8-bit codes in memory with rescoring; and whether to search by the graph instead of
exactly. The key of the server is read from `PHOTODESK_QDRANT_KEY`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qsl, urlsplit

import numpy as np

from photodesk.engines.base import Space
from photodesk.engines.points import ROW, WORDS, Models, PointEngine, key
from photodesk.engines.schema import EVERYTHING, FACETS, NUMBERS, Filter
from photodesk.errors import StoreError, UsageError, require
from photodesk.files import replacing

OPTIONS = ("exact", "quantise", "replicas", "shards")

A = TypeVar("A")


class QdrantEngine(PointEngine):
    """See `base.Engine`; make one with `open`.

    Args:
        client: of a server, or qdrant-client's local mode, which is for tests.
        collection: its name.
        space: what it is made for.
        uri: as `open_engine` reads it.
        options: of `OPTIONS`.
    """

    def __init__(self, client: Any, collection: str, space: Space, uri: str, options: Mapping[str, str]) -> None:
        self._m = m = require("qdrant_client.models", "archive")
        models = Models(
            m, m.PointStruct, m.Range, m.DatetimeRange, lambda keys: m.HasIdCondition(has_id=keys), np.ndarray.tolist
        )
        super().__init__(uri, space, models)
        self.client, self.collection, self.options = client, collection, options
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
        engine._bring_up(about.payload_schema, engine._schemas())
        return engine

    def delete(self, photos: Sequence[str]) -> None:
        """See `base.Engine`."""
        if photos:
            chosen = self._m.PointIdsList(points=list(map(key, photos)))
            self._do(lambda: self.client.delete(self.collection, chosen, wait=True))

    def count(self, where: Filter = EVERYTHING) -> int:
        """See `base.Engine`."""
        return int(self._do(lambda: self.client.count(self.collection, self._filter(where), exact=True)).count)

    def optimise(self) -> None:
        """See `base.Engine`; a server does so by itself."""

    def snapshot(self, folder: Path) -> None:
        """See `base.Engine`; asks the server for a snapshot and fetches it."""
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
        """See `base.Engine`."""
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

    def _schemas(self) -> dict[str, Any]:
        """How each field that can be asked for is indexed."""
        m, keyword = self._m, self._m.KeywordIndexParams(type="keyword", on_disk=True)
        schemas: dict[str, Any] = dict.fromkeys((*FACETS, "folded"), keyword)
        schemas |= {name: m.IntegerIndexParams(type="integer", lookup=False, range=True) for name in NUMBERS}
        schemas["taken"] = m.DatetimeIndexParams(type="datetime", on_disk=True)
        words = m.TokenizerType.WORD
        schemas["text"] = m.TextIndexParams(
            type="text", tokenizer=words, lowercase=True, phrase_matching=True, on_disk=True
        )
        return schemas

    def _index(self, name: str, schema: Any) -> None:
        self._do(lambda: self.client.create_payload_index(self.collection, name, schema))

    def _set(self, payloads: Mapping[str, Mapping[str, Any]]) -> None:
        m = self._m
        steps = [
            m.SetPayloadOperation(set_payload=m.SetPayload(payload=dict(payload), points=[point]))
            for point, payload in payloads.items()
        ]
        self._do(lambda: self.client.batch_update_points(self.collection, steps, wait=True))

    def _upsert(self, points: list[Any]) -> None:
        self._do(lambda: self.client.upsert(self.collection, points, wait=True))

    def _update(self, vectors: list[Any]) -> None:
        self._do(lambda: self.client.update_vectors(self.collection, vectors, wait=True))

    def _retrieve(self, keys: list[str], vectors: list[str]) -> Any:
        return self._do(
            lambda: self.client.retrieve(self.collection, keys, with_payload=True, with_vectors=vectors or False)
        )

    def _scroll(self, offset: Any, limit: int, where: Any, vectors: list[str]) -> Any:
        ask = {"limit": limit, "scroll_filter": where, "with_payload": True, "with_vectors": vectors or False}
        return self._do(lambda: self.client.scroll(self.collection, offset=offset, **ask))

    def _query(self, query: Any, using: str, limit: int, where: Any) -> Any:
        m = self._m
        codes = m.QuantizationSearchParams(rescore=True, oversampling=4.0) if self.options.get("quantise") else None
        ask = {
            "using": using,
            "query_filter": where,
            "search_params": m.SearchParams(exact=self.options.get("exact") != "no", quantization=codes),
            "limit": limit,
            "with_payload": False,
        }
        return self._do(lambda: self.client.query_points(self.collection, query, **ask)).points

    def _facet(self, field: str, limit: int, where: Any) -> Any:
        ask = {"facet_filter": where, "limit": limit, "exact": True}
        return self._do(lambda: self.client.facet(self.collection, field, **ask)).hits

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
