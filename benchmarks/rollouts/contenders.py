"""Who takes part in PyTorch: the package's back ends, plain eager code, and what they do in one training step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from benchmarks.rollouts.plain_eager import PlainEager
from benchmarks.rollouts.workloads import STATIONARY, Workload
from delira_nca.rollout import BACKENDS, Job, fire_mask, using_backend

__all__ = ["CHECK_SEED", "Contender", "TorchContender", "Weights", "backends", "plain_eager"]

CHECK_SEED = 7
LEARNING_RATE = 1e-9
"""Nothing moves, but everything is computed."""


@dataclass(frozen=True)
class Weights:
    """Numbers that a contender is made with: small updates to be timed, larger ones to be checked."""

    update_scale: float = STATIONARY
    fire_rate: float = 0.5


class Contender(Protocol):
    """Somebody who rolls a workload out.

    Attributes
    ----------
    name : in the tables.
    is_fast : whether it can be timed over all steps of a workload.
    tolerance : largest error of a state, as a share of its change; gradients may be ten times as far off.
    draws_own_masks : whether its fire masks cannot be chosen, so that it is checked where every cell fires.
    asks_before : whether its alive mask is also asked before the update.
    """

    name: str
    is_fast: bool
    tolerance: float
    draws_own_masks: bool
    asks_before: bool

    def prepare(self, steps: int) -> None:
        """Compile what is compiled."""
        ...

    def train(self, steps: int) -> None:
        """Forward, backward, normalised gradients and a step of Adam."""
        ...

    def forward(self, steps: int) -> None:
        """Roll out without gradients."""
        ...

    def outcome(self, steps: int) -> tuple[Tensor, list[Tensor]]:
        """State after a roll-out with the masks of ``CHECK_SEED``, and gradients of the weights; none if not known."""
        ...


class TorchContender:
    """A PyTorch module that rolls out.

    Parameters
    ----------
    name : in the tables.
    module : whose weights are trained.
    roll : ``(state, steps, seed)`` to the state after the roll-out; for the seed None masks are random.
    workload : to be done.
    parameters : in the order of the model's own; all of the module's by default.
    bfloat16 : whether to roll out under autocast.
    """

    def __init__(
        self,
        name: str,
        module: nn.Module,
        roll: Callable[[Tensor, int, int | None], Tensor],
        workload: Workload,
        *,
        parameters: list[nn.Parameter] | None = None,
        bfloat16: bool = False,
        is_fast: bool = False,
        draws_own_masks: bool = False,
        asks_before: bool = True,
    ) -> None:
        self.name, self.module, self.roll = name, module, roll
        self.is_fast, self.draws_own_masks, self.asks_before = is_fast, draws_own_masks, asks_before
        self.bfloat16, self.tolerance = bfloat16, 0.1 if bfloat16 else 1e-4
        self.state, self.label, self.scored = workload.state(), workload.label(), workload.scored
        self.parameters = list(module.parameters()) if parameters is None else parameters
        self.optimizer = torch.optim.Adam(self.parameters, lr=LEARNING_RATE)

    def prepare(self, steps: int) -> None:
        """Nothing is compiled for a number of steps."""

    def _final(self, steps: int, seed: int | None) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bfloat16):
            return self.roll(self.state, steps, seed)

    def _backward(self, state: Tensor) -> None:
        loss = (state[:, self.scored].float() - self.label).square().mean()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()

    def train(self, steps: int) -> None:
        """Forward, backward, normalised gradients and a step of Adam."""
        self._backward(self._final(steps, None))
        for parameter in self.parameters:
            if parameter.grad is not None:
                parameter.grad /= parameter.grad.norm() + 1e-8
        self.optimizer.step()

    @torch.no_grad()
    def forward(self, steps: int) -> None:
        """Roll out without gradients."""
        self._final(steps, None)

    def outcome(self, steps: int) -> tuple[Tensor, list[Tensor]]:
        """State and gradients of one roll-out."""
        state = self._final(steps, CHECK_SEED)
        self._backward(state)
        return state.detach().float(), [p.grad.clone() for p in self.parameters if p.grad is not None]


def backends(
    workload: Workload, weights: Weights, chosen: list[str] | None = None
) -> Iterator[tuple[str, Contender | str]]:
    """Every registered back end by name, or why it does not take part; the native one also in bfloat16."""
    for name, backend in BACKENDS.items():
        if chosen is not None and name not in chosen:
            continue
        model = workload.model(weights.update_scale, weights.fire_rate)
        reason = backend.unavailable()
        if reason is None:
            reason = backend.refusal(Job(workload.state(), model, workload.steps, (workload.steps,)))
        for bfloat16 in (False, True) if name == "native" else (False,):
            title = f"{name} bf16" if bfloat16 else name
            yield title, reason if reason is not None else _backend(name, title, model, workload, bfloat16)


def _backend(name: str, title: str, model: Any, workload: Workload, bfloat16: bool) -> TorchContender:
    count = iter(range(2**31))

    def roll(x: Tensor, steps: int, seed: int | None) -> Tensor:
        with using_backend(name):
            state: Tensor = model(x, steps, seed=next(count) if seed is None else seed).output_image
        return state

    return TorchContender(title, model, roll, workload, bfloat16=bfloat16, is_fast=name == "native")


def plain_eager(workload: Workload, weights: Weights, *, bfloat16: bool = False) -> TorchContender:
    """Eager PyTorch without any of the package's code."""
    module = PlainEager(workload.model(weights.update_scale, weights.fire_rate))

    def roll(x: Tensor, steps: int, seed: int | None) -> Tensor:
        if seed is None:
            final: Tensor = module(x, steps)
            return final
        masks = [fire_mask(seed, t, len(x), x.shape[2:], weights.fire_rate) for t in range(steps)]
        every = torch.ones(len(x), 1, *x.shape[2:], dtype=torch.bool)
        given: Tensor = module(x, steps, [every if mask is None else mask for mask in masks])
        return given

    name = "plain eager bf16" if bfloat16 else "plain eager"
    return TorchContender(name, module, roll, workload, bfloat16=bfloat16)
