"""Losses on states within a roll-out, and what is done to the gradients of these states."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from delira_nca.checks import is_whole, require_callable, require_number, require_whole
from delira_nca.errors import ConfigError
from delira_nca.seeding import generator
from delira_nca.training.callbacks.abstract_callback import AbstractCallback, Trainer

if TYPE_CHECKING:
    from torch import Tensor

    from delira_nca.models.pytorch_network import LossOf
    from delira_nca.rollout.job import Watched

__all__ = ["ActivityLoss", "IntermediateSupervision", "LossTermCallback", "RolloutLoss", "StateGradientNormalization"]


class LossTermCallback(AbstractCallback):
    """A loss that joins those of every step of a training, under a name in the metrics.

    It is a :class:`delira_nca.models.pytorch_network.LossTerm`, which the trainer knows for the time of a training. In
    validation there is none.

    Parameters
    ----------
    name : str
        Of the loss among the metrics.
    weight : float
        Factor of the loss.

    Raises
    ------
    ConfigError
        For a weight that is not finite; and from the training, if the name is taken, or the network has a training
        step of its own, which does not know of such losses.
    """

    def __init__(self, name: str, weight: float = 1.0) -> None:
        require_number(f"weight of the loss {name!r}", weight)
        self.name, self.weight = name, weight

    @property
    def state_key(self) -> str:
        """Class and name."""
        return f"{type(self).__name__}:{self.name}"

    @abstractmethod
    def stops(self, steps: int, seed: int) -> Iterable[int]:
        """After how many steps of a roll-out the state is wanted."""

    @abstractmethod
    def value(self, rollouts: Sequence[Watched], loss_of: LossOf, seed: int) -> Tensor | None:
        """Loss, weight included; None for no loss."""

    def at_training_begin(self, trainer: Trainer, **event: Any) -> None:
        """Join the losses of the trainer."""
        from delira_nca.models.pytorch_network import AbstractPyTorchNetwork

        terms = getattr(trainer, "loss_terms", None)
        if terms is None:
            raise ConfigError(f"{type(self).__name__} needs a trainer with loss_terms, as PyTorchNetworkTrainer")
        network = type(trainer.network)
        if network.closure is not AbstractPyTorchNetwork.closure:
            raise ConfigError(f"{network.__name__} has a closure of its own: add the loss {self.name!r} there")
        if self.name == "loss" or self.name in terms or self.name in {**trainer.criterions, **trainer.metrics}:
            raise ConfigError(f"there is a loss {self.name!r} already: give {type(self).__name__} another name")
        terms[self.name] = self

    def at_training_end(self, trainer: Trainer, **event: Any) -> None:
        """Leave the losses of the trainer."""
        if trainer.loss_terms.get(self.name) is self:
            del trainer.loss_terms[self.name]


class IntermediateSupervision(LossTermCallback):
    """Judge a prediction at several steps of a roll-out, not at its end alone.

    Each chosen state is judged as the end is, by the criterions or by the network's own loss. Of a forward pass with
    several roll-outs, as that of a pyramid, the last one is looked at.

    Parameters
    ----------
    at : sequence
        Numbers of steps, from 1, or parts of the roll-out's length, above 0 and below 1. A number of steps that a
        roll-out does not reach does not count in it.
    weights : float or sequence of float
        One for each, or one number for all.
    name : str
        Of the loss among the metrics.

    Raises
    ------
    ConfigError
        Without a step, for one out of range, or for another number of weights.

    Notes
    -----
    ``at=(1,)`` is what Mordvintsev et al. (2022), "Growing Isotropic Neural Cellular Automata", use against automata
    that collapse at the beginning. Memory grows by one state for each step that is looked at.

    Examples
    --------
    >>> IntermediateSupervision(at=(1, 0.5), weights=(1.0, 0.3)).stops(steps=24, seed=0)
    [1, 12]
    """

    def __init__(
        self,
        at: Sequence[int | float] = (1,),
        weights: float | Sequence[float] = 1.0,
        *,
        name: str = "intermediate",
    ) -> None:
        self.at = tuple(at)
        for place in self.at:
            is_step = is_whole(place) and place >= 1
            if not is_step and not (isinstance(place, float) and 0 < place < 1):
                raise ConfigError(f"at holds numbers of steps from 1, or parts between 0 and 1, not {place!r}")
        self.weights = (float(weights),) * len(self.at) if isinstance(weights, (int, float)) else tuple(weights)
        if not self.at or len(self.weights) != len(self.at):
            raise ConfigError(f"{len(self.at)} steps to judge have {len(self.weights)} weights")
        if not all(map(math.isfinite, self.weights)):
            raise ConfigError(f"weights are finite numbers, not {self.weights}")
        super().__init__(name)

    def _places(self, steps: int) -> list[tuple[int, float]]:
        places = [p if isinstance(p, int) else max(round(p * steps), 1) for p in self.at]
        return [(place, weight) for place, weight in zip(places, self.weights, strict=True) if place <= steps]

    def stops(self, steps: int, seed: int) -> list[int]:
        """Steps of a roll-out that are judged."""
        return sorted({place for place, _ in self._places(steps)})

    def value(self, rollouts: Sequence[Watched], loss_of: LossOf, seed: int) -> Tensor:
        """Weighted sum over the steps that are judged."""
        last = rollouts[-1]
        total = last.states[last.steps].new_zeros(())
        for place, weight in self._places(last.steps):
            total = total + weight * loss_of(place, last.states[place])
        return total

    def __repr__(self) -> str:
        return f"IntermediateSupervision(at={self.at}, weights={self.weights}, name={self.name!r})"


class RolloutLoss(LossTermCallback):
    """Mean of a function over states of the roll-outs.

    Parameters
    ----------
    function : callable
        From a (B, C, *spatial) state to a () tensor.
    name : str
        Of the loss among the metrics.
    weight : float
        Factor of the mean.
    num_steps : int, optional
        So many states of each roll-out, drawn anew in each iteration without replacement, are looked at; None
        for all of them. The mean over drawn ones is an unbiased estimate, and costs only their memory.

    Raises
    ------
    ConfigError
        For a function that cannot be called, a number below 1, or a weight that is not finite.

    Examples
    --------
    >>> def overflow(state):
    ...     return (state - state.clamp(-2, 2)).abs().sum(1).mean()
    >>> RolloutLoss(overflow, name="overflow", num_steps=4)
    RolloutLoss(overflow, name='overflow', weight=1.0, num_steps=4)
    """

    def __init__(
        self, function: Callable[[Tensor], Tensor], *, name: str, weight: float = 1.0, num_steps: int | None = 4
    ) -> None:
        require_callable(f"the loss {name!r}", function)
        if num_steps is not None:
            require_whole("num_steps", num_steps, 1)
        super().__init__(name, weight)
        self.function, self.num_steps = function, num_steps

    def stops(self, steps: int, seed: int) -> list[int]:
        """Steps that were drawn, from 1 to ``steps``."""
        return _drawn(self.name, steps, self.num_steps, seed)

    def value(self, rollouts: Sequence[Watched], loss_of: LossOf, seed: int) -> Tensor:
        """Weighted mean of the function."""
        values = [self.function(r.states[n]) for r in rollouts for n in self.stops(r.steps, seed)]
        return self.weight * _mean(values, rollouts)

    def __repr__(self) -> str:
        function = getattr(self.function, "__name__", type(self.function).__name__)
        return f"RolloutLoss({function}, name={self.name!r}, weight={self.weight}, num_steps={self.num_steps})"


class ActivityLoss(LossTermCallback):
    """Mean absolute change of the states from one step to the next: an automaton that comes to rest has none.

    Parameters
    ----------
    weight : float
        Factor of the mean; isotropic automata were trained with 10.
    num_steps : int, optional
        So many steps of each roll-out, drawn anew in each iteration, are looked at; None for all of them. Each
        costs the memory of two states.
    name : str
        Of the loss among the metrics.

    Raises
    ------
    ConfigError
        For a number below 1, or a weight that is not finite.

    Examples
    --------
    >>> ActivityLoss(num_steps=None).stops(steps=3, seed=0)
    [0, 1, 2, 3]
    """

    def __init__(self, weight: float = 1.0, *, num_steps: int | None = 4, name: str = "activity") -> None:
        if num_steps is not None:
            require_whole("num_steps", num_steps, 1)
        super().__init__(name, weight)
        self.num_steps = num_steps

    def stops(self, steps: int, seed: int) -> list[int]:
        """Steps that were drawn, and those before them."""
        drawn = _drawn(self.name, steps, self.num_steps, seed)
        return sorted({*drawn, *(n - 1 for n in drawn)})

    def value(self, rollouts: Sequence[Watched], loss_of: LossOf, seed: int) -> Tensor:
        """Weighted mean of the changes."""
        changes = [
            (rollout.states[n] - rollout.states[n - 1]).abs().mean()
            for rollout in rollouts
            for n in _drawn(self.name, rollout.steps, self.num_steps, seed)
        ]
        return self.weight * _mean(changes, rollouts)

    def __repr__(self) -> str:
        return f"ActivityLoss(weight={self.weight}, num_steps={self.num_steps}, name={self.name!r})"


def _drawn(name: str, steps: int, count: int | None, seed: int) -> list[int]:
    if count is None or count >= steps:
        return list(range(1, steps + 1))
    rng = generator(seed, "loss term", name, steps)
    return sorted(int(n) + 1 for n in rng.choice(steps, count, replace=False))


def _mean(values: Sequence[Tensor], rollouts: Sequence[Watched]) -> Tensor:
    if not values:  # roll-outs of no steps
        return rollouts[-1].states[rollouts[-1].steps].new_zeros(())
    total = values[0]
    for value in values[1:]:
        total = total + value
    return total / len(values)


class StateGradientNormalization(LossTermCallback):
    """Divide the gradient of each sample's state by its norm after every step of the way back.

    So a roll-out of many steps neither explodes nor fades backwards, and each step counts as much as any other: what
    automata with few weights, all of whose cells fire in every step, need. The size of the loss does not matter then,
    only its direction. A gradient that is zero stays zero.

    Parameters
    ----------
    eps : float
        Least norm that is divided by.

    Raises
    ------
    ConfigError
        If eps is not above 0; from the training, as of :class:`LossTermCallback`.

    Notes
    -----
    Mordvintsev & Niklasson (2021), "μNCA: Texture Generation with Ultra-Compact Neural Cellular Automata". It adds no
    loss. Every state of the roll-out is kept, so that memory grows with the number of steps.

    Examples
    --------
    >>> StateGradientNormalization().stops(steps=4, seed=0)
    range(1, 4)
    """

    linked = True

    def __init__(self, eps: float = 1e-12) -> None:
        require_number("eps", eps, above=0)
        super().__init__("state gradients")
        self.eps = eps

    def stops(self, steps: int, seed: int) -> range:
        """All steps but the last, whose state is there anyway."""
        return range(1, steps)

    def value(self, rollouts: Sequence[Watched], loss_of: LossOf, seed: int) -> None:
        """Let the way back pass by here; there is no loss."""
        for rollout in rollouts:
            for step, state in rollout.states.items():
                if step and state.requires_grad:
                    state.register_hook(self._normalised)  # type: ignore[no-untyped-call]

    def _normalised(self, gradient: Tensor) -> Tensor:
        norm: Tensor = gradient.flatten(1).norm(dim=1).clamp(min=self.eps)
        return gradient / norm.view(-1, *(1,) * (gradient.dim() - 1))

    def __repr__(self) -> str:
        return f"StateGradientNormalization(eps={self.eps})"
