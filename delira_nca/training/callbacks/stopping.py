"""Callbacks that stop a training: early stopping and a time limit. Does not import torch."""

from __future__ import annotations

import logging
import math
import re
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from delira_nca.checks import is_number, require_number, require_whole
from delira_nca.errors import ConfigError, require_choice
from delira_nca.training.callbacks.abstract_callback import AbstractCallback, Returned, Trainer
from delira_nca.training.scores import find_score_key, higher_is_better, is_better

__all__ = ["Duration", "EarlyStopping", "TimeLimit", "in_words", "to_seconds"]

Duration = float | str | timedelta
"""Seconds, a text such as ``"2h30m"``, or a timedelta."""

_UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)([dhms])")


def to_seconds(duration: Duration) -> float:
    """Convert a duration to seconds.

    Raises
    ------
    ConfigError
        If it is not a duration, negative or infinite.

    Examples
    --------
    >>> to_seconds("2h30m"), to_seconds("1d 0.5h"), to_seconds("90"), to_seconds(timedelta(minutes=2))
    (9000.0, 88200.0, 90.0, 120.0)
    """
    seconds = math.nan
    if isinstance(duration, timedelta):
        seconds = duration.total_seconds()
    elif isinstance(duration, str):
        text = duration.replace(" ", "").lower()
        parts = _PART.findall(text)
        if parts and "".join(number + unit for number, unit in parts) == text:
            seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
        elif re.fullmatch(r"\d+(\.\d*)?", text):
            seconds = float(text)
    elif is_number(duration):
        seconds = float(duration)
    if not 0 <= seconds < math.inf:
        raise ConfigError(
            f"a duration is a number of seconds, a text as '2h30m' or '45s', or a timedelta: {duration!r}"
        )
    return seconds


def in_words(seconds: float) -> str:
    """Text of a duration with its two largest units.

    Examples
    --------
    >>> in_words(9000), in_words(3661), in_words(59.94), in_words(1.5), in_words(0.0123)
    ('2h30m', '1h1m', '1m', '1.5s', '0.012s')
    """
    if seconds < 10:
        return f"{float(f'{seconds:.2g}'):g}s"
    left, parts = round(seconds), list[str]()
    for unit, size in _UNITS.items():
        number, left = divmod(left, size)
        if number or parts:
            parts.append(f"{number}{unit}" if number else "")
    return "".join(parts[:2])


