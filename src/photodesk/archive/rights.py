"""What holds for a photo that has near-duplicates: the usage terms of all of them, and what only another of them says
of the motif.

Usage terms are sentences that people wrote, so they are told apart in one way only: those with a word of `EMBARGO` are
the strictest, any other text comes next, no text last. None is read for what it allows, and none is left out: distinct
texts stand one after the other, the strictest first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from photodesk.archive.archive import Archive
from photodesk.engines.schema import Entry

EMBARGO = ("sperrfrist", "embargo")
"""Words that make usage terms an embargo, also as parts of other words."""
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
    """A near-duplicate of a photo, with its metadata."""

    photo: str
    entry: Entry


def embargoed(terms: str) -> bool:
    """Whether usage terms name an embargo."""
    said = terms.casefold()
    return any(word in said for word in EMBARGO)


class Group:
    """Photos of one group of near-duplicates.

    Args:
        members: all of them.

    Attributes:
        members: the largest picture first, equal ones by id.
    """

    def __init__(self, members: Iterable[Similar]) -> None:
        self.members = tuple(sorted(members, key=lambda one: (-one.entry.width * one.entry.height, one.photo)))
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
        own = {_bare(entry.terms): Similar(photo, entry)} if entry.terms else {}
        terms = sorted(
            (own | self._terms | own).values(), key=lambda one: not embargoed(one.entry.terms)
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
    made = {
        family: Group(Similar(photo, known[photo]) for photo in members if photo in known)
        for family, members in families.items()
    }
    return {photo: made.get(entry.group) or Group([Similar(photo, entry)]) for photo, entry in entries.items()}


def _bare(terms: str) -> str:
    return " ".join(terms.split()).casefold()
