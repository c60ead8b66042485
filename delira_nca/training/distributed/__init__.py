"""One training over several processes or machines, started by ``torchrun``. Names load on use."""

from delira_nca._lazy import lazy_names

_HOMES = {
    "PerSample": "per_sample",
    "WholeBatch": "whole_batch",
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

__all__ = sorted(_HOMES)

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
