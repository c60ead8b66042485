"""The cells of a batch as rows of numbers: channels last, with a border around every sample for the padding."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from delira_nca.rollout.plain import AliveRule

__all__ = ["Rows", "living_rows", "spread"]


class Rows:
    """Where the cells of a batch stand in a (rows, ...) tensor, border included.

    A line of cells is treated as a picture that is one cell high.

    Parameters
    ----------
    samples : batch size.
    shape : spatial shape of the grid.
    radius : width of the border along each axis.
    padding : what the border holds: zeros, reflect, replicate or circular.

    Examples
    --------
    >>> grid = Rows(1, (3,), (1,), "circular")
    >>> grid.load(torch.tensor([[[1.0, 2.0, 3.0]]])).flatten().tolist()
    [3.0, 1.0, 2.0, 3.0, 1.0]
    """

    def __init__(self, samples: int, shape: Sequence[int], radius: Sequence[int], padding: str) -> None:
        self._is_line = len(shape) == 1
        self.samples = samples
        self.shape = (1, *shape) if self._is_line else tuple(shape)
        self.radius = (0, *radius) if self._is_line else tuple(radius)
        self.padded = tuple(size + 2 * reach for size, reach in zip(self.shape, self.radius, strict=True))
        self.number = samples * prod(self.padded)
        self.index_dtype = torch.int32 if self.number < 2**31 else torch.int64
        self._border = [
            (axis + 1, *pair)
            for axis, (size, reach) in enumerate(zip(self.shape, self.radius, strict=True))
            for pair in _border_pairs(size, reach, padding)
        ]

    def inner(self, rows: Tensor) -> Tensor:
        """(rows, ...) to the (samples, *shape, ...) view of what lies inside of the border."""
        view = rows.view(self.samples, *self.padded, *rows.shape[1:])
        for axis, (size, reach) in enumerate(zip(self.shape, self.radius, strict=True)):
            if reach:
                view = view.narrow(axis + 1, reach, size)
        return view

    def image(self, rows: Tensor) -> Tensor:
        """(rows, C) to the (samples, C, *padded) view in the order of memory that convolutions are fastest on."""
        return rows.view(self.samples, *self.padded, rows.shape[1]).movedim(-1, 1)

    def cells_last(self, x: Tensor) -> Tensor:
        """(B, C, *spatial) to its (samples, *shape, C) view."""
        return (x.unsqueeze(2) if self._is_line else x).movedim(1, -1)

    def load(self, x: Tensor) -> Tensor:
        """(B, C, *spatial) to (rows, C), with the border filled."""
        return self.restore(self.cells_last(x))

    def save(self, rows: Tensor) -> Tensor:
        """(rows, C) to a new (samples, *shape, C) tensor."""
        return self.inner(rows).clone(memory_format=torch.contiguous_format)

    def restore(self, cells: Tensor) -> Tensor:
        """(samples, *shape, C) to (rows, C), with the border filled."""
        rows = cells.new_zeros(self.number, cells.shape[-1])
        self.inner(rows).copy_(cells)
        self.fill_border(rows)
        return rows

    def unload(self, rows: Tensor) -> Tensor:
        """(rows, C) to a new (B, C, *spatial) tensor."""
        x = self.inner(rows).movedim(-1, 1).clone(memory_format=torch.contiguous_format)
        return x.squeeze(2) if self._is_line else x

    def mask(self, cells: Tensor) -> Tensor:
        """(B, 1, *spatial) bool to (rows,), False on the border."""
        rows = cells.new_zeros(self.number)
        self.inner(rows).copy_(self.cells_last(cells).squeeze(-1))
        return rows

    def fill_border(self, rows: Tensor) -> None:
        """Copy into the border what the padding shows there."""
        view = rows.view(self.samples, *self.padded, -1)
        for axis, to, source in self._border:
            view.select(axis, to).copy_(view.select(axis, source))

    def fold_border(self, grad: Tensor) -> None:
        """Add the gradients of the border to those of the cells that it shows, and clear it."""
        view = grad.view(self.samples, *self.padded, -1)
        for axis, to, source in reversed(self._border):
            view.select(axis, source).add_(view.select(axis, to))
            view.select(axis, to).zero_()


def _border_pairs(size: int, reach: int, padding: str) -> list[tuple[int, int]]:
    """(place in the border, place that it shows) along one axis, counted with the border."""
    first, last = reach, reach + size - 1
    pairs: list[tuple[int, int]] = []
    for j in range(1, reach + 1):
        if padding == "reflect":
            pairs += [(first - j, first + j), (last + j, last - j)]
        elif padding == "replicate":
            pairs += [(first - j, first), (last + j, last)]
        elif padding == "circular":
            pairs += [(first - j, last + 1 - j), (last + j, first - 1 + j)]
    return pairs


def spread(cells: Tensor) -> Tensor:
    """Largest value of each cell and its neighbours in a (samples, *shape) tensor; a NaN is larger than all."""
    for axis in range(1, cells.dim()):
        rest = cells.shape[axis] - 1
        if rest:
            wider = cells.clone(memory_format=torch.contiguous_format)
            for to, source in ((1, 0), (0, 1)):
                part = wider.narrow(axis, to, rest)
                torch.maximum(part, cells.narrow(axis, source, rest), out=part)
            cells = wider
    return cells


def living_rows(grid: Rows, rule: AliveRule, values: Tensor) -> Tensor:
    """(rows,) values of the alive channel to a (number,) bool mask of the cells that live, False on the border."""
    rows = torch.zeros(grid.number, dtype=torch.bool, device=values.device)
    torch.gt(spread(grid.inner(values)), rule.threshold, out=grid.inner(rows))
    return rows
