"""Scores of predictions, and which value of a score is best."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from delira_nca.checks import require_number
from delira_nca.errors import ConfigError, require_choice
from delira_nca.losses.checks import class_labels, same_shape
from delira_nca.losses.depth import abs_rel, rmse, within_ratio
from delira_nca.losses.segmentation import dice_score, multiclass_dice_score
from delira_nca.losses.squared import mse, per_sample_mse
from delira_nca.losses.structure import ssim

__all__ = ["accuracy", "agreement", "direction", "macro_accuracy", "psnr"]


def accuracy(logits: Tensor, label: Tensor, *, average: str = "micro") -> Tensor:
    """Fraction of correct predictions. It is not differentiable.

    Parameters
    ----------
    logits : Tensor
        (B, K) or (B, K, *spatial) logits; the maximum is the predicted class.
    label : Tensor
        (B, *spatial) or (B, 1, *spatial) integers from 0 to K - 1.
    average : {"micro", "macro"}
        ``"micro"`` averages over all predictions, ``"macro"`` over the accuracies of the classes that occur in
        the labels (balanced accuracy). The latter is not a mean over samples: its average over batches only
        approximates the value for the whole data set.

    Returns
    -------
    () tensor in [0, 1]; NaN if a prediction is NaN.

    Raises
    ------
    ShapeError, ConfigError, UnknownNameError
        If the shapes do not fit, the label contains values outside of 0 to K - 1, or the average is unknown.

    Examples
    --------
    >>> import torch
    >>> logits, label = torch.eye(2)[[0, 0, 0, 1]], torch.tensor([0, 0, 1, 1])
    >>> accuracy(logits, label).item(), accuracy(logits[:3], label[:3], average="macro").item()
    (0.75, 0.5)
    """
    require_choice("average", average, ("micro", "macro"))
    label = class_labels(logits, label)
    if bool(logits.isnan().any()):
        return logits.new_full((), torch.nan)
    right = (logits.argmax(1) == label).flatten()
    if average == "micro":
        return right.float().mean()
    counts = torch.bincount(label.flatten(), minlength=logits.shape[1])
    found = torch.bincount(label.flatten()[right], minlength=logits.shape[1])
    return (found[counts > 0] / counts[counts > 0]).mean()


def macro_accuracy(logits: Tensor, label: Tensor) -> Tensor:
    """Accuracy averaged over classes: :func:`accuracy` with ``average="macro"``."""
    return accuracy(logits, label, average="macro")


def agreement(votes: Tensor) -> Tensor:
    """Fraction of the samples in which all living cells vote for the same class.

    Parameters
    ----------
    votes : Tensor
        (B, K) fractions of the living cells that vote for each class; 0 for samples without living cells.

    Returns
    -------
    () tensor in [0, 1]

    Notes
    -----
    This is the total agreement of Randazzo et al. (2020). :func:`accuracy` measures whether the class is correct.

    Examples
    --------
    >>> import torch
    >>> agreement(torch.tensor([[1.0, 0.0], [0.9, 0.1]])).item()
    0.5
    """
    return (votes == 1).any(1).float().mean()


def psnr(pred: Tensor, label: Tensor, *, data_range: float = 1.0) -> Tensor:
    """Peak signal-to-noise ratio in decibels, averaged over samples.

    Parameters
    ----------
    pred, label : Tensor
        (B, ...) tensors of one shape.
    data_range : float
        Distance between the smallest and the largest possible value.

    Returns
    -------
    () tensor; infinite if a prediction equals its label.

    Raises
    ------
    ShapeError, ConfigError
        If the shapes differ, or ``data_range`` is not positive.

    Examples
    --------
    >>> import torch
    >>> psnr(torch.full((1, 1, 4, 4), 0.1), torch.zeros(1, 1, 4, 4)).item()
    20.0
    """
    same_shape(pred, label)
    require_number("data_range", data_range, above=0)
    return (10 * torch.log10(data_range**2 / per_sample_mse(pred, label))).mean()


_DIRECTIONS: dict[Callable[..., Any], str] = {
    abs_rel: "lowest",
    accuracy: "highest",
    agreement: "highest",
    dice_score: "highest",
    macro_accuracy: "highest",
    mse: "lowest",
    multiclass_dice_score: "highest",
    psnr: "highest",
    rmse: "lowest",
    ssim: "highest",
    within_ratio: "highest",
}


def direction(score: Callable[..., Any]) -> str:
    """Return which value of a score is best, ``"highest"`` or ``"lowest"``, as for the trainer's ``val_score_mode``.

    Raises
    ------
    ConfigError
        If the function is neither a score of the package nor has an attribute ``direction``.

    Examples
    --------
    >>> direction(accuracy), direction(mse)
    ('highest', 'lowest')
    """
    found = getattr(score, "direction", None) or _DIRECTIONS.get(score)
    if found not in ("highest", "lowest"):
        name = getattr(score, "__name__", repr(score))
        raise ConfigError(
            f"the better direction of {name} is unknown: give it an attribute direction, highest or lowest"
        )
    return found
