"""Every fault of a data set, and its kind: what each means, and how a long list of them is told in a few lines."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from photodesk.data import tables
from photodesk.data.groups import shared_titles
from photodesk.errors import PhotoError
from photodesk.files import shown
from photodesk.types import Dataset, Fault, Photo

MEANINGS = {
    "a byte order mark": "three invisible bytes before the first column name; skipped",
    "lines end in CR": "line ends of another system; read as line ends",
    "NUL characters": "bytes that no text holds; dropped",
    "not UTF-8": "umlauts and quotes are encoded in another way; read so that they come out right",
    "blank row": "a line without any cell; it is no article",
    "the header stands here again": "files were joined; the line is no article",
    "a quote is not closed": "the quote was read as part of the text, so that no row after it is swallowed",
    "quotes inside a quoted cell": "they should be doubled; the cell was read to the last quote before a delimiter",
    "too many columns": "a delimiter stands inside a cell without quotes; no cell can be trusted",
    "too few columns": "cells at the end are missing",
    "cells out of place": "a delimiter is missing within the row; no cell can be trusted",
    "not JSON": "the line is damaged; the others are read",
    "not an object": "the line is no record",
    "a comment between records": "JSON has none; the line is no record",
    "that JSON does not have": "a comma after the last value, or a comment; read as if it were not there",
    "are written as decimals": "a program kept the column as floating point: 1.0 for 1; read as whole numbers",
    "not BSON": "the document is damaged; the others are read",
    "not an article file": "the folder holds it, but it has no titles",
    "column name stands twice": "the first one is read",
    "the column is not unique": "it cannot tell articles apart; another column does",
    "no column with an article id": "articles are called by the line they start on",
    "no article id": "without an id it cannot stand in a run",
    "article id stands twice": "only the first row can have the id",
    "empty title": "nothing, or only other fields, to search a photo with",
    "double-encoded UTF-8": "such as Ã¼ for ü: encoded twice, decoded once more (ftfy)",
    "soft hyphens": "invisible hyphens inside words, which tear words apart for a model; taken out",
    "odd spaces": "non-breaking and other spaces; made plain ones",
    "HTML entities": "such as &amp; for &; written as the character",
    "control characters": "invisible characters; taken out",
    "cut words": "texts end at a limit, often within a word; that last piece of a word is taken out",
    "two pictures have one id": "an id must name one picture; the first in order of names keeps it",
    "the name of the file": "no run file, index or table can hold such a name; the picture is not looked at",
    "name differs in case": "no file has the very name that the table gives, and one has it in other case",
    "several pictures have this name": "which of them is meant cannot be told; no run can find the picture",
    "no pictures": "articles and pairs can be used, nothing can be ranked",
    "picture is missing": "the table names it, but there is no such file; no run can find it",
    "one title, several "
    "articles": "syndicated news: more than one picture can be right, and splits must not separate them",
    "near-duplicate "
    "pictures": "same picture in other size, crop or compression; a run that finds the other one counts as wrong",
    "is empty": "a file of no bytes",
    "is not a picture": "its name says picture, its content does not",
    "is cut short": "the end of the file is missing; half a picture is not shown",
    "is damaged": "its bytes contradict each other",
    "is too large": "more pixels than a photo has; such files are made to fill the memory",
    "cannot be read": "the system does not give the file out",
    "cannot be fetched": "the picture is not saved; a broken one never is",
}
"""What a fault's `what` contains → what that means, for whoever meets it the first time."""


@dataclass(frozen=True, slots=True)
class Kind:
    """Faults that differ only in their place and in the values after the colon.

    Args:
        name: the fault without its values.
        first: the first of them.
        count: how many.
    """

    name: str
    first: Fault
    count: int

    @property
    def meaning(self) -> str:
        """What this kind means; empty if its name says all."""
        return next((text for key, text in MEANINGS.items() if key in self.name), "")


def kinds(faults: Sequence[Fault]) -> list[Kind]:
    """Faults by kind: first those that need the user, then by count."""
    counts: Counter[tuple[str, str, str]] = Counter()
    first: dict[tuple[str, str, str], Fault] = {}
    for fault in faults:
        key = (fault.what.partition(": ")[0], fault.fate, fault.advice)
        counts[key] += 1
        first.setdefault(key, fault)
    ordered = sorted(counts, key=lambda key: (not key[2], -counts[key], key))
    return [Kind(key[0], first[key], counts[key]) for key in ordered]


def export(faults: Sequence[Fault], path: Path) -> None:
    """Write all faults as CSV, formulas neutralised: they quote cells of files that strangers wrote."""
    tables.write_csv(
        path,
        ("where", "what", "fate", "advice"),
        ((shown(f.where), shown(f.what), f.fate, shown(f.advice)) for f in faults),
    )


def check(dataset: Dataset, *, decode: bool = True, tick: Callable[[], object] | None = None) -> tuple[Fault, ...]:
    """Every fault of a data set: the reader's, and those of its texts, pictures and duplicates.

    Args:
        dataset: what `read` returned.
        decode: decode every picture; without it pictures are not looked at and near-duplicates not searched for.
        tick: called after each picture.
    """
    faults = list(dataset.faults)
    for group in shared_titles(dataset.articles):
        others = ", ".join(article.where for article in group[1:4])
        faults.append(Fault(group[0].where, f"one title, several articles: {len(group)}, also in {others}", "kept"))
    if decode:
        faults += _pictures(dataset.photos, tick)
    return tuple(faults)


def _pictures(photos: Sequence[Photo], tick: Callable[[], object] | None) -> list[Fault]:
    from photodesk.images import hashes, near_duplicates

    faults: list[Fault] = []
    whole: defaultdict[str, int] = defaultdict(int)
    for photo, value in hashes(photos):
        if isinstance(value, PhotoError):
            what, _, advice = str(value).removeprefix(f"{photo.path} ").rpartition("; ")
            faults.append(Fault(str(photo.path), what, "left out", advice))
        else:
            whole[str(photo.path)] = value
        if tick:
            tick()
    places = list(whole)
    for group in near_duplicates(whole.values()):
        others = ", ".join(Path(places[i]).name for i in group[1:4])
        faults.append(Fault(places[group[0]], f"near-duplicate pictures: {len(group)}, also {others}", "kept"))
    return faults
