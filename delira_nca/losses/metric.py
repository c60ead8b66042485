"""Metrics of a whole data set, which accumulate batches and differ from the mean over batches."""

from __future__ import annotations

import copy
import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from delira_nca.errors import ConfigError
from delira_nca.losses.checks import class_labels, same_shape
from delira_nca.losses.depth import rmse
from delira_nca.losses.scores import accuracy, macro_accuracy

__all__ = [
    "RMSE",
    "MacroAUROC",
    "MacroAccuracy",
    "MacroF1",
    "Metric",
    "as_metric",
    "is_metric",
    "load_metric_state",
    "metric_state",
]


class Metric(ABC):
    """Base class of metrics with ``update``, ``compute`` and ``reset``, as in torchmetrics.

    The trainer resets a metric before each pass over a data set, updates it with every batch, and computes it at the
    end, so that the value does not depend on the batch size. Any object with these three methods can be used.
    Attributes that are numbers, arrays, tensors or other metrics, or lists or dicts of them, or sets of numbers and
    strings, are its state.
    """

    @abstractmethod
    def update(self, *args: Tensor) -> None:
        """Add one batch of (B, ...) tensors."""

    @abstractmethod
    def compute(self) -> Tensor | float:
        """Return the value over all batches since the last reset, one number."""

    @abstractmethod
    def reset(self) -> None:
        """Remove all batches."""

    def __call__(self, *args: Tensor) -> Tensor | float:
        """Return the value of one batch without changing the state."""
        alone = copy.deepcopy(self)
        alone.reset()
        alone.update(*args)
        return alone.compute()


class RMSE(Metric):
    """Root of the mean squared error over all cells of a data set; see :func:`delira_nca.losses.rmse`.

    Examples
    --------
    >>> metric = RMSE()
    >>> metric.update(torch.tensor([3.0]), torch.tensor([0.0]))
    >>> metric.update(torch.tensor([4.0, 5.0]), torch.tensor([0.0, 5.0]))
    >>> round(metric.compute(), 4)  # the root of 25 / 3
    2.8868
    """

    direction = "lowest"

    def __init__(self) -> None:
        self.reset()

    def update(self, pred: Tensor, label: Tensor) -> None:  # type: ignore[override]
        """Add tensors of one shape."""
        label = same_shape(pred, label)
        self.total += float((pred - label).double().square().sum())
        self.count += label.numel()

    def compute(self) -> float:
        """Return the root of the mean; NaN without data."""
        return (self.total / self.count) ** 0.5 if self.count else float("nan")

    def reset(self) -> None:
        """Remove all errors."""
        self.total, self.count = 0.0, 0


class MacroAccuracy(Metric):
    """Accuracy of each class, averaged over the classes of a data set; see :func:`delira_nca.losses.macro_accuracy`.

    Examples
    --------
    >>> metric = MacroAccuracy()
    >>> for answer, label in [(0, 0), (0, 0), (0, 1), (1, 1)]:
    ...     metric.update(torch.eye(2)[[answer]], torch.tensor([label]))
    >>> metric.compute()
    0.75
    """

    direction = "highest"

    def __init__(self) -> None:
        self.counts: list[int] = []
        self.right: list[int] = []
        self.is_finite = True

    def update(self, logits: Tensor, label: Tensor) -> None:  # type: ignore[override]
        """Add (B, K, ...) scores, the maximum of which is the predicted class, and integer labels from 0 to K - 1."""
        label = class_labels(logits, label)
        classes = logits.shape[1]
        right = label[logits.argmax(1) == label]
        if not self.counts:
            self.counts, self.right = [0] * classes, [0] * classes
        for held, found in ((self.counts, label), (self.right, right)):
            for index, number in enumerate(torch.bincount(found.flatten(), minlength=classes).tolist()):
                held[index] += number
        self.is_finite = self.is_finite and not bool(logits.isnan().any())

    def compute(self) -> float:
        """Return the mean over the classes that occur in the labels; NaN if a prediction was NaN."""
        shares = [right / count for right, count in zip(self.right, self.counts, strict=True) if count]
        return sum(shares) / len(shares) if shares and self.is_finite else float("nan")

    def reset(self) -> None:
        """Remove all predictions."""
        self.counts, self.right, self.is_finite = [], [], True


