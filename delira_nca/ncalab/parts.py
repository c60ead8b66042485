"""NCALab's perception, rule and head, with the names of its weights."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from delira_nca.checks import plain_numbers, require_whole
from delira_nca.errors import ConfigError, require_choice
from delira_nca.models.perception import PADDINGS, LearnedFilters, Perception

__all__ = [
    "AbstractNCAHead",
    "AbstractNCARule",
    "BasicNCAHead",
    "BasicNCAPerception",
    "BasicNCARule",
    "ClassificationNCAHead",
    "MLPNCARule",
]


class BasicNCAPerception(Perception):
    """Identity and learned filters, or identity and fixed filters if no filter is learned.

    Parameters
    ----------
    device : torch.device, str or None
        Device of the filters.
    num_channels : int
        Number of channels of the state.
    num_learned_filters : int
        Number of learned depth-wise filters; 0 uses two Sobel filters.
    filter_padding : {"zero", "zeros", "reflect", "replicate", "circular"}
        Values beyond the border for learned filters. Fixed filters are always padded with zeros, as in NCALab.
    use_temporal_encoding : bool
        Whether the model appends a channel with the time. Here it is only stored.
    use_laplace : bool
        Whether to add a Laplace filter to the Sobel filters; without effect on learned filters.
    training_timesteps : int or (int, int)
        Number of steps by which the time is scaled. Here it is only stored.
    kernel_size : int
        Size of the learned filters; an odd number of cells.

    Examples
    --------
    >>> perception = BasicNCAPerception("cpu", 16, 0, "circular", False, True)
    >>> perception(torch.zeros(1, 16, 8, 8)).shape, perception.padding
    (torch.Size([1, 64, 8, 8]), 'zeros')
    """

    def __init__(
        self,
        device: torch.device | str | None,
        num_channels: int,
        num_learned_filters: int,
        filter_padding: str,
        use_temporal_encoding: bool,
        use_laplace: bool,
        training_timesteps: int | tuple[int, int] = 100,
        kernel_size: int = 3,
    ) -> None:
        require_choice("filter_padding", filter_padding, ("zero", *PADDINGS))
        learned = require_whole("num_learned_filters", num_learned_filters, 0)
        if learned:
            padding = "zeros" if filter_padding == "zero" else filter_padding
            super().__init__("identity", LearnedFilters(learned, kernel_size), padding=padding)
        else:
            super().__init__("identity", "sobel", *(("laplacian",) if use_laplace else ()))
        self.num_learned_filters, self.filter_padding, self.kernel_size = learned, filter_padding, kernel_size
        self.use_temporal_encoding, self.use_laplace = use_temporal_encoding, use_laplace
        self.training_timesteps = training_timesteps
        self._build(num_channels)
        self.to(device)

    def _build(self, num_channels: int) -> None:
        super().build(num_channels, 2)
        (*learned,) = self._modules.pop("learned")  # type: ignore[misc]
        self.filters = learned[0] if learned else nn.ModuleList()  # NCALab's name in state dicts

    def build(self, num_channels: int, dims: int = 2) -> BasicNCAPerception:
        """Check the numbers of channels and dimensions, and return the module itself; its filters exist already.

        Raises
        ------
        ConfigError
            If they differ from those of the constructor.
        """
        if (num_channels, dims) != (self.num_channels, 2):
            raise ConfigError(
                f"a perception of {self.num_channels} channels in 2 dimensions cannot be used with {num_channels} in "
                f"{dims}: NCALab's models are two-dimensional, delira_nca.models.BasicNCAModel is not"
            )
        return self

    @property
    def learned(self) -> list[nn.ModuleList]:  # type: ignore[override]
        """Groups of learned filters, as in :class:`~delira_nca.models.Perception`."""
        return [self.filters] if len(self.filters) else []

    @property
    def num_filters(self) -> int:
        """Number of filters beside the identity."""
        return self.out_channels // self.num_channels - 1

    def perceive(self, x: Tensor, step: int) -> Tensor:
        """Map a (B, C, H, W) state at a step to the perception, with the channel of the time if it is enabled."""
        seen: Tensor = self(x)
        if not self.use_temporal_encoding:
            return seen
        time = self.training_timesteps if isinstance(self.training_timesteps, int) else self.training_timesteps[1]
        return torch.cat([seen, seen.new_full((len(seen), 1, *seen.shape[2:]), step / max(time, 1))], 1)

    def freeze(self) -> None:
        """Freeze the learned filters."""
        self.requires_grad_(False)


class AbstractNCARule(nn.Module, ABC):
    """Base class of rules, which map the perception of a cell to its update.

    A model creates its rule by ``rule_type(device, input_size, hidden_size, output_size, **rule_args)``. The
    ``forward`` method maps (B, input_size, H, W) to (B, output_size, H, W), the update of all channels; the model
    uses the channels that may change.

    Parameters
    ----------
    device : torch.device, str or None
        Device of the weights.
    input_size, hidden_size, output_size : int
        Numbers of input channels, hidden neurons and output channels.
    """

    def __init__(self, device: torch.device | str | None, input_size: int, hidden_size: int, output_size: int) -> None:
        super().__init__()
        self.device, self.input_size = device, require_whole("input_size", input_size, 1)
        self.hidden_size = require_whole("hidden_size", hidden_size, 1)
        self.output_size = require_whole("output_size", output_size, 1)

    @abstractmethod
    def freeze(self, freeze_last: bool = False) -> None:
        """Freeze the layers; the last one only if ``freeze_last`` is set."""


class MLPNCARule(AbstractNCARule):
    """Perceptron with one hidden layer, whose last layer has no bias and starts at zero.

    Parameters
    ----------
    device, input_size, hidden_size, output_size
        See :class:`AbstractNCARule`.
    nonlinearity : type or str
        Class of the activation, or its name in ``torch.nn``. The fast back ends support ReLU, LeakyReLU, GELU, SiLU and
        Tanh.

    Raises
    ------
    ConfigError
        If the activation is unknown, or a size is below 1.

    Examples
    --------
    >>> list(MLPNCARule("cpu", 48, 128, 16, nonlinearity=nn.GELU).state_dict())
    ['network.0.weight', 'network.0.bias', 'network.2.weight']
    """

    def __init__(
        self,
        device: torch.device | str | None,
        input_size: int,
        hidden_size: int,
        output_size: int,
        nonlinearity: type[nn.Module] | str = nn.ReLU,
    ) -> None:
        super().__init__(device, input_size, hidden_size, output_size)
        made: Any = getattr(nn, nonlinearity, None) if isinstance(nonlinearity, str) else nonlinearity
        if not (isinstance(made, type) and issubclass(made, nn.Module)):
            raise ConfigError(f"nonlinearity is a class of torch.nn such as nn.ReLU, or its name, not {nonlinearity!r}")
        self.nonlinearity = made
        first, last = nn.Conv2d(input_size, hidden_size, 1), nn.Conv2d(hidden_size, output_size, 1, bias=False)
        self.network = nn.Sequential(first, made(), last)
        nn.init.zeros_(last.weight)
        self.to(device)

    def forward(self, x: Tensor) -> Tensor:
        """Map a (B, input_size, H, W) perception to a (B, output_size, H, W) update."""
        update: Tensor = self.network(x)
        return update

    def freeze(self, freeze_last: bool = False) -> None:
        """Freeze the layers; the last one only if ``freeze_last`` is set."""
        for layer in list(self.network)[: None if freeze_last else -1]:
            layer.requires_grad_(False)


class AbstractNCAHead(nn.Module, ABC):
    """Base class of heads, which map the hidden channels after the roll-out to the prediction.

    Attributes
    ----------
    optimizer : None
        Not used: the trainer's optimizer has the weights of the head, too.
    """

    def __init__(self) -> None:
        super().__init__()
        self.optimizer = None

    @abstractmethod
    def freeze(self, freeze_last: bool = True) -> None:
        """Freeze the layers; the last one only if ``freeze_last`` is set."""


BasicNCARule, BasicNCAHead = MLPNCARule, AbstractNCAHead
"""Names on NCALab's API page."""


