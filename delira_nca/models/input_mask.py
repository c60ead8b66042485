"""Which cells update at all: those of which the input says so."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from delira_nca.checks import plain_numbers

__all__ = ["InputMask"]


@plain_numbers
@dataclass(frozen=True)
class InputMask:
    """A cell updates only where a channel of the input, which never changes, is above a threshold.

    All others keep their state, in the first step as in the last. Unlike life this does not spread.

    Parameters
    ----------
    channel : index of an image channel; the image channels are immutable.
    threshold : strictly above it cells update.

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
