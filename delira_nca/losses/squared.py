"""Squared errors of predictions."""

from __future__ import annotations

from torch import Tensor

from delira_nca.losses.checks import same_shape

__all__ = ["mse", "per_sample_mse"]


def per_sample_mse(pred: Tensor, label: Tensor) -> Tensor:
    """Mean squared error of each sample.

    Parameters
    ----------
    pred, label : Tensor
        (B, ...) tensors of one shape.

    Returns
    -------
    (B,) tensor

    Raises
    ------
    ShapeError
        If the shapes differ.

    Examples
    --------
    >>> import torch
    >>> per_sample_mse(torch.tensor([[1.0, 0.0], [2.0, 2.0]]), torch.zeros(2, 2)).tolist()
    [0.5, 4.0]
    """
    label = same_shape(pred, label)
    return (pred - label).square().flatten(1).mean(1)


def mse(pred: Tensor, label: Tensor) -> Tensor:
    """Mean squared error over samples, channels and cells.

    Parameters
    ----------
    pred, label : Tensor
        Tensors of one shape.

    Returns
    -------
    () tensor

    Raises
    ------
    ShapeError
        If the shapes differ.

    Examples
    --------
    >>> import torch
    >>> mse(torch.ones(2, 4, 8, 8), torch.zeros(2, 4, 8, 8)).item()
    1.0
    """
    label = same_shape(pred, label)
    return (pred - label).square().mean()
