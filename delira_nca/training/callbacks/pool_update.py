"""What goes into the batches of a training: states of a pool, or each sample several times."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from delira_nca.checks import require_number, require_type, require_whole
from delira_nca.errors import ConfigError, ShapeError, require_choice
from delira_nca.losses import per_sample_mse
from delira_nca.models.masks import AliveMask
from delira_nca.seeding import derive_seed
from delira_nca.training.batches import batch_length
from delira_nca.training.callbacks.abstract_callback import AbstractCallback, Returned, Trainer
from delira_nca.training.distributed.context import ProcessContext, context_of
from delira_nca.training.pool import DAMAGES, Damage, Draw, SamplePool

__all__ = ["BatchRepeat", "PoolMutation", "PoolUpdate", "has_died", "has_exploded", "image_error"]

_LOGGER = logging.getLogger("delira_nca")
Score = Callable[[Tensor, Mapping[str, Any]], Tensor]


def image_error(states: Tensor, batch: Mapping[str, Any]) -> Tensor:
    """Mean squared error between the first channels of each state and the label, for the ranking of a pool.

    Parameters
    ----------
    states : Tensor
        (B, C, *spatial).
    batch : mapping
        With a ``"label"`` of (B, c, *spatial).

    Returns
    -------
    (B,) tensor
    """
    label = batch["label"]
    return per_sample_mse(states[:, : label.shape[1]], label)


def has_exploded(states: Tensor, limit: float | None = None) -> Tensor:
    """Which states hold a NaN, an infinite value, or one that is larger than a limit.

    Parameters
    ----------
    states : Tensor
        (B, C, *spatial).
    limit : float, optional
        Of the absolute value; None for any finite one.

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
    largest = states.detach().flatten(1).abs().amax(1)  # NaN if there is one
    return ~(largest <= (torch.finfo(states.dtype).max if limit is None else limit))


def has_died(states: Tensor, alive: AliveMask | None = None) -> Tensor:
    """Which states have no living cell left, and never will.

    Parameters
    ----------
    states : Tensor
        (B, C, *spatial).
    alive : AliveMask, optional
        The automaton's alive mask. Where it asks before the update, a state is dead if its alive channel is
        nowhere above the threshold; else, and without a mask, if it is zero in all channels.

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

    Before each iteration of training the batch's ``key`` is replaced by states of the pool, and every entry that the
    pool has a slot for by that slot. After it the states go back to their places, with their new losses. A state from
    which nothing can be learned any more does not go back: its place begins anew from the seed, and is counted.

    Parameters
    ----------
    pool : SamplePool
        The pool.
    key : str
        Entry of the batch that holds the states.
    num_seeds : int
        So many of each batch, the worst, begin anew from the seed.
    num_damaged : int
        So many of each batch, the best, get a hole.
    damage : str or callable
        Shape of the holes: disc, half, rectangle, mixed (any of these), or a function.
    seed_every, damage_every : int
        So many iterations lie between two that begin states anew, or damage some; the first one
        of a run does both.
    noise : float
        Standard deviation of normal noise that is added to the living cells of the states that were drawn, but not
        to seeds. It makes the pattern an attractor; see the notes.
    score : Score
        ``(states, batch) -> (B,)`` losses by which samples are ranked; the image error by default.
    reseed_dead : bool
        Whether a state without a living cell (:func:`has_died`) begins anew. Where the seed itself has none,
        as that of a texture, nothing counts as dead.
    explode_above : float, optional
        A state with a larger absolute value begins anew; None for no limit. One that is not finite always
        does (:func:`has_exploded`).

    Attributes
    ----------
    num_dead, num_exploded : int
        So many states have begun anew since the run began; they are logged at an epoch's end.

    Raises
    ------
    ConfigError
        For a limit that is not greater than 0, an interval below 1, or noise below 0; and from the training, if the
        pool is smaller than the batch.

    Notes
    -----
    Mordvintsev et al. (2020): growing has no pool; persistent has 1 024 states and ``num_seeds=1``; regenerating has
    ``num_damaged=3`` besides. Niklasson et al. (2021), "Self-Organising Textures": ``seed_every=8``.

    A trained pattern may drift so slowly that no roll-out shows it, and be lost after a thousand steps. With noise on
    the states that it starts from, the automaton learns to come back instead. ``delira-nca grow`` trains with 0.03,
    which also made all its errors smaller, see the page on growing a picture.
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
        self._counts = torch.zeros(2, dtype=torch.long)  # where the states are, so that no iteration waits for them
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
        """Let each process hold a part of the pool."""
        self.pool = context.sharded(self.pool)

    def at_training_begin(self, trainer: Trainer, **event: Any) -> None:
        """Bring the pool to the device; warn of one that another callback has drawn from before this run."""
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
        """Put states of the pool into the batch."""
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
        if not len(self._draw.indices):  # a process for which a small batch has no sample
            return {"data_dict": {**data_dict, self.key: self.pool.seed[None]}}
        states = self._draw.states
        if self.noise:
            alive = getattr(trainer.network, "alive", None)
            states = self._with_noise(states, alive, context, context.num_samples(data_dict), num_seeds)
        return {"data_dict": {**data_dict, **self._draw.slots, self.key: states}}

    def _with_noise(self, states: Tensor, alive: Any, context: ProcessContext, total: int, num_seeds: int) -> Tensor:
        """States with noise on their living cells, apart from the first ones of the whole batch, which are seeds."""
        source = torch.Generator().manual_seed(derive_seed(self.pool.rng_seed, "noise", self.pool.num_draws))
        noise = torch.randn((total, *states.shape[1:]), generator=source) * self.noise
        noise[:num_seeds] = 0.0
        noise = noise[context.own_positions(total)].to(states)
        return states + (torch.where(alive(states), noise, 0.0) if isinstance(alive, AliveMask) else noise)

    def at_iter_end(
        self, trainer: Trainer, *, train: bool, data_dict: Mapping[str, Any], prediction: Any, **event: Any
    ) -> None:
        """Write what became of the states back."""
        if train and self._draw is not None:
            indices, states = self._draw.indices, prediction.output_image
            losses = self.score(states, data_dict)
            states, losses = states[: len(indices)], losses[: len(indices)]
            alive = getattr(trainer.network, "alive", None)
            lost = self._lost(alive if isinstance(alive, AliveMask) else None, states, context_of(trainer))
            self.pool.commit(indices, states, losses=losses, slots=self._labels_drawn, reseed=lost)
            self._draw, self._labels_drawn = None, {}

    def _lost(self, alive: AliveMask | None, states: Tensor, context: ProcessContext) -> Tensor:
        """(B,) bool: states that are dead or have exploded, which are counted."""
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
        """Tell how many states began anew."""
        counts = (self.num_dead, self.num_exploded)
        dead, exploded = counts[0] - self._told[0], counts[1] - self._told[1]
        if dead or exploded:
            _LOGGER.info(
                "in epoch %d, %d dead and %d exploded states of the pool began anew", curr_epoch, dead, exploded
            )
        self._told = counts

    def state_dict(self) -> dict[str, Any]:
        """State of the pool, and how many states began anew."""
        return {**self.pool.state_dict(), "num_dead": self.num_dead, "num_exploded": self.num_exploded}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up the state of a pool; one that was saved without counts begins to count."""
        self.pool.load_state_dict(state)
        self._told = (state.get("num_dead", 0), state.get("num_exploded", 0))
        self._counts = torch.tensor(self._told)

    def __repr__(self) -> str:
        return f"PoolUpdate({self.pool!r}, num_seeds={self.num_seeds}, num_damaged={self.num_damaged})"


