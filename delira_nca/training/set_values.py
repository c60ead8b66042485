"""Losses and metrics of a set of samples, taken in batch by batch."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from delira_nca.errors import ConfigError
from delira_nca.losses.metric import as_metric, load_metric_state, metric_state
from delira_nca.training.distributed.context import ALONE, ProcessContext

__all__ = [
    "SampleMean",
    "SetValues",
]


class SetValues:
    """Values of one pass over a set.

    Losses and plain functions are means over samples of what the batches gave. A metric with ``update``, ``compute``
    and ``reset`` is computed once, of all samples; so are those functions of :mod:`delira_nca.losses` that are no
    means over samples (:class:`~delira_nca.losses.RMSE`, :class:`~delira_nca.losses.MacroAccuracy`).

    Parameters
    ----------
    metrics : mapping of name to callable or metric
        Metrics of the training.
    ranks : ProcessContext
        Processes that compute a part of each batch each. A metric takes in the whole batch in every process.
    state : mapping, optional
        State of a pass that was begun, from :meth:`state_dict`.

    Attributes
    ----------
    functions : dict of name to callable
        Functions that a closure calls with its tensors; they return the value of the batch, None where it has none.

    Examples
    --------
    >>> import torch
    >>> from delira_nca.losses import rmse
    >>> values = SetValues({"rmse": rmse})
    >>> for error in (3.0, 4.0):
    ...     batch = values.functions["rmse"](torch.tensor([error]), torch.tensor([0.0]))
    ...     values.add({"rmse": batch, "loss": error}, num_samples=1)
    >>> {name: round(value, 4) for name, value in values.result().items()}
    {'rmse': 3.5355, 'loss': 3.5}
    """

    def __init__(
        self,
        metrics: Mapping[str, Callable[..., Any]] | None = None,
        ranks: ProcessContext = ALONE,
        state: Mapping[str, Any] | None = None,
    ) -> None:
        self._ranks, self._means = ranks, SampleMean(state)
        given = dict(metrics or {})
        self._whole = {name: metric for name, f in given.items() if (metric := as_metric(f)) is not None}
        self._batch: dict[str, Any] = {name: as_metric(given[name]) for name in self._whole}
        for name, saved in (state or {}).get("metrics", {}).items():
            if name in self._whole:
                load_metric_state(self._whole[name], saved)
        self._names: dict[str, None] = dict.fromkeys((state or {}).get("counts", {})) | dict.fromkeys(
            (state or {}).get("metrics", {})
        )
        self.functions: dict[str, Callable[..., Any]] = {
            name: functools.partial(self._update, name) if name in self._whole else function
            for name, function in given.items()
        }

    def _update(self, name: str, *args: Any, **kwargs: Any) -> Any:
        arguments = [self._joined(arg) for arg in args]
        keywords = {key: self._joined(arg) for key, arg in kwargs.items()}
        self._whole[name].update(*arguments, **keywords)
        self._names[name] = None
        metric = self._batch[name]
        metric.reset()
        metric.update(*arguments, **keywords)
        try:
            return metric.compute()
        except Exception:  # some cannot be computed of every batch, as an area under a curve of one class
            return None

    def _joined(self, value: Any) -> Any:
        return self._ranks.join_rows(value.detach()) if isinstance(value, Tensor) and value.ndim else value

    def add(self, values: Mapping[str, Any], num_samples: int) -> None:
        """Take in the values of one batch."""
        self._means.add({name: v for name, v in values.items() if name not in self._whole}, num_samples)
        self._names.update(dict.fromkeys(values))

    def result(self) -> dict[str, float]:
        """Values of the set so far, by name.

        Raises
        ------
        ConfigError
            If a metric cannot be computed, or is not one number.
        """
        means = self._means.result()
        return {name: means[name] if name in means else self._compute(name) for name in self._names}

    def _compute(self, name: str) -> float:
        try:
            value = self._whole[name].compute()
        except Exception as error:
            raise ConfigError(f"metric {name!r} cannot be computed of this set: {error}") from error
        try:
            return float(value)
        except (TypeError, ValueError, RuntimeError):
            raise ConfigError(f"metric {name!r} has to be one number, not {value!r}") from None

    def state_dict(self) -> dict[str, Any]:
        """Sums, counts, and what the metrics have taken in."""
        metrics = {name: metric_state(metric) for name, metric in self._whole.items()}
        return {**self._means.state_dict(), "metrics": metrics}


class SampleMean:
    """Mean over samples of values that are themselves means over batches.

    Parameters
    ----------
    state : from :meth:`state_dict`, to go on from.

    Notes
    -----
    Sums stay on a GPU until :meth:`result`, so that no iteration waits for one.

    Examples
    --------
    >>> mean = SampleMean()
    >>> mean.add({"loss": torch.tensor(1.0)}, num_samples=3)
    >>> mean.add({"loss": torch.tensor(5.0)}, num_samples=1)
    >>> mean.result()
    {'loss': 2.0}
    """

    def __init__(self, state: Mapping[str, Any] | None = None) -> None:
        self._sums: dict[str, Any] = dict(state["sums"]) if state else {}
        self._counts: dict[str, int] = dict(state["counts"]) if state else {}

    def add(self, values: Mapping[str, Any], num_samples: int) -> None:
        """Take in the values of one batch."""
        for name, value in values.items():
            number = value.detach() if isinstance(value, torch.Tensor) else value
            number = number.double() if getattr(number, "is_cuda", False) else float(number)
            self._sums[name] = self._sums.get(name, 0.0) + number * num_samples
            self._counts[name] = self._counts.get(name, 0) + num_samples

    def result(self) -> dict[str, float]:
        """Means so far, by name."""
        return {name: float(total) / self._counts[name] for name, total in self._sums.items()}

    def state_dict(self) -> dict[str, Any]:
        """Sums and counts so far."""
        return {"sums": {name: float(total) for name, total in self._sums.items()}, "counts": dict(self._counts)}
