"""Draws docs/desk.png, the README's picture: the desk with an archive of the photographs that scikit-image ships. Needs
chromium.

    python scripts/screenshot.py [FOLDER]

With a FOLDER it writes light, dark, German and phone-sized pictures of all pages there, to look at.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).parent))

from demo import gather
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from browser import chromium, serving
from photodesk.archive import ingest
from photodesk.archive.archive import Archive
from photodesk.encoders import registry
from photodesk.search.desk import Desk
from photodesk.web import create_app

DRAFT = (
    "Motorcycle stolen from garage\nThe police ask for witnesses. The red machine had been standing there since spring."
)
CAPTIONS = {
    "rocket": ("Lift-off from the launch pad", "Demo Space", "2024-05-31"),
    "astronaut": ("An astronaut before her first flight", "Demo Space", "2023-02-11"),
    "moon": ("Craters on the surface of the moon", "Demo Space", "2021-09-02"),
    "galaxies": ("A deep field of distant galaxies", "Demo Space", "2020-01-15"),
    "coffee": ("A cup of coffee on a wooden table", "Demo Kitchen", "2022-11-20"),
    "cat": ("A cat looks into the camera", "Demo Animals", "2019-07-04"),
    "motorcycle": ("A motorcycle in a garage", "Demo Streets", "2018-03-30"),
    "camera": ("A photographer behind his camera", "Demo Streets", "2017-10-08"),
}
XMP = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF '
    'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" '
    'xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/" '
    'photoshop:Credit="{1}" '
    'photoshop:DateCreated="{2}"><dc:description><rdf:Alt><rdf:li '
    'xml:lang="x-default">{0}</rdf:li></rdf:Alt></dc:description>'
    "</rdf:Description></rdf:RDF></x:xmpmeta>"
)


def archive(folder: Path) -> Archive:
    """The demo's photographs, with captions of our own, in an archive."""
    gather(folder)
    for path in list((folder / "photos").iterdir()):
        about = PngInfo()
        if path.stem in CAPTIONS:
            about.add_itxt("XML:com.adobe.xmp", XMP.format(*CAPTIONS[path.stem]))
        Image.open(path).convert("RGB").save(path.with_suffix(".png"), pnginfo=about)
        if path.suffix != ".png":
            path.unlink()
    encoder = registry.load()
    made = Archive.create(folder / "desk", encoder, engine="flat:index", language="english")
    ingest.add(made, encoder, [folder / "photos"])
    return made


def main(out: Path | None = None) -> None:
    """Serve it, look at it."""
    looks = [("desk", 1280, 860, "light", "en-GB")]
    if out:
        looks = [
            ("light", 1280, 860, "light", "en-GB"),
            ("dark", 1280, 860, "dark", "en-GB"),
            ("wide", 1920, 1080, "light", "de-DE"),
        ]
        looks += [
            ("phone", 390, 844, "light", "de-DE"),
            ("phone-dark", 390, 844, "dark", "en-GB"),
            ("tablet", 820, 1100, "light", "de-DE"),
        ]
        out.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as folder,
        archive(Path(folder)) as made,
        serving(create_app(Desk(made))) as url,
        chromium() as browser,
    ):
        for name, width, height, scheme, locale in looks:
            page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme, locale=locale)
            page.goto(url)
            page.locator("#draft").fill(DRAFT)
            page.wait_for_selector(".tile")
            page.wait_for_timeout(600)
            if out:
                page.screenshot(path=out / f"{name}.png")
            page.locator(".tile .open").first.click()
            page.wait_for_selector("#panel mark")
            page.wait_for_timeout(1500)
            page.screenshot(path=out / f"{name}-why.png" if out else Path(__file__).parents[1] / "docs/desk.png")
            if out:
                page.goto(f"{url}/archive")
                page.wait_for_timeout(300)
                page.screenshot(path=out / f"{name}-archive.png")
            page.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
