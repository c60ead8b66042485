"""Roll-outs that get longer while an automaton learns. Free of torch."""

from __future__ import annotations

from typing import Any

from delira_nca.errors import ConfigError
from delira_nca.training.callbacks.abstract_callback import AbstractCallback, Trainer

__all__ = ["StepCurriculum"]

Range = tuple[int, int]


class StepCurriculum(AbstractCallback):
    """Lengthen the roll-outs of training over the first epochs, from a short range of steps to a long one.

    A fresh automaton overshoots, and the more steps it is given the farther: short roll-outs at first cost less and
    learn sooner when to stop growing.

    Parameters
    ----------
    first : range ``(low, high)`` of steps in the first epoch; drawn below ``high``.
    last : range from epoch ``epochs`` on.
    hold : epochs that stay at ``first``.
    epochs : the epoch in which ``last`` is reached; both ends of the range grow linearly until then.

    Raises
    ------
    ConfigError
        For a reversed or empty range, a last range that begins or ends before the first, or epochs out of order.

    Notes
    -----
    A function of the epoch alone: a resumed run goes on with the right lengths, and there is no state to save. It sets
    ``training_timesteps`` of the network.

    Examples
    --------
    >>> curriculum = StepCurriculum((16, 24), (40, 56), hold=2, epochs=6)
    >>> [curriculum.steps(epoch) for epoch in (1, 2, 4, 6, 20)]
    [(16, 24), (16, 24), (28, 40), (40, 56), (40, 56)]
    """

    def __init__(self, first: Range, last: Range, *, epochs: int, hold: int = 1) -> None:
        for name, (low, high) in (("first", first), ("last", last)):
            if low < 0 or low >= high:
                raise ConfigError(f"{name} is a range of steps (low, high) with low < high, not {(low, high)}")
        if first[0] > last[0] or first[1] > last[1]:
            raise ConfigError(f"roll-outs get longer, but the first are {first} and the last {last}")
        if not 1 <= hold < epochs:
            raise ConfigError(f"the last range is reached after the first is left: hold {hold}, epochs {epochs}")
        self.first, self.last, self.hold, self.epochs = tuple(first), tuple(last), hold, epochs

    def steps(self, epoch: int) -> Range:
        """Range of steps in an epoch, counted from 1."""
        part = min(max((epoch - self.hold) / (self.epochs - self.hold), 0.0), 1.0)
        low, high = (round(a + (b - a) * part) for a, b in zip(self.first, self.last, strict=True))
        return low, high

    def at_epoch_begin(self, trainer: Trainer, *, curr_epoch: int, **event: Any) -> None:
        """Set the network's number of training steps."""
        network: Any = trainer.network
        network.training_timesteps = self.steps(curr_epoch)

    def __repr__(self) -> str:
        return f"StepCurriculum({self.first}, {self.last}, epochs={self.epochs}, hold={self.hold})"
