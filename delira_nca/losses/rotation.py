"""Rotation-invariant squared error of images."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from delira_nca.checks import require_whole
from delira_nca.errors import ShapeError
from delira_nca.losses.checks import same_shape

__all__ = ["rotation_invariant_mse"]


def rotation_invariant_mse(
    pred: Tensor, label: Tensor, *, num_angles: int | None = None, num_radii: int | None = None
) -> Tensor:
    """Mean squared error over the disc inside the grid, at the best rotation about its centre.

    Both images are resampled in polar coordinates, where a rotation is a shift. The best shift of each sample is the
    maximum of a cross-correlation.

    Parameters
    ----------
    pred, label : Tensor
        (B, C, H, W) images of one shape. The corners outside of the disc are ignored.
    num_angles : int or None
        Number of rotations that are tested, at least 4. The default is 6 for each cell of half the shorter side,
        rounded up to a multiple of 4 to include rotations by 90 degrees.
    num_radii : int or None
        Number of circles on which the images are sampled; by default half the length of the shorter side.

    Returns
    -------
    () tensor, the mean over samples

    Raises
    ------
    ShapeError
        If the shapes differ or are not (B, C, H, W).
    ConfigError
        If ``num_angles`` is below 4 or ``num_radii`` below 1.

    Notes
    -----
    Mordvintsev et al. (2022), "Growing Isotropic Neural Cellular Automata". The correlation only selects the rotation.
    The error is computed from the differences, so that it is 0 for equal images and keeps full precision.

    Examples
    --------
    >>> import torch
    >>> picture = torch.rand(1, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    >>> rotation_invariant_mse(picture, picture.rot90(1, (2, 3))).item() < 1e-9
    True
    """
    label = same_shape(pred, label)
    if pred.dim() != 4:
        raise ShapeError(f"pictures that can be turned are (B, C, H, W), not {tuple(pred.shape)}")
    half = (min(pred.shape[2:]) + 1) // 2
    radii = half if num_radii is None else num_radii
    angles = 4 * math.ceil(6 * half / 4) if num_angles is None else num_angles
    require_whole("num_angles", angles, 4)
    require_whole("num_radii", radii, 1)
    grid, weight = _polar_grid(pred, angles, radii)
    ours = F.grid_sample(pred, grid, align_corners=False)
    theirs = F.grid_sample(label, grid, align_corners=False)
    with torch.no_grad():
        spectrum = torch.fft.rfft(ours) * torch.fft.rfft(theirs).conj()
        correlation = torch.fft.irfft((spectrum * weight).sum((1, 2)), n=angles)
        shift = correlation.argmax(1)
        place = (torch.arange(angles, device=shift.device) - shift[:, None]) % angles
    turned = theirs.gather(3, place[:, None, None].expand_as(theirs))
    return ((ours - turned).square() * weight).sum((2, 3)).mean() / (angles * weight.sum())


def _polar_grid(like: Tensor, angles: int, radii: int) -> tuple[Tensor, Tensor]:
    """Return (B, radii, angles, 2) positions for ``grid_sample``, and the (radii, 1) area of each ring."""
    height, width = like.shape[2:]
    side = min(height, width)
    radius = (torch.arange(radii, dtype=like.dtype, device=like.device) + 0.5) / radii * (side - 1) / 2
    angle = torch.arange(angles, dtype=like.dtype, device=like.device) * (2 * math.pi / angles)
    x = radius[:, None] * angle.cos() * 2 / width
    y = radius[:, None] * angle.sin() * 2 / height
    return torch.stack([x, y], -1).expand(like.shape[0], -1, -1, -1), radius[:, None]
