"""Articles, photos and the truth from a folder or a file of any NewsImages edition, and everything that is wrong with them."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from types import MappingProxyType

from photodesk import editions, repair, tables
from photodesk.errors import DataError, PhotodeskError, PhotoError, UsageError
from photodesk.records import Article, Fault, Pair, Photo

PHOTO_FOLDERS = ("newsimages", "photos", "images", "pictures", "images_processed", "img")
"""Names under which a data folder keeps its pictures; without any of them every picture below the folder counts."""

_TEXTS = ("title", "lead", "text", "tags")
_RAW = frozenset(editions.FIELDS) - set(_TEXTS)


@dataclass(frozen=True, slots=True)
class Listed:
    """A picture as a table names it, whether or not its file is there.

    Args:
        photo: the picture's id in run files and pairs.
        file: the name that its file should have; empty if the table does not say.
        url: where it can be fetched; empty if unknown.
        where: `file:line` of the first row that names it.
        subset: the part of the data that the row belongs to.
    """

    photo: str
    file: str = ""
    url: str = ""
    where: str = ""
    subset: str = ""


@dataclass(frozen=True)
class Dataset:
    """What `read` found.

    Args:
        articles: in the order of the files; ids are unique.
        photos: the gallery: pictures whose file exists, sorted by id; ids are unique.
        pairs: the truth: which picture an article was published with, whether or not its file is here. Empty if unknown.
        edition: the layout that was recognised, such as "NewsImages 2025".
        evidence: why it was recognised.
        columns: field → name of the column that it was read from, of the first file.
        faults: what was wrong with the files and rows, in their order.
        listed: the pictures that the tables name.
    """

    articles: tuple[Article, ...]
    photos: tuple[Photo, ...]
    pairs: tuple[Pair, ...]
    edition: str = ""
    evidence: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)
    faults: tuple[Fault, ...] = ()
    listed: tuple[Listed, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "columns", MappingProxyType(dict(self.columns)))


def read(source: Path, *, photos: Path | None = None, columns: Mapping[str, str] | None = None, subset: str | None = None) -> Dataset:
    """Read a data folder of any NewsImages edition, or one article file.

    Args:
        source: a folder with article tables and pictures, or one .csv, .tsv, .json, .jsonl or .parquet file.
        photos: the folder of pictures; by default the one in `source`, or beside the article file.
        columns: field → column name, where the names in the file are unusual. Fields: `editions.FIELDS`.
        subset: only articles of this subset, and the pictures that its rows name.

    Raises:
        UsageError: no such folder, column, field or subset.
        DataError: there is no article in it, or a file that was named cannot be read.
    """
    source = Path(source)
    if not source.exists():
        raise UsageError(f"{source} does not exist; give a data folder or an article file")
    if photos is not None and not Path(photos).is_dir():
        raise UsageError(f"{photos} is not a folder; give the folder that holds the pictures")
    reader = _Reader(dict(columns or {}))
    reader.source(source)
    folder = Path(photos) if photos is not None else _photo_folder(source)
    return reader.dataset(folder, subset)


def _photo_folder(source: Path) -> Path:
    base = source if source.is_dir() else source.parent
    return next((base / name for name in PHOTO_FOLDERS if (base / name).is_dir()), base)


class _Reader:
    """Collects articles, pairs and listed pictures from one table after the other."""

    def __init__(self, columns: dict[str, str]) -> None:
        self.override = columns
        self.columns: dict[str, str] = {}
        self.editions: dict[str, str] = {}
        self.articles: dict[str, Article] = {}
        self.pairs: dict[tuple[str, str], None] = {}
        self.listed: dict[str, Listed] = {}
        self.faults: list[Fault] = []

    def source(self, source: Path) -> None:
        if source.is_file():
            self.table(tables.read(source))
        else:
            self.folder(source)
        if not self.articles:
            raise DataError(f"{source} holds no article that can be used; " + _first(self.faults))

    def folder(self, folder: Path) -> None:
        files = [folder / "newsarticles.csv"]
        if not files[0].is_file():
            files = sorted(_files(folder, frozenset(tables.READERS) - {".txt"}), key=lambda path: path.relative_to(folder).as_posix())
        if not files:
            raise DataError(f"{folder} holds no article file (newsarticles.csv, or any {', '.join(tables.READERS)}); see --articles")
        refused: list[str] = []
        for path in files:
            name = path.relative_to(folder).as_posix()
            try:
                self.table(tables.read(path, name=name), many=len(files) > 1)
            except PhotodeskError as error:
                if len(files) == 1:
                    raise
                refused.append(str(error))
                self.faults.append(Fault(name, f"not an article file: {error}", "left out"))
        if len(refused) == len(files):
            raise DataError(f"{folder} holds no article file: {refused[0]}")

    def table(self, table: tables.Table, *, many: bool = False) -> None:
        edition, evidence, at = editions.recognise(table.header, self.override)
        if "title" not in at and not (edition and "photo" in at):
            names = ", ".join(filter(None, table.header)) or "none"
            raise DataError(f"{table.name} has no column with a title; its columns are: {names}; name it with --title-column")
        self.faults += table.faults
        self.editions.setdefault(edition, f"{table.name}: {evidence}")
        if "title" in at and not self.columns:
            self.columns = {name: table.header[position] for name, position in at.items()}
        if "title" in at and "id" not in at:
            advice = "name one with --id-column if the articles have ids"
            self.faults.append(Fault(table.name, "no column with an article id; articles are called by their line", "kept", advice))
        rows = _Rows(table, at, self.faults, table.path.stem if many else "")
        for row in table.rows:
            self.row(rows, row)
        self.faults += rows.cut_words()

    def row(self, rows: _Rows, row: tables.Row) -> None:
        where = f"{rows.name}:{row.line}"
        cells = rows.cells(row)
        subset = cells["subset"] or rows.subset
        photo = self.picture(cells, where, subset)
        if not any(cells[name] for name in ("title", "lead", "text", "tags")) and photo and not (cells["url"] or cells["id"]):
            return
        if row.short:
            if cells["url"] and "://" not in cells["url"]:
                what = "the row has too few columns and its cells are out of place"
                self.faults.append(Fault(where, what, "left out", "compare the row with the header"))
                return
            self.faults.append(Fault(where, "the row has too few columns", "kept", "compare the row with the header"))
        key = cells["id"] if "id" in rows.at else str(row.line)
        if not key:
            self.faults.append(Fault(where, "no article id", "left out", "give the article an id"))
            return
        if not cells["title"]:
            words = any(cells[name] for name in ("lead", "text", "tags"))
            what = f"empty title: article {key}"
            self.faults.append(Fault(where, what, "kept" if words else "left out", "give the article a title"))
            if not words:
                return
        article = Article(
            key, **{name: cells[name] for name in ("title", "lead", "text", "tags", "url", "date", "language")}, subset=subset, where=where
        )
        first = self.articles.setdefault(key, article)
        if first is not article:
            same = (first.title, first.text) == (article.title, article.text)
            if not same or not photo or (key, photo) in self.pairs:
                what = f"article id stands twice: {key}, first in {first.where}"
                self.faults.append(Fault(where, what, "left out", "" if same else "give the article an id of its own"))
                return
        if photo:
            self.pairs[key, photo] = None

    def picture(self, cells: Mapping[str, str], where: str, subset: str) -> str:
        photo = cells["photo"] or cells["file"]
        if photo:
            self.listed.setdefault(photo, Listed(photo, cells["file"], cells["photo_url"], where, subset))
        return photo

    def dataset(self, folder: Path, subset: str | None) -> Dataset:
        articles, listed = tuple(self.articles.values()), list(self.listed.values())
        if subset is not None:
            known = sorted({article.subset for article in articles} - {""})
            articles = tuple(article for article in articles if article.subset == subset)
            if not articles:
                raise UsageError(f"no article of subset {subset!r}; subsets are: {', '.join(known) or 'none'}")
            listed = [item for item in listed if item.subset == subset]
        ids = {article.id for article in articles}
        gallery = _Gallery(folder, listed)
        only = {item.photo for item in listed} if subset is not None else set()
        photos = tuple(photo for photo in gallery.photos if not only or photo.id in only)
        pairs = tuple(Pair(a, gallery.renamed.get(p, p)) for a, p in self.pairs if a in ids)
        names = [name for name in self.editions if name]
        edition = " + ".join(names) or "a table of its own"
        evidence = "; ".join(self.editions[name] for name in names or self.editions)
        return Dataset(articles, photos, pairs, edition, evidence, self.columns, (*self.faults, *gallery.faults), tuple(listed))


class _Rows:
    """The cells of one table by field, mended."""

    def __init__(self, table: tables.Table, at: Mapping[str, int], faults: list[Fault], subset: str) -> None:
        self.name = table.name
        self.at = at
        self.faults = faults
        self.subset = subset

    def cells(self, row: tables.Row) -> dict[str, str]:
        found = dict.fromkeys(editions.FIELDS, "")
        for name, position in self.at.items():
            cell = row.cells[position]
            if name in _TEXTS:
                found[name], done = repair.mend(cell)
                self.faults += [Fault(f"{self.name}:{row.line}", f"{kind} in the {name}", "repaired") for kind in done]
            else:
                found[name] = " ".join(cell.split())
        return found

    def cut_words(self) -> list[Fault]:
        return []


class _Gallery:
    """The pictures of a folder under the ids that the tables give them."""

    def __init__(self, folder: Path, listed: Sequence[Listed]) -> None:
        from photodesk.photos import SUFFIXES

        self.faults: list[Fault] = []
        self.renamed: dict[str, str] = {}
        paths = {path.relative_to(folder).as_posix(): path for path in _files(folder, SUFFIXES)}
        names = sorted(paths)
        whole: dict[str, str] = {}
        stems: dict[str, str] = {}
        for name in reversed(names):
            whole[PurePosixPath(name).name.casefold()] = name
            stems[PurePosixPath(name).stem.casefold()] = name
        found: dict[str, tuple[Listed, bool]] = {}
        missing: list[Listed] = []
        for item in listed:
            at, stem = "", False
            for wanted in filter(None, (item.file, item.photo)):
                last = PurePosixPath(wanted.replace("\\", "/")).name.casefold()
                at = wanted if wanted in paths else whole.get(last, "")
                if not at and last in stems:
                    at, stem = stems[last], True
                if at:
                    break
            if at:
                found.setdefault(at, (item, stem or bool(item.file)))
            else:
                missing.append(item)
        by_stem = any(stem for _, stem in found.values())
        taken: dict[str, str] = {}
        for name in names:
            key = PurePosixPath(name).stem if by_stem else name
            if name in found:
                item, _ = found[name]
                if item.file or PurePosixPath(name).stem == item.photo:
                    key = item.photo
                self.renamed[item.photo] = key
            if key in taken:
                what = f"two pictures have the id {key}: {taken[key]} came first"
                self.faults.append(Fault(name, what, "left out", "rename one of them"))
                continue
            taken[key] = name
        self.photos = tuple(Photo(key, paths[name]) for key, name in sorted(taken.items()))
        if missing and not names:
            fetch = (
                "run photodesk fetch on this data"
                if any(item.url for item in missing)
                else "put the pictures there, or name their folder with --photos"
            )
            self.faults.append(Fault(str(folder), f"no pictures: the tables name {len(missing)}", "kept", fetch))
        else:
            self.faults += [_missing(item) for item in missing]


def _missing(item: Listed) -> Fault:
    return Fault(item.where, f"picture is missing: {item.file or item.photo}", "kept", "put the picture in the photo folder")


def _files(folder: Path, suffixes: frozenset[str]) -> list[Path]:
    """Regular files below a folder by suffix; hidden ones are not looked at, links to folders not followed."""
    found = []
    for base, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__MACOSX")))
        for name in files:
            path = Path(base, name)
            if not name.startswith(".") and path.suffix.lower() in suffixes and path.is_file():
                found.append(path)
    return found


def _first(faults: Sequence[Fault]) -> str:
    return f"the first fault is: {faults[0]}" if faults else "it has no rows"


def check(dataset: Dataset, *, decode: bool = True) -> tuple[Fault, ...]:
    """Every fault of a data set: the reader's, and those of its texts, pictures and duplicates.

    Args:
        dataset: what `read` returned.
        decode: decode every picture; without it pictures are not looked at and near-duplicates not searched for.
    """
    faults = list(dataset.faults)
    faults += _shared_titles(dataset.articles)
    if decode:
        faults += _pictures(dataset.photos)
    return tuple(faults)


def _shared_titles(articles: Sequence[Article]) -> list[Fault]:
    by_title: defaultdict[str, list[Article]] = defaultdict(list)
    for article in articles:
        if article.title:
            by_title[article.title.casefold()].append(article)
    return [
        Fault(group[0].where, f"one title, several articles: {len(group)}, also in {', '.join(a.where for a in group[1:4])}", "kept")
        for group in by_title.values()
        if len(group) > 1
    ]


def _pictures(photos: Sequence[Photo]) -> list[Fault]:
    from photodesk.photos import hashes, near_duplicates

    faults: list[Fault] = []
    whole: list[tuple[Photo, int]] = []
    for photo, value in hashes(photos):
        if isinstance(value, PhotoError):
            what, _, advice = str(value).removeprefix(f"{photo.path} ").partition("; ")
            faults.append(Fault(str(photo.path), what, "left out", advice))
        else:
            whole.append((photo, value))
    for group in near_duplicates([value for _, value in whole]):
        others = ", ".join(whole[i][0].path.name for i in group[1:4])
        faults.append(Fault(str(whole[group[0]][0].path), f"near-duplicate pictures: {len(group)}, also {others}", "kept"))
    return faults


def kinds(faults: Sequence[Fault]) -> list[tuple[str, Fault, int]]:
    """Faults of one kind together: (kind, first fault, count), those that need the user first, then by count.

    One kind is what differs only in its place and in the values after the colon.
    """
    counts: Counter[tuple[str, str, str]] = Counter()
    first: dict[tuple[str, str, str], Fault] = {}
    for fault in faults:
        key = (fault.what.partition(": ")[0], fault.fate, fault.advice)
        counts[key] += 1
        first.setdefault(key, fault)
    ordered = sorted(counts, key=lambda key: (not key[2], -counts[key], key))
    return [(key[0], first[key], counts[key]) for key in ordered]
