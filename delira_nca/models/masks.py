"""Which cells are alive, and which get an input."""

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
    """A cell lives while the largest alive channel among it and its neighbours is above a threshold.

    A dead cell is zero in all channels but the fixed ones.

    Parameters
    ----------
    channel : int
        Index of the alive channel; alpha, 3, for RGBA states.
    threshold : float
        Strictly above it is alive.
    before : bool
        Whether a cell must live before the update.
    after : bool
        Whether a cell must live after the update.
    num_spared : int
        So many of the last channels stay what they are in a dead cell: an angle, for instance, that cells are born
        with. The reference back end alone spares channels.

    Notes
    -----
    Mordvintsev et al. (2020) ask before and after; NCALab only after, so that there a dead cell next to life can come
    alive by itself.

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
        """(B, C, *spatial) state to (B, 1, *spatial) bool."""
        with torch.no_grad():
            alpha = x[:, self.channel : self.channel + 1]
            mask: Tensor = _MAX_POOL[x.dim()](alpha, 3, 1, 1) > self.threshold
        return mask


@plain_numbers
@dataclass(frozen=True)
class InputMask:
    """A cell updates only where a channel of the input, which never changes, is above a threshold.

    All others keep their state, in the first step as in the last. Unlike life this does not spread.

    Parameters
    ----------
    channel : int
        Index of an image channel; the image channels are immutable.
    threshold : float
        Strictly above it cells update.

    Notes
    -----
    Randazzo et al. (2020), "Self-classifying MNIST Digits": cells of the paper do nothing.

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
        """(B, C, *spatial) state to (B, 1, *spatial) bool."""
        return x[:, self.channel : self.channel + 1].detach() > self.threshold
