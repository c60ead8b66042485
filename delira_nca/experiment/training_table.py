"""Table of training statistics in a database."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterable, Mapping, Sequence

from delira_nca.errors import ConfigError
from delira_nca.experiment.stats import TrainingIterationStats

__all__ = ["append_training", "cut_training", "read_training", "restored", "stored", "trained_until"]

_IN_ONE_QUERY = 500  # SQLite allows at least 999 parameters per query


def append_training(connection: sqlite3.Connection, records: Iterable[TrainingIterationStats]) -> int:
    """Add the records of new iterations. After an error, the transaction should be rolled back.

    Returns
    -------
    int
        Number of new records. Existing equal records are not added again.
    """
    new: dict[int, TrainingIterationStats] = {}
    for record in records:
        _require_alike(new.setdefault(record.iteration, record), record)
    if not new:
        return 0
    span = connection.execute(
        "SELECT iteration FROM training WHERE iteration BETWEEN ? AND ?", (min(new), max(new))
    )  # usually empty
    known = [iteration for (iteration,) in span if iteration in new]
    for record in _read(connection, known):
        _require_alike(record, new.pop(record.iteration))
    names = _name_ids(connection, {name for record in new.values() for name in record.values})
    connection.executemany(
        "INSERT INTO training VALUES (?, ?, ?)",
        ((r.iteration, stored(r.loss), stored(r.time)) for r in new.values()),
    )
    connection.executemany(
        "INSERT INTO training_value VALUES (?, ?, ?)",
        ((r.iteration, names[name], stored(value)) for r in new.values() for name, value in r.values.items()),
    )
    return len(new)


def read_training(connection: sqlite3.Connection, start: int = 0) -> list[TrainingIterationStats]:
    """Read records from an iteration on, in the order of iterations."""
    where, arguments = ("WHERE iteration >= ?", (start,)) if start > 0 else ("", ())
    return _records(connection, where, arguments)


def cut_training(connection: sqlite3.Connection, iteration: int) -> int:
    """Delete records from an iteration on, and return their number."""
    connection.execute("DELETE FROM training_value WHERE iteration >= ?", (iteration,))
    return connection.execute("DELETE FROM training WHERE iteration >= ?", (iteration,)).rowcount


def trained_until(connection: sqlite3.Connection) -> int:
    """Last recorded iteration plus 1, or 0."""
    last: int | None = connection.execute("SELECT max(iteration) FROM training").fetchone()[0]
    return 0 if last is None else last + 1


def _read(connection: sqlite3.Connection, iterations: Sequence[int]) -> list[TrainingIterationStats]:
    """Read the records of some iterations."""
    found: list[TrainingIterationStats] = []
    for begin in range(0, len(iterations), _IN_ONE_QUERY):
        part = iterations[begin : begin + _IN_ONE_QUERY]
        found += _records(connection, f"WHERE iteration IN ({', '.join('?' * len(part))})", part)
    return found


def _records(connection: sqlite3.Connection, where: str, arguments: Sequence[int]) -> list[TrainingIterationStats]:
    names = dict(connection.execute("SELECT id, name FROM value_name"))
    values: dict[int, dict[str, float]] = {}
    for iteration, name, value in connection.execute(
        f"SELECT iteration, name, value FROM training_value {where} ORDER BY iteration, name", arguments
    ):
        values.setdefault(iteration, {})[names[name]] = restored(value)
    rows = connection.execute(f"SELECT iteration, loss, seconds FROM training {where} ORDER BY iteration", arguments)
    return [
        TrainingIterationStats(iteration, restored(loss), restored(seconds), values.get(iteration, {}))
        for iteration, loss, seconds in rows
    ]


def _name_ids(connection: sqlite3.Connection, names: Iterable[str]) -> Mapping[str, int]:
    connection.executemany("INSERT OR IGNORE INTO value_name (name) VALUES (?)", [(name,) for name in sorted(names)])
    return dict(connection.execute("SELECT name, id FROM value_name"))


def _require_alike(known: TrainingIterationStats, new: TrainingIterationStats) -> None:
    if known == new:
        return
    left, right = ({"loss": r.loss, "time": r.time, **r.values} for r in (known, new))
    name = next(n for n in (*left, *right) if (n in left, left.get(n)) != (n in right, right.get(n)))
    raise ConfigError(
        f"iteration {new.iteration} is recorded already, with {name}={left.get(name)!r}, not {right.get(name)!r}: "
        f"delete_after({new.iteration}) makes room for what is done again"
    )


def stored(value: float) -> float | None:
    """Convert NaN, which SQLite cannot store, to NULL."""
    return None if math.isnan(value) else value


def restored(value: float | None) -> float:
    """Convert NULL to NaN, always the same object, so that records with a NaN can be equal."""
    return math.nan if value is None else float(value)
