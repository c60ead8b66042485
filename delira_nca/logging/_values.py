"""Checks of recorded values and their conversion to plain Python, before a file is written."""

from __future__ import annotations

import json
import operator
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from delira_nca.errors import ConfigError, ShapeError

__all__ = ["as_floats", "as_image", "as_json", "as_step"]


def as_floats(values: Mapping[str, Any]) -> dict[str, float]:
    """Convert values to floats; raise a ConfigError that names the key of a value that is not one number.

    >>> as_floats({"loss": np.float32(0.5), "cells": np.array([3])})
    {'loss': 0.5, 'cells': 3.0}
    """
    floats: dict[str, float] = {}
    for key, value in values.items():
        if not isinstance(key, str) or not key or key == "step":
            raise ConfigError(f"a scalar is recorded under a name that is not empty and not 'step', not {key!r}")
        try:
            floats[key] = float(value.item() if hasattr(value, "item") else value)
        except (TypeError, ValueError, RuntimeError, OverflowError) as error:
            shape = getattr(value, "shape", None)
            found = f"{value!r:.80}" if shape is None else f"a {type(value).__name__} of shape {tuple(shape)}"
            raise ConfigError(f"scalar {key!r} is not one number but {found}") from error
    return floats


def as_step(step: Any, *, least: int = 0) -> int:
    """Convert a step to an integer; raise a ConfigError if it is not an integer or is less than ``least``."""
    try:
        number = operator.index(step)
    except TypeError:
        raise ConfigError(f"a step is an integer, not {step!r}") from None
    if number < least:
        raise ConfigError(f"a step is at least {least} here, not {number}")
    return number


def as_image(image: Any) -> npt.NDArray[np.uint8]:
    """Convert a (H, W, 3) uint8 array or tensor to an array. Floats are an error, since their range is ambiguous."""
    array = np.asarray(image.detach().cpu() if hasattr(image, "detach") else image)
    if array.ndim != 3 or array.shape[-1] != 3 or array.size == 0:
        raise ShapeError(f"a picture has the shape (H, W, 3), not {array.shape}")
    if array.dtype != np.uint8:
        raise ConfigError(f"a picture holds uint8 from 0 to 255, not {array.dtype}; see visualization.to_rgb")
    return np.ascontiguousarray(array)


def as_json(values: Mapping[str, Any]) -> str:
    """Convert a config to indented JSON in its order; values of other types are converted by ``str()``."""
    return json.dumps({str(key): value for key, value in values.items()}, indent=2, default=str)
