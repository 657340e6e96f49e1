"""One picture by URL, politely and safely; the URL is a stranger's.

Only http and https, only hosts that were named beforehand, no address of the machine's own networks: a name is looked
up once and the connection goes to the address that was looked up, for redirects too. No answer may be endless. Proxies
are not used, since behind one none of this could be promised. Source of the rules: OWASP, Server-Side Request Forgery
Prevention.
"""

from __future__ import annotations

import contextlib
import email.utils
import http.client
import ipaddress
import socket
import ssl
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from photodesk import __version__

_TYPES = ("image/", "application/octet-stream", "binary/octet-stream")
_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})
_HOPS = 5
_LONGEST_WAIT = 300.0


class RefusedError(Exception):
    """This picture is not to be had; asking again at once would not help."""


class NoAnswerError(RefusedError):
    """The host does not answer, or says that it cannot now."""


class _PassingError(Exception):
    """This try failed; the host asks for `wait` seconds before the next."""

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait


@dataclass(frozen=True)
class Manners:
    """How to ask.

    Args:
        rate: requests a second to one host.
        retries: how often a request is repeated that failed for a reason that may pass (no answer, 429, 5xx).
        timeout: seconds without a byte before a try is given up.
        patience: seconds that one try may take in all.
        max_bytes: larger pictures are not fetched.
        contact: an address for the User-Agent, for the hosts' administrators.
        allow_private: only for tests against a server on this machine: ask addresses of private networks too.
    """

    rate: float = 2.0
    retries: int = 3
    timeout: float = 20.0
    patience: float = 60.0
    max_bytes: int = 30 * 2**20
    contact: str = ""
    allow_private: bool = False

    @property
    def agent(self) -> str:
        """The User-Agent that requests carry."""
        return (
            f"photodesk/{__version__} (fetches the pictures of a NewsImages "
            f"release{f'; {self.contact}' if self.contact else ''})"
        )


class Clock:
    """Time and waiting; tests bring their own."""

    def now(self) -> float:
        """Seconds, from anywhere."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)


@dataclass(frozen=True, slots=True)
class Target:
    """A URL that may be asked: scheme, host as it is looked up, port, path with query."""

    scheme: str
    host: str
    port: int
    path: str


def target(url: str) -> Target:
    """Take a URL apart.

    Raises:
        RefusedError: not http or https, no host, a user name in it, or not a URL.
    """
    try:
        parts = urllib.parse.urlsplit(url.strip())
        host = (parts.hostname or "").encode("idna").decode("ascii").lower().rstrip(".")
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError as error:
        raise RefusedError(f"not a URL: {url[:80]!r}") from error
    if parts.scheme not in ("http", "https"):
        raise RefusedError(f"only http and https are fetched, not {parts.scheme or 'an address without a scheme'!r}")
    if not host or parts.username is not None or parts.password is not None:
        raise RefusedError(f"no plain host in {url[:80]!r}")
    path = urllib.parse.quote(parts.path or "/", safe="/%:@!$&'()*+,;=~-._")
    query = urllib.parse.quote(parts.query, safe="/%:@!$&'()*+,;=~-._?")
    return Target(parts.scheme, host, port, f"{path}?{query}" if query else path)


def public(address: str) -> bool:
    """Whether an IP address belongs to the open internet; IPv4 addresses inside IPv6 ones are judged as such."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = [ip.ipv4_mapped, ip.sixtofour, *(ip.teredo or ())]
        if ip in ipaddress.ip_network("64:ff9b::/96"):
            inner.append(ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF))
        if any(found is not None and not public(str(found)) for found in inner):
            return False
        if ip.is_site_local:
            return False
    return ip.is_global and not ip.is_multicast


