"""What a sweep tries: values of a config by dotted name, every combination of them or some drawn by chance."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from delira_nca.checks import require_whole
from delira_nca.errors import ConfigError
from delira_nca.seeding import derive_seed

__all__ = ["Range", "grid", "random_search", "read_space"]


@dataclass(frozen=True)
class Range:
    """Numbers from ``low`` to ``high``, both included.

    Parameters
    ----------
    low, high : finite, ``low < high``.
    log : whether the logarithm is drawn evenly; ``low`` is greater than 0 then.
    is_integer : whether whole numbers are drawn.

    Raises
    ------
    ConfigError
        If no number can be drawn.
    """

    low: float
    high: float
    log: bool = False
    is_integer: bool = False

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise ConfigError(f"a range reaches from a number to a greater one, not from {self.low!r} to {self.high!r}")
        if self.log and self.low <= 0:
            raise ConfigError(f"a logarithmic range begins above 0, not at {self.low!r}")
        if self.is_integer and (self.low != int(self.low) or self.high != int(self.high)):
            raise ConfigError(f"a range of whole numbers has such ends, not {self.low!r} and {self.high!r}")

    def draw(self, source: np.random.Generator) -> float | int:
        """Draw a number."""
        if self.log:
            number = math.exp(source.uniform(math.log(self.low), math.log(self.high)))
            number = min(max(number, self.low), self.high)
            return round(number) if self.is_integer else number
        if self.is_integer:
            return int(source.integers(int(self.low), int(self.high) + 1))
        return float(source.uniform(self.low, self.high))


Space = Mapping[str, Sequence[Any] | Range]


def read_space(values: Mapping[str, Any]) -> dict[str, list[Any] | Range]:
    """Space from plain values: a list of choices, or the arguments of a :class:`Range`, by dotted name.

    Raises
    ------
    ConfigError
        If there is nothing to try, or a value is neither.

    Examples
    --------
    >>> read_space({"seed": [0, 1], "trainer.lr": {"low": 1e-4, "high": 1e-2, "log": True}})
    {'seed': [0, 1], 'trainer.lr': Range(low=0.0001, high=0.01, log=True, is_integer=False)}
    """
    if not values:
        raise ConfigError("a sweep needs something to try: give values by dotted name, such as {'trainer.lr': [...]}")
    space: dict[str, list[Any] | Range] = {}
    for name, given in values.items():
        if isinstance(given, Range):
            space[name] = given
        elif isinstance(given, Mapping) and {"low", "high"} <= given.keys() <= {"low", "high", "log", "is_integer"}:
            space[name] = Range(**given)
        elif isinstance(given, (list, tuple, range, np.ndarray)) and len(given):
            space[name] = [value.item() if isinstance(value, np.generic) else value for value in given]
        else:
            raise ConfigError(f"{name} tries a list of values, or a range {{'low': ..., 'high': ...}}, not {given!r}")
    return space


def grid(space: Space) -> list[dict[str, Any]]:
    """Every combination of the values; the last name changes fastest.

    Raises
    ------
    ConfigError
        If a range is among them.

    Examples
    --------
    >>> grid({"seed": [0, 1], "trainer.lr": [0.1, 0.2]})[:2]
    [{'seed': 0, 'trainer.lr': 0.1}, {'seed': 0, 'trainer.lr': 0.2}]
    """
    for name, values in space.items():
        if isinstance(values, Range):
            raise ConfigError(f"a grid needs a list of values for {name}, not a range: list them, or search by chance")
    names, choices = list(space), [list(values) for values in space.values()]  # type: ignore[arg-type]
    return [dict(zip(names, values, strict=True)) for values in itertools.product(*choices)]


def random_search(space: Space, num_trials: int, seed: int = 0) -> list[dict[str, Any]]:
    """Draw so many combinations, each anew.

    The combination of a number depends on the seed and the number alone, so that a longer search begins with those of a
    shorter one.

    Examples
    --------
    >>> short, long = random_search({"lr": Range(0.0, 1.0)}, 2), random_search({"lr": Range(0.0, 1.0)}, 3)
    >>> long[:2] == short, all(0 <= trial["lr"] <= 1 for trial in long)
    (True, True)
    """
    require_whole("num_trials", num_trials, 1)
    trials = []
    for number in range(num_trials):
        source = np.random.default_rng(derive_seed(seed, "sweep", number))
        trials.append({name: _draw(values, source) for name, values in space.items()})
    return trials


def _draw(values: Sequence[Any] | Range, source: np.random.Generator) -> Any:
    return values.draw(source) if isinstance(values, Range) else values[int(source.integers(len(values)))]
