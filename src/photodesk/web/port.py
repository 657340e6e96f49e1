"""What the pages want of a desk: to ask and to explain."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from photodesk import explain
from photodesk.archive import Archive
from photodesk.asking import Question
from photodesk.desk import Answer, Desk
from photodesk.encoders import Encoder


class DeskLike(Protocol):
    """An archive that answers questions; methods may be called from several threads."""

    archive: Archive
    encoder: Encoder

    def ask(self, question: Question, /, *, facets: Sequence[str]) -> Answer:
        """The best photos, and the counts of values of some fields."""
        ...

    def why(self, question: Question, photo: str, /) -> explain.Reason:
        """What made the score of a photo."""
        ...


class ExplainedDesk(Desk):
    """A desk that says why."""

    def why(self, question: Question, photo: str) -> explain.Reason:
        """What made the score of a photo; see `explain.why`."""
        return explain.why(self, question, photo)
