"""Blocks written here byte by byte, by the standards' own layouts, so that reader and writer share no code."""

from __future__ import annotations

import hashlib
import io
import struct
import sys
import unicodedata
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin, TiffImagePlugin

from formats.test_formats import dng, scene
from photodesk import images
from photodesk.archive import iptc as iim
from photodesk.archive import metadata
from photodesk.archive.charsets import decoded
from photodesk.archive.dates import moment
from photodesk.engines.schema import Entry, Filter
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
    assert (entry.caption, entry.credit, entry.copyright) == ("Boote & Meer", "dpa", "© dpa")
    assert entry.terms == "nur online | gesperrt in CH"
    sidecar = tmp_path / "a.xmp"
    sidecar.write_text(XMP.replace("Boote &amp; Meer", "Vom Lektorat"), "utf-8")
    entry, _ = read(data, sidecar)
    assert (entry.caption, entry.credit) == ("Vom Lektorat", "dpa")


def test_a_sidecar_that_cannot_be_read_costs_nothing_else(tmp_path):
    entry, trouble = read(jpeg(iptc(FULL)), tmp_path / "gone.xmp")
    assert entry.headline == "Kopf"
    assert len(trouble) == 1
    assert trouble[0].startswith("its XMP sidecar gone.xmp cannot be read")


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


@pytest.mark.parametrize("wrong", ["", "2024-13-01", "0000-00-00", "0000", "gestern", "2023-02-29", "20240", "1.5.24"])
def test_what_is_no_date_is_none(wrong):
    assert read(jpeg(xmp(XMP.replace("2024-05-01T13:14:15+02:00", wrong))))[0].taken == ""


@pytest.mark.parametrize(
    ("said", "clock", "right"),
    [
        ("2019", "", "2019"),
        ("2019-05", "", "2019-05"),
        ("2019-05-00", "", "2019-05"),
        ("19990000", "", "1999"),
        ("19990400", "120000+0100", "1999-04"),
        ("20240229", "", "2024-02-29"),
        ("20240229", "120000+0100", "2024-02-29T12:00:00"),
        ("2024-02-29", "12:34", "2024-02-29T12:34:00"),
        ("2019-05-04 10:00", "", "2019-05-04T10:00:00"),
        ("2019:05:04 10:11:12.25+02:00", "", "2019-05-04T10:11:12"),
        ("2019/05/04 10:00:00", "", "2019-05-04T10:00:00"),
        ("2019:5:4 9:05:00", "", "2019-05-04T09:05:00"),
        ("2019:05:04 24:00:00", "", "2019-05-04"),
        ("2019:05:04 10:00:60", "", "2019-05-04"),
        ("2019:05:00 00:00:00", "", "2019-05"),
        ("2019:05:04", "", "2019-05-04"),
        ("4.5.2019 10:00", "", "2019-05-04T10:00:00"),
        ("20190504T101112Z", "", "2019-05-04T10:11:12"),
        ("    :  :     :  :  ", "", ""),
    ],
)
def test_of_a_date_what_is_known_is_kept(said, clock, right):
    assert moment(said, clock) == right


def test_a_part_date_counts_as_its_first_moment_and_stays_a_part():
    entry = Entry(taken="2019-05")
    assert entry.payload()["taken"] == "2019-05-01T00:00:00Z"
    assert Entry.of(entry.payload()) == entry
    assert Filter(since="2019-05-01", until="2019-05-01").admits("", entry)
    assert not Filter(since="2019-05-02").admits("", entry)
    old = {"taken": "2019-05-04T00:00:00Z", "year": "2019"}  # as older archives have it
    assert Entry.of(old).taken == "2019-05-04T00:00:00"


# IPTC


def ds(record, number, value):
    return b"\x1c" + bytes([record, number]) + struct.pack(">H", len(value)) + value


def resource(block, number=0x0404):
    return (
        b"8BIM" + struct.pack(">H", number) + b"\0\0" + struct.pack(">I", len(block)) + block + b"\0" * (len(block) % 2)
    )


