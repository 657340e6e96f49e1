"""Until when usage terms forbid a photo: "Sperrfrist: 31. Mai 2024, 18 Uhr" → 2024-05-31T18:00:00+02:00.

What names an embargo and says no moment that can be read is `UNKNOWN`, and holds. Of two ways to read a date the later
one is taken: one without a time ends an embargo at its first second, but after "bis" next to other words, such as
"Redebeginn", only with the whole day; 03/04/2024 is the third of April.
"""

from __future__ import annotations

import datetime
import functools
import re
from collections.abc import Iterable
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from photodesk.errors import UsageError

UNKNOWN = "unknown"
"""An embargo whose end cannot be read."""

_STRONG = re.compile(
    r"sperrfrist\w*|sperrvermerk|embargo(?:ed|es)?|\bgesperrt\b[^|;\n]{0,40}?\bbis\b|\bbis\b(?=[^|;\n]{3,60}?\bgesperrt\b)"
    r"|\bfrei\s+(?:erst\s+)?ab\b(?!\s*(?:sofort|\d+\s*jahr))"
)
"""What names an embargo, date or not."""
_WEAK = re.compile(
    r"\bfrei(?:gegeben|gabe)\s+(?:erst\s+)?(?:ab|am)\b|\bveröffentlichung\s+(?:frühestens\s+|erst\s+)?(?:ab|am|nach)\b"
    r"|\bnicht\s+vor\b|\bnot\b[^|;\n]{0,40}?\b(?:before|until|prior\s+to)\b"
    r"|\bhold\s+(?:for\s+release\s+)?until\b|\b(?:release|publication|publish)\s+(?:only\s+)?(?:on\s+or\s+)?(?:after|from)\b"
)
"""What names one only where a date follows."""
_NOT_BEFORE = re.compile(r"\b(?:keine?|ohne|no|without|not|nicht)\s+$")
_NOT_AFTER = re.compile(
    r"\s*[:–-]?\s*(?:keine?|none|no|nein|n/a|entfällt|aufgehoben|lifted|abgelaufen|expired|is over|vorbei)\b"
)
_END = re.compile(r"[|;!?\n]")
LOOKED_AT = 120
"""Characters after the word that are looked at for a date."""

_MONTHS = (
    "jan(?:uar|uary)?|jänner",
    "feb(?:ruar|ruary)?",
    "mär(?:z)?|mar(?:ch)?|maerz",
    "apr(?:il)?",
    "mai|may",
    "jun(?:i|e)?",
    "jul(?:i|y)?",
    "aug(?:ust)?",
    "sep(?:t|tember)?",
    "o[kc]t(?:ober)?",
    "nov(?:ember)?",
    "de[zc](?:ember)?",
)
_MONTH = "|".join(_MONTHS)
_DATE = re.compile(
    rf"(?P<y1>\d{{4}})[-/.](?P<m1>\d{{1,2}})[-/.](?P<d1>\d{{1,2}})(?!\d)"
    rf"|(?<!\d)(?P<y2>[12]\d{{3}})(?P<m2>[01]\d)(?P<d2>[0-3]\d)(?!\d)"
    rf"|(?<!\d)(?P<d3>\d{{1,2}})\.\s?(?P<m3>\d{{1,2}})\.(?:\s?(?P<y3>\d{{4}})|(?P<z3>\d{{2}}))(?!\d|\s*(?:uhr|h\b|:))"
    rf"|(?<!\d)(?P<d4>\d{{1,2}})(?:st|nd|rd|th|\.)?[\s-]*(?:of\s+)?(?P<m4>{_MONTH})\b\.?,?[\s-]*(?P<y4>\d{{4}})(?!\d)"
    rf"|\b(?P<m5>{_MONTH})\b\.?\s*(?P<d5>\d{{1,2}})(?:st|nd|rd|th)?,?\s+(?P<y5>\d{{4}})(?!\d)"
    rf"|(?<!\d)(?P<a6>\d{{1,2}})(?P<s6>[/-])(?P<b6>\d{{1,2}})(?P=s6)(?:(?P<y6>\d{{4}})|(?P<z6>\d{{2}}))(?!\d)"
)
_CLOCKS = {
    **dict.fromkeys(("z", "utc", "gmt", "wez"), 0),
    **dict.fromkeys(("cet", "mez", "bst"), 60),
    **dict.fromkeys(("cest", "mesz"), 120),
    **{"est": -300, "edt": -240, "cst": -360, "cdt": -300, "mst": -420, "mdt": -360, "pst": -480, "pdt": -420},
}
"""Minutes east of Greenwich."""
_PLACES = {"et": "America/New_York", "ct": "America/Chicago", "pt": "America/Los_Angeles", "uk time": "Europe/London"}
_CLOCK = rf"\s*\(?(?P<zone>{'|'.join(sorted({**_CLOCKS, **_PLACES}, key=len, reverse=True))}|[+-]\d\d:?\d\d)\b"
_TIME = re.compile(
    rf"(?<![\d.:])(?:(?P<h1>\d{{1,2}}):(?P<m1>\d\d)(?::(?P<s1>\d\d)(?:[.,]\d+)?)?(?:\s*(?P<p1>[ap])\.?m\b\.?)?"
    rf"|(?P<h2>\d{{1,2}})(?:[.](?P<m2>\d\d))?\s*(?:uhr(?:\s+(?P<n2>\d\d)\b)?|h\b|o.?clock|(?P<p2>[ap])\.?m\b\.?)"
    rf"|(?P<h3>[0-2]\d)(?P<m3>[0-5]\d)(?:(?<=t\d{{4}})(?:\d\d)?"
    rf"|(?=\s*(?:uhr|h\b|hrs|hours|z\b|utc|gmt|[bc]e?st\b|cet|me?s?z))(?:\s*(?:uhr|hrs|hours|h\b))?)"
    rf"|(?P<end>mitternacht|midnight)|(?P<noon>noon|mittags?))(?:{_CLOCK})?"
)
_ELSEWHERE = re.compile(r"ortszeit|local\s+time")
_FILLER = re.compile(
    r"bitte|unbedingt|beachten|gilt|achtung|siehe?|note|please|observe|applies|strictly|stren?g|strikt|hinweis|until|"
    r"ende[ts]?|expires|lifts|am|um|at|on|the|den|dem|der|vom|ab|from|erst|only|für|for|release|publication|embargo|"
    r"\w+tag|(?:mon|tues|wednes|thurs|fri|satur|sun)day|(?:mo|di|mi|do|fr|sa|so|mon|tue|wed|thu|fri|sat|sun)\b"
)


