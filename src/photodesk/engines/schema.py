"""What an archive stores of a photo next to its row: one schema for every engine, and the filters that can be asked of
it."""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

from photodesk.engines.spellings import fold
from photodesk.errors import UsageError
from photodesk.types import FloatArray

Orientation = Literal["landscape", "portrait", "square"]
ORIENTATIONS: tuple[Orientation, ...] = ("landscape", "portrait", "square")

FACETS = ("credit", "terms", "keywords", "orientation", "byline", "place", "year", "people", "label", "provider")
"""Fields whose values can be counted."""

NUMBERS = ("width", "height", "rating", "urgency")
"""Fields that a filter sets a least or largest value for."""

ANY = ("credit", "terms", "label", "provider")
"""Fields of which a filter names several values, one of which must be there, in any spelling (`fold`)."""

LISTS = ("keywords", "people")
"""Fields of an entry that have several values; a filter wants all that it names, in any spelling (`fold`)."""

_TOKEN = re.compile(r"[^\W_]+")
_DAY = re.compile("([0-9]{4})(?:-([0-9]{2})(?:-([0-9]{2}))?)?|(?:(?:([0-9]{1,2})\\.)?([0-9]{1,2})\\.)?([0-9]{4})")
_NO_YEAR = re.compile("[0-9]{1,2}\\.[0-9]{1,2}\\.?|[0-9]{2}-[0-9]{2}")


def tokens(text: str) -> list[str]:
    """The words that a phrase is compared by: runs of letters and digits, in one spelling (`fold`)."""
    return _TOKEN.findall(fold(text))


@dataclass(frozen=True, slots=True)
class Entry:
    """What the archive knows of one photo; the payload of every engine.

    Args:
        source: path of its file, relative to the folder that was added, with `/`.
        added: when it came, ISO 8601 in UTC, to the second.
        width: of the upright picture, in pixels; height likewise.
        group: id of the first photo of its near-duplicates; its own where there is none.
        headline: of the picture, as agencies write it; caption, byline, credit, copyright, place, terms (of usage)
            likewise.
        keywords: in the order of the file, each once.
        taken: when, ISO 8601 wall-clock time of the place, as far as it is known: a year, month, day or second; empty
            if unknown.
        people: names of those who are shown, each once.
        event: that it was taken at; alt_text, sublocation (street or building), label (colour), provider, instructions
            likewise, as the file says.
        shown: places that are shown, where the file tells them from the place it was taken at.
        rating: 1 to 5, -1 if rejected, 0 if there is none; urgency: 1 (most) to 8, 0 if there is none.
        original: path of the camera RAW that lies next to its file, as `source`; empty if there is none.
    """

    source: str = ""
    added: str = ""
    width: int = 0
    height: int = 0
    group: str = ""
    headline: str = ""
    caption: str = ""
    byline: str = ""
    credit: str = ""
    copyright: str = ""
    keywords: tuple[str, ...] = ()
    place: str = ""
    taken: str = ""
    terms: str = ""
    people: tuple[str, ...] = ()
    event: str = ""
    alt_text: str = ""
    shown: str = ""
    sublocation: str = ""
    rating: int = 0
    label: str = ""
    urgency: int = 0
    provider: str = ""
    instructions: str = ""
    original: str = ""

    @property
    def moment(self) -> str:
        """The first second of `taken`, by which it is compared; empty if unknown."""
        return self.taken and self.taken + "0000-01-01T00:00:00"[len(self.taken) :]

    @property
    def orientation(self) -> Orientation:
        """Square where the sides differ by less than 5 %."""
        if abs(self.width - self.height) * 20 < max(self.width, self.height):
            return "square"
        return "landscape" if self.width > self.height else "portrait"

    @property
    def text(self) -> str:
        """What phrases and words are looked for in: headline, caption, keywords, place, byline, people, event,
        alternative text and places shown, a line each."""
        more = (self.place, self.byline, *self.people, self.event, self.alt_text, self.shown)
        return "\n".join(part for part in (self.headline, self.caption, *self.keywords, *more) if part)

    def values(self, facet: str) -> tuple[str, ...]:
        """Its values of one of `FACETS`; none where the field is empty.

        Raises:
            UsageError: no such facet.
        """
        if facet not in FACETS:
            raise UsageError(f"no facet {facet!r}; known: {', '.join(FACETS)}")
        if facet in LISTS:
            found: tuple[str, ...] = getattr(self, facet)
            return found
        value = self.taken[:4] if facet == "year" else getattr(self, facet)
        return (value,) if value else ()

    def payload(self) -> dict[str, Any]:
        """As an engine stores it: empty fields left out; `orientation`, `year` and `text` added, for they can be asked
        for."""
        found = {name: value for name, value in ((f.name, getattr(self, f.name)) for f in fields(self)) if value}
        found |= {name: list(found[name]) for name in LISTS if name in found}
        if self.taken:
            found |= {
                "taken": f"{self.moment}Z",
                "year": self.taken[:4],
            }  # engines compare times as if all were in one zone
            if self.taken != self.moment:
                found["date"] = self.taken
        if text := self.text:
            found["text"] = unicodedata.normalize("NFC", text)
        return found | {"orientation": self.orientation}

    def asked(self) -> dict[str, Any]:
        """What an engine adds to the payload, or has in its place, that cannot call `fold`: the words of `text` in one
        spelling, for phrases; `folded`, for values."""
        text = " ".join(tokens(self.text))
        return {"folded": list(self.folded())} | ({"text": text} if text else {})

    def folded(self) -> Iterator[str]:
        """What a filter of values compares, as "field=value" in one spelling."""
        for name in ANY:
            if value := getattr(self, name):
                yield folded(name, value)
        for name in LISTS:
            yield from (folded(name, value) for value in getattr(self, name))

    @classmethod
    def of(cls, payload: Mapping[str, Any] | None) -> Entry:
        """The entry that `payload` was made of."""
        found = {f.name: payload[f.name] for f in fields(cls) if f.name in payload} if payload else {}
        found |= {name: tuple(found[name]) for name in LISTS if name in found}
        if payload and "taken" in found:
            found["taken"] = payload.get("date") or found["taken"].removesuffix("Z")
        return cls(**found)


