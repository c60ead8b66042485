"""What every validation scored, for each data set, setting of the post-processing, and criterion."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from delira_nca.checks import require_type
from delira_nca.errors import ConfigError, ShapeError
from delira_nca.experiment.stats.best import best_along
from delira_nca.experiment.stats.criteria import EvaluationScores
from delira_nca.experiment.stats.libraries import import_for_stats
from delira_nca.experiment.stats.parameters import Parameters, as_parameters, columns, labels, names
from delira_nca.experiment.stats.values import as_iteration, as_number, require_text

if TYPE_CHECKING:
    import xarray

__all__ = ["SyncPlan", "ValidationIterationScores", "ValidationScores"]

_AXES = ("datasets", "parameters", "criteria")


class SyncPlan(NamedTuple):
    """What brings scores that are stored elsewhere up to date.

    Parameters
    ----------
    replace : whether what is stored is to be deleted first.
    from_iteration : first iteration that is to be written.
    """

    replace: bool
    from_iteration: int


@dataclass(frozen=True)
class ValidationIterationScores:
    """Scores of one validation.

    Parameters
    ----------
    iteration : of the training that they belong to.
    scores : ``scores[dataset][parameter][criterion]``, lists, an array or a tensor; kept as lists of floats.

    Raises
    ------
    ConfigError
        If the iteration is negative or not whole, or a score is not one number.
    ShapeError
        If the scores are not nested three deep.

    Examples
    --------
    >>> ValidationIterationScores(10, np.array([[[0.5, 2.0]]]))
    ValidationIterationScores(iteration=10, scores=[[[0.5, 2.0]]])
    """

    iteration: int
    scores: list[list[list[float]]] = field(hash=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "iteration", as_iteration(self.iteration))
        object.__setattr__(self, "scores", _nested(self.scores, self.iteration, ()))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ValidationIterationScores):
            return NotImplemented
        return self.__reduce__() == other.__reduce__()  # of tuples, in which the one NaN is equal to itself

    def __reduce__(self) -> tuple[type[ValidationIterationScores], tuple[Any, ...]]:
        return ValidationIterationScores, (self.iteration, self.scores)


def _nested(given: Any, iteration: int, place: tuple[int, ...]) -> Any:
    where = "scores" + "".join(f"[{number}]" for number in place)
    if len(place) == len(_AXES):
        return as_number(f"{where} of iteration {iteration}", given)
    try:
        entries = None if isinstance(given, (str, dict)) else list(given)
    except TypeError:
        entries = None
    if entries is None:
        raise ShapeError(
            f"scores are scores[dataset][parameter][criterion], and {where} of iteration {iteration} is {given!r}"
        )
    return [_nested(entry, iteration, (*place, number)) for number, entry in enumerate(entries)]


@dataclass(init=False)
class ValidationScores:
    """Scores of a run: which data sets, parameters and criteria they are of, and one entry for each validation.

    Parameters
    ----------
    parameters : mappings of plain values, such as ``{"threshold": 0.5, "steps": 64}``, or identifiers.
    datasets : names.
    evaluation_scores : the criteria, with their directions.
    scores : to begin with, in ascending order of their iterations; kept as a list.

    Raises
    ------
    ConfigError, ShapeError
        If two parameters or data sets are alike, or for scores that :meth:`add_iteration_scores` refuses.

    Examples
    --------
    >>> from delira_nca.experiment.stats import Criterion
    >>> criteria = EvaluationScores([Criterion("dice", True, (0, 1)), Criterion("hausdorff", False)])
    >>> scores = ValidationScores([{"threshold": 0.3}, {"threshold": 0.5}], ["liver"], criteria)
    >>> scores.add_iteration_scores(ValidationIterationScores(9, [[[0.6, 4.0], [0.7, 5.0]]]))
    >>> scores.add_iteration_scores(ValidationIterationScores(19, [[[0.8, 3.0], [0.75, 2.0]]]))
    >>> scores.validated_until(), scores.criteria, scores.parameter_names
    (20, ['dice', 'hausdorff'], ['threshold'])
    >>> parameter, value = scores.get_best(scores.to_xarray().sel(iterations=9, datasets="liver"), "parameters")
    >>> parameter.values.tolist(), value.values.tolist()
    (['threshold=0.5', 'threshold=0.3'], [0.7, 4.0])
    """

    parameters: list[Parameters]
    datasets: list[str]
    evaluation_scores: EvaluationScores
    scores: list[ValidationIterationScores]

    def __init__(
        self,
        parameters: Iterable[Parameters],
        datasets: Iterable[str],
        evaluation_scores: EvaluationScores,
        scores: Iterable[ValidationIterationScores] = (),
    ) -> None:
        for what, given in (("parameters", parameters), ("datasets", datasets)):
            if isinstance(given, (str, dict)):
                raise ConfigError(f"{what} are several, in a list, not {given!r}")
        require_type("evaluation_scores", evaluation_scores, EvaluationScores)
        self.parameters = as_parameters(parameters)
        self.datasets = [require_text("the name of a data set", name) for name in datasets]
        if len(set(self.datasets)) < len(self.datasets):
            raise ConfigError(f"each data set has a name of its own, not {self.datasets}")
        self.evaluation_scores = evaluation_scores
        self.scores = []
        for iteration_scores in scores:
            self.add_iteration_scores(iteration_scores)

    def subscores(self, iteration_scores: Iterable[ValidationIterationScores]) -> ValidationScores:
        """The same with only some of the scores.

        Raises
        ------
        ConfigError
            If one is not among the scores, or they are not in ascending order.
        """
        given = list(iteration_scores)
        for chosen in given:
            if chosen not in self.scores:
                known = [entry.iteration for entry in self.scores]
                raise ConfigError(f"{chosen!r} is not among the scores, which are of the iterations {known}")
        return ValidationScores(self.parameters, self.datasets, self.evaluation_scores, given)

    def add_iteration_scores(self, iteration_scores: ValidationIterationScores) -> None:
        """Append a validation.

        Parameters
        ----------
        iteration_scores : of an iteration after all that are there; gaps are allowed.

        Raises
        ------
        ShapeError
            If there is not one score for each data set, parameter and criterion; the message names the axis.
        ConfigError
            If the iteration was validated already, or a later one.
        """
        require_type("iteration_scores", iteration_scores, ValidationIterationScores)
        self._check_shape(iteration_scores)
        iteration, until = iteration_scores.iteration, self.validated_until()
        if iteration < until:
            raise ConfigError(
                f"scores of iteration {iteration} cannot follow those of iteration {until - 1}: "
                f"delete_after({iteration}) deletes what is in their way"
            )
        self.scores.append(iteration_scores)

    def _check_shape(self, given: ValidationIterationScores) -> None:
        lengths = (len(self.datasets), len(self.parameters), len(self.criteria))
        level: list[tuple[str, Any]] = [("scores", given.scores)]
        for axis, length in zip(_AXES, lengths, strict=True):
            for where, entries in level:
                if len(entries) != length:
                    raise ShapeError(
                        f"axis {axis!r} of the scores has length {length}, and {where} of iteration {given.iteration} "
                        f"has {len(entries)} (expected shape: {lengths}, for datasets, parameters, criteria)"
                    )
            level = [(f"{where}[{n}]", entry) for where, entries in level for n, entry in enumerate(entries)]

    def delete_after(self, iteration: int) -> None:
        """Delete the scores of this iteration and of all that follow it: what stays are the iterations below it."""
        until = as_iteration(iteration)
        self.scores = [entry for entry in self.scores if entry.iteration < until]

    def validated_until(self) -> int:
        """First iteration that is not validated: the last one plus 1; 0 if there is none."""
        return self.scores[-1].iteration + 1 if self.scores else 0

    def compare(self, existing_iteration_scores: Iterable[ValidationIterationScores]) -> SyncPlan:
        """Plan how scores that are stored elsewhere become these, which take priority.

        Parameters
        ----------
        existing_iteration_scores : what is stored, in any order.

        Returns
        -------
        SyncPlan
            ``(False, 0)`` if nothing is stored: write all. ``(True, 0)`` if what is stored goes further than these, or
            has other scores for the same iteration: delete it, and write all. Otherwise ``(False, until)``: write
            those from ``until`` on, the first iteration that is not stored.

        Raises
        ------
        ShapeError
            If what is stored is of other data sets, parameters or criteria.

        Examples
        --------
        >>> from delira_nca.experiment.stats import Criterion
        >>> rows = [ValidationIterationScores(i, [[[0.5]]]) for i in (10, 20)]
        >>> local = ValidationScores(["a"], ["x"], EvaluationScores([Criterion("dice", True)]), rows)
        >>> replace, from_iteration = local.compare(rows[:1])
        >>> replace, from_iteration
        (False, 11)
        """
        existing = {entry.iteration: entry for entry in existing_iteration_scores}
        for entry in existing.values():
            self._check_shape(entry)
        until = max(existing, default=-1) + 1
        changed = any(existing.get(entry.iteration, entry) != entry for entry in self.scores)
        if changed or until > self.validated_until():
            return SyncPlan(replace=True, from_iteration=0)
        return SyncPlan(replace=False, from_iteration=until)

    @property
    def criteria(self) -> list[str]:
        """Names of the criteria."""
        return self.evaluation_scores.criteria

    @property
    def parameter_names(self) -> list[str]:
        """Names of what the parameters set, ``["id"]`` for identifiers; empty without parameters."""
        return names(self.parameters)

    def to_xarray(self) -> xarray.DataArray:
        """Scores as an array.

        Returns
        -------
        (iterations, datasets, parameters, criteria) float64 array
            With a coordinate for each dimension. Along the parameters, which are called ``"threshold=0.5, steps=64"``
            there, each setting has a further coordinate of its name. All coordinates are numbers or texts, so that the
            array can be written to a file.

        Raises
        ------
        MissingDependencyError
            If xarray is not installed.
        """
        shape = (len(self.scores), len(self.datasets), len(self.parameters), len(self.criteria))
        coords: dict[str, Any] = {
            "iterations": np.array([entry.iteration for entry in self.scores], np.int64),
            "datasets": np.array(self.datasets, object),
            "parameters": np.array(labels(self.parameters), object),
            "criteria": np.array(self.criteria, object),
        }
        coords |= {name: ("parameters", column) for name, column in columns(self.parameters).items()}
        array: xarray.DataArray = import_for_stats("xarray").DataArray(
            np.array([entry.scores for entry in self.scores], np.float64).reshape(shape),
            dims=("iterations", *_AXES),
            coords=coords,
        )
        return array

    def get_best(self, data: xarray.DataArray, dim: str) -> tuple[xarray.DataArray, xarray.DataArray]:
        """Best score along a dimension, for each criterion in its own direction.

        Parameters
        ----------
        data : of :meth:`to_xarray`, or what was selected or averaged from it; one criterion may have been selected.
        dim : dimension to go along; any but ``criteria``.

        Returns
        -------
        tuple of (index, value)
            Coordinate along ``dim`` and score, as arrays over the other dimensions. Of equals it is the lowest
            iteration, or the first name. NaN never is the best; where there is nothing else, both are NaN.

        Raises
        ------
        ConfigError
            If the array does not say its criteria, or ``dim`` is ``criteria``.
        UnknownNameError
            For a dimension or a criterion that is not there.
        """
        return best_along(data, dim, self.evaluation_scores)
