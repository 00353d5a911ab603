"""The store of a study: one SQLite file in WAL mode, written by the driver alone."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import pathlib
import sqlite3
import time
from collections.abc import Iterable, Iterator
from typing import Any

from tfshape import atomic, checks, folders, strict_json
from tfshape.studies.study import SCHEMA, Study

FILE = "study.sqlite"
_REMEDY = "restore it from a copy, or begin again in a new folder, into which cache/ can be copied"
_COLUMNS = {  # of each table, beside sha256, the checksum of a row's other columns
    "study": ("name", "value"),
    "points": ("point", "config", "grid"),
    "trials": ("key", "point", "trial", "status", "attempts", "seconds", "finished", "error"),
    "results": ("key", "result"),
}
_TABLES = """
CREATE TABLE study (name TEXT PRIMARY KEY, value TEXT NOT NULL, sha256 TEXT NOT NULL);
CREATE TABLE points (
    point INTEGER PRIMARY KEY, config TEXT UNIQUE NOT NULL, grid TEXT NOT NULL, sha256 TEXT NOT NULL
);
CREATE TABLE trials (
    key TEXT PRIMARY KEY,
    point INTEGER NOT NULL REFERENCES points,
    trial INTEGER NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('waiting', 'running', 'done', 'failed')),
    attempts INTEGER NOT NULL DEFAULT 0,
    seconds REAL,
    finished REAL,
    error TEXT,
    sha256 TEXT NOT NULL,
    UNIQUE (point, trial)
);
CREATE INDEX progress ON trials (status, finished, seconds);
CREATE TABLE results (key TEXT PRIMARY KEY REFERENCES trials, result TEXT NOT NULL, sha256 TEXT NOT NULL);
"""


class Store:
    """The rows of a study.

    Tables: points (a configuration each), trials (a row a trial: its key, status, error, times), results (what the
    trial function gave, as JSON). A result and its trial's status change in one transaction, on the disk when `save`
    returns. Every row has a checksum, so that no number that was changed on the disk passes for a result.
    """

    def __init__(self, folder: str | os.PathLike, create: bool = False) -> None:
        """Opens the store in `folder`.

        Args:
            folder: of the study.
            create: whether to make a store if there is none, and to give one of schema 1 its checksums; else such a
                one is read as it is.

        Raises:
            ValueError: there is none, and `create` is False; or it is damaged, a link, or of an unknown schema.
            OSError: it cannot be opened, or the disk is full.
        """
        for name in (FILE, f"{FILE}-wal", f"{FILE}-shm", f"{FILE}-journal"):
            folders.inside(folder, name)
        self._path = path = pathlib.Path(folder) / FILE
        with self._errors():
            if create and not exists(folder):
                _create(path)
            checks.require("study", exists(folder), f"a folder that bin/sweep wrote, with {FILE}", str(folder))
            self._connection = self._prepared(sqlite3.connect(path, isolation_level=None, timeout=60))
        try:
            with self._errors():
                self._open(create)
        except BaseException:
            self.close()
            raise

    @staticmethod
    def _prepared(connection):
        connection.row_factory = sqlite3.Row
        connection.create_function("seal", -1, _seal, deterministic=True)
        return connection

    def _open(self, create: bool) -> None:
        self._connection.execute("PRAGMA synchronous=FULL")  # finished is finished, also without power
        self._require(self.check() == "ok", "SQLite finds faults in it")
        row = self._connection.execute("SELECT value FROM study WHERE name = 'schema'").fetchone()
        if row is not None and row["value"] == "1":
            if not create:  # a reader leaves the file as it is
                copy = self._prepared(sqlite3.connect(":memory:", isolation_level=None))
                self._connection.backup(copy)
                self._connection.close()
                self._connection = copy
            self._give_checksums()
        elif row is None or row["value"] != str(SCHEMA):
            found = None if row is None else row["value"]
            raise ValueError(f"{self._shown()} must be of schema 1 or {SCHEMA}, got {checks.shown(found)}")
        with contextlib.closing(sqlite3.connect(":memory:")) as new:
            new.executescript(_TABLES)
            schemas = [connection.execute("SELECT sql FROM sqlite_master") for connection in (new, self._connection)]
            expected, found = (sorted(filter(None, (row[0] for row in rows))) for rows in schemas)
        self._require(expected == found, "its tables are others")
        for table in ("study", "points", "trials"):
            wrong = f"SELECT COUNT(*) FROM {table} WHERE sha256 IS NOT seal({', '.join(_COLUMNS[table])})"
            self._require(not self._connection.execute(wrong).fetchone()[0], f"a checksum of {table} does not match")
        odd = (
            "SELECT COUNT(*) FROM trials LEFT JOIN results USING (key) WHERE (status = 'done') != (result IS NOT NULL)"
        )
        self._require(not self._connection.execute(odd).fetchone()[0], "results and trials do not match")

    def _give_checksums(self):
        """Makes a store of schema 1, whose JSON may hold NaN and Infinity, one of this schema."""
        rows = {
            table: [tuple(row) for row in self._connection.execute(f"SELECT {', '.join(columns)} FROM {table}")]
            for table, columns in _COLUMNS.items()
        }
        rows["study"] = [(name, str(SCHEMA) if name == "schema" else value) for name, value in rows["study"]]
        spell = strict_json.canonical
        rows["points"] = [
            (point, spell(_old(config)), strict_json.dumps(_old(grid))) for point, config, grid in rows["points"]
        ]
        rows["results"] = [(key, strict_json.dumps(_old(result))) for key, result in rows["results"]]
        with self._transaction() as connection:
            for table in reversed(_COLUMNS):
                connection.execute(f"DROP TABLE {table}")
            for statement in filter(str.strip, _TABLES.split(";")):
                connection.execute(statement)
            for table, entries in rows.items():
                _insert(connection, table, entries)

    def _shown(self):
        return checks.escaped(str(self._path))

    def _require(self, good, fault):
        if not good:
            raise ValueError(f"{self._shown()} is damaged: {fault}; {_REMEDY}")

    @contextlib.contextmanager
    def _errors(self):
        """Raises what SQLite says of the file as one line that names it."""
        try:
            yield
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:  # the latter while it tells of a damaged name
            words = str(error)
            if "disk is full" in words:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._path)) from None
            if "disk I/O" in words:
                raise OSError(errno.EIO, f"{os.strerror(errno.EIO)}, as of a full disk", str(self._path)) from None
            if "readonly" in words or "unable to open" in words:
                raise OSError(errno.EACCES, words, str(self._path)) from None
            if "locked" in words:
                raise ValueError(f"{self._shown()} is locked by another program; try again when it has ended") from None
            raise ValueError(f"{self._shown()} is damaged: {checks.escaped(words)}; {_REMEDY}") from None

    def _rows(self, query, values=()):
        with self._errors():
            return self._connection.execute(query, values).fetchall()

    def close(self) -> None:
        """Closes the file."""
        self._connection.close()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()

    @contextlib.contextmanager
    def _transaction(self):
        with self._errors():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def about(self, name: str) -> str | None:
        """What `note` kept under a name, or None."""
        rows = self._rows("SELECT value FROM study WHERE name = ?", (name,))
        return rows[0]["value"] if rows else None

    def note(self, **values: str) -> None:
        """Keeps words about the study by name."""
        with self._transaction() as connection:
            connection.executemany("DELETE FROM study WHERE name = ?", [(name,) for name in values])
            _insert(connection, "study", values.items())

    def plan(self, study: Study) -> list[str]:
        """Adds the trials of a `Study` that are not there yet; those that an earlier driver left running wait again.

        Returns:
            The keys of this study's trials, a list in the order of its points.

        Raises:
            ValueError: the store holds points or trials that are not of this study: of other experiments, other data,
                a version of this package whose trials give other numbers, or another content of what is imported.
        """
        folder = f"study={checks.shown(str(study.folder))}"
        known = {row["config"]: row["point"] for row in self.points()}
        wanted = {strict_json.canonical(point.config): point for point in study.points}
        if not known.keys() <= wanted.keys():
            raise ValueError(f"{folder} holds another study; use a new folder")
        existing = {(row["point"], row["trial"]): row["key"] for row in self.trials()}
        keys, added, fresh = [], [], []
        for config, point in wanted.items():
            if config not in known:
                known[config] = len(known)
                fresh.append((known[config], config, strict_json.dumps(point.values)))
            for trial in range(point.trials):
                key, place = study.key(point, trial), (known[config], trial)
                if existing.get(place, key) != key:
                    words = "of other data, of another --import, or of a tfshape whose trials give other numbers"
                    raise ValueError(f"{folder} is {words}; use a new folder")
                keys.append(key)
                if place not in existing:
                    added.append((key, *place, "waiting", 0, None, None, None))
        with self._transaction() as connection:
            _insert(connection, "points", fresh)
            _insert(connection, "trials", added)
            _update(connection, "status = 'running'", status="'waiting'")
        return keys

    def retry_failed(self) -> int:
        """Lets failed trials wait again. Returns how many."""
        with self._transaction() as connection:
            return _update(connection, "status = 'failed'", status="'waiting'", error="NULL", attempts="0")

    def save(
        self,
        started: Iterable[str] = (),
        finished: Iterable[tuple] = (),
        failed: Iterable[tuple] = (),
        waiting: Iterable[str] = (),
    ) -> None:
        """Puts what happened on the disk, all or nothing.

        Args:
            started: keys of trials that run now.
            finished: (key, seconds, result) of trials that are done; the result is a JSON value.
            failed: (key, seconds, error) of trials that are given up, seconds possibly None.
            waiting: keys of trials whose worker died, and that wait again.
        """
        finished, failed = list(finished), list(failed)
        now, key, ended = time.time(), "key = :key", {"seconds": ":seconds", "finished": ":now"}
        done = [{"key": k, "seconds": _float(seconds), "now": now} for k, seconds, _ in finished]
        lost = [{"key": k, "seconds": _float(s), "error": error, "now": now} for k, s, error in failed]
        with self._transaction() as connection:
            keys = [{"key": k} for k in started]
            _update(connection, key, keys, status="'running'", attempts="attempts + 1")
            _update(connection, key, [{"key": k} for k in waiting], status="'waiting'")
            _insert(connection, "results", [(k, strict_json.dumps(result)) for k, _, result in finished])
            _update(connection, key, done, status="'done'", **ended)
            _update(connection, key, lost, status="'failed'", error=":error", **ended)

    def points(self) -> list[sqlite3.Row]:
        """All points: rows of point, config and grid (JSON)."""
        return self._rows("SELECT * FROM points ORDER BY point")

    def trials(self, status: str | None = None) -> list[sqlite3.Row]:
        """All trials, or those of a status: rows of what the table holds, in the order of point and trial."""
        where, values = ("", ()) if status is None else ("WHERE status = ?", (status,))
        return self._rows(f"SELECT * FROM trials {where} ORDER BY point, trial", values)

    def results(self) -> Iterator[tuple[int, int, Any]]:
        """The results of trials that are done: yields (point, trial, result) in the order of point and trial; numbers
        that JSON lacks are as in `strict_json.numbers`."""
        whole = "results.sha256 IS seal(results.key, result) AS whole"
        query = f"SELECT point, trial, result, {whole} FROM trials JOIN results USING (key) ORDER BY point, trial"
        with self._errors():
            for row in self._connection.execute(query):
                place = f"point {row['point']} trial {row['trial']}"
                self._require(row["whole"], f"the checksum of the result of {place} does not match")
                yield row["point"], row["trial"], strict_json.numbers(strict_json.loads(row["result"]))

    def counts(self) -> dict[str, int]:
        """Dict of status to how many trials have it."""
        rows = self._rows("SELECT status, COUNT(*) FROM trials GROUP BY status")
        return {"waiting": 0, "running": 0, "done": 0, "failed": 0, **{row[0]: row[1] for row in rows}}

    def finished_since(self, moment: float) -> int:
        """How many trials were done or given up since a `time.time()`."""
        query = "SELECT COUNT(*) FROM trials WHERE status IN ('done', 'failed') AND finished >= ?"
        return self._rows(query, (moment,))[0][0]

    def last_finished(self) -> float | None:
        """The `time.time()` at which the last trial ended, or None."""
        return self._rows("SELECT MAX(finished) FROM trials")[0][0]

    def check(self) -> str:
        """What SQLite says of the file's integrity: "ok"."""
        return self._rows("PRAGMA integrity_check(1)")[0][0]


