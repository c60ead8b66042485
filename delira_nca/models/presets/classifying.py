"""Presets of automata that classify images by agreement of their cells."""

from __future__ import annotations

from typing import Any

from delira_nca.models.masks import InputMask
from delira_nca.models.perception import FullFilters, Perception
from delira_nca.models.rule import MLPRule

__all__ = ["self_classifying"]


def self_classifying(**changes: Any) -> dict[str, Any]:
    """Self-classifying digits: an immutable grey image, 9 hidden channels, and the logits of 10 classes in each cell.

    Only cells of the digit, with a grey value above 0.1, update. The label is (B, 10, H, W).

    Parameters
    ----------
    **changes : object
        Arguments of the model to change.

    Returns
    -------
    dict
        Arguments of :class:`delira_nca.models.BasicNCAModel`; 22 499 parameters.

    Notes
    -----
    Randazzo et al. (2020), "Self-classifying MNIST Digits", Distill.
    """
    return {
        "num_image_channels": 1,
        "num_hidden_channels": 9,
        "num_output_channels": 10,
        "fire_rate": 0.5,
        "immutable_image_channels": True,
        "perception": Perception(FullFilters(1, out_channels=80, relu=True), padding="zeros"),
        "rule": MLPRule(80, final_bias=True),
        "input_mask": InputMask(channel=0, threshold=0.1),
        "update_noise": 0.02,
        "training_timesteps": 20,
        "inference_timesteps": 20,
        **changes,
    }
