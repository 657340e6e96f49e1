"""The desk over HTTP: answers, pages without a script, and everything that it must refuse."""

from __future__ import annotations

import asyncio
import html
import io
import json
import logging
import math
import os
import re
import secrets
import signal
import struct
import subprocess
import sys
import threading
import urllib.request
import zlib
from dataclasses import fields, replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

pytest.importorskip("fastapi")
import httpx
from fastapi.testclient import TestClient

import webdesk
from doubles import echo, paint, twin
from photodesk import images
from photodesk.archive import ingest
from photodesk.archive.archive import Archive
from photodesk.archive.database import now
from photodesk.data import datasets
from photodesk.engines.schema import Entry
from photodesk.errors import PhotoError, StoreError, UsageError
from photodesk.files import digest
from photodesk.search.desk import Desk
from photodesk.search.query import COMPONENTS
from photodesk.search.schema import Query
from photodesk.web import create_app, server, uploads
from photodesk.web.security import TEXT_BYTES
from photodesk.web.server import local
from photodesk.web.service import FACETS, Service
from photodesk.web.translations import ENGLISH, GERMAN, LANGUAGES, chosen

HERE = "http://127.0.0.1:8642"
GIVEN = secrets.token_urlsafe(24)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("web")
    return folder, webdesk.build(folder)


@pytest.fixture
def here(tmp_path):
    """The folder of an archive of its own, and word → photo."""
    return tmp_path, webdesk.build(tmp_path)


@pytest.fixture
def desk(made):
    """All tests that add nothing share one archive's folder; picks of one are no harm to another."""
    with Archive.open(made[0] / "desk", doing="serve") as archive:
        yield webdesk.Desk(archive)


@pytest.fixture
def web(desk):
    with TestClient(create_app(desk, key="key"), base_url=HERE) as client:
        yield client


@pytest.fixture
def ids(made):
    return made[1]


def test_an_article_finds_its_photo(web, ids):
    for word, photo in ids.items():
        answer = web.post("/api/search", json={"draft": f"{word}\nLead.\nText."}).json()
        assert answer["hits"][0]["photo"] == photo
        assert [hit["rank"] for hit in answer["hits"]] == list(range(1, 9))
        assert answer["nothing_fits"] is False


def test_a_draft_becomes_headline_lead_and_text(web, desk):
    web.post("/api/search", json={"draft": "\n  Rom \n\nDer Lead.\nErster Absatz.\n\nZweiter.\n"})
    article = desk.asked[-1].article
    assert (article.title, article.lead, article.text) == ("Rom", "Der Lead.", "Erster Absatz.\nZweiter.")
    web.post("/api/search", json={"draft": "Rom\nNur ein Satz."})
    assert (desk.asked[-1].article.lead, desk.asked[-1].article.text) == ("", "Nur ein Satz.")


def test_filters_reach_the_desk(web, desk, ids):
    sent = {
        "draft": "Rom",
        "credit": ["dpa"],
        "since": "2024-05-02",
        "until": "2024-05-05",
        "min_width": 300,
        "used_days": 9,
        "used": "hide",
        "words": "Basel",
        "fold": False,
    }
    answer = web.post("/api/search", json=sent).json()
    assert {hit["photo"] for hit in answer["hits"]} == {ids["Köln"], ids["Basel"]}
    assert web.post("/api/facets", json=sent).json()["facets"]["credit"] == {"dpa": 2}
    assert (desk.asked[-1].words, desk.asked[-1].fold) == ("Basel", False)
    assert (desk.asked[-1].used_days, desk.asked[-1].hide_used, desk.asked[-1].diverse) == (9, True, False)
    assert (
        web.post("/api/search", json={"draft": "Rom", "phrase": "Bild von Köln"}).json()["hits"][0]["photo"]
        == ids["Köln"]
    )


@pytest.mark.parametrize(
    "sent",
    [
        {"draft": "a" * 100_001},
        {"draft": 3},
        {"draft": "Rom", "like": "../../etc/passwd"},
        {"draft": "Rom", "since": "gestern"},
        {"draft": "Rom", "top": 0},
        {"draft": "Rom", "top": "3"},
        {"draft": "Rom", "diverse": 0.0},
        {"draft": "Rom", "orientation": ["round"]},
        {"draft": "Rom", "path": "/etc/passwd"},
        [],
    ],
)
def test_a_question_that_makes_no_sense_is_said(web, sent):
    answer = web.post("/api/search", json=sent)
    assert answer.status_code == 422
    assert set(answer.json()) == {"detail"}


def test_nothing_asked_is_said(web):
    assert web.post("/api/search", json={}).status_code == 400
    assert ENGLISH["no_draft"] in web.post("/", data={"draft": " "}).text


def test_why_names_words_places_and_shares(web, ids):
    answer = web.post("/api/why", json={"query": {"draft": "Rom Elbe"}, "photo": ids["Rom"]}).json()
    assert answer["words"] == [
        {"text": "Rom", "weight": 1.0, "fall": 1.0},
        {"text": "Elbe", "weight": 0.5, "fall": 0.5},
    ]
    assert answer["heat"][0] == [0, 0, 0, 1]
    assert set(answer["shares"]) == {"visual", "names", "revision"}
    assert web.post("/api/why", json={"query": {"draft": "Rom"}, "photo": "0" * 32}).status_code == 404


