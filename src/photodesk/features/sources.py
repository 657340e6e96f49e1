"""Where the pictures of an archive lie: a folder, a list of paths, Parquet files with their bytes, tars, and all of
these behind URLs.

A source is cut into units, each for one worker to read. A unit is plain data that travels to another machine; its
pictures are read where it arrives. URLs go through fsspec: `s3://bucket/folder`, `gs://…`, `https://…`, `memory://…`.
Sizes and numbers that an archive claims are believed as far as there are bytes for them, and no further.
"""

from __future__ import annotations

import os
import re
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, Literal

from photodesk.data.datasets import gallery
from photodesk.data.photo_folder import files
from photodesk.errors import DataError, MissingExtra, PhotoError, require
from photodesk.features.pipeline import Picture, chunks
from photodesk.files import open_regular
from photodesk.images import MAX_BYTES, PIECE, SUFFIXES, content, too_many_bytes
from photodesk.types import Fault

PER_UNIT = 256
"""Files of a unit: some seconds of work, so that what a lost worker had in hand is soon done again."""

BYTES = ("image", "jpg", "jpeg", "png", "webp", "bytes", "image_bytes", "content", "picture", "photo")
"""Names of a Parquet column with picture files, the first that is there; it may be a structure with a field `bytes`."""

PACKED = (".tar", ".parquet")

UNPACKED = 100
"""Bytes that the pictures of a row group may have for each byte of the file: photos are packed already and hardly
shrink, a file of nothing but zeros shrinks to less than a thousandth."""

_NAME_BYTES = 2**14  # of a tar's entry that only describes the next one; Pythons before 3.11.10 take quadratic time

ROWS = 4  # of a Parquet file that are unpacked at once: a dictionary can make each of them as large as the first

IDS = ("id", "image_id", "photo_id", "photo", "key", "__key__", "filename", "name", "path", "url")
"""Names of a Parquet column with ids, the first that is there."""


@dataclass(frozen=True, slots=True)
class Unit:
    """Some pictures that belong together on disk.

    Args:
        kind: of `place`.
        place: path or URL of a tar or Parquet file; empty for files.
        files: id and path or URL of each picture.
        group: number of the row group in a Parquet file.
    """

    kind: Literal["files", "tar", "parquet"]
    place: str = ""
    files: tuple[tuple[str, str], ...] = ()
    group: int = 0

    def pictures(self) -> Iterator[Picture]:
        """Its pictures; what cannot be read raises PhotoError when it is asked for its bytes."""
        try:
            if self.kind == "files":
                yield from (Picture(photo, place, _Reading(place)) for photo, place in self.files)
            else:
                yield from _tar(self.place) if self.kind == "tar" else _parquet(self.place, self.group)
        except MissingExtra:
            raise
        except (
            Exception
        ) as error:  # aiohttp, botocore, pyarrow and tarfile share no class, and the next unit may be whole
            yield Picture("", self.place, _Failing(_damaged(self.place, error)))


@dataclass(frozen=True, slots=True)
class _Reading:
    place: str

    def __call__(self) -> bytes:
        return read(self.place)


@dataclass(frozen=True, slots=True)
class _Failing:
    error: PhotoError

    def __call__(self) -> bytes:
        raise self.error


@dataclass(frozen=True, slots=True)
class _Having:
    data: bytes

    def __call__(self) -> bytes:
        return self.data


