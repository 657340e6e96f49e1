"""Contact sheets: a run as one HTML file with its pictures inside, to look at, to send and to print.

A page asks nothing of anyone: no script, no request, and a content security policy that would refuse both. Every photo
is embedded once, as a rule of its style sheet, however often it is shown. The same input gives the same bytes.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from html import escape
from importlib.resources import files as package_files
from pathlib import Path
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

    Articles stand in the order of the run. Where the right photo is not among those shown, it stands beside them with
    its rank.

    Args:
        run: the rankings to show.
        dataset: the texts, the photo files and, if known, the right photos.
        path: the file to write; a file that is there is replaced when the new one is complete.
        title: heading of the page.
        report: measures of this run for the head of the page; they cover the whole run, however many articles are
            shown.
        top: photos per article.
        limit: most articles to show, taken evenly from the whole run; None for all. A page says what it leaves out.
        about: further facts for the head of the page, such as `{"Encoder": "builtin"}`.

    Raises:
        UsageError: `top` or `limit` is below 1.
    """
    if limit is not None and limit < 1:
        raise UsageError(f"a contact sheet shows at least 1 article, not {limit}; leave the limit out for {LIMIT}")
    rows = _rows(run, dataset, top=top, articles=list(run))
    shown = rows if limit is None or len(rows) <= limit else [rows[i * len(rows) // limit] for i in range(limit)]
    part = f"This page shows {len(shown):,} of {len(rows):,} articles, taken evenly from the whole run."
    _write(
        path,
        [_Section("Articles", part if len(shown) < len(rows) else "", shown)],
        run,
        dataset,
        report,
        title,
        top,
        about or {},
    )


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
    """Write the articles that a run serves worst and best, each with its right photo and rank beside its best photos.

    Ordered by the rank of the right photo; among equal ranks by how far its score is ahead of the best wrong photo, or
    behind it. An article of the truth that is missing from the run counts as worst.

    Args:
        run: the rankings to show.
        dataset: the texts, the photo files and the right photos.
        report: measures of this run for the head of the page, or None.
        path: the file to write.
        n: articles of each kind; no article is shown as both.
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
            "an error gallery needs the right photos, and this data set does not say them; write a contact sheet "
            "instead"
        )
    rows = sorted(_rows(run, dataset, top=top, articles=list(known)), key=lambda row: (row.rank, -row.lead))
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

    `ranked` counts all its photos in the run; `rank` and `score` are those of the best-placed of its `right` photos,
    infinite and that of the last photo if none is ranked; `wanted` is that photo where it is not among `hits`; `lead`
    is how far it is ahead of the best wrong photo.
    """

    article: Article
    hits: tuple[Hit, ...]
    ranked: int
    right: frozenset[str]
    wanted: str | None
    rank: float
    score: float
    lead: float
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
        lead = score - wrong if hits else -math.inf
        article = texts.get(name, Article(name, "(This article is not in the data set.)"))
        rows.append(_Row(article, hits[:top], len(hits), frozenset(right), wanted, rank, score, lead, outcome))
    return rows


class _Album:
    """The photos of one page: gives each a class when it is first shown, and makes the style sheet that embeds them."""

    def __init__(self, photos: Iterable[Photo], shown: Iterable[str]) -> None:
        files = {photo.id: photo for photo in photos}
        names = list(dict.fromkeys(shown))
        with ThreadPoolExecutor(max_workers=min(4, cores())) as pool:
            thumbnails = pool.map(lambda name: _thumbnail(files.get(name)), names)
            self._made = {name: (f"p{i}", *made) for i, (name, made) in enumerate(zip(names, thumbnails, strict=True))}

    def style(self) -> str:
        return "\n".join(f".{css}{{background-image:url({data})}}" for css, data, _ in self._made.values() if data)

    def photo(self, name: str) -> str:
        css, data, reason = self._made[name]
        if data:
            return f'<span class="photo {css}" role="img" aria-label="Photo {_e(name)}"></span>'
        return f'<span class="photo broken">{_e(reason)}</span>'


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
    album = _Album(
        dataset.photos,
        (name for row in rows for name in (*(hit.photo for hit in row.hits), row.wanted) if name is not None),
    )
    look = (package_files("photodesk.evaluation") / "contact_sheet.css").read_text("utf-8").replace("\r\n", "\n")
    facts = {
        "Run": run.name,
        "Articles": f"{len(run):,}",
        "Photos": f"{len(dataset.photos):,}",
        "Data": dataset.edition,
        **about,
    }
    with replacing(path) as page:
        page.write(_head(title, [f":root {{ --columns: {min(top, 5)}; }}\n{look}", album.style()]))
        page.write(
            '</head>\n<body>\n<a class="skip" href="#articles">Skip to the '
            f"articles</a>\n<header>\n<h1>{_e(title)}</h1>\n"
        )
        terms = (f"<div><dt>{_e(key)}</dt><dd>{_e(value)}</dd></div>" for key, value in facts.items() if value)
        page.write(f'<dl class="facts">{"".join(terms)}</dl>\n')
        if run.transductive:
            page.write(
                f'<p class="note"><strong>Transductive run:</strong> {_e(run.transductive)} used the other articles of '
                "this run to rank "
                "each one. Compare it only with runs that did so too.</p>\n"
            )
        page.write(_measures(report))
        page.write('</header>\n<main id="articles" tabindex="-1">\n')
        numbers = itertools.count(1)
        for section in sections:
            page.write(
                f"<h2>{section.heading}</h2>\n" + (f'<p class="faint">{section.note}</p>\n' if section.note else "")
            )
            page.write(_outcomes(rows, top) if len(sections) == 1 else "")
            page.writelines(_article(row, next(numbers), album) for row in section.rows)
        page.write(
            "</main>\n<footer>Made by photodesk. A higher score is better. The pictures belong to their "
            "owners.</footer>\n</body>\n</html>\n"
        )


def _head(title: str, styles: Sequence[str]) -> str:
    """Title, style sheets, and a policy that allows nothing but them."""
    policy = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()}'" for style in styles
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; style-src {policy}; img-src data:; '
        "base-uri 'none'; form-action 'none'\">\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n<meta name="referrer" content="no-referrer">\n'
        f'<link rel="icon" href="data:,">\n<title>{_e(title)}</title>\n'
    ) + "".join(f"<style>{style}</style>\n" for style in styles)


