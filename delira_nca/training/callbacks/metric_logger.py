"""Numbers to where they are kept: event files, JSON lines, tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from delira_nca.checks import is_whole
from delira_nca.errors import ConfigError
from delira_nca.logging import MetricSink
from delira_nca.training.callbacks.abstract_callback import AbstractCallback, Trainer

__all__ = ["MetricLogger"]


class MetricLogger(AbstractCallback):
    """Write the metrics of every epoch, and of every so many iterations, to sinks.

    Parameters
    ----------
    *sinks : see :mod:`delira_nca.logging`.
    every : log the losses and metrics of every so many iterations as well, as ``iter_...``; 0 for epochs only.
    config : plain description of the run, written once at its beginning.

    Notes
    -----
    Steps are iterations, so that curves of epochs and of iterations lie over one another. When a run is resumed, what
    was logged after the point it goes on from is forgotten first.
    """

    runs_everywhere = False

    def __init__(self, *sinks: MetricSink, every: int = 0, config: Mapping[str, Any] | None = None) -> None:
        for sink in sinks:
            if not isinstance(sink, MetricSink):
                raise ConfigError(f"{sink!r} is no sink: it lacks a method of delira_nca.logging.MetricSink")
        if not is_whole(every) or every < 0:
            raise ConfigError(f"every is a number of iterations, 0 for none, not {every!r}")
        self.sinks, self.every, self.config = sinks, every, dict(config or {})
        self._rates: dict[str, float] = {}

    def at_training_begin(self, trainer: Trainer, **event: Any) -> None:
        """Forget what will be done again, and write the config."""
        for sink in self.sinks:
            if trainer.batch_index:
                sink.truncate(trainer.step, epochs=trainer.start_epoch - 1)
            else:
                sink.truncate(trainer.step or -1)
            if self.config:
                sink.config(self.config)

    def at_iter_end(
        self, trainer: Trainer, *, train: bool, global_iter_num: int, metrics: Mapping[str, Any], **event: Any
    ) -> None:
        """Write the values of an iteration, where it is its turn."""
        if train and self.every and (global_iter_num + 1) % self.every == 0:
            values = {f"iter_{name}": float(value) for name, value in metrics.items()}
            for sink in self.sinks:
                sink.scalars(values, global_iter_num + 1)

    def at_epoch_begin(self, trainer: Trainer, *, first_iter: int, **event: Any) -> None:
        """Remember the learning rates, before a scheduler changes them."""
        if first_iter and self._rates:
            return
        self._rates = {
            "lr" if name == "default" else f"lr_{name}": float(optimizer.param_groups[0]["lr"])
            for name, optimizer in trainer.optimizers.items()
        }

    def at_epoch_end(
        self, trainer: Trainer, *, val_metrics: Mapping[str, float], curr_epoch: int, **event: Any
    ) -> None:
        """Write the epoch's values, and the learning rates that it began with."""
        for sink in self.sinks:
            sink.scalars({"epoch": curr_epoch, **val_metrics, **self._rates}, trainer.step)

    def at_training_end(self, trainer: Trainer, **event: Any) -> None:
        """Let go of the files."""
        for sink in self.sinks:
            sink.close()

    def state_dict(self) -> dict[str, Any]:
        """Learning rates that the epoch began with."""
        return {"rates": dict(self._rates)} if self._rates else {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up a state."""
        self._rates = dict(state.get("rates", {}))

    def __repr__(self) -> str:
        return f"MetricLogger({', '.join(type(sink).__name__ for sink in self.sinks)}, every={self.every})"
