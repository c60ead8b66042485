"""Files that survive a kill."""

from delira_nca._lazy import lazy_names

__all__ = ["load_checkpoint", "replaced", "save_checkpoint"]

__getattr__, __dir__ = lazy_names(
    __name__, {"load_checkpoint": "checkpoint", "replaced": "files", "save_checkpoint": "checkpoint"}
)
