"""Preparation: the value, its print form, and the steps that every one has."""

import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from photodesk.encoders.token_budget import Budget, budget
from photodesk.errors import MissingExtra, TranslationError, UsageError
from photodesk.text import cleaning, language_id, preparation, translation, translators
from photodesk.types import Article

RIVER = Article(
    "1",
    "Hoch\xadwasser  an\xa0der Elbe",
    lead="Der Pegel steigt",
    text="In Dresden\nsteigt das Wasser.",
    tags="Elbe, Dresden",
)


def test_default_is_the_title_alone_with_clean_blanks():
    assert preparation.Preparation()(RIVER) == "Hochwasser an der Elbe"


def test_fields_come_in_the_order_asked_for_and_words_are_cut_after_joining():
    assert preparation.Preparation(fields=("tags", "title"), max_words=4)(RIVER) == "Elbe, Dresden Hochwasser an"


def test_an_empty_field_leaves_no_blank():
    assert preparation.Preparation(fields=("lead", "title"))(Article("1", "Regen")) == "Regen"


def test_double_encoding_is_repaired():
    assert preparation.normalise("Köln".encode().decode("latin-1")) == "Köln"


VALUES = st.fixed_dictionaries(
    {
        "fields": st.permutations(preparation.FIELDS).flatmap(
            lambda names: st.integers(1, 4).map(lambda n: tuple(names[:n]))
        ),
        "detect": st.sampled_from([(), ("de", "en"), ("nl", "fr", "de")]),
        "threshold": st.floats(0, 1),
        "clean": st.sampled_from(["", "2021", "ekphrasis"]),
        "max_words": st.integers(0, 500),
        "translate": st.sampled_from(
            [
                "marian:Helsinki-NLP/opus-mt-de-en",
                "ctranslate2:C:/some folder, with (signs)",
                "http://127.0.0.1:5000/a,b?c",
                "https://host",
            ]
        ),
        "keep_names": st.booleans(),
    }
)


@given(VALUES)
def test_print_form_parses_back(values):
    value = preparation.Preparation(**values)
    assert preparation.parse(str(value)) == value
    assert preparation.parse(str(value).removeprefix("Preparation(").removesuffix(")")) == value


def test_print_form_is_the_one_of_the_docs():
    printed = (
        "Preparation(fields=title+text, detect=de+en, translate=marian:Helsinki-NLP/opus-mt-de-en, clean=2021, "
        "max_words=40)"
    )
    assert str(preparation.parse(printed)) == printed
    assert str(preparation.Preparation()) == "Preparation(fields=title)"
    assert (
        preparation.parse("")
        == preparation.parse("Preparation()")
        == preparation.parse("translate=none, clean=none, detect=none")
        == preparation.Preparation()
    )


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ("max_word=3", "did you mean 'max_words'"),
        ("fields=titel", "did you mean 'title'"),
        ("fields=title+title", "each once"),
        ("max_words=many", "not a whole number"),
        ("max_words=-1", "above 0"),
        ("max_words=1, max_words=2", "is duplicated"),
        ("title", "not key=value"),
        ("detect=de", "two or more"),
        ("detect=de+de", "two or more"),
        ("detect=de+german", "no ISO 639-1 code"),
        ("threshold=1.5", "between 0 and 1"),
        ("threshold=nan", "between 0 and 1"),
        ("threshold=high", "not a number"),
        ("clean=2012", "did you mean '2021'"),
        ("translate=opus", "no translator 'opus'"),
        ("keep_names=yes", "needs a translate"),
        ("keep_names=maybe", "yes or no"),
        ("translte=none", "did you mean 'translate'"),
    ],
)
def test_a_wrong_value_is_named(wrong, says):
    with pytest.raises(UsageError, match=says):
        preparation.parse(wrong)


@given(st.text())
def test_normalise_is_idempotent_and_never_fails(line):
    once = preparation.normalise(line)
    assert preparation.normalise(once) == once


@given(st.text())
def test_no_text_breaks_the_fields(line):
    prepared = preparation.Preparation(fields=("title", "text"), max_words=3)(Article("1", line, text=line))
    assert len(prepared.split()) <= 3
    prepared.encode()  # lone surrogates are gone


