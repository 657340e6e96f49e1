"""An archive for another model, whose rows go into a new engine, or on another engine, with the same points."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from photodesk import images
from photodesk.archive.archive import Archive, Picture
from photodesk.archive.database import Sums
from photodesk.encoders.base import Encoder, PhotoTower
from photodesk.engines.base import Engine, Space
from photodesk.engines.registry import open_engine
from photodesk.engines.schema import Point
from photodesk.errors import PhotoError, StoreError
from photodesk.features.embed import photo_rows
from photodesk.features.pipeline import chunks
from photodesk.files import digest
from photodesk.types import Fault, Progress, silent

TOGETHER = 64
"""Photos that are stored at a time."""


def reencode(archive: Archive, encoder: Encoder, progress: Progress) -> tuple[int, list[Fault]]:
    """Encode all photos with another model; ids, files, captions, uses and picks stay as they are.

    Photos whose files are gone or changed are read from their thumbnails, and named; one that has neither is left out,
    and named. The bank of articles is emptied: its texts are not kept. Until the last photo is there the archive stays
    with the old model; stopped on the way, the same call begins again. The old engine keeps its points.

    Returns:
        how many photos were encoded, and what is not as it was.

    Raises:
        StoreError: the engine is a server.
    """
    old, settings = archive.engine, archive.settings
    kind, _, place = settings.engine.partition(":")
    if kind == "qdrant":
        raise StoreError(
            f"the points are on a server; bring them here first, as in: photodesk archive move {archive.folder} "
            "edge:shard2"
        )
    dim = encoder.network.dim if encoder.network else encoder.photos.dim
    place, mark, options = place.partition("?")
    place = f"{place.partition('@')[0]}@{digest(encoder.fingerprint.encode()).hex()[:8]}"
    uri, folder = f"{kind}:{place}{mark}{options}", archive.folder / place
    if folder.exists():
        if archive.database.settings().get("renewing", "") != uri:
            raise StoreError(f"{folder} is in the way: move it away and repeat the command")
        shutil.rmtree(folder)  # of a call that was stopped
    archive.database.set({"renewing": uri})
    archive.database.renew(None)
    new = open_engine(uri, Space(dim, settings.language), base=archive.folder, create=True)
    faults: list[Fault] = []
    done, encoded, of = 0, 0, old.count()
    try:
        for points in old.scan(batch=TOGETHER):
            prepared = [(point, _prepared(archive, point.photo, encoder.photos, faults)) for point in points]
            there = [(point, pixels) for point, pixels in prepared if pixels is not None]
            for some in chunks(there, encoder.photos.batch):
                rows = photo_rows(encoder.photos.encode(np.stack([pixels for _, pixels in some])), encoder)
                fresh = [Point(point.photo, row, point.entry) for (point, _), row in zip(some, rows, strict=True)]
                new.upsert(fresh)
                archive.database.renew({point.photo: Sums.of(point) for point in fresh})
            encoded += len(there)
            done += len(points)
            progress("encoding", done, of)
        if done != of or new.count() != encoded:
            raise StoreError(
                f"{uri} holds {new.count():,} points and {settings.engine} {of:,}; the archive stays with "
                f"{settings.encoder}"
            )
        new.optimise()
    except BaseException:
        new.close()
        raise
    archive.use_model(
        new, replace(settings, engine=uri, encoder=encoder.name, fingerprint=encoder.fingerprint, dim=dim)
    )
    return encoded, faults


def _prepared(archive: Archive, photo: str, tower: PhotoTower, faults: list[Fault]) -> NDArray[np.generic] | None:
    """What the tower wants to see of a photo; None if nothing of it can be read."""

    def prepared(found: Picture) -> tuple[NDArray[np.generic], bool]:
        return tower.prepare(images.decode(found.content, size=tower.size, where=str(found.path))), found.original

    try:
        pixels, original = archive.picture(photo, prepared)
    except PhotoError:
        advice = f"bring its file back, or remove it: photodesk archive remove {archive.folder} --photo {photo}"
        faults.append(Fault("photo-gone", photo, "neither its file nor its thumbnail can be read", "left out", advice))
        return None
    if not original:
        faults.append(Fault("file-gone", photo, "its file is gone or changed; the thumbnail was encoded", "kept"))
    return pixels


def move(archive: Archive, uri: str, progress: Progress = silent) -> int:
    """Stream all points into a new engine, compare every one of them there, and let the archive use it from then on.

    Stopped on the way, the same call resumes with the engine that it had begun. The old engine keeps its points.

    Returns:
        how many points were moved.

    Raises:
        StoreError: the new engine holds something else, or another number of points, or a point that is not what was
        sent.
    """
    old = archive.engine
    begun = archive.database.settings().get("moving", "") == uri
    space = Space(archive.settings.dim, archive.settings.language)
    archive.database.set({"moving": uri})
    try:
        new = open_engine(uri, space, base=archive.folder, create=not begun)
    except StoreError:
        if not begun:  # it is somebody else's
            archive.database.set({"moving": ""})
            raise
        new = open_engine(uri, space, base=archive.folder, create=True)  # stopped before it was made
    try:
        of, done = old.count(), 0
        for points in old.scan(rows=True, batch=4096):
            new.upsert(points)
            done += len(points)
            progress("moving", done, of)
        _same(old, new, of, progress)
        new.optimise()
    except BaseException:
        new.close()
        raise
    archive.use_engine(new, uri)
    return of


def _same(old: Engine, new: Engine, of: int, progress: Progress) -> None:
    if new.count() != of:
        raise StoreError(
            f"{new.uri} holds {new.count():,} points and {old.uri} {of:,}; the archive stays with {old.uri}: name an "
            "empty place"
        )
    done = 0
    for points in old.scan(rows=True, batch=1000):
        there = {point.photo: point for point in new.get([point.photo for point in points], rows=True)}
        for point in points:
            twin = there.get(point.photo)
            if (
                twin is None
                or twin.entry != point.entry
                or not np.array_equal(twin.row, point.row)
                or twin.offset != point.offset
            ):
                raise StoreError(
                    f"{new.uri} does not hold {point.photo} as it was sent; the archive stays with {old.uri}"
                )
        done += len(points)
        progress("comparing", done, of)
