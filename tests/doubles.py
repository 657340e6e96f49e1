"""Small encoders whose answers are known: they stand in for models where a test is about something else."""

from __future__ import annotations

import hashlib
import threading

import numpy as np
from PIL import Image

from photodesk.encoders.base import Encoder, PhotoTower, TextTower


def colour(word: str) -> tuple[int, int, int]:
    """A colour of its own for every word, with room above and below."""
    red, green, blue = (30 + byte * 195 // 255 for byte in hashlib.sha256(word.encode()).digest()[:3])
    return red, green, blue


def _unit(rows: np.ndarray) -> np.ndarray:
    rows = rows.astype(np.float32) - np.float32(127.5)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def as_texts(words):
    """Each word as a text of the store."""
    return [(word,) for word in words]


class EchoTexts(TextTower):
    """A text's row is the direction of its own colour."""

    fingerprint, dim, batch, context = "echo-texts", 3, 4, 0

    def __init__(self):
        self.seen: list[str] = []

    def encode(self, texts):
        self.seen += texts
        return _unit(np.array([colour(text) for text in texts]).reshape(-1, 3))

    def tokens(self, text):
        return text.split()


class EchoPhotos(PhotoTower):
    """A photo's row is the direction of its mean colour, so a photo painted in a text's colour is its perfect match."""

    fingerprint, dim, batch, size = "echo-photos", 3, 2, 8

    def __init__(self):
        self.seen = 0
        self._lock = threading.Lock()

    def prepare(self, photo):
        return np.asarray(photo.resize((1, 1), Image.Resampling.BOX)).reshape(3)

    def encode(self, batch):
        with self._lock:
            self.seen += len(batch)
        return _unit(batch)


def echo() -> Encoder:
    """Retrieval with it must be perfect."""
    return Encoder("echo", EchoTexts(), EchoPhotos())


class _Constant(TextTower, PhotoTower):
    batch, context, size, dim = 4, 0, 8, 2

    def __init__(self, fingerprint):
        self.fingerprint = fingerprint

    def prepare(self, photo):
        return np.zeros(1)

    def encode(self, batch):
        return np.tile(np.array([[1, 0]], np.float32), (len(batch), 1))

    def tokens(self, text):
        return text.split()


def constant() -> Encoder:
    """Knows nothing: every score is 1, so R@1 must be near 1/m."""
    return Encoder("constant", _Constant("constant-texts"), _Constant("constant-photos"))


def paint(path, word, size=(40, 30)):
    """A photo whose mean is the colour of `word`, with a pattern of its own so that no two are near-duplicates; without
    loss."""
    path.parent.mkdir(parents=True, exist_ok=True)
    half = np.random.default_rng(list(word.encode())).choice([-25, 25], (6, 4, 1))
    pattern = np.kron(np.hstack([half, -half]), np.ones((5, 5, 1)))
    Image.fromarray((np.array(colour(word)) + pattern).astype(np.uint8)).resize(size, Image.Resampling.NEAREST).save(
        path
    )


def twin(path, of, size, **fields):
    """A near-duplicate of the photo in another file, of another size; terms, credit and caption as XMP."""
    from PIL import PngImagePlugin

    about = PngImagePlugin.PngInfo()
    tags = {"terms": "xmpRights:UsageTerms", "credit": "photoshop:Credit", "caption": "dc:description"}
    said = "".join(f"<{tags[name]}>{text}</{tags[name]}>" for name, text in fields.items())
    about.add_itxt(
        "XML:com.adobe.xmp",
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"'
        ' xmlns:xmpRights="http://ns.adobe.com/xap/1.0/rights/" xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/"'
        f' xmlns:dc="http://purl.org/dc/elements/1.1/"><rdf:Description>{said}</rdf:Description></rdf:RDF></x:xmpmeta>',
    )
    with Image.open(of) as image:
        image.resize(size, Image.Resampling.NEAREST).save(path, pnginfo=about)


def desk(folder, words):
    """A data folder in the layout of NewsImages 2025: headline `word`, its picture painted in that colour."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = ["article_id,article_url,article_title,article_tags,image_id,image_url"]
    for i, word in enumerate(words):
        # ids whose order is not that of the articles
        photo = hashlib.sha256(f"{i}{word}".encode()).hexdigest()[:12].upper()
        rows.append(f'{i + 1},https://news.example/{i},"{word}",,{photo},https://news.example/{i}.jpg')
        paint(folder / "newsimages" / f"{photo}.png", word)
    (folder / "newsarticles.csv").write_text("﻿" + "\r\n".join(rows) + "\r\n", "utf-8")
    return folder
