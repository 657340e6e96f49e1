"""The model card of a trained network: what it was trained on, how, how good it is; as data in its file and as a page
beside it."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import TYPE_CHECKING, Any

import numpy as np

from photodesk.encoders.txv import Network
from photodesk.errors import require

if TYPE_CHECKING:
    from photodesk.types import Dataset

LIBRARIES = ("photodesk", "numpy", "torch", "onnxruntime", "safetensors")


def origin(datasets: Sequence[Dataset], weights: Sequence[float] = ()) -> dict[str, Any]:
    """What a network was trained with: every data set with its fingerprint, and the versions of the libraries."""
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
    """Changes with any article, any pair, and the size of any picture of a data set."""
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
    descended = card.get("settings", {}).get("epochs")
    chosen = f", {card.get('validation_pairs', 0)} chose epoch {card.get('epoch')}" if descended else " in closed form"
    lines += ["", f"{card.get('pairs', 0)} pairs were trained on{chosen}; "]
    lines[-1] += f"split `{card.get('split')}`, seed {card.get('seed')}."
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
    """The training as SVG: loss and validation measures by epoch, a line for each member of an average; of a closed
    form, which has no
    epochs, the measures on the test or else the validation part, with their intervals.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    require("matplotlib", "train")
    import io

    import matplotlib as mpl
    from matplotlib.figure import Figure

    members = card.get("members") or [{"name": "", **card}]
    descended = any(len(member["history"]) > 1 for member in members)
    with mpl.rc_context({"svg.hashsalt": "photodesk"}):
        figure = Figure(figsize=(9 if descended else 5, 3.6), layout="constrained")
        if descended:
            left, right = figure.subplots(1, 2)
            _curves(left, right, members, measures)
        else:
            _bars(figure.subplots(), card, measures)
        stream = io.StringIO()
        figure.savefig(stream, format="svg", metadata={"Date": None})
    return stream.getvalue()


def _curves(left: Any, right: Any, members: Sequence[Mapping[str, Any]], measures: Sequence[str]) -> None:
    for member in members:
        rows = member["history"]
        losses = [(row["epoch"], row["loss"]) for row in rows if row["loss"] is not None]
        if losses:
            left.plot(*zip(*losses, strict=True), marker=".", label=member["name"] or "training loss")
        for number, measure in enumerate(measures):
            values = [(row["epoch"], row[measure]) for row in rows if measure in row]
            if values:
                (line,) = right.plot(
                    *zip(*values, strict=True),
                    marker=".",
                    color=f"C{number}",
                    label=measure if member is members[0] else None,
                )
                best = values[int(np.argmax([row["epoch"] == member["epoch"] for row in rows if measure in row]))]
                right.plot(*best, marker="o", color=line.get_color(), markersize=8, fillstyle="none")
    for axes, title in ((left, "Loss on the training part"), (right, "Validation part (○ the epoch kept)")):
        axes.set(title=title, xlabel="epoch")
        axes.grid(alpha=0.3)
        axes.xaxis.get_major_locator().set_params(integer=True)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize="small")


def _bars(axes: Any, card: Mapping[str, Any], measures: Sequence[str]) -> None:
    found, part = (card["test"], "test") if card.get("test") else (card["history"][0], "validation")
    there = [measure for measure in measures if measure in found]
    intervals = card.get("test_intervals", {}) if part == "test" else {}
    reach = np.array([np.abs(np.array(intervals.get(m, (found[m],) * 2)) - found[m]) for m in there]).reshape(-1, 2).T
    axes.bar(
        there, [found[measure] for measure in there], yerr=reach, capsize=4, color=[f"C{i}" for i in range(len(there))]
    )
    for measure in there:
        axes.annotate(
            f"{found[measure]:.3f}", (measure, 0), (0, 4), textcoords="offset points", ha="center", color="white"
        )
    count = card.get(f"{part}_pairs", 0)
    axes.set(
        title=f"Closed form, on {count:,} {part} pairs"
        if there
        else "Closed form; no part was kept apart to measure it on"
    )
    axes.grid(alpha=0.3, axis="y")
