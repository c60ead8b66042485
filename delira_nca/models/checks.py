"""What is asked of the arguments of a model before anything is built."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from delira_nca.errors import ConfigError, require_choice
from delira_nca.models.inputs import interpret_range_parameter
from delira_nca.rollout.masks import fire_threshold

if TYPE_CHECKING:
    from delira_nca.models.basic_nca import BasicNCAModel

__all__ = ["check_arguments"]


def check_arguments(model: BasicNCAModel) -> None:
    """Refuse numbers that cannot work, of a model that has no parts yet.

    Raises
    ------
    ConfigError, UnknownNameError, TypeError
        With the number, and what was expected.
    """
    counts = (model.num_image_channels, model.num_hidden_channels, model.num_output_channels)
    if any(isinstance(n, bool) or not isinstance(n, int) or n < 0 for n in counts):
        raise ConfigError(f"numbers of image, hidden and output channels are whole and at least 0, not {counts}")
    require_choice("number of spatial dimensions", model.dims, (1, 2, 3))
    free = model.num_channels - model.num_fixed_channels
    if not free:
        raise ConfigError(
            f"nothing could change: all {model.num_channels} channels are image channels, and those are immutable"
        )
    alive, mask = model.alive, model.input_mask
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
    if not 0 <= model.update_noise < math.inf:
        raise ConfigError(f"update_noise is a standard deviation of at least 0, not {model.update_noise!r}")
    interpret_range_parameter(model.training_timesteps)
    interpret_range_parameter(model.inference_timesteps)
