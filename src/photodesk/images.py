"""The one decoder: an untrusted picture → upright RGB, its size, the blocks of its metadata, or why not; the hash that
tells near-duplicates.

Pictures come from anywhere, so nothing about them is believed: neither the suffix, nor the size, nor that the file is
whole.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import io
import logging
import os
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from photodesk import formats
from photodesk.errors import PhotodeskError, PhotoError
from photodesk.files import open_regular
from photodesk.formats import jpeg as jpeg_files
from photodesk.machine import cores
from photodesk.types import Photo

if TYPE_CHECKING:
    from PIL import Image, ImageFile

MAX_PIXELS = 178_000_000
"""Larger pictures are refused: no camera makes them, decompression bombs do. Just below where Pillow stops as well."""

MAX_BYTES = 512 * 2**20
"""Larger files are refused before they are read."""

PIECE = 1 << 20  # bytes that are read at once

FORMATS = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".pjpeg", ".pjp"),
    "PNG": (".png",),
    "WEBP": (".webp",),
    "GIF": (".gif",),
    "TIFF": (".tif", ".tiff"),
    "BMP": (".bmp",),
    **formats.SUFFIXES,
}
"""What is decoded, and how such files are called, the usual suffix first; `formats.SUFFIXES` needs libraries."""

_OF_PILLOW = tuple(name for name in FORMATS if name not in formats.SUFFIXES)  # in the order in which a file is tried

SUFFIXES = frozenset(suffix for suffixes in FORMATS.values() for suffix in suffixes)
"""Names of picture files, in lower case."""

NEAR = 10
"""Bits of 64 in which hashes of near-duplicates may differ. Of NewsImages 2025's 21 million pairs of pictures 499 are
that near;
seen by eye, all but two or three are one picture twice. From 12 bits on, most pairs are different pictures."""

REDUCED = "photodesk: decoded at a part of its size"
"""Key in a picture's `info` that tells so."""

_TURNS = {
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}
_SIDEWAYS = 5  # from this turn on, width and height change places
_ORIENTATION = 0x0112

logging.getLogger("PIL").addHandler(logging.NullHandler())  # else Python prints what Pillow logs of an odd header


@functools.cache
def _libtiff() -> Callable[[int | None], int | None]:
    """Sets what libtiff calls to say that a file is damaged, and gives what it called before; where Pillow hides it,
    nothing is set."""
    from PIL import _imaging

    try:
        setter = ctypes.CDLL(_imaging.__file__).TIFFSetErrorHandler
    except (AttributeError, OSError):
        return lambda handler: handler
    setter.argtypes, setter.restype = [ctypes.c_void_p], ctypes.c_void_p
    return setter


class _Quiet:
    """Nothing that Pillow and libtiff say of odd files is printed while anyone is inside: what matters of it is raised
    as well.

    They say it through process-wide state, and pictures are read in many threads: the first one in changes it, the last
    one out puts it back.
    """

    def __init__(self) -> None:
        self._lock, self._inside = threading.Lock(), 0

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._before = warnings.catch_warnings()
                self._before.__enter__()
                warnings.filterwarnings("ignore", module=r"PIL\b")
                self._printer = _libtiff()(None)
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._before.__exit__(None, None, None)
                _libtiff()(self._printer)


quietly = _Quiet()


@contextlib.contextmanager
def guarded(where: str) -> Iterator[None]:
    """What goes wrong inside is a PhotoError about one picture, whatever a library raises, so that it costs that
    picture only.

    Args:
        where: what messages call the picture.

    Raises:
        PhotodeskError: it was raised inside; it says itself what is wrong.
        PhotoError: anything else was.
    """
    try:
        yield
    except PhotodeskError:
        raise
    except Exception as error:  # a library meets bytes that it never expected: any exception is a damaged file
        raise _wrong(where, error) from error


def refused(error: PhotoError) -> bool:
    """Whether the system refused the file (permissions, a disk that is away, no memory), so that another try may
    succeed; else its content is at fault."""
    return error.code == "photo-unreadable" or isinstance(error.__cause__, MemoryError)


