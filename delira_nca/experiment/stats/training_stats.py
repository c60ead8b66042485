"""What every training iteration cost and gave."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from delira_nca.checks import require_type
from delira_nca.errors import ConfigError, require_choice
from delira_nca.experiment.stats.libraries import import_for_stats
from delira_nca.experiment.stats.values import as_iteration, as_number, require_text

if TYPE_CHECKING:
    import xarray

__all__ = ["TrainingIterationStats", "TrainingStats", "require_value_names"]

_TAKEN = ("iterations", "loss", "time")  # by the variables of a data set


def require_value_names(names: Iterable[str]) -> None:
    """Refuse names of losses and metrics that mean something else in the stats.

    Raises
    ------
    ConfigError
        With the name.
    """
    for name in names:
        if require_text("the name of a value", name) in _TAKEN:
            raise ConfigError(f"{name!r} has a place of its own in the stats: call the value otherwise")


@dataclass(frozen=True)
class TrainingIterationStats:
    """Loss and time of one iteration, and whatever else was measured.

    Parameters
    ----------
    iteration : its number, from 0.
    loss : what was minimised; a number, or a tensor of one element.
    time : seconds that it took; NaN if nobody measured.
    values : further losses and metrics by name.

    Raises
    ------
    ConfigError
        If the iteration is negative or not whole, or a value is not one number.

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

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, TrainingIterationStats):
            return NotImplemented
        return self.__reduce__() == other.__reduce__()  # of tuples, in which the one NaN is equal to itself

    def __reduce__(self) -> tuple[type[TrainingIterationStats], tuple[Any, ...]]:
        return TrainingIterationStats, (self.iteration, self.loss, self.time, self.values)


@dataclass(init=False)
class TrainingStats:
    """Statistics of a training, in the order of its iterations. Gaps are allowed.

    Parameters
    ----------
    iteration_stats : to begin with, in ascending order; kept as a list.

    Raises
    ------
    ConfigError
        If they are in disorder, or an iteration comes twice.

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
        iteration_stats : of an iteration after all that are there.
        on_conflict : what happens to one that is not after them: ``"error"``, or ``"rewind"``, which first deletes
            the iterations from this one on, and no others.

        Raises
        ------
        ConfigError
            If the iteration was done already, and nothing is to be rewound.
        UnknownNameError
            For another ``on_conflict``.

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
        """Delete this iteration and all that follow it: what stays are the iterations below it."""
        until = as_iteration(iteration)
        self.iteration_stats = [stats for stats in self.iteration_stats if stats.iteration < until]

    def trained_until(self) -> int:
        """First iteration that is not done: the last one plus 1; 0 if there is none."""
        return self.iteration_stats[-1].iteration + 1 if self.iteration_stats else 0

    def value_names(self) -> list[str]:
        """Names of all further values, in the order in which they first appear."""
        return list(dict.fromkeys(name for stats in self.iteration_stats for name in stats.values))

    def to_xarray(self) -> xarray.DataArray:
        """Losses as an array with the one dimension ``iterations``.

        Raises
        ------
        MissingDependencyError
            If xarray is not installed.
        """
        array: xarray.DataArray = import_for_stats("xarray").DataArray(
            self._column("loss"), dims=("iterations",), coords={"iterations": self._iterations()}
        )
        return array

    def to_dataset(self) -> xarray.Dataset:
        """All statistics: the variables ``loss``, ``time`` and one for each named value, NaN where it is absent.

        Raises
        ------
        MissingDependencyError
            If xarray is not installed.

        Examples
        --------
        >>> first, second = TrainingIterationStats(0, 2.0, 0.5), TrainingIterationStats(1, 1.0, 0.25, {"dice": 0.75})
        >>> TrainingStats([first, second]).to_dataset().dice.values
        array([ nan, 0.75])
        """
        columns = {key: self._column(key) for key in ("loss", "time")}
        for name in self.value_names():
            columns[name] = np.array([stats.values.get(name, math.nan) for stats in self.iteration_stats], np.float64)
        dataset: xarray.Dataset = import_for_stats("xarray").Dataset(
            {name: (("iterations",), column) for name, column in columns.items()},
            coords={"iterations": self._iterations()},
        )
        return dataset

    def _iterations(self) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        return np.array([stats.iteration for stats in self.iteration_stats], np.int64)

    def _column(self, key: str) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        return np.array([getattr(stats, key) for stats in self.iteration_stats], np.float64)
