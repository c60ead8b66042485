"""Evaluation of binary classification: counts at a threshold, ROC curves, and histograms of scores."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from delira_nca.checks import require_number, require_whole
from delira_nca.errors import ConfigError, MissingDependencyError, ShapeError, require_choice

__all__ = [
    "Counts",
    "Evaluation",
    "Rates",
    "RocPoints",
    "ScoreHistogram",
    "as_array",
    "binary_nll",
    "confusion_table",
    "error_hist",
    "eval_thresh",
    "evaluate",
    "evaluate_model_binary",
    "find_nearest",
    "labelled",
    "performance_measure",
    "rescale_fudge",
    "roc_area",
    "roc_auc",
    "roc_points",
]

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_IGNORED = -1
_MOST_POINTS = 2000
"""Maximum number of points of a line in a figure. More cannot be distinguished."""


def as_array(values: Any) -> Array:
    """Convert a tensor, an array or nested lists of numbers to an array."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        values = values.float() if values.is_floating_point() and values.element_size() < 4 else values
    return np.asarray(values)


def _pieces(values: Any) -> list[Array]:
    """Return a list of arrays, which may differ in shape."""
    several = isinstance(values, (list, tuple)) and any(getattr(value, "ndim", 0) for value in values)
    return [as_array(value) for value in values] if several else [as_array(values)]


def labelled(labels: Any, scores: Any) -> tuple[Array, Floats]:
    """Return labels and scores of the elements that are not ignored, as flat arrays.

    Parameters
    ----------
    labels : array, tensor or list of such
        1 (positive), 0 (negative) and -1 (ignored).
    scores : array, tensor or list of such
        Scores of the same shapes.

    Returns
    -------
    tuple of (bool array, float64 array), without ignored elements

    Raises
    ------
    ShapeError
        If the shapes differ.
    ConfigError
        If a label is not 1, 0 or -1, or a score that is not ignored is NaN.

    Examples
    --------
    >>> labelled([1, 0, -1], [0.5, 0.25, 0.75])
    (array([ True, False]), array([0.5 , 0.25]))
    """
    first, second = _pieces(labels), _pieces(scores)
    if [piece.shape for piece in first] != [piece.shape for piece in second]:
        shapes = [[piece.shape for piece in pieces] for pieces in (first, second)]
        raise ShapeError(f"labels and scores have one shape, not {shapes[0]} and {shapes[1]}")
    label = np.concatenate([piece.ravel() for piece in first])
    score = np.concatenate([piece.ravel() for piece in second]).astype(np.float64)
    wrong = ~np.isin(label, (0, 1, _IGNORED))
    if wrong.any():
        raise ConfigError(f"a label is 1, 0, or -1 for what is ignored, not {label[wrong][0].item()!r}")
    counts = label != _IGNORED
    label, score = label[counts] == 1, score[counts]
    if np.isnan(score).any():
        raise ConfigError(f"{int(np.isnan(score).sum())} of {score.size} scores are NaN")
    return label, score


class Counts(NamedTuple):
    """True positives, true negatives, false positives, false negatives. :meth:`merge` adds two counts."""

    tp: int
    tn: int
    fp: int
    fn: int

    def merge(self, other: Counts) -> Counts:
        """Return the sum of both counts."""
        return Counts(*(a + b for a, b in zip(self, other, strict=True)))


class Rates(NamedTuple):
    """Rates of a binary classification. F1 equals the Dice score."""

    tpr: float
    fpr: float
    precision: float
    recall: float
    balanced_accuracy: float
    accuracy: float
    f1: float


class Evaluation(NamedTuple):
    """Rates at a threshold, area under the ROC curve, and the threshold."""

    perf: Rates
    roc_area: float
    thresh: float


class RocPoints(NamedTuple):
    """Counts at every distinct threshold, in descending order.

    ``score >= threshold`` is positive. The first threshold is infinite, so that nothing is positive.
    """

    thresholds: Floats
    tp: Ints
    fp: Ints
    num_positive: int
    num_negative: int

    @property
    def tpr(self) -> Floats:
        """True positive rates; NaN without positives."""
        return self.tp / (self.num_positive or math.nan)

    @property
    def fpr(self) -> Floats:
        """False positive rates; NaN without negatives."""
        return self.fp / (self.num_negative or math.nan)

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


