"""From a score of doubt to an alarm: thresholds, what they find, and probabilities that mean what they say."""

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
"""Of a rate times a number of cases, which may be a hair below a whole number."""

_SHARPEST = 1e4
"""Largest factor of logits, and inverse of the smallest, that a temperature may amount to."""


@dataclass(frozen=True)
class AlarmThreshold:
    """A score above ``threshold`` is an alarm.

    Attributes
    ----------
    threshold : float
        The largest score that is no alarm.
    wanted_rate : float
        False-alarm rate that was asked for.
    false_alarm_rate : float
        Share of the good cases that it alarms; at most the wanted one.
    sensitivity : float
        Share of the failures that it finds; NaN where there was none.
    num_good, num_failed : int
        Cases it was calibrated on.
    """

    threshold: float
    wanted_rate: float
    false_alarm_rate: float
    sensitivity: float
    num_good: int
    num_failed: int

    def alarms(self, scores: Any) -> Any:
        """Bool array: which scores are alarms; a score that is NaN is one."""
        return ~(as_array(scores) <= self.threshold)

    def to_dict(self) -> dict[str, float | int]:
        """Plain values."""
        return asdict(self)


def alarm_threshold(scores: Any, failed: Any, false_alarm_rate: float = 0.05) -> AlarmThreshold:
    """Lowest threshold of a score whose false-alarm rate on a validation set is at most the wanted one.

    Parameters
    ----------
    scores : object
        (n,) scores of doubt, higher for worse cases, such as :class:`~delira_nca.evaluation.NQM`'s.
    failed : object
        (n,) whether a case is a failure (Dice below 0.8, say); -1 for a case that does not count.
    false_alarm_rate : float
        Share of good cases that may be alarmed, from 0 to 1.

    Raises
    ------
    ConfigError
        If the rate is out of range, there is no good case, or a score is NaN.
    ShapeError
        If there is not one score for each case.

    Notes
    -----
    The threshold is one of the scores of the good cases, an order statistic without interpolation. Scores that tie
    with it are no alarms, so ties can only lower the rate.

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
    """Probability that a failure has a higher score of doubt than a good case; 0.5 is chance, NaN without either.

    Parameters
    ----------
    scores, failed : object
        As of :func:`alarm_threshold`.

    Examples
    --------
    >>> failure_auroc([1, 2, 3, 9], [0, 0, 1, 1])
    1.0
    """
    return roc_auc(failed, scores)


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """Temperature that makes ``logits / temperature`` as likely as can be on a validation set.

    Parameters
    ----------
    logits : Tensor
        (B, C, *spatial) scores before softmax, or, with one channel, before the sigmoid.
    labels : Tensor
        (B, *spatial) class numbers, or (B, 1, *spatial) of 0 and 1 for one channel; -1 is ignored.

    Returns
    -------
    float
        Above 1 for a model that is too sure of itself.

    Raises
    ------
    ShapeError
        If the shapes do not fit.
    ConfigError
        If no finite temperature is best: every label that counts is right, or chance would be better.

    Notes
    -----
    Guo et al. (2017), "On Calibration of Modern Neural Networks". The loss is convex in the inverse temperature; its
    slope is halved to zero in float64.

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
