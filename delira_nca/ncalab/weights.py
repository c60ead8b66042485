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
from torch import Tensor, nn

from delira_nca.errors import CheckpointError, ConfigError, MissingFileError
from delira_nca.io.paths import absolute
from delira_nca.models.basic_nca import BasicNCAModel as OurModel
from delira_nca.models.description import arguments_of, with_tuples
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
_FILES = ("best_model.pth", "last_model.pth", "model.pth")
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
    steps: int | Sequence[int] | None = None,
    **arguments: Any,
) -> Any:
    """Load weights that were trained by NCALab, Med-NCA or M3D-NCA into a model of this package.

    Parameters
    ----------
    source : path, mapping or sequence
        State dict; file of one (``.pth`` or ``.safetensors``); or a folder with ``best_model.pth`` or
        ``last_model.pth``, whose ``history.json`` defines arguments of the model. For Med-NCA and M3D-NCA also a
        sequence of state dicts or files, one per level from coarse to fine, or a folder with ``model0.pth``,
        ``model1.pth``, ... Compiled models (``_orig_mod.``) are accepted. No code in the files is executed.
    model : model or type, optional
        Model to load the weights into, or its class. It is needed for depth models and user-defined classes, whose
        weights have the shapes of other models.
    scales : sequence of int, optional
        Scales of a cascade, or of the levels of Med-NCA and M3D-NCA.
    steps : int or sequence of int, optional
        Numbers of steps of a cascade or of the levels; one number for a single cell of Med-NCA or M3D-NCA.
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
    neither given nor in a history, with the values that are assumed, and the class if the weights fit several. Neither
    file contains ``rule_args``, such as another activation, and ``immutable_image_channels``: pass them.

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
    options = {"model": model, "scales": scales, "steps": steps}
    if isinstance(source, Sequence) and not isinstance(source, str):
        return _med_levels([_read(one) for one in source], options, arguments)
    path = None if isinstance(source, Mapping) else absolute(source)
    found = path.glob("model[0-9]*.pth") if path is not None and path.is_dir() else ()
    if levels := sorted(found, key=lambda level: int(re.sub(r"\D", "", level.stem))):
        return _med_levels([_read(level) for level in levels], options, arguments)
    weights = _read(source if path is None else path)
    if "fc0.weight" in weights:
        return _med_levels([weights], options, arguments)
    if isinstance(model, nn.Module):
        if arguments or scales or steps:
            raise ConfigError("arguments cannot be combined with a model, which has its arguments already")
        return _loaded(model, weights)
    inner = _inner_weights(weights)
    if inner is not None and (scales is None or steps is None):
        raise ConfigError("these are the weights of a cascade, and contain neither its scales nor its steps: give both")
    if inner is None and (scales is not None or steps is not None):
        raise ConfigError("scales and steps belong to a cascade, and these are the weights of one model")
    described = {} if path is None else _described(path)
    if inner is not None:  # NCALab's cascade does not store the padding and the kernel size of its model
        described = {k: v for k, v in described.items() if k not in ("filter_padding", "kernel_size")}
    with torch.random.fork_rng([]):
        made = _made(weights if inner is None else inner, model, described, arguments)
        if inner is not None:
            is_single = not any(name.startswith("models.1.") for name in weights)
            made = CascadeNCA(made, scales or (), _levels(steps), is_single)
    return _loaded(made, weights)


def _levels(steps: int | Sequence[int] | None) -> Sequence[int]:
    if not isinstance(steps, Sequence):
        raise ConfigError(f"steps of a cascade are one number for each scale, not {steps!r}")
    return steps


def _inner_weights(weights: Weights) -> Weights | None:
    """Weights of the model of a cascade of NCALab or of this package; None for other models."""
    levels = [int(found[1]) for name in weights if (found := re.match(r"models\.(\d+)\.", name))]
    prefix = f"models.{max(levels)}." if levels else "wrapped."
    inner = {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
    return inner or None


def _clean(state: Mapping[str, Any]) -> Weights:
    """Tensors of a state dict, which may be an entry of a checkpoint, without the prefix of compiled models."""
    tensors = {name.replace("_orig_mod.", ""): value for name, value in state.items() if isinstance(value, Tensor)}
    if tensors:
        return tensors
    nested = [value for value in state.values() if isinstance(value, Mapping)]
    for value in nested:
        if any(isinstance(name, str) and name.endswith((".weight", ".bias")) for name in value):
            return _clean(value)
    raise CheckpointError(f"this is not a state dict: its entries are {sorted(map(str, state))[:4]}")


def _read(source: Any) -> Weights:
    if isinstance(source, Mapping):
        return _clean(source)
    path = absolute(source)
    if path.is_dir():
        found = [path / name for name in _FILES if (path / name).is_file()]
        if not found:
            raise MissingFileError(f"{path} contains none of {', '.join(_FILES)}")
        path = found[0]
    if not path.is_file():
        raise MissingFileError(f"file not found: {path}")
    try:
        state = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except Exception as error:
        raise CheckpointError(f"{path} is not a state dict: {type(error).__name__}: {error}") from error
    if not isinstance(state, Mapping):
        raise CheckpointError(f"{path} is not a state dict but a {type(state).__name__}")
    return _clean(state)


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


def _made(weights: Weights, model: Any, described: Mapping[str, Any], given: Mapping[str, Any]) -> Any:
    """Make the model of weights, from their shapes, the caller's arguments and a history."""
    if "rule.network.0.weight" not in weights or "rule.network.2.weight" not in weights:
        raise CheckpointError(
            f"these are not weights of NCALab's MLPNCARule, Med-NCA or M3D-NCA: {sorted(weights)[:4]}; load those of a "
            "user-defined rule into a model, model=..."
        )
    cls, found, is_sure = _class_and_shapes(weights, model, {**described, **given})
    names = arguments_of(cls, BasicNCAModel)
    decided = {*getattr(cls, "decides", ())}
    known = {name: value for name, value in described.items() if name in names - decided and name not in found}
    arguments = with_tuples({"device": None, **known, **found, **given})
    made = cls(**{name: value for name, value in arguments.items() if name in names or name in given})
    assumed = [name for name in _UNKNOWN if name not in {**known, **given} and name in names - decided]
    texts = [f"{name}={getattr(made, name)!r}" for name in assumed]
    if not is_sure:
        texts.insert(0, f"model={cls.__name__}")
    if assumed and "rule_args" not in given:
        texts.append("an activation of ReLU")
    if texts:
        _LOGGER.warning("the weights do not define these settings, which are assumed: %s", ", ".join(texts))
    ignored = made.num_image_channels if made.immutable_image_channels else 0
    is_told = "immutable_image_channels" in given or model is not None
    if not is_told and bool(weights["rule.network.2.weight"][:ignored].any()):
        _LOGGER.warning(
            "the last layer has weights for the %d image channels, which are not used, because the image channels of a "
            "%s are immutable",
            *(ignored, cls.__name__),
        )
    return made


