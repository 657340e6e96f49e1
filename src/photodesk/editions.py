"""Which column of a file means what: one table per edition of NewsImages, aliases for everything else.

A column name is compared without case, spaces and punctuation: `# article`, `Article` and `ARTICLE` are one. Layouts are those
of the files that the organisers gave out; of 2022 no column names are public, so its files are read by the aliases.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from photodesk.errors import UsageError

FIELDS = ("id", "title", "lead", "text", "tags", "url", "date", "language", "subset", "photo", "file", "photo_url")
"""What photodesk looks for in a table. `photo` is a picture's id, `file` the name of its file, `photo_url` where it came from."""


@dataclass(frozen=True, slots=True)
class Edition:
    """A known layout.

    Args:
        name: as messages call it.
        marks: plain column names that must all be there.
        columns: field → plain column name; fields that are not named here are not read.
        without: plain column names that must not be there.
        shape: for messages: how one recognises it.
    """

    name: str
    marks: frozenset[str]
    columns: Mapping[str, str]
    without: frozenset[str] = frozenset()


def _edition(name: str, marks: str, columns: str, without: str = "") -> Edition:
    pairs = dict(pair.split("=") for pair in columns.split())
    return Edition(name, frozenset(marks.split()), pairs, frozenset(without.split()))


EDITIONS = (
    _edition(
        "NewsImages 2025",
        "articleid articleurl articletitle articletags imageid",
        "id=articleid title=articletitle tags=articletags url=articleurl photo=imageid photo_url=imageurl",
    ),
    _edition(
        "NewsImages 2026",
        "articleid articleurl articletitle imageid",
        "id=articleid title=articletitle url=articleurl photo=imageid photo_url=imageurl",
        without="articletags",
    ),
    _edition(
        "NewsImages 2023 RT",
        "title text titleen texten",
        "id=url title=title text=text url=url date=date photo=hashvalue file=imgfile photo_url=img",
    ),
    _edition(
        "NewsImages 2023 GDELT",
        "article aid url img iid hashvalue title text imgfile date",
        "id=aid title=title tags=text url=url date=date photo=iid file=imgfile photo_url=img",
    ),
    _edition(
        "NewsImages 2021",
        "article aid url img iid hashvalue title text imgfile",
        "id=article title=title text=text url=url photo=iid file=imgfile photo_url=img",
        without="date",
    ),
    _edition(
        "NewsImages 2021 (restricted)",
        "article aid url imageurl iid hashvalueimage title text nreads",
        "id=article title=title text=text url=url photo=iid file=hashvalueimage photo_url=imageurl",
    ),
    _edition(
        "NewsImages 2021 test articles", "articleid aid url hashvalue title text", "id=articleid title=title text=text url=url", "img iid"
    ),
    _edition("NewsImages 2021 test images", "img iid imgfile", "photo=iid file=imgfile photo_url=img", "title"),
)

ALIASES = {
    "id": "articleid id aid article newsid docid documentid storyid itemid key guid uid uuid",
    "title": "title articletitle headline headlinemain articleheadline head newstitle titel ueberschrift schlagzeile caption sentence text",
    "lead": "lead teaser subtitle subhead summary abstract snippet standfirst description vorspann",
    "text": "text articletext fulltext body articlebody content paragraph paragraphs newstext",
    "tags": "tags articletags keywords topics entities schlagworte",
    "url": "url articleurl link weburl permalink newsurl articlelink",
    "date": "date published publishedat publicationdate pubdate created datetime timestamp datum",
    "language": "language lang locale sprache",
    "subset": "subset split partition part feed",
    "photo": "imageid photoid pictureid iid imgid image photo picture img imagehash hash bild bildid",
    "file": "imgfile imagefile photofile filename imagefilename imagename filepath imagepath photopath file hashvalue",
    "photo_url": "imageurl photourl pictureurl imgurl imagelink img",
}
"""Plain column names by field, the surest first; a column serves one field only, in the order of `FIELDS`."""


def plain(header: str) -> str:
    """A column name without case, spaces and punctuation; umlauts are written out."""
    folded = header.casefold().translate({0xE4: "ae", 0xF6: "oe", 0xFC: "ue"})
    return re.sub(r"[\W_]+", "", folded)


def recognise(header: Sequence[str], override: Mapping[str, str]) -> tuple[str, str, dict[str, int]]:
    """Which edition a header belongs to and where each field stands in it.

    Args:
        header: column names as the file has them.
        override: field → column name, by the user; wins over everything.

    Returns:
        The edition's name (empty for a file of no known edition), the evidence, and field → position in `header`.

    Raises:
        UsageError: `override` names an unknown field, or a column that this header does not have.
    """
    at: dict[str, int] = {}
    for position, name in enumerate(header):
        if key := plain(name):
            at.setdefault(key, position)
    chosen: dict[str, int] = {}
    for field, column in override.items():
        if field not in FIELDS:
            raise UsageError(f"no field {field!r}; fields are {', '.join(FIELDS)}")
        if column not in header and plain(column) not in at:
            close = difflib.get_close_matches(column, header, 1)
            hint = f"did you mean {close[0]!r}?" if close else f"it has: {', '.join(filter(None, header))}"
            raise UsageError(f"no column {column!r} for the {field}; {hint}")
        chosen[field] = header.index(column) if column in header else at[plain(column)]
    for edition in EDITIONS:
        if edition.marks <= at.keys() and not edition.without & at.keys():
            found = {field: at[column] for field, column in edition.columns.items() if column in at}
            names = ", ".join(header[at[mark]] for mark in sorted(edition.marks, key=at.__getitem__))
            return edition.name, f"its columns are {names}", found | chosen
    return "", "columns taken by their names", _guess(at, chosen)


def _guess(at: Mapping[str, int], chosen: Mapping[str, int]) -> dict[str, int]:
    found = dict(chosen)
    for field in FIELDS:
        if field in found:
            continue
        for alias in ALIASES[field].split():
            if alias in at and at[alias] not in found.values():
                found[field] = at[alias]
                break
    return found
