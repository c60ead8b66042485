"""The only place where steps are looped. Training, prediction, recording, previews and export all call it."""

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
    """State after a number of steps.

    Parameters
    ----------
    x : Tensor
        (B, C, *spatial) state at step ``start``.
    cell : Cell
        The automaton.
    steps : int
        How many steps, at least 0.
    start : int
        Number of the first step; the fire masks and the time plane go on from there.
    seed : int
        Of the fire masks and the noise, together with step, sample and cell. Samples are counted in the whole batch
        where this is a part of one, see :func:`delira_nca.rollout.job.at_part`.
    masks : Tensor, callable or None
        The fire masks themselves, instead of a seed; a tensor's first entry belongs to step ``start``.
    segment : int or None
        Steps between two stored states. What lies between is computed again in the backward pass, with gradients
        bit-equal to those of the plain roll-out. ``None`` chooses by the budget; a number of at least ``steps`` stores
        everything.
    memory_budget : int
        Bytes that may be kept for the backward pass, beside a few states. Where they do not suffice for all steps,
        states at segment borders are kept, and the rest is computed again.

    Returns
    -------
    (B, C, *spatial) tensor

    Raises
    ------
    ConfigError, ShapeError
        If a number is out of range, given masks do not fit the state, or the back end that was insisted on cannot do
        it (see :func:`delira_nca.rollout.set_backend`).
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
    """States at chosen steps of one roll-out.

    Parameters
    ----------
    keep : iterable of int or None
        After how many steps to keep the state, from 0 (the input) to ``steps``; all of 1 to ``steps`` by default.

    Returns
    -------
    dict of int to (B, C, *spatial) tensor
        Bit-equal to what :func:`rollout` gives for so many steps. The other arguments are those of :func:`rollout`.

    Raises
    ------
    ConfigError
        If a step to keep lies outside of the roll-out.
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
