"""An archive from the outside: what add, remove, update, verify, backup and move leave behind, on both engines that
live here."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from archive.test_metadata import FULL, iptc, jpeg
from doubles import colour, constant, echo, paint
from photodesk.archive import commands as archive_commands
from photodesk.archive import ingest, maintenance, migration
from photodesk.archive.archive import Archive
from photodesk.archive.database import MIGRATIONS, Database
from photodesk.archive.usage import Pick, UsageLog
from photodesk.cli import commands
from photodesk.engines.schema import Filter
from photodesk.errors import ArchiveInUse, StoreError, UsageError
from photodesk.features.embed import embed_photos
from photodesk.features.store import Store
from photodesk.files import digest
from photodesk.ranking import dual_softmax
from photodesk.ranking.revisions import parse
from photodesk.types import Article, Embeddings, Fault, Photo
from photodesk.web import client
from photodesk.web.jobs import Worker

pytest.importorskip("qdrant_edge")
TEMPLATES: dict[str, Path] = {}
WORDS = ["Elbe", "Wien", "Köln", "Rom", "Basel", "Ulm"]


@pytest.fixture(params=["flat:index", "edge:shard"])
def desk(request, tmp_path):
    """An empty archive, and a folder with six pictures in two parts."""
    for i, word in enumerate(WORDS):
        paint(tmp_path / "photos" / "ab"[i % 2] / f"{word}.png", word)
    archive = empty(tmp_path / "desk", request.param)
    yield archive
    archive.close()


def empty(folder, engine):
    """A new archive; making a shard syncs every index, so one is made and copied."""
    if engine not in TEMPLATES:
        TEMPLATES[engine] = Path(tempfile.mkdtemp()) / "desk"
        atexit.register(shutil.rmtree, TEMPLATES[engine].parent)
        Archive.create(TEMPLATES[engine], echo(), engine=engine).close()
    shutil.copytree(TEMPLATES[engine], folder)
    return Archive.open(folder, doing="archive init")


@pytest.fixture
def flat(tmp_path):
    for word in WORDS:
        paint(tmp_path / "photos" / f"{word}.png", word)
    with Archive.create(tmp_path / "desk", echo(), engine="flat:index") as archive:
        yield archive


def photo_of(path):
    return digest(Path(path).read_bytes()).hex()


def add(archive, *folders, **more):
    return ingest.add(archive, echo(), list(folders), **more)


def best(archive, word):
    return archive.engine.search(echo().texts.encode([word])[0], 1)[0].photo


def test_every_picture_is_found_by_its_word_and_drawn(desk, tmp_path):
    done = add(desk, tmp_path / "photos")
    assert str(done) == "6 photos added"
    for i, word in enumerate(WORDS):
        path = tmp_path / "photos" / "ab"[i % 2] / f"{word}.png"
        assert best(desk, word) == photo_of(path)
        (point,) = desk.engine.get([photo_of(path)])
        assert point.entry.source == f"{'ab'[i % 2]}/{word}.png"
        assert (point.entry.width, point.entry.height, point.entry.group) == (40, 30, photo_of(path))
        with Image.open(desk.thumbnail(photo_of(path))) as small:
            assert small.size == (40, 30)
            assert np.abs(np.asarray(small.convert("RGB")).mean((0, 1)) - colour(word)).max() < 3
    assert maintenance.verify(desk, content=True) == []


class Reversing:
    """A network that turns a row around, and notes how many rows each call brings."""

    fingerprint, dim = "reversing", 3

    def __init__(self):
        self.calls = []

    def photos(self, features):
        self.calls.append(len(features))
        return features[:, ::-1].copy()


@pytest.mark.parametrize("engine", ["flat:index", "edge:shard"])
def test_photos_pass_the_network_as_many_as_are_stored_together_and_have_the_rows_of_an_index(
    tmp_path, engine, monkeypatch
):
    monkeypatch.setattr(ingest, "TOGETHER", 10)
    words = [f"word {i}" for i in range(33)]
    for word in words:
        paint(tmp_path / "photos" / f"{word}.png", word)
    encoder = replace(echo(), network=Reversing())
    assert encoder.photos.batch == 2
    with Archive.create(tmp_path / "desk", encoder, engine=engine) as archive:
        assert ingest.add(archive, encoder, [tmp_path / "photos"]).added == 33
        rows = {point.photo: point.row for points in archive.engine.scan() for point in points}
    *full, last = encoder.network.calls
    assert sum(full) + last == 33
    assert min(full) >= 10
    files = [tmp_path / "photos" / f"{word}.png" for word in words]
    wanted, _ = embed_photos([Photo(photo_of(file), file) for file in files], encoder, Store(tmp_path / "store"))
    assert np.allclose([rows[photo] for photo in wanted.ids], wanted.rows, atol=1e-6)


def test_threads_that_read_take_one_core_each(flat, tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr("photodesk.features.pipeline.cores", lambda: 2)
    monkeypatch.setattr("photodesk.features.pipeline.one_core", lambda: told.append(threading.current_thread()))
    add(flat, tmp_path / "photos")
    assert told
    assert threading.main_thread() not in told


def test_what_is_known_is_not_read_again_and_all_changes_are_named(desk, tmp_path, monkeypatch):
    photos = tmp_path / "photos"
    add(desk, photos)
    with monkeypatch.context() as no:
        no.setattr("photodesk.images.content", lambda path: pytest.fail(f"read {path}"))
        assert str(add(desk, photos)) == "0 photos added, 6 files known"
    elbe, wien, koeln, rom = (photo_of(photos / "ab"[i % 2] / f"{WORDS[i]}.png") for i in range(4))
    (photos / "a/Elbe.png").rename(photos / "b/new name.png")  # moved
    shutil.copy(photos / "b/Wien.png", photos / "a/twice.png")  # again
    paint(photos / "a/Köln.png", "Bonn")  # replaced
    (photos / "b/Rom.png").unlink()  # missing
    (photos / "a/film.mov").write_bytes(b"1")
    (photos / "a/broken.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    (photos / "a/link").symlink_to(photos / "b")
    done = add(desk, photos)
    assert (
        str(done)
        == "1 photos added, 3 files known, 1 more files of known photos, 1 moved, 1 replaced, 1 missing, 3 left out"
    )
    assert {Path(f.where).name for f in done.faults} == {"broken.jpg", "photos", "link", "Rom.png"}
    assert desk.engine.count() == 6
    assert {f.path for f in desk.database.files(elbe)} == {str(photos / "b/new name.png")}
    assert len(list(desk.database.files(wien))) == 2
    assert desk.engine.get([koeln]) == []
    assert not desk.thumbnail(koeln).exists()
    assert best(desk, "Bonn") == photo_of(photos / "a/Köln.png")
    assert [f.what for f in maintenance.verify(desk)] == ["the file is gone; its photo stays in the archive"]
    again = add(desk, photos)  # the broken file is named again although it is not read again
    assert {Path(f.where).name for f in again.faults} == {"broken.jpg", "photos", "link", "Rom.png"}
    assert (
        archive_commands.run(desk, echo, "remove", {"missing": True}, lambda *_: None).message
        == "1 photos and 1 files removed"
    )
    assert desk.engine.get([rom]) == []
    assert maintenance.verify(desk) == []


def test_two_files_that_swap_their_contents_lose_neither(desk, tmp_path):
    photos = tmp_path / "photos"
    add(desk, photos)
    one, two = photos / "a/Elbe.png", photos / "b/Wien.png"
    contents = one.read_bytes(), two.read_bytes()
    one.write_bytes(contents[1])
    two.write_bytes(contents[0])
    add(desk, photos)
    assert desk.engine.count() == 6
    assert {best(desk, "Elbe"), best(desk, "Wien")} == {digest(c).hex() for c in contents}
    assert maintenance.verify(desk, content=True) == []


def test_what_a_picture_says_of_itself_can_be_asked_for(desk, tmp_path):
    (tmp_path / "press").mkdir()
    (tmp_path / "press/1.jpg").write_bytes(jpeg(iptc(FULL)))
    add(desk, tmp_path / "press")
    (hit,) = desk.engine.lexical("zweite Zeile", 5)
    for where in (
        Filter(credit=("dpa",)),
        Filter(phrase="zwei zeilen"),
        Filter(since="2024-02-29", until="2024-02-29"),
    ):
        assert [p.photo for batch in desk.engine.scan(where=where) for p in batch] == [hit.photo]
    (tmp_path / "press/1.xmp").write_text(
        '<r:RDF xmlns:r="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><r:Description'
        ' xmlns:p="http://ns.adobe.com/photoshop/1.0/" p:Headline="Vom Lektorat"/></r:RDF>'
    )
    archive_commands.run(desk, echo, "update", {"metadata": True}, lambda *_: None)
    (point,) = desk.engine.get([hit.photo])
    assert (point.entry.headline, point.entry.credit, point.entry.source) == ("Vom Lektorat", "dpa", "1.jpg")


def test_near_duplicates_share_a_group(flat, tmp_path):
    spots = np.random.default_rng(0).integers(0, 255, (9, 12, 3), np.uint8)
    Image.fromarray(spots).resize((400, 300), Image.Resampling.BICUBIC).save(tmp_path / "photos/big.png")
    add(flat, tmp_path / "photos")
    with Image.open(tmp_path / "photos/big.png") as image:
        image.resize((300, 225)).save(tmp_path / "photos/later.jpg", quality=80)
    add(flat, tmp_path / "photos")
    points = flat.engine.get([photo_of(tmp_path / "photos" / name) for name in ("big.png", "later.jpg", "Rom.png")])
    assert points[0].entry.group == points[1].entry.group != points[2].entry.group
    assert maintenance.stats(flat).groups == 7


def test_uses_and_picks_go_over_to_a_retouched_file(flat, tmp_path):
    add(flat, tmp_path / "photos")
    old = photo_of(tmp_path / "photos/Elbe.png")
    flat.usage.use([old], "2026-03-01", "a1")
    article = Article("a1", "Hochwasser", lead="An der Elbe")
    flat.usage.pick(Pick(article, old, 2, 0.5, "2026-02-01T08:00:00Z"))
    paint(tmp_path / "photos/Elbe.png", "Dresden")
    add(flat, tmp_path / "photos")
    new = photo_of(tmp_path / "photos/Elbe.png")
    assert flat.usage.used("2026-02-01") == {new: "2026-03-01"}
    assert flat.usage.used("2026-03-02") == {}
    (pick,) = flat.usage.picks()
    assert (pick.photo, pick.article, pick.rank) == (new, article, 2)
    assert pick.at.startswith("20")


def test_a_pick_that_is_taken_back_stays_in_the_database_and_counts_no_more(tmp_path):
    database = Database.open(tmp_path / "archive.sqlite", create=True)
    book = UsageLog(database)
    one, other = Article("a1", "Hochwasser"), Article("a2", "Brand")
    for article, photo in ((one, "p1"), (one, "p1"), (one, "p2"), (other, "p1")):
        book.pick(Pick(article, photo, 2, 0.5, "2026-03-01T00:00:00Z"))
    assert (book.picked("a1"), book.picked("a2"), book.picked("a3")) == ({"p1", "p2"}, {"p1"}, set())
    at = book.withdraw("a1", "p1")
    assert at > "2026-03-01T00:00:00Z"
    assert [(pick.article.id, pick.photo) for pick in book.picks()] == [("a1", "p2"), ("a2", "p1")]
    assert (book.picked("a1"), database.count("picks")) == ({"p2"}, 2)
    assert database.ask("SELECT withdrawn, photo FROM picks ORDER BY pick") == [
        (at, "p1"),
        (at, "p1"),
        ("", "p2"),
        ("", "p1"),
    ]
    assert book.withdraw("a1", "p1") == "", "it is taken back already"
    book.pick(Pick(one, "p1", 1, 0.5))
    assert book.picked("a1") == {"p1", "p2"}, "and may be picked again"
    plan = database.ask(
        "EXPLAIN QUERY PLAN SELECT photo FROM picks WHERE withdrawn = '' AND json_extract(article, '$.id') = ?", ("a1",)
    )
    assert "picks_standing" in str(plan), "a search looks its picks up, it does not read all"
    database.close()


def test_the_photos_of_a_group_are_looked_up(tmp_path):
    with closing(Database.open(tmp_path / "archive.sqlite", create=True)) as database:
        groups = {"a": "a", "b": "a", "c": "c", "d": "gone", "e": "gone", "f": "gone", "g": "a"}
        database.announce([(photo, 0, group) for photo, group in groups.items()], [])
        database.confirm(set(groups) - {"g"})
        assert database.groups(["a", "c", "gone", "nothing"]) == {"a": ["b", "a"], "gone": ["d", "e", "f"]}
        plan = []
        database._db.set_trace_callback(plan.append)
        database.groups(["a"])
        database._db.set_trace_callback(None)
        steps = [str(step[-1]) for step in database.ask(f"EXPLAIN QUERY PLAN {plan[-1]}")]
        assert not [step for step in steps if step.startswith("SCAN photos")], steps


def test_a_database_of_the_first_schema_is_brought_up_to_date_with_its_picks(tmp_path):
    with closing(sqlite3.connect(tmp_path / "archive.sqlite")) as db:
        db.executescript(f"{MIGRATIONS[0]};PRAGMA user_version=1")
        row = ("2026-03-01T00:00:00Z", json.dumps({"id": "a1", "title": "Hochwasser"}), "p1", 3, 0.5)
        db.execute("INSERT INTO picks (at, article, photo, rank, score) VALUES (?, ?, ?, ?, ?)", row)
        db.execute("INSERT INTO faults VALUES ('a.jpg', 'is cut short', 'get it again', 9, 7, '2026-03-01')")
        db.commit()
    for _ in range(2):  # the second time there is nothing to do
        database = Database.open(tmp_path / "archive.sqlite")
        assert UsageLog(database).picks() == [Pick(Article("a1", "Hochwasser"), "p1", 3, 0.5, "2026-03-01T00:00:00Z")]
        assert database.ask("PRAGMA user_version") == [(len(MIGRATIONS),)]
        # no file has this mtime, so the next `add` looks at it again, and it gets a code
        old = Fault("unknown", "a.jpg", "is cut short", "left out", "get it again")
        assert database.faults() == {"a.jpg": (old, 9, -1)}
        database.close()


def test_faults_are_kept_with_their_codes(tmp_path):
    ledger = Database.open(tmp_path / "archive.sqlite", create=True)
    fault = Fault("photo-truncated", "a.jpg", "is cut short", "left out", "get it again")
    ledger.fault([(fault, 9, 7)])
    assert ledger.faults() == {"a.jpg": (fault, 9, 7)}
    ledger.close()


def test_only_what_disk_and_others_do_is_a_store_error(tmp_path):
    """The code of SQLite tells, in whatever words: what it refuses of our own stays what it is."""
    ledger = Database.open(tmp_path / "archive.sqlite", create=True)
    with pytest.raises(sqlite3.OperationalError):
        ledger.ask("SELECT 'the disk is full, locked and read-only' FROM nowhere")
    with pytest.raises(sqlite3.IntegrityError), ledger.change() as db:
        db.execute("INSERT INTO settings (name, value) VALUES ('full', NULL)")
    with pytest.raises(sqlite3.ProgrammingError):
        ledger.ask("SELECT ?", ())
    ledger._db.execute("PRAGMA busy_timeout = 0")
    with closing(sqlite3.connect(tmp_path / "archive.sqlite", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="in use by another process"):
            ledger.set({"a": "b"})
        other.execute("ROLLBACK")
    pages = ledger.ask("PRAGMA page_count")[0][0]
    ledger._db.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StoreError, match="no room left"):
        ledger.set({"a": "b" * 100_000})
    ledger._db.execute("PRAGMA query_only = 1")
    with pytest.raises(StoreError, match="read-only"):
        ledger.set({"a": "b"})
    ledger.close()
    with pytest.raises(sqlite3.ProgrammingError):
        ledger.ask("SELECT 1")
    with pytest.raises(StoreError, match="cannot use"):
        Database.open(tmp_path / "no folder" / "archive.sqlite", create=True)


@pytest.mark.parametrize(
    ("engine", "revision"),
    [
        ("edge:shard", "dual_softmax(temperature=1)"),
        ("flat:index", "dual_softmax(temperature=1)"),
        ("flat:index", "nnn(k=2, alpha=0.75)"),
        ("flat:index", "inverted_softmax(beta=20)"),
    ],
)
def test_the_bank_revises_one_article_as_a_batch_with_that_bank(tmp_path, engine, revision):
    for word in WORDS:
        paint(tmp_path / "photos" / f"{word}.png", word)
    texts = echo().texts.encode(["Feuer", "Wasser", "Elbe", "Markt"])
    with Archive.create(tmp_path / "desk", echo(), engine=engine, revision=parse(revision)) as archive:
        add(archive, tmp_path / "photos")
        assert not archive.revised()
        archive.usage.add_to_bank(["1", "2", "3", "4"], texts)
        assert archive.refresh() == 6
        assert archive.refresh() == 0
        assert archive.revised()
        paint(tmp_path / "photos/later.png", "later")  # gets its number as it comes
        add(archive, tmp_path / "photos")
        assert archive.refresh() == 0
        points = [p for batch in archive.engine.scan() for p in batch]
        photos = Embeddings(tuple(p.photo for p in points), np.stack([p.row for p in points]), echo().fingerprint)
        bank = Embeddings(("1", "2", "3", "4"), texts, echo().fingerprint)
        asked = Embeddings(("q",), echo().texts.encode(["Hochwasser"]), echo().fingerprint)
        wanted = dual_softmax.top_k(asked, photos, parse(revision), 7, bank=bank)["q"]
        found = archive.engine.search(asked.rows[0], 7, revised=1)
        assert [hit.photo for hit in found] == [hit.photo for hit in wanted]
        assert [hit.score for hit in found] == pytest.approx([hit.score for hit in wanted], abs=1e-6)


def test_damage_is_named_and_put_right(desk, tmp_path):
    add(desk, tmp_path / "photos")
    a, b, c, d = (photo_of(next((tmp_path / "photos").rglob(f"{word}.png"))) for word in WORDS[:4])
    desk.thumbnail(a).unlink()
    desk.engine.delete([b])
    desk.database.forget([c])
    with desk.database.change() as db:
        db.execute("DELETE FROM files WHERE photo = ?", (d,))
    found = maintenance.verify(desk)
    assert {f.what.split(";")[0] for f in found} == {
        "the thumbnail is missing",
        "the engine has lost this photo",
        "the database does not know this point",
        "no file stands behind this photo",
    }
    assert all("--repair" in f.advice for f in found)
    assert len(maintenance.verify(desk, repair=True)) == 4
    assert maintenance.verify(desk) == []
    assert add(desk, tmp_path / "photos").added == 3
    assert desk.engine.count() == 6
    (tmp_path / "photos/a/Elbe.png").write_bytes(b"something else")
    assert [f.what for f in maintenance.verify(desk, content=True)] == ["its content changed"]


def test_a_backup_is_an_archive_and_stays_as_it_was(desk, tmp_path):
    add(desk, tmp_path / "photos")
    maintenance.backup(desk, tmp_path / "copy")
    archive_commands.run(desk, echo, "remove", {"paths": [str(tmp_path / "photos/a")]}, lambda *_: None)
    with Archive.open(tmp_path / "copy") as copy:
        assert (desk.engine.count(), copy.engine.count()) == (3, 6)
        assert maintenance.verify(copy, content=True) == []
    with pytest.raises(StoreError, match="exists"):
        maintenance.backup(desk, tmp_path / "copy")


@pytest.mark.parametrize(("first", "then"), [("edge:shard", "flat:flat"), ("flat:flat", "edge:shard")])
def test_a_move_brings_every_point_and_goes_on_where_it_stopped(tmp_path, first, then, monkeypatch):
    for word in WORDS:
        paint(tmp_path / "photos" / f"{word}.png", word)
    with Archive.create(tmp_path / "desk", echo(), engine=first) as archive:
        add(archive, tmp_path / "photos")
        archive.usage.add_to_bank(["1"], echo().texts.encode(["Feuer"]))
        archive.refresh()
        before = {p.photo: p for batch in archive.engine.scan() for p in batch}
        with monkeypatch.context() as cut:
            cut.setattr(migration, "_same", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                migration.move(archive, then)
        assert archive.settings.engine == first
        assert migration.move(archive, then) == 6
    with Archive.open(tmp_path / "desk") as archive:
        assert archive.settings.engine == then
        after = {p.photo: p for batch in archive.engine.scan() for p in batch}
        assert after.keys() == before.keys()
        assert all(after[p].entry == before[p].entry and np.array_equal(after[p].row, before[p].row) for p in before)
        assert all(after[p].offset == before[p].offset != 0 for p in before)
        assert maintenance.verify(archive) == []
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken/file").write_text("mine")
    with Archive.open(tmp_path / "desk") as archive, pytest.raises(StoreError, match="not empty"):
        migration.move(archive, f"flat:{tmp_path / 'taken'}")


def test_who_holds_an_archive_is_said_and_a_server_is_asked_instead(flat, tmp_path):
    asks = (
        "from photodesk.archive.archive import Archive; from pathlib import Path; "
        f"Archive.open(Path({str(flat.folder)!r}))"
    )
    other = subprocess.run([sys.executable, "-c", asks], capture_output=True, text=True)
    assert f"is held by process {os.getpid()} (photodesk archive init); wait until it is done" in other.stderr
    assert (flat.folder / "lock").stat().st_mode & 0o077 == 0
    add(flat, tmp_path / "photos")
    worker = Worker(flat, echo())
    with _server(worker) as url:
        flat.serves(url, "secret")
        result = CliRunner().invoke(commands, ["archive", "verify", str(flat.folder)])
        assert result.exit_code == 0, result.output
        assert f"process {os.getpid()} holds {flat.folder} and does this at {url}" in result.stderr
        assert "6 photos, all well" in result.stderr
        found = json.loads(CliRunner().invoke(commands, ["archive", "stats", str(flat.folder), "--json"]).stdout)
        assert (found["photos"], found["jobs"][0]["command"]) == (6, "verify")
        with pytest.raises(ArchiveInUse) as held:
            Archive.open(flat.folder)
        assert (held.value.pid, held.value.url, held.value.key) == (os.getpid(), url, "secret")
        with pytest.raises(StoreError, match="exists"):
            client.run(held.value, "backup", {"target": str(tmp_path)}, lambda *_: None)
        held.value.key = "wrong"
        with pytest.raises(StoreError, match="401"):
            client.run(held.value, "verify", {}, lambda *_: None)
        held.value.url = ""
        with pytest.raises(ArchiveInUse):
            client.run(held.value, "verify", {}, lambda *_: None)
    worker.close()


class _server:  # noqa: N801
    """The two routes that a server which holds an archive has for jobs."""

    def __init__(self, worker):
        import http.server

        class Handler(http.server.BaseHTTPRequestHandler):
            def answer(self, value):
                allowed = self.headers["Authorization"] == "Bearer secret"
                self.send_response(200 if allowed else 401)
                self.end_headers()
                self.wfile.write(json.dumps(value() if allowed else {"detail": "show the key"}).encode())

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                assert self.path == "/api/archive/jobs"
                self.answer(lambda: worker.start(body["command"], body["options"]))

            def do_GET(self):
                self.answer(lambda: worker.state(int(self.path.rpartition("/")[2])))

            def log_message(self, *_):
                pass

        self.server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever)

    def __enter__(self):
        self.thread.start()
        return f"http://127.0.0.1:{self.server.server_port}"

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


def test_wrong_calls_and_foreign_folders_are_refused(tmp_path, flat):
    with pytest.raises(StoreError, match="not empty"):
        Archive.create(tmp_path / "photos", echo(), engine="flat:index")
    with pytest.raises(StoreError, match="photodesk archive init"):
        Archive.open(tmp_path / "photos")
    with pytest.raises(UsageError, match="klingon"):
        Archive.create(tmp_path / "other", echo(), engine="flat:index", language="klingon")
    with pytest.raises(UsageError, match="no engine 'milvus:x'"):
        Archive.create(tmp_path / "other", echo(), engine="milvus:x")
    assert not (tmp_path / "other").exists()
    with pytest.raises(UsageError, match="not one number per photo"):
        Archive.create(tmp_path / "other", echo(), engine="flat:index", revision=parse("sinkhorn"))
    with pytest.raises(StoreError, match=r"echo-photos.*constant"):
        ingest.add(flat, constant(), [tmp_path / "photos"])
    with pytest.raises(UsageError, match="no folder and no file"):
        add(flat, tmp_path / "nowhere")
    with pytest.raises(UsageError, match="no command 'burn'"):
        archive_commands.run(flat, echo, "burn", {}, lambda *_: None)
    with pytest.raises(UsageError, match="colour"):
        archive_commands.run(flat, echo, "verify", {"colour": 1}, lambda *_: None)


def test_a_database_of_tomorrow_or_of_somebody_else_is_refused(tmp_path):
    Database.open(tmp_path / "archive.sqlite", create=True).close()

    with sqlite3.connect(tmp_path / "archive.sqlite") as db:
        db.execute(f"PRAGMA user_version={len(MIGRATIONS) + 1}")
    db.close()
    with pytest.raises(StoreError, match="newer photodesk"):
        Database.open(tmp_path / "archive.sqlite")
    with sqlite3.connect(tmp_path / "other.sqlite") as db:
        db.execute("CREATE TABLE thesis (page)")
    db.close()
    with pytest.raises(StoreError, match="no archive of photodesk"):
        Database.open(tmp_path / "other.sqlite")
    (tmp_path / "broken.sqlite").write_bytes(b"SQLite format 3\0" + b"x" * 4096)
    with pytest.raises(StoreError, match="damaged"):
        Database.open(tmp_path / "broken.sqlite")


FULL_DISK = """
import resource, signal, sys
sys.path[:0] = {path!r}
from pathlib import Path
from doubles import echo
from photodesk.archive import ingest
from photodesk.archive.archive import Archive
from photodesk.errors import StoreError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
archive = Archive.open(Path({desk!r}))
resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size}))
try:
    ingest.add(archive, echo(), [Path({photos!r})])
