"""Counts of scores of two classes in bins, which batches and processes can add to one another."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from delira_nca.errors import ConfigError
from delira_nca.evaluation.arrays import labelled

__all__ = ["ScoreHistogram"]


class ScoreHistogram:
    """How often either class has which score: enough for an area below the ROC curve, in constant memory.

    Parameters
    ----------
    bins : of equal width.
    low, high : where the first begins and the last ends; scores outside of them are refused.

    Attributes
    ----------
    positive, negative : (bins,) int64 arrays
    edges : (bins + 1,) array

    Raises
    ------
    ConfigError
        If there is no bin, or no room for it.

    Notes
    -----
    Scores in one bin count as ties. :meth:`auc` therefore errs by at most :meth:`auc_error`, which is small where the
    scores are spread; probabilities that are squeezed near 0 want more bins, their logits, or the exact area.

    Examples
    --------
    >>> histogram = ScoreHistogram().update([1, 0], [0.9, 0.8]).merge(ScoreHistogram().update([1, 0], [0.8, 0.1]))
    >>> histogram.auc()
    0.875
    """

    def __init__(self, bins: int = 4096, low: float = 0.0, high: float = 1.0) -> None:
        if isinstance(bins, bool) or not isinstance(bins, int) or bins < 1:
            raise ConfigError(f"bins is a whole number of at least 1, not {bins!r}")
        if not -math.inf < low < high < math.inf:
            raise ConfigError(f"scores lie between two numbers, low < high, not {low!r} and {high!r}")
        self.bins, self.low, self.high = bins, float(low), float(high)
        self.positive: npt.NDArray[np.int64] = np.zeros(bins, dtype=np.int64)
        self.negative: npt.NDArray[np.int64] = np.zeros(bins, dtype=np.int64)

    @property
    def edges(self) -> npt.NDArray[np.float64]:
        """Where the bins begin, and the last one ends."""
        return np.linspace(self.low, self.high, self.bins + 1)

    def update(self, labels: Any, scores: Any) -> ScoreHistogram:
        """Count a batch, and return the histogram itself.

        Parameters
        ----------
        labels : 1, 0, and -1 for what is ignored.
        scores : of the same shape.

        Raises
        ------
        ConfigError
            If a score is outside of the bins.
        """
        label, score = labelled(labels, scores)
        outside = (score < self.low) | (score > self.high)
        if outside.any():
            raise ConfigError(f"a score is between {self.low:g} and {self.high:g}, not {score[outside][0]:g}")
        index = ((score - self.low) / (self.high - self.low) * self.bins).astype(np.int64).clip(max=self.bins - 1)
        self.positive += np.bincount(index[label], minlength=self.bins)
        self.negative += np.bincount(index[~label], minlength=self.bins)
        return self

    def merge(self, other: ScoreHistogram) -> ScoreHistogram:
        """Histogram of both.

        Raises
        ------
        ConfigError
            If the bins differ.
        """
        if (self.bins, self.low, self.high) != (other.bins, other.low, other.high):
            mine, theirs = ((h.bins, h.low, h.high) for h in (self, other))
            raise ConfigError(f"histograms with other bins cannot be merged: (bins, low, high) {mine} and {theirs}")
        both = ScoreHistogram(self.bins, self.low, self.high)
        both.positive, both.negative = self.positive + other.positive, self.negative + other.negative
        return both

    def auc(self) -> float:
        """Area below the ROC curve, scores in one bin being ties; NaN where there is one class only."""
        pairs = self._pairs()
        if not pairs:
            return math.nan
        below = np.cumsum(self.negative) - self.negative
        doubled = sum((self.positive * (2 * below + self.negative)).tolist())
        return int(doubled) / (2 * pairs)

    def auc_error(self) -> float:
        """Largest difference that there can be between :meth:`auc` and the exact area."""
        pairs = self._pairs()
        return sum((self.positive * self.negative).tolist()) / (2 * pairs) if pairs else math.nan

    def _pairs(self) -> int:
        return int(self.positive.sum()) * int(self.negative.sum())
