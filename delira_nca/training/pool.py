"""The sample pool: states that live on from iteration to iteration, so that an automaton learns to stay."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from delira_nca.checks import is_whole
from delira_nca.errors import CheckpointError, ConfigError, ShapeError, did_you_mean
from delira_nca.seeding import generator
from delira_nca.training.damage import Damage, apply_damage
from delira_nca.training.distributed.context import ALONE, ProcessContext
from delira_nca.training.living_cells import pack_states, unpack_states

__all__ = ["Draw", "SamplePool"]


@dataclass(frozen=True)
class Draw:
    """What was drawn from a pool, the sample with the highest loss first.

    Attributes
    ----------
    indices : (B,) int64, the slots, each at most once.
    states : (B, C, *spatial), with seeds and damage put in.
    losses : (B,) losses by which they were ranked, before seeds and damage; inf for a slot that never trained.
    slots : name to (B, ...) tensor, aligned with the states.
    """

    indices: Tensor
    states: Tensor
    losses: Tensor
    slots: dict[str, Tensor]


class SamplePool:
    """States to train on, each with its last loss and whatever else belongs to it.

    Parameters
    ----------
    seed : (C, *spatial) state that every slot begins with, and that replaces the worst of each draw.
    capacity : number of slots.
    slots : name to (capacity, ...) tensor that stays aligned with the states: a label, a goal.
    rng_seed : what is drawn is a function of this number and of how often was drawn before.

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
        if not is_whole(capacity) or capacity < 1:
            raise ConfigError(f"capacity of a pool is a number of states of at least 1, not {capacity!r}")
        if seed.dim() < 2:
            raise ShapeError(f"the seed of a pool is one state (C, *spatial), not {tuple(seed.shape)}")
        for name, values in (slots or {}).items():
            if len(values) != capacity:
                raise ShapeError(f"slot {name!r} has {len(values)} entries for a pool of {capacity}")
        self.seed = seed.detach().clone()
        self._states: Tensor | None = None  # made when they are needed: a pool may be divided before
        self._ranks, self._held = ALONE, slice(0, capacity)
        self.losses = torch.full((capacity,), torch.inf)
        self.slots = {name: values.detach().clone() for name, values in (slots or {}).items()}
        self.rng_seed, self.num_draws = rng_seed, 0

    @property
    def states(self) -> Tensor:
        """(capacity, C, *spatial) states; those that this process holds, where the pool is divided."""
        if self._states is None:
            count = self._held.stop - self._held.start
            self._states = self.seed.repeat(count, *(1,) * self.seed.dim())
        return self._states

    @states.setter
    def states(self, states: Tensor) -> None:
        self._states = states

    def divide(self, ranks: ProcessContext) -> None:
        """Hold but the slots that belong to this process, of those that train together.

        Parameters
        ----------
        ranks : of the trainer. Losses stay whole everywhere, so that all draw the same; :meth:`sample`, :meth:`commit`
            and :meth:`state_dict` are then called by all processes at once.
        """
        if ranks is self._ranks:
            return
        self._ranks, self._held = ranks, ranks.own_slots(len(self))
        self._states = None if self._states is None else self._states[self._held].clone()
        self.slots = {name: values[self._held].clone() for name, values in self.slots.items()}

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
        batch_size : how many; of a divided pool, for the whole batch.
        losses : (capacity,) to rank by, instead of those that were committed.
        num_seeds : so many with the highest losses are replaced by the seed.
        num_damaged : so many with the lowest losses get a hole; never one that was replaced.
        damage : shape of the holes.

        Raises
        ------
        ConfigError
            If the pool is smaller than the batch, or the batch than the seeds and damaged ones together.
        """
        self.check_batch_size(batch_size, num_seeds, num_damaged)
        ranks = self.losses if losses is None else losses.detach().to(self.losses.device)
        if ranks.shape != self.losses.shape:
            raise ShapeError(f"losses of the pool are ({len(self)},), not {tuple(ranks.shape)}")
        rng = generator(self.rng_seed, "pool", self.num_draws)
        self.num_draws += 1
        drawn = torch.from_numpy(rng.choice(len(self), batch_size, replace=False)).to(ranks.device, non_blocking=True)
        by_loss = ranks[drawn].nan_to_num(nan=torch.inf, posinf=torch.inf)  # a state that went NaN is the worst
        order = torch.argsort(by_loss, descending=True, stable=True)
        indices, own = drawn[order], self._ranks.own_positions(batch_size)
        states = self._ranks.fetch(self.states, len(self), indices)
        states[: max(num_seeds - own.start, 0)] = self.seed
        for position in range(batch_size - num_damaged, batch_size):
            is_own = own.start <= position < own.stop
            damaged = apply_damage(states[position - own.start] if is_own else self.seed, damage, rng)
            if is_own:
                states[position - own.start] = damaged
        slots = {name: self._ranks.fetch(values, len(self), indices) for name, values in self.slots.items()}
        return Draw(indices[own], states, by_loss[order][own], slots)

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
        indices : (B,) from the draw.
        states : (B, C, *spatial), detached here.
        losses : (B,) by which they will be ranked; unknown ones rank as the worst.
        slots : name to (B, ...), where these have changed.
        reseed : (B,) bool, True for slots that get the seed instead, and rank as those that never trained.

        Raises
        ------
        ShapeError, ConfigError
            If shapes do not fit the pool, or a slot is unknown.
        """
        if states.shape != (len(indices), *self.seed.shape):
            expected = (len(indices), *self.seed.shape)
            raise ShapeError(f"states for {len(indices)} slots are {expected}, not {tuple(states.shape)}")
        for name, values in (slots or {}).items():
            if name not in self.slots:
                raise ConfigError(f"the pool has no slot {name!r}. {did_you_mean(name, self.slots)}")
            if len(values) != len(indices):
                raise ShapeError(f"slot {name!r} for {len(indices)} places has {len(values)} entries")
        losses = torch.full((len(indices),), torch.inf) if losses is None else losses.detach()
        if reseed is not None:
            place = reseed.view(-1, *(1,) * self.seed.dim())
            states = torch.where(place.to(states.device), self.seed.to(states), states)
            losses = torch.where(reseed.to(losses.device), torch.inf, losses)
        ranked = torch.stack([indices.double(), losses.double().to(indices.device)], 1)  # both are exact in float64
        everywhere, known = self._ranks.join_rows(ranked).unbind(1)
        everywhere = everywhere.long()
        for name, values in (slots or {}).items():
            self._ranks.store(self.slots[name], len(self), everywhere, values.detach().to(self.slots[name]))
        self._ranks.store(self.states, len(self), everywhere, states.detach().to(self.states))
        self.losses[everywhere] = known.to(self.losses)

    def state_dict(self) -> dict[str, Any]:
        """States, losses, slots, and how often was drawn: all of them in the main process, elsewhere its own."""
        packed = pack_states(self.states)
        cells = packed["cells"] + self._held.start * self.seed[0].numel()
        return {
            "states": {
                "shape": (len(self), *self.seed.shape),
                "cells": self._ranks.gather_on_main(cells),
                "values": self._ranks.gather_on_main(packed["values"]),
            },
            "losses": self.losses,
            "slots": {name: self._ranks.gather_on_main(values) for name, values in self.slots.items()},
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
