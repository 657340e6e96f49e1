"""One stranger's picture → upright RGB, or why not; the hash that tells near-duplicates.

Pictures come from anywhere, so nothing about them is believed: neither the suffix, nor the size, nor that the file is whole.
"""

from __future__ import annotations

import contextlib
import io
import os
import threading
import warnings
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from photodesk.errors import PhotoError
from photodesk.types import Photo

if TYPE_CHECKING:
    from PIL import Image

MAX_PIXELS = 178_000_000
"""Larger pictures are refused: no camera makes them, decompression bombs do. Just below where Pillow stops as well."""

MAX_BYTES = 512 * 2**20
"""Larger files are refused before they are read."""

PIECE = 1 << 20  # bytes that are read at once

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".tif", ".tiff", ".bmp"})
"""Names of picture files, in lower case."""

NEAR = 10
"""Bits of 64 in which hashes of near-duplicates may differ. Of NewsImages 2025's 21 million pairs of pictures 499 are that near;
seen by eye, all but two or three are one picture twice. From 12 bits on, most pairs are different pictures."""

REDUCED = "photodesk: decoded at a part of its size"
"""Key in a picture's `info` that tells so."""

_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP")
_TURNS = {2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE", 6: "ROTATE_270", 7: "TRANSVERSE", 8: "ROTATE_90"}
_ORIENTATION = 0x0112
_header = threading.Lock()


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Pillow warns about odd headers through process-wide state; keep that silent, one thread at a time."""
    with _header, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def load(path: os.PathLike[str], *, size: int = 0) -> Image.Image:
    """`decode` of a file.

    Raises:
        PhotoError: as `decode` and `content`.
    """
    return decode(content(path), size=size, where=os.fspath(path))


def content(path: os.PathLike[str]) -> bytes:
    """The bytes of a file.

    Raises:
        PhotoError: it cannot be read or holds more than `MAX_BYTES`.
    """
    try:
        with open(path, "rb") as stream:  # noqa: PTH123 - any PathLike
            parts, size = [], 0
            while size <= MAX_BYTES and (part := stream.read(PIECE)):  # asked for all at once, it would hold `MAX_BYTES` for every file
                parts.append(part)
                size += len(part)
    except OSError as error:
        raise PhotoError(f"{os.fspath(path)} cannot be read: {error.strerror or error}; check the file and its permissions") from error
    if size > MAX_BYTES:
        raise PhotoError(f"{os.fspath(path)} is too large: it has more than {MAX_BYTES >> 20} MiB; make it smaller")
    return b"".join(parts)


def decode(data: bytes, *, size: int = 0, where: str, pixels: int = MAX_PIXELS) -> Image.Image:
    """The first picture in `data` as an upright 8-bit RGB image.

    The same bytes always give the same pixels. Transparency is laid onto white, 16 bits are scaled to 8, of an animation the
    first frame is taken, and the EXIF turn is applied. The format is read from the bytes, never from a name.

    Args:
        data: the bytes of a JPEG, PNG, WebP, GIF, TIFF or BMP file.
        size: what the caller will shrink the picture to, in pixels of its shorter side. A JPEG is then decoded at 1/2, 1/4 or
            1/8 of its size, as long as the shorter side keeps at least `size` pixels. 0 decodes it whole.
        where: what messages call the picture.
        pixels: larger pictures are refused before they are decoded.

    Raises:
        PhotoError: nothing to decode, not a picture, cut short, damaged, or more than `pixels`.
    """
    from PIL import Image, UnidentifiedImageError

    if not data:
        raise PhotoError(f"{where} is empty; get the picture again")
    try:
        with _quietly():
            image = Image.open(io.BytesIO(data), formats=_FORMATS)
    except UnidentifiedImageError:
        raise PhotoError(f"{where} is not a picture: {_guess(data)}; get the picture again or delete the file") from None
    except Image.DecompressionBombError:
        raise PhotoError(
            f"{where} is too large: it claims more than {MAX_PIXELS / 1e6:.0f} million pixels; make it smaller if it is a real photo"
        ) from None
    except Exception as error:  # a plugin meets bytes that it never expected: any exception is a damaged file
        raise _broken(where, error) from error
    if image.width * image.height > pixels:
        raise PhotoError(f"{where} is too large: it claims {image.width} × {image.height} pixels; make it smaller if it is a real photo")
    try:
        whole = image.size
        if size:
            image.draft(None, (size, size))
        if image.size != whole:
            image.info[REDUCED] = True
        image.load()
        with _quietly():
            turn = _TURNS.get(_orientation(image))
        upright = _rgb(image)
        return upright.transpose(Image.Transpose[turn]) if turn else upright
    except Exception as error:  # as above
        raise _broken(where, error) from error


def _broken(where: str, error: Exception) -> PhotoError:
    reason = " ".join(str(error).split())[:120] or type(error).__name__
    verb = "is cut short" if "truncat" in reason.lower() else "is damaged"
    return PhotoError(f"{where} {verb}: {reason}; get the picture again")


def _orientation(image: Image.Image) -> int:
    if image.format == "TIFF":  # Pillow turns these itself
        return 1
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # EXIF is decoration: a broken block must not cost the picture
        return 1


def _rgb(image: Image.Image) -> Image.Image:
    from PIL import Image

    if image.mode.startswith("I") or image.mode == "F":
        return Image.fromarray(_eight_bits(np.asarray(image))).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def _eight_bits(grey: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Grey levels of any depth as 8 bits: 16 bits by their full range, wider and real numbers by the range they use."""
    values: NDArray[np.float32] = grey.astype(np.float32)
    values[~np.isfinite(values)] = 0
    low, high = float(values.min()), float(values.max())
    if grey.dtype.kind == "f":
        low, high = (0.0, 1.0) if low >= 0 and high <= 1 else (low, high)
    else:
        low, high = (0.0, 65535.0) if low >= 0 and high <= 65535 else (low, high)
    scaled: NDArray[np.float32] = np.rint((values - low) * (255 / max(high - low, 1e-12))).clip(0, 255)
    return scaled.astype(np.uint8)


def _guess(data: bytes) -> str:
    head = data[:512].lstrip().lower()
    if head.startswith((b"<!doctype html", b"<html", b"<head")):
        return "a web page"
    if head.startswith((b"<?xml", b"<svg")):
        return "XML or SVG"
    if data[4:8] == b"ftyp":
        return "a HEIF, AVIF or video file"
    if b"\0" not in head and all(byte >= 9 for byte in head):
        return "a text"
    return f"something that begins with {data[:8].hex(' ')}"


def phash(image: Image.Image) -> int:
    """64 bits that hardly change when a picture is scaled, compressed again, toned or cropped a little.

    The signs of the 64 lowest frequencies, without the mean, of the 32 × 32 cosine transform of its grey levels. Two pictures
    count as near-duplicates if at most `NEAR` bits differ. Source: after Zauner, Implementation and benchmarking of perceptual
    image hash functions, 2010, section 3.2.1; lower frequencies than there, and signs, since they survive crops better.
    """
    from PIL import Image

    grey = np.asarray(image.convert("L").resize((_SIDE, _SIDE), Image.Resampling.BOX), np.float64)
    bits = (_WAVES @ grey @ _WAVES.T)[_LOWEST] > 0
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


_SIDE = 32
_WAVES = np.cos(np.pi / _SIDE * np.outer(np.arange(11), np.arange(_SIDE) + 0.5))
_ORDER = sorted((u + v, max(u, v), u, v) for u in range(11) for v in range(11) if u + v)[:64]
_LOWEST = (np.array([u for *_, u, _ in _ORDER]), np.array([v for *_, v in _ORDER]))


def hashes(photos: Sequence[Photo], *, size: int = 64, threads: int | None = None) -> Iterator[tuple[Photo, int | PhotoError]]:
    """Decode every photo and hash it; yields in the order given, with the error in place of a hash that cannot be had."""

    def one(photo: Photo) -> tuple[Photo, int | PhotoError]:
        try:
            return photo, phash(load(photo.path, size=size))
        except PhotoError as error:
            return photo, error

    with ThreadPoolExecutor(threads or os.cpu_count() or 1) as pool:
        yield from pool.map(one, photos)


def near_duplicates(prints: Iterable[int], *, near: int = NEAR) -> list[tuple[int, ...]]:
    """Groups of near-duplicate pictures: connected by hashes that differ in at most `near` bits.

    Args:
        prints: n hashes of `phash`.
        near: bits that may differ.

    Returns:
        Positions in `prints`, ascending within a group, groups by their first position; a picture without a duplicate is in none.
        Compares all pairs, 64 bits at a time, a block of them at once: some 0.2 s for 10,000 pictures, a hundred times that for 100,000.
    """
    values, which = np.unique(np.fromiter(prints, np.uint64), return_inverse=True)

    def links() -> Iterator[tuple[int, int]]:
        rows, columns = 512, 4096
        for row in range(0, len(values), rows):
            for column in range(row, len(values), columns):
                near_by = np.bitwise_count(values[row : row + rows, None] ^ values[None, column : column + columns]) <= near
                for i, j in np.argwhere(near_by).tolist():
                    yield row + i, column + j

    part = components(len(values), links())
    groups: dict[int, list[int]] = {}
    for position, value in enumerate(which.tolist()):
        groups.setdefault(part[value], []).append(position)
    return sorted(tuple(group) for group in groups.values() if len(group) > 1)


def components(n: int, links: Iterable[tuple[int, int]]) -> list[int]:
    """The component of each of the nodes 0 … n - 1: the smallest node that a chain of `links` connects it with."""
    parent = list(range(n))

    def root(node: int) -> int:
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    for a, b in links:
        low, high = sorted((root(a), root(b)))
        parent[high] = low
    return [root(node) for node in range(n)]
