"""Similarity revision: what a photo scores with articles in general is taken off what it scores with this one.

A photo that is a little like every article (a hub) crowds out the right ones. Each method here finds one number per
photo from a bank of articles, and ranks by `cosine − number`. `revisions` names the methods and their sources.

Dual softmax is softmax over articles ⊙ softmax over photos of S / T. In logs that is 2·S/T − LSE over articles − LSE
over photos; within an article the last term is constant, so it ranks by S − T/2 · LSE over articles (S / T). The number
here is that with mean in place of sum, which is the same for every photo: it lies between half the mean and half the
maximum of the photo's scores at any T, so large T tends to `cosine − mean / 2` and small T to `cosine − maximum / 2`.

The bank is the batch itself (transductive: a run has seen the other queries and says so) or other articles. A query
that stands c times in the bank counts c times: it pushes its photos down for all articles, by less than the best score
that the photo has anywhere.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from photodesk.errors import StoreError, UsageError
from photodesk.files import open_regular, replacing
from photodesk.ranking.revisions import Revision, parse
from photodesk.ranking.similarity import (
    CHUNK,
    MANY,
    Precision,
    best,
    by_id,
    comparable,
    hits,
    products,
    shared_out,
    unsorted,
)
from photodesk.types import Embeddings, FloatArray, Progress, Run, silent

FORMAT = "photodesk-numbers/1"
HEAD = 8


@dataclass(frozen=True, slots=True, eq=False)
class Numbers:
    """What a bank of articles says of every photo; compute it once, store it, and revise article by article.

    Args:
        revision: how they were made.
        photos: m ids.
        values: (m,) float32, taken off every score of the photo.
        encoder: fingerprint of the encoder of bank and photos.
        bank: ids of its n articles.
        heads: (n, 8 at most) the first numbers of their embeddings: with the ids they tell whether a run has seen its
            own queries.
        hubs: (m,) which photos are among the best k of any article of the bank; all True where the method asks nothing
            of it.
        least: (m,) the k-th largest score of each photo, for `nnn`; else empty.
    """

    revision: Revision
    photos: tuple[str, ...]
    values: FloatArray
    encoder: str
    bank: tuple[str, ...]
    heads: FloatArray
    hubs: NDArray[np.bool_]
    least: FloatArray

    def saw(self, articles: Embeddings) -> bool:
        """Whether one of `articles` is in the bank: the same id with the same embedding."""
        at = {name: i for i, name in enumerate(self.bank)}
        shared = [(i, at[name]) for i, name in enumerate(articles.ids) if name in at]
        if not shared:
            return False
        ours, theirs = map(list, zip(*shared, strict=True))
        return bool((np.abs(articles.rows[ours, :HEAD] - self.heads[theirs]) < 1e-3).all(axis=1).any())

    def _of(self, photos: Embeddings) -> FloatArray:
        if photos.ids != self.photos or photos.encoder != self.encoder:
            raise StoreError(
                f"the numbers of {self.revision} belong to {len(self.photos)} other photos; compute them for these"
            )
        return self.values

    def _weights(self, articles: Embeddings, photos: Embeddings) -> FloatArray:
        if self.hubs.all():
            return np.ones(len(articles), np.float32)
        _, first = best(articles.rows, photos.rows, 1, order=by_id(photos))
        return self.hubs[first[:, 0]].astype(np.float32)

    def revised(self, scores: FloatArray) -> FloatArray:
        """(n, m) revised scores of n articles, from their cosines with all m photos; of equal ones the first is an
        article's best."""
        if self.hubs.all():
            return scores - self.values
        return scores - self.hubs[scores.argmax(axis=1), None].astype(np.float32) * self.values

    def joined(self, scores: FloatArray, columns: NDArray[np.intp]) -> FloatArray:
        """(n, c) revised scores of n articles each of which joins the bank, as it does in a batch; `scores` are cosines
        of `columns`."""
        values, option, n = self.values[columns].astype(np.float64), dict(self.revision.options), len(self.bank)
        if self.revision.method == "nnn":
            k, least = int(option["k"]), self.least[columns]
            if k > n:  # all count: one more
                number = (values * n + option["alpha"] * scores) / (n + 1)
            else:
                number = values + option["alpha"] * np.maximum(scores - least, 0) / k
        elif self.revision.method == "cosine":
            number = values
        else:
            factor, t = _softmax(self.revision)
            number = factor * t * (np.logaddexp(values / (factor * t) + math.log(n), scores / t) - math.log(n + 1))
        return (scores - number).astype(np.float32)

    def save(self, path: Path) -> None:
        """Write the numbers as .npz, whole or not at all."""
        with replacing(path, "wb") as stream:
            np.savez(
                stream,
                about=np.array([FORMAT, str(self.revision), self.encoder]),
                photos=np.array(self.photos, dtype=str),
                bank=np.array(self.bank, dtype=str),
                heads=self.heads,
                values=self.values,
                hubs=self.hubs,
                least=self.least,
            )

    @classmethod
    def load(cls, path: Path) -> Numbers:
        """Read what `save` wrote.

        Raises:
            StoreError: no such file, damaged, or of another make.
        """
        try:
            with open_regular(path) as stream, np.load(stream, allow_pickle=False) as file:
                form, revision, encoder = file["about"].tolist()
                if form != FORMAT:
                    raise StoreError(f"{path} holds {form}, not {FORMAT}; compute the numbers again")
                photos, bank = tuple(file["photos"].tolist()), tuple(file["bank"].tolist())
                made = cls(
                    parse(revision), photos, file["values"], encoder, bank, file["heads"], file["hubs"], file["least"]
                )
        except StoreError:
            raise
        except Exception as error:  # zipfile's, zlib's and numpy's own kinds
            raise StoreError(
                f"{path} holds no numbers of a revision or is damaged ({error}); compute them again"
            ) from None
        if not made.values.shape == made.hubs.shape == (len(photos),) or not np.isfinite(made.values).all():
            raise StoreError(f"{path} is damaged: it should hold {len(photos)} finite numbers; compute them again")
        return made


