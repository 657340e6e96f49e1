"""A desk from the outside: every answer beside what was put into a small archive, whose right answers are known."""

from __future__ import annotations

import datetime
import json
import re

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from doubles import EchoPhotos, EchoTexts, colour, constant, echo, paint, twin
from photodesk.archive import ingest
from photodesk.archive.archive import Archive
from photodesk.archive.database import File
from photodesk.cli import commands
from photodesk.encoders.base import Encoder
from photodesk.engines.schema import FACETS, Entry, Filter, Point
from photodesk.errors import StoreError, UsageError
from photodesk.files import digest
from photodesk.search import schema
from photodesk.search.confidence import Background, Confidence
from photodesk.search.desk import NAMES, USED, Desk
from photodesk.search.query import SHORT, WINDOWS, Question, Reader, windows
from photodesk.text.preparation import Preparation
from photodesk.types import Article

pytest.importorskip("qdrant_edge")
WORDS = [
    f"{thing} {place}"
    for thing in ("Flut", "Brand", "Markt")
    for place in ("Elbe", "Wien", "Ulm", "Rom", "Bern", "Graz", "Linz", "Kiel")
]


def name(word):
    return digest(word.encode()).hex()


def row_of(word):
    return echo().texts.encode([word])[0]


def put(archive, *words, row=None, number=0.0, describe=lambda i: {}, **entry):
    """Photos that `words` are the right headlines for, all at once."""
    points = []
    for i, word in enumerate(words):
        known = {"group": name(word), "width": 300, "height": 200} | entry | describe(i)
        points.append(Point(name(word), row_of(word) if row is None else row, Entry(**known), number))
    files = [File(f"/photos/{point.photo}.jpg", point.photo, "/photos", 1, 1) for point in points]
    archive.database.announce([(point.photo, 0, point.entry.group) for point in points], files)
    archive.engine.upsert(points)
    archive.database.confirm([point.photo for point in points])


@pytest.fixture
def archive(tmp_path):
    with Archive.create(tmp_path / "desk", echo(), engine="flat:index") as made:
        put(made, *WORDS, describe=lambda i: {"credit": "ab"[i % 2], "taken": f"2024-{1 + i % 12:02}-01T00:00:00"})
        yield made


@pytest.fixture
def desk(archive):
    return Desk(archive, echo())


def ask(desk, title="", **more):
    return desk.ask(Question(Article("", title) if title else None, **more))


def ids(answer):
    return [hit.photo for hit in answer.hits]


def ago(days):
    return (datetime.datetime.now(datetime.UTC).date() - datetime.timedelta(days=days)).isoformat()


@pytest.mark.parametrize("word", WORDS[::5])
def test_the_photo_of_a_headline_is_first_and_the_order_is_that_of_the_cosine(desk, word):
    answer = ask(desk, word, top=24)
    query = row_of(word)
    rows = {name(w): row_of(w) for w in WORDS}
    assert ids(answer) == sorted(rows, key=lambda photo: (-float(rows[photo] @ query), photo))
    assert answer.hits[0].photo == name(word)
    scores = np.stack(list(rows.values())) @ query
    assert answer.hits[0].score == pytest.approx((1 - scores.mean()) / scores.std(), rel=1e-3)
    assert all(hit.score == pytest.approx(sum(hit.components.values()), abs=1e-5) for hit in answer.hits)
    likely = [hit.probability for hit in answer.hits]
    assert likely == sorted(likely, reverse=True)
    assert 0 <= likely[-1] < likely[0] <= 1


def test_filters_and_facets_are_the_engines(desk):
    where = Filter(credit=("a",), since="2024-06-01")
    answer = ask(desk, WORDS[0], where=where, top=24)
    assert set(ids(answer)) == {name(w) for i, w in enumerate(WORDS) if i % 2 == 0 and i % 12 >= 5}
    assert desk.counted(where) is None, "a search counts nothing"
    assert desk.facets(where, ["credit"]) == {"credit": {"a": len(answer.hits)}}
    assert desk.counted(where) is None, "the other fields are not counted yet"
    assert desk.counted(where, ["credit"]) == {"credit": {"a": len(answer.hits)}}
    assert (
        desk.facets(where)
        == desk.counted(where)
        == {name: desk.archive.engine.facets(name, where=where) for name in FACETS}
    )
    none = ask(desk, WORDS[0], where=Filter(credit=("c",)))
    assert (list(none.hits), none.nothing_fits, none.message) == ([], True, "no photo passes the filters")


