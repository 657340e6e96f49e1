"""Ablation of a recipe: leaves out one component at a time and compares article by article.

A contribution is the mean of full − without over the same articles, with a paired bootstrap interval and the p of a
paired randomisation test after Holm's correction over all components.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np

from photodesk.errors import UsageError
from photodesk.evaluation import bootstrap, plots, significance
from photodesk.evaluation.evaluate import digits
from photodesk.evaluation.metrics import Measure
from photodesk.evaluation.tables import Table
from photodesk.recipes.run import Outcome, Runner
from photodesk.recipes.schema import Encoders, Recipe, Texts

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Contribution:
    """What one component contributes to one measure.

    Args:
        component: its name.
        without: mean of the run without it.
        gain: mean of full − without; above 0 the component helps.
        low: lower end of the paired 95 % bootstrap interval of `gain`.
        high: upper end.
        p: of the paired randomisation test, after Holm's correction over all components.
        transductive: how the run without it saw other test queries; empty if it did not.
    """

    component: str
    without: float
    gain: float
    low: float
    high: float
    p: float
    transductive: str = ""


def variants(recipe: Recipe, *, joint: Sequence[str] = (), trains: bool = True) -> Mapping[str, Recipe]:
    """Component → the recipe without it, in the order of the chain; only components that the recipe has.

    Without "fusion" the first encoder reads the longest texts alone. Without "T×V network" the encoder's own space is
    used. The towers of `joint` have none: for them "T×V landmarks" is replaced by a linear network in closed form.

    Args:
        recipe: the full one.
        joint: encoders whose towers share no space without a network.
        trains: whether networks are trained in this run; a given network has no closed form.
    """
    texts, models = recipe.texts, recipe.encoders
    found: dict[str, Recipe] = {}

    def with_texts(**changes: Any) -> Recipe:
        return _plain(recipe, replace(texts, **changes), models)

    if texts.translate:
        found["translation"] = with_texts(translate="", detect=(), keep_names=False)
    if texts.clean:
        found["cleaning"] = with_texts(clean="")
    for name in texts.fields[1:]:
        found[f"field {name}"] = with_texts(fields=tuple(one for one in texts.fields if one != name))
    if texts.words:
        found["word limit"] = with_texts(words=(), weights=())
    if len(texts.words) > 1:
        for i, limit in enumerate(texts.words):
            found[f"{limit} words"] = with_texts(words=_but(texts.words, i), weights=_left(texts.weights, i))
    if len(models.names) > 1:
        for i, name in enumerate(models.names):
            found[f"encoder {name}"] = _plain(
                recipe, texts, replace(models, names=_but(models.names, i), weights=_left(models.weights, i))
            )
        if models.normalise != "none":
            found[f"{models.normalise} normalisation"] = replace(recipe, encoders=replace(models, normalise="none"))
    if models.learn:
        found["learned weights"] = replace(recipe, encoders=replace(models, learn=False))
    if recipe.network and not set(models.names) & set(joint):
        found["T×V network"] = replace(recipe, network=None)
    elif recipe.network and recipe.network.preset != "straight" and trains:
        found["T×V landmarks"] = replace(recipe, network=replace(recipe.network, preset="straight"))
    if recipe.revision:
        found["revision"] = replace(recipe, revision=None)
    if len(models.names) * max(1, len(texts.words)) > 1:
        alone = replace(texts, words=(max(texts.words),) if texts.words else (), weights=())
        found["fusion"] = _plain(recipe, alone, Encoders(models.names[:1]))
    return found


def _but(items: Sequence[T], i: int) -> tuple[T, ...]:
    return tuple(item for j, item in enumerate(items) if j != i)


def _left(weights: tuple[float, ...], i: int) -> tuple[float, ...]:
    """Weights without the i-th; none if only one is left."""
    return _but(weights, i) if len(weights) > 2 else ()


def _plain(recipe: Recipe, texts: Texts, models: Encoders) -> Recipe:
    """The recipe with these texts and models, without fusion options where nothing is fused."""
    if len(models.names) * max(1, len(texts.words)) == 1:
        models = replace(models, normalise="none", learn=False)
    return replace(recipe, texts=texts, encoders=models)


def ablate(
    recipe: Recipe, runner: Runner, *, name: str = "", progress: Callable[[str], None] = lambda component: None
) -> tuple[Outcome, dict[str, Outcome]]:
    """Run a recipe, and without each of its components.

    Args:
        recipe: the full one.
        runner: makes features and networks once.
        name: of the full run; the recipe's if empty.
        progress: called with the component that is left out next, "" for the full run.

    Raises:
        UsageError: the recipe has no component that could be left out.
    """
    plans = variants(recipe, joint=runner.spaceless(recipe), trains=runner.network is None)
    if not plans:
        raise UsageError(
            f"{recipe.name} has no component that could be left out: one encoder reads whole titles, and nothing is "
            "revised"
        )
    progress("")
    full = runner.run(recipe, name or recipe.name)
    without = {}
    for component, plan in plans.items():
        progress(component)
        without[component] = runner.run(plan, f"{name or recipe.name} without {component}")
    return full, without


def contributions(
    full: Outcome, without: Mapping[str, Outcome], measure: Measure | str, *, seed: int = 0
) -> tuple[Contribution, ...]:
    """The contribution of each component to `measure`, in the order of `without`."""
    ours = full.report.values(measure)
    gains = {component: ours - outcome.report.values(measure) for component, outcome in without.items()}
    random = np.random.default_rng(seed)
    corrected = significance.holm([significance.randomisation(gain, rng=random) for gain in gains.values()])
    made = []
    for (component, gain), p in zip(gains.items(), corrected, strict=True):
        outcome, (values, counts) = without[component], np.unique(gain, return_counts=True)
        low, high = bootstrap.interval(bootstrap.sums(values, counts, seed=seed) / len(gain))
        mean = outcome.report.mean(measure)
        made.append(Contribution(component, mean, float(gain.mean()), low, high, p, outcome.run.transductive))
    return tuple(made)


def table(full: Outcome, found: Sequence[Contribution], measure: Measure | str) -> Table:
    """A row per component, the largest contribution first."""
    rows = [("nothing", digits(full.report.mean(measure)), "", "", "", "", full.run.transductive)]
    for one in sorted(found, key=lambda one: -one.gain):
        gain, low, high = (f"{'' if x < 0 else '+'}{digits(x)}" for x in (one.gain, one.low, one.high))
        rows.append((one.component, digits(one.without), gain, low, high, digits(one.p, 4), one.transductive))
    head = ("left out", str(measure), "contributes", "95 % from", "to", "p (Holm)", "transductive")
    title = f"{full.run.name}: what each component contributes, over the same {len(full.report.articles):,} articles"
    return Table(title, head, tuple(rows))


def plot(full: Outcome, found: Sequence[Contribution], measure: Measure | str) -> str:
    """SVG of the contributions with their intervals, a row per component; left of 0 a component harms."""
    rows = sorted(found, key=lambda one: one.gain)
    panel = plots.Panel(
        plots.Axis.of([0.0, *(x for one in rows for x in (one.low, one.high, one.gain))], form="+g"),
        plots.Axis.named([one.component for one in rows]),
        f"{full.run.name}: {measure} {full.report.mean(measure):.4f}",
        "what each component contributes (full − without), with paired 95 % intervals over "
        f"{len(full.report.articles):,} articles",
        size=(520, 34 * len(rows)),
    )
    panel.line([(0, panel.y.low), (0, panel.y.high)], plots.INK, width=1)
    for y, one in enumerate(rows):
        colour = plots.GREY if one.low <= 0 <= one.high else plots.COLOURS[one.gain < 0]
        tip = f"{one.component}: {one.gain:+.4f} [{one.low:+.4f}; {one.high:+.4f}], p {one.p:.4f}"
        panel.line([(one.low, y), (one.high, y)], colour, width=3)
        panel.point(one.gain, y, colour, radius=6, tip=tip)
        panel.row_label(y, f"{one.gain:+.4f}")
    for label, colour in (("helps", plots.COLOURS[0]), ("harms", plots.COLOURS[1]), ("interval holds 0", plots.GREY)):
        panel.legend(label, colour)
    return plots.svg(f"What each component of {full.run.name} contributes to {measure}", panel)
