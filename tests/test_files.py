"""Only regular files are read: a pipe, socket or device by the name of any file of the user's is named, and nothing
waits for it."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path

import pytest
from click.testing import CliRunner

from doubles import desk, echo, paint
from photodesk import images
from photodesk.archive import commands as archive_commands
from photodesk.archive import folders
from photodesk.archive.archive import Archive
from photodesk.cli import commands
from photodesk.data import tables
from photodesk.encoders import onnx, registry, txv
from photodesk.errors import DataError, EncoderError, PhotodeskError, PhotoError, RunError, StoreError, UsageError
from photodesk.evaluation import run_files, submissions
from photodesk.features import shards
from photodesk.files import open_regular, read_text
from photodesk.ranking.dual_softmax import Offsets
from photodesk.recipes import schema
from photodesk.search.confidence import Confidence
from photodesk.search.flat_index import FlatIndex

SAID = "it is not a file but a pipe, socket or device"


def within(work, *pipes):
    """What `work()` gives. Where it waits for a pipe, the test fails, and the pipe ends so that no thread stays."""
    done: list[object] = []

    def attempt():
        try:
            done.append(work())
        except BaseException as error:
            done.append(error)

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(60)
    if thread.is_alive():
        for pipe in pipes:
            os.close(os.open(pipe, os.O_RDWR | os.O_NONBLOCK))
        thread.join(10)
        pytest.fail("it waits for a pipe")
    if isinstance(done[0], BaseException):
        raise done[0]
    return done[0]


def pipe(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    os.mkfifo(path)
    return path


@pytest.fixture
def odd(tmp_path):
    """A folder of everything that is no file, under names of pictures."""
    folder = tmp_path / "odd"
    pipe(folder / "pipe.jpg")
    (folder / "zero.jpg").symlink_to("/dev/zero")
    (folder / "dead.jpg").symlink_to("nowhere")
    (folder / "link.jpg").symlink_to("pipe.jpg")
    with socket.socket(socket.AF_UNIX) as bound:
        here = Path.cwd()
        os.chdir(folder)  # names of sockets are short
        bound.bind("socket.jpg")
        os.chdir(here)
    paint(folder / "Rom.png", "Rom")
    return folder


def test_what_is_no_file_is_refused_on_the_open_descriptor(odd):
    for name in ("pipe.jpg", "zero.jpg", "link.jpg", "socket.jpg"):
        with pytest.raises(OSError, match=SAID):
            within(lambda name=name: open_regular(odd / name), odd / "pipe.jpg")
        with pytest.raises(PhotoError, match=rf"{name} cannot be read: {SAID}"):
            within(lambda name=name: images.load(odd / name), odd / "pipe.jpg")
    with pytest.raises(IsADirectoryError):
        open_regular(odd)
    with pytest.raises(FileNotFoundError):
        open_regular(odd / "dead.jpg")
    with open_regular(odd / "Rom.png") as stream:
        assert stream.read() == (odd / "Rom.png").read_bytes()
    (odd / "text").write_bytes("Käse\r\nBrot".encode())
    assert read_text(odd / "text") == (odd / "text").read_text("utf-8") == "Käse\nBrot"


def test_no_descriptor_is_left_open(odd):
    before = len(os.listdir("/dev/fd"))
    for name in ("pipe.jpg", "zero.jpg", "socket.jpg", ".") * 5:
        with pytest.raises(OSError, match=r"pipe|directory"):
            open_regular(odd / name)
    assert len(os.listdir("/dev/fd")) == before


@pytest.fixture
def archive(odd, tmp_path, monkeypatch):
    monkeypatch.setattr("photodesk.encoders.registry.load", lambda name="echo": echo())
    monkeypatch.setenv("PHOTODESK_CACHE", str(tmp_path / "cache"))
    with Archive.create(tmp_path / "desk", echo(), engine="flat:index") as made:
        yield made


def added(archive, *folders):
    options = {"folders": [str(folder) for folder in folders]}
    return archive_commands.run(archive, echo, "add", options, lambda *_: None)


def test_add_names_them_and_takes_the_rest(archive, odd):
    done = within(lambda: added(archive, odd), odd / "pipe.jpg")
    assert {fault.code for fault in done.faults} == {"photo-unreadable"}
    assert {Path(fault.where).name: fault.what for fault in done.faults} == {
        **{f"{name}.jpg": f"cannot be read: {SAID}" for name in ("pipe", "zero", "link", "socket")},
        "dead.jpg": "cannot be read: No such file or directory",
    }
    assert archive.engine.count() == 1
    again = within(lambda: added(archive, odd), odd / "pipe.jpg")
    assert len(again.faults) == 5


def test_a_pipe_that_comes_while_a_folder_is_watched_is_named(archive, odd, tmp_path):
    watched, stop, seen = tmp_path / "watched", threading.Event(), []
    watched.mkdir()

    def watch():
        for below in folders.changes([watched], stop=stop):
            seen.extend(added(archive, *below).faults)
            if seen:
                stop.set()
            elif not (watched / "new.jpg").exists():
                pipe(watched / "new.jpg")

    within(watch, odd / "pipe.jpg")
    assert [(Path(fault.where).name, fault.what) for fault in seen] == [("new.jpg", f"cannot be read: {SAID}")]


def test_a_sidecar_that_is_a_pipe_costs_no_picture(archive, tmp_path):
    paint(tmp_path / "with/Ulm.png", "Ulm")
    sidecar = pipe(tmp_path / "with/Ulm.xmp")
    within(lambda: added(archive, tmp_path / "with"), sidecar)
    assert archive.engine.count() == 1


def test_a_known_photo_whose_file_became_a_pipe_is_shown_by_its_thumbnail(archive, odd):
    added(archive, odd / "Rom.png")
    (photo,) = archive.database.photos()
    assert archive.picture(photo, lambda found: found.path) == odd / "Rom.png"
    (odd / "Rom.png").unlink()
    pipe(odd / "Rom.png")
    assert within(lambda: archive.picture(photo, lambda found: found.path), odd / "Rom.png") == archive.thumbnail(photo)


def test_index_names_them(archive, odd, tmp_path):
    words = ["index", str(odd), "-o", str(tmp_path / "index")]
    result = within(lambda: CliRunner().invoke(commands, words), odd / "pipe.jpg")
    assert result.exit_code == 1
    assert "5 × picture cannot be read (left out)" in result.stderr
    assert FlatIndex.open(tmp_path / "index").embeddings.ids == ("Rom.png",)


def test_rank_and_check_name_them(archive, odd, tmp_path):
    data = tmp_path / "data"
    desk(data, ["Rom", "Ulm"])
    known = pipe(next(folder for folder in (data / "newsimages", data) if folder.is_dir()) / "new.jpg")
    rank, check = ["rank", str(data), "--out", str(tmp_path / "run.tsv")], ["check", str(data)]
    for words, said in ((rank, "is a dead link, pipe, socket or device"), (check, "picture cannot be read")):
        result = within(lambda words=words: CliRunner().invoke(commands, words), known)
        assert result.exit_code == 1, result.output
        assert said in " ".join(result.output.split())
        assert "new.jpg" in result.output
    assert len(run_files.read(tmp_path / "run.tsv").hits) == 2


@pytest.mark.parametrize("suffix", tables.SUFFIXES)
def test_a_table_that_is_a_pipe_is_named(tmp_path, suffix):
    for library in {".parquet": ["pyarrow"], ".bson": ["bson"]}.get(suffix, []):
        pytest.importorskip(library)
    path = pipe(tmp_path / f"news{suffix}")
    with pytest.raises(DataError, match=SAID):
        within(lambda: tables.read(path), path)


@pytest.mark.parametrize(
    ("name", "read", "error"),
    [
        ("run.tsv", run_files.read, RunError),
        ("run.trec", run_files.read, RunError),
        ("sent.zip", lambda path: submissions.check([path], [], edition="2026"), RunError),
        ("recipe.toml", schema.read, UsageError),
        ("confidence.json", Confidence.load, StoreError),
        ("numbers.npz", Offsets.load, StoreError),
        ("net.safetensors", txv.load, EncoderError),
        ("net.safetensors", lambda path: registry.load(str(path)), PhotodeskError),
        ("export/photodesk.json", lambda path: onnx.read_card(path.parent), EncoderError),
        ("index/index.json", lambda path: FlatIndex.open(path.parent), StoreError),
        ("tower/manifest.json", lambda path: shards.read_manifest(path.parent), StoreError),
    ],
)
def test_no_reader_waits_for_a_pipe(tmp_path, name, read, error):
    path = pipe(tmp_path / name)
    with pytest.raises(error):
        within(lambda: read(path), path)


def test_search_like_a_pipe_is_refused(archive, odd, tmp_path):
    added(archive, odd / "Rom.png")
    archive.close()
    words = ["search", str(tmp_path / "desk"), "--like", str(odd / "pipe.jpg")]
    result = within(lambda: CliRunner().invoke(commands, words), odd / "pipe.jpg")
    assert isinstance(result.exception, PhotoError)
    assert SAID in str(result.exception)
