"""`edge:PATH`: Qdrant Edge, the Qdrant engine inside this process; exact search, filters, word search and facets on one
machine.

Rows (see `points`), word weights and payloads are files that the system maps into memory.

New points are searched as they are. `optimise` moves them into segments with 8-bit codes next to the rows: the codes of
all photos are scanned, and the best `OVER` · k are scored by their rows. No graph is built. Segments are small, so that
making one takes little memory. One process at a time may have a shard open; `archive` sees to that.
"""

from __future__ import annotations

import json
import os
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from photodesk.engines.base import Space
from photodesk.engines.points import BATCH, ROW, WORDS, Models, PointEngine, key
from photodesk.engines.schema import EVERYTHING, FACETS, NUMBERS, Filter, Point
from photodesk.engines.sums import Sums, copy
from photodesk.errors import EngineDamaged, StoreError, require
from photodesk.files import as_store_error
from photodesk.types import FloatArray

OVER = 2.0
"""So many times k photos of every segment are scored by their rows. Between the k-th score and the 2·k-th lies ten
times what codes are off by."""
SEGMENT = 100_000
"""Kilobytes of rows in a segment at most."""
CODED = 20_000
"""Kilobytes of new rows from which on `optimise` codes them."""
MANY = 10**9
QUARTER = 0.25
"""Scale of the offset within a row: it is then of the size of the other numbers, which 8-bit codes want."""

A = TypeVar("A")


