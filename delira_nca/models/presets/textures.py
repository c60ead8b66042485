"""Automata that become a texture, on a grid without borders."""

from __future__ import annotations

from typing import Any

from delira_nca.models.perception import GroupedPerception, Perception
from delira_nca.models.rule import LinearRule, MLPRule

__all__ = ["micro_texture", "texture"]


def texture(**changes: Any) -> dict[str, Any]:
    """Self-organising textures: 12 channels, of which 3 are a colour less a half, unscaled filters, no alive mask.

    The seed is zero everywhere; that not all cells fire makes the difference.

    Parameters
    ----------
    **changes : object
        Arguments of the model to set otherwise.

    Returns
    -------
    dict
        Arguments of :class:`delira_nca.models.BasicNCAModel`; 5 856 parameters.

    Notes
    -----
    Niklasson et al. (2021), "Self-Organising Textures", Distill.
    """
    return {
        "num_image_channels": 3,
        "num_hidden_channels": 9,
        "num_output_channels": 0,
        "fire_rate": 0.5,
        "immutable_image_channels": False,
        "perception": Perception("identity", "sobel", "laplacian", padding="circular", sobel_scale=8.0),
        "rule": MLPRule(96, final_bias=False),
        "training_timesteps": (32, 96),
        "inference_timesteps": 96,
        **changes,
    }


def micro_texture(**changes: Any) -> dict[str, Any]:
    """The smallest textures: one filter for each channel, absolute values, one layer, every cell fires.

    The seed is random, from -0.5 to 0.5 in every channel.

    Parameters
    ----------
    **changes : object
        Arguments of the model to set otherwise; ``num_hidden_channels`` of 1, 3, 5 and 9 are the article's automata of
        68, 150, 264 and 588 parameters.

    Returns
    -------
    dict
        Arguments of :class:`delira_nca.models.BasicNCAModel`; 588 parameters.

    Notes
    -----
    Mordvintsev & Niklasson (2021), "uNCA: Texture Generation with Ultra-Compact Neural Cellular Automata".
    """
    return {
        "num_image_channels": 3,
        "num_hidden_channels": 9,
        "num_output_channels": 0,
        "fire_rate": 1.0,
        "immutable_image_channels": False,
        "perception": GroupedPerception(padding="circular"),
        "rule": LinearRule(init_scale=1e-3),
        "training_timesteps": (32, 128),
        "inference_timesteps": 128,
        **changes,
    }
