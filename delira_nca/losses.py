"""What is minimised and measured. No loss broadcasts: shapes that differ are an error."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from delira_nca.errors import ConfigError, ShapeError

__all__ = ["dice_bce", "dice_score", "mse", "per_sample_mse", "soft_dice"]


def _same_shape(pred: Tensor, label: Tensor) -> None:
    if pred.shape != label.shape:
        raise ShapeError(f"prediction {tuple(pred.shape)} and label {tuple(label.shape)} differ in shape")


def per_sample_mse(pred: Tensor, label: Tensor) -> Tensor:
    """Mean squared error of each sample.

    Parameters
    ----------
    pred, label : (B, ...) tensors of one shape.

    Returns
    -------
    (B,) tensor

    Raises
    ------
    ShapeError
        If the two shapes differ.

    Examples
    --------
    >>> import torch
    >>> per_sample_mse(torch.tensor([[1.0, 0.0], [2.0, 2.0]]), torch.zeros(2, 2)).tolist()
    [0.5, 4.0]
    """
    _same_shape(pred, label)
    return (pred - label).square().flatten(1).mean(1)


def mse(pred: Tensor, label: Tensor) -> Tensor:
    """Mean squared error over samples, channels and cells.

    Parameters
    ----------
    pred, label : tensors of one shape.

    Returns
    -------
    () tensor

    Raises
    ------
    ShapeError
        If the two shapes differ.

    Examples
    --------
    >>> import torch
    >>> mse(torch.ones(2, 4, 8, 8), torch.zeros(2, 4, 8, 8)).item()
    1.0
    """
    _same_shape(pred, label)
    return (pred - label).square().mean()


def soft_dice(logits: Tensor, target: Tensor, *, smooth: float = 1.0) -> Tensor:
    """Soft Dice loss of binary segmentations, averaged over samples and channels.

    Parameters
    ----------
    logits : (B, C, *spatial) float tensor
        Scores before the sigmoid.
    target : (B, C, *spatial) tensor of {0, 1}
    smooth : added to numerator and denominator, above 0; 1.0 makes an empty pair score 0.

    Returns
    -------
    () tensor in [0, 1]

    Raises
    ------
    ShapeError
        If the two shapes differ.
    ConfigError
        If ``smooth`` is not above 0.

    Notes
    -----
    Milletari et al. (2016), V-Net, eq. 3, without the squares.

    Examples
    --------
    >>> import torch
    >>> soft_dice(torch.full((1, 1, 2, 2), 20.0), torch.ones(1, 1, 2, 2)).item() < 1e-6
    True
    """
    _same_shape(logits, target)
    if not smooth > 0:
        raise ConfigError(f"smooth is above 0, not {smooth!r}")
    pred, label = logits.float().sigmoid().flatten(2), target.float().flatten(2)
    common, total = (pred * label).sum(2), pred.sum(2) + label.sum(2)
    return (1 - (2 * common + smooth) / (total + smooth)).mean()


def dice_bce(logits: Tensor, target: Tensor) -> Tensor:
    """Soft Dice loss plus binary cross entropy: Dice looks at the whole structure, the entropy at each cell.

    Parameters
    ----------
    logits, target : as of :func:`soft_dice`.

    Returns
    -------
    () tensor

    Raises
    ------
    ShapeError
        If the two shapes differ.

    Examples
    --------
    >>> import torch
    >>> round(dice_bce(torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2)).item(), 4)  # 1 - 1 / 3 + log(2)
    1.3598
    """
    _same_shape(logits, target)
    return soft_dice(logits, target) + F.binary_cross_entropy_with_logits(logits.float(), target.float())


def dice_score(logits: Tensor, target: Tensor) -> Tensor:
    """Dice score of binary segmentations, averaged over samples and channels. For measuring: it has no gradient.

    Parameters
    ----------
    logits : (B, C, *spatial) float tensor
        Above 0 is inside.
    target : (B, C, *spatial) tensor of {0, 1}

    Returns
    -------
    () tensor in [0, 1]; an empty prediction of an empty target scores 1.

    Raises
    ------
    ShapeError
        If the two shapes differ.

    Examples
    --------
    >>> import torch
    >>> dice_score(torch.tensor([[[1.0, 1.0, -1.0]]]), torch.tensor([[[0, 1, 1]]])).item()
    0.5
    """
    _same_shape(logits, target)
    pred, label = (logits > 0).flatten(2), (target > 0.5).flatten(2)
    common, total = (pred & label).sum(2), pred.sum(2) + label.sum(2)
    return ((2 * common).float() / total.clamp(min=1)).where(total > 0, 1.0).mean()
