"""Files that survive a kill: whole or not at all, one writer at a time, named by their content."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Literal, overload


def digest(data: bytes) -> bytes:
    """The name of a content: the first 16 bytes of its SHA-256."""
    return hashlib.sha256(data).digest()[:16]


@overload
def replacing(path: Path, mode: Literal["w"] = ...) -> contextlib.AbstractContextManager[IO[str]]: ...
@overload
def replacing(path: Path, mode: Literal["wb"]) -> contextlib.AbstractContextManager[IO[bytes]]: ...
@contextlib.contextmanager
def replacing(path: Path, mode: Literal["w", "wb"] = "w") -> Iterator[IO[str] | IO[bytes]]:
    """Write a new file beside `path` and put it in its place when the block ends well; else leave `path` as it was.

    Text is UTF-8 with the line ends that are written. Makes missing parent folders.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, mode, **({} if "b" in mode else {"encoding": "utf-8", "newline": ""})) as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(name, 0o666 & ~_umask())
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        raise


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def cache_folder() -> Path:
    """Where embeddings and translations are kept: `$PHOTODESK_CACHE`, else photodesk in the user's cache folder."""
    if named := os.environ.get("PHOTODESK_CACHE"):
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "photodesk"
