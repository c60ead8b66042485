"""Evaluation of a trained run."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from delira_nca.errors import ConfigError
from delira_nca.experiment.folds import save_predictions
from delira_nca.experiment.store import StoredRun
from delira_nca.io.files import replaced
from delira_nca.io.paths import absolute
from delira_nca.training.set_values import join_batches

__all__ = ["AbstractTrainedRun"]


class AbstractTrainedRun(ABC):
    """Base class of runs in a folder, for validation and prediction."""

    stored: StoredRun

    @property
    def folder(self) -> Path:
        """Folder of the run."""
        return self.stored.folder

    @abstractmethod
    def _evaluate(self, checkpoint: str, part: str) -> tuple[Any, list[Any], Mapping[str, float]]:
        """Predictions, labels and means of scores of a checkpoint on a part of the samples."""

    def validate(self, checkpoint: str = "best", *, part: str = "valid") -> dict[str, float]:
        """Evaluate a checkpoint on a part of the samples, and return the means of losses and metrics.

        Parameters
        ----------
        checkpoint : str
            ``"best"``, ``"latest"`` or the name of a file; see :meth:`StoredRun.weights`.
        part : str
            ``"train"``, ``"valid"`` or ``"test"``.
        """
        return {name: float(value) for name, value in self._evaluate(checkpoint, part)[2].items()}

    def predict(self, out: str | os.PathLike[str], checkpoint: str = "best", *, part: str = "test") -> Path:
        """Predict a part of the samples with a checkpoint, and write the predictions to a file.

        Parameters
        ----------
        out : str or Path
            File: ``.npy`` for one array (num_samples, ...), or ``.npz``, which also supports samples of different
            shapes (``sample_0``, ...) and several outputs (``<output>/predictions``).
        checkpoint, part : str
            As for :meth:`validate`.

        Raises
        ------
        ConfigError
            For another suffix, if there are no such samples, or if they cannot be joined to one array for ``.npy``.
        """
        out = absolute(out)
        if out.suffix.lower() not in (".npy", ".npz"):
            raise ConfigError(f"predictions are written to a .npy or .npz file, not to {out.name!r}")
        predictions = self._evaluate(checkpoint, part)[0]
        if out.suffix.lower() == ".npz":
            arrays = join_batches(predictions, split=True) if isinstance(predictions, list) else predictions
            save_predictions(arrays, out)
            return out
        if not isinstance(predictions, np.ndarray):
            what = "differ in shape" if isinstance(predictions, list) else f"have outputs {sorted(predictions)}"
            raise ConfigError(f"the predictions of {part!r} {what}, so that they make no array: write a .npz")
        with replaced(out) as temporary, temporary.open("wb") as file:
            np.save(file, predictions)
        return out
