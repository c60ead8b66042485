"""What a run was computed with: where it differs after a resume, the run may not go on bit for bit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from delira_nca._version import __version__
from delira_nca.machine import cpu_name
from delira_nca.models.precision import Precision
from delira_nca.rollout import native_library
from delira_nca.rollout.backends import backend_for
from delira_nca.training.callbacks.abstract_callback import Trainer
from delira_nca.training.distributed.context import context_of

__all__ = ["backends_of", "changes", "computation", "run_environment"]


def run_environment(trainer: Trainer) -> dict[str, Any]:
    """Versions, device, threads, precision, and what is minimised how: plain values for a checkpoint."""
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
    """Processor, instruction set and, of a network with automata, back end of a training's roll-outs.

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
    """Names of the back ends that train the automata in a network, each once, in the order of its modules."""
    names: dict[str, None] = {}
    tensor = next(network.parameters(), torch.empty(0))
    for cell in network.modules():
        if all(hasattr(cell, name) for name in ("perceive", "fire_rate", "num_channels", "dims")):
            with precision.autocast():
                name = backend_for(cell, cell.num_channels, cell.dims, like=tensor)
            names |= {} if name is None else {name: None}
    return list(names)


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """One phrase for everything that is not as it was.

    Examples
    --------
    >>> changes({"threads": 2, "device": "cpu"}, {"threads": 4, "device": "cpu"})
    ['threads: 2 then, 4 now']
    """
    before = {"processes": 1, **before} if "processes" in now else before  # of a run that was saved without
    names = [*before, *(name for name in now if name not in before)]
    return [
        f"{name}: {before.get(name, 'unknown')} then, {now.get(name, 'none')} now"
        for name in names
        if before.get(name) != now.get(name)
    ]
