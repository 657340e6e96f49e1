"""Every command of the README is run, in its order, on a small data set in the layout that it names."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from doubles import desk, paint
from photodesk.cli import commands

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
WORDS = [
    f"{thing} {place}"
    for thing in ("Flood", "Fire", "Market", "Match")
    for place in ("Elbe", "Wien", "Köln", "Rom", "Basel")
]


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(
        "PHOTODESK_CACHE", str(tmp_path / "cache")
    )  # `store gc` and `compact` must not meet the user's own
    desk(tmp_path / "newsimages2025", WORDS)
    for word in WORDS[:5]:
        paint(tmp_path / "pictures" / f"{word}.png", word)
    (tmp_path / "desk.csv").write_text("id,headline\n1,Flood Elbe\n2,Feuer in Wien\n", "utf-8")
    return tmp_path


def test_the_commands_run(here):
    lines = [line for block in blocks("sh") for line in block.splitlines() if line.startswith("photodesk ")]
    assert len(lines) > 10
    for line in lines:
        words = shlex.split(line.removeprefix("photodesk "), comments=True)
        if words[0] == "train":
            pytest.importorskip("torch")
            words += ["--validation", "6", "--dim", "4", "--epochs", "1"]
        result = CliRunner().invoke(commands, words)
        assert result.exit_code == 0, f"{line}\n{result.output}\n{result.exception!r}"
    for name in (
        "run.tsv",
        "report.html",
        "desk.tsv",
        "archive.index/index.json",
        "Desk.zip",
        "net.safetensors",
        "net.md",
        "trained.tsv",
    ):
        assert (here / name).stat().st_size > 0, name


def test_the_python_example_runs_and_is_short(here, capsys):
    (code,) = blocks("python")
    assert len([line for line in code.splitlines() if line.strip()]) <= 12
    exec(compile(code, "README.md", "exec"), {})
    assert "MRR@100" in capsys.readouterr().out


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text("utf-8")
    for target in re.findall(r"^make (\w+)", "\n".join(blocks("sh")), re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)