@plain_numbers
class ClassificationNCAHead(AbstractNCAHead):
    """Average pooling and a perceptron that computes the logits of the classes.

    Parameters
    ----------
    num_hidden_channels, num_classes : int
        Numbers of hidden channels of the automaton and of logits.
    device : torch.device, str or None
        Device of the weights.
    avg_pool_size : int
        Size of the output of the average pooling along each axis.
    hidden_size : int
        Number of neurons of the hidden layer.
    """

    def __init__(
        self,
        num_hidden_channels: int,
        num_classes: int,
        device: torch.device | str | None,
        avg_pool_size: int,
        hidden_size: int = 32,
    ) -> None:
        super().__init__()
        self.num_hidden_channels, self.num_classes = num_hidden_channels, num_classes
        self.avg_pool_size = require_whole("avg_pool_size", avg_pool_size, 1)
        self.classifier = nn.Sequential(
            nn.AdaptiveAvgPool2d(avg_pool_size),
            nn.Flatten(),
            nn.Linear(num_hidden_channels * avg_pool_size**2, hidden_size),
            nn.ReLU(),
            nn.Linear(hidden_size, num_classes),
        )
        self.to(device)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, num_hidden_channels, H, W) to (B, num_classes) logits."""
        logits: Tensor = self.classifier(x)
        return logits

    def freeze(self, freeze_last: bool = False) -> None:
        """Freeze the layers; the last one only if ``freeze_last`` is set."""
        self.classifier.requires_grad_(False)
        self.classifier[-1].requires_grad_(not freeze_last)
