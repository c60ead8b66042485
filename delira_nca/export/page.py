"""Data of a live page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from delira_nca._version import __version__
from delira_nca.checks import require_whole, require_wholes
from delira_nca.errors import ConfigError, ShapeError, require_choice
from delira_nca.export.cases import PageCase, describe_cases
from delira_nca.export.cell import describe_cell, pack
from delira_nca.models import BasicNCAModel, make_seed

__all__ = ["LARGEST_GRID", "TASKS", "as_tensor", "describe_page", "numbers"]

_LARGEST = 65504.0  # largest finite number of half precision


def as_tensor(what: str, given: Any) -> Any:
    """Convert a tensor or an array to a float32 tensor on the CPU; None is returned unchanged.

    Raises
    ------
    ConfigError
        If the value is not a tensor or an array, or has elements that are not finite in half precision.
    """
    if given is None:
        return None
    try:
        tensor: Tensor = torch.as_tensor(given).detach().cpu()
    except (TypeError, ValueError, RuntimeError):
        raise ConfigError(f"{what} is a tensor or an array, not {given!r}") from None
    if not torch.isfinite(tensor).all():
        raise ConfigError(f"{what} holds NaN or infinity")
    if tensor.numel() and float(tensor.abs().max()) > _LARGEST:
        raise ConfigError(f"{what} holds {float(tensor.abs().max()):g}: a page shows numbers up to {_LARGEST:g}")
    return tensor.float()


def numbers(what: str, given: Any) -> list[float]:
    """Convert a sequence, an array or a tensor to a list of finite floats.

    Raises
    ------
    ConfigError
        If an element is not a finite number.

    Examples
    --------
    >>> numbers("mean", (0, 0.5))
    [0.0, 0.5]
    """
    try:
        values = None if isinstance(given, str) else [float(value) for value in given]
    except (TypeError, ValueError):
        values = None
    if values is None or not all(map(math.isfinite, values)):
        raise ConfigError(f"{what} is one finite number for each fixed channel, not {given!r}")
    return values


TASKS = ("grow", "segment", "classify")
LARGEST_GRID = 2048
"""Maximum number of cells along an edge, the texture size that every WebGL2 supports."""

_EXPLANATIONS = {
    "grow": (
        "Every dot is a cell. It sees only itself and {neighbours}, and all cells follow the same small rule.",
        "No one draws the picture: it grows from one cell, and the cells maintain it together.",
        "Wipe over it to kill cells, or cut it in half, and watch what is left.",
    ),
    "segment": (
        "Every dot is a cell that sees its part of the picture and {neighbours}, and nothing else.",
        "From step to step the cells agree on what belongs to the structure; the colour is their decision.",
        "Open or drop a picture of your own, or wipe out what the cells have found and watch it come back.",
    ),
    "cases": (
        "Every dot is a cell that sees its part of the picture and {neighbours}, and nothing else.",
        "From step to step the cells agree on what belongs to the structure; the colour is their decision.",
        "They stop after the number of steps of a prediction. Wipe out what they have found, and run on.",
    ),
    "classify": (
        "Draw. Every inked dot becomes a cell that sees itself and {neighbours}, and nothing else.",
        "The cells talk to their neighbours until they agree on what they are together; colours are their votes.",
        "Change the drawing while they live, and watch them change their minds.",
    ),
}


def describe_page(
    model: BasicNCAModel,
    *,
    title: str,
    grid: Sequence[int] | None,
    seed: Tensor | None,
    target: Tensor | Mapping[str, Tensor] | None,
    goals: Mapping[str, Sequence[float]] | None,
    image: Tensor | None,
    classes: Sequence[str] | None,
    task: str | None,
    normalize: tuple[Sequence[float], Sequence[float]] | None,
    steps: int | None,
    figures: Mapping[str, object] | None,
    explanation: Sequence[str] | None,
    weights: str,
    random_seed: int,
    cases: Sequence[PageCase],
) -> dict[str, Any]:
    """Validate the options of :func:`delira_nca.export.to_html` and return the data of the page as plain values."""
    cell = describe_cell(model, weights)
    seed, image = as_tensor("the seed", seed), as_tensor("the image", image)
    if isinstance(target, Mapping):
        target = {name: as_tensor(f"the target of {name!r}", given) for name, given in target.items()}
    else:
        target = as_tensor("the target", target)
    task = _task(model, task, goals, classes)
    _require_cases_alone(task, cases, {"image": image, "grid": grid})
    shape = _grid(model, grid, target, cases[0].image if cases else image)
    return {
        "delira_nca": __version__,
        "title": str(title),
        "run": None,
        "training": None,
        "epochs": [],
        "task": task,
        "grid": list(shape),
        "cell": cell,
        "channelNames": _channel_names(model, task, classes),
        "picture": _picture(model, task),
        "outputs": {"first": model.first_output_channel, "count": model.num_output_channels},
        "classes": [str(name) for name in classes or ()],
        "seed": _seed(model, task, seed, shape),
        "targets": _targets(model, task, target, goals, shape),
        "goals": _goals(model, task, goals),
        "image": _image(model, image, task, shape),
        "cases": describe_cases(model, cases),
        "normalize": _normalize(model, normalize),
        "hiddenNoise": None
        if not model.pad_noise or seed is not None or task == "grow"
        else {"mean": 0.5, "std": 0.225, "first": model.num_image_channels, "count": model.num_hidden_channels},
        "horizon": _horizon(model, steps, is_prediction=bool(cases)),
        "figures": _figures(figures),
        "explanation": _explanation(model, explanation, "cases" if cases else task),
        "randomSeed": require_whole("random_seed", random_seed) & 0xFFFFFFFF,
    }


def _task(model: BasicNCAModel, task: str | None, goals: object, classes: Sequence[str] | None) -> str:
    if task is None:
        looks = model.num_fixed_channels > 0 and not goals
        task = "classify" if classes else "segment" if looks else "grow"
    require_choice("task", task, TASKS)
    if task != "grow" and (not model.num_fixed_channels or not model.num_output_channels):
        raise ConfigError(
            f"to {task}, a model looks at fixed channels and answers in output channels; "
            f"this one has {model.num_fixed_channels} and {model.num_output_channels}"
        )
    if task == "segment" and model.num_fixed_channels not in (1, 3):
        raise ConfigError(
            f"a picture is grey or RGB, 1 or 3 channels, but the model looks at {model.num_fixed_channels}"
        )
    if isinstance(classes, str):
        raise ConfigError(f"classes are several names, not the text {classes!r}")
    if classes and len(classes) != model.num_output_channels:
        raise ConfigError(f"{len(classes)} classes for {model.num_output_channels} output channels: {list(classes)}")
    if task == "classify" and not classes:
        raise ConfigError("to classify, the page needs classes=[...], a name for every output channel")
    return task


def _grid(
    model: BasicNCAModel, grid: Sequence[int] | None, target: Tensor | Mapping[str, Tensor] | None, image: Tensor | None
) -> tuple[int, int]:
    if grid is None:
        given = next(iter(target.values()), None) if isinstance(target, Mapping) else target
        given = image if given is None else given
        grid = (64, 64) if given is None else given.shape[-2:]
    height, width = require_wholes("grid", grid, 1, count=2)
    shape = height, width
    if image is not None and tuple(image.shape[-2:]) != shape:
        raise ShapeError(f"the image has {tuple(image.shape[-2:])} cells, and the grid {shape}: leave the grid out")
    if max(shape) > LARGEST_GRID:
        raise ConfigError(f"a grid of {shape[0]} x {shape[1]} cells: graphics cards hold up to {LARGEST_GRID} an edge")
    if model.perception.padding in ("reflect", "circular") and min(shape) <= model.radius:
        raise ConfigError(f"a grid of {shape[0]} x {shape[1]} cells is too small for a padding of {model.radius} cells")
    return shape


def _channel_names(model: BasicNCAModel, task: str, classes: Sequence[str] | None) -> list[str]:
    image, hidden, output = model.num_image_channels, model.num_hidden_channels, model.num_output_channels
    colours = ("red", "green", "blue", "alpha")
    is_colour = image in (3, 4) and (task != "grow" or not model.num_fixed_channels)
    names = [colours[k] if is_colour else f"image {k + 1}" for k in range(image)]
    names += [f"hidden {k + 1}" for k in range(hidden)]
    if task == "classify" and classes:
        return [*names, *map(str, classes)]
    is_colour = task == "grow" and model.num_fixed_channels > 0 and output in (3, 4)
    return [*names, *(colours[k] if is_colour else f"output {k + 1}" for k in range(output))]


def _picture(model: BasicNCAModel, task: str) -> dict[str, int]:
    """First channel and number of channels of the visible picture in the state."""
    if task == "grow" and model.num_fixed_channels:
        count = model.num_output_channels or model.num_hidden_channels
        first = model.first_output_channel if model.num_output_channels else model.num_fixed_channels
    else:
        first, count = 0, model.num_image_channels or model.num_channels
    return {"first": first, "count": count if count in (1, 3, 4) else 4 if count > 4 else 1}


def _seed(model: BasicNCAModel, task: str, seed: Tensor | None, shape: tuple[int, int]) -> dict[str, Any] | None:
    if seed is None:
        if task != "grow":
            return None
        alive = model.alive.channel if model.alive is not None else min(3, model.num_channels - 1)
        first = alive if model.num_fixed_channels == 0 else model.num_fixed_channels
        seed = make_seed(model.num_channels, (1, 1), first_channel=first)
    if seed.dim() != 3 or seed.shape[0] != model.num_channels:
        raise ShapeError(f"a seed of this model is ({model.num_channels}, h, w), not {tuple(seed.shape)}")
    if any(given > cells or given < 1 for given, cells in zip(seed.shape[1:], shape, strict=True)):
        raise ShapeError(f"a seed of {tuple(seed.shape[1:])} cells does not fit into the grid of {shape}")
    block = _trimmed(seed)
    return {"block": pack(block), "whole": max(block.shape[1:]) * 2 > min(shape)}


def _trimmed(seed: Tensor) -> Tensor:
    """Smallest odd-sized block around the centre cell that contains all nonzero cells."""
    height, width = seed.shape[1:]
    row, column = height // 2, width // 2
    lived = seed.ne(0).any(0).nonzero()
    if not len(lived):
        return seed[:, row : row + 1, column : column + 1]
    reach_y, reach_x = (lived - torch.tensor([row, column])).abs().amax(0).tolist()
    if reach_y > min(row, height - 1 - row) or reach_x > min(column, width - 1 - column):
        return seed
    return seed[:, row - reach_y : row + reach_y + 1, column - reach_x : column + reach_x + 1]


def _targets(
    model: BasicNCAModel,
    task: str,
    target: Tensor | Mapping[str, Tensor] | None,
    goals: Mapping[str, Sequence[float]] | None,
    shape: tuple[int, int],
) -> list[dict[str, Any] | None]:
    if target is None:
        return [None] * max(1, len(goals or ()))
    if task != "grow":
        raise ConfigError(f"a target is what grows; this page is to {task}")
    if isinstance(target, Mapping):
        for name in target:
            require_choice("goal", name, goals or ())
    else:
        target = {next(iter(goals)) if goals else "": target}
    return [_target(model, target.get(name), shape) for name in (goals or {"": ()})]


def _target(model: BasicNCAModel, target: Tensor | None, shape: tuple[int, int]) -> dict[str, Any] | None:
    if target is None:
        return None
    picture = _picture(model, "grow")
    if target.dim() != 3 or target.shape[0] != picture["count"]:
        raise ShapeError(f"a target of this model is ({picture['count']}, h, w), not {tuple(target.shape)}")
    if any(given > cells for given, cells in zip(target.shape[1:], shape, strict=True)):
        raise ShapeError(f"a target of {tuple(target.shape[1:])} cells is larger than the grid of {shape}")
    whole = target.new_zeros(len(target), *shape)
    top, left = (cells // 2 - given // 2 for given, cells in zip(target.shape[1:], shape, strict=True))
    whole[:, top : top + target.shape[1], left : left + target.shape[2]] = target
    return pack(whole, "float16")


def _goals(model: BasicNCAModel, task: str, goals: Mapping[str, Sequence[float]] | None) -> list[dict[str, Any]]:
    if goals and task != "grow":
        raise ConfigError(f"goals say what grows; this page is to {task}")
    described = []
    for name, given in (goals or {}).items():
        values = numbers(f"goal {name!r}", given)
        if not model.num_fixed_channels or len(values) != model.num_fixed_channels:
            raise ConfigError(
                f"goal {name!r} has {len(values)} values, but the model has {model.num_fixed_channels} fixed channels"
            )
        described.append({"name": str(name), "values": values})
    return described


def _image(model: BasicNCAModel, image: Tensor | None, task: str, shape: tuple[int, int]) -> dict[str, Any] | None:
    if image is None:
        return None
    if task == "grow":
        raise ConfigError("an image is looked at; this model grows a picture of its own: give a seed or a target")
    if image.dim() != 3 or image.shape[0] != model.num_fixed_channels:
        raise ShapeError(f"an image for this model is ({model.num_fixed_channels}, h, w), not {tuple(image.shape)}")
    return pack(image, "float16")


def _normalize(
    model: BasicNCAModel, normalize: tuple[Sequence[float], Sequence[float]] | None
) -> dict[str, list[float]]:
    fixed = model.num_fixed_channels
    given = ([0.0] * fixed, [1.0] * fixed) if normalize is None else normalize
    if not isinstance(given, Sequence) or len(given) != 2:
        raise ConfigError(f"normalize is (mean, std) of each of {fixed} fixed channels, not {normalize!r}")
    mean, std = (numbers("normalize", part) for part in given)
    if len(mean) != fixed or len(std) != fixed or not all(value > 0 for value in std):
        raise ConfigError(f"normalize is mean and std (above 0) of each of {fixed} fixed channels, not {normalize!r}")
    return {"mean": mean, "std": std}


def _require_cases_alone(task: str, cases: Sequence[PageCase], others: Mapping[str, object]) -> None:
    if not cases:
        return
    if task != "segment":
        raise ConfigError(f"cases are segmented; this page is to {task}")
    for name, given in others.items():
        if given is not None:
            raise ConfigError(f"a page with cases takes image and grid from them: leave {name} out")


def _horizon(model: BasicNCAModel, steps: int | None, *, is_prediction: bool) -> int:
    if steps is None:
        trained = model.inference_timesteps if is_prediction else model.training_timesteps
        steps = trained if isinstance(trained, int) else trained[1]
    return require_whole("steps", steps, 1)


def _figures(figures: Mapping[str, object] | None) -> list[list[str]]:
    if figures is not None and not isinstance(figures, Mapping):
        raise ConfigError(f"figures are names to values, not {figures!r}")
    return [[str(name), str(value)] for name, value in (figures or {}).items()]


def _explanation(model: BasicNCAModel, explanation: Sequence[str] | None, task: str) -> list[str]:
    if explanation is None:
        seen = "its eight neighbours" if model.radius == 1 else f"its neighbours up to {model.radius} cells away"
        return [line.format(neighbours=seen) for line in _EXPLANATIONS[task]]
    if isinstance(explanation, str) or not 1 <= len(explanation) <= 3:
        raise ConfigError(f"an explanation is one to three lines, not {explanation!r}")
    return list(map(str, explanation))
