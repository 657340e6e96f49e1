"""`recipes`, `reproduce` and `ablate`: rows of the papers' tables, run here, and what their components contribute."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from photodesk.cli.data import show_data, show_faults
from photodesk.cli.find import cache_option

if TYPE_CHECKING:
    from photodesk.datasets import Dataset
    from photodesk.needs import Need
    from photodesk.recipe import Recipe
    from photodesk.reproduce import Kitchen, Outcome

_PATH = click.Path(path_type=Path)


def _kitchen_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for decorate in (
        cache_option,
        click.option("--latex", "form", flag_value="latex", help="Print a LaTeX table (booktabs)."),
        click.option("--markdown", "form", flag_value="markdown", help="Print a Markdown table."),
        click.option("--seed", default=0, show_default=True, help="Of the intervals."),
        click.option("--subset", metavar="WORDS", help="Words that name the part to measure, instead of the recipe's."),
        click.option("--network", type=_PATH, metavar="FILE", help="A trained T×V network, instead of training one."),
        click.option("--pretrain", type=_PATH, metavar="DIR", help="The data set to train on before, such as NYTimes800k."),
        click.option("--encoder", metavar="E", help="Run it on another model, such as builtin; marked as such everywhere."),
        click.option("--model-dir", type=_PATH, metavar="DIR", help="Folder with models, each in OWNER--NAME as on the hub."),
        click.option("--photos", type=_PATH, metavar="DIR", help="Folder of pictures, if it is not in DATA."),
        click.option("--data", type=_PATH, metavar="DIR", help="The data set."),
        click.argument("recipe"),
    ):
        command = decorate(command)
    return command


@click.command()
@click.option("--data", type=_PATH, metavar="DIR", help="Also say what this data set lacks.")
@click.option("--pretrain", type=_PATH, metavar="DIR", help="A data set to train on before, such as NYTimes800k.")
@click.option("--model-dir", type=_PATH, metavar="DIR", help="Folder with models, each in OWNER--NAME as on the hub.")
@click.option("--json", "as_json", is_flag=True, help="A JSON list instead of a table.")
def recipes(data: Path | None, pretrain: Path | None, model_dir: Path | None, as_json: bool) -> None:
    """List the recipes: which row of which paper each is, what it costs, and whether it can be run here.

    Each is one row of a table with its numbers. Nothing is loaded or asked to find out.

    \b
    photodesk recipes
    photodesk recipes --data newsimages2022/ --model-dir models/
    """
    from photodesk import datasets, needs
    from photodesk import recipe as reading
    from photodesk.typeset import Table

    dataset = datasets.read(data) if data else None
    before = datasets.read(pretrain) if pretrain else None
    rows: list[dict[str, object]] = []
    for one in map(reading.read, reading.names()):
        here = needs.located(one, model_dir)
        missing = [*needs.of_machine(here), *(needs.of_data(here, dataset) if dataset else ()), *needs.of_pretraining(here, before)]
        number = "MRR@100" if "MRR@100" in one.claim.numbers else next(iter(one.claim.numbers))
        rows.append(
            {
                "recipe": one.name,
                "what": one.about,
                "paper": one.claim.paper,
                "table": one.claim.table,
                "row": one.claim.row,
                "numbers": dict(one.claim.numbers),
                "shown": f"{number} {one.claim.numbers[number]:.3f}",
                "transductive": one.transductive,
                "data": one.data.edition,
                "weights_gb": one.cost.weights_gb,
                "minutes": one.cost.minutes,
                "machine": one.cost.machine,
                "missing": [str(need) for need in missing],
                "status": _status(missing, dataset is not None),
            }
        )
    if as_json:
        click.echo(json.dumps(rows, ensure_ascii=False, indent=1))
        return
    head = ("recipe", "table, row", "claimed", "data", "weights", "takes about", "here")
    cells = tuple(
        (
            str(row["recipe"]),
            f"{row['table']}: {row['row']}" + (" (transductive)" if row["transductive"] else ""),
            str(row["shown"]),
            str(row["data"]),
            f"{row['weights_gb']:g} GB",
            f"{row['minutes']:g} min, {str(row['machine']).partition(';')[0]}",
            str(row["status"]),
        )
        for row in rows
    )
    click.echo(Table("Recipes: photodesk reproduce RECIPE --data DIR", head, cells, left=7).text())
    if lacking := list(dict.fromkeys(line for row in rows for line in row["missing"])):  # type: ignore[attr-defined]
        click.echo("\nmissing for some of them:\n" + "\n".join(f"- {line}" for line in lacking), err=True)


def _status(missing: Sequence[Need], data_known: bool) -> str:
    lacks = list(dict.fromkeys("weights to fetch" if need.fetched else need.kind for need in missing))
    if not lacks:
        return "runs here" if data_known else "runs here, given its data"
    return "needs " + ", ".join(lacks)


@dataclass(frozen=True)
class _Set:
    """All that a recipe needs, found and checked."""

    recipe: Recipe
    kitchen: Kitchen
    deviations: tuple[str, ...]
    name: str


def _prepare(
    recipe: str, data: Path | None, photos: Path | None, model_dir: Path | None, encoder: str | None, pretrain: Path | None,
    network: Path | None, subset: str | None, cache: Path | None, progress: Any,
) -> _Set:  # fmt: skip
    """Read the recipe, find everything that is missing and say all of it at once.

    Raises:
        UsageError: something is missing.
    """
    from dataclasses import replace

    from photodesk import datasets, needs
    from photodesk import network as networks
    from photodesk import recipe as reading
    from photodesk.errors import PhotodeskError, UsageError
    from photodesk.reproduce import Kitchen
    from photodesk.store import Store

    original = chosen = reading.read(recipe)
    lacking: list[str] = []

    def tried(what: str, make: Callable[[], Any], how: str) -> Any:
        try:
            return make()
        except PhotodeskError as error:
            lacking.append(f"{what}: {error}{how and '; '}{how}")
            return None

    dataset: Dataset | None = None
    if data is None:
        lacking.append(f"{original.data.edition}: name its folder with --data; {original.data.how}")
    else:
        dataset = tried("the data", lambda: datasets.read(data, photos=photos), original.data.how)
    before = tried("the set to train on before", lambda: datasets.read(pretrain), "") if pretrain else None
    ready = tried("the network", lambda: networks.load(network), "") if network else None
    if ready and not original.network:
        raise UsageError(f"{original.name} has no T×V network, so --network is of no use")
    if subset is not None:
        chosen = replace(chosen, data=replace(chosen.data, subset=subset))
    deviations: tuple[str, ...] = () if subset is None else (f"the part {subset!r} is measured, not {original.data.subset!r}",)
    if encoder and dataset:
        chosen, more = needs.stand_in(chosen, encoder, dataset, pretrain=before is not None, network=ready is not None, folder=model_dir)
        deviations += more
    elif encoder:
        chosen = replace(chosen, encoders=reading.Encoders((encoder,)))
    chosen = needs.located(chosen, model_dir)
    missing = [*needs.of_machine(chosen, network=ready is not None)]
    for need in needs.of_data(chosen, dataset) if dataset else ():
        if encoder and need.kind in ("pictures", "pairs"):
            deviations += (f"missing: {need.what}",)
        elif not encoder or need.kind != "data":
            missing.append(need)
    missing += needs.of_pretraining(chosen, before, network=ready is not None)
    reach = _reach() if any(need.fetched for need in missing) else ""
    for need in missing:
        if need.fetched and not reach:
            click.echo(f"fetched now: {need.what}, {need.how.partition(',')[0]}", err=True)
        else:
            lacking.append(str(need) + (f" ({reach})" if need.fetched else ""))
    if lacking:
        raise UsageError(f"{original.name} needs what is not here:\n" + "\n".join(f"- {line}" for line in lacking))
    assert dataset is not None
    show_data(dataset)
    kitchen = Kitchen(dataset, Store(cache), before, ready, progress)
    name = original.name + (f" on {encoder}" if encoder and encoder not in original.encoders.names else "")
    if ready:
        deviations += (f"the T×V network is {network}, not one that was trained now",)
    for one in chosen.encoders.names:  # before anything is computed
        loaded = kitchen.load(one)
        if loaded.network and not chosen.network and loaded.network.saw(dataset.edition):
            deviations += (f"{one} was trained on {dataset.edition}; figures on pairs that it saw say nothing about others",)
    for line in deviations:
        click.echo(f"differs from the recipe: {line}", err=True)
    return _Set(chosen, kitchen, deviations, name)


def _reach() -> str:
    """Why the hub cannot be reached; empty if it can."""
    from photodesk.encoders import hub
    from photodesk.errors import require

    constants = require("huggingface_hub", "openclip").constants
    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE forbids a download"
    trouble = hub.unreachable(constants.ENDPOINT)
    return f"the hub cannot be reached now: {trouble}" if trouble else ""


@click.command()
@_kitchen_options
@click.option(
    "--out", "-o", default="reproduced", show_default=True, type=_PATH, metavar="DIR", help="Folder for run file, report and record."
)
@click.pass_context
def reproduce(context: click.Context, /, recipe: str, out: Path, form: str | None, seed: int, **options: Any) -> None:
    """Run a recipe, a row of a paper's table, and print ours beside the paper's numbers.

    First everything that is missing is named at once, with how to get it; nothing is computed before. Then: language detection, translation, cleaning,
    word limits, encoder, T×V network, fusion, revision. Writes NAME.tsv, NAME.html and NAME.json into --out. RECIPE is a name of `recipes` or a
    .toml file. --encoder builtin runs any recipe on the built-in model and on any data: all that then differs is said in every file and table.

    \b
    photodesk reproduce 2022-rss-run2 --data newsimages2022/ --model-dir models/
    photodesk reproduce 2021-run5 --data newsimages2021/ --encoder builtin
    """
    from photodesk import runs
    from photodesk.cli.progress import bars
    from photodesk.files import replacing
    from photodesk.report import contact_sheet
    from photodesk.reproduce import beside

    started = time.monotonic()
    with bars() as progress:
        made = _prepare(recipe, progress=progress, **options)
        outcome = made.kitchen.cook(made.recipe, made.name)
    seconds = time.monotonic() - started
    stem = re.sub(r"[^\w.-]+", "-", made.name)
    runs.write(outcome.run, out / f"{stem}.tsv")
    contact_sheet(
        outcome.run,
        made.kitchen.parts(made.recipe).test,
        out / f"{stem}.html",
        title=_title(made, outcome),
        report=outcome.report,
        about=_about(made),
    )
    with replacing(out / f"{stem}.json") as stream:
        stream.write(json.dumps(_record(made, outcome, seconds, seed), ensure_ascii=False, indent=1) + "\n")
    table = beside(outcome, _title(made, outcome), seed=seed)
    click.echo({"markdown": table.markdown, "latex": table.latex}.get(form or "", table.text)())
    for line in (*(f"Differs from the recipe: {line}." for line in made.deviations), *made.recipe.assumes):
        click.echo(("% " if form == "latex" else "- " if form == "markdown" else "") + line)
    click.echo(f"{stem}.tsv, {stem}.html and {stem}.json are in {out}; {seconds / 60:.1f} minutes", err=True)
    context.exit(1 if show_faults([*made.kitchen.dataset.faults, *outcome.faults]) else 0)


def _title(made: _Set, outcome: Outcome) -> str:
    claim = made.recipe.claim
    pairs = f"{len(outcome.report.articles):,} articles" + (f", the paper's {claim.pairs:,}" if claim.pairs else "")
    return f"{outcome.report.title}: table {claim.table}, {claim.row} ({pairs})"


def _about(made: _Set) -> dict[str, str]:
    recipe = made.recipe
    about = {
        "Recipe": f"{recipe.name}: {recipe.about}",
        "Paper": f"{recipe.claim.paper}, table {recipe.claim.table}, {recipe.claim.row}",
        "Encoder": " + ".join(recipe.encoders.names),
        "Texts": " + ".join(map(str, recipe.texts.preparations)),
    }
    if made.deviations:
        about["Differs from the recipe"] = "; ".join(made.deviations)
    if recipe.assumes:
        about["Chosen, as the paper does not say"] = " ".join(recipe.assumes)
    return about


def _record(made: _Set, outcome: Outcome, seconds: float, seed: int) -> dict[str, object]:
    claim = made.recipe.claim
    return {
        "recipe": made.recipe.name,
        "paper": claim.paper,
        "table": claim.table,
        "row": claim.row,
        "paper_pairs": claim.pairs,
        "paper_numbers": dict(claim.numbers),
        "differs": list(made.deviations),
        "assumes": list(made.recipe.assumes),
        "encoders": list(made.recipe.encoders.names),
        "texts": [str(one) for one in made.recipe.texts.preparations],
        "seconds": seconds,
        "ours": outcome.report.as_json(seed=seed),
    }


@click.command()
@_kitchen_options
@click.option("--measure", "-m", default="MRR@100", show_default=True, help="R@1, R@5, R@10, R@50, R@100 or MRR@100.")
@click.option("--plot", default="ablation.svg", show_default=True, type=_PATH, metavar="FILE", help="Picture of the contributions.")
@click.pass_context
def ablate(context: click.Context, /, recipe: str, measure: str, plot: Path, form: str | None, seed: int, **options: Any) -> None:
    """Leave out one component of a recipe at a time, and say what each contributes.

    Components: translation, cleaning, word limits, each further field, each encoder, the T×V network, revision, fusion. Every run is over the same articles,
    so intervals and tests are paired. RECIPE is a name of `recipes` or a .toml file with components of your own.

    \b
    photodesk ablate own-best --data newsimages2025/ --plot ablation.svg
    photodesk ablate 2022-rss-run4 --data newsimages2022/ --pretrain nytimes800k/ -m R@10
    """
    from photodesk import ablate as ablation
    from photodesk import measures
    from photodesk.cli.progress import bars
    from photodesk.errors import UsageError
    from photodesk.files import replacing

    deciding = measures.parse(measure)
    if deciding not in measures.DEFAULT:
        raise UsageError(f"--measure {measure}: ablate knows {', '.join(map(str, measures.DEFAULT))}")
    with bars() as progress:
        made = _prepare(recipe, progress=progress, **options)
        full, without = ablation.ablate(
            made.recipe, made.kitchen, name=made.name, progress=lambda part: click.echo(f"without {part}" if part else "in full", err=True)
        )
    found = ablation.contributions(full, without, deciding, seed=seed)
    table = ablation.table(full, found, deciding)
    click.echo({"markdown": table.markdown, "latex": table.latex}.get(form or "", table.text)())
    for line in made.deviations:
        click.echo(("% " if form == "latex" else "- " if form == "markdown" else "") + f"Differs from the recipe: {line}.")
    with replacing(plot) as stream:
        stream.write(ablation.plot(full, found, deciding))
    click.echo(f"plot in {plot}", err=True)
    faults = dict.fromkeys(fault for outcome in (full, *without.values()) for fault in outcome.faults)
    context.exit(1 if show_faults([*made.kitchen.dataset.faults, *faults]) else 0)
