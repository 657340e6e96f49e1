"""Whatever is called a picture is decoded or refused, and whatever its metadata say costs no picture."""

from __future__ import annotations

import io
import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from fuzz.harness import contained, damaged, fuzzed
from photodesk import images
from photodesk.archive import metadata

XMP = b"""<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/"
 photoshop:Credit="dpa" photoshop:DateCreated="2024-05-01T12:00:00+02:00"><dc:description><rdf:Alt>
<rdf:li xml:lang="x-default">Elbe</rdf:li></rdf:Alt></dc:description><dc:subject><rdf:Bag><rdf:li>Fluss</rdf:li>
</rdf:Bag></dc:subject></rdf:Description></rdf:RDF></x:xmpmeta>"""
IPTC = b"".join(
    b"\x1c" + bytes([record, number]) + len(value).to_bytes(2, "big") + value
    for record, number, value in [
        (1, 90, b"\x1b%G"),
        (2, 120, "Die Elbe in Köln".encode()),
        (2, 25, b"Fluss"),
        (2, 25, b"Stadt"),
        (2, 55, b"20240501"),
        (2, 60, b"120000+0200"),
        (2, 110, b"dpa"),
    ]
)


def exif():
    made = Image.Exif()
    made[0x010E], made[0x013B], made[0x8298], made[0x0112] = "Elbe", "A. Bild", "dpa", 6
    made.get_ifd(0x8769)[0x9003] = "2024:05:01 12:00:00"
    return made.tobytes().removeprefix(b"Exif\0\0")


def samples():
    kinds = [("JPEG", "RGB"), ("PNG", "RGBA"), ("PNG", "I;16"), ("WEBP", "RGB"), ("GIF", "P"), ("BMP", "RGB")]
    found = []
    for kind, mode in kinds + [("TIFF", mode) for mode in ("RGB", "CMYK", "F", "1")]:
        stream = io.BytesIO()
        Image.linear_gradient("L").resize((24, 16)).convert("L" if mode == "I;16" else mode).save(stream, kind)
        found.append(stream.getvalue())
    stream = io.BytesIO()
    Image.new("RGB", (24, 16)).save(stream, "JPEG", exif=b"Exif\0\0" + exif(), xmp=XMP)
    return [*found, stream.getvalue()]


SAMPLES = samples()


@fuzzed
@given(st.sampled_from(SAMPLES).flatmap(damaged) | st.binary(max_size=100), st.sampled_from([0, 8, 256]))
def test_a_picture(data, size):
    pytest.importorskip("defusedxml")
    with contained():
        picture = images.read(data, size=size, where="a.jpg", pixels=10**6)
        assert picture.image.mode == "RGB"
        described(picture)


def described(picture):
    entry, _ = metadata.read(picture)
    json.dumps(entry.payload(), ensure_ascii=False).encode()  # what is stored is text


@fuzzed
@given(
    st.just(exif()).flatmap(damaged) | st.binary(max_size=60),
    st.just(IPTC).flatmap(damaged) | st.binary(max_size=60),
    st.just(XMP).flatmap(damaged) | st.binary(max_size=60),
)
@example(b"", b"", b"<a>" * 50_000)
@example(b"", b"", b'<!DOCTYPE a [<!ENTITY b "bbbb"><!ENTITY c "&b;&b;&b;">]><a>&c;</a>')
@example(b"", b"", XMP.replace(b"Elbe", b"&#x0;\xed\xa0\x80"))
def test_blocks_of_metadata(exif_block, iptc, xmp):
    pytest.importorskip("defusedxml")
    with contained():
        described(images.Decoded(Image.new("RGB", (8, 8)), (8, 8), "JPEG", exif_block, iptc, xmp))
