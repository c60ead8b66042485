"""Callbacks that change training batches: states from a pool, or repeated samples."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from delira_nca.checks import require_number, require_type, require_whole
from delira_nca.errors import ConfigError, ShapeError, UnknownNameError, require_choice
from delira_nca.losses import per_sample_mse
from delira_nca.models.masks import AliveMask
from delira_nca.seeding import derive_seed
from delira_nca.training.batches import batch_length
from delira_nca.training.callbacks.abstract_callback import AbstractCallback, Returned, Trainer
from delira_nca.training.distributed.context import ProcessContext, context_of
from delira_nca.training.pool import DAMAGES, Damage, Draw, SamplePool

__all__ = ["BatchRepeat", "PoolMutation", "PoolUpdate", "has_died", "has_exploded", "image_error", "no_error"]

_LOGGER = logging.getLogger("delira_nca")
Score = Callable[[Tensor, Mapping[str, Any]], Tensor]


def image_error(states: Tensor, batch: Mapping[str, Any]) -> Tensor:
    """Mean squared error between the first channels of each state and the label, for the ranking of a pool.

    Parameters
    ----------
    states : Tensor
        States (B, C, *spatial).
    batch : mapping
        Batch with a ``"label"`` of shape (B, c, *spatial).

    Returns
    -------
    (B,) tensor
    """
    label = batch["label"]
    return per_sample_mse(states[:, : label.shape[1]], label)


def no_error(states: Tensor, batch: Mapping[str, Any]) -> Tensor:
    """Zero for each state, so that a pool resets random states, not the worst ones.

    Parameters
    ----------
    states : Tensor
        States (B, C, *spatial).
    batch : mapping
        Batch, which is not used.

    Returns
    -------
    (B,) tensor
    """
    return states.new_zeros(len(states))


def has_exploded(states: Tensor, limit: float | None = None) -> Tensor:
    """Find states with a NaN, an infinite value, or an absolute value above a limit.

    Parameters
    ----------
    states : Tensor
        States (B, C, *spatial).
    limit : float, optional
        Maximum absolute value; None allows any finite value.

    Returns
    -------
    (B,) bool tensor

    Examples
    --------
    >>> states = torch.zeros(3, 4, 2, 2)
    >>> states[1, 0, 0, 0], states[2, 3, 1, 1] = -7.0, float("nan")
    >>> has_exploded(states).tolist(), has_exploded(states, 5.0).tolist()
    ([False, False, True], [False, True, True])
    """
    largest = states.detach().flatten(1).abs().amax(1)  # NaN if any value is NaN
    return ~(largest <= (torch.finfo(states.dtype).max if limit is None else limit))


def has_died(states: Tensor, alive: AliveMask | None = None) -> Tensor:
    """Find states without living cells, which no step can revive.

    Parameters
    ----------
    states : Tensor
        States (B, C, *spatial).
    alive : AliveMask, optional
        Alive mask of the automaton. If the mask is applied before the update, a state is dead if its alive channel
        is nowhere above the threshold. Otherwise, and without a mask, it is dead if all channels are zero.

    Returns
    -------
    (B,) bool tensor

    Examples
    --------
    >>> from delira_nca.models import AliveMask
    >>> states = torch.zeros(3, 4, 2, 2)
    >>> states[1, 3], states[2, 0] = 0.5, 0.5
    >>> has_died(states, AliveMask()).tolist(), has_died(states).tolist()
    ([True, False, True], [True, False, False])
    """
    if alive is not None and alive.before:
        return states[:, alive.channel].detach().flatten(1).amax(1) <= alive.threshold
    return (states == 0).flatten(1).all(1)


class PoolUpdate(AbstractCallback):
    """Train on states from a pool instead of on seeds, and write them back.

    Before each training iteration, the entry ``key`` of the batch is replaced by states of the pool, and entries with a
    slot in the pool are replaced by the values of the slot. After the iteration, the states are written back with their
    new losses. States that have died or exploded are not written back: their slots are reset to the seed, and counted.

    Parameters
    ----------
    pool : SamplePool
        Pool to draw states from.
    key : str
        Name of the entry of the batch with the states.
    num_seeds : int
        Number of samples per batch, those with the highest loss, that are reset to the seed.
    num_damaged : int
        Number of samples per batch, those with the lowest loss, that are damaged.
    damage : str or callable
        Shape of the damage: disc, half, rectangle, mixed (any of these), or a function.
    seed_every, damage_every : int
        Reseed, or damage, samples in every n-th iteration, starting with the first one of the run.
    noise : float
        Standard deviation of normal noise that is added to the living cells of drawn states, except seeds. It makes the
        pattern an attractor; see the notes.
    score : callable
        Function ``(states, batch) -> (B,)`` of the losses by which samples are ranked; the image error by default.
    reseed_dead : bool
        Whether states without living cells (:func:`has_died`) are reset to the seed. If the seed itself has none, such
        as that of a texture, no state counts as dead.
    explode_above : float, optional
        Absolute value above which a state is reset to the seed; None for no limit. States that are not finite are
        always reset (:func:`has_exploded`).

    Attributes
    ----------
    num_dead, num_exploded : int
        Number of dead and of exploded states reset to the seed during the run; logged at the end of each epoch.

    Raises
    ------
    ConfigError
        For a limit not greater than 0, an interval below 1, or negative noise; and from the training, if the pool is
        smaller than the batch.

    Notes
    -----
    Mordvintsev et al. (2020) use no pool for growing, 1 024 states and ``num_seeds=1`` for persistent, and also
    ``num_damaged=3`` for regenerating automata. Niklasson et al. (2021), "Self-Organising Textures", use
    ``seed_every=8``.

    A trained pattern may drift so slowly that roll-outs of training do not show it, and be lost after a thousand steps.
    With noise on the initial states, the automaton learns to return to the pattern. ``delira-nca grow`` trains with
    0.03, which also reduced all its errors; see the page on growing a picture.
    """

    def __init__(
        self,
        pool: SamplePool,
        *,
        key: str = "data",
        num_seeds: int = 1,
        num_damaged: int = 0,
        damage: Literal["disc", "half", "rectangle", "mixed"] | Damage = "disc",
        score: Score = image_error,
        reseed_dead: bool = True,
        explode_above: float | None = None,
        noise: float = 0.0,
        seed_every: int = 1,
        damage_every: int = 1,
    ) -> None:
        require_type("pool", pool, SamplePool)
        if isinstance(damage, str):
            require_choice("damage", damage, DAMAGES)
        if explode_above is not None and not explode_above > 0:
            raise ConfigError(f"explode_above must be a number above 0, not {explode_above!r}")
        require_number("noise", noise, 0)
        for name, every in (("seed_every", seed_every), ("damage_every", damage_every)):
            require_whole(name, every, 1)
        self.seed_every, self.damage_every = seed_every, damage_every
        self.pool, self.key, self.score, self.damage = pool, key, score, damage
        self.num_seeds, self.num_damaged = num_seeds, num_damaged
        self.reseed_dead, self.explode_above, self.noise = reseed_dead, explode_above, float(noise)
        self._counts = torch.zeros(2, dtype=torch.long)  # moved to the device of the states: no iteration waits
        self._told = (0, 0)
        self._draw: Draw | None = None
        self._labels_drawn: dict[str, Tensor] = {}
        self._seed_is_dead: bool | None = None

    @property
    def num_dead(self) -> int:
        """Number of dead states that were replaced by the seed since the run began."""
        return int(self._counts[0])

    @property
    def num_exploded(self) -> int:
        """Number of exploded states that were replaced by the seed since the run began."""
        return int(self._counts[1])

    def divide(self, context: ProcessContext) -> None:
        """Distribute the pool over the ranks."""
        self.pool = context.sharded(self.pool)

    def at_training_begin(self, trainer: Trainer, **event: Any) -> None:
        """Move the pool to the device, and warn if it was used before this run."""
        if self.pool.num_draws and not getattr(trainer, "global_iter_num", 0):
            _LOGGER.warning(
                "the pool was drawn from %d times before this run, which begins with its states", self.pool.num_draws
            )
        self._seed_is_dead = None
        if context_of(trainer).is_alone:
            self.pool.to(getattr(trainer, "device", "cpu"))

    def at_iter_begin(
        self, trainer: Trainer, *, train: bool, data_dict: Mapping[str, Any], global_iter_num: int = 0, **event: Any
    ) -> Returned:
        """Replace states of the batch by those of the pool."""
        if not train:
            return None
        context, seeds = context_of(trainer), data_dict[self.key]
        expected, given = tuple(self.pool.seed.shape), tuple(seeds.shape[1:])
        if given != expected:
            raise ShapeError(f"the pool holds states {expected}, the batch's {self.key!r} {given}")
        num_seeds = self.num_seeds if global_iter_num % self.seed_every == 0 else 0
        num_damaged = self.num_damaged if global_iter_num % self.damage_every == 0 else 0
        self._draw = self.pool.sample(
            context.num_samples(data_dict), num_seeds=num_seeds, num_damaged=num_damaged, damage=self.damage
        )
        if not len(self._draw.indices):  # a small batch may have no sample for this rank
            return {"data_dict": {**data_dict, self.key: self.pool.seed[None]}}
        self._batch_to_score(trainer, {**data_dict, **self._draw.slots})
        states = self._draw.states
        if self.noise:
            alive = getattr(trainer.network, "alive", None)
            states = self._with_noise(states, alive, context, context.num_samples(data_dict), num_seeds)
        return {"data_dict": {**data_dict, **self._draw.slots, self.key: states}}

    def _with_noise(self, states: Tensor, alive: Any, context: ProcessContext, total: int, num_seeds: int) -> Tensor:
        """Add noise to the living cells of the states, except the seeds, which are first in the whole batch."""
        source = torch.Generator().manual_seed(derive_seed(self.pool.rng_seed, "noise", self.pool.num_draws))
        noise = torch.randn((total, *states.shape[1:]), generator=source) * self.noise
        noise[:num_seeds] = 0.0
        noise = noise[context.own_positions(total)].to(states)
        return states + (torch.where(alive(states), noise, 0.0) if isinstance(alive, AliveMask) else noise)

    def at_iter_end(
        self, trainer: Trainer, *, train: bool, data_dict: Mapping[str, Any], prediction: Any, **event: Any
    ) -> None:
        """Write the final states back to the pool."""
        if train and self._draw is not None:
            indices, states = self._draw.indices, prediction.output_image
            losses = self.score(states, self._batch_to_score(trainer, data_dict))
            states, losses = states[: len(indices)], losses[: len(indices)]
            alive = getattr(trainer.network, "alive", None)
            lost = self._lost(alive if isinstance(alive, AliveMask) else None, states, context_of(trainer))
            self.pool.commit(indices, states, losses=losses, slots=self._labels_drawn, reseed=lost)
            self._draw, self._labels_drawn = None, {}

    def _batch_to_score(self, trainer: Trainer, batch: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the batch for the score; for `image_error`, the target of a criterion becomes ``"label"``."""
        if self.score is not image_error or "label" in batch:
            return batch
        keys = [key for keys in getattr(trainer, "metric_keys", {}).values() for key in keys]
        target = next((key for key in keys if key in batch and key != self.key), None)
        if target is None:
            raise UnknownNameError(
                f"{type(self).__name__} ranks states by their difference to 'label', but the batch has only "
                f"{sorted(batch)}: give score a function, or wire a criterion to its target by metric_keys"
            )
        return {**batch, "label": batch[target]}

    def _lost(self, alive: AliveMask | None, states: Tensor, context: ProcessContext) -> Tensor:
        """Find states that are dead or have exploded, as a (B,) bool tensor, and count them."""
        if self._seed_is_dead is None:
            self._seed_is_dead = bool(has_died(self.pool.seed[None], alive))
        exploded = has_exploded(states, self.explode_above)
        dead = torch.zeros_like(exploded)
        if self.reseed_dead and not self._seed_is_dead:
            dead = has_died(states, alive) & ~exploded
        found = torch.stack([dead.sum(), exploded.sum()])
        if not context.is_alone:
            found = torch.tensor(context.sums(found.tolist())).long()
        self._counts = self._counts.to(found.device) + found
        return dead | exploded

    def at_epoch_end(self, trainer: Trainer, *, curr_epoch: int, **event: Any) -> None:
        """Log how many states were reset to the seed."""
        counts = (self.num_dead, self.num_exploded)
        dead, exploded = counts[0] - self._told[0], counts[1] - self._told[1]
        if dead or exploded:
            _LOGGER.info(
                "in epoch %d, %d dead and %d exploded states of the pool began anew", curr_epoch, dead, exploded
            )
        self._told = counts

    def state_dict(self) -> dict[str, Any]:
        """State of the pool, and the numbers of dead and exploded states."""
        return {**self.pool.state_dict(), "num_dead": self.num_dead, "num_exploded": self.num_exploded}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load the state of a pool; missing counts start at 0."""
        self.pool.load_state_dict(state)
        self._told = (state.get("num_dead", 0), state.get("num_exploded", 0))
        self._counts = torch.tensor(self._told)

    def __repr__(self) -> str:
        return f"PoolUpdate({self.pool!r}, num_seeds={self.num_seeds}, num_damaged={self.num_damaged})"


Alive = Callable[[Tensor], Tensor]


class PoolMutation(PoolUpdate):
    """Train on a pool in which each state has its own image, and replace some states or images in every batch.

    The batch provides images and labels. The first channels of the states in the pool are the image, and the slots hold
    the labels. Of each drawn batch, the states with the highest losses are reset to the images of the batch. Those with
    the lowest losses also get images of the batch, but keep their other channels in cells that are alive in both the
    old and the new image; these channels are zero elsewhere. The others keep their images and labels. States that have
    never been trained are always reset.

    Parameters
    ----------
    pool : SamplePool
        Pool with a seed of zeros, and slots for the entries of the batch that belong to an image, such as
        ``{"label": torch.zeros(capacity, ...)}``.
    num_image_channels : int
        Number of image channels, which are the first channels of a state.
    key : str
        Name of the entry of the batch with images (B, num_image_channels, *spatial), or states that start with them.
    fresh, mutated : float
        Fractions of a batch, from 0 to 1, that are reset, and that get a new image.
    alive : callable, optional
        Function from images (B, c, *spatial) to a bool mask (B, 1, *spatial) of their living cells; by default, cells
        with a first channel above ``alive_above``.
    alive_above : float
        Threshold of the first channel, see ``alive``.
    score, explode_above : callable and float, optional
        Same as for :class:`PoolUpdate`.

    Raises
    ------
    ConfigError
        For fractions out of range or with a sum above 1, or a pool without slots.
    ShapeError
        From the training, for images or labels that do not fit the pool.

    Notes
    -----
    Randazzo et al. (2020), "Self-classifying MNIST Digits": a pool of 160, a quarter of each batch fresh, a quarter
    with a new digit.

    Examples
    --------
    >>> pool = SamplePool(torch.zeros(20, 28, 28), 160, slots={"label": torch.zeros(160, 10, 28, 28)})
    >>> PoolMutation(pool, num_image_channels=1)
    PoolMutation(SamplePool(capacity=160, state=(20, 28, 28), slots=['label'], draws=0), fresh=0.25, mutated=0.25)
    """

    def __init__(
        self,
        pool: SamplePool,
        *,
        num_image_channels: int,
        key: str = "data",
        fresh: float = 0.25,
        mutated: float = 0.25,
        alive: Alive | None = None,
        alive_above: float = 0.1,
        score: Score = image_error,
        explode_above: float | None = None,
    ) -> None:
        super().__init__(
            pool, key=key, num_seeds=0, num_damaged=0, score=score, reseed_dead=False, explode_above=explode_above
        )
        if not (0 <= fresh <= 1 and 0 <= mutated <= 1 and fresh + mutated <= 1):
            raise ConfigError(f"fresh and mutated are parts of a batch, together at most 1, not {fresh!r}, {mutated!r}")
        channels = len(pool.seed)
        require_whole("num_image_channels", num_image_channels, 1, channels - 1)
        if not pool.slots:
            raise ConfigError("the pool has no slots: labels have to stay with the images, slots={'label': ...}")
        self.num_image_channels, self.fresh, self.mutated = num_image_channels, fresh, mutated
        self.alive, self.alive_above = alive, alive_above

    def at_iter_begin(self, trainer: Trainer, *, train: bool, data_dict: Mapping[str, Any], **event: Any) -> Returned:
        """Combine states of the pool with images of the batch."""
        if not train:
            return None
        images = torch.as_tensor(data_dict[self.key])[:, : self.num_image_channels]
        expected = (self.num_image_channels, *self.pool.seed.shape[1:])
        if tuple(images.shape[1:]) != expected:
            raise ShapeError(f"the pool holds images {expected}, the batch's {self.key!r} {tuple(images.shape[1:])}")
        context = context_of(trainer)
        total = context.num_samples(data_dict)
        self._draw = draw = self.pool.sample(total, num_seeds=0)
        if not len(draw.indices):  # a small batch may have no sample for this rank
            self._labels_drawn = draw.slots
            return {"data_dict": {**data_dict, self.key: self._begun(images)}}
        place = torch.arange(total)[context.own_positions(total)]
        is_fresh = (place < round(self.fresh * total)) | ~draw.losses.isfinite().cpu()
        is_mutated = (place >= total - round(self.mutated * total)) & ~is_fresh
        images = images.to(draw.states)
        states, is_new = draw.states.clone(), is_fresh | is_mutated
        states[is_fresh] = self._begun(images[is_fresh])
        states[is_mutated] = self._mutated(states[is_mutated], images[is_mutated])
        labels = {name: self._labels(name, data_dict, draw.slots[name], is_new) for name in draw.slots}
        self._labels_drawn = labels
        self._batch_to_score(trainer, {**data_dict, **labels})
        return {"data_dict": {**data_dict, **labels, self.key: states}}

    def _begun(self, images: Tensor) -> Tensor:
        states = self.pool.seed.repeat(len(images), *(1,) * self.pool.seed.dim()).to(images.device)
        states[:, : self.num_image_channels] = images
        return states

    def _cells(self, images: Tensor) -> Tensor:
        return images[:, :1] > self.alive_above if self.alive is None else self.alive(images)

    def _mutated(self, states: Tensor, images: Tensor) -> Tensor:
        kept = self._cells(states[:, : self.num_image_channels]) & self._cells(images)
        return torch.cat([images, states[:, self.num_image_channels :].where(kept, 0)], 1)

    def _labels(self, name: str, batch: Mapping[str, Any], old: Tensor, is_new: Tensor) -> Tensor:
        if name not in batch:
            raise ConfigError(f"the pool has a slot {name!r}, the batch only {sorted(batch)}")
        new = torch.as_tensor(batch[name]).to(old)
        if new.shape != old.shape:
            raise ShapeError(f"{name!r} of the batch is {tuple(new.shape)}, in the pool {tuple(old.shape)}")
        labels = old.clone()
        labels[is_new] = new[is_new]
        return labels

    def __repr__(self) -> str:
        return f"PoolMutation({self.pool!r}, fresh={self.fresh}, mutated={self.mutated})"


class BatchRepeat(AbstractCallback):
    """Repeat each sample of a training batch ``n`` times, with copies next to each other.

    The copies differ in fire masks and noise, so that the gradient is a mean over several roll-outs of the same image.
    The cost is that of a batch ``n`` times as large.

    Parameters
    ----------
    n : int
        Number of copies of each sample; 1 does not change the batch.

    Raises
    ------
    ConfigError
        For a number below 1; and from the training, if a pool is registered before this callback (repeated states could
        not be written back), or a pool is used in a distributed training.

    Examples
    --------
    >>> batch = {"data": np.arange(2), "name": ["a", "b"]}
    >>> repeat = BatchRepeat(2)
    >>> repeat.at_iter_begin(None, train=True, data_dict=batch)["data_dict"]
    {'data': array([0, 0, 1, 1]), 'name': ['a', 'a', 'b', 'b']}
    """

    def __init__(self, n: int = 2) -> None:
        require_whole("n", n, 1)
        self.n = n

    def at_training_begin(self, trainer: Trainer, **event: Any) -> None:
        """Raise an error if states of a pool would be repeated."""
        order = [c for c in trainer.callbacks if c is self or isinstance(c, PoolUpdate)]
        pools = len(order) > 1
        if order[0] is not self:
            raise ConfigError("BatchRepeat is registered before the pool: else the pool's states would be repeated")
        if pools and not context_of(trainer).is_alone:
            raise ConfigError("BatchRepeat and a pool do not go together over several processes: use larger batches")

    def at_iter_begin(self, trainer: Trainer, *, train: bool, data_dict: Mapping[str, Any], **event: Any) -> Returned:
        """Repeat every entry that has one value per sample."""
        if not train or self.n == 1:
            return None
        size = batch_length(data_dict)
        return {"data_dict": {key: self._repeated(value, size) for key, value in data_dict.items()}}

    def _repeated(self, value: Any, size: int) -> Any:
        if isinstance(value, Tensor) and value.dim() and len(value) == size:
            return value.repeat_interleave(self.n, 0)
        if isinstance(value, np.ndarray) and value.ndim and len(value) == size:
            return value.repeat(self.n, 0)
        if isinstance(value, (list, tuple)) and len(value) == size:
            return type(value)(part for part in value for _ in range(self.n))
        return value
