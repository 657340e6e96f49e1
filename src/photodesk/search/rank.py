"""Ranking photos for articles: `rank` for a data set at once, `Searcher` for one article against an index."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

import numpy as np

from photodesk.data.datasets import Dataset
from photodesk.encoders import registry
from photodesk.encoders.registry import Encoder
from photodesk.errors import DataError, StoreError, UsageError
from photodesk.features import pipeline, ray_cluster, sources
from photodesk.features.embed import Progress, embed_articles, embed_photos, photo_rows, silent
from photodesk.features.shards import Shards
from photodesk.features.store import Store
from photodesk.files import replacing
from photodesk.ranking import dual_softmax
from photodesk.ranking.revisions import Revision, cosine
from photodesk.search.flat_index import FlatIndex
from photodesk.text.preparation import Preparation, parse
from photodesk.types import Article, Embeddings, Fault, Hit, Run


def rank(
    dataset: Dataset,
    encoder: Encoder | None = None,
    *,
    preparation: Preparation | None = None,
    store: Store | None = None,
    top: int = 100,
    revision: Revision | None = None,
    bank: Sequence[Article] | None = None,
    progress: Progress = silent,
) -> tuple[Run, tuple[Fault, ...]]:
    """The best photos of a data set for each of its articles.

    Args:
        dataset: what `datasets.read` found.
        encoder: None is the built-in model.
        preparation: how articles become texts; None reads titles as they are.
        store: where features are kept; None is the user's cache.
        top: how many photos an article gets at most.
        revision: how cosines are revised; None leaves them.
        bank: other articles for the revision; None is the data set's own, which makes the run transductive.
        progress: called with (stage, done, of); stages are "texts", "photos", "bank", "ranking".

    Returns:
        the run, articles in the data set's order; what went wrong with single articles and photos.

    Raises:
        DataError: there is no article with text or no photo that can be opened.
        UsageError: the encoder is for `train` only (`Encoder.joint`).
    """
    if top < 1:
        raise UsageError(f"top={top}: an article needs at least one photo")
    if not dataset.photos:
        raise DataError("the data set has no photo to rank; name their folder with --photos, or see its faults with: photodesk check")
    encoder, store = (encoder or registry.load()).joint(), store or Store()
    articles, article_faults = embed_articles(dataset.articles, encoder, store, preparation=preparation, progress=progress)
    photos, photo_faults = embed_photos(dataset.photos, encoder, store, progress=progress)
    if not len(articles) or not len(photos):
        first = [*article_faults, *photo_faults][0]
        raise DataError(
            f"nothing to rank: {len(articles)} articles have text, {len(photos)} photos can be opened; the first fault is: {first}"
        )
    others, bank_faults = None, tuple[Fault, ...]()
    if bank is not None:
        others, bank_faults = embed_articles(
            bank, encoder, store, preparation=preparation, progress=lambda _, done, of: progress("bank", done, of)
        )
    run = dual_softmax.top_k(
        articles,
        photos,
        revision or cosine(),
        top,
        bank=others,
        name=encoder.name,
        progress=lambda done, of: progress("ranking", done, of),
    )
    return run, (*article_faults, *photo_faults, *bank_faults)


def build_index(
    photos: Path | str,
    index: Path | str,
    encoder: Encoder | None = None,
    *,
    store: Store | None = None,
    ray: str = "",
    progress: Progress = silent,
) -> tuple[FlatIndex, tuple[Fault, ...]]:
    """Encode every picture of a source and write the index folder `index`, replacing an earlier one.

    Args:
        photos: a folder, or what else `sources.find` takes: a list of paths, tars, Parquet files, URLs.
        index: folder of the index.
        encoder: None is the built-in model.
        store: where features are kept; None is the user's cache.
        ray: address of a Ray cluster that encodes, as `cluster.encode` takes it; empty encodes here.
        progress: called with ("photos", done, of).

    Raises:
        DataError: there is no source, or no picture in it can be opened.
        UsageError: the encoder is for `train` only (`Encoder.joint`).
    """
    encoder, store = (encoder or registry.load()).joint(), store or Store()
    units, faults = sources.find(photos)

    def results(shards: Shards) -> Iterator[tuple[int, pipeline.Batch]]:
        if ray:
            yield from ray_cluster.encode(units, encoder.name, encoder.photos.fingerprint, shards.keys(), ray)
        else:
            pictures = chain.from_iterable(unit.pictures() for unit in units)
            yield from ((0, batch) for batch in pipeline.encode(pictures, encoder.photos, shards.has))

    made = store.collect(encoder.photos, results, of=sources.count(units), progress=lambda done, of: progress("photos", done, of))
    if not len(made.photos):
        raise DataError(
            f"{photos} holds no picture that can be opened" + (f"; the first fault is: {made.faults[0]}" if made.faults else "")
        )
    rows = np.empty((len(made.photos), encoder.network.dim if encoder.network else encoder.photos.dim), np.float32)
    for start in range(0, len(rows), 4096):
        rows[start : start + 4096] = photo_rows(made.rows[start : start + 4096], encoder)
    embeddings = Embeddings(tuple(made.photos), rows, encoder.fingerprint)
    return FlatIndex.create(Path(index), embeddings, made.places, encoder=encoder.name), (*faults, *made.faults)


def revise_index(
    index: FlatIndex,
    bank: Sequence[Article],
    revision: Revision,
    encoder: Encoder | None = None,
    *,
    preparation: Preparation | None = None,
    store: Store | None = None,
    progress: Progress = silent,
) -> tuple[dual_softmax.Numbers, tuple[Fault, ...]]:
    """Take one number per photo from a bank of articles and keep them in the index: `Searcher` then ranks every article by revised scores.

    Args:
        index: an open index; numbers that it held before are replaced.
        bank: articles that stand for those to come.
        revision: how cosines are revised.
        encoder: as for `Searcher`; None loads it by the name that the index holds.
        preparation: how the bank becomes texts; None reads titles as they are.
        store: where features of the bank are kept; None is the user's cache.
        progress: called with ("bank", done, of).

    Returns:
        the numbers; which articles of the bank have no text.

    Raises:
        StoreError: the index was made by another encoder.
        UsageError: the method takes no bank, or no article of it has text.
    """
    encoder = Searcher(index, encoder).encoder
    photos = Embeddings(index.embeddings.ids, index.embeddings.rows, encoder.fingerprint)
    others, faults = embed_articles(
        bank, encoder, store or Store(), preparation=preparation, progress=lambda _, done, of: progress("bank", done, of)
    )
    numbers = dual_softmax.numbers(others, photos, revision)
    index.numbers.unlink(missing_ok=True)  # a kill in between leaves none, not old ones beside another preparation
    with replacing(index.preparation) as stream:
        stream.write(str(preparation or Preparation()))
    numbers.save(index.numbers)
    return numbers, faults


class Searcher:
    """One article at a time against an index of photos, with the same mathematics as `rank`.

    Where the index holds numbers of a revision (`revise_index`), scores are revised like those of a `rank` with the same bank.

    Args:
        index: an open index.
        encoder: the one that made it, or another text tower in the same space (`Encoder.reads`); None loads it by the name
            that the index holds.

    Attributes:
        numbers: what the index's revision takes off each photo; None where it has none.

    Raises:
        StoreError: the index was made by another encoder, or another version of it.
        UsageError: the encoder is for `train` only (`Encoder.joint`).
    """

    def __init__(self, index: FlatIndex, encoder: Encoder | None = None) -> None:
        self.index = index
        self.encoder = (encoder or registry.load(index.encoder)).joint()
        if not self.encoder.reads(index.embeddings.encoder):
            raise StoreError(
                f"{index.folder} was made by {index.encoder} ({index.embeddings.encoder}), and this is {self.encoder.name} "
                f"({self.encoder.fingerprint}); make the index again with: photodesk index PHOTOS -o {index.folder}"
            )
        self.numbers = dual_softmax.Numbers.load(index.numbers) if index.numbers.exists() else None

    @classmethod
    def open(cls, folder: Path | str, encoder: Encoder | None = None) -> Searcher:
        """A searcher on the index in `folder`."""
        return cls(FlatIndex.open(Path(folder)), encoder)

    def search(
        self, article: Article | str, *, top: int = 10, preparation: Preparation | None = None, revised: bool = True
    ) -> tuple[Hit, ...]:
        """The best photos for one article, or for a headline; best first, ties by photo id.

        Args:
            article: one article, or its headline.
            top: how many hits.
            preparation: how the article becomes a text; None is as the bank of a revision was prepared, else titles as they are.
            revised: False ranks by cosine even where the index holds numbers of a revision.

        Raises:
            UsageError: there is no text to search for.
            StoreError: the numbers were taken from texts by another encoder, or from texts that were prepared in another way.
        """
        if isinstance(article, str):
            article = Article("query", article)
        bank = self.index.preparation.read_text("utf-8") if revised and self.numbers and self.index.preparation.exists() else ""
        preparation = preparation or (parse(bank) if bank else Preparation())
        if bank and str(preparation) != bank:
            raise StoreError(
                f"{self.index.folder} holds numbers of a bank prepared by {bank}, and this article by {preparation}; "
                "prepare it alike, take the numbers again, or search by cosine"
            )
        text = preparation(article)
        if not text:
            raise UsageError("there is nothing to search for: the text is empty")
        features = self.encoder.texts.encode([text])
        rows = self.encoder.network.texts(features) if self.encoder.network else features
        if not revised or self.numbers is None:
            return self.index.search(rows[0], top)
        if self.numbers.encoder != self.encoder.fingerprint:
            raise StoreError(
                f"{self.index.folder} holds numbers of {self.numbers.revision} from texts that another encoder read "
                f"({self.numbers.encoder}), and this is {self.encoder.fingerprint}; take them again with this one, or search by cosine"
            )
        return self.index.search(rows[0], top, change=self.numbers.revised)
