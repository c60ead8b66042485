"""Losses and scores of binary and multi-class segmentation: Dice, alone and with cross entropy."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from delira_nca.checks import require_number
from delira_nca.losses.checks import at_least_single, class_labels, mask_values, nan_where_unknown, same_shape

__all__ = ["dice_bce", "dice_ce", "dice_score", "multiclass_dice", "multiclass_dice_score", "soft_dice"]


def soft_dice(logits: Tensor, target: Tensor, *, smooth: float = 1.0) -> Tensor:
    """Soft Dice loss of binary segmentations, averaged over samples and channels.

    Parameters
    ----------
    logits : Tensor
        (B, C, *spatial) float tensor. Scores before the sigmoid.
    target : Tensor
        (B, C, *spatial) tensor from 0 to 1
    smooth : float
        Positive constant that is added to numerator and denominator; with 1.0 the loss of an empty pair is 0.

    Returns
    -------
    () tensor in [0, 1]

    Raises
    ------
    ShapeError
        If the shapes differ.
    ConfigError
        If the target has values outside of [0, 1], or ``smooth`` is not positive.

    Notes
    -----
    Milletari et al. (2016), V-Net, eq. 3, without the squares.

    Examples
    --------
    >>> import torch
    >>> soft_dice(torch.full((1, 1, 2, 2), 20.0), torch.ones(1, 1, 2, 2)).item() < 1e-6
    True
    """
    same_shape(logits, target)
    require_number("smooth", smooth, above=0)
    mask_values(target)
    pred = at_least_single(logits).sigmoid().flatten(2)
    label = target.to(pred.dtype).flatten(2)
    common, total = (pred * label).sum(2), pred.sum(2) + label.sum(2)
    return (1 - (2 * common + smooth) / (total + smooth)).mean()


def dice_bce(logits: Tensor, target: Tensor) -> Tensor:
    """Sum of the soft Dice loss, which depends on the whole structure, and the binary cross entropy of each cell.

    Parameters
    ----------
    logits, target : Tensor
        See :func:`soft_dice`.

    Returns
    -------
    () tensor

    Raises
    ------
    ShapeError
        If the shapes differ.
    ConfigError
        If the target has values outside of [0, 1].

    Examples
    --------
    >>> import torch
    >>> round(dice_bce(torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2)).item(), 4)  # 1 - 1 / 3 + log(2)
    1.3598
    """
    same_shape(logits, target)
    logits = at_least_single(logits)
    return soft_dice(logits, target) + F.binary_cross_entropy_with_logits(logits, target.to(logits.dtype))


def dice_score(logits: Tensor, target: Tensor) -> Tensor:
    """Dice score of binary segmentations, averaged over samples and channels. It is not differentiable.

    Parameters
    ----------
    logits : Tensor
        (B, C, *spatial) float tensor. Cells above 0 are foreground.
    target : Tensor
        (B, C, *spatial) tensor of {0, 1}

    Returns
    -------
    () tensor in [0, 1]; an empty prediction of an empty target scores 1, a NaN prediction NaN.

    Raises
    ------
    ShapeError
        If the shapes differ.

    Examples
    --------
    >>> import torch
    >>> dice_score(torch.tensor([[[1.0, 1.0, -1.0]]]), torch.tensor([[[0, 1, 1]]])).item()
    0.5
    """
    same_shape(logits, target)
    pred, label = (logits > 0).flatten(2), (target > 0.5).flatten(2)
    common, total = (pred & label).sum(2), pred.sum(2) + label.sum(2)
    score = ((2 * common).float() / total.clamp(min=1)).where(total > 0, 1.0)
    return nan_where_unknown(score, logits).mean()


def multiclass_dice(logits: Tensor, label: Tensor, *, smooth: float = 1.0, include_background: bool = True) -> Tensor:
    """Soft Dice loss of a multi-class segmentation, averaged over samples and classes.

    Parameters
    ----------
    logits : Tensor
        (B, K, *spatial) float tensor. Scores before the softmax.
    label : Tensor
        (B, *spatial) or (B, 1, *spatial) integers from 0 to K - 1.
    smooth : float
        Positive constant that is added to numerator and denominator.
    include_background : bool
        Whether class 0 is included.

    Returns
    -------
    () tensor in [0, 1]

    Raises
    ------
    ShapeError, ConfigError
        If the shapes do not fit, the label contains values outside of 0 to K - 1, or ``smooth`` is not positive.

    Notes
    -----
    Milletari et al. (2016), V-Net, eq. 3, without the squares, of each class against all others.

    Examples
    --------
    >>> import torch
    >>> label = torch.tensor([[0, 1, 2, 2]])
    >>> multiclass_dice(40.0 * torch.eye(3)[label].movedim(-1, 1), label).item() < 1e-6
    True
    """
    label = class_labels(logits, label)
    require_number("smooth", smooth, above=0)
    first = 0 if include_background else 1
    pred = at_least_single(logits).softmax(1).flatten(2)[:, first:]
    truth = _one_hot(label, logits.shape[1]).to(pred.dtype)[:, first:]
    common, total = (pred * truth).sum(2), pred.sum(2) + truth.sum(2)
    return (1 - (2 * common + smooth) / (total + smooth)).mean()


def dice_ce(logits: Tensor, label: Tensor, *, smooth: float = 1.0, include_background: bool = True) -> Tensor:
    """Sum of the soft Dice loss of a multi-class segmentation and the cross entropy.

    Parameters
    ----------
    logits, label, smooth, include_background
        See :func:`multiclass_dice`. The cross entropy includes all cells.

    Returns
    -------
    () tensor

    Raises
    ------
    ShapeError, ConfigError
        As in :func:`multiclass_dice`.

    Examples
    --------
    >>> import torch
    >>> logits, label = torch.zeros(1, 2, 2, 2), torch.zeros(1, 2, 2, dtype=torch.long)
    >>> round(dice_ce(logits, label).item(), 4)  # (1 - 5 / 7 + 1 - 1 / 3) / 2 + log(2)
    1.1693
    """
    dice = multiclass_dice(logits, label, smooth=smooth, include_background=include_background)
    return dice + F.cross_entropy(at_least_single(logits), class_labels(logits, label))


def multiclass_dice_score(logits: Tensor, label: Tensor, *, include_background: bool = False) -> Tensor:
    """Dice score of a multi-class segmentation, averaged over samples and classes. It is not differentiable.

    Parameters
    ----------
    logits : Tensor
        (B, K, *spatial) float tensor. The maximum is the predicted class.
    label : Tensor
        (B, *spatial) or (B, 1, *spatial) integers from 0 to K - 1.
    include_background : bool
        Whether class 0 is included.

    Returns
    -------
    () tensor in [0, 1]; a class that occurs in neither label nor prediction scores 1, a NaN prediction NaN.

    Raises
    ------
    ShapeError, ConfigError
        If the shapes do not fit, or the label contains values outside of 0 to K - 1.

    Examples
    --------
    >>> import torch
    >>> logits = torch.eye(3)[torch.tensor([[0, 1, 1, 2]])].movedim(-1, 1)
    >>> multiclass_dice_score(logits, torch.tensor([[0, 1, 2, 2]])).item()  # both classes have 2 / 3
    0.666666...
    """
    label = class_labels(logits, label)
    first = 0 if include_background else 1
    pred = _one_hot(logits.argmax(1), logits.shape[1])[:, first:]
    truth = _one_hot(label, logits.shape[1])[:, first:]
    common, total = (pred & truth).sum(2), pred.sum(2) + truth.sum(2)
    score = ((2 * common).float() / total.clamp(min=1)).where(total > 0, 1.0)
    return nan_where_unknown(score, logits).mean()


def _one_hot(label: Tensor, num_classes: int) -> Tensor:
    """Convert (B, *spatial) class numbers to (B, K, cells) bools."""
    return F.one_hot(label.flatten(1), num_classes).movedim(-1, 1).bool()
