"""The pool in the loop: states go in before the roll-out, and come back after it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from delira_nca.errors import ConfigError, ShapeError, require_choice
from delira_nca.losses import per_sample_mse
from delira_nca.training.callbacks.abstract_callback import AbstractCallback, Returned
from delira_nca.training.damage import DAMAGES, Damage
from delira_nca.training.pool import Draw, SamplePool

__all__ = ["PoolUpdate", "image_error"]

Score = Callable[[Tensor, Mapping[str, Any]], Tensor]


def image_error(states: Tensor, batch: Mapping[str, Any]) -> Tensor:
    """Mean squared error between the first channels of each state and the label, for the ranking of a pool.

    Parameters
    ----------
    states : (B, C, *spatial).
    batch : with a ``"label"`` of (B, c, *spatial).

    Returns
    -------
    (B,) tensor
    """
    label = batch["label"]
    return per_sample_mse(states[:, : label.shape[1]], label)


class PoolUpdate(AbstractCallback):
    """Train on states from a pool instead of on seeds, and write them back.

    Before each iteration of training the batch's ``key`` is replaced by states of the pool, and every entry that the
    pool has a slot for by that slot. After it the states go back to their places, with their new losses.

    Parameters
    ----------
    pool : the pool.
    key : entry of the batch that holds the states.
    num_seeds : so many of each batch, the worst, begin anew from the seed.
    num_damaged : so many of each batch, the best, get a hole.
    damage : shape of the holes: disc, half, rectangle, mixed (any of these), or a function.
    score : ``(states, batch) -> (B,)`` losses by which samples are ranked; the image error by default.

    Raises
    ------
    ConfigError
        From the training: if the pool is smaller than the batch.

    Notes
    -----
    Mordvintsev et al. (2020): growing has no pool; persistent has 1 024 states and ``num_seeds=1``; regenerating has
    ``num_damaged=3`` besides.
    """

    def __init__(
        self,
        pool: SamplePool,
        *,
        key: str = "data",
        num_seeds: int = 1,
        num_damaged: int = 0,
        damage: Damage | str = "disc",
        score: Score = image_error,
    ) -> None:
        if not isinstance(pool, SamplePool):
            raise ConfigError(f"pool is a SamplePool, not {type(pool).__name__}")
        if isinstance(damage, str):
            require_choice("damage", damage, DAMAGES)
        self.pool, self.key, self.score, self.damage = pool, key, score, damage
        self.num_seeds, self.num_damaged = num_seeds, num_damaged
        self._draw: Draw | None = None

    def at_iter_begin(self, trainer: Any, *, train: bool, data_dict: Mapping[str, Any], **event: Any) -> Returned:
        """Put states of the pool into the batch."""
        if not train:
            return None
        seeds = data_dict[self.key]
        expected, given = tuple(self.pool.seed.shape), tuple(seeds.shape[1:])
        if given != expected:
            raise ShapeError(f"the pool holds states {expected}, the batch's {self.key!r} {given}")
        self._draw = self.pool.sample(
            len(seeds), num_seeds=self.num_seeds, num_damaged=self.num_damaged, damage=self.damage
        )
        return {"data_dict": {**data_dict, **self._draw.slots, self.key: self._draw.states}}

    def at_iter_end(
        self, trainer: Any, *, train: bool, data_dict: Mapping[str, Any], prediction: Any, **event: Any
    ) -> None:
        """Write what became of the states back."""
        if train and self._draw is not None:
            states = prediction.output_image
            self.pool.commit(self._draw.indices, states, losses=self.score(states, data_dict))
            self._draw = None

    def state_dict(self) -> dict[str, Any]:
        """State of the pool."""
        return self.pool.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up the state of a pool."""
        self.pool.load_state_dict(state)

    def __repr__(self) -> str:
        return f"PoolUpdate({self.pool!r}, num_seeds={self.num_seeds}, num_damaged={self.num_damaged})"
