"""Calibration: alarm thresholds of uncertainty scores, and temperature scaling of logits."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from delira_nca.checks import require_number
from delira_nca.errors import ConfigError, ShapeError
from delira_nca.evaluation.binary import as_array, labelled, roc_auc

__all__ = ["AlarmThreshold", "alarm_threshold", "failure_auroc", "fit_temperature"]

_ROUNDING = 1e-9
"""Tolerance for a rate times a number of cases, which rounding may put slightly below an integer."""

_SHARPEST = 1e4
"""Largest factor of the logits, and inverse of the smallest, in the search for a temperature."""


@dataclass(frozen=True)
class AlarmThreshold:
    """Threshold of an uncertainty score. Scores above it are alarms.

    Attributes
    ----------
    threshold : float
        Largest score that is not an alarm.
    wanted_rate : float
        Requested false-alarm rate.
    false_alarm_rate : float
        Fraction of the good cases that are alarms; at most ``wanted_rate``.
    sensitivity : float
        Fraction of the failures that are alarms; NaN without failures.
    num_good, num_failed : int
        Number of good cases and failures of the validation set.
    """

    threshold: float
    wanted_rate: float
    false_alarm_rate: float
    sensitivity: float
    num_good: int
    num_failed: int

    def alarms(self, scores: Any) -> Any:
        """Return a bool array of the scores that are alarms; NaN is an alarm."""
        return ~(as_array(scores) <= self.threshold)

    def to_dict(self) -> dict[str, float | int]:
        """Return the attributes as plain values."""
        return asdict(self)


def alarm_threshold(scores: Any, failed: Any, false_alarm_rate: float = 0.05) -> AlarmThreshold:
    """Find the lowest threshold of a score that does not exceed a false-alarm rate on a validation set.

    Parameters
    ----------
    scores : object
        (n,) uncertainty scores, higher for worse cases, such as those of :class:`~delira_nca.evaluation.NQM`.
    failed : object
        (n,) 1 for a failure (for instance, Dice below 0.8), 0 for a good case, -1 for an ignored case.
    false_alarm_rate : float
        Largest accepted fraction of alarms among the good cases, from 0 to 1.

    Raises
    ------
    ConfigError
        If the rate is out of range, there is no good case, or a score is NaN.
    ShapeError
        If the numbers of scores and cases differ.

    Notes
    -----
    The threshold is one of the scores of the good cases, an order statistic without interpolation. Scores equal to it
    are not alarms, so ties can only lower the rate.

    Examples
    --------
    >>> found = alarm_threshold([1, 2, 3, 4, 9, 5], [0, 0, 0, 0, 1, 1], false_alarm_rate=0.25)
    >>> found.threshold, found.false_alarm_rate, found.sensitivity
    (3.0, 0.25, 1.0)
    """
    require_number("false_alarm_rate", false_alarm_rate, 0, 1)
    bad, score = labelled(failed, scores)
    good = np.sort(score[~bad])
    if not good.size:
        raise ConfigError("a threshold is calibrated on good cases, and there is none")
    allowed = math.floor(false_alarm_rate * good.size + _ROUNDING)
    threshold = float(good[good.size - 1 - allowed]) if allowed < good.size else -math.inf
    num_failed = int(np.count_nonzero(bad))
    return AlarmThreshold(
        threshold=threshold,
        wanted_rate=float(false_alarm_rate),
        false_alarm_rate=float(np.count_nonzero(good > threshold) / good.size),
        sensitivity=float(np.count_nonzero(score[bad] > threshold) / num_failed) if num_failed else math.nan,
        num_good=int(good.size),
        num_failed=num_failed,
    )


def failure_auroc(scores: Any, failed: Any) -> float:
    """Return the probability that a failure has a higher score than a good case; 0.5 is chance, NaN without either.

    Parameters
    ----------
    scores, failed : object
        See :func:`alarm_threshold`.

    Examples
    --------
    >>> failure_auroc([1, 2, 3, 9], [0, 0, 1, 1])
    1.0
    """
    return roc_auc(failed, scores)


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """Fit the temperature that maximises the likelihood of ``logits / temperature`` on a validation set.

    Parameters
    ----------
    logits : Tensor
        (B, C, *spatial) logits of the softmax, or of the sigmoid for one channel.
    labels : Tensor
        (B, *spatial) class numbers, or, for one channel, (B, 1, *spatial) labels 0 and 1; -1 is ignored.

    Returns
    -------
    float
        Temperature; above 1 for overconfident models.

    Raises
    ------
    ShapeError
        If the shapes do not fit.
    ConfigError
        If no finite temperature is optimal: all predictions are correct, or not better than chance.

    Notes
    -----
    Guo et al. (2017), "On Calibration of Modern Neural Networks". The loss is convex in the inverse temperature; the
    zero of its slope is found by bisection in float64.

    Examples
    --------
    >>> logits, labels = torch.full((4, 1), 2.0), torch.tensor([[1], [1], [1], [0]])
    >>> round(fit_temperature(logits, labels), 6) == round(2 / math.log(3), 6)
    True
    """
    binary = logits.dim() > 1 and logits.shape[1] == 1
    expected = logits.shape if binary else (logits.shape[0], *logits.shape[2:])
    if logits.dim() < 2 or labels.shape != expected:
        raise ShapeError(f"labels of logits of {tuple(logits.shape)} are {tuple(expected)}, not {tuple(labels.shape)}")
    flat, label = logits.detach().double().movedim(1, -1).reshape(-1, logits.shape[1]), labels.reshape(-1).long()
    if binary:
        flat = torch.cat([torch.zeros_like(flat), flat], 1)
    flat, label = flat[label != -1], label[label != -1]
    if not len(label) or not 0 <= int(label.min()) <= int(label.max()) < flat.shape[1]:
        raise ConfigError(f"labels are classes from 0 to {flat.shape[1] - 1}, or -1, and one at least counts")
    right = flat.gather(1, label[:, None])[:, 0]

    def slope(sharpness: float) -> float:
        return float(((F.softmax(flat * sharpness, 1) * flat).sum(1) - right).mean())

    low, high = 1 / _SHARPEST, _SHARPEST
    if slope(low) >= 0 or slope(high) <= 0:
        raise ConfigError("no temperature is best: the labels are all right, or no better than chance")
    while high / low > 1 + 1e-12:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return 1 / math.sqrt(low * high)
