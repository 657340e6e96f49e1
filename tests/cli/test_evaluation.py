import csv
import json
import os
import sys
import zipfile

import numpy as np
import pytest
from PIL import Image

from photodesk.cli import main
from photodesk.evaluation import run_files
from photodesk.types import Hit, Run


@pytest.fixture
def call(monkeypatch, capsys):
    def call(*words):
        monkeypatch.setattr(sys, "argv", ["photodesk", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            main()
        shown = capsys.readouterr()
        # what data was recognised is said first, by whatever reads data; tests/search/test_rank.py asserts it
        said = [
            line
            for line in shown.err.splitlines(keepends=True)
            if "its columns are" not in line and "by their names" not in line
        ]
        return stop.value.code, shown.out, "".join(said)

    return call


@pytest.fixture
def data(tmp_path):
    """Four articles of NewsImages 2025 with a picture each."""
    folder = tmp_path / "data"
    (folder / "newsimages").mkdir(parents=True)
    with (folder / "newsarticles.csv").open("w", newline="", encoding="utf-8-sig") as stream:
        table = csv.writer(stream)
        table.writerow(["article_id", "article_url", "article_title", "article_tags", "image_id", "image_url"])
        for i in range(1, 5):
            table.writerow(
                [i, f"https://example.org/{i}", f"Title number {i}", "tag", f"P{i}", f"https://example.org/{i}.jpg"]
            )
            pixels = np.random.default_rng(i).integers(0, 255, (26, 46, 3), np.uint8)
            Image.fromarray(pixels).resize((460, 260)).save(folder / "newsimages" / f"P{i}.jpg")
    return folder


def run_file(path, *rankings):
    run = Run({str(i): tuple(Hit(f"P{p}", -float(r)) for r, p in enumerate(ids)) for i, ids in enumerate(rankings, 1)})
    run_files.write(run, path)
    return path


@pytest.fixture
def good(tmp_path):
    return run_file(tmp_path / "good.tsv", "1234", "2134", "1234", "1234")


@pytest.fixture
def bad(tmp_path):
    return run_file(tmp_path / "bad.tsv", "2134", "1234", "1243")


def test_evaluate_prints_a_table_and_json(call, data, good):
    code, out, err = call("evaluate", data, good)
    assert (code, err) == (0, "")
    assert [line.split()[:2] for line in out.splitlines()[2:]][:2] == [["R@1", "0.50000"], ["R@5", "1.00000"]]
    code, out, _ = call("evaluate", data, good, "--json", "-m", "R@1", "-m", "MRR@100")
    found = json.loads(out)
    assert (code, found["run"], found["articles"]) == (0, "good", 4)
    assert found["means"] == {"R@1": 0.5, "MRR@100": (1 + 1 + 1 / 3 + 1 / 4) / 4}
    low, high = found["intervals"]["R@1"]
    assert low <= 0.5 <= high


def test_evaluate_says_what_is_missing_and_takes_several_runs(call, data, good, bad):
    code, out, err = call("evaluate", data, good, bad, "--json", "-m", "R@1")
    assert (code, [found["run"] for found in json.loads(out)]) == (0, ["good", "bad"])
    assert err == f"{bad}: articles missing from the run count 0: 1 of 4, such as '4'\n"


def test_evaluate_in_other_forms(call, data, good):
    assert "| R@1 | 0,50000 |" in call("evaluate", data, good, "--markdown", "--decimal-comma")[1]
    assert r"R@1 & 0.50000 &" in call("evaluate", data, good, "--latex")[1]


def test_the_truth_may_be_elsewhere(call, data, good, tmp_path):
    (tmp_path / "truth.csv").write_text("article_id,title,image_id\n1,a,P1\n2,b,P3\n")
    code, out, _ = call("evaluate", data, good, "--truth", tmp_path / "truth.csv", "-m", "R@1", "--json")
    assert (code, json.loads(out)["articles"], json.loads(out)["means"]) == (0, 2, {"R@1": 0.5})
    code, out, _ = call("evaluate", "--articles", tmp_path / "truth.csv", good, "-m", "R@1", "--json")
    assert json.loads(out)["means"] == {"R@1": 0.5}


def test_evaluate_points_to_the_subset_that_a_run_is_of(call, tmp_path, good):
    (tmp_path / "d.csv").write_text("article_id,title,image_id,subset\n1,a,P1,RSS\n2,b,P2,RSS\n8,c,P3,TW\n")
    run = run_file(tmp_path / "two.tsv", "12", "12")
    code, out, err = call("evaluate", tmp_path / "d.csv", run, "--per-subset", "-m", "R@1")
    assert [line.split()[:3] for line in out.splitlines()[2:]] == [
        ["all", "R@1", "0.33333"],
        ["RSS", "R@1", "0.50000"],
        ["TW", "R@1", "0.00000"],
    ]
    assert "all its articles are of subset RSS; to measure only that, add --subset RSS" in err
    code, out, err = call("evaluate", tmp_path / "d.csv", run, "--subset", "RSS", "-m", "R@1", "--json")
    assert (code, json.loads(out)["means"], err) == (0, {"R@1": 0.5}, "")


def test_the_error_gallery_shows_the_articles(call, data, good, tmp_path):
    code, _, _ = call("evaluate", data, good, "--report", tmp_path / "errors.html")
    page = (tmp_path / "errors.html").read_text("utf-8")
    assert code == 0
    assert all(f"Title number {i}" in page for i in range(1, 5))
    code, _, err = call("evaluate", data, good, good, "--report", tmp_path / "errors.html")
    assert (code, "--report shows one run, not 2" in err) == (2, True)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["evaluate", "DATA"], "name at least one file after the data"),
        (["evaluate", "DATA", "GOOD", "-m", "nDCG@3"], "no measure 'nDCG@3'; known: R@k"),
        (["evaluate", "DATA", "nothing.tsv"], "cannot read run file nothing.tsv"),
        (["evaluate", "nowhere", "GOOD"], "nowhere does not exist"),
        (["compare", "DATA", "GOOD"], "comparing needs at least two runs, not 1"),
        (
            ["submit", "DATA", "GOOD", "-o", "x.zip", "--group", "a b", "--approach", "c"],
            "group 'a b' cannot be part of a file name",
        ),
        (["validate", "DATA"], "name at least one file"),
    ],
)
def test_wrong_calls_end_with_2_and_one_line(call, data, good, words, said):
    code, out, err = call(*[{"DATA": data, "GOOD": good}.get(word, word) for word in words])
    assert (code, out) == (2, "")
    assert said in err
    assert err.count("\n") == 1


