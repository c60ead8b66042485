"""Callbacks for NCALab's arguments: pool, scheduler, early stopping, history, and writer of event files."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from delira_nca.checks import require_number, require_whole
from delira_nca.errors import ConfigError, ShapeError
from delira_nca.losses import per_sample_mse
from delira_nca.models.inputs import pad_input
from delira_nca.ncalab.history import TrainingHistory
from delira_nca.ncalab.pool import Pool
from delira_nca.training.callbacks.abstract_callback import AbstractCallback, Returned, Trainer
from delira_nca.training.callbacks.optimization import warn_of_vanishing_rate
from delira_nca.training.scores import find_score_key, higher_is_better, is_better

__all__ = [
    "EarlyStopping",
    "EarlyStoppingCallback",
    "HistoryCallback",
    "PoolOfSeeds",
    "SchedulerCallback",
    "WriterOfEvents",
]


class _Owned(AbstractCallback):
    """Callback whose state is that of an object of the user, which may serve several trainings."""

    def __init__(self, owner: Any) -> None:
        self.owner = owner

    @property
    def state_owner(self) -> Any:
        """Object of the user."""
        return self.owner

    def state_dict(self) -> dict[str, Any]:
        """State of the object."""
        return dict(self.owner.state_dict())

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load a state."""
        self.owner.load_state_dict(dict(state))


class PoolOfSeeds(_Owned):
    """Replace seeds by states of NCALab's pool, and write them back with their losses.

    Parameters
    ----------
    pool : Pool
        Pool of states with identical seeds and labels.
    """

    def __init__(self, pool: Pool) -> None:
        super().__init__(pool)
        self.pool = pool

    def at_iter_begin(self, trainer: Trainer, *, train: bool, data_dict: Mapping[str, Any], **event: Any) -> Returned:
        """Draw states; raise an error if samples differ, since labels would not follow the states."""
        if not train:
            return None
        network: Any = trainer.network
        seeds = pad_input(data_dict["data"], network, noise=False)
        for name, values in (("data", seeds), ("label", data_dict["label"])):
            if not torch.equal(values, values[:1].expand_as(values)):
                raise ConfigError(
                    f"the pool is for a batch of one seed and one label, but {name!r} differs from sample to sample: "
                    "use PoolMutation or PoolUpdate with slots"
                )
        return {"data_dict": {**data_dict, "data": self.pool.sample(seeds)}}

    def at_iter_end(
        self, trainer: Trainer, *, train: bool, data_dict: Mapping[str, Any], prediction: Any, **event: Any
    ) -> None:
        """Write the states back with their losses."""
        if not train:
            return
        pred, label = prediction.pred, data_dict["label"]
        if pred.shape != label.shape:
            raise ShapeError(f"the pool ranks by the error of {tuple(pred.shape)} against {tuple(label.shape)}")
        self.pool.update(prediction.output_image, per_sample_mse(pred, label))


