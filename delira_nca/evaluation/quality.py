"""Test of uncertainty estimates: quality of predictions on degraded images against their uncertainty."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from delira_nca.checks import require_whole
from delira_nca.errors import ShapeError
from delira_nca.evaluation.artefacts import ARTEFACTS, add_artefact
from delira_nca.evaluation.calibration import failure_auroc
from delira_nca.evaluation.uncertainty import NQM, UncertaintyEstimator
from delira_nca.losses import dice_score
from delira_nca.seeding import derive_seed

__all__ = ["QualityCase", "QualityReport", "quality_report"]


@dataclass(frozen=True)
class QualityCase:
    """Result for one image with one artefact.

    Attributes
    ----------
    artefact, strength : str, float
        Added artefact and its strength; ``"none"`` and 0 for the image itself.
    sample, draw : int
        Index of the image, and of the random draw of the artefact.
    quality : float
        Quality of the mean prediction, such as the Dice score.
    doubt : float
        Uncertainty score of the estimator; higher is worse.
    """

    artefact: str
    strength: float
    sample: int
    draw: int
    quality: float
    doubt: float


@dataclass(frozen=True)
class QualityReport:
    """Quality and uncertainty of several cases. Its ``str`` is a table of means and correlations.

    Attributes
    ----------
    cases : tuple of QualityCase
        Cases, beginning with the original images.
    failure_below : float
        Quality below which a case is a failure.
    """

    cases: tuple[QualityCase, ...]
    failure_below: float

    def _numbers(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        return np.array([c.quality for c in self.cases]), np.array([c.doubt for c in self.cases])

    @property
    def correlation(self) -> float:
        """Pearson correlation of quality and uncertainty over all cases; -1 is best, NaN if one is constant."""
        return _correlation(*self._numbers())

    @property
    def rank_correlation(self) -> float:
        """Spearman rank correlation; ties have their mean rank."""
        from scipy.stats import rankdata

        return _correlation(*map(rankdata, self._numbers()))

    @property
    def num_failures(self) -> int:
        """Number of failures."""
        return int(np.count_nonzero(self._numbers()[0] < self.failure_below))

    @property
    def auroc(self) -> float:
        """Probability that a failure has a higher uncertainty than a good case; NaN without either."""
        quality, doubt = self._numbers()
        return failure_auroc(doubt, quality < self.failure_below)

    def groups(self) -> dict[str, tuple[list[float], list[float]]]:
        """Return (uncertainty, quality) of the cases by artefact, for :func:`delira_nca.visualization.save_scatter`."""
        found: dict[str, tuple[list[float], list[float]]] = {}
        for case in self.cases:
            doubt, quality = found.setdefault(case.artefact, ([], []))
            doubt.append(case.doubt)
            quality.append(case.quality)
        return found

    def mean(self, artefact: str, strength: float) -> tuple[float, float]:
        """Return the mean quality and uncertainty for one artefact and strength; NaN without cases."""
        chosen = [(c.quality, c.doubt) for c in self.cases if (c.artefact, c.strength) == (artefact, strength)]
        if not chosen:
            return math.nan, math.nan
        quality, doubt = np.mean(chosen, 0).tolist()
        return quality, doubt

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain values."""
        return {
            "correlation": self.correlation,
            "rank_correlation": self.rank_correlation,
            "auroc": self.auroc,
            "num_failures": self.num_failures,
            **asdict(self),
        }

    def __str__(self) -> str:
        strengths = sorted({c.strength for c in self.cases if c.artefact != "none"})
        quality, doubt = self.mean("none", 0.0)
        lines = [
            f"{'quality':>10} and doubt, means, at strength",
            "  ".join([f"{'':>10}", *(f"{strength:>11g}" for strength in strengths)]),
        ]
        for artefact in dict.fromkeys(c.artefact for c in self.cases if c.artefact != "none"):
            means = (self.mean(artefact, strength) for strength in strengths)
            lines.append("  ".join([f"{artefact:>10}", *(f"{q:5.3f} {d:5.3f}" for q, d in means)]))
        return "\n".join(
            [
                *lines,
                f"without artefacts: quality {quality:.3f}, doubt {doubt:.3f}",
                f"{len(self.cases)} cases, {self.num_failures} failures (quality below {self.failure_below:g})",
                f"correlation of quality and doubt {self.correlation:.3f}, of their ranks {self.rank_correlation:.3f}",
                f"a failure is doubted more than a good case with probability {self.auroc:.3f}",
            ]
        )


