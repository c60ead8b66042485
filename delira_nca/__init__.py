"""A callback-based trainer framework for Neural Cellular Automata on PyTorch.

The rooms load on use: ``import delira_nca`` costs next to nothing, ``delira_nca.models`` imports torch.
:func:`delira_nca.info` tells what runs here, :func:`delira_nca.set_backend` chooses how roll-outs are computed.
"""

import importlib
from typing import TYPE_CHECKING, Any

from delira_nca._version import __version__
from delira_nca.console import add_console_handler

if TYPE_CHECKING:
    from delira_nca.environment import info
    from delira_nca.rollout import set_backend

__all__ = ["__version__", "info", "set_backend"]

_FLOOR = ("checks", "console", "errors", "losses", "machine", "seeding")
_ROOMS = (
    "data_loading",
    "environment",
    "evaluation",
    "experiment",
    "export",
    "io",
    "logging",
    "models",
    "ncalab",
    "rollout",
    "training",
    "visualization",
)
_FUNCTIONS = {"info": "environment", "set_backend": "rollout"}


def __getattr__(name: str) -> Any:
    if name in _FUNCTIONS:
        return getattr(importlib.import_module(f"delira_nca.{_FUNCTIONS[name]}"), name)
    if name not in _FLOOR + _ROOMS:
        raise AttributeError(f"module 'delira_nca' has no attribute {name!r}")
    return importlib.import_module(f"delira_nca.{name}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_FLOOR, *_ROOMS, *_FUNCTIONS})


add_console_handler()
