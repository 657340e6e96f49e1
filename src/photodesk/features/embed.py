"""Embeddings of articles and photos: texts are prepared, features come from the store, the network maps them."""

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
    """n texts for `TextTower.read`, and the notes of the preparation.

    The sets of fields of a tower (`TextTower.fields`) replace the preparation's and are prepared one by one.
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

    An article whose prepared text is empty cannot be ranked: it is reported and left out.

    Returns:
        n rows at most, one per article with text; the faults.
    """
    preparation = preparation or Preparation()
    texts, notes = prepared(articles, preparation, encoder.texts)
    kept = [(article.id, text) for article, text in zip(articles, texts, strict=True) if any(text)]
    fields, advice = "+".join(preparation.fields), "give it a title, or rank by other fields as well"
    empty = tuple(
        Fault(
            "article-empty",
            article.where or article.id,
            f"nothing to read in {fields}: article {article.id}",
            "left out",
            advice,
        )
        for article, text in zip(articles, texts, strict=True)
        if not any(text)
    )
    features = store.texts([text for _, text in kept], encoder.texts, stage=stage, progress=progress)
    ids = tuple(name for name, _ in kept)
    return Embeddings(ids, text_rows(features, encoder), encoder.fingerprint), notes + empty


def embed_photos(
    photos: Sequence[Photo], encoder: Encoder, store: Store, *, progress: Progress = silent
) -> tuple[Embeddings, tuple[Fault, ...]]:
    """Embeddings of the photos that can be opened, in their order; the others are reported.

    Returns:
        m rows at most; the faults.
    """
    kept, features, faults = store.photos(photos, encoder.photos, progress=progress)
    ids = tuple(photo.id for photo in kept)
    return Embeddings(ids, photo_rows(features, encoder), encoder.fingerprint), tuple(faults)


def text_rows(features: FloatArray, encoder: Encoder) -> FloatArray:
    """(n, d) embeddings of text features."""
    return encoder.network.texts(features) if encoder.network else features


def photo_rows(features: FloatArray, encoder: Encoder) -> FloatArray:
    """(m, d) embeddings of photo features; mapped in blocks, so that no intermediate copy of all features is made."""
    if encoder.network is None:
        return features
    out = np.empty((len(features), encoder.network.dim), np.float32)
    for start in range(0, len(features), 4096):
        out[start : start + 4096] = encoder.network.photos(features[start : start + 4096])
    return out
