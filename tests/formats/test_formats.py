"""Formats besides Pillow's own: pictures that a script writes come back as they were, upright, with their metadata.

No camera's own RAW was to be had: a DNG that is written here stands for them.
"""

from __future__ import annotations

import io
import shutil
import struct
import subprocess
import zlib

import numpy as np
import pytest
from PIL import Image, ImageDraw, features

from photodesk import formats, images
from photodesk.errors import PhotoError

XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"/>'
TURNED = {1: (0, 0), 3: (-1, -1), 6: (-1, 0), 8: (0, -1)}  # EXIF orientation → where the stored top left corner comes


def scene(width: int = 320, height: int = 240) -> Image.Image:
    """Smooth colours, and one red corner at the top left."""
    seed = np.random.default_rng(3).integers(60, 250, (6, 8, 3), dtype=np.uint8)
    image = Image.fromarray(seed).resize((width, height), Image.Resampling.BICUBIC)
    ImageDraw.Draw(image).rectangle((0, 0, width // 4, height // 4), fill=(250, 0, 0))
    return image


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def exif(turn: int) -> bytes:
    block = Image.Exif()
    block[0x0112], block[0x010E] = turn, "Deich"
    return block.tobytes()


def distance(image: Image.Image, other: Image.Image) -> float:
    assert image.size == other.size
    return float(np.abs(np.asarray(image, float) - np.asarray(other, float)).mean())


def red(image: Image.Image) -> list[tuple[int, int]]:
    """Corners that are red, as places to index by."""
    pixels = np.asarray(image).astype(int)
    return [(x, y) for x in (0, -1) for y in (0, -1) if pixels[y, x, 0] > 170 and pixels[y, x, 1:].max() < 90]


def cut(data: bytes) -> None:
    """A file that is cut short anywhere is named."""
    for share in (0.01, 0.1, 0.5, 0.9, 0.99):
        with pytest.raises(PhotoError, match=r"^a .*get the picture again"):
            images.read(data[: int(len(data) * share)], where="a")


# JPEG XL


def jxl(pixels: np.ndarray, **options: object) -> bytes:
    return bytes(pytest.importorskip("imagecodecs").jpegxl_encode(pixels, **options))


def boxed(stream: bytes, *boxes: tuple[bytes, bytes]) -> bytes:
    """A container of JPEG XL, with boxes before its code stream."""
    parts = [(b"ftyp", b"jxl \0\0\0\0jxl "), *boxes, (b"jxlc", stream)]
    made = b"\0\0\0\x0cJXL \r\n\x87\n"
    return made + b"".join(struct.pack(">I", 8 + len(content)) + name + content for name, content in parts)


def test_jpeg_xl_of_every_depth_comes_back() -> None:
    pixels = np.asarray(scene())
    grey = pixels[..., 0]
    kinds = {
        "8 bits": pixels,
        "16 bits": pixels.astype(np.uint16) * 257,
        "real": (pixels / 255).astype(np.float32),
        "frames": np.stack([pixels, 255 - pixels]),
    }
    for name, given in kinds.items():
        found = images.read(jxl(given), where="a")
        assert (found.format, found.size, distance(found.image, scene())) == ("JXL", (320, 240), 0), name
    assert np.asarray(images.decode(jxl(grey), where="a"))[..., 1].tolist() == grey.tolist()
    clear = np.dstack([pixels, np.zeros_like(grey)])
    assert images.decode(jxl(clear), where="a").getextrema() == ((255, 255),) * 3
    cut(jxl(pixels))


@pytest.mark.parametrize("size", [(1, 1), (7, 300), (256, 256), (800, 600), (1920, 1080), (513, 1500)])
def test_the_size_of_a_jpeg_xl_is_known_before_it_is_decoded(size: tuple[int, int]) -> None:
    data = jxl(np.zeros((size[1], size[0], 3), np.uint8))
    assert images.opened(data, where="a").size == size
    if size[0] > 1:
        with pytest.raises(PhotoError, match=f"claims {size[0]} × {size[1]} pixels"):
            images.read(data, where="a", pixels=size[0] * size[1] - 1)


def test_metadata_of_a_jpeg_xl_lies_in_boxes_and_its_exif_turns_nothing() -> None:
    codecs = pytest.importorskip("imagecodecs")
    block = exif(6).removeprefix(b"Exif\0\0")
    stream = jxl(np.asarray(scene()))
    packed = b"xml " + bytes(codecs.brotli_encode(XMP))
    for boxes in ([(b"Exif", bytes(4) + block), (b"xml ", XMP)], [(b"Exif", bytes(4) + block), (b"brob", packed)]):
        found = images.read(boxed(stream, *boxes), where="a")
        assert (found.exif, found.xmp, found.size) == (block, XMP, (320, 240))
    whole = saved(scene(), "JPEG", quality=95, exif=exif(6))
    again = images.read(bytes(codecs.jpegxl_encode_jpeg(whole)), where="a")  # the code stream itself names the turn
    assert again.size == (240, 320)
    assert distance(again.image, images.decode(whole, where="a")) < 2


# AVIF and HEIF


avif = pytest.mark.skipif(not features.check("avif"), reason="this Pillow reads no AVIF")


@avif
@pytest.mark.parametrize("turn", TURNED)
def test_avif_is_upright_and_has_its_metadata(turn: int) -> None:
    data = saved(scene(), "AVIF", quality=95, exif=exif(turn), xmp=XMP)
    found = images.read(data, where="a")
    assert (found.format, found.xmp) == ("AVIF", XMP)
    assert b"Deich" in found.exif
    assert red(found.image) == [TURNED[turn]]
    cut(data)


def heic(tmp_path, image: Image.Image, turn: int = 1) -> bytes:
    pytest.importorskip("pi_heif")
    if not shutil.which("heif-enc"):
        pytest.skip("heif-enc writes the HEIC files of these tests: apt install libheif-examples")
    (tmp_path / "a.jpg").write_bytes(saved(image, "JPEG", quality=98, exif=exif(turn)))
    subprocess.run(["heif-enc", "-q", "98", "-o", tmp_path / "a.heic", tmp_path / "a.jpg"], check=True)
    return (tmp_path / "a.heic").read_bytes()


def test_heic_comes_back_with_its_metadata(tmp_path) -> None:
    data = heic(tmp_path, scene())
    found = images.read(data, where="a")
    assert (found.format, found.size) == ("HEIF", (320, 240))
    assert distance(found.image, scene()) < 3
    assert b"Deich" in found.exif
    cut(data)


def test_the_turn_of_a_heic_is_its_own_and_not_that_of_its_exif(tmp_path) -> None:
    """ISO 23008-12: what `irot` says is applied by every reader, and EXIF's orientation is for information only."""
    data = heic(tmp_path, scene(), 6)
    if b"irot" not in data:  # a heif-enc that copies EXIF only: nothing is turned
        assert red(images.decode(data, where="a")) == [(0, 0)]
        at = data.index(b"pixi")  # a property of 16 bytes that nobody needs
        assert data[at - 4 : at] == b"\0\0\0\x10"
        data = data[:at] + b"irot" + b"\3" + bytes(7) + data[at + 12 :]  # 270° against the clock
    found = images.read(data, where="a")
    assert (found.size, found.image.size) == ((240, 320), (240, 320))
    assert red(found.image) == [TURNED[6]]


# camera RAW


def dng(pixels: np.ndarray, preview: bytes = b"", turn: int = 1, xmp: bytes = b"", iptc: bytes = b"") -> bytes:
    """A DNG as cameras write them: its first directory is a JPEG preview, or a tiny thumbnail; below it lies what the
    sensor saw, RGGB in 16 bits."""
    out = bytearray(8)

    def put(content: bytes) -> int:
        out.extend(bytes(len(out) % 2))
        out.extend(content)
        return len(out) - len(content)

    def directory(tags: dict[int, tuple[str, tuple[int, ...]]]) -> int:
        entries = []
        for tag, (code, values) in sorted(tags.items()):
            kind, each = {"B": (1, 1), "H": (3, 1), "I": (4, 1), "R": (5, 2), "S": (10, 2), "A": (2, 1)}[code]
            packed = struct.pack(f"<{len(values)}{ {'R': 'I', 'S': 'i', 'A': 'B'}.get(code, code) }", *values)
            place = packed.ljust(4, b"\0") if len(packed) <= 4 else struct.pack("<I", put(packed))
            entries.append(struct.pack("<HHI", tag, kind, len(values) // each) + place)
        return put(struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4))

    height, width = pixels.shape[:2]
    deep = pixels.astype("<u2") * 257
    sensor = deep[..., 1].copy()
    sensor[::2, ::2], sensor[1::2, 1::2] = deep[::2, ::2, 0], deep[1::2, 1::2, 2]
    strip = put(sensor.tobytes())
    tags = {254: ("I", (0,)), 256: ("I", (width,)), 257: ("I", (height,)), 258: ("H", (16,)), 259: ("H", (1,))}
    tags |= {262: ("H", (32803,)), 273: ("I", (strip,)), 277: ("H", (1,)), 278: ("I", (height,))}
    tags |= {279: ("I", (sensor.nbytes,)), 33421: ("H", (2, 2)), 33422: ("B", (0, 1, 1, 2)), 50717: ("H", (65535,))}
    below = directory(tags)
    side = Image.open(io.BytesIO(preview)).size if preview else (16, 12)
    shown = preview or bytes(16 * 12 * 3)
    first = {254: ("I", (1,)), 256: ("I", side[:1]), 257: ("I", side[1:]), 258: ("H", (8, 8, 8))}
    first |= {259: ("H", (7 if preview else 1,)), 262: ("H", (6 if preview else 2,)), 273: ("I", (put(shown),))}
    first |= {277: ("H", (3,)), 278: ("I", side[1:]), 279: ("I", (len(shown),)), 330: ("I", (below,))}
    first |= {271: ("A", tuple(b"Maker\0")), 272: ("A", tuple(b"One\0")), 274: ("H", (turn,))}
    first |= {50706: ("B", (1, 4, 0, 0)), 50708: ("A", tuple(b"Maker One\0")), 50778: ("H", (21,))}
    first |= {50721: ("S", tuple(v for i in range(9) for v in (int(i % 4 == 0), 1))), 50728: ("R", (1,) * 6)}
    if xmp:
        first[700] = ("B", tuple(xmp))
    if iptc:
        first[33723] = ("B", tuple(iptc))
    at = directory(first)
    out[:8] = b"II*\0" + struct.pack("<I", at)
    return bytes(out)


@pytest.mark.parametrize("turn", TURNED)
@pytest.mark.parametrize("preview", ["full", "upright", "small", "none"])
def test_a_raw_is_its_preview_upright(turn: int, preview: str) -> None:
    pytest.importorskip("rawpy")
    scenery = scene(800, 600)
    stored = {"none": b"", "small": saved(scenery.resize((160, 120)), "JPEG")}.get(preview)
    if preview == "upright":  # some cameras turn their previews, but not the data
        back = {1: None, 3: None, 6: Image.Transpose.ROTATE_270, 8: Image.Transpose.ROTATE_90}[turn]
        stored = saved(scenery if back is None else scenery.transpose(back), "JPEG", quality=95)
    if stored is None:
        stored = saved(scenery, "JPEG", quality=95)
    found = images.read(dng(np.asarray(scenery), stored, turn, XMP), where="a")
    size = (800, 600) if turn < 5 else (600, 800)
    assert (found.format, found.size, found.image.size, found.xmp) == ("RAW", size, size, XMP)
    assert red(found.image) == [TURNED[turn]]
    if turn == 1 and preview == "full":
        assert distance(found.image, scenery) < 3


def test_the_metadata_of_a_raw_is_that_of_its_first_directory() -> None:
    pytest.importorskip("rawpy")
    from photodesk.archive import metadata

    xmp = (
        b'<r:RDF xmlns:r="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><r:Description '
        b'xmlns:p="http://ns.adobe.com/photoshop/1.0/" p:Headline="Hochwasser"/></r:RDF>'
    )
    entry, notes = metadata.read(images.read(dng(np.asarray(scene(800, 600)), xmp=xmp), where="a"))
    assert (entry.headline, entry.width, entry.height, notes) == ("Hochwasser", 800, 600, ())


def test_a_raw_is_not_taken_for_the_tiff_that_it_looks_like() -> None:
    data = dng(np.asarray(scene(64, 48)))
    assert formats.kind(data) == "RAW"
    assert formats.kind(saved(scene(), "TIFF")) == ""
    assert formats.kind(b"\0\0\0\x18ftypcrx \0\0\0\1crx isom") == "RAW"


# what is not installed


@pytest.mark.parametrize(
    "data",
    [
        b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",
        b"\0\0\0\x1cftypmif1\0\0\0\0mif1avifmiaf",
        b"\xff\x0a" + bytes(20),
        b"FUJIFILMCCD-RAW 0201",
    ],
)
def test_without_its_library_a_format_is_named_with_what_brings_it(monkeypatch, data: bytes) -> None:
    monkeypatch.setattr(formats, "available", lambda name: name not in formats.SUFFIXES)
    with pytest.raises(PhotoError, match=r'not installed; run: pip install "photodesk\[formats\]"') as error:
        images.read(data, where="a")
    assert error.value.code == "photo-format"
    assert formats.lacking(".heic")
    assert not formats.lacking(".jpg")


# JPEG without its end marker


def endings(data: bytes) -> dict[str, bytes]:
    return {"none": data[:-2], "half": data[:-1], "zeros": data[:-2] + bytes(500), "text": data[:-2] + b"\r\n"}


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0, "restart_marker_rows": 1}])
def test_a_jpeg_without_its_end_marker_lacks_no_pixel(options: dict[str, object]) -> None:
    data = saved(scene(), "JPEG", quality=90, **options)
    whole = images.decode(data, where="a")
    for name, ended in endings(data).items():
        assert images.decode(ended, where="a").tobytes() == whole.tobytes(), name


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_that_lacks_pixels_is_cut_short_whatever_fills_its_end(progressive: bool) -> None:
    data = saved(scene(), "JPEG", quality=90, progressive=progressive)
    scans = [at for at in range(len(data)) if data[at : at + 2] == b"\xff\xda"]
    for end in (len(data) // 2, len(data) - 40, len(data) - 12, *(scans[1:] if progressive else ())):
        for rest in (b"", b"\xff", bytes(2000)):
            with pytest.raises(PhotoError, match="is cut short"):
                images.decode(data[:end] + rest, where="a")


# TIFF of 16 bits


def tiff(pixels: np.ndarray, photometric: int, *, planes: bool, packed: bool, order: str, turn: int = 1) -> bytes:
    """A TIFF file with one strip a plane."""
    height, width = pixels.shape[:2]
    samples = 1 if pixels.ndim == 2 else pixels.shape[2]
    ordered = pixels.astype(pixels.dtype.newbyteorder(order))
    parts = [ordered[..., i] for i in range(samples)] if planes else [ordered]
    strips = [zlib.compress(part.tobytes()) if packed else part.tobytes() for part in parts]
    at = [8 + sum(map(len, strips[:i])) for i in range(len(strips))]
    tags = {256: (width,), 257: (height,), 258: (pixels.itemsize * 8,) * samples, 259: (8 if packed else 1,)}
    tags |= {262: (photometric,), 273: at, 274: (turn,), 277: (samples,), 278: (height,)}
    tags |= {279: [len(strip) for strip in strips], 284: (2 if planes else 1,)}
    first = 8 + sum(map(len, strips))
    more, values, entries = first + 2 + 12 * len(tags) + 4, b"", b""
    for tag, numbers in sorted(tags.items()):
        content = struct.pack(f"{order}{len(numbers)}I", *numbers)
        place = content if len(content) == 4 else struct.pack(order + "I", more + len(values))
        values += content if len(content) > 4 else b""
        entries += struct.pack(order + "HHI", tag, 4, len(numbers)) + place
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", first)
    return head + b"".join(strips) + struct.pack(order + "H", len(tags)) + entries + bytes(4) + values


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("packed", [False, True])
def test_deep_tiff_files_are_read_as_they_were_meant(order: str, packed: bool) -> None:
    pixels = np.asarray(scene())
    deep, grey = pixels.astype(np.uint16) * 257, pixels[..., 0]
    for planes in (True, False):
        for given in (deep, pixels):
            data = tiff(given, 2, planes=planes, packed=packed, order=order)
            assert distance(images.decode(data, where="a"), scene()) == 0, (planes, given.dtype)
    for given in (65535 - deep[..., 0], 255 - grey):  # white is zero
        data = tiff(given, 0, planes=False, packed=packed, order=order)
        assert np.asarray(images.decode(data, where="a"))[..., 0].tolist() == grey.tolist()
    turned = images.read(tiff(deep, 2, planes=True, packed=packed, order=order, turn=6), where="a")
    assert (turned.size, red(turned.image)) == ((240, 320), [TURNED[6]])
    inks = np.dstack([65535 - deep, np.zeros_like(deep[..., 0])])
    for planes in (True, False):
        assert distance(images.decode(tiff(inks, 5, planes=planes, packed=packed, order=order), where="a"), scene()) < 2


def test_a_deep_tiff_that_is_cut_short_is_named() -> None:
    pixels = np.asarray(scene()).astype(np.uint16) * 257
    data = bytearray(tiff(pixels, 2, planes=True, packed=False, order="<"))
    places = struct.pack("<3I", 8, 8 + 320 * 240 * 2, 8 + 2 * 320 * 240 * 2)
    at = data.index(places, 8 + 3 * 320 * 240 * 2)
    data[at + 8 : at + 12] = struct.pack("<I", len(data) - 100)  # the last plane ends behind the file
    with pytest.raises(PhotoError, match=r"is cut short|is damaged"):
        images.read(bytes(data), where="a")


# inks


def test_inks_of_a_jpeg_are_inverted_only_where_adobe_says_so() -> None:
    colour = Image.new("CMYK", (64, 64), (0, 255, 255, 0))
    data = saved(colour, "JPEG", quality=95)
    assert b"Adobe" in data
    at = data.index(b"\xff\xee")
    bare = data[:at] + data[at + 2 + int.from_bytes(data[at + 2 : at + 4], "big") :]
    shown = images.decode(data, where="a").getpixel((30, 30))
    assert max(abs(a - b) for a, b in zip(shown, (255, 0, 0), strict=True)) < 6
    # without the marker the same numbers are inks as they are: little cyan is much cyan then
    plain = images.decode(bare, where="a").getpixel((30, 30))
    inks = tuple(255 - ink for ink in (0, 255, 255, 0))
    expected = tuple(round((255 - ink) * (255 - inks[3]) / 255) for ink in inks[:3])
    assert max(abs(a - b) for a, b in zip(plain, expected, strict=True)) < 6
