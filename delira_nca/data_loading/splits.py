"""Splits of datasets: k folds, or one validation part.

There are three values of ``split_type``: ``"random"``; ``"stratified"``, with equal class frequencies in each part; and
``"grouped"``, with all samples of a group (a patient, a volume) in the same part. A stratified split with groups keeps
them together, with class frequencies as equal as possible.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from delira_nca import seeding
from delira_nca.checks import is_number, is_whole, require_whole
from delira_nca.data_loading.batches import Indices
from delira_nca.data_loading.dataset import AbstractDataset, DataLike, SubsetDataset, as_dataset
from delira_nca.data_loading.labels import as_labels, encode
from delira_nca.errors import ConfigError, require_choice

__all__ = ["SPLIT_TYPES", "kfold", "kfold_indices", "require_group_key", "train_val_indices", "train_val_split"]

SPLIT_TYPES = ("random", "stratified", "grouped")

Values = Sequence[Any] | npt.NDArray[Any]


def kfold(
    data: DataLike,
    num_splits: int = 5,
    *,
    split_type: str = "random",
    shuffle: bool = True,
    random_seed: int | None = None,
    label_key: str = "label",
    group_key: str | None = None,
    labels: Values | None = None,
    groups: Values | None = None,
) -> list[tuple[SubsetDataset, SubsetDataset]]:
    """Split a dataset into folds, each of which is held out once.

    Parameters
    ----------
    data : Dataset, mapping of arrays or iterable of samples
        Dataset, or data that can be converted to one. The folds of a subset are views of the underlying dataset.
    num_splits, split_type, shuffle, random_seed
        See `kfold_indices`.
    label_key : str
        Entry with the class of a sample, for a stratified split without ``labels``.
    group_key : str or None
        Entry with the group of a sample, for a grouped or stratified split without ``groups``.
    labels, groups : array_like or None
        Classes or groups in the order of the samples.

    Returns
    -------
    list of (training, held out) pairs of `SubsetDataset`

    Raises
    ------
    ConfigError
        As in `kfold_indices`, or if the dataset lacks the entry, or ``group_key`` is given for a random split.

    Examples
    --------
    >>> folds = kfold({"x": np.arange(6), "label": [0, 1, 0, 1, 0, 1]}, 3, split_type="stratified")
    >>> [sorted(test.column("label").tolist()) for _, test in folds]
    [[0, 1], [0, 1], [0, 1]]
    """
    dataset = as_dataset(data)
    labels, groups = _values_of(dataset, split_type, label_key, group_key, labels, groups)
    folds = kfold_indices(
        len(dataset),
        num_splits,
        split_type=split_type,
        shuffle=shuffle,
        random_seed=random_seed,
        labels=labels,
        groups=groups,
    )
    return [(dataset.get_subset(train), dataset.get_subset(test)) for train, test in folds]


def train_val_split(
    data: DataLike,
    val_split: float | int = 0.2,
    *,
    split_type: str = "random",
    random_seed: int | None = None,
    label_key: str = "label",
    group_key: str | None = None,
    labels: Values | None = None,
    groups: Values | None = None,
) -> tuple[SubsetDataset, SubsetDataset]:
    """Split a dataset into a training and a validation part.

    Parameters
    ----------
    data : Dataset, mapping of arrays or iterable of samples
        Dataset, or data that can be converted to one; for example the training part of a fold.
    val_split, split_type, random_seed
        See `train_val_indices`.
    label_key, group_key, labels, groups
        See `kfold`.

    Returns
    -------
    (training, validation) pair of `SubsetDataset`

    Examples
    --------
    >>> train, val = train_val_split({"x": np.arange(10)}, 0.3)
    >>> len(train), len(val), sorted(train.column("x").tolist() + val.column("x").tolist()) == list(range(10))
    (7, 3, True)
    """
    dataset = as_dataset(data)
    labels, groups = _values_of(dataset, split_type, label_key, group_key, labels, groups)
    train, val = train_val_indices(
        len(dataset), val_split, split_type=split_type, random_seed=random_seed, labels=labels, groups=groups
    )
    return dataset.get_subset(train), dataset.get_subset(val)


def kfold_indices(
    num_samples: int,
    num_splits: int = 5,
    *,
    split_type: str = "random",
    shuffle: bool = True,
    random_seed: int | None = None,
    labels: Values | None = None,
    groups: Values | None = None,
) -> list[tuple[Indices, Indices]]:
    """Split the indices 0 to ``num_samples - 1`` into folds, each of which is held out once.

    Parameters
    ----------
    num_samples : int
        Number of samples.
    num_splits : int
        Number of folds, at least 2.
    split_type : str
        ``"random"``, ``"stratified"`` or ``"grouped"``. Groups are distributed such that the folds have similar sizes.
    shuffle : bool
        Whether to shuffle the samples; otherwise their order determines the folds.
    random_seed : int or None
        Seed of the shuffling; 0 by default. Global random generators are not used.
    labels : array_like or None
        (num_samples,) classes, for a stratified split.
    groups : array_like or None
        (num_samples,) groups, for a grouped split, or for a stratified one that keeps groups together.

    Returns
    -------
    list of (training, held out) pairs of sorted int64 arrays

    Raises
    ------
    ConfigError
        If the number of samples or groups, or of members of a class (with groups: of groups that contain it), is below
        the number of folds; if a fold of whole groups lacks a class; or if labels or groups are missing, or given for a
        split that does not use them.
    """
    _require_kind(split_type, num_samples, labels, groups)
    num_splits = require_whole("num_splits", num_splits, 2)
    if num_splits > num_samples:
        raise ConfigError(f"num_splits={num_splits} folds cannot be made of {num_samples} samples")
    from sklearn.model_selection import GroupKFold, KFold, StratifiedGroupKFold, StratifiedKFold

    seed = seeding.derive_seed(0 if random_seed is None else random_seed, "kfold")
    chance = {"shuffle": True, "random_state": seed} if shuffle else {}
    rows = np.zeros(num_samples)
    if split_type == "stratified" and groups is not None:
        classes, codes, of_group = _classes_and_groups(
            labels, groups, num_samples, num_splits, f"num_splits={num_splits}"
        )
        found = [*StratifiedGroupKFold(num_splits, **chance).split(rows, codes, of_group)]
        _require_all_classes([part for fold in found for part in fold], classes, codes, f"num_splits={num_splits}")
    elif split_type == "stratified":
        classes, codes = encode(as_labels(labels, "label", num_samples))  # type: ignore[arg-type]
        _require_members(classes, codes, num_splits, f"num_splits={num_splits}")
        found = StratifiedKFold(num_splits, **chance).split(rows, codes)
    elif split_type == "grouped":
        names, codes = encode(as_labels(groups, "group", num_samples))  # type: ignore[arg-type]
        if len(names) < num_splits:
            raise ConfigError(f"num_splits={num_splits} folds cannot be made of {len(names)} groups: {_shown(names)}")
        if shuffle:  # the order of groups of equal size depends on their codes
            codes = np.random.default_rng(seed).permutation(len(names))[codes]
        found = GroupKFold(num_splits).split(rows, groups=codes)
    else:
        found = KFold(num_splits, **chance).split(rows)
    return [(_sorted(train), _sorted(test)) for train, test in found]


def train_val_indices(
    num_samples: int,
    val_split: float | int = 0.2,
    *,
    split_type: str = "random",
    random_seed: int | None = None,
    labels: Values | None = None,
    groups: Values | None = None,
) -> tuple[Indices, Indices]:
    """Split the indices 0 to ``num_samples - 1`` randomly into a training and a validation part.

    Parameters
    ----------
    num_samples : int
        Number of samples.
    val_split : float or int
        Fraction of the validation part, between 0 and 1, rounded up; or its number of samples, an integer. With groups,
        the fraction or number of groups. With labels and groups, the best of 100 random splits is used.
    split_type, random_seed, labels, groups
        See `kfold_indices`.

    Returns
    -------
    (training, validation) pair of sorted int64 arrays

    Raises
    ------
    ConfigError
        If a part would be empty, a class has a single member, or a part of a stratified split has fewer samples than
        there are classes; or as in `kfold_indices`.
    """
    _require_kind(split_type, num_samples, labels, groups)
    from sklearn.model_selection import GroupShuffleSplit, ShuffleSplit, StratifiedShuffleSplit

    seed = seeding.derive_seed(0 if random_seed is None else random_seed, "validation")
    rows = np.zeros(num_samples)
    if split_type == "stratified" and groups is not None:
        classes, codes, of_group = _classes_and_groups(
            labels, groups, num_samples, 2, "the 2 parts of a validation split"
        )
        held_out = _num_held_out(val_split, int(of_group.max()) + 1, "groups")
        drawn = GroupShuffleSplit(100, test_size=held_out, random_state=seed).split(rows, groups=of_group)
        parts = iter([min(drawn, key=lambda pair: _imbalance(codes, pair))])
    elif split_type == "grouped":
        names, codes = encode(as_labels(groups, "group", num_samples))  # type: ignore[arg-type]
        held_out = _num_held_out(val_split, len(names), "groups")
        parts = GroupShuffleSplit(1, test_size=held_out, random_state=seed).split(rows, groups=codes)
    elif split_type == "stratified":
        classes, codes = encode(as_labels(labels, "label", num_samples))  # type: ignore[arg-type]
        held_out = _num_held_out(val_split, num_samples, "samples")
        _require_members(classes, codes, 2, "the 2 parts of a validation split")
        smaller = min(held_out, num_samples - held_out)
        if smaller < len(classes):
            raise ConfigError(
                f"val_split={val_split} of {num_samples} samples makes a part of {smaller}, fewer than the "
                f"{len(classes)} classes that each part must hold"
            )
        parts = StratifiedShuffleSplit(1, test_size=held_out, random_state=seed).split(rows, codes)
    else:
        held_out = _num_held_out(val_split, num_samples, "samples")
        parts = ShuffleSplit(1, test_size=held_out, random_state=seed).split(rows)
    train, val = next(iter(parts))
    if split_type == "stratified" and groups is not None:
        _require_all_classes([train, val], classes, codes, f"val_split={val_split}")
    return _sorted(train), _sorted(val)


def _values_of(
    dataset: AbstractDataset,
    split_type: str,
    label_key: str,
    group_key: str | None,
    labels: Values | None,
    groups: Values | None,
) -> tuple[Values | None, Values | None]:
    """Return labels or groups of the samples, read from the dataset if they are not given."""
    require_group_key(split_type, group_key)
    if groups is not None and group_key is not None:
        raise ConfigError(f"give groups or group_key={group_key!r}, not both")
    if split_type == "stratified" and labels is None:
        labels = dataset.column(label_key)
    if group_key is not None:
        groups = dataset.column(group_key)
    return labels, groups


def _require_kind(split_type: str, num_samples: int, labels: Values | None, groups: Values | None) -> None:
    require_choice("split_type", split_type, SPLIT_TYPES)
    require_whole("num_samples", num_samples, 2)
    if split_type == "stratified" and labels is None:
        raise ConfigError("a stratified split needs labels")
    if split_type == "grouped" and groups is None:
        raise ConfigError("a grouped split needs groups, or group_key, the name of an entry of the dataset")
    if split_type != "stratified" and labels is not None:
        raise ConfigError(f"labels were given, but a {split_type} split does not look at them: use 'stratified'")
    if split_type == "random" and groups is not None:
        raise ConfigError("groups were given, but a random split does not look at them: use 'grouped' or 'stratified'")


def require_group_key(split_type: str, group_key: str | None) -> None:
    """Check the type of split. A random split with ``group_key`` raises, as it would divide groups.

    Raises
    ------
    UnknownNameError, ConfigError
        If it is invalid. The message names the types that keep groups together.

    Examples
    --------
    >>> require_group_key("random", "patient")
    Traceback (most recent call last):
    delira_nca.errors.ConfigError: group_key='patient' was given, but a random split does not keep groups together: use
    split_type='grouped', or 'stratified'
    """
    require_choice("split_type", split_type, SPLIT_TYPES)
    if group_key is not None and split_type == "random":
        raise ConfigError(
            f"group_key={group_key!r} was given, but a random split does not keep groups together: use "
            "split_type='grouped', or 'stratified'"
        )


def _classes_and_groups(
    labels: Values | None, groups: Values | None, num_samples: int, least: int, needed_for: str
) -> tuple[list[Any], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return classes, and class and group of each sample, after a check that every part can contain every class."""
    classes, codes = encode(as_labels(labels, "label", num_samples))  # type: ignore[arg-type]
    of_group = encode(as_labels(groups, "group", num_samples))[1]  # type: ignore[arg-type]
    pairs = np.unique(np.stack([codes, of_group]), axis=1)
    _require_members(classes, pairs[0], least, needed_for, "groups")
    return classes, codes, of_group


