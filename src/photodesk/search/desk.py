"""An archive that answers one article, one photo or both: visual score, revision, names in captions and recent use,
with a probability.

Every part of a score is in spreads: one is the standard deviation of what the query scores with photos in general
(`confidence.Background`).
"""

from __future__ import annotations

import datetime
import difflib
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from photodesk.archive import rights
from photodesk.archive.archive import Archive
from photodesk.encoders import registry
from photodesk.encoders.base import Encoder
from photodesk.engines import bm25
from photodesk.engines.schema import FACETS, Entry, Filter, Point
from photodesk.errors import UsageError
from photodesk.search import confidence
from photodesk.search.confidence import Background, Confidence
from photodesk.search.query import COMPONENTS, LONGEST, MOST, Answer, Asked, Found, Near, Question, Reader
from photodesk.text.preparation import Preparation
from photodesk.types import FloatArray, Hit

if TYPE_CHECKING:
    from photodesk.search.explain import Reason

NAMES = 2.5
"""Spreads that a photo gains whose caption has all the words and fits them best by BM25; others gain their share of
both."""
WORDED = 20
"""Captions that are looked at for names."""
USED = 3.0
"""Spreads that a photo used today loses; less as days go by."""
NOTHING = 0.1
"""Probability of the best hit below which nothing in the archive fits."""
SIMILAR = 0.6
"""How much of diversity is taken for likeness to photos above, see `_diverse`."""
SAMPLE = 2000
SHOWN = 200
"""Values of a field that there are to choose from, the most frequent."""
VALUES = 2000
"""Values of a field among which one is looked for that was meant."""
FRESH = 60.0
"""Seconds for which what is known of the archive as a whole is taken as it is."""


@dataclass(frozen=True, slots=True, eq=False)
class _Whole:
    """What is known of the archive as a whole, for a while."""

    until: float
    photos: int
    background: Background
    revised: bool
    facets: dict[Filter, dict[str, Mapping[str, int]]]
    state: tuple[object, ...] = ()


