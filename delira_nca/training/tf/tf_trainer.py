"""Trainer for networks in TensorFlow."""

from __future__ import annotations

import functools
import inspect
import logging
import math
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import torch

from delira_nca._version import __version__
from delira_nca.checks import plain_numbers
from delira_nca.errors import CallbackTypeError, CheckpointError, ConfigError
from delira_nca.io.network import describe_network
from delira_nca.machine import cpu_name
from delira_nca.models.tf.keras_nca import KerasNCA
from delira_nca.models.tf.tf_network import (
    AbstractTfNetwork,
    forward,
    load_named_weights,
    named_arrays,
    require_same_arrays,
)
from delira_nca.seeding import derive_seed
from delira_nca.training.abstract_trainer import Path
from delira_nca.training.callbacks.abstract_callback import AbstractCallback
from delira_nca.training.callbacks.stopping import Duration
from delira_nca.training.network_trainer import Functions, NetworkTrainer, refuse_unknown_arguments
from delira_nca.training.scores import check_value_names
from delira_nca.training.set_values import as_arrays
from delira_nca.training.tf.keras_metric import KerasMetric

__all__ = ["TfNetworkTrainer", "create_optims_default_tf"]

_LOGGER = logging.getLogger("delira_nca")
OptimFn = Callable[..., Any]
_OF_TORCH = ("delira_nca", "torch", "torchmetrics")
_LABELS = {"y_true", "true", "label", "labels", "target", "targets", "y"}
_PREDICTIONS = {"y_pred", "pred", "preds", "prediction", "predictions", "logits", "output", "outputs", "y_hat"}


def create_optims_default_tf(optim_cls: type[Any], **optim_params: Any) -> dict[str, Any]:
    """Create one optimizer, ``"default"``.

    Examples
    --------
    >>> float(create_optims_default_tf(keras.optimizers.SGD, learning_rate=0.5)["default"].learning_rate)
    0.5
    """
    return {"default": optim_cls(**optim_params)}