class MacroF1(Metric):
    """F1 score of each class, averaged over the classes that occur in the labels or predictions of a data set.

    Examples
    --------
    >>> metric = MacroF1()
    >>> metric.update(torch.eye(3)[[0, 0, 1, 1]], torch.tensor([0, 0, 0, 1]))
    >>> round(metric.compute(), 4)  # the mean of 0.8 and 2 / 3; class 2 does not occur
    0.7333
    """

    direction = "highest"

    def __init__(self) -> None:
        self.confusion: list[list[int]] = []
        self.is_finite = True

    def update(self, logits: Tensor, label: Tensor) -> None:  # type: ignore[override]
        """Add (B, K, ...) scores, the maximum of which is the predicted class, and integer labels from 0 to K - 1."""
        label = class_labels(logits, label)
        classes = logits.shape[1]
        pairs = (label * classes + logits.argmax(1)).flatten()
        found = torch.bincount(pairs, minlength=classes**2).view(classes, classes)
        held = torch.tensor(self.confusion).to(found) if self.confusion else 0
        self.confusion = (found + held).tolist()
        self.is_finite = self.is_finite and not bool(logits.isnan().any())

    def compute(self) -> float:
        """Return the mean over the classes that occur; NaN without data, or if a prediction was NaN."""
        counts = np.array(self.confusion or [[0]], float)
        right, both = np.diag(counts), counts.sum(0) + counts.sum(1)
        if not self.is_finite or not both.any():
            return float("nan")
        return float((2 * right[both > 0] / both[both > 0]).mean())

    def reset(self) -> None:
        """Remove all predictions."""
        self.confusion, self.is_finite = [], True


class MacroAUROC(Metric):
    """Area under the ROC curve of each class against the others, averaged over the classes of a data set.

    The scores of all samples are kept. They are converted by the softmax unless all are in [0, 1].

    Examples
    --------
    >>> metric = MacroAUROC()
    >>> metric.update(torch.tensor([[0.9, 0.1], [0.4, 0.6], [0.6, 0.4], [0.2, 0.8]]), torch.tensor([0, 0, 1, 1]))
    >>> metric.compute()
    0.75
    """

    direction = "highest"

    def __init__(self) -> None:
        self.scores: list[Tensor] = []
        self.labels: list[Tensor] = []

    def update(self, logits: Tensor, label: Tensor) -> None:  # type: ignore[override]
        """Add (B, K, ...) scores and integer labels from 0 to K - 1."""
        label = class_labels(logits, label)
        self.scores.append(logits.detach().movedim(1, -1).flatten(0, -2).float().cpu())
        self.labels.append(label.flatten().cpu())

    def compute(self) -> float:
        """Return the mean over the classes with positive and negative samples; NaN without such classes."""
        from sklearn.metrics import roc_auc_score

        if not self.scores:
            return float("nan")
        found, labels = torch.cat(self.scores), torch.cat(self.labels).numpy()
        if not bool(found.isfinite().all()):
            return float("nan")
        are_shares = bool(((found >= 0) & (found <= 1)).all())
        scores = (found if are_shares else found.softmax(1)).numpy()
        members = [labels == k for k in range(scores.shape[1])]
        areas = [roc_auc_score(m, scores[:, k]) for k, m in enumerate(members) if m.any() and not m.all()]
        return float(np.mean(areas)) if areas else float("nan")

    def reset(self) -> None:
        """Remove all predictions."""
        self.scores, self.labels = [], []


_METRICS: dict[Any, type[Metric]] = {rmse: RMSE, macro_accuracy: MacroAccuracy}


def as_metric(function: Callable[..., Any]) -> Any | None:
    """Return a new metric for a function or metric; None for a function that is averaged over samples.

    Examples
    --------
    >>> type(as_metric(rmse)).__name__, as_metric(accuracy) is None
    ('RMSE', True)
    """
    while isinstance(function, functools.partial) and not function.args and not function.keywords:
        function = function.func
    if isinstance(function, functools.partial) and function.func is accuracy:
        is_macro = function.keywords.get("average") == "macro" and not function.args
        return MacroAccuracy() if is_macro else None
    if isinstance(function, Hashable) and function in _METRICS:
        return _METRICS[function]()
    if not is_metric(function):
        return None
    metric: Any = copy.deepcopy(function)
    if hasattr(metric, "sync_on_compute"):  # torchmetrics; the trainer passes the whole batch to every process
        metric.sync_on_compute = False
    metric.reset()
    return metric


