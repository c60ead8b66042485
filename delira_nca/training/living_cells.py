"""States without the cells in which nothing is: what a checkpoint keeps of a pool, most of which is empty space."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

import torch
from torch import Tensor

__all__ = ["pack_states", "unpack_states"]

_SAME_WIDTH = {2: torch.int16, 4: torch.int32, 8: torch.int64}


def pack_states(states: Tensor) -> dict[str, Any]:
    """Cells of which any channel is not zero, and where they are. Exact to the bit, the sign of a zero included.

    Parameters
    ----------
    states : (N, C, *spatial) floating-point tensor.

    Returns
    -------
    dict of tensors and plain Python, for :func:`unpack_states`

    Examples
    --------
    >>> states = torch.zeros(2, 16, 8, 8)
    >>> states[0, 3, 4, 4] = 1.0
    >>> packed = pack_states(states)
    >>> packed["values"].shape, torch.equal(unpack_states(packed), states)
    (torch.Size([1, 16]), True)
    """
    bits = states.contiguous().view(_SAME_WIDTH[states.element_size()])
    occupied = (bits != 0).any(1)
    return {
        "shape": tuple(states.shape),
        "cells": occupied.flatten().nonzero().squeeze(1),
        "values": states.movedim(1, -1)[occupied],
    }


def unpack_states(packed: Mapping[str, Any], wanted: slice | None = None) -> Tensor:
    """States from what :func:`pack_states` gave.

    Parameters
    ----------
    packed : of (N, C, *spatial) states.
    wanted : which of them, from one to another; all by default.

    Returns
    -------
    (N, C, *spatial) tensor, or fewer of them
    """
    num_states, num_channels, *spatial = packed["shape"]
    first, stop, _ = (wanted or slice(None)).indices(num_states)
    cells, values = packed["cells"], packed["values"]
    size = prod(spatial)
    among = (cells >= first * size) & (cells < stop * size)
    states: Tensor = values.new_zeros(stop - first, *spatial, num_channels)
    states.view(-1, num_channels)[cells[among] - first * size] = values[among]
    return states.movedim(-1, 1).contiguous()
