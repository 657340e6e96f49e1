"""The photo desk over HTTP and in the browser: `create_app` gives the app that `photodesk serve` runs.

security    who may ask, limits, headers, the log         api, schemas  what programs ask, as OpenAPI has it
pages       forms and their parts, from templates/        translations  what they say, in English and German
service     between these and the desk                    uploads       untrusted pictures, decoded apart
jobs        commands for the archive, one by one          client        asks a server from the command line
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastapi import FastAPI

    from photodesk.web.service import DeskLike


def create_app(desk: DeskLike, *, key: str = "", token: str = "", hosts: frozenset[str] | None = None) -> FastAPI:
    """The desk as an ASGI app.

    Args:
        desk: what answers.
        key: opens everything, commands too; empty: nobody may start commands.
        token: what visitors must show; empty only where nobody but this machine can reach the app.
        hosts: names that the app goes by where there is no token; by default those of this machine itself.

    Raises:
        MissingExtra: FastAPI is not installed.
    """
    from photodesk.errors import require

    require("fastapi", "serve")
    require("jinja2", "serve")
    from photodesk.web.app import make
    from photodesk.web.security import LOOPBACK, Access

    return make(desk, Access(key, token, hosts or LOOPBACK))
