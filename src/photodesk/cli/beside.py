"""`search` of an archive that a server holds: the question goes there over HTTP, and comes back as the answer it would have here."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from photodesk.asking import Question
    from photodesk.desk import Answer, Found
    from photodesk.errors import ArchiveInUse
    from photodesk.explain import Reason


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

    from photodesk import remote
    from photodesk.desk import Answer
    from photodesk.explain import Reason

    click.echo(f"process {holder.pid} holds the archive and is asked at {holder.url}", err=True)
    base = f"{holder.url.rstrip('/')}/api"
    query = as_query(question, holder, base)
    told = remote.ask(f"{base}/search", holder, query)
    near = [(name, value, tuple(like)) for name, value, like in told["near"]]
    answer = Answer([_found(hit) for hit in told["hits"]], told["nothing_fits"], told["message"], told["calibrated"], near=near)
    reason = None
    if rank and rank <= len(answer.hits):
        hit = told["hits"][rank - 1]
        why = remote.ask(f"{base}/why", holder, {"query": query, "photo": hit["about"]["photo"]})
        heat = np.array(why["heat"], np.float64).reshape(len(why["heat"]), -1).astype(np.float32)
        words = [(word["text"], word["fall"]) for word in why["words"]]
        reason = Reason(_found(hit | {"components": why["components"]}), words, heat, why["shares"])
    places = {hit["about"]["photo"]: hit["file"] for hit in told["hits"]}
    return answer, reason, places | {one["photo"]: one["file"] for hit in told["hits"] for one in hit["similar"]}


def _found(hit: dict[str, Any]) -> Found:
    from photodesk.desk import Found
    from photodesk.index.schema import Entry
    from photodesk.rights import Similar

    known = {name: value for name, value in hit["about"].items() if name != "photo"}
    entry = Entry(**known | {"keywords": tuple(known["keywords"]), "group": hit["group"]})
    similar = [
        Similar(one["photo"], Entry(**{name: value for name, value in one.items() if name not in ("photo", "file")}))
        for one in hit["similar"]
    ]
    return Found(hit["about"]["photo"], hit["score"], hit["probability"], entry, similar, hit["used"], hit["components"], hit["origins"])


def as_query(question: Question, holder: ArchiveInUse, base: str) -> dict[str, Any]:
    """The question as the server reads it; a picture is sent first."""
    from photodesk import remote

    article, where = question.article, question.where
    query: dict[str, Any] = {"top": question.top, "like": question.like}
    if article:
        query |= {"headline": article.title, "lead": article.lead, "text": article.text, "language": article.language}
    if question.picture is not None:
        out = io.BytesIO()
        question.picture.save(out, "JPEG", quality=92)
        query["upload"] = remote.ask(f"{base}/uploads", holder, out.getvalue(), "image/jpeg")["upload"]
    for name in ("since", "until", "phrase", "min_width", "min_height"):
        if value := getattr(where, name):
            query[name] = value
    for name in ("credit", "terms", "keywords", "orientation"):
        query[name] = list(getattr(where, name))
    query |= {"words": question.words, "fold": question.fold}
    return query | {"used_days": question.used_days, "used": "hide" if question.hide_used else "down", "diverse": question.diverse}