def test_searches_do_not_wait_for_counts_however_many_are_wanted(here):
    """Sixty new filters at once would take all threads of the server, were each to wait in one."""

    class Slow(webdesk.Desk):
        done, most, now = threading.Event(), 0, 0

        def facets(self, where, fields):
            self.now += 1
            self.most = max(self.most, self.now)
            assert self.done.wait(30)
            self.now -= 1
            return super().facets(where, fields)

    async def visit(desk):
        transport = httpx.ASGITransport(create_app(desk))
        async with httpx.AsyncClient(transport=transport, base_url=HERE) as web:
            counts = [asyncio.create_task(web.post("/api/facets", json={"min_width": i})) for i in range(60)]
            await asyncio.sleep(0.1)
            found = await asyncio.wait_for(web.post("/api/search", json={"draft": "Rom", "min_width": 1}), 20)
            page = await asyncio.wait_for(
                web.post("/", data={"draft": "Rom", "min_width": "1"}, headers={"x-part": "1"}), 20
            )
            waiting = not any(task.done() for task in counts)
            desk.done.set()
            return found.json(), page, waiting, [answer.status_code for answer in await asyncio.gather(*counts)]

    with Archive.open(here[0] / "desk", doing="serve") as archive:
        desk = Slow(archive)
        found, page, waiting, codes = asyncio.run(visit(desk))
        assert waiting
        assert len(found["hits"]) == 8
        assert (page.headers["x-filters"], page.text.count('<li class="tile"')) == ("later", 8)
        assert 'id="filters"' not in page.text, "those on the page stay until the new ones are counted"
        assert (set(codes), desk.most, len(desk.counts)) == ({200}, 1, 60)

        async def gone():
            return True

        query = Query(min_width=999)
        assert asyncio.run(Service(desk).facets(query, gone)).facets == {}
        assert query.filter() not in desk.counts, "nobody waits for it any more"


def test_the_script_gets_filters_with_the_photos_where_they_are_known(web, desk):
    sent = {"data": {"draft": "Rom", "credit": "dpa", "min_width": "7"}, "headers": {"x-part": "1"}}
    assert web.post("/", **sent).headers["x-filters"] == "later"
    counted = web.post("/filters", **sent).text
    assert counted.startswith('<details id="filters"')
    assert "dpa</span> <small>4</small>" in counted
    again = web.post("/", **sent)
    assert "x-filters" not in again.headers
    assert counted in again.text
    sent["data"]["clear"] = "1"
    desk.counts.clear()
    assert "epd</span> <small>4</small>" in web.post("/", **sent).text, (
        "a form that was emptied does not stay on the page"
    )
    desk.counts.clear()
    whole = web.post("/", data={"draft": "Rom", "min_width": "8"}).text
    assert "dpa</span> <small>4</small>" in whole, "without a script there is no second request"


def test_a_pick_is_noted_with_when_text_and_rank(web, desk, ids):
    picked = web.post("/api/picks", json={"query": {"draft": "Rom\nText."}, "photo": ids["Rom"], "rank": 3}).json()
    pick = desk.archive.usage.picks()[-1]
    assert (pick.article.title, pick.article.text, pick.photo, pick.rank) == ("Rom", "Text.", ids["Rom"], 3)
    assert pick.at == picked["at"]
    assert pick.article.id == picked["article"]
    lines = [json.loads(line) for line in web.get("/api/picks").text.splitlines()]
    assert lines[-1] | {"picked": ""} == {
        "id": pick.article.id,
        "title": "Rom",
        "lead": "",
        "text": "Text.",
        "tags": "",
        "url": "",
        "date": "",
        "language": "",
        "photo": ids["Rom"],
        "rank": 3,
        "picked": "",
    }
    place = f"/api/picks/{pick.article.id}/{ids['Rom']}"
    assert web.delete(place).json()["at"] >= pick.at
    assert web.delete(place).status_code == 404
    assert len(web.get("/api/picks").text.splitlines()) == len(lines) - 1
    assert web.post("/api/picks", json={"query": {}, "photo": ids["Rom"], "rank": 1}).status_code == 400
    assert web.post("/api/picks", json={"query": {"draft": "Rom"}, "photo": "0" * 32, "rank": 1}).status_code == 404


def test_a_photo_from_outside_is_searched_with(web, ids):
    sent = web.post("/api/uploads", content=webdesk.png("Ulm", (2000, 1000)), headers={"content-type": "image/png"})
    assert sent.status_code == 201
    assert (sent.json()["width"], sent.json()["height"]) == (640, 320)
    answer = web.post("/api/search", json={"upload": sent.json()["upload"]}).json()
    assert answer["hits"][0]["photo"] == ids["Ulm"]
    kept = Image.open(io.BytesIO(web.get(f"/api/uploads/{sent.json()['upload']}").content))
    assert kept.size == (640, 320)
    assert web.post("/api/search", json={"upload": "0" * 32}).status_code == 404
    assert web.post("/api/search", json={"like": ids["Graz"]}).json()["hits"][0]["photo"] == ids["Graz"]


