"""Context of a process in a training: what it knows of the other processes, here where there are none. Free of torch.

A trainer has one such object, ``ranks``. :class:`ProcessContext` is for a single process, and does nothing;
:class:`~delira_nca.training.distributed.distributed_context.DistributedContext` overrides all of it.
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
    """What a context uses of a trainer, with or without torch."""

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
    """Context of the only process of a training.

    Attributes
    ----------
    rank, size : number of this process, from 0, and of all.
    is_main : whether this is the process that writes.
    is_alone : whether there is no other.
    stream : tuple of int or str
        What is added to the names of random streams that differ from process to process.

    Examples
    --------
    >>> ALONE.size, ALONE.is_main, ALONE.on_main(max, 2, 3), ALONE.first_nonempty("stop")
    (1, True, 3, 'stop')
    """

    rank, size = 0, 1
    is_main = is_alone = True
    stream: tuple[int | str, ...] = ()

    # A training, from its begin to its end ------------------------------------------------------------------------

    def device(self, gpu_ids: Sequence[int], device: Any) -> tuple[Sequence[int], Any]:
        """Which GPU, or device, this process computes on, of those that were asked for."""
        return gpu_ids, device

    def training(self, trainer: AnyTrainer) -> AbstractContextManager[Any]:
        """For the time of a training: an error here ends it everywhere."""
        return nullcontext()

    def sync_start(self, trainer: AnyTrainer, **facts: Any) -> None:
        """Compare facts and settings of all processes, and give them the same weights."""

    def failed(self, error: BaseException, *, everywhere: bool = False) -> None:
        """Take note of an error, so that nobody waits for this process; ``everywhere`` where all of them have it."""

    def no_sync(self) -> AbstractContextManager[Any]:
        """Inside the block, this process computes something of its own."""
        return nullcontext()

    # What one does for all ----------------------------------------------------------------------------------------

    def on_main(self, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Call a function in the main process alone; its result, or its error, is everybody's."""
        return function(*args, **kwargs)

    def holding(self, lock: AbstractContextManager[Any]) -> AbstractContextManager[Any]:
        """Hold a lock of which there is one for all."""
        return lock

    def first_nonempty(self, value: T) -> T:
        """First value, in the order of ranks, that is not empty."""
        return value

    def sums(self, numbers: Sequence[float]) -> list[float]:
        """Sums over all processes."""
        return [float(number) for number in numbers]

    def sync_stop(self, trainer: AnyTrainer, *, has_batch: bool = True) -> None:
        """Stop in all processes if one wants to stop."""

    # Parts of a batch ---------------------------------------------------------------------------------------------

    def batches(self, trainer: AnyTrainer, source: Any, epoch: int, start: int = 0) -> Iterable[Batch]:
        """Batches of an epoch from number ``start`` on, as this process works on them."""
        return batches_of(source, epoch, start)

    def part(self, batch: Batch) -> Batch:
        """Part of a whole batch that this process works on."""
        return batch

    def working(self) -> AbstractContextManager[Any]:
        """Inside the block, the batch that was taken is computed."""
        return nullcontext()

    def num_samples(self, batch: Batch) -> int:
        """Samples of the whole batch."""
        return batch_length(batch)

    def closure_options(self) -> dict[str, Any]:
        """Keyword arguments for a network's closure."""
        return {}

    def mean(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Values of the whole batch, of those of its parts."""
        return dict(values)

    def join_rows(self, rows: Any) -> Any:
        """Rows of all parts, in order; (n, ...) array or tensor."""
        return rows

    # The pool -----------------------------------------------------------------------------------------------------

    def sharded(self, pool: T) -> T:
        """Pool of which each process holds a part."""
        return pool

    def own_positions(self, num_drawn: int) -> slice:
        """Places among those drawn for the whole batch that this process works on."""
        return slice(0, num_drawn)


ALONE = ProcessContext()


def context_of(trainer: object) -> ProcessContext:
    """The ranks of a trainer; of one that knows none, of a single process."""
    ranks: ProcessContext = getattr(trainer, "ranks", ALONE)
    return ranks
