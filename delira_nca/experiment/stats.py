"""Statistics of training and validation, modelled on dacapo: values, criteria and best results."""

from __future__ import annotations

import importlib
import math
import numbers
import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from delira_nca.checks import require_type, require_whole
from delira_nca.errors import (
    ConfigError,
    MissingDependencyError,
    ShapeError,
    UnknownNameError,
    did_you_mean,
    require_choice,
)

if TYPE_CHECKING:
    import xarray

__all__ = [
    "Criterion",
    "EvaluationScores",
    "Parameters",
    "SyncPlan",
    "TrainingIterationStats",
    "TrainingStats",
    "ValidationIterationScores",
    "ValidationScores",
    "as_iteration",
    "as_number",
    "as_parameters",
    "best_along",
    "columns",
    "import_for_stats",
    "labels",
    "names",
    "require_text",
    "require_value_names",
]

_LAST = 2**63 - 1  # largest iteration in an int64 array


def as_iteration(given: Any, what: str = "an iteration") -> int:
    """Convert a number of Python, NumPy or torch to a whole number of at least 0.

    Examples
    --------
    >>> as_iteration(2.5)
    Traceback (most recent call last):
    delira_nca.errors.ConfigError: an iteration must be a whole number from 0 to 9223372036854775807, not 2.5
    """
    try:
        value = given if isinstance(given, bool) else operator.index(given)
    except TypeError:
        value = given
    return require_whole(what, value, 0, _LAST)


def as_number(what: str, given: Any) -> float:
    """Convert a number, or an array or tensor of one element, to a float. NaN and infinity are allowed.

    A NaN is always the object ``math.nan``, so that records with a NaN can be equal.

    Examples
    --------
    >>> import numpy as np
    >>> as_number("a loss", np.float32(0.5))
    0.5
    >>> as_number("a loss", np.ones(3))
    Traceback (most recent call last):
    delira_nca.errors.ConfigError: a loss is one number, not a ndarray of shape (3,)
    """
    value = given
    if hasattr(value, "item") and hasattr(value, "shape"):
        if math.prod(value.shape) != 1:
            raise ConfigError(f"{what} is one number, not a {type(given).__name__} of shape {tuple(given.shape)}")
        value = value.item()
    if not isinstance(value, numbers.Real):
        raise ConfigError(f"{what} is one number, not {given!r}")
    try:
        number = float(value)
    except OverflowError:
        raise ConfigError(f"{what} is a number that a float can hold, not {given!r}") from None
    return math.nan if math.isnan(number) else number


def require_text(what: str, given: Any) -> str:
    """Check that a name is a nonempty string, and return it."""
    if not isinstance(given, str) or not given:
        raise ConfigError(f"{what} is a text of at least one character, not {given!r}")
    return str(given)


@dataclass(frozen=True)
class Criterion:
    """One score of an evaluation.

    Parameters
    ----------
    name : str
        Name of the score.
    higher_is_better : bool
        Whether higher values are better.
    bounds : tuple
        Minimum and maximum possible value.
    store_best : bool
        Whether to keep the best result by this score.

    Examples
    --------
    >>> Criterion("hausdorff", higher_is_better=False, bounds=(0, float("inf"))).bounds
    (0.0, inf)
    """

    name: str
    higher_is_better: bool
    bounds: tuple[float, float] = (-math.inf, math.inf)
    store_best: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", require_text("the name of a criterion", self.name))
        for key in ("higher_is_better", "store_best"):
            value = getattr(self, key)
            require_type(f"{key} of {self.name!r}", value, bool, np.bool_)
            object.__setattr__(self, key, bool(value))
        bounds: Any = self.bounds
        if not isinstance(bounds, (tuple, list, np.ndarray)) or len(bounds) != 2:
            raise ConfigError(f"bounds of {self.name!r} are a pair (low, high), not {bounds!r}")
        low, high = (as_number(f"a bound of {self.name!r}", value) for value in bounds)
        if not low < high:
            raise ConfigError(f"bounds of {self.name!r} are (low, high) with low < high, not ({low}, {high})")
        object.__setattr__(self, "bounds", (low, high))


