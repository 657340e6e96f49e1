"""The model card of a trained network: data, settings, measures; as metadata in its file and as a Markdown page."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping, Sequence
from importlib import metadata
from itertools import cycle
from typing import TYPE_CHECKING, Any

from photodesk.encoders.txv import Network
from photodesk.evaluation import plots

if TYPE_CHECKING:
    from photodesk.types import Dataset

LIBRARIES = ("photodesk", "numpy", "torch", "onnxruntime", "safetensors")


def origin(datasets: Sequence[Dataset], weights: Sequence[float] = ()) -> dict[str, Any]:
    """The data sets of a training with their fingerprints and weights, and the versions of the libraries."""
    versions = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {
        "data": [f"{dataset.edition}: {len(dataset.pairs)} pairs" for dataset in datasets],
        "data_fingerprints": [fingerprint(dataset) for dataset in datasets],
        "data_weights": list(weights),
        "versions": versions,
    }


def fingerprint(dataset: Dataset) -> str:
    """Digest of the articles, the pairs and the sizes of the pictures of a data set."""
    content = hashlib.sha256()
    for article in dataset.articles:
        content.update(repr((article.id, article.title, article.lead, article.text, article.tags)).encode())
    for pair in dataset.pairs:
        content.update(repr((pair.article, pair.photo)).encode())
    for photo in dataset.photos:
        content.update(repr((photo.id, photo.path.stat().st_size if photo.path.exists() else -1)).encode())
    return content.hexdigest()[:16]


def page(network: Network, name: str) -> str:
    """The card as Markdown."""
    card: Mapping[str, Any] = network.card
    spaces = f"{len(network.text_dims)} text and {len(network.visual_dims)} photo features"
    lines = [
        f"# {name}",
        "",
        f"A T×V network of photodesk: {spaces}, {network.dim} numbers per embedding"
        + (f", {network.members} trainings averaged" if network.members > 1 else "")
        + f". Fingerprint `{network.fingerprint}`. Use it with `--encoder txv@{name}.safetensors`.",
        "",
        "## Trained on",
        "",
        f"Frozen features of {', '.join(f'`{one}`' for one in network.encoders)}"
        + (f", fields {' | '.join('+'.join(names) for names in network.fields)}" if network.fields else "")
        + f": texts `{network.text_tower}`, photos `{network.photo_tower}`.",
        "",
        "| data set | fingerprint | weight |",
        "|---|---|---|",
    ]
    weights = [*card.get("data_weights", []), *[""] * len(card.get("data", []))]
    lines += [
        f"| {data} | `{mark}` | {weight} |"
        for data, mark, weight in zip(card.get("data", []), card.get("data_fingerprints", []), weights, strict=False)
    ]
    epochs = card.get("settings", {}).get("epochs")
    chosen = f", {card.get('validation_pairs', 0)} chose epoch {card.get('epoch')}" if epochs else " in closed form"
    split = f"split `{card.get('split')}`, seed {card.get('seed')}."
    lines += ["", f"{card.get('pairs', 0)} pairs were trained on{chosen}; {split}"]
    if card.get("refit"):
        lines += [
            "The weights were then trained again on every pair, as they were found best: the figures below are of the "
            "ones before."
        ]
    if leaks := card.get("leaks"):
        found = ", ".join(f"{count} × {kind}" for kind, count in leaks.items())
        lines += [f"**The split leaks** ({found}): the figures are kinder than those on new data."]
    if before := card.get("pretrained"):
        lines += [f"Pre-trained on {before['pairs']} pairs, epoch {before['epoch']}."]
    lines += ["", "## Measured", ""]
    if test := card.get("test"):
        intervals = card.get("test_intervals", {})
        lines += [
            f"Texts against the pictures of the {card['test_pairs']} test pairs, which nothing was chosen by; nothing "
            "transductive.",
            "",
            "| measure | value | 95 % interval |",
            "|---|---|---|",
            *(
                f"| {measure} | {value:.4f} | "
                + (f"{intervals[measure][0]:.4f} – {intervals[measure][1]:.4f} |" if measure in intervals else "|")
                for measure, value in test.items()
            ),
        ]
    else:
        lines += ["No part was kept apart for a test (`--test 2000`): what it is worth on new data is not known."]
    settings = ", ".join(f"{key}={value}" for key, value in card.get("settings", {}).items())
    versions = ", ".join(f"{key} {value}" for key, value in card.get("versions", {}).items())
    lines += ["", "## How", "", f"Settings: {settings}.", "", f"Versions: {versions}.", ""]
    return "\n".join(lines)


def plot(card: Mapping[str, Any], measures: Sequence[str] = ("R@10", "R@100", "MRR@100")) -> str:
    """SVG of loss and validation measures by epoch, a line per member of an average; for the closed form, measures on
    the test or else the validation part, with intervals."""
    members = card.get("members") or [{"name": "", **card}]
    if any(len(member["history"]) > 1 for member in members):
        return plots.svg("Training by epoch", *_curves(members, measures))
    return plots.svg("Measures of a closed form", _bars(card, measures))


def _curves(members: Sequence[Mapping[str, Any]], measures: Sequence[str]) -> list[plots.Panel]:
    """Loss, and the validation measures where there are any."""
    epochs = plots.Axis.of((row["epoch"] for one in members for row in one["history"]), "epoch", step=1)
    losses = [[(row["epoch"], row["loss"]) for row in one["history"] if row["loss"] is not None] for one in members]
    left = plots.Panel(
        epochs, plots.Axis.of(loss for line in losses for _, loss in line), "Loss on the training part", size=(360, 260)
    )
    for member, line, colour in zip(members, losses, cycle(plots.COLOURS), strict=False):
        _series(left, line, colour)
        left.legend(member["name"] or "training loss", colour)
    seen = [name for name in measures if any(name in row for one in members for row in one["history"])]
    if not seen:
        return [left]
    values = (row[name] for one in members for row in one["history"] for name in seen if name in row)
    right = plots.Panel(epochs, plots.Axis.of(values), "Validation part (○ the epoch kept)", size=(360, 260))
    for name, colour in zip(seen, plots.COLOURS, strict=False):
        right.legend(name, colour)
        lines = [[(row["epoch"], row[name]) for row in one["history"] if name in row] for one in members]
        for member, line in zip(members, lines, strict=True):
            for kept in (point for point in line if point[0] == member["epoch"]):
                right.point(*kept, colour, hollow=True, radius=7)
        for line in lines:
            _series(right, line, colour)
    return [left, right]


def _series(panel: plots.Panel, line: Sequence[plots.Point], colour: str) -> None:
    panel.line(line, colour)
    for x, y in line:
        panel.point(x, y, colour, radius=2.5, tip=f"epoch {x:g}: {y:.4f}")


def _bars(card: Mapping[str, Any], measures: Sequence[str]) -> plots.Panel:
    found, part = (card["test"], "test") if card.get("test") else (card["history"][0], "validation")
    there = [name for name in measures if name in found]
    intervals = {name: ends for name, ends in card.get("test_intervals", {}).items() if part == "test"}
    highest = [
        0.0,
        *(found[name] for name in there),
        *(1.05 * intervals[name][1] for name in there if name in intervals),
    ]
    panel = plots.Panel(
        plots.Axis.named(there),
        plots.Axis.of(highest, low=0.0),
        "Closed form",
        f"on {card.get(f'{part}_pairs', 0):,} {part} pairs" + (", with 95 % intervals" if intervals else "")
        if there
        else "no part was kept apart to measure it on",
        size=(120 * max(len(there), 3), 260),
    )
    for x, (name, colour) in enumerate(zip(there, plots.COLOURS, strict=False)):
        low, high = intervals.get(name, (found[name],) * 2)
        panel.bar(x, found[name], colour, tip=f"{name} {found[name]:.4f} [{low:.4f}; {high:.4f}]")
        panel.line([(x, low), (x, high)], plots.INK)
        for end in (low, high) if high > low else ():
            panel.line([(x - 0.04, end), (x + 0.04, end)], plots.INK)
        panel.text(x, high, f"{found[name]:.3f}")
    return panel
