"""Whether a saved state is one of this training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn
from torch.optim import Optimizer

from delira_nca.errors import CheckpointError

__all__ = ["validate_state"]


def validate_state(state: Mapping[str, Any], network: nn.Module, optimizers: Mapping[str, Optimizer]) -> None:
    """Refuse a state of another network, or of other optimizers.

    Raises
    ------
    CheckpointError
        With what differs.

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
    ours = {name: tuple(t.shape) for name, t in network.state_dict().items()}
    theirs = {name: tuple(t.shape) for name, t in state["network"].items()}
    if ours != theirs:
        names = sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name))
        shown = ", ".join(f"{n} (saved {theirs.get(n)}, here {ours.get(n)})" for n in names[:5])
        raise CheckpointError(f"the checkpoint is of another network; {len(names)} tensors differ: {shown}")
    if state["optimizers"].keys() != optimizers.keys():
        raise CheckpointError(
            f"the checkpoint has optimizers {sorted(state['optimizers'])}, this trainer {sorted(optimizers)}"
        )
    for name, optimizer in optimizers.items():
        saved, here = (
            [len(group["params"]) for group in groups]
            for groups in (state["optimizers"][name]["param_groups"], optimizer.param_groups)
        )
        if saved != here:
            raise CheckpointError(
                f"the checkpoint's optimizer {name!r} has groups of {saved} tensors, this trainer's of {here}"
            )