def segment(marker, body):
    return b"\xff" + bytes([marker]) + struct.pack(">H", len(body) + 2) + body


def app13(block):
    return segment(0xED, b"Photoshop 3.0\0" + block)


GOOD = ds(1, 90, b"\x1b%G") + ds(2, 120, "Größe".encode()) + ds(2, 105, b"Kopf")


@pytest.mark.parametrize(
    "block",
    [
        *(GOOD + ds(2, number, b"") for number in (90, 25, 55, 116, 40)),
        ds(2, 120, b"") + GOOD,
        GOOD + b" " * 30,
        GOOD + b"\0\0rubbish\x1c",
        ds(15, 3, b"vendor") + GOOD,
        ds(3, 10, b"\0\1") + ds(3, 244, b"") + GOOD,
        b"\0" + GOOD.replace(b"\x1c\x02\x69", b"\0\x1c\x02\x69"),
        GOOD.replace(ds(2, 105, b"Kopf"), b"\x1c\x02\x69\x80\x04\0\0\0\4Kopf"),
    ],
)
def test_what_is_odd_in_iptc_costs_no_data_set(block):
    entry, trouble = read(jpeg(app13(resource(block))))
    assert (entry.caption, entry.headline, trouble) == ("Größe", "Kopf", ())


def test_segments_are_joined_and_a_cut_one_keeps_what_is_whole():
    whole = resource(ds(2, 40, b"x" * 700) + GOOD)
    assert read(jpeg(app13(whole[:300]), app13(whole[300:])))[0].caption == "Größe"
    assert read(jpeg(app13(resource(b"other", 0x03ED)), app13(whole)))[0].caption == "Größe"
    entry, trouble = read(jpeg(app13(resource(GOOD + ds(2, 80, b"Ada Ott"))[:-3])))
    assert (entry.caption, entry.byline) == ("Größe", "")
    assert trouble == ("its IPTC is cut short; what is whole of it was read",)


@pytest.mark.parametrize(
    ("escape", "charset", "text"),
    [
        (b"\x1b%G", "utf-8", "Łódź und 東京"),
        (b"\x1b.A", "latin1", "Größe"),
        (b"\x1b-A", "latin1", "Größe"),
        (b"\x1b-B", "iso8859-2", "Łódź"),
        (b"\x1b-F", "iso8859-7", "Αθήνα"),
        (b"\x1b-L", "iso8859-5", "Киев"),
        (b"\x1b-M", "iso8859-9", "İzmir"),
        (b"\x1b/b", "iso8859-15", "100 €"),
        (b"\x1b(B\x1b-B", "iso8859-2", "Łódź"),
        (b"\x1b$)B", "euc_jp", "東京"),
        (b"UTF-8", "utf-8", "Größe"),
        (b"macroman", "mac_roman", "†34"),
    ],
)
def test_the_character_set_that_iptc_declares_is_taken(escape, charset, text):
    assert read(jpeg(app13(resource(ds(1, 90, escape) + ds(2, 120, text.encode(charset))))))[0].caption == text


@pytest.mark.parametrize("charset", ["cp1252", "mac_roman", "utf-8"])
@pytest.mark.parametrize(
    "text",
    ["Größe in Köln", "Müller", "„Das ist ja Luxus pur!“", "Élysée", "Ärztin übt – schön", "L’Été à São Tomé", "© Öl"],
)
def test_what_is_undeclared_is_told_by_the_words_it_makes(text, charset):
    assert decoded([text.encode(charset)]) == [text]


def test_one_writer_has_one_character_set():
    assert decoded(["…".encode("mac_roman"), "Köln".encode("mac_roman"), "Łódź".encode()]) == ["…", "Köln", "Łódź"]


def test_iptc_that_a_tiff_wrote_as_numbers_of_the_other_byte_order():
    block = GOOD + b"\0" * (-len(GOOD) % 4)
    swapped = b"".join(block[i : i + 4][::-1] for i in range(0, len(block), 4))
    assert iim.read(swapped).texts == {120: ["Größe"], 105: ["Kopf"]}


# XMP

