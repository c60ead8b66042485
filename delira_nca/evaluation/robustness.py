"""Whether a pattern lasts, and whether it grows again where it was destroyed."""

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

__all__ = [
    "HoleRow",
    "PersistenceRow",
    "RobustnessReport",
    "persistence",
    "regeneration",
    "robustness_report",
]


@dataclass(frozen=True)
class PersistenceRow:
    """Error after a multiple of the horizon.

    Attributes
    ----------
    multiple, steps : int
        Of the horizon, and in steps.
    error, spread : float
        Mean squared error, averaged over the runs, and its standard deviation over them.
    """

    multiple: int
    steps: int
    error: float
    spread: float


@dataclass(frozen=True)
class HoleRow:
    """What became of one hole.

    Attributes
    ----------
    hole : str
        Name.
    share : float
        Of the cells that were destroyed.
    before, damaged, recovered : float
        Mean squared errors, averaged over the runs.
    score : float or None
        (damaged - recovered) / (damaged - before): 1 is as good as before, 0 as bad as damaged, below 0 worse; None
        where the hole did no harm.
    spread : float or None
        Standard deviation of the score over the runs; None where there is no score.
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
    """Rows of all tests.

    Attributes
    ----------
    horizon, recovery : int
        Steps of a training, and steps that a hole has to heal.
    runs, seed : int
        How often everything was done, and from which seed.
    persistence, regeneration : tuple of PersistenceRow, tuple of HoleRow
        Rows.
    """

    horizon: int
    recovery: int
    runs: int
    seed: int
    persistence: tuple[PersistenceRow, ...]
    regeneration: tuple[HoleRow, ...]

    @property
    def persistence_ratio(self) -> float:
        """Largest error after several horizons, over that after one; infinite for what explodes, or was perfect."""
        return _ratio(max(row.error for row in self.persistence), self.persistence[0].error)

    @property
    def regeneration_score(self) -> float | None:
        """Mean score of the holes that did harm; None if none did."""
        scores = [row.score for row in self.regeneration if row.score is not None]
        return sum(scores) / len(scores) if scores else None

    @property
    def recovery_ratio(self) -> float:
        """Mean error after the recovery of all holes, over that before; infinite for what explodes, or was perfect."""
        return _ratio(sum(row.recovered for row in self.regeneration), sum(row.before for row in self.regeneration))

    def rows(self) -> list[dict[str, Any]]:
        """All rows, with the name of the test, for a table."""
        return [
            *({"test": "persistence", **asdict(row)} for row in self.persistence),
            *({"test": "regeneration", **asdict(row)} for row in self.regeneration),
        ]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, with the summaries."""
        names = ("persistence_ratio", "recovery_ratio", "regeneration_score")
        return {**asdict(self), **{name: getattr(self, name) for name in names}}


def _ratio(after: float, before: float) -> float:
    if not math.isfinite(after):
        return math.inf
    return 1.0 if after == before else after / before if before else math.inf


def _starts(model: BasicNCAModel, target: Tensor, state: Tensor | None, runs: int) -> Tensor:
    """(runs, C, *spatial) states to begin with."""
    require_whole("runs", runs, 1)
    if state is None:
        first = max(model.num_image_channels - 1, 0)
        state = make_seed(model.num_channels, target.shape[1:], first_channel=first)
    if state.shape != (model.num_channels, *target.shape[1:]):
        expected = (model.num_channels, *target.shape[1:])
        raise ShapeError(f"the state to begin with is {expected}, like the target, not {tuple(state.shape)}")
    return state.to(model.device).expand(runs, *state.shape).clone()


def _errors(model: BasicNCAModel, states: Tensor, target: Tensor, goal: Tensor | int | None) -> Tensor:
    """(runs,) mean squared errors; infinite for what is not a number any more."""
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
    """Error after 1, 2, ... times the horizon, along one roll-out.

    Parameters
    ----------
    model : BasicNCAModel
        A growing model.
    target : Tensor
        (c, *spatial) what it grows, compared with what it predicts.
    horizon : int or None
        Steps; the largest number of its training by default.
    multiples : int
        How many times the horizon the roll-out goes on.
    state : Tensor or None
        (C, *spatial) to begin with; one living cell in the middle by default.
    runs : int
        Samples with fire masks of their own.
    seed : int
        Of the masks.
    goal : Tensor, int or None
        Of a model with a conditioning, the one whose target this is.

    Raises
    ------
    ConfigError, ShapeError
        If a number is out of range, or the target or the state does not fit.
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
    r"""Grow for one horizon, destroy, grow again, for one hole after the other.

    Parameters
    ----------
    model, target, horizon, state, runs, seed, goal : BasicNCAModel, Tensor, int or None, Tensor or None, int, Tensor, int or None
        As of :func:`persistence`. All holes meet the same states.
    recovery : int or None
        Steps after the damage; the horizon by default.
    holes : dict or None
        Name to (\*spatial) bool tensor; :func:`standard_holes` of the seed by default. All channels become 0.

    Raises
    ------
    ConfigError, ShapeError
        If a number is out of range, or the target, the state or a hole does not fit.
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
    """Report on persistence and regeneration; parameters as of :func:`persistence` and :func:`regeneration`.

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
