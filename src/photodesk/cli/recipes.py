"""`recipes`, `reproduce` and `ablate`: reproduce rows of the papers' tables, and measure their components."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from photodesk.cli.options import (
    PATH,
    cache_option,
    deciding_measure,
    form_options,
    json_option,
    out_option,
    print_json,
    print_tables,
    seed_option,
    show_data,
    show_faults,
    together,
)
from photodesk.cli.progress import bars

if TYPE_CHECKING:
    from photodesk.evaluation.tables import Table
    from photodesk.recipes.preflight import Ready
    from photodesk.recipes.requirements import Need
    from photodesk.recipes.schema import Recipe


_pretrain_option = click.option(
    "--pretrain", type=PATH, metavar="DIR", help="The data set for pre-training, such as NYTimes800k."
)
_model_dir_option = click.option(
    "--model-dir", type=PATH, metavar="DIR", help="Folder with models, each in OWNER--NAME as on the hub."
)
_run_options = together(
    click.argument("recipe"),
    click.option("--data", type=PATH, metavar="DIR", help="The data set."),
    click.option("--photos", type=PATH, metavar="DIR", help="Folder of pictures, if it is not in DATA."),
    _model_dir_option,
    click.option(
        "--encoder", metavar="E", help="Run it on another model, such as builtin; every file and table states it."
    ),
    _pretrain_option,
    click.option("--network", type=PATH, metavar="FILE", help="A trained T×V network, instead of training one."),
    click.option(
        "--subset", metavar="WORDS", help="Words in the name of the part to measure, instead of the recipe's."
    ),
    seed_option("Random seed of the intervals."),
    form_options,
    cache_option,
)


@click.command()
@click.option("--data", type=PATH, metavar="DIR", help="Also list what this data set lacks.")
@_pretrain_option
@_model_dir_option
@json_option
def recipes(data: Path | None, pretrain: Path | None, model_dir: Path | None, as_json: bool) -> None:
    """List the recipes: which row of which paper each is, what it costs, and whether it can be run here.

    Each is one row of a table with its figures. No model is loaded and no network request is made.

    \b
    photodesk recipes
    photodesk recipes --data newsimages2022/ --model-dir models/
    """
    from photodesk.data import datasets
    from photodesk.evaluation.tables import Table
    from photodesk.recipes import requirements
    from photodesk.recipes import schema as reading

    dataset = datasets.read(data) if data else None
    before = datasets.read(pretrain) if pretrain else None
    rows: list[dict[str, Any]] = []
    for one in map(reading.read, reading.names()):
        here = requirements.located(one, model_dir)
        missing = [
            *requirements.of_machine(here),
            *(requirements.of_data(here, dataset) if dataset else ()),
            *requirements.of_pretraining(here, before),
        ]
        rows.append(_row(one) | {"missing": [str(need) for need in missing], "status": _status(missing, bool(dataset))})
    if as_json:
        print_json(rows)
        return
    head = ("recipe", "table, row", "claimed", "data", "weights", "takes about", "here")
    cells = tuple(
        (
            row["recipe"],
            f"{row['table']}: {row['row']}" + (" (transductive)" if row["transductive"] else ""),
            row["shown"],
            row["data"],
            f"{row['weights_gb']:g} GB",
            f"{row['minutes']:g} min, {row['machine'].partition(';')[0]}",
            row["status"],
        )
        for row in rows
    )
    click.echo(Table("Recipes: photodesk reproduce RECIPE --data DIR", head, cells, left=7).text())
    if lacking := list(dict.fromkeys(line for row in rows for line in row["missing"])):
        click.echo("\nmissing for some of them:\n" + "\n".join(f"- {line}" for line in lacking), err=True)


def _row(recipe: Recipe) -> dict[str, Any]:
    claim, cost = recipe.claim, recipe.cost
    number = "MRR@100" if "MRR@100" in claim.numbers else next(iter(claim.numbers))
    return {
        "recipe": recipe.name,
        "what": recipe.about,
        "paper": claim.paper,
        "table": claim.table,
        "row": claim.row,
        "numbers": dict(claim.numbers),
        "shown": f"{number} {claim.numbers[number]:.3f}",
        "transductive": recipe.transductive,
        "data": recipe.data.edition,
        "weights_gb": cost.weights_gb,
        "minutes": cost.minutes,
        "machine": cost.machine,
    }


def _status(missing: Sequence[Need], data_known: bool) -> str:
    lacks = list(dict.fromkeys("weights to fetch" if need.fetched else need.kind for need in missing))
    if not lacks:
        return "runs here" if data_known else "runs here, given its data"
    return "needs " + ", ".join(lacks)


def _show_ready(ready: Ready) -> None:
    show_data(ready.runner.dataset)
    for line in (*ready.notes, *(f"differs from the recipe: {line}" for line in ready.deviations)):
        click.echo(line, err=True)


def _print(table: Table, remarks: Iterable[str], form: str | None) -> None:
    print_tables([table], form)
    for line in remarks:
        click.echo({"markdown": "- ", "latex": "% "}.get(form or "", "") + line)


@click.command()
@_run_options
@out_option("DIR", "Folder for run file, report and record.", PATH, default="reproduced", show_default=True)
@click.pass_context
def reproduce(context: click.Context, /, recipe: str, out: Path, form: str | None, seed: int, **options: Any) -> None:
    """Run a recipe, a row of a paper's table, and print our figures next to the paper's.

    First lists everything that is missing, with how to get it, before anything is computed. Then: language
    detection, translation, cleaning, word limits, encoder, T×V network, fusion, revision. Writes NAME.tsv, NAME.html
    and NAME.json into --out. RECIPE is a name of `recipes` or a .toml file. --encoder builtin runs any recipe on the
    built-in model and on any data; every file and table states what differs.

    \b
    photodesk reproduce 2022-rss-run2 --data newsimages2022/ --model-dir models/
    photodesk reproduce 2021-run5 --data newsimages2021/ --encoder builtin
    """
    from photodesk.recipes.preflight import find

    started = time.monotonic()
    with bars() as progress:
        ready = find(recipe, progress=progress, **options)
        _show_ready(ready)
        outcome = ready.runner.run(ready.recipe, ready.name)
    seconds = time.monotonic() - started
    stem = ready.write(outcome, out, seconds=seconds, seed=seed)
    _print(ready.table(outcome, seed=seed), ready.remarks(), form)
    click.echo(f"{stem}.tsv, {stem}.html and {stem}.json are in {out}; {seconds / 60:.1f} minutes", err=True)
    context.exit(1 if show_faults([*ready.runner.dataset.faults, *outcome.faults]) else 0)


@click.command()
@_run_options
@click.option("--measure", "-m", default="MRR@100", show_default=True, help="R@1, R@5, R@10, R@50, R@100 or MRR@100.")
@click.option(
    "--plot",
    default="ablation.svg",
    show_default=True,
    type=PATH,
    metavar="FILE",
    help="File for a plot of the contributions.",
)
@click.pass_context
def ablate(
    context: click.Context, /, recipe: str, measure: str, plot: Path, form: str | None, seed: int, **options: Any
) -> None:
    """Leave out one component of a recipe at a time, and measure what each contributes.

    Components: translation, cleaning, word limits, each further field, each encoder, the T×V network, revision, fusion.
    Every run is over the same articles, so intervals and tests are paired. RECIPE is a name of `recipes` or a .toml
    file with components of your own.

    \b
    photodesk ablate own-best --data newsimages2025/ --plot ablation.svg
    photodesk ablate 2022-rss-run4 --data newsimages2022/ --pretrain nytimes800k/ -m R@10
    """
    from photodesk.evaluation import metrics
    from photodesk.files import replacing
    from photodesk.recipes import ablation
    from photodesk.recipes.preflight import find

    deciding = deciding_measure(measure, metrics.DEFAULT)
    with bars() as progress:
        ready = find(recipe, progress=progress, **options)
        _show_ready(ready)
        said = lambda part: click.echo(f"without {part}" if part else "in full", err=True)  # noqa: E731
        full, without = ablation.ablate(ready.recipe, ready.runner, name=ready.name, progress=said)
    found = ablation.contributions(full, without, deciding, seed=seed)
    _print(ablation.table(full, found, deciding), ready.remarks(), form)
    with replacing(plot) as stream:
        stream.write(ablation.plot(full, found, deciding))
    click.echo(f"plot in {plot}", err=True)
    faults = dict.fromkeys(fault for outcome in (full, *without.values()) for fault in outcome.faults)
    context.exit(1 if show_faults([*ready.runner.dataset.faults, *faults]) else 0)
