"""Progress on stderr: one bar a stage, with how much, how fast, how long still."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from time import monotonic
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from photodesk.types import Progress

EVERY = 30.0
"""Seconds between two lines where stderr is no terminal."""
QUICK = 1.0
"""Seconds within which a stage has to end to be passed over there."""


@contextmanager
def bars() -> Iterator[Progress]:
    """Draws a bar for each stage that reports; where stderr is no terminal, a line every `EVERY` seconds and one when
    it is done, if that took a while."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TaskID,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            speed = task.finished_speed or task.speed
            return Text(f"{speed:,.0f}/s" if speed else "")

    console = Console(stderr=True)
    columns = (TextColumn("{task.description:>9}"), BarColumn(), MofNCompleteColumn(), Rate(), TimeRemainingColumn())
    tasks: dict[str, TaskID] = {}
    began: dict[str, tuple[float, int]] = {}  # when a stage began, and with how much done
    said: dict[str, float] = {}
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:

        def report(stage: str, done: int, of: int) -> None:
            if stage not in tasks:
                tasks[stage] = progress.add_task(stage, total=of, completed=done)
            progress.update(tasks[stage], completed=done, total=of)
            now = monotonic()
            start, before = began.setdefault(stage, (now, done))
            if console.is_terminal or (done != of and now - said.setdefault(stage, start) < EVERY):
                return
            if done == of and now - start < QUICK:
                return
            said[stage] = now
            speed = (done - before) / max(now - start, 1e-3)
            if done == of:
                console.print(f"{stage}: {of}" + (f", {speed:,.1f}/s" if done > before else ""), highlight=False)
            else:
                left = f", {(of - done) / speed / 60:,.0f} min left" if speed else ""
                console.print(f"{stage}: {done} of {of}, {speed:,.1f}/s{left}", highlight=False)

        yield report


@contextmanager
def ticks(stage: str, of: int) -> Iterator[Callable[[], None]]:
    """A bar of one stage for work that says no more than that one piece is done."""
    with bars() as report:
        done = count(1)
        yield lambda: report(stage, next(done), of)
