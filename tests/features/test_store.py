from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from PIL import Image

from doubles import EchoPhotos, EchoTexts, as_texts, paint
from photodesk.encoders.concatenated import ConcatenatedTexts
from photodesk.errors import StoreError
from photodesk.features.embed import prepared
from photodesk.features.store import Store, text_keys
from photodesk.text.preparation import Preparation
from photodesk.types import Article, Photo


def folder_of(tmp_path, words):
    for word in words:
        paint(tmp_path / "photos" / f"{word}.png", word)
    return [Photo(word, tmp_path / "photos" / f"{word}.png") for word in words]


WORDS = ["sea", "wood", "sun", "moon", "rain", "snow", "sand"]


def test_a_second_call_encodes_nothing_and_gives_the_same(tmp_path):
    photos, tower, store = folder_of(tmp_path, WORDS), EchoPhotos(), Store(tmp_path / "cache")
    kept, first, faults = store.photos(photos, tower)
    assert (kept, faults, tower.seen) == (photos, [], len(WORDS))
    _, second, _ = Store(tmp_path / "cache").photos(photos, tower)
    assert tower.seen == len(WORDS)
    assert np.array_equal(first, second)


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")])
def test_texts_come_in_halves_where_memory_runs_out(tmp_path, error):
    """The rows are those of a tower with memory enough, and what was too much once is not tried again."""

    class Narrow(EchoTexts):
        batch = 8

        def encode(self, texts):
            asked.append(len(texts))
            if len(texts) > 3:
                raise error
            return super().encode(texts)

    asked: list[int] = []
    texts = [f"word {i:02}" for i in range(20)]
    rows = Store(tmp_path / "cache").texts(as_texts(texts), Narrow())
    assert np.array_equal(rows, EchoTexts().encode(texts))
    assert asked[0] == 8
    assert max(asked[4:]) <= 4
    assert asked.count(8) == 1
    assert asked[-1] <= 2


def test_another_failure_of_a_text_tower_is_not_tried_again(tmp_path):
    class Broken(EchoTexts):
        def encode(self, texts):
            self.seen += texts
            raise RuntimeError("shapes do not fit")

    tower = Broken()
    with pytest.raises(RuntimeError, match="shapes"):
        Store(tmp_path / "cache").texts(as_texts(["a", "b"]), tower)
    assert len(tower.seen) == 2


def test_one_more_photo_encodes_one_and_a_renamed_one_none(tmp_path):
    photos, tower, store = folder_of(tmp_path, WORDS), EchoPhotos(), Store(tmp_path / "cache")
    _, before, _ = store.photos(photos, tower)
    paint(tmp_path / "photos" / "new.png", "new")
    photos[2].path.rename(tmp_path / "photos" / "other name.png")
    photos[2] = Photo("renamed", tmp_path / "photos" / "other name.png")
    _, after, _ = store.photos([*photos, Photo("new", tmp_path / "photos" / "new.png")], tower)
    assert tower.seen == len(WORDS) + 1
    assert np.array_equal(before, after[:-1])


def test_rows_stay_with_their_photos_whatever_is_broken_between(tmp_path):
    photos, store = folder_of(tmp_path, WORDS), Store(tmp_path / "cache")
    photos[3].path.write_bytes(b"no picture at all")
    photos[5].path.unlink()
    kept, rows, faults = store.photos(photos, EchoPhotos())
    assert [photo.id for photo in kept] == ["sea", "wood", "sun", "rain", "sand"]
    assert np.allclose(rows, EchoTexts().encode([photo.id for photo in kept]), atol=0.02)
    assert [fault.where for fault in faults] == [str(photos[3].path), str(photos[5].path)]
    assert all(fault.fate == "left out" and fault.advice for fault in faults)
    assert all(str(fault).count(fault.where) == 1 for fault in faults)


def test_copies_of_one_picture_are_encoded_once(tmp_path):
    paint(tmp_path / "photos" / "a.png", "sea")
    data = (tmp_path / "photos" / "a.png").read_bytes()
    photos = [Photo(f"{i}", tmp_path / "photos" / f"{i}.png") for i in range(9)]
    for photo in photos:
        photo.path.write_bytes(data)
    tower = EchoPhotos()
    _, rows, _ = Store(tmp_path / "cache").photos(photos, tower, threads=1)
    assert len(rows) == 9
    assert (rows == rows[0]).all()
    _, _, _ = Store(tmp_path / "cache").photos(photos, tower)
    assert tower.seen <= 5  # one a batch at most, when batches are under way together; none the second time


def test_texts_keep_their_order_and_are_encoded_once(tmp_path):
    texts, tower, store = ["bb", "a", "", "bb", "ccc" * 40, "ä"], EchoTexts(), Store(tmp_path / "cache")
    rows = store.texts(as_texts(texts), tower)
    assert np.array_equal(rows, EchoTexts().encode(texts))
    assert len(tower.seen) == 5
    assert np.array_equal(store.texts(as_texts(texts[::-1]), tower), rows[::-1])
    assert len(tower.seen) == 5


