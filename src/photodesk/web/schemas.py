"""What the API takes and gives beside questions and answers (`search.schema`), as OpenAPI shows it."""

from __future__ import annotations

import datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from photodesk.archive.database import Job, State
from photodesk.search.schema import PHOTO, Known, Query
from photodesk.types import Fault

PhotoId = Annotated[str, StringConstraints(pattern=f"^{PHOTO}$")]
ArticleId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{16}$")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Facets(_Strict):
    """What there is to filter by."""

    facets: Annotated[
        dict[str, dict[str, int]], Field(description="Field, value, how many photos that pass the filters.")
    ]


class WhyQuery(_Strict):
    """Which photo of which answer is to be explained."""

    query: Query
    photo: PhotoId


class PickQuery(_Strict):
    """A photo that is taken for an article."""

    query: Query
    photo: PhotoId
    rank: Annotated[int, Field(strict=True, ge=1, le=100_000, description="Where it stood in the answer.")]
    score: Annotated[float, Field(strict=True, allow_inf_nan=False)] = 0.0


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
    left_out: Annotated[dict[str, int], Field(description="What else the folders hold, by suffix or pattern.")]
    recent: Annotated[list[Known], Field(description="What came last, latest first.")]
    jobs: list[Job]


class Command(_Strict):
    """A command for the archive, as `photodesk archive` has them."""

    command: Annotated[str, Field(max_length=100)]
    options: dict[str, object] = {}


class Progress(_Strict):
    """How far a command is, and how it ended; the server remembers faults and data of the latest jobs."""

    job: Annotated[int | None, Field(description="Number to ask for; null for what is answered at once.")]
    state: State
    stage: str
    done: int
    total: int
    message: str = ""
    mistake: Annotated[bool, Field(description="It failed by a mistake of photodesk's own; see the log.")] = False
    faults: list[Fault] = []
    data: dict[str, object] = {}


class Problem(BaseModel):
    """Why not."""

    detail: str
