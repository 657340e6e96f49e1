"""One picture by URL, politely and safely; the URL and whatever answers are untrusted.

Only http and https, only hosts that were named beforehand, no address of the machine's own networks: a name is looked
up once and the connection goes to the address that was looked up, for redirects too. Look-up, connection, handshake
and every read keep within one deadline and one number of bytes. Proxies are not used, since behind one none of this
could be promised. Source of the rules: OWASP, Server-Side Request Forgery Prevention.
"""

from __future__ import annotations

import contextlib
import email.utils
import http.client
import io
import ipaddress
import queue
import re
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
_HEAD = 2**20  # bytes that heads and the frames of chunks may take besides the picture
_NAME = re.compile(r"(?!.{254})([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")  # a name that ends so is an IPv4 address to somebody: WHATWG URL, 3.5

# IANA, Special-Purpose Address Registries of IPv4 and IPv6, and RFC 5771 for multicast, as of 2025. Listed here since
# `is_global` differs between versions of Python. Blocks that the registries call reachable are in it too where no web
# server can be meant: anycast for PCP and TURN, AMT, AS112, the tunnels 6to4 and Teredo.
_SPECIAL = tuple(
    map(
        ipaddress.ip_network,
        """0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 192.0.2.0/24
        192.31.196.0/24 192.52.193.0/24 192.88.99.0/24 192.168.0.0/16 192.175.48.0/24 198.18.0.0/15 198.51.100.0/24
        203.0.113.0/24 224.0.0.0/4 240.0.0.0/4
        2001::/23 2001:db8::/32 2002::/16 2620:4f:8000::/48 3fff::/20""".split(),  # noqa: SIM905
    )
)
_UNICAST = ipaddress.IPv6Network("2000::/3")  # all that is assigned of IPv6; what is special outside needs no list
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


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
        patience: seconds that one try may take in all, look-ups and redirects included; after them none follows.
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
        contact = "".join(filter(str.isprintable, self.contact))  # a line break would begin another header
        return f"photodesk/{__version__} (fetches the pictures of a NewsImages release{'; ' * bool(contact)}{contact})"


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

    @property
    def name(self) -> str:
        """The host as a URL has it."""
        return f"[{self.host}]" if ":" in self.host else self.host

    @property
    def place(self) -> str:
        """Host and port; one text for each, whatever the host is."""
        return f"{self.name}:{self.port}"


def target(url: str) -> Target:
    """Take a URL apart.

    Raises:
        RefusedError: not http or https, no host, a host that is neither a name nor a plain IP address, a user name in
            it, or not a URL.
    """
    try:
        parts = urllib.parse.urlsplit(url.strip())
        usual = 443 if parts.scheme == "https" else 80
        host, port = _host(parts.hostname or ""), usual if parts.port is None else parts.port
        path = urllib.parse.quote(parts.path or "/", safe="/%:@!$&'()*+,;=~-._")
        query = urllib.parse.quote(parts.query, safe="/%:@!$&'()*+,;=~-._?")
    except ValueError as error:  # UnicodeError is one
        raise RefusedError(f"not a URL: {url[:80]!r}") from error
    if parts.scheme not in ("http", "https"):
        raise RefusedError(f"only http and https are fetched, not {parts.scheme or 'an address without a scheme'!r}")
    odd = parts.netloc.startswith("[") != (":" in host) or "@" in parts.netloc
    if odd or not host or not port:
        raise RefusedError(f"no plain host in {url[:80]!r}")
    return Target(parts.scheme, host, port, f"{path}?{query}" if query else path)


def _host(host: str) -> str:
    """A host as it is looked up; empty for what is neither a name nor an IP address in its usual form, such as
    `0x7f.1`."""
    if ":" in host:
        return str(ipaddress.IPv6Address(host)) if "%" not in host else ""
    name = host.encode("idna").decode("ascii").lower().removesuffix(".")
    if _NUMBER.fullmatch(name.rpartition(".")[2]):
        return str(ipaddress.IPv4Address(name))
    return name if _NAME.fullmatch(name) else ""


