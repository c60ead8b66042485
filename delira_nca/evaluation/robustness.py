"""Tests of the persistence and regeneration of patterns."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from delira_nca.checks import require_whole
from delira_nca.errors import ShapeError
from delira_nca.evaluation.holes import standard_holes
from delira_nca.evaluation.runs import evaluating
from delira_nca.models import BasicNCAModel, make_seed

__all__ = ["HoleRow", "PersistenceRow", "RobustnessReport", "persistence", "regeneration", "robustness_report"]


@dataclass(frozen=True)
class PersistenceRow:
    """Error after a multiple of the horizon.

    Attributes
    ----------
    multiple, steps : int
        Duration as a multiple of the horizon, and in steps.
    error, spread : float
        Mean and standard deviation of the mean squared error over the runs.
    """

    multiple: int
    steps: int
    error: float
    spread: float


@dataclass(frozen=True)
class HoleRow:
    """Regeneration of one hole.

    Attributes
    ----------
    hole : str
        Name of the hole.
    share : float
        Fraction of destroyed cells.
    before, damaged, recovered : float
        Mean squared error before the damage, after it and after the recovery, averaged over the runs.
    score : float or None
        (damaged - recovered) / (damaged - before): 1 if as good as before, 0 if as bad as after the damage, below 0 if
        worse; None if the damage did not increase the error.
    spread : float or None
        Standard deviation of the score over the runs; None without a score.
    """

    hole: str
    share: float
    before: float
    damaged: float
    recovered: float
    score: float | None
    spread: float | None


@dataclass(frozen=True)
class RobustnessReport:
    """Results of all tests.

    Attributes
    ----------
    horizon, recovery : int
        Number of steps of the training, and of the recovery from a hole.
    runs, seed : int
        Number of runs, and their seed.
    persistence, regeneration : tuple of PersistenceRow, tuple of HoleRow
        Results of the tests.
    """

    horizon: int
    recovery: int
    runs: int
    seed: int
    persistence: tuple[PersistenceRow, ...]
    regeneration: tuple[HoleRow, ...]

    @property
    def persistence_ratio(self) -> float:
        """Largest error after several horizons divided by that after one; infinite if states diverge or that is 0."""
        return _ratio(max(row.error for row in self.persistence), self.persistence[0].error)

    @property
    def regeneration_score(self) -> float | None:
        """Mean score of the holes that increased the error; None if none did."""
        scores = [row.score for row in self.regeneration if row.score is not None]
        return sum(scores) / len(scores) if scores else None

    @property
    def recovery_ratio(self) -> float:
        """Mean error after the recovery divided by that before; infinite if states diverge or the latter is 0."""
        return _ratio(sum(row.recovered for row in self.regeneration), sum(row.before for row in self.regeneration))

    def rows(self) -> list[dict[str, Any]]:
        """Return all rows with the name of the test, for a table."""
        return [
            *({"test": "persistence", **asdict(row)} for row in self.persistence),
            *({"test": "regeneration", **asdict(row)} for row in self.regeneration),
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return the report and its summaries as plain values."""
        names = ("persistence_ratio", "recovery_ratio", "regeneration_score")
        return {**asdict(self), **{name: getattr(self, name) for name in names}}


def _ratio(after: float, before: float) -> float:
    if not math.isfinite(after):
        return math.inf
    return 1.0 if after == before else after / before if before else math.inf


def _starts(model: BasicNCAModel, target: Tensor, state: Tensor | None, runs: int) -> Tensor:
    """Return the initial states, (runs, C, *spatial)."""
    require_whole("runs", runs, 1)
    if state is None:
        first = max(model.num_image_channels - 1, 0)
        state = make_seed(model.num_channels, target.shape[1:], first_channel=first)
    if state.shape != (model.num_channels, *target.shape[1:]):
        expected = (model.num_channels, *target.shape[1:])
        raise ShapeError(f"the state to begin with is {expected}, like the target, not {tuple(state.shape)}")
    return state.to(model.device).expand(runs, *state.shape).clone()


def _errors(model: BasicNCAModel, states: Tensor, target: Tensor, goal: Tensor | int | None) -> Tensor:
    """Return the mean squared errors, (runs,); infinite for NaN."""
    pred = model(states, 0, seed=0, goal=goal).pred
    if pred.shape[1:] != target.shape:
        raise ShapeError(f"the target is {tuple(pred.shape[1:])}, like the prediction, not {tuple(target.shape)}")
    errors: Tensor = (pred.double() - target.to(pred).double()).square().flatten(1).mean(1)
    return errors.nan_to_num(math.inf, math.inf)


def _horizon(model: BasicNCAModel, horizon: int | None) -> int:
    if horizon is None:
        steps = model.training_timesteps
        horizon = steps if isinstance(steps, int) else steps[1] - 1
    return require_whole("horizon", horizon, 1)


def _std(values: Tensor) -> float:
    return float(values.std(correction=0)) if bool(values.isfinite().all()) else math.inf


