"""Prediction, and metrics of each sample."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from delira_nca.errors import ConfigError
from delira_nca.losses.metric import is_metric
from delira_nca.models.network import evaluate, named_values
from delira_nca.models.pytorch_network import AbstractPyTorchNetwork
from delira_nca.seeding import derive_seed, isolated_rng
from delira_nca.training.batches import check_batch
from delira_nca.training.first_batch import checked
from delira_nca.training.set_values import SetValues, as_arrays, batch_length, join_batches

__all__ = ["Predictor", "predict_all"]

Array = npt.NDArray[Any]


class Predictor:
    """Predict batches with a trained network, and compute metrics for each sample. Subclass it to customise this.

    Parameters
    ----------
    network : AbstractPyTorchNetwork
        Network, which is in evaluation mode during prediction. Its weights do not change.
    metrics : mapping of str to callable, optional
        Functions by name, which are called with batches of one sample; or metrics with update, compute and reset.
    metric_keys : mapping, optional
        Names of the arguments of a metric by its name; ``("pred", "label")`` by default.
    seed : int
        Seed of random numbers in the prediction.

    Attributes
    ----------
    values : SetValues
        Metrics over all samples of the last :meth:`predict`.
    """

    def __init__(
        self,
        network: AbstractPyTorchNetwork,
        metrics: Mapping[str, Callable[..., Any]] | None = None,
        metric_keys: Mapping[str, tuple[str, ...]] | None = None,
        seed: int = 0,
    ) -> None:
        for name, function in (metrics or {}).items():
            if not callable(function) and not is_metric(function):
                raise ConfigError(f"metric {name!r} is called with tensors, but {function!r} cannot be called")
        self.network, self.metrics, self.seed = network, dict(metrics or {}), seed
        self.values, self._is_checked = SetValues(self.metrics), False
        self.metric_keys = {name: tuple(keys) for name, keys in (metric_keys or {}).items()}

    def predict_batch(self, batch: Mapping[str, Any], number: int) -> tuple[Any, dict[str, Any]]:
        """Predict a prepared batch, and return the parts by name. Override it for example for test-time augmentation.

        Parameters
        ----------
        batch : mapping
            Tensors by name, on the device of the network.
        number : int
            Number of the batch, from which random numbers are derived.

        Returns
        -------
        tuple of ((B, ...) tensor, or a dict, list or dataclass of these, dict of the arguments of metrics)
        """
        seed = derive_seed(self.seed, "rollout", "test", number)
        prediction, parts = self.network.forward_batch(batch, seed=seed)
        return getattr(prediction, "pred", prediction), parts

    def predict(self, batches: Iterable[Mapping[str, Any]]) -> Iterator[tuple[Any, dict[str, Array]]]:
        """Predict every batch.

        Yields
        ------
        tuple of ((B, ...) array, or a dict of these, dict of (B,) arrays of metrics)
        """
        self.values = SetValues(self.metrics)
        device = next((p.device for p in self.network.parameters()), torch.device("cpu"))
        was_training = self.network.training
        self.network.eval()
        try:
            for number, batch in enumerate(batches):
                check_batch(batch, f"batch {number}")
                data_dict = self.network.prepare_batch(dict(batch), device, device)
                with torch.no_grad(), isolated_rng(derive_seed(self.seed, "test", number)):
                    prediction, parts = self.predict_batch(data_dict, number)
                    values = self._measure(named_values(data_dict, parts), batch_length(batch))
                yield as_arrays(prediction), values
        finally:
            self.network.train(was_training)

    def _measure(self, named: Mapping[str, Any], length: int) -> dict[str, Array]:
        """Metrics of each sample, computed on batches of one, so that means do not depend on the batches."""
        rows = []
        functions = self.values.functions
        if not self._is_checked:
            functions, self._is_checked = checked(functions, self.metric_keys, what="metric"), True
        for row in range(length):
            single = {key: _row(value, row, length) for key, value in named.items()}
            row_values = evaluate(functions, single, self.metric_keys)
            numbers = {name: np.nan if value is None else float(value) for name, value in row_values.items()}
            self.values.add(numbers, 1)
            rows.append(numbers)
        return {name: np.array([row[name] for row in rows]) for name in self.metrics}


def predict_all(
    predictor: Predictor, batches: Iterable[Mapping[str, Any]]
) -> tuple[Any, dict[str, Array], dict[str, float]]:
    """Predict all samples and compute their metrics.

    Returns
    -------
    tuple of (predictions, dict of (N,) arrays, dict of numbers)
        Predictions are an array (N, ...), a list of N arrays if shapes differ, or a dict of these if the network has
        several outputs. The arrays are metrics of each sample; the numbers are metrics of the whole set.
    """
    predictions: list[Any] = []
    values: dict[str, list[Array]] = {name: [] for name in predictor.metrics}
    for prediction, measured in predictor.predict(batches):
        predictions.append(prediction)
        for name, row in measured.items():
            values[name].append(row)
    if not predictions:
        raise ConfigError("there is nothing to test: the data gave no batch")
    metrics = {name: np.concatenate(rows) for name, rows in values.items()}
    return join_batches(predictions, split=True), metrics, predictor.values.result()


def _row(value: Any, row: int, length: int) -> Any:
    """Batch of one sample of a batch of tensors, or of a list, tuple, dict or dataclass of them."""
    if isinstance(value, (Tensor, np.ndarray)):
        return value[row : row + 1] if value.ndim > 0 and len(value) == length else value
    if isinstance(value, (list, tuple)):
        if len(value) == length and not any(isinstance(part, (Tensor, np.ndarray)) for part in value):
            return value[row : row + 1]  # names of samples
        parts = [_row(part, row, length) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    if isinstance(value, Mapping):
        return {key: _row(part, row, length) for key, part in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = [field.name for field in dataclasses.fields(value) if field.init]
        return dataclasses.replace(value, **{name: _row(getattr(value, name), row, length) for name in fields})
    return value
