"""NCALab's losses as modules; :mod:`delira_nca.losses` has functions for the same tasks."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from delira_nca.losses.checks import same_shape

__all__ = ["DiceBCELoss", "DiceLoss", "DiceScore", "FocalLoss", "SmoothnessLoss"]


class DiceScore(nn.Module):
    """Soft Dice score over all values of a batch.

    Examples
    --------
    >>> round(DiceScore()(torch.tensor([0.0, 0.0]), torch.tensor([0.0, 1.0])).item(), 4)  # 2 / 3
    0.6667
    """

    def forward(self, x: Tensor, y: Tensor, smooth: float = 1.0) -> Tensor:
        """Compare logits with a target of as many values from 0 to 1.

        Raises
        ------
        ShapeError
            If the numbers of values differ.
        """
        pred = x.sigmoid().flatten()
        target = same_shape(pred, y.flatten()).to(pred.dtype)
        return (2 * (pred * target).sum() + smooth) / (pred.sum() + target.sum() + smooth)


class DiceLoss(nn.Module):
    """One minus the soft Dice score."""

    def __init__(self) -> None:
        super().__init__()
        self.dicescore = DiceScore()

    def forward(self, x: Tensor, y: Tensor, smooth: float = 1.0) -> Tensor:
        """Compare logits with a target; see :class:`DiceScore`."""
        loss: Tensor = 1 - self.dicescore(x, y, smooth)
        return loss


class DiceBCELoss(DiceLoss):
    """Sum of the Dice loss and the binary cross entropy, which is computed from the logits for large values."""

    def forward(self, x: Tensor, y: Tensor, smooth: float = 1.0) -> Tensor:
        """Compare logits with a target; see :class:`DiceScore`."""
        dice = super().forward(x, y, smooth)
        return dice + F.binary_cross_entropy_with_logits(x.flatten(), y.flatten().to(x.dtype))


class FocalLoss(nn.Module):
    """Focal loss of the mean cross entropy of each sample.

    Parameters
    ----------
    weight : Tensor, optional
        Weight of each class. The loss is then divided by the sum of the weights instead of the number of samples.
    gamma : float
        Exponent of ``1 - p``.
    device : object
        Not used: the loss stays on the device of the logits.

    Examples
    --------
    >>> round(FocalLoss()(torch.zeros(3, 4), torch.tensor([0, 1, 3])).item(), 6)  # 0.75 ** 2 * log(4)
    0.779791
    """

    def __init__(self, weight: Tensor | None = None, gamma: float = 2, device: Any = "cpu") -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.gamma = gamma

    def forward(self, _input: Tensor, _target: Tensor) -> Tensor:
        """Compare (B, ..., K) logits with integer labels of shape (B, ...)."""
        samples, weight = len(_input), self.get_buffer("weight") if self.weight is not None else None
        label = _target.reshape(samples, -1)
        loss = F.cross_entropy(_input.reshape(-1, _input.shape[-1]), label.flatten(), weight, reduction="none")
        weights = torch.ones_like(loss) if weight is None else weight[label.flatten()]
        mean = loss.view_as(label).sum(1) / weights.view_as(label).sum(1)
        focal = (1 - (-mean).exp()) ** self.gamma * mean
        return focal.sum() / (samples if weight is None else weight.sum())


class SmoothnessLoss(nn.Module):
    """Mean absolute difference of the Sobel gradients of two images, summed over both axes."""

    def forward(self, depth_map: Tensor, rgb_image: Tensor) -> Tensor:
        """Compare two (B, C, H, W) tensors."""
        along_y = torch.tensor([[1.0, 2.0, 1.0], [0.0, 0.0, 0.0], [-1.0, -2.0, -1.0]]).to(depth_map)
        kernels = torch.stack([along_y.T, along_y])[:, None]

        def gradients(image: Tensor) -> Tensor:
            return F.conv2d(image, kernels.expand(-1, image.shape[1], 3, 3), padding=1)

        return 2 * F.l1_loss(gradients(depth_map), gradients(rgb_image))
