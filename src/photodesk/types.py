"""The values that the packages exchange: frozen, checked when they are made.

`Article`, `Photo`, `Pair` come from `data.datasets`, `Embeddings` from an encoder, a `Run` from `dual_softmax.top_k`; a
`Fault` names bad input that did not stop the work.
"""

from __future__ import annotations

from collections import Counter
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
"""Called with (stage, done, of) during a long operation."""

Fate = Literal["repaired", "kept", "left out"]


def silent(stage: str, done: int, of: int) -> None:
    """Report no progress."""


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
    """One photo of the gallery: the id that run files use, and its file."""

    id: str
    path: Path


@dataclass(frozen=True, slots=True)
class Pair:
    """A relevant photo of an article, by their ids. An article may have several."""

    article: str
    photo: str


@dataclass(frozen=True, slots=True)
class Hit:
    """One photo in an article's ranking; a higher score is better."""

    photo: str
    score: float


@dataclass(frozen=True, slots=True)
class Fault:
    """Something wrong with the input that did not stop the work.

    Args:
        code: the kind of fault, for programs: `subject-problem`, one of `data.checks.MEANINGS`. Stable, unlike `what`.
        where: `file` or `file:line`.
        what: what is wrong, with the value.
        fate: what photodesk did: "repaired", "kept" as it is, or "left out".
        advice: the next step for the user; empty if none is needed.
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


def unit(rows: FloatArray) -> FloatArray:
    """Rows (the last axis) scaled to length 1; a row of zeros stays zero."""
    scaled: FloatArray = rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), np.float32(1e-12))
    return scaled


@dataclass(frozen=True, slots=True, eq=False)
class Embeddings:
    """Rows of unit length and the ids of the articles or photos they embed.

    Args:
        ids: n ids, unique; row i belongs to ids[i].
        rows: (n, d) float32, each row of L2 norm 1 (±1e-3). Not copied; made read-only.
        encoder: fingerprint of the encoder; only embeddings of one encoder are compared.

    Raises:
        ValueError: shapes disagree, an id is duplicated, or a row is not of unit length.
    """

    ids: tuple[str, ...]
    rows: FloatArray
    encoder: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "ids", tuple(self.ids))
        rows = self.rows
        if len(set(self.ids)) != len(self.ids):
            raise ValueError(f"embedding id {Counter(self.ids).most_common(1)[0][0]!r} is duplicated")
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
        """The length of a row."""
        return int(self.rows.shape[1])

    def take(self, ids: Sequence[str]) -> Embeddings:
        """The rows of `ids`, in that order.

        Raises:
            KeyError: an unknown id.
        """
        at = {name: i for i, name in enumerate(self.ids)}
        return Embeddings(tuple(ids), self.rows[[at[name] for name in ids]], self.encoder)


@dataclass(frozen=True, slots=True)
class Run:
    """Ranked photos for every article: the content of a run file, evaluated by `evaluate`.

    Args:
        hits: article id → its hits, best first.
        name: of the run in tables.
        transductive: how the run used the other test queries, such as "dual_softmax(temperature=1)"; empty if it did
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
    """A photo that a table lists, whether or not its file exists.

    Args:
        photo: its id in run files and pairs.
        file: the expected name of its file; empty if unknown.
        url: to download it from; empty if unknown.
        where: `file:line` of the first row that lists it.
        subset: of the data that the row belongs to.
    """

    photo: str
    file: str = ""
    url: str = ""
    where: str = ""
    subset: str = ""


@dataclass(frozen=True)
class Dataset:
    """The data set that `read` returns.

    Args:
        articles: in the order of the files; ids are unique.
        photos: the gallery: photos whose file exists, sorted by id; ids are unique.
        pairs: the ground truth: photos that articles were published with, whether or not the file exists. Empty if
            unknown.
        edition: the recognised layout, such as "NewsImages 2025".
        evidence: how it was recognised.
        columns: field → name of the column that it was read from, of the file that has most of them.
        faults: of the files and rows, in order.
        listed: the photos that the tables list.
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
