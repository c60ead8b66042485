"""Artefacts of images with adjustable strength."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from delira_nca.checks import require_number
from delira_nca.errors import ShapeError, require_choice
from delira_nca.seeding import generator

__all__ = ["ARTEFACTS", "add_artefact"]


def add_artefact(image: Tensor, artefact: str, strength: float, *, seed: int = 0) -> Tensor:
    """Add an artefact to images, with separate random numbers for each sample.

    Parameters
    ----------
    image : Tensor
        (B, C, *spatial) images with values from 0 to 1 and one to three axes. They are not changed.
    artefact : str
        One of :data:`ARTEFACTS`. ``"noise"`` is normal with a standard deviation of 0.4 at full strength. ``"bias"`` is
        a factor ``exp(2 * d)``, where ``d`` is the position along a direction, with 1 as the distance from the centre
        of the image to the end of an axis. ``"blur"`` is Gaussian with a standard deviation of 0.08 of the shortest
        axis. ``"ghosts"`` adds the image shifted by a third of an axis. ``"spike"`` is a wave of amplitude 0.5 along an
        axis with 6 to 12 periods.
    strength : float
        Strength of the artefact: 0 for none, 1 for the full strength; larger values are possible.
    seed : int
        Seed of the random numbers. Those of sample ``n`` are equal for every strength.

    Returns
    -------
    tensor like ``image``
        The result is not clipped.

    Raises
    ------
    UnknownNameError
        If the artefact is unknown. The message names the most similar one.
    ConfigError
        If the strength is negative.
    ShapeError
        If the number of spatial axes is not 1, 2 or 3.

    Examples
    --------
    >>> image = torch.rand(2, 1, 8, 8)
    >>> torch.equal(add_artefact(image, "bias", 0.0), image), add_artefact(image, "blur", 1.0).shape
    (True, torch.Size([2, 1, 8, 8]))
    """
    require_choice("artefact", artefact, ARTEFACTS)
    require_number("a strength", strength, 0)
    if not 3 <= image.dim() <= 5:
        raise ShapeError(f"images are (B, C, *spatial) with one to three axes, not {tuple(image.shape)}")
    if strength == 0 or not len(image):
        return image.clone()
    add = _ADD[artefact]
    return torch.stack([add(one, strength, generator(seed, artefact, n)) for n, one in enumerate(image)])


def _noise(image: Tensor, strength: float, rng: np.random.Generator) -> Tensor:
    return image + 0.4 * strength * torch.from_numpy(rng.normal(size=tuple(image.shape))).to(image)


def _bias(image: Tensor, strength: float, rng: np.random.Generator) -> Tensor:
    direction = rng.normal(size=image.dim() - 1)
    direction /= np.linalg.norm(direction)
    for axis, share in enumerate(direction.tolist()):
        image = image * torch.exp(2.0 * strength * share * _place(image, axis))
    return image


def _blur(image: Tensor, strength: float, rng: np.random.Generator) -> Tensor:
    sigma = 0.08 * strength * min(image.shape[1:])
    reach = max(1, math.ceil(4 * sigma))
    offsets = torch.arange(-reach, reach + 1, device=image.device)
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2).to(image)
    kernel = kernel / kernel.sum()
    for axis in range(1, image.dim()):
        lines = image.movedim(axis, -1)
        padded = F.pad(lines.reshape(-1, 1, lines.shape[-1]), (reach, reach), mode="replicate")
        image = F.conv1d(padded, kernel.view(1, 1, -1)).view(lines.shape).movedim(-1, axis)
    return image


def _ghosts(image: Tensor, strength: float, rng: np.random.Generator) -> Tensor:
    axis = int(rng.integers(1, image.dim()))
    return (image + strength * image.roll(image.shape[axis] // 3, axis)) / (1 + strength / 2)


def _spike(image: Tensor, strength: float, rng: np.random.Generator) -> Tensor:
    axis, waves = int(rng.integers(image.dim() - 1)), rng.uniform(6, 12)
    return image + 0.5 * strength * torch.sin(math.pi * waves * _place(image, axis))


def _place(image: Tensor, axis: int) -> Tensor:
    """Return positions along a spatial axis, from -1 to 1, in a shape that broadcasts to (C, *spatial)."""
    line = torch.linspace(-1, 1, image.shape[axis + 1], device=image.device, dtype=image.dtype)
    return line.view([-1 if other == axis else 1 for other in range(image.dim() - 1)])


_ADD: dict[str, Callable[[Tensor, float, np.random.Generator], Tensor]] = {
    "noise": _noise,
    "bias": _bias,
    "blur": _blur,
    "ghosts": _ghosts,
    "spike": _spike,
}

ARTEFACTS = tuple(_ADD)
"""Names of the artefacts of :func:`add_artefact`."""
