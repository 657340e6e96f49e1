"""The commands that change or inspect an archive, by name, each noted as a job: for the command line and for a server
that holds the archive.

A process that finds the archive held by a server sends its command there (`web.client`); the server answers with
what `Outcome` holds.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from photodesk.archive import ingest, maintenance, migration
from photodesk.archive.archive import Archive
from photodesk.archive.database import File
from photodesk.archive.folders import gone
from photodesk.encoders.base import Encoder
from photodesk.errors import PhotodeskError, UsageError
from photodesk.types import Fault, Progress


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a command ended: one line for people, what went wrong on the way, and what it found."""

    message: str
    faults: list[Fault] = field(default_factory=list)
    data: dict[str, Any] = field(default_factory=dict)


class StopError(Exception):
    """Raised by what a command reports its progress to, to end it; what was done is kept."""


def run(
    archive: Archive,
    encoder: Callable[[], Encoder],
    command: str,
    options: Mapping[str, Any],
    progress: Progress,
    *,
    job: int | None = None,
    keep: Callable[[Outcome], None] = lambda outcome: None,
) -> Outcome:
    """Run one command and note it in the database as a job.

    Args:
        archive: open.
        encoder: gives the archive's encoder; called only by commands that need it.
        command: one of `COMMANDS`.
        options: keyword arguments of the function of that name here; paths are text.
        progress: called with (stage, done, of).
        job: number of the job that waits for this; None begins one.
        keep: called with the outcome before the job is noted as done: whoever sees that finds the outcome.

    Raises:
        UsageError: no such command, an unknown option, or one is missing.
        PhotodeskError: it failed; what was done before is kept.
        StopError: `progress` raised it; the job is noted as stopped.
    """
    if command not in COMMANDS:
        raise UsageError(f"no command {command!r}; known: {', '.join(COMMANDS)}")
    try:
        inspect.signature(COMMANDS[command]).bind(archive, encoder, progress, **options)
    except TypeError as error:  # of the options' names: nothing of the command has run yet
        raise UsageError(f"{command}: {error}") from None
    if command in QUICK or archive.database.read_only:
        return COMMANDS[command](archive, encoder, progress, **options)
    if job is None:
        job = archive.database.begin(command)
    else:
        archive.database.report(job, "", 0, 0)
    said = 0.0

    def report(stage: str, done: int, of: int) -> None:
        nonlocal said
        if time.monotonic() - said >= 1 or done == of:
            said = time.monotonic()
            archive.database.report(job, stage, done, of)
        progress(stage, done, of)

    try:
        outcome = COMMANDS[command](archive, encoder, report, **options)
    except BaseException as error:
        stopped = isinstance(error, StopError) or not isinstance(error, Exception)
        archive.database.end(job, "stopped" if stopped else "failed", reason(error))
        raise
    keep(outcome)
    archive.database.end(job, "done", outcome.message)
    return outcome


def is_bug(error: BaseException) -> bool:
    """Whether an error that ended a job is a bug of photodesk's own, and no mistake of the user's."""
    return isinstance(error, Exception) and not isinstance(error, PhotodeskError | StopError | OSError)


def reason(error: BaseException) -> str:
    """Why a job ended, as its record says it."""
    return f"a bug of photodesk, not your mistake: {type(error).__name__}: {error}" if is_bug(error) else str(error)


def add(archive: Archive, encoder: Callable[[], Encoder], progress: Progress, *, folders: Sequence[str]) -> Outcome:
    """Bring all pictures below folders into the archive; see `ingest.add`."""
    done = ingest.add(archive, encoder(), [Path(folder) for folder in folders], progress=progress)
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
    force: bool = False,
) -> Outcome:
    """Forget files and whatever is below folders, photos by id, or files that are gone; nothing on the disk outside the
    archive is touched.

    Args:
        archive: open; encoder, progress as in `run`.
        paths: files, or folders with all that is below them.
        photos: ids.
        missing: files that are gone, but not where all files of a folder that was added are: its disk may be away.
        force: there too.
    """
    files, broken = list(archive.database.files()), list(archive.database.faults())
    faults = [
        Fault("file-unknown", path, "the archive knows no file there", "left out", "check the name")
        for path in paths
        if not any(ingest.below(known, [path]) for known in chain((file.path for file in files), broken))
    ]
    faults += [
        Fault("photo-unknown", photo, "the archive has no such photo", "left out", "check the id")
        for photo in sorted({*photos} - {f.photo for f in files})
    ]
    lost, away = _lost(archive, files, force) if missing else (set[str](), list[str]())
    for root in away:
        what = "all files of this folder are gone; they stay in the archive"
        advice = (
            f"bring the disk back, or, if they are gone for good: photodesk archive remove {archive.folder} "
            "--missing --force"
        )
        faults.append(Fault("folder-gone", root, what, "kept", advice))
    chosen = [
        file.path
        for file in files
        if file.photo in photos or file.path in lost or (paths and ingest.below(file.path, paths))
    ]
    archive.database.forget_faults(
        [
            path
            for path in broken
            if (paths and ingest.below(path, paths)) or (missing and gone(path) and not ingest.below(path, away))
        ]
    )
    dropped = 0
    for start in range(0, len(chosen), 256):
        dropped += len(archive.forget_files(chosen[start : start + 256]))
        progress("removing", min(start + 256, len(chosen)), len(chosen))
    return Outcome(
        f"{dropped:,} photos and {len(chosen):,} files removed", faults, {"photos": dropped, "files": len(chosen)}
    )


