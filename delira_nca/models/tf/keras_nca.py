"""The automaton as a Keras model in TensorFlow."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import torch
from torch import nn

from delira_nca.errors import ConfigError, ShapeError
from delira_nca.models.basic_nca import BasicNCAModel
from delira_nca.models.inputs import interpret_range_parameter
from delira_nca.models.network import entry
from delira_nca.models.perception import FullFilters, LearnedFilters, Perception
from delira_nca.models.prediction import Prediction
from delira_nca.models.rule import MLPRule
from delira_nca.models.tf.masks import fire_mask, update_noise
from delira_nca.models.tf.tf_network import AbstractTfNetwork
from delira_nca.rollout import UnsupportedCellError
from delira_nca.seeding import generator

__all__ = ["KerasNCA"]

_NONLINEARITIES = {
    "relu": tf.nn.relu,
    "leaky_relu": lambda x: tf.nn.leaky_relu(x, 0.01),  # the slope of PyTorch
    "gelu": tf.nn.gelu,
    "silu": tf.nn.silu,
    "tanh": tf.nn.tanh,
}


def _of_the_twin(name: str, doc: str, kind: Callable[[Any], Any] = lambda value: value) -> Any:
    """Return a property that reads and sets an attribute of the twin in PyTorch."""
    return property(
        lambda model: kind(getattr(model._template, name)),
        lambda model, value: setattr(model._template, name, value),
        doc=doc,
    )


@keras.saving.register_keras_serializable("delira_nca")
class KerasNCA(AbstractTfNetwork):
    """Neural cellular automaton in TensorFlow that computes the same states as its twin in PyTorch.

    States have their channels last, (B, H, W, C), as usual in TensorFlow. Weights have the names of the twin and the
    layout of Keras. The masks of the cells that update are bit-equal to those of PyTorch for the same seed.

    Parameters
    ----------
    model : BasicNCAModel, optional
        Model in PyTorch whose arguments and weights are copied.
    name : str, optional
        Name of the Keras model.
    **arguments : object
        Arguments of a new :class:`~delira_nca.models.BasicNCAModel`, instead of ``model``. Its weights are initialised
        by PyTorch.

    Raises
    ------
    ConfigError
        If the model has another grid than two dimensions, a head, goals, or parts other than
        :class:`~delira_nca.models.Perception`, :class:`~delira_nca.models.MLPRule` and
        :class:`~delira_nca.models.AliveMask`; or if Keras does not use TensorFlow.

    Notes
    -----
    Mordvintsev et al. (2020), "Growing Neural Cellular Automata", whose notebook is written in TensorFlow.

    Examples
    --------
    >>> from delira_nca.models import make_seed, presets
    >>> model = KerasNCA(**presets.growing())
    >>> state = np.moveaxis(make_seed(16, (8, 8)).numpy()[None], 1, -1)
    >>> model(state, steps=2, seed=0).shape
    TensorShape([1, 8, 8, 16])
    >>> model.to_torch().num_trainable_parameters()
    8336
    """

    fire_rate = _of_the_twin("fire_rate", "Probability that a cell updates.", float)
    update_noise = _of_the_twin("update_noise", "Standard deviation of the noise on updates.", float)
    training_timesteps = _of_the_twin("training_timesteps", "Number of steps of training, or its range.")
    inference_timesteps = _of_the_twin("inference_timesteps", "Number of steps of inference, or its range.")

    @property
    def alive(self) -> Any:
        """Alive mask of the twin in PyTorch."""
        return self._template.alive

    def __init__(self, model: BasicNCAModel | None = None, *, name: str | None = None, **arguments: Any) -> None:
        super().__init__(name=name, dtype="float32")
        if keras.backend.backend() != "tensorflow":
            raise ConfigError(f"Keras uses {keras.backend.backend()}: set the variable KERAS_BACKEND to tensorflow")
        if model is not None and (arguments or not isinstance(model, BasicNCAModel)):
            raise ConfigError(f"KerasNCA takes a BasicNCAModel or the arguments of one, not {model!r:.80}")
        template = BasicNCAModel(**arguments) if model is None else copy.deepcopy(model).cpu().float()
        _require_supported(template)
        self._template: Any = template
        self.num_channels, self.num_fixed_channels = template.num_channels, template.num_fixed_channels
        self.cell_layers = {
            name: _layer(module, name) for name, module in template.named_modules() if isinstance(module, nn.Conv2d)
        }
        self._kernels = np.asarray(template.perception.kernels)
        self.built = True

    def named_weights(self) -> dict[str, Any]:
        """Return the Keras variables by the names of the weights in PyTorch."""
        found = {}
        for name, layer in self.cell_layers.items():
            found[f"{name}.weight"] = layer.kernel
            if layer.use_bias:
                found[f"{name}.bias"] = layer.bias
        return found

    def prepare_inputs(
        self, batch: Mapping[str, Any], seed: int, *, train: bool
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the batch with initial states, and the seed and number of steps drawn as by the twin."""
        timesteps = self.training_timesteps if train else self.inference_timesteps
        steps = interpret_range_parameter(timesteps, generator(seed, "steps"))
        image = torch.from_numpy(np.array(entry(batch, "data", type(self).__name__), np.float32))
        state = self._template.initial_state(image, seed)
        drawn = {"seed": tf.constant(seed, tf.int64), "steps": tf.constant(steps)}
        return {**batch, "data": tf.convert_to_tensor(state.numpy())}, drawn

    def forward_batch(
        self, batch: Mapping[str, Any], drawn: Mapping[str, Any], *, train: bool
    ) -> tuple[Any, dict[str, Any]]:
        """Roll out ``batch["data"]``, (B, C, H, W) states as in PyTorch, for the drawn number of steps."""
        state = self(tf.transpose(batch["data"], (0, 2, 3, 1)), steps=drawn["steps"], seed=drawn["seed"])
        state = tf.transpose(state, (0, 3, 1, 2))
        return state, Prediction(self._template, 0, state).parts()

    def converted(self, prediction: Any, drawn: Mapping[str, Any]) -> Prediction:
        """Return the prediction of the twin in PyTorch."""
        return Prediction(self._template, int(drawn["steps"]), torch.from_numpy(np.array(prediction)))

    def constants(self) -> tuple[Any, ...]:
        """Return the fire rate and the noise."""
        return (self.fire_rate, self.update_noise)

    def named_arrays(self) -> dict[str, Any]:
        """Return copies of all weights by name, as tensors of the twin, which can load them."""
        return dict(self.to_torch().state_dict())

    def load_named_arrays(self, arrays: Mapping[str, Any]) -> None:
        """Load weights in the layout of the twin."""
        for name, variable in self.named_weights().items():
            variable.assign(_to_keras(np.asarray(arrays[name]), variable.shape))

    def to_torch(self) -> BasicNCAModel:
        """Return a model in PyTorch with the same arguments and weights, in evaluation mode.

        The native roll-out, the live page and all exports work on it.
        """
        model: BasicNCAModel = copy.deepcopy(self._template)
        shapes = {name: parameter.shape for name, parameter in model.named_parameters()}
        state = {}
        for name, variable in self.named_weights().items():
            array = variable.value.numpy()
            if array.ndim == 4:  # (h, w, in, out); depthwise (h, w, C, 1), whose values have the same order reshaped
                array = array.transpose(3, 2, 0, 1)
            state[name] = torch.from_numpy(array.copy()).reshape(shapes[name])
        model.load_state_dict(state)
        modules = dict(model.named_modules())
        for name, layer in self.cell_layers.items():
            modules[name].requires_grad_(bool(layer.trainable))
        return model.eval()

    def get_config(self) -> dict[str, Any]:
        """Return the name and the plain arguments of the model."""
        frozen = [name for name, layer in self.cell_layers.items() if not layer.trainable]
        return {"name": self.name, "model": self._template.to_dict(), "frozen": frozen}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> KerasNCA:
        """Make a model with new weights from the result of :meth:`get_config`."""
        made = cls(BasicNCAModel.from_dict(config["model"]), name=config["name"])
        for name in config.get("frozen", ()):
            made.cell_layers[name].trainable = False
        return made

    def call(self, x: Any, steps: Any = 1, start: Any = 0, seed: Any = 0, training: bool | None = None) -> Any:
        """Roll a state out.

        Parameters
        ----------
        x : (B, H, W, C) array or tensor
            State with all channels.
        steps, start : int or integer tensor
            Number of steps, and number of the first one.
        seed : int or integer tensor
            Seed of the fire masks and of the noise.
        training : bool, optional
            Ignored: training and inference compute the same.

        Raises
        ------
        ShapeError
            If the state does not have the channels of the model.
        """
        x = tf.convert_to_tensor(x, tf.float32)
        if x.shape.rank != 4 or x.shape[-1] != self.num_channels:
            raise ShapeError(f"a state of this model is (B, H, W, {self.num_channels}), not {tuple(x.shape)}")
        mask = self._template.input_mask
        gate = None if mask is None else x[..., mask.channel, None] > mask.threshold
        last, first = tf.cast(steps, tf.int32), tf.cast(start, tf.int32)
        _, state = tf.while_loop(
            lambda n, _: n < last, lambda n, state: (n + 1, self._step(state, first + n, seed, gate)), (0, x)
        )
        return state

    def perceive(self, x: Any, t: Any) -> Any:
        """Map the (B, H, W, C) state at step ``t`` to the (B, H, W, P) perception."""
        perception, channels = self._template.perception, self.num_channels
        padded: dict[int, Any] = {}

        def pad(radius: int) -> Any:
            if radius not in padded:
                padded[radius] = _padded(x, radius, perception.padding)
            return padded[radius]

        parts: list[Any] = []
        fixed = learned = 0
        for spec in perception.specs:
            if isinstance(spec, (LearnedFilters, FullFilters)):
                for number in range(spec.num):
                    layer = self.cell_layers[f"perception.learned.{learned}.{number}"]
                    seen = layer(pad(spec.kernel_size // 2))
                    parts.append(tf.nn.relu(seen) if isinstance(spec, FullFilters) and spec.relu else seen)
                learned += 1
                continue
            for _ in range(2 if spec == "sobel" else 1):
                kernel = np.repeat(self._kernels[fixed][:, :, None, None], channels, 2)
                seen = x if spec == "identity" else tf.nn.depthwise_conv2d(pad(1), kernel, [1, 1, 1, 1], "VALID")
                parts.append(seen)
                fixed += 1
        if self._template.use_temporal_encoding:
            parts.append(tf.fill(tf.shape(x[..., :1]), tf.cast(t, tf.float32) / self._template._horizon))
        return tf.concat(parts, -1)

    def _step(self, x: Any, t: Any, seed: Any, gate: Any) -> Any:
        """Update every cell once, as :func:`delira_nca.rollout.step` does."""
        shape, fixed = tf.shape(x), self.num_fixed_channels
        hidden = self.perceive(x, t)
        rule, alive = self._template.rule, self._template.alive
        for number in range(len(rule.hidden)):
            hidden = _NONLINEARITIES[rule.nonlinearity](self.cell_layers[f"rule.hidden.{number}"](hidden))
        update = self.cell_layers["rule.last"](hidden)[..., rule.spare_rows :]
        if self.update_noise:
            update += update_noise(seed, t, shape)[..., fixed:] * self.update_noise
        fire = fire_mask(seed, t, shape, self.fire_rate)
        if gate is not None:
            fire = gate if fire is None else fire & gate
        free = x[..., fixed:] + (update if fire is None else tf.where(fire, update, 0.0))
        new = tf.concat([x[..., :fixed], free], -1) if fixed else free
        if alive is not None and (alive.before or alive.after):
            masks = [_living(state, alive) for state, is_used in ((x, alive.before), (new, alive.after)) if is_used]
            free = tf.where(tf.reduce_all(tf.stack(masks), 0), free, 0.0)
            new = tf.concat([x[..., :fixed], free], -1) if fixed else free
        return tf.ensure_shape(new, x.shape)


def _require_supported(model: BasicNCAModel) -> None:
    """Check that a model has only parts that are computed here."""
    reason = None
    try:
        model.to_arrays()
    except UnsupportedCellError as error:
        reason = str(error)
    if model.dims != 2:
        reason = f"it has {model.dims} spatial dimensions, not 2"
    elif model.head is not None:
        reason = "it has a head"
    elif type(model.perception) is not Perception or type(model.rule) is not MLPRule:
        reason = f"it has a {type(model.perception).__name__} and a {type(model.rule).__name__}"
    if reason is not None:
        raise ConfigError(f"this {type(model).__name__} cannot be computed in TensorFlow: {reason}")


def _layer(module: nn.Conv2d, name: str) -> Any:
    """Return a Keras layer with the weights of a convolution."""
    options = {"use_bias": module.bias is not None, "padding": "valid", "name": name, "dtype": "float32"}
    is_depthwise = module.groups > 1
    if is_depthwise:
        layer = keras.layers.DepthwiseConv2D(module.kernel_size, **options)
    else:
        layer = keras.layers.Conv2D(module.out_channels, module.kernel_size, **options)
    layer.build((None, None, None, module.in_channels))
    layer.kernel.assign(_to_keras(module.weight.detach().numpy(), layer.kernel.shape))
    if module.bias is not None:
        layer.bias.assign(module.bias.detach().numpy())
    layer.trainable = any(parameter.requires_grad for parameter in module.parameters())
    return layer


def _to_keras(array: np.ndarray, shape: Any) -> np.ndarray:
    """Move the axes of an array of PyTorch, (out, in, h, w) or (C, 1, h, w), to those of Keras."""
    return array.transpose(2, 3, 1, 0).reshape(shape) if array.ndim == 4 else array


def _padded(x: Any, radius: int, padding: str) -> Any:
    """Pad both spatial axes of a (B, H, W, C) state by ``radius`` cells."""
    if padding == "circular":
        x = tf.concat([x[:, -radius:], x, x[:, :radius]], 1)
        return tf.concat([x[:, :, -radius:], x, x[:, :, :radius]], 2)
    if padding == "replicate":  # symmetric padding repeats the border, so that one cell at a time replicates it
        for _ in range(radius):
            x = tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]], "SYMMETRIC")
        return x
    border = [radius, radius]
    return tf.pad(x, [[0, 0], border, border, [0, 0]], "REFLECT" if padding == "reflect" else "CONSTANT")


def _living(x: Any, alive: Any) -> Any:
    """(B, H, W, 1) bool mask of living cells."""
    alpha = tf.stop_gradient(x[..., alive.channel, None])
    return tf.nn.max_pool2d(alpha, 3, 1, "SAME") > alive.threshold
