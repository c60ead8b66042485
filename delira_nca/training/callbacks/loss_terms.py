"""Losses on intermediate states of a roll-out, and normalisation of the gradients of these states."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from delira_nca.checks import is_whole, require_callable, require_number, require_whole
from delira_nca.errors import ConfigError
from delira_nca.seeding import generator
from delira_nca.training.callbacks.abstract_callback import AbstractCallback, Trainer
from delira_nca.training.scores import check_value_names

if TYPE_CHECKING:
    from torch import Tensor

    from delira_nca.models.pytorch_network import LossOf
    from delira_nca.rollout.job import Watched

__all__ = ["ActivityLoss", "IntermediateSupervision", "LossTermCallback", "RolloutLoss", "StateGradientNormalization"]


class LossTermCallback(AbstractCallback):
    """Base class of losses that are added to the loss of every training step and recorded under a name.

    The callback is a :class:`delira_nca.models.pytorch_network.LossTerm` that is registered with the trainer during a
    training. It is not evaluated in validation.

    Parameters
    ----------
    name : str
        Name of the loss in the metrics.
    weight : float
        Factor of the loss.

    Raises
    ------
    ConfigError
        For a weight that is not finite; and from the training, if the name is in use, or the network has its own
        closure, which does not add such losses.
    """

    needs_torch = True

    def __init__(self, name: str, weight: float = 1.0) -> None:
        require_number(f"weight of the loss {name!r}", weight)
        self.name, self.weight = name, weight

    @property
    def state_key(self) -> str:
        """Class name and name of the loss."""
        return f"{type(self).__name__}:{self.name}"

    @abstractmethod
    def stops(self, steps: int, seed: int) -> Iterable[int]:
        """Numbers of steps after which ``value`` needs the state of a roll-out."""

    @abstractmethod
    def value(self, rollouts: Sequence[Watched], loss_of: LossOf, seed: int) -> Tensor | None:
        """Weighted loss, or None."""

    def at_training_begin(self, trainer: Trainer, **event: Any) -> None:
        """Add the loss to the ``loss_terms`` of the trainer."""
        from delira_nca.models.pytorch_network import AbstractPyTorchNetwork

        terms = getattr(trainer, "loss_terms", None)
        if terms is None:
            raise ConfigError(f"{type(self).__name__} needs a trainer with loss_terms, as PyTorchNetworkTrainer")
        network = type(trainer.network)
        if network.closure is not AbstractPyTorchNetwork.closure:
            raise ConfigError(f"{network.__name__} has a closure of its own: add the loss {self.name!r} there")
        check_value_names({}, {self.name: self}, trainer.optimizers, kind=f"loss of {type(self).__name__}")
        if self.name in terms or self.name in {**trainer.criterions, **trainer.metrics}:
            raise ConfigError(f"there is a loss {self.name!r} already: give {type(self).__name__} another name")
        terms[self.name] = self

    def at_training_end(self, trainer: Trainer, **event: Any) -> None:
        """Remove the loss from the ``loss_terms`` of the trainer."""
        if trainer.loss_terms.get(self.name) is self:
            del trainer.loss_terms[self.name]


class IntermediateSupervision(LossTermCallback):
    """Evaluate the loss at intermediate steps of a roll-out in addition to its end.

    The criterions, or the network's own loss, are applied to each selected state. In a forward pass with several
    roll-outs, such as that of a pyramid, states of the last one are used.

    Parameters
    ----------
    at : sequence
        Numbers of steps, from 1, or fractions of the length of the roll-out, between 0 and 1 (exclusive). Numbers
        beyond the end of a roll-out are skipped.
    weights : float or sequence of float
        Weight of each step, or one weight for all.
    name : str
        Name of the loss in the metrics.

    Notes
    -----
    Mordvintsev et al. (2022), "Growing Isotropic Neural Cellular Automata", use ``at=(1,)`` against automata that
    collapse at the beginning of the roll-out. Each step needs the memory of one state.

    Examples
    --------
    >>> IntermediateSupervision(at=(1, 0.5), weights=(1.0, 0.3)).stops(steps=24, seed=0)
    [1, 12]
    """

    def __init__(
        self, at: Sequence[int | float] = (1,), weights: float | Sequence[float] = 1.0, *, name: str = "intermediate"
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
        """Steps of a roll-out at which the loss is evaluated."""
        return sorted({place for place, _ in self._places(steps)})

    def value(self, rollouts: Sequence[Watched], loss_of: LossOf, seed: int) -> Tensor:
        """Weighted sum of the losses over the steps."""
        last = rollouts[-1]
        total = last.states[last.steps].new_zeros(())
        for place, weight in self._places(last.steps):
            total = total + weight * loss_of(place, last.states[place])
        return total

    def __repr__(self) -> str:
        return f"IntermediateSupervision(at={self.at}, weights={self.weights}, name={self.name!r})"


class RolloutLoss(LossTermCallback):
    """Add the mean of a function over states of the roll-outs to the loss.

    Parameters
    ----------
    function : callable
        Function from a state (B, C, *spatial) to a scalar tensor.
    name : str
        Name of the loss in the metrics.
    weight : float
        Factor of the mean.
    num_steps : int, optional
        Number of states per roll-out, drawn without replacement in each iteration; None for all of them. The mean
        over the drawn states is an unbiased estimate, and needs only their memory.

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
        """Drawn steps, from 1 to ``steps``."""
        return _drawn(self.name, steps, self.num_steps, seed)

    def value(self, rollouts: Sequence[Watched], loss_of: LossOf, seed: int) -> Tensor:
        """Weighted mean of the function over the drawn states."""
        values = [self.function(r.states[n]) for r in rollouts for n in self.stops(r.steps, seed)]
        return self.weight * _mean(values, rollouts)

    def __repr__(self) -> str:
        function = getattr(self.function, "__name__", type(self.function).__name__)
        return f"RolloutLoss({function}, name={self.name!r}, weight={self.weight}, num_steps={self.num_steps})"