def zone_of(name: str) -> ZoneInfo | None:
    """A time zone by its name in the IANA list, such as Europe/Berlin; None, the system's, for an empty name.

    Raises:
        UsageError: there is none of that name.
    """
    try:
        return ZoneInfo(name) if name else None
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise UsageError(f"no time zone {name!r}; expected one such as Europe/Berlin or UTC") from None


def now(zone: datetime.tzinfo | None) -> str:
    """This second, as `read` gives moments."""
    return datetime.datetime.now(datetime.UTC).replace(microsecond=0).astimezone(zone).isoformat()


def is_named(terms: str) -> bool:
    """Whether usage terms name an embargo, whatever its end and whether or not it is over."""
    return bool(read(terms, None))


@functools.lru_cache(maxsize=4096)
def read(terms: str, zone: datetime.tzinfo | None) -> str:
    """The moment at which an embargo ends.

    Args:
        terms: usage terms and instructions.
        zone: of dates and times that name none; None is the system's.

    Returns:
        ISO 8601 with the offset from UTC, of several moments the latest; `UNKNOWN` where one cannot be read; empty
        where no embargo is named.
    """
    text = terms.casefold()
    found, pending = list[str](), False
    named = sorted(
        ((match, strong) for strong, kind in ((True, _STRONG), (False, _WEAK)) for match in kind.finditer(text)),
        key=lambda pair: (pair[0].start(), -pair[0].end()),
    )
    for at, (match, strong) in enumerate(named):
        if _NOT_BEFORE.search(text[: match.start()]) or _NOT_AFTER.match(text, match.end()):
            continue
        end = named[at + 1][0].start() if at + 1 < len(named) else len(text)
        rest = text[match.end() : max(end, match.end())]
        said = _END.split(rest[:LOOKED_AT], maxsplit=1)[0]
        goes_on = said == rest and at + 1 < len(named)  # "Sperrfrist: Abdruck nicht vor …" is one sentence
        whole_day = match[0].endswith("bis") or "nach" in match[0] or "after" in match[0]
        moment = _moment(said, zone, whole_day)
        if moment or (strong and not goes_on and _said(said)):
            found.append(moment or UNKNOWN)
        else:
            pending |= strong  # "Embargo/Sperrfrist: …" are two names of one
    return strictest(found) if found else UNKNOWN if pending else ""


