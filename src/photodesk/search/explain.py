"""Explains a score by occlusion: how much it falls without a word of the article or with a part of the photo covered.

A fall is in standard deviations, like the score; above 0 the word or region supports the photo. Source: Zeiler and
Fergus, Visualizing and understanding convolutional networks, ECCV 2014, section 4; for words Li, Monroe and Jurafsky,
Understanding neural networks through representation erasure, 2016.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Protocol

import numpy as np

from photodesk import images
from photodesk.archive.archive import THUMBNAIL, Archive, Picture
from photodesk.encoders import cancellation
from photodesk.encoders.base import Encoder
from photodesk.engines.schema import Entry, Point
from photodesk.errors import PhotoError
from photodesk.features.embed import photo_rows
from photodesk.machine import cores
from photodesk.search.confidence import Background
from photodesk.search.query import COMPONENTS, WINDOW, Asked, Found, Question, Reader
from photodesk.types import Article, FloatArray

if TYPE_CHECKING:
    from PIL import Image

GRID = 4
"""Rows and columns of the heat map."""
EXPLAINED = 2_000
"""Characters of an article that are looked into; of a longer one the passages that count most, the others as they
are."""
COST = 12_000
"""Characters that are read to find out which of its words count. A text without one of its n words is nearly as long as
before, so all n cost n times as much: what counts most is divided first, into sentences, clauses and words."""
FIELDS = ("title", "lead", "text")


@dataclass(frozen=True, slots=True, eq=False)
class Reason:
    """The explanation of a photo's score.

    Args:
        found: the photo with score, probability and components.
        words: of the article in order, with the fall of the score without each; what counts least in long articles by
            clauses, sentences or passages.
        heat: (rows, columns) fall of the score with a cell of the photo covered; (0, 0) without a picture.
        shares: signed share of each component in the score; absolute values add up to 1.
        whole: whether all of the article was examined; of more than `EXPLAINED` characters only the passages that
            count most are.
    """

    found: Found
    words: Sequence[tuple[str, float]]
    heat: FloatArray
    shares: Mapping[str, float]
    whole: bool = True


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

    def score(rows: FloatArray) -> FloatArray:
        return desk.scores(asked, rows, np.zeros(len(rows), np.float32))["visual"]

    def heat() -> FloatArray:
        try:
            return covered(desk, picture(desk, photo), score, grid)
        except PhotoError:
            return np.empty((0, 0), np.float32)

    with ThreadPoolExecutor(1) as beside:  # what one of the two leaves of the cores the other takes
        seeing = beside.submit(copy_context().run, heat)
        words = falls(desk, question, point, found) if question.article is not None else []
    seen = question.article is None or _length(question.article) <= EXPLAINED
    return Reason(found, words, seeing.result(), shares, seen)


def falls(desk: Scorer, question: Question, point: Point, found: Found) -> list[tuple[str, float]]:
    """The words of the article, and how much the score of a photo falls without each.

    Args:
        desk: the archive.
        question: with an article.
        point: the photo; the score of its caption is shared by the words that are in both.
        found: the photo as an answer.
    """
    assert question.article is not None
    text = _Text(desk, question, point, found)
    units = text.passages()
    if sum(text.price(unit) * (unit.end - unit.start) for unit in units) <= COST:
        return text.told(text.measured([word for unit in units for word in text.words(unit)]))
    chosen, rest, left = list[_Unit](), list[_Unit](), EXPLAINED
    for unit in sorted(text.measured(units), key=lambda unit: -abs(unit.fall)):
        taken = not chosen or text.length(unit) <= left
        (chosen if taken else rest).append(unit)
        left -= text.length(unit) * taken
    return text.told([*rest, *_divided(text, chosen)])


def _divided(text: _Text, units: list[_Unit]) -> list[_Unit]:
    """Units in parts, those that count most in the smallest, for `COST`: each in sentences first, or in fewer parts
    where these would leave less than a third for clauses and words."""
    left, done, parts = COST, list[_Unit](), list[_Unit]()
    for i, unit in enumerate(units):
        found = text.divided(unit, (left - COST // 3) // sum(map(text.price, units[i:])))
        left -= text.price(unit) * len(found)
        parts += found or [unit]
    units = text.measured(parts)
    while units:
        most, parts, waiting = max(abs(unit.fall) for unit in units), [], list[_Unit]()
        for unit in sorted(units, key=lambda unit: -abs(unit.fall)):
            if abs(unit.fall) < most / 2:
                waiting.append(unit)
            elif found := text.divided(unit, left // text.price(unit)):
                left -= text.price(unit) * len(found)
                parts += found
            else:
                done.append(unit)
        units = waiting + text.measured(parts)
    return done


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
    with ThreadPoolExecutor(count := cores()) as pool:
        features = list[FloatArray]()
        for at in range(0, len(batches), count):
            cancellation.check()
            features += pool.map(
                lambda batch: tower.encode(np.stack([tower.prepare(one) for one in batch])), batches[at : at + count]
            )
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


_SENTENCE = re.compile(r"""[.!?…]["'»“”’)\]]*$""")
_CLAUSE = re.compile(r"""[,;:]["'»“”’)\]]*$|^[–—-]$""")


@dataclass(frozen=True, slots=True)
class _Unit:
    """A run of words of a passage, and by how much the score falls without it."""

    passage: int
    field: str
    start: int
    end: int
    fall: float = 0.0


