"""Metadata of a picture file, field by field, out of XMP, IPTC, EXIF and the texts of a PNG.

**Which source counts.** A sidecar comes before all that the picture says. Then, for texts: XMP, IPTC, EXIF, texts of a
PNG. IPTC comes before XMP where the file has a digest of IPTC that is not that of its IPTC, for then a program that
knows no XMP changed it; but a text that IPTC's limits only cut is taken whole from XMP. For dates EXIF comes before
both. Source: Metadata Working Group, Guidelines for handling image metadata 2.0, 2010, sections 2.2, 3 and 5; what
differs is that EXIF's texts come last, since cameras fill them.

**Dates.** When the picture was taken: EXIF DateTimeOriginal, XMP photoshop:DateCreated, XMP exif:DateTimeOriginal,
IPTC 2:55 with 2:60. Where none says that, when it was digitised: EXIF DateTimeDigitized, XMP xmp:CreateDate, XMP
exif:DateTimeDigitized, IPTC 2:62 with 2:63, PNG Creation Time. `dates.moment` reads them.

**Usage terms** are all that any source says, in XMP's UsageTerms and in the instructions: an embargo is never hidden by
another text. Texts with an embargo stand first.

`blocks` finds the blocks, `iptc` and `xmp` read them, Pillow's reader of TIFF directories reads EXIF. Nothing here
opens a picture or believes a block: what cannot be read costs itself, never another field, never the photo.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from itertools import islice
from pathlib import Path
from typing import Any

from photodesk import images
from photodesk.archive import blocks, iptc, xmp
from photodesk.archive.charsets import decoded
from photodesk.archive.dates import moment
from photodesk.archive.embargo import is_named
from photodesk.archive.rights import BETWEEN
from photodesk.engines.schema import Entry
from photodesk.errors import MissingExtra, PhotoError
from photodesk.text_repair import mend

LONGEST = 20_000
"""Characters that a field may have; MOST_WORDS is how many keywords, and how many people."""
MOST_WORDS = 500

CAMERA = re.compile(
    r"""
    [\W_]*                                                                   # nothing but signs
    | (?:(?:olympus|(?:konica\ )?minolta|pentax|samsung|kodak|vivitar)\ )?digital\ (?:still\ )?camera
    | sony\ dsc | samsung\ camera\ pictures | exif[_ ]jpeg(?:[_ ]picture)?
    | (?:[a-z]:)?[\\/]?dcim[\\/].* | (?:.*[\\/])?\d{3}\w{5}[\\/]\w{8}\.\w{3}  # a path of the card
    | (?:_?dsc[_nf]?|img[_p]?|dji_|gopr|pict|p\d{3}|cimg|sam_)\d{4,5}(?:\.jpe?g)?
    """,
    re.IGNORECASE | re.VERBOSE,
)
"""Captions and titles that cameras write and nobody meant; they are left out."""

LANGUAGES = {
    **{"arabic": "ar", "danish": "da", "dutch": "nl", "english": "en", "finnish": "fi", "french": "fr", "german": "de"},
    **{"greek": "el", "hungarian": "hu", "italian": "it", "norwegian": "no", "portuguese": "pt", "romanian": "ro"},
    **{"russian": "ru", "spanish": "es", "swedish": "sv", "turkish": "tr"},
}
"""An archive's language → ISO 639-1, as XMP names it."""

_DC, _PHOTOSHOP = "{http://purl.org/dc/elements/1.1/}", "{http://ns.adobe.com/photoshop/1.0/}"
_CORE, _EXT = "{http://iptc.org/std/Iptc4xmpCore/1.0/xmlns/}", "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}"
_EXIF, _XMP = "{http://ns.adobe.com/exif/1.0/}", "{http://ns.adobe.com/xap/1.0/}"
_RIGHTS = "{http://ns.adobe.com/xap/1.0/rights/}"
_MWG, _MP = "{http://www.metadataworkinggroup.com/schemas/regions/}", "{http://ns.microsoft.com/photo/1.2/}"
_MPRI, _MPREG = "{http://ns.microsoft.com/photo/1.2/t/RegionInfo#}", "{http://ns.microsoft.com/photo/1.2/t/Region#}"

