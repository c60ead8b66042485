"""Initial states, and the helper functions of NCALab's API page."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from delira_nca.checks import is_whole, plain_numbers, require_whole
from delira_nca.errors import ConfigError, ShapeError
from delira_nca.rollout.cost import is_autocast
from delira_nca.rollout.job import current_part

__all__ = [
    "as_weights",
    "intepret_range_parameter",
    "interpret_range_parameter",
    "make_seed",
    "pad_input",
    "require_tensor",
    "unwrap",
    "zero_seed",
]

T = TypeVar("T")
_FLOATS = {torch.float16, torch.bfloat16, torch.float32, torch.float64}


class HasChannels(Protocol):
    """Numbers of channels of a model, as :func:`pad_input` and predictions need them."""

    num_image_channels: int
    num_hidden_channels: int
    num_output_channels: int


def require_tensor(image: object, name: str = "an image") -> None:
    """Check that an image, or the named argument, is a tensor.

    Raises
    ------
    ConfigError
        If it is not. The message says how to convert it.
    """
    if not isinstance(image, Tensor):
        raise ConfigError(
            f"{name} is a torch.Tensor, not {type(image).__name__}: torch.as_tensor() makes one of arrays"
        )


def as_weights(x: Tensor, network: nn.Module) -> Tensor:
    """Convert an input to the dtype of a network's weights.

    Only floats of a narrower dtype are converted, which changes no value. Under autocast the input is returned
    unchanged.

    Raises
    ------
    ConfigError
        If the input has a wider dtype than the weights, or its values are not floats.

    Examples
    --------
    >>> as_weights(torch.ones(1, dtype=torch.float16), nn.Linear(1, 1)).dtype
    torch.float32
    """
    require_tensor(x, "an image or a state")
    if not x.is_floating_point():
        raise ConfigError(
            f"an image or a state is of floats, not {x.dtype}: one of whole numbers is converted and scaled"
        )
    dtypes = {p.dtype for p in network.parameters() if p.is_floating_point()}
    if dtypes <= {x.dtype} or (x.dtype != torch.float64 and is_autocast(x)):
        return x
    if {x.dtype, *dtypes} <= _FLOATS:
        wide = reduce(torch.promote_types, dtypes)
        if torch.promote_types(x.dtype, wide) == wide:
            return x.to(wide)
    weights = ", ".join(sorted(map(str, dtypes)))
    raise ConfigError(
        f"an image or a state of {x.dtype} does not go with weights of {weights}: convert the image or the network; "
        "mixed_precision=True trains weights of float32 in bfloat16 or float16"
    )


@plain_numbers
def make_seed(num_channels: int, shape: Sequence[int], *, first_channel: int = 3) -> Tensor:
    """Make a state with one living cell in the middle.

    Parameters
    ----------
    num_channels : int
        Number of channels of the state.
    shape : sequence of int
        Spatial shape. On an axis of even length, the living cell is the first one after the middle.
    first_channel : int
        First channel that is 1 in the living cell, as are all channels after it; all other values are 0. The default
        sets alpha and the hidden channels of RGBA states, as in Mordvintsev et al. (2020).

    Returns
    -------
    (num_channels, *shape) float tensor

    Raises
    ------
    ConfigError
        If no channel would be 1.

    Examples
    --------
    >>> make_seed(16, (32, 32))[:, 16, 16].tolist() == [0.0] * 3 + [1.0] * 13
    True
    """
    if not 0 <= first_channel < num_channels:
        raise ConfigError(f"a seed of {num_channels} channels cannot start at channel {first_channel}")
    seed = torch.zeros(num_channels, *shape)
    cell = seed[first_channel:]
    for size in shape:
        cell = cell.select(1, size // 2)
    cell.fill_(1.0)
    return seed


@plain_numbers
def zero_seed(num_channels: int, shape: Sequence[int]) -> Tensor:
    """Make a state of zeros, the seed of a texture.

    Parameters
    ----------
    num_channels : int
        Number of channels of the state.
    shape : sequence of int
        Spatial shape.

    Returns
    -------
    (num_channels, *shape) float tensor

    Examples
    --------
    >>> zero_seed(12, (64, 64)).shape
    torch.Size([12, 64, 64])
    """
    return torch.zeros(num_channels, *shape)


def pad_input(
    x: Tensor,
    nca: HasChannels,
    noise: bool = True,
    mean: float = 0.5,
    std: float = 0.225,
    *,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Append the hidden and output channels to an image.

    Parameters
    ----------
    x : Tensor
        (B, c, *spatial) image, or a state with all channels, which is returned unchanged.
    nca : HasChannels
        Model that gives the numbers of channels.
    noise : bool
        Whether hidden channels are Gaussian noise; otherwise they are zero. Output channels are always zero.
    mean, std : float
        Mean and standard deviation of the noise.
    generator : torch.Generator or None
        Generator of the noise; torch's global one by default. If a batch is distributed over several processes, each
        takes its part of the noise of the whole batch.

    Returns
    -------
    (B, C, *spatial) tensor

    Raises
    ------
    ShapeError
        If the number of channels of ``x`` is neither that of an image nor that of a state.
    """
    image, hidden, output = nca.num_image_channels, nca.num_hidden_channels, nca.num_output_channels
    channels = image + hidden + output
    if x.dim() < 3 or (x.shape[1] != image and x.shape[1] != channels):
        raise ShapeError(
            f"input is (B, {image}, *spatial) image or (B, {channels}, *spatial) state, not {tuple(x.shape)}"
        )
    if x.shape[1] == channels:
        return x
    state = x.new_zeros(x.shape[0], channels, *x.shape[2:])
    state[:, :image] = x
    if noise and hidden:
        part = None if generator is None else current_part()
        samples, rows = (len(x), slice(None)) if part is None else (part.total, part.rows)
        drawn = torch.empty(samples, hidden, *x.shape[2:]).normal_(mean, std, generator=generator)
        state[:, image : image + hidden] = drawn[rows].to(x)
    return state


def interpret_range_parameter(x: int | tuple[int, int], rng: np.random.Generator | None = None) -> int:
    """Return a number of steps, drawn if a range is given.

    Parameters
    ----------
    x : int or tuple
        Number of steps, or ``(low, high)``: a number is drawn uniformly from ``low`` to ``high - 1``.
    rng : np.random.Generator or None
        Random generator; a new unseeded one by default.

    Raises
    ------
    TypeError
        If ``x`` is neither an integer nor a pair of integers.
    ConfigError
        If a number is negative, or the range is reversed or empty.

    Examples
    --------
    >>> interpret_range_parameter(64)
    64
    >>> interpret_range_parameter((96, 64))
    Traceback (most recent call last):
    delira_nca.errors.ConfigError: a range of steps is (low, high) with low < high, not (96, 64)
    """
    if is_whole(x):
        return require_whole("steps", x, 0)
    if not isinstance(x, (tuple, list)) or len(x) != 2 or not all(map(is_whole, x)):
        raise TypeError(f"steps are a whole number or a pair (low, high), not {x!r}")
    low, high = x
    if low < 0 or low >= high:
        raise ConfigError(f"a range of steps is (low, high) with low < high, not ({low}, {high})")
    return int((rng or np.random.default_rng()).integers(low, high))


intepret_range_parameter = interpret_range_parameter
"""Name on NCALab's API page, with its spelling."""


def unwrap(x: T | None) -> T:
    """Return ``x`` after checking that it is not None.

    Raises
    ------
    RuntimeError
        If it is None.

    Examples
    --------
    >>> unwrap(3)
    3
    """
    if x is None:
        raise RuntimeError("unwrap() was given None")
    return x
