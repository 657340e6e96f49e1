"""`photodesk serve`: opens the archive, listens, tells others where it answers for them."""

from __future__ import annotations

import ipaddress
import logging
import math
import re
import secrets
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from photodesk.archive.archive import Archive
from photodesk.errors import UsageError, require
from photodesk.search.desk import Desk
from photodesk.text.preparation import Preparation
from photodesk.web import create_app
from photodesk.web.security import LOOPBACK

LEAST = 128
"""Bits of a token that nobody can try out."""
VARIED = 8
"""Different characters that it has at least; one key held down is no token, however long."""
MAKE = "python -c 'import secrets; print(secrets.token_urlsafe())'"
"""Makes one."""
HEAD_BYTES = 2**14
"""Largest head of a request."""


def bits(token: str) -> float:
    """How many bits a token has if it was drawn from the characters of its kinds, which is the most it can have."""
    if re.fullmatch("[0-9a-f]*|[0-9A-F]*", token):
        return 4.0 * len(token)
    kinds = {"[0-9]": 10, "[a-z]": 26, "[A-Z]": 26, "[^0-9a-zA-Z]": 33}
    size = sum(count for kind, count in kinds.items() if re.search(kind, token))
    return len(token) * math.log2(max(size, 1))


def local(host: str) -> bool:
    """Whether only this machine can reach what listens there."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def run(
    folder: Path,
    *,
    host: str = "127.0.0.1",
    port: int = 8642,
    token: str = "",
    names: Sequence[str] = (),
    log_texts: bool = False,
    translate: str = "",
    say: Callable[[str], None] = print,
) -> None:
    """Serve an archive until the process is told to end.

    Args:
        folder: of the archive.
        host: address to listen on.
        port: 0 takes one that is free.
        token: what visitors must show; made up if empty and others can reach the desk.
        names: further names that the desk goes by; one makes it want a token.
        log_texts: also log queries.
        translate: translator of drafts, for models that read English only; see `text.Preparation`.
        say: gets lines for the user.

    Raises:
        UsageError: the token can be guessed, or nothing can listen there.
        ArchiveInUse: another process holds the archive.
        MissingExtra: FastAPI or uvicorn is not installed.
    """
    uvicorn = require("uvicorn", "serve")
    if token and (bits(token) < LEAST or len(set(token)) < VARIED):
        raise UsageError(
            f"this token can be guessed: it has {bits(token):.0f} bits at most and {len(set(token))} different "
            f"characters, {LEAST} and {VARIED} are wanted; make one with: {MAKE}; or leave it out to have one made"
        )
    made = ""
    if not token and (names or not local(host)):  # what goes by other names is behind a proxy, which others can reach
        token = made = secrets.token_urlsafe(24)
    with Archive.open(folder, doing="serve") as archive, _listen(host, port) as listening:
        desk = Desk(archive, preparation=Preparation(translate=translate) if translate else None)
        port = listening.getsockname()[1]
        key = secrets.token_urlsafe(32)
        app = create_app(desk, key=key, token=token, hosts=LOOPBACK | {name.lower() for name in (host, *names)})
        _logging(log_texts)
        reach = host if host not in ("0.0.0.0", "::") else "127.0.0.1"  # noqa: S104  compared, not bound
        url = f"http://{f'[{reach}]' if ':' in reach else reach}:{port}"
        archive.serves(url, key)
        say(f"{archive.engine.count():,} photos of {folder} at {url}")
        if token:  # who gave one knows it; logs and screens need not
            say(f"visitors show {f'this token: {made}' if made else 'the token that was given'}")
        uvicorn.Server(config(app)).run(sockets=[listening])


def config(app: Any) -> Any:
    """How uvicorn serves the app."""
    import uvicorn

    from photodesk.web.protocol import Protocol

    return uvicorn.Config(
        app,
        http=Protocol,
        h11_max_incomplete_event_size=HEAD_BYTES,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=10,
        ws="none",
    )


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        made = socket.socket(
            family, socket.SOCK_STREAM, socket.IPPROTO_TCP
        )  # asyncio turns delays off only where the protocol is named
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((host, port))
        made.listen(128)
        return made
    except OSError as error:
        raise UsageError(
            f"cannot listen on {host}:{port}: {error.strerror or error}; name another --port or --host"
        ) from None


def _logging(texts: bool) -> None:
    """One line a request on stderr; queries only if they are asked for."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s")
    logging.getLogger("photodesk.web").setLevel(logging.INFO)
    logging.getLogger("photodesk.web.texts").setLevel(logging.INFO if texts else logging.CRITICAL)
