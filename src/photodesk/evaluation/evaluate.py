"""How good is a run? R@k and MRR@k against the right pairs, as the official evaluator of NewsImages counts them.

An article succeeds by its best-placed right photo, so several right photos are allowed. Every mean is over all articles
of the truth; an article that the run lacks counts 0.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from decimal import ROUND_HALF_UP, Decimal
from itertools import islice
from math import fsum
from operator import indexOf
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from photodesk.data.editions import scramble, unscramble
from photodesk.data.photo_folder import Names, suggestion
from photodesk.errors import DataError, UsageError
from photodesk.evaluation import bootstrap
from photodesk.evaluation.metrics import DEFAULT, Measure, parse, parse_all
from photodesk.evaluation.run_files import open_rows
from photodesk.evaluation.tables import Table
from photodesk.types import Pair, Run


@dataclass(frozen=True, slots=True, eq=False)
class Report:
    """What `evaluate` found: the rank of the best-placed right photo of every article, and what follows from it.

    Args:
        name: the run's name.
        articles: the n articles of the truth, in its order.
        ranks: (n,) int64, from 1; 0 where no right photo is among the first `max(k)` of the measures.
        measures: what `means` holds.
        denominator: what sums are divided by: n, or the number of pictures in the truth for an official count.
        transductive: how the run saw other test queries; empty if it did not.
        missing: those of `articles` that the run does not rank.
        notes: what a reader of the figures should know, one sentence each.
        subsets: name → the report of the articles of that subset.
    """

    name: str
    articles: tuple[str, ...]
    ranks: NDArray[np.int64]
    measures: tuple[Measure, ...]
    denominator: int
    transductive: str = ""
    missing: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()
    subsets: Mapping[str, Report] = field(default_factory=lambda: MappingProxyType({}))

    def __post_init__(self) -> None:
        view = self.ranks.view()
        view.flags.writeable = False
        object.__setattr__(self, "ranks", view)
        object.__setattr__(self, "subsets", MappingProxyType(dict(self.subsets)))

    @property
    def means(self) -> dict[str, float]:
        """Measure → mean over the truth, by the text that the measure prints as."""
        return {str(measure): self.mean(measure) for measure in self.measures}

    def mean(self, measure: Measure | str) -> float:
        """Mean of the measure over the truth, from a sum that is rounded once."""
        return fsum(self.values(measure)) / self.denominator

    def values(self, measure: Measure | str) -> NDArray[np.float64]:
        """(n,) values of the measure, beside `articles`.

        Raises:
            UsageError: the ranks were not followed as far as the measure's k.
        """
        measure = parse(measure)
        if measure.k > (known := max(m.k for m in self.measures)):
            raise UsageError(f"{measure} needs ranks up to {measure.k}; this report was made for at most {known}")
        return measure.of(self.ranks)

    def interval(
        self, measure: Measure | str, *, level: float = 0.95, samples: int = 2000, seed: int = 0
    ) -> tuple[float, float]:
        """Percentile bootstrap interval of the mean, resampling articles."""
        measure = parse(measure)
        self.values(measure)
        ranks, counts = np.unique(self.ranks, return_counts=True)
        drawn = bootstrap.sums(measure.of(ranks), counts, samples=samples, seed=seed)
        return bootstrap.interval(drawn / self.denominator, level)

    def __iter__(self) -> Iterator[tuple[str, float, float, float]]:
        """Measure, mean, and the ends of its 95 % interval, for every measure."""
        return self.rows()

    def rows(self, *, seed: int = 0) -> Iterator[tuple[str, float, float, float]]:
        """As iterating, with another seed for the intervals."""
        means = self.means
        return ((str(m), means[str(m)], *self.interval(m, seed=seed)) for m in self.measures)

    def table(self, *, per_subset: bool = False, decimal_comma: bool = False, seed: int = 0) -> Table:
        """The report as text: measure, mean, 95 % interval; with `per_subset` also the rows of every subset."""
        rows: list[tuple[str, ...]] = []
        for part, report in [("all", self), *(self.subsets.items() if per_subset else ())]:
            for measure, *figures in report.rows(seed=seed):
                cells = (measure, *(digits(x, decimal_comma=decimal_comma) for x in figures), str(len(report.articles)))
                rows.append((part, *cells) if per_subset else cells)
        head = ("measure", "mean", "95 % from", "to", "articles")
        return Table(self.title, ("subset", *head) if per_subset else head, tuple(rows), left=2 if per_subset else 1)

    @property
    def title(self) -> str:
        """The run's name, and how it is transductive if it is."""
        return self.name + (f" (transductive: {self.transductive})" if self.transductive else "")

    def as_json(self, *, seed: int = 0) -> dict[str, object]:
        """The report as plain values for `json.dump`, with full digits."""
        return {
            "run": self.name,
            "transductive": self.transductive,
            "articles": len(self.articles),
            "denominator": self.denominator,
            "means": self.means,
            "intervals": {measure: [low, high] for measure, _, low, high in self.rows(seed=seed)},
            "notes": list(self.notes),
            "subsets": {name: report.as_json(seed=seed) for name, report in self.subsets.items()},
        }

    def __str__(self) -> str:
        return self.table().text()


