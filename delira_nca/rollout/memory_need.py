"""How many bytes a roll-out takes on every back end, by formula."""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt, prod

from torch import Tensor

from delira_nca.rollout.memory import best_length, least_bytes, masks_at_once, segment_length
from delira_nca.rollout.plain import PlainCell
from delira_nca.rollout.support import worst_step_bytes
from delira_nca.rollout.threads import max_threads
from delira_nca.rollout.window import WINDOW_STEPS

__all__ = ["ByteCounter", "MemoryNeed"]

_SLAB, _CHUNK, _LANES, _BANDS, _ROWS = 2**21, 2**17, 16, 16, 56
"""Of the native library: huge page, piece of a log, floats of a vector, parts of a batch, rows of a tile."""

_TILE, _LIBRARIES = 6144, 3 * 2**25
"""Rows of a tile of the sparse back end; what the libraries of PyTorch make room for beside the reference's tensors."""

_HASH = 96
"""Bytes of whole numbers at work for one random number."""


@dataclass(frozen=True)
class MemoryNeed:
    """Bytes that a back end needs at its peak, beside the weights, their gradients and the state that it is given.

    The result and, in training, its gradient are counted. What the C library holds of memory that was freed is not.

    Attributes
    ----------
    training : at most, with every cell alive and firing.
    training_expected : with every cell alive, firing with the fire rate. Where cells die it is less.
    training_least : at least, whatever the state holds.
    inference : at most, without gradients, for the last state only.
    kept, kept_expected : the part of the training that the memory budget bounds: what stays for the backward pass.
    kept_steps : of so many steps everything is kept in the worst case; after them the budget binds.
    segment : of the steps that follow, one state in so many is kept, and the others are computed again; None where
        no step follows.
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
    """Formulas for the bytes of each back end; each says in its comment which tensors it counts."""

    def __init__(
        self, plain: PlainCell, x: Tensor, steps: int, budget: int, convolutions: int, *, skips_dead_space: bool
    ) -> None:
        self.plain, self.x, self.steps, self.budget = plain, x, steps, budget
        self.batch, self.item = x.shape[0], x.element_size()
        self.cells = x.numel() // x.shape[1]
        self.state = x.nbytes
        self.padded = self.batch * prod(n + 2 * r for n, r in zip(x.shape[2:], plain.radius, strict=True))
        self.mortal = plain.alive is not None
        self.convolutions, self.skips_dead_space = convolutions, skips_dead_space
        self.free = plain.num_channels - plain.num_fixed_channels
        self.hidden = [len(weight) for weight in plain.weights[:-1]]
        self.seen = plain.weights[0].shape[1]
        self.weights = sum(tensor.nbytes for tensor in plain.tensors() if tensor is not None)
        tensors = [tensor for tensor in plain.tensors() if tensor is not None]
        self.learns = any(tensor.requires_grad for tensor in tensors)
        self.worst = {"native": worst_step_bytes(x, mortal=self.mortal), "sparse": self._sparse_step(1.0)}

    # Back ends ------------------------------------------------------------------------------------------------------

    def native(self) -> MemoryNeed:
        """Old rows of the cells that changed, and bits; the last state; scratch of each thread."""
        worst = self.worst["native"]
        fired = round(self.plain.fire_rate * self.state)
        expected = worst - self.state + fired
        kept_steps, segment = self._plan(worst, worst)
        threads = max_threads()
        at_once = min(threads, self.batch)  # samples, each led by one thread
        channels = -(-self.plain.num_channels // _LANES) * _LANES
        grid, bands = _buffer(self.padded // self.batch * channels * 4), -(-_BANDS // self.batch)
        updates = self.cells // self.batch * channels * 4 + bands * 8 * channels * 4
        updates += bands * (_SLAB if updates >= _SLAB else 128)
        scratch = at_once * (grid + updates + self.cells // self.batch * 12)
        scratch_back = scratch + at_once * grid
        # weights laid out for the kernels, in bfloat16 too, tiles of 56 cells, sums of each band
        layout = 16 * self.weights + 2**20 + threads * _ROWS * 4 * (4 * self.seen + 6 * sum(self.hidden) + 64)
        sums = (self.batch + _BANDS) * 2 * (self.weights + 8 * 4 * sum(self.hidden) + 2**12)
        # two logs of each band: of the steps kept whole, of the last segment, and of the one that is computed again
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
        """Old rows of the cells that changed, and their numbers; one state; views of the whole grid."""
        worst, expected = self.worst["sparse"], self._sparse_step(self.plain.fire_rate)
        kept_steps, segment = self._plan(worst, worst)
        width = self.seen - (self.plain.time_scale is not None)
        rows = self.padded * self.item
        noise = 0 if not self.plain.update_noise else _HASH * self.plain.num_channels * self.cells
        masks = _HASH * self.cells + 8 * self.padded
        tile = min(self.cells + 512, _TILE) * self.item * 2 * (width + 2 * sum(self.hidden) + self.free)
        forward = rows * (2 * self.plain.num_channels + 2 * width) + masks + noise + tile + 8 * self.weights
        backward = rows * (4 * self.plain.num_channels + 4 * width) + masks + noise + tile + 8 * self.weights
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
        """All that autograd keeps of a step, for every cell; temporary tensors of one step."""
        step, floor = self._reference_step()
        group = min(WINDOW_STEPS, self.steps)
        kept_steps, segment = self._reference_plan(step)
        masks = _HASH * max(self.cells, min(self.steps * self.cells, masks_at_once(self.x)))
        temporary = 2 * step + 4 * self.state + masks + _LIBRARIES
        if self.plain.update_noise:
            temporary += _HASH * self.plain.num_channels * self.cells
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

    # Parts of them --------------------------------------------------------------------------------------------------

    def _least(self, step: int, worst: int) -> int:
        """Result, its gradient, and what is kept of steps in which so many bytes change; without life nothing does."""
        if not self.learns:
            return self.state
        return 2 * self.state + (0 if self.mortal else round(0.98 * self._kept(step, worst)))

    def _kept(self, step: int, worst: int) -> int:
        """Bytes that native and sparse keep, if every step changes so many."""
        whole, segment = self._plan(step, worst)
        if segment is None:
            return whole * step + self.state
        rest = self.steps - whole
        return whole * step + -(-rest // segment) * self.state + min(segment, rest) * step

    def _plan(self, step: int, worst: int) -> tuple[int, int | None]:
        """(steps that are kept whole, length of the segments after them) of native and sparse.

        They keep everything for as long as what is left of the budget would hold the rest, in segments of the best
        length, even if each of its steps changed all that it can.
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
        """Old numbers of the free channels and the place of each cell that fired; who lived."""
        fired = round(self.cells * fire_rate)
        return fired * (self.free * self.item + 4) + (self.padded if self.mortal else 0)

    def _reference_step(self) -> tuple[int, int]:
        """(at most, at least) bytes that autograd keeps of one step.

        The state, padded copies of it for every convolution that does not pad itself, what is seen, what comes out of
        every hidden layer, before and after those nonlinearities that need both, and the masks.
        """
        plain = self.plain
        copies = 0 if plain.padding == "zeros" else self.convolutions
        before = 0 if plain.nonlinearity in ("relu", "tanh") else sum(self.hidden)
        rectified = len(plain.full) if plain.full is not None and plain.full_relu else 0
        floats = self.seen + sum(self.hidden)
        most = self.cells * (floats + before + rectified + plain.num_channels)
        most += copies * self.padded * plain.num_channels
        floor = self.item * self.cells * floats if all(weight.requires_grad for weight in plain.weights) else 0
        return self.item * most + 3 * self.cells, floor


def _buffer(number: int) -> int:
    """Bytes of a buffer of the native library: whole huge pages, if it fills one."""
    number += 128
    return -(-number // _SLAB) * _SLAB if number >= _SLAB else number
