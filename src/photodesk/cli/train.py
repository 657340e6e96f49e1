"""`train`: a T×V network on frozen features."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from photodesk.cli.options import PATH, cache_option, out_option, seed_option, show_data, show_faults
from photodesk.cli.progress import bars

if TYPE_CHECKING:
    from photodesk.encoders.txv import Network
    from photodesk.training.config import Settings
    from photodesk.types import Dataset


def _part(_context: click.Context, parameter: click.Parameter, value: float | None) -> float | None:
    if value is None:
        return None
    if value < 0 or (value > 1 and value != int(value)):
        raise click.BadParameter(f"{value:g}: a number of pairs, or a share below 1", param=parameter)
    return value


@click.command()
@click.argument("data", nargs=-1, type=PATH)
@out_option("MODEL", "File of the network, .safetensors; its card (.md) and plot (.svg) are written next to it.")
@click.option(
    "--encoder",
    "-e",
    "encoders",
    multiple=True,
    default=("builtin",),
    show_default=True,
    metavar="E",
    help="Encoder whose frozen features are used; several give several features (T, V).",
)
@click.option(
    "--fields",
    "-f",
    multiple=True,
    metavar="F+F",
    help="Fields of a text feature, such as title or lead+text; several give several features (T) [default: titles, "
    "and titles with tags].",
)
@click.option(
    "--preset",
    default="default",
    show_default=True,
    type=click.Choice(["default", "straight", "paper2022"]),
    help="default: closed form with landmarks; straight: without landmarks; paper2022: the recipe of the 2022 paper.",
)
@click.option(
    "--picks",
    multiple=True,
    metavar="ARCHIVE",
    type=PATH,
    help="Use the picks of this archive as further DATA, after those named; may be given several times.",
)
@click.option(
    "--pretrain",
    metavar="BIG",
    type=PATH,
    help="Train on this data set first, then fine-tune on DATA.",
)
@click.option(
    "--average",
    is_flag=True,
    help="Train the paper's six configurations and average them (two optimisers, three rates).",
)
@click.option(
    "--weights",
    metavar="W,W",
    help="Weight of a pair of each DATA and --picks; the greatest marks the target domain [default: 1, further ones "
    ".03].",
)
@click.option(
    "--split",
    default="grouped",
    show_default=True,
    metavar="S",
    help="How parts are split: grouped, random, or time:YEAR-MONTH-DAY.",
)
@click.option(
    "--leaks",
    default="error",
    show_default=True,
    type=click.Choice(["error", "keep"]),
    help="What to do if the parts share a title, URL or picture.",
)
@click.option(
    "--validation",
    type=float,
    callback=_part,
    help="Validation pairs, which choose the epoch; below 1 a share; 0 runs all epochs [default: 700, at most a tenth; "
    "0 without epochs].",
)
@click.option(
    "--test",
    default=0,
    show_default=True,
    type=float,
    callback=_part,
    help="Test pairs, which are only evaluated at the end; below 1 a share.",
)
@click.option(
    "--refit", is_flag=True, help="After choosing and evaluating the epoch, train again on every pair and save that."
)
@click.option(
    "--loss",
    type=click.Choice(["infonce", "margin", "margin_all"]),
    help="Loss, instead of the preset's; margin takes the hardest negative of the batch.",
)
@click.option(
    "--epochs",
    type=click.IntRange(0),
    help="Maximum number of epochs, instead of the preset's; 0 keeps the closed form.",
)
@click.option("--dim", type=click.IntRange(1), help="Dimension of a joint space, instead of the preset's.")
@click.option(
    "--precision",
    type=click.Choice(["auto", "bf16", "fp32"]),
    help="Precision of products while training [default: bf16 where the CPU has it].",
)
@click.option(
    "--tensorboard",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="Also log the epochs for TensorBoard.",
)
@seed_option("Random seed of the split and of the training.")
@cache_option
@click.pass_context
def train(
    context: click.Context,
    /,
    data: tuple[Path, ...],
    out: Path,
    encoders: tuple[str, ...],
    fields: tuple[str, ...],
    preset: str,
    picks: tuple[Path, ...],
    pretrain: Path | None,
    weights: str | None,
    split: str,
    tensorboard: Path | None,
    cache: Path | None,
    **options: Any,
) -> None:
    """Train a T×V network on an encoder's frozen features.

    The first DATA is the target domain: validation and test pairs are taken from it. By default no title, URL or
    near-duplicate picture is in two parts. Prints one JSON line per epoch to stdout. A killed training resumes after
    its last epoch when the same command is given again, and ends with the same weights.

    \b
    photodesk train newsimages2025/ flickr8k/ -o bridge.safetensors --test 2000
    photodesk rank newsimages2025/ --encoder txv@bridge.safetensors --out run.tsv
    photodesk train newsimages2025/ --picks desk/ --weights 1,1 -o bridge.safetensors
    photodesk train rss/ rt/ tw/ --weights 1,1,1 --preset paper2022 --split random --validation 0.2 --leaks keep \\
        --encoder openclip:ViT-H-14/laion2b_s32b_b79k --pretrain nytimes800k/ --average -o txv.safetensors
    """
    from photodesk.encoders import registry
    from photodesk.encoders.concatenated import towers
    from photodesk.features.store import Store
    from photodesk.training import model_card, pairs, splits
    from photodesk.training import train as training

    count = len(data) + len(picks)
    how = {name: options.pop(name) for name in ("validation", "test", "leaks", "average", "refit")}
    settings = _settings(out, count, preset, options)
    parts, given = splits.parse(split), (*_weights(weights, count), *((0.0,) if pretrain else ()))
    report = _reporter(tensorboard)
    read = _read(data, picks, pretrain)
    loaded = [registry.load(name) for name in dict.fromkeys(encoders)]
    sets = tuple(tuple(each.split("+")) for each in fields)
    texts, photos = towers(loaded, sets)
    with bars() as progress:
        gathered = pairs.gather(read, texts, photos, Store(cache), weights=given, progress=progress)
    made = training.fit(
        gathered,
        (texts.fingerprint, photos.fingerprint),
        (texts.dims, photos.dims),
        settings,
        split=parts,
        pretrain=count if pretrain else None,
        state=out,
        report=report,
        **how,
    )
    card = {**made.card, **model_card.origin(read, gathered.weights)}
    _write(replace(made, card=card, encoders=tuple(encoder.name for encoder in loaded), fields=sets), out)
    context.exit(1 if show_faults([*(fault for dataset in read for fault in dataset.faults), *gathered.faults]) else 0)


def _settings(out: Path, count: int, preset: str, options: dict[str, Any]) -> Settings:
    """The preset with what was given instead; all that can be refused before anything is read is refused here."""
    from photodesk.errors import UsageError, require
    from photodesk.files import probe
    from photodesk.training.config import PRESETS

    if out.suffix != ".safetensors":
        raise UsageError(f"{out}: a network file ends in .safetensors")
    settings = replace(PRESETS[preset], **{name: value for name, value in options.items() if value is not None})
    if not count:
        raise UsageError("say what to train on: DATA, or --picks ARCHIVE")
    if settings.epochs:
        require("torch", "train")
    probe(out)
    return settings


def _read(data: Sequence[Path], picks: Sequence[Path], pretrain: Path | None) -> list[Dataset]:
    from photodesk.data import datasets

    read = [*map(datasets.read, data), *map(_picked, picks), *([datasets.read(pretrain)] if pretrain else [])]
    for dataset in read:
        show_data(dataset)
    return read


def _write(network: Network, out: Path) -> None:
    """The network, its card and its plot; then the state that a training resumes from goes."""
    from photodesk.encoders import txv
    from photodesk.files import replacing
    from photodesk.training import model_card
    from photodesk.training.train import forget

    txv.save(network, out)
    forget(out)
    with replacing(out.with_suffix(".md")) as stream:
        stream.write(model_card.page(txv.load(out), out.stem))
    card: Any = network.card
    drawn = _drawn(card, out.with_suffix(".svg"))
    what = f"epoch {card['epoch']}" if card.get("settings", {}).get("epochs") else "the closed form"
    click.echo(f"{what} is in {out}; its card is {out.with_suffix('.md')}{drawn}", err=True)
    if not card.get("test"):
        click.echo(
            "what it is worth on new data was not measured; --test 2000 keeps so many pairs apart for that", err=True
        )


def _picked(archive: Path) -> Dataset:
    """The picks of an archive, asked of the server where one holds it."""
    from photodesk.archive.picks import dataset
    from photodesk.cli.archive import commands_of

    with commands_of(archive, "train") as do:
        found = do("pairs", {})
    return dataset(archive, found.data["rows"], found.faults)


def _weights(text: str | None, count: int) -> tuple[float, ...]:
    from photodesk.errors import UsageError
    from photodesk.training.pairs import DEFAULT_WEIGHTS

    if text is None:
        return tuple(DEFAULT_WEIGHTS[min(i, 1)] for i in range(count))
    try:
        found = tuple(float(part) for part in text.split(","))
    except ValueError:
        found = ()
    if len(found) != count or min(found) < 0 or max(found) <= 0:
        raise UsageError(
            f"--weights {text}: expected {count} numbers with commas between, one for each DATA and then for each "
            "--picks, not below 0"
        )
    return found


def _drawn(card: Any, path: Path) -> str:
    from photodesk.files import replacing
    from photodesk.training import model_card

    if not (card.get("settings", {}).get("epochs") or card.get("test") or card.get("validation_pairs")):
        return ""  # a closed form that was not measured: there is nothing to draw
    with replacing(path) as stream:
        stream.write(model_card.plot(card))
    return f", its plot is {path}"


def _reporter(folder: Path | None) -> Callable[[dict[str, Any]], None]:
    """Prints a line an epoch, and writes it for TensorBoard if a folder is named."""
    from photodesk.errors import require
    from photodesk.training.train import epoch_line

    writer = None
    if folder is not None:
        require("tensorboard", "tensorboard")
        writer = require("torch.utils.tensorboard", "train").SummaryWriter(str(folder))

    def report(row: dict[str, Any]) -> None:
        click.echo(epoch_line(row))
        if writer is None:
            return
        for name, value in row.items():
            if isinstance(value, float) and "epoch" in row:
                writer.add_scalar(f"{row.get('stage', 'train')}/{name}", value, row["epoch"])
        writer.flush()

    return report
