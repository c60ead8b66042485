"""Presets of automata that generate textures on a periodic grid."""

from __future__ import annotations

from typing import Any

from delira_nca.models.perception import GroupedPerception, Perception
from delira_nca.models.rule import LinearRule, MLPRule

__all__ = ["micro_texture", "texture"]


def texture(**changes: Any) -> dict[str, Any]:
    """Self-organising textures: 12 channels, of which 3 are the colour minus 0.5, unscaled filters, no alive mask.

    The seed is zero everywhere; the random fire masks break the symmetry.

    Parameters
    ----------
    **changes : object
        Arguments of the model to change.

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
    """Ultra-compact textures: one filter per channel, absolute values, one layer, deterministic updates.

    The seed is random, from -0.5 to 0.5 in every channel.

    Parameters
    ----------
    **changes : object
        Arguments of the model to change; ``num_hidden_channels`` of 1, 3, 5 and 9 gives the article's automata with
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
