from __future__ import annotations

import itertools
import threading
import time

import numpy as np
import pytest

from doubles import EchoPhotos, EchoTexts, paint
from photodesk.features import pipeline
from photodesk.features.pipeline import BatchSize, Picture
from photodesk.types import Fault, Photo

WORDS = [f"word {i}" for i in range(23)]


def pictures(tmp_path, words=WORDS):
    for word in words:
        paint(tmp_path / f"{word}.png", word)
    return [pipeline.of_file(Photo(word, tmp_path / f"{word}.png")) for word in words]


def nothing(keys):
    return [False] * len(keys)


@pytest.mark.parametrize("threads", [1, 3])
def test_every_picture_comes_once_in_order_with_its_row(tmp_path, threads):
    batches = list(pipeline.encode(pictures(tmp_path), EchoPhotos(), nothing, threads=threads))
    assert [photo for batch in batches for photo, _ in batch.names] == WORDS
    rows = [batch.rows[key] for batch in batches for key in batch.keys]
    assert np.allclose(rows, EchoTexts().encode(WORDS), atol=0.02)


def test_what_is_stored_is_not_decoded(tmp_path):
    found = pictures(tmp_path)
    keys = [key for batch in pipeline.encode(found, EchoPhotos(), nothing) for key in batch.keys]
    tower, there = EchoPhotos(), set(keys[::2])
    batches = list(pipeline.encode(found, tower, lambda asked: [key in there for key in asked]))
    assert [key for batch in batches for key in batch.keys] == keys
    assert {key for batch in batches for key in batch.rows} == set(keys[1::2])
    assert tower.seen == len(keys[1::2])


def test_copies_of_a_broken_picture_are_each_named_by_their_own_name(tmp_path):
    def gone():
        raise FileNotFoundError(2, "No such file or directory")

    tower = EchoPhotos()
    tower.batch = 8
    given = [
        Picture("a", "a.jpg", lambda: b"junk"),
        Picture("b", "b.jpg", lambda: b"junk"),
        Picture("c", "c.jpg", gone),
    ]
    (batch,) = pipeline.encode(given, tower, nothing)
    faults = [key for key in batch.keys if isinstance(key, Fault)]
    assert [fault.where for fault in faults] == ["a.jpg", "b.jpg", "c.jpg"]
    assert faults[0].what == faults[1].what == "is not a picture: a text"
    assert faults[2].what == "cannot be read: No such file or directory"
    assert all(fault.advice for fault in faults)


def test_only_so_many_pictures_are_under_way(tmp_path):
    """Ten thousand pictures whose reader is ahead of a slow consumer: as many are read as are being worked on, no
    more."""
    data = pictures(tmp_path, ["one"])[0].read()
    read = itertools.count()
    most = 0

    def reading():
        next(read)
        return data

    tower = EchoPhotos()
    for done, _ in enumerate(
        pipeline.encode((Picture(f"{i}", "p", reading) for i in range(10_000)), tower, nothing, threads=3)
    ):
        time.sleep(0.002)
        most = max(most, next(read) - (done + 1) * tower.batch)
        if done == 40:
            break
    assert most <= (3 + 3) * 4 * tower.batch + 41  # the batch may have doubled twice; our own counting adds one a turn


def test_decoding_goes_on_while_the_model_works(tmp_path):
    """One batch waits in the model until another one is being decoded: without overlap this would time out."""
    decoding = threading.Event()

    class Waiting(EchoPhotos):
        first = True

        def prepare(self, photo):
            if not self.first:
                decoding.set()
            return super().prepare(photo)

        def encode(self, batch):
            if self.first:
                self.first = False
                assert decoding.wait(10)
            return super().encode(batch)

    assert len(list(pipeline.encode(pictures(tmp_path), Waiting(), nothing, threads=2))) > 2


def test_a_model_without_memory_gets_smaller_batches_and_the_same_rows(tmp_path):
    class Small(EchoPhotos):
        batch = 16
        calls: list[int] = []  # noqa: RUF012

        def encode(self, batch):
            if len(batch) > 3:
                raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
            self.calls.append(len(batch))
            return super().encode(batch)

    found = pictures(tmp_path)
    rows = [batch.rows[key] for batch in pipeline.encode(found, Small(), nothing, threads=1) for key in batch.keys]
    assert np.allclose(rows, EchoTexts().encode(WORDS), atol=0.02)
    assert max(Small.calls) <= 3


def test_other_errors_of_a_model_are_not_swallowed(tmp_path):
    class Failing(EchoPhotos):
        def encode(self, batch):
            raise RuntimeError("another reason")

    with pytest.raises(RuntimeError, match="another reason"):
        list(pipeline.encode(pictures(tmp_path), Failing(), nothing))


def test_a_tower_that_knows_its_memory_is_not_asked_for_more():
    from photodesk.encoders.builtin import towers
    from photodesk.encoders.concatenated import ConcatenatedPhotos

    lite = towers()[1]
    assert lite.most == lite.batch == 2
    assert ConcatenatedPhotos([lite, EchoPhotos()]).most == 2
    assert EchoPhotos().most == 64
    sizes = BatchSize(lite.batch, lite.most)
    for _ in range(20):
        sizes.note(sizes.now, 1.0)  # cheaper and cheaper, the larger the batch
    assert sizes.now == 2


@pytest.mark.parametrize(
    ("cost", "best"),
    [
        (lambda size: 1.0, 8),  # nothing to gain: as it was
        (lambda size: 1 / size, 64),
        (lambda size: float(size), 1),
        (lambda size: abs(size - 32) + 10.0, 32),
        (lambda size: abs(size - 2) + 10.0, 2),
    ],
)
def test_the_batch_size_finds_the_cheapest(cost, best):
    sizes = BatchSize(8, 64)
    for _ in range(200):
        sizes.note(sizes.now, cost(sizes.now) * sizes.now)
        sizes.note(sizes.now + 1, 0.0)  # the last chunk of a run says nothing
    assert sizes.now == best
