"""Tiled prediction of images that do not fit into memory, with the result of the whole image."""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from delira_nca.checks import plain_numbers, require_whole, require_wholes
from delira_nca.errors import ConfigError, ShapeError
from delira_nca.models.basic_nca import BasicNCAModel
from delira_nca.models.compiled import unwrapped
from delira_nca.models.inputs import interpret_range_parameter, require_tensor
from delira_nca.rollout.masks import fire_mask
from delira_nca.seeding import generator

__all__ = ["step_reach", "tiled_predict"]

_CELLWISE = (nn.ReLU, nn.LeakyReLU, nn.GELU, nn.SiLU, nn.Tanh, nn.Sigmoid, nn.Identity, nn.Softplus)
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def step_reach(model: BasicNCAModel) -> int:
    """Return the distance of the farthest cell that the next state of a cell depends on, as the maximum over the axes.

    It is the radius of the perception, plus 1 if an alive mask is applied after the update, as it depends on the new
    states of the neighbours.

    Examples
    --------
    >>> from delira_nca.models import presets
    >>> step_reach(BasicNCAModel(**presets.growing()))
    2
    """
    alive = model.alive
    if alive is None:
        return model.radius
    return model.radius + 1 if alive.after else max(model.radius, int(alive.before))


@plain_numbers
@torch.no_grad()
def tiled_predict(
    model: BasicNCAModel,
    image: Tensor,
    tile: int | Sequence[int],
    steps: int | tuple[int, int] | None = None,
    overlap: int | None = None,
    *,
    seed: int = 0,
    exact: bool = True,
    goal: Tensor | int | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """Predict an image in tiles, with only one tile and its surroundings in memory.

    Parameters
    ----------
    model : BasicNCAModel
        Automaton with one resolution.
    image : Tensor
        (B, num_image_channels, *spatial) image or (B, C, *spatial) state. Tiles are moved to the device of the model.
    tile : int or sequence of int
        Number of cells of a tile along each axis. The last tile of an axis is shifted to end at the border of the
        image.
    steps : int, tuple or None
        Number of steps, or a range; ``inference_timesteps`` by default.
    overlap : int or None
        Number of additional cells around a tile that are computed and discarded. The default, ``steps *
        step_reach(model)``, gives the result of ``model.predict(image).pred``.
    seed : int
        Seed of all random numbers, as for :meth:`BasicNCAModel.predict`.
    exact : bool
        Whether to raise if the tiles would differ from the whole prediction, because noise is drawn for a whole grid or
        a part of the model depends on more distant cells. If False, every tile is predicted as a separate image.
    goal : Tensor, int or None
        Goal of each sample, for a model with a conditioning.
    out : Tensor or None
        Tensor for the prediction, on any device, for instance a memory-mapped file.

    Returns
    -------
    (B, P, *spatial) tensor
        ``out``, or a new tensor on the device of the image.

    Raises
    ------
    ConfigError
        If a number is out of range, the model is a pyramid, or it cannot be tiled exactly. The message gives the
        reason.
    ShapeError
        If ``out`` has the wrong shape.

    Warns
    -----
    UserWarning
        If the overlap is smaller than the reach of the steps. The message gives the required number.

    Examples
    --------
    >>> model = BasicNCAModel(num_image_channels=1, num_hidden_channels=6, num_output_channels=1, fire_rate=0.5)
    >>> image = torch.rand(1, 1, 50, 70)
    >>> tiled = tiled_predict(model, image, tile=32, steps=4, seed=1)
    >>> torch.allclose(tiled, model.predict(image, 4, seed=1).pred, atol=1e-6)
    True
    """
    model = unwrapped(model)
    if not isinstance(model, BasicNCAModel):
        raise ConfigError(f"tiles are of a BasicNCAModel, which has one resolution, not of a {type(model).__name__}")
    if exact and (reason := _why_not_exact(model)) is not None:
        raise ConfigError(f"tiles of this {type(model).__name__} would not be those of the whole: {reason}")
    require_tensor(image)
    if image.dim() != model.dims + 2:
        raise ShapeError(
            f"an image of this model is (B, channels, {model.dims} spatial axes), not {tuple(image.shape)}"
        )
    shape = tuple(image.shape[2:])
    sizes = require_wholes("tile", tile, 1, count=len(shape), repeat=len(shape))
    number = interpret_range_parameter(model.inference_timesteps if steps is None else steps, generator(seed, "steps"))
    margin = _margin(model, number, overlap)
    circular = getattr(model.perception, "padding", None) == "circular"
    corners = [range(0, size, cells) for size, cells in zip(shape, sizes, strict=True)]
    for corner in itertools.product(*corners):
        spans = [
            _Span(max(0, min(first, size - cells)), min(first + cells, size), margin, size, circular)
            for first, cells, size in zip(corner, sizes, shape, strict=True)
        ]
        fires = _fires(model, len(image), shape, spans, seed) if model.fire_rate < 1 and exact else None
        pred = model.predict(_taken(image, spans), number, seed=seed, masks=fires, goal=goal).pred
        if pred.shape[2:] != tuple(span.length for span in spans):
            raise ConfigError(
                f"a prediction of {tuple(pred.shape[2:])} for a tile of {tuple(s.length for s in spans)}: the head of "
                f"this {type(model).__name__} changes the grid, which tiles cannot follow"
            )
        if out is None:
            out = image.new_empty(len(image), pred.shape[1], *shape, dtype=pred.dtype)
        elif out.shape != (len(image), pred.shape[1], *shape):
            expected = (len(image), pred.shape[1], *shape)
            raise ShapeError(f"out has the shape of the prediction, {expected}, not {tuple(out.shape)}")
        inside: tuple[Any, ...] = (..., *(slice(span.skip, span.skip + span.stop - span.first) for span in spans))
        place: tuple[Any, ...] = (..., *(slice(span.first, span.stop) for span in spans))
        out[place] = pred[inside].to(out.device, out.dtype)
    if out is None:
        raise ShapeError(f"there is nothing to predict in an image of {tuple(image.shape)}")
    return out


class _Span:
    """Cells of a tile along one axis, and the additional cells around it."""

    def __init__(self, first: int, stop: int, margin: int, size: int, circular: bool) -> None:
        self.first, self.stop = first, stop
        if circular and stop - first + 2 * margin < size:
            begin, end = first - margin, stop + margin
        elif circular:  # the whole axis, so that it wraps around as in the whole image
            begin, end = 0, size
        else:
            begin, end = max(first - margin, 0), min(stop + margin, size)
        self.skip, self.length = first - begin, end - begin
        self.cells = torch.arange(begin, end) % size


def _taken(image: Tensor, spans: Sequence[_Span]) -> Tensor:
    for axis, span in enumerate(spans):
        begin = int(span.cells[0])
        if begin + span.length <= image.shape[axis + 2]:
            image = image.narrow(axis + 2, begin, span.length)
        else:
            image = image.index_select(axis + 2, span.cells.to(image.device))
    return image


def _fires(
    model: BasicNCAModel, samples: int, shape: tuple[int, ...], spans: Sequence[_Span], seed: int
) -> Callable[[int], Tensor | None]:
    """Fire masks of the cells of a tile, drawn by their index in the whole grid."""
    numbers = torch.zeros((), dtype=torch.int64)
    for size, span in zip(shape, spans, strict=True):
        numbers = numbers.unsqueeze(-1) * size + span.cells
    numbers, lengths = numbers.to(model.device), [span.length for span in spans]

    def masks(t: int) -> Tensor | None:
        return fire_mask(seed, t, samples, lengths, model.fire_rate, model.device, cells=numbers)

    return masks


def _margin(model: BasicNCAModel, steps: int, overlap: int | None) -> int:
    needed = steps * step_reach(model)
    if overlap is None:
        return needed
    require_whole("overlap", overlap, 0)
    if overlap < needed:
        warnings.warn(
            f"an overlap of {overlap} cells is smaller than {steps} steps reach: the result is that of the whole image "
            f"from {needed} cells on",
            stacklevel=3,
        )
    return overlap


def _why_not_exact(model: BasicNCAModel) -> str | None:
    cls = type(model)
    if model.update_noise > 0:
        return "its update noise is drawn for a whole grid (exact=False lets each tile draw its own)"
    if model.pad_noise:
        return "its hidden channels start as noise of a whole grid (exact=False lets each tile draw its own)"
    if model.num_draws:
        return f"its rule, a {type(model.rule).__name__}, chooses by draws of a whole grid (exact=False has others)"
    if cls.prepare_input is not BasicNCAModel.prepare_input:
        return "it prepares its input in a way of its own (exact=False prepares each tile)"
    if cls.perceive is not BasicNCAModel.perceive:
        return "it perceives in a way of its own, whose reach is not known (exact=False tiles it all the same)"
    for name, part in (("perception", model.perception), ("rule", model.rule)):
        if not getattr(part, "local", True) or any(map(_looks_at_all_cells, part.modules())):
            return f"its {name}, a {type(part).__name__}, looks at all cells (exact=False tiles it all the same)"
    if not hasattr(model.rule, "radius") and any(map(_looks_around, model.rule.modules())):
        return f"its rule, a {type(model.rule).__name__}, looks around and has no attribute radius that says how far"
    if model.head is not None and not all(map(_is_cellwise, model.head.modules())):
        return f"its head, a {type(model.head).__name__}, may look beyond a cell (exact=False tiles it all the same)"
    return None


def _looks_at_all_cells(part: nn.Module) -> bool:
    batch: Any = nn.modules.batchnorm._NormBase
    if isinstance(part, batch):
        return part.running_mean is None
    return isinstance(part, nn.GroupNorm) or "Adaptive" in type(part).__name__


def _looks_around(part: nn.Module) -> bool:
    return isinstance(part, _CONVOLUTIONS) and math.prod(part.kernel_size) > 1


def _is_cellwise(part: nn.Module) -> bool:
    if isinstance(part, _CONVOLUTIONS):
        return math.prod(part.kernel_size) == 1 and math.prod(part.stride) == 1 and not any(part.padding)
    return isinstance(part, (*_CELLWISE, nn.Sequential))
