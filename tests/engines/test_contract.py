"""What every photo engine must do; the flat scan is held to a naive twin, and the others to the flat scan."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
import threading
import unicodedata
import uuid
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import toys
from photodesk.engines.base import Space
from photodesk.engines.points import key
from photodesk.engines.registry import ENGINES, open_engine
from photodesk.engines.schema import FACETS, Entry, Filter, Point, counted, days, holds
from photodesk.errors import MissingExtra, StoreError, UsageError

pytest.importorskip("qdrant_edge")
# qdrant-client's local mode says that it is no server
pytestmark = [
    pytest.mark.filterwarnings("ignore:Payload indexes have no effect"),
    pytest.mark.filterwarnings("ignore:Local mode performs"),
]
SPACE = Space(16)
TEMPLATE: list[Path] = []
SERVER = os.environ.get("PHOTODESK_QDRANT_URL")
WORDS = (
    "Hochwasser",
    "Elbe",
    "Dresden",
    "Häuser",
    "Köln",
    "Karneval",
    "Müller-Lüdenscheidt",
    "Boote",
    "Präsidentin",
    "Feuer",
)
LOCAL = "flat", "edge", "toy"
"""Engines whose files are on this machine, by the kind that their URI begins with; the first is the oracle."""

KINDS = (
    *LOCAL,
    "local",
    pytest.param("server", marks=pytest.mark.skipif(not SERVER, reason="PHOTODESK_QDRANT_URL is not set")),
)


def make(kind, folder, space=SPACE):
    if kind == "local":
        from qdrant_client import QdrantClient

        from photodesk.engines.qdrant import QdrantEngine

        return QdrantEngine.on(QdrantClient(":memory:"), "photos", space, "qdrant:http://local:1/photos", create=True)
    if kind == "edge" and space == SPACE:  # making a shard syncs every index; copying one does not
        if not TEMPLATE:
            TEMPLATE.append(Path(tempfile.mkdtemp()) / "shard")
            atexit.register(shutil.rmtree, TEMPLATE[0].parent)
            open_engine(f"edge:{TEMPLATE[0]}", space, create=True).close()
        shutil.copytree(TEMPLATE[0], folder / kind)
        return open_engine(f"edge:{folder / kind}", space)
    if kind == "server":
        return open_engine(f"qdrant:{SERVER}/test-{uuid.uuid4().hex}", space, create=True)
    return open_engine(f"{kind}:{folder / kind}", space, create=True)


def unmake(engine):
    if engine.uri.startswith("qdrant:http") and "/test-" in engine.uri:
        engine.client.delete_collection(engine.collection)
    engine.close()


@pytest.fixture(autouse=True)
def toy(monkeypatch):
    monkeypatch.setitem(ENGINES, "toy", toys.DictEngine.open)


@pytest.fixture(params=KINDS)
def engine(request, tmp_path):
    made = make(request.param, tmp_path)
    yield made
    unmake(made)


@pytest.fixture(params=LOCAL)
def kept(request, tmp_path):
    """URI of an engine whose files are on this machine."""
    made = make(request.param, tmp_path)
    made.close()
    return f"{request.param}:{tmp_path / request.param}"


def test_a_shard_of_an_older_photodesk_gets_the_indexes_that_came_later(tmp_path):
    from qdrant_edge import UpdateOperation

    made = make("edge", tmp_path)
    made.upsert([Point(photo(1), points(1)[0].row, Entry(people=("Anna Beispiel",), width=1, height=1))])
    made._change(UpdateOperation.delete_field_index("people"))
    with pytest.raises(StoreError):
        made.facets("people")
    made.close()
    again = open_engine(f"edge:{tmp_path / 'edge'}", SPACE)
    assert again.facets("people") == {"Anna Beispiel": 1}
    again.close()


def test_a_shard_of_an_older_photodesk_compares_in_any_spelling_once_it_is_opened(tmp_path):
    from qdrant_edge import UpdateOperation

    made = make("edge", tmp_path)
    one = Entry(caption="In der Hauptstraße", credit="Müller/dpa", width=1, height=1)
    made.upsert([Point(photo(1), points(1)[0].row, one)])
    made._change(UpdateOperation.delete_payload([key(photo(1))], ["folded"]))
    made._change(UpdateOperation.set_payload([key(photo(1))], {"text": "In der Hauptstraße"}))
    made._change(UpdateOperation.delete_field_index("folded"))
    assert not made.count(Filter(phrase="hauptstrasse"))
    made.close()
    again = open_engine(f"edge:{tmp_path / 'edge'}", SPACE)
    assert again.count(Filter(credit=("MUELLER/DPA",), phrase="hauptstrasse")) == 1
    assert again.get([photo(1)])[0].entry == one
    again.close()


def test_a_collection_of_an_older_photodesk_compares_in_any_spelling_once_it_is_opened(tmp_path):
    from photodesk.engines.qdrant import QdrantEngine

    made = make("local", tmp_path)
    one = Entry(caption="In der Hauptstraße", credit="Müller/dpa", width=1, height=1)
    made.upsert([Point(photo(1), points(1)[0].row, one)])
    made.client.delete_payload("photos", ["folded", "text"], [key(photo(1))])
    assert not made.count(Filter(credit=("Müller/dpa",)))
    again = QdrantEngine.on(made.client, "photos", SPACE, made.uri)  # local mode has no indexes to tell by
    assert again.count(Filter(credit=("MUELLER/DPA",), phrase="hauptstrasse")) == 1
    assert again.get([photo(1)])[0].entry == one
    made.close()


def photo(i):
    return f"{i * 2654435761 % 2**64:032x}"


def entry(rng, i):
    said = " ".join(rng.choice(WORDS, rng.integers(1, 6)))
    return Entry(
        source=f"2024/{i}.jpg",
        added="2026-01-01T00:00:00Z",
        width=int(rng.choice([400, 1000, 3000])),
        height=int(rng.choice([400, 990, 2000])),
        caption=said if i % 7 else "",
        keywords=tuple(dict.fromkeys(rng.choice(WORDS, rng.integers(0, 3)).tolist())),
        credit=str(rng.choice(["dpa", "Reuters", "AFP", ""])),
        terms=str(rng.choice(["", "editorial", "free"])),
        place=str(rng.choice(["", "Wien", "Köln"])),
        byline=str(rng.choice(["", "Ada Ott"])),
        taken=str(
            rng.choice(["", "2023-12-31T23:59:59", "2024-01-01T00:00:00", "2024-02-29T12:00:00", "2024-01", "2023"])
        ),
        people=tuple(rng.choice(["Anna Beispiel", "Bo Lie"], int(rng.integers(0, 3)), replace=False).tolist()),
        label=str(rng.choice(["", "Rot", "Grün"])),
        rating=int(rng.integers(-1, 6)),
        provider=str(rng.choice(["", "DPA Picture-Alliance", "Müller & Söhne"])),
        urgency=int(rng.integers(0, 9)),
    )


def points(n, seed=0, first=0):
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(n, SPACE.dim)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return [Point(photo(first + i), row, entry(rng, first + i), float(rng.normal() / 4)) for i, row in enumerate(rows)]


def query(seed):
    return np.random.default_rng(1000 + seed).normal(size=SPACE.dim).astype(np.float32)


def naive(stored, row, k, where=None, revised=0.0):
    """The definition: every admitted photo scored, sorted by score and id."""
    scored = [
        (-(float(p.row.astype(np.float64) @ row.astype(np.float64)) - revised * p.offset), p.photo)
        for p in stored
        if where is None or where.admits(p.photo, p.entry)
    ]
    return [name for _, name in sorted(scored)[:k]]


def found(hits):
    return [hit.photo for hit in hits]


FILTERS = (
    Filter(),
    Filter(credit=("dpa", "AFP")),
    Filter(terms=("free",)),
    Filter(keywords=("Elbe",)),
    Filter(keywords=("Elbe", "Köln")),
    Filter(orientation=("portrait",)),
    Filter(orientation=("landscape", "square"), min_width=1000),
    Filter(min_height=991),
    Filter(people=("Anna Beispiel",)),
    Filter(people=("Anna Beispiel", "Bo Lie"), label=("Rot", "Grün")),
    Filter(min_rating=1),
    Filter(min_rating=5),
    Filter(since="2024-01-01"),
    Filter(until="2023-12-31"),
    Filter(since="2024-01-01", until="2024-01-01"),
    Filter(phrase="hochwasser ELBE"),
    Filter(phrase="Müller-Lüdenscheidt"),
    Filter(phrase="Lüdenscheidt Köln"),
    Filter(phrase="Ada Ott", credit=("dpa",)),
    Filter(without=(photo(1), photo(3), photo(400))),
    Filter(credit=("nobody",)),
    Filter(credit=("DPA",)),
    Filter(credit=("reuters", "afp"), keywords=("KOELN",)),
    Filter(keywords=("Praesidentin", unicodedata.normalize("NFD", "Häuser"))),
    Filter(people=("ANNA beispiel",), label=("gruen",)),
    Filter(terms=("Editorial",)),
    Filter(provider=("mueller & soehne",)),
    Filter(max_urgency=3),
    Filter(phrase="Mueller-Luedenscheidt koeln"),
    Filter(phrase=unicodedata.normalize("NFD", "MÜLLER")),
    Filter(since="2024", until="2024-01"),
    Filter(since="29.2.2024"),
    Filter(among=frozenset({photo(2), photo(5), photo(4711)})),
    Filter(among=frozenset()),
)


def test_search_is_the_definition_with_every_filter_and_revision(engine):
    stored = points(300)
    engine.upsert(stored)
    for i, where in enumerate(FILTERS):
        for revised in (0.0, 1.0):
            hits = engine.search(query(i), 20, where, revised=revised)
            assert found(hits) == naive(stored, query(i), 20, where, revised), (where, revised)
        at = {p.photo: p for p in stored}
        assert [h.score for h in hits] == pytest.approx(
            [float(at[h.photo].row @ query(i)) - at[h.photo].offset for h in hits], abs=1e-5
        )
        assert engine.count(where) == sum(where.admits(p.photo, p.entry) for p in stored)


def test_counts_and_facets(engine):
    stored = points(120)
    engine.upsert(stored)
    assert engine.count() == 120
    for field in FACETS:
        for where in (Filter(), Filter(credit=("dpa",)), Filter(since="2024-01-01")):
            entries = [p.entry for p in stored if where.admits(p.photo, p.entry)]
            assert engine.facets(field, 100, where) == counted(entries, field)
    assert list(engine.facets("keywords", 1).values()) == [max(counted([p.entry for p in stored], "keywords").values())]
    with pytest.raises(UsageError, match="no facet 'colour'"):
        engine.facets("colour")


def test_points_come_back_as_they_went_in(engine):
    stored = points(50)
    engine.upsert(stored)
    asked = [stored[3].photo, photo(4000), stored[0].photo]
    back = engine.get(asked, rows=True)
    assert [p.photo for p in back] == [stored[3].photo, stored[0].photo]
    for have, want in zip(back, (stored[3], stored[0]), strict=True):
        assert have.entry == want.entry
        assert have.offset == pytest.approx(want.offset, abs=1e-6)
        assert np.array_equal(have.row, want.row)
    assert engine.get(asked[:1])[0].row.size == 0
    everything = [p for batch in engine.scan(batch=7) for p in batch]
    assert [p.photo for p in everything] == sorted(p.photo for p in stored)
    assert all(np.array_equal(p.row, {q.photo: q for q in stored}[p.photo].row) for p in everything)
    wet = Filter(phrase="Elbe")
    assert {p.photo for b in engine.scan(rows=False, where=wet) for p in b} == {
        p.photo for p in stored if wet.admits(p.photo, p.entry)
    }


def test_upsert_replaces_and_delete_forgets(engine):
    stored = points(40)
    engine.upsert(stored)
    other = replace(stored[5], row=stored[6].row, entry=Entry(caption="ganz neu", width=1, height=2))
    engine.upsert([other])
    assert engine.count() == 40
    assert engine.get([other.photo])[0].entry == other.entry
    assert engine.count(Filter(phrase="ganz neu")) == 1
    assert found(engine.lexical("neu", 5)) == [other.photo]
    engine.delete([stored[5].photo, photo(9999)])
    engine.delete([])
    assert engine.count() == 39
    assert engine.get([other.photo]) == []
    assert engine.lexical("neu", 5) == ()
    assert other.photo not in found(engine.search(other.row, 39))


def test_descriptions_and_offsets_change_alone(engine):
    stored = points(30)
    engine.upsert(stored)
    engine.describe({stored[2].photo: Entry(caption="Eisbär im Zoo"), photo(5000): Entry(caption="Eisbär")})
    engine.revise([stored[2].photo, stored[3].photo, photo(5000)], np.array([0.5, -0.25, 9], np.float32))
    two, three = engine.get([stored[2].photo, stored[3].photo], rows=True)
    assert two.entry == Entry(caption="Eisbär im Zoo")
    assert three.entry == stored[3].entry
    assert (two.offset, three.offset) == (0.5, -0.25)
    assert np.array_equal(two.row, stored[2].row)
    assert found(engine.lexical("eisbären", 5)) == [two.photo]
    assert engine.count() == 30


def test_equal_scores_are_ordered_by_photo_id(engine):
    row = points(1)[0].row
    engine.upsert([Point(photo(i), row, Entry(caption="Elbe")) for i in range(40)])
    wanted = sorted(photo(i) for i in range(40))
    assert found(engine.search(row, 40)) == wanted
    assert found(engine.search(row, 12)) == wanted[:12]
    assert found(engine.lexical("Elbe", 12)) == wanted[:12]


def test_words_are_found_by_their_stem_rarer_ones_first(engine):
    captions = ["Das Haus am See", "Häuser im Hochwasser", "Hochwasser in Köln", "Hochwasser", "", "Boote auf dem See"]
    engine.upsert([replace(p, entry=Entry(caption=c)) for p, c in zip(points(6), captions, strict=True)])
    assert set(found(engine.lexical("Haus", 9))) == {photo(0), photo(1)}
    assert found(engine.lexical("Haus Hochwasser", 1)) == [photo(1)]
    assert engine.lexical("und der die", 9) == ()
    assert engine.lexical("Zebra", 9) == ()
    assert engine.lexical("?!", 9) == ()
    assert found(engine.lexical("Hochwasser", 9, Filter(phrase="Köln"))) == [photo(2)]


@pytest.mark.parametrize(
    ("asked", "wanted"),
    [
        ("Mueller", {0, 1, 2}),
        ("Müller", {0, 1, 2}),
        (unicodedata.normalize("NFD", "MÜLLER"), {0, 1, 2}),
        ("Hauptstraße", {3, 4}),
        ("Hauptstrasse", {3, 4}),
        ("Häuser", {5}),
        ("Bauer", {6}),
        ("für", set()),
    ],
)
def test_words_are_found_in_any_spelling(engine, asked, wanted):
    captions = ["Frau Müller", "Herr Mueller", "Bo Muller", "Hauptstraße", "Hauptstrasse", "Ein Haus", "Für Bauern"]
    engine.upsert([replace(p, entry=Entry(caption=c)) for p, c in zip(points(7), captions, strict=True)])
    assert set(found(engine.lexical(asked, 9))) == {photo(i) for i in wanted}


def test_a_compound_is_found_by_its_parts_and_finds_them(engine):
    pytest.importorskip("wordfreq")
    captions = [
        "Bundesgesundheitsministerin",
        "Die Ministerin",
        "Gesundheit",
        "Feuerwehr",
        "Feuer",
        "Die Feuerwehrleute",
    ]
    engine.upsert([replace(p, entry=Entry(caption=c)) for p, c in zip(points(6), captions, strict=True)])
    assert found(engine.lexical("Gesundheitsministerin", 9))[0] == photo(0)
    assert set(found(engine.lexical("Gesundheitsministerin", 9))) == {photo(0), photo(1), photo(2)}
    assert set(found(engine.lexical("Feuerwehr", 9))) == {photo(3), photo(5)}, "a usual word has no parts"
    assert found(engine.lexical("Feuer", 9)) == [photo(4)]


def test_without_frequencies_words_have_no_parts(monkeypatch):
    from photodesk.engines import bm25, spellings

    def absent(*names):
        raise MissingExtra("wordfreq", "clean")

    before = bm25.version("german")
    monkeypatch.setattr(spellings, "require", absent)
    spellings._written.cache_clear()
    bm25._word.cache_clear()
    try:
        assert len(bm25.query("Gesundheitsministerin", "german")[0]) == 1
        assert bm25.version("german") != before or "parts" not in before
    finally:
        spellings._written.cache_clear()
        bm25._word.cache_clear()


def test_english_keeps_its_own_letters():
    from photodesk.engines import bm25

    for one, other in (("Müller", "Mueller"), ("values", "value"), ("shoe", "shoes"), ("café", "Cafe")):
        assert bm25.query(one, "english")[0] == bm25.query(other, "english")[0]


def test_coded_segments_find_what_rows_find(tmp_path, monkeypatch):
    """Edge with codes on 3,000 photos in several segments, changed and deleted ones among them, against the
    definition."""
    from photodesk.engines import edge

    monkeypatch.setattr(edge, "CODED", 1)
    monkeypatch.setattr(edge, "SEGMENT", 100)
    engine = open_engine(f"edge:{tmp_path / 'shard'}", SPACE, create=True)
    stored = {p.photo: p for p in points(3000)}
    everything = list(stored.values())
    for start in range(0, 3000, 500):
        engine.upsert(everything[start : start + 500])
    engine.optimise()
    assert len(list((tmp_path / "shard/segments").iterdir())) > 2
    assert list((tmp_path / "shard").rglob("*quantiz*"))
    changed = [replace(p, offset=p.offset + 0.25, row=everything[i + 1].row) for i, p in enumerate(everything[:700])]
    engine.upsert(changed)
    engine.delete([p.photo for p in everything[100:200]])
    stored |= {p.photo: p for p in changed}
    for p in everything[100:200]:
        del stored[p.photo]
    for finish in (lambda: None, engine.optimise):
        finish()
        for i, where in enumerate(FILTERS):
            for revised in (0.0, 1.0):
                assert found(engine.search(query(i), 20, where, revised=revised)) == naive(
                    stored.values(), query(i), 20, where, revised
                )
        assert engine.count() == 2900
    engine.close()


@pytest.mark.parametrize("kind", KINDS[1:])
def test_word_search_ranks_as_the_oracle_does(kind, tmp_path):
    flat, other = make("flat", tmp_path), make(kind, tmp_path)
    stored = points(200, seed=4)
    for made in (flat, other):
        made.upsert(stored)
    for asked in ("Hochwasser", "Elbe Dresden", "Präsidentinnen in Köln", "Feuer Boot Karneval"):
        for where in (Filter(), Filter(credit=("dpa",))):
            want, have = flat.lexical(asked, 30, where), other.lexical(asked, 30, where)
            assert [h.score for h in have] == pytest.approx([h.score for h in want], rel=1e-5)
            sure = [
                i
                for i, h in enumerate(want)
                if all(abs(h.score - o.score) > 1e-4 for j, o in enumerate(want) if i != j)
            ]
            assert [have[i].photo for i in sure] == [want[i].photo for i in sure]
    flat.close()
    unmake(other)


def test_what_was_done_is_there_after_opening_again(kept):
    stored = points(60)
    with_rows = open_engine(kept, SPACE)
    with_rows.upsert(stored)
    with_rows.delete([stored[0].photo])
    with_rows.revise([stored[1].photo], np.array([0.125], np.float32))
    with_rows.close()
    with_rows.close()
    again = open_engine(kept, SPACE)
    assert again.count() == 59
    assert again.get([stored[1].photo], rows=True)[0].offset == 0.125
    assert found(again.search(query(1), 10)) == naive([*stored[2:], replace(stored[1], offset=0.125)], query(1), 10)
    again.optimise()
    assert found(again.search(query(2), 10)) == naive(stored[1:], query(2), 10)
    again.close()
    with pytest.raises(StoreError, match="closed"):
        again.upsert(stored)


def test_searches_beside_a_writer_see_whole_photos(kept):
    engine = open_engine(kept, SPACE)
    stored = points(200)
    engine.upsert(stored)
    known, over, wrong = {p.photo: p for p in stored}, threading.Event(), []

    def read():
        while not over.is_set():
            hits = engine.search(query(0), 50)
            wrong.extend(hit for hit in hits if abs(hit.score - float(known[hit.photo].row @ query(0))) > 1e-4)
            engine.lexical("Elbe", 10)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for start in range(0, 200, 20):
        engine.delete([p.photo for p in stored[start : start + 20]])
        engine.upsert(stored[start : start + 10])
    over.set()
    for reader in readers:
        reader.join()
    assert wrong == []
    assert engine.count() == 100
    engine.close()


def test_a_snapshot_is_an_engine_of_its_own(kept, tmp_path):
    first = open_engine(kept, SPACE)
    stored = points(30)
    first.upsert(stored)
    first.snapshot(tmp_path / "copy")
    first.delete([p.photo for p in stored])
    second = open_engine(f"{kept.partition(':')[0]}:{tmp_path / 'copy'}", SPACE)
    assert found(second.search(query(3), 5)) == naive(stored, query(3), 5)
    assert (first.count(), second.count()) == (0, 30)
    for engine in (first, second):
        engine.close()


def test_two_at_once_other_sizes_and_absent_ones_are_refused(kept, tmp_path):
    held = open_engine(kept, SPACE)
    with pytest.raises(StoreError, match="another"):
        open_engine(kept, SPACE)
    held.close()
    with pytest.raises(StoreError, match="rows of 16 numbers and the archive's encoder makes 17"):
        open_engine(kept, Space(17))
    with pytest.raises(StoreError, match="not empty"):
        open_engine(kept, SPACE, create=True)
    with pytest.raises(StoreError, match="restore the archive"):
        open_engine(f"{kept.partition(':')[0]}:{tmp_path / 'nothing'}", SPACE)
    with pytest.raises(UsageError, match="expected edge:PATH"):
        open_engine("milvus:here", SPACE)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from("ud"), st.integers(0, 25), st.integers(0, 3)), max_size=25))
def test_any_sequence_of_changes_leaves_what_a_dictionary_would_hold(tmp_path_factory, steps):
    folder = tmp_path_factory.mktemp("flat")
    engine, twin = make("flat", folder), {}
    pool = [points(26, seed=s) for s in range(4)]
    for what, i, seed in steps:
        if what == "u":
            engine.upsert([pool[seed][i]])
            twin[pool[seed][i].photo] = pool[seed][i]
        else:
            engine.delete([photo(i)])
            twin.pop(photo(i), None)
    for again in (False, True):
        if again:
            engine.close()
            engine = open_engine(f"flat:{folder / 'flat'}", SPACE)
        assert engine.count() == len(twin)
        assert found(engine.search(query(1), 30, revised=1)) == naive(twin.values(), query(1), 30, revised=1)
    engine.close()


@pytest.mark.parametrize(
    ("text", "phrase", "there"),
    [
        ("Hochwasser an der Elbe", "der elbe", True),
        ("Hochwasser an der Elbe", "Elbe der", False),
        ("Hochwasser an der Elbe", "an der El", False),
        ("Ko\u0308ln", "Köln", True),
        ("a, b; c", "b c", True),
        ("In der Hauptstraße", "HAUPTSTRASSE", True),
        ("Bürgermeister Müller", "buergermeister mueller", True),
        ("Buergermeister Mueller", "Bürgermeister Müller", True),
        ("Neue Bauern", "Nu Baurn", False),
    ],
)
def test_a_phrase_is_words_in_a_row(text, phrase, there):
    assert holds(text, phrase) is there


def test_filters_that_make_no_sense_are_refused():
    for wrong in ({"since": "2024-13"}, {"until": "31.11.2024"}, {"orientation": ("round",)}, {"phrase": "…"}):
        with pytest.raises(UsageError, match=r"2024|round|…"):
            Filter(**wrong)
    with pytest.raises(UsageError, match=r"'28\.11\.' is no day: it has no year"):
        Filter(since="28.11.")
    for name in ("credit", "terms", "keywords", "people", "label", "provider"):
        with pytest.raises(UsageError, match=f"{name}: an empty value"):
            Filter(**{name: ("",)})
    assert not Filter()
    assert Filter(min_width=1)
    assert Filter(among=frozenset())


@pytest.mark.parametrize(
    ("said", "first", "last"),
    [
        ("2020", "2020-01-01", "2020-12-31"),
        ("2024-02", "2024-02-01", "2024-02-29"),
        ("2.2023", "2023-02-01", "2023-02-28"),
        ("28.11.2023", "2023-11-28", "2023-11-28"),
        (" 8.1.2023", "2023-01-08", "2023-01-08"),
        ("2024-05-31", "2024-05-31", "2024-05-31"),
    ],
)
def test_a_part_of_a_date_is_all_its_days(said, first, last):
    assert days(said) == (first, last)


def test_an_entry_survives_its_payload():
    rng = np.random.default_rng(3)
    for i in range(50):
        one = entry(rng, i)
        assert Entry.of(one.payload()) == one
    assert Entry.of(None) == Entry()


def test_the_code_scan_never_loses_a_row():
    """Clusters of near-equal rows, one far out of scale, zeros: the worst for 8-bit codes."""
    pytest.importorskip("numkong")
    from photodesk.engines import int8

    rng = np.random.default_rng(5)
    rows = rng.normal(size=(3000, 48)).astype(np.float32) * rng.lognormal(0, 2, (3000, 1)).astype(np.float32)
    rows[:500] = rows[0] + rng.normal(size=(500, 48)).astype(np.float32) * 1e-3
    rows[7], rows[8, 1:] = 0, 0
    asked = rng.normal(size=48).astype(np.float32)
    estimate, slack = int8.bounded(*int8.encode(rows), asked)
    exact = rows.astype(np.float64) @ asked.astype(np.float64)
    assert (np.abs(estimate - exact) <= slack).all()
    assert np.median(slack) < 0.02 * np.median(np.linalg.norm(rows, axis=1)) * np.linalg.norm(asked)
