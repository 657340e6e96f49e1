import io
import zipfile
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from photodesk.errors import RunError, UsageError
from photodesk.evaluation import submissions
from photodesk.types import Hit, Photo, Run

SIZE = (460, 260)


def picture(seed, size=SIZE):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)).resize(
        size, Image.Resampling.NEAREST
    )


def png(seed, size=SIZE, **options):
    stream = io.BytesIO()
    picture(seed, size).save(stream, options.pop("format", "PNG"), **options)
    return stream.getvalue()


@pytest.fixture
def gallery(tmp_path):
    """Five photos a to e of other sizes, one damaged, and one, twin, with the pixels of a."""
    photos = []
    for seed, name in enumerate("abcde"):
        photos.append(Photo(name, tmp_path / f"{name}.png"))
        picture(seed, [SIZE, (920, 520), (300, 600), (1000, 300), (50, 50)][seed]).save(photos[-1].path)
    photos.append(Photo("twin", tmp_path / "twin.png"))
    photos[-1].path.write_bytes(photos[0].path.read_bytes())
    photos.append(Photo("broken", tmp_path / "broken.jpg"))
    photos[-1].path.write_bytes(b"\xff\xd8\xff\xe0 no")
    return photos


def run_of(name="run", **rankings):
    return Run(
        {a: tuple(Hit(p, -float(r)) for r, p in enumerate(photos.split())) for a, photos in rankings.items()}, name=name
    )