class ScoreHistogram:
    """Histogram of the scores of both classes, for the area under the ROC curve in constant memory.

    Parameters
    ----------
    bins : int, optional
        Number of bins of equal width.
    low, high : float, optional
        Lower edge of the first bin and upper edge of the last. Scores outside raise an error.

    Attributes
    ----------
    positive, negative : (bins,) int64 arrays
        Counts of both classes.
    edges : (bins + 1,) array
        Edges of the bins.

    Notes
    -----
    Scores in one bin count as ties. :meth:`auc` therefore errs by at most :meth:`auc_error`, which is small for scores
    that are spread over many bins. For probabilities close to 0, use more bins, logits, or the exact area.

    Examples
    --------
    >>> histogram = ScoreHistogram().update([1, 0], [0.9, 0.8]).merge(ScoreHistogram().update([1, 0], [0.8, 0.1]))
    >>> histogram.auc()
    0.875
    """

    def __init__(self, bins: int = 4096, low: float = 0.0, high: float = 1.0) -> None:
        require_whole("bins", bins, 1)
        if not -math.inf < low < high < math.inf:
            raise ConfigError(f"scores lie between two numbers, low < high, not {low!r} and {high!r}")
        self.bins, self.low, self.high = bins, float(low), float(high)
        self.positive: Ints = np.zeros(bins, dtype=np.int64)
        self.negative: Ints = np.zeros(bins, dtype=np.int64)

    @property
    def edges(self) -> Floats:
        """Edges of the bins."""
        return np.linspace(self.low, self.high, self.bins + 1)

    def update(self, labels: Any, scores: Any) -> ScoreHistogram:
        """Count a batch, labels of 1, 0 and -1 (ignored) with scores of the same shape, and return the histogram.

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
        """Return the sum of two histograms. Raise a ConfigError if the bins differ."""
        mine, theirs = ((h.bins, h.low, h.high) for h in (self, other))
        if mine != theirs:
            raise ConfigError(f"histograms with other bins cannot be merged: (bins, low, high) {mine} and {theirs}")
        both = ScoreHistogram(*mine)
        both.positive, both.negative = self.positive + other.positive, self.negative + other.negative
        return both

    def auc(self) -> float:
        """Return the area under the ROC curve, with scores in one bin as ties; NaN with one class only."""
        below = np.cumsum(self.negative) - self.negative
        return self._share_of_pairs(self.positive * (2 * below + self.negative))

    def auc_error(self) -> float:
        """Return the largest possible difference between :meth:`auc` and the exact area."""
        return self._share_of_pairs(self.positive * self.negative)

    def _share_of_pairs(self, doubled: Ints) -> float:
        pairs = int(self.positive.sum()) * int(self.negative.sum())
        return sum(doubled.tolist()) / (2 * pairs) if pairs else math.nan


def confusion_table(labs: Any, preds: Any) -> Counts:
    """Count true and false positives and negatives.

    Parameters
    ----------
    labs : array, tensor or list of such
        1, 0, and -1 for ignored elements.
    preds : array, tensor or list of such
        1 or True for positive, 0 or False for negative, of the same shapes.

    Raises
    ------
    ShapeError
        If the shapes differ.
    ConfigError
        If a label or prediction has another value. Compare probabilities with a threshold first.

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
    return Counts(
        *(int(np.count_nonzero(x)) for x in (label & positive, ~(label | positive), positive > label, label > positive))
    )


