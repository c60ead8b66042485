"""Prediction and measurement of each sample by itself."""

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
    """Predicts batches with a trained network, and measures every sample by itself. Subclass it to predict otherwise.

    Parameters
    ----------
    network : AbstractPyTorchNetwork
        In evaluation mode while it predicts; its weights are not changed.
    metrics : mapping of str to callable, optional
        Name to callable, called with tensors of a batch of one; or to a metric with update, compute and reset.
    metric_keys : mapping, optional
        Name of a metric to the names of what it is called with; ``("pred", "label")`` by default.
    seed : int
        Of what is random in the prediction.

    Attributes
    ----------
    values : metrics of all samples that the last :meth:`predict` has seen.
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
        """Prediction of a prepared batch, and its parts by name. Override it for test-time augmentation, for example.

        Parameters
        ----------
        batch : mapping
            Tensors by name, on the network's device.
        number : int
            Of the batch; what is random is a function of it.

        Returns
        -------
        tuple of ((B, ...) tensor, or a dict, list or dataclass of these, dict of what metrics can be wired to)
        """
        seed = derive_seed(self.seed, "rollout", "test", number)
        prediction, parts = self.network.forward_batch(batch, seed=seed)
        return getattr(prediction, "pred", prediction), parts

    def predict(self, batches: Iterable[Mapping[str, Any]]) -> Iterator[tuple[Any, dict[str, Array]]]:
        """Predict every batch.

        Yields
        ------
        tuple of ((B, ...) array, or a dict of these, metric to (B,) array)
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
        """Every metric of every sample: called with batches of one, so that no mean depends on how samples met."""
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
    """Predictions and metrics of all samples.

    Returns
    -------
    tuple of (predictions, metric to (N,) array, metric to number)
        Predictions are one (N, ...) array; a list of N arrays where their shapes differ; a dict of these where the
        network has several outputs. The numbers are metrics of the whole set.

    Raises
    ------
    ConfigError
        If there is no batch.
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