@dataclass(frozen=True, slots=True, eq=False)
class Point:
    """One photo in an engine.

    Args:
        photo: its id: 32 hexadecimal digits, the digest of the file's content (`files.digest`).
        row: (d,) float32 of unit length; empty where rows were not asked for.
        entry: what is known of it.
        offset: hubness offset, which a revision subtracts from every score of the photo, see `Engine.revise`; 0 where
            rows were not asked for.
    """

    photo: str
    row: FloatArray
    entry: Entry
    offset: float = 0.0


@dataclass(frozen=True, slots=True)
class Filter:
    """Which photos may be found; an empty field asks nothing. Conditions on several fields must all hold. Texts are
    compared in one spelling: see `spellings.fold`.

    Args:
        since: first day taken; a photo without a date is then never found, and one of which only the year or month is
            known counts as of its first day. A year or a month, such as 2020 or 2020-05, begins with its first day.
        until: last day taken, inclusive; a year or a month ends with its last day.
        credit: any of these; terms (of usage), label and provider likewise.
        keywords: all of these.
        people: all of these are shown.
        min_rating: 1 to 5.
        max_urgency: 1 to 8, of which 1 is the most urgent; a photo without urgency is then never found.
        orientation: any of these.
        min_width: in pixels; min_height likewise.
        phrase: these words in this order stand in `Entry.text`.
        without: photo ids that must not be found.
        among: photo ids besides which none may be found; None asks nothing.

    Raises:
        UsageError: a value that cannot be meant, such as a day without a year.
    """

    since: str = ""
    until: str = ""
    credit: tuple[str, ...] = ()
    terms: tuple[str, ...] = ()
    keywords: tuple[str, ...] = ()
    orientation: tuple[Orientation, ...] = ()
    min_width: int = 0
    min_height: int = 0
    phrase: str = ""
    without: tuple[str, ...] = ()
    people: tuple[str, ...] = ()
    label: tuple[str, ...] = ()
    min_rating: int = 0
    provider: tuple[str, ...] = ()
    max_urgency: int = 0
    among: frozenset[str] | None = None

    def __post_init__(self) -> None:
        for name, last in (("since", 0), ("until", -1)):
            if said := getattr(self, name):
                object.__setattr__(self, name, days(said)[last])
        if unknown := set(self.orientation) - set(ORIENTATIONS):
            raise UsageError(f"orientation {min(unknown)!r}; known: {', '.join(ORIENTATIONS)}")
        for name in (*ANY, *LISTS):
            if "" in getattr(self, name):
                raise UsageError(f"{name}: an empty value; leave the filter out to ask nothing")
        if self.phrase and not tokens(self.phrase):
            raise UsageError(f"the phrase {self.phrase!r} has no letter and no digit to look for")

    def __bool__(self) -> bool:
        return self != Filter()

    def any_of(self) -> list[list[str]]:
        """Lists of values as `Entry.folded` has them, of each of which one must be there."""
        lists = [[folded(name, value)] for name in LISTS for value in getattr(self, name)]
        return [[folded(name, value) for value in values] for name in ANY if (values := getattr(self, name))] + lists

    def admits(self, photo: str, entry: Entry) -> bool:
        """Whether a photo passes: the definition that every engine is held to."""
        day, wanted = entry.moment[:10], self.any_of()
        have = set(entry.folded()) if wanted else set()
        return (
            (not self.since or (bool(day) and day >= self.since))
            and (not self.until or (bool(day) and day <= self.until))
            and not any(have.isdisjoint(values) for values in wanted)
            and (not self.min_rating or entry.rating >= self.min_rating)
            and (not self.max_urgency or 1 <= entry.urgency <= self.max_urgency)
            and (not self.orientation or entry.orientation in self.orientation)
            and entry.width >= self.min_width
            and entry.height >= self.min_height
            and photo not in self.without
            and (self.among is None or photo in self.among)
            and (not self.phrase or holds(entry.text, self.phrase))
        )


