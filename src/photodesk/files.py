"""Files that survive a kill: whole or not at all, one writer at a time, named by their content."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Literal, overload

from photodesk.errors import StoreError, UsageError


def digest(data: bytes) -> bytes:
    """The name of a content: the first 16 bytes of its SHA-256."""
    return hashlib.sha256(data).digest()[:16]


@overload
def replacing(path: Path) -> contextlib.AbstractContextManager[IO[str]]: ...
@overload
def replacing(path: Path, mode: Literal["wb"]) -> contextlib.AbstractContextManager[IO[bytes]]: ...
def replacing(
    path: Path, mode: str = "w"
) -> contextlib.AbstractContextManager[IO[str]] | contextlib.AbstractContextManager[IO[bytes]]:
    """Write a new file beside `path` and put it in its place when the block ends well; else leave `path` as it was.

    Text is UTF-8 with the line ends that are written. Makes missing parent folders.
    """
    return _replacing(path) if mode == "wb" else _replacing_text(path)


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[IO[bytes]]:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        error.filename = str(path)  # which the caller knows
        raise
    try:
        with os.fdopen(handle, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        mask = os.umask(0o022)
        os.umask(mask)
        Path(name).chmod(0o666 & ~mask)
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        raise


@contextlib.contextmanager
def _replacing_text(path: Path) -> Iterator[IO[str]]:
    with _replacing(path) as raw:
        text = io.TextIOWrapper(raw, encoding="utf-8", newline="")
        yield text
        text.flush()
        text.detach()  # the bytes below are still to be synced


_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ufeff]")
_UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters, line ends, turns of the writing direction, and bytes of a name that are not UTF-8."""


def shown(text: str | Path) -> str:
    """A path or message as one line that a terminal or a table shows and does not obey: what would steer it is
    escaped, as is a byte that is not UTF-8: `l\\xe4nder.jpg`, `two\\nlines.jpg`."""
    return _UNSEEN.sub(_escaped, str(text))


def _escaped(match: re.Match[str]) -> str:
    code = ord(match[0])
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    return match[0].encode("unicode_escape").decode("ascii")


def unfit(name: str) -> str:
    """Why the name of a file cannot be an id in runs, tables and indexes; empty if it can."""
    if any("\ud800" <= character <= "\udfff" for character in name):
        return f"is not UTF-8: {shown(name)}"
    if _CONTROL.search(name):
        return f"holds a control character: {shown(name)}"
    return ""


def probe(path: Path) -> None:
    """Make the folder of a file that will be written after long work, and see that files can be written there.

    Raises:
        UsageError: they cannot.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise UsageError(
            f"{path} cannot be written: {error.strerror or error}; name a file in a folder where you may write"
        ) from None


def locked(path: Path) -> int:
    """A file descriptor that holds an exclusive lock on `path` until it is closed or the process ends, however it ends.

    Raises:
        StoreError: another process holds it.
    """
    import fcntl

    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise StoreError(f"another photodesk is writing to {path.parent}; wait until it is done") from None
    return handle


def cache_folder() -> Path:
    """Where embeddings and translations are kept: `$PHOTODESK_CACHE`, else photodesk in the user's cache folder."""
    if named := os.environ.get("PHOTODESK_CACHE"):
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "photodesk"
