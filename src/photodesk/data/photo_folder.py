"""The pictures of a folder, under the ids that articles give them.

Ids and names out of tables only ever select among the files that were found below the folder; they are never made into
a path.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

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


def files(folder: Path, suffixes: Sequence[str] | frozenset[str]) -> list[Path]:
    """Files below a folder by suffix, sorted; hidden ones are left out, links to folders not followed. What is no
    regular file is among them: who reads it names it."""
    found = []
    for base, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith((".", "__MACOSX"))]
        for name in names:
            path = Path(base, name)
            if not name.startswith(".") and path.suffix.lower() in suffixes:
                found.append(path)
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


def gather(folder: Path, listed: Sequence[Listed] = ()) -> Gallery:
    """Every picture below `folder`, and which of the listed ones it is.

    A listed picture is the file of that very path, else of that name, else of that name without its suffix; case does
    not count. If the tables give a picture both an id and a file name, that is its id; if they name pictures without
    suffix, ids are file names without suffix; else paths below the folder.
    """
    from photodesk.images import SUFFIXES

    there = {path.relative_to(folder).as_posix(): path for path in files(folder, SUFFIXES)}
    paths = {name: path for name, path in there.items() if path.is_file()}
    whole: dict[str, str] = {}
    stems: dict[str, str] = {}
    for name in paths:
        whole.setdefault(PurePosixPath(name).name.casefold(), name)
        stems.setdefault(PurePosixPath(name).stem.casefold(), name)

    def find(wanted: str) -> tuple[str, bool]:
        last = wanted.replace("\\", "/").rpartition("/")[2].casefold()
        name = wanted if wanted in paths else whole.get(last, "")
        return (name, False) if name else (stems.get(last, ""), True)

    found: dict[str, str] = {}
    given: dict[str, str] = {}
    by_stem = False
    for item in listed:
        name, stem = find(item.file) if item.file else ("", False)
        if name and item.file != item.photo:
            given.setdefault(name, item.photo)
        if not name:
            name, stem = find(item.photo)
        if name:
            found[item.photo] = name
            by_stem |= stem
    ids = {name: given.get(name) or (PurePosixPath(name).stem if by_stem or given else name) for name in paths}
    odd = "is a dead link, pipe, socket or device and not a file"
    left = [name for name in there if name not in paths]
    faults = [Fault("photo-unreadable", name, odd, "left out", "replace or remove it") for name in left]
    taken = dict[str, str]()
    for name, key in ids.items():
        if taken.setdefault(key, name) != name:
            what = f"two pictures have one id: {key}, {taken[key]} came first"
            faults.append(Fault("photo-id-taken", name, what, "left out", "rename one of them"))
    renamed = {photo: ids[name] for photo, name in found.items() if ids[name] != photo}
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
