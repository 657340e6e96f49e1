"""Pictures from strangers: each kind is decoded as it was meant, or named; the hash finds the same picture again."""

import contextlib
import io
import random
import sys
import threading
import warnings
import zlib
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from photodesk import images
from photodesk.errors import PhotoError
from photodesk.types import Photo


def scene(seed: int = 0, size: tuple[int, int] = (320, 240)) -> Image.Image:
    """A smooth background with blocks on it: like a photo, it has most of its power in low frequencies."""
    rng = random.Random(seed)
    image = Image.linear_gradient("L").resize(size).convert("RGB")
    draw = ImageDraw.Draw(image)
    for _ in range(14):
        x, y = rng.randrange(size[0]), rng.randrange(size[1])
        colour = tuple(rng.randrange(256) for _ in range(3))
        draw.ellipse((x, y, x + rng.randrange(20, 160), y + rng.randrange(20, 160)), fill=colour)
    return image


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def decode(data: bytes, size: int = 0) -> Image.Image:
    image = images.decode(data, size=size, where="desk/a.jpg")
    assert image.mode == "RGB"
    return image


def close(image: Image.Image, other: Image.Image, tolerance: float) -> bool:
    assert image.size == other.size
    return float(np.abs(np.asarray(image, float) - np.asarray(other, float)).mean()) <= tolerance


@pytest.mark.parametrize(
    ("kind", "options", "tolerance"),
    [
        ("JPEG", {"quality": 95}, 3),
        ("JPEG", {"quality": 95, "progressive": True}, 3),
        ("PNG", {}, 0),
        ("WEBP", {"quality": 95}, 4),
        ("WEBP", {"lossless": True}, 0),
        ("TIFF", {}, 0),
        ("TIFF", {"compression": "tiff_lzw"}, 0),
        ("BMP", {}, 0),
        ("GIF", {}, 12),
    ],
)
def test_every_format_comes_back_as_it_was(kind: str, options: dict[str, object], tolerance: float) -> None:
    data = encoded(scene(), kind, **options)
    assert close(decode(data), scene(), tolerance)
    assert decode(data).tobytes() == decode(data).tobytes()
    for share in (0.01, 0.1, 0.3, 0.5, 0.8, 0.97):
        with pytest.raises(PhotoError, match=r"^desk/a\.jpg .*get the picture again"):
            decode(data[: int(len(data) * share)])


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("turn", range(1, 9))
def test_exif_turns_are_undone(kind: str, turn: int) -> None:
    # where the corner of the upright picture lies in a file with that orientation: EXIF 2.3, table 6
    upright = Image.new("RGB", (60, 40), "white")
    upright.paste("black", (0, 0, 20, 10))
    inverse = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = upright.transpose(inverse[turn]) if turn > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = turn
    assert close(decode(encoded(stored, kind, exif=exif)), upright, 3)


def test_broken_exif_costs_no_picture() -> None:
    data = encoded(scene(), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff garbage")
    assert close(decode(data), decode(encoded(scene(), "JPEG")), 0)


def test_transparency_lies_on_white() -> None:
    clear = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
    clear.paste((0, 0, 255, 255), (0, 0, 4, 8))
    half = Image.new("LA", (8, 8), (0, 51))
    for image, left, right in ((clear, (0, 0, 255), (255, 255, 255)), (half, (204, 204, 204), (204, 204, 204))):
        for kind in ("PNG", "WEBP"):
            shown = decode(encoded(image, kind, **({"lossless": True} if kind == "WEBP" else {})))
            assert (shown.getpixel((0, 0)), shown.getpixel((7, 0))) == (left, right)
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([0, 0, 0, 255, 0, 0])
    palette.putpixel((0, 0), 0)
    for kind in ("PNG", "GIF"):
        shown = decode(encoded(palette, kind, transparency=0))
        assert (shown.getpixel((0, 0)), shown.getpixel((1, 0))) == ((255, 255, 255), (255, 0, 0))
    levels = decode(
        encoded(palette, "PNG", transparency=b"\x00\xff")
    )  # one alpha a colour: Pillow warns where it is converted
    assert (levels.getpixel((0, 0)), levels.getpixel((1, 0))) == ((255, 255, 255), (255, 0, 0))


def test_cmyk_comes_out_in_its_colours() -> None:
    red = Image.new("CMYK", (64, 64), (0, 255, 255, 0))
    for kind in ("JPEG", "TIFF"):
        assert close(decode(encoded(red, kind)), Image.new("RGB", (64, 64), (255, 0, 0)), 3)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_not_clipped(kind: str) -> None:
    ramp = np.linspace(0, 65535, 256).round().astype(np.uint16).reshape(16, 16)
    shown = np.asarray(decode(encoded(Image.fromarray(ramp), kind)))[..., 0]
    np.testing.assert_array_equal(shown.ravel(), np.arange(256))


def test_wide_and_real_grey_levels_use_their_range() -> None:
    wide = np.array([[-5, 100_000], [50_000, 200_000]], np.int32)
    assert np.asarray(decode(encoded(Image.fromarray(wide), "TIFF")))[..., 0].tolist() == [[0, 128], [64, 255]]
    real = np.array([[0, 1], [0.5, np.nan]], np.float32)
    assert np.asarray(decode(encoded(Image.fromarray(real), "TIFF")))[..., 0].tolist() == [[0, 255], [128, 0]]


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_an_animation_the_first_frame_is_taken(kind: str) -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue", "lime")]
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    assert decode(data).getpixel((8, 8)) == (255, 0, 0)


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"", "is empty"),
        (b"<!DOCTYPE html><title>404</title>", "a web page"),
        (b"Not found\n", "a text"),
        (b"<?xml version='1.0'?><svg/>", "XML or SVG"),
        (b"\0\0\0\x1cftypisom" + bytes(40), "a video file"),
        (b"\x7fELF" + bytes(40), "7f 45 4c 46"),
        (b"%PDF-1.7\n\0", "25 50 44 46"),
    ],
)
def test_what_is_no_picture_is_called_by_its_name(data: bytes, what: str) -> None:
    with pytest.raises(PhotoError, match=what):
        decode(data)


