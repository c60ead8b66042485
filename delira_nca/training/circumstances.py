"""What a run was computed with: where it differs after a resume, the run may not go on bit for bit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from delira_nca._version import __version__
from delira_nca.training.distributed.ranks import ranks_of

__all__ = ["changes", "circumstances"]


def circumstances(trainer: Any) -> dict[str, Any]:
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
        "processes": ranks_of(trainer).size,
        "mixed precision": str(trainer.precision.dtype) if trainer.precision.mixed else "off",
        "criterions": sorted(trainer.criterions),
        **optimizers,
    }


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
