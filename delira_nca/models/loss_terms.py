"""Losses that look at more of a roll-out than its end: at states that are chosen beforehand, so memory is bounded."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from torch import Tensor

from delira_nca.errors import ConfigError
from delira_nca.models.pyramid_grid import cropped
from delira_nca.rollout.observer import Watched, observing

__all__ = ["LossOf", "LossTerm", "evaluate_terms", "watching"]

LossOf = Callable[[int, Tensor], Tensor]
"""From a number of steps and the state after them to what is minimised of a prediction of that state."""


class LossTerm(Protocol):
    """What joins the loss of a training step.

    A term whose gradients have to pass by the states that it wants has a true ``linked``, see
    :class:`delira_nca.rollout.observer.Observer`.
    """

    def stops(self, steps: int, seed: int) -> Iterable[int]:
        """After how many steps of a roll-out of ``steps`` the state is wanted; ``seed`` is the iteration's."""
        ...

    def value(self, rollouts: Sequence[Watched], loss_of: LossOf, seed: int) -> Tensor | None:
        """() tensor that joins the loss; None from what only wants to meet the states before the backward pass.

        ``rollouts`` are those of the forward pass in their order, with the states that any term has asked for.
        """
        ...


@contextlib.contextmanager
def watching(terms: Mapping[str, LossTerm], seed: int) -> Iterator[Sequence[Watched]]:
    """Roll-outs of a forward pass with the states that the terms want; nothing where there is no term."""
    if not terms:
        yield []
        return
    linked = any(getattr(term, "linked", False) for term in terms.values())
    with observing(lambda steps: {n for term in terms.values() for n in term.stops(steps, seed)}, linked) as observer:
        yield observer.rollouts


def evaluate_terms(
    terms: Mapping[str, LossTerm],
    rollouts: Sequence[Watched],
    seed: int,
    model: Any,
    named: Mapping[str, Any],
    loss_of: Callable[[Any, Mapping[str, Any]], tuple[Tensor, Any]],
) -> dict[str, Tensor]:
    """Value of each term that has one.

    Parameters
    ----------
    named : what criterions are wired to, of the end of the roll-out; where a state within it is judged, the parts of
        its prediction take the place of those of the end.
    loss_of : from a prediction and the named tensors to what is minimised.

    Raises
    ------
    ConfigError
        If the forward pass has no roll-out, or a term judges states of a model that makes no predictions of them.
    """
    if not terms:
        return {}
    if not rollouts:
        raise ConfigError(f"{sorted(terms)} look into roll-outs, but {type(model).__name__} computes none")

    def judge(steps: int, state: Tensor) -> Tensor:
        predict = getattr(model, "_prediction", None)
        if predict is None:
            raise ConfigError(f"{type(model).__name__} makes no prediction of a state within a roll-out")
        if isinstance(end := named.get("state"), Tensor):  # a pyramid computes cells beyond the image
            state = cropped(state, end.shape[2:])
        prediction = predict(steps, state)
        return loss_of(prediction, {**named, **prediction.parts()})[0]

    values = {name: term.value(rollouts, judge, seed) for name, term in terms.items()}
    return {name: value for name, value in values.items() if value is not None}
