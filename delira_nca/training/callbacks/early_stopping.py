"""Stop when a score no longer gets better. Free of torch."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Any

from delira_nca.checks import is_number, is_whole
from delira_nca.errors import ConfigError
from delira_nca.training.callbacks.abstract_callback import AbstractCallback, Returned, Trainer
from delira_nca.training.scores import find_score_key, higher_is_better, is_better

__all__ = ["EarlyStopping"]

_LOGGER = logging.getLogger("delira_nca")


class EarlyStopping(AbstractCallback):
    """End the training when a score has not got better for some epochs.

    Parameters
    ----------
    monitor_key : the score; that of validation where there is one.
    min_delta : by more than so much it must be better than the best.
    patience : number of epochs in a row without a better score that end the training; 0 is taken as 1.
    mode : ``"min"`` (``"lowest"``) or ``"max"`` (``"highest"``): which way is better.
    check_finite : whether a score that is NaN or infinite ends the training at once. Otherwise a NaN counts as no
        better than any score, and an infinite score as the number that it is.

    Raises
    ------
    ConfigError, ScoreModeError
        For a negative patience or min_delta, or an unknown mode.
    ScoreKeyError
        From the training, before its first batch: if nobody computes the score.

    Notes
    -----
    An epoch that is not validated does not count. ``stop_reason`` of the trainer begins with ``NON_FINITE`` or
    ``PATIENCE``. A NaN is never the best score, neither here nor for the trainer: the network that the training returns
    is that of the best epoch before, if the training has a ``val_score_key``.

    Examples
    --------
    >>> stopping = EarlyStopping("loss", patience=2)
    >>> [stopping.step(score) for score in (1.0, 0.9, 0.95, 0.92)]
    [False, False, False, True]
    """

    rolls_back = False  # an epoch that has been scored stays so, see the snapshots of NaNGuard

    def __init__(
        self,
        monitor_key: str,
        min_delta: float = 0.0,
        patience: int = 0,
        mode: str = "min",
        *,
        check_finite: bool = True,
    ) -> None:
        if not is_whole(patience) or patience < 0:
            raise ConfigError(f"patience is a whole number of epochs, at least 0, not {patience!r}")
        if not is_number(min_delta) or not min_delta >= 0:
            raise ConfigError(f"min_delta is a number of at least 0, not {min_delta!r}")
        higher_is_better(mode)
        self.monitor_key, self.min_delta, self.patience, self.mode = monitor_key, min_delta, patience, mode
        self.check_finite = check_finite
        self.best: float | None = None
        self.epochs_waited = 0

    def step(self, score: float) -> bool:
        """Take in a score, and say whether the training should end."""
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
        """Refuse a score that nobody computes."""
        names = trainer.score_names()
        if names is not None:
            find_score_key(self.monitor_key, names)

    def at_epoch_end(
        self, trainer: Trainer, *, val_metrics: Mapping[str, float], curr_epoch: int, **event: Any
    ) -> Returned:
        """Stop the trainer where it is time."""
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
        """Best score and epochs waited."""
        return {"best": self.best, "epochs_waited": self.epochs_waited}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up a state."""
        self.best, self.epochs_waited = state["best"], state["epochs_waited"]
