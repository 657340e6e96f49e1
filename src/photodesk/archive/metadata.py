"""Metadata of a picture file: XMP first, then IPTC, then EXIF, field by field.

The decoder (`images.read`) hands over the blocks. Pillow's reader of TIFF directories reads EXIF, defusedxml reads XMP:
both are well kept and small, where bindings to exiv2 are under the GPL and exiftool is a program to install. Nothing
here opens a picture or believes a block: one that is damaged costs its fields, never the photo.
"""

from __future__ import annotations

import datetime
import io
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from photodesk import images
from photodesk.engines.schema import Entry
from photodesk.errors import MissingExtra, require

if TYPE_CHECKING:
    from PIL import TiffImagePlugin

LONGEST = 20_000
"""Characters that a field may have; KEYWORDS is how many keywords."""
KEYWORDS = 500
MAX_XMP = 4 * 2**20
"""Bytes of XMP that are read; real blocks have a few thousand."""

_RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
_DC, _PHOTOSHOP = "{http://purl.org/dc/elements/1.1/}", "{http://ns.adobe.com/photoshop/1.0/}"
_CORE, _RIGHTS = "{http://iptc.org/std/Iptc4xmpCore/1.0/xmlns/}", "{http://ns.adobe.com/xap/1.0/rights/}"
_EXIF, _XMP = "{http://ns.adobe.com/exif/1.0/}", "{http://ns.adobe.com/xap/1.0/}"
_LANGUAGE = "{http://www.w3.org/XML/1998/namespace}lang"

# field → tags in the order in which they are asked; the parts of a place are joined
_XMP_TAGS = {
    "headline": (f"{_PHOTOSHOP}Headline", f"{_DC}title"),
    "caption": (f"{_DC}description",),
    "byline": (f"{_DC}creator",),
    "credit": (f"{_PHOTOSHOP}Credit", f"{_PHOTOSHOP}Source"),
    "copyright": (f"{_DC}rights",),
    "terms": (f"{_RIGHTS}UsageTerms", f"{_PHOTOSHOP}Instructions"),
    "taken": (f"{_PHOTOSHOP}DateCreated", f"{_EXIF}DateTimeOriginal", f"{_XMP}CreateDate"),
}
_XMP_PLACE = (f"{_CORE}Location", f"{_PHOTOSHOP}City", f"{_PHOTOSHOP}State", f"{_PHOTOSHOP}Country")
_IPTC_TAGS = {
    "headline": (105, 5),
    "caption": (120,),
    "byline": (80,),
    "credit": (110, 115),
    "copyright": (116,),
    "terms": (40,),
}
_IPTC_PLACE = (92, 90, 95, 101)
_EXIF_MORE = 0x8769  # the directory that only EXIF has
_EXIF_TAGS = {"headline": (0x9C9B,), "caption": (0x010E, 0x9C9C), "byline": (0x013B, 0x9C9D), "copyright": (0x8298,)}

Found = dict[str, str | tuple[str, ...]]
Fields = Iterable[tuple[str, str | tuple[str, ...]]]


def read(picture: images.Decoded, *, sidecar: Path | None = None) -> tuple[Entry, tuple[str, ...]]:
    """The size of a picture and its metadata.

    Args:
        picture: as it was decoded.
        sidecar: its XMP file, if there is one; it comes before the metadata within the picture.

    Returns:
        an entry with what was found, and what could not be read, in words.

    Raises:
        MissingExtra: defusedxml is not installed.
    """
    sources: list[tuple[str, Callable[[], Fields]]] = [
        ("EXIF", lambda: _exif(picture.exif)),
        ("IPTC", lambda: _iptc(picture.iptc).items()),
        ("XMP", lambda: _xmp(picture.xmp).items()),
    ]
    if sidecar is not None:
        sources.append(("XMP sidecar", lambda: _xmp(images.content(sidecar)).items()))
    found: Found = {}
    trouble: list[str] = []
    with images.quietly:
        for name, fields in sources:
            try:
                found.update((field, value) for field, value in fields() if value)
            except MissingExtra:
                raise
            except Exception as error:  # a stranger's bytes in a decoration: any exception is a damaged block
                trouble.append(
                    f"its {name} cannot be read: {' '.join(str(error).split())[:100] or type(error).__name__}"
                )
    width, height = picture.size
    return Entry(width=width, height=height, **found), tuple(trouble)  # type: ignore[arg-type]


def _exif(block: bytes) -> Iterator[tuple[str, str | tuple[str, ...]]]:
    if not block:
        return
    first = _directory(block)
    for field, tags in _EXIF_TAGS.items():
        yield field, _first(_exif_text(tag, first.get(tag)) for tag in tags)
    yield "keywords", _keywords(_exif_text(0x9C9E, first.get(0x9C9E)).split(";"))
    if _EXIF_MORE in first:
        more = _directory(block, first[_EXIF_MORE])
        yield "taken", _first(_time(str(more.get(tag, "")).replace(":", "-", 2)) for tag in (0x9003, 0x9004))


def _directory(block: bytes, at: int | None = None) -> TiffImagePlugin.ImageFileDirectory_v2:
    """Tags and values of a directory: that at a place, or the first."""
    from PIL import TiffImagePlugin

    big = 43 in block[2:4]  # a BigTIFF, whose places have 8 bytes
    found = TiffImagePlugin.ImageFileDirectory_v2(block[: 16 if big else 8], group=None if at is None else _EXIF_MORE)
    stream = io.BytesIO(block)
    stream.seek(found.next if at is None else at)
    found.load(stream)
    return found


