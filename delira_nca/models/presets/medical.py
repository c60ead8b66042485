"""Presets of pyramids for the segmentation of medical images, as in ``PyramidNCA(**presets.med_nca())``."""

from __future__ import annotations

from typing import Any

from delira_nca.models.basic_nca import BasicNCAModel
from delira_nca.models.perception import FullFilters, LearnedFilters, Perception
from delira_nca.models.rule import MLPRule, NormedRule

__all__ = ["m3d_nca", "med_nca", "octree_nca"]


def med_nca(
    *,
    num_image_channels: int = 1,
    num_output_channels: int = 1,
    num_channels: int = 16,
    fire_rate: float = 0.5,
    dims: int = 2,
    image_rows: bool = True,
    **changes: Any,
) -> dict[str, Any]:
    """Med-NCA: one automaton at a quarter of the image's resolution, and one at the full resolution.

    Parameters
    ----------
    num_image_channels, num_output_channels, num_channels : int
        Numbers of image channels, of output channels, and of all channels of the state.
    fire_rate, dims : float, int
        Fire rate and number of spatial dimensions of both automata.
    image_rows : bool
        Whether the last layers have the unused rows for the image channels of the published model. Without them there
        are 25 664 parameters; the function is equal.
    **changes : object
        Arguments of :class:`delira_nca.models.PyramidNCA` to change; ``patch_size`` trains on patches, which have the
        size of the coarse image in the publication.

    Returns
    -------
    dict
        Arguments of :class:`delira_nca.models.PyramidNCA`; 25 920 parameters.

    Notes
    -----
    Kalkhof, Gonzalez and Mukhopadhyay (2023), "Med-NCA: Robust and Lightweight Segmentation with Neural Cellular
    Automata". Adam with 16e-4 and betas (0.5, 0.5), decay 0.9999, Dice and cross entropy, batches of 48.
    """
    sizes = (num_image_channels, num_output_channels, num_channels, fire_rate, dims)
    perception = Perception("identity", FullFilters(2), padding="reflect")
    rule = MLPRule(128, final_bias=False, spare_rows=num_image_channels if image_rows else 0)
    models = [_level(perception, rule, *sizes) for _ in range(2)]
    return {"models": models, "scales": (4, 1), "steps": (64, 64), **changes}


def m3d_nca(
    *,
    num_levels: int = 2,
    num_image_channels: int = 1,
    num_output_channels: int = 1,
    num_channels: int = 16,
    fire_rate: float = 0.5,
    dims: int = 3,
    batch_norm: bool = True,
    image_rows: bool = True,
    **changes: Any,
) -> dict[str, Any]:
    """M3D-NCA: automata on volumes, with twice the resolution at each level.

    Parameters
    ----------
    num_levels : int
        Number of levels. The filters of the coarsest level have 7 cells along each axis, the others 3.
    num_image_channels, num_output_channels, num_channels : int
        Numbers of image channels, of output channels, and of all channels of the state.
    fire_rate, dims : float, int
        Fire rate and number of spatial dimensions of all automata.
    batch_norm : bool
        Whether the hidden layer is normalised over all cells, as published. Every cell then depends on all others, in
        evaluation too, and no fast back end supports it.
    image_rows : bool
        See :func:`med_nca`.
    **changes : object
        Arguments of :class:`delira_nca.models.PyramidNCA` to change.

    Returns
    -------
    dict
        Arguments of :class:`delira_nca.models.PyramidNCA`; 12 480 parameters in two levels.

    Notes
    -----
    Kalkhof and Mukhopadhyay (2023), "M3D-NCA: Robust 3D Segmentation with Built-in Quality Control". Optimizer as in
    :func:`med_nca`; Dice and focal loss, batches of 4.
    """
    spare = num_image_channels if image_rows else 0
    sizes = (num_image_channels, num_output_channels, num_channels, fire_rate, dims)
    rule = (NormedRule if batch_norm else MLPRule)(64, final_bias=False, spare_rows=spare)
    filters = [LearnedFilters(1, 3 if level else 7, bias=True) for level in range(num_levels)]
    models = [_level(Perception("identity", each, padding="reflect"), rule, *sizes) for each in filters]
    scales = tuple(2**level for level in reversed(range(num_levels)))
    return {"models": models, "scales": scales, "steps": (10,) * num_levels, "downscale": "max", **changes}


def octree_nca(
    *,
    num_levels: int = 5,
    num_steps: int = 5,
    num_image_channels: int = 1,
    num_output_channels: int = 1,
    num_channels: int = 16,
    fire_rate: float = 0.5,
    dims: int = 2,
    image_rows: bool = True,
    **changes: Any,
) -> dict[str, Any]:
    """OctreeNCA: many levels with few steps each, and 20 steps at the coarsest level.

    Parameters
    ----------
    num_levels : int
        Number of levels, each with a separate automaton.
    num_steps : int
        Number of steps of each level but the coarsest; 5 to 10 in the publication.
    num_image_channels, num_output_channels, num_channels : int
        Numbers of image channels, of output channels, and of all channels of the state.
    fire_rate, dims : float, int
        Fire rate and number of spatial dimensions of all automata.
    image_rows : bool
        See :func:`med_nca`.
    **changes : object
        Arguments of :class:`delira_nca.models.PyramidNCA` to change. With ``patch_size``, the two finest levels
        are trained on patches. ``scales`` may contain one number per axis, for volumes with thick slices.

    Returns
    -------
    dict
        Arguments of :class:`delira_nca.models.PyramidNCA`; 16 480 parameters in 5 levels of 2 dimensions.

    Notes
    -----
    "OctreeNCA: Single-Pass 184 MP Segmentation on Consumer Hardware" (BMVC 2025). Adam with 16e-4 and betas
    (0.9, 0.99), Dice and cross entropy, batches of 3, and a moving average of the weights.
    """
    sizes = (num_image_channels, num_output_channels, num_channels, fire_rate, dims)
    perception = Perception("identity", LearnedFilters(1, 3, bias=True), padding="reflect")
    rule = MLPRule(64, final_bias=False, spare_rows=num_image_channels if image_rows else 0)
    models = [_level(perception, rule, *sizes) for _ in range(num_levels)]
    return {
        "models": models,
        "scales": tuple(2**level for level in reversed(range(num_levels))),
        "steps": (20, *(num_steps,) * (num_levels - 1)),
        "downscale": "nearest",
        "patch_levels": min(2, num_levels),
        **changes,
    }


def _level(
    perception: Perception, rule: MLPRule, image: int, output: int, total: int, fire_rate: float, dims: int
) -> BasicNCAModel:
    return BasicNCAModel(
        num_image_channels=image,
        num_hidden_channels=total - image - output,
        num_output_channels=output,
        fire_rate=fire_rate,
        perception=perception,
        rule=rule,
        dims=dims,
    )
