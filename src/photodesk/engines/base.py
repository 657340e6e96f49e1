"""The protocol of every photo store: rows, payloads and word weights of photos, and the questions that can be asked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from photodesk.engines.schema import EVERYTHING, Entry, Filter, Point
from photodesk.types import FloatArray, Hit


@dataclass(frozen=True, slots=True)
class Space:
    """What an engine is made for; an engine made for another is refused.

    Args:
        dim: numbers per row.
        language: whose endings and stop words the word search knows, as `bm25.LANGUAGES` has it.
    """

    dim: int
    language: str = "german"


class Engine(Protocol):
    """Rows, payloads and word weights of photos, and the questions that can be asked of them.

    Whatever a method has done is on disk, or with the server, when it returns: a kill afterwards loses none of it.
    Photo ids are 32 hexadecimal digits. Scores are higher-is-better, hits best first, equal scores by photo id. One
    thread at a time may write; any may read meanwhile.

    Attributes:
        uri: as `open_engine` reads it.
        space: what it was made for.
    """

    uri: str
    space: Space

    def upsert(self, points: Sequence[Point]) -> None:
        """Add photos, or replace those of the same id."""
        ...

    def delete(self, photos: Sequence[str]) -> None:
        """Forget photos; ids that are not there are passed over."""
        ...

    def describe(self, entries: Mapping[str, Entry]) -> None:
        """Replace what is known of photos that are there; their rows and offsets stay. Ids that are not there are
        passed over."""
        ...

    def revise(self, photos: Sequence[str], offsets: FloatArray) -> None:
        """Set the hubness offset that a revision subtracts from every score of each photo; ids that are not there are
        passed over."""
        ...

    def get(self, photos: Sequence[str], *, rows: bool = False) -> list[Point]:
        """Those of the photos that are there, in the order asked for; without rows they come without offsets as
        well."""
        ...

    def scan(self, *, rows: bool = True, batch: int = 1000, where: Filter = EVERYTHING) -> Iterator[list[Point]]:
        """All photos, ascending by id, in batches; changes made while it runs may or may not be seen."""
        ...

    def search(self, query: FloatArray, k: int, where: Filter = EVERYTHING, *, revised: float = 0.0) -> tuple[Hit, ...]:
        """The k photos with the highest `row · query − revised · offset`.

        Args:
            query: (d,) float32.
            k: how many at most.
            where: which photos may be found.
            revised: how much of the photo's offset is subtracted: 0 for plain cosine, 1 for the revision.
        """
        ...

    def lexical(self, query: str, k: int, where: Filter = EVERYTHING) -> tuple[Hit, ...]:
        """The k photos whose texts (`Entry.text`) fit the words of the query best by BM25; only photos that share a
        word with it."""
        ...

    def facets(self, field: str, k: int = 20, where: Filter = EVERYTHING) -> dict[str, int]:
        """How many photos have each value of one of `schema.FACETS`: the k most frequent, most first, equal counts by
        value."""
        ...

    def count(self, where: Filter = EVERYTHING) -> int:
        """How many photos there are."""
        ...

    def damage(self, *, repair: bool = False) -> Iterator[tuple[str, str, bool]]:
        """What is wrong with the engine's own files, as far as it can tell: (file or photo, what, whether it was put
        right). An engine that keeps no sums finds nothing.

        Args:
            repair: make again what follows from rows and entries.
        """
        return iter(())

    def optimise(self) -> None:
        """Do what makes later searches quick; worthwhile after many photos came."""
        ...

    def snapshot(self, folder: Path) -> None:
        """Write a copy to a new folder, which `open_engine` opens; for a server, a snapshot file that it can recover
        from."""
        ...

    def close(self) -> None:
        """Close files and connections; calling it twice does nothing."""
        ...