class SchedulerCallback(AbstractCallback):
    """Step a scheduler created by the user once per epoch.

    Parameters
    ----------
    scheduler : object
        Scheduler of torch.
    """

    rolls_back = False
    state_key = "GivenScheduler"

    def __init__(self, scheduler: Any) -> None:
        self.scheduler = scheduler

    def at_training_begin(self, trainer: Trainer, *, num_epochs: int | None = None, **event: Any) -> None:
        """Raise an error for a scheduler that needs a score if there is none; warn of a rate that vanishes."""
        if isinstance(self.scheduler, ReduceLROnPlateau) and trainer.best.key is None:
            raise ConfigError("ReduceLROnPlateau follows the score of validation: give dataloader_val")
        if trainer.start_epoch == 1 and isinstance(followed := getattr(self.scheduler, "optimizer", None), Optimizer):
            name = f"lr_scheduler={type(self.scheduler).__name__}"
            warn_of_vanishing_rate(self.scheduler, followed, num_epochs, name)

    def at_epoch_end(self, trainer: Trainer, *, val_metrics: Mapping[str, float], **event: Any) -> None:
        """Step the scheduler."""
        with warnings.catch_warnings():
            # a copied scheduler does not know whether its optimizer has stepped, and warns about the order
            warnings.filterwarnings("ignore", message=".*lr_scheduler.step", category=UserWarning)
            if isinstance(self.scheduler, ReduceLROnPlateau):
                self.scheduler.step(_score(trainer, val_metrics))
            else:
                self.scheduler.step()

    def state_dict(self) -> dict[str, Any]:
        """State of the scheduler."""
        return dict(self.scheduler.state_dict())

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load a state."""
        self.scheduler.load_state_dict(dict(state))


class EarlyStoppingCallback(_Owned):
    """End the training according to NCALab's early stopping.

    Parameters
    ----------
    stopping : EarlyStopping
        Early stopping, which is stepped with the score that selects the best epoch, negated if the lowest is the best.
    """

    rolls_back = False
    state_key = "Stopping"

    def __init__(self, stopping: EarlyStopping) -> None:
        super().__init__(stopping)
        self.stopping = stopping

    def at_epoch_end(self, trainer: Trainer, *, val_metrics: Mapping[str, float], **event: Any) -> Returned:
        """Step the early stopping, and stop the training if it is done."""
        score = _score(trainer, val_metrics)
        self.stopping.step(score if higher_is_better(trainer.best.mode) else -score)
        if not self.stopping.done():
            return None
        return {"stop_training": True, "stop_reason": f"PATIENCE: no better for {self.stopping.counter} epochs"}


class HistoryCallback(AbstractCallback):
    """Record epochs in a history, and save it in every n-th epoch and at the end, also after an error.

    Parameters
    ----------
    history : TrainingHistory
        History to record in.
    every : int
        Number of epochs between two saves.
    """

    rolls_back = False
    state_key = "HistoryKeeper"  # name in checkpoints of earlier versions

    def __init__(self, history: TrainingHistory, every: int) -> None:
        self.history, self.every = history, every
        self._is_saved = True

    def at_epoch_end(
        self, trainer: Trainer, *, val_metrics: Mapping[str, float], curr_epoch: int, **event: Any
    ) -> None:
        """Record the epoch."""
        history = self.history
        network: Any = trainer.network
        prefix = "val_" if any(name.startswith("val_") for name in val_metrics) else ""
        values = {n.removeprefix(prefix): float(v) for n, v in val_metrics.items() if n.startswith(prefix)}
        measured: Any = getattr(network, "metrics", None)
        named = values.keys() & measured.keys() if isinstance(measured, Mapping) else set()
        history.metrics = {name: value for name, value in values.items() if not named or name in named}
        history.loss.append(float(val_metrics["loss"]))
        history.epochs.append({"epoch": curr_epoch, **{name: float(v) for name, v in val_metrics.items()}})
        history.update(curr_epoch, network, _score(trainer, val_metrics))
        self._is_saved = False
        if curr_epoch % self.every == 0:
            self._save(trainer)

    def at_training_end(self, trainer: Trainer, *, exception: BaseException | None, **event: Any) -> None:
        """Save unsaved epochs, and mark the history as finished after a normal end."""
        if exception is None:
            self.history.finalize()
        if exception is None or not self._is_saved:
            self._save(trainer)

    def _save(self, trainer: Trainer) -> None:
        history = self.history
        network: Any = trainer.network
        if trainer.best.key is None:  # without a score, the last epoch is the best
            history.best_model, history.best_epoch = copy.deepcopy(network).eval(), history.current_epoch
        if history.path is not None:
            trainer.ranks.on_main(history.save)
        self._is_saved = True

    def state_dict(self) -> dict[str, Any]:
        """History and best weights."""
        best = self.history.best_model
        weights = None if best is None else {k: v.detach().cpu().clone() for k, v in best.state_dict().items()}
        numbers = self.history.to_dict()
        kept = ("metrics", "current_epoch", "best_acc", "best_epoch", "created_timestamp", "loss", "epochs", "mode")
        return {"history": {key: numbers[key] for key in kept}, "best_weights": weights}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load a state; the path and the model of the history do not change."""
        history, model = self.history, self.history.current_model
        best: Any = None
        if state["best_weights"] is not None:
            best = copy.deepcopy(model)
            best.load_state_dict(state["best_weights"])
        saved = TrainingHistory.from_dict({"path": None, **state["history"]}, model, best)
        for name in ("metrics", "current_epoch", "best_accuracy", "best_epoch", "best_model", "loss", "epochs"):
            setattr(history, name, getattr(saved, name))
        history.created_timestamp = saved.created_timestamp


