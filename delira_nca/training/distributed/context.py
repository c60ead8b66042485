"""Context of a process in a training, for a single process. Does not import torch.

The attribute ``ranks`` of a trainer is its context. :class:`ProcessContext` is the context of a single process, and
its methods do not communicate. :class:`~delira_nca.training.distributed.distributed_context.DistributedContext`
overrides them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol, TypeVar

from delira_nca.training.batches import Batch, batch_length, batches_of
from delira_nca.training.scores import BestScore

__all__ = ["ALONE", "AnyTrainer", "ProcessContext", "context_of"]

T = TypeVar("T")


class AnyTrainer(Protocol):
    """Attributes of a trainer that a context uses."""

    best: BestScore
    start_epoch: int
    batch_index: int
    step: int
    run_id: str
    val_freq: int
    stop_training: bool
    stop_now: bool
    stop_reason: str | None
    ranks: ProcessContext

    @property
    def callbacks(self) -> tuple[Any, ...]:
        """The registered callbacks, in order."""


class ProcessContext:
    """Context of a training in a single process.

    Attributes
    ----------
    rank, size : int
        Rank of this process, from 0, and number of processes.
    is_main : bool
        Whether this is the main rank, 0, which writes files.
    is_alone : bool
        Whether this is the only process.
    stream : tuple of int or str
        Suffix of the names of random streams that differ between ranks.

    Examples
    --------
    >>> ALONE.size, ALONE.is_main, ALONE.on_main(max, 2, 3), ALONE.first_nonempty("stop")
    (1, True, 3, 'stop')
    """

    rank, size = 0, 1
    is_main = is_alone = True
    stream: tuple[int | str, ...] = ()

    def device(self, gpu_ids: Sequence[int], device: Any) -> tuple[Sequence[int], Any]:
        """GPU, or device, of this rank, given the arguments of the trainer."""
        return gpu_ids, device

    def training(self, trainer: AnyTrainer) -> AbstractContextManager[Any]:
        """Context manager of a training: an error in one rank ends the training in all ranks."""
        return nullcontext()

    def sync_start(self, trainer: AnyTrainer, **facts: Any) -> None:
        """Check that the settings of all ranks agree, and broadcast the weights."""

    def failed(self, error: BaseException, *, everywhere: bool = False) -> None:
        """Report an error, so that the other ranks do not wait; ``everywhere`` if it was raised in all of them."""

    def no_sync(self) -> AbstractContextManager[Any]:
        """Disable collective communication inside the block."""
        return nullcontext()

    def on_main(self, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Call a function in the main rank only; return its result, or raise its error, in all ranks."""
        return function(*args, **kwargs)

    def holding(self, lock: AbstractContextManager[Any]) -> AbstractContextManager[Any]:
        """Context manager in which the main rank holds a lock for all ranks."""
        return lock

    def first_nonempty(self, value: T) -> T:
        """First nonempty value in the order of ranks."""
        return value

    def sums(self, numbers: Sequence[float]) -> list[float]:
        """Sums over all ranks."""
        return [float(number) for number in numbers]

    def sync_stop(self, trainer: AnyTrainer, *, has_batch: bool = True) -> None:
        """Stop all ranks if one of them stops."""

    def batches(self, trainer: AnyTrainer, source: Any, epoch: int, start: int = 0) -> Iterable[Batch]:
        """Batches, or parts of batches, of this rank, from number ``start`` of an epoch on."""
        return batches_of(source, epoch, start)

    def part(self, batch: Batch) -> Batch:
        """Part of a whole batch for this rank."""
        return batch

    def working(self) -> AbstractContextManager[Any]:
        """Context manager in which the current batch is computed."""
        return nullcontext()

    def num_samples(self, batch: Batch) -> int:
        """Number of samples of the whole batch."""
        return batch_length(batch)

    def closure_options(self) -> dict[str, Any]:
        """Keyword arguments for the closure of the network."""
        return {}

    def mean(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Means over the whole batch of the values of its parts."""
        return dict(values)

    def join_rows(self, rows: Any) -> Any:
        """Rows (n, ...) of all parts, in the order of ranks, as an array or tensor."""
        return rows

    def sharded(self, pool: T) -> T:
        """Pool distributed over the ranks."""
        return pool

    def own_positions(self, num_drawn: int) -> slice:
        """Positions of the samples of this rank in a whole batch of ``num_drawn`` samples."""
        return slice(0, num_drawn)


ALONE = ProcessContext()


def context_of(trainer: object) -> ProcessContext:
    """Context of a trainer; that of a single process if it has none."""
    ranks: ProcessContext = getattr(trainer, "ranks", ALONE)
    return ranks
