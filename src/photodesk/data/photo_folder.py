"""The pictures of a folder, under the ids that articles give them.

Ids and names out of tables only ever select among the files that were found below the folder; they are never made into
a path.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from photodesk.data.folder_walk import Left, Rules, named, originals, walk
from photodesk.text_repair import unfit
from photodesk.types import Fault, Listed, Photo

PHOTO_FOLDERS = ("newsimages", "photos", "images", "pictures", "images_processed", "img")
"""Names under which a data folder keeps its pictures; without any of them every picture below the folder counts."""


@dataclass(frozen=True, slots=True)
class Gallery:
    """Photos sorted by id; the listed pictures under their final ids; what was wrong; listed id → final id where they
    differ."""

    photos: tuple[Photo, ...]
    listed: tuple[Listed, ...]
    faults: tuple[Fault, ...]
    renamed: dict[str, str]


def photo_folder(source: Path) -> Path:
    """Where the pictures of a data folder or article file are by default."""
    base = source if source.is_dir() else source.parent
    return next((base / name for name in PHOTO_FOLDERS if (base / name).is_dir()), base)


def files(
    folder: Path,
    suffixes: Sequence[str] | frozenset[str],
    *,
    exclude: Sequence[str] = (),
    faults: list[Fault] | None = None,
) -> list[Path]:
    """Files below a folder by suffix, sorted; what `folder_walk` leaves out is added to `faults`. What is no regular
    file is among them: who reads it names it."""
    faults = [] if faults is None else faults
    found, left = list[Path](), Left()
    folder = Path(os.path.abspath(folder))  # noqa: PTH100  links stay as the user named them
    for base, names in walk(Rules(folder, exclude, faults), folder, faults, left):
        pairs = originals(names)
        for name in names:
            path = Path(base, name)
            if name not in pairs and path.suffix.lower() in suffixes:
                found.append(path)
    faults += named(folder, left)
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


class Names:
    """Names of files, to be found by what tables, runs and people call them.

    Every spelling of a name is looked up in one table, so that finding many names costs as much as reading them once.

    Args:
        names: paths with `/` between folders, unique.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self.names = dict.fromkeys(names)
        self.plain = all(map(str.isascii, self.names))  # then NFC is no other spelling
        self._tables: dict[Callable[[str], str], _Table] = {}

    def find(self, wanted: str) -> Match:
        """The name that is meant: that very path; else the one that ends in the longest part of it; else that of the
        same stem; all this first as it is written, then in NFC, then without regard to case. Of a URL the path counts.
        """
        if wanted in self.names:
            return Match(wanted)
        for text in _readings(wanted):
            for spell in _SPELLINGS:
                if spell is _nfc and self.plain:
                    continue
                if spell not in self._tables:
                    self._tables[spell] = _Table(self.names, spell)
                if found := self._tables[spell].find(spell(text)):
                    return replace(found, folded=spell is _folded)
        return Match()


@dataclass(frozen=True, slots=True)
class Match:
    """What `Names.find` found.

    Args:
        name: the one that is meant; empty if there is none, or if several are meant equally well.
        among: those several.
        stem: it was named without its suffix.
        folded: it was named in another case.
    """

    name: str = ""
    among: tuple[str, ...] = ()
    stem: bool = False
    folded: bool = False

    @property
    def there(self) -> bool:
        """Whether one or several have that name."""
        return bool(self.name or self.among)


def _nfc(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def _folded(text: str) -> str:
    return _nfc(_nfc(text).casefold())


_SPELLINGS: tuple[Callable[[str], str], ...] = (str, _nfc, _folded)


def _readings(wanted: str) -> Iterator[str]:
    """A name as a path, and as the path of a URL if it can be one."""
    yield wanted.replace("\\", "/")
    if any(mark in wanted for mark in ("://", "?", "#", "%")):
        yield unquote(re.split("[?#]", wanted.partition("://")[2] or wanted, maxsplit=1)[0])


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".")]