def performance_measure(tp: int, tn: int, fp: int, fn: int, *, undefined: float = math.nan) -> Rates:
    """Compute rates from the counts of a confusion table.

    Parameters
    ----------
    tp, tn, fp, fn : int
        Counts.
    undefined : float, optional
        Value of a rate whose denominator is 0.

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


def roc_points(labels: Any, scores: Any) -> RocPoints:
    """Count true and false positives at every distinct score, without rounding or sampling.

    Parameters
    ----------
    labels : array, tensor or list of such
        1, 0, and -1 for ignored elements.
    scores : array, tensor or list of such
        Any numbers but NaN, of the same shape.

    Examples
    --------
    >>> points = roc_points([1, 0, 1, 0], [0.9, 0.8, 0.8, 0.1])
    >>> points.thresholds.tolist(), points.tp.tolist(), points.fp.tolist()
    ([inf, 0.9, 0.8, 0.1], [0, 1, 2, 2], [0, 0, 1, 2])
    """
    # sklearn.metrics.roc_curve returns rates, and supports neither infinite scores nor a single class
    label, score = labelled(labels, scores)
    values, place = np.unique(-score, return_inverse=True)
    tp, fp = (np.cumsum([0, *np.bincount(place[of], minlength=values.size)]) for of in (label, ~label))
    return RocPoints(np.append(np.inf, -values), tp, fp, int(tp[-1]), int(fp[-1]))


def roc_area(tpr: Any, fpr: Any) -> float:
    """Compute the area under a ROC curve by the trapezoidal rule, for points in any order and without corners.

    Raises
    ------
    ShapeError
        If the two differ in length.
    ConfigError
        If a rate is not between 0 and 1.

    Examples
    --------
    >>> roc_area([0.5, 1.0], [0.0, 0.5])
    0.875
    """
    from sklearn.metrics import auc

    y, x = as_array(tpr).astype(np.float64).ravel(), as_array(fpr).astype(np.float64).ravel()
    if y.shape != x.shape:
        raise ShapeError(f"a curve has one tpr for each fpr, not {y.size} and {x.size}")
    if not all(((v >= 0) & (v <= 1)).all() for v in (x, y)):
        raise ConfigError("rates are between 0 and 1")
    x, y = np.concatenate([[0.0], x, [1.0]]), np.concatenate([[0.0], y, [1.0]])
    order = np.lexsort((y, x))
    return float(auc(x[order], y[order]))


def roc_auc(labels: Any, scores: Any, *, method: str = "exact", bins: int = 4096) -> float:
    """Return the probability that a positive scores higher than a negative; ties count half. NaN with one class only.

    Parameters
    ----------
    labels : array, tensor or list of such
        1, 0, and -1 for ignored elements.
    scores : array, tensor or list of such
        Scores of the same shape.
    method : {"exact", "histogram"}, optional
        Method. The histogram is faster and needs probabilities; see :class:`ScoreHistogram`.
    bins : int, optional
        Number of bins of the histogram.

    Examples
    --------
    >>> roc_auc([1, 0, 1, 0], [0.9, 0.8, 0.8, 0.1])
    0.875
    """
    require_choice("method", method, ("exact", "histogram"))
    if method == "histogram":
        return ScoreHistogram(bins).update(labels, scores).auc()
    return _area(roc_points(labels, scores))


def _area(points: RocPoints) -> float:
    return roc_area(points.tpr, points.fpr) if points.num_positive and points.num_negative else math.nan


def eval_thresh(args: tuple[float, Any, Any]) -> Rates:
    """Compute the rates at a threshold.

    Parameters
    ----------
    args : tuple of (threshold, labels, scores)
        A score of at least the threshold is positive; a label of -1 is ignored.

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
    gt : array, tensor or list of such
        1, 0, and -1 for ignored elements.
    preds : array, tensor or list of such
        Scores of the same shape.
    save_name : str, optional
        File for a figure: ROC, precision over recall, F1 and accuracy over the threshold; needs matplotlib.
    thresh : float, optional
        Threshold of the rates, such as one tuned on a validation set; the best one by default.
    n_proc : int, optional
        Ignored, for compatibility. The exact curve needs one sort and no processes.
    select_by : {"f1", "precision", "accuracy", "balanced_accuracy"}, optional
        Measure that the best threshold maximises; in case of ties, the highest threshold is used.

    Raises
    ------
    ConfigError, ShapeError, UnknownNameError
        If labels and scores do not fit together, all labels are ignored, or no threshold can be chosen.
    MissingDependencyError
        If a figure is requested and matplotlib is not installed.

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
        _save_curves(points, chosen, save_name)
    return Evaluation(rates, _area(points), chosen)