def persistence(
    model: BasicNCAModel,
    target: Tensor,
    horizon: int | None = None,
    *,
    multiples: int = 4,
    state: Tensor | None = None,
    runs: int = 3,
    seed: int = 0,
    goal: Tensor | int | None = None,
) -> tuple[PersistenceRow, ...]:
    """Measure the error after 1, 2, ... times the horizon in one roll-out.

    Parameters
    ----------
    model : BasicNCAModel
        Growing model.
    target : Tensor
        (c, *spatial) target of the prediction.
    horizon : int or None
        Number of steps; the largest number of steps of the training by default.
    multiples : int
        Duration of the roll-out as a multiple of the horizon.
    state : Tensor or None
        (C, *spatial) initial state; one living cell in the middle by default.
    runs : int
        Number of samples, each with its own fire masks.
    seed : int
        Seed of the masks.
    goal : Tensor, int or None
        Goal that corresponds to the target, for a model with a conditioning.
    """
    steps = _horizon(model, horizon)
    require_whole("multiples", multiples, 1)
    rows = []
    with evaluating(model):
        states = _starts(model, target, state, runs)
        for multiple in range(1, multiples + 1):
            states = model(states, steps, start=(multiple - 1) * steps, seed=seed, goal=goal).output_image
            errors = _errors(model, states, target, goal)
            rows.append(PersistenceRow(multiple, multiple * steps, float(errors.mean()), _std(errors)))
    return tuple(rows)


def regeneration(
    model: BasicNCAModel,
    target: Tensor,
    horizon: int | None = None,
    *,
    recovery: int | None = None,
    holes: Mapping[str, Tensor] | None = None,
    state: Tensor | None = None,
    runs: int = 3,
    seed: int = 0,
    goal: Tensor | int | None = None,
) -> tuple[HoleRow, ...]:
    r"""Measure the recovery from damage: grow for one horizon, destroy cells, and grow again, for each hole.

    Parameters
    ----------
    model, target, horizon, state, runs, seed, goal
        See :func:`persistence`. All holes are applied to the same states.
    recovery : int or None
        Number of steps after the damage; the horizon by default.
    holes : dict or None
        (\*spatial) bool tensors by name; :func:`standard_holes` with the seed by default. All channels of destroyed
        cells are set to 0.
    """
    steps = _horizon(model, horizon)
    after = steps if recovery is None else _horizon(model, recovery)
    holes = standard_holes(tuple(target.shape[1:]), seed) if holes is None else holes
    for name, hole in holes.items():
        if hole.shape != target.shape[1:] or hole.dtype != torch.bool:
            expected = tuple(target.shape[1:])
            raise ShapeError(f"hole {name!r} is a bool tensor of {expected}, not {hole.dtype} of {tuple(hole.shape)}")
    rows = []
    with evaluating(model):
        grown = model(_starts(model, target, state, runs), steps, seed=seed, goal=goal).output_image
        before = _errors(model, grown, target, goal)
        for name, hole in holes.items():
            broken = torch.where(hole.to(grown.device), 0.0, grown)
            damaged = _errors(model, broken, target, goal)
            healed = model(broken, after, start=steps, seed=seed, goal=goal).output_image
            recovered = _errors(model, healed, target, goal)
            rows.append(_hole_row(name, hole, before, damaged, recovered))
    return tuple(rows)


def _hole_row(name: str, hole: Tensor, before: Tensor, damaged: Tensor, recovered: Tensor) -> HoleRow:
    error, worse, better = (float(errors.mean()) for errors in (before, damaged, recovered))
    harm = worse - error
    score = (worse - better) / harm if 0 < harm < math.inf else None
    spread = _std((damaged - recovered) / (damaged - before)) if score is not None else None
    return HoleRow(name, float(hole.double().mean()), error, worse, better, score, spread)


def robustness_report(
    model: BasicNCAModel,
    target: Tensor,
    horizon: int | None = None,
    *,
    multiples: int = 4,
    recovery: int | None = None,
    state: Tensor | None = None,
    runs: int = 3,
    seed: int = 0,
    goal: Tensor | int | None = None,
) -> RobustnessReport:
    """Test persistence and regeneration. See :func:`persistence` and :func:`regeneration` for the parameters.

    Examples
    --------
    >>> from delira_nca.models import presets
    >>> model = BasicNCAModel(**presets.growing())  # fresh: nothing ever changes
    >>> report = robustness_report(model, torch.ones(4, 16, 16), horizon=4)
    >>> report.persistence_ratio, report.regeneration_score
    (1.0, 0.0)
    """
    steps = _horizon(model, horizon)
    lasting = persistence(model, target, steps, multiples=multiples, state=state, runs=runs, seed=seed, goal=goal)
    healing = regeneration(model, target, steps, recovery=recovery, state=state, runs=runs, seed=seed, goal=goal)
    return RobustnessReport(steps, recovery or steps, runs, seed, lasting, healing)
