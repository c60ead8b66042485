"""Nobody is timed who computes something else."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks.rollouts.contenders import CHECK_SEED, Contender, TorchContender, Weights
from benchmarks.rollouts.workloads import Workload
from delira_nca.rollout import using_backend

__all__ = ["CHECKED", "Expected", "what_is_wrong"]

CHECKED = 0.02
"""Size of the last weights in a check: a state changes by about as much as it holds."""
STEPS = 2


def _off(given: Tensor, expected: Tensor, scale: Tensor) -> float:
    return float((given - expected).norm() / scale.norm().clamp_min(1e-30))


class Expected:
    """What the reference back end makes of a workload, computed once for each kind of automaton."""

    def __init__(self, workload: Workload) -> None:
        self.workload = workload
        self._known: dict[tuple[float, bool], tuple[Tensor, list[Tensor]]] = {}

    def of(self, fire_rate: float, asks_before: bool) -> tuple[Tensor, list[Tensor]]:
        """State and gradients."""
        if (fire_rate, asks_before) not in self._known:
            model = self.workload.model(CHECKED, fire_rate, asks_before)

            def roll(x: Tensor, steps: int, seed: int | None) -> Tensor:
                with using_backend("reference"):
                    state: Tensor = model(x, steps, seed=seed).output_image
                return state

            one = TorchContender("reference", model, roll, self.workload)
            self._known[fire_rate, asks_before] = one.outcome(STEPS)
        return self._known[fire_rate, asks_before]


def check_weights(draws_own_masks: bool) -> Weights:
    """Weights of a check: where masks cannot be chosen, every cell fires."""
    return Weights(CHECKED, 1.0 if draws_own_masks else 0.5)


def what_is_wrong(contender: Contender, expected: Expected) -> str | None:
    """In what a contender differs from the reference, or None.

    Parameters
    ----------
    contender : made with :func:`check_weights`.
    expected : of its workload.
    """
    fire_rate = check_weights(contender.draws_own_masks).fire_rate
    state, gradients = contender.outcome(STEPS)
    right, right_gradients = expected.of(fire_rate, contender.asks_before)
    off = _off(state, right, right - expected.workload.state())
    if not off <= contender.tolerance:
        return f"its state is off by {off:.1e} of the change, with seed {CHECK_SEED} and {STEPS} steps"
    if contender.draws_own_masks:
        return None
    if len(gradients) != len(right_gradients):
        return f"it has gradients of {len(gradients)} tensors, the reference of {len(right_gradients)}"
    for number, (one, other) in enumerate(zip(gradients, right_gradients, strict=True)):
        off = _off(one.reshape(-1), other.reshape(-1), torch.as_tensor(other))
        if not off <= 10 * contender.tolerance:
            return f"its gradient of tensor {number} is off by {off:.1e}"
    return None