class EdgeEngine(PointEngine):
    """See `base.Engine`; make one with `open`."""

    def __init__(self, path: Path, space: Space, uri: str, shard: Any, api: Any, sums: Sums) -> None:
        models = Models(api, api.Point, api.RangeFloat, api.RangeDateTime, lambda keys: api.HasIdCondition(set(keys)))
        super().__init__(uri, space, models, scale=QUARTER)
        self.path, self._shard, self._api, self._sums = path, shard, api, sums
        self._scratch: tempfile.TemporaryDirectory[str] | None = None  # with a copy of a shard that cannot be written
        self._fresh = 0  # points since the last `optimise`
        self._guard = threading.RLock()  # no loss: Edge keeps other Python threads waiting anyway

    @classmethod
    def open(cls, path: Path, space: Space, *, uri: str = "", create: bool = False) -> EdgeEngine:
        """Open or make the shard in a folder; see `open_engine`."""
        api = require("qdrant_edge", "archive")
        if create and path.exists() and any(path.iterdir()):
            raise StoreError(f"{path} is not empty; name a new folder for the shard")
        own, scratch = path, None
        sums = Sums(path, _bulk)
        try:
            if create:
                path.mkdir(parents=True, exist_ok=True)
                shard = api.EdgeShard.create(str(path), _config(api, space))
            else:
                for name, what in sums.wrong():  # Edge maps whatever lengths a damaged file names
                    raise EngineDamaged(path, f"{path / name} {what}")
                size = json.loads((path / "edge_config.json").read_text("utf-8"))["vectors"][ROW]["size"] - 1
                if size != space.dim:
                    raise StoreError(f"{path} holds rows of {size} numbers and the archive's encoder makes {space.dim}")
                if not os.access(path, os.W_OK):  # Edge maps files for writing, whatever is asked of them
                    scratch = tempfile.TemporaryDirectory(prefix="photodesk-")
                    path = Path(scratch.name) / "shard"
                    copy(own, path)
                    sums = Sums(path, _bulk)
                if next(path.rglob("*_journal.dat"), None):  # Edge replays journals and deletes them when it loads
                    sums.changing()
                shard = api.EdgeShard.load(str(path))
        except StoreError:
            raise
        except FileNotFoundError:
            raise EngineDamaged(path, f"{path} holds no shard") from None
        except (ValueError, KeyError, TypeError) as error:
            raise EngineDamaged(path, f"cannot use the shard {path}: {error}") from None
        except OSError as error:
            raise StoreError(f"cannot use the shard {path}: {error}; see docs/archive.md") from None
        except Exception as error:  # Edge knows no kinds
            raise _trouble(path, error) from None
        engine = cls(path, space, uri or f"edge:{own}", shard, api, sums)
        engine._scratch = scratch
        if engine._bring_up(engine._do(shard.info).payload_schema, _indexes(api)):
            engine._do(shard.flush)
        return engine

    def upsert(self, points: Sequence[Point]) -> None:
        """See `base.Engine`."""
        super().upsert(points)
        self._written(len(points))

    def revise(self, photos: Sequence[str], offsets: FloatArray) -> None:
        """See `base.Engine`."""
        super().revise(photos, offsets)
        self._written(len(photos))

    def delete(self, photos: Sequence[str]) -> None:
        """See `base.Engine`."""
        self._change(self._api.UpdateOperation.delete_points(list(map(key, photos))))
        self._do(lambda: self._shard.flush())

    def count(self, where: Filter = EVERYTHING) -> int:
        """See `base.Engine`."""
        return int(self._do(lambda: self._shard.count(self._api.CountRequest(True, self._filter(where)))))

    def damage(self, *, repair: bool = False) -> Iterator[tuple[str, str, bool]]:
        """See `base.Engine`."""
        with self._guard:
            found = [(str(self.path / name), what, repair) for name, what in self._sums.wrong(whole=True)]
            if (
                found and repair
            ):  # codes and indexes follow from the points; whether these are right is for others to say
                for points in self.scan(batch=BATCH):
                    self.upsert(points)
                self.optimise()
            return iter(found)

    def optimise(self) -> None:
        """See `base.Engine`."""
        self._sums.changing()
        self._do(lambda: self._shard.optimize())
        self._do(lambda: self._shard.flush())
        self._fresh = 0

    def snapshot(self, folder: Path) -> None:
        """See `base.Engine`; the shard's files as they are after a flush, while nobody else may write them."""
        self._do(lambda: self._shard.flush())
        with as_store_error(f"cannot copy the shard to {folder}", "make room or name another place"):
            copy(self.path, folder)
        Sums(folder, _bulk).write()

    def close(self) -> None:
        """See `base.Engine`."""
        if self._shard is not None:
            self._do(lambda: self._shard.close())
            self._shard = None
            self._sums.write()
            if self._scratch:
                self._scratch.cleanup()

    def _upsert(self, points: list[Any]) -> None:
        self._change(self._api.UpdateOperation.upsert_points(points))

    def _update(self, vectors: list[Any]) -> None:
        self._change(self._api.UpdateOperation.update_vectors(vectors))

    def _set(self, payloads: Mapping[str, Mapping[str, Any]]) -> None:
        for point, payload in payloads.items():
            self._change(self._api.UpdateOperation.set_payload([point], payload))

    def _index(self, name: str, schema: Any) -> None:
        self._change(self._api.UpdateOperation.create_field_index(name, schema))

    def _written(self, points: int) -> None:
        """Code rows before so many are new that coding them all at once would take much memory; then release all that
        was mapped."""
        self._do(lambda: self._shard.flush())
        self._fresh += points
        if self._fresh * (self.space.dim + 1) * 4 > SEGMENT * 1000:
            with self._guard:
                self.optimise()
                self._do(lambda: self._shard.close())
                self._shard = self._do(lambda: self._api.EdgeShard.load(str(self.path)))

    def _retrieve(self, keys: list[str], vectors: list[str]) -> Any:
        return self._do(lambda: self._shard.retrieve(keys, True, vectors or False))

    def _scroll(self, offset: Any, limit: int, where: Any, vectors: list[str]) -> Any:
        request = self._api.ScrollRequest(offset, limit, where, True, vectors or False)
        return self._do(lambda: self._shard.scroll(request))

    def _query(self, query: Any, using: str, limit: int, where: Any) -> Any:
        api = self._api
        codes = api.QuantizationSearchParams(rescore=True, oversampling=OVER)
        params = api.SearchParams(quantization=codes) if using == ROW else api.SearchParams(exact=True)
        request = api.SearchRequest(api.Query.Nearest(query, using), limit, 0, where, params)
        return self._do(lambda: self._shard.search(request))

    def _facet(self, field: str, limit: int, where: Any) -> Any:
        # "exact" would count every value by a query of its own, ten times as long; without it segments are counted and
        # added up, which is as right here: a photo is in one segment only
        request = self._api.FacetRequest(field, limit, False, where)
        return self._do(lambda: self._shard.facet(request)).hits

    def _change(self, operation: Any) -> None:
        self._sums.changing()
        self._do(lambda: self._shard.update(operation))

    def _do(self, action: Callable[[], A]) -> A:
        with self._guard:
            if self._shard is None:
                raise StoreError(f"{self.uri} is closed")
            try:
                return action()
            except Exception as error:  # Edge knows no kinds
                raise _trouble(self.path, error) from None


def _bulk(name: str) -> bool:
    """Whether a file holds rows or their codes, whose length is all that Edge goes by."""
    folder, _, file = name.rpartition("/")
    return f"vector_storage-{ROW}" in folder and (file.startswith("chunk_") or file in ("matrix.dat", "quantized.data"))


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
        **{name: api.KeywordIndexParams(memory=cold) for name in (*FACETS, "folded")},
        **{name: api.IntegerIndexParams(lookup=False, range=True, memory=cold) for name in NUMBERS},
        "taken": api.DatetimeIndexParams(memory=cold),
        "text": api.TextIndexParams(
            tokenizer=api.TokenizerType.Word, lowercase=True, phrase_matching=True, memory=cold
        ),
    }


def _trouble(path: Path, error: Exception) -> StoreError:
    # Edge raises one class without a number: there is nothing but its English to go by
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