def quality_report(
    model: Any,
    images: Tensor,
    labels: Tensor,
    *,
    estimator: UncertaintyEstimator | None = None,
    metric: Callable[[Tensor, Tensor], Tensor | float] = dice_score,
    artefacts: Sequence[str] = ARTEFACTS,
    strengths: Sequence[float] = (0.2, 0.4, 0.6, 0.8, 1.0),
    draws: int = 1,
    failure_below: float = 0.8,
    seed: int = 0,
) -> QualityReport:
    """Measure quality and uncertainty of a model on original and degraded images.

    Parameters
    ----------
    model : object
        Model for binary segmentation: an automaton, a pyramid, or any other model that the estimator supports.
    images : Tensor
        (B, C, *spatial) images with values from 0 to 1.
    labels : Tensor
        (B, C', *spatial) tensor of {0, 1}, like the predictions.
    estimator : UncertaintyEstimator or None
        Uncertainty estimator; :class:`~delira_nca.evaluation.NQM` with ten roll-outs by default. It is applied to one
        image at a time, without the label.
    metric : callable
        Function of (logits, label), where logits above 0 are foreground. It is called with the mean probability minus
        0.5.
    artefacts, strengths : sequence of str, sequence of float
        Arguments of :func:`~delira_nca.evaluation.add_artefact`; all combinations are used.
    draws : int
        Number of cases per artefact, strength and image. Those of ``"blur"`` are equal, as it has no random numbers.
    failure_below : float
        Quality below which a case is a failure.
    seed : int
        Seed of the artefacts.

    Raises
    ------
    ShapeError
        If the numbers of images and labels differ.
    ConfigError, UnknownNameError
        If there is no image, a number is out of range, or an artefact is unknown.

    Notes
    -----
    After the failure detection of M3D-NCA (Kalkhof et al., 2023). Correlations depend on the chosen artefacts and
    strengths; report them together.

    Examples
    --------
    >>> import torch
    >>> from delira_nca.models import BasicNCAModel
    >>> model = BasicNCAModel(num_image_channels=1, num_hidden_channels=4, num_output_channels=1)
    >>> estimator = NQM(model, N=2, steps=2)
    >>> image, label = torch.rand(2, 1, 8, 8), torch.ones(2, 1, 8, 8)
    >>> report = quality_report(model, image, label, estimator=estimator, artefacts=["noise"], strengths=[0.5, 1])
    >>> len(report.cases), report.num_failures
    (6, 6)
    """
    if not len(images) or len(images) != len(labels):
        raise ShapeError(f"every image has a label, and there is one at least: not {len(images)} and {len(labels)}")
    require_whole("draws", draws, 1)
    doubting = NQM(model) if estimator is None else estimator
    for artefact in artefacts:  # invalid names or numbers raise before the first roll-out
        for strength in strengths:
            add_artefact(images[:0], artefact, strength)
    plan = [("none", 0.0, 0), *((a, float(s), n) for a in artefacts for s in strengths for n in range(draws))]
    cases = []
    for artefact, strength, draw in plan:
        seen = images if artefact == "none" else add_artefact(images, artefact, strength, seed=derive_seed(seed, draw))
        for sample in range(len(images)):
            estimate = doubting.estimate(seen[sample : sample + 1])
            mean, label = estimate.predictions.mean(0), labels[sample : sample + 1]
            quality = float(metric(mean - 0.5, label.to(mean.device)))
            cases.append(QualityCase(artefact, strength, sample, draw, quality, float(estimate.score.mean())))
    return QualityReport(tuple(cases), float(failure_below))


def _correlation(one: npt.NDArray[np.float64], other: npt.NDArray[np.float64]) -> float:
    one, other = one - one.mean(), other - other.mean()
    size = math.sqrt(float((one**2).sum() * (other**2).sum()))
    return float((one * other).sum()) / size if size > 0 else math.nan