def is_metric(value: Any) -> bool:
    """Whether an object has ``update``, ``compute`` and ``reset``.

    Examples
    --------
    >>> is_metric(RMSE()), is_metric(RMSE), is_metric(rmse)
    (True, False, False)
    """
    methods = (getattr(value, name, None) for name in ("update", "compute", "reset"))
    return not isinstance(value, type) and all(map(callable, methods))


def metric_state(metric: Any) -> dict[str, Any]:
    """Return the state of a metric, and of the metrics that it contains, as plain values and tensors."""
    modules = {name: module for name, module in getattr(metric, "_modules", {}).items() if _is_state(module)}
    names = getattr(metric, "_defaults", None)  # names of the states in torchmetrics
    if names is not None and not modules:
        return {name: _plain(getattr(metric, name)) for name in (*names, "_update_count")}
    if names is not None:  # a metric of torchmetrics that wraps others
        own = {name: value for name, value in vars(metric).items() if name[0] != "_" or name == "_update_count"}
        modules |= {name: getattr(metric, name) for name in names} | own
    else:
        modules |= {name: value for name, value in vars(metric).items() if not (modules and name == "_modules")}
    return {name: _plain(value) for name, value in modules.items() if _is_state(value)}


def load_metric_state(metric: Any, state: Mapping[str, Any]) -> None:
    """Load a state returned by :func:`metric_state`.

    Raises
    ------
    ConfigError
        If the metric has no such attribute.
    """
    if unknown := sorted(state.keys() - metric_state(metric).keys()):
        raise ConfigError(f"{type(metric).__name__} has no state {unknown[0]!r}: it is not the metric that was saved")
    for name, value in state.items():
        current = getattr(metric, name)
        loaded = _loaded(current, value)
        if loaded is not current:
            setattr(metric, name, loaded)


_INNER = "delira_nca:metric"


def _is_state(value: Any) -> bool:
    if isinstance(value, (set, frozenset)):
        return all(isinstance(part, (bool, int, float, str, bytes)) for part in value)
    if isinstance(value, (list, tuple, nn.ModuleList)):
        return all(map(_is_state, value))
    if isinstance(value, dict) or (isinstance(value, nn.ModuleDict) and not is_metric(value)):
        return all(map(_is_state, value.values()))
    return value is None or isinstance(value, (bool, int, float, str, Tensor, np.ndarray)) or is_metric(value)


def _plain(value: Any) -> Any:
    """Convert a part of a state to plain values; a metric becomes a dict with one entry."""
    if is_metric(value):
        return {_INNER: metric_state(value)}
    has_metrics = isinstance(value, (nn.ModuleList, nn.ModuleDict)) or _contains_metric(value)
    if isinstance(value, (list, nn.ModuleList)):
        return list(map(_plain, value)) if has_metrics else value
    if isinstance(value, tuple):
        return tuple(map(_plain, value)) if has_metrics else value
    if isinstance(value, (dict, nn.ModuleDict)) and has_metrics:
        return {key: _plain(part) for key, part in value.items()}
    return value


def _contains_metric(value: Any) -> bool:
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    return any(is_metric(part) or _contains_metric(part) for part in parts)


def _loaded(current: Any, value: Any) -> Any:
    """Convert a part of a state back; metrics that ``current`` contains load theirs."""
    if is_metric(current):
        load_metric_state(current, value[_INNER])
        return current
    if isinstance(current, nn.ModuleList) or (isinstance(current, (list, tuple)) and _contains_metric(current)):
        for part, kept in zip(current, value, strict=True):
            _loaded(part, kept)
        return current
    if isinstance(current, nn.ModuleDict) or (isinstance(current, dict) and _contains_metric(current)):
        for name, kept in value.items():
            _loaded(current[name], kept)
        return current
    if isinstance(current, np.ndarray):  # older checkpoints store arrays as tensors
        return torch.as_tensor(value).clone().numpy()
    return copy.deepcopy(value)
