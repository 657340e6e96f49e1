"""What a desk did with its photos, in the database of its archive: uses in print or online, released embargoes, picks,
the bank of articles."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from photodesk.archive.database import Database, now
from photodesk.engines.schema import is_day
from photodesk.errors import StoreError, UsageError
from photodesk.types import Article, FloatArray


@dataclass(frozen=True, slots=True)
class Pick:
    """A photo that somebody chose for an article, at `rank` (from 1) of what was found, at `at` (ISO 8601, UTC)."""

    article: Article
    photo: str
    rank: int
    score: float
    at: str = ""


class UsageLog:
    """Uses, releases, picks and bank in a database; every method is one transaction, on disk when it returns."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def use(self, photos: Sequence[str], day: str = "", article: str = "") -> str:
        """Note that photos were printed or put online on a day, with which article.

        Args:
            photos: ids.
            day: YYYY-MM-DD; empty is today.
            article: title, address, number: whatever names it.

        Returns:
            the day.

        Raises:
            UsageError: that is no day.
        """
        day = day or now()[:10]
        if not is_day(day):
            raise UsageError(f"{day!r} is no day; expected YYYY-MM-DD, such as 2024-05-31")
        rows = ((photo, day, article) for photo in photos)
        self.database.write("INSERT OR IGNORE INTO uses (photo, day, article) VALUES (?, ?, ?)", *rows)
        return day

    def used(self, since: str) -> dict[str, str]:
        """Photos used on or after a day, with the last day of each; a pick that stands is a use of its day."""
        asked = (
            "SELECT photo, max(day) FROM (SELECT photo, day FROM uses WHERE day >= ?1 UNION ALL"
            " SELECT photo, substr(at, 1, 10) FROM picks WHERE withdrawn = '' AND at >= ?1) GROUP BY photo"
        )
        found = {str(photo): str(day) for photo, day in self.database.ask(asked, (since,))}
        if wrong := [day for day in found.values() if not is_day(day)]:
            self.database.check("uses")
            self.database.check("picks")
            raise StoreError(f"a photo was used on {wrong[0]!r}, which is no day; see: photodesk archive verify")
        return found

    def release(self, photos: Mapping[str, str], until: str) -> None:
        """Note when the embargo of photos (id → their usage terms) ends, whatever the terms say; an empty moment takes
        that back."""
        with self.database.change() as db:
            db.executemany("DELETE FROM releases WHERE photo = ?", [(photo,) for photo in photos])
            if until:
                rows = [(photo, terms, until, now()) for photo, terms in photos.items()]
                db.executemany("INSERT INTO releases (photo, terms, until, at) VALUES (?, ?, ?, ?)", rows)

    def released(self, photos: Iterable[str]) -> dict[str, tuple[str, str]]:
        """Those of some photos that were released: id → their usage terms then, and the moment, ISO 8601."""
        asked = "SELECT photo, terms, until FROM releases WHERE photo IN (SELECT value FROM json_each(?))"
        rows = self.database.ask(asked, (json.dumps(list(photos)),))
        return {str(photo): (str(terms), str(until)) for photo, terms, until in rows}

    def pick(self, pick: Pick) -> None:
        """Note a choice."""
        about = {name: value for name in Article.__slots__ if (value := getattr(pick.article, name))}
        row = (pick.at or now(), json.dumps(about, ensure_ascii=False), pick.photo, pick.rank, pick.score)
        self.database.write("INSERT INTO picks (at, article, photo, rank, score) VALUES (?, ?, ?, ?, ?)", row)

    def withdraw(self, article: str, photo: str) -> str:
        """Take back every choice of a photo for an article (id) that stands; the database keeps them, and when
        they were taken back.

        Returns:
            that time; empty if no such choice stands.
        """
        at = now()
        with self.database.change() as db:
            found = db.execute(
                "UPDATE picks SET withdrawn = ? WHERE withdrawn = '' AND json_extract(article, '$.id') = ? AND photo = "
                "?",
                (at, article, photo),
            )
            return at if found.rowcount else ""

    def picked(self, article: str) -> set[str]:
        """Photos whose choice for an article (id) stands."""
        asked = "SELECT photo FROM picks WHERE withdrawn = '' AND json_extract(article, '$.id') = ?"
        return {str(photo) for (photo,) in self.database.ask(asked, (article,))}

    def picks(self) -> list[Pick]:
        """All choices that stand, oldest first."""
        self.database.check("picks")
        rows = self.database.ask("SELECT article, photo, rank, score, at FROM picks WHERE withdrawn = '' ORDER BY pick")
        return [
            Pick(Article(**json.loads(str(a))), str(p), int(str(r)), float(str(s)), str(at)) for a, p, r, s, at in rows
        ]

    def add_to_bank(self, articles: Sequence[str], rows: FloatArray) -> None:
        """Articles (ids) and their (n, d) float32 rows, standing for the queries to come."""
        made = ((name, np.asarray(row, "<f4").tobytes(), now()) for name, row in zip(articles, rows, strict=True))
        self.database.write("INSERT OR REPLACE INTO bank (article, row, added) VALUES (?, ?, ?)", *made)

    def bank(self) -> tuple[tuple[str, ...], FloatArray]:
        """Ids, ascending, and (n, d) float32 rows of the bank; (0, 0) where it is empty."""
        self.database.check("bank")
        found = self.database.ask("SELECT article, row FROM bank ORDER BY article")
        rows = np.frombuffer(b"".join(row for _, row in found if isinstance(row, bytes)), "<f4").astype(np.float32)
        return tuple(str(name) for name, _ in found), rows.reshape(len(found), -1) if found else np.empty(
            (0, 0), np.float32
        )
