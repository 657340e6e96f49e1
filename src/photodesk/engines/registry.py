"""A photo store by its URI.

edge:PATH      Qdrant Edge, the Qdrant engine inside this process; the default of an archive
qdrant:URL     a Qdrant server or cluster: `qdrant:http://host:6333/collection`
flat:PATH      our exact memory-mapped scan (`exact.py`); the oracle that the others are tested against

`search/flat_index.py` is something else: the frozen index that `photodesk index` writes and `Searcher` reads.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from photodesk.engines.base import Engine, Space
from photodesk.errors import UsageError


def _edge(uri: str, path: Path, space: Space, create: bool) -> Engine:
    from photodesk.engines.edge import EdgeEngine

    return EdgeEngine.open(path, space, uri=uri, create=create)


def _flat(uri: str, path: Path, space: Space, create: bool) -> Engine:
    from photodesk.engines.exact import ScanEngine

    return ScanEngine.open(path, space, uri=uri, create=create)


def _qdrant(uri: str, path: Path, space: Space, create: bool) -> Engine:
    from photodesk.engines.qdrant import QdrantEngine

    return QdrantEngine.open(uri, space, create=create)


ENGINES: dict[str, Callable[[str, Path, Space, bool], Engine]] = {"edge": _edge, "flat": _flat, "qdrant": _qdrant}
"""What opens or makes an engine, by the kind that its URI begins with: called with the URI, its place as a path, what
the engine is made for, and whether to make it."""


def open_engine(uri: str, space: Space, *, base: Path | None = None, create: bool = False) -> Engine:
    """The engine that a URI names.

    Args:
        uri: see the head of this file.
        space: what it is, or is to be, made for.
        base: folder that relative paths start from; None is the current one.
        create: make it; else it must be there.

    Raises:
        UsageError: no such kind of engine.
        StoreError: it is not there, already there, in use by another process, damaged, or made for another space.
        MissingExtra: its library is not installed.
    """
    kind, _, place = uri.partition(":")
    if kind not in ENGINES or not place:
        raise UsageError(
            f"no engine {uri!r}; expected edge:PATH or qdrant:http://localhost:6333/photos, of the kinds "
            f"{', '.join(ENGINES)}"
        )
    return ENGINES[kind](uri, (base or Path()) / place, space, create)