# field → tags in the order in which they are asked
_XMP_TAGS = {
    "headline": (f"{_PHOTOSHOP}Headline", f"{_DC}title"),
    "caption": (f"{_DC}description",),
    "byline": (f"{_DC}creator",),
    "credit": (f"{_PHOTOSHOP}Credit", f"{_PHOTOSHOP}Source"),
    "copyright": (f"{_DC}rights",),
    "usage": (f"{_RIGHTS}UsageTerms",),
    "instructions": (f"{_PHOTOSHOP}Instructions",),
    "provider": (f"{_PHOTOSHOP}Source",),
    "sublocation": (f"{_CORE}Location",),
    "event": (f"{_EXT}Event",),
    "alt_text": (f"{_CORE}AltTextAccessibility",),
    "label": (f"{_XMP}Label",),
}
_XMP_PLACE = (f"{_CORE}Location", f"{_PHOTOSHOP}City", f"{_PHOTOSHOP}State", f"{_PHOTOSHOP}Country")
_XMP_SPOT = tuple(_EXT + part for part in ("LocationName", "Sublocation", "City", "ProvinceState", "CountryName"))
_XMP_TAKEN = (f"{_PHOTOSHOP}DateCreated", f"{_EXIF}DateTimeOriginal")
_XMP_DIGITISED = (f"{_XMP}CreateDate", f"{_EXIF}DateTimeDigitized")
_IPTC_TAGS = {
    "headline": (105, 5),
    "caption": (120,),
    "byline": (80,),
    "credit": (110, 115),
    "copyright": (116,),
    "instructions": (40,),
    "provider": (115,),
    "sublocation": (92,),
}
_IPTC_PLACE = (92, 90, 95, 101)
_IPTC_DATES = {"taken": (55, 60), "digitised": (62, 63)}
_EXIF_MORE = 0x8769  # the directory that only EXIF has
_EXIF_TAGS = {"headline": (0x9C9B,), "caption": (0x010E, 0x9C9C), "byline": (0x013B, 0x9C9D), "copyright": (0x8298,)}
_EXIF_KEYWORDS, _EXIF_RATING, _EXIF_TAKEN, _EXIF_DIGITISED = 0x9C9E, 0x4746, 0x9003, 0x9004
_PNG_TAGS = {"headline": "Title", "caption": "Description", "byline": "Author", "copyright": "Copyright"}
_TRUNCATED = 32
"""Bytes of the shortest limit that IPTC sets a text."""

Found = dict[str, Any]
"""Field → value: a text, a tuple of texts or a number."""


def read(picture: images.Decoded | bytes, *, sidecar: Path | None = None) -> tuple[Entry, tuple[str, ...]]:
    """`describe`, of one file.

    Args:
        picture: as it was decoded, or the bytes of its file.
        sidecar: the XMP file that lies beside it, if there is one.

    Raises:
        MissingExtra: as `describe`.
        PhotoError: the bytes are no picture.
    """
    sidecars, trouble = {}, []
    if sidecar is not None:
        try:
            sidecars[sidecar.name] = images.content(sidecar)
        except PhotoError as error:
            trouble.append(unread(f"XMP sidecar {sidecar.name}", f"{error.what}; {error.advice}"))
    entry, more = describe(images.read(picture, where="picture") if isinstance(picture, bytes) else picture, sidecars)
    return entry, (*more, *trouble)


def describe(
    picture: images.Decoded, sidecars: Mapping[str, bytes], *, language: str = ""
) -> tuple[Entry, tuple[str, ...]]:
    """The size and the metadata of a picture.

    Args:
        picture: as it was decoded.
        sidecars: contents of the XMP files that lie beside it and its copies, by name; an earlier one counts more.
        language: which of several languages is wanted where none is the default (ISO 639-1).

    Returns:
        an entry with what was found, and what could not be read, in words.

    Raises:
        MissingExtra: defusedxml is not installed.
    """
    trouble: list[str] = []

    def of(name: str, reader: Callable[[], tuple[Found, bool]]) -> Found:
        try:
            found, cut = reader()
        except MissingExtra:
            raise
        except Exception as error:  # untrusted bytes in a decoration: any exception is a damaged block
            trouble.append(unread(name, str(error) or type(error).__name__))
            return {}
        if cut:
            trouble.append(f"its {name} is cut short; what is whole of it was read")
        return found

    with images.quietly:
        parts = blocks.find(picture)
        exif = of("EXIF", lambda: (_exif(parts.exif), False))
        png = of("PNG texts", lambda: (_png(parts.texts), False))
        iim = of("IPTC", lambda: _iptc(parts.iptc))
        xml = of("XMP", lambda: _xmp(parts.xmp, parts.extended, language))
        beside = [of(f"XMP sidecar {name}", lambda b=block: _xmp(b, {}, language)) for name, block in sidecars.items()]  # type: ignore[misc]
    if parts.digest and parts.digest != hashlib.md5(parts.iptc, usedforsecurity=False).digest():
        inside = [{field: _whole(value, xml.get(field)) for field, value in iim.items()}, xml]
    else:
        inside = [xml, iim]
    by_text, by_date = [*beside, *inside, exif, png], [*beside, exif, *inside, png]
    found = _first_of(by_text)
    found["taken"] = _first_of(by_date, ("taken",))["taken"] or _first_of(by_date, ("digitised",))["digitised"]
    found["terms"] = _terms([one.get(field, "") for one in by_text for field in ("usage", "instructions")])
    found["place"] = found["place"] or found["spot"] or found["shown"].partition("; ")[0]
    width, height = picture.size
    known = {name: value for name, value in found.items() if name not in ("digitised", "usage", "spot")}
    return Entry(width=width, height=height, **known), tuple(trouble)


