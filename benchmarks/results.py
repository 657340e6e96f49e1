"""The table of results on NewsImages 2025: revisions, the T×V network, word limits and fields, on pairs that no network
here has seen.

    python benchmarks/results.py newsimages2025/ [--network bridge.safetensors] [--choose] [--out results.json]

2,000 pairs are kept apart in groups that share no title, URL or near-duplicate picture with the rest (the part of
`photodesk train --test 2000`, seed 0), and ranked against their own 2,000 pictures. Networks are trained on the rest; a
ready one has to be trained with the same part apart. The built-in towers share no space without a network, so "cosine"
is that of the simplest one, two matrices in closed form, and "T×V" that of the network as it is shipped. --choose
selects the settings of the recipe own-best on a fifth of the rest, without using the 2,000.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from itertools import product
from pathlib import Path

from photodesk.data import datasets
from photodesk.encoders import txv
from photodesk.encoders.registry import load
from photodesk.evaluation import significance
from photodesk.evaluation.metrics import parse_all
from photodesk.evaluation.tables import Table
from photodesk.features.store import Store
from photodesk.recipes import schema
from photodesk.recipes.run import Outcome, Runner
from photodesk.recipes.schema import Encoders, Net, Recipe, Revise, Texts

MEASURES = parse_all(["R@1", "R@10", "R@100", "MRR@100"])
TITLE, TAGS = Texts(("title",)), Texts(("title", "tags"))
SOFTMAX, NEAREST = "dual_softmax(temperature=1)", "nnn(k=128, alpha=0.75)"
CANDIDATES = [
    *(f"dual_softmax(temperature={t})" for t in (0.02, 0.05, 0.1, 1)),
    *(f"inverted_softmax(beta={b})" for b in (5, 20, 50)),
    *(f"nnn(k={k}, alpha={a})" for k in (16, 128) for a in (0.25, 0.5, 0.75, 1)),
]


def rows(encoder: str) -> dict[str, tuple[str, Texts, Revise | None]]:
    """Name → (preset of the network, texts, revision)."""
    closed = {
        "cosine": None,
        "dual softmax (batch)": Revise(SOFTMAX, "batch"),
        "dual softmax (bank)": Revise(SOFTMAX, "rest"),
        "NNN (batch)": Revise(NEAREST, "batch"),
        "NNN (bank)": Revise(NEAREST, "rest"),
    }
    found: dict[str, tuple[str, Texts, Revise | None]] = {
        name: ("straight", TITLE, how) for name, how in closed.items()
    }
    found["T×V"] = ("default", TITLE, None)
    found["T×V + DS (batch)"] = ("default", TITLE, Revise(SOFTMAX, "batch"))
    found["T×V + DS (bank)"] = ("default", TITLE, Revise(SOFTMAX, "rest"))
    found["T×V + NNN (bank)"] = ("default", TITLE, Revise(NEAREST, "rest"))
    found["T×V, title + tags"] = ("default", TAGS, None)
    for limit in (10, 20, 30, 40):
        found[f"T×V, title + tags, {limit} words"] = ("default", replace(TAGS, words=(limit,)), None)
    found["T×V, title + tags, mean of 10, 20, 30, 40"] = ("default", replace(TAGS, words=(10, 20, 30, 40)), None)
    return found


def table(
    runner: Runner, base: Recipe, plan: dict[str, tuple[str, Texts, Revise | None]], ready: dict[str, txv.Network]
) -> list[Outcome]:
    """Run every row; networks are trained once, on titles alone and titles with tags, and serve all texts."""
    done = []
    for name, (preset, texts, revision) in plan.items():
        one = replace(base, texts=texts, revision=revision, network=Net(preset, split="grouped:700"))
        trainer = replace(one, texts=TITLE, revision=None)
        if preset not in ready:
            made = runner.network_of(trainer, one.encoders.names[0])
            assert made is not None
            ready[preset] = made
            print(
                f"{preset}: epoch {made.card.get('epoch')} kept, {made.card.get('pairs')} pairs trained on", flush=True
            )
        done.append(replace(runner, network=ready[preset]).run(one, name))
        print(f"{name}: MRR@100 {done[-1].report.mean('MRR@100'):.4f}", flush=True)
    return done


def short(done: list[Outcome], hubs: list[float]) -> Table:
    """Three digits, and the interval of MRR@100 alone."""
    found = []
    for one, hub in zip(done, hubs, strict=True):
        low, high = one.report.interval("MRR@100")
        means = [f"{one.report.mean(measure):.3f}" for measure in MEASURES]
        name = one.run.name + (" (transductive)" if one.run.transductive else "")
        found.append((name, *means[:3], f"{means[3]} [{low:.3f}; {high:.3f}]", f"{hub:.2f}"))
    return Table("", ("run", *map(str, MEASURES), "hubness@10"), tuple(found))


def choose(runner: Runner, base: Recipe) -> None:
    """Which network, texts and revision with a bank own-best should take: a fifth of the rest is measured, four fifths
    train and are the bank."""
    inner = Runner(runner.parts(base).rest, runner.store)
    small = replace(base, data=replace(base.data, test="grouped:0.2", seed=1))
    averaged = [replace(TAGS, words=limits) for limits in ((10, 40), (10, 20, 30, 40))]
    for preset, texts in product(("default", "straight"), (TITLE, TAGS, *averaged)):
        trials = []
        for method in ("cosine", *CANDIDATES):
            net = Net(preset, split="grouped:700")
            one = replace(
                small, texts=texts, network=net, revision=None if method == "cosine" else Revise(method, "rest")
            )
            trials.append((inner.run(one, method).report.mean("MRR@100"), method))
        pairs = len(inner.parts(small).test.pairs)
        for value, method in [*sorted(trials, reverse=True)[:5], trials[0]]:
            print(
                f"{preset}, {'+'.join(texts.fields)} {list(texts.words) or ''}, {method}: MRR@100 {value:.4f} on "
                f"{pairs} validation pairs",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--network", type=Path)
    parser.add_argument("--encoder", default="builtin")
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--choose", action="store_true")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    started = time.monotonic()
    base = schema.read("own-best")
    base = replace(base, encoders=Encoders((options.encoder,)), revision=None)
    runner = Runner(datasets.read(options.data), Store(options.cache))
    if options.choose:
        choose(runner, base)
        return
    ready = {}
    if options.network:
        ready["default"] = txv.load(options.network)
        if ready["default"].card.get("test_pairs") != len(runner.parts(base).test.pairs):
            print(
                f"caution: {options.network} does not say that the {len(runner.parts(base).test.pairs)} pairs were "
                "kept apart",
                flush=True,
            )
    done = table(runner, base, rows(options.encoder), ready)
    gallery = [photo.id for photo in runner.parts(base).test.photos]
    hubs = [significance.hubness(one.run, gallery) for one in done]
    made = significance.runs_table([one.report for one in done], hubs, MEASURES)
    same = ready["straight"].card.get("epoch") == ready["default"].card.get("epoch")
    note = "; the training kept its start, so T×V is the closed form" if same and not options.network else ""
    title = f"{load(options.encoder).name}, {len(gallery):,} pairs of {runner.dataset.edition} kept apart{note}"
    print(Table(title, made.head, made.rows).markdown())
    print("\nin short, for the README:\n\n" + short(done, hubs).markdown().strip() + "\n")
    seconds = time.monotonic() - started
    print(f"{seconds:.0f} s")
    if options.out:
        found = {one.run.name: one.report.as_json() | {"hubness@10": hub} for one, hub in zip(done, hubs, strict=True)}
        options.out.write_text(
            json.dumps({"title": title, "seconds": seconds, "rows": found}, ensure_ascii=False, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()
