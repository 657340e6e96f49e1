"""Which pairs are trained on, which choose, which are measured: by group, at random or by time, each checked for
leakage."""

from __future__ import annotations

import datetime
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from photodesk.data.groups import held_out
from photodesk.errors import DataError, UsageError
from photodesk.training.pairs import Fact, Pairs

Mask = NDArray[np.bool_]

_DATE = re.compile(r"(\d{4})\D?(\d{2})\D?(\d{2})")
LISTED = 20  # leaks that a message names

_SHARED = {
    "title": ("same title", "the same title as"),
    "url": ("same URL", "the same URL as"),
    "photo": ("same picture", "the same picture as"),
    "alike": ("near-duplicate", "a near-duplicate picture of"),
}
"""What two pairs may share (a field of `Fact`), its name in model cards, and in a sentence."""

NONE_LEFT = (
    "no pair of the first data set is left to train on; keep fewer apart with --validation and --test (they take whole "
    "groups of pairs that "
    "share a title or picture)"
)
"""What is said where every pair is kept apart."""


@dataclass(frozen=True, slots=True)
class Split:
    """How pairs are divided; prints as it parses: `grouped`, `random`, `time:2023-07-20`.

    Args:
        kind: "grouped" never parts what shares a title, URL or (near-duplicate) picture; "random" parts anything, as
            the papers did; "time" tests on articles from `date` on.
        date: ISO date of "time".
    """

    kind: str = "grouped"
    date: str = ""

    def __str__(self) -> str:
        return f"{self.kind}:{self.date}" if self.date else self.kind


def parse(text: str) -> Split:
    """The split of that text.

    Raises:
        UsageError: it is none.
    """
    kind, colon, date = text.partition(":")
    if kind == "time" and (found := iso(date)):
        return Split(kind, found)
    if colon or kind not in ("grouped", "random"):
        raise UsageError(f"split {text!r}: expected grouped, random, or time:YEAR-MONTH-DAY such as time:2023-07-20")
    return Split(kind)


def iso(date: str) -> str:
    """The day in a date that begins `20230719…` or `2023-07-19…`; empty if there is none, or no calendar has it."""
    found = _DATE.match(date.strip())
    day = "-".join(found.groups()) if found else ""
    try:
        return datetime.date.fromisoformat(day).isoformat()
    except ValueError:
        return ""


def divide(pairs: Pairs, split: Split, *, validation: float, test: float, seed: int) -> tuple[Mask, Mask, Mask]:
    """(n,) training, validation and test part; the last two are of the data sets that the network is for
    (`Pairs.main`).

    Args:
        pairs: all of them.
        split: how.
        validation: how many pairs choose the epoch; below 1 a share of those that the network is for. By time it is the
            last ones before.
        test: likewise; by time it is every pair from the date on, whatever this says, and those of further data sets
            are left out.
        seed: of the order.

    Raises:
        DataError: the pairs have no dates or none is from the date on, or none is left to train on.
    """
    main = np.flatnonzero(pairs.main)
    sizes = [round(part * len(main)) if part < 1 else int(part) for part in (test, validation)]
    kept_apart: list[Mask] = []
    late = np.zeros(len(pairs), np.bool_)
    if split.kind == "time":
        days = np.array([iso(fact.date) for fact in pairs.facts])
        if not (days[main] != "").any():
            raise DataError("the articles have no dates, so they cannot be split by time; use --split grouped")
        late = days >= split.date
        if not late[main].any():
            raise DataError(
                f"no article is of {split.date} or later, the last is of {max(days[main])}; name an earlier day with "
                "--split time:"
            )
        early = main[~late[main]]
        early = early[np.argsort(days[early], kind="stable")]
        kept_apart = [
            late & pairs.main,
            _mask(pairs, early[max(0, len(early) - sizes[1]) :] if sizes[1] else early[:0]),
        ]
    else:
        rest = main
        for step, size in enumerate(sizes):
            group = pairs.group[rest] if split.kind == "grouped" else rest
            chosen = held_out(group, size, seed=seed + step)
            kept_apart.append(_mask(pairs, rest[chosen]))
            rest = rest[~chosen]
    tested, validated = kept_apart
    trained = ~tested & ~validated & ~late
    if split.kind == "grouped":  # nor may further data sets bring in what is kept apart
        trained &= ~np.isin(pairs.group, pairs.group[tested | validated])
    if not (trained & pairs.main).any():
        raise DataError(NONE_LEFT)
    return trained, validated, tested


@dataclass(frozen=True, slots=True, order=True)
class Leak:
    """Two pairs of different parts share something; prints as a sentence.

    Args:
        where: the pair of the one part, as `file:line`.
        other: that of the other.
        kind: what they share: "title", "url", "photo", or "alike" (near-duplicate pictures).
    """

    where: str
    other: str
    kind: str

    def __str__(self) -> str:
        return f"{self.where} has {_SHARED[self.kind][1]} {self.other}"


def leaks(pairs: Pairs, one: Mask, other: Mask) -> dict[int, Leak]:
    """Pairs of `one` that share something with a pair of `other`: row of the pair → what they share."""
    found: dict[int, Leak] = {}
    for kind in _SHARED:
        seen: dict[str, Fact] = {}
        for i in np.flatnonzero(other).tolist():
            fact = pairs.facts[i]
            seen.setdefault(getattr(fact, kind), fact)
        seen.pop("", None)
        for i in np.flatnonzero(one).tolist():
            fact = pairs.facts[i]
            if i not in found and (twin := seen.get(getattr(fact, kind))):
                found[i] = Leak(fact.where, twin.where, kind)
    return found


def check(pairs: Pairs, parts: tuple[Mask, Mask, Mask], *, keep: bool = False) -> list[Leak]:
    """What the parts (training, validation, test) share that they should not: a title, a URL, a (near-duplicate)
    picture.

    Args:
        pairs: all of them, with their facts.
        parts: as `divide` made them.
        keep: let the leaks be and only name them, as the random split of the papers does.

    Raises:
        DataError: there are leaks, and they are not to be kept; the message lists them.
    """
    trained, validated, tested = parts
    found = leaks(pairs, validated, tested) | leaks(pairs, trained, validated | tested)
    leaked = sorted(found.values())
    if found and not keep:
        shown = [*map(str, leaked[:LISTED]), *([f"… and {len(leaked) - LISTED} more"] if len(leaked) > LISTED else [])]
        raise DataError(
            f"{len(found)} pairs leak from one part of the split into another; use --split grouped, or --leaks keep to "
            "train as the papers "
            "did and mark the result:\n  " + "\n  ".join(shown)
        )
    return leaked


def kinds(leaked: Iterable[Leak]) -> dict[str, int]:
    """How many leaks there are of each kind, by its name in model cards."""
    return dict(Counter(_SHARED[leak.kind][0] for leak in leaked))


def _mask(pairs: Pairs, at: NDArray[np.int64]) -> Mask:
    mask = np.zeros(len(pairs), np.bool_)
    mask[at] = True
    return mask
