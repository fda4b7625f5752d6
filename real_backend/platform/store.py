"""What outlives the platform: actions, packages and activations in an SQLite file.

Every write is one transaction in write-ahead mode: it survives the death of the process, if not the machine's.  A
write that fails, on a full disk for instance, changes nothing.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from real_backend.platform.errors import ApiError
from real_backend.platform.records import Action, Package, failure, summary_of

_SCHEMA = """
CREATE TABLE IF NOT EXISTS actions (package TEXT NOT NULL, name TEXT NOT NULL, body TEXT NOT NULL,
    PRIMARY KEY (package, name)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS packages (name TEXT PRIMARY KEY, body TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS activations (id TEXT PRIMARY KEY, name TEXT NOT NULL, path TEXT NOT NULL,
    start INTEGER NOT NULL, finished INTEGER NOT NULL, body TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS activations_by_start ON activations (start);
CREATE INDEX IF NOT EXISTS activations_unfinished ON activations (finished) WHERE finished = 0;
"""


class StoreError(ApiError):
    """The state file cannot be written; nothing was changed."""


class Store:
    """The state file.

    Args:
        file: Where it is; made when missing.
        keep_activations: How many finished activations are kept when it is opened.

    Raises:
        StoreError: It cannot be opened; so do all methods that write.
    """

    def __init__(self, file: Path, keep_activations: int) -> None:
        self._file = file
        try:
            self._db = sqlite3.connect(file, isolation_level=None)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = NORMAL")
            self._db.executescript(_SCHEMA)
            self._db.execute(
                "DELETE FROM activations WHERE rowid <= (SELECT max(rowid) FROM activations) - ?", (keep_activations,)
            )
        except sqlite3.Error as error:
            raise self._cannot(error) from error

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def _write(self, statement: str, values: Sequence[object]) -> None:
        try:
            self._db.execute(statement, values)
        except sqlite3.Error as error:
            raise self._cannot(error) from error

    def _cannot(self, error: sqlite3.Error) -> StoreError:
        return StoreError(507, f"The platform cannot write its state ({self._file}): {error}.")

    def put_action(self, action: Action) -> None:
        """Store an action in place of the one with its name."""
        self._write(
            "INSERT OR REPLACE INTO actions VALUES (?, ?, ?)",
            (action.package or "", action.name, action.model_dump_json()),
        )

    def delete_action(self, action: Action) -> None:
        """Forget an action."""
        self._write("DELETE FROM actions WHERE package = ? AND name = ?", (action.package or "", action.name))

    def actions(self) -> list[Action]:
        """All actions."""
        return [Action.model_validate_json(body) for (body,) in self._db.execute("SELECT body FROM actions")]

    def put_package(self, package: Package) -> None:
        """Store a package in place of the one with its name."""
        self._write("INSERT OR REPLACE INTO packages VALUES (?, ?)", (package.name, package.model_dump_json()))

    def delete_package(self, name: str) -> None:
        """Forget a package."""
        self._write("DELETE FROM packages WHERE name = ?", (name,))

    def packages(self) -> list[Package]:
        """All packages."""
        return [Package.model_validate_json(body) for (body,) in self._db.execute("SELECT body FROM packages")]

    def accept(self, record: dict[str, Any], path: str) -> None:
        """Note an activation that has not finished."""
        self._write(
            "INSERT INTO activations VALUES (?, ?, ?, ?, 0, ?)",
            (record["activationId"], record["name"], path, record["start"], json.dumps(record)),
        )

    def finish(self, record: dict[str, Any]) -> None:
        """Store the record of a finished activation; again when its logs are there."""
        self._write(
            "UPDATE activations SET start = ?, finished = 1, body = ? WHERE id = ?",
            (record["start"], json.dumps(record), record["activationId"]),
        )

    def fail_unfinished(self, message: str) -> int:
        """Finish what a platform that died left running, as an internal error; returns how many there were."""
        left = [json.loads(body) for (body,) in self._db.execute("SELECT body FROM activations WHERE finished = 0")]
        for record in left:
            record["response"] = failure("whisk internal error", message)
            record["end"] = record["start"]
            self.finish(record)
        return len(left)

    def activation(self, activation: str) -> dict[str, Any] | None:
        """A finished activation, or None."""
        row = self._db.execute("SELECT body FROM activations WHERE id = ? AND finished", (activation,)).fetchone()
        return None if row is None else json.loads(row[0])

    def activations(
        self,
        name: str | None = None,
        since: int | None = None,
        upto: int | None = None,
        skip: int = 0,
        limit: int = 30,
        docs: bool = False,
    ) -> list[dict[str, Any]]:
        """Finished activations, newest first.

        Args:
            name: Only those of this action: its name or ``PACKAGE/NAME``.
            since: Only those that started then or later, epoch milliseconds.
            upto: Only those that started then or earlier, epoch milliseconds.
            skip: How many to leave out.
            limit: How many at most.
            docs: Full records instead of brief ones.
        """
        where, values = _where(name, since, upto)
        rows = self._db.execute(
            f"SELECT body FROM activations WHERE {where} ORDER BY start DESC, rowid DESC LIMIT ? OFFSET ?",
            (*values, limit, skip),
        )
        records = [json.loads(body) for (body,) in rows]
        return records if docs else [summary_of(record) for record in records]

    def count_activations(self, name: str | None = None, since: int | None = None, upto: int | None = None) -> int:
        """How many finished activations there are; see ``activations``."""
        where, values = _where(name, since, upto)
        row = self._db.execute(f"SELECT count(*) FROM activations WHERE {where}", values).fetchone()
        return int(row[0])


def _where(name: str | None, since: int | None, upto: int | None) -> tuple[str, list[str | int]]:
    """Condition and its values; the text is made of constants only."""
    parts, values = ["finished"], list[str | int]()
    for condition, value in (
        ("path = ?" if name and "/" in name else "name = ?", name),
        ("start >= ?", since),
        ("start <= ?", upto),
    ):
        if value is not None:
            parts.append(condition)
            values.append(value)
    return " AND ".join(parts), values