def _lost(archive: Archive, files: Sequence[File], force: bool) -> tuple[set[str], list[str]]:
    """Paths that are gone, and folders that were added of which nothing is left, whose paths are not among them."""
    lost = {file.path for file in files if gone(file.path)}
    away = sorted({file.root for file in files} - {file.root for file in files if file.path not in lost})
    return (
        ({file.path for file in files if file.path in lost and file.root not in away}, away)
        if not force
        else (lost, [])
    )


def use(
    archive: Archive,
    encoder: Callable[[], Encoder],
    progress: Progress,
    *,
    photos: Sequence[str],
    day: str = "",
    article: str = "",
) -> Outcome:
    """Note that photos were printed or put online.

    Args:
        archive: open; encoder, progress as in `run`.
        photos: ids, or paths of files that the archive knows.
        day: YYYY-MM-DD; empty is today.
        article: with which one: a title, an address, a number.

    Raises:
        UsageError: that is no day.
    """
    faults: list[Fault] = []
    found: list[str] = []
    for one in photos:
        known = archive.database.named(one) or archive.database.named(str(Path(one).absolute()))
        found += known
        if not known:
            advice = "check id or path, or add the file first"
            faults.append(Fault("photo-unknown", one, "the archive has no such photo", "left out", advice))
    day = archive.usage.use(found, day, article)
    return Outcome(f"{len(found):,} photos used on {day}", faults)


def faults(archive: Archive, encoder: Callable[[], Encoder], progress: Progress) -> Outcome:
    """Every file that could not be taken, as far as it was not mended or removed since."""
    found = [fault for fault, *_ in archive.database.faults().values()]
    return Outcome(f"{len(found):,} files left out", found)


def update(
    archive: Archive, encoder: Callable[[], Encoder], progress: Progress, *, metadata: bool = False, bank: str = ""
) -> Outcome:
    """Look at all folders of the archive again; take in a file of articles as the bank; bring offsets and index up to
    date.

    Args:
        archive: open; encoder, progress as in `run`.
        metadata: read the metadata of known files again, sidecars too.
        bank: article file or data folder; its articles join the query bank.
    """
    from photodesk.data import datasets
    from photodesk.features.embed import embed_articles
    from photodesk.features.store import Store

    faults: list[Fault] = []
    words = []
    roots = [Path(root) for root in archive.database.roots()]
    away = [root for root in roots if not root.is_dir()]
    faults += [
        Fault(
            "folder-gone",
            str(root),
            "the folder is gone; its photos stay in the archive",
            "kept",
            "bring the disk back",
        )
        for root in away
    ]
    if there := [root for root in roots if root.is_dir()]:
        done = ingest.add(archive, encoder(), there, progress=progress, reread=metadata)
        faults += done.faults
        words.append(str(done))
    if bank:
        rows, wrong = embed_articles(
            datasets.read(Path(bank)).articles,
            encoder(),
            Store(),
            stage="bank",
            progress=progress,
        )
        archive.usage.add_to_bank(rows.ids, rows.rows)
        faults += wrong
        words.append(f"{len(rows):,} articles in the bank")
    if revised := archive.refresh(progress):
        words.append(f"{revised:,} photos revised")
    archive.engine.optimise()
    return Outcome("; ".join(words) or "nothing to do", faults)


def verify(
    archive: Archive, encoder: Callable[[], Encoder], progress: Progress, *, content: bool = False, repair: bool = False
) -> Outcome:
    """Everything that is wrong with the archive; see `maintenance.verify`."""
    faults = maintenance.verify(archive, content=content, repair=repair, progress=progress)
    return Outcome(
        f"{archive.engine.count():,} photos, " + (f"{len(faults):,} faults" if faults else "all well"), faults
    )


def backup(
    archive: Archive, encoder: Callable[[], Encoder], progress: Progress, *, target: str, thumbnails: bool = True
) -> Outcome:
    """Write a copy of the archive; see `maintenance.backup`."""
    maintenance.backup(archive, Path(target).absolute(), thumbnails=thumbnails)
    return Outcome(f"{archive.engine.count():,} photos in {target}")


def pairs(archive: Archive, encoder: Callable[[], Encoder], progress: Progress) -> Outcome:
    """What was picked, as rows to train on; see `picks.rows`."""
    from photodesk.archive.picks import rows

    found, faults = rows(archive)
    return Outcome(f"{len(found):,} pairs", faults, {"rows": found})


def picks(archive: Archive, encoder: Callable[[], Encoder], progress: Progress, *, target: str) -> Outcome:
    """Write what was picked to a new folder, as a data set to train on; see `picks.export`."""
    from photodesk.archive.picks import export

    count, faults = export(archive, Path(target).absolute())
    return Outcome(
        f"{count:,} pairs in {target}; train on them with: photodesk train {target} -o bridge.safetensors", faults
    )


def move(archive: Archive, encoder: Callable[[], Encoder], progress: Progress, *, uri: str) -> Outcome:
    """Move the points to another engine; see `migration.move`."""
    old = archive.settings.engine
    return Outcome(
        f"{migration.move(archive, uri, progress):,} points moved from {old} to {uri}, counted and compared; {old} may "
        "be deleted"
    )


def stats(archive: Archive, encoder: Callable[[], Encoder], progress: Progress) -> Outcome:
    """What is in the archive; see `maintenance.stats`."""
    found = maintenance.stats(archive)
    return Outcome(f"{found.photos:,} photos", data=asdict(found))


COMMANDS: dict[str, Callable[..., Outcome]] = {
    "add": add,
    "backup": backup,
    "faults": faults,
    "move": move,
    "pairs": pairs,
    "picks": picks,
    "remove": remove,
    "stats": stats,
    "update": update,
    "use": use,
    "verify": verify,
}
QUICK = ("faults", "stats", "use")
"""Answered at once; the database notes no job for them."""
