"""Presets of automata that grow an image from a single cell."""

from __future__ import annotations

from typing import Any

from delira_nca.models.masks import AliveMask
from delira_nca.models.perception import Perception, SteerablePerception
from delira_nca.models.rule import MLPRule

__all__ = ["growing", "isotropic", "persistent", "regenerating", "steerable"]


def growing(**changes: Any) -> dict[str, Any]:
    """Growing NCA: 16 channels beginning with RGBA, identity and Sobel filters, 128 hidden neurons.

    The alive mask is applied before and after the update.

    Parameters
    ----------
    **changes : object
        Arguments of the model to change.

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


def persistent(**changes: Any) -> dict[str, Any]:
    """Model of :func:`growing`. Its recipe trains with a pool, so that the grown image is stable."""
    return growing(**changes)


def regenerating(**changes: Any) -> dict[str, Any]:
    """Model of :func:`growing`. Its recipe trains with a pool and damage, so that the image regenerates."""
    return growing(**changes)


def isotropic(**changes: Any) -> dict[str, Any]:
    """Isotropic NCA: identity and laplacian only, so that growth is equivariant to rotations and reflections.

    Parameters
    ----------
    **changes : object
        Arguments of the model to change; ``perception=IsotropicPerception()`` adds the length of the gradient, with 12
        480 parameters.

    Returns
    -------
    dict
        Arguments of :class:`delira_nca.models.BasicNCAModel`; 9 408 parameters.

    Notes
    -----
    Mordvintsev, Randazzo & Fouts (2022), "Growing Isotropic Neural Cellular Automata". The alive mask is applied only
    before the update.
    """
    return growing(
        **{
            "perception": Perception("identity", "laplacian", padding="circular"),
            "rule": MLPRule(192, final_bias=False),
            "alive": AliveMask(channel=3, threshold=0.1, after=False),
            **changes,
        }
    )


def steerable(**changes: Any) -> dict[str, Any]:
    """Steerable NCA: the last of 16 channels is an angle, by which the perceived gradients are rotated.

    Dead cells keep the angle of the seed, which is the only source of directions.

    Parameters
    ----------
    **changes : object
        Arguments of the model to change; ``perception=SteerablePerception("gradient")`` together with
        ``alive=AliveMask(after=False)`` uses the gradient of the last channel as direction.

    Returns
    -------
    dict
        Arguments of :class:`delira_nca.models.BasicNCAModel`; 9 856 parameters.

    Notes
    -----
    Randazzo, Mordvintsev & Fouts (2023), "Growing Steerable Neural Cellular Automata".
    """
    return growing(
        **{
            "perception": SteerablePerception("angle"),
            "rule": MLPRule(128, final_bias=False),
            "alive": AliveMask(channel=3, threshold=0.1, after=False, num_spared=1),
            **changes,
        }
    )
