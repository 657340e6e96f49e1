"""Blocks written here byte by byte, by the standards' own layouts, so that reader and writer share no code."""

from __future__ import annotations

import io
import struct
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin, TiffImagePlugin

from photodesk import images
from photodesk.archive import metadata
from photodesk.errors import MissingExtra

pytest.importorskip("defusedxml")


def iptc(fields, utf8=True):
    """An APP13 segment: Photoshop resource 0x0404 with IPTC-IIM data sets."""
    sets = b"\x1c\x01\x5a\x00\x03\x1b%G" if utf8 else b""
    for number, value in fields:
        sets += b"\x1c\x02" + bytes([number]) + struct.pack(">H", len(value)) + value
    resource = b"8BIM\x04\x04\x00\x00" + struct.pack(">I", len(sets)) + sets + b"\0" * (len(sets) % 2)
    body = b"Photoshop 3.0\0" + resource
    return b"\xff\xed" + struct.pack(">H", len(body) + 2) + body


XMP = """<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/"
 xmlns:r="http://ns.adobe.com/xap/1.0/rights/" xmlns:c="http://iptc.org/std/Iptc4xmpCore/1.0/xmlns/"
 photoshop:City="Wien"
 photoshop:DateCreated="2024-05-01T13:14:15+02:00">
<dc:description><rdf:Alt><rdf:li xml:lang="en">Boats</rdf:li>
<rdf:li xml:lang="x-default">Boote &amp; Meer</rdf:li></rdf:Alt></dc:description>
<dc:creator><rdf:Seq><rdf:li>Ada Ott</rdf:li><rdf:li>Bo Lie</rdf:li></rdf:Seq></dc:creator>
<dc:subject><rdf:Bag><rdf:li>Boot</rdf:li><rdf:li>See</rdf:li><rdf:li>Boot</rdf:li><rdf:li> </rdf:li>
</rdf:Bag></dc:subject>
<photoshop:Country>Österreich</photoshop:Country>
<r:UsageTerms><rdf:Alt><rdf:li xml:lang="x-default">nur online</rdf:li></rdf:Alt></r:UsageTerms>
</rdf:Description></rdf:RDF></x:xmpmeta>"""


def xmp(text):
    body = b"http://ns.adobe.com/xap/1.0/\0" + text.encode()
    return b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body


def jpeg(*segments, exif=None, size=(60, 40)):
    out = io.BytesIO()
    Image.new("RGB", size).save(out, "JPEG", **({"exif": exif} if exif else {}))
    data = out.getvalue()
    return data[:2] + b"".join(segments) + data[2:]


FULL = [
    (105, b"Kopf"),
    (120, b"Zwei\r\nZeilen  "),
    (80, "Öl Fé".encode()),
    (110, b"dpa"),
    (116, "© dpa".encode()),
    (25, b"Elbe"),
    (25, "Müller".encode()),
    (90, "Köln".encode()),
    (101, b"Deutschland"),
    (55, b"20240229"),
    (60, b"120000+0100"),
    (40, b"gesperrt in CH"),
]


def read(data, sidecar=None):
    return metadata.read(images.read(data, where="a.jpg"), sidecar=sidecar)


def test_iptc_in_every_field():
    entry, trouble = read(jpeg(iptc(FULL)))
    assert trouble == ()
    assert (entry.headline, entry.caption, entry.byline, entry.credit) == ("Kopf", "Zwei\nZeilen", "Öl Fé", "dpa")
    assert (entry.copyright, entry.keywords, entry.place) == ("© dpa", ("Elbe", "Müller"), "Köln, Deutschland")
    assert (entry.taken, entry.terms, entry.width, entry.height) == ("2024-02-29T12:00:00", "gesperrt in CH", 60, 40)


def test_iptc_of_old_programs_is_windows_1252():
    entry, _ = read(jpeg(iptc([(120, "Größe – schön".encode("cp1252"))], utf8=False)))
    assert entry.caption == "Größe – schön"


def test_xmp_lists_alternatives_and_attributes():
    entry, trouble = read(jpeg(xmp(XMP)))
    assert trouble == ()
    assert (entry.caption, entry.byline, entry.keywords) == ("Boote & Meer", "Ada Ott, Bo Lie", ("Boot", "See"))
    assert (entry.place, entry.taken, entry.terms) == ("Wien, Österreich", "2024-05-01T13:14:15", "nur online")


def exif_block(**more):
    exif = Image.Exif()
    exif[0x010E], exif[0x013B], exif[0x8298] = "Alte Brücke".encode(), "Kamera", "Haus"
    exif[0x9C9E] = "eins;zwei;eins".encode("utf-16-le")
    exif.get_ifd(0x8769)[0x9003] = "2020:12:31 23:59:58"
    exif[0x8769] = exif.get_ifd(0x8769)  # else a TIFF gets none
    for tag, value in more.items():
        exif[int(tag[1:])] = value
    return exif


def test_exif_alone():
    entry, _ = read(jpeg(exif=exif_block()))
    assert (entry.caption, entry.byline, entry.copyright) == ("Alte Brücke", "Kamera", "Haus")
    assert (entry.taken, entry.keywords) == ("2020-12-31T23:59:58", ("eins", "zwei"))


def test_xmp_goes_before_iptc_before_exif_field_by_field_and_a_sidecar_before_all(tmp_path):
    data = jpeg(xmp(XMP), iptc(FULL), exif=exif_block())
    entry, _ = read(data)
    assert (entry.caption, entry.credit, entry.copyright, entry.terms) == ("Boote & Meer", "dpa", "© dpa", "nur online")
    sidecar = tmp_path / "a.xmp"
    sidecar.write_text(XMP.replace("Boote &amp; Meer", "Vom Lektorat"), "utf-8")
    entry, _ = read(data, sidecar)
    assert (entry.caption, entry.credit) == ("Vom Lektorat", "dpa")


