"""Pairs that an encoder was not trained on → its `Confidence`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from photodesk.encoders.registry import Encoder
from photodesk.errors import DataError, UsageError
from photodesk.features.embed import photo_rows
from photodesk.features.store import Store
from photodesk.search import confidence
from photodesk.search.confidence import Background, Confidence
from photodesk.training import pairs, splits
from photodesk.training.pairs import Pairs

if TYPE_CHECKING:
    from photodesk.data.datasets import Dataset
    from photodesk.features.embed import Progress

FEWEST = 100
"""Pairs below which nothing can be said."""
NEAR = 0.004
"""Measures that differ by less are the same but for rounding."""


def calibrate(
    datasets: Sequence[Dataset],
    encoder: Encoder,
    use: Encoder | None = None,
    store: Store | None = None,
    *,
    seed: int = 0,
    progress: Progress = lambda stage, done, of: None,
) -> Confidence:
    """Fit and measure the confidence of an encoder.

    Args:
        datasets: with pairs; of a trained network the same as in its training, for the part that it kept apart is used.
        encoder: whose scores.
        use: who will use the curve: the same training on more pairs, as `train --refit` makes it; None is `encoder`.
        store: where features are kept.
        seed: of the halves and galleries.
        progress: called with ("photos" or "texts", done, of).

    Raises:
        UsageError: the network kept no pairs apart, or was trained on other data.
        DataError: too few pairs.
    """
    use = use or encoder
    found = pairs.gather(datasets, encoder.texts, encoder.photos, store or Store(), progress=progress)
    apart = found.take(_apart(found, encoder))
    if len(apart) < FEWEST:
        raise DataError(f"{len(apart)} pairs are left to calibrate on; {FEWEST} are the least that says anything")
    at = np.arange(len(apart))
    features = apart.text_rows(at)
    texts = encoder.network.texts(features) if encoder.network else features
    about = {
        "data": ", ".join(f"{dataset.edition}: {len(dataset.pairs)} pairs" for dataset in datasets),
        "network": encoder.fingerprint,
        "measured": f"{len(apart)} pairs that it was not trained on, half of them for the fit",
    }
    photos = apart.photo_rows(apart.photo)
    made = confidence.fit(texts, photo_rows(photos, encoder), apart.group, fingerprint=use.fingerprint, seed=seed, about=about)
    if use.fingerprint == encoder.fingerprint:
        return made
    return replace(made, background=Background.of(photo_rows(photos, use)))


def _apart(found: Pairs, encoder: Encoder) -> splits.Mask:
    """(n,) which pairs the encoder was not trained on; the measures on the network's card are the proof."""
    network = encoder.network
    if network is None:
        return found.main
    card = network.card
    test = card.get("test")
    if not card.get("test_pairs") or not isinstance(test, dict):
        raise UsageError(f"{encoder.name} kept no pairs apart when it was trained; train it with: photodesk train … --test 2000")
    if card.get("refit"):
        raise UsageError(f"{encoder.name} was trained again on every pair; name the network without --refit, and this one with --for")
    # whole groups make up the part, so asking for its size gives the same groups again
    size, split, seed = int(str(card["test_pairs"])), splits.parse(str(card.get("split") or "grouped")), int(str(card.get("seed") or 0))
    _, _, tested = splits.divide(found, split, validation=0, test=size, seed=seed)
    measured = pairs.measure(network, found.take(tested))
    if int(tested.sum()) != size or any(abs(measured[name] - value) > NEAR for name, value in test.items() if name in measured):
        raise UsageError(
            f"{encoder.name} was trained on other data than this: the part that it should have kept apart has not the measures that its card "
            "names; name the same DATA in the same order as in its training"
        )
    return tested