def zipped(path, files):
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def content(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def whats(faults):
    return [fault.what for fault in faults]


def test_2025_has_the_official_names_and_pictures(tmp_path, gallery):
    out = tmp_path / "Desk.zip"
    faults = submissions.write(
        run_of(**{"7": "b a", "12": "a", "9": "c"}), ["12", "7"], gallery, out, group="Desk", approach="My_CLIP"
    )
    assert faults == ()
    assert list(content(out)) == [
        "Desk/RET_My_CLIP_LARGE/12_Desk_My_CLIP.png",
        "Desk/RET_My_CLIP_LARGE/7_Desk_My_CLIP.png",
    ]
    pictures = [Image.open(io.BytesIO(data)) for data in content(out).values()]
    assert all((p.format, p.size, p.mode) == ("PNG", SIZE, "RGB") for p in pictures)
    assert pictures[0].tobytes() == picture(0).tobytes()  # right size already: pixels untouched
    assert submissions.check([out], ["7", "12"], edition="2025") == ()


def test_2026_has_the_official_names(tmp_path, gallery):
    out = tmp_path / "Desk.zip"
    submissions.write(run_of(**{"7": "b"}), ["7"], gallery, out, group="Desk", approach="CLIP", edition="2026")
    assert list(content(out)) == ["Desk_CLIP/7_Desk_CLIP.png"]
    assert submissions.check([out], ["7"], edition="2026") == ()


@pytest.mark.parametrize("name", ["c", "d"])
def test_other_shapes_are_covered_and_cut_around_the_centre(gallery, name):
    photo = next(photo for photo in gallery if photo.id == name)
    data, _ = submissions.render(photo)
    ours = np.asarray(Image.open(io.BytesIO(data))).astype(int)
    whole = Image.open(photo.path)
    scale = max(460 / whole.width, 260 / whole.height)
    large = whole.resize((round(whole.width * scale), round(whole.height * scale)), Image.Resampling.LANCZOS)
    left, top = (large.width - 460) // 2, (large.height - 260) // 2
    naive = np.asarray(large.crop((left, top, left + 460, top + 260))).astype(int)
    assert np.abs(ours - naive).mean() < 3


def test_the_same_input_gives_the_same_bytes(tmp_path, gallery):
    for name in ("1.zip", "2.zip"):
        submissions.write(run_of(**{"1": "d", "2": "e"}), ["1", "2"], gallery, tmp_path / name, group="G", approach="A")
    assert (tmp_path / "1.zip").read_bytes() == (tmp_path / "2.zip").read_bytes()


def test_the_best_photo_that_can_be_used_is_taken_and_the_rest_is_named(tmp_path, gallery):
    out = tmp_path / "x.zip"
    run = run_of(**{"1": "broken unknown b a", "2": "broken", "4": "a"})
    ticks = []
    faults = submissions.write(
        run, ["1", "2", "3", "4"], gallery, out, group="G", approach="A", tick=lambda: ticks.append(1)
    )
    assert len(ticks) == 4
    assert [name.split("/")[-1] for name in content(out)] == ["1_G_A.png", "4_G_A.png"]
    assert (
        Image.open(io.BytesIO(content(out)["G/RET_A_LARGE/1_G_A.png"])).tobytes()
        == picture(1, (920, 520)).resize(SIZE, Image.Resampling.LANCZOS).tobytes()
    )
    assert [fault.fate for fault in faults] == ["left out"] * 3
    assert "broken.jpg" in faults[0].where
    assert whats(faults[1:]) == [f"article without a picture, since the run has no photo for it: {a}" for a in "23"]


@pytest.mark.parametrize("kind", ["zip", "run", "add"])
def test_2026_shows_no_picture_of_another_run(tmp_path, gallery, kind):
    first, run = run_of(**{"1": "a b", "2": "b"}), run_of(**{"1": "b twin c", "2": "a twin", "3": "d"})
    old = tmp_path / "old.zip"
    options = {"group": "G", "edition": "2026"}
    if kind != "run":
        submissions.write(first, ["1", "2"], gallery, old, approach="A", **options)
    out = old if kind == "add" else tmp_path / "new.zip"
    others = {"zip": [old], "run": [first], "add": []}[kind]
    faults = submissions.write(
        run, ["1", "2", "3"], gallery, out, approach="B", others=others, add=kind == "add", **options
    )
    written = {name: data for name, data in content(out).items() if name.startswith("G_B/")}
    assert list(written) == ["G_B/1_G_B.png", "G_B/3_G_B.png"]
    photo_c = next(photo for photo in gallery if photo.id == "c")
    assert written["G_B/1_G_B.png"] == submissions.render(photo_c)[0]
    assert whats(faults) == [
        "article without a picture, since the run has no photo for it that the other runs do not show: 2"
    ]
    zips = [out] if kind == "add" else [old, out] if kind == "zip" else [out]
    assert not [what for what in whats(submissions.check(zips, ["1", "2", "3"], edition="2026")) if "twice" in what]


def test_adding_keeps_what_is_there_and_refuses_a_folder_twice(tmp_path, gallery):
    out = tmp_path / "x.zip"
    run = run_of(**{"1": "a"})
    submissions.write(run, ["1"], gallery, out, group="G", approach="A")
    submissions.write(run, ["1"], gallery, out, group="G", approach="A", size="SMALL", add=True)
    assert list(content(out)) == ["G/RET_A_LARGE/1_G_A.png", "G/RET_A_SMALL/1_G_A.png"]
    before = out.read_bytes()
    with pytest.raises(UsageError, match=r"x\.zip has a folder G/RET_A_SMALL already"):
        submissions.write(run, ["1"], gallery, out, group="G", approach="A", size="SMALL", add=True)
    assert out.read_bytes() == before
    submissions.write(run, ["1"], gallery, out, group="G", approach="A")
    assert list(content(out)) == ["G/RET_A_LARGE/1_G_A.png"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"group": "a/b"}, "group 'a/b' cannot be part of a file name"),
        ({"approach": "../x"}, r"approach '\.\./x' cannot be part"),
        ({"articles": ["1", "../2"]}, r"article id '\.\./2' cannot be part"),
    ],
)
def test_names_that_cannot_be_files_stop_before_anything_is_written(tmp_path, gallery, changes, said):
    options = {"articles": ["1"], "group": "G", "approach": "A"} | changes
    with pytest.raises(UsageError, match=said):
        submissions.write(run_of(**{"1": "a"}), options.pop("articles"), gallery, tmp_path / "x.zip", **options)
    assert not (tmp_path / "x.zip").exists()


def test_a_run_of_other_data_is_refused(tmp_path, gallery):
    with pytest.raises(RunError, match="ranks no photo of this data set for any of its 1 articles"):
        submissions.write(run_of(**{"1": "x y"}), ["1"], gallery, tmp_path / "x.zip", group="G", approach="A")


L = "G/RET_A_LARGE/"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({L + "1_G_A.png": png(1)}, ["articles without a picture: 1 of 2, 2"]),
        ({L + "1_G_A.png": png(1), L + "2_G_A.png": png(1)}, []),
        ({L + "1_G_A.png": png(1), L + "2_G_A.png": png(2, (260, 460))}, ["is not 460 × 260 pixels: 260 × 460"]),
        (
            {L + "1_G_A.png": png(1), L + "2_G_A.png": png(2, format="JPEG")},
            ["is not a PNG file, despite its name: JPEG"],
        ),
        ({L + "1_G_A.png": png(1), L + "2_G_A.png": b""}, ["is empty"]),
        (
            {L + "1_G_A.png": png(1), L + "2_G_A.png": png(2), L + "3_G_A.png": png(3)},
            ["for an article that the data set does not have: 3"],
        ),
        (
            {
                L + "1_G_A.png": png(1),
                L + "2_G_A.png": png(2),
                "G/RET_A_SMALL/1_G_A.png": png(3),
                "G/RET_A_SMALL/2_G_A.png": png(2),
            },
            ["another picture in the SMALL folder of this approach: article 1"],
        ),
    ],
)
def test_check_2025(tmp_path, files, expected):
    assert whats(submissions.check([zipped(tmp_path / "x.zip", files)], ["1", "2"], edition="2025")) == expected


