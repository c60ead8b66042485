"""How many steps may be stored before states are dropped and computed again in the backward pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import isqrt

import torch
from torch import Tensor

__all__ = ["measure_saved_bytes", "segment_length"]


def measure_saved_bytes(function: Callable[[], Tensor], not_counted: Iterable[Tensor]) -> tuple[Tensor, int]:
    """Run a function and count what autograd keeps of it for the backward pass.

    Parameters
    ----------
    function : takes nothing and returns a tensor.
    not_counted : tensors that exist anyway (weights, the input).

    Returns
    -------
    tuple of (the result, bytes of the distinct storages that were saved)
    """
    known = {tensor.untyped_storage().data_ptr() for tensor in not_counted}
    saved: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = function()
    return result, sum(saved.values())


def segment_length(steps: int, step_bytes: int, state_bytes: int) -> int:
    """Steps of one segment between two stored states, with the least memory.

    Every segment but the one at work is dropped and computed again, which costs one more forward pass however long a
    segment is. Stored are ``steps / length`` states and ``length`` whole steps; their sum is smallest at
    ``sqrt(steps * state / step)``.

    Examples
    --------
    >>> segment_length(80, step_bytes=40_000_000, state_bytes=2_600_000)
    2
    """
    return max(1, isqrt(round(steps * state_bytes / max(step_bytes, 1))))
