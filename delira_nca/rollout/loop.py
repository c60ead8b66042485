"""Entry points of all roll-outs, which training, prediction, recording, previews and export call."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

from torch import Tensor

from delira_nca.checks import plain_numbers
from delira_nca.errors import ConfigError
from delira_nca.rollout.backends import choose
from delira_nca.rollout.job import DEFAULT_MEMORY_BUDGET, Job, Masks, current_observer, first_sample
from delira_nca.rollout.reference import Cell
from delira_nca.rollout.untraced import untraced

__all__ = ["rollout", "trajectory"]


@plain_numbers
@untraced
def rollout(
    x: Tensor,
    cell: Cell,
    steps: int,
    *,
    start: int = 0,
    seed: int = 0,
    masks: Masks | None = None,
    segment: int | None = None,
    memory_budget: int = DEFAULT_MEMORY_BUDGET,
) -> Tensor:
    """Return the state after a number of steps.

    Parameters
    ----------
    x : Tensor
        (B, C, *spatial) state at step ``start``.
    cell : Cell
        Automaton.
    steps : int
        Number of steps, at least 0.
    start : int
        Number of the first step, for the fire masks and the time channel.
    seed : int
        Seed of the fire masks and the noise, which also depend on the indices of step, sample and cell. The index of a
        sample is that in the whole batch; see :func:`delira_nca.rollout.job.at_part`.
    masks : Tensor, callable or None
        Fire masks, used instead of the seed. The first entry of a tensor is the mask of step ``start``.
    segment : int or None
        Number of steps between two stored states. The steps between them are recomputed in the backward pass, with
        gradients bit-equal to those without recomputation. None chooses the number by the budget; a number of at least
        ``steps`` stores everything.
    memory_budget : int
        Number of bytes that may be stored for the backward pass, in addition to a few states. If they do not suffice
        for all steps, only states at segment borders are stored, and the rest is recomputed.

    Returns
    -------
    (B, C, *spatial) tensor

    Raises
    ------
    ConfigError, ShapeError
        If a number is out of range, the masks have the wrong shape, or the back end set by
        :func:`delira_nca.rollout.set_backend` does not support the roll-out.
    """
    observer = current_observer()
    stops = () if observer is None else sorted(observer.stops(steps))
    job = Job(x, cell, steps, (*stops, steps), start, seed, masks, segment, memory_budget, first_sample(x))
    job.check()
    job = job.gated()
    states = dict[int, Tensor]()
    if steps and observer is not None and observer.linked:
        for first, last in pairwise((0, *stops, steps)):
            part = job.part(states.get(first, x), first, last)
            states[last] = choose(part).states(part)[last - first]
    elif steps:
        states = choose(job).states(job)
    if observer is not None:
        observer.take(steps, {0: x, **states})
    return states[steps] if steps else x


@plain_numbers
@untraced
def trajectory(
    x: Tensor,
    cell: Cell,
    steps: int,
    *,
    keep: Iterable[int] | None = None,
    start: int = 0,
    seed: int = 0,
    masks: Masks | None = None,
    segment: int | None = None,
    memory_budget: int = DEFAULT_MEMORY_BUDGET,
) -> dict[int, Tensor]:
    """Return the states after several steps of one roll-out.

    Parameters
    ----------
    x, cell, steps, start, seed, masks, segment, memory_budget
        See :func:`rollout`.
    keep : iterable of int or None
        Numbers of steps after which the state is returned, from 0 (the input) to ``steps``; by default all from 1 to
        ``steps``.

    Returns
    -------
    dict of int to (B, C, *spatial) tensor
        Bit-equal to the results of :func:`rollout` for these numbers of steps.

    Raises
    ------
    ConfigError
        If a number to keep is out of range.
    """
    Job(x, cell, steps, (), start, seed, masks, segment, memory_budget).check()
    wanted = set(range(1, steps + 1) if keep is None else keep)
    if outside := sorted(k for k in wanted if not 0 <= k <= steps):
        raise ConfigError(f"cannot keep the states after {outside} of {steps} steps: choose from 0 to {steps}")
    stops = sorted(wanted - {0})
    states = {0: x} if 0 in wanted else {}
    if stops:
        numbers = (start, seed, masks, segment, memory_budget, first_sample(x))
        job = Job(x, cell, stops[-1], tuple(stops), *numbers).gated()
        states |= choose(job).states(job)
    return states