@pytest.mark.parametrize(
    "name",
    [
        "1_G_A.png",
        "RET_A_LARGE/1_G_A.png",
        "G/A_LARGE/1_G_A.png",
        "G/RET_A/1_G_A.png",
        L + "1_G_B.png",
        L + "1_H_A.png",
        L + "_G_A.png",
        L + "1_G_A.PNG",
        L + "1_G_A.jpg",
        "/" + L + "1_G_A.png",
        "../" + L + "1_G_A.png",
        "../RET_A_LARGE/1_.._A.png",
        "G\\RET_A_LARGE\\1_G_A.png",
        "__MACOSX/" + L + "._1_G_A.png",
        L + ".DS_Store",
        L + "1\n_G_A.png",
    ],
)
def test_a_file_outside_the_layout_is_named_and_never_unpacked(tmp_path, name):
    (tmp_path / "in").mkdir()
    path = zipped(tmp_path / "in" / "x.zip", {name: png(1), L + "1_G_A.png": png(2)})
    assert whats(submissions.check([path], ["1"], edition="2025")) == [
        f"not of the form {submissions.LAYOUT['2025']}: {name!r}"
    ]
    assert [p.name for p in tmp_path.rglob("*")] == ["in", "x.zip"]


def test_check_2026_finds_a_picture_twice_across_runs_but_allows_it_within_one(tmp_path):
    a = zipped(tmp_path / "a.zip", {"G_A/1_G_A.png": png(1), "G_A/2_G_A.png": png(1)})
    b = zipped(tmp_path / "b.zip", {"G_B/1_G_B.png": png(2), "G_B/2_G_B.png": png(1, compress_level=0)})
    assert submissions.check([a], ["1", "2"], edition="2026") == ()
    faults = submissions.check([a, b], ["1", "2"], edition="2026")
    assert [(f.where, f.what) for f in faults] == [
        ("b.zip:G_B/2_G_B.png", "a picture is duplicated across the group's runs: also in G_A for article 1")
    ]


def test_a_second_picture_for_an_article_is_a_fault(tmp_path):
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(L + "1_G_A.png", png(1))
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr(L + "1_G_A.png", png(2))
    assert whats(submissions.check([path], ["1"], edition="2025")) == ["a second picture for one article: 1"]


def test_an_empty_zip_is_a_fault_and_another_file_is_an_error(tmp_path):
    assert whats(submissions.check([zipped(tmp_path / "x.zip", {})], ["1"], edition="2026")) == [
        f"no picture of the form {submissions.LAYOUT['2026']}"
    ]
    (tmp_path / "y.zip").write_bytes(b"not a zip")
    for path in (tmp_path / "y.zip", tmp_path / "missing.zip"):
        with pytest.raises(RunError, match=f"cannot read submission .*{path.name}.*expected a zip file"):
            submissions.check([path], ["1"], edition="2025")


def test_a_bomb_is_neither_inflated_nor_decoded(tmp_path, monkeypatch):
    monkeypatch.setattr(submissions, "MAX_BYTES", 100_000)
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(L + "1_G_A.png", b"\x89PNG\r\n\x1a\n" + bytes(10_000_000))
        head = b"IHDR" + (60_000).to_bytes(4) * 2 + bytes([8, 2, 0, 0, 0])
        huge = b"\x89PNG\r\n\x1a\n\0\0\0\r" + head + zlib.crc32(head).to_bytes(4) + b"\0\0\0\0IDAT" + bytes(100)
        archive.writestr(L + "2_G_A.png", huge)
    faults = whats(submissions.check([path], ["1", "2"], edition="2025"))
    assert faults[0] == "is too large: it has more than 0 MiB"
    assert faults[1] == "is too large: it claims more than 178 million pixels"


@settings(max_examples=60)
@given(st.integers(0, 2000), st.binary(min_size=1, max_size=40))
def test_a_damaged_zip_ends_in_faults_or_a_run_error(tmp_path_factory, at, noise):
    path = zipped(tmp_path_factory.mktemp("zip") / "x.zip", {L + "1_G_A.png": png(1), L + "2_G_A.png": png(2)})
    data = bytearray(path.read_bytes())
    at = at % len(data)
    data[at : at + len(noise)] = noise
    path.write_bytes(data)
    try:
        faults = submissions.check([path], ["1", "2"], edition="2025")
    except RunError:
        return
    assert all(fault.what and fault.where for fault in faults)
