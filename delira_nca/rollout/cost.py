"""Cost of a roll-out in operations and memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isqrt, prod

import torch
from torch import Tensor
from torch.autograd import forward_ad

from delira_nca.checks import require_whole, require_wholes
from delira_nca.errors import ConfigError, ShapeError
from delira_nca.rollout.cell_parameters import CellParameters
from delira_nca.rollout.job import DEFAULT_MEMORY_BUDGET, Job
from delira_nca.rollout.memory import WINDOW_STEPS, best_length, least_bytes, masks_at_once, segment_length
from delira_nca.rollout.reference import Cell
from delira_nca.rollout.threads import max_threads

__all__ = [
    "ByteCounter",
    "MemoryNeed",
    "RolloutCost",
    "check_budget",
    "check_padding",
    "count_cost",
    "format_bytes",
    "is_autocast",
    "why_not_cpu_tensors",
    "why_not_floats",
]


def why_not_cpu_tensors(x: Tensor, parameters: CellParameters, dtypes: tuple[torch.dtype, ...]) -> str | None:
    """Return why a state and the tensors of a cell are not all plain CPU tensors of the given dtypes, or None."""
    tensors = [x, *(tensor for tensor in parameters.tensors() if tensor is not None)]
    if torch._C._functorch.peek_interpreter_stack() is not None:
        return "a transform of torch.func is at work"
    if torch.compiler.is_compiling():
        return "torch.compile is tracing"
    for tensor in tensors:
        if forward_ad.unpack_dual(tensor).tangent is not None:  # type: ignore[no-untyped-call]
            return "there are no gradients in forward mode"
        if type(tensor) not in (Tensor, torch.nn.Parameter):
            return f"a tensor is a {type(tensor).__name__}"
        if tensor.device.type != "cpu" or tensor.layout != torch.strided:
            return f"a tensor is on {tensor.device}, not on the CPU"
        if tensor.dtype not in dtypes or tensor.dtype != x.dtype:
            return f"a tensor is {tensor.dtype}, not {' or '.join(map(str, dtypes))} like all others"
    if x.shape[1] != parameters.num_channels or x.dim() - 2 != parameters.dims:
        axes = f"{parameters.num_channels} channels and {parameters.dims} spatial axes"
        return f"the state {tuple(x.shape)} does not have {axes}"
    if x.numel() == 0:
        return "the state is empty"
    return None


def is_autocast(x: Tensor) -> bool:
    """Whether autocast is enabled for the device of a tensor. The meta device has no autocast."""
    kind = x.device.type
    return torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)


def why_not_floats(x: Tensor, cell: object) -> str | None:
    """Return why a state and the weights of a cell are not floats of one dtype, or None; autocast may mix them."""
    if not x.is_floating_point():
        return f"a state is of floats, not {x.dtype}"
    weights = cell.parameters() if isinstance(cell, torch.nn.Module) else []
    others = {weight.dtype for weight in weights if weight.is_floating_point()} - {x.dtype}
    if not others or is_autocast(x):
        return None
    return f"a state of {x.dtype} does not go with weights of {others.pop()}"


def check_padding(padding: str, radius: Sequence[int], shape: Sequence[int]) -> None:
    """Check that a grid is large enough for its padding.

    Parameters
    ----------
    padding : str
        ``"zeros"``, ``"reflect"``, ``"replicate"`` or ``"circular"``.
    radius : sequence of int
        Width of the padding along each axis.
    shape : sequence of int
        Spatial shape of the grid.

    Raises
    ------
    ShapeError
        If an axis is not longer than the radius (reflect), or shorter than it (circular).

    Examples
    --------
    >>> check_padding("reflect", (1, 1), (1, 9))
    Traceback (most recent call last):
    delira_nca.errors.ShapeError: reflect padding by 1 needs at least 2 cells along every axis, not (1, 9)
    """
    least = {"reflect": 1, "circular": 0}.get(padding)
    if least is None:
        return
    for size, reach in zip(shape, radius, strict=True):
        if reach and size < reach + least:
            raise ShapeError(
                f"{padding} padding by {reach} needs at least {reach + least} cells along every axis, "
                f"not {tuple(shape)}"
            )


def check_budget(parameters: CellParameters, job: Job) -> None:
    """Check that the memory budget suffices for the backward pass with some segment length.

    Raises
    ------
    ConfigError
        If not. The message gives the smallest sufficient number of bytes.
    """
    tensors = [job.x, *(tensor for tensor in parameters.tensors() if tensor is not None)]
    keeps = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
    if not keeps or job.segment is not None:
        return
    state = job.x.nbytes
    least = least_bytes(job.stops[-1], state, worst_step_bytes(job.x, mortal=parameters.alive is not None))
    if job.memory_budget < least:
        raise ConfigError(
            f"memory_budget of {job.memory_budget} bytes is too small for {job.stops[-1]} steps of a state of "
            f"{tuple(job.x.shape)}: give at least {least}"
        )


def worst_step_bytes(x: Tensor, *, mortal: bool) -> int:
    """Largest number of bytes that one step changes: all cells, and the masks of those that fired, lived or died."""
    row_words = -(-x.shape[-1] // 64)
    rows = x.shape[0] * x[0, 0].numel() // x.shape[-1]
    return int(x.nbytes + 8 * row_words * rows * (3 if mortal else 1))


_SLAB, _CHUNK, _LANES, _BANDS, _ROWS = 2**21, 2**17, 16, 16, 56
"""Constants of the native library: bytes of a huge page, bytes of a chunk of a log, floats of a vector, bands of a
batch, rows of a tile."""

_TILE, _LIBRARIES = 6144, 3 * 2**25
"""Rows of a tile of the sparse back end; bytes that PyTorch's libraries allocate in addition to the tensors of the
reference."""

_HASH = 96
"""Bytes of temporary integers per random number."""


@dataclass(frozen=True)
class MemoryNeed:
    """Peak memory of a back end in bytes, without the weights, their gradients and the input state.

    The result and, in training, its gradient are included. Freed memory that the C library retains is not.

    Attributes
    ----------
    training : int
        Upper bound for training, with every cell alive and firing.
    training_expected : int
        Expected value for training with every cell alive, for the fire rate. It is lower if cells die.
    training_least : int
        Lower bound for training, for any state.
    inference : int
        Upper bound without gradients, for the last state only.
    kept, kept_expected : int
        Part of ``training`` and ``training_expected`` that is stored for the backward pass and limited by the memory
        budget.
    kept_steps : int
        Number of steps that are stored completely in the worst case, before the budget is exhausted.
    segment : int or None
        Number of steps per stored state after that; the other states are recomputed. None if no step follows.
    """

    training: int
    training_expected: int
    training_least: int
    inference: int
    kept: int
    kept_expected: int
    kept_steps: int
    segment: int | None


class ByteCounter:
    """Formulas for the bytes of each back end. Their docstrings and comments name the tensors that they count."""

    def __init__(
        self,
        parameters: CellParameters,
        x: Tensor,
        steps: int,
        budget: int,
        convolutions: int,
        *,
        skips_dead_space: bool,
    ) -> None:
        self.parameters, self.x, self.steps, self.budget = parameters, x, steps, budget
        self.batch, self.item = x.shape[0], x.element_size()
        self.cells = x.numel() // x.shape[1]
        self.state = x.nbytes
        self.padded = self.batch * prod(n + 2 * r for n, r in zip(x.shape[2:], parameters.radius, strict=True))
        self.mortal = parameters.alive is not None
        self.convolutions, self.skips_dead_space = convolutions, skips_dead_space
        self.free = parameters.num_channels - parameters.num_fixed_channels
        self.hidden = [len(weight) for weight in parameters.weights[:-1]]
        self.seen = parameters.weights[0].shape[1]
        self.weights = sum(tensor.nbytes for tensor in parameters.tensors() if tensor is not None)
        tensors = [tensor for tensor in parameters.tensors() if tensor is not None]
        self.learns = any(tensor.requires_grad for tensor in tensors)
        self.worst = {"native": worst_step_bytes(x, mortal=self.mortal), "sparse": self._sparse_step(1.0)}

    # Back ends ------------------------------------------------------------------------------------------------------

    def native(self) -> MemoryNeed:
        """Previous rows of the changed cells, and bit masks; the last state; scratch memory of each thread."""
        worst = self.worst["native"]
        fired = round(self.parameters.fire_rate * self.state)
        expected = worst - self.state + fired
        kept_steps, segment = self._plan(worst, worst)
        threads = max_threads()
        at_once = min(threads, self.batch)  # samples at a time, one thread each
        channels = -(-self.parameters.num_channels // _LANES) * _LANES
        grid, bands = _buffer(self.padded // self.batch * channels * 4), -(-_BANDS // self.batch)
        updates = self.cells // self.batch * channels * 4 + bands * 8 * channels * 4
        updates += bands * (_SLAB if updates >= _SLAB else 128)
        scratch = at_once * (grid + updates + self.cells // self.batch * 12)
        scratch_back = scratch + at_once * grid
        # weights in the layout of the kernels (and in bfloat16), tiles of 56 cells, sums of each band
        layout = 16 * self.weights + 2**20 + threads * _ROWS * 4 * (4 * self.seen + 6 * sum(self.hidden) + 64)
        sums = (self.batch + _BANDS) * 2 * (self.weights + 8 * 4 * sum(self.hidden) + 2**12)
        # two logs per band: of the completely stored steps, of the last segment, and of the recomputed one
        pieces = (1 if segment is None else 3) * 2 * (self.batch + _BANDS) * _CHUNK + _SLAB
        end = self.batch * _buffer(self.state // self.batch)
        rounding = 0 if segment is None else (self.steps // segment + 1) * (end - self.state)
        kept = min(self.steps * worst, self.budget + self.state + worst)
        kept += kept // 64 + end + rounding
        kept_expected = min(self._kept(expected, worst), kept)
        training = 2 * self.state + kept + pieces + scratch_back + layout + sums
        return MemoryNeed(
            training=training,
            training_expected=min(2 * self.state + kept_expected + pieces // 2 + scratch_back + layout, training),
            training_least=self._least(expected, worst),
            inference=self.state + scratch + layout,
            kept=kept,
            kept_expected=kept_expected,
            kept_steps=kept_steps,
            segment=segment,
        )

    def sparse(self) -> MemoryNeed:
        """Previous rows of the changed cells, and their indices; one state; perceptions of the whole grid."""
        worst, expected = self.worst["sparse"], self._sparse_step(self.parameters.fire_rate)
        kept_steps, segment = self._plan(worst, worst)
        width = self.seen - (self.parameters.time_scale is not None)
        rows = self.padded * self.item
        noise = 0 if not self.parameters.update_noise else _HASH * self.parameters.num_channels * self.cells
        masks = _HASH * self.cells + 8 * self.padded
        tile = min(self.cells + 512, _TILE) * self.item * 2 * (width + 2 * sum(self.hidden) + self.free)
        forward = rows * (2 * self.parameters.num_channels + 2 * width) + masks + noise + tile + 8 * self.weights
        backward = rows * (4 * self.parameters.num_channels + 4 * width) + masks + noise + tile + 8 * self.weights
        kept = max(least_bytes(self.steps, self.state, worst), min(self.steps * worst + self.state, self.budget))
        kept_expected = min(self._kept(expected, worst), kept)
        return MemoryNeed(
            training=2 * self.state + kept + backward,
            training_expected=2 * self.state + kept_expected + backward,
            training_least=self._least(expected, worst),
            inference=self.state + forward,
            kept=kept,
            kept_expected=kept_expected,
            kept_steps=kept_steps,
            segment=segment,
        )

    def reference(self) -> MemoryNeed:
        """Everything that autograd stores of a step for every cell; temporary tensors of one step."""
        step, floor = self._reference_step()
        group = min(WINDOW_STEPS, self.steps)
        kept_steps, segment = self._reference_plan(step)
        masks = _HASH * max(self.cells, min(self.steps * self.cells, masks_at_once(self.x)))
        temporary = 2 * step + 4 * self.state + masks + _LIBRARIES
        if self.parameters.update_noise:
            temporary += _HASH * self.parameters.num_channels * self.cells
        everything = self.steps * step + self.state * (self.steps // WINDOW_STEPS + 1)
        rest = self.steps - group
        length = segment_length(rest, step, self.state)
        tail = -(-rest // length) * self.state + min(length, rest) * step
        kept = min(everything, self.budget // 2 + group * step + self.state + tail)
        least = 0
        if floor and not self.skips_dead_space:
            filled = self.budget // 2 * group * floor // (group * floor + self.state)
            least = min(self.steps * floor, max(group * floor, filled))
        training = 2 * self.state + kept + temporary
        return MemoryNeed(
            training=training,
            training_expected=training,
            training_least=2 * self.state + least if self.learns else self.state,
            inference=self.state + temporary,
            kept=kept,
            kept_expected=kept,
            kept_steps=kept_steps,
            segment=segment,
        )

    # Parts of the formulas
    # --------------------------------------------------------------------------------------------------

    def _least(self, step: int, worst: int) -> int:
        """Result, its gradient, and the stored part of steps that change ``step`` bytes; 0 without living cells."""
        if not self.learns:
            return self.state
        return 2 * self.state + (0 if self.mortal else round(0.98 * self._kept(step, worst)))

    def _kept(self, step: int, worst: int) -> int:
        """Bytes that native and sparse store if every step changes ``step`` bytes."""
        whole, segment = self._plan(step, worst)
        if segment is None:
            return whole * step + self.state
        rest = self.steps - whole
        return whole * step + -(-rest // segment) * self.state + min(segment, rest) * step

    def _plan(self, step: int, worst: int) -> tuple[int, int | None]:
        """Return (number of completely stored steps, length of the segments after them) of native and sparse.

        They store complete steps as long as the remaining budget would suffice for the remaining steps in segments of
        the best length, in the worst case.
        """
        steps, state = self.steps, self.state
        whole = used = 0
        while whole < steps:
            if used + (steps - whole) * worst + state <= self.budget:
                return steps, None
            if used + worst + 2 * isqrt((steps - whole - 1) * state * worst) > self.budget:
                return whole, best_length(steps - whole, state, worst)
            whole, used = whole + 1, used + step
        return steps, None

    def _reference_plan(self, step: int) -> tuple[int, int | None]:
        kept = stored = 0
        while kept < self.steps and stored <= self.budget // 2:
            done = min(WINDOW_STEPS, self.steps - kept)
            kept, stored = kept + done, stored + done * step + self.state
        rest = self.steps - kept
        length = segment_length(rest, step, self.state)
        return (kept, length) if length < rest else (self.steps, None)

    def _sparse_step(self, fire_rate: float) -> int:
        """Previous values of the free channels and the index of each cell that fired; the mask of living cells."""
        fired = round(self.cells * fire_rate)
        return fired * (self.free * self.item + 4) + (self.padded if self.mortal else 0)

    def _reference_step(self) -> tuple[int, int]:
        """Return (upper bound, lower bound) of the bytes that autograd stores of one step.

        These are the state, a padded copy for every convolution without built-in padding, the perception, the outputs
        of the hidden layers (before and after nonlinearities that need both), and the masks.
        """
        parameters = self.parameters
        copies = 0 if parameters.padding == "zeros" else self.convolutions
        before = 0 if parameters.nonlinearity in ("relu", "tanh") else sum(self.hidden)
        rectified = len(parameters.full) if parameters.full is not None and parameters.full_relu else 0
        floats = self.seen + sum(self.hidden)
        most = self.cells * (floats + before + rectified + parameters.num_channels)
        most += copies * self.padded * parameters.num_channels
        floor = self.item * self.cells * floats if all(weight.requires_grad for weight in parameters.weights) else 0
        return self.item * most + 3 * self.cells, floor


def _buffer(number: int) -> int:
    """Bytes of a buffer of the native library, which consists of whole huge pages if it fills one."""
    number += 128
    return -(-number // _SLAB) * _SLAB if number >= _SLAB else number


@dataclass(frozen=True)
class RolloutCost:
    """Cost of a roll-out. Its ``str`` is a short report.

    A multiply-add counts as two operations. Biases, nonlinearities, masks and random numbers are not counted.

    Attributes
    ----------
    num_parameters : int
        Number of weights of the model.
    batch_size, shape, steps, fire_rate
        Arguments of the roll-out.
    memory_budget : int
        Number of bytes that it may store for the backward pass.
    least_memory_budget : int
        Smallest budget that the native and sparse back ends accept.
    perception, rule : int
        Multiply-adds per evaluated cell and step. The identity needs none; fixed filters count their nonzero values
        only.
    backward : int
        Multiply-adds of the backward pass per evaluated cell and step: gradients of weights and inputs, and the
        recomputation of perception and hidden layers.
    memory : dict
        :class:`MemoryNeed` of each back end by name, for float32 and masks from a seed, and for native with torch's
        number of threads at the time of counting.
    """

    num_parameters: int
    batch_size: int
    shape: tuple[int, ...]
    steps: int
    fire_rate: float
    memory_budget: int
    least_memory_budget: int
    perception: int
    rule: int
    backward: int
    memory: Mapping[str, MemoryNeed]

    @property
    def num_cells(self) -> int:
        """Number of cells of the whole batch."""
        return self.batch_size * prod(self.shape)

    @property
    def forward_operations(self) -> int:
        """Number of operations per evaluated cell and step, forward only."""
        return 2 * (self.perception + self.rule)

    @property
    def training_operations(self) -> int:
        """Number of operations per evaluated cell and step, forward and backward."""
        return self.forward_operations + 2 * self.backward

    def step_operations(self, *, training: bool = False, every_cell: bool = False) -> int:
        """Return the number of operations of one step of the whole batch.

        Parameters
        ----------
        training : bool
            Whether to include the backward pass.
        every_cell : bool
            Whether all cells are evaluated, as in the reference, or only those that fire, as in the other back ends
            (which evaluate even fewer cells if cells die).
        """
        one = self.training_operations if training else self.forward_operations
        return round(one * self.num_cells * (1.0 if every_cell else self.fire_rate))

    def __str__(self) -> str:
        grid = " x ".join(map(str, self.shape))
        lines = [
            f"{self.steps} steps of {self.batch_size} x ({grid}) cells that fire with probability {self.fire_rate:g}, "
            f"{self.num_parameters:,} parameters",
            f"operations of an evaluated cell and step: {self.forward_operations:,} forward ({2 * self.perception:,} "
            f"perception, {2 * self.rule:,} rule), {self.training_operations:,} in training",
            f"operations of a step of the batch: {_count(self.step_operations())} forward, "
            f"{_count(self.step_operations(training=True))} in training; "
            f"{_count(self.step_operations(every_cell=True))} and "
            f"{_count(self.step_operations(training=True, every_cell=True))} if every cell is evaluated",
            f"{'memory':<12}{'training at most':>18}{'expected':>12}{'inference':>12}   kept for the backward pass",
        ]
        for name, need in self.memory.items():
            numbers = (need.training, need.training_expected, need.inference)
            training, expected, inference = map(format_bytes, numbers)
            lines.append(f"  {name:<10}{training:>18}{expected:>12}{inference:>12}   {self._kept(need)}")
        lines.append(
            f"memory_budget {format_bytes(self.memory_budget)}; native and sparse need "
            f"{format_bytes(self.least_memory_budget)} of it at least"
        )
        return "\n".join(lines)

    def _kept(self, need: MemoryNeed) -> str:
        if need.segment is None:
            return "all steps"
        return f"{need.kept_steps} steps, then states {need.segment} apart"


def count_cost(
    parameters: CellParameters,
    shape: Sequence[int],
    steps: int,
    *,
    cell: Cell,
    num_parameters: int,
    num_convolutions: int,
    batch_size: int = 1,
    memory_budget: int = DEFAULT_MEMORY_BUDGET,
) -> RolloutCost:
    """Count the cost of a roll-out without running it.

    Parameters
    ----------
    parameters : CellParameters
        Plain form of the automaton.
    shape : sequence of int
        Spatial shape of the grid.
    steps : int
        Number of steps.
    cell : Cell
        Automaton.
    num_parameters : int
        Number of weights of the model.
    num_convolutions : int
        Number of convolutions of the perception. Unless the padding is zeros, each has a padded copy of the state.
    batch_size : int
        Number of states in the batch.
    memory_budget : int
        Number of bytes that may be stored for the backward pass.

    Raises
    ------
    ConfigError
        If a number is out of range.
    """
    require_whole("batch_size", batch_size, 1)
    require_wholes("shape", shape, 1, count=parameters.dims)
    x = parameters.filters.detach().new_zeros(()).expand(batch_size, parameters.num_channels, *shape)  # needs no memory
    Job(x, cell, steps, (steps,), memory_budget=memory_budget).check()
    counted = ByteCounter(parameters, x, steps, memory_budget, num_convolutions, skips_dead_space=cell.skips_dead_space)
    perception, learned = _perception(parameters)
    rule = sum(weight.numel() for weight in parameters.weights)
    return RolloutCost(
        num_parameters=num_parameters,
        batch_size=batch_size,
        shape=tuple(shape),
        steps=steps,
        fire_rate=parameters.fire_rate,
        memory_budget=memory_budget,
        least_memory_budget=max(least_bytes(steps, counted.state, step) for step in counted.worst.values()),
        perception=perception,
        rule=rule,
        backward=2 * perception + learned + 3 * rule - parameters.weights[-1].numel(),
        memory={"native": counted.native(), "sparse": counted.sparse(), "reference": counted.reference()},
    )


def format_bytes(number: float) -> str:
    """Format a number of bytes with a binary unit.

    Examples
    --------
    >>> format_bytes(1536), format_bytes(2**30), format_bytes(12)
    ('1.5 KiB', '1.0 GiB', '12 B')
    """
    for unit in ("B", "KiB", "MiB", "GiB"):
        if number < 1024:
            return f"{number:.0f} B" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1024
    return f"{number:.1f} TiB"


def _count(number: float) -> str:
    for unit in ("", " k", " M", " G"):
        if number < 1000:
            return f"{number:.3g}{unit}"
        number /= 1000
    return f"{number:.3g} T"


def _perception(parameters: CellParameters) -> tuple[int, int]:
    """Multiply-adds of the perception of a cell, and the part of them with learned weights."""
    total = learned = 0
    identity = parameters.filters.new_zeros(parameters.filters.shape[2:])
    identity.view(-1)[identity.numel() // 2] = 1.0
    for filters, is_learned in zip(parameters.filters.detach(), parameters.learned, strict=True):
        if is_learned:
            total, learned = total + filters.numel(), learned + filters.numel()
        elif not torch.equal(filters, identity.expand_as(filters)):
            total += int((filters != 0).sum())
    full = 0 if parameters.full is None else parameters.full.numel()
    return total + full, learned + full
