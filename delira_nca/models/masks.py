"""Masks of the living cells and of the cells that update."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from delira_nca.checks import plain_numbers

__all__ = ["AliveMask", "InputMask"]

_MAX_POOL = {3: F.max_pool1d, 4: F.max_pool2d, 5: F.max_pool3d}


@plain_numbers
@dataclass(frozen=True)
class AliveMask:
    """Mask of living cells: the maximum of the alive channel over a cell and its neighbours exceeds a threshold.

    Dead cells are set to zero in all channels but the fixed ones.

    Parameters
    ----------
    channel : int
        Index of the alive channel; 3 (alpha) for RGBA states.
    threshold : float
        Value that a living cell must exceed.
    before : bool
        Whether a cell must live before the update.
    after : bool
        Whether a cell must live after the update.
    num_spared : int
        Number of channels, the last ones, that keep their values in dead cells, for instance an angle that is set at
        the start. Only the reference back end supports values above 0.

    Notes
    -----
    Mordvintsev et al. (2020) apply the mask before and after the update. NCALab applies it only after, so that a dead
    cell next to living ones can come alive by its own update.

    Examples
    --------
    >>> import torch
    >>> x = torch.zeros(1, 4, 5, 5)
    >>> x[0, 3, 2, 2] = 0.11
    >>> int(AliveMask()(x).sum())
    9
    """

    channel: int = 3
    threshold: float = 0.1
    before: bool = True
    after: bool = True
    num_spared: int = 0

    def __call__(self, x: Tensor) -> Tensor:
        """Map a (B, C, *spatial) state to a (B, 1, *spatial) bool mask."""
        with torch.no_grad():
            alpha = x[:, self.channel : self.channel + 1]
            mask: Tensor = _MAX_POOL[x.dim()](alpha, 3, 1, 1) > self.threshold
        return mask


@plain_numbers
@dataclass(frozen=True)
class InputMask:
    """Mask of cells that update: those where an immutable image channel exceeds a threshold.

    All other cells keep their initial state. Unlike the alive mask, this mask is constant over the steps.

    Parameters
    ----------
    channel : int
        Index of an image channel. The image channels must be immutable.
    threshold : float
        Value that the channel must exceed.

    Notes
    -----
    Randazzo et al. (2020), "Self-classifying MNIST Digits", where the cells of the background do not update.

    Examples
    --------
    >>> import torch
    >>> x = torch.tensor([[[0.0, 0.1, 0.5]]])
    >>> InputMask(channel=0, threshold=0.1)(x).tolist()
    [[[False, False, True]]]
    """

    channel: int = 0
    threshold: float = 0.1

    def __call__(self, x: Tensor) -> Tensor:
        """Map a (B, C, *spatial) state to a (B, 1, *spatial) bool mask."""
        return x[:, self.channel : self.channel + 1].detach() > self.threshold