def public(address: str) -> bool:
    """Whether an IP address belongs to the open internet; IPv4 addresses inside IPv6 ones are judged as such."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped or ip in _NAT64:
            return public(str(ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)))
        if ip not in _UNICAST:
            return False
    return not any(ip in network for network in _SPECIAL if network.version == ip.version)


class Client:
    """Asks hosts for pictures; may be shared by threads.

    Args:
        hosts: the only ones that are asked, also after a redirect; `Target.host`, or `Target.place` for other ports.
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
        patience = self.manners.patience
        for _ in range(_HOPS + 1):
            there = target(url)
            if there.place not in self.hosts and not (there.host in self.hosts and there.port in (80, 443)):
                raise RefusedError(f"leads to {there.place}, which the file does not name")
            self._pace(there.host)
            deadline = _Deadline(patience, self.manners.timeout)
            answer = self._once(url, there, deadline)
            if isinstance(answer, bytes):
                return answer
            patience = deadline.left
            try:
                url = urllib.parse.urljoin(url, answer)
            except ValueError as error:
                raise RefusedError(f"redirects to what is not a URL: {answer[:80]!r}") from error
        raise RefusedError(f"more than {_HOPS} redirects")

    def _once(self, url: str, there: Target, deadline: _Deadline) -> bytes | str:
        """The body, or where the answer redirects to."""
        record: dict[str, object] = {"url": url}
        try:
            record["addresses"] = addresses = self._addresses(there, deadline)
            with self._answer(there, addresses, deadline) as response:
                record["status"] = response.status
                body = self._body(response)
                record["bytes"] = len(body) if isinstance(body, bytes) else 0
                return body
        except Exception as error:
            judged = self._judged(error, deadline)
            record["failure"] = str(judged)
            raise judged from error
        finally:
            self.log(record)

    def _judged(self, error: Exception, deadline: _Deadline) -> Exception:
        """Whether what went wrong may pass. Any exception is an answer that breaks a rule: many parsers read it."""
        if isinstance(error, RefusedError | _PassingError):
            return error
        if not deadline.left:
            return NoAnswerError(f"no answer in {self.manners.patience:g} seconds")
        reason = _plain(str(error)) or type(error).__name__
        if isinstance(error, ssl.SSLCertVerificationError):
            return RefusedError(f"the host's certificate does not hold: {_plain(error.verify_message)}")
        if isinstance(error, OSError | http.client.HTTPException):
            return _PassingError(f"no answer: {reason}")
        return RefusedError(f"the host's answer cannot be read: {reason}")

    def _addresses(self, there: Target, deadline: _Deadline) -> list[str]:
        found: queue.SimpleQueue[list[str] | Exception] = queue.SimpleQueue()

        def look_up() -> None:
            try:
                entries = socket.getaddrinfo(there.host, there.port, type=socket.SOCK_STREAM)
                found.put(list(dict.fromkeys(str(entry[4][0]) for entry in entries)))
            except Exception as error:  # OSError, UnicodeError; whatever it is, it must reach the other side
                found.put(error)

        # nothing ends a look-up that the system has begun; the thread is left behind until the system gives up
        threading.Thread(target=look_up, daemon=True).start()
        try:
            addresses = found.get(timeout=deadline.wait())
        except queue.Empty:
            raise TimeoutError(f"no address for {there.host} in {self.manners.timeout:g} seconds") from None
        if isinstance(addresses, Exception):
            raise _PassingError(f"no address for {there.host}") from addresses
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
    def _answer(self, there: Target, addresses: list[str], deadline: _Deadline) -> Iterator[http.client.HTTPResponse]:
        usual = 443 if there.scheme == "https" else 80
        lines = (
            f"GET {there.path} HTTP/1.1",
            f"Host: {there.name if there.port == usual else there.place}",
            f"User-Agent: {self.manners.agent}",
            "Accept: image/*",
            "Accept-Encoding: identity",
            "Connection: close",
        )
        with contextlib.closing(self._connection(there, addresses, deadline)) as connection:
            wire = _Wire(connection, deadline, 2 * self.manners.max_bytes + _HEAD)
            wire.send("".join(f"{line}\r\n" for line in (*lines, "")).encode())
            with contextlib.closing(http.client.HTTPResponse(wire, method="GET")) as response:  # type: ignore[arg-type]
                response.begin()
                yield response

    def _connection(self, there: Target, addresses: list[str], deadline: _Deadline) -> socket.socket:
        """A connection to one of the addresses that were checked, whatever the host's name means by now."""
        for address in addresses:
            try:
                connection = socket.create_connection((address, there.port), deadline.wait())
                break
            except OSError:
                if address == addresses[-1]:
                    raise
        if there.scheme == "http":
            return connection
        try:
            connection.settimeout(deadline.wait())
            return self._tls.wrap_socket(connection, server_hostname=there.host)
        except BaseException:
            connection.close()
            raise

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
            raise RefusedError(_plain(f"the host answers {response.status} {response.reason}"))
        kind = response.headers.get_content_type()
        if not kind.startswith(_TYPES):
            raise RefusedError(f"the host sends {_plain(kind)}, not a picture")
        for header, known in (("Content-Encoding", "identity"), ("Transfer-Encoding", "chunked")):
            if (coding := response.headers.get(header, known)).strip().lower() != known:
                raise RefusedError(f"the host sends it in a coding that was not asked for: {_plain(coding)}")
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


class _Deadline:
    """When all that one try does has to be over.

    Args:
        patience: seconds from now.
        timeout: seconds that one wait within may take.
    """

    def __init__(self, patience: float, timeout: float) -> None:
        self._end, self._timeout = time.monotonic() + patience, timeout

    @property
    def left(self) -> float:
        """Seconds, not below 0."""
        return max(0.0, self._end - time.monotonic())

    def wait(self) -> float:
        """Seconds that the next wait may take.

        Raises:
            TimeoutError: none.
        """
        if not (left := self.left):
            raise TimeoutError
        return min(left, self._timeout)


class _Wire(io.RawIOBase):
    """A connection that is only waited for as long as the deadline allows and gives only so many bytes, whatever http
    makes of them: an answer may have neither length nor end, claim a chunk of −1 bytes, or never end its headers.

    Args:
        connection: is the caller's to close.
        deadline: of all reads and writes together.
        most: bytes that are read in all.
    """

    def __init__(self, connection: socket.socket, deadline: _Deadline, most: int) -> None:
        self._connection, self._deadline, self._left = connection, deadline, most

    def send(self, data: bytes) -> None:
        self._connection.settimeout(self._deadline.wait())
        self._connection.sendall(data)

    def makefile(self, mode: str) -> io.BufferedReader:  # all that HTTPResponse asks of a socket
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        self._connection.settimeout(self._deadline.wait())
        got = self._connection.recv_into(buffer)
        self._left -= got
        if self._left < 0:
            raise RefusedError("the answer does not end")
        return got


def _plain(text: str) -> str:
    """What a host says, fit to be printed."""
    return "".join(letter if letter.isprintable() else "?" for letter in text[:120])


def _retry_after(value: str) -> float:
    """Seconds that a host asks to wait, given as a number or a date; 0 if it does not."""
    if value.strip().isdecimal():
        return float(value.strip()[:9])
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError, OverflowError):
        return 0.0