def _wrong(where: str, error: Exception) -> PhotoError:
    from PIL import Image

    if isinstance(error, Image.DecompressionBombError):
        what = f"is too large: it claims more than {MAX_PIXELS / 1e6:.0f} million pixels"
        return PhotoError("photo-too-large", where, what, "make it smaller if it is a real photo")
    if isinstance(error, MemoryError):
        return PhotoError(
            "photo-too-large", where, "is too large: there is not enough memory for it", "make it smaller"
        )
    if isinstance(error, OSError) and error.strerror:
        what = f"cannot be read: {error.strerror}"
        return PhotoError("photo-unreadable", where, what, "check the file and its permissions")
    reason = " ".join(str(error).split())[:120] or type(error).__name__
    said = reason.lower()  # no library has a class or a number for it, only these words
    if "truncat" in said or "end of file" in said or "need_more_input" in said:
        return PhotoError("photo-truncated", where, f"is cut short: {reason}", "get the picture again")
    return PhotoError("photo-damaged", where, f"is damaged: {reason}", "get the picture again")


@dataclass(frozen=True, slots=True, eq=False)
class Decoded:
    """A picture and what its file says besides, all from one reading.

    Args:
        image: upright, 8-bit RGB, without any of the file's metadata.
        size: width and height of the whole upright picture, however small it was decoded.
        format: one of `FORMATS`.
        exif: the block that the decoder found, a TIFF structure of its own; empty where there is none.
        xmp: likewise, its XML.
        data: the file; `archive.blocks` finds in it what decoders overlook.
    """

    image: Image.Image
    size: tuple[int, int]
    format: str
    exif: bytes = b""
    xmp: bytes = b""
    data: bytes = b""


def load(path: os.PathLike[str], *, size: int = 0) -> Image.Image:
    """`decode` of a file.

    Raises:
        PhotoError: as `decode` and `content`.
    """
    return decode(content(path), size=size, where=os.fspath(path))


def content(path: os.PathLike[str]) -> bytes:
    """The bytes of a file.

    Raises:
        PhotoError: it cannot be read, is no regular file or holds more than `MAX_BYTES`.
    """
    with guarded(os.fspath(path)), open_regular(path) as stream:
        parts, size = [], 0
        while size <= MAX_BYTES and (
            part := stream.read(PIECE)
        ):  # asked for all at once, it would hold `MAX_BYTES` for every file
            parts.append(part)
            size += len(part)
    if size > MAX_BYTES:
        raise too_many_bytes(os.fspath(path))
    return b"".join(parts)


def too_many_bytes(where: str) -> PhotoError:
    """What is raised for a file of more than `MAX_BYTES`."""
    what = f"is too large: it has more than {MAX_BYTES >> 20} MiB"
    return PhotoError("photo-too-large", where, what, "make it smaller")


def decode(data: bytes, *, size: int = 0, where: str, pixels: int = MAX_PIXELS) -> Image.Image:
    """`read`, where the picture is all that is wanted."""
    return read(data, size=size, where=where, pixels=pixels).image


def read(data: bytes, *, size: int = 0, where: str, pixels: int = MAX_PIXELS) -> Decoded:
    """The first picture in `data` as an upright 8-bit RGB image, and what the file says of it.

    The same bytes always give the same pixels. Transparency is laid onto white, 16 bits are scaled to 8, of an
    animation the first frame is taken, and the EXIF turn is applied; HEIF and JPEG XL have turns of their own, which
    stand instead of it. Of a camera RAW the preview is taken, and the sensor data where there is none. The format is
    read from the bytes, never from a name.

    Args:
        data: the bytes of a file in one of `FORMATS`.
        size: what the caller will shrink the picture to, in pixels of its shorter side. A JPEG is then decoded at 1/2,
            1/4 or 1/8 of its size, as long as the shorter side keeps at least `size` pixels. 0 decodes it whole.
        where: what messages call the picture.
        pixels: larger pictures are refused before they are decoded.

    Raises:
        PhotoError: nothing to decode, not a picture, cut short, damaged, more than `pixels`, or of a format whose
            library is not installed.
    """
    with quietly, guarded(where):
        data = jpeg_files.whole(data)
        image = opened(data, where=where, pixels=pixels)
        if isinstance(image, formats.Coded):
            return _decoded(image, data)
        whole = image.size
        if size:
            image.draft(None, (size, size))
        reduced = image.size != whole
        if image.format == "TIFF":
            _without_broken_directories(image)
        image.load()
        turn = _orientation(image)
        upright = _turned(_rgb(image), turn)
        upright.info = {REDUCED: True} if reduced else {}
        if not reduced:
            whole = upright.size
        elif turn in _TURNS and turn >= _SIDEWAYS:
            whole = whole[::-1]
        return Decoded(upright, whole, _format(image), *_blocks(image), data)


