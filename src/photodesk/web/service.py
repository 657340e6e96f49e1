"""Between the models of HTTP and the desk: the same functions for the API and for the pages."""

from __future__ import annotations

import asyncio
import datetime
import io
import logging
import os
import re
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
from fastapi.concurrency import run_in_threadpool

from photodesk.archive import ingest, picks, rights
from photodesk.archive.archive import Archive
from photodesk.archive.database import now
from photodesk.archive.rights import Similar
from photodesk.archive.usage import Pick
from photodesk.encoders.base import Encoder
from photodesk.engines.schema import LISTS, Entry, Filter
from photodesk.errors import PhotodeskError, PhotoError, StoreError, UsageError
from photodesk.search import confidence, explain
from photodesk.search.query import Answer, Found, Question
from photodesk.types import Fault
from photodesk.web import schemas, uploads
from photodesk.web.jobs import Worker

_log = logging.getLogger("photodesk.web")
_texts = logging.getLogger("photodesk.web.texts")  # silent unless it is asked for

FACETS = ("orientation", "credit", "keywords", "terms")
"""Fields whose values are counted; each costs a look at all photos that pass a new filter."""

ID = "[0-9a-f]{32}"
PREVIEW = 1280
"""Longest side of a preview, in pixels."""


class DeskLike(Protocol):
    """An archive that answers questions; methods may be called from several threads."""

    archive: Archive
    encoder: Encoder

    def ask(self, question: Question, /) -> Answer:
        """The best photos."""
        ...

    def facets(self, where: Filter, fields: Sequence[str], /) -> Mapping[str, Mapping[str, int]]:
        """Field → value → photos that pass a filter; may take a while."""
        ...

    def counted(self, where: Filter, fields: Sequence[str], /) -> Mapping[str, Mapping[str, int]] | None:
        """The same, at once; None where it is yet to be counted."""
        ...

    def refresh(self) -> None:
        """The archive changed; whatever is remembered of it as a whole is to be looked at again."""
        ...

    def why(self, question: Question, photo: str, /) -> explain.Reason:
        """What made the score of a photo."""
        ...


class GoneError(PhotodeskError):
    """What was asked for is not here, or no longer."""


class UploadGoneError(GoneError):
    """A photo that was sent is no longer kept."""

    def __init__(self) -> None:
        super().__init__("the photo that was sent is no longer kept; send it again")


