"""Predictions of a trained network, and what each sample scores."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from delira_nca.errors import ConfigError
from delira_nca.models.pytorch_network import AbstractPyTorchNetwork
from delira_nca.models.wiring import evaluate
from delira_nca.seeding import derive_seed, isolated_rng
from delira_nca.training.predictor import batch_length

__all__ = ["Predictor", "predict_all"]

Array = npt.NDArray[Any]


class Predictor:
    """Predicts batches with a trained network, and measures every sample by itself. Subclass it to predict otherwise.

    Parameters
    ----------
    network : in evaluation mode while it predicts; its weights are not changed.
    metrics : name to callable, called with tensors of a batch of one.
    metric_keys : name of a metric to the names of what it is called with; ``("pred", "label")`` by default.
    seed : of what is random in the prediction.
    """

    def __init__(
        self,
        network: AbstractPyTorchNetwork,
        metrics: Mapping[str, Callable[..., Any]] | None = None,
        metric_keys: Mapping[str, tuple[str, ...]] | None = None,
        seed: int = 0,
    ) -> None:
        for name, function in (metrics or {}).items():
            if not callable(function):
                raise ConfigError(f"metric {name!r} is called with tensors, but {function!r} cannot be called")
        self.network, self.metrics, self.seed = network, dict(metrics or {}), seed
        self.metric_keys = {name: tuple(keys) for name, keys in (metric_keys or {}).items()}

    def predict_batch(self, batch: Mapping[str, Any], number: int) -> tuple[Tensor, dict[str, Any]]:
        """Prediction of a prepared batch, and its parts by name. Override it for test-time augmentation, for example.

        Parameters
        ----------
        batch : tensors by name, on the network's device.
        number : of the batch; what is random is a function of it.

        Returns
        -------
        tuple of ((B, ...) tensor, dict of what metrics can be wired to)
        """
        seed = derive_seed(self.seed, "rollout", "test", number)
        prediction, parts = self.network.forward_batch(batch, seed=seed)
        return getattr(prediction, "pred", prediction), parts

    def predict(self, batches: Iterable[Mapping[str, Any]]) -> Iterator[tuple[Array, dict[str, Array]]]:
        """Predict every batch.

        Yields
        ------
        tuple of ((B, ...) array, metric to (B,) array)
        """
        device = next((p.device for p in self.network.parameters()), torch.device("cpu"))
        was_training = self.network.training
        self.network.eval()
        try:
            for number, batch in enumerate(batches):
                data_dict = self.network.prepare_batch(batch, device, device)
                with torch.no_grad(), isolated_rng(derive_seed(self.seed, "test", number)):
                    prediction, parts = self.predict_batch(data_dict, number)
                    values = self._measure({**data_dict, **parts}, batch_length(batch))
                array = prediction.detach().cpu()
                yield np.asarray(array.float() if array.dtype == torch.bfloat16 else array), values
        finally:
            self.network.train(was_training)

    def _measure(self, named: Mapping[str, Any], length: int) -> dict[str, Array]:
        """Every metric of every sample: called with batches of one, so that no mean depends on how samples met."""
        rows = []
        for row in range(length):
            single = {key: value[row : row + 1] if _has_rows(value, length) else value for key, value in named.items()}
            rows.append(evaluate(self.metrics, single, self.metric_keys))
        return {name: np.array([float(row[name]) for row in rows]) for name in self.metrics}


def predict_all(
    predictor: Predictor, batches: Iterable[Mapping[str, Any]]
) -> tuple[Array | list[Array], dict[str, Array]]:
    """Predictions and metrics of all samples.

    Returns
    -------
    tuple of (predictions, metric to (N,) array)
        Predictions are one (N, ...) array; a list of N arrays where their shapes differ.

    Raises
    ------
    ConfigError
        If there is no batch.
    """
    predictions: list[Array] = []
    values: dict[str, list[Array]] = {name: [] for name in predictor.metrics}
    for prediction, measured in predictor.predict(batches):
        predictions.append(prediction)
        for name, row in measured.items():
            values[name].append(row)
    if not predictions:
        raise ConfigError("there is nothing to test: the data gave no batch")
    metrics = {name: np.concatenate(rows) for name, rows in values.items()}
    if len({prediction.shape[1:] for prediction in predictions}) == 1:
        return np.concatenate(predictions), metrics
    return [sample for prediction in predictions for sample in prediction], metrics


def _has_rows(value: Any, length: int) -> bool:
    return isinstance(value, (Tensor, np.ndarray)) and value.ndim > 0 and len(value) == length
