"""Choice of the number of steps: stop when the states converge, or when more steps do not improve a metric."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from delira_nca.checks import is_whole, require_number, require_type, require_whole, require_wholes
from delira_nca.errors import ConfigError, require_choice
from delira_nca.evaluation.runs import evaluating
from delira_nca.models import BasicNCAModel, Prediction
from delira_nca.models.compiled import unwrapped
from delira_nca.models.inputs import as_weights
from delira_nca.models.network import entry
from delira_nca.rollout import trajectory
from delira_nca.rollout.job import BatchPart, at_part, current_part

__all__ = ["AutoStepper", "AutoSteps", "StepCurve", "quality_over_steps"]

_LOGGER = logging.getLogger("delira_nca")

_CHUNK = 8
"""Steps per call of the roll-out. All their states are in memory, and at most one less is computed needlessly."""


@dataclass(frozen=True)
class AutoSteps:
    """Result of an :class:`AutoStepper`.

    Attributes
    ----------
    prediction : Prediction
        Prediction from the states, each after the number of steps of its sample.
    steps : Tensor
        (B,) number of steps of each sample.
    converged : Tensor
        (B,) whether the sample converged before the maximum number of steps.
    """

    prediction: Prediction
    steps: Tensor
    converged: Tensor

    @property
    def state(self) -> Tensor:
        """States, (B, C, *spatial)."""
        return self.prediction.output_image


class AutoStepper:
    """Roll out until every sample of a batch has converged.

    A sample has converged when the change in ``plateau`` consecutive steps is below ``threshold``. The change is the
    mean absolute change over all cells and hidden channels (all mutable channels if the model has no hidden ones).

    Parameters
    ----------
    min_steps : int
        Minimum number of steps.
    max_steps : int
        Maximum number of steps.
    plateau : int
        Number of consecutive steps with a change below the threshold.
    threshold : float
        Upper limit of the change per step.
    verbose : bool
        Whether to log the numbers of steps.
    relative : bool
        Whether to divide the change by the mean absolute value before the step.

    Notes
    -----
    The state of a sample that stops after ``n`` steps is that of ``model.predict`` with ``n`` steps and the same seed.
    With a fire rate below 1, a single step may have a small change because few cells fire; use a plateau of several
    steps.

    Examples
    --------
    >>> from delira_nca.models import BasicNCAModel, presets
    >>> model = BasicNCAModel(**presets.growing())  # fresh: it changes nothing
    >>> AutoStepper(min_steps=10, plateau=5)(model, torch.rand(2, 16, 8, 8)).steps.tolist()
    [10, 10]
    """

    def __init__(
        self,
        min_steps: int = 10,
        max_steps: int = 100,
        plateau: int = 5,
        *,
        threshold: float = 1e-2,
        verbose: bool = False,
        relative: bool = False,
    ) -> None:
        for name, number, least in (("min_steps", min_steps, 0), ("max_steps", max_steps, 1), ("plateau", plateau, 1)):
            require_whole(name, number, least)
        if min_steps > max_steps:
            raise ConfigError(f"min_steps is at most max_steps, not {min_steps} with {max_steps}")
        require_number("threshold", threshold, above=0)
        self.min_steps, self.max_steps, self.plateau = min_steps, max_steps, plateau
        self.threshold, self.verbose, self.relative = threshold, verbose, relative

    def __call__(self, nca: BasicNCAModel, x: Tensor, *, seed: int = 0, goal: Tensor | int | None = None) -> AutoSteps:
        """Roll out images or states.

        Parameters
        ----------
        nca : BasicNCAModel
            Automaton.
        x : Tensor
            (B, num_image_channels, *spatial) images or (B, C, *spatial) states. They are not changed.
        seed : int
            Seed of all random numbers.
        goal : Tensor, int or None
            Goal of each sample, for a model with a conditioning.

        Raises
        ------
        ConfigError
            If the model is not a :class:`BasicNCAModel`, for instance a pyramid.
        """
        nca = unwrapped(nca)
        require_type("nca", nca, BasicNCAModel)
        with evaluating(nca):
            state = nca.initial_state(as_weights(x.to(nca.device), nca), seed)
            state, steps, quiet = self._roll_out(nca, state, seed, goal)
            prediction = nca(state, 0, seed=seed, goal=goal)
        prediction.steps = int(steps.max()) if len(steps) else 0
        converged = quiet >= self.plateau
        if self.verbose:
            _LOGGER.info("stopped after %s steps; at rest: %s", steps.tolist(), converged.tolist())
        return AutoSteps(prediction, steps, converged)

    def _roll_out(
        self, nca: BasicNCAModel, state: Tensor, seed: int, goal: Tensor | int | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return states, numbers of steps and numbers of consecutive steps below the threshold of each sample."""
        final, samples = state.clone(), len(state)
        steps, quiet = torch.zeros(samples, dtype=torch.long), torch.zeros(samples, dtype=torch.long)
        going = torch.ones(samples, dtype=torch.bool)
        done, first = 0, 0
        while done < self.max_steps and going.any():
            left = going.nonzero().flatten()
            lo, hi = int(left[0]), int(left[-1]) + 1  # a contiguous range, as masks depend on the index of a sample
            state, first = state[lo - first : hi - first], lo
            chunk = min(_CHUNK, self.max_steps - done)
            cell = nca.with_goal(goal[lo:hi] if isinstance(goal, Tensor) else goal, hi - lo)
            with at_part(_part(lo, hi, samples)):
                states = trajectory(state, cell, chunk, start=done, seed=seed)
            for n in range(1, chunk + 1):
                calm = torch.zeros(samples, dtype=torch.bool)
                calm[lo:hi] = (self._change(nca, state, states[n]) < self.threshold).cpu()
                state, done = states[n], done + 1
                quiet[going] = (quiet[going] + 1) * calm[going]
                steps[going] = done
                stops = going & (((quiet >= self.plateau) & (done >= self.min_steps)) | (done == self.max_steps))
                rows = stops.nonzero().flatten()
                final[rows.to(final.device)] = state[(rows - lo).to(state.device)]
                going &= ~stops
        return final, steps, quiet

    def _change(self, nca: BasicNCAModel, before: Tensor, after: Tensor) -> Tensor:
        """Return the mean absolute change, (B,)."""
        first, number = nca.num_image_channels, nca.num_hidden_channels
        part = slice(first, first + number) if number else slice(nca.num_fixed_channels, None)
        change = (after[:, part] - before[:, part]).abs().flatten(1).mean(1)
        if not self.relative:
            return change
        return torch.where(change == 0, 0.0, change / before[:, part].abs().flatten(1).mean(1))


