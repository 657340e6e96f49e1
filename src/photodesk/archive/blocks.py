"""Where a picture file keeps its metadata: segments of a JPEG, chunks of a PNG or WebP, tags of a TIFF, resources of
Photoshop. The blocks are found here and read elsewhere.
"""

from __future__ import annotations

import contextlib
import io
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from photodesk.images import Decoded

if TYPE_CHECKING:
    from PIL import TiffImagePlugin

MOST = 16 * 2**20
"""Bytes that are read of Photoshop's resources, and of all texts of a PNG once they are unpacked."""

_EXIF, _XMP, _EXTENSION = b"Exif\0", b"http://ns.adobe.com/xap/1.0/", b"http://ns.adobe.com/xmp/extension/\0"
_PHOTOSHOP = re.compile(rb"Photoshop 3\.0\0|Adobe_Photoshop2\.5:.{4}", re.DOTALL)
_RESOURCE = (b"8BIM", b"MeSa", b"PHUT", b"AgHg", b"DCSR")
_IPTC_RESOURCE, _DIGEST_RESOURCE = 0x0404, 0x0425
_XMP_TAG, _IPTC_TAG, _RESOURCES_TAG = 700, 33723, 34377
_RAW = "Raw profile type "
_SUB_DIRECTORY = 0x8769


@dataclass(frozen=True, slots=True)
class Blocks:
    """Metadata of one file, unread; what it has not is empty.

    Args:
        exif: a TIFF structure.
        iptc: its data sets.
        digest: MD5 of the data sets as they were when XMP was last written beside them.
        xmp: its XML.
        extended: more XMP by the name that the first one calls it by.
        texts: of a PNG, by keyword.
    """

    exif: bytes = b""
    iptc: bytes = b""
    digest: bytes = b""
    xmp: bytes = b""
    extended: Mapping[str, bytes] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)


def find(picture: Decoded) -> Blocks:
    """The blocks of a picture's file."""
    reader = {"JPEG": _jpeg, "PNG": _png, "WEBP": _webp, "GIF": _gif, "TIFF": _tiff}.get(picture.format)
    if reader:
        return reader(picture.data)
    exif = _tiff_structure(picture.exif)
    return _tiff(exif) if picture.format == "RAW" else Blocks(exif, xmp=picture.xmp)


def directory(block: bytes, at: int | None = None) -> TiffImagePlugin.ImageFileDirectory_v2:
    """Tags and values of a TIFF structure's directory: that at a place, or the first."""
    from PIL import TiffImagePlugin

    big = 43 in block[2:4]  # a BigTIFF, whose places have 8 bytes
    found = TiffImagePlugin.ImageFileDirectory_v2(
        block[: 16 if big else 8], group=None if at is None else _SUB_DIRECTORY
    )
    stream = io.BytesIO(block)
    stream.seek(found.next if at is None else at)
    found.load(stream)
    return found


def _tiff_structure(block: bytes) -> bytes:
    while block.startswith(_EXIF):
        block = block[6:]
    return block


