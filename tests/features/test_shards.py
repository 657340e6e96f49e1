from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from photodesk.errors import StoreError
from photodesk.features.shards import Shards

DIM = 3
SMALL = 5 * DIM * 4  # five rows fill a shard


def key(i):
    """Keys with zero bytes at their end and inside, which numpy strips where it can."""
    return bytes([i, 0, i % 3]) + bytes(13)


def row(i, version=0):
    return np.array([i, -i, version], np.float32)


def fill(folder, numbers, version=0, **options):
    with Shards(folder, "tower", DIM, shard_bytes=SMALL, **options) as shards:
        for start in range(0, len(numbers), 2):
            chunk = numbers[start : start + 2]
            shards.append([key(i) for i in chunk], np.stack([row(i, version) for i in chunk]))


def held(folder):
    shards = Shards.open(folder, "tower", DIM)
    keys = shards.keys().tobytes()
    keys = [keys[i : i + 16] for i in range(0, len(keys), 16)]
    return dict(zip(keys, np.asarray(shards.rows(keys)).tolist(), strict=True))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.integers(0, 40), max_size=9, unique=True), max_size=6))
def test_it_is_a_dictionary_whatever_the_shards(sessions):
    with tempfile.TemporaryDirectory() as folder:
        twin = {}
        for version, numbers in enumerate(sessions):
            fill(Path(folder, "s"), numbers, version)
            twin |= {key(i): row(i, version).tolist() for i in numbers}
            assert held(Path(folder, "s")) == twin
        with Shards(Path(folder, "s"), "tower", DIM) as shards:
            assert shards.has([key(i) for i in range(41)]) == [key(i) in twin for i in range(41)]
            assert len(shards) == len(twin)


@pytest.fixture
def full(tmp_path):
    """Two full shards of six rows and an open one of one."""
    fill(tmp_path / "s", list(range(13)))
    return tmp_path / "s"


def test_shards_are_listed_with_their_sums_and_map_as_plain_arrays(full):
    import hashlib
    import json

    manifest = json.loads((full / "manifest.json").read_text())
    assert [(shard["name"], shard["rows"]) for shard in manifest["shards"]] == [("000001", 6), ("000002", 6)]
    for shard in manifest["shards"]:
        for suffix, digest in shard["sha256"].items():
            assert hashlib.sha256((full / f"{shard['name']}.{suffix}").read_bytes()).hexdigest() == digest
    assert np.array_equal(
        np.memmap(full / "000002.rows", "<f4", "r", shape=(6, DIM)), np.stack([row(i) for i in range(6, 12)])
    )


def test_rows_are_read_lazily_as_an_array_would_give_them(full):
    order = np.random.default_rng(0).permutation(13)
    rows = Shards.open(full, "tower", DIM).rows([key(i) for i in order])
    whole = np.stack([row(i) for i in order])
    assert rows.shape == whole.shape
    assert len(rows) == 13
    for which in (3, -1, slice(2, 9, 3), np.array([5, 5, 0]), whole[:, 0] > 6, [1, 2], slice(0, 0)):
        assert np.array_equal(rows[which], whole[which])
    assert np.array_equal(np.asarray(rows), whole)
    assert np.array_equal(rows.take(np.array([4, 1]))[:], whole[[4, 1]])
    rows[0][:] = 9  # what is handed out is the caller's own
    assert np.array_equal(rows[0], whole[0])


def test_what_is_written_later_does_not_change_rows_in_hand(tmp_path):
    with Shards(tmp_path, "tower", DIM, shard_bytes=SMALL) as shards:
        shards.append([key(1)], row(1)[None])
        rows = shards.rows([key(1)])
        for version in range(1, 12):
            shards.append([key(1)], row(1, version)[None])
        assert rows[0].tolist() == row(1).tolist()
        assert shards.rows([key(1)])[0].tolist() == row(1, 11).tolist()


def test_a_reader_sees_all_that_was_appended_while_the_writer_goes_on(tmp_path):
    with Shards(tmp_path, "tower", DIM, shard_bytes=SMALL) as shards:
        for i in range(12):
            shards.append([key(i)], row(i)[None])
            assert held(tmp_path) == {key(j): row(j).tolist() for j in range(i + 1)}


