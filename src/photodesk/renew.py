"""An archive for another model: every photo is encoded again into an engine beside the old one, which is then used in its place."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from photodesk import photos
from photodesk.archive import Archive
from photodesk.embed import photo_rows
from photodesk.encoders import Encoder, PhotoTower
from photodesk.errors import PhotoError, StoreError
from photodesk.files import digest
from photodesk.index import Space, open_engine
from photodesk.index.schema import Point
from photodesk.pipeline import chunks
from photodesk.records import Fault

Progress = Callable[[str, int, int], None]
TOGETHER = 64
"""Photos that are stored at a time."""


def renew(archive: Archive, encoder: Encoder, progress: Progress) -> tuple[int, list[Fault]]:
    """Encode all photos with another model; ids, files, captions, uses and picks stay as they are.

    Photos whose files are gone or changed are read from their thumbnails, and named; one that has neither is left out, and named. The bank of articles is emptied: its texts are not kept. Until the
    last photo is there the archive stays with the old model; stopped on the way, the same call begins again. The old engine keeps its points.

    Returns:
        how many photos were encoded, and what is not as it was.

    Raises:
        StoreError: the engine is a server.
    """
    old, settings = archive.engine, archive.settings
    kind, _, place = settings.engine.partition(":")
    if kind == "qdrant":
        raise StoreError(f"the points are on a server; bring them here first, as in: photodesk archive move {archive.folder} edge:shard2")
    dim = encoder.network.dim if encoder.network else encoder.photos.dim
    place, mark, options = place.partition("?")
    place = f"{place.partition('@')[0]}@{digest(encoder.fingerprint.encode()).hex()[:8]}"
    uri, folder = f"{kind}:{place}{mark}{options}", archive.folder / place
    if folder.exists():
        if archive.ledger.settings().get("renewing", "") != uri:
            raise StoreError(f"{folder} is in the way: move it away and repeat the command")
        shutil.rmtree(folder)  # of a call that was stopped
    archive.ledger.set({"renewing": uri})
    new = open_engine(uri, Space(dim, settings.language), base=archive.folder, create=True)
    faults: list[Fault] = []
    done, encoded, of = 0, 0, old.count()
    try:
        for points in old.scan(batch=TOGETHER):
            prepared = [(point, _prepared(archive, point.photo, encoder.photos, faults)) for point in points]
            there = [(point, pixels) for point, pixels in prepared if pixels is not None]
            for some in chunks(there, encoder.photos.batch):
                rows = photo_rows(encoder.photos.encode(np.stack([pixels for _, pixels in some])), encoder)
                new.upsert([Point(point.photo, row, point.entry) for (point, _), row in zip(some, rows, strict=True)])
            encoded += len(there)
            done += len(points)
            progress("encoding", done, of)
        if done != of or new.count() != encoded:
            raise StoreError(f"{uri} holds {new.count():,} points and {settings.engine} {of:,}; the archive stays with {settings.encoder}")
        new.optimise()
    except BaseException:
        new.close()
        raise
    archive.adopt(new, replace(settings, engine=uri, encoder=encoder.name, fingerprint=encoder.fingerprint, dim=dim))
    return encoded, faults


def _prepared(archive: Archive, photo: str, tower: PhotoTower, faults: list[Fault]) -> NDArray[np.generic] | None:
    """What the tower wants to see of a photo; None if nothing of it can be read."""
    for file in archive.ledger.files(photo):
        with suppress(PhotoError), photos.guarded(file.path):
            data = photos.content(Path(file.path))
            if digest(data).hex() == photo:
                return tower.prepare(photos.decode(data, size=tower.size, where=file.path))
    try:
        with photos.guarded(photo):
            pixels = tower.prepare(photos.load(archive.thumbnail(photo)))
    except PhotoError:
        advice = f"bring its file back, or remove it: photodesk archive remove {archive.folder} --photo {photo}"
        faults.append(Fault(photo, "neither its file nor its thumbnail can be read", "left out", advice))
        return None
    faults.append(Fault(photo, "its file is gone or changed; the thumbnail was encoded", "kept"))
    return pixels
