"""Explains a score by occlusion: how much it falls without a word of the article or with a part of the photo covered.

A fall is in standard deviations, like the score; above 0 the word or region supports the photo. Source: Zeiler and
Fergus, Visualizing and understanding convolutional networks, ECCV 2014, section 4; for words Li, Monroe and Jurafsky,
Understanding neural networks through representation erasure, 2016.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np

from photodesk import images
from photodesk.archive.archive import THUMBNAIL, Archive, Picture
from photodesk.encoders.base import Encoder
from photodesk.engines.schema import Entry, Point
from photodesk.errors import PhotoError
from photodesk.features.embed import photo_rows
from photodesk.machine import cores
from photodesk.search.confidence import Background
from photodesk.search.query import COMPONENTS, Asked, Found, Question, Reader
from photodesk.types import Article, FloatArray

if TYPE_CHECKING:
    from PIL import Image

GRID = 4
"""Rows and columns of the heat map."""
MOST = 48
"""Most occlusions of a text; longer texts are occluded in runs of words of equal length."""
FIELDS = ("title", "lead", "text")


@dataclass(frozen=True, slots=True, eq=False)
class Reason:
    """The explanation of a photo's score.

    Args:
        found: the photo with score, probability and components.
        words: of the article in order, with the fall of the score without each; runs of words of long articles.
        heat: (rows, columns) fall of the score with a cell of the photo covered; (0, 0) without a picture.
        shares: signed share of each component in the score; absolute values add up to 1.
    """

    found: Found
    words: Sequence[tuple[str, float]]
    heat: FloatArray
    shares: Mapping[str, float]


class Scorer(Protocol):
    """The part of `desk.Desk` that explanations need."""

    archive: Archive
    encoder: Encoder
    reader: Reader

    @property
    def background(self) -> Background:
        """Of the scores."""
        ...

    def found(self, question: Question, photo: str) -> tuple[Found, Asked, Point]:
        """One photo as an answer to a question, at any rank."""
        ...

    def pictures(self, question: Question) -> list[FloatArray]:
        """Rows of the photos in the question."""
        ...

    def scores(self, asked: Asked, rows: FloatArray, numbers: FloatArray) -> dict[str, FloatArray]:
        """`visual` and `revision` scores, (n,) each, of (n, d) rows of photos and their (n,) hubness offsets."""
        ...

    def shared(self, words: str, entry: Entry) -> dict[str, float]:
        """The words that are also in a photo's texts, each with an equal share of 1."""
        ...


def why(desk: Scorer, question: Question, photo: str, *, grid: int = GRID) -> Reason:
    """Explain the score of one photo for a question.

    Args:
        desk: the archive.
        question: to explain.
        photo: id.
        grid: rows and columns of the heat map.

    Raises:
        UsageError: the question is empty, or there is no such photo.
    """
    found, asked, point = desk.found(question, photo)
    whole = sum(abs(part) for part in found.components.values()) or 1.0
    shares = {name: found.components[name] / whole for name in COMPONENTS}
    words = falls(desk, question, point, found) if question.article is not None else []

    def score(rows: FloatArray) -> FloatArray:
        return desk.scores(asked, rows, np.zeros(len(rows), np.float32))["visual"]

    try:
        heat = covered(desk, picture(desk, photo), score, grid)
    except PhotoError:
        heat = np.empty((0, 0), np.float32)
    return Reason(found, words, heat, shares)


def falls(desk: Scorer, question: Question, point: Point, found: Found) -> list[tuple[str, float]]:
    """The words of the article, and how much the score of a photo falls without each.

    Args:
        desk: the archive.
        question: with an article.
        point: the photo; the score of its caption is shared by the words that are in both.
        found: the photo as an answer.
    """
    assert question.article is not None
    parts, weights = desk.reader.parts(question.article)
    units = list(_units(parts))
    rows = desk.reader.texts([*parts, *(without for _, _, without in units if without)])
    full, occluded = rows[: len(parts)], iter(rows[len(parts) :])
    pictures = desk.pictures(question)
    offset = np.array([point.offset], np.float32)

    def score(texts: FloatArray, weights: Sequence[float]) -> float:
        if not len(texts) and not pictures:
            return 0.0  # the mean score of photos
        asked = desk.reader.joined(texts, weights, pictures, desk.background)
        return float(sum(part[0] for part in desk.scores(asked, point.row[None], offset).values()))

    base = score(full, weights)
    out = []
    named = desk.shared(" ".join(words for _, words, _ in units), point.entry) if not question.words else {}
    for i, words, without in units:
        if without is None:
            others = [k for k in range(len(parts)) if k != i]
            now = score(full[others], [weights[k] for k in others])
        else:
            varied = full.copy()
            varied[i] = next(occluded)
            now = score(varied, weights)
        common = sum(named.pop(word, 0.0) for word in words.split())
        out.append((words, base - now + found.components["names"] * common))
    return out


def covered(
    desk: Scorer, image: Image.Image, score: Callable[[FloatArray], FloatArray], grid: int = GRID
) -> FloatArray:
    """(grid, grid) fall of a picture's score with a cell covered by the mean colour of the picture.

    Args:
        desk: with the encoder.
        image: upright, RGB.
        score: (n, d) rows → (n,) scores.
        grid: rows and columns.
    """
    tower = desk.encoder.photos
    versions = [image, *(cover(image, [(r, c)], grid) for r in range(grid) for c in range(grid))]
    batches = [versions[i : i + max(1, tower.batch)] for i in range(0, len(versions), max(1, tower.batch))]
    with ThreadPoolExecutor(cores()) as pool:
        features = list(pool.map(lambda batch: tower.encode(np.stack([tower.prepare(one) for one in batch])), batches))
    scores = score(photo_rows(np.concatenate(features), desk.encoder))
    fall: FloatArray = (scores[0] - scores[1:]).reshape(grid, grid).astype(np.float32)
    return fall


def cover(image: Image.Image, cells: Sequence[tuple[int, int]], grid: int = GRID) -> Image.Image:
    """The picture with cells (row, column) covered by its mean colour."""
    made = image.copy()
    width, height = image.size
    red, green, blue = (round(float(value)) for value in np.asarray(image).reshape(-1, 3).mean(axis=0))
    for row, column in cells:
        box = (width * column // grid, height * row // grid, width * (column + 1) // grid, height * (row + 1) // grid)
        made.paste((red, green, blue), box)
    return made


def picture(desk: Scorer, photo: str) -> Image.Image:
    """The thumbnail of a photo, or its file if there is no thumbnail.

    Raises:
        PhotoError: neither can be read.
    """

    def decoded(found: Picture) -> Image.Image:
        return images.decode(found.content, size=THUMBNAIL, where=str(found.path))

    return desk.archive.picture(photo, decoded, small=True)


def _units(parts: Sequence[Article]) -> Iterator[tuple[int, str, Article | None]]:
    """(index of the part, words, the part without them or None if that is empty)."""
    total = sum(len(getattr(part, name).split()) for part in parts for name in FIELDS)
    step = -(-total // MOST)
    for i, part in enumerate(parts):
        for name in FIELDS:
            words = getattr(part, name).split()
            for at in range(0, len(words), step):
                rest = replace(part, **{name: " ".join(words[:at] + words[at + step :])})
                empty = not any(getattr(rest, other) for other in FIELDS)
                yield i, " ".join(words[at : at + step]), None if empty else rest