def evaluate(
    run: Run | Path,
    pairs: Sequence[Pair],
    measures: Sequence[Measure | str] = DEFAULT,
    *,
    subsets: Mapping[str, str] = MappingProxyType({}),
    scrambled: bool = False,
    official: bool = False,
    decimal_comma: bool = False,
    photos: Collection[str] = (),
) -> Report:
    """Measure a run.

    Args:
        run: a run in memory, or a run file, which is read row by row. There an article may stand twice; as in the
            official evaluator the later row counts where it finds the picture, else the earlier find stays.
        pairs: the truth. An article with several right photos succeeds by the best-placed of them.
        measures: values of `measures.parse`, or the text that it reads, such as "R@10".
        subsets: article id → the name of its subset, for `Report.subsets`.
        scrambled: the truth is that of 2021: run and truth may spell article ids as they are or scrambled, each in its
            own way.
        official: where the truth is not one picture an article, do as the official evaluator: of an article's pairs the
            last counts, and sums are divided by the number of pictures, not of articles.
        decimal_comma: a TREC file writes its scores with decimal commas.
        photos: the gallery, if it is known: photos of the run that neither it nor the truth has are then named. Without
            it they are named where the run has no photo of the truth at all, or calls one by another spelling.

    Raises:
        DataError: no pairs.
        UsageError: no measures.
        RunError: the run file cannot be read.
    """
    if not pairs:
        raise DataError(
            "there is no truth to evaluate against: the data set lists no article with its photo; name a truth file "
            "with --truth"
        )
    chosen = parse_all(measures)
    if not chosen:
        raise UsageError("no measure given; known: R@k and MRR@k, such as R@10, MRR@100")
    right = _right(pairs, official)
    rows = open_rows(run, decimal_comma=decimal_comma)
    articles = tuple(right)
    named: set[str] = set()
    ranks, missing, notes = _follow(rows.items, articles, right, max(m.k for m in chosen), scrambled, named)
    truth = {pair.photo for pair in pairs}
    pictures = len(truth)
    notes += _strangers(named, truth, photos)
    if pictures != len(articles):
        by_picture, by_article = f"{pictures:,} pictures of the truth", f"{len(articles):,} articles of the truth"
        notes.append(
            f"divided by the {by_picture}, as the official evaluator does, not by the {by_article}"
            if official
            else f"divided by the {by_article}; the official evaluator divides by the {by_picture} (--official)"
        )
    denominator = pictures if official else len(articles)
    whole = Report(rows.name, articles, ranks, chosen, denominator, rows.transductive, missing, tuple(notes))
    return replace(whole, subsets=_by_subset(whole, subsets))


def _right(pairs: Sequence[Pair], official: bool) -> dict[str, str | Set[str]]:
    """Article → its right photo, or photos; the last one alone for an official count."""
    right: dict[str, str | Set[str]] = {}
    for pair in pairs:
        if official or right.setdefault(pair.article, pair.photo) == pair.photo:
            right[pair.article] = pair.photo
        else:
            before = right[pair.article]
            right[pair.article] = {pair.photo} | ({before} if isinstance(before, str) else before)
    return right


