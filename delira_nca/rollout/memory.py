"""Segment lengths of gradient checkpointing, from the memory that steps and states need."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import isqrt

import torch
from torch import Tensor

__all__ = ["WINDOW_STEPS", "best_length", "least_bytes", "masks_at_once", "measure_saved_bytes", "segment_length"]

WINDOW_STEPS = 4
"""Number of steps for which one window is used. More steps need larger windows; fewer need more frequent searches."""


def measure_saved_bytes(function: Callable[[], Tensor], not_counted: Iterable[Tensor]) -> tuple[Tensor, int]:
    """Run a function and count the bytes that autograd stores for its backward pass.

    Parameters
    ----------
    function : callable
        Function without arguments that returns a tensor.
    not_counted : iterable of Tensor
        Tensors to ignore because they exist anyway (weights, the input).

    Returns
    -------
    tuple of (result, bytes of the distinct saved storages)
    """
    known = {tensor.untyped_storage().data_ptr() for tensor in not_counted}
    saved: dict[int, int] = {}

    def pack(tensor: Tensor) -> tuple[Tensor, int]:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor, tensor._version

    def unpack(packed: tuple[Tensor, int]) -> Tensor:
        tensor, version = packed
        if tensor._version != version:  # autograd does not check versions of tensors with pack hooks
            raise RuntimeError(
                "one of the variables needed for gradient computation has been modified by an inplace operation: "
                f"{tensor.dtype} of {tuple(tensor.shape)}"
            )
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
        result = function()
    return result, sum(saved.values())


def masks_at_once(x: Tensor) -> int:
    """Return the number of cells, over samples and steps, for which fire masks are drawn in one call; more on a GPU."""
    return 2**18 if x.device.type == "cpu" else 2**22


def segment_length(steps: int, step_bytes: int, state_bytes: int) -> int:
    """Return the number of steps between two stored states that needs the least memory.

    Every segment is recomputed when its backward pass begins, which costs one more forward pass for any length. Stored
    are ``steps / length`` states and ``length`` complete steps; the sum is minimal at ``sqrt(steps * state / step)``.

    Examples
    --------
    >>> segment_length(80, step_bytes=40_000_000, state_bytes=2_600_000)
    2
    """
    return max(1, isqrt(round(steps * state_bytes / max(step_bytes, 1))))


def least_bytes(steps: int, state_bytes: int, step_bytes: int) -> int:
    """Return the least memory of a backward pass, with states stored at the best distance.

    Stored are one state per segment and the steps of one segment; without steps, one state.

    Examples
    --------
    >>> least_bytes(100, state_bytes=10, step_bytes=10)
    200
    >>> least_bytes(100, state_bytes=10, step_bytes=1)  # 3 segments of 34 steps: 3 * 10 + 34
    64
    """
    return min((_segmented(steps, length, state_bytes, step_bytes) for length in _lengths(steps)), default=state_bytes)


def best_length(steps: int, state_bytes: int, step_bytes: int) -> int:
    """Return the longest segment for which :func:`least_bytes` suffice.

    Examples
    --------
    >>> best_length(100, state_bytes=10, step_bytes=10), best_length(100, state_bytes=10, step_bytes=1)
    (10, 34)
    """
    return min(_lengths(steps), key=lambda length: (_segmented(steps, length, state_bytes, step_bytes), -length))


def _segmented(steps: int, length: int, state_bytes: int, step_bytes: int) -> int:
    return -(-steps // length) * state_bytes + length * step_bytes


def _lengths(steps: int) -> set[int]:
    """Return the shortest length for every number of segments. No other length can be optimal."""
    few = range(1, min(isqrt(steps) + 1, steps) + 1)
    return {*few, *(-(-steps // segments) for segments in few)}
