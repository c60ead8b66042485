"""Sample pool: states that are kept between iterations, so that an automaton learns stable patterns."""

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
    """Samples drawn from a pool, sorted by descending loss.

    Attributes
    ----------
    indices : Tensor
        Numbers of the slots, (B,) int64, without repetition.
    states : Tensor
        States (B, C, *spatial), with seeds and damage applied.
    losses : Tensor
        Losses (B,) before seeds and damage; infinite for a slot that has never been trained.
    slots : dict of str to Tensor
        Values (B, ...) of the samples by name.
    """

    indices: Tensor
    states: Tensor
    losses: Tensor
    slots: dict[str, Tensor]


class SamplePool:
    """Pool of states to train on, each with its last loss and further values.

    Parameters
    ----------
    seed : Tensor
        Initial state (C, *spatial) of every slot, which also replaces the worst states of each draw.
    capacity : int
        Number of slots.
    slots : mapping of str to Tensor, optional
        Further values (capacity, ...) of the slots by name, such as a label or a goal.
    rng_seed : int
        Seed of the draws, which depend only on this number and the number of earlier draws.

    Raises
    ------
    ConfigError, ShapeError
        For a capacity below 1, a seed without spatial axes, or slots with a length other than the capacity.

    Notes
    -----
    Mordvintsev et al. (2020), "Growing Neural Cellular Automata": draw without replacement, sort by loss, replace the
    worst by the seed, damage the best, and write the final states back to their slots.

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
        self._states: Tensor | None = None  # created on first use, for the slots kept by then
        self._held = slice(0, capacity)
        self.losses = torch.full((capacity,), torch.inf)
        self.slots = {name: values.detach().clone() for name, values in (slots or {}).items()}
        self.rng_seed, self.num_draws = rng_seed, 0

    @property
    def states(self) -> Tensor:
        """States of all slots, or of the slots kept by this rank, as a (capacity, C, *spatial) tensor."""
        if self._states is None:
            self._states = self.seed.repeat(self._held.stop - self._held.start, *(1,) * self.seed.dim())
        return self._states

    @states.setter
    def states(self, states: Tensor) -> None:
        self._states = states

    def keep(self, held: slice) -> None:
        """Keep only the states and values of a range of slots, and the losses of all slots."""
        if held == self._held:
            return
        self._held, self._states = held, None if self._states is None else self._states[held].clone()
        self.slots = {name: values[held].clone() for name, values in self.slots.items()}

    def to(self, device: torch.device | str) -> SamplePool:
        """Move states, losses and slots to a device, and return the pool.

        If the pool is on the device of the training, a draw needs no synchronisation: slots are drawn on the CPU, and
        sorted on the device.
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
        """Draw states without replacement, sorted by descending loss.

        Parameters
        ----------
        batch_size : int
            Number of states to draw.
        losses : Tensor, optional
            Losses (capacity,) to sort by, instead of the committed ones.
        num_seeds : int
            Number of states, those with the highest losses, that are replaced by the seed.
        num_damaged : int
            Number of states, those with the lowest losses, that are damaged.
        damage : callable or str
            Shape of the damage.

        Raises
        ------
        ConfigError
            If the pool is smaller than the batch, or the batch smaller than ``num_seeds + num_damaged``.
        """
        self.check_batch_size(batch_size, num_seeds, num_damaged)
        indices, ranked, rng = self.choose(batch_size, losses)
        states = self.states[indices]
        states[:num_seeds] = self.seed
        damage_last(states, num_damaged, damage, rng)
        return Draw(indices, states, ranked, {name: values[indices] for name, values in self.slots.items()})

    def choose(self, batch_size: int, losses: Tensor | None = None) -> tuple[Tensor, Tensor, np.random.Generator]:
        """Slots of the next draw and their losses, in descending order, and the generator for the damage."""
        losses = self.losses if losses is None else losses.detach().to(self.losses.device)
        if losses.shape != self.losses.shape:
            raise ShapeError(f"losses of the pool are ({len(self)},), not {tuple(losses.shape)}")
        rng = generator(self.rng_seed, "pool", self.num_draws)
        self.num_draws += 1
        drawn = torch.from_numpy(rng.choice(len(self), batch_size, replace=False)).to(losses.device, non_blocking=True)
        by_loss = losses[drawn].nan_to_num(nan=torch.inf, posinf=torch.inf)  # a NaN ranks as the highest loss
        order = torch.argsort(by_loss, descending=True, stable=True)
        return drawn[order], by_loss[order], rng

    def check_batch_size(self, batch_size: int, num_seeds: int = 1, num_damaged: int = 0) -> None:
        """Raise an error for a batch that cannot be drawn."""
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
        """Write states back to their slots.

        Parameters
        ----------
        indices : Tensor
            Slots (B,) from the draw.
        states : Tensor
            States (B, C, *spatial), which are detached.
        losses : Tensor, optional
            Losses (B,) of the states; infinite by default.
        slots : mapping of str to Tensor, optional
            Changed values (B, ...) by name.
        reseed : Tensor, optional
            Mask (B,) of the slots that are reset to the seed, with an infinite loss.

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
        """Check and convert states, losses and slots for :meth:`commit`."""
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
        """States, losses, slots, and number of draws."""
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
        """Load a state.

        Raises
        ------
        CheckpointError
            If the shape or the slots of the pool differ.
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


