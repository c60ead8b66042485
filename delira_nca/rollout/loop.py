"""The only place where steps are looped. Training, prediction, recording, previews and export all call it."""

from __future__ import annotations

import functools
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
    memory_budget : bytes that may be kept for the backward pass. As soon as half of them are, the rest of the
        roll-out is cut into segments.

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
    _check(x, cell, steps, start, masks, segment)
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
            fire = masks(t)
            if fire is not None and (fire.shape != (x.shape[0], 1, *x.shape[2:]) or fire.dtype != torch.bool):
                raise ShapeError(f"the mask of step {t} is {_mask_mismatch(fire, x, ())}")
            return fire
        if masks is not None:
            return masks[t - start]
        return fire_mask(seed, t, x.shape[0], x.shape[2:], cell.fire_rate, x.device)

    windows: dict[int, Window] = {}

    def run(state: Tensor, begin: int, end: int) -> Tensor:
        while begin < end:
            group, last = (begin - start) // WINDOW_STEPS, end
            if cell.skips_dead_space:  # the same window for the same steps, however they are cut into segments
                last = min(start + (group + 1) * WINDOW_STEPS, end)
                if group not in windows:
                    windows[group] = Window(state, margin=max(WINDOW_STEPS, 1 + cell.radius))
                window = windows[group]
                state = window.cut(state)
            for t in range(begin, last):
                fire = mask_of(t)
                state = step(cell, state, t, window.cut(fire) if cell.skips_dead_space and fire is not None else fire)
            if cell.skips_dead_space:
                state = window.put_back(state)
            begin = last
        return state

    done, length = 0, steps if segment is None else segment
    stops = sorted({*(k for k in keep if k > 0), steps})
    if segment is None and torch.is_grad_enabled():
        weights = list(cell.parameters()) if isinstance(cell, torch.nn.Module) else []
        stored = 0
        while done < steps and stored <= memory_budget // 2:
            before, begin = x, done
            done = min(begin + WINDOW_STEPS, next(stop for stop in stops if stop > begin))
            forward = functools.partial(run, before, start + begin, start + done)
            x, saved = measure_saved_bytes(forward, [before, *weights])
            stored += saved + x.nbytes
            length = segment_length(steps - done, saved // (done - begin), x.nbytes)
            yield done, x
    recompute = torch.is_grad_enabled() and length < steps - done
    for border in sorted({*range(done + length, steps, max(length, 1)), *stops} - set(range(done + 1))):
        if recompute:
            x = checkpoint(run, x, start + done, start + border, use_reentrant=False)
        else:
            x = run(x, start + done, start + border)
        done = border
        yield done, x


def _check(x: Tensor, cell: Cell, steps: int, start: int, masks: Masks | None, segment: int | None) -> None:
    for name, number, least in (
        ("steps", steps, 0),
        ("start", start, 0),
        ("segment", 1 if segment is None else segment, 1),
    ):
        if isinstance(number, bool) or not isinstance(number, int) or number < least:
            raise ConfigError(f"{name} is a whole number of at least {least}, not {number!r}")
    if x.dim() < 3:
        raise ShapeError(f"a state is (B, C, *spatial) with at least one spatial axis, not {tuple(x.shape)}")
    if isinstance(masks, Tensor):
        expected = (x.shape[0], 1, *x.shape[2:])
        if masks.dim() == 0 or len(masks) < steps or masks.shape[1:] != expected or masks.dtype != torch.bool:
            raise ShapeError(f"masks for {steps} steps are {_mask_mismatch(masks, x, (steps,))}")
    elif masks is None:
        fire_threshold(cell.fire_rate)


def _mask_mismatch(mask: Tensor, x: Tensor, leading: tuple[int, ...]) -> str:
    expected = (*leading, x.shape[0], 1, *x.shape[2:])
    return f"a bool tensor of shape {expected}, not {mask.dtype} of {tuple(mask.shape)}"
