"""What the pages want of a desk: to ask, to explain, to pick."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from photodesk.index.schema import EVERYTHING, Entry, Filter
from photodesk.records import Article, FloatArray

if TYPE_CHECKING:
    from PIL import Image

    from photodesk.archive import Archive
    from photodesk.encoders import Encoder


@dataclass(frozen=True, slots=True)
class Question:
    """An article, a photo or both, and which photos may be found.

    Args:
        article: None where only a photo is asked with.
        like: id of a photo of the archive; picture: one from outside.
        where: which photos may be found.
        used_days: what counts as recently used; 0 asks nothing. hide_used: leave such photos out, instead of pushing them down.
        diverse: prefer photos that differ from those above them.
        top: how many hits.
    """

    article: Article | None = None
    like: str = ""
    picture: Image.Image | None = None
    where: Filter = EVERYTHING
    used_days: int = 0
    hide_used: bool = False
    diverse: bool = False
    top: int = 60


@dataclass(frozen=True, slots=True)
class Found:
    """One photo of an answer: its score, the probability that it fits, near-duplicates folded into it, the day of its last use."""

    photo: str
    score: float
    probability: float
    entry: Entry
    duplicates: int = 0
    used: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """Photos, best first; counts of values among those that pass the filters; whether even the best does not fit."""

    hits: Sequence[Found]
    facets: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    nothing_fits: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Reason:
    """Why a photo: words in their order with the fall of the score without each; (rows, columns) fall without a cell; shares."""

    found: Found
    words: Sequence[tuple[str, float]]
    heat: FloatArray
    shares: Mapping[str, float]


class DeskLike(Protocol):
    """An archive that answers questions; methods may be called from several threads."""

    archive: Archive
    encoder: Encoder

    def ask(self, question: Question) -> Answer:
        """The best photos."""
        ...

    def why(self, question: Question, photo: str) -> Reason:
        """What made the score of a photo."""
        ...
