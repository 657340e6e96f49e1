"""`search` of an archive that a server holds: the question goes there over HTTP."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from photodesk.asking import Question
    from photodesk.errors import ArchiveInUse


def ask(holder: ArchiveInUse, question: Question, as_json: bool, rank: int | None) -> None:
    """Ask the server and show what it answers, as `search` does with an archive of its own.

    Raises:
        StoreError: it does not answer.
    """
    from photodesk import remote
    from photodesk.confidence import WORDS

    click.echo(f"process {holder.pid} holds the archive and is asked at {holder.url}", err=True)
    base = f"{holder.url.rstrip('/')}/api"
    query = as_query(question, holder, base)
    answer = remote.ask(f"{base}/search", holder, query)
    hits = answer["hits"]
    reason = (
        remote.ask(f"{base}/why", holder, {"query": query, "photo": hits[rank - 1]["about"]["photo"]})
        if rank and rank <= len(hits)
        else None
    )
    if as_json:
        click.echo(json.dumps(answer | ({"why": reason} if reason else {}), ensure_ascii=False, indent=1))
        return
    if answer["nothing_fits"]:
        click.echo("nothing in this archive fits", err=True)
    for hit in hits:
        about = hit["about"]
        told = " · ".join(part for part in (about["headline"] or about["caption"], about["credit"], about["taken"][:10]) if part)
        click.echo(f"{hit['probability']:.0%}\t{WORDS[hit['level']]}\t{about['source']}\t{told}")
    if reason:
        for word in sorted(reason["words"], key=lambda word: -word["weight"])[:8]:
            click.echo(f"  {word['weight']:+.2f}  {word['text']}", err=True)


def as_query(question: Question, holder: ArchiveInUse, base: str) -> dict[str, Any]:
    """The question as the server reads it; a picture is sent first."""
    from photodesk import remote

    article, where = question.article, question.where
    lines = [" ".join(part.split()) for part in (article.title, article.lead, article.text)] if article else []
    query: dict[str, Any] = {"draft": "\n".join(line for line in lines if line), "top": question.top, "like": question.like}
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
