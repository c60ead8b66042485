"""The sample pool: states that live on from iteration to iteration, so that an automaton learns to stay."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from delira_nca.checks import require_whole
from delira_nca.errors import CheckpointError, ConfigError, ShapeError, did_you_mean, require_choice
from delira_nca.evaluation.holes import ball
from delira_nca.seeding import generator

__all__ = [
    "DAMAGES",
    "Damage",
    "Draw",
    "SamplePool",
    "apply_damage",
    "damage_last",
    "disc",
    "half",
    "mixed",
    "pack_states",
    "rectangle",
    "reseeded",
    "unpack_states",
]


@dataclass(frozen=True)
class Draw:
    """What was drawn from a pool, the sample with the highest loss first.

    Attributes
    ----------
    indices : Tensor
        (B,) int64, the slots, each at most once.
    states : Tensor
        (B, C, *spatial), with seeds and damage put in.
    losses : Tensor
        (B,) losses by which they were ranked, before seeds and damage; inf for a slot that never trained.
    slots : dict of str to Tensor
        Name to (B, ...) tensor, aligned with the states.
    """

    indices: Tensor
    states: Tensor
    losses: Tensor
    slots: dict[str, Tensor]


class SamplePool:
    """States to train on, each with its last loss and whatever else belongs to it.

    Parameters
    ----------
    seed : Tensor
        (C, *spatial) state that every slot begins with, and that replaces the worst of each draw.
    capacity : int
        Number of slots.
    slots : mapping of str to Tensor, optional
        Name to (capacity, ...) tensor that stays aligned with the states: a label, a goal.
    rng_seed : int
        What is drawn is a function of this number and of how often was drawn before.

    Raises
    ------
    ConfigError, ShapeError
        For a capacity below 1, a seed without spatial axes, or slots of another length.

    Notes
    -----
    Mordvintsev et al. (2020), "Growing Neural Cellular Automata": draw without replacement, rank by loss, replace the
    worst by the seed, damage the best, and write what became of them back to where they came from.

    Examples
    --------
    >>> pool = SamplePool(torch.ones(4, 8, 8), capacity=16)
    >>> draw = pool.sample(3)
    >>> pool.commit(draw.indices, draw.states * 2, losses=torch.tensor([0.3, 0.2, 0.1]))
    >>> int((pool.states[:, 0, 0, 0] == 2).sum())
    3
    """

    def __init__(
        self, seed: Tensor, capacity: int = 1024, *, slots: Mapping[str, Tensor] | None = None, rng_seed: int = 0
    ) -> None:
        require_whole("capacity", capacity, 1)
        if seed.dim() < 2:
            raise ShapeError(f"the seed of a pool is one state (C, *spatial), not {tuple(seed.shape)}")
        for name, values in (slots or {}).items():
            if len(values) != capacity:
                raise ShapeError(f"slot {name!r} has {len(values)} entries for a pool of {capacity}")
        self.seed = seed.detach().clone()
        self._states: Tensor | None = None  # made when they are needed, of the slots that are held by then
        self._held = slice(0, capacity)
        self.losses = torch.full((capacity,), torch.inf)
        self.slots = {name: values.detach().clone() for name, values in (slots or {}).items()}
        self.rng_seed, self.num_draws = rng_seed, 0

    @property
    def states(self) -> Tensor:
        """(capacity, C, *spatial) states, or those of the slots that are kept."""
        if self._states is None:
            self._states = self.seed.repeat(self._held.stop - self._held.start, *(1,) * self.seed.dim())
        return self._states

    @states.setter
    def states(self, states: Tensor) -> None:
        self._states = states

    def keep(self, held: slice) -> None:
        """Keep the states and slots of some places alone, and the losses of all; what is kept already stays."""
        if held == self._held:
            return
        self._held, self._states = held, None if self._states is None else self._states[held].clone()
        self.slots = {name: values[held].clone() for name, values in self.slots.items()}

    def to(self, device: torch.device | str) -> SamplePool:
        """Hold states, losses and slots on a device, and return the pool.

        Draws from a pool on the device of the training wait for nothing: which states are drawn is decided here, their
        order there.
        """
        self.seed, self.losses = self.seed.to(device), self.losses.to(device)
        self._states = None if self._states is None else self._states.to(device)
        self.slots = {name: values.to(device) for name, values in self.slots.items()}
        return self

    def __len__(self) -> int:
        return len(self.losses)

    def __repr__(self) -> str:
        shape = tuple(self.seed.shape)
        return f"SamplePool(capacity={len(self)}, state={shape}, slots={sorted(self.slots)}, draws={self.num_draws})"

    def sample(
        self,
        batch_size: int,
        *,
        losses: Tensor | None = None,
        num_seeds: int = 1,
        num_damaged: int = 0,
        damage: Damage | str = "disc",
    ) -> Draw:
        """Draw states without replacement, worst first.

        Parameters
        ----------
        batch_size : int
            Number of states.
        losses : Tensor, optional
            (capacity,) to rank by, instead of those that were committed.
        num_seeds : int
            So many with the highest losses are replaced by the seed.
        num_damaged : int
            So many with the lowest losses get a hole; never one that was replaced.
        damage : callable or str
            Shape of the holes.

        Raises
        ------
        ConfigError
            If the pool is smaller than the batch, or the batch than the seeds and damaged ones together.
        """
        self.check_batch_size(batch_size, num_seeds, num_damaged)
        indices, ranked, rng = self.choose(batch_size, losses)
        states = self.states[indices]
        states[:num_seeds] = self.seed
        damage_last(states, num_damaged, damage, rng)
        return Draw(indices, states, ranked, {name: values[indices] for name, values in self.slots.items()})

    def choose(self, batch_size: int, losses: Tensor | None = None) -> tuple[Tensor, Tensor, np.random.Generator]:
        """Slots of the next draw, their losses, the highest first, and the generator of its damage."""
        losses = self.losses if losses is None else losses.detach().to(self.losses.device)
        if losses.shape != self.losses.shape:
            raise ShapeError(f"losses of the pool are ({len(self)},), not {tuple(losses.shape)}")
        rng = generator(self.rng_seed, "pool", self.num_draws)
        self.num_draws += 1
        drawn = torch.from_numpy(rng.choice(len(self), batch_size, replace=False)).to(losses.device, non_blocking=True)
        by_loss = losses[drawn].nan_to_num(nan=torch.inf, posinf=torch.inf)  # a state that went NaN is the worst
        order = torch.argsort(by_loss, descending=True, stable=True)
        return drawn[order], by_loss[order], rng

    def check_batch_size(self, batch_size: int, num_seeds: int = 1, num_damaged: int = 0) -> None:
        """Refuse a batch that cannot be drawn, naming both numbers."""
        if not 1 <= batch_size <= len(self):
            raise ConfigError(f"a batch of {batch_size} cannot be drawn from a pool of {len(self)} without repetition")
        if min(num_seeds, num_damaged) < 0 or num_seeds + num_damaged > batch_size:
            raise ConfigError(
                f"{num_seeds} seeds and {num_damaged} damaged samples do not fit into a batch of {batch_size}"
            )

    def commit(
        self,
        indices: Tensor,
        states: Tensor,
        *,
        losses: Tensor | None = None,
        slots: Mapping[str, Tensor] | None = None,
        reseed: Tensor | None = None,
    ) -> None:
        """Write states back to where they were drawn.

        Parameters
        ----------
        indices : Tensor
            (B,) from the draw.
        states : Tensor
            (B, C, *spatial), detached here.
        losses : Tensor, optional
            (B,) by which they will be ranked; unknown ones rank as the worst.
        slots : mapping of str to Tensor, optional
            Name to (B, ...), where these have changed.
        reseed : Tensor, optional
            (B,) bool, True for slots that get the seed instead, and rank as those that never trained.

        Raises
        ------
        ShapeError, ConfigError
            If shapes do not fit the pool, or a slot is unknown.
        """
        states, losses, slots = self.checked(indices, states, losses, slots, reseed)
        for name, values in slots.items():
            self.slots[name][indices] = values
        self.states[indices] = states
        self.losses[indices] = losses

    def checked(
        self,
        indices: Tensor,
        states: Tensor,
        losses: Tensor | None,
        slots: Mapping[str, Tensor] | None,
        reseed: Tensor | None,
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """States, losses and slots as :meth:`commit` writes them."""
        if states.shape != (len(indices), *self.seed.shape):
            expected = (len(indices), *self.seed.shape)
            raise ShapeError(f"states for {len(indices)} slots are {expected}, not {tuple(states.shape)}")
        for name, values in (slots or {}).items():
            if name not in self.slots:
                raise ConfigError(f"the pool has no slot {name!r}. {did_you_mean(name, self.slots)}")
            if len(values) != len(indices):
                raise ShapeError(f"slot {name!r} for {len(indices)} places has {len(values)} entries")
        states = states.detach().to(self.states)
        losses = (torch.full((len(indices),), torch.inf) if losses is None else losses.detach()).to(self.losses)
        if reseed is not None:
            states, losses = reseeded(states, losses, self.seed, reseed)
        return states, losses, {name: values.detach().to(self.slots[name]) for name, values in (slots or {}).items()}

    def state_dict(self) -> dict[str, Any]:
        """States, losses, slots, and how often was drawn."""
        packed = pack_states(self.states)
        return {
            "states": {
                "shape": (len(self), *self.seed.shape),
                "cells": packed["cells"] + self._held.start * self.seed[0].numel(),
                "values": packed["values"],
            },
            "losses": self.losses,
            "slots": dict(self.slots),
            "rng_seed": self.rng_seed,
            "num_draws": self.num_draws,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up a state.

        Raises
        ------
        CheckpointError
            If it is that of a pool of another shape or with other slots.
        """
        shape, slots = (len(self), *self.seed.shape), state["slots"]
        if tuple(state["states"]["shape"]) != shape or slots.keys() != self.slots.keys():
            raise CheckpointError(
                f"the saved pool holds {tuple(state['states']['shape'])} and slots {sorted(slots)}, "
                f"this one {shape} and slots {sorted(self.slots)}"
            )
        device = self.seed.device
        self.states = unpack_states(state["states"], self._held).to(device)
        self.losses = state["losses"].clone().to(device)
        self.slots = {k: (v[self._held] if len(v) == len(self) else v).clone().to(device) for k, v in slots.items()}
        self.rng_seed, self.num_draws = state["rng_seed"], state["num_draws"]