class TimeLimit(AbstractCallback):
    """End the training and save it before a time limit is reached.

    After each epoch and each training iteration, the trainer is stopped if the next one, at the average duration so
    far, would exceed the limit. At least one iteration is trained.

    Parameters
    ----------
    limit : float or str
        Total time of the run: seconds, ``"2h30m"`` or a ``timedelta``. Time before a resume counts; time between two
        trainings does not.
    margin : float or str
        Part of the limit that is reserved for work after the training, such as writing to a slow disk; same format.
    every : str
        ``"epoch"``: do not start an epoch that would exceed the limit. ``"iteration"``: use all of the time, and stop
        in the middle of an epoch.
    clock : callable
        Function that returns the time in seconds.

    Notes
    -----
    The duration of an epoch includes validation and files; epochs that were resumed in the middle do not count. If the
    last epoch took longer than the mean, its duration is expected for the next one. Means are not saved, since they
    depend on the machine. ``stop_reason`` of the trainer starts with ``TIME_LIMIT``.

    Examples
    --------
    >>> TimeLimit("2h30m", margin="5m")
    TimeLimit('2h30m', margin='5m', every='epoch')
    """

    rolls_back = False  # elapsed time is not restored by a rollback of NaNGuard

    def __init__(
        self,
        limit: Duration,
        *,
        margin: Duration = 0.0,
        every: str = "epoch",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.limit, self.margin = to_seconds(limit), to_seconds(margin)
        if not self.margin < self.limit:
            raise ConfigError(f"the margin, {margin!r}, is smaller than the limit, {limit!r}, which is greater than 0")
        require_choice("period of a time limit", every, ("epoch", "iteration"))
        self.every, self.clock = every, clock
        self._spent = 0.0
        self._begun: float | None = None
        self._forget()

    def _forget(self) -> None:
        """Reset the measured durations."""
        self._last_epoch: int | None = None
        self._num_epochs, self._in_epochs, self._epoch_begun = 0, 0.0, math.nan
        self._num_iterations, self._in_iterations, self._iteration_begun = 0, 0.0, math.nan

    @property
    def elapsed(self) -> float:
        """Duration of the run so far, in seconds."""
        return self._spent + (0.0 if self._begun is None else self.clock() - self._begun)

    def at_training_begin(self, trainer: Trainer, *, num_epochs: int | None = None, **event: Any) -> None:
        """Start the clock."""
        self._begun = self.clock()
        self._forget()
        self._last_epoch = num_epochs

    def at_epoch_begin(self, trainer: Trainer, *, first_iter: int = 0, **event: Any) -> None:
        """Record the duration of the previous epoch, including its files."""
        now = self.elapsed
        if not math.isnan(self._epoch_begun):
            self._num_epochs += 1
            self._in_epochs += now - self._epoch_begun
        self._epoch_begun, self._iteration_begun = (math.nan if first_iter else now), now

    def at_iter_end(self, trainer: Trainer, *, train: bool, **event: Any) -> Returned:
        """Stop if another iteration would exceed the limit."""
        if not train:
            return None
        now = self.elapsed
        self._num_iterations += 1
        self._in_iterations += now - self._iteration_begun
        self._iteration_begun = now
        returned = self._stop_before(trainer, "iteration", now, self._in_iterations / self._num_iterations)
        return returned and {**returned, "stop_now": True}

    def at_epoch_end(self, trainer: Trainer, *, curr_epoch: int, **event: Any) -> Returned:
        """Stop if another epoch, or another iteration, would exceed the limit."""
        if curr_epoch == self._last_epoch:
            return None
        now = self.elapsed
        if self.every == "iteration":
            return self._stop_before(trainer, "iteration", now, self._in_iterations / max(self._num_iterations, 1))
        so_far = 0.0 if math.isnan(self._epoch_begun) else now - self._epoch_begun
        expected = max(self._in_epochs / max(self._num_epochs, 1), so_far)
        files = expected - so_far if so_far else 0.0
        return self._stop_before(trainer, "epoch", now + files, expected)

    def at_training_end(self, trainer: Trainer, **event: Any) -> None:
        """Stop the clock."""
        self._spent, self._begun = self.elapsed, None

    def _stop_before(self, trainer: Trainer, what: str, now: float, expected: float) -> Returned:
        if trainer.stop_training or now + expected + self.margin <= self.limit:
            return None
        spent = f"{in_words(now)} of {in_words(self.limit)} are spent"
        return {
            "stop_training": True,
            "stop_reason": f"TIME_LIMIT: {spent}, and another {what} takes about {in_words(expected)}",
        }

    def state_dict(self) -> dict[str, Any]:
        """Duration of the run so far."""
        return {"spent": self.elapsed}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load a state."""
        self._spent = state["spent"]
        self._begun = None if self._begun is None else self.clock()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_spent": self.elapsed, "_begun": None}

    def __repr__(self) -> str:
        return f"TimeLimit({in_words(self.limit)!r}, margin={in_words(self.margin)!r}, every={self.every!r})"


_LOGGER = logging.getLogger("delira_nca")


class EarlyStopping(AbstractCallback):
    """End the training when a score has stopped improving.

    Parameters
    ----------
    monitor_key : str
        Name of the score; that of validation is used if there is one.
    min_delta : float
        Minimum improvement over the best score.
    patience : int
        Number of consecutive epochs without improvement after which the training ends; 0 is treated as 1.
    mode : str
        Whether the minimum (``"min"``, ``"lowest"``) or the maximum (``"max"``, ``"highest"``) is the best.
    check_finite : bool
        Whether a NaN or infinite score ends the training immediately. Otherwise a NaN never counts as an improvement,
        and an infinite score is compared as a number.

    Raises
    ------
    ScoreKeyError
        From the training, before its first batch, if the score is not computed.

    Notes
    -----
    Epochs without validation do not count. ``stop_reason`` of the trainer starts with ``NON_FINITE`` or ``PATIENCE``.
    A NaN is never the best score, neither here nor in the trainer: with a ``val_score_key``, the training returns the
    network of the best earlier epoch.

    Examples
    --------
    >>> stopping = EarlyStopping("loss", patience=2)
    >>> [stopping.step(score) for score in (1.0, 0.9, 0.95, 0.92)]
    [False, False, False, True]
    """

    rolls_back = False  # scores of past epochs are not restored by a rollback of NaNGuard

    def __init__(
        self,
        monitor_key: str,
        min_delta: float = 0.0,
        patience: int = 0,
        mode: str = "min",
        *,
        check_finite: bool = True,
    ) -> None:
        require_whole("patience", patience, 0)
        require_number("min_delta", min_delta, 0)
        higher_is_better(mode)
        self.monitor_key, self.min_delta, self.patience, self.mode = monitor_key, min_delta, patience, mode
        self.check_finite = check_finite
        self.best: float | None = None
        self.epochs_waited = 0

    def step(self, score: float) -> bool:
        """Record a score and return whether the training should end."""
        if self._is_refused(score):
            return True
        if is_better(self.best, score, self.mode, self.min_delta):
            self.best, self.epochs_waited = score, 0
        else:
            self.epochs_waited += 1
        return self.epochs_waited >= max(self.patience, 1)

    def _is_refused(self, score: float) -> bool:
        return self.check_finite and not math.isfinite(score)

    def at_training_begin(self, trainer: Trainer, **event: Any) -> None:
        """Raise an error if the score is not computed."""
        names = trainer.score_names()
        if names is not None:
            find_score_key(self.monitor_key, names)

    def at_epoch_end(
        self, trainer: Trainer, *, val_metrics: Mapping[str, float], curr_epoch: int, **event: Any
    ) -> Returned:
        """Stop the trainer if the patience is exhausted or the score is not finite."""
        measured = trainer.measured_score(self.monitor_key, val_metrics)
        if measured is None or not self.step(measured[1]):
            return None
        key, score = measured
        reason = f"PATIENCE: {key} has not got better than {self.best} for {self.epochs_waited} epochs"
        if self._is_refused(score):
            reason = f"NON_FINITE: {key} is {score}"
        _LOGGER.info("early stopping in epoch %d: %s", curr_epoch, reason)
        return {"stop_training": True, "stop_reason": reason}

    def state_dict(self) -> dict[str, Any]:
        """Best score, and number of epochs since it improved."""
        return {"best": self.best, "epochs_waited": self.epochs_waited}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load a state."""
        self.best, self.epochs_waited = state["best"], state["epochs_waited"]