def numbers(bank: Embeddings, photos: Embeddings, revision: Revision, *, batch: bool = False) -> Numbers:
    """What the articles of `bank` say of every photo.

    Args:
        bank: n articles.
        photos: m photos of the same encoder.
        revision: the method.
        batch: the bank is what will be ranked.

    Raises:
        StoreError: bank and photos were made by different encoders.
        UsageError: the bank is empty, or the method knows only batches.
    """
    comparable(bank, photos)
    if not len(bank):
        raise UsageError(f"{revision} needs articles in its bank; this one has none")
    method, option = revision.method, dict(revision.options)
    hubs, least = np.ones(len(photos), np.bool_), np.empty(0, np.float32)
    if method == "cosine":
        values = np.zeros(len(photos), np.float32)
    elif method == "nnn":
        values, least = largest(bank.rows, photos.rows, int(option["k"]))
        values = values * np.float32(option["alpha"])
    elif method == "sinkhorn":
        if not batch:
            raise UsageError("sinkhorn revises a batch as a whole and takes no bank; with a bank use inverted_softmax")
        values = soft_maximum(bank.rows, photos.rows, t := option["temperature"])
        for _ in range(int(option["iterations"]) - 1):
            offers = soft_maximum(photos.rows, bank.rows, t, minus=values)
            values = soft_maximum(bank.rows, photos.rows, t, minus=offers)
    else:
        factor, t = _softmax(revision)
        values = soft_maximum(bank.rows, photos.rows, t) * np.float32(factor)
        if method == "dynamic_inverted_softmax" and not batch:
            _, first = best(bank.rows, photos.rows, int(option["k"]), order=by_id(photos))
            hubs = np.bincount(first.ravel(), minlength=len(photos)) > 0
    return Numbers(revision, photos.ids, values, photos.encoder, bank.ids, bank.rows[:, :HEAD].copy(), hubs, least)


