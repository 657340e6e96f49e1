"""An untrusted picture → a small upright one, decoded in a process of its own that gets only so much memory and time.

`python -m photodesk.web.uploads SIDE` reads the bytes of a picture and writes `WIDTH HEIGHT\\n` and its RGB bytes; exit
code 3: the arguments of a PhotoError, as JSON.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import threading
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, cast

from photodesk import formats
from photodesk.encoders import cancellation
from photodesk.errors import PhotoError

if TYPE_CHECKING:
    from PIL import Image

BYTES = 30 * 2**20
"""Largest file that is taken."""

PIXELS = 80_000_000
"""Largest picture that is decoded."""

MEMORY = 2 * 2**30
"""Address space of a decoder, in bytes: libraries, the whole picture and its RGB form."""

SECONDS = 15
"""Time that a decoder gets."""

LOOK = 0.5
"""Seconds between two looks whether anybody still waits for it."""

SIDE = 640
"""Longest side of what is kept of an upload: no encoder looks at more."""

KEPT = 64
"""Uploads that are kept, the latest."""

_HEADS = (b"\xff\xd8\xff", b"\x89PNG\r\n", b"GIF8", b"RIFF", b"II*\0", b"MM\0*", b"BM")
_together = threading.BoundedSemaphore(2)
"""How many are decoded at once; how many may wait is for `lanes` to say."""


def shrink(data: bytes | bytearray, side: int = SIDE) -> Image.Image:
    """Decode a picture in a process of its own.

    Args:
        data: JPEG, PNG, WebP, GIF, TIFF or BMP.
        side: longest side of the result, in pixels; a smaller picture stays as it is.

    Returns:
        an upright RGB image.

    Raises:
        PhotoError: it is no picture, too large, damaged, or takes more memory or time than it gets.
        Cancelled: nobody waits for it any more.
    """
    from PIL import Image

    if not data.startswith(_HEADS) and not formats.kind(bytes(data[:4096])):
        raise PhotoError("photo-foreign", "the file", "is not a picture: JPEG, PNG, WebP, GIF, TIFF and BMP are taken")
    with _together:
        code, out = _run([sys.executable, "-m", "photodesk.web.uploads", str(side)], data)
    if code == 3:
        raise PhotoError(*json.loads(out))
    head, _, pixels = out.partition(b"\n")
    size = tuple(int(part) for part in head.split() if part.isdigit())
    if code or len(size) != 2 or not 0 < max(size) <= side or len(pixels) != size[0] * size[1] * 3:
        what = "takes more memory or time to decode than it may"
        raise PhotoError("photo-too-large", "the picture", what, "make it smaller")
    return Image.frombytes("RGB", (size[0], size[1]), pixels)


def _run(command: list[str], data: bytes | bytearray) -> tuple[int, bytes]:
    """Exit code and output of a decoder, which ends early where nobody waits for it any more."""
    cancellation.check()
    with subprocess.Popen(  # noqa: S603  our own module; the untrusted bytes are its input
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
    ) as decoder:
        late, content = time.monotonic() + SECONDS, cast("bytes | None", data)
        try:
            while True:
                try:
                    out, _ = decoder.communicate(content, timeout=min(LOOK, SECONDS))
                    return decoder.returncode, out
                except subprocess.TimeoutExpired:
                    content = None  # the next call goes on where this one was
                    cancellation.check()
                    if time.monotonic() > late:
                        what = f"takes more than {SECONDS} seconds to decode"
                        raise PhotoError("photo-too-large", "the picture", what, "make it smaller") from None
        finally:
            decoder.kill()


class Uploads:
    """The latest pictures that visitors dragged in, small, in memory only."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, Image.Image] = OrderedDict()
        self._lock = threading.Lock()

    def keep(self, picture: Image.Image) -> str:
        """Keep a picture; returns the name to ask for it, which nobody can guess."""
        name = secrets.token_hex(16)
        with self._lock:
            self._kept[name] = picture
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return name

    def get(self, name: str) -> Image.Image | None:
        """The picture of that name, if it is still kept."""
        with self._lock:
            if name in self._kept:
                self._kept.move_to_end(name)
            return self._kept.get(name)


def _decode(side: int) -> int:
    import resource

    os.nice(10)  # searches go first
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        from photodesk.images import decode

        image = decode(sys.stdin.buffer.read(BYTES + 1), size=side, where="the picture", pixels=PIXELS)
        image.thumbnail((side, side))
        sys.stdout.buffer.write(f"{image.width} {image.height}\n".encode() + image.tobytes())
        return 0
    except PhotoError as error:
        told = error.__cause__
        if isinstance(told, MemoryError):
            return 4
        sys.stdout.write(json.dumps(error.args))
        return 3
    except MemoryError:
        return 4


if __name__ == "__main__":
    sys.exit(_decode(int(sys.argv[1])))
