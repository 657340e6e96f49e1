"""The kill test of benchmarks/kill.py at a reduced count; the whole one is in LOG.md."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

pytest.importorskip("qdrant_edge")


@pytest.mark.parametrize("engine", ["edge:shard", "flat:index"])
def test_a_kill_loses_nothing_that_was_acknowledged(engine, tmp_path):
    spec = importlib.util.spec_from_file_location("kill", Path(__file__).parents[2] / "benchmarks/kill.py")
    kill = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(kill)
    seen = kill.main(5, engine, 7, tmp_path)
    assert sum(seen[what] for what in ("put", "drop", "remove", "backup", "between changes")) == 5
