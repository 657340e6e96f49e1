"""Run files: the ranked photos of every article, in the TAB format of NewsImages and in TREC's.

`.tsv` is the official file: a header line, then an article id and its photo ids, best first. `.trec` and `.run` hold
one photo a line: `article Q0 photo rank score tag`. A `.tsv` keeps no scores, so reading it gives −1, −2, … by rank.
"""

from __future__ import annotations

import csv
import math
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from operator import attrgetter, lt
from pathlib import Path
from typing import TypeAlias
from urllib.parse import quote, unquote

from photodesk.data.editions import scramble, unscramble
from photodesk.errors import RunError, UsageError
from photodesk.files import open_regular, replacing
from photodesk.types import Fault, Hit, Run

_HEADER = re.compile(r"article_id(?: \(transductive: (.+)\))?")
_INTEGER = re.compile(r"[+-]?\d+")
_TREC = (".trec", ".run")
SUFFIXES = (".tsv", *_TREC)
_LINE = re.compile(r"[^\s\ufeff\ud800-\udfff](?:[^\t\r\n\ufeff\ud800-\udfff]*[^\s\ufeff\ud800-\udfff])?")
_WORD = re.compile(r"[^\s\ufeff\ud800-\udfff]+")
_TAG = ";transductive="
_photo = attrgetter("photo")
_Ranked: TypeAlias = dict[str, tuple[list[str], list[float]]]


@dataclass(frozen=True, slots=True)
class Rows:
    """A run on its way in, row by row.

    Args:
        name: the run's name: TREC's tag, else the file's name without suffix.
        transductive: as the file states it; see `Run`.
        items: (line number or 0, article id, photo ids best first). In a `.tsv` an article may come twice. May raise
            RunError.
    """

    name: str
    transductive: str
    items: Iterator[tuple[int, str, Iterable[str]]]


def write(run: Run, path: Path) -> None:
    """Write a run file, whole or not at all; the same run gives the same bytes.

    The suffix says which: `.tsv` for NewsImages, `.trec` or `.run` for TREC with every digit of the scores. The header
    of a `.tsv`, or the tag of a TREC file, states a transductive run. TREC has no line for an article without photos.

    Raises:
        UsageError: another suffix.
        RunError: an id or score that the format cannot hold; names it.
    """
    if path.suffix not in (".tsv", *_TREC):
        raise UsageError(f"cannot write a run to {path.name!r}: name it .tsv (NewsImages), .trec or .run (TREC)")
    lines = _trec_lines(run) if path.suffix in _TREC else _tab_lines(run)
    with replacing(path) as stream:
        stream.writelines(lines)


def read(path: Path, *, decimal_comma: bool = False) -> Run:
    """Read a run file; `.trec` and `.run` as TREC, every other name as NewsImages' TAB format.

    A TAB file's first line is its header unless it begins with an integer. As in the official evaluator, later lines
    that do not begin with an integer are skipped, except below the header `article_id`, where ids may be any text.
    TREC's order is that of the scores; equal scores stay as in the file, and the rank column says nothing.

    Args:
        decimal_comma: TREC scores are written as `0,25`.

    Raises:
        RunError: no such file, or it breaks the format; names file, line, value and expectation.
    """
    if path.suffix in _TREC:
        name, transductive, scored = _read_trec(path, decimal_comma)
        return Run({article: tuple(map(Hit, *hits)) for article, hits in scored.items()}, name, transductive)
    rows = open_rows(path)
    lines: dict[str, int] = {}
    hits: dict[str, tuple[Hit, ...]] = {}
    for line, article, photos in rows.items:
        if article in lines:
            raise RunError(
                f"{path}:{line}: article {article!r} stands here and in line {lines[article]}; a run ranks each "
                "article once "
                f"(photodesk evaluate reads such files as the official evaluator does)"
            )
        lines[article] = line
        hits[article] = tuple(Hit(photo, -float(rank)) for rank, photo in enumerate(photos, 1))
    return Run(hits, rows.name, rows.transductive)


def open_rows(run: Run | Path, *, decimal_comma: bool = False) -> Rows:
    """The rows of a run, or of a run file without building a `Run` first: for large files and for repeated articles.

    Raises:
        RunError: no such file or a broken TREC file; a broken TAB file raises it while its items are read.
    """
    if isinstance(run, Run):
        return Rows(run.name, run.transductive, ((0, article, map(_photo, hits)) for article, hits in run.hits.items()))
    path = run
    if path.suffix in _TREC:
        name, transductive, scored = _read_trec(path, decimal_comma)
        return Rows(name, transductive, ((0, article, photos) for article, (photos, _) in scored.items()))
    lines = _lines(path)
    first = next(lines, None)
    if first is None:
        raise RunError(
            f"{path}: the file is empty; expected a header line, then an article id and its photo ids, separated by TAB"
        )
    ours = _HEADER.fullmatch(_cells(path, *first)[0])
    return Rows(path.stem, (ours[1] or "") if ours else "", _tab_rows(path, first, lines, any_id=ours is not None))


