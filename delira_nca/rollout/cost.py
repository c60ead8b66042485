"""What a roll-out costs, counted before it runs: operations of a cell, and bytes on every back end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

import torch

from delira_nca.checks import require_whole, require_wholes
from delira_nca.rollout.job import DEFAULT_MEMORY_BUDGET, Job
from delira_nca.rollout.memory import least_bytes
from delira_nca.rollout.memory_need import ByteCounter, MemoryNeed
from delira_nca.rollout.plain import PlainCell
from delira_nca.rollout.reference import Cell

__all__ = ["RolloutCost", "count_cost", "format_bytes"]


@dataclass(frozen=True)
class RolloutCost:
    """What a roll-out costs. Its text is a short report.

    A multiply-add is two operations. Additions of biases, nonlinearities, masks and random numbers are not counted.

    Attributes
    ----------
    num_parameters : weights of the model.
    batch_size, shape, steps, fire_rate : of the roll-out.
    memory_budget : bytes that it may keep for the backward pass.
    least_memory_budget : smallest budget that the back ends native and sparse accept for it.
    perception, rule : multiply-adds of one evaluated cell in one step. The identity costs none, and of fixed filters
        only the numbers that are not zero count.
    backward : multiply-adds that the backward pass adds: gradients of weights and inputs, and perception and hidden
        layers computed again.
    memory : name of a back end to its bytes. They are those of float32 masks from a seed, and of native with as many
        threads as torch had when they were counted.
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
        """Cells of the whole batch."""
        return self.batch_size * prod(self.shape)

    @property
    def forward_operations(self) -> int:
        """Operations of one evaluated cell in one step."""
        return 2 * (self.perception + self.rule)

    @property
    def training_operations(self) -> int:
        """Operations of one evaluated cell in one step, forward and back."""
        return self.forward_operations + 2 * self.backward

    def step_operations(self, *, training: bool = False, every_cell: bool = False) -> int:
        """Operations of one step of the whole batch.

        Parameters
        ----------
        training : whether the way back is counted too.
        every_cell : whether all cells are evaluated, as the reference does, or only those that fire, as the others
            do. Where cells die, these evaluate fewer still.
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
    plain: PlainCell,
    shape: Sequence[int],
    steps: int,
    *,
    cell: Cell,
    num_parameters: int,
    num_convolutions: int,
    batch_size: int = 1,
    memory_budget: int = DEFAULT_MEMORY_BUDGET,
) -> RolloutCost:
    """Count what a roll-out costs; nothing is run.

    Parameters
    ----------
    plain : the automaton as numbers.
    shape : spatial shape of the grid.
    steps : how many.
    cell : the automaton itself.
    num_parameters : of the model.
    num_convolutions : of its perception; where padding is not zeros, each has a padded copy of the state.
    batch_size : how many states are rolled out together.
    memory_budget : bytes that may be kept for the backward pass.

    Raises
    ------
    ConfigError
        If a number is out of range.
    """
    require_whole("batch_size", batch_size, 1)
    require_wholes("shape", shape, 1, count=plain.dims)
    x = plain.filters.detach().new_zeros(()).expand(batch_size, plain.num_channels, *shape)  # takes no memory
    Job(x, cell, steps, (steps,), memory_budget=memory_budget).check()
    counted = ByteCounter(plain, x, steps, memory_budget, num_convolutions, skips_dead_space=cell.skips_dead_space)
    perception, learned = _perception(plain)
    rule = sum(weight.numel() for weight in plain.weights)
    return RolloutCost(
        num_parameters=num_parameters,
        batch_size=batch_size,
        shape=tuple(shape),
        steps=steps,
        fire_rate=plain.fire_rate,
        memory_budget=memory_budget,
        least_memory_budget=max(least_bytes(steps, counted.state, step) for step in counted.worst.values()),
        perception=perception,
        rule=rule,
        backward=2 * perception + learned + 3 * rule - plain.weights[-1].numel(),
        memory={"native": counted.native(), "sparse": counted.sparse(), "reference": counted.reference()},
    )


def format_bytes(number: float) -> str:
    """Bytes in a unit that is easy to read.

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


def _perception(plain: PlainCell) -> tuple[int, int]:
    """Multiply-adds of what a cell sees, and of those the part whose weights are learned."""
    total = learned = 0
    identity = plain.filters.new_zeros(plain.filters.shape[2:])
    identity.view(-1)[identity.numel() // 2] = 1.0
    for filters, is_learned in zip(plain.filters.detach(), plain.learned, strict=True):
        if is_learned:
            total, learned = total + filters.numel(), learned + filters.numel()
        elif not torch.equal(filters, identity.expand_as(filters)):
            total += int((filters != 0).sum())
    full = 0 if plain.full is None else plain.full.numel()
    return total + full, learned + full