class _Table:
    """The names in one spelling: by their paths, by every end of their paths, and by those ends without suffix."""

    def __init__(self, names: Iterable[str], spell: Callable[[str], str]) -> None:
        formats: dict[str, str] = {}
        self.whole, self.stems = _Ends(), _Ends()
        for name in names:
            self.whole.add(spell(name), name)
            formats.setdefault(bare(name), name)
        for stem, name in formats.items():  # of one picture in two formats the first
            self.stems.add(spell(stem), name)

    def find(self, wanted: str) -> Match | None:
        parts = _parts(wanted)
        for ends, stem in ((self.whole, False), (self.stems, True)):
            if found := ends.find(parts):
                return _one(found, stem=stem)
        return None


class _Ends:
    """Paths by what they end in. Those of one last name are told apart when they are first asked for."""

    def __init__(self) -> None:
        self.last: dict[str, list[tuple[str, str]]] = {}
        self.more: dict[str, dict[str, list[str]]] = {}

    def add(self, path: str, name: str) -> None:
        self.last.setdefault(path.rpartition("/")[2], []).append((path, name))

    def find(self, parts: Sequence[str]) -> list[str]:
        """The names of that very path, else of the longest end of it."""
        group = self.last.get(parts[-1], []) if parts else []
        if len(group) < 2:
            return [name for _, name in group]
        if parts[-1] not in self.more:
            self.more[parts[-1]] = ends = dict[str, list[str]]()
            for path, name in group:
                own = _parts(path)
                ends.setdefault("/" + "/".join(own), []).append(name)  # the very path
                for at in range(len(own)):
                    ends.setdefault("/".join(own[at:]), []).append(name)
        ends = self.more[parts[-1]]
        keys = ["/" + "/".join(parts), *("/".join(parts[at:]) for at in range(len(parts)))]
        return next((ends[key] for key in keys if key in ends), [])


def _one(found: Sequence[str], *, stem: bool) -> Match:
    return Match(found[0], stem=stem) if len(found) == 1 else Match("", tuple(found), stem=stem)


def bare(name: str) -> str:
    """A path without the suffix of its file."""
    folders, slash, last = name.rpartition("/")
    return folders + slash + (last.rpartition(".")[0] or last)


def _is_picture(name: str) -> bool:
    """Whether a name ends like that of a picture."""
    from photodesk.images import SUFFIXES

    return name[len(bare(name)) :].lower() in SUFFIXES


def suggestion(wanted: str, names: Names) -> str:
    """The name that was probably meant by one that is not there, with or without the suffix of a picture; empty if none
    is."""
    return names.find(wanted).name or (names.find(bare(wanted)).name if _is_picture(wanted) else "")


def several(cell: str, names: Names) -> list[str]:
    """The pictures that one cell names.

    A cell that is the name of one file is one picture. Else line ends, semicolons and bars part them; so do commas
    where every part is the name of a file or ends like one, and whatever stands between two URLs.
    """
    if not re.search(r"[;|,\n]", cell):
        return [cell] if cell else []
    if _is_one(cell, names):
        return [cell]
    if "://" in cell:
        parts = [part for line in cell.split("\n") for part in re.split(r"\s*[;|,\s]\s*(?=\w+://)", line)]
        return [part.strip(" ;|,") for part in parts if part.strip(" ;|,")]
    found: list[str] = []
    for part in filter(None, map(str.strip, re.split(r"[;|\n]", cell))):
        pieces = [piece for piece in map(str.strip, part.split(",")) if piece]
        proved = all(_is_picture(piece) or names.find(piece).there for piece in pieces)
        found += pieces if proved and not _is_one(part, names) else [part]
    return list(dict.fromkeys(found))


def _is_one(cell: str, names: Names) -> bool:
    """Whether what could part a cell's pictures belongs to the name of one file."""
    match = names.find(cell)
    marks = set(re.findall(r"[;|,\n]", cell))
    return any(marks <= set(name) for name in (match.name, *match.among) if name)


@dataclass(frozen=True)
class Pictures:
    """The pictures below a folder by their paths in it, and those whose names no run file, index or table can hold."""

    folder: Path
    paths: Mapping[str, Path]
    faults: tuple[Fault, ...]

    @cached_property
    def names(self) -> Names:
        """The paths, to be found by other spellings."""
        return Names(self.paths)


