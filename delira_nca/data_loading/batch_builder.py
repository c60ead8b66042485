"""Building of batches, in this process or in a worker.

A batch depends only on its task, so workers need no coordination.
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

__all__ = ["BatchBuilder", "BatchSource", "BatchTask", "apply", "name_of"]


class BatchTask(NamedTuple):
    """Numbers that, with the data, determine a batch."""

    seed: int
    epoch: int
    number: int
    indices: Indices

    @property
    def place(self) -> tuple[int, int, Indices]:
        """Epoch, index and samples, for error messages."""
        return self.epoch, self.number, self.indices


class BatchSource(Protocol):
    """Interface of sources of untransformed batches."""

    @property
    def is_deterministic(self) -> bool:
        """Whether `load` does not use global random generators."""

    def load(self, task: BatchTask) -> dict[str, Any]:
        """Return the batch of a task. The global random generators are seeded for it."""

    def settle(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Convert entries to arrays after the transforms."""


class BatchBuilder:
    """Builds the batch of a task: loads the samples, transforms them and checks the arrays.

    Parameters
    ----------
    source : BatchSource
        Source of untransformed batches.
    transforms : callable or None
        See `delira_nca.data_loading.DataManager`; None for no transform.
    """

    def __init__(self, source: BatchSource, transforms: Callable[..., Any] | None) -> None:
        self.source = source
        self.transforms = transforms
        self.may_draw = transforms is not None or not source.is_deterministic

    def __call__(self, task: BatchTask) -> Batch:
        """Build the batch of a task, with contiguous, writable arrays."""
        if not self.may_draw:
            return self._build(task)
        # torch must be loaded before its generator is seeded, not later in a transform
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
    """Transform a batch. Transforms of batchgenerators take the entries as keyword arguments."""
    result = transforms(**batch) if _takes_keywords(transforms) else transforms(batch)
    if not isinstance(result, dict):
        raise ConfigError(
            f"the transform {name_of(transforms)} must return the batch as a dict of arrays, "
            f"not a {type(result).__name__}" + (" (is its 'return' missing?)" if result is None else "")
        )
    return result


def name_of(transforms: Callable[..., Any]) -> str:
    """Return the name of a transform, for messages."""
    return str(getattr(transforms, "__name__", type(transforms).__name__))


def _takes_keywords(transforms: object) -> bool:
    module = sys.modules.get("batchgenerators.transforms.abstract_transforms")  # loaded if a transform exists
    return bool(module is not None and isinstance(transforms, module.AbstractTransform))


def _settle(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Convert to a fixed memory layout and byte order, so that sums over the array are bit-equal in all processes."""
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    if array.flags.c_contiguous and array.flags.writeable:
        return array
    settled: npt.NDArray[Any] = array.copy(order="C")
    return settled
