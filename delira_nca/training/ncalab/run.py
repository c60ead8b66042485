"""The trainer that does the work behind NCALab's face."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import Tensor

from delira_nca.errors import ConfigError
from delira_nca.models.pytorch_network import declared_loss_names
from delira_nca.models.tasks.task import Metrics
from delira_nca.seeding import derive_seed, isolated_rng
from delira_nca.training.pytorch_trainer import PyTorchNetworkTrainer

__all__ = ["NCALabRun", "TrainStep"]

TrainStep = Callable[[Tensor, Tensor, Any, int, Any], tuple[Any, dict[str, Tensor]]]
"""From images, labels, optimizer, number of the iteration and writer to prediction and losses."""


class NCALabRun(PyTorchNetworkTrainer):
    """A training whose step is a function of the user's, and which measures with the network's own metrics.

    Parameters
    ----------
    step : called once per iteration of training.
    writer : handed to the step.
    network : to train; its ``metrics`` measure validations.
    *args, **kwargs : those of :class:`~delira_nca.training.PyTorchNetworkTrainer`.
    """

    def __init__(self, network: Any, *args: Any, step: TrainStep, writer: Any = None, **kwargs: Any) -> None:
        own = getattr(network, "metrics", None)
        # a method measures batch by batch, functions by name measure the whole set
        if isinstance(own, Metrics):
            kwargs["metrics"], own = dict(own), None
        super().__init__(network, *args, **kwargs)
        self.train_step, self.writer, self.measure = step, writer, own

    def _closure(self, data_dict: Mapping[str, Any], iter_num: int, *, train: bool) -> tuple[dict[str, Any], Any]:
        """Take the step of training, or predict and measure."""
        if not train:
            values, prediction = super()._closure(data_dict, iter_num, train=False)
            if self.measure is not None:
                measured = self.measure(prediction, data_dict["label"])
                if shared := sorted(values.keys() & measured.keys()):
                    name = type(self.network).__name__
                    raise ConfigError(
                        f"{shared[0]!r} is the name of a loss and of a metric of {name}: choose two names"
                    )
                values = {**values, **measured}
            return values, prediction
        self._memory_check(self.network, data_dict, self.precision)
        seed = derive_seed(self.seed, "closure", "train", self.step, *self.ranks.stream)
        with isolated_rng(seed), self.ranks.working():
            prediction, losses = self.train_step(
                data_dict["data"], data_dict["label"], self.optimizers["default"], self.step, self.writer
            )
        values = {name: value.detach() for name, value in losses.items() if name != "total"}
        return {**values, "loss": losses["total"].detach()}, prediction.detach()

    def evaluate(self, batches: Iterable[Mapping[str, Any]]) -> dict[str, float]:
        """Means over samples of losses and metrics, without a training."""
        return self._validate_single_epoch(batches, self.start_epoch)

    def _score_names(self, *, validated: bool) -> list[str] | None:
        """Names of losses, and of metrics where the network has them as a dict; None where it does not say them."""
        losses, metrics = declared_loss_names(self.network), getattr(self.network, "metrics", {})
        if losses is None or not isinstance(metrics, Mapping):
            return None
        names = [*(name for name in losses if name != "total"), "loss"]
        return [*names, *(f"val_{name}" for name in (*names, *metrics))] if validated else names