def test_german_letters_survive_and_what_is_broken_is_mended():
    article = Article("1", "\u00dcber\xadra\xadschung:\xa0GRO\u0308SSE in Stra\u00c3\u009fen")
    assert preparation.Preparation(clean="2021", detect=("de", "en"))(article) == "überraschung: grösse in straßen"


TITLES = [
    Article("1", "Hochwasser an der Elbe steigt weiter"),
    Article("2", "Police appeal for witnesses"),
    Article("3", "Burgemeester opent nieuw zwembad"),
    Article("4", "2021", where="a.csv:5"),
    Article("5", "12:0", text="Die Mannschaft gewinnt zum ersten Mal seit Jahren", language=""),
    Article("6", "007", language="en"),
]


class Shout:
    """Upper case, from German."""

    source, target, limit, budget = "de", "en", 100, 1000

    def __init__(self, fingerprint="shout"):
        self.fingerprint = fingerprint

    def measure(self, sentence):
        return len(sentence)

    def translate(self, sentences, source):
        if any("Elbe" in sentence for sentence in sentences) and self.fingerprint == "broken":
            raise TranslationError("no")
        return [sentence.upper() for sentence in sentences]


@pytest.fixture
def shout(monkeypatch, tmp_path):
    monkeypatch.setenv("PHOTODESK_CACHE", str(tmp_path))
    one = Shout()
    monkeypatch.setattr(translators, "load", lambda name: one)
    return one


def test_detection_is_per_article_and_unknown_stays_unknown():
    prepared = preparation.Preparation(detect=("de", "en", "nl")).prepare(TITLES)
    assert prepared.languages == ("de", "en", "nl", "unknown", "de", "en")
    assert prepared.texts[3] == "2021"
    assert [str(note) for note in prepared.notes] == [
        "a.csv:5: language unknown: article '4', at best de with 0.00 (kept)"
    ]
    assert all(0 <= confidence <= 1 for confidence in prepared.confidences)


def test_only_articles_that_the_model_reads_are_translated(shout):
    prepared = preparation.parse("detect=de+en+nl, translate=marian:x-de-en").prepare(TITLES)
    assert prepared.texts == (
        "HOCHWASSER AN DER ELBE STEIGT "
        "WEITER", "Police appeal for witnesses", "Burgemeester opent nieuw zwembad", "2021", "12:0", "007",
    )  # fmt: skip
    assert prepared.languages == ("en", "en", "nl", "unknown", "en", "en")
    assert "in nl and marian:x-de-en reads de: article '3'" in str(prepared.notes[1])


def test_without_a_known_language_everything_is_translated(shout):
    assert preparation.parse("translate=marian:x-de-en")(Article("1", "Ein Satz")) == "EIN SATZ"
    assert preparation.parse("translate=marian:x-de-en")(Article("1", "One line", language="en")) == "One line"


def test_a_service_reads_every_language_but_its_own_and_the_unknown(shout):
    shout.source = ""
    prepared = preparation.parse("detect=de+en+nl, translate=http://localhost:1").prepare(TITLES)
    assert [t == t.upper() for t in prepared.texts] == [True, False, True, True, True, True]
    assert prepared.languages == ("en", "en", "en", "unknown", "en", "en")


def test_a_failing_translator_stops_or_leaves_the_originals(shout):
    shout.fingerprint = "broken"
    with pytest.raises(TranslationError):
        preparation.parse("translate=marian:x-de-en").prepare(TITLES[:1])
    prepared = preparation.parse("translate=marian:x-de-en").prepare(TITLES[:1], keep_going=True)
    assert prepared.texts == (TITLES[0].title,)
    assert prepared.languages == ("",)
    assert "not translated: article '1', no (kept); run it again" in str(prepared.notes[0])


def test_names_that_are_put_back_are_reported(shout):
    shout.translate = lambda sentences, source: [
        s.replace("Müller", "Mueller").replace("trifft", "meets") for s in sentences
    ]
    prepared = preparation.parse("translate=marian:x-de-en, keep_names=yes").prepare(
        [Article("7", "Müller trifft Reker", where="x:1")]
    )
    assert prepared.texts == ("Müller meets Reker",)
    assert [str(note) for note in prepared.notes] == ["x:1: names put back: article '7', Müller for Mueller (kept)"]


