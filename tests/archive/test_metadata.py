"""Blocks written here byte by byte, by the standards' own layouts, so that reader and writer share no code."""

from __future__ import annotations

import io
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from photodesk.archive import metadata

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
 xmlns:r="http://ns.adobe.com/xap/1.0/rights/" xmlns:c="http://iptc.org/std/Iptc4xmpCore/1.0/xmlns/" photoshop:City="Wien"
 photoshop:DateCreated="2024-05-01T13:14:15+02:00">
<dc:description><rdf:Alt><rdf:li xml:lang="en">Boats</rdf:li><rdf:li xml:lang="x-default">Boote &amp; Meer</rdf:li></rdf:Alt></dc:description>
<dc:creator><rdf:Seq><rdf:li>Ada Ott</rdf:li><rdf:li>Bo Lie</rdf:li></rdf:Seq></dc:creator>
<dc:subject><rdf:Bag><rdf:li>Boot</rdf:li><rdf:li>See</rdf:li><rdf:li>Boot</rdf:li><rdf:li> </rdf:li></rdf:Bag></dc:subject>
<photoshop:Country>Österreich</photoshop:Country><r:UsageTerms><rdf:Alt><rdf:li xml:lang="x-default">nur online</rdf:li></rdf:Alt></r:UsageTerms>
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


def test_iptc_in_every_field():
    entry, trouble = metadata.read(jpeg(iptc(FULL)))
    assert trouble == ()
    assert (entry.headline, entry.caption, entry.byline, entry.credit) == ("Kopf", "Zwei\nZeilen", "Öl Fé", "dpa")
    assert (entry.copyright, entry.keywords, entry.place) == ("© dpa", ("Elbe", "Müller"), "Köln, Deutschland")
    assert (entry.taken, entry.terms, entry.width, entry.height) == ("2024-02-29T12:00:00", "gesperrt in CH", 60, 40)


def test_iptc_of_old_programs_is_windows_1252():
    entry, _ = metadata.read(jpeg(iptc([(120, "Größe – schön".encode("cp1252"))], utf8=False)))
    assert entry.caption == "Größe – schön"


def test_xmp_lists_alternatives_and_attributes():
    entry, trouble = metadata.read(jpeg(xmp(XMP)))
    assert trouble == ()
    assert (entry.caption, entry.byline, entry.keywords) == ("Boote & Meer", "Ada Ott, Bo Lie", ("Boot", "See"))
    assert (entry.place, entry.taken, entry.terms) == ("Wien, Österreich", "2024-05-01T13:14:15", "nur online")


def exif_block(**more):
    exif = Image.Exif()
    exif[0x010E], exif[0x013B], exif[0x8298] = "Alte Brücke".encode(), "Kamera", "Haus"
    exif[0x9C9E] = "eins;zwei;eins".encode("utf-16-le")
    exif.get_ifd(0x8769)[0x9003] = "2020:12:31 23:59:58"
    for tag, value in more.items():
        exif[int(tag[1:])] = value
    return exif


def test_exif_alone():
    entry, _ = metadata.read(jpeg(exif=exif_block()))
    assert (entry.caption, entry.byline, entry.copyright) == ("Alte Brücke", "Kamera", "Haus")
    assert (entry.taken, entry.keywords) == ("2020-12-31T23:59:58", ("eins", "zwei"))


def test_xmp_goes_before_iptc_before_exif_field_by_field_and_a_sidecar_before_all():
    data = jpeg(xmp(XMP), iptc(FULL), exif=exif_block())
    entry, _ = metadata.read(data)
    assert (entry.caption, entry.credit, entry.copyright, entry.terms) == ("Boote & Meer", "dpa", "© dpa", "nur online")
    entry, _ = metadata.read(data, sidecar=XMP.replace("Boote &amp; Meer", "Vom Lektorat").encode())
    assert (entry.caption, entry.credit) == ("Vom Lektorat", "dpa")


@pytest.mark.parametrize("turn", range(1, 9))
def test_size_is_that_of_the_upright_picture(turn):
    from photodesk.images import decode

    data = jpeg(exif=exif_block(**{f"t{0x0112}": turn}))
    entry, _ = metadata.read(data)
    assert (entry.width, entry.height) == decode(data, where="x").size


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
    assert metadata.read(out.getvalue())[0].caption == "Boote & Meer"


def test_a_damaged_block_costs_its_fields_and_says_so():
    for broken, name in ((xmp("<x:xmpmeta"), "XMP"), (xmp('<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>'), "XMP")):
        entry, trouble = metadata.read(jpeg(broken, iptc(FULL)))
        assert entry.headline == "Kopf"
        assert len(trouble) == 1
        assert name in trouble[0]


@pytest.mark.parametrize("wrong", ["", "2024", "2024-13-01", "0000-00-00", "gestern", "2023-02-29"])
def test_what_is_no_whole_date_is_no_date(wrong):
    assert metadata.read(jpeg(xmp(XMP.replace("2024-05-01T13:14:15+02:00", wrong))))[0].taken == ""


@settings(max_examples=60, deadline=None)
@given(
    st.binary(max_size=300),
    st.sampled_from([b"\xff\xed", b"\xff\xe1"]),
    st.sampled_from([b"Photoshop 3.0\0", b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0"]),
)
def test_no_bytes_in_a_block_stop_the_work(noise, marker, head):
    body = head + noise
    entry, _ = metadata.read(jpeg(marker + struct.pack(">H", len(body) + 2) + body))
    assert (entry.width * entry.height) == 2400
    entry.caption.encode()