SPACES = (
    ' xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/"'
    ' xmlns:xmpMM="http://ns.adobe.com/xap/1.0/mm/" xmlns:xmp="http://ns.adobe.com/xap/1.0/"'
    ' xmlns:xmpRights="http://ns.adobe.com/xap/1.0/rights/" xmlns:xmpNote="http://ns.adobe.com/xmp/note/"'
    ' xmlns:Iptc4xmpCore="http://iptc.org/std/Iptc4xmpCore/1.0/xmlns/" xmlns:exif="http://ns.adobe.com/exif/1.0/"'
    ' xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"'
    ' xmlns:mwg-rs="http://www.metadataworkinggroup.com/schemas/regions/" xmlns:MP="http://ns.microsoft.com/photo/1.2/"'
    ' xmlns:MPRI="http://ns.microsoft.com/photo/1.2/t/RegionInfo#"'
    ' xmlns:MPReg="http://ns.microsoft.com/photo/1.2/t/Region#"'
)


def about(body, more="", name=""):
    return f'<rdf:Description rdf:about="{name}"{SPACES}{more}>{body}</rdf:Description>'


def packet(*blocks):
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF '
        f'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">{"".join(blocks)}</rdf:RDF></x:xmpmeta>'
        '<?xpacket end="w"?>'
    )


def alt(*texts, tag="dc:description"):
    items = "".join(f'<rdf:li xml:lang="{language}">{text}</rdf:li>' for language, text in texts)
    return f"<{tag}><rdf:Alt>{items}</rdf:Alt></{tag}>"


def bag(tag, *items):
    return f"<{tag}><rdf:Bag>{''.join(f'<rdf:li{item}</rdf:li>' for item in items)}</rdf:Bag></{tag}>"


SAID = alt(("x-default", "Boote"))
WRONG = alt(("x-default", "Fremdes Bild")) + "<photoshop:Credit>fremd</photoshop:Credit>"
PLACED = f"<rdf:li><rdf:Description>{WRONG}</rdf:Description></rdf:li>"


def raw_xmp(data):
    return segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + data)


@pytest.mark.parametrize(
    "block",
    [
        b"\xff\xfe" + packet(about(SAID)).encode("utf-16-le"),
        b"\xfe\xff" + packet(about(SAID)).encode("utf-16-be"),
        packet(about(SAID)).encode("utf-16-le"),
        b"\xef\xbb\xbf" + packet(about(SAID)).encode(),
        b"\r\n\n<?xml version='1.0' encoding='UTF-8'?>" + packet(about(SAID)).encode(),
        packet(about(alt(("x-default", "Bo\x02o\x1bte&#1;")))).encode(),
        packet(about(alt(("x-default", ""), ("de", "Boote")))).encode(),
        packet(about("", ' photoshop:City=""'), about(SAID)).encode(),
        packet(about(f"<xmpMM:Ingredients><rdf:Bag>{PLACED}</rdf:Bag></xmpMM:Ingredients>{SAID}")).encode(),
        packet(about(f"<xmpMM:Pantry><rdf:Bag>{PLACED}</rdf:Bag></xmpMM:Pantry>"), about(SAID)).encode(),
        packet(about(WRONG, name="uuid:placed"), about(SAID)).encode(),
        packet(about(SAID, name="uuid:own")).encode(),
        packet(about(SAID)).encode() + b"\0\0junk<a",
        packet(about(f"{SAID}<photoshop:Credit>d")).encode().partition(b"<photoshop:Credit>d")[0] + b"<photoshop:Cre",
    ],
)
def test_xmp_reads_the_one_description_that_is_meant(block):
    entry, _ = read(jpeg(raw_xmp(block)))
    assert (entry.caption, entry.credit, entry.taken) == ("Boote", "", "")


def test_a_bare_ampersand_is_one():
    body = alt(("x-default", "A & B &amp; C &uuml;")) + "<photoshop:Credit>dpa</photoshop:Credit>"
    entry, _ = read(jpeg(raw_xmp(packet(about(body)).encode())))
    assert (entry.caption, entry.credit) == ("A & B & C ü", "dpa")


