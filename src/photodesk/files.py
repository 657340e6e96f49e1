"""Files that survive a kill: whole or not at all, one writer at a time, named by their content; files that are read
without waiting for anybody."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Literal, overload

from photodesk.errors import StoreError, UsageError


def digest(data: bytes) -> bytes:
    """The name of a content: the first 16 bytes of its SHA-256."""
    return hashlib.sha256(data).digest()[:16]


def open_regular(path: str | os.PathLike[str]) -> io.BufferedReader:
    """Open a file for reading, if it is one: a pipe, socket or device by the name of a picture would never end, or
    never begin.

    What it is, is asked of the open file, so nothing can be put in its place in between; opening waits for no writer.

    Raises:
        OSError: it cannot be opened, or is a folder, pipe, socket or device.
    """
    said = "it is not a file but a pipe, socket or device"
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except OSError as error:
        if error.errno == errno.ENXIO:  # sockets and devices that nobody serves
            raise OSError(errno.ENXIO, said, os.fspath(path)) from None
        raise
    try:
        mode = os.fstat(handle).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, said, os.fspath(path))
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def read_text(path: str | os.PathLike[str]) -> str:
    """The UTF-8 text of a file, as `Path.read_text` reads it.

    Raises:
        OSError: as `open_regular`.
        UnicodeDecodeError: it is not UTF-8.
    """
    with io.TextIOWrapper(open_regular(path), "utf-8") as stream:
        return stream.read()


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
        sync_folder(path.parent)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        raise


def sync_folder(folder: Path) -> None:
    """Return when the disk has which files a folder holds, where the system can tell: a rename or deletion is then kept
    even if the power fails."""
    with contextlib.suppress(OSError):  # some systems open no folders, some disks sync none
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@contextlib.contextmanager
def _replacing_text(path: Path) -> Iterator[IO[str]]:
    with _replacing(path) as raw:
        text = io.TextIOWrapper(raw, encoding="utf-8", newline="")
        yield text
        text.flush()
        text.detach()  # the bytes below are still to be synced


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


def locked(path: Path, *, reading: bool = False) -> int:
    """A file descriptor that holds an exclusive lock on `path` until it is closed or the process ends, however it ends.

    Args:
        path: made where it is missing.
        reading: do with what is there on a disk that is read-only or full: the file, or the folder that lacks it.

    Raises:
        StoreError: another process holds it.
    """
    import fcntl

    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        if not reading or error.errno not in UNWRITABLE:
            raise
        handle = os.open(path if path.exists() else path.parent, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise StoreError(f"another photodesk is writing to {path.parent}; wait until it is done") from None
    return handle


UNWRITABLE = (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOSPC, errno.EDQUOT)
"""Errors of a medium that is read-only, somebody else's, or full."""


@contextlib.contextmanager
def as_store_error(what: str, advice: str, *also: type[Exception]) -> Iterator[None]:
    """What the disk refuses inside becomes a StoreError.

    Args:
        what: what cannot be done, with the file or folder; the reason follows.
        advice: what is kept, or the next step.
        also: other exceptions that are the disk's here, such as `sqlite3.Error`.

    Raises:
        StoreError: an OSError, or one of `also`, was raised inside.
    """
    kinds: tuple[type[Exception], ...] = (OSError, *also)
    try:
        yield
    except kinds as error:
        raise StoreError(f"{what}: {getattr(error, 'strerror', '') or error}; {advice}") from error


def cache_folder() -> Path:
    """Where embeddings and translations are kept: `$PHOTODESK_CACHE`, else photodesk in the user's cache folder."""
    if named := os.environ.get("PHOTODESK_CACHE"):
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "photodesk"
