"""Statistics of a run in an SQLite file."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any, NamedTuple, TypeVar

from delira_nca.checks import require_number, require_type, require_whole
from delira_nca.errors import ConfigError, MissingFileError, RunLockedError, StoreError
from delira_nca.experiment import stats_tables
from delira_nca.experiment.stats import TrainingIterationStats, TrainingStats, ValidationScores
from delira_nca.io.files import make_folder
from delira_nca.io.paths import absolute

__all__ = ["SCHEMA_VERSION", "SQLiteFile", "StatsDatabase"]

SCHEMA_VERSION = 1
_APPLICATION = 0x6E636173  # application id in the header of the file
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
    """An open connection, and the process and thread that may use it."""

    connection: sqlite3.Connection
    owner: tuple[int, int]


class SQLiteFile:
    """SQLite file with a write-ahead log: many readers and one writer at a time.

    In a ``with`` block, one connection stays open, which saves about ten milliseconds per transaction. Otherwise, and
    in other threads or forked processes, each transaction opens its own connection.

    Parameters
    ----------
    path : str or path
        Path of the file, which is created by the first transaction that writes.
    busy_seconds : float
        Seconds to wait for other processes.

    Raises
    ------
    MissingFileError, ConfigError
        From the methods, if the file is not a database of a run, or of a later version.
    StoreError, RunLockedError
        From the methods, if it cannot be read or written, or is locked by another process.

    Notes
    -----
    The log needs shared memory: processes on different machines cannot use a file concurrently.
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
        """Context manager of a connection with a consistent snapshot of the database, or None if it is empty."""
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
        """Context manager of a connection in an atomic transaction."""
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
        """URI mode for reading; in a read-only folder, the file is read without log and shared memory."""
        log = self.path.with_name(f"{self.path.name}-wal")
        return "rw" if os.access(self.path.parent, os.W_OK) or log.exists() else "ro&immutable=1"

    def _open_to_write(self) -> sqlite3.Connection:
        make_folder(self.path.parent)
        self.path.touch()  # SQLite would create the file, and its log, with mode 0644 regardless of the umask
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
            if self._is_fresh(connection):  # no other process has created the tables
                for statement in _SCHEMA:
                    connection.execute(statement)
                connection.execute(f"PRAGMA application_id={_APPLICATION}")
                connection.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
            connection.execute("COMMIT")
        except BaseException:
            connection.rollback()
            raise

    def _is_fresh(self, connection: sqlite3.Connection) -> bool:
        """Whether there are no tables yet; raise an error for the database of another application."""
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
        """Retry calls that SQLite rejects without waiting while another connection opens or closes."""
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
        """Convert errors of SQLite and the system to errors of the package."""
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


class StatsDatabase:
    """Statistics of a run in an SQLite file with a write-ahead log.

    Several processes of one machine can read and write concurrently. Each call is atomic and survives a kill of the
    process; a power failure may lose the last calls. In a ``with`` block the file stays open, which makes many small
    calls faster.

    Parameters
    ----------
    path : str or path
        Path of the file, which is created by the first call that writes.
    busy_seconds : float
        Seconds to wait for other processes.

    Raises
    ------
    StoreError, RunLockedError
        From the methods, if the file cannot be read or written, or is locked by another process.

    Examples
    --------
    >>> database = StatsDatabase(getfixture("tmp_path") / "stats.sqlite")
    >>> database.add_training([TrainingIterationStats(i, loss) for i, loss in enumerate([0.3, 0.2, 0.1])])
    3
    >>> database.delete_after(2)
    (1, 0)
    >>> database.training_stats().trained_until()
    2
    """

    def __init__(self, path: str | os.PathLike[str], *, busy_seconds: float = 30.0) -> None:
        self._file = SQLiteFile(path, busy_seconds=busy_seconds)
        self.path = self._file.path

    def __enter__(self) -> StatsDatabase:
        self._file.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.__exit__(kind, error, traceback)

    def create(self) -> None:
        """Create an empty file if it does not exist."""
        with self._file.writing():
            pass

    # Training ---------------------------------------------------------------------------------------------------------

    def add_training(self, records: Iterable[TrainingIterationStats]) -> int:
        """Add records in any order, atomically.

        Returns
        -------
        int
            Number of new records. Existing equal records are not added again.

        Raises
        ------
        ConfigError
            If an iteration exists with other values.
        """
        records = list(records)
        for record in records:
            require_type("record", record, TrainingIterationStats)
        if not records:
            return 0
        with self._file.writing() as connection:
            return stats_tables.append_training(connection, records)

    def training_stats(self, start: int = 0) -> TrainingStats:
        """Records from an iteration on, in the order of iterations; gaps are possible."""
        with self._file.reading() as connection:
            return TrainingStats([] if connection is None else stats_tables.read_training(connection, start))

    def trained_until(self) -> int:
        """Last recorded iteration plus 1, or 0 without records."""
        with self._file.reading() as connection:
            return 0 if connection is None else stats_tables.trained_until(connection)

    # Validation -------------------------------------------------------------------------------------------------------

    def add_validation(self, scores: ValidationScores, *, weights: Mapping[str, str] | None = None) -> int:
        """Add the scores of new validations, atomically.

        New criteria may be added; earlier validations then have NaN for them.

        Parameters
        ----------
        scores : ValidationScores
            Scores with their parameters, datasets and criteria. Without rows, only these are written.
        weights : mapping of str to str, optional
            Name of the weights file of the last of these validations, by the criterion for which it is the best. The
            two newest names per criterion are kept.

        Returns
        -------
        int
            Number of new validations.

        Raises
        ------
        ConfigError
            If the run has other parameters or datasets, a criterion of the same name but another definition, or other
            scores for an iteration.
        """
        require_type("scores", scores, ValidationScores)
        with self._file.writing() as connection:
            new = stats_tables.append_validation(connection, scores)
            for criterion, file in (weights or {}).items():
                stats_tables.keep_weights(connection, criterion, scores.validated_until() - 1, file)
            return new

    def validation_scores(self) -> ValidationScores | None:
        """All scores in the order of iterations, or None without validations."""
        with self._file.reading() as connection:
            return None if connection is None else stats_tables.read_validation(connection)

    def validated_until(self) -> int:
        """Last validated iteration plus 1, or 0 without validations."""
        with self._file.reading() as connection:
            return 0 if connection is None else stats_tables.validated_until(connection)

    def kept_weights(self) -> dict[tuple[str, int], str]:
        """Names of weights files by criterion and iteration."""
        with self._file.reading() as connection:
            return {} if connection is None else stats_tables.kept_weights(connection)

    # Both -------------------------------------------------------------------------------------------------------------

    def delete_after(self, iteration: int, *, validation: int | None = None) -> tuple[int, int]:
        """Delete this and all later iterations.

        Parameters
        ----------
        iteration : int
            First iteration of the deleted training records.
        validation : int, optional
            First iteration of the deleted validations; ``iteration`` by default.

        Returns
        -------
        tuple of (training records, validations)
            Numbers of deleted entries.
        """
        first = require_whole("iteration", iteration, 0)
        validated = first if validation is None else require_whole("validation", validation, 0)
        with self._file.writing() as connection:
            return (
                stats_tables.cut_training(connection, first),
                stats_tables.cut_validation(connection, validated),
            )