class Desk:
    """An open archive with its encoder; methods may be called from several threads.

    Args:
        archive: open.
        encoder: None loads the archive's.
        preparation: how articles become texts, such as by a translation; its fields do not count.

    Raises:
        StoreError: the archive was made by another encoder.
    """

    def __init__(
        self, archive: Archive, encoder: Encoder | None = None, *, preparation: Preparation | None = None
    ) -> None:
        self.archive, self.encoder = archive, encoder or registry.load(archive.settings.encoder)
        archive.check(self.encoder)
        self.reader = Reader(self.encoder, preparation)
        self.confidence = Confidence.find(self.encoder.fingerprint, archive.folder)
        self._curve = (self.confidence.bias, self.confidence.slope) if self.confidence else confidence.shipped()
        self._whole: _Whole | None = None
        self._lock, self._counting = threading.Lock(), threading.Lock()

    def ask(self, question: Question) -> Answer:
        """The best photos for a question.

        Raises:
            UsageError: it asks nothing, or names a photo that is not there.
        """
        started = time.perf_counter()
        if not 1 <= question.top <= MOST:
            raise UsageError(f"top={question.top}: an answer has one photo at least and {MOST:,} at most")
        if not 0 <= question.used_days <= LONGEST:
            raise UsageError(f"used_days={question.used_days}: expected 0 to {LONGEST:,}")
        whole = self._known()
        asked = self._asked(question, whole)
        used = self._used(question.used_days)
        where = question.where if question.used_days == 0 or not question.hide_used else _without(question.where, used)
        worded = self.archive.engine.lexical(asked.words, WORDED, where) if asked.words.strip() else ()
        count = (
            4 * question.top if question.diverse else question.top + max(16, question.top // 2) + min(len(used), 200)
        )
        while True:
            near = self.archive.engine.search(asked.row, count, where, revised=asked.revised * whole.revised)
            points = self.archive.points(list(dict.fromkeys(hit.photo for hit in (*near, *worded))))
            ranked = self._scored(points, asked, whole, self._named(asked.words, worded, points), used)
            chosen = (
                _folded(ranked, question)
                if question.fold
                else [found for found in ranked if found.photo != question.like]
            )
            if len(chosen) >= question.top or len(near) < count or count > 5000:
                break
            count *= 4
        if question.diverse:
            chosen = _diverse(chosen, {point.photo: point.row for point in points}, question.top)
        hits = self._complete(chosen[: question.top], listed=question.fold)
        alone = (
            question.article is not None and not question.like and question.picture is None
        )  # what curves are fitted on
        calibrated = self.confidence is not None and alone
        nothing = max((hit.probability for hit in hits), default=0.0) < NOTHING and not any(
            hit.components["names"] >= NAMES / 2 for hit in hits
        )
        message, alike = "", list[Near]()
        if not hits:
            message = "no photo passes the filters" if question.where else "the archive is empty"
            alike = self._near(question.where)
            message += "".join(
                f"; {name} {value!r} is not there, but {', '.join(map(repr, like))}" for name, value, like in alike
            )
        elif nothing:
            message = (
                f"nothing in this archive fits: even the best of {whole.photos:,} photos is right in fewer than "
                f"{NOTHING:.0%} of such cases"
            )
        return Answer(
            hits,
            nothing,
            message,
            calibrated,
            time.perf_counter() - started,
            alike,
        )

    def _near(self, where: Filter) -> list[Near]:
        """Values of a filter that no photo has, with those that are written much alike, if there are any."""
        found = []
        for name in ("credit", "terms", "keywords"):
            if wanted := getattr(where, name):
                known = self.archive.engine.facets(name, VALUES)
                folded = {value.casefold(): value for value in reversed(known)}
                for value in wanted:
                    close = difflib.get_close_matches(value.casefold(), folded, 3, 0.6) if value not in known else []
                    found += [(name, value, tuple(folded[one] for one in close))] if close else []
        return found

    def facets(self, where: Filter, fields: Sequence[str] = FACETS) -> dict[str, Mapping[str, int]]:
        """Field → value → photos that pass a filter; counted once for each filter and state of the archive, one after
        the other."""
        known = self._known().facets
        with self._counting:
            found = known.setdefault(where, {})
            for name in fields:
                if name not in found:
                    found[name] = self.archive.engine.facets(name, SHOWN, where)
            while len(known) > 100:
                known.pop(next(iter(known)), None)
            return {name: found[name] for name in fields}

    def counted(self, where: Filter, fields: Sequence[str] = FACETS) -> dict[str, Mapping[str, int]] | None:
        """What `facets` says, at once; None where it is yet to be counted."""
        found = self._known().facets.get(where, {})
        return {name: found[name] for name in fields} if found.keys() >= set(fields) else None

    def scores(self, asked: Asked, rows: FloatArray, numbers: FloatArray) -> dict[str, FloatArray]:
        """`visual` and `revision` of photos, in spreads: (n,) each, for (n, d) rows and (n,) numbers of a revision."""
        whole, background = self._known(), self.background
        spread = np.float32(background.spread(asked.row))
        visual = (rows @ asked.row - np.float32(background.centre(asked.row))) / spread
        return {"visual": visual, "revision": -numbers * np.float32(asked.revised * whole.revised) / spread}

    def probability(self, visual: FloatArray) -> FloatArray:
        """That a photo fits, by its visual score."""
        bias, slope = self._curve
        made: FloatArray = (1 / (1 + np.exp(-(bias + slope * visual.astype(np.float64))))).astype(np.float32)
        return made

    @property
    def background(self) -> Background:
        """What scores are measured by."""
        return self._known().background

    def pictures(self, question: Question) -> list[FloatArray]:
        """Rows of the photos that are asked with."""
        like = [self._point(question.like).row] if question.like else []
        return like + ([self.reader.photo(question.picture)] if question.picture is not None else [])

    def shared(self, words: str, entry: Entry) -> dict[str, float]:
        """Those of the words that a photo's texts have too, each with its equal share."""
        language = self.archive.settings.language
        said = set(bm25.document(entry.text, language)[0])
        common = [word for word in dict.fromkeys(words.split()) if said & set(bm25.query(word, language)[0])]
        return dict.fromkeys(common, 1 / len(common)) if common else {}

    def why(self, question: Question, photo: str) -> Reason:
        """What made the score of a photo; see `explain.why`.

        Raises:
            UsageError: it asks nothing, or there is no such photo.
        """
        from photodesk.search import explain

        return explain.why(self, question, photo)

    def found(self, question: Question, photo: str) -> tuple[Found, Asked, Point]:
        """One photo as an answer to a question, whatever its rank.

        Raises:
            UsageError: no such photo.
        """
        whole = self._known()
        asked, used = self._asked(question, whole), self._used(question.used_days)
        point = self._point(photo)
        worded = self.archive.engine.lexical(asked.words, WORDED, question.where) if asked.words.strip() else ()
        named = self._named(asked.words, worded, [point])
        return self._complete(self._scored([point], asked, whole, named, used), listed=True)[0], asked, point

    def refresh(self) -> None:
        """Look at the archive as a whole again at the next question; it is done every minute anyway."""
        with self._lock:
            self._whole = None

    def _point(self, photo: str) -> Point:
        found = self.archive.points([photo])
        if not found:
            raise UsageError(f"the archive has no photo {photo}")
        return found[0]

    def _asked(self, question: Question, whole: _Whole) -> Asked:
        return self.reader.ask(question, whole.background, self._point(question.like).row if question.like else None)

    def _named(self, words: str, hits: Sequence[Hit], points: Sequence[Point]) -> dict[str, float]:
        """What the best captions have of the words: id → share of the best score by BM25 times share of the words that
        are there."""
        if not hits:
            return {}
        language, entries = self.archive.settings.language, {point.photo: point.entry for point in points}
        wanted = set(bm25.query(words, language)[0])

        def share(photo: str) -> float:
            return len(wanted & set(bm25.document(entries[photo].text, language)[0])) / len(wanted)

        return {hit.photo: hit.score / hits[0].score * share(hit.photo) for hit in hits if hit.photo in entries}

    def _used(self, days: int) -> dict[str, str]:
        if not days:
            return {}
        since = datetime.datetime.now(datetime.UTC).date() - datetime.timedelta(days=days)
        return self.archive.usage.used(since.isoformat())

    def _scored(
        self, points: Sequence[Point], asked: Asked, whole: _Whole, named: Mapping[str, float], used: Mapping[str, str]
    ) -> list[Found]:
        if not points:
            return []
        rows, numbers = (
            np.stack([point.row for point in points]),
            np.array([point.offset for point in points], np.float32),
        )
        parts = self.scores(asked, rows, numbers)
        today = datetime.datetime.now(datetime.UTC).date()
        names = np.array([NAMES * named.get(point.photo, 0.0) for point in points], np.float32)
        days = [
            max(0, (today - datetime.date.fromisoformat(used[p.photo])).days) if p.photo in used else -1 for p in points
        ]
        date = np.array([0.0 if day < 0 else -USED / (1 + day / 30) for day in days], np.float32)
        total = parts["visual"] + parts["revision"] + names + date
        likely = self.probability(parts["visual"])
        found = [
            Found(
                point.photo,
                float(total[i]),
                float(likely[i]),
                point.entry,
                (),
                used.get(point.photo, ""),
                dict(
                    zip(
                        COMPONENTS,
                        map(float, (parts["visual"][i], names[i], parts["revision"][i], date[i])),
                        strict=True,
                    )
                ),
            )
            for i, point in enumerate(points)
        ]
        return sorted(found, key=lambda hit: (-hit.score, hit.photo))

    def _complete(self, hits: Sequence[Found], *, listed: bool) -> list[Found]:
        """Hits with what their near-duplicates say, whether or not these pass the filters and were near enough to be
        looked at."""
        groups = rights.groups(self.archive, {hit.photo: hit.entry for hit in hits})
        made = []
        for hit in hits:
            entry, origins = groups[hit.photo].known(hit.photo, hit.entry)
            similar = tuple(one for one in groups[hit.photo].members if one.photo != hit.photo) if listed else ()
            made.append(replace(hit, entry=entry, similar=similar, origins=origins))
        return made

    def _known(self) -> _Whole:
        whole = self._whole
        if whole is not None and time.monotonic() < whole.until:
            return whole
        with self._lock:
            if self._whole is None or time.monotonic() >= self._whole.until:
                self._whole = self._look()
            return self._whole

    def _look(self) -> _Whole:
        photos = self.archive.database.photos()
        if self.confidence:
            background = self.confidence.background
        else:
            drawn = np.sort(np.random.default_rng(0).permutation(len(photos))[:SAMPLE])
            points = self.archive.points([photos[i] for i in drawn])
            dim = self.archive.settings.dim
            rows = np.stack([point.row for point in points]) if points else np.eye(dim, dtype=np.float32)
            background = Background.of(rows)
        state = (len(photos), photos[-1:], *self.archive.database.last_job())
        facets = self._whole.facets if self._whole and self._whole.state == state else {}
        return _Whole(time.monotonic() + FRESH, len(photos), background, self.archive.revised(), facets, state)


def _without(where: Filter, used: Mapping[str, str]) -> Filter:
    return replace(where, without=tuple(sorted({*where.without, *used})))


def _folded(ranked: Sequence[Found], question: Question) -> list[Found]:
    """The best of each group of near-duplicates; the photo that was asked with is no answer to itself."""
    best: dict[str, Found] = {}
    for found in ranked:
        if found.photo != question.like:
            best.setdefault(found.entry.group or found.photo, found)
    return list(best.values())


def _diverse(ranked: Sequence[Found], rows: Mapping[str, FloatArray], top: int) -> list[Found]:
    """Greedily the photo that is best after its likeness to those above is taken off: maximal marginal relevance.

    Source: Carbonell and Goldstein, The use of MMR, SIGIR 1998. Likeness is a cosine, scores are in spreads; both count
    from the range that they have among the candidates.
    """
    if not ranked:
        return []
    matrix = np.stack([rows[found.photo] for found in ranked])
    scores = np.array([found.score for found in ranked])
    scores = (scores - scores.min()) / max(float(np.ptp(scores)), 1e-9)
    alike = matrix @ matrix.T
    alike = (alike - alike.min()) / max(float(np.ptp(alike)), 1e-9)
    taken, most = [0], alike[0].copy()
    while len(taken) < min(top, len(ranked)):
        gain = (1 - SIMILAR) * scores - SIMILAR * most
        gain[taken] = -np.inf
        taken.append(int(np.argmax(gain)))
        most = np.maximum(most, alike[taken[-1]])
    return [ranked[i] for i in taken]
