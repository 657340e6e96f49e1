"""Sums of an engine's files, written next to them when it is closed: a damaged file is named before anything maps it
into memory, and told apart from a stop in the middle of a change.

`sums.json` has on its first line the sum of the rest, which says the length and the sum of every file. It is deleted
before the first change after opening, so files that it does not fit were changed by nobody who may.
"""

from __future__ import annotations

import errno
import json
import os
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from photodesk.files import as_store_error, open_regular, replacing, sync_folder

FILE = "sums.json"
BLOCK = 2**18
_ZEROS = bytes(BLOCK)


class Sums:
    """The sums of a folder.

    Args:
        folder: with the files; those of its folders as well.
        bulk: whether a file, by its path in the folder, is too long to be read at every opening; only its length is
            compared then.
        ignored: names of files that are nobody's content, such as locks.
    """

    def __init__(
        self, folder: Path, bulk: Callable[[str], bool] = lambda name: False, *, ignored: tuple[str, ...] = ()
    ) -> None:
        self._folder, self._bulk, self._ignored = folder, bulk, (FILE, *ignored)
        self._there = (folder / FILE).exists()

    def wrong(self, *, whole: bool = False) -> list[tuple[str, str]]:
        """Files that are not as they were when the engine was closed, with what is wrong; nothing while it is being
        changed, or after it was stopped in a change.

        Args:
            whole: read the long files as well.
        """
        if not self._there:
            return []
        found = self._read()
        if found is None:  # no answer depends on it
            return [(FILE, "is damaged")] if whole else []
        there, wrong = set(self._files()), []
        for name, (length, crc) in sorted(found.items()):
            path = self._folder / name
            try:
                if name not in there:
                    wrong.append((name, "is missing"))
                elif path.stat().st_size != length:
                    wrong.append((name, f"has {path.stat().st_size:,} bytes and not {length:,}"))
                elif (whole or not self._bulk(name)) and checksum(path) != crc:
                    wrong.append((name, "is damaged: its sum is another one than when it was written"))
            except OSError as error:
                wrong.append((name, f"cannot be read: {error.strerror or error}"))
        return wrong

    def changing(self) -> None:
        """Say that the files are about to be changed."""
        if self._there:
            with as_store_error(f"cannot write {self._folder}", "what was reported as done is kept"):
                (self._folder / FILE).unlink(missing_ok=True)
                sync_folder(self._folder)
            self._there = False

    def write(self) -> None:
        """Note the files as they are, which nobody is writing to; nothing where none was changed."""
        if not self._there:
            with as_store_error(f"cannot write {self._folder}", "what was reported as done is kept"):
                found = {n: [(self._folder / n).stat().st_size, checksum(self._folder / n)] for n in self._files()}
                text = json.dumps(found, indent=0, sort_keys=True)
                with replacing(self._folder / FILE) as stream:
                    stream.write(f"{zlib.crc32(text.encode()):08x}\n{text}")
            self._there = True

    def _read(self) -> dict[str, tuple[int, int]] | None:
        try:
            with open_regular(self._folder / FILE) as stream:
                begin, _, text = stream.read().partition(b"\n")
            if int(begin, 16) != zlib.crc32(text):
                return None
            return {str(name): (int(length), int(crc)) for name, (length, crc) in json.loads(text).items()}
        except (OSError, ValueError):
            return None

    def _files(self) -> Iterator[str]:
        for path in self._folder.rglob("*"):
            if path.is_file() and path.name not in self._ignored:
                yield path.relative_to(self._folder).as_posix()


def copy(folder: Path, to: Path) -> None:
    """Copy a folder with all below it, holes as holes."""
    for path in sorted(folder.rglob("*")):
        target = to / path.relative_to(folder)
        if path.is_dir():
            target.mkdir(parents=True, exist_ok=True)
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as stream:
            for at, block in _blocks(path):
                stream.seek(at)
                stream.write(block)
            stream.truncate(path.stat().st_size)


def checksum(path: Path) -> int:
    """CRC-32 of a file's blocks that are not all zeros, each with its place: holes, of which files that are mapped into
    memory mostly consist, are not read where the system can tell them."""
    crc = 0
    for at, block in _blocks(path):
        crc = zlib.crc32(block, zlib.crc32(at.to_bytes(8, "little"), crc))
    return crc


def _blocks(path: Path) -> Iterator[tuple[int, bytes]]:
    """A file's blocks that are not all zeros, with their places."""
    with open_regular(path) as stream:
        handle, at, size = stream.fileno(), 0, os.fstat(stream.fileno()).st_size
        while at < size:
            if hasattr(os, "SEEK_DATA"):
                try:
                    at = os.lseek(handle, at, os.SEEK_DATA) // BLOCK * BLOCK
                except OSError as error:
                    if error.errno == errno.ENXIO:  # only a hole follows
                        return
            block = os.pread(handle, BLOCK, at)
            if not block:
                return
            if block != _ZEROS[: len(block)]:
                yield at, block
            at += BLOCK
