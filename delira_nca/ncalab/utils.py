"""NCALab's helper functions."""

from __future__ import annotations

import os
import random
import time

import numpy as np
import torch

from delira_nca.models.inputs import intepret_range_parameter, interpret_range_parameter, pad_input, unwrap

__all__ = [
    "DEFAULT_RANDOM_SEED",
    "fix_random_seed",
    "get_compute_device",
    "intepret_range_parameter",
    "interpret_range_parameter",
    "pad_input",
    "print_NCALab_banner",
    "print_mascot",
    "release_random_seed",
    "unwrap",
]

DEFAULT_RANDOM_SEED = 1337


def get_compute_device(device: str = "cuda:0") -> torch.device:
    """Return a device, or the CPU if CUDA is not available.

    Examples
    --------
    >>> get_compute_device("cpu")
    device(type='cpu')
    """
    return torch.device(device if torch.cuda.is_available() else "cpu")


def fix_random_seed(seed: int = DEFAULT_RANDOM_SEED) -> None:
    """Seed the global generators of Python, NumPy and torch, from which new models draw their weights.

    A training has its own generators: see the argument ``seed`` of :class:`BasicNCATrainer`.

    Parameters
    ----------
    seed : int
        Seed.
    """
    random.seed(seed)
    os.environ["PYTHONHASHSEED"] = str(seed)  # for processes that are started later
    np.random.seed(seed)
    torch.manual_seed(seed)
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False


def release_random_seed() -> int:
    """Seed the global generators with the time in seconds, and return this seed."""
    seed = int(time.time())
    fix_random_seed(seed)
    return seed


def print_NCALab_banner() -> None:  # noqa: N802
    """Print the name of the package."""
    print("delira_nca: scripts of NCALab")  # noqa: T201


def print_mascot(message: str) -> None:
    """Print a message in a frame; nothing for an empty message.

    Examples
    --------
    >>> print_mascot("Train")
    +-------+
    | Train |
    +-------+
    """
    if not message:
        return
    lines = message.splitlines()
    width = max(map(len, lines))
    edge = f"+{'-' * (width + 2)}+"
    print("\n".join([edge, *(f"| {line:<{width}} |" for line in lines), edge]))  # noqa: T201
