"""Camera RAW by rawpy (LibRaw): the preview that the camera put into the file, else the developed sensor data.

The preview is what the photographer saw, and takes a hundredth of the time. One that is much too small stands for
nothing; then the sensor data is developed.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np

from photodesk.formats import tiff

if TYPE_CHECKING:
    from PIL import Image

SUFFIXES = (
    ".dng", ".cr2", ".cr3", ".crw", ".nef", ".nrw", ".arw", ".sr2", ".srf", ".raf", ".orf", ".rw2", ".rwl", ".pef",
    ".srw", ".3fr", ".fff", ".iiq", ".erf", ".mef", ".mos", ".mrw", ".x3f", ".kdc", ".dcr", ".gpr",
)  # fmt: skip
"""How cameras call such files."""

PREVIEW = 640
"""Pixels of the longer side from which on a preview is taken instead of the sensor data: no encoder looks at more."""

_MAGICS = (b"FUJIFILMCCD-RAW", b"IIRO", b"IIRS", b"MMOR", b"IIU\0", b"FOVb", b"\0MRM", b"II\x1a\0\0\0HEAPCCDR")
_DNG_VERSION, _CFA, _LINEAR = 50706, 32803, 34892
_TURNS = {0: 1, 1: 2, 3: 3, 2: 4, 4: 5, 6: 6, 7: 7, 5: 8}  # LibRaw's flip → EXIF orientation, as in LibRaw's tiff_head
_SIDEWAYS = 5


def is_raw(data: bytes) -> bool:
    """Whether bytes are a camera RAW: a maker's own magic number, or a TIFF structure with the pattern of a sensor."""
    if data.startswith(_MAGICS):
        return True
    if not tiff.order(data) or data[2:4] not in (b"*\0", b"\0*"):
        return False
    if data[8:10] == b"CR":
        return True
    tags = tiff.directory(data)
    below = [tiff.directory(data, at) for at in tags.get(tiff.SUBIFDS, ())[:16]]
    sensor = {_CFA, _LINEAR}
    return _DNG_VERSION in tags or any(tiff.one(one, tiff.PHOTOMETRIC, 0) in sensor for one in (tags, *below))


def read(data: bytes) -> tiff.Parts:
    """Size and metadata of a file, and how to get its picture.

    Raises:
        Exception: whatever LibRaw raises for a damaged header.
    """
    import rawpy

    raw = rawpy.RawPy()
    raw.open_buffer(io.BytesIO(data))
    sizes = raw.sizes
    turn = _TURNS.get(sizes.flip, 1)

    def load() -> Any:
        try:
            return _preview(raw, turn)
        finally:
            raw.close()

    like_tiff = tiff.order(data) and not data.startswith(b"II\x1a")
    tags = tiff.directory(data) if like_tiff else {}
    # Olympus and Panasonic have magic numbers of their own before a structure that is TIFF's
    head = b"II*\0" if data[:1] == b"I" else b"MM\0*"
    exif = (data if data.startswith(head) else head + data[4:]) if tags else _exif(raw)
    size = (sizes.width, sizes.height)
    return tiff.Parts(
        size=size,
        load=load,
        turn=turn,
        mode="",
        exif=exif,
        xmp=tiff.block(tags, tiff.XMP),
    )


def _thumbnail(raw: Any) -> Image.Image | None:
    """The preview as it is stored; None where there is none, or none that can be read."""
    import rawpy
    from PIL import Image

    try:
        found = raw.extract_thumb()
        if found.format == rawpy.ThumbFormat.JPEG:
            image = Image.open(io.BytesIO(found.data), formats=("JPEG",))
            image.load()
            return image
        return Image.fromarray(np.asarray(found.data))
    except Exception:  # LibRaw's errors and Pillow's: the sensor data is left
        return None


def _preview(raw: Any, turn: int) -> Any:
    """The picture before `turn` is applied."""
    image = _thumbnail(raw)
    if image is None or max(image.size) < min(PREVIEW, max(raw.sizes.width, raw.sizes.height)):
        return raw.postprocess(half_size=max(raw.sizes.width, raw.sizes.height) >= 4 * PREVIEW, user_flip=0)
    across = raw.sizes.width > raw.sizes.height
    if turn >= _SIDEWAYS and image.width != image.height and (image.width > image.height) != across:
        from PIL import Image

        # this camera stores its preview upright: turned back, so that what is applied to all is right for it, too
        back = {5: "TRANSPOSE", 6: "ROTATE_90", 7: "TRANSVERSE", 8: "ROTATE_270"}[turn]
        return image.transpose(Image.Transpose[back])
    return image


def _exif(raw: Any) -> bytes:
    """EXIF of the preview, for files that are no TIFF structure."""
    image = _thumbnail(raw)
    found = image.info.get("exif", b"") if image else b""
    return bytes(found).removeprefix(b"Exif\0\0")
