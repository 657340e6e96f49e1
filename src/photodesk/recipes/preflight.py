"""Finds everything that a recipe needs, or names all that is missing in one message, before anything is computed."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from photodesk.data import datasets
from photodesk.encoders import hf_hub, txv
from photodesk.encoders.txv import Network
from photodesk.errors import MissingExtra, PhotodeskError, UsageError, require
from photodesk.evaluation import run_files
from photodesk.evaluation.contact_sheet import contact_sheet
from photodesk.evaluation.tables import Table
from photodesk.features.store import Store
from photodesk.files import replacing
from photodesk.recipes import requirements, schema
from photodesk.recipes.run import Outcome, Runner, comparison
from photodesk.recipes.schema import Encoders, Recipe
from photodesk.types import Dataset, Progress, silent

T = TypeVar("T")


@dataclass(frozen=True)
class Ready:
    """A recipe that can be run.

    Args:
        recipe: as it will be run.
        runner: with data, store and networks.
        deviations: differences from the recipe as written, one sentence each; empty for the paper's own run.
        name: of the run, with the encoder if it is not the recipe's.
        notes: what is fetched.
    """

    recipe: Recipe
    runner: Runner
    deviations: tuple[str, ...]
    name: str
    notes: tuple[str, ...] = ()

    def title(self, outcome: Outcome) -> str:
        """Run, whether it is transductive, and the paper's row."""
        claim = self.recipe.claim
        pairs = f"{len(outcome.report.articles):,} articles" + (f", the paper's {claim.pairs:,}" if claim.pairs else "")
        return f"{outcome.report.title}: table {claim.table}, {claim.row} ({pairs})"

    def table(self, outcome: Outcome, *, seed: int = 0) -> Table:
        """Our figures and the paper's; `remarks` belong below it."""
        return comparison(outcome, self.title(outcome), seed=seed)

    def remarks(self) -> Iterator[str]:
        """Deviations of the run from the recipe, and assumptions of the recipe."""
        yield from (f"Differs from the recipe: {line}." for line in self.deviations)
        yield from self.recipe.assumes

    def write(self, outcome: Outcome, folder: Path, *, seconds: float, seed: int = 0) -> str:
        """Write run file, contact sheet and record (.tsv, .html, .json) into `folder`; returns their common name."""
        stem = re.sub(r"[^\w.-]+", "-", self.name)
        run_files.write(outcome.run, folder / f"{stem}.tsv")
        test, path = self.runner.parts(self.recipe).test, folder / f"{stem}.html"
        title, report = self.title(outcome), outcome.report
        contact_sheet(outcome.run, test, path, title=title, report=report, about=self._about())
        with replacing(folder / f"{stem}.json") as stream:
            stream.write(json.dumps(self._record(outcome, seconds, seed), ensure_ascii=False, indent=1) + "\n")
        return stem

    def _about(self) -> dict[str, str]:
        """Facts for the head of the contact sheet, which leaves out empty ones."""
        claim = self.recipe.claim
        return {
            "Recipe": f"{self.recipe.name}: {self.recipe.about}",
            "Paper": f"{claim.paper}, table {claim.table}, {claim.row}",
            "Encoder": " + ".join(self.recipe.encoders.names),
            "Texts": " + ".join(map(str, self.recipe.texts.preparations)),
            "Differs from the recipe": "; ".join(self.deviations),
            "Chosen, as the paper does not say": " ".join(self.recipe.assumes),
        }

    def _record(self, outcome: Outcome, seconds: float, seed: int) -> dict[str, object]:
        claim = self.recipe.claim
        return {
            "recipe": self.recipe.name,
            "paper": claim.paper,
            "table": claim.table,
            "row": claim.row,
            "paper_pairs": claim.pairs,
            "paper_numbers": dict(claim.numbers),
            "differs": list(self.deviations),
            "assumes": list(self.recipe.assumes),
            "encoders": list(self.recipe.encoders.names),
            "texts": [str(one) for one in self.recipe.texts.preparations],
            "seconds": seconds,
            "ours": outcome.report.as_json(seed=seed),
        }


