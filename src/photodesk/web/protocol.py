"""uvicorn's HTTP/1.1 with what it lacks: deadlines for heads, for bodies that nobody reads and for clients that do not
read, and a limit of connections, at which the oldest idle one makes room."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

CONNECTIONS = 512
"""At most."""
HEAD = 10.0
"""Seconds for the head of a request, from its first byte on, or from the connection on for the first one."""
REST = 5.0
"""Seconds for what is left of a body after its request was answered: a client that still sends is to read why."""
READ = 60.0
"""Seconds that a client may read nothing of an answer that waits for it."""


class Protocol(H11Protocol):
    """One connection."""

    _head: asyncio.TimerHandle | None = None
    _stalled: asyncio.TimerHandle | None = None
    _since = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection, in the place of the oldest idle one if there are too many."""
        if len(self.connections) >= CONNECTIONS:
            idle = [one for one in cast("set[Protocol]", self.connections) if one._idle()]
            # those that never asked anything first: who waits between two requests has shown some good will
            oldest = min(idle, key=lambda one: (one.cycle is not None, one._since), default=None)
            (transport if oldest is None else oldest.transport).abort()
        super().connection_made(transport)
        self._since = self.loop.time()
        self._expect(HEAD, self._late)

    def data_received(self, data: bytes) -> None:
        """Read on; a head that began has its deadline."""
        rest = self._idle() and self.conn.their_state is h11.SEND_BODY
        super().data_received(data)
        if rest and self.conn.their_state is h11.IDLE:
            self._came()
        if self.conn.their_state is h11.IDLE:
            self._expect(HEAD, self._late)
        elif not self._idle():
            self._came()

    def on_response_complete(self) -> None:
        """The next request, or what is left of the body of this one."""
        super().on_response_complete()
        if self._idle() and self.conn.their_state is h11.SEND_BODY:
            self._expect(REST, self.transport.abort)

    def pause_writing(self) -> None:
        """The client reads slower than is sent."""
        super().pause_writing()
        self._stalled = self.loop.call_later(READ, self.transport.abort)

    def resume_writing(self) -> None:
        """It caught up."""
        super().resume_writing()
        if self._stalled is not None:
            self._stalled.cancel()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is expected any more."""
        self._came()
        if self._stalled is not None:
            self._stalled.cancel()
        super().connection_lost(exc)

    def _idle(self) -> bool:
        """Whether no request is being answered."""
        cycle: Any = self.cycle
        return not self.transport.is_closing() and (cycle is None or cycle.response_complete)

    def _expect(self, seconds: float, otherwise: Callable[[], None]) -> None:
        if self._head is None:
            self._head = self.loop.call_later(seconds, otherwise)

    def _came(self) -> None:
        if self._head is not None:
            self._head.cancel()
            self._head = None

    def _late(self) -> None:
        self.transport.write(b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
        self.transport.close()
