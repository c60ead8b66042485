"""Check whether a training fits into memory, before its first step."""

from __future__ import annotations

import contextlib
import ctypes
import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from delira_nca.errors import ConfigError, MemoryBudgetError
from delira_nca.machine import available_memory
from delira_nca.models.basic_nca import BasicNCAModel
from delira_nca.models.model import Model
from delira_nca.models.precision import Precision
from delira_nca.models.pyramid import PyramidNCA, pyramid_cost
from delira_nca.rollout import native_library
from delira_nca.rollout.backends import BACKENDS, choose
from delira_nca.rollout.cost import RolloutCost, format_bytes
from delira_nca.rollout.job import Job

__all__ = ["MemoryCheck"]

_ROUTINES: dict[type[Any], tuple[str, ...]] = {
    BasicNCAModel: ("closure", "forward_batch", "forward", "prepare_input", "initial_state", "to_arrays", "cost"),
    PyramidNCA: ("closure", "forward_batch", "_roll", "_carried", "_jittered", "_draw_patches"),
    Model: ("closure", "forward_batch", "_activated"),
}
"""Methods that determine the roll-outs of a training step. If one is overridden, the check is skipped."""


class MemoryCheck:
    """Raise an error for batches that cannot fit into memory, once per shape and number of steps.

    The available memory is compared with the minimum that a roll-out needs for any states, so that a training that
    might fit is never rejected. For a pyramid, this is the minimum of each level alone; for a
    :class:`~delira_nca.models.Model`, that of its architecture. Intermediate states used by losses are not counted.
    Networks with their own training step are not checked, and nothing is checked if the available memory is unknown.
    """

    def __init__(self) -> None:
        self._passed: tuple[Any, ...] | None = None

    def __call__(self, network: Any, batch: Mapping[str, Any], precision: Precision) -> None:
        """Check a prepared batch.

        Raises
        ------
        MemoryBudgetError
            If the batch does not fit. The message says how much is needed, how much is available, and what would fit.
        """
        data = batch.get("data")
        automaton = network.architecture if isinstance(network, Model) else network
        key = (getattr(data, "shape", None), *(getattr(automaton, n, None) for n in ("training_timesteps", "steps")))
        if key == self._passed:
            return
        if isinstance(data, Tensor) and data.dim() > 2:
            needs = [need for rollout in _rollouts(network, data) if (need := _need(rollout, data, precision))]
            if needs:
                _check(needs, data.device, precision)
        self._passed = key


@dataclass(frozen=True)
class _Rollout:
    """One roll-out of a training step."""

    model: BasicNCAModel
    shape: tuple[int, ...]
    steps: int
    place: str = ""


@dataclass(frozen=True)
class _Need:
    """Memory estimate of one roll-out."""

    rollout: _Rollout
    job: Job
    cost: RolloutCost
    backend: str

    @property
    def least(self) -> int:
        return self.cost.memory[self.backend].training_least

    def fits(self, left: int, size: int | None = None, steps: int | None = None, budget: int | None = None) -> bool:
        cost, model = self.cost, self.rollout.model
        changed = model.cost(
            cost.shape,
            cost.steps if steps is None else steps,
            batch_size=cost.batch_size if size is None else size,
            memory_budget=(budget := cost.memory_budget if budget is None else budget),
        )
        return budget >= changed.least_memory_budget and changed.memory[self.backend].training_least <= left


def _rollouts(network: Any, data: Tensor) -> Iterator[_Rollout]:
    """Yield the roll-outs of a training step; nothing if they or their costs are unknown."""
    if not _is_certain(network):
        return
    if isinstance(network, Model):
        yield from _rollouts(network.architecture, data)
    elif isinstance(network, PyramidNCA):
        patches = network.patch_size is not None
        steps = [n + int(network.jitter * n) for n in network.steps]
        try:
            cost = pyramid_cost(network, data.shape[2:], steps, batch_size=1, memory_budget=None, patches=patches)
        except ConfigError:  # the roll-out will raise it, or the cost of a level is unknown
            return
        for number, level in enumerate(cost.levels):
            if _is_certain(model := network.model_of(number)):
                yield _Rollout(model, level.shape, level.steps, f"at level {number} of the pyramid, ")
    else:
        timesteps = network.training_timesteps
        steps_ = timesteps[1] - 1 if isinstance(timesteps, (tuple, list)) else int(timesteps)
        yield _Rollout(network, tuple(data.shape[2:]), steps_)