def _by_subset(whole: Report, subsets: Mapping[str, str]) -> dict[str, Report]:
    """A report of the articles of each subset, divided by their number."""
    parts: dict[str, list[int]] = {}
    for i, article in enumerate(whole.articles):
        if part := subsets.get(article, ""):
            parts.setdefault(part, []).append(i)
    made = {}
    for part, at in parts.items():
        ids = tuple(whole.articles[i] for i in at)
        made[part] = replace(
            whole,
            name=f"{whole.name}, {part}",
            articles=ids,
            ranks=whole.ranks[at],
            denominator=len(at),
            missing=whole.missing.intersection(ids),
            notes=(),
        )
    return made


def _strangers(named: Set[str], truth: Set[str], gallery: Collection[str]) -> list[str]:
    """What to say of photos of a run that nobody knows: how many, and what they may be called here."""
    unknown = sorted(named - truth - frozenset(gallery))
    if not unknown:
        return []
    names = Names({**dict.fromkeys(truth), **dict.fromkeys(gallery)})
    meant = next(((photo, other) for photo in unknown if (other := suggestion(photo, names))), None)
    if not gallery and not meant and named & truth:
        return []  # photos that only the gallery has, and that is not known
    whose = "the data set" if gallery else "the truth"
    count = f"{len(unknown):,} of {len(named):,}"
    note = f"photos that {whose} does not have are never right: {count}, such as {_some(unknown)}"
    return [note + (f"; did you mean {meant[1]!r} by {meant[0]!r}?" if meant else "")]


def _follow(
    rows: Iterable[tuple[int, str, Iterable[str]]],
    articles: Sequence[str],
    right: Mapping[str, str | Set[str]],
    depth: int,
    scrambled: bool,
    named: set[str],
) -> tuple[NDArray[np.int64], frozenset[str], list[str]]:
    """The rank of the best-placed right photo of every article, articles that the run lacks, and what was odd about it;
    adds the photos that it names to `named`."""
    at = {article: i for i, article in enumerate(articles)}
    if scrambled:
        at |= {
            spelt: i
            for i, article in enumerate(articles)
            for spelt in (scramble(article), unscramble(article))
            if spelt not in at
        }
    ranks = [0] * len(articles)
    seen = [False] * len(articles)
    unknown: list[str] = []
    twice: list[str] = []
    obscured = 0
    for _, article, ranked in rows:
        photos = ranked if isinstance(ranked, list) else list(ranked)
        named.update(photos)
        i = at.get(article)
        if i is None:
            unknown.append(article)
            continue
        if seen[i]:
            twice.append(article)
        seen[i] = True
        obscured += scrambled and unscramble(article) != article
        wanted = right[articles[i]]
        try:
            if isinstance(wanted, str):
                ranks[i] = indexOf(islice(photos, depth), wanted) + 1
            else:
                ranks[i] = next(rank for rank, photo in enumerate(islice(photos, depth), 1) if photo in wanted)
        except (ValueError, StopIteration):
            pass
    notes = []
    if scrambled:
        ids = "scrambled" if obscured else "true"
        notes.append(
            f"article ids recognised as the {ids} ones of 2021 ({obscured or sum(seen):,} of {len(articles):,})"
        )
    if missing := [article for article, there in zip(articles, seen, strict=True) if not there]:
        notes.append(
            f"articles missing from the run count 0: {len(missing):,} of {len(articles):,}, such as {_some(missing)}"
        )
    if unknown:
        notes.append(f"articles that the truth does not have count nothing: {len(unknown):,}, such as {_some(unknown)}")
    if twice:
        notes.append(
            f"of articles that come again the later row counts if it finds the picture: {len(twice):,}, such as "
            f"{_some(twice)}"
        )
    return np.array(ranks, np.int64), frozenset(missing), notes


def _some(ids: Sequence[str]) -> str:
    return ", ".join(map(repr, ids[:3])) + (", …" if len(ids) > 3 else "")


def digits(value: float, places: int = 5, *, decimal_comma: bool = False) -> str:
    """A figure as the official evaluator prints it: halves are rounded up from the shortest decimal form, as Java
    does."""
    text = f"{Decimal(repr(float(value))).quantize(Decimal(1).scaleb(-places), ROUND_HALF_UP)}"
    return text.replace(".", ",") if decimal_comma else text
