"""Training, validation and test parts: by group, at random or by time, each checked for leakage."""

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
LISTED = 20  # leaks in an error message

_SHARED = {
    "title": ("same title", "the same title as"),
    "url": ("same URL", "the same URL as"),
    "photo": ("same picture", "the same picture as"),
    "alike": ("near-duplicate", "a near-duplicate picture of"),
}
"""What two pairs may share (a field of `Fact`), its name in model cards, and in a sentence."""

NONE_LEFT = (
    "no pair of the first data set is left to train on; keep fewer apart with --validation and --test (they take whole "
    "groups of pairs that share a title or picture)"
)


@dataclass(frozen=True, slots=True)
class Split:
    """How pairs are divided; prints as it parses: `grouped`, `random`, `time:2023-07-20`.

    Args:
        kind: "grouped" keeps pairs together that share a title, URL or (near-duplicate) picture; "random" does not, as
            in the papers; "time" tests on articles from `date` on.
        date: ISO date of "time".
    """

    kind: str = "grouped"
    date: str = ""

    def __str__(self) -> str:
        return f"{self.kind}:{self.date}" if self.date else self.kind


def parse(text: str) -> Split:
    """Read a split.

    Raises:
        UsageError: not a split.
    """
    kind, colon, date = text.partition(":")
    if kind == "time" and (found := iso(date)):
        return Split(kind, found)
    if colon or kind not in ("grouped", "random"):
        raise UsageError(f"split {text!r}: expected grouped, random, or time:YEAR-MONTH-DAY such as time:2023-07-20")
    return Split(kind)


def iso(date: str) -> str:
    """The ISO day of a date that begins with `20230719` or `2023-07-19`; empty if there is none or it is invalid."""
    found = _DATE.match(date.strip())
    day = "-".join(found.groups()) if found else ""
    try:
        return datetime.date.fromisoformat(day).isoformat()
    except ValueError:
        return ""


def divide(pairs: Pairs, split: Split, *, validation: float, test: float, seed: int) -> tuple[Mask, Mask, Mask]:
    """(n,) training, validation and test part; the last two are of the main data sets (`Pairs.main`).

    Args:
        pairs: all of them.
        split: how.
        validation: number of pairs that choose the epoch; below 1 a share of the main ones. By time, the last ones
            before the date.
        test: likewise; by time it is ignored: the test part is every main pair from the date on, and later pairs of
            further data sets are left out.
        seed: of the order.

    Raises:
        DataError: the pairs have no dates or none is from the date on, or none is left to train on.
    """
    main = np.flatnonzero(pairs.main)
    sizes = [round(part * len(main)) if part < 1 else int(part) for part in (test, validation)]
    apart = []
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
        apart = [np.flatnonzero(late & pairs.main), early[max(0, len(early) - sizes[1]) :]]
    else:
        rest = main
        for step, size in enumerate(sizes):
            group = pairs.group[rest] if split.kind == "grouped" else rest
            chosen = held_out(group, size, seed=seed + step)
            apart.append(rest[chosen])
            rest = rest[~chosen]
    tested, validated = (np.isin(np.arange(len(pairs)), rows) for rows in apart)
    trained = ~tested & ~validated & ~late
    if split.kind == "grouped":  # further data sets must not contain what is kept apart
        trained &= ~np.isin(pairs.group, pairs.group[tested | validated])
    if not (trained & pairs.main).any():
        raise DataError(NONE_LEFT)
    return trained, validated, tested


@dataclass(frozen=True, slots=True, order=True)
class Leak:
    """Something that two pairs of different parts share; prints as a sentence.

    Args:
        where: of one pair, as `file:line`.
        other: of the other pair.
        kind: "title", "url", "photo", or "alike" (near-duplicate pictures).
    """

    where: str
    other: str
    kind: str

    def __str__(self) -> str:
        return f"{self.where} has {_SHARED[self.kind][1]} {self.other}"


def leaks(pairs: Pairs, one: Mask, other: Mask) -> dict[int, Leak]:
    """Row of a pair of `one` → what it shares with a pair of `other`."""
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
    """Leaks between the training, validation and test parts: a shared title, URL or (near-duplicate) picture.

    Args:
        pairs: all of them, with their facts.
        parts: from `divide`.
        keep: return the leaks instead of raising an error.

    Raises:
        DataError: there are leaks; lists them.
    """
    trained, validated, tested = parts
    found = leaks(pairs, validated, tested) | leaks(pairs, trained, validated | tested)
    leaked = sorted(found.values())
    if found and not keep:
        shown = [*map(str, leaked[:LISTED]), *([f"… and {len(leaked) - LISTED} more"] if len(leaked) > LISTED else [])]
        raise DataError(
            f"{len(found)} pairs leak from one part of the split into another; use --split grouped, or --leaks keep to "
            "train as the papers did and mark the result:\n  " + "\n  ".join(shown)
        )
    return leaked


def kinds(leaked: Iterable[Leak]) -> dict[str, int]:
    """Number of leaks of each kind, by its name in model cards."""
    return dict(Counter(_SHARED[leak.kind][0] for leak in leaked))
