"""Files that are two things at once, broken or odd: each is decoded by one decoder, or named, and costs no other file
anything."""

from __future__ import annotations

import io
import random
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from archive.test_metadata import FULL, XMP, exif_block, iptc, xmp
from doubles import EchoPhotos, EchoTexts, echo, paint
from formats.test_formats import boxed, dng, heic, jxl
from photodesk import formats, images
from photodesk.archive import commands, maintenance, metadata, migration
from photodesk.archive.archive import Archive
from photodesk.encoders.base import Encoder
from photodesk.errors import PhotoError
from photodesk.evaluation import contact_sheet
from photodesk.features.store import Store
from photodesk.files import digest
from photodesk.types import Photo

pytest.importorskip("defusedxml")
SIZE = (9, 6)
ODD = (37, 11)  # a picture of this size is what an encoder below cannot take


def tiff(*more: bytes, first: int = 8, last: bytes = b"") -> bytes:
    """A big-endian grey TIFF of `SIZE`, with these entries as well; its directory begins at byte `first`."""
    width, height = SIZE
    entries = [*more]
    entries += [short(256, width), short(257, height), short(258, 8), short(259, 1), short(262, 1)]
    entries += [short(277, 1), short(278, height), entry(279, 4, 1, width * height)]
    count = 42 if first == 2 else len(entries) + 1  # there the count is the 42 of the header
    at = first + 2 + 12 * count + 4
    entries.append(entry(273, 4, 1, at))
    entries += [short(60_000 + i, 0) for i in range(count - len(entries))]
    head = b"MM" + (b"" if first == 2 else struct.pack(">HI", 42, first))
    return head + struct.pack(">H", count) + b"".join(entries) + bytes(4) + bytes(range(width * height)) + last


def entry(tag: int, kind: int, count: int, value: int) -> bytes:
    return struct.pack(">HHIi" if kind == 9 else ">HHII", tag, kind, count, value)


def short(tag: int, value: int) -> bytes:
    return struct.pack(">HHIHH", tag, 3, 1, value, 0)


def brush(width: int, height: int) -> bytes:
    """A TIFF that is a GIMP brush too: what TIFF reads as place of its directory, tags and counts, a brush has as
    version and size."""
    made = tiff(entry(0, 2, width, height), entry(0, 1, int.from_bytes(b"GIMP"), 10), first=2)
    assert made[:8] == b"MM\0\x2a\0\0\0\x02"
    return made


POLYGLOTS = {"bomb.tif": (60_000, 60_000), "other.tif": (12, 34)}
BROKEN_TAGS = {
    "place of EXIF before the file": entry(0x8769, 9, 1, -5),
    "place of EXIF behind the file": entry(0x8769, 4, 1, 0xFFFFFFF0),
    "place of GPS before the file": entry(0x8825, 9, 1, -5),
    "two turns": entry(0x0112, 3, 2, 0x00010001),
    "more text than the file has": entry(270, 2, 1 << 20, 8),
}


@pytest.fixture
def desk(tmp_path):
    """An archive without photos beside a folder of two good pictures."""
    for word in ("Elbe", "Wien"):
        paint(tmp_path / "photos" / f"{word}.png", word)
    with Archive.create(tmp_path / "desk", echo(), engine="flat:index") as archive:
        yield archive


def add(archive, folder, encoder=echo):
    return commands.run(archive, encoder, "add", {"folders": [str(folder)]}, lambda *_: None)


def test_a_file_that_is_a_tiff_to_the_decoder_is_nothing_else_elsewhere(desk, tmp_path, monkeypatch):
    Image.init()
    monkeypatch.setattr(
        Image, "ID", ["GBR", *Image.ID]
    )  # as where no other plugin was loaded first: without a list, this order decides
    for name, stated in POLYGLOTS.items():
        (tmp_path / "photos" / name).write_bytes(brush(*stated))
    with Image.open(io.BytesIO(brush(12, 34))) as other:
        assert (other.format, other.size) == ("GBR", (12, 34))  # else this tests nothing
    done = add(desk, tmp_path / "photos")
    assert (done.message, done.faults) == ("4 photos added", [])
    sizes = {
        point.entry.source: (point.entry.width, point.entry.height) for points in desk.engine.scan() for point in points
    }
    assert sizes == {"Elbe.png": (40, 30), "Wien.png": (40, 30), "bomb.tif": SIZE, "other.tif": SIZE}
    for name in POLYGLOTS:
        assert images.load(tmp_path / "photos" / name).size == SIZE


