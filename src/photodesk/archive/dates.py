"""One rule for dates in metadata: what is known of a moment is kept, what is not is not made up.

A date is `YYYY`, `YYYY-MM`, `YYYY-MM-DD` or `YYYY-MM-DDTHH:MM:SS`, on the clock of the place, without its zone.
"""

from __future__ import annotations

import datetime
import re

_SEPARATED = r"(?P<year>\d{4})(?:(?P<sep>[-:/.])(?P<month>\d{1,2})(?:(?P=sep)(?P<day>\d{1,2}))?)?"
_COMPACT = r"(?P<year>\d{4})(?:(?P<month>\d\d)(?P<day>\d\d)?)?"
_GERMAN = r"(?P<day>\d{1,2})\.(?P<month>\d{1,2})\.(?P<year>\d{4})"
_DATES = [re.compile(rf"{pattern}(?!\d)(?P<rest>.*)", re.DOTALL) for pattern in (_SEPARATED, _COMPACT, _GERMAN)]
_CLOCK = re.compile(r"[T ,]*(?P<hour>\d{1,2}):(?P<minute>\d{1,2})(?!\d)(?::(?P<second>\d{1,2})(?!\d))?")
_SHORT_CLOCK = re.compile(r"[T ]*(?P<hour>\d\d)(?P<minute>\d\d)(?P<second>\d\d)?(?!\d)")


def moment(text: str, clock: str = "") -> str:
    """What a text says of a moment; empty where it is no date, or one that does not exist.

    Separators are `-`, `:`, `/`, `.` or none; parts may have one digit. Zeros for a month or day say that it is not
    known (IPTC-IIM 4.2, 2:55). A time that no clock shows (`24:00:00`, a second 60) leaves the day.

    Args:
        text: EXIF's, XMP's or IPTC's date, with or without a time.
        clock: the time, where it stands by itself.
    """
    for pattern in _DATES:
        if match := pattern.match(text.strip().strip("\0")):
            break
    else:
        return ""
    year, month, day = (int(match[name] or 0) for name in ("year", "month", "day"))
    try:
        whole = datetime.date(year, month or 1, day if month and day else 1)
    except ValueError:
        return ""
    if not month or not day:
        return whole.isoformat()[: 7 if month else 4]
    said = clock.strip() or match["rest"]
    time = _CLOCK.match(said) or _SHORT_CLOCK.match(said)
    if not time:
        return whole.isoformat()
    try:
        of_day = datetime.time(int(time["hour"]), int(time["minute"]), int(time["second"] or 0))
    except ValueError:
        return whole.isoformat()
    return f"{whole.isoformat()}T{of_day.isoformat()}"