EVERYTHING = Filter()


@functools.lru_cache(maxsize=2**16)
def folded(field: str, value: str) -> str:
    """A value of a field in one spelling, as `Entry.folded` has it."""
    return f"{field}={fold(value)}"


def days(text: str) -> tuple[str, str]:
    """First and last day, as YYYY-MM-DD, of a day, a month or a year: 2024-05-31, 2024-05, 2024; 31.5.2024, 5.2024.

    Raises:
        UsageError: it is none of the calendar, or has no year.
    """
    import calendar

    found = _DAY.fullmatch(text.strip())
    if found:
        iso, written = found.groups()[:3], found.groups()[:2:-1]  # both as year, month, day
        year, month, day = (int(one or other or 0) for one, other in zip(iso, written, strict=True))
        first = f"{year:04}-{month or 1:02}-{day or 1:02}"
        last_month = month or 12
        if year and last_month <= 12:
            last = f"{year:04}-{last_month:02}-{day or calendar.monthrange(year, last_month)[1]:02}"
            if is_day(first) and is_day(last):
                return first, last
    missing = "it has no year; " if _NO_YEAR.fullmatch(text.strip()) else ""
    raise UsageError(f"{text!r} is no day: {missing}expected one such as 2024-05-31 or 31.5.2024, or 2024-05, or 2024")


def is_day(text: str) -> bool:
    """Whether it is a day as YYYY-MM-DD."""
    import datetime

    try:
        return bool(re.fullmatch("[0-9]{4}-[0-9]{2}-[0-9]{2}", text)) and bool(datetime.date.fromisoformat(text))
    except ValueError:
        return False


def holds(text: str, phrase: str) -> bool:
    """Whether the words of `phrase` stand in `text` one after the other."""
    have, wanted = tokens(text), tokens(phrase)
    return any(have[i : i + len(wanted)] == wanted for i in range(len(have) - len(wanted) + 1))


def following(day: str) -> str:
    """The day after `day`; empty after the last one of the calendar."""
    import datetime

    last = datetime.date.fromisoformat(day)
    return "" if last == datetime.date.max else (last + datetime.timedelta(days=1)).isoformat()


def counted(entries: Sequence[Entry], facet: str) -> dict[str, int]:
    """How many entries have each value of a facet, most first, equal counts by value."""
    found: dict[str, int] = {}
    for entry in entries:
        for value in set(entry.values(facet)):
            found[value] = found.get(value, 0) + 1
    return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))