def test_every_step_is_shown_and_the_last_is_the_result(shout):
    wanted = preparation.parse("fields=title+text, detect=de+en, translate=marian:x-de-en, clean=2021, max_words=4")
    stages = list(wanted.stages(TITLES))
    assert [name for name, _ in stages] == ["fields", "detect", "translate", "clean", "max_words"]
    assert stages[-1][1] == wanted.prepare(TITLES)
    assert all(len(t.split()) <= 4 for t in stages[-1][1].texts)
    assert stages[3][1].texts[0] == "hochwasser der elbe steigt weiter"  # English by now: "an" is an article


def test_cleaning_follows_the_language():
    wanted = preparation.parse("clean=2021")
    assert wanted(Article("1", "An die Elbe", language="de")) == "an die elbe"
    assert wanted(Article("1", "An Elbe", language="en")) == wanted(Article("1", "An Elbe")) == "elbe"


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(max_size=30), max_size=4))
def test_any_articles_go_through_detection_and_cleaning(lines):
    wanted = preparation.parse("fields=title+text, detect=de+en, clean=2021")
    articles = [Article(str(i), line, text=line[::-1]) for i, line in enumerate(lines)]
    together = wanted.prepare(articles)
    assert together.texts == tuple(wanted(article) for article in articles)


@pytest.mark.parametrize(
    ("step", "module", "extra"),
    [
        ("clean=2021", "wordfreq", "clean"),
        ("detect=de+en", "lingua", "lang"),
        ("translate=marian:x", "torch", "translate"),
    ],
)
def test_an_extra_that_is_not_installed_is_named(step, module, extra, monkeypatch):
    from photodesk.text import spelling

    for memory in (spelling.words, spelling._usual, cleaning._all, language_id._detector, translators.load):
        memory.cache_clear()
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtra, match=rf'pip install "photodesk\[{extra}\]"'):
        preparation.parse(step)(Article("1", "notaword anywhereelse"))


def test_the_fingerprint_knows_every_version_that_changes_the_text(monkeypatch, shout):
    steps = [
        "",
        "max_words=3",
        "detect=de+en",
        "clean=2021",
        "translate=marian:x-de-en",
        "translate=marian:x-de-en, keep_names=yes",
    ]
    values = {step: preparation.parse(step) for step in steps}
    first = {step: value.fingerprint for step, value in values.items()}
    assert len(set(first.values())) == len(steps)
    assert first == {step: value.fingerprint for step, value in values.items()}

    def changed():
        return [step for step, value in values.items() if value.fingerprint != first[step]]

    with monkeypatch.context() as patch:
        patch.setattr(cleaning, "VERSION", 99)
        assert changed() == ["clean=2021"]
    with monkeypatch.context() as patch:
        patch.setattr(translation, "VERSION", 99)
        assert changed() == steps[4:]
    with monkeypatch.context() as patch:
        patch.setattr(preparation.metadata, "version", lambda package: "99")
        assert changed() == ["detect=de+en", "clean=2021", steps[5]]
    with monkeypatch.context() as patch:
        patch.setattr(shout, "fingerprint", "other weights")
        assert changed() == steps[4:]
    with monkeypatch.context() as patch:
        patch.setattr(preparation, "VERSION", 99)
        assert changed() == steps


class Letters:
    """A tower whose tokens are the letters of the words."""

    def __init__(self, context):
        self.context = context

    def tokens(self, line):
        return [letter for letter in line if letter != " "]


@given(st.lists(st.text("ab", min_size=1, max_size=5), max_size=8), st.integers(0, 20))
def test_the_budget_is_what_counting_word_by_word_gives(parts, context):
    kept = count = 0
    for part in parts:
        count += len(part)
        if context and count > context:
            break
        kept += 1
    assert budget([" ".join(parts)], Letters(context)) == (Budget(len(parts), kept, sum(map(len, parts))),)
