"""Base class of networks in TensorFlow, and the training step of any Keras model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from delira_nca.errors import CheckpointError, ConfigError, ShapeError
from delira_nca.models.network import (
    DEFAULT_KEYS,
    AbstractNetwork,
    entry,
    evaluate,
    named_values,
    parts_of,
    total_loss,
    wired,
)

__all__ = ["AbstractTfNetwork", "forward", "load_named_weights", "named_arrays", "require_same_arrays"]

Functions = Mapping[str, Callable[..., Any]]
_KERAS_ARGUMENTS = {"name", "dtype", "trainable", "activity_regularizer", "autocast"}


class AbstractTfNetwork(AbstractNetwork, keras.Model):  # type: ignore[misc]  # Keras has no types
    """Base class of Keras models that define how they are trained on one batch.

    A Keras model of any other class can be trained, too; it is trained like this class without overrides. Override
    :meth:`forward_batch` to use another input than ``batch["data"]``, or :meth:`closure` for another training step.

    Parameters
    ----------
    *args, **kwargs : object
        ``name``, ``dtype`` and other keywords of ``keras.Model``; the rest is stored as :attr:`init_kwargs`.

    Raises
    ------
    ConfigError
        For the inputs and outputs of a functional model, which can be an attribute instead.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if args or not kwargs.keys().isdisjoint(("inputs", "outputs")):
            raise ConfigError("an AbstractTfNetwork has no inputs and outputs: make the functional model an attribute")
        of_keras = {name: value for name, value in kwargs.items() if name in _KERAS_ARGUMENTS}
        keras.Model.__init__(self, **of_keras)
        self._init_kwargs = {name: value for name, value in kwargs.items() if name not in of_keras}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Leave the constructor as it is: Keras reads its signature."""
        super(AbstractNetwork, cls).__init_subclass__(**kwargs)

    def prepare_inputs(
        self, batch: Mapping[str, Any], seed: int, *, train: bool
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the batch and the drawn numbers for :meth:`forward_batch`, as tensors.

        This method runs before each call of the traced function, which must not draw numbers in Python.
        """
        return dict(batch), {"seed": tf.constant(seed, tf.int64)}

    def forward_batch(
        self, batch: Mapping[str, Any], drawn: Mapping[str, Any], *, train: bool
    ) -> tuple[Any, dict[str, Any]]:
        """Return the prediction for a batch, and its parts by name; see `AbstractPyTorchNetwork.forward_batch`.

        The training step traces this method. Random numbers must come from ``tf.random.stateless_*`` with
        ``drawn["seed"]``, so that a resumed training draws them again.
        """
        return forward(self, batch, train=train)

    def converted(self, prediction: Any, drawn: Mapping[str, Any]) -> Any:
        """Convert a prediction to the object that callbacks get."""
        return prediction

    def constants(self) -> tuple[Any, ...]:
        """Return the hashable values that are constants of the traced function, which is traced again if they change.

        These are attributes that a callback may change, such as a fire rate.
        """
        return ()

    @staticmethod
    def closure(
        model: Any,
        data_dict: Mapping[str, Any],
        optimizers: Mapping[str, Any],
        criterions: Mapping[str, Any],
        metrics: Mapping[str, Any],
        fold: int = 0,
        batch_nr: int = 0,
        *,
        keys: Mapping[str, tuple[str, ...]] | None = None,
        seed: int = 0,
        partial: bool = False,
        steps: MutableMapping[Any, Any] | None = None,
        **kwargs: Any,
    ) -> tuple[dict[str, Any], dict[str, Any], Any]:
        """Compute the forward pass and the losses and, with an optimizer, the gradients and the update.

        Parameters
        ----------
        model : keras.Model
            Network to train or evaluate.
        data_dict : mapping
            Prepared batch.
        optimizers : mapping
            One optimizer by name; empty to evaluate only.
        criterions, metrics : mapping
            Functions of tensors by name. The sum of the criterions is minimised; metrics are not differentiated.
        fold, batch_nr : int
            Number of the fold and of the iteration, for use in overridden closures.
        keys : mapping, optional
            Names of the arguments of each criterion or metric, by its name.
        seed : int
            Seed of all random numbers, those of the dropout of Keras included.
        partial : bool
            Whether to skip criterions and metrics with missing arguments, to evaluate without labels.
        steps : mutable mapping, optional
            Traced functions of former calls, which are used again. Without it, TensorFlow computes eagerly.

        Returns
        -------
        tuple of (metric values, loss values with ``"loss"``, prediction)
            ``"loss"`` is missing if a criterion was skipped.

        Raises
        ------
        ConfigError
            For several optimizers, or a loss without gradients.
        ShapeError
            If a criterion broadcasts its arguments.
        """
        if len(optimizers) > 1:
            raise ConfigError(f"the training step uses one optimizer, not {sorted(optimizers)}: override closure")
        train = bool(optimizers)
        for number, state in enumerate(_seed_states(model)):
            state.assign([seed, number])
        batch: Mapping[str, Any] = data_dict
        drawn: Mapping[str, Any] = {}
        if isinstance(model, AbstractTfNetwork):
            batch, drawn = model.prepare_inputs(data_dict, seed, train=train)
        tensors = {name: value for name, value in batch.items() if all(map(tf.is_tensor, tf.nest.flatten(value)))}
        optimizer = next(iter(optimizers.values()), None)

        def compute(tensors: Mapping[str, Any], drawn: Mapping[str, Any]) -> tuple[Any, ...]:
            return _step(model, tensors, drawn, optimizer, criterions, keys, partial)

        if steps is not None:
            constants = model.constants() if isinstance(model, AbstractTfNetwork) else ()
            trained = tuple(map(id, model.trainable_variables)), tuple(x.trainable for x in model._flatten_layers())
            key = (train, partial, *map(id, criterions.values()), id(optimizer), constants, trained)
            if key not in steps:  # with the criterions, whose identities are part of the key
                steps[key] = tf.function(compute, reduce_retracing=True, autograph=False), criterions
            compute = steps[key][0]
        prediction, parts, losses, total = compute(tensors, drawn)
        named = named_values(data_dict, parts)
        measured = evaluate(wired(metrics, named, keys) if partial else metrics, named, keys)
        if isinstance(model, AbstractTfNetwork):
            prediction = model.converted(prediction, drawn)
        return measured, losses if total is None else {**losses, "loss": total}, prediction

    @staticmethod
    def prepare_batch(batch: Mapping[str, Any], input_device: str, output_device: str) -> dict[str, Any]:
        """Convert a batch to tensors: ``"data"`` on the input device, the rest on the output device.

        Floating-point arrays get the dtype of ``keras.config.floatx()``, float32 by default; integers and booleans keep
        theirs. Dicts and lists of arrays, for models with several inputs, are converted, too; entries that are not
        numbers remain unchanged.
        """
        prepared = {}
        for key, value in batch.items():
            with tf.device(input_device if key == "data" else output_device):
                prepared[key] = _prepared(value)
        return prepared

    def named_arrays(self) -> dict[str, np.ndarray]:
        """Return copies of all weights by name, for a checkpoint."""
        return {
            f"{number}.{variable.name}": np.array(variable.value.numpy())
            for number, variable in enumerate(self.weights)
        }

    def load_named_arrays(self, arrays: Mapping[str, Any]) -> None:
        """Load the arrays returned by :meth:`named_arrays`."""
        for variable, array in zip(self.weights, arrays.values(), strict=True):
            variable.assign(np.asarray(array))


