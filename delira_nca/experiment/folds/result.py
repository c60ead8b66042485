"""What became of a cross-validation: each fold, and all together."""

from __future__ import annotations

import os
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from delira_nca.errors import ConfigError, MissingFileError
from delira_nca.experiment.plain_files import read_plain
from delira_nca.experiment.result import RESULT
from delira_nca.io.paths import absolute

__all__ = ["FoldResult", "KFoldResult", "is_done", "load_predictions", "save_predictions"]

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class FoldResult:
    """One fold.

    Attributes
    ----------
    fold : its number, from 0.
    folder : of its run, for ``Experiment.load_network`` for example.
    indices : numbers of the samples that it was tested on.
    metrics : means over these samples, by name.
    per_sample : one value for each of them, by name.
    best_epoch, best_score : by the score that decides; None where none does.
    """

    fold: int
    folder: Path
    indices: tuple[int, ...]
    metrics: Mapping[str, float]
    per_sample: Mapping[str, tuple[float, ...]]
    best_epoch: int | None
    best_score: float | None

    @property
    def predictions(self) -> Any:
        """Predictions of the held-out samples, in the order of ``indices``, read from the fold's folder."""
        return load_predictions(self.folder / "predictions.npz")

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> FoldResult:
        """Read what a fold that is done has left in its folder.

        Raises
        ------
        MissingFileError
            If it is not done.
        """
        folder = absolute(folder)
        if not is_done(folder):
            raise MissingFileError(f"the fold in {folder} is not done: it has no result of a test")
        found = read_plain(folder / RESULT)
        test = found.get("outcome", found)  # version 0.1 had no other values
        return cls(
            fold=test["fold"],
            folder=folder,
            indices=tuple(test["indices"]),
            metrics=found["test_scores"] if test is not found else found["metrics"],
            per_sample={name: tuple(row) for name, row in test["per_sample"].items()},
            best_epoch=found["best_epoch"],
            best_score=found["best_score"],
        )


@dataclass(frozen=True)
class KFoldResult:
    """All folds; its text is a table.

    Attributes
    ----------
    folder : of the folders of the folds.
    folds : in order.
    """

    folder: Path
    folds: tuple[FoldResult, ...]

    @property
    def metrics(self) -> dict[str, tuple[float, ...]]:
        """Mean of every fold, by metric."""
        return {name: tuple(fold.metrics[name] for fold in self.folds) for name in self.folds[0].metrics}

    @property
    def mean(self) -> dict[str, float]:
        """Mean over folds, by metric."""
        return {name: statistics.fmean(values) for name, values in self.metrics.items()}

    @property
    def std(self) -> dict[str, float]:
        """Standard deviation over folds, with one degree of freedom less than folds; NaN of a single one."""
        return {n: statistics.stdev(v) if len(v) > 1 else float("nan") for n, v in self.metrics.items()}

    def per_sample(self, metric: str) -> dict[int, float]:
        """Value of every tested sample, by its number.

        Raises
        ------
        ConfigError
            If a sample was tested in two folds, as a file of splits may say.
        """
        pairs = [pair for fold in self.folds for pair in zip(fold.indices, fold.per_sample[metric], strict=True)]
        values = dict(sorted(pairs))
        if len(values) < len(pairs):
            raise ConfigError("a sample was tested in several folds: it has no single value")
        return values

    def table(self) -> str:
        """Folds and their means as text, with mean and standard deviation over folds below."""
        names = list(self.metrics)
        rows = [["fold", "tested", "best epoch", *names]]
        for fold in self.folds:
            epoch = "-" if fold.best_epoch is None else str(fold.best_epoch)
            rows.append([str(fold.fold), str(len(fold.indices)), epoch, *(f"{fold.metrics[n]:.4f}" for n in names)])
        rows.append(["mean", "", "", *(f"{self.mean[name]:.4f}" for name in names)])
        rows.append(["std", "", "", *(f"{self.std[name]:.4f}" for name in names)])
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join("  ".join(text.rjust(width) for text, width in zip(r, widths, strict=True)) for r in rows)

    __str__ = table

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> KFoldResult:
        """Read the folds that are in a folder, all of which must be done.

        Raises
        ------
        MissingFileError
            If there are none, or one is not done.
        """
        folder = absolute(folder)
        if not (folder / "kfold.json").is_file():
            raise MissingFileError(f"there are no folds in {folder}: it has no kfold.json")
        count = len(read_plain(folder / "kfold.json")["splits"])
        return cls(folder, tuple(FoldResult.load(folder / f"fold_{number}") for number in range(count)))


def is_done(folder: Path) -> bool:
    """Whether a fold has been tested."""
    if not (folder / RESULT).is_file():
        return False
    found = read_plain(folder / RESULT)
    return "per_sample" in found.get("outcome", found)


def save_predictions(predictions: Any, path: Path) -> None:
    """Write predictions as an ``.npz``: an array, a list of arrays of different shapes, or a dict of these by output.

    The names are ``predictions``, or ``sample_0``, ``sample_1``, ..., with ``<output>/`` before them for a dict.
    """
    from delira_nca.io.files import replaced

    with replaced(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **_named(predictions, ""))  # type: ignore[arg-type]


def _named(predictions: Any, place: str) -> dict[str, Array]:
    if isinstance(predictions, dict):
        named = (_named(part, f"{place}{name}/") for name, part in predictions.items())
        return {name: array for part in named for name, array in part.items()}
    if isinstance(predictions, list):
        return {f"{place}sample_{number}": sample for number, sample in enumerate(predictions)}
    return {f"{place}predictions": predictions}


def load_predictions(path: Path) -> Any:
    """Read what :func:`save_predictions` wrote."""
    with np.load(path, allow_pickle=False) as arrays:
        return _nested({name: np.asarray(arrays[name]) for name in arrays.files})


def _nested(named: dict[str, Array]) -> Any:
    if "predictions" in named:
        return named["predictions"]
    if "sample_0" in named:
        return [named[f"sample_{number}"] for number in range(len(named))]
    parts: dict[str, dict[str, Array]] = {}
    for name, array in named.items():
        output, _, rest = name.partition("/")
        parts.setdefault(output, {})[rest] = array
    return {output: _nested(part) for output, part in parts.items()}
