"""Description of one roll-out: cell, state and steps; observers of states; and the part of a batch on this process."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from delira_nca.checks import require_type, require_whole
from delira_nca.errors import ConfigError, ShapeError
from delira_nca.rollout.cell_parameters import CellParameters, UnsupportedCellError
from delira_nca.rollout.masks import cell_draws, fire_mask, fire_threshold, update_noise
from delira_nca.rollout.reference import Cell

__all__ = [
    "DEFAULT_MEMORY_BUDGET",
    "BatchPart",
    "Job",
    "Masks",
    "Observer",
    "Watched",
    "at_part",
    "current_observer",
    "current_part",
    "first_sample",
    "observing",
]


@dataclass(frozen=True)
class Watched:
    """States of one observed roll-out.

    Attributes
    ----------
    steps : int
        Number of steps.
    states : dict
        (B, C, *spatial) states by the number of steps: 0 (the input), the requested ones, and the last. They have
        gradients if the roll-out has.
    """

    steps: int
    states: Mapping[int, Tensor]


class Observer:
    """Collects states of every roll-out inside a block of :func:`observing`, in order.

    Parameters
    ----------
    stops : callable
        Function of the number of steps of a roll-out that returns the numbers of steps after which the state is stored.
    linked : bool
        Whether the roll-out continues from each of these states, so that the gradients of all later states flow through
        them. Otherwise the roll-out may be a single node of the graph, with the states as additional outputs.

    Attributes
    ----------
    linked : bool
        The argument.
    rollouts : list of :class:`Watched`
        Observed roll-outs.
    """

    def __init__(self, stops: Callable[[int], Iterable[int]], linked: bool = False) -> None:
        self._stops, self.linked = stops, linked
        self.rollouts: list[Watched] = []

    def stops(self, steps: int) -> set[int]:
        """Return the numbers of steps after which the state is stored, without the last one.

        Raises
        ------
        ConfigError
            If a number is out of range.
        """
        wanted = set(self._stops(steps))
        if outside := sorted(n for n in wanted if not 0 <= n <= steps):
            raise ConfigError(f"cannot look at the states after {outside} of {steps} steps: choose from 0 to {steps}")
        return wanted - {0, steps}

    def take(self, steps: int, states: Mapping[int, Tensor]) -> None:
        """Add a finished roll-out."""
        self.rollouts.append(Watched(steps, dict(states)))


_CURRENT: ContextVar[Observer | None] = ContextVar("observer", default=None)


@contextlib.contextmanager
def observing(stops: Callable[[int], Iterable[int]], linked: bool = False) -> Iterator[Observer]:
    """Store states of the roll-outs inside the block. The results of :func:`delira_nca.rollout.rollout` do not change.

    Parameters
    ----------
    stops, linked
        See :class:`Observer`. Each stored state needs only its own memory.

    Examples
    --------
    >>> import torch
    >>> from delira_nca.models import BasicNCAModel, presets
    >>> model = BasicNCAModel(**presets.growing())
    >>> with observing(lambda steps: [1, steps // 2]) as observer:
    ...     _ = model(torch.zeros(1, 16, 8, 8), steps=6)
    >>> sorted(observer.rollouts[0].states)
    [0, 1, 3, 6]
    """
    observer = Observer(stops, linked)
    token = _CURRENT.set(observer)
    try:
        yield observer
    finally:
        _CURRENT.reset(token)


def current_observer() -> Observer | None:
    """Return the active observer, or None."""
    return _CURRENT.get()


@dataclass(frozen=True)
class BatchPart:
    """Range of samples of a batch that is distributed over processes.

    Attributes
    ----------
    first : int
        Index of the first sample in the whole batch.
    size : int
        Number of samples; 0 if the batch has fewer samples than there are ranks.
    total : int
        Number of samples of the whole batch.

    Examples
    --------
    >>> [BatchPart.of(rank, 3, 8).rows for rank in range(3)]
    [slice(0, 3, None), slice(3, 6, None), slice(6, 8, None)]
    >>> BatchPart.of(2, 3, 2).rows
    slice(0, 1, None)
    """

    first: int
    size: int
    total: int

    @classmethod
    def of(cls, rank: int, num_ranks: int, total: int) -> BatchPart:
        """Return the part of a rank. Parts are contiguous, and their sizes differ by at most one sample."""
        size, rest = divmod(total, num_ranks)
        size, first = size + (rank < rest), rank * size + min(rank, rest)
        return cls(first if size else 0, size, total)

    @property
    def rows(self) -> slice:
        """Samples to compute. A rank without samples computes the first one and ignores the results."""
        return slice(self.first, self.first + max(self.size, 1))

    @property
    def own(self) -> slice:
        """Samples of this rank."""
        return slice(self.first, self.first + self.size)

    @property
    def share(self) -> float:
        """Fraction of the whole batch, from 0 to 1."""
        return self.size / self.total


_CURRENT_PART: ContextVar[BatchPart | None] = ContextVar("batch_part", default=None)


@contextlib.contextmanager
def at_part(part: BatchPart | None) -> Iterator[None]:
    """Treat computations inside the block as a part of a batch, with the random numbers of the whole batch."""
    token = _CURRENT_PART.set(part)
    try:
        yield
    finally:
        _CURRENT_PART.reset(token)


def current_part() -> BatchPart | None:
    """Return the active part; None for a whole batch."""
    return _CURRENT_PART.get()


def first_sample(states: Tensor) -> int:
    """Return the index of the first of some states in the whole batch.

    Parameters
    ----------
    states : Tensor
        (B, ...) states. If each sample of the part was repeated, the index is that in the equally repeated batch.

    Examples
    --------
    >>> import torch
    >>> with at_part(BatchPart(first=4, size=2, total=6)):
    ...     first_sample(torch.zeros(2, 8)), first_sample(torch.zeros(6, 8))
    (4, 12)
    >>> first_sample(torch.zeros(2, 8))
    0
    """
    part = _CURRENT_PART.get()
    if part is None or states.dim() == 0:
        return 0
    times, rest = divmod(len(states), max(part.size, 1))
    return part.first * times if times and not rest else part.first


DEFAULT_MEMORY_BUDGET = 2**30
"""Default number of bytes that a roll-out may store for the backward pass."""

Masks = Tensor | Callable[[int], Tensor | None]
"""Given fire masks: (T, B, 1, *spatial) bool, or a function of the step that returns one mask (None: all cells
fire)."""


@dataclass(frozen=True)
class Job:
    """State, automaton and numbers of a roll-out; the parameters are those of :func:`delira_nca.rollout.rollout`.

    ``stops`` are the numbers of steps after which the state is returned, in ascending order, each from 1 to ``steps``.
    ``first_sample`` is the index of the first sample in the whole batch.
    """

    x: Tensor
    cell: Cell
    steps: int
    stops: tuple[int, ...]
    start: int = 0
    seed: int = 0
    masks: Masks | None = None
    segment: int | None = None
    memory_budget: int = DEFAULT_MEMORY_BUDGET
    first_sample: int = 0

    def check(self) -> None:
        """Check the numbers and shapes.

        Raises
        ------
        ConfigError, ShapeError
            If a number is out of range, or the state or the masks have the wrong shape.
        """
        require_type("a state", self.x, Tensor)
        for name, number, least in (
            ("steps", self.steps, 0),
            ("start", self.start, 0),
            ("segment", 1 if self.segment is None else self.segment, 1),
            ("memory_budget", self.memory_budget, 1),
        ):
            require_whole(name, number, least)
        x, masks = self.x, self.masks
        if getattr(self.cell, "conditioning", None) is not None:
            raise ConfigError(f"{type(self.cell).__name__} has no goal here: roll out its with_goal(goal, batch_size)")
        if x.dim() < 3:
            raise ShapeError(f"a state is (B, C, *spatial) with at least one spatial axis, not {tuple(x.shape)}")
        if isinstance(masks, Tensor):
            expected = (x.shape[0], 1, *x.shape[2:])
            if masks.dim() == 0 or len(masks) < self.steps or masks.shape[1:] != expected or masks.dtype != torch.bool:
                raise ShapeError(f"masks for {self.steps} steps are {self._mismatch(masks, (self.steps,))}")
            self._check_device(masks)
        elif masks is None:
            fire_threshold(self.cell.fire_rate)

    def fires(self, t: int) -> Tensor | None:
        """Return the (B, 1, *spatial) bool mask of the cells that update in step ``t``; None if all do."""
        if callable(self.masks):
            fire = self.masks(t)
            expected = (self.x.shape[0], 1, *self.x.shape[2:])
            if fire is not None and (fire.shape != expected or fire.dtype != torch.bool):
                raise ShapeError(f"the mask of step {t} is {self._mismatch(fire, ())}")
            if fire is not None:
                self._check_device(fire)
            return fire
        if self.masks is not None:
            return self.masks[t - self.start]
        samples, _, *shape = self.x.shape
        return fire_mask(self.seed, t, samples, shape, self.cell.fire_rate, self.x.device, self.first_sample)

    def rests(self, steps: range) -> Sequence[Tensor | None]:
        """Return the masks of the cells that do not update in several steps, drawn in one call if from the seed."""
        if self.masks is not None:
            return [None if (fire := self.fires(t)) is None else ~fire for t in steps]
        samples, _, *shape = self.x.shape
        drawn = fire_mask(self.seed, steps, samples, shape, self.cell.fire_rate, self.x.device, self.first_sample)
        return [None] * len(steps) if drawn is None else (~drawn).unbind()

    def noise(self, t: int | range) -> Tensor | None:
        """Return the (B, C - fixed, *spatial) noise that is added to the updates of step ``t``; None without noise.

        For a range of steps, (steps, B, C - fixed, *spatial).
        """
        std = getattr(self.cell, "update_noise", 0.0)
        if not std:
            return None
        fixed = self.cell.num_fixed_channels
        samples, channels, *shape = self.x.shape
        drawn = update_noise(self.seed, t, samples, channels, shape, self.x.device, self.first_sample)
        return drawn.narrow(-1 - len(shape), fixed, channels - fixed).to(self.x.dtype) * std

    def draws(self, t: int | range) -> Tensor | None:
        """Return (B, n, *spatial) random numbers from 0 to 1 for the rule in step ``t``; None if it needs none.

        For a range of steps, (steps, B, n, *spatial).
        """
        number = getattr(self.cell, "num_draws", 0)
        if not number:
            return None
        samples, _, *shape = self.x.shape
        return cell_draws(self.seed, t, samples, number, shape, self.x.device, self.first_sample)

    def gated(self) -> Job:
        """Return the job with fire masks that exclude cells outside of the automaton's ``input_mask``, if any."""
        mask = getattr(self.cell, "input_mask", None)
        if mask is None:
            return self
        where: Tensor = mask(self.x)

        def fires(t: int) -> Tensor:
            fire = self.fires(t)
            return where if fire is None else fire & where

        return replace(self, masks=fires)

    def part(self, x: Tensor, first: int, last: int) -> Job:
        """Return the job of steps ``first`` to ``last``, from the state ``x`` after ``first`` steps."""
        masks = self.masks[first:] if isinstance(self.masks, Tensor) else self.masks
        return replace(self, x=x, steps=last - first, stops=(last - first,), start=self.start + first, masks=masks)

    @property
    def parameters(self) -> CellParameters | str:
        """Tensors and numbers of the automaton, or the reason why the fast back ends do not support it.

        It is computed once per job, without ``functools.cached_property``: its lock, shared by all jobs, may be held at
        a fork.
        """
        if "_parameters" not in self.__dict__:
            self.__dict__["_parameters"] = self._describe()
        found: CellParameters | str = self.__dict__["_parameters"]
        return found

    def _describe(self) -> CellParameters | str:
        describe = getattr(self.cell, "to_arrays", None)
        if describe is None:
            return f"{type(self.cell).__name__} has no method to_arrays, which gives its tensors"
        try:
            parameters: CellParameters = describe()
        except UnsupportedCellError as error:
            return str(error)
        return parameters

    def numbers(self) -> CellParameters:
        """Tensors and numbers of the automaton.

        Raises
        ------
        ConfigError
            If it has none; back ends that need them do not support such jobs.
        """
        if isinstance(self.parameters, str):
            raise ConfigError(self.parameters)
        return self.parameters

    def _check_device(self, mask: Tensor) -> None:
        if mask.device != self.x.device:
            raise ConfigError(f"masks are on the device of the state, {self.x.device}, not on {mask.device}")

    def _mismatch(self, mask: Tensor, leading: tuple[int, ...]) -> str:
        expected = (*leading, self.x.shape[0], 1, *self.x.shape[2:])
        return f"a bool tensor of shape {expected}, not {mask.dtype} of {tuple(mask.shape)}"
