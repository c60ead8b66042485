"""Errors of maps such as depth: gradients, shift-invariant squared error, and structural similarity."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from delira_nca.checks import require_number, require_whole
from delira_nca.errors import ConfigError, ShapeError
from delira_nca.losses.checks import at_least_single, same_shape

__all__ = ["gradient_l1", "shift_free_mse", "ssim"]


def gradient_l1(pred: Tensor, label: Tensor) -> Tensor:
    """Mean absolute difference of the gradients along all axes, which compares the edges.

    Parameters
    ----------
    pred, label : Tensor
        (B, C, *spatial) tensors of one shape with at least 2 cells along each axis. The gradient is the difference of
        neighbouring cells.

    Returns
    -------
    () tensor, the mean over the axes

    Raises
    ------
    ShapeError
        If the shapes differ, or an axis is too short.

    Examples
    --------
    >>> import torch
    >>> ramp = torch.arange(4.0).expand(1, 1, 3, 4)
    >>> gradient_l1(ramp, torch.zeros(1, 1, 3, 4)).item()  # 1 along the last axis, 0 along the first
    0.5
    """
    label = same_shape(pred, label)
    if pred.dim() < 3 or min(pred.shape[2:]) < 2:
        raise ShapeError(f"a gradient needs (B, C, *spatial) with axes of at least 2, not {tuple(pred.shape)}")
    error = pred - label
    return torch.stack([error.diff(dim=axis).abs().mean() for axis in range(2, error.dim())]).mean()


def shift_free_mse(pred: Tensor, label: Tensor) -> Tensor:
    """Mean squared error after subtracting the median of each sample, which ignores a constant offset.

    Parameters
    ----------
    pred, label : Tensor
        (B, ...) tensors of one shape. The median of an even number of values is the lower of the middle two.

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
    >>> label = torch.arange(9.0).reshape(1, 1, 3, 3)
    >>> shift_free_mse(label + 5, label).item()
    0.0
    """
    label = same_shape(pred, label)
    pred, label = pred.flatten(1), label.flatten(1)
    error = (pred - pred.median(1, keepdim=True).values) - (label - label.median(1, keepdim=True).values)
    return error.square().mean()


def ssim(pred: Tensor, label: Tensor, *, data_range: float = 1.0, window: int = 11, sigma: float = 1.5) -> Tensor:
    """Structural similarity, averaged over all positions where the window fits. It is differentiable.

    Parameters
    ----------
    pred, label : Tensor
        (B, C, *spatial) tensors of one shape.
    data_range : float
        Distance between the smallest and the largest possible value.
    window : int
        Size of the Gaussian window along each axis, an odd number of cells.
    sigma : float
        Standard deviation of the Gaussian, in cells.

    Returns
    -------
    () tensor in [-1, 1]; 1 for equal tensors.

    Raises
    ------
    ShapeError
        If the shapes differ, or the window does not fit.
    ConfigError
        If a number is out of range.

    Notes
    -----
    Wang et al. (2004), "Image Quality Assessment", eq. 13, with their constants 0.01 and 0.03.

    Examples
    --------
    >>> import torch
    >>> picture = torch.rand(1, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    >>> round(ssim(picture, picture).item(), 4)
    1.0
    """
    label = same_shape(pred, label)
    for name, number in (("sigma", sigma), ("data_range", data_range)):
        require_number(name, number, above=0)
    if require_whole("window", window, 1) % 2 == 0:
        raise ConfigError(f"window of ssim must be odd, not {window}")
    if pred.dim() < 3 or min(pred.shape[2:]) < window:
        raise ShapeError(f"a window of {window} cells does not fit into {tuple(pred.shape)}")
    x = at_least_single(pred)
    y = label.to(x.dtype)
    place = torch.arange(window, dtype=x.dtype, device=x.device) - window // 2
    gauss = (-(place**2) / (2 * sigma**2)).exp()
    gauss = gauss / gauss.sum()
    mean_x, mean_y = _smooth(x, gauss), _smooth(y, gauss)
    var_x = _smooth(x * x, gauss) - mean_x**2
    var_y = _smooth(y * y, gauss) - mean_y**2
    covariance = _smooth(x * y, gauss) - mean_x * mean_y
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    return (luminance * (2 * covariance + c2) / (var_x + var_y + c2)).mean()


def _smooth(x: Tensor, kernel: Tensor) -> Tensor:
    """Convolve (B, C, *spatial) with the kernel along each spatial axis, without padding."""
    for axis in range(2, x.dim()):
        moved = x.movedim(axis, -1)
        rows = F.conv1d(moved.reshape(-1, 1, moved.shape[-1]), kernel[None, None])
        x = rows.reshape(*moved.shape[:-1], rows.shape[-1]).movedim(-1, axis)
    return x