def test_a_name_in_a_caption_lifts_by_all_words_more_than_by_some(desk, archive):
    put(archive, "x1", row=row_of(WORDS[3]), caption="Manuela Schwesig am Ufer", group=name("x1"))
    put(
        archive,
        "x2",
        row=row_of(WORDS[3]),
        caption="Manuela lacht, und hinter ihr ist viel zu sehen, das niemand kennt",
        group=name("x2"),
    )
    plain = {hit.photo: hit for hit in ask(desk, WORDS[3], top=50).hits}
    named = {hit.photo: hit for hit in ask(desk, WORDS[3], words="Manuela Schwesig", top=50).hits}
    assert named[name("x1")].components["names"] == pytest.approx(NAMES)
    assert 0 < named[name("x2")].components["names"] < NAMES / 2
    assert {photo for photo, hit in named.items() if hit.components["names"]} == {name("x1"), name("x2")}
    assert named[name("x1")].probability == plain[name("x1")].probability
    assert ids(ask(desk, "Manuela Schwesig", top=50)).index(name("x1")) < ids(
        ask(desk, "Manuela Schwesig", words="none", top=50)
    ).index(name("x1"))


def test_a_photo_far_below_the_candidates_is_found_by_its_caption(desk, archive):
    put(archive, *(f"near {i}" for i in range(120)), row=row_of(WORDS[0]))
    put(archive, "far", row=-row_of(WORDS[0]), caption="Zugspitze")
    query = Question(Article("", WORDS[0]), words="Zugspitze", top=10)
    assert name("far") not in [hit.photo for hit in archive.engine.search(row_of(WORDS[0]), 100)]
    assert desk.found(query, name("far"))[0].components["names"] == pytest.approx(NAMES)
    seen = []
    archive.engine.get, get = lambda photos, **more: seen.extend(photos) or get(photos, **more), archive.engine.get
    desk.ask(query)
    assert name("far") in seen


def test_near_duplicates_are_one_hit_with_their_number_even_if_they_fill_all_candidates(desk, archive):
    word = WORDS[0]
    put(archive, *(f"copy {i}" for i in range(150)), row=row_of(word), group=name(word))
    desk.refresh()
    folded, loose = ask(desk, word, top=20), ask(desk, word, top=20, fold=False)
    assert len(folded.hits) == 20
    assert len({hit.entry.group for hit in folded.hits}) == 20
    assert len(folded.hits[0].similar) == 150
    assert {len(hit.similar) for hit in folded.hits[1:]} == {0}
    assert {hit.entry.group for hit in loose.hits} == {name(word)}


EMBARGO = "Sperrfrist: 12. Mai, 18 Uhr"


@pytest.mark.parametrize(
    "far", [False, True], ids=["the embargoed copy is the better hit", "it is below the candidates"]
)
@pytest.mark.parametrize("more", [{}, {"where": Filter(credit=("a",))}, {"fold": False}, {"diverse": True}], ids=str)
def test_no_search_hides_the_embargo_of_a_near_duplicate(desk, archive, far, more):
    word = WORDS[0]
    put(archive, "bare", row=row_of(word), group=name("bare"), credit="a")
    put(archive, "held", row=-row_of(word) if far else row_of(word), group=name("bare"), credit="b", terms=EMBARGO)
    found = {hit.photo: hit for hit in ask(desk, word, top=3, **more).hits}
    assert found.keys() & {name("bare"), name("held")}
    for photo in found.keys() & {name("bare"), name("held")}:
        assert found[photo].entry.terms == EMBARGO
    if far:
        assert name("held") not in found
        assert found[name("bare")].origins["terms"] == (name("held"),)
        assert [(one.photo, one.entry.credit) for one in found[name("bare")].similar] == [
            (name("held"), "b")
        ] * more.get("fold", True)
    for photo in (name("bare"), name("held")):
        assert desk.found(Question(Article("", word)), photo)[0].entry.terms == EMBARGO


