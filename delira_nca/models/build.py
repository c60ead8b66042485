"""Models by the name of their preset, for configs and command lines."""

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
"""Class by the name of a preset, where it is another than :class:`BasicNCAModel`."""


def build_model(preset: str, changes: dict[str, Any] | None = None) -> AbstractPyTorchNetwork:
    """Model of a preset, by name.

    Parameters
    ----------
    preset : str
        Name of a function of :mod:`delira_nca.models.presets`.
    changes : dict or None
        Arguments of the model to set otherwise.

    Returns
    -------
    BasicNCAModel
        Or a model of the preset's own class, where :data:`CLASSES` names one.

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
    cls, make = CLASSES.get(preset, BasicNCAModel), getattr(presets, preset)
    known = {*inspect.signature(make).parameters, *arguments_of(cls, cls)} - {"changes"}
    refuse_unknown_keywords(f"preset {preset!r}", sorted((changes or {}).keys() - known), known)
    model: AbstractPyTorchNetwork = cls(**make(**(changes or {})))
    return model
