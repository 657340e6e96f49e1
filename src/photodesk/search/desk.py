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
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from photodesk.archive import rights
from photodesk.archive.archive import Archive
from photodesk.encoders import registry
from photodesk.encoders.base import Encoder
from photodesk.engines import bm25
from photodesk.engines.schema import ANY, FACETS, LISTS, Entry, Filter, Point, holds, tokens
from photodesk.engines.spellings import fold
from photodesk.errors import UsageError
from photodesk.search import confidence, query
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
WITHOUT = 8.0
"""What a photo loses for each spread that it is more like an unwanted motif than `SHOWS`: see benchmarks/without.py."""
SHOWS = -0.75
"""Spreads from photos in general from which on a photo counts as showing a motif."""
DEEP = 500
"""Photos that are looked at where a motif is unwanted: the best ones may all show it."""
NOTHING = 0.1
"""Probability of the best hit below which nothing in the archive fits."""
SIMILAR = 0.6
"""How much of diversity is taken for likeness to photos above, see `_diverse`."""
SAMPLE = 2000
SHOWN = 200
"""Values of a field that there are to choose from, the most frequent."""
VALUES = 2000
"""Values of a field among which one is looked for that was meant."""
KIN = 5
"""Values near to one that was asked for that are named."""
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
    values: dict[str, Mapping[str, int]]
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
        curve = self.confidence or confidence.shipped()
        self._curve = curve.bias, curve.slope
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
        where = self.archive.among(question.where, question.file)
        hits = self._hits(question, where)
        # curves are fitted on questions with a text alone
        alone = question.article is not None and not question.like and question.picture is None
        calibrated = self.confidence is not None and alone
        nothing = max((hit.probability for hit in hits), default=0.0) < NOTHING and not any(
            hit.components["names"] >= NAMES / 2 for hit in hits
        )
        near_by = self._near(question.where)
        message = "; ".join(self._notes(question, where, bool(hits), nothing, near_by))
        return Answer(hits, nothing, message, calibrated, time.perf_counter() - started, near_by)

    def _hits(self, question: Question, where: Filter) -> list[Found]:
        """The photos of an answer, best first."""
        whole = self._known()
        asked = self._asked(question, whole)
        used = self._used(question.used_days)
        where = where if question.used_days == 0 or not question.hide_used else _without(where, used)
        worded = self.archive.engine.lexical(asked.words, WORDED, where) if asked.words.strip() else ()
        more = max(16, question.top // 2) + min(len(used), 200)
        count = 4 * question.top if question.diverse else question.top + more
        if question.without:
            count = max(count, DEEP)
        while True:
            near = self.archive.engine.search(asked.row, count, where, revised=asked.revised * whole.revised)
            points = self.archive.points(list(dict.fromkeys(hit.photo for hit in (*near, *worded))))
            points = self._lacking(points, question.without)
            ranked = self._scored(points, asked, whole, self._named(asked.words, worded, points), used)
            others = [found for found in ranked if found.photo != question.like]
            chosen = _folded(ranked, question) if question.fold else others
            if len(chosen) >= question.top or len(near) < count or count > 5000:
                break
            count *= 4
        if question.diverse:
            chosen = _diverse(chosen, {point.photo: point.row for point in points}, question.top)
        return self._complete(chosen[: question.top], listed=question.fold)

    def _notes(
        self, question: Question, where: Filter, found: bool, nothing: bool, near_by: Sequence[Near]
    ) -> Iterator[str]:
        """What there is to say about an answer."""
        if not found:
            yield "no photo passes the filters" if where else "the archive is empty"
        elif nothing:
            yield (
                f"nothing in this archive fits: even the best of {self._known().photos:,} photos is right in fewer "
                f"than {NOTHING:.0%} of such cases"
            )
        if question.article is not None and query.cut(question.article):
            yield f"only the first {query.READ:,} characters of the text are read"
        for name, value, others in near_by:
            counts = (
                f"{count:,} photo{'s have' if count != 1 else ' has'} {other!r}" for other, count in others.items()
            )
            yield f"{name} {value!r}: {', '.join(counts)}"

    def _near(self, where: Filter) -> list[Near]:
        """Values of a filter that there are others near to; see `Answer.near`."""
        found = list[Near]()
        for name in (*ANY, *LISTS):
            for value in getattr(where, name):
                if near := _kin(value, self._values(name)):
                    found.append((name, value, near))
        return found

    def _values(self, name: str) -> Mapping[str, int]:
        """Values of a field in the whole archive, and how many photos have each."""
        known = self._known().values
        if name not in known:
            known[name] = self.archive.engine.facets(name, VALUES)
        return known[name]

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
        spread = np.float32(background.deviation(asked.row))
        visual = (rows @ asked.row - np.float32(background.mean_score(asked.row))) / spread
        return {"visual": visual, "revision": -numbers * np.float32(asked.revised * whole.revised) / spread}

    def sinks(self, asked: Asked, rows: FloatArray) -> FloatArray:
        """(n,) what (n, d) rows lose for what is not to be seen in them: nothing where they are no more like it than
        photos in general."""
        lost = np.zeros(len(rows), np.float32)
        for unwanted in asked.unwanted:
            spread = np.float32(self.background.deviation(unwanted))
            likeness = (rows @ unwanted - np.float32(self.background.mean_score(unwanted))) / spread
            lost -= WITHOUT * np.maximum(likeness - SHOWS, 0)
        return lost

    def _lacking(self, points: Sequence[Point], without: Sequence[str]) -> list[Point]:
        """Those of some photos whose texts have none of the unwanted words, in any form."""
        language = self.archive.settings.language
        unwanted = [words for said in without if (words := {*bm25.query(said, language)[0]})]
        return [
            point
            for point in points
            if not unwanted or not any(words <= {*bm25.document(point.entry.text, language)[0]} for words in unwanted)
        ]

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
        where = self.archive.among(question.where, question.file)
        worded = self.archive.engine.lexical(asked.words, WORDED, where) if asked.words.strip() else ()
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
        return {
            hit.photo: hit.score / hits[0].score * bm25.share(words, entries[hit.photo].text, language)
            for hit in hits
            if hit.photo in entries
        }

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
        without = self.sinks(asked, rows)
        total = parts["visual"] + parts["revision"] + names + date + without
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
                        map(float, (parts["visual"][i], names[i], parts["revision"][i], date[i], without[i])),
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
            made.append(replace(hit, entry=entry, similar=similar, origins=origins, embargo=groups[hit.photo].embargo))
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
        same = self._whole if self._whole and self._whole.state == state else None
        facets, values = (same.facets, same.values) if same else ({}, {})
        return _Whole(time.monotonic() + FRESH, len(photos), background, self.archive.revised(), facets, values, state)


def _without(where: Filter, used: Mapping[str, str]) -> Filter:
    return replace(where, without=tuple(sorted({*where.without, *used})))


def _kin(value: str, known: Mapping[str, int]) -> dict[str, int]:
    """Values near to one that was asked for: other spellings of it and those that hold its words, else, if it is not
    there, those that are written much alike."""
    folded = {other: fold(other) for other in known}
    wanted = fold(value)
    same = [other for other, bare in folded.items() if bare == wanted and other != value]
    holding = [other for other, bare in folded.items() if bare != wanted and tokens(value) and holds(other, value)]
    found = same + holding
    if not found and value not in known:
        spelled = {bare: other for other, bare in reversed(folded.items())}
        found = [spelled[bare] for bare in difflib.get_close_matches(wanted, spelled, 3, 0.6)]
    return {other: known[other] for other in found[:KIN]}


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
