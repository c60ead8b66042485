"""Heads that compute a prediction for the whole image from the hidden channels."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from delira_nca.checks import plain_numbers, require_whole
from delira_nca.errors import require_choice
from delira_nca.models.tasks.task import check_classes

__all__ = ["BasicNCAHead", "ClassificationNCAHead"]

_POOLS: dict[int, type[nn.AdaptiveAvgPool1d] | type[nn.AdaptiveAvgPool2d] | type[nn.AdaptiveAvgPool3d]] = {
    1: nn.AdaptiveAvgPool1d,
    2: nn.AdaptiveAvgPool2d,
    3: nn.AdaptiveAvgPool3d,
}


class BasicNCAHead(nn.Module, ABC):
    """Base class of heads, which map the hidden channels after the roll-out to the prediction.

    Examples
    --------
    >>> class Mean(BasicNCAHead):
    ...     def forward(self, hidden):
    ...         return hidden.flatten(2).mean(2)
    ...
    ...     def freeze(self, freeze_last=False):
    ...         self.requires_grad_(False)
    >>> from delira_nca.models import BasicNCAModel
    >>> model = BasicNCAModel(num_image_channels=1, num_hidden_channels=5, head=Mean())
    >>> model.predict(torch.zeros(2, 1, 8, 8), steps=1).pred.shape
    torch.Size([2, 5])
    """

    @abstractmethod
    def forward(self, hidden: Tensor) -> Tensor:
        """Map (B, num_hidden_channels, *spatial) to the prediction."""

    @abstractmethod
    def freeze(self, freeze_last: bool = False) -> None:
        """Freeze the layers; the last one only if ``freeze_last`` is set."""


@plain_numbers
class ClassificationNCAHead(BasicNCAHead):
    """Average pooling and a small perceptron that computes the logits of the classes.

    Parameters
    ----------
    num_hidden_channels : int
        Number of hidden channels of the automaton.
    num_classes : int
        Number of logits.
    device : torch.device, str or None
        Device of the parameters.
    avg_pool_size : int
        Size of the output of the average pooling along each axis.
    hidden_size : int
        Number of neurons of the hidden layer.
    dims : int
        Number of spatial axes of the automaton.

    Raises
    ------
    ConfigError, UnknownNameError
        If a number is out of range.

    Examples
    --------
    >>> ClassificationNCAHead(20, 10)(torch.zeros(2, 20, 32, 32)).shape
    torch.Size([2, 10])
    """

    def __init__(
        self,
        num_hidden_channels: int,
        num_classes: int,
        device: torch.device | str | None = None,
        avg_pool_size: int = 8,
        hidden_size: int = 32,
        *,
        dims: int = 2,
    ) -> None:
        super().__init__()
        check_classes(num_classes)
        sizes = {"num_hidden_channels": num_hidden_channels, "avg_pool_size": avg_pool_size, "hidden_size": hidden_size}
        for name, size in sizes.items():
            require_whole(name, size, 1)
        require_choice("number of spatial dimensions", dims, _POOLS)
        self.pool = _POOLS[dims](avg_pool_size)
        self.hidden = nn.Linear(num_hidden_channels * avg_pool_size**dims, hidden_size, device=device)
        self.last = nn.Linear(hidden_size, num_classes, device=device)

    def forward(self, hidden: Tensor) -> Tensor:
        """Map (B, num_hidden_channels, *spatial) to (B, num_classes) logits."""
        logits: Tensor = self.last(self.hidden(self.pool(hidden).flatten(1)).relu())
        return logits

    def freeze(self, freeze_last: bool = False) -> None:
        """Freeze the layers; the last one only if ``freeze_last`` is set."""
        self.hidden.requires_grad_(False)
        self.last.requires_grad_(not freeze_last)
