"""What several commands share: options, the data set and the encoder that they name, and how results are printed."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from photodesk.encoders.base import Encoder
    from photodesk.evaluation.metrics import Measure
    from photodesk.evaluation.tables import Table
    from photodesk.types import Dataset, Fault

PATH = click.Path(path_type=Path)
FILE = click.Path(path_type=Path, dir_okay=False)
_COLUMNS = ("id", "title", "lead", "text", "tags", "url", "date", "language", "subset", "photo", "file")

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def together(*decorators: Decorator) -> Decorator:
    """Several options and arguments as one decorator, in the order in which `--help` lists them."""

    def decorated(command: Callable[..., Any]) -> Callable[..., Any]:
        for decorate in reversed(decorators):
            command = decorate(command)
        return command

    return decorated


def _column(name: str) -> Decorator:
    text = f"Column that holds the {name}." if name in ("id", "title", "text", "photo") else None
    return click.option(f"--{name}-column", metavar="NAME", help=text, hidden=text is None)


exclude_option = click.option(
    "--exclude",
    multiple=True,
    metavar="PATTERN",
    help="Leave out files and folders that match, as a line of a .gitignore; may be given several times.",
)

data_options = together(
    click.argument("data", required=False, type=PATH),
    click.option("--articles", type=PATH, metavar="FILE", help="Article file, instead of DATA."),
    click.option("--photos", type=PATH, metavar="DIR", help="Folder of pictures."),
    exclude_option,
    click.option("--subset", metavar="NAME", help="Only this part of the data, such as content2019-01."),
    click.option(
        "--header-line", default=0, type=click.IntRange(0), metavar="N", help="Line of the header [default: found]."
    ),
    click.option("--delimiter", default="", metavar="CHAR", help="Between cells, such as ; or tab [default: found]."),
    *map(_column, _COLUMNS),
)
"""DATA, --articles, --photos, --exclude, --subset, --…-column and how tables are written, all for `read_data`."""

encoder_option = click.option(
    "--encoder", default="builtin", show_default=True, help="The model that reads texts and photos; see `encoders`."
)
cache_option = click.option(
    "--cache", type=PATH, metavar="DIR", help="Folder of the feature store [default: the user's cache]."
)
preparation_option = click.option(
    "--preparation",
    "-p",
    metavar="P",
    default="fields=title",
    show_default=True,
    help="How texts are prepared, as key=value pairs; see `prepare`.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="JSON instead of a table.")
form_options = together(
    click.option("--latex", "form", flag_value="latex", help="Print LaTeX tables (booktabs)."),
    click.option("--markdown", "form", flag_value="markdown", help="Print Markdown tables."),
)


def seed_option(text: str) -> Decorator:
    """--seed, with what it is the seed of."""
    return click.option("--seed", default=0, show_default=True, help=text)


def out_option(metavar: str, text: str, kind: click.Path = FILE, **more: Any) -> Decorator:
    """--out, required unless a default is given."""
    return click.option(
        "--out", "-o", type=kind, metavar=metavar, help=text, **{"required": "default" not in more} | more
    )


def read_data(options: dict[str, Any]) -> Dataset:
    """Read what the options of `data_options` name; takes its keys out of `options`.

    Raises:
        UsageError: neither DATA nor --articles, or both.
    """
    from photodesk.data import datasets
    from photodesk.errors import UsageError

    names = ("data", "articles", "photos", "subset", "exclude", "header_line")
    data, articles, photos, subset, exclude, line = (options.pop(name) for name in names)
    delimiter = options.pop("delimiter")
    delimiter = {"tab": "\t", "\\t": "\t"}.get(delimiter.casefold(), delimiter)
    columns = {name: value for name in _COLUMNS if (value := options.pop(f"{name}_column"))}
    if (data is None) == (articles is None):
        raise UsageError("give either a data folder or --articles FILE --photos DIR")
    return datasets.read(
        data or articles,
        photos=photos,
        columns=columns,
        subset=subset,
        exclude=exclude,
        header_line=line,
        delimiter=delimiter,
    )


def show_data(dataset: Dataset) -> None:
    """Say on stderr what was read, and why it was taken for that."""
    click.echo(f"{dataset.edition} ({dataset.evidence})", err=True)
    click.echo("columns: " + ", ".join(f"{name} = {column!r}" for name, column in dataset.columns.items()), err=True)
    click.echo(f"{len(dataset.articles)} articles, {len(dataset.photos)} photos, {len(dataset.pairs)} pairs", err=True)
    counts: dict[str, int] = {}
    for article in dataset.articles:
        counts[article.subset] = counts.get(article.subset, 0) + 1
    if counts.keys() - {""}:
        click.echo("subsets: " + ", ".join(f"{name or '(none)'} {count}" for name, count in counts.items()), err=True)


def shown_data(options: dict[str, Any]) -> Dataset:
    """`read_data`, then `show_data`."""
    dataset = read_data(options)
    show_data(dataset)
    return dataset


def deciding_measure(text: str, known: Sequence[Measure]) -> Measure:
    """The measure of --measure, one of those that a command prints.

    Raises:
        UsageError: it is another.
    """
    from photodesk.errors import UsageError
    from photodesk.evaluation import metrics

    measure = metrics.parse(text)
    if measure not in known:
        raise UsageError(f"--measure {text}: expected one of {', '.join(map(str, known))}")
    return measure


FEW = 3
"""Faults of one kind that are printed one by one; more are one line."""


def show_faults(faults: Sequence[Fault], *, every: bool = False, err: bool = True) -> bool:
    """Print faults, many of one kind as one line with count and first place; returns whether any needs the user."""
    from photodesk.data.checks import kinds
    from photodesk.text_repair import shown

    if every:
        lines = list(map(str, faults))
    else:
        lines = []
        for kind in kinds(faults):
            first, advice = kind.first, f"; {kind.first.advice}" if kind.first.advice else ""
            few = kind.count <= FEW
            some = f"{kind.count} × {kind.name} ({first.fate}), first {first.where}{advice}"
            lines += map(str, kind.faults) if few else [some]
    for line in lines:
        click.echo(shown(line), err=err)
    return any(fault.advice for fault in faults)


def print_json(value: object) -> None:
    """A value on stdout, for programs."""
    click.echo(json.dumps(value, ensure_ascii=False, indent=1))


def print_tables(tables: Sequence[Table], form: str | None) -> None:
    """Tables on stdout, as `form_options` want them."""
    if form is None and sys.stdout.isatty():
        from rich.console import Console

        for table in tables:
            Console().print(table.rich())
        return
    click.echo(
        "\n\n".join({"markdown": one.markdown, "latex": one.latex}.get(form or "", one.text)() for one in tables)
    )


def load_encoder(name: str) -> Encoder:
    """The encoder of that name, if it can compare texts and photos; says where it runs if there was a choice."""
    from photodesk.encoders import registry

    encoder = registry.load(name).joint()
    if encoder.runs_on:
        click.echo(f"{encoder.name} runs on {encoder.runs_on}", err=True)
    return encoder
