"""What is done to the gradient of the state on its way back through a roll-out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from delira_nca.checks import require_number
from delira_nca.training.callbacks.loss_terms import LossTermCallback

if TYPE_CHECKING:
    from torch import Tensor

    from delira_nca.models.loss_terms import LossOf
    from delira_nca.rollout.observer import Watched

__all__ = ["StateGradientNormalization"]


class StateGradientNormalization(LossTermCallback):
    """Divide the gradient of each sample's state by its norm after every step of the way back.

    So a roll-out of many steps neither explodes nor fades backwards, and each step counts as much as any other: what
    automata with few weights, all of whose cells fire in every step, need. The size of the loss does not matter then,
    only its direction. A gradient that is zero stays zero.

    Parameters
    ----------
    eps : least norm that is divided by.

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
