"""Statistics and scores in files: netCDF (``.nc``) or zarr (``.zarr``), the same after reading to the last bit."""

from __future__ import annotations

import json
import math
import os
from typing import TYPE_CHECKING, Any

import numpy as np

from delira_nca.errors import ConfigError
from delira_nca.experiment.stats.array_file import read_dataset, write_dataset
from delira_nca.experiment.stats.criteria import Criterion, EvaluationScores
from delira_nca.experiment.stats.libraries import import_for_stats
from delira_nca.experiment.stats.training_stats import TrainingIterationStats, TrainingStats
from delira_nca.experiment.stats.validation_scores import ValidationIterationScores, ValidationScores

if TYPE_CHECKING:
    import xarray

__all__ = ["load_training_stats", "load_validation_scores", "save_training_stats", "save_validation_scores"]

Path = str | os.PathLike[str]
KIND, VERSION = "delira_nca", "delira_nca_version"
STATS, SCORES = "training stats", "validation scores"
FORMAT = 1


def save_training_stats(stats: TrainingStats, path: Path) -> None:
    """Write the statistics of a training.

    Parameters
    ----------
    stats : all of them; named values too, and whether an iteration had them.
    path : ending in ``.nc`` or ``.zarr``. What is there is replaced as a whole.

    Raises
    ------
    UnknownNameError
        For another ending.
    MissingDependencyError
        If xarray, or the library for the format, is not installed.

    Examples
    --------
    >>> path = getfixture("tmp_path") / "stats.nc"
    >>> save_training_stats(TrainingStats([TrainingIterationStats(0, 0.5), TrainingIterationStats(4, 0.25)]), path)
    >>> load_training_stats(path).trained_until()
    5
    """
    names, rows = stats.value_names(), stats.iteration_stats
    present = np.array([[name in row.values for name in names] for row in rows], np.bool_)
    values = np.array([[row.values.get(name, math.nan) for name in names] for row in rows], np.float64)
    shape = (len(rows), len(names))
    dataset = stats.to_dataset()[["loss", "time"]].assign(
        value=(("iterations", "names"), values.reshape(shape)),
        present=(("iterations", "names"), present.reshape(shape)),
        names=(("names",), np.array(names, object)),
    )
    write_dataset(dataset.assign_attrs({KIND: STATS, VERSION: FORMAT}), path)


def load_training_stats(path: Path) -> TrainingStats:
    """Read what :func:`save_training_stats` wrote.

    Raises
    ------
    MissingFileError
        If nothing is there.
    ConfigError
        If it is no file of training statistics.
    """
    found = _read(path, STATS)
    names = [str(name) for name in found["names"].values]
    columns = (found[key].values.tolist() for key in ("iterations", "loss", "time", "value", "present"))
    return TrainingStats(
        TrainingIterationStats(
            iteration,
            loss,
            time,
            {name: value for name, value, is_there in zip(names, row, there, strict=True) if is_there},
        )
        for iteration, loss, time, row, there in zip(*columns, strict=True)
    )


def save_validation_scores(scores: ValidationScores, path: Path) -> None:
    """Write the scores of a run, with what they are of: parameters, data sets, and criteria with their directions.

    Parameters
    ----------
    scores : all of them.
    path : ending in ``.nc`` or ``.zarr``. What is there is replaced as a whole.

    Raises
    ------
    UnknownNameError
        For another ending.
    MissingDependencyError
        If xarray, or the library for the format, is not installed.

    Examples
    --------
    >>> criteria = EvaluationScores([Criterion("hausdorff", higher_is_better=False)])
    >>> path = getfixture("tmp_path") / "scores.zarr"
    >>> save_validation_scores(ValidationScores([{"threshold": 0.5}], ["liver"], criteria), path)
    >>> load_validation_scores(path).evaluation_scores.higher_is_better("hausdorff")
    False
    """
    criteria = [scores.evaluation_scores.criterion(name) for name in scores.criteria]
    array = scores.to_xarray()
    dataset = import_for_stats("xarray").Dataset(
        {
            "scores": (array.dims, array.values),
            "settings": (("parameters",), np.array([json.dumps(p) for p in scores.parameters], object)),
            "higher_is_better": (("criteria",), np.array([c.higher_is_better for c in criteria])),
            "bounds": (("criteria", "ends"), np.array([c.bounds for c in criteria])),
            "store_best": (("criteria",), np.array([c.store_best for c in criteria])),
        },
        coords={name: array[name].values for name in array.dims},
    )
    write_dataset(dataset.assign_attrs({KIND: SCORES, VERSION: FORMAT}), path)


def load_validation_scores(path: Path) -> ValidationScores:
    """Read what :func:`save_validation_scores` wrote.

    Raises
    ------
    MissingFileError
        If nothing is there.
    ConfigError
        If it is no file of validation scores.
    """
    found = _read(path, SCORES)
    described = (found[key].values.tolist() for key in ("criteria", "higher_is_better", "bounds", "store_best"))
    rows = zip(found["iterations"].values.tolist(), found["scores"].values.tolist(), strict=True)
    return ValidationScores(
        [json.loads(text) for text in found["settings"].values],
        [str(name) for name in found["datasets"].values],
        EvaluationScores(
            Criterion(str(name), higher, tuple(bounds), store)
            for name, higher, bounds, store in zip(*described, strict=True)
        ),
        [ValidationIterationScores(iteration, entry) for iteration, entry in rows],
    )


def _read(path: Path, kind: str) -> xarray.Dataset:
    found = read_dataset(path)
    attributes: dict[str, Any] = {KIND: None, VERSION: 0, **found.attrs}
    if attributes[KIND] != kind:
        raise ConfigError(f"{os.fspath(path)} holds no {kind}" + f", but {attributes[KIND]}" * bool(attributes[KIND]))
    if attributes[VERSION] != FORMAT:
        raise ConfigError(f"{os.fspath(path)} is of version {attributes[VERSION]}, and this package reads {FORMAT}")
    return found
