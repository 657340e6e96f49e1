"""XMP: the properties of the picture itself, out of XML as programs really write it.

Only descriptions right below `rdf:RDF` are of the picture. What lies deeper, in ingredients, history and `DerivedFrom`,
is of other pictures. defusedxml parses, so no entity is expanded.

Source: ISO 16684-1:2019 (XMP data model and serialisation), XMP specification part 3 (extended XMP of a JPEG).
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from xml.etree.ElementTree import Element, ParseError, TreeBuilder

from photodesk.errors import require

MAX_XMP = 16 * 2**20
"""Bytes of XMP that are read; real blocks have a few thousand."""

RDF, XML = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}", "{http://www.w3.org/XML/1998/namespace}"
_EXTENDED = "{http://ns.adobe.com/xmp/note/}HasExtendedXMP"
_CONTAINERS = (f"{RDF}Alt", f"{RDF}Bag", f"{RDF}Seq")
_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_WIDE = ((b"<\0\0\0", "utf-32-le"), (b"\0\0\0<", "utf-32-be"), (b"<\0", "utf-16-le"), (b"\0<", "utf-16-be"))
_DECLARATION = re.compile(r"<\?xml\s[^>]*?(?:encoding\s*=\s*[\"']([\w.:-]+)[\"'][^>]*?)?\?>")
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_AMPERSAND = re.compile(r"&(?:(amp|lt|gt|quot|apos);|#(\d{1,7});|#x([0-9a-fA-F]{1,6});)?")


@dataclass(frozen=True, slots=True)
class Description:
    """Properties of a resource.

    Args:
        properties: name (`{namespace}name`) → the elements that have its value, of each block one.
        cut: whether the XML ends too early; what is whole was read.
    """

    properties: Mapping[str, list[Element]] = field(default_factory=dict)
    cut: bool = False

    def texts(self, name: str, language: str = "") -> list[str]:
        """All texts of a list, one language of an alternative, or the text itself, of the first block that has any.

        Of an alternative that is the default one, else the one in `language` (ISO 639-1), else the first; empty ones do
        not count.
        """
        return next((found for element in self.properties.get(name, []) if (found := _texts(element, language))), [])

    def structs(self, name: str) -> list[Description]:
        """The structures of a list, or the one structure."""
        found = (_items(element) or [element] for element in self.properties.get(name, []))
        return [made for items in found for item in items if (made := _struct(item)).properties]


def read(block: bytes, extended: Mapping[str, bytes] | None = None) -> Description:
    """The description of the picture in a block of XMP, and in the extension that it names.

    Raises:
        ValueError: it is no XML, has a document type, or is too long.
        MissingExtra: defusedxml is not installed.
    """
    if not block.strip(b"\0 \t\r\n"):
        return Description()
    found = _description(block)
    for name in found.texts(_EXTENDED):
        if more := (extended or {}).get(name):
            rest = _description(more)
            names = [*found.properties, *rest.properties]
            both = {tag: [*found.properties.get(tag, []), *rest.properties.get(tag, [])] for tag in names}
            found = Description(both, found.cut or rest.cut)
    return found


def _description(block: bytes) -> Description:
    root, cut = _parsed(_text(block))
    blocks = [about for rdf in root.iter(f"{RDF}RDF") for about in rdf if about.tag == f"{RDF}Description"]
    names = [about.get(f"{RDF}about", about.get("about", "")) for about in blocks]
    this = "" if "" in names else next(iter(names), "")
    properties: dict[str, list[Element]] = {}
    for about, name in zip(blocks, names, strict=True):
        if name == this:
            for tag, element in _properties(about):
                properties.setdefault(tag, []).append(element)
    return Description(properties, cut)


def _text(block: bytes) -> str:
    """The XML as text that a parser takes: without what stands before and after it, characters that XML forbids, and
    with `&amp;` for a bare `&`."""
    if len(block) > MAX_XMP:
        raise ValueError(f"it has {len(block):,} bytes")
    for bom, name in _BOMS:
        if block.startswith(bom):
            text = block[len(bom) :].decode(name, "replace")
            break
    else:
        first = block.find(b"<")
        around = (block[first : first + 4], block[max(0, first - 3) : first + 1])
        wide = next((n for mark, n in _WIDE if around[0].startswith(mark) or around[1].endswith(mark)), "")
        text = block.decode(wide, "replace") if wide else _narrow(block)
    text = _DECLARATION.sub("", text[max(0, text.find("<")) : text.rfind(">") + 1], count=1)
    return _AMPERSAND.sub(_reference, _FORBIDDEN.sub("", text))


def _narrow(block: bytes) -> str:
    declared = _DECLARATION.search(block[:200].decode("latin-1"))
    name = (declared and declared[1]) or "utf-8"
    try:
        return block.decode(name if "16" not in name and "32" not in name else "utf-8")
    except (LookupError, UnicodeError):
        return block.decode("utf-8", "photodesk-cp1252")


def _as_cp1252(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    return error.object[error.start : error.end].decode("cp1252", "replace"), error.end


codecs.register_error("photodesk-cp1252", _as_cp1252)


def _reference(match: re.Match[str]) -> str:
    if match[1]:
        return match[0]
    if number := match[2] or match[3]:
        code = int(number, 10 if match[2] else 16)
        return match[0] if code <= 0x10FFFF and not _FORBIDDEN.match(chr(code)) else ""
    return "&amp;"


class _Tree(TreeBuilder):
    """A tree that can be had before its end."""

    def __init__(self) -> None:
        super().__init__()
        self.root: Element | None = None
        self.depth = 0

    def start(self, tag: str, attrs: dict[str, str], /) -> Element:
        element = super().start(tag, attrs)
        self.root = element if self.root is None else self.root
        self.depth += 1
        return element

    def end(self, tag: str, /) -> Element:
        self.depth -= 1
        return super().end(tag)


def _parsed(text: str) -> tuple[Element, bool]:
    """The tree, as far as it goes, and whether it is cut."""
    tree = _Tree()
    parser = require("defusedxml.ElementTree", "archive").DefusedXMLParser(target=tree, forbid_dtd=True)
    try:
        parser.feed(text)
        parser.close()
    except ParseError:
        if tree.root is None or (tree.depth and len(tree.root) == 0):
            raise
    assert tree.root is not None
    return tree.root, tree.depth > 0


def _properties(about: Element) -> Iterator[tuple[str, Element]]:
    """Properties of a description or structure, whether they were written as attributes or as elements."""
    for name, value in about.attrib.items():
        if not name.startswith((RDF, XML)) and name.startswith("{"):
            element = Element(name)
            element.text = value
            yield name, element
    for child in about:
        if not child.tag.startswith(RDF):
            yield child.tag, child


def _items(element: Element) -> list[Element]:
    return [item for part in element if part.tag in _CONTAINERS for item in part if item.tag == f"{RDF}li"]


def _struct(element: Element) -> Description:
    inner = element.find(f"{RDF}Description")
    properties: dict[str, list[Element]] = {}
    for tag, child in _properties(element if inner is None else inner):
        properties.setdefault(tag, []).append(child)
    return Description(properties)


def _texts(element: Element, language: str) -> list[str]:
    items = [(item, text) for item in _items(element) if (text := _plain(item)).strip()]
    if element.find(f"{RDF}Alt") is not None and items:
        order = [item.get(f"{XML}lang", "").casefold() for item, _ in items]
        at = next((i for i, name in enumerate(order) if name == "x-default"), None)
        if at is None and language:
            at = next((i for i, name in enumerate(order) if name.partition("-")[0] == language), None)
        return [items[at or 0][1]]
    if items:
        return [text for _, text in items]
    return [text] if (text := _plain(element)).strip() else []


def _plain(element: Element) -> str:
    """The text of a value, with or without qualifiers."""
    inner = element.find(f"{RDF}Description")
    for holder in (element, inner):
        if holder is not None:
            value = holder.find(f"{RDF}value")
            if value is not None:
                return value.text or ""
            if said := holder.get(f"{RDF}value") or holder.get(f"{RDF}resource"):
                return said
    return element.text or ""