def error_hist(gt: Any, preds: Any, save_name: str | None = None, thresh: float = 0.42) -> ScoreHistogram:
    """Compute the histogram of the scores of both classes, and draw it if ``save_name`` is given.

    Parameters
    ----------
    gt : array, tensor or list of such
        1, 0, and -1 for ignored elements.
    preds : array, tensor or list of such
        Probabilities of class 1.
    save_name : str, optional
        File for the figure, with logarithmic counts; needs matplotlib.
    thresh : float, optional
        Threshold that is marked in the figure.

    Raises
    ------
    ConfigError
        If a score is not between 0 and 1.
    """
    histogram = ScoreHistogram(100).update(gt, preds)
    if save_name is not None:
        figure, (axes,) = _figure(1)
        for name, counts in (("positive", histogram.positive), ("negative", histogram.negative)):
            axes.stairs(counts, histogram.edges, label=name)
        axes.axvline(thresh, color="grey", linestyle=":")
        axes.set(xlabel="score", ylabel="count", yscale="symlog", xlim=(0, 1))
        axes.legend()
        figure.savefig(save_name)
    return histogram


def _figure(columns: int) -> tuple[Any, Any]:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError("figures need matplotlib: pip install 'delira_nca[viz]'") from error
    figure = Figure(figsize=(4 * columns, 4), layout="constrained")
    return figure, figure.subplots(1, columns, squeeze=False)[0]


def _save_curves(points: RocPoints, thresh: float, path: str) -> None:
    """Draw the ROC curve, precision over recall, and F1 and accuracy over the threshold."""
    figure, (roc, precision, measures) = _figure(3)
    shown = np.unique(np.linspace(1, points.thresholds.size - 1, _MOST_POINTS).astype(int))
    values = {name: value[shown] for name, value in points.measures.items()}
    roc.plot([0, *points.fpr[shown]], [0, *points.tpr[shown]])
    roc.set(xlabel="false positive rate", ylabel="true positive rate", xlim=(0, 1), ylim=(0, 1))
    precision.plot(points.tpr[shown], values["precision"])
    precision.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1))
    for name in ("f1", "accuracy"):
        measures.plot(points.thresholds[shown], values[name], label=name)
    measures.axvline(thresh, color="grey", linestyle=":")
    measures.set(xlabel="threshold", ylim=(0, 1))
    measures.legend()
    figure.savefig(path)


def find_nearest(array: Any, value: float) -> float:
    """Return the first of the elements nearest to a value. An empty array raises a ConfigError.

    Examples
    --------
    >>> find_nearest([0.0, 0.4, 1.0], 0.5)
    0.4
    """
    flat = as_array(array).ravel()
    if not flat.size:
        raise ConfigError("an empty array has no nearest element")
    return float(flat[np.argmin(np.abs(flat.astype(np.float64) - value))])


def rescale_fudge(pred: Any, fudge: float = 0.15) -> Floats:
    """Clip scores to [fudge, 1 - fudge] and rescale them to [0, 1]. The input is not changed.

    Raises
    ------
    ConfigError
        If ``fudge`` is not in [0, 0.5).

    Examples
    --------
    >>> rescale_fudge([0.1, 0.5, 0.6], fudge=0.25).tolist()
    [0.0, 0.5, 0.7]
    """
    require_number("fudge", fudge, 0, below=0.5)
    clipped: Floats = (np.clip(as_array(pred).astype(np.float64), fudge, 1 - fudge) - fudge) / (1 - 2 * fudge)
    return clipped


