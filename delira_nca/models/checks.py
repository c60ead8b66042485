"""What is asked of the arguments of a model before anything is built."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from delira_nca.checks import require_number, require_whole
from delira_nca.errors import ConfigError, ShapeError, require_choice
from delira_nca.models.dry_run import channels_taken, dry_run
from delira_nca.models.inputs import interpret_range_parameter
from delira_nca.models.part import Part
from delira_nca.rollout.masks import fire_threshold

if TYPE_CHECKING:
    from delira_nca.models.basic_nca import BasicNCAModel

__all__ = ["built", "check_arguments", "check_channels", "require_module"]

_SIDE = 16
"""Cells along each axis of the grid that parts are tried on."""


def check_arguments(model: BasicNCAModel) -> None:
    """Refuse numbers that cannot work, of a model that has no parts yet.

    Raises
    ------
    ConfigError, UnknownNameError, TypeError
        With the number, and what was expected.
    """
    for name in ("num_image_channels", "num_hidden_channels", "num_output_channels"):
        require_whole(name, getattr(model, name), 0)
    require_choice("number of spatial dimensions", model.dims, (1, 2, 3))
    free = model.num_channels - model.num_fixed_channels
    if not free:
        raise ConfigError(
            f"nothing could change: all {model.num_channels} channels are image channels, and those are immutable"
        )
    alive, mask = model.alive, model.input_mask
    for name, given, kind in (("alive", alive, "AliveMask(...)"), ("input_mask", mask, "InputMask(...)")):
        if given is not None and not (callable(given) and hasattr(given, "channel")):
            raise ConfigError(f"{name} is an {kind} or None, not {given!r}")
    if alive is not None and not 0 <= alive.channel < model.num_channels:
        raise ConfigError(f"alive channel {alive.channel} is none of the {model.num_channels} channels")
    if alive is not None and not 0 <= alive.num_spared < free:
        raise ConfigError(f"num_spared of an alive mask is from 0 to {free - 1} here, not {alive.num_spared}")
    if mask is not None and not 0 <= mask.channel < model.num_fixed_channels:
        raise ConfigError(
            f"channel {mask.channel} of the input mask is none of the {model.num_fixed_channels} immutable image "
            "channels"
        )
    fire_threshold(model.fire_rate)
    require_number("update_noise", model.update_noise, 0)
    interpret_range_parameter(model.training_timesteps)
    interpret_range_parameter(model.inference_timesteps)


def require_module(name: str, given: Any) -> nn.Module:
    """A part of a model, which is a module.

    Raises
    ------
    ConfigError
        With what it is, and how it becomes a module.

    Examples
    --------
    >>> require_module("rule", nn.ReLU)
    Traceback (most recent call last):
    delira_nca.errors.ConfigError: rule is the class ReLU: make an object of it, ReLU(...)
    """
    if isinstance(given, nn.Module):
        return given
    if isinstance(given, type):
        raise ConfigError(f"{name} is the class {given.__name__}: make an object of it, {given.__name__}(...)")
    what = f"the function {given.__name__!r}" if hasattr(given, "__name__") else repr(given)
    raise ConfigError(f"{name} is a torch.nn.Module, not {what}: put it into the forward of a class of your own")


def built(name: str, given: Any, *numbers: int) -> nn.Module:
    """Copy of a part, built for the given numbers of channels and dimensions; any other module as it is.

    Raises
    ------
    ConfigError
        If it is no module.
    """
    module: Any = require_module(name, given)
    if isinstance(module, Part):
        module = copy.deepcopy(module)
        module.build(*numbers)
    return module  # type: ignore[no-any-return]


def check_channels(model: BasicNCAModel) -> None:
    """Refuse a perception or a rule of the user's that has other channels than the model needs.

    Raises
    ------
    ShapeError
        With the module and both shapes.
    """
    seen, free = model.input_vector_size, model.num_channels - model.num_fixed_channels
    _try("perception", model.perception, model.num_channels, seen - model.use_temporal_encoding, model.dims)
    _try("rule", model.rule, seen, free, model.dims, model.num_draws)


def _try(name: str, module: nn.Module, in_channels: int, out_channels: int, dims: int, draws: int = 0) -> None:
    """Refuse a module that does not map (B, in_channels, *spatial) to (B, out_channels, *spatial).

    A copy of the module is tried on zeros. Parts of the package, and modules that cannot be copied, are not tried, and
    those that fail for another reason than their channels pass.

    Parameters
    ----------
    name : what the module is, for the message.
    draws : random numbers per cell that it is called with, too.

    Raises
    ------
    ShapeError
        With both shapes, or the error of the module.
    """
    if isinstance(module, Part):
        return
    grid = (_SIDE,) * dims

    def run(copied: nn.Module, x: Tensor) -> Any:
        return copied(x, x.new_zeros(1, draws, *grid)) if draws else copied(x)

    what = f"{name} {type(module).__name__}"
    given, expected = (1, in_channels, *grid), (1, out_channels, *grid)
    try:
        found = dry_run(module, run, given)
    except Exception as error:
        wrong = channels_taken(module) not in (None, in_channels) or isinstance(error, TypeError)
        if isinstance(error, ConfigError) or not wrong:
            return  # it cannot be copied, or wants another grid: its roll-out says so
        raise ShapeError(f"{what} cannot take {in_channels} channels, {given}: {error}") from error
    if not isinstance(found, torch.Tensor) or tuple(found.shape) != expected:
        shown = tuple(found.shape) if isinstance(found, torch.Tensor) else f"a {type(found).__name__}"
        raise ShapeError(f"{what} maps {given} to {shown}; {expected} was expected, {out_channels} channels")
