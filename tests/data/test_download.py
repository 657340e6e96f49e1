"""Fetching pictures from a server that behaves in every way a server can; nothing but whole pictures is ever saved."""

import contextlib
import io
import json
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from photodesk.cli import commands
from photodesk.data import http_client
from photodesk.data.download import LOG, Fetched, fetch
from photodesk.data.http_client import Client, Clock, Manners, NoAnswerError, RefusedError
from photodesk.types import Listed


def picture(kind: str = "JPEG") -> bytes:
    stream = io.BytesIO()
    Image.linear_gradient("L").save(stream, kind)
    return stream.getvalue()


class Server(ThreadingHTTPServer):
    """Counts requests by path and keeps their headers."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: Counter[str] = Counter()
        self.agents: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: object, address: object) -> None:
        """Clients that hang up are part of the test."""


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *_: object) -> None:
        pass

    def answer(
        self, status: int, body: bytes = b"", kind: str = "image/jpeg", length: int | None = None, **headers: str
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        what = self.path.split("?")[0]
        self.server.asked[what] += 1
        self.server.agents.append(self.headers["User-Agent"])
        port = self.server.server_port
        match what.strip("/").split("/"):
            case ["ok", *_]:
                self.answer(200, picture())
            case ["png"]:
                self.answer(200, picture("PNG"), "image/png")
            case ["twice"]:
                self.answer(503) if self.server.asked[what] <= 2 else self.answer(200, picture())
            case ["busy", seconds]:
                self.answer(429, Retry_After=seconds) if self.server.asked[what] <= 1 else self.answer(200, picture())
            case ["status", status]:
                self.answer(int(status))
            case ["to", "ok"]:
                self.answer(302, Location="/ok/moved.jpg")
            case ["to", "loop"]:
                self.answer(302, Location="/to/loop")
            case ["to", "file"]:
                self.answer(302, Location="file:///etc/passwd")
            case ["to", "other"]:
                self.answer(302, Location=f"http://localhost:{port}/ok/other.jpg")
            case ["to", "port"]:
                self.answer(302, Location=f"http://127.0.0.1:{port + 1}/ok/other.jpg")
            case ["to", "nowhere"]:
                self.answer(302)
            case ["page"]:
                self.answer(200, b"<html>", "text/html")
            case ["liar"]:
                self.answer(200, b"<html>gone</html>")
            case ["half"]:
                self.answer(200, picture()[:300])
            case ["cut"]:
                self.answer(200, picture()[:300], length=len(picture()))
            case ["big"]:
                self.answer(200, length=10**9)
            case ["endless"]:
                self.answer(200, bytes(300_000), length=300_000) if "l" in self.path.partition("?")[
                    2
                ] else self.chunks()
            case ["drip"]:
                self.drip()
            case _:
                self.answer(404)

    def chunks(self) -> None:
        self.protocol_version = "HTTP/1.1"
        self.send_response(200)
        self.send_header("Content-Type", "image/jpeg")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for _ in range(10_000):
            self.wfile.write(b"1000\r\n" + bytes(4096) + b"\r\n")

    def drip(self) -> None:
        self.send_response(200)
        for i in range(1000):
            self.wfile.write(b"X-Slow: %d\r\n" % i)
            self.wfile.flush()
            threading.Event().wait(0.05)


class Fake(Clock):
    """Time that passes only by sleeping; keeps what was slept."""

    def __init__(self) -> None:
        self.time = 0.0
        self.slept: list[float] = []

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.time += seconds


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield running
    running.shutdown()
    thread.join()
    running.server_close()


LOCAL = Manners(rate=1000, allow_private=True, max_bytes=200_000, timeout=5)


def run(server: Server, folder: Path, *paths: str, manners: Manners = LOCAL, clock: Clock | None = None) -> Fetched:
    listed = [
        Listed(f"i{n}", f"p{n}.jpg", path if ":" in path else server.url + path, f"t.tsv:{n + 2}")
        for n, path in enumerate(paths)
    ]
    return fetch(listed, folder, manners=manners, clock=clock or Fake())


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != LOG)


def test_pictures_are_saved_under_their_names_and_logged(server: Server, tmp_path: Path) -> None:
    result = run(server, tmp_path / "new", "/ok/a.jpg", "/png", "/to/ok")
    assert (result.saved, result.there, result.faults) == (3, 0, [])
    assert names(tmp_path / "new") == ["p0.jpg", "p1.jpg", "p2.jpg"]
    assert (tmp_path / "new" / "p0.jpg").read_bytes() == picture()
    log = [json.loads(line) for line in (tmp_path / "new" / LOG).read_text().splitlines()]
    assert [(entry["url"].removeprefix(server.url), entry["status"]) for entry in log] == [
        ("/ok/a.jpg", 200),
        ("/png", 200),
        ("/to/ok", 302),
        ("/ok/moved.jpg", 200),
    ]
    assert all(entry["addresses"] == ["127.0.0.1"] and entry["time"].endswith("+00:00") for entry in log)
    assert log[0]["bytes"] == len(picture())


def test_what_is_there_is_not_asked_again(server: Server, tmp_path: Path) -> None:
    run(server, tmp_path, "/ok/a.jpg", "/status/500")
    result = run(server, tmp_path, "/ok/a.jpg", "/ok/b.jpg")
    assert (result.saved, result.there) == (1, 1)
    assert server.asked["/ok/a.jpg"] == 1
    assert names(tmp_path) == ["p0.jpg", "p1.jpg"]


@pytest.mark.parametrize(
    ("path", "reason", "asked"),
    [
        ("/status/404", "the host answers 404", 1),
        ("/status/403", "the host answers 403", 1),
        ("/status/204", "the host answers 204", 1),
        ("/status/500", "the host answers 500, after 4 tries", 4),
        ("/page", "the host sends text/html, not a picture", 1),
        ("/liar", "is not a picture: a web page", 1),
        ("/half", "what the host sends is cut short", 1),
        ("/cut", "the answer ends after 300 of", 4),
        ("/big", "1000000000 bytes, more than 200000", 1),
        ("/endless", "more than 200000 bytes", 1),
        ("/endless?l", "300000 bytes, more than 200000", 1),
        ("/to/loop", "more than 5 redirects", 6),
        ("/to/file", "only http and https are fetched, not 'file'", 1),
        ("/to/other", "leads to localhost:", 1),
        ("/to/port", "which the file does not name", 1),
        ("/to/nowhere", "302 without a place", 1),
    ],
)
def test_nothing_but_whole_pictures_is_saved(
    server: Server, tmp_path: Path, path: str, reason: str, asked: int
) -> None:
    result = run(server, tmp_path, path, "/ok/after.jpg")
    assert reason in result.faults[0].what
    assert (result.faults[0].where, result.faults[0].fate, result.saved) == ("t.tsv:2", "left out", 1)
    assert server.asked[path.split("?")[0]] == asked
    assert names(tmp_path) == ["p1.jpg"]


def test_failures_that_may_pass_are_retried_after_longer_and_longer_waits(server: Server, tmp_path: Path) -> None:
    clock = Fake()
    assert run(server, tmp_path, "/twice", clock=clock).saved == 1
    assert [wait for wait in clock.slept if wait > 1] == [2.0, 4.0]
    clock = Fake()
    assert run(server, tmp_path / "b", "/busy/17", clock=clock).saved == 1
    assert [wait for wait in clock.slept if wait > 1] == [17.0]
    result = run(server, tmp_path / "c", "/busy/86400", clock=clock)
    assert "429" in result.faults[0].what
    assert result.faults[0].advice == "run the command again later"


def test_a_host_is_asked_at_the_rate_that_was_said(server: Server, tmp_path: Path) -> None:
    clock = Fake()
    run(server, tmp_path, *[f"/ok/{i}.jpg" for i in range(6)], manners=Manners(rate=4, allow_private=True), clock=clock)
    assert clock.slept == [0.25] * 5


def test_an_answer_without_end_is_cut(server: Server, tmp_path: Path) -> None:
    result = run(server, tmp_path, "/drip", manners=Manners(rate=1000, retries=0, patience=0.2, allow_private=True))
    assert result.saved == 0
    assert "no answer" in result.faults[0].what


def test_a_silent_host_is_left_alone_after_five_pictures(tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    listed = [Listed(f"i{n}", "", f"http://127.0.0.1:{port}/{n}.jpg", f"t:{n}") for n in range(8)]
    result = fetch(listed, tmp_path, manners=Manners(rate=1000, retries=1, allow_private=True), clock=Fake())
    assert len(result.faults) == 8
    assert sum("did not answer 5 times in a row" in fault.what for fault in result.faults) == 3
    assert len((tmp_path / LOG).read_text().splitlines()) == 10


def test_the_user_agent_says_who_asks(server: Server, tmp_path: Path) -> None:
    run(server, tmp_path, "/ok/1.jpg", manners=Manners(contact="desk@example.org", allow_private=True))
    assert server.agents[0].startswith("photodesk/")
    assert "desk@example.org" in server.agents[0]


# --- addresses


PRIVATE = """127.0.0.1 127.9.9.9 10.1.2.3 172.16.0.1 192.168.1.1 169.254.169.254 100.64.0.1 0.0.0.0 255.255.255.255
224.0.0.1 239.1.2.3 100.127.255.255 172.31.255.255 192.0.0.9 192.0.0.170 192.0.2.1 192.31.196.1 192.52.193.1 192.88.99.1
192.175.48.1 198.18.0.1 198.19.255.255 198.51.100.1 203.0.113.1 240.0.0.1
::1 :: fe80::1 fe80::1%eth0 fc00::1 fd12::1 fec0::1 ff02::1 ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:c000:9
64:ff9b::7f00:1 64:ff9b::a9fe:a9fe 64:ff9b:1::808:808 ::7f00:1 ::808:808 2002:7f00:1:: 2002:808:808::
2001::1 2001:0:7f00:1:: 2001:2::1 2001:3::1 2001:10::1 2001:20::1 2001:30::1 2001:db8::1 2620:4f:8000::1 3fff:1::1
100::1 100:0:0:1::1 5f00::1 4000::1"""


@pytest.mark.parametrize("address", PRIVATE.split())
def test_private_addresses(address: str) -> None:
    assert not http_client.public(address)


@pytest.mark.parametrize(
    "address",
    """8.8.8.8 93.184.215.14 2606:4700::1111 ::ffff:8.8.8.8 64:ff9b::808:808 100.63.255.255 100.128.0.0 172.32.0.0
    192.0.1.0 198.17.255.255 198.20.0.0 223.255.255.255 2001:200::1 2001:db9::1 2003::1 2620:4f:8001::1
    3ffe::1""".split(),  # noqa: SIM905
)
def test_public_addresses(address: str) -> None:
    assert http_client.public(address)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "\u2460\u2461\u2466.0.0.1"])
def test_without_the_switch_no_private_address_is_asked(server: Server, tmp_path: Path, host: str) -> None:
    url = f"http://{host}:{server.server_port}/ok/a.jpg"
    result = fetch([Listed("i", "a.jpg", url, "t:2")], tmp_path, manners=Manners(rate=1000, retries=0), clock=Fake())
    assert "is an address of a private network" in result.faults[0].what or "no address for" in result.faults[0].what
    assert (server.asked, names(tmp_path)) == (Counter(), [])


def test_a_name_that_means_a_private_address_is_refused(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def resolve(host: str, port: int, **_: object) -> list[tuple[object, ...]]:
        return [(0, 0, 0, "", (address, port)) for address in ("93.184.215.14", "127.0.0.1")]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    result = fetch(
        [Listed("i", "a.jpg", f"http://pictures.test:{server.server_port}/ok/a.jpg", "t:2")],
        tmp_path,
        manners=Manners(rate=1000),
        clock=Fake(),
    )
    assert "pictures.test is an address of a private network" in result.faults[0].what
    assert server.asked == Counter()


def test_the_address_that_was_checked_is_the_one_that_is_asked(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that means a public address when it is checked and this machine a moment later (DNS rebinding)."""
    answers = iter(["93.184.215.14", "127.0.0.1", "127.0.0.1"])
    asked: list[tuple[str, int]] = []

    def resolve(host: str, port: int, **_: object) -> list[tuple[object, ...]]:
        return [(0, 0, 0, "", (next(answers), port))]

    def connect(address: tuple[str, int], *_: object) -> socket.socket:
        asked.append(address)
        raise OSError("no way out")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setattr(socket, "create_connection", connect)
    fetch(
        [Listed("i", "a.jpg", "http://pictures.test/ok/a.jpg", "t:2")],
        tmp_path,
        manners=Manners(rate=1000, retries=0),
        clock=Fake(),
    )
    assert asked == [("93.184.215.14", 80)]


