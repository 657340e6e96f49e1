"""Fetch the pictures that a data set names by URL into its photo folder; the same call resumes after a stop."""

from __future__ import annotations

import json
import threading
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from photodesk.data.http_client import Client, Clock, Manners, NoAnswerError, RefusedError, target
from photodesk.errors import PhotoError
from photodesk.files import replacing
from photodesk.images import FORMATS, SUFFIXES, read
from photodesk.types import Fault, Listed

LOG = "fetch.log"
"""In the photo folder: one JSON object per request, with time, URL, address, status, bytes and what was wrong."""

_HOSTS_AT_ONCE = 8
_SILENT = 5


@dataclass
class Fetched:
    """How many pictures were saved now, how many were there before, and what was not to be had."""

    saved: int = 0
    there: int = 0
    faults: list[Fault] = field(default_factory=list)


def fetch(
    listed: Sequence[Listed],
    folder: Path,
    *,
    manners: Manners | None = None,
    tick: Callable[[], object] | None = None,
    clock: Clock | None = None,
) -> Fetched:
    """Fetch every listed picture that has a URL and is not in `folder` yet.

    Several hosts are asked at a time, each by one request at a time. A file is written whole or not at all, and only if
    it is a picture that can be decoded. What cannot be had becomes a fault; a host that does not answer five times in a
    row is left alone.

    Args:
        listed: pictures, as `datasets.read(…).listed` has them.
        folder: where they go, by the name that the table gives them.
        manners: how to ask.
        tick: called after each picture.
        clock: how to wait; tests bring their own.
    """
    folder.mkdir(parents=True, exist_ok=True)
    result, hosts, queues = _queued(listed, folder)
    with (folder / LOG).open("a", encoding="utf-8") as stream:
        lock, stop = threading.Lock(), threading.Event()

        def log(record: dict[str, object]) -> None:
            line = {"time": datetime.now(UTC).isoformat(timespec="seconds"), **record}
            with lock:
                stream.write(json.dumps(line, ensure_ascii=False) + "\n")
                stream.flush()

        client = Client(hosts, manners=manners or Manners(), log=log, clock=clock)

        def work(queue: list[Listed]) -> tuple[int, list[Fault]]:
            return _of_host(queue, client, folder, stop, tick)

        with ThreadPoolExecutor(_HOSTS_AT_ONCE) as pool:
            try:
                for saved, faults in pool.map(work, queues.values()):
                    result.saved += saved
                    result.faults += faults
            except BaseException:
                stop.set()
                raise
    return result


def _queued(listed: Sequence[Listed], folder: Path) -> tuple[Fetched, set[str], Mapping[str, list[Listed]]]:
    """What is there or refused already, the hosts that may be asked, and what to ask each of them for."""
    there = {name for path in folder.iterdir() for name in (path.name.casefold(), path.stem.casefold())}
    result, hosts, queues = Fetched(), set[str](), defaultdict[str, list[Listed]](list)
    for item in listed:
        name = (item.file or item.photo).casefold()
        try:
            if not item.url:
                continue
            if name in there:
                result.there += 1
                continue
            _safe(item)
            at = target(item.url)
            hosts |= {at.host, at.place}
            queues[at.host].append(item)
            there.add(name)
        except RefusedError as error:
            result.faults.append(_fault(item, error))
    return result, hosts, queues


def _of_host(
    queue: Sequence[Listed], client: Client, folder: Path, stop: threading.Event, tick: Callable[[], object] | None
) -> tuple[int, list[Fault]]:
    """Fetch the pictures of one host, one after the other: how many were saved, and what cannot be had."""
    faults, silent, saved = list[Fault](), 0, 0
    for item in queue:
        if stop.is_set():
            break
        try:
            if silent >= _SILENT:
                raise NoAnswerError(f"the host did not answer {_SILENT} times in a row")
            _save(item, client.get(item.url), folder)
            silent, saved = 0, saved + 1
        except RefusedError as error:
            silent = silent + 1 if isinstance(error, NoAnswerError) else 0
            faults.append(_fault(item, error))
        if tick:
            tick()
    return saved, faults


def _fault(item: Listed, error: RefusedError) -> Fault:
    what = f"cannot be fetched: {item.file or item.photo}: {error}"
    if isinstance(error, NoAnswerError):
        return Fault("photo-no-answer", item.where, what, "left out", "run the command again later")
    return Fault("photo-refused", item.where, what, "left out", "get the picture elsewhere, or do without it")


def _safe(item: Listed) -> str:
    """The name of the picture's file; a name out of a table must stay a name.

    Raises:
        RefusedError: it would leave the folder, be hidden, or be no name at all.
    """
    name = item.file or item.photo
    if (
        any(mark in name for mark in "/\\:")
        or name.startswith(".")
        or not name.isprintable()
        or not 0 < len(name.encode()) <= 200
    ):
        raise RefusedError(f"{name[:80]!r} is not the name of a file")
    return name


def _save(item: Listed, data: bytes, folder: Path) -> None:
    name = _safe(item)
    try:
        picture = read(data, size=64, where="what the host sends")
    except PhotoError as error:
        raise RefusedError(f"{error.where} {error.what}") from error
    if Path(name).suffix.lower() not in SUFFIXES:
        name += FORMATS[picture.format][0]
    with replacing(folder / name, "wb") as stream:
        stream.write(data)
