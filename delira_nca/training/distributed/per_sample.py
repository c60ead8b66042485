"""Transforms that see one sample at a time, so that a batch can be divided among processes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from delira_nca.data_loading.batch_builder import apply, name_of
from delira_nca.errors import ConfigError
from delira_nca.rollout.batch_part import current_part
from delira_nca.seeding import derive_seed, isolated_rng

__all__ = ["PerSample"]


class PerSample:
    """Transform each sample by itself, with random numbers of its own.

    What a transform draws for a whole batch depends on every sample in it, so that each of several processes has to
    build the whole. With this around it, the random numbers of a sample are a function of seed, epoch, batch and the
    sample's place in it: each process builds its part alone, and the batch is the same for any number of them.

    Parameters
    ----------
    transform : as the data manager takes it; it is called with batches of one sample.

    Raises
    ------
    ConfigError
        If the transform cannot be called; and when batches are built, if it gives more or less than one sample.

    Examples
    --------
    >>> noisy = PerSample(lambda batch: {"data": batch["data"] + np.random.rand()})
    >>> noisy({"data": np.zeros((3, 2))})["data"].shape
    (3, 2)
    """

    def __init__(self, transform: Callable[..., Any]) -> None:
        if not callable(transform):
            raise ConfigError(f"a transform is called with a batch, but {transform!r} cannot be called")
        self.transform = transform

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Transform the samples of a batch, or of this process's part of one."""
        seed = int(np.random.randint(2**31))
        part = current_part()
        first, num_samples = 0 if part is None else part.first, len(next(iter(batch.values())))
        done = []
        for number in range(num_samples):
            sample = {key: value[number : number + 1] for key, value in batch.items()}
            with isolated_rng(derive_seed(seed, "sample", first + number)):
                done.append(apply(self.transform, sample))
        if wrong := [key for one in done for key, value in one.items() if len(value) != 1]:
            name = name_of(self.transform)
            raise ConfigError(f"{name} has to give one sample for one, but its {wrong[0]!r} has another length")
        return {key: np.concatenate([one[key] for one in done]) for key in done[0]}

    def __repr__(self) -> str:
        return f"PerSample({name_of(self.transform)})"
