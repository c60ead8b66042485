"""Predictions with NCALab's names, and adapters for metrics of other packages."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from delira_nca.losses.metric import Metric, as_metric, is_metric
from delira_nca.models import prediction

__all__ = ["MetricOfNCALab", "Prediction", "as_measured"]


class Prediction(prediction.Prediction):
    """Prediction of a model of this package; see :class:`delira_nca.models.Prediction`."""

    def parts(self) -> dict[str, Tensor]:
        """Return all parts by name, including ``"measured"``, the argument of metrics of other packages.

        It is the mask without its channel axis if there is one, else the logits.
        """
        measured = self.logits if self.mask is None else self.mask.squeeze(1)
        return {**super().parts(), "measured": measured}


class MetricOfNCALab(Metric):
    """Metric of another package, such as torchmetrics, with arguments as in NCALab.

    The labels of masks and classes are converted to integers, without an axis of one channel.

    Parameters
    ----------
    metric : object
        Object with ``update``, ``compute`` and ``reset``. It is copied.
    """

    def __init__(self, metric: Any) -> None:
        self.metric: Any = as_metric(metric)

    def update(self, measured: Tensor, label: Tensor) -> None:  # type: ignore[override]
        """Add one batch."""
        device = getattr(self.metric, "device", measured.device)
        if measured.dtype == torch.bool or (measured.dim() > 1 and measured.shape[1] > 1):
            has_channel = label.dim() > 1 and label.shape[1] == 1
            is_mask = measured.dtype == torch.bool and label.dim() == measured.dim()
            label = (label.squeeze(1) if has_channel and not is_mask else label).long()
        self.metric.update(measured.to(device), label.to(device))

    def compute(self) -> Any:
        """Return the value over all batches since the last reset."""
        return self.metric.compute()

    def reset(self) -> None:
        """Remove all batches."""
        self.metric.reset()


def as_measured(
    metrics: Mapping[str, Callable[..., Any]],
) -> tuple[dict[str, Callable[..., Any]], dict[str, tuple[str, ...]]]:
    """Return the metrics of a model, with those of other packages wrapped, and the names of the arguments of these."""
    foreign = {name for name, metric in metrics.items() if is_metric(metric) and not isinstance(metric, Metric)}
    wrapped = {name: MetricOfNCALab(metric) if name in foreign else metric for name, metric in metrics.items()}
    return wrapped, dict.fromkeys(foreign, ("measured", "label"))
