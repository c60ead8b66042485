"""Callbacks that log metrics and show the progress, and a limit on how often a job runs."""

from __future__ import annotations

import math
import shutil
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TextIO

from delira_nca.checks import require_number, require_whole
from delira_nca.errors import ConfigError
from delira_nca.logging import MetricSink
from delira_nca.training.callbacks.abstract_callback import AbstractCallback, Trainer
from delira_nca.training.scores import describe_metrics

__all__ = ["MetricLogger", "Pace", "ProgressBar"]

_SECONDS_BETWEEN_LOOKS = 0.2
_COLUMNS = 80
_RECENT = 5  # number of epochs from which the remaining time is estimated
_LINES = 100  # per training, if not on a terminal; slow epochs add one line per minute
_SECONDS_BETWEEN_LINES = 60.0


class ProgressBar(AbstractCallback):
    """Show the epoch, its metrics, the remaining time and an address, in 80 columns.

    On a terminal, one line is updated during an epoch. Otherwise at most 100 lines, and one per minute, are written.

    Parameters
    ----------
    keys : iterable of str or mapping of str to str, optional
        Names of the metrics to show, or a mapping of name to label; all metrics that fit by default.
    log10 : bool
        Whether to show the decimal logarithms of the metrics.
    look_at : str, optional
        Path or address to show at the end of the line, such as that of a live page.
    expected_seconds : sequence of float, optional
        Expected duration of each epoch in seconds, for trainings with epochs of different length. The remaining time is
        then shown from the start, and corrected by measured durations.
    stream : text file, optional
        Stream to write to; standard error by default. Only its method ``write`` is required. Characters outside its
        encoding are replaced. Nothing is shown if there is no stream or writing fails.

    Notes
    -----
    Metrics are read once per epoch, since reading the loss in every iteration would synchronise a GPU.

    Examples
    --------
    >>> bar = ProgressBar({"val_mse": "log10 error"}, log10=True, look_at="runs/lizard/live.html", stream=sys.stdout)
    >>> class Trainer:
    ...     start_epoch = 3
    >>> bar.at_training_begin(Trainer(), num_epochs=3)
    >>> bar.at_epoch_end(Trainer(), val_metrics={"val_mse": 0.00195}, curr_epoch=3, is_best=True)
    epoch 3/3  100%  log10 error -2.71  best  took 0:00  runs/lizard/live.html
    """

    runs_everywhere = False

    def __init__(
        self,
        keys: Iterable[str] | Mapping[str, str] | None = None,
        *,
        log10: bool = False,
        look_at: str | None = None,
        expected_seconds: Sequence[float] | None = None,
        stream: TextIO | None = None,
    ) -> None:
        self.keys, self.log10, self.look_at, self._stream = keys, log10, look_at, stream
        self.expected_seconds = None if expected_seconds is None else [float(each) for each in expected_seconds]
        self._bar: Any = None
        self._began, self._num_epochs, self._shown = 0.0, 0, 0.0
        self._ends: deque[float] = deque(maxlen=_RECENT + 1)
        self._metrics: list[str] = []
        self._num_iterations = 0

    @property
    def _out(self) -> _Output:
        return _Output(sys.stderr if self._stream is None else self._stream)

    def at_training_begin(self, trainer: Trainer, *, num_epochs: int, **event: Any) -> None:
        """Create the bar on a terminal."""
        self._began, self._num_epochs, self._metrics = time.monotonic(), num_epochs, []
        self._ends.clear()
        self._ends.append(self._began)
        self._shown = -math.inf
        if self.expected_seconds is not None:
            where = f"; watch {self.look_at}" if self.look_at else ""
            self._write(f"training takes about {_minutes(self._left(trainer.start_epoch - 1) or 0.0)}{where}")
        if self._out.isatty():
            from tqdm import tqdm

            columns = min(_COLUMNS, shutil.get_terminal_size().columns) - 1  # a full line makes some terminals wrap
            self._bar = tqdm(total=num_epochs, file=self._out, ncols=columns, bar_format="{desc}")
            self._show(trainer.start_epoch, trainer.start_epoch - 1, self._began)

    def at_iter_end(self, trainer: Trainer, *, iter_num: int, curr_epoch: int, train: bool, **event: Any) -> None:
        """Update the progress within the epoch on a terminal."""
        if self._bar is None:
            return
        if train and self._num_iterations < iter_num + 1:
            self._num_iterations = iter_num + 1
        now = time.monotonic()
        if now - self._shown >= _SECONDS_BETWEEN_LOOKS:
            # in the first epoch, the number of iterations is not known yet
            known = self._num_iterations if len(self._ends) > 1 else 0
            part = (iter_num + 1) / known if train and known else float(not train)
            self._show(curr_epoch, curr_epoch - 1 + part, now)

    def at_epoch_end(
        self, trainer: Trainer, *, val_metrics: Mapping[str, float], curr_epoch: int, is_best: bool, **event: Any
    ) -> None:
        """Show the finished epoch."""
        now = time.monotonic()
        self._ends.append(now)
        self._metrics = describe_metrics(val_metrics, self.keys, log10=self.log10)
        if self._bar is not None:
            self._show(curr_epoch, curr_epoch, now)
            return
        first, last = self._shown == -math.inf, curr_epoch == self._num_epochs
        stride = math.ceil(self._num_epochs / _LINES)
        if first or last or curr_epoch % stride == 0 or now - self._shown >= _SECONDS_BETWEEN_LINES:
            self._shown = now
            self._write(self._line(curr_epoch, curr_epoch, now, _COLUMNS, ["best"] if is_best else []))

    def at_training_end(self, trainer: Trainer, **event: Any) -> None:
        """Close the bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _write(self, line: str) -> None:
        self._out.write(line + "\n")
        self._out.flush()

    def _show(self, epoch: int, done: float, now: float) -> None:
        """Update the line on the terminal."""
        self._shown = now
        self._bar.set_description_str(self._line(epoch, done, now, self._bar.ncols))

    def _line(self, epoch: int, done: float, now: float, columns: int, more: Sequence[str] = ()) -> str:
        """Line for an epoch, after ``done`` epochs (not necessarily a whole number)."""
        total = self._num_epochs
        done = min(done, total)
        head = [f"epoch {min(epoch, total)}/{total}", f"{math.floor(100 * done / total)}%"]
        tail = [self._time(done, now), *([self.look_at] if self.look_at else [])]
        middle = [*self._metrics, *more]
        while middle and _width([*head, *middle, *tail]) > columns:
            middle.pop()
        line = "  ".join([*head, *middle, *tail])
        if len(line) > columns and self.look_at:  # keep the end of the path, which is the most specific
            room = columns - _width([*head, *tail[:-1]]) - 3
            line = "  ".join([*head, *tail[:-1], *([f"…{self.look_at[-room:]}"] if room > 0 else [])])
        return line[:columns]

    def _time(self, done: float, now: float) -> str:
        """Text of the remaining time, or of the total time at the end."""
        if done >= self._num_epochs:
            return f"took {_minutes(now - self._began)}"
        left = self._left(done)
        return f"{_minutes(now - self._began)} so far" if left is None else f"{_minutes(left)} left"

    def _left(self, done: float) -> float | None:
        """Remaining seconds at the pace of the last epochs, or None if unknown."""
        expected = self.expected_seconds or [1.0] * self._num_epochs
        finished, measured = math.floor(done), len(self._ends) - 1
        left = sum(expected[finished : self._num_epochs]) - (done - finished) * expected[finished]
        if measured:
            return left * (self._ends[-1] - self._ends[0]) / sum(expected[finished - measured : finished])
        return left if self.expected_seconds else None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_bar": None, "_stream": None}


class _Output:
    """Stream that may be missing, closed, full or of limited encoding: no training fails for its progress."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.encoding = getattr(stream, "encoding", None) or "utf-8"

    def write(self, text: str) -> None:
        if self._stream is None:
            return
        with suppress(OSError, ValueError):  # a closed stream raises ValueError
            try:
                self._stream.write(text)
            except UnicodeEncodeError:
                self._stream.write(text.encode(self.encoding, "replace").decode(self.encoding))

    def flush(self) -> None:
        with suppress(OSError, ValueError, AttributeError):
            self._stream.flush()

    def isatty(self) -> bool:
        with suppress(OSError, ValueError, AttributeError):
            return bool(self._stream.isatty())
        return False