def test_a_photo_that_came_a_moment_ago_speaks_for_its_group(desk, archive):
    assert not ask(desk, WORDS[3], top=1).hits[0].entry.terms
    put(archive, "held", row=-row_of(WORDS[3]), group=name(WORDS[3]), terms=EMBARGO)
    assert ask(desk, WORDS[3], top=1).hits[0].entry.terms == EMBARGO
    archive.drop([name(WORDS[3])])
    put(archive, "other", row=row_of(WORDS[3]), group=name(WORDS[3]))
    assert ask(desk, WORDS[3], top=1).hits[0].entry.terms == EMBARGO, (
        "a group outlives the photo that it is named after"
    )
    archive.drop([name("held")])
    assert not ask(desk, WORDS[3], top=1).hits[0].entry.terms


def test_distinct_terms_stand_together_the_strictest_first_and_gaps_are_filled_by_the_largest(desk, archive):
    word, group = WORDS[5], name(WORDS[5])
    put(archive, "own", row=row_of(word), group=group, credit="own", terms="Nur redaktionell")
    put(
        archive,
        "small",
        row=-row_of(word),
        group=group,
        width=30,
        terms="nur  REDAKTIONELL",
        caption="small",
        byline="small",
    )
    put(
        archive,
        "large",
        row=-row_of(word),
        group=group,
        width=900,
        terms="EMBARGO 6 pm",
        caption="large",
        credit="large",
    )
    put(archive, "last", row=-row_of(word), group=group, width=20, terms="Honorarpflichtig", place="last")
    (hit,) = (hit for hit in ask(desk, word, where=Filter(credit=("own",))).hits if hit.photo == name("own"))
    assert hit.entry.terms == "EMBARGO 6 pm | Nur redaktionell | Honorarpflichtig"
    assert (hit.entry.credit, hit.entry.caption, hit.entry.byline, hit.entry.place) == ("own", "large", "small", "last")
    assert hit.origins == {
        "caption": (name("large"),),
        "byline": (name("small"),),
        "place": (name("last"),),
        "taken": (group,),
        "terms": (name("large"), name("last")),
    }
    assert [one.photo for one in hit.similar] == [name("large"), group, name("small"), name("last")], (
        "the largest picture first"
    )
    assert (hit.entry.width, hit.entry.group) == (300, group), "what is of the file stays its own"


def test_why_counts_words_of_the_photos_own_caption_only(desk, archive):
    put(archive, "bare", row=row_of(WORDS[0]), group=name("bare"))
    put(archive, "held", row=-row_of(WORDS[0]), group=name("bare"), caption="Zugspitze im Schnee")
    reason = desk.why(Question(Article("", "Zugspitze im Schnee")), name("bare"))
    assert reason.found.entry.caption == "Zugspitze im Schnee"
    assert reason.found.components["names"] == 0


def test_used_photos_go_down_by_how_recently_or_away(desk, archive):
    archive.usage.use([name(WORDS[0])], ago(0))
    archive.usage.use([name(WORDS[1])], ago(30))
    archive.usage.use([name(WORDS[2])], ago(90))
    free, down, gone = (
        ask(desk, WORDS[0], top=24, **more) for more in ({}, {"used_days": 60}, {"used_days": 60, "hide_used": True})
    )
    change = {hit.photo: hit.components["date"] for hit in down.hits if hit.components["date"]}
    assert change == {name(WORDS[0]): pytest.approx(-USED), name(WORDS[1]): pytest.approx(-USED / 2)}
    assert {hit.photo: hit.used for hit in down.hits if hit.used} == {name(WORDS[0]): ago(0), name(WORDS[1]): ago(30)}
    assert not any(hit.components["date"] for hit in free.hits)
    assert set(ids(free)) - set(ids(gone)) == {name(WORDS[0]), name(WORDS[1])}


def test_diversity_keeps_the_best_and_spreads_the_rest(desk, archive):
    put(archive, *(f"alike {i}" for i in range(8)), row=row_of(WORDS[0]))
    rows = {point.photo: point.row for points in archive.engine.scan() for point in points}

    def likeness(answer):
        matrix = np.stack([rows[photo] for photo in ids(answer)])
        return float((matrix @ matrix.T).mean())

    plain, diverse = ask(desk, WORDS[0], top=6), ask(desk, WORDS[0], top=6, diverse=True)
    assert ids(plain)[0] == ids(diverse)[0]
    assert likeness(diverse) < likeness(plain) - 0.1


