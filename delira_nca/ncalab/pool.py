"""NCALab's pool, based on :class:`~delira_nca.training.SamplePool`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from delira_nca.checks import require_number, require_whole
from delira_nca.errors import ConfigError
from delira_nca.seeding import generator
from delira_nca.training.pool import Draw, SamplePool

__all__ = ["Pool"]


class Pool:
    """Sample pool with NCALab's interface: ``sample(seed)`` before a roll-out, ``update(batch)`` after it.

    Parameters
    ----------
    n_seed : int
        Number of seeds per batch.
    damage : bool
        Whether samples are damaged.
    p_damage : float
        Probability that a sample other than a seed is damaged.
    capacity : int
        Number of states; NCALab keeps only the previous batch.
    rng_seed : int
        Seed of the draws, see :class:`~delira_nca.training.SamplePool`.

    Examples
    --------
    >>> pool = Pool(n_seed=1)
    >>> seed = torch.ones(4, 16, 8, 8)
    >>> batch = pool.sample(seed)
    >>> pool.update(batch * 2, losses=torch.tensor([0.4, 0.3, 0.2, 0.1]))
    >>> pool.sample(seed).shape
    torch.Size([4, 16, 8, 8])
    """

    def __init__(
        self, n_seed: int = 1, damage: bool = False, p_damage: float = 0.2, *, capacity: int = 256, rng_seed: int = 0
    ) -> None:
        for name, number, least in (("n_seed", n_seed, 0), ("capacity", capacity, 1)):
            require_whole(name, number, least)
        require_number("p_damage", p_damage, 0, 1)
        self.n_seed, self.damage, self.p_damage = n_seed, damage, p_damage
        self.capacity, self.rng_seed = capacity, rng_seed
        self.pool: SamplePool | None = None
        self._draw: Draw | None = None

    @property
    def batch(self) -> Tensor | None:
        """States of the last draw, or None before the first one."""
        return None if self._draw is None else self._draw.states

    def sample(self, seed: Tensor) -> Tensor:
        """Draw a batch of states that contains ``n_seed`` seeds.

        Parameters
        ----------
        seed : Tensor
            Identical seeds (B, C, *spatial). The pool is filled with them at the first call.

        Raises
        ------
        ConfigError
            If the pool is smaller than the batch, or was filled with another seed.
        """
        if self.pool is None:
            self.pool = SamplePool(seed[0], self.capacity, rng_seed=self.rng_seed)
        elif not torch.equal(self.pool.seed, seed[0].to(self.pool.seed)):
            shapes = tuple(self.pool.seed.shape), tuple(seed.shape[1:])
            raise ConfigError(
                f"the pool began with another seed, of {shapes[0]}, and is given one of {shapes[1]}: make a new Pool"
            )
        num_damaged = 0
        if self.damage:
            rng = generator(self.rng_seed, "damage", self.pool.num_draws)
            num_damaged = int(rng.binomial(max(len(seed) - self.n_seed, 0), self.p_damage))
        draw = self.pool.sample(len(seed), num_seeds=self.n_seed, num_damaged=num_damaged, damage="rectangle")
        self._draw = draw
        return draw.states.to(seed.device)

    def update(self, batch: Tensor, losses: Tensor | None = None) -> None:
        """Write the final states of the last draw back. States that are not finite are reset to the seed.

        Parameters
        ----------
        batch : Tensor
            Final states (B, C, *spatial).
        losses : Tensor, optional
            Losses (B,), the highest of which are replaced by the seed in later draws; without losses, in random order.

        Raises
        ------
        ConfigError
            If no batch was drawn.
        """
        if self.pool is None or self._draw is None:
            raise ConfigError("update() of a pool of which nothing was drawn: call sample(seed) first")
        exploded = ~batch.detach().isfinite().flatten(1).all(1)
        self.pool.commit(self._draw.indices, batch, losses=losses, reseed=exploded)

    def state_dict(self) -> dict[str, Any]:
        """State of the pool; empty before the first draw."""
        return {} if self.pool is None else {**self.pool.state_dict(), "seed": self.pool.seed}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load a state; an empty one is that before the first draw."""
        self.pool = self._draw = None
        if state:
            self.pool = SamplePool(state["seed"], state["states"]["shape"][0], rng_seed=state["rng_seed"])
            self.pool.load_state_dict(state)
