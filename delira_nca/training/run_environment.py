"""Device and environment of a run, and the check of saved states."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer

from delira_nca._version import __version__
from delira_nca.errors import CheckpointError, ConfigError
from delira_nca.machine import cpu_name
from delira_nca.models.precision import Precision
from delira_nca.rollout import native_library
from delira_nca.rollout.backends import backend_for
from delira_nca.training.callbacks.abstract_callback import Trainer
from delira_nca.training.distributed.context import context_of

__all__ = ["backends_of", "changes", "choose_device", "computation", "run_environment", "validate_state"]


def run_environment(trainer: Trainer) -> dict[str, Any]:
    """Versions, device, threads, precision, criterions and optimizers, as plain values for a checkpoint."""
    optimizers = {
        f"optimizer {name}": type(optimizer).__name__ for name, optimizer in sorted(trainer.optimizers.items())
    }
    return {
        "delira_nca": __version__,
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        "device": str(trainer.device),
        "threads": torch.get_num_threads(),
        "processes": context_of(trainer).size,
        **{name.replace("_", " "): value for name, value in computation(trainer).items()},
        "mixed precision": str(trainer.precision.dtype) if trainer.precision.mixed else "off",
        "criterions": sorted(trainer.criterions),
        **optimizers,
    }


def computation(trainer: Trainer) -> dict[str, str]:
    """Processor, instruction set and, for a network with automata, back end of the roll-outs of a training.

    Examples
    --------
    >>> from delira_nca.models import BasicNCAModel
    >>> from delira_nca.rollout import using_backend
    >>> from delira_nca.training import PyTorchNetworkTrainer
    >>> trainer = PyTorchNetworkTrainer(BasicNCAModel(), None)
    >>> with using_backend("sparse"):
    ...     found = computation(trainer)
    >>> found["backend"], sorted(found)
    ('sparse', ['backend', 'instruction_set', 'processor'])
    """
    device = trainer.device
    names = backends_of(trainer.network, trainer.precision)
    found = {"backend": ", ".join(names)} if names else {}
    if device.type == "cuda":
        major, minor = torch.cuda.get_device_capability(device)
        return {**found, "processor": torch.cuda.get_device_name(device), "instruction_set": f"sm_{major}{minor}"}
    instruction_set = torch.backends.cpu.get_cpu_capability().lower()
    if "native" in names:
        instruction_set = native_library.load().name
    return {**found, "processor": cpu_name(), "instruction_set": instruction_set}


def backends_of(network: Any, precision: Precision) -> list[str]:
    """Names of the back ends that train the automata of a network, without repetition, in the order of its modules."""
    names: dict[str, None] = {}
    tensor = next(network.parameters(), torch.empty(0))
    for cell in network.modules():
        if all(hasattr(cell, name) for name in ("perceive", "fire_rate", "num_channels", "dims")):
            with precision.autocast():
                name = backend_for(cell, cell.num_channels, cell.dims, like=tensor)
            names |= {} if name is None else {name: None}
    return list(names)


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """List the differences between two environments, one text each.

    Examples
    --------
    >>> changes({"threads": 2, "device": "cpu"}, {"threads": 4, "device": "cpu"})
    ['threads: 2 then, 4 now']
    """
    before = {"processes": 1, **before} if "processes" in now else before  # older checkpoints lack this entry
    names = [*before, *(name for name in now if name not in before)]
    return [
        f"{name}: {before.get(name, 'unknown')} then, {now.get(name, 'none')} now"
        for name in names
        if before.get(name) != now.get(name)
    ]


def choose_device(gpu_ids: Sequence[int] = (), device: str | torch.device | None = None) -> torch.device:
    """Select the device of a training.

    Parameters
    ----------
    gpu_ids : sequence of int
        Index of one GPU, as ``[n]``.
    device : str or torch.device, optional
        Device, instead of ``gpu_ids``; ``"auto"`` selects a GPU if one is available. The CPU if neither is given.

    Raises
    ------
    ConfigError
        For several GPUs, both arguments, or a device that is not available.

    Examples
    --------
    >>> choose_device()
    device(type='cpu')
    """
    if len(gpu_ids) > 1:
        raise ConfigError(f"gpu_ids names one GPU; several, {list(gpu_ids)}, train with torchrun, one process each")
    if gpu_ids and device is not None:
        raise ConfigError(f"give gpu_ids {list(gpu_ids)} or device {str(device)!r}, not both")
    name = f"cuda:{gpu_ids[0]}" if gpu_ids else "cpu" if device is None else device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        made = torch.device(name)
    except (RuntimeError, TypeError) as error:
        raise ConfigError(f"{name!r} is not a torch device: {str(error).splitlines()[0]}") from error
    if made.type == "cuda" and (not torch.cuda.is_available() or (made.index or 0) >= torch.cuda.device_count()):
        raise ConfigError(f"device {made} was asked for, and torch sees {torch.cuda.device_count()} GPUs")
    if made.type == "meta":
        raise ConfigError("device meta has no values: choose cpu, or a GPU")
    try:
        if made.type != "cuda":
            torch.empty(0, device=made)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ConfigError(f"device {made} is not available: {str(error).splitlines()[0]}") from error
    return made


def validate_state(
    state: Mapping[str, Any],
    network: nn.Module,
    optimizers: Mapping[str, Optimizer],
    criterions: Mapping[str, nn.Module] | None = None,
) -> None:
    """Check that a saved state fits the network, the optimizers, and the criterions with trained weights.

    Raises
    ------
    CheckpointError
        If it does not fit. The message lists the differences.

    Examples
    --------
    >>> import torch
    >>> network = nn.Linear(2, 1)
    >>> saved = {"network": {"weight": torch.zeros(1, 3), "bias": torch.zeros(1)}, "optimizers": {}}
    >>> validate_state(saved, network, {})
    Traceback (most recent call last):
    delira_nca.errors.CheckpointError: the checkpoint is of another network; 1 tensors differ:
    weight (saved (1, 3), here (1, 2))
    """
    here = network.state_dict()
    lazy = {name for name, tensor in here.items() if is_lazy(tensor)}  # their shapes are unknown
    ours, theirs = (
        {name: () if name in lazy else tuple(getattr(tensor, "shape", ())) for name, tensor in weights.items()}
        for weights in (here, state["network"])
    )
    if ours != theirs:
        names = sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name))
        shown = ", ".join(f"{n} (saved {theirs.get(n)}, here {ours.get(n)})" for n in names[:5])
        raise CheckpointError(f"the checkpoint is of another network; {len(names)} tensors differ: {shown}")
    for criterion, module in (criterions or {}).items():
        saved = state.get("criterions", {}).get(criterion)
        if saved is not None and _shapes(saved) != _shapes(module.state_dict()):
            raise CheckpointError(f"the criterion {criterion!r} has other weights than that of the checkpoint")
    if state["optimizers"].keys() != optimizers.keys():
        raise CheckpointError(
            f"the checkpoint has optimizers {sorted(state['optimizers'])}, this trainer {sorted(optimizers)}"
        )
    for name, optimizer in optimizers.items():
        saved, groups_here = (
            [len(group["params"]) for group in groups]
            for groups in (state["optimizers"][name]["param_groups"], optimizer.param_groups)
        )
        if saved != groups_here:
            raise CheckpointError(
                f"the checkpoint's optimizer {name!r} has groups of {saved} tensors, this trainer's of {groups_here}"
            )


def _shapes(weights: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(getattr(tensor, "shape", ())) for name, tensor in weights.items()}
