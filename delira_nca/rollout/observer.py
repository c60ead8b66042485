"""A look at the states within the roll-outs of a forward pass, for losses that want more than the last one."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass

from torch import Tensor

from delira_nca.errors import ConfigError

__all__ = ["Observer", "Watched", "current_observer", "observing"]


@dataclass(frozen=True)
class Watched:
    """One roll-out that was looked at.

    Attributes
    ----------
    steps : its length.
    states : number of steps done to (B, C, *spatial) state: 0 (the input), those that were asked for, and the last.
        They carry gradients where the roll-out does.
    """

    steps: int
    states: Mapping[int, Tensor]


class Observer:
    """Collects states of every roll-out inside a block of :func:`observing`, in the order in which they run.

    Parameters
    ----------
    stops : from the number of steps of a roll-out to the numbers of steps after which the state is wanted.
    linked : whether the roll-out goes on from each of these states, so that all gradients of what comes after pass
        by them on their way back. Otherwise it may be computed as one piece, and they are looked at from the side.

    Attributes
    ----------
    linked : as given.
    rollouts : list of :class:`Watched`.
    """

    def __init__(self, stops: Callable[[int], Iterable[int]], linked: bool = False) -> None:
        self._stops, self.linked = stops, linked
        self.rollouts: list[Watched] = []

    def stops(self, steps: int) -> set[int]:
        """Steps after which the state of a roll-out is wanted, the end not counted.

        Raises
        ------
        ConfigError
            If one lies outside of the roll-out.
        """
        wanted = set(self._stops(steps))
        if outside := sorted(n for n in wanted if not 0 <= n <= steps):
            raise ConfigError(f"cannot look at the states after {outside} of {steps} steps: choose from 0 to {steps}")
        return wanted - {0, steps}

    def take(self, steps: int, states: Mapping[int, Tensor]) -> None:
        """Take in a roll-out that has been done."""
        self.rollouts.append(Watched(steps, dict(states)))


_CURRENT: ContextVar[Observer | None] = ContextVar("observer", default=None)


@contextlib.contextmanager
def observing(stops: Callable[[int], Iterable[int]], linked: bool = False) -> Iterator[Observer]:
    """Keep states of the roll-outs inside the block; what :func:`delira_nca.rollout.rollout` returns stays the same.

    Parameters
    ----------
    stops, linked : see :class:`Observer`. Each state that is kept costs its own memory, and no more.

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
    """Who looks at roll-outs now, or None."""
    return _CURRENT.get()
