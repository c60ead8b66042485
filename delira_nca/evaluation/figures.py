"""Figures of curves and histograms, written to files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from delira_nca.errors import MissingDependencyError

if TYPE_CHECKING:
    from delira_nca.evaluation.histogram import ScoreHistogram
    from delira_nca.evaluation.roc import RocPoints

__all__ = ["save_curves", "save_histogram"]

_MOST_POINTS = 2000
"""Of a line: more cannot be told apart in a figure."""


def _figure(columns: int) -> tuple[Any, Any]:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError("figures need matplotlib: pip install 'delira_nca[viz]'") from error
    figure = Figure(figsize=(4 * columns, 4), layout="constrained")
    return figure, figure.subplots(1, columns, squeeze=False)[0]


def save_curves(points: RocPoints, thresh: float, path: str) -> None:
    """ROC curve, precision over recall, and F1 and accuracy over the threshold.

    Raises
    ------
    MissingDependencyError
        Without matplotlib.
    """
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


def save_histogram(histogram: ScoreHistogram, thresh: float, path: str) -> None:
    """Counts of both classes over the score, on a logarithmic axis.

    Raises
    ------
    MissingDependencyError
        Without matplotlib.
    """
    figure, (axes,) = _figure(1)
    for name, counts in (("positive", histogram.positive), ("negative", histogram.negative)):
        axes.stairs(counts, histogram.edges, label=name)
    axes.axvline(thresh, color="grey", linestyle=":")
    axes.set(xlabel="score", ylabel="count", yscale="symlog", xlim=(histogram.low, histogram.high))
    axes.legend()
    figure.savefig(path)