def find(source: str | Path) -> tuple[list[Unit], tuple[Fault, ...]]:
    """The units of a source, in an order that does not change, and what was wrong with it.

    Args:
        source: a folder or URL of a folder with pictures, else with tars or Parquet files; one tar or Parquet file; a
            pattern such as `s3://bucket/part-*.tar`; or a text file (`.txt`) with one path or URL a line.

    Raises:
        DataError: it is not there, or holds none of these.
        MissingExtra: a library for its URL is not installed.
    """
    place = str(source)
    remote = "://" in place
    if not remote and Path(place).is_dir():
        photos, faults = gallery(Path(place))
        if photos:
            left = _left_out(place, [str(path) for path in files(Path(place), PACKED)])
            return _files([(photo.id, str(photo.path.resolve())) for photo in photos]), (*faults, *left)
    base, names = _listed(place)
    if place.endswith(".txt"):
        return _files([(name, name) for name in _lines(place)]), ()
    pictures = [name for name in names if PurePosixPath(name).suffix.lower() in SUFFIXES]
    if pictures:
        return _files([(name.removeprefix(base), name) for name in pictures]), _left_out(
            place, [n for n in names if n.endswith(PACKED)]
        )
    units = [Unit("tar", name) for name in names if name.endswith(".tar")]
    damaged: list[PhotoError] = []
    for name in (name for name in names if name.endswith(".parquet")):
        try:
            with _opened(name) as stream:
                groups = _groups(stream, _table(name, stream).metadata)
            units += [Unit("parquet", name, group=group) for group in groups]
        except MissingExtra:
            raise
        except Exception as error:  # as in `Unit.pictures`
            damaged.append(_damaged(name, error))
    if not units:
        raise DataError(
            str(damaged[0])
            if damaged
            else f"{place} holds no picture, no .tar and no .parquet file; name a folder, a file, a pattern, or a list "
            "of paths in a .txt"
        )
    return units, tuple(error.fault() for error in damaged)


def count(units: Sequence[Unit]) -> int:
    """How many pictures are known to be there before tars and Parquet files are opened; 0 is unknown."""
    return sum(len(unit.files) for unit in units) if all(unit.kind == "files" for unit in units) else 0


def read(place: str) -> bytes:
    """The bytes of a file or URL.

    Raises:
        PhotoError: they cannot be had, or are more than `photos.MAX_BYTES`.
    """
    if "://" not in place:
        return content(Path(place))
    try:
        with _opened(place) as stream:
            data = stream.read(MAX_BYTES + 1)
    except MissingExtra:
        raise
    except Exception as error:  # every file system of fsspec has errors of its own
        what = f"cannot be read: {_said(error)}"
        raise PhotoError("photo-unreadable", place, what, "check the URL and your access") from error
    if len(data) > MAX_BYTES:
        raise too_many_bytes(place)
    return data