def _width(parts: Sequence[str]) -> int:
    return len("  ".join(parts))


def _minutes(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


class MetricLogger(AbstractCallback):
    """Write the metrics of every epoch, and of every n-th iteration, to sinks.

    Parameters
    ----------
    *sinks : MetricSink
        Sinks to write to, see :mod:`delira_nca.logging`.
    every : int
        Also log the losses and metrics of every n-th iteration, as ``iter_...``; 0 for epochs only.
    config : mapping, optional
        Description of the run in plain values, written once at its start.

    Notes
    -----
    The step of each value is the number of iterations, so that curves of epochs and of iterations have a common axis.
    When a run is resumed, entries logged after the resume point are removed first. A logger serves one run.
    """

    runs_everywhere = False

    def __init__(self, *sinks: MetricSink, every: int = 0, config: Mapping[str, Any] | None = None) -> None:
        for sink in sinks:
            if not isinstance(sink, MetricSink):
                raise ConfigError(f"{sink!r} is not a sink: it lacks a method of delira_nca.logging.MetricSink")
        require_whole("every", every, 0)
        self.sinks, self.every, self.config = sinks, every, dict(config or {})
        self._rates: dict[str, float] = {}
        self._run_id: str | None = None

    def at_training_begin(self, trainer: Trainer, **event: Any) -> None:
        """Remove entries after the resume point, and write the config.

        Raises
        ------
        ConfigError
            If the sinks have the entries of another run, which would be removed.
        """
        if self.sinks and self._run_id not in (None, trainer.run_id):
            raise ConfigError("the sinks of this MetricLogger have the entries of another run: make one for each run")
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
        """Write the values of every n-th iteration."""
        if train and self.every and (global_iter_num + 1) % self.every == 0:
            self._run_id = trainer.run_id
            values = {f"iter_{name}": float(value) for name, value in metrics.items()}
            for sink in self.sinks:
                sink.scalars(values, global_iter_num + 1)

    def at_epoch_begin(self, trainer: Trainer, *, first_iter: int, **event: Any) -> None:
        """Store the learning rates before a scheduler changes them."""
        if first_iter and self._rates:
            return
        rates = trainer.learning_rates()
        self._rates = {"lr" if name == "default" else f"lr_{name}": rate for name, rate in rates.items()}

    def at_epoch_end(
        self, trainer: Trainer, *, val_metrics: Mapping[str, float], curr_epoch: int, **event: Any
    ) -> None:
        """Write the values of the epoch, and the learning rates at its start."""
        self._run_id = trainer.run_id
        for sink in self.sinks:
            sink.scalars({"epoch": curr_epoch, **val_metrics, **self._rates}, trainer.step)

    def at_training_end(self, trainer: Trainer, **event: Any) -> None:
        """Close the sinks."""
        for sink in self.sinks:
            sink.close()

    def state_dict(self) -> dict[str, Any]:
        """Learning rates at the start of the epoch."""
        return {"rates": dict(self._rates)} if self._rates else {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load a state."""
        self._rates = dict(state.get("rates", {}))

    def __repr__(self) -> str:
        return f"MetricLogger({', '.join(type(sink).__name__ for sink in self.sinks)}, every={self.every})"


class Pace:
    """Limit how often a job runs, based on wall-clock time.

    Parameters
    ----------
    every : float
        Minimum time between two starts, in seconds.
    share : float
        Maximum fraction of the time that the job may take; a slow job runs less often.
    clock : callable
        Function that returns the time in seconds.

    Examples
    --------
    >>> seconds = iter([0.0, 0.0, 1.0, 30.0, 60.0])
    >>> pace = Pace(5.0, share=0.02, clock=lambda: next(seconds))
    >>> pace.is_due()
    True
    >>> with pace.job():  # takes one second, so the next one is due 50 s after it began
    ...     pass
    >>> pace.is_due(), pace.is_due()
    (False, True)
    """

    def __init__(self, every: float, *, share: float = 0.02, clock: Callable[[], float] = time.monotonic) -> None:
        require_number("every", every, 0)
        require_number("share", share, most=1, above=0)
        self.every, self.share, self._clock = every, share, clock
        self._next = -math.inf

    def is_due(self) -> bool:
        """Whether the job may run now."""
        return self._clock() >= self._next

    @contextmanager
    def job(self) -> Iterator[None]:
        """Context manager that measures the duration of the job."""
        begin = self._clock()
        try:
            yield
        finally:
            self._next = begin + max(self.every, (self._clock() - begin) / self.share)
