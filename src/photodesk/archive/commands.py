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

from photodesk.archive import embargo, ingest, maintenance, migration, rights
from photodesk.archive.archive import Archive
from photodesk.archive.database import File
from photodesk.archive.embargo import zone_of
from photodesk.archive.folders import away, gone, said
from photodesk.data.photo_folder import Names
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


def add(
    archive: Archive,
    encoder: Callable[[], Encoder],
    progress: Progress,
    *,
    folders: Sequence[str],
    exclude: Sequence[str] | None = None,
) -> Outcome:
    """Bring all pictures below folders into the archive; see `ingest.add`."""
    done = ingest.add(archive, encoder(), [Path(folder) for folder in folders], progress=progress, exclude=exclude)
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
        missing: files that are gone, but not where their disk may be away: see `folders.away`; nor where all files of a
            folder that was added are.
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
    lost, vanished = _lost(archive, files, force) if missing else (set[str](), list[str]())
    for root in vanished:
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
            if (paths and ingest.below(path, paths)) or (missing and gone(path) and not ingest.below(path, vanished))
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
    """Paths that are gone and may be forgotten, and folders whose disk may be away, whose paths are not among them."""
    lost = {file.path: file for file in files if gone(file.path)}
    if force:
        return set(lost), []
    vanished = away(((file.path, file.root) for file in lost.values()), archive.database.mounts())
    roots = {file.root for file in files} - {file.root for file in files if file.path not in lost}
    vanished |= {path: file.root for path, file in lost.items() if file.root in roots}
    return lost.keys() - vanished.keys(), sorted(set(vanished.values()))


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
    found, faults = _named(archive, photos)
    day = archive.usage.use(found, day, article)
    return Outcome(f"{len(found):,} photos used on {day}", faults)


def release(
    archive: Archive,
    encoder: Callable[[], Encoder],
    progress: Progress,
    *,
    photos: Sequence[str],
    until: str = "",
    withdraw: bool = False,
) -> Outcome:
    """Say when the embargo of photos ends, also where their usage terms do not, or cannot be read; it holds as long as
    they have these terms.

    Args:
        archive: open; encoder, progress as in `run`.
        photos: ids, or paths of files that the archive knows; near-duplicates with the same terms are released too.
        until: date and time, as usage terms have them; empty is now.
        withdraw: go by the usage terms again.

    Raises:
        UsageError: that is no moment.
    """
    ends = embargo.read(f"embargo until {until}", archive.zone) if until else embargo.now(archive.zone)
    if ends == embargo.UNKNOWN:
        raise UsageError(f"{until!r} is no moment; expected one such as '2024-05-31 18:00' or '31.5.2024, 18 Uhr'")
    found, faults = _named(archive, photos)
    entries = {point.photo: point.entry for point in archive.engine.get(found)}
    families = rights.groups(archive, entries)
    terms = {
        one.photo: entry.terms
        for photo, entry in entries.items()
        for one in families[photo].members
        if one.entry.terms == entry.terms != ""
    }
    archive.usage.release(terms, "" if withdraw else ends)
    bare = [photo for photo, entry in entries.items() if not entry.terms]
    faults += [
        Fault("photo-without-embargo", photo, "it has no usage terms to release it from", "left out") for photo in bare
    ]
    done = "go by their usage terms again" if withdraw else f"released from {ends}"
    return Outcome(f"{len(terms):,} photos {done}", faults)


def _named(archive: Archive, names: Sequence[str]) -> tuple[list[str], list[Fault]]:
    """Photos by id or by the path of a file, and which the archive does not know."""
    faults: list[Fault] = []
    found: list[str] = []
    files: dict[str, str] = {}
    spellings: Names | None = None
    for one in names:
        path = str(Path(one).absolute())
        if known := archive.database.named(one) or archive.database.named(path):
            found += known
            continue
        if spellings is None:
            files = {file.path: file.photo for file in archive.database.files()}
            spellings = Names(files)
        spelt = _respelt(path, spellings)
        meant = sorted({files[file] for file in spelt})
        if len(meant) == 1:
            found += meant
            faults.append(Fault("photo-spelling", one, f"a file by another spelling: {spelt[0]}", "repaired"))
        elif meant:
            what = f"several photos have this name: {', '.join(sorted(spelt)[:3])}"
            advice = "give the whole path, or the id of the photo"
            faults.append(Fault("photo-ambiguous", one, what, "left out", advice))
        else:
            advice = "check id or path, or add the file first"
            faults.append(Fault("photo-unknown", one, "the archive has no such photo", "left out", advice))
    return found, faults


def _respelt(path: str, names: Names) -> tuple[str, ...]:
    """Known files that a path may mean: in other letters, or as another machine calls them."""
    match = names.find(path)
    files = match.among or tuple(filter(None, [match.name]))
    if Path(path).exists():  # then another file of that name is another picture
        return tuple(file for file in files if Path(file).exists() and Path(file).samefile(path))
    return files


def faults(archive: Archive, encoder: Callable[[], Encoder], progress: Progress) -> Outcome:
    """Every file that could not be taken, as far as it was not mended or removed since; and by kind what else the
    folders hold."""
    found = [fault for fault, *_ in archive.database.faults().values()]
    kinds = said(archive.folder, archive.database.left_out())
    return Outcome(f"{len(found):,} files left out", [*found, *kinds])


def update(
    archive: Archive,
    encoder: Callable[[], Encoder],
    progress: Progress,
    *,
    metadata: bool = False,
    bank: str = "",
    zone: str = "",
) -> Outcome:
    """Look at all folders of the archive again; take in a file of articles as the bank; bring offsets, index and word
    search up to date.

    Args:
        archive: open; encoder, progress as in `run`.
        metadata: read the metadata of known files again, sidecars too.
        bank: article file or data folder; its articles join the query bank.
        zone: the desk's time zone from now on; empty leaves it.

    Raises:
        UsageError: no such time zone.
    """
    from photodesk.data import datasets
    from photodesk.features.embed import embed_articles
    from photodesk.features.store import Store

    if zone_of(zone):
        archive.database.set({"zone": zone})
    words = []
    roots = [Path(root) for root in archive.database.roots()]
    what, advice = "the folder is gone; its photos stay in the archive", "bring the disk back"
    faults = [Fault("folder-gone", str(root), what, "kept", advice) for root in roots if not root.is_dir()]
    # what `verify` found changed is read even where nothing but its content tells
    changed = [Path(file.path) for file in archive.database.files() if file.mtime == -1 and not gone(file.path)]
    if there := [*(root for root in roots if root.is_dir()), *changed]:
        done = ingest.add(archive, encoder(), there, progress=progress, reread=metadata)
        faults += done.faults
        words.append(str(done))
    if bank:
        articles = datasets.read(Path(bank)).articles
        rows, wrong = embed_articles(articles, encoder(), Store(), stage="bank", progress=progress)
        archive.usage.add_to_bank(rows.ids, rows.rows)
        faults += wrong
        words.append(f"{len(rows):,} articles in the bank")
    if revised := archive.refresh(progress):
        words.append(f"{revised:,} photos revised")
    if spelled := archive.index_words(progress):
        words.append(f"words of {spelled:,} photos indexed again")
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
    "release": release,
    "remove": remove,
    "stats": stats,
    "update": update,
    "use": use,
    "verify": verify,
}
QUICK = ("faults", "release", "stats", "use")
"""Answered at once; the database notes no job for them."""
