"""How far one texture is from another: sliced optimal transport between the answers of filters."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from delira_nca.checks import require_whole
from delira_nca.errors import ConfigError, ShapeError, require_choice
from delira_nca.losses.texture_features import FilterBank, VGGFeatures

__all__ = ["SlicedTransport"]

Features = Callable[[Tensor], Sequence[Tensor]]


class SlicedTransport:
    """Distance of two textures: features are projected to lines, sorted, and compared in their order.

    Parameters
    ----------
    features : ``"filters"``, a :class:`~delira_nca.losses.texture_features.FilterBank`, for grey, RGB or any channels;
        ``"vgg"``, layers of a trained VGG16, where torchvision and its weights are installed; or a function that maps
        (B, C, H, W) to a list of (B, places, channels).
    num_projections : lines, each a random unit vector.
    seed : of filters and lines; None draws new lines at every call from torch's global generator, which a trainer seeds
        by the iteration.
    num_filters, num_levels : of the filter bank.

    Raises
    ------
    UnknownNameError, ConfigError, MissingDependencyError, MissingFileError
        If the features are unknown or not there, or there is no projection.

    Notes
    -----
    Heitz et al. (2021), "A Sliced Wasserstein Loss for Neural Texture Synthesis"; Niklasson et al. (2021),
    "Self-Organising Textures": 32 projections, and textures of different size are matched by taking the nearest rank.
    Where a texture goes on is not compared, only how often what occurs in it.

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
        """Distance of (B, C, H, W) pictures to (B, C, h, w) textures, averaged over samples, kinds of features, lines.

        Raises
        ------
        ShapeError
            If numbers of samples or channels differ, or the pictures are too small.
        ConfigError
            If the texture is of whole numbers.
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
        """Distance of (B, n, D) to (B, m, D) features."""
        lines = torch.randn(ours.shape[2], self.num_projections, generator=source).to(ours)
        lines = nn.functional.normalize(lines, dim=0)
        a, b = (ours @ lines).sort(1).values, (theirs @ lines).sort(1).values
        if a.shape[1] != b.shape[1]:
            rank = torch.arange(a.shape[1], device=a.device)
            b = b[:, ((2 * rank + 1) * b.shape[1]) // (2 * a.shape[1])]
        return (a - b).square().mean()