class Client:
    """Asks hosts for pictures; may be shared by threads.

    Args:
        hosts: the only ones that are asked, also after a redirect; `host` or `host:port`, as `target` reads them.
        manners: how to ask.
        log: called with what is known of each request.
        clock: how to wait.
    """

    def __init__(
        self,
        hosts: Iterable[str],
        *,
        manners: Manners,
        log: Callable[[dict[str, object]], None],
        clock: Clock | None = None,
    ) -> None:
        self.hosts = frozenset(hosts)
        self.manners = manners
        self.log = log
        self.clock = clock or Clock()
        self._next: dict[str, float] = {}
        self._lock = threading.Lock()
        self._tls = ssl.create_default_context()

    def get(self, url: str) -> bytes:
        """The bytes that `url` leads to; they claim to be a picture, no more.

        Raises:
            RefusedError: the URL, the host or what it answers breaks a rule; or the picture is not there.
            NoAnswerError: no answer after all retries.
        """
        wait = 0.0
        for attempt in range(self.manners.retries + 1):
            if attempt:
                self.clock.sleep(max(wait, min(2.0**attempt, 60.0)))
            try:
                return self._follow(url)
            except _PassingError as error:
                reason, wait = str(error), error.wait
                if wait > _LONGEST_WAIT:
                    break
        raise NoAnswerError(f"{reason}, after {attempt + 1} tries")

    def _follow(self, url: str) -> bytes:
        for _ in range(_HOPS + 1):
            answer = self._once(url)
            if isinstance(answer, bytes):
                return answer
            url = urllib.parse.urljoin(url, answer)
        raise RefusedError(f"more than {_HOPS} redirects")

    def _once(self, url: str) -> bytes | str:
        """The body, or where the answer redirects to."""
        there = target(url)
        if f"{there.host}:{there.port}" not in self.hosts and not (
            there.host in self.hosts and there.port in (80, 443)
        ):
            raise RefusedError(f"leads to {there.host}:{there.port}, which the file does not name")
        addresses = self._addresses(there)
        self._pace(there.host)
        record: dict[str, object] = {"url": url, "addresses": addresses}
        try:
            with self._answer(there, addresses) as response:
                record["status"] = response.status
                body = self._body(response)
                record["bytes"] = len(body) if isinstance(body, bytes) else 0
                return body
        except (RefusedError, _PassingError) as error:
            record["failure"] = str(error)
            raise
        except ssl.SSLCertVerificationError as error:
            record["failure"] = error.verify_message
            raise RefusedError(f"the host's certificate does not hold: {error.verify_message}") from error
        except (OSError, http.client.HTTPException) as error:
            reason = record["failure"] = str(error)[:120] or type(error).__name__
            raise _PassingError(f"no answer: {reason}") from error
        finally:
            self.log(record)

    def _addresses(self, there: Target) -> list[str]:
        try:
            found = socket.getaddrinfo(there.host, there.port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise _PassingError(f"no address for {there.host}") from error
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        if not self.manners.allow_private and not all(map(public, addresses)):
            raise RefusedError(f"{there.host} is an address of a private network")
        return addresses

    def _pace(self, host: str) -> None:
        with self._lock:
            now = self.clock.now()
            at = max(now, self._next.get(host, now))
            self._next[host] = at + 1 / self.manners.rate
        if at > now:
            self.clock.sleep(at - now)

    @contextlib.contextmanager
    def _answer(self, there: Target, addresses: list[str]) -> Iterator[http.client.HTTPResponse]:
        connection = _Pinned(there, addresses, self._tls if there.scheme == "https" else None, self.manners.timeout)
        watch = threading.Timer(self.manners.patience, connection.cut)
        watch.daemon = True
        watch.start()
        try:
            headers = {
                "User-Agent": self.manners.agent,
                "Accept": "image/*",
                "Accept-Encoding": "identity",
                "Connection": "close",
            }
            connection.request("GET", there.path, headers=headers)
            yield connection.getresponse()
        finally:
            watch.cancel()
            connection.close()

    def _body(self, response: http.client.HTTPResponse) -> bytes | str:
        if response.status in (301, 302, 303, 307, 308):
            if location := response.headers.get("Location"):
                return location
            raise RefusedError(f"{response.status} without a place")
        if response.status in _AGAIN:
            raise _PassingError(
                f"the host answers {response.status}", _retry_after(response.headers.get("Retry-After", ""))
            )
        if response.status != 200:
            raise RefusedError(f"the host answers {response.status} {response.reason}"[:80])
        kind = response.headers.get_content_type()
        if not kind.startswith(_TYPES):
            raise RefusedError(f"the host sends {kind[:40]}, not a picture")
        most, length = self.manners.max_bytes, response.length
        if length is not None and length > most:
            raise RefusedError(f"{length} bytes, more than {most}")
        body = bytearray()
        while block := response.read(65536):
            body += block
            if len(body) > most:
                raise RefusedError(f"more than {most} bytes")
        if length is not None and len(body) < length:
            raise _PassingError(f"the answer ends after {len(body)} of {length} bytes")
        return bytes(body)


class _Pinned(http.client.HTTPConnection):
    """A connection to one of the addresses that were checked, whatever the host's name means by now."""

    def __init__(self, there: Target, addresses: list[str], tls: ssl.SSLContext | None, timeout: float) -> None:
        super().__init__(there.host, there.port, timeout=timeout)
        self.default_port = 443 if tls else 80
        self.addresses = addresses
        self.tls = tls

    def connect(self) -> None:
        for address in self.addresses:
            try:
                self.sock = socket.create_connection((address, self.port), self.timeout)
                break
            except OSError:
                if address == self.addresses[-1]:
                    raise
        if self.tls:
            self.sock = self.tls.wrap_socket(self.sock, server_hostname=self.host)

    def cut(self) -> None:
        """End a try that took too long, from another thread; what waits for a byte then fails."""
        if self.sock:
            with contextlib.suppress(OSError):
                self.sock.shutdown(socket.SHUT_RDWR)


def _retry_after(value: str) -> float:
    """Seconds that a host asks to wait, given as a number or a date; 0 if it does not."""
    if value.strip().isdecimal():
        return float(value.strip()[:9])
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError, OverflowError):
        return 0.0
