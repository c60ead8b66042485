"""Scores of two classes, over all thresholds: exact curves and areas, and a histogram that merges over batches."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from delira_nca.errors import ConfigError, ShapeError, require_choice
from delira_nca.evaluation.arrays import as_array, labelled
from delira_nca.evaluation.confusion import Rates, confusion_table, performance_measure
from delira_nca.evaluation.histogram import ScoreHistogram

__all__ = [
    "Evaluation",
    "RocPoints",
    "error_hist",
    "eval_thresh",
    "evaluate",
    "roc_area",
    "roc_auc",
    "roc_points",
]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


class RocPoints(NamedTuple):
    """Counts at every threshold that makes a difference, from the highest score down.

    ``score >= threshold`` is positive. The first threshold is infinite: nothing is positive there.
    """

    thresholds: Floats
    tp: Ints
    fp: Ints
    num_positive: int
    num_negative: int

    @property
    def tpr(self) -> Floats:
        """True positive rates; NaN without positives."""
        return self.tp / self.num_positive if self.num_positive else np.full(self.tp.shape, np.nan)

    @property
    def fpr(self) -> Floats:
        """False positive rates; NaN without negatives."""
        return self.fp / self.num_negative if self.num_negative else np.full(self.fp.shape, np.nan)

    @property
    def measures(self) -> dict[str, Floats]:
        """Precision, F1, accuracy and balanced accuracy at every threshold; NaN where one is not defined."""
        tp, fp, positive, negative = self.tp, self.fp, self.num_positive, self.num_negative
        with np.errstate(divide="ignore", invalid="ignore"):
            return {
                "precision": tp / (tp + fp),
                "f1": 2 * tp / (tp + fp + positive),
                "accuracy": (tp + negative - fp) / np.float64(positive + negative),
                "balanced_accuracy": (self.tpr + 1 - self.fpr) / 2,
            }


class Evaluation(NamedTuple):
    """Rates at a threshold, area below the ROC curve, and the threshold."""

    perf: Rates
    roc_area: float
    thresh: float


def roc_points(labels: Any, scores: Any) -> RocPoints:
    """Count what is found and what is falsely alarmed at every distinct score; nothing is rounded or sampled.

    Parameters
    ----------
    labels : 1, 0, and -1 for what is ignored.
    scores : of the same shape, any numbers but NaN.

    Raises
    ------
    ShapeError, ConfigError
        If they do not fit.

    Examples
    --------
    >>> points = roc_points([1, 0, 1, 0], [0.9, 0.8, 0.8, 0.1])
    >>> points.thresholds.tolist(), points.tp.tolist(), points.fp.tolist()
    ([inf, 0.9, 0.8, 0.1], [0, 1, 2, 2], [0, 0, 1, 2])
    """
    label, score = labelled(labels, scores)
    order = np.argsort(-score, kind="stable")
    label, score = label[order], score[order]
    last = np.flatnonzero(np.append(score[1:] != score[:-1], True)) if score.size else np.zeros(0, dtype=np.int64)
    found = np.cumsum(label, dtype=np.int64)[last]
    positives = int(np.count_nonzero(label))
    start = np.zeros(1, dtype=np.int64)
    return RocPoints(
        thresholds=np.append(np.inf, score[last]),
        tp=np.append(start, found),
        fp=np.append(start, last + 1 - found),
        num_positive=positives,
        num_negative=label.size - positives,
    )


def roc_area(tpr: Any, fpr: Any) -> float:
    """Area below a ROC curve by the trapezoidal rule, in any order of its points; the corners need not be there.

    Raises
    ------
    ShapeError
        If the two are not as long as each other.
    ConfigError
        If a rate is not between 0 and 1.

    Examples
    --------
    >>> roc_area([0.5, 1.0], [0.0, 0.5])
    0.875
    """
    y, x = as_array(tpr).astype(np.float64).ravel(), as_array(fpr).astype(np.float64).ravel()
    if y.shape != x.shape:
        raise ShapeError(f"a curve has one tpr for each fpr, not {y.size} and {x.size}")
    if not all(((v >= 0) & (v <= 1)).all() for v in (x, y)):
        raise ConfigError("rates are between 0 and 1")
    x, y = np.concatenate([[0.0], x, [1.0]]), np.concatenate([[0.0], y, [1.0]])
    order = np.lexsort((y, x))
    x, y = x[order], y[order]
    return float(((y[1:] + y[:-1]) / 2 * np.diff(x)).sum())


def roc_auc(labels: Any, scores: Any, *, method: str = "exact", bins: int = 4096) -> float:
    """Probability that a positive scores higher than a negative; ties count half. NaN where there is one class only.

    Parameters
    ----------
    labels : 1, 0, and -1 for what is ignored.
    scores : of the same shape.
    method : ``"exact"``, or ``"histogram"`` of probabilities, which is faster; see :class:`ScoreHistogram`.
    bins : of the histogram.

    Raises
    ------
    UnknownNameError
        For an unknown method.
    ShapeError, ConfigError
        If labels and scores do not fit.

    Examples
    --------
    >>> roc_auc([1, 0, 1, 0], [0.9, 0.8, 0.8, 0.1])
    0.875
    """
    require_choice("method", method, ("exact", "histogram"))
    if method == "histogram":
        return ScoreHistogram(bins).update(labels, scores).auc()
    points = roc_points(labels, scores)
    if not points.num_positive or not points.num_negative:
        return math.nan
    new = np.diff(points.fp)
    doubled = int(((points.tp[1:] + points.tp[:-1]) * new).sum())
    return doubled / (2 * points.num_positive * points.num_negative)


def eval_thresh(args: tuple[float, Any, Any]) -> Rates:
    """Rates at a threshold.

    Parameters
    ----------
    args : (threshold, labels, scores); a score of at least the threshold is positive, a label of -1 is ignored.

    Examples
    --------
    >>> eval_thresh((0.8, [1, 0, 1, 0], [0.9, 0.8, 0.8, 0.1])).precision
    0.6666666666666666
    """
    thresh, labs, preds = args
    label, score = labelled(labs, preds)
    return performance_measure(*confusion_table(label, score >= thresh))


def evaluate(
    gt: Any,
    preds: Any,
    save_name: str | None = None,
    thresh: float | None = None,
    n_proc: int | None = None,
    *,
    select_by: str = "f1",
) -> Evaluation:
    """Evaluate scores of a binary classification over all thresholds.

    Parameters
    ----------
    gt : 1, 0, and -1 for what is ignored.
    preds : scores of the same shape.
    save_name : file for a figure: ROC, precision over recall, F1 and accuracy over the threshold; needs matplotlib.
    thresh : where the rates are told, such as one tuned on a validation set; the best one by default.
    n_proc : taken for old calls; the exact curve is one sort, which needs no processes.
    select_by : which measure makes a threshold the best: f1, precision, accuracy or balanced_accuracy. Of several
        equally good ones it is the highest.

    Raises
    ------
    ConfigError, ShapeError, UnknownNameError
        If labels and scores do not fit, there is nothing that counts, or no threshold can be chosen.
    MissingDependencyError
        If a figure is asked for without matplotlib.

    Examples
    --------
    >>> perf, area, thresh = evaluate([1, 0, 1, 0], [0.9, 0.4, 0.8, 0.1])
    >>> perf.f1, area, thresh
    (1.0, 1.0, 0.8)
    """
    require_choice("measure", select_by, ("f1", "precision", "accuracy", "balanced_accuracy"))
    points = roc_points(gt, preds)
    if points.thresholds.size == 1:
        raise ConfigError("there is nothing to evaluate: no label counts")
    chosen = thresh
    if chosen is None:
        values = points.measures[select_by][1:]
        if np.isnan(values).all():
            raise ConfigError(f"{select_by} is not defined for labels of one class: give thresh")
        chosen = float(points.thresholds[1:][np.nanargmax(values)])
    rates = eval_thresh((chosen, gt, preds))
    if save_name is not None:
        from delira_nca.evaluation.figures import save_curves

        save_curves(points, chosen, save_name)
    both = points.num_positive and points.num_negative
    return Evaluation(rates, roc_area(points.tpr, points.fpr) if both else math.nan, chosen)


def error_hist(gt: Any, preds: Any, save_name: str | None = None, thresh: float = 0.42) -> ScoreHistogram:
    """Histogram of the scores of either class, drawn to a file if a name is given.

    Parameters
    ----------
    gt : 1, 0, and -1 for what is ignored.
    preds : probabilities of class 1.
    save_name : file for the figure, with logarithmic counts; needs matplotlib.
    thresh : marked in the figure.

    Raises
    ------
    ConfigError
        If a score is not between 0 and 1.
    """
    histogram = ScoreHistogram(100).update(gt, preds)
    if save_name is not None:
        from delira_nca.evaluation.figures import save_histogram

        save_histogram(histogram, thresh, save_name)
    return histogram
