"""What unfriendly clients send, over real sockets where the connection matters: others are served meanwhile."""

from __future__ import annotations

import asyncio
import csv
import json
import re
import socket
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")
import httpx
import uvicorn
from fastapi import Request
from fastapi.testclient import TestClient

import webdesk
from photodesk.archive import picks
from photodesk.archive.archive import Archive
from photodesk.encoders import cancellation
from photodesk.encoders.cancellation import Cancelled
from photodesk.search import explain, query
from photodesk.web import create_app, lanes, protocol, security, server, uploads
from photodesk.web.translations import ENGLISH, GERMAN

HERE = "http://127.0.0.1:8642"
TOKEN = "a long enough token"
PATIENT = 60
"""Seconds after which a test gives up."""


@pytest.fixture
def desk(tmp_path):
    ids = webdesk.build(tmp_path, ["Rom", "Ulm"])
    with Archive.open(tmp_path / "desk", doing="serve") as archive:
        made = webdesk.Desk(archive)
        made.ids = ids
        yield made


@contextmanager
def served(desk, **more):
    """A real server; gives its port."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        running = uvicorn.Server(server.config(create_app(desk, **more)))
        thread = threading.Thread(target=running.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            running.should_exit = running.force_exit = True
            thread.join(PATIENT)


def connect(port):
    return socket.create_connection(("127.0.0.1", port), timeout=PATIENT)


def answer(connection):
    """All that comes until the other side closes."""
    found = b""
    try:
        while part := connection.recv(65536):
            found += part
    except ConnectionResetError:
        pass
    return found


def sent(port, data):
    with connect(port) as connection:
        connection.sendall(data)
        return answer(connection)


def works(port, **headers):
    """Whether a search is answered, with its number."""
    return httpx.post(
        f"http://127.0.0.1:{port}/api/search", json={"draft": "Rom"}, headers=headers, timeout=PATIENT
    ).status_code


# connections


def test_unfinished_heads_shut_nobody_out_and_end(desk, monkeypatch):
    monkeypatch.setattr(protocol, "CONNECTIONS", 40)
    monkeypatch.setattr(protocol, "HEAD", 1.0)
    with served(desk) as port:
        slow = []
        for i in range(120):
            slow.append(connect(port))
            if i % 2:
                slow[-1].sendall(b"POST /api/search HTTP/1.1\r\nhost: 127.0.0.1\r\nx-")
        assert works(port) == 200
        ends = [answer(one) for one in slow]  # each ends, the oldest by making room, the others by their deadline
        assert sum(end.startswith(b"HTTP/1.1 408") for end in ends) >= 20
        assert all(end == b"" or end.startswith(b"HTTP/1.1 408") for end in ends)
        for one in slow:
            one.close()
        assert works(port) == 200


def test_a_head_byte_by_byte_has_the_same_deadline(desk, monkeypatch):
    monkeypatch.setattr(protocol, "HEAD", 0.5)

    def trickle(connection):
        late = time.monotonic() + PATIENT
        while time.monotonic() < late:
            connection.sendall(b"x")
            time.sleep(0.05)

    with served(desk) as port, connect(port) as slow, pytest.raises((BrokenPipeError, ConnectionResetError)):
        trickle(slow)


def test_between_requests_a_connection_may_rest_longer_than_a_head(desk, monkeypatch):
    monkeypatch.setattr(protocol, "HEAD", 0.3)
    with served(desk) as port, httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENT) as web:
        ports = set()
        for _ in range(3):
            found = web.get("/api/archive")
            ports.add(found.extensions["network_stream"].get_extra_info("client_addr"))
            time.sleep(0.6)
        assert len(ports) == 1


def test_a_body_that_does_not_come_is_refused_and_one_that_is_too_long_at_once(desk, monkeypatch):
    monkeypatch.setattr(security, "BODY_SECONDS", 0.5)
    head = b"POST %s HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n{"
    with served(desk) as port:
        assert sent(port, head % (b"/api/search", 1000)).startswith(b"HTTP/1.1 408")
        monkeypatch.setattr(protocol, "REST", 0.5)
        began = sent(port, head % (b"/api/search", 2**20 + 1))
        assert began.startswith(b"HTTP/1.1 413")
        assert b"at most 1,048,576 bytes" in began
        assert sent(port, head % (b"/api/uploads", uploads.BYTES + 1)).startswith(b"HTTP/1.1 413")
        assert works(port) == 200


def test_who_does_not_read_the_answer_is_left(desk, monkeypatch):
    monkeypatch.setattr(protocol, "READ", 0.5)
    monkeypatch.setattr(picks, "lines", lambda archive: ("x" * 100_000 for _ in range(1000)))
    with served(desk) as port, connect(port) as deaf:
        deaf.sendall(b"GET /api/picks HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
        time.sleep(1.5)
        assert len(answer(deaf)) < 50_000_000


def test_a_length_and_a_transfer_encoding_are_not_both_taken(desk):
    head = b"POST /api/search HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
    with served(desk) as port:
        both = head + b"content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"
        assert sent(port, both + b"GET /archive HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n").count(b"HTTP/1.1 ") == 1
        assert sent(port, both).startswith(b"HTTP/1.1 400")


# costs


class Slow(webdesk.Desk):
    """Reads a text until it is let go on, or nobody waits any more."""

    def __init__(self, archive):
        super().__init__(archive)
        self.go, self.under_way, self.ended = threading.Event(), threading.Semaphore(0), []

    def work(self):
        self.under_way.release()
        try:
            while not self.go.wait(0.02):
                cancellation.check()
        except Cancelled:
            self.ended.append(1)
            raise

    def ask(self, question):
        if question.article and len(question.article.title) > lanes.LONG:
            self.work()
        return super().ask(question)

    def why(self, question, photo):
        self.work()
        return super().why(question, photo)


LONG = {"draft": "Rom " * 2000}


@pytest.mark.parametrize("kind", ["search", "why", "page"])
def test_costly_requests_are_counted_and_short_searches_go_on(desk, kind):
    slow = Slow(desk.archive)
    photo, most = desk.ids["Rom"], 9 if kind == "search" else 5  # that run and wait

    def ask(web):
        if kind == "search":
            return web.post("/api/search", json=LONG)
        if kind == "why":
            return web.post("/api/why", json={"query": {"draft": "Rom"}, "photo": photo})
        return web.post("/why?lang=de", data={"draft": "Rom", "choice": f"{photo} 1"})

    async def visit(port):
        limits = httpx.Limits(max_connections=60)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=PATIENT, limits=limits) as web:
            asked = [asyncio.create_task(ask(web)) for _ in range(45)]
            late = time.monotonic() + PATIENT
            while sum(task.done() for task in asked) < 45 - most and time.monotonic() < late:
                await asyncio.sleep(0.02)
            found = await web.post("/api/search", json={"draft": "Rom"})
            done, waiting = ([task for task in asked if task.done() is whether] for whether in (True, False))
            slow.go.set()
            return [task.result() for task in done], await asyncio.gather(*waiting), found

    with served(slow) as port:
        refused, served_, found = asyncio.run(visit(port))
    assert found.status_code == 200
    assert (len(refused), len(served_)) == (45 - most, most)
    assert {(one.status_code, one.headers["retry-after"]) for one in refused} == {(503, "5")}
    assert {one.status_code for one in served_} == {200}
    if kind == "page":
        assert GERMAN["crowded"] in refused[0].text
        assert ">\nRom</textarea>" in refused[0].text, "the draft stays in the form"


def test_work_ends_when_its_client_is_gone_and_the_next_has_its_turn(desk):
    slow = Slow(desk.archive)
    body = json.dumps(LONG).encode()
    head = (
        b"POST /api/search HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    )
    with served(slow) as port:
        for _ in range(3):  # more than run at once
            gone = connect(port)
            gone.sendall(head % len(body) + body)
            assert slow.under_way.acquire(timeout=PATIENT)
            gone.close()
        late = time.monotonic() + PATIENT
        while len(slow.ended) < 3 and time.monotonic() < late:
            time.sleep(0.02)
        assert len(slow.ended) == 3
        slow.go.set()
        assert httpx.post(f"http://127.0.0.1:{port}/api/search", json=LONG, timeout=PATIENT).status_code == 200


def test_uploads_wait_before_their_bodies_are_read(desk, monkeypatch):
    """Thirty that began and do not go on hold no more bodies than have a turn, and no search."""
    head = b"POST /api/uploads HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: image/png\r\ncontent-length: %d\r\n\r\n"
    monkeypatch.setattr(security, "BODY_RATE", 2**26)
    monkeypatch.setattr(security, "BODY_SECONDS", 3)
    with served(desk) as port:
        begun = []
        for _ in range(30):
            begun.append(connect(port))
            begun[-1].sendall(head % (29 * 2**20) + b"\x89PNG\r\n")
        assert works(port) == 200
        ends = [answer(one)[:12] for one in begun[12:]]
        assert ends == [b"HTTP/1.1 503"] * 18, "twelve run and wait, the others are told at once"
        for one in begun:
            one.close()
        good = webdesk.png("Rom")
        found = httpx.post(
            f"http://127.0.0.1:{port}/api/uploads", content=good, headers={"content-type": "image/png"}, timeout=PATIENT
        )
        assert found.status_code == 201


def test_a_decoder_ends_when_nobody_waits_for_it(monkeypatch):
    monkeypatch.setattr(uploads, "LOOK", 0.05)
    looks = iter([False, False, True])
    with cancellation.until(lambda: next(looks)), pytest.raises(Cancelled):
        uploads._run(["sleep", "60"], b"x" * 100)


def test_each_batch_of_a_costly_request_lets_searches_go_first(monkeypatch):
    async def visit():
        first = lanes.Lane(8, 500)
        order, done = [], asyncio.Event()
        loop = asyncio.get_running_loop()

        async def search():
            async with first.turn():
                await done.wait()
                order.append("search")

        def work():
            loop.call_soon_threadsafe(done.set)
            cancellation.check()
            order.append("batch")

        monkeypatch.setattr(lanes, "POLITE", PATIENT)
        searching = asyncio.create_task(search())
        await asyncio.sleep(0)
        await lanes.Lane(1, 4, first).run(Request({"type": "http"}, lambda: asyncio.sleep(PATIENT)), work)
        await searching
        assert order == ["search", "batch"]

    asyncio.run(visit())


def test_a_turn_that_does_not_come_in_time_is_refused(monkeypatch):
    monkeypatch.setattr(lanes, "PATIENCE", 0.05)

    async def wait():
        lane = lanes.Lane(1, 3)
        async with lane.turn():
            with pytest.raises(lanes.BusyError):
                async with lane.turn():
                    pass
        async with lane.turn():
            return True

    assert asyncio.run(wait())


def test_large_bodies_are_held_only_so_many_at_once(desk, monkeypatch):
    monkeypatch.setattr(security, "HELD_BYTES", 2**18)
    monkeypatch.setattr(protocol, "REST", 0.3)
    head = b"POST / HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: %d\r\n\r\n"
    with served(desk) as port, connect(port) as first:
        first.sendall(head % 200_000)
        time.sleep(0.3)
        assert sent(port, head % 200_000).startswith(b"HTTP/1.1 503")
        assert works(port) == 200, "small ones are always read"


# what is said of limits


@pytest.fixture
def web(desk):
    with TestClient(create_app(desk, key="key"), base_url=HERE) as client:
        yield client


def test_page_and_description_say_how_much_is_read(web):
    assert ENGLISH["draft_hint"].format(count="20,000") in web.get("/").text
    assert GERMAN["draft_hint"].format(count="20.000") in web.get("/?lang=de").text
    described = web.get("/openapi.json").json()["components"]["schemas"]
    assert f"{query.READ:,} characters" in described["Query"]["properties"]["draft"]["description"]
    assert f"{explain.EXPLAINED:,} characters" in described["Why"]["properties"]["whole"]["description"]


@pytest.mark.parametrize(("lang", "said"), [("en", ENGLISH), ("de", GERMAN)])
def test_the_panel_says_when_only_passages_were_looked_into(desk, web, monkeypatch, lang, said):
    photo, plain = desk.ids["Rom"], desk.why
    note = said["why_part"].format(count="2,000" if lang == "en" else "2.000")
    assert note not in web.post(f"/why?lang={lang}", data={"draft": "Rom", "choice": f"{photo} 1"}).text

    def partly(question, photo):
        reason = plain(question, photo)
        return explain.Reason(reason.found, reason.words, reason.heat, reason.shares, False)

    monkeypatch.setattr(desk, "why", partly)
    assert note in web.post(f"/why?lang={lang}", data={"draft": "Rom", "choice": f"{photo} 1"}).text
    assert web.post("/api/why", json={"query": {"draft": "Rom"}, "photo": photo}).json()["whole"] is False


# what is odd


@pytest.mark.parametrize("path", ["/", "/why", "/pick", "/unpick", "/filters", "/enter"])
def test_a_form_of_ten_thousand_fields_is_refused(web, path):
    found = web.post(
        path,
        content="&".join(f"f{i}=x" for i in range(10_000)),
        headers={"content-type": "application/x-www-form-urlencoded"},
    )
    assert (found.status_code, "at most" in found.json()["detail"]) == (400, True)


@pytest.mark.parametrize("score", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_a_score_that_is_no_number_is_refused(desk, web, score):
    body = f'{{"query": {{"draft": "Rom"}}, "photo": "{desk.ids["Rom"]}", "rank": 1, "score": {score}}}'
    found = web.post("/api/picks", content=body, headers={"content-type": "application/json"})
    assert found.status_code == 422
    assert "score" in found.json()["detail"]


@pytest.mark.parametrize("path", ["/archive/", "/api/search/", "/enter/", "/static", "/static/../archive/"])
def test_nothing_leads_to_the_host_that_a_request_names(desk, path):
    web = TestClient(create_app(desk, token=TOKEN), base_url="http://evil.example", follow_redirects=False)
    found = web.get(path, headers={"authorization": f"Bearer {TOKEN}"})
    assert found.status_code in (404, 405)
    assert "evil" not in found.headers.get("location", "")


@pytest.mark.parametrize(
    "host",
    [
        "evil@127.0.0.1",
        "127.0.0.1/x",
        "127.0.0.1?x",
        "127.0.0.1#x",
        "127.0.0.1:x",
        "127.0.0.1:80:80",
        "[::1",
        "a b",
        "",
    ],
)
def test_odd_names_are_refused(desk, web, host):
    assert web.get("/api/archive", headers={"host": host}).status_code == 421
    guarded = TestClient(create_app(desk, token=TOKEN), base_url=HERE, headers={"authorization": f"Bearer {TOKEN}"})
    assert guarded.get("/api/archive", headers={"host": host}).status_code == 421


def test_a_photo_is_asked_for_each_time_and_ends_with_the_token_and_the_photo(desk):
    place = f"/api/photos/{desk.ids['Rom']}/thumbnail"
    shown = {"authorization": f"Bearer {TOKEN}"}
    web = TestClient(create_app(desk, token=TOKEN), base_url=HERE)
    first = web.get(place, headers=shown)
    assert {part.strip() for part in first.headers["cache-control"].split(",")} == {"private", "no-cache"}
    again = shown | {"if-none-match": first.headers["etag"]}
    kept = web.get(place, headers=again)
    assert (kept.status_code, kept.content) == (304, b"")
    assert web.get(place, headers=again | {"authorization": ""}).status_code == 401, "who left sees it no more"
    desk.archive.thumbnail(desk.ids["Rom"]).unlink()
    assert web.get(place, headers=again).status_code == 404


def test_the_table_of_picks_runs_no_formula(desk, web, tmp_path):
    said = '=HYPERLINK("http://evil.example")'
    web.post("/api/picks", json={"query": {"draft": f"{said}\n@lead\n-text"}, "photo": desk.ids["Rom"], "rank": 1})
    picks.export(desk.archive, tmp_path / "picks")
    with (tmp_path / "picks" / picks.TABLE).open(newline="") as stream:
        (row,) = csv.DictReader(stream)
    assert (row["title"], row["lead"], row["text"]) == (f"'{said}", "'@lead", "'-text")
    assert (row["photo"], row["rank"]) == (desk.ids["Rom"], "1")


# tokens


def test_wrong_tokens_are_slowed_and_the_right_one_of_others_is_not(desk):
    app = create_app(desk, key="the key", token=TOKEN)

    def visitor(client):
        return TestClient(app, base_url=HERE, client=(client, 1))

    def shown(token):
        return {"authorization": f"Bearer {token}"}

    guesser = visitor("10.0.0.9")
    codes = [guesser.get("/api/archive", headers=shown(f"wrong {i}")).status_code for i in range(300)]
    assert codes == [401] * security.GUESSES + [429] * (300 - security.GUESSES)
    found = guesser.get("/api/archive", headers=shown(TOKEN))
    assert found.status_code == 429, "not even the right one is compared"
    assert 0 < int(found.headers["retry-after"]) <= security.GUESS_SECONDS
    page = guesser.post("/enter?lang=de", data={"token": TOKEN})
    assert page.status_code == 429
    assert re.search(GERMAN["wait"].format(count=r"\d"), page.text)
    assert guesser.get("/api/archive", headers=shown("the key")).status_code == 200, "the owner is no guesser"
    assert visitor("10.0.0.8").get("/api/archive", headers=shown(TOKEN)).status_code == 200
    shared = visitor("10.0.0.7")  # a proxy, behind which somebody has the right one
    cookie = shared.post("/enter", data={"token": TOKEN}, follow_redirects=False).cookies["photodesk"]
    shared.cookies.clear()
    assert {shared.get("/api/archive", headers=shown(f"wrong {i}")).status_code for i in range(30)} == {401}
    assert shared.get("/api/archive", headers=shown(TOKEN)).status_code == 200
    assert guesser.get("/api/archive", headers={"cookie": f"photodesk={cookie}"}).status_code == 200


def test_guesses_are_forgotten_with_time_and_remembered_for_so_many_addresses():
    now = 0.0
    guesses = security.Guesses(lambda: now)
    for _ in range(security.GUESSES):
        assert guesses.wait("a") == 0
        guesses.note("a", right=False)
    assert guesses.wait("a") == security.GUESS_SECONDS
    now = 1.5
    assert guesses.wait("a") == security.GUESS_SECONDS - 1
    now = security.GUESS_SECONDS
    assert guesses.wait("a") == 0
    for i in range(security.ADDRESSES + 5):
        guesses.note(f"b{i}", right=False)
    assert len(guesses._known) == security.ADDRESSES


def test_addresses_of_one_network_count_as_one():
    def of(host):
        return security.address({"client": (host, 1)})

    assert of("2001:db8::1") == of("2001:db8::ffff:2") != of("2001:db8:0:1::1")
    assert of("10.0.0.1") != of("10.0.0.2")
    assert security.address({"client": None}) == ""


def test_the_table_of_threats_names_tests_that_are_there():
    here = Path(__file__).parent
    named = set(re.findall(r"`(test_\w+)`", (here.parents[1] / "docs/serve.md").read_text("utf-8")))
    there = {name for file in here.glob("test_*.py") for name in re.findall(r"^def (test_\w+)", file.read_text(), re.M)}
    assert len(named) > 20
    assert named <= there