def check(
    run: Run, articles: Collection[str], photos: Collection[str], *, depth: int = 100, where: str = ""
) -> tuple[Fault, ...]:
    """What a task's organisers would not accept in a run: unknown or missing articles, unknown or repeated photos, a
    wrong length.

    Args:
        articles: the ids that the run must rank.
        photos: the ids that it may name; empty if unknown.
        depth: how many photos every article needs; fewer only where the gallery is smaller.
        where: what faults name as their place; the run's name if empty.
    """
    where = where or run.name
    articles, photos = dict.fromkeys(articles), frozenset(photos)
    need = min(depth, len(photos)) if photos else depth
    faults = [
        Fault(
            "run-article-unknown",
            where,
            f"an article that the data set does not have: {a}",
            "kept",
            "remove the row",
        )
        for a in run
        if a not in articles
    ]
    faults += [
        Fault("run-article-missing", where, f"an article is missing: {a}", "kept", "rank it; it counts 0")
        for a in articles
        if a not in run.hits
    ]
    for article, hits in run.hits.items():
        ids = [hit.photo for hit in hits]
        if len(ids) != need:
            faults.append(
                Fault(
                    "run-length",
                    where,
                    f"not {need} photos: {len(ids)} for article {article}",
                    "kept",
                    f"rank exactly {need}",
                )
            )
        if twice := [photo for photo, count in Counter(ids).items() if count > 1]:
            faults.append(
                Fault(
                    "run-photo-twice",
                    where,
                    f"a photo more than once: {twice[0]} for article {article}",
                    "kept",
                    "rank it once",
                )
            )
        if photos and (unknown := [photo for photo in ids if photo not in photos]):
            faults.append(
                Fault(
                    "run-photo-unknown",
                    where,
                    f"a photo that the data set does not have: {unknown[0]} for article {article}",
                    "kept",
                    "remove it",
                )
            )
    return tuple(faults)


def respelt(run: Run, known: Collection[str]) -> Run:
    """The run with ids of 2021 spelt as in `known`, scrambled or not; ids that are there in neither spelling stay."""

    def spelt(article: str) -> str:
        return next((other for other in (article, unscramble(article), scramble(article)) if other in known), article)

    return replace(run, hits={spelt(article): hits for article, hits in run.hits.items()})


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    try:
        with open_regular(path) as stream:
            for number, line in enumerate(stream, 1):
                text = line.removesuffix(b"\n").removesuffix(b"\r").decode()
                text = text.removeprefix("\ufeff") if number == 1 else text
                if text:
                    yield number, text
    except UnicodeDecodeError as error:
        bad = error.object[error.start : error.start + 1].hex()
        raise RunError(
            f"{path}:{number}: byte 0x{bad} at position {error.start + 1} is not UTF-8; run files are UTF-8 text"
        ) from None
    except OSError as error:
        raise RunError(f"cannot read run file {path}: {error.strerror or error}") from None


def _cells(path: Path, number: int, line: str) -> list[str]:
    if '"' not in line:
        return line.split("\t")
    try:
        return next(csv.reader([line], delimiter="\t", strict=True))
    except csv.Error as error:
        raise RunError(f"{path}:{number}: {_short(line)} is not TAB-separated with closed quotes: {error}") from None


def _tab_rows(
    path: Path, first: tuple[int, str], lines: Iterator[tuple[int, str]], any_id: bool
) -> Iterator[tuple[int, str, list[str]]]:
    found = any_id
    if not any_id and _INTEGER.fullmatch(_cells(path, *first)[0]):
        found = True
        yield _tab_row(path, *first)
    for number, line in lines:
        row = _tab_row(path, number, line)
        if row[1] if any_id else _INTEGER.fullmatch(row[1]):
            found = True
            yield row
    if not found:
        raise RunError(
            f"{path}:{first[0]}: {_short(first[1])} is taken for the header, and no line begins with an integer "
            "article id and TAB; "
            f"if the ids are not integers, call the header's first column article_id"
        )


def _tab_row(path: Path, number: int, line: str) -> tuple[int, str, list[str]]:
    article, *photos = _cells(path, number, line)
    photos = [photo.strip() for photo in photos]
    while photos and not photos[-1]:
        photos.pop()
    return number, article, photos


