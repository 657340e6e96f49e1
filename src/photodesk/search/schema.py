"""A question and its answer as JSON: what `search --json` prints and `/api/search` takes and gives; each field is named
here once.

Plain dataclasses, for the base install has no pydantic. The metadata of a field are the arguments of `pydantic.Field`,
so FastAPI checks and describes these very classes.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from typing import TYPE_CHECKING, Any, Literal, cast, get_args, get_origin, get_type_hints

from photodesk.archive import embargo
from photodesk.archive.rights import Similar
from photodesk.engines.schema import Entry, Filter, Orientation
from photodesk.errors import UsageError
from photodesk.search import confidence, explain, query
from photodesk.search.explain import Reason
from photodesk.types import Article

if TYPE_CHECKING:
    from PIL import Image

PHOTO = "[0-9a-f]{32}"
"""A photo's id."""
_STEPS = ", ".join(f"{level} {words}" for level, words in enumerate(confidence.WORDS))
DIGITS = 6
"""Of every score, probability and share after the point."""


FILTERS = (
    "since",
    "until",
    "phrase",
    "file",
    "min_width",
    "min_height",
    "min_rating",
    "max_urgency",
    "used_days",
    "diverse",
    "orientation",
    "credit",
    "keywords",
    "people",
    "terms",
    "label",
    "provider",
)
"""Fields of a query that narrow down what may be found or reorder it, apart from what is asked."""


def is_photo(text: str) -> bool:
    """Whether it is a photo's id."""
    return re.fullmatch(PHOTO, text) is not None


_DAY = "^([0-9][0-9. -]{3,19})?$"
_ID = f"^({PHOTO})?$"


_READ = f"Of headline, lead and text together the first {query.READ:,} characters are read."
# a minus before a letter or a quote, behind another word: no dash, no list, no "-5 Grad", no compound
_UNWANTED = re.compile(r"(?<=\S)(?<!\bund)(?<!\boder)\s+-(?:([^\W\d_][\w-]*)|\"([^\"]+)\")(?=\s|$|[,.;:!?])")


def _is(description: str, **limits: Any) -> dict[str, Any]:
    return {"description": description, **limits}


