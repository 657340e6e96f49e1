"""Which revision, with which temperature? Tries them on a validation part, each with the batch and with a bank of the
other articles.

The validation part imitates an official test: its articles against the pictures of its pairs. It is made of whole
groups that share no title, URL or near-duplicate picture with the rest, so that the bank, which is all other articles,
holds nothing of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from html import escape
from math import floor, log10

import numpy as np

from photodesk.data.groups import held_out
from photodesk.errors import DataError
from photodesk.evaluation import significance
from photodesk.evaluation.evaluate import Report, evaluate
from photodesk.evaluation.metrics import Measure, parse_all
from photodesk.evaluation.tables import Table
from photodesk.ranking import dual_softmax as revise
from photodesk.ranking.revisions import (
    Revision,
    cosine,
    dual_softmax,
    dynamic_inverted_softmax,
    inverted_softmax,
    nnn,
    sinkhorn,
)
from photodesk.types import Embeddings, Pair, Progress, silent

GRID: tuple[Revision, ...] = (
    *(dual_softmax(t) for t in (0.01, 0.02, 0.05, 0.1, 0.3, 1)),
    *(inverted_softmax(beta) for beta in (1, 5, 20, 50, 100)),
    *(dynamic_inverted_softmax(beta) for beta in (5, 20, 50, 100)),
    *(nnn(k, alpha) for k in (16, 128) for alpha in (0.25, 0.5, 0.75, 1)),
    *(sinkhorn(t) for t in (0.02, 0.05, 0.2)),
)
MEASURES = parse_all(["R@1", "R@10", "R@100", "MRR@100"])


@dataclass(frozen=True, slots=True)
class Trial:
    """One revision on the validation part.

    Args:
        revision: the method.
        form: "batch" (transductive), "bank", or "" for cosine, which needs neither.
        report: its measures.
        hubness: skewness of how often a photo stands among the first ten; see `compare.hubness`.
    """

    revision: Revision
    form: str
    report: Report
    hubness: float


def validation_part(pairs: Sequence[Pair], groups: Mapping[str, int], count: int, *, seed: int = 0) -> frozenset[str]:
    """Articles of whole groups in random order, until their pairs are at least `count`, or half of all.

    Args:
        pairs: the truth.
        groups: article id → group; equal numbers are never parted.
        count: how many pairs are wanted.

    Raises:
        DataError: there are not two pairs, one for the part and one for the bank.
    """
    if len(pairs) < 2:
        raise DataError(
            "tuning needs articles whose right photo is known, some to measure on and some for the bank; the data has "
            f"{len(pairs)}"
        )
    count = min(count, len(pairs) // 2)
    apart = held_out(np.array([groups[pair.article] for pair in pairs]), count, seed=seed)
    return frozenset(pair.article for pair, kept in zip(pairs, apart, strict=True) if kept)


def tune(
    articles: Embeddings,
    photos: Embeddings,
    pairs: Sequence[Pair],
    validation: Set[str],
    revisions: Sequence[Revision] = GRID,
    *,
    measures: Sequence[Measure] = MEASURES,
    name: str = "cosine",
    progress: Progress = silent,
) -> tuple[Trial, ...]:
    """Cosine, then every revision with the validation articles as batch and with all others as bank.

    Args:
        articles: of validation and bank.
        photos: those of the validation pairs are the gallery.
        pairs: the truth.
        validation: ids of the articles to measure on.
        revisions: what to try; sinkhorn has no form with a bank.
        measures: what the reports hold.
        name: of the encoder.
        progress: called with ("revisions", trials done, trials).

    Raises:
        DataError: no validation article, or no other, has text and a picture that can be opened.
    """
    there = set(photos.ids)
    truth = [pair for pair in pairs if pair.article in validation and pair.photo in there]
    wanted = {pair.article for pair in truth}
    test = articles.take([name for name in articles.ids if name in wanted])
    bank = articles.take([name for name in articles.ids if name not in validation])
    if not len(test) or not len(bank):
        raise DataError(
            f"nothing to tune on: {len(test)} articles for validation and {len(bank)} for the bank have text and "
            "picture"
        )
    truth = [pair for pair in truth if pair.article in set(test.ids)]
    gallery = photos.take(sorted({pair.photo for pair in truth}))
    plan = [(cosine(), "")] + [
        (r, form) for r in revisions for form in ("batch", "bank") if form == "batch" or r.method != "sinkhorn"
    ]
    plan = [step for i, step in enumerate(plan) if i == 0 or step[0] != cosine()]
    trials = []
    for done, (revision, form) in enumerate(plan, 1):
        run = revise.top_k(test, gallery, revision, 100, bank=bank if form == "bank" else None, name=name)
        trials.append(Trial(revision, form, evaluate(run, truth, measures), significance.hubness(run, gallery.ids)))
        progress("revisions", done, len(plan))
    return tuple(trials)


def chosen(trials: Sequence[Trial], form: str, measure: Measure | str = "MRR@100") -> Trial:
    """The best trial of that form by the measure, or cosine if nothing is better; the first of equal ones."""
    return max((trial for trial in trials if trial.form in ("", form)), key=lambda trial: trial.report.mean(measure))


def table(trials: Sequence[Trial], measure: Measure | str = "MRR@100", *, seed: int = 0) -> Table:
    """All trials, best first by the measure: means with 95 % intervals, and hubness."""
    order = sorted(trials, key=lambda trial: -trial.report.mean(measure))
    return significance.runs_table(
        [t.report for t in order], [t.hubness for t in order], order[0].report.measures, seed=seed
    )


COLOURS = {  # of Okabe and Ito, who chose them so that everyone can tell them apart
    "cosine": "#000000",
    "dual_softmax": "#0072B2",
    "dynamic_inverted_softmax": "#009E73",
    "inverted_softmax": "#E69F00",
    "nnn": "#D55E00",
    "sinkhorn": "#CC79A7",
}


def plot(trials: Sequence[Trial], measure: Measure | str = "MRR@100") -> str:
    """An SVG of hubness against the measure: a line per method through its options, filled with the batch, hollow with
    the bank."""
    points = [(trial, trial.hubness, trial.report.mean(measure)) for trial in trials]
    x0, x1, x_ticks = axis([x for _, x, _ in points])
    y0, y1, y_ticks = axis([y for _, _, y in points])
    left, top, width, height = 70, 50, 560, 380

    def at(x: float, y: float) -> tuple[float, float]:
        return left + (x - x0) / (x1 - x0) * width, top + height - (y - y0) / (y1 - y0) * height

    out = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 900 500" width="900" height="500" '
        'font-family="sans-serif" font-size="13">',
        f"<title>Effect of revision on hubness and {measure}</title>",
        '<rect width="900" height="500" fill="#ffffff"/>',
        f'<text x="{left}" y="28" font-size="16">Revision: {escape(str(measure))} against '
        f"hubness@{significance.HUB_DEPTH}</text>",
    ]
    for value in x_ticks:
        x, y = at(value, y0)
        out.append(
            f'<path d="M{x:.1f} {top}V{y:.1f}" stroke="#dddddd"/><text x="{x:.1f}" y="{y + 20:.1f}" '
            f'text-anchor="middle">{value:g}</text>'
        )
    for value in y_ticks:
        x, y = at(x0, value)
        out.append(
            f'<path d="M{x:.1f} {y:.1f}h{width}" stroke="#dddddd"/><text x="{x - 8:.1f}" y="{y + 4:.1f}" '
            f'text-anchor="end">{value:g}</text>'
        )
    out.append(
        f'<text x="{left + width / 2}" y="{top + height + 45}" text-anchor="middle">hubness (0 is even, large: few '
        "photos crowd out the rest)</text>"
    )
    for method, colour in COLOURS.items():
        for form in ("", "batch", "bank"):
            mine = [
                (trial, *at(x, y)) for trial, x, y in points if (trial.revision.method, trial.form) == (method, form)
            ]
            if len(mine) > 1:
                line = " ".join(f"{x:.1f},{y:.1f}" for _, x, y in mine)
                dash = "" if form == "batch" else ' stroke-dasharray="4 3"'
                out.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-opacity="0.5"{dash}/>')
            for trial, x, y in mine:
                label = escape(
                    f"{trial.report.title}: {measure} {trial.report.mean(measure):.4f}, hubness {trial.hubness:.2f}"
                )
                fill = "#ffffff" if form == "bank" else colour
                out.append(
                    f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{fill}" stroke="{colour}" '
                    f'stroke-width="2"><title>{label}</title></circle>'
                )
    shown = [method for method in COLOURS if any(trial.revision.method == method for trial in trials)]
    for i, method in enumerate(shown):
        y = top + 12 + 24 * i
        out.append(
            f'<circle cx="660" cy="{y}" r="5" fill="{COLOURS[method]}"/><text x="674" y="{y + 4}">{method}</text>'
        )
    for i, text in enumerate(
        ("● batch: transductive", "○ bank: other articles", "Lines follow the options", "in the order of the trials.")
    ):
        out.append(f'<text x="654" y="{top + 30 + 24 * len(shown) + 20 * i}">{text}</text>')
    return "\n".join([*out, "</svg>\n"])


def axis(values: Sequence[float]) -> tuple[float, float, list[float]]:
    """Ends of an axis that holds the values with some room, and its round ticks."""
    low, high = min(values), max(values)
    room = max((high - low) * 0.06, abs(high) * 0.01, 0.001)
    low, high = low - room, high + room
    unit = 10.0 ** floor(log10((high - low) / 4))
    step = unit * max(factor for factor in (1, 2, 5) if factor * unit <= (high - low) / 4)
    first = int(np.ceil(low / step))
    return low, high, [round(i * step, 10) for i in range(first, floor(high / step) + 1)]
