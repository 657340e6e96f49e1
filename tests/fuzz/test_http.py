"""Whatever a server answers and whatever stands for a URL costs one picture."""

from __future__ import annotations

import io
import ipaddress
import json
import socket
import threading

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from fuzz.harness import contained, damaged, fuzzed
from photodesk.data import http_client
from photodesk.data.http_client import Client, Manners, RefusedError


def picture():
    stream = io.BytesIO()
    Image.linear_gradient("L").resize((16, 16)).save(stream, "PNG")
    return stream.getvalue()


PICTURE = picture()
OK = b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n"
ANSWERS = [
    OK + b"Content-Length: %d\r\n\r\n" % len(PICTURE) + PICTURE,
    OK + b"Connection: close\r\n\r\n" + PICTURE,
    OK + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % len(PICTURE) + PICTURE + b"\r\n0\r\nX: y\r\n\r\n",
    b"HTTP/1.0 302 Found\r\nLocation: http://h:80/other\r\n\r\n",
    b"HTTP/1.1 503 Busy\r\nRetry-After: Fri, 31 Dec 1999 23:59:59 GMT\r\nContent-Length: 0\r\n\r\n",
]
HEADERS = st.sampled_from(
    ["Content-Type", "Content-Length", "Transfer-Encoding", "Content-Encoding", "Location", "Retry-After", "Connection"]
)
LINES = st.tuples(HEADERS, st.text(max_size=30) | st.sampled_from(["chunked", "-1", "1e9", "image/png", "http://["]))


@st.composite
def answers(draw):
    if draw(st.booleans()):
        return draw(damaged(draw(st.sampled_from(ANSWERS))))
    status = draw(st.sampled_from(["200 OK", "301 M", "429 Slow", "404 No", "100 Go", "99999999", "x", ""]))
    head = "".join(f"{name}: {value}\r\n" for name, value in draw(st.lists(LINES, max_size=6)))
    return f"HTTP/1.1 {status}\r\n{head}\r\n".encode("utf-8", "replace") + draw(st.binary(max_size=200))


class Impatient(http_client.Clock):
    def sleep(self, seconds):
        assert seconds <= 300


@fuzzed
@given(answers())
@example(OK + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n" + bytes(300_000))
@example(b"HTTP/1.1 302 Found\r\nLocation: http://[\r\n\r\n")
def test_an_answer_is_a_picture_or_refused(answer):
    senders, records = [], []

    def connect(*_):
        ours, theirs = socket.socketpair()

        def send():
            with theirs:
                try:
                    theirs.sendall(answer)
                    theirs.shutdown(socket.SHUT_WR)
                    theirs.recv(65536)
                except OSError:
                    pass

        senders.append(threading.Thread(target=send))
        senders[-1].start()
        return ours

    manners = Manners(rate=1e9, retries=1, timeout=10, patience=30, max_bytes=100_000, allow_private=True)
    with pytest.MonkeyPatch.context() as patch, contained():
        patch.setattr(socket, "getaddrinfo", lambda host, port, **_: [(0, 0, 0, "", ("127.0.0.1", port))])
        patch.setattr(socket, "create_connection", connect)
        client = Client({"h", "h:80"}, manners=manners, log=records.append, clock=Impatient())
        try:
            assert len(client.get("http://h/a.png")) <= manners.max_bytes
        except RefusedError as error:
            assert str(error).isprintable()  # noqa: PT017
    for sender in senders:
        sender.join()
    json.dumps(records).encode()


PARTS = st.text(max_size=8) | st.sampled_from(
    ["@", ":", "[", "]", "//", "\\", "#", "?", "%", "::1", "127.1", "0x7f", "."]
)


@fuzzed
@given(st.lists(PARTS, max_size=6).map("".join), st.sampled_from(["", "http://", "https://", "//", "http:"]))
@example("\ud800", "http://h/")
def test_a_url_is_a_target_or_refused(text, before):
    try:
        there = http_client.target(before + text)
    except RefusedError:
        return
    assert there.scheme in ("http", "https")
    assert 0 < there.port < 65536
    assert there.path.isascii()
    assert not set(there.path) & set(" \r\n\t\0#\\")
    assert not set(there.host) & set(" \r\n\t\0#\\@/?%[]")
    assert http_client.target(f"{there.scheme}://{there.place}{there.path}") == there


EDGES = [edge for network in http_client._SPECIAL for edge in (network[0], network[-1])]


@fuzzed
@given(
    st.ip_addresses(v=4)
    | st.ip_addresses(v=6)
    | st.sampled_from(EDGES)
    | st.integers(0, 2**32 - 1).map(ipaddress.IPv4Address)
)
def test_what_python_calls_private_is_never_public(ip):
    """Python's own list is older and shorter than ours, but nothing in it is missing from ours."""
    if isinstance(ip, ipaddress.IPv6Address) and (ip.ipv4_mapped or ip in ipaddress.IPv6Network("64:ff9b::/96")):
        assert http_client.public(str(ip)) == http_client.public(str(ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)))
    elif http_client.public(str(ip)):
        assert ip.is_global
        assert not any((ip.is_multicast, ip.is_private, ip.is_reserved, ip.is_loopback, ip.is_link_local))
