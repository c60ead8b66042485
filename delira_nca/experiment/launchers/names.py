"""Launchers by name."""

from __future__ import annotations

import importlib
import inspect
from typing import Any

from delira_nca.errors import ConfigError, refuse_unknown_keywords, require_choice
from delira_nca.experiment.launchers.launcher import Launcher

__all__ = ["LAUNCHERS", "launcher_by_name"]

LAUNCHERS = {
    "serial": ("serial", "SerialLauncher"),
    "pool": ("process_pool", "ProcessPoolLauncher"),
    "ray": ("ray_launcher", "RayLauncher"),
    "submitit": ("submitit_launcher", "SubmititLauncher"),
}
"""Module and class by name."""


def launcher_by_name(name: str, **options: Any) -> Launcher:
    """Create a launcher by its name.

    Parameters
    ----------
    name : str
        Name: serial, pool, ray or submitit.
    **options
        Arguments of its class.

    Raises
    ------
    UnknownNameError, UnknownKeywordError, ConfigError
        For an unknown name or argument, with the nearest known one; and for arguments that the class rejects.
    MissingDependencyError
        If a required package is not installed.

    Examples
    --------
    >>> launcher_by_name("pool", num_workers=3).num_workers
    3
    >>> launcher_by_name("pol")
    Traceback (most recent call last):
    delira_nca.errors.UnknownNameError: unknown launcher 'pol'. Known: 'pool', 'ray', 'serial', 'submitit'. \
Did you mean 'pool'?
    """
    require_choice("launcher", name, LAUNCHERS)
    module, class_name = LAUNCHERS[name]
    cls = getattr(importlib.import_module(f"delira_nca.experiment.launchers.{module}"), class_name)
    signature = inspect.signature(cls)
    if all(parameter.kind is not parameter.VAR_KEYWORD for parameter in signature.parameters.values()):
        unknown = [option for option in options if option not in signature.parameters]
        refuse_unknown_keywords(class_name, unknown, signature.parameters)
    try:
        signature.bind(**options)
    except TypeError as error:
        raise ConfigError(f"{class_name}: {error}") from None
    launcher: Launcher = cls(**options)
    return launcher
