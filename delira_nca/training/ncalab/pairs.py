"""Batches from a torch loader of (image, label) pairs."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

from delira_nca.errors import ConfigError, ShapeError, require_choice
from delira_nca.seeding import derive_seed, isolated_rng

__all__ = ["LABEL_LAYOUTS", "PairBatches"]

LABEL_LAYOUTS = ("channels_first", "channels_last", "no_channel")
"""Layouts of labels: (B, C, ...) or any shape that the loss accepts; (B, ..., C); or (B, ...) for one channel."""


class PairBatches:
    """Source of batches for a trainer, from a ``DataLoader`` of (x, y) pairs.

    All random numbers that the loader, its sampler and its data set draw from global generators, or from generators of
    the loader, depend only on seed, epoch and batch, so that epochs are reproducible and runs can be resumed.

    Parameters
    ----------
    loader : iterable
        Loader of pairs, or of dicts with ``"data"`` and ``"label"``, which are passed on.
    label_layout : str
        Layout of the labels, see :data:`LABEL_LAYOUTS`. It is never guessed from the number of axes.
    seed : int
        Seed of the random numbers.
    stream : str
        Name of the random stream.
    every_epoch_anew : bool
        Whether each epoch uses new random numbers. Validation uses the same ones in every epoch.

    Raises
    ------
    ConfigError, UnknownNameError
        If the loader is not a reusable iterable, or the layout is unknown.

    Examples
    --------
    >>> pairs = PairBatches([(torch.zeros(2, 1, 4, 4), torch.ones(2, 4, 4))], label_layout="no_channel")
    >>> next(pairs.get_batchgen(epoch=1))["label"].shape
    torch.Size([2, 1, 4, 4])
    """

    def __init__(
        self,
        loader: Iterable[Any],
        *,
        label_layout: str = "channels_first",
        seed: int = 0,
        stream: str = "train",
        every_epoch_anew: bool = True,
    ) -> None:
        require_choice("label_layout", label_layout, LABEL_LAYOUTS)
        if not isinstance(loader, Iterable) or isinstance(loader, Iterator):
            raise ConfigError(f"a loader is gone through once per epoch, but {loader!r} cannot be")
        self.loader, self.label_layout = loader, label_layout
        self.seed, self.stream, self.every_epoch_anew = seed, stream, every_epoch_anew

    def get_batchgen(self, epoch: int) -> Generator[dict[str, Any], None, None]:
        """Batches of an epoch."""
        seed = derive_seed(self.seed, "loader", self.stream, epoch if self.every_epoch_anew else 0)
        with _seeded(self.loader, seed):
            with isolated_rng(derive_seed(seed, "begin")):
                iterator = iter(self.loader)
            try:
                for number in range(2**63):
                    with isolated_rng(derive_seed(seed, "batch", number)):
                        try:
                            pair = next(iterator)
                        except StopIteration:
                            return
                    yield self._batch(pair)
            finally:
                getattr(iterator, "close", lambda: None)()

    def _batch(self, pair: Any) -> dict[str, Any]:
        if isinstance(pair, Mapping):
            if not {"data", "label"} <= pair.keys():
                raise ConfigError(f"a batch is an (x, y) pair or has 'data' and 'label', not {sorted(pair)}")
            batch = dict(pair)
        elif isinstance(pair, (tuple, list)) and len(pair) == 2:
            batch = {"data": pair[0], "label": pair[1]}
        else:
            size = f" of {len(pair)}" if isinstance(pair, (tuple, list)) else ""
            raise ConfigError(f"a batch of the loader is an (x, y) pair, not a {type(pair).__name__}{size}")
        for key, value in batch.items():
            if key in ("data", "label") or hasattr(value, "shape"):
                try:
                    batch[key] = torch.as_tensor(value)
                except (TypeError, ValueError, RuntimeError) as error:
                    raise ConfigError(f"{key!r} of a batch must be numbers: {error}") from error
        batch["label"] = self._laid_out(batch["label"])
        return batch

    def _laid_out(self, label: torch.Tensor) -> torch.Tensor:
        if self.label_layout == "channels_first":
            return label
        if label.dim() < 3:
            raise ShapeError(f"labels of label_layout={self.label_layout!r} are pictures, not {tuple(label.shape)}")
        return label.movedim(-1, 1).contiguous() if self.label_layout == "channels_last" else label.unsqueeze(1)


@contextmanager
def _seeded(loader: Any, seed: int) -> Iterator[None]:
    """Seed the generators of a loader, and restore them afterwards."""
    sampler, batch_sampler = getattr(loader, "sampler", None), getattr(loader, "batch_sampler", None)
    owners = (loader, sampler, batch_sampler, getattr(batch_sampler, "sampler", None))
    given = {id(g): g for owner in owners if isinstance(g := getattr(owner, "generator", None), torch.Generator)}
    with ExitStack() as stack:
        for generator in given.values():
            stack.callback(generator.set_state, generator.get_state())
            generator.manual_seed(derive_seed(seed, generator.initial_seed() % 2**32))
        for owner in owners[1:]:  # without a generator, a sampler draws at a time that depends on the workers
            if owner is not None and getattr(owner, "generator", owner) is None:
                stack.callback(setattr, owner, "generator", None)
                owner.generator = torch.Generator().manual_seed(derive_seed(seed, "sampler"))
        yield
