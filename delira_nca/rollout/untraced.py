"""Exclude functions from tracing by ``torch.compile``."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch

__all__ = ["untraced"]

P = ParamSpec("P")
T = TypeVar("T")


def untraced(function: Callable[P, T]) -> Callable[P, T]:
    """Make ``torch.compile`` call a function instead of tracing it.

    Dynamo cannot trace the choice of a back end. ``torch.compiler.disable`` at import time would import the compiler
    with this package.
    """

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        if torch.compiler.is_compiling():
            called: Callable[P, T] = torch.compiler.disable(function)  # type: ignore[no-untyped-call]
            return called(*args, **kwargs)
        return function(*args, **kwargs)

    return run
