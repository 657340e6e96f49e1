"""What the pages want of a desk: to ask, to explain and to count."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from photodesk.archive.archive import Archive
from photodesk.encoders.registry import Encoder
from photodesk.engines.schema import Filter
from photodesk.search import explain
from photodesk.search.desk import Answer
from photodesk.search.query import Question


class DeskLike(Protocol):
    """An archive that answers questions; methods may be called from several threads."""

    archive: Archive
    encoder: Encoder

    def ask(self, question: Question, /) -> Answer:
        """The best photos."""
        ...

    def facets(self, where: Filter, fields: Sequence[str], /) -> Mapping[str, Mapping[str, int]]:
        """Field → value → photos that pass a filter; may take a while."""
        ...

    def counted(self, where: Filter, fields: Sequence[str], /) -> Mapping[str, Mapping[str, int]] | None:
        """The same, at once; None where it is yet to be counted."""
        ...

    def refresh(self) -> None:
        """The archive changed; whatever is remembered of it as a whole is to be looked at again."""
        ...

    def why(self, question: Question, photo: str, /) -> explain.Reason:
        """What made the score of a photo."""
        ...
