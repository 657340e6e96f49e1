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
from photodesk.archive.commands import COMMANDS, QUICK, Outcome, StopError, is_bug, reason, run
from photodesk.archive.database import State
from photodesk.encoders.base import Encoder
from photodesk.errors import UsageError

_log = logging.getLogger("photodesk.web")

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
        self._errors: dict[int, Exception] = {}
        self._at_hand: int | None = None
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
                _log_bug(command, error)
                return _state(None, "failed", Outcome(reason(error)), error=error)
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
            return _state(number, "failed", Outcome(reason(error)), error=error)
        state: State = "running" if number == self._at_hand else job.state  # its error is noted after its row
        outcome = self._outcomes.get(number, Outcome(job.message))
        return _state(number, state, outcome, job.stage, job.done, job.total, error)

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
            self._at_hand = number
            keep = partial(self._outcomes.__setitem__, number)
            try:
                if self._ending.is_set():
                    self._archive.database.end(number, "stopped", ENDED)
                else:
                    run(self._archive, self._load, command, options, self._report, job=number, keep=keep)
            except Exception as error:  # the row says so, and the server goes on
                _log_bug(command, error)
                self._errors[number] = error
            self._at_hand = None
            for kept in (self._outcomes, self._errors):
                while len(kept) > KEPT:
                    del kept[next(iter(kept))]
            self._after()

    def _report(self, stage: str, done: int, of: int) -> None:
        if self._ending.is_set():
            raise StopError(ENDED)


def _state(
    job: int | None,
    state: State,
    outcome: Outcome,
    stage: str = "",
    done: int = 0,
    total: int = 0,
    error: Exception | None = None,
) -> dict[str, Any]:
    mistake = error is not None and is_bug(error)
    found = {"job": job, "state": state, "stage": stage, "done": done, "total": total, "mistake": mistake}
    return found | asdict(outcome)


def _log_bug(command: str, error: Exception) -> None:
    """A bug is for the log as well, which says where it is."""
    if is_bug(error):
        _log.error("a bug in the command %s", command, exc_info=error)
