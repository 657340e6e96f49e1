"""Parts of a data set: named by words, drawn whole, and nothing on two sides."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from doubles import desk
from photodesk import types
from photodesk.data import datasets
from photodesk.data.groups import groups
from photodesk.errors import DataError
from photodesk.recipes import schema
from photodesk.recipes.schema import Net, Texts
from photodesk.recipes.split import candidates, divide, in_part
from photodesk.types import Article, Pair

OWN = schema.read("own-best")
PLAIN = replace(OWN, data=replace(OWN.data, test="all"), network=None, revision=None, texts=Texts())


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return datasets.read(
        desk(tmp_path_factory.mktemp("data") / "desk", [f"Flood number {i} near Elbe" for i in range(20)])
    )


def parted(data, **subsets):
    """The data set with articles put into subsets by their number."""
    articles = tuple(
        replace(a, subset=next(name for name, numbers in subsets.items() if i in numbers))
        for i, a in enumerate(data.articles)
    )
    of = {pair.photo: next(a.subset for a in articles if a.id == pair.article) for pair in data.pairs}
    return replace(data, articles=articles, listed=tuple(replace(item, subset=of[item.photo]) for item in data.listed))


def test_parts_are_found_by_their_words(data):
    four = parted(data, RSS_train=range(8), RSS_test=range(8, 12), TW_train=range(12, 16), TW_test=range(16, 20))
    official = schema.read("2022-rss-run4")
    one = replace(official, network=Net("paper2022", train=("RSS train", "TW train")))
    parts = divide(one, four)
    assert [a.subset for a in parts.test.articles] == ["RSS_test"] * 4
    assert len(parts.test.photos) == 4  # not those of other parts
    assert sorted({a.subset for a in parts.rest.articles}) == ["RSS_train", "TW_train"]
    assert len(parts.rest.articles) == 12
    internal = replace(one, data=replace(one.data, subset="RSS train", test="random:0.5"))
    parts = divide(internal, four)
    assert {a.subset for a in parts.test.articles} <= {"RSS_train"}
    assert 6 <= len(parts.rest.articles) < 12  # half of the twelve of all training parts is drawn, the rest trains
    assert not {a.id for a in parts.rest.articles} & {a.id for a in parts.test.articles}
    with pytest.raises(DataError, match="no part 'RT train'; its parts are: RSS_test, RSS_train, TW_test, TW_train"):
        divide(official, four)


@pytest.mark.parametrize(
    ("subset", "words", "there"),
    [
        ("RSS/test", "rss test", True),
        ("test_rss", "RSS test", True),
        ("RSS/train", "RSS test", False),
        ("SHORT-test", "RT test", False),
        ("content2019-04", "content2019-04", True),
        ("MediaEval2023-GDELT-P1-Test", "P1 test", True),
        ("", "", True),
        ("", "rss", False),
    ],
)
def test_words_of_a_subset_are_whole(subset, words, there):
    assert in_part(subset, words) is there


@given(
    st.sampled_from(["random", "grouped"]),
    st.one_of(st.integers(1, 12), st.sampled_from([0.1, 0.25, 0.5])),
    st.integers(0, 5),
)
@settings(max_examples=40, deadline=None)
def test_a_drawn_part_has_the_size_asked_for_and_tears_nothing_apart(kind, size, seed):
    ids = [f"a{i}" for i in range(24)]
    articles = tuple(Article(name, f"Title number {i // 2}") for i, name in enumerate(ids))  # two of each title
    dataset = types.Dataset(articles, (), tuple(Pair(name, f"p{i}") for i, name in enumerate(ids)))
    one = replace(PLAIN, data=replace(PLAIN.data, test=f"{kind}:{size}", seed=seed))
    parts = divide(one, dataset)
    wanted = size if isinstance(size, int) else round(size * 24)
    test, rest = ([a.id for a in part.articles] for part in (parts.test, parts.rest))
    assert sorted([*test, *rest]) == sorted(ids)
    if kind == "random":
        assert len(test) == wanted
    else:
        assert wanted <= len(test) <= wanted + 1
        of = groups(dataset, prints={}).articles
        assert not {of[name] for name in test} & {of[name] for name in rest}
    assert divide(one, dataset).test.articles == parts.test.articles  # the seed decides


def test_what_may_be_drawn_is_known_without_a_look_at_a_picture(data, monkeypatch):
    drawn = divide(OWN, data).test
    monkeypatch.setattr("photodesk.recipes.split.groups", lambda dataset: pytest.fail("decoded pictures"))
    found = candidates(OWN, data)
    assert found.articles == data.articles
    assert {pair.photo for pair in drawn.pairs} <= {photo.id for photo in found.photos}
    assert candidates(PLAIN, data).pairs == data.pairs