def test_cut_at_any_byte_what_was_whole_is_kept(full, tmp_path):
    fill(full, [13, 14])  # three in the open shard
    for suffix, size in (("rows", DIM * 4), ("log", 24)):
        data = (full / f"000003.{suffix}").read_bytes()
        for length in range(len(data) + 1):
            copy = tmp_path / "copy"
            shutil.copytree(full, copy, dirs_exist_ok=True)
            (copy / f"000003.{suffix}").write_bytes(data[:length])
            assert held(copy) == {key(i): row(i).tolist() for i in range(12 + length // size)}
            fill(copy, [20])
            assert held(copy) == {key(i): row(i).tolist() for i in [*range(12 + length // size), 20]}


@pytest.mark.parametrize("at", ["open", "sealed"])
def test_a_damaged_row_is_never_handed_out(full, at):
    path, i = (full / "000003.rows", 12) if at == "open" else (full / "000001.rows", 0)
    data = bytearray(path.read_bytes())
    data[6] ^= 1
    path.write_bytes(data)
    shards = Shards.open(full, "tower", DIM)
    if at == "open":
        assert shards.has([key(i)]) == [False]
        return
    rows = shards.rows([key(j) for j in (3, i, 5)])
    assert rows.read()[1].tolist() == [1]
    with pytest.raises(StoreError, match=r"row 0 of .*000001.rows is damaged"):
        rows[1]
    assert np.array_equal(rows[2], row(5))


def test_a_damaged_index_hands_out_no_other_row(full):
    """Every bit of an index flipped in turn: each key has its own row or none, and those that have none can be stored
    again."""
    path = full / "000001.index"
    whole = path.read_bytes()
    lost = 0
    for bit in range(8 * len(whole)):
        data = bytearray(whole)
        data[bit // 8] ^= 1 << bit % 8
        path.write_bytes(data)
        shards = Shards.open(full, "tower", DIM)
        there = [i for i, found in enumerate(shards.has([key(i) for i in range(13)])) if found]
        assert len(there) >= 12
        assert np.array_equal(shards.rows([key(i) for i in there])[:], [row(i) for i in there])
        assert len(shards) == len(there)
        lost += 13 - len(there)
    assert lost >= 8 * 4 * 6  # each row number that was damaged
    fill(full, [i for i in range(13) if i not in there])
    assert held(full) == {key(i): row(i).tolist() for i in range(13)}


def test_a_shard_that_is_missing_or_short_is_named(full):
    (full / "000002.rows").write_bytes(b"short")
    with pytest.raises(StoreError, match=r"000002.rows is cut short: 5 bytes of 72; .*photodesk store compact"):
        Shards.open(full, "tower", DIM)
    (full / "000002.rows").unlink()
    with pytest.raises(StoreError, match=r"000002.rows is listed and missing"):
        Shards.open(full, "tower", DIM)


def test_a_killed_seal_leaves_the_shard_open(full, tmp_path, monkeypatch):
    from photodesk.features import shards as module

    def killed(self, folder):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module.Manifest, "write", killed)
        with pytest.raises(KeyboardInterrupt):
            fill(full, list(range(13, 23)))
    assert (full / "000003.index").exists()
    assert held(full) == {key(i): row(i).tolist() for i in range(17)}  # the last batch filled it
    (full / "000009.rows").write_bytes(b"left by a killed compaction")
    fill(full, [30])
    assert not (full / "000009.rows").exists()
    assert held(full) == {key(i): row(i).tolist() for i in [*range(17), 30]}


def test_half_precision_takes_half_the_bytes_and_stays(tmp_path):
    rows = np.random.default_rng(0).normal(size=(50, 64)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    keys = [key(i) for i in range(50)]
    with Shards(tmp_path, "tower", 64, dtype="float16") as shards:
        shards.append(keys, rows)
    found = Shards(tmp_path, "tower", 64)  # a folder keeps its type
    with found as shards:
        shards.append([key(99)], rows[:1])
    assert (tmp_path / "000001.rows").stat().st_size == 51 * 64 * 2
    read = Shards.open(tmp_path, "tower", 64).rows(keys)[:]
    assert read.dtype == np.float32
    assert np.array_equal(read, rows.astype(np.float16).astype(np.float32))
    assert np.abs(np.linalg.norm(read, axis=1) - 1).max() < 5e-4  # `Embeddings` takes 1e-3


def test_another_tower_is_refused_with_both_names(full):
    with pytest.raises(StoreError, match=r"holds rows of tower \(3 numbers\) and these are of other \(3\)"):
        Shards.open(full, "other", DIM)
    with pytest.raises(StoreError, match=r"tower \(3 numbers\) and these are of tower \(4\)"):
        Shards.open(full, "tower", 4)
    with pytest.raises(StoreError, match="lacks 2 of 3 rows"):
        Shards.open(full, "tower", DIM).rows([key(1), key(77), key(78)])


def test_a_damaged_or_foreign_manifest_is_named(full):
    (full / "manifest.json").write_text("{")
    with pytest.raises(StoreError, match=r"manifest\.json is damaged"):
        Shards.open(full, "tower", DIM)
    (full / "manifest.json").write_text('{"format": "photodesk-rows/9"}')
    with pytest.raises(StoreError, match="another version of photodesk"):
        Shards.open(full, "tower", DIM)
