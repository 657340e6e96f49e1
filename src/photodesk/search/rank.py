"""Ranking the photos of a data set for all of its articles at once."""

from __future__ import annotations

from collections.abc import Sequence

from photodesk.encoders import registry
from photodesk.encoders.base import Encoder
from photodesk.errors import DataError, UsageError
from photodesk.features.retrieval import Chain
from photodesk.features.store import Store
from photodesk.ranking.revisions import Revision, cosine
from photodesk.text.preparation import Preparation
from photodesk.types import Article, Dataset, Fault, Progress, Run, silent


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
        dataset: from `datasets.read`.
        encoder: None is the built-in model.
        preparation: how articles become texts; None reads titles as they are.
        store: where features are kept; None is the user's cache.
        top: most photos per article.
        revision: of the cosines; None leaves them.
        bank: query bank of the revision; None is the articles of the data set, which makes the run transductive.
        progress: called with (stage, done, of); stages are "texts", "photos", "bank", "ranking".

    Returns:
        The run, articles in the data set's order; faults of single articles and photos.

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
    encoder = (encoder or registry.load()).joint()
    chain = Chain([encoder], [preparation or Preparation()], store or Store(), progress=progress)
    return chain.run(dataset.articles, dataset.photos, revision or cosine(), bank=bank, top=top, name=encoder.name)