def bomb(width, height):
    """A small PNG that claims many pixels."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("content", "kind", "status", "said"),
    [
        (b"<svg/>", "image/svg+xml", 415, "image/jpeg"),
        (b"<svg/>", "image/png", 422, "not a picture"),
        (b"", "image/png", 422, "not a picture"),
        (webdesk.png("Rom")[:60], "image/png", 422, "the picture"),
        (bomb(10_000, 9_000), "image/png", 422, "too large"),
        (b"\x89PNG\r\n" + bytes(uploads.BYTES), "image/png", 413, "at most"),
    ],
    ids=["type", "no picture", "empty", "cut", "pixels", "bytes"],
)
def test_uploads_are_limited(web, content, kind, status, said):
    answer = web.post("/api/uploads", content=content, headers={"content-type": kind})
    assert answer.status_code == status
    assert said in answer.json()["detail"]


def test_a_decoder_that_takes_too_much_memory_or_time_ends_alone(monkeypatch):
    whole = io.BytesIO()
    Image.new("RGB", (8000, 8000)).save(whole, "PNG", compress_level=1)
    code = "import sys; from photodesk.web import uploads; uploads.MEMORY = 300 * 2**20; sys.exit(uploads._decode(640))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=whole.getvalue(),
        capture_output=True,
        env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
    )
    assert done.returncode != 0
    assert done.stdout == b""
    monkeypatch.setattr(uploads, "SECONDS", 0.01)
    with pytest.raises(PhotoError, match="seconds to decode"):
        uploads.shrink(webdesk.png("Rom"))


def test_a_decoded_upload_is_what_decoding_here_gives():
    data = webdesk.png("Wien", (300, 200))
    assert uploads.shrink(data).tobytes() == images.decode(data, where="").tobytes()


def test_only_photos_of_the_archive_are_served(here):
    folder, ids = here
    with (
        Archive.open(folder / "desk", doing="serve") as archive,
        TestClient(create_app(webdesk.Desk(archive)), base_url=HERE) as web,
    ):
        photo, path = ids["Rom"], folder / "photos/Rom.png"
        (file,) = archive.database.files(photo)
        moved = folder / "photos" / 'Röm "1".png'
        path.rename(moved)
        archive.place([type(file)(str(moved), photo, file.root, file.size, file.mtime)])
        answer = web.get(f"/api/photos/{photo}/original")
        assert answer.content == moved.read_bytes()
        assert (
            answer.headers["content-disposition"]
            == "attachment; filename=\"R_m__1_.png\"; filename*=UTF-8''R%C3%B6m%20%221%22.png"
        )
        assert Image.open(io.BytesIO(web.get(f"/api/photos/{photo}/preview").content)).size == (400, 300)
        (folder / "secret").write_text("secret")
        moved.unlink()
        moved.symlink_to(folder / "secret")
        assert web.get(f"/api/photos/{photo}/original").status_code == 404
        assert web.get(f"/api/photos/{photo}/preview").content == web.get(f"/api/photos/{photo}/thumbnail").content
        for name in ("..%2f..%2fsecret", "0" * 32, photo.upper(), "%2e%2e"):
            for part in ("", "/thumbnail", "/preview", "/original"):
                assert web.get(f"/api/photos/{name}{part}").status_code in (404, 422)
        for name in ("../app.py", "%2e%2e/app.py", "..%2fapp.py"):
            assert web.get(f"/static/{name}").status_code == 404


# who may ask


def test_names_that_are_not_the_desks_own_are_refused(web):
    """Else a page elsewhere could let its own name point to this machine and read the archive."""
    assert web.get("/api/archive", headers={"host": "evil.example"}).status_code == 421
    for name in ("localhost:8642", "127.0.0.1", "[::1]:8642"):
        assert web.get("/api/archive", headers={"host": name}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
def test_pages_of_other_sites_can_change_nothing(web, desk, ids, headers):
    before = len(desk.archive.usage.picks())
    assert web.post("/pick", data={"draft": "Rom", "choice": f"{ids['Rom']} 1"}, headers=headers).status_code == 403
    assert len(desk.archive.usage.picks()) == before
    assert (
        web.post("/pick", data={"draft": "Rom", "choice": f"{ids['Rom']} 1"}, headers={"origin": HERE}).status_code
        == 200
    )
    assert len(desk.archive.usage.picks()) == before + 1


def test_a_desk_with_a_token_shows_nothing_without_it(desk, ids):
    app = create_app(desk, key="the key", token="a long enough token")
    web = TestClient(app, base_url="http://desk.example", follow_redirects=False)
    for path in (
        "/api/archive",
        "/openapi.json",
        "/archive",
        f"/api/photos/{ids['Rom']}/thumbnail",
        "/api/picks",
        "/nothing",
    ):
        assert web.get(path).status_code == 401
    assert web.post("/api/search", json={"draft": "Rom"}).status_code == 401
    assert web.get("/", headers={"accept": "text/html"}).headers["location"] == "/enter"
    assert web.get("/static/desk.css").status_code == 200
    for wrong in ("", "nope", "ä", "a long enough tokem"):
        assert web.post("/enter", data={"token": wrong}).status_code == 401
        assert web.get("/api/archive", headers={"authorization": f"Bearer {wrong}".encode()}).status_code == 401
        assert web.get("/api/archive", headers={"cookie": f"photodesk={wrong}".encode()}).status_code == 401
    for right in ("a long enough token", "the key"):
        assert web.get("/api/archive", headers={"authorization": f"Bearer {right}"}).status_code == 200
    entered = web.post("/enter", data={"token": "a long enough token"})
    assert entered.status_code == 303
    cookie = entered.headers["set-cookie"]
    assert "httponly" in cookie.lower()
    assert "samesite=strict" in cookie.lower()
    assert "a long enough token" not in cookie
    assert web.get("/api/archive").status_code == 200, "the client kept the cookie"


def test_only_the_owners_key_starts_commands(desk):
    web = TestClient(create_app(desk, key="the key", token="a long enough token"), base_url=HERE)
    job = {"command": "verify", "options": {}}
    visitor, owner = {"authorization": "Bearer a long enough token"}, {"authorization": "Bearer the key"}
    assert web.post("/api/archive/jobs", json=job, headers=visitor).status_code == 403
    number = web.post("/api/archive/jobs", json=job, headers=owner).json()["job"]
    while (state := web.get(f"/api/archive/jobs/{number}", headers=owner).json())["state"] in ("waiting", "running"):
        pass
    assert (state["job"], state["state"], state["message"]) == (number, "done", "8 photos, all well")
    assert web.get("/api/archive/jobs/77", headers=owner).status_code == 404
    assert web.post("/api/archive/jobs", json={"command": "rm", "options": {}}, headers=owner).status_code == 400
    open_desk = TestClient(create_app(desk), base_url=HERE)
    assert open_desk.post("/api/archive/jobs", json=job, headers={"authorization": "Bearer "}).status_code == 403, (
        "no key, no commands"
    )


def test_what_is_quick_is_answered_at_once_and_is_no_job(desk):
    web = TestClient(create_app(desk, key="the key"), base_url=HERE, headers={"authorization": "Bearer the key"})
    before = desk.archive.database.jobs()
    state = web.post("/api/archive/jobs", json={"command": "stats", "options": {}}).json()
    assert (state["job"], state["state"], state["data"]["photos"]) == (None, "done", 8)
    odd = {"command": "use", "options": {"photos": [], "day": "gestern"}}
    state = web.post("/api/archive/jobs", json=odd).json()
    assert (state["state"], "no day" in state["message"]) == ("failed", True)
    assert desk.archive.database.jobs() == before


def test_bodies_are_cut_off_however_they_come(web):
    assert web.post("/", content=b"draft=" + b"a" * TEXT_BYTES).status_code == 413

    def endless():
        for _ in range(TEXT_BYTES // 1000 + 2):
            yield b"a" * 1000

    assert web.post("/api/search", content=endless(), headers={"content-type": "application/json"}).status_code == 413


def test_every_answer_carries_the_headers(web, ids):
    for path in ("/", "/archive", "/api/archive", "/nothing", "/static/desk.js", f"/api/photos/{ids['Rom']}/thumbnail"):
        headers = web.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "same-origin"
        assert "server" not in headers
    assert web.get("/api/archive", headers={"host": "evil.example"}).headers["x-frame-options"] == "DENY"
    assert web.get("/").headers["cache-control"] == "no-store"


def test_logs_hold_no_article_text_unless_asked(web, desk, ids, caplog, monkeypatch):
    caplog.set_level(logging.INFO)
    logging.getLogger("photodesk.web.texts").setLevel(logging.CRITICAL)
    try:
        web.post("/api/search", json={"draft": "Geheimnis"})
        web.post("/", data={"draft": "Geheimnis"})
        web.post("/api/picks", json={"query": {"draft": "Geheimnis"}, "photo": ids["Rom"], "rank": 1})
        monkeypatch.setattr(desk, "ask", lambda question, **_: 1 / len(question.article.text))
        assert web.post("/api/search", json={"draft": "Geheimnis"}).status_code == 500
        assert "POST /api/search 500" in caplog.text
        assert "ZeroDivisionError in /api/search" in caplog.text
        assert "Geheimnis" not in caplog.text
        logging.getLogger("photodesk.web.texts").setLevel(logging.INFO)
        web.post("/api/search", json={"draft": "Geheimnis"})
        assert "Geheimnis" in caplog.text
    finally:
        logging.getLogger("photodesk.web.texts").setLevel(logging.NOTSET)


# pages without a script


class Page(HTMLParser):
    """What a page refers to and says."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.ids, self.links, self.said = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.tags.append((tag, found))
        self.ids += [found["id"]] if "id" in found else []
        self.links += [found[name] for name in ("src", "href", "action", "formaction") if name in found]

    def handle_data(self, data):
        self.said.append(data.strip())