def named_arrays(model: Any) -> dict[str, np.ndarray]:
    """Return copies of all weights of a Keras model by name.

    Names are the number and the name of the variable: those of layers count the models of a process.

    Examples
    --------
    >>> model = keras.Sequential([keras.layers.Input((2,)), keras.layers.Dense(1)])
    >>> {name: array.shape for name, array in named_arrays(model).items()}
    {'0.kernel': (2, 1), '1.bias': (1,)}
    """
    own = isinstance(model, AbstractTfNetwork)
    found: dict[str, np.ndarray] = model.named_arrays() if own else AbstractTfNetwork.named_arrays(model)
    return found


def require_same_arrays(model: Any, arrays: Mapping[str, Any]) -> None:
    """Check that arrays have the names and shapes of the weights of a model.

    Raises
    ------
    CheckpointError
        If they have not. The message lists the differences.
    """
    here, given = ({n: tuple(np.shape(a)) for n, a in of.items()} for of in (named_arrays(model), arrays))
    if here != given:
        names = sorted(name for name in here.keys() | given.keys() if here.get(name) != given.get(name))
        shown = ", ".join(f"{n} (saved {given.get(n)}, here {here.get(n)})" for n in names[:5])
        raise CheckpointError(f"the checkpoint is of another network; {len(names)} arrays differ: {shown}")


def load_named_weights(model: Any, arrays: Mapping[str, Any]) -> None:
    """Load arrays returned by :func:`named_arrays`.

    Raises
    ------
    CheckpointError
        If names or shapes differ.
    """
    require_same_arrays(model, arrays)
    if isinstance(model, AbstractTfNetwork):
        model.load_named_arrays(arrays)
    else:
        AbstractTfNetwork.load_named_arrays(model, arrays)
    for layer in model._flatten_layers():
        if hasattr(layer, "finalize_state") and layer.built:  # constants that follow from weights, as of Normalization
            layer.finalize_state()


def _prepared(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _prepared(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)) and any(hasattr(part, "shape") for part in value):
        return type(value)([_prepared(part) for part in value])
    if tf.is_tensor(value):
        return tf.cast(value, keras.config.floatx()) if value.dtype.is_floating else value
    if not hasattr(value, "__array__") and not isinstance(value, (list, tuple)):
        return value
    try:
        array = np.asarray(value)
    except ValueError:  # a list of unequal lengths
        return value
    if array.dtype.kind not in "biufc":
        return value
    return tf.convert_to_tensor(array.astype(keras.config.floatx()) if array.dtype.kind == "f" else array)


def _seed_states(model: Any) -> list[Any]:
    """Return the states of the random generators of layers, such as dropout."""
    return [variable for variable in model.variables if variable.name == "seed_generator_state"]