def _read_trec(path: Path, decimal_comma: bool) -> tuple[str, str, _Ranked]:
    """Name, how transductive, and article → photos and scores, best first."""
    tag, ranked = (None if decimal_comma else _regular_trec(path)) or _any_trec(path, decimal_comma)
    for article, (photos, scores) in ranked.items():
        if any(map(lt, scores, scores[1:])):
            order = sorted(range(len(scores)), key=lambda i: -scores[i])
            ranked[article] = [photos[i] for i in order], [scores[i] for i in order]
    name, _, transductive = tag.partition(_TAG)
    return unquote(name), unquote(transductive), ranked


def _regular_trec(path: Path) -> tuple[str, _Ranked] | None:
    """The quick way for a file without blank lines whose articles each stand together; None if anything is odd or
    wrong."""
    ranked: _Ranked = {}
    article = tag = b""
    photos: list[bytes] = []
    scores: list[float] = []

    def close() -> None:
        name, ids = article.decode(), b" ".join(photos).decode().split(" ")
        if name in ranked or len(set(ids)) < len(ids) or not math.isfinite(sum(scores)):
            raise ValueError
        ranked[name] = ids, scores

    try:
        with open_regular(path) as stream:
            for line in stream:
                this, _, photo, _, score, tag = line.split()
                if this != article:
                    if article:
                        close()
                    article, photos, scores = this, [], []
                photos.append(photo)
                scores.append(float(score))
        if article:
            close()
        return (tag.decode(), ranked) if ranked and not next(iter(ranked)).startswith("\ufeff") else None
    except (ValueError, OSError):
        return None


def _any_trec(path: Path, decimal_comma: bool) -> tuple[str, _Ranked]:
    """The thorough way: names whatever is wrong, by line."""
    hits: dict[str, dict[str, float]] = {}
    tag = ""
    for number, line in _lines(path):
        cells = [cell.decode() for cell in line.encode().split()]  # as TREC's own tools: only ASCII blanks separate
        if len(cells) != 6:
            raise RunError(
                f"{path}:{number}: {_short(line)} has {len(cells)} fields; TREC needs six: article Q0 photo rank score "
                "tag"
            )
        article, _, photo, _, number_text, tag = cells
        try:
            score = float(number_text.replace(",", ".") if decimal_comma else number_text)
        except ValueError:
            score = math.nan
        if not math.isfinite(score):
            hint = "; for decimal commas add --decimal-comma" if "," in number_text and not decimal_comma else ""
            raise RunError(f"{path}:{number}: score {number_text!r} is not a finite number{hint}")
        of_article = hits.setdefault(article, {})
        if photo in of_article:
            raise RunError(
                f"{path}:{number}: photo {photo!r} stands a second time for article {article!r}; TREC ranks it once"
            )
        of_article[photo] = score
    if not hits:
        raise RunError(f"{path}: no line of TREC's form: article Q0 photo rank score tag")
    return tag, {article: (list(scores), list(scores.values())) for article, scores in hits.items()}


def _tab_lines(run: Run) -> Iterator[str]:
    holds = lru_cache(2**16)(partial(_held, _LINE, "one line without TAB or outer blanks"))
    head = holds(f"article_id (transductive: {run.transductive})") if run.transductive else "article_id"
    width = max(map(len, run.hits.values()), default=0)
    yield "\t".join([head, *(f"rank{rank}" for rank in range(1, width + 1))]) + "\n"
    for article, hits in run.hits.items():
        yield "\t".join([holds(article), *(holds(hit.photo) for hit in hits)]) + "\n"


def _trec_lines(run: Run) -> Iterator[str]:
    holds = lru_cache(2**16)(partial(_held, _WORD, "one word without blanks; a .tsv takes more"))
    tag = quote(run.name, safe="", errors="replace") or "run"
    if run.transductive:
        tag += _TAG + quote(run.transductive, safe="(),=", errors="replace")
    for article, hits in run.hits.items():
        before = math.inf
        for rank, hit in enumerate(hits, 1):
            if not math.isfinite(hit.score) or hit.score > before:
                raise RunError(
                    f"article {article!r}, rank {rank}: score {hit.score!r} after {before!r}; TREC needs finite scores "
                    "that do not rise"
                )
            before = hit.score
            yield f"{holds(article)} Q0 {holds(hit.photo)} {rank} {float(hit.score)!r} {tag}\n"


def _held(form: re.Pattern[str], need: str, text: str) -> str:
    """`text` as it stands in the file; a RunError if reading would not give it back."""
    if not form.fullmatch(text):
        raise RunError(f"{text!r} cannot stand in this run file: it has to be {need}")
    return '"' + text.replace('"', '""') + '"' if '"' in text and form is _LINE else text


def _short(line: str) -> str:
    return repr(line if len(line) <= 60 else line[:57] + "…")
