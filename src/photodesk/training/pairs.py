"""The training table: which text features belong with which photo features, read from the store when they are asked
for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
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
"""What a title is trained as."""

DEFAULT_WEIGHTS = (1.0, 0.03)
"""Of a pair of the first data set and of each further one."""

BLOCK = 8192  # rows that are in memory at once


class Rows(Protocol):
    """Feature rows, in memory or on disk (`shards.StoredRows`): an index array reads just these."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(rows, numbers per row)."""
        ...

    def __getitem__(self, which: Any, /) -> FloatArray: ...


@dataclass(frozen=True, eq=False)
class Pairs:
    """The training table: n pairs of a text and a picture.

    Args:
        texts: for each view the (rows, d_text) features.
        text: (views, n) row in each view of each pair's text.
        photos: (m, d_photo) features of the pictures.
        photo: (n,) row in `photos` of each pair.
        group: (n,) equal numbers are never negatives of each other and never split by `grouped`.
        source: (n,) number of the data set that the pair is from.
        weights: weight of a pair of each data set. Those of the greatest weight are what the network is for: validation
            and test pairs are of these.
        facts: (n,) what the pair is known by, for the check of leakage: see `Fact`.
        faults: pictures that cannot be opened and articles without text, whose pairs are left out.
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
        """(n,) whether the pair is of a data set that the network is for."""
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
            facts=tuple(fact for fact, kept in zip(self.facts, chosen.tolist(), strict=True) if kept)
            if self.facts
            else (),
        )

    def text_rows(self, at: NDArray[np.int64], view: int = 0) -> FloatArray:
        """(k, d_text) features of the texts of the pairs `at`."""
        return np.asarray(self.texts[view][self.text[view, at]], np.float32)

    def photo_rows(self, at: NDArray[np.int64]) -> FloatArray:
        """(k, d_photo) features of the pictures at rows `at` of `photos`."""
        return np.asarray(self.photos[at], np.float32)


@dataclass(frozen=True, slots=True)
class Fact:
    """What one pair is known by.

    Args:
        where: the article's place in its file, or its id.
        date: of the article, as its file has it.
        title: its key by `duplicates.title_key`; url likewise.
        photo: id of the picture.
        alike: number of the cluster of near-duplicate pictures that the picture is in.
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
    """Features and groups of every pair whose article has text and whose picture can be opened; the features stay on
    disk.

    Args:
        datasets: one or more; ids need not differ between them.
        texts: the text tower.
        photos: the photo tower.
        store: where features are kept.
        weights: of a pair of each data set; missing ones are 1 for the first and 0.03 for others.
        preparation: how articles become texts; its fields, unless they are just the title, stand for the views.
        progress: called with (stage, done, of): "hashes", "photos", then "texts", or for each of several views "texts,
            title".

    Raises:
        DataError: a data set has no such pair.
    """
    preparation = preparation or Preparation()
    weights = (*weights, *(DEFAULT_WEIGHTS[min(i, 1)] for i in range(len(weights), len(datasets))))
    merged = _merged(datasets)
    found = groups(merged, prints=store.prints(merged.photos, progress=progress))
    articles = {article.id: article for article in merged.articles}
    read = {
        view: prepared([articles[pair.article] for pair in merged.pairs], view, texts)[0]
        for view in _views(preparation, texts)
    }
    first, *_ = read.values()
    kept, features, broken = store.photo_rows(merged.photos, photos, progress=progress)
    row = {photo.id: i for i, photo in enumerate(kept)}
    good = [
        i for i, (pair, text) in enumerate(zip(merged.pairs, first, strict=True)) if any(text) and pair.photo in row
    ]
    pairs = [merged.pairs[i] for i in good]
    source = _sources(pairs, datasets)
    stored = []
    for view, every in read.items():
        stage = "texts" if len(read) == 1 else f"texts, {'+'.join(view.fields)}"
        stored.append(store.text_rows([every[i] for i in good], texts, stage=stage, progress=progress))
    return Pairs(
        tuple(stored),
        np.tile(np.arange(len(pairs)), (len(stored), 1)),
        features,
        np.array([row[pair.photo] for pair in pairs], np.int64),
        np.array([found.articles[pair.article] for pair in pairs], np.int64),
        source,
        weights,
        tuple(_fact(articles[pair.article], pair.photo, found.alike[pair.photo]) for pair in pairs),
        (*broken, *_unread(merged.pairs, first, articles)),
    )


