"""Other people's automata, where they are installed or a checkout is given. They are called, and nothing is copied."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.rollouts.contenders import Contender, TorchContender, Weights, backends, plain_eager
from benchmarks.rollouts.workloads import Workload

__all__ = ["PEERS", "Checkouts", "contenders"]

Checkouts = dict[str, Path | None]
"""Name of a peer to the folder of its checkout."""
PEERS = ("plain eager", "plain eager bf16", "NCALab", "JAX lax.scan", "CAX")


def contenders(
    workload: Workload,
    weights: Weights,
    checkouts: Checkouts | None = None,
    own: list[str] | None = None,
    peers: list[str] | None = None,
) -> Iterator[tuple[str, Contender | str]]:
    """Everybody by name, or, where somebody cannot take part, why.

    Parameters
    ----------
    workload : to be done.
    weights : that everybody is made with.
    checkouts : folders of peers that are not installed.
    own : names of the package's back ends; all by default.
    peers : names of the others; all by default.
    """
    checkouts = checkouts or {}
    yield from backends(workload, weights, own)
    for name in PEERS if peers is None else peers:
        yield name, _peer(name, workload, weights, checkouts)


def _peer(name: str, workload: Workload, weights: Weights, checkouts: Checkouts) -> Contender | str:
    if name in ("plain eager", "plain eager bf16"):
        return plain_eager(workload, weights, bfloat16=name.endswith("bf16"))
    if name == "NCALab":
        if len(workload.shape) != 2:
            return "it has two dimensions only"
        return _without(("ncalab",), checkouts.get(name)) or _ncalab(workload, weights)
    if name == "JAX lax.scan":
        if reason := _without(("jax", "optax"), None):
            return reason
        from benchmarks.rollouts.jax_scan import jax_scan

        return jax_scan(workload, weights)
    if not workload.is_growing:
        return "its automaton has no filters that are learned beside the identity, and no fixed channels"
    if reason := _without(("jax", "optax", "flax", "cax"), checkouts.get(name)):
        return reason
    from benchmarks.rollouts.cax_nca import cax_nca

    return cax_nca(workload, weights)


def _without(modules: tuple[str, ...], checkout: Path | None) -> str | None:
    """Why modules cannot be imported, or None."""
    if checkout is not None:
        for folder in (checkout, checkout / "src"):
            if str(folder) not in sys.path:
                sys.path.append(str(folder))
    missing = [module for module in modules if importlib.util.find_spec(module) is None]
    return f"not installed: {', '.join(missing)}" if missing else None


def _ncalab(workload: Workload, weights: Weights) -> Contender | str:
    """NCALab's own models; their alive mask is asked after the update only, and their last layer has no bias."""
    try:
        from ncalab.models import BinarySegmentationNCAModel, GrowingNCAModel
    except ImportError as error:
        return f"it cannot be imported: {error}"
    ours = workload.model(weights.update_scale, weights.fire_rate)
    cpu = torch.device("cpu")
    more: dict[str, Any] = {"fire_rate": weights.fire_rate, "hidden_size": 128}
    if workload.is_growing:
        model = GrowingNCAModel(cpu, num_hidden_channels=12, use_alive_mask=True, num_learned_filters=0, **more)
    else:
        model = BinarySegmentationNCAModel(
            cpu, num_hidden_channels=20, num_learned_filters=2, filter_padding="reflect", **more
        )
    hidden, _, last = model.rule.network
    with torch.no_grad():
        hidden.weight.copy_(ours.rule.hidden[0].weight)
        hidden.bias.copy_(ours.rule.hidden[0].bias)
        last.weight[ours.num_fixed_channels :] = ours.rule.last.weight
        for theirs, own in zip(model.perception.filters, (c for b in ours.perception.learned for c in b), strict=False):
            theirs.weight.copy_(own.weight)

    def roll(x: Tensor, steps: int, seed: int | None) -> Tensor:
        state: Tensor = model(x, steps=steps).output_image
        return state

    return TorchContender("NCALab", model, roll, workload, draws_own_masks=True, asks_before=False)
