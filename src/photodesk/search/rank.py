"""Ranking photos for articles: `rank` for a data set at once, `Searcher` for one article against an index."""

from __future__ import annotations

from collections.abc import Sequence

from photodesk.encoders import registry
from photodesk.encoders.base import Encoder
from photodesk.errors import DataError, UsageError
from photodesk.features.embed import Progress, embed_articles, embed_photos, silent
from photodesk.features.store import Store
from photodesk.ranking import dual_softmax
from photodesk.ranking.revisions import Revision, cosine
from photodesk.text.preparation import Preparation
from photodesk.types import Article, Dataset, Fault, Run


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
        raise DataError(
            "the data set has no photo to rank; name their folder with --photos, or see its faults with: photodesk "
            "check"
        )
    encoder, store = (encoder or registry.load()).joint(), store or Store()
    articles, article_faults = embed_articles(
        dataset.articles, encoder, store, preparation=preparation, progress=progress
    )
    photos, photo_faults = embed_photos(dataset.photos, encoder, store, progress=progress)
    if not len(articles) or not len(photos):
        first = [*article_faults, *photo_faults][0]
        raise DataError(
            f"nothing to rank: {len(articles)} articles have text, {len(photos)} photos can be opened; the first fault "
            f"is: {first}"
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
