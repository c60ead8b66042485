"""Files with folds: nnU-Net's ``splits_final.json``, a list of ``{"train": [names], "val": [names]}``."""

from __future__ import annotations

import difflib
import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from delira_nca.data_loading.batches import Indices, IndicesLike, as_indices
from delira_nca.data_loading.dataset import AbstractDataset
from delira_nca.data_loading.readers.cases import shown
from delira_nca.data_loading.readers.files import normal_name
from delira_nca.errors import ConfigError, MissingFileError, UnknownNameError
from delira_nca.io.files import replaced
from delira_nca.io.json_file import parse_json
from delira_nca.io.paths import absolute

__all__ = ["names_of", "read_splits", "write_splits"]

_PARTS = ("train", "val")


def names_of(dataset: AbstractDataset) -> tuple[str, ...]:
    """Return the names of all samples: their entry ``"name"``, or `AbstractDataset.name_of`.

    Raises
    ------
    ConfigError
        If two samples have the same name.

    Examples
    --------
    >>> from delira_nca.data_loading import DictDataset
    >>> names_of(DictDataset({"x": [1, 2], "name": ["ann", "bob"]})), names_of(DictDataset({"x": [1, 2]}))
    (('ann', 'bob'), ('sample 0', 'sample 1'))
    """
    try:
        names = tuple(map(str, dataset.column("name")))
    except UnknownNameError:
        names = tuple(dataset.name_of(number) for number in range(len(dataset)))
    if double := _doubled(names):
        raise ConfigError(f"splits go by names, and several samples of the dataset are called {shown(double)}")
    return names


def read_splits(path: str | os.PathLike[str], dataset: AbstractDataset) -> list[tuple[Indices, Indices]]:
    """Read the folds of a file for a dataset.

    Parameters
    ----------
    path : str or path-like
        Path of the file.
    dataset : AbstractDataset
        Dataset of the named samples; see :func:`names_of`. Samples that a fold does not name are not part of
        it.

    Returns
    -------
    list of (training, held out) pairs of sorted int64 arrays

    Raises
    ------
    MissingFileError
        If the file does not exist or is not valid JSON.
    UnknownNameError
        If a case is not in the dataset. The message names the most similar one.
    ConfigError
        If the format is wrong, a part is empty, or a case occurs twice in a part or in both parts.
    """
    path = absolute(path)
    content, names = _read(path), names_of(dataset)
    numbers = {name: number for number, name in enumerate(names)}
    folds = []
    for fold, parts in enumerate(content):
        where = f"fold {fold} of {os.fspath(path)!r}"
        _check_fold(parts, where, numbers)
        both = sorted(set(parts["train"]) & set(parts["val"]))
        if both:
            raise ConfigError(f"{where}: in training and held out as well: {shown(both)}")
        train, val = (np.sort(np.array([numbers[name] for name in parts[part]], dtype=np.int64)) for part in _PARTS)
        folds.append((train, val))
    return folds


def write_splits(
    path: str | os.PathLike[str], dataset: AbstractDataset, folds: Sequence[tuple[IndicesLike, IndicesLike]]
) -> Path:
    """Write folds, for nnU-Net or for :func:`read_splits`.

    Parameters
    ----------
    path : str or path-like
        Path of the file, which is replaced.
    dataset : AbstractDataset
        Dataset of the samples; see :func:`names_of`.
    folds : sequence of pairs of index sequences
        (training, held out) pairs, for example from :func:`~delira_nca.data_loading.splits.kfold_indices`.

    Raises
    ------
    ConfigError
        If an index is out of range, or a sample is in both parts of a fold.

    Examples
    --------
    >>> from delira_nca.data_loading import DictDataset, kfold_indices
    >>> cases = DictDataset({"x": np.arange(4), "name": ["ann", "bob", "eve", "ian"]})
    >>> path = write_splits(getfixture("tmp_path") / "splits_final.json", cases, kfold_indices(4, 2, shuffle=False))
    >>> print(path.read_text())
    [
      {"train": ["eve", "ian"], "val": ["ann", "bob"]},
      {"train": ["ann", "bob"], "val": ["eve", "ian"]}
    ]
    >>> [(train.tolist(), held_out.tolist()) for train, held_out in read_splits(path, cases)]
    [([2, 3], [0, 1]), ([0, 1], [2, 3])]
    """
    names, lines = names_of(dataset), []
    for fold, pair in enumerate(folds):
        train, val = (as_indices(part, len(names)).tolist() for part in pair)
        if both := sorted(set(train) & set(val)):
            raise ConfigError(f"fold {fold}: in training and held out as well: {shown(names[i] for i in both)}")
        lines.append("  " + json.dumps({"train": [names[i] for i in train], "val": [names[i] for i in val]}))
    path = absolute(path)
    text = "[\n" + ",\n".join(lines) + "\n]\n"
    with replaced(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


def _read(path: Path) -> list[Any]:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise MissingFileError(f"there is no file {os.fspath(path)!r} with folds: {error.strerror}") from error
    content = parse_json(raw, path)
    if not isinstance(content, list) or not content:
        raise ConfigError(f"{os.fspath(path)!r} must be a list of {{'train': [names], 'val': [names]}}, one per fold")
    return content


def _check_fold(parts: Any, where: str, known: Mapping[str, int]) -> None:
    if not isinstance(parts, Mapping) or set(parts) != set(_PARTS):
        found = sorted(map(str, parts)) if isinstance(parts, Mapping) else type(parts).__name__
        raise ConfigError(f"{where} must have 'train' and 'val' and nothing else, not {found}")
    for part in _PARTS:
        names = parts[part]
        if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
            raise ConfigError(f"{where}: {part!r} must be a list of names, at least one")
        for name in names:
            if name not in known:
                close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
                hint = f". Did you mean {close[0]!r}?" if close else ""
                if close and normal_name(close[0]) == normal_name(name):
                    hint += " Its accents are other characters (Unicode NFC against NFD)"
                raise UnknownNameError(f"{where}: {name!r} in {part!r} is none of the {len(known)} cases{hint}")
        if double := _doubled(names):
            raise ConfigError(f"{where}: twice in {part!r}: {shown(double)}")


def _doubled(names: Sequence[str]) -> list[str]:
    return [name for name, count in Counter(names).items() if count > 1]