def opened(data: bytes, *, where: str, pixels: int = MAX_PIXELS) -> ImageFile.ImageFile | formats.Coded:
    """A picture of which only the header was read: its `format`, and its `size` before any turn. No other place opens
    pictures.

    Raises:
        PhotoError: nothing there, not a picture, a damaged header, more than `pixels`, or of a format whose library is
            not installed.
    """
    from PIL import Image, UnidentifiedImageError

    if not data:
        raise PhotoError("photo-empty", where, "is empty", "get the picture again")
    with quietly, guarded(where):
        try:
            image = formats.opened(data, where) or Image.open(io.BytesIO(data), formats=_OF_PILLOW)
        except UnidentifiedImageError:
            what = f"is not a picture: {_guess(data)}"
            raise PhotoError("photo-foreign", where, what, "get the picture again or delete the file") from None
    width, height = image.size
    if width * height > pixels:
        what = f"is too large: it claims {width} × {height} pixels"
        raise PhotoError("photo-too-large", where, what, "make it smaller if it is a real photo")
    return image


def jpeg(image: Image.Image, *, size: int = 0, quality: int = 85, optimize: bool = False) -> bytes:
    """A picture as JPEG.

    Args:
        image: RGB.
        size: longest side in pixels; a smaller picture stays as it is, 0 keeps all sizes.
        quality: of Pillow, 1 to 95.
        optimize: take longer for some 5 % fewer bytes.
    """
    if size:
        image = image.copy()
        image.thumbnail((size, size))
    out = io.BytesIO()
    image.save(out, "JPEG", quality=quality, optimize=optimize)
    return out.getvalue()


def _format(image: ImageFile.ImageFile) -> str:
    return (
        image.format if image.format in FORMATS else "JPEG"
    )  # Pillow calls a JPEG with more pictures behind the first MPO


def _without_broken_directories(image: ImageFile.ImageFile) -> None:
    """Pillow reads the directories of EXIF and GPS as it loads a TIFF: what cannot be read is taken out, so that it
    costs no picture."""
    from PIL import TiffTags

    exif = image.getexif()
    for tag in TiffTags.TAGS_V2_GROUPS:
        try:
            exif.get_ifd(tag)
        except Exception:  # as in `guarded`
            exif.pop(tag, None)


def _orientation(image: ImageFile.ImageFile) -> int:
    """The turn that is left to do."""
    if image.format == "TIFF":  # Pillow turns these itself
        return 1
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # EXIF is decoration: a broken block must not cost the picture
        return 1


def _blocks(image: ImageFile.ImageFile) -> tuple[bytes, bytes]:
    """EXIF and XMP as the decoder hands them over."""
    exif, xmp = (image.info.get(name) for name in ("exif", "xmp"))
    return exif if isinstance(exif, bytes) else b"", xmp if isinstance(xmp, bytes) else b""


def _turned(image: Image.Image, turn: int) -> Image.Image:
    from PIL import Image

    return image.transpose(Image.Transpose[_TURNS[turn]]) if turn in _TURNS else image


def _decoded(coded: formats.Coded, data: bytes) -> Decoded:
    upright = _turned(_rgb(_picture(coded)), coded.turn)
    upright.info = {}
    size = upright.size
    if coded.format == "RAW":  # whose preview may be smaller
        size = coded.size[::-1] if coded.turn >= _SIDEWAYS else coded.size
    return Decoded(upright, size, coded.format, coded.exif, coded.xmp, data)


