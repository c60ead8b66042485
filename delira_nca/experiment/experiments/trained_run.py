"""One training of an experiment, in a folder that tells all about it."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from delira_nca.experiment.experiments.description import FILE, describe_experiment
from delira_nca.experiment.plain_files import write_plain
from delira_nca.io.run_folder import claim_folder, kept_if_trained, write_environment
from delira_nca.logging import CSVSink, JSONLSink
from delira_nca.training.callbacks.reporting import MetricLogger

if TYPE_CHECKING:
    from delira_nca.experiment.experiments.experiment import Experiment

__all__ = ["TrainedRun", "train_in"]


@dataclass(frozen=True)
class TrainedRun:
    """What became of a run.

    Attributes
    ----------
    network : of the best epoch, or of the last where no score decides.
    folder : of its files.
    history : one dict for each epoch.
    best_epoch, best_score : by the score that decides; None where none does.
    stop_reason : why it ended before its last epoch; None if it did not.
    """

    network: Any
    folder: Path
    history: tuple[dict[str, Any], ...]
    best_epoch: int | None
    best_score: float | None
    stop_reason: str | None


def train_in(
    experiment: Experiment, folder: Path | None, train: Any, val: Any, num_epochs: int, *, fold: int = 0
) -> TrainedRun:
    """Train in a folder, from its newest checkpoint if it has one.

    Parameters
    ----------
    experiment : to train.
    folder : of the run; None makes a new one.
    train, val, num_epochs : as of :meth:`~delira_nca.experiment.experiments.experiment.Experiment.run`.
    fold : number of the fold.
    """
    trainer: Any = None
    with ExitStack() as stack:
        train = stack.enter_context(experiment.managed(train, train=True))
        val = stack.enter_context(experiment.managed(val, train=False))
        experiment.setup(fold=fold)  # fails before there is a folder
        if folder is None:
            folder = claim_folder(experiment.folder, "run")
            stack.enter_context(kept_if_trained(folder, lambda: trainer is not None and trainer.global_iter_num > 0))
        trainer = experiment.setup(save_path=folder / "checkpoints", fold=fold)
        trainer.register_callback(MetricLogger(JSONLSink(folder / "metrics.jsonl"), CSVSink(folder / "metrics.csv")))
        described = {**describe_experiment(experiment, strict=False), "num_epochs": num_epochs}
        write_plain(described, folder / FILE)
        write_environment(folder, **trainer.computation())
        score = (experiment.val_score_key, experiment.val_score_mode)
        network = trainer.train(num_epochs, train, val, *score, resume="auto")
    best, history = trainer.best, tuple(trainer.history)
    scores = {"best": best.state_dict(), "last": history[-1] if history else {}, "stop_reason": trainer.stop_reason}
    write_plain(scores, folder / "scores.json")
    return TrainedRun(network, folder, history, best.epoch, best.score, trainer.stop_reason)
