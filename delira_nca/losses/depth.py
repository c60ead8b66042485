"""Scores of depth maps, or of other maps of positive values."""

from __future__ import annotations

from torch import Tensor

from delira_nca.checks import require_number
from delira_nca.errors import ConfigError
from delira_nca.losses.checks import same_shape

__all__ = ["abs_rel", "rmse", "within_ratio"]


def abs_rel(pred: Tensor, label: Tensor) -> Tensor:
    """Mean of the absolute error divided by the label.

    Parameters
    ----------
    pred, label : Tensor
        Tensors of one shape; the label is positive.

    Returns
    -------
    () tensor

    Raises
    ------
    ShapeError, ConfigError
        If the shapes differ, or the label is not positive everywhere.

    Examples
    --------
    >>> import torch
    >>> abs_rel(torch.tensor([1.0, 3.0]), torch.tensor([2.0, 2.0])).item()
    0.5
    """
    _above_zero(pred, label)
    return ((pred - label).abs() / label).mean()


def rmse(pred: Tensor, label: Tensor) -> Tensor:
    """Root of the mean squared error over all cells of all samples.

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
    >>> rmse(torch.tensor([3.0, 0.0]), torch.tensor([0.0, 3.0])).item()
    3.0
    """
    label = same_shape(pred, label)
    return (pred - label).square().mean().sqrt()


def within_ratio(pred: Tensor, label: Tensor, *, ratio: float = 1.25) -> Tensor:
    """Fraction of the cells in which prediction / label and its inverse are below a ratio. It is not differentiable.

    Parameters
    ----------
    pred, label : Tensor
        Tensors of one shape; the label is positive. Predictions that are not positive count as wrong.
    ratio : float
        Upper limit of the ratio; above 1.

    Returns
    -------
    () tensor in [0, 1]

    Raises
    ------
    ShapeError, ConfigError
        If the shapes differ, the label is not positive everywhere, or the ratio is not above 1.

    Notes
    -----
    Eigen et al. (2014), "Depth Map Prediction from a Single Image using a Multi-Scale Deep Network": the fraction below
    1.25, its square and its cube.

    Examples
    --------
    >>> import torch
    >>> within_ratio(torch.tensor([1.2, 0.8, 0.81, -1.0]), torch.ones(4)).item()
    0.5
    """
    require_number("ratio", ratio, above=1)
    _above_zero(pred, label)
    return ((pred < ratio * label) & (label < ratio * pred)).float().mean()


def _above_zero(pred: Tensor, label: Tensor) -> None:
    same_shape(pred, label)
    if label.numel() and not label.min() > 0:
        raise ConfigError(f"a label to divide by is above 0, and this one goes down to {label.min().item()}")
