"""The training table: which text features belong with which photo features, and what may be kept apart from what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from photodesk.duplicates import groups
from photodesk.encoders import PhotoTower, TextTower
from photodesk.errors import DataError
from photodesk.network import Network
from photodesk.records import FloatArray
from photodesk.similarity import best_of
from photodesk.text import Preparation

if TYPE_CHECKING:
    from photodesk.datasets import Dataset
    from photodesk.embed import Progress
    from photodesk.store import Store


@dataclass(frozen=True, eq=False)
class Pairs:
    """The training table: which text features belong with which photo features.

    Args:
        texts: (views, n, d_text) float32: each pair's text as title, and as title and tags.
        photos: (m, d_photo) float32 features of the pictures.
        photo: (n,) row in `photos` of each pair.
        group: (n,) equal numbers are never negatives of each other and never split.
        first: (n,) whether the pair is of the first data set, which is also the one validated on.
    """

    texts: FloatArray
    photos: FloatArray
    photo: NDArray[np.int64]
    group: NDArray[np.int64]
    first: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.photo)

    def take(self, chosen: NDArray[np.bool_]) -> Pairs:
        """The pairs for which `chosen` holds; pictures stay."""
        return replace(self, texts=self.texts[:, chosen], photo=self.photo[chosen], group=self.group[chosen], first=self.first[chosen])


def gather(datasets: Sequence[Dataset], texts: TextTower, photos: PhotoTower, store: Store, *, progress: Progress) -> Pairs:
    """Features and groups of every pair whose article has a title and whose picture can be opened.

    Raises:
        DataError: a data set has no such pair.
    """
    parts: list[Pairs] = []
    rows = groups_before = 0
    for number, dataset in enumerate(datasets):
        kept, features, _ = store.photos(dataset.photos, photos, progress=lambda done, of: progress("photos", done, of))
        at = {photo.id: rows + i for i, photo in enumerate(kept)}
        articles = {article.id: article for article in dataset.articles if article.title}
        pairs = [pair for pair in dataset.pairs if pair.article in articles and pair.photo in at]
        if not pairs:
            raise DataError(
                f"data set {number + 1} ({dataset.edition}) has no article with a title whose picture can be opened; see: photodesk check"
            )
        queries = [articles[pair.article] for pair in pairs]
        views = [
            store.texts(Preparation(fields=fields).prepare(queries).texts, texts, progress=lambda done, of: progress("texts", done, of))
            for fields in (("title",), ("title", "tags"))
        ]
        found = groups(dataset)
        group = np.array([groups_before + found.articles[pair.article] for pair in pairs], np.int64)
        photo = np.array([at[pair.photo] for pair in pairs], np.int64)
        parts.append(Pairs(np.stack(views), features, photo, group, np.full(len(pairs), number == 0)))
        rows += len(kept)
        groups_before = int(group.max()) + 1
    return Pairs(
        np.concatenate([part.texts for part in parts], axis=1),
        np.concatenate([part.photos for part in parts]),
        *(np.concatenate([getattr(part, name) for part in parts]) for name in ("photo", "group", "first")),
    )


def held_out(pairs: Pairs, count: int, *, seed: int) -> NDArray[np.bool_]:
    """(n,) which pairs of the first data set to keep apart: whole groups in random order until `count` pairs are reached."""
    order = np.random.default_rng(seed).permutation(np.unique(pairs.group[pairs.first]))
    sizes = np.bincount(pairs.group[pairs.first], minlength=int(pairs.group.max()) + 1)
    chosen = order[: int(np.searchsorted(np.cumsum(sizes[order]), count)) + 1] if count else order[:0]
    return np.isin(pairs.group, chosen) & pairs.first


def measure(network: Network, pairs: Pairs) -> dict[str, float]:
    """R@1, R@10, R@100 and MRR@100 of titles against the pictures of the same pairs, without anything transductive."""
    gallery, right = np.unique(pairs.photo, return_inverse=True)
    photos = network.photos(pairs.photos[gallery])
    ranks = np.zeros(len(pairs), np.int64)
    for start in range(0, len(pairs), 1024):
        scores = network.texts(pairs.texts[0, start : start + 1024]) @ photos.T
        _, columns = best_of(scores, np.broadcast_to(np.arange(len(gallery)), scores.shape), min(100, len(gallery)))
        found = columns == right[start : start + 1024, None]
        ranks[start : start + 1024] = np.where(found.any(axis=1), found.argmax(axis=1) + 1, 0)
    measured = {f"R@{k}": float(np.mean((ranks > 0) & (ranks <= k))) for k in (1, 10, 100)}
    return measured | {"MRR@100": float(np.mean(np.where(ranks > 0, 1 / np.maximum(ranks, 1), 0)))}
