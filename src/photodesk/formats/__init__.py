"""Formats of pictures that Pillow does not read alone, or reads wrongly: which one some bytes are, and their pixels.

HEIF by pi-heif (it only decodes, so it bundles nothing under the GPL), AVIF by Pillow where it is built with it, JPEG
XL by imagecodecs, camera RAW by rawpy; all of them are in the extra `formats`. `images` is what the rest of the package
calls.
"""

from __future__ import annotations

import functools
import importlib.util
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from photodesk.errors import PhotoError
from photodesk.formats import jxl, raw, tiff

if TYPE_CHECKING:
    from PIL import Image, ImageFile

EXTRA = "formats"
"""The extra of photodesk that brings the libraries."""

SUFFIXES = {
    "AVIF": (".avif",),
    "HEIF": (".heic", ".heif", ".hif"),
    "JXL": (".jxl",),
    "RAW": raw.SUFFIXES,
}
"""Formats that need a library besides the base install → how such files are called, the usual suffix first."""

_LIBRARIES = {"HEIF": "pi_heif", "JXL": "imagecodecs", "RAW": "rawpy"}
_NAMES = {
    "AVIF": "an AVIF picture",
    "HEIF": "a HEIC or HEIF picture",
    "JXL": "a JPEG XL picture",
    "RAW": "a camera RAW",
}
_HEIF = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1", b"mif2", b"heif"}


@dataclass(frozen=True, slots=True, eq=False)
class Coded:
    """A picture of which only the header was read.

    Args:
        format: what it is.
        size: width and height before any turn.
        load: its pixels, (height, width) or (height, width, channels) of any depth, or a picture of Pillow's.
        turn: EXIF orientation that is left to apply.
        mode: how Pillow calls what the channels are; empty for grey or RGB, with alpha as the last of 2 or 4.
        exif: as in `images.Decoded`; xmp likewise.
    """

    format: str
    size: tuple[int, int]
    load: Callable[[], NDArray[Any] | Image.Image]
    turn: int = 1
    mode: str = ""
    exif: bytes = b""
    xmp: bytes = b""


def kind(data: bytes) -> str:
    """One of `SUFFIXES`, by the bytes and never by a name; empty for everything else."""
    if data[4:8] == b"ftyp":
        end = min(int.from_bytes(data[:4], "big"), 512)
        brands = {data[8:12], *(data[at : at + 4] for at in range(16, end, 4))}
        if b"crx " in brands:
            return "RAW"
        return "AVIF" if brands & {b"avif", b"avis"} else "HEIF" if brands & _HEIF else ""
    if jxl.is_jxl(data):
        return "JXL"
    return "RAW" if raw.is_raw(data) else ""


@functools.cache
def available(name: str) -> bool:
    """Whether what reads a format is installed; true for formats of the base install."""
    if name == "AVIF":
        try:
            from PIL import AvifImagePlugin
        except ImportError:  # before Pillow 11.3
            return False
        return bool(AvifImagePlugin.SUPPORTED)
    return name not in _LIBRARIES or importlib.util.find_spec(_LIBRARIES[name]) is not None


def lacking(suffix: str) -> bool:
    """Whether files of a suffix, in lower case, are pictures whose library is not installed."""
    return any(suffix in suffixes and not available(name) for name, suffixes in SUFFIXES.items())


def install() -> str:
    """What brings the libraries."""
    return f'run: pip install "photodesk[{EXTRA}]"'


def opened(data: bytes, where: str) -> ImageFile.ImageFile | Coded | None:
    """A picture in a format that Pillow does not read by itself, or not rightly; None for everything else.

    Raises:
        PhotoError: its library is not installed; names the command that brings it.
        Exception: whatever the library raises for a damaged header.
    """
    name = kind(data)
    if not available(name):
        raise PhotoError("photo-format", where, f"is {_NAMES[name]}, and what reads these is not installed", install())
    if name == "AVIF":
        from PIL import AvifImagePlugin

        return AvifImagePlugin.AvifImageFile(io.BytesIO(data))
    if name == "HEIF":
        import pi_heif

        picture: ImageFile.ImageFile = pi_heif.HeifImageFile(io.BytesIO(data))
        return picture
    if name == "JXL":
        header = jxl.read(data)
        return Coded(name, header.size, header.load, exif=header.exif, xmp=header.xmp)
    if name == "RAW":
        return Coded(name, **raw.read(data))
    if planes := tiff.planes(data):
        return Coded("TIFF", **planes)
    return None