def _class_and_shapes(weights: Weights, model: Any, known: Mapping[str, Any]) -> tuple[Any, dict[str, Any], bool]:
    """Class of the model, arguments that follow from the shapes, and whether the class is sure."""
    first, last = weights["rule.network.0.weight"], weights["rule.network.2.weight"]
    channels, features = last.shape[0], first.shape[1]
    filters = [weight for name, weight in weights.items() if name.startswith("perception.filters.")]
    found: dict[str, Any] = {
        "hidden_size": first.shape[0],
        "num_learned_filters": len(filters),
        "use_temporal_encoding": features % channels == 1,
        "use_laplace": not filters and features // channels == 4,
        **({"kernel_size": filters[0].shape[-1]} if filters else {}),
    }
    rows, image = last.flatten(1).any(1), known.get("num_image_channels")
    has_head = "head.classifier.4.weight" in weights
    is_task = has_head or "num_classes" in known or bool(known.get("num_output_channels"))
    is_mutable = bool(rows[:4].all()) or known.get("num_output_channels") == 0
    if model is None and not is_task and image in (None, 4) and is_mutable:
        model = GrowingNCAModel
    if model is GrowingNCAModel:
        return model, {**found, "num_hidden_channels": channels - 4}, True
    if image is None:  # rows of immutable channels are never trained, and stay zero
        image = int(rows.long().argmax())
        if not image:
            raise ConfigError("the weights do not show the number of image channels: give num_image_channels")
    found["num_image_channels"] = image
    if has_head:
        hidden = channels - image
        classes, pooled = weights["head.classifier.4.weight"].shape[0], weights["head.classifier.2.weight"].shape[1]
        shapes = {"num_hidden_channels": hidden, "num_classes": classes, "avg_pool_size": math.isqrt(pooled // hidden)}
        return model or ClassificationNCAModel, {**found, **shapes}, True
    classes_wanted = model is not None and "num_classes" in arguments_of(model, BasicNCAModel)
    outputs = known.get("num_output_channels") or known.get("num_classes")
    if outputs is None and "num_hidden_channels" in known:
        outputs = channels - image - known["num_hidden_channels"]
    if outputs is None and model is not None and not classes_wanted:
        outputs = 1
    if not outputs:
        raise ConfigError(
            f"{channels - image} channels follow the {image} image channels: give num_hidden_channels, the number of "
            "hidden ones, or num_classes; or model=... for a user-defined head"
        )
    found["num_hidden_channels"] = channels - image - outputs
    if model is not None:
        own = {"num_classes": outputs, "use_classifier": False} if classes_wanted else {"num_output_channels": outputs}
        own = {name: value for name, value in own.items() if name in arguments_of(model, BasicNCAModel)}
        own = {name: value for name, value in own.items() if name not in getattr(model, "decides", ())}
        return model, {**found, **own}, True
    if outputs == 1:
        return BinarySegmentationNCAModel, found, False
    if image == 1:
        return SelfClassificationNCAModel, {**found, "num_classes": outputs}, False
    return ClassificationNCAModel, {**found, "num_classes": outputs, "use_classifier": False}, True


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
    else:
        count, size = len(filters), weights[f"{filters[0]}.weight"].shape[-1]
        learned = LearnedFilters(count, size, bias=True) if grouped else FullFilters(count, kernel_size=size)
        perception = Perception("identity", learned, padding="reflect")
    rule_type = NormedRule if "bn.weight" in weights else MLPRule
    settings = ("training_timesteps", "inference_timesteps") if "steps" in given else ()
    model = MedNCAModel(
        num_image_channels=image,
        num_hidden_channels=channels - image - outputs,
        num_output_channels=outputs,
        fire_rate=1 - given.get("fire_rate", 0.5),
        perception=perception,
        rule=rule_type(first.shape[0], final_bias=False, spare_rows=image),
        dims=dims,
        **dict.fromkeys(settings, given.get("steps")),
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


def _med_levels(levels: list[Weights], options: Mapping[str, Any], given: Mapping[str, Any]) -> Any:
    """Model of one level, or pyramid of several, by default with the scales and steps of the publications."""
    if not levels or not all("fc0.weight" in weights for weights in levels):
        raise ConfigError("several files are the levels of a Med-NCA or M3D-NCA: give their paths from coarse to fine")
    scales, steps = options["scales"], options["steps"]
    if options["model"] is not None:
        raise ConfigError("the class of a Med-NCA or M3D-NCA follows from its weights: leave model out")
    if len(levels) == 1:
        if scales is not None:
            raise ConfigError("scales belong to several levels, and these are the weights of one")
        return _med_nca(levels[0], given if steps is None else {**given, "steps": steps})
    models = [_med_nca(weights, given) for weights in levels]
    flat = models[0].dims == 2
    return PyramidNCA(
        models,
        scales or [(4 if flat else 2) ** level for level in reversed(range(len(levels)))],
        steps or [64 if flat else 10] * len(levels),
        downscale="bilinear" if flat else "max",
    ).eval()
