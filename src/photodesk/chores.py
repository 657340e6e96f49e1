"""The commands that change or inspect an archive, by name, each noted as a job: for the command line and for a server that holds the archive.

A process that finds the archive held by a server sends its chore there (`remote`); the server answers with what `Outcome` holds.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from photodesk import inspection, intake
from photodesk.archive import Archive
from photodesk.encoders import Encoder
from photodesk.errors import PhotodeskError, UsageError
from photodesk.records import Fault

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a chore ended: one line for people, what went wrong on the way, and what it found."""

    message: str
    faults: list[Fault] = field(default_factory=list)
    data: dict[str, Any] = field(default_factory=dict)


def run(archive: Archive, encoder: Callable[[], Encoder], command: str, options: Mapping[str, Any], progress: Progress) -> Outcome:
    """Do one chore and note it in the ledger.

    Args:
        archive: open.
        encoder: gives the archive's encoder; called only by chores that need it.
        command: one of `CHORES`.
        options: keyword arguments of the function of that name here; paths are text.
        progress: called with (stage, done, of).

    Raises:
        UsageError: no such chore, or an unknown option.
        PhotodeskError: it failed; what was done before is kept.
    """
    if command not in CHORES:
        raise UsageError(f"no chore {command!r}; known: {', '.join(CHORES)}")
    if command in ("pairs", "stats"):  # these change nothing and are no news
        return CHORES[command](archive, encoder, progress, **options)
    job = archive.ledger.begin(command)
    said = 0.0

    def report(stage: str, done: int, of: int) -> None:
        nonlocal said
        if time.monotonic() - said >= 1 or done == of:
            said = time.monotonic()
            archive.ledger.report(job, stage, done, of)
        progress(stage, done, of)

    try:
        outcome = CHORES[command](archive, encoder, report, **options)
    except TypeError as error:
        archive.ledger.end(job, "failed", str(error))
        if "argument" not in str(error):
            raise
        raise UsageError(f"{command}: {error}") from None
    except BaseException as error:
        archive.ledger.end(job, "failed" if isinstance(error, Exception) else "stopped", str(error))
        raise
    archive.ledger.end(job, "done", outcome.message)
    return outcome


def add(archive: Archive, encoder: Callable[[], Encoder], progress: Progress, *, folders: Sequence[str]) -> Outcome:
    """Bring all pictures below folders into the archive; see `intake.add`."""
    done = intake.add(archive, encoder(), [Path(folder) for folder in folders], progress=progress)
    if done.added:
        archive.engine.optimise()
    return Outcome(str(done), done.faults)


def remove(
    archive: Archive,
    encoder: Callable[[], Encoder],
    progress: Progress,
    *,
    paths: Sequence[str] = (),
    photos: Sequence[str] = (),
    missing: bool = False,
) -> Outcome:
    """Forget files and whatever is below folders, photos by id, or files that are gone; nothing on the disk outside the archive is touched."""
    wanted = [str(Path(path).absolute()) for path in paths]
    ids = set(photos)
    files = [
        file.path
        for file in archive.ledger.files()
        if file.photo in ids
        or any(file.path == path or file.path.startswith(path.rstrip("/") + "/") for path in wanted)
        or (missing and not Path(file.path).exists())
    ]
    gone = 0
    for start in range(0, len(files), 256):
        gone += len(archive.forget_files(files[start : start + 256]))
        progress("removing", min(start + 256, len(files)), len(files))
    return Outcome(f"{gone:,} photos and {len(files):,} files removed", data={"photos": gone, "files": len(files)})


def update(archive: Archive, encoder: Callable[[], Encoder], progress: Progress, *, metadata: bool = False, bank: str = "") -> Outcome:
    """Look at all folders of the archive again; take in a file of articles as the bank; bring numbers and index up to date.

    Args:
        archive: open; encoder, progress as in `run`.
        metadata: read what the files say of themselves again, sidecars too.
        bank: article file or data folder; its articles join the bank.
    """
    from photodesk import datasets
    from photodesk.embed import embed_articles
    from photodesk.store import Store

    faults: list[Fault] = []
    words = []
    roots = [Path(root) for root in archive.ledger.roots()]
    away = [root for root in roots if not root.is_dir()]
    faults += [Fault(str(root), "the folder is gone; its photos stay in the archive", "kept", "bring the disk back") for root in away]
    if there := [root for root in roots if root.is_dir()]:
        done = intake.add(archive, encoder(), there, progress=progress, reread=metadata)
        faults += done.faults
        words.append(str(done))
    if bank:
        rows, wrong = embed_articles(
            datasets.read(Path(bank)).articles,
            encoder(),
            Store(),
            progress=lambda _, d, of: progress("bank", d, of),
        )
        archive.daybook.add_to_bank(rows.ids, rows.rows)
        faults += wrong
        words.append(f"{len(rows):,} articles in the bank")
    if revised := archive.refresh(lambda d, of: progress("revising", d, of)):
        words.append(f"{revised:,} photos revised")
    archive.engine.optimise()
    return Outcome("; ".join(words) or "nothing to do", faults)


