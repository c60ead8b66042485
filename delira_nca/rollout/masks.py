"""Random numbers of a roll-out: fire masks and update noise from a counter-based generator.

Each number is a pure function of (seed, step, sample, cell). It does not depend on device, tile, worker or order, so
nothing has to be stored for recomputation in the backward pass.

The generator is ``pcg4d`` of Jarzynski and Olano, "Hash Functions for GPU Rendering", Journal of Computer Graphics
Techniques 9(3), 2020: it maps four 32-bit words to four by additions, multiplications and shifts only, so that shaders
and vector units compute the same bits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor

from delira_nca.checks import require_number

__all__ = ["cell_draws", "fire_mask", "fire_threshold", "pcg4d", "uniform24", "update_noise"]

MULTIPLIER, INCREMENT, _WORD = 1664525, 1013904223, 0xFFFFFFFF
NOISE_STREAM = 0x9E3779B9  # added to the seed, so that noise and fire masks are independent
_DRAW_STREAM = 0x7F4A7C15  # the same for the random numbers of rules
NOISE_MEAN, NOISE_SCALE = 8 * 65535 // 2, (12 / (8 * (2**32 - 1))) ** 0.5


def fire_threshold(fire_rate: float) -> int:
    """Return the number of the 2**24 equally likely hashes for which a cell fires, rounded to the nearest.

    Raises
    ------
    ConfigError
        If ``fire_rate`` is not a probability.
    """
    require_number("fire_rate", fire_rate, 0, 1)
    return round(fire_rate * 2**24)


def _signed(word: int) -> int:
    """Interpret 32 bits as int32, the dtype that torch multiplies without overflow checks."""
    word &= _WORD
    return word - 2**32 if word >= 2**31 else word


def _xorshift16(word: Tensor) -> Tensor:
    return word ^ ((word >> 16) & 0xFFFF)  # the shift of int32 is arithmetic; the mask makes it logical


def pcg4d(x: Any, y: Any, z: Any, w: Any, xorshift16: Callable[[Any], Any]) -> tuple[Any, ...]:
    """Mix four words, numbers or tensors of any library whose integer operations wrap around.

    Parameters
    ----------
    x, y, z, w : int or tensor
        Words after their multiplication and increment.
    xorshift16 : callable
        Function that returns the exclusive or of a word and its upper 16 bits.
    """
    x = w * y + x
    y = z * x + y
    z = z + x * y
    w = w + y * z
    x, y, z, w = map(xorshift16, (x, y, z, w))
    x = x + y * w
    y = y + z * x
    z = z + x * y
    w = w + y * z
    return x, y, z, w


def _hash(
    seed: int,
    step: int | range,
    num_samples: int,
    num_items: int,
    device: torch.device | str,
    first_sample: int,
    items: Tensor | None = None,
) -> tuple[Tensor, ...]:
    """Return four (num_samples, num_items) int32 words for every item of every sample, or for the given ``items``.

    For a range of steps, the words are (steps, num_samples, num_items).
    """
    x = _signed(seed * MULTIPLIER + INCREMENT)
    y: Tensor | int
    if isinstance(step, range):
        steps = torch.arange(step.start, step.stop, dtype=torch.int32, device=device)
        y = (steps * MULTIPLIER + INCREMENT).view(-1, 1, 1)
    else:
        y = _signed(step * MULTIPLIER + INCREMENT)
    samples = torch.arange(first_sample, first_sample + num_samples, dtype=torch.int32, device=device)
    z: Tensor = samples.unsqueeze(1) * MULTIPLIER + INCREMENT
    numbers = torch.arange(num_items, dtype=torch.int32, device=device) if items is None else items.to(torch.int32)
    w: Tensor = numbers.unsqueeze(0) * MULTIPLIER + INCREMENT
    return pcg4d(x, y, z, w, _xorshift16)


def uniform24(
    seed: int,
    step: int | range,
    num_samples: int,
    num_cells: int,
    device: torch.device | str = "cpu",
    first_sample: int = 0,
    cells: Tensor | None = None,
) -> Tensor:
    """Return a 24-bit hash for every cell of a batch.

    Parameters
    ----------
    seed : int
        Seed of the roll-out; its low 32 bits are used.
    num_samples, num_cells : int
        Number of samples, and of cells per sample, in row-major order.
    step, device, first_sample
        See :func:`fire_mask`.
    cells : Tensor or None
        (num_cells,) indices of the cells, for a part of a grid; 0 to ``num_cells - 1`` by default.

    Returns
    -------
    (num_samples, num_cells) int32 tensor of integers from 0 to 2**24 - 1
        (steps, num_samples, num_cells) for a range.

    Examples
    --------
    >>> uniform24(0, 0, 1, 3).tolist()
    [[13837640, 5811046, 14644540]]
    """
    *_, word = _hash(seed, step, num_samples, num_cells, device, first_sample, cells)
    return (word >> 8) & 0xFFFFFF


def update_noise(
    seed: int,
    step: int | range,
    num_samples: int,
    num_channels: int,
    shape: Sequence[int],
    device: torch.device | str = "cpu",
    first_sample: int = 0,
) -> Tensor:
    """Return noise for every channel of every cell, approximately normal with mean 0 and variance 1.

    Each number is the sum of the eight 16-bit halves of one hash of four words. All operations but the last
    multiplication use integers, so that every back end gets the same bits. The excess kurtosis is -0.15, and no
    absolute value exceeds 4.9.

    Parameters
    ----------
    seed : int
        Seed of the roll-out. The noise is independent of the fire masks of the same seed.
    num_samples, num_channels, shape
        Dimensions of the state.
    step, device, first_sample
        See :func:`fire_mask`.

    Returns
    -------
    (num_samples, num_channels, *shape) float32 tensor
        (steps, num_samples, num_channels, *shape) for a range.

    Examples
    --------
    >>> drawn = update_noise(0, 0, 1, 4, (100, 100))
    >>> drawn.mean().abs().item() < 0.02, (drawn.std() - 1).abs().item() < 0.02
    (True, True)
    """
    words = _hash(seed + NOISE_STREAM, step, num_samples, prod(shape) * num_channels, device, first_sample)
    total = torch.stack([(word & 0xFFFF) + ((word >> 16) & 0xFFFF) for word in words]).sum(0, dtype=torch.int32)
    normal: Tensor = (total - NOISE_MEAN).to(torch.float32) * NOISE_SCALE
    return normal.view(*normal.shape[:-1], *shape, num_channels).movedim(-1, normal.dim() - 1)


def cell_draws(
    seed: int,
    step: int | range,
    num_samples: int,
    num_draws: int,
    shape: Sequence[int],
    device: torch.device | str = "cpu",
    first_sample: int = 0,
) -> Tensor:
    """Return uniform random numbers for the rule in one step.

    Parameters
    ----------
    seed : int
        Seed of the roll-out. The numbers are independent of fire masks and noise of the same seed.
    num_samples, num_draws, shape
        Dimensions of the result.
    step, device, first_sample
        See :func:`fire_mask`.

    Returns
    -------
    (num_samples, num_draws, *shape) float32 tensor with values in [0, 1)
        (steps, num_samples, num_draws, *shape) for a range.

    Examples
    --------
    >>> drawn = cell_draws(0, 0, 2, 1, (64, 64))
    >>> drawn.shape, 0.49 < drawn.mean().item() < 0.51
    (torch.Size([2, 1, 64, 64]), True)
    """
    items = prod(shape) * num_draws
    hashes = uniform24(seed + _DRAW_STREAM, step, num_samples, items, device, first_sample)
    drawn: Tensor = hashes.to(torch.float32) / 2**24
    return drawn.view(*drawn.shape[:-1], *shape, num_draws).movedim(-1, drawn.dim() - 1)


def fire_mask(
    seed: int,
    step: int | range,
    num_samples: int,
    shape: Sequence[int],
    fire_rate: float,
    device: torch.device | str = "cpu",
    first_sample: int = 0,
    cells: Tensor | None = None,
) -> Tensor | None:
    """Return the mask of the cells that update in one step.

    Parameters
    ----------
    seed : int
        Seed of the roll-out.
    step : int or range
        Number of the step, from 0, or a range of steps without gaps.
    num_samples : int
        Batch size.
    shape : sequence of int
        Spatial shape of the grid.
    fire_rate : float
        Probability that a cell updates. 1 returns None without computing hashes; with 0 no cell updates.
    device : torch.device or str
        Device of the result.
    first_sample : int
        Index of the first sample, for a part of a batch.
    cells : Tensor or None
        (*shape) indices of the cells in row-major order of the whole grid, for a part of a grid.

    Returns
    -------
    (num_samples, 1, *shape) bool tensor, or None if every cell fires
        One value for all channels of a cell. (steps, num_samples, 1, *shape) for a range of steps.

    Examples
    --------
    >>> fire_mask(0, 0, 2, (64, 64), 0.5).float().mean().item()
    0.506103515625
    >>> fire_mask(0, 0, 2, (64, 64), 1.0) is None
    True
    >>> several = fire_mask(0, range(3, 5), 2, (64, 64), 0.5)
    >>> torch.equal(several[1], fire_mask(0, 4, 2, (64, 64), 0.5))
    True
    >>> whole, part = fire_mask(0, 0, 4, (8, 8), 0.5), fire_mask(0, 0, 2, (8, 8), 0.5, first_sample=2)
    >>> torch.equal(whole[2:], part)
    True
    """
    threshold = fire_threshold(fire_rate)
    if threshold == 2**24:
        return None
    numbers = None if cells is None else cells.flatten()
    hashes = uniform24(seed, step, num_samples, prod(shape), device, first_sample, numbers)
    return (hashes < threshold).view(*hashes.shape[:-2], num_samples, 1, *shape)