class Service:
    """All that visitors can have done.

    Args:
        desk: answers.
    """

    def __init__(self, desk: DeskLike) -> None:
        self.desk, self.archive = desk, desk.archive
        self.uploads = uploads.Uploads()
        self._worker: Worker | None = None
        self._starting, self._counting = threading.Lock(), asyncio.Lock()

    def chores(self) -> Worker:
        """Does what commands of the archive's owner ask for; started when it is first wanted."""
        with self._starting:  # two workers would be two writers
            if self._worker is None:
                self._worker = Worker(self.archive, self.desk.encoder, self.desk.refresh)
            return self._worker

    def close(self) -> None:
        """Stop the chore at hand; what it did is kept."""
        if self._worker is not None:
            self._worker.close()

    def search(self, query: schemas.Query, *, owner: bool = False) -> schemas.Answer:
        """The photos for a query; where their files are is for the owner."""
        _texts.info("search %r", query.draft or query.headline or query.lead or query.text)
        answer = self.desk.ask(self._question(query))
        return schemas.Answer(
            hits=[
                _hit(found, rank, self.archive.path if owner else lambda photo: "")
                for rank, found in enumerate(answer.hits, 1)
            ],
            message=answer.message,
            near=list(answer.near),
            nothing_fits=answer.nothing_fits,
            calibrated=answer.calibrated,
        )

    async def facets(self, query: schemas.Query, gone: Callable[[], Awaitable[bool]]) -> schemas.Facets:
        """How many photos that pass a query's filters have each value; nothing if who asked is gone when the turn
        comes.

        One count at a time, and those who wait for theirs keep no thread from those who search.
        """
        async with self._counting:
            found = {} if await gone() else await run_in_threadpool(self.desk.facets, query.filter(), FACETS)
        return schemas.Facets(facets={name: dict(values) for name, values in found.items()})

    def counted(self, query: schemas.Query) -> Mapping[str, Mapping[str, int]] | None:
        """The same, at once; None where it is yet to be counted."""
        return self.desk.counted(query.filter(), FACETS)

    def why(self, query: schemas.Query, photo: str) -> schemas.Why:
        """What made the score of a photo.

        Raises:
            GoneError: no such photo.
        """
        self.entry(photo)
        reason = self.desk.why(self._question(query), photo)
        most = max((abs(weight) for _, weight in reason.words), default=0.0) or 1.0
        return schemas.Why(
            photo=photo,
            probability=reason.found.probability,
            level=level(reason.found.probability),
            words=[schemas.Word(text=text, weight=weight / most, fall=weight) for text, weight in reason.words],
            heat=np.asarray(reason.heat, float).tolist(),
            shares=dict(reason.shares),
            components=dict(reason.found.components),
            about=about(photo, reason.found.entry),
            origins=_origins(reason.found.origins),
            similar=_similar(reason.found.similar),
        )

    def pick(self, asked: schemas.PickQuery) -> schemas.Picked:
        """Note that a photo was taken for an article.

        Raises:
            GoneError: no such photo.
        """
        self.entry(asked.photo)
        article = asked.query.article()
        if article is None:
            raise PhotodeskError("a photo is picked for an article; write its headline")
        at = now()
        self.archive.daybook.pick(Pick(article, asked.photo, asked.rank, asked.score, at))
        return schemas.Picked(article=article.id, photo=asked.photo, rank=asked.rank, at=at)

    def use(self, asked: schemas.Use) -> schemas.Use:
        """Note that a photo was printed or put online.

        Raises:
            GoneError: no such photo.
        """
        self.entry(asked.photo)
        day = self.archive.daybook.use([asked.photo], asked.day.isoformat() if asked.day else "", asked.article)
        return schemas.Use(photo=asked.photo, day=datetime.date.fromisoformat(day), article=asked.article)

    def withdraw(self, article: str, photo: str) -> schemas.Withdrawn:
        """Take a pick back.

        Raises:
            GoneError: no such pick stands.
        """
        at = self.archive.daybook.withdraw(article, photo)
        if not at:
            raise GoneError(f"photo {photo} is not picked for article {article}")
        return schemas.Withdrawn(article=article, photo=photo, at=at)

    def picked(self, query: schemas.Query) -> set[str]:
        """Photos that are taken for this very text."""
        article = query.article()
        return self.archive.daybook.picked(article.id) if article else set()

    def entry(self, photo: str) -> Entry:
        """What the archive knows of a photo.

        Raises:
            GoneError: no such photo.
        """
        found = self.archive.engine.get([photo]) if re.fullmatch(ID, photo) else []
        if not found:
            raise GoneError(f"the archive has no photo {photo}")
        return found[0].entry

    def about(self, photo: str) -> schemas.Photo:
        """What the archive knows of a photo and of its near-duplicates.

        Raises:
            GoneError: no such photo.
        """
        own = self.entry(photo)
        group = rights.groups(self.archive, {photo: own})[photo]
        entry, origins = group.known(photo, own)
        similar = [one for one in group.members if one.photo != photo]
        return schemas.Photo(**dict(about(photo, entry)), origins=_origins(origins), similar=_similar(similar))

    def thumbnail(self, photo: str) -> bytes:
        """A small JPEG.

        Raises:
            GoneError: there is none.
        """
        try:
            return self.archive.thumbnail(photo).read_bytes()
        except OSError:
            raise GoneError(f"the archive has no thumbnail of {photo}") from None

    def preview(self, photo: str) -> bytes:
        """A JPEG for a panel; the thumbnail where the file is gone or cannot be decoded in bounds."""
        self.entry(photo)
        found = picks.original(self.archive, photo)
        if found:
            try:
                return jpeg(uploads.shrink(found[1], PREVIEW))
            except (PhotoError, uploads.BusyError):
                pass
        return self.thumbnail(photo)

    def original(self, photo: str) -> tuple[str, bytes]:
        """Name and content of a file that holds that very photo.

        Raises:
            GoneError: there is none any more.
        """
        self.entry(photo)
        found = picks.original(self.archive, photo)
        if not found:
            raise GoneError(f"the file of photo {photo} is gone or has another content now")
        return found[0].name, found[1]

    def state(self) -> schemas.Archive:
        """What is in the archive, and what is going on there; folders of this machine are nobody's business."""
        ledger = self.archive.ledger
        counts = {name: ledger.count(name) for name in ("files", "faults", "picks", "uses", "bank")}
        roots = ledger.roots()
        faults = [
            Fault(_below(fault.where, roots), bare(fault.what), fault.fate, bare(fault.advice))
            for fault, *_ in list(ledger.faults().values())[:50]
        ]
        latest = [
            str(photo)
            for (photo,) in ledger.ask("SELECT photo FROM photos WHERE state = 1 ORDER BY added DESC, photo LIMIT 24")
        ]
        return schemas.Archive(
            engine=self.archive.settings.engine.partition(":")[0],
            encoder=bare(self.archive.settings.encoder),
            counts={"photos": self.archive.engine.count()} | counts,
            faults=faults,
            recent=[about(point.photo, point.entry) for point in self.archive.engine.get(latest)],
            jobs=[replace(job, message=bare(job.message)) for job in ledger.jobs(10)],
        )

    def _question(self, query: schemas.Query) -> Question:
        if not query.asks():
            raise UsageError("there is nothing to search for: send a draft, a photo of the archive (like) or an upload")
        picture = None
        if query.upload:
            picture = self.uploads.get(query.upload)
            if picture is None:
                raise UploadGoneError
        if query.like:
            self.entry(query.like)
        return Question(
            article=query.article(),
            like=query.like,
            picture=picture,
            where=query.filter(),
            words=query.words,
            used_days=query.used_days,
            hide_used=query.used == "hide",
            diverse=query.diverse,
            fold=query.fold,
            top=query.top,
        )


