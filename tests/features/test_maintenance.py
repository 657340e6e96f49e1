from __future__ import annotations

import os
import time

import numpy as np
import pytest
from click.testing import CliRunner

from doubles import EchoTexts, as_texts
from features.test_shards import DIM, fill, held, key, row
from photodesk.cli import commands
from photodesk.errors import StoreError
from photodesk.features import maintenance
from photodesk.features.shards import Shards
from photodesk.features.store import Store


@pytest.fixture
def folder(tmp_path):
    """Numbers 0 … 12, then 0 … 6 once more: three full shards and an open one."""
    fill(tmp_path / "s", list(range(13)))
    fill(tmp_path / "s", list(range(7)), 1)
    return tmp_path / "s"


def spoil(path, at=5):
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


NOW = {key(i): row(i, int(i < 7)).tolist() for i in range(13)}


def test_verify_counts_what_is_there_and_finds_nothing_wrong(folder):
    kept = maintenance.verify(folder)
    assert (kept.tower, kept.rows, kept.dim, kept.dtype, kept.shards, kept.faults) == (
        "tower",
        20,
        DIM,
        "float32",
        3,
        (),
    )
    assert kept.bytes == sum(path.stat().st_size for path in folder.iterdir())


def test_verify_names_every_file_that_is_not_what_was_written(folder):
    for path in sorted(folder.glob("00000[123].*")):
        good = path.read_bytes()
        spoil(path)
        assert [(fault.where, fault.fate) for fault in maintenance.verify(folder).faults] == [(str(path), "left out")]
        path.write_bytes(good)
    spoil(folder / "000004.rows")
    assert [fault.what for fault in maintenance.verify(folder).faults] == ["1 of 3 rows are damaged"]
    (folder / "000001.log").unlink()
    assert len(maintenance.verify(folder).faults) == 2


@pytest.mark.parametrize("at", ["file_sum", "whole", "Part"])
@pytest.mark.parametrize("change", ["compact", "append"])
def test_verify_reads_again_what_is_replaced_meanwhile(folder, monkeypatch, at, change):
    was, calls = getattr(maintenance, at), []

    def meanwhile(*words):
        calls.append(words)
        if len(calls) == 1:
            with monkeypatch.context() as patch:
                patch.setattr(maintenance, at, was)
                if change == "compact":
                    maintenance.compact(folder, shard_bytes=1)
                else:
                    fill(folder, list(range(20, 29)))
        return was(*words)

    monkeypatch.setattr(maintenance, at, meanwhile)
    kept = maintenance.verify(folder)
    assert kept.faults == ()
    assert kept.rows == 13 if change == "compact" else 20 <= kept.rows <= 29
    assert maintenance.verify(folder).rows == (13 if change == "compact" else 29)


def test_a_draft_that_is_gone_when_it_is_looked_at_is_nothing(folder):
    (folder / ".manifest.json.draft").symlink_to("gone")  # listed, and then not there
    assert maintenance.verify(folder).rows == 20
    assert maintenance.gc(folder) == 0


@pytest.mark.parametrize("shard_bytes", [1, 5 * DIM * 4, 1 << 20])
def test_compact_keeps_the_newest_of_each_and_no_more(folder, shard_bytes):
    reader = Shards.open(folder, "tower", DIM).rows([key(3), key(12)])
    assert maintenance.compact(folder, shard_bytes=shard_bytes) == (13, 7)
    assert held(folder) == NOW
    assert maintenance.verify(folder).rows == 13
    assert maintenance.verify(folder).faults == ()
    assert np.array_equal(reader[:], [row(3, 1), row(12)])  # who had it mapped still has it
    fill(folder, [40, 41])
    assert held(folder) == NOW | {key(i): row(i).tolist() for i in (40, 41)}
    assert maintenance.compact(folder) == (15, 0)