def _exif_text(tag: int, value: object) -> str:
    if isinstance(value, bytes):
        return _clean(value.decode("utf-16-le" if tag >= 0x9C9B else "utf-8", "replace"))
    text = str(value or "")
    try:  # EXIF has no word for its encoding; Pillow takes it for Latin-1, most programs write UTF-8
        return _clean(text.encode("latin-1").decode("utf-8"))
    except UnicodeError:
        return _clean(text)


def _iptc(block: bytes) -> Found:
    sets = _iptc_sets(block)
    if not sets:
        return {}
    utf8 = b"\x1b%G" in sets.get((1, 90), ())

    def every(tag: int) -> list[str]:
        return [_clean(_iptc_text(value, utf8)) for value in sets.get((2, tag), ())]

    found: Found = {field: _first(", ".join(every(tag)) for tag in tags) for field, tags in _IPTC_TAGS.items()}
    found["keywords"] = _keywords(every(25))
    found["place"] = _joined([_first(every(tag)) for tag in _IPTC_PLACE])
    day, clock = _first(every(55)), _first(every(60))[:6]
    found["taken"] = _time(
        f"{day[:4]}-{day[4:6]}-{day[6:8]}T{clock[:2]}:{clock[2:4]}:{clock[4:6]}" if len(clock) == 6 else day
    )
    return found


def _iptc_sets(block: bytes) -> dict[tuple[int, int], list[bytes]]:
    """Values by record and number. Source: IPTC-NAA Information Interchange Model 4.2, chapter 3."""
    sets: dict[tuple[int, int], list[bytes]] = {}
    at = 0
    while block[at : at + 5].strip(b"\0"):
        head = block[at : at + 5]
        if head[0] != 0x1C or len(head) < 5:
            raise ValueError(f"no data set begins at byte {at}")
        at += 5
        size = int.from_bytes(head[3:])
        if size & 0x8000:  # so many bytes with the size follow
            more = size & 0x7FFF
            size = int.from_bytes(block[at : at + more])
            at += more
        sets.setdefault((head[1], head[2]), []).append(block[at : at + size])
        at += size
    return sets


def _iptc_text(value: bytes, utf8: bool) -> str:
    try:
        return value.decode("utf-8")
    except UnicodeError:
        return value.decode("utf-8" if utf8 else "cp1252", "replace")


def _xmp(block: bytes) -> Found:
    if not block:
        return {}
    if len(block) > MAX_XMP:
        raise ValueError(f"it has {len(block):,} bytes")
    tree = require("defusedxml.ElementTree", "archive").fromstring(block.rstrip(b"\0 \r\n"), forbid_dtd=True)
    values: dict[str, list[str]] = {}
    for about in tree.iter(f"{_RDF}Description"):
        for name, text in about.attrib.items():
            values.setdefault(name, [text])
        for child in about:
            values.setdefault(child.tag, _items(child))
    found: Found = {
        field: _first(_clean(", ".join(values.get(tag, []))) for tag in tags) for field, tags in _XMP_TAGS.items()
    }
    found["taken"] = _first(_time(", ".join(values.get(tag, []))) for tag in _XMP_TAGS["taken"])
    found["keywords"] = _keywords(values.get(f"{_DC}subject", []))
    found["place"] = _joined([_clean(", ".join(values.get(tag, []))) for tag in _XMP_PLACE])
    return found


def _items(element: Any) -> list[str]:
    """Texts of a property: all of a list, one language of an alternative, or the text itself."""
    items = list(element.iter(f"{_RDF}li"))
    if not items:
        return [element.text or ""]
    if element.find(f"{_RDF}Alt") is not None:
        plain = [item for item in items if item.get(_LANGUAGE, "x-default") == "x-default"]
        items = (plain or items)[:1]
    return [item.text or "" for item in items]


def _time(text: str) -> str:
    """A time as `YYYY-MM-DDTHH:MM:SS` on the clock of the place, without its zone; empty if it is no whole date."""
    match = re.match(r"(\d{4})-?(\d\d)-?(\d\d)(?:[T ](\d\d):(\d\d)(?::(\d\d))?)?", text.strip())
    if not match:
        return ""
    try:
        return datetime.datetime(*(int(part or 0) for part in match.groups())).isoformat()  # type: ignore[arg-type]
    except ValueError:
        return ""


def _clean(text: str) -> str:
    """Without control characters, empty lines and spaces at the ends."""
    lines = re.sub(r"[^\S\n]+", " ", re.sub(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ufeff]", "", text.replace("\r", "\n")))
    return (
        "\n".join(line for line in map(str.strip, lines.split("\n")) if line)[:LONGEST]
        .encode("utf-8", "replace")
        .decode()
    )


def _keywords(values: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(word for value in values if (word := _clean(value).replace("\n", " "))))[:KEYWORDS]


def _first(values: Iterable[str]) -> str:
    return next((value for value in values if value), "")


def _joined(parts: Sequence[str]) -> str:
    return ", ".join(dict.fromkeys(part.replace("\n", " ") for part in parts if part))
