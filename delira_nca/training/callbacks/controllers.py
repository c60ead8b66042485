"""Controllers of a training by its score: batch size, learning rate and end, with the names of hippynn."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from delira_nca.checks import is_number, require_number, require_whole
from delira_nca.errors import ConfigError
from delira_nca.training.callbacks.abstract_callback import AbstractCallback, Trainer
from delira_nca.training.scores import find_score_key, higher_is_better, is_better

__all__ = ["MetricTracker", "PatienceController", "RaiseBatchSizeOnPlateau", "ValidationSets"]


class MetricTracker(AbstractCallback):
    """Record the best value of each score, and its epoch. NaN is never the best.

    Parameters
    ----------
    modes : mapping of str to str, optional
        Whether the ``"lowest"`` or the ``"highest"`` value of a score is the best. Other scores count as losses, of
        which the lowest is.

    Attributes
    ----------
    best : dict of str to (float, int)
        Best value and its epoch, by the name of the score.

    Examples
    --------
    >>> tracker = MetricTracker({"val_dice": "highest"})
    >>> tracker.register({"val_dice": 0.5, "val_loss": 2.0}, epoch=1)
    ['val_dice', 'val_loss']
    >>> tracker.register({"val_dice": float("nan"), "val_loss": 1.5}, epoch=2), tracker.best
    (['val_loss'], {'val_dice': (0.5, 1), 'val_loss': (1.5, 2)})
    """

    def __init__(self, modes: Mapping[str, str] | None = None) -> None:
        self.modes = dict(modes or {})
        for mode in self.modes.values():
            higher_is_better(mode)
        self.best: dict[str, tuple[float, int]] = {}

    def register(self, metrics: Mapping[str, Any], epoch: int) -> list[str]:
        """Record the values of an epoch, and return the names of those that are the best so far."""
        improved = []
        for name, value in metrics.items():
            former = self.best.get(name)
            if not is_number(value) or math.isnan(value):
                continue
            if former is None or is_better(former[0], float(value), self.modes.get(name, "lowest")):
                self.best[name] = (float(value), epoch)
                improved.append(name)
        return improved

    def at_epoch_end(
        self, trainer: Trainer, *, val_metrics: Mapping[str, float], curr_epoch: int, **event: Any
    ) -> None:
        """Record the values of the epoch."""
        self.register(val_metrics, curr_epoch)

    def state_dict(self) -> dict[str, Any]:
        """Best values and their epochs."""
        return {"best": {name: list(pair) for name, pair in self.best.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load a state."""
        self.best = {name: (float(value), int(epoch)) for name, (value, epoch) in state["best"].items()}


