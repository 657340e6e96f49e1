"""Translation: sentences, batches, cache and names with translators whose answers are known, independent of any
engine."""

import sqlite3
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from photodesk.errors import StoreError, TranslationError, UsageError
from photodesk.text import proper_names, translation, translators


class Shout:
    """Upper case: every word can be traced. Remembers what it was asked."""

    source, target = "de", "en"

    def __init__(self, fingerprint="shout", limit=100, budget=1000, fail=()):
        self.fingerprint, self.limit, self.budget, self.fail = fingerprint, limit, budget, fail
        self.asked = []

    def measure(self, sentence):
        return len(sentence)

    def translate(self, sentences, source):
        assert all(0 < len(s) <= self.limit for s in sentences)
        self.asked.append(list(sentences))
        if any(word in s for word in self.fail for s in sentences):
            raise TranslationError("service down")
        return [s.upper() for s in sentences]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PHOTODESK_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "translations.sqlite"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "Es regnet. Die Elbe steigt! Warum? „So“, sagt er.",
            ["Es regnet.", "Die Elbe steigt!", "Warum?", "„So“, sagt er."],
        ),
        ("Am 3. Mai kam Dr. Weber z.B. nach St. Pölten.", ["Am 3. Mai kam Dr. Weber z.B. nach St. Pölten."]),
        ("Im Jahr 2019. Danach nicht.", ["Im Jahr 2019.", "Danach nicht."]),
        (
            "J. K. Rowling met Mr. Brown in the U.S. on Jan. 5. It rained.",
            ["J. K. Rowling met Mr. Brown in the U.S. on Jan. 5. It rained."],
        ),
        (
            "Er sagte: „Nein!“ Dann ging er … Und kam 12 mal.",
            ["Er sagte: „Nein!“", "Dann ging er …", "Und kam 12 mal."],
        ),
        ("ein kleiner satz. noch einer", ["ein kleiner satz. noch einer"]),
        ("  ", []),
    ],
)
def test_sentences(text, expected):
    assert translation.sentences(text) == expected


@settings(max_examples=200, deadline=None)
@given(st.text(st.sampled_from('aB.!?… "“3äÄ\n'), max_size=80) | st.text(max_size=80))
def test_sentences_and_pieces_lose_no_word(text):
    found = translation.sentences(text)
    assert " ".join(found).split() == text.encode("utf-8", "replace").decode().split()
    pieces = [piece for sentence in found for piece in translation.fit(sentence, Shout(limit=7))]
    assert all(0 < len(piece) <= 7 for piece in pieces)
    assert "".join("".join(pieces).split()) == "".join("".join(found).split())


def test_a_hundred_thousand_signs_are_read_once():
    assert len(translation.sentences("!" * 100_000 + " " + "?" * 100_000)) == 1


def test_long_sentences_are_parted_at_clauses_first():
    assert list(translation.fit("der Fluss steigt, sagt man, seit heute", Shout(limit=20))) == [
        "der Fluss steigt,",
        "sagt man, seit heute",
    ]


@given(st.lists(st.integers(1, 50), max_size=200), st.integers(1, 300))
def test_batches_hold_everything_once_and_keep_to_the_budget(lengths, budget):
    items = [(length, f"{i}") for i, length in enumerate(lengths)]
    made = list(translation.batches(items, budget))
    assert sorted(s for batch in made for s in batch) == sorted(s for _, s in items)
    for batch in made:
        sizes = [lengths[int(s)] for s in batch]
        assert len(batch) == 1 or (len(batch) <= translation.SENTENCES and len(batch) * max(sizes) <= budget)


def test_texts_come_back_in_order_whatever_the_batches():
    texts = ["Ein langer Satz über Wasser. Kurz.", "Kurz.", "", "Noch einer, ganz anders."]
    assert translation.translate(texts, Shout(budget=30)).texts == tuple(text.upper() for text in texts)


def test_what_was_translated_is_not_asked_for_again():
    first, again = Shout(), Shout()
    translation.translate(["Es regnet. Der Fluss steigt.", "Es regnet."], first)
    assert sorted(s for batch in first.asked for s in batch) == ["Der Fluss steigt.", "Es regnet."]
    assert translation.translate(["Es regnet. Neues kommt."], again).texts == ("ES REGNET. NEUES KOMMT.",)
    assert again.asked == [["Neues kommt."]]
    other = Shout("another model")
    translation.translate(["Es regnet."], other)
    assert other.asked == [["Es regnet."]]
    translation.translate(["Es regnet."], again, source="nl")
    assert again.asked[-1] == ["Es regnet."]


def test_a_failure_stops_and_the_next_run_goes_on_from_there():
    broken = Shout(budget=10, fail=["Zweiter"])
    with pytest.raises(TranslationError, match="service down"):
        translation.translate(["Eins.", "Zweiter Satz."], broken)
    whole = Shout(budget=10)
    assert translation.translate(["Eins.", "Zweiter Satz."], whole).failures == ("", "")
    assert whole.asked == [["Zweiter Satz."]]


def test_going_on_leaves_the_original_and_says_why():
    done = translation.translate(["Eins. Zweiter Satz.", "Drei."], Shout(budget=5, fail=["Zweiter"]), keep_going=True)
    assert done.texts == ("Eins. Zweiter Satz.", "DREI.")
    assert [bool(failure) for failure in done.failures] == [True, False]
    assert done.failures == ("service down", "")