def _part(first: int, last: int, samples: int) -> BatchPart:
    """Return rows of the current batch, which may itself be a part of a batch."""
    whole = current_part()
    before, total = (0, samples) if whole is None else (whole.first, whole.total)
    return BatchPart(before + first, last - first, total)


@dataclass(frozen=True)
class StepCurve:
    """Value of a metric for several numbers of steps.

    Attributes
    ----------
    steps : tuple of int
        Numbers of steps in ascending order.
    values : tuple of float
        Value of the metric after each number of steps.
    best : int
        Smallest number of steps with the best value.
    chosen : int
        Smallest number of steps with a value within ``eps`` of the best.
    mode : str
        Which value is best, ``"highest"`` or ``"lowest"``.
    eps : float
        Accepted difference from the best value.
    """

    steps: tuple[int, ...]
    values: tuple[float, ...]
    best: int
    chosen: int
    mode: str
    eps: float

    def to_dict(self) -> dict[str, Any]:
        """Return the attributes as plain values."""
        return asdict(self)


def quality_over_steps(
    model: BasicNCAModel,
    data: Mapping[str, Tensor] | Iterable[Mapping[str, Tensor]],
    metric: Callable[[Tensor, Tensor], Tensor | float],
    steps: int | Sequence[int],
    *,
    mode: str = "highest",
    eps: float = 0.01,
    seed: int = 0,
) -> StepCurve:
    """Compute a metric after several numbers of steps, with one roll-out per batch.

    Parameters
    ----------
    model : BasicNCAModel
        Automaton.
    data : dict or iterable of dict
        One or several batches with ``"data"`` and ``"label"``, and ``"goal"`` for a model with a conditioning.
    metric : callable
        Function of (prediction, label). The mean over batches is weighted by the number of samples.
    steps : int or sequence of int
        Numbers of steps, or the largest number, for all from 1 on.
    mode : {"highest", "lowest"}
        Which value of the metric is best.
    eps : float
        Absolute difference from the best value up to which a smaller number of steps is chosen.
    seed : int
        Seed of the roll-outs.

    Raises
    ------
    ConfigError, UnknownNameError
        If there are no steps, no batches, or no finite values.

    Examples
    --------
    >>> from delira_nca.losses import mse
    >>> from delira_nca.models import presets
    >>> batch = {"data": torch.zeros(1, 16, 8, 8), "label": torch.zeros(1, 4, 8, 8)}
    >>> quality_over_steps(BasicNCAModel(**presets.growing()), batch, mse, 3, mode="lowest").values
    (0.0, 0.0, 0.0)
    """
    require_choice("mode", mode, ("highest", "lowest"))
    wanted = sorted(set(require_wholes("steps", range(1, steps + 1) if is_whole(steps) else steps, 0)))
    require_number("eps", eps, 0)
    sums, samples = dict.fromkeys(wanted, 0.0), 0
    with evaluating(model):
        for batch in [data] if isinstance(data, Mapping) else data:
            image, label = (entry(batch, key, "quality_over_steps") for key in ("data", "label"))
            label, samples = label.to(model.device), samples + len(image)
            goal = batch.get("goal")
            for prediction in model.record(image, wanted[-1], seed=seed, keep=wanted, goal=goal):
                sums[prediction.steps] += float(metric(prediction.pred, label)) * len(image)
    if not samples:
        raise ConfigError("there is no batch to measure")
    values = [sums[n] / samples for n in wanted]
    sign = 1.0 if mode == "highest" else -1.0
    ranked = [-math.inf if math.isnan(value) else sign * value for value in values]
    top = max(ranked)
    if not math.isfinite(top):
        raise ConfigError("the metric is finite after no number of steps")
    chosen = next(n for n, value in zip(wanted, ranked, strict=True) if value >= top - eps)
    return StepCurve(tuple(wanted), tuple(values), wanted[ranked.index(top)], chosen, mode, float(eps))
