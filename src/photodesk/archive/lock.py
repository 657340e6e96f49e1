"""One process at a time holds an archive; the others are told which one, and where it answers for them.

The file `lock` is locked by the holder and says in JSON: its process id, what it does, and, once it serves, its address
and the key that it wants to be shown. Only the owner of the archive may read it.
"""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

from photodesk.errors import ArchiveInUse, StoreError
from photodesk.files import UNWRITABLE, locked, read_text


def hold(folder: Path, doing: str) -> int:
    """Hold an archive until the descriptor is closed or the process ends.

    Raises:
        ArchiveInUse: another process does; says which, what it does and where it answers for others.
    """
    try:
        handle = locked(folder / "lock", reading=True)
    except StoreError:
        about = _present(folder)
        said = about.get("pid")
        pid, url, what = (
            said if type(said) is int else 0,
            str(about.get("url", "")),
            str(about.get("doing", "something")),
        )
        advice = f"it answers at {url}" if url else "wait until it is done, or end it"
        message = f"{folder} is held by process {pid or 'unknown'} (photodesk {what}); {advice}"
        raise ArchiveInUse(message, pid=pid, url=url, key=str(about.get("key", ""))) from None
    say(folder, doing)
    return handle


def was_stopped(folder: Path) -> bool:
    """Whether the last holder ended without closing the archive, if nobody holds it."""
    return bool(_present(folder))


def say(folder: Path, doing: str, url: str = "", key: str = "") -> None:
    """Let those who find the archive held know what the holder does, and where and with which key it answers for
    them; nothing on a medium that is read-only or full, where they are told less."""
    try:
        (folder / "lock").chmod(0o600)  # the key is for its owner only
        (folder / "lock").write_text(json.dumps({"pid": os.getpid(), "doing": doing, "url": url, "key": key}))
    except OSError as error:
        if error.errno not in (*UNWRITABLE, errno.ENOENT):
            raise


def _present(folder: Path) -> dict[str, object]:
    try:
        found = json.loads(read_text(folder / "lock"))
        return found if isinstance(found, dict) else {}
    except (OSError, ValueError, RecursionError):
        return {}