except StoreError as error:
    print(error)
    sys.exit(7)
"""


@pytest.mark.parametrize("size", [1, 700, 20_000])
def test_a_file_that_may_not_grow_is_said_and_costs_nothing_that_was_there(flat, tmp_path, size):
    add(flat, tmp_path / "photos/Elbe.png")
    flat.close()
    code = FULL_DISK.format(path=sys.path, desk=str(flat.folder), photos=str(tmp_path / "photos"), size=size)
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 7, run.stderr
    assert "what was reported as done is kept" in run.stdout
    with Archive.open(flat.folder) as again:
        assert maintenance.verify(again, content=True) == []
        assert best(again, "Elbe") == photo_of(tmp_path / "photos/Elbe.png")
        add(again, tmp_path / "photos")
        assert again.engine.count() == 6
        assert maintenance.verify(again) == []


def test_a_disk_that_is_nearly_full_is_not_filled_up(desk, tmp_path, monkeypatch):
    add(desk, tmp_path / "photos/a")
    with monkeypatch.context() as full:
        full.setattr("photodesk.archive.archive.RESERVE", 2**60)
        with pytest.raises(StoreError, match="MB are left on the disk"):
            add(desk, tmp_path / "photos")
    assert maintenance.verify(desk) == []
    assert add(desk, tmp_path / "photos").added == 3


def mount(*words):
    if subprocess.run(["mount", *words], capture_output=True).returncode:
        pytest.skip("may not mount here")


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("mount"), reason="needs to mount")
def test_a_full_disk_is_said_and_leaves_an_archive(tmp_path, monkeypatch):
    """A real one, filled while files are added; without the reserve, so that it does run full."""
    for word in WORDS:
        paint(tmp_path / "photos" / f"{word}.png", word)
    disk = tmp_path / "disk"
    disk.mkdir()
    mount("-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk))
    monkeypatch.setattr("photodesk.archive.archive.RESERVE", 0)
    try:
        empty(disk / "desk", "flat:index").close()
        with Archive.open(disk / "desk") as archive:
            add(archive, tmp_path / "photos/Elbe.png")
            free = shutil.disk_usage(disk).free
            with (disk / "ballast").open("wb") as ballast:
                ballast.write(b"1" * (free - 8192))
            with pytest.raises(StoreError, match="what was reported as done is kept"):
                add(archive, tmp_path / "photos")
        with (disk / "ballast").open("ab", 0) as ballast, contextlib.suppress(OSError):
            while True:  # to the last byte
                ballast.write(b"1" * 512)
        with Archive.open(disk / "desk") as archive:
            assert best(archive, "Elbe") == photo_of(tmp_path / "photos/Elbe.png")
            assert maintenance.stats(archive).photos >= 1
        (disk / "ballast").unlink()
        with Archive.open(disk / "desk") as archive:
            assert maintenance.verify(archive, content=True) == []
            assert best(archive, "Elbe") == photo_of(tmp_path / "photos/Elbe.png")
            assert add(archive, tmp_path / "photos").added == 5
    finally:
        subprocess.run(["umount", disk], check=True)


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("mount"), reason="needs to mount")
def test_read_only_media_are_searched_and_nothing_is_acknowledged(desk, tmp_path):
    add(desk, tmp_path / "photos")
    desk.close()
    mount("--bind", desk.folder, desk.folder)
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", desk.folder], check=True)
        with Archive.open(desk.folder) as archive:
            assert best(archive, "Elbe") == photo_of(next((tmp_path / "photos").rglob("Elbe.png")))
            assert maintenance.verify(archive) == []
            assert maintenance.stats(archive).photos == len(WORDS)
            with pytest.raises(StoreError, match=r"(?i)read-only"):
                archive.usage.use(archive.database.photos()[:1])
            with pytest.raises(ArchiveInUse):
                Archive.open(desk.folder)
    finally:
        subprocess.run(["umount", desk.folder], check=True)
    with Archive.open(desk.folder) as again:
        assert maintenance.verify(again) == []


def test_the_command_line_keeps_an_archive(tmp_path, monkeypatch):
    monkeypatch.setattr("photodesk.encoders.registry.load", lambda name="builtin": echo())
    monkeypatch.setenv("PHOTODESK_CACHE", str(tmp_path / "cache"))
    for word in WORDS:
        paint(tmp_path / "photos" / f"{word}.png", word)
    desk = str(tmp_path / "desk")

    def call(*words, code=0):
        result = CliRunner().invoke(commands, ["archive", *map(str, words)])
        assert result.exit_code == code, result.output
        return result

    call("init", desk, "--engine", "flat:index")
    call("add", desk, tmp_path / "photos")
    (tmp_path / "photos/bad.jpg").write_bytes(b"GIF89a")
    assert "bad.jpg" in call("add", desk, tmp_path / "photos", code=1).stderr
    (tmp_path / "articles.csv").write_text("id,headline\n1,Feuer\n2,Wasser\n", "utf-8")
    assert (
        "2 articles in the bank; 6 photos revised"
        in call("update", desk, "--bank", tmp_path / "articles.csv", code=1).stderr
    )
    shown = call("stats", desk).stdout
    assert "photos      6\n" in shown
    assert "revised     yes\n" in shown
    call("backup", desk, tmp_path / "copy", "--no-thumbnails")
    assert call("verify", tmp_path / "copy", code=1).stderr.count("thumbnail is missing") == 1
    call("verify", tmp_path / "copy", "--repair")
    call("verify", tmp_path / "copy", "--content")
    call("move", desk, "flat:other")
    call("remove", desk, "--photo", photo_of(tmp_path / "photos/Elbe.png"))
    assert isinstance(CliRunner().invoke(commands, ["archive", "remove", desk]).exception, UsageError)
    call("remove", desk, tmp_path / "photos")
    assert "photos      0\n" in call("stats", desk).stdout