class WriterOfEvents(AbstractCallback):
    """Write NCALab's tags for TensorBoard: ``Acc/Val/<metric>``, two figures, and the text ``Training Info``.

    ``Loss/train_<name>`` is written by the training iteration itself.

    Parameters
    ----------
    writer : object
        Writer with ``add_scalar``, ``add_text`` and ``add_figure``.
    info : str
        Text to write.
    plot : object
        Object with ``show(model, image, prediction, label)``, or None.
    every : int
        Number of epochs between two drawings of the figures.
    """

    runs_everywhere = False

    def __init__(self, writer: Any, info: str, plot: Any = None, every: int = 1) -> None:
        self.writer, self.info, self.plot, self.every = writer, info, plot, every
        self._seen: dict[str, tuple[Any, ...]] = {}

    def at_training_begin(self, trainer: Trainer, **event: Any) -> None:
        """Write the text."""
        self.writer.add_text("Training Info", self.info)

    def at_iter_end(
        self, trainer: Trainer, *, train: bool, data_dict: Mapping[str, Any], prediction: Any, **event: Any
    ) -> None:
        """Store the last batch for the figures."""
        if self.plot is not None:
            batch = (data_dict["data"], prediction, data_dict["label"])
            self._seen["Training Batch" if train else "Validation Batch"] = batch

    def at_epoch_end(
        self, trainer: Trainer, *, val_metrics: Mapping[str, float], curr_epoch: int, **event: Any
    ) -> None:
        """Write the metrics of validation and the figures."""
        for name, value in val_metrics.items():
            if name.startswith("val_"):
                self.writer.add_scalar(f"Acc/Val/{name.removeprefix('val_')}", float(value), curr_epoch)
        for tag, (images, prediction, labels) in self._seen.items() if curr_epoch % self.every == 0 else ():
            figure = self.plot.show(trainer.network, _array(images), prediction, _array(labels))
            self.writer.add_figure(tag, figure, curr_epoch)
        self._seen = {}

    def at_training_end(self, trainer: Trainer, **event: Any) -> None:
        """Flush the writer, which belongs to the user and stays open."""
        self._seen = {}
        getattr(self.writer, "flush", lambda: None)()


def _array(value: Any) -> Any:
    return value.detach().cpu().numpy() if isinstance(value, Tensor) else value


def _score(trainer: Trainer, metrics: Mapping[str, float]) -> float:
    """Score that selects the best epoch, or NaN without one."""
    key = trainer.best.key
    return math.nan if key is None else float(metrics[find_score_key(key, metrics)])


class EarlyStopping:
    """Early stopping based on an accuracy.

    :class:`delira_nca.training.callbacks.EarlyStopping` is a callback for any score. This class is stepped with a
    value, and larger values are better.

    Parameters
    ----------
    patience : int
        Number of epochs without improvement after which the training ends.
    min_delta : float
        Minimum improvement over the best accuracy.

    Attributes
    ----------
    best_accuracy : float
        Best accuracy so far. The first one is the best, even if it is not above 0.
    counter : int
        Number of epochs since the best one.

    Examples
    --------
    >>> stopping = EarlyStopping(patience=2)
    >>> for accuracy in (0.5, 0.6, 0.6, 0.59):
    ...     stopping.step(accuracy)
    >>> stopping.best_accuracy, stopping.counter, stopping.done()
    (0.6, 2, True)
    """

    def __init__(self, patience: int, min_delta: float = 1e-6) -> None:
        require_whole("patience", patience, 1)
        require_number("min_delta", min_delta, 0)
        self.patience, self.min_delta = patience, min_delta
        self.best_accuracy, self.counter = 0.0, 0
        self._has_stepped = False

    def done(self) -> bool:
        """Whether the training should stop."""
        return self.counter >= self.patience

    def step(self, accuracy: float) -> None:
        """Record the accuracy of an epoch. A NaN is never an improvement."""
        best = self.best_accuracy if self._has_stepped else None
        better = is_better(best, accuracy, "highest") and (best is None or accuracy >= best + self.min_delta)
        if better:
            self.best_accuracy, self.counter, self._has_stepped = accuracy, 0, True
        else:
            self.counter += 1

    def state_dict(self) -> dict[str, Any]:
        """Best accuracy, counter, and whether an accuracy has been recorded."""
        return {"best_accuracy": self.best_accuracy, "counter": self.counter, "has_stepped": self._has_stepped}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load a state."""
        self.best_accuracy, self.counter = state["best_accuracy"], state["counter"]
        self._has_stepped = state["has_stepped"]
