"""A pool whose states are given other images while they live, so that an automaton learns to change its mind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from delira_nca.errors import ConfigError, ShapeError
from delira_nca.training.callbacks.abstract_callback import Returned, Trainer
from delira_nca.training.callbacks.pool_update import PoolUpdate, Score, image_error
from delira_nca.training.distributed.context import context_of
from delira_nca.training.pool import SamplePool

__all__ = ["PoolMutation"]

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
    pool : its seed is a state of zeros, its slots hold the entries of the batch that belong to an image, such as
        ``{"label": torch.zeros(capacity, ...)}``.
    num_image_channels : the first channels of a state, which are the image.
    key : entry of the batch that holds images (B, num_image_channels, *spatial), or states that begin with them.
    fresh, mutated : parts of a batch, from 0 to 1.
    alive : from images (B, c, *spatial) to the (B, 1, *spatial) bool mask of their cells; by default those whose first
        channel is above ``alive_above``.
    alive_above : see ``alive``.
    score, explode_above : as of :class:`PoolUpdate`.

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
        if isinstance(num_image_channels, bool) or not 1 <= num_image_channels < channels:
            raise ConfigError(f"num_image_channels is from 1 to {channels - 1}, not {num_image_channels!r}")
        if not pool.slots:
            raise ConfigError("the pool has no slots: labels have to stay with the images, slots={'label': ...}")
        self.num_image_channels, self.fresh, self.mutated = num_image_channels, fresh, mutated
        self.alive, self.alive_above = alive, alive_above
        self._labels_drawn: dict[str, Tensor] = {}

    def at_iter_begin(self, trainer: Trainer, *, train: bool, data_dict: Mapping[str, Any], **event: Any) -> Returned:
        """Put states of the pool, and the batch's images, together."""
        if not train:
            return None
        images = torch.as_tensor(data_dict[self.key])[:, : self.num_image_channels]
        expected = (self.num_image_channels, *self.pool.seed.shape[1:])
        if tuple(images.shape[1:]) != expected:
            raise ShapeError(f"the pool holds images {expected}, the batch's {self.key!r} {tuple(images.shape[1:])}")
        ranks = context_of(trainer)
        total = ranks.num_samples(data_dict)
        self._draw = draw = self.pool.sample(total, num_seeds=0)
        if not len(draw.indices):  # a process for which a small batch has no sample
            self._labels_drawn = draw.slots
            return {"data_dict": {**data_dict, self.key: self._begun(images)}}
        place = torch.arange(total)[ranks.own_positions(total)]
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

    def at_iter_end(
        self, trainer: Trainer, *, train: bool, data_dict: Mapping[str, Any], prediction: Any, **event: Any
    ) -> None:
        """Write states and labels back."""
        if not train or self._draw is None:
            return
        indices, states = self._draw.indices, prediction.output_image
        losses = self.score(states, data_dict)
        states, losses = states[: len(indices)], losses[: len(indices)]
        lost = self._lost(None, states, context_of(trainer))
        self.pool.commit(indices, states, losses=losses, slots=self._labels_drawn, reseed=lost)
        self._draw, self._labels_drawn = None, {}

    def __repr__(self) -> str:
        return f"PoolMutation({self.pool!r}, fresh={self.fresh}, mutated={self.mutated})"
