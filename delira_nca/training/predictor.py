"""Predictions for all batches of a generator, in groups of any size."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from delira_nca.errors import ConfigError
from delira_nca.training.batches import Batch, batch_length
from delira_nca.training.distributed.context import ALONE, ProcessContext
from delira_nca.training.set_values import SetValues

__all__ = ["as_arrays", "batch_length", "count_samples", "join_batches", "map_arrays", "predict_batches", "regroup"]


def regroup(batches: Iterable[Batch], size: int) -> Iterator[dict[str, Any]]:
    """The same samples in the same order, in batches of another size; the last holds what is left.

    Examples
    --------
    >>> [b["data"].tolist() for b in regroup([{"data": np.arange(2)}, {"data": np.arange(2, 5)}], size=4)]
    [[0, 1, 2, 3], [4]]
    """
    held: dict[str, Any] = {}
    for batch in batches:
        held = {k: np.concatenate([held[k], v]) if held else np.asarray(v) for k, v in batch.items()}
        while batch_length(held) > size:
            yield {k: v[:size] for k, v in held.items()}
            held = {k: v[size:] for k, v in held.items()}
    if held:
        yield held


def as_arrays(prediction: Any) -> Any:
    """Output of a network as arrays: one, or a dict of them by name; of a prediction with ``pred``, that.

    The outputs of a tuple or a list are called ``"0"``, ``"1"``, ..., since a list of arrays stands for samples. Those
    of a dict, a named tuple or a dataclass have their names; those that are None are left out.

    Raises
    ------
    ConfigError
        If there is anything else in it.

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
    if isinstance(prediction, (bool, int, float, np.generic)):
        return np.asarray(prediction)
    raise ConfigError(f"a network predicts tensors, or a dict, list or dataclass of them, not {prediction!r}")


def map_arrays(function: Callable[[Any], Any], arrays: Any) -> Any:
    """Result of a function for each array of what :func:`as_arrays` gave."""
    if isinstance(arrays, dict):
        return {key: map_arrays(function, part) for key, part in arrays.items()}
    return function(arrays)


def join_batches(batches: list[Any], *, split: bool = False) -> Any:
    """One array over all samples for each output; a list where their shapes differ.

    Of an output that is a single number for each batch, one array over all batches.

    Parameters
    ----------
    batches : list
        Outputs of :func:`as_arrays`, one for each batch.
    split : bool
        Whether such a list holds one array per sample instead of one per batch.

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
    """Number of samples in what :func:`join_batches` gave with ``split``."""
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
    evaluate : batch and its number to (values of losses and metrics, prediction as arrays).
    batches : of the data manager.
    batch_size : number of samples of a batch instead of those of ``batches``.
    ranks : processes that predict a part of each batch each; all of them get the whole.
    values : losses and metrics that ``evaluate`` takes part in; means over samples by default.
    targets : names of the entries of a batch that are returned as labels.

    Returns
    -------
    tuple of (predictions, labels, means)
        Predictions are what :func:`join_batches` makes of the batches. Labels are a list of one array per batch, or of
        a dict of arrays where a batch has other targets than ``"label"``. Means are over samples.

    Raises
    ------
    ConfigError
        For a batch size below 1.
    """
    if batch_size is not None:
        if batch_size < 1:
            raise ConfigError(f"batch_size is at least 1, not {batch_size}")
        batches = regroup(batches, batch_size)
    means, predictions, labels = SetValues() if values is None else values, [], list[Any]()
    for number, batch in enumerate(batches):
        part = ranks.part(batch)
        measured, prediction = evaluate(part, number)
        means.add(ranks.mean(measured), batch_length(batch))
        predictions.append(map_arrays(ranks.join_rows, prediction))
        found = {name: np.asarray(batch[name]) for name in targets if name in batch}
        if found:
            labels.append(found["label"] if found.keys() == {"label"} else found)
    return join_batches(predictions), labels, means.result()