def binary_nll(pred: Any, gt: Any) -> float:
    """Mean negative log likelihood of binary labels, in nats; infinite if the predicted probability of a label is 0.

    Parameters
    ----------
    pred : array, tensor or list of such
        Probabilities of class 1.
    gt : array, tensor or list of such
        1, 0, and -1 for ignored elements, of the same shape.

    Raises
    ------
    ConfigError
        If a probability is not in [0, 1], or all labels are ignored.

    Examples
    --------
    >>> round(binary_nll([0.9, 0.1], [1, 0]), 6), round(binary_nll([0.9, 0.1], [0, 1]), 6)
    (0.105361, 2.302585)
    """
    label, score = labelled(gt, pred)
    if not score.size:
        raise ConfigError(f"no label counts: all are {_IGNORED}")
    if not ((score >= 0) & (score <= 1)).all():
        raise ConfigError("a probability is between 0 and 1")
    with np.errstate(divide="ignore"):
        return float(abs(np.log(np.where(label, score, 1 - score)).mean()))


def evaluate_model_binary(
    model: Any,
    name: str,
    data: Any = None,
    valid_d: Any = None,
    valid_l: Any = None,
    train_d: Any = None,
    train_l: Any = None,
    n_proc: int | None = 2,
    betaloss: bool = False,
    fudgeysoft: bool = False,
    *,
    select_by: str = "f1",
) -> dict[str, Evaluation]:
    """Evaluate a binary classification on validation and training data, at the threshold that is best for validation.

    Parameters
    ----------
    model : callable
        Function of the images that returns the probabilities of class 1, with the shape of the labels.
    name : str
        Beginning of the names of the figures, ``<name>_valid.png`` and ``<name>_train.png``; empty for no figures.
    data : object, optional
        Object with the attributes ``valid_d``, ``valid_l``, ``train_d`` and ``train_l``, for those not given here.
    valid_d, valid_l, train_d, train_l : array, tensor or list of such, optional
        Images, and labels of 1, 0, and -1 for ignored elements.
    n_proc : int, optional
        Ignored, for compatibility.
    betaloss : bool
        Whether the model returns a pair of parameters (a, b) of beta distributions along a first axis of length 2; the
        probabilities are then their means a / (a + b).
    fudgeysoft : bool
        Whether the probabilities are rescaled by `rescale_fudge`.
    select_by : str
        Measure that the best threshold maximises; see `evaluate`.

    Returns
    -------
    dict of str to Evaluation
        Results under ``"valid"`` and ``"train"``, for the data that are there.

    Raises
    ------
    ConfigError, ShapeError
        If the data are missing, or predictions and labels do not match.

    Notes
    -----
    ELEKTRONN2 turns labels of -1 into labels of class 0.

    Examples
    --------
    >>> valid, train = {"valid_d": [0.9, 0.2], "valid_l": [1, 0]}, {"train_d": [0.8, 0.95], "train_l": [0, 1]}
    >>> found = evaluate_model_binary(lambda x: x, "", **valid, **train)
    >>> found["valid"].thresh, found["train"].perf.f1
    (0.9, 1.0)
    """
    given = {"valid_d": valid_d, "valid_l": valid_l, "train_d": train_d, "train_l": train_l}
    if not callable(model):
        raise ConfigError(f"model is a function of images that returns probabilities, not a {type(model).__name__}")
    found = {key: getattr(data, key, None) if value is None else value for key, value in given.items()}
    results: dict[str, Evaluation] = {}
    thresh = None
    for part in ("valid", "train"):
        images, labels = found[f"{part}_d"], found[f"{part}_l"]
        if (images is None) != (labels is None):
            raise ConfigError(f"{part}_d and {part}_l are given together")
        if images is None:
            continue
        scores = as_array(model(images))
        if betaloss:
            if len(scores) != 2 or (scores <= 0).any():
                raise ConfigError("with betaloss, the model returns two positive arrays, a and b")
            scores = scores[0] / (scores[0] + scores[1])
        if fudgeysoft:
            scores = rescale_fudge(scores)
        file = f"{name}_{part}.png" if name else None
        results[part] = evaluate(labels, scores, file, thresh, n_proc, select_by=select_by)
        thresh = results[part].thresh
    if not results:
        raise ConfigError("there is nothing to evaluate: give valid_d and valid_l, or train_d and train_l")
    return results