def test_a_photo_finds_what_looks_like_it_and_not_itself(desk, archive, tmp_path):
    assert name(WORDS[4]) not in ids(ask(desk, like=name(WORDS[4]), top=24))
    paint(tmp_path / "new.png", WORDS[4])
    image = Image.open(tmp_path / "new.png").convert("RGB")
    answer = ask(desk, picture=image, top=5)
    assert answer.hits[0].photo == name(WORDS[4])
    assert not answer.calibrated
    with pytest.raises(UsageError, match="no photo 00"):
        ask(desk, like="00" * 16)


def test_text_and_photo_count_alike_whatever_their_scale(desk):
    """The joint row scores each photo as the mean of both scores, each divided by its own spread."""
    question = Question(Article("", WORDS[0]), like=name(WORDS[9]))
    asked, background = desk.found(question, name(WORDS[0]))[1], desk.background
    photos = np.stack([row_of(word) for word in WORDS])
    one, two = row_of(WORDS[0]), row_of(WORDS[9])
    wanted = photos @ one / background.deviation(one) + photos @ two / background.deviation(two)
    assert np.corrcoef(photos @ asked.row, wanted)[0, 1] == pytest.approx(1, abs=1e-6)
    assert 0 < asked.revised < 1
    assert desk.found(Question(Article("", WORDS[0])), name(WORDS[0]))[1].revised == pytest.approx(1)
    assert desk.found(Question(like=name(WORDS[9])), name(WORDS[0]))[1].revised == 0


def test_the_bank_takes_its_number_off(archive):
    put(archive, "hub", row=row_of(WORDS[0]))
    archive.usage.add_to_bank(["1", "2"], np.stack([row_of(WORDS[0]), row_of(WORDS[1])]))
    assert archive.refresh() == len(WORDS) + 1
    desk = Desk(archive, echo())
    answer = ask(desk, WORDS[0], top=24)
    numbers = {point.photo: point.offset for points in archive.engine.scan() for point in points}
    spread = desk.background.deviation(row_of(WORDS[0]))
    for hit in answer.hits:
        assert hit.components["revision"] == pytest.approx(-numbers[hit.photo] / spread, abs=1e-4)
    assert any(hit.components["revision"] for hit in answer.hits)


def test_nothing_fits_where_the_best_is_unlikely_but_not_where_a_caption_has_the_name(archive):
    """A query whose direction no photo has: the archive holds photos around one colour only, measured against photos in
    general."""
    general = np.stack([row_of(f"general {i}") for i in range(300)])
    curve = Confidence(echo().fingerprint, Background.of(general), -3.0, 3.0)
    curve.save(archive.folder / "confidence.json")
    desk = Desk(archive, echo())
    assert desk.confidence is not None
    archive.drop(archive.database.photos())
    query = row_of("Eisberg")
    put(
        archive,
        *(f"other {i}" for i in range(30)),
        row=-query,
        describe=lambda i: {"caption": "Eisberg vor Grönland" if i == 7 else ""},
    )
    answer = ask(desk, "Eisberg", words="nichts")
    assert answer.nothing_fits
    assert "nothing in this archive fits" in answer.message
    assert answer.calibrated
    assert not ask(desk, "Eisberg").nothing_fits
    put(archive, "right", row=query)
    assert not ask(desk, "Eisberg", words="nichts").nothing_fits


def test_questions_that_ask_nothing_and_archives_of_others_are_refused(desk, archive):
    for question in (Question(), Question(Article("", "  ")), Question(Article("", "a"), top=0)):
        with pytest.raises(UsageError):
            desk.ask(question)
    with pytest.raises(StoreError, match="make a new archive"):
        Desk(archive, constant())


def test_an_empty_archive_says_so(tmp_path):
    with Archive.create(tmp_path / "desk", echo(), engine="flat:index") as archive:
        assert ask(Desk(archive, echo()), "Elbe").message == "the archive is empty"


@given(st.text("abc ", max_size=6000), st.sampled_from([0, 77]))
def test_windows_hold_every_word_once_in_order_and_are_about_equal(text, context):
    parts = windows(text, context)
    assert " ".join(parts).split() == text.split()
    sizes = [len(part.split()) for part in parts]
    assert all(sizes)
    assert max(sizes, default=0) - min(sizes, default=0) <= 1
    assert max(sizes, default=0) <= SHORT if context else len(sizes) <= WINDOWS


