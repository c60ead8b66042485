"""What a loss asks of its arguments before it computes: shapes that fit, and labels that are classes."""

from __future__ import annotations

import torch
from torch import Tensor

from delira_nca.errors import ConfigError, ShapeError

__all__ = [
    "at_least_single",
    "class_labels",
    "living_cells",
    "mask_values",
    "nan_where_unknown",
    "same_shape",
    "with_channel",
]

_ROUNDING = 1e-3


def same_shape(pred: Tensor, label: Tensor) -> Tensor:
    """Refuse shapes that differ.

    Returns
    -------
    Tensor
        The label; booleans as 0 and 1 in the type of the prediction, since torch does not subtract booleans.

    Raises
    ------
    ShapeError
        If they do. Nothing is broadcast.
    """
    if pred.shape != label.shape:
        raise ShapeError(f"prediction {tuple(pred.shape)} and label {tuple(label.shape)} differ in shape")
    return label.to(pred.dtype) if label.dtype == torch.bool else label


def with_channel(label: Tensor, pred: Tensor) -> Tensor:
    """Label of one channel in the shape of its prediction.

    Parameters
    ----------
    label : Tensor
        (B, *spatial) or (B, 1, *spatial).
    pred : Tensor
        (B, 1, *spatial).

    Returns
    -------
    (B, 1, *spatial) tensor

    Raises
    ------
    ShapeError
        If the label has neither shape.

    Examples
    --------
    >>> import torch
    >>> with_channel(torch.zeros(2, 5, 5), torch.zeros(2, 1, 5, 5)).shape
    torch.Size([2, 1, 5, 5])
    """
    if label.dim() == pred.dim() - 1:
        label = label.unsqueeze(1)
    same_shape(pred, label)
    return label


def mask_values(label: Tensor) -> None:
    """Refuse a mask with values that are not from 0 to 1; what rounding has put just beyond is let pass.

    Raises
    ------
    ConfigError
        If there are any, such as the 255 of a picture.

    Examples
    --------
    >>> import torch
    >>> mask_values(torch.tensor([0, 255]))
    Traceback (most recent call last):
    delira_nca.errors.ConfigError: labels run from 0 to 255, but a mask has 0 outside and 1 inside
    """
    if label.dtype != torch.bool and label.numel():
        numbers = label if label.is_floating_point() else label.long()
        low, high = (value.item() for value in torch.aminmax(numbers.detach()))
        if not (low >= -_ROUNDING and high <= 1 + _ROUNDING):
            raise ConfigError(f"labels run from {low} to {high}, but a mask has 0 outside and 1 inside")


def class_labels(logits: Tensor, label: Tensor) -> Tensor:
    """Labels of classes as torch's losses want them.

    Parameters
    ----------
    logits : Tensor
        (B, K, *spatial), of K classes; (B, K) where a sample has one class.
    label : Tensor
        (B, *spatial) or (B, 1, *spatial) whole numbers from 0 to K - 1.

    Returns
    -------
    (B, *spatial) int64 tensor

    Raises
    ------
    ShapeError
        If the label has neither shape.
    ConfigError
        If there are fewer than two classes, or the label holds other numbers.

    Examples
    --------
    >>> import torch
    >>> class_labels(torch.zeros(2, 3), torch.tensor([[2], [3]]))
    Traceback (most recent call last):
    delira_nca.errors.ConfigError: labels run from 2 to 3, but there are 3 classes: 0 to 2
    """
    if logits.dim() < 2 or logits.shape[1] < 2:
        raise ConfigError(f"logits of classes are (B, K, *spatial) with K of at least 2, not {tuple(logits.shape)}")
    samples, classes, *spatial = logits.shape
    if tuple(label.shape) not in ((samples, *spatial), (samples, 1, *spatial)):
        raise ShapeError(
            f"logits {tuple(logits.shape)} need a label of {(samples, *spatial)} or {(samples, 1, *spatial)}, "
            f"not {tuple(label.shape)}"
        )
    if label.is_floating_point() or label.is_complex():
        raise ConfigError(f"labels of classes are whole numbers, not {label.dtype}")
    label = label.reshape(samples, *spatial).long()
    if label.numel():
        low, high = (int(value) for value in torch.aminmax(label))
        if low < 0 or high >= classes:
            raise ConfigError(f"labels run from {low} to {high}, but there are {classes} classes: 0 to {classes - 1}")
    return label


def at_least_single(x: Tensor) -> Tensor:
    """The tensor in single precision, or in double where it is."""
    return x if x.dtype == torch.float64 else x.float()


def nan_where_unknown(score: Tensor, logits: Tensor) -> Tensor:
    """Score of samples, NaN where their logits hold one: a prediction that is no number is never right.

    Parameters
    ----------
    score : Tensor
        (B, ...) float tensor.
    logits : Tensor
        (B, ...).
    """
    unknown = logits.isnan().flatten(1).any(1)
    return score.masked_fill(unknown.view(-1, *(1,) * (score.dim() - 1)), torch.nan)


def living_cells(logits: Tensor, alive: Tensor | None) -> Tensor:
    """(B, *spatial) bool: which cells of (B, K, *spatial) logits count; all of them without a (B, 1, *spatial) mask.

    Raises
    ------
    ShapeError, ConfigError
        If the mask has another shape or is not of bools.
    """
    samples, _, *spatial = logits.shape
    if alive is None:
        return torch.ones(samples, *spatial, dtype=torch.bool, device=logits.device)
    if tuple(alive.shape) != (samples, 1, *spatial):
        raise ShapeError(
            f"living cells of {tuple(logits.shape)} are {(samples, 1, *spatial)}, not {tuple(alive.shape)}"
        )
    if alive.dtype != torch.bool:
        raise ConfigError(f"which cells live is told by bools, not {alive.dtype}")
    return alive.squeeze(1)