class _Text:
    """An article in passages that are read by themselves, and what a photo scores without parts of it.

    Passages are what `Reader.parts` gives; of a tower that reads long texts in windows of its own they are no longer
    than a window of a body, and weigh by their words what the part weighs.
    """

    def __init__(self, desk: Scorer, question: Question, point: Point, found: Found) -> None:
        assert question.article is not None
        reader, tower = desk.reader, desk.encoder.texts
        self._desk, self._point, self._pictures = desk, point, desk.pictures(question)
        parts, self._weights = reader.parts(question.article)
        windowed = not tower.fields and not tower.context
        cuts = [[part] if not windowed else _windows(part) for part in parts]
        self._articles = [passage for passages in cuts for passage in passages]
        self._part = [i for i, passages in enumerate(cuts) for _ in passages]
        rows = reader.texts([*parts, *self._articles])
        self._whole, self._rows = rows[: len(parts)], rows[len(parts) :]
        self._words = {
            (k, name): getattr(passage, name).split() for k, passage in enumerate(self._articles) for name in FIELDS
        }
        every = " ".join(word for words in self._words.values() for word in words)
        named = desk.shared(every, point.entry) if not question.words else {}
        names = found.components["names"]
        self._named = {
            key: [names * named.pop(word, 0.0) for word in words] for key, words in self._words.items()
        }  # a word counts where it stands first
        self._base: dict[int, float] = {}

    def passages(self) -> list[_Unit]:
        """All there is, by passages and fields."""
        return [_Unit(k, name, 0, len(words)) for (k, name), words in self._words.items() if words]

    def words(self, unit: _Unit) -> list[_Unit]:
        """The words of a unit."""
        return [_Unit(unit.passage, unit.field, at, at + 1) for at in range(unit.start, unit.end)]

    def length(self, unit: _Unit) -> int:
        """Characters of a unit."""
        return len(self._said(unit))

    def price(self, unit: _Unit) -> int:
        """Characters that are read, at most, to see what the score is without a part of a unit; at least 1."""
        return max(1, _length(self._articles[unit.passage]))

    def divided(self, unit: _Unit, most: int) -> list[_Unit]:
        """A unit in its sentences, one sentence in its clauses, a clause in its words; neighbours stay together where
        these are more than `most`. Nothing where it cannot be divided."""
        words = self._words[unit.passage, unit.field][unit.start : unit.end]
        if min(most, len(words)) < 2:
            return []
        for ending in (_SENTENCE, _CLAUSE):
            ends = [at for at, word in enumerate(words, 1) if ending.search(word) or at == len(words)]
            if len(ends) > 1:
                break
        else:
            ends = list(range(1, len(words) + 1))
        count = min(most, len(ends))
        ends = [0, *(ends[len(ends) * (j + 1) // count - 1] for j in range(count))]
        return [_Unit(unit.passage, unit.field, unit.start + start, unit.start + end) for start, end in pairwise(ends)]

    def measured(self, units: Sequence[_Unit]) -> list[_Unit]:
        """Units with their falls; all that has to be read for that is read together."""
        shorter = [self._without(unit) for unit in units]
        texts = [article for article in shorter if article is not None]
        rows = iter(self._desk.reader.texts(texts) if texts else ())
        made = []
        for unit, article in zip(units, shorter, strict=True):
            now = self._score(unit.passage, None if article is None else next(rows))
            lifted = sum(self._named[unit.passage, unit.field][unit.start : unit.end])
            made.append(replace(unit, fall=self._unchanged(unit.passage) - now + lifted))
        return made

    def told(self, units: Sequence[_Unit]) -> list[tuple[str, float]]:
        """(words, fall), in the order of the article."""
        order = sorted(units, key=lambda unit: (unit.passage, FIELDS.index(unit.field), unit.start))
        return [(self._said(unit), unit.fall) for unit in order]

    def _said(self, unit: _Unit) -> str:
        return " ".join(self._words[unit.passage, unit.field][unit.start : unit.end])

    def _without(self, unit: _Unit) -> Article | None:
        """The passage without a unit; None where nothing is left of it."""
        words = self._words[unit.passage, unit.field]
        rest = replace(self._articles[unit.passage], **{unit.field: " ".join(words[: unit.start] + words[unit.end :])})
        return rest if any(getattr(rest, name) for name in FIELDS) else None

    def _unchanged(self, passage: int) -> float:
        part = self._part[passage]
        if part not in self._base:
            self._base[part] = self._score(passage, self._rows[passage])
        return self._base[part]

    def _score(self, passage: int, row: FloatArray | None) -> float:
        """Of the article with another row for a passage, or without it; other parts are taken whole."""
        part = self._part[passage]
        own = [k for k, of in enumerate(self._part) if of == part]
        sizes = {k: sum(len(self._words[k, name]) for name in FIELDS) for k in own}
        weights = [weight for i, weight in enumerate(self._weights) if i != part]
        rows = [one for i, one in enumerate(self._whole) if i != part]
        for k in own:
            now = row if k == passage else self._rows[k]
            if now is not None:
                rows.append(now)
                weights.append(self._weights[part] * sizes[k] / max(1, sum(sizes.values())))
        if not rows and not self._pictures:
            return 0.0  # nothing is asked: every photo is as good as photos in general
        desk, point = self._desk, self._point
        texts = np.stack(rows) if rows else np.empty((0, 0), np.float32)
        asked = desk.reader.joined(texts, weights, self._pictures, desk.background)
        scores = desk.scores(asked, point.row[None], np.array([point.offset], np.float32))
        return float(sum(part[0] for part in scores.values()))


def _windows(part: Article) -> list[Article]:
    """A part in passages of at most `WINDOW` words, about equally long."""
    words = part.title.split()
    count = max(1, math.ceil(len(words) / WINDOW))
    if count == 1:
        return [part]
    ends = [len(words) * i // count for i in range(count + 1)]
    return [replace(part, title=" ".join(words[a:b])) for a, b in pairwise(ends)]


def _length(article: Article) -> int:
    return sum(len(getattr(article, name)) for name in FIELDS)
