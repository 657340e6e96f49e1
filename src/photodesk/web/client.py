"""The client of a server that holds an archive: commands and questions go there over HTTP, outcomes and answers come
back.

POST {url}/api/archive/chores {"command": …, "options": {…}} answers {"chore": n}; GET {url}/api/archive/chores/n
answers what `worker.Worker.state` gives. Both want `Authorization: Bearer KEY`, with the key that stands in the
archive's lock file.
"""

from __future__ import annotations

import io
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import click

from photodesk.archive.commands import Outcome
from photodesk.errors import ArchiveInUse, StoreError
from photodesk.types import Fault

if TYPE_CHECKING:
    from photodesk.search.explain import Reason
    from photodesk.search.query import Answer, Found, Question

POLL = 0.3
"""Seconds between two questions."""

_direct = urllib.request.build_opener(
    urllib.request.ProxyHandler({})
)  # keys and drafts are for the holder, not for a proxy


def run(
    holder: ArchiveInUse, command: str, options: Mapping[str, Any], progress: Callable[[str, int, int], None]
) -> Outcome:
    """Let the process that holds the archive do a chore.

    Raises:
        ArchiveInUse: it answers nowhere.
        StoreError: it does not answer, refuses, or the chore failed.
    """
    if not holder.url:
        raise holder
    place = f"{holder.url.rstrip('/')}/api/archive/chores"
    number = request(place, holder, {"command": command, "options": dict(options)})["chore"]
    while True:
        state = request(f"{place}/{int(number)}", holder)
        if state["total"]:
            progress(str(state["stage"]), int(state["done"]), int(state["total"]))
        if state["state"] == "done":
            return Outcome(state["message"], [Fault(**fault) for fault in state["faults"]], state["data"])
        if state["state"] in ("failed", "stopped"):
            raise StoreError(state["message"])
        time.sleep(POLL)


def request(
    place: str, holder: ArchiveInUse, body: Mapping[str, Any] | bytes | None = None, kind: str = "application/json"
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
        with _direct.open(asked, timeout=60) as answer:
            found = json.load(answer)
    except urllib.error.HTTPError as error:
        raise StoreError(
            f"process {holder.pid} holds the archive and refuses this at {place}: {_detail(error)}"
        ) from None
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


def ask(holder: ArchiveInUse, question: Question, rank: int | None) -> tuple[Answer, Reason | None, dict[str, str]]:
    """Ask the server.

    Args:
        holder: the server.
        question: what is asked.
        rank: of the hit that is to be explained.

    Returns:
        the answer, why that hit, and photo → file, near-duplicates among them.

    Raises:
        StoreError: it does not answer.
    """
    import numpy as np

    from photodesk.search.explain import Reason
    from photodesk.search.query import Answer

    click.echo(f"process {holder.pid} holds the archive and is asked at {holder.url}", err=True)
    base = f"{holder.url.rstrip('/')}/api"
    query = as_query(question, holder, base)
    told = request(f"{base}/search", holder, query)
    near = [(name, value, tuple(like)) for name, value, like in told["near"]]
    answer = Answer(
        [_found(hit) for hit in told["hits"]], told["nothing_fits"], told["message"], told["calibrated"], near=near
    )
    reason = None
    if rank and rank <= len(answer.hits):
        hit = told["hits"][rank - 1]
        why = request(f"{base}/why", holder, {"query": query, "photo": hit["about"]["photo"]})
        heat = np.array(why["heat"], np.float64).reshape(len(why["heat"]), -1).astype(np.float32)
        words = [(word["text"], word["fall"]) for word in why["words"]]
        reason = Reason(_found(hit | {"components": why["components"]}), words, heat, why["shares"])
    places = {hit["about"]["photo"]: hit["file"] for hit in told["hits"]}
    return answer, reason, places | {one["photo"]: one["file"] for hit in told["hits"] for one in hit["similar"]}


def _found(hit: dict[str, Any]) -> Found:
    from photodesk.archive.rights import Similar
    from photodesk.engines.schema import LISTS, Entry
    from photodesk.search.query import Found

    known = {name: value for name, value in hit["about"].items() if name != "photo"}
    entry = Entry(**known | {name: tuple(known[name]) for name in LISTS} | {"group": hit["group"]})
    similar = [
        Similar(one["photo"], Entry(**{name: value for name, value in one.items() if name not in ("photo", "file")}))
        for one in hit["similar"]
    ]
    return Found(
        hit["about"]["photo"],
        hit["score"],
        hit["probability"],
        entry,
        similar,
        hit["used"],
        hit["components"],
        hit["origins"],
    )


def as_query(question: Question, holder: ArchiveInUse, base: str) -> dict[str, Any]:
    """The question as the server reads it; a picture is sent first."""
    article, where = question.article, question.where
    query: dict[str, Any] = {"top": question.top, "like": question.like}
    if article:
        query |= {"headline": article.title, "lead": article.lead, "text": article.text, "language": article.language}
    if question.picture is not None:
        out = io.BytesIO()
        question.picture.save(out, "JPEG", quality=92)
        query["upload"] = request(f"{base}/uploads", holder, out.getvalue(), "image/jpeg")["upload"]
    for name in ("since", "until", "phrase", "min_width", "min_height"):
        if value := getattr(where, name):
            query[name] = value
    for name in ("credit", "terms", "keywords", "orientation"):
        query[name] = list(getattr(where, name))
    query |= {"words": question.words, "fold": question.fold}
    return query | {
        "used_days": question.used_days,
        "used": "hide" if question.hide_used else "down",
        "diverse": question.diverse,
    }
