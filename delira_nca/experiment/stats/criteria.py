"""What a score means: which way it gets better, and in what range it lies. Free of torch."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from delira_nca.checks import require_type
from delira_nca.errors import ConfigError, UnknownNameError, did_you_mean
from delira_nca.experiment.stats.values import as_number, require_text

__all__ = ["Criterion", "EvaluationScores"]


@dataclass(frozen=True)
class Criterion:
    """One score of an evaluation.

    Parameters
    ----------
    name : of the score.
    higher_is_better : its direction.
    bounds : lowest and highest value that it can have.
    store_best : whether the best result by this score is to be kept.

    Raises
    ------
    ConfigError
        For a name that is no text, a direction that is no truth value, or bounds that are not (low, high), low < high.

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
    """The criteria of an evaluation, in the order of the last axis of its scores.

    Parameters
    ----------
    criteria : one or more, each of another name.

    Raises
    ------
    ConfigError
        If there is none, one is no :class:`Criterion`, or two share a name.

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
        """Criterion of a name.

        Raises
        ------
        UnknownNameError
            If there is none.
        """
        if name not in self._criteria:
            raise UnknownNameError(f"unknown criterion {name!r}. {did_you_mean(name, self._criteria)}")
        return self._criteria[name]

    def higher_is_better(self, criterion: str) -> bool:
        """Direction of a criterion."""
        return self.criterion(criterion).higher_is_better

    def bounds(self, criterion: str) -> tuple[float, float]:
        """Lowest and highest value of a criterion."""
        return self.criterion(criterion).bounds

    def store_best(self, criterion: str) -> bool:
        """Whether the best result by a criterion is to be kept."""
        return self.criterion(criterion).store_best

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, EvaluationScores):
            return NotImplemented
        return list(self._criteria.values()) == list(other._criteria.values())

    def __hash__(self) -> int:
        return hash(tuple(self._criteria.values()))

    def __repr__(self) -> str:
        return f"EvaluationScores({list(self._criteria.values())})"