def test_compact_saves_what_is_sound_of_damaged_shards(folder):
    spoil(folder / "000001.rows", 2 * DIM * 4)  # number 2, superseded
    spoil(folder / "000002.rows")  # number 6, superseded too
    spoil(folder / "000002.rows", 2 * DIM * 4)  # number 8
    (folder / "000003.rows").write_bytes((folder / "000003.rows").read_bytes()[: DIM * 4 + 1])  # one record is whole
    (folder / "000001.index").unlink()
    records = 20
    kept, dropped = maintenance.compact(folder)
    assert kept + dropped == records
    found = held(folder)
    assert key(8) not in found
    assert found[key(12)] == row(12).tolist()
    for name, values in found.items():
        assert values in (NOW[name], [*NOW[name][:2], 0.0])  # of a key whose newest row is lost the one before stands
    assert maintenance.verify(folder).faults == ()


def test_killed_compaction_changes_nothing(folder, monkeypatch):
    with monkeypatch.context() as patch:

        def killed(self, folder):
            raise KeyboardInterrupt

        patch.setattr("photodesk.features.shards.Manifest.write", killed)
        with pytest.raises(KeyboardInterrupt):
            maintenance.compact(folder, shard_bytes=1)
    assert held(folder) == NOW
    left = {path.name for path in folder.iterdir()}
    assert maintenance.gc(folder) > 0
    assert {name for name in left if name[:6] > "000004" and name[0] == "0"}.isdisjoint(
        path.name for path in folder.iterdir()
    )
    assert held(folder) == NOW


def test_compact_to_half_precision(tmp_path):
    texts = [f"text {i}" for i in range(50)]
    rows = Store(tmp_path).texts(as_texts(texts), EchoTexts())
    folder = tmp_path / "echo-texts"
    before = (folder / "000001.rows").stat().st_size
    maintenance.compact(folder, dtype="float16")
    assert maintenance.verify(folder).dtype == "float16"
    assert (folder / "000002.rows").stat().st_size == before / 2
    tower = EchoTexts()
    assert np.array_equal(Store(tmp_path).texts(as_texts(texts), tower), rows.astype(np.float16).astype(np.float32))
    assert tower.seen == []


def test_gc_deletes_what_was_not_used_and_only_that(folder):
    assert maintenance.gc(folder) == 0
    assert maintenance.gc(folder, days=1) == 0
    for path in folder.iterdir():
        os.utime(path, (0, time.time() - 3 * 86400))
    assert maintenance.gc(folder, days=4) == 0
    assert maintenance.gc(folder, days=2) > 0
    assert not folder.exists()


def test_a_writer_is_never_disturbed(folder):
    with Shards(folder, "tower", DIM):
        for work in (maintenance.compact, maintenance.gc):
            with pytest.raises(StoreError, match="another photodesk is writing"):
                work(folder)
        assert maintenance.verify(folder).faults == ()


def test_the_command(tmp_path):
    def run(*words, code=0):
        result = CliRunner().invoke(commands, ["store", *words, "--cache", str(tmp_path)])
        assert result.exit_code == code, result.output
        return result

    assert "holds no rows yet" in run("verify").stderr
    Store(tmp_path).texts(as_texts(["a", "b"]), EchoTexts())
    assert run("verify").stdout.split()[-8:-1] == [
        "echo-texts",
        "2",
        "3",
        "float32",
        "0",
        "0.0",
        time.strftime("%Y-%m-%d"),
    ]
    assert "echo-texts: 2 rows kept, 0 records dropped" in run("compact", "--float16").stderr
    spoil(tmp_path / "echo-texts" / "000002.rows")
    found = run("verify", code=1)
    assert "1 faults" in found.stdout
    assert "1 of 2 rows are damaged" in found.stderr
    assert "MB freed" in run("gc", "--days", "3").stderr
    (tmp_path / "echo-texts" / "manifest.json").write_text("no JSON")
    assert "manifest.json is damaged" in run("verify", code=1).stderr