def top_k(
    articles: Embeddings,
    photos: Embeddings,
    revision: Revision,
    k: int = 100,
    *,
    bank: Embeddings | Numbers | None = None,
    join: bool = False,
    name: str = "cosine",
    progress: Progress = silent,
) -> Run:
    """The k best photos of every article by revised score, `cosine − number of the photo`, best first, ties by photo
    id.

    Exact, in two streamed passes: memory is the inputs, a few blocks of scores, and n · k hits.

    Args:
        articles: n queries.
        photos: m gallery rows of the same encoder.
        revision: the method.
        k: at most so many hits an article.
        bank: other articles that stand for the queries to come, or the numbers made from them; None is the batch, which
            makes the run transductive. So does a bank that holds one of the articles.
        join: each article joins the bank for its own ranking, so that a bank of the other articles gives what the batch
            would. Without it the numbers are those of the bank alone, as an index with the number as one more dimension
            has them.
        name: of the run, before the revision.
        progress: called with ("ranking", photos done, photos) in the second pass.

    Raises:
        StoreError: different encoders, or numbers of other photos.
        UsageError: the method takes no bank, or the bank is empty.
    """
    comparable(articles, photos)
    if isinstance(bank, Numbers):
        if bank.revision != revision:
            raise StoreError(f"the numbers were made by {bank.revision}, not {revision}; compute them again")
        found = bank
    else:
        found = numbers(articles if bank is None else bank, photos, revision, batch=bank is None)
    order, taken = by_id(photos), found._of(photos)
    if join and bank is not None:
        values, columns = best(articles.rows, photos.rows, k, order=order, change=found.joined, progress=progress)
    else:
        weight = None if found.hubs.all() else found._weights(articles, photos)
        values, columns = best(
            articles.rows, photos.rows, k, order=order, minus=taken, weight=weight, progress=progress
        )
    if revision.method == "cosine":
        return Run(hits(articles, photos, values, columns), name)
    seen = bank is None or found.saw(articles)
    label = f"{name}, {revision}" + ("" if bank is None else f", bank of {len(found.bank):,}")
    return replace(Run(hits(articles, photos, values, columns), label), transductive=str(revision) if seen else "")


def _softmax(revision: Revision) -> tuple[float, float]:
    """(factor, temperature): the number is factor · soft maximum at that temperature."""
    return (0.5, revision["temperature"]) if revision.method == "dual_softmax" else (1.0, 1 / revision["beta"])


STRIP = 64  # rows of a block that stay in a core's cache between one step and the next


def soft_maximum(
    rows: FloatArray, columns: FloatArray, temperature: float, *, minus: FloatArray | None = None
) -> FloatArray:
    """T · log(mean over rows of exp(score / T)) of every column: near the mean for a large temperature T, the maximum
    for a small one.

    The result lies between the column's mean and its maximum, so it is safe in float32 at any temperature. Where exp
    stays in range it is summed as it is (as exp − 1 for T ≥ 1, where the sum would else drown in the ones); below that
    by a running maximum.

    Args:
        rows: (n, d) float32 of length 1.
        columns: (m, d) float32 of length 1.
        temperature: T > 0.
        minus: (n,) taken off every score of a row.

    Returns:
        (m,) float32.
    """
    bounded = minus is None and temperature >= 1 / 40  # |score / T| ≤ 40: no sum of exp leaves float32

    def part(of: slice) -> tuple[NDArray[np.float64], FloatArray]:
        total = np.zeros(len(columns))
        peak = np.full(len(columns), 0.0 if bounded else -np.inf, np.float32)
        for i, j, block in products(rows[of], columns, scale=1 / temperature):
            sums, highest = total[j], peak[j]
            if minus is not None:
                block -= (minus[of][i, None] / temperature).astype(np.float32)
            if not bounded:
                highest = np.maximum(highest, block.max(axis=0))
                sums *= np.exp(peak[j] - highest)
                peak[j] = highest
            for start in range(0, len(block), STRIP):
                x = block[start : start + STRIP]
                if not bounded:
                    x -= highest
                (np.expm1 if bounded and temperature >= 1 else np.exp)(x, out=x)
                sums += x.sum(axis=0)
        return total, peak

    parts = shared_out(len(rows), part)
    peak = np.maximum.reduce([highest for _, highest in parts])
    mean = sum(total * np.exp(highest - peak) for total, highest in parts) / len(rows)
    logs = np.log1p(mean) if bounded and temperature >= 1 else np.log(mean)
    number: FloatArray = (temperature * (logs + peak)).astype(np.float32)
    return number


def largest(rows: FloatArray, columns: FloatArray, k: int) -> tuple[FloatArray, FloatArray]:
    """(m,) mean of the k largest scores of every column, and (m,) the smallest of these; of all scores if there are
    fewer than k."""
    means, least = np.empty(len(columns), np.float32), np.empty(len(columns), np.float32)
    precision = Precision.of(len(columns), rows) if len(rows) >= MANY * k else None
    for start in range(0, len(columns), CHUNK):
        j = slice(start, start + CHUNK)
        values = unsorted(columns[j], rows, k, precision)
        means[j], least[j] = values.mean(axis=1, dtype=np.float64), values.min(axis=1)
    return means, least
