"""The best along one dimension of a labelled array of scores, each criterion in its own direction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from delira_nca.errors import ConfigError, UnknownNameError, did_you_mean
from delira_nca.experiment.stats.criteria import EvaluationScores
from delira_nca.experiment.stats.libraries import import_for_stats

if TYPE_CHECKING:
    import xarray

__all__ = ["best_along"]

Array = npt.NDArray[Any]


def best_along(
    data: xarray.DataArray, dim: str, evaluation_scores: EvaluationScores
) -> tuple[xarray.DataArray, xarray.DataArray]:
    """Index and value of the best score along a dimension.

    Parameters
    ----------
    data : scores with a coordinate ``criteria``, along a dimension or for the whole array.
    dim : dimension to go along; any but ``criteria``.
    evaluation_scores : knows the directions.

    Returns
    -------
    tuple of (index, value)
        Arrays over the other dimensions. The index is the coordinate along ``dim``, or, without one, the position.
        Of equals it is the lowest number, or the first name. NaN never is the best; where there is nothing else,
        index and value are NaN.

    Raises
    ------
    ConfigError
        If the array does not say its criteria, or ``dim`` is ``criteria``.
    UnknownNameError
        For a dimension or a criterion that is not there.
    """
    xarray = import_for_stats("xarray")
    if not isinstance(data, xarray.DataArray) or "criteria" not in data.coords:
        raise ConfigError(f"the best is found in an array with a coordinate 'criteria', not in {_describe(data)}")
    if dim == "criteria":
        raise ConfigError("scores of different criteria cannot be compared: choose another dimension")
    if dim not in data.dims:
        raise UnknownNameError(f"unknown dimension {dim!r} of the scores. {did_you_mean(dim, data.dims)}")
    if dim in data["criteria"].dims:
        raise ConfigError(f"the criteria change along {dim!r}, and scores of different criteria cannot be compared")
    rest = [name for name in data.dims if name != dim]
    along = data[dim].values if dim in data.coords else np.arange(data.sizes[dim])
    scores = data.transpose(*rest, dim).values
    if along.dtype.kind in "iuf":  # so that the first of equals is the lowest
        order = np.argsort(along, kind="stable")
        scores, along = scores[..., order], along[order]
    first = _first_best(scores, _directions(data["criteria"], rest, evaluation_scores))
    coords = {name: coord for name, coord in data.coords.items() if dim not in coord.dims}
    index = xarray.DataArray(_at(along, first), dims=rest, coords=coords, name=dim)
    return index, xarray.DataArray(_values(scores, first), dims=rest, coords=coords, name=data.name)


def _directions(criteria: xarray.DataArray, rest: list[Any], evaluation_scores: EvaluationScores) -> Array:
    """1 where higher is better, -1 elsewhere, in a shape that fits the scores with the searched axis as the last."""
    criteria = criteria.transpose(*(name for name in rest if name in criteria.dims))
    signs = [1.0 if evaluation_scores.higher_is_better(str(name)) else -1.0 for name in criteria.values.flat]
    return np.array(signs).reshape(*(criteria.sizes.get(name, 1) for name in rest), 1)


def _first_best(scores: Array, directions: Array) -> Array:
    """Position of the first best along the last axis; -1 where all are NaN."""
    if scores.shape[-1] == 0:
        return np.full(scores.shape[:-1], -1)
    valid = ~np.isnan(scores)
    oriented = np.where(valid, scores * directions, -np.inf)
    is_best = valid & (oriented == oriented.max(-1, keepdims=True))
    return np.where(valid.any(-1), is_best.argmax(-1), -1)


def _at(along: Array, first: Array) -> Array:
    """Coordinates of positions, NaN for -1."""
    if (first >= 0).all():
        return along[first]
    if along.dtype.kind not in "iuf":
        along = along.astype(object)
    return np.append(along, np.nan)[first]


def _values(scores: Array, first: Array) -> Array:
    """Scores at positions along the last axis, NaN for -1."""
    nothing = np.full((*scores.shape[:-1], 1), np.nan)
    return np.take_along_axis(np.concatenate([scores, nothing], -1), first[..., None], -1)[..., 0]


def _describe(data: Any) -> str:
    return f"one with {sorted(map(str, data.coords))}" if hasattr(data, "coords") else repr(data)