def test_questions_are_mended_as_texts_are():
    asked = Question(words="Ko\u0308ln\u00a0 Hoch\u00adwasser", where=Filter(phrase="Caf\u00c3\u00a9 &amp; Bar\u200b"))
    assert (asked.words, asked.where.phrase) == ("K\u00f6ln Hochwasser", "Caf\u00e9 & Bar")
    assert Question(words="Nan Goldin", where=Filter(phrase="Nan")).where.phrase == "Nan"


def test_what_was_read_is_not_read_again():
    encoder = echo()
    reader, body = Reader(encoder), " ".join(f"w{i}" for i in range(200))
    first = reader.texts(reader.parts(Article("", "Titel", "", body))[0])
    assert len(encoder.texts.seen) == 5
    second = reader.texts(reader.parts(Article("", "Anderer Titel", "", body))[0])
    assert len(encoder.texts.seen) == 6
    np.testing.assert_array_equal(first[1:], second[1:])


def test_texts_are_prepared_as_the_desk_is_told(archive):
    desk = Desk(archive, echo(), preparation=Preparation(max_words=2))
    assert ids(ask(desk, f"{WORDS[5]} und mehr", top=5)) == ids(
        ask(Desk(archive, echo()), WORDS[5], words="nichts", top=5)
    )


def call(*words):
    return CliRunner().invoke(commands, ["search", *map(str, words)])


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """An archive with real files, closed."""
    from photodesk.archive import ingest

    monkeypatch.setattr("photodesk.encoders.registry.load", lambda name="echo": echo())
    for word in WORDS[:6]:
        paint(tmp_path / "photos" / f"{word}.png", word)
    with Archive.create(tmp_path / "desk", echo(), engine="flat:index") as archive:
        ingest.add(archive, echo(), [tmp_path / "photos"])
    return tmp_path / "desk"


def test_the_command_finds_explains_and_compares(shelf, tmp_path):
    done = call(shelf, WORDS[2], "--top", 3, "--why", 1)
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert len(lines) == 3
    assert f"{WORDS[2]}.png" in lines[0]
    assert "visual" in done.stderr
    assert "without" in done.stderr
    assert "guess" in done.stderr
    found = json.loads(call(shelf, "--like", tmp_path / "photos" / f"{WORDS[1]}.png", "--json").stdout)
    assert found["hits"][0]["about"]["source"] == f"{WORDS[1]}.png"
    assert "no photo passes" in call(shelf, WORDS[2], "--credit", "nobody").stderr


@pytest.fixture
def held(shelf, tmp_path):
    """One motif twice: a large copy without a word, and a small one with credit and embargo; ids by name."""
    from photodesk.archive import ingest

    photos = tmp_path / "photos"
    (photos / "agency").mkdir()
    twin(
        photos / "agency" / "held.png",
        photos / f"{WORDS[2]}.png",
        (20, 15),
        terms=EMBARGO,
        credit="dpa",
        caption="Am Ufer",
    )
    with Archive.open(shelf) as archive:
        ingest.add(archive, echo(), [photos])
    return {one: digest((photos / one).read_bytes()).hex() for one in (f"{WORDS[2]}.png", "agency/held.png")}


def test_the_command_shows_terms_and_lists_what_was_folded(shelf, held, tmp_path):
    bare, small = held.values()
    with Archive.open(shelf) as archive:
        assert {archive.engine.get([one])[0].entry.group for one in (bare, small)} == {bare}, (
            "the two are near-duplicates"
        )
    lines = {
        line.split("\t")[2]: line for line in call(shelf, WORDS[2], "--similar", "--min-width", 40).stdout.splitlines()
    }
    file = str(tmp_path / "photos" / f"{WORDS[2]}.png")
    assert lines[file].endswith(
        "\tAm Ufer (of held.png) · dpa (of held.png) · EMBARGO, end unknown · "
        f"terms: {EMBARGO} (of held.png) · and 1 near-duplicate"
    )
    listed = str(tmp_path / "photos/agency/held.png")
    assert (
        lines[listed]
        == f"\tnear-duplicate\t{listed}\t{small} · dpa · 20 × 15 · EMBARGO, end unknown · terms: {EMBARGO}"
    )
    assert listed not in call(shelf, WORDS[2], "--min-width", 40).stdout
    loose = call(shelf, WORDS[2], "--min-width", 40, "--no-fold").stdout
    assert f"terms: {EMBARGO} (of {small})" in loose.splitlines()[0]
    hits = {hit["photo"]: hit for hit in json.loads(call(shelf, WORDS[2], "--min-width", 40, "--json").stdout)["hits"]}
    assert (hits[bare]["about"]["terms"], hits[bare]["about"]["credit"], hits[bare]["file"]) == (EMBARGO, "dpa", file)
    assert hits[bare]["origins"] == {"caption": [small], "credit": [small], "terms": [small]}
    (one,) = hits[bare]["similar"]
    assert (one["photo"], one["file"], one["about"]["source"]) == (small, listed, "agency/held.png")
    assert (one["about"]["terms"], one["about"]["width"], one["about"]["height"]) == (EMBARGO, 20, 15)
    assert {(hit["duplicates"], len(hit["similar"])) for photo, hit in hits.items() if photo != bare} == {(0, 0)}


