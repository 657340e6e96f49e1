"""Directories of a TIFF structure, and deep TIFF files that Pillow reads wrongly: channels in planes of more than 8
bits (noise), and white as zero in 16 bits (inverted).

Sources: TIFF 6.0; of `NewSubfileType` and the tags of camera RAW, the DNG specification 1.6.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC = 256, 257, 258, 259, 262
ORIENTATION, SAMPLES, PLANAR, PREDICTOR, SUBIFDS, SAMPLE_FORMAT, EXTRA_SAMPLES = 274, 277, 284, 317, 330, 339, 338
XMP = 700

_OFFSETS = {273: 279, 324: 325}  # of strips or tiles → their lengths
_KEPT = (WIDTH, HEIGHT, 266, 278, PREDICTOR, 322, 323)  # what a plane has in common with the whole
_CODES = {1: "B", 2: "B", 3: "H", 4: "I", 6: "b", 7: "B", 8: "h", 9: "i", 13: "I"}
_MOST = 4096  # entries of a directory; real ones have some dozens
_WHITE_IS_ZERO, _CMYK = 0, 5

Tags = dict[int, tuple[int, ...]]


class Parts(TypedDict):
    """Arguments of `formats.Coded`."""

    size: tuple[int, int]
    load: Callable[[], Any]
    turn: int
    mode: str
    exif: bytes
    xmp: bytes


def order(data: bytes) -> str:
    """Byte order of a TIFF structure as `struct` names it; empty where it is none. Camera makers have magic numbers of
    their own (`IIRO`, `IIU`), so only the order's letters are looked at; BigTIFF is left to Pillow."""
    if data[:2] == b"II" and data[2:4] != b"\x2b\0":
        return "<"
    return ">" if data[:2] == b"MM" and data[2:4] != b"\0\x2b" else ""


def directory(data: bytes, at: int | None = None) -> Tags:
    """Tag → whole numbers, of the directory at a place, else of the first one; what cannot be read is not in it.

    Texts, bytes and data of no type come as the numbers of their bytes.
    """
    little = order(data)
    found: Tags = {}
    if not little:
        return found
    try:
        if at is None:
            (at,) = struct.unpack_from(little + "I", data, 4)
        (count,) = struct.unpack_from(little + "H", data, at)
        for entry in range(at + 2, at + 2 + 12 * min(count, _MOST), 12):
            tag, kind, length = struct.unpack_from(little + "HHI", data, entry)
            code = _CODES.get(kind)
            if not code:
                continue
            bytes_ = struct.calcsize(code) * length
            place = entry + 8 if bytes_ <= 4 else struct.unpack_from(little + "I", data, entry + 8)[0]
            if place + bytes_ <= len(data):
                found[tag] = struct.unpack_from(f"{little}{length}{code}", data, place)
    except struct.error:  # cut short: what was read before stands
        pass
    return found


def block(tags: Tags, tag: int) -> bytes:
    """The bytes of a tag; empty where it has none."""
    values = tags.get(tag, ())
    return bytes(values) if all(0 <= value < 256 for value in values) else b""


def one(tags: Tags, tag: int, default: int) -> int:
    """The first number of a tag."""
    return (tags.get(tag) or (default,))[0]


def planes(data: bytes) -> Parts | None:
    """A file with channels in planes of 16 or 32 bits, or white as zero in as many; None for all others."""
    if data[2:4] not in (b"*\0", b"\0*"):
        return None
    tags = directory(data)
    samples, bits = one(tags, SAMPLES, 1), {*tags.get(BITS, (1,))}
    formats = {*tags.get(SAMPLE_FORMAT, (1,))}
    inverted = one(tags, PHOTOMETRIC, 1) == _WHITE_IS_ZERO and formats == {1}
    apart = one(tags, PLANAR, 1) == 2 and samples > 1
    if len(bits) != 1 or not bits <= {16, 32} or not (apart or (inverted and samples == 1)):
        return None
    if one(tags, WIDTH, 0) <= 0 or one(tags, HEIGHT, 0) <= 0 or samples > 8:
        return None

    def load() -> NDArray[Any]:
        read = [_plane(data, tags, number, samples if apart else 1) for number in range(samples)]
        colour = 1 if samples < 3 else 4 if one(tags, PHOTOMETRIC, 1) == _CMYK else 3
        alpha = samples > colour and one(tags, EXTRA_SAMPLES, 0) in (1, 2) and colour != 4
        kept = read[: colour + alpha]
        pixels = kept[0] if len(kept) == 1 else np.stack(kept, axis=-1)
        return np.iinfo(pixels.dtype).max - pixels if inverted else pixels

    size = (one(tags, WIDTH, 0), one(tags, HEIGHT, 0))
    mode = "CMYK" if one(tags, PHOTOMETRIC, 1) == _CMYK and samples >= 4 else ""
    return Parts(
        size=size,
        load=load,
        turn=one(tags, ORIENTATION, 1),
        mode=mode,
        exif=data,
        xmp=block(tags, XMP),
    )


def _plane(data: bytes, tags: Tags, number: int, of: int) -> NDArray[Any]:
    """One channel: the same bytes as a grey TIFF file, whose directory stands behind them."""
    from PIL import Image

    made = {tag: tags[tag][:1] for tag in _KEPT if tag in tags}
    made |= {COMPRESSION: (one(tags, COMPRESSION, 1),), PHOTOMETRIC: (1,), SAMPLES: (1,), PLANAR: (1,)}
    made |= {BITS: tags[BITS][:1], SAMPLE_FORMAT: (one(tags, SAMPLE_FORMAT, 1),)}
    for offsets, lengths in _OFFSETS.items():
        if offsets in tags:
            each = len(tags[offsets]) // of
            made |= {tag: tags[tag][number * each : (number + 1) * each] for tag in (offsets, lengths)}
    little, at = order(data), len(data) + len(data) % 2
    entries, more = [], at + 2 + 12 * len(made) + 4
    values = b""
    for tag, numbers in sorted(made.items()):
        packed = struct.pack(f"{little}{len(numbers)}I", *numbers)
        place = packed if len(packed) == 4 else struct.pack(little + "I", more + len(values))
        values += packed if len(packed) > 4 else b""
        entries.append(struct.pack(little + "HHI", tag, 4, len(numbers)) + place)
    made_directory = struct.pack(little + "H", len(made)) + b"".join(entries) + bytes(4) + values
    file = data[:4] + struct.pack(little + "I", at) + data[8:] + bytes(at - len(data)) + made_directory
    with Image.open(io.BytesIO(file), formats=("TIFF",)) as image:
        pixels: NDArray[Any] = np.asarray(image)
    if pixels.dtype == np.int32 and one(tags, SAMPLE_FORMAT, 1) == 1:  # Pillow has no unsigned 32 bits
        pixels = pixels.view(np.uint32)
    return pixels.astype(pixels.dtype.newbyteorder("="))
