"""Articles, photos and the truth from a folder or a file of any NewsImages edition."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

from photodesk import text_repair
from photodesk.data import editions, tables
from photodesk.data.photo_folder import Names, files, gather, photo_folder, pictures, several
from photodesk.errors import DataError, MissingExtra, PhotodeskError, UsageError
from photodesk.types import Article, Dataset, Fate, Fault, Listed, Pair, Photo

OWN_TABLE = "a table of its own"
"""The edition of data in no known layout; it does not say where the data came from."""

_TEXTS = ("title", "lead", "text", "tags")
_PLAIN = ("url", "date", "language")
_PICTURES = ("photo", "file", "photo_url")
_FLOAT = re.compile(r"-?\d+\.0+")


def read(
    source: Path | str,
    *,
    photos: Path | str | None = None,
    columns: Mapping[str, str] | None = None,
    subset: str | None = None,
    exclude: Sequence[str] = (),
    header_line: int = 0,
    delimiter: str = "",
) -> Dataset:
    """Read a data folder of any NewsImages edition or of NYTimes800k, or one article file.

    Args:
        source: a folder with article tables and pictures, or one file that `tables.read` reads.
        photos: the folder of pictures; by default the one in `source`, or beside the article file.
        columns: field → column name, where the names in the file are unusual. Fields: `editions.FIELDS`.
        subset: only articles of this subset, and the pictures that its rows name.
        exclude: patterns of pictures to leave out, as in a .gitignore.
        header_line: the line of the header in CSV, TSV and XLSX files, from 1; 0 finds it.
        delimiter: between the cells of CSV and TSV files; empty finds it.

    Raises:
        UsageError: no such folder, column, field or subset; a delimiter of more than one character.
        DataError: there is no article in it, or a file that was named cannot be read.
        MissingExtra: an XLSX, Parquet or BSON file without its library.
    """
    source = Path(source)
    if not source.exists():
        raise UsageError(f"{source} does not exist; give a data folder or an article file")
    if photos is not None and not Path(photos).is_dir():
        raise UsageError(f"{photos} is not a folder; give the folder that holds the pictures")
    if header_line < 0 or len(delimiter) > 1 or delimiter in ('"', "\n", "\r"):
        raise UsageError(
            f"header line {header_line}, delimiter {delimiter!r}: lines count from 1, a delimiter is one character"
        )
    reader = _Reader(dict(columns or {}), header_line, delimiter)
    if source.is_dir():
        reader.folder(source)
    else:
        reader.table(reader.open(source), many=False)
    if not reader.articles:
        first = f"the first fault is: {reader.faults[0]}" if reader.faults else "it has no rows"
        raise DataError(f"{source} holds no article that can be used; {first}")
    reader.unscramble()
    return reader.dataset(Path(photos) if photos is not None else photo_folder(source), subset, exclude)


def gallery(folder: Path, *, exclude: Sequence[str] = ()) -> tuple[tuple[Photo, ...], tuple[Fault, ...]]:
    """Every picture below a folder, sorted by id; the id is the path below the folder.

    Raises:
        UsageError: it is not a folder.
    """
    if not Path(folder).is_dir():
        raise UsageError(f"{folder} is not a folder; give the folder that holds the pictures")
    found = gather(pictures(Path(folder), exclude=exclude))
    return found.photos, found.faults


class _Reader:
    """Collects articles, pairs and listed pictures from one table after the other."""

    def __init__(self, columns: dict[str, str], header_line: int = 0, delimiter: str = "") -> None:
        self.override = columns
        self.header_line = header_line
        self.delimiter = delimiter
        self.columns: dict[str, str] = {}
        self.editions: dict[str, str] = {}
        self.articles: dict[str, Article] = {}
        self.edition_of: dict[str, str] = {}
        self.pairs: dict[tuple[str, str], None] = {}
        self.listed: dict[str, Listed] = {}
        self.faults: list[Fault] = []

    def open(self, path: Path, name: str = "") -> tables.Table:
        """A table, read as the user says and as its column names show."""
        return tables.read(
            path,
            name=name,
            unfold=editions.unfold,
            field=editions.known(self.override),
            header_line=self.header_line,
            delimiter=self.delimiter,
        )

    def folder(self, folder: Path) -> None:
        """Every table below a folder that has titles or lists pictures; only newsarticles.csv where there is one."""
        found = [folder / "newsarticles.csv"]
        if not found[0].is_file():
            found = files(folder, frozenset(tables.SUFFIXES) - {".txt"})
        if not found:
            raise DataError(
                f"{folder} holds no article file (newsarticles.csv, or any {', '.join(tables.SUFFIXES)}); see "
                "--articles"
            )
        refused: list[PhotodeskError] = []
        for path in found:
            name = path.relative_to(folder).as_posix()
            try:
                self.table(self.open(path, name), many=len(found) > 1)
            except PhotodeskError as error:
                refused.append(error)
                advice = "install what it needs, if it holds articles" if isinstance(error, MissingExtra) else ""
                what = f"not an article file: {error}"
                self.faults.append(Fault("table-no-articles", name, what, "left out", advice))
        if len(refused) == len(found):
            raise refused[0]

    def table(self, table: tables.Table, *, many: bool) -> None:
        """Take in one table; `many` says that each file is a subset.

        Raises:
            DataError: it has neither titles nor is it a list of pictures.
        """
        layout = editions.recognise(table.header, self.override, table.name)
        if "title" not in layout.at and not (layout.edition and "photo" in layout.at):
            names = ", ".join(filter(None, table.header)) or "none"
            raise DataError(
                f"{table.name} has no column with a title; its columns are: {names}; rename it, or name it with "
                "--title-column where a command has that"
            )
        rows = _Rows(table, layout, editions.subset_name(table.name) if many else "")
        self.faults += table.faults + tuple(rows.faults)
        told = self.editions.setdefault(layout.edition, f"{table.name}: {layout.evidence}")
        if table.guessed and table.guessed not in told:
            whose = "" if told.startswith(f"{table.name}: ") else f"{table.name}: "
            self.editions[layout.edition] = f"{told}; {whose}{table.guessed}"
        if "title" in rows.at and len(rows.at) > len(self.columns):
            self.columns = {name: table.header[position] for name, position in rows.at.items()}
        for row in table.rows:
            self.row(rows, row)

    def row(self, rows: _Rows, row: tables.Row) -> None:
        """One row is an article, perhaps with its picture, or only a listed picture; or it is left out with a fault."""
        where = f"{rows.name}:{row.line}"
        cells, repairs = rows.cells(row)
        subset, photo = cells["subset"] or rows.subset, cells["photo"] or cells["file"]
        if not rows.at.keys() & {"photo", "file"}:
            photo = cells["photo_url"]
        words = any(cells[name] for name in _TEXTS)
        key = cells["id"] if "id" in rows.at else str(row.line)
        if row.short and cells["url"] and "://" not in cells["url"]:
            what = "cells out of place, and too few columns"
            self.say("row-cells-shifted", where, what, "left out", "compare the row with the header")
            return
        if photo:
            self.listed.setdefault(photo, Listed(photo, cells["file"], cells["photo_url"], where, subset))
        if photo and rows.edition and not words and not cells["url"] and not cells["id"]:
            return
        if row.short:
            self.say("row-too-few-columns", where, "too few columns", "kept", "compare the row with the header")
        if not key:
            self.say("article-no-id", where, "no article id", "left out", "give the article an id")
            return
        if not cells["title"]:
            fate: Fate = "kept" if words else "left out"
            self.say("article-no-title", where, f"empty title: article {key}", fate, "give the article a title")
            if not words:
                return
        self.faults += [Fault(code, where, what, "repaired") for code, what in repairs]
        texts = {name: cells[name] for name in (*_TEXTS, *_PLAIN)}
        article = Article(key, **texts, subset=subset, where=where)
        first = self.articles.setdefault(key, article)
        self.edition_of.setdefault(key, rows.edition)
        if first is not article:
            same = (first.title, first.text) == (article.title, article.text)
            if not same or not photo or (key, photo) in self.pairs:
                advice = "" if same else "give the article an id of its own"
                what = f"article id is duplicated: {key}, first in {first.where}"
                self.say("article-id-taken", where, what, "left out", advice)
                return
        if photo:
            self.pairs[key, photo] = None

    def say(self, code: str, where: str, what: str, fate: Fate, advice: str) -> None:
        """Note a fault."""
        self.faults.append(Fault(code, where, what, fate, advice))

    def unscramble(self) -> None:
        """Join 2021's test articles, whose ids are scrambled, with their rows in the truth file.

        The ids stay as participants got them, since run files use them; title, text and pictures do not tell the
        truth's place.
        """
        true = {
            key: editions.unscramble(key) for key, edition in self.edition_of.items() if edition == editions.TEST_2021
        }
        true = {key: other for key, other in true.items() if self.edition_of.get(other) == editions.TRUTH_2021}
        if not true:
            return
        months = {self.articles[key].subset: self.articles[other].subset for key, other in true.items()}
        scrambled = {other: key for key, other in true.items()}
        self.pairs = {(scrambled.get(article, article), photo): None for article, photo in self.pairs}
        articles = (article for key, article in self.articles.items() if key not in scrambled)
        self.articles = {a.id: replace(a, subset=months.get(a.subset, a.subset)) for a in articles}
        self.listed = {
            key: replace(item, subset=months.get(item.subset, item.subset)) for key, item in self.listed.items()
        }
        self.editions[editions.TEST_2021] += f"; {len(true)} of its ids are unscrambled by the truth file"

    def dataset(self, folder: Path, subset: str | None, exclude: Sequence[str]) -> Dataset:
        """All of it, or one subset, with the pictures of `folder`."""
        there = pictures(folder, exclude=exclude)
        parts = _single(self.listed.values(), there.names)
        single: dict[str, Listed] = {}
        for item in (item for items in parts.values() for item in items):
            single.setdefault(item.photo, item)
        listed = tuple(single.values())
        articles = tuple(self.articles.values())
        if subset is not None:
            known = ", ".join(sorted({article.subset for article in articles} - {""}))
            articles = tuple(article for article in articles if article.subset == subset)
            if not articles:
                raise UsageError(f"no article of subset {subset!r}; subsets are: {known or 'none'}")
        ids = {article.id for article in articles}
        pairs = [(article, item.photo) for article, photo in self.pairs if article in ids for item in parts[photo]]
        if subset is not None:
            shown = {photo for _, photo in pairs}
            listed = tuple(item for item in listed if item.subset == subset or item.photo in shown)
        found = gather(there, listed)
        only = {item.photo for item in found.listed} if subset is not None and listed else None
        photos = tuple(photo for photo in found.photos if only is None or photo.id in only)
        truth = tuple(dict.fromkeys(Pair(article, found.renamed.get(photo, photo)) for article, photo in pairs))
        layouts = [name for name in self.editions if name] or [""]
        edition = " + ".join(layouts) or OWN_TABLE
        evidence = "; ".join(self.editions[name] for name in layouts)
        faults = (*self.faults, *found.faults)
        return Dataset(articles, photos, truth, edition, evidence, self.columns, faults, found.listed)


def _single(listed: Iterable[Listed], names: Names) -> dict[str, list[Listed]]:
    """What a row names as its picture → the pictures; a URL is the id of a picture whose file has its last name."""
    found: dict[str, list[Listed]] = {}
    for item in listed:
        photos, paths, urls = (several(cell, names) for cell in (item.photo, item.file, item.url))
        if len(photos) < 2:
            found[item.photo] = [item]
            continue
        even = [parts if len(parts) == len(photos) else [""] * len(photos) for parts in (photos, paths, urls)]
        found[item.photo] = [replace(item, photo=p, file=f, url=u) for p, f, u in zip(*even, strict=True)]
    last = {item.photo: _last(item.photo) for items in found.values() for item in items if "://" in item.photo}
    alike = Counter(last.values())

    def fetched(item: Listed) -> Listed:
        if "://" not in item.photo:
            return item
        name = last[item.photo]
        if not name or alike[name] > 1:
            name = re.sub(r"[^\w.-]+", "_", item.photo.partition("://")[2])[-150:].strip("._")
        return replace(item, file=item.file or name, url=item.url or item.photo)

    return {photo: list(map(fetched, items)) for photo, items in found.items()}


def _last(url: str) -> str:
    return unquote(re.split("[?#]", url.partition("://")[2], maxsplit=1)[0].rpartition("/")[2])


class _Rows:
    """The cells of one table by field, with what a closer look at its columns showed."""

    def __init__(self, table: tables.Table, layout: editions.Layout, subset: str) -> None:
        self.name = table.name
        self.edition = layout.edition
        self.subset = subset
        self.at = dict(layout.at)
        self.faults: list[Fault] = []
        self.whole: set[str] = set()
        self._key(table, layout.keys)
        self.limits = {name: _limit(table, position) for name, position in self.at.items() if name in ("lead", "text")}
        for name in ("id", "photo"):
            if name in self.at:
                self._whole(table, name)
        names = [plain for header in table.header if (plain := editions.plain(header))]
        for name in sorted({name for name in names if names.count(name) > 1}):
            what = f"column name is duplicated: {name}"
            self.faults.append(Fault("table-column-twice", f"{table.name}:1", what, "kept"))

    def _key(self, table: tables.Table, keys: Sequence[int]) -> None:
        """Of the columns that may hold the id take the one that tells most rows apart."""
        if not keys:
            if "title" in self.at:
                what = "no column with an article id: --id-column names one, if there is any"
                self.faults.append(Fault("table-no-id", table.name, what, "kept"))
            return
        counts = {position: len({row.cells[position] for row in table.rows} - {""}) for position in keys}
        self.at["id"] = max(keys, key=lambda position: (counts[position], -keys.index(position)))
        header = table.header[self.at["id"]]
        suspects = [position for position, column in enumerate(table.header) if editions.plain(column) == "article"]
        for position in {*suspects, *keys} - {self.at["id"]}:
            filled = [cell for row in table.rows if (cell := row.cells[position])]
            if len(set(filled)) < len(filled):
                what = (
                    f"the column is not unique: {table.header[position]!r}, so articles are called by their {header!r}"
                )
                self.faults.append(Fault("table-id-not-unique", table.name, what, "kept"))

    def _whole(self, table: tables.Table, name: str) -> None:
        """Take ids back to whole numbers where a program kept their column as floating point."""
        cells = (row.cells[self.at[name]].strip() for row in table.rows)
        filled = [cell for cell in cells if cell and not text_repair.no_value(cell)]
        if filled and all(map(_FLOAT.fullmatch, filled)):
            self.whole.add(name)
            what = f"ids of the {'article' if name == 'id' else name} are written as decimals: such as {filled[0]}"
            self.faults.append(Fault("table-decimal-ids", table.name, what, "repaired"))

    def cells(self, row: tables.Row) -> tuple[dict[str, str], list[tuple[str, str]]]:
        """Field → text, mended, and what was mended: code and sentence of each."""
        found, repairs = dict.fromkeys(editions.FIELDS, ""), list[tuple[str, str]]()
        for name, position in self.at.items():
            cell = row.cells[position]
            if name in _TEXTS:
                limit = self.limits.get(name, 0)
                if limit and len(cell.rstrip()) >= limit and cell.rstrip()[-1].isalnum() and " " in cell.strip():
                    cell = cell.rstrip().rpartition(" ")[0]
                    repairs.append(("text-cut", f"cut words in the {name}: at {limit} characters"))
                found[name], mended = text_repair.mend(cell)
                if name == "tags":
                    found[name] = ", ".join(filter(None, map(str.strip, re.split("[;|]", found[name]))))
                repairs += [(repair.code, f"{repair.what} in the {name}") for repair in mended]
            elif name in _PICTURES:
                found[name] = "\n".join(filter(None, (" ".join(line.split()) for line in cell.splitlines())))
            else:
                found[name] = " ".join(cell.split())
            if name not in _TEXTS and text_repair.no_value(found[name]):
                found[name] = ""
            if name in self.whole:
                found[name] = found[name].partition(".")[0]
        return found, repairs


def _limit(table: tables.Table, position: int) -> int:
    """How many characters a column's texts were cut to, or 0 if they were not.

    Texts that were cut share one greatest length; whole texts hardly do.
    """
    lengths = [len(row.cells[position].rstrip()) for row in table.rows]
    longest = max(lengths, default=0)
    return longest if longest >= 100 and lengths.count(longest) >= max(5, len(lengths) / 20) else 0
