"""Start and end of a distributed training, and functions for scripts.

The trainer joins the process group itself if ``torchrun`` has started the process. A script or command line that needs
its rank before it creates a trainer calls :func:`init_from_environment`.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.rendezvous import rendezvous

from delira_nca.errors import ConfigError, require_choice
from delira_nca.training.distributed.context import ALONE, ProcessContext
from delira_nca.training.distributed.distributed_context import DistributedContext
from delira_nca.training.distributed.group import EXIT_CODE, Group, Liveness

__all__ = [
    "BACKENDS",
    "WholeBatch",
    "all_reduce_sums",
    "barrier",
    "broadcast",
    "end",
    "gather",
    "init",
    "init_from_environment",
    "is_main",
    "rank",
    "session",
    "world_size",
]

_LOGGER = logging.getLogger("delira_nca")
_NAMES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
_OWNER = "DELIRA_NCA_RANK_OF"
_PATIENCE, _MEETING = timedelta(hours=6), timedelta(minutes=10)
BACKENDS = ("gloo", "nccl", "cpu:gloo,cuda:nccl")

_context: DistributedContext | None = None


def init_from_environment(*, timeout: float = 20.0) -> ProcessContext:
    """Join the process group of this training, if there is one. A command line calls this first.

    Parameters
    ----------
    timeout : float
        See :func:`init`.

    Returns
    -------
    ProcessContext
        That of a single process if ``torchrun`` has not started this process or any other one.

    Examples
    --------
    >>> init_from_environment().size
    1
    """
    is_one = _context is not None or dist.is_initialized() or _is_started_by_torchrun()
    return init(timeout=timeout) if is_one and not _is_child_of_a_rank() else ALONE


def init(
    backend: str | None = None, *, timeout: float = 20.0, find_unused_parameters: bool | None = None
) -> ProcessContext:
    """Join the process group of this training. Further calls have no effect.

    Parameters
    ----------
    backend : str, optional
        Backend of torch: ``"gloo"`` for tensors on the CPU, ``"nccl"`` for tensors on GPUs, or both,
        ``"cpu:gloo,cuda:nccl"``, the default if a GPU is available. An existing process group is used unchanged.
    timeout : float
        Seconds without a heartbeat after which a rank is considered lost.
    find_unused_parameters : bool, optional
        Whether some weights may be unused in some iterations, which is then checked in each. By default, True if some
        are unused in the first iteration.

    Raises
    ------
    ConfigError, UnknownNameError
        Without the environment variables of ``torchrun``, for an unknown backend, or a timeout that is not positive.
    """
    global _context
    if not timeout > 0:
        raise ConfigError(f"timeout is a number of seconds greater than 0, not {timeout!r}")
    if backend is not None:
        require_choice("backend", backend, BACKENDS)
    if _context is not None:
        return _context
    if not dist.is_initialized():
        _require_environment()
        if int(os.environ["WORLD_SIZE"]) == 1:
            return ALONE
        if backend is None:
            has_gpus = torch.cuda.is_available() and dist.is_nccl_available()
            backend = "cpu:gloo,cuda:nccl" if has_gpus else "gloo"
        _make_group("cpu:gloo,cuda:nccl" if backend == "nccl" else backend)
    if (size := dist.get_world_size()) == 1:
        return ALONE
    rank = dist.get_rank()
    connection: Any = dist.distributed_c10d._get_default_store()
    store = dist.distributed_c10d.PrefixStore("delira_nca", connection.clone())
    store.set_timeout(timedelta(seconds=timeout))
    local_rank, local_size = (int(os.environ.get(name, 0)) for name in ("LOCAL_RANK", "LOCAL_WORLD_SIZE"))
    group = Group(rank, size, local_rank, local_size or size, Liveness(store, rank, size, timeout))
    os.environ[_OWNER] = _signature(os.getpid())
    _context = DistributedContext(group, find_unused_parameters)
    if rank:
        _LOGGER.addFilter(_errors_only)
    atexit.register(end)
    return _context


def _make_group(backend: str) -> None:
    """Create the process group from the environment variables.

    If torchrun restarts processes on one machine, the store still contains addresses of the former processes; each
    attempt therefore uses its own prefix.

    ``DistributedDataParallel`` imports torch's compiler. If imported after the group exists, the compiler keeps the
    group alive, and one of its threads may abort the process at exit; so it is imported first.
    """
    importlib.import_module("torch._dynamo")
    store, rank, size = next(iter(rendezvous("env://", timeout=_MEETING)))
    if os.environ.get("LOCAL_WORLD_SIZE") == os.environ["WORLD_SIZE"]:
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        store = dist.distributed_c10d.PrefixStore(f"attempt_{attempt}", store)
    dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=_PATIENCE)


@contextlib.contextmanager
def session(**options: Any) -> Iterator[ProcessContext]:
    """Context manager that calls :func:`init`, if ``torchrun`` has started the process, and :func:`end`."""
    context = init(**options) if _is_started_by_torchrun() else ALONE
    try:
        yield context
    finally:
        end()


def end() -> None:
    """Leave the process group. Called automatically when the program ends.

    After a failure, a collective call may never finish, and torch would wait for it. The process then exits here, after
    its output is flushed.
    """
    global _context
    if _context is None or _is_child_of_a_rank():
        return
    atexit.unregister(end)
    group, _context = _context.group, None
    _LOGGER.removeFilter(_errors_only)
    os.environ.pop(_OWNER, None)
    group.life.leave()
    if group.unfinished is not None and not group.unfinished.is_completed():
        _LOGGER.error("rank %d ends: a call to the other processes will never be answered", group.rank)
        logging.shutdown()
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
        os._exit(EXIT_CODE)
    if dist.is_initialized():
        dist.destroy_process_group()


def rank() -> int:
    """Rank of this process, from 0; 0 for a single process."""
    return init_from_environment().rank


def world_size() -> int:
    """Number of ranks."""
    return init_from_environment().size


def is_main() -> bool:
    """Whether this is the main rank, 0."""
    return init_from_environment().is_main


def all_reduce_sums(values: Mapping[str, float]) -> dict[str, float]:
    """Sums over all ranks, by name. All ranks must pass the same names.

    Examples
    --------
    >>> all_reduce_sums({"hits": 3, "samples": 4})
    {'hits': 3.0, 'samples': 4.0}
    """
    return dict(zip(values, init_from_environment().sums(list(values.values())), strict=True))


def gather(value: Any) -> list[Any]:
    """Gather the values of all ranks, in their order, in all ranks. Values must be picklable.

    Examples
    --------
    >>> gather("here")
    ['here']
    """
    context = init_from_environment()
    return context.group.gather(value) if isinstance(context, DistributedContext) else [value]


def broadcast(value: Any, source: int = 0) -> Any:
    """Broadcast the value of one rank to all ranks."""
    context = init_from_environment()
    return context.group.broadcast(value, source) if isinstance(context, DistributedContext) else value


def barrier() -> None:
    """Wait until all ranks have called this function."""
    init_from_environment().sums([0.0])


def _is_started_by_torchrun() -> bool:
    return all(os.environ.get(name) for name in _NAMES) and os.environ["WORLD_SIZE"] != "1"


def _signature(pid: int) -> str:
    names = ("TORCHELASTIC_RUN_ID", "MASTER_ADDR", "MASTER_PORT", "RANK")
    return ":".join([str(pid), *(os.environ.get(name, "") for name in names)])


def _is_child_of_a_rank() -> bool:
    """Whether this process is a child of a rank, such as a worker or a run of a launcher, with its environment."""
    owner = os.environ.get(_OWNER, "")
    return owner.partition(":")[2] == _signature(0).partition(":")[2] and owner != _signature(os.getpid())


def _require_environment() -> None:
    if missing := [name for name in _NAMES if not os.environ.get(name)]:
        raise ConfigError(
            f"the environment does not say who this process is: {', '.join(missing)} not set. Start it with torchrun "
            "--standalone --nproc_per_node=2 SCRIPT"
        )
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        if not os.environ[name].isdecimal():
            raise ConfigError(f"{name} in the environment is a number, not {os.environ[name]!r}")


def _errors_only(record: logging.LogRecord) -> bool:
    """Logging filter of ranks other than 0, which log only errors."""
    return record.levelno >= logging.ERROR


class WholeBatch:
    """Metric of a whole batch that is distributed over ranks.

    Metrics that are means over samples are averaged over the parts of a batch. Other metrics, such as a ratio of two
    sums, need all samples at once: this wrapper gathers the arguments in every rank, so that the result is that of a
    single process.

    Parameters
    ----------
    metric : callable
        Function of tensors (B, ...). Other arguments, and tensors without axes, are passed unchanged.

    Notes
    -----
    For metrics only: gathered tensors have no gradient.

    Examples
    --------
    >>> import torch
    >>> iou = WholeBatch(lambda pred, label: (pred & label).sum() / (pred | label).sum())
    >>> iou(torch.tensor([True, True]), torch.tensor([True, False])).item()
    0.5
    """

    def __init__(self, metric: Callable[..., Any]) -> None:
        if not callable(metric):
            raise ConfigError(f"a metric is called with tensors, but {metric!r} cannot be called")
        self.metric = metric

    def __call__(self, *args: Any) -> Any:
        """Value of the whole batch, in all ranks."""
        context = init_from_environment()
        return self.metric(*[context.join_rows(arg) if isinstance(arg, Tensor) and arg.dim() else arg for arg in args])
