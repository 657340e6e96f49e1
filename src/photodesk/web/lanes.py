"""Costly requests, counted by kind: so many run, so many wait, the others are told to come again; and what nobody waits
for ends."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import ParamSpec, TypeVar

from fastapi import Request
from fastapi.concurrency import run_in_threadpool

from photodesk.encoders import cancellation
from photodesk.errors import PhotodeskError
from photodesk.search.schema import Query

P = ParamSpec("P")
T = TypeVar("T")

LONG = 4_000
"""Characters of an article from which on a search is a costly one."""
MANY = 200
"""Hits of an answer, likewise."""
AGAIN = 5
"""Seconds after which who was refused may come again."""
PATIENCE = 30.0
"""Seconds that a request waits for its turn."""

POLITE = 0.5
"""Seconds that a batch waits for others, at most."""


class BusyError(PhotodeskError):
    """Too many requests of a kind run and wait already."""

    def __init__(self) -> None:
        super().__init__("too many requests of this kind are under way; try again in a moment")


class Lane:
    """Requests of one kind.

    Args:
        at_once: how many run.
        waiting: how many wait, at most.
        after: a lane whose requests go first, batch by batch.
    """

    def __init__(self, at_once: int, waiting: int, after: Lane | None = None) -> None:
        self._free, self._waiting, self._most, self._after = asyncio.Semaphore(at_once), 0, waiting, after
        self.running = 0

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for a turn, and have it.

        Raises:
            BusyError: too many wait, or it takes too long.
        """
        if self._free.locked() and self._waiting >= self._most:
            raise BusyError
        self._waiting += 1
        try:
            async with asyncio.timeout(PATIENCE):
                await self._free.acquire()
        except TimeoutError:
            raise BusyError from None
        finally:
            self._waiting -= 1
        self.running += 1
        try:
            yield
        finally:
            self.running -= 1
            self._free.release()

    async def run(self, request: Request, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do it in a thread when its turn comes, see `attended`.

        Raises:
            BusyError: as `turn`.
            Cancelled: as `attended`.
        """
        async with self.turn():
            return await attended(request, self._after, work, *args, **kwargs)


class Lanes:
    """A lane for each kind, so that none holds up another: one long text is read at a time, one photo explained, for
    each takes all cores."""

    def __init__(self) -> None:
        self.searches = Lane(8, 500)
        self.long, self.why = Lane(1, 8, self.searches), Lane(1, 4, self.searches)
        self.uploads, self.pictures = Lane(4, 8), Lane(4, 32)

    def search(self, query: Query) -> Lane:
        """Where a search runs."""
        said = max(len(query.draft), len(query.headline) + len(query.lead) + len(query.text))
        return self.long if said > LONG or query.top > MANY else self.searches


async def attended(request: Request, after: Lane | None, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Work in a thread for a request whose body has been read; it ends at its next batch once the client is gone, and
    each batch lets requests of the lane `after` go first, for a while.

    Raises:
        Cancelled: the client is gone.
    """
    if await request.is_disconnected():
        raise cancellation.Cancelled
    gone = threading.Event()

    def ended() -> bool:
        late = time.monotonic() + POLITE
        while after is not None and after.running and time.monotonic() < late and not gone.is_set():
            time.sleep(0.005)
        return gone.is_set()

    async def watch() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        gone.set()

    watching = asyncio.create_task(watch())
    try:
        with cancellation.until(ended):
            return await run_in_threadpool(work, *args, **kwargs)
    finally:
        watching.cancel()
