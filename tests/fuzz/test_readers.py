"""Whatever a table, run file, model, index or recipe holds, its reader names it."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import shutil
import sqlite3
import struct
from importlib import resources

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fuzz.harness import DEEP, Shown, altered, contained, damaged, fuzzed
from photodesk.archive import lock
from photodesk.data import editions, tables
from photodesk.encoders import onnx, txv
from photodesk.encoders.spec import Spec
from photodesk.engines import exact
from photodesk.engines.base import Space
from photodesk.engines.schema import Entry
from photodesk.errors import ArchiveInUse, EncoderError, StoreError, UsageError
from photodesk.evaluation import run_files
from photodesk.features import shards
from photodesk.files import digest
from photodesk.ranking.dual_softmax import Offsets
from photodesk.ranking.revisions import parse
from photodesk.recipes import schema
from photodesk.search.confidence import Background, Confidence, Reliability
from photodesk.search.flat_index import FlatIndex
from photodesk.types import Embeddings, Fault

TABLES = {
    ".csv": 'id,title,photo\n1,"Die ""Elbe""",a.jpg\n2,"Köln\nund Bonn",b.jpg\n'.encode(),
    ".tsv": "id\ttitle\tphoto\r\n1\tElbe\ta.jpg\r\n2\tKöln\tb.jpg\r\n".encode("cp1252"),
    ".txt": "id\ttitle\n1\tElbe\n".encode("utf-16"),
    ".json": b'[{"id": 1, "headline": {"main": "Elbe"}, "multimedia": [{"url": "a"}]},\n {"id": 2.0, "title": "x"}]',
    ".jsonl": b'{"id": 1, "title": "Elbe", "n": {"$oid": "x"}}\n{"id": 2, "title": null}\n',
}


@fuzzed
@given(data=st.data(), suffix=st.sampled_from(sorted(TABLES)))
def test_tables(tmp_path, suffix, data):
    whole = data.draw(st.just(TABLES[suffix]).flatmap(damaged) | st.binary(max_size=200))
    path = tmp_path / f"a{suffix}"
    path.write_bytes(whole)
    with contained():
        found = tables.read(path, unfold=editions.unfold)
        assert all(isinstance(fault, Fault) for fault in found.faults)
        assert all(len(row.cells) == len(found.header) for row in found.rows)


@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
@pytest.mark.parametrize("deep", DEEP)
def test_deep_tables(tmp_path, suffix, deep):
    (tmp_path / f"a{suffix}").write_bytes(deep)
    with contained():
        tables.read(tmp_path / f"a{suffix}")


@pytest.mark.parametrize("suffix", [".parquet", ".bson"])
@fuzzed
@given(data=st.data())
def test_packed_tables(tmp_path, suffix, data):
    if suffix == ".bson":
        bson = pytest.importorskip("bson")
        whole = b"".join(bson.encode({"_id": i, "headline": {"main": "Elbe"}, "n": [1, 2.5, None]}) for i in range(3))
    else:
        arrow, writer = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        stream = io.BytesIO()
        writer.write_table(arrow.table({"id": [1, 2], "title": ["a", None], "n": [{"x": 1}, None]}), stream)
        whole = stream.getvalue()
    path = tmp_path / f"a{suffix}"
    path.write_bytes(data.draw(damaged(whole)))
    with contained():
        tables.read(path)


RUNS = {
    "a.tsv": b'article_id\tphoto\n1\tx\ty\n2\t"z"\tx\n',
    "a.trec": b"1 Q0 x 1 0.9 ours\n1 Q0 y 2 0.5 ours\n2 Q0 x 1 1e-3 ours\n",
    "a.csv": b"1,x,0.9\n1,y,0.1\n",
}


@fuzzed
@given(data=st.data(), name=st.sampled_from(sorted(RUNS)))
def test_run_files(tmp_path, name, data):
    (tmp_path / name).write_bytes(data.draw(st.just(RUNS[name]).flatmap(damaged) | st.binary(max_size=100)))
    for decimal_comma in (False, True):
        with contained():
            run_files.read(tmp_path / name, decimal_comma=decimal_comma)


