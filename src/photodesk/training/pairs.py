"""The training table: pairs of text and photo features, which are read from the store on demand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import compress
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from photodesk.data.groups import groups, title_key, url_key
from photodesk.encoders.base import PhotoTower, TextTower
from photodesk.errors import DataError
from photodesk.features.embed import prepared
from photodesk.ranking.topk import best_of
from photodesk.text.preparation import Preparation
from photodesk.training.config import BACK, FORTH
from photodesk.types import Article, Fault, FloatArray, Pair, Progress, silent

if TYPE_CHECKING:
    from photodesk.encoders.txv import Network
    from photodesk.features.store import Store
    from photodesk.types import Dataset

VIEWS = (("title",), ("title", "tags"))
"""Fields of the texts that a network of titles is trained on."""

DEFAULT_WEIGHTS = (1.0, 0.03)
"""Of a pair of the first data set, and of each further one."""

BLOCK = 8192  # rows in memory at once


class Rows(Protocol):
    """Feature rows, in memory or on disk (`shards.StoredRows`), read by index array."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(rows, dimensions)."""
        ...

    def __getitem__(self, which: Any, /) -> FloatArray: ...


@dataclass(frozen=True, eq=False)
class Pairs:
    """The training table: n pairs of a text and a picture.

    Args:
        texts: for each view the (rows, d_text) features.
        text: (views, n) row of each pair's text in each view.
        photos: (m, d_photo) features of the pictures.
        photo: (n,) row of each pair's picture in `photos`.
        group: (n,) pairs of one group are not negatives of each other, and `grouped` never splits them.
        source: (n,) number of each pair's data set.
        weights: weight of a pair of each data set. The main data sets are those of the greatest weight; validation and
            test pairs are drawn from them.
        facts: (n,) for the check of leakage.
        faults: pictures that cannot be opened and articles without text; their pairs are left out.
    """

    texts: tuple[Rows, ...]
    text: NDArray[np.int64]
    photos: Rows
    photo: NDArray[np.int64]
    group: NDArray[np.int64]
    source: NDArray[np.int64]
    weights: tuple[float, ...] = (1.0,)
    facts: tuple[Fact, ...] = field(default=(), repr=False)
    faults: tuple[Fault, ...] = ()

    def __len__(self) -> int:
        return len(self.photo)

    @property
    def main(self) -> NDArray[np.bool_]:
        """(n,) whether the pair is of a main data set."""
        main: NDArray[np.bool_] = np.asarray(self.weights)[self.source] == max(self.weights)
        return main

    def take(self, chosen: NDArray[np.bool_]) -> Pairs:
        """The pairs for which `chosen` holds, in order; feature rows are not touched."""
        return replace(
            self,
            text=self.text[:, chosen],
            photo=self.photo[chosen],
            group=self.group[chosen],
            source=self.source[chosen],
            facts=tuple(compress(self.facts, chosen)),
        )

    def text_rows(self, at: NDArray[np.int64], view: int = 0) -> FloatArray:
        """(k, d_text) features of the texts of the pairs `at`."""
        return np.asarray(self.texts[view][self.text[view, at]], np.float32)

    def photo_rows(self, at: NDArray[np.int64]) -> FloatArray:
        """(k, d_photo) features of the pictures at rows `at` of `photos`."""
        return np.asarray(self.photos[at], np.float32)


@dataclass(frozen=True, slots=True)
class Fact:
    """What a pair may share with others.

    Args:
        where: the article's `file:line`, or its id.
        date: of the article, as in its file.
        title: key of the title by `groups.title_key`; url likewise.
        photo: id of the picture.
        alike: its cluster of near-duplicate pictures.
    """

    where: str
    date: str
    title: str
    url: str
    photo: str
    alike: str


