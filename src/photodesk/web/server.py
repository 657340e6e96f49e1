"""`photodesk serve`: opens the archive, listens, tells others where it answers for them."""

from __future__ import annotations

import ipaddress
import logging
import secrets
import socket
from collections.abc import Callable, Sequence
from pathlib import Path

from photodesk.archive.archive import Archive
from photodesk.errors import UsageError, require
from photodesk.search.desk import Desk
from photodesk.text.preparation import Preparation
from photodesk.web import create_app
from photodesk.web.security import LOOPBACK

LEAST = 16
"""Characters of a token that people cannot try out."""


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
        UsageError: the token is too short, or nothing can listen there.
        ArchiveInUse: another process holds the archive.
        MissingExtra: FastAPI or uvicorn is not installed.
    """
    uvicorn = require("uvicorn", "serve")
    if token and len(token) < LEAST:
        raise UsageError(
            f"a token of {len(token)} characters can be guessed; take {LEAST} or more, or leave it out to have one made"
        )
    if not token and (names or not local(host)):  # what goes by other names is behind a proxy, which others can reach
        token = secrets.token_urlsafe(24)
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
        if token:
            say(f"visitors show this token: {token}")
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=10,
            ws="none",
        )
        uvicorn.Server(config).run(sockets=[listening])


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