@dataclass(frozen=True, slots=True)
class Query:
    """An article, a photo or both, and which photos may be found."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012  what pydantic looks for, no field

    draft: str = field(
        default="",
        metadata=_is(f"The first line is the headline, the rest lead and text. {_READ}", max_length=100_000),
    )
    headline: str = field(
        default="", metadata=_is(f"With lead and text instead of a draft. {_READ}", max_length=10_000)
    )
    lead: str = field(default="", metadata=_is("Of the article.", max_length=100_000))
    text: str = field(default="", metadata=_is("Of the article.", max_length=500_000))
    language: str = field(
        default="", metadata=_is("Of the article, such as de; for a desk that translates.", max_length=20)
    )
    like: str = field(default="", metadata=_is("A photo of the archive to compare with.", pattern=_ID))
    upload: str = field(
        default="", metadata=_is("A photo that was sent to /api/uploads, to compare with.", pattern=_ID)
    )
    since: str = field(
        default="", metadata=_is("First day taken: 2024-05-31, 31.5.2024, or a month or year.", pattern=_DAY)
    )
    until: str = field(default="", metadata=_is("Last day taken, likewise; a month or year ends then.", pattern=_DAY))
    phrase: str = field(
        default="",
        metadata=_is("Words that stand in the caption, the keywords or the like, one after the other.", max_length=200),
    )
    file: str = field(
        default="",
        metadata=_is("Part of the name or the folders of their files; * and ? are any letters.", max_length=200),
    )
    credit: tuple[str, ...] = field(default=(), metadata=_is("Any of these, in any spelling.", max_length=50))
    terms: tuple[str, ...] = field(default=(), metadata=_is("Usage terms, any of these.", max_length=50))
    provider: tuple[str, ...] = field(default=(), metadata=_is("Any of these.", max_length=50))
    label: tuple[str, ...] = field(default=(), metadata=_is("Colour, any of these.", max_length=50))
    keywords: tuple[str, ...] = field(default=(), metadata=_is("All of these.", max_length=50))
    people: tuple[str, ...] = field(default=(), metadata=_is("Names, all of whom are shown.", max_length=50))
    min_rating: int = field(default=0, metadata=_is("Stars; 0 asks nothing.", strict=True, ge=0, le=5))
    max_urgency: int = field(
        default=0, metadata=_is("At least that urgent, 1 is the most; 0 asks nothing.", strict=True, ge=0, le=8)
    )
    orientation: tuple[Orientation, ...] = field(default=(), metadata=_is("Any of these.", max_length=3))
    min_width: int = field(default=0, metadata=_is("In pixels.", strict=True, ge=0, le=100_000))
    min_height: int = field(default=0, metadata=_is("In pixels.", strict=True, ge=0, le=100_000))
    used_days: int = field(
        default=0, metadata=_is("What to take for recently used; 0 asks nothing.", strict=True, ge=0, le=query.LONGEST)
    )
    used: Literal["down", "hide"] = field(
        default="down", metadata=_is("What to do with photos that were used recently.")
    )
    words: str = field(
        default="",
        metadata=_is("Lift photos whose captions have these; empty: those of the headline.", max_length=1000),
    )
    without: tuple[str, ...] = field(
        default=(),
        metadata=_is(
            "What is not to be seen: photos that show it sink, those whose texts have it are left out. In the first "
            "line of a draft also as -WORD.",
            max_length=20,
        ),
    )
    fold: bool = field(default=True, metadata=_is("Near-duplicates are one hit.", strict=True))
    diverse: bool = field(default=False, metadata=_is("Prefer photos that differ from those above them.", strict=True))
    top: int = field(default=60, metadata=_is("How many photos at most.", strict=True, ge=1, le=query.MOST))

    def unwanted(self) -> tuple[str, ...]:
        """What is not to be seen: `without`, and what stands behind a minus in the first line of the draft."""
        said = self.draft.strip().partition("\n")[0] if not (self.headline or self.lead or self.text) else ""
        return tuple(dict.fromkeys((*self.without, *("".join(found) for found in _UNWANTED.findall(said)))))

    def asks(self) -> bool:
        """Whether there is anything to search for."""
        return bool(self.article() or self.like or self.upload)

    def article(self) -> Article | None:
        """The article, named by its content; None where there is no text."""
        said = parts = [part.replace("\x00", " ") for part in (self.headline, self.lead, self.text)]
        if not "".join(parts).strip():
            said = [line for line in map(str.strip, self.draft.replace("\x00", " ").splitlines()) if line]
            said[:1] = [" ".join(_UNWANTED.sub(" ", line).split()) for line in said[:1]]
            if not said or not said[0]:
                return None
            lead = said[1] if len(said) > 2 else ""
            parts = [said[0], lead, "\n".join(said[2 if lead else 1 :])]
        name = hashlib.sha256("\n".join(said).encode("utf-8", "replace")).hexdigest()[:16]
        return Article(name, parts[0], parts[1], parts[2], language=self.language)

    def filter(self) -> Filter:
        """Which photos may be found.

        Raises:
            UsageError: no day, month or year of the calendar, or a phrase without a word.
        """
        named = {one.name for one in fields(Filter)} & {one.name for one in fields(self)} - {"without"}
        return Filter(**{name: getattr(self, name) for name in named})

    def active(self) -> int:
        """How many filters are on."""
        found = [getattr(self, name) for name in FILTERS]
        return sum(len(value) if isinstance(value, tuple) else bool(value) for value in found)

    def question(self, picture: Image.Image | None = None) -> query.Question:
        """What a desk is asked; `picture` is the upload, decoded.

        Raises:
            UsageError: it asks nothing, or what `filter` refuses.
        """
        article = self.article()
        if article is None and not self.like and picture is None:
            raise UsageError("there is nothing to search for: give a text or a photo")
        return query.Question(
            article,
            self.like,
            picture,
            self.filter(),
            self.words,
            self.used_days,
            self.used == "hide",
            self.diverse,
            self.fold,
            self.top,
            self.file,
            self.unwanted(),
        )


@dataclass(frozen=True)
class Ranked:
    """Where a photo stands in an answer."""

    rank: int = field(metadata=_is("From 1."))
    score: float = field(metadata=_is("Comparable within one answer only."))


@dataclass(frozen=True)
class Likely:
    """How well a photo fits."""

    probability: float = field(metadata=_is("That the photo fits.", ge=0, le=1))
    level: int = field(metadata=_is(f"The same in words: {_STEPS}.", ge=0, le=4))
    components: dict[str, float] = field(metadata=_is("What makes the score."))


@dataclass(frozen=True)
class Located:
    """A photo and its file."""

    photo: str = field(metadata=_is("Its id: in an archive 32 hexadecimal digits."))
    file: str = field(
        metadata=_is("Absolute path where the archive is, empty if unknown; over HTTP for the archive's owner only.")
    )


@dataclass(frozen=True)
class Known(Located):
    """A photo, with what the archive knows of it."""

    about: Entry = field(metadata=_is("Caption, credit, date and the like; empty where nothing is known."))
    embargo: str = field(
        metadata=_is(
            "Until when its usage terms, of a hit also those of its near-duplicates, forbid it: ISO 8601 in the desk's "
            "time zone, or unknown; empty if they name no embargo."
        )
    )
    embargoed: bool = field(metadata=_is("Whether that still holds."))


@dataclass(frozen=True)
class Photo(Known):
    """A photo, with the usage terms of all its near-duplicates, the strictest first."""

    origins: dict[str, list[str]] = field(
        metadata=_is("Field, and the near-duplicates that its value, or a part of the terms, came from.")
    )
    similar: list[Known] = field(metadata=_is("Near-duplicates that this one stands for, the largest picture first."))


@dataclass(frozen=True)
class Hit(Photo, Likely, Ranked):
    """One photo of an answer; usage terms are those of all its near-duplicates, the strictest first."""

    duplicates: int = field(metadata=_is("How many near-duplicates this one stands for.", ge=0))
    used: str = field(metadata=_is("The day it was used last; empty if it was not, lately."))


@dataclass(frozen=True)
class IndexHit(Located, Ranked):
    """One photo of an answer of a frozen index, which knows nothing else of it."""


@dataclass(frozen=True)
class Word:
    """A word of the article, and by how much the score falls without it."""

    text: str
    fall: float = field(metadata=_is("In standard deviations of what photos score in general."))
    weight: float = field(metadata=_is("As a share of the largest fall."))


@dataclass(frozen=True)
class Why(Photo, Likely):
    """What made a photo's score."""

    shares: dict[str, float] = field(metadata=_is("What each component contributes to the score."))
    words: list[Word]
    whole: bool = field(
        metadata=_is(
            f"Whether all of the article was looked into; of more than {explain.EXPLAINED:,} characters only the "
            "passages that count most."
        )
    )
    heat: list[list[float]] = field(
        metadata=_is("Rows of cells from the top: by how much the score falls if the cell is covered.")
    )


