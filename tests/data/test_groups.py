"""What belongs together: connected components against a naive twin, and what counts as the same title, URL or
picture."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from photodesk.data import datasets, groups
from photodesk.images import components
from photodesk.types import Article, Dataset, Pair, Photo


@given(st.integers(1, 30), st.data())
@settings(max_examples=200, deadline=None)
def test_components_are_what_a_walk_along_the_links_reaches(n: int, data: st.DataObject) -> None:
    node = st.integers(0, n - 1)
    links = data.draw(st.lists(st.tuples(node, node), max_size=40))
    for start, found in enumerate(components(n, links)):
        reached, edge = {start}, True
        while edge:
            edge = {b for a, b in [*links, *((b, a) for a, b in links)] if a in reached} - reached
            reached |= edge
        assert found == min(reached)


@pytest.mark.parametrize(
    ("title", "other", "same"),
    [
        ("Storm hits the coast", "STORM HITS THE COAST!", True),
        ("Storm hits the coast", "Storm hits the coast | The Desk", True),
        ("Storm hits the coast – Daily News", "Storm hits the coast - iNFO", True),
        ("Won\u2019t seek re-election", "Won't seek re election", True),
        ("Storm hits the coast", "Storm hits the coasts", False),
        ("Live: a | b", "Live: a | c", False),
        ("Covid-19", "Covid-20", False),
    ],
)
def test_titles_of_one_story(title: str, other: str, same: bool) -> None:
    assert (groups.title_key(title) == groups.title_key(other)) == same


def test_urls_of_one_page() -> None:
    assert groups.url_key("https://www.N.org/a/?p=1#top") == groups.url_key("http://n.org/a/?p=1") == "n.org/a/?p=1"
    assert groups.url_key("https://n.org/a/") == groups.url_key("n.org/a")


def data(articles: dict[str, tuple[str, str]], pairs: list[tuple[str, str]], photos: str = "") -> Dataset:
    return Dataset(
        tuple(Article(key, title, url=url) for key, (title, url) in articles.items()),
        tuple(Photo(name, Path(f"{name}.jpg")) for name in photos),
        tuple(Pair(a, p) for a, p in pairs),
    )


def test_groups_follow_every_kind_of_link_and_their_chains() -> None:
    found = groups.groups(
        data(
            {
                "1": ("Storm hits the northern coast", "http://x/1"),
                "2": ("Storm hits the northern coast | Desk", "http://x/2"),  # title of 1
                "3": ("Something else", "https://www.x/2/"),  # URL of 2
                "4": ("A third thing", "http://x/4"),  # photo of 3
                "5": ("A fourth thing", "http://x/5"),  # near-duplicate of 1's photo
                "6": ("", ""),
                "7": ("", ""),
            },
            [("1", "a"), ("3", "b"), ("4", "b"), ("5", "c"), ("6", "d"), ("7", "gone")],
            photos="abcdef",
        ),
        prints={"a": 0, "c": 0b111, "d": 2**64 - 1, "e": 2**63 - 1, "f": 0xAAAAAAAAAAAAAAAA},
    )
    assert found.articles == {"1": 0, "2": 0, "3": 0, "4": 0, "5": 0, "6": 1, "7": 2}
    assert found.photos == {"a": 0, "b": 0, "c": 0, "d": 1, "e": 1, "f": 3, "gone": 2}
    assert found.alike == {"a": "a", "b": "b", "c": "a", "d": "d", "e": "d", "f": "f", "gone": "gone"}


def test_without_hashes_pictures_link_nothing() -> None:
    found = groups.groups(data({"1": ("A b", ""), "2": ("C d", "")}, [("1", "a"), ("2", "b")], photos="ab"), prints={})
    assert (dict(found.articles), dict(found.photos)) == ({"1": 0, "2": 1}, {"a": 0, "b": 1})


def test_hashes_are_computed_from_the_pictures(tmp_path: Path) -> None:
    from PIL import Image

    grey = Image.linear_gradient("L")
    for name, image in {"a": grey, "b": grey.resize((90, 70)), "c": grey.rotate(90)}.items():
        image.save(tmp_path / f"{name}.png")
    (tmp_path / "d.png").write_bytes(b"broken")
    (tmp_path / "t.csv").write_text("id,title,image\n1,One,a\n2,Two,b\n3,Three,c\n4,Four,d\n")
    found = groups.groups(datasets.read(tmp_path))
    assert dict(found.articles) == {"1": 0, "2": 0, "3": 1, "4": 2}


def test_whole_groups_are_held_out() -> None:
    group = np.arange(100) // 3
    apart = groups.held_out(group, 20, seed=3)
    assert 20 <= apart.sum() <= 22
    assert not set(group[apart]) & set(group[~apart])
    assert not groups.held_out(group, 0, seed=3).any()
    assert not np.array_equal(apart, groups.held_out(group, 20, seed=4))
