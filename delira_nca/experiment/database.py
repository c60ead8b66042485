"""The numbers of a run in an SQLite file."""

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
from delira_nca.experiment import training_table, validation_table
from delira_nca.experiment.stats import TrainingIterationStats, TrainingStats, ValidationScores
from delira_nca.io.files import make_folder
from delira_nca.io.paths import absolute

__all__ = ["SCHEMA_VERSION", "SQLiteFile", "StatsDatabase"]

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
    path : str or path
        Of the file; it is made by the first transaction that writes.
    busy_seconds : float
        How long to wait for others.

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


class StatsDatabase:
    """Statistics of a run in an SQLite file with a write-ahead log.

    Several processes of one machine may read and write at once. What a call has written is there whole, and survives a
    kill of the process; a power cut may take the last of it, and leaves the rest. In a ``with`` block the file stays
    open, which makes many small calls cheaper.

    Parameters
    ----------
    path : str or path
        Of the file; the first call that writes makes it.
    busy_seconds : float
        How long to wait for other processes.

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
        """Make the file, empty, if it is not there."""
        with self._file.writing():
            pass

    # Training ---------------------------------------------------------------------------------------------------------

    def add_training(self, records: Iterable[TrainingIterationStats]) -> int:
        """Add records, in any order, all of them or none.

        Returns
        -------
        int
            How many were new: a record that is there already, alike in everything, is not added again.

        Raises
        ------
        ConfigError
            If an iteration is there with other values.
        StoreError, RunLockedError
            If the file cannot be written, or another process keeps it for itself.
        """
        records = list(records)
        for record in records:
            require_type("record", record, TrainingIterationStats)
        if not records:
            return 0
        with self._file.writing() as connection:
            return training_table.append_training(connection, records)

    def training_stats(self, start: int = 0) -> TrainingStats:
        """Records from an iteration on, in the order of the iterations; gaps are allowed."""
        with self._file.reading() as connection:
            return TrainingStats([] if connection is None else training_table.read_training(connection, start))

    def trained_until(self) -> int:
        """First iteration after all that are recorded; 0 if none is."""
        with self._file.reading() as connection:
            return 0 if connection is None else training_table.trained_until(connection)

    # Validation -------------------------------------------------------------------------------------------------------

    def add_validation(self, scores: ValidationScores, *, weights: Mapping[str, str] | None = None) -> int:
        """Add the scores of validations that are not there yet, all of them or none.

        Criteria that earlier validations did not know may join; these have NaN for them.

        Parameters
        ----------
        scores : ValidationScores
            With their parameters, datasets and criteria; without rows, these alone are written.
        weights : mapping of str to str, optional
            Criterion to the name of the file that holds the weights of the last of these validations, which is
            the best by it. Of each criterion, the two newest names are kept.

        Returns
        -------
        int
            How many were new.

        Raises
        ------
        ConfigError
            If the run's scores have other parameters or datasets, or a criterion of the same name that means another
            thing; or an iteration is there with other scores.
        StoreError, RunLockedError
            If the file cannot be written, or another process keeps it for itself.
        """
        require_type("scores", scores, ValidationScores)
        with self._file.writing() as connection:
            new = validation_table.append_validation(connection, scores)
            for criterion, file in (weights or {}).items():
                validation_table.keep_weights(connection, criterion, scores.validated_until() - 1, file)
            return new

    def validation_scores(self) -> ValidationScores | None:
        """All scores, in the order of the iterations; None if nothing was ever validated."""
        with self._file.reading() as connection:
            return None if connection is None else validation_table.read_validation(connection)

    def validated_until(self) -> int:
        """First iteration after all that have been validated; 0 if none has."""
        with self._file.reading() as connection:
            return 0 if connection is None else validation_table.validated_until(connection)

    def kept_weights(self) -> dict[tuple[str, int], str]:
        """Names of files of weights, by criterion and iteration."""
        with self._file.reading() as connection:
            return {} if connection is None else validation_table.kept_weights(connection)

    # Both -------------------------------------------------------------------------------------------------------------

    def delete_after(self, iteration: int, *, validation: int | None = None) -> tuple[int, int]:
        """Delete this iteration and all that follow: what stays are the iterations below it.

        Parameters
        ----------
        iteration : int
            Of the training records.
        validation : int, optional
            Of the validations, where they are cut off at another one.

        Returns
        -------
        tuple of (training records, validations)
            How many were deleted.
        """
        first = require_whole("iteration", iteration, 0)
        validated = first if validation is None else require_whole("validation", validation, 0)
        with self._file.writing() as connection:
            return (
                training_table.cut_training(connection, first),
                validation_table.cut_validation(connection, validated),
            )
