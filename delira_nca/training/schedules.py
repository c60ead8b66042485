"""Values as functions of the training step. Does not import torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from delira_nca.checks import is_number, require_callable, require_number, require_whole
from delira_nca.errors import ConfigError, refuse_unknown_keywords, require_choice

__all__ = ["Schedule"]

Value = Any
Function = Callable[[int, Value], Value]


class Schedule:
    """Value as a pure function of the step, so that a resumed run needs no state of it.

    The constructor has the arguments of ELEKTRONN2; give one of them. The class methods are the general forms.

    Parameters
    ----------
    dec : float or None
        Factor by which the initial value is multiplied every 1000 steps.
    lindec : tuple of (int, float) or None
        Number of steps and initial value of a linear decrease to 0.
    updates : sequence of (int, value) or None
        Steps and the values that are set at them, in any order. A value is a number, or a sequence of numbers.

    Attributes
    ----------
    needs_initial : bool
        Whether the value depends on the initial value of the variable.

    Notes
    -----
    In ELEKTRONN2, ``lindec`` decreases once in 1000 steps and need not reach 0, and updates that are not sorted are
    lost.

    Examples
    --------
    >>> rate = Schedule(dec=0.95)
    >>> [round(rate(step, 1.0), 4) for step in (0, 999, 1000, 2500)]
    [1.0, 1.0, 0.95, 0.9025]
    >>> Schedule(lindec=(4000, 0.001))(1000)
    0.00075
    >>> momentum = Schedule(updates=[(1000, 0.7), (500, 0.8)])
    >>> [momentum(step, 0.9) for step in (499, 500, 5000)]
    [0.9, 0.8, 0.7]
    """

    def __init__(
        self,
        *,
        dec: float | None = None,
        lindec: Sequence[float] | None = None,
        updates: Sequence[tuple[int, Value]] | Mapping[int, Value] | None = None,
    ) -> None:
        given = {"dec": dec, "lindec": lindec, "updates": updates}
        chosen = [name for name, value in given.items() if value is not None]
        if len(chosen) != 1:
            raise ConfigError(f"a Schedule has one of dec, lindec and updates, not {chosen or 'none'}")
        if dec is not None:
            made = Schedule.decay(dec)
        elif lindec is not None:
            if not isinstance(lindec, Sequence) or len(lindec) != 2:
                raise ConfigError(f"lindec is a number of steps and an initial value, not {lindec!r}")
            made = Schedule.linear(lindec[1], 0.0, lindec[0])  # type: ignore[arg-type]  # checked there
        else:
            made = Schedule.steps(updates or ())
        self._set(made._function, made._text, made.needs_initial)

    def _set(self, function: Function, text: str, needs_initial: bool) -> None:
        self._function, self._text, self.needs_initial = function, text, needs_initial
        self._bound: tuple[Any, str, Any] | None = None

    @classmethod
    def _make(cls, function: Function, text: str, *, needs_initial: bool = False) -> Schedule:
        made = object.__new__(cls)
        made._set(function, text, needs_initial)
        return made

    @classmethod
    def decay(cls, factor: float, every: int = 1000, start: float | None = None) -> Schedule:
        """Multiply a value by a factor every ``every`` steps.

        Parameters
        ----------
        factor : float
            Factor, above 0.
        every : int
            Number of steps between two multiplications.
        start : float or None
            First value; the initial value of the variable by default.
        """
        require_number("factor", factor, above=0)
        require_whole("every", every, 1)
        if start is not None:
            require_number("start", start)
        text = f"decay({factor!r}, every={every}" + ("" if start is None else f", start={start!r}") + ")"
        return cls._make(partial(_decayed, factor, every, start), text, needs_initial=start is None)

    @classmethod
    def linear(cls, start: float, stop: float, steps: int, begin: int = 0) -> Schedule:
        """Change linearly from ``start`` to ``stop`` in a number of steps, from step ``begin`` on.

        Parameters
        ----------
        start, stop : float
            First and last value, which hold before and after.
        steps : int
            Number of steps.
        begin : int
            Number of the first step.
        """
        _check_span(start, stop, steps, begin)
        text = f"linear({start!r}, {stop!r}, {steps}, begin={begin})"
        return cls._make(partial(_on_line, start, stop, steps, begin), text)

    @classmethod
    def cosine(cls, start: float, stop: float, steps: int, begin: int = 0) -> Schedule:
        """Change from ``start`` to ``stop`` along half a period of a cosine; see `linear`.

        Parameters
        ----------
        start, stop : float
            First and last value, which hold before and after.
        steps : int
            Number of steps.
        begin : int
            Number of the first step.
        """
        _check_span(start, stop, steps, begin)
        text = f"cosine({start!r}, {stop!r}, {steps}, begin={begin})"
        return cls._make(partial(_on_cosine, start, stop, steps, begin), text)

    @classmethod
    def steps(cls, updates: Mapping[int, Value] | Sequence[tuple[int, Value]]) -> Schedule:
        """Set values at steps; before the first, the initial value of the variable holds.

        Parameters
        ----------
        updates : mapping of int to value, or sequence of (int, value)
            Steps and values, in any order.
        """
        pairs = list(updates.items()) if isinstance(updates, Mapping) else list(updates)
        if not pairs:
            raise ConfigError("updates are steps and the values to set at them, not empty")
        table: dict[int, Value] = {}
        for pair in pairs:
            if not isinstance(pair, (tuple, list)) or len(pair) != 2:
                raise ConfigError(f"updates are pairs of a step and a value, not {pair!r}")
            step, value = int(pair[0]) if isinstance(pair[0], str) and pair[0].isdecimal() else pair[0], pair[1]
            require_whole("the step of an update", step, 0)
            _require_numbers(value)
            if step in table:
                raise ConfigError(f"updates have two values for step {step}: {table[step]!r} and {value!r}")
            table[step] = value
        ordered = sorted(table.items())
        text = f"steps({dict(ordered)!r})"
        return cls._make(partial(_last_of, ordered), text, needs_initial=ordered[0][0] > 0)

    @classmethod
    def from_callable(cls, function: Callable[[int], Value]) -> Schedule:
        """Use a function of the step. It must depend on nothing else, so that a run can be resumed.

        Parameters
        ----------
        function : callable
            Function of the number of the step.
        """
        require_callable("the function of a schedule", function)
        name = getattr(function, "__name__", type(function).__name__)
        return cls._make(partial(_called, function), f"from_callable({name})")

    @classmethod
    def of(cls, given: Schedule | Mapping[str, Any] | Callable[[int], Value]) -> Schedule:
        """Return a schedule, or make it of a function or of the mapping of a config.

        Parameters
        ----------
        given : Schedule, mapping or callable
            A mapping has the ``kind`` (``decay``, ``linear``, ``cosine`` or ``steps``) and its arguments, or the
            arguments of the constructor.

        Examples
        --------
        >>> Schedule.of({"kind": "linear", "start": 1.0, "stop": 0.5, "steps": 100})(50)
        0.75
        """
        if isinstance(given, Schedule):
            return given
        if not isinstance(given, Mapping):
            return cls.from_callable(given)
        arguments = dict(given)
        kind = arguments.pop("kind", None)
        known: dict[str | None, tuple[Callable[..., Schedule], tuple[str, ...]]] = {
            None: (cls, ("dec", "lindec", "updates")),
            "decay": (cls.decay, ("factor", "every", "start")),
            "linear": (cls.linear, ("start", "stop", "steps", "begin")),
            "cosine": (cls.cosine, ("start", "stop", "steps", "begin")),
            "steps": (cls.steps, ("updates",)),
        }
        if kind is not None:
            require_choice("kind of a schedule", kind, [name for name in known if name is not None])
        make, names = known[kind]
        what = "Schedule" if kind is None else f"the schedule {kind!r}"
        refuse_unknown_keywords(what, [name for name in arguments if name not in names], names)
        try:
            return make(**arguments)
        except TypeError as error:
            raise ConfigError(f"{what}: {error}") from None

    def __call__(self, step: int, initial: Value = None) -> Value:
        """Return the value in a step.

        Parameters
        ----------
        step : int
            Number of the step, from 0.
        initial : float or sequence of float, optional
            Initial value of the variable.

        Raises
        ------
        ConfigError
            If the value depends on the initial value, and none is given.
        """
        if initial is None and self.needs_initial:
            raise ConfigError(f"{self!r} needs the initial value of its variable")
        return self._function(step, initial)

    def bind_variable(self, variable_param: Any = None, obj: Any = None, prop_name: str | None = None) -> None:
        """Bind the schedule to a variable, which `update` then sets.

        Parameters
        ----------
        variable_param : object or None
            Variable with the methods ``get_value`` and ``set_value``.
        obj, prop_name : object and str, or None
            Object and the name of its attribute.

        Raises
        ------
        ConfigError
            If not exactly one of both is given, or the object has no such attribute.
        """
        if (variable_param is None) == (obj is None):
            raise ConfigError("a schedule is bound to variable_param, or to obj and prop_name")
        if variable_param is not None:
            if not all(callable(getattr(variable_param, name, None)) for name in ("get_value", "set_value")):
                raise ConfigError(f"{variable_param!r} lacks get_value or set_value")
            self._bound = (variable_param, "", variable_param.get_value())
            return
        if not isinstance(prop_name, str) or not hasattr(obj, prop_name):
            raise ConfigError(f"a {type(obj).__name__} has no attribute {prop_name!r}")
        self._bound = (obj, prop_name, getattr(obj, prop_name))

    def update(self, iteration: int) -> Value:
        """Set the bound variable to the value in a step, and return it.

        Raises
        ------
        ConfigError
            If the schedule is not bound.
        """
        if self._bound is None:
            raise ConfigError("bind_variable comes before update")
        owner, name, initial = self._bound
        value = self(iteration, initial)
        if name:
            setattr(owner, name, value)
        else:
            owner.set_value(value)
        return value

    def __repr__(self) -> str:
        return f"Schedule.{self._text}"


def _check_span(start: float, stop: float, steps: int, begin: int) -> None:
    require_number("start", start)
    require_number("stop", stop)
    require_whole("steps", steps, 1)
    require_whole("begin", begin, 0)


# Functions of the module, so that a schedule can be pickled


def _decayed(factor: float, every: int, start: float | None, step: int, initial: Value) -> Value:
    value, scale = (initial if start is None else start), factor ** (step // every)
    return type(value)(part * scale for part in value) if isinstance(value, (list, tuple)) else value * scale


def _share(steps: int, begin: int, step: int) -> float:
    return min(max((step - begin) / steps, 0.0), 1.0)


def _on_line(start: float, stop: float, steps: int, begin: int, step: int, _: Value) -> float:
    return start + (stop - start) * _share(steps, begin, step)


def _on_cosine(start: float, stop: float, steps: int, begin: int, step: int, _: Value) -> float:
    return stop + (start - stop) * (1 + math.cos(math.pi * _share(steps, begin, step))) / 2


def _last_of(updates: list[tuple[int, Value]], step: int, initial: Value) -> Value:
    return next((value for at, value in reversed(updates) if at <= step), initial)


def _called(function: Callable[[int], Value], step: int, _: Value) -> Value:
    return function(step)


def _require_numbers(value: Value) -> None:
    numbers = value if isinstance(value, (list, tuple)) else [value]
    if not numbers or not all(is_number(number) and math.isfinite(number) for number in numbers):
        raise ConfigError(f"a schedule sets numbers, or sequences of numbers, not {value!r}")
