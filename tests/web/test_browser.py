"""The desk in a real browser: typing, filters, why, pick, a photo dragged in, the keyboard alone, a phone, and what axe
finds."""

from __future__ import annotations

import base64
import re
import threading

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("playwright")

import webdesk
from browser import CHROMIUM, chromium, serving
from photodesk.archive.archive import Archive
from photodesk.web import create_app
from photodesk.web.translations import ENGLISH, GERMAN

pytestmark = pytest.mark.skipif(
    not CHROMIUM, reason="needs chromium: apt-get install chromium, or name one in PHOTODESK_CHROMIUM"
)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    ids = webdesk.build(folder)
    with Archive.open(folder / "desk", doing="serve") as archive:
        desk = webdesk.Desk(archive)
        with serving(create_app(desk)) as url, chromium() as browser:
            yield browser, url, ids, desk


@pytest.fixture
def visit(site):
    """Opens a page; what the browser complains of, and requests to anybody else, fail the test."""
    browser, url, _, _ = site
    contexts, complaints = [], []

    def open_page(path="/", *, width=1280, height=800, strict=True, **options):
        options = {"locale": "en-GB"} | options
        context = browser.new_context(viewport={"width": width, "height": height}, **options)
        context.set_default_timeout(10_000)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        if strict:
            page.on(
                "console",
                lambda message: complaints.append(message.text) if message.type in ("error", "warning") else None,
            )
        page.on(
            "request",
            lambda request: complaints.append(request.url) if not request.url.startswith((url, "blob:")) else None,
        )
        page.goto(url + path)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


def first(page, photo):
    page.wait_for_selector(f'.tile:first-child[data-photo="{photo}"]')


def until(page, truth):
    """Wait for an expression to become true; Playwright's own wait would want `eval`, which the desk's policy
    forbids."""
    for _ in range(200):
        if page.evaluate(truth):
            return
        page.wait_for_timeout(50)
    raise AssertionError(truth)


def active(page, what):
    return page.evaluate(f"document.activeElement.{what}")


def test_photos_appear_as_one_types_without_a_search_a_letter(visit, site):
    _, _, ids, desk = site
    page = visit()
    before = len(desk.asked)
    page.locator("#draft").press_sequentially("Wien", delay=20)
    first(page, ids["Wien"])
    assert len(desk.asked) - before <= 2, "debounced"
    assert page.locator(".tile").count() == 8
    assert "fits well" in page.locator(".said").inner_text()
    assert page.locator(".tile:first-child meter").get_attribute("value") == "0.900"
    page.locator("#draft").fill("Graz")
    first(page, ids["Graz"])
    page.get_by_role("link", name=ENGLISH["archive_page"]).click()
    page.get_by_role("link", name="Deutsch").click()
    page.get_by_role("link", name=GERMAN["search_page"]).click()
    first(page, ids["Graz"])
    assert page.locator("#draft").input_value() == "Graz", "the draft was kept"
    page.get_by_role("link", name="English").click()
    page.wait_for_selector("html[lang=en]")
    page.wait_for_load_state()  # its script listens by now
    page.locator("#draft").fill("something of which there is no picture")
    page.wait_for_selector(".note")
    assert ENGLISH["nothing_fits"] in page.locator(".note").inner_text()


def test_filters_narrow_the_grid_and_can_be_cleared(visit, site):
    _, _, ids, _ = site
    page = visit()
    page.locator("#draft").fill("Rom")
    first(page, ids["Rom"])
    page.get_by_label(re.compile("^dpa")).check()
    until(page, "document.querySelectorAll('.tile').length === 4")
    first(page, ids["Köln"])
    page.locator("#until").fill("2024-05-03")
    until(page, "document.querySelectorAll('.tile').length === 2")
    assert page.get_by_label(re.compile("^dpa")).is_checked()
    page.get_by_role("button", name=ENGLISH["clear_filters"]).click()
    until(page, "document.querySelectorAll('.tile').length === 8")
    assert page.locator("#until").input_value() == ""


def test_photos_come_before_the_counts_and_a_choice_made_meanwhile_stays(visit, site):
    _, _, ids, desk = site
    page = visit()
    page.locator("#draft").fill("Rom")
    first(page, ids["Rom"])
    page.get_by_label(re.compile("^dpa")).wait_for()
    counting = threading.Event()
    plain, desk.facets = desk.facets, lambda *asked: counting.wait(30) and plain(*asked)
    try:
        page.locator("#min_height").fill("2")
        page.wait_for_timeout(600)
        until(page, "document.querySelectorAll('.tile').length === 8")
        assert page.get_by_label(re.compile("^dpa")).is_visible(), "the counts from before stand"
        page.get_by_label(re.compile("^epd")).check()
        counting.set()  # what comes now knows nothing of that choice
        until(page, "document.querySelectorAll('.tile').length === 4")
    finally:
        counting.set()
        del desk.facets
    until(page, "document.querySelector('#filters summary b')?.textContent === '(2)'")
    assert page.get_by_label(re.compile("^epd")).is_checked()
    assert page.locator("#min_height").input_value() == "2"


