"""The client of a server that holds an archive: commands and questions go there over HTTP, outcomes and answers come
back.

POST {url}/api/archive/jobs {"command": …, "options": {…}} and GET {url}/api/archive/jobs/N answer what
`jobs.Worker.state` gives. Both want `Authorization: Bearer KEY`, with the key that stands in the
archive's lock file.
"""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import click

from photodesk import images
from photodesk.archive.commands import Outcome
from photodesk.errors import ArchiveInUse, InternalError, StoreError
from photodesk.search import schema
from photodesk.types import Fault, Progress

if TYPE_CHECKING:
    from PIL import Image

POLL = 0.3
"""Seconds between two questions."""
PATIENCE = 60
"""Seconds without an answer after which a request has failed."""
AT_ONCE = 600
"""The same for commands that are answered at once: to count a large archive takes a while."""

_direct = urllib.request.build_opener(
    urllib.request.ProxyHandler({})
)  # keys and drafts are for the holder, not for a proxy


def run(holder: ArchiveInUse, command: str, options: Mapping[str, Any], progress: Progress) -> Outcome:
    """Let the process that holds the archive run a command.

    Raises:
        ArchiveInUse: it answers nowhere.
        StoreError: it does not answer, refuses, or the command failed.
        InternalError: the command failed by a bug of photodesk's own.
    """
    if not holder.url:
        raise holder
    place = f"{holder.url.rstrip('/')}/api/archive/jobs"
    state = request(place, holder, {"command": command, "options": dict(options)}, patience=AT_ONCE)
    while True:
        if state["total"]:
            progress(str(state["stage"]), int(state["done"]), int(state["total"]))
        if state["state"] == "done":
            return Outcome(state["message"], [Fault(**fault) for fault in state["faults"]], state["data"])
        if state.get("mistake"):
            raise InternalError(f"{state['message']}; the log of process {holder.pid} says where")
        if state["state"] in ("failed", "stopped"):
            raise StoreError(state["message"])
        time.sleep(POLL)
        state = request(f"{place}/{int(state['job'])}", holder)


def request(
    place: str,
    holder: ArchiveInUse,
    body: Mapping[str, Any] | bytes | None = None,
    kind: str = "application/json",
    *,
    patience: float = PATIENCE,
) -> dict[str, Any]:
    """What the holder answers at an address: to GET, or to POST with an object or with bytes of a kind.

    Raises:
        StoreError: it does not answer, or refuses.
    """
    if not place.startswith(("http://", "https://")):
        raise StoreError(f"{place}: expected an address with http:// or https://")
    headers = {"Authorization": f"Bearer {holder.key}", "Content-Type": kind}
    data = (
        body
        if body is None or isinstance(body, bytes)
        else json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")
    )
    asked = urllib.request.Request(place, data, headers)  # noqa: S310  checked above
    try:
        with _direct.open(asked, timeout=patience) as answer:
            found = json.load(answer)
    except urllib.error.HTTPError as error:
        raise StoreError(
            f"process {holder.pid} holds the archive and refuses this at {place}: {_detail(error)}"
        ) from None
    except (OSError, ValueError) as error:
        raise StoreError(f"process {holder.pid} holds the archive and does not take this at {place}: {error}") from None
    if not isinstance(found, dict):
        raise StoreError(f"process {holder.pid} at {place} answers with something other than an object")
    return found


def _detail(error: urllib.error.HTTPError) -> str:
    """What the holder says of a refusal, else the code."""
    try:
        return f"{json.load(error)['detail']} ({error.code})"
    except (OSError, ValueError, TypeError, KeyError):
        return str(error)


def ask(
    holder: ArchiveInUse, query: schema.Query, picture: Image.Image | None = None, *, rank: int | None = None
) -> tuple[schema.Answer, schema.Why | None]:
    """Ask the server.

    Args:
        holder: the server.
        query: what is asked.
        picture: to compare with; it is sent first.
        rank: of the hit that is to be explained, if there is one.

    Raises:
        StoreError: it does not answer, or refuses.
    """
    click.echo(f"process {holder.pid} holds the archive and is asked at {holder.url}", err=True)
    base = f"{holder.url.rstrip('/')}/api"
    if picture is not None:
        sent = images.jpeg(picture, quality=92)
        query = replace(query, upload=request(f"{base}/uploads", holder, sent, "image/jpeg")["upload"])

    def told(path: str, kind: Any, body: Mapping[str, Any]) -> Any:
        found = request(f"{base}/{path}", holder, body)
        try:
            return schema.read(kind, found)
        except (TypeError, KeyError, AttributeError):
            raise StoreError(
                f"process {holder.pid} at {base}/{path} answers in another form; is it another version of photodesk?"
            ) from None

    asked = asdict(query)
    answer: schema.Answer = told("search", schema.Answer, asked)
    hits = answer.hits[rank - 1 : rank] if rank else []
    return answer, next((told("why", schema.Why, {"query": asked, "photo": hit.photo}) for hit in hits), None)
