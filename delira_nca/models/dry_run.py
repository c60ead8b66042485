"""Find the output shape of a module without changing the module."""

from __future__ import annotations

import contextlib
import copy
import itertools
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from delira_nca.errors import ConfigError
from delira_nca.seeding import isolated_rng

__all__ = ["channels_taken", "dimensions_taken", "dry_run"]

M = TypeVar("M", bound=nn.Module)
T = TypeVar("T")


def dry_run(module: M, run: Callable[[M, Tensor], T], shape: Sequence[int]) -> T:
    """Run a copy of a module on zeros, in evaluation mode and without gradients.

    The copy is on the meta device if the module supports it; otherwise it is a full copy. Weights, buffers, modes and
    attributes of the module and all random generators remain unchanged.

    Parameters
    ----------
    module : M
        Module to copy.
    run : callable
        Function that is called with the copy and the zeros.
    shape : sequence of int
        Shape of the zeros. Their dtype is that of the module's first weight.

    Raises
    ------
    ConfigError
        If the module cannot be copied.
    Exception
        Any exception that the full copy raises.

    Examples
    --------
    >>> dry_run(nn.Conv2d(3, 8, 3), lambda copied, x: tuple(copied(x).shape), (1, 3, 32, 32))
    (1, 8, 30, 30)
    """
    first = next(itertools.chain(module.parameters(), module.buffers()), torch.empty(()))
    dtype = first.dtype if first.is_floating_point() and not is_lazy(first) else torch.float32
    with isolated_rng(0), torch.no_grad():
        with contextlib.suppress(Exception):  # any error: the full copy decides whether the module works
            return run(_without_numbers(module).eval(), torch.zeros(*shape, dtype=dtype, device="meta"))
        try:
            copied = copy.deepcopy(module)
        except Exception as error:
            raise ConfigError(f"{type(module).__name__} cannot be copied to find out its shapes: {error}") from error
        return run(copied.eval(), torch.zeros(*shape, dtype=dtype, device=first.device))


def _without_numbers(module: M) -> M:
    """Copy a module with all tensors on the meta device."""
    copies: dict[int, Tensor] = {}
    for parameter in module.parameters():
        if not is_lazy(parameter):
            copies[id(parameter)] = nn.Parameter(torch.empty_like(parameter, device="meta"), parameter.requires_grad)
    for buffer in module.buffers():
        if not is_lazy(buffer):
            copies[id(buffer)] = torch.empty_like(buffer, device="meta")
    return copy.deepcopy(module, dict[int, object](copies))


def channels_taken(module: nn.Module) -> int | None:
    """Return the number of input channels of a module or of its first layer with weights; None if unknown.

    Examples
    --------
    >>> channels_taken(nn.Sequential(nn.ReLU(), nn.Conv2d(3, 8, 1), nn.Conv2d(8, 2, 1)))
    3
    """
    for part in module.modules():
        for name in ("num_in_channels", "in_channels", "num_features", "in_features"):
            channels = getattr(part, name, None)
            if isinstance(channels, int) and channels > 0:
                return channels
        if next(part.parameters(recurse=False), None) is not None:
            return None
    return None


def dimensions_taken(module: nn.Module) -> int | None:
    """Return the number of spatial dimensions of a module or of its first convolution; None if unknown.

    Examples
    --------
    >>> dimensions_taken(nn.Sequential(nn.ReLU(), nn.Conv3d(3, 8, 1)))
    3
    """
    if isinstance(dims := getattr(module, "dims", None), int):
        return dims
    for part in module.modules():
        for dims, kinds in _CONVOLUTIONS.items():
            if isinstance(part, kinds):
                return dims
    return None


_CONVOLUTIONS = {
    1: (nn.Conv1d, nn.ConvTranspose1d),
    2: (nn.Conv2d, nn.ConvTranspose2d),
    3: (nn.Conv3d, nn.ConvTranspose3d),
}