Alive = Callable[[Tensor], Tensor]


class PoolMutation(PoolUpdate):
    """Train on a pool of states that each have an image of their own, some fresh, some with a new image.

    The batch brings images and labels; the pool's states begin with the image channels, and its slots hold the labels.
    Of each batch that is drawn, worst first, a part begins anew with the batch's images; another part, the best,
    gets the batch's images too, but keeps its other channels in cells that both the old image and the new one call
    alive, and has zeros there elsewhere. The rest goes on with its own images and labels. A state that never trained
    begins anew wherever it stands.

    Parameters
    ----------
    pool : SamplePool
        Its seed is a state of zeros, its slots hold the entries of the batch that belong to an image, such as
        ``{"label": torch.zeros(capacity, ...)}``.
    num_image_channels : int
        The first channels of a state, which are the image.
    key : str
        Entry of the batch that holds images (B, num_image_channels, *spatial), or states that begin with them.
    fresh, mutated : float
        Parts of a batch, from 0 to 1.
    alive : Alive, optional
        From images (B, c, *spatial) to the (B, 1, *spatial) bool mask of their cells; by default those whose first
        channel is above ``alive_above``.
    alive_above : float
        See ``alive``.
    score, explode_above : Score and float, optional
        As of :class:`PoolUpdate`.

    Raises
    ------
    ConfigError
        For parts that are not from 0 to 1 or together more than a batch, or a pool without slots.
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
        """Put states of the pool, and the batch's images, together."""
        if not train:
            return None
        images = torch.as_tensor(data_dict[self.key])[:, : self.num_image_channels]
        expected = (self.num_image_channels, *self.pool.seed.shape[1:])
        if tuple(images.shape[1:]) != expected:
            raise ShapeError(f"the pool holds images {expected}, the batch's {self.key!r} {tuple(images.shape[1:])}")
        context = context_of(trainer)
        total = context.num_samples(data_dict)
        self._draw = draw = self.pool.sample(total, num_seeds=0)
        if not len(draw.indices):  # a process for which a small batch has no sample
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
    """Let each sample of a training batch be there so many times, one beside the other.

    The copies differ by their fire masks and their noise, so that the gradient is a mean over several roll-outs of the
    same image. It costs as much as a batch that is so many times as large.

    Parameters
    ----------
    n : int
        Copies of each sample; 1 leaves the batch as it is.

    Raises
    ------
    ConfigError
        For a number below 1; and from the training, if a pool is registered before it (its states would be repeated
        and could not go back), or a pool is filled by several processes.

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
        """Refuse an order of callbacks in which states of a pool would be repeated."""
        order = [c for c in trainer.callbacks if c is self or isinstance(c, PoolUpdate)]
        pools = len(order) > 1
        if order[0] is not self:
            raise ConfigError("BatchRepeat is registered before the pool: else the pool's states would be repeated")
        if pools and not context_of(trainer).is_alone:
            raise ConfigError("BatchRepeat and a pool do not go together over several processes: use larger batches")

    def at_iter_begin(self, trainer: Trainer, *, train: bool, data_dict: Mapping[str, Any], **event: Any) -> Returned:
        """Repeat every entry that has one value for each sample."""
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