def gather(
    datasets: Sequence[Dataset],
    texts: TextTower,
    photos: PhotoTower,
    store: Store,
    *,
    weights: Sequence[float] = (),
    preparation: Preparation | None = None,
    progress: Progress = silent,
) -> Pairs:
    """Features and groups of every pair whose article has text and whose picture can be opened.

    Args:
        datasets: one or more; they may share ids.
        texts: the text tower.
        photos: the photo tower.
        store: where features are kept.
        weights: of a pair of each data set; missing ones are 1 for the first and 0.03 for others.
        preparation: how articles become texts; fields other than the title alone replace the views.
        progress: called with (stage, done, of); stages are "hashes", "photos" and "texts", or "texts, title" for each
            of several views.

    Raises:
        DataError: a data set has no such pair.
    """
    preparation = preparation or Preparation()
    weights = (*weights, *(DEFAULT_WEIGHTS[min(i, 1)] for i in range(len(weights), len(datasets))))
    merged = _merged(datasets)
    found = groups(merged, prints=store.prints(merged.photos, progress=progress))
    articles = {article.id: article for article in merged.articles}
    queries = [articles[pair.article] for pair in merged.pairs]
    views = {view: prepared(queries, view, texts)[0] for view in _views(preparation, texts)}
    readable = [any(text) for text in next(iter(views.values()))]
    kept, features, faults = store.photo_rows(merged.photos, photos, progress=progress)
    row = {photo.id: i for i, photo in enumerate(kept)}
    good = [text and pair.photo in row for pair, text in zip(merged.pairs, readable, strict=True)]
    pairs = list(compress(merged.pairs, good))
    source = np.array([int(pair.photo.partition("/")[0]) for pair in pairs], np.int64)
    for number, dataset in enumerate(datasets):
        if number not in source:
            raise DataError(
                f"data set {number + 1} ({dataset.edition}) has no article with a title whose picture can be opened; "
                "see: photodesk check"
            )
    stored = []
    for view, every in views.items():
        stage = "texts" if len(views) == 1 else f"texts, {'+'.join(view.fields)}"
        stored.append(store.text_rows(list(compress(every, good)), texts, stage=stage, progress=progress))
    empty = dict.fromkeys(pair.article for pair, text in zip(merged.pairs, readable, strict=True) if not text)
    return Pairs(
        tuple(stored),
        np.tile(np.arange(len(pairs)), (len(stored), 1)),
        features,
        np.array([row[pair.photo] for pair in pairs], np.int64),
        np.array([found.articles[pair.article] for pair in pairs], np.int64),
        source,
        weights,
        tuple(_fact(articles[pair.article], pair.photo, found.alike[pair.photo]) for pair in pairs),
        (*faults, *(_empty(articles[name]) for name in empty)),
    )


def _empty(article: Article) -> Fault:
    what, advice = f"nothing to read: article {article.id.partition('/')[2]}", "give it a title, or leave it out"
    return Fault("article-empty", article.where, what, "left out", advice)


def _merged(datasets: Sequence[Dataset]) -> Dataset:
    """All as one data set; the number of the data set is put before each id, so that ids stay unique."""
    articles = [
        replace(a, id=f"{n}/{a.id}", where=a.where or a.id)
        for n, dataset in enumerate(datasets)
        for a in dataset.articles
    ]
    photos = [replace(photo, id=f"{n}/{photo.id}") for n, dataset in enumerate(datasets) for photo in dataset.photos]
    pairs = [
        Pair(f"{n}/{pair.article}", f"{n}/{pair.photo}") for n, dataset in enumerate(datasets) for pair in dataset.pairs
    ]
    known, shown = {article.id for article in articles}, {photo.id for photo in photos}
    here = tuple(pair for pair in pairs if pair.article in known and pair.photo in shown)
    return replace(datasets[0], articles=tuple(articles), photos=tuple(photos), pairs=here)


def _views(preparation: Preparation, texts: TextTower) -> list[Preparation]:
    """A network of titles also learns titles with tags; one of other fields learns these alone."""
    if preparation.fields == ("title",) and not texts.fields:
        return [replace(preparation, fields=fields) for fields in VIEWS]
    return [preparation]


def _fact(article: Article, photo: str, alike: str) -> Fact:
    return Fact(article.where, article.date, title_key(article.title), url_key(article.url), photo, alike)


def measure(network: Network, pairs: Pairs) -> dict[str, float]:
    """`measures` of the ranks of a network."""
    return measures(*ranks(network, pairs))


def measures(forth: NDArray[np.int64], back: NDArray[np.int64]) -> dict[str, float]:
    """R@1, R@5, R@10, R@100 and MRR@100 of texts against pictures; `back` is pictures against texts."""
    return {str(each): float(each.of(forth).mean()) for each in FORTH} | {
        f"back {each}": float(each.of(back).mean()) for each in BACK
    }


def ranks(network: Network, pairs: Pairs) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(n,) rank of each pair's picture for its text, and (m,) rank of the first right text for each picture.

    The galleries are the pictures and texts of all pairs; rank 0 is beyond the first 100. Nothing is transductive.
    Memory is that of the embeddings and a block of scores.
    """
    gallery, right = np.unique(pairs.photo, return_inverse=True)
    own, at = np.arange(len(gallery)), np.arange(len(pairs))
    texts = np.concatenate([network.texts(pairs.text_rows(at[i : i + BLOCK])) for i in range(0, len(at), BLOCK)])
    photos = np.concatenate(
        [network.photos(pairs.photo_rows(gallery[i : i + BLOCK])) for i in range(0, len(gallery), BLOCK)]
    )
    return _ranks(texts, photos, right, own), _ranks(photos, texts, own, right)


def _ranks(
    queries: FloatArray, gallery: FloatArray, wanted: NDArray[np.int64], labels: NDArray[np.int64]
) -> NDArray[np.int64]:
    """(n,) rank of the first row of the gallery whose label is the wanted one."""
    ranks = np.zeros(len(queries), np.int64)
    for start in range(0, len(queries), 1024):
        scores = queries[start : start + 1024] @ gallery.T
        _, columns = best_of(scores, np.broadcast_to(np.arange(len(gallery)), scores.shape), min(100, len(gallery)))
        found = labels[columns] == wanted[start : start + 1024, None]
        ranks[start : start + 1024] = np.where(found.any(axis=1), found.argmax(axis=1) + 1, 0)
    return ranks
