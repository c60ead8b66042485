"""The numbers of a run in one file: training iterations, validations, and which weights were the best."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from types import TracebackType

from delira_nca.checks import require_type, require_whole
from delira_nca.experiment.stats import TrainingIterationStats, TrainingStats, ValidationScores
from delira_nca.experiment.store import training_table, validation_table
from delira_nca.experiment.store.sqlite_file import SQLiteFile

__all__ = ["StatsDatabase"]


class StatsDatabase:
    """Statistics of a run in an SQLite file with a write-ahead log.

    Several processes of one machine may read and write at once. What a call has written is there whole, and survives a
    kill of the process; a power cut may take the last of it, and leaves the rest. In a ``with`` block the file stays
    open, which makes many small calls cheaper.

    Parameters
    ----------
    path : of the file; the first call that writes makes it.
    busy_seconds : how long to wait for other processes.

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
        scores : with their parameters, datasets and criteria; without rows, these alone are written.
        weights : criterion to the name of the file that holds the weights of the last of these validations, which is
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
        iteration : of the training records.
        validation : of the validations, where they are cut off at another one.

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
