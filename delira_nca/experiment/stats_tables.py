"""Tables of the statistics of training and validation in a database."""

from __future__ import annotations

import itertools
import json
import math
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from delira_nca.errors import ConfigError
from delira_nca.experiment.stats import (
    Criterion,
    EvaluationScores,
    TrainingIterationStats,
    ValidationIterationScores,
    ValidationScores,
)

__all__ = [
    "append_training",
    "append_validation",
    "cut_training",
    "cut_validation",
    "keep_weights",
    "kept_weights",
    "read_training",
    "read_validation",
    "restored",
    "stored",
    "trained_until",
    "validated_until",
    "write_header",
]

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


_Table = list[list[list[float]]]


def write_header(connection: sqlite3.Connection, header: ValidationScores) -> list[int]:
    """Write parameters, datasets and criteria. Existing ones are replaced if there are no scores yet.

    Otherwise, new criteria may be added; earlier validations have NaN for them.

    Returns
    -------
    list of int
        Numbers of the criteria in the tables.
    """
    if not header.datasets or not header.parameters:
        raise ConfigError("a validation has at least one data set and one entry of parameters")
    known = _read_header(connection)
    if known is None or not validated_until(connection):
        for table in ("dataset", "parameter", "criterion"):
            connection.execute(f"DELETE FROM {table}")
        connection.executemany("INSERT INTO dataset VALUES (?, ?)", enumerate(header.datasets))
        connection.executemany(
            "INSERT INTO parameter VALUES (?, ?)", ((i, json.dumps(p)) for i, p in enumerate(header.parameters))
        )
        known_criteria: dict[str, Criterion] = {}
    else:
        for what in ("datasets", "parameters"):
            _require_same(what, getattr(known, what), getattr(header, what))
        known_criteria = _criteria(known)
    for name, criterion in _criteria(header).items():
        _require_same(f"criterion {name!r}", known_criteria.get(name, criterion), criterion)
    new = [criterion for name, criterion in _criteria(header).items() if name not in known_criteria]
    connection.executemany(
        "INSERT INTO criterion VALUES (?, ?, ?, ?, ?, ?)",
        ((i, c.name, c.higher_is_better, *c.bounds, c.store_best) for i, c in enumerate(new, len(known_criteria))),
    )
    order = [*known_criteria, *(criterion.name for criterion in new)]
    return [order.index(name) for name in header.criteria]


def append_validation(connection: sqlite3.Connection, scores: ValidationScores) -> int:
    """Add the scores of new iterations, and missing entries of the header. Errors must roll the transaction back.

    Returns
    -------
    int
        Number of new iterations. Existing iterations with equal scores are not added again.
    """
    columns = write_header(connection, scores)
    shape = len(scores.datasets), len(scores.parameters), 1 + max(columns)
    new = 0
    for row in scores.scores:
        where = f"WHERE iteration = ? AND criterion IN ({', '.join(map(str, columns))})"
        known = _read_tables(connection, shape, where, (row.iteration,)).get(row.iteration)
        if known is None:
            connection.executemany("INSERT INTO score VALUES (?, ?, ?, ?, ?)", _cells(row, columns))
            new += 1
        elif [[[cells[c] for c in columns] for cells in table] for table in known] != row.scores:
            raise ConfigError(
                f"the validation of iteration {row.iteration} is recorded already, with other scores: "
                f"delete_after({row.iteration}) makes room for what is done again"
            )
    return new


def read_validation(connection: sqlite3.Connection) -> ValidationScores | None:
    """Read all scores in the order of iterations, or None without a header."""
    header = _read_header(connection)
    if header is None:
        return None
    shape = (len(header.datasets), len(header.parameters), len(header.criteria))
    for iteration, table in _read_tables(connection, shape, "", ()).items():
        header.add_iteration_scores(ValidationIterationScores(iteration, table))
    return header


def cut_validation(connection: sqlite3.Connection, iteration: int) -> int:
    """Delete validations from an iteration on, and return their number."""
    count = connection.execute("SELECT count(DISTINCT iteration) FROM score WHERE iteration >= ?", (iteration,))
    number: int = count.fetchone()[0]
    for table in ("score", "kept_weights"):
        connection.execute(f"DELETE FROM {table} WHERE iteration >= ?", (iteration,))
    return number


def validated_until(connection: sqlite3.Connection) -> int:
    """Last validated iteration plus 1, or 0."""
    last: int | None = connection.execute("SELECT max(iteration) FROM score").fetchone()[0]
    return 0 if last is None else last + 1


def keep_weights(connection: sqlite3.Connection, criterion: str, iteration: int, file: str) -> None:
    """Store the file of the best weights by a criterion; the two newest entries per criterion are kept."""
    connection.execute("INSERT OR REPLACE INTO kept_weights VALUES (?, ?, ?)", (criterion, iteration, file))
    newest = "SELECT iteration FROM kept_weights WHERE criterion = ? ORDER BY iteration DESC LIMIT 2"
    connection.execute(
        f"DELETE FROM kept_weights WHERE criterion = ? AND iteration NOT IN ({newest})", (criterion, criterion)
    )


def kept_weights(connection: sqlite3.Connection) -> dict[tuple[str, int], str]:
    """Names of weights files by criterion and iteration."""
    rows = connection.execute("SELECT criterion, iteration, file FROM kept_weights ORDER BY criterion, iteration")
    return {(criterion, iteration): file for criterion, iteration, file in rows}


def _read_header(connection: sqlite3.Connection) -> ValidationScores | None:
    datasets = [name for (name,) in connection.execute("SELECT name FROM dataset ORDER BY id")]
    parameters = [json.loads(value) for (value,) in connection.execute("SELECT value FROM parameter ORDER BY id")]
    criteria = [
        Criterion(name, bool(higher), (lowest, highest), bool(store_best))
        for name, higher, lowest, highest, store_best in connection.execute(
            "SELECT name, higher_is_better, lowest, highest, store_best FROM criterion ORDER BY id"
        )
    ]
    return ValidationScores(parameters, datasets, EvaluationScores(criteria)) if criteria else None


def _criteria(header: ValidationScores) -> dict[str, Criterion]:
    return {name: header.evaluation_scores.criterion(name) for name in header.criteria}


def _require_same(what: str, known: Any, new: Any) -> None:
    if known != new:
        raise ConfigError(f"the validations of this run have another {what}: {known} there, {new} here")


def _read_tables(
    connection: sqlite3.Connection, shape: tuple[int, int, int], where: str, arguments: tuple[int, ...]
) -> dict[int, _Table]:
    """Scores ``[dataset][parameters][criterion]`` by iteration."""
    num_datasets, num_parameters, num_criteria = shape
    tables: dict[int, _Table] = {}
    for iteration, rows in itertools.groupby(
        connection.execute(f"SELECT * FROM score {where} ORDER BY iteration", arguments), key=lambda row: row[0]
    ):
        table = [[[restored(None)] * num_criteria for _ in range(num_parameters)] for _ in range(num_datasets)]
        for _, dataset, parameter, criterion, value in rows:
            table[dataset][parameter][criterion] = restored(value)
        tables[iteration] = table
    return tables


def _cells(row: ValidationIterationScores, columns: Sequence[int]) -> Iterator[tuple[int, int, int, int, float | None]]:
    for dataset, table in enumerate(row.scores):
        for parameter, scores in enumerate(table):
            for criterion, value in zip(columns, scores, strict=True):
                yield row.iteration, dataset, parameter, criterion, stored(value)
