"""Losses, metrics and predictions of a set of samples, accumulated over batches."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from delira_nca.checks import require_whole
from delira_nca.errors import ConfigError
from delira_nca.losses.metric import as_metric, load_metric_state, metric_state
from delira_nca.training.batches import Batch, batch_length, check_batch
from delira_nca.training.distributed.context import ALONE, ProcessContext

__all__ = [
    "SampleMean",
    "SetValues",
    "as_arrays",
    "batch_length",
    "count_samples",
    "join_batches",
    "map_arrays",
    "predict_batches",
    "regroup",
]


class SetValues:
    """Losses and metrics of one pass over a set of samples.

    Losses and plain functions are averaged over samples. Metrics with ``update``, ``compute`` and ``reset`` are
    computed once over all samples, and so are the functions of :mod:`delira_nca.losses` that are not means over samples
    (:class:`~delira_nca.losses.RMSE`, :class:`~delira_nca.losses.MacroAccuracy`).

    Parameters
    ----------
    metrics : mapping of name to callable or metric
        Metrics of the training.
    ranks : ProcessContext
        Context of the ranks, each of which computes a part of every batch. Metrics are updated with the whole batch in
        every rank.
    state : mapping, optional
        State of an unfinished pass, from :meth:`state_dict`.

    Attributes
    ----------
    functions : dict of name to callable
        Functions for the closure, which return the value of a batch, or None if it cannot be computed.

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
        held = state or {}
        names = held.get(
            "names", [*held.get("counts", {}), *held.get("metrics", {})]
        )  # older checkpoints have no names
        self._names: dict[str, None] = dict.fromkeys(names)
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
        except Exception:  # not defined for every batch, such as an area under a curve with one class only
            return None

    def _joined(self, value: Any) -> Any:
        return self._ranks.join_rows(value.detach()) if isinstance(value, Tensor) and value.ndim else value

    def add(self, values: Mapping[str, Any], num_samples: int) -> None:
        """Add the values of one batch."""
        self._means.add({name: v for name, v in values.items() if name not in self._whole}, num_samples)
        self._names.update(dict.fromkeys(values))

    def result(self) -> dict[str, float]:
        """Values over the samples so far, by name.

        Raises
        ------
        ConfigError
            If a metric cannot be computed, or its result is not one number.
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
        """Sums, counts, and the state of the metrics."""
        metrics = {name: metric_state(metric) for name, metric in self._whole.items()}
        return {**self._means.state_dict(), "metrics": metrics, "names": list(self._names)}


class SampleMean:
    """Mean over samples of values that are means over batches.

    Parameters
    ----------
    state : mapping, optional
        State to continue from, from :meth:`state_dict`.

    Notes
    -----
    Sums stay on the GPU until :meth:`result`, so that iterations do not synchronise.

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
        """Add the values of one batch."""
        for name, value in values.items():
            number = value.detach() if isinstance(value, torch.Tensor) else value
            try:
                number = number.double() if getattr(number, "is_cuda", False) else float(number)
            except (TypeError, ValueError, RuntimeError):
                shape = getattr(value, "shape", None)
                found = repr(value)[:80] if shape is None else f"a {type(value).__name__} of shape {tuple(shape)}"
                raise ConfigError(f"the value {name!r} of a batch has to be one number, not {found}") from None
            self._sums[name] = self._sums.get(name, 0.0) + number * num_samples
            self._counts[name] = self._counts.get(name, 0) + num_samples

    def result(self) -> dict[str, float]:
        """Means so far, by name."""
        return {name: float(total) / self._counts[name] for name, total in self._sums.items()}

    def state_dict(self) -> dict[str, Any]:
        """Sums and counts so far."""
        return {"sums": {name: float(total) for name, total in self._sums.items()}, "counts": dict(self._counts)}


def regroup(batches: Iterable[Batch], size: int) -> Iterator[dict[str, Any]]:
    """Regroup samples into batches of another size, in the same order; the last batch may be smaller.

    Examples
    --------
    >>> [b["data"].tolist() for b in regroup([{"data": np.arange(2)}, {"data": np.arange(2, 5)}], size=4)]
    [[0, 1, 2, 3], [4]]
    """
    held: dict[str, Any] = {}
    for number, batch in enumerate(batches):
        check_batch(batch, f"batch {number}")
        held = {k: np.concatenate([held[k], v]) if held else np.asarray(v) for k, v in batch.items()}
        while batch_length(held) > size:
            yield {k: v[:size] for k, v in held.items()}
            held = {k: v[size:] for k, v in held.items()}
    if held:
        yield held


