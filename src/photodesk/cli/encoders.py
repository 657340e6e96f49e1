"""`encoders` and `export`: the models and what they cost here; a model as ONNX."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from photodesk.cli.options import PATH, json_option, out_option, print_json

if TYPE_CHECKING:
    from photodesk.encoders.base import Encoder


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--measure", is_flag=True, help="Load each downloaded model and measure photos and texts per second.")
@json_option
def encoders(names: tuple[str, ...], measure: bool, as_json: bool) -> None:
    """List models that encode texts and photos: size, languages, context, licence, and whether they are downloaded.

    Nothing is downloaded, except a model that is given as NAME. Besides these, every model of open_clip is available
    as openclip:MODEL/TAG, every CLIP and SigLIP of the hub as clip:OWNER/NAME. Options follow a name:
    precision=bf16 (fp16 on a GPU), device=cpu|cuda|mps, compile=yes.

    \b
    photodesk encoders
    photodesk encoders --measure
    photodesk encoders "openclip:ViT-B-32@weights.safetensors, precision=bf16" --measure
    """
    from photodesk.encoders.catalogue import MODELS

    rows = [_named(name, measure) for name in names]
    for model in () if names else MODELS:
        installed = not model.lacks()
        here = installed and model.is_here()
        state = "yes" if here else "not downloaded" if installed else f'pip install "photodesk[{model.extra}]"'
        row: dict[str, Any] = {
            "name": model.name,
            "megabytes": model.megabytes,
            "languages": model.languages,
            "context": model.context,
            "licence": model.licence,
            "here": state,
            "note": model.note,
        }
        if measure and here:
            row |= _speed(model.name)
        rows.append(row)
    if as_json:
        print_json(rows)
    else:
        _table(rows)


def _named(name: str, measure: bool) -> dict[str, Any]:
    """A row for a model that the user names, which is loaded to see that it works."""
    from photodesk.encoders import registry as models
    from photodesk.encoders.catalogue import MODELS

    encoder = models.load(name)
    known = next((model for model in MODELS if model.name == name), None)
    row = {
        "name": name,
        "megabytes": known.megabytes if known else None,
        "languages": known.languages if known else "",
        "context": encoder.texts.context,
        "licence": known.licence if known else "",
        "here": "yes",
        "runs_on": encoder.runs_on,
    }
    return row | (_measured(encoder) if measure else {})


def _speed(name: str) -> dict[str, Any]:
    from photodesk.encoders import registry as models
    from photodesk.errors import PhotodeskError

    click.echo(f"measuring {name} …", err=True)
    try:
        return _measured(models.load(name))
    except PhotodeskError as error:  # one model that fails must not cost the table
        click.echo(f"photodesk: {error}", err=True)
        return {"here": "fails"}


def _measured(encoder: Encoder, photos: int = 64, texts: int = 128) -> dict[str, Any]:
    """Photos and texts a second, as `rank` would encode them: from files, through the store, after one batch of each to
    warm up."""
    import tempfile
    import time

    from photodesk.encoders.mixed import SENTENCES
    from photodesk.encoders.onnx_export import scene
    from photodesk.features.store import Store
    from photodesk.types import Photo

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        files = [folder / f"{i}.jpg" for i in range(photos + encoder.photos.batch)]
        for i, path in enumerate(files):
            scene(i).save(path, quality=90)
        pictures = [Photo(path.name, path) for path in files]
        headlines = [(f"{SENTENCES[i % len(SENTENCES)]} {i}",) for i in range(texts + 8)]
        store = Store(folder / "store")
        store.photos(pictures[photos:], encoder.photos)
        store.texts(headlines[texts:], encoder.texts)
        marks = [time.perf_counter()]
        store.photos(pictures[:photos], encoder.photos)
        marks.append(time.perf_counter())
        store.texts(headlines[:texts], encoder.texts)
        marks.append(time.perf_counter())
    return {
        "photos_per_s": round(photos / (marks[1] - marks[0]), 1),
        "texts_per_s": round(texts / (marks[2] - marks[1]), 1),
        "runs_on": encoder.runs_on,
    }


def _table(rows: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    heads = {
        "name": "encoder",
        "megabytes": "MB",
        "languages": "languages",
        "context": "context",
        "licence": "licence",
        "here": "here",
        "note": "note",
        "photos_per_s": "photos/s",
        "texts_per_s": "texts/s",
        "runs_on": "runs on",
    }
    shown = [key for key in heads if any(row.get(key) not in (None, "") for row in rows)]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for key in shown:
        table.add_column(
            heads[key],
            justify="right" if key in ("megabytes", "context", "photos_per_s", "texts_per_s") else "left",
            overflow="fold",
        )
    for row in rows:
        cells = {key: "" if row.get(key) is None else str(row[key]) for key in shown}
        if row["context"] == 0:
            cells["context"] = "all"
        cells["name"] = cells["name"].replace(", image=", ",\nimage=")
        table.add_row(*cells.values())
    console = Console()
    wide = console if console.is_terminal else Console(width=220)
    wide.print(table, highlight=False, markup=False)


@click.command()
@click.argument("name", metavar="openclip:MODEL/TAG")
@out_option("DIR", "Folder of the export.", click.Path(path_type=Path, file_okay=False))
@click.option(
    "--precision",
    default="both",
    show_default=True,
    type=click.Choice(["both", "fp32", "int8"]),
    help="Precisions to write.",
)
@click.option(
    "--photos",
    type=PATH,
    metavar="DIR",
    help="A hundred photos for the comparison [default: generated pictures].",
)
def export(name: str, out: Path, precision: str, photos: Path | None) -> None:
    """Write an open_clip model as ONNX that runs without torch, in fp32 and int8.

    The export is compared with its original on a hundred photos and some texts. If any cosine is below 0.99, nothing is
    written. Use it with: --encoder onnx:DIR, or --encoder "onnx:DIR, precision=int8".

    \b
    photodesk export openclip:ViT-B-32/laion2b_s34b_b79k -o vitb32 --photos pictures/
    """
    from photodesk.data.datasets import gallery
    from photodesk.encoders import onnx_export as exporting

    found = gallery(photos)[0] if photos else ()
    precisions = ["fp32", "int8"] if precision == "both" else [precision]
    card = exporting.export(name, out, precisions=precisions, photos=found)
    for made, cosines in card["least_cosine"].items():
        size = sum(
            (out / file).stat().st_size
            for file in card["files"]
            if ("int8" in file) == (made == "int8") and file != "tokenizer.json"
        )
        least = ", ".join(f"{tower} {cosine:.4f}" for tower, cosine in cosines.items())
        click.echo(
            f"{made}: {size / 1e6:,.0f} MB; least cosine to the original: {least} ({card['compared_on']})", err=True
        )
    click.echo(f"export in {out}; use it with --encoder onnx:{out}", err=True)
