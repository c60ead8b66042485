"""Rows of cells in memory, and the layers of a rule on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from delira_nca.rollout.cell_parameters import AliveRule, CellParameters

__all__ = ["Layers", "Rows", "living_rows", "spread", "tile_rows", "tiles"]


class Rows:
    """Layout of the cells of a batch, including the border, in a (rows, ...) tensor.

    A 1D grid is treated as an image with a height of one cell.

    Parameters
    ----------
    samples : int
        Batch size.
    shape : sequence of int
        Spatial shape of the grid.
    radius : sequence of int
        Width of the border along each axis.
    padding : str
        Values of the border: ``"zeros"``, ``"reflect"``, ``"replicate"`` or ``"circular"``.

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
        """Return the (samples, *shape, ...) view of (rows, ...) without the border."""
        view = rows.view(self.samples, *self.padded, *rows.shape[1:])
        for axis, (size, reach) in enumerate(zip(self.shape, self.radius, strict=True)):
            if reach:
                view = view.narrow(axis + 1, reach, size)
        return view

    def image(self, rows: Tensor) -> Tensor:
        """Return the (samples, C, *padded) view of (rows, C), in channels-last order, the fastest for convolutions."""
        return rows.view(self.samples, *self.padded, rows.shape[1]).movedim(-1, 1)

    def cells_last(self, x: Tensor) -> Tensor:
        """Return the (samples, *shape, C) view of (B, C, *spatial)."""
        return (x.unsqueeze(2) if self._is_line else x).movedim(1, -1)

    def load(self, x: Tensor) -> Tensor:
        """Convert (B, C, *spatial) to (rows, C), with the border filled."""
        return self.restore(self.cells_last(x))

    def save(self, rows: Tensor) -> Tensor:
        """Convert (rows, C) to a new (samples, *shape, C) tensor."""
        return self.inner(rows).clone(memory_format=torch.contiguous_format)

    def restore(self, cells: Tensor) -> Tensor:
        """Convert (samples, *shape, C) to (rows, C), with the border filled."""
        rows = cells.new_zeros(self.number, cells.shape[-1])
        self.inner(rows).copy_(cells)
        self.fill_border(rows)
        return rows

    def unload(self, rows: Tensor) -> Tensor:
        """Convert (rows, C) to a new (B, C, *spatial) tensor."""
        x = self.inner(rows).movedim(-1, 1).clone(memory_format=torch.contiguous_format)
        return x.squeeze(2) if self._is_line else x

    def mask(self, cells: Tensor) -> Tensor:
        """Convert a (B, 1, *spatial) bool mask to (rows,), False on the border."""
        rows = cells.new_zeros(self.number)
        self.inner(rows).copy_(self.cells_last(cells).squeeze(-1))
        return rows

    def fill_border(self, rows: Tensor) -> None:
        """Set the border to the values of the padding."""
        view = rows.view(self.samples, *self.padded, -1)
        for axis, to, source in self._border:
            view.select(axis, to).copy_(view.select(axis, source))

    def fold_border(self, grad: Tensor) -> None:
        """Add the gradients of the border to those of the cells that it copies, and set them to zero."""
        view = grad.view(self.samples, *self.padded, -1)
        for axis, to, source in reversed(self._border):
            view.select(axis, source).add_(view.select(axis, to))
            view.select(axis, to).zero_()


def _border_pairs(size: int, reach: int, padding: str) -> list[tuple[int, int]]:
    """Return pairs (index in the border, index that it copies) along one axis, including the border."""
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
    """Return the maximum over each cell and its neighbours in a (samples, *shape) tensor; NaN propagates."""
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
    """Map (rows,) values of the alive channel to the (number,) bool mask of living cells, False on the border."""
    rows = torch.zeros(grid.number, dtype=torch.bool, device=values.device)
    torch.gt(spread(grid.inner(values)), rule.threshold, out=grid.inner(rows))
    return rows


_TILE, _GRAIN, _SAMPLES = 6144, 256, 16
_aten = torch.ops.aten


class _Nonlinearity(NamedTuple):
    """Function and its gradient, as a function of the result if possible, else of the argument."""

    forward: Callable[[Tensor], Tensor]
    backward: Callable[[Tensor, Tensor], Tensor]
    needs_argument: bool = False


_NONLINEARITIES = {
    "relu": _Nonlinearity(
        torch.relu_, lambda grad, out: _aten.threshold_backward.grad_input(grad, out, 0, grad_input=grad)
    ),
    "leaky_relu": _Nonlinearity(
        lambda x: F.leaky_relu(x, inplace=True), lambda grad, out: _aten.leaky_relu_backward(grad, out, 0.01, True)
    ),
    "tanh": _Nonlinearity(torch.tanh_, lambda grad, out: _aten.tanh_backward(grad, out)),
    "gelu": _Nonlinearity(F.gelu, lambda grad, x: _aten.gelu_backward(grad, x), needs_argument=True),
    "silu": _Nonlinearity(F.silu, lambda grad, x: _aten.silu_backward(grad, x), needs_argument=True),
}


