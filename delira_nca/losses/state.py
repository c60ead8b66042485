"""Losses of states and of their cells."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from delira_nca.checks import require_number
from delira_nca.errors import ShapeError, require_choice
from delira_nca.losses.checks import at_least_single, class_labels, living_cells

__all__ = ["cell_cross_entropy", "hidden_penalty", "one_hot_l2", "overflow"]


def one_hot_l2(logits: Tensor, label: Tensor, alive: Tensor | None = None, *, reduction: str = "sum") -> Tensor:
    """Half the squared distance of each living cell to the one-hot vector of its class, averaged over samples.

    Parameters
    ----------
    logits : Tensor
        (B, K, *spatial) float tensor. Scores of each cell, with the target 1 for its class and 0 for all others.
    label : Tensor
        Integers from 0 to K - 1: (B,), one class for all cells of a sample, or (B, *spatial) or (B, 1, *spatial), one
        per cell.
    alive : Tensor or None
        (B, 1, *spatial) bool mask of living cells; all cells by default.
    reduction : {"sum", "mean"}
        Reduction over the living cells of a sample.

    Returns
    -------
    () tensor; samples without living cells contribute 0.

    Raises
    ------
    ShapeError, ConfigError, UnknownNameError
        If the shapes do not fit, the label contains values outside of 0 to K - 1, or the reduction is unknown.

    Notes
    -----
    Randazzo et al. (2020), "Self-classifying MNIST Digits": it keeps the agreement of the cells for longer than the
    cross entropy.

    Examples
    --------
    >>> import torch
    >>> one_hot_l2(torch.zeros(2, 10, 4, 4), torch.tensor([3, 7])).item()  # 16 cells, half a square each
    8.0
    """
    require_choice("reduction", reduction, ("sum", "mean"))
    label, cells = _of_cells(logits, label), living_cells(logits, alive)
    truth = F.one_hot(label, logits.shape[1]).movedim(-1, 1).to(logits.dtype)
    each = (logits - truth).square().sum(1) / 2
    return _over_living(each, cells, reduction)


def cell_cross_entropy(logits: Tensor, label: Tensor, alive: Tensor | None = None) -> Tensor:
    """Cross entropy of each living cell, averaged over those of a sample, then over samples.

    Parameters
    ----------
    logits : Tensor
        (B, K, *spatial) float tensor. Scores before the softmax.
    label, alive
        See :func:`one_hot_l2`.

    Returns
    -------
    () tensor; samples without living cells contribute 0.

    Raises
    ------
    ShapeError, ConfigError
        If the shapes do not fit, or the label contains values outside of 0 to K - 1.

    Examples
    --------
    >>> import torch
    >>> alive = torch.zeros(1, 1, 2, 2, dtype=torch.bool).index_fill(2, torch.tensor(0), True)
    >>> round(cell_cross_entropy(torch.zeros(1, 4, 2, 2), torch.tensor([2]), alive).item(), 4)  # log(4)
    1.3863
    """
    label, cells = _of_cells(logits, label), living_cells(logits, alive)
    return _over_living(F.cross_entropy(at_least_single(logits), label, reduction="none"), cells, "mean")


def _of_cells(logits: Tensor, label: Tensor) -> Tensor:
    """Return the class of each cell, (B, *spatial)."""
    if logits.dim() < 3:
        raise ShapeError(f"logits of cells are (B, K, *spatial), not {tuple(logits.shape)}")
    samples, _, *spatial = logits.shape
    if tuple(label.shape) in ((samples,), (samples, 1)):
        one = class_labels(logits.flatten(2)[..., 0], label)
        return one.reshape(samples, *(1,) * len(spatial)).expand(samples, *spatial)
    return class_labels(logits, label)


def _over_living(each: Tensor, cells: Tensor, reduction: str) -> Tensor:
    total = each.where(cells, 0.0).flatten(1).sum(1)
    if reduction == "mean":
        total = total / cells.flatten(1).sum(1).clamp(min=1)
    return total.mean()


def overflow(state: Tensor, *, limit: float = 1.0, squared: bool = False, reduction: str = "sum") -> Tensor:
    """Distance of the values of a state from an interval around 0.

    Parameters
    ----------
    state : Tensor
        Float tensor of any shape.
    limit : float
        Values from ``-limit`` to ``limit`` have the loss 0.
    squared : bool
        Whether the distances are squared.
    reduction : {"sum", "mean"}
        Reduction over all values of all samples.

    Returns
    -------
    () tensor

    Raises
    ------
    ConfigError, UnknownNameError
        If the limit is not positive, or the reduction is unknown.

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
    hidden : Tensor
        (B, num_hidden_channels, *spatial) hidden channels.

    Returns
    -------
    () tensor; 0 without hidden channels.

    Examples
    --------
    >>> import torch
    >>> hidden_penalty(torch.tensor([[[1.0, -3.0]]])).item()
    2.0
    """
    return hidden.abs().mean() if hidden.numel() else hidden.sum()
