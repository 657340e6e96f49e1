"""Which column of a file means what: one table per edition of NewsImages, aliases for everything else.

A column name is compared without case, spaces and punctuation: `# article`, `Article` and `ARTICLE` are one. Layouts
are those of the files that the organisers gave out; of 2022 no column names are public, so its files are known by their
names (RSS, RT, TW) and read by the aliases.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from photodesk import text_repair
from photodesk.errors import UsageError, did_you_mean

FIELDS = ("id", "title", "lead", "text", "tags", "url", "date", "language", "subset", "photo", "file", "photo_url")
"""What photodesk looks for in a table. `photo` is a picture's id, `file` the name of its file, `photo_url` where it
came from."""


@dataclass(frozen=True, slots=True)
class Edition:
    """A known layout.

    Args:
        name: as messages call it.
        marks: plain column names that must all be there.
        without: plain column names that must not be there.
        columns: field → plain column name; other fields are not read. Of several names for the id (`aid/url`) the one
            that tells most rows apart is taken.
    """

    name: str
    marks: frozenset[str]
    without: frozenset[str]
    columns: Mapping[str, str]


def _edition(name: str, marks: str, columns: str, without: str = "") -> Edition:
    return Edition(
        name, frozenset(marks.split()), frozenset(without.split()), dict(pair.split("=") for pair in columns.split())
    )


TEST_2021 = "NewsImages 2021 test articles"
TRUTH_2021 = "NewsImages 2021"

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
    ),
    _edition(  # titleEN and textEN are poor machine translations: not read
        "NewsImages 2023 RT",
        "url hashvalue title text titleen texten",
        "id=url title=title text=text url=url date=date photo=hashvalue photo_url=img",
    ),
    _edition(  # its text is names of people and organisations, not prose
        "NewsImages 2023 GDELT",
        "article aid url img iid hashvalue title text imgfile date",
        "id=aid/url title=title tags=text url=url date=date photo=iid file=imgfile photo_url=img",
    ),
    _edition(
        TRUTH_2021,
        "article aid url img iid hashvalue title text imgfile",
        "id=article/aid/url title=title text=text url=url photo=iid file=imgfile photo_url=img",
        without="date",
    ),
    _edition(
        "NewsImages 2021 (restricted release)",
        "article aid url imageurl iid hashvalueimage title text nreads",
        "id=article/aid/url title=title text=text url=url photo=iid file=hashvalueimage photo_url=imageurl",
    ),
    _edition(
        TEST_2021,
        "articleid aid url hashvalue title text",
        "id=articleid title=title text=text url=url",
        without="img iid",
    ),
    _edition(
        "NewsImages 2021 test images",
        "img iid imgfile",
        "photo=iid file=imgfile photo_url=img",
        without="title articleid",
    ),
    _edition(
        "NYTimes800k",
        "picture caption headline paragraphs weburl",
        "id=picture title=headline lead=caption text=paragraphs url=weburl date=pubdate subset=split photo=hash",
    ),
)

ALIASES = {
    "id": "articleid id aid article newsid docid documentid storyid itemid postid contentid key guid uid uuid "
    "artikelid artikelnr artikelnummer meldungsid meldungid beitragsid beitragid storynr textid nr nummer "
    "number lfdnr no",
    "title": "title articletitle headline headlinemain articleheadline head newstitle storytitle posttitle titel "
    "artikeltitel ueberschrift uberschrift hauptueberschrift artikelueberschrift schlagzeile titelzeile "
    "hauptzeile heading headlinetext caption sentence text",
    "lead": "lead teaser subtitle subhead subheadline summary abstract snippet standfirst description intro "
    "vorspann anriss anreisser teasertext untertitel unterzeile unterueberschrift dachzeile einleitung "
    "zusammenfassung kurztext kurzfassung beschreibung",
    "text": "text articletext fulltext body articlebody content paragraph paragraphs newstext bodytext maintext "
    "storytext articlecontent artikeltext volltext fliesstext haupttext beitragstext lauftext inhalt",
    "tags": "tags articletags keywords topics entities schlagworte schlagwoerter schlagwort stichworte "
    "stichwoerter keyword themen",
    "url": "url articleurl link weburl permalink newsurl articlelink storyurl artikelurl artikellink adresse "
    "webadresse",
    "date": "date published publishedat publicationdate pubdate created datetime timestamp datum publishdate "
    "publisheddate datepublished createdat articledate erscheinungsdatum veroeffentlicht "
    "veroeffentlichtam publiziert publiziertam erschienen erschienenam erstellt erstelltam",
    "language": "language lang locale sprache languagecode langcode sprachcode",
    "subset": "subset split partition part feed",
    "photo": "imageid photoid pictureid iid imgid image photo picture img imagehash hash bild bildid hashvalue "
    "bildnr bildnummer foto fotoid fotonr fotonummer photonumber imagenumber mediaid images photos "
    "pictures bilder fotos",
    "file": "imgfile imagefile photofile picturefile filename imagefilename photofilename picturefilename "
    "imagename photoname picturename filepath imagepath photopath picturepath file bilddatei "
    "bilddateiname bilddateien bildname bildpfad fotodatei fotoname fotopfad dateiname dateipfad datei "
    "pfad path",
    "photo_url": "imageurl photourl pictureurl imgurl imagelink photolink picturelink imagesrc img bildurl bildlink "
    "bildadresse fotourl fotolink",
}
"""Plain column names by field, the surest first; a column serves one field only, in the order of `FIELDS`."""

_FIELD_OF = {
    name: field for edition in EDITIONS for field, names in edition.columns.items() for name in names.split("/")
}
_FIELD_OF |= {mark: "id" for edition in EDITIONS for mark in edition.marks if mark not in _FIELD_OF}
_FIELD_OF |= {alias: field for field in reversed(FIELDS) for alias in ALIASES[field].split()}
_PARTS_2022 = re.compile(r"(?:^|[^a-z])(rss|rt|tw)(?:[^a-z]|$)")
_GENERAL = re.compile(r"[-_. /]*(?:articles?|images?|text|img|gt)$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Layout:
    """What a header was taken for.

    Args:
        edition: empty for a file of no known edition.
        evidence: why.
        at: field → its column's position in the header.
        keys: positions of the columns that may hold the id, the surest first.
    """

    edition: str
    evidence: str
    at: Mapping[str, int]
    keys: tuple[int, ...]


def plain(header: str) -> str:
    """A column name, mended, without case, spaces and punctuation; umlauts are written out."""
    folded = text_repair.mend(header)[0].casefold().translate({0xE4: "ae", 0xF6: "oe", 0xFC: "ue"})
    return re.sub(r"[\W_]+", "", folded)


def known(override: Mapping[str, str]) -> Callable[[str], str]:
    """Says which field a column name stands for, whatever the other columns are; empty for a name that no layout has.

    Args:
        override: field → column name, by the user.
    """
    fields = {plain(column): field for field, column in override.items()}
    return lambda header: fields.get(plain(header)) or _FIELD_OF.get(plain(header), "")


def recognise(header: Sequence[str], override: Mapping[str, str], name: str = "") -> Layout:
    """Which edition a file belongs to and where each field stands in it.

    Args:
        header: column names as the file has them.
        override: field → column name, by the user; wins over everything.
        name: the file, with the folders that it lies in below the data folder; 2022's are known by it.

    Raises:
        UsageError: `override` names an unknown field, or a column that this header does not have.
    """
    at: dict[str, int] = {}
    for position, column in enumerate(header):
        if key := plain(column):
            at.setdefault(key, position)
    chosen = {field: _column(field, column, header, at) for field, column in override.items()}
    part = _PARTS_2022.search(name.casefold())
    for edition in EDITIONS:
        if edition.marks <= at.keys() and not edition.without & at.keys():
            keys = tuple(at[key] for key in edition.columns.get("id", "").split("/") if key in at)
            found = {field: at[column] for field, column in edition.columns.items() if column in at}
            found |= ({"id": keys[0]} if keys else {}) | chosen
            names = ", ".join(header[at[mark]] for mark in sorted(edition.marks, key=at.__getitem__))
            evidence = f"its columns are {names}"
            if part and edition.name == TRUTH_2021:
                return Layout("NewsImages 2022", f"its name says {part[1].upper()} and {evidence}", found, keys)
            return Layout(edition.name, evidence, found, (found["id"],) if "id" in chosen else keys)
    found = _guess(at, chosen)
    keys = (found["id"],) if "id" in found else ()
    if part and "title" in found and not chosen:
        return Layout("NewsImages 2022", f"its name says {part[1].upper()}; columns taken by their names", found, keys)
    return Layout("", "columns taken by their names", found, keys)


def _column(field: str, column: str, header: Sequence[str], at: Mapping[str, int]) -> int:
    if field not in FIELDS:
        raise UsageError(f"no field {field!r}; fields are {', '.join(FIELDS)}")
    if column in header:
        return list(header).index(column)
    if plain(column) in at:
        return at[plain(column)]
    hint = did_you_mean(column, header) or f"; it has: {', '.join(filter(None, header))}"
    raise UsageError(f"no column {column!r} for the {field}{hint}")


def _guess(at: Mapping[str, int], chosen: Mapping[str, int]) -> dict[str, int]:
    found = dict(chosen)
    for field in FIELDS:
        if field not in found:
            taken = set(found.values())
            position = next(
                (at[alias] for alias in ALIASES[field].split() if at.get(alias, -1) not in {-1, *taken}), None
            )
            if position is not None:
                found[field] = position
    return found


def subset_name(name: str) -> str:
    """The part of the data that a file holds, by its name and folder: `RSS/train.csv` → `RSS/train`.

    Files that belong together get one name: `…-Test-Text.tsv` and `…-Test-Img.tsv`, a month and its truth (`-gt`).
    """
    folder, slash, last = name.rpartition("/")
    stem = folder + slash + (last.rpartition(".")[0] or last)
    while (shorter := _GENERAL.sub("", stem)) not in (stem, ""):
        stem = shorter
    return stem


def scramble(article: str) -> str:
    """The id that the 2021 test set shows for a true article id of nine digits; any other text as it is."""
    return f"1{article[4:9]}{article[:4]}" if re.fullmatch(r"[0-9]{9}", article) else article


def unscramble(article: str) -> str:
    """The true article id behind a ten-digit one of the 2021 test set; any other text as it is."""
    return article[6:10] + article[1:6] if re.fullmatch(r"[0-9]{10}", article) else article


def unfold(record: dict[str, Any]) -> list[dict[str, Any]]:
    """One record per picture of an NYTimes800k article (a document of its collection `articles`); others stay one.

    `image_positions` says which parts of `parsed_section` are captions of pictures; the text is that of all its
    paragraphs.
    Source: the collection's layout as published with Tran et al., Transform and Tell, CVPR 2020.
    """
    parts, positions = record.get("parsed_section"), record.get("image_positions")
    if not isinstance(parts, list) or not isinstance(positions, list):
        return [record]
    sections = [part if isinstance(part, dict) else {} for part in parts]
    headline = record.get("headline")
    paragraphs = "\n".join(str(part.get("text", "")) for part in sections if part.get("type") == "paragraph")
    shared = {
        "headline": headline.get("main") if isinstance(headline, dict) else headline,
        "paragraphs": paragraphs,
        "web_url": record.get("web_url"),
        "pub_date": record.get("pub_date"),
        "split": record.get("split"),
    }
    identity = record.get("_id")
    identity = next(iter(identity.values()), "") if isinstance(identity, dict) else identity
    found = []
    for position in map(_number, positions):
        if 0 <= position < len(sections):
            part = sections[position]
            found.append(
                {"picture": f"{identity}:{position}", "caption": part.get("text"), "hash": part.get("hash")} | shared
            )
    return found


def _number(value: object) -> int:
    """A position, also as MongoDB's canonical export writes it: `{"$numberInt": "3"}`; -1 for anything else."""
    if isinstance(value, dict):
        value = next(iter(value.values()), "")
    return (
        int(value)
        if isinstance(value, int) or (isinstance(value, str) and value.isdecimal() and len(value) < 10)
        else -1
    )
