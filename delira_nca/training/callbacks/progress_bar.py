"""How far a training is: a bar on a terminal, one plain line per epoch elsewhere. Free of torch."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any, TextIO

from delira_nca.training.callbacks.abstract_callback import AbstractCallback

__all__ = ["ProgressBar"]

_SECONDS_BETWEEN_LOOKS = 0.2


class ProgressBar(AbstractCallback):
    """Show the epoch, its metrics and the time that is left.

    Parameters
    ----------
    keys : metrics to show; all that an epoch has by default.
    stream : where to; standard error by default.

    Notes
    -----
    Metrics are read once per epoch: a bar that asks for the loss at every iteration makes a GPU wait.
    """

    runs_everywhere = False

    def __init__(self, keys: tuple[str, ...] | None = None, *, stream: TextIO | None = None) -> None:
        self.keys, self._stream = keys, stream
        self._bar: Any = None
        self._began, self._first_epoch, self._num_epochs, self._shown = 0.0, 1, 0, 0.0

    @property
    def _out(self) -> TextIO:
        return sys.stderr if self._stream is None else self._stream

    def at_training_begin(self, trainer: Any, *, num_epochs: int, **event: Any) -> None:
        """Open the bar where there is a terminal."""
        self._began, self._first_epoch, self._num_epochs = time.monotonic(), trainer.start_epoch, num_epochs
        if self._out.isatty():
            from tqdm import tqdm

            self._bar = tqdm(
                total=num_epochs, initial=trainer.start_epoch - 1, unit="epoch", file=self._out, dynamic_ncols=True
            )

    def at_iter_end(self, trainer: Any, *, iter_num: int, curr_epoch: int, train: bool, **event: Any) -> None:
        """Show on a terminal that it goes on."""
        if self._bar is not None and time.monotonic() - self._shown >= _SECONDS_BETWEEN_LOOKS:
            what = "iteration" if train else "validation"
            self._bar.set_description_str(f"epoch {curr_epoch}, {what} {iter_num + 1}")
            self._shown = time.monotonic()

    def at_epoch_end(
        self, trainer: Any, *, val_metrics: Mapping[str, float], curr_epoch: int, is_best: bool, **event: Any
    ) -> None:
        """Show the epoch."""
        shown = val_metrics if self.keys is None else {k: val_metrics[k] for k in self.keys if k in val_metrics}
        text = "  ".join(f"{name} {value:.3g}" for name, value in shown.items())
        if self._bar is not None:
            self._bar.set_postfix_str(text, refresh=False)
            self._bar.update()
            return
        took = time.monotonic() - self._began
        left = took / (curr_epoch - self._first_epoch + 1) * (self._num_epochs - curr_epoch)
        best = "  best" if is_best else ""
        self._out.write(
            f"epoch {curr_epoch}/{self._num_epochs}  {text}{best}  [{_minutes(took)}, {_minutes(left)} left]\n"
        )
        self._out.flush()

    def at_training_end(self, trainer: Any, **event: Any) -> None:
        """Close the bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_bar": None, "_stream": None}


def _minutes(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
