"""Errors that carry what they say as values."""

from __future__ import annotations

import pickle

import pytest

from photodesk.errors import PhotoError, StoreError, did_you_mean
from photodesk.files import as_store_error
from photodesk.types import Fault


def test_a_photo_error_is_a_sentence_of_its_parts_and_a_fault():
    error = PhotoError("photo-empty", "a; b.jpg", "is empty", "get the picture again")
    assert str(error) == "a; b.jpg is empty; get the picture again"
    assert error.fault() == Fault("photo-empty", "a; b.jpg", "is empty", "left out", "get the picture again")
    assert error.fault("kept", where="copy.jpg", advice="mend it") == Fault(
        "photo-empty", "copy.jpg", "is empty", "kept", "mend it"
    )
    assert str(PhotoError("photo-foreign", "x", "is not a picture")) == "x is not a picture"


def test_a_photo_error_travels_to_other_processes():
    error = pickle.loads(pickle.dumps(PhotoError("photo-empty", "a.jpg", "is empty", "get it again")))
    assert (error.code, error.where, error.what, error.advice) == ("photo-empty", "a.jpg", "is empty", "get it again")


def test_what_the_disk_refuses_is_a_store_error_and_our_own_mistakes_are_not():
    with (
        pytest.raises(StoreError, match=r"^cannot write x: No space left on device; make room$"),
        as_store_error("cannot write x", "make room"),
    ):
        raise OSError(28, "No space left on device")
    with (
        pytest.raises(StoreError, match=r"^cannot write x: odd; make room$"),
        as_store_error("cannot write x", "make room", ValueError),
    ):
        raise ValueError("odd")
    with pytest.raises(ValueError, match="ours"), as_store_error("cannot write x", "make room"):
        raise ValueError("ours")


@pytest.mark.parametrize(
    ("word", "most", "hint"),
    [
        ("titel", 1, " (did you mean 'title'?)"),
        ("title", 1, " (did you mean 'title'?)"),
        ("titl", 2, " (did you mean 'title' or 'titles'?)"),
        ("zzz", 1, ""),
    ],
)
def test_words_that_are_spelt_alike_are_named(word, most, hint):
    assert did_you_mean(word, ["lead", "title", "titles"], most=most) == hint
