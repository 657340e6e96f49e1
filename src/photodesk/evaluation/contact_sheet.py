"""Contact sheets: a run as one self-contained HTML file, to look at, to send and to print.

A page has no script and makes no request; its content security policy forbids both. Every photo is embedded once, as a
rule of the style sheet, however often it is shown. The same input gives the same bytes.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from html import escape
from importlib.resources import files as package_files
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

from photodesk.errors import PhotoError, UsageError
from photodesk.files import replacing
from photodesk.images import guarded, jpeg, load
from photodesk.machine import cores
from photodesk.types import Article, Hit, Photo, Run

if TYPE_CHECKING:
    from photodesk.evaluation.evaluate import Report
    from photodesk.types import Dataset

THUMBNAIL = 320  # pixels of the longer side: sharp at the widest column, some 12 kB as JPEG
LIMIT = 200  # articles on one page: at most 1,200 photos, a file of some 20 MB

OUTCOMES = {
    "first": "right photo first",
    "near": "right photo among the first {top}",
    "miss": "right photo further down or not ranked",
    "unknown": "right photo not known",
}


def contact_sheet(
    run: Run,
    dataset: Dataset,
    path: Path,
    *,
    title: str,
    report: Report | None = None,
    top: int = 5,
    limit: int | None = LIMIT,
    about: Mapping[str, str] | None = None,
) -> None:
    """Write each article of a run with its best photos, their scores, and a mark at the right one, as one HTML file.

    Articles are in the order of the run. A right photo that is not among those shown is added with its rank.

    Args:
        run: the rankings to show.
        dataset: the texts, the photo files and, if known, the right photos.
        path: the file to write; an existing file is replaced when the new one is complete.
        title: heading of the page.
        report: measures for the head of the page; they cover the whole run, however many articles are shown.
        top: photos per article.
        limit: most articles to show, sampled evenly from the whole run; None for all.
        about: further facts for the head of the page, such as `{"Encoder": "builtin"}`.

    Raises:
        UsageError: `top` or `limit` is below 1.
    """
    if limit is not None and limit < 1:
        raise UsageError(f"a contact sheet shows at least 1 article, not {limit}; leave the limit out for {LIMIT}")
    rows = _rows(run, dataset, top=top, articles=list(run))
    shown = rows if limit is None or len(rows) <= limit else [rows[i * len(rows) // limit] for i in range(limit)]
    part = f"This page shows {len(shown):,} of {len(rows):,} articles, taken evenly from the whole run."
    section = _Section("Articles", part if len(shown) < len(rows) else "", shown)
    _write(path, [section], run, dataset, report, title, top, about or {})


def error_gallery(
    run: Run,
    dataset: Dataset,
    report: Report | None,
    path: Path,
    *,
    n: int = 20,
    title: str = "Worst and best",
    top: int = 5,
) -> None:
    """Write the articles with the worst and best ranks of the right photo, as one HTML file.

    Equal ranks are ordered by the margin between the scores of the right photo and the best wrong one. An article of
    the truth that is missing from the run counts as worst.

    Args:
        run: the rankings to show.
        dataset: the texts, the photo files and the right photos.
        report: measures of this run for the head of the page, or None.
        path: the file to write.
        n: articles of each kind; no article is shown twice.
        title: heading of the page.
        top: photos per article.

    Raises:
        UsageError: the right photos are not known, or `n` or `top` is below 1.
    """
    if n < 1:
        raise UsageError(f"an error gallery shows at least 1 article of each kind, not {n}")
    known = dict.fromkeys(pair.article for pair in dataset.pairs)
    if not known:
        raise UsageError(
            "an error gallery needs the right photos, and this data set does not have them; write a contact sheet "
            "instead"
        )
    rows = sorted(_rows(run, dataset, top=top, articles=list(known)), key=lambda row: (row.rank, -row.margin))
    worst = min(n, (len(rows) + 1) // 2)
    best = min(n, len(rows) - worst)
    sections = [
        _Section(
            "Worst",
            "The right photo is furthest down; the most confident mistakes come first.",
            rows[: -worst - 1 : -1],
        ),
        _Section("Best", "The right photo is on top, the clearest cases first.", rows[:best]),
    ]
    _write(path, [s for s in sections if s.rows], run, dataset, report, title, top, {})


@dataclass(frozen=True, slots=True)
class _Row:
    """One article to show.

    Args:
        hits: its best photos.
        ranked: how many photos the run ranks for it.
        right: its right photos.
        wanted: the best-placed right photo where it is not among `hits`.
        rank: of the best-placed right photo; infinite if none is ranked.
        score: of the best-placed right photo; of the last photo if none is ranked.
        margin: that score minus the score of the best wrong photo.
        outcome: a key of `OUTCOMES`.
    """

    article: Article
    hits: tuple[Hit, ...]
    ranked: int
    right: frozenset[str]
    wanted: str | None
    rank: float
    score: float
    margin: float
    outcome: str


@dataclass(frozen=True, slots=True)
class _Section:
    heading: str
    note: str
    rows: Sequence[_Row]


def _rows(run: Run, dataset: Dataset, *, top: int, articles: Iterable[str]) -> list[_Row]:
    if top < 1:
        raise UsageError(f"a contact sheet shows at least 1 photo per article, not {top}")
    texts = {article.id: article for article in dataset.articles}
    truth: dict[str, list[str]] = {}
    for pair in dataset.pairs:
        truth.setdefault(pair.article, []).append(pair.photo)
    rows = []
    for name in articles:
        hits, right = run.hits.get(name, ()), truth.get(name, [])
        found = next(((rank, hit) for rank, hit in enumerate(hits, 1) if hit.photo in right), None)
        wrong = next((hit.score for hit in hits if hit.photo not in right), -math.inf)
        rank, score = (found[0], found[1].score) if found else (math.inf, hits[-1].score if hits else -math.inf)
        outcome = "unknown" if not right else "first" if rank == 1 else "near" if rank <= top else "miss"
        wanted = (found[1].photo if found else right[0]) if outcome == "miss" else None
        margin = score - wrong if hits else -math.inf
        article = texts.get(name, Article(name, "(This article is not in the data set.)"))
        rows.append(_Row(article, hits[:top], len(hits), frozenset(right), wanted, rank, score, margin, outcome))
    return rows


class _Html(str):
    """Markup; any other text is escaped where it is filled in."""

    __slots__ = ()


_UNPRINTABLE = dict.fromkeys((*range(9), *range(11, 32), *range(127, 160), *range(0xD800, 0xE000)), "�")


@cache
def _templates() -> dict[str, Template]:
    """The parts of contact_sheet.html by name; without their final line ends."""
    parts = re.split(r"<!-- (\w+) -->\n", _file("contact_sheet.html"))
    return {name: Template(part.removesuffix("\n")) for name, part in zip(parts[1::2], parts[2::2], strict=True)}


def _file(name: str) -> str:
    return (package_files("photodesk.evaluation") / name).read_text("utf-8").replace("\r\n", "\n")


def _fill(template: str, **values: object) -> _Html:
    """A part of the page. Characters that HTML cannot hold become U+FFFD."""
    safe = {
        key: value if isinstance(value, _Html) else escape(str(value).translate(_UNPRINTABLE))
        for key, value in values.items()
    }
    return _Html(_templates()[template].substitute(safe))


def _join(parts: Iterable[_Html]) -> _Html:
    return _Html("".join(parts))


class _Photos:
    """The photos of one page: each gets a CSS class, and a rule of the style sheet that embeds it."""

    def __init__(self, photos: Iterable[Photo], shown: Iterable[str]) -> None:
        files = {photo.id: photo for photo in photos}
        names = list(dict.fromkeys(shown))
        with ThreadPoolExecutor(max_workers=min(4, cores())) as pool:
            thumbnails = pool.map(lambda name: _thumbnail(files.get(name)), names)
            self._made = {name: (f"p{i}", *made) for i, (name, made) in enumerate(zip(names, thumbnails, strict=True))}

    def style(self) -> str:
        return "\n".join(f".{css}{{background-image:url({data})}}" for css, data, _ in self._made.values() if data)

    def figure(self, name: str, rank: float, score: float, row: _Row) -> _Html:
        css, data, reason = self._made[name]
        ranked = rank < math.inf
        return _fill(
            "figure",
            kind="right" if name in row.right else "",
            photo=_fill("photo", css=css, name=name) if data else _fill("broken", reason=reason),
            badge=_fill("badge") if name in row.right else "",
            rank=_fill("rank", rank=f"{rank:,.0f}") if ranked else "",
            # a .tsv run has −rank in place of scores
            score=_fill("score", score=f"{score:.{_decimals(row.hits)}f}") if ranked and score != -rank else "",
            name=name,
        )


def _thumbnail(photo: Photo | None) -> tuple[str, str]:
    """The photo as a JPEG data URI, or an empty text and the reason why not."""
    if photo is None:
        return "", "No file of this photo in the data set."
    try:
        with guarded(str(photo.path)):
            small = jpeg(load(photo.path, size=THUMBNAIL), size=THUMBNAIL, quality=75, optimize=True)
    except PhotoError as error:
        return "", f"Cannot be shown: {error}".replace(str(photo.path), photo.path.name)  # a page is sent to others
    return "data:image/jpeg;base64," + base64.b64encode(small).decode(), ""


def _write(
    path: Path,
    sections: Sequence[_Section],
    run: Run,
    dataset: Dataset,
    report: Report | None,
    title: str,
    top: int,
    about: Mapping[str, str],
) -> None:
    rows = [row for section in sections for row in section.rows]
    photos = _Photos(
        dataset.photos,
        (name for row in rows for name in (*(hit.photo for hit in row.hits), row.wanted) if name is not None),
    )
    facts = {
        "Run": run.name,
        "Articles": f"{len(run):,}",
        "Photos": f"{len(dataset.photos):,}",
        "Data": dataset.edition,
        **about,
    }
    styles = [f":root {{ --columns: {min(top, 5)}; }}\n{_file('contact_sheet.css')}", photos.style()]
    hashes = (base64.b64encode(hashlib.sha256(style.encode()).digest()).decode() for style in styles)
    with replacing(path) as page:
        page.write(
            _fill(
                "page",
                policy=_Html(" ".join(f"'sha256-{one}'" for one in hashes)),
                title=title,
                styles=_join(_fill("style", style=_Html(style)) for style in styles),
                facts=_join(_fill("fact", name=name, value=value) for name, value in facts.items() if value),
                transductive=_fill("transductive", method=run.transductive) if run.transductive else "",
                measures=_measures(report) if report else "",
            )
        )
        numbers = itertools.count(1)
        for section in sections:
            note = _fill("note", note=section.note) if section.note else ""
            outcomes = _outcomes(rows, top) if len(sections) == 1 else ""
            page.write(_fill("section", heading=section.heading, note=note, outcomes=outcomes))
            page.writelines(_article(row, next(numbers), photos) for row in section.rows)
        page.write(_fill("end"))


def _measures(report: Report) -> _Html:
    """Each measure of the whole run with its interval, as a number and as a line from 0 to 1."""
    return _fill(
        "measures",
        tiles=_join(
            _fill(
                "tile",
                name=name,
                mean=f"{mean:.3f}",
                low=f"{low:.3f}",
                high=f"{high:.3f}",
                start=f"{100 * low:.2f}",
                width=f"{100 * (high - low):.2f}",
                point=f"{min(max(100 * mean - 0.75, 0), 98.5):.2f}",
            )
            for name, mean, low, high in report
        ),
        articles=f"{len(report.articles):,}",
        notes=_join(_fill("note", note=f"{note[:1].upper()}{note[1:]}.") for note in report.notes),
    )


def _outcomes(rows: Sequence[_Row], top: int) -> _Html | str:
    """How many articles of the page have each outcome, as a bar and as a filter that works without a script."""
    counts = Counter(row.outcome for row in rows)
    if counts["unknown"] == len(rows):
        return ""
    shares, choices, start = [], [], 0.0
    for name, label in OUTCOMES.items():
        if count := counts[name]:
            width = 100 * count / len(rows)
            shares.append(_fill("share", name=name, start=f"{start:.2f}", width=f"{width:.2f}"))
            choices.append(_fill("choice", name=name, label=label.format(top=top), count=f"{count:,}"))
            start += width
    return _fill("outcomes", bar=_join(shares), all=f"{len(rows):,}", choices=_join(choices))


def _article(row: _Row, number: int, photos: _Photos) -> _Html:
    article = row.article
    strip = _join(
        _fill("place", figure=photos.figure(hit.photo, rank, hit.score, row)) for rank, hit in enumerate(row.hits, 1)
    )
    return _fill(
        "article",
        outcome=row.outcome,
        number=number,
        language=_fill("language", language=article.language) if article.language else "",
        title=article.title.strip() or "(no headline)",
        facts=" · ".join(filter(None, (article.id, article.date, article.subset))),
        verdict=_verdict(row),
        wanted=_fill("wanted", figure=photos.figure(row.wanted, row.rank, row.score, row))
        if row.wanted is not None
        else "",
        strip=_fill("strip", places=strip) if strip else _fill("empty"),
    )


def _decimals(hits: Sequence[Hit]) -> int:
    """As many as give the largest score of an article three digits; all its scores have the same number."""
    largest = max(abs(hit.score) for hit in hits)
    return min(max(2 - math.floor(math.log10(largest)), 0), 12) if 0 < largest < math.inf else 3


def _verdict(row: _Row) -> str:
    if row.outcome == "unknown":
        return "Right photo not known"
    if row.rank == math.inf:
        return f"✗ Right photo not among the {row.ranked:,} ranked" if row.ranked else "✗ Not in the run"
    if row.outcome == "first":
        return "✓ Right photo first"
    return f"{'✓' if row.outcome != 'miss' else '✗'} Right photo at rank {row.rank:,.0f}"
