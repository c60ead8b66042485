"""A callback-based trainer framework for Neural Cellular Automata on PyTorch.

The rooms load on use: ``import delira_nca`` costs next to nothing, ``delira_nca.models`` imports torch.
"""

import importlib
from types import ModuleType

from delira_nca._version import __version__

__all__ = ["__version__"]

_FLOOR = ("errors", "losses", "seeding")
_ROOMS = ("data_loading", "experiment", "io", "logging", "models", "rollout", "training", "visualization")


def __getattr__(name: str) -> ModuleType:
    if name not in _FLOOR + _ROOMS:
        raise AttributeError(f"module 'delira_nca' has no attribute {name!r}")
    return importlib.import_module(f"delira_nca.{name}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_FLOOR, *_ROOMS])
