"""The store of a study: one SQLite file in WAL mode, written by the driver alone."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import sqlite3
import time
from collections.abc import Iterable, Iterator
from typing import Any

import tfshape
from tfshape import atomic, checks
from tfshape.studies.study import SCHEMA, Study

FILE = "study.sqlite"
_TABLES = """
CREATE TABLE study (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE points (point INTEGER PRIMARY KEY, config TEXT UNIQUE NOT NULL, grid TEXT NOT NULL);
CREATE TABLE trials (
    key TEXT PRIMARY KEY,
    point INTEGER NOT NULL REFERENCES points,
    trial INTEGER NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('waiting', 'running', 'done', 'failed')),
    attempts INTEGER NOT NULL DEFAULT 0,
    seconds REAL,
    finished REAL,
    error TEXT,
    UNIQUE (point, trial)
);
CREATE INDEX progress ON trials (status, finished, seconds);
CREATE TABLE results (key TEXT PRIMARY KEY REFERENCES trials, result TEXT NOT NULL);
"""


class Store:
    """The rows of a study.

    Tables: points (a configuration each), trials (a row a trial: its key, status, error, times), results (what the
    trial function gave, as JSON). A result and its trial's status change in one transaction, on the disk when `save`
    returns.
    """

    def __init__(self, folder: str | os.PathLike, create: bool = False) -> None:
        """Opens the store in `folder`.

        Raises:
            ValueError: there is none, and `create` is False; or it is damaged or not one of this version.
        """
        path = pathlib.Path(folder) / FILE
        if create and not exists(folder):
            _create(path)
        checks.require("study", exists(folder), f"a folder that bin/sweep wrote, with {FILE}", str(folder))
        try:
            self._connection = sqlite3.connect(path, isolation_level=None, timeout=60)
            self._connection.row_factory = sqlite3.Row
            self._connection.execute("PRAGMA synchronous=FULL")  # finished is finished, also without power
            found = self.about("schema")
        except sqlite3.DatabaseError as error:
            raise ValueError(
                f"study={str(folder)!r}: {FILE} cannot be used ({error}); allowed is a whole one"
            ) from None
        checks.require("study", found == str(SCHEMA), f"a study of schema {SCHEMA}", str(folder))

    def close(self) -> None:
        """Closes the file."""
        self._connection.close()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()

    @contextlib.contextmanager
    def _transaction(self):
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield self._connection
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    def about(self, name: str) -> str | None:
        """What `note` kept under a name, or None."""
        row = self._connection.execute("SELECT value FROM study WHERE name = ?", (name,)).fetchone()
        return None if row is None else row[0]

    def note(self, **values: str) -> None:
        """Keeps words about the study by name."""
        with self._transaction() as connection:
            connection.executemany("INSERT OR REPLACE INTO study VALUES (?, ?)", values.items())

    def plan(self, study: Study) -> list[str]:
        """Adds the trials of a `Study` that are not there yet; those that an earlier driver left running wait again.

        Returns:
            The keys of this study's trials, a list in the order of its points.

        Raises:
            ValueError: the store holds points or trials that are not of this study: of other experiments, of other
                data, or of another version of this package.
        """
        folder, other = str(study.folder), "a new folder; this one holds another study"
        known = {row["config"]: row["point"] for row in self.points()}
        wanted = {_canonical(point.config): point for point in study.points}
        checks.require("study", known.keys() <= wanted.keys(), other, folder)
        existing = {(row["point"], row["trial"]): row["key"] for row in self.trials()}
        keys, added, fresh = [], [], []
        for config, point in wanted.items():
            if config not in known:
                known[config] = len(known)
                fresh.append((known[config], config, json.dumps(point.values)))
            for trial in range(point.trials):
                key, place = study.key(point, trial), (known[config], trial)
                same = existing.get(place, key) == key
                words = f"a new folder; this one is of other data or not of tfshape {tfshape.__version__}"
                checks.require("study", same, words, folder)
                keys.append(key)
                if place not in existing:
                    added.append((key, *place))
        with self._transaction() as connection:
            connection.executemany("INSERT INTO points VALUES (?, ?, ?)", fresh)
            connection.executemany("INSERT INTO trials (key, point, trial, status) VALUES (?, ?, ?, 'waiting')", added)
            connection.execute("UPDATE trials SET status = 'waiting' WHERE status = 'running'")
        return keys

    def retry_failed(self) -> int:
        """Lets failed trials wait again. Returns how many."""
        with self._transaction() as connection:
            changes = "status = 'waiting', error = NULL, attempts = 0"
            return connection.execute(f"UPDATE trials SET {changes} WHERE status = 'failed'").rowcount

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
        now = time.time()
        with self._transaction() as connection:
            for change in (
                (
                    "UPDATE trials SET status = 'running', attempts = attempts + 1 WHERE key = ?",
                    [(k,) for k in started],
                ),
                ("UPDATE trials SET status = 'waiting' WHERE key = ?", [(key,) for key in waiting]),
                ("INSERT INTO results VALUES (?, ?)", [(key, json.dumps(result)) for key, _, result in finished]),
                (
                    "UPDATE trials SET status = 'done', seconds = ?, finished = ? WHERE key = ?",
                    [(seconds, now, key) for key, seconds, _ in finished],
                ),
                (
                    "UPDATE trials SET status = 'failed', seconds = ?, error = ?, finished = ? WHERE key = ?",
                    [(seconds, error, now, key) for key, seconds, error in failed],
                ),
            ):
                if change[1]:
                    connection.executemany(*change)

    def points(self) -> list[sqlite3.Row]:
        """All points: rows of point, config and grid (JSON)."""
        return self._connection.execute("SELECT * FROM points ORDER BY point").fetchall()

    def trials(self, status: str | None = None) -> list[sqlite3.Row]:
        """All trials, or those of a status: rows of what the table holds, in the order of point and trial."""
        where, values = ("", ()) if status is None else ("WHERE status = ?", (status,))
        return self._connection.execute(f"SELECT * FROM trials {where} ORDER BY point, trial", values).fetchall()

    def results(self) -> Iterator[tuple[int, int, Any]]:
        """The results of trials that are done: yields (point, trial, result) in the order of point and trial."""
        query = "SELECT point, trial, result FROM trials JOIN results USING (key) ORDER BY point, trial"
        for row in self._connection.execute(query):
            yield row["point"], row["trial"], json.loads(row["result"])

    def counts(self) -> dict[str, int]:
        """Dict of status to how many trials have it."""
        rows = self._connection.execute("SELECT status, COUNT(*) FROM trials GROUP BY status")
        return {"waiting": 0, "running": 0, "done": 0, "failed": 0, **{row[0]: row[1] for row in rows}}

    def finished_since(self, moment: float) -> int:
        """How many trials were done or given up since a `time.time()`."""
        query = "SELECT COUNT(*) FROM trials WHERE status IN ('done', 'failed') AND finished >= ?"
        return self._connection.execute(query, (moment,)).fetchone()[0]

    def last_finished(self) -> float | None:
        """The `time.time()` at which the last trial ended, or None."""
        return self._connection.execute("SELECT MAX(finished) FROM trials").fetchone()[0]

    def check(self) -> str:
        """What SQLite says of the file's integrity: "ok"."""
        return self._connection.execute("PRAGMA integrity_check").fetchone()[0]


def _create(path):
    """Makes the file with all its tables, or none."""
    with atomic.replacing(path) as temporary, contextlib.closing(sqlite3.connect(temporary)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")  # lasts; two who switched at once would lock each other out
        connection.executescript(_TABLES)
        connection.execute("INSERT INTO study VALUES ('schema', ?)", (str(SCHEMA),))
        connection.commit()


def exists(folder: str | os.PathLike) -> bool:
    """Whether there is a study in a folder."""
    return (pathlib.Path(folder) / FILE).is_file()


def known(study: Study) -> bool:
    """Whether the folder of a `Study` holds all of its points already."""
    if not exists(study.folder):
        return False
    with Store(study.folder) as store:
        return {_canonical(point.config) for point in study.points} <= {row["config"] for row in store.points()}


def _canonical(value):
    return json.dumps(value, sort_keys=True)
