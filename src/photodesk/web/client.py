"""A chore for an archive that a server holds: send it there over HTTP, watch it, bring the outcome home.

POST {url}/api/archive/chores {"command": …, "options": {…}} answers {"chore": n}; GET {url}/api/archive/chores/n answers what
`worker.Worker.state` gives. Both want `Authorization: Bearer KEY`, with the key that stands in the archive's lock file.
"""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any

from photodesk.archive.commands import Outcome
from photodesk.errors import ArchiveInUse, StoreError
from photodesk.types import Fault

POLL = 0.3
"""Seconds between two questions."""

_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # keys and drafts are for the holder, not for a proxy


def run(holder: ArchiveInUse, command: str, options: Mapping[str, Any], progress: Callable[[str, int, int], None]) -> Outcome:
    """Let the process that holds the archive do a chore.

    Raises:
        ArchiveInUse: it answers nowhere.
        StoreError: it does not answer, refuses, or the chore failed.
    """
    if not holder.url:
        raise holder
    place = f"{holder.url.rstrip('/')}/api/archive/chores"
    number = ask(place, holder, {"command": command, "options": dict(options)})["chore"]
    while True:
        state = ask(f"{place}/{int(number)}", holder)
        if state["total"]:
            progress(str(state["stage"]), int(state["done"]), int(state["total"]))
        if state["state"] == "done":
            return Outcome(state["message"], [Fault(**fault) for fault in state["faults"]], state["data"])
        if state["state"] in ("failed", "stopped"):
            raise StoreError(state["message"])
        time.sleep(POLL)


def ask(place: str, holder: ArchiveInUse, body: Mapping[str, Any] | bytes | None = None, kind: str = "application/json") -> dict[str, Any]:
    """What the holder answers at an address: to GET, or to POST with an object or with bytes of a kind.

    Raises:
        StoreError: it does not answer, or refuses.
    """
    if not place.startswith(("http://", "https://")):
        raise StoreError(f"{place}: expected an address with http:// or https://")
    headers = {"Authorization": f"Bearer {holder.key}", "Content-Type": kind}
    data = body if body is None or isinstance(body, bytes) else json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")
    request = urllib.request.Request(place, data, headers)  # noqa: S310  checked above
    try:
        with _direct.open(request, timeout=60) as answer:
            found = json.load(answer)
    except urllib.error.HTTPError as error:
        raise StoreError(f"process {holder.pid} holds the archive and refuses this at {place}: {_detail(error)}") from None
    except (OSError, ValueError) as error:
        raise StoreError(f"process {holder.pid} holds the archive and does not take this at {place}: {error}") from None
    if not isinstance(found, dict):
        raise StoreError(f"process {holder.pid} at {place} answers what nobody asked for")
    return found


def _detail(error: urllib.error.HTTPError) -> str:
    """What the holder says of a refusal, else the code."""
    try:
        return f"{json.load(error)['detail']} ({error.code})"
    except (OSError, ValueError, TypeError, KeyError):
        return str(error)
