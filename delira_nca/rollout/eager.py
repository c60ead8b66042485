"""Reference back end: roll-outs by PyTorch operations on whole states."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from delira_nca.rollout.cost import why_not_floats
from delira_nca.rollout.job import Job
from delira_nca.rollout.memory import WINDOW_STEPS, masks_at_once, measure_saved_bytes, segment_length
from delira_nca.rollout.reference import step_beside

__all__ = ["Reference", "Window"]


class Window:
    """Box that contains all nonzero cells of all samples of a batch.

    Parameters
    ----------
    state : Tensor
        (B, C, *spatial) state.
    margin : int
        Number of cells that are added on each side of the smallest box around all nonzero cells.

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
            if len(line) == 0:  # all zero: a window of one cell
                self.bounds.append((0, 1))
                continue
            first, last = int(line[0]), int(line[-1])
            self.bounds.append((max(first - margin, 0), min(last + 1 + margin, size)))

    def cut(self, tensor: Tensor) -> Tensor:
        """Return the (B, C, *box) view of a (B, C, *spatial) tensor."""
        for axis, (first, last) in enumerate(self.bounds):
            tensor = tensor.narrow(axis + 2, first, last - first)
        return tensor

    def put_back(self, tensor: Tensor) -> Tensor:
        """Pad a (B, C, *box) tensor with zeros to (B, C, *spatial)."""
        pads: list[int] = []
        for size, (first, last) in zip(reversed(self.shape), reversed(self.bounds), strict=True):
            pads += [first, size - last]
        return F.pad(tensor, pads) if any(pads) else tensor


class Reference:
    """Back end that calls :func:`delira_nca.rollout.reference.step`, with gradients by autograd.

    Space without living cells is skipped if the cell allows it. When half of the memory budget is used, the remaining
    steps are divided into segments, of which only the first states are stored (gradient checkpointing).
    """

    name = "reference"

    def unavailable(self) -> str | None:
        """Return None: the back end runs on every machine."""
        return None

    def refusal(self, job: Job) -> str | None:
        """Return why the back end does not support a job, or None."""
        return why_not_floats(job.x, job.cell)

    def states(self, job: Job) -> dict[int, Tensor]:
        """Return the state after each of the job's stops."""
        return {done: state for done, state in _states(job) if done in job.stops}


_Numbers = Sequence[Tensor | None] | Tensor | None


class _Drawn:
    """Random numbers of the steps of a job, drawn for several steps in one call, since a GPU waits for each call.

    Parameters
    ----------
    job : Job
        Job.
    draw : callable
        Function of a range of steps that returns their numbers, or None.
    channels : int
        Number of random numbers per cell.
    """

    def __init__(self, job: Job, draw: Callable[[range], _Numbers], channels: int) -> None:
        self.job, self.draw = job, draw
        self.at_once = max(1, masks_at_once(job.x) // max(job.x[:, :1].numel() * channels, 1))
        self.steps = range(0)
        self.drawn: _Numbers = None

    def __call__(self, t: int) -> Tensor | None:
        if t not in self.steps:
            start = self.job.start
            first = start + (t - start) // self.at_once * self.at_once
            self.steps = range(first, min(first + self.at_once, start + self.job.steps))
            self.drawn = self.draw(self.steps)
        return None if self.drawn is None else self.drawn[t - self.steps.start]


def _states(job: Job) -> Iterator[tuple[int, Tensor]]:
    """Yield (steps done, state) at every segment border and at every stop."""
    x, cell, steps, start, stops = job.x, job.cell, job.steps, job.start, job.stops
    windows: dict[int, Window] = {}
    rests = _Drawn(job, job.rests, 1)
    noise = _Drawn(job, job.noise, job.x.shape[1])
    draws = _Drawn(job, job.draws, max(getattr(job.cell, "num_draws", 0), 1))
    # a search for living cells would synchronise a GPU, and is useless if cells do not die
    looks_for_life = cell.skips_dead_space and x.device.type == "cpu"
    own_step = getattr(cell, "own_step", None)  # replaces the reference step

    def run(state: Tensor, begin: int, end: int) -> Tensor:
        while begin < end:
            group, last = (begin - start) // WINDOW_STEPS, end
            window = None
            if looks_for_life:  # windows do not depend on the segments, so that recomputed steps are bit-equal
                last = min(start + (group + 1) * WINDOW_STEPS, end)
                if group not in windows:
                    windows[group] = Window(state, margin=max(WINDOW_STEPS, 1 + cell.radius))
                window = windows[group]
                state = window.cut(state)
            for t in range(begin, last):
                if own_step is not None:
                    state = own_step(state, t, job)
                    continue
                given = (rests(t), noise(t), draws(t))
                if window is not None:
                    given = tuple(part if part is None else window.cut(part) for part in given)  # type: ignore[assignment]
                state = step_beside(cell, state, t, *given)
            if window is not None:
                state = window.put_back(state)
            begin = last
        return state

    done, length = 0, steps if job.segment is None else job.segment
    if job.segment is None and torch.is_grad_enabled():
        weights = list(cell.parameters()) if isinstance(cell, torch.nn.Module) else []
        stored, step_bytes = 0, None
        while done < steps and stored <= job.memory_budget // 2:
            before, begin = x, done
            done = min(begin + WINDOW_STEPS, next(stop for stop in stops if stop > begin))
            forward = functools.partial(run, before, start + begin, start + done)
            if looks_for_life or step_bytes is None:
                x, saved = measure_saved_bytes(forward, [before, *weights])
                step_bytes = saved // (done - begin)
            else:  # every step stores equally much; measuring takes longer than computing on a GPU
                x = forward()
            stored += step_bytes * (done - begin) + x.nbytes
            length = segment_length(steps - done, step_bytes, x.nbytes)
            yield done, x
    recompute = torch.is_grad_enabled() and length < steps - done
    for border in sorted({*range(done + length, steps, max(length, 1)), *stops} - set(range(done + 1))):
        if recompute:
            x = checkpoint(run, x, start + done, start + border, use_reentrant=False)
        else:
            x = run(x, start + done, start + border)
        done = border
        yield done, x
