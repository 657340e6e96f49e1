"""The run of a data set's articles and photos: embed, fuse, revise, rank."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from photodesk.encoders.base import Encoder
from photodesk.errors import DataError
from photodesk.features.embed import embed_articles, embed_photos
from photodesk.features.store import Store
from photodesk.ranking import dual_softmax, fusion
from photodesk.ranking.fusion import Encoding, Normalisation
from photodesk.ranking.revisions import Revision
from photodesk.text.preparation import Preparation
from photodesk.types import Article, Embeddings, Fault, Photo, Progress, Run, silent


@dataclass(frozen=True)
class Chain:
    """The configuration of a run. Several encoders, or several texts of an article, are fused into one pair of
    embeddings, without a score matrix.

    Args:
        encoders: one or more.
        preparations: of the articles' texts; each encoder encodes each of them.
        store: of the features.
        normalise: of the scores of an encoding before they are summed, see `fusion.concatenated`.
        progress: called with (stage, done, of); stages are "texts", "photos", "bank", "ranking".
    """

    encoders: Sequence[Encoder]
    preparations: Sequence[Preparation]
    store: Store
    normalise: Normalisation = "none"
    progress: Progress = silent

    def run(
        self,
        articles: Sequence[Article],
        photos: Sequence[Photo],
        revision: Revision,
        *,
        bank: Sequence[Article] | None = None,
        weights: Sequence[float] | None = None,
        top: int = 100,
        name: str = "cosine",
    ) -> tuple[Run, tuple[Fault, ...]]:
        """The best photos of every article.

        Args:
            articles: the queries.
            photos: the gallery.
            revision: of the cosines.
            bank: a query bank of other articles; None is the queries themselves, which makes the run transductive.
            weights: of each encoder with each preparation, encoder by encoder; None is equal weights.
            top: photos per article at most.
            name: of the run, before the revision.

        Returns:
            the run, in the order of the articles; the faults of single articles and photos.

        Raises:
            DataError: no article has text, or no photo can be opened.
            UsageError: the revision takes no bank, or no article of the bank has text.
        """
        found, faults = self.encodings(articles, photos)
        others: Embeddings | None = None
        if bank is not None:
            read, wrong = self._read(bank, "bank")
            faults = (*faults, *wrong)
            galleries = [gallery for _, gallery in found]
            others, _ = self._fused(list(zip(read, galleries, strict=True)), weights)
        queries, gallery = self._fused(found, weights)
        run = dual_softmax.top_k(queries, gallery, revision, top, bank=others, name=name, progress=self.progress)
        return run, tuple(dict.fromkeys(faults))

    def encodings(
        self, articles: Sequence[Article], photos: Sequence[Photo]
    ) -> tuple[list[Encoding], tuple[Fault, ...]]:
        """One for each encoder with each preparation, of the articles and photos that all of them can
        embed; the faults.

        Raises:
            DataError: there is no such article, or no such photo.
        """
        texts, faults = self._read(articles, "texts")
        galleries = []
        for encoder in self.encoders:
            gallery, wrong = embed_photos(photos, encoder, self.store, progress=self.progress)
            galleries += [gallery] * len(self.preparations)
            faults += tuple(wrong)
        galleries = _shared(galleries)
        if not len(texts[0]) or not len(galleries[0]):
            first = f"; the first fault is: {faults[0]}" if faults else ""
            raise DataError(
                f"nothing to rank: {len(texts[0])} articles have text, {len(galleries[0])} photos can be opened{first}"
            )
        return list(zip(texts, galleries, strict=True)), faults

    def _read(self, articles: Sequence[Article], stage: str) -> tuple[list[Embeddings], tuple[Fault, ...]]:
        made = [
            embed_articles(articles, encoder, self.store, preparation=preparation, stage=stage, progress=self.progress)
            for encoder, preparation in product(self.encoders, self.preparations)
        ]
        return _shared([rows for rows, _ in made]), tuple(fault for _, faults in made for fault in faults)

    def _fused(self, encodings: Sequence[Encoding], weights: Sequence[float] | None) -> Encoding:
        if len(encodings) == 1:
            return encodings[0]
        return fusion.concatenated(encodings, weights, normalise=self.normalise)


def _shared(found: Sequence[Embeddings]) -> list[Embeddings]:
    """The rows of the ids that all have."""
    ids = set.intersection(*(set(one.ids) for one in found))
    return [one if len(one) == len(ids) else one.take([name for name in one.ids if name in ids]) for one in found]
