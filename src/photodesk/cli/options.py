"""What several commands share: the options that name a data set, an encoder and a cache, and what is printed of
them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from photodesk.encoders.base import Encoder
if TYPE_CHECKING:
    from photodesk.types import Dataset, Fault


_COLUMNS = ("id", "title", "lead", "text", "tags", "url", "date", "language", "subset", "photo", "file")


def data_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command DATA, --articles, --photos, --subset, --…-column and how tables are written; it passes them all to
    `read_data`."""
    decorators = [
        click.argument("data", required=False, type=click.Path(path_type=Path)),
        click.option(
            "--articles", type=click.Path(path_type=Path), metavar="FILE", help="Article file, instead of DATA."
        ),
        click.option("--photos", type=click.Path(path_type=Path), metavar="DIR", help="Folder of pictures."),
        click.option("--subset", metavar="NAME", help="Only this part of the data, such as content2019-01."),
        click.option(
            "--header-line", default=0, type=click.IntRange(0), metavar="N", help="Line of the header [default: found]."
        ),
        click.option(
            "--delimiter", default="", metavar="CHAR", help="Between cells, such as ; or tab [default: found]."
        ),
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
    from photodesk.data import datasets
    from photodesk.errors import UsageError

    data, articles, photos, subset = (options.pop(name) for name in ("data", "articles", "photos", "subset"))
    line, delimiter = options.pop("header_line"), options.pop("delimiter")
    delimiter = {"tab": "\t", "\\t": "\t"}.get(delimiter.casefold(), delimiter)
    columns = {name: value for name in _COLUMNS if (value := options.pop(f"{name}_column"))}
    if (data is None) == (articles is None):
        raise UsageError("give either a data folder or --articles FILE --photos DIR")
    return datasets.read(
        data or articles, photos=photos, columns=columns, subset=subset, header_line=line, delimiter=delimiter
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


def show_faults(faults: Sequence[Fault], *, every: bool = False, err: bool = True) -> bool:
    """Print faults, those of one kind as one line with count and first place; returns whether any needs the user."""
    from photodesk.data.checks import kinds
    from photodesk.files import shown

    if every:
        for fault in faults:
            click.echo(str(fault), err=err)
    else:
        for kind in kinds(faults):
            first = kind.first
            advice = f"; {first.advice}" if first.advice else ""
            line = (
                str(first)
                if kind.count == 1
                else f"{kind.count} × {kind.name} ({first.fate}), first {first.where}{advice}"
            )
            click.echo(shown(line), err=err)
    return any(fault.advice for fault in faults)


encoder_option = click.option(
    "--encoder", default="builtin", show_default=True, help="The model that reads texts and photos; see `encoders`."
)


cache_option = click.option(
    "--cache",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Where features are kept [default: the user's cache].",
)


def load_encoder(name: str) -> Encoder:
    """The encoder of that name, if it can compare texts and photos; says where it runs if there was a choice."""
    from photodesk.encoders import registry

    encoder = registry.load(name).joint()
    if encoder.runs_on:
        click.echo(f"{encoder.name} runs on {encoder.runs_on}", err=True)
    return encoder