def as_arrays(prediction: Any) -> Any:
    """Convert the output of a network to an array or a dict of arrays. An attribute ``pred`` is used if present.

    Outputs in a tuple or a list are named ``"0"``, ``"1"``, ..., since a list of arrays represents samples. Those of a
    dict, a named tuple or a dataclass keep their names; None is skipped.

    Raises
    ------
    ConfigError
        If the output contains other types.

    Examples
    --------
    >>> as_arrays({"logits": torch.zeros(2), "size": (torch.ones(1), torch.ones(1))})["size"]
    {'0': array([1.], dtype=float32), '1': array([1.], dtype=float32)}
    """
    if isinstance(prediction, torch.Tensor):
        tensor = prediction.detach().cpu()
        return np.asarray(tensor.float() if tensor.dtype == torch.bfloat16 else tensor)
    if hasattr(prediction, "pred"):
        return as_arrays(prediction.pred)
    if dataclasses.is_dataclass(prediction) and not isinstance(prediction, type):
        prediction = {field.name: getattr(prediction, field.name) for field in dataclasses.fields(prediction)}
    if hasattr(prediction, "_asdict"):
        prediction = prediction._asdict()
    if isinstance(prediction, Mapping):
        return {key: as_arrays(part) for key, part in prediction.items() if part is not None}
    if isinstance(prediction, (tuple, list)):
        if len(prediction) == 1:  # delira's closures return a list of predictions
            return as_arrays(prediction[0])
        return {str(number): as_arrays(part) for number, part in enumerate(prediction)}
    if isinstance(prediction, np.ndarray):
        return prediction
    if callable(getattr(prediction, "numpy", None)):  # a tensor of TensorFlow
        return np.asarray(prediction)
    if isinstance(prediction, (bool, int, float, np.generic)):
        return np.asarray(prediction)
    raise ConfigError(f"a network predicts tensors, or a dict, list or dataclass of them, not {prediction!r}")


def map_arrays(function: Callable[[Any], Any], arrays: Any) -> Any:
    """Apply a function to each array in the result of :func:`as_arrays`."""
    if isinstance(arrays, dict):
        return {key: map_arrays(function, part) for key, part in arrays.items()}
    return function(arrays)


def join_batches(batches: list[Any], *, split: bool = False) -> Any:
    """Join each output to one array over all samples, or to a list if shapes differ.

    An output with a single number per batch is joined to one array over all batches.

    Parameters
    ----------
    batches : list
        Results of :func:`as_arrays`, one per batch.
    split : bool
        Whether such a list contains one array per sample instead of one per batch.

    Examples
    --------
    >>> join_batches([{"a": np.zeros((2, 3))}, {"a": np.zeros((1, 3))}])["a"].shape
    (3, 3)
    """
    if batches and isinstance(batches[0], dict):
        return {key: join_batches([batch[key] for batch in batches], split=split) for key in batches[0]}
    if batches and all(batch.ndim == 0 for batch in batches):
        return np.stack(batches)
    if len({batch.shape[1:] for batch in batches}) == 1:
        return np.concatenate(batches)
    return [sample for batch in batches for sample in batch] if split else batches


def count_samples(predictions: Any) -> int:
    """Number of samples in the result of :func:`join_batches` with ``split``."""
    return max(map(count_samples, predictions.values())) if isinstance(predictions, dict) else len(predictions)


def predict_batches(
    evaluate: Callable[[Batch, int], tuple[Mapping[str, Any], Any]],
    batches: Iterable[Batch],
    batch_size: int | None = None,
    ranks: ProcessContext = ALONE,
    values: SetValues | None = None,
    targets: Sequence[str] = ("label",),
) -> tuple[Any, list[Any], dict[str, float]]:
    """Predict every batch.

    Parameters
    ----------
    evaluate : callable
        Function of a batch and its number that returns the values of losses and metrics, and the prediction as arrays.
    batches : iterable of mapping of str to array
        Batches to predict.
    batch_size : int, optional
        Number of samples per batch, instead of that of ``batches``.
    ranks : ProcessContext
        Context of the ranks. Each predicts a part of every batch, and all return the whole.
    values : SetValues, optional
        Losses and metrics to which values are added; means over samples by default.
    targets : sequence of str
        Names of the entries of a batch to return as labels.

    Returns
    -------
    tuple of (predictions, labels, means)
        Predictions joined by :func:`join_batches`; a list of the labels of each batch, as an array, or as a dict of
        arrays if the batch has targets other than ``"label"``; and means over samples.
    """
    if batch_size is not None:
        require_whole("batch_size", batch_size, 1)
        batches = regroup(batches, batch_size)
    means, predictions, labels = SetValues() if values is None else values, [], list[Any]()
    for number, batch in enumerate(batches):
        check_batch(batch, f"batch {number}")
        part = ranks.part(batch)
        measured, prediction = evaluate(part, number)
        means.add(ranks.mean(measured), batch_length(batch))
        predictions.append(map_arrays(ranks.join_rows, prediction))
        found = {name: np.asarray(batch[name]) for name in targets if name in batch}
        if found:
            labels.append(found["label"] if found.keys() == {"label"} else found)
    return join_batches(predictions), labels, means.result()
