"""The commands that change or inspect an archive, by name, each noted as a job: for the command line and for a server
that holds the archive.

A process that finds the archive held by a server sends its chore there (`remote`); the server answers with what
`Outcome` holds.
"""

from __future__ import annotations

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
from photodesk.data.photo_folder import Names
from photodesk.encoders.base import Encoder
from photodesk.errors import UsageError
from photodesk.types import Fault

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a chore ended: one line for people, what went wrong on the way, and what it found."""

    message: str
    faults: list[Fault] = field(default_factory=list)
    data: dict[str, Any] = field(default_factory=dict)


class StopError(Exception):
    """Raised by what a chore reports its progress to, to end it; what was done is kept."""


def run(
    archive: Archive, encoder: Callable[[], Encoder], command: str, options: Mapping[str, Any], progress: Progress
) -> Outcome:
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
        StopError: `progress` raised it; the job is noted as stopped.
    """
    if command not in CHORES:
        raise UsageError(f"no chore {command!r}; known: {', '.join(CHORES)}")
    if command in QUIET:
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
        stopped = isinstance(error, StopError) or not isinstance(error, Exception)
        archive.ledger.end(job, "stopped" if stopped else "failed", str(error))
        raise
    archive.ledger.end(job, "done", outcome.message)
    return outcome


def add(archive: Archive, encoder: Callable[[], Encoder], progress: Progress, *, folders: Sequence[str]) -> Outcome:
    """Bring all pictures below folders into the archive; see `intake.add`."""
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
    files, broken = list(archive.ledger.files()), list(archive.ledger.faults())
    faults = [
        Fault(path, "the archive knows no file there", "left out", "check the name")
        for path in paths
        if not any(ingest.below(known, [path]) for known in chain((file.path for file in files), broken))
    ]
    faults += [
        Fault(photo, "the archive has no such photo", "left out", "check the id")
        for photo in sorted({*photos} - {f.photo for f in files})
    ]
    lost, away = _lost(archive, files, force) if missing else (set[str](), list[str]())
    for root in away:
        what = "all files of this folder are gone; they stay in the archive"
        advice = (
            f"bring the disk back, or, if they are gone for good: photodesk archive remove {archive.folder} "
            "--missing --force"
        )
        faults.append(Fault(root, what, "kept", advice))
    chosen = [
        file.path
        for file in files
        if file.photo in photos or file.path in lost or (paths and ingest.below(file.path, paths))
    ]
    archive.ledger.forget_faults(
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
    files: dict[str, str] = {}
    names: Names | None = None
    for one in photos:
        path = str(Path(one).absolute())
        known = {
            str(photo)
            for (photo,) in archive.ledger.ask(
                "SELECT photo FROM photos WHERE photo = ? UNION SELECT photo FROM files WHERE path = ?", (one, path)
            )
        }
        if not known:  # in other letters, or as another machine calls it
            if names is None:
                files = {str(file): str(photo) for file, photo in archive.ledger.ask("SELECT path, photo FROM files")}
                names = Names(files)
            match = names.find(path)
            same = match.among or tuple(filter(None, [match.name]))
            if Path(path).exists():  # then another file of that name is another picture
                same = tuple(file for file in same if Path(file).exists() and Path(file).samefile(path))
            known = {files[file] for file in same}
            if len(known) == 1:
                faults.append(Fault(one, f"a file by another spelling: {same[0]}", "repaired"))
        found += known if len(known) == 1 else []
        if len(known) > 1:
            what = f"several photos have this name: {', '.join(sorted(match.among)[:3])}"
            faults.append(Fault(one, what, "left out", "give the whole path, or the id of the photo"))
        elif not known:
            what = "the archive has no such photo"
            faults.append(Fault(one, what, "left out", "check id or path, or add the file first"))
    day = archive.daybook.use(found, day, article)
    return Outcome(f"{len(found):,} photos used on {day}", faults)


def faults(archive: Archive, encoder: Callable[[], Encoder], progress: Progress) -> Outcome:
    """Every file that could not be taken, as far as it was not mended or removed since."""
    found = [fault for fault, *_ in archive.ledger.faults().values()]
    return Outcome(f"{len(found):,} files left out", found)


def update(
    archive: Archive, encoder: Callable[[], Encoder], progress: Progress, *, metadata: bool = False, bank: str = ""
) -> Outcome:
    """Look at all folders of the archive again; take in a file of articles as the bank; bring numbers and index up to
    date.

    Args:
        archive: open; encoder, progress as in `run`.
        metadata: read what the files say of themselves again, sidecars too.
        bank: article file or data folder; its articles join the bank.
    """
    from photodesk.data import datasets
    from photodesk.features.embed import embed_articles
    from photodesk.features.store import Store

    faults: list[Fault] = []
    words = []
    roots = [Path(root) for root in archive.ledger.roots()]
    away = [root for root in roots if not root.is_dir()]
    faults += [
        Fault(str(root), "the folder is gone; its photos stay in the archive", "kept", "bring the disk back")
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
            progress=lambda _, d, of: progress("bank", d, of),
        )
        archive.daybook.add_to_bank(rows.ids, rows.rows)
        faults += wrong
        words.append(f"{len(rows):,} articles in the bank")
    if revised := archive.refresh(lambda d, of: progress("revising", d, of)):
        words.append(f"{revised:,} photos revised")
    archive.engine.optimise()
    return Outcome("; ".join(words) or "nothing to do", faults)


def verify(
    archive: Archive, encoder: Callable[[], Encoder], progress: Progress, *, content: bool = False, repair: bool = False
) -> Outcome:
    """Everything that is wrong with the archive; see `inspection.verify`."""
    faults = maintenance.verify(archive, content=content, repair=repair, progress=progress)
    return Outcome(
        f"{archive.engine.count():,} photos, " + (f"{len(faults):,} faults" if faults else "all well"), faults
    )


def backup(
    archive: Archive, encoder: Callable[[], Encoder], progress: Progress, *, target: str, thumbnails: bool = True
) -> Outcome:
    """Write a copy of the archive; see `inspection.backup`."""
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
    """Move the points to another engine; see `inspection.move`."""
    old = archive.settings.engine
    return Outcome(
        f"{migration.move(archive, uri, progress):,} points moved from {old} to {uri}, counted and compared; {old} may "
        "be deleted"
    )


def stats(archive: Archive, encoder: Callable[[], Encoder], progress: Progress) -> Outcome:
    """What is in the archive; see `inspection.stats`."""
    found = maintenance.stats(archive)
    return Outcome(f"{found.photos:,} photos", data=asdict(found))


CHORES: dict[str, Callable[..., Outcome]] = {
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
QUIET = ("faults", "pairs", "stats", "use")
"""These are no news: the ledger notes no job for them."""
