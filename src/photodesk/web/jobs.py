"""Does chores one after the other, for a server that holds the archive."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict
from itertools import count
from typing import Any

from photodesk.archive.archive import Archive
from photodesk.archive.commands import CHORES, QUIET, StopError, reason, run
from photodesk.encoders.base import Encoder
from photodesk.errors import PhotodeskError, UsageError

_log = logging.getLogger("photodesk.web")

KEPT = 100
"""Chores whose outcome is remembered."""


class Worker:
    """Does chores one after the other in a thread of its own, for a server that holds the archive.

    Args:
        archive: open; only this thread writes to it.
        encoder: the archive's.
        after: called after each chore.
    """

    def __init__(self, archive: Archive, encoder: Encoder, after: Callable[[], None] = lambda: None) -> None:
        self._archive, self._encoder, self._after = archive, encoder, after
        self._numbers, self._ending = count(1), threading.Event()
        self._waiting: queue.SimpleQueue[tuple[int, str, Mapping[str, Any]] | None] = queue.SimpleQueue()
        self._states: dict[int, dict[str, Any]] = {}
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def start(self, command: str, options: Mapping[str, Any]) -> int:
        """Take a chore on; returns the number to ask `state` for.

        Raises:
            UsageError: no such chore.
        """
        if command not in CHORES:
            raise UsageError(f"no chore {command!r}; known: {', '.join(CHORES)}")
        number = next(self._numbers)
        self._states[number] = {"state": "waiting", "stage": "", "done": 0, "total": 0}
        self._waiting.put((number, command, options))
        return number

    def state(self, number: int) -> dict[str, Any] | None:
        """`state` ("waiting", "running", "done", "failed" or "stopped"), `stage`, `done`, `total`, and at the end
        `message`, `faults` and `data`."""
        return self._states.get(number)

    def close(self) -> None:
        """Stop the chore at hand where it next says how far it is, drop those that wait, and end."""
        self._ending.set()
        self._waiting.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (chore := self._waiting.get()) is not None:
            number, command, options = chore

            def report(stage: str, done: int, of: int, number: int = number) -> None:
                self._halt()
                self._states[number] = {"state": "running", "stage": stage, "done": done, "total": of}

            try:
                self._halt()
                outcome = run(self._archive, lambda: self._encoder, command, options, report)
                self._states[number] |= {"state": "done", **asdict(outcome)}
            except PhotodeskError as error:
                self._states[number] |= {"state": "failed", "message": str(error)}
            except StopError as error:
                self._states[number] |= {"state": "stopped", "message": str(error)}
            except Exception as error:  # our own mistake: the server goes on, the sender is told, the log says where
                _log.exception("a mistake in the chore %s", command)
                self._states[number] |= {"state": "failed", "message": reason(error), "mistake": True}
            self._states.pop(number - KEPT, None)
            if command not in QUIET:
                self._after()

    def _halt(self) -> None:
        if self._ending.is_set():
            raise StopError("the server ended; what was done is kept, and the same command goes on from there")
