"""The demo: ranks the photographs that scikit-image ships for 25 headlines and writes demo/report.html. Needs no
network."""

from __future__ import annotations

import shutil
import sys
from dataclasses import replace
from importlib.metadata import version
from importlib.resources import as_file, files
from pathlib import Path

from photodesk.cli.progress import bars
from photodesk.data import datasets
from photodesk.encoders import registry
from photodesk.encoders.base import Encoder
from photodesk.errors import DataError, PhotodeskError, require
from photodesk.evaluation import run_files
from photodesk.evaluation.contact_sheet import contact_sheet
from photodesk.evaluation.evaluate import Report, evaluate
from photodesk.evaluation.metrics import parse_all
from photodesk.features.store import Store
from photodesk.search import rank

HEADLINES = Path(__file__).with_name("demo_headlines.csv")

# Our name → the file inside the scikit-image package; its other pictures are downloads, drawings or cut-outs.
PHOTOS = {
    "astronaut": "astronaut.png",
    "brick": "brick.png",
    "camera": "camera.png",
    "cat": "chelsea.png",
    "cell": "cell.png",
    "coffee": "coffee.png",
    "coins": "coins.png",
    "galaxies": "hubble_deep_field.jpg",
    "grass": "grass.png",
    "gravel": "gravel.png",
    "handwriting": "text.png",
    "moon": "moon.png",
    "motorcycle": "motorcycle_left.png",
    "page": "page.png",
    "retina": "retina.jpg",
    "rocket": "rocket.jpg",
    "tissue": "ihc.png",
}


def gather(folder: Path) -> Path:
    """Make a data set of `folder`, photos in `folder/photos`, and return its article file.

    Raises:
        MissingExtra: scikit-image is not installed.
        DataError: this scikit-image does not ship one of the photos.
    """
    require("skimage", "demo")
    photos = folder / "photos"
    photos.mkdir(parents=True, exist_ok=True)
    for name, shipped in PHOTOS.items():
        with as_file(files("skimage") / "data" / shipped) as path:
            if not path.is_file():
                raise DataError(
                    f"scikit-image {version('scikit-image')} does not ship {shipped}; run: pip install "
                    '"scikit-image==0.26.*"'
                )
            shutil.copyfile(path, photos / f"{name}{path.suffix}")
    return Path(shutil.copyfile(HEADLINES, folder / "newsarticles.csv"))


def demo(folder: Path, encoder: Encoder | None = None) -> Report:
    """Rank, measure, and write `run.tsv` and `report.html` into `folder`, with the functions behind `photodesk rank`
    and `evaluate`."""
    dataset = datasets.read(gather(folder))
    encoder = encoder or registry.load()
    with bars() as progress:
        run, faults = rank.rank(dataset, encoder, store=Store(folder / "cache"), progress=progress)
    for fault in (*dataset.faults, *faults):
        print(fault, file=sys.stderr)
    run = replace(run, name="demo")
    run_files.write(run, folder / "run.tsv")
    report = evaluate(run, dataset.pairs, parse_all(["R@1", "R@5", "MRR@100"]))
    title = f"{len(dataset.articles)} headlines, {len(dataset.photos)} photos"
    about = {"Data": f"photographs of scikit-image {version('scikit-image')}", "Encoder": encoder.name}
    contact_sheet(run, dataset, folder / "report.html", title=title, report=report, about=about)
    return report


def shelve(folder: Path, encoder: Encoder | None = None) -> None:
    """Put the photos into an archive for `photodesk serve`, `folder/archive`; what is there already stays, unless
    another model made it."""
    from photodesk.archive import ingest
    from photodesk.archive.archive import DATABASE, Archive
    from photodesk.errors import ArchiveInUse

    place = folder / "archive"
    encoder = encoder or registry.load()
    try:
        there = (place / DATABASE).exists()
        if there and not _of(place, encoder):
            shutil.rmtree(place)
            print(f"demo: {place} was made by another model and is made again", file=sys.stderr)
            there = False
        with (
            Archive.open(place, doing="demo")
            if there
            else Archive.create(place, encoder, language="english") as archive
        ):
            ingest.add(archive, encoder, [folder / "photos"])
    except ArchiveInUse:  # the desk of an earlier demo is still open
        pass


def _of(place: Path, encoder: Encoder) -> bool:
    """Whether an archive was made by a model that reads as this one does."""
    from photodesk.archive.archive import Archive

    with Archive.open(place, doing="demo") as archive:
        return encoder.reads(archive.settings.fingerprint)


def command() -> str:
    """How `photodesk` is called from here."""
    beside = Path(sys.executable).with_name("photodesk")
    return str(beside.relative_to(Path.cwd())) if beside.is_relative_to(Path.cwd()) else "photodesk"


def main(folder: Path = Path("demo"), encoder: Encoder | None = None) -> int:
    """Run the demo and print its figures, where the page is, and what to try next; returns the exit code."""
    try:
        report = demo(folder, encoder)
        shelve(folder, encoder)
    except PhotodeskError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 2
    print(report)
    print(f"\nreport: {folder / 'report.html'} (open it in a browser)")
    print("next:   photodesk rank DATA --out run.tsv --report report.html")
    print(f"desk:   {command()} serve {folder / 'archive'} (paste a draft, see which photos fit)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
