"""Checkpoints: one file of tensors and plain Python, written whole, read without executing anything."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from delira_nca.errors import CheckpointError
from delira_nca.io.files import replaced

__all__ = ["is_plain", "load_checkpoint", "save_checkpoint"]


def save_checkpoint(state: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    """Write a state to a file.

    The file is written beside its place, brought to the disk and then put there, so that a kill or a full disk leaves
    the former file as it was.

    Parameters
    ----------
    state : nested dicts, lists and tuples of tensors, arrays, numbers, strings, booleans and None. Numpy's scalars
        and arrays become Python's numbers and tensors; tensors are copied to the CPU.
    path : of the file; its folder is made if need be.

    Raises
    ------
    CheckpointError
        If a value is none of these (its place is named), or the file cannot be written.

    Examples
    --------
    >>> path = getfixture("tmp_path") / "state.pt"
    >>> save_checkpoint({"epoch": np.int64(3), "weights": torch.ones(2)}, path)
    >>> load_checkpoint(path)
    {'epoch': 3, 'weights': tensor([1., 1.])}
    """
    plain = _plain(state, "state")
    try:
        with replaced(path, durable=True) as temporary:
            torch.save(plain, temporary)
    except (OSError, RuntimeError) as error:  # torch's writer raises RuntimeError on a full disk
        raise CheckpointError(f"cannot write the checkpoint {Path(path)}: {error}") from error


def load_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read what :func:`save_checkpoint` wrote, onto the CPU. Nothing in the file is executed.

    Raises
    ------
    CheckpointError
        If there is no such file, or it is not a checkpoint, cut short, or holds more than tensors and plain Python.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"there is no checkpoint {path}")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a broken file
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"{path} is no readable checkpoint: {reason}") from error
    if not isinstance(state, dict):
        raise CheckpointError(f"{path} holds a {type(state).__name__}, not the state of a run")
    return state


def is_plain(value: Any) -> bool:
    """Whether a checkpoint can hold a value.

    Examples
    --------
    >>> is_plain({"steps": (48, 64)}), is_plain({"plot": print})
    (True, False)
    """
    try:
        _plain(value, "value")
    except CheckpointError:
        return False
    return True


def _plain(value: Any, where: str) -> Any:
    if isinstance(value, Tensor):
        return value.detach().cpu().clone()
    if isinstance(value, np.ndarray):
        try:
            return torch.from_numpy(value.copy())
        except (TypeError, ValueError) as error:
            raise CheckpointError(f"{where} is an array of {value.dtype}, which no tensor can hold") from error
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or type(value) in (bool, int, float, str, bytes, complex):
        return value
    if isinstance(value, Mapping):
        return {_plain_key(key, where): _plain(part, f"{where}[{key!r}]") for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        parts = [_plain(part, f"{where}[{i}]") for i, part in enumerate(value)]
        return tuple(parts) if isinstance(value, tuple) else parts
    raise CheckpointError(f"{where} is a {type(value).__name__}: a checkpoint holds tensors and plain Python only")


def _plain_key(key: Any, where: str) -> Any:
    key = key.item() if isinstance(key, np.generic) else key
    if type(key) not in (bool, int, float, str):
        raise CheckpointError(f"{where} has the key {key!r}: keys in a checkpoint are numbers and strings")
    return key
