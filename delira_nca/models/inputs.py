"""States to begin with, and the small helpers of NCALab's API page."""

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
]

T = TypeVar("T")
_FLOATS = {torch.float16, torch.bfloat16, torch.float32, torch.float64}


class HasChannels(Protocol):
    """How the channels of a state are divided: what :func:`pad_input` and predictions need to know of a model."""

    num_image_channels: int
    num_hidden_channels: int
    num_output_channels: int


def require_tensor(image: object, name: str = "an image") -> None:
    """Refuse an image, or what the name says, that is no tensor.

    Raises
    ------
    ConfigError
        With its class, and how it becomes a tensor.
    """
    if not isinstance(image, Tensor):
        raise ConfigError(
            f"{name} is a torch.Tensor, not {type(image).__name__}: torch.as_tensor() makes one of arrays"
        )


def as_weights(x: Tensor, network: nn.Module) -> Tensor:
    """Input in the dtype of a network's weights.

    Floats of a narrower dtype are converted, which changes no value. Where autocast is on, the input stays as it is.

    Raises
    ------
    ConfigError
        If the weights cannot hold the input: it is wider than they are, or holds no floats.

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
    """State with one living cell in the middle.

    Parameters
    ----------
    num_channels : int
        Of the state.
    shape : sequence of int
        Spatial shape; the middle of an even axis is the cell behind it.
    first_channel : int
        This channel and those after it are 1 in that cell; all others are 0 (alpha and the hidden channels of RGBA
        states, as Mordvintsev et al., 2020).

    Returns
    -------
    (num_channels, *shape) float tensor

    Raises
    ------
    ConfigError
        If no channel is left to be 1.

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


def pad_input(
    x: Tensor,
    nca: HasChannels,
    noise: bool = True,
    mean: float = 0.5,
    std: float = 0.225,
    *,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Append the channels that an image lacks to be a state.

    Parameters
    ----------
    x : Tensor
        (B, c, *spatial) image, or a whole state, which is returned as it is.
    nca : HasChannels
        Model, of which the numbers of channels are read.
    noise : bool
        Whether hidden channels are Gaussian noise; they are zero otherwise. Output channels are always zero.
    mean, std : float
        Of the noise.
    generator : torch.Generator or None
        To draw the noise from; torch's global one by default. Of a batch that is shared with other processes the noise
        is that of the whole, cut out.

    Returns
    -------
    (B, C, *spatial) tensor

    Raises
    ------
    ShapeError
        If ``x`` has more channels than a state, or, of an image, others than the model's image channels.
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
    """Number of steps out of a number or a range.

    Parameters
    ----------
    x : int or tuple
        A number, or ``(low, high)``: drawn uniformly from ``low`` to ``high - 1``.
    rng : np.random.Generator or None
        To draw from; a fresh unseeded one by default.

    Raises
    ------
    TypeError
        If ``x`` is neither a whole number nor a pair of them.
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
"""The name on NCALab's API page, as it is spelt there."""


def unwrap(x: T | None) -> T:
    """Return ``x``, which the caller knows not to be None.

    Raises
    ------
    RuntimeError
        If it is None after all.

    Examples
    --------
    >>> unwrap(3)
    3
    """
    if x is None:
        raise RuntimeError("unwrap() was given None")
    return x
