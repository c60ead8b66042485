"""Metrics of Keras as metrics of a whole data set."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from delira_nca.losses.metric import Metric

__all__ = ["KerasMetric"]


class KerasMetric(Metric):
    """Metric of Keras with the methods that the trainer calls, and a state that a checkpoint can hold.

    Parameters
    ----------
    metric : keras.metrics.Metric
        Metric, whose ``update_state`` takes the label and the prediction.

    Examples
    --------
    >>> metric = KerasMetric(keras.metrics.MeanAbsoluteError())
    >>> metric.update(np.zeros(2), np.array([1.0, 3.0]))
    >>> metric.compute()
    2.0
    """

    def __init__(self, metric: keras.metrics.Metric) -> None:
        self._metric: Any = metric
        self.values: list[np.ndarray] = []
        self.reset()

    def __deepcopy__(self, memo: Any) -> KerasMetric:
        """Share the metric of Keras: the state is in ``values``."""
        copied = object.__new__(type(self))
        copied._metric, copied.values = self._metric, [value.copy() for value in self.values]
        return copied

    def update(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:  # type: ignore[override]
        """Add a batch of labels and predictions."""
        if len(self._metric.variables) < len(self.values):  # resumed, and built by its first update
            self._metric.update_state(y_true, y_pred, sample_weight)
        self._load()
        self._metric.update_state(y_true, y_pred, sample_weight)
        self._store()

    def compute(self) -> float:
        """Return the result of the metric of Keras."""
        self._load()
        return float(self._metric.result())

    def reset(self) -> None:
        """Remove all batches."""
        self._metric.reset_state()
        self._store()

    def _load(self) -> None:
        # variables that another copy of this metric has built since begin at their initial values
        for variable, value in zip(self._metric.variables, self.values, strict=False):
            variable.assign(value)

    def _store(self) -> None:
        self.values = [np.array(variable.value.numpy()) for variable in self._metric.variables]
