"""Who may ask the desk, and what holds for every request and answer: names, token, key, sizes, deadlines, headers, log
lines without texts."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ipaddress
import logging
import math
import re
import time
import traceback
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from dataclasses import dataclass, field
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
SMALL_BYTES = 2**16
"""Bodies up to here are always read."""
HELD_BYTES = 2**26
"""Of larger ones that are no pictures, how many bytes are read at once."""
BODY_SECONDS, BODY_RATE = 10, 2**18
"""A body gets so many seconds, and one more for each so many bytes of it."""
GUESSES, GUESS_SECONDS = 10, 6.0
"""Wrong tokens that one address may show at once, and seconds after which it may show one more."""
ADDRESSES = 4096
"""Addresses that showed a token, right or wrong, of which that is known; the latest."""
TRUSTED = 3600.0
"""Seconds for which nobody who shares the address of someone with the right token is made to wait."""

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
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9_.-]+)(?::[0-9]{1,5})?", re.IGNORECASE | re.ASCII)


class Guesses:
    """Wrong tokens by address, so that who tries them out is slowed, and nobody else is.

    Args:
        now: the time in seconds, from anywhere on.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._known: OrderedDict[str, tuple[float, float]] = OrderedDict()
        """Address → when its wrong tokens are forgotten, and until when it is trusted."""

    def wait(self, address: str) -> int:
        """Seconds until that address may show a token again; 0 where it may now."""
        forgotten, trusted = self._known.get(address, (0.0, 0.0))
        now = self._now()
        return 0 if trusted > now else max(0, math.ceil(forgotten - now - (GUESSES - 1) * GUESS_SECONDS))

    def note(self, address: str, right: bool) -> None:
        """What it showed."""
        now = self._now()
        forgotten, trusted = self._known.pop(address, (0.0, 0.0))
        self._known[address] = (forgotten, now + TRUSTED) if right else (max(forgotten, now) + GUESS_SECONDS, trusted)
        while len(self._known) > ADDRESSES:
            self._known.popitem(last=False)


def address(scope: Scope) -> str:
    """Where a request comes from; of IPv6 the network, in which one machine has as many addresses as it likes."""
    host = str((scope.get("client") or ("",))[0])
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        return host
    return str(ipaddress.ip_network(f"{host.partition('%')[0]}/64", strict=False)) if ip.version == 6 else host


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
    guesses: Guesses = field(default_factory=Guesses, compare=False)

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

    def entered(self, headers: dict[str, str]) -> bool:
        """Whether a browser shows that somebody showed the token there."""
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
        except CookieError:
            return False
        return cookie is not None and hmac.compare_digest(cookie.value.encode(), self.session.encode())

    def tried(self, token: str, where: str) -> int:
        """What comes of a token that is shown: 200, 401, or 429 where too many wrong ones came before it, which is not
        even compared.

        Args:
            token: what is shown.
            where: from which `address`.
        """
        if self.guesses.wait(where):
            return 429
        right = self.right(token)
        self.guesses.note(where, right)
        return 200 if right else 401

    def visitor(self, headers: dict[str, str], where: str) -> int:
        """What comes of a request to read and pick, as `tried`: it shows key or token, or none is asked for."""
        if not self.token or self.owner(headers) or self.entered(headers):
            return 200
        shown = _bearer(headers)
        return self.tried(shown, where) if shown else 401


def _bearer(headers: dict[str, str]) -> str:
    kind, _, value = headers.get("authorization", "").partition(" ")
    return value.strip() if kind.lower() == "bearer" else ""


class BodyError(Exception):
    """A body grew beyond its limit, or did not come in time."""


class Guard:
    """Stands before the app.

    Args:
        app: the app.
        access: who may ask.
        upload_bytes: largest body at `UPLOADS`.
    """

    def __init__(self, app: App, access: Access, upload_bytes: int) -> None:
        self._app, self._access, self._upload_bytes = app, access, upload_bytes
        self._held = 0

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
        path, name = scope["path"], _host(headers.get("host", ""))
        if "content-length" in headers and "transfer-encoding" in headers:  # servers differ in where such a body ends
            detail = "a body has Content-Length or Transfer-Encoding, not both"
            return await _refuse(send, 400, detail, {"connection": "close"})
        if name is None or not (self._access.token or name in self._access.hosts):
            return await _refuse(send, 421, "this desk does not go by that name")
        status = 200 if path.startswith(OPEN) else self._access.visitor(headers, address(scope))
        if status == 401 and scope["method"] == "GET" and "text/html" in headers.get("accept", ""):
            return await _refuse(send, 303, "a token is wanted", {"location": "/enter"})
        if status == 401:
            return await _refuse(
                send, 401, "show the token: Authorization: Bearer TOKEN", {"www-authenticate": "Bearer"}
            )
        if status == 429:
            wait = str(self._access.guesses.wait(address(scope)))
            return await _refuse(send, 429, f"too many wrong tokens; try again in {wait} s", {"retry-after": wait})
        if scope["method"] not in ("GET", "HEAD", "OPTIONS") and _foreign(headers, scope.get("scheme", "http")):
            return await _refuse(send, 403, "a page of another site may not ask this")
        limit = self._upload_bytes if path == UPLOADS else TEXT_BYTES
        told = headers.get("content-length", "")
        size = int(told) if told.isdecimal() else limit if "transfer-encoding" in headers else 0
        if size > limit:
            return await _refuse(send, 413, f"at most {limit:,} bytes are taken here")
        held = 0 if path == UPLOADS or size <= SMALL_BYTES else size  # of uploads, their lane lets in only so many
        if held and self._held + held > HELD_BYTES:
            return await _refuse(send, 503, "too much is being sent; try again in a moment", {"retry-after": "5"})
        self._held += held
        try:
            await self._limited(scope, receive, send, limit, BODY_SECONDS + size / BODY_RATE)
        finally:
            self._held -= held

    async def _limited(self, scope: Scope, receive: Receive, send: Send, limit: int, seconds: float) -> None:
        got, started, late = 0, False, 0.0
        whole = False
        wrong: tuple[int, str] | None = None

        async def counted() -> Message:
            nonlocal got, whole, late, wrong
            if whole:
                return await receive()
            now = asyncio.get_running_loop().time()
            late = late or now + seconds  # from the moment on that the app wants it
            try:
                async with asyncio.timeout_at(late):
                    message = await receive()
            except TimeoutError:
                wrong = 408, f"a body of that size gets {seconds:.0f} seconds"
                raise BodyError from None
            whole = not message.get("more_body", False)
            got += len(message.get("body", b""))
            if got > limit:
                wrong = 413, f"at most {limit:,} bytes are taken here"
                raise BodyError
            return message

        async def noted(message: Message) -> None:
            nonlocal started
            if started or not wrong:  # what the app makes of a body that was cut off is not wanted
                started = True
                await send(message)

        try:
            await self._app(scope, counted, noted)
        except BodyError:
            pass
        except Exception as error:  # our own mistake; its message may hold article text, so the log gets the place only
            _log.error(
                "%s in %s:\n%s",
                type(error).__name__,
                quote(scope["path"]),
                "".join(traceback.format_tb(error.__traceback__)),
            )
            if not started and not wrong:
                await _refuse(send, 500, "the desk made a mistake; its log says where")
        if not started and wrong:
            await _refuse(send, *wrong, {"connection": "close"} if wrong[0] == 408 else None)


def _host(header: str) -> str | None:
    """The name in a Host header, without its port; None where it is no name."""
    found = _HOST.fullmatch(header)
    return found[1].strip("[]").rstrip(".").lower() if found else None


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
