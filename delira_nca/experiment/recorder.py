"""Callback that records the statistics of a run and keeps the best weights."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from delira_nca.checks import require_type
from delira_nca.errors import ConfigError, ScoreKeyError, did_you_mean
from delira_nca.experiment.stats import (
    Criterion,
    EvaluationScores,
    TrainingIterationStats,
    ValidationIterationScores,
    ValidationScores,
    require_value_names,
)
from delira_nca.experiment.store import StoredRun
from delira_nca.io.checkpoint import save_checkpoint
from delira_nca.io.files import sweep
from delira_nca.io.network import describe_network
from delira_nca.training.callbacks.abstract_callback import AbstractCallback, Trainer
from delira_nca.training.scores import higher_is_better, is_better

__all__ = ["StatsRecorder"]

_LOGGER = logging.getLogger("delira_nca")
_VALIDATED = re.compile(r"val_(.+)")
_WEIGHTS = re.compile(r"weights_\d+\.(safetensors|pt)")


class StatsRecorder(AbstractCallback):
    """Record all training iterations and validations of a run, and keep the weights of the best validations.

    Records are buffered, and written about once per second, at the end of an epoch, before every checkpoint, and at the
    end of the training, also after an error, so that no iteration in a checkpoint can lack a record. When a run is
    resumed, records after the resume point are deleted first; when it is restarted, all of them.

    Parameters
    ----------
    run : StoredRun
        Run in which to record.
    criteria : iterable of Criterion
        Directions and bounds of scores, and whether to keep their best weights.
    mode : str, optional
        Mode, ``"highest"`` or ``"lowest"``, of metrics with an unknown direction; see the notes.
    loss : str
        Name of the value recorded as the loss of an iteration; other values are recorded under their names. For a
        training step without a ``"loss"``, the sum of its criterions is recorded.
    dataset : str
        Name of the data set of the validations.
    seconds : float
        Seconds between two writes.
    keep_best : bool
        Whether to keep the best weights, in the subfolder ``best/`` of the run.

    Raises
    ------
    ConfigError, ScoreModeError
        For unsuitable arguments. At the start of a training, for a metric with unknown direction, or if earlier
        validations of the run had other data sets or directions.
    ScoreKeyError
        For a criterion that is not computed.

    Notes
    -----
    For losses, lower is better. The direction of a metric is the first one available of: its criterion; its attribute
    ``higher_is_better``, as in torchmetrics; the mode of the training, if the metric selects the best epoch; ``mode``.

    The time of an iteration is measured from the available batch to the computed values. On a GPU it is the time to
    launch the work, since values are not synchronised before they are written.

    Weights files contain the validated weights, including those of a
    :class:`~delira_nca.training.callbacks.WeightAverage`, and can be read by :func:`~delira_nca.io.load_network`. The
    files of the last two best results of each criterion are kept, since a resumed run may repeat the last one.
    """

    rolls_back = False  # records are not restored by a rollback
    runs_everywhere = False

    def __init__(
        self,
        run: StoredRun,
        *,
        criteria: Iterable[Criterion] = (),
        mode: str | None = None,
        loss: str = "loss",
        dataset: str = "validation",
        seconds: float = 1.0,
        keep_best: bool = True,
    ) -> None:
        require_type("run", run, StoredRun)
        if not seconds >= 0:
            raise ConfigError(f"seconds must be a number of at least 0, not {seconds!r}")
        given = tuple(criteria)
        self.criteria = {name: EvaluationScores(given).criterion(name) for name in _names(given)}
        self._higher = None if mode is None else higher_is_better(mode)
        self.run, self.loss, self.dataset, self.seconds, self.keep_best = run, loss, dataset, seconds, keep_best
        self._is_open = False
        self._run_id: str | None = None
        self._rows: list[tuple[int, float, dict[str, Any]]] = []
        self._row: tuple[int, float, dict[str, Any]] | None = None
        self._began, self._written = 0.0, 0.0
        self._validated: dict[str, Tensor] | None = None
        self._best: dict[str, float] = {}

    # Hooks --------------------------------------------------------------------------------------------------------

    def at_training_begin(self, trainer: Trainer, **event: Any) -> None:
        """Delete records after the resume point, and raise an error for scores without a direction.

        Raises
        ------
        ConfigError
            If the recorder has recorded another run, whose records would be deleted.
        """
        if self._run_id not in (None, trainer.run_id):
            raise ConfigError(f"this StatsRecorder has recorded another run in {self.run.name}: make one for each run")
        self._rows, self._row, self._validated, self._best = [], None, None, {}
        measured = {
            *getattr(trainer, "criterions", ()),
            *getattr(trainer, "metrics", ()),
            *(trainer.score_names() or ()),
        }
        require_value_names(measured - {"loss", self.loss})
        names = [found[1] for name in trainer.score_names() or () if (found := _VALIDATED.fullmatch(name))]
        header = self._header(trainer, names) if names else None
        if names and (unknown := sorted(self.criteria.keys() - set(names))):
            raise ScoreKeyError(f"no validation computes {unknown[0]!r}. {did_you_mean(unknown[0], names)}")
        sweep(self.run.best_weights)
        self.run.database.__enter__()
        self._is_open, self._written = True, time.monotonic()
        done = trainer.global_iter_num
        recorded = self.run.database.trained_until()
        deleted = self.run.database.delete_after(done, validation=max(0, done - 1) if trainer.iteration else done)
        if any(deleted):
            _LOGGER.warning("%s: %d iterations and %d validations will be done again", self.run.name, *deleted)
        if recorded < done:
            _LOGGER.warning("%s: iterations %d to %d have no records", self.run.name, recorded, done - 1)
        if header is not None:
            self.run.database.add_validation(header)
        scores = self.run.validation_scores()
        for name in [] if scores is None else scores.criteria:
            if (best := self.run.best(name, self.dataset)) is not None:
                self._best[name] = best.value

    def at_iter_begin(self, trainer: Trainer, *, train: bool, **event: Any) -> None:
        """Store the start time of the iteration."""
        if train:
            self._began = time.perf_counter()

    def at_iter_end(
        self, trainer: Trainer, *, train: bool, global_iter_num: int, metrics: Mapping[str, Any], **event: Any
    ) -> None:
        """Buffer the values of an iteration, or copy the validated weights once per validation."""
        self._run_id = trainer.run_id
        if train:
            values = dict(metrics)
            if self.loss == "loss" and "loss" not in values:  # a custom training step
                values["loss"] = sum(v for name, v in values.items() if name in getattr(trainer, "criterions", ()))
            self._row = (global_iter_num, time.perf_counter() - self._began, values)
        elif self.keep_best and self._validated is None:
            self._validated = _weights(trainer)

    def at_iter_done(self, trainer: Trainer, **event: Any) -> None:
        """Add the values to the buffer, and write it if due."""
        if self._row is not None:
            self._rows.append(self._row)
            self._row = None
        if time.monotonic() - self._written >= self.seconds:
            self._write()

    def at_epoch_end(self, trainer: Trainer, *, val_metrics: Mapping[str, Any], curr_epoch: int, **event: Any) -> None:
        """Write the buffer, and the scores if the epoch was validated."""
        self._write()
        scores = {found[1]: float(v) for name, v in val_metrics.items() if (found := _VALIDATED.fullmatch(name))}
        if scores:
            self._write_scores(trainer, scores, curr_epoch)
        self._validated = None

    def at_training_end(self, trainer: Trainer, **event: Any) -> None:
        """Write the buffer and close the file."""
        try:
            self._write()
        finally:
            if self._is_open:
                self._is_open = False
                self.run.database.__exit__(None, None, None)

    def state_dict(self) -> dict[str, Any]:
        """Return an empty state, after writing the buffer, so that no checkpoint is ahead of the records."""
        self._write()
        return {}

    # Writing ------------------------------------------------------------------------------------------------------

    def _write(self) -> None:
        rows = self._rows
        if rows:
            values = _floats([row[2] for row in rows])
            if missing := next((v for v in values if self.loss not in v), None):
                raise ScoreKeyError(f"no iteration has the value {self.loss!r}. {did_you_mean(self.loss, missing)}")
            self.run.add_training(
                TrainingIterationStats(iteration, named.pop(self.loss), seconds, named)
                for (iteration, seconds, _), named in zip(rows, values, strict=True)
            )
            self._rows = []
        self._written = time.monotonic()

    def _write_scores(self, trainer: Trainer, scores: dict[str, float], epoch: int) -> None:
        """Record a validation, and keep its weights if it is the best by a criterion with ``store_best``."""
        table = self._header(trainer, list(scores))
        iteration = trainer.global_iter_num - 1
        table.add_iteration_scores(ValidationIterationScores(iteration, [[list(scores.values())]]))
        better = {name: value for name, value in scores.items() if self._is_best(table.evaluation_scores, name, value)}
        self._best |= better
        kept = {name: value for name, value in better.items() if table.evaluation_scores.store_best(name)}
        if not self.keep_best or not kept:
            self.run.add_validation(table)
            return
        file = self.run.best_weights / f"weights_{iteration}.safetensors"
        state = {
            "model": describe_network(trainer.network),
            "network": _weights(trainer) if self._validated is None else self._validated,
            "epoch": epoch,
            "global_iter_num": trainer.global_iter_num,
            "run_id": trainer.run_id,
            "best_by": kept,
        }
        save_checkpoint(state, file)
        self.run.database.add_validation(table, weights=dict.fromkeys(kept, file.name))
        names = set(self.run.database.kept_weights().values())
        for path in file.parent.iterdir():
            if _WEIGHTS.fullmatch(path.name) and path.name not in names:
                path.unlink()

    def _is_best(self, criteria: EvaluationScores, name: str, value: float) -> bool:
        return is_better(self._best.get(name), value, "highest" if criteria.higher_is_better(name) else "lowest")

    def _header(self, trainer: Trainer, names: Iterable[str]) -> ValidationScores:
        criteria = EvaluationScores([self._criterion(trainer, name) for name in names])
        return ValidationScores([{}], [self.dataset], criteria)

    def _criterion(self, trainer: Trainer, name: str) -> Criterion:
        if name in self.criteria:
            return self.criteria[name]
        own_losses = getattr(getattr(trainer, "network", None), "loss_names", None) or ()
        if name in ("loss", *getattr(trainer, "criterions", ()), *own_losses):
            return Criterion(name, higher_is_better=False)
        higher = getattr(getattr(trainer, "metrics", {}).get(name), "higher_is_better", None)
        if higher is None and trainer.best.key in (name, f"val_{name}"):
            higher = higher_is_better(trainer.best.mode)
        if higher is None and (higher := self._higher) is None:
            raise ConfigError(
                f"which way is the metric {name!r} better? Tell the StatsRecorder: "
                f"criteria=[Criterion({name!r}, higher_is_better=True)]"
            )
        return Criterion(name, higher_is_better=bool(higher))


def _names(criteria: Iterable[Any]) -> list[str]:
    return [getattr(criterion, "name", "") for criterion in criteria]


def _weights(trainer: Trainer) -> dict[str, Tensor]:
    return {name: value.detach().cpu().clone() for name, value in trainer.network.state_dict().items()}


def _floats(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Convert values to floats. Those on a GPU are copied together, with a single synchronisation."""
    found = [dict(row) for row in rows]
    away: dict[tuple[torch.device, torch.dtype], list[tuple[int, str]]] = {}
    for number, row in enumerate(rows):
        for name, value in row.items():
            if isinstance(value, Tensor) and value.device.type != "cpu" and value.numel() == 1:
                away.setdefault((value.device, value.dtype), []).append((number, name))
    for places in away.values():
        fetched = torch.stack([rows[number][name].detach().reshape(()) for number, name in places]).tolist()
        for (number, name), value in zip(places, fetched, strict=True):
            found[number][name] = value
    return found
