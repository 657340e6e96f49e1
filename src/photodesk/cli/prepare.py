"""`prepare`: the result of a Preparation, as a file and, step by step, as a table."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from photodesk.cli.options import FILE, data_options, preparation_option, show_faults, shown_data
from photodesk.cli.progress import bars

if TYPE_CHECKING:
    from photodesk.encoders.token_budget import Budget
    from photodesk.text.preparation import Preparation, Prepared
    from photodesk.types import Article

_LABELLED = ("subset", "language", "tags", "date")


@click.command()
@data_options
@click.option(
    "--out",
    "-o",
    type=FILE,
    metavar="FILE.jsonl",
    help="Write the prepared articles.",
)
@preparation_option
@click.option(
    "--show",
    type=click.IntRange(0),
    metavar="N",
    help="Show the first N articles step by step [default: 5 without --out].",
)
@click.option("--drop-empty", is_flag=True, help="Leave out articles without any text, as the 2021 paper did.")
@click.option(
    "--label",
    multiple=True,
    type=click.Choice(_LABELLED),
    help="Add this field encoded as integers; FILE.labels.json has the mapping.",
)
@click.option(
    "--encoder",
    "encoders",
    multiple=True,
    metavar="NAME",
    help="Report what this encoder's context length truncates; may be given several times.",
)
@click.option("--keep-going", is_flag=True, help="Keep originals if translation fails, instead of stopping.")
@click.pass_context
def prepare(
    context: click.Context,
    /,
    out: Path | None,
    preparation: str,
    show: int | None,
    drop_empty: bool,
    label: tuple[str, ...],
    encoders: tuple[str, ...],
    keep_going: bool,
    **options: Any,
) -> None:
    """Detect, translate, clean and truncate the texts of articles, and show before and after.

    The steps are key=value pairs: fields=title+lead+text+tags, detect=de+en (then threshold=0.6), translate=MODEL (then
    keep_names=yes), clean=2021 or ekphrasis, max_words=40. MODEL is marian:NAME, ctranslate2:FOLDER or the address of a
    LibreTranslate service. Steps that are not given are off. The file can be read as DATA again.

    \b
    photodesk prepare newsimages2021/ --show 5 -p "fields=title+text, detect=de+en, clean=2021, max_words=40"
    photodesk prepare desk.csv -o prepared.jsonl -p "detect=de+en, translate=marian:Helsinki-NLP/opus-mt-de-en"
    """
    from photodesk.encoders.token_budget import budget
    from photodesk.errors import UsageError
    from photodesk.text import cleaning
    from photodesk.text import preparation as texts

    if label and not out:
        raise UsageError("--label writes to the file of --out; name one")
    if out and out.suffix not in (".jsonl", ".ndjson"):
        raise UsageError(f"{out}: the prepared articles are JSON lines; end the name in .jsonl")
    wanted = texts.parse(preparation)
    towers = {name: _tower(name) for name in encoders}
    dataset = shown_data(options)
    click.echo(str(wanted), err=True)
    articles, empty = cleaning.with_text(dataset.articles, wanted.fields, drop=drop_empty)
    done = _prepare(wanted, articles, keep_going)
    budgets = {name: budget(done.texts, tower) for name, tower in towers.items()}
    _show(wanted, articles[: show if show is not None else 0 if out else 5], keep_going)
    for name, tower in towers.items():
        _show_budget(name, tower.context, articles, budgets[name])
    if out:
        pairs: dict[str, list[str]] = {}
        for pair in dataset.pairs:
            pairs.setdefault(pair.article, []).append(pair.photo)
        _write(out, articles, done, pairs, label, budgets)
    of_texts = [fault for fault in dataset.faults if fault.subject != "photo"]
    context.exit(1 if show_faults([*of_texts, *empty, *done.notes]) else 0)


def _tower(name: str) -> Any:
    from photodesk.encoders import registry

    return registry.load(name).texts


def _prepare(wanted: Preparation, articles: Sequence[Article], keep_going: bool) -> Prepared:
    with bars() as progress:
        return wanted.prepare(
            articles, keep_going=keep_going, progress=lambda _, done, of: progress("sentences", done, of)
        )


def _show(wanted: Preparation, articles: Sequence[Article], keep_going: bool) -> None:
    """A table on stdout: a row for each step that changed the article. Steps run again for these few; translations are
    kept by then."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    if not articles:
        return
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=160)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("article", "step", "text"):
        table.add_column(name, overflow="fold", no_wrap=name == "step")
    stages = list(wanted.stages(articles, keep_going=keep_going))
    for i, article in enumerate(articles):
        rows = [("before", " ".join(part for name in wanted.fields if (part := getattr(article, name))))]
        for name, now in stages:
            if name == "detect":
                rows.append(("detect", f"{now.languages[i]} ({now.confidences[i]:.2f})"))
            elif name == "clean" and wanted.clean == "2021":
                rows += _cleaned(_text_of(rows), now.languages[i])
            else:
                rows.append((name, now.texts[i]))
        last = ""
        for name, shown in rows:
            if shown != last or name == rows[-1][0]:
                table.add_row(Text(article.id if name == "before" else ""), name, Text(shown))
            last = last if name == "detect" else shown
        table.add_section()
    console.print(table)


