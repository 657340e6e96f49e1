"""The pages are read back with an HTML parser, and the pictures are decoded again, so that a mark on the wrong photo is
seen."""

import base64
import hashlib
import io
import random
import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from photodesk.errors import PhotoError, UsageError
from photodesk.evaluation.contact_sheet import contact_sheet, error_gallery
from photodesk.evaluation.evaluate import evaluate
from photodesk.images import load
from photodesk.types import Article, Dataset, Hit, Pair, Photo, Run

VOID = {"meta", "link", "input", "rect"}


@dataclass
class Node:
    tag: str
    attrs: dict[str, str]
    children: list["Node | str"] = field(default_factory=list)

    def all(self, tag: str = "", css: str = "") -> list["Node"]:
        found = []
        for child in self.children:
            if isinstance(child, Node):
                if (not tag or child.tag == tag) and (not css or css in child.attrs.get("class", "").split()):
                    found.append(child)
                found += child.all(tag, css)
        return found

    @property
    def text(self) -> str:
        return "".join(child if isinstance(child, str) else child.text for child in self.children)


class Reader(HTMLParser):
    """A tree, or an assertion error where the tags do not nest."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open = [Node("", {})]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs)
        node = Node(tag, {name: value or "" for name, value in attrs})
        self.open[-1].children.append(node)
        if tag not in VOID:
            self.open.append(node)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in VOID
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop().tag == tag

    def handle_data(self, data: str) -> None:
        self.open[-1].children.append(data)


def read(path: Path) -> Node:
    reader = Reader()
    reader.feed(path.read_bytes().decode())
    reader.close()
    assert len(reader.open) == 1
    ids = [node.attrs["id"] for node in reader.open[0].all() if "id" in node.attrs]
    assert len(set(ids)) == len(ids)
    return reader.open[0]


COLOURS = [(r, g, b) for r in (0, 128, 255) for g in (0, 128, 255) for b in (0, 255)]


def colour(i: int) -> tuple[int, int, int]:
    return COLOURS[i % len(COLOURS)]


def shown_colours(page: Node) -> dict[str, tuple[int, ...]]:
    """Class of a photo → the colour of the picture that the style sheet gives it."""
    rules = re.findall(
        r"\.(p\d+)\{background-image:url\(data:image/jpeg;base64,([A-Za-z0-9+/=]+)\)\}", page.all("style")[1].text
    )
    assert len(dict(rules)) == len(rules)
    return {css: Image.open(io.BytesIO(base64.b64decode(data))).resize((1, 1)).getpixel((0, 0)) for css, data in rules}


def near(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    return all(abs(a - b) < 12 for a, b in zip(one, other, strict=True))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("photos")
    photos = []
    for i in range(len(COLOURS)):
        photos.append(Photo(f"photo-{i:02}", folder / f"photo-{i:02}.png"))
        Image.new("RGB", (600 if i % 2 else 90, 400), colour(i)).save(photos[-1].path)
    articles = tuple(Article(f"a{i}", f"Headline {i}", language="de" if i % 2 else "en") for i in range(12))
    return Dataset(articles, tuple(photos), tuple(Pair(f"a{i}", f"photo-{i:02}") for i in range(12)), "made up")


@pytest.fixture(scope="module")
def run(data: Dataset) -> Run:
    """Every article ranks 14 of the 18 photos at random, so that every outcome occurs."""
    rng = random.Random(3)
    hits = {}
    for article in data.articles:
        order = rng.sample(data.photos, 14)
        hits[article.id] = tuple(Hit(photo.id, 0.5 - 0.01 * rank) for rank, photo in enumerate(order))
    for name, place in (("a0", 1), ("a1", 5), ("a2", 6)):
        names = [hit.photo for hit in hits[name] if hit.photo != f"photo-0{name[1]}"]
        names.insert(place - 1, f"photo-0{name[1]}")
        hits[name] = tuple(Hit(photo, 0.9 - 0.01 * rank) for rank, photo in enumerate(names))
    hits["a3"] = tuple(hit for hit in hits["a3"] if hit.photo != "photo-03")[:13]
    return Run(hits, "a <run>")


def ranks(run: Run, data: Dataset) -> dict[str, int]:
    """Naive twin: article → place of its right photo, 0 if it is not ranked."""
    found = {}
    for pair in data.pairs:
        names = [hit.photo for hit in run.hits.get(pair.article, ())]
        found[pair.article] = names.index(pair.photo) + 1 if pair.photo in names else 0
    return found


def test_every_article_shows_its_best_photos_and_marks_the_right_one(run: Run, data: Dataset, tmp_path: Path) -> None:
    contact_sheet(run, data, tmp_path / "page.html", title="A & B")
    page = read(tmp_path / "page.html")
    assert page.all("h1")[0].text == page.all("title")[0].text == "A & B"
    colours, places = shown_colours(page), ranks(run, data)
    assert {0, 1, 5, 6} < set(places.values())
    blocks = page.all("article")
    assert [block.all("h3")[0].text for block in blocks] == [article.title for article in data.articles]
    for block, article, pair in zip(blocks, data.articles, data.pairs, strict=True):
        assert block.all("h3")[0].attrs["lang"] == article.language
        figures = block.all("ol")[0].all("figure")
        for rank, (figure, hit) in enumerate(zip(figures, run[article.id][:5], strict=True), 1):
            assert figure.all("figcaption")[0].text == f"{rank}{hit.score:.3f}{hit.photo}"
            picture = figure.all("span", "photo")[0]
            assert picture.attrs["aria-label"] == f"Photo {hit.photo}"
            assert near(colours[picture.attrs["class"].split()[1]], colour(int(hit.photo[-2:])))
        place = places[article.id]
        marked = [rank for rank, figure in enumerate(figures, 1) if figure.all("span", "badge")]
        assert marked == ([place] if 1 <= place <= 5 else [])
        assert [rank for rank, figure in enumerate(figures, 1) if "right" in figure.attrs.get("class", "")] == marked
        verdict, wanted = block.all("p", "verdict")[0].text, block.all("div", "wanted")
        if 1 <= place <= 5:
            assert not wanted
            assert verdict == ("✓ Right photo first" if place == 1 else f"✓ Right photo at rank {place}")
            continue
        picture = wanted[0].all("span", "photo")[0]
        assert near(colours[picture.attrs["class"].split()[1]], colour(int(pair.photo[-2:])))
        assert wanted[0].all("span", "badge")
        score = f"{place}{run[article.id][place - 1].score:.3f}" if place else ""
        assert wanted[0].all("figcaption")[0].text == score + pair.photo
        assert verdict == (
            f"✗ Right photo at rank {place}" if place else f"✗ Right photo not among the {len(run[article.id])} ranked"
        )


def test_a_photo_is_embedded_once_and_only_if_it_is_shown(run: Run, data: Dataset, tmp_path: Path) -> None:
    contact_sheet(run, data, tmp_path / "page.html", title="x", limit=2, top=3)
    text = (tmp_path / "page.html").read_text()
    chosen = ["a0", "a6"]
    shown = {hit.photo for name in chosen for hit in run[name][:3]} | {
        pair.photo for pair in data.pairs if pair.article in chosen
    }
    assert text.count("data:image/") == len(shown) < len(data.photos)
    for size in (Image.open(io.BytesIO(base64.b64decode(d))).size for d in re.findall(r"base64,([^)]+)\)", text)):
        assert max(size) <= 320


def test_nothing_is_fetched_and_the_policy_says_so(run: Run, data: Dataset, tmp_path: Path) -> None:
    contact_sheet(run, data, tmp_path / "page.html", title="x", report=evaluate(run, data.pairs))
    page = read(tmp_path / "page.html")
    policy = next(
        m.attrs["content"] for m in page.all("meta") if m.attrs.get("http-equiv") == "Content-Security-Policy"
    )
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    hashes = [
        f"'sha256-{base64.b64encode(hashlib.sha256(s.text.encode()).digest()).decode()}'" for s in page.all("style")
    ]
    assert rules == {
        "default-src": "'none'",
        "style-src": " ".join(hashes),
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    for node in page.all():
        assert node.tag not in {"script", "img", "iframe", "object", "embed", "form", "base"}
        for name, value in node.attrs.items():
            assert not name.startswith("on")
            assert name not in {"style", "src", "srcset"}, "an inline style would be refused by the policy"
            assert name != "href" or value.startswith(("#", "data:,"))
    sheets = "".join(style.text for style in page.all("style"))
    assert sheets.count("url(") == sheets.count("url(data:image/jpeg;base64,") > 0
    assert not re.search(r"@import|image-set|src:|\\", sheets)


def test_links_and_controls_lead_somewhere(run: Run, data: Dataset, tmp_path: Path) -> None:
    contact_sheet(run, data, tmp_path / "page.html", title="x")
    page = read(tmp_path / "page.html")
    ids = {node.attrs["id"] for node in page.all() if "id" in node.attrs}
    links = [node.attrs["href"][1:] for node in page.all("a")]
    assert len(links) == 13
    assert set(links) <= ids
    assert {node.attrs["aria-labelledby"] for node in page.all("article")} <= ids
    sheet = (files("photodesk.evaluation") / "contact_sheet.css").read_text()
    buttons = page.all("input")
    assert [button.attrs["id"] for button in buttons if "checked" in button.attrs] == ["show-all"]
    for button in buttons[1:]:
        kind = button.attrs["id"].removeprefix("show-")
        assert f"body:has(#show-{kind}:checked) article:not(.{kind})" in sheet
    counts = [int(label.text.rsplit(": ")[1]) for label in page.all("label")]
    places = list(ranks(run, data).values())
    assert counts == [12, places.count(1), sum(1 < p <= 5 for p in places), sum(p == 0 or p > 5 for p in places)]


def test_same_input_same_bytes(run: Run, data: Dataset, tmp_path: Path) -> None:
    for name in ("one", "two"):
        contact_sheet(
            run, data, tmp_path / name, title="x", report=evaluate(run, data.pairs), about={"Encoder": "echo"}
        )
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert str(tmp_path).encode() not in (tmp_path / "one").read_bytes()
    assert str(data.photos[0].path.parent).encode() not in (tmp_path / "one").read_bytes()


def test_measures_facts_and_the_transductive_mark(run: Run, data: Dataset, tmp_path: Path) -> None:
    report = evaluate(run, [*data.pairs, Pair("unheard of", "photo-00")])
    sees_all = Run(run.hits, run.name, "dual_softmax(temperature=1)")
    contact_sheet(sees_all, data, tmp_path / "page.html", title="x", report=report, about={"Encoder": "echo <1>"})
    page = read(tmp_path / "page.html")
    facts = {d.all("dt")[0].text: d.all("dd")[0].text for d in page.all("dl", "facts")[0].all("div")}
    assert facts == {"Run": "a <run>", "Articles": "12", "Photos": "18", "Data": "made up", "Encoder": "echo <1>"}
    tiles = page.all("dl", "measures")[0].all("div")
    for tile, measure in zip(tiles, report.measures, strict=True):
        low, high = report.interval(measure)
        assert tile.all("dt")[0].text == str(measure)
        assert [d.text for d in tile.all("dd")] == [f"{report.means[str(measure)]:.3f}", f"{low:.3f} – {high:.3f}"]
    assert report.notes[0][1:] in page.text
    assert "Transductive run: dual_softmax(temperature=1)" in page.text
    contact_sheet(run, data, tmp_path / "page.html", title="x")
    assert "Transductive" not in read(tmp_path / "page.html").text


def test_a_long_run_is_sampled_evenly_and_the_page_says_so(data: Dataset, tmp_path: Path) -> None:
    long = Run({f"n{i}": (Hit("photo-01", 0.5),) for i in range(1000)})
    contact_sheet(long, data, tmp_path / "page.html", title="x")
    page = read(tmp_path / "page.html")
    names = [block.all("p", "where")[0].text.split(" · ")[1] for block in page.all("article")]
    assert names == [f"n{i}" for i in range(0, 1000, 5)]
    assert "This page shows 200 of 1,000 articles" in page.text
    assert (tmp_path / "page.html").stat().st_size < 300_000
    contact_sheet(long, data, tmp_path / "page.html", title="x", limit=None)
    page = read(tmp_path / "page.html")
    assert len(page.all("article")) == 1000
    assert "This page shows" not in page.text


def test_without_truth_there_is_no_mark_and_no_filter(run: Run, data: Dataset, tmp_path: Path) -> None:
    contact_sheet(run, Dataset(data.articles, data.photos, ()), tmp_path / "page.html", title="x")
    page = read(tmp_path / "page.html")
    assert not page.all("", "badge") + page.all("", "wanted") + page.all("fieldset") + page.all("", "share")
    assert {v.text for v in page.all("p", "verdict")} == {"Right photo not known"}


def test_photos_that_cannot_be_shown_say_why(data: Dataset, tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 cut")
    (tmp_path / "web.jpg").write_bytes(b"<!doctype html>")
    photos = tuple(Photo(name, tmp_path / f"{name}.jpg") for name in ("broken", "web", "gone"))
    run = Run({"a0": [Hit(name, 0.1) for name in ("broken", "web", "gone", "nowhere")]})
    contact_sheet(run, Dataset(data.articles, photos, (Pair("a0", "broken"),)), tmp_path / "page.html", title="x")
    page = read(tmp_path / "page.html")
    broken, web, gone, nowhere = (node.text for node in page.all("span", "broken"))
    for text, photo in zip((broken, web, gone), photos, strict=True):
        with pytest.raises(PhotoError) as error:
            load(photo.path)
        assert text == f"Cannot be shown: {error.value}".replace(f"{tmp_path}/", "")
    assert "No file of this photo" in nowhere
    assert "data:image" not in page.text
    assert str(tmp_path) not in page.text
    assert len(page.all("span", "badge")) == 1, "the right photo is marked even where it cannot be shown"


def test_several_right_photos_are_all_marked_and_the_best_one_counts(data: Dataset, tmp_path: Path) -> None:
    run = Run(
        {
            "a0": [Hit(f"photo-{i:02}", 1 - i / 20) for i in range(9)],
            "a1": [Hit(f"photo-{i:02}", 1.0) for i in range(9)],
        }
    )
    pairs = (Pair("a0", "photo-03"), Pair("a0", "photo-01"), Pair("a1", "photo-08"), Pair("a1", "photo-06"))
    contact_sheet(run, Dataset(data.articles, data.photos, pairs), tmp_path / "page.html", title="x")
    first, second = read(tmp_path / "page.html").all("article")
    assert [f.all("bdi")[0].text for f in first.all("figure", "right")] == ["photo-01", "photo-03"]
    assert first.all("p", "verdict")[0].text == "✓ Right photo at rank 2"
    assert second.all("p", "verdict")[0].text == "✗ Right photo at rank 7"
    assert [w.all("bdi")[0].text for w in second.all("div", "wanted")] == ["photo-06"]


def test_a_run_file_without_scores_shows_none(data: Dataset, tmp_path: Path) -> None:
    contact_sheet(Run({"a0": [Hit("photo-00", -1.0), Hit("photo-01", -2.0)]}), data, tmp_path / "page.html", title="x")
    assert [c.text for c in read(tmp_path / "page.html").all("figcaption")] == ["1photo-00", "2photo-01"]


def test_the_largest_score_of_an_article_has_three_digits(data: Dataset, tmp_path: Path) -> None:
    scores = {
        "a0": [31.27, 0.5],
        "a1": [0.0163934, 0.00123],
        "a2": [0.31, 0.0473, -0.25],
        "a3": [0.0, 0.0],
        "a4": [1234.5],
        "a5": [1e-300],
    }
    run = Run({name: [Hit(f"photo-{i:02}", score) for i, score in enumerate(row)] for name, row in scores.items()})
    contact_sheet(run, Dataset(data.articles, data.photos, ()), tmp_path / "page.html", title="x")
    shown = [
        [c.all("span")[0].text for c in block.all("figcaption")]
        for block in read(tmp_path / "page.html").all("article")
    ]
    assert shown == [
        ["31.3", "0.5"],
        ["0.0164", "0.0012"],
        ["0.310", "0.047", "-0.250"],
        ["0.000", "0.000"],
        ["1234"],
        ["0.000000000000"],
    ]


HOSTILE = [
    "</h3><script>alert(1)</script>",
    "' onclick=x",
    '"><img src=x>',
    "&lt;b&gt;",
    "\ud800",
    "\x00\x0b",
    " ",
    "\r\n",
    "</style>",
    "<!--",
]
text = st.text(st.characters(), max_size=40) | st.sampled_from(HOSTILE)


@settings(max_examples=40, deadline=None)
@given(title=text, name=text, date=text, language=text, edition=text, heading=text, photo=text)
@example(*HOSTILE[:7])
@example(*HOSTILE[1:8])
@example(*HOSTILE[2:9])
@example(*HOSTILE[3:])
@example(*([HOSTILE[2]] * 7))
@example(*([HOSTILE[1]] * 7))
def test_no_text_of_a_stranger_changes_the_page(
    tmp_path_factory: pytest.TempPathFactory,
    title: str,
    name: str,
    date: str,
    language: str,
    edition: str,
    heading: str,
    photo: str,
) -> None:
    def tags(node: Node) -> list[tuple[str, list[str]]]:
        return [(n.tag, sorted(n.attrs)) for n in node.all()]

    def make(title: str, name: str, date: str, language: str, edition: str, heading: str, photo: str) -> Node:
        path = tmp_path_factory.getbasetemp() / "stranger.html"
        article = Article(name, title, date=date, language=language or "en")
        one = Dataset((article,), (), (Pair(name, photo),), edition or "none")
        contact_sheet(
            Run({name: [Hit(photo, 0.5)]}, edition or "none", heading or "none"),
            one,
            path,
            title=heading,
            about={"A": date or "x"},
        )
        return read(path)

    def as_shown(value: str) -> str:
        return "".join(
            "�" if (ord(c) < 32 and c not in "\t\n") or 126 < ord(c) < 160 or 0xD7FF < ord(c) < 0xE000 else c
            for c in value
        )

    page = make(title, name, date, language, edition, heading, photo)
    assert tags(page) == tags(make(*"tndlehp"))
    assert page.all("h1")[0].text == as_shown(heading)
    assert page.all("h3")[0].text == (as_shown(title.strip()) or "(no headline)")
    assert page.all("bdi")[0].text == as_shown(photo)


def test_error_gallery_orders_by_rank_then_by_lead(run: Run, data: Dataset, tmp_path: Path) -> None:
    pairs = (*data.pairs, Pair("missing", "photo-01"))
    error_gallery(run, Dataset(data.articles, data.photos, pairs), evaluate(run, pairs), tmp_path / "page.html", n=5)
    page = read(tmp_path / "page.html")
    assert [h.text for h in page.all("h2")] == ["Worst", "Best"]
    names = [block.all("p", "where")[0].text.split(" · ")[1] for block in page.all("article")]
    assert len(names) == len(set(names)) == 10
    places = {name: place or 1000 for name, place in ranks(run, data).items()} | {"missing": 1000}
    shown = [places[name] for name in names]
    ordered = sorted(places.values())
    assert shown == ordered[:-6:-1] + ordered[:5]
    missing = page.all("article")[names.index("missing")]
    assert missing.all("p", "verdict")[0].text == "✗ Not in the run"
    assert names[0] == "missing", "an article that the run lacks is behind those whose scores are known"
    assert missing.all("div", "wanted")
    for block in page.all("article"):
        assert len(block.all("figure", "right")) == 1, "the right photo stands beside the best ones or among them"


def test_error_gallery_shows_confident_mistakes_first_and_clear_cases_first(data: Dataset, tmp_path: Path) -> None:
    def hits(right: str, ahead: float) -> list[Hit]:
        wrong = 0.5 - 2 * ahead
        return sorted([Hit(right, wrong + ahead), Hit("photo-17", wrong)], key=lambda hit: -hit.score)

    leads = {"a0": 0.1, "a1": 0.3, "a2": -0.2, "a3": -0.01, "a4": -0.4, "a5": 0.2}
    run = Run({name: hits(f"photo-0{name[1]}", lead) for name, lead in leads.items()})
    small = Dataset(data.articles, data.photos, data.pairs[:6])
    error_gallery(run, small, None, tmp_path / "page.html", n=50)
    names = [b.all("p", "where")[0].text.split(" · ")[1] for b in read(tmp_path / "page.html").all("article")]
    assert names == ["a4", "a2", "a3", "a1", "a5", "a0"]


def test_error_gallery_takes_the_last_score_for_a_photo_that_is_not_ranked(data: Dataset, tmp_path: Path) -> None:
    scores = {"a0": (0.9, 0.8), "a1": (0.6, 0.1), "a2": (0.3, 0.1)}
    run = Run({name: [Hit("photo-16", first), Hit("photo-17", last)] for name, (first, last) in scores.items()})
    small = Dataset(data.articles, data.photos, data.pairs[:3])
    error_gallery(run, small, None, tmp_path / "page.html", n=2)
    names = [b.all("p", "where")[0].text.split(" · ")[1] for b in read(tmp_path / "page.html").all("article")]
    assert names == ["a1", "a2", "a0"]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda run, data, path: contact_sheet(run, data, path, title="x", top=0),
            "at least 1 photo per article, not 0",
        ),
        (lambda run, data, path: contact_sheet(run, data, path, title="x", limit=0), "at least 1 article, not 0"),
        (lambda run, data, path: error_gallery(run, data, None, path, n=0), "at least 1 article of each kind, not 0"),
        (
            lambda run, data, path: error_gallery(run, Dataset(data.articles, data.photos, ()), None, path),
            "needs the right photos",
        ),
    ],
)
def test_wrong_calls_say_what_is_expected_and_write_nothing(
    call, message: str, run: Run, data: Dataset, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=message):
        call(run, data, tmp_path / "page.html")
    assert not list(tmp_path.iterdir())


def palettes() -> dict[str, dict[str, str]]:
    sheet = (files("photodesk.evaluation") / "contact_sheet.css").read_text()
    blocks = [dict(re.findall(r"--([\w-]+): (#\w+);", block)) for block in re.findall(r":root \{([^}]*)\}", sheet)]
    assert len(blocks) == 3
    return {"light": blocks[0], "dark": blocks[0] | blocks[1], "print": blocks[0] | blocks[2]}


def contrast(one: str, other: str) -> float:
    """WCAG 2.2, relative luminance and contrast ratio."""

    def luminance(colour: str) -> float:
        digits = colour[1:] if len(colour) == 7 else "".join(c * 2 for c in colour[1:])
        parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
        red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("name", ["light", "dark", "print"])
def test_contrast_meets_wcag_aa(name: str) -> None:
    assert contrast("#000", "#ffffff") == pytest.approx(21)
    colours = palettes()[name]
    words = ["ink", "faint", "link", "right", "near", "miss", "unknown"]
    pairs = [(word, "paper") for word in words] + [
        ("ink", "card"),
        ("faint", "card"),
        ("ink", "mat"),
        ("on-right", "right"),
        ("on-note", "note"),
    ]
    for text, ground in pairs:
        assert contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
    for part in ("right", "faint", "link"):
        assert contrast(colours[part], colours["mat"]) >= 3, (part, "mat")
