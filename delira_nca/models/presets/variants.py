"""Presets of automata with other rules, or with goals."""

from __future__ import annotations

from typing import Any

from delira_nca.models.conditioning import GoalEmbedding
from delira_nca.models.perception import LearnedFilters, Perception
from delira_nca.models.presets.growing import growing
from delira_nca.models.rule import AttentionRule, MixtureRule, MLPRule

__all__ = ["attention", "conditional", "mixture"]


def conditional(**changes: Any) -> dict[str, Any]:
    """Goal-guided NCA: the vector of a goal is added to 16 hidden channels of living cells before each perception.

    There are 21 channels: 4 RGBA channels, of which alpha is the alive channel, and 17 hidden channels, of which the
    last 16 receive the goal.

    Parameters
    ----------
    **changes : object
        Arguments of the model to change; ``conditioning=GoalEmbedding(num_goals, 16)`` for another number of
        goals than 3.

    Returns
    -------
    dict
        Arguments of :class:`delira_nca.models.BasicNCAModel`; 10 167 parameters and 16 for each goal.

    Notes
    -----
    Sudhakaran et al. (2022), "Goal-Guided Neural Cellular Automata"; the authors' code also clips the state to [-10,
    10]. The goals of a batch are its entry ``"goal"``; states from a pool then receive new goals, as in the authors'
    code, unless the pool has a slot of that name, which stores them.
    """
    return growing(
        **{
            "num_hidden_channels": 17,
            "perception": Perception(LearnedFilters(3), padding="zeros"),
            "rule": MLPRule((64, 64), final_bias=False, zero_init=False),
            "conditioning": GoalEmbedding(num_goals=3, num_channels=16),
            "training_timesteps": (48, 97),
            **changes,
        }
    )


def attention(**changes: Any) -> dict[str, Any]:
    """Attention NCA: 32 channels, 4 heads that attend to the 3x3 neighbourhood, for denoising of an immutable image.

    Parameters
    ----------
    **changes : object
        Arguments of the model to change.

    Returns
    -------
    dict
        Arguments of :class:`delira_nca.models.BasicNCAModel`; 15 039 parameters.

    Notes
    -----
    Tesfaldet et al. (2022), "Attention-based Neural Cellular Automata", with the sizes of CAX's example.
    """
    return {
        "num_image_channels": 1,
        "num_hidden_channels": 30,
        "num_output_channels": 1,
        "fire_rate": 0.5,
        "immutable_image_channels": True,
        "perception": Perception("identity"),
        "rule": AttentionRule(32, num_heads=4, hidden_size=128),
        "training_timesteps": 32,
        "inference_timesteps": 32,
        **changes,
    }


def mixture(**changes: Any) -> dict[str, Any]:
    """Mixture of NCAs: the model of :func:`growing` with 3 rules, of which each cell draws one in every step.

    Parameters
    ----------
    **changes : object
        Arguments of the model to change; ``rule=MixtureRule(num_rules)`` sets another number of rules, or their mean.

    Returns
    -------
    dict
        Arguments of :class:`delira_nca.models.BasicNCAModel`; 26 675 parameters.

    Notes
    -----
    Mixtures of neural cellular automata (2025), on the automaton of Mordvintsev et al. (2020).
    """
    return growing(**{"rule": MixtureRule(3, MLPRule(128)), **changes})
