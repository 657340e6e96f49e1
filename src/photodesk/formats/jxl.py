"""JPEG XL: size and metadata of its container, read here, since imagecodecs gives pixels only.

Source: ISO/IEC 18181-1 (code stream: signature and size header) and 18181-2 (container of boxes).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

_CONTAINER = b"\0\0\0\x0cJXL \r\n\x87\n"
_STREAM = b"\xff\x0a"
_HEAD = 13  # bytes of signature and size header, which has at most 3 + 2 × 32 bits; the smallest picture has more
_RATIOS = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))
_METADATA = 4 * 2**20  # bytes of a metadata box, unpacked, that are taken


@dataclass(frozen=True, slots=True, eq=False)
class Header:
    """Size before any turn; the pixels, turned, as (height, width) or (height, width, channels); metadata blocks."""

    size: tuple[int, int]
    load: Callable[[], NDArray[Any]]
    exif: bytes
    xmp: bytes


def is_jxl(data: bytes) -> bool:
    """Whether bytes are a JPEG XL file."""
    return data.startswith((_CONTAINER, _STREAM))


def read(data: bytes) -> Header:
    """The header of a file.

    Raises:
        ValueError: it is cut short or damaged.
    """
    stream, exif, xmp = data, b"", b""
    if data.startswith(_CONTAINER):
        stream = b""
        for name, content in _boxes(data):
            if name == b"jxlc" and not stream:
                stream = content[:_HEAD]
            elif name == b"jxlp" and len(stream) < _HEAD:  # a part, behind its number
                stream += content[4 : 4 + _HEAD]
            packed = name == b"brob"  # by Brotli, with its own name in front
            name = content[:4] if packed else name
            if name == b"xml " and not xmp:
                xmp = _unpacked(content[4:]) if packed else content
            elif name == b"Exif" and not exif:
                block = _unpacked(content[4:]) if packed else content
                exif = block[4 + int.from_bytes(block[:4], "big") :]
    return Header(_size(stream), lambda: _pixels(data), exif, xmp)


def _pixels(data: bytes) -> NDArray[Any]:
    import imagecodecs

    # of an animation the first frame; the library applies the turn that the code stream names
    pixels: NDArray[Any] = imagecodecs.jpegxl_decode(data, index=0)
    return pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels


def _unpacked(content: bytes) -> bytes:
    import imagecodecs

    with suppress(Exception):  # metadata is decoration, whatever the library raises
        return bytes(imagecodecs.brotli_decode(content, out=_METADATA))
    return b""


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Names and contents of the boxes of a container."""
    at = 0
    while at + 8 <= len(data):
        length, name, head = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8], 8
        if length == 1:
            length, head = int.from_bytes(data[at + 8 : at + 16], "big"), 16
        end = at + length if length else len(data)
        if end < at + head:
            return
        yield name, data[at + head : end]
        at = end


def _size(stream: bytes) -> tuple[int, int]:
    """Width and height by the size header, whose bits begin with the lowest of the first byte."""
    if not stream.startswith(_STREAM) or len(stream) < _HEAD:
        raise ValueError("the code stream is truncated")
    bits, at = int.from_bytes(stream[2:_HEAD], "little"), 0

    def take(count: int) -> int:
        nonlocal at
        at += count
        return (bits >> (at - count)) & ((1 << count) - 1)

    def side(small: int) -> int:
        return 8 * (take(5) + 1) if small else take((9, 13, 18, 30)[take(2)]) + 1

    small = take(1)
    height = side(small)
    ratio = take(3)
    if not ratio:
        return side(small), height
    over, under = _RATIOS[ratio - 1]
    return height * over // under, height