def test_a_plain_query_works_without_a_script(web, ids):
    text = web.post("/", data={"draft": "Wien <script>alert(1)</script>\n\n  Text", "credit": ["epd"]}).text
    page = Page(web.post("/", data={"draft": "Wien", "credit": ["epd"]}).text)
    shown = [found["data-photo"] for tag, found in page.tags if tag == "li" and "data-photo" in found]
    assert shown[0] == ids["Wien"]
    assert len(shown) == 4
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert(1)" in text
    assert "&lt;b&gt;Umgebung" in text
    checked = [found["value"] for tag, found in page.tags if tag == "input" and "checked" in found]
    assert checked == ["epd"]
    assert (Page(text).said).count("Wien <script>alert(1)</script>\n\n  Text") == 1, (
        "the draft stands in the form as it was sent"
    )
    why = web.post("/why", data={"draft": "Wien", "choice": f"{ids['Wien']} 1"}).text
    assert ENGLISH["why_words"] in why
    assert '<mark class="s4">Wien</mark>' in why
    assert ENGLISH["spot_2"] in why, "the heat map said in words"
    picked = web.post("/pick", data={"draft": "Wien", "choice": f"{ids['Wien']} 1"}).text
    assert ENGLISH["picked_said"].format(rank=1) in picked
    assert picked.count('aria-pressed="true"') == 1
    assert picked.count('formaction="/unpick"') == 1
    why = web.post("/why", data={"draft": "Wien", "choice": f"{ids['Wien']} 1"}).text
    assert why.count('formaction="/unpick"') == 2, "grid and panel say alike"
    back = web.post("/unpick?lang=de", data={"draft": "Wien", "choice": f"{ids['Wien']} 1"}).text
    assert GERMAN["unpicked_said"].format(rank=1) in back
    assert 'aria-pressed="true"' not in back
    assert web.post("/unpick", data={"draft": "Wien", "choice": f"{ids['Wien']} 1"}).status_code == 400
    like = Page(web.post("/", data={"like_this": ids["Bonn"]}).text)
    assert ("input", {"type": "hidden", "name": "like", "value": ids["Bonn"]}) in like.tags


@pytest.mark.parametrize("path", ["/", "/archive"])
def test_pages_ask_nobody_else_and_run_no_inline_script(web, path):
    for text in (web.get(path).text, web.post("/", data={"draft": "Wien"}).text):
        page = Page(text)
        assert all(link.startswith(("/", "#")) and not link.startswith("//") for link in page.links)
        assert not re.search(r"\son\w+=|\sstyle=|<style|javascript:", text)
        assert not re.search(r"<script(?! src=)", text)
        assert len(page.ids) == len(set(page.ids))