def _imbalance(codes: npt.NDArray[np.int64], parts: Sequence[npt.NDArray[Any]]) -> float:
    """Difference of the class frequencies of parts from those of all samples; infinite if a part lacks a class."""
    shares = [np.bincount(codes[part], minlength=codes.max() + 1) / len(part) for part in parts]
    if not np.all(shares):
        return np.inf
    return float(np.abs(np.array(shares) - np.bincount(codes) / len(codes)).sum())


def _require_all_classes(
    parts: Sequence[npt.NDArray[Any]], classes: list[Any], codes: npt.NDArray[np.int64], needed_for: str
) -> None:
    for part in parts:
        lacking = [
            name
            for name, count in zip(classes, np.bincount(codes[part], minlength=len(classes)), strict=True)
            if not count
        ]
        if lacking:
            raise ConfigError(
                f"no division into whole groups was found for {needed_for} in which every part has the classes "
                f"{_shown(lacking)}: take fewer parts, another random_seed, or split_type='grouped'"
            )


def _require_members(
    classes: list[Any], codes: npt.NDArray[np.int64], least: int, needed_for: str, what: str = "samples"
) -> None:
    counts = np.bincount(codes, minlength=len(classes))
    if counts.min() < least:
        members = ", ".join(
            f"class {name!r} has {count}" for name, count in zip(classes, counts, strict=True) if count < least
        )
        raise ConfigError(f"too few {what} of a class for {needed_for}: {members}; each class needs at least {least}")


def _num_held_out(val_split: float | int, available: int, what: str) -> int:
    is_share = not is_whole(val_split)
    if not is_number(val_split) or not 0 < val_split < (1 if is_share else available):
        raise ConfigError(
            f"val_split must be a share between 0 and 1, or a number of {what} from 1 to {available - 1}, "
            f"not {val_split!r}"
        )
    held_out = int(np.ceil(np.round(val_split * available, 9))) if is_share else int(val_split)
    if held_out >= available:
        raise ConfigError(f"val_split={val_split} of {available} {what} leaves none to train on")
    return held_out


def _sorted(indices: npt.NDArray[Any]) -> Indices:
    return np.sort(indices).astype(np.int64)


def _shown(names: list[Any], most: int = 10) -> str:
    return ", ".join(repr(name) for name in names[:most]) + (", ..." if len(names) > most else "")