# --- what photodesk wrote itself


def written(document):
    """The JSON of an altered document, its bytes damaged, or JSON nested too deeply."""
    return (
        altered(document).map(json.dumps).map(str.encode).map(Shown)
        | st.just(json.dumps(document).encode()).flatmap(damaged)
        | st.sampled_from(DEEP)
    )


@fuzzed
@given(data=st.data())
def test_confidence(tmp_path, data):
    path = tmp_path / "confidence.json"
    background = Background(np.ones(4, np.float32), np.ones((4, 2), np.float32), 0.1)
    told = Reliability((0.1,), (0.2,), (3,), 0.1, ((0.1, 0.2, 0.3),), 0.5, 9)
    Confidence("f", background, -1.0, 2.0, told, {"pairs": "3"}).save(path)
    path.write_bytes(data.draw(written(json.loads(path.read_bytes()))))
    with contained():
        Confidence.load(path)


MANIFEST = {
    "format": shards.FORMAT,
    "tower": "echo",
    "dim": 3,
    "dtype": "float32",
    "next": 2,
    "shards": [{"name": "000001", "rows": 2, "sha256": {"rows": "0", "log": "0", "index": "0"}}],
}


@fuzzed
@given(written(MANIFEST), st.binary(max_size=64), st.binary(max_size=64), st.binary(max_size=64))
def test_the_store(tmp_path, manifest, log, index, rows):
    (tmp_path / "manifest.json").write_bytes(manifest)
    for name in ("000001", "000002"):
        for suffix, data in (("log", log), ("index", index), ("rows", rows)):
            (tmp_path / f"{name}.{suffix}").write_bytes(data)
    with contained():
        found = shards.Shards.open(tmp_path, "echo", 3)
        assert found.find(shards.joined([b"k" * 16])).tolist() == [-1]


CARD = {
    "format": onnx.FORMAT,
    "source": "x",
    "dim": 4,
    "text": {"context": 5, "padding_side": "right", "pad_id": 0, "pad_token": "", "bytes": False, "clean": "x"},
    "pixels": {"size": 8},
    "files": dict.fromkeys(("texts.onnx", "photos.onnx", "tokenizer.json"), hashlib.sha256().hexdigest()),
}


