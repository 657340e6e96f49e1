"""Articles and photos that belong together, so that no split may tear them apart: one title, URL, picture or
near-duplicate."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from photodesk.images import NEAR, components, hashes, near_duplicates
from photodesk.types import Article

if TYPE_CHECKING:
    from photodesk.types import Dataset

_SITE = re.compile(r"\s[-–—|»]\s[^-–—|»]{2,30}$")


@dataclass(frozen=True)
class Groups:
    """Which group every article and photo of a data set is in: equal numbers belong together.

    Args:
        articles: article id → group, from 0 without gaps in the order of the data set.
        photos: photo id → group; also pictures whose file is missing.
        alike: photo id → the first photo of its near-duplicates, itself if it has none.
    """

    articles: Mapping[str, int]
    photos: Mapping[str, int]
    alike: Mapping[str, str]

    def __post_init__(self) -> None:
        for name in ("articles", "photos", "alike"):
            object.__setattr__(self, name, MappingProxyType(dict(getattr(self, name))))


def held_out(group: NDArray[np.int64], count: int, *, seed: int) -> NDArray[np.bool_]:
    """(n,) which pairs to keep apart: whole groups in random order until `count` pairs are reached.

    Args:
        group: (n,) of each pair; equal numbers are never parted.
        count: how many pairs are wanted.
        seed: of the order.
    """
    there, number = np.unique(group, return_inverse=True)
    sizes = np.bincount(number, minlength=len(there))
    order = np.random.default_rng(seed).permutation(len(there))
    chosen = order[: int(np.searchsorted(np.cumsum(sizes[order]), count)) + 1] if count else order[:0]
    return np.isin(number, chosen)


def title_key(title: str) -> str:
    """What titles of one story share: case, punctuation and the site's name at the end (`… | The Site`) do not
    count."""
    bare = _SITE.sub("", title)
    return re.sub(r"[\W_]+", " ", (bare if len(bare.split()) >= 4 else title).casefold()).strip()


def url_key(url: str) -> str:
    """A page's address without scheme, `www.`, fragment and closing slash."""
    return re.sub(r"^(?:[a-z]+://)?(?:www\.)?", "", url.casefold()).partition("#")[0].rstrip("/")


def shared_titles(articles: Sequence[Article]) -> list[list[Article]]:
    """Articles that share a title, by `title_key`; groups of two and more, in order."""
    found: defaultdict[str, list[Article]] = defaultdict(list)
    for article in articles:
        if key := title_key(article.title):
            found[key].append(article)
    return [group for group in found.values() if len(group) > 1]


def groups(dataset: Dataset, *, prints: Mapping[str, int] | None = None, near: int = NEAR) -> Groups:
    """Connected components of articles and photos that share a title, a URL, a photo id or a near-duplicate picture.

    Args:
        dataset: what `datasets.read` found.
        prints: photo id → `photos.phash`; computed by decoding every picture if None; `{}` to do without
            near-duplicates.
        near: bits in which hashes of near-duplicates may differ.
    """
    if prints is None:
        prints = {photo.id: value for photo, value in hashes(dataset.photos) if isinstance(value, int)}
    node: dict[tuple[str, str], int] = {}

    def at(kind: str, value: str) -> int:
        return node.setdefault((kind, value), len(node))

    links = []
    for article in dataset.articles:
        here = at("article", article.id)
        links += [(here, at("title", key)) for key in [title_key(article.title)] if key]
        links += [(here, at("url", key)) for key in [url_key(article.url)] if key]
    photos = dict.fromkeys([*(photo.id for photo in dataset.photos), *(pair.photo for pair in dataset.pairs)])
    for photo in photos:
        at("photo", photo)
    links += [(at("article", pair.article), at("photo", pair.photo)) for pair in dataset.pairs]
    names = [photo for photo in prints if photo in photos]
    alike = {photo: photo for photo in photos}
    for group in near_duplicates((prints[name] for name in names), near=near):
        alike |= {names[i]: names[group[0]] for i in group}
    links += [(at("photo", photo), at("photo", first)) for photo, first in alike.items() if photo != first]
    part = components(len(node), links)
    number: dict[int, int] = {}
    in_order = [("article", article.id) for article in dataset.articles] + [("photo", photo) for photo in photos]
    for key in in_order:
        number.setdefault(part[node[key]], len(number))
    of = {key: number[part[node[key]]] for key in in_order}
    return Groups(
        {name: of["article", name] for kind, name in in_order if kind == "article"},
        {name: of["photo", name] for kind, name in in_order if kind == "photo"},
        alike,
    )
