"""`train`: a T×V network on frozen features."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from photodesk.cli.data import show_data
from photodesk.cli.find import cache_option


@click.command()
@click.argument("data", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--out",
    "-o",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="MODEL",
    help="File of the network, .safetensors.",
)
@click.option("--loss", default="infonce", show_default=True, type=click.Choice(["infonce", "margin"]), help="What is made small.")
@click.option("--epochs", default=8, show_default=True, type=click.IntRange(0), help="At most so many; 0 keeps the warm start.")
@click.option("--dim", default=384, show_default=True, type=click.IntRange(1), help="Numbers per embedding.")
@click.option(
    "--other",
    default=0.03,
    show_default=True,
    type=click.FloatRange(0),
    help="Weight of a pair of the further DATA beside one of the first.",
)
@click.option(
    "--validation",
    default=700,
    show_default=True,
    type=click.IntRange(0),
    help="Pairs of the first DATA that choose the epoch; 0 runs all epochs.",
)
@click.option(
    "--test",
    default=0,
    show_default=True,
    type=click.IntRange(0),
    help="Pairs of the first DATA that are kept apart and only measured at the end.",
)
@click.option("--refit", is_flag=True, help="When the epoch is chosen and measured, train again on every pair and keep that.")
@click.option("--seed", default=0, show_default=True, help="Of the split and of everything random.")
@cache_option
def train(data: tuple[Path, ...], out: Path, validation: int, test: int, refit: bool, cache: Path | None, **options: Any) -> None:
    """Train a T×V network on the built-in model's frozen features.

    The first DATA is what the network is for: validation and test pairs are taken from it, by groups that share no title, URL or
    near-duplicate picture with the rest. Further DATA are trained on as well. One JSON line an epoch on stdout.

    \b
    photodesk train newsimages2025/ flickr8k/ -o bridge.safetensors
    photodesk rank newsimages2025/ --encoder builtin@bridge.safetensors --out run.tsv
    """
    from dataclasses import replace

    from photodesk import datasets, network
    from photodesk import pairs as pairing
    from photodesk import train as training
    from photodesk.cli.progress import bars
    from photodesk.encoders.builtin import towers
    from photodesk.errors import UsageError
    from photodesk.store import Store

    if out.suffix != ".safetensors":
        raise UsageError(f"{out}: a network file ends in .safetensors")
    settings = training.Settings(**options)
    read = [datasets.read(path) for path in data]
    for dataset in read:
        show_data(dataset)
    texts, photos = towers()
    with bars() as progress:
        pairs = pairing.gather(read, texts, photos, Store(cache), progress=progress)
    kept_apart = pairing.held_out(pairs, test, seed=settings.seed)
    rest = pairs.take(~kept_apart)
    chosen = pairing.held_out(rest, validation, seed=settings.seed + 1)
    made = training.train(
        rest.take(~chosen),
        rest.take(chosen) if validation else None,
        (texts.fingerprint, photos.fingerprint),
        settings,
        report=lambda row: click.echo(training.epoch_line(row)),
    )
    card: dict[str, Any] = {**made.card, "data": [f"{dataset.edition}: {len(dataset.pairs)} pairs" for dataset in read]}
    if test:
        card["test_pairs"] = int(kept_apart.sum())
        card["test"] = pairing.measure(made, pairs.take(kept_apart))
        click.echo(training.epoch_line({"test": card["test_pairs"], **card["test"]}))
    if refit:
        click.echo("again, on every pair", err=True)
        made = training.train(pairs, None, (texts.fingerprint, photos.fingerprint), settings, stop=card["epoch"])
        card["pairs"] = len(pairs)
    network.save(replace(made, card=card), out)
    click.echo(f"epoch {card['epoch']} is in {out}", err=True)
