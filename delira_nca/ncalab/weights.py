"""Weights trained by NCALab, Med-NCA and M3D-NCA."""

from __future__ import annotations

import json
import logging
import math
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from delira_nca.errors import CheckpointError, ConfigError, MissingFileError
from delira_nca.io.paths import absolute
from delira_nca.models.basic_nca import BasicNCAModel as OurModel
from delira_nca.models.description import arguments_of
from delira_nca.models.perception import FullFilters, LearnedFilters, Perception
from delira_nca.models.pyramid import PyramidNCA
from delira_nca.models.rule import MLPRule, NormedRule
from delira_nca.ncalab.cascade import CascadeNCA
from delira_nca.ncalab.model import BasicNCAModel
from delira_nca.ncalab.tasks import (
    BinarySegmentationNCAModel,
    ClassificationNCAModel,
    GrowingNCAModel,
    SelfClassificationNCAModel,
)

__all__ = ["MedNCAModel", "load_ncalab"]

_LOGGER = logging.getLogger("delira_nca")
_UNKNOWN = ("fire_rate", "use_alive_mask", "filter_padding", "pad_noise", "training_timesteps", "inference_timesteps")
"""Settings that a state dict does not contain."""
Weights = dict[str, Tensor]


class MedNCAModel(OurModel):
    """Automaton of Med-NCA or M3D-NCA, whose output channels precede the hidden ones; made by :func:`load_ncalab`."""

    @property
    def first_output_channel(self) -> int:
        """Index of the first output channel, which follows the image channels."""
        return self.num_image_channels


def load_ncalab(
    source: str | os.PathLike[str] | Mapping[str, Tensor] | Sequence[Any],
    model: Any = None,
    *,
    scales: Sequence[int] | None = None,
    steps: Sequence[int] | None = None,
    **arguments: Any,
) -> Any:
    """Load weights that were trained by NCALab, Med-NCA or M3D-NCA into a model of this package.

    Parameters
    ----------
    source : path, mapping or sequence
        State dict; file of one (``.pth`` or ``.safetensors``); or a folder with ``best_model.pth`` or
        ``last_model.pth``, whose ``history.json`` defines the arguments of the model. For Med-NCA and M3D-NCA also a
        sequence of state dicts or files, one per level from coarse to fine, or a folder with ``model0.pth``,
        ``model1.pth``, ... Compiled models (``_orig_mod.``) are accepted. No code in the files is executed.
    model : model or type, optional
        Model to load the weights into, or its class. By default the class follows from the weights and arguments.
    scales, steps : sequence of int, optional
        Scales and numbers of steps of a cascade, or of the levels of Med-NCA and M3D-NCA.
    **arguments : object
        Arguments of the model, as they were in training. For a model of Med-NCA and M3D-NCA: ``fire_rate``, there the
        probability that a cell does *not* fire, ``input_channels`` and ``output_channels``.

    Returns
    -------
    model
        Model in evaluation mode: a class of :mod:`delira_nca.ncalab`; for Med-NCA and M3D-NCA a
        :class:`MedNCAModel`, or a :class:`~delira_nca.models.PyramidNCA` of several levels. Its images are (B, c, X, Y)
        for (B, X, Y, c) of the original.

    Raises
    ------
    MissingFileError, CheckpointError
        If the file does not exist, or contains no such weights.
    ConfigError
        If an argument is needed that follows neither from the weights nor from a history.

    Notes
    -----
    A state dict does not contain settings such as the fire rate and the alive mask. A warning lists those that are
    neither given nor in a history, with the values that are assumed.

    Examples
    --------
    >>> from delira_nca.ncalab import GrowingNCAModel
    >>> trained = GrowingNCAModel("cpu", num_hidden_channels=12, use_alive_mask=True)
    >>> _ = torch.nn.init.normal_(trained.rule.network[-1].weight)
    >>> weights = {f"_orig_mod.{name}": tensor for name, tensor in trained.state_dict().items()}
    >>> loaded = load_ncalab(weights, use_alive_mask=True, fire_rate=0.5)
    >>> type(loaded).__name__, loaded.num_channels
    ('GrowingNCAModel', 16)
    """
    if isinstance(source, Mapping):
        weights, described = _clean(source), {}
    elif isinstance(source, Sequence) and not isinstance(source, str):
        return _pyramid([_read(one) for one in source], scales, steps, arguments)
    else:
        path = absolute(source)
        if path.is_dir() and (levels := sorted(path.glob("model[0-9]*.pth"), key=_level)):
            return _pyramid([_read(level) for level in levels], scales, steps, arguments)
        weights, described = _read(path), _described(path)
    if "fc0.weight" in weights:
        return _med_nca(weights, arguments)
    if isinstance(model, torch.nn.Module):
        if arguments or scales or steps:
            raise ConfigError("a model has its arguments already: give either the model or arguments")
        return _loaded(model, weights)
    is_cascade = "wrapped.rule.network.0.weight" in weights
    if is_cascade and (scales is None or steps is None):
        raise ConfigError("these are the weights of a cascade, and contain neither its scales nor its steps: give both")
    inner = {k.removeprefix("wrapped."): v for k, v in weights.items() if k.startswith("wrapped.")}
    cls, made = _arguments(inner if is_cascade else weights, model, described, arguments)
    made = cls(**made)
    if is_cascade:
        return _loaded(CascadeNCA(made, scales, steps), weights)  # type: ignore[arg-type]
    return _loaded(made, weights)


