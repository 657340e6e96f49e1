"""Recipes: one row of a paper's table as a file that says what was claimed and how to run it; read strictly.

A recipe is TOML in the folder `recipes` of this package, or a file of the user's. Every key has to be known, of its
type, and of use: one that would change nothing is an error, so that a recipe never says more than is done.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Literal, cast, get_args

from photodesk.encoders import spec
from photodesk.encoders.registry import FAMILIES
from photodesk.errors import UsageError, did_you_mean
from photodesk.evaluation import metrics
from photodesk.files import open_regular
from photodesk.ranking import revisions
from photodesk.ranking.fusion import Normalisation
from photodesk.ranking.revisions import Revision
from photodesk.recipes.typed_toml import section
from photodesk.text.preparation import Preparation
from photodesk.training.config import PRESETS

PART = re.compile(r"(random|grouped):([0-9]+(?:\.[0-9]+)?)")

LONGEST = 2**15
"""Bytes of a recipe. Larger files are refused: the reader of TOML takes quadratic time for a key of many parts."""


@dataclass(frozen=True, slots=True)
class Claim:
    """What the paper's table says.

    Args:
        paper: its title, or who published the figures.
        table: which table of it.
        row: which row.
        pairs: how many articles were measured; 0 where the paper does not say.
        numbers: measure → value.
    """

    paper: str
    table: str
    row: str
    numbers: Mapping[str, float]
    pairs: int = 0

    def __post_init__(self) -> None:
        if self.pairs < 0:
            raise UsageError(f"pairs = {self.pairs}: a number of articles, or 0 where it is not known")
        recalls: list[tuple[int, float]] = []
        for name, value in self.numbers.items():
            measure = metrics.parse(name)
            if not 0 <= value <= 1:
                raise UsageError(f'numbers: "{name}" = {value:g} lies outside 0 … 1')
            recalls += [(measure.k, value)] if measure.name == "R" else []
        if not self.numbers:
            raise UsageError('numbers is empty; a claim needs at least one, such as numbers = { "MRR@100" = 0.29434 }')
        if [value for _, value in sorted(recalls)] != sorted(value for _, value in recalls):
            raise UsageError("numbers: R@k falls with growing k, which cannot be")
        object.__setattr__(self, "numbers", MappingProxyType(dict(self.numbers)))


@dataclass(frozen=True, slots=True)
class Data:
    """Which articles are measured.

    Args:
        edition: as `photodesk check` calls the data.
        how: how a user gets it.
        subset: words that name the part to measure on; empty for all of the data.
        test: "all" of that part; "random:0.2", a random share of it; or "grouped:2000", so many pairs (or a share) in
            whole groups of shared titles, URLs and near-duplicate pictures. What is left over is free for training and
            banks.
        seed: of that choice.
    """

    edition: str
    how: str
    subset: str = ""
    test: str = "all"
    seed: int = 0

    def __post_init__(self) -> None:
        check_part("test", self.test, ("all",))
        if self.seed and self.test == "all":
            raise UsageError('seed is of no use: test = "all" chooses nothing')


@dataclass(frozen=True, slots=True)
class Texts:
    """How articles become texts; see `text.Preparation`.

    Args:
        words: word limits; empty for whole texts. Several give a run each, and the cosines are averaged.
        weights: of those runs; equal if empty.
    """

    fields: tuple[str, ...] = ("title",)
    detect: tuple[str, ...] = ()
    translate: str = ""
    keep_names: bool = False
    clean: str = ""
    words: tuple[int, ...] = ()
    weights: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if any(limit < 1 for limit in self.words) or len(set(self.words)) != len(self.words):
            raise UsageError(
                f"words = {list(self.words)}: limits are from 1 on, each once; leave the key out to keep all words"
            )
        _check_weights("words", self.words, self.weights)
        if self.translate and not self.detect:
            raise UsageError(
                'translate needs detect = ["de", "en"] or the like, or texts in the target language would be '
                "translated too"
            )
        if self.detect and not self.translate:
            raise UsageError("detect is of no use without translate")
        assert self.preparations

    @property
    def preparations(self) -> tuple[Preparation, ...]:
        """One for every word limit, or one."""
        plain = Preparation(
            self.fields, self.detect, translate=self.translate, keep_names=self.keep_names, clean=self.clean
        )
        return tuple(replace(plain, max_words=limit) for limit in self.words) or (plain,)


@dataclass(frozen=True, slots=True)
class Encoders:
    """Which models read texts and photos; the weighted, normalised cosines of several are summed
    (`fusion.concatenated`).

    Args:
        weights: of the models; equal if empty.
        normalise: what is done to the cosines of an article before they are summed: "none", "z" or "minmax".
        learn: find the weights of models and word limits on the pairs that are not measured (`fusion.learn`).
    """

    names: tuple[str, ...]
    weights: tuple[float, ...] = ()
    normalise: str = "none"
    learn: bool = False

    def __post_init__(self) -> None:
        if not self.names or len(set(self.names)) != len(self.names):
            raise UsageError(f"names = {list(self.names)}: one or more encoders, each once; see: photodesk encoders")
        for name in self.names:
            for model in spec.parse(name).values():
                if model.family not in FAMILIES:
                    raise UsageError(
                        f"names: no encoder {name!r}{did_you_mean(model.family, list(FAMILIES))}; see: photodesk "
                        "encoders"
                    )
        _check_weights("names", self.names, self.weights)
        if self.normalise not in get_args(Normalisation):
            raise UsageError(f"normalise = {self.normalise!r}{did_you_mean(self.normalise, get_args(Normalisation))}")

    @property
    def normalisation(self) -> Normalisation:
        """The same, for type checkers."""
        return cast(Normalisation, self.normalise)


@dataclass(frozen=True, slots=True)
class Net:
    """A T×V network trained on the encoder's frozen features before anything is ranked.

    Args:
        preset: how, one of `settings.PRESETS`: "default" as the shipped network, "straight" without landmarks,
            "paper2022".
        train: words that name the parts of the data to train on; empty for all that is not measured on.
        pretrain: edition of a data set to train on before; empty for none.
        split: which of the training pairs choose the best epoch, as `Data.test`.
        seed: of that choice and of everything random.
    """

    preset: str
    train: tuple[str, ...] = ()
    pretrain: str = ""
    split: str = "random:0.2"
    seed: int = 0

    def __post_init__(self) -> None:
        check_part("split", self.split)
        if self.preset not in PRESETS:
            raise UsageError(
                f"preset = {self.preset!r}{did_you_mean(self.preset, PRESETS)}: expected {' or '.join(PRESETS)}"
            )


@dataclass(frozen=True, slots=True)
class Revise:
    """How cosines are revised.

    Args:
        method: as `revisions.parse` reads it.
        bank: "batch", the articles that are ranked, which makes the run transductive; or "rest", those of the data that
            are not measured on.
    """

    method: str
    bank: Literal["batch", "rest"]

    def __post_init__(self) -> None:
        if self.bank not in get_args(Literal["batch", "rest"]):
            raise UsageError(
                f"bank = {self.bank!r}{did_you_mean(self.bank, ('batch', 'rest'))}: expected batch or rest"
            )
        if self.revision.method == "cosine":
            raise UsageError("method = 'cosine' revises nothing; leave the section out")
        if self.revision.method == "sinkhorn" and self.bank == "rest":
            raise UsageError(
                "sinkhorn revises a batch as a whole and takes no bank; with bank = 'rest' use inverted_softmax"
            )

    @property
    def revision(self) -> Revision:
        """The method with its options."""
        return revisions.parse(self.method)


@dataclass(frozen=True, slots=True)
class Cost:
    """What a run takes: gigabytes of weights to be fetched, and an estimate of minutes on the machine that is named."""

    weights_gb: float
    minutes: float
    machine: str


@dataclass(frozen=True, slots=True)
class Recipe:
    """One row of a table and how to run it.

    Args:
        name: of its file.
        about: in one sentence.
        assumes: what the source does not say and this recipe had to choose, or does in another way; one sentence each.
    """

    name: str
    about: str
    claim: Claim
    data: Data
    encoders: Encoders
    cost: Cost
    texts: Texts = field(default_factory=Texts)
    network: Net | None = None
    revision: Revise | None = None
    assumes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        single = len(self.encoders.names) * len(self.texts.preparations) == 1
        if single and (self.encoders.normalise != "none" or self.encoders.learn):
            raise UsageError("[encoders] normalise and learn are of no use with one encoder and one text")
        if self.encoders.learn and (self.encoders.weights or self.texts.weights):
            raise UsageError("[encoders] learn = true finds the weights, so none are to be given")
        if self.encoders.learn and self.data.test == "all" and not self.data.subset:
            raise UsageError(
                "[encoders] learn = true needs pairs that are not measured, and [data] measures all; say test = …"
            )
        if self.network and len(self.encoders.names) > 1:
            raise UsageError("[network] is trained on one encoder, and [encoders] names several")
        if self.revision and self.revision.bank == "rest" and self.data.test == "all" and not self.data.subset:
            raise UsageError('[revision] bank = "rest": [data] measures on all articles, so none are left for a bank')
        if self.network and not self.network.train and self.data.test == "all" and not self.data.subset:
            raise UsageError(
                "[network] has nothing to train on: [data] measures on all articles; name parts with train = […] or a "
                "test = …"
            )

    @property
    def transductive(self) -> bool:
        """Whether it sees the other test queries."""
        return self.revision is not None and self.revision.bank == "batch"


def names() -> tuple[str, ...]:
    """The recipes that photodesk brings, sorted."""
    folder = resources.files("photodesk.recipes") / "tables"
    return tuple(sorted(item.name.removesuffix(".toml") for item in folder.iterdir() if item.name.endswith(".toml")))


def read(name: str | Path) -> Recipe:
    """A recipe by the name that `photodesk recipes` prints, or from a .toml file.

    Raises:
        UsageError: no such recipe, or something in it is unknown, of the wrong type, of no use or impossible; says what
        was perhaps meant.
    """
    path = Path(name)
    if path.suffix == ".toml":
        try:
            with open_regular(path) as stream:
                text = stream.read(LONGEST + 1)
            if len(text) > LONGEST:
                raise UsageError(
                    f"{path} has more than {LONGEST >> 10} KiB, more than any recipe; is it the right file?"
                )
            return parse(text.decode(), path.stem, str(path))
        except OSError as error:
            raise UsageError(f"cannot read the recipe {path}: {error.strerror}") from None
        except UnicodeDecodeError as error:
            raise UsageError(f"the recipe {path} is not UTF-8: {error}; save it in that encoding") from None
        except RecursionError:
            raise UsageError(f"the recipe {path} is nested too deeply; name a file of sections and keys") from None
    if str(name) not in names():
        raise UsageError(
            f"no recipe {str(name)!r}{did_you_mean(str(name), names())}; see: photodesk recipes; a file's name ends in "
            ".toml"
        )
    return parse((resources.files("photodesk.recipes") / "tables" / f"{name}.toml").read_text("utf-8"), str(name))


def parse(text: str, name: str, where: str = "") -> Recipe:
    """A recipe from TOML. `where` is what errors name as its place, `name` if empty."""
    where = where or name
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{where} is not TOML: {error}") from None
    sections = {
        "claim": Claim,
        "data": Data,
        "encoders": Encoders,
        "cost": Cost,
        "texts": Texts,
        "network": Net,
        "revision": Revise,
    }
    values = {
        key: section(sections[key], value, f"{where}: [{key}]") if key in sections else value
        for key, value in content.items()
        if key != "name"
    }
    if "name" in content:
        raise UsageError(f"{where}: a recipe is called by the name of its file; leave out name = {content['name']!r}")
    return section(Recipe, {"name": name, **values}, where)


def check_part(key: str, text: str, others: tuple[str, ...] = ()) -> None:
    """Whether `text` says which part is meant, such as "random:0.2" or "grouped:2000".

    Raises:
        UsageError: it does not.
    """
    found = PART.fullmatch(text)
    if text not in others and not (found and float(found[2]) > 0 and (float(found[2]) < 1 or "." not in found[2])):
        known = " or ".join([*others, "random:0.2", "grouped:2000"])
        raise UsageError(
            f"{key} = {text!r}: expected {known}; a share lies between 0 and 1, a number of pairs is whole"
        )


def _check_weights(key: str, items: tuple[object, ...], weights: tuple[float, ...]) -> None:
    if weights and len(items) < 2:
        raise UsageError(f"weights are of no use with fewer than two {key}")
    if weights and (len(weights) != len(items) or not any(weights)):
        raise UsageError(f"weights = {list(weights)}: {len(items)} {key} need as many weights, not all 0")
