"""Prediction, and metrics of each sample."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from delira_nca.errors import ConfigError
from delira_nca.losses.metric import is_metric
from delira_nca.models.pytorch_network import AbstractPyTorchNetwork, evaluate
from delira_nca.seeding import derive_seed, isolated_rng
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
        self.values = SetValues(self.metrics)
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
                data_dict = self.network.prepare_batch(batch, device, device)
                with torch.no_grad(), isolated_rng(derive_seed(self.seed, "test", number)):
                    prediction, parts = self.predict_batch(data_dict, number)
                    values = self._measure({**data_dict, **parts}, batch_length(batch))
                yield as_arrays(prediction), values
        finally:
            self.network.train(was_training)

    def _measure(self, named: Mapping[str, Any], length: int) -> dict[str, Array]:
        """Metrics of each sample, computed on batches of one, so that means do not depend on the batches."""
        rows = []
        for row in range(length):
            single = {key: value[row : row + 1] if _has_rows(value, length) else value for key, value in named.items()}
            row_values = evaluate(self.values.functions, single, self.metric_keys)
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

    Raises
    ------
    ConfigError
        If there are no batches.
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


def _has_rows(value: Any, length: int) -> bool:
    return isinstance(value, (Tensor, np.ndarray)) and value.ndim > 0 and len(value) == length
