"""Focal loss: cross entropy with a lower weight for correct predictions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from delira_nca.checks import require_number
from delira_nca.errors import ConfigError
from delira_nca.losses.checks import at_least_single, class_labels, mask_values, same_shape

__all__ = ["focal", "multiclass_focal"]


def focal(logits: Tensor, target: Tensor, *, gamma: float = 2.0, alpha: float | None = None) -> Tensor:
    """Focal loss of each element, averaged.

    Parameters
    ----------
    logits : Tensor
        Scores before the sigmoid.
    target : Tensor
        Tensor of the same shape with values from 0 to 1.
    gamma : float
        Exponent of ``1 - p_t``, the predicted probability of the wrong class; 0 gives the binary cross entropy.
    alpha : float or None
        Weight of elements with target 1, from 0 to 1; elements with target 0 have the weight ``1 - alpha``. None
        applies no weights.

    Returns
    -------
    () tensor

    Raises
    ------
    ShapeError
        If the shapes differ.
    ConfigError
        If the target has values outside of [0, 1], ``gamma`` is below 0, or ``alpha`` is outside of [0, 1].

    Notes
    -----
    Lin et al. (2017), "Focal Loss for Dense Object Detection", eqs. 4 and 5.

    Examples
    --------
    >>> import torch
    >>> round(focal(torch.zeros(3), torch.ones(3)).item(), 6)  # 0.5 ** 2 * log(2)
    0.173287
    """
    same_shape(logits, target)
    mask_values(target)
    require_number("gamma", gamma, 0)
    if alpha is not None:
        require_number("alpha", alpha, 0, 1)
    logits = at_least_single(logits)
    target = target.to(logits.dtype)
    towards = logits * (2 * target - 1)  # positive for correct predictions
    loss = -(gamma * F.logsigmoid(-towards)).exp() * F.logsigmoid(towards)
    if alpha is not None:
        loss = loss * (alpha * target + (1 - alpha) * (1 - target))
    return loss.mean()


def multiclass_focal(
    logits: Tensor, label: Tensor, *, gamma: float = 2.0, alpha: Sequence[float] | Tensor | None = None
) -> Tensor:
    """Focal loss of several classes, averaged over samples and cells.

    Parameters
    ----------
    logits : Tensor
        (B, K, *spatial) float tensor. Scores before the softmax.
    label : Tensor
        (B, *spatial) or (B, 1, *spatial) integers from 0 to K - 1.
    gamma : float
        Exponent of ``1 - p_t``; 0 gives the cross entropy.
    alpha : sequence of float, Tensor or None
        One weight for each of the K classes; None applies no weights. The mean is over elements, not over weights.

    Returns
    -------
    () tensor

    Raises
    ------
    ShapeError, ConfigError
        If the shapes do not fit, the label contains values outside of 0 to K - 1, ``gamma`` is below 0, or ``alpha`` is
        not one non-negative weight per class.

    Notes
    -----
    Lin et al. (2017), with the softmax in place of the sigmoid.

    Examples
    --------
    >>> import torch
    >>> round(multiclass_focal(torch.zeros(3, 4), torch.tensor([0, 1, 3])).item(), 6)  # 0.75 ** 2 * log(4)
    0.779791
    """
    label = class_labels(logits, label)
    require_number("gamma", gamma, 0)
    log_p = at_least_single(logits).log_softmax(1)
    index = label.unsqueeze(1)
    log_wrong = log_p.masked_fill(torch.zeros_like(log_p, dtype=torch.bool).scatter(1, index, True), -torch.inf)
    loss = -(gamma * log_wrong.logsumexp(1)).exp() * log_p.gather(1, index).squeeze(1)
    if alpha is not None:
        weights = torch.as_tensor(alpha, dtype=loss.dtype, device=loss.device)
        if weights.shape != (logits.shape[1],) or bool((weights < 0).any()):
            raise ConfigError(f"alpha is one weight of at least 0 for each of {logits.shape[1]} classes, not {alpha!r}")
        loss = loss * weights[label]
    return loss.mean()