def told(error: Exception) -> str:
    """What a visitor reads of an error; what is wrong with the archive names folders of this machine, so that is for
    the log."""
    if not isinstance(error, StoreError):
        return str(error)
    _log.error("%s", error)
    return "the archive cannot do this now; the desk's log says why"


def bare(text: str) -> str:
    """A text without the folders of its absolute paths and the servers of its addresses."""
    text = re.sub(r"\w+://[^\s/,;]+/?", "", text)
    return re.sub(r"(?<![\w.<~-])/(?:[^\s/,;:]+/)+(?=[^\s/])", "", text)


def _below(path: str, roots: Sequence[str]) -> str:
    return next((os.path.relpath(path, root) for root in roots if ingest.below(path, [root])), os.path.basename(path))  # noqa: PTH119


def level(probability: float) -> int:
    """How surely a photo fits, in five steps."""
    return sum(probability >= least for least in confidence.LEVELS)


def about(photo: str, entry: Entry) -> schemas.About:
    """What the archive knows of a photo."""
    known = {name: getattr(entry, name) for name in schemas.About.model_fields if name != "photo"}
    return schemas.About(photo=photo, **known | {name: list(known[name]) for name in LISTS})


def jpeg(picture: object) -> bytes:
    """A picture as JPEG, without any metadata."""
    from PIL import Image

    assert isinstance(picture, Image.Image)
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=85)
    return out.getvalue()


def _origins(origins: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    return {field: list(photos) for field, photos in origins.items()}


def _similar(similar: Sequence[Similar], file: Callable[[str], str] = lambda photo: "") -> list[schemas.Similar]:
    names = [name for name in schemas.Similar.model_fields if name not in ("photo", "file")]
    return [
        schemas.Similar(photo=one.photo, file=file(one.photo), **{name: getattr(one.entry, name) for name in names})
        for one in similar
    ]


def _hit(found: Found, rank: int, file: Callable[[str], str]) -> schemas.Hit:
    return schemas.Hit(
        rank=rank,
        score=found.score,
        probability=found.probability,
        level=level(found.probability),
        duplicates=len(found.similar),
        used=found.used,
        components=dict(found.components),
        group=found.entry.group,
        file=file(found.photo),
        about=about(found.photo, found.entry),
        origins=_origins(found.origins),
        similar=_similar(found.similar, file),
    )