def test_the_language_of_the_archive_counts_where_none_is_the_default():
    data = jpeg(raw_xmp(packet(about(alt(("fr", "Bateaux"), ("de-AT", "Boote"), ("en", "Boats")))).encode()))
    picture = images.read(data, where="x")
    said = {name: metadata.describe(picture, {}, language=name)[0].caption for name in ("de", "en", "it")}
    assert said == {"de": "Boote", "en": "Boats", "it": "Bateaux"}


def test_extended_xmp_counts_where_it_is_named():
    rest = packet(about(SAID)).encode()
    for named, right in (("0123456789ABCDEF" * 2, "Boote"), ("F" * 32, "")):
        head = b"http://ns.adobe.com/xmp/extension/\0" + b"0123456789ABCDEF" * 2 + struct.pack(">I", len(rest))
        parts = [segment(0xE1, head + struct.pack(">I", at) + rest[at : at + 500]) for at in range(0, len(rest), 500)]
        main = packet(about("", f' xmpNote:HasExtendedXMP="{named}"')).encode()
        assert read(jpeg(raw_xmp(main), *reversed(parts)))[0].caption == right


def test_people_and_what_editors_sort_by():
    region = ' rdf:parseType="Resource"><mwg-rs:Name>{}</mwg-rs:Name><mwg-rs:Type>{}</mwg-rs:Type>'
    body = (
        bag("Iptc4xmpExt:PersonInImage", ">Anna Beispiel", ">Bo Lie")
        + '<mwg-rs:Regions rdf:parseType="Resource">'
        + bag(
            "mwg-rs:RegionList",
            region.format("Bo Lie", "Face"),
            region.format("Cy Dee", "Face"),
            region.format("Hund", "Pet"),
        )
        + '</mwg-rs:Regions><MP:RegionInfo rdf:parseType="Resource">'
        + bag("MPRI:Regions", ' rdf:parseType="Resource"><MPReg:PersonDisplayName>Eva F</MPReg:PersonDisplayName>')
        + "</MP:RegionInfo>"
        + alt(("x-default", "Karneval"), tag="Iptc4xmpExt:Event")
        + alt(("x-default", "Menschen in Booten"), tag="Iptc4xmpCore:AltTextAccessibility")
        + bag(
            "Iptc4xmpExt:LocationShown",
            ' rdf:parseType="Resource"><Iptc4xmpExt:City>Köln</Iptc4xmpExt:City>',
            '><rdf:Description Iptc4xmpExt:City="Bonn" Iptc4xmpExt:CountryName="Deutschland"/>',
        )
        + "<xmp:Rating>5</xmp:Rating><xmp:Label>Rot</xmp:Label><photoshop:Urgency>2</photoshop:Urgency>"
        "<photoshop:Source>Agentur</photoshop:Source><photoshop:Instructions>Bitte nennen</photoshop:Instructions>"
        "<Iptc4xmpCore:Location>Dom</Iptc4xmpCore:Location>"
    )
    entry, trouble = read(jpeg(raw_xmp(packet(about(body)).encode())))
    assert trouble == ()
    assert entry.people == ("Anna Beispiel", "Bo Lie", "Cy Dee", "Eva F")
    assert (entry.event, entry.alt_text, entry.shown) == ("Karneval", "Menschen in Booten", "Köln; Bonn, Deutschland")
    assert (entry.rating, entry.label, entry.urgency) == (5, "Rot", 2)
    assert (entry.provider, entry.instructions, entry.sublocation) == ("Agentur", "Bitte nennen", "Dom")
    assert Entry.of(entry.payload()) == entry
    assert "Anna Beispiel" in entry.text


def test_iptc_has_urgency_provider_sublocation_and_instructions():
    block = ds(2, 10, b"3") + ds(2, 115, b"Agentur") + ds(2, 92, b"Dom") + ds(2, 40, b"Bitte nennen")
    entry, _ = read(jpeg(app13(resource(block))))
    assert (entry.urgency, entry.provider, entry.sublocation) == (3, "Agentur", "Dom")
    assert (entry.instructions, entry.terms, entry.place) == ("Bitte nennen", "Bitte nennen", "Dom")