class ActivityLoss(LossTermCallback):
    """Add the mean absolute change of the states per step to the loss; it is 0 for an automaton at rest.

    Parameters
    ----------
    weight : float
        Factor of the mean; 10 was used to train isotropic automata.
    num_steps : int, optional
        Number of steps per roll-out, drawn in each iteration; None for all of them. Each step needs the memory of two
        states.
    name : str
        Name of the loss in the metrics.

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
        """Drawn steps, and the step before each."""
        drawn = _drawn(self.name, steps, self.num_steps, seed)
        return sorted({*drawn, *(n - 1 for n in drawn)})

    def value(self, rollouts: Sequence[Watched], loss_of: LossOf, seed: int) -> Tensor:
        """Weighted mean of the changes in the drawn steps."""
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
    if not values:  # roll-outs without steps
        return rollouts[-1].states[rollouts[-1].steps].new_zeros(())
    total = values[0]
    for value in values[1:]:
        total = total + value
    return total / len(values)


class StateGradientNormalization(LossTermCallback):
    """Divide the gradient of each sample's state by its norm after every step of the backward pass.

    Gradients then neither explode nor vanish over many steps, and all steps have equal influence. Automata with few
    weights and a fire rate of 1 need this. The result depends only on the direction of the gradient of the loss, not on
    its scale. A gradient of zero stays zero.

    Parameters
    ----------
    eps : float
        Lower bound of the norm.

    Raises
    ------
    ConfigError
        If ``eps`` is not above 0; and from the training, as for :class:`LossTermCallback`.

    Notes
    -----
    Mordvintsev & Niklasson (2021), "μNCA: Texture Generation with Ultra-Compact Neural Cellular Automata". No
    loss is added. All states of the roll-out are kept, so that memory grows with the number of steps.

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
        """All steps except the last, the state of which is available anyway."""
        return range(1, steps)

    def value(self, rollouts: Sequence[Watched], loss_of: LossOf, seed: int) -> None:
        """Register hooks that normalise the gradients of the states. Returns None: no loss is added."""
        for rollout in rollouts:
            for step, state in rollout.states.items():
                if step and state.requires_grad:
                    state.register_hook(self._normalised)  # type: ignore[no-untyped-call]

    def _normalised(self, gradient: Tensor) -> Tensor:
        norm: Tensor = gradient.flatten(1).norm(dim=1).clamp(min=self.eps)
        return gradient / norm.view(-1, *(1,) * (gradient.dim() - 1))

    def __repr__(self) -> str:
        return f"StateGradientNormalization(eps={self.eps})"
