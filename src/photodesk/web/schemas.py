"""What the desk is asked and answers over HTTP, as OpenAPI shows it."""

from __future__ import annotations

import datetime
import hashlib
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from photodesk.archive.database import Job
from photodesk.engines.schema import Filter, tokens
from photodesk.search.query import LONGEST, MOST
from photodesk.types import Article, Fault

PhotoId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
ArticleId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{16}$")]
Value = Annotated[str, StringConstraints(min_length=1, max_length=500)]
Values = Annotated[list[Value], Field(max_length=50)]
Format = Literal["landscape", "portrait", "square"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Query(_Strict):
    """An article, a photo or both, and which photos may be found."""

    draft: Annotated[
        str, Field(max_length=100_000, description="The first line is the headline, the rest lead and text.")
    ] = ""
    headline: Annotated[str, Field(max_length=10_000, description="With lead and text instead of a draft.")] = ""
    lead: Annotated[str, Field(max_length=100_000)] = ""
    text: Annotated[str, Field(max_length=500_000)] = ""
    language: Annotated[
        str, Field(max_length=20, description="Of the article, such as de; for a desk that translates.")
    ] = ""
    like: Annotated[PhotoId | Literal[""], Field(description="A photo of the archive to compare with.")] = ""
    upload: Annotated[
        PhotoId | Literal[""], Field(description="A photo that was sent to /api/uploads, to compare with.")
    ] = ""
    since: Annotated[datetime.date | None, Field(description="First day taken.")] = None
    until: Annotated[datetime.date | None, Field(description="Last day taken.")] = None
    phrase: Annotated[
        str,
        Field(
            max_length=200,
            description="Words that stand in the caption, the keywords or the like, one after the other.",
        ),
    ] = ""
    credit: Annotated[Values, Field(description="Any of these.")] = []
    terms: Annotated[Values, Field(description="Usage terms, any of these.")] = []
    keywords: Annotated[Values, Field(description="All of these.")] = []
    orientation: Annotated[list[Format], Field(max_length=3, description="Any of these.")] = []
    min_width: Annotated[int, Field(ge=0, le=100_000, description="In pixels.")] = 0
    min_height: Annotated[int, Field(ge=0, le=100_000, description="In pixels.")] = 0
    used_days: Annotated[
        int, Field(ge=0, le=LONGEST, description="What to take for recently used; 0 asks nothing.")
    ] = 0
    used: Annotated[Literal["down", "hide"], Field(description="What to do with photos that were used recently.")] = (
        "down"
    )
    words: Annotated[
        str, Field(max_length=1000, description="Lift photos whose captions have these; empty: those of the headline.")
    ] = ""
    fold: Annotated[bool, Field(description="Near-duplicates are one hit.")] = True
    diverse: Annotated[bool, Field(description="Prefer photos that differ from those above them.")] = False
    top: Annotated[int, Field(ge=1, le=MOST, description="How many photos at most.")] = 60

    def asks(self) -> bool:
        """Whether there is anything to search for."""
        return bool(self.draft.strip() or self._told() or self.like or self.upload)

    def _told(self) -> tuple[str, str, str] | None:
        parts = tuple(part.replace("\x00", " ") for part in (self.headline, self.lead, self.text))
        return (parts[0], parts[1], parts[2]) if any(part.strip() for part in parts) else None

    def article(self) -> Article | None:
        """The draft as an article, named by its content; None where there is no text."""
        if told := self._told():
            name = hashlib.sha256("\n".join(told).encode("utf-8", "replace")).hexdigest()[:16]
            return Article(name, *told, language=self.language)
        lines = [line.strip() for line in self.draft.replace("\x00", " ").splitlines()]
        full = [line for line in lines if line]
        if not full:
            return None
        name = hashlib.sha256("\n".join(full).encode("utf-8", "replace")).hexdigest()[:16]
        lead = full[1] if len(full) > 2 else ""
        return Article(name, full[0], lead, "\n".join(full[2 if lead else 1 :]), language=self.language)

    def filter(self) -> Filter:
        """Which photos may be found."""
        return Filter(
            since=self.since.isoformat() if self.since else "",
            until=self.until.isoformat() if self.until else "",
            credit=tuple(self.credit),
            terms=tuple(self.terms),
            keywords=tuple(self.keywords),
            orientation=tuple(self.orientation),
            min_width=self.min_width,
            min_height=self.min_height,
            phrase=self.phrase if tokens(self.phrase) else "",
        )

    def active(self) -> int:
        """How many filters are on."""
        one = (self.since, self.until, self.phrase, self.min_width, self.min_height, self.used_days, self.diverse)
        return sum(map(bool, one)) + len(self.credit) + len(self.terms) + len(self.keywords) + len(self.orientation)


class About(_Strict):
    """What the archive knows of a photo; empty where it knows nothing."""

    photo: PhotoId
    headline: str = ""
    caption: str = ""
    byline: str = ""
    credit: str = ""
    copyright: str = ""
    keywords: list[str] = []
    place: str = ""
    taken: Annotated[str, Field(description="ISO 8601, time of the place, as far as it is known.")] = ""
    terms: str = ""
    people: list[str] = []
    event: str = ""
    alt_text: str = ""
    shown: Annotated[str, Field(description="Places that are shown.")] = ""
    sublocation: str = ""
    rating: int = 0
    label: str = ""
    urgency: int = 0
    provider: str = ""
    instructions: str = ""
    width: int = 0
    height: int = 0
    source: Annotated[str, Field(description="Path below the folder that was added.")] = ""
    added: Annotated[str, Field(description="ISO 8601, UTC.")] = ""


class Similar(_Strict):
    """A near-duplicate of a photo, with what it says of itself."""

    photo: PhotoId
    file: Annotated[str, Field(description="Path on the machine of the desk; for the archive's owner only.")] = ""
    source: Annotated[str, Field(description="Path below the folder that was added.")] = ""
    credit: str = ""
    terms: str = ""
    width: int = 0
    height: int = 0


class _Grouped(_Strict):
    origins: Annotated[
        dict[str, list[PhotoId]],
        Field(description="Field, and the near-duplicates that its value, or a part of the terms, came from."),
    ]
    similar: Annotated[
        list[Similar], Field(description="Near-duplicates that this one stands for, the largest picture first.")
    ]


class Photo(_Grouped, About):
    """What the archive knows of a photo, with the usage terms of all its near-duplicates, the strictest first."""


class Hit(_Grouped):
    """One photo of an answer; usage terms are those of all its near-duplicates, the strictest first."""

    rank: Annotated[int, Field(description="From 1.")]
    score: Annotated[float, Field(description="Comparable within one answer only.")]
    probability: Annotated[float, Field(ge=0, le=1, description="That the photo fits.")]
    level: Annotated[
        int,
        Field(ge=0, le=4, description="The same in words: 4 fits well, 3 probably, 2 may fit, 1 doubtful, 0 hardly."),
    ]
    duplicates: Annotated[int, Field(ge=0, description="Near-duplicates that this one stands for.")]
    used: Annotated[str, Field(description="The day it was used last; empty if it was not, lately.")]
    components: Annotated[dict[str, float], Field(description="What makes the score.")]
    group: Annotated[str, Field(description="The first photo of its near-duplicates.")]
    file: Annotated[str, Field(description="Path on the machine of the desk; for the archive's owner only.")]
    about: About


class Answer(_Strict):
    """The photos for a query, best first."""

    hits: list[Hit]
    message: Annotated[str, Field(description="In a sentence, where there is something to say.")]
    near: Annotated[
        list[tuple[str, str, tuple[str, ...]]],
        Field(description="Filters that no photo passes, with values that are written much alike."),
    ]
    nothing_fits: Annotated[bool, Field(description="Even the best is not likely enough.")]
    calibrated: Annotated[
        bool, Field(description="Whether probabilities were fitted for this model and kind of query.")
    ]


class Facets(_Strict):
    """What there is to filter by."""

    facets: Annotated[
        dict[str, dict[str, int]], Field(description="Field, value, how many photos that pass the filters.")
    ]


class WhyQuery(_Strict):
    """Which photo of which answer is to be explained."""

    query: Query
    photo: PhotoId


class Word(_Strict):
    """A word of the article, and by how much the score falls without it, as a share of the largest fall."""

    text: str
    weight: float
    fall: Annotated[float, Field(description="That fall.")]


class Why(_Grouped):
    """What made a photo's score."""

    photo: PhotoId
    probability: Annotated[float, Field(ge=0, le=1)]
    level: Annotated[int, Field(ge=0, le=4)]
    words: list[Word]
    heat: Annotated[
        list[list[float]],
        Field(description="Rows of cells from the top: by how much the score falls if the cell is covered."),
    ]
    shares: Annotated[dict[str, float], Field(description="What each component contributes to the score.")]
    components: Annotated[dict[str, float], Field(description="The score itself, by component.")]
    about: About


class PickQuery(_Strict):
    """A photo that is taken for an article."""

    query: Query
    photo: PhotoId
    rank: Annotated[int, Field(ge=1, le=100_000, description="Where it stood in the answer.")]
    score: float = 0.0


class Picked(_Strict):
    """A pick as it was noted."""

    article: Annotated[ArticleId, Field(description="Name of the article: made from its text.")]
    photo: PhotoId
    rank: int
    at: Annotated[str, Field(description="ISO 8601, UTC.")]


class Use(_Strict):
    """A photo that was printed or put online."""

    photo: PhotoId
    day: Annotated[datetime.date | None, Field(description="Empty is today, UTC.")] = None
    article: Annotated[str, Field(max_length=1000, description="With which one: a title, an address, a number.")] = ""


class Withdrawn(_Strict):
    """A pick as it was taken back; it is no training pair any more."""

    article: ArticleId
    photo: PhotoId
    at: Annotated[str, Field(description="ISO 8601, UTC.")]


class Upload(_Strict):
    """A picture that was read, and is kept for a while, in memory only."""

    upload: PhotoId
    width: int
    height: int


class Archive(_Strict):
    """What is in the archive, and what is going on there."""

    engine: str
    encoder: str
    counts: dict[str, int]
    faults: Annotated[list[Fault], Field(description="The first 50.")]
    recent: Annotated[list[About], Field(description="What came last, latest first.")]
    jobs: list[Job]


class Chore(_Strict):
    """A command for the archive, as `photodesk archive` has them."""

    command: Annotated[str, Field(max_length=100)]
    options: dict[str, object] = {}


class Taken(_Strict):
    """The number to ask for."""

    chore: int


class Progress(_Strict):
    """How far a chore is."""

    state: Literal["waiting", "running", "done", "failed", "stopped"]
    stage: str
    done: int
    total: int
    message: str = ""
    faults: list[Fault] = []
    data: dict[str, object] = {}


class Problem(BaseModel):
    """Why not."""

    detail: str
