"""What a caller hands in for a page, as the plain values that are written."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from delira_nca.errors import ConfigError

__all__ = ["as_tensor", "numbers"]

_LARGEST = 65504.0  # that half precision holds


def as_tensor(what: str, given: Any) -> Any:
    """Float tensor of a tensor or an array; None stays None.

    Raises
    ------
    ConfigError
        If it is something else, or holds NaN or numbers that half precision cannot hold.
    """
    if given is None:
        return None
    try:
        tensor: Tensor = torch.as_tensor(given).detach().cpu()
    except (TypeError, ValueError, RuntimeError):
        raise ConfigError(f"{what} is a tensor or an array, not {given!r}") from None
    if not torch.isfinite(tensor).all():
        raise ConfigError(f"{what} holds NaN or infinity")
    if tensor.numel() and float(tensor.abs().max()) > _LARGEST:
        raise ConfigError(f"{what} holds {float(tensor.abs().max()):g}: a page shows numbers up to {_LARGEST:g}")
    return tensor.float()


def numbers(what: str, given: Any) -> list[float]:
    """Finite numbers out of a sequence, an array or a tensor.

    Raises
    ------
    ConfigError
        If they are not.

    Examples
    --------
    >>> numbers("mean", (0, 0.5))
    [0.0, 0.5]
    """
    try:
        values = None if isinstance(given, str) else [float(value) for value in given]
    except (TypeError, ValueError):
        values = None
    if values is None or not all(map(math.isfinite, values)):
        raise ConfigError(f"{what} is one finite number for each fixed channel, not {given!r}")
    return values