def test_a_bad_filter_is_said_and_the_rest_goes_on(web, ids):
    answer = web.post("/", data={"draft": "Rom", "since": "28.11.", "min_width": "viel"})
    assert answer.status_code == 200
    assert "since: &#39;28.11.&#39; is no day: it has no year" in answer.text
    assert ids["Rom"] in answer.text
    assert web.post("/why", data={"draft": "Rom", "choice": "nonsense"}).status_code == 400
    assert web.post("/pick", data={"draft": "Rom", "choice": "/etc/passwd 1"}).status_code == 400


def test_both_languages_say_everything(web):
    assert ENGLISH.keys() == GERMAN.keys()
    marks = re.compile(r"{\w*}")
    for key, said in ENGLISH.items():
        assert sorted(marks.findall(said)) == sorted(marks.findall(GERMAN[key])), key
    assert not set(dir(dict)) & ENGLISH.keys(), "a template would find the method instead"
    german = web.get("/?lang=de")
    assert '<html lang="de">' in german.text
    assert GERMAN["draft"] in german.text
    assert GERMAN["draft"] in web.get("/").text, "kept in a cookie"
    assert web.get("/", headers={"cookie": "theme=dark"}).text.count('data-theme="dark"') == 1
    assert 'data-theme="' not in web.get("/", headers={"cookie": 'theme="><script>'}).text


@pytest.mark.parametrize(
    ("asked", "kept", "accepted", "expected"),
    [
        ("", "", "", "en"),
        ("", "", "fr,de;q=.8,en;q=.5", "de"),
        ("", "", "en;q=.5, de-AT", "de"),
        ("", "de", "en", "de"),
        ("en", "de", "de", "en"),
        ("xx", "yy", "de;q=x, en;q=.1", "en"),
    ],
)
def test_the_language_is_what_a_visitor_wants_most(asked, kept, accepted, expected):
    assert chosen(asked, kept, accepted) == expected
    assert expected in LANGUAGES


def test_the_archive_page_shows_counts_faults_and_what_is_under_way(here):
    folder, _ = here
    (folder / "photos/broken.jpg").write_bytes(b"GIF89a")
    with Archive.open(folder / "desk", doing="serve") as archive:
        app = create_app(webdesk.Desk(archive), key="key")
        with TestClient(app, base_url=HERE, headers={"authorization": "Bearer key"}) as web:
            number = web.post(
                "/api/archive/jobs", json={"command": "add", "options": {"folders": [str(folder / "photos")]}}
            ).json()["job"]
            while web.get(f"/api/archive/jobs/{number}").json()["state"] != "done":
                pass
            page = web.get("/archive").text
            assert page.count("/thumbnail") == 8
            assert "broken.jpg" in page
            assert re.search(r"<dt>Photos</dt><dd>8</dd>", page)
            job = archive.database.begin("add")
            archive.database.report(job, "reading", 1234, 5000)
            page = web.get("/archive?lang=de").text
            assert 'value="1234"' in page
            assert "1.234 / 5.000" in page
            assert '<meta http-equiv="refresh"' in page
            assert web.get("/archive", headers={"x-part": "1"}).text.startswith('<div id="state" data-running="1">')


# the command


