"""Runs the commands of the archive's owner one after the other, for a server that holds the archive.

A job is a row of the archive's database, which says how far it is and how it ended; what a kill left there is marked as
stopped at the next start. Only what the latest commands found is kept in memory, for who asked.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

from photodesk.archive.archive import Archive
from photodesk.archive.commands import COMMANDS, QUICK, Outcome, StopError, run
from photodesk.archive.database import State
from photodesk.encoders.base import Encoder
from photodesk.errors import PhotodeskError, UsageError

KEPT = 100
"""Jobs whose faults and data are remembered."""
ENDED = "the server ended; what was done is kept, and the same command resumes"

_log = logging.getLogger("photodesk.web")


class Worker:
    """Runs commands one after the other in a thread of its own, for a server that holds the archive.

    Args:
        archive: open; only this thread writes to its engine.
        encoder: the archive's.
        after: called after each job.
    """

    def __init__(self, archive: Archive, encoder: Encoder, after: Callable[[], None] = lambda: None) -> None:
        self._archive, self._encoder, self._after = archive, encoder, after
        self._ending = threading.Event()
        self._waiting: queue.SimpleQueue[tuple[int, str, Mapping[str, Any]] | None] = queue.SimpleQueue()
        self._outcomes: dict[int, Outcome] = {}
        self._errors: dict[int, str] = {}
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def start(self, command: str, options: Mapping[str, Any]) -> dict[str, Any]:
        """Take a command on as a job, whose `state` this is; what is `QUICK` is done at once, without a job.

        Raises:
            UsageError: no such command.
        """
        if command not in COMMANDS:
            raise UsageError(f"no command {command!r}; known: {', '.join(COMMANDS)}")
        if command in QUICK:
            try:
                return _state(None, "done", run(self._archive, self._load, command, options, lambda *_: None))
            except Exception as error:
                return _state(None, "failed", Outcome(_told(error)))
        number = self._archive.database.begin(command, "waiting")
        self._waiting.put((number, command, options))
        return _state(number, "waiting", Outcome(""))

    def state(self, number: int) -> dict[str, Any] | None:
        """`job` (its number), `state`, `stage`, `done`, `total`, and at the end `message`, `faults` and `data`; None
        for a number that no job has."""
        error = self._errors.get(number)
        job = self._archive.database.job(number)
        if job is None:
            return None
        if error is not None and job.state in ("waiting", "running"):  # its row could not be written: the disk is full
            return _state(number, "failed", Outcome(error))
        outcome = self._outcomes.get(number, Outcome(job.message))
        return _state(number, job.state, outcome, job.stage, job.done, job.total)

    def close(self) -> None:
        """Stop the job at hand where it next says how far it is, stop those that wait, and end."""
        self._ending.set()
        self._waiting.put(None)
        self._thread.join()

    def _load(self) -> Encoder:
        return self._encoder

    def _work(self) -> None:
        while (job := self._waiting.get()) is not None:
            number, command, options = job
            keep = partial(self._outcomes.__setitem__, number)
            try:
                if self._ending.is_set():
                    self._archive.database.end(number, "stopped", ENDED)
                else:
                    run(self._archive, self._load, command, options, self._report, job=number, keep=keep)
            except Exception as error:  # the row says so, and the server goes on
                self._errors[number] = _told(error)
            for kept in (self._outcomes, self._errors):
                while len(kept) > KEPT:
                    del kept[next(iter(kept))]
            self._after()

    def _report(self, stage: str, done: int, of: int) -> None:
        if self._ending.is_set():
            raise StopError(ENDED)


def _state(
    job: int | None, state: State, outcome: Outcome, stage: str = "", done: int = 0, total: int = 0
) -> dict[str, Any]:
    return {"job": job, "state": state, "stage": stage, "done": done, "total": total, **asdict(outcome)}


def _told(error: Exception) -> str:
    """What the owner reads of an error; one that nobody expected is for the log, too."""
    if isinstance(error, PhotodeskError | StopError):
        return str(error)
    _log.error("a command failed", exc_info=error)
    return f"{type(error).__name__}: {error}"
