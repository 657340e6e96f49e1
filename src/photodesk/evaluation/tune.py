"""Grid search for a revision and its options on a validation part, with the batch and with a query bank.

The validation part imitates an official test: its articles against the pictures of its pairs. It consists of whole
groups that share no title, URL or near-duplicate picture with the rest; all other articles are the query bank.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

import numpy as np

from photodesk.data.groups import held_out
from photodesk.errors import DataError
from photodesk.evaluation import plots, significance
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
        hubness: see `significance.hubness`.
    """

    revision: Revision
    form: str
    report: Report
    hubness: float


def validation_part(pairs: Sequence[Pair], groups: Mapping[str, int], count: int, *, seed: int = 0) -> frozenset[str]:
    """Articles of whole groups in random order, until they have `count` pairs or half of all.

    Args:
        pairs: the truth.
        groups: article id → group; a group is never split.
        count: number of pairs.

    Raises:
        DataError: fewer than two pairs.
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
    """Cosine, then every revision with the validation articles as batch and with all others as query bank.

    Args:
        articles: of validation and bank.
        photos: those of the validation pairs are the gallery.
        pairs: the truth.
        validation: ids of the articles to measure on.
        revisions: what to try; sinkhorn has no form with a bank.
        name: of the encoder.
        progress: called with ("revisions", trials done, trials).

    Raises:
        DataError: no validation article, or no other, has text and a picture that can be opened.
    """
    queries, shown = validation & set(articles.ids), set(photos.ids)
    truth = [pair for pair in pairs if pair.article in queries and pair.photo in shown]
    measured = {pair.article for pair in truth}
    test = articles.take([article for article in articles.ids if article in measured])
    bank = articles.take([article for article in articles.ids if article not in validation])
    if not len(test) or not len(bank):
        raise DataError(
            f"nothing to tune on: {len(test)} articles for validation and {len(bank)} for the bank have text and "
            "picture"
        )
    gallery = photos.take(sorted({pair.photo for pair in truth}))
    plan = [(cosine(), "")] + [
        (revision, form)
        for revision in revisions
        if revision != cosine()
        for form in ("batch", "bank")
        if form == "batch" or revision.method != "sinkhorn"
    ]
    trials = []
    for done, (revision, form) in enumerate(plan, 1):
        run = revise.top_k(test, gallery, revision, 100, bank=bank if form == "bank" else None, name=name)
        trials.append(Trial(revision, form, evaluate(run, truth, measures), significance.hubness(run, gallery.ids)))
        progress("revisions", done, len(plan))
    return tuple(trials)


def chosen(trials: Sequence[Trial], form: str, measure: Measure | str = "MRR@100") -> Trial:
    """The best trial of that form by the measure, or cosine if none is better; the first of equal ones."""
    return max((trial for trial in trials if trial.form in ("", form)), key=lambda trial: trial.report.mean(measure))


def table(trials: Sequence[Trial], measure: Measure | str = "MRR@100", *, seed: int = 0) -> Table:
    """All trials, best first by the measure: means with 95 % intervals, and hubness."""
    trials = sorted(trials, key=lambda trial: -trial.report.mean(measure))
    reports, hubs = [t.report for t in trials], [t.hubness for t in trials]
    return significance.runs_table(reports, hubs, reports[0].measures, seed=seed)


COLOURS = dict(zip(sorted({revision.method for revision in GRID}), plots.COLOURS, strict=False)) | {"cosine": plots.INK}


def plot(trials: Sequence[Trial], measure: Measure | str = "MRR@100") -> str:
    """SVG of hubness against the measure: a line per method through its options, filled for the batch, hollow for the
    bank."""
    panel = plots.Panel(
        plots.Axis.of((t.hubness for t in trials), "hubness: 0 is even, large: few photos crowd out the rest"),
        plots.Axis.of((t.report.mean(measure) for t in trials), str(measure)),
        f"Revision: {measure} against hubness@{significance.HUB_DEPTH}",
        "lines follow the options in the order of the trials",
        size=(560, 380),
    )
    for method, colour in COLOURS.items():
        for form in ("", "batch", "bank"):
            mine = [trial for trial in trials if (trial.revision.method, trial.form) == (method, form)]
            if len(mine) > 1:
                panel.line([(t.hubness, t.report.mean(measure)) for t in mine], colour, dashed=form != "batch")
            for trial in mine:
                mean = trial.report.mean(measure)
                tip = f"{trial.report.title}: {measure} {mean:.4f}, hubness {trial.hubness:.2f}"
                panel.point(trial.hubness, mean, colour, hollow=form == "bank", radius=5, tip=tip)
        if any(trial.revision.method == method for trial in trials):
            panel.legend(method, colour)
    panel.legend("batch: transductive", plots.GREY)
    panel.legend("bank: other articles", plots.GREY, hollow=True)
    return plots.svg(f"Effect of revision on hubness and {measure}", panel)
