"""Articles and photos → Embeddings: prepare the texts, take features from the store, pass them through the network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from photodesk.encoders.base import Encoder, TextTower
from photodesk.features.store import Store
from photodesk.text.preparation import Preparation
from photodesk.types import Article, Embeddings, Fault, FloatArray, Photo, Progress, silent


def prepared(
    articles: Sequence[Article], preparation: Preparation, tower: TextTower
) -> tuple[list[tuple[str, ...]], tuple[Fault, ...]]:
    """n texts as `TextTower.read` takes them, and what the user should know of them.

    A tower that reads sets of fields by themselves (`TextTower.fields`) gets them prepared one by one, whatever fields
    are asked for.
    """
    parts = [replace(preparation, fields=fields).prepare(articles) for fields in tower.fields or (preparation.fields,)]
    notes = dict.fromkeys(note for part in parts for note in part.notes)
    return list(zip(*(part.texts for part in parts), strict=True)), tuple(notes)


def embed_articles(
    articles: Sequence[Article],
    encoder: Encoder,
    store: Store,
    *,
    preparation: Preparation | None = None,
    stage: str = "texts",
    progress: Progress = silent,
) -> tuple[Embeddings, tuple[Fault, ...]]:
    """Embeddings of the articles' prepared texts, in their order.

    An article whose prepared text is empty cannot be ranked: it is named and left out.

    Returns:
        n rows at most, one an article that has text; what went wrong.
    """
    preparation = preparation or Preparation()
    every, notes = prepared(articles, preparation, encoder.texts)
    faults = list(notes)
    kept: list[Article] = []
    texts: list[tuple[str, ...]] = []
    for article, text in zip(articles, every, strict=True):
        if any(text):
            kept.append(article)
            texts.append(text)
        else:
            fields = "+".join(preparation.fields)
            advice = "give it a title, or rank by other fields as well"
            what = f"nothing to read in {fields}: article {article.id}"
            faults.append(Fault("article-empty", article.where or article.id, what, "left out", advice))
    features = store.texts(texts, encoder.texts, stage=stage, progress=progress)
    ids = tuple(article.id for article in kept)
    return Embeddings(ids, text_rows(features, encoder), encoder.fingerprint), tuple(faults)


def embed_photos(
    photos: Sequence[Photo], encoder: Encoder, store: Store, *, progress: Progress = silent
) -> tuple[Embeddings, tuple[Fault, ...]]:
    """Embeddings of the photos that can be opened, in their order; the others are named.

    Returns:
        m rows at most; what went wrong.
    """
    kept, features, faults = store.photos(photos, encoder.photos, progress=progress)
    return Embeddings(tuple(photo.id for photo in kept), photo_rows(features, encoder), encoder.fingerprint), tuple(
        faults
    )


def text_rows(features: FloatArray, encoder: Encoder) -> FloatArray:
    """(n, d) embeddings of text features."""
    return encoder.network.texts(features) if encoder.network else features


def photo_rows(features: FloatArray, encoder: Encoder) -> FloatArray:
    """(m, d) embeddings of photo features, through the network in blocks so that a large archive needs no second copy
    of its features."""
    if encoder.network is None:
        return features
    out = np.empty((len(features), encoder.network.dim), np.float32)
    for start in range(0, len(features), 4096):
        out[start : start + 4096] = encoder.network.photos(features[start : start + 4096])
    return out