def together(known: Entry, more: Entry) -> Entry:
    """An entry with its empty fields filled from another of the same photo, and the usage terms of both."""
    filled = {f.name: getattr(known, f.name) or getattr(more, f.name) for f in fields(Entry)}
    terms = [part for entry in (known, more) for part in entry.terms.split(BETWEEN)]
    return Entry(**filled | {"terms": _terms(terms)})


def unread(name: str, why: str) -> str:
    """That a part of the metadata cannot be read, in words."""
    return f"its {name} cannot be read: {' '.join(why.removeprefix('cannot be read: ').split())[:100]}"


_EMPTY: Found = {
    **dict.fromkeys((*_XMP_TAGS, "place", "spot", "shown", "taken", "digitised"), ""),
    **{"keywords": (), "people": (), "rating": 0, "urgency": 0},
}


def _first_of(sources: Sequence[Found], fields: Iterable[str] = tuple(_EMPTY)) -> Found:
    """The first value that is not empty, field by field."""
    return {field: next((one[field] for one in sources if one.get(field)), _EMPTY[field]) for field in fields}


def _whole(value: Any, longer: Any) -> Any:
    """XMP's text where IPTC's is only the beginning of it."""
    if isinstance(value, str) and isinstance(longer, str) and len(value.encode()) >= _TRUNCATED - 4:
        return longer if longer.startswith(value) else value
    return value


def _terms(texts: Sequence[str]) -> str:
    """All distinct usage terms, embargoes first; one that another begins with says nothing more."""
    kept: dict[str, str] = {}
    for text in sorted(filter(None, texts), key=len, reverse=True):
        bare = " ".join(text.split()).casefold()
        if not any(other.startswith(bare) for other in kept):
            kept[bare] = text
    order = {text: at for at, text in reversed(list(enumerate(texts)))}
    return BETWEEN.join(sorted(kept.values(), key=lambda text: (not is_named(text), order[text])))


def _exif(block: bytes) -> Found:
    if not block:
        return {}
    first = blocks.directory(block)

    def text(tag: int) -> str:
        with contextlib.suppress(Exception):  # one value that cannot be read costs no other
            return _exif_text(tag, first.get(tag))
        return ""

    found: Found = {field: _first(text(tag) for tag in tags) for field, tags in _EXIF_TAGS.items()}
    found["byline"] = ", ".join(_words(found["byline"].split(";")))
    found["keywords"] = _words(text(_EXIF_KEYWORDS).split(";"))
    with contextlib.suppress(Exception):
        found["rating"] = _number(str(first.get(_EXIF_RATING, "")), range(1, 6))
    with contextlib.suppress(Exception):
        if _EXIF_MORE in first:
            more = blocks.directory(block, first[_EXIF_MORE])
            found["taken"], found["digitised"] = (moment(str(more.get(t, ""))) for t in (_EXIF_TAKEN, _EXIF_DIGITISED))
    return _meant(found)


def _exif_text(tag: int, value: object) -> str:
    if isinstance(value, bytes) and tag >= _EXIF_TAGS["headline"][0]:
        return _clean(value.decode("utf-16-le", "replace"))
    # EXIF has no word for its encoding, and Pillow takes it for Latin-1; a copyright has two parts
    raw = value if isinstance(value, bytes) else str(value or "").encode("latin-1", "replace")
    return _clean(", ".join(part.strip() for part in decoded([raw])[0].split("\0") if part.strip()))