def test_compare(call, data, good, bad):
    code, out, _ = call("compare", data, good, bad)
    assert (code, "good" in out, "bad" in out, "hubness@10" in out) == (0, True, True, True)
    code, out, _ = call("compare", data, good, bad, "-m", "R@1", "--json", "--samples", "500")
    found = json.loads(out)
    (difference,) = found["differences"]
    assert {key: difference[key] for key in ("a", "b", "difference", "wins", "losses", "ties")} == {
        "a": "good",
        "b": "bad",
        "difference": 0.5,
        "wins": 2,
        "losses": 0,
        "ties": 2,
    }
    assert difference["p"] == pytest.approx(0.5, abs=0.1)
    assert [run["run"] for run in found["runs"]] == ["good", "bad"]
    assert call("compare", data, good, bad, "--markdown")[1].count("| good | bad |") == 1
    assert call("compare", data, good, bad, "--latex")[1].count(r"\begin{tabular}") == 2


def test_runs_of_one_name_and_transductive_ones_are_told_apart(call, data, good, tmp_path):
    (tmp_path / "b").mkdir()
    run = run_files.read(good)
    run_files.write(Run(run.hits, transductive="dual_softmax(temperature=1)"), tmp_path / "b" / "good.tsv")
    code, out, _ = call("compare", data, good, tmp_path / "b" / "good.tsv", "--markdown")
    assert code == 0
    assert out.count(f"| {good} |") == 2
    assert out.count(f"| {tmp_path / 'b' / 'good.tsv'} (transductive: dual_softmax(temperature=1)) |") == 2


def test_submit_then_validate(call, data, good, tmp_path):
    out = tmp_path / "Desk.zip"
    code, shown, err = call("submit", data, good, "-o", out, "--group", "Desk", "--approach", "CLIP")
    assert (code, shown) == (0, "")
    with zipfile.ZipFile(out) as archive:
        assert archive.namelist() == [f"Desk/RET_CLIP_LARGE/{i}_Desk_CLIP.png" for i in range(1, 5)]
    code, shown, err = call("validate", data, out)
    assert (code, shown) == (0, "")
    assert "Desk.zip: no fault\n" in err
    code, shown, _ = call("validate", data, out, "--edition", "2026", "--all")
    assert (code, shown.count("not of the form [group]_[approach]/")) == (1, 4)


