"""No telemetry: libraries that report their use unasked, as onnxruntime does, are kept from it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import click
import pytest

import namespace
import photodesk
from doubles import desk
from photodesk.cli import commands

CONTROL = "asked-on-purpose.example"
SECONDS = 20
"""How long a process lives after its first session; onnxruntime 1.32 looks its host up after 9."""


def environment(home, **more):
    """One in which nothing silences anybody, as CI=true or a developer's own settings would."""
    home.mkdir()
    source = Path(photodesk.__file__).parents[1]
    return {"PATH": os.environ["PATH"], "PYTHONPATH": str(source), "HOME": str(home)} | more


def test_a_day_at_the_desk_asks_for_no_name_and_leaves_no_file_but_photodesks(tmp_path):
    """The child is `day`. In the end it asks for one name: that this is written down says that others would be."""
    pytest.importorskip("fastapi")
    pytest.importorskip("qdrant_edge")
    desk(tmp_path / "data", ["Elbe", "Wien", "Rom", "Ulm"])
    asked = namespace.names([sys.executable, __file__, tmp_path], environment(tmp_path / "home"), tmp_path / "names")
    assert asked == {CONTROL}
    written = (path.relative_to(tmp_path / "home") for path in (tmp_path / "home").rglob("*") if not path.is_dir())
    assert {path.parts[:2] for path in written} == {(".cache", "photodesk")}
    assert len(json.loads((tmp_path / "answer.json").read_text())["hits"]) == 4


def test_what_the_user_has_set_stays(tmp_path):
    code = "import json, os, photodesk; print(json.dumps(dict(os.environ)))"
    given = environment(tmp_path / "home", HF_HUB_DISABLE_TELEMETRY="0")
    done = subprocess.run([sys.executable, "-c", code], env=given, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert found["HF_HUB_DISABLE_TELEMETRY"] == "0"
    assert (found["ORT_DISABLE_TELEMETRY"], found["RAY_USAGE_STATS_ENABLED"]) == ("1", "0")


def day(folder):
    """Rank, fill an archive, search it and serve it, all in one process, which lives on for a while."""
    os.chdir(folder)
    commands.main(["rank", "data", "--out", "run.tsv", "--report", "report.html"], standalone_mode=False)
    end = time.monotonic() + SECONDS
    commands.main(["archive", "init", "desk"], standalone_mode=False)
    commands.main(["archive", "add", "desk", "data/newsimages"], standalone_mode=False)
    commands.main(["search", "desk", "Hochwasser an der Elbe"], standalone_mode=False)
    threading.Thread(target=visit, args=(end,), daemon=True).start()
    with contextlib.suppress(click.Abort):
        commands.main(["serve", "desk"], standalone_mode=False)


def visit(end):
    """Search at the desk once it is open, ask for a name at the end, and close the desk."""
    with socket.socket() as door:
        while door.connect_ex(("127.0.0.1", 8642)):
            time.sleep(0.1)
    draft = json.dumps({"draft": "Hochwasser an der Elbe"}).encode()
    request = urllib.request.Request("http://127.0.0.1:8642/api/search", draft, {"content-type": "application/json"})
    with urllib.request.urlopen(request) as answer:
        Path("answer.json").write_bytes(answer.read())
    time.sleep(max(0, end - time.monotonic()))
    with contextlib.suppress(socket.gaierror):
        socket.getaddrinfo(f"{CONTROL}.", 443)
    os.kill(os.getpid(), signal.SIGINT)


if __name__ == "__main__":
    day(sys.argv[1])
