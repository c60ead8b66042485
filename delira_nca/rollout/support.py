"""What the fast back ends ask of a state and a cell, in the same words."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.autograd import forward_ad

from delira_nca.errors import ConfigError, ShapeError
from delira_nca.rollout.job import Job
from delira_nca.rollout.memory import least_bytes
from delira_nca.rollout.plain import PlainCell

__all__ = ["check_budget", "check_padding", "is_autocast", "why_not_floats", "why_not_plain_cpu"]


def why_not_plain_cpu(x: Tensor, plain: PlainCell, dtypes: tuple[torch.dtype, ...]) -> str | None:
    """Why a state and the tensors of a cell are not all ordinary CPU tensors of one of these dtypes, or None."""
    tensors = [x, *(tensor for tensor in plain.tensors() if tensor is not None)]
    if torch._C._functorch.peek_interpreter_stack() is not None:
        return "a transform of torch.func is at work"
    if torch.compiler.is_compiling():
        return "torch.compile is tracing"
    for tensor in tensors:
        if forward_ad.unpack_dual(tensor).tangent is not None:  # type: ignore[no-untyped-call]
            return "there are no gradients in forward mode"
        if type(tensor) not in (Tensor, torch.nn.Parameter):
            return f"a tensor is a {type(tensor).__name__}"
        if tensor.device.type != "cpu" or tensor.layout != torch.strided:
            return f"a tensor is on {tensor.device}, not on the CPU"
        if tensor.dtype not in dtypes or tensor.dtype != x.dtype:
            return f"a tensor is {tensor.dtype}, not {' or '.join(map(str, dtypes))} like all others"
    if x.shape[1] != plain.num_channels or x.dim() - 2 != plain.dims:
        return f"the state {tuple(x.shape)} is not of {plain.num_channels} channels and {plain.dims} spatial axes"
    if x.numel() == 0:
        return "the state is empty"
    return None


def is_autocast(x: Tensor) -> bool:
    """Whether autocast is on for the device of a tensor; there is none on the meta device."""
    kind = x.device.type
    return torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)


def why_not_floats(x: Tensor, cell: object) -> str | None:
    """Why a state and the weights of a cell are not floats of one dtype, or None; autocast mixes them."""
    if not x.is_floating_point():
        return f"a state is of floats, not {x.dtype}"
    weights = cell.parameters() if isinstance(cell, torch.nn.Module) else []
    others = {weight.dtype for weight in weights if weight.is_floating_point()} - {x.dtype}
    if not others or is_autocast(x):
        return None
    return f"a state of {x.dtype} does not go with weights of {others.pop()}"


def check_padding(padding: str, radius: Sequence[int], shape: Sequence[int]) -> None:
    """Refuse a grid that is too small for its padding.

    Parameters
    ----------
    padding : zeros, reflect, replicate or circular.
    radius : width of the padding along each axis.
    shape : spatial shape of the grid.

    Raises
    ------
    ShapeError
        If an axis is not longer than the radius (reflect), or shorter than it (circular).

    Examples
    --------
    >>> check_padding("reflect", (1, 1), (1, 9))
    Traceback (most recent call last):
    delira_nca.errors.ShapeError: reflect padding by 1 needs at least 2 cells along every axis, not (1, 9)
    """
    least = {"reflect": 1, "circular": 0}.get(padding)
    if least is None:
        return
    for size, reach in zip(shape, radius, strict=True):
        if reach and size < reach + least:
            raise ShapeError(
                f"{padding} padding by {reach} needs at least {reach + least} cells along every axis, "
                f"not {tuple(shape)}"
            )


def check_budget(plain: PlainCell, job: Job) -> None:
    """Refuse a memory budget that cannot hold the backward pass however it is cut.

    Raises
    ------
    ConfigError
        With the least number of bytes that would do.
    """
    tensors = [job.x, *(tensor for tensor in plain.tensors() if tensor is not None)]
    keeps = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
    if not keeps or job.segment is not None:
        return
    state = job.x.nbytes
    least = least_bytes(job.stops[-1], state, worst_step_bytes(job.x, mortal=plain.alive is not None))
    if job.memory_budget < least:
        raise ConfigError(
            f"memory_budget of {job.memory_budget} bytes is too small for {job.stops[-1]} steps of a state of "
            f"{tuple(job.x.shape)}: give at least {least}"
        )


def worst_step_bytes(x: Tensor, *, mortal: bool) -> int:
    """Bytes that one step can change at most: all cells of a state, and which of them fired, lived and died."""
    row_words = -(-x.shape[-1] // 64)
    rows = x.shape[0] * x[0, 0].numel() // x.shape[-1]
    return int(x.nbytes + 8 * row_words * rows * (3 if mortal else 1))