def _is_certain(network: Any) -> bool:
    """Whether the training step of a network is that of the package."""
    kind = next((kind for kind in _ROUTINES if isinstance(network, kind)), None)
    return (
        kind is not None
        and not network._forward_pre_hooks
        and all(getattr(type(network), n) is getattr(kind, n) and n not in vars(network) for n in _ROUTINES[kind])
    )


def _need(rollout: _Rollout, data: Tensor, precision: Precision) -> _Need | None:
    """Memory estimate of one roll-out, or None if unknown."""
    model, size = rollout.model, len(data)
    state = torch.empty((), dtype=data.dtype, device=data.device).expand(size, model.num_channels, *rollout.shape)
    job = Job(state, model, rollout.steps, (rollout.steps,), memory_budget=model.memory_budget)
    with torch.enable_grad(), precision.autocast():
        try:
            backend = choose(job).name
            cost = model.cost(rollout.shape, rollout.steps, batch_size=size)
        except ConfigError:  # the roll-out will raise it, or its cost is unknown
            return None
    known = backend in cost.memory and not (backend == "reference" and precision.mixed)
    return _Need(rollout, job, cost, backend) if known else None


def _check(needs: Sequence[_Need], device: torch.device, precision: Precision) -> None:
    most = max(needs, key=lambda need: need.least)
    left = _left(device)
    if left is not None and most.least > left:
        _give_back(device)
        left = _left(device)
    if left is None or most.least <= left:
        return
    with torch.enable_grad(), precision.autocast():
        ways = list(_ways_out([need for need in needs if need.least > left], left))
    rollout, size = most.rollout, most.cost.batch_size
    raise MemoryBudgetError(
        f"training on {rollout.steps} steps of a batch of {size} x {rollout.shape} needs {rollout.place}at least "
        f"{format_bytes(most.least)} on back end {most.backend!r}, and {format_bytes(left)} are available on {device}. "
        f"What would fit: {', or '.join(ways) or 'a smaller grid'}"
    )


def _ways_out(needs: Sequence[_Need], left: int) -> Iterator[str]:
    """Yield single changes with which the training would fit, for roll-outs that do not."""
    if size := _largest(lambda n: all(need.fits(left, size=n) for need in needs), needs[0].cost.batch_size):
        yield f"a batch of {size}"
    if len(needs) > 1:
        return
    (need,) = needs
    cost = need.cost
    if steps := _largest(lambda n: need.fits(left, steps=n), cost.steps):
        yield f"{steps} steps"
    budget = cost.memory_budget // 2
    while budget > cost.least_memory_budget and not need.fits(left, budget=budget):
        budget //= 2
    if budget > cost.least_memory_budget:
        yield f"a memory_budget of {budget} bytes"
    for name, other in BACKENDS.items():
        lighter = name != need.backend and name in cost.memory and cost.memory[name].training_least <= left
        if lighter and other.unavailable() is None and other.refusal(need.job) is None:
            yield f"set_backend({name!r})"


def _left(device: torch.device) -> int | None:
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return available_memory(swap=True) if device.type == "cpu" else None


def _give_back(device: torch.device) -> None:
    """Release cached memory to the system, so that it counts as available."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        return
    if native_library.why_not() is None:
        native_library.load().pool_bytes(trim=True)
    with contextlib.suppress(OSError, AttributeError, TypeError):  # the C library may not be glibc
        ctypes.CDLL(None).malloc_trim(0)


def _largest(fits: Callable[[int], bool], limit: int) -> int:
    """Largest number below the limit that fits, or 0, by bisection: ``fits`` is monotonic."""
    low, high = 0, limit
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low
