"""Models by the name of their preset, for configs and command lines."""

from __future__ import annotations

from typing import Any

from delira_nca.errors import require_choice
from delira_nca.models import presets
from delira_nca.models.basic_nca import BasicNCAModel

__all__ = ["build_model"]


def build_model(preset: str, changes: dict[str, Any] | None = None) -> BasicNCAModel:
    """Model of a preset, by name.

    Parameters
    ----------
    preset : name of a function of :mod:`delira_nca.models.presets`.
    changes : arguments of the model to set otherwise.

    Raises
    ------
    UnknownNameError, UnknownKeywordError, ConfigError
        For an unknown preset, or arguments that cannot work.

    Examples
    --------
    >>> build_model("growing", {"fire_rate": 1.0}).fire_rate
    1.0
    """
    require_choice("preset", preset, presets.__all__)
    return BasicNCAModel(**getattr(presets, preset)(**(changes or {})))
