"""Every fault of a data set, and its kind: what each means, and how a long list of them is told in a few lines."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from photodesk.data import tables
from photodesk.data.groups import shared_titles
from photodesk.errors import PhotoError
from photodesk.text_repair import shown
from photodesk.types import Dataset, Fault, Photo


class Meaning(NamedTuple):
    """What faults of one code have in common.

    Args:
        name: what lists call them.
        text: what that means, for whoever meets it the first time; empty if the name says all.
    """

    name: str
    text: str = ""


MEANINGS = {
    # a table file, by file
    "table-bom": Meaning("a byte order mark", "three invisible bytes before the first column name; skipped"),
    "table-column-twice": Meaning("column name is duplicated", "the first one is read"),
    "table-decimal-ids": Meaning(
        "ids are written as decimals",
        "a program kept the column as floating point: 1.0 for 1; read as whole numbers",
    ),
    "table-id-not-unique": Meaning("the column is not unique", "it cannot tell articles apart; another column does"),
    "table-line-ends": Meaning("lines end in CR", "line ends of another system; read as line ends"),
    "table-no-articles": Meaning("not an article file", "the folder holds it, but it has no titles"),
    "table-no-id": Meaning("no column with an article id", "articles are called by the line they start on"),
    "table-not-utf8": Meaning(
        "the file is not UTF-8", "umlauts and quotes are encoded in another way; read so that they come out right"
    ),
    "table-nul": Meaning("NUL characters", "bytes that no text holds; dropped"),
    # and by row
    "row-blank": Meaning("blank row", "a line without any cell; it is no article"),
    "row-cells-shifted": Meaning("cells out of place", "a delimiter is missing within the row; no cell can be trusted"),
    "row-comment": Meaning("a comment between records", "JSON has none; the line is no record"),
    "row-header-again": Meaning("the header stands here again", "files were joined; the line is no article"),
    "row-loose-json": Meaning(
        "commas or comments that JSON does not have",
        "a comma after the last value, or a comment; read as if it were not there",
    ),
    "row-not-bson": Meaning("not BSON", "the document is damaged; the others are read"),
    "row-not-json": Meaning("not JSON", "the line is damaged; the others are read"),
    "row-not-object": Meaning("not an object", "the line is no record"),
    "row-not-utf8": Meaning(
        "the line is not UTF-8", "umlauts and quotes are encoded in another way; read so that they come out right"
    ),
    "row-quote-open": Meaning(
        "a quote is not closed", "the quote was read as part of the text, so that no row after it is swallowed"
    ),
    "row-quote-undoubled": Meaning(
        "quotes inside a quoted cell are not doubled",
        "they should be doubled; the cell was read to the last quote before a delimiter",
    ),
    "row-too-few-columns": Meaning("too few columns", "cells at the end are missing"),
    "row-too-many-columns": Meaning(
        "too many columns", "a delimiter stands inside a cell without quotes; no cell can be trusted"
    ),
    # an article and its text
    "article-empty": Meaning("article without text", "the fields that are read hold nothing"),
    "article-id-taken": Meaning("article id is duplicated", "only the first row can have the id"),
    "article-no-id": Meaning("no article id", "without an id it cannot stand in a run"),
    "article-no-title": Meaning("empty title", "nothing, or only other fields, to search a photo with"),
    "article-title-shared": Meaning(
        "one title, several articles",
        "syndicated news: more than one picture can be right, and splits must not separate them",
    ),
    "text-control-characters": Meaning("control characters", "invisible characters; taken out"),
    "text-cut": Meaning(
        "cut words", "texts end at a limit, often within a word; that last piece of a word is taken out"
    ),
    "text-double-encoded": Meaning("double-encoded UTF-8", "such as Ã¼ for ü: encoded twice, decoded once more (ftfy)"),
    "text-html-entities": Meaning("HTML entities", "such as &amp; for &; written as the character"),
    "text-language-other": Meaning("not translated, in another language", "the translation model does not read it"),
    "text-language-unknown": Meaning("language unknown", "no language is likely enough; the text is not translated"),
    "text-names-restored": Meaning("names put back", "the translation had changed them"),
    "text-not-translated": Meaning("not translated", "the original stays"),
    "text-odd-spaces": Meaning("non-breaking or odd spaces", "non-breaking and other spaces; made plain ones"),
    "text-soft-hyphens": Meaning(
        "soft hyphens", "invisible hyphens inside words, which tear words apart for a model; taken out"
    ),
    # a photo
    "photo-ambiguous": Meaning("several pictures have this name", "which of them is meant cannot be told"),
    "photo-damaged": Meaning("picture is damaged", "its bytes contradict each other"),
    "photo-empty": Meaning("picture is empty", "a file of no bytes"),
    "photo-excluded": Meaning("photos that are left out by now", "a pattern came after them; they stay in the archive"),
    "photo-format": Meaning(
        "picture of a format whose library is not installed", "HEIC, AVIF, JPEG XL and camera RAW need an extra"
    ),
    "photo-foreign": Meaning("is not a picture", "its name says picture, its content does not"),
    "photo-gone": Meaning("picture is gone", "neither its file nor its thumbnail is left"),
    "photo-id-taken": Meaning(
        "two pictures have one id", "an id must name one picture; the first in order of names keeps it"
    ),
    "photo-metadata": Meaning("metadata cannot be read", "the picture is taken without its caption or credit"),
    "photo-missing": Meaning("picture is missing", "the table names it, but there is no such file; no run can find it"),
    "photo-name": Meaning(
        "name cannot be used",
        "no run file, index or table can hold it, or it leads out of the archive that it is in; not looked at",
    ),
    "photo-near-duplicate": Meaning(
        "near-duplicate pictures",
        "same picture in other size, crop or compression; a run that finds the other one counts as wrong",
    ),
    "photo-no-answer": Meaning("cannot be fetched, no answer", "the picture is not saved; the host may be back later"),
    "photo-none": Meaning("no pictures", "articles and pairs can be used, nothing can be ranked"),
    "photo-refused": Meaning("cannot be fetched", "the picture is not saved; a broken one never is"),
    "photo-spelling": Meaning(
        "a name in another spelling",
        "no file has the very name that is given, and one has it in other case or form",
    ),
    "photo-too-large": Meaning(
        "picture is too large", "more pixels than a photo has; such files are made to fill the memory"
    ),
    "photo-truncated": Meaning("picture is cut short", "the end of the file is missing; half a picture is not shown"),
    "photo-unknown": Meaning("the archive has no such photo"),
    "photo-unreadable": Meaning(
        "picture cannot be read", "the system does not give the file out, or it is no regular file"
    ),
    "photo-without-embargo": Meaning("photo has no usage terms that an embargo could stand in"),
    "thumbnail-missing": Meaning("thumbnail is missing or damaged", "pages show the photo from its thumbnail"),
    # where photos lie
    "file-changed": Meaning("content of the file changed", "the archive has the row of the earlier content"),
    "file-excluded": Meaning("files or folders left out by a pattern", "by default, or by yours; see docs/archive.md"),
    "file-foreign": Meaning("files that are no pictures", "photodesk does not read their kind"),
    "file-gone": Meaning("file is gone or changed", "what the archive keeps of the photo stays"),
    "file-name": Meaning("name is not UTF-8", "the archive cannot write it down"),
    "file-unknown": Meaning("the archive knows no file there"),
    "folder-archive": Meaning("holds an archive of photodesk", "its thumbnails are no pictures of yours"),
    "folder-gone": Meaning("the folder or its disk is gone", "its photos stay in the archive"),
    "folder-ignore": Meaning("line of an ignore file is no pattern", "the other lines hold"),
    "folder-link": Meaning("link to a folder", "links are not followed, so that no picture is taken twice"),
    "folder-unreadable": Meaning("folder cannot be read", "the system does not list it"),
    "source-damaged": Meaning("source is damaged or cannot be read", "the pictures in it that come later are lost"),
    "source-mixed": Meaning("tars or Parquet files beside pictures", "they are read by themselves only"),
    "source-no-photos": Meaning("no column with pictures", "a column of a Parquet file holds them as bytes"),
    # what photodesk keeps
    "archive-count": Meaning("the engine counts other points than it lists"),
    "archive-damaged": Meaning("the database is damaged", "SQLite finds contradictions in the file"),
    "archive-engine-damaged": Meaning("the engine's files are damaged", "they are not what was written"),
    "archive-photo-fileless": Meaning("no file stands behind the photo", "a stop came between two steps"),
    "archive-point-lost": Meaning("the engine has lost the photo", "it cannot be found until its file is added again"),
    "archive-point-unknown": Meaning("the database does not know the point", "a stop came between two steps"),
    "archive-row-damaged": Meaning("row or entry is damaged", "it is not what was written"),
    "store-damaged": Meaning("features are damaged", "the list of what is stored cannot be read"),
    "store-file-changed": Meaning("file of features changed", "it is not what was written; its rows are encoded again"),
    "store-file-missing": Meaning("file of features is missing", "its rows are encoded again"),
    "store-rows-damaged": Meaning("rows of features are damaged", "they are encoded again"),
    "unknown": Meaning("noted by an earlier version", "the next update looks at the file again"),
    # what is handed in
    "run-article-missing": Meaning("an article is missing", "it counts 0"),
    "run-article-unknown": Meaning("an article that the data set does not have"),
    "run-length": Meaning("another number of photos than wanted"),
    "run-photo-twice": Meaning("a photo more than once"),
    "run-photo-unknown": Meaning("a photo that the data set does not have"),
    "submission-approach-taken": Meaning(
        "another picture in the SMALL folder of this approach", "both sizes are of one run"
    ),
    "submission-article-missing": Meaning("articles without a picture", "each gets the lowest rating"),
    "submission-article-twice": Meaning("a second picture for one article"),
    "submission-article-unknown": Meaning("for an article that the data set does not have"),
    "submission-empty": Meaning("no picture in the layout of the edition"),
    "submission-format": Meaning("not a PNG file", "the organisers take no other format"),
    "submission-name": Meaning("not in the layout of the edition", "the organisers do not find it"),
    "submission-no-photo": Meaning("article without a picture", "the run has no photo left for it"),
    "submission-photo-twice": Meaning("a picture is duplicated across the group's runs"),
    "submission-size": Meaning("picture of another size", "the organisers take one size"),
}
"""Code of a fault → its meaning; there is no other code."""


@dataclass(frozen=True, slots=True)
class Kind:
    """Faults of one code, fate and advice: they differ in their place and in values only.

    Args:
        code: of all of them.
        faults: in the order in which they were found.
    """

    code: str
    faults: tuple[Fault, ...]

    @property
    def first(self) -> Fault:
        """The first of them."""
        return self.faults[0]

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.faults)

    @property
    def name(self) -> str:
        """What lists call this kind."""
        return self._entry.name

    @property
    def meaning(self) -> str:
        """What this kind means; empty if its name says all."""
        return self._entry.text

    @property
    def _entry(self) -> Meaning:
        return MEANINGS.get(self.code, Meaning(self.code))  # a server of another version may send one of its own


def kinds(faults: Sequence[Fault]) -> list[Kind]:
    """Faults by kind: first those that need the user, then by count."""
    found: dict[tuple[str, str, str], list[Fault]] = {}
    for fault in faults:
        found.setdefault((fault.code, fault.fate, fault.advice), []).append(fault)
    ordered = sorted(found, key=lambda key: (not key[2], -len(found[key]), key))
    return [Kind(key[0], tuple(found[key])) for key in ordered]


def export(faults: Sequence[Fault], path: Path) -> None:
    """Write all faults as CSV, formulas neutralised: they quote cells of files that strangers wrote."""
    header = ("where", "what", "fate", "advice", "code")
    tables.write_csv(path, header, ([shown(getattr(fault, name)) for name in header] for fault in faults))


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
        what = f"one title, several articles: {len(group)}, also in {others}"
        faults.append(Fault("article-title-shared", group[0].where, what, "kept"))
    if decode:
        faults += _pictures(dataset.photos, tick)
    return tuple(faults)


def _pictures(photos: Sequence[Photo], tick: Callable[[], object] | None) -> list[Fault]:
    from photodesk.images import hashes, near_duplicates

    faults: list[Fault] = []
    whole: defaultdict[str, int] = defaultdict(int)
    for photo, value in hashes(photos):
        if isinstance(value, PhotoError):
            faults.append(value.fault())
        else:
            whole[str(photo.path)] = value
        if tick:
            tick()
    places = list(whole)
    for group in near_duplicates(whole.values()):
        others = ", ".join(Path(places[i]).name for i in group[1:4])
        what = f"near-duplicate pictures: {len(group)}, also {others}"
        faults.append(Fault("photo-near-duplicate", places[group[0]], what, "kept"))
    return faults
