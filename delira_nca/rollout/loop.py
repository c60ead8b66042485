"""The only place where steps are looped. Training, prediction, recording, previews and export all call it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from delira_nca.errors import ConfigError, ShapeError
from delira_nca.rollout.masks import fire_mask, fire_threshold
from delira_nca.rollout.memory import measure_saved_bytes, segment_length
from delira_nca.rollout.reference import Cell, step
from delira_nca.rollout.window import WINDOW_STEPS, Window

__all__ = ["DEFAULT_MEMORY_BUDGET", "Masks", "rollout", "trajectory"]

DEFAULT_MEMORY_BUDGET = 2**30
"""Bytes that a roll-out may keep for its backward pass before it stores segment borders only."""

Masks = Tensor | Callable[[int], Tensor | None]
"""Fire masks from outside: (T, B, 1, *spatial) bool, or a function of the step that returns one (None: all fire)."""


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
    x : (B, C, *spatial) state at step ``start``.
    cell : the automaton.
    steps : how many steps, at least 0.
    start : number of the first step; the fire masks and the time plane go on from there.
    seed : of the fire masks, together with step, sample and cell.
    masks : the fire masks themselves, instead of a seed; a tensor's first entry belongs to step ``start``.
    segment : steps between two stored states. What lies between is computed again in the backward pass, with
        gradients bit-equal to those of the plain roll-out. ``None`` chooses by the budget; a number of at least
        ``steps`` stores everything.
    memory_budget : bytes; a roll-out that would keep more than this for its backward pass is cut into segments.

    Returns
    -------
    (B, C, *spatial) tensor

    Raises
    ------
    ConfigError, ShapeError
        If a number is out of range, or given masks do not fit the state.
    """
    state = x
    for _, state in _states(x, cell, steps, (), start, seed, masks, segment, memory_budget):  # noqa: B007
        pass
    return state


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
    keep : after how many steps to keep the state, from 0 (the input) to ``steps``; all of 1 to ``steps`` by default.

    Returns
    -------
    dict of int to (B, C, *spatial) tensor
        Bit-equal to what :func:`rollout` gives for so many steps. The other arguments are those of :func:`rollout`.

    Raises
    ------
    ConfigError
        If a step to keep lies outside of the roll-out.
    """
    wanted = set(range(1, steps + 1) if keep is None else keep)
    if outside := sorted(k for k in wanted if not 0 <= k <= steps):
        raise ConfigError(f"cannot keep the states after {outside} of {steps} steps: choose from 0 to {steps}")
    states = _states(x, cell, steps, wanted, start, seed, masks, segment, memory_budget)
    return {done: state for done, state in itertools.chain([(0, x)], states) if done in wanted}


def _states(
    x: Tensor,
    cell: Cell,
    steps: int,
    keep: Iterable[int],
    start: int,
    seed: int,
    masks: Masks | None,
    segment: int | None,
    memory_budget: int,
) -> Iterator[tuple[int, Tensor]]:
    """Yield (steps done, state) at every segment border and at every step to keep."""
    _check(x, cell, steps, start, masks, segment)

    def mask_of(t: int) -> Tensor | None:
        if callable(masks):
            return masks(t)
        if masks is not None:
            return masks[t - start]
        return fire_mask(seed, t, x.shape[0], x.shape[2:], cell.fire_rate, x.device)

    def run(state: Tensor, begin: int, end: int) -> Tensor:
        if not cell.skips_dead_space:
            for t in range(begin, end):
                state = step(cell, state, t, mask_of(t))
            return state
        for first in range(begin, end, WINDOW_STEPS):
            last = min(first + WINDOW_STEPS, end)
            window = Window(state, margin=last - first)
            part = window.cut(state)
            for t in range(first, last):
                fire = mask_of(t)
                part = step(cell, part, t, None if fire is None else window.cut(fire))
            state = window.put_back(part)
        return state

    done, length = 0, steps if segment is None else segment
    if segment is None and torch.is_grad_enabled() and steps > 1:
        first = x
        weights = cell.parameters() if isinstance(cell, torch.nn.Module) else ()
        x, step_bytes = measure_saved_bytes(lambda: run(first, start, start + 1), [first, *weights])
        done = 1
        length = segment_length(steps, step_bytes, x.nbytes, memory_budget)
        yield done, x
    borders = sorted({*range(done + length, steps, max(length, 1)), *(k for k in keep if k > done), steps})
    for border in (b for b in borders if b > done):
        if torch.is_grad_enabled() and length < steps:
            x = checkpoint(run, x, start + done, start + border, use_reentrant=False)
        else:
            x = run(x, start + done, start + border)
        done = border
        yield done, x


def _check(x: Tensor, cell: Cell, steps: int, start: int, masks: Masks | None, segment: int | None) -> None:
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 0:
        raise ConfigError(f"steps is a whole number of at least 0, not {steps!r}")
    if start < 0:
        raise ConfigError(f"start is the number of the first step, at least 0, not {start!r}")
    if segment is not None and segment < 1:
        raise ConfigError(f"segment is a number of steps of at least 1, not {segment!r}")
    if x.dim() < 3:
        raise ShapeError(f"a state is (B, C, *spatial) with at least one spatial axis, not {tuple(x.shape)}")
    if isinstance(masks, Tensor):
        expected = (x.shape[0], 1, *x.shape[2:])
        if masks.shape[0] < steps or masks.shape[1:] != expected or masks.dtype != torch.bool:
            raise ShapeError(
                f"masks for {steps} steps are a bool tensor of shape {(steps, *expected)}, "
                f"not {masks.dtype} of {tuple(masks.shape)}"
            )
    elif masks is None:
        fire_threshold(cell.fire_rate)