def find(
    name: str | Path,
    *,
    data: Path | None = None,
    photos: Path | None = None,
    model_dir: Path | None = None,
    encoder: str | None = None,
    pretrain: Path | None = None,
    network: Path | None = None,
    subset: str | None = None,
    cache: Path | None = None,
    progress: Progress = silent,
) -> Ready:
    """A recipe and everything that it needs.

    Args:
        name: as for `schema.read`.
        data: the data set.
        photos: its pictures, if they are not in it.
        model_dir: a folder with models; see `requirements.located`.
        encoder: a substitute; see `requirements.stand_in`.
        pretrain: the data set to pre-train on.
        network: file of a trained network.
        subset: words that name the part to measure, instead of the recipe's.
        cache: where features are kept; None is the user's.
        progress: as in `search.rank`.

    Raises:
        UsageError: no such recipe, or something is missing: names all of it, and how to get it.
        EncoderError: a model cannot be loaded.
    """
    original = schema.read(name)
    lacking: list[str] = []
    before = _tried("the set to train on before", lambda: datasets.read(pretrain), lacking) if pretrain else None
    ready = _tried("the network", lambda: txv.load(network), lacking) if network else None
    if ready and not original.network:
        raise UsageError(f"{original.name} has no T×V network, so --network is of no use")
    how = original.data.how
    dataset = _tried("the data", lambda: datasets.read(data, photos=photos), lacking, how) if data else None
    if data is None:
        lacking.append(f"{original.data.edition}: name its folder with --data; {how}")
    chosen, deviations = _chosen(original, subset, encoder, dataset, before, ready, model_dir)
    missing, without = _missing(chosen, encoder, dataset, before, ready)
    deviations += without
    reach = _reach() if any(need.fetched for need in missing) else ""
    lacking += [str(need) + (f" ({reach})" if need.fetched else "") for need in missing if reach or not need.fetched]
    if lacking or dataset is None:
        raise UsageError(f"{original.name} needs what is not here:\n" + "\n".join(f"- {line}" for line in lacking))
    runner = Runner(dataset, Store(cache), before, ready, progress)
    if ready:
        deviations += (f"the T×V network is {network}, not one that was trained now",)
    for one in chosen.encoders.names:  # loaded before anything is computed
        trained = runner.load(one).network
        if trained and not chosen.network and trained.saw(dataset.edition):
            deviations += (
                f"{one} was trained on {dataset.edition}; figures on pairs that it saw say nothing about others",
            )
    shown = original.name + (f" on {encoder}" if encoder and (encoder,) != original.encoders.names else "")
    fetched = tuple(f"{need.what} are fetched now" for need in missing if need.fetched)
    return Ready(chosen, runner, deviations, shown, fetched)


def _chosen(
    original: Recipe,
    subset: str | None,
    encoder: str | None,
    dataset: Dataset | None,
    before: Dataset | None,
    ready: Network | None,
    model_dir: Path | None,
) -> tuple[Recipe, tuple[str, ...]]:
    """The recipe with the subset and encoder that are given, its models located; and its deviations."""
    chosen, deviations = original, tuple[str, ...]()
    if subset is not None:
        chosen = replace(chosen, data=replace(chosen.data, subset=subset))
        deviations = (f"the part {subset!r} is measured, not {original.data.subset!r}",)
    if encoder and dataset:
        chosen, more = requirements.stand_in(
            chosen, encoder, dataset, pretrain=before is not None, network=ready is not None, folder=model_dir
        )
        deviations += more
    elif encoder:
        chosen = replace(chosen, encoders=Encoders((encoder,)))
    return requirements.located(chosen, model_dir), deviations


def _missing(
    chosen: Recipe, encoder: str | None, dataset: Dataset | None, before: Dataset | None, ready: Network | None
) -> tuple[list[requirements.Need], tuple[str, ...]]:
    """What is missing, and deviations of a run with another encoder that does without."""
    missing = [
        *requirements.of_machine(chosen, network=ready is not None),
        *requirements.of_pretraining(chosen, before, network=ready is not None),
    ]
    needs = list(requirements.of_data(chosen, dataset)) if dataset else []
    without = [need for need in needs if encoder and need.kind in ("pictures", "pairs", "data")]
    missing += [need for need in needs if need not in without]
    return missing, tuple(f"missing: {need.what}" for need in without if need.kind != "data")


def _tried(what: str, make: Callable[[], T], lacking: list[str], how: str = "") -> T | None:
    try:
        return make()
    except PhotodeskError as error:
        lacking.append(f"{what}: {error}{how and '; '}{how}")
        return None


def _reach() -> str:
    """Why the hub cannot be reached; empty if it can."""
    try:
        constants = require("huggingface_hub", "openclip").constants
    except MissingExtra as error:
        return str(error)
    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE forbids a download"
    trouble = hf_hub.unreachable(constants.ENDPOINT)
    return f"the hub cannot be reached now: {trouble}" if trouble else ""