def _said(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _damaged(place: str, error: Exception) -> PhotoError:
    if isinstance(error, PhotoError):  # says itself what is wrong with which file
        return error
    return PhotoError("source-damaged", place, f"is damaged or cannot be read: {_said(error)}", "get it again")


def _left_out(place: str, packed: Sequence[str]) -> tuple[Fault, ...]:
    """What is said of tars and Parquet files that lie beside pictures."""
    if not packed:
        return ()
    what = (
        f"beside its pictures lie {len(packed)} files of kinds that are read by themselves only (.tar, .parquet): "
        f"{packed[0]}"
    )
    return (
        Fault(
            "source-mixed",
            place,
            what,
            "left out",
            f"make an index of them by themselves, with a pattern such as '*{PurePosixPath(packed[0]).suffix}'",
        ),
    )


def _files(found: list[tuple[str, str]]) -> list[Unit]:
    return [Unit("files", files=tuple(some)) for some in chunks(found, PER_UNIT)]


def _lines(place: str) -> list[str]:
    base = "" if "://" in place else str(Path(place).resolve().parent)
    try:
        lines = [line.strip() for line in read(place).decode("utf-8-sig").splitlines()]
    except UnicodeDecodeError as error:
        number = error.object.count(b"\n", 0, error.start) + 1
        raise DataError(f"{place} line {number} is not UTF-8; save the list in that encoding") from None
    return [line if "://" in line else str(Path(base, line)) for line in lines if line and not line.startswith("#")]


def _listed(place: str) -> tuple[str, list[str]]:
    """How names below it begin, and the files below a folder, those that fit a pattern, or the one file that it is;
    sorted."""
    if "://" in place:
        try:
            system, path = require("fsspec", "ray").core.url_to_fs(place)
        except (ImportError, ValueError) as error:
            raise MissingExtra(f'{place}: {error}; for S3 run: pip install "photodesk[s3]"') from None
        try:
            found = system.glob(path) if "*" in path else [path] if system.isfile(path) else system.find(path)
        except Exception as error:  # as in `read`
            raise DataError(f"{place} cannot be listed: {_said(error)}; check the URL and your access") from error
        base, names = str(system.unstrip_protocol(path)), [str(system.unstrip_protocol(name)) for name in found]
    else:
        path = Path(place).expanduser()
        rest = path.relative_to(path.anchor) if path.is_absolute() else path
        matches = Path(path.anchor).glob(str(rest)) if "*" in place else path.rglob("*") if path.is_dir() else [path]
        base = str(path.resolve())
        names = [str(match.resolve()) for match in matches if os.path.lexists(match) and not match.is_dir()]
    if not names:
        raise DataError(f"{place} is not there or holds no file")
    return base.rstrip("/") + "/", sorted(names)


@contextmanager
def _opened(place: str) -> Iterator[IO[bytes]]:
    if "://" in place:
        system, path = require("fsspec", "ray").core.url_to_fs(place)
        if "file" not in system.protocol:
            with system.open(path, "rb") as stream:
                yield stream
            return
        place = path
    with open_regular(place) as stream:
        yield stream


class _Ahead:
    """A stream that is only read ahead, as `tarfile.TarFile` wants it: nothing is read for what lies behind its end."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream, self._at = stream, 0

    def tell(self) -> int:
        return self._at

    def seek(self, position: int) -> None:
        if position < self._at:
            raise tarfile.ReadError("an entry claims less than no bytes")
        while self._at < position:
            if not self._piece(position - self._at):
                raise tarfile.ReadError("it ends within an entry")

    def read(self, size: int) -> bytes:
        """As many of `size` bytes as there are, in pieces: asked for at once, they would be reserved at once."""
        if not 0 <= size <= MAX_BYTES:
            raise tarfile.ReadError(f"an entry claims {size} bytes")
        parts = []
        while size and (part := self._piece(size)):
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def _piece(self, size: int) -> bytes:
        part = self._stream.read(min(size, PIECE))
        self._at += len(part)
        return part


class _Entry(tarfile.TarInfo):
    """The header of an entry, which claims nothing impossible and is not taken for the end where it is damaged."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _Entry:
        try:
            found = super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            if not buf.strip(b"\0"):
                raise
            said = f"{error} where an entry should begin, or it is compressed and has to be unpacked"
            raise tarfile.ReadError(said) from None
        if found.size < 0 or (found.type in b"xgXLK" and found.size > _NAME_BYTES):
            raise tarfile.ReadError(f"an entry claims {found.size} bytes")
        return found


def _tar(place: str) -> Iterator[Picture]:
    """Pictures of a tar in their order, read as a stream."""
    stem = PurePosixPath(place).stem
    with _opened(place) as raw:
        stream = _Ahead(raw)
        tar: Any = tarfile.TarFile(fileobj=stream, tarinfo=_Entry)  # type: ignore[arg-type]  # it only reads
        while member := tar.next():
            tar.members.clear()  # else it keeps the headers of all
            if member.isdir() or PurePosixPath(member.name).suffix.lower() not in SUFFIXES:
                continue
            shown = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in member.name)
            name, where = f"{stem}/{shown}", f"{place}#{shown}"
            if wrong := _wrong(member, where):
                yield Picture(name, where, _Failing(wrong))
                continue
            data = stream.read(member.size)
            if len(data) < member.size:
                raise tarfile.ReadError("it ends within an entry")
            yield Picture(name, where, _Having(data))