class Choosy(EchoPhotos):
    """Raises what it is given for pictures of size `ODD`."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self._error = error

    def prepare(self, photo):
        if photo.size == ODD:
            raise self._error
        return super().prepare(photo)


ERRORS = [
    SyntaxError("not a picture"),
    struct.error("unpack requires a buffer"),
    ValueError("negative seek"),
    KeyError(3),
    AttributeError("tag_v2"),
    RecursionError(),
    MemoryError(),
    ZeroDivisionError("division by zero"),
    OverflowError("too large"),
    OSError("broken data stream"),
    OSError(5, "Input/output error"),
    Image.DecompressionBombError("a bomb"),
    AssertionError(),
]


@pytest.mark.parametrize("error", ERRORS, ids=repr)
def test_any_error_of_one_file_costs_that_file_only(desk, tmp_path, error):
    paint(tmp_path / "photos/Odd.png", "Odd", ODD)
    odd = tmp_path / "photos/Odd.png"
    done = add(desk, tmp_path / "photos", lambda: Encoder("echo", EchoTexts(), Choosy(error)))
    assert done.message == "2 photos added, 1 left out"
    (fault,) = done.faults
    assert (fault.where, fault.fate) == (str(odd), "left out")
    assert fault.what.split(":")[0] in ("is damaged", "is too large", "cannot be read")
    assert fault.what.rstrip(": ") == fault.what  # it says something
    assert desk.database.jobs(1)[0].state == "done"
    named = [Photo(path.name, path) for path in sorted((tmp_path / "photos").iterdir())]
    kept, _, faults = Store(tmp_path / "store").photos(named, Choosy(error))
    assert [photo.id for photo in kept] == ["Elbe.png", "Wien.png"]
    assert faults == [fault]


def test_an_error_in_a_step_after_decoding_is_a_fault_wherever_pictures_pass(desk, tmp_path, monkeypatch):
    add(desk, tmp_path / "photos")
    (elbe,) = (photo for photo in map(Photo, ["Elbe"], [tmp_path / "photos/Elbe.png"]))

    def fails(*_: object, **__: object) -> None:
        raise SystemError("tile cannot extend outside image")

    with monkeypatch.context() as broken:
        broken.setattr(Image.Image, "save", fails)
        desk.thumbnail(digest(elbe.path.read_bytes()).hex()).unlink()
        (fault,) = maintenance.verify(desk, repair=True)
        assert (fault.where, fault.fate) == (str(elbe.path), "kept")
        assert "the thumbnail is missing, and the file is damaged: tile cannot extend" in fault.what
        assert contact_sheet._thumbnail(elbe)[1].startswith("Cannot be shown: Elbe.png is damaged: tile cannot extend")
    with monkeypatch.context() as broken:
        broken.setattr(images, "phash", fails)
        ((_, error),) = images.hashes([elbe])
        assert isinstance(error, PhotoError)


def test_another_model_leaves_out_what_cannot_be_read_any_more(desk, tmp_path):
    paint(tmp_path / "photos/Odd.png", "Odd", ODD)
    add(desk, tmp_path / "photos")
    odd = digest((tmp_path / "photos/Odd.png").read_bytes()).hex()
    tower = Choosy(ValueError("no"))
    tower.fingerprint = "choosy"
    count, faults = migration.reencode(desk, Encoder("choosy", EchoTexts(), tower), lambda *_: None)
    assert count == desk.engine.count() == 2
    assert [(fault.where, fault.fate) for fault in faults] == [(odd, "left out")]
    assert desk.settings.encoder == "choosy"


@pytest.mark.parametrize("kind", BROKEN_TAGS)
def test_a_broken_tag_costs_no_picture(kind):
    picture = images.read(tiff(BROKEN_TAGS[kind]), where="x")  # a warning would be an error here
    assert (picture.format, picture.size, picture.image.getpixel((3, 0))) == ("TIFF", SIZE, (3, 3, 3))
    known, _ = metadata.read(picture)
    assert (known.width, known.height) == SIZE


def test_a_sidecar_that_leads_nowhere_costs_no_picture(desk, tmp_path):
    (tmp_path / "photos/Elbe.xmp").symlink_to(tmp_path / "nothing")
    assert add(desk, tmp_path / "photos").message == "2 photos added"


def test_a_thumbnail_keeps_nothing_of_what_the_file_says(desk, tmp_path):
    path = tmp_path / "photos/said.jpg"
    Image.new("RGB", (30, 20)).save(
        path, "JPEG", comment=b"a secret", exif=exif_block(), xmp=XMP.encode(), icc_profile=b"a profile"
    )
    add(desk, tmp_path / "photos")
    small = desk.thumbnail(digest(path.read_bytes()).hex()).read_bytes()
    assert not any(said in small for said in (b"secret", b"Exif", b"Boote", b"profile"))


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere Pillow may have libtiff built in, out of reach")
def test_nothing_that_libraries_say_of_odd_files_is_printed(tmp_path):
    for i, tag in enumerate(BROKEN_TAGS.values()):
        (tmp_path / f"{i}.tif").write_bytes(tiff(tag))
    (tmp_path / "samples.tif").write_bytes(tiff().replace(short(277, 1), short(277, 1000)))
    out = io.BytesIO()
    Image.effect_noise((40, 30), 50).save(out, "TIFF", compression="tiff_lzw")
    rng = random.Random(0)
    for i in range(20):
        data = bytearray(out.getvalue())
        data[rng.randrange(8, 400)] ^= 0xFF
        (tmp_path / f"lzw{i}.tif").write_bytes(data)
    code = (
        "import pathlib, sys\nfrom photodesk import images\nfrom photodesk.archive import metadata\n"
        "from photodesk.errors import PhotoError\nbroken = 0\n"
        "for path in sorted(pathlib.Path(sys.argv[1]).iterdir()):\n"
        "    try:\n        metadata.read(images.read(path.read_bytes(), where=path.name))\n"
        "    except PhotoError:\n        broken += 1\n"
        "print(broken > 5)"
    )
    done = subprocess.run(
        [sys.executable, "-W", "always", "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == ("True\n", "")


def saved(kind: str, folder: Path) -> bytes:
    """A small picture with all the blocks that its format can hold."""
    noise = Image.effect_noise((48, 36), 60).convert("RGB")
    if kind == "HEIF":
        return heic(folder, noise, 6)
    if kind == "JXL":
        block = exif_block(**{f"t{0x0112}": 6}).tobytes().removeprefix(b"Exif\0\0")
        return boxed(jxl(np.asarray(noise)), (b"Exif", bytes(4) + block), (b"xml ", XMP.encode()))
    if kind == "RAW":
        pytest.importorskip("rawpy")
        preview = io.BytesIO()
        noise.save(preview, "JPEG")
        return dng(np.asarray(noise), preview.getvalue(), 6, XMP.encode())
    if kind == "AVIF" and not formats.available(kind):
        pytest.skip("this Pillow reads no AVIF")
    blocks = {"exif": exif_block(**{f"t{0x0112}": 6})} if kind in ("JPEG", "PNG", "WEBP", "TIFF", "AVIF") else {}
    out = io.BytesIO()
    image = Image.effect_noise((48, 36), 60)
    image.convert("P" if kind == "GIF" else "RGB").save(
        out, kind, **blocks, **({"xmp": XMP.encode()} if kind in ("WEBP", "AVIF") else {})
    )
    data = out.getvalue()
    return data[:2] + xmp(XMP) + iptc(FULL) + data[2:] if kind == "JPEG" else data


def with_sums(data: bytes) -> bytes:
    """A PNG whose chunks have right checksums again, so that what is wrong in them is met."""
    made, at = bytearray(data), 8
    while at + 12 <= len(made):
        end = at + 8 + int.from_bytes(made[at : at + 4])
        made[end : end + 4] = zlib.crc32(made[at + 4 : end]).to_bytes(4)
        at = end + 4
    return bytes(made)


@pytest.mark.parametrize("kind", images.FORMATS)
def test_a_damaged_picture_is_a_photo_error_or_has_the_size_of_its_pixels(kind, tmp_path):
    whole, rng = saved(kind, tmp_path), random.Random(kind)
    read = {True: 0, False: 0}
    for _ in range(600):
        data = bytearray(whole)
        for _ in range(rng.choice((1, 1, 2, 8))):
            at = rng.randrange(
                len(data) if rng.random() < 0.3 else min(len(data), 600)
            )  # headers and blocks stand in front
            match rng.randrange(4):
                case 0:
                    data[at] ^= 1 << rng.randrange(8)
                case 1:
                    data[at : at + 4] = rng.choice(
                        (bytes(4), b"\xff" * 4, b"\x7f\xff\xff\xff", b"\0\0\0\x80", rng.randbytes(4))
                    )
                case 2:
                    del data[at : at + rng.randrange(1, 40)]
                case 3:
                    data[at:at] = rng.randbytes(rng.randrange(1, 40))
        broken = with_sums(data) if kind == "PNG" else bytes(data)
        try:
            full = images.read(broken, where="x", pixels=10**6)
            small = images.read(broken, where="x", size=9, pixels=10**6)
        except PhotoError:
            read[False] += 1
            continue
        read[True] += 1
        for picture in (full, small):
            known, _ = metadata.read(picture)
            assert (known.width, known.height) == full.image.size
            assert picture.image.mode == "RGB"
            assert picture.format in images.FORMATS
    assert min(read.values()) > 20  # both happen
