"""JSON description of an automaton, for the engines of the live page."""

from __future__ import annotations

import base64
from typing import Any

import torch
from torch import Tensor

from delira_nca.errors import ExportError, require_choice
from delira_nca.models.basic_nca import BasicNCAModel
from delira_nca.models.compiled import unwrapped
from delira_nca.models.perception import LearnedFilters, Perception
from delira_nca.rollout.cell_parameters import UnsupportedCellError

__all__ = ["WEIGHTS", "WEIGHT_NAMES", "describe_cell", "pack"]

WEIGHTS = {"float32": "<f4", "float16": "<f2"}
WEIGHT_NAMES = ("filters", "filterBias", "full", "fullBias", "layers")
"""Entries of :func:`describe_cell` that change during training."""


def pack(tensor: Tensor, weights: str = "float32") -> dict[str, Any]:
    """Return the shape, type and base64-encoded values of a tensor.

    Examples
    --------
    >>> pack(torch.tensor([1.0, 2.0]), "float16")
    {'shape': [2], 'type': 'float16', 'data': 'ADwAQA=='}
    """
    array = tensor.detach().cpu().float().numpy().astype(WEIGHTS[weights])
    return {"shape": list(array.shape), "type": weights, "data": base64.b64encode(array.tobytes()).decode()}


def describe_cell(model: BasicNCAModel, weights: str = "float32") -> dict[str, Any]:
    """Describe the step of a two-dimensional automaton.

    Parameters
    ----------
    model : BasicNCAModel
        Model without user-defined parts.
    weights : {"float32", "float16"}
        Type of the stored weights; ``"float16"`` halves the size.

    Returns
    -------
    dict
        Plain values, with the terms of :class:`delira_nca.rollout.cell_parameters.CellParameters`.

    Raises
    ------
    ExportError
        If the engines of the page do not support a part of the model (a user-defined part, a head, one or three
        dimensions), or if weights are not finite. The message names the part.
    """
    require_choice("type of the weights", weights, WEIGHTS)
    model = unwrapped(model)
    what = type(model).__name__
    if not callable(getattr(model, "to_arrays", None)):
        raise ExportError(f"a live page shows a BasicNCAModel, not a {what}")
    if model.dims != 2:
        raise ExportError(f"a live page shows cells on a plane; this {what} has {model.dims} spatial dimensions")
    if model.head is not None:
        raise ExportError(f"a live page has no engine for a head, and this {what} has a {type(model.head).__name__}")
    if model.input_mask is not None:
        raise ExportError(f"a live page lets all cells update, and those of this {what} do where the input says so")
    if type(model).prepare_input is not BasicNCAModel.prepare_input:
        raise ExportError(f"{what} prepares its input in a way of its own, which a live page cannot do")
    try:
        with torch.no_grad():
            cell = model.to_arrays()
    except UnsupportedCellError as error:
        raise ExportError(f"this {what} cannot live on a page: {error}") from None
    for name, tensor in model.state_dict().items():
        if not torch.isfinite(tensor.to(torch.float16) if weights == "float16" else tensor).all():
            raise ExportError(f"{name} holds NaN or infinity as {weights}: there is nothing to show")

    names = ("channel", "threshold", "before", "after")
    alive = None if cell.alive is None else {name: getattr(cell.alive, name) for name in names}

    def packed(tensor: Tensor | None) -> dict[str, Any] | None:
        return None if tensor is None else pack(tensor, weights)

    return {
        "channels": cell.num_channels,
        "fixed": cell.num_fixed_channels,
        "padding": cell.padding,
        "filters": pack(cell.filters),  # float32: the coefficients of a filter must cancel exactly
        "filterBias": packed(cell.filter_bias),
        "full": packed(cell.full),
        "fullBias": packed(cell.full_bias),
        "fullRelu": cell.full_relu,
        "gradients": _gradients(model.perception),
        "layers": [{"weight": packed(w), "bias": packed(b)} for w, b in zip(cell.weights, cell.biases, strict=True)],
        "nonlinearity": cell.nonlinearity,
        "timeScale": cell.time_scale,
        "alive": alive,
        "fireRate": cell.fire_rate,
        "updateNoise": cell.update_noise,
    }


def _gradients(perception: torch.nn.Module) -> list[list[int]]:
    """Indices of the pairs of depth-wise filters that are the two gradients of a Sobel filter."""
    pairs, number = [], 0
    for spec in perception.specs if isinstance(perception, Perception) else ():
        if spec == "sobel":
            pairs.append([number, number + 1])
        if isinstance(spec, str):
            number += 2 if spec == "sobel" else 1
        elif isinstance(spec, LearnedFilters):
            number += spec.num
    return pairs