def strictest(embargoes: Iterable[str]) -> str:
    """Of several embargoes as `read` gives them the one that holds longest; empty if there is none."""
    return max(filter(None, embargoes), key=lambda one: (one == UNKNOWN, _instant(one)), default="")


def holds(embargo: str, at: datetime.datetime | None = None) -> bool:
    """Whether an embargo as `read` gives it still holds at a moment; None is now."""
    if embargo in ("", UNKNOWN):
        return bool(embargo)
    return (at or datetime.datetime.now(datetime.UTC)) < _instant(embargo)


def _instant(embargo: str) -> datetime.datetime:
    if embargo == UNKNOWN:
        return datetime.datetime.max.replace(tzinfo=datetime.UTC)
    return datetime.datetime.fromisoformat(embargo)


def _said(text: str) -> str:
    """The words of a text that are more than filling."""
    return re.sub(r"[\W\d_]+", "", " ".join(word for word in re.findall(r"\w+", text) if not _FILLER.fullmatch(word)))


def _moment(said: str, zone: datetime.tzinfo | None, whole_day: bool) -> str:
    """The first date of a text with its time; empty if none can be read."""
    for match in _DATE.finditer(said):
        day = _day(match)
        if day is None:
            continue
        before, after = said[: match.start()], said[match.end() :]
        times = [*_TIME.finditer(after), *reversed(list(_TIME.finditer(before)))]
        if _ELSEWHERE.search(said):
            return ""
        try:
            if times:
                return _at(day, times[0], zone)
            unread = _said(before) or _said(re.split("[.,;(]", after, maxsplit=1)[0])
            return _aware(day + datetime.timedelta(days=bool(whole_day or unread)), zone, zone)
        except (ValueError, OverflowError):
            return ""
    return ""


def _day(match: re.Match[str]) -> datetime.datetime | None:
    """Midnight before the day of a match of `_DATE`, the later one of two readings; None if the calendar has none."""
    got = {name: value for name, value in match.groupdict().items() if value}
    form = next(name[1] for name in got)
    year = int(got.get(f"y{form}") or f"20{got[f'z{form}']}")
    if form == "6":
        readings = [(int(got["b6"]), int(got["a6"])), (int(got["a6"]), int(got["b6"]))]
    elif (month := got[f"m{form}"]).isdecimal():
        readings = [(int(month), int(got[f"d{form}"]))]
    else:
        at = next(i for i, names in enumerate(_MONTHS, 1) if re.fullmatch(names, month))
        readings = [(at, int(got[f"d{form}"]))]
    days = []
    for month_of, day_of in readings:
        try:
            days.append(datetime.datetime(year, month_of, day_of))
        except ValueError:
            continue
    return max(days, default=None)


def _at(day: datetime.datetime, match: re.Match[str], zone: datetime.tzinfo | None) -> str:
    """A day with the time of a match of `_TIME`."""
    got = match.groupdict()
    if got["end"]:
        hour, minute, second = 24, 0, 0
    elif got["noon"]:
        hour, minute, second = 12, 0, 0
    else:
        hour = int(got["h1"] or got["h2"] or got["h3"])
        minute = int(got["m1"] or got["m2"] or got["n2"] or got["m3"] or 0)
        second = int(got["s1"] or 0)
        if half := got["p1"] or got["p2"]:
            if not 1 <= hour <= 12:
                raise ValueError(match[0])
            hour = hour % 12 + (12 if half == "p" else 0)
    if hour > 24 or minute > 59 or second > 60:
        raise ValueError(match[0])
    when = day + datetime.timedelta(hours=hour, minutes=minute, seconds=second)
    if not (clock := got["zone"]):
        return _aware(when, zone, zone)
    if clock in _PLACES:
        return _aware(when, ZoneInfo(_PLACES[clock]), zone)
    minutes = _CLOCKS.get(clock)
    if minutes is None:
        digits = clock.replace(":", "")
        minutes = int(digits[0] + "1") * (60 * int(digits[1:3]) + int(digits[3:5]))
    return _aware(when, datetime.timezone(datetime.timedelta(minutes=minutes)), zone)


def _aware(when: datetime.datetime, there: datetime.tzinfo | None, here: datetime.tzinfo | None) -> str:
    """A wall-clock time of one zone as another has it; None is the system's."""
    return (when.replace(tzinfo=there) if there else when).astimezone(here).isoformat()
