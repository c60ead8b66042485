"""Transactions on the database file of a run, whoever else reads and writes it. Free of torch."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, NamedTuple, TypeVar

from delira_nca.checks import require_number
from delira_nca.errors import ConfigError, MissingFileError, RunLockedError, StoreError
from delira_nca.io.files import make_folder
from delira_nca.io.paths import absolute

__all__ = ["SCHEMA_VERSION", "SQLiteFile"]

SCHEMA_VERSION = 1
_APPLICATION = 0x6E636173  # in the header of the file: whose database it is
_SCHEMA = (
    "CREATE TABLE value_name (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE)",
    "CREATE TABLE training (iteration INTEGER PRIMARY KEY, loss REAL, seconds REAL)",
    "CREATE TABLE training_value (iteration INTEGER, name INTEGER, value REAL, PRIMARY KEY (iteration, name)) "
    "WITHOUT ROWID",
    "CREATE TABLE dataset (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE)",
    "CREATE TABLE parameter (id INTEGER PRIMARY KEY, value TEXT NOT NULL)",
    "CREATE TABLE criterion (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, higher_is_better INTEGER NOT NULL, "
    "lowest REAL, highest REAL, store_best INTEGER NOT NULL)",
    "CREATE TABLE score (iteration INTEGER, dataset INTEGER, parameter INTEGER, criterion INTEGER, value REAL, "
    "PRIMARY KEY (iteration, dataset, parameter, criterion)) WITHOUT ROWID",
    "CREATE TABLE kept_weights (criterion TEXT, iteration INTEGER, file TEXT NOT NULL, "
    "PRIMARY KEY (criterion, iteration)) WITHOUT ROWID",
)
_Result = TypeVar("_Result")


class _Held(NamedTuple):
    """A connection that stays open, and the process and thread that may use it."""

    connection: sqlite3.Connection
    owner: tuple[int, int]


class SQLiteFile:
    """A database file with a write-ahead log: many read, one writes, the others wait their turn.

    In a ``with`` block one connection stays open, which saves some ten milliseconds a transaction; outside of one, or
    in another thread or a forked process, each transaction opens its own.

    Parameters
    ----------
    path : of the file; it is made by the first transaction that writes.
    busy_seconds : how long to wait for others.

    Notes
    -----
    The log needs shared memory: processes on several machines cannot use one file at a time.
    """

    def __init__(self, path: str | os.PathLike[str], *, busy_seconds: float = 30.0) -> None:
        require_number("busy_seconds", busy_seconds, above=0)
        self.path, self.busy_seconds = absolute(path), busy_seconds
        self._held: _Held | None = None

    def __enter__(self) -> SQLiteFile:
        if self._held is not None and self._held.owner == _here():
            raise ConfigError(f"{self.path} is held open already")
        with self._explained("write"):
            self._held = _Held(self._open_to_write(), _here())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        held, self._held = self._held, None
        if held is not None and held.owner == _here():
            held.connection.close()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_held": None}

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection | None]:
        """Connection that sees one state of the database, whatever is written meanwhile; None of an empty one.

        Raises
        ------
        MissingFileError, ConfigError
            If the file is no database of a run, or of a later version.
        StoreError, RunLockedError
            If it cannot be read, or others do not let it be read.
        """
        with self._explained("read"), contextlib.ExitStack() as stack:
            connection = self._own()
            if connection is None and self.path.exists():
                connection = stack.enter_context(contextlib.closing(self._connect(self._reading_mode())))
            if connection is None:
                yield None
                return
            self._patiently(connection.execute, "BEGIN")
            stack.callback(connection.rollback)
            yield None if self._patiently(self._is_fresh, connection) else connection

    @contextlib.contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Connection in a transaction: all of the block, or nothing of it, is in the database afterwards.

        Raises
        ------
        MissingFileError, ConfigError
            If the file is no database of a run, or of a later version.
        StoreError, RunLockedError
            If it cannot be written, or another process keeps it for itself.
        """
        with self._explained("write"), contextlib.ExitStack() as stack:
            connection = self._own()
            if connection is None:
                connection = stack.enter_context(contextlib.closing(self._open_to_write()))
            self._patiently(connection.execute, "BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                connection.rollback()
                raise

    def _own(self) -> sqlite3.Connection | None:
        held = self._held
        return held.connection if held is not None and held.owner == _here() else None

    def _connect(self, mode: str) -> sqlite3.Connection:
        uri = f"{self.path.resolve().as_uri()}?mode={mode}"
        return sqlite3.connect(uri, uri=True, timeout=self.busy_seconds, isolation_level=None)

    def _reading_mode(self) -> str:
        """Of a folder that nothing can be written to, the file is read alone: without log and shared memory."""
        log = self.path.with_name(f"{self.path.name}-wal")
        return "rw" if os.access(self.path.parent, os.W_OK) or log.exists() else "ro&immutable=1"

    def _open_to_write(self) -> sqlite3.Connection:
        make_folder(self.path.parent)
        self.path.touch()  # SQLite would give a new file, and its log, the mode 0644 whatever the umask is
        connection = self._connect("rwc")
        try:
            connection.execute("PRAGMA synchronous=NORMAL")
            if self._patiently(self._is_fresh, connection):
                self._patiently(connection.execute, "PRAGMA journal_mode=WAL")
                self._patiently(self._make_tables, connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _make_tables(self, connection: sqlite3.Connection) -> None:
        connection.execute("BEGIN IMMEDIATE")
        try:
            if self._is_fresh(connection):  # nobody was faster
                for statement in _SCHEMA:
                    connection.execute(statement)
                connection.execute(f"PRAGMA application_id={_APPLICATION}")
                connection.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
            connection.execute("COMMIT")
        except BaseException:
            connection.rollback()
            raise

    def _is_fresh(self, connection: sqlite3.Connection) -> bool:
        """Whether there are no tables yet; refuse the database of somebody else."""
        with contextlib.nullcontext() if connection.in_transaction else _snapshot(connection):
            application, version, tables = (
                connection.execute(query).fetchone()[0]
                for query in ("PRAGMA application_id", "PRAGMA user_version", "SELECT count(*) FROM sqlite_master")
            )
        if (application, version, tables) == (0, 0, 0):
            return True
        if application != _APPLICATION:
            raise MissingFileError(f"{self.path} is a database, but not the statistics of a run")
        if version > SCHEMA_VERSION:
            raise ConfigError(
                f"{self.path} has tables of version {version}, this version of delira_nca knows them up to "
                f"{SCHEMA_VERSION}"
            )
        return False

    def _patiently(self, function: Callable[..., _Result], *arguments: Any) -> _Result:
        """Call again what SQLite refuses at once, instead of waiting, where another connection opens or closes."""
        deadline = time.monotonic() + self.busy_seconds
        while True:
            try:
                return function(*arguments)
            except sqlite3.OperationalError as error:
                if not _is_locked(error) or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)

    @contextlib.contextmanager
    def _explained(self, verb: str) -> Iterator[None]:
        """Errors of SQLite and the system as errors of the package."""
        try:
            yield
        except sqlite3.OperationalError as error:
            if _is_locked(error):
                raise RunLockedError(
                    f"cannot {verb} {self.path}: another process has kept it for {self.busy_seconds:g} seconds"
                ) from error
            raise StoreError(f"cannot {verb} {self.path}: {error}") from error
        except sqlite3.DatabaseError as error:
            raise MissingFileError(f"{self.path} is not the statistics of a run, or damaged: {error}") from error
        except OSError as error:
            if isinstance(error, MissingFileError):
                raise
            raise StoreError(f"cannot {verb} {self.path}: {error}") from error


@contextlib.contextmanager
def _snapshot(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN")
    try:
        yield
    finally:
        connection.rollback()


def _here() -> tuple[int, int]:
    return os.getpid(), threading.get_ident()


def _is_locked(error: sqlite3.OperationalError) -> bool:
    return "locked" in str(error) or "busy" in str(error)
