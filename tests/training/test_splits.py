from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from photodesk.errors import DataError, UsageError
from photodesk.features.shards import StoredRows
from photodesk.features.store import Store
from photodesk.training import splits
from photodesk.training.pairs import gather
from training.test_train import facts, planted


def known(n=100, **columns):
    return replace(planted(n), facts=facts(n, **columns))


@pytest.mark.parametrize("text", ["grouped", "random", "time:2023-07-20"])
def test_a_split_prints_as_it_parses(text):
    assert str(splits.parse(text)) == text


@pytest.mark.parametrize("text", ["time", "time:soon", "time:2023-99-99", "time:2023-02-29", "grouped:3", "Random"])
def test_other_splits_are_refused(text):
    with pytest.raises(UsageError, match="expected grouped, random, or time"):
        splits.parse(text)


@pytest.mark.parametrize(
    ("date", "day"),
    [("20230719T101500Z", "2023-07-19"), (" 2023-07-19 10:15", "2023-07-19"), ("July", ""), ("20231399", ""), ("", "")],
)
def test_days_are_read_from_the_dates_of_the_editions(date, day):
    assert splits.iso(date) == day


def test_parts_are_of_the_main_data_set_and_others_bring_nothing_of_them_in():
    source = (np.arange(100) >= 70).astype(np.int64)
    pairs = replace(known(), group=np.arange(100) % 50, source=source, weights=(1.0, 0.1))
    trained, validated, tested = splits.divide(pairs, splits.Split(), validation=0.2, test=10, seed=0)
    assert not (validated | tested)[70:].any()
    assert 14 <= validated.sum() <= 15
    assert 10 <= tested.sum() <= 11
    apart = set(pairs.group[validated | tested])
    assert not apart & set(pairs.group[trained])
    assert trained[70:].sum() == sum(group not in apart for group in pairs.group[70:])


def test_a_random_split_takes_the_share_of_the_paper_and_parts_groups():
    pairs = replace(known(), group=np.zeros(100, np.int64))
    trained, validated, tested = splits.divide(pairs, splits.Split("random"), validation=0.2, test=0, seed=0)
    assert (trained.sum(), validated.sum(), tested.sum()) == (80, 20, 0)


def test_by_time_the_test_comes_after_everything_and_the_validation_before_it():
    pairs = known(date={0: "", 1: "no date"})
    days = np.array([splits.iso(fact.date) for fact in pairs.facts])
    trained, validated, tested = splits.divide(pairs, splits.parse("time:2023-07-20"), validation=15, test=0, seed=0)
    assert (days[tested] >= "2023-07-20").all()
    assert tested.sum() == (days >= "2023-07-20").sum()
    assert validated.sum() == 15
    assert min(days[validated]) >= max(days[trained])
    with pytest.raises(DataError, match="no dates"):
        splits.divide(
            known(date=dict.fromkeys(range(100), "")), splits.parse("time:2023-07-20"), validation=15, test=0, seed=0
        )


def test_by_time_nothing_of_later_days_is_trained_on_from_any_data_set():
    source = np.repeat([0, 1, 2], [60, 20, 20])
    pairs = replace(known(), source=source, weights=(1.0, 0.03, 0.0))  # the last as that of --pretrain
    days = np.array([splits.iso(fact.date) for fact in pairs.facts])
    trained, validated, tested = splits.divide(pairs, splits.parse("time:2023-07-20"), validation=5, test=0, seed=0)
    assert max(days[trained]) < "2023-07-20"
    assert trained.sum() + validated.sum() == (days < "2023-07-20").sum()
    assert set(source[trained]) == {0, 1, 2}
    assert set(source[tested]) == {0}
    with pytest.raises(
        DataError, match=r"no article is of 2024-01-01 or later, the last is of 2023-07-28; name an earlier day"
    ):
        splits.divide(pairs, splits.parse("time:2024-01-01"), validation=5, test=0, seed=0)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("title", "the same title as"),
        ("url", "the same URL as"),
        ("photo", "the same picture as"),
        ("alike", "a near-duplicate picture of"),
    ],
)
def test_each_kind_of_leak_is_named_with_both_places(kind, words):
    pairs = known(**{kind: {3: "shared", 50: "shared"}})
    one, other = np.arange(100) < 50, np.arange(100) >= 50
    found = splits.leaks(pairs, one, other)
    assert found == {3: splits.Leak("a.csv:3", "a.csv:50", kind)}
    assert str(found[3]) == f"a.csv:3 has {words} a.csv:50"
    assert splits.kinds(found.values()) == {
        {"title": "same title", "url": "same URL", "photo": "same picture", "alike": "near-duplicate"}[kind]: 1
    }


def test_nothing_in_common_is_no_leak_and_empty_keys_are_nothing():
    pairs = known(title=dict.fromkeys(range(100), ""), url=dict.fromkeys(range(100), ""))
    assert splits.leaks(pairs, np.arange(100) < 50, np.arange(100) >= 50) == {}


def test_all_pairs_of_pictures_are_compared_once(tmp_path, monkeypatch):
    from doubles import desk, echo
    from photodesk.data import datasets, groups

    calls = []
    for module in (groups, __import__("photodesk.training.pairs").training.pairs):
        monkeypatch.setattr(
            module, "near_duplicates", lambda prints, near=10: calls.append(list(prints)) or [(0, 1)], raising=False
        )
    encoder = echo()
    pairs = gather(
        [datasets.read(desk(tmp_path / "a", ["One", "Two"]))], encoder.texts, encoder.photos, Store(tmp_path / "store")
    )
    assert [len(prints) for prints in calls] == [2]
    assert [fact.alike for fact in pairs.facts] == [pairs.facts[0].photo] * 2
    assert pairs.group[0] == pairs.group[1]


def test_gathered_features_stay_on_disk_and_groups_reach_across_data_sets(tmp_path):
    from doubles import desk, echo
    from photodesk.data import datasets

    words = ["Rome flood", "Elbe fire", "Bonn vote"]
    one, two = (
        datasets.read(desk(tmp_path / name, list(titles)))
        for name, titles in (("a", words), ("b", [*words[:1], "Kiel storm"]))
    )
    encoder = echo()
    pairs = gather([one, two], encoder.texts, encoder.photos, Store(tmp_path / "store"))
    assert isinstance(pairs.photos, StoredRows)
    assert all(isinstance(view, StoredRows) for view in pairs.texts)
    assert len(pairs) == 5
    assert pairs.source.tolist() == [0, 0, 0, 1, 1]
    assert pairs.weights == (1.0, 0.03)
    assert pairs.group[0] == pairs.group[3]  # one title and one picture, in two data sets
    assert pairs.group[1] == pairs.group[4]  # one URL
    assert len(set(pairs.group.tolist())) == 3
    assert pairs.facts[0].title == pairs.facts[3].title
    for at in range(5):
        assert np.allclose(
            pairs.text_rows(np.array([at])),
            encoder.texts.encode([("Rome flood", "Elbe fire", "Bonn vote", "Rome flood", "Kiel storm")[at]]),
        )