def png_claiming(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")

    head = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([1, 0, 0, 0, 0])
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(("width", "height"), [(13_350, 13_350), (16_000, 16_000), (60_000, 60_000)])
def test_decompression_bombs_are_refused_before_they_are_unpacked(width: int, height: int) -> None:
    with pytest.raises(PhotoError, match=r"is too large: it claims .*pixels; make it smaller"):
        decode(png_claiming(width, height))


def test_large_photos_of_real_cameras_raise_no_warning() -> None:
    data = encoded(Image.new("L", (12_000, 9_000), 200), "JPEG")  # 108 Mpx, above Pillow's warning
    image = decode(data, 224)
    assert (image.size, image.getpixel((5, 5))) == ((1500, 1125), (200, 200, 200))


@given(side=st.integers(1, 400), size=st.integers(1, 500))
@settings(max_examples=40, deadline=None)
def test_drafts_keep_the_shorter_side(side: int, size: int) -> None:
    data = encoded(Image.new("RGB", (side * 2, side), "navy"), "JPEG")
    scale = max(scale for scale in (1, 2, 4, 8) if scale == 1 or side >= scale * size)
    assert min(decode(data, size).size) == -(-side // scale)


def test_a_draft_looks_like_the_whole_picture_made_small() -> None:
    data = encoded(scene(1, (1600, 1200)), "JPEG", quality=90)
    draft = decode(data, 300)
    assert draft.size == (400, 300)
    assert close(draft, decode(data).resize((400, 300), Image.Resampling.BOX), 2)


@given(
    st.binary(max_size=200),
    st.sampled_from(["JPEG", "PNG", "GIF", "TIFF", "BMP", "WEBP"]),
    st.integers(0, 400),
    st.data(),
)
@settings(max_examples=300, deadline=None)
def test_any_bytes_give_a_picture_or_a_photo_error(noise: bytes, kind: str, at: int, data: st.DataObject) -> None:
    whole = bytearray(encoded(scene(2, (24, 18)), kind))
    whole[at : at + data.draw(st.integers(0, len(noise)))] = noise
    for candidate in (bytes(whole), noise):
        with contextlib.suppress(PhotoError):
            assert decode(candidate).mode == "RGB"


@pytest.fixture
def _restless() -> Iterator[None]:
    """Threads that take turns after every few instructions."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(usual)


@pytest.mark.usefixtures("_restless")
def test_threads_share_the_warning_state_without_a_trace() -> None:
    good, odd = encoded(scene(), "JPEG"), encoded(scene(), "JPEG", exif=b"Exif\0\0II*\0\xff\xff")
    before = list(warnings.filters)
    wrong: list[object] = []

    def work() -> None:
        for _ in range(20):
            wrong.extend(size for size in (decode(good, 64).size, decode(odd, 64).size) if size != (160, 120))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert list(warnings.filters) == before


def test_load_names_what_cannot_be_read(tmp_path) -> None:
    with pytest.raises(PhotoError, match=r"none\.jpg cannot be read: No such file"):
        images.load(tmp_path / "none.jpg")
    with pytest.raises(PhotoError, match="cannot be read"):
        images.load(tmp_path)
    (tmp_path / "a.png").write_bytes(encoded(scene(), "PNG"))
    assert close(images.load(tmp_path / "a.png"), scene(), 0)


def test_files_of_absurd_size_are_not_read(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(images, "MAX_BYTES", 2**20)
    (tmp_path / "a.png").write_bytes(bytes(2**20 + 1))
    with pytest.raises(PhotoError, match="more than 1 MiB"):
        images.load(tmp_path / "a.png")


def bits(a: Image.Image, b: Image.Image) -> int:
    return (images.phash(a) ^ images.phash(b)).bit_count()


@pytest.mark.parametrize("seed", range(8))
def test_hash_survives_scale_and_compression_and_tells_pictures_apart(seed: int) -> None:
    image = scene(seed)
    small = image.resize((97, 61))
    again = decode(encoded(image, "JPEG", quality=25))
    assert bits(image, small) <= images.NEAR
    assert bits(image, again) <= images.NEAR
    assert min(bits(image, scene(other)) for other in range(100, 130)) > images.NEAR


def test_hash_is_the_cosine_transform_written_out() -> None:
    image = scene(3).convert("L").resize((32, 32), Image.Resampling.BOX)
    grey = [[image.getpixel((x, y)) for x in range(32)] for y in range(32)]

    def wave(k: int, x: int) -> float:
        return np.cos(np.pi / 32 * k * (x + 0.5))

    def power(v: int, u: int) -> float:
        return sum(grey[y][x] * wave(v, y) * wave(u, x) for y in range(32) for x in range(32))

    order = [
        (v, k - v) for k in range(1, 11) for v in sorted(range(k + 1), key=lambda v: (max(v, k - v), v))
    ]  # outward, diagonal by diagonal
    signs = "".join("1" if power(v, u) > 0 else "0" for v, u in order[:64])
    assert images.phash(scene(3)) == int(signs, 2)


@pytest.mark.parametrize(("left", "right"), [(0.02, 0), (0, 0.02), (0.02, 0.02)])
def test_hash_survives_small_crops(left: float, right: float) -> None:
    near = 0
    for seed in range(20):
        image = scene(seed)
        w, h = image.size
        near += (
            bits(image, image.crop((round(w * left), round(h * left), round(w - w * right), round(h - h * right))))
            <= images.NEAR
        )
    assert near >= 18


def naive_groups(prints: list[int], near: int) -> list[tuple[int, ...]]:
    groups = [{i} for i in range(len(prints))]
    for i in range(len(prints)):
        for j in range(i):
            if (prints[i] ^ prints[j]).bit_count() <= near:
                a, b = (next(g for g in groups if k in g) for k in (i, j))
                if a is not b:
                    a |= b
                    groups.remove(b)
    return sorted(tuple(sorted(group)) for group in groups if len(group) > 1)


@given(
    st.lists(
        st.tuples(st.sampled_from([0, 2**64 - 1, 0xAAAA5555AAAA5555]), st.sets(st.integers(0, 63), max_size=9)),
        max_size=60,
    )
)
@settings(max_examples=60, deadline=None)
def test_groups_are_those_of_all_pairs(seeds: list[tuple[int, set[int]]]) -> None:
    prints = [base ^ sum(1 << bit for bit in flips) for base, flips in seeds]
    assert images.near_duplicates(prints, near=6) == naive_groups(prints, 6)


def test_groups_of_many_pictures() -> None:
    rng = np.random.default_rng(0)
    prints = [int(value) for value in rng.integers(0, 2**63, 10_000, dtype=np.uint64)]
    prints[9_000] = prints[3] ^ 0b1011
    prints[17] = prints[9_000]
    assert images.near_duplicates(prints, near=3) == [(3, 17, 9_000)]
    assert images.near_duplicates([5] * 10_000) == [tuple(range(10_000))]
    assert images.near_duplicates([]) == []


def test_grouping_takes_memory_for_a_block_however_many_pictures() -> None:
    import tracemalloc

    prints = np.random.default_rng(0).integers(0, 2**63, 20_000, dtype=np.uint64)
    tracemalloc.start()
    images.near_duplicates(prints)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 40e6  # 512 rows of all columns are 82 MB


def test_reading_a_file_takes_memory_for_the_file(tmp_path) -> None:
    import tracemalloc

    data = np.random.default_rng(0).bytes((5 << 19) + 3)
    (tmp_path / "a.png").write_bytes(data)
    tracemalloc.start()
    assert images.content(tmp_path / "a.png") == data
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * len(data)


def test_plain_pictures_are_near_to_those_of_their_colour_only() -> None:
    colours = [(255, 255, 255), (0, 0, 0), (200, 30, 30), (30, 30, 200), (128, 128, 128), (10, 200, 30)]
    prints = [images.phash(Image.new("RGB", (320, 240), colour)) for colour in colours]
    assert images.near_duplicates(prints) == []
    for colour, found in zip(colours, prints, strict=True):
        again = decode(encoded(Image.new("RGB", (100, 300), colour), "PNG"))
        assert images.phash(again) == found
    noise = np.random.default_rng(0).integers(-2, 3, (240, 320, 3)) + 100
    assert images.phash(Image.fromarray(noise.astype(np.uint8))) == images.phash(Image.new("RGB", (9, 9), (100,) * 3))


def test_hashes_keep_the_order_and_name_the_broken(tmp_path) -> None:
    for name in "abc":
        (tmp_path / f"{name}.png").write_bytes(encoded(scene(ord(name)), "PNG"))
    (tmp_path / "b.png").write_bytes(b"")
    found = list(images.hashes([Photo(name, tmp_path / f"{name}.png") for name in "cba"], threads=3))
    assert [photo.id for photo, _ in found] == ["c", "b", "a"]
    assert isinstance(found[1][1], PhotoError)
    assert found[0][1] == images.phash(scene(ord("c")))
