"""A question to a desk, the one row that an engine is searched with for it, and the answer.

An article is its headline with lead, and its body in windows; a photo is a row of the same space. Each scores photos on
a scale of its own, so each is divided by the standard deviation of its scores before they are added: the sum is one row
again, and any engine searches it exactly.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from photodesk.archive.rights import Similar
from photodesk.encoders import cancellation
from photodesk.encoders.base import Encoder
from photodesk.engines.schema import EVERYTHING, Entry, Filter
from photodesk.errors import UsageError
from photodesk.features.embed import photo_rows, prepared, text_rows
from photodesk.search import confidence
from photodesk.search.confidence import Background
from photodesk.text.preparation import Preparation, join_fields
from photodesk.text_repair import repair
from photodesk.types import Article, FloatArray

if TYPE_CHECKING:
    from PIL import Image

FIELDS = ("title", "lead", "text")
WINDOW, WINDOWS = 60, 16
"""Words of a body that are read at once, and windows at most: longer bodies have longer windows where the model takes
them."""
SHORT = 40
"""Words of a window for models that cut long texts."""
BODY = 0.5
"""Weight of all windows of the body together, against 1 of headline and lead."""
READ = 20_000
"""Characters of an article that are read, from its headline on: about ten pages, so that no article costs more."""
TOGETHER = 32
"""Texts that are read at once; work that nobody waits for ends between."""
REMEMBERED = 2048
MOST = 10_000
"""Photos of one answer."""
LONGEST = 36_500
"""Days that a use can be called recent."""


@dataclass(frozen=True, slots=True)
class Question:
    """An article, a photo or both, and which photos may be found.

    Args:
        article: title, lead and text are read, `language` tells a translator; None where only a photo is asked with.
        like: id of a photo of the archive; picture: one from outside.
        where: which photos may be found; its phrase must stand in them word for word.
        without: words for what is not to be seen: what shows it sinks, and photos whose texts have it are left out.
        file: part of the name or of the folders of their files, see `Database.holding`; empty asks nothing.
        words: names or keywords that lift photos whose captions have them; empty takes those of headline and lead.
        used_days: what counts as recently used; 0 asks nothing. hide_used: leave such photos out, instead of pushing
            them down.
        diverse: prefer photos that differ from those above them.
        fold: near-duplicates are one hit.
        top: how many hits.
    """

    article: Article | None = None
    like: str = ""
    picture: Image.Image | None = None
    where: Filter = EVERYTHING
    words: str = ""
    used_days: int = 0
    hide_used: bool = False
    diverse: bool = False
    fold: bool = True
    top: int = 60
    file: str = ""
    without: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        words, phrase = (" ".join(repair(text)[0].split()) for text in (self.words, self.where.phrase))
        object.__setattr__(self, "words", words)
        object.__setattr__(self, "where", replace(self.where, phrase=phrase))


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """A question as numbers.

    Args:
        row: (d,); a photo's score is `row · photo − revised · offset`.
        revised: how much of a photo's hubness offset is subtracted: photos that are asked with have no part in it.
        words: what captions are searched for.
        unwanted: (k, d) rows of what is not to be seen.
    """

    row: FloatArray
    revised: float
    words: str
    unwanted: FloatArray = field(default_factory=lambda: np.empty((0, 0), np.float32))


def windows(text: str, context: int) -> list[str]:
    """A body in parts of about equal length that a model reads one by one."""
    words = text.split()
    size = SHORT if context else max(WINDOW, math.ceil(len(words) / WINDOWS))
    count = math.ceil(len(words) / size)
    return [" ".join(words[len(words) * i // count : len(words) * (i + 1) // count]) for i in range(count)]


def beginning(article: Article) -> Article:
    """The article as far as it is read: `READ` characters, cut between words."""
    left, kept = READ, {}
    for name in ("title", "lead", "text"):
        text = getattr(article, name)
        if len(text) > left:
            text = text[:left].rpartition(" ")[0] or text[:left]
            left = 0
        kept[name] = text
        left = max(0, left - len(text))
    return replace(article, **kept)


def cut(article: Article) -> bool:
    """Whether it is longer than what is read."""
    return len(article.title) + len(article.lead) + len(article.text) > READ


class Reader:
    """Turns questions into rows; what it has read it remembers, so that typing on costs only what is new. May be used
    from several threads.

    Args:
        encoder: of the archive.
        preparation: how texts are prepared, such as by a translation; its fields do not count.
    """

    def __init__(self, encoder: Encoder, preparation: Preparation | None = None) -> None:
        self.encoder, self.preparation = encoder, preparation or Preparation()
        self._known: OrderedDict[tuple[str, ...], FloatArray] = OrderedDict()
        self._lock = threading.Lock()

    def parts(self, article: Article) -> tuple[list[Article], list[float]]:
        """What of the beginning of an article is read by itself, each as an article of its own, and the weights.

        Raises:
            UsageError: there is no text.
        """
        article = beginning(article)
        if sets := self.encoder.texts.fields:  # it reads each by itself
            parts, weights = ([article], [1.0]) if any(join_fields(article, fields) for fields in sets) else ([], [])
        else:
            head = join_fields(article, ("title", "lead"))
            body = windows(join_fields(article, ("text",)), self.encoder.texts.context)
            parts = [Article("", text, language=article.language) for text in [head] * bool(head) + body]
            weights = [1.0] * bool(head) + [BODY / max(len(body), 1)] * len(body)
        if not parts:
            raise UsageError("there is nothing to search for: the text is empty")
        return parts, weights

    def texts(self, parts: Sequence[Article]) -> FloatArray:
        """(n, d) unit rows of parts."""
        keys = [(part.title, part.lead, part.text, part.tags, part.language) for part in parts]
        with self._lock:
            known = {key: self._known[key] for key in keys if key in self._known}
        if new := {key: part for key, part in zip(keys, parts, strict=True) if key not in known}:
            known |= zip(new, self._read(list(new.values())), strict=True)
            with self._lock:
                self._known.update((key, known[key]) for key in new)
                while len(self._known) > REMEMBERED:
                    self._known.popitem(last=False)
        return np.stack([known[key] for key in keys])

    def photo(self, picture: Image.Image) -> FloatArray:
        """(d,) unit row of a decoded picture."""
        features = self.encoder.photos.encode(np.stack([self.encoder.photos.prepare(picture)]))
        row: FloatArray = photo_rows(features, self.encoder)[0]
        return row

    def ask(self, question: Question, background: Background, like: FloatArray | None = None) -> Asked:
        """A question as one row.

        Args:
            question: what is asked.
            background: what photos in general are like.
            like: row of the photo that `question.like` names.

        Raises:
            UsageError: it asks nothing.
        """
        texts, weights, words = np.empty((0, 0), np.float32), list[float](), question.words
        if question.article is not None:
            parts, weights = self.parts(question.article)
            texts = self.texts(parts)
            words = words or join_fields(beginning(question.article), ("title", "lead"))
        pictures = [like] if like is not None else []
        if question.picture is not None:
            pictures.append(self.photo(question.picture))
        if not len(texts) and not pictures:
            raise UsageError("there is nothing to search for: give a text or a photo")
        asked = self.joined(texts, weights, pictures, background, words)
        if not question.without:
            return asked
        head = self.parts(question.article)[0][0] if question.article else None
        return replace(asked, unwanted=np.stack([self._unwanted(word, head, background) for word in question.without]))

    def _unwanted(self, word: str, head: Article | None, background: Background) -> FloatArray:
        """(d,) row of a motif: of the word, of the word said twice, which reads as many of them, and of what it adds to
        the text that is asked with. The sum tells motifs apart better than any: see benchmarks/without.py."""
        if head is None:
            rows = [*self.texts([Article("", word), Article("", f"{word}, {word}")])]
        else:
            both = replace(head, title=f"{join_fields(head, FIELDS)}, {word}", lead="", text="")
            said = (word, f"{word}, {word}")
            *rows, plain, more = self.texts([*(Article("", one, language=head.language) for one in said), head, both])
            rows.append(more - plain)
        row: FloatArray = np.sum([row / np.float32(background.deviation(row)) for row in rows], axis=0)
        return row

    def joined(
        self,
        texts: FloatArray,
        weights: Sequence[float],
        pictures: Sequence[FloatArray],
        background: Background,
        words: str = "",
    ) -> Asked:
        """(n, d) rows of texts with weights, and rows of photos, as one row."""
        rows = [*texts, *pictures]
        scaled = [
            weight / background.deviation(row)
            for row, weight in zip(rows, [*weights, *[1.0] * len(pictures)], strict=True)
        ]
        total = sum(scaled)
        row: FloatArray = np.sum(
            [r * np.float32(s / total) for r, s in zip(rows, scaled, strict=True)], axis=0, dtype=np.float32
        )
        return Asked(row, float(sum(scaled[: len(texts)]) / total), words)

    def _read(self, articles: Sequence[Article]) -> FloatArray:
        texts, _ = prepared(articles, replace(self.preparation, fields=("title",)), self.encoder.texts)
        order = sorted(range(len(texts)), key=lambda i: sum(map(len, texts[i])))  # texts of like length cost least
        features = np.empty((len(texts), self.encoder.texts.dim), np.float32)
        for at in range(0, len(order), TOGETHER):
            cancellation.check()
            chosen = order[at : at + TOGETHER]
            features[chosen] = self.encoder.texts.read([texts[i] for i in chosen])
        return text_rows(features, self.encoder)


COMPONENTS = ("visual", "names", "revision", "date", "without")

Near = tuple[str, str, Mapping[str, int]]


@dataclass(frozen=True, slots=True)
class Found:
    """One photo of an answer.

    Args:
        photo: its id; the thumbnail has the same.
        score: in standard deviations above what the query scores with photos in general; comparable within one answer.
        probability: that it fits, by what is to be seen.
        entry: caption, credit, date and all else that is known of it; the usage terms are those of all its
            near-duplicates, see `rights`.
        similar: near-duplicates in the archive that it stands for, the largest picture first; none where they are hits
            of their own.
        used: day of its last use, if that is recent.
        components: what makes its score: visual, names, revision, date (of its last use), without (what is not to be
            seen).
        origins: field of `entry` → near-duplicates that its value, or a part of its usage terms, came from.
        embargo: until when it or a near-duplicate is forbidden, as `archive.embargo.read` says it.
    """

    photo: str
    score: float
    probability: float
    entry: Entry
    similar: Sequence[Similar] = ()
    used: str = ""
    components: Mapping[str, float] = field(default_factory=dict)
    origins: Mapping[str, Sequence[str]] = field(default_factory=dict)
    embargo: str = ""

    @property
    def words(self) -> str:
        """The probability for people."""
        return confidence.words(self.probability)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a desk says to a question.

    Args:
        hits: best first.
        nothing_fits: even the best is not likely enough.
        message: in a sentence, where there is something to say.
        calibrated: whether probabilities were fitted for this encoder and kind of query.
        took: seconds.
        near: of filters: field, value asked for, other values near to it and how many photos have each: other spellings
            of it, which were found as well; those that hold it, such as "picture alliance/dpa"; where no photo passes,
            those that are written much alike.
    """

    hits: Sequence[Found]
    nothing_fits: bool = False
    message: str = ""
    calibrated: bool = True
    took: float = 0.0
    near: Sequence[Near] = ()
