"""The back end that runs any cell: one step after the other in plain PyTorch, recomputed where memory is short."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from delira_nca.rollout.job import Job
from delira_nca.rollout.memory import measure_saved_bytes, segment_length
from delira_nca.rollout.reference import step
from delira_nca.rollout.support import why_not_floats
from delira_nca.rollout.window import WINDOW_STEPS, Window

__all__ = ["Reference"]


class Reference:
    """Every step through :func:`delira_nca.rollout.reference.step`, differentiated by autograd.

    Space without life is left out where the cell allows it. As soon as half of the memory budget is stored, the rest
    of the roll-out is cut into segments, of which only the borders are kept.
    """

    name = "reference"

    def unavailable(self) -> str | None:
        """Why it cannot run on this machine: it always can."""
        return None

    def refusal(self, job: Job) -> str | None:
        """Why it cannot do this job, or None."""
        return why_not_floats(job.x, job.cell)

    def states(self, job: Job) -> dict[int, Tensor]:
        """State after each of the job's stops."""
        return {done: state for done, state in _states(job) if done in job.stops}


def _states(job: Job) -> Iterator[tuple[int, Tensor]]:
    """Yield (steps done, state) at every segment border and at every stop."""
    x, cell, steps, start, stops = job.x, job.cell, job.steps, job.start, job.stops
    windows: dict[int, Window] = {}

    def run(state: Tensor, begin: int, end: int) -> Tensor:
        while begin < end:
            group, last = (begin - start) // WINDOW_STEPS, end
            window = None
            if cell.skips_dead_space:  # the same window for the same steps, however they are cut into segments
                last = min(start + (group + 1) * WINDOW_STEPS, end)
                if group not in windows:
                    windows[group] = Window(state, margin=max(WINDOW_STEPS, 1 + cell.radius))
                window = windows[group]
                state = window.cut(state)
            for t in range(begin, last):
                given = (job.fires(t), job.noise(t), job.draws(t))
                if window is not None:
                    given = tuple(part if part is None else window.cut(part) for part in given)  # type: ignore[assignment]
                state = step(cell, state, t, *given)
            if window is not None:
                state = window.put_back(state)
            begin = last
        return state

    done, length = 0, steps if job.segment is None else job.segment
    if job.segment is None and torch.is_grad_enabled():
        weights = list(cell.parameters()) if isinstance(cell, torch.nn.Module) else []
        stored = 0
        while done < steps and stored <= job.memory_budget // 2:
            before, begin = x, done
            done = min(begin + WINDOW_STEPS, next(stop for stop in stops if stop > begin))
            forward = functools.partial(run, before, start + begin, start + done)
            x, saved = measure_saved_bytes(forward, [before, *weights])
            stored += saved + x.nbytes
            length = segment_length(steps - done, saved // (done - begin), x.nbytes)
            yield done, x
    recompute = torch.is_grad_enabled() and length < steps - done
    for border in sorted({*range(done + length, steps, max(length, 1)), *stops} - set(range(done + 1))):
        if recompute:
            x = checkpoint(run, x, start + done, start + border, use_reentrant=False)
        else:
            x = run(x, start + done, start + border)
        done = border
        yield done, x