def _wrong(member: tarfile.TarInfo, where: str) -> PhotoError | None:
    """Why an entry is not taken as a picture, if it is not."""
    if member.issparse():
        return PhotoError("photo-unreadable", where, "is stored with holes", "pack it again without --sparse")
    if not member.isreg():
        what = "is a link, pipe or device and not a file"
        return PhotoError("photo-unreadable", where, what, "pack it again with --dereference --hard-dereference")
    if member.size > MAX_BYTES:
        return too_many_bytes(where)
    if not member.name.isprintable():  # nor is what is not UTF-8
        return PhotoError("photo-name", where, "has a name that is not text", "rename it and pack it again")
    if member.name.startswith("/") or ".." in PurePosixPath(member.name).parts:
        what = "has a name that leads out of the archive"
        return PhotoError("photo-name", where, what, "pack it again with names below one folder")
    return None


def _table(place: str, stream: IO[bytes]) -> Any:
    try:
        return require("pyarrow.parquet", "parquet").ParquetFile(stream)
    except ValueError as error:
        what = f"is not a Parquet file or is damaged: {error}"
        raise PhotoError("source-damaged", place, what, "get it again") from None


def _groups(stream: IO[bytes], about: Any) -> list[int]:
    """The row groups of a Parquet file that hold rows.

    Raises:
        ValueError: they claim more bytes than there are, or more rows than bytes.
    """
    left, found = stream.seek(0, os.SEEK_END), []
    for group in range(about.num_row_groups):
        packed, rows = _packed(about.row_group(group)), about.row_group(group).num_rows
        left -= packed
        if left < 0 or not 0 <= rows <= packed:
            raise ValueError(f"row group {group} claims {rows} rows in {packed} bytes, which are not there")
        if rows:
            found.append(group)
    return found


def _packed(group: Any) -> int:
    """Bytes that a row group claims to have in the file."""
    return sum(max(0, int(group.column(i).total_compressed_size)) for i in range(group.num_columns))


def _parquet(place: str, group: int) -> Iterator[Picture]:
    """Pictures of one row group."""
    stem = PurePosixPath(place).stem
    with _opened(place) as stream:
        table = _table(place, stream)
        kinds = {field.name: str(field.type) for field in table.schema_arrow}
        holding = [name for name, kind in kinds.items() if "binary" in kind and not re.match(r"\w*list", kind)]
        column = next((name for name in BYTES if name in holding), holding[0] if len(holding) == 1 else "")
        if not column:
            what = f"has no column with the bytes of pictures among {', '.join(kinds)}"
            raise PhotoError("source-no-photos", place, what, "call that column image")
        key = next((name for name in IDS if name in kinds and name != column), "")
        row = sum(table.metadata.row_group(i).num_rows for i in range(group))
        end = row + table.metadata.row_group(group).num_rows
        left = UNPACKED * _packed(table.metadata.row_group(group)) + MAX_BYTES
        for batch in table.iter_batches(batch_size=ROWS, row_groups=[group], columns=[column, *([key] if key else [])]):
            for at in range(len(batch)):
                value, id_ = batch[column][at].as_py(), batch[key][at].as_py() if key else None
                data = value.get("bytes") if isinstance(value, dict) else value
                name = str(id_) if id_ is not None else f"{stem}/{row}"
                where = f"{place}#{row}"
                if isinstance(data, bytes | None):
                    left -= len(data or b"")
                    if left < 0 or row == end:
                        raise ValueError("its rows hold more than there are bytes for in the file")
                    yield Picture(name, where, _Having(data or b""))
                else:
                    what = f"holds a {type(data).__name__} and not the bytes of one picture"
                    advice = "give each picture a row of its own"
                    yield Picture(name, where, _Failing(PhotoError("photo-foreign", where, what, advice)))
                row += 1
        if row < end:
            raise ValueError(f"{end - row} rows that it claims are not there")
