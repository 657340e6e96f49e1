"""Preparation: the value, its print form, and the steps that every one has."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from photodesk import text
from photodesk.errors import UsageError
from photodesk.records import Article

RIVER = Article("1", "Hoch\xadwasser  an\xa0der Elbe", lead="Der Pegel steigt", text="In Dresden\nsteigt das Wasser.", tags="Elbe, Dresden")


def test_default_is_the_title_alone_with_clean_blanks():
    assert text.Preparation()(RIVER) == "Hochwasser an der Elbe"


def test_fields_come_in_the_order_asked_for_and_words_are_cut_after_joining():
    assert text.Preparation(fields=("tags", "title"), max_words=4)(RIVER) == "Elbe, Dresden Hochwasser an"


def test_an_empty_field_leaves_no_blank():
    assert text.Preparation(fields=("lead", "title"))(Article("1", "Regen")) == "Regen"


def test_double_encoding_is_repaired():
    assert text.normalise("Köln".encode().decode("latin-1")) == "Köln"


@given(st.permutations(text.FIELDS), st.integers(1, 4), st.integers(0, 500))
def test_print_form_parses_back(names, count, words):
    value = text.Preparation(tuple(names[:count]), max_words=words)
    assert text.parse(str(value)) == value


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ("max_word=3", "did you mean 'max_words'"),
        ("fields=titel", "did you mean 'title'"),
        ("fields=title+title", "each once"),
        ("max_words=many", "not a whole number"),
        ("max_words=-1", "above 0"),
        ("max_words=1, max_words=2", "stands twice"),
        ("title", "not key=value"),
    ],
)
def test_a_wrong_value_is_named(wrong, says):
    with pytest.raises(UsageError, match=says):
        text.parse(wrong)


@given(st.text())
def test_normalise_is_idempotent_and_never_fails(line):
    once = text.normalise(line)
    assert text.normalise(once) == once