def test_a_sidecar_that_cannot_be_read_costs_nothing_else(tmp_path):
    entry, trouble = read(jpeg(iptc(FULL)), tmp_path / "gone.xmp")
    assert entry.headline == "Kopf"
    assert len(trouble) == 1
    assert trouble[0].startswith("its XMP sidecar cannot be read")


def test_a_directory_of_exif_that_is_nowhere_costs_only_what_is_in_it():
    exif = exif_block().tobytes()
    at = exif.index(struct.pack(">HHI", 0x8769, 4, 1)) + 8
    entry, _ = read(jpeg(exif=exif[:at] + b"\x7f\xff\xff\xff" + exif[at + 4 :]))
    assert (entry.caption, entry.byline, entry.taken) == ("Alte Brücke", "Kamera", "")


def test_without_its_reader_xmp_is_not_left_out_in_silence(monkeypatch):
    monkeypatch.setitem(sys.modules, "defusedxml", None)
    monkeypatch.setitem(sys.modules, "defusedxml.ElementTree", None)
    with pytest.raises(MissingExtra, match="defusedxml"):
        read(jpeg(xmp(XMP)))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("turn", range(1, 9))
def test_size_is_that_of_the_upright_picture_however_small_it_is_decoded(kind, turn):
    out = io.BytesIO()
    Image.new("RGB", (64, 48)).save(out, kind, exif=exif_block(**{f"t{0x0112}": turn}))
    for size in (0, 8):
        picture = images.read(out.getvalue(), size=size, where="x")
        entry, _ = metadata.read(picture)
        assert (entry.width, entry.height) == picture.size == ((64, 48) if turn < 5 else (48, 64))
        assert (picture.image.width > picture.image.height) == (turn < 5)
        assert (entry.caption, entry.taken) == ("Alte Brücke", "2020-12-31T23:59:58")


def test_a_bigtiff_says_as_much_as_a_tiff():
    out = io.BytesIO()
    Image.new("RGB", (8, 6)).save(out, "TIFF", big_tiff=True, exif=exif_block())
    entry, trouble = read(out.getvalue())
    assert trouble == ()
    assert (entry.caption, entry.taken, entry.width) == ("Alte Brücke", "2020-12-31T23:59:58", 8)


def test_iptc_of_a_tiff_is_read():
    sets = b"".join(b"\x1c\x02" + bytes([number]) + struct.pack(">H", len(value)) + value for number, value in FULL)
    out = io.BytesIO()
    info = TiffImagePlugin.ImageFileDirectory_v2()
    info[33723], info.tagtype[33723] = sets, 7
    Image.new("RGB", (8, 6)).save(out, "TIFF", tiffinfo=info)
    entry, trouble = read(out.getvalue())
    assert trouble == ()
    assert (entry.headline, entry.keywords) == ("Kopf", ("Elbe", "Müller"))


def test_texts_of_a_png_with_the_names_of_blocks_are_texts():
    about = PngImagePlugin.PngInfo()
    for name in ("exif", "photoshop", "xmp", "Raw profile type exif", images.REDUCED):
        about.add_text(name, "not a block")
    out = io.BytesIO()
    Image.new("RGB", (8, 6)).save(out, "PNG", pnginfo=about)
    picture = images.read(out.getvalue(), where="x")
    assert picture.size == (8, 6)
    assert picture.image.info == {}
    assert metadata.read(picture)[0].caption == ""


@pytest.mark.parametrize("suffix", ["PNG", "TIFF", "WEBP"])
def test_other_formats_carry_xmp_too(suffix):
    out = io.BytesIO()
    image = Image.new("RGB", (8, 8))
    if suffix == "PNG":
        from PIL.PngImagePlugin import PngInfo

        about = PngInfo()
        about.add_itxt("XML:com.adobe.xmp", XMP)
        image.save(out, suffix, pnginfo=about)
    elif suffix == "TIFF":
        image.save(out, suffix, tiffinfo={700: XMP.encode()})
    else:
        image.save(out, suffix, xmp=XMP.encode())
    assert read(out.getvalue())[0].caption == "Boote & Meer"


def test_a_damaged_block_costs_its_fields_and_says_so():
    for broken, name in ((xmp("<x:xmpmeta"), "XMP"), (xmp('<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>'), "XMP")):
        entry, trouble = read(jpeg(broken, iptc(FULL)))
        assert entry.headline == "Kopf"
        assert len(trouble) == 1
        assert name in trouble[0]


@pytest.mark.parametrize("wrong", ["", "2024", "2024-13-01", "0000-00-00", "gestern", "2023-02-29"])
def test_what_is_no_whole_date_is_no_date(wrong):
    assert read(jpeg(xmp(XMP.replace("2024-05-01T13:14:15+02:00", wrong))))[0].taken == ""


@settings(max_examples=60, deadline=None)
@given(
    st.binary(max_size=300),
    st.sampled_from([b"\xff\xed", b"\xff\xe1"]),
    st.sampled_from([b"Photoshop 3.0\0", b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0"]),
)
def test_no_bytes_in_a_block_stop_the_work(noise, marker, head):
    body = head + noise
    entry, _ = read(jpeg(marker + struct.pack(">H", len(body) + 2) + body))
    assert (entry.width * entry.height) == 2400
    entry.caption.encode()