def test_why_shows_words_and_places_and_closes(visit, site):
    _, _, ids, _ = site
    page = visit()
    page.locator("#draft").fill("Rom")
    first(page, ids["Rom"])
    page.locator(".tile .open").first.click()
    page.wait_for_selector("#panel mark")
    assert page.locator("#panel mark").inner_text() == "Rom"
    heat = page.locator(".picture svg")
    assert heat.is_visible()
    box, cell = page.locator(".picture").bounding_box(), page.locator(".picture rect").bounding_box()
    assert cell["x"] + cell["width"] == pytest.approx(box["x"] + box["width"], abs=2), (
        "the heat lies over the photo: top right"
    )
    assert cell["y"] == pytest.approx(box["y"], abs=2)
    page.locator("#heat").uncheck()
    assert not heat.is_visible()
    until(page, "document.querySelector('.picture .over').naturalWidth === 400")
    page.get_by_role("button", name=ENGLISH["close"]).click()
    assert not page.locator("#panel").is_visible()


def test_a_pick_is_noted(visit, site):
    _, _, ids, desk = site
    page = visit()
    page.locator("#draft").fill("Bonn\nEin Text.")
    first(page, ids["Bonn"])
    page.locator(".tile .pick").nth(1).click()
    page.wait_for_selector('.tile:nth-child(2) .pick[aria-pressed="true"]')
    assert page.locator(".said").inner_text() == ENGLISH["picked_said"].format(rank=2)
    pick = desk.archive.usage.picks()[-1]
    assert (pick.article.title, pick.rank) == ("Bonn", 2)
    assert pick.photo == page.locator(".tile").nth(1).get_attribute("data-photo")


def test_a_pick_is_taken_back_where_it_was_made_and_screen_readers_hear_it(visit, site):
    _, _, ids, desk = site
    page = visit(locale="de-DE")
    page.locator("#draft").fill("Ulm\nEin anderer Text.")
    first(page, ids["Ulm"])
    page.evaluate("window.line = document.querySelector('[role=status]')")
    button = page.locator(".tile .pick").first
    button.focus()
    page.keyboard.press("Enter")
    page.wait_for_selector('.tile:first-child .pick[aria-pressed="true"]')
    assert button.inner_text() == GERMAN["picked"]
    assert active(page, "className") == "pick", "the focus stays on the button"
    page.reload()
    first(page, ids["Ulm"])
    assert button.get_attribute("aria-pressed") == "true", "the database knows"
    page.evaluate("window.line = document.querySelector('[role=status]')")
    page.locator(".tile .open").first.click()
    inside = page.locator("#panel .pick")
    assert inside.get_attribute("aria-pressed") == "true"
    inside.click()
    page.wait_for_selector('.tile:first-child .pick[aria-pressed="false"]')
    assert inside.get_attribute("aria-pressed") == "false", "the panel says what the grid says"
    assert page.evaluate("window.line.isConnected && window.line.textContent") == GERMAN["unpicked_said"].format(rank=1)
    assert page.locator("[role=status]").count() == 1
    assert all(pick.article.title != "Ulm" for pick in desk.archive.usage.picks())
    page.keyboard.press("p")
    page.wait_for_selector('.tile:first-child .pick[aria-pressed="true"]')
    page.keyboard.press("p")
    page.wait_for_selector('.tile:first-child .pick[aria-pressed="false"]')
    assert inside.inner_text() == GERMAN["pick"]


DROP = """([name, data]) => {
  const bytes = Uint8Array.from(atob(data), (sign) => sign.charCodeAt(0));
  const dropped = new DataTransfer();
  dropped.items.add(new File([bytes], name, { type: "image/png" }));
  const how = { dataTransfer: dropped, bubbles: true, cancelable: true };
  for (const kind of ["dragover", "drop"])
    document.querySelector("main").dispatchEvent(new DragEvent(kind, how));
}"""


def test_a_photo_that_is_dragged_in_finds_its_like(visit, site):
    _, _, ids, _ = site
    page = visit(strict=False)
    page.evaluate(DROP, ["ulm.png", base64.b64encode(webdesk.png("Ulm")).decode()])
    first(page, ids["Ulm"])
    until(page, "document.querySelector('.chip img').naturalWidth === 60")
    page.get_by_role("button", name=ENGLISH["take_away"]).click()
    page.wait_for_selector(".chip", state="detached")
    page.evaluate(DROP, ["bad.png", base64.b64encode(b"no picture").decode()])
    page.wait_for_selector(".said.bad")
    assert "not a picture" in page.locator(".said").inner_text()
    page.locator("#file").set_input_files({"name": "graz.png", "mimeType": "image/png", "buffer": webdesk.png("Graz")})
    first(page, ids["Graz"])


