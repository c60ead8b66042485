"""Checks of the arguments of losses: shapes, and values of labels."""

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
    """Check that prediction and label have the same shape.

    Returns
    -------
    Tensor
        The label. A bool label is converted to the dtype of the prediction, as torch does not subtract bools.

    Raises
    ------
    ShapeError
        If the shapes differ. Nothing is broadcast.
    """
    if pred.shape != label.shape:
        raise ShapeError(f"prediction {tuple(pred.shape)} and label {tuple(label.shape)} differ in shape")
    return label.to(pred.dtype) if label.dtype == torch.bool else label


def with_channel(label: Tensor, pred: Tensor) -> Tensor:
    """Add the channel axis to a label with one channel if it is missing.

    Parameters
    ----------
    label : Tensor
        (B, *spatial) or (B, 1, *spatial) label.
    pred : Tensor
        (B, 1, *spatial) prediction.

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
    """Check that the values of a mask are in [0, 1]; small rounding errors are accepted.

    Raises
    ------
    ConfigError
        If a value is outside, such as 255 in an image.

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
    """Check class labels and convert them to the form that torch's losses take.

    Parameters
    ----------
    logits : Tensor
        (B, K, *spatial) logits of K classes; (B, K) for one class per sample.
    label : Tensor
        (B, *spatial) or (B, 1, *spatial) integers from 0 to K - 1.

    Returns
    -------
    (B, *spatial) int64 tensor

    Raises
    ------
    ShapeError
        If the label has neither shape.
    ConfigError
        If there are fewer than two classes, or the label contains other values.

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
    """Convert a tensor to single precision; double precision is kept."""
    return x if x.dtype == torch.float64 else x.float()


def nan_where_unknown(score: Tensor, logits: Tensor) -> Tensor:
    """Set the score of samples to NaN if their logits contain NaN.

    Parameters
    ----------
    score : Tensor
        (B, ...) float tensor.
    logits : Tensor
        (B, ...) logits.
    """
    unknown = logits.isnan().flatten(1).any(1)
    return score.masked_fill(unknown.view(-1, *(1,) * (score.dim() - 1)), torch.nan)


def living_cells(logits: Tensor, alive: Tensor | None) -> Tensor:
    """Return the (B, *spatial) bool mask of the cells that count; all cells without a (B, 1, *spatial) mask.

    Raises
    ------
    ShapeError, ConfigError
        If the mask has the wrong shape or is not bool.
    """
    samples, _, *spatial = logits.shape
    if alive is None:
        return torch.ones(samples, *spatial, dtype=torch.bool, device=logits.device)
    if tuple(alive.shape) != (samples, 1, *spatial):
        raise ShapeError(
            f"living cells of {tuple(logits.shape)} are {(samples, 1, *spatial)}, not {tuple(alive.shape)}"
        )
    if alive.dtype != torch.bool:
        raise ConfigError(f"a mask of living cells is bool, not {alive.dtype}")
    return alive.squeeze(1)
