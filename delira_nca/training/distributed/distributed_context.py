"""Context of a rank in a distributed training."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from delira_nca import errors
from delira_nca.errors import ConfigError, DistributedError
from delira_nca.rollout.job import BatchPart, at_part
from delira_nca.training.batches import Batch, batch_length
from delira_nca.training.distributed.context import AnyTrainer, ProcessContext
from delira_nca.training.distributed.gradients import Gradients
from delira_nca.training.distributed.group import Group
from delira_nca.training.distributed.sharded_pool import ShardedPool
from delira_nca.training.distributed.shards import BatchShard, Shards, shard_of_batch

__all__ = ["DistributedContext"]

T = TypeVar("T")


class DistributedContext(ProcessContext):
    """Context of a rank that computes a part of every batch.

    Parameters
    ----------
    group : Group
        Process group for the communication.
    find_unused_parameters : bool, optional
        See :func:`delira_nca.training.distributed.init`.
    """

    is_alone = False

    def __init__(self, group: Group, find_unused_parameters: bool | None = None) -> None:
        self.group = group
        self.rank, self.size = group.rank, group.size
        self.is_main = group.rank == 0
        self.stream = ("rank", group.rank) if group.rank else ()
        self._find_unused = find_unused_parameters
        self._shards = Shards(group.rank, group.size)
        self._gradients: Gradients | None = None
        self._part: BatchPart | None = None
        self._is_apart = self._has_failed = False

    def device(self, gpu_ids: Sequence[int], device: Any) -> tuple[Sequence[int], Any]:
        """Device of this rank: ``"cuda"``, and ``"auto"`` if available, is the GPU with the local rank as its index.

        Raises
        ------
        ConfigError
            If ``gpu_ids`` selects the same GPU for several ranks of a machine.
        """
        if gpu_ids and self.group.local_size > 1:
            raise ConfigError(
                f"gpu_ids {list(gpu_ids)} names the same GPU for {self.group.local_size} processes: give device='cuda' "
                "instead, which is another one for each"
            )
        name = "cuda" if device == "auto" and torch.cuda.is_available() else device
        if str(name) == "cuda":
            name = f"cuda:{self.group.local_rank}"
        return gpu_ids, name

    @contextlib.contextmanager
    def training(self, trainer: AnyTrainer) -> Iterator[None]:
        """Distribute the pools; an error inside the block ends the training in all ranks."""
        self._has_failed = False
        self.group.life.watch(True)
        try:
            for callback in trainer.callbacks:
                getattr(callback, "divide", lambda ranks: None)(self)
            yield
        except BaseException as error:
            self.failed(error)
            raise
        finally:
            self.group.life.watch(False)
            self._shards.close()
            self._part = None
            if self._gradients is not None:
                self._gradients.remove()
                self._gradients = None

    def sync_start(self, trainer: AnyTrainer, **facts: Any) -> None:
        """Check that the settings of all ranks agree, and broadcast weights and run identifier of rank 0.

        Raises
        ------
        ConfigError
            If settings differ between ranks.
        """
        names = ("seed", "fold", "start_epoch", "batch_index", "step", "val_freq", "save_freq")
        facts |= {name: getattr(trainer, name) for name in names if hasattr(trainer, name)}
        facts["best score"] = trainer.best.state_dict()
        facts["callbacks"] = [type(c).__name__ for c in trainer.callbacks if getattr(c, "runs_everywhere", True)]
        torch_trainer: Any = trainer
        network = getattr(trainer, "network", None)
        tensors = {} if network is None else {name: t.detach() for name, t in network.state_dict().items()}
        facts["weights"] = {name: (tuple(t.shape), str(t.dtype)) for name, t in tensors.items()}
        told = self.group.gather(facts)
        for name in facts:
            if any(str(other[name]) != str(told[0][name]) for other in told):
                shown = "; ".join(f"rank {number}: {str(other[name])[:200]}" for number, other in enumerate(told))
                raise _everywhere(ConfigError(f"{name} is not the same in all processes of this training. {shown}"))
        trainer.run_id = self.group.broadcast(trainer.run_id)
        for tensor in tensors.values():
            self.group.broadcast_tensor(tensor)
        if network is not None:
            self._gradients = Gradients(
                self.group, network, torch_trainer.optimizers, torch_trainer.precision, self._find_unused
            )

    def failed(self, error: BaseException, *, everywhere: bool = False) -> None:
        """Report an error to the other ranks, unless it was raised in all ranks or reported by another one."""
        if everywhere or _is_everywhere(error):
            self._has_failed = True  # already known to all ranks
        elif not self._has_failed:
            self._has_failed = True
            self.group.life.publish(f"rank {self.rank} failed: {type(error).__name__}: {error}")

    @contextlib.contextmanager
    def no_sync(self) -> Iterator[None]:
        """Disable collective communication inside the block, in which whole batches are computed."""
        former, self._is_apart = self._is_apart, True
        try:
            yield
        finally:
            self._is_apart = former

    def on_main(self, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Call a function in the main rank, and broadcast its result.

        Raises
        ------
        Exception
            The exception raised by the function. In the other ranks, a ``DistributedError`` if its class is not one of
            :mod:`delira_nca.errors`.
        """
        result, failure, error = None, None, None
        if self.is_main:
            try:
                result = function(*args, **kwargs)
            except BaseException as caught:
                error, failure = caught, (type(caught).__name__, str(caught))
        result, failure = self.group.broadcast((result, failure))
        if error is not None:
            raise _everywhere(error)
        if failure is not None:
            name, text = failure
            if name in errors.__all__:
                raise _everywhere(getattr(errors, name)(text))
            raise _everywhere(DistributedError(f"rank 0 failed: {name}: {text}"))
        return result  # type: ignore[no-any-return]

    @contextlib.contextmanager
    def holding(self, lock: AbstractContextManager[Any]) -> Iterator[None]:
        """Acquire the lock in the main rank; raise its error in all ranks on failure."""

        def enter() -> None:
            lock.__enter__()

        self.on_main(enter)
        with contextlib.ExitStack() as stack:
            if self.is_main:
                stack.push(lock.__exit__)
            yield

    def first_nonempty(self, value: T) -> T:
        """First nonempty value in the order of ranks."""
        if not self.sums([bool(value)])[0]:
            return value
        return next((one for one in self.group.gather(value) if one), value)

    def sums(self, numbers: Sequence[float]) -> list[float]:
        """Sums over all ranks."""
        total: list[float] = self.group.all_reduce(torch.tensor(list(numbers), dtype=torch.float64)).tolist()
        return total

    def sync_stop(self, trainer: AnyTrainer, *, has_batch: bool = True) -> None:
        """Stop all ranks if one of them stops, after the same batch and with the same reason.

        Raises
        ------
        DistributedError
            If some ranks have a batch and others do not.
        """
        wishes = torch.tensor([trainer.stop_training, trainer.stop_now, has_batch, not has_batch], dtype=torch.int32)
        stop_training, stop_now, has, lacks = self.group.all_reduce(wishes, dist.ReduceOp.MAX).bool().tolist()
        if has and lacks:
            raise DistributedError(
                f"rank {self.rank} has {'a' if has_batch else 'no'} batch in epoch {trainer.start_epoch}, number "
                f"{trainer.batch_index}, and another one has {'none' if has_batch else 'one'}: give every process the "
                "same batches, each takes its part of them"
            )
        if stop_training or stop_now:
            trainer.stop_reason = self.first_nonempty(trainer.stop_reason)
        trainer.stop_training, trainer.stop_now = stop_training, stop_now

    def batches(self, trainer: AnyTrainer, source: Any, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield the parts of this rank, and check before each batch whether a rank stops."""
        with closing(self._shards.of(source, epoch, start)) as shards:
            for shard in shards:
                self.sync_stop(trainer)
                self._part = shard.part
                yield shard
            self.sync_stop(trainer, has_batch=False)

    def part(self, batch: Batch) -> Batch:
        """Part of a whole batch for this rank, which becomes the current part."""
        shard = shard_of_batch(batch, self.rank, self.size)
        self._part = shard.part
        return shard

    def working(self) -> AbstractContextManager[Any]:
        """Context manager in which random numbers depend on the position of the part in the whole batch."""
        return nullcontext() if self._is_apart else at_part(self._part)

    def num_samples(self, batch: Batch) -> int:
        """Number of samples of the whole batch."""
        part = batch.part if isinstance(batch, BatchShard) else self._part
        return batch_length(batch) if part is None else part.total

    def closure_options(self) -> dict[str, Any]:
        """Keyword arguments for the closure that reduce gradients over the whole batch."""
        if self._gradients is None or self._is_apart:
            return {}
        self._gradients.begin(1 / self.size if self._part is None else self._part.share)
        return {"forward": self._gradients.forward} if self._gradients.takes_forward else {}

    def mean(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Means over the whole batch of the values of its parts."""
        if not values or self._is_apart:
            return dict(values)
        share = 1 / self.size if self._part is None else self._part.share
        device = next((v.device for v in values.values() if isinstance(v, Tensor) and v.is_cuda), "cpu")
        numbers = [torch.as_tensor(v, dtype=torch.float64, device=device).detach() for v in values.values()]
        own = torch.stack(numbers) * share if share else torch.zeros(len(numbers), dtype=torch.float64, device=device)
        return dict(zip(values, self.group.all_reduce(own).unbind(), strict=True))

    def join_rows(self, rows: Any) -> Any:
        """Rows of all parts, in the order of ranks, without those of ranks that have no sample."""
        own = torch.as_tensor(rows)
        if self._part is not None and not self._part.size:
            own = own[:0]
        joined = self.group.gather_rows(own)
        return np.asarray(joined) if isinstance(rows, np.ndarray) else joined

    def sharded(self, pool: Any) -> Any:
        """Pool distributed over the ranks."""
        return pool if isinstance(pool, ShardedPool) else ShardedPool(pool, self.group)

    def own_positions(self, num_drawn: int) -> slice:
        """Positions of the part of this rank in the batch."""
        return BatchPart.of(self.rank, self.size, num_drawn).own


def _everywhere(error: BaseException) -> BaseException:
    """Mark an error as raised in all ranks."""
    error.is_everywhere = True  # type: ignore[attr-defined]
    return error


def _is_everywhere(error: BaseException | None) -> bool:
    while error is not None and not hasattr(error, "is_everywhere"):
        error = error.__cause__
    return error is not None