def _create(path):
    """Makes the file with all its tables, or none."""
    with atomic.replacing(path) as temporary, contextlib.closing(sqlite3.connect(temporary)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")  # lasts; two who switched at once would lock each other out
        connection.executescript(_TABLES)
        _insert(connection, "study", [("schema", str(SCHEMA))])
        connection.commit()


def exists(folder: str | os.PathLike) -> bool:
    """Whether there is a study in a folder."""
    return (pathlib.Path(folder) / FILE).is_file()


def known(study: Study) -> bool:
    """Whether the folder of a `Study` holds all of its points already."""
    if not exists(study.folder):
        return False
    with Store(study.folder) as store:
        return {strict_json.canonical(point.config) for point in study.points} <= {
            row["config"] for row in store.points()
        }


def _insert(connection, table, rows):
    places = ", ".join("?" * (len(_COLUMNS[table]) + 1))
    connection.executemany(f"INSERT INTO {table} VALUES ({places})", [(*row, _seal(*row)) for row in rows])


def _update(connection, where, entries=({},), **changes):
    """Changes trials, and their checksums with them. Returns how many.

    where: SQL condition. entries: values of the names in it and in `changes`, a dict for each of them. changes: SQL
    expressions by column.
    """
    sets = ", ".join(f"{name} = {value}" for name, value in changes.items())
    sealed = ", ".join(changes.get(name, name) for name in _COLUMNS["trials"])
    return connection.executemany(f"UPDATE trials SET {sets}, sha256 = seal({sealed}) WHERE {where}", entries).rowcount


def _seal(*values):
    """The checksum of a row's values."""
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()


def _float(value):
    return None if value is None else float(value)  # as SQLite keeps it


def _old(text):
    return strict_json.loads(text, lenient=True)
