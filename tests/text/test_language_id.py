"""Detection: right on a labelled sample of titles, and what it says when it cannot know."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from photodesk.errors import UsageError
from photodesk.text.language_id import UNKNOWN, _detector, detect

SAMPLE = [
    line.split("\t")
    for line in (Path(__file__).parent / "titles_in_four_languages.tsv").read_text(encoding="utf-8").splitlines()
]
ALL = ("de", "en", "nl", "fr")


def test_titles_in_four_languages():
    found = detect([title for _, title in SAMPLE], ALL)
    assert len(SAMPLE) >= 100
    right = sum(one.language == code for one, (code, _) in zip(found, SAMPLE, strict=True))
    wrong = sum(one.language not in (code, UNKNOWN) for one, (code, _) in zip(found, SAMPLE, strict=True))
    assert right >= 116
    assert wrong == 0


def test_below_the_threshold_it_is_unknown_but_the_guess_is_kept():
    sure, unsure = detect(["Die Polizei sucht Zeugen in Dresden", "Ford Focus RS"], ALL, threshold=0.9)
    assert (sure.language, sure.best) == ("de", "de")
    assert (unsure.language, unsure.best) == (UNKNOWN, "en")
    assert 0.25 <= unsure.confidence < 0.9 <= sure.confidence


@pytest.mark.parametrize("text", ["", "  ", "123 – 45 %", "日本語", "Берлин"])
def test_without_a_letter_of_theirs_it_is_unknown_even_without_threshold(text):
    (found,) = detect([text], ["de", "en"], threshold=0)
    assert (found.language, found.confidence) == (UNKNOWN, 0)


def test_no_texts_no_answers():
    assert detect([], ALL) == ()


def test_the_order_of_the_languages_is_nothing_to_it():
    titles = [title for _, title in SAMPLE]
    assert detect(titles, ALL) == detect(titles, ALL[::-1])


def test_only_the_languages_asked_for_are_in_the_detector():
    assert "fr" not in {one.best for one in detect([title for code, title in SAMPLE if code == "fr"], ["de", "en"])}
    assert _detector(("de", "en")) is _detector(("de", "en"))


@pytest.mark.parametrize(
    ("codes", "says"),
    [
        (["de"], "two or more"),
        ([], "two or more"),
        (["de", "DE"], "no ISO"),
        (["de", "deu"], "no ISO"),
        (["de", "qq"], "does not know"),
    ],
)
def test_wrong_languages_are_named(codes, says):
    with pytest.raises(UsageError, match=says):
        detect(["x"], codes)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text(max_size=40), max_size=5))
def test_any_text(texts):
    found = detect(texts, ["de", "en"])
    assert len(found) == len(texts)
    assert all(0 <= one.confidence <= 1 and one.language in ("de", "en", UNKNOWN) for one in found)