def test_everything_goes_by_the_keyboard_alone(visit, site):
    _, _, ids, desk = site
    page = visit()
    keys = page.keyboard
    assert active(page, "id") == "draft"
    keys.type("Basel")
    first(page, ids["Basel"])
    keys.press("Escape")
    assert active(page, "value") == f"{ids['Basel']} 1"
    columns = page.evaluate("getComputedStyle(document.querySelector('.grid')).gridTemplateColumns.split(' ').length")
    keys.press("ArrowRight")
    assert active(page, "value").endswith(" 2")
    keys.press("ArrowDown")
    assert active(page, "value").endswith(f" {2 + columns}")
    keys.press("ArrowUp")
    keys.press("ArrowLeft")
    assert active(page, "value").endswith(" 1")
    keys.press("ArrowLeft")
    assert active(page, "value").endswith(" 1"), "there is nothing before the first"
    keys.press("End")
    assert active(page, "value").endswith(" 8")
    keys.press("Home")
    keys.press("Enter")
    until(page, "document.activeElement.id === 'panel-title'")
    keys.press("Escape")
    assert active(page, "value") == f"{ids['Basel']} 1"
    before = len(desk.archive.usage.picks())
    keys.press("p")
    page.wait_for_selector('.tile:first-child .pick[aria-pressed="true"]')
    assert len(desk.archive.usage.picks()) == before + 1
    keys.press("/")
    assert active(page, "id") == "draft"
    keys.type("/")
    assert page.locator("#draft").input_value() == "Basel/", "in the draft a stroke is a stroke"
    keys.press("Escape")
    page.locator(".keys summary").focus()
    keys.press("Enter")
    keys.press("Tab")
    keys.press("Space")
    keys.press("/")
    assert active(page, "id") == "single", "single keys can be switched off"


def test_a_phone_shows_one_column_and_nothing_beside_the_screen(visit, site):
    _, _, ids, _ = site
    page = visit(width=360, height=740, has_touch=True, is_mobile=True, device_scale_factor=2)
    page.locator("#draft").fill("Rom")
    first(page, ids["Rom"])
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    boxes = [page.locator("#query").bounding_box(), page.locator("#results").bounding_box()]
    assert boxes[0]["y"] + boxes[0]["height"] <= boxes[1]["y"], "one below the other"
    assert not page.locator("#since").is_visible(), "filters are folded"
    page.locator(".tile .open").first.tap()
    page.wait_for_selector("#panel-title")
    box = page.locator("#panel").bounding_box()
    assert (box["x"], box["width"]) == (0, 360)
    small = page.evaluate(
        "[...document.querySelectorAll('button:not(.unseen), summary')].filter(b => b.offsetParent && "
        "b.getBoundingClientRect().height < 24)"
        ".map(b => b.outerHTML)"
    )
    assert small == [], "targets of less than 24 pixels"


@pytest.mark.parametrize(("scheme", "width", "locale"), [("dark", 1280, "en-GB"), ("light", 360, "de-DE")])
def test_axe_finds_nothing(visit, site, scheme, width, locale):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    _, _, ids, _ = site
    rules = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}
    page = visit(width=width, color_scheme=scheme, locale=locale)
    page.evaluate("document.getAnimations().forEach((one) => one.finish())")

    def look(where):
        page.wait_for_timeout(200)  # colours fade over an eighth of a second
        found = axe.run(page, options=rules).response["violations"]
        assert [(one["id"], [node["html"][:200] for node in one["nodes"]]) for one in found] == [], where

    assert page.locator("label[for=draft]").inner_text() == (GERMAN if locale == "de-DE" else ENGLISH)["draft"]
    look("start")
    page.locator("#draft").fill("Rom")
    first(page, ids["Rom"])
    page.evaluate("document.getElementById('filters').open = true")
    look("results")
    page.locator(".tile .open").first.click()
    page.wait_for_selector("#panel mark")
    look("why")
    page.goto(page.url + "archive")
    look("archive")


def test_the_colours_can_be_turned_and_stay(visit):
    page = visit(color_scheme="light")
    ground = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(ground)
    page.locator("#theme").click()
    dark = page.evaluate(ground)
    assert dark != light
    page.reload()
    assert page.evaluate(ground) == dark


def test_without_a_script_the_form_does_it(visit, site):
    _, _, ids, _ = site
    page = visit(java_script_enabled=False)
    page.locator("#draft").fill("Köln")
    page.get_by_role("button", name=ENGLISH["search"]).click()
    first(page, ids["Köln"])
    page.locator(".tile .open").first.click()
    page.wait_for_selector("#panel mark")
    page.locator("#close").click()
    page.wait_for_selector("#panel", state="hidden")
    first(page, ids["Köln"])
    page.get_by_role("link", name="Deutsch").click()
    page.wait_for_selector("html[lang=de]")
    page.wait_for_load_state()  # its script listens by now
    assert GERMAN["draft"] in page.locator("label[for=draft]").inner_text()
    page.wait_for_selector(".drop", state="hidden")
