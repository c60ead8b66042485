"""Libraries that labelled arrays need, imported where they are used."""

from __future__ import annotations

import importlib
from typing import Any

from delira_nca.errors import MissingDependencyError

__all__ = ["import_for_stats"]


def import_for_stats(name: str) -> Any:
    """Module of a library of the extra ``stats``.

    Raises
    ------
    MissingDependencyError
        If it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingDependencyError(
            f"{name} is needed for labelled arrays of statistics: pip install 'delira_nca[stats]'"
        ) from error