class EvaluationScores:
    """Criteria of an evaluation, in the order of the last axis of its scores.

    Parameters
    ----------
    criteria : iterable of Criterion
        One or more criteria with different names.

    Examples
    --------
    >>> scores = EvaluationScores([Criterion("dice", True, (0, 1)), Criterion("hausdorff", False)])
    >>> scores.criteria, scores.higher_is_better("hausdorff"), scores.bounds("dice")
    (['dice', 'hausdorff'], False, (0.0, 1.0))
    """

    def __init__(self, criteria: Iterable[Criterion]) -> None:
        given = tuple(criteria)
        for criterion in given:
            require_type("criterion", criterion, Criterion)
        self._criteria = {criterion.name: criterion for criterion in given}
        if not given:
            raise ConfigError("an evaluation has at least one criterion")
        if len(self._criteria) < len(given):
            raise ConfigError(f"each criterion has a name of its own, not {[criterion.name for criterion in given]}")

    @property
    def criteria(self) -> list[str]:
        """Names of the criteria."""
        return list(self._criteria)

    def criterion(self, name: str) -> Criterion:
        """Criterion by its name."""
        if name not in self._criteria:
            raise UnknownNameError(f"unknown criterion {name!r}. {did_you_mean(name, self._criteria)}")
        return self._criteria[name]

    def higher_is_better(self, criterion: str) -> bool:
        """Whether higher values of a criterion are better."""
        return self.criterion(criterion).higher_is_better

    def bounds(self, criterion: str) -> tuple[float, float]:
        """Minimum and maximum value of a criterion."""
        return self.criterion(criterion).bounds

    def store_best(self, criterion: str) -> bool:
        """Whether to keep the best result by a criterion."""
        return self.criterion(criterion).store_best

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, EvaluationScores):
            return NotImplemented
        return list(self._criteria.values()) == list(other._criteria.values())

    def __hash__(self) -> int:
        return hash(tuple(self._criteria.values()))

    def __repr__(self) -> str:
        return f"EvaluationScores({list(self._criteria.values())})"


Plain = bool | int | float | str | None
Parameters = Mapping[str, Plain] | str | int
"""Settings by name, or an identifier."""

RESERVED = ("iterations", "datasets", "parameters", "criteria")
ID = "id"
NOTHING = "default"


def as_parameters(given: Iterable[Any]) -> list[Parameters]:
    """Copy parameters to plain values."""
    parameters: list[Parameters] = [_as_settings(p) if isinstance(p, Mapping) else _as_id(p) for p in given]
    if len({isinstance(p, Mapping) for p in parameters}) > 1:
        raise ConfigError(f"parameters are all mappings or all identifiers, not {parameters}")
    seen = set()
    for parameter, label in zip(parameters, labels(parameters), strict=True):
        if label in seen:
            raise ConfigError(f"parameters differ from each other, and {parameter!r} comes twice")
        seen.add(label)
    return parameters


def names(parameters: Sequence[Parameters]) -> list[str]:
    """Names of the settings in the order of their first use; ``["id"]`` for identifiers."""
    return list(dict.fromkeys(name for p in parameters for name in (p if isinstance(p, Mapping) else [ID])))


def labels(parameters: Sequence[Parameters]) -> list[str]:
    """Text labels of the parameters along an axis.

    Examples
    --------
    >>> labels([{"threshold": 0.5, "steps": 64}, {}]), labels([127, "otsu"])
    (['threshold=0.5, steps=64', 'default'], ['127', 'otsu'])
    """
    return [_label(p) if isinstance(p, Mapping) else str(p) for p in parameters]


def columns(parameters: Sequence[Parameters]) -> dict[str, npt.NDArray[Any]]:
    """Values of every setting along the axis of the parameters, as arrays of basic types.

    Booleans, integers and floats (NaN if absent) keep their type; other values become strings, empty if absent.
    Identifiers have no columns.
    """
    settings = [p for p in parameters if isinstance(p, Mapping)]
    return {name: _column([p.get(name, _ABSENT) for p in settings]) for name in (names(settings))}


_ABSENT = object()


def _column(values: list[Any]) -> npt.NDArray[Any]:
    kinds = {type(value) for value in values}
    if kinds == {bool}:
        return np.array(values, np.bool_)
    if kinds == {int} and all(-(2**63) <= value < 2**63 for value in values):
        return np.array(values, np.int64)
    if kinds <= {int, float, object} and float in kinds:
        return np.array([math.nan if value is _ABSENT else float(value) for value in values], np.float64)
    return np.array(["" if value is _ABSENT else str(value) for value in values], object)


def _label(settings: Mapping[str, Plain]) -> str:
    return ", ".join(f"{name}={value}" for name, value in settings.items()) or NOTHING


