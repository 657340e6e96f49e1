"""The nouns that flow through photodesk: frozen, checked once, here.

`Article`, `Photo`, `Pair` come from `datasets`; `Embeddings` from an encoder; a `Run` from `dual_softmax.top_k`;
`Fault` from whoever met bad input and went on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from photodesk.text_repair import shown

FloatArray = NDArray[np.float32]

Progress = Callable[[str, int, int], None]
"""Called with (stage, done, of) while something long is under way."""

Fate = Literal["repaired", "kept", "left out"]


def silent(stage: str, done: int, of: int) -> None:
    """Reports progress to nobody."""


@dataclass(frozen=True, slots=True)
class Article:
    """One news article; the query of a retrieval.

    `where` is the source as `file:line`, for messages. `tags` are joined with `", "`. `language` is an ISO 639-1 code
    once it is known.
    """

    id: str
    title: str
    lead: str = ""
    text: str = ""
    tags: str = ""
    url: str = ""
    date: str = ""
    language: str = ""
    subset: str = ""
    where: str = ""


@dataclass(frozen=True, slots=True)
class Photo:
    """One picture of the gallery, by the id that run files use and the file that holds it."""

    id: str
    path: Path


@dataclass(frozen=True, slots=True)
class Pair:
    """Article `article` is rightly shown with photo `photo` (ids). An article may have several."""

    article: str
    photo: str


@dataclass(frozen=True, slots=True)
class Hit:
    """One photo in an article's ranking; higher `score` is better."""

    photo: str
    score: float


@dataclass(frozen=True, slots=True)
class Fault:
    """Something wrong with the input that did not stop the work.

    Args:
        code: what kind of thing is wrong, for programs: `subject-problem`, one of `data.checks.MEANINGS`. It stays the
            same when the sentence is worded anew.
        where: `file` or `file:line`.
        what: what is wrong, with the value.
        fate: what photodesk did about it: "repaired", "kept" as it is, or "left out".
        advice: the next step for the user; empty if nothing needs doing.
    """

    code: str
    where: str
    what: str
    fate: Fate
    advice: str = ""

    @property
    def subject(self) -> str:
        """The first word of the code: "photo", "article", "table", …"""
        return self.code.partition("-")[0]

    def __str__(self) -> str:
        return shown(f"{self.where}: {self.what} ({self.fate})" + (f"; {self.advice}" if self.advice else ""))


def _unique(ids: Sequence[str], what: str) -> tuple[str, ...]:
    ids = tuple(ids)
    if len(set(ids)) != len(ids):
        seen: set[str] = set()
        twice = next(i for i in ids if i in seen or seen.add(i))  # type: ignore[func-returns-value]
        raise ValueError(f"{what} id {twice!r} stands twice; ids beside rows must be unique")
    return ids


@dataclass(frozen=True, slots=True, eq=False)
class Embeddings:
    """Rows of unit length beside the ids of what they stand for.

    Args:
        ids: n ids, unique; row i belongs to ids[i].
        rows: (n, d) float32, each row of L2 norm 1 (±1e-3). Kept as given, read-only; a memory map stays one.
        encoder: fingerprint of the model that made them; embeddings of different make are never compared.

    Raises:
        ValueError: shapes disagree, an id stands twice, or a row is not of unit length.
    """

    ids: tuple[str, ...]
    rows: FloatArray
    encoder: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "ids", _unique(self.ids, "embedding"))
        rows = self.rows
        if rows.ndim != 2 or rows.shape[0] != len(self.ids) or rows.dtype != np.float32:
            raise ValueError(
                f"embeddings need ({len(self.ids)}, d) float32 rows for {len(self.ids)} ids, not {rows.shape} "
                f"{rows.dtype}"
            )
        for start in range(0, len(rows), 65536):
            norms = np.linalg.norm(rows[start : start + 65536], axis=1)
            bad = np.flatnonzero(~(np.abs(norms - 1) < 1e-3))
            if bad.size:
                raise ValueError(
                    f"row of {self.ids[start + bad[0]]!r} has length {norms[bad[0]]:.4g}; embeddings are unit rows"
                )
        view = rows.view()
        view.flags.writeable = False
        object.__setattr__(self, "rows", view)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def dim(self) -> int:
        """Numbers per row."""
        return int(self.rows.shape[1])

    def take(self, ids: Sequence[str]) -> Embeddings:
        """The rows of `ids`, in that order. KeyError names an id that is not here."""
        at = {name: i for i, name in enumerate(self.ids)}
        return Embeddings(tuple(ids), self.rows[[at[name] for name in ids]], self.encoder)


@dataclass(frozen=True, slots=True)
class Run:
    """Ranked photos for every article: what a run file holds and what `evaluate` measures.

    Args:
        hits: article id → its hits, best first. Kept in the order given.
        name: how tables call this run.
        transductive: how the run saw the other test queries, such as "dual_softmax(temperature=1)"; empty if it did
            not.
    """

    hits: Mapping[str, tuple[Hit, ...]]
    name: str = "run"
    transductive: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "hits", MappingProxyType({a: tuple(h) for a, h in self.hits.items()}))

    def __len__(self) -> int:
        return len(self.hits)

    def __iter__(self) -> Iterator[str]:
        return iter(self.hits)

    def __getitem__(self, article: str) -> tuple[Hit, ...]:
        return self.hits[article]


@dataclass(frozen=True, slots=True)
class Listed:
    """A picture as a table names it, whether or not its file is there.

    Args:
        photo: the picture's id in run files and pairs.
        file: the name that its file should have; empty if the table does not say.
        url: where it can be fetched; empty if unknown.
        where: `file:line` of the first row that names it.
        subset: the part of the data that the row belongs to.
    """

    photo: str
    file: str = ""
    url: str = ""
    where: str = ""
    subset: str = ""


@dataclass(frozen=True)
class Dataset:
    """What `read` found.

    Args:
        articles: in the order of the files; ids are unique.
        photos: the gallery: pictures whose file exists, sorted by id; ids are unique.
        pairs: the truth: which picture an article was published with, whether or not its file is here. Empty if
            unknown.
        edition: the layout that was recognised, such as "NewsImages 2025".
        evidence: why it was recognised.
        columns: field → name of the column that it was read from, of the file that has most of them.
        faults: what was wrong with the files and rows, in their order.
        listed: the pictures that the tables name.
    """

    articles: tuple[Article, ...]
    photos: tuple[Photo, ...]
    pairs: tuple[Pair, ...]
    edition: str = ""
    evidence: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)
    faults: tuple[Fault, ...] = ()
    listed: tuple[Listed, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "columns", MappingProxyType(dict(self.columns)))