@dataclass(frozen=True)
class Answer:
    """The photos for a query, best first."""

    hits: list[Hit]
    message: str = field(metadata=_is("In a sentence, where there is something to say."))
    near: list[tuple[str, str, dict[str, int]]] = field(
        metadata=_is("Of filters: field, value, other values that are near to it, and how many photos have each.")
    )
    nothing_fits: bool = field(metadata=_is("Even the best is not likely enough."))
    calibrated: bool = field(metadata=_is("Whether probabilities were fitted for this model and kind of query."))


Files = Callable[[str], str]
"""The file of a photo, by its id; empty where none is known or told."""


def untold(photo: str) -> str:
    """No file, whatever the photo."""
    return ""


def answer(found: query.Answer, file: Files = untold) -> Answer:
    """What a desk answered."""
    hits = [
        Hit(
            **_likely(hit, file),
            rank=rank,
            score=_short(hit.score),
            duplicates=len(hit.similar),
            used=hit.used,
        )
        for rank, hit in enumerate(found.hits, 1)
    ]
    near = [(name, value, dict(alike)) for name, value, alike in found.near]
    return Answer(hits, found.message, near, found.nothing_fits, found.calibrated)


def why(reason: Reason, file: Files = untold) -> Why:
    """What made a photo's score."""
    hit, most = reason.found, max((abs(fall) for _, fall in reason.words), default=0.0) or 1.0
    return Why(
        **_likely(hit, file),
        shares={name: _short(share) for name, share in reason.shares.items()},
        words=[Word(text, _short(fall), _short(fall / most)) for text, fall in reason.words],
        whole=reason.whole,
        heat=[[_short(value) for value in row] for row in reason.heat.tolist()],
    )


def known(name: str, entry: Entry, until: str, file: Files = untold) -> Known:
    """What an archive knows of the photo `name`, whose embargo ends at a moment, as `archive.embargo` says it."""
    return Known(name, file(name), entry, until, embargo.holds(until))


def photo(
    name: str,
    entry: Entry,
    until: str,
    origins: Mapping[str, Sequence[str]],
    similar: Sequence[Similar],
    file: Files = untold,
) -> Photo:
    """What an archive knows of the photo `name` and of its near-duplicates."""
    listed = [known(one.photo, one.entry, one.embargo, file) for one in similar]
    came = {field: list(photos) for field, photos in origins.items()}
    return Photo(**vars(known(name, entry, until, file)), origins=came, similar=listed)


def read(kind: Any, data: Any) -> Any:
    """A value of a type of this module from what `dataclasses.asdict` made of it, by way of JSON.

    Raises:
        TypeError, KeyError, AttributeError: it is no such value.
    """
    if is_dataclass(kind):
        types, make = get_type_hints(kind), cast("type[Any]", kind)
        return make(**{name: read(types[name], value) for name, value in data.items()})
    if get_origin(kind) is list:
        (inner,) = get_args(kind)
        return [read(inner, one) for one in data]
    return tuple(data) if get_origin(kind) is tuple else data


def _likely(hit: query.Found, file: Files) -> dict[str, Any]:
    """The fields of `Photo` and `Likely`."""
    told = photo(hit.photo, hit.entry, hit.embargo, hit.origins, hit.similar, file)
    return vars(told) | {
        "probability": _short(hit.probability),
        "level": confidence.level(hit.probability),
        "components": {name: _short(value) for name, value in hit.components.items()},
    }


def _short(value: float) -> float:
    return round(float(value), DIGITS)