def _as_settings(given: Mapping[Any, Any]) -> dict[str, Plain]:
    settings: dict[str, Plain] = {}
    for name, value in given.items():
        if require_text("the name of a parameter", name) in RESERVED:
            raise ConfigError(f"{name!r} is a dimension of the scores: call the parameter otherwise")
        plain = value.item() if isinstance(value, np.generic) else value
        if type(plain) not in (bool, int, float, str, type(None)) or plain != plain:
            raise ConfigError(f"parameter {name!r} is a number, a text, True, False or None, not {value!r}")
        settings[str(name)] = plain
    return settings


def _as_id(given: Any) -> str | int:
    plain = given.item() if isinstance(given, np.generic) else given
    if isinstance(plain, bool) or not isinstance(plain, (int, str)) or plain == "":
        raise ConfigError(f"a parameter is a mapping of plain values or an identifier, not {given!r}")
    return str(plain) if isinstance(plain, str) else int(plain)


def import_for_stats(name: str) -> Any:
    """Import a library of the extra ``stats``."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingDependencyError(
            f"{name} is needed for labelled arrays of statistics: pip install 'delira_nca[stats]'"
        ) from error


Array = npt.NDArray[Any]


def best_along(
    data: xarray.DataArray, dim: str, evaluation_scores: EvaluationScores
) -> tuple[xarray.DataArray, xarray.DataArray]:
    """Index and value of the best score along a dimension; see :meth:`ValidationScores.get_best`."""
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
    if along.dtype.kind in "iuf":  # the first of equal scores is then the lowest
        order = np.argsort(along, kind="stable")
        scores, along = scores[..., order], along[order]
    first = _first_best(scores, _directions(data["criteria"], rest, evaluation_scores))
    coords = {name: coord for name, coord in data.coords.items() if dim not in coord.dims}
    index = xarray.DataArray(_at(along, first), dims=rest, coords=coords, name=dim)
    return index, xarray.DataArray(_values(scores, first), dims=rest, coords=coords, name=data.name)


def _directions(criteria: xarray.DataArray, rest: list[Any], evaluation_scores: EvaluationScores) -> Array:
    """1 if higher is better, otherwise -1, in a shape that broadcasts to the scores with the searched axis last."""
    criteria = criteria.transpose(*(name for name in rest if name in criteria.dims))
    signs = [1.0 if evaluation_scores.higher_is_better(str(name)) else -1.0 for name in criteria.values.flat]
    return np.array(signs).reshape(*(criteria.sizes.get(name, 1) for name in rest), 1)


def _first_best(scores: Array, directions: Array) -> Array:
    """Position of the first best score along the last axis; -1 if all are NaN."""
    if scores.shape[-1] == 0:
        return np.full(scores.shape[:-1], -1)
    valid = ~np.isnan(scores)
    oriented = np.where(valid, scores * directions, -np.inf)
    is_best = valid & (oriented == oriented.max(-1, keepdims=True))
    return np.where(valid.any(-1), is_best.argmax(-1), -1)


def _at(along: Array, first: Array) -> Array:
    """Coordinates at positions; NaN for -1."""
    if (first >= 0).all():
        return along[first]
    if along.dtype.kind not in "iuf":
        along = along.astype(object)
    return np.append(along, np.nan)[first]


def _values(scores: Array, first: Array) -> Array:
    """Scores at positions along the last axis; NaN for -1."""
    nothing = np.full((*scores.shape[:-1], 1), np.nan)
    return np.take_along_axis(np.concatenate([scores, nothing], -1), first[..., None], -1)[..., 0]


def _describe(data: Any) -> str:
    return f"one with {sorted(map(str, data.coords))}" if hasattr(data, "coords") else repr(data)


_TAKEN = ("iterations", "loss", "time")  # names of variables in the data set


def require_value_names(names: Iterable[str]) -> None:
    """Check that names of losses and metrics are not reserved in the statistics."""
    for name in names:
        if require_text("the name of a value", name) in _TAKEN:
            raise ConfigError(f"{name!r} has a place of its own in the stats: call the value otherwise")


class _Entry:
    """Frozen dataclass that is equal to another one also where values are NaN."""

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self.__reduce__() == other.__reduce__()  # in tuples, the same NaN object is equal to itself

    def __reduce__(self) -> tuple[type[_Entry], tuple[Any, ...]]:
        return type(self), tuple(getattr(self, each.name) for each in fields(self))  # type: ignore[arg-type]


@dataclass(frozen=True, eq=False, unsafe_hash=True)
class TrainingIterationStats(_Entry):
    """Loss, time and further values of one iteration.

    Parameters
    ----------
    iteration : int
        Number of the iteration, from 0.
    loss : float
        Training loss; a number, or a tensor of one element.
    time : float
        Duration in seconds; NaN if not measured.
    values : mapping of str to float
        Further losses and metrics by name.

    Examples
    --------
    >>> TrainingIterationStats(0, 0.1).loss
    0.1
    >>> TrainingIterationStats(1, 0.3, values={"dice_loss": 0.2, "overflow": 0.1}).values["overflow"]
    0.1
    """

    iteration: int
    loss: float
    time: float = math.nan
    values: Mapping[str, float] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "iteration", as_iteration(self.iteration))
        for key in ("loss", "time"):
            object.__setattr__(self, key, as_number(f"the {key} of iteration {self.iteration}", getattr(self, key)))
        if not isinstance(self.values, Mapping):
            raise ConfigError(f"values are numbers by name, not {self.values!r}")
        require_value_names(self.values)
        values = {str(name): as_number(repr(name), value) for name, value in self.values.items()}
        object.__setattr__(self, "values", values)


@dataclass(init=False)
class TrainingStats:
    """Statistics of a training, in the order of its iterations. Gaps are allowed.

    Parameters
    ----------
    iteration_stats : iterable of TrainingIterationStats
        Initial statistics in ascending order, which are stored as a list.

    Examples
    --------
    >>> stats = TrainingStats()
    >>> for iteration, loss in enumerate([0.1, 0.2, 0.3]):
    ...     stats.add_iteration_stats(TrainingIterationStats(iteration, loss))
    >>> stats.trained_until()
    3
    >>> stats.to_xarray()
    <xarray.DataArray (iterations: 3)>...
    array([0.1, 0.2, 0.3])
    Coordinates:
      * iterations  (iterations) int64 ... 0 1 2
    >>> stats.delete_after(1)
    >>> [(s.iteration, s.loss) for s in stats.iteration_stats]
    [(0, 0.1)]
    """

    iteration_stats: list[TrainingIterationStats]

    def __init__(self, iteration_stats: Iterable[TrainingIterationStats] = ()) -> None:
        self.iteration_stats = []
        for stats in iteration_stats:
            self.add_iteration_stats(stats)

    def add_iteration_stats(self, iteration_stats: TrainingIterationStats, on_conflict: str = "error") -> None:
        """Append an iteration.

        Parameters
        ----------
        iteration_stats : TrainingIterationStats
            Statistics of an iteration after all existing ones.
        on_conflict : str
            Reaction to an iteration that is not after the existing ones: ``"error"``, or ``"rewind"`` to delete this
            and all later iterations first.

        Raises
        ------
        ConfigError
            If the iteration exists, or a later one, and ``on_conflict`` is ``"error"``.
        UnknownNameError
            For an unknown ``on_conflict``.

        Examples
        --------
        >>> stats = TrainingStats([TrainingIterationStats(i, 1.0) for i in range(8)])
        >>> stats.add_iteration_stats(TrainingIterationStats(5, 0.5), on_conflict="rewind")
        >>> [s.iteration for s in stats.iteration_stats]
        [0, 1, 2, 3, 4, 5]
        """
        require_choice("on_conflict", on_conflict, ("error", "rewind"))
        require_type("iteration_stats", iteration_stats, TrainingIterationStats)
        iteration = iteration_stats.iteration
        if iteration < self.trained_until():
            if on_conflict == "error":
                raise ConfigError(
                    f"iteration {iteration} cannot follow iteration {self.trained_until() - 1}; on_conflict='rewind' "
                    f"deletes the iterations from {iteration} on before it is added"
                )
            self.delete_after(iteration)
        self.iteration_stats.append(iteration_stats)

    def delete_after(self, iteration: int) -> None:
        """Delete this and all later iterations."""
        until = as_iteration(iteration)
        self.iteration_stats = [stats for stats in self.iteration_stats if stats.iteration < until]

    def trained_until(self) -> int:
        """Last iteration plus 1, or 0 if there are no iterations."""
        return self.iteration_stats[-1].iteration + 1 if self.iteration_stats else 0

    def value_names(self) -> list[str]:
        """Names of all further values, in the order of their first use."""
        return list(dict.fromkeys(name for stats in self.iteration_stats for name in stats.values))

    def to_xarray(self) -> xarray.DataArray:
        """Losses as an array with the dimension ``iterations``; needs xarray."""
        array: xarray.DataArray = self.to_dataset().loss.rename(None)
        return array

    def to_dataset(self) -> xarray.Dataset:
        """All statistics as the variables ``loss``, ``time`` and one per further value; NaN if absent. Needs xarray.

        Examples
        --------
        >>> first, second = TrainingIterationStats(0, 2.0, 0.5), TrainingIterationStats(1, 1.0, 0.25, {"dice": 0.75})
        >>> TrainingStats([first, second]).to_dataset().dice.values
        array([ nan, 0.75])
        """
        stats = self.iteration_stats
        columns = {key: [getattr(each, key) for each in stats] for key in ("loss", "time")}
        columns |= {name: [each.values.get(name, math.nan) for each in stats] for name in self.value_names()}
        dataset: xarray.Dataset = import_for_stats("xarray").Dataset(
            {name: (("iterations",), np.array(column, np.float64)) for name, column in columns.items()},
            coords={"iterations": np.array([each.iteration for each in stats], np.int64)},
        )
        return dataset


_AXES = ("datasets", "parameters", "criteria")


class SyncPlan(NamedTuple):
    """Plan to update scores that are stored elsewhere.

    Parameters
    ----------
    replace : bool
        Whether to delete the stored scores first.
    from_iteration : int
        First iteration to write.
    """

    replace: bool
    from_iteration: int


@dataclass(frozen=True, eq=False, unsafe_hash=True)
class ValidationIterationScores(_Entry):
    """Scores of one validation.

    Parameters
    ----------
    iteration : int
        Training iteration of the validation.
    scores : list of list of list of float
        ``scores[dataset][parameter][criterion]`` as lists, an array or a tensor; stored as lists of floats.

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
    """Scores of a run: data sets, parameters, criteria, and one entry per validation.

    Parameters
    ----------
    parameters : iterable of Parameters
        Mappings of plain values, such as ``{"threshold": 0.5, "steps": 64}``, or identifiers.
    datasets : iterable of str
        Names of the data sets.
    evaluation_scores : EvaluationScores
        Criteria with their directions.
    scores : iterable of ValidationIterationScores
        Initial scores in ascending order of iterations, which are stored as a list.

    Raises
    ------
    ConfigError, ShapeError
        If two parameters or data sets are equal, or for scores that :meth:`add_iteration_scores` rejects.

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
        """Return a copy with some of the scores."""
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
        iteration_scores : ValidationIterationScores
            Scores of an iteration after all existing ones; gaps are allowed.

        Raises
        ------
        ShapeError
            If there is not one score per data set, parameter and criterion. The message contains the axis.
        ConfigError
            If the iteration, or a later one, has been validated.
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
        """Delete the scores of this and all later iterations."""
        until = as_iteration(iteration)
        self.scores = [entry for entry in self.scores if entry.iteration < until]

    def validated_until(self) -> int:
        """Last validated iteration plus 1, or 0 without validations."""
        return self.scores[-1].iteration + 1 if self.scores else 0

    def compare(self, existing_iteration_scores: Iterable[ValidationIterationScores]) -> SyncPlan:
        """Plan the update of scores stored elsewhere to these scores, which take priority.

        Parameters
        ----------
        existing_iteration_scores : iterable of ValidationIterationScores
            Stored scores in any order.

        Returns
        -------
        SyncPlan
            ``(False, 0)`` if nothing is stored: write all. ``(True, 0)`` if the stored scores extend beyond these, or
            differ for the same iteration: delete them and write all. Otherwise ``(False, until)``: write from ``until``
            on, the first iteration that is not stored.

        Raises
        ------
        ShapeError
            If the stored scores have other data sets, parameters or criteria.

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
        """Names of the settings in the parameters, ``["id"]`` for identifiers; empty without parameters."""
        return names(self.parameters)

    def to_xarray(self) -> xarray.DataArray:
        """Scores as an array; needs xarray.

        Returns
        -------
        (iterations, datasets, parameters, criteria) float64 array
            Array with a coordinate per dimension. Labels of the parameters are such as ``"threshold=0.5, steps=64"``,
            and each setting is a further coordinate of its name. All coordinates are numbers or strings, so that the
            array can be written to a file.
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
        """Best score along a dimension, for each criterion according to its direction.

        Parameters
        ----------
        data : xarray.DataArray
            Array from :meth:`to_xarray`, or a selection or mean of it; a single criterion may be selected.
        dim : str
            Dimension to search; any except ``criteria``.

        Returns
        -------
        tuple of (index, value)
            Coordinate along ``dim`` and score, as arrays over the other dimensions; for equal scores, the lowest
            iteration or the first name. A NaN is never the best; if all scores are NaN, both are NaN.

        Raises
        ------
        ConfigError
            If the array has no coordinate ``criteria``, or ``dim`` is ``criteria``.
        UnknownNameError
            For an unknown dimension or criterion.
        """
        return best_along(data, dim, self.evaluation_scores)
