"""Callbacks that set the number of steps of the roll-outs of training. Does not import torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from delira_nca.checks import require_whole
from delira_nca.errors import ConfigError
from delira_nca.seeding import generator
from delira_nca.training.callbacks.abstract_callback import AbstractCallback, Trainer

__all__ = ["StepCurriculum", "StepSampler"]


class StepSampler(AbstractCallback):
    """Draw the number of steps of each iteration, uniformly from a range.

    A network with ``training_timesteps=(low, high)`` draws numbers itself, from the seed of the iteration. This
    callback has its own sequence, which can be inspected, saved, and used in two trainings that are to be compared.

    Parameters
    ----------
    low, high : int
        Numbers are drawn from ``low`` to ``high - 1``.
    rng_seed : int
        Seed of the sequence, which depends only on this number and the number of earlier draws.

    Notes
    -----
    The callback sets ``training_timesteps`` of the network during a training. :class:`StepCurriculum` changes the range
    of networks that draw numbers themselves; only one of the two can be registered.

    Examples
    --------
    >>> sampler = StepSampler(64, 96)
    >>> first = [sampler.draw() for _ in range(4)]
    >>> again = StepSampler(64, 96)
    >>> again.load_state_dict({"num_draws": 2})
    >>> [again.draw(), again.draw()] == first[2:]
    True
    """

    rolls_back = False  # draws are not repeated after a rollback

    def __init__(self, low: int, high: int, *, rng_seed: int = 0) -> None:
        require_whole("low", low, 0)
        require_whole("high", high, low + 1)
        self.low, self.high, self.rng_seed, self.num_draws = low, high, rng_seed, 0
        self._former: Any = None

    def draw(self) -> int:
        """Draw the next number of the sequence."""
        rng = generator(self.rng_seed, "steps", self.num_draws)
        self.num_draws += 1
        return int(rng.integers(self.low, self.high))

    def at_training_begin(self, trainer: Trainer, **event: Any) -> None:
        """Check that no other callback sets the number of steps, and store that of the network.

        Raises
        ------
        ConfigError
            If another callback sets it too, or the network has no ``training_timesteps``.
        """
        others = [c for c in trainer.callbacks if isinstance(c, (StepSampler, StepCurriculum)) and c is not self]
        if others:
            raise ConfigError(f"StepSampler and {type(others[0]).__name__} both say how many steps: register one")
        if not hasattr(trainer.network, "training_timesteps"):
            raise ConfigError(f"{type(trainer.network).__name__} has no training_timesteps that could be set")
        self._former = trainer.network.training_timesteps

    def at_iter_begin(self, trainer: Trainer, *, train: bool, **event: Any) -> None:
        """Set the number of steps of this iteration."""
        network: Any = trainer.network
        if train:
            network.training_timesteps = self.draw()

    def at_training_end(self, trainer: Trainer, **event: Any) -> None:
        """Restore the network's own number of steps."""
        network: Any = trainer.network
        if self._former is not None:
            network.training_timesteps, self._former = self._former, None

    def state_dict(self) -> dict[str, Any]:
        """Number of draws."""
        return {"num_draws": self.num_draws}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load a state."""
        self.num_draws = state["num_draws"]

    def __repr__(self) -> str:
        return f"StepSampler({self.low}, {self.high}, rng_seed={self.rng_seed})"


Range = tuple[int, int]


class StepCurriculum(AbstractCallback):
    """Lengthen the roll-outs of training over the first epochs, from a short to a long range of steps.

    An untrained automaton overshoots, by more the more steps it takes. Short roll-outs at first cost less and teach it
    earlier when to stop growing.

    Parameters
    ----------
    first : (int, int)
        Range ``(low, high)`` of steps in the first epoch; ``high`` is excluded.
    last : (int, int)
        Range of steps from epoch ``epochs`` on.
    hold : int
        Number of epochs with the range ``first``.
    epochs : int
        Number of the epoch in which ``last`` is reached; both ends of the range grow linearly until then.

    Notes
    -----
    The range depends only on the epoch, so that a resumed run needs no saved state. The callback sets
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