def _picture(coded: formats.Coded) -> Image.Image:
    """What a library decoded, as a picture of Pillow's."""
    from PIL import Image

    pixels = coded.load()
    if isinstance(pixels, Image.Image):
        return pixels
    if pixels.dtype != np.uint8:
        pixels = _eight_bits(pixels)
    pixels = np.ascontiguousarray(pixels)
    if coded.mode:
        height, width = pixels.shape[:2]
        return Image.frombytes(coded.mode, (width, height), pixels.tobytes())
    return Image.fromarray(pixels)


def _rgb(image: Image.Image) -> Image.Image:
    from PIL import Image, ImageChops

    if image.mode.startswith("I") or image.mode == "F":
        return Image.fromarray(_eight_bits(np.asarray(image))).convert("RGB")
    if image.mode == "CMYK" and getattr(image, "format", None) in ("JPEG", "MPO") and "adobe" not in image.info:
        image = ImageChops.invert(image)  # Pillow takes Adobe's inverted inks for granted
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
        return "a video file"
    if b"\0" not in head and all(byte >= 9 for byte in head):
        return "a text"
    return f"something that begins with {data[:8].hex(' ')}"


def phash(image: Image.Image) -> int:
    """64 bits that hardly change when a picture is scaled, compressed again, toned or cropped a little.

    The signs of the 64 lowest frequencies, without the mean, of the 32 × 32 cosine transform of its grey levels. Two
    pictures count as near-duplicates if at most `NEAR` bits differ. Source: after Zauner, Implementation and
    benchmarking of perceptual image hash functions, 2010, section 3.2.1; lower frequencies than there, and signs, since
    they survive crops better. A picture of one plain grey level has no frequencies, only noise: its bits are drawn from
    the colours of its 16 parts, so that it is near to pictures of the same colours only.
    """
    from PIL import Image

    grey = np.asarray(image.convert("L").resize((_SIDE, _SIDE), Image.Resampling.BOX), np.float64)
    if np.ptp(grey) < _PLAIN:
        colours = np.asarray(image.convert("RGB").resize((4, 4), Image.Resampling.BOX)) // _SHADE
        return int.from_bytes(hashlib.sha256(colours.tobytes()).digest()[:8], "big")
    bits = (_WAVES @ grey @ _WAVES.T)[_LOWEST] > 0
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


_SIDE = 32
_PLAIN, _SHADE = 4, 8  # grey levels within which a picture is plain, and levels of a colour that are one shade
_WAVES = np.cos(np.pi / _SIDE * np.outer(np.arange(11), np.arange(_SIDE) + 0.5))
_ORDER = sorted((u + v, max(u, v), u, v) for u in range(11) for v in range(11) if u + v)[:64]
_LOWEST = (np.array([u for *_, u, _ in _ORDER]), np.array([v for *_, v in _ORDER]))


def hashes(
    photos: Sequence[Photo], *, size: int = 64, threads: int | None = None
) -> Iterator[tuple[Photo, int | PhotoError]]:
    """Decode every photo and hash it; yields in the order given, with the error in place of a hash that cannot be
    had."""

    def one(photo: Photo) -> tuple[Photo, int | PhotoError]:
        try:
            with guarded(str(photo.path)):
                return photo, phash(load(photo.path, size=size))
        except PhotoError as error:
            return photo, error

    with ThreadPoolExecutor(threads or cores()) as pool:
        yield from pool.map(one, photos)


def near_duplicates(prints: Iterable[int], *, near: int = NEAR) -> list[tuple[int, ...]]:
    """Groups of near-duplicate pictures: connected by hashes that differ in at most `near` bits.

    Args:
        prints: n hashes of `phash`.
        near: bits that may differ.

    Returns:
        Positions in `prints`, ascending within a group, groups by their first position; a picture without a duplicate
        is in none. Compares all pairs, 64 bits at a time, a block of them at once: some 0.2 s for 10,000 pictures, a
        hundred times that for 100,000.
    """
    values, which = np.unique(np.fromiter(prints, np.uint64), return_inverse=True)

    def links() -> Iterator[tuple[int, int]]:
        rows, columns = 512, 4096
        for row in range(0, len(values), rows):
            for column in range(row, len(values), columns):
                near_by = (
                    np.bitwise_count(values[row : row + rows, None] ^ values[None, column : column + columns]) <= near
                )
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