def _iptc(block: bytes) -> tuple[Found, bool]:
    sets = iptc.read(block)

    def every(tag: int) -> list[str]:
        return [text for value in sets.texts.get(tag, ()) if (text := _clean(value))]

    found: Found = {field: _first(_first(every(tag)) for tag in tags) for field, tags in _IPTC_TAGS.items()}
    found["byline"] = ", ".join(every(80))
    found["keywords"] = _words(every(25))
    found["place"] = _joined([_first(every(tag)) for tag in _IPTC_PLACE])
    found["urgency"] = _number(_first(every(10)), range(1, 9))
    for field, (day, clock) in _IPTC_DATES.items():
        found[field] = moment(_first(every(day)), _first(every(clock)))
    return _meant(found), sets.cut


def _xmp(block: bytes, extended: Mapping[str, bytes], language: str) -> tuple[Found, bool]:
    about = xmp.read(block, extended)

    def text(tag: str) -> str:
        return _clean(", ".join(about.texts(tag, language)))

    found: Found = {field: _first(text(tag) for tag in tags) for field, tags in _XMP_TAGS.items()}
    found["keywords"] = _words(about.texts(f"{_DC}subject"))
    found["place"] = _joined([text(tag) for tag in _XMP_PLACE])
    found["taken"] = _first(moment(text(tag)) for tag in _XMP_TAKEN)
    found["digitised"] = _first(moment(text(tag)) for tag in _XMP_DIGITISED)
    found["people"] = _people(about, language)
    for field, tag in (("spot", "LocationCreated"), ("shown", "LocationShown")):
        spots = [
            _joined([_clean(_first(one.texts(part, language))) for part in _XMP_SPOT])
            for one in about.structs(_EXT + tag)
        ]
        found[field] = "; ".join(dict.fromkeys(filter(None, spots)))
    found["rating"] = _number(text(f"{_XMP}Rating"), range(-1, 6))
    found["urgency"] = _number(text(f"{_PHOTOSHOP}Urgency"), range(1, 9))
    return _meant(found), about.cut


def _people(about: xmp.Description, language: str) -> tuple[str, ...]:
    """Names of those who are shown: as a list, with details, and of regions that MWG's schema (also Picasa's) and
    Microsoft's describe."""
    names = about.texts(f"{_EXT}PersonInImage")
    for one in about.structs(f"{_EXT}PersonInImageWDetails"):
        names += one.texts(f"{_EXT}PersonName", language)
    for regions in about.structs(f"{_MWG}Regions"):
        for region in regions.structs(f"{_MWG}RegionList"):
            if _first(region.texts(f"{_MWG}Type")) in ("Face", ""):
                names += region.texts(f"{_MWG}Name")
    for regions in about.structs(f"{_MP}RegionInfo"):
        for region in regions.structs(f"{_MPRI}Regions"):
            names += region.texts(f"{_MPREG}PersonDisplayName")
    return _words(names)


def _png(texts: Mapping[str, str]) -> Found:
    found: Found = {field: _clean(texts.get(name, "")) for field, name in _PNG_TAGS.items()}
    return _meant(found | {"digitised": moment(texts.get("Creation Time", ""))})


def _meant(found: Found) -> Found:
    """Without the captions that cameras write."""
    return {
        field: "" if field in ("headline", "caption") and CAMERA.fullmatch(value) else value
        for field, value in found.items()
    }


def _clean(text: str) -> str:
    """Each line mended, without empty ones."""
    lines = (mend(line)[0] for line in text[: 2 * LONGEST].replace("\r", "\n").split("\n"))
    return "\n".join(filter(None, lines))[:LONGEST].encode("utf-8", "replace").decode()


def _number(text: str, known: range) -> int:
    """A whole number that the field knows; 0 if it is none."""
    match = re.fullmatch(r"(-?\d)(?:\.0+)?", text.strip())
    return number if match and (number := int(match[1])) in known else 0


def _words(values: Iterable[str]) -> tuple[str, ...]:
    words = (_clean(value).replace("\n", " ") for value in islice(values, 2 * MOST_WORDS))
    return tuple(dict.fromkeys(filter(None, words)))[:MOST_WORDS]


def _first(values: Iterable[str]) -> str:
    return next((value for value in values if value), "")


def _joined(parts: Sequence[str]) -> str:
    return ", ".join(dict.fromkeys(part.replace("\n", " ") for part in parts if part))
