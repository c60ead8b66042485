"""Cross-validation with splits in the format of nnU-Net."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from delira_nca.errors import ConfigError, MissingFileError, refuse_unknown_keywords
from delira_nca.io.paths import absolute
from delira_nca.ncalab.history import TrainingHistory
from delira_nca.ncalab.trainer import BasicNCATrainer

__all__ = ["FoldLoaders", "KFoldCrossValidationTrainer", "SplitDefinition", "TrainValRecord"]

BATCH_SIZES = {"train": 8, "val": 8}
Path_ = str | os.PathLike[str]


class FoldLoaders(NamedTuple):
    """Loaders of one fold, also by the names ``"train"`` and ``"val"`` as in NCALab."""

    train: Any
    val: Any

    def __getitem__(self, key: Any) -> Any:
        """Return a loader by its name or its place."""
        return getattr(self, key) if key in self._fields else tuple(self)[key]


@dataclass(frozen=True)
class TrainValRecord:
    """Names of the samples of one fold.

    Parameters
    ----------
    train, val : list of str
        File names of training and validation, without common ones.

    Raises
    ------
    ConfigError
        If a name is in both lists.
    """

    train: list[str]
    val: list[str]

    def __post_init__(self) -> None:
        if common := sorted(set(self.train) & set(self.val)):
            raise ConfigError(f"{common[0]!r} is among the training and the validation samples of one fold")

    def dataloaders(
        self,
        DatasetType: Any,  # noqa: N803
        path: Path_,
        transform: Any = None,
        batch_sizes: Mapping[str, int] | None = None,
    ) -> FoldLoaders:
        """Create the loaders of the fold.

        Parameters
        ----------
        DatasetType : object
            Class of the data set, which is called with ``(path, names, transform)``.
        path : str or path
            Folder of the data; empty for data sets that read no files.
        transform : object
            Transform for the data sets.
        batch_sizes : mapping of str to int, optional
            Batch sizes, ``{"train": 8, "val": 8}`` by default.

        Returns
        -------
        FoldLoaders
            The training loader is shuffled; the validation loader yields every sample once, in order.
        """
        from torch.utils.data import DataLoader

        refuse_unknown_keywords("batch_sizes", set(batch_sizes or {}) - set(BATCH_SIZES), BATCH_SIZES)
        sizes = {**BATCH_SIZES, **(batch_sizes or {})}
        place = path if path == "" else absolute(path)
        train, val = (DatasetType(place, names, transform) for names in (self.train, self.val))
        return FoldLoaders(
            DataLoader(train, batch_size=sizes["train"], shuffle=True),
            DataLoader(val, batch_size=sizes["val"], shuffle=False),
        )


class SplitDefinition:
    """Folds of a cross-validation.

    Attributes
    ----------
    folds : list of TrainValRecord
        Samples of each fold.
    dataloader_test : object
        Loader of test data on which the best model of each fold is evaluated, or None.
    """

    def __init__(self) -> None:
        self.folds: list[TrainValRecord] = []
        self.dataloader_test: Any = None

    @staticmethod
    def read(path: Path_) -> SplitDefinition:
        """Read a JSON file with a list of ``{"train": [names], "val": [names]}``, such as nnU-Net's.

        Raises
        ------
        MissingFileError, ConfigError
            If the file does not exist, or has another content.

        Examples
        --------
        >>> path = getfixture("tmp_path") / "splits.json"
        >>> _ = path.write_text('[{"train": ["a", "b"], "val": ["c"]}]')
        >>> SplitDefinition.read(path)[0]
        TrainValRecord(train=['a', 'b'], val=['c'])
        """
        path = absolute(path)
        if not path.is_file():
            raise MissingFileError(f"there is no file {path} with folds")
        try:
            records = json.loads(path.read_text(encoding="utf-8-sig"))
        except ValueError as error:
            raise ConfigError(f"{path} is not valid JSON: {error}") from error
        if not isinstance(records, list) or not records:
            raise ConfigError(f"{path} holds a list of folds, not {type(records).__name__}")
        split = SplitDefinition()
        split.folds = [_record(path, number, record) for number, record in enumerate(records)]
        return split

    def __len__(self) -> int:
        return len(self.folds)

    def __getitem__(self, idx: int) -> TrainValRecord:
        return self.folds[idx]


def _record(path: Path, number: int, record: Any) -> TrainValRecord:
    if not isinstance(record, dict) or set(record) != {"train", "val"}:
        keys = sorted(record) if isinstance(record, dict) else type(record).__name__
        raise ConfigError(f"fold {number} of {path} has the lists 'train' and 'val', not {keys}")
    for name, names in record.items():
        if not isinstance(names, list) or not names or not all(isinstance(n, str) for n in names):
            raise ConfigError(f"{name!r} of fold {number} of {path} is a list of file names, not {names!r}")
    return TrainValRecord(record["train"], record["val"])


def _name_of(path: Path) -> str:
    return (
        path.stem if path.suffix in (".pt", ".pth", ".safetensors") else path.name
    )  # any other suffix is part of the name


class KFoldCrossValidationTrainer:
    """Train a model once per fold, always from the same initial weights.

    Parameters
    ----------
    trainer : BasicNCATrainer
        Trainer with the settings and the initial model of every fold.
    split : SplitDefinition
        Folds.

    Attributes
    ----------
    model_prototype : Automaton
        Model with the initial weights of every fold.
    model_name : str, optional
        Prefix of the folders ``<model_name>_fold00`` next to the trainer's ``model_path``: its last part, without the
        suffix of a weights file.
    trainers : list of BasicNCATrainer
        Trainers of the finished folds, each with its own model.

    Raises
    ------
    ConfigError
        If the split has no folds.
    """

    def __init__(self, trainer: BasicNCATrainer, split: SplitDefinition) -> None:
        if not len(split):
            raise ConfigError("a cross-validation has at least one fold, the split has none")
        self.trainer, self.split = trainer, split
        self.model_prototype = copy.deepcopy(trainer.nca)
        self.model_name = None if trainer.model_path is None else _name_of(trainer.model_path)
        self.trainers: list[BasicNCATrainer] = []

    def train(
        self,
        DatasetType: Any,  # noqa: N803
        datapath: Path_,
        transform: Any,
        batch_sizes: Mapping[str, int] | None = None,
        save_every: int | None = None,
        plot_function: Any = None,
        *,
        summary_writers: Sequence[Any] | None = None,
        resume: Path_ = "never",
    ) -> list[TrainingHistory]:
        """Train every fold.

        Parameters
        ----------
        DatasetType, datapath, transform, batch_sizes
            See :meth:`TrainValRecord.dataloaders`.
        save_every, plot_function, resume
            See :meth:`BasicNCATrainer.train`.
        summary_writers : sequence, optional
            One writer per fold.

        Returns
        -------
        list of TrainingHistory
            Histories of the folds.
        """
        if summary_writers is not None and len(summary_writers) != len(self.split):
            raise ConfigError(f"{len(self.split)} folds have {len(summary_writers)} summary_writers")
        self.trainers, histories = [], []
        for number in range(len(self.split)):
            path = self.trainer.model_path
            folder = None if path is None else path.with_name(f"{self.model_name}_fold{number:02d}")
            fold = self.trainer.for_fold(self.model_prototype, folder)
            train, val = self.split[number].dataloaders(DatasetType, datapath, transform, batch_sizes)
            writer = None if summary_writers is None else summary_writers[number]
            test = self.split.dataloader_test
            histories.append(fold.train(train, val, test, save_every, writer, plot_function, resume=resume))
            self.trainers.append(fold)
        return histories