def tile_rows(number: int) -> int:
    """Return the size of the tile for a number of rows. There are few sizes, as the first use of each takes 1 ms.

    Examples
    --------
    >>> [tile_rows(number) for number in (1, 100, 300, 5000)]
    [16, 128, 512, 5120]
    """
    if number > _GRAIN:
        return min(-(-number // _GRAIN) * _GRAIN, _TILE)
    return max(_SAMPLES, 1 << (number - 1).bit_length())


def tiles(rows: Tensor) -> Iterator[tuple[Tensor, int]]:
    """Split rows into parts that fit into the cache; yield each with the number of rows of its tile."""
    for begin in range(0, len(rows), _TILE):
        part = rows[begin : begin + _TILE]
        yield part, tile_rows(len(part))


class Layers:
    """Multi-layer perceptron of a cell.

    Parameters
    ----------
    parameters : CellParameters
        Plain form of the automaton, with tensors that do not require gradients.
    columns : int
        Number of columns of a perception: those of the first weights without that of the time.
    """

    def __init__(self, parameters: CellParameters, columns: int) -> None:
        first, *others = parameters.weights
        self.columns = columns
        self._weights = [first[:, :columns].contiguous(), *(weight.contiguous() for weight in others)]
        self._biases = parameters.biases
        self._time_scale = parameters.time_scale
        self._of_time = None if parameters.time_scale is None else first[:, columns]
        self._activate = _NONLINEARITIES[parameters.nonlinearity]

    def update(self, seen: Tensor, t: int) -> Tensor:
        """Map the (n, columns) perception at step ``t`` to the (n, free channels) update."""
        *_, update = self._pass(seen, t)
        return update

    def _pass(self, seen: Tensor, t: int) -> Iterator[Tensor]:
        """Yield the tensor that the gradient of each nonlinearity needs, and its output; then the update."""
        last = len(self._weights) - 1
        for index, (weight, bias) in enumerate(zip(self._weights, self._biases, strict=True)):
            if index == 0 and self._of_time is not None and self._time_scale is not None:
                told = self._of_time * (t * self._time_scale)
                bias = told if bias is None else bias + told
            out = _product(seen, weight, bias)
            if index < last:
                if self._activate.needs_argument:
                    yield out
                seen = out = self._activate.forward(out)
            yield out

    def learn(self, seen: Tensor, of_update: Tensor, t: int, sums: CellParameters, *, into_seen: bool) -> Tensor | None:
        """Accumulate the gradients of the layers.

        Parameters
        ----------
        seen : Tensor
            (n, columns) perception.
        of_update : Tensor
            (n, free channels) gradient of the update.
        t : int
            Number of the step.
        sums : CellParameters
            Gradients of the automaton's tensors, accumulated in place; None for those that are not needed.
        into_seen : bool
            Whether the gradient of the perception is needed.

        Returns
        -------
        (n, columns) tensor or None
            The gradient of the perception.
        """
        each = 2 if self._activate.needs_argument else 1
        outputs = list(islice(self._pass(seen, t), each * (len(self._weights) - 1)))  # the update is not needed
        arguments, inputs = outputs[::each], [seen, *outputs[each - 1 :: each]]
        grad = of_update
        for index in reversed(range(len(self._weights))):
            of_weight, of_bias = sums.weights[index], sums.biases[index]
            time = None if index or self._time_scale is None or of_weight is None else of_weight[:, self.columns]
            if of_bias is not None or time is not None:
                total = grad.sum(0)
                if of_bias is not None:
                    of_bias.add_(total)
                if time is not None and self._time_scale is not None:
                    time.add_(total, alpha=t * self._time_scale)
            below = into_seen or any(s is not None for s in (*sums.weights[:index], *sums.biases[:index]))
            of_input, part = _product_backward(grad, inputs[index], self._weights[index], below, of_weight is not None)
            if part is not None:
                of_weight[:, : part.shape[1]].add_(part)
            if of_input is None:
                return None
            grad = self._activate.backward(of_input, arguments[index - 1]) if index else of_input
        return grad


def _image(rows: Tensor) -> Tensor:
    """View (n, C) rows as (samples, C, n / samples, 1) in channels-last order, the input of a 1 x 1 convolution."""
    return rows.view(_SAMPLES, len(rows) // _SAMPLES, 1, rows.shape[1]).movedim(-1, 1)


def _takes_convolution(rows: Tensor) -> bool:
    return rows.dtype == torch.float32 and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]


def _product(rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Multiply (n, in) rows by (out, in) weights to (n, out).

    In float32, a 1 x 1 convolution computes the product, to use oneDNN instead of the BLAS library of ``F.linear``.
    """
    if not _takes_convolution(rows):
        return F.linear(rows, weight, bias)
    out = F.conv2d(_image(rows), weight[..., None, None], bias)
    return out.movedim(1, -1).reshape(len(rows), -1)


def _product_backward(
    grad: Tensor, rows: Tensor, weight: Tensor, into_rows: bool, into_weight: bool
) -> tuple[Tensor | None, Tensor | None]:
    """Return the gradients of the rows and of the weights, as far as they are needed."""
    if not _takes_convolution(rows):
        return grad @ weight if into_rows else None, grad.t() @ rows if into_weight else None
    if not into_rows and not into_weight:
        return None, None
    arguments = _image(grad), _image(rows), weight[..., None, None], None
    of_rows, of_weight, _ = _aten.convolution_backward(
        *arguments, [1, 1], [0, 0], [1, 1], False, [0, 0], 1, [into_rows, into_weight, False]
    )
    return (
        of_rows.movedim(1, -1).reshape(rows.shape) if into_rows else None,
        of_weight.view(weight.shape) if into_weight else None,
    )
