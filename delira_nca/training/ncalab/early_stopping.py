"""NCALab's early stopping: a counter that is stepped once per epoch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from delira_nca.checks import require_number, require_whole
from delira_nca.training.scores import is_better

__all__ = ["EarlyStopping"]


class EarlyStopping:
    """Says when an accuracy has not got better for some epochs.

    :class:`delira_nca.training.callbacks.EarlyStopping` is a callback that follows any score; this one follows what it
    is stepped with, and larger is better.

    Parameters
    ----------
    patience : so many epochs without a better accuracy end the training.
    min_delta : by at least so much it must be better than the best.

    Attributes
    ----------
    best_accuracy : the best so far. The first one is the best, also where it is 0 or below.
    counter : epochs since then.

    Raises
    ------
    ConfigError
        For a patience below 1 or a min_delta below 0.

    Examples
    --------
    >>> stopping = EarlyStopping(patience=2)
    >>> for accuracy in (0.5, 0.6, 0.6, 0.59):
    ...     stopping.step(accuracy)
    >>> stopping.best_accuracy, stopping.counter, stopping.done()
    (0.6, 2, True)
    """

    def __init__(self, patience: int, min_delta: float = 1e-6) -> None:
        require_whole("patience", patience, 1)
        require_number("min_delta", min_delta, 0)
        self.patience, self.min_delta = patience, min_delta
        self.best_accuracy, self.counter = 0.0, 0
        self._has_stepped = False

    def done(self) -> bool:
        """Whether the training can stop; to be asked once per epoch."""
        return self.counter >= self.patience

    def step(self, accuracy: float) -> None:
        """Take in the accuracy of an epoch. A NaN is not better than anything."""
        best = self.best_accuracy if self._has_stepped else None
        better = is_better(best, accuracy, "highest") and (best is None or accuracy >= best + self.min_delta)
        if better:
            self.best_accuracy, self.counter, self._has_stepped = accuracy, 0, True
        else:
            self.counter += 1

    def state_dict(self) -> dict[str, Any]:
        """Best accuracy, counter, and whether there was an accuracy yet."""
        return {"best_accuracy": self.best_accuracy, "counter": self.counter, "has_stepped": self._has_stepped}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up a state."""
        self.best_accuracy, self.counter = state["best_accuracy"], state["counter"]
        self._has_stepped = state["has_stepped"]
