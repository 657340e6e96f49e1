"""Runs a command in a network of its own and writes down which names it looks up, native code too.

The network has a loopback and, on it, a name server that knows no name. `names` runs this file as a program inside:
`unshare --mount --net python namespace.py FILE COMMAND…`.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

SECONDS = 300
SIOCSIFFLAGS, IFF_UP = 0x8914, 1
UNSHARE = ["unshare", "--mount", "--net", *([] if os.getuid() == 0 else ["--map-root-user"])]
CONFIGURATION = {"/etc/resolv.conf": "nameserver 127.0.0.1\n", "/etc/nsswitch.conf": "hosts: files dns\n"}


def names(command, environment, file):
    """The set of names that a command and its children look up. Skips the test where nobody may make such a network.

    Args:
        environment: all that the command gets.
        file: where to note the names.
    """
    if not shutil.which("unshare"):
        pytest.skip("a network of its own needs unshare, which Linux has")
    probe = [*UNSHARE, "mount", "--bind", "/etc/resolv.conf", "/etc/resolv.conf"]
    if (tried := subprocess.run(probe, capture_output=True, text=True)).returncode:
        pytest.skip(f"a network of its own is not allowed here: {tried.stderr.strip()}")
    inside = [*UNSHARE, sys.executable, __file__, file, *command]
    done = subprocess.run(inside, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(file.read_text().split())


def _answer(listening, file):
    while True:
        question, sender = listening.recvfrom(4096)
        labels, at = [], 12
        while length := question[at]:
            labels.append(question[at + 1 : at + 1 + length].decode())
            at += 1 + length
        with file.open("a") as stream:
            print(".".join(labels), file=stream)
        no_such_name = question[:2] + struct.pack(">5H", 0x8183, 1, 0, 0, 0)
        listening.sendto(no_such_name + question[12 : at + 5], sender)


def _main(file, *command):
    file.touch()
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listening:
        for place, text in CONFIGURATION.items():
            ours = Path(folder, Path(place).name)
            ours.write_text(text)
            if Path(place).exists():  # without it names are looked up as it says
                subprocess.run(["mount", "--bind", ours, place], check=True)
        fcntl.ioctl(listening, SIOCSIFFLAGS, struct.pack("16sH22x", b"lo", IFF_UP))
        listening.bind(("127.0.0.1", 53))
        threading.Thread(target=_answer, args=(listening, file), daemon=True).start()
        return subprocess.run(command, timeout=SECONDS).returncode


if __name__ == "__main__":
    sys.exit(_main(Path(sys.argv[1]), *sys.argv[2:]))
