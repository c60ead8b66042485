"""How many steps are enough: stop where an automaton has come to rest, or where more steps no longer help."""

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
from delira_nca.models.pytorch_network import entry
from delira_nca.rollout import trajectory
from delira_nca.rollout.job import BatchPart, at_part, current_part

__all__ = ["AutoStepper", "AutoSteps", "StepCurve", "quality_over_steps"]

_LOGGER = logging.getLogger("delira_nca")

_CHUNK = 8
"""Steps of one call of the roll-out: all their states are held at once, and at most so many but one are in vain."""


@dataclass(frozen=True)
class AutoSteps:
    """Where an automaton came to rest.

    Attributes
    ----------
    prediction : Prediction
        Of the states, each after its own number of steps.
    steps : Tensor
        (B,) number of steps of each sample.
    converged : Tensor
        (B,) whether the sample came to rest; otherwise it was stopped after the largest number of steps.
    """

    prediction: Prediction
    steps: Tensor
    converged: Tensor

    @property
    def state(self) -> Tensor:
        """(B, C, *spatial) states."""
        return self.prediction.output_image


class AutoStepper:
    """Roll out until every sample of a batch has come to rest.

    A sample rests when ``plateau`` steps in a row change it by less than ``threshold``: the mean absolute change over
    its cells and hidden channels (over all that can change, in a model without hidden ones).

    Parameters
    ----------
    min_steps : int
        A sample never stops before.
    max_steps : int
        It always stops then.
    plateau : int
        Quiet steps in a row.
    threshold : float
        A step with a smaller change is quiet.
    verbose : bool
        Whether the numbers of steps are logged.
    relative : bool
        Whether a change is divided by the mean absolute value before the step.

    Raises
    ------
    ConfigError
        If the numbers contradict each other.

    Notes
    -----
    The state of a sample that stops after ``n`` steps is that of ``model.predict`` with so many steps and the same
    seed. An automaton whose fire rate is below 1 rests where its update is zero, not where few cells fire: take a
    plateau of several steps.

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
        """Roll images or states out.

        Parameters
        ----------
        nca : BasicNCAModel
            The automaton.
        x : Tensor
            (B, num_image_channels, *spatial) images or (B, C, *spatial) states. They are not changed.
        seed : int
            Of everything random.
        goal : Tensor, int or None
            Of each sample, for a model with a conditioning.

        Raises
        ------
        ConfigError
            If the model is no automaton that can be stepped, such as a pyramid.
        """
        require_type("nca", nca, BasicNCAModel)
        with evaluating(nca):
            state = nca.record(x, 0, seed=seed, keep=[0], goal=goal)[0].output_image
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
        """States, steps and quiet steps in a row of each sample."""
        final, samples = state.clone(), len(state)
        steps, quiet = torch.zeros(samples, dtype=torch.long), torch.zeros(samples, dtype=torch.long)
        going = torch.ones(samples, dtype=torch.bool)
        done, first = 0, 0
        while done < self.max_steps and going.any():
            left = going.nonzero().flatten()
            lo, hi = int(left[0]), int(left[-1]) + 1  # samples in a row: their masks depend on their numbers
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
        """(B,) mean absolute change."""
        first, number = nca.num_image_channels, nca.num_hidden_channels
        part = slice(first, first + number) if number else slice(nca.num_fixed_channels, None)
        change = (after[:, part] - before[:, part]).abs().flatten(1).mean(1)
        if not self.relative:
            return change
        return torch.where(change == 0, 0.0, change / before[:, part].abs().flatten(1).mean(1))


def _part(first: int, last: int, samples: int) -> BatchPart:
    """Rows of what is itself, maybe, a part of a batch."""
    whole = current_part()
    before, total = (0, samples) if whole is None else (whole.first, whole.total)
    return BatchPart(before + first, last - first, total)


@dataclass(frozen=True)
class StepCurve:
    """Quality after every number of steps.

    Attributes
    ----------
    steps, values : tuple of int, tuple of float
        Ascending numbers of steps, and the metric after each.
    best : int
        Number of steps with the best value; the smallest of several.
    chosen : int
        Smallest number of steps whose value is within ``eps`` of the best.
    mode, eps : str, float
        Which way is better, and how much may be missing.
    """

    steps: tuple[int, ...]
    values: tuple[float, ...]
    best: int
    chosen: int
    mode: str
    eps: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
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
    """Measure a model after several numbers of steps, each batch being rolled out once.

    Parameters
    ----------
    model : BasicNCAModel
        The automaton.
    data : dict or iterable of dict
        Batch with ``"data"`` and ``"label"``, and ``"goal"`` for a model with a conditioning; or several.
    metric : callable
        Of (prediction, label), averaged over the batches by their numbers of samples.
    steps : int or sequence of int
        Numbers of steps, or the largest of all.
    mode : str
        ``"highest"`` or ``"lowest"`` is best.
    eps : float
        How far from the best value, absolutely, a smaller number of steps is as good.
    seed : int
        Of the roll-outs.

    Raises
    ------
    ConfigError, UnknownNameError
        If there are no steps, no batch, or no finite value.

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
