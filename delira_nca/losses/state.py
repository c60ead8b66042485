"""What is asked of the state itself, whatever the task: to stay within bounds, to be small where nobody looks."""

from __future__ import annotations

from torch import Tensor

from delira_nca.checks import require_number
from delira_nca.errors import require_choice

__all__ = ["hidden_penalty", "overflow"]


def overflow(state: Tensor, *, limit: float = 1.0, squared: bool = False, reduction: str = "sum") -> Tensor:
    """How far the values of a state lie beyond a limit.

    Parameters
    ----------
    state : float tensor of any shape.
    limit : values from ``-limit`` to ``limit`` cost nothing.
    squared : whether the distances are squared.
    reduction : ``"sum"`` over all values, of all samples, or their ``"mean"``, which does not depend on the size.

    Returns
    -------
    () tensor

    Raises
    ------
    ConfigError, UnknownNameError
        If the limit is not above 0, or the reduction is unknown.

    Notes
    -----
    Niklasson et al. (2021), "Self-Organising Textures"; squared in their "µNCA".

    Examples
    --------
    >>> import torch
    >>> overflow(torch.tensor([0.3, -1.0, 1.5, -1.5])).item()
    1.0
    """
    require_choice("reduction", reduction, ("sum", "mean"))
    require_number("limit", limit, above=0)
    beyond = state - state.clamp(-limit, limit)
    beyond = beyond.square() if squared else beyond.abs()
    return beyond.sum() if reduction == "sum" else beyond.mean()


def hidden_penalty(hidden: Tensor) -> Tensor:
    """Mean absolute value of the hidden channels.

    Parameters
    ----------
    hidden : (B, num_hidden_channels, *spatial).

    Returns
    -------
    () tensor; 0 where there are no hidden channels.

    Examples
    --------
    >>> import torch
    >>> hidden_penalty(torch.tensor([[[1.0, -3.0]]])).item()
    2.0
    """
    return hidden.abs().mean() if hidden.numel() else hidden.sum()