# Damage and new beginnings -------------------------------------------------------------------------------------------

Damage = Callable[[np.random.Generator, Sequence[int]], Tensor]
"""Makes a bool tensor of a spatial shape, True where cells are destroyed."""


def disc(rng: np.random.Generator, shape: Sequence[int]) -> Tensor:
    """Disc (a ball in 3D) with its centre in the middle half of the grid and a radius of 0.1 to 0.4 of half its width.

    Notes
    -----
    Mordvintsev et al. (2020): centre U(-0.5, 0.5), radius U(0.1, 0.4), the grid reaching from -1 to 1.

    Examples
    --------
    >>> hole = disc(np.random.default_rng(0), (32, 32))
    >>> hole.dtype, 0 < int(hole.sum()) < 32 * 32
    (torch.bool, True)
    """
    centre, radius = rng.uniform(-0.5, 0.5, len(shape)), rng.uniform(0.1, 0.4)
    return ball(shape, centre, radius)


def half(rng: np.random.Generator, shape: Sequence[int]) -> Tensor:
    """One half of the grid, before or behind the middle of a random axis."""
    axis, sign = int(rng.integers(len(shape))), float(rng.choice([-1.0, 1.0]))
    view = [-1 if other == axis else 1 for other in range(len(shape))]
    return (torch.linspace(-1, 1, shape[axis]).view(view) * sign > 0).expand(*shape).clone()


