"""Encoding ends at its next batch once nobody waits for it: who starts it says when, loops over batches ask."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_ended: ContextVar[Callable[[], bool] | None] = ContextVar("ended", default=None)


class Cancelled(Exception):
    """Nobody waits for this work any more."""


@contextmanager
def until(ended: Callable[[], bool]) -> Iterator[None]:
    """What is called here, also in threads that take this context over, ends once `ended()` is true; that may take its
    time, to let something else go first."""
    token = _ended.set(ended)
    try:
        yield
    finally:
        _ended.reset(token)


def check() -> None:
    """Go on, unless nobody waits any more.

    Raises:
        Cancelled: nobody does.
    """
    ended = _ended.get()
    if ended is not None and ended():
        raise Cancelled