class RaiseBatchSizeOnPlateau(AbstractCallback):
    """Raise the batch size when a score stops improving, up to a limit; then lower the learning rate instead.

    Parameters
    ----------
    data : DataManager
        Data manager of the training.
    max_batch_size : int
        Largest batch size.
    patience : int
        Number of epochs without improvement before a change.
    factor : float
        Factor of the learning rate, between 0 and 1; the batch size is divided by it.
    monitor_key : str
        Score, such as ``"val_loss"``.
    mode : str
        Whether the ``"lowest"`` or the ``"highest"`` score is the best.
    min_lr : float
        Learning rate below which it is not lowered.

    Notes
    -----
    Smith et al. (2018), "Don't Decay the Learning Rate, Increase the Batch Size". A resumed training has the batch size
    of its checkpoint.
    """

    def __init__(
        self,
        data: Any,
        max_batch_size: int,
        patience: int = 10,
        factor: float = 0.5,
        *,
        monitor_key: str = "val_loss",
        mode: str = "lowest",
        min_lr: float = 0.0,
    ) -> None:
        if not callable(getattr(data, "update_state_from_dict", None)) or not hasattr(data, "batch_size"):
            raise ConfigError(f"data is a DataManager, the batch size of which can change, not a {type(data).__name__}")
        require_whole("max_batch_size", max_batch_size, data.batch_size)
        require_whole("patience", patience, 0)
        require_number("factor", factor, above=0, below=1)
        require_number("min_lr", min_lr, 0)
        higher_is_better(mode)
        self.data, self.max_batch_size, self.patience, self.factor = data, int(max_batch_size), patience, factor
        self.monitor_key, self.mode, self.min_lr = monitor_key, mode, min_lr
        self.batch_size = int(data.batch_size)
        self.num_waited, self.best = 0, None

    best: float | None

    def at_training_begin(self, trainer: Trainer, **event: Any) -> None:
        """Check that the score is computed, and set the batch size of a resumed run."""
        if (names := trainer.score_names()) is not None:
            find_score_key(self.monitor_key, names)
        self._apply()

    def _apply(self) -> None:
        if self.data.batch_size != self.batch_size:
            self.data.update_state_from_dict({"batch_size": self.batch_size})

    def at_epoch_end(self, trainer: Trainer, *, val_metrics: Mapping[str, float], **event: Any) -> None:
        """Raise the batch size or lower the learning rate, if the score has not improved for long enough."""
        measured = trainer.measured_score(self.monitor_key, val_metrics)
        if measured is None:
            return
        if is_better(self.best, measured[1], self.mode):
            self.best, self.num_waited = measured[1], 0
            return
        self.num_waited += 1
        if self.num_waited > self.patience:
            self.num_waited = 0
            self._change(trainer)

    def _change(self, trainer: Trainer) -> None:
        if self.batch_size < self.max_batch_size:
            raised = max(self.batch_size + 1, round(self.batch_size / self.factor))
            self.batch_size = min(raised, self.max_batch_size)
            self._apply()
            return
        trainer.map_learning_rates(lambda rate: max(rate * self.factor, self.min_lr))

    def state_dict(self) -> dict[str, Any]:
        """Batch size, best score, and number of epochs without improvement."""
        return {"batch_size": self.batch_size, "best": self.best, "num_waited": self.num_waited}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load a state."""
        self.batch_size, self.best = int(state["batch_size"]), state["best"]
        self.num_waited = int(state["num_waited"])


class PatienceController(RaiseBatchSizeOnPlateau):
    """Raise the batch size, then lower the learning rate, and at last end the training, when a score stops improving.

    Parameters
    ----------
    data, max_batch_size, patience, factor, monitor_key, mode, min_lr
        See `RaiseBatchSizeOnPlateau`.
    termination_patience : int
        Number of epochs without improvement after which the training ends.
    """

    def __init__(
        self,
        data: Any,
        max_batch_size: int,
        patience: int = 10,
        factor: float = 0.5,
        termination_patience: int = 50,
        *,
        monitor_key: str = "val_loss",
        mode: str = "lowest",
        min_lr: float = 0.0,
    ) -> None:
        super().__init__(data, max_batch_size, patience, factor, monitor_key=monitor_key, mode=mode, min_lr=min_lr)
        require_whole("termination_patience", termination_patience, patience)
        self.termination_patience, self.num_bad = termination_patience, 0

    def at_epoch_end(self, trainer: Trainer, *, val_metrics: Mapping[str, float], **event: Any) -> None:
        """Change batch size or learning rate, or end the training."""
        before = self.best
        super().at_epoch_end(trainer, val_metrics=val_metrics, **event)
        if trainer.measured_score(self.monitor_key, val_metrics) is None:
            return
        self.num_bad = 0 if self.best != before else self.num_bad + 1
        if self.num_bad > self.termination_patience:
            trainer.stop(f"{self.monitor_key} has not improved for {self.num_bad} epochs")

    def state_dict(self) -> dict[str, Any]:
        """State of the base class, and the number of epochs without improvement."""
        return {**super().state_dict(), "num_bad": self.num_bad}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load a state."""
        super().load_state_dict(state)
        self.num_bad = int(state["num_bad"])


class ValidationSets(AbstractCallback):
    """Evaluate further validation sets after each epoch, and record their scores under ``val_<name>_<score>``.

    The best epoch is chosen by the validation set of the training, not by these.

    Parameters
    ----------
    sets : mapping of str to data manager or iterable of batches
        Validation sets by name.
    every : int
        Evaluate in every n-th epoch.
    """

    def __init__(self, sets: Mapping[str, Any], *, every: int = 1) -> None:
        if not isinstance(sets, Mapping) or not sets:
            raise ConfigError(f"validation sets are data by name, {{'young': manager}}, not {sets!r}")
        for name in sets:
            if not isinstance(name, str) or not name.isidentifier():
                raise ConfigError(f"the name of a validation set is a word, not {name!r}")
        require_whole("every", every, 1)
        self.sets, self.every = dict(sets), every

    def at_training_begin(self, trainer: Any, **event: Any) -> None:
        """Raise an error if a name is that of a score of the training."""
        names = [name for name in trainer.score_names() or () if not name.startswith("val_")]
        for shared in sorted({f"{name}_{key}" for name in self.sets for key in names} & set(names)):
            raise ConfigError(f"a score of the training and one of ValidationSets are called {shared!r}: rename a set")

    def at_epoch_end(self, trainer: Any, *, curr_epoch: int, **event: Any) -> None:
        """Evaluate the sets, and record their scores with the metrics of the epoch."""
        if curr_epoch % self.every:
            return
        for name, data in self.sets.items():
            batches = data.get_batchgen() if hasattr(data, "get_batchgen") else data
            values = trainer.predict(batches)[2]
            numbers = {f"val_{name}_{key}": float(value) for key, value in values.items()}
            if shared := sorted(numbers.keys() & trainer.history[-1].keys()):
                raise ConfigError(f"two values of the epoch are called {shared[0]!r}: rename a set of ValidationSets")
            trainer.metrics_val.update(numbers)
            trainer.history[-1].update(numbers)
