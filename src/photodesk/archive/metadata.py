"""What a picture file says of itself: XMP first, then IPTC, then EXIF, field by field.

Pillow finds the blocks, its EXIF and IPTC parts read two of them, and defusedxml reads the third: both are well kept and
small, where bindings to exiv2 are under the GPL and exiftool is a program to install. Nothing here decodes a picture or believes a block:
one that is damaged costs its fields, never the photo.
"""

from __future__ import annotations

import datetime
import io
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from photodesk.engines.schema import Entry
from photodesk.errors import require

if TYPE_CHECKING:
    from PIL import Image

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
_TURNED = (5, 6, 7, 8)

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
_IPTC_TAGS = {"headline": (105, 5), "caption": (120,), "byline": (80,), "credit": (110, 115), "copyright": (116,), "terms": (40,)}
_IPTC_PLACE = (92, 90, 95, 101)
_EXIF_TAGS = {"headline": (0x9C9B,), "caption": (0x010E, 0x9C9C), "byline": (0x013B, 0x9C9D), "copyright": (0x8298,)}

Found = dict[str, str | tuple[str, ...]]


def read(data: bytes, *, sidecar: bytes | None = None) -> tuple[Entry, tuple[str, ...]]:
    """The size of a picture and what it says of itself.

    Args:
        data: bytes of a file that `photos.decode` takes.
        sidecar: bytes of the XMP file that lies beside it, if there is one; it comes before all that the picture says.

    Returns:
        an entry with what was found, and what could not be read, in words.

    Raises:
        MissingExtra: defusedxml is not installed.
    """
    from PIL import Image

    with Image.open(io.BytesIO(data)) as image:
        width, height = image.size
        sources: list[tuple[str, Any, Any]] = [("EXIF", _exif, image), ("IPTC", _iptc, image), ("XMP", _xmp, image.info.get("xmp"))]
        if sidecar is not None:
            sources.append(("XMP sidecar", _xmp, sidecar))
        found: Found = {}
        trouble: list[str] = []
        for name, reader, source in sources:
            try:
                found |= {field: value for field, value in reader(source).items() if value}
            except ImportError:
                raise
            except Exception as error:  # a stranger's bytes in a decoration: any exception is a damaged block
                trouble.append(f"its {name} cannot be read: {' '.join(str(error).split())[:100] or type(error).__name__}")
        if image.format != "TIFF" and _turned(image):
            width, height = height, width
    return Entry(width=width, height=height, **found), tuple(trouble)  # type: ignore[arg-type]


def _turned(image: Image.Image) -> bool:
    try:
        return image.getexif().get(0x0112) in _TURNED
    except Exception:  # as in photos.decode
        return False


def _exif(image: Image.Image) -> Found:
    exif = image.getexif()
    if not exif:
        return {}
    found: Found = {field: _first(_exif_text(tag, exif.get(tag)) for tag in tags) for field, tags in _EXIF_TAGS.items()}
    found["keywords"] = _keywords(_exif_text(0x9C9E, exif.get(0x9C9E)).split(";"))
    more = exif.get_ifd(0x8769)
    found["taken"] = _first(_time(str(more.get(tag, "")).replace(":", "-", 2)) for tag in (0x9003, 0x9004))
    return found


def _exif_text(tag: int, value: object) -> str:
    if isinstance(value, bytes):
        return _clean(value.decode("utf-16-le" if tag >= 0x9C9B else "utf-8", "replace"))
    text = str(value or "")
    try:  # EXIF has no word for its encoding; Pillow takes it for Latin-1, most programs write UTF-8
        return _clean(text.encode("latin-1").decode("utf-8"))
    except UnicodeError:
        return _clean(text)


def _iptc(image: Image.Image) -> Found:
    from PIL import IptcImagePlugin

    info = IptcImagePlugin.getiptcinfo(image)  # type: ignore[arg-type]
    if not info:
        return {}
    utf8 = info.get((1, 90)) == b"\x1b%G"

    def every(tag: int) -> list[str]:
        value = info.get((2, tag), [])
        return [_clean(_iptc_text(one, utf8)) for one in (value if isinstance(value, list) else [value])]

    found: Found = {field: _first(", ".join(every(tag)) for tag in tags) for field, tags in _IPTC_TAGS.items()}
    found["keywords"] = _keywords(every(25))
    found["place"] = _joined([_first(every(tag)) for tag in _IPTC_PLACE])
    day, clock = _first(every(55)), _first(every(60))[:6]
    found["taken"] = _time(f"{day[:4]}-{day[4:6]}-{day[6:8]}T{clock[:2]}:{clock[2:4]}:{clock[4:6]}" if len(clock) == 6 else day)
    return found


def _iptc_text(value: bytes, utf8: bool) -> str:
    try:
        return value.decode("utf-8")
    except UnicodeError:
        return value.decode("utf-8" if utf8 else "cp1252", "replace")


def _xmp(block: bytes | str | None) -> Found:
    if not block:
        return {}
    data = block.encode() if isinstance(block, str) else block
    if len(data) > MAX_XMP:
        raise ValueError(f"it has {len(data):,} bytes")
    tree = require("defusedxml.ElementTree", "archive").fromstring(data.rstrip(b"\0 \r\n"), forbid_dtd=True)
    values: dict[str, list[str]] = {}
    for about in tree.iter(f"{_RDF}Description"):
        for name, text in about.attrib.items():
            values.setdefault(name, [text])
        for child in about:
            values.setdefault(child.tag, _items(child))
    found: Found = {field: _first(_clean(", ".join(values.get(tag, []))) for tag in tags) for field, tags in _XMP_TAGS.items()}
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
    return "\n".join(line for line in map(str.strip, lines.split("\n")) if line)[:LONGEST].encode("utf-8", "replace").decode()


def _keywords(values: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(word for value in values if (word := _clean(value).replace("\n", " "))))[:KEYWORDS]


def _first(values: Iterable[str]) -> str:
    return next((value for value in values if value), "")


def _joined(parts: Sequence[str]) -> str:
    return ", ".join(dict.fromkeys(part.replace("\n", " ") for part in parts if part))