def test_the_command_refuses_what_cannot_be(shelf, tmp_path):
    for words, what in (
        ((shelf, "a", "--cosine"), "for an index"),
        ((shelf, "--like", "nothing.jpg"), "32 hexadecimal"),
        ((shelf,), "give a text or a photo"),
        ((tmp_path / "photos", "a", "--since", "2020-01-01"), "--since is for an archive"),
    ):
        refused = call(*words)
        assert isinstance(refused.exception, UsageError)
        assert what in str(refused.exception)


@pytest.mark.usefixtures("held")
def test_the_command_asks_the_server_that_holds_the_archive(shelf, tmp_path):
    pytest.importorskip("fastapi")
    pytest.importorskip("uvicorn")
    from browser import serving
    from photodesk.web import create_app

    (tmp_path / "draft.txt").write_text("Erster Absatz.\n\nZweiter, mit „Zeichen“.\n" * 40, "utf-8")
    draft = (WORDS[2], "--lead", "Der Pegel steigt.\nWeiter.", "--body", tmp_path / "draft.txt")
    asked = [
        (WORDS[2], "--json"),
        (*draft, "--top", 3),
        (WORDS[2], "--similar"),
        (WORDS[2], "--no-fold"),
        (*draft, "--top", 500, "--json", "--why", 1),
        (WORDS[2], "--why", 2, "--words", "Elbe"),
        ("--lead", "Nur ein Lead", "--used-days", 5000, "--json"),
        (WORDS[2], "--since", "1999-01-01"),
        ("--like", photo_of(tmp_path, WORDS[1]), "--json", "--why", 1),
    ]
    with Archive.open(shelf) as archive:
        archive.usage.use([photo_of(tmp_path, WORDS[1])], ago(3))
    alone = [call(shelf, *words) for words in asked]
    outside = json.loads(call(shelf, "--like", tmp_path / "photos" / f"{WORDS[1]}.png", "--json").stdout)
    assert f"used {ago(3)}" not in alone[0].stdout
    assert '"used": "' + ago(3) in alone[6].stdout
    with Archive.open(shelf, doing="serve") as archive, serving(create_app(Desk(archive, echo()), key="key")) as url:
        archive.serves(url, "key")
        for words, own in zip(asked, alone, strict=True):
            assert own.exit_code == 0, own.output
            beside = call(shelf, *words)
            assert beside.exit_code == 0, beside.output
            first, _, rest = beside.stderr.partition("\n")
            assert "is asked at" in first
            assert (beside.stdout, rest) == (own.stdout, own.stderr)
        hits = json.loads(call(shelf, "--like", tmp_path / "photos" / f"{WORDS[1]}.png", "--json").stdout)["hits"]
        assert [hit["photo"] for hit in hits] == [hit["photo"] for hit in outside["hits"]]
        assert "10000" in str(call(shelf, "x", "--top", 20_000).exception)
        with pytest.raises(UsageError, match="translates"):
            raise call(shelf, WORDS[2], "--translate", "marian:x").exception


def test_a_filter_that_no_photo_passes_names_what_was_meant(archive):
    put(archive, "press", credit="dpa/Jan Woitas", keywords=("Hochwasser", "Elbe"))
    desk = Desk(archive, echo())
    answer = ask(desk, WORDS[0], where=Filter(credit=("DPA/Jan Woitass",), keywords=("hochwasser", "Elbe")))
    assert answer.message == (
        "no photo passes the filters; credit 'DPA/Jan Woitass': 1 photo has 'dpa/Jan Woitas';"
        " keywords 'hochwasser': 1 photo has 'Hochwasser'"
    )
    assert ask(desk, WORDS[0], where=Filter(credit=("nobody",))).message == "no photo passes the filters"


