"""The model card of a trained network: data, settings, measures; as metadata in its file and as a Markdown page."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping, Sequence
from importlib import metadata
from itertools import cycle
from typing import TYPE_CHECKING, Any

from photodesk.encoders.txv import Network
from photodesk.evaluation import plots, templates

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
    data = card.get("data", [])
    weights = [*card.get("data_weights", []), *[""] * len(data)]
    fields = ", fields " + " | ".join(map("+".join, network.fields))
    chosen = f", {card.get('validation_pairs', 0)} chose epoch {card.get('epoch')}"
    leaks, pretrained = card.get("leaks"), card.get("pretrained")
    remarks = [
        _fill("refit") if card.get("refit") else "",
        _fill("leaks", leaks=", ".join(f"{count} × {kind}" for kind, count in leaks.items())) if leaks else "",
        _fill("pretrained", **pretrained) if pretrained else "",
    ]
    return _fill(
        "card",
        name=name,
        texts=len(network.text_dims),
        photos=len(network.visual_dims),
        dim=network.dim,
        averaged=f", {network.members} trainings averaged" if network.members > 1 else "",
        fingerprint=network.fingerprint,
        encoders=", ".join(f"`{one}`" for one in network.encoders),
        fields=fields if network.fields else "",
        text_tower=network.text_tower,
        photo_tower=network.photo_tower,
        data="".join(
            _fill("data", data=one, mark=mark, weight=weight)
            for one, mark, weight in zip(data, card.get("data_fingerprints", []), weights, strict=False)
        ),
        pairs=card.get("pairs", 0),
        chosen=chosen if card.get("settings", {}).get("epochs") else " in closed form",
        split=card.get("split"),
        seed=card.get("seed"),
        remarks="".join(remarks),
        measured=_fill("tested", pairs=card["test_pairs"], rows=_rows(card)) if card.get("test") else _fill("untested"),
        settings=", ".join(f"{key}={value}" for key, value in card.get("settings", {}).items()),
        versions=", ".join(f"{key} {value}" for key, value in card.get("versions", {}).items()),
    )


def _fill(part: str, **values: object) -> str:
    return templates.parts(__package__, "model_card.md")[part].substitute(values)


def _rows(card: Mapping[str, Any]) -> str:
    """The table of the test measures."""
    ends = {name: "{:.4f} – {:.4f} ".format(*both) for name, both in card.get("test_intervals", {}).items()}
    return "\n".join(f"| {name} | {value:.4f} | {ends.get(name, '')}|" for name, value in card["test"].items())


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
    part = "test" if card.get("test") else "validation"
    found = card["test"] if part == "test" else card["history"][0]
    names = [name for name in measures if name in found]
    intervals = card.get("test_intervals", {}) if part == "test" else {}
    highest = [
        0.0,
        *(found[name] for name in names),
        *(1.05 * intervals[name][1] for name in names if name in intervals),
    ]
    note = f"on {card.get(f'{part}_pairs', 0):,} {part} pairs" + (", with 95 % intervals" if intervals else "")
    panel = plots.Panel(
        plots.Axis.named(names),
        plots.Axis.of(highest, low=0.0),
        "Closed form",
        note if names else "no part was kept apart to measure it on",
        size=(120 * max(len(names), 3), 260),
    )
    for x, (name, colour) in enumerate(zip(names, plots.COLOURS, strict=False)):
        low, high = intervals.get(name, (found[name],) * 2)
        panel.bar(x, found[name], colour, tip=f"{name} {found[name]:.4f} [{low:.4f}; {high:.4f}]")
        panel.line([(x, low), (x, high)], plots.INK)
        for end in (low, high) if high > low else ():
            panel.line([(x - 0.04, end), (x + 0.04, end)], plots.INK)
        panel.text(x, high, f"{found[name]:.3f}")
    return panel
