"""Make models by the name of a preset, for configurations and command lines."""

from __future__ import annotations

import inspect
from typing import Any

from delira_nca.errors import refuse_unknown_keywords, require_choice
from delira_nca.models import presets
from delira_nca.models.basic_nca import BasicNCAModel
from delira_nca.models.description import arguments_of
from delira_nca.models.pyramid import PyramidNCA
from delira_nca.models.pytorch_network import AbstractPyTorchNetwork

__all__ = ["CLASSES", "build_model"]

CLASSES: dict[str, type[Any]] = {"m3d_nca": PyramidNCA, "med_nca": PyramidNCA, "octree_nca": PyramidNCA}
"""Class of a preset by its name, for presets of another class than :class:`BasicNCAModel`."""


def build_model(preset: str, changes: dict[str, Any] | None = None) -> AbstractPyTorchNetwork:
    """Make a model by the name of a preset.

    Parameters
    ----------
    preset : str
        Name of a function of :mod:`delira_nca.models.presets`.
    changes : dict or None
        Arguments of the model or the preset to change.

    Returns
    -------
    BasicNCAModel
        The model, or one of the class that :data:`CLASSES` names for the preset.

    Raises
    ------
    UnknownNameError, UnknownKeywordError, ConfigError
        If the preset or an argument is unknown, or an argument is invalid.

    Examples
    --------
    >>> build_model("growing", {"fire_rate": 1.0}).fire_rate
    1.0
    """
    require_choice("preset", preset, presets.__all__)
    cls, make = CLASSES.get(preset, BasicNCAModel), getattr(presets, preset)
    known = {*inspect.signature(make).parameters, *arguments_of(cls, cls)} - {"changes"}
    refuse_unknown_keywords(f"preset {preset!r}", sorted((changes or {}).keys() - known), known)
    model: AbstractPyTorchNetwork = cls(**make(**(changes or {})))
    return model
