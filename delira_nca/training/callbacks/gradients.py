"""What is done to gradients between the backward pass and the optimizer's step."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from delira_nca.errors import ConfigError
from delira_nca.training.callbacks.abstract_callback import AbstractCallback, Trainer

__all__ = ["GradientCallback", "GradientClipping", "GradientNormalization"]


class GradientCallback(AbstractCallback):
    """Something that looks at, or changes, true (unscaled) gradients right before each optimizer's step.

    It hangs on torch's step hooks for the time of a training. Several run in the order of registration.
    """

    def __init__(self) -> None:
        self._handles: list[Any] = []

    @abstractmethod
    def before_step(self, trainer: Trainer, parameters: list[nn.Parameter]) -> None:
        """Handle the parameters of one optimizer that have gradients; not called where none has.

        A parameter whose ``grad`` is set to None is left alone by the step, and so are its momentum and weight decay.
        """

    def at_training_begin(self, trainer: Trainer, **event: Any) -> None:
        """Hang on the step of every optimizer."""

        def hook(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
            parameters = [p for p in _parameters(optimizer) if p.grad is not None]
            if parameters:
                self.before_step(trainer, parameters)

        self._handles = [optimizer.register_step_pre_hook(hook) for optimizer in trainer.optimizers.values()]

    def at_training_end(self, trainer: Trainer, **event: Any) -> None:
        """Let go of the optimizers."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_handles": []}


class GradientNormalization(GradientCallback):
    """Divide the gradient of each tensor by its norm, so that no single iteration dominates.

    Parameters
    ----------
    eps : added to the norm; a gradient that is zero stays zero.

    Notes
    -----
    Mordvintsev et al. (2020): ``g / (norm(g) + 1e-8)`` per variable.
    """

    def __init__(self, eps: float = 1e-8) -> None:
        super().__init__()
        if eps <= 0:
            raise ConfigError(f"eps is greater than 0, not {eps!r}")
        self.eps = eps

    def before_step(self, trainer: Trainer, parameters: list[nn.Parameter]) -> None:
        """Normalise each gradient."""
        with torch.no_grad():
            gradients = list(_gradients(parameters))
            norms = torch._foreach_norm(gradients)
            torch._foreach_add_(norms, self.eps)
            torch._foreach_div_(gradients, norms)


class GradientClipping(GradientCallback):
    """Scale all gradients of an optimizer down to a common norm.

    Parameters
    ----------
    max_norm : largest allowed norm over all tensors together.
    norm_type : of the norm, 2 by default.
    """

    def __init__(self, max_norm: float = 1.0, norm_type: float = 2.0) -> None:
        super().__init__()
        if max_norm <= 0:
            raise ConfigError(f"max_norm is greater than 0, not {max_norm!r}")
        self.max_norm, self.norm_type = max_norm, norm_type

    def before_step(self, trainer: Trainer, parameters: list[nn.Parameter]) -> None:
        """Clip the gradients."""
        nn.utils.clip_grad_norm_(parameters, self.max_norm, self.norm_type)


def _parameters(optimizer: Optimizer) -> Iterator[nn.Parameter]:
    for group in optimizer.param_groups:
        yield from group["params"]


def _gradients(parameters: Iterable[nn.Parameter]) -> Iterator[Tensor]:
    return (p.grad for p in parameters if p.grad is not None)