def test_values_near_to_one_that_was_found_are_named_with_their_photos(archive):
    put(archive, *(f"press {i}" for i in range(3)), credit="dpa")
    put(archive, "more", credit="picture alliance/dpa", people=("Jörg Müller",))
    put(archive, "loud", credit="DPA")
    put(archive, "other", credit="dpartner")
    desk = Desk(archive, echo())
    answer = ask(desk, WORDS[0], where=Filter(credit=("DPA",)))
    assert len(answer.hits) == 4
    assert answer.near == [("credit", "DPA", {"dpa": 3, "picture alliance/dpa": 1})]
    assert answer.message.rpartition("; ")[2] == "credit 'DPA': 3 photos have 'dpa', 1 photo has 'picture alliance/dpa'"
    found = ask(desk, WORDS[0], where=Filter(people=("joerg mueller",)))
    assert ids(found) == [name("more")]
    assert found.near == [("people", "joerg mueller", {"Jörg Müller": 1})]
    assert ask(desk, WORDS[0], where=Filter(credit=("dpartner",))).near == []


def test_photos_are_found_by_the_names_of_their_files_and_folders(archive):
    files = {"a": "/data/Köln/2021/flut_1.jpg", "b": "/data/Köln/2022/Dom.jpg", "c": "/mnt/2021/x[1].jpg"}
    put(archive, *files)
    roots = {"a": "/data/Köln", "b": "/data/Köln", "c": "/mnt/2021"}
    archive.database.located([File(path, name(word), roots[word], 1, 1) for word, path in files.items()])
    archive.database.located([File("/data/Köln/Kopien/zweite.jpg", name("a"), "/data/Köln", 1, 1)])
    desk = Desk(archive, echo())
    for pattern, wanted in {
        "FLUT": "a",
        "koeln": "ab",
        "2021": "ac",
        "2021/": "ac",
        "köln/*/d": "b",
        "zweite": "a",
        "x[1]": "c",
        "data": "",
        "nothing": "",
    }.items():
        assert set(ids(ask(desk, WORDS[0], file=pattern))) == {name(word) for word in wanted}, pattern
    assert ask(desk, WORDS[0], file="nothing").message == "no photo passes the filters"


def test_an_embargo_is_a_moment_after_which_it_is_none(archive):
    archive.database.set({"zone": "Europe/Berlin"})
    put(archive, "past", terms="Sperrfrist: 31.05.2024, 18 Uhr")
    put(archive, "future", terms="Sperrfrist: 31.05.2998, 18 Uhr")
    put(archive, "odd", terms="Sperrfrist: Redebeginn")
    desk = Desk(archive, echo())

    def told():
        answer = schema.answer(ask(desk, WORDS[0], top=30))
        return {hit.photo: (hit.embargo, hit.embargoed) for hit in answer.hits}

    assert told()[name("past")] == ("2024-05-31T18:00:00+02:00", False)
    assert told()[name("future")] == ("2998-05-31T18:00:00+02:00", True)
    assert told()[name("odd")] == ("unknown", True)
    assert told()[name(WORDS[0])] == ("", False)
    archive.usage.release({name("odd"): "Sperrfrist: Redebeginn"}, "2025-01-01T00:00:00+01:00")
    assert told()[name("odd")] == ("2025-01-01T00:00:00+01:00", False)
    put(archive, "odd", terms="Sperrfrist: Redeende")
    assert told()[name("odd")] == ("unknown", True), "it was released by other terms"
    put(archive, "odd", terms="Sperrfrist: Redebeginn")
    archive.usage.release({name("odd"): ""}, "")
    assert told()[name("odd")] == ("unknown", True)


def test_of_near_duplicates_the_strictest_embargo_counts(archive):
    put(archive, "bare", row=row_of(WORDS[0]), group=name("bare"))
    put(archive, "held", row=-row_of(WORDS[0]), group=name("bare"), terms="Embargo until 1 June 2998")
    put(archive, "over", row=-row_of(WORDS[0]), group=name("bare"), terms="Embargo until 1 June 1998")
    (hit,) = (hit for hit in ask(Desk(archive, echo()), WORDS[0]).hits if hit.photo == name("bare"))
    assert hit.embargo[:10] == "2998-06-01"
    assert {one.photo: one.embargo[:4] for one in hit.similar} == {name("held"): "2998", name("over"): "1998"}
    assert hit.entry.terms.startswith("Embargo until 1 June 2998 | "), "the one that holds comes first"


