"""Parts of a run that grows a picture, as its config names them."""

from __future__ import annotations

import functools
import os
from typing import Any

import numpy as np
import torch
from torch import Tensor

from delira_nca.data_loading import AbstractDataset, repeat
from delira_nca.errors import MissingFileError
from delira_nca.io.paths import absolute
from delira_nca.logging import TensorboardXSink
from delira_nca.losses import overflow
from delira_nca.models import BasicNCAModel, MLPRule, Perception, make_seed, presets
from delira_nca.training.callbacks import MetricLogger, RolloutLoss
from delira_nca.visualization import Preview

__all__ = ["bounded_states", "event_log", "growing_network", "growth_preview", "load_target_array", "pairs"]

_NUM_CHANNELS = 16


def growing_network(steps: tuple[int, int] = (28, 40), fire_rate: float = 1.0, **changes: Any) -> BasicNCAModel:
    """Untrained automaton of the recipe.

    Parameters
    ----------
    steps : (int, int)
        Roll-outs of training take ``steps[0]`` to ``steps[1] - 1`` steps; others take ``steps[1]``.
    fire_rate : float
        Probability that a cell takes its update in a step.
    **changes
        Arguments of the model to set otherwise.
    """
    # features of one size: gradients and the Laplacian are as large as the state itself
    perception = Perception("identity", "sobel", "laplacian", sobel_scale=4.0, laplacian_scale=0.4)
    arguments: dict[str, Any] = {
        "perception": perception,
        "rule": MLPRule(96, final_bias=True),
        "fire_rate": fire_rate,
        "training_timesteps": tuple(steps),
        "inference_timesteps": steps[1],
    }
    return BasicNCAModel(**presets.growing(**{**arguments, **changes}))


def load_target_array(path: str | os.PathLike[str]) -> Tensor:
    """(4, H, W) picture on its grid, from a ``.npy`` file.

    Raises
    ------
    MissingFileError
        If the file is missing or holds something else.
    """
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise MissingFileError(f"{os.fspath(path)!r} cannot be read: {error}") from error
    if array.ndim != 3 or len(array) != 4 or array.dtype != np.float32:
        raise MissingFileError(f"{os.fspath(path)!r} must hold (4, H, W) float32, not {array.shape} {array.dtype}")
    return torch.from_numpy(array)


def seed_for(target: Tensor) -> Tensor:
    """State with one living cell in the middle of the grid of a picture."""
    return make_seed(_NUM_CHANNELS, target.shape[1:])


def pairs(target: str, times: int) -> AbstractDataset:
    """Dataset of one sample, many times: the seed as ``data``, the picture as ``label``.

    Parameters
    ----------
    target : str
        File for :func:`load_target_array`.
    times : int
        Number of samples in an epoch.
    """
    label = load_target_array(target)
    return repeat({"data": seed_for(label), "label": label}, times)


def bounded_states(limit: float = 1.0, weight: float = 0.1) -> RolloutLoss:
    """Loss of states beyond a limit. Channels that no loss reaches would grow without bound after hundreds of steps."""
    term = functools.partial(overflow, limit=limit, squared=True, reduction="mean")
    return RolloutLoss(term, name="overflow", weight=weight, num_steps=1)


def event_log(path: str = "events") -> MetricLogger:
    """Logger of event files for TensorBoard."""
    return MetricLogger(TensorboardXSink(absolute(path)))


def growth_preview(
    steps: int, heals: bool, title: str, target: str = "target.npy", path: str = "preview.png"
) -> Preview:
    """Picture of the growth, renewed while the run trains."""
    label = load_target_array(target)
    return Preview(path, seed_for(label), label, steps=steps, heals=heals, title=title)
