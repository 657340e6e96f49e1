"""A desk for tests of the pages: an archive of painted photos, and answers by the echo encoder that can be foretold."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, PngImagePlugin

from doubles import echo, paint
from photodesk.archive import ingest
from photodesk.archive.archive import Archive
from photodesk.files import digest
from photodesk.search.explain import Reason
from photodesk.search.query import Answer, Found

WORDS = ["Elbe", "Wien", "Köln", "Rom", "Basel", "Ulm", "Graz", "Bonn"]
CREDITS = ["dpa", "epd"]

XMP = """<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/"
 xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/" photoshop:Credit="{credit}"
 photoshop:DateCreated="2024-05-{day:02}T12:00:00">
<dc:description><rdf:Alt>
<rdf:li xml:lang="x-default">Ein Bild von {word} &amp; &lt;b&gt;Umgebung&lt;/b&gt;</rdf:li></rdf:Alt></dc:description>
<dc:subject><rdf:Bag><rdf:li>{word}</rdf:li><rdf:li>Stadt</rdf:li></rdf:Bag></dc:subject>
</rdf:Description></rdf:RDF></x:xmpmeta>"""


def build(folder, words=WORDS, size=(400, 300)):
    """An archive of painted photos with captions, closed; returns word → photo id."""
    photos = {}
    for i, word in enumerate(words):
        path = folder / "photos" / f"{word}.png"
        paint(path, word, size)
        about = PngImagePlugin.PngInfo()
        about.add_itxt("XML:com.adobe.xmp", XMP.format(word=word, credit=CREDITS[i % 2], day=i + 1))
        image = Image.open(path)
        image.load()
        image.save(path, pnginfo=about)
        photos[word] = digest(path.read_bytes()).hex()
    with Archive.create(folder / "desk", echo(), engine="flat:index") as archive:
        ingest.add(archive, echo(), [folder / "photos"])
    return photos


class Desk:
    """Ranks by the echo encoder: a draft finds the photo that is painted in its colour."""

    def __init__(self, archive):
        self.archive, self.encoder, self.asked, self.counts = archive, echo(), [], {}

    def _row(self, question):
        if question.article:
            return self.encoder.texts.encode([question.article.title])[0]
        if question.like:
            return self.archive.engine.get([question.like], rows=True)[0].row
        return self.encoder.photos.encode(np.stack([self.encoder.photos.prepare(question.picture)]))[0]

    def ask(self, question):
        self.asked.append(question)
        hits = self.archive.engine.search(self._row(question), question.top, question.where)
        entries = {point.photo: point.entry for point in self.archive.engine.get([hit.photo for hit in hits])}
        found = [
            Found(h.photo, h.score, max(h.score, 0) ** 8 * 0.9, entries[h.photo], (), "2026-01-02" if i else "")
            for i, h in enumerate(hits)
        ]
        return Answer(found, not found or found[0].probability < 0.5)

    def refresh(self):
        self.counts.clear()

    def facets(self, where, fields):
        self.counts[where] = {name: self.archive.engine.facets(name, 20, where) for name in fields}
        return self.counts[where]

    def counted(self, where, fields):
        return self.counts.get(where)

    def why(self, question, photo):
        (hit,) = [hit for hit in self.ask(question).hits if hit.photo == photo]
        words = [
            (word, 1 / (i + 1)) for i, word in enumerate((question.article.title if question.article else "").split())
        ]
        heat = np.zeros((4, 4), np.float32)
        heat[0, 3] = 1
        return Reason(hit, words, heat, {"visual": 0.8, "names": 0.3, "revision": -0.1})


def png(word, size=(60, 40)):
    """A picture in the colour of a word, as a file's bytes."""
    from doubles import colour

    out = io.BytesIO()
    Image.new("RGB", size, colour(word)).save(out, "PNG")
    return out.getvalue()
