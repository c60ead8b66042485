"""One run in its folder: config, checkpoints and numbers. Free of torch until a checkpoint is looked at."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from delira_nca.errors import ConfigError, MissingFileError, UnknownNameError, did_you_mean
from delira_nca.experiment.plain_files import read_plain
from delira_nca.experiment.stats import TrainingIterationStats, TrainingStats, ValidationScores
from delira_nca.experiment.store.database import StatsDatabase
from delira_nca.io.manifest import checkpoints_in
from delira_nca.io.paths import absolute
from delira_nca.io.resume import plan_resume

__all__ = ["CONFIG_FILES", "STATS_FILE", "BestResult", "StoredRun"]

CONFIG_FILES = ("config.yaml", "config.json", "experiment.json")
STATS_FILE = "stats.sqlite"


@dataclass(frozen=True)
class BestResult:
    """The best validation of a run by one criterion.

    Attributes
    ----------
    criterion : its name.
    value : mean over the data sets, of the parameters that give the best one.
    iteration : the last one that was done before the validation.
    parameters : those that gave it; see :class:`~delira_nca.experiment.stats.ValidationScores`.
    checkpoint : file of the weights that were validated; None if it was not kept.
    """

    criterion: str
    value: float
    iteration: int
    parameters: Any
    checkpoint: Path | None


class StoredRun:
    """A run in its folder. Nothing is opened or read before it is asked for.

    ``config.yaml`` or ``config.json``, ``checkpoints/``, ``stats.sqlite`` with the numbers, ``best/`` with the weights
    of the best validations. Several processes of one machine may read and write the numbers at once; the
    checkpoints are those of one training at a time.

    Parameters
    ----------
    folder : of the run.

    Examples
    --------
    >>> run = StoredRun(getfixture("tmp_path") / "dahlia")
    >>> run.add_training([TrainingIterationStats(0, 0.5), TrainingIterationStats(1, 0.25)])
    2
    >>> run.delete_after(1)
    (1, 0)
    >>> run.training_stats().iteration_stats
    [TrainingIterationStats(iteration=0, loss=0.5, time=nan, values={})]
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = absolute(folder)
        self.database = StatsDatabase(self.folder / STATS_FILE)

    @property
    def name(self) -> str:
        """Name of the run: that of its folder."""
        return self.folder.name or self.folder.resolve().name

    @property
    def checkpoints(self) -> Path:
        """Folder of its checkpoints: ``checkpoints``, or that of the run itself if they are there."""
        inside = self.folder / "checkpoints"
        return self.folder if not inside.is_dir() and checkpoints_in(self.folder) else inside

    def checkpoint(self, name: str = "best") -> Path:
        """File of a checkpoint.

        Parameters
        ----------
        name : str
            ``"best"``, that of the best epoch, or the newest if there is none; ``"latest"``; or the name of the file.

        Raises
        ------
        MissingFileError
            If there is no such checkpoint; the message names those that are there.
        """
        found = checkpoints_in(self.checkpoints)
        best = [file for file in found if file.stem == "checkpoint_best"]
        if name == "best" and best:
            return max(best, key=lambda file: file.stat().st_mtime)
        if name in ("best", "latest"):
            if (latest := self.latest_checkpoint()) is None:
                raise MissingFileError(f"run {self.folder} holds no checkpoint yet")
            return latest
        if not (self.checkpoints / name).is_file():
            there = ", ".join(file.name for file in found) or "none"
            raise MissingFileError(f"there is no checkpoint {name!r} in {self.checkpoints}; there: {there}")
        return self.checkpoints / name

    def weights(self, checkpoint: str = "best") -> dict[str, Any]:
        """State dict of the network.

        Parameters
        ----------
        checkpoint : str
            ``"best"``, the weights of the best epoch, or of the last where no score decides; ``"latest"``, those of the
            last epoch; or the name of a file in :attr:`checkpoints`.

        Raises
        ------
        MissingFileError, CheckpointError
            If there is no such checkpoint, or none is sound.
        """
        from delira_nca.io.checkpoint import load_checkpoint

        state = load_checkpoint(self.checkpoint("latest" if checkpoint == "best" else checkpoint))
        return dict((checkpoint == "best" and state.get("best_weights")) or state["network"])

    @property
    def best_weights(self) -> Path:
        """Folder of the weights that were best by a criterion."""
        return self.folder / "best"

    @property
    def config(self) -> dict[str, Any]:
        """What the run was asked to do: plain values; empty if it has no config.

        Raises
        ------
        ConfigError
            If the file cannot be read.
        """
        for name in CONFIG_FILES:
            if (self.folder / name).is_file():
                return read_plain(self.folder / name)
        return {}

    def latest_checkpoint(self) -> Path | None:
        """The newest checkpoint that is whole; None if there is none at all.

        Raises
        ------
        CheckpointError
            If there are some, and none of them can be read.
        """
        return plan_resume("auto", self.checkpoints).path

    # Numbers ----------------------------------------------------------------------------------------------------------

    def training_stats(self) -> TrainingStats:
        """Records of all training iterations, in their order."""
        return self.database.training_stats()

    def validation_scores(self) -> ValidationScores | None:
        """Scores of all validations, in their order; None if nothing was ever validated."""
        return self.database.validation_scores()

    def add_training(self, records: Iterable[TrainingIterationStats]) -> int:
        """Add records, all or none, and say how many were new; see :meth:`StatsDatabase.add_training`."""
        return self.database.add_training(records)

    def add_validation(self, scores: ValidationScores) -> int:
        """Add scores, all or none, and say how many were new; see :meth:`StatsDatabase.add_validation`."""
        return self.database.add_validation(scores)

    def delete_after(self, iteration: int) -> tuple[int, int]:
        """Delete this iteration and all that follow it, and say how many records and validations these were."""
        return self.database.delete_after(iteration)

    def best(self, criterion: str, dataset: str | None = None) -> BestResult | None:
        """The best validation by a criterion, in the criterion's own direction.

        Parameters
        ----------
        criterion : its name.
        dataset : of which data set alone; the mean over all by default.

        Returns
        -------
        BestResult or None
            Of equals the earliest, with its first parameters. A NaN is never the best; None if there is nothing else.

        Raises
        ------
        UnknownNameError
            For a criterion or a data set that is not recorded.
        ConfigError
            If nothing was ever validated.
        """
        scores = self.validation_scores()
        if scores is None:
            raise ConfigError(f"run {self.name!r} has no validation whose best could be found by {criterion!r}")
        higher = scores.evaluation_scores.higher_is_better(criterion)
        column = scores.criteria.index(criterion)
        if dataset is not None and dataset not in scores.datasets:
            raise UnknownNameError(f"unknown data set {dataset!r}. {did_you_mean(dataset, scores.datasets)}")
        chosen = range(len(scores.datasets)) if dataset is None else [scores.datasets.index(dataset)]
        best: tuple[float, int, int] | None = None
        for entry in scores.scores:
            for number in range(len(scores.parameters)):
                value = sum(entry.scores[d][number][column] for d in chosen) / len(chosen)
                if not math.isnan(value) and (best is None or (value > best[0] if higher else value < best[0])):
                    best = value, entry.iteration, number
        if best is None:
            return None
        value, iteration, number = best
        return BestResult(criterion, value, iteration, scores.parameters[number], self._kept(criterion, iteration))

    def _kept(self, criterion: str, iteration: int) -> Path | None:
        name = self.database.kept_weights().get((criterion, iteration))
        path = None if name is None else self.best_weights / name
        return path if path is not None and path.is_file() else None

    def __repr__(self) -> str:
        return f"StoredRun({str(self.folder)!r})"
