"""Commands where something is wrong: disks that are away, archives inside what is added, sidecars, faults that are
over, jobs that are stopped."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import threading
import time
import unicodedata
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from doubles import echo, paint
from formats.test_formats import dng, scene
from photodesk import cli, formats, images
from photodesk.archive import commands as archive_commands
from photodesk.archive import embargo, folders, ingest, maintenance, migration, rights
from photodesk.archive.archive import Archive
from photodesk.archive.database import MIGRATIONS, Database
from photodesk.cli import commands
from photodesk.encoders.base import Encoder
from photodesk.errors import ArchiveInUse, InternalError, PhotodeskError, PhotoError, StoreError, UsageError
from photodesk.files import digest
from photodesk.web import client, jobs

WORDS = ["Elbe", "Wien", "Köln", "Rom"]
XMP = """<r:RDF xmlns:r="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><r:Description
 xmlns:p="http://ns.adobe.com/photoshop/1.0/" p:Headline="{}"/></r:RDF>"""


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """An archive of four pictures."""
    monkeypatch.setattr("photodesk.encoders.registry.load", lambda name="echo": echo())
    monkeypatch.setenv("PHOTODESK_CACHE", str(tmp_path / "cache"))
    for word in WORDS:
        paint(tmp_path / "photos" / f"{word}.png", word)
    with Archive.create(tmp_path / "desk", echo(), engine="flat:index") as archive:
        do(archive, "add", folders=[str(tmp_path / "photos")])
        yield archive


def do(archive, command, **options):
    return archive_commands.run(archive, echo, command, options, lambda *_: None)


def photo_of(path):
    return digest(Path(path).read_bytes()).hex()


def whats(faults):
    return [(Path(fault.where).name, fault.what) for fault in faults]


def test_a_release_says_when_an_embargo_ends_and_can_be_taken_back(desk, tmp_path):
    one, other = (photo_of(tmp_path / "photos" / f"{word}.png") for word in WORDS[:2])
    held = {one: "Sperrfrist: Redebeginn", other: "Sperrfrist: Redebeginn"}
    known = {point.photo: point.entry for point in desk.engine.get([one, other])}
    desk.engine.describe({photo: replace(known[photo], terms=terms) for photo, terms in held.items()})

    def until(photo):
        return rights.embargoes(desk, {photo: desk.engine.get([photo])[0].entry})[photo]

    assert do(desk, "update", zone="Europe/Berlin").faults == []
    done = do(desk, "release", photos=[one, str(tmp_path / "nothing.png")], until="31.5.2024, 18 Uhr")
    assert done.message == "1 photos released from 2024-05-31T18:00:00+02:00"
    assert [fault.code for fault in done.faults] == ["photo-unknown"]
    assert (until(one), until(other)) == ("2024-05-31T18:00:00+02:00", "unknown")
    do(desk, "release", photos=[str(tmp_path / "photos" / f"{WORDS[1]}.png")])
    assert not embargo.holds(until(other))
    do(desk, "release", photos=[one, other], withdraw=True)
    assert (until(one), until(other)) == ("unknown", "unknown")
    bare = photo_of(tmp_path / "photos" / f"{WORDS[2]}.png")
    assert [fault.code for fault in do(desk, "release", photos=[bare]).faults] == ["photo-without-embargo"]
    with pytest.raises(UsageError, match="'bald' is no moment"):
        do(desk, "release", photos=[one], until="bald")
    with pytest.raises(UsageError, match="no time zone 'Mitte'"):
        do(desk, "update", zone="Mitte")
    refused = CliRunner().invoke(commands, ["archive", "release", "x", one, "--until", "2024", "--withdraw"])
    assert isinstance(refused.exception, UsageError)


def test_a_near_duplicate_with_the_same_terms_is_released_too(desk, tmp_path):
    from doubles import twin

    path = tmp_path / "photos" / f"{WORDS[0]}.png"
    twin(tmp_path / "photos/small.png", path, (20, 15), terms="Sperrfrist")
    do(desk, "add", folders=[str(tmp_path / "photos")])
    large, small = photo_of(path), photo_of(tmp_path / "photos/small.png")
    desk.engine.describe({large: replace(desk.engine.get([large])[0].entry, terms="Sperrfrist")})
    assert do(desk, "release", photos=[large]).message.startswith("2 photos")
    assert desk.usage.released([small])


def test_an_update_spells_the_words_of_an_older_archive_as_now(desk):
    said = []
    desk.database.set({"words": ""})
    assert "words of 4 photos indexed again" in do(desk, "update").message
    assert desk.index_words(lambda *step: said.append(step)) == 0
    assert said == []


@pytest.mark.parametrize("mount", ["no folder", "an empty folder"])
def test_a_disk_that_is_away_takes_no_photos_with_it(desk, tmp_path, mount):
    (tmp_path / "photos").rename(tmp_path / "elsewhere")
    if mount == "an empty folder":
        (tmp_path / "photos").mkdir()
    done = do(desk, "remove", missing=True)
    assert done.message == "0 photos and 0 files removed"
    assert whats(done.faults) == [("photos", "all files of this folder are gone; they stay in the archive")]
    assert "--force" in done.faults[0].advice
    assert desk.engine.count() == 4
    shutil.rmtree(tmp_path / "photos", ignore_errors=True)
    (tmp_path / "elsewhere").rename(tmp_path / "photos")
    (tmp_path / "photos/Rom.png").unlink()
    assert do(desk, "remove", missing=True).message == "1 photos and 1 files removed"
    shutil.rmtree(tmp_path / "photos")
    assert do(desk, "remove", missing=True, force=True).message == "3 photos and 3 files removed"


def test_the_command_ends_with_code_1_where_a_disk_is_away(desk, tmp_path):
    desk.close()
    (tmp_path / "photos").rename(tmp_path / "elsewhere")
    words = ["archive", "remove", str(tmp_path / "desk"), "--missing"]
    assert CliRunner().invoke(commands, words).exit_code == 1
    assert CliRunner().invoke(commands, [*words, "--force"]).exit_code == 0


def test_what_may_not_be_looked_at_is_not_gone(desk, tmp_path, monkeypatch):
    hidden = str(tmp_path / "photos/Rom.png")
    look = os.stat

    def refuse(path, *words, **more):
        if os.fspath(path) == hidden:
            raise PermissionError(13, "Permission denied", hidden)
        return look(path, *words, **more)

    with monkeypatch.context() as locked:
        locked.setattr(os, "stat", refuse)
        locked.setattr(Path, "stat", refuse)
        assert do(desk, "remove", missing=True).message == "0 photos and 0 files removed"
        done = do(desk, "add", folders=[str(tmp_path / "photos")])
        assert whats(done.faults) == [("Rom.png", "cannot be read: Permission denied")]
        assert do(desk, "verify").faults == []
    assert folders.gone(hidden) is False


def test_unknown_things_to_remove_are_named(desk, tmp_path):
    done = do(desk, "remove", paths=[str(tmp_path / "photos/Rom.png"), str(tmp_path / "nowhere")], photos=["0" * 32])
    assert done.message == "1 photos and 1 files removed"
    assert whats(done.faults) == [
        ("nowhere", "the archive knows no file there"),
        ("0" * 32, "the archive has no such photo"),
    ]
    desk.close()
    assert (
        CliRunner().invoke(commands, ["archive", "remove", str(tmp_path / "desk"), "--photo", "0" * 32]).exit_code == 1
    )


def test_an_archive_below_what_is_added_keeps_its_thumbnails_to_itself(desk, tmp_path):
    shutil.copytree(desk.folder, tmp_path / "copy", ignore=shutil.ignore_patterns("lock"))
    for _ in range(2):
        done = do(desk, "add", folders=[str(tmp_path)])
        assert sorted(fault.where for fault in done.faults if "holds an archive" in fault.what) == [
            str(tmp_path / "copy"),
            str(tmp_path / "desk"),
        ]
        assert desk.engine.count() == 4
    assert do(desk, "add", folders=[str(desk.folder)]).message.startswith("0 photos added")


def test_faults_are_listed_all_and_end_with_their_files(desk, tmp_path):
    for i in range(70):
        (tmp_path / f"photos/broken{i:02}.jpg").write_bytes(b"GIF89a")
    do(desk, "add", folders=[str(tmp_path / "photos")])
    found = do(desk, "faults")
    assert [Path(fault.where).name for fault in found.faults] == [f"broken{i:02}.jpg" for i in range(70)]
    (tmp_path / "photos/broken00.jpg").unlink()
    do(desk, "add", folders=[str(tmp_path / "photos")])
    assert len(do(desk, "faults").faults) == 69
    do(desk, "remove", paths=[str(tmp_path / "photos/broken01.jpg")])
    (tmp_path / "photos/broken02.jpg").unlink()
    do(desk, "remove", missing=True)
    assert [Path(fault.where).name for fault in do(desk, "faults").faults] == [
        f"broken{i:02}.jpg" for i in range(3, 70)
    ]
    jobs = [job.command for job in desk.database.jobs()]
    assert "faults" not in jobs
    desk.close()
    shown = CliRunner().invoke(commands, ["archive", "faults", str(desk.folder)])
    assert shown.exit_code == 0
    assert len(shown.stdout.splitlines()) == 67
    assert "broken69.jpg" in shown.stdout


def test_a_sidecar_that_comes_or_changes_is_read(desk, tmp_path):
    (tmp_path / "photos/Rom.xmp").write_text(XMP.format("Forum"))
    for headline in ("Forum", "Kapitol"):
        (tmp_path / "photos/Rom.xmp").write_text(XMP.format(headline))
        later = time.time_ns() + (headline == "Kapitol") * 10**9
        os.utime(tmp_path / "photos/Rom.xmp", ns=(later, later))
        do(desk, "add", folders=[str(tmp_path / "photos")])
        (point,) = desk.engine.get([photo_of(tmp_path / "photos/Rom.png")])
        assert point.entry.headline == headline
    assert do(desk, "add", folders=[str(tmp_path / "photos")]).message == "0 photos added, 4 files known"


def headline(desk, path):
    (point,) = desk.engine.get([photo_of(path)])
    return point.entry.headline


def test_a_sidecar_older_than_its_picture_that_comes_changes_or_goes_is_noticed(desk, tmp_path):
    photos, sidecar = tmp_path / "photos", tmp_path / "photos/Rom.xmp"
    for second, said in enumerate(("Forum", "Kapitol")):
        sidecar.write_text(XMP.format(said))
        os.utime(sidecar, (second, second))
        do(desk, "add", folders=[str(photos)])
        assert headline(desk, photos / "Rom.png") == said
    sidecar.unlink()
    do(desk, "add", folders=[str(photos)])
    assert headline(desk, photos / "Rom.png") == ""


def test_sidecars_are_found_by_any_case_and_that_of_the_whole_name_comes_first(desk, tmp_path):
    photos = tmp_path / "photos"
    for name in ("Elbe.XMP", "Wien.png.Xmp", "Rom.xmp", "Rom.png.xmp"):
        (photos / name).write_text(XMP.format(name))
    do(desk, "add", folders=[str(photos / "Elbe.png"), str(photos / "Wien.png"), str(photos / "Rom.png")])
    said = {word: headline(desk, photos / f"{word}.png") for word in ("Elbe", "Wien", "Rom")}
    assert said == {"Elbe": "Elbe.XMP", "Wien": "Wien.png.Xmp", "Rom": "Rom.png.xmp"}


@pytest.mark.parametrize("order", [("a", "b"), ("b", "a")])
def test_of_two_copies_that_with_the_sidecar_counts_whichever_was_read_last(desk, tmp_path, order):
    for folder in ("a", "b"):
        paint(tmp_path / "photos" / folder / "copy.png", "Ulm")
    (tmp_path / "photos/a/copy.xmp").write_text(XMP.format("Sperrfrist"))
    for folder in order:
        do(desk, "add", folders=[str(tmp_path / "photos" / folder)])
    assert headline(desk, tmp_path / "photos/a/copy.png") == "Sperrfrist"
    (tmp_path / "photos/b/copy.xmp").write_text(XMP.format("Zweite"))
    do(desk, "update")
    assert headline(desk, tmp_path / "photos/a/copy.png") == "Sperrfrist"
    shutil.rmtree(tmp_path / "photos/a")
    do(desk, "update")
    assert headline(desk, tmp_path / "photos/b/copy.png") == "Zweite"


def test_a_sidecar_that_cannot_be_read_is_named_tried_again_and_costs_nothing_that_is_known(
    desk, tmp_path, monkeypatch
):
    sidecar = tmp_path / "photos/Rom.xmp"
    sidecar.write_text(XMP.format("Forum"))
    do(desk, "add", folders=[str(tmp_path / "photos")])
    (read, refused) = (images.content, [str(sidecar)])

    def content(path):
        if str(path) in refused:
            with images.guarded(str(path)):
                raise PermissionError(13, "Permission denied", str(path))
        return read(path)

    monkeypatch.setattr(images, "content", content)
    os.utime(sidecar, (1, 1))
    for _ in range(2):
        found = do(desk, "add", folders=[str(tmp_path / "photos")])
        why = "its XMP sidecar Rom.xmp cannot be read: Permission denied; check the file and its permissions"
        assert whats(found.faults) == [("Rom.png", why)]
        assert headline(desk, tmp_path / "photos/Rom.png") == "Forum"
    shutil.copy(tmp_path / "photos/Rom.png", tmp_path / "photos/copy.png")
    (tmp_path / "photos/copy.xmp").write_text(
        XMP.format("Zweite").replace("p:Headline", 'p:Instructions="Sperrfrist" p:Headline')
    )
    do(desk, "add", folders=[str(tmp_path / "photos")])
    (point,) = desk.engine.get([photo_of(tmp_path / "photos/Rom.png")])
    assert (point.entry.headline, point.entry.terms) == ("Forum", "Sperrfrist")
    (tmp_path / "photos/copy.png").unlink()
    (tmp_path / "photos/copy.xmp").unlink()
    do(desk, "add", folders=[str(tmp_path / "photos")])
    refused.clear()
    sidecar.write_text(XMP.format("Forvm"))
    os.utime(sidecar, (1, 1))
    assert do(desk, "add", folders=[str(tmp_path / "photos")]).faults == []
    assert headline(desk, tmp_path / "photos/Rom.png") == "Forvm"


def test_what_the_system_refuses_is_tried_again_and_what_is_damaged_is_not(desk, tmp_path, monkeypatch):
    photos = tmp_path / "photos"
    paint(photos / "Ulm.png", "Ulm")
    (photos / "broken.png").write_bytes(b"no picture")
    read, tried, refused = images.content, [], {"Ulm.png"}

    def content(path):
        tried.append(Path(path).name)
        if Path(path).name in refused:
            with images.guarded(str(path)):
                raise PermissionError(13, "Permission denied", str(path))
        return read(path)

    monkeypatch.setattr(images, "content", content)
    for names in (["Ulm.png", "broken.png"], ["Ulm.png"]):
        tried.clear()
        found = do(desk, "add", folders=[str(photos)])
        assert sorted(tried) == names
        assert sorted(Path(fault.where).name for fault in found.faults) == ["Ulm.png", "broken.png"]
        assert len(do(desk, "faults").faults) == 2
    refused.clear()
    assert do(desk, "update").message.startswith("1 photos added")


def test_a_file_of_a_far_time_is_taken_and_known(desk, tmp_path):
    paint(tmp_path / "photos/Ulm.png", "Ulm")
    os.utime(tmp_path / "photos/Ulm.png", (10_413_792_000, 10_413_792_000))  # the year 2300
    assert do(desk, "add", folders=[str(tmp_path / "photos")]).message == "1 photos added, 4 files known"
    assert do(desk, "add", folders=[str(tmp_path / "photos")]).message == "0 photos added, 5 files known"


def test_a_backup_has_the_fitted_probabilities(desk, tmp_path):
    (desk.folder / "confidence.json").write_text("{}")
    maintenance.backup(desk, tmp_path / "copy")
    assert (tmp_path / "copy/confidence.json").read_text() == "{}"


class Slow:
    """Pictures that take their time to encode."""

    def __init__(self, tower, began):
        self._tower, self._began, self.batch = tower, began, 1

    def __getattr__(self, name):
        return getattr(self._tower, name)

    def encode(self, batch):
        self._began.set()
        time.sleep(0.05)
        return self._tower.encode(batch)


def test_a_server_that_ends_stops_the_job_at_hand_and_drops_the_others(desk, tmp_path):
    from dataclasses import replace

    for i in range(400):
        paint(tmp_path / f"many/{i}.png", f"word {i}", (8, 6))
    began, ended = threading.Event(), []
    encoder = replace(echo(), photos=Slow(echo().photos, began))
    hands = jobs.Worker(desk, encoder, lambda: ended.append(desk.engine.count()))
    first = hands.start("add", {"folders": [str(tmp_path / "many")]})["job"]
    second = hands.start("verify", {})["job"]
    assert hands.state(second)["state"] == "waiting"
    assert began.wait(30)
    hands.close()
    assert hands.state(first)["state"] == hands.state(second)["state"] == "stopped"
    assert "resumes" in hands.state(first)["message"]
    assert desk.engine.count() < 404
    assert [(job.job, job.command, job.state) for job in desk.database.jobs(2)] == [
        (second, "verify", "stopped"),
        (first, "add", "stopped"),
    ]
    assert maintenance.verify(desk) == []


def test_a_job_is_its_row_and_what_it_found_is_forgotten_with_time(desk, monkeypatch, tmp_path):
    monkeypatch.setattr(jobs, "KEPT", 2)
    told = []
    (tmp_path / "photos/broken.jpg").write_bytes(b"GIF89a")
    hands = jobs.Worker(desk, echo(), lambda: told.append(1))
    assert hands.start("stats", {})["job"] is None
    asked = [hands.start("add", {"folders": [str(tmp_path / "photos")]})["job"] for _ in range(3)]
    asked.append(hands.start("move", {"uri": "milvus:x"})["job"])
    hands._waiting.put(None)
    hands._thread.join()
    assert len(told) == 4
    states = [hands.state(number) for number in asked]
    assert [(s["job"], s["state"], s["message"]) for s in states] == [
        (job.job, job.state, job.message) for job in reversed(desk.database.jobs(4))
    ]
    assert [state["state"] for state in states] == ["done", "done", "done", "failed"]
    assert "no engine 'milvus:x'" in states[-1]["message"]
    assert [len(state["faults"]) for state in states] == [0, 1, 1, 0]
    assert hands.state(asked[-1] + 77) is None


def test_a_job_whose_end_cannot_be_written_is_not_said_to_run_for_ever(desk, monkeypatch):
    def full(*_):
        raise StoreError("no room left on the disk")

    monkeypatch.setattr(desk.database, "end", full)
    hands = jobs.Worker(desk, echo())
    number = hands.start("verify", {})["job"]
    hands._waiting.put(None)
    hands._thread.join()
    state = hands.state(number)
    assert (state["state"], state["message"]) == ("failed", "no room left on the disk")
    desk.close()
    with Archive.open(desk.folder) as again:
        assert again.database.job(number).state == "stopped"


@pytest.mark.parametrize(
    "options",
    [{"folder": ["x"]}, {}, {"folders": ["x"], "archive": "y"}],
    ids=["unknown", "missing", "given by the server"],
)
def test_options_that_a_command_does_not_have_are_the_callers_mistake(desk, options):
    jobs_before = desk.database.jobs()
    with pytest.raises(UsageError, match=r"^add: .*argument"):
        archive_commands.run(desk, echo, "add", options, lambda *_: None)
    assert desk.database.jobs() == jobs_before


def broken(archive, encoder, progress):
    len(unexpected="argument")


def test_a_mistake_within_a_command_never_reads_as_the_users(desk, monkeypatch, caplog):
    """Even where its message speaks of arguments."""
    monkeypatch.setitem(archive_commands.COMMANDS, "verify", broken)
    with pytest.raises(TypeError, match="argument"):
        do(desk, "verify")
    job = desk.database.jobs(1)[0]
    assert (job.state, job.message.partition(":")[0]) == ("failed", "a bug of photodesk, not your mistake")
    hands = jobs.Worker(desk, echo())
    number = hands.start("verify", {})["job"]
    hands_state = {}
    while hands_state.get("state") != "failed":
        time.sleep(0.01)
        hands_state = hands.state(number)
    hands.close()
    assert hands_state["mistake"]
    assert "TypeError" in hands_state["message"]
    assert "in broken" in caplog.text  # the traceback


def test_a_mistake_of_the_server_is_no_error_of_the_user(monkeypatch):
    state = {"job": 1, "state": "failed", "total": 0, "message": "TypeError: odd", "mistake": True}
    monkeypatch.setattr(client, "request", lambda *_, **__: state)
    with pytest.raises(InternalError, match="the log of process 7 says where"):
        client.run(ArchiveInUse("held", pid=7, url="http://127.0.0.1:1"), "verify", {}, lambda *_: None)
    assert not issubclass(InternalError, PhotodeskError)


def test_a_mistake_ends_with_a_code_of_its_own_and_a_traceback(monkeypatch, capsys):
    def fail(*_, **__):
        raise TypeError("missing argument")

    monkeypatch.setattr(commands, "main", fail)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 70
    said = capsys.readouterr().err
    assert "in fail" in said
    assert "a bug of photodesk, not your mistake" in said


def test_what_a_kill_left_running_is_stopped_when_the_archive_is_opened(desk):
    desk.database.begin("add")
    desk.database.begin("verify", "waiting")
    assert [job.state for job in desk.database.jobs(2)] == ["waiting", "running"]
    desk.close()
    with Archive.open(desk.folder) as again:
        assert [job.state for job in again.database.jobs(2)] == ["stopped", "stopped"]


def test_uses_arrive_by_id_and_by_path_and_an_odd_day_is_refused(desk, tmp_path):
    rom, wien = (photo_of(tmp_path / f"photos/{word}.png") for word in ("Rom", "Wien"))
    done = do(
        desk,
        "use",
        photos=[rom, str(tmp_path / "photos/Wien.png"), "nothing.jpg"],
        day="2026-03-01",
        article="Hochwasser",
    )
    assert done.message == "2 photos used on 2026-03-01"
    assert whats(done.faults) == [("nothing.jpg", "the archive has no such photo")]
    assert desk.usage.used("2026-03-01") == {rom: "2026-03-01", wien: "2026-03-01"}
    assert desk.database.ask("SELECT DISTINCT article FROM uses") == [("Hochwasser",)]
    for odd in ("2026-W01-1", "20260301", "2026-13-01", "gestern"):
        with pytest.raises(UsageError, match="no day"):
            do(desk, "use", photos=[rom], day=odd)
    assert "use" not in [job.command for job in desk.database.jobs()]


def test_a_use_is_found_by_other_spellings_but_never_guessed_among_several(desk, tmp_path):
    umlaut = unicodedata.normalize("NFD", "L\u00fcbeck.png")
    for name in (umlaut, "x/p.png", "y/p.png"):
        paint(tmp_path / "photos" / name, name)
    paint(tmp_path / "elsewhere/Rom.png", "another picture of that name")
    do(desk, "add", folders=[tmp_path / "photos"])
    asked = ["L\u00fcbeck.png", "/srv/photos/y/p.png", "rom", "p.png", str(tmp_path / "elsewhere/Rom.png")]
    done = do(desk, "use", photos=asked, day="2026-03-01")
    right = {photo_of(tmp_path / "photos" / name) for name in (umlaut, "y/p.png", "Rom.png")}
    assert set(desk.usage.used("2026-03-01")) == right
    assert [(Path(where).name, what.partition(":")[0]) for where, what in whats(done.faults)] == [
        ("L\u00fcbeck.png", "a file by another spelling"),
        ("p.png", "a file by another spelling"),
        ("rom", "a file by another spelling"),
        ("p.png", "several photos have this name"),
        ("Rom.png", "the archive has no such photo"),
    ]


def test_a_use_by_command_pushes_a_photo_down_in_a_search(desk, tmp_path):
    desk.close()

    def call(*words):
        result = CliRunner().invoke(commands, [*map(str, words)])
        assert result.exit_code == 0, result.output
        return result

    def found(*more):
        return [hit["photo"] for hit in json.loads(call("search", desk.folder, "Rom", "--json", *more).stdout)["hits"]]

    rom = photo_of(tmp_path / "photos/Rom.png")
    assert found("--used-days", 30)[0] == rom
    call("archive", "use", desk.folder, tmp_path / "photos/Rom.png", "--article", "Heute")
    assert found()[0] == rom
    assert found("--used-days", 30)[0] != rom
    assert rom not in found("--used-days", 30, "--hide-used")
    assert "uses        1\n" in call("archive", "stats", desk.folder).stdout


def test_the_holder_is_asked_directly_whatever_proxy_is_set_and_its_reason_is_told(desk, monkeypatch):
    from archive.test_archive import _server

    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    hands = jobs.Worker(desk, echo())
    with _server(hands) as url:
        holder = ArchiveInUse("held", pid=1, url=url, key="secret")
        assert client.run(holder, "stats", {}, lambda *_: None).data["photos"] == 4
        holder.key = "wrong"
        with pytest.raises(StoreError, match=r"show the key \(401\)"):
            client.run(holder, "stats", {}, lambda *_: None)
    hands.close()


@pytest.fixture
def watched(tmp_path):
    """What a watch of a folder reports, one by one, while it runs in a thread."""
    pytest.importorskip("watchfiles")
    import queue

    from photodesk.archive import folders

    (tmp_path / "in/sub").mkdir(parents=True)
    stop, found = threading.Event(), queue.SimpleQueue()

    def look():
        for below in folders.changes([tmp_path / "in"], poll=True, stop=stop):
            found.put(below)

    thread = threading.Thread(target=look)
    thread.start()
    yield lambda: found.get(timeout=60)
    stop.set()
    thread.join()


def test_a_watch_reports_all_once_it_stands_and_then_what_comes(watched, tmp_path):
    assert watched() == [tmp_path / "in"]
    paint(tmp_path / "in/sub/new.png", "new")
    (tmp_path / "in/notes.txt").write_text("no picture")
    assert watched() == [tmp_path / "in/sub"]
    (tmp_path / "in/desk/thumbnails").mkdir(parents=True)
    (tmp_path / "in/desk/archive.sqlite").write_text("")
    paint(tmp_path / "in/desk/thumbnails/1.png", "1")
    paint(tmp_path / "elsewhere/1.png", "1")
    (tmp_path / "elsewhere").rename(tmp_path / "in/2026.11.22")
    seen = set(watched())
    while tmp_path / "in/2026.11.22" not in seen:
        seen |= set(watched())
    assert not any(path.is_relative_to(tmp_path / "in/desk") for path in seen)


def test_one_add_that_fails_does_not_end_the_watch_and_is_tried_again(desk, tmp_path, monkeypatch):
    desk.close()
    (tmp_path / "photos/sub").mkdir()
    steps = [[tmp_path / "photos"], [tmp_path / "photos/sub"], [tmp_path / "photos/other"], [tmp_path / "photos"]]
    asked, real = [], archive_commands.run

    def run(archive, encoder, command, options, progress):
        asked.append([Path(folder).name for folder in options["folders"]])
        if len(asked) == 2:
            raise StoreError("no room")
        return real(archive, encoder, command, options | {"folders": [str(tmp_path / "photos")]}, progress)

    monkeypatch.setattr(archive_commands, "run", run)
    monkeypatch.setattr("photodesk.archive.folders.changes", lambda folders, poll: iter(steps))
    done = CliRunner().invoke(commands, ["archive", "add", str(desk.folder), str(tmp_path / "photos"), "--watch"])
    assert asked == [["photos"], ["sub"], ["other", "sub"], ["photos"]]
    assert done.exit_code == 1
    assert "no room; the watch goes on" in done.stderr


class Negative:
    """Another model: the rows of the first one, turned about."""

    def __init__(self, tower):
        self._tower, self.fingerprint = tower, f"negative-{tower.fingerprint}"

    def __getattr__(self, name):
        return getattr(self._tower, name)

    def encode(self, batch):
        return -self._tower.encode(batch)

    def read(self, texts):
        return -self._tower.read(texts)


def negative():
    return Encoder("negative", Negative(echo().texts), Negative(echo().photos))


@pytest.mark.parametrize("engine", ["flat:index", "edge:shard"])
def test_an_archive_gets_another_model_and_keeps_all_else(tmp_path, monkeypatch, engine):
    pytest.importorskip("qdrant_edge")
    models = {"echo": echo, "negative": negative}
    monkeypatch.setattr("photodesk.encoders.registry.load", lambda name="echo": models[name]())
    monkeypatch.setattr("photodesk.cli.options.load_encoder", lambda name="echo": models[name]())
    for word in WORDS:
        paint(tmp_path / "photos" / f"{word}.png", word)
    (tmp_path / "photos/Rom.xmp").write_text(XMP.format("Forum"))
    with Archive.create(tmp_path / "desk", echo(), engine=engine) as desk:
        do(desk, "add", folders=[str(tmp_path / "photos")])
        rom = photo_of(tmp_path / "photos/Rom.png")
        desk.usage.use([rom], "2026-03-01")
        desk.usage.add_to_bank(["1"], echo().texts.encode(["Feuer"]))
        desk.refresh()
        before = {point.photo: point for points in desk.engine.scan(rows=True) for point in points}
        with monkeypatch.context() as cut:
            cut.setattr(type(desk.engine), "optimise", lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                migration.reencode(desk, negative(), lambda *_: None)
        assert desk.settings.encoder == "echo"
    (tmp_path / "photos/Wien.png").unlink()
    done = CliRunner().invoke(commands, ["archive", "update", str(tmp_path / "desk"), "--encoder", "negative"])
    assert done.exit_code == 1, done.output  # Wien is gone
    assert "4 photos encoded by negative" in done.stderr
    assert "the bank of 1 articles is empty now" in done.stderr
    with Archive.open(tmp_path / "desk") as desk:
        assert (desk.settings.encoder, desk.settings.fingerprint) == ("negative", negative().fingerprint)
        after = {point.photo: point for points in desk.engine.scan(rows=True) for point in points}
        assert {photo: point.entry for photo, point in after.items()} == {
            photo: point.entry for photo, point in before.items()
        }
        for photo, point in after.items():
            assert float(point.row @ before[photo].row) < -0.999
        assert (desk.database.count("bank"), desk.usage.used("2026-01-01")) == (0, {rom: "2026-03-01"})
        assert [fault.what for fault in maintenance.verify(desk)] == [
            "the file is gone; its photo stays in the archive"
        ]
        assert desk.engine.search(negative().texts.encode(["Rom"])[0], 1)[0].photo == rom
        with pytest.raises(StoreError, match=r"update .*--encoder echo"):
            ingest.add(desk, echo(), [tmp_path / "photos"])


def test_a_picture_is_of_a_file_with_that_very_content_else_of_the_thumbnail(desk, tmp_path):
    path = tmp_path / "photos/Rom.png"
    content = path.read_bytes()
    rom = photo_of(path)
    small = desk.thumbnail(rom)

    def told(found):
        return found.path, found.content, found.original

    def originals_only(found):
        if not found.original:
            raise PhotoError("small")
        raise ValueError("cannot be drawn")  # as an image library does

    assert desk.picture(rom, told) == (path, content, True)
    assert desk.picture(rom, told, small=True) == (small, small.read_bytes(), False)
    with pytest.raises(PhotoError, match=r"Rom\.png is damaged: cannot be drawn"):
        desk.picture(rom, originals_only)
    paint(path, "Paris")
    assert desk.picture(rom, told) == (small, small.read_bytes(), False)
    small.unlink()
    for first in (False, True):
        with pytest.raises(PhotoError, match=r"another content|cannot be read"):
            desk.picture(rom, told, small=first)


def test_no_thumbnail_is_made_from_a_file_with_another_content(desk, tmp_path):
    path = tmp_path / "photos/Rom.png"
    rom = photo_of(path)
    paint(path, "Paris")
    desk.thumbnail(rom).unlink()
    (fault,) = maintenance.verify(desk, repair=True)
    assert (fault.where, fault.fate) == (str(path), "kept")
    assert "another content" in fault.what
    assert not desk.thumbnail(rom).exists()


def sources(archive):
    return sorted(point.entry.source for batch in archive.engine.scan(rows=False, batch=100) for point in batch)


def counted(archive):
    return archive_commands.run(archive, echo, "stats", {}, lambda *_: None).data["left_out"]


@pytest.mark.parametrize("part", ["empty", "gone, a mount", "with rubbish, a mount"])
def test_a_disk_that_is_away_below_a_root_takes_no_photos_with_it(desk, tmp_path, monkeypatch, part):
    """An empty folder is what a disk leaves behind; what was a mount point may hold anything, or be gone."""
    below = tmp_path / "photos/nas/2026"
    below.mkdir(parents=True)
    for word in WORDS[:2]:
        (tmp_path / "photos" / f"{word}.png").rename(below / f"{word}.png")
    mount = tmp_path / "photos/nas"
    with monkeypatch.context() as mounted:
        if "mount" in part:
            mounted.setattr(os.path, "ismount", lambda path: os.fspath(path) == str(mount))
        do(desk, "add", folders=[str(tmp_path / "photos")])
    shutil.rmtree(mount)
    if part != "gone, a mount":
        mount.mkdir()
        (mount / ".DS_Store").touch()
    if part == "with rubbish, a mount":
        (mount / "note.txt").touch()
    done = do(desk, "add", folders=[str(tmp_path / "photos")])
    assert [(fault.code, fault.where) for fault in done.faults if fault.fate == "kept"] == [("folder-gone", str(mount))]
    (tmp_path / "photos" / f"{WORDS[3]}.png").unlink()
    done = do(desk, "remove", missing=True)
    assert done.message == "1 photos and 1 files removed"
    assert [(fault.code, fault.where) for fault in done.faults] == [("folder-gone", str(mount))]
    assert do(desk, "remove", missing=True, force=True).message == "2 photos and 2 files removed"


def test_photos_of_a_folder_that_was_deleted_are_removed(desk, tmp_path):
    """What was no mount point and is not there, or is not empty, was deleted by somebody."""
    (tmp_path / "photos/old").mkdir()
    for word in WORDS[:2]:
        (tmp_path / "photos" / f"{word}.png").rename(tmp_path / "photos/old" / f"{word}.png")
    do(desk, "add", folders=[str(tmp_path / "photos")])
    shutil.rmtree(tmp_path / "photos/old")
    assert do(desk, "remove", missing=True).message == "2 photos and 2 files removed"


def test_a_mount_point_that_became_a_folder_is_forgotten_as_one(desk, tmp_path, monkeypatch):
    with monkeypatch.context() as mounted:
        mounted.setattr(os.path, "ismount", lambda path: os.fspath(path) == str(tmp_path / "photos"))
        do(desk, "add", folders=[str(tmp_path / "photos")])
    do(desk, "add", folders=[str(tmp_path / "photos")])
    (tmp_path / "photos" / f"{WORDS[0]}.png").unlink()
    assert do(desk, "remove", missing=True).message == "1 photos and 1 files removed"


def test_update_reads_what_verify_found_changed(desk, tmp_path):
    path = tmp_path / "photos" / f"{WORDS[0]}.png"
    before, about = photo_of(path), path.stat()
    with path.open("ab") as stream:
        stream.write(b"more")
    data = path.read_bytes()[: about.st_size - 3] + b"abc"  # as long as before, and as old
    path.write_bytes(data)
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))
    # left out by now: the advice has to be true all the same
    (tmp_path / "photos/.photodeskignore").write_text(path.name)
    assert [fault.code for fault in do(desk, "verify", content=True).faults] == ["file-changed"]
    do(desk, "update")
    assert do(desk, "verify", content=True).faults == []
    assert desk.database.named(str(path)) == [photo_of(path)] != [before]


def test_what_systems_keep_for_themselves_is_left_out_and_counted(desk, tmp_path):
    for name in (
        "@eaDir/Rom.png/THUMB.jpg",
        "$RECYCLE.BIN/S-1/x.jpg",
        "Previews.lrdata/x.jpg",
        "._Rom.jpg",
        "Thumbs.db",
    ):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos" / name).write_bytes((tmp_path / "photos/Rom.png").read_bytes()[:99])
    (tmp_path / "photos/film.mov").touch()
    done = do(desk, "add", folders=[str(tmp_path / "photos")])
    assert len(sources(desk)) == 4
    left = {"$recycle.bin": 1, "*.lrdata": 1, "._*": 1, "@eadir": 1, "thumbs.db": 1, ".mov": 1}
    assert counted(desk) == left
    assert {fault.code for fault in done.faults} == {"file-excluded", "file-foreign"}
    assert not any(fault.advice for fault in done.faults)  # nothing to do for anybody
    assert len(do(desk, "faults").faults) == len(left)
    shutil.rmtree(tmp_path / "photos/@eaDir")
    do(desk, "add", folders=[str(tmp_path / "photos")])
    assert "@eadir" not in counted(desk)


def test_patterns_are_remembered_for_their_root_and_can_be_forgotten(desk, tmp_path):
    paint(tmp_path / "photos/small/Bonn.png", "Bonn")
    paint(tmp_path / "photos/small/sub/Kiel.png", "Kiel")
    photos = [str(tmp_path / "photos")]
    do(desk, "add", folders=photos, exclude=["small/"])
    assert len(sources(desk)) == 4
    for below in (photos, [str(tmp_path / "photos/small/sub")], [str(tmp_path / "photos/small")]):  # as a watch asks
        do(desk, "add", folders=below)
        assert len(sources(desk)) == 4
    do(desk, "update")
    assert len(sources(desk)) == 4
    assert counted(desk) == {"small/": 1}
    do(desk, "add", folders=photos, exclude=[""])
    assert len(sources(desk)) == 6
    done = do(desk, "add", folders=photos, exclude=["small/", "!Kiel.png"])
    assert [(fault.code, fault.where) for fault in done.faults if fault.fate == "kept"] == [
        ("photo-excluded", str(tmp_path / "photos/small")),
        ("photo-excluded", str(tmp_path / "photos/small/sub")),
    ]
    with pytest.raises(UsageError, match="is no pattern"):
        do(desk, "add", folders=photos, exclude=["!"])
    assert desk.database.excludes(photos[0]) == ("small/", "!Kiel.png")


def test_the_command_line_takes_patterns(desk, tmp_path):
    desk.close()
    paint(tmp_path / "photos/Bonn_small.png", "Bonn")
    words = ["archive", "add", str(tmp_path / "desk"), str(tmp_path / "photos"), "--exclude", "*_small.*"]
    done = CliRunner().invoke(commands, words)
    assert done.exit_code == 0
    assert "left out by the pattern *_small.*" in done.output
    shown = CliRunner().invoke(commands, ["archive", "stats", str(tmp_path / "desk")]).output
    assert "left out    *_small.* 1" in shown


def test_pictures_whose_library_is_not_installed_are_counted_by_kind(desk, tmp_path, monkeypatch):
    (tmp_path / "photos/a.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(40))
    (tmp_path / "photos/b.nef").write_bytes(b"II*\0")
    (tmp_path / "photos/c.jpg").write_bytes(b"\0\0\0\x18ftypheic" + bytes(40))
    with monkeypatch.context() as bare:
        bare.setattr(formats, "available", lambda name: name not in formats.SUFFIXES)
        done = do(desk, "add", folders=[str(tmp_path / "photos")])
        assert counted(desk) == {".heic": 1, ".nef": 1}
        said = do(desk, "faults").faults
        assert [fault.code for fault in said] == ["photo-format"] * 3
        assert {fault.advice for fault in said} == {'run: pip install "photodesk[formats]"'}
        assert len(done.faults) == 3
    done = do(desk, "add", folders=[str(tmp_path / "photos")])  # installed by now: what was named is tried again
    assert counted(desk) == {}
    installed = {name for name in formats.SUFFIXES if formats.available(name)}
    if {"HEIF", "RAW"} <= installed:
        assert {fault.code for fault in done.faults} <= {"photo-damaged", "photo-truncated", "photo-foreign"}


def test_a_raw_and_the_jpeg_next_to_it_are_one_photo(desk, tmp_path):
    pytest.importorskip("rawpy")
    photos = tmp_path / "photos"
    scenery = scene(800, 600)
    (photos / "IMG_1.dng").write_bytes(dng(np.asarray(scenery)))
    do(desk, "add", folders=[str(photos)])
    assert len(sources(desk)) == 5  # a RAW by itself is a photo
    do(desk, "use", photos=[str(photos / "IMG_1.dng")], day="2026-11-21")
    scenery.save(photos / "img_1.JPG", quality=95)
    for _ in range(2):
        do(desk, "add", folders=[str(photos)])
        assert sources(desk) == ["Elbe.png", "Köln.png", "Rom.png", "Wien.png", "img_1.JPG"]
        (point,) = desk.engine.get(desk.database.named(str(photos / "img_1.JPG")))
        assert point.entry.original == "IMG_1.dng"
        assert desk.database.ask("SELECT photo, day FROM uses") == [(point.photo, "2026-11-21")]
        do(desk, "update", metadata=True)
    (photos / "IMG_2.dng").write_bytes(dng(np.asarray(scene(804, 600))))
    (photos / "IMG_2.JPG").write_bytes(b"")  # the card was full: the RAW is left
    for _ in range(2):
        done = do(desk, "add", folders=[str(photos)])
        assert "IMG_2.dng" in sources(desk)
        assert [fault.code for fault in done.faults] == ["photo-empty"]


def test_an_archive_of_before_gets_the_new_tables(tmp_path):
    path = tmp_path / "archive.sqlite"
    with closing(sqlite3.connect(path)) as old:
        for step in MIGRATIONS[:4]:
            old.executescript(step)
        old.execute("PRAGMA user_version=4")
    database = Database.open(path)
    assert (database.left_out(), database.mounts(), database.excludes("/a")) == ({}, frozenset(), ())
    database.close()
