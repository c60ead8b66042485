"""A backbone followed by a prediction head."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from delira_nca.checks import require_type, require_whole, require_wholes
from delira_nca.errors import ConfigError, ShapeError
from delira_nca.models.basic_nca import BasicNCAModel
from delira_nca.models.compiled import unwrapped
from delira_nca.models.dry_run import channels_taken, dimensions_taken, dry_run
from delira_nca.models.inputs import as_weights, pad_input
from delira_nca.models.network import entry
from delira_nca.models.prediction import Prediction
from delira_nca.models.pytorch_network import AbstractPyTorchNetwork
from delira_nca.seeding import derive_seed

__all__ = ["Model"]

_SIDE = 32
"""Default number of cells along each axis of the input."""


class Model(AbstractPyTorchNetwork):
    """Backbone, prediction head, and an activation that is applied in evaluation mode only.

    If the backbone is an automaton, the head takes the whole state after the roll-out, or the prediction of the
    automaton's own head. The constructor changes neither the parts (weights, buffers, modes) nor any random generator.

    Parameters
    ----------
    architecture : Module or callable
        Backbone, or a function without arguments that returns it: a module that maps a tensor to a tensor, or a
        :class:`BasicNCAModel`.
    prediction_head : Module
        Module that maps the (B, C, *spatial) output of the backbone to the prediction.
    eval_activation : Module or None
        Module that is applied to the prediction in evaluation mode, such as ``nn.Sigmoid()`` if the model is trained on
        logits.
    num_in_channels : int or None
        Number of input channels; by default that of the architecture (the image channels of an automaton).
    input_shape : sequence of int or None
        Spatial shape of a typical input; by default that of the architecture, or 32 along each axis.

    Attributes
    ----------
    dims : int
        Number of spatial axes of the input.
    eval_input_shape : tuple of int
        Spatial shape of a typical input in evaluation: larger by ``architecture.eval_shape_increase`` if that exists.
    num_out_channels : int
        Number of channels of the prediction.
    output_shape : tuple of int
        Spatial shape of the prediction for an input of ``input_shape``.

    Raises
    ------
    ConfigError
        If a part is not a module, or the shape of the input is unknown.
    ShapeError
        If the head does not fit the architecture, or the architecture the input.

    Examples
    --------
    >>> backbone = BasicNCAModel(num_image_channels=3, num_hidden_channels=5)
    >>> model = Model(backbone, nn.Conv2d(8, 2, 1), eval_activation=nn.Softmax(1))
    >>> model.num_in_channels, model.num_out_channels, model.compute_output_shape((20, 24))
    (3, 2, (2, (20, 24)))
    >>> model(torch.zeros(1, 3, 20, 24), steps=4).shape
    torch.Size([1, 2, 20, 24])
    """

    def __init__(
        self,
        architecture: nn.Module | Callable[[], nn.Module],
        prediction_head: nn.Module,
        eval_activation: nn.Module | None = None,
        *,
        num_in_channels: int | None = None,
        input_shape: Sequence[int] | None = None,
    ) -> None:
        made: Any = architecture
        if not isinstance(made, nn.Module) and callable(made):
            made = made()
        for name, part in (("architecture", made), ("prediction_head", prediction_head)):
            require_type(name, part, nn.Module)
        require_type("eval_activation", eval_activation, nn.Module, type(None))
        made, prediction_head, eval_activation = map(unwrapped, (made, prediction_head, eval_activation))
        super().__init__(architecture=made, prediction_head=prediction_head, eval_activation=eval_activation)
        self.architecture: nn.Module = made
        self.prediction_head, self.eval_activation = prediction_head, eval_activation
        shape = getattr(made, "input_shape", None) if input_shape is None else input_shape
        dims = dimensions_taken(made)
        if dims is None and shape is None:
            raise ConfigError(f"{type(made).__name__} does not say how many spatial axes it takes: give input_shape")
        self.dims = len(tuple(shape or ())) if dims is None else dims
        channels = _channels_of(made) if num_in_channels is None else num_in_channels
        self.num_in_channels = require_whole("num_in_channels", channels, 1)
        self.input_shape = self._spatial((_SIDE,) * self.dims if shape is None else shape)
        increase = self._spatial(getattr(made, "eval_shape_increase", None) or (0,) * self.dims, least=0)
        self.eval_input_shape = tuple(a + b for a, b in zip(self.input_shape, increase, strict=True))
        self.num_out_channels, self.output_shape = self.compute_output_shape(self.input_shape)

    @property
    def chain(self) -> nn.Sequential:
        """Architecture followed by the head, without the activation."""
        chain = _Chain(self.architecture, self.prediction_head)
        chain.training = self.training
        return chain

    def forward(self, x: Tensor, **kwargs: Any) -> Tensor:
        """Predict; in evaluation mode, the activation is applied.

        Parameters
        ----------
        x : Tensor
            (B, num_in_channels, *spatial) tensor; for an automaton, an image, which is padded to a state, or a state.
        **kwargs : object
            Keyword arguments of the architecture's ``forward``, such as ``steps`` and ``seed`` of an automaton.
        """
        x = as_weights(x, self) if x.is_floating_point() else x
        return self._activated(self.prediction_head(_features(_run(self.architecture, x, kwargs))))

    def forward_batch(
        self, batch: Mapping[str, Any], *, seed: int = 0, train: bool = False
    ) -> tuple[Any, dict[str, Any]]:
        """Return the prediction for a prepared batch, and its parts by name.

        ``"pred"`` is the result of :meth:`forward`. ``"logits"`` is the prediction before the activation in both modes;
        if there is an activation, pass this part to criterions on logits. If the architecture has a ``forward_batch``
        method, as an automaton has, that method runs it (and sets the number of steps), and the parts that it returns
        are included.
        """
        parts: dict[str, Any] = {}
        if isinstance(self.architecture, AbstractPyTorchNetwork):
            found, parts = self.architecture.forward_batch(batch, seed=seed, train=train)
        else:
            data: Tensor = entry(batch, "data", type(self).__name__)
            found = self.architecture(as_weights(data, self) if data.is_floating_point() else data)
        logits = self.prediction_head(_features(found))
        prediction = self._activated(logits)
        parts = {**parts, "pred": prediction, "logits": logits}
        if not isinstance(found, Prediction):
            return prediction, parts
        parts["head"] = prediction
        return Prediction(found.model, found.steps, found.output_image, prediction), parts

    def _activated(self, prediction: Tensor) -> Tensor:
        if self.training or self.eval_activation is None:
            return prediction
        activated: Tensor = self.eval_activation(prediction)
        return activated

    def compute_output_shape(self, input_shape: Sequence[int]) -> tuple[int, tuple[int, ...]]:
        """Return channels and spatial shape of the prediction in evaluation mode, for an input of a spatial shape.

        A copy of the model is run, on the meta device if possible. The model itself remains unchanged.

        Raises
        ------
        ShapeError
            If the number of axes is wrong, an axis is shorter than 1, or the model does not support the shape.
        ConfigError
            If the architecture or the head does not return a tensor, or cannot be copied.
        """
        shape = dry_run(self, _output_shape, (1, self.num_in_channels, *self._spatial(input_shape)))
        return shape[1], shape[2:]

    def scale(self, voxel_size: Sequence[float]) -> tuple[float, ...]:
        """Return the voxel size of the prediction for the voxel size of the input.

        Both are equal unless the architecture or the head has a method ``scale(voxel_size)`` or an attribute
        ``scale_factor`` (one number, or one per axis), such as that of ``nn.Upsample``.

        Raises
        ------
        ShapeError
            If the number of sizes is not that of the axes.
        ConfigError
            If a size is not a positive number.

        Examples
        --------
        >>> Model(nn.Conv2d(1, 8, 3), nn.Upsample(scale_factor=2)).scale((4, 0.5))
        (2.0, 0.25)
        """
        sizes = tuple(voxel_size)
        if len(sizes) != self.dims:
            raise ShapeError(f"a voxel size has {self.dims} numbers, one for each axis, not {len(sizes)}: {sizes}")
        if not all(isinstance(size, numbers.Real) and 0 < size < math.inf for size in sizes):
            raise ConfigError(f"a voxel size is positive along each axis, not {sizes}")
        return _scaled(self.prediction_head, _scaled(self.architecture, sizes))

    def _spatial(self, given: Sequence[int], least: int = 1) -> tuple[int, ...]:
        return require_wholes("a spatial shape", given, least, count=self.dims, error=ShapeError)


class _Chain(nn.Sequential):
    def forward(self, input: Tensor, **kwargs: Any) -> Tensor:  # noqa: A002
        architecture, head = self
        prediction: Tensor = head(_features(_run(architecture, input, kwargs)))
        return prediction


def _run(architecture: nn.Module, x: Tensor, kwargs: Mapping[str, Any]) -> Any:
    """Call the backbone. For an automaton, convert the input to a state as in :meth:`BasicNCAModel.predict`."""
    if isinstance(architecture, BasicNCAModel) and x.dim() > 2 and x.shape[1] != architecture.num_channels:
        seed = kwargs.get("seed")
        generator = None if seed is None else torch.Generator().manual_seed(derive_seed(seed, "noise"))
        padded = pad_input(x, architecture, noise=architecture.pad_noise, generator=generator)
        x = architecture.prepare_input(padded)
    return architecture(x, **kwargs)


def _features(found: Any) -> Tensor:
    """Input of the head, taken from the output of the backbone."""
    if isinstance(found, Prediction):
        return found.output_image if found.head_prediction is None else found.head_prediction
    if not isinstance(found, Tensor):
        raise ConfigError(f"an architecture gives a tensor, which the head takes, not a {type(found).__name__}")
    return found


def _output_shape(model: Model, x: Tensor) -> tuple[int, ...]:
    architecture = model.architecture
    kwargs = {"seed": 0} if isinstance(architecture, BasicNCAModel) else {}
    if isinstance(architecture, BasicNCAModel) and architecture.conditioning is not None:
        kwargs["goal"] = 0
    try:
        found = _run(model.architecture, x, kwargs)
    except Exception as error:
        raise ShapeError(f"the architecture cannot take an input of shape {tuple(x.shape)}: {error}") from error
    features = _features(found)
    try:
        prediction = model._activated(model.prediction_head(features))
    except Exception as error:
        taken, given = channels_taken(model.prediction_head), features.shape[1]
        if taken is not None and taken != given:
            raise ShapeError(f"the prediction head takes {taken} channels, the architecture gives {given}") from error
        shape = tuple(features.shape)
        raise ShapeError(f"the prediction head cannot take what the architecture gives, {shape}: {error}") from error
    if not isinstance(prediction, Tensor) or prediction.dim() < 2:
        raise ConfigError(f"a prediction head gives a (B, C, *spatial) tensor, not {type(prediction).__name__}")
    return tuple(prediction.shape)


def _channels_of(architecture: nn.Module) -> int:
    if isinstance(architecture, BasicNCAModel):
        return architecture.num_image_channels or architecture.num_channels
    channels = channels_taken(architecture)
    if channels is None:
        raise ConfigError(
            f"{type(architecture).__name__} does not say how many channels it takes: give num_in_channels"
        )
    return channels


def _scaled(part: nn.Module, sizes: tuple[float, ...]) -> tuple[float, ...]:
    scale, factor = getattr(part, "scale", None), getattr(part, "scale_factor", None)
    if callable(scale) and not isinstance(scale, nn.Module):
        return tuple(scale(sizes))
    if isinstance(factor, numbers.Real):
        factor = (factor,) * len(sizes)
    if not isinstance(factor, (tuple, list)):
        return sizes
    return tuple(size / by for size, by in zip(sizes, factor, strict=True))