Damage = Callable[[np.random.Generator, Sequence[int]], Tensor]
"""Function of a generator and a spatial shape that returns a bool tensor, True for destroyed cells."""


def disc(rng: np.random.Generator, shape: Sequence[int]) -> Tensor:
    """Draw a disc (a ball in 3D) with centre in the middle half of the grid and radius 0.1 to 0.4 of half its width.

    Notes
    -----
    Mordvintsev et al. (2020): centre U(-0.5, 0.5), radius U(0.1, 0.4), on a grid from -1 to 1.

    Examples
    --------
    >>> hole = disc(np.random.default_rng(0), (32, 32))
    >>> hole.dtype, 0 < int(hole.sum()) < 32 * 32
    (torch.bool, True)
    """
    centre, radius = rng.uniform(-0.5, 0.5, len(shape)), rng.uniform(0.1, 0.4)
    return ball(shape, centre, radius)


def half(rng: np.random.Generator, shape: Sequence[int]) -> Tensor:
    """Draw one half of the grid, below or above the middle of a random axis."""
    axis, sign = int(rng.integers(len(shape))), float(rng.choice([-1.0, 1.0]))
    view = [-1 if other == axis else 1 for other in range(len(shape))]
    return (torch.linspace(-1, 1, shape[axis]).view(view) * sign > 0).expand(*shape).clone()


def rectangle(rng: np.random.Generator, shape: Sequence[int]) -> Tensor:
    """Draw a box inside the grid, with sides of an eighth to a half of the grid."""
    hole = torch.zeros(*shape, dtype=torch.bool)
    sides = [int(rng.integers(max(size // 8, 1), max(size // 2, 1) + 1)) for size in shape]
    corner = [int(rng.integers(0, size - side + 1)) for size, side in zip(shape, sides, strict=True)]
    hole[tuple(slice(c, c + side) for c, side in zip(corner, sides, strict=True))] = True
    return hole


def mixed(rng: np.random.Generator, shape: Sequence[int]) -> Tensor:
    """Draw a disc, a half or a rectangle with equal probability."""
    return (disc, half, rectangle)[int(rng.integers(3))](rng, shape)


DAMAGES: dict[str, Damage] = {"disc": disc, "half": half, "rectangle": rectangle, "mixed": mixed}


def apply_damage(state: Tensor, damage: Damage | str, rng: np.random.Generator) -> Tensor:
    """Return a copy of one state in which all channels of the damaged cells are 0.

    Parameters
    ----------
    state : Tensor
        State (C, *spatial).
    damage : callable or str
        Shape of the damage: a function, or one of disc, half, rectangle, mixed.
    rng : numpy.random.Generator
        Generator of the damage.
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
    """Damage the last states of a batch in place; see :func:`apply_damage`.

    Parameters
    ----------
    states : Tensor
        (B, C, *spatial) states.
    count : int
        Number of states to damage.
    damage, rng : callable or str and numpy.random.Generator
        Shape of the damage, and its generator.
    first, total : int
        Position of ``states`` in the batch of ``total`` samples over all ranks. The damage of all samples is drawn, so
        that all ranks use the same random numbers.
    """
    total = len(states) if total is None else total
    for place in range(total - count - first, total - first):
        is_here = 0 <= place < len(states)
        damaged = apply_damage(states[place] if is_here else states.new_zeros(states.shape[1:]), damage, rng)
        if is_here:
            states[place] = damaged


def reseeded(states: Tensor, losses: Tensor, seed: Tensor, lost: Tensor) -> tuple[Tensor, Tensor]:
    """Replace lost states by the seed, and their losses by infinity, as for slots that have never been trained.

    Examples
    --------
    >>> states, losses = reseeded(torch.zeros(2, 1), torch.zeros(2), torch.ones(1), torch.tensor([False, True]))
    >>> states.tolist(), losses.tolist()
    ([[0.0], [1.0]], [0.0, inf])
    """
    place = lost.to(states.device).view(-1, *(1,) * seed.dim())
    return torch.where(place, seed.to(states), states), torch.where(lost.to(losses.device), torch.inf, losses)


# integers of the same width: unlike floats, their comparison with 0 tells -0.0 from 0.0
_SAME_WIDTH = {2: torch.int16, 4: torch.int32, 8: torch.int64}


def pack_states(states: Tensor) -> dict[str, Any]:
    """Pack states as their cells with a nonzero channel and the indices of these. Exact, including the sign of zeros.

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
    """Unpack the result of :func:`pack_states` to (N, C, *spatial) states, or only the wanted range of them."""
    num_states, num_channels, *spatial = packed["shape"]
    first, stop, _ = (wanted or slice(None)).indices(num_states)
    cells, values = packed["cells"], packed["values"]
    size = prod(spatial)
    among = (cells >= first * size) & (cells < stop * size)
    states: Tensor = values.new_zeros(stop - first, *spatial, num_channels)
    states.view(-1, num_channels)[cells[among] - first * size] = values[among]
    return states.movedim(-1, 1).contiguous()
