"""Files that survive a kill."""

from delira_nca._lazy import lazy_names

_HOMES = {
    "describe_network": "network",
    "load_checkpoint": "checkpoint",
    "load_network": "network",
    "replaced": "files",
    "save_checkpoint": "checkpoint",
    "save_network": "network",
}

__all__ = sorted(_HOMES)

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