def _text_of(rows: Sequence[tuple[str, str]]) -> str:
    """The text of the last row that has one."""
    return next(shown for name, shown in reversed(rows) if name != "detect")


def _cleaned(text: str, language: str) -> list[tuple[str, str]]:
    from photodesk.text import cleaning, spelling

    rows = []
    for step in cleaning.STEPS_2021 if (language or "en") in spelling.LANGUAGES else (cleaning.lower,):
        text = step(text, language or "en")
        rows.append((step.__name__.replace("_", " "), text))
    return rows


def _show_budget(name: str, context: int, articles: Sequence[Article], budgets: Sequence[Budget]) -> None:
    """Lines on stdout: how many articles an encoder cuts, the worst of them by name; the file has all."""
    cut = sorted(
        (b.kept - b.words, article.id, b) for article, b in zip(articles, budgets, strict=True) if b.kept < b.words
    )
    limit = f"reads {context} tokens" if context else "reads long texts in windows"
    click.echo(f"{name}: {limit}; {len(cut)} of {len(articles)} articles are cut")
    for _, article, b in cut[:10]:
        click.echo(f"  {article}: {b.kept} of {b.words} words are read ({b.tokens} tokens)")
    if len(cut) > 10:
        click.echo(f"  … and {len(cut) - 10} more")


def _write(
    out: Path,
    articles: Sequence[Article],
    done: Prepared,
    pairs: dict[str, list[str]],
    label: Sequence[str],
    budgets: dict[str, tuple[Budget, ...]],
) -> None:
    """One JSON object a line, with the columns that `datasets.read` knows and what came of the steps."""
    from photodesk.files import replacing
    from photodesk.text import cleaning

    codes, mappings = {}, {}
    for name in label:
        values = done.languages if name == "language" else [getattr(article, name) for article in articles]
        codes[f"{name}_label"], mappings[name] = cleaning.label(values)
    with replacing(out) as stream:
        for i, article in enumerate(articles):
            record: dict[str, object] = {"id": article.id, "title": done.texts[i], "language": done.languages[i]}
            record |= {
                "original_title": article.title,
                "url": article.url,
                "date": article.date,
                "subset": article.subset,
            }
            if done.confidences:
                record["confidence"] = done.confidences[i]
            if len(pairs.get(article.id, ())) == 1:
                record["photo"] = pairs[article.id][0]
            record |= {name: numbers[i] for name, numbers in codes.items()}
            if budgets:
                record["words"] = len(done.texts[i].split())
                record["words_read"] = {name: one[i].kept for name, one in budgets.items()}
            stream.write(json.dumps(record, ensure_ascii=False) + "\n")
    click.echo(f"{len(articles)} articles in {out}", err=True)
    if mappings:
        labels = out.with_suffix(".labels.json")
        with replacing(labels) as stream:
            json.dump(mappings, stream, ensure_ascii=False, indent=1)
        click.echo(f"what the numbers stand for in {labels}", err=True)
