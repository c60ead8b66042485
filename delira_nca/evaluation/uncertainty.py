"""Uncertainty of predictions from the spread of stochastic roll-outs, or of the last steps of one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from delira_nca.checks import require_whole
from delira_nca.errors import ConfigError, require_choice
from delira_nca.evaluation.runs import Activation, Runs, Steps, probabilities, stochastic_runs
from delira_nca.evaluation.spread import deviation, disagreement, entropy, mutual_information, nqm, pairwise_dice
from delira_nca.models import BasicNCAModel, interpret_range_parameter
from delira_nca.models.compiled import unwrapped
from delira_nca.rollout import DEFAULT_MEMORY_BUDGET
from delira_nca.seeding import generator

__all__ = ["MCMC", "NQM", "Disagreement", "Entropy", "Estimate", "MutualInformation", "UncertaintyEstimator"]

REDUCTIONS = ("mean", "min", "max")


class Estimate(NamedTuple):
    """Result of an estimator.

    Attributes
    ----------
    heatmap : Tensor
        (B, C, *spatial) uncertainty of every cell.
    predictions : Tensor
        (N, B, C, *spatial) probabilities of every run, or of each of the last steps.
    score : Tensor
        (B, C) uncertainty of every image; higher is worse for every estimator.
    """

    heatmap: Tensor
    predictions: Tensor
    score: Tensor


def _reduced(heatmap: Tensor, reduce: str) -> Tensor:
    """Reduce (B, C, *spatial) to (B, C)."""
    flat = heatmap.reshape(*heatmap.shape[:2], -1)
    return flat.mean(2) if reduce == "mean" else flat.amin(2) if reduce == "min" else flat.amax(2)


class UncertaintyEstimator(ABC):
    """Base class of estimators of uncertainty. Subclasses define the predictions and the measure of their spread.

    Parameters
    ----------
    nca : object
        Model with ``predict`` or ``forward_batch``, for binary or multi-class predictions.
    normalize : bool
        Whether to scale the heatmap to a maximum of 1 per image and channel, for display. The score is computed from
        the unscaled heatmap.
    seed : int
        Seed of all random numbers.
    steps : int, sequence of int or None
        Number of steps; that of the model by default.
    activation : str or callable
        Function that maps logits to probabilities; see :func:`~delira_nca.evaluation.stochastic_runs`.
    """

    def __init__(
        self,
        nca: Any,
        *,
        normalize: bool = False,
        seed: int = 0,
        steps: Steps | None = None,
        activation: Activation = "auto",
    ) -> None:
        self.nca, self.normalize, self.seed = unwrapped(nca), normalize, seed
        self.steps, self.activation = steps, activation

    @abstractmethod
    def runs(self, image: Any) -> Runs:
        """Return the predictions to compare."""

    @abstractmethod
    def heatmap(self, runs: Runs) -> Tensor:
        """Return the uncertainty of every cell, (B, C, *spatial)."""

    def score(self, runs: Runs, heatmap: Tensor, reduce: str) -> Tensor:
        """Return the uncertainty of every image, (B, C): the heatmap reduced over the cells."""
        return _reduced(heatmap, reduce)

    def estimate(self, image: Any, reduce: str = "mean") -> Estimate:
        """Estimate the uncertainty of predictions for images.

        Parameters
        ----------
        image : object
            (B, channels, *spatial) images, or a batch, a dict with ``"data"``. They are not changed.
        reduce : {"mean", "min", "max"}
            Reduction of the heatmap to the score of an image.

        Returns
        -------
        Estimate
            Named tuple of heatmap, predictions and score.
        """
        require_choice("reduction", reduce, REDUCTIONS)
        runs = self.runs(image)
        heatmap = self.heatmap(runs)
        score = self.score(runs, heatmap, reduce)
        if self.normalize:
            largest = _reduced(heatmap, "max").view(*heatmap.shape[:2], *[1] * (heatmap.dim() - 2))
            heatmap = torch.where(largest == 0, 0.0, heatmap / largest)
        return Estimate(heatmap, runs.predictions, score)

    def __call__(self, image: Any, reduce: str = "mean") -> Estimate:
        """Same as :meth:`estimate`."""
        return self.estimate(image, reduce)


class _OfRuns(UncertaintyEstimator):
    """Estimator over several stochastic roll-outs; see :class:`NQM`."""

    def __init__(
        self,
        nca: Any,
        N: int = 10,  # noqa: N803
        normalize: bool = False,
        *,
        seed: int = 0,
        steps: Steps | None = None,
        activation: Activation = "auto",
        memory_budget: int = DEFAULT_MEMORY_BUDGET,
    ) -> None:
        super().__init__(nca, normalize=normalize, seed=seed, steps=steps, activation=activation)
        self.N, self.memory_budget = require_whole("N", N, 2), memory_budget

    def runs(self, image: Any) -> Runs:
        """Return N stochastic roll-outs."""
        return stochastic_runs(
            self.nca,
            image,
            self.N,
            seed=self.seed,
            steps=self.steps,
            activation=self.activation,
            memory_budget=self.memory_budget,
        )


class NQM(_OfRuns):
    """NCA quality metric: spread of stochastic roll-outs relative to their mean.

    The heatmap is the standard deviation of the probabilities over the runs. The score is its mean over the cells,
    divided by the mean probability: with ``reduce="mean"`` it is the metric of M3D-NCA, the sum of the standard
    deviations divided by the sum of the means. With ``"min"`` and ``"max"``, the smallest and the largest deviation is
    divided.

    Parameters
    ----------
    nca, N, normalize
        Arguments of NCALab: the model, the number of roll-outs (at least 2), and whether to scale the heatmap
        to a maximum of 1.
    seed, steps, activation, memory_budget
        See :func:`~delira_nca.evaluation.stochastic_runs`.

    Notes
    -----
    Kalkhof et al. (2023), "M3D-NCA: Robust 3D Segmentation with Built-In Quality Control".

    Examples
    --------
    >>> from delira_nca.models import BasicNCAModel
    >>> model = BasicNCAModel(num_image_channels=1, num_hidden_channels=4, num_output_channels=1, fire_rate=1.0)
    >>> heatmap, predictions, score = NQM(model, N=4, steps=3).estimate(torch.rand(2, 1, 8, 8))
    >>> predictions.shape, score.tolist()
    (torch.Size([4, 2, 1, 8, 8]), [[0.0], [0.0]])
    """

    def heatmap(self, runs: Runs) -> Tensor:
        """Return the standard deviation over the runs."""
        return deviation(runs.predictions)

    def score(self, runs: Runs, heatmap: Tensor, reduce: str) -> Tensor:
        """Return the reduced deviation divided by the mean probability."""
        if reduce == "mean":
            return nqm(runs.predictions)
        part, whole = _reduced(heatmap, reduce), _reduced(runs.predictions.mean(0), "mean")
        return torch.where(part == 0, 0.0, part / whole)


class Entropy(_OfRuns):
    """Entropy of the mean of stochastic roll-outs in nats, which includes the uncertainty of every single run.

    The parameters are those of :class:`NQM`. Exclusive classes share one heatmap and one score, (B, 1, ...).
    """

    def heatmap(self, runs: Runs) -> Tensor:
        """Return the entropy of the mean prediction."""
        return entropy(runs.predictions, exclusive=runs.exclusive)


class MutualInformation(_OfRuns):
    """Mutual information of run and prediction in nats, which measures only the differences between runs.

    The parameters are those of :class:`NQM`. Exclusive classes share one heatmap and one score, (B, 1, ...).
    """

    def heatmap(self, runs: Runs) -> Tensor:
        """Return the entropy of the mean minus the mean entropy."""
        return mutual_information(runs.predictions, exclusive=runs.exclusive)


class Disagreement(_OfRuns):
    """One minus the mean Dice score between the decisions of two stochastic roll-outs.

    The heatmap is the fraction of the pairs of runs with different decisions about a cell. With ``reduce="mean"``, the
    score is that of the whole masks, independent of their size; otherwise the heatmap is reduced. The parameters are
    those of :class:`NQM`. :func:`~delira_nca.evaluation.pairwise_dice` computes the agreement itself.
    """

    def heatmap(self, runs: Runs) -> Tensor:
        """Return the fraction of the pairs of runs with different decisions."""
        return disagreement(runs.predictions, exclusive=runs.exclusive)

    def score(self, runs: Runs, heatmap: Tensor, reduce: str) -> Tensor:
        """Return one minus the mean pairwise Dice score."""
        if reduce != "mean":
            return _reduced(heatmap, reduce)
        return 1 - pairwise_dice(runs.predictions, exclusive=runs.exclusive)


class MCMC(UncertaintyEstimator):
    """Standard deviation of the probabilities over the last steps of one roll-out.

    Parameters
    ----------
    nca : object
        Model with ``record``: an automaton, or a pyramid, for which the last steps are those of the finest level.
    N_last : int
        Number of last steps, at least 2.
    normalize, seed, steps, activation
        See :class:`NQM`.

    Raises
    ------
    ConfigError
        If the model has no ``record``, or the roll-out has fewer steps.

    Examples
    --------
    >>> from delira_nca.models import BasicNCAModel
    >>> model = BasicNCAModel(num_image_channels=1, num_hidden_channels=4, num_output_channels=1)
    >>> MCMC(model, N_last=3, steps=8).estimate(torch.rand(2, 1, 8, 8)).predictions.shape
    torch.Size([3, 2, 1, 8, 8])
    """

    def __init__(
        self,
        nca: Any,
        N_last: int = 10,  # noqa: N803
        normalize: bool = False,
        *,
        seed: int = 0,
        steps: Steps | None = None,
        activation: Activation = "auto",
    ) -> None:
        super().__init__(nca, normalize=normalize, seed=seed, steps=steps, activation=activation)
        self.N_last = require_whole("N_last", N_last, 2)
        if not hasattr(self.nca, "record"):
            raise ConfigError(f"{type(nca).__name__} has no record(): its last steps are not available")

    def runs(self, image: Any) -> Runs:
        """Return the predictions of the last steps."""
        batch = dict(image) if isinstance(image, Mapping) else {"data": image}
        steps, total, last = self._length()
        if last < self.N_last:
            raise ConfigError(
                f"{last} steps on the finest grid are fewer than {self.N_last}: give more steps, or less N_last"
            )
        kept = list(range(total - self.N_last + 1, total + 1))
        found, exclusive = [], False
        for prediction in self.nca.record(batch.pop("data"), steps, **batch, seed=self.seed, keep=kept):
            parts = prediction.parts()
            made, exclusive = probabilities(prediction, parts.get("logits", parts["pred"]), self.activation)
            found.append(made)
        return Runs(torch.stack(found), exclusive)

    def _length(self) -> tuple[Steps, int, int]:
        """Return the steps as the model takes them, their sum, and those on the finest grid."""
        if isinstance(self.nca, BasicNCAModel):
            steps: Any = self.nca.inference_timesteps if self.steps is None else self.steps
            number = interpret_range_parameter(steps, generator(self.seed, "steps"))
            return number, number, number
        levels: Any = self.nca.steps if self.steps is None else self.steps
        if not isinstance(levels, Sequence):
            raise ConfigError(f"steps of a {type(self.nca).__name__} are one number for each level, not {levels!r}")
        return levels, sum(levels), levels[-1]

    def heatmap(self, runs: Runs) -> Tensor:
        """Return the standard deviation over the last steps."""
        return deviation(runs.predictions)
