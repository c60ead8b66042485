"""Classes of the package's own models by the path that a description holds."""

from __future__ import annotations

import importlib
from typing import TypeVar

__all__ = ["class_of_package"]

T = TypeVar("T")
_ROOM = "delira_nca.models."


def class_of_package(path: str, base: type[T]) -> type[T] | None:
    """Class of a model of this package; None for any other, of which nothing is imported.

    Parameters
    ----------
    path : module and name.
    base : class that it must derive from.

    Examples
    --------
    >>> from torch import nn
    >>> class_of_package("delira_nca.models.basic_nca.BasicNCAModel", nn.Module).__name__
    'BasicNCAModel'
    >>> class_of_package("os.system", nn.Module) is None
    True
    """
    module, _, name = path.rpartition(".")
    if not path.startswith(_ROOM) or not name.isidentifier():
        return None
    try:
        found = getattr(importlib.import_module(module), name, None)
    except ImportError:
        return None
    return found if isinstance(found, type) and issubclass(found, base) else None
