"""Sparse back end for all machines: a roll-out on the rows of cells that can change, as one node of the graph."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from delira_nca.errors import ConfigError
from delira_nca.rollout.cell_parameters import CellParameters
from delira_nca.rollout.cost import check_padding, why_not_cpu_tensors
from delira_nca.rollout.job import Job
from delira_nca.rollout.memory import best_length, least_bytes
from delira_nca.rollout.sparse_kernels import Rows
from delira_nca.rollout.sparse_step import Change, Stepper

__all__ = ["Sparse"]


class Sparse:
    """Back end that applies the rule only to the rows of cells that fire and may live.

    The whole roll-out is one node of autograd's graph. It stores the values that each step overwrites and restores the
    states from them in the backward pass. If the memory budget does not suffice, states at segment borders are stored
    instead, and the steps between them are recomputed. Second derivatives are not supported.

    For finite values, results equal those of the reference up to rounding.
    """

    name = "sparse"

    def unavailable(self) -> str | None:
        """Return None: the back end runs on every machine."""
        return None

    def refusal(self, job: Job) -> str | None:
        """Return why the back end does not support a job, or None."""
        parameters = job.parameters
        if isinstance(parameters, str):
            return parameters
        if (reason := why_not_cpu_tensors(job.x, parameters, (torch.float32, torch.float64))) is not None:
            return reason
        if torch.is_autocast_enabled("cpu"):
            return "autocast is on"
        return None

    def states(self, job: Job) -> dict[int, Tensor]:
        """Return the state after each of the job's stops.

        Raises
        ------
        ConfigError, ShapeError
            If the memory budget is too small for the backward pass with any segment length, or the grid is too small
            for its padding.
        """
        parameters, x = job.numbers(), job.x
        check_padding(parameters.padding, parameters.radius, x.shape[2:])
        grid = Rows(x.shape[0], x.shape[2:], parameters.radius, parameters.padding)
        inputs = [x, *parameters.tensors()]
        _let_freed_memory_stay()
        if torch.is_grad_enabled() and any(tensor is not None and tensor.requires_grad for tensor in inputs):
            tape = _Tape.for_job(job, parameters, grid)
            outputs = _RollOut.apply(job, parameters, grid, tape, *inputs)  # type: ignore[no-untyped-call]
        else:
            with torch.no_grad():
                outputs = _forward(job, Stepper(job, parameters, grid), grid, None)
        return dict(zip(job.stops, outputs, strict=True))


def _let_freed_memory_stay() -> None:
    """Make the C library retain the memory of large freed tensors.

    glibc raises its mmap threshold to the largest freed block, up to 32 MiB. Freeing one block of that size here lets
    temporary tensors reuse memory. Otherwise each gets new pages from the system, which takes more time than the
    arithmetic.
    """
    torch.UntypedStorage(2**25 - 2**16)  # type: ignore[no-untyped-call]


@dataclass
class _Tape:
    """Data of a roll-out for its backward pass: changes of the first steps, then one state per segment."""

    budget: int | None
    state_bytes: int
    step_bytes: int
    length: int | None = None
    logged: int = 0
    used: int = 0
    num_borders: int = 0
    changes: list[Change] = field(default_factory=list)
    borders: list[Tensor] = field(default_factory=list)

    @classmethod
    def for_job(cls, job: Job, parameters: CellParameters, grid: Rows) -> _Tape:
        """Make an empty tape, for steps that change every cell in the worst case."""
        x, free = job.x, parameters.num_channels - parameters.num_fixed_channels
        cells = x.numel() // x.shape[1]
        step_bytes = cells * (free * x.element_size() + grid.index_dtype.itemsize)
        if parameters.alive is not None:
            step_bytes += grid.number
        tape = cls(None if job.segment else job.memory_budget, x.nbytes, step_bytes)
        least = least_bytes(job.stops[-1], tape.state_bytes, tape.step_bytes)
        if tape.budget is not None and tape.budget < least:
            raise ConfigError(
                f"memory_budget of {tape.budget} bytes is too small for {job.stops[-1]} steps of a state of "
                f"{tuple(x.shape)}: give at least {least}"
            )
        if job.segment is not None and job.segment < job.stops[-1]:
            tape.length = job.segment
        return tape

    def choose(self, rest: int) -> None:
        """Switch from changes to states if the budget may not suffice for the changes of one more step and the rest."""
        if self.length is None and self.budget is not None:
            left = self.budget - self.used
            if (
                rest * self.step_bytes + self.state_bytes > left
                and self.step_bytes + least_bytes(rest - 1, self.state_bytes, self.step_bytes) > left
            ):
                self.length = best_length(rest, self.state_bytes, self.step_bytes)

    def add(self, change: Change) -> None:
        """Store the values that one step overwrote."""
        self.changes.append(change)
        self.used += change.nbytes
        self.logged += 1

    def clear(self) -> list[Tensor | None]:
        """Remove all tensors and return them in the order of :meth:`fill`."""
        tensors = [*self.borders, *(tensor for change in self.changes for tensor in change)]
        self.num_borders = len(self.borders)
        self.changes, self.borders = [], []
        return tensors

    def fill(self, tensors: list[Any]) -> tuple[list[Change], list[Tensor]]:
        """Return (changes, states) from the tensors that :meth:`clear` returned."""
        borders, rest = tensors[: self.num_borders], tensors[self.num_borders :]
        size = len(Change._fields)
        return [Change(*rest[i : i + size]) for i in range(0, len(rest), size)], borders


def _forward(job: Job, stepper: Stepper, grid: Rows, tape: _Tape | None) -> list[Tensor]:
    """Return the states at the stops."""
    x, held, outputs = grid.load(job.x), None, []
    for done in range(job.stops[-1]):
        if tape is not None:
            tape.choose(job.stops[-1] - done)
            if tape.length is not None and (done - tape.logged) % tape.length == 0:
                tape.borders.append(grid.save(x))
        keep = tape is not None and tape.length is None
        held, change = stepper.forward(x, job.start + done, held, keep=keep)
        if tape is not None and change is not None:
            tape.add(change)
        if done + 1 in job.stops:
            outputs.append(grid.unload(x))
    if tape is not None and tape.length is None:
        tape.borders.append(grid.save(x))
    return outputs


class _RollOut(torch.autograd.Function):
    """Node of a roll-out in the graph, from the state and tensors of the automaton to the states at the stops."""

    @staticmethod
    def forward(
        ctx: Any, job: Job, parameters: CellParameters, grid: Rows, tape: _Tape, x: Tensor, *tensors: Tensor | None
    ) -> tuple[Tensor, ...]:
        outputs = _forward(job, Stepper(job, parameters.with_tensors(list(tensors)), grid), grid, tape)
        ctx.job, ctx.parameters, ctx.grid, ctx.tape = job, parameters, grid, tape
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*tensors, *tape.clear())
        return tuple(outputs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
        saved, count = list(ctx.saved_tensors), len(ctx.parameters.tensors())
        tensors, kept = saved[:count], saved[count:]
        into_x, *into_tensors = ctx.needs_input_grad[4:]
        sums = ctx.parameters.with_tensors(
            [
                torch.zeros_like(tensor, memory_format=torch.contiguous_format) if wanted else None
                for tensor, wanted in zip(tensors, into_tensors, strict=True)
            ]
        )
        with torch.autocast("cpu", enabled=False):
            stepper = Stepper(ctx.job, ctx.parameters.with_tensors(tensors), ctx.grid)
            way = _WayBack(ctx.job, ctx.grid, stepper, sums, dict(zip(ctx.job.stops, grads, strict=True)), into_x)
            of_x = way.walk(ctx.tape, *ctx.tape.fill(kept))
        return None, None, None, None, of_x, *sums.tensors()


@dataclass
class _WayBack:
    """Backward pass. ``grad`` is the gradient of the current state, None before the first stop with a gradient."""

    job: Job
    grid: Rows
    stepper: Stepper
    sums: CellParameters
    arriving: dict[int, Tensor | None]
    into_x: bool
    grad: Tensor | None = None

    def walk(self, tape: _Tape, changes: list[Change], borders: list[Tensor]) -> Tensor | None:
        """Go back from the last state to the first, and return the gradient of the first if it is needed."""
        steps = self.job.stops[-1]
        for index in reversed(range(len(borders) if tape.length is not None else 0)):
            begin = tape.logged + index * (tape.length or steps)
            end = min(begin + (tape.length or steps), steps)
            x, held, again = self.grid.restore(borders[index]), None, []
            for done in range(begin, end):
                held, change = self.stepper.forward(x, self.job.start + done, held, keep=True)
                again += [change] if change is not None else []
            self._undo(x, again, begin)
        self._undo(self.grid.restore(borders[0]), changes, 0)
        return None if self.grad is None or not self.into_x else self.grid.unload(self.grad)

    def _undo(self, x: Tensor, changes: list[Change], begin: int) -> None:
        for done in reversed(range(begin + 1, begin + 1 + len(changes))):
            grad = self.arriving.get(done)
            if grad is not None:
                if self.grad is None:
                    self.grad = torch.zeros_like(x)
                self.grid.inner(self.grad).add_(self.grid.cells_last(grad))
            self.stepper.backward(
                x,
                self.grad,
                self.job.start + done - 1,
                changes[done - 1 - begin],
                self.sums,
                into_state=self.into_x or done > 1,
            )
