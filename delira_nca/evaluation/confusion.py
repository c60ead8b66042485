"""Counts of right and wrong decisions, and the rates that they make."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from delira_nca.errors import ConfigError
from delira_nca.evaluation.arrays import labelled

__all__ = ["Counts", "Rates", "confusion_table", "performance_measure"]


class Counts(NamedTuple):
    """True positives, true negatives, false positives, false negatives; :meth:`merge` sums those of two batches."""

    tp: int
    tn: int
    fp: int
    fn: int

    def merge(self, other: Counts) -> Counts:
        """Counts of both."""
        return Counts(*(a + b for a, b in zip(self, other, strict=True)))


class Rates(NamedTuple):
    """Measures of a binary decision; F1 is also Dice."""

    tpr: float
    fpr: float
    precision: float
    recall: float
    balanced_accuracy: float
    accuracy: float
    f1: float


def confusion_table(labs: Any, preds: Any) -> Counts:
    """Count the situations of a binary classification.

    Parameters
    ----------
    labs : array, tensor or list of such, of 1, 0, and -1 for what is ignored.
    preds : of the same shapes: 1 or True for positive, 0 or False for negative.

    Raises
    ------
    ShapeError
        If the shapes differ.
    ConfigError
        If a label is unknown, or a prediction is no decision: probabilities must be compared with a threshold first.

    Examples
    --------
    >>> confusion_table([1, 1, 0, 0, -1], [1, 0, 0, 0, 1])
    Counts(tp=1, tn=2, fp=0, fn=1)
    """
    label, decided = labelled(labs, preds)
    wrong = ~np.isin(decided, (0, 1))
    if wrong.any():
        raise ConfigError(f"a prediction is 0 or 1, not {decided[wrong][0]}: compare it with a threshold first")
    positive = decided == 1
    tp, predicted, positives = (int(np.count_nonzero(x)) for x in (label & positive, positive, label))
    fp, fn = predicted - tp, positives - tp
    return Counts(tp, label.size - tp - fp - fn, fp, fn)


def performance_measure(tp: int, tn: int, fp: int, fn: int, *, undefined: float = math.nan) -> Rates:
    """Rates of the counts of a confusion table.

    Parameters
    ----------
    tp, tn, fp, fn : counts.
    undefined : value of a rate whose denominator is 0.

    Raises
    ------
    ConfigError
        If a count is negative.

    Examples
    --------
    >>> rates = performance_measure(3, 4, 1, 2)
    >>> rates.recall, rates.precision, rates.fpr
    (0.6, 0.75, 0.2)
    >>> performance_measure(0, 9, 0, 0, undefined=1.0).f1
    1.0
    """
    counts = (tp, tn, fp, fn)
    if any(count < 0 for count in counts):
        raise ConfigError(f"counts are at least 0, not {counts}")

    def ratio(part: float, whole: float) -> float:
        return part / whole if whole else undefined

    recall, specificity = ratio(tp, tp + fn), ratio(tn, tn + fp)
    both = tp + fn > 0 and tn + fp > 0
    return Rates(
        tpr=recall,
        fpr=ratio(fp, tn + fp),
        precision=ratio(tp, tp + fp),
        recall=recall,
        balanced_accuracy=(recall + specificity) / 2 if both else undefined,
        accuracy=ratio(tp + tn, sum(counts)),
        f1=ratio(2 * tp, 2 * tp + fp + fn),
    )
