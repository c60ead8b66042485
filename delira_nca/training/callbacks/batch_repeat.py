"""Batches with each sample several times: one image, several roll-outs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from delira_nca.checks import is_whole
from delira_nca.errors import ConfigError
from delira_nca.training.batches import batch_length
from delira_nca.training.callbacks.abstract_callback import AbstractCallback, Returned, Trainer
from delira_nca.training.callbacks.pool_update import PoolUpdate
from delira_nca.training.distributed.context import context_of

__all__ = ["BatchRepeat"]


class BatchRepeat(AbstractCallback):
    """Let each sample of a training batch be there so many times, one beside the other.

    The copies differ by their fire masks and their noise, so that the gradient is a mean over several roll-outs of the
    same image. It costs as much as a batch that is so many times as large.

    Parameters
    ----------
    n : copies of each sample; 1 leaves the batch as it is.

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
        if not is_whole(n) or n < 1:
            raise ConfigError(f"n is a number of copies of at least 1, not {n!r}")
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
