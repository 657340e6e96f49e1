"""Articles, photos and the truth from a folder or a file of any NewsImages edition."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from photodesk import text_repair
from photodesk.data import editions, tables
from photodesk.data.photo_folder import files, gather, photo_folder
from photodesk.errors import DataError, MissingExtra, PhotodeskError, UsageError
from photodesk.types import Article, Dataset, Fate, Fault, Listed, Pair, Photo

OWN_TABLE = "a table of its own"
"""The edition of data in no known layout; it does not say where the data came from."""

_TEXTS = ("title", "lead", "text", "tags")
_PLAIN = ("url", "date", "language")


def read(
    source: Path | str,
    *,
    photos: Path | str | None = None,
    columns: Mapping[str, str] | None = None,
    subset: str | None = None,
    exclude: Sequence[str] = (),
) -> Dataset:
    """Read a data folder of any NewsImages edition or of NYTimes800k, or one article file.

    Args:
        source: a folder with article tables and pictures, or one file that `tables.read` reads.
        photos: the folder of pictures; by default the one in `source`, or beside the article file.
        columns: field → column name, where the names in the file are unusual. Fields: `editions.FIELDS`.
        subset: only articles of this subset, and the pictures that its rows name.
        exclude: patterns of pictures to leave out, as in a .gitignore.

    Raises:
        UsageError: no such folder, column, field or subset.
        DataError: there is no article in it, or a file that was named cannot be read.
        MissingExtra: a Parquet or BSON file without its library.
    """
    source = Path(source)
    if not source.exists():
        raise UsageError(f"{source} does not exist; give a data folder or an article file")
    if photos is not None and not Path(photos).is_dir():
        raise UsageError(f"{photos} is not a folder; give the folder that holds the pictures")
    reader = _Reader(dict(columns or {}))
    if source.is_dir():
        reader.folder(source)
    else:
        reader.table(tables.read(source, unfold=editions.unfold), many=False)
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
    found = gather(Path(folder), exclude=exclude)
    return found.photos, found.faults


class _Reader:
    """Collects articles, pairs and listed pictures from one table after the other."""

    def __init__(self, columns: dict[str, str]) -> None:
        self.override = columns
        self.columns: dict[str, str] = {}
        self.editions: dict[str, str] = {}
        self.articles: dict[str, Article] = {}
        self.edition_of: dict[str, str] = {}
        self.pairs: dict[tuple[str, str], None] = {}
        self.listed: dict[str, Listed] = {}
        self.faults: list[Fault] = []

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
                self.table(tables.read(path, name=name, unfold=editions.unfold), many=len(found) > 1)
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
        self.editions.setdefault(layout.edition, f"{table.name}: {layout.evidence}")
        if "title" in rows.at and len(rows.at) > len(self.columns):
            self.columns = {name: table.header[position] for name, position in rows.at.items()}
        for row in table.rows:
            self.row(rows, row)

    def row(self, rows: _Rows, row: tables.Row) -> None:
        """One row is an article, perhaps with its picture, or only a listed picture; or it is left out with a fault."""
        where = f"{rows.name}:{row.line}"
        cells, repairs = rows.cells(row)
        subset, photo = cells["subset"] or rows.subset, cells["photo"] or cells["file"]
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
                what = f"article id stands twice: {key}, first in {first.where}"
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
        articles, listed = tuple(self.articles.values()), tuple(self.listed.values())
        if subset is not None:
            known = ", ".join(sorted({article.subset for article in articles} - {""}))
            articles = tuple(article for article in articles if article.subset == subset)
            if not articles:
                raise UsageError(f"no article of subset {subset!r}; subsets are: {known or 'none'}")
        ids = {article.id for article in articles}
        pairs = [pair for pair in self.pairs if pair[0] in ids]
        if subset is not None:
            shown = {photo for _, photo in pairs}
            listed = tuple(item for item in listed if item.subset == subset or item.photo in shown)
        found = gather(folder, listed, exclude=exclude)
        only = {item.photo for item in found.listed} if subset is not None and listed else None
        photos = tuple(photo for photo in found.photos if only is None or photo.id in only)
        truth = tuple(dict.fromkeys(Pair(article, found.renamed.get(photo, photo)) for article, photo in pairs))
        names = [name for name in self.editions if name] or [""]
        edition = " + ".join(names) or OWN_TABLE
        evidence = "; ".join(self.editions[name] for name in names)
        faults = (*self.faults, *found.faults)
        return Dataset(articles, photos, truth, edition, evidence, self.columns, faults, found.listed)


class _Rows:
    """The cells of one table by field, with what a closer look at its columns showed."""

    def __init__(self, table: tables.Table, layout: editions.Layout, subset: str) -> None:
        self.name = table.name
        self.edition = layout.edition
        self.subset = subset
        self.at = dict(layout.at)
        self.faults: list[Fault] = []
        self._key(table, layout.keys)
        self.limits = {name: _limit(table, position) for name, position in self.at.items() if name in ("lead", "text")}
        names = [plain for header in table.header if (plain := editions.plain(header))]
        for name in sorted({name for name in names if names.count(name) > 1}):
            what = f"column name stands twice: {name}"
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
            else:
                found[name] = " ".join(cell.split())
        return found, repairs


def _limit(table: tables.Table, position: int) -> int:
    """How many characters a column's texts were cut to, or 0 if they were not.

    Texts that were cut share one greatest length; whole texts hardly do.
    """
    lengths = [len(row.cells[position].rstrip()) for row in table.rows]
    longest = max(lengths, default=0)
    return longest if longest >= 100 and lengths.count(longest) >= max(5, len(lengths) / 20) else 0
