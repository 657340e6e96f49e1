"""Who may ask the desk, and what holds for every answer: names, token, key, sizes, headers, log lines without texts."""

from __future__ import annotations

import hashlib
import hmac
import logging
import time
import traceback
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import quote, urlsplit

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
COOKIE = "photodesk"
TEXT_BYTES = 2**20
"""Largest body that is no picture."""

UPLOADS = "/api/uploads"
"""Where larger bodies may go."""

OPEN = ("/enter", "/static/")
"""What a visitor without a token is shown."""

HEADERS = {
    "content-security-policy": "default-src 'none'; img-src 'self' blob:; style-src 'self'; script-src 'self'; "
    "connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "referrer-policy": "same-origin",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}
_log = logging.getLogger("photodesk.web")


@dataclass(frozen=True, slots=True)
class Access:
    """Who may ask.

    Args:
        key: what the commands of the archive's owner show; opens everything, commands too.
        token: what everybody else shows; empty on a desk that only this machine can reach.
        hosts: names by which browsers may ask while there is no token, so that no page of another site can reach the
            desk by letting its own name point here.
    """

    key: str
    token: str = ""
    hosts: frozenset[str] = LOOPBACK

    @property
    def session(self) -> str:
        """What a browser keeps in place of the token."""
        return hmac.new(self.token.encode(), b"photodesk session", hashlib.sha256).hexdigest()

    def right(self, token: str) -> bool:
        """Whether it is the token."""
        return bool(self.token) and hmac.compare_digest(token.encode("utf-8", "replace"), self.token.encode())

    def owner(self, headers: dict[str, str]) -> bool:
        """Whether a request shows the key."""
        return bool(self.key) and hmac.compare_digest(_bearer(headers).encode(), self.key.encode())

    def visitor(self, headers: dict[str, str]) -> bool:
        """Whether a request may read and pick: it shows key or token, or none is asked for."""
        if not self.token or self.owner(headers) or self.right(_bearer(headers)):
            return True
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
        except CookieError:
            return False
        return cookie is not None and hmac.compare_digest(cookie.value.encode(), self.session.encode())


def _bearer(headers: dict[str, str]) -> str:
    kind, _, value = headers.get("authorization", "").partition(" ")
    return value.strip() if kind.lower() == "bearer" else ""


class TooLargeError(Exception):
    """A body grew beyond its limit."""


class Guard:
    """Stands before the app.

    Args:
        app: the app.
        access: who may ask.
        upload_bytes: largest body at `UPLOADS`.
    """

    def __init__(self, app: App, access: Access, upload_bytes: int) -> None:
        self._app, self._access, self._upload_bytes = app, access, upload_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or let the app do so."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return  # no websockets here
        began, status = time.perf_counter(), 0

        async def dressed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                given = {name.lower() for name, _ in message.get("headers", ())}
                more = HEADERS if b"cache-control" in given else HEADERS | {"cache-control": "no-store"}
                message["headers"] = [*message.get("headers", ()), *((k.encode(), v.encode()) for k, v in more.items())]
            await send(message)

        try:
            await self._let(scope, receive, dressed)
        finally:
            _log.info(
                "%s %s %d %.0f ms", scope["method"], quote(scope["path"]), status, 1e3 * (time.perf_counter() - began)
            )

    async def _let(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        path = scope["path"]
        if not self._access.token and _host(headers.get("host", "")) not in self._access.hosts:
            return await _refuse(send, 421, "this desk does not go by that name")
        if not (self._access.visitor(headers) or path.startswith(OPEN)):
            if scope["method"] == "GET" and "text/html" in headers.get("accept", ""):
                return await _refuse(send, 303, "a token is wanted", {"location": "/enter"})
            return await _refuse(
                send, 401, "show the token: Authorization: Bearer TOKEN", {"www-authenticate": "Bearer"}
            )
        if scope["method"] not in ("GET", "HEAD", "OPTIONS") and _foreign(headers, scope.get("scheme", "http")):
            return await _refuse(send, 403, "a page of another site may not ask this")
        limit = self._upload_bytes if path == UPLOADS else TEXT_BYTES
        told = headers.get("content-length", "0")
        if told.isdigit() and int(told) > limit:
            return await _refuse(send, 413, f"at most {limit:,} bytes are taken here", {"connection": "close"})
        await self._limited(scope, receive, send, limit)

    async def _limited(self, scope: Scope, receive: Receive, send: Send, limit: int) -> None:
        got, started = 0, False

        async def counted() -> Message:
            nonlocal got
            message = await receive()
            got += len(message.get("body", b""))
            if got > limit:
                raise TooLargeError
            return message

        async def noted(message: Message) -> None:
            nonlocal started
            if started or got <= limit:  # what the app makes of a body that was cut off is not wanted
                started = True
                await send(message)

        try:
            await self._app(scope, counted, noted)
        except TooLargeError:
            pass
        except Exception as error:  # our own mistake; its message may hold article text, so the log gets the place only
            _log.error(
                "%s in %s:\n%s",
                type(error).__name__,
                quote(scope["path"]),
                "".join(traceback.format_tb(error.__traceback__)),
            )
            if not started and got <= limit:
                await _refuse(send, 500, "the desk made a mistake; its log says where")
        if not started and got > limit:
            await _refuse(send, 413, f"at most {limit:,} bytes are taken here", {"connection": "close"})


def _host(header: str) -> str:
    """The name in a Host header, without its port."""
    try:
        return (urlsplit(f"//{header}").hostname or "").rstrip(".")
    except ValueError:
        return ""


def _foreign(headers: dict[str, str], scheme: str) -> bool:
    """Whether a browser says that the request comes from a page of another site."""
    if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return True
    origin = headers.get("origin")
    try:
        return origin is not None and urlsplit(origin).netloc != headers.get("host")
    except ValueError:  # such as http://[x
        return True


async def _refuse(send: Send, status: int, detail: str, more: dict[str, str] | None = None) -> None:
    import json

    body = json.dumps({"detail": detail}).encode()
    headers: Iterable[tuple[str, str]] = {
        "content-type": "application/json",
        "content-length": str(len(body)),
        **(more or {}),
    }.items()
    await send(
        {"type": "http.response.start", "status": status, "headers": [(k.encode(), v.encode()) for k, v in headers]}
    )
    await send({"type": "http.response.body", "body": body})