def verify(archive: Archive, encoder: Callable[[], Encoder], progress: Progress, *, content: bool = False, repair: bool = False) -> Outcome:
    """Everything that is wrong with the archive; see `inspection.verify`."""
    faults = inspection.verify(archive, content=content, repair=repair, progress=progress)
    return Outcome(f"{archive.engine.count():,} photos, " + (f"{len(faults):,} faults" if faults else "all well"), faults)


def backup(archive: Archive, encoder: Callable[[], Encoder], progress: Progress, *, target: str, thumbnails: bool = True) -> Outcome:
    """Write a copy of the archive; see `inspection.backup`."""
    inspection.backup(archive, Path(target).absolute(), thumbnails=thumbnails)
    return Outcome(f"{archive.engine.count():,} photos in {target}")


def pairs(archive: Archive, encoder: Callable[[], Encoder], progress: Progress) -> Outcome:
    """What was picked, as rows to train on; see `picks.rows`."""
    from photodesk.picks import rows

    found, faults = rows(archive)
    return Outcome(f"{len(found):,} pairs", faults, {"rows": found})


def picks(archive: Archive, encoder: Callable[[], Encoder], progress: Progress, *, target: str) -> Outcome:
    """Write what was picked to a new folder, as a data set to train on; see `picks.export`."""
    from photodesk.picks import export

    count, faults = export(archive, Path(target).absolute())
    return Outcome(f"{count:,} pairs in {target}; train on them with: photodesk train {target} -o bridge.safetensors", faults)


def move(archive: Archive, encoder: Callable[[], Encoder], progress: Progress, *, uri: str) -> Outcome:
    """Move the points to another engine; see `inspection.move`."""
    old = archive.settings.engine
    return Outcome(
        f"{inspection.move(archive, uri, progress):,} points moved from {old} to {uri}, counted and compared; {old} may be deleted"
    )


def stats(archive: Archive, encoder: Callable[[], Encoder], progress: Progress) -> Outcome:
    """What is in the archive; see `inspection.stats`."""
    found = inspection.stats(archive)
    return Outcome(f"{found.photos:,} photos", data=asdict(found))


CHORES: dict[str, Callable[..., Outcome]] = {
    "add": add,
    "backup": backup,
    "move": move,
    "pairs": pairs,
    "picks": picks,
    "remove": remove,
    "stats": stats,
    "update": update,
    "verify": verify,
}


class Worker:
    """Does chores one after the other in a thread of its own, for a server that holds the archive.

    Args:
        archive: open; only this thread writes to it.
        encoder: the archive's.
    """

    def __init__(self, archive: Archive, encoder: Encoder) -> None:
        self._archive, self._encoder = archive, encoder
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
        number = len(self._states) + 1
        self._states[number] = {"state": "waiting", "stage": "", "done": 0, "total": 0}
        self._waiting.put((number, command, options))
        return number

    def state(self, number: int) -> dict[str, Any] | None:
        """`state` ("waiting", "running", "done" or "failed"), `stage`, `done`, `total`, and at the end `message`, `faults` and `data`."""
        return self._states.get(number)

    def close(self) -> None:
        """Finish the chore at hand and stop."""
        self._waiting.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (chore := self._waiting.get()) is not None:
            number, command, options = chore

            def report(stage: str, done: int, of: int, number: int = number) -> None:
                self._states[number] = {"state": "running", "stage": stage, "done": done, "total": of}

            try:
                outcome = run(self._archive, lambda: self._encoder, command, options, report)
                self._states[number] |= {"state": "done", **asdict(outcome)}
            except PhotodeskError as error:
                self._states[number] |= {"state": "failed", "message": str(error)}
            except Exception as error:  # the server goes on, and the sender is told
                self._states[number] |= {"state": "failed", "message": f"{type(error).__name__}: {error}"}
