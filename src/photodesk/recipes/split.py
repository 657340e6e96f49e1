"""The split of a data set by a recipe: the parts that it names, what is measured of them, and the rest."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np

from photodesk.data.groups import groups, held_out
from photodesk.errors import DataError
from photodesk.recipes.schema import PART, Recipe
from photodesk.types import Dataset


@dataclass(frozen=True)
class Parts:
    """What is measured, with its gallery, and the rest for training and query banks."""

    test: Dataset
    rest: Dataset


def in_part(subset: str, words: str) -> bool:
    """Whether a subset's name has all of `words`, in any case and order: "RSS/test" is in "rss test"."""
    return _words(words) <= _words(subset)


def divide(recipe: Recipe, dataset: Dataset) -> Parts:
    """Split a data set as a recipe says.

    With `test = "all"` the gallery is every picture in the tables of the part; else the pictures of the measured pairs.

    Raises:
        DataError: no article is of a part that the recipe names; lists the parts.
    """
    named, pool = parts_named(recipe, dataset)
    if recipe.data.test == "all":
        subsets = {article.subset for article in dataset.articles if article.id in named}
        listed = [item.photo for item in dataset.listed if item.subset in subsets]
        return Parts(
            _only(dataset, named, listed if recipe.data.subset else [photo.id for photo in dataset.photos]),
            _only(dataset, pool - named),
        )
    drawn = _drawn(_only(dataset, pool), recipe.data.test, recipe.data.seed)
    return Parts(_only(dataset, named & drawn), _only(dataset, pool - drawn))


def candidates(recipe: Recipe, dataset: Dataset) -> Dataset:
    """The articles and photos that `divide` draws the measured ones from; reads no picture."""
    if recipe.data.test == "all":
        return divide(recipe, dataset).test
    return _only(dataset, parts_named(recipe, dataset)[0])


def parts_named(recipe: Recipe, dataset: Dataset) -> tuple[frozenset[str], frozenset[str]]:
    """Articles of the part that a recipe measures; and of all parts that it names, or all articles if it names none to
    train on.

    Raises:
        DataError: no article is of a part that the recipe names; lists the parts.
    """
    train = recipe.network.train if recipe.network else ()
    wanted = [recipe.data.subset, *train]
    of = {
        words: frozenset(article.id for article in dataset.articles if in_part(article.subset, words))
        for words in wanted
    }
    if lacking := [words for words in wanted if not of[words]]:
        known = ", ".join(sorted({article.subset for article in dataset.articles} - {""}))
        raise DataError(
            f"the data has no part {lacking[0]!r}; its parts are: {known or 'none, its files are one'}; name one with "
            "--subset"
        )
    everything = frozenset(article.id for article in dataset.articles)
    return of[recipe.data.subset], frozenset().union(*of.values()) if train else everything


def _only(dataset: Dataset, articles: Collection[str], gallery: Collection[str] = ()) -> Dataset:
    pairs = tuple(pair for pair in dataset.pairs if pair.article in articles)
    shown = {pair.photo for pair in pairs} | set(gallery)
    return replace(
        dataset,
        articles=tuple(article for article in dataset.articles if article.id in articles),
        photos=tuple(photo for photo in dataset.photos if photo.id in shown),
        pairs=pairs,
        listed=tuple(item for item in dataset.listed if item.photo in shown),
    )


def _drawn(dataset: Dataset, part: str, seed: int) -> frozenset[str]:
    """Articles of a random or grouped part, drawn as by `photodesk train --test`."""
    found = PART.fullmatch(part)
    assert found, part
    if found[1] == "random":  # an article with several photos stays whole
        number = {article: i for i, article in enumerate(dict.fromkeys(pair.article for pair in dataset.pairs))}
    else:
        number = dict(groups(dataset).articles)
    group = np.array([number[pair.article] for pair in dataset.pairs], np.int64)
    count = round(float(found[2]) * len(group)) if "." in found[2] else int(found[2])
    apart = held_out(group, count, seed=seed)
    return frozenset(pair.article for pair, chosen in zip(dataset.pairs, apart, strict=True) if chosen)


def _words(text: str) -> set[str]:
    return set("".join(sign if sign.isalnum() else " " for sign in text.casefold()).split())