def test_serve_holds_the_archive_and_does_what_others_ask(here, tmp_path):
    """A real process: it prints where it listens, hands out the key by the lock file, and ends on Ctrl-C without
    loss."""
    folder, ids = here
    code = (
        "import photodesk.encoders.registry as e; from doubles import echo; e.load = lambda name='builtin': echo()\n"
        "from photodesk.cli import main; main()"
    )
    ours = Path(__file__).parents[1]
    environment = os.environ | {
        "PYTHONPATH": f"{ours}{os.pathsep}{ours.parent / 'src'}",
        "PHOTODESK_CACHE": str(tmp_path / "cache"),
    }

    def start(*words):
        return subprocess.Popen(
            [sys.executable, "-c", code, *words],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    server = start("serve", str(folder / "desk"), "--port", "0")
    try:
        line = server.stderr.readline()
        url = re.search(r"http://127\.0\.0\.1:\d+", line)[0]
        assert "8 photos" in line
        request = urllib.request.Request(
            f"{url}/api/search", json.dumps({"draft": "Geheim"}).encode(), {"content-type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            assert len(json.load(answer)["hits"]) == 8
        (folder / "photos/more").mkdir()
        paint(folder / "photos/more/Kiel.png", "Kiel")
        done = start("archive", "add", str(folder / "desk"), str(folder / "photos/more"))
        _, said = done.communicate(timeout=120)
        assert "does this at http://127.0.0.1" in said
        assert "1 photos added" in said
        assert done.returncode == 0
        found, said = start("search", str(folder / "desk"), "Geheim", "--json").communicate(timeout=60)
        assert len(json.loads(found)["hits"]) == 9
        assert f"is asked at {url}" in said
        pick = {"query": {"draft": "Geheim"}, "photo": ids["Rom"], "rank": 1}
        request = urllib.request.Request(
            f"{url}/api/picks", json.dumps(pick).encode(), {"content-type": "application/json"}
        )
        urllib.request.urlopen(request, timeout=30).close()
        done = start("archive", "picks", str(folder / "desk"), "-o", str(folder / "picks"))
        assert "1 pairs" in done.communicate(timeout=60)[1]
        assert [pair.photo for pair in datasets.read(folder / "picks").pairs] == [ids["Rom"]]
        _, said = start("train", "--picks", str(folder / "desk"), "-o", str(folder / "net.safetensors")).communicate(
            timeout=60
        )
        assert f"does this at {url}" in said
        assert "1 articles, 1 photos, 1 pairs" in said, (
            "one pair is read, and none left to train on when some are kept apart"
        )
        _, said = start("serve", str(folder / "desk")).communicate(timeout=60)
        assert f"held by process {server.pid} (photodesk serve); it answers at {url}" in said
        server.send_signal(signal.SIGINT)
        _, log = server.communicate(timeout=60)
    finally:
        server.kill()
    assert "POST /api/search 200" in log
    assert "Geheim" not in log
    with Archive.open(folder / "desk") as archive:
        assert archive.engine.count() == 9
        assert archive.database.jobs()[0].state == "done"


@pytest.mark.parametrize(
    ("host", "expected"), [("127.0.0.1", True), ("127.8.0.1", True), ("::1", True), ("localhost", True)]
)
def test_local_addresses(host, expected):
    assert local(host) is expected
    for other in ("0.0.0.0", "::", "10.0.0.5", "desk.example", "127.0.0.1.evil.example"):
        assert local(other) is False


@pytest.mark.parametrize(
    ("host", "token", "shown"), [("0.0.0.0", "", True), ("127.0.0.1", "", False), ("127.0.0.1", GIVEN, True)]
)
def test_anything_but_this_machine_wants_a_token(here, monkeypatch, host, token, shown):
    uvicorn = pytest.importorskip("uvicorn")
    monkeypatch.setattr("photodesk.encoders.registry.load", lambda name: echo())
    apps, said = [], []
    monkeypatch.setattr(uvicorn.Server, "run", lambda self, sockets: apps.append(self.config.app))
    server.run(here[0] / "desk", host=host, port=0, token=token, say=said.append)
    client = TestClient(apps[0], base_url="http://127.0.0.1")
    assert client.get("/openapi.json").status_code == (401 if shown else 200)
    assert any("token" in line for line in said) is shown
    if shown:
        made = token or said[-1].rpartition(" ")[2]
        assert server.bits(made) >= server.LEAST
        assert token not in said[-1] or not token, "who gave it knows it"
        assert client.get("/openapi.json", headers={"authorization": f"Bearer {made}"}).status_code == 200


@pytest.mark.parametrize("token", ["short", "x" * 200, "0123456789abcdef", "A sentence 1", "12345678901234567890"])
def test_a_token_that_can_be_guessed_is_refused(here, token):
    with pytest.raises(UsageError, match=r"can be guessed.*make one with: python"):
        server.run(here[0] / "desk", token=token)


def test_bits_of_a_token_are_those_of_its_alphabet():
    assert server.bits("0123456789abcdef" * 2) == 128, "hexadecimal digits"
    assert server.bits("aB3-" * 5) == pytest.approx(20 * math.log2(95))
    assert server.bits("") == 0
    assert all(server.bits(secrets.token_urlsafe(24)) >= 128 for _ in range(100))


# what an audit found


def test_what_no_photo_has_and_what_no_calendar_has_is_no_mistake_of_ours(tmp_path):
    pytest.importorskip("qdrant_edge")
    paint(tmp_path / "photos/Rom.png", "Rom")
    with Archive.create(tmp_path / "desk", echo(), engine="edge:shard") as archive:
        ingest.add(archive, echo(), [tmp_path / "photos"])
        with TestClient(create_app(webdesk.Desk(archive), key="key"), base_url=HERE) as web:
            assert web.post("/why", data={"draft": "Rom", "choice": "garbage 1"}).status_code == 400
            assert web.post("/api/search", json={"draft": "Rom", "until": "9999-12-31"}).status_code == 200
            assert web.post("/api/search", json={"draft": "Rom"}, headers={"origin": "http://[x"}).status_code == 403


def test_uses_come_over_http_and_push_a_photo_down(here, tmp_path):
    folder, ids = here
    with Archive.open(folder / "desk", doing="serve") as archive:
        desk = Desk(archive, echo())
        with TestClient(create_app(desk, key="key"), base_url=HERE) as web:

            def first(**more):
                answer = web.post("/api/search", json={"draft": "Rom", "words": "x", "used_days": 30, **more}).json()
                return answer["hits"][0]["photo"]

            assert first() == ids["Rom"]
            noted = web.post("/api/uses", json={"photo": ids["Rom"], "article": "https://news.example/1"})
            assert noted.status_code == 201
            assert noted.json()["day"] == now()[:10]
            assert first() != ids["Rom"]
            assert web.get("/api/archive").json()["counts"]["uses"] == 1
            assert web.post("/api/uses", json={"photo": "0" * 32}).status_code == 404
            assert web.post("/api/uses", json={"photo": ids["Wien"], "day": "2026-W01-1"}).status_code == 422
            pick = web.post("/api/picks", json={"query": {"draft": "Wien"}, "photo": ids["Wien"], "rank": 1}).json()
            assert set(archive.usage.used(now()[:10])) == {ids["Rom"], ids["Wien"]}, "a pick that stands is a use"
            web.delete(f"/api/picks/{pick['article']}/{ids['Wien']}")
            assert set(archive.usage.used(now()[:10])) == {ids["Rom"]}


EMBARGO = "Sperrfrist <12. Mai>"


@pytest.fixture
def held(here):
    """A real desk; one motif twice: a large copy with a credit, and a small one with an embargo, which a filter leaves
    out."""
    folder, ids = here
    (folder / "photos/agency").mkdir()
    twin(
        folder / "photos/agency/held.png",
        folder / "photos/Rom.png",
        (40, 30),
        terms="Sperrfrist &lt;12. Mai&gt;",
        credit="KNA",
    )
    with Archive.open(folder / "desk", doing="serve") as archive:
        ingest.add(archive, echo(), [folder / "photos"])
        small = digest((folder / "photos/agency/held.png").read_bytes()).hex()
        with TestClient(create_app(Desk(archive, echo()), key="key"), base_url=HERE) as client:
            yield client, ids["Rom"], small, folder


def test_an_answer_carries_the_embargo_and_the_list_of_near_duplicates(held):
    web, large, small, folder = held
    sent = {"draft": "Rom", "words": "x", "credit": ["epd"], "min_width": 300}
    listed = {
        "source": "agency/held.png",
        "credit": "KNA",
        "terms": EMBARGO,
        "width": 40,
        "height": 30,
    }
    hit = web.post("/api/search", json=sent).json()["hits"][0]
    assert (hit["photo"], hit["about"]["terms"], hit["about"]["credit"]) == (large, EMBARGO, "epd")
    (one,) = hit["similar"]
    assert (one["photo"], one["file"], one["about"] | listed) == (small, "", one["about"])
    assert (hit["duplicates"], hit["origins"]) == (1, {"terms": [small]})
    owner = web.post("/api/search", json=sent, headers={"authorization": "Bearer key"}).json()["hits"][0]
    assert owner["similar"] == [one | {"file": str(folder / "photos/agency/held.png")}]
    why = web.post("/api/why", json={"query": sent, "photo": large}).json()
    alone = web.get(f"/api/photos/{large}").json()
    assert why["similar"] == alone["similar"] == [one]
    assert why["about"] == alone["about"] == hit["about"]
    assert why["origins"] == alone["origins"] == {"terms": [small]}
    other = web.get(f"/api/photos/{small}").json()
    about = other["about"]
    assert (about["credit"], about["caption"][:7], other["origins"]["caption"]) == ("KNA", "Ein Bil", [large])


@pytest.mark.parametrize(("lang", "said"), [("en", ENGLISH), ("de", GERMAN)])
def test_tile_and_panel_show_the_embargo_and_open_the_near_duplicates(held, lang, said):
    web, large, small, _ = held
    sent = {"draft": "Rom", "credit": "epd", "min_width": "300"}
    page = web.post(f"/?lang={lang}", data=sent).text
    tile = re.search(rf'<li class="tile" data-photo="{large}">.*?</details>', page, re.DOTALL)[0]
    panel = re.search(
        "<aside.*</aside>", web.post(f"/why?lang={lang}", data=sent | {"choice": f"{large} 1"}).text, re.DOTALL
    )[0]
    above, _, below = tile.partition("<details")
    assert '<p class="terms bad">' in above
    for part in (above, below, panel, panel.partition("<details")[2]):
        assert "Sperrfrist &lt;12. Mai&gt;" in part
        assert said["terms"] in part
    assert "epd" in above
    assert (
        f'<dd class="bad" dir="auto">{html.escape(EMBARGO)} <small>{said["origin"].format(files="agency/held.png")}'
        in panel
    )
    for part in (below, panel.partition("<details")[2]):
        assert f"<summary>{said['duplicates'].format(count=1)}</summary>" in part
        assert f"/api/photos/{small}/thumbnail" in part
        assert f'href="/api/photos/{small}/original"' in part
        assert "KNA · 40 × 30" in part
        assert small in re.sub("<[^>]*>", "", part), "its id can be read"
    assert page.count('<details class="similar"') == 1, "the others have no near-duplicates"


def test_embargoes_are_in_every_answer_and_on_both_pages(held):
    web, large, small, _ = held
    sent = {"draft": "Rom"}
    hit = web.post("/api/search", json=sent).json()["hits"][0]
    alone = web.get(f"/api/photos/{large}").json()
    (recent,) = (one for one in web.get("/api/archive").json()["recent"] if one["photo"] == small)
    for one in (hit, hit["similar"][0], alone, recent):
        assert (one["embargo"], one["embargoed"]) == ("unknown", True)
    for path, page in (("/", web.post("/?lang=de", data=sent).text), ("/archive", web.get("/archive?lang=de").text)):
        assert GERMAN["embargo_unknown"] in page, path
    job = {"command": "release", "options": {"photos": [small], "until": "31.5.2024, 18 Uhr"}}
    assert web.post("/api/archive/jobs", json=job).status_code == 403, "it is for the owner"
    done = web.post("/api/archive/jobs", json=job, headers={"authorization": "Bearer key"}).json()
    assert (done["state"], done["message"][:27]) == ("done", "1 photos released from 2024")
    hit = web.post("/api/search", json=sent).json()["hits"][0]
    assert (hit["embargo"][:16], hit["embargoed"]) == ("2024-05-31T18:00", False)
    for page in (web.post("/?lang=de", data=sent).text, web.get("/archive?lang=de").text):
        assert GERMAN["embargo_unknown"] not in page
        assert 'class="terms bad"' not in page


def test_the_page_filters_by_file_people_label_and_stars_and_names_near_values(here):
    folder, ids = here
    with Archive.open(folder / "desk", doing="serve") as archive:
        rome = archive.engine.get([ids["Rom"]])[0].entry
        about = {"people": ("Jörg Müller", "Anna"), "label": "Rot", "rating": 4, "credit": "picture alliance/epd"}
        archive.engine.describe({ids["Rom"]: replace(rome, **about)})
        with TestClient(create_app(Desk(archive, echo()), key="key"), base_url=HERE) as web:

            def shown(**sent):
                page = web.post("/?lang=de", data={"draft": "Bild"} | sent).text
                return {word for word, photo in ids.items() if f'data-photo="{photo}"' in page}, page

            for sent in ({"people": "JOERG mueller"}, {"label": "rot"}, {"min_rating": "4"}, {"file": "ROM."}):
                assert shown(**sent)[0] == {"Rom"}, sent
            assert shown(min_rating="5", file="rom")[0] == set()
            found, page = shown(credit="EPD")
            assert "Rom" not in found
            assert GERMAN["found_near"].format(value="EPD", like="epd (3), picture alliance/epd (1)") in page
            _, page = shown(people="anna")
            assert 'name="people" value="Jörg Müller"' in page
            assert 'name="label" value="Rot"' in page
            assert "Rom" not in shown(draft="Bild -Rom")[0], "its caption says it"
            why = web.post("/why?lang=de", data={"draft": "Bild", "choice": f"{ids['Rom']} 1"}).text
            for said in ("Jörg Müller, Anna", "★★★★", GERMAN["people"]):
                assert said in why


def test_folders_of_this_machine_are_nobodys_business(here):
    folder, _ = here
    (folder / "photos/sub").mkdir()
    (folder / "photos/sub/broken.jpg").write_bytes(b"GIF89a")
    with Archive.open(folder / "desk", doing="serve") as archive:
        ingest.add(archive, echo(), [folder / "photos"])
        job = archive.database.begin("backup")
        archive.database.end(job, "done", f"8 photos in {folder}/copy; see https://10.0.0.5:6333/photos")
        with archive.database.change() as db:
            db.execute("UPDATE faults SET advice = ?", (f"ask for {folder}/photos/sub/broken.jpg again",))
        object.__setattr__(
            archive,
            "settings",
            replace(archive.settings, engine=f"flat:{folder}/index", encoder=f"txv@{folder}/net.safetensors"),
        )
        with TestClient(create_app(webdesk.Desk(archive), key="key"), base_url=HERE) as web:
            told = web.get("/api/archive").json()
            assert told["faults"][0]["where"] == "sub/broken.jpg"
            assert (told["engine"], told["encoder"]) == ("flat", "txv@net.safetensors")
            assert told["jobs"][0]["message"] == "8 photos in copy; see photos"
            for path in ("/archive", "/api/archive"):
                assert str(folder) not in web.get(path).text


def test_why_an_archive_cannot_is_for_the_log(web, desk, monkeypatch, caplog):
    def full(question):
        raise StoreError("cannot write /srv/secret: full")

    monkeypatch.setattr(desk, "ask", full)
    answer = web.post("/api/search", json={"draft": "Rom"})
    assert answer.status_code == 503
    assert "/srv" not in answer.text
    assert "/srv/secret: full" in caplog.text
    page = web.post("/", data={"draft": "Rom"})
    assert page.status_code == 400
    assert "/srv" not in page.text


def test_a_photo_that_is_no_longer_kept_is_said_in_the_visitors_language(web):
    assert GERMAN["upload_gone"] in web.post("/?lang=de", data={"upload": "0" * 32}).text


def test_every_word_is_used(web):
    folder = Path(server.__file__).parent
    said = "".join(
        path.read_text("utf-8")
        for path in [*folder.glob("*.py"), *folder.glob("templates/*"), *folder.glob("static/*.js")]
        if path.name != "translations.py"
    )
    made = {
        "name",
        *(f"level_{i}" for i in range(5)),
        *(f"spot_{i}" for i in range(9)),
        *(f"state_{name}" for name in ("waiting", "running", "done", "stopped", "failed")),
    }
    made |= {
        *(field.name for field in fields(Entry)),
        *COMPONENTS,
        *FACETS,
        "landscape",
        "portrait",
        "square",
        "size",
        "id",
        "engine",
        "encoder",
    }
    made |= {"photos", "files", "faults", "picks", "uses", "bank"}
    unused = {key for key in ENGLISH if key not in made and not re.search(rf"\bw\.{key}\b|[\"']{key}[\"']", said)}
    assert unused == set()


def test_values_beyond_the_first_eight_can_be_chosen(web):
    text = web.post("/", data={"draft": "Rom"}).text
    page = Page(text)
    assert [found["id"] for tag, found in page.tags if tag == "datalist"] == ["keywords-values"], (
        "the others show all they have"
    )
    listed = text.partition('<datalist id="keywords-values">')[2].partition("</datalist>")[0]
    offered = set(re.findall(r'<option value="(\w+)">', listed))
    assert offered == {*webdesk.WORDS, "Stadt"}
    last = sorted(webdesk.WORDS)[-1]
    assert f'name="keywords" value="{last}"' not in text, "the ninth has no box of its own"
    chosen = web.post("/", data={"draft": "Rom", "keywords": [last, ""]}).text
    assert f'name="keywords" value="{last}" checked' in chosen
    assert chosen.count('<li class="tile"') == 1
    assert (
        web.post("/api/search", json={"draft": "Rom", "headline": "", "text": "Rom", "credit": ["dba"]}).status_code
        == 200
    )


def test_one_worker_however_many_ask_at_once(desk):
    service, found = Service(desk), []
    threads = [threading.Thread(target=lambda: found.append(service.jobs())) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(map(id, found))) == 1
    service.close()


def test_the_desk_looks_at_the_archive_again_after_a_job(here):
    folder, _ = here
    with Archive.open(folder / "desk", doing="serve") as archive:
        desk = Desk(archive, echo())
        service = Service(desk)
        assert desk._known().photos == 8
        paint(folder / "photos/Kiel.png", "Kiel")
        service.jobs().start("add", {"folders": [str(folder / "photos")]})
        last = service.jobs().start("verify", {})["job"]
        while service.jobs().state(last)["state"] != "done":
            pass
        assert desk._known().photos == 9
        service.close()


def test_other_names_want_a_token_and_come_in_any_case(here, monkeypatch):
    uvicorn = pytest.importorskip("uvicorn")
    monkeypatch.setattr("photodesk.encoders.registry.load", lambda name: echo())
    made, said = [], []
    monkeypatch.setattr(uvicorn.Server, "run", lambda self, sockets: made.append(self.config.app))
    monkeypatch.setattr(
        server, "create_app", lambda desk, **more: made.append((desk, more)) or create_app(desk, **more)
    )
    server.run(here[0] / "desk", port=0, names=["Desk.Example"], translate="marian:x", say=said.append)
    desk, more = made[0]
    assert "desk.example" in more["hosts"]
    assert len(more["token"]) >= 16
    assert more["token"] in said[-1]
    assert desk.reader.preparation.translate == "marian:x"
