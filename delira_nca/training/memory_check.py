"""Whether a training can fit into memory, asked before its first step."""

from __future__ import annotations

import contextlib
import ctypes
import gc
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from delira_nca.errors import ConfigError, MemoryBudgetError
from delira_nca.machine import available_memory
from delira_nca.models.basic_nca import BasicNCAModel
from delira_nca.models.precision import Precision
from delira_nca.rollout import native_library
from delira_nca.rollout.backends import BACKENDS, choose
from delira_nca.rollout.cost import RolloutCost, format_bytes
from delira_nca.rollout.job import Job

__all__ = ["MemoryCheck"]

_ROUTINE = ("closure", "forward_batch", "forward", "prepare_input", "_state_of", "plain", "cost")


class MemoryCheck:
    """Refuses batches that cannot fit, once for each shape and number of steps.

    What is compared with the memory that is there is the least that the roll-out can do with, whatever the states
    hold: a training that might fit is never refused. Networks with a training step of their own are let through, and
    so is everything where the memory that is left cannot be read.
    """

    def __init__(self) -> None:
        self._passed: tuple[Any, ...] | None = None

    def __call__(self, network: Any, batch: Mapping[str, Any], precision: Precision) -> None:
        """Check a prepared batch.

        Raises
        ------
        MemoryBudgetError
            With what is needed, what is there, and what would fit.
        """
        data = batch.get("data")
        key = (getattr(data, "shape", None), getattr(network, "training_timesteps", None))
        if key == self._passed:
            return
        if isinstance(data, Tensor) and data.dim() > 2 and _counts_its_own_training(network):
            _check(network, data, precision)
        self._passed = key


def _counts_its_own_training(network: Any) -> bool:
    """Whether a training step is one roll-out of the whole batch, whose cost the network knows."""
    return (
        isinstance(network, BasicNCAModel)
        and not network._forward_pre_hooks
        and all(getattr(type(network), n) is getattr(BasicNCAModel, n) and n not in vars(network) for n in _ROUTINE)
    )


def _check(network: BasicNCAModel, data: Tensor, precision: Precision) -> None:
    timesteps = network.training_timesteps
    steps = timesteps[1] - 1 if isinstance(timesteps, (tuple, list)) else int(timesteps)
    size, shape = len(data), tuple(data.shape[2:])
    state = torch.empty((), dtype=data.dtype, device=data.device).expand(size, network.num_channels, *shape)
    job = Job(state, network, steps, (steps,), memory_budget=network.memory_budget)
    with torch.enable_grad(), precision.autocast():
        try:
            backend = choose(job).name
            cost = network.cost(shape, steps, batch_size=size)
        except ConfigError:  # the roll-out will say so, or it has a part whose cost cannot be counted
            return
        if backend not in cost.memory or (backend == "reference" and precision.mixed):
            return
        least, left = cost.memory[backend].training_least, _left(data.device)
        if left is not None and least > left:
            _give_back(data.device)
            left = _left(data.device)
        if left is None or least <= left:
            return
        ways = list(_ways_out(network, job, cost, backend, left))
    raise MemoryBudgetError(
        f"training on {steps} steps of a batch of {size} x {shape} needs at least {format_bytes(least)} on back end "
        f"{backend!r}, and {format_bytes(left)} are available on {data.device}. "
        f"What would fit: {', or '.join(ways) or 'a smaller grid'}"
    )


def _ways_out(network: BasicNCAModel, job: Job, cost: RolloutCost, backend: str, left: int) -> Iterator[str]:
    """Changes of one thing each with which the training fits."""

    def fits(size: int = cost.batch_size, steps: int = cost.steps, budget: int = cost.memory_budget) -> bool:
        changed = network.cost(cost.shape, steps, batch_size=size, memory_budget=budget)
        return budget >= changed.least_memory_budget and changed.memory[backend].training_least <= left

    if size := _largest(lambda n: fits(size=n), cost.batch_size):
        yield f"a batch of {size}"
    if steps := _largest(lambda n: fits(steps=n), cost.steps):
        yield f"{steps} steps"
    budget = cost.memory_budget // 2
    while budget > cost.least_memory_budget and not fits(budget=budget):
        budget //= 2
    if budget > cost.least_memory_budget:
        yield f"a memory_budget of {budget} bytes"
    for name, other in BACKENDS.items():
        lighter = name != backend and name in cost.memory and cost.memory[name].training_least <= left
        if lighter and other.unavailable() is None and other.refusal(job) is None:
            yield f"set_backend({name!r})"


def _left(device: torch.device) -> int | None:
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return available_memory(swap=True) if device.type == "cpu" else None


def _give_back(device: torch.device) -> None:
    """Return to the system what is held for reuse only, so that it counts as available."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        return
    if native_library.why_not() is None:
        native_library.load().pool_bytes(trim=True)
    with contextlib.suppress(OSError, AttributeError, TypeError):  # where the C library is not glibc
        ctypes.CDLL(None).malloc_trim(0)


def _largest(fits: Callable[[int], bool], limit: int) -> int:
    """Largest number below the limit that fits, 0 if none does; what fits, fits with less as well."""
    low, high = 0, limit
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low
