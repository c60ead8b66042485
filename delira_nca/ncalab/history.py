"""NCALab's record of a training: metrics of all epochs, the best epoch and its weights."""

from __future__ import annotations

import copy
import datetime
import json
import logging
import os
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any

import torch

from delira_nca.errors import CheckpointError, ConfigError, MissingFileError
from delira_nca.io.files import replaced
from delira_nca.io.network import describe_network
from delira_nca.io.paths import absolute
from delira_nca.models.basic_nca import BasicNCAModel
from delira_nca.models.compiled import unwrapped
from delira_nca.models.pyramid import PyramidNCA
from delira_nca.training.scores import higher_is_better, is_better

__all__ = ["TrainingHistory", "TrainingStatus"]

_LOGGER = logging.getLogger("delira_nca")
Automaton = BasicNCAModel | PyramidNCA
FILES = ("history.json", "last_model.pth", "best_model.pth")


class TrainingStatus(Enum):
    """State of a training."""

    STATUS_NONE = 0
    STATUS_RUNNING = 1
    STATUS_DONE = 2


class TrainingHistory:
    """Metrics, epochs and models of a training, recorded by :class:`~delira_nca.ncalab.BasicNCATrainer`.

    Parameters
    ----------
    path : str or path, optional
        Folder of ``history.json``, ``last_model.pth`` and ``best_model.pth``; None to keep it in memory only.
    metrics : mapping of str to float
        Metrics of the last validation.
    current_epoch : int
        Number of the last finished epoch, from 1; 0 before the first.
    current_model : Automaton
        Model that is being trained.
    best_accuracy, best_epoch, best_model
        Accuracy, number and model of the best epoch. The first epoch is the best until a better one follows, even if
        its accuracy is 0.
    verbose : bool
        Whether a new best accuracy is logged at level INFO instead of DEBUG.
    mode : str
        Whether the ``"highest"`` or the ``"lowest"`` accuracy is the best.

    Attributes
    ----------
    loss : list of float
        Mean training loss of each epoch.
    epochs : list of dict
        All metrics of each epoch.
    prefix : str
        Prefix of the names of the weights in the files; ``"_orig_mod."`` for compiled models.
    test_metrics : dict of str to float
        Metrics of the best model on the test data, if any.
    status : TrainingStatus
        State of the training.
    created_timestamp, modified_timestamp : str
        Times of creation and of the last change, in ISO 8601, UTC.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None,
        metrics: Mapping[str, float],
        current_epoch: int,
        current_model: Automaton,
        best_accuracy: float = 0,
        best_epoch: int = 0,
        best_model: Automaton | None = None,
        verbose: bool = True,
        *,
        mode: str = "highest",
    ) -> None:
        higher_is_better(mode)
        self.path = None if path is None else absolute(path)
        self.metrics, self.current_epoch, self.current_model = dict(metrics), current_epoch, current_model
        self.best_accuracy, self.best_epoch, self.best_model = best_accuracy, best_epoch, best_model
        self.verbose, self.mode, self.prefix = verbose, mode, ""
        self.loss: list[float] = []
        self.epochs: list[dict[str, Any]] = []
        self.test_metrics: dict[str, float] = {}
        self.status = TrainingStatus.STATUS_NONE
        self.created_timestamp = self.modified_timestamp = _now()

    @property
    def best_loss(self) -> float | None:
        """Training loss of the best epoch, or None before the first."""
        return self.loss[self.best_epoch - 1] if 0 < self.best_epoch <= len(self.loss) else None

    def update(self, epoch: int, model: Automaton, accuracy: float, overwrite: bool = False) -> None:
        """Record an epoch.

        Parameters
        ----------
        epoch : int
            Number of the epoch, from 1.
        model : Automaton
            Model after the epoch; it is copied if it is the best.
        accuracy : float
            Accuracy by which models are compared.
        overwrite : bool
            Whether to store the model as the best in any case.
        """
        former = None if self.best_model is None else self.best_accuracy
        self.current_epoch, self.current_model, self.status = epoch, model, TrainingStatus.STATUS_RUNNING
        if overwrite or is_better(former, accuracy, self.mode):
            self.best_accuracy, self.best_epoch, self.best_model = float(accuracy), epoch, copy.deepcopy(model).eval()
            _LOGGER.log(logging.INFO if self.verbose else logging.DEBUG, "epoch %d is the best: %.6g", epoch, accuracy)
        self.modified_timestamp = _now()

    def finalize(self) -> None:
        """Mark the training as finished."""
        self.status, self.modified_timestamp = TrainingStatus.STATUS_DONE, _now()

    def to_dict(self) -> dict[str, Any]:
        """Return everything except the weights as plain values: NCALab's entries and additional ones.

        Additional entries are ``loss``, ``epochs``, ``test_metrics``, ``status``, ``mode`` and ``verbose``. Each metric
        is also an entry at the top level unless its name is in use.
        """
        own = {
            "path": None if self.path is None else str(self.path),
            "metrics": dict(self.metrics),
            "current_epoch": self.current_epoch,
            "best_acc": self.best_accuracy,
            "best_epoch": self.best_epoch,
            "best_loss": self.best_loss,
            "created_timestamp": self.created_timestamp,
            "modified_timestamp": self.modified_timestamp,
            "current_model": _described(self.current_model),
            "best_model": None if self.best_model is None else _described(self.best_model),
            "loss": list(self.loss),
            "epochs": [dict(epoch) for epoch in self.epochs],
            "test_metrics": dict(self.test_metrics),
            "status": self.status.value,
            "mode": self.mode,
            "verbose": self.verbose,
        }
        return {**self.metrics, **own}

    @classmethod
    def from_dict(
        cls, state: Mapping[str, Any], current_model: Automaton, best_model: Automaton | None = None
    ) -> TrainingHistory:
        """Create a history from the result of :meth:`to_dict`, which contains no weights.

        Parameters
        ----------
        state : mapping
            Values of a history; those of NCALab are accepted too, with empty additional entries.
        current_model, best_model : Automaton
            Models of the history.

        Raises
        ------
        CheckpointError
            If an entry is missing or has another type.
        """
        try:
            history = cls(
                state["path"],
                state["metrics"],
                state["current_epoch"],
                current_model,
                state["best_acc"],
                state["best_epoch"],
                best_model,
                state.get("verbose", True),
                mode=state.get("mode", "highest"),
            )
            history.loss, history.epochs = list(state.get("loss", [])), [dict(e) for e in state.get("epochs", [])]
            history.test_metrics = dict(state.get("test_metrics", {}))
            history.status = TrainingStatus(state.get("status", 0))
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"this is not the history of a training: {type(error).__name__}: {error}") from error
        history.created_timestamp = state.get("created_timestamp", history.created_timestamp)
        history.modified_timestamp = state.get("modified_timestamp", history.modified_timestamp)
        return history

    def save(self) -> None:
        """Write the three files, each atomically.

        Raises
        ------
        ConfigError
            If the history has no path.
        """
        if self.path is None:
            raise ConfigError("this history has no path to be saved to: give it one")
        self.path.mkdir(parents=True, exist_ok=True)
        models = {"last_model.pth": self.current_model, "best_model.pth": self.best_model}
        for name, model in models.items():
            if model is not None:
                with replaced(self.path / name) as temporary:
                    torch.save({f"{self.prefix}{key}": value for key, value in model.state_dict().items()}, temporary)
        with replaced(self.path / "history.json") as temporary:
            temporary.write_text(json.dumps(self.to_dict(), indent=2))

    @classmethod
    def load(cls, path: str | os.PathLike[str], model: Automaton) -> TrainingHistory:
        """Read the files written by :meth:`save`. No code in the files is executed.

        Parameters
        ----------
        path : str or path
            Folder of the files.
        model : Automaton
            Model of the trained class. The weights are loaded into copies of it.

        Raises
        ------
        MissingFileError, CheckpointError
            If files are missing or do not fit the model.
        """
        path = absolute(path)
        if not (path / "history.json").is_file():
            raise MissingFileError(f"{path} holds no history.json of a training")
        try:
            state = json.loads((path / "history.json").read_text(encoding="utf-8-sig"))
        except ValueError as error:
            raise CheckpointError(f"{path / 'history.json'} is not valid JSON: {error}") from error
        best = path / "best_model.pth"
        current = _with_weights(model, path / "last_model.pth")
        history = cls.from_dict(state, current, _with_weights(model, best) if best.is_file() else None)
        history.path = path
        return history


def _with_weights(model: Automaton, file: Path) -> Automaton:
    loaded: Automaton = copy.deepcopy(unwrapped(model))
    try:
        weights = torch.load(file, map_location="cpu", weights_only=True)
        loaded.load_state_dict({name.removeprefix("_orig_mod."): value for name, value in weights.items()})
    except FileNotFoundError as error:
        raise MissingFileError(f"{file} is not there: the history's weights are missing") from error
    except Exception as error:
        raise CheckpointError(f"{file} does not fit a {type(model).__name__}: {error}") from error
    return loaded.eval()


def _described(model: Any) -> dict[str, Any]:
    """Arguments of a model, or only its class if the arguments are not plain values."""
    described = describe_network(model)
    return {"class": type(model).__qualname__} if described is None else described["arguments"]


def _now() -> str:
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