class Bag(EchoTexts):
    """A text's row is the sum of its words', so that a motif said twice is the same motif."""

    def encode(self, texts):
        rows = [np.sum([row_of(word) for word in re.findall(r"\w+", text)], axis=0) for text in texts]
        return np.stack([row / np.linalg.norm(row) for row in rows]).astype(np.float32)


def test_what_is_not_to_be_seen_sinks_and_what_says_it_is_left_out(archive):
    sea, boat = "Meer", min((f"Boot{i}" for i in range(50)), key=lambda word: abs(row_of(word) @ row_of("Meer")))
    put(archive, "sea", row=row_of(sea))
    both = row_of(sea) + row_of(boat)
    put(archive, "both", row=both / np.linalg.norm(both))
    put(archive, "says", row=row_of(sea), caption="Viele Schiffe auf der Elbe")
    desk = Desk(archive, Encoder("echo", Bag(), EchoPhotos()))
    plain = ask(desk, sea, top=30)
    assert {name("sea"), name("says")} == set(ids(plain)[:2])
    assert name("both") in ids(plain)
    without = ask(desk, sea, without=("Schiff", boat), top=30)
    assert name("says") not in ids(without)
    lost = {hit.photo: hit.components["without"] for hit in without.hits}
    assert lost[name("both")] < lost[name("sea")] - NAMES, "no name in a caption outweighs it"
    assert ids(without).index(name("both")) > ids(plain).index(name("both"))
    assert all(hit.score == pytest.approx(sum(hit.components.values()), abs=1e-3) for hit in without.hits)
    assert all(hit.components["without"] == 0 for hit in plain.hits)
    reason = desk.why(Question(Article("", sea), without=(boat,)), name("both"))
    assert reason.shares["without"] < 0
    alone = ask(desk, like=name("sea"), without=(boat,), top=30)
    assert ids(alone).index(name("both")) > ids(ask(desk, like=name("sea"), top=30)).index(name("both"))


@pytest.mark.parametrize(
    ("draft", "title", "unwanted"),
    [
        ("Hochwasser an der Elbe -Boot", "Hochwasser an der Elbe", ("Boot",)),
        ('Strand -"viele Leute" -Hund\nText -Elbe', "Strand", ("viele Leute", "Hund")),
        ("-Boot", "-Boot", ()),
        ("Minus -5 Grad", "Minus -5 Grad", ()),
        ("Berlin - Die Polizei", "Berlin - Die Polizei", ()),
        ("Ober- und -untertöne", "Ober- und -untertöne", ()),
    ],
)
def test_a_minus_in_the_first_line_is_what_is_not_to_be_seen(draft, title, unwanted):
    query = schema.Query(draft=draft)
    assert (query.article().title, query.unwanted()) == (title, unwanted)
    assert query.question().without == unwanted


def test_only_articles_alone_are_calibrated(archive):
    Confidence(echo().fingerprint, Background.of(np.stack([row_of(f"x {i}") for i in range(300)])), -3.0, 3.0).save(
        archive.folder / "confidence.json"
    )
    desk = Desk(archive, echo())
    assert ask(desk, WORDS[0]).calibrated
    assert not ask(desk, WORDS[0], like=name(WORDS[1])).calibrated
    assert not ask(desk, like=name(WORDS[1])).calibrated


def photo_of(folder, word):
    return digest((folder / "photos" / f"{word}.png").read_bytes()).hex()


def test_colours_of_the_words_differ():
    assert len({colour(word) for word in WORDS}) == len(WORDS)


def test_a_row_that_is_not_the_one_that_was_written_answers_nothing(tmp_path):
    for word in ("elbe", "feuer"):
        paint(tmp_path / "photos" / f"{word}.png", word)
    with Archive.create(tmp_path / "desk", echo(), engine="flat:index") as archive:
        ingest.add(archive, echo(), [tmp_path / "photos"])
        one, other = archive.engine.get(archive.database.photos(), rows=True)
        archive.engine.upsert([Point(one.photo, other.row, one.entry, one.offset)])
        with pytest.raises(StoreError, match=f"the row of photo {one.photo} is damaged; run: .*--repair"):
            Desk(archive, echo()).ask(Question(Article("1", "elbe")))
