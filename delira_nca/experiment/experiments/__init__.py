"""Experiments as delira has them: a config and a model class in, runs that are never overwritten out."""

from typing import TYPE_CHECKING

from delira_nca._lazy import lazy_names

if TYPE_CHECKING:
    from delira_nca.experiment.experiments.evaluate import Predictor
    from delira_nca.experiment.experiments.experiment import BaseExperiment, Experiment, PyTorchExperiment
    from delira_nca.experiment.experiments.trained_run import TrainedRun

__all__ = ["BaseExperiment", "Experiment", "Predictor", "PyTorchExperiment", "TrainedRun"]

_HOMES = {
    "Predictor": "evaluate",
    "BaseExperiment": "experiment",
    "Experiment": "experiment",
    "PyTorchExperiment": "experiment",
    "TrainedRun": "trained_run",
}

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