def test_a_dead_service_is_asked_three_times_not_a_thousand():
    dead = Shout(budget=1, fail=["Satz"])
    done = translation.translate([f"Satz {i:04}." for i in range(1000)], dead, keep_going=True)
    assert len(dead.asked) == 3
    assert all(done.failures)
    assert "3 failures in a row" in done.failures[-1]


def test_an_empty_or_short_answer_is_not_believed():
    class Mute(Shout):
        def translate(self, sentences, source):
            return ["" for _ in sentences]

    class Short(Shout):
        def translate(self, sentences, source):
            return []

    assert translation.translate(["Hallo."], Mute("mute")).failures == ("the translation is empty",)
    with pytest.raises(TranslationError, match="0 translations came for 1"):
        translation.translate(["Hallo."], Short("short"))


def test_a_killed_run_leaves_a_cache_that_can_be_read(cache):
    """The process dies inside the third batch; two batches are kept."""
    program = """
import os, sys
sys.path.insert(0, sys.argv[1])
from text.test_translation import Shout
from photodesk.text import translation
class Dies(Shout):
    def translate(self, sentences, source):
        if len(self.asked) == 2:
            os.kill(os.getpid(), 9)
        return super().translate(sentences, source)
translation.translate(["Eins.", "Zwei.", "Drei.", "Vier."], Dies(budget=1))
"""
    from pathlib import Path

    done = subprocess.run([sys.executable, "-c", program, str(Path(__file__).parents[1])], check=False)
    assert done.returncode == -9
    rest = Shout(budget=1)
    assert translation.translate(["Eins.", "Zwei.", "Drei.", "Vier."], rest).texts == (
        "EINS.",
        "ZWEI.",
        "DREI.",
        "VIER.",
    )
    assert len(rest.asked) == 2


def test_a_damaged_cache_is_named_with_the_way_out(cache):
    cache.parent.mkdir(parents=True)
    cache.write_bytes(b"this is no database, " * 100)
    with pytest.raises(StoreError, match=r"translations\.sqlite.*delete it"):
        translation.translate(["Hallo."], Shout())


def test_the_cache_is_one_table_of_digests(cache):
    translation.translate(["Geheimer Satz."], Shout())
    with sqlite3.connect(cache) as base:
        assert base.execute("SELECT length(key), text FROM translations").fetchall() == [(16, "GEHEIMER SATZ.")]
    base.close()


def test_progress_ends_at_the_end():
    seen = []
    translation.translate(
        ["Eins.", "Zwei.", "Drei."], Shout(budget=1), progress=lambda _, done, total: seen.append((done, total))
    )
    assert seen == [(1, 3), (2, 3), (3, 3)]


@given(st.text(max_size=50))
def test_any_text_goes_through(text):
    done = translation.translate([text], Shout(limit=5, budget=20))
    assert done.failures == ("",)
    assert done.texts[0].split() or not text.encode("utf-8", "replace").decode().upper().split()


def test_only_what_is_read_is_translated():
    text = "Eins zwei drei. Vier fünf sechs. Sieben acht neun."
    assert translation.enough(text, 2) == "Eins zwei drei. Vier fünf sechs."
    assert translation.enough(text, 0) == text


@pytest.mark.parametrize(
    ("original", "translated", "kept", "changes"),
    [
        (
            "Frau Müller trifft Gündoğan",
            "Mrs. Mueller meets Gundogan",
            "Mrs. Müller meets Gündoğan",
            (("Mueller", "Müller"), ("Gundogan", "Gündoğan")),
        ),
        (
            "Laschet kam mit Reker",
            "Lasket came with Recker",
            "Laschet came with Reker",
            (("Lasket", "Laschet"), ("Recker", "Reker")),
        ),
        ("Präsident und Direktor in Finnland, Amerika", "President and Director in Finland, America", None, ()),
        ("Merkels Besuch in Köln", "Merkel's visit to Cologne", None, ()),
        ("Söder lobt Söder", "Soder praises Soder", "Söder praises Söder", (("Soder", "Söder"),)),
        ("", "Nothing Was There", None, ()),
    ],
)
def test_names_are_put_back(original, translated, kept, changes):
    assert proper_names.keep(original, translated, "de", "en") == (kept or translated, changes)


_NAMES = st.lists(
    st.sampled_from(
        [
            "Müller",
            "Mueller",
            "Muller",
            "Miller",
            "Laschet",
            "Lasket",
            "Latschet",
            "der",
            "Reker,",
            "Recker-Haus",
            "Öz",
            "ÖZ",
            "ß",
        ]
    ),
    max_size=6,
).map(" ".join)


@settings(deadline=None)
@given(st.text(max_size=40) | _NAMES, st.text(max_size=40) | _NAMES)
def test_names_in_any_texts(original, translated):
    kept, changes = proper_names.keep(original, translated, "de", "en")
    assert proper_names.keep(original, kept, "de", "en") == (kept, ())
    assert bool(changes) == (kept != translated)
    assert proper_names.keep(original, original, "de", "en") == (original, ())


@pytest.mark.parametrize("name", ["marian", "marian:", "opus:de-en", "http://", "ftp://host", ""])
def test_an_unknown_translator_is_named(name):
    with pytest.raises(UsageError, match="no translator"):
        translators.load(name)
