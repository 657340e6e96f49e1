"""Rows of a SQLite database that are sealed: each has the digest of its other columns in its column `seal`, so that
damage to any of them shows.

The seals are set by triggers of the connection, whatever statement changes a row. SQLite itself sees only damage to its
trees. `connect` opens such a database, also where nothing can be written.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote


def connect(path: Path) -> tuple[sqlite3.Connection, bool]:
    """A connection without transactions of its own in WAL mode, and whether it can only read, for
    the medium is read-only or full.

    Raises:
        sqlite3.Error: it cannot be opened.
    """
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=30)
    try:
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=FULL")
        db.execute("PRAGMA user_version")
        return db, False
    except sqlite3.Error as error:
        db.close()
        log = path.with_name(f"{path.name}-wal")
        if (
            error.sqlite_errorcode & 0xFF not in _UNWRITABLE
            or not path.exists()
            or (log.exists() and log.stat().st_size)
        ):
            raise  # what was last written may be in the log alone
    # nobody can write there, or it would be this process, which holds the lock
    name = f"file:{quote(str(path.absolute()))}?mode=ro&immutable=1"
    return sqlite3.connect(name, uri=True, isolation_level=None, check_same_thread=False), True


_UNWRITABLE = (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL)


def install(db: sqlite3.Connection) -> None:
    """Seal every row that this connection inserts or updates, in all tables that have a column `seal`."""
    db.create_function("seal_of", -1, seal_of, deterministic=True)
    for table, columns, key in _tables(db):
        values, same = ", ".join(f"new.{c}" for c in columns), " AND ".join(f"{c} IS new.{c}" for c in key)
        change = f"UPDATE {table} SET seal = seal_of({values}) WHERE {same}"  # noqa: S608  names of our schema
        for event in ("INSERT", f"UPDATE OF {', '.join(columns)}"):
            when = f"seal_{table}_{event[:6]} AFTER {event} ON main.{table}"
            db.execute(f"CREATE TEMP TRIGGER {when} BEGIN {change}; END")


def seal_all(db: sqlite3.Connection) -> None:
    """Seal all rows as they are, in the transaction at hand."""
    db.create_function("seal_of", -1, seal_of, deterministic=True)
    for table, columns, _ in _tables(db):
        db.execute(f"UPDATE {table} SET seal = seal_of({', '.join(columns)})")  # noqa: S608  as above


def broken(db: sqlite3.Connection, only: str = "") -> Iterator[tuple[str, str]]:
    """(table, key) of rows that are not as they were written, of all tables or only one.

    Raises:
        sqlite3.Error: the database is damaged so much that its rows cannot be read.
    """
    for table, columns, key in _tables(db):
        if only and table != only:
            continue
        text, db.text_factory = db.text_factory, lambda raw: raw.decode("utf-8", "surrogateescape")
        try:
            for *row, seal in db.execute(f"SELECT {', '.join(columns)}, seal FROM {table}"):  # noqa: S608  as above
                if seal != seal_of(*row):
                    yield table, " ".join(str(row[columns.index(c)]) for c in key).encode("ascii", "replace").decode()
        finally:
            db.text_factory = text


def seal_of(*values: object) -> bytes:
    """Digest of the values of a row, and of their types."""
    return hashlib.blake2b(repr(values).encode("utf-8", "surrogatepass"), digest_size=8).digest()


def _tables(db: sqlite3.Connection) -> list[tuple[str, list[str], list[str]]]:
    """Tables with a column `seal`: name, other columns, primary key."""
    found = []
    for (table,) in db.execute("SELECT name FROM main.sqlite_schema WHERE type = 'table' ORDER BY name").fetchall():
        about = db.execute(f"PRAGMA main.table_info({table})").fetchall()
        columns = [name for _, name, *_ in about]
        if "seal" in columns:
            columns.remove("seal")
            found.append((table, columns, [name for _, name, *_, key in about if key]))
    return found
