"""Whatever a tar or Parquet file holds costs itself or one of its entries."""

from __future__ import annotations

import io
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fuzz.harness import contained, damaged, fuzzed
from photodesk.errors import PhotodeskError
from photodesk.features import sources


def png():
    stream = io.BytesIO()
    Image.linear_gradient("L").resize((8, 8)).save(stream, "PNG")
    return stream.getvalue()


PNG = png()
NAMES = st.sampled_from(["a.png", "d/b.jpg", "../c.png", "/d.png", "n" * 300 + ".png", "ü.png", "x.txt"]) | st.text(
    st.characters(exclude_categories=["Cs"]), max_size=20
).map("{}.png".format)
SIZES = st.integers(-(2**70), 2**70) | st.sampled_from([0, 1, 512, 2**29, 2**33, 10**13, -1, -512, len(PNG)])


@st.composite
def tars(draw):
    """Entries of any kind, name and claimed size, with correct checksums, in any of the formats."""
    parts = []
    for _ in range(draw(st.integers(1, 5))):
        info = tarfile.TarInfo(draw(NAMES))
        info.type = draw(st.sampled_from([bytes([kind]) for kind in b"01234567xgXLKSVMD\0Z"]))
        data = draw(
            st.sampled_from([PNG, b"", b"22 path=../../x.png\n", b"19 size=1000000000\n", b"1\n", b"1\n0\n9\n"])
        )
        info.size = draw(SIZES) if draw(st.booleans()) else len(data)
        form = draw(st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]))
        if draw(st.booleans()):
            info.pax_headers = draw(
                st.dictionaries(
                    st.sampled_from(
                        ["path", "size", "GNU.sparse.major", "GNU.sparse.map", "GNU.sparse.size", "hdrcharset"]
                    ),
                    st.sampled_from(["1", "0", "-1", "1,2", "x", "", "10000000000000", "BINARY"]),
                    max_size=4,
                )
            )
        try:
            parts.append(info.tobuf(form) + data + bytes(-len(data) % 512))
        except (ValueError, OverflowError):
            parts.append(draw(st.binary(max_size=600)))
    whole = b"".join(parts) + bytes(1024 * draw(st.integers(0, 1)))
    return draw(damaged(whole)) if draw(st.booleans()) else whole


def taken(path):
    """Every picture of a source is there or says why not."""
    with contained():
        units, _ = sources.find(path)
        number = 0
        for unit in units:
            for picture in unit.pictures():
                number += 1
                assert picture.photo.isprintable()
                try:
                    assert isinstance(picture.read(), bytes)
                except PhotodeskError as error:
                    assert str(error)  # noqa: PT017
        assert number < 10_000


@fuzzed
@given(whole=tars())
def test_a_tar(tmp_path, whole):
    (tmp_path / "a.tar").write_bytes(whole)
    taken(tmp_path / "a.tar")


@pytest.fixture(scope="module")
def parquets():
    arrow, writer = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    found = []
    for compression in ("none", "snappy", "zstd"):
        stream = io.BytesIO()
        table = arrow.table({"id": ["a", "b", None, "d"], "image": [PNG, PNG, None, b"x"]})
        writer.write_table(table, stream, row_group_size=2, compression=compression)
        found.append(stream.getvalue())
    return found


@fuzzed
@given(data=st.data())
def test_a_parquet_file(tmp_path, parquets, data):
    whole = data.draw(st.sampled_from(parquets))
    at = data.draw(st.sampled_from([0, len(whole) // 2, len(whole) - 200]))  # the footer, which says all, is at the end
    (tmp_path / "a.parquet").write_bytes(whole[:at] + data.draw(damaged(whole[at:])))
    taken(tmp_path / "a.parquet")
