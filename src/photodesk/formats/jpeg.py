"""JPEG without its end marker: is a pixel missing, or only the marker?

Programs that were stopped, and cameras with full cards, leave files without it. Pillow calls all of them truncated. The
last bytes tell nothing, for entropy-coded data has no length; but where all of it is there, what follows changes no
pixel.
"""

from __future__ import annotations

import io
import re
import zlib

START, END, SCAN = b"\xff\xd8\xff", b"\xff\xd9", b"\xff\xda"
_OTHER = bytes((i * 89 + 37) % 251 for i in range(256))  # no 0xff, no long runs of one bit


def whole(data: bytes) -> bytes:
    """The file with its end marker, where that is all that it lacks; every other file as it is.

    Raises:
        ValueError: its last pixels are missing, and zeros stand in their place, which a decoder would take for data.
    """
    if not data.startswith(START) or data.endswith(END) or data.rfind(END) > data.rfind(SCAN):
        return data
    body = data.rstrip(b"\0")
    cut = len(data) - len(body)
    if not cut:
        body = body.removesuffix(b"\xff")  # half of the marker
    for zeros in range(min(cut, 2) + 1):  # the data itself may end in some
        ended = body + bytes(zeros)
        if _complete(ended) and _sum(ended + END) == _sum(ended + _OTHER + END):
            return ended + END
    if cut > 1:
        raise ValueError("image file is truncated, and filled up with zeros")
    return data


def _sum(data: bytes) -> int | None:
    """Of the pixels; None where there are none."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
            return zlib.crc32(image.tobytes())
    except Exception:  # what is wrong with it, the decoder says
        return None


def _complete(data: bytes) -> bool:
    """Whether the scans of the picture bring every component to its last bit: a file may end between two of them.

    Source: ITU-T T.81, B.2.3: a scan names its components, the coefficients Ss to Se, and the bit Al down to which it
    brings them.
    """
    at = 2
    frame = b""
    while data[at : at + 1] == b"\xff" and data[at : at + 2] != SCAN:
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        if 0xC0 <= data[at + 1] <= 0xCF and data[at + 1] not in (0xC4, 0xC8, 0xCC):
            frame = data[at + 4 : at + 2 + length]
        at += 2 + max(length, 2)
    wanted = {(component, k) for component in frame[6::3] for k in range(64)}
    for scan in re.finditer(SCAN, data[at:]):
        head = data[at + scan.start() + 4 : at + scan.start() + 16]
        count = head[0] if head else 0
        if len(head) < 4 + 2 * count or not 1 <= count <= 4:
            continue
        first, last, bit = head[1 + 2 * count], head[2 + 2 * count], head[3 + 2 * count] & 15
        if not bit:
            wanted -= {(head[1 + 2 * i], k) for i in range(count) for k in range(first, last + 1)}
    return bool(frame) and not wanted
