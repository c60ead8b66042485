"""States without the cells in which nothing is: what a checkpoint keeps of a pool, most of which is empty space."""

from __future__ import annotations

from collections.abc import Mapping
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


def unpack_states(packed: Mapping[str, Any]) -> Tensor:
    """(N, C, *spatial) states from what :func:`pack_states` gave."""
    num_states, num_channels, *spatial = packed["shape"]
    values: Tensor = packed["values"]
    states = values.new_zeros(num_states, *spatial, num_channels)
    states.view(-1, num_channels)[packed["cells"]] = values
    return states.movedim(-1, 1).contiguous()
