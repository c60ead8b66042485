"""Distributed training over several processes or machines, started by ``torchrun``. Names load on use."""

import os
import sys

from delira_nca._lazy import lazy_names
from delira_nca.training.distributed.context import ALONE, ProcessContext

_HOMES = {
    "PerSample": "shards",
    "WholeBatch": "session",
    "all_reduce_sums": "session",
    "barrier": "session",
    "broadcast": "session",
    "end": "session",
    "gather": "session",
    "init": "session",
    "init_from_environment": "session",
    "is_main": "session",
    "rank": "session",
    "world_size": "session",
}

__all__ = sorted([*_HOMES, "find_context"])

__getattr__, __dir__ = lazy_names(__name__, _HOMES)


def find_context() -> ProcessContext:
    """Context of this process: a distributed one if ``torchrun`` started it or a torch process group exists."""
    torch_group = sys.modules.get("torch.distributed")
    has_group = torch_group is not None and torch_group.is_available() and torch_group.is_initialized()
    if not has_group and "WORLD_SIZE" not in os.environ:
        return ALONE
    from delira_nca.training.distributed.session import init_from_environment

    return init_from_environment()