def _measures(report: Report | None) -> str:
    """Each measure of the whole run with its interval, as a number and as a line from 0 to 1."""
    if report is None:
        return ""
    tiles = "".join(
        _tile(str(measure), report.means[str(measure)], *report.interval(measure)) for measure in report.measures
    )
    notes = "".join(f'<p class="faint">{_e(note[:1].upper() + note[1:])}.</p>\n' for note in report.notes)
    return (
        f'<dl class="measures">{tiles}</dl>\n<p class="faint">Means over {len(report.articles):,} articles whose right '
        "photo is known, with "
        f"95 % bootstrap intervals.</p>\n{notes}"
    )


def _tile(name: str, mean: float, low: float, high: float) -> str:
    return (
        f'<div><dt>{_e(name)}</dt><dd class="value">{mean:.3f}</dd><dd class="range">{low:.3f} – {high:.3f}'
        '<svg class="interval" viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true"><rect class="scale" '
        'width="100" height="8"/>'
        f'<rect class="span" x="{100 * low:.2f}" width="{100 * (high - low):.2f}" height="8"/>'
        f'<rect class="point" x="{min(max(100 * mean - 0.75, 0), 98.5):.2f}" width="1.5" height="8"/></svg></dd></div>'
    )


def _outcomes(rows: Sequence[_Row], top: int) -> str:
    """What became of the right photos on this page, as a bar and as a filter that works without a script."""
    counts = {name: sum(row.outcome == name for row in rows) for name in OUTCOMES}
    if counts["unknown"] == len(rows):
        return ""
    bar, choices, left = "", "", 0.0
    for name, count in counts.items():
        if count:
            width, label = 100 * count / len(rows), OUTCOMES[name].format(top=top)
            bar += f'<rect class="{name}" x="{left:.2f}" width="{width:.2f}" height="4"/>'
            choices += (
                f'<label><input type="radio" name="show" id="show-{name}"><i class="key '
                f'{name}"></i><span>{label}: {count:,}</span></label>\n'
            )
            left += width
    return (
        '<svg class="share" viewBox="0 0 100 4" preserveAspectRatio="none" '
        f'aria-hidden="true">{bar}</svg>\n<fieldset><legend>Show</legend>\n'
        '<label><input type="radio" name="show" id="show-all" checked><span>all: '
        f"{len(rows):,}</span></label>\n{choices}</fieldset>\n"
    )


def _article(row: _Row, number: int, album: _Album) -> str:
    article = row.article
    language = f' lang="{_e(article.language)}"' if article.language else ""
    facts = " · ".join(_e(fact) for fact in (article.id, article.date, article.subset) if fact)
    strip = "".join(
        f"<li>{_figure(album, hit.photo, rank, hit.score, row)}</li>\n" for rank, hit in enumerate(row.hits, 1)
    )
    return (
        f'<article class="{row.outcome}" id="a{number}" aria-labelledby="h{number}">\n<div class="words">\n'
        f'<h3 id="h{number}"{language} dir="auto">{_e(article.title.strip()) or "(no headline)"}</h3>\n'
        f'<p class="where faint"><a href="#a{number}">#{number}</a> · {facts}</p>\n<p '
        f'class="verdict">{_verdict(row)}</p>\n'
        + (
            f'<div class="wanted">{_figure(album, row.wanted, row.rank, row.score, row)}</div>\n'
            if row.wanted is not None
            else ""
        )
        + "</div>\n"
        + (
            f'<ol class="strip" role="list">\n{strip}</ol>\n'
            if strip
            else '<p class="note">The run ranks no photo for this article.</p>\n'
        )
        + "</article>\n"
    )


def _figure(album: _Album, photo: str, rank: float, score: float, row: _Row) -> str:
    right = photo in row.right
    place = f"<b>{rank:,.0f}</b>" if rank < math.inf else ""
    if rank < math.inf and score != -rank:  # a .tsv run has −rank in place of scores
        place += f"<span>{score:.{_decimals(row.hits)}f}</span>"
    return (
        f'<figure{" class=right" if right else ""}><div class="frame">{album.photo(photo)}'
        f"{'<span class=badge>✓ right</span>' if right else ''}</div>"
        f"<figcaption>{place}<bdi>{_e(photo)}</bdi></figcaption></figure>"
    )


def _decimals(hits: Sequence[Hit]) -> int:
    """So many that the largest score of an article shows three digits: all its scores are then of one form."""
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


_UNPRINTABLE = dict.fromkeys((*range(9), *range(11, 32), *range(127, 160), *range(0xD800, 0xE000)), "�")


def _e(text: str) -> str:
    """Text from a stranger, safe between tags and in quoted attributes; what no page may hold becomes U+FFFD."""
    return escape(text.translate(_UNPRINTABLE), quote=True)
