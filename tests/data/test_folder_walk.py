"""What is left out below folders: by default, by ignore files, by patterns; and which files are one photo."""

from __future__ import annotations

import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from doubles import paint
from photodesk.data import datasets
from photodesk.data.folder_walk import IGNORE_FILE, Left, Rules, by_default, originals, walk
from photodesk.errors import UsageError
from photodesk.features import sources


def found(folder: Path, *, exclude=(), below: Path | None = None) -> tuple[set[str], Counter[str], list[str]]:
    """Files that stay, patterns with their counts, codes of what is wrong."""
    faults, left = [], Left()
    walked = walk(Rules(folder, exclude, faults), below or folder, faults, left)
    kept = {Path(base, name).relative_to(folder).as_posix() for base, names in walked for name in names}
    counts = Counter()
    for (_, _, pattern), count in left.items():
        counts[pattern] += count
    return kept, counts, [fault.code for fault in faults]


def make(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("")


def test_default_names_are_matched_in_any_case_and_whole():
    for name in (
        "@eaDir",
        "$RECYCLE.BIN",
        "$Recycle.Bin",
        "#recycle",
        "System Volume Information",
        "__MACOSX",
        "lost+found",
    ):
        assert by_default(name), name
    for name in ("._a.jpg", ".DS_Store", ".Trash-1000", "Thumbs.db", "A Previews.lrdata", "B.lrprev", ".hidden.jpg"):
        assert by_default(name), name
    for name in ("recycle", "eaDir", "Trash.jpg", "lost", "Previews", "a.b.jpg", "icons", "My $RECYCLE.BIN.jpg"):
        assert not by_default(name), name


def test_ignore_files_hold_for_what_is_below_them(tmp_path):
    make(tmp_path, "a.jpg", "b_small.jpg", "x/c.jpg", "x/b_small.jpg", "x/y/d.jpg", "x/y/keep_small.jpg", "z/d.jpg")
    (tmp_path / IGNORE_FILE).write_text("# small ones\n\n*_small.jpg\n/z\n", "utf-8-sig")
    (tmp_path / "x/y" / IGNORE_FILE).write_text("d.jpg\n!keep_small.jpg\n")
    kept, counts, _ = found(tmp_path)
    assert kept == {"a.jpg", "x/c.jpg", "x/y/keep_small.jpg"}
    assert counts == {"*_small.jpg": 2, "/z": 1, "d.jpg": 1}
    assert found(tmp_path, below=tmp_path / "x/y")[0] == {"x/y/keep_small.jpg"}
    assert found(tmp_path, below=tmp_path / "z") == (set(), {"/z": 1}, [])


def test_a_pattern_brings_back_what_is_left_out_by_default(tmp_path):
    make(tmp_path, "@eaDir/a.jpg", ".b.jpg", "@eaDir/.c.jpg")
    assert found(tmp_path, exclude=["!@eaDir/"])[0] == {"@eaDir/a.jpg", "@eaDir/.c.jpg"}  # with all that it holds


def test_odd_lines_are_named_and_the_others_hold(tmp_path):
    make(tmp_path, "a.jpg", "b.jpg")
    (tmp_path / IGNORE_FILE).write_bytes(b"!\nb.jpg\n\xff\xfe\n")
    kept, _, codes = found(tmp_path)
    assert (kept, codes) == ({"a.jpg"}, ["folder-ignore"])
    with pytest.raises(UsageError, match="--exclude '!' is no pattern"):
        Rules(tmp_path, ["!"])


@pytest.mark.skipif(not shutil.which("git"), reason="git is the oracle of its own patterns")
def test_patterns_mean_what_they_mean_to_git(tmp_path):
    make(
        tmp_path, *(f"{a}/{b}/{c}.{kind}" for a in "ab" for b in ("x", "y z") for c in "pq" for kind in ("jpg", "png"))
    )
    make(tmp_path, "p.jpg", "a/p.jpg")
    for patterns in (
        ["a/"],
        ["/p.jpg"],
        ["*/x"],
        ["**/q.*"],
        ["*.jpg", "!p.jpg"],
        ["a/**/p.jpg"],
        ["y z/"],
        ["[pq].png"],
    ):
        (tmp_path / "patterns").write_text("\n".join(patterns))
        run = ["git", "-c", "core.excludesFile=", "ls-files", "-z", "-o", "--exclude-from=patterns"]
        subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
        listed = subprocess.run(run, cwd=tmp_path, check=True, capture_output=True, text=True).stdout
        assert found(tmp_path, exclude=patterns)[0] == {*listed.split("\0")} - {""}, patterns


def test_a_raw_belongs_to_the_jpeg_of_its_name():
    names = ["a.CR2", "A.jpg", "b.nef", "b.heic", "b.JPEG", "c.dng", "d.jpg", "e.arw", "e.tif"]
    assert originals(names) == {"a.CR2": "A.jpg", "b.nef": "b.JPEG"}


def test_data_sets_and_indexes_leave_out_the_same(tmp_path):
    for name in ("a.png", "@eaDir/a.png", "x/b.png", "x/c_small.png"):
        paint(tmp_path / "photos" / name, "sea")
    make(tmp_path / "photos", "a.CR2")
    photos, faults = datasets.gallery(tmp_path / "photos", exclude=["*_small.*"])
    assert [photo.id for photo in photos] == ["a.CR2", "a.png", "x/b.png"]  # a PNG is nothing that a camera writes
    assert {fault.code for fault in faults} == {"file-excluded"}
    units, said = sources.find(tmp_path / "photos", exclude=["*_small.*"])
    assert sorted(name for unit in units for name, _ in unit.files) == ["a.CR2", "a.png", "x/b.png"]
    assert said == faults
    table = tmp_path / "news.csv"
    table.write_text("id,title\n1,Sea\n")
    read = datasets.read(table, photos=tmp_path / "photos", exclude=["x/"])
    assert [photo.id for photo in read.photos] == ["a.CR2", "a.png"]


def test_what_nobody_walked_is_left_out_by_the_same_names(tmp_path):
    pytest.importorskip("fsspec")
    import fsspec

    system = fsspec.filesystem("memory")
    for name in ("a.png", "@eaDir/a.png", ".b.png", "x/c.png"):
        system.pipe(f"/walk/{name}", b"1")
    units, faults = sources.find("memory://walk", exclude=["x/"])
    assert [name for unit in units for name, _ in unit.files] == ["a.png"]
    assert [fault.code for fault in faults] == ["file-excluded"] * 3
