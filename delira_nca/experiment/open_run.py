"""Opening of runs of configs and of experiments, for training, validation and prediction."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from delira_nca.errors import ConfigError, require_choice
from delira_nca.experiment.experiment import Experiment
from delira_nca.experiment.experiment_settings import dataset_of, held_out_settings, open_data, read_description
from delira_nca.experiment.folds import FILE, FoldJob, run_fold
from delira_nca.experiment.import_paths import decode
from delira_nca.experiment.plain_files import read_plain
from delira_nca.experiment.result import RunResult
from delira_nca.experiment.run import Run, config_of
from delira_nca.experiment.store import StoredRun
from delira_nca.experiment.trained import AbstractTrainedRun
from delira_nca.io.paths import absolute
from delira_nca.training.callbacks.reporting import ProgressBar

__all__ = ["ExperimentRun", "open_run"]


class ExperimentRun(AbstractTrainedRun):
    """Run of an :class:`Experiment`, or one of its folds.

    Classes and functions in its description are imported, which executes their modules.

    Parameters
    ----------
    folder : str or Path
        Folder of the run.

    Raises
    ------
    ConfigError
        If an import path in the description does not exist; from the methods, if the data were only in the memory of
        the training process.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.stored = StoredRun(absolute(folder))
        self.experiment = Experiment.load(self.folder)
        self._is_fold = (self.folder.parent / FILE).is_file()

    def train(self, *, progress: bool = False) -> RunResult:
        """Finish the run, starting from its newest intact checkpoint."""
        if self._is_fold:
            number = int(self.folder.name.removeprefix("fold_"))
            run_fold(str(self.folder.parent), number, self._splits()[number])
        else:
            epochs = self.experiment.num_epochs(read_description(self.folder).get("num_epochs"))
            bar = [ProgressBar()] if progress else []
            self.experiment.train_in(self.folder, self._data("train"), self._data("valid"), epochs, callbacks=bar)
        return RunResult.load(self.folder)

    def _splits(self) -> list[dict[str, list[int]]]:
        found: list[dict[str, list[int]]] = read_plain(self.folder.parent / FILE)["splits"]
        return found

    def _evaluate(self, checkpoint: str, part: str) -> tuple[Any, list[Any], Mapping[str, float]]:
        require_choice("part of the samples", part, ("train", "valid", "test"))
        trainer = self.experiment.setup()
        self.stored.load_into(trainer.network, checkpoint)
        data, settings = self._data(part), held_out_settings({})
        with self.experiment.managed(data, train=False, settings=settings) as manager:
            found: tuple[Any, list[Any], Mapping[str, float]] = trainer.predict(manager.get_batchgen())
        return found

    def _data(self, part: str) -> Any:
        """Samples of a part, opened by their recorded description."""
        if self._is_fold:
            split = self._splits()[int(self.folder.name.removeprefix("fold_"))]
            data = dataset_of(FoldJob.load(self.folder.parent).data)
            return data.get_subset(split["val" if part == "valid" else part])
        file = self.folder / "data.json"
        recorded = (read_plain(file) if file.is_file() else {}).get(part)
        if recorded is None:
            raise ConfigError(f"the run in {self.folder} has no samples to {part}")
        if isinstance(recorded, Mapping) and recorded.get("class_path") is None:
            raise ConfigError(
                f"the samples of the run in {self.folder} were {recorded['was']}: use resume, test and load_network of "
                "Experiment.load(folder), in Python, which take data"
            )
        return open_data(decode(recorded, part))


def open_run(folder: str | os.PathLike[str]) -> Run | ExperimentRun:
    """Open the run in a folder, created from a config or by an experiment.

    Raises
    ------
    MissingFileError
        If there is no run.
    ConfigError
        If its config is not readable, or of an older version.
    """
    folder = Path(absolute(folder))
    name = config_of(folder).name
    if name == "config.json":
        raise ConfigError(
            f"the run in {folder} was not made from a config that names its data: it can be listed, shown, compared "
            "and exported, and resumed in Python only"
        )
    return Run.open(folder) if name == "config.yaml" else ExperimentRun(folder)