def test_an_embargo_is_hidden_by_no_other_terms_and_stands_first():
    terms = alt(("x-default", "frei für Kunden"), tag="xmpRights:UsageTerms")
    body = terms + "<photoshop:Instructions>Sperrfrist 1. Mai</photoshop:Instructions>"
    iim_ = ds(2, 40, b"frei f\xc3\xbcr") + ds(1, 90, b"\x1b%G")
    assert read(jpeg(raw_xmp(packet(about(body)).encode()), app13(resource(iim_))))[0].terms == (
        "Sperrfrist 1. Mai | frei für Kunden"
    )
    entry, _ = read(jpeg(raw_xmp(packet(about(terms)).encode()), app13(resource(ds(2, 40, b"Embargo until noon")))))
    assert entry.terms == "Embargo until noon | frei für Kunden"


# which source counts


def test_dates_come_from_exif_first_and_texts_do_not():
    exif = exif_block()
    body = packet(about(SAID, ' photoshop:DateCreated="2001-01-01" xmp:CreateDate="1999-01-01T01:01:01"')).encode()
    entry, _ = read(jpeg(raw_xmp(body), iptc(FULL), exif=exif))
    assert (entry.taken, entry.caption) == ("2020-12-31T23:59:58", "Boote")
    assert read(jpeg(raw_xmp(body), iptc(FULL)))[0].taken == "2001-01-01"
    digitised = packet(about("", ' xmp:CreateDate="1999-01-01T01:01:01"')).encode()
    assert read(jpeg(raw_xmp(digitised), iptc([(55, b"20030405")])))[0].taken == "2003-04-05"
    assert read(jpeg(raw_xmp(digitised)))[0].taken == "1999-01-01T01:01:01"


def test_iptc_that_was_changed_after_xmp_comes_before_it():
    block = ds(2, 120, b"Neu und richtig") + ds(2, 105, b"Ein langer Titel, der bei IPTC ab")
    body = about(SAID + "<photoshop:Headline>Ein langer Titel, der bei IPTC abgeschnitten ist</photoshop:Headline>")
    for of, right in ((block, "Boote"), (b"before", "Neu und richtig")):
        digest = resource(hashlib.md5(of).digest(), 0x0425)
        entry, _ = read(jpeg(raw_xmp(packet(body).encode()), app13(resource(block) + digest)))
        assert (entry.caption, entry.headline) == (right, "Ein langer Titel, der bei IPTC abgeschnitten ist")


# texts


@pytest.mark.parametrize(
    ("said", "right"),
    [
        (unicodedata.normalize("NFD", "Bürgermeister Jürgen"), "Bürgermeister Jürgen"),
        ("Bundes\u00adkanzler", "Bundeskanzler"),
        ("Fußgänger".encode().decode("latin-1"), "Fußgänger"),
        ("Gr&amp;uuml;ne &amp;amp; FDP", "Grüne & FDP"),
        ("zwei\nZeilen", "zwei\nZeilen"),
    ],
)
def test_texts_of_pictures_are_mended_as_those_of_articles(said, right):
    body = alt(("x-default", said)) + f"<photoshop:Credit>{said}</photoshop:Credit>" + bag("dc:subject", f">{said}")
    entry, _ = read(jpeg(raw_xmp(packet(about(body)).encode())))
    assert (entry.caption, entry.credit, entry.keywords) == (right, right, (right.replace("\n", " "),))


@pytest.mark.parametrize(
    "said",
    ["OLYMPUS DIGITAL CAMERA", "SONY DSC", "_", "---", "DCIM\\100MEDIA\\DJI_0001.JPG", "E:\\DCIM\\100CANON\\IMG_1.JPG",
     "Exif_JPEG_PICTURE", "SAMSUNG CAMERA PICTURES", "KODAK Digital Still Camera", "DSC_0123", "IMG_4711.JPG"],
)  # fmt: skip
def test_captions_that_cameras_write_are_left_out(said):
    exif = exif_block(**{f"t{0x010E}": said})
    assert read(jpeg(exif=exif))[0].caption == ""
    assert read(jpeg(iptc([(120, b"Von Hand")]), exif=exif))[0].caption == "Von Hand"


