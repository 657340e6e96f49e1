"""Between the models of HTTP and the desk: the same functions for the API and for the pages."""

from __future__ import annotations

import asyncio
import datetime
import logging
import os
import re
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Protocol

from fastapi.concurrency import run_in_threadpool

from photodesk import images
from photodesk.archive import ingest, rights
from photodesk.archive.archive import Archive, Picture
from photodesk.archive.database import now
from photodesk.archive.usage import Pick
from photodesk.encoders.base import Encoder
from photodesk.engines.schema import Entry, Filter
from photodesk.errors import PhotodeskError, PhotoError, StoreError
from photodesk.search import explain, schema
from photodesk.search.query import Answer, Question
from photodesk.web import lanes, schemas, uploads
from photodesk.web.jobs import Worker

_log = logging.getLogger("photodesk.web")
_texts = logging.getLogger("photodesk.web.texts")  # silent unless it is asked for

FACETS = ("orientation", "credit", "keywords", "people", "label", "terms")
"""Fields whose values are counted; each costs a look at all photos that pass a new filter."""

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
        self.uploads, self.lanes = uploads.Uploads(), lanes.Lanes()
        self._worker: Worker | None = None
        self._starting, self._counting = threading.Lock(), asyncio.Lock()

    def jobs(self) -> Worker:
        """Runs the commands of the archive's owner; started when it is first wanted."""
        with self._starting:  # two workers would be two writers
            if self._worker is None:
                self._worker = Worker(self.archive, self.desk.encoder, self.desk.refresh)
            return self._worker

    def close(self) -> None:
        """Stop the job at hand; what it did is kept."""
        if self._worker is not None:
            self._worker.close()

    def search(self, query: schema.Query, *, owner: bool = False) -> schema.Answer:
        """The photos for a query; where their files are is for the owner."""
        _texts.info("search %r", query.draft or query.headline or query.lead or query.text)
        return schema.answer(self.desk.ask(self._question(query)), self._files(owner))

    async def facets(self, query: schema.Query, gone: Callable[[], Awaitable[bool]]) -> schemas.Facets:
        """How many photos that pass a query's filters have each value; nothing if who asked is gone when the turn
        comes.

        One count at a time, and those who wait for theirs keep no thread from those who search.
        """
        async with self._counting:
            found = {} if await gone() else await run_in_threadpool(self._facets, query)
        return schemas.Facets(facets={name: dict(values) for name, values in found.items()})

    def counted(self, query: schema.Query) -> Mapping[str, Mapping[str, int]] | None:
        """The same, at once; None where it is yet to be counted."""
        return self.desk.counted(self._where(query), FACETS)

    def _facets(self, query: schema.Query) -> Mapping[str, Mapping[str, int]]:
        return self.desk.facets(self._where(query), FACETS)

    def _where(self, query: schema.Query) -> Filter:
        return self.archive.among(query.filter(), query.file)

    def why(self, query: schema.Query, photo: str, *, owner: bool = False) -> schema.Why:
        """What made the score of a photo; where its file is is for the owner.

        Raises:
            GoneError: no such photo.
        """
        self.entry(photo)
        return schema.why(self.desk.why(self._question(query), photo), self._files(owner))

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
        self.archive.usage.pick(Pick(article, asked.photo, asked.rank, asked.score, at))
        return schemas.Picked(article=article.id, photo=asked.photo, rank=asked.rank, at=at)

    def use(self, asked: schemas.Use) -> schemas.Use:
        """Note that a photo was printed or put online.

        Raises:
            GoneError: no such photo.
        """
        self.entry(asked.photo)
        day = self.archive.usage.use([asked.photo], asked.day.isoformat() if asked.day else "", asked.article)
        return schemas.Use(photo=asked.photo, day=datetime.date.fromisoformat(day), article=asked.article)

    def withdraw(self, article: str, photo: str) -> schemas.Withdrawn:
        """Take a pick back.

        Raises:
            GoneError: no such pick stands.
        """
        at = self.archive.usage.withdraw(article, photo)
        if not at:
            raise GoneError(f"photo {photo} is not picked for article {article}")
        return schemas.Withdrawn(article=article, photo=photo, at=at)

    def picked(self, query: schema.Query) -> set[str]:
        """Photos that are taken for this very text."""
        article = query.article()
        return self.archive.usage.picked(article.id) if article else set()

    def entry(self, photo: str) -> Entry:
        """What the archive knows of a photo.

        Raises:
            GoneError: no such photo.
        """
        found = self.archive.engine.get([photo]) if schema.is_photo(photo) else []
        if not found:
            raise GoneError(f"the archive has no photo {photo}")
        return found[0].entry

    def about(self, photo: str, *, owner: bool = False) -> schema.Photo:
        """What the archive knows of a photo and of its near-duplicates; where their files are is for the owner.

        Raises:
            GoneError: no such photo.
        """
        own = self.entry(photo)
        group = rights.groups(self.archive, {photo: own})[photo]
        entry, origins = group.known(photo, own)
        similar = [one for one in group.members if one.photo != photo]
        return schema.photo(photo, entry, group.embargo, origins, similar, self._files(owner))

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

        def shrunk(found: Picture) -> bytes:
            return images.jpeg(uploads.shrink(found.content, PREVIEW)) if found.original else found.content

        try:
            return self.archive.picture(photo, shrunk)
        except PhotoError:
            return self.thumbnail(photo)

    def original(self, photo: str) -> tuple[str, bytes]:
        """Name and content of a file that holds that very photo.

        Raises:
            GoneError: there is none any more.
        """
        self.entry(photo)
        with suppress(PhotoError):
            name, content, original = self.archive.picture(
                photo, lambda found: (found.path.name, found.content, found.original)
            )
            if original:
                return name, content
        raise GoneError(f"the file of photo {photo} is gone or has another content now")

    def state(self) -> schemas.Archive:
        """What is in the archive, and what is going on there; folders of this machine are nobody's business."""
        database = self.archive.database
        counts = {name: database.count(name) for name in ("files", "faults", "picks", "uses", "bank")}
        roots = database.roots()
        faults = [
            replace(fault, where=_below(fault.where, roots), what=bare(fault.what), advice=bare(fault.advice))
            for fault, *_ in list(database.faults().values())[:50]
        ]
        latest = {point.photo: point.entry for point in self.archive.engine.get(database.latest(24))}
        embargoes = rights.embargoes(self.archive, latest)
        return schemas.Archive(
            engine=self.archive.settings.engine.partition(":")[0],
            encoder=bare(self.archive.settings.encoder),
            counts={"photos": self.archive.engine.count()} | counts,
            faults=faults,
            left_out={kind: count for (_, kind), count in database.left_out().items()},
            recent=[schema.known(photo, entry, embargoes[photo]) for photo, entry in latest.items()],
            jobs=[replace(job, message=bare(job.message)) for job in database.jobs(10)],
        )

    def _files(self, owner: bool) -> schema.Files:
        return self.archive.path if owner else schema.untold

    def _question(self, query: schema.Query) -> Question:
        picture = None
        if query.upload:
            picture = self.uploads.get(query.upload)
            if picture is None:
                raise UploadGoneError
        if query.like:
            self.entry(query.like)
        return query.question(picture)


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
