"""The models of a pyramid's levels: whether they fit each other, and how a description holds them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from delira_nca.checks import require_type
from delira_nca.errors import ConfigError, ShapeError
from delira_nca.models.basic_nca import BasicNCAModel
from delira_nca.models.by_path import class_of_package

__all__ = ["check_models", "check_size", "described", "least_cells", "made"]


def check_models(models: Sequence[Any], levels: int) -> None:
    """Refuse models that cannot be the levels of a pyramid.

    Raises
    ------
    ConfigError
        If one is no automaton, or they differ in number, dimensions or channels.
    """
    for model in models:
        require_type("a level of a pyramid", model, BasicNCAModel)
    if len(models) not in (1, levels):
        raise ConfigError(f"a pyramid has one model, or one for each of its {levels} levels, not {len(models)}")
    if len({id(model) for model in models}) < len(models):
        raise ConfigError("a model stands at several levels: give one model for all, or copies")
    kinds = [(m.dims, m.num_image_channels, m.num_hidden_channels, m.num_output_channels) for m in models]
    if len(set(kinds)) > 1:
        raise ConfigError(
            f"all levels have the same dimensions and image, hidden and output channels, not {kinds} in this order"
        )
    if any(model.conditioning is not None for model in models):
        raise ConfigError("the levels of a pyramid are told no goal: none of its models may have a conditioning")
    for level, model in enumerate(models[:-1]):
        if model.head is not None:
            raise ConfigError(f"the head of level {level} would never be asked: only the last model may have one")


def check_size(shape: tuple[int, ...], scales: Sequence[tuple[int, ...]], fewest: Sequence[int]) -> None:
    """Refuse an image that is too small for a level of a pyramid.

    Parameters
    ----------
    shape : spatial shape of the image.
    scales : of the levels, for each axis, from coarse to fine.
    fewest : cells along each axis that a level needs.

    Raises
    ------
    ShapeError
        If the image has other axes, is smaller than one cell of the coarsest level, or has too few cells somewhere.

    Examples
    --------
    >>> check_size((9, 3), [(4, 4), (1, 1)], [2, 2])
    Traceback (most recent call last):
    delira_nca.errors.ShapeError: an image of (9, 3) is smaller than one cell of the coarsest level, ...
    """
    top = scales[0]
    if len(shape) != len(top):
        raise ShapeError(f"an image of this pyramid has {len(top)} spatial axes, not {len(shape)}: {shape}")
    blocks = [
        max(-(-n * scale[axis] // top[axis]) for n, scale in zip(fewest, scales, strict=True))
        for axis in range(len(top))
    ]
    least = tuple(max(by, (n - 1) * by + 1) for n, by in zip(blocks, top, strict=True))
    if any(size < by for size, by in zip(shape, top, strict=True)):
        raise ShapeError(
            f"an image of {shape} is smaller than one cell of the coarsest level, which is {top}: this pyramid takes "
            f"images of at least {least}"
        )
    for scale, needed in zip(scales, fewest, strict=True):
        cells = tuple(-(-size // by) * by // fine for size, by, fine in zip(shape, top, scale, strict=True))
        if min(cells) < needed:
            raise ShapeError(
                f"an image of {shape} is {cells} cells at scale {scale}, whose padding needs at least {needed} along "
                f"each axis: this pyramid takes images of at least {least}"
            )


def least_cells(model: BasicNCAModel) -> int:
    """Cells along an axis that the padding of a model's perception needs."""
    extra = {"reflect": 1, "circular": 0}.get(getattr(model.perception, "padding", ""))
    return 1 if extra is None else max(1, model.radius + extra)


def described(model: Any) -> dict[str, Any]:
    """Class path and arguments of a level's model."""
    return {"class": f"{type(model).__module__}.{type(model).__qualname__}", "arguments": model.to_dict()}


def made(description: Mapping[str, Any]) -> BasicNCAModel:
    """Model from what :func:`described` gave, with fresh weights.

    Raises
    ------
    ConfigError
        If its class is not the package's, or a part of it is the user's own.
    """
    cls = class_of_package(description["class"], BasicNCAModel)
    if cls is None:
        raise ConfigError(f"a level is a {description['class']}, which is not the package's: pass the models")
    return cls.from_dict(description["arguments"])
