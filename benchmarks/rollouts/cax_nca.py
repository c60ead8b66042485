"""CAX's growing automaton, put together of its own classes as its users do."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import numpy as np
from cax.core import ComplexSystem
from cax.core.perceive import ConvPerceive, grad_kernel, identity_kernel
from cax.core.update import NCAUpdate
from flax import nnx
from jax import numpy as jnp
from torch import Tensor

from benchmarks.rollouts.contenders import Weights
from benchmarks.rollouts.jax_scan import JaxContender
from benchmarks.rollouts.workloads import Workload

__all__ = ["cax_nca"]


class Automaton(ComplexSystem):
    """Perception and update, one after the other."""

    def __init__(self, dims: int, channels: int, fire_rate: float) -> None:
        rngs, seen = nnx.Rngs(0), (dims + 1) * channels
        size = (3,) * dims
        self.perceive = ConvPerceive(channels, seen, kernel_size=size, feature_group_count=channels, rngs=rngs)
        self.update = NCAUpdate(channels, seen, (128,), cell_dropout_rate=1 - fire_rate, kernel_size=size, rngs=rngs)
        filters = jnp.concatenate([identity_kernel(dims), grad_kernel(dims)], -1)
        self.perceive.conv.kernel[...] = jnp.tile(filters, channels)[..., None, :]

    def _step(self, state: Any, input: Any = None, *, sow: bool = False) -> Any:  # noqa: A002
        return self.update(state, self.perceive(state), input)


def renewed(key: Any, leaf: Any) -> Any:
    """The key instead of a key, and zero instead of a count."""
    return key if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else jnp.zeros_like(leaf)


def cax_nca(workload: Workload, given: Weights) -> JaxContender:
    """CAX as it comes: one sample at a time under ``nnx.vmap``, gradients of the update only, loss on the last state.

    Its alive channel is the last one, and its perception runs channel by channel, first axis first.
    """
    model = workload.model(given.update_scale, given.fire_rate)
    dims, channels = model.dims, model.num_channels
    order = [c for c in range(channels) if c != 3] + [3]
    automaton = Automaton(dims, channels, given.fire_rate)
    filters = [0, *range(dims, 0, -1)]
    columns = [f * channels + c for c in order for f in filters]
    hidden, last = automaton.update.layers
    one = (1,) * dims

    def array(tensor: Tensor) -> Any:
        return jnp.asarray(np.ascontiguousarray(tensor.detach().numpy()))

    ours = model.rule.hidden[0]
    hidden.kernel[...] = array(ours.weight.flatten(1)[:, columns].t()).reshape(*one, len(columns), -1)
    hidden.bias[...] = array(ours.bias)
    last.kernel[...] = array(model.rule.last.weight.flatten(1)[order].t()).reshape(*one, 128, channels)
    last.bias[...] = array(model.rule.last.bias[order])
    trained = nnx.All(nnx.Param, nnx.PathContains("update"))
    graph, weights, randomness, rest = nnx.split(automaton, trained, nnx.RngState, ...)

    def roll(weights: Any, x: Any, key: Any, steps: int) -> Any:
        others = jax.tree.map(jnp.array, rest)  # nnx takes only what was made within the function that is compiled
        merged = nnx.merge(graph, weights, jax.tree.map(partial(renewed, key), randomness), others)
        axes = nnx.StateAxes({nnx.RngState: 0, ...: None})
        every = nnx.vmap(lambda cell, sample: cell(sample, num_steps=steps), in_axes=(axes, 0))
        return nnx.split_rngs(splits=workload.batch)(every)(merged, x)

    return JaxContender("CAX", roll, weights, workload, order)