@fuzzed
@given(whole=written(CARD))
def test_the_card_of_an_export(tmp_path, whole, monkeypatch):
    pytest.importorskip("tokenizers")
    monkeypatch.setenv("PHOTODESK_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "export"
    folder.mkdir(exist_ok=True)
    (folder / "photodesk.json").write_bytes(whole)
    for name in CARD["files"]:
        (folder / name).touch()
    with contained():
        onnx.load(Spec("onnx", str(folder)))


@fuzzed
@given(data=st.data())
def test_a_flat_index(tmp_path, data):
    made, folder = tmp_path / "made", tmp_path / "index"
    if not made.exists():
        FlatIndex.create(made, Embeddings(("a", "b"), np.eye(2, 3, dtype=np.float32), "e"), ["x", "y"], encoder="e")
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(made, folder)
    path = folder / data.draw(st.sampled_from(sorted(path.name for path in folder.iterdir())))
    whole = path.read_bytes()
    if path.suffix == ".npy":
        path.write_bytes(data.draw(damaged(whole)))
    elif path.suffix == ".json":
        path.write_bytes(data.draw(written(json.loads(whole))))
    else:
        first, *rest = whole.splitlines(keepends=True)
        path.write_bytes(data.draw(written(json.loads(first))) + b"\n" + b"".join(rest))
    with contained():
        FlatIndex.open(folder)


@fuzzed
@given(data=st.data())
def test_numbers(tmp_path, data):
    path = tmp_path / "numbers.npz"
    ones = np.ones(2, np.float32)
    about = parse("nnn(k=1)")
    Offsets(about, ("a", "b"), ones, "e", ("1",), np.ones((1, 8), np.float32), ones.astype(bool), ones).save(path)
    path.write_bytes(data.draw(damaged(path.read_bytes())))
    with contained():
        Offsets.load(path)


@fuzzed
@given(data=st.data())
def test_a_network(tmp_path, data):
    path = tmp_path / "net.safetensors"
    blocks = {"photo.0": (3, 2), "text.0.0": (4, 2), "pair.0.0": (2, 2)}
    weights = {f"{name}.w": np.ones(shape, np.float32) for name, shape in blocks.items()}
    weights |= {f"{name}.b": np.ones(shape[1], np.float32) for name, shape in blocks.items()}
    txv.save(txv.Network("t", "p", (4,), (3,), weights, {"seed": 1}), path)
    whole = path.read_bytes()
    size = struct.unpack("<Q", whole[:8])[0]
    header = json.loads(whole[8 : 8 + size])
    if data.draw(st.booleans()):
        told = header["__metadata__"]
        key = data.draw(st.sampled_from(sorted(told)))
        told[key] = data.draw(
            st.sampled_from(
                [*(deep.decode() for deep in DEEP), "", "x", "NaN", "Infinity", "-1", "0", "1e400", "[]", "{}", "[[]]"]
            )
        )
        made = json.dumps(header).encode()
        made = struct.pack("<Q", len(made)) + made + whole[8 + size :]
    else:
        made = data.draw(damaged(whole[: 8 + size])) + whole[8 + size :]
    path.write_bytes(made)
    with contained():
        txv.load(path)


RECIPE = (resources.files("photodesk.recipes") / "tables/2021-run1.toml").read_bytes()


@fuzzed
@given(st.just(RECIPE).flatmap(damaged) | st.binary(max_size=60))
@example("name = 'Köln'".encode("latin-1"))
@example(b"a = " + b"[" * 100_000)
@example(b"a" + b".a" * 100_000 + b" = 1")
@example(b"a" + b".a" * 5_000 + b" = 1")
@example(b"claim = 1\nencoders = [1]\n")
def test_recipes(tmp_path, whole):
    path = tmp_path / "recipe.toml"
    path.write_bytes(whole)
    with contained():
        schema.read(path)


PAYLOAD = Entry(width=3, height=2, headline="Elbe", keywords=("a", "b"), taken="2024-01-01T00:00:00").payload()


@fuzzed
@given(written(PAYLOAD), st.sampled_from([0, 1, -1, 2**31, 2**62, 2.5, "x", None]), st.sampled_from([0.5, None, "x"]))
def test_points_of_the_exact_scan(tmp_path, payload, slot, number):
    folder = tmp_path / "engine"
    if not folder.exists():
        exact.ScanEngine.open(folder, Space(3), create=True).close()
    with contextlib.closing(sqlite3.connect(folder / "points.sqlite")) as db, db:
        db.execute("PRAGMA synchronous=OFF")
        text = payload.decode("utf-8", "surrogateescape").encode("utf-8", "replace").decode()
        db.execute(
            "INSERT OR REPLACE INTO points (photo, slot, number, payload) VALUES (?, ?, ?, ?)",
            (digest(b"").hex(), slot, number, text),
        )
    with contained():
        exact.ScanEngine.open(folder, Space(3)).close()


@fuzzed
@given(written({"pid": 1, "doing": "serve", "url": "http://h", "key": "k"}))
def test_who_holds_an_archive(tmp_path, whole):
    handle = lock.hold(tmp_path, "serve")
    try:
        (tmp_path / "lock").write_bytes(whole)
        with contained():
            lock.hold(tmp_path, "add")
    finally:
        os.close(handle)


# --- what was found, each in a line of its own


@pytest.mark.parametrize("deep", DEEP)
def test_deep_json_is_named_by_every_reader(tmp_path, deep):
    for name in ("confidence.json", "manifest.json", "photodesk.json", "index.json"):
        (tmp_path / name).write_bytes(deep)
    for read, error in (
        (lambda: Confidence.load(tmp_path / "confidence.json"), StoreError),
        (lambda: shards.read_manifest(tmp_path), StoreError),
        (lambda: onnx.read_card(tmp_path), EncoderError),
        (lambda: FlatIndex.open(tmp_path), StoreError),
    ):
        with pytest.raises(error, match="damaged"):
            read()


@pytest.mark.parametrize(
    "change",
    [{"dtype": "x"}, {"dtype": "float64"}, {"dim": 0}, {"dim": "3"}, {"next": -1}, {"next": None}, {"tower": 3}],
)
def test_a_manifest_of_odd_values_is_refused(tmp_path, change):
    (tmp_path / "manifest.json").write_text(json.dumps(MANIFEST | change))
    with pytest.raises(StoreError):
        shards.Shards.open(tmp_path, "echo", 3)


@pytest.mark.parametrize("name", ["../000001", "/etc/passwd", "", 3])
def test_a_manifest_names_no_files_elsewhere(tmp_path, name):
    listed = MANIFEST["shards"][0] | {"name": name}
    (tmp_path / "manifest.json").write_text(json.dumps(MANIFEST | {"shards": [listed]}))
    with pytest.raises(StoreError, match="damaged"):
        shards.read_manifest(tmp_path)


@pytest.mark.parametrize("change", [{"files": []}, {"pixels": 3}, {"dim": "x"}, {"dim": float("inf")}, {"text": None}])
def test_the_card_of_an_export_of_odd_values_is_refused(tmp_path, change, monkeypatch):
    pytest.importorskip("tokenizers")
    monkeypatch.setenv("PHOTODESK_CACHE", str(tmp_path / "cache"))
    (tmp_path / "photodesk.json").write_text(json.dumps(CARD | change))
    for name in CARD["files"]:
        (tmp_path / name).touch()
    with pytest.raises(EncoderError, match="damaged"):
        onnx.load(Spec("onnx", str(tmp_path)))


@pytest.mark.parametrize("members", ["Infinity", "NaN", "1e9", "0", "-1", "[", "[1]"])
def test_a_network_has_no_more_members_than_weights(tmp_path, members):
    from safetensors.numpy import save_file

    path = tmp_path / "net.safetensors"
    about = {"format": txv.FORMAT, "text_dims": "[1]", "visual_dims": "[1]", "text_tower": "t", "photo_tower": "p"}
    save_file({"w": np.ones(1, np.float32)}, path, about | {"card": "{}", "members": members})
    with pytest.raises(EncoderError, match="does not say what it was trained on"):
        txv.load(path)


@pytest.mark.parametrize(
    ("slot", "payload"), [(2**62, "{}"), (0, "{}"), (0, "["), (-1, "{}"), (2.5, "{}"), (0, '{"taken": 3}')]
)
def test_a_point_that_its_files_do_not_hold_is_refused(tmp_path, slot, payload):
    exact.ScanEngine.open(tmp_path / "e", Space(3), create=True).close()
    with contextlib.closing(sqlite3.connect(tmp_path / "e/points.sqlite")) as db, db:
        db.execute(
            "INSERT INTO points (photo, slot, number, payload) VALUES (?, ?, 0, ?)", (digest(b"").hex(), slot, payload)
        )
    with pytest.raises(StoreError):
        exact.ScanEngine.open(tmp_path / "e", Space(3))


@pytest.mark.parametrize("pid", ["x", None, 1.5, [], float("inf")])
def test_a_holder_of_odd_values_is_said_to_be_unknown(tmp_path, pid):
    handle = lock.hold(tmp_path, "serve")
    (tmp_path / "lock").write_text(json.dumps({"pid": pid}))
    with pytest.raises(ArchiveInUse, match="process unknown"):
        lock.hold(tmp_path, "add")
    os.close(handle)


def test_a_recipe_is_small(tmp_path):
    (tmp_path / "a.toml").write_text("#" * (schema.LONGEST + 1))
    with pytest.raises(UsageError, match="has more than 32 KiB"):
        schema.read(tmp_path / "a.toml")