def test_a_record_cut_short_or_damaged_is_encoded_again(tmp_path):
    tower, store = EchoTexts(), Store(tmp_path / "cache")
    rows = store.texts(as_texts(WORDS), tower)
    path = tmp_path / "cache" / "echo-texts" / "000001.rows"
    data = bytearray(path.read_bytes())
    data[len(data) // len(WORDS) + 5] ^= 0xFF  # inside the second record's row
    path.write_bytes(data[:-5])  # and the last one cut
    tower.seen.clear()
    assert np.array_equal(store.texts(as_texts(WORDS), tower), rows)
    assert len(tower.seen) == 2
    assert np.array_equal(store.texts(as_texts(WORDS), tower), rows)
    assert len(tower.seen) == 2


def test_encoders_do_not_share_rows(tmp_path):
    class Other(EchoTexts):
        fingerprint = "other/texts"

    store = Store(tmp_path / "cache")
    store.texts(as_texts(WORDS), EchoTexts())
    other = Other()
    store.texts(as_texts(WORDS), other)
    assert len(other.seen) == len(WORDS)
    assert {path.name for path in (tmp_path / "cache").iterdir()} == {"echo-texts", "other_texts"}


def test_two_writers_of_one_tower_are_refused(tmp_path):
    class Nested(EchoTexts):
        def encode(self, texts):
            Store(tmp_path / "cache").texts(as_texts(["another"]), EchoTexts())
            return super().encode(texts)

    with pytest.raises(StoreError, match="another photodesk is writing"):
        Store(tmp_path / "cache").texts(as_texts(["one"]), Nested())


def test_a_cache_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "cache").write_text("a file where a folder should be")
    with pytest.raises(StoreError, match="PHOTODESK_CACHE"):
        Store(tmp_path / "cache").texts(as_texts(["one"]), EchoTexts())


SLOW = textwrap.dedent(
    """
    import sys, time
    from pathlib import Path
    sys.path.insert(0, {here!r})
    from doubles import EchoTexts
    from doubles import as_texts
    from photodesk.features.store import Store

    class Slow(EchoTexts):
        batch = 2
        def encode(self, texts):
            time.sleep(0.02)
            rows = super().encode(texts)
            print(len(texts), flush=True)
            return rows

    rows = Store(Path({cache!r})).texts(as_texts([f"text {{i}}" for i in range(60)]), Slow())
    """
)


def test_killed_at_any_instant_it_goes_on_and_encodes_at_most_a_batch_again(tmp_path):
    script = SLOW.format(here=os.path.dirname(os.path.dirname(__file__)), cache=str(tmp_path / "cache"))  # noqa: PTH120
    encoded = 0
    for after in (1, 4, 9, 2, 7):
        process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
        for _ in range(after):
            encoded += int(process.stdout.readline() or 0)
        process.send_signal(signal.SIGKILL)
        encoded += sum(int(line) for line in process.stdout.read().split())
        process.wait()
        process.stdout.close()
    tower, texts = EchoTexts(), [f"text {i}" for i in range(60)]
    rows = Store(tmp_path / "cache").texts(as_texts(texts), tower)
    assert np.array_equal(rows, EchoTexts().encode(texts))
    assert 60 <= encoded + len(tower.seen) <= 60 + 5 * 2


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_hashes_of_pictures_are_kept_by_their_content(tmp_path, monkeypatch, dtype):
    from photodesk import images as pictures
    from photodesk.features import store as module

    random = np.random.default_rng(0)
    gallery = []
    for i in range(5):
        Image.fromarray(random.integers(0, 256, (40 + i, 90, 3), dtype=np.uint8)).save(tmp_path / f"{i}.png")
        gallery.append(Photo(str(i), tmp_path / f"{i}.png"))
    gallery[3].path.write_bytes(gallery[1].path.read_bytes())
    gallery[4].path.write_bytes(b"broken")
    direct = {photo.id: value for photo, value in pictures.hashes(gallery) if isinstance(value, int)}
    assert Store(tmp_path / "s", dtype=dtype).prints(gallery) == direct
    assert sorted(direct) == ["0", "1", "2", "3"]
    monkeypatch.setattr(module, "phash", lambda image: pytest.fail("decoded again"))
    assert Store(tmp_path / "s", dtype=dtype).prints(gallery) == direct


def test_keys_of_texts_are_those_of_earlier_stores():
    """Computed by the version that joined fields before they came to the store: a store from then is still read."""
    articles = [
        Article("1", "Flood", "", "Long text\x1f here", "rain"),
        Article("2", "", "", "Body only"),
        Article("3", ""),
    ]

    def keys(*fields):
        texts, _ = prepared(articles, Preparation(), ConcatenatedTexts([EchoTexts()], fields))
        return [key.hex() for text, key in zip(texts, text_keys(texts), strict=True) if any(text)]

    assert [key.hex() for key in text_keys(as_texts(["Hochwasser an der Elbe", "", "\ud83d"]))] == [
        "4d050ed819d40640cde15828d0466326",
        "e3b0c44298fc1c149afbf4c8996fb924",
        "7586f70fb89addbc55ee252028451c6f",
    ]
    assert keys() == keys(("title",)) == ["61e369c8f0604cdb565d8fa81092cf19"]
    assert keys(("title",), ("title", "text")) == [
        "46acc1a37a9799ab4eddb4411083f96f",
        "bc1a66139f8459e5e8f861fadda85490",
    ]