@pytest.mark.parametrize(
    "said", ["Neue Digital Camera von Leica", "Juni2019", "Im DCIM-Ordner", "8. Mai", "DSC gewinnt 4:0"]
)
def test_captions_that_people_write_stay(said):
    assert read(jpeg(iptc([(120, said.encode())])))[0].caption == said


# containers


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(before=(), after=()):
    out = io.BytesIO()
    Image.new("RGB", (8, 6)).save(out, "PNG")
    data = out.getvalue()
    at, end = data.index(b"IDAT") - 4, data.index(b"IEND") - 4
    return data[:at] + b"".join(before) + data[at:end] + b"".join(after) + data[end:]


def raw_profile(name, body, title=None):
    text = b"\n%s\n%8d\n%s\n" % (title or name, len(body), body.hex().encode())
    return chunk(b"zTXt", b"Raw profile type " + name + b"\0\0" + zlib.compress(text))


@pytest.mark.parametrize(
    "chunks",
    [
        [raw_profile(b"iptc", resource(ds(2, 120, b"Flut")))],
        [raw_profile(b"iptc", ds(2, 120, b"Flut"), b"IPTC profile")],
        [raw_profile(b"APP1", b"http://ns.adobe.com/xap/1.0/\0" + packet(about(alt(("x-default", "Flut")))).encode())],
        [raw_profile(b"xmp", packet(about(alt(("x-default", "Flut")))).encode())],
        [raw_profile(b"exif", b"Exif\0\0" + exif_block(**{f"t{0x010E}": "Flut"}).tobytes()[6:])],
        [raw_profile(b"APP1", b"Exif\0\0" + exif_block(**{f"t{0x010E}": "Flut"}).tobytes()[6:])],
        [chunk(b"tEXt", b"Description\0Flut")],
        [chunk(b"iTXt", b"Description\0\1\0de\0\0" + zlib.compress(b"Flut"))],
    ],
)
def test_texts_of_a_png_hold_blocks_and_captions(chunks):
    assert read(png(chunks))[0].caption == "Flut"


def test_what_stands_after_a_pngs_pixels_is_read_and_a_broken_text_costs_no_other():
    xml = packet(about(SAID)).encode()
    broken = chunk(b"zTXt", b"Raw profile type iptc\0\0not zlib")
    assert read(png([broken], [chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xml)]))[0].caption == "Boote"


def test_xmp_of_a_gif():
    out = io.BytesIO()
    Image.new("RGB", (8, 6)).save(out, "GIF")
    block = b"!\xff\x0bXMP DataXMP" + packet(about(SAID)).encode() + b"\1" + bytes(range(255, -1, -1)) + b"\0"
    assert read(out.getvalue()[:-1] + block + b";")[0].caption == "Boote"


def test_photoshops_resources_in_a_tiff():
    out = io.BytesIO()
    info = TiffImagePlugin.ImageFileDirectory_v2()
    info[34377], info.tagtype[34377] = resource(ds(2, 120, b"Flut")), 7
    Image.new("RGB", (8, 6)).save(out, "TIFF", tiffinfo=info)
    assert read(out.getvalue())[0].caption == "Flut"


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


def test_iptc_and_xmp_of_a_camera_raw_are_read():
    pytest.importorskip("rawpy")
    sets = b"\x1c\x01\x5a\x00\x03\x1b%G\x1c\x02\x69" + struct.pack(">H", 5) + "Köpf".encode()
    entry, trouble = metadata.read(dng(np.asarray(scene()), xmp=XMP.encode(), iptc=sets))
    assert (entry.headline, entry.caption, entry.byline) == ("Köpf", "Boote & Meer", "Ada Ott, Bo Lie")
    assert not trouble