def test_the_next_address_is_tried_where_one_does_not_answer(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = socket.getaddrinfo

    def resolve(host: str, port: int, *rest: int, **_: object) -> list[tuple[object, ...]]:
        return (
            [(0, 0, 0, "", (address, port)) for address in ("127.0.0.2", "127.0.0.1")]
            if host == "pictures.test"
            else real(host, port, *rest)
        )

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    result = run(server, tmp_path, f"http://pictures.test:{server.server_port}/ok/a.jpg")
    assert result.saved == 1


@pytest.mark.parametrize(
    "url",
    [
        "ftp://h/a",
        "file:///etc/passwd",
        "javascript:1",
        "//h/a",
        "h/a.jpg",
        "http://",
        "http://u:p@h/a",
        "http://h:99999/a",
        "http://[/a",
        "data:image/png;base64,x",
        "",
        "http://0x7f000001/",
        "http://2130706433/",
        "http://127.1/",
        "http://127.0.0.1.0x1/",
        "http://0177.0.0.1/",
        "http://8.8.8.8.8/",
        "http://256.1.1.1/",
        "http://[fe80::1%25eth0]/",
        "http://[v1.x]/",
        "http://x[::1]/",
        "http://@h/",
        "http://a b/",
        "http://a\\@b/",
        "http://a%62/",
        "http://a/\ud800",
        "http://\ud800/",
        "http://-a/",
        "http://a..b/",
        "http://" + "a." * 127 + "aa/",
        "http://" + "a" * 64 + "/",
        "http://h:0/",
        "http://h:-1/",
        "http://h:1x/",
    ],
)
def test_urls_that_are_not_asked(url: str) -> None:
    with pytest.raises(RefusedError):
        http_client.target(url)


def test_urls_are_written_as_http_wants_them() -> None:
    assert http_client.target(" HTTP://B\u00fccher.Example./\u00fc b.jpg?q=\u00e9&r=%20#x ") == http_client.Target(
        "http", "xn--bcher-kva.example", 80, "/%C3%BC%20b.jpg?q=%C3%A9&r=%20"
    )
    assert http_client.target("https://h:8443").port == 8443
    assert http_client.target("http://8.8.8.8./").host == "8.8.8.8"
    assert http_client.target("http://img_1.h/a").host == "img_1.h"
    assert http_client.target("http://[2606:0:0::1]:80/").place == "[2606::1]:80"


@given(st.text(max_size=40))
@settings(max_examples=300, deadline=None)
def test_any_text_is_a_target_or_refused(text: str) -> None:
    for url in (text, f"http://{text}", f"http://h/{text}", f"http://h:{text}/"):
        try:
            found = http_client.target(url)
        except RefusedError:
            continue
        assert found.scheme in ("http", "https")
        assert found.host.isascii()
        assert found.path.isascii()
        assert not set(found.path) & set(" \r\n\t\0")


# --- names


@pytest.mark.parametrize(
    "name",
    [
        "../a.jpg",
        "/etc/a.jpg",
        "a/b.jpg",
        "..",
        ".hidden.jpg",
        "a\\b.jpg",
        "C:a.jpg",
        "a\0.jpg",
        "a\n.jpg",
        "x" * 300,
        ".",
        LOG[:0] + "./x",
    ],
)
def test_no_name_leaves_the_folder(server: Server, tmp_path: Path, name: str) -> None:
    result = fetch([Listed("i", name, server.url + "/ok/a.jpg", "t:2")], tmp_path / "in", manners=LOCAL, clock=Fake())
    assert "is not the name of a file" in result.faults[0].what
    assert (names(tmp_path / "in"), names(tmp_path), server.asked) == ([], ["in"], Counter())


@pytest.mark.parametrize(
    ("photo", "file", "saved"),
    [("h1", "", "h1.png"), ("fetch.log", "", "fetch.log.png"), ("x", "h1.JPG", "h1.JPG"), ("v1.2", "", "v1.2.png")],
)
def test_names_without_a_suffix_get_that_of_the_content(
    server: Server, tmp_path: Path, photo: str, file: str, saved: str
) -> None:
    fetch([Listed(photo, file, server.url + "/png", "t:2")], tmp_path, manners=LOCAL, clock=Fake())
    assert names(tmp_path) == [saved]


# --- the command


def test_fetch_fills_a_release_and_goes_on_where_it_stopped(server: Server, tmp_path: Path) -> None:
    head = "article\taid\turl\timg\tiid\thashvalue\ttitle\ttext\timgFile\n"
    rows = "".join(
        f"{i}\t{i}\thttp://k/{i}\t{server.url}/{path}\t90{i}\th{i}\tTitel {i}\t\th{i}.jpg\n"
        for i, path in enumerate(["ok/0.jpg", "twist", "ok/2.jpg"])
    )
    (tmp_path / "content2019-01.tsv").write_text(head + rows)
    arguments = ["fetch", str(tmp_path), "--rate", "20", "--allow-private-for-tests"]
    result = CliRunner().invoke(commands, arguments)
    assert result.exit_code == 1
    assert "cannot be fetched: h1.jpg: the host answers 404" in result.stderr
    assert "2 pictures saved" in result.stderr
    result = CliRunner().invoke(commands, arguments)
    assert "0 pictures saved" in result.stderr
    assert "2 were there, 1 cannot be had" in result.stderr
    assert server.asked == Counter({"/twist": 2, "/ok/0.jpg": 1, "/ok/2.jpg": 1})
    result = CliRunner().invoke(commands, ["check", str(tmp_path)])
    assert "picture is missing" in result.stdout
    assert "2 photos" in result.stderr


def test_fetch_asks_no_private_address_unless_told(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(f"id,title,image_id,image_url\n1,A,b,{server.url}/ok/a.jpg\n")
    result = CliRunner().invoke(commands, ["fetch", str(tmp_path)])
    assert (result.exit_code, server.asked) == (1, Counter())
    assert "private network" in result.stderr


def test_the_real_clock_moves() -> None:
    clock = Clock()
    before = clock.now()
    clock.sleep(0.001)
    assert clock.now() > before


def test_hosts_that_were_not_named_are_not_asked(server: Server) -> None:
    client = Client(["other.test"], manners=LOCAL, log=lambda _: None, clock=Fake())
    with pytest.raises(RefusedError, match="which the file does not name"):
        client.get(server.url + "/ok/a.jpg")
    assert server.asked == Counter()
    assert issubclass(NoAnswerError, RefusedError)


# --- what a server can say


class Raw:
    """A server that says what it is told, byte by byte, to whoever connects."""

    def __init__(self, *says: bytes, every: float = 0.0) -> None:
        self.says, self.every = says, every
        self.asked = 0
        self.over = threading.Event()
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listening.getsockname()[1]}"
        self.thread = threading.Thread(target=self.serve, daemon=True)

    def __enter__(self) -> "Raw":
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.listening.shutdown(socket.SHUT_RDWR)
        self.listening.close()
        self.thread.join()

    def serve(self) -> None:
        while True:
            try:
                connection, _ = self.listening.accept()
            except OSError:
                return
            self.asked += 1
            with connection, contextlib.suppress(OSError):
                if not self.url.startswith("https"):
                    connection.recv(65536)
                for part in self.says:
                    connection.sendall(part)
                    self.over.wait(self.every)


def dripping(head: str, body: bytes = b"") -> list[bytes]:
    """An answer in 100 parts; a client that waits for all of them has it whole."""
    whole = head.replace("\n", "\r\n").encode() + body
    size = -(-len(whole) // 100)
    return [whole[at : at + size] for at in range(0, len(whole), size)]


CHUNKS = b"".join(b"1\r\n%c\r\n" % byte for byte in picture()) + b"0\r\n\r\n"
HEAD = "HTTP/1.1 200 OK\nContent-Type: image/jpeg\n"


@pytest.mark.parametrize(
    "says",
    [
        dripping(HEAD + "Connection: close\n\n", picture()),
        dripping(HEAD + "\n", picture()),
        dripping(HEAD.replace("/1.1", "/1.0") + "\n", picture()),
        dripping(HEAD + f"Content-Length: {len(picture())}\n\n", picture()),
        dripping(HEAD + "Transfer-Encoding: chunked\n\n", CHUNKS),
        dripping(HEAD + "X-Slow: 1\n" * 90 + "Content-Length: 0\n\n"),
        dripping("HTTP/1.1 100 Continue\n\n" * 100 + "HTTP/1.1 404 Gone\n\n"),
    ],
    ids=["close", "neither", "http/1.0", "length", "chunked", "headers", "continue"],
)
def test_no_slow_answer_outlasts_the_patience(tmp_path: Path, says: list[bytes]) -> None:
    """All of it would take 5 seconds; whoever waits for it has another fault, or a picture."""
    with Raw(*says, every=0.05) as raw:
        listed = [Listed("i", "a.jpg", raw.url + "/a.jpg", "t:2")]
        manners = Manners(rate=1000, patience=0.3, retries=3, allow_private=True)
        result = fetch(listed, tmp_path, manners=manners, clock=Fake())
    assert (result.saved, names(tmp_path), raw.asked) == (0, [], 1)
    assert result.faults[0].what == "cannot be fetched: a.jpg: no answer in 0.3 seconds"


@pytest.mark.parametrize("says", [(), [b"\x16", b"\x03", b"\x03", b"\x40", b"\x00", *[b"\x02"] * 95]])
def test_no_slow_handshake_outlasts_the_patience(tmp_path: Path, says: list[bytes]) -> None:
    with Raw(*says or [b""] * 100, every=0.05) as raw:
        raw.url = raw.url.replace("http:", "https:")
        listed = [Listed("i", "a.jpg", raw.url + "/a.jpg", "t:2")]
        result = fetch(listed, tmp_path, manners=Manners(rate=1000, patience=0.3, allow_private=True), clock=Fake())
    assert result.faults[0].what == "cannot be fetched: a.jpg: no answer in 0.3 seconds"


def test_no_slow_look_up_outlasts_the_patience(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = threading.Event()

    def resolve(host: str, port: int, **_: object) -> list[tuple[object, ...]]:
        done.wait(5)
        return [(0, 0, 0, "", ("127.0.0.1", port))]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    listed = [Listed("i", "a.jpg", "http://127.0.0.1:1/a.jpg", "t:2")]
    result = fetch(listed, tmp_path, manners=Manners(rate=1000, patience=0.3), clock=Fake())
    done.set()
    assert result.faults[0].what == "cannot be fetched: a.jpg: no answer in 0.3 seconds"


def test_redirects_share_one_patience(tmp_path: Path) -> None:
    """Each is quicker than the patience, all together are not."""
    with Raw(b"", b"HTTP/1.1 302 Found\r\nLocation: /again\r\n\r\n", every=0.2) as raw:
        listed = [Listed("i", "a.jpg", raw.url + "/a.jpg", "t:2")]
        result = fetch(listed, tmp_path, manners=Manners(rate=1000, patience=0.5, allow_private=True), clock=Fake())
    assert result.faults[0].what == "cannot be fetched: a.jpg: no answer in 0.5 seconds"


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("HTTP/1.1 302 Found\nLocation: http://[/x\n\n", "redirects to what is not a URL: 'http://[/x'"),
        ("HTTP/1.1 302 Found\nLocation: http://[::1/\n\n", "redirects to what is not a URL"),
        ("HTTP/1.1 302 Found\nLocation: http://h:99999/\n\n", "not a URL: 'http://h:99999/'"),
        ("HTTP/1.1 302 Found\nLocation: http://h:0/\n\n", "no plain host in 'http://h:0/'"),
        (
            "HTTP/1.1 302 Found\nLocation: http://127.0.0.1:22/\n\n",
            "leads to 127.0.0.1:22, which the file does not name",
        ),
        ("HTTP/1.1 302 Found\nLocation: //2130706433/\n\n", "not a URL: 'http://2130706433/'"),
        ("HTTP/1.1 302 Found\nLocation: gopher://127.0.0.1/\n\n", "only http and https are fetched, not 'gopher'"),
        ("HTTP/1.1 302 Found\nLocation: \n\n", "302 without a place"),
        ("HTTP/1.1 9999 No\n\n", "no answer: HTTP/1.1 9999 No"),
        ("HTTP/1.1 -1 No\n\n", "no answer: HTTP/1.1 -1 No"),
        ("SSH-2.0-OpenSSH_9\n", "no answer: SSH-2.0-OpenSSH_9"),
        ("HTTP/3.0 200 OK\n\n", "no answer: HTTP/3.0"),
        ("HTTP/1.1 404 \x1b[31mred\n\n", "the host answers 404 ?[31mred"),
        ("", "no answer: Remote end closed connection"),
        ("H" * 70_000, "no answer: got more than 65536 bytes when reading status line"),
        ("HTTP/1.1 200 OK\nX: " + "x" * 70_000 + "\n\n", "no answer: got more than 65536 bytes when reading header"),
        ("HTTP/1.1 200 OK\n" + "X: y\n" * 200 + "\n", "no answer: got more than 100 headers"),
        ("HTTP/1.1 200 OK\nContent-Type: \x1b]0;x\n\nx", "the host sends text/plain, not a picture"),
        (HEAD + "Content-Length: " + "9" * 30 + "\n\nx", f"{'9' * 30} bytes, more than 200000"),
        (HEAD + "Content-Length: " + "9" * 5000 + "\n\nx", "what the host sends is not a picture"),
        (HEAD + "Content-Length: -5\n\nx", "what the host sends is not a picture"),
        (HEAD + "Content-Encoding: gzip\n\nx", "the host sends it in a coding that was not asked for: gzip"),
        (HEAD + "Transfer-Encoding: gzip, chunked\n\nx", "in a coding that was not asked for: gzip, chunked"),
        (HEAD + "Transfer-Encoding: chunked\n\nxyz\n", "no answer: IncompleteRead(0 bytes read)"),
        (HEAD + "Transfer-Encoding: chunked\n\nffffffffffffffffffff\nx", "no answer: IncompleteRead(0 bytes read"),
        (HEAD + "Transfer-Encoding: chunked\n\n-1\n" + "x" * 1_500_000, "the answer does not end"),
        (HEAD + "Transfer-Encoding: chunked\n\n0\n" + "Trailer: x\n" * 150_000, "the answer does not end"),
        (HEAD + "\n" + "x" * 300_000, "more than 200000 bytes"),
        ("HTTP/1.1 100 Continue\n\n" * 70_000, "the answer does not end"),
    ],
)
def test_whatever_a_server_answers_costs_one_picture(server: Server, tmp_path: Path, said: str, reason: str) -> None:
    with Raw(said.replace("\n", "\r\n").encode("latin-1")) as raw:
        result = run(server, tmp_path, raw.url + "/a.jpg", "/ok/b.jpg", raw.url + "/c.jpg")
    assert [fault.where for fault in result.faults] == ["t.tsv:2", "t.tsv:4"]
    assert reason in result.faults[0].what
    assert result.faults[0].what.isprintable()
    assert (result.saved, names(tmp_path)) == (1, ["p1.jpg"])


def test_a_contact_stays_within_its_header(server: Server, tmp_path: Path) -> None:
    run(server, tmp_path, "/ok/1.jpg", manners=Manners(contact="me\r\nX-Evil: 1", allow_private=True))
    assert server.agents == [Manners(contact="meX-Evil: 1").agent]


def test_hosts_are_asked_by_the_name_that_the_file_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A port that looks like a part of an IPv6 address names no other host."""
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: pytest.fail("something was asked"))
    named = http_client.target("http://[2606::1]:80/")
    client = Client({named.host, named.place}, manners=LOCAL, log=lambda _: None, clock=Fake())
    with pytest.raises(RefusedError, match="which the file does not name"):
        client.get("http://[2606::1:80]/")