def pictures(folder: Path, *, exclude: Sequence[str] = ()) -> Pictures:
    """Look for the pictures below a folder.

    Args:
        folder: what `folder_walk` leaves out of it is among the faults.
        exclude: patterns of what to leave out as well.
    """
    from photodesk.images import SUFFIXES

    paths, faults = dict[str, Path](), list[Fault]()
    top = os.path.abspath(folder)  # noqa: PTH100  as in files
    for path in files(folder, SUFFIXES, exclude=exclude, faults=faults):
        name = path.relative_to(top).as_posix()
        if reason := unfit(name):
            faults.append(Fault("photo-name", name, f"the name of the file {reason}", "left out", "rename the file"))
        elif not path.is_file():
            what = "is a dead link, pipe, socket or device and not a file"
            faults.append(Fault("photo-unreadable", name, what, "left out", "replace or remove it"))
        else:
            paths[name] = path
    return Pictures(folder, paths, tuple(faults))


def gather(there: Pictures, listed: Sequence[Listed] = ()) -> Gallery:
    """All pictures of a folder, and which of the listed ones each is: see `Names`.

    If the tables give a picture both an id and a file name, that is its id; if they name pictures without suffix, ids
    are file names without suffix, with folders where two are alike; else paths below the folder.
    """
    folder, paths, names, faults = there.folder, there.paths, there.names, list(there.faults)
    found: dict[str, str] = {}
    given: dict[str, str] = {}
    by_stem = False
    for item in listed:
        order = (item.photo, item.file) if "://" in item.photo else (item.file, item.photo)
        wanted = [one for one in order if one]
        matches = [names.find(one) for one in wanted]
        match = next((one for one in matches if one.name), next((one for one in matches if one.among), Match()))
        by_stem |= match.stem
        if match.name:
            found[item.photo] = match.name
            if match is matches[0] and wanted[0] == item.file != item.photo:
                given.setdefault(match.name, item.photo)
            if match.folded:
                what = f"a picture's name differs in case: {item.file or item.photo} is {match.name}"
                faults.append(Fault("photo-spelling", item.where, what, "repaired"))
        elif match.among:
            others = ", ".join(match.among[:3]) + (", …" if len(match.among) > 3 else "")
            what = f"several pictures have this name: {item.file or item.photo} may be {others}"
            advice = "name the picture with its folder, in its own case"
            faults.append(Fault("photo-ambiguous", item.where, what, "kept", advice))
            found[item.photo] = ""
    alike: dict[str, set[str]] = {}
    for name in paths:
        alike.setdefault(PurePosixPath(name).stem, set()).add(bare(name))
    ids: dict[str, str] = {}
    for name in paths:
        stem = PurePosixPath(name).stem
        ids[name] = given.get(name) or (
            name if not (by_stem or given) else stem if len(alike[stem]) == 1 else bare(name)
        )
    taken = dict[str, str]()
    for name, key in ids.items():
        if taken.setdefault(key, name) != name:
            what = f"two pictures have one id: {key}, {taken[key]} came first"
            faults.append(Fault("photo-id-taken", name, what, "left out", "rename one of them"))
    renamed = {photo: ids[name] for photo, name in found.items() if name and ids[name] != photo}
    missing = [item for item in listed if item.photo not in found]
    if missing and not paths:
        can = any(item.url for item in missing)
        advice = (
            "run photodesk fetch on this data" if can else "put the pictures there, or name their folder with --photos"
        )
        what = f"no pictures: the tables name {len(missing)}"
        faults.append(Fault("photo-none", str(folder), what, "kept", advice))
    else:
        for item in missing:
            advice = "run photodesk fetch on this data" if item.url else "put the picture in the photo folder"
            what = f"picture is missing: {item.file or item.photo}"
            faults.append(Fault("photo-missing", item.where, what, "kept", advice))
    photos = tuple(Photo(key, paths[name]) for key, name in sorted(taken.items()))
    final = tuple(replace(item, photo=renamed.get(item.photo, item.photo)) for item in listed)
    return Gallery(photos, final, tuple(faults), renamed)
