"""Batches, each built whole by the same code, in this process or in a worker.

A batch is a function of its task alone, so workers need not coordinate.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from delira_nca import seeding
from delira_nca.data_loading.dataset import Batch, Indices
from delira_nca.errors import ConfigError

__all__ = ["BatchBuilder", "BatchTask", "Source", "apply", "name_of"]


class BatchTask(NamedTuple):
    """All that decides what is in a batch, apart from the data themselves."""

    seed: int
    epoch: int
    number: int
    indices: Indices

    @property
    def place(self) -> tuple[int, int, Indices]:
        """Epoch, index and samples, for messages."""
        return self.epoch, self.number, self.indices


class Source(Protocol):
    """Where untransformed batches come from."""

    @property
    def is_deterministic(self) -> bool:
        """Whether `load` draws nothing from a global generator."""

    def load(self, task: BatchTask) -> dict[str, Any]:
        """Batch of a task; the global generators are seeded for it."""

    def settle(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Make arrays of what is none, after the transforms."""


class BatchBuilder:
    """Turns a task into a batch: takes the samples, transforms them, checks and settles the arrays.

    Parameters
    ----------
    source : Source
        Where batches are taken from.
    transforms : callable or None
        See `delira_nca.data_loading.DataManager`; ``None`` leaves the samples as they are.
    """

    def __init__(self, source: Source, transforms: Callable[..., Any] | None) -> None:
        self.source = source
        self.transforms = transforms
        self.may_draw = transforms is not None or not source.is_deterministic

    def __call__(self, task: BatchTask) -> Batch:
        """Build the batch of a task: contiguous, writable arrays of its own."""
        if not self.may_draw:
            return self._build(task)
        # Torch's generator is seeded where torch is loaded: what a transform loads later would draw at will.
        import torch  # noqa: F401

        with seeding.isolated_rng(seeding.derive_seed(task.seed, "augment", task.epoch, task.number)):
            return self._build(task)

    def _build(self, task: BatchTask) -> Batch:
        batch = self.source.load(task)
        if self.transforms is not None:
            batch = apply(self.transforms, batch)
        batch = self.source.settle(batch)
        name = "the data loader" if self.transforms is None else f"the transform {name_of(self.transforms)}"
        for key, value in batch.items():
            if not isinstance(key, str) or not isinstance(value, np.ndarray):
                raise ConfigError(
                    f"{name} must return a dict of numpy arrays, but its entry {key!r} "
                    f"is a {type(value).__name__}; the network makes tensors of the arrays later"
                )
        return {key: _settle(array) for key, array in batch.items()}


def apply(transforms: Callable[..., Any], batch: dict[str, Any]) -> dict[str, Any]:
    """Transform a batch; what batchgenerators calls a transform takes the entries as keyword arguments."""
    result = transforms(**batch) if _takes_keywords(transforms) else transforms(batch)
    if not isinstance(result, dict):
        raise ConfigError(
            f"the transform {name_of(transforms)} must return the batch as a dict of arrays, "
            f"not a {type(result).__name__}" + (" (is its 'return' missing?)" if result is None else "")
        )
    return result


def name_of(transforms: Callable[..., Any]) -> str:
    """Name of a transform, for messages."""
    return str(getattr(transforms, "__name__", type(transforms).__name__))


def _takes_keywords(transforms: object) -> bool:
    module = sys.modules.get("batchgenerators.transforms.abstract_transforms")  # loaded where a transform exists
    return bool(module is not None and isinstance(transforms, module.AbstractTransform))


def _settle(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Same layout and order of bytes whoever built it, so that sums over it are the same to the last bit."""
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    if array.flags.c_contiguous and array.flags.writeable:
        return array
    settled: npt.NDArray[Any] = array.copy(order="C")
    return settled
