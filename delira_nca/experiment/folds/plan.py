"""Which samples a fold trains on, validates on and is tested on."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from delira_nca.data_loading.batches import Indices
from delira_nca.data_loading.dataset import AbstractDataset
from delira_nca.data_loading.labels import as_labels
from delira_nca.data_loading.readers.cases import shown
from delira_nca.data_loading.readers.splits_file import read_splits
from delira_nca.data_loading.splits import kfold_indices, require_group_key, train_val_indices
from delira_nca.errors import ConfigError
from delira_nca.io.paths import absolute

__all__ = ["FoldPlan", "Split"]

Split = dict[str, list[int]]
"""Numbers of samples of the parts ``"train"``, ``"val"`` and ``"test"``: plain values."""


@dataclass(frozen=True)
class FoldPlan:
    """How samples are divided into folds.

    Parameters
    ----------
    num_splits, shuffle, random_seed, split_type : see :func:`delira_nca.data_loading.splits.kfold_indices`.
    val_split : share, or number, of a fold's training samples (of groups, in a grouped split) to validate on; None or 0
        for none.
    label_key, group_key : entry of a sample that holds its class, for a stratified split, or its group, for a grouped
        one, or a stratified one that keeps groups together.
    splits_file : folds by names instead, see :func:`delira_nca.data_loading.readers.splits_file.read_splits`; the
        number of folds is then the file's, and the split type that of the validation part only.

    Raises
    ------
    UnknownNameError, ConfigError
        If the split type is unknown, or does not fit ``group_key``.

    Examples
    --------
    >>> from delira_nca.data_loading import DictDataset
    >>> cases = DictDataset({"x": np.arange(6), "label": [0, 0, 0, 1, 1, 1]})
    >>> for split in FoldPlan(3, split_type="stratified", val_split=2).splits(cases):
    ...     print({part: len(numbers) for part, numbers in split.items()})
    {'train': 2, 'val': 2, 'test': 2}
    {'train': 2, 'val': 2, 'test': 2}
    {'train': 2, 'val': 2, 'test': 2}
    """

    num_splits: int = 5
    shuffle: bool = True
    random_seed: int | None = None
    split_type: str = "random"
    val_split: float | int | None = 0.2
    label_key: str = "label"
    group_key: str | None = None
    splits_file: str | os.PathLike[str] | None = None

    def __post_init__(self) -> None:
        require_group_key(self.split_type, self.group_key)
        if self.split_type == "grouped" and self.group_key is None:
            raise ConfigError("a grouped split needs group_key, the name of the entry that holds the group of a sample")
        if self.splits_file is not None:
            object.__setattr__(self, "splits_file", absolute(self.splits_file))

    def splits(self, dataset: AbstractDataset) -> list[Split]:
        """Parts of every fold. No sample is in two parts of a fold, and without a file each is tested in one fold.

        Raises
        ------
        ConfigError, UnknownNameError
            If the samples cannot be divided so.
        """
        values: dict[str, Any] = {}
        if self.split_type == "stratified":
            values["labels"] = dataset.column(self.label_key)
        if self.group_key is not None:
            values["groups"] = as_labels(dataset.column(self.group_key), "group")
        chosen: dict[str, Any] = {"split_type": self.split_type, "random_seed": self.random_seed}
        if self.splits_file is not None:
            folds = read_splits(self.splits_file, dataset)
        else:
            folds = kfold_indices(len(dataset), self.num_splits, shuffle=self.shuffle, **chosen, **values)
        found: list[Split] = []
        for number, (train, test) in enumerate(folds):
            if both := _shared(values.get("groups"), train, test):
                raise ConfigError(f"fold {number} trains on and is tested on the same groups: {shown(both)}")
            val = np.empty(0, np.int64)
            if self.val_split:
                of_train = {name: column[train] for name, column in values.items()}
                kept, held = train_val_indices(len(train), self.val_split, **chosen, **of_train)
                train, val = train[kept], train[held]
            found.append({"train": train.tolist(), "val": val.tolist(), "test": test.tolist()})
        return found


def _shared(groups: npt.NDArray[Any] | None, train: Indices, test: Indices) -> list[Any]:
    """Groups that are in both parts, which a file of folds may bring about."""
    if groups is None:
        return []
    return sorted(set(groups[train].tolist()) & set(groups[test].tolist()), key=str)
