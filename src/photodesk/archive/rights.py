"""What holds for a photo that has near-duplicates: the usage terms of all of them, and what only another of them says
of the motif.

Usage terms are sentences that people wrote, so they are told apart in one way only: an embargo that holds (`embargo`)
is the strictest, any other text comes next, no text last. None is read for what it allows, and none is left out:
distinct texts stand one after the other, the strictest first. Somebody who knows better says when an embargo ends
(`UsageLog.release`); that holds for the very terms that were there then.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from photodesk.archive import embargo
from photodesk.archive.archive import Archive
from photodesk.engines.schema import Entry

BETWEEN = " | "
"""What stands between the distinct usage terms of near-duplicates."""
FILLED = (
    "headline",
    "caption",
    "byline",
    "credit",
    "copyright",
    "keywords",
    "place",
    "taken",
    "people",
    "event",
    "alt_text",
)
"""Fields that a photo without a value takes from the largest of its near-duplicates that has one."""


@dataclass(frozen=True, slots=True)
class Similar:
    """A near-duplicate of a photo, with its metadata, and until when its own usage terms forbid it, as `embargo.read`
    says it."""

    photo: str
    entry: Entry
    embargo: str = ""


class Group:
    """Photos of one group of near-duplicates.

    Args:
        members: all of them.

    Attributes:
        members: the largest picture first, equal ones by id.
        embargo: the strictest of theirs.
    """

    def __init__(self, members: Iterable[Similar]) -> None:
        self.members = tuple(sorted(members, key=lambda one: (-one.entry.width * one.entry.height, one.photo)))
        self.embargo = embargo.strictest(one.embargo for one in self.members)
        self._terms: dict[str, Similar] = {}
        self._filled: dict[str, Similar] = {}
        for one in self.members:
            if one.entry.terms:
                self._terms.setdefault(_bare(one.entry.terms), one)
            for field in FILLED:
                if getattr(one.entry, field):
                    self._filled.setdefault(field, one)

    def known(self, photo: str, entry: Entry) -> tuple[Entry, dict[str, tuple[str, ...]]]:
        """A photo's entry with the usage terms of the whole group, and its empty fields filled; field → other photos
        that a value came from."""
        itself = next((one for one in self.members if one.photo == photo), Similar(photo, entry))
        own = {_bare(entry.terms): replace(itself, entry=entry)} if entry.terms else {}
        terms = sorted(
            (own | self._terms | own).values(), key=lambda one: not embargo.holds(one.embargo)
        )  # its own before others
        filled = {field: one for field, one in self._filled.items() if not getattr(entry, field)}
        origins: dict[str, tuple[str, ...]] = {field: (one.photo,) for field, one in filled.items()}
        if others := tuple(one.photo for one in terms if one.photo != photo):
            origins |= {"terms": others}
        values = {field: getattr(one.entry, field) for field, one in filled.items()}
        return replace(entry, **values, terms=BETWEEN.join(one.entry.terms for one in terms)), origins


def groups(archive: Archive, entries: Mapping[str, Entry]) -> dict[str, Group]:
    """The group of each of some photos (id → entry), with all its members that the archive has, whatever a search asked
    for."""
    families = archive.database.groups({entry.group for entry in entries.values() if entry.group})
    others = [photo for members in families.values() for photo in members if photo not in entries]
    known = {**entries, **{point.photo: point.entry for point in archive.engine.get(others)}} if others else entries
    similar = embargoes(archive, known)
    made = {
        family: Group(Similar(photo, known[photo], similar[photo]) for photo in members if photo in known)
        for family, members in families.items()
    }
    return {
        photo: made.get(entry.group) or Group([Similar(photo, entry, similar[photo])])
        for photo, entry in entries.items()
    }


def embargoes(archive: Archive, entries: Mapping[str, Entry]) -> dict[str, str]:
    """Until when each of some photos (id → entry) is forbidden, as `embargo.read` says it: by its own usage terms, or
    by who released it while it had these."""
    released = archive.usage.released(entries)

    def until(photo: str, terms: str) -> str:
        of, moment = released.get(photo, ("", ""))
        return moment if moment and of == terms else embargo.read(terms, archive.zone)

    return {photo: until(photo, entry.terms) if entry.terms else "" for photo, entry in entries.items()}


def _bare(terms: str) -> str:
    return " ".join(terms.split()).casefold()