@plain_numbers
class TfNetworkTrainer(NetworkTrainer):
    """Train and validate a Keras model in TensorFlow.

    Hooks, callbacks, validation, checkpoints, resume and signals are those of
    :class:`~delira_nca.training.PyTorchNetworkTrainer`. The training step is traced once by ``tf.function``.

    Parameters
    ----------
    network : keras.Model
        Network with weights, such as a :class:`~delira_nca.models.tf.KerasNCA`. It is trained in place. A model of
        Keras is called with ``batch["data"]``; an :class:`~delira_nca.models.tf.AbstractTfNetwork` may define another
        input and training step.
    save_path : str or path, optional
        Folder of the checkpoints; no checkpoints are written if None.
    losses : mapping of str to callable
        Losses by name; their sum, ``"loss"``, is minimised, with the regularization losses of the layers. Losses of
        Keras, and functions with parameters such as ``(y_true, y_pred)`` or ``(label, pred)``, are called with the
        label first, other functions with the prediction first. May be empty for a network with its own ``closure``.
    optimizer_cls, optimizer_params : type of keras.optimizers.Optimizer and mapping, optional
        Class and keyword arguments of the optimizer.
    metrics : mapping of str to callable, optional
        Functions by name that are measured, not minimised. Metrics of Keras are computed over the whole data set, and
        so are those of :mod:`delira_nca.losses`, which get tensors of PyTorch.
    lr_scheduler_cls, lr_scheduler_params : type and mapping, optional
        Class and keyword arguments of a ``keras.optimizers.schedules.LearningRateSchedule``, which becomes the learning
        rate of the optimizer, or of a callback.
    gpu_ids : sequence of int
        Indices of the GPUs: ``[]`` for the CPU, ``[n]`` for one GPU.
    save_freq : int
        Number of epochs between two checkpoints; 0 writes none. The last epoch is always saved.
    optim_fn : callable
        Function of the optimizer class and its parameters that returns the optimizer by name. A function whose first
        parameter is called ``model`` or ``network`` also gets the network.
    fold, callbacks, start_epoch
        As for :class:`~delira_nca.training.PyTorchNetworkTrainer`. Callbacks that need tensors of PyTorch are refused.
    metric_keys, val_freq, save_seconds, seed
        As for :class:`~delira_nca.training.PyTorchNetworkTrainer`.

    Examples
    --------
    >>> network = keras.Sequential([keras.layers.Input((2,)), keras.layers.Dense(1)])
    >>> mse = keras.losses.MeanSquaredError()
    >>> trainer = TfNetworkTrainer(network, None, {"mse": mse}, keras.optimizers.SGD, {"learning_rate": 0.1})
    >>> batch = {"data": np.ones((4, 2)), "label": np.ones((4, 1))}
    >>> trained = trainer.train(20, [batch])
    >>> trainer.history[-1]["loss"] < 1e-3
    True
    """

    framework = "tensorflow"
    network_class = AbstractTfNetwork

    def __init__(
        self,
        network: Any,
        save_path: Path | None,
        losses: Functions | None = None,
        optimizer_cls: type[Any] = keras.optimizers.Adam,
        optimizer_params: Mapping[str, Any] | None = None,
        metrics: Functions | None = None,
        lr_scheduler_cls: type[Any] | None = None,
        lr_scheduler_params: Mapping[str, Any] | None = None,
        gpu_ids: Sequence[int] = (),
        save_freq: int = 1,
        optim_fn: OptimFn = create_optims_default_tf,
        fold: int = 0,
        callbacks: Sequence[Any] = (),
        start_epoch: int = 1,
        *,
        metric_keys: Mapping[str, tuple[str, ...]] | None = None,
        val_freq: int = 1,
        save_seconds: Duration | None = None,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        refuse_unknown_arguments(self, kwargs, TfNetworkTrainer)
        metrics = _wrapped_metrics(metrics)
        super().__init__(
            network,
            save_path,
            losses,
            metrics,
            fold,
            callbacks,
            metric_keys=metric_keys,
            save_freq=save_freq,
            start_epoch=start_epoch,
            val_freq=val_freq,
            save_seconds=save_seconds,
            seed=seed,
        )
        self._steps: dict[Any, Any] = {}
        self._sample: Mapping[str, Any] | None = None
        self._last_weights: dict[str, Any] | None = None
        self._setup(network, optim_fn, optimizer_cls, optimizer_params, lr_scheduler_cls, lr_scheduler_params, gpu_ids)

    @staticmethod
    def _check_network(network: Any) -> None:
        if not isinstance(network, keras.Model):
            raise ConfigError(f"network is a Keras model, not {type(network).__name__}")
        if keras.backend.backend() != "tensorflow":
            raise ConfigError(f"Keras uses {keras.backend.backend()}: set the variable KERAS_BACKEND to tensorflow")
        if not network.weights:
            raise ConfigError(
                f"{type(network).__name__} has no weights yet: give it an Input layer, or call it with a batch first"
            )
        if unbuilt := [layer.name for layer in network._flatten_layers() if not layer.built]:
            raise ConfigError(f"layer {unbuilt[0]!r} has no weights yet: call the network with a batch first")
        if not network.trainable_variables:
            raise ConfigError(f"{type(network).__name__} has no trainable weights")
        for name in ("train_step", "compute_loss"):
            if getattr(type(network), name) is not getattr(keras.Model, name):
                raise ConfigError(
                    f"{type(network).__name__} overrides {name}, which is not called: derive it from "
                    "AbstractTfNetwork, and override closure"
                )
        half = [v.path for v in network.weights if v.dtype in ("float16", "bfloat16")]
        if half:
            raise ConfigError(f"the weights {half[0]!r} are of half precision: use a mixed policy of Keras")

    @property
    def losses(self) -> dict[str, Any]:
        """Losses by name."""
        return self.criterions

    def register_callback(self, callback: Any) -> None:
        """Register a callback.

        Raises
        ------
        CallbackTypeError
            If it is not a callback, or needs PyTorch.
        """
        if getattr(callback, "needs_torch", False):
            name, own = type(callback).__name__, type(self).__name__
            raise CallbackTypeError(f"{name} works on gradients or weights in PyTorch: {own} cannot call it")
        super().register_callback(callback)

    def _setup(
        self,
        network: Any,
        optim_fn: OptimFn,
        optimizer_cls: type[Any],
        optimizer_params: Mapping[str, Any] | None,
        lr_scheduler_cls: type[Any] | None,
        lr_scheduler_params: Mapping[str, Any] | None,
        gpu_ids: Sequence[int],
    ) -> None:
        """Choose the device; create optimizers and callbacks."""
        if int(os.environ.get("WORLD_SIZE", 1)) > 1:
            raise ConfigError("TfNetworkTrainer trains in one process: start it without torchrun")
        self.input_device = self.output_device = _device(gpu_ids)
        self.device = torch.device("cpu")  # of the tensors that callbacks get
        self.network = network
        params, scheduler = dict(optimizer_params or {}), None
        if lr_scheduler_cls is None:
            if lr_scheduler_params:
                raise ConfigError(
                    f"lr_scheduler_params={dict(lr_scheduler_params)} have no effect without lr_scheduler_cls"
                )
        elif isinstance(lr_scheduler_cls, type) and issubclass(lr_scheduler_cls, AbstractCallback):
            scheduler = lr_scheduler_cls(**(lr_scheduler_params or {}))
        else:
            params["learning_rate"] = _learning_rate(lr_scheduler_cls, lr_scheduler_params or {}, params)
        self.optimizers = _optimizers(network, optim_fn, optimizer_cls, params)
        computes_half = any(layer.compute_dtype == "float16" for layer in network._flatten_layers())
        for name, optimizer in self.optimizers.items():
            if computes_half and not isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
                raise ConfigError(f"layers compute in float16: optimizer {name!r} must be a LossScaleOptimizer")
            if getattr(optimizer, "use_ema", False) and not optimizer.ema_overwrite_frequency:
                raise ConfigError("use_ema has no effect without ema_overwrite_frequency: give both")
        check_value_names(self.criterions, self.metrics, self.optimizers)
        self._add_callbacks(scheduler)

    def _call_closure(self, data_dict: Mapping[str, Any], iter_num: int, **options: Any) -> tuple[dict[str, Any], Any]:
        with tf.device(self.input_device):
            if options["train"]:  # a callback may have asked for the best network
                self._restore_last_weights()
            if self._has_own_closure:  # for operations that draw from the global generator
                tf.random.set_seed(derive_seed(self.seed, "tensorflow", self.step, iter_num))
            values, prediction = super()._call_closure(data_dict, iter_num, **options)
        self._sample = data_dict
        return {name: np.asarray(v).item() if np.ndim(v) == 0 else v for name, v in values.items()}, prediction

    def _argument_keys(self) -> Mapping[str, tuple[str, ...]]:
        functions = {**self.criterions, **self.metrics}
        return {**{n: ("label", "pred") for n, f in functions.items() if _takes_label_first(f)}, **self.metric_keys}

    def _compare_with_validation(self, batch: Mapping[str, Any]) -> None:
        if isinstance(self.network, KerasNCA):  # other models may have channels last, or sequences
            super()._compare_with_validation(batch)

    def _score_names(self, *, validated: bool) -> list[str] | None:
        names = super()._score_names(validated=validated)
        if names is None or not self.network.losses:
            return names
        return [*names, "regularization", *(["val_regularization"] if validated else [])]

    def _wrapped_functions(
        self, functions: Functions, *, what: str, is_first: bool, differentiated: bool, values: bool
    ) -> Functions:
        return functions if what == "criterion" else {n: self._metric(n, f) for n, f in functions.items()}

    def _metric(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a metric that gets tensors of the framework in which it is written."""
        given: Any = self.metrics[name]
        while isinstance(given, functools.partial):
            given = given.func
        modules = {getattr(given, "__module__", None) or "", *(cls.__module__ for cls in type(given).__mro__)}
        is_torch = any(module.partition(".")[0] in _OF_TORCH for module in modules)
        if isinstance(given, KerasMetric) or not is_torch:
            return function
        return lambda *args: function(*[torch.from_numpy(np.array(arg)) if tf.is_tensor(arg) else arg for arg in args])

    def _closure_options(self, *, train: bool) -> dict[str, Any]:
        return {"steps": self._steps}

    def _shown(self, data_dict: Mapping[str, Any]) -> Mapping[str, Any]:
        """Batch with tensors of PyTorch, for the callbacks."""
        return {n: torch.from_numpy(np.array(v)) if tf.is_tensor(v) else v for n, v in data_dict.items()}

    def _forward(self, data_dict: Mapping[str, Any], seed: int) -> Any:
        if not isinstance(self.network, AbstractTfNetwork):
            return forward(self.network, data_dict, train=False)[0]
        batch, drawn = self.network.prepare_inputs(data_dict, seed, train=False)
        return self.network.converted(self.network.forward_batch(batch, drawn, train=False)[0], drawn)

    def _weights(self) -> dict[str, Any]:
        # of the last step, even if the network holds those of the best epoch, because it could not be copied
        return self._last_weights or named_arrays(self.network)

    def _with_weights(self, weights: Mapping[str, Any] | None) -> Any:
        if weights is None:
            return self.network
        last = self._weights()
        load_named_weights(self.network, weights)
        try:
            copied = self._copy(weights)
        except Exception as error:
            _LOGGER.warning(
                "%s cannot be copied (%s: %s): the returned network is that of the trainer, with the weights of the "
                "best epoch; the next training continues from those of the last one",
                type(self.network).__name__,
                type(error).__name__,
                str(error).partition("\n")[0],
            )
            self._last_weights = last
            return self.network
        load_named_weights(self.network, last)
        return copied

    def _copy(self, weights: Mapping[str, Any]) -> Any:
        """Return a copy of the network with its current weights, which predicts the same.

        Raises
        ------
        ConfigError
            If its predictions differ: its config does not contain all of it.
        """
        copied = type(self.network).from_config(self.network.get_config())
        if not copied.built:
            copied.build_from_config(self.network.get_build_config())
        load_named_weights(copied, weights)
        if self._sample is not None:
            ours, theirs = (self._predict_sample(network) for network in (self.network, copied))
            flat = zip(tf.nest.flatten(ours), tf.nest.flatten(theirs), strict=True)
            if not all(np.allclose(a, b, rtol=1e-3, atol=1e-5, equal_nan=True) for a, b in flat):
                raise ConfigError("a copy made by from_config(get_config()) predicts other values")
        return copied

    def _predict_sample(self, network: Any) -> Any:
        own, self.network = self.network, network
        try:
            return as_arrays(self._forward(self._sample or {}, 0))
        finally:
            self.network = own

    def _at_training_begin(self, *, num_epochs: int | None = None) -> None:
        """Restore the weights of the last epoch, if the best ones took their place."""
        self._restore_last_weights()
        super()._at_training_begin(num_epochs=num_epochs)

    def _set_mode(self, *, train: bool) -> None:
        self._restore_last_weights()

    def _restore_last_weights(self) -> None:
        if self._last_weights is not None:
            load_named_weights(self.network, self._last_weights)
            self._last_weights = None

    def _update_state(self, new_state: Mapping[str, Any] | None) -> TfNetworkTrainer:
        """Load a state from a file, or set the given state attributes; see :class:`NetworkTrainer`."""
        if new_state and "metrics" in new_state and "format_version" not in new_state:
            new_state = {**new_state, "metrics": _wrapped_metrics(new_state["metrics"])}
        super()._update_state(new_state)
        return self

    def _framework_state(self) -> dict[str, Any]:
        network = self.network.to_torch() if isinstance(self.network, KerasNCA) else self.network
        return {
            "model": describe_network(network) if isinstance(network, torch.nn.Module) else None,
            "network": self._weights(),
            "optimizers": {
                name: [np.array(variable.value.numpy()) for variable in optimizer.variables]
                for name, optimizer in self.optimizers.items()
            },
        }

    def _check_framework_state(self, state: Mapping[str, Any]) -> None:
        require_same_arrays(self.network, state["network"])
        if state["optimizers"].keys() != self.optimizers.keys():
            raise CheckpointError(
                f"the checkpoint has optimizers {sorted(state['optimizers'])}, this trainer {sorted(self.optimizers)}"
            )
        for name, optimizer in self.optimizers.items():
            saved_shapes = [np.shape(array) for array in state["optimizers"][name]]
            if saved_shapes != [tuple(variable.shape) for variable in optimizer.variables]:
                raise CheckpointError(f"the checkpoint's optimizer {name!r} has other variables than this trainer's")

    def _load_framework_state(self, state: Mapping[str, Any]) -> None:
        self._last_weights = None
        load_named_weights(self.network, state["network"])
        for name, optimizer in self.optimizers.items():
            for variable, array in zip(optimizer.variables, state["optimizers"][name], strict=True):
                variable.assign(np.asarray(array))

    def computation(self) -> dict[str, str]:
        """Framework and processor."""
        found = "GPU" if self.input_device.startswith("GPU") else cpu_name()
        return {"backend": "tensorflow", "processor": found, "instruction_set": "chosen by TensorFlow"}

    def _circumstances(self) -> dict[str, Any]:
        return {
            "delira_nca": __version__,
            "tensorflow": tf.__version__,
            "keras": keras.__version__,
            "numpy": np.__version__,
            "device": self.input_device,
            "threads": tf.config.threading.get_intra_op_parallelism_threads(),
            **self.computation(),
            "criterions": sorted(self.criterions),
            **{f"optimizer {name}": type(optimizer).__name__ for name, optimizer in sorted(self.optimizers.items())},
        }

    def learning_rates(self) -> dict[str, float]:
        """Return the current learning rate of each optimizer by name."""
        return {name: float(optimizer.learning_rate) for name, optimizer in self.optimizers.items()}

    def map_learning_rates(self, function: Callable[[float], float]) -> None:
        """Replace each learning rate by a function of it.

        Raises
        ------
        ConfigError
            If a schedule of Keras determines the learning rate.
        """
        for name, optimizer in self.optimizers.items():
            try:
                optimizer.learning_rate = function(float(optimizer.learning_rate))
            except TypeError as error:
                raise ConfigError(f"the learning rate of optimizer {name!r} cannot be changed: {error}") from error

    def _describe_weights(self) -> str:
        weights = sum(math.prod(variable.shape) for variable in self.network.trainable_variables)
        return f"{weights} weights, on {self.input_device}"


def _device(gpu_ids: Sequence[int]) -> str:
    if not isinstance(gpu_ids, Sequence):
        raise ConfigError(f"gpu_ids is a list of indices, such as [0], not {gpu_ids!r}")
    if len(gpu_ids) > 1:
        raise ConfigError(f"gpu_ids names one GPU, not {list(gpu_ids)}")
    if not gpu_ids:
        return "CPU:0"
    found = tf.config.list_physical_devices("GPU")
    if not 0 <= gpu_ids[0] < len(found):
        raise ConfigError(f"GPU {gpu_ids[0]} was asked for, and TensorFlow sees {len(found)} GPUs")
    return f"GPU:{gpu_ids[0]}"


def _learning_rate(cls: Any, params: Mapping[str, Any], optimizer_params: Mapping[str, Any]) -> Any:
    if not isinstance(cls, type) or not issubclass(cls, keras.optimizers.schedules.LearningRateSchedule):
        raise ConfigError(f"lr_scheduler_cls is a LearningRateSchedule of Keras or a callback, not {cls!r}")
    if "learning_rate" in optimizer_params:
        raise ConfigError("optimizer_params and lr_scheduler_cls both set the learning rate: leave out one of them")
    try:
        return cls(**params)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{cls.__name__} cannot be made with {dict(params)}: {error}") from error


def _optimizers(network: Any, optim_fn: OptimFn, cls: type[Any], params: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(cls, type) or not issubclass(cls, keras.optimizers.Optimizer):
        raise ConfigError(f"optimizer_cls is a class of keras.optimizers, not {cls!r}")
    names = list(inspect.signature(optim_fn).parameters)
    arguments = (network, cls) if names and names[0] in ("model", "network") else (cls,)
    try:
        made = optim_fn(*arguments, **params)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{cls.__name__} cannot be made with optimizer_params {dict(params)}: {error}") from error
    optimizers = {"default": made} if isinstance(made, keras.optimizers.Optimizer) else dict(made or {})
    if not optimizers:
        raise ConfigError(f"optim_fn gives an optimizer, or several by name, not {made!r}")
    for name, optimizer in optimizers.items():
        if not isinstance(optimizer, keras.optimizers.Optimizer):
            raise ConfigError(f"optim_fn gave a {type(optimizer).__name__} as optimizer {name!r}")
        if not optimizer.built:
            optimizer.build(network.trainable_variables)
        known = {id(variable) for variable in network.trainable_variables}
        if any(id(variable) not in known for variable in optimizer._trainable_variables):
            raise ConfigError(f"optimizer {name!r} has variables of another network: make one for each trainer")
    return optimizers


def _takes_label_first(function: Callable[..., Any]) -> bool:
    """Whether a loss or metric has parameters such as ``y_true`` and ``y_pred``, or ``label`` and ``pred``."""
    try:
        names = list(inspect.signature(getattr(function, "update", function)).parameters)
    except (TypeError, ValueError):
        return False
    return len(names) > 1 and names[0] in _LABELS and names[1] in _PREDICTIONS


def _wrapped_metrics(metrics: Functions | None) -> Functions | None:
    """Convert metrics of Keras to metrics of a whole data set."""
    if not isinstance(metrics, Mapping):
        return metrics
    return {n: KerasMetric(m) if isinstance(m, keras.metrics.Metric) else m for n, m in metrics.items()}
