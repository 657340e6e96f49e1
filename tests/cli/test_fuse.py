"""`fuse`: files in, the fused run out."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from photodesk.cli import commands
from photodesk.errors import UsageError
from photodesk.evaluation import run_files
from photodesk.types import Hit, Run


@pytest.fixture
def two(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ranked = {"a": "xyz", "b": "yzx"}, {"a": "zyw", "c": "xyz"}
    for name, transductive, lists in (
        ("one.tsv", "", ranked[0]),
        ("two.trec", "dual_softmax(temperature=1)", ranked[1]),
    ):
        hits = {
            article: tuple(Hit(photo, -float(i)) for i, photo in enumerate(photos)) for article, photos in lists.items()
        }
        run_files.write(Run(hits, name[:3], transductive), tmp_path / name)


def call(*words):
    return CliRunner().invoke(commands, ["fuse", *words])


def test_runs_of_any_format_become_one_by_their_ranks(two, tmp_path):
    done = call("one.tsv", "two.trec", "-o", "both.trec")
    assert done.exit_code == 0, done.output
    assert "2 runs over 3 articles fused into both.trec; transductive: dual_softmax(temperature=1)" in done.stderr
    made = run_files.read(tmp_path / "both.trec")
    assert made.transductive == "dual_softmax(temperature=1)"
    assert [hit.photo for hit in made["a"]] == ["z", "y", "x", "w"]  # 1/63+1/61, 1/62+1/62, 1/61, 1/63
    assert made["a"][0].score == pytest.approx(1 / 63 + 1 / 61)
    assert [hit.photo for hit in made["c"]] == ["x", "y", "z"]


def test_weights_and_depth_count(two, tmp_path):
    assert call("one.tsv", "two.trec", "-o", "both.tsv", "--weights", "5,1", "--top", "2").exit_code == 0
    made = run_files.read(tmp_path / "both.tsv")
    scores = {"x": 5 / 61, "y": 5 / 62 + 1 / 62, "z": 5 / 63 + 1 / 61, "w": 1 / 63}
    assert [hit.photo for hit in made["a"]] == sorted(scores, key=lambda photo: -scores[photo])[:2]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["one.tsv"], "two run files or more"),
        (["one.tsv", "two.trec", "--weights", "a,b"], "expected numbers with commas"),
        (["one.tsv", "two.trec", "--weights", "1"], "a weight for each"),
    ],
)
def test_what_cannot_be_fused_is_refused(two, tmp_path, words, said):
    done = call(*words, "-o", "both.tsv")
    assert isinstance(done.exception, UsageError)
    assert said in str(done.exception)
    assert not (tmp_path / "both.tsv").exists()
