"""`check` and `fetch`: look at a data set before working with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from photodesk.datasets import Dataset
    from photodesk.records import Fault

_COLUMNS = ("id", "title", "lead", "text", "tags", "url", "date", "language", "subset", "photo", "file")


def data_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command DATA, --articles, --photos, --subset and --…-column; it passes them all to `read_data`."""
    decorators = [
        click.argument("data", required=False, type=click.Path(path_type=Path)),
        click.option("--articles", type=click.Path(path_type=Path), metavar="FILE", help="Article file, instead of DATA."),
        click.option("--photos", type=click.Path(path_type=Path), metavar="DIR", help="Folder of pictures."),
        click.option("--subset", metavar="NAME", help="Only this part of the data, such as content2019-01."),
    ]
    for name in _COLUMNS:
        text = f"Column that holds the {name}." if name in ("id", "title", "text", "photo") else None
        decorators.append(click.option(f"--{name}-column", metavar="NAME", help=text, hidden=text is None))
    for decorate in reversed(decorators):
        command = decorate(command)
    return command


def read_data(options: dict[str, Any]) -> Dataset:
    """Read what the options of `data_options` name; takes its keys out of `options`.

    Raises:
        UsageError: neither DATA nor --articles, or both.
    """
    from photodesk import datasets
    from photodesk.errors import UsageError

    data, articles, photos, subset = (options.pop(name) for name in ("data", "articles", "photos", "subset"))
    columns = {name: value for name in _COLUMNS if (value := options.pop(f"{name}_column"))}
    if (data is None) == (articles is None):
        raise UsageError("give either a data folder or --articles FILE --photos DIR")
    return datasets.read(data or articles, photos=photos, columns=columns, subset=subset)


def show_data(dataset: Dataset) -> None:
    """Say on stderr what was read, and why it was taken for that."""
    click.echo(f"{dataset.edition} ({dataset.evidence})", err=True)
    click.echo("columns: " + ", ".join(f"{name} = {column!r}" for name, column in dataset.columns.items()), err=True)
    counts = f"{len(dataset.articles)} articles, {len(dataset.photos)} photos, {len(dataset.pairs)} pairs"
    click.echo(counts, err=True)


def show_faults(faults: Sequence[Fault], *, every: bool = False, err: bool = True) -> bool:
    """Print faults, those of one kind as one line with count and first place; returns whether any needs the user."""
    from photodesk.datasets import kinds

    if every:
        for fault in faults:
            click.echo(str(fault), err=err)
    else:
        for kind, first, count in kinds(faults):
            line = (
                str(first)
                if count == 1
                else f"{count} × {kind} ({first.fate}), first {first.where}" + (f"; {first.advice}" if first.advice else "")
            )
            click.echo(line, err=err)
    return any(fault.advice for fault in faults)


@click.command()
@data_options
@click.option("--all", "every", is_flag=True, help="A line for each fault, not for each kind of fault.")
@click.option("--no-decode", is_flag=True, help="Do not open the pictures: quick, but finds no broken and no duplicate ones.")
@click.pass_context
def check(context: click.Context, /, every: bool, no_decode: bool, **options: Any) -> None:
    """Name every fault of a data set, by file and line, and what happens to it.

    Ends with 1 if anything needs you, else with 0.

    \b
    photodesk check newsimages2025/
    photodesk check --articles desk.csv --photos pictures/ --title-column Schlagzeile
    """
    from photodesk import datasets

    dataset = read_data(options)
    show_data(dataset)
    faults = datasets.check(dataset, decode=not no_decode)
    context.exit(1 if show_faults(faults, every=every, err=False) else 0)
