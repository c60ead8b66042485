"""One step on rows of cells, forward and backward. The rule is applied only to cells that can change.

The filters are dense depth-wise convolutions in channels-last order, which are faster than selecting the cells first.
Then only the rows of cells that fire and may live are gathered and passed through the layers of the rule.

A step records the values that it overwrites, so that the backward pass needs no stored states: it restores the old
values, recomputes the perception of the changed cells, and accumulates gradients.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from delira_nca.rollout.cell_parameters import CellParameters
from delira_nca.rollout.job import Job
from delira_nca.rollout.sparse_kernels import Layers, Rows, living_rows, spread, tile_rows, tiles

__all__ = ["Change", "Stepper"]

_VIEW_BYTES = 2**24
_aten = torch.ops.aten


class Change(NamedTuple):
    """Values that one step overwrote: the free channels of cells that were updated, and of cells that only died."""

    rows: Tensor
    old: Tensor
    died: Tensor | None
    died_old: Tensor | None
    living: Tensor | None

    @property
    def nbytes(self) -> int:
        """Number of bytes of all tensors."""
        return sum(tensor.nbytes for tensor in self if tensor is not None)


@dataclass
class _Bank:
    """Filters of one convolution, and their columns of the perception. The identity has no weight."""

    columns: slice
    weight: Tensor | None = None
    bias: Tensor | None = None
    groups: int = 1
    back: Tensor | None = None
    index: int | None = None
    learned: bool = False

    @property
    def width(self) -> int:
        return self.columns.stop - self.columns.start  # type: ignore[no-any-return]


class Stepper:
    """Steps of one roll-out, in place on its rows.

    Parameters
    ----------
    job : Job
        Roll-out, with fire masks and noise.
    parameters : CellParameters
        Plain form of the automaton, with tensors that do not require gradients.
    grid : Rows
        Layout of the cells.
    """

    def __init__(self, job: Job, parameters: CellParameters, grid: Rows) -> None:
        self.job, self.parameters, self.grid = job, parameters, grid
        self.fixed, self.alive = parameters.num_fixed_channels, parameters.alive
        self._inside = grid.mask(job.x.new_ones(job.x.shape[0], 1, *job.x.shape[2:], dtype=torch.bool))
        self._all_rows = self._inside.nonzero().view(-1)
        self._all_rows_kept = self._all_rows.to(grid.index_dtype)
        self._banks = _banks(parameters)
        self._layers = Layers(parameters, self._banks[-1].columns.stop)
        tile = tile_rows(len(self._all_rows))
        self._seen = job.x.new_zeros(tile, self._layers.columns)
        sample_bytes = grid.number // grid.samples * max(bank.width for bank in self._banks) * job.x.element_size()
        self._samples = max(1, _VIEW_BYTES // sample_bytes)
        self._large_views: dict[int, Tensor] = {}
        self._of_views: list[Tensor | None] | None = None
        self._wanted = job.x.new_zeros(tile, parameters.weights[-1].shape[0])

    def forward(self, x: Tensor, t: int, held: Tensor | None, *, keep: bool) -> tuple[Tensor | None, Change | None]:
        """Compute step ``t``.

        Parameters
        ----------
        x : Tensor
            (rows, C) state, changed in place.
        t : int
            Number of the step.
        held : Tensor or None
            Mask of the cells that may be nonzero, as returned by the previous step; None if unknown.
        keep : bool
            Whether to return the overwritten values.

        Returns
        -------
        tuple of (mask of the cells that may be nonzero now, overwritten values or None)
        """
        rule, free = self.alive, x[:, self.fixed :]
        fire = self.job.fires(t)
        fired = None if fire is None else self.grid.mask(fire)
        before = None
        if rule is not None and rule.before:
            before = living_rows(self.grid, rule, x[:, rule.channel])
        asked = before if fired is None else fired if before is None else fired & before
        rows = self._all_rows if asked is None else asked.nonzero().view(-1)
        views = self._look(x) if len(rows) else []
        drawn = self.job.noise(t)
        noise = None if drawn is None else self.grid.load(drawn)
        old = free.index_select(0, rows) if keep else None
        for tile, size in tiles(rows):
            free.index_add_(0, tile, self._update(views, tile, size, t, noise))
        living = died = died_old = None
        if rule is not None:
            asked = self._inside if asked is None else asked
            living = before
            if rule.after:
                living = self._lives_after(x, t, before, fired, views, noise)
            if living is not None:
                held = (free != 0).any(1) & self._inside if held is None else held
                killed = ((held | asked) & ~living).nonzero().view(-1)
                if len(killed):
                    if keep:
                        resting = killed[~asked.index_select(0, killed)]
                        died, died_old = resting.to(self.grid.index_dtype), free.index_select(0, resting)
                    free.index_fill_(0, killed, 0.0)
                held = living
        self.grid.fill_border(x)
        if old is None:
            return held, None
        kept = self._all_rows_kept if rows is self._all_rows else rows.to(self.grid.index_dtype)
        return held, Change(kept, old, died, died_old, living)

    def backward(
        self, x: Tensor, grad: Tensor | None, t: int, change: Change, sums: CellParameters, *, into_state: bool
    ) -> None:
        """Undo step ``t`` and back-propagate through it.

        Parameters
        ----------
        x : Tensor
            (rows, C) state after the step, changed in place to that before the step.
        grad : Tensor or None
            Gradient of the state, changed in place in the same way; None if there is none yet.
        t : int
            Number of the step.
        change : Change
            Values that the step overwrote.
        sums : CellParameters
            Gradients of the automaton's tensors, accumulated in place; None for those that are not needed.
        into_state : bool
            Whether the gradient of the state before the step is needed.
        """
        free, rows = x[:, self.fixed :], change.rows.long()
        free.index_copy_(0, rows, change.old)
        if change.died is not None and change.died_old is not None:
            free.index_copy_(0, change.died.long(), change.died_old)
        self.grid.fill_border(x)
        if grad is None:
            return
        if change.living is not None:
            _clear_but(grad[:, self.fixed :], change.living)
            rows = rows[change.living.index_select(0, rows)]
        looked = _wants_perception(sums)
        if not len(rows) or not (into_state or looked or any(s is not None for s in sums.tensors())):
            return
        views = self._look(x)
        of_views = self._clean_views(x)
        for tile, size in tiles(rows):
            wanted = self._wanted[:size]
            torch.index_select(grad[:, self.fixed :], 0, tile, out=wanted[: len(tile)])
            wanted[len(tile) :].zero_()
            seen = self._gather(views, tile, size)
            of_seen = self._layers.learn(seen, wanted, t, sums, into_seen=into_state or looked)
            if of_seen is None:
                continue
            self._sum_biases(of_seen, seen, sums)
            for bank, of_view in zip(self._banks, of_views, strict=True):
                part = of_seen[: len(tile), bank.columns]
                if of_view is not None:
                    of_view.index_copy_(0, tile, part)
                elif into_state:
                    grad.index_add_(0, tile, part)
        for bank, of_view in zip(self._banks, of_views, strict=True):
            if of_view is not None:
                self._through_filters(x, grad, bank, of_view, sums, into_state)
        if into_state:
            self.grid.fold_border(grad)

    # Forward -----------------------------------------------------------------------------------------------------

    def _look(self, x: Tensor) -> list[Tensor]:
        """Return the perception of every cell, one (rows, width) tensor per bank."""
        views = []
        for index, bank in enumerate(self._banks):
            if bank.weight is None:
                views.append(x)
                continue
            parts = self._convolve(x, bank.weight, bank.bias, bank.groups)
            if self._samples >= self.grid.samples:
                views += [view for _, view in parts]
                continue
            if index not in self._large_views:
                self._large_views[index] = x.new_empty(len(x), bank.width)
            for place, view in parts:
                self._large_views[index][place] = view
            views.append(self._large_views[index])
        return views

    def _convolve(
        self, rows: Tensor, weight: Tensor, bias: Tensor | None, groups: int
    ) -> Iterator[tuple[slice, Tensor]]:
        """Yield rows and their perception for a few samples at a time, so that the memory of the results is reused."""
        convolution = F.conv2d if len(self.grid.shape) == 2 else F.conv3d
        images, size = self.grid.image(rows), len(rows) // self.grid.samples
        for begin in range(0, self.grid.samples, self._samples):
            out = convolution(images[begin : begin + self._samples], weight, bias, 1, self.grid.radius, 1, groups)
            yield slice(begin * size, (begin + len(out)) * size), out.movedim(1, -1).reshape(len(out) * size, -1)

    def _gather(self, views: list[Tensor], tile: Tensor, size: int) -> Tensor:
        seen = self._seen[:size]
        for view, bank in zip(views, self._banks, strict=True):
            torch.index_select(view, 0, tile, out=seen[: len(tile), bank.columns])
        seen[len(tile) :].zero_()
        if self.parameters.full_relu:
            seen[:, self._banks[-1].columns].relu_()
        return seen

    def _update(self, views: list[Tensor], tile: Tensor, size: int, t: int, noise: Tensor | None) -> Tensor:
        update = self._layers.update(self._gather(views, tile, size), t)[: len(tile)]
        return update if noise is None else update.add_(noise.index_select(0, tile))

    def _lives_after(
        self, x: Tensor, t: int, before: Tensor | None, fired: Tensor | None, views: list[Tensor], noise: Tensor | None
    ) -> Tensor:
        """Return the mask of the cells that live by the new state.

        A cell that did not live before dies and need not be updated. There is one exception: if one of its neighbours
        would die, the updated value of the cell may keep that neighbour alive.
        """
        rule, grid = self.alive, self.grid
        if rule is None:  # unreachable, the caller has a rule; for the type checker
            return self._inside
        after = living_rows(grid, rule, x[:, rule.channel])
        if before is None:
            return after
        doomed = before & ~after
        if rule.channel >= self.fixed and bool(doomed.any()):
            saviours = torch.zeros_like(doomed)
            grid.inner(saviours).copy_(spread(grid.inner(doomed)))
            saviours &= ~before
            if fired is not None:
                saviours &= fired
            values, channel = x[:, rule.channel].clone(), rule.channel - self.fixed
            for tile, size in tiles(saviours.nonzero().view(-1)):
                values.index_add_(0, tile, self._update(views, tile, size, t, noise)[:, channel])
            after = living_rows(grid, rule, values)
        return before & after

    # Backward ----------------------------------------------------------------------------------------------------

    def _clean_views(self, x: Tensor) -> list[Tensor | None]:
        """Return zeros for the gradients of the perception. Their memory is allocated once."""
        if self._of_views is None:
            self._of_views = [None if bank.weight is None else x.new_empty(len(x), bank.width) for bank in self._banks]
        return [None if view is None else view.zero_() for view in self._of_views]

    def _sum_biases(self, of_seen: Tensor, seen: Tensor, sums: CellParameters) -> None:
        full = self._banks[-1].columns
        if self.parameters.full_relu:
            of_seen[:, full] = _aten.threshold_backward(of_seen[:, full], seen[:, full], 0)
        if sums.full_bias is not None:
            sums.full_bias.add_(of_seen[:, full].sum(0))
        if sums.filter_bias is not None:
            depthwise = sums.filter_bias.numel()
            sums.filter_bias.add_(of_seen[:, :depthwise].sum(0).view(sums.filter_bias.shape))

    def _through_filters(
        self, x: Tensor, grad: Tensor, bank: _Bank, of_view: Tensor, sums: CellParameters, into_state: bool
    ) -> None:
        of_weight = sums.full if bank.index is None else sums.filters
        if bank.learned and of_weight is not None and bank.weight is not None:
            dims, reach = len(self.grid.shape), self.grid.radius
            images = self.grid.image(of_view), self.grid.image(x)
            ones, zeros, mask = [1] * dims, [0] * dims, [False, True, False]
            _, part, _ = _aten.convolution_backward(
                *images, bank.weight, None, ones, reach, ones, False, zeros, bank.groups, mask
            )
            target = of_weight if bank.index is None else of_weight[bank.index]
            target.add_(part.view(target.shape))
        if into_state and bank.back is not None:
            for place, part in self._convolve(of_view, bank.back, None, bank.groups):
                grad[place].add_(part)


def _banks(parameters: CellParameters) -> list[_Bank]:
    """Return the convolutions of a perception in the order of its columns."""
    channels, dims = parameters.num_channels, parameters.dims
    line = dims == 1
    axes = [2, 3] if dims < 3 else [2, 3, 4]
    identity = parameters.filters.new_zeros(parameters.filters.shape[1:])
    identity.flatten(1)[:, identity[0].numel() // 2] = 1.0
    banks, column = [], 0
    for index, (kernel, learned) in enumerate(zip(parameters.filters, parameters.learned, strict=True)):
        columns = slice(column, column + channels)
        column += channels
        bias = None if parameters.filter_bias is None else parameters.filter_bias[index]
        if not learned and torch.equal(kernel, identity) and (bias is None or not bias.any()):
            banks.append(_Bank(columns, index=index))
            continue
        weight = (kernel.unsqueeze(1) if line else kernel).unsqueeze(1).contiguous()
        banks.append(_Bank(columns, weight, bias, channels, weight.flip(axes), index, learned))
    if parameters.full is not None:
        weight = parameters.full.unsqueeze(2) if line else parameters.full
        back = weight.flip(axes).transpose(0, 1).contiguous()
        banks.append(_Bank(slice(column, column + len(weight)), weight, parameters.full_bias, 1, back, None, True))
    return banks


def _wants_perception(sums: CellParameters) -> bool:
    return any(s is not None for s in (sums.filters, sums.filter_bias, sums.full, sums.full_bias))


def _clear_but(values: Tensor, spared: Tensor) -> None:
    """Set all but the spared rows to zero by selection, as a product with zero would keep NaN."""
    rows = spared.nonzero().view(-1)
    kept = values.index_select(0, rows)
    values.zero_().index_copy_(0, rows, kept)
