"""The part of the grid in which anything can happen: space without life is not computed.

Where a cell must live before it may update, a step cannot reach farther than one cell beyond what is not zero. So the
box around all that is not zero, wider by as many cells as steps are to come, holds the whole future of these steps,
and beyond it everything is and stays exactly zero, which is also what zero padding sees there. Gradients reach a bit
farther: what a cell beside the box saw in the first step has one too, though its value is zero.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

__all__ = ["WINDOW_STEPS", "Window"]

WINDOW_STEPS = 4
"""Steps between two looks for the box: more would widen it, fewer would look too often."""


class Window:
    """Box of cells, the same for all samples of a batch.

    Parameters
    ----------
    state : (B, C, *spatial) to look at.
    margin : cells around the smallest box that holds all that is not zero.

    Examples
    --------
    >>> import torch
    >>> x = torch.zeros(1, 4, 9, 9)
    >>> x[0, 3, 4, 6] = 1.0
    >>> window = Window(x, margin=2)
    >>> window.cut(x).shape, torch.equal(window.put_back(window.cut(x)), x)
    (torch.Size([1, 4, 5, 5]), True)
    """

    def __init__(self, state: Tensor, margin: int) -> None:
        self.shape = state.shape[2:]
        occupied = (state != 0).flatten(0, 1).any(0)
        self.bounds: list[tuple[int, int]] = []
        for axis, size in enumerate(self.shape):
            others = [other for other in range(len(self.shape)) if other != axis]
            line = (occupied.amax(others) if others else occupied).nonzero()
            if len(line) == 0:  # nothing anywhere: one cell stands for all
                self.bounds.append((0, 1))
                continue
            first, last = int(line[0]), int(line[-1])
            self.bounds.append((max(first - margin, 0), min(last + 1 + margin, size)))

    def cut(self, tensor: Tensor) -> Tensor:
        """(B, C, *spatial) to the (B, C, *box) view of it."""
        for axis, (first, last) in enumerate(self.bounds):
            tensor = tensor.narrow(axis + 2, first, last - first)
        return tensor

    def put_back(self, tensor: Tensor) -> Tensor:
        """(B, C, *box) to (B, C, *spatial), zero around it."""
        pads: list[int] = []
        for size, (first, last) in zip(reversed(self.shape), reversed(self.bounds), strict=True):
            pads += [first, size - last]
        return F.pad(tensor, pads) if any(pads) else tensor
