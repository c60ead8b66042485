"""An automaton as one writes it in JAX: channels last, ``lax.scan`` over the steps, the whole step compiled at once."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np
import optax
import torch
from jax import lax
from jax import numpy as jnp
from torch import Tensor

from benchmarks.rollouts.contenders import CHECK_SEED, LEARNING_RATE, Weights
from benchmarks.rollouts.plain_eager import sobel
from benchmarks.rollouts.workloads import Workload

__all__ = ["JaxContender", "channels_first", "channels_last", "jax_scan"]

Roll = Callable[[Any, Any, Any, int], Any]


def channels_last(x: Tensor) -> Any:
    return jnp.asarray(x.movedim(1, -1).contiguous().numpy())


def channels_first(x: Any) -> Tensor:
    return torch.from_numpy(np.array(x)).movedim(-1, 1)


class JaxContender:
    """A function of weights, state, key and number of steps, with Adam.

    Parameters
    ----------
    name : in the tables.
    roll : ``(weights, state, key, steps)`` to the state after the roll-out; everything is a tree of arrays.
    weights : to be trained.
    workload : to be done.
    order : which channel of ours each of its own is, where it wants them in another order.
    """

    is_fast, draws_own_masks, asks_before, tolerance = False, True, True, 1e-4

    def __init__(self, name: str, roll: Roll, weights: Any, workload: Workload, order: list[int] | None = None) -> None:
        self.name, self.weights = name, weights
        channels = workload.state().shape[1]
        self.order = list(range(channels)) if order is None else order
        self.state = channels_last(workload.state()[:, self.order])
        label = channels_last(workload.label())
        scored = jnp.asarray([self.order.index(c) for c in range(channels)[workload.scored]])
        adam = optax.adam(LEARNING_RATE)
        self.moments, self.key = adam.init(weights), jax.random.key(CHECK_SEED)

        def loss(weights: Any, state: Any, key: Any, steps: int) -> Any:
            return jnp.mean(jnp.square(roll(weights, state, key, steps)[..., scored] - label))

        @partial(jax.jit, static_argnums=4)
        def train(weights: Any, moments: Any, state: Any, key: Any, steps: int) -> tuple[Any, Any]:
            gradients = jax.grad(loss)(weights, state, key, steps)
            gradients = jax.tree.map(lambda g: g / (jnp.linalg.norm(g.ravel()) + 1e-8), gradients)
            updates, moments = adam.update(gradients, moments, weights)
            return optax.apply_updates(weights, updates), moments

        self._train, self._roll = train, jax.jit(roll, static_argnums=3)
        self._compiled: dict[tuple[str, int], Any] = {}

    def prepare(self, steps: int) -> None:
        """Compile for a number of steps."""
        if ("train", steps) not in self._compiled:
            train = self._train.lower(self.weights, self.moments, self.state, self.key, steps)
            forward = self._roll.lower(self.weights, self.state, self.key, steps)
            self._compiled["train", steps], self._compiled["forward", steps] = train.compile(), forward.compile()

    def _next_key(self) -> Any:
        self.key, key = jax.random.split(self.key)
        return key

    def train(self, steps: int) -> None:
        """Forward, backward, normalised gradients and a step of Adam."""
        self.prepare(steps)
        step = self._compiled["train", steps]
        self.weights, self.moments = step(self.weights, self.moments, self.state, self._next_key())
        jax.block_until_ready(self.weights)

    def forward(self, steps: int) -> None:
        """Roll out without gradients."""
        self.prepare(steps)
        jax.block_until_ready(self._compiled["forward", steps](self.weights, self.state, self._next_key()))

    def outcome(self, steps: int) -> tuple[Tensor, list[Tensor]]:
        """State of one roll-out; its gradients are not compared."""
        final = channels_first(self._roll(self.weights, self.state, self.key, steps))
        return final[:, [self.order.index(c) for c in range(len(self.order))]], []


def jax_scan(workload: Workload, given: Weights) -> JaxContender:
    """Hand-written automaton: the batch is an axis of the convolutions, nothing is mapped."""
    model = workload.model(given.update_scale, given.fire_rate)
    dims, fixed = model.dims, model.num_fixed_channels

    def taps(weight: Tensor) -> Any:
        """(3, ..., 3, C) of a depth-wise kernel."""
        return jnp.asarray(weight.detach()[:, 0].movedim(0, -1).contiguous().numpy())

    learned = [taps(convolution.weight) for bank in model.perception.learned for convolution in bank]
    constant = [sobel(dims, axis)[0, 0] for axis in reversed(range(dims))]
    hidden, last = model.rule.hidden[0], model.rule.last
    matrix = lambda layer: jnp.asarray(layer.weight.detach().flatten(1).t().contiguous().numpy())  # noqa: E731
    weights = {"hidden": matrix(hidden), "bias": jnp.asarray(hidden.bias.detach().numpy()), "last": matrix(last)}
    if last.bias is not None:
        weights["last bias"] = jnp.asarray(last.bias.detach().numpy())
    if learned:
        weights["filters"] = learned

    def perceive(weights: Any, x: Any) -> Any:
        # Shifts and sums: XLA fuses them, while it has nothing but loops for the gradient of a depth-wise convolution.
        padded = jnp.pad(x, [(0, 0), *[(1, 1)] * dims, (0, 0)], mode="reflect" if learned else "constant")
        filters = weights.get("filters", constant)
        seen = [0.0] * len(filters)
        for place in itertools.product(range(3), repeat=dims):
            bounds = [slice(start, start + size) for start, size in zip(place, x.shape[1:-1], strict=True)]
            shifted = padded[(slice(None), *bounds)]
            for number, kernel in enumerate(filters):
                factor = kernel[place] if learned else float(kernel[place])
                if learned or factor:
                    seen[number] = seen[number] + factor * shifted
        return jnp.concatenate([x, *seen], -1)

    def alive(x: Any) -> Any:
        alpha = lax.stop_gradient(x[..., 3:4])
        size, stride = (1, *(3,) * dims, 1), (1,) * (dims + 2)
        return lax.reduce_window(alpha, -jnp.inf, lax.max, size, stride, "SAME") > 0.1

    def step(weights: Any, x: Any, key: Any) -> Any:
        before = alive(x) if workload.is_growing else None
        update = jax.nn.relu(perceive(weights, x) @ weights["hidden"] + weights["bias"]) @ weights["last"]
        update = update + weights.get("last bias", 0.0)
        if given.fire_rate < 1:
            update = update * (jax.random.uniform(key, (*x.shape[:-1], 1)) < given.fire_rate)
        x = x.at[..., fixed:].add(update) if fixed else x + update
        return x if before is None else x * (before & alive(x))

    def roll(weights: Any, x: Any, key: Any, steps: int) -> Any:
        one = lambda x, key: (step(weights, x, key), None)  # noqa: E731
        return lax.scan(one, x, jax.random.split(key, steps))[0]

    return JaxContender("JAX lax.scan", roll, weights, workload)