def _jpeg(data: bytes) -> Blocks:
    exif, xmp = b"", b""
    resources: list[bytes] = []
    more: dict[str, dict[int, bytes]] = {}
    for marker, body in _segments(data):
        if marker == 0xE1 and body.startswith(_EXIF):
            exif = exif or _tiff_structure(body)
        elif marker == 0xE1 and body.startswith(_EXTENSION):
            name, offset, part = body[35:67].decode("latin-1"), int.from_bytes(body[71:75]), body[75:]
            more.setdefault(name, {})[offset] = part
        elif marker == 0xE1 and body.startswith(_XMP):
            xmp = xmp or body[len(_XMP) :].lstrip(b"\0")
        elif marker == 0xED and (head := _PHOTOSHOP.match(body)):
            resources.append(body[head.end() :])
    iptc, digest = _resources(resources)
    extended = {name: b"".join(part for _, part in sorted(parts.items())) for name, parts in more.items()}
    return Blocks(exif, iptc, digest, xmp, extended)


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Marker and content of what comes before the pixels; bytes between segments are skipped."""
    at = 2
    while (at := data.find(b"\xff", at)) >= 0:
        while data[at : at + 1] == b"\xff":
            at += 1
        marker = int.from_bytes(data[at : at + 1])
        at += 1
        if marker in (0xDA, 0xD9):
            return
        size = int.from_bytes(data[at : at + 2])
        if marker >= 0xC0 and not 0xD0 <= marker <= 0xD8 and size >= 2:
            yield marker, data[at + 2 : at + size]
            at += size


def _resources(parts: Sequence[bytes]) -> tuple[bytes, bytes]:
    """IPTC and its digest out of Photoshop's resources. A part that does not begin with one continues the part before:
    a segment of a JPEG has at most 64 KiB."""
    joined: list[list[bytes]] = []
    room = MOST
    for part in parts:
        if not joined or part.startswith(_RESOURCE):
            joined.append([])
        joined[-1].append(part[:room])
        room = max(0, room - len(part))
    found: dict[int, list[bytes]] = {_IPTC_RESOURCE: [], _DIGEST_RESOURCE: []}
    for block in map(b"".join, joined):
        at = 0
        while True:
            if not block.startswith(_RESOURCE, at) and (at := block.find(_RESOURCE[0], at)) < 0:
                break
            name = at + 6
            start = name + (1 + int.from_bytes(block[name : name + 1]) + 1) // 2 * 2 + 4
            number, size = int.from_bytes(block[at + 4 : name]), int.from_bytes(block[start - 4 : start])
            if number in found:
                found[number].append(block[start : start + size])
            at = start + size
    return b"".join(found[_IPTC_RESOURCE]), b"".join(found[_DIGEST_RESOURCE])


def _iptc(block: bytes) -> tuple[bytes, bytes]:
    """IPTC and its digest, of data sets or of resources around them."""
    if head := _PHOTOSHOP.match(block):
        block = block[head.end() :]
    return _resources([block]) if block.startswith(_RESOURCE) else (block, b"")


def _png(data: bytes) -> Blocks:
    raw: dict[str, bytes] = {}
    exif, at, room = b"", 8, MOST
    while at + 8 <= len(data):
        size, kind = int.from_bytes(data[at : at + 4]), data[at + 4 : at + 8]
        start, at = at + 8, at + 12 + size
        if kind == b"eXIf":
            exif = exif or _tiff_structure(data[start : start + size])
        elif kind in (b"tEXt", b"zTXt", b"iTXt") and room > 0:
            name, _, rest = data[start : start + size].partition(b"\0")
            with contextlib.suppress(zlib.error):
                text = _png_text(kind, rest, room)
                room -= len(text)
                raw.setdefault(name.decode("latin-1"), text)
    profiles = {
        name.removeprefix(_RAW).casefold(): found
        for name in raw
        if name.startswith(_RAW) and (found := _raw(raw[name]))
    }
    iptc, digest = _iptc(profiles.get("iptc", b"") or profiles.get("8bim", b""))
    xmp = raw.get("XML:com.adobe.xmp", b"") or profiles.get("xmp", b"")
    for profile in (profiles.get("exif", b""), profiles.get("app1", b"")):
        if profile.startswith(_XMP):
            xmp = xmp or profile[len(_XMP) :].lstrip(b"\0")
        else:
            exif = exif or _tiff_structure(profile)
    texts = {name: _either(value) for name, value in raw.items() if not name.startswith((_RAW, "XML:"))}
    return Blocks(exif, iptc, digest, xmp, texts=texts)


def _png_text(kind: bytes, rest: bytes, room: int) -> bytes:
    """The text of a chunk, after its keyword, cut to so many bytes."""
    packed = kind == b"zTXt"
    if kind == b"iTXt":
        packed, rest = rest[:1] == b"\1", rest[2:].split(b"\0", 2)[-1]
    elif packed:
        rest = rest[1:]
    return zlib.decompressobj().decompress(rest, room) if packed else rest[:room]


def _raw(text: bytes) -> bytes:
    """A profile that ImageMagick wrote as a text: its name, its length and hexadecimal digits."""
    match = re.match(rb"\s*[^\n]+\n\s*\d+\n([0-9a-fA-F\s]+)", text)
    digits = b"".join(match[1].split()) if match else b""
    return bytes.fromhex(digits[: len(digits) // 2 * 2].decode())


def _either(value: bytes) -> str:
    try:  # the standard says Latin-1 of older chunks, most programs write UTF-8
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return value.decode("latin-1")


def _webp(data: bytes) -> Blocks:
    found: dict[bytes, bytes] = {}
    at = 12
    while at + 8 <= len(data):
        kind, size = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        if kind in (b"EXIF", b"XMP "):
            found.setdefault(kind, data[at + 8 : at + 8 + size])
        at += 8 + size + size % 2
    return Blocks(_tiff_structure(found.get(b"EXIF", b"")), xmp=found.get(b"XMP ", b""))


def _gif(data: bytes) -> Blocks:
    head = b"!\xff\x0bXMP DataXMP"
    start = data.find(head)
    if start < 0:
        return Blocks()
    start += len(head)
    end = data.find(b"\x01\xff\xfe\xfd", start)  # the trailer that readers who skip the block run into
    return Blocks(xmp=data[start : end if end >= 0 else None])


def _tiff(data: bytes) -> Blocks:
    # the bytes as they lie there, as Pillow's own reader of IPTC takes them: the type that a tag claims changes nothing
    tags: Mapping[int, bytes] = {}
    with contextlib.suppress(Exception):  # EXIF's reader comes to the same place, and says what is wrong
        tags = directory(data)._tagdata
    iptc, digest = _iptc(tags.get(_RESOURCES_TAG, b""))
    return Blocks(data, tags.get(_IPTC_TAG, b"") or iptc, digest, tags.get(_XMP_TAG, b""))
