"""Measures of the spread of several predictions of one image.

All functions take (N, B, C, *spatial) predictions of N runs. ``exclusive`` means that the C channels are mutually
exclusive classes, which sum to 1; otherwise every channel is a separate binary class.
"""

from __future__ import annotations

import torch
from torch import Tensor

from delira_nca.errors import ConfigError, ShapeError

__all__ = ["decisions", "deviation", "disagreement", "entropy", "mutual_information", "nqm", "pairwise_dice"]


def _check(predictions: Tensor, least: int = 2) -> None:
    if predictions.dim() < 3:
        raise ShapeError(f"predictions are (N, B, C, *spatial), not {tuple(predictions.shape)}")
    if len(predictions) < least:
        raise ConfigError(f"a spread is that of at least {least} predictions, not of {len(predictions)}")


def deviation(predictions: Tensor) -> Tensor:
    """Population standard deviation over the runs, (B, C, *spatial); exactly 0 for equal runs.

    Examples
    --------
    >>> deviation(torch.tensor([0.25, 0.75]).view(2, 1, 1, 1)).item()
    0.25
    """
    _check(predictions)
    centred = predictions - predictions[:1]  # the rounding of a mean would make the deviation of equal runs nonzero
    spread: Tensor = centred.std(0, correction=0)
    return spread


def nqm(predictions: Tensor) -> Tensor:
    """NCA quality metric, (B, C): sum of the cells' standard deviations divided by the sum of their means.

    It is 0 for equal runs, higher for less reliable predictions, and NaN if a prediction is NaN. The same deviation
    around a small structure counts more than around a large one. It does not measure errors: it is low if all runs
    agree on an empty or wrong structure.

    Raises
    ------
    ConfigError
        If there are fewer than two runs, or predictions are negative.

    Notes
    -----
    Kalkhof et al. (2023), "M3D-NCA: Robust 3D Segmentation with Built-In Quality Control".

    Examples
    --------
    >>> nqm(torch.tensor([0.25, 0.75]).view(2, 1, 1, 1)).item()
    0.5
    """
    spread = deviation(predictions)
    if predictions.numel() and float(predictions.min()) < 0:
        raise ConfigError("the quality metric is one of probabilities: a prediction is below 0")
    total = spread.flatten(2).sum(2) if spread.dim() > 2 else spread
    mean = predictions.mean(0)
    whole = mean.flatten(2).sum(2) if mean.dim() > 2 else mean
    score: Tensor = torch.where(total == 0, 0.0, total / whole)
    return score


def _entropy(probability: Tensor, axis: int, exclusive: bool) -> Tensor:
    own: Tensor = torch.special.entr(probability)
    return own.sum(axis, keepdim=True) if exclusive else own + torch.special.entr(1 - probability)


def _check_probabilities(predictions: Tensor) -> None:
    _check(predictions, least=1)
    if predictions.numel() and not bool(((predictions >= 0) & (predictions <= 1)).all()):
        raise ConfigError("an entropy is one of probabilities: a prediction is not between 0 and 1")


def entropy(predictions: Tensor, *, exclusive: bool = False) -> Tensor:
    """Entropy of the mean prediction in nats: the total uncertainty of image and model.

    Returns
    -------
    (B, 1, *spatial) tensor for exclusive classes, otherwise (B, C, *spatial)

    Raises
    ------
    ConfigError
        If a prediction is not in [0, 1].

    Examples
    --------
    >>> round(entropy(torch.tensor([0.25, 0.75]).view(2, 1, 1, 1)).item(), 6)  # log(2)
    0.693147
    """
    _check_probabilities(predictions)
    return _entropy(predictions.mean(0), 1, exclusive)


def mutual_information(predictions: Tensor, *, exclusive: bool = False) -> Tensor:
    """Entropy of the mean minus the mean entropy in nats: the uncertainty due to differences of the runs.

    Returns
    -------
    See :func:`entropy`; at least 0.

    Examples
    --------
    >>> runs = torch.tensor([0.0, 1.0]).view(2, 1, 1, 1)
    >>> round(mutual_information(runs).item(), 6), mutual_information(0.5 + 0 * runs).item()
    (0.693147, 0.0)
    """
    whole = entropy(predictions, exclusive=exclusive)
    each = _entropy(predictions, 2, exclusive)
    return (whole - each.mean(0)).clamp(min=0)


def decisions(predictions: Tensor, *, exclusive: bool = False) -> Tensor:
    """Decisions, (N, B, C, *spatial) bool: above 0.5, or the most likely of exclusive classes."""
    _check(predictions, least=1)
    if not exclusive:
        return predictions > 0.5
    chosen = predictions.argmax(2, keepdim=True)
    return torch.zeros_like(predictions, dtype=torch.bool).scatter_(2, chosen, True)


def pairwise_dice(predictions: Tensor, *, exclusive: bool = False) -> Tensor:
    """Dice score between the decisions of two runs, averaged over all pairs, (B, C).

    Two empty masks score 1. The score is NaN if a run contains NaN.

    Examples
    --------
    >>> runs = torch.tensor([[0.9, 0.9, 0.1], [0.9, 0.1, 0.1]]).view(2, 1, 1, 3)
    >>> round(pairwise_dice(runs).item(), 6)  # 2 * 1 / (2 + 1)
    0.666667
    """
    _check(predictions)
    cells = predictions if predictions.dim() > 3 else predictions.unsqueeze(3)
    masks = decisions(cells, exclusive=exclusive).flatten(3)
    sizes, pairs = masks.sum(3), []
    for n in range(1, len(masks)):
        common, total = (masks[n] & masks[:n]).sum(3), sizes[n] + sizes[:n]
        pairs.append((2 * common).double().div(total.clamp(min=1)).where(total > 0, 1.0))
    unknown = _unknown(cells, exclusive).flatten(2).any(2)
    return torch.cat(pairs).mean(0).float().masked_fill(unknown, torch.nan)


def disagreement(predictions: Tensor, *, exclusive: bool = False) -> Tensor:
    """Fraction of the pairs of runs with different decisions about a cell, (B, C, *spatial); NaN if a run is NaN."""
    _check(predictions)
    runs = len(predictions)
    inside = decisions(predictions, exclusive=exclusive).sum(0)
    share = inside * (runs - inside) * 2 / (runs * (runs - 1))
    return share.masked_fill(_unknown(predictions, exclusive), torch.nan)


def _unknown(predictions: Tensor, exclusive: bool) -> Tensor:
    """Mask of cells with NaN in a run, (B, C, *spatial) bool; for exclusive classes, in any class."""
    unknown = predictions.isnan().any(0)
    return unknown.any(1, keepdim=True).expand_as(unknown) if exclusive else unknown
