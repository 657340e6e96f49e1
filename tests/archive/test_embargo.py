"""Until when usage terms forbid a photo: German and English sentences against moments that were worked out by hand."""

from __future__ import annotations

import datetime
from zoneinfo import ZoneInfo

import pytest

from photodesk.archive import embargo
from photodesk.archive.embargo import UNKNOWN
from photodesk.errors import UsageError

BERLIN = ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    ("terms", "moment"),
    [
        ("Sperrfrist: 31.05.2024, 18 Uhr", "2024-05-31T18:00:00+02:00"),
        ("SPERRFRIST 31. Mai 2024 18.30 Uhr", "2024-05-31T18:30:00+02:00"),
        ("Sperrfrist: Freitag, den 31.5.24, 18:00 Uhr", "2024-05-31T18:00:00+02:00"),
        ("Sperrfrist 18 Uhr am 31. Mai 2024", "2024-05-31T18:00:00+02:00"),
        ("Sperrfrist: 3. März 2030, 6 Uhr 30", "2030-03-03T06:30:00+01:00"),
        ("Embargo until 31 May 2024 18:00", "2024-05-31T18:00:00+02:00"),
        ("embargo until May 31st, 2024 6 pm", "2024-05-31T18:00:00+02:00"),
        ("Embargo until 2024-05-31T18:00:00Z", "2024-05-31T20:00:00+02:00"),
        ("Embargoed until 00:01 GMT on 3 June 2024", "2024-06-03T02:01:00+02:00"),
        ("NOT FOR RELEASE UNTIL 12 noon ET, March 3, 2030", "2030-03-03T18:00:00+01:00"),
        ("embargo until 04/13/2030 5:00 p.m. EST", "2030-04-14T00:00:00+02:00"),
        ("Embargo until 20300101T0600", "2030-01-01T06:00:00+01:00"),
        # without a time: the day's first second, but the whole day after "bis" and beside what is not understood
        ("frei ab 1. Januar 2025", "2025-01-01T00:00:00+01:00"),
        ("Embargo until 1 March 2030", "2030-03-01T00:00:00+01:00"),
        ("gesperrt bis 31.12.2024", "2025-01-01T00:00:00+01:00"),
        ("bis 31.12.2024 gesperrt", "2025-01-01T00:00:00+01:00"),
        ("Sperrfrist: Redebeginn, 31.5.2024", "2024-06-01T00:00:00+02:00"),
        ("Embargo until 31 May 2024 after the speech", "2024-06-01T00:00:00+02:00"),
        ("hold for release until 03/04/2030", "2030-04-03T00:00:00+02:00"),
        ("gesperrt bis 31.12.2024, 24 Uhr", "2025-01-01T00:00:00+01:00"),
        # several names of one embargo, and several embargoes
        ("SPERRFRIST! Embargo until 31 May 2024 18:00", "2024-05-31T18:00:00+02:00"),
        ("Embargo/Sperrfrist: 31.05.2024, 06:00", "2024-05-31T06:00:00+02:00"),
        ("Sperrfrist beachten | Sperrfrist: 12.5.2030, 18 Uhr", "2030-05-12T18:00:00+02:00"),
        ("Sperrfrist: Abdruck nicht vor dem 31.5.2024, 18 Uhr", "2024-05-31T18:00:00+02:00"),
        ("Sperrfrist 1.5.2024 | Embargo until 2 May 2024", "2024-05-02T00:00:00+02:00"),
        ("Sperrfrist: Redebeginn | Embargo until 2 May 2024", UNKNOWN),
        ("Sperrfrist 01.06.2030 00:00 Uhr. Nutzung nur bis 31.12.2031", "2030-06-01T00:00:00+02:00"),
        # what cannot be read holds
        ("Sperrfrist", UNKNOWN),
        ("Sperrfrist 12. Mai, 18 Uhr", UNKNOWN),
        ("Sperrfrist: 12.5. 18 Uhr", UNKNOWN),
        ("Sperrfrist 29.02.2023", UNKNOWN),
        ("Sperrfrist: 31.5.2024 25 Uhr", UNKNOWN),
        ("Sperrfrist: 31.5.2024, 18 Uhr Ortszeit", UNKNOWN),
        ("Embargo until further notice", UNKNOWN),
        ("frei ab Redebeginn", UNKNOWN),
        # no embargo
        ("", ""),
        ("Nur redaktionell", ""),
        ("kein Embargo", ""),
        ("Sperrfrist: keine", ""),
        ("frei ab 18 Jahren", ""),
        ("frei ab sofort", ""),
        ("Fotograf nicht vor Ort", ""),
        ("gesperrt für Österreich", ""),
    ],
)
def test_the_moment_that_a_sentence_means(terms, moment):
    assert embargo.read(terms, BERLIN) == moment
    assert embargo.is_named(terms) == bool(moment)


def test_a_moment_is_that_of_the_zone():
    assert embargo.read("Sperrfrist: 31.05.2024, 18 Uhr", ZoneInfo("America/New_York")) == "2024-05-31T18:00:00-04:00"
    system = datetime.datetime(2024, 5, 31, 18).astimezone().isoformat()
    assert embargo.read("Sperrfrist: 31.05.2024, 18 Uhr", None) == system
    assert embargo.zone_of("") is None
    with pytest.raises(UsageError, match="no time zone 'Berlin/Mitte'"):
        embargo.zone_of("Berlin/Mitte")


def test_an_embargo_holds_until_its_moment():
    until = "2024-05-31T18:00:00+02:00"
    at = datetime.datetime(2024, 5, 31, 15, 59, 59, tzinfo=datetime.UTC)
    assert embargo.holds(until, at)
    assert not embargo.holds(until, at + datetime.timedelta(seconds=1))
    assert embargo.holds(UNKNOWN, at)
    assert not embargo.holds("", at)
    assert embargo.strictest([until, "", "2024-05-31T17:00:00Z"]) == "2024-05-31T17:00:00Z"
    assert embargo.strictest([until, UNKNOWN]) == UNKNOWN
    assert embargo.strictest([]) == ""
