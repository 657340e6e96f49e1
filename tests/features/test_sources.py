from __future__ import annotations

import gzip
import io
import os
import pickle
import tarfile
import tracemalloc

import numpy as np
import pytest

from doubles import EchoPhotos, EchoTexts, echo, paint
from photodesk.errors import DataError, MissingExtra, PhotoError
from photodesk.features import pipeline, sources
from photodesk.features.store import Store
from photodesk.search.flat_index import build_index
from photodesk.types import Fault

WORDS = ["sea", "wood", "sun", "moon", "rain"]


@pytest.fixture
def folder(tmp_path):
    for word in WORDS:
        paint(tmp_path / "photos" / f"{word}.png", word)
    return tmp_path / "photos"


@pytest.fixture
def contents(folder):
    return {path.stem: path.read_bytes() for path in folder.glob("*.png")}


def pack(path, files):
    with tarfile.open(path, "w") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def parquet(path, groups=2, **columns):
    arrow, writer = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    table = arrow.table(columns)
    writer.write_table(table, path, row_group_size=-(-len(table) // groups))
    return path


def words_of(source):
    """Id → the word whose colour the picture has, by encoding what the units give after travelling."""
    units, _ = sources.find(source)
    pictures = (picture for unit in pickle.loads(pickle.dumps(units)) for picture in unit.pictures())
    found = {}
    truth = EchoTexts().encode(WORDS)
    for batch in pipeline.encode(pictures, EchoPhotos(), lambda keys: [False] * len(keys)):
        for (photo, _), key in zip(batch.names, batch.keys, strict=True):
            found[photo] = key if isinstance(key, Fault) else WORDS[int(np.argmax(truth @ batch.rows[key]))]
    return found


def test_a_folder_gives_paths_below_it(folder):
    assert words_of(folder) == {f"{word}.png": word for word in WORDS}
    assert sources.count(sources.find(folder)[0]) == 5


def test_units_are_small_and_in_order(folder, monkeypatch):
    monkeypatch.setattr(sources, "PER_UNIT", 2)
    units, _ = sources.find(folder)
    assert [[photo for photo, _ in unit.files] for unit in units] == [
        ["moon.png", "rain.png"],
        ["sea.png", "sun.png"],
        ["wood.png"],
    ]


def test_a_list_of_paths_and_urls(folder, tmp_path):
    pytest.importorskip("fsspec")
    listing = tmp_path / "list.txt"
    listing.write_text(
        f"# ours\nphotos/sea.png\n\n{folder / 'sun.png'}\nfile://{folder / 'moon.png'}\nphotos/none.png\n", "utf-8"
    )
    found = words_of(listing)
    assert [v if isinstance(v, str) else v.what for v in found.values()] == [
        "sea",
        "sun",
        "moon",
        "cannot be read: No such file or directory",
    ]


def test_a_list_in_another_encoding_is_named_with_its_line(tmp_path):
    (tmp_path / "list.txt").write_bytes("sea.png\nwood.png\nküste.png\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"list\.txt line 3 is not UTF-8"):
        sources.find(tmp_path / "list.txt")


def test_tars_hold_what_webdataset_writes(contents, tmp_path):
    pack(
        tmp_path / "part-0.tar", {f"{w}.png": contents[w] for w in WORDS[:3]} | {"sea.json": b"{}", "sea.txt": b"words"}
    )
    pack(tmp_path / "part-1.tar", {f"more/{w}.png": contents[w] for w in WORDS[3:]})
    wanted = {f"part-0/{w}.png": w for w in WORDS[:3]} | {f"part-1/more/{w}.png": w for w in WORDS[3:]}
    assert words_of(tmp_path / "part-*.tar") == wanted
    assert words_of(tmp_path / "part-1.tar") == {f"part-1/more/{w}.png": w for w in WORDS[3:]}


def test_a_tar_cut_short_gives_what_is_whole_and_is_named(contents, tmp_path):
    path = pack(tmp_path / "a.tar", {f"{w}.png": contents[w] for w in WORDS})
    path.write_bytes(path.read_bytes()[: 2 * 1024 + 700])
    found = words_of(path)
    assert found["a/sea.png"] == "sea"
    assert found[""].where == str(path)
    assert "damaged" in found[""].what


def test_parquet_with_bytes_and_with_the_structure_of_datasets(contents, tmp_path):
    plain = parquet(tmp_path / "a.parquet", image_id=list(range(5)), caption=WORDS, jpg=[contents[w] for w in WORDS])
    assert len(sources.find(plain)[0]) == 2
    assert words_of(plain) == {f"{i}": word for i, word in enumerate(WORDS)}
    nested = parquet(tmp_path / "b.parquet", image=[{"bytes": contents[w], "path": None} for w in WORDS[:4]] + [None])
    found = words_of(nested)
    assert {k: v for k, v in found.items() if isinstance(v, str)} == {f"b/{i}": WORDS[i] for i in range(4)}
    assert found["b/4"].what == "is empty"


def test_parquet_without_pictures_says_which_columns_there_are(tmp_path):
    (fault,) = words_of(parquet(tmp_path / "a.parquet", groups=1, id=[1, 2], title=["a", "b"])).values()
    assert "no column with the bytes of pictures among id, title" in fault.what
    (tmp_path / "b.parquet").write_bytes(b"PAR1 and then nothing")
    with pytest.raises(DataError, match=r"b\.parquet is not a Parquet file"):
        sources.find(tmp_path / "b.parquet")


class ClientPayloadError(Exception):
    """As the libraries behind fsspec raise them: of no class that they share."""


@pytest.mark.parametrize(
    "error", [ClientPayloadError("Response payload is not completed"), NotImplementedError("codec"), KeyError("x")]
)
def test_whatever_a_file_system_raises_costs_one_unit(contents, tmp_path, monkeypatch, error):
    for name in ("a", "b", "c"):
        pack(tmp_path / f"{name}.tar", {f"{w}.png": contents[w] for w in WORDS})
    whole = sources._opened

    def opened(place):
        if place.endswith("b.tar"):
            raise error
        return whole(place)

    monkeypatch.setattr(sources, "_opened", opened)
    index, faults = build_index(tmp_path / "*.tar", tmp_path / "index", echo(), store=Store(tmp_path / "cache"))
    assert list(index.embeddings.ids) == sorted(f"{name}/{w}.png" for name in "ac" for w in WORDS)
    assert [fault.where for fault in faults] == [str(tmp_path / "b.tar")]
    assert str(error) in faults[0].what


def test_a_library_that_is_missing_stops_the_work(contents, tmp_path, monkeypatch):
    pack(tmp_path / "a.tar", {"sea.png": contents["sea"]})

    def opened(place):
        raise MissingExtra("this needs fsspec")

    monkeypatch.setattr(sources, "_opened", opened)
    with pytest.raises(MissingExtra, match="fsspec"):
        build_index(tmp_path / "a.tar", tmp_path / "index", echo(), store=Store(tmp_path / "cache"))


def test_one_damaged_parquet_file_among_others_is_one_fault(contents, tmp_path):
    folder = tmp_path / "many"
    folder.mkdir()
    for name, word in (("a", "sea"), ("c", "sun")):
        parquet(folder / f"{name}.parquet", groups=1, image=[contents[word]])
    (folder / "b.parquet").write_bytes(b"PAR1 and then nothing")
    index, faults = build_index(folder, tmp_path / "index", echo(), store=Store(tmp_path / "cache"))
    assert index.embeddings.ids == ("a/0", "c/0")
    assert [(fault.where, fault.what.split(":")[0], fault.advice) for fault in faults] == [
        (str(folder / "b.parquet"), "is not a Parquet file or is damaged", "get it again")
    ]


def test_a_parquet_file_that_is_damaged_after_it_was_found_is_one_fault(contents, tmp_path):
    path = parquet(tmp_path / "a.parquet", groups=1, image=[contents["sea"]])
    (unit,) = sources.find(path)[0]
    path.write_bytes(b"PAR1 and then nothing")
    (batch,) = pipeline.encode(unit.pictures(), EchoPhotos(), lambda keys: [False] * len(keys))
    assert [(fault.where, fault.what.split(":")[0]) for fault in batch.keys] == [
        (str(path), "is not a Parquet file or is damaged")
    ]


def test_lists_of_pictures_in_a_row_are_no_pictures(contents, tmp_path):
    """A column of lists is not taken for the pictures; a structure that holds a list says so row by row."""
    both = [contents["sea"], contents["sun"]]
    found = words_of(
        parquet(tmp_path / "a.parquet", groups=1, image=[both, both], thumb=[contents["moon"], contents["rain"]])
    )
    assert found == {"a/0": "moon", "a/1": "rain"}
    (fault,) = words_of(parquet(tmp_path / "b.parquet", groups=1, image=[both])).values()
    assert "no column with the bytes of pictures among image" in fault.what
    (fault,) = words_of(parquet(tmp_path / "c.parquet", groups=1, image=[{"bytes": both}])).values()
    assert "holds a list and not the bytes of one picture" in fault.what


def test_tars_beside_pictures_are_named(folder, contents, tmp_path):
    fsspec = pytest.importorskip("fsspec")
    tar = pack(folder / "more.tar", contents)
    units, faults = sources.find(folder)
    assert sources.count(units) == 5
    assert [(fault.where, fault.fate) for fault in faults] == [(str(folder), "left out")]
    assert f"1 files of kinds that are read by themselves only (.tar, .parquet): {tar}" in faults[0].what
    memory = fsspec.filesystem("memory")
    try:
        memory.put(str(folder) + "/", "/mixed", recursive=True)
        units, faults = sources.find("memory://mixed")
        assert sources.count(units) == 5
        assert [fault.where for fault in faults] == ["memory://mixed"]
    finally:
        memory.rm("/mixed", recursive=True)


def test_urls_are_listed_and_read(contents, tmp_path):
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    try:
        for word in WORDS:
            memory.pipe(f"/bucket/photos/{word}.png", contents[word])
        memory.pipe("/bucket/tars/one.tar", pack(tmp_path / "one.tar", {"sea.png": contents["sea"]}).read_bytes())
        assert words_of("memory://bucket/photos") == {f"{word}.png": word for word in WORDS}
        assert words_of("memory://bucket/photos/s*.png") == {
            f"memory:///bucket/photos/{w}.png": w for w in ("sea", "sun")
        }
        assert words_of("memory://bucket/tars") == {"one/sea.png": "sea"}
        with pytest.raises(PhotoError, match=r"memory://bucket/none\.png cannot be read"):
            sources.read("memory://bucket/none.png")
        with pytest.raises(DataError, match="memory://nowhere is not there"):
            sources.find("memory://nowhere")
        index, faults = build_index(
            "memory://bucket/photos", tmp_path / "index", echo(), store=Store(tmp_path / "cache")
        )
        assert faults == ()
        assert index.paths["sea.png"] == "memory:///bucket/photos/sea.png"
    finally:
        memory.rm("/bucket", recursive=True)


def test_a_bucket_of_an_s3_compatible_server(contents, tmp_path, monkeypatch):
    pytest.importorskip("s3fs", reason="s3fs is not installed; pip install 'photodesk[s3]'")
    server = pytest.importorskip(
        "moto.server", reason="moto is not installed; pip install 'moto[server]'"
    ).ThreadedMotoServer(port=0)
    for name, value in (
        ("AWS_ACCESS_KEY_ID", "a"),
        ("AWS_SECRET_ACCESS_KEY", "b"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
    ):
        monkeypatch.setenv(name, value)
    server.start()
    try:
        host, port = server.get_host_and_port()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        import s3fs

        bucket = s3fs.S3FileSystem()
        bucket.mkdir("desk")
        for word in WORDS:
            bucket.pipe(f"desk/photos/{word}.png", contents[word])
        bucket.put(str(pack(tmp_path / "one.tar", {"sun.png": contents["sun"]})), "desk/tars/one.tar")
        assert words_of("s3://desk/photos") == {f"{word}.png": word for word in WORDS}
        assert words_of("s3://desk/tars/*.tar") == {"one/sun.png": "sun"}
        with pytest.raises(PhotoError, match=r"s3://desk/none\.png cannot be read"):
            sources.read("s3://desk/none.png")
    finally:
        server.stop()


def test_what_holds_nothing_is_named(tmp_path):
    with pytest.raises(DataError, match="is not there"):
        sources.find(tmp_path / "none")
    (tmp_path / "notes.md").write_text("nothing")
    with pytest.raises(DataError, match="holds no picture"):
        sources.find(tmp_path)


def test_an_index_is_the_same_from_every_source(folder, contents, tmp_path):
    tar = pack(tmp_path / "all.tar", {f"{w}.png": contents[w] for w in WORDS} | {"sub/sea.png": b"broken"})
    encoder, store = echo(), Store(tmp_path / "cache")
    first, _ = build_index(folder, tmp_path / "a.index", encoder, store=store)
    second, faults = build_index(tar, tmp_path / "b.index", encoder, store=store)
    assert encoder.photos.seen == len(WORDS)  # contents are known, whatever holds them
    assert [f"all/{photo}" for photo in first.embeddings.ids] == list(second.embeddings.ids)
    assert np.array_equal(first.embeddings.rows, second.embeddings.rows)
    assert [fault.where for fault in faults] == [f"{tar}#sub/sea.png"]


def test_two_pictures_with_one_id_are_named(contents, tmp_path):
    parquet(tmp_path / "a.parquet", id=["x", "x", "y"], image=[contents[w] for w in WORDS[:3]])
    index, faults = build_index(tmp_path / "a.parquet", tmp_path / "index", echo(), store=Store(tmp_path / "cache"))
    assert index.embeddings.ids == ("x", "y")
    assert [fault.what for fault in faults] == [f"has the id of another picture: x, of {tmp_path / 'a.parquet'}#0"]


def test_a_damaged_row_is_encoded_again(folder, tmp_path):
    encoder, store = echo(), Store(tmp_path / "cache")
    first, _ = build_index(folder, tmp_path / "a.index", encoder, store=store)
    path = tmp_path / "cache" / "echo-photos" / "000001.rows"
    data = bytearray(path.read_bytes())
    data[3] ^= 1
    path.write_bytes(data)
    second, _ = build_index(folder, tmp_path / "b.index", encoder, store=store)
    assert np.array_equal(first.embeddings.rows, second.embeddings.rows)
    assert encoder.photos.seen == len(WORDS) + 1


# --- archives that claim what is not there


def tar_of(*entries, end=True):
    """A tar of (TarInfo, bytes that follow it), whatever size the header claims."""
    parts = [info.tobuf(tarfile.GNU_FORMAT) + data + bytes(-len(data) % 512) for info, data in entries]
    return b"".join(parts) + bytes(1024 if end else 0)


def entry(name, data=b"", **fields):
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for key, value in fields.items():
        setattr(info, key, value)
    return info, data


@pytest.mark.parametrize("name", ["big.png", "big.bin"])
@pytest.mark.parametrize("size", [2**20, 10**13, 2**70, -1, -512, -(10**13)])
def test_a_tar_that_claims_more_than_it_has_ends_there(contents, tmp_path, name, size):
    path = tmp_path / "a.tar"
    path.write_bytes(tar_of(entry("sea.png", contents["sea"]), entry(name, size=size), entry("sun.png", b"?")))
    tracemalloc.start()
    found = words_of(path)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.pop("a/sea.png") == "sea"
    assert any(str(path) in fault.where for fault in found.values())
    assert most < 2**25


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE])
@pytest.mark.parametrize("size", [2**28, 10**13, -512])
def test_a_name_in_a_tar_is_no_longer_than_names_are(contents, tmp_path, kind, size):
    path = tmp_path / "a.tar"
    path.write_bytes(tar_of(entry("sea.png", contents["sea"]), entry("x", size=size, type=kind), end=False))
    with path.open("ab") as stream:
        stream.truncate(2**29)  # the bytes are there, and cost no disk
    found = words_of(path)
    assert found["a/sea.png"] == "sea"
    assert found[""].what == f"is damaged or cannot be read: an entry claims {size} bytes"


def pax(**fields):
    lines = b""
    for key, value in fields.items():
        line = f" {key}={value}\n".encode()
        length = len(line) + 1
        length += len(str(length + 1)) - 1
        lines += str(length).encode() + line
    return entry("pax", lines, type=tarfile.XHDTYPE)


@pytest.mark.parametrize("size", ["-5000", "99999999999999"])
def test_sizes_in_words_are_believed_no_more(contents, tmp_path, size):
    path = tmp_path / "a.tar"
    path.write_bytes(
        tar_of(entry("sea.png", contents["sea"]), pax(size=size), entry("b.bin"), entry("sun.png", contents["sun"]))
    )
    found = words_of(path)
    assert found["a/sea.png"] == "sea"
    assert found[""].where == str(path)


def test_names_that_only_describe_each_other_end_a_tar(contents, tmp_path):
    path = tmp_path / "a.tar"
    path.write_bytes(tar_of(entry("sea.png", contents["sea"]), *[pax(comment="x")] * 5000))
    found = words_of(path)
    assert (found["a/sea.png"], found[""].where) == ("sea", str(path))


def test_a_damaged_header_in_a_tar_is_named(contents, tmp_path):
    path = pack(tmp_path / "a.tar", {f"{word}.png": contents[word] for word in WORDS[:3]})
    data = bytearray(path.read_bytes())
    at = data.index(b"wood.png")
    data[at] ^= 1
    path.write_bytes(data)
    found = words_of(path)
    assert found == {
        "a/sea.png": "sea",
        "": Fault(
            "source-damaged",
            str(path),
            "is damaged or cannot be read: "
            "bad checksum where an entry should begin, or it is compressed and has to be unpacked",
            "left out",
            "get it again",
        ),
    }


@pytest.mark.parametrize("kind", [tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_in_a_tar_cost_themselves(contents, tmp_path, kind):
    odd = entry("odd.png", type=kind, linkname="/etc/passwd", devmajor=1, devminor=5)
    (tmp_path / "a.tar").write_bytes(tar_of(odd, entry("sea.png", contents["sea"])))
    found = words_of(tmp_path / "a.tar")
    assert found["a/sea.png"] == "sea"
    assert found["a/odd.png"].code == "photo-unreadable"
    assert "is a link, pipe or device and not a file" in found["a/odd.png"].what


def test_sparse_entries_cost_themselves(contents, tmp_path):
    hole = pax(
        **{"GNU.sparse.major": 1, "GNU.sparse.minor": 0, "GNU.sparse.name": "hole.png", "GNU.sparse.realsize": 10**15}
    )
    sparse = entry("GNUSparseFile.0/hole.png", b"1\n0\n0\n".ljust(512, b"\0"))
    (tmp_path / "a.tar").write_bytes(tar_of(hole, sparse, entry("sea.png", contents["sea"])))
    found = words_of(tmp_path / "a.tar")
    assert found["a/sea.png"] == "sea"
    assert found["a/hole.png"].code == "photo-unreadable"
    assert "is stored with holes" in found["a/hole.png"].what


@pytest.mark.parametrize(
    "name", ["../up.png", "a/../../up.png", "/abs.png", "line\nbreak.png", "\x1b[31m.png", "\udcff.png"]
)
def test_names_that_lead_elsewhere_cost_themselves(contents, tmp_path, name):
    pack(tmp_path / "a.tar", {name: contents["sun"], "sea.png": contents["sea"], "a..b/..c.png": contents["moon"]})
    found = words_of(tmp_path / "a.tar")
    assert (found.pop("a/sea.png"), found.pop("a/a..b/..c.png")) == ("sea", "moon")
    (fault,) = found.values()
    assert fault.code == "photo-name"


def test_a_packed_tar_is_named(contents, tmp_path):
    """What is unpacked on the way may have no end."""
    path = tmp_path / "a.tar"
    path.write_bytes(gzip.compress(tar_of(entry("sea.png", contents["sea"]))))
    found = words_of(path)
    assert list(found) == [""]
    assert "or it is compressed and has to be unpacked" in found[""].what


def test_a_parquet_file_that_claims_too_many_rows_is_named(contents, tmp_path):
    """Two hundred thousand rows without a picture lie in some hundred bytes, and it could be billions."""
    arrow = pytest.importorskip("pyarrow")
    path = parquet(tmp_path / "a.parquet", groups=1, image=arrow.nulls(200_000, arrow.binary()))
    with pytest.raises(DataError, match=r"a\.parquet .* row group 0 claims 200000 rows in \d+ bytes"):
        sources.find(path)
    folder = tmp_path / "many"
    folder.mkdir()
    path.rename(folder / "a.parquet")
    parquet(folder / "b.parquet", groups=1, image=[contents["sea"], None])
    found = words_of(folder)
    assert (found["b/0"], found["b/1"].what) == ("sea", "is empty")


def test_rows_that_are_copies_of_one_end_where_the_file_cannot_hold_them(contents, tmp_path, monkeypatch):
    """A dictionary holds the picture once and each row one bit."""
    monkeypatch.setattr(sources, "UNPACKED", 2)
    monkeypatch.setattr(sources, "MAX_BYTES", 1000)
    path = parquet(tmp_path / "a.parquet", groups=1, image=[bytes(1000)] * 500)
    seen = [picture.where for unit in sources.find(path)[0] for picture in unit.pictures()]
    assert path.stat().st_size < 5000
    assert 1 < len(seen) < 50
    assert seen[-1] == str(path)


def test_empty_row_groups_are_no_units(contents, tmp_path):
    arrow, writer = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    schema = arrow.schema([("image", arrow.binary())])
    with writer.ParquetWriter(tmp_path / "a.parquet", schema) as stream:
        for images in ([], [contents["sea"]], [], [contents["sun"]]):
            stream.write_table(arrow.table({"image": images}, schema))
    assert len(sources.find(tmp_path / "a.parquet")[0]) == 2
    assert words_of(tmp_path / "a.parquet") == {"a/0": "sea", "a/1": "sun"}


@pytest.mark.parametrize("name", ["a.tar", "a.parquet", "a.png"])
def test_a_pipe_is_named_whatever_it_is_called(folder, tmp_path, name):
    pytest.importorskip("pyarrow")
    os.mkfifo(tmp_path / name)
    listing = tmp_path / "list.txt"
    listing.write_text(f"photos/sea.png\n{name}\nfile://{tmp_path / name}\n")
    if name == "a.png":
        found = list(words_of(listing).values())
        assert found[0] == "sea"
        assert ["it is not a file but a pipe, socket or device" in fault.what for fault in found[1:]] == [True, True]
    elif name == "a.tar":
        (fault,) = words_of(tmp_path / name).values()
        assert "it is not a file but a pipe" in fault.what
    else:
        with pytest.raises(DataError, match="it is not a file but a pipe"):
            sources.find(tmp_path / name)
