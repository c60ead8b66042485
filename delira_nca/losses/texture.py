"""Losses of textures."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from delira_nca.checks import require_number, require_whole
from delira_nca.errors import ConfigError, MissingDependencyError, MissingFileError, ShapeError, require_choice
from delira_nca.losses.state import overflow

__all__ = ["FilterBank", "SlicedTransport", "TextureLoss", "VGGFeatures"]


class FilterBank(nn.Module):
    """Random orthogonal 5 x 5 and 7 x 7 filters with a ReLU, and the raw pixels, at the levels of an image pyramid.

    Parameters
    ----------
    num_filters : int
        Number of filters K, of which at most half are 5 x 5. Filters of one size are orthonormal.
    num_levels : int
        Number of levels of the pyramid. Each has half the size of the previous one.
    seed : int
        Seed of the filters. For each number of channels, the same seed gives the same filters.

    Raises
    ------
    ConfigError
        If a number is below 1.

    Examples
    --------
    >>> import torch
    >>> bank = FilterBank()
    >>> [tuple(features.shape) for features in bank(torch.zeros(2, 3, 40, 40))][:2]  # pixels and filters of a level
    [(2, 1600, 3), (2, 1156, 64)]
    """

    def __init__(self, num_filters: int = 64, num_levels: int = 3, seed: int = 0) -> None:
        super().__init__()
        for name, number in (("num_filters", num_filters), ("num_levels", num_levels)):
            require_whole(name, number, 1)
        self.num_filters, self.num_levels, self.seed = num_filters, num_levels, seed
        self._made: dict[int, list[Tensor]] = {}

    def filters(self, num_channels: int) -> list[Tensor]:
        """Return the (k, num_channels, s, s) filters of each size s, on the CPU.

        Raises
        ------
        ConfigError
            If the number of filters exceeds the possible number of orthogonal filters.
        """
        if num_channels not in self._made:
            small = min(self.num_filters // 2, 25 * num_channels)
            counts = {5: small, 7: self.num_filters - small}
            if counts[7] > 49 * num_channels:
                most = 74 * num_channels
                raise ConfigError(f"{num_channels} channels have {most} orthogonal filters, not {self.num_filters}")
            source = torch.Generator().manual_seed(self.seed)
            self._made[num_channels] = [
                _orthogonal(count, num_channels, size, source) for size, count in counts.items() if count
            ]
        return self._made[num_channels]

    def forward(self, x: Tensor) -> list[Tensor]:
        """Map a (B, C, H, W) image to a list of (B, positions, channels), two per level: pixels and filter outputs.

        Raises
        ------
        ShapeError
            If the filters do not fit into the smallest level.
        """
        least = 7 * 2 ** (self.num_levels - 1)
        if x.dim() != 4 or min(x.shape[2:]) < least:
            raise ShapeError(
                f"a texture is (B, C, H, W) with at least {least} cells along each side for {self.num_levels} levels, "
                f"not {tuple(x.shape)}"
            )
        filters = [weight.to(x) for weight in self.filters(x.shape[1])]
        found: list[Tensor] = []
        for level in range(self.num_levels):
            if level:
                x = F.avg_pool2d(x, 2)
            answers = [F.conv2d(x, weight) for weight in filters]
            height, width = answers[-1].shape[2:]
            found.append(_places(x))
            found.append(_places(torch.cat([_middle(answer, height, width) for answer in answers], 1).relu()))
        return found


class VGGFeatures(nn.Module):
    """Layers of VGG16, trained on ImageNet, and the raw pixels. The weights are not downloaded.

    Parameters
    ----------
    layers : tuple of int
        Indices of the layers. The default are the ReLU layers used by Niklasson et al. (2021).

    Raises
    ------
    MissingDependencyError
        If torchvision is not installed.
    MissingFileError
        If the weights are not in torch's cache.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, layers: tuple[int, ...] = (1, 6, 11, 18, 25)) -> None:
        super().__init__()
        self.layers = layers
        self.network = _cached_vgg16()[: max(layers) + 1].eval().requires_grad_(False)
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).reshape(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).reshape(3, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Map a (B, 3, H, W) image with values in [0, 1] to a list of (B, positions, channels).

        Raises
        ------
        ShapeError
            If the image does not have three channels.
        """
        if x.dim() != 4 or x.shape[1] != 3:
            raise ShapeError(f"VGG sees (B, 3, H, W) pictures, not {tuple(x.shape)}; features='filters' sees any")
        found = [_places(x)]
        self.to(x.device)
        x = (x - self.mean) / self.std
        for number, layer in enumerate(self.network):
            x = layer(x)
            if number in self.layers:
                found.append(_places(x))
        return found


def _cached_vgg16() -> Any:
    try:
        zoo = importlib.import_module("torchvision.models")
    except ImportError as error:
        raise MissingDependencyError(
            "features='vgg' needs torchvision: pip install torchvision; features='filters' needs nothing"
        ) from error
    file = Path(torch.hub.get_dir()) / "checkpoints" / Path(zoo.VGG16_Weights.IMAGENET1K_V1.url).name
    if not file.is_file():
        raise MissingFileError(
            f"features='vgg' needs the weights of VGG16 at {file}; they are not downloaded. "
            "features='filters' needs none"
        )
    network = zoo.vgg16(weights=None)
    network.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
    return network.features


def _orthogonal(count: int, num_channels: int, size: int, source: torch.Generator) -> Tensor:
    """Draw (count, num_channels, size, size) orthonormal filters."""
    drawn = torch.randn(num_channels * size * size, count, generator=source, dtype=torch.float64)
    rows: Tensor
    rows, triangle = torch.linalg.qr(drawn)
    rows = rows * triangle.diagonal().sign()  # fixes the sign, which depends on the LAPACK implementation
    return rows.T.float().reshape(count, num_channels, size, size)


def _middle(x: Tensor, height: int, width: int) -> Tensor:
    top, left = (x.shape[2] - height) // 2, (x.shape[3] - width) // 2
    return x[:, :, top : top + height, left : left + width]


def _places(x: Tensor) -> Tensor:
    """Reshape (B, C, H, W) to (B, positions, C)."""
    return x.flatten(2).transpose(1, 2)


Features = Callable[[Tensor], Sequence[Tensor]]


class SlicedTransport:
    """Sliced Wasserstein distance of two textures: features are projected to lines, sorted and compared.

    Parameters
    ----------
    features : str or Features
        ``"filters"``, a :class:`~delira_nca.losses.texture.FilterBank` for any number of channels; ``"vgg"``, layers of
        a trained VGG16, which needs torchvision and the weights; or a function that maps (B, C, H, W) to a list of (B,
        positions, channels).
    num_projections : int
        Number of lines, which are random unit vectors.
    seed : int or None
        Seed of filters and lines. None draws new lines in every call from torch's global generator, which the trainer
        seeds in every iteration.
    num_filters, num_levels : int
        Arguments of the filter bank.

    Raises
    ------
    UnknownNameError, ConfigError, MissingDependencyError, MissingFileError
        If the features are unknown or not available, or ``num_projections`` is below 1.

    Notes
    -----
    Heitz et al. (2021), "A Sliced Wasserstein Loss for Neural Texture Synthesis"; Niklasson et al. (2021),
    "Self-Organising Textures": 32 projections, and features of textures of different sizes are matched by the nearest
    rank. The loss compares the distribution of features, not their positions.

    Examples
    --------
    >>> import torch
    >>> loss = SlicedTransport()
    >>> stripes = (torch.arange(32) % 4 < 2).float().expand(1, 1, 32, 32)
    >>> loss(stripes, stripes).item(), loss(stripes.transpose(2, 3), stripes).item() > 0.001
    (0.0, True)
    """

    def __init__(
        self,
        features: str | Features = "filters",
        *,
        num_projections: int = 32,
        seed: int | None = 0,
        num_filters: int = 64,
        num_levels: int = 3,
    ) -> None:
        require_whole("num_projections", num_projections, 1)
        self.num_projections, self.seed = num_projections, seed
        if isinstance(features, str):
            require_choice("features", features, ("filters", "vgg"))
            self.features: Features = (
                VGGFeatures() if features == "vgg" else FilterBank(num_filters, num_levels, seed or 0)
            )
        elif not callable(features):
            raise ConfigError(f"features are 'filters', 'vgg' or a module, not a {type(features).__name__}")
        else:
            self.features = features

    def __call__(self, pred: Tensor, target: Tensor) -> Tensor:
        """Return the mean distance of (B, C, H, W) images to (B, C, h, w) textures over samples, features and lines.

        Raises
        ------
        ShapeError
            If the numbers of samples or channels differ, or the images are too small.
        ConfigError
            If the dtype of the texture is an integer type.
        """
        if pred.dim() != 4 or target.dim() != 4 or pred.shape[:2] != target.shape[:2]:
            raise ShapeError(
                f"textures are (B, C, H, W) with B and C of the prediction, not {tuple(pred.shape)} and "
                f"{tuple(target.shape)}"
            )
        if not target.is_floating_point():
            raise ConfigError(f"a texture is of floats from 0 to 1, as the prediction, not of {target.dtype}")
        ours = self.features(pred)
        with torch.no_grad():
            theirs = self.features(target.to(pred.dtype))
        source = None if self.seed is None else torch.Generator().manual_seed(self.seed)
        distances = [self._distance(a, b, source) for a, b in zip(ours, theirs, strict=True)]
        return torch.stack(distances).mean()

    def _distance(self, ours: Tensor, theirs: Tensor, source: torch.Generator | None) -> Tensor:
        """Return the distance of (B, n, D) to (B, m, D) features."""
        lines = torch.randn(ours.shape[2], self.num_projections, generator=source).to(ours)
        lines = nn.functional.normalize(lines, dim=0)
        a, b = (ours @ lines).sort(1).values, (theirs @ lines).sort(1).values
        if a.shape[1] != b.shape[1]:
            rank = torch.arange(a.shape[1], device=a.device)
            b = b[:, ((2 * rank + 1) * b.shape[1]) // (2 * a.shape[1])]
        return (a - b).square().mean()


class TextureLoss(SlicedTransport):
    """Sliced Wasserstein distance of the colours of a state to a texture, and penalty of large values.

    The colours are the first three channels of the state plus 0.5, as in the preset ``"texture"``.

    Parameters
    ----------
    features, num_projections, num_filters, num_levels
        See :class:`SlicedTransport`.
    overflow : float
        Weight of the mean distance of the values of the state from the interval from -1 to 1; see
        :func:`~delira_nca.losses.overflow`. Without it, hidden channels could grow without bound.
    seed : int or None
        See :class:`SlicedTransport`. By default, each iteration has new lines.

    Raises
    ------
    UnknownNameError, ConfigError, MissingDependencyError, MissingFileError
        Same as :class:`SlicedTransport`, and if ``overflow`` is negative.

    Notes
    -----
    Niklasson et al. (2021), "Self-Organising Textures".

    Examples
    --------
    >>> import torch
    >>> stripes = (torch.arange(32) % 4 < 2).float().expand(1, 3, 32, 32)
    >>> hidden = torch.rand(1, 9, 32, 32)
    >>> TextureLoss()(torch.cat([stripes - 0.5, hidden], 1), stripes).item()
    0.0
    """

    def __init__(
        self,
        features: str | Features = "filters",
        *,
        num_projections: int = 32,
        seed: int | None = None,
        num_filters: int = 64,
        num_levels: int = 3,
        overflow: float = 1.0,
    ) -> None:
        self.overflow = float(require_number("overflow", overflow, 0))
        super().__init__(
            features, num_projections=num_projections, seed=seed, num_filters=num_filters, num_levels=num_levels
        )

    def __call__(self, state: Tensor, texture: Tensor) -> Tensor:
        """Return the loss of (B, C, H, W) states for (B, 3, h, w) textures with values in [0, 1].

        Raises
        ------
        ShapeError, ConfigError
            Same as :class:`SlicedTransport`.
        """
        return super().__call__(state[:, :3] + 0.5, texture) + self.overflow * overflow(state, reduction="mean")