def _sources(pairs: Sequence[Pair], datasets: Sequence[Dataset]) -> NDArray[np.int64]:
    """(n,) number of the data set of each pair; a DataError if one has none."""
    source = np.array([int(pair.photo.partition("/")[0]) for pair in pairs], np.int64)
    for number, dataset in enumerate(datasets):
        if not (source == number).any():
            raise DataError(
                f"data set {number + 1} ({dataset.edition}) has no article with a title whose picture can be opened; "
                "see: photodesk check"
            )
    return source


def _unread(
    pairs: Sequence[Pair], texts: Sequence[tuple[str, ...]], articles: Mapping[str, Article]
) -> Iterator[Fault]:
    for name in dict.fromkeys(pair.article for pair, text in zip(pairs, texts, strict=True) if not any(text)):
        yield Fault(
            "article-empty",
            articles[name].where,
            f"nothing to read: article {name.partition('/')[2]}",
            "left out",
            "give it a title, or leave it out",
        )


def _merged(datasets: Sequence[Dataset]) -> Dataset:
    """All as one: ids begin with the number of their data set, so that equal ones do not meet."""
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
    """R@1, R@5, R@10, R@100 and MRR@100 of texts against the pictures of the same pairs; `back` is pictures against the
    texts.

    Nothing transductive. Memory is the embeddings and a block of scores.
    """
    texts, photos = _embedded(network, pairs)
    meant, means = _sides(pairs)
    forth, back = _ranks(texts, photos, meant, means), _ranks(photos, texts, means, meant)
    return {str(each): float(each.of(forth).mean()) for each in FORTH} | {
        f"back {each}": float(each.of(back).mean()) for each in BACK
    }


def text_ranks(network: Network, pairs: Pairs) -> NDArray[np.int64]:
    """(n,) rank of each pair's picture among the pictures of all pairs, by its text; 0 where it is not among the first
    100."""
    texts, photos = _embedded(network, pairs)
    return _ranks(texts, photos, *_sides(pairs))


def _sides(pairs: Pairs) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For each text the number of what it means, for each picture likewise."""
    gallery, right = np.unique(pairs.photo, return_inverse=True)
    return right, np.arange(len(gallery))


def _embedded(network: Network, pairs: Pairs) -> tuple[FloatArray, FloatArray]:
    gallery = np.unique(pairs.photo)
    at = np.arange(len(pairs))
    texts = [network.texts(pairs.text_rows(at[i : i + BLOCK])) for i in range(0, len(at), BLOCK)]
    photos = [network.photos(pairs.photo_rows(gallery[i : i + BLOCK])) for i in range(0, len(gallery), BLOCK)]
    return np.concatenate(texts), np.concatenate(photos)


def _ranks(
    queries: FloatArray, gallery: FloatArray, meant: NDArray[np.int64], means: NDArray[np.int64]
) -> NDArray[np.int64]:
    ranks = np.zeros(len(queries), np.int64)
    for start in range(0, len(queries), 1024):
        scores = queries[start : start + 1024] @ gallery.T
        _, columns = best_of(scores, np.broadcast_to(np.arange(len(gallery)), scores.shape), min(100, len(gallery)))
        found = means[columns] == meant[start : start + 1024, None]
        ranks[start : start + 1024] = np.where(found.any(axis=1), found.argmax(axis=1) + 1, 0)
    return ranks
