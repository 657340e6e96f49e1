import csv
import importlib.util
import shutil
import socket
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from photodesk.archive.archive import Archive
from photodesk.data import checks, datasets
from photodesk.encoders.base import Encoder, PhotoTower, TextTower
from photodesk.evaluation import run_files
from photodesk.evaluation.evaluate import evaluate

ROOT = Path(__file__).parent.parent


def load_script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("demo_script", ROOT / "scripts" / "demo.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


demo = load_script()
ROWS = list(csv.DictReader((ROOT / "scripts" / "demo_headlines.csv").read_text("utf-8").splitlines()))


def look(photo: Image.Image) -> np.ndarray:
    row = np.asarray(photo.resize((8, 8)), np.float32).ravel()
    return row - row.mean()


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


class Pictures(PhotoTower):
    """A photo tower that knows a picture by its 64 coarse pixels."""

    fingerprint, dim, batch, size = "coarse pixels", 192, 4, 0

    def prepare(self, photo: Image.Image) -> np.ndarray:
        return look(photo)

    def encode(self, batch: np.ndarray) -> np.ndarray:
        return unit(batch)


class Cheat(TextTower):
    """A text tower that looks up the right picture of a headline, or turns away from it."""

    dim, batch, context = 192, 4, 0

    def __init__(self, folder: Path, sign: int) -> None:
        self.fingerprint = f"cheat {sign}"
        self.rows = {row["title"]: sign * look(demo_photo(folder, row["photo"])) for row in ROWS}

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        return unit(np.stack([self.rows[text] for text in texts]))

    def tokens(self, text: str) -> list[str]:
        return text.split()


def demo_photo(folder: Path, name: str) -> Image.Image:
    return Image.open(next((folder / "photos").glob(f"{name}.*"))).convert("RGB")


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the demo asked for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def test_the_headlines_are_half_english_half_german_and_each_photo_has_one() -> None:
    assert len(ROWS) == 25
    assert Counter(row["language"] for row in ROWS) == {"en": 12, "de": 13}
    assert {row["photo"] for row in ROWS} == set(demo.PHOTOS)
    assert len({row["title"] for row in ROWS}) == len({row["id"] for row in ROWS}) == 25


def test_the_photos_are_copied_from_the_package_and_read_without_a_fault(tmp_path: Path, offline: None) -> None:
    articles = demo.gather(tmp_path)
    dataset = datasets.read(articles)
    assert not checks.check(dataset)
    assert {photo.id for photo in dataset.photos} == set(demo.PHOTOS)
    assert [(pair.article, pair.photo) for pair in dataset.pairs] == [(row["id"], row["photo"]) for row in ROWS]
    assert [(a.title, a.language) for a in dataset.articles] == [(row["title"], row["language"]) for row in ROWS]
    assert datasets.read(tmp_path).pairs == dataset.pairs, "the folder itself is a data set to try commands on"


@pytest.mark.parametrize(("sign", "least", "most"), [(1, 1.0, 1.0), (-1, 0.0, 0.0)])
def test_figures_and_page_follow_the_encoder(
    sign: int, least: float, most: float, tmp_path: Path, offline: None, capsys: pytest.CaptureFixture[str]
) -> None:
    demo.gather(tmp_path)
    assert demo.main(tmp_path, Encoder("cheat", Cheat(tmp_path, sign), Pictures())) == 0
    lines = capsys.readouterr().out.splitlines()
    figures = {line.split()[0]: float(line.split()[1]) for line in lines if line.startswith(("R@", "MRR@"))}
    assert list(figures) == ["R@1", "R@5", "MRR@100"]
    assert least <= figures["R@1"] <= figures["R@5"] <= most
    assert f"photodesk serve {tmp_path / 'archive'} " in lines[-1]
    assert lines[-2] == "next:   photodesk rank DATA --out run.tsv --report report.html"
    assert str(tmp_path / "report.html") in lines[-3]
    with Archive.open(tmp_path / "archive") as archive:
        assert archive.engine.count() == 17
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.count("<article ") == 25
    assert page.count("data:image/jpeg") == 17
    assert page.count("✓ Right photo first") == 25 * most
    dataset = datasets.read(tmp_path / "newsarticles.csv")
    assert evaluate(run_files.read(tmp_path / "run.tsv"), dataset.pairs).means["R@1"] == figures["R@1"], (
        "the run file holds the same ranking"
    )


def test_an_archive_of_an_older_model_is_made_again(
    tmp_path: Path, offline: None, capsys: pytest.CaptureFixture[str]
) -> None:
    demo.gather(tmp_path)
    assert demo.main(tmp_path, Encoder("cheat", Cheat(tmp_path, 1), Pictures())) == 0
    newer = Pictures()
    newer.fingerprint = "finer pixels"
    assert demo.main(tmp_path, Encoder("cheat", Cheat(tmp_path, 1), newer)) == 0
    assert "was made by another model and is made again" in capsys.readouterr().err
    with Archive.open(tmp_path / "archive") as archive:
        assert "finer pixels" in archive.settings.fingerprint
        assert archive.engine.count() == 17


def test_a_second_demo_encodes_nothing_and_writes_the_same_page(tmp_path: Path, offline: None) -> None:
    demo.gather(tmp_path)
    demo.demo(tmp_path, Encoder("cheat", Cheat(tmp_path, 1), Pictures()))
    first = (tmp_path / "report.html").read_bytes()
    idle = Encoder("cheat", Cheat(tmp_path, 1), Pictures())
    for tower in (idle.texts, idle.photos):
        tower.encode = lambda batch: pytest.fail("it was encoded again")  # type: ignore[method-assign]
    demo.demo(tmp_path, idle)
    assert (tmp_path / "report.html").read_bytes() == first


def test_a_scikit_image_without_one_of_the_photos_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.setitem(demo.PHOTOS, "moon", "no-such-moon.png")
    assert demo.main(tmp_path) == 2
    assert "does not ship no-such-moon.png" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "skimage", None)
    assert demo.main(tmp_path) == 2
    assert 'pip install "photodesk[demo]"' in capsys.readouterr().err


def test_the_built_in_model_finds_most_of_the_right_photos(tmp_path: Path, offline: None) -> None:
    """Chance is R@5 = 5/17 = 0.29."""
    report = demo.demo(tmp_path)
    assert report.means["R@5"] > 0.5
    assert (tmp_path / "report.html").stat().st_size < 1_000_000
    shutil.rmtree(tmp_path)
