"""Alias of :mod:`delira_nca.ncalab`, under the path of NCALab's API page."""

from __future__ import annotations

import importlib
from typing import Any

__all__: list[str] = []
"""Nothing is defined here: names are looked up when they are used."""


def __getattr__(name: str) -> Any:
    return getattr(importlib.import_module("delira_nca.ncalab"), name)


def __dir__() -> list[str]:
    return dir(importlib.import_module("delira_nca.ncalab"))