def test_submit_passes_over_the_pictures_of_another_run(call, data, good, tmp_path):
    first, second = tmp_path / "A.zip", tmp_path / "B.zip"
    options = ["--group", "Desk", "--edition", "2026"]
    assert call("submit", data, good, "-o", first, "--approach", "A", *options)[0] == 0
    assert call("submit", data, good, "-o", second, "--approach", "B", *options, "--other-run", first)[0] == 0
    assert call("validate", data, first, second, "--edition", "2026")[0] == 0
    assert call("submit", data, good, "-o", second, "--approach", "B", *options)[0] == 0
    code, out, _ = call("validate", data, first, second, "--edition", "2026")
    assert (code, "a picture is duplicated across the group's runs" in out) == (1, True)


def test_an_article_without_a_picture_is_named(call, data, bad, tmp_path):
    code, out, err = call("submit", data, bad, "-o", tmp_path / "x.zip", "--group", "Desk", "--approach", "A")
    assert (code, out) == (1, "")
    assert "article without a picture, since the run has no photo for it: 4" in err


def test_validate_a_run_file(call, data, good, bad):
    assert call("validate", data, good)[:2] == (0, "")
    code, out, err = call("validate", data, bad)
    assert (code, out) == (1, f"{bad}: an article is missing: 4 (kept); rank it; it counts 0\n")
    assert "bad.tsv: 1 fault\n" in err


@pytest.mark.parametrize("command", ["evaluate", "compare", "submit", "validate"])
def test_help_has_an_example(call, command):
    code, out, _ = call(command, "--help")
    assert (code, f"photodesk {command} newsimages" in out) == (0, True)


def test_what_cannot_be_written_or_read_is_one_line(call, data, good, tmp_path, monkeypatch):
    """Whatever the command: the path that the user gave, and the reason."""
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.tsv").mkdir()
    code, out, said = call("fuse", good, good, "-o", tmp_path / "file" / "out.tsv")
    assert (code, out, said) == (2, "", f"photodesk: {tmp_path / 'file'}: File exists\n")
    real = os.open

    def refuse(path, flags, *more, **named):
        if flags & os.O_CREAT:
            raise PermissionError(13, "Permission denied", "a temporary name")
        return real(path, flags, *more, **named)

    monkeypatch.setattr(os, "open", refuse)
    code, _, said = call("fuse", good, good, "-o", tmp_path / "out.tsv")
    assert (code, said) == (2, f"photodesk: {tmp_path / 'out.tsv'}: Permission denied\n")
    monkeypatch.undo()


def _refusing(error):
    def refuse(*given, **options):
        raise error

    return refuse


def test_a_full_disk_and_a_folder_in_the_way_are_one_line(call, good, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "os.replace",
        _refusing(IsADirectoryError(21, "Is a directory", "a temporary name", None, str(tmp_path / "out.tsv"))),
    )
    assert call("fuse", good, good, "-o", tmp_path / "out.tsv")[::2] == (
        2,
        f"photodesk: {tmp_path / 'out.tsv'}: Is a directory\n",
    )
    monkeypatch.setattr("os.fsync", _refusing(OSError(28, "No space left on device")))
    assert call("fuse", good, good, "-o", tmp_path / "out.tsv")[::2] == (2, "photodesk: No space left on device\n")
    assert not list(tmp_path.glob(".out*"))


def test_a_reader_who_has_enough_is_no_error(monkeypatch, capsys):
    """`photodesk recipes | head -1`: the pipe is closed, and nothing is said about it."""
    monkeypatch.setattr(sys, "argv", ["photodesk", "recipes"])
    monkeypatch.setattr("photodesk.cli.recipes.recipes.callback", _refusing(BrokenPipeError(32, "Broken pipe")))
    out, err = sys.stdout, sys.stderr
    with pytest.raises(SystemExit) as stop:
        main()
    sys.stdout, sys.stderr = out, err  # click has wrapped them
    assert stop.value.code == 1
    assert capsys.readouterr().err == ""
