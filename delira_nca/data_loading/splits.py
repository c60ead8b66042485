"""Which samples are trained on, and which are held out: k folds, or one validation part.

Three kinds of split, by ``split_type``: ``"random"``; ``"stratified"``, each part with the same share of each class;
``"grouped"``, the samples of one group (a patient, a volume) all in the same part. A stratified split that is given
groups, too, keeps them together, with shares of the classes as equal as whole groups allow.
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
    """Divide a dataset into folds; each is held out once.

    Parameters
    ----------
    data : Dataset, mapping of arrays or iterable of samples
        A dataset, or what makes one. A subset is fine: its folds are views of the dataset below.
    num_splits, split_type, shuffle, random_seed : int, str, bool, int or None
        See `kfold_indices`.
    label_key : str
        Entry that holds the class of a sample, for a stratified split without ``labels``.
    group_key : str or None
        Entry that holds the group of a sample, for a grouped or stratified split without ``groups``.
    labels, groups : array_like or None
        The classes or groups themselves, in the order of the samples.

    Returns
    -------
    list of (training, held out) pairs of `SubsetDataset`

    Raises
    ------
    ConfigError
        As `kfold_indices`; also if the entry is not in the dataset, or a random split is given ``group_key``.

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
    """Divide a dataset into a part to train on and a part to validate on.

    Parameters
    ----------
    data : Dataset, mapping of arrays or iterable of samples
        A dataset, or what makes one; the training part of a fold, for example.
    val_split, split_type, random_seed : float or int, str, int or None
        See `train_val_indices`.
    label_key, group_key, labels, groups : str, str or None, array_like or None
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
    """Divide the numbers 0 to ``num_samples - 1`` into folds; each is held out once.

    Parameters
    ----------
    num_samples : int
        How many samples there are.
    num_splits : int
        Number of folds, at least 2.
    split_type : str
        ``"random"``, ``"stratified"`` or ``"grouped"``. Groups are dealt out so that the folds are of similar size.
    shuffle : bool
        Whether chance decides who is in which fold; if not, the order of the samples does.
    random_seed : int or None
        Of the chance; ``None`` is 0. Global generators are never drawn from.
    labels : array_like or None
        (num_samples,) classes, for a stratified split.
    groups : array_like or None
        (num_samples,) groups, for a grouped split, or for a stratified one that keeps groups together.

    Returns
    -------
    list of (training, held out) pairs of sorted int64 arrays

    Raises
    ------
    UnknownNameError
        If the kind of split is unknown.
    ConfigError
        If there are fewer samples or groups, or fewer members of a class (with groups: groups that hold it), than
        folds; if a fold of whole groups lacks a class; or if labels or groups are missing, or given to a split that
        does not look at them.
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
        if shuffle:  # of groups of equal size, the number decides
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
    """Divide the numbers 0 to ``num_samples - 1`` by chance into a training and a validation part.

    Parameters
    ----------
    num_samples : int
        How many samples there are.
    val_split : float or int
        Share of the validation part, between 0 and 1, rounded up; or, an integer, its number of samples. Of groups,
        where there are any. With labels and groups, the best of 100 random choices is taken.
    split_type, random_seed, labels, groups : str, int or None, array_like or None
        See `kfold_indices`.

    Returns
    -------
    (training, validation) pair of sorted int64 arrays

    Raises
    ------
    UnknownNameError
        If the kind of split is unknown.
    ConfigError
        If a part would be empty, a class has a single member, or, in a stratified split, a part has fewer
        samples than there are classes; or as in `kfold_indices`.
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
    """Labels or groups of the samples, read from the dataset where they were not given."""
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
    """Refuse an unknown kind of split, and a random one with ``group_key``, which would divide groups.

    Raises
    ------
    UnknownNameError, ConfigError
        With the kinds of split that keep groups together.

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
    """Classes, the class of each sample and its group, after a check that every part can hold every class."""
    classes, codes = encode(as_labels(labels, "label", num_samples))  # type: ignore[arg-type]
    of_group = encode(as_labels(groups, "group", num_samples))[1]  # type: ignore[arg-type]
    pairs = np.unique(np.stack([codes, of_group]), axis=1)
    _require_members(classes, pairs[0], least, needed_for, "groups")
    return classes, codes, of_group


def _imbalance(codes: npt.NDArray[np.int64], parts: Sequence[npt.NDArray[Any]]) -> float:
    """How far the shares of the classes in parts are from those of all samples; infinite if a part lacks a class."""
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