def forward(model: Any, batch: Mapping[str, Any], *, train: bool) -> tuple[Any, dict[str, Any]]:
    """Return the prediction of a Keras model for ``"data"``, or for entries named like its inputs, and its parts."""
    names = [tensor.name for tensor in getattr(model, "inputs", None) or ()] if "data" not in batch else []
    if names and all(name in batch for name in names):
        prediction = model({name: batch[name] for name in names}, training=train)
    else:
        prediction = model(entry(batch, "data", "the network"), training=train)
    return prediction, parts_of(prediction)


def _step(
    model: Any,
    batch: Mapping[str, Any],
    drawn: Mapping[str, Any],
    optimizer: Any,
    criterions: Functions,
    keys: Mapping[str, tuple[str, ...]] | None,
    partial: bool,
) -> tuple[Any, dict[str, Any], dict[str, Any], Any]:
    """Compute a prediction, its parts, the losses and their sum, and update the weights if there is an optimizer."""
    train = optimizer is not None
    with tf.GradientTape(watch_accessed_variables=train) as tape:
        if isinstance(model, AbstractTfNetwork):
            prediction, parts = model.forward_batch(batch, drawn, train=train)
        else:
            prediction, parts = forward(model, batch, train=train)
        parts = tf.nest.map_structure(_at_least_single, parts)
        named = named_values(batch, parts)
        functions = wired(criterions, named, keys) if partial else criterions
        _require_distinct(batch, parts, [key for name in functions for key in (keys or {}).get(name, DEFAULT_KEYS)])
        checked = {name: _Checked(name, f, (keys or {}).get(name, DEFAULT_KEYS)) for name, f in functions.items()}
        losses = evaluate(checked, named, keys)
        total = total_loss(losses) if len(losses) == len(criterions) else None
        if model.losses and total is not None:
            losses["regularization"] = tf.add_n([tf.cast(loss, total.dtype) for loss in model.losses])
            total += losses["regularization"]
    if train:
        variables = model.trainable_variables
        with tape:
            scaled = optimizer.scale_loss(total)
        found = zip(tape.gradient(scaled, variables), variables, strict=True)
        pairs = [(gradient, variable) for gradient, variable in found if gradient is not None]
        if not pairs:
            raise ConfigError(f"the loss of {type(model).__name__} has no gradient: it does not depend on the weights")
        known = {id(variable) for variable in optimizer._trainable_variables}
        if new := [variable.path for variable in variables if id(variable) not in known]:
            raise ConfigError(f"the optimizer does not know {new[0]!r}, which has become trainable: make a new trainer")
        optimizer.apply(*zip(*pairs, strict=True))
    return prediction, parts, losses, total


def _at_least_single(value: Any) -> Any:
    """Convert a half-precision tensor to float32, in which losses are computed."""
    is_half = tf.is_tensor(value) and value.dtype in (tf.float16, tf.bfloat16)
    return tf.cast(value, tf.float32) if is_half else value


def _require_distinct(batch: Mapping[str, Any], parts: Mapping[str, Any], keys: Sequence[str]) -> None:
    """Raise a ConfigError if a name that a criterion uses is that of an output and of an entry of the batch."""
    if both := [key for key in keys if key in batch and key in parts]:
        raise ConfigError(f"{both[0]!r} is an output of the network and an entry of the batch: rename one of them")


class _Checked:
    """Criterion that checks its arguments and its result when it is traced."""

    def __init__(self, name: str, function: Callable[..., Any], keys: tuple[str, ...]) -> None:
        self.name, self.function, self.keys = f"criterion {name!r}", function, keys

    def __call__(self, *args: Any) -> Any:
        shapes = [tuple(arg.shape) for arg in args if hasattr(arg, "shape")]
        named = ", ".join(f"{key} {shape}" for key, shape in zip(self.keys, shapes, strict=False))
        is_of_keras = type(self.function).__module__.startswith("keras") or getattr(
            self.function, "__module__", ""
        ).startswith("keras")
        sizes = {int(np.prod(shape)) for shape in shapes if None not in shape}
        is_accident = len(sizes) == 1 and not is_of_keras
        if len({len(shape) for shape in shapes}) == 1 and len(args) == 2:  # (B, 1) and (B, 3), which Keras broadcasts
            are_values = all(tf.is_tensor(arg) and arg.dtype.is_floating for arg in args)
            is_accident |= are_values and None not in shapes[0] + shapes[1] and sorted(shapes)[0] != sorted(shapes)[1]
        if len(set(shapes)) > 1 and is_accident:
            raise ShapeError(f"{self.name} broadcasts its arguments: {named}. Give them one shape")
        try:
            value = tf.convert_to_tensor(self.function(*args))
        except (AttributeError, ValueError, TypeError, tf.errors.InvalidArgumentError) as error:
            raise ConfigError(f"{self.name} cannot be computed of {named}: {error}") from error
        if value.shape.rank:
            raise ConfigError(f"{self.name} has to return one number, not a tensor of shape {tuple(value.shape)}")
        return value
