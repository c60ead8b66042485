"""Published models as plain arguments: ``BasicNCAModel(**presets.growing())``."""

from __future__ import annotations

from typing import Any

from delira_nca.models.alive import AliveMask
from delira_nca.models.perception import Perception
from delira_nca.models.rule import MLPRule

__all__ = ["growing"]


def growing(**changes: Any) -> dict[str, Any]:
    """Growing NCA: 16 channels from RGBA, identity and Sobel filters, 128 hidden neurons, alive before and after.

    Parameters
    ----------
    **changes : arguments of the model to set otherwise.

    Returns
    -------
    dict
        Arguments of :class:`delira_nca.models.BasicNCAModel`; 8 336 parameters.

    Notes
    -----
    Mordvintsev et al. (2020), "Growing Neural Cellular Automata", Distill. The three regimes of the article (growing,
    persistent, regenerating) differ in the pool, not in the model.
    """
    return {
        "num_image_channels": 4,
        "num_hidden_channels": 12,
        "num_output_channels": 0,
        "fire_rate": 0.5,
        "immutable_image_channels": False,
        "perception": Perception("identity", "sobel", padding="zeros"),
        "rule": MLPRule(128, final_bias=True),
        "alive": AliveMask(channel=3, threshold=0.1),
        "training_timesteps": (64, 96),
        "inference_timesteps": 96,
        **changes,
    }