def rectangle(rng: np.random.Generator, shape: Sequence[int]) -> Tensor:
    """Box of an eighth to a half of the grid along each axis, anywhere inside."""
    hole = torch.zeros(*shape, dtype=torch.bool)
    sides = [int(rng.integers(max(size // 8, 1), max(size // 2, 1) + 1)) for size in shape]
    corner = [int(rng.integers(0, size - side + 1)) for size, side in zip(shape, sides, strict=True)]
    hole[tuple(slice(c, c + side) for c, side in zip(corner, sides, strict=True))] = True
    return hole


def mixed(rng: np.random.Generator, shape: Sequence[int]) -> Tensor:
    """Disc, half or rectangle, each as often as the others."""
    return (disc, half, rectangle)[int(rng.integers(3))](rng, shape)


DAMAGES: dict[str, Damage] = {"disc": disc, "half": half, "rectangle": rectangle, "mixed": mixed}


def apply_damage(state: Tensor, damage: Damage | str, rng: np.random.Generator) -> Tensor:
    """Copy of one state with a hole: every channel is 0 inside, and untouched outside.

    Parameters
    ----------
    state : Tensor
        (C, *spatial) tensor.
    damage : callable or str
        Shape of the hole, or the name of one: disc, half, rectangle, mixed.
    rng : numpy.random.Generator
        To draw it from.

    Raises
    ------
    UnknownNameError
        For an unknown name.
    """
    if isinstance(damage, str):
        require_choice("damage", damage, DAMAGES)
        damage = DAMAGES[damage]
    hole = damage(rng, state.shape[1:]).to(state.device)
    return torch.where(hole, 0.0, state)


def damage_last(
    states: Tensor,
    count: int,
    damage: Damage | str,
    rng: np.random.Generator,
    *,
    first: int = 0,
    total: int | None = None,
) -> None:
    """Put holes into the last states of a batch, in place; see :func:`apply_damage`.

    Parameters
    ----------
    states : Tensor
        (B, C, *spatial) states.
    count : int
        Number of states that get a hole.
    damage, rng : callable or str and numpy.random.Generator
        Shape of the holes, and generator that they are drawn from.
    first, total : int
        Place of ``states`` in a batch of ``total`` that several processes share. Holes of all are drawn.
    """
    total = len(states) if total is None else total
    for place in range(total - count - first, total - first):
        is_here = 0 <= place < len(states)
        damaged = apply_damage(states[place] if is_here else states.new_zeros(states.shape[1:]), damage, rng)
        if is_here:
            states[place] = damaged


def reseeded(states: Tensor, losses: Tensor, seed: Tensor, lost: Tensor) -> tuple[Tensor, Tensor]:
    """States with the seed in place of those that are lost, and losses that rank these as never trained.

    Examples
    --------
    >>> states, losses = reseeded(torch.zeros(2, 1), torch.zeros(2), torch.ones(1), torch.tensor([False, True]))
    >>> states.tolist(), losses.tolist()
    ([[0.0], [1.0]], [0.0, inf])
    """
    place = lost.to(states.device).view(-1, *(1,) * seed.dim())
    return torch.where(place, seed.to(states), states), torch.where(lost.to(losses.device), torch.inf, losses)


# What a checkpoint keeps ----------------------------------------------------------------------------------------------

_SAME_WIDTH = {2: torch.int16, 4: torch.int32, 8: torch.int64}


def pack_states(states: Tensor) -> dict[str, Any]:
    """Cells of which any channel is not zero, and where they are. Exact to the bit, the sign of a zero included.

    Examples
    --------
    >>> states = torch.zeros(2, 16, 8, 8)
    >>> states[0, 3, 4, 4] = 1.0
    >>> packed = pack_states(states)
    >>> packed["values"].shape, torch.equal(unpack_states(packed), states)
    (torch.Size([1, 16]), True)
    """
    bits = states.contiguous().view(_SAME_WIDTH[states.element_size()])
    occupied = (bits != 0).any(1)
    return {
        "shape": tuple(states.shape),
        "cells": occupied.flatten().nonzero().squeeze(1),
        "values": states.movedim(1, -1)[occupied],
    }


def unpack_states(packed: Mapping[str, Any], wanted: slice | None = None) -> Tensor:
    """(N, C, *spatial) states from what :func:`pack_states` gave, or those that are wanted."""
    num_states, num_channels, *spatial = packed["shape"]
    first, stop, _ = (wanted or slice(None)).indices(num_states)
    cells, values = packed["cells"], packed["values"]
    size = prod(spatial)
    among = (cells >= first * size) & (cells < stop * size)
    states: Tensor = values.new_zeros(stop - first, *spatial, num_channels)
    states.view(-1, num_channels)[cells[among] - first * size] = values[among]
    return states.movedim(-1, 1).contiguous()