def _clean(state: Mapping[str, Any]) -> Weights:
    tensors = {name.replace("_orig_mod.", ""): value for name, value in state.items() if isinstance(value, Tensor)}
    if not any(name.endswith(("rule.network.0.weight", "fc0.weight")) for name in tensors):
        raise CheckpointError(f"these are no weights of NCALab, Med-NCA or M3D-NCA: {sorted(map(str, state))[:4]}")
    return tensors


def _read(source: Any) -> Weights:
    if isinstance(source, Mapping):
        return _clean(source)
    path = absolute(source)
    if path.is_dir():
        found = [path / name for name in ("best_model.pth", "last_model.pth") if (path / name).is_file()]
        if not found:
            raise MissingFileError(f"{path} contains neither best_model.pth nor last_model.pth")
        path = found[0]
    if not path.is_file():
        raise MissingFileError(f"there is no file {path}")
    try:
        if path.suffix == ".safetensors":
            return _clean(load_file(path))
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{path} is not a state dict: {error}") from error
    if not isinstance(state, Mapping):
        raise CheckpointError(f"{path} is not a state dict but a {type(state).__name__}")
    return _clean(state)


def _level(path: Path) -> int:
    return int(re.sub(r"\D", "", path.stem) or 0)


def _described(path: Path) -> dict[str, Any]:
    """Arguments of a model in the history beside its weights."""
    file = (path if path.is_dir() else path.parent) / "history.json"
    if not file.is_file():
        return {}
    try:
        history = json.loads(file.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise CheckpointError(f"{file} is not valid JSON: {error}") from error
    found = (history.get("best_model") or history.get("current_model")) if isinstance(history, dict) else None
    return dict(found) if isinstance(found, dict) else {}


def _arguments(
    weights: Weights, model: Any, described: Mapping[str, Any], given: Mapping[str, Any]
) -> tuple[Any, dict[str, Any]]:
    """Class of a model and its arguments, from the shapes of its weights, a history, and the caller, in this order."""
    known = {**described, **given}
    first, last = weights["rule.network.0.weight"], weights["rule.network.2.weight"]
    channels, features = last.shape[0], first.shape[1]
    filters = [weight for name, weight in weights.items() if name.startswith("perception.filters.")]
    fixed = (features - features % channels) // channels - 1
    found: dict[str, Any] = {
        "hidden_size": first.shape[0],
        "num_learned_filters": len(filters),
        "use_temporal_encoding": features % channels == 1,
        "use_laplace": not filters and fixed == 3,
        **({"kernel_size": filters[0].shape[-1]} if filters else {}),
    }
    image: Any = known.get("num_image_channels")
    if image is None:  # rows of immutable channels are never trained, and stay zero
        rows = last.flatten(1).any(1)
        image = int(rows.long().argmax()) if bool(rows.any()) else None
    is_growing = model is GrowingNCAModel or (model is None and image in (0, 4) and not _is_immutable(known, last, 4))
    if is_growing:
        cls: Any = GrowingNCAModel
        found |= {"num_hidden_channels": channels - 4}
    elif image is None:
        raise ConfigError("the weights of the last layer are zero: give num_image_channels and num_hidden_channels")
    else:
        cls, parts = _with_outputs(weights, model, known, channels, image)
        found |= parts
    if model is not None:
        cls = model
    names = arguments_of(cls, BasicNCAModel)
    assumed = [name for name in _UNKNOWN if name not in known and name in names - {*getattr(cls, "decides", ())}]
    arguments = {
        name: tuple(value) if isinstance(value, list) and name.endswith("timesteps") else value
        for name, value in {**found, **known}.items()
        if name in names or name in given
    }
    arguments.setdefault("device", None)
    if assumed:
        made = cls(**arguments)
        values = ", ".join(f"{name}={getattr(made, name)!r}" for name in assumed)
        _LOGGER.warning("the weights do not define these settings, which are assumed: %s", values)
    return cls, arguments


def _is_immutable(known: Mapping[str, Any], last: Tensor, image: int) -> bool:
    given = known.get("immutable_image_channels")
    if given is not None:
        return bool(given)
    outputs = known.get("num_output_channels")
    return bool(outputs) or not bool(last[:image].any())


def _with_outputs(
    weights: Weights, model: Any, known: Mapping[str, Any], channels: int, image: int
) -> tuple[Any, dict[str, Any]]:
    """Class and channels of a model with immutable image channels."""
    if "head.classifier.4.weight" in weights:
        hidden = channels - image
        pool = math.isqrt(weights["head.classifier.2.weight"].shape[1] // hidden)
        classes = weights["head.classifier.4.weight"].shape[0]
        return ClassificationNCAModel, {
            "num_image_channels": image,
            "num_hidden_channels": hidden,
            "num_classes": classes,
            "avg_pool_size": pool,
        }
    outputs = known.get("num_output_channels", known.get("num_classes"))
    if outputs is None and "num_hidden_channels" in known:
        outputs = channels - image - known["num_hidden_channels"]
    if outputs is None and model is not None and "num_classes" not in arguments_of(model, BasicNCAModel):
        outputs = 1
    if outputs is None:
        raise ConfigError(
            f"{channels - image} channels follow the {image} image channels: give num_hidden_channels, the number of "
            "hidden ones, or num_classes"
        )
    found = {"num_image_channels": image, "num_hidden_channels": channels - image - outputs}
    if model is not None and "num_classes" not in arguments_of(model, BasicNCAModel):
        return model, {**found, "num_output_channels": outputs}
    if outputs == 1:
        return BinarySegmentationNCAModel, found
    if image == 1:
        return SelfClassificationNCAModel, {**found, "num_classes": outputs}
    return ClassificationNCAModel, {**found, "num_classes": outputs, "use_classifier": False}


def _loaded(model: Any, weights: Weights) -> Any:
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise CheckpointError(f"the weights do not fit a {type(model).__name__}: {error}") from error
    return model.eval()


# Med-NCA and M3D-NCA --------------------------------------------------------------------------------------------------


def _med_nca(weights: Weights, given: Mapping[str, Any]) -> MedNCAModel:
    """Model with the weights of ``BasicNCA``, ``BackboneNCA`` or ``BasicNCA3D``.

    They transpose the channels of (B, X, Y, C) images with the first spatial axis, so that their filters see (Y, X), or
    (Y, Z, X); and the order of their gradients is that of the transposed axes.
    """
    known = ("fire_rate", "input_channels", "output_channels", "steps")
    if unknown := sorted(given.keys() - {*known}):
        raise ConfigError(f"{unknown[0]!r} is not a setting of Med-NCA or M3D-NCA: they are {', '.join(known)}")
    first, last = weights["fc0.weight"], weights["fc1.weight"]
    channels, dims = last.shape[0], weights["p0.weight"].dim() - 2 if "p0.weight" in weights else 2
    image, outputs = given.get("input_channels", 1), given.get("output_channels", 1)
    filters = [name.removesuffix(".weight") for name in sorted(weights) if re.fullmatch(r"p\d\.weight", name)]
    grouped = bool(filters) and weights[f"{filters[0]}.weight"].shape[1] == 1 < channels
    if not filters:
        perception = Perception("identity", "sobel")
    elif grouped:
        size = weights[f"{filters[0]}.weight"].shape[-1]
        perception = Perception("identity", LearnedFilters(len(filters), size, bias=True), padding="reflect")
    else:
        size = weights[f"{filters[0]}.weight"].shape[-1]
        perception = Perception("identity", FullFilters(len(filters), kernel_size=size), padding="reflect")
    rule_type = NormedRule if "bn.weight" in weights else MLPRule
    timesteps = (
        {"training_timesteps": given["steps"], "inference_timesteps": given["steps"]} if "steps" in given else {}
    )
    model = MedNCAModel(
        num_image_channels=image,
        num_hidden_channels=channels - image - outputs,
        num_output_channels=outputs,
        fire_rate=1 - given.get("fire_rate", 0.5),
        perception=perception,
        rule=rule_type(first.shape[0], final_bias=False, spare_rows=image),
        dims=dims,
        **timesteps,
    )
    order = (0, 1, 3, 2) if dims == 2 else (0, 1, 4, 2, 3)
    if not filters:  # the filters of the model perceive along the last axis first
        identity, along_first, along_last = torch.split(first, channels, 1)
        first = torch.cat([identity, along_last, along_first], 1)
    state = {
        "rule.hidden.0.weight": first.view(*first.shape, *(1,) * dims),
        "rule.hidden.0.bias": weights["fc0.bias"],
        "rule.last.weight": last.view(*last.shape, *(1,) * dims),
    }
    for number, name in enumerate(filters):
        state[f"perception.learned.0.{number}.weight"] = weights[f"{name}.weight"].permute(order).contiguous()
        state[f"perception.learned.0.{number}.bias"] = weights[f"{name}.bias"]
    for part in ("weight", "bias") if "bn.weight" in weights else ():
        state[f"rule.norms.0.{part}"] = weights[f"bn.{part}"]
    return _loaded(model, state)  # type: ignore[no-any-return]


def _pyramid(
    levels: list[Weights], scales: Sequence[int] | None, steps: Sequence[int] | None, given: Mapping[str, Any]
) -> Any:
    """Pyramid of several models, by default with the scales and steps of the publications."""
    if len(levels) == 1:
        return _med_nca(levels[0], given)
    if not levels or not all("fc0.weight" in weights for weights in levels):
        raise ConfigError("several files are the levels of a Med-NCA or M3D-NCA: give their paths from coarse to fine")
    models = [_med_nca(weights, given) for weights in levels]
    flat = models[0].dims == 2
    return PyramidNCA(
        models,
        scales or [(4 if flat else 2) ** level for level in reversed(range(len(levels)))],
        steps or [64 if flat else 10] * len(levels),
        downscale="bilinear" if flat else "max",
    ).eval()
